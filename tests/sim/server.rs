//! A server as its shell runs it: a process with its threads, each a series of events. The Node's thread, the
//! connections, the log's thread and the image's do here, in the simulated order, what they do on threads of
//! their own; what they decide is the product's code.

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use jute::records::proto as wire;
use jute::{Reader, Record, Writer};
use zooid::acl::{Acl, AclRules, Identity};
use zooid::config::{Membership, MultiAddress, Role};
use zooid::election::ElectionRules;
use zooid::election::links::{self, LinkRules, Links};
use zooid::id::{ConnId, LinkId, ServerId, SessionId, Zxid};
use zooid::node::effect::{Effect, Notice, PeerEffect};
use zooid::node::input::{Input, Now, PeerInput, Raw, Room, Truncation};
use zooid::node::member::{Found, MemberRules};
use zooid::node::read;
use zooid::node::reaper::ReaperRules;
use zooid::node::reply;
use zooid::node::stats::{RoleKind, RoleStats};
use zooid::node::{Deliver, Duty, Node, NodeRules, initial_identities};
use zooid::order::Gate;
use zooid::prepare::PrepareRules;
use zooid::proto::ErrorCode;
use zooid::proto::request::{Frame, Read, Request, Write, decode};
use zooid::session::password;
use zooid::storage::epoch::EpochFile;
use zooid::storage::image::{Keeper, Progress, SnapshotFailure, meta, write_stream};
use zooid::storage::member::{Installed, LogPart, MemberStore, OpenedMember, Truncated, read_log, read_log_part};
use zooid::storage::purge::{Plan, Purger};
use zooid::storage::schedule::SnapshotSchedule;
use zooid::storage::{
    Durable, ForceSync, Image, LogOptions, LogWriter, Options, Pace, Position, Recovered, Replay, SnapshotId, Start,
    StorageError, Writer as LogEnd, recover,
};
use zooid::tree::snapshot::Compression;
use zooid::tree::stream::SnapshotParser;
use zooid::tree::{Tree, TreeRules};
use zooid::watch::{EventType, WatchTable};
use zooid::zab::Entry;
use zooid::zab::leader::LeaderRules;
use zooid::zab::learner::LearnerRules;
use zooid::zab::packet::Side as PacketSide;
use zooid::zab::packet::{FeatureLevel, Packet, PacketReader};

use crate::clock::{Clock, MS, SECOND, Time};
use crate::invariants::{Ghosts, Sender};
use crate::net::{ConnNo, Host, Net, Port, Side};
use crate::random::{Draw, Random};
use crate::support::sim::{SimDisk, SimImage, World as Machine};
use crate::world::{Event, Schedule};

/// What a server is configured with.
#[derive(Clone, Debug)]
pub struct ServerRules {
    /// Between two looks for containers and TTL nodes to remove.
    pub reap_ms: i64,
    pub tick_ms: i64,
    pub snap_count: u64,
    pub preallocate: u64,
    pub size_limit: Option<u64>,
    /// Between two notes of how much of the log is durable.
    pub mark_every: Time,
    pub image_every: Time,
    pub purge_every: Time,
    /// How long a sync takes on average.
    pub sync: Time,
    /// In a thousand syncs, one that takes up to two seconds.
    pub slow_syncs: u64,
    /// How long a thread waits for its turn on average.
    pub turn: Time,
    /// `None` for a server on its own.
    pub ensemble: Option<EnsembleRules>,
}

impl ServerRules {
    /// How often the clock is looked at, and how long a pause shows, as the product's clock has it.
    pub fn slack(&self) -> Time {
        (self.tick_ms as Time * MS / 2).clamp(50 * MS, 500 * MS)
    }
}

#[derive(Clone, Debug)]
pub struct EnsembleRules {
    pub membership: Arc<Membership>,
    pub init_limit: i64,
    pub sync_limit: i64,
    pub commit_log_count: usize,
    /// An epoch has no more transactions.
    pub last_counter: u32,
    pub force_snapshot: bool,
    pub sync_from_log: bool,
    pub leader_serves: bool,
    pub max_notification_ms: i64,
    /// Bit `id` of a server that has no feature of ours; bit 32 + `id` of one that is replaced by the other kind at each start.
    pub is_older: u64,
    pub max_diff_bytes: usize,
}

/// The members 1 to `voters`, and the observers behind them.
pub fn membership(voters: usize, observers: usize) -> Arc<Membership> {
    let line = |id: usize| {
        let role = if id > voters { ":observer" } else { "" };
        (format!("server.{id}"), format!("h{id}:2888:3888{role}"))
    };
    let lines = (1..=voters + observers).map(line).collect();
    Arc::new(Membership::parse(&lines, MultiAddress::Refused).expect("a good list"))
}

/// What a process works with besides itself.
pub struct Around<'a> {
    pub net: &'a mut Net,
    pub schedule: &'a mut Schedule,
    pub ghosts: &'a mut Ghosts,
    pub machine: &'a Machine,
    pub clock: &'a Clock,
    pub random: &'a mut Random,
    pub note: &'a mut dyn FnMut(&dyn Fn() -> String),
}

/// The process ended by itself.
#[derive(Debug)]
pub struct Exit(pub String);

impl From<StorageError> for Exit {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Refused(refusal) => panic!("[NoSilentSkip] a start is refused: {refusal}"),
            other => Self(other.to_string()),
        }
    }
}

enum OnTheSpot {
    Read(Read),
    Refused(ErrorCode),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Fresh,
    Connecting,
    Open,
    Closing,
}

struct ClientConn {
    no: ConnNo,
    phase: Phase,
    inbox: BytesMut,
    out: BytesMut,
    gate: Gate<(i32, OnTheSpot), i32>,
    identities: Arc<[Identity]>,
    session: SessionId,
    timeout_ms: i32,
    touched: Option<i64>,
    leaving: bool,
}

enum LogJob {
    Append { first: Zxid, last: Zxid, records: Bytes },
    Roll,
    GoOn,
    SaveEpoch { file: EpochFile, epoch: i64 },
    Truncate { target: Zxid, applied: Zxid },
    Install { tree: Box<Tree>, rest: Vec<Entry> },
}

impl LogJob {
    /// Wants everything before it to be durable.
    fn stands_alone(&self) -> bool {
        matches!(self, Self::SaveEpoch { .. } | Self::Truncate { .. } | Self::Install { .. })
    }
}

enum ImageJob {
    Replaced(SnapshotId),
    Reloaded(Keeper),
    Truncated(Zxid),
    Send(LinkId),
}

type Storage = LogEnd<SimDisk, SimImage>;

