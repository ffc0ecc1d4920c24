//! Operations over many connections. Each keeps a number of requests in flight, either always (closed loop: the server
//! sets the pace) or as a schedule demands (fixed rate).
//!
//! At a fixed rate a latency counts from the moment the schedule wanted the request, not from when there was room to
//! send it. Else a server that stops for a second spoils one sample per connection, where users would have sent
//! thousands (coordinated omission). The report has both. What was due and never answered is counted apart, since no
//! percentile shows it.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use hdrhistogram::Histogram;

use super::fill;
use super::host::{self, Usage};
use super::names::Names;
use super::pool::{Client, Pool, since};
use super::report::{Errors, Progress, Report, histogram};
use super::wire::{Reply, Template};
use super::{Target, duration};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    names: Names,
    /// Operations with weights, as in get:9,set:1; of get, exists, children, set, multi, create, create-delete,
    /// ephemeral
    #[arg(long, short, default_value = "get")]
    op: Mix,
    /// Short for --op get:READS,set:WRITES
    #[arg(long, value_name = "READS:WRITES", conflicts_with = "op")]
    ratio: Option<String>,
    /// Connections, each with a session
    #[arg(long, short, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    connections: u64,
    /// Requests in flight per connection
    #[arg(long, short, default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..))]
    in_flight: u64,
    /// Requests per second over all connections; without it, a closed loop
    #[arg(long)]
    rate: Option<f64>,
    /// Sets in one multi
    #[arg(long, default_value_t = 4)]
    multi_size: usize,
    /// Before anything counts
    #[arg(long, default_value = "2s", value_parser = duration)]
    warmup: Duration,
    /// What counts
    #[arg(long, short, default_value = "10s", value_parser = duration)]
    time: Duration,
    /// Threads of the generator
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    threads: u64,
    /// Take the znodes for granted instead of creating those that are missing
    #[arg(long)]
    no_fill: bool,
}

/// One kind of operation.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    Get,
    Exists,
    Children,
    Set,
    Multi,
    Create,
    /// A create and a delete of the same znode in turn; each counts as one.
    CreateDelete,
    /// The same with an ephemeral.
    Ephemeral,
}

const OPS: [(&str, Op); 8] = [
    ("get", Op::Get),
    ("exists", Op::Exists),
    ("children", Op::Children),
    ("set", Op::Set),
    ("multi", Op::Multi),
    ("create", Op::Create),
    ("create-delete", Op::CreateDelete),
    ("ephemeral", Op::Ephemeral),
];

/// Which operations, and how often each.
#[derive(Clone, Debug)]
struct Mix {
    text: String,
    ops: Vec<(&'static str, Op, u32)>,
}

impl FromStr for Mix {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let mut ops = Vec::new();
        for part in text.split(',') {
            let (name, weight) = part.split_once(':').unwrap_or((part, "1"));
            let Some((name, op)) = OPS.into_iter().find(|(known, _)| *known == name) else {
                bail!("unknown operation: {name}");
            };
            ops.push((name, op, weight.parse().with_context(|| format!("no weight: {weight}"))?));
        }
        ensure!(ops.iter().any(|(_, _, weight)| *weight > 0), "nothing to do: {text}");
        Ok(Self { text: text.into(), ops })
    }
}

pub fn run(mut args: Args) -> anyhow::Result<()> {
    if let Some(ratio) = &args.ratio {
        let (reads, writes) = ratio.split_once(':').with_context(|| format!("no READS:WRITES: {ratio}"))?;
        args.op = format!("get:{reads},set:{writes}").parse()?;
    }
    if !args.no_fill {
        fill::if_missing(&args.target, &args.names)?;
    }
    let pids = &args.target.pid;
    measure(&args, &|| Usage::of(pids))?.print(args.target.json);
    Ok(())
}

