//! S23: what a server calls durable is on its disk as a power cut would leave it, record by record.

use std::collections::BTreeMap;

use zooid::storage::{Durable, Position};

use crate::net::Host;
use crate::oracle::holds;
use crate::support::sim::World as Machine;

#[derive(Default)]
pub struct Durability {
    last: i64,
    /// What a start must find at least.
    expected: i64,
    /// The most that ever was.
    ever: i64,
    positions: BTreeMap<i64, Position>,
}

impl Durability {
    pub fn last(&self) -> i64 {
        self.last
    }

    /// Others may still speak of it when it was taken back.
    pub fn ever(&self) -> i64 {
        self.ever.max(self.last)
    }

    /// What a start has found counts from now on, so it must be safe.
    pub fn on_started(&mut self, server: Host, machine: &Machine, last: i64, positions: &[Position]) {
        holds!("S34", last >= self.expected, "server {server} finds {last:#x}, and had {:#x} durable", self.expected);
        self.ever = self.ever();
        self.last = last;
        self.expected = last;
        self.positions.clear();
        for position in positions {
            check(server, machine, position);
        }
    }

    pub fn on_durable(&mut self, server: Host, machine: &Machine, durable: &Durable) {
        for position in &durable.records {
            check(server, machine, position);
            self.positions.insert(position.zxid.0, *position);
        }
        self.last = self.last.max(durable.zxid.0);
        self.expected = self.last;
    }

    /// From now on, until that is done, a crash may leave no more than this.
    pub fn expect_only(&mut self, last: i64) {
        self.expected = self.expected.min(last);
    }

    /// D17: nothing is applied that is not durable here.
    pub fn check_applied(&self, server: Host, zxid: i64) {
        holds!("D17", zxid <= self.last, "server {server} applies {zxid:#x}, and only {:#x} is durable", self.last);
    }

    pub fn truncate(&mut self, last: i64) {
        self.ever = self.ever();
        self.last = self.last.min(last);
        self.expected = self.last;
        self.positions.split_off(&(last + 1));
    }
}

fn check(server: Host, machine: &Machine, position: &Position) {
    let stored = u64::from(position.checksum).to_be_bytes();
    let is_there = machine.log.is_safe(&position.file.to_string(), position.offset, |bytes| {
        let Some(length) = bytes.get(8..12).map(|bytes| u32::from_be_bytes(bytes.try_into().expect("four"))) else {
            return false;
        };
        let payload = bytes.get(12..12 + length as usize);
        bytes[..8] == stored && payload.is_some_and(|payload| simple_adler(payload) == position.checksum)
    });
    holds!("S23", is_there, "server {server} calls {} durable, which a power cut would take", position.zxid);
}

/// Adler-32 as it is defined.
fn simple_adler(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1u32, 0u32);
    for byte in bytes {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    b << 16 | a
}
