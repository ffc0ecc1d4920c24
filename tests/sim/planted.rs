//! The simulator against bugs that are there: each must be found, and by which invariant is kept in `planted.md`.
//!
//! `cargo test --release --no-default-features --features planted --test sim planted_table -- --ignored
//! --nocapture` looks for all of them anew and writes that file; the usual run begins at each bug's seed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;

use zooid::planted::{ALL, Bug, plant};

use crate::run;

/// How many seeds a bug may live through.
const PATIENCE: u64 = 20_000;
const FIRST: u64 = 5_000_000;
const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/planted.md");

/// What a bug was found by.
#[derive(Clone, Debug)]
struct Found {
    seed: u64,
    why: String,
}

fn run_with(bug: Bug, seed: u64) -> Option<String> {
    plant(Some(bug));
    let outcome = run(seed, false);
    plant(None);
    outcome.err().map(|failure| failure.why)
}

/// The name in brackets of the invariant that did not hold, or that it was an assertion of the product.
fn invariant(why: &str) -> String {
    match why.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, _)) => name.to_owned(),
        None => "an assertion of the server".to_owned(),
    }
}

fn look_for(bug: Bug) -> Option<Found> {
    (FIRST..FIRST + PATIENCE).find_map(|seed| run_with(bug, seed).map(|why| Found { seed, why }))
}

#[test]
#[ignore = "a tool: looks for every bug anew and writes the table"]
fn planted_table() {
    let (bugs, found) = (Mutex::new(ALL.iter()), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let next = bugs.lock().expect("no panic under the lock").next();
                    let Some(bug) = next else { return };
                    let result = look_for(*bug);
                    eprintln!("{bug:?}: {result:?}");
                    found.lock().expect("no panic under the lock").insert(*bug, result);
                }
            });
        }
    });
    let found = found.into_inner().expect("no panic under the lock");
    let mut table = String::from("| bug | seeds until found | seed | found by |\n|---|---|---|---|\n");
    for (bug, found) in &found {
        let line = match found {
            Some(Found { seed, why }) => {
                writeln!(table, "| {bug:?} | {} | {seed} | {} |", seed - FIRST + 1, invariant(why))
            }
            None => writeln!(table, "| {bug:?} | not in {PATIENCE} | | |"),
        };
        line.expect("a String takes it");
    }
    std::fs::write(TABLE, table).expect("the table is written");
}

/// Each bug on the seed of the table; another invariant may come first today.
#[test]
fn planted_bugs_are_found() {
    let lines = include_str!("planted.md").lines().skip(2);
    let mut left: Vec<String> = ALL.iter().map(|bug| format!("{bug:?}")).collect();
    for line in lines {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let bug = *ALL.iter().find(|bug| format!("{bug:?}") == cells[1]).expect("a bug's name");
        left.retain(|name| name != cells[1]);
        let seed: u64 = cells[3].parse().unwrap_or_else(|_| panic!("{bug:?} was never found"));
        // The seed may have become another story since: then one near it will do.
        let found = (seed..seed + 300).find_map(|seed| run_with(bug, seed));
        assert!(found.is_some(), "{bug:?} is not found in 300 seeds from {seed} on");
    }
    assert!(left.is_empty(), "{left:?} are not in the table: run planted_table");
}

/// The same seeds without any bug: what finds one there is the bug.
#[test]
fn the_seeds_of_planted_bugs_hold_without_them() {
    for line in include_str!("planted.md").lines().skip(2) {
        let seed: u64 = line.split('|').nth(3).expect("a cell").trim().parse().expect("a seed");
        if let Err(failure) = run(seed, false) {
            panic!("{failure}");
        }
    }
}
