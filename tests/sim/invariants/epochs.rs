//! S1 to S3: an epoch has one leader, and promises on disk are never taken back.

use std::collections::BTreeMap;

use crate::net::Host;
use crate::oracle::holds;
use crate::support::sim::World as Machine;

/// The number in an epoch file, as a power cut would leave it.
pub fn read(machine: &Machine, name: &str) -> Option<i64> {
    let mut found = None;
    machine.snap.is_safe(name, 0, |bytes| {
        found = std::str::from_utf8(bytes).ok().and_then(|text| text.lines().next()?.parse().ok());
        true
    });
    found
}

/// The epochs of one server.
#[derive(Default)]
pub struct OnDisk {
    accepted: i64,
    current: i64,
}

impl OnDisk {
    pub fn check(&mut self, server: Host, machine: &Machine) {
        let (Some(accepted), Some(current)) = (read(machine, "acceptedEpoch"), read(machine, "currentEpoch")) else {
            holds!("S2", self.accepted == 0, "server {server} has lost its epochs");
            return;
        };
        holds!("S2", accepted >= self.accepted, "acceptedEpoch of server {server}: {accepted} after {}", self.accepted);
        holds!("S2", current >= self.current, "currentEpoch of server {server}: {current} after {}", self.current);
        holds!("S3", current <= accepted, "server {server} has the epoch {current} and accepted {accepted}");
        (self.accepted, self.current) = (accepted, current);
    }
}

/// Who led when.
#[derive(Default)]
pub struct Leaders {
    by_epoch: BTreeMap<i64, Host>,
    /// The end of the log with which each epoch's leader began.
    histories: BTreeMap<(i64, Host), i64>,
}

impl Leaders {
    pub fn on_leading(&mut self, server: Host, epoch: i64) {
        let before = self.by_epoch.insert(epoch, server);
        holds!("S1", before.is_none(), "the epoch {epoch} is led by {server}, and was by {before:?}");
    }

    pub fn on_epoch(&mut self, epoch: i64, server: Host, last: i64) {
        self.histories.entry((epoch, server)).or_insert(last);
    }

    pub fn history_end(&self, epoch: i64, server: Host) -> i64 {
        self.histories.get(&(epoch, server)).copied().unwrap_or(0)
    }

    pub fn newest(&self) -> i64 {
        self.by_epoch.keys().next_back().copied().unwrap_or(0)
    }
}
