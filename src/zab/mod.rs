//! ZAB: how an ensemble agrees on one order of transactions, whatever fails.
//!
//! A leader that a quorum has elected first learns which epochs its learners have promised, and picks one
//! above them all (discovery: FOLLOWERINFO, LEADERINFO, ACKEPOCH). It then brings each learner to its own
//! history: what they lack is sent (DIFF), what only they have is taken back (TRUNC), or everything is
//! replaced (SNAP); NEWLEADER ends that, and is acknowledged once all of it and then the epoch are durable
//! (synchronisation). When a quorum has acknowledged, the history is committed for good, UPTODATE lets the
//! learners serve, and broadcast begins: PROPOSAL to all, ACK from each whose log holds it durably, COMMIT
//! once a quorum's do, strictly in order.
//!
//! What always holds here:
//!
//! - A promise is on disk before it is on the wire: `acceptedEpoch` before LEADERINFO and ACKEPOCH, history
//!   before `currentEpoch` before the ACK of NEWLEADER, a transaction before its ACK.
//! - What is committed is a prefix of the log of every member of some quorum, and stays in every later leader's.
//! - Within an epoch there is no hole, in no log and on no link.
//!
//! A transaction is a zxid and bytes: nothing here knows of trees, sessions or clients. What is for them is
//! handed up as [`Effect::FromLearner`] and [`Effect::FromLeader`].
//!
//! Java: `Leader`, `LearnerHandler`, `Learner`, `Follower`, `Observer`; quorum-protocol 5, 6, 10, 12.3.

pub mod history;
pub mod leader;
pub mod learner;
pub mod packet;
pub mod quorum;

use bytes::Bytes;

use crate::id::{LinkId, ServerId, Zxid};
use crate::storage::epoch::EpochFile;
use packet::{Forwarded, Packet, Touched};

/// A transaction as agreement sees it: its place, and bytes that nobody here looks into (the payload of a log
/// record, which is also that of a PROPOSAL).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    pub zxid: Zxid,
    pub txn: Bytes,
}

/// What a role wishes for. Storage effects are carried out in their order, and each is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    // To the network.
    /// A learner connects to its leader; answered by `on_connected` or `on_closed`.
    Dial {
        link: LinkId,
        leader: ServerId,
    },
    Send {
        link: LinkId,
        packet: Packet,
    },
    /// Says nothing more on this link. Answered by nothing.
    Close {
        link: LinkId,
        why: Fault,
    },

    // To the storage.
    /// Answered by `on_epoch_saved`, once durable.
    SaveEpoch {
        file: EpochFile,
        epoch: i64,
    },
    /// A learner's log goes on with this; answered by `on_durable`, with this or a later zxid.
    Append(Entry),
    /// Remove everything behind this from the log; answered by `on_truncated` with what the log ends with then,
    /// or with nothing if that would leave no tree to begin with: then nothing was changed.
    Truncate {
        target: Zxid,
    },
    /// The snapshot that came over the link, with these transactions applied to it, replaces tree, snapshots
    /// and log; its zxid is `upto`, and the log behind it holds `rest`, which is not committed. Answered by
    /// `on_installed` with the last of all that, once it is durable.
    Install {
        upto: Zxid,
        entries: Vec<Entry>,
        rest: Vec<Entry>,
    },
    /// A leader wants transactions behind `after` up to `upto` from the log on disk; answered by
    /// `on_log_read`, with all of them or, if the log does not reach back so far or they are too many to be worth
    /// it, with nothing. `in_parts`: with the first of them, as many as are worth being held.
    ReadLog {
        link: LinkId,
        after: Zxid,
        upto: Zxid,
        in_parts: bool,
    },
    /// A leader wants a SNAP packet and the snapshot behind it on this link, of whatever is applied, or a little
    /// earlier: the window, or the log on disk, must reach back to it. Answered by `on_snapshot_sent` with its
    /// zxid, once nearly all of it went out. Until then nothing else is sent on the link, and whoever carries the stream
    /// must close a link that takes no more bytes.
    SendSnapshot {
        link: LinkId,
    },
    /// Answered by `on_drained` once what was sent on this link until now went out.
    AwaitDrained {
        link: LinkId,
    },

    // To the whole.
    /// A leader's history is committed up to its end, and it may serve: `on_serving` is wanted when all of it
    /// is applied. The next transaction is the first of this epoch.
    Established {
        epoch: i64,
    },
    /// Everything up to this is committed.
    Committed {
        zxid: Zxid,
    },
    /// A learner may serve: everything up to `committed` is.
    Serve {
        epoch: i64,
        committed: Zxid,
    },
    FromLearner {
        link: LinkId,
        from: ServerId,
        message: FromLearner,
    },
    FromLeader(FromLeader),
    /// More than one learner has another tree than this leader's transactions make: who of them is wrong, an operator
    /// has to find out (design.md D8).
    Disputed {
        by: Vec<ServerId>,
    },
    /// The role is over: its links are closed, and an election follows.
    Failed(Fault),
}

