//! Randomness by name: each part of the world draws from a stream of its own, so that one draw more in one
//! part changes nothing in the others.

pub use crate::support::sim::Random;

/// The stream of that name under a seed.
pub fn stream(seed: u64, name: &str) -> Random {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ hash);
    random.next();
    random
}

/// What is drawn besides plain numbers.
pub trait Draw {
    /// True that often in a thousand.
    fn permille(&mut self, chance: u64) -> bool;
    /// One of `low..=high`.
    fn between(&mut self, low: u64, high: u64) -> u64;
    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T;
    /// Exponentially distributed, at most eight times the mean.
    fn around(&mut self, mean: u64) -> u64;
}

impl Draw for Random {
    fn permille(&mut self, chance: u64) -> bool {
        self.below(1000) < chance
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    fn around(&mut self, mean: u64) -> u64 {
        // By the leading zeros of a draw, with a linear part between powers of two: floats may differ.
        let draw = self.next();
        let halvings = u64::from(draw.leading_zeros()).min(10);
        let part = (draw << (halvings + 1).min(63)) >> 48;
        // ln 2 is about 45 / 65.
        ((halvings << 16) + 65_535 - part).wrapping_mul(mean) / 65_536 * 45 / 65
    }
}
