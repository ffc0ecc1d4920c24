//! The composition: one Node on its own thread, the log and the image on theirs, a task for each connection.
//!
//! Rounds are the business of the Node's thread. While there is little to do, whoever brings something (a
//! connection, a link, the log) runs the round himself and sends what comes of it: a request that comes alone
//! crosses the server without waking a thread but the log's. One at a time has the turn, see [`Inputs`].

mod delivery;
pub mod image;
mod inputs;
pub mod log;
pub mod peer;
mod rounds;
pub mod start;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, RwLock};

pub use delivery::answer_on_the_spot;
use image::ImageDesk;
pub use inputs::Inputs;
use rounds::{By, Rounds};

use crate::acl::AclRules;
use crate::admin::Admin;
use crate::auth::AuthRules;
use crate::clock::Clock;
use crate::config::{Config, Mode};
use crate::net::conn::{Phase, Registry};
use crate::net::line::Slots;
use crate::net::listen;
use crate::node::Duty;
use crate::node::input::Input;
use crate::node::stats::NodeStats;
use crate::stats::Measures;
use crate::throttle::{LargeAccount, TokenBucket, UnderWay};
use crate::tree::Tree;
use crate::watch::WatchTable;

/// What every part of the running server can reach.
pub struct Shared {
    pub config: Config,
    pub clock: Clock,
    pub tree: RwLock<Tree>,
    pub watches: Mutex<WatchTable>,
    pub registry: Registry,
    /// Connections at most, by the files that may be open.
    pub room_for_clients: usize,
    /// Requests under way at which connections are not read any more.
    pub outstanding_limit: usize,
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
    pub under_way: UnderWay,
    /// Bytes of a reply at most.
    pub max_reply: usize,
    /// The port that is open for clients.
    pub client_port: Option<u16>,
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
    pub fn new(config: Config, clock: Clock, tree: Tree, seed: u64, client_port: Option<u16>) -> Self {
        Self {
            acl_rules: start::acl_rules(&config),
            auth_rules: start::auth_rules(&config),
            connection_tokens: TokenBucket::new(config.node.connection_throttle, clock.mono(), seed).map(Mutex::new),
            slots: Slots::new(config.node.request_throttle),
            large_requests: LargeAccount::new(config.node.large_requests),
            under_way: UnderWay::new(config.ensemble.membership.members.len()),
            max_reply: config.node.max_reply_bytes.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX),
            client_port,
            room_for_clients: listen::room_for_clients(),
            outstanding_limit: config.outstanding_limit(),
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

    /// A new session is one of this server alone.
    pub fn makes_local_sessions(&self) -> bool {
        self.config.ensemble.mode == Mode::Quorum && self.config.node.local_sessions_enabled
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
        if self.is_stopping() {
            // The call for that may have gone to this round.
            self.inputs.wake();
        }
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn stop_node(&self) {
        self.stopping.store(true, Ordering::Release);
        self.inputs.wake();
    }

    fn wake_stopped(&self) {
        // Not between a look at it and the sleep that follows.
        let _guard = self.stop_wait.0.lock();
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
