//! The composition: one Node on its own thread, the log and the image on theirs, a task for each connection.
//!
//! A round of the Node takes everything that happened since the last one, lets the Node take it step by step,
//! hands what was prepared to the log in one piece, and applies what is durable in batches under the Store's
//! write lock. What queues up while the disk syncs goes out with the next sync: that is the group commit.
//!
//! Rounds are the business of the Node's thread. While there is little to do, whoever brings something (a
//! connection, a link, the log) runs the round himself and sends what comes of it: a request that comes alone
//! crosses the server without waking a thread but the log's. One at a time has the turn, see [`Inputs`].

pub mod image;
mod inputs;
pub mod log;
pub mod peer;
pub mod start;

use std::cell::{RefCell, RefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use parking_lot::{Condvar, MappedRwLockReadGuard, Mutex, RwLock};
use tokio::runtime::Handle;
use tracing::{debug, error, info, warn};

use image::ImageDesk;
pub use inputs::Inputs;
use log::LogQueue;
use peer::Peers;

use crate::acl::{self, Acl, AclRules};
use crate::admin::Admin;
use crate::auth::AuthRules;
use crate::clock::{self, Clock};
use crate::config::{Config, Mode};
use crate::id::{ConnId, SessionId, Zxid};
use crate::net::conn::{Asked, Conn, Conns, MAX_UNREAD, OnTheSpot, Phase, Registry, State};
use crate::net::line::Slots;
use crate::node::effect::{Effect, Notice, PeerEffect};
use crate::node::input::{Input, Now};
use crate::node::stats::NodeStats;
use crate::node::{Deliver, Duty, Node, read, reply};
use crate::proto::op;
use crate::session::{Mono, password};
use crate::stats::{Measures, Replies};
use crate::throttle::{LargeAccount, TokenBucket};
use crate::tree::Tree;
use crate::watch::{EventType, WatchTable};

/// What every part of the running server can reach.
pub struct Shared {
    pub config: Config,
    pub clock: Clock,
    pub tree: RwLock<Tree>,
    pub watches: Mutex<WatchTable>,
    pub registry: Registry,
    pub inputs: Inputs,
    pub counters: Counters,
    pub admin: Admin,
    /// The Node, for whoever has the turn; `None` before it runs and when it has stopped.
    rounds: Mutex<Option<Box<Rounds>>>,
    /// The Node's figures, as of its last round.
    pub node_stats: Mutex<NodeStats>,
    pub acl_rules: AclRules,
    pub auth_rules: AuthRules,
    /// Each of the three is there if it is configured.
    pub connection_tokens: Option<Mutex<TokenBucket>>,
    pub slots: Option<Slots>,
    pub large_requests: Option<LargeAccount>,
    /// Bytes of a reply at most.
    pub max_reply: usize,
    /// The port that is open for clients.
    pub client_port: u16,
    pub image: ImageDesk,
    /// What becomes of clients' requests: a [`Duty`].
    duty: AtomicU8,
    /// The Node takes nothing more.
    stopping: AtomicBool,
    /// Nothing will be applied any more.
    stopped: AtomicBool,
    stop_wait: (Mutex<()>, Condvar),
}

impl Shared {
    pub fn new(config: Config, clock: Clock, tree: Tree, seed: u64, client_port: u16) -> Self {
        Self {
            acl_rules: start::acl_rules(&config),
            auth_rules: start::auth_rules(&config),
            connection_tokens: TokenBucket::new(config.node.connection_throttle, clock.mono(), seed).map(Mutex::new),
            slots: Slots::new(config.node.request_throttle),
            large_requests: LargeAccount::new(config.node.large_requests),
            max_reply: config.node.max_reply_bytes.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX),
            client_port,
            config,
            clock,
            tree: RwLock::new(tree),
            watches: Mutex::new(WatchTable::new(seed)),
            registry: Registry::default(),
            inputs: Inputs::default(),
            counters: Counters::default(),
            admin: Admin::default(),
            rounds: Mutex::default(),
            node_stats: Mutex::default(),
            image: ImageDesk::default(),
            duty: AtomicU8::new(Duty::None as u8),
            stopping: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            stop_wait: (Mutex::new(()), Condvar::new()),
        }
    }

    /// So many requests have got their replies, or never will.
    pub fn on_finished(&self, requests: usize) {
        self.counters.outstanding.fetch_sub(requests, Ordering::Relaxed);
        if let Some(slots) = &self.slots {
            slots.give_back(requests);
        }
    }

    /// Whether clients are served at all.
    pub fn is_serving(&self) -> bool {
        self.duty.load(Ordering::Acquire) != Duty::None as u8
    }

    /// Whether a sync waits for its turn among the writes. Only a server on its own shows all that it has
    /// answered at every moment.
    pub fn orders_syncs(&self) -> bool {
        self.config.ensemble.mode == Mode::Quorum
    }

    /// Whether the leader is asked.
    pub fn is_forwarding(&self) -> bool {
        self.duty.load(Ordering::Acquire) == Duty::Forward as u8
    }

    /// Whether only those are served who only read.
    pub fn is_read_only(&self) -> bool {
        self.duty.load(Ordering::Acquire) == Duty::ReadOnly as u8
    }

    fn serve(&self, duty: Duty) {
        self.duty.store(duty as u8, Ordering::Release);
    }

    /// Closes every connection: what the tree holds is not to be shown any more.
    fn stop_serving(&self) {
        self.duty.store(Duty::None as u8, Ordering::Release);
        for conn in self.registry.all() {
            conn.state.lock().phase = Phase::Closed;
            conn.wake_up();
        }
    }

    /// Hands `inputs` to the Node. If there is little to do and nobody is at it, the caller lets the Node take
    /// them himself, so he must hold no lock.
    pub fn hand_in(&self, inputs: &mut Vec<Input>, weight: usize) {
        if !inputs.is_empty() && self.inputs.push_all(inputs, weight) {
            self.run_round(By::Passer);
        }
    }

    /// Only for whoever has the turn, which is given back.
    fn run_round(&self, by: By) {
        let mut rounds = self.rounds.lock();
        let look_by = rounds.as_mut().expect("who has the turn finds the Node").run(self, by);
        drop(rounds);
        self.inputs.end_turn(look_by);
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn stop_node(&self) {
        self.stopping.store(true, Ordering::Release);
        self.inputs.wake();
    }

    fn wake_stopped(&self) {
        self.stop_wait.1.notify_all();
    }

    /// Waits, but not past the moment at which the server has stopped.
    fn wait_for_stop(&self, at_most: Duration) {
        let mut guard = self.stop_wait.0.lock();
        if !self.stopped.load(Ordering::Acquire) {
            self.stop_wait.1.wait_for(&mut guard, at_most);
        }
    }
}

/// Numbers that connections and the Node's thread count together.
#[derive(Debug, Default)]
pub struct Counters {
    pub received: AtomicU64,
    pub sent: AtomicU64,
    /// Requests that have no reply yet, pings and the like aside.
    pub outstanding: AtomicUsize,
    pub bytes_received: AtomicU64,
    /// Everything that can be reset. Locked last, and never for long.
    pub measures: Mutex<Measures>,
}

/// Transactions applied under one hold of the write lock: readers wait that long at most.
const APPLY_BATCH: usize = 256;
/// Inputs that are taken under one hold of the read lock, and whose znodes are asked of memory together. One
/// by one, each would wait for a chunk of the image's thread to be taken.
const TOGETHER: usize = 32;
/// Connections that are sent their replies and events by whoever applies. Where a znode has more watchers than
/// that, the next transaction does not wait until all of them have been written to.
const SENT_AT_ONCE: usize = 128;

/// What carries out the wishes of the Node that are not about clients.
pub struct Hands {
    pub log: Arc<LogQueue>,
    /// `None` standalone.
    pub peers: Option<Peers>,
    pub runtime: Handle,
}

impl Hands {
    /// Sends what is queued for each of them.
    fn wake(&self, mut woken: Vec<Arc<Conn>>) {
        while woken.len() > SENT_AT_ONCE {
            let others = woken.split_off(woken.len() - SENT_AT_ONCE);
            self.runtime.spawn(async move { others.iter().for_each(|conn| conn.wake_up()) });
        }
        woken.iter().for_each(|conn| conn.wake_up());
    }

    /// What was queued goes out: for other members first, whose disks work while the own one does.
    fn flush(&self) {
        if let Some(peers) = &self.peers {
            peers.flush();
        }
        self.log.flush();
    }
}

/// The Node, and all that its rounds need. Whoever has the turn runs them.
pub struct Rounds {
    node: Node,
    hands: Hands,
    inputs: Vec<Input>,
    effects: Vec<Effect>,
    looked: Instant,
    /// How long after the end of the last round somebody looks again.
    wait: Duration,
    last_tick: Mono,
}

/// The Node looks at the clock at least this often, so that a pause of the process shows.
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// And at deadlines no more often than this, even when nothing can be done about them.
const SHORTEST_TICK_MS: Mono = 20;

/// Who runs a round.
#[derive(Clone, Copy, Eq, PartialEq)]
enum By {
    NodeThread,
    /// Somebody who brought little, and has other things to do: what is due by the clock is not for him.
    Passer,
}

impl Rounds {
    pub fn new(node: Node, hands: Hands, clock: &Clock) -> Self {
        let (looked, last_tick) = (Instant::now(), clock.mono());
        Self { node, hands, inputs: Vec::new(), effects: Vec::new(), looked, wait: LONGEST_WAIT, last_tick }
    }

    /// Lets the Node take everything that waits, and gives when somebody must look again.
    fn run(&mut self, shared: &Shared, by: By) -> Instant {
        let Self { node, hands, inputs, effects, .. } = self;
        shared.inputs.take(inputs);
        let since = std::mem::replace(&mut self.looked, Instant::now()).elapsed();
        if let Some(pause) = shared.clock.on_looked(self.wait, since) {
            let pause_ms = pause.as_millis() as u64;
            warn!(pause_ms, "the process stood still; no session expires because of that");
            shared.counters.measures.lock().pauses_ms.add(pause_ms as i64);
        }
        let now = shared.clock.now();
        let asks = |input: &&Input| matches!(input, Input::Connect { .. } | Input::Write { .. });
        let (asked, began) = (inputs.iter().filter(asks).count(), Instant::now());
        let mut waiting = inputs.drain(..);
        while let Some(first) = waiting.as_slice().first() {
            if matches!(first, Input::LogFull) {
                // What is durable comes first; the Node then knows that the rest never happened.
                apply_all(shared, node, now, effects, hands);
            }
            let others = waiting.as_slice().iter().skip(1).take(TOGETHER - 1);
            let together = 1 + others.take_while(|input| !matches!(input, Input::LogFull)).count();
            let tree = shared.tree.read();
            tree.prefetch(waiting.as_slice()[..together].iter().filter_map(|input| match input {
                Input::Write { write, .. } => write.path(),
                _ => None,
            }));
            for input in waiting.by_ref().take(together) {
                node.step(now, &tree, input, effects);
            }
        }
        drop(waiting);
        if asked > 0 {
            shared.counters.measures.lock().on_requests(asked as u64, began.elapsed());
        }
        if by == By::NodeThread && now.mono >= node.next_deadline().max(self.last_tick + SHORTEST_TICK_MS) {
            self.last_tick = now.mono;
            let touched = shared.registry.lock().values().filter_map(|conn| conn.take_touch(now.mono)).collect();
            node.step(now, &shared.tree.read(), Input::Time { touched }, effects);
        }
        node.flush(now, effects);
        carry_out(shared, effects, hands);
        hands.flush();
        apply_all(shared, node, now, effects, hands);
        hands.flush();
        *shared.node_stats.lock() = node.stats();
        shared.admin.questions.answer(node);
        let deadline = node.next_deadline().max(self.last_tick + SHORTEST_TICK_MS);
        let until = (deadline - shared.clock.mono()).max(0) as u64;
        // Without what this round has taken: the process may have stood still in the middle of it.
        self.wait = Duration::from_millis(until).min(LONGEST_WAIT);
        Instant::now() + self.wait
    }
}

/// The Node's thread: runs rounds until the server stops. Nobody runs any afterwards.
pub fn run_node(shared: &Shared, rounds: Rounds) {
    *shared.rounds.lock() = Some(Box::new(rounds));
    loop {
        shared.inputs.wait_for_turn();
        if shared.is_stopping() {
            // The turn is not given back.
            *shared.rounds.lock() = None;
            return;
        }
        shared.run_round(By::NodeThread);
    }
}

fn apply_all(shared: &Shared, node: &mut Node, now: Now, effects: &mut Vec<Effect>, hands: &Hands) {
    while node.has_committed() {
        let mut woken = Vec::new();
        {
            let mut tree = shared.tree.write();
            let mut watches = shared.watches.lock();
            let mut delivery = Delivery::new(shared, &mut woken);
            node.apply(now, APPLY_BATCH, &mut tree, &mut watches, &mut delivery, effects);
            drop(delivery);
            let (created, written) = node.take_applied();
            let fired = watches.take_fired();
            shared.counters.measures.lock().on_applied(&created, &written, &fired, clock::wall_ms());
        }
        hands.wake(woken);
        carry_out(shared, effects, hands);
    }
}

fn carry_out(shared: &Shared, effects: &mut Vec<Effect>, hands: &Hands) {
    for effect in effects.drain(..) {
        match effect {
            Effect::Append { first, last, records } => hands.log.append(first, last, records),
            Effect::LogFullHeard => hands.log.go_on(),
            Effect::Attached { conn, session, timeout_ms } => {
                with_conn(shared, conn, |conn, state| {
                    if open_session(shared, conn, state, session, timeout_ms) {
                        state.stats.sent += 1;
                        shared.counters.sent.fetch_add(1, Ordering::Relaxed);
                        shared.counters.measures.lock().revalidations += 1;
                    }
                });
            }
            Effect::Refused { conn } => with_conn(shared, conn, |conn, state| {
                let (session, peer) = (state.asked_session, conn.peer_text());
                info!("Invalid session 0x{session:x} for client {peer}, probably expired");
                state.write_connect_response(SessionId::NONE, 0, &[0; 16], shared.is_read_only());
                state.phase = Phase::Closing;
            }),
            Effect::Close { conn } => with_conn(shared, conn, |_, state| state.close()),
            Effect::WriteRefused { conn, xid, error } => answer_now(shared, conn, xid, error.code()),
            Effect::Notice(Notice::QuotaExceeded(exceeded)) => shared.admin.on_quota_exceeded(shared, &exceeded),
            Effect::Notice(notice) => log_notice(&notice),
            Effect::Peer(PeerEffect::Serve { duty }) => shared.serve(duty),
            Effect::OpenedLocally { conn, session, timeout_ms } => {
                with_conn(shared, conn, |conn, state| {
                    if open_session(shared, conn, state, session, timeout_ms) {
                        state.stats.sent += 1;
                        shared.counters.sent.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            Effect::ClosedLocally { conn, xid } => {
                answer_now(shared, conn, xid, 0);
                with_conn(shared, conn, |_, state| state.close());
            }
            Effect::Peer(PeerEffect::StopServing) => shared.stop_serving(),
            Effect::Peer(effect) => hands.peers.as_ref().expect("a member has peers").carry_out(effect),
        }
    }
}

/// Answers the oldest write of a connection without a transaction.
fn answer_now(shared: &Shared, conn: ConnId, xid: i32, error: i32) {
    let mut woken = Vec::new();
    {
        let tree = shared.tree.read();
        let mut watches = shared.watches.lock();
        let zxid = tree.last_zxid();
        let mut delivery = Delivery::new(shared, &mut woken);
        delivery.answer(conn, &tree, &mut watches, |out| reply::write_header(out, xid, zxid, error));
    }
    woken.into_iter().for_each(|conn| conn.wake_up());
}

fn with_conn(shared: &Shared, id: ConnId, act: impl FnOnce(&Conn, &mut State)) {
    if let Some(conn) = shared.registry.find(id) {
        act(&conn, &mut conn.state.lock());
        conn.wake_up();
    }
}

/// False if the connection does not wait for it any more.
fn open_session(shared: &Shared, conn: &Conn, state: &mut State, session: SessionId, timeout_ms: i32) -> bool {
    if state.phase != Phase::Connecting {
        return false;
    }
    conn.timeout_ms.store(timeout_ms, Ordering::Relaxed);
    conn.session.store(session.0, Ordering::Relaxed);
    state.write_connect_response(session, timeout_ms, &password(session), shared.is_read_only());
    state.phase = Phase::Open;
    debug!(peer = %conn.peer_text(), "Established session 0x{session:x} with negotiated timeout {timeout_ms}");
    true
}

fn log_notice(notice: &Notice) {
    match notice {
        Notice::Expired { session, timeout_ms } => {
            info!("Expiring session 0x{session:x}, timeout of {timeout_ms}ms exceeded");
        }
        Notice::DigestMismatch { zxid, expected, actual, first: true } => error!(
            %zxid, expected, actual,
            "First digest mismatch on txn: the tree differs from what its transaction says"
        ),
        Notice::DigestMismatch { zxid, expected, actual, first: false } => {
            warn!(%zxid, expected, actual, "Digests are not matching. Value is Zxid.");
        }
        Notice::QuotaExceeded(_) => unreachable!("counted and logged elsewhere"),
        Notice::LogFull => error!(
            "no room on the device of dataLogDir: writes are refused with OperationTimeout and new sessions by \
             closing, until two log files fit; reads go on"
        ),
        Notice::LogRoom => info!("there is room on the device of dataLogDir again: writes are accepted"),
        // In Java's words, which operators look for.
        Notice::Looking { me, last, epoch } => {
            info!("LOOKING");
            info!(epoch, "New election. My id = {me}, proposed zxid=0x{last:x}");
        }
        Notice::Leading { last, election_ms } => {
            info!("LEADING");
            info!(history = %last, "LEADING - LEADER ELECTION TOOK - {election_ms} MS");
        }
        Notice::Following { leader, election_ms } => {
            info!("FOLLOWING");
            info!(leader, "FOLLOWING - LEADER ELECTION TOOK - {election_ms} MS");
        }
        Notice::Observing { leader } => {
            info!("OBSERVING");
            info!("observing leader {leader}");
        }
        Notice::Serving { epoch } => info!(epoch, "Peer state changed: broadcast; clients are served"),
        Notice::RoleEnded(fault) => {
            warn!("Shutdown called. For the reason {fault}");
            info!("PeerState set to LOOKING");
        }
        Notice::DivergedAgain { leader } => error!(
            "the tree differs from that of leader {leader} although it was taken from it less than an hour ago: this \
             server keeps it and serves on; compare the trees of all members before one of them is emptied"
        ),
        Notice::LinkClosed { link, why } => warn!(%link, "closing the link to a learner: {why}"),
        Notice::OtherMembers { from, text } => {
            warn!("server {from} has a newer list of other members, and is not listened to: {text}")
        }
        Notice::NewerConfig { from, to } => info!("the list of members has version {to:x} now, and had {from:x}"),
    }
}

/// Carries replies and events to the connections while a batch is applied.
struct Delivery<'a> {
    shared: &'a Shared,
    conns: MappedRwLockReadGuard<'a, Conns>,
    /// Connections that have something to send now; each once.
    woken: &'a mut Vec<Arc<Conn>>,
    now: Mono,
    replies: Replies,
    answered: u64,
    /// Events, and answers to ConnectRequests.
    events: u64,
}

impl<'a> Delivery<'a> {
    fn new(shared: &'a Shared, woken: &'a mut Vec<Arc<Conn>>) -> Self {
        let conns = shared.registry.lock();
        let now = shared.clock.mono();
        Self { shared, conns, woken, now, replies: Replies::default(), answered: 0, events: 0 }
    }

    fn with(&mut self, conn: ConnId, act: impl FnOnce(&Conn, &mut State, &mut Replies)) {
        let Some(conn) = self.conns.get(&conn) else { return };
        act(conn, &mut conn.state.lock(), &mut self.replies);
        if conn.mark_woken() {
            self.woken.push(conn.clone());
        }
    }
}

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        let counters = &self.shared.counters;
        counters.measures.lock().add_replies(&self.replies);
        counters.sent.fetch_add(self.answered + self.events, Ordering::Relaxed);
        self.shared.on_finished(self.answered as usize);
    }
}

impl Deliver for Delivery<'_> {
    fn answer(&mut self, conn: ConnId, tree: &Tree, watches: &mut WatchTable, reply: impl FnOnce(&mut BytesMut)) {
        let (shared, now) = (self.shared, self.now);
        let mut answered = 0;
        let watches = RefCell::new(watches);
        self.with(conn, |conn, state, replies| {
            let asked = state.gate.on_write_answered();
            answered += 1;
            if !state.is_sending() {
                replies.stale += 1;
                // Nor is what came behind it answered; the next write to be answered must be next.
                while state.gate.next_read().is_some() {
                    answered += 1;
                }
                return;
            }
            let start = state.out.len();
            reply(&mut state.out);
            let bytes = state.out.len() - start;
            replies.add_update(state.stats.on_answered(asked, tree.last_zxid(), now), bytes);
            // What comes before another write must be answered before that is applied; the rest may wait until
            // the client has read what it has.
            while (state.out.len() < MAX_UNREAD || state.gate.has_writes())
                && let Some((asked, request)) = state.gate.next_read()
            {
                answered += 1;
                let lock = || RefMut::map(watches.borrow_mut(), |table| &mut **table);
                answer_on_the_spot(shared, conn, state, replies, tree, lock, now, (asked, request));
            }
        });
        self.answered += answered;
    }

    fn event(&mut self, conn: ConnId, zxid: Zxid, event: EventType, path: &str, acl: &[Acl]) {
        let shared = self.shared;
        let mut events = 0;
        self.with(conn, |conn, state, replies| {
            if !state.is_sending() || acl::authorise(&shared.acl_rules, acl, &state.identities, acl::READ).is_err() {
                return;
            }
            if state.out.len() > MAX_UNREAD_EVENTS {
                warn!(peer = %conn.peer_text(), "a client does not read its events: its connection is closed");
                return state.close();
            }
            let start = state.out.len();
            reply::write_event(&mut state.out, zxid, event, path);
            replies.add_event(state.out.len() - start);
            state.stats.sent += 1;
            events += 1;
        });
        self.events += events;
    }

    fn session_opened(&mut self, conn: ConnId, session: SessionId, timeout_ms: i32) {
        let (now, shared) = (self.now, self.shared);
        let mut opened = 0;
        self.with(conn, |conn, state, replies| {
            let start = state.out.len();
            if open_session(shared, conn, state, session, timeout_ms) {
                let asked = Asked { xid: 0, op: op::CREATE_SESSION, arrived: state.stats.connect_asked, held: None };
                let latency = state.stats.on_answered(asked, state.stats.last_zxid, now);
                replies.add_update(latency, state.out.len() - start);
                opened = 1;
            }
        });
        self.events += opened;
    }

    fn close(&mut self, conn: ConnId) {
        self.with(conn, |_, state, _| state.close());
    }
}

/// Events that a connection may leave unread, in bytes; one that leaves more is closed, and its client
/// catches up when it reconnects.
const MAX_UNREAD_EVENTS: usize = 16 << 20;

/// Answers a request whose turn it is, into the queue of its connection, and counts the reply.
#[expect(clippy::too_many_arguments, reason = "who asks, what, of which state, and where it is counted")]
pub fn answer_on_the_spot<W: std::ops::DerefMut<Target = WatchTable>>(
    shared: &Shared,
    conn: &Conn,
    state: &mut State,
    replies: &mut Replies,
    tree: &Tree,
    watches: impl Fn() -> W,
    now: Mono,
    (asked, request): (Asked, OnTheSpot),
) {
    let (start, xid) = (state.out.len(), asked.xid);
    match &request {
        OnTheSpot::Refused(error) => reply::write_header(&mut state.out, xid, tree.last_zxid(), error.code()),
        OnTheSpot::Read(request) => {
            let reader = read::Reader {
                conn: conn.id,
                session: conn.session(),
                identities: &state.identities,
                rules: &shared.acl_rules,
                max_reply: shared.max_reply,
            };
            read::answer(&mut state.out, tree, watches, reader, xid, request);
            if let Some((path, bytes)) = read::shown(request, &state.out[start..]) {
                replies.read.add(path, bytes);
            }
        }
    }
    let bytes = state.out.len() - start;
    replies.add_read(state.stats.on_answered(asked, tree.last_zxid(), now), bytes);
}
