//! Seeded conversations with a Java server and with ours: every reply and every event must be the same.
//!
//! `ZOOID_DIFF_SEED` and `ZOOID_DIFF_OPS` replay one. `ZOOID_DIFF_PAIR=java-java` proves the determinism of the
//! harness itself, and `java-java:3.8.4` that it finds differences.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use compat_tests::conversation::{self, Difference, Flavour, Script, Transcript};
use compat_tests::{Kind, Server, java};

const SEEDS: u64 = 10;
const OPERATIONS: usize = 5_000;

/// How long one difference may be shrunk.
const SHRINK: Duration = Duration::from_secs(120);

#[test]
fn both_servers_say_the_same() {
    let pair = pair();
    let seeds = match number("ZOOID_DIFF_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("ZOOID_DIFF_SEEDS").unwrap_or(SEEDS)).collect(),
    };
    let operations = number("ZOOID_DIFF_OPS").map_or(OPERATIONS, |n| n as usize);
    let mut failed = Vec::new();
    let mut coverage = BTreeMap::new();
    let mut events = 0;
    for seed in seeds {
        let began = Instant::now();
        let script = conversation::script(seed, operations);
        let (a, b) = converse(&pair, seed, &script);
        println!("seed {seed}: {} operations in {:?}", script.operations(), began.elapsed());
        match conversation::compare(&a, &b) {
            None => {
                a.coverage().into_iter().for_each(|(key, n)| *coverage.entry(key).or_insert(0) += n);
                events += a.events();
            }
            Some(difference) => {
                report(&pair, seed, operations, &script, &difference);
                failed.push(seed);
            }
        }
    }
    println!("{events} events; replies by operation and error: {coverage:?}");
    assert!(failed.is_empty(), "seeds with differences: {failed:?}");
}

/// Prints the smallest conversation found that shows the difference, and how to replay the seed.
fn report(pair: &(Kind, Kind), seed: u64, operations: usize, script: &Script, difference: &Difference) {
    println!("\nseed {seed} differs at step {} of {}: {}", difference.step, script.0.len(), difference.signature);
    println!("{}", difference.report);
    let shorter = Script(script.0[..(difference.step + 1).min(script.0.len())].to_vec());
    let patience = number("ZOOID_DIFF_SHRINK_SECS").map_or(SHRINK, Duration::from_secs);
    let smallest = conversation::shrink(&shorter, Instant::now() + patience, |candidate| {
        let (a, b) = converse(pair, seed, candidate);
        conversation::compare(&a, &b).is_some_and(|d| d.signature == difference.signature)
    });
    let (a, b) = converse(pair, seed, &smallest);
    println!(
        "--- the smallest conversation found ({} operations, {:?}):",
        smallest.operations(),
        Flavour::of_seed(seed)
    );
    for step in &smallest.0 {
        println!("{step}");
    }
    println!("--- as it went with {:?}:\n{}", a.kind, a.tell());
    println!("--- as it went with {:?}:\n{}", b.kind, b.tell());
    if let Some(difference) = conversation::compare(&a, &b) {
        println!("--- the difference:\n{}", difference.report);
    }
    let with = std::env::var("ZOOID_DIFF_PAIR").map_or(String::new(), |pair| format!("ZOOID_DIFF_PAIR={pair} "));
    println!(
        "--- replay: {with}ZOOID_DIFF_SEED={seed} ZOOID_DIFF_OPS={operations} \
         cargo test -p compat-tests --test differential -- --nocapture\n"
    );
}

/// Holds the conversation with both, at the same time and each fresh.
fn converse(pair: &(Kind, Kind), seed: u64, script: &Script) -> (Transcript, Transcript) {
    let setup = Flavour::of_seed(seed).setup();
    let hold = |kind: &Kind| conversation::run(&mut Server::start(kind.clone(), &setup), script);
    thread::scope(|scope| {
        let other = scope.spawn(|| hold(&pair.1));
        let one = hold(&pair.0);
        (one, other.join().expect("the other conversation panicked"))
    })
}

/// Two servers: `java`, `java:<version>` or `zooid`.
fn pair() -> (Kind, Kind) {
    let text = std::env::var("ZOOID_DIFF_PAIR").unwrap_or("java-zooid".into());
    let kind = |name: &str| match name.split_once(':').unwrap_or((name, java::VERSION)) {
        ("java", version) => Kind::Java(version.into()),
        ("zooid", _) => Kind::Zooid,
        _ => panic!("ZOOID_DIFF_PAIR={text}: expected two of java, java:<version>, zooid with a dash between"),
    };
    let (one, other) = text.split_once('-').unwrap_or((&text, ""));
    (kind(one), kind(other))
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text}: expected a number")))
}
