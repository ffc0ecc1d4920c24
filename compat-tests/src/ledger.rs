//! A client that keeps books: what it asked for, what was answered, and so what must be there after a crash.
//!
//! Its requests are answered in order and logged in order. So of those that had no answer when the server
//! died, some number of the first may have happened, and none behind them: the nodes found afterwards must be
//! what the answered requests and that many more make of them, to the zxid of each.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use jute::records::data::Stat;
use jute::{Reader, Record, Text};

use crate::Server;
use crate::random::Random;
use crate::raw::{ANSWER, Connect, Connection, Received, Reply, Session, frame, request};
use crate::request::{Body, OPEN, create, multi, op, path, set_data, unwatched, versioned};

/// Where all clients make sequential nodes, and the one node that all of them write.
pub const SEQUENCES: &str = "/seq";
pub const SHARED: &str = "/shared";

/// Names of its own that a client uses over and over.
const NAMES: usize = 24;
/// Sequential nodes that a client keeps.
const KEPT: usize = 12;

const EPHEMERAL: i32 = 1;
const SEQUENTIAL: i32 = 2;

const NO_NODE: i32 = -101;
const BAD_VERSION: i32 = -103;
const NODE_EXISTS: i32 = -110;
const RUNTIME_INCONSISTENCY: i32 = -2;

/// A request. Sequential nodes are known by what is before their number.
#[derive(Clone, Debug)]
enum Ask {
    Create {
        path: String,
        data: String,
        flags: i32,
    },
    Set {
        path: String,
        data: String,
        version: i32,
    },
    /// `at` is the path of a sequential node with its number.
    Delete {
        path: String,
        at: Option<String>,
        version: i32,
    },
    Check {
        path: String,
        version: i32,
    },
    Multi(Vec<Ask>),
    Get {
        path: String,
    },
    SetShared {
        data: String,
    },
}

/// A node as far as it is known.
#[derive(Clone, Debug)]
struct Node {
    data: String,
    version: i32,
    is_ephemeral: bool,
    /// With its number.
    path: Option<String>,
    created: Option<i64>,
    modified: Option<i64>,
}

type Nodes = BTreeMap<String, Node>;

/// A node as it was found.
#[derive(Clone, Debug)]
struct Found {
    path: String,
    data: String,
    stat: Stat,
}

/// A number that a sequential node got, and when.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Numbered {
    pub zxid: i64,
    pub number: u64,
}

/// Why a server did not take a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// It does not serve, or is not as far as the client; another one may be.
    NotNow(String),
    /// It must not say this.
    Wrong(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (Self::NotNow(why) | Self::Wrong(why)) = self;
        f.write_str(why)
    }
}

/// The client. Its session lasts from one connection to the next.
pub struct Ledger {
    id: usize,
    random: Random,
    session: Option<Session>,
    connection: Option<Connection>,
    xid: i32,
    asked: u64,
    /// As the answered requests left them.
    answered: Nodes,
    /// As all requests that were sent will leave them.
    ahead: Nodes,
    pending: VecDeque<Ask>,
    /// The highest zxid that any reply showed.
    pub seen: i64,
    /// The zxids of answered writes, since this was last taken.
    pub written: Vec<i64>,
    /// The numbers of answered sequential nodes, since this was last taken.
    pub numbered: Vec<Numbered>,
    /// The last answered write to the shared node.
    pub shared: Option<(i64, String)>,
    /// What was written to the shared node without an answer.
    pub shared_pending: Vec<String>,
}

impl Ledger {
    pub fn new(id: usize, seed: u64) -> Self {
        Self {
            id,
            random: Random(seed),
            session: None,
            connection: None,
            xid: 0,
            asked: 0,
            answered: Nodes::new(),
            ahead: Nodes::new(),
            pending: VecDeque::new(),
            seen: 0,
            written: Vec::new(),
            numbered: Vec::new(),
            shared: None,
            shared_pending: Vec::new(),
        }
    }

    fn home(&self) -> String {
        format!("/c{}", self.id)
    }

