//! The clocks of a server: one for deadlines, which runs a little fast or slow and stands still while the
//! process does, and one for the wall, which is wrong by any amount and jumps.

/// Microseconds of the world's own time.
pub type Time = u64;

pub const MS: Time = 1000;
pub const SECOND: Time = 1_000_000;

#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Parts in a thousand: 1000 is exact.
    pub rate: u64,
    /// What the wall clock is wrong by, in milliseconds.
    pub wall_offset_ms: i64,
    /// Pauses of the process so far that its clock does not count.
    pub paused: Time,
    /// When the process started.
    pub started: Time,
}

/// The wall clock at the world's beginning: some day in 2026.
const EPOCH_MS: i64 = 1_790_000_000_000;

impl Clock {
    pub fn mono_ms(&self, now: Time) -> i64 {
        let running = now.saturating_sub(self.started).saturating_sub(self.paused);
        (running.saturating_mul(self.rate) / 1000 / MS) as i64
    }

    pub fn wall_ms(&self, now: Time) -> i64 {
        EPOCH_MS + self.wall_offset_ms + (now / MS) as i64
    }

    /// The first moment of the world at which the clock shows `mono_ms`.
    pub fn when(&self, mono_ms: i64) -> Time {
        let running = (mono_ms.max(0) as u64).saturating_mul(MS * 1000).div_ceil(self.rate);
        (self.started + self.paused).saturating_add(running)
    }
}
