//! Replies taken apart, to be compared without what may differ and to be shown.

use std::collections::BTreeMap;
use std::fmt::Write;

use bytes::Bytes;
use jute::records::data::Stat;
use jute::{DecodeError, Reader, Record};

use super::script::readable;
use crate::raw::{Event, hex};
use crate::request::op;

/// Session ids of one server, by the number they have in the script.
pub type Owners = BTreeMap<i64, u32>;

/// Permissions, scheme, id.
type AclEntry = (i32, Option<Bytes>, Option<Bytes>);

/// A piece of a body.
enum Item {
    Byte(u8),
    Int(i32),
    Buffer(Option<Bytes>),
    Stat(Stat),
    /// A list without an order: Java's hash order, anything elsewhere.
    Unordered(Vec<Bytes>),
    /// `vec<ACL>`. Entries that `auth` expanded to have no order among themselves.
    Acls(Option<Vec<AclEntry>>),
    Identities(Vec<(Option<Bytes>, Option<Bytes>)>),
}

/// A reply, as far as it can be understood.
pub struct Parsed {
    pub xid: i32,
    pub zxid: i64,
    pub err: i32,
    items: Vec<Item>,
}

impl Parsed {
    /// Takes a reply to `op` apart; `None` if it is not one.
    pub fn new(op: i32, payload: &Bytes) -> Option<Self> {
        Self::read(op, &mut Reader::new(payload.clone())).ok()
    }

    fn read(op: i32, r: &mut Reader) -> Result<Self, DecodeError> {
        let (xid, zxid, err) = (r.int("xid")?, r.long("zxid")?, r.int("err")?);
        let mut items = Vec::new();
        match (op, err) {
            (op::MULTI | op::MULTI_READ, 0) => multi(r, &mut items)?,
            // Java appends what it had answered so far, and no client reads it (client-protocol 3.6).
            (op::MULTI_READ, _) => return Ok(Self { xid, zxid, err, items }),
            (op::SASL, _) => items.push(Item::Buffer(r.buffer("token")?)),
            (_, 0) => body(op, r, &mut items)?,
            _ => {}
        }
        if r.is_empty() {
            Ok(Self { xid, zxid, err, items })
        } else {
            Err(DecodeError::Short { what: "end of the reply", needs: 0, has: r.remaining() })
        }
    }