    /// Connects, to the session that it has if there is one; the server must know that.
    pub fn connect(&mut self, server: &Server) -> Result<(), String> {
        self.connect_to(server.address()).map_err(|refusal| refusal.to_string())
    }

    /// Connects to one of several servers, which may not be able to serve just now.
    pub fn connect_to(&mut self, address: SocketAddr) -> Result<(), Refusal> {
        let connect = Connect {
            time_out: 60_000,
            last_zxid_seen: self.seen,
            ..self.session.as_ref().map(Connect::attach).unwrap_or_default()
        };
        let mut connection = Connection::try_open(address).map_err(|e| Refusal::NotNow(e.to_string()))?;
        connection.send(&connect.payload());
        let session = match connection.receive(ANSWER) {
            Received::Frame(payload) => Session::parse(&payload).map_err(Refusal::Wrong)?,
            other => return Err(Refusal::NotNow(format!("{other:?} instead of an answer to {connect:?}"))),
        };
        if session.time_out <= 0 {
            return Err(Refusal::Wrong(format!("the session of {connect:?} is gone")));
        }
        if let Some(before) = &self.session
            && *before != session
        {
            return Err(Refusal::Wrong(format!("{before:?} came back as {session:?}")));
        }
        let is_new = self.session.is_none();
        self.connection = Some(connection);
        if is_new {
            let home = self.home();
            for path in [home.as_str(), SEQUENCES, SHARED] {
                let reply = self.call(op::CREATE, create(path, b"", OPEN, 0)).map_err(Refusal::NotNow)?;
                if reply.err != 0 && reply.err != NODE_EXISTS {
                    return Err(Refusal::Wrong(format!("create {path}: error {}", reply.err)));
                }
            }
        }
        self.session = Some(session);
        Ok(())
    }

    /// Ends the session, and with it its ephemerals.
    pub fn close(mut self) -> Result<(), String> {
        self.call(op::CLOSE_SESSION, Body::new()).map(drop)
    }

    /// Returns when this server shows whatever became of the requests before, and nothing becomes of them any
    /// more: a write stands behind all that were ordered, and what the session has asked elsewhere and is not
    /// ordered yet fails. A sync does not do it, for the leader answers its own client's as a read.
    pub fn draw_a_line(&mut self) -> Result<(), String> {
        let home = self.home();
        for (op, body) in [(op::SYNC, path(&home)), (op::SET_DATA, set_data(&home, b"", -1))] {
            let reply = self.call(op, body)?;
            if reply.err != 0 {
                return Err(format!("op {op} on {home}: error {}", reply.err));
            }
        }
        Ok(())
    }

    /// Asks for one thing after another, `window` of them at a time, until the server is gone. `progress`
    /// hears how many answers came.
    pub fn work(&mut self, window: usize, progress: &dyn Fn(u64)) -> Result<(), String> {
        let goes_on = |answers| {
            progress(answers);
            true
        };
        self.work_while(window, &goes_on).map_err(|refusal| refusal.to_string())
    }

    /// The same until `goes_on`, which hears how many answers came, says no: then it waits for the answers to
    /// what it has asked, and stays connected. A server that says nothing for long is given up.
    pub fn work_while(&mut self, window: usize, goes_on: &dyn Fn(u64) -> bool) -> Result<(), Refusal> {
        let mut connection = self.connection.take().expect("who works is connected");
        let mut asks = true;
        loop {
            if !asks && self.pending.is_empty() {
                self.connection = Some(connection);
                return Ok(());
            }
            let mut bytes = Vec::new();
            while asks && self.pending.len() < window {
                let ask = self.next_ask();
                self.xid += 1;
                let (op, body) = ask.encode();
                bytes.extend(frame(&request(self.xid, op, &Vec::from(body))));
                let _ = ask.take_effect(&mut self.ahead);
                if let Ask::SetShared { data } = &ask {
                    self.shared_pending.push(data.clone());
                }
                self.pending.push_back(ask);
            }
            connection.send_bytes(&bytes);
            let mut patience = ANSWER;
            let mut answers = 0;
            loop {
                match connection.receive(patience) {
                    Received::Frame(payload) => self.on_answer(Reply::parse(payload)).map_err(Refusal::Wrong)?,
                    Received::Silence if answers > 0 => break,
                    Received::Silence => return Err(Refusal::NotNow(format!("no answer within {ANSWER:?}"))),
                    Received::Closed(_) => {
                        goes_on(answers);
                        return Ok(());
                    }
                }
                answers += 1;
                patience = Duration::ZERO;
            }
            asks &= goes_on(answers);
        }
    }

