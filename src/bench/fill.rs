//! Many znodes, fast: the data that loads work on, and by itself the measure of bulk creation.

use std::io;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

use super::Target;
use super::host::{self, Usage};
use super::load::{fill_value, noise, share};
use super::names::Names;
use super::plain::{NO_NODE, NODE_EXISTS, Plain};
use super::pool::{Client, Pool};
use super::report::{Errors, Progress, Report};
use super::wire::{self, Reply, Template};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    names: Names,
    /// Connections, each with a session
    #[arg(long, short, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..))]
    connections: u64,
    /// Requests in flight per connection
    #[arg(long, short, default_value_t = IN_FLIGHT, value_parser = clap::value_parser!(u64).range(1..))]
    in_flight: u64,
    /// Look at the server's memory this long after the last create
    #[arg(long, default_value = "0s", value_parser = super::duration)]
    settle: Duration,
}

const CONNECTIONS: u64 = 8;
const IN_FLIGHT: u64 = 64;

pub fn run(args: Args) -> anyhow::Result<()> {
    let before = Usage::of(&args.target.pid);
    let filled = fill(&args.target, &args.names, args.connections, args.in_flight)?;
    let after = Usage::of(&args.target.pid);
    std::thread::sleep(args.settle);

    let seconds = filled.took.as_secs_f64();
    let ops = filled.created as f64;
    let mut report = Report::new("fill");
    report.given("keys", args.names.keys);
    report.given("parents", args.names.parents);
    report.given("value_size", args.names.value_size);
    report.number("seconds", seconds, "s");
    report.number("created", ops, "znodes");
    report.number("throughput", ops / seconds, "op/s");
    report.errors(&filled.errors, 0);
    report.server(&args.target.pid, before, after, seconds, ops);
    if !args.target.pid.is_empty() {
        let settled = Usage::of(&args.target.pid);
        report.number("settled_resident_mb", settled.resident_bytes as f64 / 1e6, "MB");
    }
    report.own(filled.cpu_seconds, seconds, ops);
    report.print(args.target.json);
    Ok(())
}

/// Creates the znodes of a run unless an earlier one has.
pub fn if_missing(target: &Target, names: &Names) -> anyhow::Result<()> {
    let server = target.addresses()?[0];
    let mut plain = Plain::open(server, Duration::from_secs(10))?;
    let answer = plain.ask(&wire::get(1, &names.root, false))?;
    plain.close();
    let there = match answer {
        // A buffer: its length, the seal; then comes the stat.
        Ok(body) => body.get(4..).is_some_and(|data| data.starts_with(names.seal().as_bytes())),
        Err(NO_NODE) => false,
        Err(code) => bail!("{} cannot be read: error {code}", names.root),
    };
    if !there {
        fill(target, names, CONNECTIONS, IN_FLIGHT)?;
    }
    Ok(())
}

struct Filled {
    created: u64,
    errors: Errors,
    took: Duration,
    cpu_seconds: f64,
}

fn fill(target: &Target, names: &Names, connections: u64, in_flight: u64) -> anyhow::Result<Filled> {
    let servers = target.addresses()?;
    let mut plain = Plain::open(servers[0], Duration::from_secs(10))?;
    ensure_created(plain.ask(&wire::create(1, &names.root, b""))?)?;
    plain.close();

    let start = Instant::now();
    let mut pool = Pool::new(servers.clone(), target.session_timeout_ms(), start)?;
    let progress = Progress::new(target.quiet);
    let parent = |n, xid, out: &mut Vec<u8>| out.extend(wire::create(xid, &names.parent(n), b""));
    run_stage(&mut pool, connections, Stage::new(names.parents, in_flight, connections, parent), &progress)?;

    let (began, cpu) = (Instant::now(), host::thread_cpu_seconds());
    let template = Template::create_key(names);
    let noise = noise(names.value_size);
    let key = |n: u64, xid, out: &mut Vec<u8>| {
        let at = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        template.append(out, xid, || (n % names.parents, n), |value| fill_value(&noise, at, value));
    };
    let stage = run_stage(&mut pool, connections, Stage::new(names.keys, in_flight, connections, key), &progress)?;
    let (took, cpu) = (began.elapsed(), host::thread_cpu_seconds() - cpu);
    progress.done();
    pool.close()?;

    let seal = names.seal();
    let mut plain = Plain::open(servers[0], Duration::from_secs(10))?;
    if let Err(code) = plain.ask(&wire::set(2, &names.root, seal.as_bytes()))? {
        bail!("{} cannot be written: error {code}", names.root);
    }
    plain.close();
    Ok(Filled { created: stage.0, errors: stage.1, took, cpu_seconds: cpu })
}