/// A link between leader and learner, or an attempt at one.
struct PeerLink {
    no: ConnNo,
    side: Side,
    reader: PacketReader,
    inbox: BytesMut,
    out: BytesMut,
    snapshot: Option<SnapshotParser>,
    leader: Host,
    is_up: bool,
    tries: u32,
}

/// Attempts at a leader's port, and how far apart.
const TRIES: u32 = 5;
const BETWEEN_TRIES: Time = 100 * MS;
/// The ids of accepted links begin here.
const ACCEPTED: u64 = 1 << 63;
const MAX_BUFFER: usize = 1 << 20;

/// What only a member has.
struct Peers {
    election: Links,
    /// Connections of the election, both ways.
    by_conn: BTreeMap<links::Conn, (ConnNo, Side)>,
    by_no: BTreeMap<ConnNo, links::Conn>,
    links: BTreeMap<LinkId, PeerLink>,
    /// The leader that was dialled last. What it has sent may be heard when the connection is gone.
    dialled: Option<Host>,
    listens: bool,
    accepted: u64,
}

pub struct Process {
    pub host: Host,
    pub life: u64,
    rules: ServerRules,
    node: Node,
    pub tree: Tree,
    watches: WatchTable,
    conns: BTreeMap<ConnId, ClientConn>,
    inputs: Vec<Input>,
    run_at: Option<Time>,
    duty: Duty,
    /// The epoch in which it serves.
    epoch: i64,
    peers: Option<Peers>,
    // The log's thread.
    storage: Storage,
    log_queue: VecDeque<LogJob>,
    log_busy: bool,
    log_full: bool,
    dropping: bool,
    unsynced: bool,
    // The image's thread.
    positions: Vec<Position>,
    keeper: Keeper,
    image_jobs: Vec<ImageJob>,
    image_at: Time,
    wanted: Vec<LinkId>,
    /// Where the last part of the log ended that was read for a learner.
    parts: BTreeMap<LinkId, Position>,
    saved: Option<Zxid>,
    purger: Purger,
    /// What may be purged, unless the log or the tree turns into another one meanwhile.
    purge: Option<Plan>,
    schedule: SnapshotSchedule,
    logged_bytes: u64,
    applied: u64,
    counted: u64,
    purged_at: Time,
}

const ACL_RULES: AclRules = AclRules { skip: false, digest: true };

impl Process {
    /// Starts on what is on the disks.
    pub fn start(host: Host, life: u64, rules: ServerRules, around: &mut Around<'_>) -> Result<Self, Exit> {
        let me = host as ServerId + 1;
        let server = if rules.ensemble.is_some() { me } else { 0 };
        let replay = if rules.ensemble.is_some() { Replay::Nothing } else { Replay::All };
        let options = Options { rules: TreeRules::default(), replay, server, ..Options::default() };
        let log_options =
            LogOptions { preallocate: rules.preallocate, size_limit: rules.size_limit, force_sync: ForceSync::Yes };
        let now = around.schedule.now();
        let mono = around.clock.mono_ms(now);
        let machine = around.machine;
        let (recovered, storage, found) = match rules.ensemble {
            None => {
                let recovered = recover(&machine.disks(), &machine.image, &options)?;
                let writer = LogWriter::new(machine.log.clone(), &recovered.log, log_options);
                (recovered, Storage::Alone(Box::new(writer)), None)
            }
            Some(_) => {
                let image = machine.image.clone();
                let (store, opened) = MemberStore::open(machine.disks(), image, options, log_options)?;
                let OpenedMember { recovered, epochs } = opened;
                let found = Found { is_blank: recovered.last_zxid == Zxid(-1), tail: recovered.tail.clone(), epochs };
                (recovered, Storage::Member(Box::new(store)), Some(found))
            }
        };
        around.ghosts.on_started(host, machine, &recovered, found.as_ref());
        let keeper = Keeper::new(server, &recovered, now / MS);
        let schedule = SnapshotSchedule::new(server, rules.snap_count, None, &recovered);
        let node_rules = NodeRules {
            server_id: me as u8,
            tick_ms: rules.tick_ms,
            record_most: zooid::journal::PAYLOAD_MAX,
            prepare: PrepareRules {
                acl: ACL_RULES,
                close_list_bytes: 1 << 20,
                extended_types: true,
                ..PrepareRules::default()
            },
            reaper: ReaperRules { interval_ms: rules.reap_ms, max_per_minute: 60_000, max_never_used_ms: 0 },
        };
        let millis = (now / MS) as i64 + life as i64;
        let (tree, check) = (recovered.tree, recovered.digest_check);
        let (node, peers) = match (&rules.ensemble, found) {
            (Some(ensemble), Some(found)) => {
                let member = member_rules(me, life, &rules, ensemble);
                let election = Links::new(LinkRules {
                    me,
                    membership: ensemble.membership.clone(),
                    multi_address: MultiAddress::Refused,
                    connect_ms: 5000,
                    handshake_ms: rules.tick_ms * ensemble.sync_limit,
                });
                let peers = Peers {
                    election,
                    by_conn: BTreeMap::new(),
                    by_no: BTreeMap::new(),
                    links: BTreeMap::new(),
                    dialled: None,
                    listens: false,
                    accepted: 0,
                };
                (Node::new_member(node_rules, member, &tree, found, check, mono, millis), Some(peers))
            }
            _ => {
                around.ghosts.heard[host].begin(mono);
                (Node::new(node_rules, &tree, check, mono, millis), None)
            }
        };
        let mut process = Self {
            host,
            life,
            duty: node.duty(),
            node,
            tree,
            watches: WatchTable::new(0),
            conns: BTreeMap::new(),
            inputs: Vec::new(),
            run_at: None,
            epoch: 0,
            peers,
            storage,
            log_queue: VecDeque::new(),
            log_busy: false,
            log_full: false,
            dropping: false,
            unsynced: false,
            positions: Vec::new(),
            keeper,
            image_jobs: Vec::new(),
            image_at: 0,
            wanted: Vec::new(),
            parts: BTreeMap::new(),
            saved: None,
            purger: Purger::default(),
            purge: None,
            schedule,
            logged_bytes: 0,
            applied: 0,
            counted: 0,
            purged_at: now,
            rules,
        };
        process.wake(around, 0);
        let every = process.rules.image_every;
        process.look_at_image(around, every);
        around.schedule.after(process.rules.mark_every, Event::Mark { host, life });
        Ok(process)
    }

    fn wake(&mut self, around: &mut Around<'_>, delay: Time) {
        let at = around.schedule.now() + delay;
        if self.run_at.is_none_or(|run_at| at < run_at) {
            self.run_at = Some(at);
            around.schedule.at(at, Event::Run { host: self.host, life: self.life });
        }
    }

