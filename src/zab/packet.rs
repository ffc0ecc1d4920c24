//! What leader and learner say to each other. A stream of these, nothing between them, but for the snapshot
//! that follows SNAP.
//!
//! Java: `QuorumPacket`, `LearnerInfo`, the constants of `Leader`; quorum-protocol 5.1.

use bytes::Bytes;
use jute::records::data::Id;

use crate::id::{ServerId, Zxid};

/// One packet, by what it means. Data that is null or of fixed content is left out.
#[derive(Clone, Debug, PartialEq)]
pub enum Packet {
    /// The first word of a follower.
    FollowerInfo {
        accepted: i64,
        info: LearnerInfo,
    },
    /// The first word of an observer.
    ObserverInfo {
        accepted: i64,
        info: LearnerInfo,
    },
    LeaderInfo {
        epoch: i64,
        level: Option<FeatureLevel>,
    },
    /// `current` is `None` if the epoch had been accepted before: then the learner is not counted.
    AckEpoch {
        last: Zxid,
        current: Option<i64>,
    },
    Diff {
        zxid: Zxid,
    },
    Trunc {
        zxid: Zxid,
    },
    /// The snapshot stream follows, right behind the packet.
    Snap {
        zxid: Zxid,
    },
    Proposal {
        zxid: Zxid,
        txn: Bytes,
    },
    Ack {
        zxid: Zxid,
    },
    Commit {
        zxid: Zxid,
    },
    /// A committed transaction, for an observer.
    Inform {
        zxid: Zxid,
        txn: Bytes,
    },
    NewLeader {
        zxid: Zxid,
        config: Option<Bytes>,
    },
    UpToDate,
    /// From the leader without data; from a learner with its touched sessions. An answer with null data is a
    /// fault (quorum-protocol 6.8).
    Ping {
        zxid: Zxid,
        touched: Option<Vec<Touched>>,
    },
    /// A learner asks whether a session lives.
    Revalidate {
        session: i64,
        timeout_ms: i32,
    },
    Revalidated {
        session: i64,
        valid: bool,
    },
    Request(Forwarded),
    /// The answer to a forwarded sync; they come in the order of the requests.
    Sync,
    /// A reconfiguration is committed and takes effect: `leader` is the one who shall lead.
    CommitAndActivate {
        zxid: Zxid,
        leader: ServerId,
    },
    InformAndActivate {
        zxid: Zxid,
        leader: ServerId,
        txn: Bytes,
    },
    /// A type that nobody here knows; skipped (quorum-protocol 5.1).
    Unknown {
        op: i32,
    },
}

/// Who a learner is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LearnerInfo {
    /// `None`: a packet without data, which Java gives a number of its own choice.
    pub server: Option<ServerId>,
    /// 0x10000 for all that speak this protocol.
    pub protocol: i32,
    pub config_version: i64,
    /// What only a zooid says (design.md D16); Java ignores what stands behind its own fields.
    pub level: Option<FeatureLevel>,
}

/// What a zooid says it can do, behind four bytes that say it is one.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct FeatureLevel(pub u32);

/// A session that a learner has heard of since it was last asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Touched {
    pub session: i64,
    pub timeout_ms: i32,
}

/// A client's request that only the leader can put in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Forwarded {
    pub session: i64,
    pub cxid: i32,
    pub op: i32,
    /// The request record as the client sent it.
    pub body: Bytes,
    /// The identities of the client; null for createSession and closeSession.
    pub identities: Option<Vec<Id>>,
}
