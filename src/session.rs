//! Sessions that are alive, and when they cease to be.
//!
//! Deadlines are rounded up to the next tick, so that expiry looks at one bucket at a time and a session
//! lives for its timeout and at most one tick more. Java: `SessionTrackerImpl`, `ExpiryQueue`; data-model 7.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;

use crate::id::SessionId;

/// Milliseconds of a clock that only moves forward, and that stands still while the process is paused if it
/// can: no session expires because of a pause.
pub type Mono = i64;

#[derive(Debug)]
struct Tracked {
    timeout_ms: i32,
    deadline: Mono,
    closing: bool,
}

#[derive(Debug)]
pub struct SessionTable {
    tick_ms: i64,
    sessions: HashMap<SessionId, Tracked, foldhash::fast::FixedState>,
    buckets: BTreeMap<Mono, BTreeSet<SessionId>>,
}

/// What the table knows of a session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Liveness {
    Open,
    Closing,
    Unknown,
}

impl SessionTable {
    pub fn new(tick_ms: i64) -> Self {
        assert!(tick_ms > 0, "the tick is {tick_ms} ms");
        Self { tick_ms, sessions: HashMap::default(), buckets: BTreeMap::new() }
    }

    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    fn deadline(&self, now: Mono, timeout_ms: i32) -> Mono {
        ((now + i64::from(timeout_ms)) / self.tick_ms + 1) * self.tick_ms
    }

    /// `None` for an unknown session.
    pub fn timeout_ms(&self, session: SessionId) -> Option<i32> {
        self.sessions.get(&session).map(|tracked| tracked.timeout_ms)
    }

    /// Tracks a session from now on, with its whole timeout ahead.
    pub fn open(&mut self, session: SessionId, timeout_ms: i32, now: Mono) {
        self.remove(session);
        let deadline = self.deadline(now, timeout_ms);
        self.sessions.insert(session, Tracked { timeout_ms, deadline, closing: false });
        self.buckets.entry(deadline).or_default().insert(session);
    }

    /// Something was heard of the session at `at`. False if it is closing or unknown.
    pub fn touch(&mut self, session: SessionId, timeout_ms: i32, at: Mono) -> bool {
        let deadline = self.deadline(at, timeout_ms);
        let Some(tracked) = self.sessions.get_mut(&session).filter(|tracked| !tracked.closing) else { return false };
        tracked.timeout_ms = timeout_ms;
        // A report may be late, never a reason to expire earlier than was promised.
        if deadline > tracked.deadline {
            let before = std::mem::replace(&mut tracked.deadline, deadline);
            self.leave_bucket(before, session);
            self.buckets.entry(deadline).or_default().insert(session);
        }
        true
    }

    /// Something was heard of the session from somebody who does not know its timeout.
    pub fn hear(&mut self, session: SessionId, at: Mono) {
        if let Some(tracked) = self.sessions.get(&session) {
            let timeout_ms = tracked.timeout_ms;
            self.touch(session, timeout_ms, at);
        }
    }

    fn leave_bucket(&mut self, deadline: Mono, session: SessionId) {
        if let Some(bucket) = self.buckets.get_mut(&deadline) {
            bucket.remove(&session);
            if bucket.is_empty() {
                self.buckets.remove(&deadline);
            }
        }
    }

    pub fn liveness(&self, session: SessionId) -> Liveness {
        match self.sessions.get(&session) {
            None => Liveness::Unknown,
            Some(tracked) if tracked.closing => Liveness::Closing,
            Some(_) => Liveness::Open,
        }
    }

    /// Marks a session whose closeSession is under way; it expires no more.
    pub fn close(&mut self, session: SessionId) {
        if let Some(tracked) = self.sessions.get_mut(&session) {
            tracked.closing = true;
            let deadline = tracked.deadline;
            self.leave_bucket(deadline, session);
        }
    }

    /// Takes a close back, because the transaction could not be logged: the session expires later.
    pub fn reopen(&mut self, session: SessionId, now: Mono) {
        if let Some(timeout_ms) = self.sessions.get(&session).map(|tracked| tracked.timeout_ms) {
            self.open(session, timeout_ms, now);
        }
    }

    pub fn remove(&mut self, session: SessionId) {
        if let Some(tracked) = self.sessions.remove(&session) {
            self.leave_bucket(tracked.deadline, session);
        }
    }

    /// When the next session expires if nothing is heard.
    pub fn next_deadline(&self) -> Option<Mono> {
        self.buckets.keys().next().copied()
    }

    /// The sessions whose time is over, each marked closing.
    pub fn expire(&mut self, now: Mono) -> Vec<SessionId> {
        let mut expired = Vec::new();
        while let Some(bucket) = self.buckets.first_entry().filter(|bucket| *bucket.key() <= now) {
            expired.extend(bucket.remove());
        }
        for session in &expired {
            self.sessions.get_mut(session).expect("a session in a bucket is tracked").closing = true;
        }
        expired
    }

