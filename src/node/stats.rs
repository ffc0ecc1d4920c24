//! What a Node counts; `admin` gives the numbers Java's names.

use crate::id::{ServerId, Zxid};
use crate::session::Mono;
use crate::stats::Summary;
use crate::storage::epoch::Epochs;
use crate::zab::leader::SyncCounts;

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
    pub local_sessions: usize,
    /// `None` standalone.
    pub role: Option<RoleStats>,
}

/// What a member is at the moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RoleStats {
    pub kind: RoleKind,
    /// When it began to lead, to learn, or to serve who only reads.
    pub since: Mono,
    pub epochs: Epochs,
    pub counts: MemberCounts,
    pub last_logged: Zxid,
    /// `None` unless it leads.
    pub leading: Option<LeadingStats>,
    /// Whom it follows or observes.
    pub leader: Option<ServerId>,
}

/// What a member has done since the start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct MemberCounts {
    /// Elections begun.
    pub looking: u64,
    /// How long those took that came to an end; an observer has none of its own.
    pub election_ms: Summary,
    /// How long it served nobody, from the start or from the end of a role until it served in another one.
    pub unavailable_ms: Summary,
    /// Those of them at whose end it led.
    pub leader_unavailable_ms: Summary,
    /// As a leader: how it brought learners up to date.
    pub syncs: SyncCounts,
    /// How long a leader took to bring this server up to date, or to fail.
    pub follower_sync_ms: Summary,
    pub observer_sync_ms: Summary,
    /// As a leader.
    pub proposed: u64,
    pub committed: u64,
    /// Of learners' sessions.
    pub revalidated: u64,
    /// As a follower, when it was up to date.
    pub proposals_received: u64,
    pub commits_received: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LeadingStats {
    pub learners: usize,
    pub synced_followers: usize,
    pub synced_non_voting_followers: usize,
    pub synced_observers: usize,
    pub pending_syncs: usize,
    /// Bytes of a proposal: last, least, greatest; -1 before the first.
    pub proposal_sizes: [i32; 3],
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RoleKind {
    Looking,
    Leading,
    Following,
    Observing,
}