    fn push(&mut self, around: &mut Around<'_>, input: Input) {
        self.inputs.push(input);
        let turn = around.random.around(self.rules.turn);
        self.wake(around, turn);
    }

    fn now(around: &Around<'_>) -> Now {
        let now = around.schedule.now();
        Now { mono: around.clock.mono_ms(now), wall_ms: around.clock.wall_ms(now) }
    }

    /// The Node's thread has a turn.
    pub fn run(&mut self, around: &mut Around<'_>) -> Result<(), Exit> {
        if self.run_at != Some(around.schedule.now()) {
            return Ok(());
        }
        self.run_at = None;
        let now = Self::now(around);
        let mut effects = Vec::new();
        for input in std::mem::take(&mut self.inputs) {
            if matches!(input, Input::LogFull) {
                self.apply_all(around, &mut effects)?;
                around.ghosts.on_log_full(self.host);
            }
            self.node.step(now, &self.tree, input, &mut effects);
        }
        if now.mono >= self.node.next_deadline() {
            let touched = self
                .conns
                .values_mut()
                .filter_map(|conn| conn.touched.take().map(|at| (conn.session, conn.timeout_ms, at)))
                .collect();
            self.node.step(now, &self.tree, Input::Time { touched }, &mut effects);
        }
        self.node.flush(now, &mut effects);
        self.carry_out(around, &mut effects)?;
        self.apply_all(around, &mut effects)?;
        self.on_election_time(around);
        self.write_out(around);
        let tick = if self.peers.is_some() { 5 } else { 20 };
        let due = around.clock.when(self.node.next_deadline()).max(around.schedule.now() + tick * MS);
        let links = self.peers.as_ref().and_then(|peers| peers.election.next_deadline());
        let due = links.map_or(due, |links| due.min(around.clock.when(links).max(around.schedule.now() + MS)));
        // It looks at the clock at least this often.
        let delay = (due - around.schedule.now()).min(self.rules.slack());
        self.wake(around, delay);
        Ok(())
    }

    fn apply_all(&mut self, around: &mut Around<'_>, effects: &mut Vec<Effect>) -> Result<(), Exit> {
        let now = Self::now(around);
        while self.node.has_committed() {
            let before = self.node.stats().applied;
            {
                let Self { node, tree, watches, conns, .. } = self;
                let mut delivery = Delivery { conns };
                node.apply(now, 1, tree, watches, &mut delivery, effects);
            }
            if self.node.stats().applied > before {
                self.applied += 1;
                let learns = |role: &RoleStats| matches!(role.kind, RoleKind::Following | RoleKind::Observing);
                let learns = self.node.stats().role.filter(learns).map(|role| role.epochs.accepted);
                around.ghosts.on_applied(self.host, learns, &self.tree);
            }
            self.node.flush(now, effects);
            self.carry_out(around, effects)?;
        }
        Ok(())
    }

    fn carry_out(&mut self, around: &mut Around<'_>, effects: &mut Vec<Effect>) -> Result<(), Exit> {
        let now = Self::now(around).mono;
        for effect in std::mem::take(effects) {
            match effect {
                Effect::Append { first, last, records } => {
                    around.ghosts.on_append(self.host, &records);
                    self.log_queue.push_back(LogJob::Append { first, last, records });
                    self.start_log(around);
                }
                Effect::LogFullHeard => {
                    self.log_queue.push_back(LogJob::GoOn);
                    self.start_log(around);
                }
                Effect::Attached { conn, session, timeout_ms } => {
                    if let Some(open) = self.conns.get_mut(&conn) {
                        open_session(open, session, timeout_ms);
                    }
                    let (ghosts, shows) = (&mut *around.ghosts, self.tree.last_zxid().0);
                    ghosts.taken[self.host].on_attached(&mut ghosts.model, session.0, conn.0, shows);
                }
                Effect::Refused { conn } => {
                    if let Some(conn) = self.conns.get_mut(&conn) {
                        write_connect_response(conn, SessionId::NONE, 0, &[0; 16]);
                        conn.phase = Phase::Closing;
                    }
                }
                Effect::Close { conn } => {
                    if let Some(conn) = self.conns.get_mut(&conn) {
                        conn.phase = Phase::Closing;
                    }
                }
                Effect::WriteRefused { conn, xid, error } => {
                    let zxid = self.tree.last_zxid();
                    let Self { tree, watches, conns, .. } = self;
                    let mut delivery = Delivery { conns };
                    delivery.answer(conn, tree, watches, |out| reply::write_header(out, xid, zxid, error.code()));
                }
                Effect::OpenedLocally { .. } | Effect::ClosedLocally { .. } => unreachable!("all sessions are global"),
                Effect::Notice(Notice::DigestMismatch { zxid, .. }) => {
                    panic!("[DigestEqual] server {}: the tree differs at {zxid}", self.host)
                }
                Effect::Notice(notice) => {
                    let host = self.host;
                    (around.note)(&|| format!("server {host}: {notice:?}"));
                    if let Notice::Expired { session, timeout_ms } = notice {
                        around.ghosts.heard[host].check_expired(host, session.0, timeout_ms, now);
                    }
                    if let Notice::Serving { epoch, .. } = notice {
                        self.epoch = epoch;
                        let leads = self.node.duty() == Duty::Order;
                        if leads {
                            around.ghosts.heard[host].begin(now);
                        }
                        around.ghosts.taken[host].clear();
                        around.ghosts.on_serving(host, epoch, leads, &self.tree);
                    }
                }
                Effect::Peer(effect) => self.carry_out_peer(around, effect)?,
            }
        }
        Ok(())
    }

    // Other members.

