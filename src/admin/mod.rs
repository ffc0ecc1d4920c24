//! What operators ask a running server.

#[cfg(test)]
mod checks;
pub mod environment;
pub mod four_letter;
pub mod java;
pub mod metrics;
mod questions;
pub mod text;

use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::Mutex;

use metrics::Totals;
use questions::Questions;

use crate::server::Shared;
use crate::stats::Measures;

/// What only operators see or set.
pub struct Admin {
    /// Shown by `gtmk`, set by `stmk`; 306 is what Java starts with.
    pub trace_mask: AtomicI64,
    /// Totals as they were at the last reset.
    pub totals_at_reset: Mutex<Totals>,
    /// What was measured before the last reset: a counter that Prometheus reads never goes back.
    pub before_reset: Mutex<Measures>,
    pub questions: Questions,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            trace_mask: AtomicI64::new(306),
            totals_at_reset: Mutex::default(),
            before_reset: Mutex::default(),
            questions: Questions::default(),
        }
    }
}

/// What was counted since the start.
fn totals(shared: &Shared) -> Totals {
    let node = *shared.node_stats.lock();
    let counters = &shared.counters;
    Totals {
        received: counters.received.load(Ordering::Relaxed),
        sent: counters.sent.load(Ordering::Relaxed),
        bytes_received: counters.bytes_received.load(Ordering::Relaxed),
        expired: node.expired,
        digest_mismatches: node.digest_mismatches,
        changes_queued: node.changes_queued,
        changes_removed: node.changes_removed,
    }
}

/// The word `srst`: everything that is counted starts from zero.
fn reset(shared: &Shared) {
    let measured = std::mem::take(&mut *shared.counters.measures.lock());
    shared.admin.before_reset.lock().merge(&measured);
    *shared.admin.totals_at_reset.lock() = totals(shared);
}
