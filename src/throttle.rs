//! What a server refuses so that it can serve the rest: new connections faster than it can take them, and
//! large requests that together would fill its memory.
//!
//! Both are off unless they are configured, and both refuse by closing the connection. How many requests are
//! in process at once is limited where they wait: `net::line`.
//!
//! Java: `BlueThrottle`, and the large requests of `ZooKeeperServer`; data-model 11.2, 11.4.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::{ConnectionThrottle, LargeRequests};
use crate::session::Mono;

/// What a ConnectRequest asks for; it decides what it costs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Asks {
    GlobalSession,
    LocalSession,
    /// A session that exists, or existed.
    Renewal,
}

/// Tokens for new connections. They come back at a fixed rate up to a limit, and a connection costs one or
/// its weight: so a burst passes, and a storm is cut to the rate.
///
/// A bucket alone lets in whoever comes right after a token does, and starves those that always come later.
/// So it may also refuse at random, before it looks for tokens, with a probability that grows while it is
/// found empty and shrinks while it is nearly full (BLUE: A New Class of Active Queue Management Algorithms).
#[derive(Debug)]
pub struct TokenBucket {
    rules: ConnectionThrottle,
    max: i64,
    fill_count: i64,
    tokens: i64,
    filled: Mono,
    /// When the probability was last looked at.
    adapted: Mono,
    drop_probability: f64,
    random: Random,
}

impl TokenBucket {
    /// `None` if connections are not throttled.
    pub fn new(rules: ConnectionThrottle, now: Mono, seed: u64) -> Option<Self> {
        // What is configured is meant in global sessions.
        let unit = if rules.weight_enabled { i64::from(rules.global_session_weight) } else { 1 };
        let max = i64::from(rules.tokens?) * unit;
        Some(Self {
            max,
            fill_count: i64::from(rules.fill_count) * unit,
            tokens: max,
            filled: now,
            adapted: now,
            drop_probability: 0.0,
            random: Random(seed),
            rules,
        })
    }

    /// Whether a connection that asks for this may stay; if so, it has paid.
    pub fn admits(&mut self, now: Mono, asks: Asks) -> bool {
        self.fill(now);
        if self.rules.freeze_time_ms >= 0 {
            self.adapt(now);
            if self.random.unit() < self.drop_probability {
                return false;
            }
        }
        let cost = self.cost(asks);
        if self.tokens < cost {
            return false;
        }
        self.tokens -= cost;
        true
    }

    fn fill(&mut self, now: Mono) {
        let fill_time = i64::from(self.rules.fill_time_ms);
        let since = now - self.filled;
        if since > fill_time {
            let fill = since.saturating_mul(self.fill_count) / fill_time.max(1);
            self.tokens = self.tokens.saturating_add(fill).min(self.max);
            self.filled = now;
        }
    }

    fn adapt(&mut self, now: Mono) {
        if now - self.adapted <= i64::from(self.rules.freeze_time_ms) {
            return;
        }
        self.adapted = now;
        let nearly_full = (self.max as f64 * self.rules.decrease_ratio).round() as i64;
        if self.tokens == 0 && self.drop_probability < 1.0 {
            self.drop_probability = (self.drop_probability + self.rules.drop_increase).min(1.0);
        } else if self.deficit() <= nearly_full && self.drop_probability > 0.0 {
            self.drop_probability = (self.drop_probability - self.rules.drop_decrease).max(0.0);
        }
    }

    fn cost(&self, asks: Asks) -> i64 {
        let rules = &self.rules;
        if !rules.weight_enabled {
            return 1;
        }
        i64::from(match asks {
            Asks::GlobalSession => rules.global_session_weight,
            Asks::LocalSession => rules.local_session_weight,
            Asks::Renewal => rules.renew_session_weight,
        })
    }

    /// Tokens that are out.
    pub fn deficit(&self) -> i64 {
        self.max - self.tokens
    }

    pub fn drop_probability(&self) -> f64 {
        self.drop_probability
    }
}

/// SplitMix64.
#[derive(Debug)]
struct Random(u64);

