//! Clients that ask for anything and write down everything.
//!
//! Each keeps its session as a client library does: when a connection is lost it goes to another member with
//! the session's id and password, takes its watches along, and goes on with the next xid; what was under way stays without
//! an answer. Now and then it leaves a member for no reason, attaches to a second one while it still talks to the
//! first, closes its session, or walks away from it.
//!
//! The names are few, so that clients meet: conditional writes fail, watches fire, parents are not empty.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jute::Text;

use super::model::{ADMIN, ALL, CREATE, DELETE, EPHEMERAL, READ, SEQUENTIAL, SESSION_EXPIRED, WRITE};
use super::wire::{self, PING_XID, SET_WATCHES_XID};
use super::{
    Answer, Clock, Dump, Dumped, Event, History, Link, Mode, NODE_CHILDREN_CHANGED, NODE_CREATED, NODE_DATA_CHANGED,
    NODE_DELETED, Operation, Outcome, Received, Refusal, Request, Rewatch, Watch,
};
use crate::random::Random;
use crate::raw::{self, Connect, Connection, Reply, Session, frame};

/// How long a member may take to accept a connection and answer the first request. A stopped one never does.
const CONNECT: Duration = Duration::from_millis(800);

const REGISTERS: usize = 10;
const NAMES: usize = 6;
const GUARDED: usize = 4;
const EPHEMERALS: usize = 12;
/// Sequential nodes that are kept.
const QUEUE: usize = 40;

/// What clients and the one who breaks things tell each other.
#[derive(Debug, Default)]
pub struct Progress {
    stop: AtomicBool,
    /// Answered without an error.
    pub writes: AtomicU64,
    pub reads: AtomicU64,
    pub connections: AtomicU64,
}

impl Progress {
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub fn written(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }
}

/// The clients of one run.
pub struct Recording {
    clock: Clock,
    progress: Arc<Progress>,
    clients: Vec<thread::JoinHandle<Client>>,
}

impl Recording {
    /// Clients at the members with these addresses, each with so many requests a second.
    pub fn start(clients: usize, servers: &[SocketAddr], rate: u64, seed: u64) -> Self {
        let clock = Clock::start();
        let progress = Arc::new(Progress::default());
        let start = |id| {
            let client = Client::new(id, servers.to_vec(), clock, Arc::clone(&progress), rate, seed << 8 | id as u64);
            thread::Builder::new().name(format!("client-{id}")).spawn(|| client.run()).expect("a thread can be started")
        };
        Self { clock, clients: (0..clients).map(start).collect(), progress }
    }

    pub fn clock(&self) -> Clock {
        self.clock
    }

    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Lets the clients finish what they are at.
    pub fn finish(self) -> History {
        self.progress.stop();
        let mut history = History { began_wall: self.clock.began_wall, ..History::default() };
        for client in self.clients {
            let client = client.join().expect("a client panicked");
            history.links.extend(client.links);
            history.refusals.extend(client.refusals);
            history.oddities.extend(client.oddities);
        }
        history
    }
}

/// A connection that is open.
struct Open {
    connection: Connection,
    link: usize,
    /// Operations without an answer.
    pending: VecDeque<usize>,
}

#[derive(Default)]
struct Watches {
    data: BTreeSet<Text>,
    exist: BTreeSet<Text>,
    child: BTreeSet<Text>,
    persistent: BTreeSet<Text>,
    recursive: BTreeSet<Text>,
}

struct Client {
    id: usize,
    servers: Vec<SocketAddr>,
    clock: Clock,
    progress: Arc<Progress>,
    rate: u64,
    random: Random,
    session: Option<Session>,
    /// What it asks for.
    timeout_ms: i32,
    /// The highest zxid of a reply, in this session.
    seen: i64,
    watches: Watches,
    xid: i32,
    asked: u64,
    /// Versions as last seen; often right.
    versions: HashMap<Text, i32>,
    queue: VecDeque<Text>,
    links: Vec<Link>,
    refusals: Vec<Refusal>,
    oddities: Vec<String>,
}

/// How a look at the connection ended.
enum Heard {
    Frame,
    Silence,
    /// Closed, or not to be used any more.
    End,
}

