//! E2: no leader ends a session before its timeout has passed since it last heard of it, or since it began to lead. By
//! the clock that it goes by itself, which stands still while its process does, and which no step of the wall clock moves.
//!
//! R4, from one connection of a session to the next on the same server: what a server has taken of the former one shows
//! when it lets the next one ask, or never comes to be.

use std::collections::BTreeMap;

use crate::net::Host;
use crate::oracle::{Model, holds};

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

/// The writes that a server has taken since it began to serve, by session: connection and xid.
#[derive(Default)]
pub struct Taken(BTreeMap<i64, Vec<(u64, i32)>>);

impl Taken {
    /// It serves anew, and what it had taken before may or may not come to be.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn take(&mut self, session: i64, conn: u64, xid: i32) {
        self.0.entry(session).or_default().push((conn, xid));
    }

    /// The session speaks through `conn` from now on, and sees the state at `shows`.
    pub fn on_attached(&mut self, model: &mut Model, session: i64, conn: u64, shows: i64) {
        let former = self.0.entry(session).or_default().extract_if(.., |(other, _)| *other != conn);
        former.for_each(|(_, xid)| model.expect_upto(session, xid, shows));
    }
}
