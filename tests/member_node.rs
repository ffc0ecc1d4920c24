//! Members of an ensemble by themselves: their Nodes, packets that are handed over at once, and disks that write when
//! the test says so. What sessions, requests and member lists do among them, and what of that others can see.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use jute::records::data::Id;
use zooid::acl::Acl;
use zooid::config::{Membership, MultiAddress, Role, parse_properties};
use zooid::election::ElectionRules;
use zooid::id::{ConnId, LinkId, SessionId, Zxid};
use zooid::node::effect::{Effect, Notice, PeerEffect};
use zooid::node::input::{Input, Now, PeerInput, Raw, Room};
use zooid::node::local::LocalRules;
use zooid::node::member::{Found, LAST_COUNTER, MemberRules};
use zooid::node::reaper::ReaperRules;
use zooid::node::stats::RoleKind;
use zooid::node::{Deliver, Duty, Node, NodeRules, initial_identities};
use zooid::prepare::PrepareRules;
use zooid::proto::request::{Frame, Request, decode};
use zooid::proto::{ErrorCode, op};
use zooid::session::password;
use zooid::storage::epoch::{EpochFile, Epochs};
use zooid::tree::digest::DigestCheck;
use zooid::tree::stream::{SnapshotParser, write_tree};
use zooid::tree::{Tree, TreeRules, Unwatched};
use zooid::txn::{Create, CreateKind, Header, Logged, Txn};
use zooid::watch::{EventType, WatchTable};
use zooid::zab::Fault;
use zooid::zab::leader::LeaderRules;
use zooid::zab::learner::LearnerRules;
use zooid::zab::packet::{FeatureLevel, Forwarded, Packet};

const TICK: i64 = 500;
const TIMEOUT: i32 = 4000;

/// What reached one connection, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Heard {
    Opened(SessionId),
    /// xid, zxid, error.
    Reply(i32, i64, i32),
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

    fn event(&mut self, _: ConnId, _: Zxid, _: EventType, _: &str, _: &[Acl]) {}

    fn session_opened(&mut self, conn: ConnId, session: SessionId, _: i32) {
        self.hears(conn, Heard::Opened(session));
    }

    fn close(&mut self, conn: ConnId) {
        self.hears(conn, Heard::Closed);
    }
}

struct Server {
    node: Node,
    tree: Tree,
    watches: WatchTable,
    clients: Clients,
    /// Appended last, and whether the disk takes it.
    logged: Zxid,
    disk_hangs: bool,
    last_tick: i64,
    is_up: bool,
    listens: bool,
    has_no_port: bool,
    /// What was wished for and is not carried out here: for clients, and for operators.
    wishes: Vec<Effect>,
}

/// The one with the best vote is elected again and again, unless it lets the others find somebody else.
#[test]
fn who_cannot_be_reached_leaves_the_lead_to_others() {
    let mut world = World::new(|_, _| {});
    world.server(3).has_no_port = true;
    world.wait(6000);
    assert_eq!(world.duties(), [Duty::Forward, Duty::Order, Duty::Forward]);
    let ended = |notice: &Notice| matches!(notice, Notice::RoleEnded(Fault::NoPort(_)));
    assert!(world.notices(3).iter().any(ended));
}

/// One of two ends.
#[derive(Clone, Copy)]
struct End {
    server: usize,
    link: LinkId,
}

type Tamper = Box<dyn FnMut(i64, &mut Packet)>;

/// Servers 1, 2 and so on; in tests they go by these numbers.
struct World {
    servers: Vec<Server>,
    now: i64,
    /// What is to happen, in order.
    coming: VecDeque<(usize, Input)>,
    /// Learner, leader.
    links: Vec<(End, End)>,
    dialling: Vec<(End, usize)>,
    next_link: u64,
    /// All packets: from, to.
    wire: Vec<(i64, i64, Packet)>,
    /// Changes packets on their way to a server.
    tamper: Option<Tamper>,
    /// Every epoch that was saved, and by whom.
    saved: Vec<(i64, EpochFile, i64)>,
    /// Sessions whose clients say something all the time, and where.
    alive: BTreeSet<(i64, SessionId)>,
}

fn membership(voters: i64, version: i64) -> Arc<Membership> {
    let lines: String = (1..=voters).map(|id| format!("server.{id}=h{id}:1:2:participant\n")).collect();
    let properties = parse_properties(lines.as_bytes()).unwrap();
    let mut membership = Membership::parse(&properties, MultiAddress::Refused).unwrap();
    membership.version = version;
    Arc::new(membership)
}

fn rules(me: i64, membership: Arc<Membership>) -> MemberRules {
    let (role, level) = (Role::Participant, Some(FeatureLevel(0)));
    let text = membership.to_string();
    MemberRules {
        me,
        role,
        election: ElectionRules {
            me,
            role,
            membership: membership.clone(),
            min_interval_ms: 200,
            max_interval_ms: 1000,
        },
        leader: LeaderRules {
            me,
            tick_ms: TICK,
            init_limit_ticks: 10,
            sync_limit_ticks: 5,
            membership: membership.clone(),
            config_text: Bytes::copy_from_slice(text.as_bytes()),
            level,
            force_snapshot: false,
            sync_from_log: false,
            max_concurrent_snap_syncs: 10,
            max_concurrent_diff_syncs: 10,
            max_diff_bytes: usize::MAX,
        },
        learner: LearnerRules {
            me,
            role,
            tick_ms: TICK,
            init_limit_ticks: 10,
            sync_limit_ticks: 5,
            connect_limit_ticks: 3,
            config_version: membership.version,
            level,
        },
        last_counter: LAST_COUNTER,
        commit_log_count: 500,
        follows_config: true,
        multi_address: MultiAddress::Refused,
        ack_logging_frequency: 1,
        leader_serves: true,
        local_sessions: None,
        read_only_after_ms: None,
    }
}

impl World {
    /// Three voters with nothing.
    fn new(set: impl Fn(i64, &mut MemberRules)) -> Self {
        Self::with_blank(&[], set)
    }

    /// Some of them have lost what they had, and are not to begin without it.
    fn with_blank(blank: &[i64], set: impl Fn(i64, &mut MemberRules)) -> Self {
        let server = |id: i64| {
            let mut member = rules(id, membership(3, 0));
            set(id, &mut member);
            let node = NodeRules {
                server_id: id as u8,
                tick_ms: TICK,
                record_most: zooid::journal::PAYLOAD_MAX,
                prepare: PrepareRules { close_list_bytes: 1 << 20, ..PrepareRules::default() },
                reaper: ReaperRules { interval_ms: 60_000_000, max_per_minute: 10_000, max_never_used_ms: 0 },
            };
            let tree = Tree::new(TreeRules::default());
            let is_blank = blank.contains(&id);
            let known = if is_blank { -1 } else { 0 };
            let epochs = Epochs { accepted: known, current: known, was_raised: false };
            let found = Found { tail: Vec::new(), epochs, is_blank };
            let node = Node::new_member(node, member, &tree, found, DigestCheck::default(), 0, 7);
            Server {
                node,
                tree,
                watches: WatchTable::new(0),
                clients: Clients::default(),
                logged: Zxid::ZERO,
                disk_hangs: false,
                last_tick: -1,
                is_up: true,
                listens: false,
                has_no_port: false,
                wishes: Vec::new(),
            }
        };
        Self {
            servers: (1..=3).map(server).collect(),
            now: 0,
            coming: VecDeque::new(),
            links: Vec::new(),
            dialling: Vec::new(),
            next_link: 1000,
            wire: Vec::new(),
            tamper: None,
            saved: Vec::new(),
            alive: BTreeSet::new(),
        }
    }

