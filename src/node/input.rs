//! All that can happen to a Node.

use std::sync::Arc;

use bytes::Bytes;
use jute::Text;

use crate::acl::Identity;
use crate::id::{ConnId, LinkId, ServerId, SessionId, Zxid};
use crate::proto::request::Write;
use crate::session::Mono;
use crate::storage::epoch::EpochFile;
use crate::tree::Tree;
use crate::zab::Entry;
use crate::zab::packet::Packet;

/// What the clocks say, as the shell read them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Now {
    /// For deadlines; it does not move while the process is paused.
    pub mono: Mono,
    /// For ctime and mtime alone: milliseconds since 1970.
    pub wall_ms: i64,
}

#[derive(Debug)]
pub enum Input {
    /// A client wants a new session (id 0) or its old one back. The timeout is the negotiated one.
    Connect { conn: ConnId, session: SessionId, password: Bytes, timeout_ms: i32 },
    /// A connection with a session asks for a change.
    Write { conn: ConnId, session: SessionId, xid: i32, write: Write, raw: Raw, identities: Arc<[Identity]> },
    /// A connection to a member wants to see all that the leader has committed; it waits among its writes.
    Sync { conn: ConnId, session: SessionId, xid: i32, path: Option<Text>, raw: Raw, identities: Arc<[Identity]> },
    /// A connection is gone; its session lives on. With what is not reported yet of when it was last heard of.
    Disconnected { conn: ConnId, session: SessionId, touched: Option<(SessionId, i32, Mono)> },
    /// Time has passed. Carries every session heard of since the last report, with the timeout of its
    /// connection and the moment.
    Time { touched: Vec<(SessionId, i32, Mono)> },
    /// The log holds everything up to here, past a power cut too.
    Durable(Zxid),
    /// The disk has no room: nothing appended after the last `Durable` was written, nor will be.
    LogFull,
    /// There is room again.
    LogRoom,
    /// What only a member of an ensemble hears.
    Peer(PeerInput),
}

/// A request as its client sent it, for the case that another server decides on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Raw {
    pub op: i32,
    pub body: Bytes,
}

#[derive(Debug)]
pub enum PeerInput {
    /// Over an election connection, from the server at its other end.
    Notification {
        from: ServerId,
        body: Bytes,
    },
    /// The port for learners could not be opened.
    NotListening {
        why: String,
    },
    /// Our listener accepted a learner, or the leader that we dialled answered.
    LinkUp {
        link: LinkId,
    },
    Packets {
        link: LinkId,
        packets: Vec<Packet>,
        room: Room,
    },
    /// A part of a snapshot came, or a peer has taken some of what it was sent.
    SyncProgress {
        link: LinkId,
    },
    /// The whole of the snapshot behind the SNAP that came before. Its tree has no zxid yet.
    SnapshotReceived {
        link: LinkId,
        tree: Box<Tree>,
    },
    LinkDown {
        link: LinkId,
    },
    EpochSaved {
        file: EpochFile,
        epoch: i64,
    },
    Truncated(Truncation),
    /// The tree that was installed is the Store's now, and durable.
    Installed {
        last: Zxid,
    },
    /// SNAP and nearly all of the state of this zxid went out on the link.
    SnapshotSent {
        link: LinkId,
        zxid: Zxid,
    },
    /// All that had been sent on the link.
    Drained {
        link: LinkId,
    },
    /// `None`: the log on disk does not reach back so far.
    LogRead {
        link: LinkId,
        entries: Option<Vec<Entry>>,
    },
}

/// Something of the shell's that lives until the packets were dealt with: whoever sent them may send more then.
pub struct Room(pub Option<Box<dyn std::any::Any + Send>>);

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Room")
    }
}

/// What became of a wish to remove the end of the log.
#[derive(Debug)]
pub enum Truncation {
    /// The log ends here now; the tree was not concerned.
    Log { last: Zxid },
    /// The Store holds an older tree now, and this is the log behind it.
    Reloaded { tail: Vec<Entry> },
    /// Nothing on disk leads back so far; nothing was changed.
    NoBase,
}
