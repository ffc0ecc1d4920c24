//! The product's own code, whole ensembles of it, in a simulated world: every seed another one, each of them
//! reproducible to the last event.
//!
//! `SIM_SEED=n` runs one seed and `SIM_LOG=1` tells its story; `SIM_SEEDS=n` says how many the test runs, from
//! `SIM_FIRST` on. `scripts/soak` runs them for as long as it is told.
//! Seeds that once failed stand in `seeds.txt` and run every time.

mod clock;
mod invariants;
mod net;
mod oracle;
#[cfg(feature = "planted")]
mod planted;
mod random;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod swarm;
mod workload;
mod world;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, Once};
use std::time::Instant;

use swarm::Swarm;
use world::{Report, World};

/// Why a seed failed.
#[derive(Clone, Debug)]
struct Failure {
    seed: u64,
    events: u64,
    why: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seed, events, why } = self;
        writeln!(f, "seed {seed}, event {events}, commit {}: {why}", commit())?;
        write!(
            f,
            "    SIM_SEED={seed} SIM_LOG=1 cargo test --release --no-default-features --test sim one_seed -- --ignored --nocapture"
        )
    }
}

/// Of `SIM_COMMIT`, or of the working tree.
fn commit() -> String {
    if let Ok(commit) = std::env::var("SIM_COMMIT") {
        return commit;
    }
    let git = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    git.ok().map_or_else(String::new, |out| String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Panics are results here: kept, and not printed. Those of other tests' threads are.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !RUNNING.with(|running| *running.borrow()) {
                return usual(info);
            }
            let payload = info.payload();
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without words");
            let place = info.location().map_or_else(String::new, |at| format!(" ({}:{})", at.file(), at.line()));
            LAST_PANIC.with(|last| *last.borrow_mut() = format!("{text}{place}"));
        }));
    });
}

thread_local! {
    static RUNNING: RefCell<bool> = const { RefCell::new(false) };
}

fn run(seed: u64, log: bool) -> Result<Report, Failure> {
    keep_panics();
    let mut world = World::new(Swarm::draw(seed), log);
    RUNNING.with(|running| *running.borrow_mut() = true);
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
    RUNNING.with(|running| *running.borrow_mut() = false);
    outcome.map_err(|_| Failure { seed, events: world.events(), why: LAST_PANIC.with(|last| last.borrow().clone()) })
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value}")))
}

/// Sums of many runs.
#[derive(Default)]
struct Sums {
    seeds: u64,
    total: Report,
    failures: Vec<Failure>,
}

impl Sums {
    fn add(&mut self, outcome: Result<Report, Failure>) {
        self.seeds += 1;
        match outcome {
            Err(failure) => {
                eprintln!("{failure}");
                self.failures.push(failure);
            }
            Ok(report) => {
                let total = &mut self.total;
                total.events += report.events;
                total.simulated += report.simulated;
                total.committed += report.committed;
                total.leaderships += report.leaderships;
                total.clients.answered += report.clients.answered;
                total.clients.writes += report.clients.writes;
                total.clients.events += report.clients.events;
                total.clients.connects += report.clients.connects;
                total.clients.expired += report.clients.expired;
                total.clients.unknown += report.clients.unknown;
                for (fault, count) in report.faults {
                    *total.faults.entry(fault).or_default() += count;
                }
            }
        }
    }
}

/// Runs seeds on all cores until there are no more, or `enough` says so.
fn run_many(seeds: impl Iterator<Item = u64> + Send, enough: impl Fn(&Sums) -> bool + Sync) -> Sums {
    let (seeds, sums) = (Mutex::new(seeds), Mutex::new(Sums::default()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let next = seeds.lock().expect("no panic under the lock").next();
                    let Some(seed) = next else { return };
                    let outcome = run(seed, false);
                    let mut sums = sums.lock().expect("no panic under the lock");
                    sums.add(outcome);
                    if enough(&sums) {
                        return;
                    }
                }
            });
        }
    });
    sums.into_inner().expect("no panic under the lock")
}

fn kept_seeds() -> Vec<u64> {
    let lines = include_str!("seeds.txt").lines();
    let numbers = lines.filter_map(|line| line.split('#').next()).map(str::trim).filter(|line| !line.is_empty());
    numbers.map(|number| number.parse().expect("a seed's number")).collect()
}

/// The seed that `SIM_SEED` names, told as a story if `SIM_LOG` is set.
#[test]
#[ignore = "a tool: replays one seed"]
fn one_seed() {
    let log = std::env::var("SIM_LOG").is_ok();
    let seed = from_environment("SIM_SEED").expect("SIM_SEED is the seed");
    if log {
        eprintln!("{:#?}", Swarm::draw(seed));
    }
    match run(seed, log) {
        Ok(report) => eprintln!("{report:#?}"),
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn seeds_hold() {
    let count = from_environment("SIM_SEEDS").unwrap_or(200);
    let first = from_environment("SIM_FIRST").unwrap_or(1_000_000);
    let began = Instant::now();
    let sums = run_many(first..first + count, |sums| sums.failures.len() >= 20);
    eprintln!("{} seeds in {:?}: {:?}", sums.seeds, began.elapsed(), sums.total);
    assert!(sums.failures.is_empty(), "{} of {} seeds failed", sums.failures.len(), sums.seeds);
    assert!(sums.total.committed as u64 > 10 * sums.seeds, "too little happens");
}

#[test]
fn seeds_that_failed_once_hold() {
    let sums = run_many(kept_seeds().into_iter(), |_| false);
    assert!(sums.failures.is_empty(), "{} seeds failed", sums.failures.len());
}

#[test]
fn equal_seeds_are_equal_runs() {
    for seed in 1..6 {
        let [once, again] = [run(seed, false), run(seed, false)];
        let what = |outcome: Result<Report, Failure>| {
            outcome.map(|report| (report.events, report.hash)).map_err(|f| (f.events, f.why))
        };
        assert_eq!(what(once), what(again), "seed {seed}");
    }
}

/// `scripts/soak`: seeds that nobody has run, for `SIM_SOAK` seconds, and a line for the table in `SIM_TABLE`.
#[test]
#[ignore = "a tool: runs for as long as it is told"]
fn soak() {
    let seconds = from_environment("SIM_SOAK").expect("SIM_SOAK is how many seconds");
    let first = from_environment("SIM_FIRST").expect("SIM_FIRST is the first seed");
    let began = Instant::now();
    let sums = run_many(first.., |_| began.elapsed().as_secs() >= seconds);
    let Sums { seeds, total, failures } = &sums;
    let days = total.simulated as f64 / clock::SECOND as f64 / 86_400.0;
    let faults: Vec<String> = total.faults.iter().map(|(fault, count)| format!("{fault:?} {count}")).collect();
    let failed: Vec<String> = failures.iter().map(|failure| failure.seed.to_string()).collect();
    let failed = if failed.is_empty() { "none".to_owned() } else { failed.join(" ") };
    let date = std::env::var("SIM_DATE").unwrap_or_default();
    let line = format!(
        "| {date} | {} | {first} | {seeds} | {} | {days:.1} | {} | {} | {} | {failed} |\n",
        commit(),
        total.events,
        total.committed,
        total.leaderships,
        faults.join(", "),
    );
    eprint!("{line}");
    if let Ok(table) = std::env::var("SIM_TABLE") {
        use std::io::Write;
        let file = std::fs::OpenOptions::new().append(true).create(true).open(&table);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the table can be written");
    }
    assert!(failures.is_empty(), "{} of {seeds} seeds failed", failures.len());
}
