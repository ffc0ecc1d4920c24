//! All that a Node can wish for.

use bytes::Bytes;

use crate::id::{ConnId, SessionId, Zxid};
use crate::prepare::QuotaExceeded;
use crate::proto::ErrorCode;

#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Write these log records behind the others and make them durable; answered by `Durable(last)`.
    Append { first: Zxid, last: Zxid, records: Bytes },
    /// The connection has its session back.
    Attached { conn: ConnId, session: SessionId, timeout_ms: i32 },
    /// There is no such session, or the password is wrong: say so, then close.
    Refused { conn: ConnId },
    /// Close without a word.
    Close { conn: ConnId },
    /// A write that did not become a transaction.
    WriteRefused { conn: ConnId, xid: i32, error: ErrorCode },
    /// For the log of the server.
    Notice(Notice),
}

/// What an operator should hear of.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    Expired { session: SessionId, timeout_ms: i32 },
    DigestMismatch { zxid: Zxid, expected: u64, actual: u64, first: bool },
    QuotaExceeded(QuotaExceeded),
    LogFull,
    LogRoom,
}
