//! E2: no leader ends a session before its timeout has passed since it last heard of it, or since it began to lead. By
//! the clock that it goes by itself, which stands still while its process does, and which no step of the wall clock moves.

use std::collections::BTreeMap;

use crate::net::Host;
use crate::oracle::holds;

/// What one server knows of sessions while it leads, in milliseconds of its clock.
#[derive(Default)]
pub struct Heard {
    since: i64,
    sessions: BTreeMap<i64, i64>,
}

impl Heard {
    /// It leads from now on: every session has its whole timeout ahead.
    pub fn begin(&mut self, now_ms: i64) {
        *self = Self { since: now_ms, sessions: BTreeMap::new() };
    }

    /// Something came of this session, or a learner speaks of it.
    pub fn hear(&mut self, session: i64, now_ms: i64) {
        self.sessions.insert(session, now_ms);
    }

    pub fn check_expired(&self, server: Host, session: i64, timeout_ms: i32, now_ms: i64) {
        let last = self.sessions.get(&session).map_or(self.since, |heard| self.since.max(*heard));
        holds!(
            "E2",
            now_ms - last >= i64::from(timeout_ms),
            "server {server} ends session {session:#x} {} ms after it was heard of, its timeout is {timeout_ms}",
            now_ms - last
        );
    }
}