impl Client {
    fn new(id: usize, servers: Vec<SocketAddr>, clock: Clock, progress: Arc<Progress>, rate: u64, seed: u64) -> Self {
        Self {
            id,
            servers,
            clock,
            progress,
            rate,
            random: Random(seed),
            session: None,
            timeout_ms: 0,
            seen: 0,
            watches: Watches::default(),
            xid: 0,
            asked: 0,
            versions: HashMap::new(),
            queue: VecDeque::new(),
            links: Vec::new(),
            refusals: Vec::new(),
            oddities: Vec::new(),
        }
    }

    fn run(mut self) -> Self {
        let mut server = self.id % self.servers.len();
        let mut is_first = true;
        while !self.progress.is_over() {
            let Some(mut open) = self.attach(server) else {
                server = self.random.below(self.servers.len());
                thread::sleep(Duration::from_millis(5 + self.random.below(40) as u64));
                continue;
            };
            if std::mem::take(&mut is_first) {
                self.lay_out(&mut open);
            }
            self.work(&mut open);
            let others = self.servers.len().max(2) - 1;
            let next = (server + 1 + self.random.below(others)) % self.servers.len();
            server = if self.random.percent(80) { next } else { server };
            if self.progress.is_over() {
                self.leave(&mut open);
            } else if self.session.is_some() && self.random.percent(15) && open.link + 1 == self.links.len() {
                // The old connection stays open while the session moves away from it.
                if let Some(mut new) = self.attach(server) {
                    self.speak_out_of_turn(&mut open);
                    self.work(&mut new);
                }
            }
        }
        self
    }

    // ---- connections ----

    /// Connects to a member, with the session if there is one.
    fn attach(&mut self, server: usize) -> Option<Open> {
        if self.session.is_none() {
            // The same for as long as the session lives, since each attachment sets it anew.
            self.timeout_ms = self.random.pick(&[4000, 4000, 2500, 1500]);
        }
        let request = Connect {
            time_out: self.timeout_ms,
            last_zxid_seen: self.seen,
            ..self.session.as_ref().map(Connect::attach).unwrap_or_default()
        };
        let asked = self.clock.now();
        let mut connection = Connection::open_within(self.servers[server], CONNECT).ok()?;
        connection.send(&request.payload());
        let raw::Received::Frame(payload) = connection.receive(CONNECT) else { return None };
        let attached = self.clock.now();
        let session = match Session::parse(&payload) {
            Ok(session) => session,
            Err(why) => {
                self.oddities.push(format!("server {server} answered {request:?} with {why}"));
                return None;
            }
        };
        let wanted = self.session.as_ref().map_or(0, |session| session.id);
        if session.time_out <= 0 {
            if wanted != 0 {
                let refusal = Refusal { client: self.id, server, session: wanted, asked, refused: attached };
                self.refusals.push(refusal);
            }
            self.forget();
            return None;
        }
        self.progress.connections.fetch_add(1, Ordering::Relaxed);
        self.links.push(Link {
            client: self.id,
            server,
            wanted,
            session: session.id,
            timeout_ms: session.time_out,
            last_seen: self.seen,
            asked,
            attached,
            operations: Vec::new(),
            received: Vec::new(),
        });
        self.session = Some(session);
        let mut open = Open { connection, link: self.links.len() - 1, pending: VecDeque::new() };
        let rewatch = self.rewatch();
        if rewatch != (Rewatch { relative: self.seen, ..Rewatch::default() }) {
            self.ask(&mut open, vec![Request::SetWatches(rewatch)]);
        }
        Some(open)
    }

    fn rewatch(&self) -> Rewatch {
        let list = |paths: &BTreeSet<Text>| paths.iter().cloned().collect();
        Rewatch {
            relative: self.seen,
            data: list(&self.watches.data),
            exist: list(&self.watches.exist),
            child: list(&self.watches.child),
            persistent: list(&self.watches.persistent),
            recursive: list(&self.watches.recursive),
        }
    }

    /// The session is over, or left alone.
    fn forget(&mut self) {
        self.session = None;
        self.seen = 0;
        self.watches = Watches::default();
    }