impl Args {
    /// A closed loop on the usual znodes, for a server in this process.
    pub fn closed_loop(
        server: SocketAddr,
        op: &str,
        connections: u64,
        in_flight: u64,
        time: Duration,
    ) -> anyhow::Result<Self> {
        let (pid, session_timeout) = (vec![std::process::id()], Duration::from_secs(30));
        Ok(Self {
            target: Target { server: server.to_string(), pid, session_timeout, json: false, quiet: true },
            names: Names { root: "/bench".into(), keys: 100_000, parents: 100, value_size: 100 },
            op: op.parse()?,
            ratio: None,
            connections,
            in_flight,
            rate: None,
            multi_size: 1,
            warmup: Duration::from_secs(1),
            time,
            threads: 1,
            no_fill: true,
        })
    }
}

/// `usage` tells what the server has used so far.
pub fn measure(args: &Args, usage: &dyn Fn() -> Usage) -> anyhow::Result<Report> {
    let start = Instant::now();
    let plan = Arc::new(Plan {
        mix: args.op.clone(),
        templates: Templates::new(&args.names, args.multi_size),
        names: args.names.clone(),
        noise: noise(args.names.value_size),
        paced: args.rate.is_some(),
        window: OnceLock::new(),
        done: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        slowest: AtomicU64::new(0),
    });
    let threads = args.threads.min(args.connections);
    let (ready, opened) = mpsc::channel();
    let mut workers = Vec::new();
    for thread in 0..threads {
        let pool = Pool::new(args.target.addresses()?, args.target.session_timeout_ms(), start)?;
        let connections = share(args.connections, threads, thread);
        let pace = args.rate.map(|rate| Pace::new(rate * connections as f64 / args.connections as f64));
        let worker = Worker::new(plan.clone(), connections as usize, args.in_flight as usize, pace, thread);
        let ready = ready.clone();
        let body = move || worker.run(pool, connections, &ready);
        workers.push(thread::Builder::new().name(format!("load-{thread}")).spawn(body)?);
    }
    let progress = Progress::new(args.target.quiet);
    for _ in &workers {
        opened.recv()??;
    }
    let from = since(start) + args.warmup.as_nanos() as u64;
    let window = Window { from, until: from + args.time.as_nanos() as u64 };
    plan.window.set(window).expect("set once");
    watch(&plan, start, window.from, &progress);
    let before = usage();
    watch(&plan, start, window.until, &progress);
    let after = usage();
    progress.done();

    let mut total = Stats::new(args.op.ops.len());
    for worker in workers {
        total.add(worker.join().expect("a load thread panicked")?);
    }
    Ok(report(args, &total, before, after))
}

/// A line of progress per second until `until`.
fn watch(plan: &Plan, start: Instant, until: u64, progress: &Progress) {
    let mut last = (since(start), plan.done.load(Relaxed));
    while last.0 < until {
        let next = until.min(last.0 + 1_000_000_000);
        thread::sleep(Duration::from_nanos(next - since(start).min(next)));
        let now = (since(start), plan.done.load(Relaxed));
        if now.0 - last.0 > 500_000_000 {
            let rate = (now.1 - last.1) as f64 * 1e9 / (now.0 - last.0) as f64;
            let slowest = plan.slowest.swap(0, Relaxed) as f64 / 1e6;
            let failed = plan.failed.load(Relaxed);
            progress.rate(Duration::from_nanos(now.0), rate, &format!("slowest {slowest:.1} ms, {failed} errors"));
        }
        last = now;
    }
}

fn report(args: &Args, total: &Stats, before: Usage, after: Usage) -> Report {
    let seconds = args.time.as_secs_f64();
    let ops = total.completed as f64;
    let mut report = Report::new("load");
    report.given("op", args.op.text.clone());
    report.given("server", args.target.server.clone());
    report.given("connections", args.connections);
    report.given("in_flight", args.in_flight);
    report.given("rate", args.rate);
    report.given("keys", args.names.keys);
    report.given("parents", args.names.parents);
    report.given("value_size", args.names.value_size);
    report.given("threads", args.threads);
    report.given("seconds", seconds);
    report.number("throughput", ops / seconds, "op/s");
    let mut all = histogram();
    for latency in &total.latency {
        all.add(latency).expect("equal bounds");
    }
    report.latency("latency", &all);
    if args.rate.is_some() {
        report.latency("latency_since_sent", &total.since_sent);
    }
    if args.op.ops.len() > 1 {
        for ((name, _, _), latency) in args.op.ops.iter().zip(&total.latency) {
            report.latency(&format!("{}_latency", name.replace('-', "_")), latency);
        }
    }
    report.errors(&total.errors, total.lost);
    report.number("unanswered", total.unanswered as f64, "requests");
    report.server(&args.target.pid, before, after, seconds, ops);
    report.own(total.cpu_seconds, seconds, ops);
    report
}

