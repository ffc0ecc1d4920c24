//! Rounds of the Node, and what comes of them.
//!
//! A round takes everything that happened since the last one, lets the Node take it step by step, hands what was
//! prepared to the log in one piece, and applies what is durable in batches under the Store's write lock. What queues
//! up while the disk syncs goes out with the next sync: that is the group commit. One at a time runs a round: who has
//! the turn, see [`Inputs`](super::Inputs).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tracing::{error, info, warn};

use super::Shared;
use super::delivery::{Delivery, open_session};
use super::log::LogQueue;
use super::peer::Peers;
use crate::clock::{self, Clock};
use crate::id::{ConnId, SessionId};
use crate::net::conn::{Conn, Phase, State};
use crate::node::effect::{Effect, Notice, PeerEffect};
use crate::node::input::{Input, Now};
use crate::node::{Deliver, Node, reply};
use crate::session::Mono;

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

/// The Node looks at deadlines no more often than this, even when nothing can be done about them.
const SHORTEST_TICK_MS: Mono = 20;

/// Who runs a round.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum By {
    NodeThread,
    /// Somebody who brought little, and has other things to do: what is due by the clock is not for him.
    Passer,
}

impl Rounds {
    pub fn new(node: Node, hands: Hands, clock: &Clock) -> Self {
        let (looked, last_tick) = (Instant::now(), clock.mono());
        let wait = clock.longest_wait();
        Self { node, hands, inputs: Vec::new(), effects: Vec::new(), looked, wait, last_tick }
    }

    /// Lets the Node take everything that waits, and gives when somebody must look again.
    pub(super) fn run(&mut self, shared: &Shared, by: By) -> Instant {
        let Self { node, hands, inputs, effects, .. } = self;
        shared.inputs.take(inputs);
        let since = std::mem::replace(&mut self.looked, Instant::now()).elapsed();
        if let Some(pause) = shared.clock.on_looked(self.wait, since) {
            let pause_ms = pause.as_millis() as u64;
            warn!(pause_ms, "the process stood still; no session expires because of that");
            shared.counters.measures.lock().pauses_ms.add(pause_ms as i64);
        }
        let now = shared.clock.now();
        let began = Instant::now();
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
        let prepared = node.take_prepared();
        if prepared > 0 {
            shared.counters.measures.lock().on_requests(prepared, began.elapsed());
        }
        if by == By::NodeThread && now.mono >= node.next_deadline().max(self.last_tick + SHORTEST_TICK_MS) {
            self.last_tick = now.mono;
            let mut silent = Vec::new();
            let touch = |conn: &Arc<Conn>| {
                if conn.session() != SessionId::NONE && now.mono >= conn.given_up_at(0) {
                    silent.push(conn.id);
                }
                conn.take_touch(now.mono)
            };
            let touched = shared.registry.lock().values().filter_map(touch).collect();
            // Its session may go on elsewhere; what is left of it here would stay as long as that does.
            silent.into_iter().for_each(|conn| with_conn(shared, conn, |_, state| state.close()));
            node.step(now, &shared.tree.read(), Input::Time { touched }, effects);
        }
        node.flush(now, effects);
        carry_out(shared, effects, hands);
        hands.flush();
        apply_all(shared, node, now, effects, hands);
        hands.flush();
        shared.admin.questions.answer(node);
        *shared.node_stats.lock() = node.stats();
        if let Some(ages) = node.take_ages() {
            shared.counters.measures.lock().on_aged(&ages);
        }
        let deadline = node.next_deadline().max(self.last_tick + SHORTEST_TICK_MS);
        let until = (deadline - shared.clock.mono()).max(0) as u64;
        // Without what this round has taken: the process may have stood still in the middle of it.
        self.wait = Duration::from_millis(until).min(shared.clock.longest_wait());
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
            let rounds = shared.rounds.lock().take();
            if let Some(peers) = rounds.and_then(|rounds| rounds.hands.peers) {
                peers.close();
            }
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
                if answer_connect(shared, conn, session, timeout_ms) {
                    shared.counters.measures.lock().revalidations += 1;
                }
            }
            Effect::OpenedLocally { conn, session, timeout_ms } => {
                answer_connect(shared, conn, session, timeout_ms);
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
            Effect::ClosedLocally { conn, xid } => {
                answer_now(shared, conn, xid, 0);
                with_conn(shared, conn, |_, state| state.close());
            }
            Effect::Peer(PeerEffect::StopServing) => shared.stop_serving(),
            Effect::Peer(effect) => hands.peers.as_ref().expect("a member has peers").carry_out(effect),
        }
    }
}

/// Says that the connection has this session. False if it is gone, or does not wait for that any more.
fn answer_connect(shared: &Shared, conn: ConnId, session: SessionId, timeout_ms: i32) -> bool {
    let mut is_open = false;
    with_conn(shared, conn, |conn, state| {
        is_open = open_session(shared, conn, state, session, timeout_ms);
        if is_open {
            state.stats.sent += 1;
            shared.counters.sent.fetch_add(1, Ordering::Relaxed);
        }
    });
    is_open
}

/// Answers the oldest write of a connection without a transaction.
fn answer_now(shared: &Shared, conn: ConnId, xid: i32, error: i32) {
    let mut woken = Vec::new();
    if error != 0
        && let Some(conn) = shared.registry.find(conn)
    {
        // If that was the end of its session, it goes on, from the moment at which it hears so.
        conn.state.lock().leaving = false;
    }
    {
        let tree = shared.tree.read();
        // Before the connection's lock, other than readers have it: no read of a connection whose write is next is answered.
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

fn log_notice(notice: &Notice) {
    match notice {
        Notice::Expired { session, timeout_ms } => {
            info!("Expiring session 0x{session:x}, timeout of {timeout_ms}ms exceeded");
        }
        Notice::DigestMismatch { zxid, expected, actual, count: 1 } => error!(
            %zxid, expected, actual,
            "First digest mismatch on txn: the tree differs from what its transaction says"
        ),
        Notice::DigestMismatch { zxid, expected, actual, count } => {
            warn!(expected, actual, "Digests are not matching. Value is {zxid}. {count} so far");
        }
        Notice::QuotaExceeded(_) => unreachable!("counted and logged elsewhere"),
        Notice::LogFull => error!(
            "no room on the device of dataLogDir, until two log files fit: a server that is alone goes on with reads, \
             refuses writes with OperationTimeout and closes who wants a new session; a member leaves service to the others"
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
            "the tree differs from that of leader {leader}, and was to be replaced by it less than an hour ago: this \
             server keeps it and serves on; compare the trees of all members before one of them is emptied"
        ),
        Notice::Disputed { by } => error!(
            "servers {by:?} have other trees than this leader's transactions make: the leader may be the one that is \
             wrong, so they keep them and serve on; compare the trees of all members before one of them is emptied"
        ),
        Notice::LinkClosed { link, why } => warn!(%link, "closing the link to a learner: {why}"),
        Notice::OtherMembers { from, text } => {
            warn!("server {from} has a newer list of other members, and is not listened to: {text}")
        }
        Notice::NewerConfig { from, to } => info!("the list of members has version {to:x} now, and had {from:x}"),
    }
}
