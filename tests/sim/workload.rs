//! Clients, written without a look at the server: sessions that outlive connections, requests in a pipeline,
//! watches, pings, and the rules by which the Java client leaves one server and tries the next.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use jute::op;
use jute::records::data::Stat;
use jute::records::proto as wire;
use jute::{Reader, Record};

use crate::clock::{MS, SECOND, Time};
use crate::net::{ConnNo, Host, Net, Port, Side};
use crate::oracle::{
    self, ADMIN, ALL, CREATE, Change, DELETE, Made, Model, OPERATION_TIMEOUT, READ, SESSION_EXPIRED, SESSION_MOVED,
    Said, WRITE, Watched, broken, holds,
};
use crate::random::{Draw, Random};
use crate::world::{Event, Schedule};

/// What clients do, and how often.
#[derive(Clone, Debug)]
pub struct WorkRules {
    /// Pause between requests at most; 0 keeps the window full.
    pub think: Time,
    pub window: usize,
    pub timeout_ms: i32,
    /// Weights, in the order of [`KINDS`].
    pub weights: [u64; KINDS],
    /// In a thousand reads, those that leave a watch.
    pub watches: u64,
    /// In a thousand writes, those that name a version.
    pub versions: u64,
    /// Requests of one client at most.
    pub requests: u64,
}

/// create, ephemeral, sequential, delete, set, multi, read, children, sync, close, container or TTL, access list, a watch
/// that stays.
pub const KINDS: usize = 13;

#[derive(Clone, Debug)]
enum Ask {
    Change(Change),
    Get { path: String, watch: bool },
    Exists { path: String, watch: bool },
    Children { path: String, watch: bool },
    GetAcl { path: String },
    AddWatch { path: String, recursive: bool },
    Sync,
    SetWatches,
    Close,
}

#[derive(Debug)]
struct Pending {
    xid: i32,
    ask: Ask,
    /// The highest zxid of a write that was answered before this was asked.
    floor: i64,
}

#[derive(Clone, Debug)]
struct Watch {
    path: String,
    watched: Watched,
    /// Nothing that it waits for happened up to here.
    since: i64,
    /// It was carried to a new connection: an event may come without a zxid.
    carried: bool,
    /// The server has not been told of it on this connection yet.
    unsent: bool,
}

/// A watch that stays.
#[derive(Clone, Debug)]
struct Persistent {
    path: String,
    recursive: bool,
    /// What happened before this place is heard of, or will not be.
    heard: usize,
    unsent: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Idle,
    Dialling,
    /// The ConnectRequest is sent.
    Asking,
    Connected,
}

pub struct Client {
    pub host: Host,
    rules: WorkRules,
    random: Random,
    servers: Vec<Host>,
    next_server: usize,
    state: State,
    conn: Option<ConnNo>,
    inbox: BytesMut,
    pub session: i64,
    password: Bytes,
    timeout_ms: i32,
    last_zxid: i64,
    xid: i32,
    asked: u64,
    pending: VecDeque<Pending>,
    watches: Vec<Watch>,
    persistent: Vec<Persistent>,
    versions: BTreeMap<String, i32>,
    /// When the current attempt began, and when something was last heard.
    heard: Time,
    sent: Time,
    ping_under_way: bool,
    next_ask: Time,
    wake: Option<Time>,
    /// Instead of a number of requests.
    until_writes: Option<u64>,
    /// The newest leadership when it asked for its session.
    leadership: u64,
    counter: u64,
    pub stats: ClientStats,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct ClientStats {
    pub answered: u64,
    pub writes: u64,
    pub events: u64,
    pub connects: u64,
    pub expired: u64,
    pub unknown: u64,
}

/// What the client sees of the world.
pub struct Sight<'a> {
    pub net: &'a mut Net,
    pub schedule: &'a mut Schedule,
    pub model: &'a Model,
    pub committed_at: &'a BTreeMap<i64, Time>,
    /// The highest zxid of any answered write.
    pub acknowledged: &'a mut i64,
    /// The newest leadership, and whether the server at the other end follows it.
    pub leadership: u64,
    pub is_current: &'a dyn Fn(Host) -> bool,
    pub note: &'a mut dyn FnMut(&dyn Fn() -> String),
}

