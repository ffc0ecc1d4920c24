//! A right history, told step by step by an ideal server, with names for the steps that somebody may want to
//! break.

use std::collections::{BTreeMap, HashMap};

use compat_tests::history::log::{Record, Txn};
use compat_tests::history::model::{self, Model};
use compat_tests::history::{
    Answer, Dump, Dumped, Event, History, Link, Mode, NODE_CHILDREN_CHANGED, NODE_CREATED, NODE_DATA_CHANGED,
    NODE_DELETED, Nanos, Operation, Outcome, Received, Request, Rewatch, Watch,
};
use jute::Text;

use super::{create, set};

pub const MILLISECOND: Nanos = 1_000_000;

/// The connections of the story.
pub const A: usize = 0;
pub const B: usize = 1;
pub const C: usize = 2;
pub const D: usize = 3;
pub const D2: usize = 4;
pub const A2: usize = 5;

#[derive(Default)]
pub struct Story {
    pub history: History,
    model: Model,
    log: Vec<Record>,
    zxid: i64,
    now: Nanos,
    xid: i32,
    /// Answers of writes that have happened.
    done: HashMap<(usize, usize), (i64, i32, Outcome)>,
    names: HashMap<(usize, &'static str), usize>,
    before_the_end: BTreeMap<Text, Dumped>,
    stranger: i64,
}

/// The whole story, with three members that agree.
pub fn story() -> Story {
    let mut s = Story { zxid: 0x1_0000_0000, ..Story::default() };
    let watch = Watch::Yes;
    let read = |path: &str, watch| Request::GetData { path: path.into(), watch };
    let exists = |path: &str, watch| Request::Exists { path: path.into(), watch };
    assert_eq!(s.session(0xa, 0, 4000), A);
    assert_eq!(s.session(0xb, 1, 4000), B);
    assert_eq!(s.session(0xc, 0, 1000), C);
    assert_eq!(s.session(0xd, 2, 4000), D);
    for path in ["/r", "/q", "/z", "/p", "/a", "/y"] {
        s.ask(A, create(path, "0", 0));
    }
    s.named(B, "first read", read("/r", watch));
    s.named(A, "second set", set("/r", "1", 0));
    s.event(B, NODE_DATA_CHANGED, "/r");
    s.named(B, "second read", read("/r", Watch::No));
    s.named(B, "third read", read("/r", Watch::No));

    s.ask(A, create("/q/n-", "", model::SEQUENTIAL));
    s.ask(B, create("/q/n-", "", model::SEQUENTIAL));
    s.ask(A, create("/e", "", model::EPHEMERAL));
    s.named(B, "exists ephemeral", exists("/e", watch));
    s.named(A, "multi", Request::Multi(vec![set("/r", "2", -1), create("/m", "x", 0)]));
    s.named(B, "read of the multi", read("/m", Watch::No));
    let check = Request::Check { path: "/r".into(), version: 98 };
    s.named(A, "failed multi", Request::Multi(vec![set("/y", "no", -1), check]));
    s.named(B, "delete nothing", Request::Delete { path: "/nope".into(), version: -1 });
    s.named(B, "exists gone", exists("/nope", Watch::No));
    s.ask(B, Request::Sync { path: "/".into() });
    s.named(B, "children", Request::GetChildren { path: "/q".into(), watch, with_stat: true });
    s.ask(A, Request::Delete { path: "/q/n-0000000000".into(), version: 0 });
    s.event(B, NODE_CHILDREN_CHANGED, "/q");
    s.named(A, "third in the queue", create("/q/n-", "", model::SEQUENTIAL));

    s.ask(A, Request::SetAcl { path: "/a".into(), perms: model::READ | model::ADMIN, version: -1 });
    s.named(B, "rights", Request::GetAcl { path: "/a".into() });
    s.named(C, "guarded write", set("/a", "mine", -1));

    s.ask(B, Request::AddWatch { path: "/r".into(), mode: Mode::Persistent });
    s.named(A, "third set", set("/r", "3", -1));
    s.event(B, NODE_DATA_CHANGED, "/r");
    s.ask(A, set("/r", "4", -1));
    s.event(B, NODE_DATA_CHANGED, "/r");
    s.named(B, "ping behind two events", Request::Ping);
    let one = s.send(B, Request::Ping);
    let two = s.send(B, exists("/p", Watch::No));
    s.names.insert((B, "first ping"), one);
    s.reply(B, one);
    s.reply(B, two);

    // Two at once.
    let one = s.send(A, set("/p", "1", -1));
    let two = s.send(A, set("/p", "2", -1));
    s.happen(A, one);
    s.happen(A, two);
    s.reply(A, one);
    s.reply(A, two);
    s.names.insert((A, "pipelined 1"), one);
    s.names.insert((A, "pipelined 2"), two);
    s.ask(B, set("/p", "3", -1));

    s.named(D, "before the sync", Request::Ping);
    s.ask(B, set("/z", "synced", -1));
    s.named(D, "sync", Request::Sync { path: "/".into() });

    // A loses its connection, with a watch and a write under way; so does D, that goes elsewhere.
    s.ask(A, exists("/x", watch));
    let seen = s.zxid;
    let unknown = s.send(A, set("/r", "5", -1));
    s.names.insert((A, "unknown"), unknown);
    s.happen(A, unknown);
    s.event(B, NODE_DATA_CHANGED, "/r");
    s.ask(B, create("/x", "", 0));
    assert_eq!(s.attach(0xd, 1, s.zxid), D2);
    assert_eq!(s.attach(0xa, 2, seen), A2);
    let rewatch = Rewatch { relative: seen, exist: vec!["/x".into()], data: vec!["/p".into()], ..Rewatch::default() };
    let at = s.send(A2, Request::SetWatches(rewatch));
    let event = Event { at: s.now, zxid: -1, kind: NODE_CREATED, path: "/x".into() };
    s.history.links[A2].received.push(Received::Event(event));
    s.reply(A2, at);
    s.named(A2, "close", Request::CloseSession);
    s.event(B, NODE_DELETED, "/e");

    // Somebody whose connection nobody recorded.
    s.stranger = s.zxid + 1;
    s.append(0x99, 0, Txn::OpenSession { timeout_ms: 4000 });
    s.append(0x99, 7, Txn::CloseSession { paths: Vec::new() });

    // C has an ephemeral, falls silent, and comes back too late.
    s.ask(C, create("/c", "", model::EPHEMERAL));
    s.now += 1001 * MILLISECOND;
    let paths = s.model.ephemerals(0xc);
    s.append(0xc, 0, Txn::CloseSession { paths });

    s.before_the_end = s.model.dump();
    s.named(B, "last write", set("/z", "last", -1));
    s.named(D2, "last read of all", read("/z", Watch::No));
    s.named(B, "last read", read("/z", Watch::No));
    s.end()
}

impl Story {
    // ---- telling it ----

