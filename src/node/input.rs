//! All that can happen to a Node.

use std::sync::Arc;

use bytes::Bytes;

use crate::acl::Identity;
use crate::id::{ConnId, SessionId, Zxid};
use crate::proto::request::Write;
use crate::session::Mono;

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
    Write { conn: ConnId, session: SessionId, xid: i32, write: Write, identities: Arc<[Identity]> },
    /// A connection is gone; its session lives on.
    Disconnected { conn: ConnId, session: SessionId },
    /// Time has passed. Carries every session heard of since the last report, with the timeout of its
    /// connection and the moment.
    Time { touched: Vec<(SessionId, i32, Mono)> },
    /// The log holds everything up to here, past a power cut too.
    Durable(Zxid),
    /// The disk has no room: nothing appended after the last `Durable` was written, nor will be.
    LogFull,
    /// There is room again.
    LogRoom,
}