    /// A write on a connection that the session has left.
    fn speak_out_of_turn(&mut self, old: &mut Open) {
        let request = self.write();
        self.ask(old, vec![request]);
        let deadline = Instant::now() + Duration::from_millis(300);
        while !old.pending.is_empty() {
            match self.hear(old, deadline) {
                Heard::Frame => {}
                Heard::Silence | Heard::End => break,
            }
        }
    }

    /// At the end of the run: some close their session, some leave it to expire.
    fn leave(&mut self, open: &mut Open) {
        if self.session.is_some() && self.random.percent(50) {
            self.close(open);
        }
    }

    fn close(&mut self, open: &mut Open) {
        self.ask(open, vec![Request::CloseSession]);
        let deadline = Instant::now() + Duration::from_secs(2);
        while !open.pending.is_empty() {
            match self.hear(open, deadline) {
                Heard::Frame => {}
                Heard::Silence | Heard::End => break,
            }
        }
        self.forget();
    }

    // ---- work on one connection ----

    /// The nodes that everything happens in.
    fn lay_out(&mut self, open: &mut Open) {
        let tops = ["/k", "/d", "/q", "/e", "/a"].map(String::from);
        let registers = (0..REGISTERS).map(|n| format!("/k/{n}"));
        let guarded = (0..GUARDED).map(|n| format!("/a/{n}"));
        let creates = tops.into_iter().chain(registers).chain(guarded).map(|path| Request::Create {
            path: path.into(),
            data: Bytes::new(),
            perms: ALL,
            flags: 0,
            with_stat: false,
        });
        self.ask(open, creates.collect());
    }

    /// Until the connection ends, by the server's will or our own.
    fn work(&mut self, open: &mut Open) {
        let timeout = Duration::from_millis(self.links[open.link].timeout_ms as u64);
        let patience = timeout * 2 / 3;
        let end = Instant::now() + Duration::from_millis(200 + self.random.below(4000) as u64);
        let mut next = Instant::now();
        let mut last_heard = Instant::now();
        let mut last_asked = Instant::now();
        loop {
            let now = Instant::now();
            if now >= end || self.progress.is_over() {
                break;
            }
            if open.pending.len() < 32 && now >= next {
                let count = 1 + self.random.weighted(&[(60, 1), (30, 6), (10, 24)]);
                let count = 1 + self.random.below(count);
                let requests: Vec<_> = (0..count).map(|_| self.request()).collect();
                if open.pending.is_empty() {
                    last_heard = now;
                }
                self.ask(open, requests);
                last_asked = now;
                let mut gap = Duration::from_micros(1_000_000 * count as u64 / self.rate.max(1));
                if self.random.below(2000) == 0 {
                    // A client with nothing to ask for.
                    gap = timeout.mul_f64(0.5 + self.random.below(100) as f64 / 200.0);
                }
                next = now + gap;
            }
            if now >= last_asked + timeout / 3 && open.pending.is_empty() {
                self.ask(open, vec![Request::Ping]);
                (last_asked, last_heard) = (now, now);
            }
            let until = if open.pending.len() >= 32 { now + patience } else { next.min(now + timeout / 3) };
            match self.hear(open, until.min(end)) {
                Heard::Frame => last_heard = Instant::now(),
                Heard::Silence if !open.pending.is_empty() && last_heard.elapsed() > patience => return,
                Heard::Silence => {}
                Heard::End => return,
            }
        }
        match self.random.below(100) {
            // Everything under way is left without an answer.
            0..30 => {}
            30..40 => self.close(open),
            40..50 => self.forget(),
            _ => {
                let deadline = Instant::now() + patience;
                while !open.pending.is_empty() && matches!(self.hear(open, deadline), Heard::Frame) {}
            }
        }
    }

    fn ask(&mut self, open: &mut Open, requests: Vec<Request>) {
        let mut bytes = Vec::new();
        for request in requests {
            let (op, body) = wire::encode(&request);
            let xid = match request {
                Request::Ping => PING_XID,
                Request::SetWatches(_) => SET_WATCHES_XID,
                _ => {
                    self.xid += 1;
                    self.xid
                }
            };
            bytes.extend(frame(&raw::request(xid, op, &Vec::from(body))));
            let operations = &mut self.links[open.link].operations;
            open.pending.push_back(operations.len());
            operations.push(Operation { xid, invoked: self.clock.now(), request, answer: None });
        }
        open.connection.send_bytes(&bytes);
    }