/// What counts: from, until.
#[derive(Clone, Copy, Debug)]
struct Window {
    from: u64,
    until: u64,
}

/// What all threads share.
struct Plan {
    mix: Mix,
    templates: Templates,
    names: Names,
    /// Values are cut out of this, each elsewhere, so that no server can compress them.
    noise: Vec<u8>,
    paced: bool,
    window: OnceLock<Window>,
    done: AtomicU64,
    failed: AtomicU64,
    /// The longest latency since the last line of progress.
    slowest: AtomicU64,
}

struct Templates {
    get: Template,
    exists: Template,
    children: Template,
    set: Template,
    multi: Template,
    create: Template,
    create_ephemeral: Template,
    delete: Template,
}

impl Templates {
    fn new(names: &Names, multi_size: usize) -> Self {
        Self {
            get: Template::get(names),
            exists: Template::exists(names),
            children: Template::children(names),
            set: Template::set(names),
            multi: Template::multi(names, multi_size),
            create: Template::create_fresh(names),
            create_ephemeral: Template::create_ephemeral(names),
            delete: Template::delete_fresh(names),
        }
    }
}

const NOISE: usize = 64 * 1024;

/// More than one value's worth of bytes without a pattern.
pub fn noise(value_size: usize) -> Vec<u8> {
    let mut dice = Dice::new(1);
    (0..NOISE + value_size).map(|_| dice.next() as u8).collect()
}

#[inline]
pub fn fill_value(noise: &[u8], at: u64, value: &mut [u8]) {
    let at = at as usize % NOISE;
    value.copy_from_slice(&noise[at..at + value.len()]);
}

/// xorshift64*: a few cycles, and good enough to choose keys.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    #[inline]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    #[inline]
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
}

/// When the next request is due.
struct Pace {
    interval: f64,
    due: f64,
    /// Which connection is asked first for the next request.
    turn: usize,
    /// No connection has room: only a reply changes that.
    blocked: bool,
}

impl Pace {
    fn new(per_second: f64) -> Self {
        Self { interval: 1e9 / per_second, due: 0.0, turn: 0, blocked: false }
    }

    /// How many requests the schedule wants before `until` that are not sent.
    fn behind(&self, until: u64) -> u64 {
        ((until as f64 - self.due) / self.interval).ceil().max(0.0) as u64
    }
}

/// Waking up more often than this costs more than it improves the schedule.
const TICK: Duration = Duration::from_micros(100);

/// A request without its reply.
#[derive(Clone, Copy)]
struct Pending {
    /// When the schedule wanted it; in a closed loop, when it was made.
    due: u64,
    sent: u64,
    xid: i32,
    kind: u8,
}

/// What one connection is about.
struct Lane {
    pending: VecDeque<Pending>,
    xid: i32,
    live: bool,
    /// The fresh znode to delete next, per kind of operation.
    fresh: Option<(u64, u64)>,
}

struct Stats {
    latency: Vec<Histogram<u64>>,
    since_sent: Histogram<u64>,
    completed: u64,
    errors: Errors,
    lost: u64,
    /// Requests that the server never answered, or that there never was room to send.
    unanswered: u64,
    cpu_seconds: f64,
}

impl Stats {
    fn new(kinds: usize) -> Self {
        Self {
            latency: (0..kinds).map(|_| histogram()).collect(),
            since_sent: histogram(),
            completed: 0,
            errors: Errors::new(),
            lost: 0,
            unanswered: 0,
            cpu_seconds: 0.0,
        }
    }

