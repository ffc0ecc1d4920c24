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
use tracing::warn;

use metrics::Totals;
use questions::Questions;

use crate::node::Node;
use crate::prepare::{QuotaExceeded, QuotaOf, Strictness};
use crate::server::Shared;
use crate::session::Mono;
use crate::stats::{MAX_NAMESPACES, Measures};

/// What only operators see or set.
pub struct Admin {
    /// Shown by `gtmk`, set by `stmk`; 306 is what Java starts with.
    pub trace_mask: AtomicI64,
    /// Totals as they were at the last reset.
    pub totals_at_reset: Mutex<Totals>,
    /// What was measured before the last reset: a counter that Prometheus reads never goes back.
    pub before_reset: Mutex<Measures>,
    pub questions: Questions,
    /// When a quota was last said to be exceeded.
    quota_logged: AtomicI64,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            trace_mask: AtomicI64::new(306),
            totals_at_reset: Mutex::default(),
            before_reset: Mutex::default(),
            questions: Questions::default(),
            quota_logged: AtomicI64::new(Mono::MIN),
        }
    }
}

impl Admin {
    /// Counts a refusal, and says so, but not ten times within a tenth of a second (Java: `RateLogger`).
    pub fn on_quota_exceeded(&self, shared: &Shared, exceeded: &QuotaExceeded) {
        const SILENCE_MS: Mono = 100;
        if exceeded.strictness == Strictness::Hard {
            let namespace = exceeded.subject.split('/').nth(1).unwrap_or_default();
            let mut measures = shared.counters.measures.lock();
            let counts = &mut measures.quota_exceeded;
            if counts.len() < MAX_NAMESPACES || counts.contains_key(namespace) {
                *counts.entry(namespace.into()).or_default() += 1;
            }
        }
        let now = shared.clock.mono();
        if now.saturating_sub(self.quota_logged.load(Ordering::Relaxed)) >= SILENCE_MS {
            self.quota_logged.store(now, Ordering::Relaxed);
            warn!("{}", quota_text(exceeded));
        }
    }
}

fn quota_text(exceeded: &QuotaExceeded) -> String {
    let QuotaExceeded { subject, of, strictness, current, limit } = exceeded;
    let (current_name, limit_name) = match (of, strictness) {
        (QuotaOf::Count, Strictness::Soft) => ("count", "softCountLimit"),
        (QuotaOf::Count, Strictness::Hard) => ("count", "hardCountLimit"),
        (QuotaOf::Bytes, Strictness::Soft) => ("bytes", "softByteLimit"),
        (QuotaOf::Bytes, Strictness::Hard) => ("bytes", "hardByteLimit"),
    };
    format!("Quota exceeded: {subject} [current {current_name}={current}, {limit_name}={limit}]")
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
    // A Node that does not run any more counts nothing.
    shared.admin.questions.ask(shared, Node::reset_counts);
    *shared.admin.totals_at_reset.lock() = totals(shared);
}