    fn on_answer(&mut self, reply: Reply) -> Result<(), String> {
        let ask = self.pending.pop_front().ok_or_else(|| format!("{reply:?} answers nothing"))?;
        let xid = self.xid - self.pending.len() as i32;
        if reply.xid != xid {
            return Err(format!("{reply:?} instead of an answer to request {xid}, {ask:?}"));
        }
        if reply.zxid < self.seen {
            return Err(format!("{reply:?} after zxid 0x{:x}", self.seen));
        }
        self.seen = reply.zxid;
        match &ask {
            Ask::Get { path } => return self.check_read(path, &reply),
            Ask::SetShared { data } => {
                self.shared = Some((reply.zxid, data.clone()));
                self.shared_pending.retain(|pending| pending != data);
            }
            _ => {}
        }
        let expected = ask.take_effect(&mut self.answered);
        let results = match &ask {
            Ask::Multi(asks) => multi_results(asks, &reply, expected)?,
            _ if reply.err != expected.err() => {
                return Err(format!("{ask:?}: error {} instead of {}", reply.err, expected.err()));
            }
            Ask::Create { flags, .. } if reply.err == 0 && flags & SEQUENTIAL != 0 => vec![Some(reply.path())],
            _ => vec![None],
        };
        self.written.push(reply.zxid);
        if expected == Outcome::Done {
            let asks = match &ask {
                Ask::Multi(asks) => asks.as_slice(),
                single => std::slice::from_ref(single),
            };
            for (ask, path) in asks.iter().zip(results) {
                self.learn(ask, reply.zxid, path);
            }
        }
        Ok(())
    }

    /// Takes note of the zxid of a change, and of a number.
    fn learn(&mut self, ask: &Ask, zxid: i64, path: Option<String>) {
        match ask {
            Ask::Create { path: key, .. } => {
                self.numbered.extend(path.as_deref().and_then(number).map(|number| Numbered { zxid, number }));
                // A later part of the same multi may have deleted it.
                for nodes in [&mut self.answered, &mut self.ahead] {
                    if let Some(node) = nodes.get_mut(key) {
                        node.path.clone_from(&path);
                    }
                }
                if let Some(node) = self.answered.get_mut(key) {
                    (node.created, node.modified) = (Some(zxid), Some(zxid));
                }
            }
            Ask::Set { path, .. } => {
                if let Some(node) = self.answered.get_mut(path) {
                    node.modified = Some(zxid);
                }
            }
            _ => {}
        }
    }

    fn check_read(&self, path: &str, reply: &Reply) -> Result<(), String> {
        match (self.answered.get(path), reply.err) {
            (None, NO_NODE) => Ok(()),
            (Some(node), 0) => {
                let found = found(path, reply)?;
                self.agrees(path, node, &found).map_err(|why| format!("a read behind its own writes: {why}"))
            }
            (node, err) => Err(format!("a read of {path} behind its own writes: error {err}, expected {node:?}")),
        }
    }

    fn agrees(&self, key: &str, node: &Node, found: &Found) -> Result<(), String> {
        let owner = if node.is_ephemeral { self.session.as_ref().map_or(0, |session| session.id) } else { 0 };
        let differs = |known: Option<i64>, actual: i64| known.is_some_and(|known| known != actual);
        let is_same = node.data == found.data
            && node.version == found.stat.version
            && found.stat.ephemeral_owner == owner
            && !differs(node.created, found.stat.czxid)
            && !differs(node.modified, found.stat.mzxid)
            && node.path.as_ref().is_none_or(|path| *path == found.path);
        if is_same { Ok(()) } else { Err(format!("{key} should be {node:?}, owner 0x{owner:x}, and is {found:?}")) }
    }