impl Client {
    pub fn new(host: Host, servers: Vec<Host>, rules: WorkRules, random: Random) -> Self {
        let timeout_ms = rules.timeout_ms;
        Self {
            host,
            rules,
            random,
            servers,
            next_server: 0,
            state: State::Idle,
            conn: None,
            inbox: BytesMut::new(),
            session: 0,
            password: Bytes::from_static(&[0; 16]),
            timeout_ms,
            last_zxid: 0,
            xid: 0,
            asked: 0,
            pending: VecDeque::new(),
            watches: Vec::new(),
            persistent: Vec::new(),
            versions: BTreeMap::new(),
            heard: 0,
            sent: 0,
            ping_under_way: false,
            next_ask: 0,
            wake: None,
            until_writes: None,
            leadership: 0,
            counter: 0,
            stats: ClientStats::default(),
        }
    }

    fn wake_at(&mut self, sight: &mut Sight<'_>, at: Time) {
        let at = at.max(sight.schedule.now());
        if self.wake.is_none_or(|wake| at < wake) {
            self.wake = Some(at);
            sight.schedule.at(at, Event::Client { host: self.host, due: at });
        }
    }

    /// Goes on asking until so many more writes were answered.
    pub fn ask_more(&mut self, writes: u64) {
        self.until_writes = Some(self.stats.writes + writes);
    }

    pub fn is_quiet(&self) -> bool {
        self.state == State::Connected && self.pending.is_empty() && self.has_asked_all()
    }

    /// The connection that it has, and its session.
    pub fn held(&self) -> Option<(ConnNo, i64)> {
        self.conn.filter(|_| self.state == State::Connected).map(|conn| (conn, self.session))
    }

    pub fn has_asked_all(&self) -> bool {
        self.until_writes.map_or(self.asked >= self.rules.requests, |writes| self.stats.writes >= writes)
    }

    pub fn begin(&mut self, sight: &mut Sight<'_>) {
        self.dial(sight);
    }

    /// There is more to ask.
    pub fn go_on(&mut self, sight: &mut Sight<'_>) {
        if self.state == State::Connected {
            self.next_ask = sight.schedule.now();
            self.wake_at(sight, self.next_ask);
        }
    }

    pub fn on_wake(&mut self, sight: &mut Sight<'_>, due: Time) {
        if self.wake != Some(due) {
            return;
        }
        self.wake = None;
        let now = sight.schedule.now();
        let patience = Time::from(self.timeout_ms as u32) * MS;
        match self.state {
            State::Idle => self.dial(sight),
            State::Dialling | State::Asking => {
                // Java: connectTimeout is the session's timeout over the number of servers.
                let limit = (patience / self.servers.len() as u64).max(20 * MS);
                if now >= self.heard + limit { self.disconnect(sight) } else { self.wake_at(sight, self.heard + limit) }
            }
            State::Connected => {
                let read_timeout = patience * 2 / 3;
                if now >= self.heard + read_timeout {
                    return self.disconnect(sight);
                }
                if now >= self.sent + read_timeout / 2 && !self.ping_under_way {
                    self.ping_under_way = true;
                    self.send(sight, -2, op::PING, &[]);
                }
                self.ask_while_due(sight);
                let next = if self.may_ask() { self.next_ask } else { Time::MAX };
                let ping = if self.ping_under_way { Time::MAX } else { self.sent + read_timeout / 2 };
                self.wake_at(sight, next.min(ping).min(self.heard + read_timeout));
            }
        }
    }

    fn dial(&mut self, sight: &mut Sight<'_>) {
        let server = self.servers[self.next_server % self.servers.len()];
        self.next_server += 1;
        self.state = State::Dialling;
        self.heard = sight.schedule.now();
        self.conn = Some(sight.net.dial(sight.schedule, (self.host, 0), server, Port::Client));
        self.wake_at(sight, self.heard + SECOND);
    }

    /// Whatever is under way has an unknown end.
    fn disconnect(&mut self, sight: &mut Sight<'_>) {
        if let Some(conn) = self.conn.take() {
            sight.net.close(sight.schedule, conn, Side::Dialler);
        }
        self.lose(sight);
    }

    fn lose(&mut self, sight: &mut Sight<'_>) {
        self.conn = None;
        self.inbox.clear();
        self.stats.unknown += self.pending.len() as u64;
        let closing = self.pending.iter().any(|pending| matches!(pending.ask, Ask::Close));
        self.pending.clear();
        self.ping_under_way = false;
        // A watch whose request had no answer was never armed for the client.
        for watch in &mut self.watches {
            (watch.carried, watch.unsent) = (true, true);
            watch.since = watch.since.max(self.last_zxid);
        }
        self.persistent.iter_mut().for_each(|watch| watch.unsent = true);
        if closing {
            self.begin_anew();
        }
        self.state = State::Idle;
        // After a whole round a pause, as StaticHostProvider has it.
        let pause = if self.next_server.is_multiple_of(self.servers.len()) { 1000 } else { 50 };
        let at = sight.schedule.now() + self.random.below(pause * MS) + MS;
        self.wake = None;
        self.wake_at(sight, at);
    }