    fn carry_out_peer(&mut self, around: &mut Around<'_>, effect: PeerEffect) -> Result<(), Exit> {
        let now = Self::now(around).mono;
        let host = self.host;
        let peers = self.peers.as_mut().expect("a member has peers");
        let mut wishes = Vec::new();
        match effect {
            PeerEffect::Vote { to, body } => {
                around.ghosts.on_vote(host, &body);
                (around.note)(&|| {
                    format!(
                        "server {host} tells {to}: {:?}",
                        zooid::election::Notification::parse(&body).map(|n| (n.state, n.vote))
                    )
                });
                peers.election.send(now, to, body, &mut wishes);
            }
            PeerEffect::VoteAgain(votes) => peers.election.resend(now, votes, &mut wishes),
            PeerEffect::Listen => peers.listens = true,
            PeerEffect::StopListening => {
                peers.listens = false;
                for (_, link) in std::mem::take(&mut peers.links) {
                    around.net.close(around.schedule, link.no, link.side);
                }
            }
            PeerEffect::Dial { link, leader } => {
                let leader = leader as usize - 1;
                let no = around.net.dial(around.schedule, (host, self.life), leader, Port::Quorum);
                let link_here = PeerLink {
                    no,
                    side: Side::Dialler,
                    reader: PacketReader::new(PacketSide::Learner, MAX_BUFFER),
                    inbox: BytesMut::new(),
                    out: BytesMut::new(),
                    snapshot: None,
                    leader,
                    is_up: false,
                    tries: 1,
                };
                peers.links.insert(link, link_here);
                peers.dialled = Some(leader);
            }
            PeerEffect::Send { link, packet } => {
                if let Some(open) = peers.links.get_mut(&link) {
                    let text = || format!("server {host} sends on {link}: {packet:?}");
                    (around.note)(&|| text().chars().take(160).collect());
                    let to = around.net.host_of(open.no, open.side.other());
                    let (leader, epoch, committed) = (open.leader, self.epoch, self.node.committed());
                    let from = Sender { leader, to, epoch, committed };
                    around.ghosts.on_packet(host, around.machine, &packet, from);
                    packet.write(&mut open.out);
                }
            }
            PeerEffect::CloseLink { link } => {
                if let Some(open) = peers.links.remove(&link) {
                    around.net.close(around.schedule, open.no, open.side);
                }
            }
            PeerEffect::SaveEpoch { file, epoch } => self.log_queue.push_back(LogJob::SaveEpoch { file, epoch }),
            PeerEffect::Truncate { target, applied } => {
                self.log_queue.push_back(LogJob::Truncate { target, applied });
            }
            PeerEffect::Install { tree, rest } => {
                let leader = peers.dialled.expect("a tree comes from a leader");
                around.ghosts.on_tree(host, leader, tree.last_zxid().0);
                self.log_queue.push_back(LogJob::Install { tree, rest });
            }
            PeerEffect::ReadLog { link, after, upto, in_parts } => {
                let log = &around.machine.log;
                let entries = if in_parts {
                    let known = self.parts.remove(&link).filter(|position| position.zxid == after);
                    let start = known.map_or(Start::Behind(after), Start::BehindRecord);
                    read_log_part(log, start, upto, 400).unwrap_or_default().map(|LogPart { entries, end }| {
                        self.parts.extend(end.map(|end| (link, end)));
                        entries
                    })
                } else {
                    read_log(log, after, upto, 1 << 20).unwrap_or_default()
                };
                self.push(around, Input::Peer(PeerInput::LogRead { link, entries }));
            }
            PeerEffect::AwaitDrained { link } => {
                let delay = around.random.around(5 * MS);
                let event = Event::WentOut { host: self.host, life: self.life, link, snapshot: None };
                around.schedule.after(delay, event);
            }
            PeerEffect::SendSnapshot { link } => {
                self.image_jobs.push(ImageJob::Send(link));
                let delay = around.random.around(20 * MS);
                self.look_at_image(around, delay);
            }
            PeerEffect::Serve { duty } => self.duty = duty,
            PeerEffect::StopServing => {
                self.duty = Duty::None;
                self.epoch = 0;
                let ids: Vec<ConnId> = self.conns.keys().copied().collect();
                for id in ids {
                    self.drop_conn(around, id);
                }
            }
            PeerEffect::SaveConfig { .. } => unreachable!("the list of members does not change"),
            PeerEffect::Exit { why } => return Err(Exit(why)),
        }
        self.start_log(around);
        self.carry_out_election(around, wishes);
        Ok(())
    }

    fn on_election_time(&mut self, around: &mut Around<'_>) {
        let now = Self::now(around).mono;
        let Some(peers) = &mut self.peers else { return };
        let mut wishes = Vec::new();
        peers.election.on_time(now, &mut wishes);
        self.carry_out_election(around, wishes);
    }

    fn carry_out_election(&mut self, around: &mut Around<'_>, wishes: Vec<links::Effect>) {
        let mut wishes: VecDeque<links::Effect> = wishes.into();
        while let Some(wish) = wishes.pop_front() {
            let peers = self.peers.as_mut().expect("a member has peers");
            match wish {
                links::Effect::Dial { conn, to, .. } => {
                    let no = around.net.dial(around.schedule, (self.host, self.life), to as usize - 1, Port::Election);
                    peers.by_conn.insert(conn, (no, Side::Dialler));
                    peers.by_no.insert(no, conn);
                }
                links::Effect::Write { conn, bytes } => {
                    let Some((no, side)) = peers.by_conn.get(&conn).copied() else { continue };
                    around.net.send(around.schedule, no, side, bytes);
                    let mut more = Vec::new();
                    peers.election.on_written(conn, &mut more);
                    wishes.extend(more);
                }
                links::Effect::Close { conn, .. } => {
                    if let Some((no, side)) = peers.by_conn.remove(&conn) {
                        peers.by_no.remove(&no);
                        around.net.close(around.schedule, no, side);
                    }
                }
                links::Effect::Deliver { from, body } => {
                    let host = self.host;
                    (around.note)(&|| format!("server {host} is told by {from}"));
                    self.push(around, Input::Peer(PeerInput::Notification { from, body }));
                }
            }
        }
    }

    fn link_of(&self, no: ConnNo) -> Option<LinkId> {
        let links = &self.peers.as_ref()?.links;
        links.iter().find(|(_, link)| link.no == no).map(|(id, _)| *id)
    }

    /// A snapshot on a link, or what was queued there.
    pub fn went_out(&mut self, around: &mut Around<'_>, link: LinkId, snapshot: Option<Zxid>) {
        if self.peers.as_ref().is_some_and(|peers| peers.links.contains_key(&link)) {
            self.push(
                around,
                Input::Peer(match snapshot {
                    Some(zxid) => PeerInput::SnapshotSent { link, zxid },
                    None => PeerInput::Drained { link },
                }),
            );
        }
    }

    /// Another attempt at the leader's port is due.
    pub fn redial(&mut self, around: &mut Around<'_>, link: LinkId) {
        let Some(open) = self.peers.as_mut().and_then(|peers| peers.links.get_mut(&link)) else { return };
        open.tries += 1;
        open.no = around.net.dial(around.schedule, (self.host, self.life), open.leader, Port::Quorum);
    }