    /// Deadlines with the sessions that expire there, as the word `dump` lists them.
    pub fn buckets(&self) -> impl ExactSizeIterator<Item = (Mono, &BTreeSet<SessionId>)> {
        self.buckets.iter().map(|(deadline, sessions)| (*deadline, sessions))
    }
}

/// Makes session ids as Java makes them: the server in the top byte, then forty bits of milliseconds, then a
/// counter that starts at zero (data-model 7.1).
#[derive(Debug)]
pub struct SessionIds {
    next: i64,
}

impl SessionIds {
    /// `millis` must not be one used before by this server; any clock that moves on will do.
    pub fn new(server_id: u8, millis: i64) -> Self {
        let first = ((millis << 24) as u64 >> 8) as i64 | i64::from(server_id) << 56;
        Self { next: first }
    }

    pub fn allocate(&mut self) -> SessionId {
        // This one value marks containers, and 0 means none.
        while self.next == i64::MIN || self.next == 0 {
            self.next += 1;
        }
        let id = SessionId(self.next);
        self.next += 1;
        id
    }
}

/// The password of a session: derived from its id, since a client must be able to move between a Java server
/// and this one. Kept here alone, so that it can be replaced (design.md D10).
pub fn password(session: SessionId) -> [u8; 16] {
    const SECRET: i64 = 0xB341_5C00;
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    const MASK: u64 = (1 << 48) - 1;
    let mut state = ((session.0 ^ SECRET) as u64 ^ MULTIPLIER) & MASK;
    let mut password = [0; 16];
    for word in password.chunks_exact_mut(4) {
        state = state.wrapping_mul(MULTIPLIER).wrapping_add(0xB) & MASK;
        word.copy_from_slice(&((state >> 16) as u32).to_le_bytes());
    }
    password
}

/// Compares in a time that does not tell how much of it is right. Session 0 has no password.
pub fn is_password(session: SessionId, given: &[u8]) -> bool {
    let expected = password(session);
    session != SessionId::NONE
        && given.len() == expected.len()
        && given.iter().zip(expected).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    // client-protocol 2.10, data-model 7.1
    #[test]
    fn passwords_are_java_s() {
        for (id, expected) in [
            (0x0100_0011_c22b_0000, "572a81e89862d2518d564937a1d09a13"),
            (0x0100_0011_c22b_0018, "be21b0e89805d82ae33e0fdc048af6aa"),
            (1, "054cc74a37327db215e702e20c73f005"),
            (0x0100_0000_0000_0000, "f22acd4a97e69d6d20a49bb638eadb38"),
            (0x0100_0014_563e_0000, "e079d82eed55c0d6be4f94a17ef094e8"),
        ] {
            assert_eq!(hex(&password(SessionId(id))), expected);
            assert!(is_password(SessionId(id), &password(SessionId(id))));
            assert!(!is_password(SessionId(id), &[0; 16]));
            assert!(!is_password(SessionId(id), b""));
        }
        assert!(!is_password(SessionId::NONE, &password(SessionId::NONE)));
    }

    #[test]
    fn ids_carry_the_server_and_count_up() {
        let mut ids = SessionIds::new(1, 0x11_c22b);
        assert_eq!(ids.allocate(), SessionId(0x0100_0011_c22b_0000));
        assert_eq!(ids.allocate(), SessionId(0x0100_0011_c22b_0001));
        assert_eq!(SessionIds::new(0x80, 0).allocate(), SessionId(i64::MIN + 1));
    }

    // data-model 13 #48
    #[test]
    fn a_silent_session_lives_for_its_timeout_and_at_most_a_tick_more() {
        for opened in [0, 1, 499, 500, 777] {
            let mut table = SessionTable::new(500);
            table.open(SessionId(7), 1000, opened);
            let deadline = table.next_deadline().unwrap();
            assert!(deadline > opened + 1000 && deadline <= opened + 1500, "{opened}: {deadline}");
            assert!(table.expire(deadline - 1).is_empty());
            assert_eq!(table.expire(deadline), [SessionId(7)]);
            assert_eq!(table.liveness(SessionId(7)), Liveness::Closing);
            assert!(!table.touch(SessionId(7), 1000, deadline));
        }
    }

    #[test]
    fn touches_postpone_and_closed_sessions_do_not_expire() {
        let mut table = SessionTable::new(500);
        table.open(SessionId(1), 1000, 0);
        table.open(SessionId(2), 1000, 0);
        assert!(table.touch(SessionId(1), 1000, 900));
        table.close(SessionId(2));
        assert!(table.expire(1500).is_empty());
        assert_eq!(table.expire(2000), [SessionId(1)]);
        table.remove(SessionId(1));
        table.remove(SessionId(2));
        assert!(table.is_empty());
        assert_eq!(table.next_deadline(), None);
    }
}
