//! The only reader of clocks.
//!
//! Deadlines run on a clock that does not count the time during which the process was stopped: what clients
//! sent meanwhile waits in the sockets, and must be read before anyone is declared dead. (`CLOCK_MONOTONIC`
//! already leaves out the time that a suspended machine sleeps.)

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::node::input::Now;
use crate::session::Mono;

#[derive(Debug)]
pub struct Clock {
    start: Instant,
    /// Milliseconds during which the process stood still.
    paused_ms: AtomicI64,
}

impl Clock {
    pub fn new() -> Self {
        Self { start: Instant::now(), paused_ms: AtomicI64::new(0) }
    }

    /// Milliseconds since the start that the process was running.
    pub fn mono(&self) -> Mono {
        self.start.elapsed().as_millis() as i64 - self.paused_ms.load(Ordering::Relaxed)
    }

    pub fn now(&self) -> Now {
        Now { mono: self.mono(), wall_ms: wall_ms() }
    }

    /// A wait that should have taken `asked` at most took `took`: what is much more was a pause.
    pub fn on_waited(&self, asked: Duration, took: Duration) -> Option<Duration> {
        const SLACK: Duration = Duration::from_millis(500);
        let excess = took.saturating_sub(asked);
        if excess < SLACK {
            return None;
        }
        self.paused_ms.fetch_add(excess.as_millis() as i64, Ordering::Relaxed);
        Some(excess)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Milliseconds since 1970, for ctime and mtime and for session ids.
pub fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}