    fn add(&mut self, other: Self) {
        for (mine, other) in self.latency.iter_mut().zip(&other.latency) {
            mine.add(other).expect("equal bounds");
        }
        self.since_sent.add(other.since_sent).expect("equal bounds");
        self.completed += other.completed;
        for (code, n) in other.errors {
            *self.errors.entry(code).or_default() += n;
        }
        self.lost += other.lost;
        self.unanswered += other.unanswered;
        self.cpu_seconds += other.cpu_seconds;
    }
}

/// One thread's connections.
struct Worker {
    plan: Arc<Plan>,
    window: Window,
    in_flight: usize,
    pace: Option<Pace>,
    lanes: Vec<Lane>,
    weights: Vec<u32>,
    dice: Dice,
    fresh: u64,
    stats: Stats,
    done: u64,
    slowest: u64,
    lost: Vec<usize>,
    next_redial: u64,
}

/// An unreachable server is not asked more often than this.
const REDIAL: u64 = 100_000_000;

impl Worker {
    fn new(plan: Arc<Plan>, lanes: usize, in_flight: usize, pace: Option<Pace>, thread: u64) -> Self {
        let lane = || Lane { pending: VecDeque::with_capacity(in_flight), xid: 0, live: false, fresh: None };
        let kinds = plan.mix.ops.len();
        // Unlike the names of any earlier run, and of other threads for the first 10^12 of them.
        let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
        Self {
            window: Window { from: u64::MAX, until: u64::MAX },
            in_flight,
            pace,
            lanes: (0..lanes).map(|_| lane()).collect(),
            weights: plan.mix.ops.iter().map(|(_, _, weight)| *weight).collect(),
            dice: Dice::new(micros + thread),
            fresh: micros * 1_000 + thread * 1_000_000_000_000,
            stats: Stats::new(kinds),
            done: 0,
            slowest: 0,
            lost: Vec::new(),
            next_redial: 0,
            plan,
        }
    }

    fn run(
        mut self,
        mut pool: Pool,
        connections: u64,
        ready: &mpsc::Sender<anyhow::Result<()>>,
    ) -> anyhow::Result<Stats> {
        let opened = self.open(&mut pool, connections);
        let failed = opened.is_err();
        ready.send(opened)?;
        if failed {
            return Ok(self.stats);
        }
        self.stats.lost = 0;
        self.window = *self.plan.window.wait();
        self.load(&mut pool)?;
        self.drain(&mut pool)?;
        pool.close()?;
        Ok(self.stats)
    }

    fn open(&mut self, pool: &mut Pool, connections: u64) -> anyhow::Result<()> {
        for _ in 0..connections {
            pool.open()?;
        }
        let give_up = pool.now() + 30_000_000_000;
        while !self.lanes.iter().all(|lane| lane.live) {
            pool.turn(Duration::from_millis(10), self)?;
            self.redial(pool);
            ensure!(pool.now() < give_up, "no session within 30 s");
        }
        Ok(())
    }

    fn load(&mut self, pool: &mut Pool) -> anyhow::Result<()> {
        let now = pool.now();
        match &mut self.pace {
            Some(pace) => pace.due = now as f64,
            None => (0..self.lanes.len()).for_each(|conn| self.kick(pool, conn, now)),
        }
        let mut cpu = None;
        loop {
            let wait = self.next_wait(pool.now());
            pool.turn(wait, self)?;
            let now = pool.now();
            self.pace(pool, now);
            self.tell();
            if cpu.is_none() && now >= self.window.from {
                cpu = Some(host::thread_cpu_seconds());
            }
            if now >= self.window.until {
                break;
            }
            self.redial(pool);
        }
        self.stats.cpu_seconds = host::thread_cpu_seconds() - cpu.unwrap_or(0.0);
        Ok(())
    }

    /// What was due within the window counts even if its reply comes later, or there is room for it only now.
    fn drain(&mut self, pool: &mut Pool) -> anyhow::Result<()> {
        let end = pool.now() + 5_000_000_000;
        while self.left() > 0 && pool.now() < end {
            pool.turn(Duration::from_millis(10), self)?;
            self.pace(pool, pool.now());
            self.redial(pool);
        }
        self.stats.unanswered += self.left();
        Ok(())
    }

