//! Requests, decoded once where they arrive. What decoding refuses is part of the result, because it is
//! answered in its place among the session's requests.
//!
//! Java decodes in two later stages and gives the failures different zxids; which failure uses one is
//! client-protocol 3.4.

use bytes::Bytes;
use jute::records::data::Acl;
use jute::records::proto as wire;
use jute::{DecodeError, Reader, Record, Text};

use super::{ErrorCode, op};
use crate::id::Zxid;

/// A request in the order of its session.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    Read(Read),
    Write(Write),
    /// Could not be decoded, or is refused without using a zxid; answered in its turn.
    Refused(ErrorCode),
}

/// What is answered from the tree as it is.
#[derive(Clone, Debug, PartialEq)]
pub enum Read {
    Ping,
    Exists { path: Text, watch: bool },
    GetData { path: Text, watch: bool },
    GetChildren { path: Text, watch: bool },
    GetChildren2 { path: Text, watch: bool },
    GetAcl { path: Text },
    GetAllChildrenNumber { path: Text },
    GetEphemerals { prefix: Option<Text> },
    Sync { path: Option<Text> },
    MultiRead(Result<Vec<MultiReadOp>, ErrorCode>),
    SetWatches(SetWatches),
    AddWatch { path: Option<Text>, mode: i32 },
    CheckWatches { path: Option<Text>, watcher_type: i32 },
    RemoveWatches { path: Option<Text>, watcher_type: i32 },
    WhoAmI,
}

#[derive(Clone, Debug, PartialEq)]
pub enum MultiReadOp {
    GetData { path: Text },
    GetChildren { path: Text },
}

impl Read {
    /// The one node that it looks at, if it does.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Exists { path, .. }
            | Self::GetData { path, .. }
            | Self::GetChildren { path, .. }
            | Self::GetChildren2 { path, .. }
            | Self::GetAcl { path } => Some(path),
            _ => None,
        }
    }
}

impl Write {
    /// The one node that it is about, if there is one.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Delete { path, .. } | Self::SetData { path, .. } | Self::SetAcl { path, .. } => path.as_deref(),
            Self::Create(Create { path, .. }) => path.as_deref(),
            _ => None,
        }
    }
}