    fn hear(&mut self, open: &mut Open, deadline: Instant) -> Heard {
        let patience = deadline.saturating_duration_since(Instant::now()).max(Duration::from_micros(50));
        let payload = match open.connection.receive(patience) {
            raw::Received::Frame(payload) => payload,
            raw::Received::Silence => return Heard::Silence,
            raw::Received::Closed(_) => return Heard::End,
        };
        let at = self.clock.now();
        if let Some(event) = raw::Event::parse(&payload) {
            let event = Event { at, zxid: event.zxid, kind: event.kind, path: event.path.into() };
            self.on_event(&event);
            self.links[open.link].received.push(Received::Event(event));
            return Heard::Frame;
        }
        let reply = Reply::parse(payload);
        let link = &mut self.links[open.link];
        let Some(place) = open.pending.iter().position(|at| link.operations[*at].xid == reply.xid) else {
            self.oddities.push(format!("session 0x{:x}: {reply:?} answers nothing", link.session));
            return Heard::End;
        };
        let index = open.pending.remove(place).expect("it was found there");
        let operation = &mut link.operations[index];
        let outcome = match wire::decode(&operation.request, &reply) {
            Ok(outcome) => outcome,
            Err(why) => {
                self.oddities.push(format!("session 0x{:x}: {why}", link.session));
                return Heard::End;
            }
        };
        operation.answer = Some(Answer { returned: at, zxid: reply.zxid, err: reply.err, outcome });
        link.received.push(Received::Answer(index));
        let is_current = open.link + 1 == self.links.len();
        self.on_answer(open.link, index, is_current);
        if reply.err == SESSION_EXPIRED && is_current {
            self.forget();
            return Heard::End;
        }
        Heard::Frame
    }

    fn on_event(&mut self, event: &Event) {
        let Watches { data, exist, child, .. } = &mut self.watches;
        let fired: &mut [&mut BTreeSet<Text>] = match event.kind {
            NODE_CREATED | NODE_DATA_CHANGED => &mut [data, exist],
            NODE_DELETED => &mut [data, exist, child],
            NODE_CHILDREN_CHANGED => &mut [child],
            _ => &mut [],
        };
        fired.iter_mut().for_each(|paths| _ = paths.remove(&event.path));
    }