    /// How many requests have no answer.
    pub fn unanswered(&self) -> usize {
        self.pending.len()
    }

    /// Compares what is there after a crash with the books, and closes them: how many of the requests without
    /// an answer had happened.
    pub fn settle(&mut self) -> Result<usize, String> {
        let found = self.read_all()?;
        let mut nodes = self.answered.clone();
        let mut first = None;
        for taken in 0..=self.pending.len() {
            match self.compare(&nodes, &found) {
                Ok(()) => {
                    for (key, found) in &found {
                        let node = nodes.get_mut(key).expect("compared");
                        (node.created, node.modified) = (Some(found.stat.czxid), Some(found.stat.mzxid));
                        node.path = number(&found.path).map(|_| found.path.clone());
                        let numbered = number(&found.path);
                        let zxid = found.stat.czxid;
                        self.numbered.extend(numbered.map(|number| Numbered { zxid, number }));
                    }
                    self.pending.clear();
                    self.ahead = nodes.clone();
                    self.answered = nodes;
                    return Ok(taken);
                }
                Err(why) => first = first.or(Some(why)),
            }
            if let Some(ask) = self.pending.get(taken) {
                let _ = ask.take_effect(&mut nodes);
            }
        }
        Err(format!(
            "client {}: what is there follows from none of the {} unanswered requests; with none of them: {}",
            self.id,
            self.pending.len(),
            first.unwrap_or_default()
        ))
    }

    fn compare(&self, nodes: &Nodes, found: &BTreeMap<String, Found>) -> Result<(), String> {
        for (key, node) in nodes {
            let found = found.get(key).ok_or_else(|| format!("{key} is missing: {node:?}"))?;
            self.agrees(key, node, found)?;
        }
        match found.iter().find(|(key, _)| !nodes.contains_key(*key)) {
            Some((key, found)) => Err(format!("{key} should not be there: {found:?}")),
            None => Ok(()),
        }
    }

    /// All nodes of this client.
    fn read_all(&mut self) -> Result<BTreeMap<String, Found>, String> {
        let home = self.home();
        let mine = format!("{}-", self.id);
        let mut paths: Vec<String> = self.children(&home)?.into_iter().map(|child| format!("{home}/{child}")).collect();
        let sequences = self.children(SEQUENCES)?;
        paths.extend(
            sequences.iter().filter(|child| child.starts_with(&mine)).map(|child| format!("{SEQUENCES}/{child}")),
        );
        let mut all = BTreeMap::new();
        for path in paths {
            let reply = self.call(op::GET_DATA, unwatched(&path))?;
            let found = found(&path, &reply)?;
            let key = match number(&path) {
                Some(_) => path[..path.len() - 10].to_owned(),
                None => path,
            };
            if let Some(other) = all.insert(key.clone(), found) {
                return Err(format!("{key} is there twice, once as {}", other.path));
            }
        }
        Ok(all)
    }

    /// The shared node: its last change, and its data.
    pub fn read_shared(&mut self) -> Result<(i64, String), String> {
        let reply = self.call(op::GET_DATA, unwatched(SHARED))?;
        let found = found(SHARED, &reply)?;
        Ok((found.stat.mzxid, found.data))
    }

    pub fn children(&mut self, path: &str) -> Result<Vec<String>, String> {
        let reply = self.call(op::GET_CHILDREN, unwatched(path))?;
        let children = Reader::new(reply.body.clone()).vector::<Option<Text>>("children");
        let children = children.ok().flatten().ok_or_else(|| format!("{reply:?} are no children of {path}"))?;
        Ok(children.into_iter().flatten().map(|child| child.to_string()).collect())
    }

    /// Whether a path is there, and whose ephemeral it is.
    pub fn owner(&mut self, path: &str) -> Result<Option<i64>, String> {
        let reply = self.call(op::EXISTS, unwatched(path))?;
        match reply.err {
            0 => Ok(Some(reply.stat().ephemeral_owner)),
            NO_NODE => Ok(None),
            err => Err(format!("exists {path}: error {err}")),
        }
    }

