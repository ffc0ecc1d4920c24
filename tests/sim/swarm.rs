//! What a seed's world is like. Each kind of fault is on or off by a coin, because a run with few kinds finds
//! what a run with all of them hides.

use zooid::node::member::LAST_COUNTER;

use crate::clock::{MS, SECOND, Time};
use crate::net::NetRules;
use crate::random::{Draw, stream};
use crate::server::{EnsembleRules, ServerRules, membership};
use crate::workload::{KINDS, WorkRules};

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Fault {
    /// The process is killed; what it wrote stays in the page cache.
    Kill,
    /// The machine loses power, and what was not synced, or some of it.
    PowerCut,
    /// All machines lose power together.
    PowerCutOfAll,
    /// The process dies at one of its next disk operations.
    DiesWriting,
    Pause,
    SyncError,
    FullDisk,
    /// One server cut off from all others.
    Isolate,
    /// Two halves that do not see each other.
    Split,
    /// One direction between two servers.
    OneWay,
    /// Two servers do not see each other, everybody else sees both.
    Bridge,
    /// A connection is reset.
    Reset,
    /// The wall clock jumps.
    ClockStep,
    /// The whole process of a leader is killed.
    KillLeader,
}

pub const FAULTS: [Fault; 14] = [
    Fault::Kill,
    Fault::PowerCut,
    Fault::PowerCutOfAll,
    Fault::DiesWriting,
    Fault::Pause,
    Fault::SyncError,
    Fault::FullDisk,
    Fault::Isolate,
    Fault::Split,
    Fault::OneWay,
    Fault::Bridge,
    Fault::Reset,
    Fault::ClockStep,
    Fault::KillLeader,
];

#[derive(Clone, Debug)]
pub struct Swarm {
    pub seed: u64,
    pub voters: usize,
    pub observers: usize,
    pub clients: usize,
    pub server: ServerRules,
    pub net: NetRules,
    pub work: WorkRules,
    pub faults: Vec<Fault>,
    /// Between two faults on average.
    pub fault_every: Time,
    /// How long a fault lasts on average.
    pub fault_lasts: Time,
    pub chaos: Time,
    pub wrong_clocks: bool,
    /// Logs in a directory of their own.
    pub two_directories: bool,
    pub init_limit: i64,
    pub sync_limit: i64,
    /// How many session timeouts everybody idles through at the end.
    pub idle_timeouts: u64,
}

/// Who runs the version before this one, a bit for each: mostly nobody.
fn draw_older(seed: u64) -> u64 {
    let r = &mut stream(seed, "versions");
    if r.permille(700) { 0 } else { r.next() }
}

impl Swarm {
    pub fn draw(seed: u64) -> Self {
        let r = &mut stream(seed, "swarm");
        let sizes = [1, 3, 3, 3, 3, 3, 3, 5, 5, 3];
        let voters = *r.pick(&sizes);
        let observers = if voters > 1 && r.permille(300) { r.between(1, 2) as usize } else { 0 };
        let snap_count = *r.pick(&[3, 10, 40, 100_000]);
        let mean_delay = *r.pick(&[50, 500, 3 * MS, 20 * MS]);
        let sync = *r.pick(&[100, MS, 8 * MS]);
        // A healthy ensemble must be able to keep its own times.
        let least_tick_ms = (20 * mean_delay / MS).max(10 * sync / MS) as i64;
        let tick_ms = (*r.pick(&[100, 200, 500, 2000])).max(least_tick_ms);
        let server = ServerRules {
            reap_ms: *r.pick(&[50, 400, 60_000]),
            tick_ms,
            snap_count,
            preallocate: *r.pick(&[0, 1024, 4096, 16384]),
            size_limit: *r.pick(&[None, Some(600), Some(3000)]),
            mark_every: *r.pick(&[50 * MS, 300 * MS, SECOND]),
            image_every: *r.pick(&[100 * MS, 300 * MS, SECOND]),
            purge_every: *r.pick(&[2 * SECOND, 10 * SECOND, 10_000 * SECOND]),
            sync,
            slow_syncs: *r.pick(&[0, 0, 5, 30]),
            turn: *r.pick(&[0, 50, 500]),
            ensemble: None,
        };
        let (init_limit, sync_limit) = (*r.pick(&[5, 10]), *r.pick(&[2, 5]));
        let alone = voters == 1 && r.permille(500);
        let ensemble = EnsembleRules {
            membership: membership(voters, observers),
            init_limit,
            sync_limit,
            commit_log_count: *r.pick(&[3, 20, 500]),
            last_counter: *r.pick(&[60, 300, LAST_COUNTER, LAST_COUNTER]),
            force_snapshot: r.permille(50),
            sync_from_log: r.permille(500),
            leader_serves: voters == 1 || r.permille(900),
            max_notification_ms: *r.pick(&[1000, 60_000]),
            is_older: draw_older(seed),
            max_diff_bytes: if seed.is_multiple_of(3) { 800 } else { usize::MAX },
        };
        let server = ServerRules { ensemble: (!alone).then_some(ensemble), ..server };
        let net = NetRules {
            min_delay: *r.pick(&[20, 200, MS]),
            mean_delay,
            splits: *r.pick(&[0, 10, 300]),
            clogs: *r.pick(&[0, 0, 2, 20]),
            resets: *r.pick(&[0, 0, 300, 3000]),
        };
        let mut weights = [8, 4, 4, 5, 12, 4, 14, 6, 3, 1, 4, 4, 2];
        for weight in &mut weights {
            *weight = *r.pick(&[*weight, *weight, *weight * 3, 0]);
        }
        weights[4] += 2;
        weights[0] += 2;
        let clients = r.between(1, 6) as usize;
        let work = WorkRules {
            think: *r.pick(&[0, MS, 30 * MS, 100 * MS, 300 * MS]),
            window: *r.pick(&[1, 3, 16]),
            timeout_ms: *r.pick(&[4, 8, 20, 30]) * tick_ms as i32,
            weights,
            watches: *r.pick(&[0, 200, 700]),
            versions: *r.pick(&[0, 300, 900]),
            requests: *r.pick(&[30, 120, 400]),
        };
        assert_eq!(weights.len(), KINDS);
        let faults: Vec<Fault> = FAULTS.into_iter().filter(|_| r.permille(450)).collect();
        let fault_every = *r.pick(&[150 * MS, 500 * MS, 2 * SECOND, 5 * SECOND]);
        Self {
            seed,
            voters,
            observers,
            clients,
            server,
            net,
            work,
            faults,
            fault_every,
            fault_lasts: *r.pick(&[20 * MS, 300 * MS, 2 * SECOND, 10 * SECOND]),
            chaos: *r.pick(&[5 * SECOND, 20 * SECOND, 60 * SECOND]),
            wrong_clocks: r.permille(500),
            two_directories: r.permille(300),
            init_limit,
            sync_limit,
            idle_timeouts: *r.pick(&[0, 0, 0, 4]),
        }
    }

    pub fn servers(&self) -> usize {
        self.voters + self.observers
    }
}