impl Random {
    /// From 0 on, below 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The memory of large requests that have no reply yet. Connections count in it from their own tasks, so it
/// is a number that they add to and take from.
#[derive(Clone, Debug)]
pub struct LargeAccount {
    max_bytes: u64,
    threshold_bytes: u32,
    held_bytes: Arc<AtomicU64>,
}

/// There is no room for another large request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoRoom;

/// The place of a large request; given back when it is dropped.
#[derive(Debug)]
pub struct Held {
    bytes: u32,
    held_bytes: Arc<AtomicU64>,
}

impl LargeAccount {
    /// `None` if large requests are not told from others.
    pub fn new(rules: LargeRequests) -> Option<Self> {
        let LargeRequests { max_bytes, threshold_bytes } = rules;
        Some(Self { max_bytes: max_bytes.into(), threshold_bytes: threshold_bytes?, held_bytes: Arc::default() })
    }

    /// Whether a request of so many bytes could be held now. It takes nothing: a length alone, which anyone
    /// can send, must not keep others out.
    pub fn has_room(&self, bytes: u32) -> Result<(), NoRoom> {
        let held = self.held_bytes.load(Ordering::Relaxed);
        if bytes <= self.threshold_bytes || held + u64::from(bytes) <= self.max_bytes { Ok(()) } else { Err(NoRoom) }
    }