    fn call(&mut self, op: i32, body: Body) -> Result<Reply, String> {
        self.xid += 1;
        let connection = self.connection.as_mut().ok_or("not connected")?;
        connection.send(&request(self.xid, op, &Vec::from(body)));
        match connection.receive(ANSWER) {
            Received::Frame(payload) => {
                let reply = Reply::parse(payload);
                self.seen = self.seen.max(reply.zxid);
                Ok(reply)
            }
            other => {
                self.connection = None;
                Err(format!("{other:?} instead of an answer"))
            }
        }
    }

    /// Whether the last request failed for want of a server.
    pub fn has_lost_connection(&self) -> bool {
        self.connection.is_none()
    }

    fn next_ask(&mut self) -> Ask {
        self.asked += 1;
        let kept = self.ahead.range(format!("{SEQUENCES}/")..format!("{SEQUENCES}0"));
        let kept: Vec<_> = kept.map(|(key, node)| (key.clone(), node.path.clone())).collect();
        if kept.len() > KEPT
            && let Some((path, Some(at))) = kept.into_iter().find(|(_, at)| at.is_some())
        {
            return Ask::Delete { path, at: Some(at), version: -1 };
        }
        match self.random.below(100) {
            0..80 => self.single(),
            80..90 => {
                let count = 2 + self.random.below(3);
                Ask::Multi((0..count).map(|_| self.part()).collect())
            }
            90..96 => Ask::Get { path: self.name() },
            _ => Ask::SetShared { data: self.data() },
        }
    }

    fn part(&mut self) -> Ask {
        self.asked += 1;
        match self.random.percent(15) {
            true => {
                let path = self.name();
                let version = self.version(&path);
                Ask::Check { path, version }
            }
            false => self.single(),
        }
    }

    fn single(&mut self) -> Ask {
        let path = self.name();
        let ephemeral = if self.random.percent(30) { EPHEMERAL } else { 0 };
        match self.random.below(8) {
            0..3 => Ask::Create { path, data: self.data(), flags: ephemeral },
            3..5 => {
                let version = self.version(&path);
                Ask::Set { path, data: self.data(), version }
            }
            5..7 => {
                let version = self.version(&path);
                Ask::Delete { path, at: None, version }
            }
            _ => {
                // No two of a client have the same start, so a name tells which request it came from.
                let path = format!("{SEQUENCES}/{}-{:08}-", self.id, self.asked);
                Ask::Create { path, data: self.data(), flags: SEQUENTIAL | ephemeral }
            }
        }
    }

    fn name(&mut self) -> String {
        format!("{}/n{}", self.home(), self.random.below(NAMES))
    }

    /// Any version, the right one or a wrong one.
    fn version(&mut self, path: &str) -> i32 {
        let right = self.ahead.get(path).map_or(0, |node| node.version);
        self.random.weighted(&[(8, -1), (1, right), (1, right + 1)])
    }

    /// Data that no other request has: mostly short, now and then several sectors.
    fn data(&mut self) -> String {
        let length = match self.random.below(50) {
            0 => 500 + self.random.below(20_000),
            _ => self.random.below(150),
        };
        format!("{}-{}-{}", self.id, self.asked, "x".repeat(length))
    }
}

/// What a request does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    Done,
    Refused(i32),
    /// Which part of a multi is the first that fails, and how.
    PartRefused(usize, i32),
}

impl Outcome {
    fn err(self) -> i32 {
        match self {
            Self::Done => 0,
            Self::Refused(err) | Self::PartRefused(_, err) => err,
        }
    }
}