fn ensure_created(answer: Result<Vec<u8>, i32>) -> anyhow::Result<()> {
    match answer {
        Ok(_) | Err(NODE_EXISTS) => Ok(()),
        Err(code) => bail!("cannot create: error {code}"),
    }
}

/// Sends requests 0 to `total`, so many in flight per connection, and waits for all replies.
fn run_stage<F: FnMut(u64, i32, &mut Vec<u8>)>(
    pool: &mut Pool,
    connections: u64,
    mut stage: Stage<F>,
    progress: &Progress,
) -> anyhow::Result<(u64, Errors)> {
    if pool.len() == 0 {
        for _ in 0..connections {
            pool.open()?;
        }
    } else {
        for conn in 0..connections as usize {
            stage.begin(conn, pool.out(conn));
            pool.flush(conn, &mut stage);
        }
    }
    let mut shown = (pool.now(), 0);
    while stage.answered < stage.total {
        pool.turn(Duration::from_millis(100), &mut stage)?;
        ensure!(stage.lost == 0, "the server closed a connection");
        let now = pool.now();
        if now - shown.0 > 1_000_000_000 {
            let rate = (stage.answered - shown.1) as f64 * 1e9 / (now - shown.0) as f64;
            let rest = format!("{} of {}", stage.answered, stage.total);
            progress.rate(Duration::from_nanos(now), rate, &rest);
            shown = (now, stage.answered);
        }
    }
    Ok((stage.created, stage.errors))
}

struct Stage<F> {
    total: u64,
    next: u64,
    answered: u64,
    created: u64,
    errors: Errors,
    lost: u64,
    in_flight: u64,
    connections: u64,
    request: F,
}

impl<F: FnMut(u64, i32, &mut Vec<u8>)> Stage<F> {
    fn new(total: u64, in_flight: u64, connections: u64, request: F) -> Self {
        let errors = Errors::new();
        Self { total, next: 0, answered: 0, created: 0, errors, lost: 0, in_flight, connections, request }
    }

    fn begin(&mut self, conn: usize, out: &mut Vec<u8>) {
        // When there is little to do, every connection does a part of it.
        let mine = share(self.total, self.connections, conn as u64).min(self.in_flight);
        (0..mine).for_each(|_| self.issue(out));
    }

    fn issue(&mut self, out: &mut Vec<u8>) {
        if self.next < self.total {
            (self.request)(self.next, (self.next & 0x3fff_ffff) as i32 + 1, out);
            self.next += 1;
        }
    }
}

impl<F: FnMut(u64, i32, &mut Vec<u8>)> Client for Stage<F> {
    fn on_session(&mut self, conn: usize, _: u64, out: &mut Vec<u8>) {
        self.begin(conn, out);
    }

    fn on_frame(&mut self, _: usize, _: u64, frame: &[u8], out: &mut Vec<u8>) {
        let Some(reply) = Reply::of(frame).filter(|reply| !reply.is_event()) else { return };
        self.answered += 1;
        match reply.err {
            0 => self.created += 1,
            // An earlier run was here.
            NODE_EXISTS => (),
            code => *self.errors.entry(code).or_default() += 1,
        }
        self.issue(out);
    }

    fn on_lost(&mut self, _: usize, _: io::Error) {
        self.lost += 1;
    }
}