    fn on_quorum_bytes(&mut self, around: &mut Around<'_>, no: ConnNo, bytes: &Bytes) {
        let now = Self::now(around).mono;
        let Some(id) = self.link_of(no) else { return };
        let peers = self.peers.as_mut().expect("a member has peers");
        let link = peers.links.get_mut(&id).expect("just found");
        link.inbox.extend_from_slice(bytes);
        let mut inputs = Vec::new();
        let mut packets = Vec::new();
        loop {
            if let Some(parser) = &mut link.snapshot {
                match parser.feed(&mut link.inbox).expect("a snapshot of our own") {
                    None => {
                        inputs.push(PeerInput::SyncProgress { link: id });
                        break;
                    }
                    Some(tree) => {
                        link.snapshot = None;
                        inputs.push(PeerInput::SnapshotReceived { link: id, tree: Box::new(tree) });
                    }
                }
            }
            match link.reader.next(&mut link.inbox).expect("packets of our own") {
                None => break,
                Some(packet) => {
                    let spoken_of = match &packet {
                        Packet::Ping { touched: Some(touched), .. } => touched.iter().map(|one| one.session).collect(),
                        Packet::Request(request) => vec![request.session],
                        _ => Vec::new(),
                    };
                    spoken_of.into_iter().for_each(|session| around.ghosts.heard[self.host].hear(session, now));
                    let is_snap = matches!(packet, Packet::Snap { .. });
                    packets.push(packet);
                    if is_snap {
                        link.snapshot = Some(SnapshotParser::new(TreeRules::default(), MAX_BUFFER));
                        let packets = std::mem::take(&mut packets);
                        inputs.push(PeerInput::Packets { link: id, packets, room: Room(None) });
                    }
                }
            }
        }
        if !packets.is_empty() {
            inputs.push(PeerInput::Packets { link: id, packets, room: Room(None) });
        }
        for input in inputs {
            self.push(around, Input::Peer(input));
        }
    }

    // Connections.

    /// Its disk is as fast as it should be from now on.
    pub fn calm(&mut self) {
        self.rules.slow_syncs = 0;
    }

    /// It stood still until now.
    pub fn go_on(&mut self, now: Time) {
        // Those of its threads whose turn had come have it now.
        self.run_at = self.run_at.map(|at| at.max(now));
        self.image_at = self.image_at.max(now);
    }

    /// Whether it has come so far that it leads or follows, whoever it lets in.
    pub fn has_a_role(&self) -> bool {
        matches!(self.node.duty(), Duty::Order | Duty::Forward)
    }

    /// Whether it follows, or leads, the newest leadership.
    pub fn follows(&self, newest: i64) -> bool {
        self.peers.is_none() || self.duty != Duty::None && self.epoch == newest
    }

    pub fn leads(&self, newest: i64) -> bool {
        self.duty == Duty::Order && self.follows(newest)
    }

    pub fn on_dialled(&mut self, around: &mut Around<'_>, no: ConnNo, connected: bool) {
        let now = Self::now(around).mono;
        let Some(peers) = &mut self.peers else { return };
        if let Some(conn) = peers.by_no.get(&no).copied() {
            let mut wishes = Vec::new();
            if connected {
                peers.election.on_dialled(now, conn, &mut wishes);
            } else {
                peers.election.on_closed(now, conn);
                peers.by_no.remove(&no);
                peers.by_conn.remove(&conn);
            }
            return self.carry_out_election(around, wishes);
        }
        let Some(id) = self.link_of(no) else { return };
        let link = self.peers.as_mut().and_then(|peers| peers.links.get_mut(&id)).expect("just found");
        if connected {
            link.is_up = true;
            self.push(around, Input::Peer(PeerInput::LinkUp { link: id }));
        } else if link.tries < TRIES {
            around.schedule.after(BETWEEN_TRIES, Event::Redial { host: self.host, life: self.life, link: id });
        } else {
            self.peers.as_mut().expect("a member").links.remove(&id);
            self.push(around, Input::Peer(PeerInput::LinkDown { link: id }));
        }
    }

    pub fn on_arrival(
        &mut self,
        around: &mut Around<'_>,
        no: ConnNo,
        port: Port,
        bytes: Option<Bytes>,
    ) -> Result<(), Exit> {
        let now = Self::now(around).mono;
        match (port, bytes) {
            (Port::Client, Some(bytes)) => self.on_bytes(around, no, &bytes),
            (Port::Client, None) => self.drop_conn(around, ConnId(no.0)),
            (Port::Election, bytes) => {
                let Some(peers) = &mut self.peers else { return Ok(()) };
                let Some(conn) = peers.by_no.get(&no).copied() else { return Ok(()) };
                let mut wishes = Vec::new();
                match bytes {
                    Some(bytes) => peers.election.on_bytes(now, conn, &bytes, &mut wishes),
                    None => {
                        peers.election.on_closed(now, conn);
                        peers.by_no.remove(&no);
                        peers.by_conn.remove(&conn);
                    }
                }
                self.carry_out_election(around, wishes);
                self.wake(around, MS);
            }
            (Port::Quorum, Some(bytes)) => self.on_quorum_bytes(around, no, &bytes),
            (Port::Quorum, None) => {
                if let Some(link) = self.link_of(no) {
                    self.peers.as_mut().expect("a member has peers").links.remove(&link);
                    self.push(around, Input::Peer(PeerInput::LinkDown { link }));
                }
            }
        }
        Ok(())
    }

    /// Somebody connects: this process listens.
    pub fn on_accepted(&mut self, around: &mut Around<'_>, no: ConnNo, port: Port) {
        match port {
            Port::Client => self.accept_client(no),
            Port::Election => {
                let now = Self::now(around).mono;
                let peers = self.peers.as_mut().expect("a member listens");
                let mut wishes = Vec::new();
                let conn = peers.election.on_accepted(now, &mut wishes);
                peers.by_conn.insert(conn, (no, Side::Listener));
                peers.by_no.insert(no, conn);
                self.carry_out_election(around, wishes);
            }
            Port::Quorum => {
                let peers = self.peers.as_mut().expect("a member listens");
                let link = LinkId(ACCEPTED | peers.accepted);
                peers.accepted += 1;
                let accepted = PeerLink {
                    no,
                    side: Side::Listener,
                    reader: PacketReader::new(PacketSide::Leader, MAX_BUFFER),
                    inbox: BytesMut::new(),
                    out: BytesMut::new(),
                    snapshot: None,
                    leader: self.host,
                    is_up: true,
                    tries: 0,
                };
                peers.links.insert(link, accepted);
                self.push(around, Input::Peer(PeerInput::LinkUp { link }));
            }
        }
    }

    fn accept_client(&mut self, no: ConnNo) {
        let conn = ClientConn {
            no,
            phase: Phase::Fresh,
            inbox: BytesMut::new(),
            out: BytesMut::new(),
            gate: Gate::default(),
            identities: initial_identities("127.0.0.1"),
            session: SessionId::NONE,
            timeout_ms: 0,
            touched: None,
            leaving: false,
        };
        self.conns.insert(ConnId(no.0), conn);
    }