impl Ask {
    /// What it makes of the nodes, if it succeeds.
    fn take_effect(&self, nodes: &mut Nodes) -> Outcome {
        match self {
            Self::Create { path, data, flags } => {
                if nodes.contains_key(path) {
                    return Outcome::Refused(NODE_EXISTS);
                }
                let is_ephemeral = flags & EPHEMERAL != 0;
                let data = data.clone();
                let node = Node { data, version: 0, is_ephemeral, path: None, created: None, modified: None };
                nodes.insert(path.clone(), node);
            }
            Self::Set { path, data, version } => {
                let Some(node) = nodes.get_mut(path) else { return Outcome::Refused(NO_NODE) };
                if *version != -1 && *version != node.version {
                    return Outcome::Refused(BAD_VERSION);
                }
                (node.data, node.version, node.modified) = (data.clone(), node.version + 1, None);
            }
            Self::Delete { path, version, .. } | Self::Check { path, version } => {
                let Some(node) = nodes.get(path) else { return Outcome::Refused(NO_NODE) };
                if *version != -1 && *version != node.version {
                    return Outcome::Refused(BAD_VERSION);
                }
                if let Self::Delete { .. } = self {
                    nodes.remove(path);
                }
            }
            Self::Multi(parts) => {
                let mut after = nodes.clone();
                for (at, part) in parts.iter().enumerate() {
                    if let Outcome::Refused(err) = part.take_effect(&mut after) {
                        return Outcome::PartRefused(at, err);
                    }
                }
                *nodes = after;
            }
            Self::Get { .. } | Self::SetShared { .. } => {}
        }
        Outcome::Done
    }

    fn encode(&self) -> (i32, Body) {
        match self {
            Self::Create { path, data, flags } => (op::CREATE, create(path, data.as_bytes(), OPEN, *flags)),
            Self::Set { path, data, version } => (op::SET_DATA, set_data(path, data.as_bytes(), *version)),
            Self::Delete { path, at, version } => (op::DELETE, versioned(at.as_ref().unwrap_or(path), *version)),
            Self::Check { path, version } => (op::CHECK, versioned(path, *version)),
            Self::Multi(parts) => (op::MULTI, multi(parts.iter().map(Self::encode))),
            Self::Get { path } => (op::GET_DATA, unwatched(path)),
            Self::SetShared { data } => (op::SET_DATA, set_data(SHARED, data.as_bytes(), -1)),
        }
    }
}

/// The paths that a multi made, for each part; an error if its results are not what they should be.
fn multi_results(parts: &[Ask], reply: &Reply, expected: Outcome) -> Result<Vec<Option<String>>, String> {
    let results = reply.results();
    let errors: Vec<i32> = results.iter().map(|result| result.err).collect();
    let wanted: Vec<i32> = (0..parts.len())
        .map(|at| match expected {
            Outcome::PartRefused(failed, err) if at == failed => err,
            Outcome::PartRefused(failed, _) if at > failed => RUNTIME_INCONSISTENCY,
            _ => 0,
        })
        .collect();
    if errors != wanted {
        return Err(format!("{parts:?}: errors {errors:?} instead of {wanted:?}"));
    }
    let path = |(part, body): (&Ask, Bytes)| match part {
        Ask::Create { flags, .. } if expected == Outcome::Done && flags & SEQUENTIAL != 0 => {
            Reader::new(body).text("path").ok().flatten().map(|path| path.to_string())
        }
        _ => None,
    };
    Ok(parts.iter().zip(results.into_iter().map(|result| result.body)).map(path).collect())
}

/// The answer to getData, taken apart.
fn found(path: &str, reply: &Reply) -> Result<Found, String> {
    if reply.err != 0 {
        return Err(format!("getData {path}: error {}", reply.err));
    }
    let mut r = Reader::new(reply.body.clone());
    let data = r.buffer("data").map_err(|e| format!("getData {path}: {e}"))?.unwrap_or_default();
    let stat = Stat::read(&mut r).map_err(|e| format!("getData {path}: {e}"))?;
    Ok(Found { path: path.to_owned(), data: String::from_utf8_lossy(&data).into_owned(), stat })
}

/// The number at the end of a sequential node's path.
fn number(path: &str) -> Option<u64> {
    let name = path.strip_prefix(SEQUENCES)?.strip_prefix('/')?;
    let at = name.rfind('-')? + 1;
    name[at..].parse().ok().filter(|_| name.len() - at == 10)
}
