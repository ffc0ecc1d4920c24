//! Replies to writes, and events, as bytes.

use bytes::BytesMut;
use jute::records::proto::{MULTI_END, MultiHeader, ReplyHeader, write_frame};
use jute::{Record, Text, Writer};

use crate::id::Zxid;
use crate::proto::op;
use crate::tree::Outcome;
use crate::txn::{CreateKind, Txn};
use crate::watch::EventType;

/// The xid of notifications.
pub const EVENT_XID: i32 = -1;
/// The xid of every ping's reply.
pub const PING_XID: i32 = -2;
/// The zxid of events that setWatches finds overdue.
pub const CATCH_UP: Zxid = Zxid(-1);

/// The reply to a write that became `txn`, with what became of that.
pub fn write_reply(out: &mut BytesMut, xid: i32, zxid: Zxid, txn: &Txn, outcome: &Outcome) {
    let err = match outcome {
        Outcome::Failed(code) => *code,
        _ => 0,
    };
    write_frame(out, &ReplyHeader { xid, zxid: zxid.0, err }, |w| match (txn, outcome) {
        (Txn::Multi(members), Outcome::Multi(outcomes)) => {
            for (member, outcome) in members.iter().zip(outcomes) {
                write_result(w, member, outcome);
            }
            MULTI_END.write(w);
        }
        _ if err == 0 => write_body(w, txn, outcome),
        _ => {}
    });
}

/// The reply to a sync.
pub fn write_sync(out: &mut BytesMut, xid: i32, zxid: Zxid, path: Option<&Text>) {
    write_frame(out, &ReplyHeader { xid, zxid: zxid.0, err: 0 }, |w| w.text(path.map(|path| &**path)));
}

fn write_result(w: &mut Writer<'_>, txn: &Txn, outcome: &Outcome) {
    if let Outcome::Failed(err) = *outcome {
        MultiHeader { op: op::ERROR, done: false, err }.write(w);
        w.int(err);
        return;
    }
    // Every create that answers a Stat comes back as create2 (client-protocol 4.21).
    let op = match txn {
        Txn::Create(create) if !matches!(create.kind, CreateKind::Create { .. }) => op::CREATE2,
        _ => txn.op(),
    };
    MultiHeader { op, done: false, err: 0 }.write(w);
    write_body(w, txn, outcome);
}

fn write_body(w: &mut Writer<'_>, txn: &Txn, outcome: &Outcome) {
    if let Txn::Create(create) = txn {
        w.text(Some(&create.path));
    }
    let answers_stat = match txn {
        Txn::Create(create) => !matches!(create.kind, CreateKind::Create { .. }),
        Txn::SetData { .. } | Txn::SetAcl { .. } => true,
        _ => false,
    };
    if let (true, Outcome::Stat(stat)) = (answers_stat, outcome) {
        stat.write(w);
    }
}

/// A reply that is a header and nothing else.
pub fn write_header(out: &mut BytesMut, xid: i32, zxid: Zxid, err: i32) {
    write_frame(out, &ReplyHeader { xid, zxid: zxid.0, err }, |_| {});
}

/// A notification; the state is always "connected" (client-protocol 6.1).
pub fn write_event(out: &mut BytesMut, zxid: Zxid, event: EventType, path: &str) {
    const SYNC_CONNECTED: i32 = 3;
    write_frame(out, &ReplyHeader { xid: EVENT_XID, zxid: zxid.0, err: 0 }, |w| {
        w.int(event as i32);
        w.int(SYNC_CONNECTED);
        w.text(Some(path));
    });
}