    pub fn session(&mut self, session: i64, server: usize, timeout_ms: i32) -> usize {
        self.append(session, 0, Txn::OpenSession { timeout_ms });
        self.link(0, session, server, timeout_ms, 0)
    }

    pub fn attach(&mut self, session: i64, server: usize, last_seen: i64) -> usize {
        self.link(session, session, server, 4000, last_seen)
    }

    fn link(&mut self, wanted: i64, session: i64, server: usize, timeout_ms: i32, last_seen: i64) -> usize {
        let asked = self.tick();
        let attached = self.tick();
        let (operations, received) = (Vec::new(), Vec::new());
        let client = session as usize;
        self.history.links.push(Link {
            client,
            server,
            wanted,
            session,
            timeout_ms,
            last_seen,
            asked,
            attached,
            operations,
            received,
        });
        self.history.links.len() - 1
    }

    /// A request and its answer.
    pub fn ask(&mut self, link: usize, request: Request) -> usize {
        let is_write = request.is_write();
        let at = self.send(link, request);
        if is_write {
            self.happen(link, at);
        }
        self.reply(link, at);
        at
    }

    fn named(&mut self, link: usize, name: &'static str, request: Request) {
        let at = self.ask(link, request);
        self.names.insert((link, name), at);
    }

    pub fn send(&mut self, link: usize, request: Request) -> usize {
        self.xid += 1;
        let (xid, invoked) = (self.xid, self.tick());
        let operations = &mut self.history.links[link].operations;
        operations.push(Operation { xid, invoked, request, answer: None });
        operations.len() - 1
    }

    /// A write takes its place.
    pub fn happen(&mut self, link: usize, at: usize) {
        let session = self.history.links[link].session;
        let Operation { xid, request, .. } = self.history.links[link].operations[at].clone();
        let time = self.wall();
        let txn = self.model.decide(session, self.zxid + 1, time, &request);
        let (err, outcome) = self.append(session, xid, txn);
        self.done.insert((link, at), (self.zxid, err, outcome.shaped_by(&request)));
    }

    fn reply(&mut self, link: usize, at: usize) {
        let request = self.history.links[link].operations[at].request.clone();
        let (zxid, err, outcome) = self.done.remove(&(link, at)).unwrap_or_else(|| {
            let (err, outcome) = self.model.read(&request);
            (self.zxid, err, outcome)
        });
        self.answer(link, at, zxid, err, outcome);
    }

