//! The Node by itself: what it does with each thing that can happen, without a socket, a disk or a clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use jute::records::data::Acl;
use zooid::acl::Identity;
use zooid::id::{ConnId, SessionId, Zxid};
use zooid::node::effect::Effect;
use zooid::node::input::{Input, Now, Raw};
use zooid::node::reaper::ReaperRules;
use zooid::node::{Deliver, Node, NodeRules, initial_identities};
use zooid::prepare::PrepareRules;
use zooid::proto::op;
use zooid::proto::request::{Create, Write};
use zooid::session::password;
use zooid::tree::digest::DigestCheck;
use zooid::tree::{Tree, TreeRules};
use zooid::watch::{EventType, Table, WatchTable};

/// What reached one connection, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Heard {
    Opened(SessionId),
    /// xid, zxid, error.
    Reply(i32, i64, i32),
    Event(i32, String),
    Closed,
}

#[derive(Default)]
struct Clients(BTreeMap<u64, Vec<Heard>>);

impl Clients {
    fn hears(&mut self, conn: ConnId, what: Heard) {
        self.0.entry(conn.0).or_default().push(what);
    }
}

impl Deliver for Clients {
    fn answer(&mut self, conn: ConnId, _: &Tree, _: &mut WatchTable, reply: impl FnOnce(&mut BytesMut)) {
        let mut out = BytesMut::new();
        reply(&mut out);
        out.advance(4);
        let (xid, zxid, err) = (out.get_i32(), out.get_i64(), out.get_i32());
        self.hears(conn, Heard::Reply(xid, zxid, err));
    }

    fn event(&mut self, conn: ConnId, _: Zxid, event: EventType, path: &str, _: &[zooid::acl::Acl]) {
        self.hears(conn, Heard::Event(event as i32, path.to_owned()));
    }

    fn session_opened(&mut self, conn: ConnId, session: SessionId, _: i32) {
        self.hears(conn, Heard::Opened(session));
    }

    fn close(&mut self, conn: ConnId) {
        self.hears(conn, Heard::Closed);
    }
}

/// A Node with its tree, and a log that is as durable as the test says.
struct World {
    node: Node,
    tree: Tree,
    watches: WatchTable,
    clients: Clients,
    effects: Vec<Effect>,
    now: i64,
    logged: Zxid,
}

const TICK: i64 = 500;
const TIMEOUT: i32 = 1000;

impl World {
    fn new() -> Self {
        Self::behind(Zxid::ZERO, zooid::journal::PAYLOAD_MAX)
    }

    /// With so many transactions before, and so many bytes in one.
    fn behind(zxid: Zxid, record_most: usize) -> Self {
        let rules = NodeRules {
            server_id: 1,
            tick_ms: TICK,
            record_most,
            prepare: PrepareRules { close_list_bytes: 1 << 20, ..PrepareRules::default() },
            reaper: ReaperRules { interval_ms: 60_000, max_per_minute: 10_000, max_never_used_ms: 0 },
        };
        let mut tree = Tree::new(TreeRules::default());
        tree.set_last_zxid(zxid);
        let node = Node::new(rules, &tree, DigestCheck::default(), 0, 7);
        Self {
            node,
            tree,
            watches: WatchTable::new(0),
            clients: Clients::default(),
            effects: Vec::new(),
            now: 0,
            logged: Zxid::ZERO,
        }
    }

    fn now(&self) -> Now {
        Now { mono: self.now, wall_ms: 1_000_000 + self.now }
    }

    fn step(&mut self, input: Input) {
        let now = self.now();
        self.node.step(now, &self.tree, input, &mut self.effects);
        self.node.flush(now, &mut self.effects);
        for effect in &self.effects {
            if let Effect::Append { last, .. } = effect {
                self.logged = *last;
            }
        }
    }

    /// The log has everything that was appended.
    fn durable(&mut self) {
        self.step(Input::Durable(self.logged));
        self.apply();
    }

    fn apply(&mut self) {
        let now = self.now();
        let Self { node, tree, watches, clients, effects, .. } = self;
        node.apply(now, usize::MAX, tree, watches, clients, effects);
    }

    fn connect(&mut self, conn: u64) -> SessionId {
        let password = Bytes::new();
        self.step(Input::Connect { conn: ConnId(conn), session: SessionId::NONE, password, timeout_ms: TIMEOUT });
        self.durable();
        match self.heard(conn).as_slice() {
            [Heard::Opened(session)] => *session,
            other => panic!("{other:?}"),
        }
    }