    fn on_answer(&mut self, link: usize, index: usize, is_current: bool) {
        let operation = &self.links[link].operations[index];
        let Some(answer) = &operation.answer else { return };
        let counter = if operation.request.is_write() { &self.progress.writes } else { &self.progress.reads };
        if answer.err == 0 {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if !is_current {
            return;
        }
        self.seen = self.seen.max(answer.zxid);
        let is_absent = answer.err == super::model::NO_NODE;
        let is_ok = answer.err == 0;
        match (&operation.request, &answer.outcome) {
            (Request::Exists { path, watch: Watch::Yes }, _) if is_ok => _ = self.watches.data.insert(path.clone()),
            (Request::Exists { path, watch: Watch::Yes }, _) if is_absent && !self.watches.data.contains(path) => {
                self.watches.exist.insert(path.clone());
            }
            (Request::GetData { path, watch }, Outcome::Data(_, stat)) => {
                if *watch == Watch::Yes && !self.watches.exist.contains(path) {
                    self.watches.data.insert(path.clone());
                }
                self.versions.insert(path.clone(), stat.version);
            }
            (Request::GetChildren { path, watch, .. }, Outcome::Children(names, _)) => {
                if *watch == Watch::Yes {
                    self.watches.child.insert(path.clone());
                }
                if *path == "/q" {
                    self.queue = names.iter().map(|name| Text::from(format!("/q/{name}"))).collect();
                }
            }
            (Request::AddWatch { path, mode: Mode::Persistent }, _) if is_ok => {
                self.watches.persistent.insert(path.clone());
            }
            (Request::AddWatch { path, mode: Mode::Recursive }, _) if is_ok => {
                self.watches.recursive.insert(path.clone());
            }
            (Request::SetData { path, .. }, Outcome::Stat(stat)) => {
                self.versions.insert(path.clone(), stat.version);
            }
            (Request::Create { flags, .. }, Outcome::Path(path) | Outcome::PathAndStat(path, _))
                if flags & SEQUENTIAL != 0 =>
            {
                self.queue.push_back(path.clone());
            }
            _ => {}
        }
    }

    // ---- what to ask for ----

    fn request(&mut self) -> Request {
        match self.random.below(100) {
            0..45 => self.write(),
            45..53 => {
                let count = 2 + self.random.below(3);
                Request::Multi((0..count).map(|_| self.part()).collect())
            }
            53..56 => Request::Sync { path: "/k".into() },
            56..57 => {
                let mode = if self.random.percent(50) { Mode::Persistent } else { Mode::Recursive };
                let path = match mode {
                    Mode::Persistent => self.random.pick(&["/e", "/d/0", "/d/1", "/k/0"]),
                    Mode::Recursive => self.random.pick(&["/d", "/d/2", "/a/0"]),
                };
                Request::AddWatch { path: path.into(), mode }
            }
            57..58 => Request::Ping,
            _ => self.read(),
        }
    }

    fn read(&mut self) -> Request {
        let watch = if self.random.percent(20) { Watch::Yes } else { Watch::No };
        match self.random.below(10) {
            0..4 => Request::GetData { path: self.some_path(), watch },
            4..7 => Request::Exists { path: self.some_path(), watch },
            7..9 => {
                let path = Text::from(self.random.pick(&["/q", "/d", "/e", "/d/0", "/d/1", "/a/0", "/k"]));
                Request::GetChildren { path, watch, with_stat: self.random.percent(50) }
            }
            _ => Request::GetAcl { path: self.some_path() },
        }
    }

    fn write(&mut self) -> Request {
        match self.random.below(100) {
            0..12 => {
                if self.queue.len() > QUEUE
                    && let Some(path) = self.queue.pop_front()
                {
                    return Request::Delete { path, version: -1 };
                }
                let flags = SEQUENTIAL | if self.random.percent(30) { EPHEMERAL } else { 0 };
                self.create("/q/n-".into(), flags)
            }
            12..16 => match self.queue.pop_front() {
                Some(path) => Request::Delete { path, version: -1 },
                None => self.single(),
            },
            16..20 => {
                let path = format!("/a/{}", self.random.below(GUARDED)).into();
                // They can always be read and given back.
                let perms = READ | ADMIN | self.random.pick(&[0, WRITE, CREATE, DELETE, WRITE | CREATE | DELETE]);
                Request::SetAcl { path, perms, version: self.random.pick(&[-1, -1, -1, 3]) }
            }
            _ => self.single(),
        }
    }

    fn part(&mut self) -> Request {
        if self.random.percent(20) {
            let path = self.some_path();
            let version = self.version(&path);
            return Request::Check { path, version };
        }
        if self.random.percent(15) {
            return self.create("/q/m-".into(), SEQUENTIAL);
        }
        self.single()
    }

    fn single(&mut self) -> Request {
        match self.random.below(10) {
            0..5 => {
                let path = match self.random.below(10) {
                    0..6 => format!("/k/{}", self.random.below(REGISTERS)).into(),
                    _ => self.some_path(),
                };
                let version = self.version(&path);
                Request::SetData { path, data: self.data(), version }
            }
            5..8 => {
                let path = self.changing_path();
                let flags = if path.starts_with("/e/") || self.random.percent(10) { EPHEMERAL } else { 0 };
                self.create(path, flags)
            }
            _ => {
                let path = self.changing_path();
                let version = self.version(&path);
                Request::Delete { path, version }
            }
        }
    }

    fn create(&mut self, path: Text, flags: i32) -> Request {
        Request::Create { path, data: self.data(), perms: ALL, flags, with_stat: self.random.percent(40) }
    }

    /// One that comes and goes.
    fn changing_path(&mut self) -> Text {
        let name = self.random.below(NAMES);
        match self.random.below(10) {
            0..3 => format!("/d/{name}").into(),
            3..6 => format!("/d/{name}/{}", self.random.below(3)).into(),
            6..9 => format!("/e/{}", self.random.below(EPHEMERALS)).into(),
            _ => format!("/a/{}/x", self.random.below(GUARDED)).into(),
        }
    }

    fn some_path(&mut self) -> Text {
        match self.random.below(10) {
            0..4 => format!("/k/{}", self.random.below(REGISTERS)).into(),
            4..5 => format!("/a/{}", self.random.below(GUARDED)).into(),
            5..6 => self.queue.front().cloned().unwrap_or_else(|| "/q".into()),
            _ => self.changing_path(),
        }
    }

    /// Any version, the right one or a wrong one.
    fn version(&mut self, path: &Text) -> i32 {
        let known = self.versions.get(path).copied().unwrap_or(0);
        self.random.weighted(&[(6, -1), (3, known), (1, known + 1)])
    }

    /// Data that no other request has: mostly short, now and then several sectors.
    fn data(&mut self) -> Bytes {
        self.asked += 1;
        let length = match self.random.below(100) {
            0 => 500 + self.random.below(4000),
            _ => self.random.below(60),
        };
        format!("{}-{}-{}", self.id, self.asked, "x".repeat(length)).into()
    }
}

/// A client that reads everything, for the end.
pub struct Reader {
    server: usize,
    connection: Connection,
    xid: i32,
}

impl Reader {
    pub fn connect(server: usize, address: SocketAddr) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("server {server}: {e}");
        let mut connection = Connection::open_within(address, CONNECT).map_err(failed)?;
        connection.send(&Connect { time_out: 4000, ..Connect::default() }.payload());
        match connection.receive(Duration::from_secs(3)) {
            raw::Received::Frame(payload) => {
                let session = Session::parse(&payload)?;
                if session.time_out <= 0 {
                    return Err(format!("server {server} refused a new session"));
                }
                Ok(Self { server, connection, xid: 0 })
            }
            other => Err(format!("server {server}: {other:?} instead of a session")),
        }
    }