    /// Server 3 leads.
    fn serving(set: impl Fn(i64, &mut MemberRules)) -> Self {
        let mut world = Self::new(set);
        world.wait(2000);
        assert_eq!(world.duties(), [Duty::Forward, Duty::Forward, Duty::Order]);
        world.wire.clear();
        (1..=3).for_each(|id| drop(world.wishes(id)));
        world
    }

    fn duties(&self) -> Vec<Duty> {
        self.servers.iter().map(|server| server.node.duty()).collect()
    }

    fn server(&mut self, id: i64) -> &mut Server {
        &mut self.servers[id as usize - 1]
    }

    fn end_of(&self, server: usize, link: LinkId) -> Option<End> {
        let is = |end: &End| end.server == server && end.link == link;
        self.links.iter().find_map(|(one, other)| match (is(one), is(other)) {
            (true, _) => Some(*other),
            (_, true) => Some(*one),
            _ => None,
        })
    }

    fn tell(&mut self, server: usize, input: Input) {
        self.coming.push_back((server, input));
    }

    fn step(&mut self, id: i64, input: Input) {
        self.tell(id as usize - 1, input);
        while let Some((at, input)) = self.coming.pop_front() {
            let now = Now { mono: self.now, wall_ms: 1_000_000 + self.now };
            let server = &mut self.servers[at];
            if !server.is_up {
                continue;
            }
            let mut effects = Vec::new();
            server.node.step(now, &server.tree, input, &mut effects);
            server.node.flush(now, &mut effects);
            while server.node.has_committed() {
                let Server { node, tree, watches, clients, .. } = server;
                node.apply(now, usize::MAX, tree, watches, clients, &mut effects);
            }
            server.node.flush(now, &mut effects);
            effects.into_iter().for_each(|effect| self.carry_out(at, effect));
        }
    }

    fn carry_out(&mut self, at: usize, effect: Effect) {
        let peer = match effect {
            Effect::Append { last, .. } => {
                self.servers[at].logged = last;
                if !self.servers[at].disk_hangs {
                    self.tell(at, Input::Durable(last));
                }
                return;
            }
            Effect::Peer(peer) => peer,
            other => return self.servers[at].wishes.push(other),
        };
        match peer {
            PeerEffect::Vote { to, body } => {
                let from = at as i64 + 1;
                self.tell(to as usize - 1, Input::Peer(PeerInput::Notification { from, body }));
            }
            PeerEffect::VoteAgain(votes) => {
                votes.into_iter().for_each(|(to, body)| {
                    self.carry_out(at, Effect::Peer(PeerEffect::Vote { to, body }));
                });
            }
            PeerEffect::Listen if self.servers[at].has_no_port => {
                self.tell(at, Input::Peer(PeerInput::NotListening { why: "no address".to_owned() }));
            }
            PeerEffect::Listen => {
                self.servers[at].listens = true;
                self.answer_dials();
            }
            PeerEffect::StopListening => {
                self.servers[at].listens = false;
                self.cut(at);
            }
            PeerEffect::Dial { link, leader } => {
                self.dialling.push((End { server: at, link }, leader as usize - 1));
                self.answer_dials();
            }
            PeerEffect::Send { link, packet } => self.send(at, link, packet),
            PeerEffect::CloseLink { link } => {
                self.dialling.retain(|(end, _)| end.server != at || end.link != link);
                if let Some(other) = self.end_of(at, link) {
                    self.tell(other.server, Input::Peer(PeerInput::LinkDown { link: other.link }));
                    self.links.retain(|(one, another)| {
                        ![one, another].iter().any(|end| end.server == at && end.link == link)
                    });
                }
            }
            PeerEffect::SaveEpoch { file, epoch } => {
                self.saved.push((at as i64 + 1, file, epoch));
                self.tell(at, Input::Peer(PeerInput::EpochSaved { file, epoch }));
            }
            PeerEffect::Install { tree, rest } => {
                let last = rest.last().map_or(tree.last_zxid(), |entry| entry.zxid);
                self.servers[at].tree = *tree;
                self.tell(at, Input::Peer(PeerInput::Installed { last }));
            }
            PeerEffect::SendSnapshot { link } => self.send_snapshot(at, link),
            PeerEffect::AwaitDrained { link } => self.tell(at, Input::Peer(PeerInput::Drained { link })),
            PeerEffect::Exit { .. } => {
                self.servers[at].wishes.push(Effect::Peer(peer));
                self.end(at);
            }
            PeerEffect::ReadLog { .. } | PeerEffect::Truncate { .. } => unreachable!("{peer:?} in no test"),
            other => self.servers[at].wishes.push(Effect::Peer(other)),
        }
    }

    fn answer_dials(&mut self) {
        for (learner, leader) in std::mem::take(&mut self.dialling) {
            if !self.servers[leader].listens {
                self.dialling.push((learner, leader));
                continue;
            }
            self.next_link += 1;
            let accepted = End { server: leader, link: LinkId(self.next_link) };
            self.links.push((learner, accepted));
            self.tell(leader, Input::Peer(PeerInput::LinkUp { link: accepted.link }));
            self.tell(learner.server, Input::Peer(PeerInput::LinkUp { link: learner.link }));
        }
    }

    fn send(&mut self, at: usize, link: LinkId, mut packet: Packet) {
        let Some(End { server, link }) = self.end_of(at, link) else { return };
        if let Some(tamper) = &mut self.tamper {
            tamper(server as i64 + 1, &mut packet);
        }
        self.wire.push((at as i64 + 1, server as i64 + 1, packet.clone()));
        let packets = vec![packet];
        self.tell(server, Input::Peer(PeerInput::Packets { link, packets, room: Room(None) }));
    }

    fn send_snapshot(&mut self, at: usize, link: LinkId) {
        let Some(to) = self.end_of(at, link) else { return };
        let tree = &self.servers[at].tree;
        let zxid = tree.last_zxid();
        let mut stream = BytesMut::from(&write_tree(tree, Vec::new()).unwrap()[..]);
        let copy = SnapshotParser::new(TreeRules::default(), 1 << 20).feed(&mut stream).unwrap().unwrap();
        self.send(at, link, Packet::Snap { zxid });
        let tree = Box::new(copy);
        self.tell(to.server, Input::Peer(PeerInput::SnapshotReceived { link: to.link, tree }));
        self.tell(at, Input::Peer(PeerInput::SnapshotSent { link, zxid }));
    }

    /// All links of a server are gone.
    fn cut(&mut self, server: usize) {
        let (gone, kept) = std::mem::take(&mut self.links)
            .into_iter()
            .partition(|(one, other)| one.server == server || other.server == server);
        self.links = kept;
        let gone: Vec<(End, End)> = gone;
        for (one, other) in gone {
            for End { server, link } in [one, other] {
                self.tell(server, Input::Peer(PeerInput::LinkDown { link }));
            }
        }
    }

    fn end(&mut self, server: usize) {
        self.servers[server].is_up = false;
        self.servers[server].listens = false;
        self.cut(server);
    }

    fn kill(&mut self, id: i64) {
        self.end(id as usize - 1);
        self.step(id, Input::Time { touched: Vec::new() });
    }

    /// Lets time pass, from one deadline to the next.
    fn wait(&mut self, ms: i64) {
        let until = self.now + ms;
        // As in the shell, something that is due at once is looked at again a little later.
        let due = |server: &Server| match server.is_up {
            true => server.node.next_deadline().max(server.last_tick + 1),
            false => i64::MAX,
        };
        for id in (1..=self.servers.len() as i64).cycle() {
            let next = self.servers.iter().map(due).min().expect("some");
            if next > until {
                break;
            }
            self.now = self.now.max(next);
            if due(self.server(id)) <= self.now {
                let touched = self.alive.iter().filter(|(at, _)| *at == id);
                let touched = touched.map(|(_, session)| (*session, TIMEOUT, self.now)).collect();
                let now = self.now;
                self.server(id).last_tick = now;
                self.step(id, Input::Time { touched });
            }
        }
        self.now = until;
    }