    fn attach(&mut self, conn: u64, session: SessionId, password: &[u8]) {
        let password = Bytes::copy_from_slice(password);
        self.step(Input::Connect { conn: ConnId(conn), session, password, timeout_ms: TIMEOUT });
    }

    fn write(&mut self, conn: u64, session: SessionId, xid: i32, write: Write) {
        let identities: Arc<[Identity]> = initial_identities("127.0.0.1");
        let raw = Raw { op: 0, body: Bytes::new() };
        self.step(Input::Write { conn: ConnId(conn), session, xid, write, raw, identities });
    }

    /// What was wished for since the last look, logging and notices aside.
    #[track_caller]
    fn expect(&mut self, expected: &[Effect]) {
        assert_eq!(format!("{:?}", self.effects()), format!("{expected:?}"));
    }

    fn heard(&mut self, conn: u64) -> Vec<Heard> {
        self.clients.0.remove(&conn).unwrap_or_default()
    }

    fn effects(&mut self) -> Vec<Effect> {
        self.effects
            .drain(..)
            .filter(|effect| !matches!(effect, Effect::Append { .. } | Effect::LogFullHeard | Effect::Notice(_)))
            .collect()
    }
}

fn create(path: &str, flags: i32) -> Write {
    let open = Acl { perms: 31, scheme: Some("world".into()), id: Some("anyone".into()) };
    let (path, data, acl) = (Some(path.into()), Some(Bytes::new()), Some(vec![open]));
    Write::Create(Create { op: op::CREATE, path, data, acl, flags, ttl: -1 })
}

fn set(path: &str, version: i32) -> Write {
    Write::SetData { path: Some(path.into()), data: Some(Bytes::from_static(b"new")), version }
}

#[test]
fn nothing_is_shown_or_answered_before_it_is_durable() {
    let mut world = World::new();
    let session = world.connect(1);
    world.write(1, session, 1, create("/a", 0));
    world.apply();
    assert_eq!(world.heard(1), []);
    assert!(world.tree.find("/a").is_none());
    world.durable();
    assert_eq!(world.heard(1), [Heard::Reply(1, 2, 0)]);
    assert!(world.tree.find("/a").is_some());
}

#[test]
fn preparation_sees_what_is_not_applied_yet() {
    let mut world = World::new();
    let session = world.connect(1);
    // data-model 13 #36
    for (xid, write) in [
        create("/pp", 0),
        create("/pp/e", 1),
        create("/pp/e/x", 0),
        Write::Delete { path: Some("/pp".into()), version: -1 },
        set("/pp", 0),
        set("/pp", 0),
    ]
    .into_iter()
    .enumerate()
    {
        world.write(1, session, xid as i32, write);
    }
    world.durable();
    let errors: Vec<i32> =
        world.heard(1).iter().map(|heard| if let Heard::Reply(_, _, err) = heard { *err } else { 1 }).collect();
    assert_eq!(errors, [0, 0, -108, -111, 0, -103]);
}

#[test]
fn an_event_comes_before_the_reply_to_the_write_that_caused_it() {
    let mut world = World::new();
    let session = world.connect(1);
    world.watches.add(Table::Data, &"/a".into(), ConnId(1));
    world.write(1, session, 5, create("/a", 0));
    world.durable();
    assert_eq!(world.heard(1), [Heard::Event(1, "/a".into()), Heard::Reply(5, 2, 0)]);
}

#[test]
fn a_full_disk_refuses_writes_keeps_sessions_and_leaves_no_gap() {
    let mut world = World::new();
    let session = world.connect(1);
    world.write(1, session, 1, create("/kept", 0));
    world.durable();
    world.write(1, session, 2, create("/lost", 0));
    world.step(Input::LogFull);
    let refused = |xid| Effect::WriteRefused { conn: ConnId(1), xid, error: zooid::proto::ErrorCode::OperationTimeout };
    world.expect(&[refused(2)]);
    world.write(1, session, 3, set("/kept", -1));
    world.attach(2, SessionId::NONE, b"");
    world.expect(&[refused(3), Effect::Close { conn: ConnId(2) }]);
    world.step(Input::LogRoom);
    world.write(1, session, 4, set("/kept", -1));
    world.durable();
    let heard = world.heard(1);
    assert_eq!(heard.last(), Some(&Heard::Reply(4, 3, 0)), "the zxid goes on behind what is durable: {heard:?}");
    assert!(world.tree.find("/lost").is_none());
}