    /// Takes the place of a request that has arrived; `None` if it is not large.
    pub fn hold(&self, bytes: u32) -> Result<Option<Held>, NoRoom> {
        if bytes <= self.threshold_bytes {
            return Ok(None);
        }
        let held = Held { bytes, held_bytes: self.held_bytes.clone() };
        let before = self.held_bytes.fetch_add(bytes.into(), Ordering::Relaxed);
        if before + u64::from(bytes) <= self.max_bytes { Ok(Some(held)) } else { Err(NoRoom) }
    }
}

/// The places of one request in both accounts.
#[derive(Debug)]
pub struct Holds(#[expect(dead_code, reason = "given back with it")] [Option<Held>; 2]);

impl Holds {
    pub fn of(large: Option<Held>, under_way: Option<Held>) -> Option<Box<Self>> {
        (large.is_some() || under_way.is_some()).then(|| Box::new(Self([large, under_way])))
    }
}

/// The bytes of what is under way, small requests apart, whose number is bounded. Beyond its bound nothing is refused, but
/// who has something under way is not read: each request is several times in memory, here and with each member.
#[derive(Clone, Debug)]
pub struct UnderWay {
    most: u64,
    held_bytes: Arc<AtomicU64>,
}

impl UnderWay {
    const SMALL: u32 = 4 << 10;
    /// All members' together may not be more than a link to one of them takes (`LinkRules::USUAL_QUEUED`).
    const OF_ALL: u64 = 64 << 20;
    const LEAST: u64 = 4 << 20;

    pub fn new(members: usize) -> Self {
        let most = (Self::OF_ALL / members.max(1) as u64).max(Self::LEAST);
        Self { most, held_bytes: Arc::default() }
    }

    pub fn hold(&self, bytes: u32) -> Option<Held> {
        if bytes <= Self::SMALL {
            return None;
        }
        self.held_bytes.fetch_add(bytes.into(), Ordering::Relaxed);
        Some(Held { bytes, held_bytes: self.held_bytes.clone() })
    }

    pub fn is_full(&self) -> bool {
        self.held_bytes.load(Ordering::Relaxed) >= self.most
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.held_bytes.fetch_sub(self.bytes.into(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: ConnectionThrottle = ConnectionThrottle {
        tokens: Some(3),
        fill_time_ms: 10,
        fill_count: 1,
        freeze_time_ms: -1,
        drop_increase: 0.25,
        drop_decrease: 0.125,
        decrease_ratio: 0.0,
        weight_enabled: false,
        global_session_weight: 3,
        local_session_weight: 1,
        renew_session_weight: 2,
    };

    fn bucket(rules: ConnectionThrottle) -> TokenBucket {
        TokenBucket::new(rules, 0, 1).expect("it has tokens")
    }

    /// How many of so many connections that come at once may stay.
    fn admitted(bucket: &mut TokenBucket, now: Mono, of: usize) -> usize {
        (0..of).filter(|_| bucket.admits(now, Asks::GlobalSession)).count()
    }

    #[test]
    fn a_burst_passes_and_a_storm_is_cut_to_the_rate() {
        let mut bucket = bucket(RULES);
        assert_eq!(admitted(&mut bucket, 0, 5), 3);
        assert_eq!(bucket.deficit(), 3);
        assert_eq!(admitted(&mut bucket, 10, 5), 0, "the fill time must have passed");
        assert_eq!(admitted(&mut bucket, 11, 5), 1);
        assert_eq!(admitted(&mut bucket, 40, 5), 2);
        assert_eq!(admitted(&mut bucket, 1_000_000, 5), 3, "never more than the limit");
    }

    #[test]
    fn without_tokens_there_is_no_throttle() {
        assert!(TokenBucket::new(ConnectionThrottle { tokens: None, ..RULES }, 0, 1).is_none());
    }

    #[test]
    fn what_is_under_way_is_full_until_it_is_answered() {
        let three = UnderWay::new(3);
        assert!(three.hold(UnderWay::SMALL).is_none());
        let most = UnderWay::OF_ALL / 3;
        let mut held: Vec<_> = (0..=most / 1_000_000).map(|_| Holds::of(None, three.hold(1_000_000))).collect();
        assert!(three.is_full());
        held.pop();
        assert!(!three.is_full());
        drop(held);
        assert_eq!(three.held_bytes.load(Ordering::Relaxed), 0);
        assert_eq!(UnderWay::new(0).most, UnderWay::OF_ALL);
        assert_eq!(UnderWay::new(1000).most, UnderWay::LEAST);
    }

    #[test]
    fn a_connection_costs_its_weight() {
        let mut bucket = bucket(ConnectionThrottle { weight_enabled: true, ..RULES });
        assert!(bucket.admits(0, Asks::GlobalSession));
        assert_eq!(bucket.deficit(), 3);
        assert!(
            bucket.admits(0, Asks::Renewal) && bucket.admits(0, Asks::Renewal) && bucket.admits(0, Asks::LocalSession)
        );
        assert_eq!(bucket.deficit(), 8);
        assert!(!bucket.admits(0, Asks::Renewal), "two, and one is left");
        assert!(bucket.admits(0, Asks::LocalSession) && !bucket.admits(0, Asks::LocalSession));
        assert!(bucket.admits(11, Asks::GlobalSession), "what is filled in counts in global sessions as well");
        assert_eq!(bucket.deficit(), 9);
    }

    #[test]
    fn an_empty_bucket_makes_refusals_likelier_and_a_full_one_less_likely() {
        let rules = ConnectionThrottle { freeze_time_ms: 5, fill_time_ms: 1000, ..RULES };
        let mut bucket = bucket(rules);
        assert_eq!(admitted(&mut bucket, 0, 3), 3);
        let mut seen = Vec::new();
        for now in [5, 6, 11, 12, 18, 24, 30] {
            assert!(!bucket.admits(now, Asks::GlobalSession));
            seen.push(bucket.drop_probability());
        }
        assert_eq!(seen, [0.0, 0.25, 0.25, 0.5, 0.75, 1.0, 1.0]);
        // Full again.
        bucket.admits(4000, Asks::GlobalSession);
        assert_eq!(bucket.drop_probability(), 0.875);
    }

    #[test]
    fn refusals_come_as_often_as_the_probability_says() {
        let mut bucket = bucket(ConnectionThrottle { tokens: Some(1_000_000), freeze_time_ms: 1000, ..RULES });
        bucket.drop_probability = 0.25;
        let stay = admitted(&mut bucket, 0, 10_000);
        assert!((7300..7700).contains(&stay), "{stay} of 10000");
    }

    #[test]
    fn large_requests_share_their_room() {
        let rules = LargeRequests { max_bytes: 5000, threshold_bytes: Some(1000) };
        let account = LargeAccount::new(rules).unwrap();
        assert_eq!(account.has_room(5001), Err(NoRoom));
        assert!(account.hold(1000).unwrap().is_none(), "not above the threshold");
        let first = account.hold(3000).unwrap().unwrap();
        assert_eq!(account.has_room(2001), Err(NoRoom));
        assert_eq!(account.has_room(2000), Ok(()));
        assert_eq!(account.hold(2001).unwrap_err(), NoRoom);
        let second = account.hold(2000).unwrap().unwrap();
        assert!(account.has_room(1001).is_err() && account.has_room(1000).is_ok());
        drop(first);
        assert_eq!(account.has_room(3000), Ok(()));
        drop(second);
        assert_eq!(account.held_bytes.load(Ordering::Relaxed), 0);
        assert!(LargeAccount::new(LargeRequests { threshold_bytes: None, ..rules }).is_none());
    }
}