    /// The disk has room and time again.
    fn disk_goes_on(&mut self, id: i64) {
        let server = self.server(id);
        server.disk_hangs = false;
        let logged = server.logged;
        self.step(id, Input::Durable(logged));
    }

    fn attach(&mut self, id: i64, conn: u64, session: SessionId) {
        let password = if session == SessionId::NONE { Bytes::new() } else { password(session).to_vec().into() };
        self.step(id, Input::Connect { conn: ConnId(conn), session, password, timeout_ms: TIMEOUT });
    }

    /// A session that is a transaction.
    fn connect(&mut self, id: i64, conn: u64) -> SessionId {
        self.attach(id, conn, SessionId::NONE);
        match self.heard(id, conn).as_slice() {
            [Heard::Opened(session)] => *session,
            other => panic!("{other:?}"),
        }
    }

    /// One that is not.
    fn connect_locally(&mut self, id: i64, conn: u64) -> SessionId {
        self.attach(id, conn, SessionId::NONE);
        match self.wishes(id).as_slice() {
            [Effect::OpenedLocally { session, .. }] => *session,
            other => panic!("{other:?}"),
        }
    }

    fn ask(&mut self, id: i64, conn: u64, session: SessionId, xid: i32, (op, body): (i32, Bytes)) {
        let (conn, identities) = (ConnId(conn), initial_identities("127.0.0.1"));
        let raw = Raw { op, body: body.clone() };
        let input = match decode(op, body) {
            Frame::Request(Request::Write(write)) => Input::Write { conn, session, xid, write, raw, identities },
            Frame::Request(Request::Read(_)) => Input::Sync { conn, session, xid, path: None, raw, identities },
            other => panic!("{other:?}"),
        };
        self.step(id, input);
    }

    /// A learner says this, whatever its Node thinks of it.
    fn forge(&mut self, id: i64, packet: Packet) {
        self.forge_all(id, vec![packet]);
    }

    fn forge_all(&mut self, id: i64, packets: Vec<Packet>) {
        let (_, End { server, link }) =
            *self.links.iter().find(|(learner, _)| learner.server == id as usize - 1).expect("it has a leader");
        self.step(server as i64 + 1, Input::Peer(PeerInput::Packets { link, packets, room: Room(None) }));
    }

    fn heard(&mut self, id: i64, conn: u64) -> Vec<Heard> {
        self.server(id).clients.0.remove(&conn).unwrap_or_default()
    }

    /// What was wished for since the last look, notices aside.
    fn wishes(&mut self, id: i64) -> Vec<Effect> {
        let wishes = std::mem::take(&mut self.server(id).wishes);
        wishes.into_iter().filter(|wish| !matches!(wish, Effect::Notice(_))).collect()
    }

    #[track_caller]
    fn expect(&mut self, id: i64, expected: &[Effect]) {
        assert_eq!(format!("{:?}", self.wishes(id)), format!("{expected:?}"));
    }

    fn notices(&mut self, id: i64) -> Vec<Notice> {
        let wishes = std::mem::take(&mut self.server(id).wishes);
        wishes
            .into_iter()
            .filter_map(|wish| if let Effect::Notice(notice) = wish { Some(notice) } else { None })
            .collect()
    }

    /// What was asked of the leader since the last look: session, op.
    fn requests(&mut self) -> Vec<(SessionId, i32)> {
        let request = |(_, _, packet)| match packet {
            Packet::Request(Forwarded { session, op, .. }) => Some((SessionId(session), op)),
            _ => None,
        };
        std::mem::take(&mut self.wire).into_iter().filter_map(request).collect()
    }

    /// What server 1 was told to log since the last look.
    fn proposals(&mut self) -> Vec<Logged> {
        let proposal = |(_, to, packet)| match packet {
            Packet::Proposal { txn, .. } if to == 1 => Some(Logged::read(txn).unwrap()),
            _ => None,
        };
        std::mem::take(&mut self.wire).into_iter().filter_map(proposal).collect()
    }

    fn has(&self, path: &str) -> [bool; 3] {
        [0, 1, 2].map(|at: usize| self.servers[at].tree.find(path).is_some())
    }
}

fn put_string(out: &mut BytesMut, text: &str) {
    out.put_i32(text.len() as i32);
    out.put_slice(text.as_bytes());
}

fn create(path: &str, flags: i32) -> (i32, Bytes) {
    let mut body = BytesMut::new();
    put_string(&mut body, path);
    body.put_i32(0);
    body.put_i32(1);
    body.put_i32(31);
    put_string(&mut body, "world");
    put_string(&mut body, "anyone");
    body.put_i32(flags);
    (op::CREATE, body.freeze())
}

fn sync() -> (i32, Bytes) {
    let mut body = BytesMut::new();
    put_string(&mut body, "/");
    (op::SYNC, body.freeze())
}

fn close() -> (i32, Bytes) {
    (op::CLOSE_SESSION, Bytes::new())
}

fn refused(conn: u64, xid: i32, error: ErrorCode) -> Effect {
    Effect::WriteRefused { conn: ConnId(conn), xid, error }
}

/// In the first epoch, which nearly every test stays in.
fn z(counter: u32) -> Zxid {
    Zxid::new(1, counter)
}

fn with_local_sessions(upgrade: bool) -> impl Fn(i64, &mut MemberRules) {
    move |_, rules| rules.local_sessions = Some(LocalRules { upgrade })
}

// ---- whose a session is (quorum-protocol 12: 51 to 54) ----

// 53.
#[test]
fn a_session_that_moves_is_refused_where_it_was() {
    let mut world = World::serving(|_, _| ());
    let session = world.connect(1, 10);
    world.attach(2, 20, session);
    world.expect(2, &[Effect::Attached { conn: ConnId(20), session, timeout_ms: TIMEOUT }]);
    world.ask(1, 10, session, 5, create("/stale", 0));
    assert_eq!(world.heard(1, 10), [Heard::Closed], "its client is told nothing");
    world.ask(2, 20, session, 1, create("/fresh", 0));
    assert_eq!(world.heard(2, 20), [Heard::Reply(1, z(3).0, 0)], "the refusal has taken a zxid");
    assert_eq!((world.has("/stale"), world.has("/fresh")), ([false; 3], [true; 3]));
    let errors: Vec<Txn> = world.proposals().into_iter().map(|logged| logged.txn).collect();
    assert_eq!(errors[1], Txn::Error { code: ErrorCode::SessionMoved.code() });

    // To the leader itself, and away from it.
    world.attach(3, 30, session);
    world.expect(3, &[Effect::Attached { conn: ConnId(30), session, timeout_ms: TIMEOUT }]);
    world.ask(2, 20, session, 2, create("/stale", 0));
    assert_eq!(world.heard(2, 20), [Heard::Closed]);
    world.attach(1, 11, session);
    world.expect(3, &[Effect::Close { conn: ConnId(30) }]);
    world.ask(1, 11, session, 1, create("/again", 0));
    assert_eq!(world.heard(1, 11), [Heard::Reply(1, z(5).0, 0)]);

    // Whoever forges a password, or asks for a session that is not there, gets nothing.
    let password = Bytes::from_static(&[0; 16]);
    world.step(2, Input::Connect { conn: ConnId(21), session, password, timeout_ms: TIMEOUT });
    world.attach(2, 22, SessionId(77));
    let refused = world.wishes(2);
    assert!(matches!(refused[..], [.., Effect::Refused { conn: ConnId(21) }, Effect::Refused { conn: ConnId(22) }]));
}

