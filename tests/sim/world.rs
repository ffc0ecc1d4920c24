//! The whole of it: servers, clients, the network between them and what goes wrong, in one thread and one order
//! of events. Two runs of a seed are the same to the last event.
//!
//! A run has three phases: chaos, in which only safety is asked for; calm in a core of the ensemble, in which
//! it must make progress, whatever became of the rest; and after everything is mended all must be level.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use zooid::id::{LinkId, Zxid};

use crate::clock::{Clock, MS, SECOND, Time};
use crate::invariants::Ghosts;
use crate::net::{Arrival, ConnNo, Host, Net, Side};
use crate::oracle::{broken, holds};
use crate::random::{Draw, Random, stream};
use crate::server::{Around, Exit, Process};
use crate::support::sim::{Fate, World as Machine};
use crate::support::trees;
use crate::swarm::{Fault, Swarm};
use crate::workload::{Client, ClientStats, Sight};

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    DialArrives {
        conn: ConnNo,
    },
    DialEnds {
        conn: ConnNo,
        connected: bool,
    },
    Arrive {
        conn: ConnNo,
        to: Side,
    },
    Run {
        host: Host,
        life: u64,
    },
    LogDone {
        host: Host,
        life: u64,
        written: bool,
    },
    Mark {
        host: Host,
        life: u64,
    },
    Image {
        host: Host,
        life: u64,
    },
    Client {
        host: Host,
        due: Time,
    },
    Start {
        host: Host,
        life: u64,
    },
    Redial {
        host: Host,
        life: u64,
        link: LinkId,
    },
    /// A snapshot of this zxid went out on a link, or what was queued there.
    WentOut {
        host: Host,
        life: u64,
        link: LinkId,
        snapshot: Option<Zxid>,
    },
    Fault,
    Mend {
        at: usize,
    },
    Phase,
}

struct Entry {
    at: Time,
    tie: u32,
    number: u64,
    event: Event,
}

impl Entry {
    fn key(&self) -> (Time, u32, u64) {
        (self.at, self.tie, self.number)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// What will happen, in order; things of the same moment in an order that the seed draws.
pub struct Schedule {
    heap: BinaryHeap<Reverse<Entry>>,
    now: Time,
    number: u64,
    ties: Random,
}

impl Schedule {
    fn new(ties: Random) -> Self {
        Self { heap: BinaryHeap::new(), now: 0, number: 0, ties }
    }

    pub fn now(&self) -> Time {
        self.now
    }

    pub fn at(&mut self, at: Time, event: Event) {
        self.number += 1;
        let (tie, number) = (self.ties.next() as u32, self.number);
        self.heap.push(Reverse(Entry { at: at.max(self.now), tie, number, event }));
    }

    pub fn after(&mut self, delay: Time, event: Event) {
        self.at(self.now + delay, event);
    }

    fn next(&mut self) -> Event {
        let Reverse(Entry { at, event, .. }) = self.heap.pop().expect("something is always due");
        self.now = at;
        event
    }
}

/// The run so far, as a number; and as text, if it is wanted.
struct Trace {
    hash: u64,
    log: bool,
}

impl Trace {
    fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x100_0000_01b3).rotate_left(23);
    }

    fn event(&mut self, now: Time, event: &Event) {
        let (kind, a, b) = match event {
            Event::DialArrives { conn } => (1, conn.0, 0),
            Event::DialEnds { conn, connected } => (2, conn.0, u64::from(*connected)),
            Event::Arrive { conn, to } => (3, conn.0, *to as u64),
            Event::Run { host, life } => (4, *host as u64, *life),
            Event::LogDone { host, life, written } => (5, *host as u64, *life << 1 | u64::from(*written)),
            Event::Mark { host, life } => (6, *host as u64, *life),
            Event::Image { host, life } => (7, *host as u64, *life),
            Event::Client { host, due } => (8, *host as u64, *due),
            Event::Start { host, life } => (9, *host as u64, *life),
            Event::Redial { host, link, .. } => (13, *host as u64, link.0),
            Event::WentOut { host, link, .. } => (14, *host as u64, link.0),
            Event::Fault => (10, 0, 0),
            Event::Mend { at } => (11, *at as u64, 0),
            Event::Phase => (12, 0, 0),
        };
        self.mix(now);
        self.mix(kind << 56 ^ a << 20 ^ b);
    }
}

