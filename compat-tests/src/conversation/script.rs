use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write};

use crate::raw::hex;
use crate::request::op;

/// How many created paths a script can refer to.
const REMEMBERED: usize = 48;

/// What to say, in order.
#[derive(Clone, Debug)]
pub struct Script(pub Vec<Step>);

/// Something that is done while no other connection has anything in flight.
#[derive(Clone, Debug)]
pub enum Step {
    /// Opens a connection in a slot, instead of one that may be there.
    Open { slot: usize, connect: Connect },
    /// Sends requests in one write and waits for the replies.
    Batch { slot: usize, requests: Vec<Request> },
    /// Sends bytes that make the server close.
    Break { slot: usize, bytes: Vec<u8> },
    /// Closes the connection and leaves the session.
    Drop { slot: usize },
    /// A connection of its own: these bytes, and everything until the server closes.
    Stray { bytes: Vec<u8> },
}

#[derive(Clone, Debug)]
pub struct Connect {
    pub session: Whose,
    pub password: Password,
    pub time_out: i32,
    pub last_zxid_seen: Zxid,
    pub read_only: Option<u8>,
    pub junk: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Whose {
    /// A new session, known by this number from then on.
    New(u32),
    /// The session of that number.
    Of(u32),
    /// One that was never handed out.
    Nobodys(i64),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Password {
    Right,
    Wrong,
    Null,
    Empty,
}

#[derive(Clone, Copy, Debug)]
pub enum Zxid {
    Exact(i64),
    /// Relative to the last one seen.
    Seen(i64),
}

#[derive(Clone, Debug)]
pub enum Path {
    Exact(Option<Vec<u8>>),
    /// One of the last created paths, and something behind it.
    Seen {
        age: usize,
        suffix: &'static str,
    },
}

#[derive(Clone, Copy, Debug)]
pub enum Version {
    Exact(i32),
    /// The last version seen of the path before it.
    Current,
    /// The same of its ACL.
    CurrentAcl,
}

/// A part of a body.
#[derive(Clone, Debug)]
pub enum Field {
    Byte(u8),
    Int(i32),
    Long(i64),
    Buffer(Option<Vec<u8>>),
    Path(Path),
    Version(Version),
    Zxid(Zxid),
}

#[derive(Clone, Debug)]
pub struct Request {
    pub xid: i32,
    pub op: i32,
    pub fields: Vec<Field>,
    pub damage: Damage,
}

/// What is done to a finished body.
#[derive(Clone, Debug)]
pub enum Damage {
    None,
    /// Only this many parts of 256 are sent.
    Cut(usize),
    /// Something follows.
    Junk(Vec<u8>),
    /// The length in front of a string or buffer, counted around, is replaced.
    Length {
        nth: usize,
        length: i32,
    },
}

/// What the server has said that a script may refer to.
#[derive(Default)]
pub struct Memory {
    pub created: VecDeque<Vec<u8>>,
    /// Version and ACL version.
    pub versions: BTreeMap<Vec<u8>, (i32, i32)>,
    pub zxid: i64,
}

impl Memory {
    pub fn note_created(&mut self, path: &[u8]) {
        // Nodes of the quota tree take certain texts only: whole numbers as usage, or Java stops
        // (data-model 12b, 5), and below `/k` no ACL may change. Both are reached by their own names alone.
        if path.starts_with(b"/zookeeper") || path.starts_with(b"/k") {
            return;
        }
        self.created.push_front(path.to_vec());
        self.created.truncate(REMEMBERED);
    }

    pub fn zxid(&self, zxid: Zxid) -> i64 {
        match zxid {
            Zxid::Exact(z) => z,
            Zxid::Seen(offset) => self.zxid + offset,
        }
    }

    fn path(&self, path: &Path) -> Option<Vec<u8>> {
        match path {
            Path::Exact(path) => path.clone(),
            Path::Seen { age, suffix } => {
                let mut path = match self.created.len() {
                    0 => b"/none".to_vec(),
                    n => self.created[age % n].clone(),
                };
                path.extend_from_slice(suffix.as_bytes());
                Some(path)
            }
        }
    }
}

/// A request as sent.
pub struct Encoded {
    pub payload: Vec<u8>,
    /// The first path in it.
    pub path: Option<Vec<u8>>,
}

impl Request {
    pub fn encode(&self, memory: &Memory) -> Encoded {
        let mut payload = [self.xid.to_be_bytes(), self.op.to_be_bytes()].concat();
        let mut lengths = Vec::new();
        let mut first = None;
        let mut last = None;
        for field in &self.fields {
            match field {
                Field::Byte(v) => payload.push(*v),
                Field::Int(v) => payload.extend_from_slice(&v.to_be_bytes()),
                Field::Long(v) => payload.extend_from_slice(&v.to_be_bytes()),
                Field::Zxid(z) => payload.extend_from_slice(&memory.zxid(*z).to_be_bytes()),
                Field::Version(version) => {
                    let (current, acl) = last.as_ref().and_then(|p| memory.versions.get(p)).copied().unwrap_or((0, 0));
                    let version = match version {
                        Version::Exact(v) => *v,
                        Version::Current => current,
                        Version::CurrentAcl => acl,
                    };
                    payload.extend_from_slice(&version.to_be_bytes());
                }
                Field::Buffer(bytes) => {
                    lengths.push(payload.len());
                    put_buffer(&mut payload, bytes.as_deref());
                }
                Field::Path(path) => {
                    lengths.push(payload.len());
                    let path = memory.path(path);
                    put_buffer(&mut payload, path.as_deref());
                    if first.is_none() {
                        first.clone_from(&path);
                    }
                    last = path;
                }
            }
        }
        match &self.damage {
            Damage::None => {}
            Damage::Cut(parts) => payload.truncate(8 + (payload.len() - 8) * parts / 256),
            Damage::Junk(junk) => payload.extend_from_slice(junk),
            Damage::Length { nth, length } if !lengths.is_empty() => {
                let at = lengths[nth % lengths.len()];
                payload[at..at + 4].copy_from_slice(&length.to_be_bytes());
            }
            Damage::Length { .. } => {}
        }
        Encoded { payload, path: first }
    }
}

fn put_buffer(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => out.extend_from_slice(&(-1i32).to_be_bytes()),
        Some(bytes) => {
            out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
            out.extend_from_slice(bytes);
        }
    }
}

impl Script {
    /// How many requests there are.
    pub fn operations(&self) -> usize {
        self.0
            .iter()
            .map(|step| match step {
                Step::Batch { requests, .. } => requests.len(),
                _ => 1,
            })
            .sum()
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) xid {}:", op::name(self.op), self.op, self.xid)?;
        for field in &self.fields {
            match field {
                Field::Byte(v) => write!(f, " {v:#04x}")?,
                Field::Int(v) => write!(f, " {v}")?,
                Field::Long(v) => write!(f, " {v}L")?,
                Field::Buffer(v) => write!(f, " {}", readable(v.as_deref()))?,
                Field::Path(Path::Exact(v)) => write!(f, " {}", readable(v.as_deref()))?,
                Field::Path(other) => write!(f, " {other:?}")?,
                Field::Version(Version::Exact(v)) => write!(f, " v{v}")?,
                Field::Version(other) => write!(f, " {other:?}")?,
                Field::Zxid(zxid) => write!(f, " {zxid:?}")?,
            }
        }
        match &self.damage {
            Damage::None => Ok(()),
            damage => write!(f, " damaged: {damage:?}"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { slot, connect } => write!(f, "[{slot}] connect {connect:?}"),
            Self::Batch { slot, requests } => {
                let lines: Vec<_> = requests.iter().map(|r| format!("[{slot}] {r}")).collect();
                f.write_str(&lines.join("\n"))
            }
            Self::Break { slot, bytes } => write!(f, "[{slot}] bytes {}", hex(bytes)),
            Self::Drop { slot } => write!(f, "[{slot}] drop"),
            Self::Stray { bytes } => write!(f, "[-] bytes {}", hex(bytes)),
        }
    }
}

/// Bytes as text in quotes, with what is not printable escaped; `null` for none.
pub fn readable(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "null".into() };
    let shown = &bytes[..bytes.len().min(80)];
    let mut text = format!("\"{}\"", shown.escape_ascii());
    if shown.len() < bytes.len() {
        let _ = write!(text, "… ({} bytes)", bytes.len());
    }
    text
}