// 24, 51: what a learner of Java's may send.
#[test]
fn every_write_of_a_learner_takes_a_zxid() {
    let mut world = World::serving(|_, _| ());
    let session = world.connect(1, 10);
    world.wire.clear();
    let ids = || Some(vec![Id { scheme: Some("ip".into()), id: Some("127.0.0.1".into()) }]);
    let forwarded = |session: SessionId, (op, body): (i32, Bytes), identities| {
        Packet::Request(Forwarded { session: session.0, cxid: 9, op, body, identities })
    };
    let half = Bytes::from_static(&[0, 0, 0, 9, b'/']);
    world.forge(1, forwarded(session, (op::CREATE, half.clone()), ids()));
    world.forge(1, forwarded(session, (op::CREATE_SESSION, Bytes::from_static(&[1])), None));
    world.forge(1, forwarded(session, create("/no-identities", 0), None));
    world.forge(1, forwarded(session, (op::GET_DATA, half), ids()));
    world.forge(1, forwarded(SessionId(0x0100_0000_0000_0077), create("/nobodys", 0), ids()));
    world.forge(1, forwarded(SessionId(0x0100_0000_0000_0077), create("/nobodys", 1), ids()));
    world.forge(1, forwarded(session, create("/there", 0), ids()));
    let (malformed, expired) = (ErrorCode::Marshalling.code(), ErrorCode::SessionExpired.code());
    let codes = world.proposals().into_iter().map(|logged| match logged.txn {
        Txn::Error { code } => (logged.header.zxid, code),
        _ => (logged.header.zxid, 0),
    });
    let expected = [malformed, malformed, malformed, malformed, expired, expired, 0];
    let expected: Vec<(Zxid, i32)> = (2..).map(z).zip(expected).collect();
    assert_eq!(codes.collect::<Vec<_>>(), expected);
    assert_eq!(world.has("/there"), [true; 3], "nothing waits");

    world.forge(1, Packet::Revalidate { session: 77, timeout_ms: TIMEOUT });
    let answer = world.wire.last().expect("there is an answer");
    assert_eq!(*answer, (3, 1, Packet::Revalidated { session: 77, valid: false }));
}

/// Else its next connection there would overtake what its former one has asked for.
#[test]
fn the_word_that_a_session_lives_comes_behind_what_it_has_asked_for() {
    let mut world = World::serving(|_, _| ());
    let session = world.connect(1, 10);
    world.wire.clear();
    let identities = Some(vec![Id { scheme: Some("ip".into()), id: Some("127.0.0.1".into()) }]);
    let (op, body) = create("/asked", 0);
    let asks = Packet::Request(Forwarded { session: session.0, cxid: 9, op, body, identities });
    world.forge_all(1, vec![asks, Packet::Revalidate { session: session.0, timeout_ms: TIMEOUT }]);
    let said = world.wire.iter().filter(|(from, to, _)| (*from, *to) == (3, 1)).map(|(_, _, packet)| packet.name());
    assert_eq!(said.take(2).collect::<Vec<_>>(), ["PROPOSAL", "REVALIDATE"]);
}

// 54.
#[test]
fn the_leader_alone_ends_a_session_that_nobody_speaks_for() {
    let mut world = World::serving(|_, _| ());
    let (silent, alive) = (world.connect(1, 10), world.connect(1, 11));
    world.ask(1, 10, silent, 1, create("/silent", 1));
    world.ask(1, 11, alive, 1, create("/alive", 1));
    world.alive.insert((1, alive));
    world.wire.clear();
    world.wait(i64::from(TIMEOUT) - TICK);
    assert_eq!(world.has("/silent"), [true; 3]);
    world.wait(3 * TICK);
    assert_eq!((world.has("/silent"), world.has("/alive")), ([false; 3], [true; 3]));
    assert_eq!(world.heard(1, 10).last(), Some(&Heard::Closed));
    world.wait(3 * i64::from(TIMEOUT));
    assert_eq!(world.has("/alive"), [true; 3]);
    assert!(world.requests().is_empty(), "no learner asks for an end");
}

// 54.
#[test]
fn a_new_leader_gives_every_session_its_whole_time() {
    let mut world = World::serving(|_, _| ());
    let session = world.connect(1, 10);
    world.ask(1, 10, session, 1, create("/mine", 1));
    world.wait(i64::from(TIMEOUT) - TICK);
    world.kill(3);
    let killed = world.now;
    while world.server(2).node.duty() != Duty::Order {
        world.wait(10);
        assert!(world.now < killed + 10 * TICK, "{:?}", world.duties());
    }
    world.wait(i64::from(TIMEOUT) - 1);
    assert_eq!(world.has("/mine")[..2], [true; 2]);
    world.wait(2 * TICK);
    assert_eq!(world.has("/mine")[..2], [false; 2]);
    assert!(world.now > killed + i64::from(TIMEOUT));
}

// ---- what a learner's client may rely upon ----

// 52.
#[test]
fn a_sync_shows_what_was_proposed_before_it() {
    let mut world = World::serving(|_, _| ());
    let (reader, writer) = (world.connect(1, 10), world.connect(3, 30));
    // Nobody but server 1 logs anything: nothing is committed.
    world.server(2).disk_hangs = true;
    world.server(3).disk_hangs = true;
    world.ask(3, 30, writer, 1, create("/a", 0));
    world.ask(1, 10, reader, 1, sync());
    world.ask(3, 30, writer, 2, create("/b", 0));
    world.ask(1, 10, reader, 2, sync());
    assert_eq!(world.heard(1, 10), []);
    assert_eq!(world.has("/a"), [false; 3]);
    // And then everything at once.
    world.disk_goes_on(2);
    assert_eq!(world.heard(1, 10), [Heard::Reply(1, z(3).0, 0), Heard::Reply(2, z(4).0, 0)]);
    // 50: the leader's own disk still hangs. It shows nothing of that, and two others have it.
    assert_eq!(world.has("/b"), [true, true, false]);
    world.disk_goes_on(3);
    assert_eq!(world.has("/b"), [true; 3]);
    world.ask(1, 10, reader, 3, sync());
    assert_eq!(world.heard(1, 10), [Heard::Reply(3, z(4).0, 0)]);
}

// reliability Y2: whoever believes to lead may have been left, and others told more since.
#[test]
fn a_sync_waits_for_a_quorum_to_say_that_it_still_follows() {
    let mut world = World::serving(|_, _| ());
    let (own, far) = (world.connect(3, 30), world.connect(1, 10));
    world.tamper = Some(Box::new(|to, packet| {
        if to == 3 && matches!(packet, Packet::Ping { .. }) {
            *packet = Packet::Unknown { op: 77 };
        }
    }));
    world.ask(3, 30, own, 1, sync());
    world.ask(1, 10, far, 1, sync());
    assert_eq!((world.heard(3, 30), world.heard(1, 10)), (vec![], vec![]));
    // What a client asks behind it is answered behind it.
    world.ask(3, 30, own, 2, create("/a", 0));
    world.ask(1, 10, far, 2, create("/b", 0));
    assert_eq!((world.heard(3, 30), world.heard(1, 10)), (vec![], vec![]));
    world.tamper = None;
    world.wait(2 * TICK);
    assert_eq!(world.heard(3, 30), [Heard::Reply(1, z(2).0, 0), Heard::Reply(2, z(3).0, 0)]);
    assert_eq!(world.heard(1, 10), [Heard::Reply(1, z(2).0, 0), Heard::Reply(2, z(4).0, 0)]);
    assert_eq!((world.has("/a"), world.has("/b")), ([true; 3], [true; 3]));
}

// data-model 2.7. A client that counts from the start again on each connection, as kazoo does.
#[test]
fn what_a_closed_connection_asked_for_is_not_the_next_ones() {
    let mut world = World::serving(|_, _| ());
    let session = world.connect(1, 10);
    world.server(1).disk_hangs = true;
    world.ask(1, 10, session, 1, create("/a", 0));
    world.step(1, Input::Disconnected { conn: ConnId(10), session, touched: None });
    world.attach(1, 11, session);
    world.ask(1, 11, session, 1, create("/a", 0));
    assert_eq!(world.heard(1, 11), []);
    world.disk_goes_on(1);
    assert_eq!(world.heard(1, 11), [Heard::Reply(1, z(3).0, ErrorCode::NodeExists.code())]);
    assert_eq!(world.heard(1, 10), []);
}