    pub fn answer(&mut self, link: usize, at: usize, zxid: i64, err: i32, outcome: Outcome) {
        let returned = self.tick();
        let link = &mut self.history.links[link];
        link.operations[at].answer = Some(Answer { returned, zxid, err, outcome });
        link.received.push(Received::Answer(at));
    }

    fn event(&mut self, link: usize, kind: i32, path: &str) {
        let (at, zxid) = (self.tick(), self.zxid);
        self.history.links[link].received.push(Received::Event(Event { at, zxid, kind, path: path.into() }));
    }

    fn append(&mut self, session: i64, cxid: i32, txn: Txn) -> (i32, Outcome) {
        self.zxid += 1;
        let record = Record { zxid: self.zxid, session, cxid, time: self.wall(), txn };
        let answer = self.model.apply(&record, &mut Vec::new());
        self.log.push(record);
        answer
    }

    pub fn new_epoch(&mut self) {
        self.zxid = ((self.zxid >> 32) + 1) << 32;
    }

    pub fn skip_zxid(&mut self) {
        self.zxid += 1;
    }

    fn tick(&mut self) -> Nanos {
        self.now += MILLISECOND;
        self.now
    }

    /// All members have everything.
    pub fn end_here(&mut self) {
        self.history.logs = vec![self.log.clone(); 3];
        let nodes = self.model.dump();
        let dump = |server| Dump { server, zxid: self.zxid, nodes: nodes.clone() };
        self.history.dumps = (0..3).map(dump).collect();
    }

    pub fn end(mut self) -> Self {
        self.end_here();
        self
    }

    // ---- breaking it ----

    pub fn zxid(&self) -> i64 {
        self.zxid
    }

    pub fn now(&self) -> Nanos {
        self.now
    }

    pub fn wall(&self) -> i64 {
        (self.now / MILLISECOND) as i64
    }

    fn index(&self, link: usize, name: &'static str) -> usize {
        *self.names.get(&(link, name)).unwrap_or_else(|| panic!("link {link} has no {name}"))
    }

    pub fn operation_mut(&mut self, link: usize, name: &'static str) -> &mut Operation {
        let at = self.index(link, name);
        &mut self.history.links[link].operations[at]
    }

    pub fn answer_of(&mut self, link: usize, name: &'static str) -> &Answer {
        self.answer_mut(link, name)
    }

    pub fn answer_mut(&mut self, link: usize, name: &'static str) -> &mut Answer {
        self.operation_mut(link, name).answer.as_mut().expect("it was answered")
    }

    /// Where the answer stands among what was received.
    pub fn position(&self, link: usize, name: &'static str) -> usize {
        let at = Received::Answer(self.index(link, name));
        self.history.links[link].received.iter().position(|received| *received == at).expect("it was answered")
    }

    /// Changes the log of every member.
    pub fn logs(&mut self, change: impl Fn(&mut Vec<Record>)) {
        self.history.logs.iter_mut().for_each(change);
    }

    pub fn log(&mut self, record: Record) {
        self.logs(|log| log.push(record.clone()));
    }

    pub fn last_record(&self) -> Record {
        self.log.last().expect("it is not empty").clone()
    }

    pub fn record_of(&mut self, link: usize, name: &'static str) -> Record {
        let session = self.history.links[link].session;
        let xid = self.operation_mut(link, name).xid;
        let record = self.log.iter().find(|record| (record.session, record.cxid) == (session, xid));
        record.expect("it happened").clone()
    }

    pub fn change_record(&mut self, link: usize, name: &'static str, change: impl Fn(&mut Record)) {
        let zxid = self.record_of(link, name).zxid;
        self.logs(|log| log.iter_mut().filter(|record| record.zxid == zxid).for_each(&change));
    }

    pub fn expiry_of(&self, session: i64) -> i64 {
        let is_expiry = |record: &&Record| {
            record.session == session && record.cxid == 0 && matches!(record.txn, Txn::CloseSession { .. })
        };
        self.log.iter().find(is_expiry).expect("it expired").zxid
    }

    pub fn record_of_stranger(&self) -> i64 {
        self.stranger
    }

    pub fn dump_before_the_end(&self) -> BTreeMap<Text, Dumped> {
        self.before_the_end.clone()
    }

    /// Takes away the `nth` such event of B.
    pub fn remove_event(&mut self, kind: i32, path: &str, nth: usize) {
        let received = &mut self.history.links[B].received;
        let is_it = |received: &Received| matches!(received, Received::Event(e) if e.kind == kind && e.path == path);
        let at = (0..received.len()).filter(|at| is_it(&received[*at])).nth(nth).expect("it came");
        received.remove(at);
    }
}
