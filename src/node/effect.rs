//! All that a Node can wish for.

use std::sync::Arc;

use bytes::Bytes;

use super::Duty;
use crate::config::Membership;
use crate::id::{ConnId, LinkId, ServerId, SessionId, Zxid};
use crate::prepare::QuotaExceeded;
use crate::proto::ErrorCode;
use crate::storage::epoch::EpochFile;
use crate::tree::Tree;
use crate::zab::packet::Packet;
use crate::zab::{Entry, Fault};

#[derive(Debug)]
pub enum Effect {
    /// Write these log records behind the others and make them durable; answered by `Durable(last)`.
    Append { first: Zxid, last: Zxid, records: Bytes },
    /// What was appended before this and found no room is forgotten here: what is appended from now on follows what
    /// is durable.
    LogFullHeard,
    /// The connection has its session back.
    Attached { conn: ConnId, session: SessionId, timeout_ms: i32 },
    /// The connection has a session of its own that only this server knows of.
    OpenedLocally { conn: ConnId, session: SessionId, timeout_ms: i32 },
    /// Its session is over; say so, then close.
    ClosedLocally { conn: ConnId, xid: i32 },
    /// There is no such session, or the password is wrong: say so, then close.
    Refused { conn: ConnId },
    /// Close without a word.
    Close { conn: ConnId },
    /// A write that did not become a transaction.
    WriteRefused { conn: ConnId, xid: i32, error: ErrorCode },
    /// For the log of the server.
    Notice(Notice),
    /// What only a member of an ensemble wishes for.
    Peer(PeerEffect),
}

/// Those for the storage are carried out in their order, `Append` among them, and each is answered.
#[derive(Debug)]
pub enum PeerEffect {
    /// Send one notification.
    Vote {
        to: ServerId,
        body: Bytes,
    },
    /// If anything was delivered since, send these again; else dial everybody.
    VoteAgain(Vec<(ServerId, Bytes)>),
    /// Accept learners, until `StopListening`.
    Listen,
    StopListening,
    /// Connect to a leader: `LinkUp` or `LinkDown`.
    Dial {
        link: LinkId,
        leader: ServerId,
    },
    Send {
        link: LinkId,
        packet: Packet,
    },
    /// Say nothing more on this link.
    CloseLink {
        link: LinkId,
    },
    /// Answered by `EpochSaved`.
    SaveEpoch {
        file: EpochFile,
        epoch: i64,
    },
    /// Remove everything behind `target` from the log, and from the tree if that has `applied` more; answered by
    /// `Truncated`.
    Truncate {
        target: Zxid,
        applied: Zxid,
    },
    /// Make this tree durable as a snapshot with `rest` in the log behind it, and put it into the Store;
    /// answered by `Installed`.
    Install {
        tree: Box<Tree>,
        rest: Vec<Entry>,
    },
    /// Answered by `LogRead`.
    ReadLog {
        link: LinkId,
        after: Zxid,
        upto: Zxid,
        /// The first of them will do.
        in_parts: bool,
    },
    /// Queue SNAP and a snapshot on the link: of what is applied now, or later; answered by `SnapshotSent`.
    SendSnapshot {
        link: LinkId,
    },
    /// Answered by `Drained`, once what is queued on the link went out.
    AwaitDrained {
        link: LinkId,
    },
    /// Clients are welcome; this becomes of what they ask.
    Serve {
        duty: Duty,
    },
    /// They are not: every connection is closed, and nothing of the tree is shown.
    StopServing,
    /// The next start shall know this list of members, version included.
    SaveConfig {
        members: Arc<Membership>,
    },
    /// The process must end, and an operator has to act.
    Exit {
        why: String,
    },
}

/// What an operator should hear of.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    Expired {
        session: SessionId,
        timeout_ms: i32,
    },
    DigestMismatch {
        zxid: Zxid,
        expected: u64,
        actual: u64,
        /// Of all since this tree was read or received.
        count: u64,
    },
    QuotaExceeded(QuotaExceeded),
    LogFull,
    LogRoom,
    /// An election begins.
    Looking {
        me: ServerId,
        last: Zxid,
        epoch: i64,
    },
    /// With how long the election took.
    Leading {
        last: Zxid,
        election_ms: i64,
    },
    Following {
        leader: ServerId,
        election_ms: i64,
    },
    Observing {
        leader: ServerId,
    },
    /// The role has come so far that clients are served.
    Serving {
        epoch: i64,
    },
    RoleEnded(Fault),
    /// The tree differs from what the leader says although it was filled anew not long ago.
    DivergedAgain {
        leader: ServerId,
    },
    /// This server leads, and several others have another tree than its transactions make.
    Disputed {
        by: Vec<ServerId>,
    },
    LinkClosed {
        link: LinkId,
        why: Fault,
    },
    /// The member list has a higher version now.
    NewerConfig {
        from: i64,
        to: i64,
    },
    /// Another server's list is newer and has other members; it is not listened to.
    OtherMembers {
        from: ServerId,
        text: String,
    },
}