// data-model 2.8. A client that asks whether its create has succeeded is not answered before it does.
#[test]
fn a_session_s_next_connection_waits_for_what_its_former_one_asked_for() {
    let attached = |world: &mut World, id| {
        let is = |wish: &Effect| matches!(wish, Effect::Attached { conn: ConnId(11), .. });
        world.wishes(id).iter().any(is)
    };
    for id in [1, 3] {
        let mut world = World::serving(|_, _| ());
        let session = world.connect(id, 10);
        world.server(id).disk_hangs = true;
        world.ask(id, 10, session, 1, create("/a", 0));
        world.step(id, Input::Disconnected { conn: ConnId(10), session, touched: None });
        world.wishes(id);
        world.attach(id, 11, session);
        assert!(!attached(&mut world, id), "server {id}: it can ask for /a, which is not there yet");
        world.disk_goes_on(id);
        assert!(attached(&mut world, id) && world.has("/a")[id as usize - 1]);
        // With nothing under way it waits for nothing.
        world.server(id).disk_hangs = true;
        let other = world.connect(4 - id, 20);
        world.ask(4 - id, 20, other, 1, create("/b", 0));
        world.attach(id, 11, session);
        assert!(attached(&mut world, id), "server {id}: what others do is no concern of it");
    }
}

// What a leader refuses because the session has moved it says to nobody.
#[test]
fn a_session_that_comes_back_does_not_wait_for_what_was_refused() {
    let mut world = World::serving(|_, _| ());
    let session = world.connect(1, 10);
    world.attach(2, 20, session);
    world.ask(1, 10, session, 1, create("/a", 0));
    world.step(1, Input::Disconnected { conn: ConnId(10), session, touched: None });
    world.wishes(1);
    world.attach(1, 11, session);
    assert!(world.wishes(1).iter().any(|wish| matches!(wish, Effect::Attached { conn: ConnId(11), .. })));
}

// reliability S23; ZOOKEEPER-2247.
#[test]
fn a_leader_whose_disk_hangs_makes_way() {
    let mut world = World::serving(|_, _| ());
    let session = world.connect(3, 30);
    world.alive.insert((3, session));
    world.server(3).disk_hangs = true;
    world.ask(3, 30, session, 1, create("/a", 0));
    assert_eq!((world.heard(3, 30), world.has("/a")), (vec![], [true, true, false]));
    world.wait(4 * TICK);
    let ended = |notice: &Notice| matches!(notice, Notice::RoleEnded(Fault::DiskHangs { zxid, .. }) if *zxid == z(2));
    assert!(world.notices(3).iter().any(ended));
    world.wait(10 * TICK);
    assert_eq!(world.duties(), [Duty::Forward, Duty::Order, Duty::None]);
    let other = world.connect(2, 20);
    world.ask(2, 20, other, 1, create("/b", 0));
    assert_eq!(world.has("/b"), [true, true, false]);
    world.disk_goes_on(3);
    world.wait(10 * TICK);
    assert_eq!(world.duties(), [Duty::Forward, Duty::Order, Duty::Forward]);
    assert_eq!((world.has("/a"), world.has("/b")), ([true; 3], [true; 3]));
}

// design.md D16, D17: the leader's log holds it, and the learner's is all that is missing.
#[test]
fn a_commit_ahead_of_the_ack_counts_for_what_the_log_holds_in_this_role() {
    let ahead = |_, rules: &mut MemberRules| {
        (rules.leader.level, rules.learner.level) = (Some(FeatureLevel::AHEAD), Some(FeatureLevel::AHEAD));
    };
    let mut world = World::serving(ahead);
    let session = world.connect(1, 10);
    world.alive.insert((1, session));
    let hang = |world: &mut World| [1, 2].into_iter().for_each(|id| world.server(id).disk_hangs = true);
    hang(&mut world);
    world.ask(1, 10, session, 1, create("/a", 0));
    assert_eq!((world.server(1).node.committed(), world.has("/a")), (z(2), [false; 3]));
    // Before its ACK has gone out.
    world.wire.clear();
    world.disk_goes_on(1);
    assert_eq!(world.heard(1, 10), [Heard::Reply(1, z(2).0, 0)]);
    let word = |(from, to, packet): &(i64, i64, Packet)| match packet {
        Packet::Ack { .. } => Some(format!("{from}: ACK")),
        Packet::Commit { .. } => Some(format!("to {to}: COMMIT")),
        _ => None,
    };
    assert_eq!(world.wire.iter().filter_map(word).collect::<Vec<_>>(), ["1: ACK"], "nobody hears of it twice");
    world.disk_goes_on(2);
    assert_eq!(world.has("/a"), [true; 3]);
    // What comes to the log when the role has ended is nobody's word any more.
    hang(&mut world);
    world.ask(1, 10, session, 2, create("/b", 0));
    assert_eq!(world.server(1).node.committed(), z(3));
    world.kill(3);
    assert_eq!(world.server(1).node.committed(), z(2));
    world.disk_goes_on(1);
    assert_eq!(world.has("/b"), [false; 3]);
    world.disk_goes_on(2);
    world.wait(10 * TICK);
    assert_eq!(world.has("/b"), [true, true, false]);
}

// Checks 100, 103: what a leader was that can't say yet what its log ends with must not be taken for what it is.
#[test]
fn a_leader_that_cannot_settle_is_not_followed() {
    let mut world = World::serving(|_, _| ());
    let session = world.connect(3, 30);
    world.server(3).disk_hangs = true;
    world.ask(3, 30, session, 1, create("/a", 0));
    // Server 2 does not hear that the leader has gone, until it misses it.
    world.wait(2 * TICK);
    world.server(2).is_up = false;
    while world.server(3).node.duty() != Duty::None {
        world.wait(TICK / 10);
    }
    world.server(2).is_up = true;
    world.wait(8 * TICK);
    assert_eq!(world.duties(), [Duty::Forward, Duty::Order, Duty::None]);
}

// Checks 100, 101.
#[test]
fn a_learner_whose_disk_never_catches_up_serves_all_the_same() {
    let mut world = World::serving(|_, _| ());
    let session = world.connect(3, 30);
    world.alive.insert((3, session));
    world.kill(1);
    world.ask(3, 30, session, 1, create("/a", 0));
    let server = world.server(1);
    (server.is_up, server.disk_hangs) = (true, true);
    world.wait(8 * TICK);
    let a = world.server(1).logged;
    world.ask(3, 30, session, 2, create("/b", 0));
    assert_eq!((world.has("/a"), world.has("/b")), ([false, true, true], [false, true, true]));
    world.step(1, Input::Durable(a));
    let b = world.server(1).logged;
    assert!(a < b, "{a} was all that it lacked, and {b} came meanwhile");
    assert_eq!((world.server(1).node.duty(), world.has("/a")), (Duty::None, [true; 3]));
    // There is always something that is committed and that its own log does not hold.
    world.ask(3, 30, session, 3, create("/c", 0));
    world.step(1, Input::Durable(b));
    assert_eq!((world.server(1).node.duty(), world.has("/b")), (Duty::Forward, [true; 3]));
    assert_eq!(world.has("/c"), [false, true, true]);
    world.disk_goes_on(1);
    assert_eq!(world.has("/c"), [true; 3]);
}