    pub fn listens(&self, port: Port) -> bool {
        match (port, &self.peers) {
            (Port::Client, _) => true,
            (_, None) => false,
            (Port::Election, Some(_)) => true,
            (Port::Quorum, Some(peers)) => peers.listens,
        }
    }

    fn drop_conn(&mut self, around: &mut Around<'_>, id: ConnId) {
        let Some(conn) = self.conns.remove(&id) else { return };
        around.net.close(around.schedule, conn.no, Side::Listener);
        self.watches.remove_conn(id);
        if conn.session != SessionId::NONE {
            let touched = conn.touched.map(|at| (conn.session, conn.timeout_ms, at));
            self.push(around, Input::Disconnected { conn: id, session: conn.session, touched });
        }
    }

    fn on_bytes(&mut self, around: &mut Around<'_>, no: ConnNo, bytes: &Bytes) {
        let id = ConnId(no.0);
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.inbox.extend_from_slice(bytes);
            self.understand(around, id);
            self.write_out_one(around, id);
        }
    }

    fn understand(&mut self, around: &mut Around<'_>, id: ConnId) {
        let now = Self::now(around);
        let mut inputs = Vec::new();
        let Self { conns, tree, watches, .. } = self;
        let conn = conns.get_mut(&id).expect("it has bytes");
        let mut refused = false;
        while let Some(length) = conn.inbox.first_chunk::<4>().map(|length| u32::from_be_bytes(*length) as usize) {
            if conn.inbox.len() < 4 + length || !matches!(conn.phase, Phase::Fresh | Phase::Open) {
                break;
            }
            conn.inbox.advance(4);
            let mut r = Reader::new(conn.inbox.split_to(length).freeze());
            if conn.phase == Phase::Fresh {
                let request = wire::ConnectRequest::read(&mut r).expect("a ConnectRequest");
                if self.duty == Duty::None || Zxid(request.last_zxid_seen) > tree.last_zxid() {
                    refused = true;
                    break;
                }
                conn.phase = Phase::Connecting;
                let tick = self.rules.tick_ms as i32;
                let timeout_ms = request.time_out.clamp(2 * tick, 20 * tick);
                inputs.push(Input::Connect {
                    conn: id,
                    session: SessionId(request.session_id),
                    password: request.passwd.unwrap_or_default(),
                    timeout_ms,
                });
                continue;
            }
            conn.touched = Some(now.mono);
            around.ghosts.heard[self.host].hear(conn.session.0, now.mono);
            if conn.leaving {
                continue;
            }
            let wire::RequestHeader { xid, op } = wire::RequestHeader::read(&mut r).expect("a request's header");
            let body = r.rest();
            let (session, identities) = (conn.session, conn.identities.clone());
            let request = match decode(op, body.clone()) {
                Frame::Request(Request::Write(write)) => {
                    conn.leaving = write == Write::CloseSession;
                    conn.gate.on_write(xid);
                    around.ghosts.taken[self.host].take(session.0, id.0, xid);
                    inputs.push(Input::Write { conn: id, session, xid, write, raw: Raw { op, body }, identities });
                    continue;
                }
                Frame::Request(Request::Read(Read::Sync { path })) if self.peers.is_some() => {
                    conn.gate.on_write(xid);
                    inputs.push(Input::Sync { conn: id, session, xid, path, raw: Raw { op, body }, identities });
                    continue;
                }
                Frame::Request(Request::Read(read)) => OnTheSpot::Read(read),
                Frame::Request(Request::Refused(error)) => OnTheSpot::Refused(error),
                other => panic!("clients do not send {other:?}"),
            };
            if let Some((xid, request)) = conn.gate.on_read((xid, request)) {
                let table = RefCell::new(&mut *watches);
                answer(conn, id, tree, || RefMut::map(table.borrow_mut(), |table| &mut **table), xid, &request);
            }
        }
        if refused {
            return self.drop_conn(around, id);
        }
        for input in inputs {
            self.push(around, input);
        }
    }

    fn write_out(&mut self, around: &mut Around<'_>) {
        let ids: Vec<ConnId> = self.conns.keys().copied().collect();
        for id in ids {
            self.write_out_one(around, id);
        }
        let Some(peers) = &mut self.peers else { return };
        for link in peers.links.values_mut().filter(|link| !link.out.is_empty() && link.is_up) {
            let out = std::mem::take(&mut link.out).freeze();
            around.net.send(around.schedule, link.no, link.side, out);
        }
    }

    fn write_out_one(&mut self, around: &mut Around<'_>, id: ConnId) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if !conn.out.is_empty() {
            let out = std::mem::take(&mut conn.out).freeze();
            around.net.send(around.schedule, conn.no, Side::Listener, out);
        }
        match conn.phase {
            Phase::Closing => self.drop_conn(around, id),
            Phase::Open if !conn.inbox.is_empty() => self.understand(around, id),
            _ => {}
        }
    }

    // The log's thread.

    fn start_log(&mut self, around: &mut Around<'_>) {
        if self.log_busy || self.log_queue.is_empty() {
            return;
        }
        self.log_busy = true;
        let slow = around.random.permille(self.rules.slow_syncs);
        let extra = if slow { around.random.below(2 * SECOND) } else { 0 };
        let takes = around.random.around(self.rules.sync) + extra;
        around.schedule.after(takes, Event::LogDone { host: self.host, life: self.life, written: false });
    }

    /// First what queued is written, unsafe; then it is synced. What must stand alone comes after that.
    pub fn on_log_done(&mut self, around: &mut Around<'_>, written: bool) -> Result<(), Exit> {
        if written {
            self.sync(around)?;
        } else if self.log_queue.front().is_some_and(LogJob::stands_alone) {
            let job = self.log_queue.pop_front().expect("just looked");
            self.carry_out_alone(around, job)?;
        } else {
            while let Some(job) = self.log_queue.pop_front_if(|job| !job.stands_alone()) {
                self.write_job(around, job)?;
            }
            let takes = around.random.around(self.rules.sync);
            around.schedule.after(takes, Event::LogDone { host: self.host, life: self.life, written: true });
            return Ok(());
        }
        self.log_busy = false;
        self.start_log(around);
        Ok(())
    }

    fn write_job(&mut self, around: &mut Around<'_>, job: LogJob) -> Result<(), Exit> {
        match job {
            LogJob::Append { .. } if self.dropping => {}
            LogJob::Append { first, last, records } => match self.storage.append(first, last, &records) {
                Ok(()) => self.unsynced = true,
                Err(StorageError::Full(_)) => {
                    (self.log_full, self.dropping) = (true, true);
                    self.sync(around)?;
                    self.push(around, Input::LogFull);
                }
                Err(error) => return Err(error.into()),
            },
            LogJob::GoOn => self.dropping = false,
            LogJob::Roll => {
                let durable = self.storage.roll()?;
                self.report(around, durable);
            }
            _ => unreachable!("stands alone"),
        }
        Ok(())
    }

    fn carry_out_alone(&mut self, around: &mut Around<'_>, job: LogJob) -> Result<(), Exit> {
        let host = self.host;
        let input = match job {
            LogJob::SaveEpoch { file, epoch } => {
                self.storage.member().save_epoch(file, epoch)?;
                around.ghosts.on_epoch_saved(host, around.machine);
                PeerInput::EpochSaved { file, epoch }
            }
            LogJob::Truncate { target, applied } => {
                around.ghosts.on_uncertain(host, target.0);
                PeerInput::Truncated(match self.storage.member().truncate(target, applied)? {
                    Truncated::NoBase => Truncation::NoBase,
                    Truncated::Log { last, .. } => {
                        self.positions.retain(|position| position.zxid <= last);
                        self.image_jobs.push(ImageJob::Truncated(last));
                        around.ghosts.on_truncated(host, target, last, None);
                        Truncation::Log { last }
                    }
                    Truncated::Reloaded { recovered, .. } => {
                        self.positions.clear();
                        let keeper = Keeper::new(host as i64 + 1, &recovered, around.schedule.now() / MS);
                        let Recovered { tree, tail, last_zxid, .. } = *recovered;
                        around.ghosts.on_truncated(host, target, last_zxid, Some((&tree, &tail)));
                        self.tree = tree;
                        self.image_jobs.push(ImageJob::Reloaded(keeper));
                        Truncation::Reloaded { tail }
                    }
                })
            }
            LogJob::Install { tree, rest } => {
                let last = rest.last().map_or(tree.last_zxid(), |entry| entry.zxid);
                around.ghosts.on_uncertain(host, last.0);
                let Installed { snapshot, last, records, .. } = match self.storage.member().install(&tree, &rest) {
                    Err(StorageError::Full(error)) => return Err(Exit(error.to_string())),
                    other => other?,
                };
                around.ghosts.on_installed(host, around.machine, &tree, &rest, &snapshot, &records);
                self.tree = *tree;
                self.image_jobs.push(ImageJob::Replaced(snapshot));
                self.positions = records;
                PeerInput::Installed { last }
            }
            _ => unreachable!("does not stand alone"),
        };
        self.push(around, Input::Peer(input));
        Ok(())
    }

    fn sync(&mut self, around: &mut Around<'_>) -> Result<(), Exit> {
        if std::mem::take(&mut self.unsynced) {
            let durable = self.storage.sync()?;
            self.report(around, durable);
        }
        Ok(())
    }

    fn report(&mut self, around: &mut Around<'_>, durable: Durable) {
        around.ghosts.on_durable(self.host, around.machine, &durable);
        self.positions.extend(durable.records);
        self.push(around, Input::Durable(durable.zxid));
    }

    /// Once a second.
    pub fn on_mark(&mut self, around: &mut Around<'_>) -> Result<(), Exit> {
        if !self.log_busy {
            self.storage.write_durable_mark()?;
            if self.log_full && self.storage.has_room().map_err(StorageError::from)? {
                self.log_full = false;
                self.push(around, Input::LogRoom);
            }
        }
        around.schedule.after(self.rules.mark_every, Event::Mark { host: self.host, life: self.life });
        Ok(())
    }

    // The image's thread.

    fn look_at_image(&mut self, around: &mut Around<'_>, delay: Time) {
        let at = around.schedule.now() + delay;
        if self.image_at <= around.schedule.now() || at < self.image_at {
            self.image_at = at;
            around.schedule.at(at, Event::Image { host: self.host, life: self.life });
        }
    }

    pub fn on_image(&mut self, around: &mut Around<'_>) -> Result<(), Exit> {
        if self.image_at != around.schedule.now() {
            return Ok(());
        }
        if let Err(error) = self.keep_image(around) {
            // The product gives it up; only a machine that is off says so here.
            return Err(Exit(format!("the image: {error}")));
        }
        let every = self.rules.image_every;
        self.look_at_image(around, every);
        Ok(())
    }

    fn keep_image(&mut self, around: &mut Around<'_>) -> Result<(), SnapshotFailure> {
        let now_ms = around.schedule.now() / MS;
        let image: &SimImage = &around.machine.image;
        for job in std::mem::take(&mut self.image_jobs) {
            if !matches!(job, ImageJob::Send(_)) {
                self.purge = None;
            }
            match job {
                ImageJob::Send(link) => self.wanted.push(link),
                ImageJob::Truncated(last) => self.keeper.on_truncated(last),
                ImageJob::Replaced(id) => {
                    self.keeper.on_replaced(id);
                    self.schedule.on_snapshot(id.len);
                    self.saved = None;
                }
                ImageJob::Reloaded(keeper) => {
                    self.keeper = keeper;
                    self.saved = None;
                }
            }
        }
        self.keeper.on_durable(&std::mem::take(&mut self.positions));
        let applied = self.tree.last_zxid();
        self.keeper.on_applied(applied);
        if self.saved != Some(applied) {
            let mut capture = self.keeper.begin();
            while capture.take(&mut self.tree) == Progress::More {
                if let Some(part) = capture.take_part() {
                    image.write(&part)?;
                }
            }
            if let Ok(batch) = self.keeper.finish(capture, &mut self.tree) {
                image.write(&batch)?;
                self.saved = Some(applied);
                let flush = self.keeper.on_written(batch.bytes(), now_ms, now_ms);
                if flush || around.random.permille(100) {
                    image.flush()?;
                    self.keeper.on_flushed(now_ms);
                }
            }
        }
        if self.saved == Some(applied) {
            self.send_snapshots(around)?;
        }
        let appended = self.storage.appended();
        self.schedule.on_logged(self.applied - self.counted, appended - self.logged_bytes);
        (self.counted, self.logged_bytes) = (self.applied, appended);
        if self.schedule.is_due() {
            self.write_snapshot(around)?;
        }
        if let Some(plan) = self.purge.take()
            && let Ok(purged) = plan.carry_out(&around.machine.log, &around.machine.snap)
        {
            assert_eq!(purged.kept_all, None, "[PurgeSafe] server {}", self.host);
        }
        if around.schedule.now() - self.purged_at >= self.rules.purge_every {
            self.purged_at = around.schedule.now();
            if self.schedule.is_due_before_purge() {
                self.write_snapshot(around)?;
            }
            self.purge = self.purger.plan(&around.machine.log, &around.machine.snap, 3).ok();
        }
        Ok(())
    }

    /// The image is level with the tree.
    fn send_snapshots(&mut self, around: &mut Around<'_>) -> Result<(), SnapshotFailure> {
        for id in std::mem::take(&mut self.wanted) {
            let view = around.machine.image.view()?;
            let meta = meta(&view)?.expect("the image was just written");
            let zxid = meta.anchor.zxid();
            let mut stream = Vec::new();
            write_stream(&view, &meta, &mut stream).expect("memory takes it");
            let peers = self.peers.as_mut().expect("a member has peers");
            if let Some(link) = peers.links.get_mut(&id) {
                let host = self.host;
                (around.note)(&|| format!("server {host} sends a snapshot of {zxid} on {id}"));
                Packet::Snap { zxid }.write(&mut link.out);
                link.out.extend_from_slice(&stream);
            }
            // As long as the tree is large.
            let usual = if around.random.permille(300) { 800 * MS } else { 20 * MS };
            let delay = around.random.around(usual);
            let event = Event::WentOut { host: self.host, life: self.life, link: id, snapshot: Some(zxid) };
            around.schedule.after(delay, event);
        }
        Ok(())
    }

    fn write_snapshot(&mut self, around: &mut Around<'_>) -> Result<(), SnapshotFailure> {
        let (image, snap) = (&around.machine.image, &around.machine.snap);
        let mut bytes = 0;
        if let Some(job) = self.keeper.begin_snapshot(image, Compression::Plain)? {
            self.log_queue.push_back(LogJob::Roll);
            self.start_log(around);
            let id = job.write(snap, Pace::Hurried)?;
            self.keeper.finish_snapshot(image, snap, id)?;
            bytes = id.len;
        }
        self.schedule.on_snapshot(bytes);
        Ok(())
    }
}

