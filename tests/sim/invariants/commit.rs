//! S10, S11, S20: what a leader has said is committed stays what it is.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::net::Host;
use crate::oracle::holds;

#[derive(Default)]
pub struct Commits {
    decided: BTreeMap<i64, Bytes>,
}

impl Commits {
    pub fn decide(&mut self, leader: Host, zxid: i64, payload: &Bytes) {
        let before = self.decided.entry(zxid).or_insert_with(|| payload.clone());
        holds!("S9", before == payload, "server {leader} commits another transaction at {zxid:#x}");
    }

    pub fn decided(&self, zxid: i64) -> Option<&Bytes> {
        self.decided.get(&zxid)
    }

    pub fn decided_from(&self, zxid: i64) -> impl Iterator<Item = (i64, &Bytes)> {
        self.decided.range(zxid..).map(|(zxid, payload)| (*zxid, payload))
    }

    pub fn last_decided(&self) -> Option<i64> {
        self.decided.keys().next_back().copied()
    }
}
