//! One znode, many watchers: from the set to the last event. The reading of the events is part of it, about as many
//! system calls here as the server makes.

use std::io;
use std::time::{Duration, Instant};

use anyhow::ensure;
use hdrhistogram::Histogram;

use super::Target;

use super::host::{self, Usage};
use super::plain::{NODE_EXISTS, Plain};
use super::pool::{Client, Pool};
use super::report::{Errors, Progress, Report, histogram};
use super::wire::{self, Reply};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Sessions with a watch
    #[arg(long, short = 'n', default_value_t = 1_000)]
    sessions: usize,
    /// How often the znode changes
    #[arg(long, default_value_t = 50)]
    rounds: u64,
    /// The znode
    #[arg(long, default_value = "/bench-watch")]
    path: String,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let servers = args.target.addresses()?;
    let mut plain = Plain::open(servers[0], Duration::from_secs(10))?;
    let answer = plain.ask(&wire::create(1, &args.path, b""))?;
    ensure!(answer.is_ok() || answer == Err(NODE_EXISTS), "cannot create {}: {answer:?}", args.path);
    plain.close();

    let start = Instant::now();
    let mut pool = Pool::new(servers, args.target.session_timeout_ms(), start)?;
    let writer = args.sessions;
    let mut watchers = Watchers::new(writer);
    for opened in 0..=args.sessions {
        pool.open()?;
        // No more at once than a server's backlog takes.
        while opened + 1 - watchers.open > 32 || (opened == writer && watchers.open <= writer) {
            pool.turn(Duration::from_millis(100), &mut watchers)?;
            ensure!(watchers.lost == 0, "the server refused a connection");
        }
    }

    let progress = Progress::new(args.target.quiet);
    let arm = wire::get(1, &args.path, true);
    let set = wire::set(2, &args.path, b"changed");
    let mut before = Default::default();
    let (mut last, mut setter) = (histogram(), histogram());
    // Two rounds to warm up; they count for nothing.
    for round in 0..args.rounds + 2 {
        if round == 2 {
            watchers.event = histogram();
            before = (Usage::of(&args.target.pid), host::thread_cpu_seconds(), pool.now());
        }
        (watchers.armed, watchers.events, watchers.written) = (0, 0, None);
        for conn in 0..args.sessions {
            pool.send(conn, &arm, &mut watchers);
        }
        pool.turn_until(&mut watchers, |it| it.armed == args.sessions)?;
        watchers.changed = pool.now();
        pool.send(writer, &set, &mut watchers);
        pool.turn_until(&mut watchers, |it| it.events == args.sessions && it.written.is_some())?;
        if round >= 2 {
            last.saturating_record(watchers.last - watchers.changed);
            setter.saturating_record(watchers.written.expect("just waited for") - watchers.changed);
        }
        progress.show(start.elapsed(), &format!("round {round}"));
    }
    progress.done();
    let (usage, own, from) = before;
    let (after, own) = (Usage::of(&args.target.pid), host::thread_cpu_seconds() - own);
    let seconds = (pool.now() - from) as f64 / 1e9;
    pool.close()?;

    let mut report = Report::new("watch");
    report.given("sessions", args.sessions);
    report.given("rounds", args.rounds);
    report.latency("last_event", &last);
    report.latency("each_event", &watchers.event);
    report.latency("set", &setter);
    report.errors(&Errors::new(), watchers.lost);
    // Each event also took a get to arm its watch.
    let events = watchers.event.len() as f64;
    report.server(&args.target.pid, usage, after, seconds, events);
    report.own(own, seconds, events);
    report.print(args.target.json);
    Ok(())
}

struct Watchers {
    writer: usize,
    open: usize,
    lost: u64,
    armed: usize,
    events: usize,
    /// When the set was sent, and when the last event came.
    changed: u64,
    last: u64,
    written: Option<u64>,
    event: Histogram<u64>,
}

impl Watchers {
    fn new(writer: usize) -> Self {
        let event = histogram();
        Self { writer, open: 0, lost: 0, armed: 0, events: 0, changed: 0, last: 0, written: None, event }
    }
}

impl Client for Watchers {
    fn on_session(&mut self, _: usize, _: u64, _: &mut Vec<u8>) {
        self.open += 1;
    }

    fn on_frame(&mut self, conn: usize, now: u64, frame: &[u8], _: &mut Vec<u8>) {
        let Some(reply) = Reply::of(frame) else { return };
        if reply.is_event() {
            self.events += 1;
            self.last = now;
            self.event.saturating_record(now - self.changed);
        } else if conn == self.writer {
            self.written = Some(now);
        } else {
            self.armed += 1;
        }
    }

    fn on_lost(&mut self, _: usize, _: io::Error) {
        self.lost += 1;
    }
}