fn member_rules(me: ServerId, life: u64, rules: &ServerRules, ensemble: &EnsembleRules) -> MemberRules {
    let EnsembleRules { membership, init_limit, sync_limit, .. } = ensemble;
    let role = membership.members[&me].role;
    let text = membership.to_string();
    let is_older = (ensemble.is_older >> me ^ ensemble.is_older >> (32 + me) & life) & 1 == 1;
    let level = Some(if is_older { FeatureLevel(0) } else { FeatureLevel::AHEAD });
    let (tick_ms, init_limit_ticks, sync_limit_ticks) = (rules.tick_ms, *init_limit, *sync_limit);
    assert!(role == Role::Participant || role == Role::Observer);
    MemberRules {
        me,
        role,
        election: ElectionRules {
            me,
            role,
            membership: membership.clone(),
            min_interval_ms: 200,
            max_interval_ms: ensemble.max_notification_ms,
        },
        leader: LeaderRules {
            me,
            tick_ms,
            init_limit_ticks,
            sync_limit_ticks,
            membership: membership.clone(),
            config_text: Bytes::copy_from_slice(text.as_bytes()),
            level,
            force_snapshot: ensemble.force_snapshot,
            sync_from_log: ensemble.sync_from_log,
            max_concurrent_snap_syncs: 10,
            max_concurrent_diff_syncs: 100,
            max_diff_bytes: ensemble.max_diff_bytes,
        },
        learner: LearnerRules {
            me,
            role,
            tick_ms,
            init_limit_ticks,
            sync_limit_ticks,
            connect_limit_ticks: init_limit_ticks,
            config_version: 0,
            level,
        },
        last_counter: ensemble.last_counter,
        commit_log_count: ensemble.commit_log_count,
        follows_config: false,
        multi_address: MultiAddress::Refused,
        ack_logging_frequency: 1,
        leader_serves: ensemble.leader_serves,
        local_sessions: None,
        read_only_after_ms: None,
    }
}

