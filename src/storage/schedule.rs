//! When a snapshot file is due. The image makes a start fast, so snapshots exist for Java's sake and as the
//! base of the log; writing one costs the whole tree, so it waits until the log behind the last one is worth
//! twice that (design.md D9; Java: `SyncRequestProcessor.shouldSnapshot`, on-disk 5.1).

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
}

impl SnapshotSchedule {
    pub fn new(snap_count: u64, size_limit: Option<u64>, recovered: &super::Recovered) -> Self {
        Self {
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
    }

    pub fn is_due(&self) -> bool {
        let is_much = self.txns >= self.snap_count || self.size_limit.is_some_and(|limit| self.bytes >= limit);
        is_much && self.bytes >= 2 * self.snapshot_bytes
    }

    /// Before a purge: unless nothing was logged since the last.
    pub fn is_due_before_purge(&self) -> bool {
        self.txns > 0
    }
}