/// setWatches and setWatches2; a null list ends the work there with an error (client-protocol 6.6).
#[derive(Clone, Debug, PartialEq)]
pub struct SetWatches {
    pub relative_zxid: i64,
    pub lists: Vec<(WatchList, Option<Vec<Option<Text>>>)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WatchList {
    Data,
    Exist,
    Child,
    Persistent,
    PersistentRecursive,
}

/// What becomes a transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    Create(Create),
    Delete {
        path: Option<Text>,
        version: i32,
    },
    /// From a client, or from the reaper of containers and TTL nodes.
    DeleteContainer {
        path: Text,
        /// As the server itself has found it, by its mzxid: it goes only if it still is.
        seen: Option<Zxid>,
    },
    SetData {
        path: Option<Text>,
        data: Option<Bytes>,
        version: i32,
    },
    SetAcl {
        path: Option<Text>,
        acl: Option<Vec<Acl>>,
        version: i32,
    },
    Multi(Vec<MultiOp>),
    /// A multi that can't be decoded still takes a place in the order.
    BadMulti,
    Reconfig(wire::ReconfigRequest),
    CloseSession,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Create {
    /// create, create2, createContainer or createTTL: it decides what is created.
    pub op: i32,
    pub path: Option<Text>,
    pub data: Option<Bytes>,
    pub acl: Option<Vec<Acl>>,
    pub flags: i32,
    /// Milliseconds; -1 for all but createTTL.
    pub ttl: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum MultiOp {
    Create(Create),
    Delete { path: Text, version: i32 },
    SetData { path: Text, data: Option<Bytes>, version: i32 },
    Check { path: Text, version: i32 },
}

/// What stands outside the order of a session's requests.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    Request(Request),
    Auth(wire::AuthPacket),
    Sasl {
        token: Bytes,
    },
    /// Answered with Unimplemented and zxid -1, then the connection is closed.
    UnknownOp,
    /// Closed without a reply.
    Garbage,
}

/// Decodes the body behind a request header.
pub fn decode(op: i32, body: Bytes) -> Frame {
    let mut r = Reader::new(body);
    match op {
        op::AUTH => wire::AuthPacket::read(&mut r).map_or(Frame::Garbage, Frame::Auth),
        op::SASL => match wire::SaslRequest::read(&mut r) {
            Ok(wire::SaslRequest { token: Some(token) }) => Frame::Sasl { token },
            _ => Frame::Garbage,
        },
        op::MULTI => Frame::Request(match multi(&mut r) {
            Ok(ops) => Request::Write(Write::Multi(ops)),
            Err(BadMulti::NullAcl) => Request::Refused(ErrorCode::Marshalling),
            Err(BadMulti::Undecodable) => Request::Write(Write::BadMulti),
        }),
        _ => match single(op, &mut r) {
            Ok(Some(request)) => Frame::Request(request),
            Ok(None) => Frame::UnknownOp,
            Err(_) => Frame::Request(Request::Refused(ErrorCode::Marshalling)),
        },
    }
}

fn single(op: i32, r: &mut Reader) -> Result<Option<Request>, DecodeError> {
    let path_of = |path: Option<Text>| path.ok_or(DecodeError::Null { what: "path" });
    let read = match op {
        op::PING => Read::Ping,
        op::EXISTS | op::GET_DATA | op::GET_CHILDREN | op::GET_CHILDREN2 => {
            let wire::PathWatchRequest { path, watch } = wire::PathWatchRequest::read(r)?;
            let path = path_of(path)?;
            match op {
                op::EXISTS => Read::Exists { path, watch },
                op::GET_DATA => Read::GetData { path, watch },
                op::GET_CHILDREN => Read::GetChildren { path, watch },
                _ => Read::GetChildren2 { path, watch },
            }
        }
        op::GET_ACL => Read::GetAcl { path: path_of(r.text("path")?)? },
        op::GET_ALL_CHILDREN_NUMBER => Read::GetAllChildrenNumber { path: path_of(r.text("path")?)? },
        op::GET_EPHEMERALS => Read::GetEphemerals { prefix: r.text("prefixPath")? },
        op::SYNC => Read::Sync { path: r.text("path")? },
        op::MULTI_READ => Read::MultiRead(multi_read(r)),
        op::SET_WATCHES | op::SET_WATCHES2 => {
            use WatchList::*;
            let relative_zxid = r.long("relativeZxid")?;
            let names: &[_] = match op {
                op::SET_WATCHES => &[Data, Exist, Child],
                _ => &[Data, Exist, Child, Persistent, PersistentRecursive],
            };
            let lists = names.iter().map(|name| Ok((*name, Option::read(r)?))).collect::<Result<_, DecodeError>>()?;
            Read::SetWatches(SetWatches { relative_zxid, lists })
        }
        op::ADD_WATCH => Read::AddWatch { path: r.text("path")?, mode: r.int("mode")? },
        op::CHECK_WATCHES => Read::CheckWatches { path: r.text("path")?, watcher_type: r.int("type")? },
        op::REMOVE_WATCHES => Read::RemoveWatches { path: r.text("path")?, watcher_type: r.int("type")? },
        op::WHO_AM_I => Read::WhoAmI,
        _ => return write(op, r).map(|write| write.map(Request::Write)),
    };
    Ok(Some(Request::Read(read)))
}

fn write(op: i32, r: &mut Reader) -> Result<Option<Write>, DecodeError> {
    Ok(Some(match op {
        op::CREATE | op::CREATE2 | op::CREATE_CONTAINER => Write::Create(create(op, r)?),
        op::CREATE_TTL => Write::Create(create_ttl(r)?),
        op::DELETE => Write::Delete { path: r.text("path")?, version: r.int("version")? },
        // The body is a buffer, with the bytes of a string; null is undecodable.
        op::DELETE_CONTAINER => Write::DeleteContainer { path: Text::read(r)?, seen: None },
        op::SET_DATA => Write::SetData { path: r.text("path")?, data: r.buffer("data")?, version: r.int("version")? },
        op::SET_ACL => Write::SetAcl { path: r.text("path")?, acl: Option::read(r)?, version: r.int("version")? },
        op::RECONFIG => Write::Reconfig(wire::ReconfigRequest::read(r)?),
        op::CLOSE_SESSION => Write::CloseSession,
        _ => return Ok(None),
    }))
}

fn create(op: i32, r: &mut Reader) -> Result<Create, DecodeError> {
    let wire::CreateRequest { path, data, acl, flags } = wire::CreateRequest::read(r)?;
    Ok(Create { op, path, data, acl, flags, ttl: -1 })
}

fn create_ttl(r: &mut Reader) -> Result<Create, DecodeError> {
    let wire::CreateTtlRequest { path, data, acl, flags, ttl } = wire::CreateTtlRequest::read(r)?;
    Ok(Create { op: op::CREATE_TTL, path, data, acl, flags, ttl })
}

enum BadMulti {
    /// Met before a zxid is taken.
    NullAcl,
    Undecodable,
}

impl From<DecodeError> for BadMulti {
    fn from(_: DecodeError) -> Self {
        Self::Undecodable
    }
}

/// Calls `member` for each operation up to the terminator.
fn members<E: From<DecodeError>>(
    r: &mut Reader,
    mut member: impl FnMut(i32, &mut Reader) -> Result<(), E>,
) -> Result<(), E> {
    loop {
        let header = wire::MultiHeader::read(r)?;
        if header.done {
            return Ok(());
        }
        member(header.op, r)?;
    }
}

fn multi(r: &mut Reader) -> Result<Vec<MultiOp>, BadMulti> {
    let mut ops = Vec::new();
    // A null path shows only after everything has been decoded.
    let mut null_path = false;
    let mut path_of = |path: Option<Text>| {
        null_path |= path.is_none();
        path.unwrap_or_default()
    };
    members(r, |op, r| {
        ops.push(match op {
            op::CREATE | op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => {
                let create = if op == op::CREATE_TTL { create_ttl(r)? } else { create(op, r)? };
                let create = normalised(create)?;
                path_of(create.path.clone());
                MultiOp::Create(create)
            }
            op::DELETE => MultiOp::Delete { path: path_of(r.text("path")?), version: r.int("version")? },
            op::SET_DATA => {
                let (path, data) = (path_of(r.text("path")?), r.buffer("data")?);
                MultiOp::SetData { path, data, version: r.int("version")? }
            }
            op::CHECK => MultiOp::Check { path: path_of(r.text("path")?), version: r.int("version")? },
            _ => return Err(BadMulti::Undecodable),
        });
        Ok(())
    })?;
    if null_path { Err(BadMulti::Undecodable) } else { Ok(ops) }
}

/// Flags decide more inside a multi than outside (client-protocol 4.21, the table of decode rules).
fn normalised(create: Create) -> Result<Create, BadMulti> {
    let ttl = create.op == op::CREATE_TTL;
    if !ttl && !(0..=6).contains(&create.flags) {
        return Err(BadMulti::Undecodable);
    }
    // Java builds the list of a plain create while it decodes, and meets a null there.
    if !ttl && create.acl.is_none() {
        return Err(BadMulti::NullAcl);
    }
    let op = match create.flags {
        0..=3 if ttl => op::CREATE,
        0..=3 => create.op,
        4 => op::CREATE_CONTAINER,
        // A wrong TTL or wrong flags of createTTL fail that operation alone.
        _ if ttl => return Ok(create),
        _ => return Err(BadMulti::Undecodable),
    };
    Ok(Create { op, ttl: -1, ..create })
}

fn multi_read(r: &mut Reader) -> Result<Vec<MultiReadOp>, ErrorCode> {
    let mut ops = Vec::new();
    members(r, |op, r| {
        let wire::PathWatchRequest { path, .. } = match op {
            op::GET_DATA | op::GET_CHILDREN => wire::PathWatchRequest::read(r)?,
            _ => return Err(DecodeError::Value { what: "type in a multiRead", value: op.into() }),
        };
        let path = path.ok_or(DecodeError::Null { what: "path" })?;
        ops.push(match op {
            op::GET_DATA => MultiReadOp::GetData { path },
            _ => MultiReadOp::GetChildren { path },
        });
        Ok(())
    })
    .map_err(|_: DecodeError| ErrorCode::Marshalling)?;
    Ok(ops)
}
