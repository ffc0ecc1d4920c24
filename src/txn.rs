//! Transactions: what the log and the proposals hold. Everything that a replica could decide differently
//! (sequence numbers, versions, times, parent versions) is decided before and written here.
//!
//! Java: `TxnHeader` and the records of `zookeeper.jute`'s txn module, `SerializeUtils.deserializeTxn`.

use bytes::{Bytes, BytesMut};
use jute::records::txn as wire;
use jute::{DecodeError, Reader, Record, Text, Writer};

use crate::acl::Acl;
use crate::id::{SessionId, Zxid};
use crate::proto::op;

/// The digest of the whole tree after a transaction, in version 2 of the algorithm.
pub const DIGEST_VERSION: i32 = 2;

/// Who caused a transaction, its place in the order, and the wall clock of the server that prepared it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    pub session: SessionId,
    pub cxid: i32,
    pub zxid: Zxid,
    /// Milliseconds since 1970.
    pub time: i64,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Txn {
    Create(Create),
    /// `op` is delete or deleteContainer.
    Delete {
        op: i32,
        path: Text,
    },
    /// `op` is setData or reconfig; `version` is the new one.
    SetData {
        op: i32,
        path: Text,
        data: Option<Bytes>,
        version: i32,
    },
    /// `version` is the new aversion.
    SetAcl {
        path: Text,
        acl: Option<Vec<Acl>>,
        version: i32,
    },
    /// Only inside a multi.
    Check {
        path: Text,
        version: i32,
    },
    CreateSession {
        timeout_ms: i32,
    },
    /// The ephemerals to delete; `None` in logs of servers that do not list them.
    CloseSession {
        paths: Option<Vec<Text>>,
    },
    /// A refused request, which keeps its place in the order.
    Error {
        code: i32,
    },
    /// If any member is an error, none has an effect.
    Multi(Vec<Txn>),
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Create {
    pub kind: CreateKind,
    pub path: Text,
    pub data: Option<Bytes>,
    pub acl: Option<Vec<Acl>>,
    /// The parent's stored cversion after this create; -1 means one more than it has.
    pub parent_cversion: i32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CreateKind {
    /// create: the reply is the path alone.
    Create {
        ephemeral: bool,
    },
    /// create2: the reply also has the Stat.
    Create2 {
        ephemeral: bool,
    },
    Container,
    Ttl {
        ms: i64,
    },
}

impl CreateKind {
    pub const fn op(self) -> i32 {
        match self {
            Self::Create { .. } => op::CREATE,
            Self::Create2 { .. } => op::CREATE2,
            Self::Container => op::CREATE_CONTAINER,
            Self::Ttl { .. } => op::CREATE_TTL,
        }
    }
}

/// A transaction in its place, as one record of the log or one proposal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Logged {
    pub header: Header,
    pub txn: Txn,
    /// Tree digest of version 2 after this transaction; error transactions have none.
    pub digest: Option<u64>,
}

impl Txn {
    pub const fn op(&self) -> i32 {
        match self {
            Self::Create(create) => create.kind.op(),
            Self::Delete { op, .. } | Self::SetData { op, .. } => *op,
            Self::SetAcl { .. } => op::SET_ACL,
            Self::Check { .. } => op::CHECK,
            Self::CreateSession { .. } => op::CREATE_SESSION,
            Self::CloseSession { .. } => op::CLOSE_SESSION,
            Self::Error { .. } => op::ERROR,
            Self::Multi(_) => op::MULTI,
        }
    }

    fn write_body(&self, w: &mut Writer<'_>) {
        match self {
            Self::Create(Create { kind, path, data, acl, parent_cversion }) => {
                w.text(Some(path));
                w.buffer(data.as_deref());
                w.vector(acl.as_deref());
                match *kind {
                    CreateKind::Create { ephemeral } | CreateKind::Create2 { ephemeral } => {
                        w.bool(ephemeral);
                        w.int(*parent_cversion);
                    }
                    CreateKind::Container => w.int(*parent_cversion),
                    CreateKind::Ttl { ms } => {
                        w.int(*parent_cversion);
                        w.long(ms);
                    }
                }
            }
            Self::Delete { path, .. } => w.text(Some(path)),
            Self::SetData { path, data, version, .. } => {
                w.text(Some(path));
                w.buffer(data.as_deref());
                w.int(*version);
            }
            Self::SetAcl { path, acl, version } => {
                w.text(Some(path));
                w.vector(acl.as_deref());
                w.int(*version);
            }
            Self::Check { path, version } => {
                w.text(Some(path));
                w.int(*version);
            }
            Self::CreateSession { timeout_ms } => w.int(*timeout_ms),
            Self::CloseSession { paths } => {
                if let Some(paths) = paths {
                    w.vector(Some(paths));
                }
            }
            Self::Error { code } => w.int(*code),
            Self::Multi(members) => {
                w.count(members.len());
                for member in members {
                    w.int(member.op());
                    let mut body = BytesMut::new();
                    member.write_body(&mut Writer::durable(&mut body));
                    w.buffer(Some(&body));
                }
            }
        }
    }

    fn read_body(op: i32, r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match op {
            op::CREATE | op::CREATE2 => {
                let (path, data, acl) = (Text::read(r)?, r.buffer("data")?, Option::<Vec<Acl>>::read(r)?);
                let ephemeral = r.bool("ephemeral")?;
                // Servers before 3.4 ended a create here (Java: CreateTxnV0).
                let parent_cversion = if r.is_empty() { -1 } else { r.int("parentCVersion")? };
                let kind = match op {
                    op::CREATE => CreateKind::Create { ephemeral },
                    _ => CreateKind::Create2 { ephemeral },
                };
                Self::Create(Create { kind, path, data, acl, parent_cversion })
            }
            op::CREATE_CONTAINER => {
                let (path, data, acl) = (Text::read(r)?, r.buffer("data")?, Option::<Vec<Acl>>::read(r)?);
                let parent_cversion = r.int("parentCVersion")?;
                Self::Create(Create { kind: CreateKind::Container, path, data, acl, parent_cversion })
            }
            op::CREATE_TTL => {
                let (path, data, acl) = (Text::read(r)?, r.buffer("data")?, Option::<Vec<Acl>>::read(r)?);
                let parent_cversion = r.int("parentCVersion")?;
                let kind = CreateKind::Ttl { ms: r.long("ttl")? };
                Self::Create(Create { kind, path, data, acl, parent_cversion })
            }
            op::DELETE | op::DELETE_CONTAINER => Self::Delete { op, path: Text::read(r)? },
            op::SET_DATA | op::RECONFIG => {
                Self::SetData { op, path: Text::read(r)?, data: r.buffer("data")?, version: r.int("version")? }
            }
            op::SET_ACL => {
                Self::SetAcl { path: Text::read(r)?, acl: Option::<Vec<Acl>>::read(r)?, version: r.int("version")? }
            }
            op::CHECK => Self::Check { path: Text::read(r)?, version: r.int("version")? },
            op::CREATE_SESSION => Self::CreateSession { timeout_ms: r.int("timeOut")? },
            op::CLOSE_SESSION => {
                // Older servers, and closeSessionTxn.enabled=false, log no list: then whatever follows is a
                // digest, which is of no use without its list either (on-disk 2.2).
                let mut attempt = r.clone();
                let paths = Vec::<Text>::read(&mut attempt).ok();
                if paths.is_some() {
                    *r = attempt;
                }
                Self::CloseSession { paths }
            }
            op::ERROR => Self::Error { code: r.int("err")? },
            op::MULTI => {
                let members = Option::<Vec<wire::Txn>>::read(r)?.unwrap_or_default();
                Self::Multi(members.into_iter().map(Self::read_member).collect::<Result<_, _>>()?)
            }
            _ => return Err(DecodeError::Value { what: "transaction type", value: op.into() }),
        })
    }

    fn read_member(member: wire::Txn) -> Result<Self, DecodeError> {
        let known = [
            op::CREATE,
            op::CREATE2,
            op::CREATE_CONTAINER,
            op::CREATE_TTL,
            op::DELETE,
            op::DELETE_CONTAINER,
            op::SET_DATA,
            op::SET_ACL,
            op::CHECK,
            op::ERROR,
        ];
        if !known.contains(&member.op) {
            return Err(DecodeError::Value { what: "type in a multi", value: member.op.into() });
        }
        let body = member.data.ok_or(DecodeError::Null { what: "body in a multi" })?;
        Self::read_body(member.op, &mut Reader::new(body))
    }
}