// Checks 34, S20, S21.
#[test]
fn a_member_that_has_lost_its_history_does_not_say_that_it_has_an_empty_one() {
    let mut world = World::with_blank(&[3], |_, _| ());
    world.wait(2000);
    assert_eq!(world.duties(), [Duty::Forward, Duty::Order, Duty::Forward]);

    let mut world = World::with_blank(&[3], |_, _| ());
    // Whatever is to bring it up to date breaks off.
    world.tamper = Some(Box::new(|to, packet| {
        if to == 3 && matches!(packet, Packet::Diff { .. } | Packet::Trunc { .. } | Packet::Snap { .. }) {
            *packet = Packet::UpToDate;
        }
    }));
    world.wait(4000);
    assert_eq!(world.duties(), [Duty::Forward, Duty::Order, Duty::None]);
    let saved: Vec<_> = world.saved.iter().filter(|(id, ..)| *id == 3).map(|(_, file, _)| *file).collect();
    assert!(saved.contains(&EpochFile::Accepted) && !saved.contains(&EpochFile::Current), "{saved:?}");
}

// config-and-operations 5: what operators watch of an ensemble.
#[test]
fn what_members_go_through_is_counted() {
    let mut world = World::serving(|_, _| ());
    let counts = |world: &mut World| [1, 2, 3].map(|id| world.server(id).node.stats().role.expect("a member").counts);
    let at_first = counts(&mut world);
    assert_eq!(at_first.map(|counts| counts.unavailable_ms.count), [1; 3]);
    assert_eq!(at_first.map(|counts| counts.leader_unavailable_ms.count), [0, 0, 1]);
    assert_eq!(at_first.map(|counts| counts.follower_sync_ms.count), [1, 1, 0]);
    let syncs = at_first[2].syncs;
    assert_eq!((syncs.diffs, syncs.snaps, syncs.diffs_at_once.count, syncs.diffs_at_once.min), (2, 0, 4, 0));

    let session = world.connect(3, 30);
    let ages = |world: &mut World, id| {
        let ages = world.server(id).node.take_ages().unwrap_or_default();
        [ages.proposed, ages.acknowledged, ages.agreed, ages.committed].map(|runs| runs.iter().collect::<Vec<_>>())
    };
    (1..=3).for_each(|id| drop(ages(&mut world, id)));
    (1..=2).for_each(|id| world.server(id).disk_hangs = true);
    world.ask(3, 30, session, 1, create("/a", 0));
    world.now += 30;
    world.disk_goes_on(1);
    world.now += 10;
    world.disk_goes_on(2);
    assert_eq!(ages(&mut world, 3), [vec![], vec![(0, 1)], vec![(30, 1)], vec![]]);
    assert_eq!(ages(&mut world, 1), [vec![(0, 1)], vec![(30, 1)], vec![], vec![(30, 1)]]);
    assert_eq!(ages(&mut world, 2), [vec![(0, 1)], vec![(40, 1)], vec![], vec![(30, 1)]]);

    world.kill(3);
    world.wait(6 * TICK);
    assert_eq!(world.duties()[..2], [Duty::Forward, Duty::Order]);
    let then = counts(&mut world);
    assert_eq!(then.map(|counts| counts.unavailable_ms.count), [2, 2, 1]);
    assert_eq!(then.map(|counts| counts.leader_unavailable_ms.count), [0, 1, 1]);
    assert_eq!(then[1].unavailable_ms.max, then[1].leader_unavailable_ms.max.max(at_first[1].unavailable_ms.max));
    assert_eq!(then[0].follower_sync_ms.count, 2);
}

// Whoever is refused must not be back within a millisecond, as often as it is refused.
#[test]
fn who_is_refused_rests_before_it_tries_again() {
    let mut world = World::serving(|_, _| ());
    world.kill(1);
    let cuts = std::rc::Rc::new(std::cell::Cell::new(0));
    let count = cuts.clone();
    world.server(1).is_up = true;
    world.tamper = Some(Box::new(move |to, packet| {
        if to == 1 && matches!(packet, Packet::LeaderInfo { .. }) {
            count.set(count.get() + 1);
            // It is out of turn, and ends the attempt.
            *packet = Packet::UpToDate;
        }
    }));
    world.wait(10_000);
    assert!((20..200).contains(&cuts.get()), "{} attempts in ten seconds", cuts.get());
    world.tamper = None;
    world.wait(2000);
    assert_eq!(world.duties(), [Duty::Forward, Duty::Forward, Duty::Order]);
}

// 64.
#[test]
fn an_epoch_that_is_full_makes_room_for_the_next() {
    let mut world = World::serving(|_, rules| rules.last_counter = 4);
    let sessions = [world.connect(1, 10), world.connect(3, 30)];
    world.ask(1, 10, sessions[0], 1, create("/a", 0));
    world.ask(3, 30, sessions[1], 1, create("/b", 0));
    assert_eq!(world.heard(3, 30), [Heard::Reply(1, z(4).0, 0)]);
    world.wishes(3);
    world.ask(3, 30, sessions[1], 2, create("/c", 0));
    assert!(matches!(world.wishes(3)[..], [Effect::Close { conn: ConnId(30) }, ..]));
    assert_eq!(world.server(3).node.duty(), Duty::None);
    world.wait(3000);
    assert_eq!(world.duties(), [Duty::Forward, Duty::Forward, Duty::Order]);
    world.attach(1, 11, sessions[0]);
    world.ask(1, 11, sessions[0], 2, create("/c", 0));
    let next = Zxid::new(z(4).epoch() + 1, 1);
    assert_eq!(world.heard(1, 11), [Heard::Reply(2, next.0, 0)]);
    assert_eq!(world.has("/c"), [true; 3]);
}

// H18: what came with it, in one read, is not believed either, and ends nothing.
#[test]
fn a_proposal_that_does_not_decode_ends_the_role() {
    let mut world = World::serving(|_, _| ());
    let session = world.connect(3, 30);
    let (learner, _) = *world.links.iter().find(|(learner, _)| learner.server == 0).expect("it has a leader");
    let proposal = |zxid, txn: &[u8]| Packet::Proposal { zxid, txn: Bytes::copy_from_slice(txn) };
    let packets = vec![proposal(z(2), b"what"), proposal(z(3), b"ever"), Packet::Commit { zxid: z(2) }];
    world.step(1, Input::Peer(PeerInput::Packets { link: learner.link, packets, room: Room(None) }));
    assert!(world.notices(1).iter().any(|notice| matches!(notice, Notice::RoleEnded(Fault::Protocol(_)))));
    world.wait(3000);
    world.ask(3, 30, session, 1, create("/a", 0));
    assert_eq!(world.has("/a"), [true; 3], "it has come back");
}

// 48.
#[test]
fn clients_of_a_leader_without_followers_are_disconnected() {
    let mut world = World::serving(|_, _| ());
    world.kill(1);
    world.kill(2);
    world.wait(TICK);
    assert!(world.wishes(3).iter().any(|wish| matches!(wish, Effect::Peer(PeerEffect::StopServing))));
    assert_eq!(world.server(3).node.duty(), Duty::None);
    let password = Bytes::new();
    world.step(3, Input::Connect { conn: ConnId(30), session: SessionId::NONE, password, timeout_ms: TIMEOUT });
    world.expect(3, &[Effect::Close { conn: ConnId(30) }]);
}

// ---- local sessions (quorum-protocol 7; 12: 55) ----

#[test]
fn a_local_session_is_no_transaction() {
    for upgrade in [false, true] {
        let mut world = World::serving(with_local_sessions(upgrade));
        for id in 1..=3 {
            world.wishes(id);
            let before = world.server(id).logged;
            let (conn, session) = (id as u64, world.connect_locally(id, id as u64));
            assert_eq!(world.server(id).node.stats().local_sessions, 1);
            // It may come back, over another connection.
            world.attach(id, 10 + conn, session);
            let attached = Effect::Attached { conn: ConnId(10 + conn), session, timeout_ms: TIMEOUT };
            world.expect(id, &[Effect::Close { conn: ConnId(conn) }, attached]);
            // Elsewhere nobody knows it.
            let other = id % 3 + 1;
            world.wishes(other);
            world.attach(other, 20 + conn, session);
            world.expect(other, &[Effect::Refused { conn: ConnId(20 + conn) }]);
            world.ask(id, 10 + conn, session, 7, close());
            world.expect(id, &[Effect::ClosedLocally { conn: ConnId(10 + conn), xid: 7 }]);
            assert_eq!(world.server(id).node.stats().local_sessions, 0);
            assert_eq!(world.server(id).logged, before);
        }
        assert!(world.requests().is_empty());
        assert_eq!(world.servers[2].node.stats().sessions, 0);
    }
}