/// What a learner is sent at a time of what stands behind its snapshot: of transactions, about so many bytes. While it is
/// sent nobody else has a turn.
pub const PART_BYTES: usize = 4 << 20;

/// What a learner wants of its leader, besides agreement.
#[derive(Clone, Debug, PartialEq)]
pub enum FromLearner {
    Request(Forwarded),
    Revalidate {
        session: i64,
        timeout_ms: i32,
    },
    Touched(Vec<Touched>),
    /// The link is gone, and with it all that was asked over it.
    Gone,
}

/// What a leader tells its learner, besides agreement.
#[derive(Clone, Debug, PartialEq)]
pub enum FromLeader {
    Revalidated {
        session: i64,
        valid: bool,
    },
    /// Everything that was committed when this was sent shows to the oldest sync that waits.
    Synced,
    /// The touched sessions are wanted: answered by `on_touched`.
    Ping {
        zxid: Zxid,
    },
    /// A member list that is newer than ours came with NEWLEADER, as text.
    Config {
        text: Bytes,
    },
}

/// Why a link or a role ended.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault {
    #[error("got {got} while expecting {expected}")]
    Unexpected { got: String, expected: &'static str },
    #[error("{0}")]
    Protocol(String),
    #[error("nothing was heard for {ms} ms while {doing}")]
    Silence { doing: &'static str, ms: i64 },
    #[error("the link is gone")]
    Gone,
    /// It was elected, and nobody can come.
    #[error("no port for learners: {0}")]
    NoPort(String),
    /// A leader without the learners that it needs.
    #[error("not sufficient followers synced, only synced with sids: {0}")]
    NoQuorum(String),
    #[error("{0}")]
    Storage(String),
    /// A leader that goes on without its own disk keeps others from leading (ZOOKEEPER-2247), and an observer shows an
    /// ever older tree.
    #[error("the own disk has not written {zxid} for {ms} ms; others can")]
    DiskHangs { zxid: Zxid, ms: i64 },
    #[error("the epoch's transactions are used up")]
    EpochFull,
    /// Nothing on disk leads to the TRUNC's target: dial the same leader again at once, without an election, and ask
    /// for a snapshot. This leader has counted the epoch ack that was honest about the log; another one could not
    /// count the one that asks for a snapshot, and two such members would keep an ensemble from ever forming a
    /// quorum. If the dial fails, what follows is an election, and the cheapest way is asked for again.
    #[error("nothing on disk leads back to {0}; asking the leader for a snapshot")]
    NoBase(Zxid),
    /// The tree is not what the leader's transactions make of it: it takes the leader's.
    #[error("the tree differs from the leader's after {0}; asking the leader for a snapshot")]
    Diverged(Zxid),
    /// The member list has changed under us in a way that only a restart can follow.
    #[error("the ensemble's members are now: {0}")]
    Reconfigured(String),
}

/// The zxid of an epoch's NEWLEADER, which no transaction has.
pub fn beginning_of(epoch: i64) -> Zxid {
    Zxid(epoch << 32)
}

/// The epoch as it is compared: signed.
pub fn epoch_of(zxid: Zxid) -> i64 {
    zxid.0 >> 32
}

#[cfg(test)]
mod tests;