struct Server {
    machine: Machine,
    clock: Clock,
    process: Option<Process>,
    life: u64,
    random: Random,
    /// Since when.
    paused: Option<Time>,
    /// What waits until it goes on.
    held: Vec<Event>,
    is_on: bool,
    /// Out for the rest of the calm phase.
    is_out: bool,
}

/// A client's connection and session, if it has them.
type Held = Option<(ConnNo, i64)>;

/// The end of a run, in which clients do nothing but to ping.
struct Idle {
    since: Time,
    until: Time,
    held: Vec<Held>,
    leadership: u64,
}

/// Something that a fault did and that ends.
enum Mending {
    Cuts(Vec<(Host, Host)>),
    Start(Host),
    Room(Host),
    Pause { host: Host, since: Time },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Chaos,
    Calm,
    Healed,
}

pub struct World {
    swarm: Swarm,
    schedule: Schedule,
    net: Net,
    servers: Vec<Server>,
    clients: Vec<Client>,
    ghosts: Ghosts,
    trace: Trace,
    faults: Random,
    mendings: BTreeMap<usize, Mending>,
    mending: usize,
    stage: Stage,
    stage_began: Time,
    acknowledged_then: i64,
    /// All is level: from now on everybody idles.
    idles: Option<Idle>,
    events: u64,
    counts: BTreeMap<Fault, u64>,
}

/// What a run was.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub events: u64,
    pub hash: u64,
    pub simulated: Time,
    pub committed: usize,
    pub leaderships: u64,
    pub clients: ClientStats,
    pub faults: BTreeMap<Fault, u64>,
}

/// The parts of a world that a process works with.
macro_rules! around {
    ($world:ident, $host:expr, |$process:ident, $around:ident| $act:expr) => {{
        let World { schedule, net, servers, ghosts, trace, .. } = &mut *$world;
        let Server { machine, clock, process, random, .. } = &mut servers[$host];
        let (now, log) = (schedule.now(), trace.log);
        let note = &mut |text: &dyn Fn() -> String| {
            if log {
                eprintln!("{:>12} {}", now, text());
            }
        };
        let $around = &mut Around { net, schedule, ghosts, machine, clock, random, note };
        let $process = process;
        $act
    }};
}

impl World {
    pub fn new(swarm: Swarm, log: bool) -> Self {
        let seed = swarm.seed;
        let count = swarm.servers();
        let schedule = Schedule::new(stream(seed, "ties"));
        let net = Net::new(swarm.net.clone(), count + swarm.clients, stream(seed, "network"));
        let mut clocks = stream(seed, "clocks");
        let servers = (0..count)
            .map(|host| Server {
                machine: if swarm.two_directories { Machine::new() } else { Machine::with_one_directory() },
                clock: Clock {
                    rate: if swarm.wrong_clocks { clocks.between(950, 1050) } else { 1000 },
                    wall_offset_ms: if swarm.wrong_clocks { clocks.below(1 << 36) as i64 - (1 << 35) } else { 0 },
                    paused: 0,
                    started: 0,
                },
                process: None,
                life: 0,
                random: stream(seed, &format!("server {host}")),
                paused: None,
                held: Vec::new(),
                is_on: true,
                is_out: false,
            })
            .collect();
        let clients = (0..swarm.clients)
            .map(|at| {
                let mut random = stream(seed, &format!("client {at}"));
                let mut order: Vec<Host> = (0..count).collect();
                for at in (1..count).rev() {
                    order.swap(at, random.below(at as u64 + 1) as usize);
                }
                Client::new(count + at, order, swarm.work.clone(), random)
            })
            .collect();
        let mut world = Self {
            schedule,
            net,
            servers,
            clients,
            ghosts: Ghosts::new(count, swarm.server.ensemble.as_ref().map(|rules| (*rules.membership).clone())),
            trace: Trace { hash: seed, log },
            faults: stream(seed, "faults"),
            mendings: BTreeMap::new(),
            mending: 0,
            stage: Stage::Chaos,
            stage_began: 0,
            acknowledged_then: 0,
            idles: None,
            events: 0,
            counts: BTreeMap::new(),
            swarm,
        };
        for host in 0..count {
            let delay = world.faults.below(100 * MS);
            world.schedule.after(delay, Event::Start { host, life: 0 });
        }
        for at in 0..world.clients.len() {
            world.schedule.at(at as Time * 7 * MS, Event::Client { host: count + at, due: Time::MAX });
        }
        world.schedule.after(world.swarm.fault_every, Event::Fault);
        world.schedule.after(world.swarm.chaos, Event::Phase);
        world
    }

