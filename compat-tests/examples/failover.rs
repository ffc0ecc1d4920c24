//! How long the death of a leader keeps clients from writing: for three Java servers and for three of ours, in
//! turns, on the same machine with the same configuration.
//!
//!     ZOOID_BIN=... cargo run --release -p compat-tests --example failover [KILLS]
//!
//! From kill -9 of the leader until another member has given a client a new session, which is a transaction that
//! a quorum has. The leader then comes back, and the next round begins when all are in step again.

use std::time::{Duration, Instant};

use compat_tests::Setup;
use compat_tests::ensemble::Ensemble;
use compat_tests::raw::{Client, Connect};

fn main() {
    let kills = std::env::args().nth(1).map_or(20, |kills| kills.parse().expect("KILLS is a number"));
    let mut times = [("Java", "JJJ", Vec::new()), ("zooid", "RRR", Vec::new())];
    const BLOCK: usize = 5;
    for begun in (0..kills).step_by(BLOCK) {
        for (name, letters, taken) in &mut times {
            let mut ensemble = Ensemble::of(letters, &Setup::ensemble());
            let sids = ensemble.sids();
            ensemble.start_each(&sids);
            for _ in 0..BLOCK.min(kills - begun) {
                let leader = ensemble.wait_joined();
                taken.push(fail_over(&mut ensemble, leader));
                println!("{name}: {} ms", taken.last().expect("just pushed").as_millis());
                ensemble.start(leader);
            }
            ensemble.stop_all();
        }
    }
    println!("\n| servers | kills | median ms | worst ms |\n|---|---|---|---|");
    for (name, _, mut taken) in times {
        taken.sort_unstable();
        let (median, worst) = (taken[taken.len() / 2], taken[taken.len() - 1]);
        println!("| {name} | {} | {} | {} |", taken.len(), median.as_millis(), worst.as_millis());
    }
}

/// Kills the leader, and waits until a survivor begins a session.
fn fail_over(ensemble: &mut Ensemble, leader: i64) -> Duration {
    ensemble.kill(leader);
    let killed = Instant::now();
    let survivors = ensemble.running();
    loop {
        for sid in &survivors {
            if let Ok(client) = Client::try_connect_as(ensemble.server(*sid), &Connect::default()) {
                let taken = killed.elapsed();
                drop(client);
                return taken;
            }
        }
        assert!(killed.elapsed() < Duration::from_secs(60), "no leader for a minute:\n{}", ensemble.logs());
    }
}