    /// Requests that are sent or should be, and have no reply.
    fn left(&self) -> u64 {
        let unsent = self.pace.as_ref().map_or(0, |pace| pace.behind(self.window.until));
        unsent + self.lanes.iter().map(|lane| lane.pending.len() as u64).sum::<u64>()
    }

    fn tell(&mut self) {
        self.plan.done.fetch_add(std::mem::take(&mut self.done), Relaxed);
        if self.slowest > 0 {
            self.plan.slowest.fetch_max(std::mem::take(&mut self.slowest), Relaxed);
        }
    }

    fn redial(&mut self, pool: &mut Pool) {
        if self.lost.is_empty() || pool.now() < self.next_redial {
            return;
        }
        self.next_redial = pool.now() + REDIAL;
        for conn in std::mem::take(&mut self.lost) {
            if pool.reopen(conn).is_err() {
                self.lost.push(conn);
            }
        }
    }

    fn next_wait(&self, now: u64) -> Duration {
        match &self.pace {
            Some(pace) if !pace.blocked => Duration::from_nanos((pace.due as u64).saturating_sub(now)).max(TICK),
            _ => Duration::from_millis(100),
        }
    }

    /// Fills a connection with requests in a closed loop.
    fn kick(&mut self, pool: &mut Pool, conn: usize, now: u64) {
        for _ in 0..self.in_flight {
            self.issue(conn, now, now, pool.out(conn));
        }
        pool.flush(conn, self);
    }

    /// Sends what the schedule wants by now, as far as there is room.
    fn pace(&mut self, pool: &mut Pool, now: u64) {
        let Some(mut pace) = self.pace.take() else { return };
        let first = pace.turn;
        let mut used = false;
        pace.blocked = false;
        while pace.due <= now as f64 && pace.due < self.window.until as f64 {
            let Some(conn) = self.lane_with_room(pace.turn) else {
                pace.blocked = true;
                break;
            };
            self.issue(conn, pace.due as u64, now, pool.out(conn));
            used = true;
            pace.due += pace.interval;
            pace.turn = (conn + 1) % self.lanes.len();
        }
        if used {
            let lanes = self.lanes.len();
            for step in 0..lanes {
                let conn = (first + step) % lanes;
                if !pool.out(conn).is_empty() {
                    pool.flush(conn, self);
                }
            }
        }
        self.pace = Some(pace);
    }

    fn lane_with_room(&self, first: usize) -> Option<usize> {
        let lanes = self.lanes.len();
        (0..lanes).map(|step| (first + step) % lanes).find(|&conn| {
            let lane = &self.lanes[conn];
            lane.live && lane.pending.len() < self.in_flight
        })
    }

    fn issue(&mut self, conn: usize, due: u64, sent: u64, out: &mut Vec<u8>) {
        let plan = &*self.plan;
        let kind = choose(&self.weights, &mut self.dice);
        let lane = &mut self.lanes[conn];
        lane.xid = (lane.xid + 1) & i32::MAX;
        let xid = lane.xid;
        lane.pending.push_back(Pending { due, sent, xid, kind: kind as u8 });

        let names = &plan.names;
        let at = self.dice.next();
        let dice = &mut self.dice;
        let any_key = || {
            let key = dice.below(names.keys);
            (key % names.parents, key)
        };
        let value = |value: &mut [u8]| fill_value(&plan.noise, at, value);
        let no_value = |_: &mut [u8]| ();
        let t = &plan.templates;
        let (_, op, _) = plan.mix.ops[kind];
        let create = match op {
            Op::Get => return t.get.append(out, xid, any_key, no_value),
            Op::Exists => return t.exists.append(out, xid, any_key, no_value),
            Op::Children => return t.children.append(out, xid, any_key, no_value),
            Op::Set => return t.set.append(out, xid, any_key, value),
            Op::Multi => return t.multi.append(out, xid, any_key, value),
            Op::Create | Op::CreateDelete => &t.create,
            Op::Ephemeral => &t.create_ephemeral,
        };
        if let Some(made) = lane.fresh.take_if(|_| op != Op::Create) {
            return t.delete.append(out, xid, || made, no_value);
        }
        self.fresh += 1;
        let fresh = (self.fresh % names.parents, self.fresh);
        if op != Op::Create {
            lane.fresh = Some(fresh);
        }
        create.append(out, xid, || fresh, value);
    }

