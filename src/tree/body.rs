//! What a snapshot file and the stream from a leader to a learner have in common: sessions, access lists and
//! nodes. The file puts a header in front and seals behind it, the stream a signature.
//!
//! Reading is pushed: [`Parser`] takes what it is given as far as whole entries go, so it serves a socket, whose
//! bytes come when they come, and a file alike. Nothing is set aside for a length or count that is only claimed.
//!
//! Java: `SerializeUtils.deserializeSnapshot`, `DataTree.deserialize`; quorum-protocol 5.7, on-disk 3.

use std::borrow::Cow;
use std::io;

use bytes::{Buf, Bytes};
use jute::records::data::StatPersisted;
use jute::{Record, Text, Writer as JuteWriter};

use super::snapshot::SnapshotError;
use super::{LoadError, Loader, Tree};
use crate::acl::Acl;
use crate::id::SessionId;
use crate::path::ROOT;

/// Where a node's path would stand: ends the nodes.
pub(super) const TERMINATOR: [u8; 5] = [0, 0, 0, 1, b'/'];

/// Takes what a snapshot holds, in its order: sessions, access lists, nodes with parents before children.
pub trait Target {
    fn session(&mut self, id: SessionId, timeout_ms: i32);
    fn acl(&mut self, id: i64, acl: Vec<Acl>) -> Result<(), LoadError>;
    fn node(&mut self, path: &str, data: Option<&[u8]>, acl_id: i64, stat: StatPersisted) -> Result<(), LoadError>;
}

impl Target for Loader {
    fn session(&mut self, id: SessionId, timeout_ms: i32) {
        Loader::session(self, id, timeout_ms);
    }

    fn acl(&mut self, id: i64, acl: Vec<Acl>) -> Result<(), LoadError> {
        Loader::acl(self, id, acl)
    }

    fn node(&mut self, path: &str, data: Option<&[u8]>, acl_id: i64, stat: StatPersisted) -> Result<(), LoadError> {
        Loader::node(self, path, data, acl_id, stat)
    }
}

/// What stands next.
#[derive(Debug)]
enum Next {
    SessionCount,
    Session {
        left: i32,
    },
    AclCount,
    Acl {
        left: i32,
    },
    /// Of a list: a hostile one is long, and is not read again from its beginning.
    AclEntry {
        id: i64,
        acl: Vec<Acl>,
        entries: i32,
        left: i32,
    },
    Node,
    Nothing,
}

/// Reads sessions, lists and nodes as they come.
#[derive(Debug)]
pub(super) struct Parser {
    next: Next,
    /// The longest string or buffer.
    limit: usize,
    /// So many bytes are needed before anything more can be read, and what they are.
    wanted: (usize, &'static str),
}

/// Why an entry was not read.
enum Stop {
    /// It has more bytes than there are.
    Wants(usize, &'static str),
    Bad(SnapshotError),
}

impl From<LoadError> for Stop {
    fn from(error: LoadError) -> Self {
        Self::Bad(error.into())
    }
}

impl Parser {
    pub fn new(limit: usize) -> Self {
        Self { next: Next::SessionCount, limit, wanted: (0, "the number of sessions") }
    }

    /// Reads every whole entry at the front of `input` into `target`, and says how many bytes those were.
    /// What is left must stand in front of what comes later.
    pub fn feed(&mut self, input: &[u8], target: &mut impl Target) -> Result<usize, SnapshotError> {
        let mut used = 0;
        while !self.is_done() && input.len() - used >= self.wanted.0 {
            let mut entry = Entry { bytes: &input[used..], at: 0, limit: self.limit };
            match self.read(&mut entry, target) {
                Ok(next) => {
                    used += entry.at;
                    (self.next, self.wanted.0) = (next, 0);
                }
                Err(Stop::Wants(len, what)) => self.wanted = (len, what),
                Err(Stop::Bad(error)) => return Err(error),
            }
        }
        Ok(used)
    }

    /// The terminator was read: what follows is not for this parser.
    pub fn is_done(&self) -> bool {
        matches!(self.next, Next::Nothing)
    }

    /// What the bytes that are missing belong to.
    pub fn wanted(&self) -> &'static str {
        self.wanted.1
    }