impl Logged {
    /// Appends header, body and digest: the payload of a log record and of a proposal.
    pub fn write(&self, out: &mut BytesMut) {
        write_logged(&self.header, &self.txn, self.digest, out);
    }

    pub fn read(payload: Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(payload);
        let header = wire::TxnHeader::read(&mut r)?;
        let txn = Txn::read_body(header.op, &mut r)?;
        if header.op == op::CHECK {
            return Err(DecodeError::Value { what: "top-level transaction type", value: header.op.into() });
        }
        // A digest that is cut off or of another version is none.
        let digest = match wire::TxnDigest::read(&mut r) {
            Ok(digest) if digest.version == DIGEST_VERSION => Some(digest.tree_digest as u64),
            _ => None,
        };
        let wire::TxnHeader { client_id, cxid, zxid, time, .. } = header;
        Ok(Self { header: Header { session: SessionId(client_id), cxid, zxid: Zxid(zxid), time }, txn, digest })
    }
}

/// As [`Logged::write`], for parts that are held apart.
pub fn write_logged(header: &Header, txn: &Txn, digest: Option<u64>, out: &mut BytesMut) {
    let mut w = Writer::durable(out);
    w.long(header.session.0);
    w.int(header.cxid);
    w.long(header.zxid.0);
    w.long(header.time);
    w.int(txn.op());
    txn.write_body(&mut w);
    if let Some(digest) = digest {
        w.int(DIGEST_VERSION);
        w.long(digest as i64);
    }
}