fn write_connect_response(conn: &mut ClientConn, session: SessionId, timeout_ms: i32, password: &[u8; 16]) {
    let start = conn.out.len();
    let mut w = Writer::new(&mut conn.out);
    w.int(0);
    w.int(0);
    w.int(timeout_ms);
    w.long(session.0);
    w.buffer(Some(password));
    w.bool(false);
    let length = (conn.out.len() - start - 4) as i32;
    conn.out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn open_session(conn: &mut ClientConn, session: SessionId, timeout_ms: i32) {
    if conn.phase == Phase::Connecting {
        (conn.session, conn.timeout_ms, conn.phase) = (session, timeout_ms, Phase::Open);
        write_connect_response(conn, session, timeout_ms, &password(session));
    }
}

fn answer<W: std::ops::DerefMut<Target = WatchTable>>(
    conn: &mut ClientConn,
    id: ConnId,
    tree: &Tree,
    watches: impl Fn() -> W,
    xid: i32,
    request: &OnTheSpot,
) {
    match request {
        OnTheSpot::Refused(error) => reply::write_header(&mut conn.out, xid, tree.last_zxid(), error.code()),
        OnTheSpot::Read(request) => {
            let (session, rules) = (conn.session, &ACL_RULES);
            let identities = conn.identities.clone();
            let reader = read::Reader { conn: id, session, identities: &identities, rules, max_reply: usize::MAX };
            read::answer(&mut conn.out, tree, watches, reader, xid, request);
        }
    }
}

struct Delivery<'a> {
    conns: &'a mut BTreeMap<ConnId, ClientConn>,
}

impl Deliver for Delivery<'_> {
    fn answer(&mut self, id: ConnId, tree: &Tree, watches: &mut WatchTable, reply: impl FnOnce(&mut BytesMut)) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.gate.on_write_answered();
        if conn.phase != Phase::Open {
            while conn.gate.next_read().is_some() {}
            return;
        }
        reply(&mut conn.out);
        let watches = RefCell::new(watches);
        while let Some((xid, request)) = conn.gate.next_read() {
            answer(conn, id, tree, || RefMut::map(watches.borrow_mut(), |table| &mut **table), xid, &request);
        }
    }

    fn event(&mut self, conn: ConnId, zxid: Zxid, event: EventType, path: &str, _: &[Acl]) {
        if let Some(conn) = self.conns.get_mut(&conn).filter(|conn| conn.phase == Phase::Open) {
            reply::write_event(&mut conn.out, zxid, event, path);
        }
    }

    fn session_opened(&mut self, conn: ConnId, session: SessionId, timeout_ms: i32) {
        if let Some(conn) = self.conns.get_mut(&conn) {
            open_session(conn, session, timeout_ms);
        }
    }

    fn close(&mut self, conn: ConnId) {
        if let Some(conn) = self.conns.get_mut(&conn) {
            conn.phase = Phase::Closing;
        }
    }
}
