//! Sessions that do nothing: how fast a server opens them, and what each costs it.

use std::io;
use std::time::{Duration, Instant};

use anyhow::ensure;
use hdrhistogram::Histogram;

use super::host::{self, Usage};
use super::pool::{Client, Pool};
use super::report::{Errors, Progress, Report, histogram};
use super::{Target, duration, wire};

#[derive(clap::Args, Debug)]
pub struct ConnectArgs {
    #[command(flatten)]
    target: Target,
    /// Sessions to open; they stay open until the last is there
    #[arg(long, short = 'n', default_value_t = 5_000)]
    sessions: usize,
    /// So many at a time
    #[arg(long, short, default_value_t = 32)]
    at_once: usize,
}

#[derive(clap::Args, Debug)]
pub struct IdleArgs {
    #[command(flatten)]
    target: Target,
    /// Sessions to hold
    #[arg(long, short = 'n', default_value_t = 10_000)]
    sessions: usize,
    /// So many are opened at a time
    #[arg(long, short, default_value_t = 32)]
    at_once: usize,
    /// How long; pings go out as a client would send them
    #[arg(long, short, default_value = "10s", value_parser = duration)]
    time: Duration,
}

pub fn connect(args: ConnectArgs) -> anyhow::Result<()> {
    let before = Usage::of(&args.target.pid);
    let opened = open_all(&args.target, args.sessions, args.at_once)?;
    let after = Usage::of(&args.target.pid);
    let mut report = Report::new("connect");
    let (seconds, ops) = (opened.took.as_secs_f64(), args.sessions as f64);
    report.given("sessions", args.sessions);
    report.given("at_once", args.at_once);
    report.number("seconds", seconds, "s");
    report.number("throughput", ops / seconds, "sessions/s");
    report.latency("latency", &opened.crowd.latency);
    report.errors(&Errors::new(), opened.crowd.lost);
    report.server(&args.target.pid, before, after, seconds, ops);
    report.own(opened.cpu_seconds, seconds, ops);
    opened.pool.close()?;
    report.print(args.target.json);
    Ok(())
}

pub fn idle(args: IdleArgs) -> anyhow::Result<()> {
    let before = Usage::of(&args.target.pid);
    let mut opened = open_all(&args.target, args.sessions, args.at_once)?;
    let at_first = Usage::of(&args.target.pid);
    let pings = hold(&mut opened, &args)?;
    let after = Usage::of(&args.target.pid);
    let mut report = Report::new("idle");
    report.given("sessions", args.sessions);
    report.number("opened_in_seconds", opened.took.as_secs_f64(), "s");
    report.number("pings", pings as f64, "sent");
    report.errors(&Errors::new(), opened.crowd.lost);
    if !args.target.pid.is_empty() {
        let seconds = args.time.as_secs_f64();
        report.number("server_resident_mb_before", before.resident_bytes as f64 / 1e6, "MB");
        report.number("server_resident_mb", after.resident_bytes as f64 / 1e6, "MB");
        let grown = after.resident_bytes.saturating_sub(before.resident_bytes);
        report.number("server_bytes_per_session", grown as f64 / args.sessions as f64, "B");
        report.number("server_cpu_share", (after.cpu_seconds - at_first.cpu_seconds) / seconds, "cores");
    }
    opened.pool.close()?;
    report.print(args.target.json);
    Ok(())
}

/// Sends each session's pings at a third of its timeout, spread evenly.
fn hold(opened: &mut Opened, args: &IdleArgs) -> anyhow::Result<u64> {
    let Opened { pool, crowd, .. } = opened;
    let progress = Progress::new(args.target.quiet);
    let ping = wire::ping();
    let period = args.target.session_timeout.as_nanos() as u64 / 3;
    let start = pool.now();
    let end = start + args.time.as_nanos() as u64;
    let mut sent = 0;
    let mut shown = start;
    while pool.now() < end {
        let due = u128::from(pool.now() - start) * args.sessions as u128 / u128::from(period.max(1));
        while u128::from(sent) < due {
            pool.send(sent as usize % args.sessions, &ping, crowd);
            sent += 1;
        }
        pool.turn(Duration::from_millis(10), crowd)?;
        if pool.now() - shown > 1_000_000_000 {
            shown = pool.now();
            progress.show(Duration::from_nanos(shown), &format!("{} sessions idle, {} lost", crowd.open, crowd.lost));
        }
    }
    progress.done();
    Ok(sent)
}

struct Opened {
    pool: Pool,
    crowd: Crowd,
    took: Duration,
    cpu_seconds: f64,
}

fn open_all(target: &Target, sessions: usize, at_once: usize) -> anyhow::Result<Opened> {
    let start = Instant::now();
    let cpu = host::thread_cpu_seconds();
    let mut pool = Pool::new(target.addresses()?, target.session_timeout_ms(), start)?;
    let mut crowd = Crowd { begun: vec![0; sessions], latency: histogram(), open: 0, lost: 0 };
    let progress = Progress::new(target.quiet);
    let mut shown = (0, 0);
    while crowd.open < sessions {
        while pool.len() < sessions.min(crowd.open + at_once) {
            crowd.begun[pool.len()] = pool.now();
            pool.open()?;
        }
        pool.turn(Duration::from_millis(100), &mut crowd)?;
        ensure!(crowd.lost == 0, "the server refused a connection after {} sessions", crowd.open);
        let now = pool.now();
        if now - shown.0 > 1_000_000_000 {
            let rate = (crowd.open - shown.1) as f64 * 1e9 / (now - shown.0) as f64;
            progress.rate(Duration::from_nanos(now), rate, &format!("{} of {sessions} sessions", crowd.open));
            shown = (now, crowd.open);
        }
    }
    progress.done();
    Ok(Opened { pool, crowd, took: start.elapsed(), cpu_seconds: host::thread_cpu_seconds() - cpu })
}

struct Crowd {
    /// When each connection was begun.
    begun: Vec<u64>,
    latency: Histogram<u64>,
    open: usize,
    lost: u64,
}

impl Client for Crowd {
    fn on_session(&mut self, conn: usize, now: u64, _: &mut Vec<u8>) {
        self.open += 1;
        self.latency.saturating_record(now - self.begun[conn]);
    }

    fn on_frame(&mut self, _: usize, _: u64, _: &[u8], _: &mut Vec<u8>) {}

    fn on_lost(&mut self, _: usize, _: io::Error) {
        self.lost += 1;
    }
}
