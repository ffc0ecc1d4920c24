//! S7: a log is contiguous within an epoch, and begins each epoch with 1. Kept as the server's process has
//! written it, so that whatever is applied or acknowledged can be held against it.

use std::collections::BTreeMap;

use bytes::Bytes;
use zooid::id::Zxid;
use zooid::zab::Entry;

use crate::net::Host;
use crate::oracle::holds;

#[derive(Default)]
pub struct Log {
    entries: BTreeMap<i64, Bytes>,
    /// A tree stands for everything up to here.
    base: i64,
    last: i64,
    /// A tree that is on its way to the disk, and what it is made of.
    expected: Option<(i64, BTreeMap<i64, Bytes>)>,
}

/// What stands around a payload in a record.
const BEFORE: usize = 12;
const OVERHEAD: usize = BEFORE + 1;

impl Log {
    pub fn on_append(&mut self, server: Host, records: &[u8]) -> Vec<Zxid> {
        let mut zxids = Vec::new();
        let mut rest = records;
        while let Some(length) = rest.get(8..12).map(|bytes| u32::from_be_bytes(bytes.try_into().expect("four"))) {
            let (record, behind) = rest.split_at(length as usize + OVERHEAD);
            let payload = Bytes::copy_from_slice(&record[BEFORE..record.len() - 1]);
            let zxid = Zxid(i64::from_be_bytes(payload[12..20].try_into().expect("eight")));
            self.push(server, zxid, payload);
            zxids.push(zxid);
            rest = behind;
        }
        zxids
    }

    pub fn push(&mut self, server: Host, zxid: Zxid, payload: Bytes) {
        holds!("S7", zxid.follows(Zxid(self.last)), "server {server} logs {zxid} behind {:#x}", self.last);
        let is_first = zxid.epoch() > Zxid(self.last).epoch();
        holds!("S7", !is_first || zxid.counter() == 1, "server {server} begins an epoch with {zxid}");
        self.last = zxid.0;
        self.entries.insert(zxid.0, payload);
    }

    /// Whether it holds this, or begins behind it.
    pub fn has(&self, zxid: i64, payload: &Bytes) -> bool {
        zxid <= self.base || self.entries.get(&zxid) == Some(payload)
    }

    pub fn behind(&self, zxid: i64) -> impl Iterator<Item = (i64, &Bytes)> {
        self.entries.range(zxid + 1..).map(|(zxid, payload)| (*zxid, payload))
    }

    pub fn last(&self) -> i64 {
        self.last
    }

    pub fn payload(&self, zxid: i64) -> Option<&Bytes> {
        self.entries.get(&zxid)
    }

    pub fn truncate(&mut self, last: i64) {
        self.entries.split_off(&(last + 1));
        self.last = last;
    }

    /// A start has found everything up to `last`, and nothing behind it. Gives what is there.
    pub fn start(&mut self, last: i64) -> BTreeMap<i64, Bytes> {
        self.truncate(last);
        self.entries.clone()
    }

    /// A member has found a tree of `base`, and this behind it.
    pub fn restart(&mut self, server: Host, base: i64, tail: &[Entry]) {
        for entry in tail {
            let before = self.entries.get(&entry.zxid.0);
            let same = before.is_none_or(|before| *before == entry.txn);
            holds!("S8", same, "server {server} finds another transaction at {}", entry.zxid);
        }
        match &self.expected {
            // The start has finished what a crash had cut off.
            Some((expected, _)) if *expected == base => self.take_expected(base),
            // What lies below the tree may still be asked for.
            _ => self.replace(base, self.upto(base)),
        }
        for entry in tail {
            self.push(server, entry.zxid, entry.txn.clone());
        }
    }

    pub fn expect_tree(&mut self, base: i64, made_of: BTreeMap<i64, Bytes>) {
        self.expected = Some((base, made_of));
    }

    pub fn take_expected(&mut self, base: i64) {
        let made_of = self.expected.take().map(|(_, made_of)| made_of).unwrap_or_default();
        self.replace(base, made_of);
    }

    pub fn upto(&self, last: i64) -> BTreeMap<i64, Bytes> {
        self.entries.range(..=last).map(|(zxid, payload)| (*zxid, payload.clone())).collect()
    }

    /// A tree stands for everything up to `last`; it is made of this.
    pub fn replace(&mut self, last: i64, made_of: BTreeMap<i64, Bytes>) {
        self.entries = made_of;
        (self.base, self.last) = (last, last);
    }
}
