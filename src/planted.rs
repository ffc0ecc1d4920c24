//! Bugs that were put in on purpose, each behind a switch, to prove that the simulator finds their like. Most of
//! them once were bugs of ZooKeeper, or are one omission away from what the code does.
//!
//! Without the feature `planted` none of this is in a server: [`is`] is constantly false. With it, one bug at a
//! time is chosen for the thread that runs.

macro_rules! bugs {
    ($($(#[$meta:meta])* $bug:ident,)*) => {
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        pub enum Bug {
            $($(#[$meta])* $bug,)*
        }

        pub const ALL: &[Bug] = &[$(Bug::$bug,)*];
    };
}

bugs! {
    // A learner.
    /// A proposal is acknowledged before it is durable.
    AckBeforeDurable,
    /// NEWLEADER is acknowledged before history and epoch are durable (ZOOKEEPER-3911, 4643, 4646).
    NewLeaderAckEarly,
    /// ACKEPOCH leaves before `acceptedEpoch` is on disk.
    PromiseNotSaved,
    /// A transaction is applied as soon as it is committed, whether our own log has it or not (ZOOKEEPER-2845).
    AppliesBeforeDurable,
    /// A transaction is applied as soon as it is durable, whether it is committed or not.
    AppliesUncommitted,
    /// A start applies all that is logged (ZOOKEEPER-2845, 4837).
    TailApplied,
    /// A snapshot takes the place of a log that holds more than it.
    InstallsTooEarly,
    /// What a leader sends of its history is applied before a quorum holds that.
    HistoryIsCommitted,
    /// The election begins before the disk has taken what the last role gave it.
    VotesUnsynced,

    // A leader.
    /// What is proposed is committed with the first ACK.
    CommitsWithoutQuorum,
    /// A learner hears a COMMIT that lacks more than its own ACK.
    CommitsFarAhead,
    /// Who comes back with what it was told ahead of its ACK may lose it.
    AheadForgotten,
    /// Its own ACK counts when it proposes.
    CountsOwnUnsynced,
    /// What is outstanding goes to a new learner as committed (ZOOKEEPER-2846).
    OutstandingAsCommitted,
    /// The first transaction of a DIFF is left out (ZOOKEEPER-4925).
    DiffSkipsOne,
    /// A learner that knows more is not turned away.
    LeadsBehind,
    /// A sync is answered at once, whatever is outstanding.
    SyncsAtOnce,
    /// What earlier leaders prepared is still believed.
    OverlayKept,
    /// Every session that a learner asks for is alive.
    RevalidatesAll,
    /// A new leader takes over no sessions: nobody ends them.
    ForgetsSessions,
    /// A new leader gives sessions half of their time.
    HalvesTimeouts,
    /// What learners have heard of sessions is not listened to.
    IgnoresTouched,
    /// A TTL node's age is that of the clock on the wall (Java's `ContainerManager`).
    AgesByWall,
    /// A connection that takes a session over is answered before what the former one has asked for.
    AttachOvertakes,
    /// What was found to be removable is removed, whatever it has become since.
    RemovesUnseen,

    // The election.
    /// The larger id wins, whoever has the longer history.
    VoteByIdAlone,

    // The storage.
    /// fdatasync of the log is left out.
    SyncLeftOut,
    /// The name of a new log is not made durable (ZOOKEEPER-2003).
    LogNameUnsynced,
    /// The name of a new epoch file is not made durable.
    EpochNameUnsynced,
    /// A snapshot counts before its bytes are durable (ZOOKEEPER-3642).
    SnapshotUnsynced,
    /// What the page cache says is believed at a start.
    CacheBelieved,
    /// TRUNC leaves one transaction too many.
    TruncKeepsOne,
    /// TRUNC leaves a mark that says there was more.
    MarkStays,
    /// Logs stay behind a SNAP that replaces them.
    OldLogsStay,
    /// The image is not told of new sessions (ZOOKEEPER-3144).
    ImageForgetsSessions,
    /// The image is not told of new access lists.
    ImageForgetsAcls,

    // The tree.
    /// A change is checked against the access list of before, while a new one is under way.
    OldAclCounts,
    /// A multi that fails leaves what its first members did to what is prepared behind it.
    MultiLeaks,
    /// Sequential nodes are numbered by how many children there are.
    SequenceByCount,
    /// Who watches the children does not hear of one that goes.
    WatchLost,
    /// A watch that stays goes with its first event.
    PersistentFiresOnce,
}

#[cfg(feature = "planted")]
mod chosen {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static BUG: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// The bug that this thread has from now on.
    pub fn plant(bug: Option<Bug>) {
        BUG.with(|chosen| chosen.set(bug));
    }

    pub fn is(bug: Bug) -> bool {
        BUG.with(|chosen| chosen.get() == Some(bug))
    }
}

#[cfg(feature = "planted")]
pub use chosen::{is, plant};

#[cfg(not(feature = "planted"))]
#[inline]
pub const fn is(_: Bug) -> bool {
    false
}