    fn begin_anew(&mut self) {
        self.session = 0;
        self.password = Bytes::from_static(&[0; 16]);
        self.last_zxid = 0;
        self.watches.clear();
        self.persistent.clear();
        self.versions.clear();
    }

    /// Its attempt to connect is over.
    pub fn on_dialled(&mut self, sight: &mut Sight<'_>, conn: ConnNo, connected: bool) {
        if self.conn != Some(conn) || self.state != State::Dialling {
            return;
        }
        if !connected {
            return self.lose(sight);
        }
        self.stats.connects += 1;
        self.leadership = sight.leadership;
        self.state = State::Asking;
        let mut out = BytesMut::new();
        out.put_i32(0);
        let request = wire::ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: self.last_zxid,
            time_out: self.rules.timeout_ms,
            session_id: self.session,
            passwd: Some(self.password.clone()),
        };
        out.extend_from_slice(&jute::encode(&request));
        out.put_u8(0);
        self.send_frame(sight, out);
    }

    fn send_frame(&mut self, sight: &mut Sight<'_>, mut frame: BytesMut) {
        let length = frame.len() as i32 - 4;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.sent = sight.schedule.now();
        let conn = self.conn.expect("connected");
        sight.net.send(sight.schedule, conn, Side::Dialler, frame.freeze());
    }

    fn send(&mut self, sight: &mut Sight<'_>, xid: i32, op: i32, body: &[u8]) {
        let mut out = BytesMut::new();
        out.put_i32(0);
        out.extend_from_slice(&jute::encode(&wire::RequestHeader { xid, op }));
        out.extend_from_slice(body);
        self.send_frame(sight, out);
    }

    pub fn on_end(&mut self, sight: &mut Sight<'_>, conn: ConnNo) {
        if self.conn == Some(conn) {
            self.lose(sight);
        }
    }

    pub fn on_bytes(&mut self, sight: &mut Sight<'_>, conn: ConnNo, bytes: &Bytes) {
        if self.conn != Some(conn) {
            return;
        }
        self.heard = sight.schedule.now();
        self.inbox.extend_from_slice(bytes);
        while let Some(length) = self.inbox.first_chunk::<4>().map(|length| u32::from_be_bytes(*length) as usize) {
            if self.inbox.len() < 4 + length || self.conn != Some(conn) {
                break;
            }
            self.inbox.advance(4);
            let frame = self.inbox.split_to(length).freeze();
            match self.state {
                State::Asking => self.on_session(sight, conn, frame),
                State::Connected => self.on_frame(sight, frame),
                state => broken!("R4", "client {} hears {frame:?} while {state:?}", self.host),
            }
        }
    }

    fn on_session(&mut self, sight: &mut Sight<'_>, conn: ConnNo, frame: Bytes) {
        let response = wire::ConnectResponse::read(&mut Reader::new(frame)).expect("a ConnectResponse");
        if response.time_out <= 0 {
            holds!("E4", response.session_id == 0, "a session is refused by the name of {:#x}", response.session_id);
            holds!("E4", self.session != 0, "a new session is refused");
            let expired = sight.model.sessions.get(&self.session).is_some_and(|session| session.closed.is_some());
            (sight.note)(&|| format!("client {} lost session {:#x}, closed: {expired}", self.host, self.session));
            self.stats.expired += 1;
            self.begin_anew();
            sight.net.close(sight.schedule, conn, Side::Dialler);
            return self.lose(sight);
        }
        let known = self.session;
        holds!(
            "E4",
            known == 0 || known == response.session_id,
            "session {known:#x} came back as {:#x}",
            response.session_id
        );
        let there = sight.model.sessions.get(&response.session_id);
        if let Some(closed) = there.and_then(|session| session.closed) {
            // It was over before it was asked for, and the server knew of that, or follows who did.
            let since = sight.committed_at.get(&closed).copied().unwrap_or(Time::MAX);
            let server = sight.net.holder(conn, Side::Listener).map(|(host, ..)| host);
            let current =
                server.is_some_and(|server| (sight.is_current)(server)) && self.leadership == sight.leadership;
            holds!("E5", !current || since >= self.sent, "session {known:#x} is attached again, closed at {closed:#x}");
        }
        holds!("E4", there.is_some(), "session {:#x} is there, but was never committed", response.session_id);
        holds!(
            "E4",
            known != 0 || there.is_some_and(|session| session.opened > 0),
            "session {:#x}",
            response.session_id
        );
        self.session = response.session_id;
        self.password = response.passwd.expect("a password");
        self.timeout_ms = response.time_out;
        self.state = State::Connected;
        (sight.note)(&|| format!("client {} has session {:#x}", self.host, self.session));
        if !self.watches.is_empty() || !self.persistent.is_empty() {
            let list = |watched: Watched| {
                Some(
                    self.watches
                        .iter()
                        .filter(|w| w.watched == watched)
                        .map(|w| Some(w.path.as_str().into()))
                        .collect::<Vec<_>>(),
                )
            };
            let staying = |recursive: bool| {
                let those = self.persistent.iter().filter(|watch| watch.recursive == recursive);
                Some(those.map(|watch| Some(watch.path.as_str().into())).collect::<Vec<_>>())
            };
            let relative_zxid = self.last_zxid;
            let (data, exist, child) = (list(Watched::Data), list(Watched::Missing), list(Watched::Children));
            let (op, body) = if self.persistent.is_empty() {
                (op::SET_WATCHES, jute::encode(&wire::SetWatches { relative_zxid, data, exist, child }))
            } else {
                let (persistent, persistent_recursive) = (staying(false), staying(true));
                let all = wire::SetWatches2 { relative_zxid, data, exist, child, persistent, persistent_recursive };
                (op::SET_WATCHES2, jute::encode(&all))
            };
            // Java sends it under an xid of its own.
            self.put(sight, Ask::SetWatches, -8, op, &body);
        }
        self.next_ask = sight.schedule.now();
        self.wake = None;
        self.wake_at(sight, self.next_ask);
    }

    fn put(&mut self, sight: &mut Sight<'_>, ask: Ask, xid: i32, op: i32, body: &[u8]) {
        self.pending.push_back(Pending { xid, ask, floor: *sight.acknowledged });
        self.send(sight, xid, op, body);
    }

    fn may_ask(&self) -> bool {
        self.pending.len() < self.rules.window
            && !self.has_asked_all()
            && !self.pending.iter().any(|pending| matches!(pending.ask, Ask::Close))
    }

    fn ask_while_due(&mut self, sight: &mut Sight<'_>) {
        while self.may_ask() && self.next_ask <= sight.schedule.now() {
            self.asked += 1;
            self.next_ask =
                sight.schedule.now() + if self.rules.think > 0 { self.random.around(self.rules.think) } else { 0 };
            let ask = self.draw();
            (sight.note)(&|| format!("client {} asks {ask:?}", self.host));
            self.xid += 1;
            let (op, body) = encode(&ask);
            self.put(sight, ask, self.xid, op, &body);
        }
    }

    fn home(&mut self) -> String {
        let at = self.random.below(3);
        format!("/d{at}")
    }

    fn path(&mut self) -> String {
        let (home, at) = (self.home(), self.random.below(4));
        if self.random.permille(150) { home } else { format!("{home}/n{at}") }
    }

    fn version(&mut self, path: &str) -> i32 {
        if !self.random.permille(self.rules.versions) {
            return -1;
        }
        match self.versions.get(path) {
            Some(version) if self.random.permille(800) => *version,
            _ => self.random.below(4) as i32,
        }
    }

    /// Whoever may not read hears of no change either, so everybody may; and whoever may change that again, so that not
    /// all is forbidden for ever.
    fn perms(&mut self) -> i32 {
        if self.random.permille(850) {
            return ALL;
        }
        READ | ADMIN | *self.random.pick(&[0, WRITE, CREATE, DELETE, WRITE | CREATE, CREATE | DELETE, WRITE | DELETE])
    }

    fn ttl(&mut self) -> i64 {
        *self.random.pick(&[1, 40, 300, 1500, 8000])
    }

    fn data(&mut self) -> Bytes {
        self.counter += 1;
        let long = if self.random.permille(30) { self.random.below(3000) as usize } else { 0 };
        Bytes::from(format!("{}-{}{}", self.host, self.counter, "x".repeat(long)))
    }

    fn draw(&mut self) -> Ask {
        let total: u64 = self.rules.weights.iter().sum();
        let mut at = self.random.below(total);
        let kind = self.rules.weights.iter().position(|weight| {
            let here = at < *weight;
            at = at.wrapping_sub(*weight);
            here
        });
        let with_stat = self.random.permille(300);
        match kind.expect("below the total") {
            0 => Ask::Change(Change::Create {
                path: self.path(),
                data: self.data(),
                made: Made::Plain,
                perms: self.perms(),
                sequential: false,
                with_stat,
            }),
            1 => Ask::Change(Change::Create {
                path: self.path(),
                data: self.data(),
                made: Made::Ephemeral,
                perms: self.perms(),
                sequential: false,
                with_stat,
            }),
            2 => {
                let home = self.home();
                let made = if self.random.permille(500) { Made::Ephemeral } else { Made::Plain };
                let path = format!("{home}/s-");
                let (data, perms) = (self.data(), self.perms());
                Ask::Change(Change::Create { path, data, made, perms, sequential: true, with_stat })
            }
            3 => {
                let path = self.path();
                Ask::Change(Change::Delete { version: self.version(&path), path })
            }
            4 => {
                let path = self.path();
                Ask::Change(Change::Set { version: self.version(&path), data: self.data(), path })
            }
            5 => {
                let count = self.random.between(1, 3);
                Ask::Change(Change::Multi((0..count).map(|_| self.member()).collect()))
            }
            6 => {
                let (path, watch) = (self.path(), self.random.permille(self.rules.watches));
                if self.random.permille(600) { Ask::Get { path, watch } } else { Ask::Exists { path, watch } }
            }
            7 => Ask::Children { path: self.home(), watch: self.random.permille(self.rules.watches) },
            8 => Ask::Sync,
            9 => Ask::Close,
            10 => {
                // Containers are parents, others anywhere.
                let made = if self.random.permille(500) { Made::Container } else { Made::Ttl(self.ttl()) };
                let path = if made == Made::Container { self.home() } else { self.path() };
                let (data, perms) = (self.data(), self.perms());
                Ask::Change(Change::Create { path, data, made, perms, sequential: false, with_stat: true })
            }
            12 => {
                let path = if self.random.permille(200) { "/".to_owned() } else { self.path() };
                // A path is watched in one way only.
                let recursive = path.matches('/').count() == 1;
                Ask::AddWatch { path, recursive }
            }
            _ => {
                let path = self.path();
                if self.random.permille(300) {
                    return Ask::GetAcl { path };
                }
                let version = if self.random.permille(self.rules.versions) { self.random.below(3) as i32 } else { -1 };
                Ask::Change(Change::SetAcl { path, perms: self.perms(), version })
            }
        }
    }

    fn member(&mut self) -> Change {
        let path = self.path();
        match self.random.below(4) {
            0 => {
                let (data, made, perms) = (self.data(), Made::Plain, self.perms());
                Change::Create { path, data, made, perms, sequential: false, with_stat: false }
            }
            1 => Change::Delete { version: self.version(&path), path },
            2 => Change::Check { version: self.version(&path), path },
            _ => Change::Set { version: self.version(&path), data: self.data(), path },
        }
    }

    fn on_frame(&mut self, sight: &mut Sight<'_>, frame: Bytes) {
        let mut r = Reader::new(frame);
        let wire::ReplyHeader { xid, zxid, err } = wire::ReplyHeader::read(&mut r).expect("a reply's header");
        match xid {
            -1 => return self.on_event(sight, zxid, &mut r),
            -2 => {
                self.ping_under_way = false;
                return self.sees(sight, zxid);
            }
            _ => {}
        }
        let Some(Pending { xid: expected, ask, floor }) = self.pending.pop_front() else {
            broken!("R4", "client {} hears {xid} and has asked nothing", self.host)
        };
        holds!("R4", xid == expected, "client {} hears {xid} where {expected} is next", self.host);
        (sight.note)(&|| format!("client {} hears {xid} at {zxid:#x}, error {err}, of {ask:?}", self.host));
        self.stats.answered += 1;
        if err == OPERATION_TIMEOUT || err == SESSION_MOVED {
            // Refused without a place in the order.
            return;
        }
        self.check(sight, &ask, floor, xid, zxid, err, &mut r);
        self.sees(sight, zxid);
        if let (Ask::Sync, 0) = (&ask, err) {
            // Whatever the server believes to be, and whoever leads meanwhile.
            holds!("Y2", zxid >= floor, "sync shows {zxid:#x}, but {floor:#x} was answered before");
        }
        if let (Ask::Close, 0) = (&ask, err) {
            self.begin_anew();
            if self.conn.is_some() {
                self.disconnect(sight);
            }
            return;
        }
        let now = sight.schedule.now();
        self.wake_at(sight, self.next_ask.max(now));
    }

    /// Every zxid that is shown: never back, and no watch is overtaken.
    fn sees(&mut self, sight: &mut Sight<'_>, zxid: i64) {
        holds!("R2", zxid >= self.last_zxid, "client {} is shown {zxid:#x} after {:#x}", self.host, self.last_zxid);
        self.last_zxid = zxid;
        for watch in self.watches.iter().filter(|watch| !watch.unsent) {
            let due = sight.model.first_change(&watch.path, watch.watched, watch.since);
            let late = due.is_some_and(|due| due <= zxid);
            holds!("V3", !late, "client {} is shown {zxid:#x} and waits for {watch:x?}, due at {due:x?}", self.host);
        }
        for watch in self.persistent.iter_mut().filter(|watch| !watch.unsent) {
            let (at, next) = sight.model.next_event(watch.heard, &watch.path, watch.recursive);
            watch.heard = at;
            let late = next.filter(|(due, ..)| *due <= zxid);
            holds!("V3", late.is_none(), "client {} is shown {zxid:#x}, {watch:?} has not told {late:x?}", self.host);
        }
    }

    fn on_event(&mut self, sight: &mut Sight<'_>, zxid: i64, r: &mut Reader) {
        let event = wire::WatcherEvent::read(r).expect("an event");
        let path = event.path.expect("a path").to_string();
        (sight.note)(&|| format!("client {} hears of {path}: {} at {zxid:#x}", self.host, event.event_type));
        self.stats.events += 1;
        let fires = |watch: &Watch| {
            watch.path == path
                && match (watch.watched, event.event_type) {
                    (Watched::Children, 4) | (Watched::Data, 2 | 3) | (Watched::Missing, 1) => true,
                    (Watched::Children, 2) => true,
                    // A data watch that was carried over fires for what became of the node meanwhile.
                    (Watched::Data, 1) | (Watched::Missing, 2 | 3) => watch.carried,
                    _ => false,
                }
        };
        // What is overdue is told for each list by itself, data first; a change tells a connection once.
        let order = [Watched::Data, Watched::Missing, Watched::Children];
        let overdue = order.iter().find_map(|kind| self.watches.iter().position(|w| w.watched == *kind && fires(w)));
        let fired: Vec<Watch> = match overdue {
            Some(at) if zxid == -1 => vec![self.watches.remove(at)],
            _ => self.watches.extract_if(.., |watch| fires(watch)).collect(),
        };
        let mut stays = false;
        for watch in self.persistent.iter_mut().filter(|watch| !watch.unsent && zxid > 0) {
            let (at, next) = sight.model.next_event(watch.heard, &watch.path, watch.recursive);
            let is_next = next == Some((zxid, event.event_type, &path));
            watch.heard = at + usize::from(is_next);
            stays |= is_next;
        }
        // A request whose answer is under way may have left the watch already; an answer comes first, always.
        holds!(
            "V4",
            stays || !fired.is_empty(),
            "client {} hears of {path} ({}) and waits for {:?}",
            self.host,
            event.event_type,
            self.watches
        );
        if zxid == -1 {
            holds!("V5", fired.iter().all(|watch| watch.carried), "an overdue event for {fired:?}");
        }
        for watch in &fired {
            let due = sight.model.first_change(&path, watch.watched, watch.since);
            match due {
                None => broken!(
                    "V4",
                    "client {} hears of {path}, where nothing happened since {:#x}",
                    self.host,
                    watch.since
                ),
                Some(_) if zxid == -1 || watch.carried => {}
                Some(due) => holds!("V3", due == zxid, "{path} changed at {due:#x}, the event says {zxid:#x}"),
            }
        }
        if zxid > 0 {
            holds!(
                "V2",
                zxid > self.last_zxid || zxid >= self.last_zxid,
                "client {} hears of {zxid:#x} after {:#x}",
                self.host,
                self.last_zxid
            );
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a request and its answer")]
    fn check(&mut self, sight: &mut Sight<'_>, ask: &Ask, floor: i64, xid: i32, zxid: i64, err: i32, r: &mut Reader) {
        let model = sight.model;
        match ask {
            Ask::Change(change) => {
                self.stats.writes += 1;
                let place = model.place_of(self.session, xid);
                holds!(
                    "W1",
                    place == Some(zxid),
                    "request {xid} of {:#x} is answered at {zxid:#x}, its place is {place:x?}",
                    self.session
                );
                holds!("W1", zxid > floor, "{zxid:#x} was asked for when {floor:#x} had been answered");
                *sight.acknowledged = (*sight.acknowledged).max(zxid);
                if err == SESSION_EXPIRED {
                    let closed = model.sessions.get(&self.session).and_then(|session| session.closed);
                    holds!(
                        "W3",
                        closed.is_some_and(|closed| closed < zxid),
                        "{:#x} is expired at {zxid:#x}, closed {closed:x?}",
                        self.session
                    );
                    return;
                }
                let said = read_said(change, err, r);
                let expected = oracle::expect(model, change, self.session, zxid);
                holds!("W3", said == expected, "{change:?} at {zxid:#x} says {said:?}, expected {expected:?}");
                self.learn(change, &said);
            }
            Ask::Get { path, watch } => {
                let node = model.at(path, zxid);
                holds!(
                    "R1",
                    err == node.map_or(oracle::NO_NODE, |_| 0),
                    "get {path} at {zxid:#x}: error {err}, the model has {node:?}"
                );
                if let Some(node) = node {
                    let got = wire::GetDataResponse::read(r).expect("a reply to getData");
                    let data = got.data.unwrap_or_default();
                    holds!("R1", data == node.data, "get {path} at {zxid:#x}: {data:?}, expected {:?}", node.data);
                    check_stat(model, path, zxid, &got.stat);
                    self.versions.insert(path.clone(), node.version);
                    if *watch {
                        self.watch(path, Watched::Data, zxid);
                    }
                }
            }
            Ask::Exists { path, watch } => {
                let there = model.at(path, zxid).is_some();
                holds!("R1", err == if there { 0 } else { oracle::NO_NODE }, "exists {path} at {zxid:#x}: error {err}");
                if there {
                    check_stat(model, path, zxid, &Stat::read(r).expect("a Stat"));
                }
                if *watch {
                    self.watch(path, if there { Watched::Data } else { Watched::Missing }, zxid);
                }
            }
            Ask::Children { path, watch } => {
                let node = model.at(path, zxid);
                holds!(
                    "R1",
                    err == node.map_or(oracle::NO_NODE, |_| 0),
                    "children of {path} at {zxid:#x}: error {err}"
                );
                if node.is_some() {
                    let got = wire::GetChildren2Response::read(r).expect("a reply to getChildren2");
                    let names = got.children.into_iter().flatten().flatten().map(|name| name.to_string()).collect();
                    let expected = model.children_at(path, zxid);
                    holds!(
                        "R1",
                        expected == names,
                        "children of {path} at {zxid:#x}: {names:?}, expected {expected:?}"
                    );
                    check_stat(model, path, zxid, &got.stat);
                    if *watch {
                        self.watch(path, Watched::Children, zxid);
                    }
                }
            }
            Ask::GetAcl { path } => {
                let node = model.at(path, zxid);
                let expected = node.map_or(oracle::NO_NODE, |_| 0);
                holds!("A1", err == expected, "getACL of {path} at {zxid:#x}: error {err}, expected {expected}");
                if let Some(node) = node {
                    let got = wire::GetAclResponse::read(r).expect("a reply to getACL");
                    let perms: Vec<i32> = got.acl.into_iter().flatten().map(|acl| acl.perms).collect();
                    holds!("A1", perms == [node.perms], "{path} has {perms:?} at {zxid:#x}, expected {}", node.perms);
                    check_stat(model, path, zxid, &got.stat);
                }
            }
            Ask::AddWatch { path, recursive } => {
                holds!("R1", err == 0, "addWatch of {path} says {err}");
                if !self.persistent.iter().any(|watch| watch.path == *path) {
                    let heard = model.changes_after(zxid);
                    self.persistent.push(Persistent {
                        path: path.clone(),
                        recursive: *recursive,
                        heard,
                        unsent: false,
                    });
                }
            }
            Ask::Sync => holds!("R1", err == 0, "sync says {err}"),
            Ask::SetWatches => {
                holds!("V5", err == 0, "setWatches says {err}");
                for watch in self.watches.iter_mut().filter(|watch| watch.unsent) {
                    // Created and deleted while nobody looked: that is not told.
                    let told = watch.watched != Watched::Missing || model.at(&watch.path, zxid).is_some();
                    let due =
                        model.first_change(&watch.path, watch.watched, watch.since).filter(|due| told && *due <= zxid);
                    holds!("V5", due.is_none(), "client {} was not told of {watch:x?}, due at {due:x?}", self.host);
                    (watch.since, watch.carried, watch.unsent) = (zxid, false, false);
                }
                // What happened meanwhile is not told.
                for watch in self.persistent.iter_mut().filter(|watch| watch.unsent) {
                    (watch.heard, watch.unsent) = (model.changes_after(zxid), false);
                }
            }
            Ask::Close => {
                let closed = model.sessions.get(&self.session).and_then(|session| session.closed);
                holds!(
                    "E1",
                    err != 0 || closed.is_some_and(|closed| closed <= zxid),
                    "{:#x} is closed at {zxid:#x}, in the order {closed:x?}",
                    self.session
                );
                *sight.acknowledged = (*sight.acknowledged).max(zxid);
            }
        }
    }

    fn watch(&mut self, path: &str, watched: Watched, since: i64) {
        let there = self.watches.iter().any(|watch| watch.path == path && watch.watched == watched);
        if !there {
            self.watches.push(Watch { path: path.to_owned(), watched, since, carried: false, unsent: false });
        }
    }

    fn learn(&mut self, change: &Change, said: &Said) {
        if let (Change::Set { path, .. }, Said::Stat(stat)) = (change, said) {
            self.versions.insert(path.clone(), stat.version);
        }
    }
}

fn check_stat(model: &Model, path: &str, zxid: i64, stat: &Stat) {
    let expected = model.stat_at(path, zxid).expect("the node is there");
    holds!("T1", *stat == expected, "{path} at {zxid:#x}: {stat:?}, expected {expected:?}");
}

fn text(out: &mut BytesMut, text: &str) {
    buffer(out, text.as_bytes());
}

fn buffer(out: &mut BytesMut, bytes: &[u8]) {
    out.put_i32(bytes.len() as i32);
    out.put_slice(bytes);
}

/// One entry: what world:anyone may do.
fn access(out: &mut BytesMut, perms: i32) {
    out.put_i32(1);
    out.put_i32(perms);
    text(out, "world");
    text(out, "anyone");
}

fn encode_change(change: &Change, out: &mut BytesMut) -> i32 {
    match change {
        Change::Create { path, data, made, perms, sequential, with_stat } => {
            text(out, path);
            buffer(out, data);
            access(out, *perms);
            let (flags, op) = match made {
                Made::Plain => (0, op::CREATE),
                Made::Ephemeral => (1, op::CREATE),
                Made::Container => (4, op::CREATE_CONTAINER),
                Made::Ttl(_) => (5, op::CREATE_TTL),
            };
            out.put_i32(flags | i32::from(*sequential) << 1);
            if let Made::Ttl(ms) = made {
                out.put_i64(*ms);
            }
            if *with_stat && op == op::CREATE { op::CREATE2 } else { op }
        }
        Change::SetAcl { path, perms, version } => {
            text(out, path);
            access(out, *perms);
            out.put_i32(*version);
            op::SET_ACL
        }
        Change::Delete { path, version } => {
            text(out, path);
            out.put_i32(*version);
            op::DELETE
        }
        Change::Set { path, data, version } => {
            text(out, path);
            buffer(out, data);
            out.put_i32(*version);
            op::SET_DATA
        }
        Change::Check { path, version } => {
            text(out, path);
            out.put_i32(*version);
            op::CHECK
        }
        Change::Multi(members) => {
            for member in members {
                let mut body = BytesMut::new();
                let op = encode_change(member, &mut body);
                out.extend_from_slice(&jute::encode(&wire::MultiHeader { op, done: false, err: -1 }));
                out.extend_from_slice(&body);
            }
            out.extend_from_slice(&jute::encode(&wire::MULTI_END));
            op::MULTI
        }
    }
}

fn encode(ask: &Ask) -> (i32, BytesMut) {
    let mut out = BytesMut::new();
    let op = match ask {
        Ask::Change(change) => encode_change(change, &mut out),
        Ask::Get { path, watch } | Ask::Exists { path, watch } | Ask::Children { path, watch } => {
            text(&mut out, path);
            out.put_u8((*watch).into());
            match ask {
                Ask::Get { .. } => op::GET_DATA,
                Ask::Exists { .. } => op::EXISTS,
                _ => op::GET_CHILDREN2,
            }
        }
        Ask::GetAcl { path } => {
            text(&mut out, path);
            op::GET_ACL
        }
        Ask::AddWatch { path, recursive } => {
            text(&mut out, path);
            out.put_i32((*recursive).into());
            op::ADD_WATCH
        }
        Ask::Sync => {
            text(&mut out, "/");
            op::SYNC
        }
        Ask::Close => op::CLOSE_SESSION,
        Ask::SetWatches => unreachable!("encoded where it is sent"),
    };
    (op, out)
}

fn read_said(change: &Change, err: i32, r: &mut Reader) -> Said {
    if err != 0 {
        return Said::Error(err);
    }
    match change {
        Change::Create { with_stat, .. } => {
            let path = r.text("path").expect("a path").expect("not null").to_string();
            if *with_stat { Said::PathStat(path, Stat::read(r).expect("a Stat")) } else { Said::Path(path) }
        }
        Change::Set { .. } | Change::SetAcl { .. } => Said::Stat(Stat::read(r).expect("a Stat")),
        Change::Delete { .. } | Change::Check { .. } => Said::Done,
        Change::Multi(members) => {
            let results = members.iter().map(|member| {
                let header = wire::MultiHeader::read(r).expect("a multi's header");
                if header.op == op::ERROR {
                    Said::Error(r.int("err").expect("an error"))
                } else {
                    read_said(member, 0, r)
                }
            });
            Said::Multi(results.collect())
        }
    }
}