    fn call(&mut self, request: &Request) -> Result<(i64, Outcome), String> {
        let (op, body) = wire::encode(request);
        self.xid += 1;
        self.connection.send(&raw::request(self.xid, op, &Vec::from(body)));
        match self.connection.receive(Duration::from_secs(3)) {
            raw::Received::Frame(payload) => {
                let reply = Reply::parse(payload);
                if reply.xid != self.xid || reply.err != 0 {
                    return Err(format!("server {}: {reply:?} to {request:?}", self.server));
                }
                Ok((reply.zxid, wire::decode(request, &reply)?))
            }
            other => Err(format!("server {}: {other:?} instead of an answer to {request:?}", self.server)),
        }
    }

    /// The whole tree; an error if it changes meanwhile.
    pub fn dump(&mut self) -> Result<Dump, String> {
        let server = self.server;
        let (zxid, _) = self.call(&Request::Sync { path: "/".into() })?;
        let same = |now: i64| if now == zxid { Ok(()) } else { Err(format!("server {server}: it still changes")) };
        let mut dump = Dump { server, zxid, ..Dump::default() };
        let mut todo = vec![Text::from("/")];
        while let Some(path) = todo.pop() {
            let children = Request::GetChildren { path: path.clone(), watch: Watch::No, with_stat: false };
            let (at, outcome) = self.call(&children)?;
            same(at)?;
            let Outcome::Children(names, _) = outcome else { unreachable!("children were asked for") };
            let above = if path == "/" { "" } else { &*path };
            let below = names.iter().map(|name| Text::from(format!("{above}/{name}")));
            todo.extend(below.filter(|path| !super::model::is_built_in(path)));
            if path == "/" {
                continue;
            }
            let (at, outcome) = self.call(&Request::GetData { path: path.clone(), watch: Watch::No })?;
            same(at)?;
            let Outcome::Data(data, stat) = outcome else { unreachable!("data was asked for") };
            let (at, outcome) = self.call(&Request::GetAcl { path: path.clone() })?;
            same(at)?;
            let Outcome::Acl(perms, _) = outcome else { unreachable!("rights were asked for") };
            dump.nodes.insert(path, Dumped { data, perms, stat });
        }
        Ok(dump)
    }
}