    /// The bytes to compare.
    pub fn canonical(&self, owners: &Owners) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(self.xid.to_be_bytes());
        out.extend(self.zxid.to_be_bytes());
        out.extend(self.err.to_be_bytes());
        for item in &self.items {
            item.canonical(owners, &mut out);
        }
        out
    }

    /// Paths that were created, in order.
    pub fn created(&self, op: i32) -> Vec<Bytes> {
        let path_at = |i: usize| match self.items.get(i) {
            Some(Item::Buffer(Some(path))) => Some(path.clone()),
            _ => None,
        };
        match op {
            _ if self.err != 0 => Vec::new(),
            op::CREATE | op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => path_at(0).into_iter().collect(),
            op::MULTI => (0..self.items.len())
                .filter(|&i| matches!(self.items[i], Item::Int(op::CREATE | op::CREATE2)))
                .filter_map(|i| path_at(i + 3))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The Stat of a reply that is about one node.
    pub fn stat(&self, op: i32) -> Option<&Stat> {
        self.items.iter().find_map(|item| match item {
            Item::Stat(stat) if op != op::MULTI && op != op::MULTI_READ => Some(stat),
            _ => None,
        })
    }
}

fn body(op: i32, r: &mut Reader, items: &mut Vec<Item>) -> Result<(), DecodeError> {
    match op {
        op::CREATE | op::SYNC => items.push(Item::Buffer(r.buffer("path")?)),
        op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL | op::GET_DATA | op::RECONFIG => {
            items.push(Item::Buffer(r.buffer("path or data")?));
            items.push(Item::Stat(Stat::read(r)?));
        }
        op::EXISTS | op::SET_DATA | op::SET_ACL => items.push(Item::Stat(Stat::read(r)?)),
        op::GET_ACL => {
            items.push(Item::Acls(list(r, |r| Ok((r.int("perms")?, r.buffer("scheme")?, r.buffer("id")?)))?));
            items.push(Item::Stat(Stat::read(r)?));
        }
        op::GET_CHILDREN | op::GET_EPHEMERALS => items.push(names(r)?),
        op::GET_CHILDREN2 => {
            items.push(names(r)?);
            items.push(Item::Stat(Stat::read(r)?));
        }
        op::GET_ALL_CHILDREN_NUMBER | op::ADD_WATCH => items.push(Item::Int(r.int("number")?)),
        op::WHO_AM_I => {
            let identities = list(r, |r| Ok((r.buffer("scheme")?, r.buffer("user")?)))?;
            items.push(Item::Identities(identities.unwrap_or_default()));
        }
        _ => {}
    }
    Ok(())
}

fn multi(r: &mut Reader, items: &mut Vec<Item>) -> Result<(), DecodeError> {
    loop {
        let (op, done, err) = (r.int("type")?, r.byte("done")?, r.int("err")?);
        items.extend([Item::Int(op), Item::Byte(done), Item::Int(err)]);
        match op {
            _ if done != 0 => return Ok(()),
            -1 => items.push(Item::Int(r.int("error")?)),
            op => body(op, r, items)?,
        }
    }
}

fn list<T>(
    r: &mut Reader,
    mut item: impl FnMut(&mut Reader) -> Result<T, DecodeError>,
) -> Result<Option<Vec<T>>, DecodeError> {
    match r.int("count")? {
        -1 => Ok(None),
        n => (0..n).map(|_| item(r)).collect::<Result<_, _>>().map(Some),
    }
}

fn names(r: &mut Reader) -> Result<Item, DecodeError> {
    let names = list(r, |r| r.buffer("name")?.ok_or(DecodeError::Null { what: "name" }))?;
    names.map(Item::Unordered).ok_or(DecodeError::Null { what: "names" })
}

impl Item {
    fn canonical(&self, owners: &Owners, out: &mut Vec<u8>) {
        match self {
            Self::Byte(v) => out.push(*v),
            Self::Int(v) => out.extend(v.to_be_bytes()),
            Self::Buffer(v) => put(out, v),
            Self::Stat(stat) => {
                let mut stat = *stat;
                stat.ctime = (stat.ctime != 0).into();
                stat.mtime = (stat.mtime != 0).into();
                if let Some(number) = owners.get(&stat.ephemeral_owner) {
                    stat.ephemeral_owner = (*number).into();
                }
                out.extend_from_slice(&jute::encode(&stat));
            }
            Self::Unordered(names) => {
                let mut names = names.clone();
                names.sort();
                out.extend((names.len() as i32).to_be_bytes());
                names.into_iter().for_each(|name| put(out, &Some(name)));
            }
            Self::Acls(None) => out.extend((-1i32).to_be_bytes()),
            Self::Acls(Some(acls)) => {
                let mut acls = acls.clone();
                let same = |a: &AclEntry, b: &AclEntry| a.0 == b.0 && a.1 == b.1 && a.1.as_deref() == Some(b"digest");
                acls.chunk_by_mut(same).for_each(|run| run.sort());
                out.extend((acls.len() as i32).to_be_bytes());
                for (perms, scheme, id) in acls {
                    out.extend(perms.to_be_bytes());
                    put(out, &scheme);
                    put(out, &id);
                }
            }
            Self::Identities(identities) => {
                let mut identities = identities.clone();
                identities.sort();
                for (scheme, user) in identities {
                    put(out, &scheme);
                    put(out, &user);
                }
            }
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Byte(v) => format!("{v:#04x}"),
            Self::Int(v) => v.to_string(),
            Self::Buffer(v) => readable(v.as_deref()),
            Self::Stat(stat) => format!("{stat:?}"),
            Self::Unordered(names) => {
                format!("[{}]", names.iter().map(|n| readable(Some(n))).collect::<Vec<_>>().join(", "))
            }
            Self::Acls(acls) => format!("{acls:?}"),
            Self::Identities(identities) => format!("{identities:?}"),
        }
    }
}

fn put(out: &mut Vec<u8>, bytes: &Option<Bytes>) {
    match bytes {
        None => out.extend((-1i32).to_be_bytes()),
        Some(bytes) => {
            out.extend((bytes.len() as i32).to_be_bytes());
            out.extend_from_slice(bytes);
        }
    }
}

/// A reply in words, with its bytes.
pub fn describe_reply(op: i32, payload: &Bytes) -> String {
    let mut text = hex(payload);
    if let Some(parsed) = Parsed::new(op, payload) {
        let _ = write!(text, "\n    xid {} zxid {:#x} err {}", parsed.xid, parsed.zxid, parsed.err);
        for item in &parsed.items {
            let _ = write!(text, " | {}", item.describe());
        }
    }
    text
}

/// An event in words, with its bytes.
pub fn describe_event(payload: &Bytes) -> String {
    match Event::parse(payload) {
        Some(event) => format!("{}\n    event {} {:?} zxid {:#x}", hex(payload), event.kind, event.path, event.zxid),
        None => hex(payload),
    }
}
