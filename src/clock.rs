//! The only reader of clocks.
//!
//! Deadlines run on a clock that does not count the time during which the process was stopped: what clients
//! sent meanwhile waits in the sockets, and must be read before anyone is declared dead. (`CLOCK_MONOTONIC`
//! already leaves out the time that a suspended machine sleeps.)

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::admin::java::LocalTime;
use crate::node::input::Now;
use crate::session::Mono;

#[derive(Debug)]
pub struct Clock {
    start: Instant,
    /// Milliseconds during which the process stood still.
    paused_ms: AtomicI64,
    /// How often somebody looks at least, and how much later than he meant to he may be: longer is a pause. Both
    /// together are a tick at most, and no session lives for less than two.
    slack: Duration,
}

impl Clock {
    pub fn new(tick_ms: Mono) -> Self {
        let slack = Duration::from_millis((tick_ms / 2).clamp(50, 500) as u64);
        Self { start: Instant::now(), paused_ms: AtomicI64::new(0), slack }
    }

    /// After so long somebody must look again.
    pub fn longest_wait(&self) -> Duration {
        self.slack
    }

    /// Milliseconds since the start that the process was running.
    pub fn mono(&self) -> Mono {
        self.start.elapsed().as_millis() as i64 - self.paused_ms.load(Ordering::Relaxed)
    }

    pub fn now(&self) -> Now {
        Now { mono: self.mono(), wall_ms: wall_ms() }
    }

    /// Someone who looks at least every `asked` looks again after `since`: if that is much later, the process
    /// stood still, and none of it counts.
    pub fn on_looked(&self, asked: Duration, since: Duration) -> Option<Duration> {
        if since < asked + self.slack {
            return None;
        }
        self.paused_ms.fetch_add(since.as_millis() as i64, Ordering::Relaxed);
        Some(since)
    }
}

/// Milliseconds since 1970, for ctime and mtime and for session ids.
pub fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// A moment in the zone of this machine (`TZ`, `/etc/localtime`).
pub fn local_time(wall_ms: i64) -> LocalTime {
    let seconds: libc::time_t = wall_ms.div_euclid(1000);
    // SAFETY: all bytes zero is a valid `tm`: numbers, and a null pointer for the zone.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live locals, and `localtime_r` keeps neither.
    let converted = unsafe { libc::localtime_r(&seconds, &mut tm) };
    let zone = if converted.is_null() || tm.tm_zone.is_null() {
        "UTC".to_owned()
    } else {
        // SAFETY: after success the zone points to a string with an end that lives as long as the process.
        unsafe { std::ffi::CStr::from_ptr(tm.tm_zone) }.to_string_lossy().into_owned()
    };
    LocalTime {
        year: tm.tm_year + 1900,
        month: tm.tm_mon as usize,
        day: tm.tm_mday,
        weekday: tm.tm_wday as usize,
        hour: tm.tm_hour,
        minute: tm.tm_min,
        second: tm.tm_sec,
        zone,
    }
}