    /// Runs to the end. Panics if an invariant does not hold.
    pub fn run(&mut self) -> Report {
        while !self.is_over() {
            self.step();
        }
        self.check_level();
        self.check_sessions();
        self.report()
    }

    fn report(&self) -> Report {
        let mut clients = ClientStats::default();
        for client in &self.clients {
            let stats = client.stats;
            clients.answered += stats.answered;
            clients.writes += stats.writes;
            clients.events += stats.events;
            clients.connects += stats.connects;
            clients.expired += stats.expired;
            clients.unknown += stats.unknown;
        }
        Report {
            events: self.events,
            hash: self.trace.hash,
            simulated: self.schedule.now(),
            committed: self.ghosts.prefix.len(),
            leaderships: self.ghosts.leadership,
            clients,
            faults: self.counts.clone(),
        }
    }

    pub fn events(&self) -> u64 {
        self.events
    }

    fn note(&self, text: impl Fn() -> String) {
        if self.trace.log {
            eprintln!("{:>12} {}", self.schedule.now(), text());
        }
    }

    fn step(&mut self) {
        let event = self.schedule.next();
        self.events += 1;
        assert!(self.events < 20_000_000, "the run does not end");
        self.ghosts.now = self.schedule.now();
        self.trace.event(self.schedule.now(), &event);
        match event {
            Event::DialArrives { conn } => self.on_dial_arrives(conn),
            Event::DialEnds { conn, connected } => self.on_dial_ends(conn, connected),
            Event::Arrive { conn, to } => self.on_arrive(conn, to),
            Event::Client { host, due } => {
                let due = if due == Time::MAX { None } else { Some(due) };
                self.with_client(host, |client, sight| match due {
                    Some(due) => client.on_wake(sight, due),
                    None => client.begin(sight),
                });
            }
            Event::Run { host, life } => self.in_process(host, life, event, Process::run),
            Event::LogDone { host, life, written } => {
                self.in_process(host, life, event, |process, around| process.on_log_done(around, written));
            }
            Event::Mark { host, life } => self.in_process(host, life, event, Process::on_mark),
            Event::Image { host, life } => self.in_process(host, life, event, Process::on_image),
            Event::Start { host, life } => self.on_start(host, life),
            Event::Redial { host, life, link } => self.in_process(host, life, event, |process, around| {
                process.redial(around, link);
                Ok(())
            }),
            Event::WentOut { host, life, link, snapshot } => self.in_process(host, life, event, |process, around| {
                process.went_out(around, link, snapshot);
                Ok(())
            }),
            Event::Fault => self.on_fault(),
            Event::Mend { at } => {
                if let Some(mending) = self.mendings.remove(&at) {
                    self.mend(mending);
                }
            }
            Event::Phase => self.on_phase(),
        }
    }

