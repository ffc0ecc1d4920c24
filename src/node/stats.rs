//! What a Node counts; `admin` gives the numbers Java's names.

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NodeStats {
    /// Transactions applied since the start.
    pub applied: u64,
    /// Sessions that expired since the start.
    pub expired: u64,
    /// Prepared transactions that are not applied yet.
    pub in_flight: usize,
    /// Sessions open or closing.
    pub sessions: usize,
    pub digest_mismatches: u64,
    /// Changes of nodes that were prepared, and those of them that need not be remembered any more.
    pub changes_queued: u64,
    pub changes_removed: u64,
}