#[test]
fn a_local_session_may_write() {
    let mut world = World::serving(with_local_sessions(false));
    for id in 1..=3 {
        world.wishes(id);
        let session = world.connect_locally(id, id as u64);
        let path = format!("/of-{id}");
        world.ask(id, id as u64, session, 1, create(&path, 0));
        assert_eq!(world.heard(id, id as u64), [Heard::Reply(1, z(id as u32).0, 0)]);
        assert_eq!(world.has(&path), [true; 3]);
        world.ask(id, id as u64, session, 2, sync());
        assert_eq!(world.heard(id, id as u64), [Heard::Reply(2, z(id as u32).0, 0)]);
    }
    assert_eq!(world.servers[2].tree.sessions().len(), 0);
}

#[test]
fn an_ephemeral_of_a_local_session_is_refused_without_upgrades() {
    let mut world = World::serving(with_local_sessions(false));
    for id in 1..=3 {
        world.wishes(id);
        let session = world.connect_locally(id, id as u64);
        for (xid, flags) in [(1, 1), (2, 3)] {
            world.ask(id, id as u64, session, xid, create("/e", flags));
            world.expect(id, &[refused(id as u64, xid, ErrorCode::EphemeralOnLocalSession)]);
        }
        // It goes on.
        world.ask(id, id as u64, session, 3, create(&format!("/of-{id}"), 0));
        assert_eq!(world.heard(id, id as u64), [Heard::Reply(3, z(id as u32).0, 0)]);
    }
    // What a server of another configuration forwards is not believed either.
    let session = world.connect_locally(1, 10);
    world.wire.clear();
    let ids = Some(vec![Id { scheme: Some("ip".into()), id: Some("127.0.0.1".into()) }]);
    let (op, body) = create("/e", 1);
    world.forge(1, Packet::Request(Forwarded { session: session.0, cxid: 1, op, body, identities: ids }));
    let txns: Vec<Txn> = world.proposals().into_iter().map(|logged| logged.txn).collect();
    assert_eq!(txns, [Txn::Error { code: ErrorCode::SessionExpired.code() }]);
}

// 55.
#[test]
fn the_first_ephemeral_makes_a_session_known_to_all() {
    for id in 1..=3 {
        // An xid is the client's to choose.
        for xid in [1, 0] {
            let mut world = World::serving(with_local_sessions(true));
            world.wishes(id);
            let conn = id as u64;
            let session = world.connect_locally(id, conn);
            world.wire.clear();
            world.ask(id, conn, session, xid, create("/e", 1));
            assert_eq!(world.heard(id, conn), [Heard::Reply(xid, z(2).0, 0)], "server {id}");
            let wire = world.wire.clone();
            if id < 3 {
                assert_eq!(world.requests(), [(session, op::CREATE_SESSION), (session, op::CREATE)]);
            }
            world.wire = wire;
            let said = world.proposals();
            assert_eq!(said[0].txn, Txn::CreateSession { timeout_ms: TIMEOUT });
            assert_eq!((said[0].header.session, said[0].header.cxid), (session, 0));
            assert_eq!((said[1].header.session, said[1].header.cxid), (session, xid));
            assert_eq!(world.servers[0].tree.ephemerals(session).collect::<Vec<_>>(), ["/e"]);
            assert_eq!(world.server(id).node.stats().local_sessions, 0);

            // From now on it is like any other.
            world.ask(id, conn, session, 5, create("/f", 1));
            assert_eq!(world.heard(id, conn), [Heard::Reply(5, z(3).0, 0)]);
            let other = id % 3 + 1;
            world.wishes(other);
            world.attach(other, 40, session);
            let attached = Effect::Attached { conn: ConnId(40), session, timeout_ms: TIMEOUT };
            world.expect(other, &[attached]);
            world.alive.insert((other, session));
            world.wait(2 * i64::from(TIMEOUT));
            assert_eq!(world.has("/e"), [true; 3]);
            world.alive.clear();
            world.wait(2 * i64::from(TIMEOUT));
            assert_eq!(world.has("/e"), [false; 3]);
        }
    }
}

#[test]
fn a_silent_local_session_ends_with_its_connection() {
    let mut world = World::serving(with_local_sessions(true));
    for id in 1..=3 {
        world.wishes(id);
        let silent = world.connect_locally(id, 1);
        let alive = world.connect_locally(id, 2);
        world.alive.insert((id, alive));
        world.wait(i64::from(TIMEOUT) - TICK);
        world.expect(id, &[]);
        world.wait(3 * TICK);
        world.expect(id, &[Effect::Close { conn: ConnId(1) }]);
        world.attach(id, 3, silent);
        world.expect(id, &[Effect::Refused { conn: ConnId(3) }]);
        assert_eq!(world.server(id).node.stats().local_sessions, 1);
        world.ask(id, 2, alive, 1, close());
        world.alive.clear();
    }
    assert_eq!(world.servers[2].logged, Zxid::ZERO, "no transaction came of that");
}

// ---- without a leader (quorum-protocol 9.3; 12: 63) ----

#[test]
fn who_only_reads_is_served_without_a_leader() {
    let mut world = World::new(|_, rules| {
        rules.local_sessions = Some(LocalRules { upgrade: true });
        rules.read_only_after_ms = Some(2000);
    });
    world.server(2).is_up = false;
    world.server(3).is_up = false;
    world.wait(1999);
    world.expect(1, &[]);
    world.attach(1, 1, SessionId::NONE);
    world.expect(1, &[Effect::Close { conn: ConnId(1) }]);
    world.wait(1);
    world.expect(1, &[Effect::Peer(PeerEffect::Serve { duty: Duty::ReadOnly })]);
    assert_eq!(world.server(1).node.stats().role.unwrap().kind, RoleKind::Looking);
    let session = world.connect_locally(1, 2);
    // Who comes with a session of all servers cannot be told whether it lives.
    world.attach(1, 3, SessionId(0x0200_0000_0000_0001));
    world.expect(1, &[Effect::Close { conn: ConnId(3) }]);
    // Who had a session of this server alone can be told that it does not.
    world.attach(1, 3, SessionId(0x0100_0000_0000_0001));
    world.expect(1, &[Effect::Refused { conn: ConnId(3) }]);
    for (xid, request) in [(1, create("/a", 0)), (2, create("/e", 1)), (3, sync())] {
        world.ask(1, 2, session, xid, request);
        world.expect(1, &[refused(2, xid, ErrorCode::NotReadOnly)]);
    }
    assert_eq!(world.has("/a"), [false; 3]);
    // It may end its session, and ends it by its silence.
    world.ask(1, 2, session, 4, close());
    world.expect(1, &[Effect::ClosedLocally { conn: ConnId(2), xid: 4 }]);
    world.connect_locally(1, 4);
    world.wait(i64::from(TIMEOUT) + TICK);
    world.expect(1, &[Effect::Close { conn: ConnId(4) }]);

    // Until there is a leader.
    world.connect_locally(1, 5);
    world.server(2).is_up = true;
    world.server(3).is_up = true;
    world.wait(4000);
    let stopped = Effect::Peer(PeerEffect::StopServing);
    let serves = Effect::Peer(PeerEffect::Serve { duty: Duty::Forward });
    world.expect(1, &[stopped, serves]);
    assert_eq!(world.server(1).node.stats().local_sessions, 0);
    assert_eq!(world.duties(), [Duty::Forward, Duty::Forward, Duty::Order]);
}