    /// Lets a process do something, if it still is the one and runs.
    fn in_process(
        &mut self,
        host: Host,
        life: u64,
        event: Event,
        act: impl FnOnce(&mut Process, &mut Around<'_>) -> Result<(), Exit>,
    ) {
        if self.servers[host].life != life {
            return;
        }
        if self.servers[host].paused.is_some() {
            return self.servers[host].held.push(event);
        }
        let done = around!(self, host, |process, around| match process {
            Some(process) => act(process, around),
            None => Ok(()),
        });
        if let Err(Exit(why)) = done {
            self.note(|| format!("server {host} exits: {why}"));
            holds!("Exit", self.servers[host].machine.is_faulty(), "server {host} ends by itself: {why}");
            self.end_process(host, Fate::Cached);
            self.start_later(host);
        }
    }

    fn with_client(&mut self, host: Host, act: impl FnOnce(&mut Client, &mut Sight<'_>)) {
        let Self { schedule, net, servers, clients, ghosts, trace, .. } = self;
        let (now, log) = (schedule.now(), trace.log);
        let note = &mut |text: &dyn Fn() -> String| {
            if log {
                eprintln!("{now:>12} {}", text());
            }
        };
        let client = &mut clients[host - servers.len()];
        let newest = ghosts.newest_epoch();
        let is_current = |server: Host| servers[server].process.as_ref().is_some_and(|process| process.follows(newest));
        let sight = &mut Sight {
            net,
            schedule,
            model: &ghosts.model,
            committed_at: &ghosts.committed_at,
            acknowledged: &mut ghosts.acknowledged,
            leadership: ghosts.leadership,
            is_current: &is_current,
            note,
        };
        act(client, sight);
    }

    // The network.

    fn on_dial_arrives(&mut self, conn: ConnNo) {
        let Some((host, port, _)) = self.net.dialled(conn) else { return };
        if self.servers[host].paused.is_some() {
            return self.servers[host].held.push(Event::DialArrives { conn });
        }
        let life =
            self.servers[host].process.as_ref().filter(|process| process.listens(port)).map(|process| process.life);
        self.net.answer_dial(&mut self.schedule, conn, life);
        if let Some(life) = life {
            self.in_process(host, life, Event::DialArrives { conn }, |process, around| {
                process.on_accepted(around, conn, port);
                Ok(())
            });
        }
    }

    fn on_dial_ends(&mut self, conn: ConnNo, connected: bool) {
        let Some((host, life, _)) = self.net.holder(conn, Side::Dialler) else { return };
        if !connected {
            self.net.forget(conn);
        }
        if host >= self.servers.len() {
            return self.with_client(host, |client, sight| client.on_dialled(sight, conn, connected));
        }
        self.in_process(host, life, Event::DialEnds { conn, connected }, |process, around| {
            process.on_dialled(around, conn, connected);
            Ok(())
        });
    }

    fn on_arrive(&mut self, conn: ConnNo, to: Side) {
        let host = self.net.host_of(conn, to);
        if let Some(host) = host.filter(|host| *host < self.servers.len())
            && self.servers[host].paused.is_some()
        {
            return self.servers[host].held.push(Event::Arrive { conn, to });
        }
        let holder = self.net.holder(conn, to);
        let servers = &self.servers;
        let is_on = |host: Host| servers.get(host).is_none_or(|server| server.is_on);
        let arrival = self.net.arrive(&mut self.schedule, conn, to, is_on);
        let Some((host, life, port)) = holder else { return };
        let bytes = match arrival {
            Arrival::Nothing => return,
            Arrival::End => None,
            Arrival::Bytes(bytes) => Some(bytes),
        };
        if host >= self.servers.len() {
            return self.with_client(host, |client, sight| match &bytes {
                Some(bytes) => client.on_bytes(sight, conn, bytes),
                None => client.on_end(sight, conn),
            });
        }
        self.in_process(host, life, Event::Arrive { conn, to }, |process, around| {
            process.on_arrival(around, conn, port, bytes)
        });
    }

    // Processes.

    fn on_start(&mut self, host: Host, life: u64) {
        let server = &mut self.servers[host];
        if server.life != life || server.process.is_some() || server.is_out {
            return;
        }
        server.is_on = true;
        let now = self.schedule.now();
        server.clock.started = now;
        server.clock.paused = 0;
        let rules = self.swarm.server.clone();
        let started = around!(self, host, |_process, around| Process::start(host, life, rules, around));
        match started {
            Ok(process) => {
                self.note(|| format!("server {host} starts at {}", process.tree.last_zxid()));
                self.servers[host].process = Some(process);
            }
            Err(Exit(why)) => {
                self.note(|| format!("server {host} can't start: {why}"));
                holds!("Exit", self.servers[host].machine.is_faulty(), "server {host} can't start: {why}");
                self.end_process(host, Fate::Cached);
                self.start_later(host);
            }
        }
    }

    fn start_later(&mut self, host: Host) {
        let delay = self.faults.around(self.swarm.fault_lasts) + 10 * MS;
        let life = self.servers[host].life;
        self.schedule.after(delay, Event::Start { host, life });
    }

    /// The process is no more, and its machine is what `fate` leaves.
    fn end_process(&mut self, host: Host, fate: Fate) {
        let server = &mut self.servers[host];
        let life = server.life;
        server.life += 1;
        server.process = None;
        let power_cut = matches!(fate, Fate::Lost | Fate::Torn);
        server.is_on = !power_cut;
        server.machine.crash(fate, &mut self.faults);
        self.net.close_all(&mut self.schedule, host, life, power_cut);
        self.go_on(host);
    }

    // What goes wrong.

    fn any_server(&mut self) -> Host {
        self.faults.below(self.servers.len() as u64) as usize
    }

    fn lasts(&mut self) -> Time {
        self.faults.around(self.swarm.fault_lasts)
    }

    fn mend_later(&mut self, mending: Mending) {
        self.mending += 1;
        self.mendings.insert(self.mending, mending);
        let lasts = self.lasts();
        self.schedule.after(lasts, Event::Mend { at: self.mending });
    }

    fn on_fault(&mut self) {
        if self.stage != Stage::Chaos {
            return;
        }
        let next = self.faults.around(self.swarm.fault_every);
        self.schedule.after(next, Event::Fault);
        if self.swarm.faults.is_empty() {
            return;
        }
        let fault = *self.faults.pick(&self.swarm.faults);
        let host = self.any_server();
        let count = self.servers.len();
        self.note(|| format!("fault: {fault:?} of {host}"));
        *self.counts.entry(fault).or_default() += 1;
        match fault {
            Fault::Kill => self.stop(host, Fate::Cached),
            Fault::KillLeader => {
                let newest = self.ghosts.newest_epoch();
                let leads = |server: &Server| server.process.as_ref().is_some_and(|process| process.leads(newest));
                let leader = self.servers.iter().position(leads).unwrap_or(host);
                self.stop(leader, Fate::Cached);
            }
            Fault::PowerCut => {
                let fate = *self.faults.pick(&[Fate::Lost, Fate::Torn]);
                self.stop(host, fate);
            }
            Fault::PowerCutOfAll => {
                for host in 0..count {
                    let fate = *self.faults.pick(&[Fate::Lost, Fate::Torn, Fate::Cached]);
                    self.stop(host, fate);
                }
            }
            Fault::DiesWriting => {
                let more = self.faults.below(40);
                self.servers[host].machine.blow_after(more);
            }
            Fault::Pause => {
                let now = self.schedule.now();
                let server = &mut self.servers[host];
                if server.process.is_some() && server.paused.is_none() {
                    server.paused = Some(now);
                    self.mend_later(Mending::Pause { host, since: now });
                }
            }
            Fault::SyncError => {
                let more = self.faults.below(5);
                self.servers[host].machine.fail_syncs_after(more);
            }
            Fault::FullDisk => {
                let room = self.faults.below(8000);
                self.servers[host].machine.set_room(Some(room));
                self.mend_later(Mending::Room(host));
            }
            Fault::Isolate => {
                let all = count + self.clients.len();
                let with_clients = self.faults.permille(300);
                let others = (0..if with_clients { all } else { count }).filter(|other| *other != host);
                let cuts = others.flat_map(|other| [(host, other), (other, host)]).collect();
                self.cut(cuts);
            }
            Fault::Split => {
                let sides: Vec<bool> = (0..count).map(|_| self.faults.permille(500)).collect();
                let pairs = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
                let cuts = pairs.filter(|(a, b)| sides[*a] != sides[*b]).collect();
                self.cut(cuts);
            }
            Fault::OneWay => {
                let other = self.any_server();
                self.cut(vec![(host, other)]);
            }
            Fault::Bridge => {
                let other = self.any_server();
                self.cut(vec![(host, other), (other, host)]);
            }
            Fault::Reset => {
                if let Some(conn) = self.net.any(&mut self.faults) {
                    self.net.reset(&mut self.schedule, conn);
                }
            }
            Fault::ClockStep => {
                self.servers[host].clock.wall_offset_ms += self.faults.below(1 << 37) as i64 - (1 << 36);
            }
        }
    }

    fn cut(&mut self, cuts: Vec<(Host, Host)>) {
        let cuts: Vec<_> = cuts.into_iter().filter(|(from, to)| from != to).collect();
        for (from, to) in &cuts {
            self.net.cut(*from, *to);
        }
        self.mend_later(Mending::Cuts(cuts));
    }

    fn stop(&mut self, host: Host, fate: Fate) {
        self.end_process(host, fate);
        self.mend_later(Mending::Start(host));
    }

    fn mend(&mut self, mending: Mending) {
        match mending {
            Mending::Cuts(cuts) => self.net.heal(&mut self.schedule, |from, to| cuts.contains(&(from, to))),
            Mending::Start(host) => {
                let life = self.servers[host].life;
                self.on_start(host, life);
            }
            Mending::Room(host) => self.servers[host].machine.set_room(None),
            Mending::Pause { host, since } => {
                // Its process may have ended since, and another one may have been paused.
                if self.servers[host].paused != Some(since) {
                    return;
                }
                // The product's clock does not count a pause that it notices.
                let lasted = self.schedule.now() - since;
                if lasted > self.swarm.server.slack() {
                    self.servers[host].clock.paused += lasted;
                }
                self.go_on(host);
            }
        }
    }

    /// What happened while the process stood still happens to it now.
    fn go_on(&mut self, host: Host) {
        self.servers[host].paused = None;
        let held = std::mem::take(&mut self.servers[host].held);
        if let Some(process) = &mut self.servers[host].process {
            process.go_on(self.schedule.now());
        }
        for event in held {
            self.schedule.after(0, event);
        }
    }

    fn mend_all(&mut self) {
        for (_, mending) in std::mem::take(&mut self.mendings) {
            self.mend(mending);
        }
        self.net.heal(&mut self.schedule, |_, _| true);
        for server in &mut self.servers {
            server.machine.blow_never();
            server.machine.set_room(None);
        }
        self.net.rules.resets = 0;
        self.net.rules.clogs = 0;
        self.swarm.server.slow_syncs = 0;
        for process in self.servers.iter_mut().filter_map(|server| server.process.as_mut()) {
            process.calm();
        }
    }

    // Phases.

    /// How long an ensemble that nothing disturbs may take for a write (L1).
    fn patience(&self) -> Time {
        let tick = self.swarm.server.tick_ms as Time * MS;
        let timeout = self.swarm.work.timeout_ms as Time * MS;
        let quiet = self.swarm.server.ensemble.as_ref().map_or(0, |rules| rules.max_notification_ms as Time * MS);
        3 * quiet + 10 * (self.swarm.init_limit + self.swarm.sync_limit) as Time * tick + 4 * timeout + 20 * SECOND
    }

    fn on_phase(&mut self) {
        match self.stage {
            Stage::Chaos => self.begin_calm(),
            Stage::Calm => {
                let waits = self.servers.iter().any(|server| !server.is_out);
                holds!(
                    "L1",
                    !waits || self.ghosts.acknowledged > self.acknowledged_then,
                    "no write was answered for {} ms in a core that nothing disturbed",
                    self.patience() / MS
                );
                self.begin_healed();
            }
            Stage::Healed => {
                let late: Vec<Host> =
                    self.clients.iter().filter(|client| !client.is_quiet()).map(|client| client.host).collect();
                let applied: Vec<usize> =
                    (0..self.servers.len()).map(|host| self.ghosts.prefix.applied(host)).collect();
                broken!("D2", "not level: clients {late:?} wait, {applied:?} applied of {}", self.ghosts.prefix.len())
            }
        }
    }

    fn enter(&mut self, stage: Stage) {
        self.note(|| format!("{stage:?}"));
        self.stage = stage;
        self.stage_began = self.schedule.now();
        self.acknowledged_then = self.ghosts.acknowledged;
        let patience = self.patience();
        let idle = self.swarm.idle_timeouts * self.swarm.work.timeout_ms as Time * MS;
        self.schedule.after(patience + idle, Event::Phase);
        for at in 0..self.clients.len() {
            self.clients[at].ask_more(3);
            let host = self.clients[at].host;
            self.with_client(host, Client::go_on);
        }
    }

    /// A majority is mended; the others are off, or cut off, to stay so.
    fn begin_calm(&mut self) {
        self.mend_all();
        let voters = self.swarm.voters;
        let mut order: Vec<Host> = (0..voters).collect();
        for at in (1..voters).rev() {
            order.swap(at, self.faults.below(at as u64 + 1) as usize);
        }
        let spare = (voters - 1) / 2;
        let out = self.faults.below(spare as u64 + 1) as usize;
        let hosts = self.servers.len() + self.clients.len();
        for host in order.into_iter().take(out) {
            self.note(|| format!("server {host} is out of it"));
            if self.faults.permille(500) {
                self.end_process(host, Fate::Cached);
                self.servers[host].is_out = true;
            } else {
                for other in (0..hosts).filter(|other| *other != host) {
                    self.net.cut(host, other);
                    self.net.cut(other, host);
                }
            }
        }
        self.start_all();
        self.enter(Stage::Calm);
    }

    fn begin_healed(&mut self) {
        self.mend_all();
        for server in &mut self.servers {
            server.is_out = false;
        }
        self.start_all();
        self.enter(Stage::Healed);
    }

    fn start_all(&mut self) {
        for host in 0..self.servers.len() {
            let life = self.servers[host].life;
            if self.servers[host].process.is_none() {
                self.schedule.after(MS, Event::Start { host, life });
            }
        }
    }

    /// The calm phase ends as soon as it has shown progress.
    fn is_over(&mut self) -> bool {
        if self.stage == Stage::Calm && self.ghosts.acknowledged > self.acknowledged_then {
            self.begin_healed();
        }
        // Who is still brought up to date may have applied everything.
        let is_level = self.stage == Stage::Healed
            && self.clients.iter().all(Client::is_quiet)
            && self.servers.iter().all(|server| server.process.as_ref().is_some_and(Process::has_a_role))
            && self.ghosts.prefix.is_level(0..self.servers.len());
        let idle = self.swarm.idle_timeouts * self.swarm.work.timeout_ms as Time * MS;
        match &self.idles {
            None if is_level && idle > 0 => {
                let held = self.clients.iter().map(Client::held).collect();
                let since = self.schedule.now();
                self.idles = Some(Idle { since, until: since + idle, held, leadership: self.ghosts.leadership });
                false
            }
            None => is_level,
            Some(idle) => self.schedule.now() >= idle.until && is_level,
        }
    }

    /// E2: whose connection has lasted, has its session still. E3: what nobody holds was given up by a leader that had the
    /// time to see it.
    fn check_sessions(&self) {
        let Some(idle) = &self.idles else { return };
        for (client, held) in self.clients.iter().zip(&idle.held) {
            let Some((_, session)) = held.filter(|held| client.held() == Some(*held)) else { continue };
            let closed = self.ghosts.model.sessions.get(&session).and_then(|session| session.closed);
            holds!("E2", closed.is_none(), "session {session:#x} of client {} is closed at {closed:x?}", client.host);
        }
        let tick = self.swarm.server.tick_ms as Time * MS;
        let timeout = (self.swarm.work.timeout_ms as Time * MS).clamp(2 * tick, 20 * tick);
        // A clock may be a twentieth too slow.
        let enough = (timeout + 2 * tick + SECOND) * 20 / 19;
        let undisturbed = self.ghosts.leadership == idle.leadership
            && self.clients.iter().map(Client::held).eq(idle.held.iter().copied());
        if !undisturbed || self.schedule.now() < idle.since + enough {
            return;
        }
        for (session, known) in &self.ghosts.model.sessions {
            let is_held = idle.held.iter().flatten().any(|(_, held)| held == session);
            holds!("E3", is_held || known.closed.is_some(), "session {session:#x} is open, and nobody has it");
        }
    }

    /// D2: all trees are the same, to the last field.
    fn check_level(&self) {
        let trees = self.servers.iter().filter_map(|server| server.process.as_ref()).map(|process| {
            // The list of members is each server's own business, with the time at which it began to serve.
            let lines = trees::lines(&process.tree).into_iter().filter(|line| !line.starts_with("/zookeeper/config"));
            lines.collect::<Vec<_>>()
        });
        let trees: Vec<_> = trees.collect();
        for tree in &trees[1..] {
            let differs = tree.iter().zip(&trees[0]).find(|(one, other)| one != other);
            holds!("D2", differs.is_none() && tree.len() == trees[0].len(), "two servers differ: {differs:?}");
        }
    }
}
