//! When a snapshot file is due. The image makes a start fast, so snapshots exist for Java's sake and as the
//! base of the log; writing one costs the whole tree, so it waits until the log behind the last one is worth
//! twice that (design.md D9; Java: `SyncRequestProcessor.shouldSnapshot`, on-disk 5.1).

/// All members apply the same transactions. If each began its snapshots, and flushed its image, behind the same of them, all
/// their disks would be busy at the same moment, and none would answer sooner than the others. So each waits for another part
/// more each time (Java: `SyncRequestProcessor.randRoll`, which makes it up to a half less).
#[derive(Clone, Copy, Debug)]
pub struct Roll {
    server: i64,
    number: u64,
}

impl Roll {
    /// `server` is 0 standalone, where nobody else is to be avoided.
    pub fn new(server: i64) -> Self {
        Self { server, number: 0 }
    }

    /// `whole`, and up to a half more; no more standalone.
    pub fn of(&self, whole: u64) -> u64 {
        if self.server == 0 {
            return whole;
        }
        // The numbers of servers and of rolls are small: all bits are to count (the finish of splitmix64).
        let mut bits = (self.server as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.number;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = (bits ^ (bits >> 31)) >> 32;
        let half = u128::from(whole / 2);
        whole.saturating_add(((half * u128::from(share)) >> 32) as u64)
    }

    pub fn again(&mut self) {
        self.number += 1;
    }
}

/// What was logged since the newest snapshot.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotSchedule {
    /// `zookeeper.snapCount`.
    snap_count: u64,
    /// `snapSizeLimitInKb`, in bytes: as good as `snap_count` transactions. `None`: however many bytes those are.
    size_limit: Option<u64>,
    snapshot_bytes: u64,
    txns: u64,
    bytes: u64,
    roll: Roll,
}

impl SnapshotSchedule {
    /// `server` is 0 standalone.
    pub fn new(server: i64, snap_count: u64, size_limit: Option<u64>, recovered: &super::Recovered) -> Self {
        Self {
            roll: Roll::new(server),
            snap_count,
            size_limit,
            snapshot_bytes: recovered.snapshot_bytes,
            txns: recovered.txns_since_snapshot,
            bytes: recovered.bytes_since_snapshot,
        }
    }

    pub fn on_logged(&mut self, txns: u64, bytes: u64) {
        self.txns += txns;
        self.bytes += bytes;
    }

    /// A snapshot of `bytes` was written; what was logged since the state it holds counts again from 0.
    pub fn on_snapshot(&mut self, bytes: u64) {
        *self = Self { snapshot_bytes: bytes, txns: 0, bytes: 0, ..*self };
        self.roll.again();
    }

    pub fn is_due(&self) -> bool {
        let is_much = self.txns >= self.roll.of(self.snap_count)
            || self.size_limit.is_some_and(|limit| self.bytes >= self.roll.of(limit));
        is_much && self.bytes >= self.roll.of(self.snapshot_bytes.saturating_mul(2))
    }

    /// Before a purge: unless nothing was logged since the last.
    pub fn is_due_before_purge(&self) -> bool {
        self.txns > 0
    }
}