#[test]
fn nobody_is_served_without_a_leader_if_that_is_off() {
    let mut world = World::new(|_, _| ());
    world.server(2).is_up = false;
    world.server(3).is_up = false;
    world.wait(60_000);
    world.expect(1, &[]);
    world.attach(1, 1, SessionId::NONE);
    world.expect(1, &[Effect::Close { conn: ConnId(1) }]);
}

// ---- member lists (quorum-protocol 3.3, 8.4) ----

#[test]
fn a_newer_list_of_the_same_members_is_saved() {
    // The voters have heard of it, and tell it to each other; or the leader tells it with NEWLEADER.
    for newest in [1, 3] {
        let mut world = World::new(|id, member| {
            if id == newest {
                *member = rules(id, membership(3, 7));
            }
        });
        world.wait(2000);
        for id in (1..=3).filter(|id| *id != newest) {
            let wishes = world.wishes(id);
            let saved = wishes.iter().filter_map(|wish| match wish {
                Effect::Peer(PeerEffect::SaveConfig { members }) => Some(members.version),
                _ => None,
            });
            assert_eq!(saved.collect::<Vec<_>>(), [7], "server {id}");
        }
        assert_eq!(world.duties(), [Duty::Forward, Duty::Forward, Duty::Order]);
        for server in &world.servers {
            let shown = server.tree.find("/zookeeper/config").unwrap();
            assert!(shown.data().unwrap().ends_with(b"version=7"));
        }
    }
}

#[test]
fn other_members_than_ours_end_the_process() {
    let list = |voters, version| Bytes::copy_from_slice(membership(voters, version).to_string().as_bytes());
    let told = |follows: bool, list: Bytes| {
        let mut world = World::new(|_, rules| rules.follows_config = follows);
        world.tamper = Some(Box::new(move |to, packet| {
            if let (1, Packet::NewLeader { config, .. }) = (to, packet) {
                *config = Some(list.clone());
            }
        }));
        world.wait(2000);
        let wishes = world.wishes(1);
        let exits = wishes.iter().filter(|wish| matches!(wish, Effect::Peer(PeerEffect::Exit { .. }))).count();
        let saves = wishes.iter().filter(|wish| matches!(wish, Effect::Peer(PeerEffect::SaveConfig { .. }))).count();
        let serves = wishes.iter().any(|wish| matches!(wish, Effect::Peer(PeerEffect::Serve { .. })));
        (exits, saves, serves)
    };
    assert_eq!(told(true, list(5, 9)), (1, 0, false));
    assert_eq!(told(true, list(3, 9)), (0, 1, true));
    // An older one, none, and any if ours is to stay.
    assert_eq!(told(true, list(5, 0)), (0, 0, true));
    assert_eq!(told(true, Bytes::from_static(b"not a list\nversion=9")), (0, 0, true));
    assert_eq!(told(false, list(5, 9)), (0, 0, true));
}

// ---- a tree that is not the leader's (design.md D8) ----

/// This server has a node that nobody else has.
fn stray(world: &mut World, server: usize, path: &str) {
    let tree = &mut world.servers[server - 1].tree;
    let last = tree.last_zxid();
    let header = Header { session: SessionId(1), cxid: 0, zxid: last.next(), time: 0 };
    let create = Create {
        kind: CreateKind::Create { ephemeral: false },
        path: path.into(),
        data: None,
        acl: Some(vec![Acl { perms: 31, scheme: "world".into(), id: "anyone".into() }]),
        parent_cversion: -1,
    };
    tree.apply(&header, &Txn::Create(create), &mut Unwatched);
    tree.set_last_zxid(last);
}

#[test]
fn a_learner_whose_tree_differs_takes_the_leaders_once_an_hour() {
    let mut world = World::serving(|_, _| ());
    let session = world.connect(3, 30);
    world.alive.insert((3, session));
    let mut xid = 0;
    let mut write = |world: &mut World| {
        xid += 1;
        world.ask(3, 30, session, xid, create(&format!("/n{xid}"), 0));
    };
    let asked = |world: &mut World| {
        let ask = |(from, _, packet): &(i64, i64, Packet)| match packet {
            Packet::AckEpoch { last: Zxid::ZERO, current: None } => Some(*from),
            _ => None,
        };
        let asked: Vec<i64> = world.wire.iter().filter_map(ask).collect();
        let snaps = world.wire.iter().filter(|(_, to, packet)| *to == 1 && matches!(packet, Packet::Snap { .. }));
        assert_eq!(snaps.count(), asked.len());
        world.wire.clear();
        asked
    };
    write(&mut world);
    stray(&mut world, 1, "/stray");
    assert!(asked(&mut world).is_empty());
    world.wishes(1);
    write(&mut world);
    // No election: it dials its leader again, and has its tree.
    world.wait(TICK);
    assert_eq!(asked(&mut world), [1]);
    assert_eq!(world.duties(), [Duty::Forward, Duty::Forward, Duty::Order]);
    assert_eq!(world.has("/stray"), [false; 3]);
    assert_eq!(world.servers[0].tree.digest(), world.servers[2].tree.digest());
    let served: Vec<Effect> = world.wishes(1);
    let serves = Effect::Peer(PeerEffect::Serve { duty: Duty::Forward });
    assert_eq!(format!("{served:?}"), format!("{:?}", [Effect::Peer(PeerEffect::StopServing), serves]));

    // Within the hour it only says so.
    stray(&mut world, 1, "/stray");
    write(&mut world);
    world.wait(TICK);
    assert!(asked(&mut world).is_empty());
    assert!(world.notices(1).contains(&Notice::DivergedAgain { leader: 3 }));
    assert_eq!(world.has("/stray"), [true, false, false]);
    world.wait(3_600_000);
    write(&mut world);
    world.wait(TICK);
    assert_eq!(asked(&mut world), [1]);
    assert_eq!(world.has("/stray"), [false; 3]);
}

#[test]
fn two_learners_whose_trees_differ_keep_them() {
    let mut world = World::serving(|_, _| ());
    let session = world.connect(3, 30);
    world.alive.insert((3, session));
    // The leader lacks what the others have, and each misses it at its own time.
    stray(&mut world, 1, "/stray");
    world.ask(3, 30, session, 1, create("/a", 0));
    world.wait(TICK);
    assert_eq!(world.has("/stray"), [false; 3]);
    stray(&mut world, 2, "/stray");
    world.ask(3, 30, session, 2, create("/b", 0));
    world.wait(TICK);
    assert_eq!(world.has("/stray"), [false, true, false]);
    assert_eq!(world.has("/b"), [true; 3]);
    assert_eq!(world.duties(), [Duty::Forward, Duty::Forward, Duty::Order]);
    assert!(world.notices(3).contains(&Notice::Disputed { by: vec![1, 2] }));
    // It says so, and serves on.
    world.ask(3, 30, session, 3, create("/c", 0));
    world.wait(TICK);
    assert!(world.notices(2).contains(&Notice::DivergedAgain { leader: 3 }));
    assert_eq!(world.has("/c"), [true; 3]);
}

#[test]
fn under_a_leader_of_java_s_a_difference_is_only_counted() {
    // Of Java's, as far as can be seen.
    let mut world = World::serving(|_, rules| rules.leader.level = None);
    let session = world.connect(3, 30);
    stray(&mut world, 1, "/stray");
    world.ask(3, 30, session, 1, create("/n", 0));
    world.wait(TICK);
    assert_eq!(world.server(1).node.stats().digest_mismatches, 1);
    assert_eq!(world.has("/stray"), [true, false, false]);
    assert_eq!(world.duties(), [Duty::Forward, Duty::Forward, Duty::Order]);
}