    fn read(&mut self, entry: &mut Entry<'_>, target: &mut impl Target) -> Result<Next, Stop> {
        const LISTS: &str = "the access lists";
        const LIST: &str = "an access list";
        Ok(match &mut self.next {
            Next::SessionCount => match entry.int("the number of sessions")? {
                left @ 1.. => Next::Session { left },
                _ => Next::AclCount,
            },
            Next::Session { left } => {
                let mut session = entry.take(12, "the sessions")?;
                target.session(SessionId(session.get_i64()), session.get_i32());
                if *left > 1 { Next::Session { left: *left - 1 } } else { Next::AclCount }
            }
            Next::AclCount => match entry.int("the number of access lists")? {
                left @ 1.. => Next::Acl { left },
                _ => Next::Node,
            },
            Next::Acl { left } => {
                let id = entry.take(8, LISTS)?.get_i64();
                match entry.int(LIST)? {
                    -1 => return Err(Stop::Bad(SnapshotError::Malformed(LIST))),
                    entries @ 1.. => Next::AclEntry { id, acl: Vec::new(), entries, left: *left },
                    _ => Self::end_list(target, id, Vec::new(), *left)?,
                }
            }
            Next::AclEntry { id, acl, entries, left } => {
                let perms = entry.int(LIST)?;
                let mut text = || {
                    let bytes = entry.buffer(LIST)?.ok_or(Stop::Bad(SnapshotError::Malformed(LIST)))?;
                    Ok::<_, Stop>(Text::from_java_bytes(Bytes::copy_from_slice(bytes)))
                };
                acl.push(Acl { perms, scheme: text()?, id: text()? });
                let acl = std::mem::take(acl);
                match *entries {
                    entries @ 2.. => Next::AclEntry { id: *id, acl, entries: entries - 1, left: *left },
                    _ => Self::end_list(target, *id, acl, *left)?,
                }
            }
            Next::Node => {
                let path = entry.buffer("a path")?.ok_or(Stop::Bad(SnapshotError::Malformed("a path")))?;
                if path == ROOT.as_bytes() {
                    return Ok(Next::Nothing);
                }
                let data = entry.buffer("a node's data")?;
                let mut rest = entry.take(68, "a node")?;
                let acl_id = rest.get_i64();
                target.node(&java_text(path), data, acl_id, read_stat(&mut rest))?;
                Next::Node
            }
            Next::Nothing => unreachable!("nothing is read behind the terminator"),
        })
    }

    fn end_list(target: &mut impl Target, id: i64, acl: Vec<Acl>, left: i32) -> Result<Next, LoadError> {
        target.acl(id, acl)?;
        Ok(if left > 1 { Next::Acl { left: left - 1 } } else { Next::Node })
    }
}

/// The bytes from the beginning of an entry on.
struct Entry<'a> {
    bytes: &'a [u8],
    at: usize,
    limit: usize,
}

impl<'a> Entry<'a> {
    fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], Stop> {
        let end = self.at + len;
        let bytes = self.bytes.get(self.at..end).ok_or(Stop::Wants(end, what))?;
        self.at = end;
        Ok(bytes)
    }

    fn int(&mut self, what: &'static str) -> Result<i32, Stop> {
        Ok(self.take(4, what)?.get_i32())
    }

    fn buffer(&mut self, what: &'static str) -> Result<Option<&'a [u8]>, Stop> {
        match self.int(what)? {
            -1 => Ok(None),
            len @ 0.. if len as usize <= self.limit => self.take(len as usize, what).map(Some),
            _ => Err(Stop::Bad(SnapshotError::Malformed(what))),
        }
    }
}

/// As [`Text::from_java_bytes`], without a copy of what is UTF-8 as it is.
fn java_text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => Text::from_java_bytes(Bytes::copy_from_slice(bytes)).as_str().to_owned().into(),
    }
}

/// The 60 bytes of a stat, which must be there.
pub(crate) fn read_stat(bytes: &mut impl Buf) -> StatPersisted {
    StatPersisted {
        czxid: bytes.get_i64(),
        mzxid: bytes.get_i64(),
        ctime: bytes.get_i64(),
        mtime: bytes.get_i64(),
        version: bytes.get_i32(),
        cversion: bytes.get_i32(),
        aversion: bytes.get_i32(),
        ephemeral_owner: bytes.get_i64(),
        pzxid: bytes.get_i64(),
    }
}

/// Sessions, access lists and nodes are written in this order, each as many as announced.
pub trait Body {
    /// Appends what `write` writes.
    fn put(&mut self, write: impl FnOnce(&mut JuteWriter<'_>)) -> io::Result<()>;

    /// Announces how many sessions or access lists follow.
    fn count(&mut self, count: usize) -> io::Result<()> {
        self.put(|w| w.count(count))
    }

    fn session(&mut self, id: SessionId, timeout_ms: i32) -> io::Result<()> {
        self.put(|w| {
            w.long(id.0);
            w.int(timeout_ms);
        })
    }

    fn acl(&mut self, id: i64, acl: &[Acl]) -> io::Result<()> {
        self.put(|w| {
            w.long(id);
            w.vector(Some(acl));
        })
    }

    /// The root is written as `""`, whichever way it is named here.
    fn node(&mut self, path: &str, data: Option<&[u8]>, acl_id: i64, stat: &StatPersisted) -> io::Result<()> {
        self.put(|w| {
            w.text(Some(if path == ROOT { "" } else { path }));
            w.buffer(data);
            w.long(acl_id);
            stat.write(w);
        })
    }

    /// All of a tree.
    fn tree(&mut self, tree: &Tree) -> io::Result<()> {
        self.count(tree.sessions().len())?;
        for (id, timeout_ms) in tree.sessions() {
            self.session(*id, *timeout_ms)?;
        }
        let acls = tree.acl_table().iter();
        self.count(acls.len())?;
        for (id, acl) in acls {
            self.acl(id, acl)?;
        }
        for (path, node) in tree.walk() {
            self.node(&path, node.data(), node.acl_id(), &node.persisted())?;
        }
        Ok(())
    }
}
