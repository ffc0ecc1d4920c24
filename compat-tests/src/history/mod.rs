//! What clients of an ensemble saw while it was broken in every way, and whether that can be true.
//!
//! [`record`] has the clients: they ask for anything at any member, keep their sessions through every failure,
//! and write down each request, each answer and each notification with the time. [`log`] reads what the members
//! wrote to their transaction logs, and [`model`] is the tree that follows from it: a second, small server that
//! shares nothing with the first. [`check`] puts the three together.
//!
//! The check is cheap because nothing has to be guessed. Every write, refused or not, takes a place in the order of all
//! transactions, the log has its session and xid beside that place, and every reply of a read says which place
//! it was read at. So the search that a checker of linearizability makes is a sort here, and one pass over the
//! log decides every answer: even a request whose connection was lost is found in the log, or proved absent.
//!
//! What is not recorded here: rights of other identities than `world:anyone`, containers, and nodes with a TTL.

pub mod check;
pub mod log;
pub mod model;
pub mod record;
mod watches;
mod wire;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use jute::Text;
use jute::records::data::Stat;

use log::Record;

/// Nanoseconds since the history began, on the one clock of all clients.
pub type Nanos = u64;

/// The clock of a history, and where its zero lies on the calendar.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
    /// Milliseconds since 1970.
    pub began_wall: i64,
}

impl Clock {
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).expect("this is after 1970");
        Self { began: Instant::now(), began_wall: wall.as_millis() as i64 }
    }

    pub fn now(&self) -> Nanos {
        self.began.elapsed().as_nanos() as Nanos
    }
}

/// Everything there is to judge.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Where the clock's zero lies, in milliseconds since 1970.
    pub began_wall: i64,
    pub links: Vec<Link>,
    /// Attempts to come back to a session that the server called unknown or expired.
    pub refusals: Vec<Refusal>,
    /// What a client saw that no reply, event or close accounts for.
    pub oddities: Vec<String>,
    /// The log of each member, as it is at the end.
    pub logs: Vec<Vec<Record>>,
    /// The tree of each member at the end.
    pub dumps: Vec<Dump>,
    pub calm: Option<Calm>,
}

/// One connection, from the answer to its ConnectRequest on.
#[derive(Clone, Debug)]
pub struct Link {
    pub client: usize,
    pub server: usize,
    /// The session that was asked for; 0 for a new one.
    pub wanted: i64,
    /// The session that was given.
    pub session: i64,
    pub timeout_ms: i32,
    /// The highest zxid that the client had seen when it asked.
    pub last_seen: i64,
    /// When the ConnectRequest went out.
    pub asked: Nanos,
    /// When its answer was there.
    pub attached: Nanos,
    /// In the order they were sent.
    pub operations: Vec<Operation>,
    /// In the order they came.
    pub received: Vec<Received>,
}

/// A request, and the answer if one came.
#[derive(Clone, Debug)]
pub struct Operation {
    pub xid: i32,
    pub invoked: Nanos,
    pub request: Request,
    pub answer: Option<Answer>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub returned: Nanos,
    pub zxid: i64,
    pub err: i32,
    pub outcome: Outcome,
}

/// What came over a connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    /// The answer to the operation of that index.
    Answer(usize),
    Event(Event),
}

/// A notification.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub at: Nanos,
    /// That of the change; -1 for one that [`Request::SetWatches`] caught up with.
    pub zxid: i64,
    pub kind: i32,
    pub path: Text,
}

pub const NODE_CREATED: i32 = 1;
pub const NODE_DELETED: i32 = 2;
pub const NODE_DATA_CHANGED: i32 = 3;
pub const NODE_CHILDREN_CHANGED: i32 = 4;

/// Who hears of a change of a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Watch {
    No,
    Yes,
}

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Mode {
    Persistent,
    Recursive,
}

/// What clients ask for. Access lists are one entry for `world:anyone`, so they are its rights.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// `flags` as on the wire: 1 ephemeral, 2 sequential, 3 both. With a Stat it is a create2.
    Create {
        path: Text,
        data: Bytes,
        perms: i32,
        flags: i32,
        with_stat: bool,
    },
    Delete {
        path: Text,
        version: i32,
    },
    SetData {
        path: Text,
        data: Bytes,
        version: i32,
    },
    SetAcl {
        path: Text,
        perms: i32,
        version: i32,
    },
    /// Only as a part of a multi.
    Check {
        path: Text,
        version: i32,
    },
    Multi(Vec<Request>),
    Exists {
        path: Text,
        watch: Watch,
    },
    GetData {
        path: Text,
        watch: Watch,
    },
    GetAcl {
        path: Text,
    },
    GetChildren {
        path: Text,
        watch: Watch,
        with_stat: bool,
    },
    AddWatch {
        path: Text,
        mode: Mode,
    },
    SetWatches(Rewatch),
    Sync {
        path: Text,
    },
    Ping,
    CloseSession,
}

/// The watches that a client takes along to a new connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rewatch {
    pub relative: i64,
    pub data: Vec<Text>,
    pub exist: Vec<Text>,
    pub child: Vec<Text>,
    pub persistent: Vec<Text>,
    pub recursive: Vec<Text>,
}

impl Request {
    /// Whether it takes a place in the order of transactions.
    pub fn is_write(&self) -> bool {
        matches!(
            self,
            Self::Create { .. }
                | Self::Delete { .. }
                | Self::SetData { .. }
                | Self::SetAcl { .. }
                | Self::Multi(_)
                | Self::CloseSession
        )
    }
}

/// What an answer said, besides its error.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Outcome {
    #[default]
    Nothing,
    Path(Text),
    PathAndStat(Text, Stat),
    Stat(Stat),
    Data(Bytes, Stat),
    /// Sorted: the order is the server's business.
    Children(Vec<Text>, Option<Stat>),
    Acl(i32, Stat),
    /// The error of each part, and what it said.
    Multi(Vec<(i32, Outcome)>),
}

impl Outcome {
    /// As much of it as the request asks for.
    pub fn shaped_by(self, request: &Request) -> Self {
        match (request, self) {
            (Request::Create { with_stat: false, .. }, Self::PathAndStat(path, _)) => Self::Path(path),
            (Request::Multi(parts), Self::Multi(outcomes)) => {
                let shaped = parts.iter().zip(outcomes).map(|(part, (err, outcome))| (err, outcome.shaped_by(part)));
                Self::Multi(shaped.collect())
            }
            (_, outcome) => outcome,
        }
    }
}

/// A session that a server refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub client: usize,
    pub server: usize,
    pub session: i64,
    pub asked: Nanos,
    pub refused: Nanos,
}

/// The tree of one member, read at one zxid.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dump {
    pub server: usize,
    pub zxid: i64,
    pub nodes: BTreeMap<Text, Dumped>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Dumped {
    pub data: Bytes,
    pub perms: i32,
    pub stat: Stat,
}

/// A time at the end in which one leader led and nothing failed.
#[derive(Clone, Copy, Debug)]
pub struct Calm {
    pub from: Nanos,
    pub to: Nanos,
    pub tick: Duration,
}
