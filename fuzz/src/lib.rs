//! What each fuzz target does with its bytes. A target fails by a panic, by holding more memory than its
//! input accounts for, or by the time limit of scripts/fuzz.

mod config;
mod election;
mod frame;
mod log;
mod packets;
mod records;
mod snapshot;

#[path = "../../jute/tests/peak/mod.rs"]
mod peak;

pub use config::config;
pub use election::election;
pub use frame::frame;
pub use log::{log, mend_log};
pub use packets::{packets, stream};
pub use records::{data, persistence, proto, quorum, txn};
pub use snapshot::{mend_snapshot, snapshot};

/// Runs `work`, which may hold `limit` bytes: catches whoever takes a claimed length for memory.
fn bounded<T>(limit: usize, work: impl FnOnce() -> T) -> T {
    let (result, peak) = peak::peak_of(work);
    assert!(peak <= limit, "{peak} bytes held, at most {limit} were expected");
    result
}

/// What the views into `input` may take: strings of 4 bytes become views of 32, in a vector that doubles.
fn of_views(input: &[u8]) -> usize {
    1024 + 32 * input.len()
}