#[test]
fn a_full_disk_takes_back_a_session_s_end() {
    let mut world = World::new();
    let session = world.connect(1);
    world.write(1, session, 1, Write::CloseSession);
    world.step(Input::LogFull);
    world.step(Input::LogRoom);
    world.effects();
    world.write(1, session, 2, create("/still", 1));
    world.durable();
    assert!(world.tree.find("/still").is_some());
}

#[test]
fn a_silent_session_ends_with_its_ephemerals_and_a_touched_one_does_not() {
    let mut world = World::new();
    let (silent, alive) = (world.connect(1), world.connect(2));
    world.write(1, silent, 1, create("/silent", 1));
    world.write(2, alive, 1, create("/alive", 1));
    world.durable();
    world.now = i64::from(TIMEOUT) + TICK;
    world.step(Input::Time { touched: vec![(alive, TIMEOUT, world.now - 1)] });
    world.durable();
    assert!(world.tree.find("/silent").is_none());
    assert!(world.tree.find("/alive").is_some());
    assert_eq!(world.heard(1).last(), Some(&Heard::Closed));
    assert_ne!(world.heard(2).last(), Some(&Heard::Closed));
}

#[test]
fn an_old_connection_is_pushed_out_only_with_the_right_password() {
    let mut world = World::new();
    let session = world.connect(1);
    world.effects();
    world.attach(2, session, &[0; 16]);
    world.expect(&[Effect::Refused { conn: ConnId(2) }]);
    world.write(1, session, 1, create("/mine", 0));
    world.durable();
    assert_eq!(world.heard(1), [Heard::Reply(1, 2, 0)]);
    world.attach(3, session, &password(session));
    let attached = Effect::Attached { conn: ConnId(3), session, timeout_ms: TIMEOUT };
    world.expect(&[Effect::Close { conn: ConnId(1) }, attached]);
    world.write(1, session, 2, create("/stale", 0));
    world.expect(&[Effect::Close { conn: ConnId(1) }]);
}

#[test]
fn a_closed_session_takes_nothing_more() {
    let mut world = World::new();
    let session = world.connect(1);
    world.write(1, session, 1, create("/e", 1));
    world.write(1, session, 2, Write::CloseSession);
    world.write(1, session, 3, create("/late", 0));
    world.expect(&[Effect::Close { conn: ConnId(1) }]);
    world.durable();
    assert_eq!(world.heard(1), [Heard::Reply(1, 2, 0), Heard::Reply(2, 3, 0), Heard::Closed]);
    assert!(world.tree.find("/e").is_none() && world.tree.find("/late").is_none());
    world.attach(4, session, &password(session));
    world.expect(&[Effect::Refused { conn: ConnId(4) }]);
}

/// Equal inputs give equal effects: a whole run can be repeated.
#[test]
fn equal_runs_are_equal() {
    let run = || {
        let mut world = World::new();
        let session = world.connect(1);
        for xid in 0..50 {
            world.write(1, session, xid, create(&format!("/n-{}", xid % 7), xid % 4));
        }
        world.write(1, session, 99, Write::CloseSession);
        world.durable();
        (format!("{:?}", world.effects), world.heard(1), world.tree.digest())
    };
    assert_eq!(run(), run());
}

// Java: `ZooKeeperServer.getNextZxid` counts a whole i64.
#[test]
fn a_server_alone_counts_on_where_an_epoch_would_end() {
    let mut world = World::behind(Zxid(0xffff_fffd), zooid::journal::PAYLOAD_MAX);
    let session = world.connect(1);
    for (xid, zxid) in [(1, 0xffff_ffff), (2, 0x1_0000_0000), (3, 0x1_0000_0001)] {
        world.write(1, session, xid, create(&format!("/n{xid}"), 0));
        world.durable();
        assert_eq!(world.heard(1), [Heard::Reply(xid, zxid, 0)]);
    }
    world.now += 70_000;
    world.step(Input::Time { touched: Vec::new() });
    world.durable();
    assert_eq!(world.tree.sessions().len(), 0, "sessions expire as ever");
}

#[test]
fn a_raised_buffer_raises_what_a_transaction_may_hold() {
    for (record_most, error) in
        [(zooid::journal::PAYLOAD_MAX, zooid::proto::ErrorCode::Marshalling.code()), (8 << 20, 0)]
    {
        let mut world = World::behind(Zxid::ZERO, record_most);
        let session = world.connect(1);
        let Write::Create(mut large) = create("/large", 0) else { unreachable!() };
        large.data = Some(Bytes::from(vec![7; 3 << 20]));
        world.write(1, session, 1, Write::Create(large));
        world.durable();
        assert_eq!(world.heard(1), [Heard::Reply(1, 2, error)]);
    }
}