    fn record(&mut self, pending: Pending, now: u64, err: i32) {
        let Window { from, until } = self.window;
        // A closed loop counts what completes within the window, a schedule what it wanted within it.
        let counts_at = if self.plan.paced { pending.due } else { now };
        self.done += 1;
        if now >= from && now < until {
            self.stats.completed += u64::from(err == 0);
        }
        let latency = now - pending.due;
        self.slowest = self.slowest.max(latency);
        if counts_at < from || counts_at >= until {
            return;
        }
        if err != 0 {
            *self.stats.errors.entry(err).or_default() += 1;
            self.plan.failed.fetch_add(1, Relaxed);
            return;
        }
        self.stats.latency[pending.kind as usize].saturating_record(latency);
        if self.plan.paced {
            self.stats.since_sent.saturating_record(now - pending.sent);
        }
    }
}

impl Client for Worker {
    fn on_session(&mut self, conn: usize, now: u64, out: &mut Vec<u8>) {
        self.lanes[conn].live = true;
        // A session that replaces a lost one goes on where that was.
        if self.window.from != u64::MAX && !self.plan.paced && now < self.window.until {
            for _ in 0..self.in_flight {
                self.issue(conn, now, now, out);
            }
        }
    }

    #[inline]
    fn on_frame(&mut self, conn: usize, now: u64, frame: &[u8], out: &mut Vec<u8>) {
        let Some(reply) = Reply::of(frame) else { return };
        if reply.is_event() {
            return;
        }
        let pending = self.lanes[conn].pending.pop_front();
        let Some(pending) = pending.filter(|pending| pending.xid == reply.xid) else {
            panic!("the server answered {} out of order", reply.xid);
        };
        self.record(pending, now, reply.err);
        if !self.plan.paced && now < self.window.until {
            self.issue(conn, now, now, out);
        }
    }

    fn on_lost(&mut self, conn: usize, _: io::Error) {
        let lane = &mut self.lanes[conn];
        lane.live = false;
        lane.fresh = None;
        self.stats.unanswered += lane.pending.len() as u64;
        lane.pending.clear();
        self.stats.lost += 1;
        self.plan.failed.fetch_add(1, Relaxed);
        self.lost.push(conn);
    }
}

#[inline]
fn choose(weights: &[u32], dice: &mut Dice) -> usize {
    if weights.len() == 1 {
        return 0;
    }
    let total: u32 = weights.iter().sum();
    let mut left = dice.below(total.into()) as u32;
    weights
        .iter()
        .position(|&weight| {
            let chosen = left < weight;
            left = left.saturating_sub(weight);
            chosen
        })
        .expect("below the sum")
}

/// What thread `n` of `threads` gets of `total`.
pub fn share(total: u64, threads: u64, n: u64) -> u64 {
    total / threads + u64::from(n < total % threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_has_weights() {
        let mix: Mix = "get:9,set".parse().unwrap();
        assert_eq!(mix.ops, [("get", Op::Get, 9), ("set", Op::Set, 1)]);
        assert!("get:0".parse::<Mix>().is_err());
        assert!("put".parse::<Mix>().is_err());
    }

    #[test]
    fn operations_come_as_often_as_they_weigh() {
        let mut dice = Dice::new(1);
        let writes = (0..10_000).filter(|_| choose(&[9, 1], &mut dice) == 1).count();
        assert!((800..1_200).contains(&writes), "{writes}");
    }

    #[test]
    fn a_schedule_knows_what_it_has_not_sent() {
        let mut pace = Pace::new(1_000.0);
        pace.due = 5_000_000.0;
        assert_eq!(pace.behind(15_000_000), 10);
        assert_eq!(pace.behind(15_000_001), 11);
        assert_eq!(pace.behind(5_000_000), 0);
        assert_eq!(pace.behind(0), 0);
    }

    #[test]
    fn threads_share_everything() {
        assert_eq!((0..3).map(|n| share(10, 3, n)).collect::<Vec<_>>(), [4, 3, 3]);
    }
}
