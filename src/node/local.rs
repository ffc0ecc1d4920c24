//! Sessions that only their own server knows of: no transaction makes or ends them, so a crowd of clients that
//! come to read costs the ensemble nothing. They end with the role of their server.
//!
//! What they may not have is an ephemeral node, which everybody must be able to delete. With the first one a
//! session becomes one of all servers, under the same id, if that is allowed.
//!
//! Without a leader a server may still serve those who only read (read-only mode); such sessions are the only ones
//! that can begin then.
//!
//! Java: `UpgradeableSessionTracker`, `LocalSessionTracker`, `QuorumZooKeeperServer.checkUpgradeSession`,
//! `ReadOnlyZooKeeperServer`; quorum-protocol 7, 9.3.

use bytes::Bytes;

use super::effect::Effect;
use super::input::Now;
use super::lead::Owner;
use super::{Asked, Duty, Node};
use crate::id::{ConnId, SessionId};
use crate::proto::ErrorCode;
use crate::proto::request::{Create, MultiOp, Write};
use crate::session::{self, Mono, SessionTable};
use crate::tree::Tree;
use crate::txn::Txn;

/// What the configuration says of local sessions; without it there are none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LocalRules {
    /// `localSessionsUpgradingEnabled`.
    pub upgrade: bool,
}

#[derive(Debug)]
pub(super) struct LocalSessions {
    rules: Option<LocalRules>,
    table: SessionTable,
    tick_ms: i64,
}

impl LocalSessions {
    pub fn new(rules: Option<LocalRules>, tick_ms: i64) -> Self {
        Self { rules, table: SessionTable::new(tick_ms), tick_ms }
    }

    pub fn is_enabled(&self) -> bool {
        self.rules.is_some()
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn knows(&self, session: SessionId) -> bool {
        self.table.liveness(session) != session::Liveness::Unknown
    }

    pub fn remove(&mut self, session: SessionId) {
        self.table.remove(session);
    }

    pub fn clear(&mut self) {
        self.table = SessionTable::new(self.tick_ms);
    }

    pub fn next_deadline(&self) -> Option<Mono> {
        self.table.next_deadline()
    }
}

impl Node {
    /// The sessions of this server alone, if there may be such.
    pub fn local_sessions(&self) -> Option<&SessionTable> {
        self.local.is_enabled().then_some(&self.local.table)
    }

    /// Whether the connection has its session, or is refused one: nobody else need be asked.
    #[expect(clippy::too_many_arguments, reason = "the fields of one input")]
    pub(super) fn connect_locally(
        &mut self,
        now: Now,
        tree: &Tree,
        conn: ConnId,
        session: SessionId,
        password: &Bytes,
        timeout_ms: i32,
        effects: &mut Vec<Effect>,
    ) -> bool {
        if session == SessionId::NONE && self.local.is_enabled() {
            let session = self.ids.allocate();
            self.local.table.open(session, timeout_ms, now.mono);
            self.attached.insert(session, conn);
            effects.push(Effect::OpenedLocally { conn, session, timeout_ms });
            return true;
        }
        if session != SessionId::NONE && self.local.knows(session) {
            if !session::is_password(session, password) || !self.local.table.touch(session, timeout_ms, now.mono) {
                effects.push(Effect::Refused { conn });
                return true;
            }
            self.attach(conn, session, timeout_ms, effects);
            return true;
        }
        if self.duty == Duty::ReadOnly {
            // Only a leader can say whether a session of all servers lives, or begin one. One that began here and is
            // not of all servers was of this one alone, and is no more: its client may have another one.
            let was_local = self.local.is_enabled() && self.is_own(session) && !tree.sessions().contains_key(&session);
            effects.push(if was_local { Effect::Refused { conn } } else { Effect::Close { conn } });
            return true;
        }
        false
    }

    /// What a local session asks is answered here if it concerns nobody else. True if it does: then it takes its
    /// place in the order, and its session was made one of all servers if that was necessary.
    pub(super) fn is_for_all(
        &mut self,
        now: Now,
        tree: &Tree,
        asked: &Asked,
        write: &Write,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let Asked { conn, session, xid, .. } = *asked;
        if self.attached.get(&session) != Some(&conn) {
            effects.push(Effect::Close { conn });
            return false;
        }
        if *write == Write::CloseSession {
            self.local.remove(session);
            self.attached.remove(&session);
            effects.push(Effect::ClosedLocally { conn, xid });
            return false;
        }
        if self.duty == Duty::ReadOnly {
            effects.push(Effect::WriteRefused { conn, xid, error: ErrorCode::NotReadOnly });
            return false;
        }
        if !makes_ephemeral(write) {
            return true;
        }
        if !self.local.rules.is_some_and(|rules| rules.upgrade) {
            effects.push(Effect::WriteRefused { conn, xid, error: ErrorCode::EphemeralOnLocalSession });
            return false;
        }
        self.upgrade(now, tree, session);
        true
    }

    fn upgrade(&mut self, now: Now, tree: &Tree, session: SessionId) {
        let Some(timeout_ms) = self.local.table.timeout_ms(session) else { return };
        if self.duty == Duty::Order && self.is_epoch_full() {
            return;
        }
        self.local.remove(session);
        match self.duty {
            Duty::Order => {
                self.sessions.open(session, timeout_ms, now.mono);
                self.owners.set(session, Owner::Here);
                self.propose(now, session, 0, Txn::CreateSession { timeout_ms }, None, tree);
            }
            _ => self.ask_for_session(session, timeout_ms),
        }
    }

    /// Touches local sessions, and ends those that were silent too long.
    pub(super) fn touch_local(&mut self, touched: &[(SessionId, i32, Mono)]) {
        if self.local.len() == 0 {
            return;
        }
        for (session, timeout_ms, at) in touched {
            self.local.table.touch(*session, *timeout_ms, *at);
        }
    }

    pub(super) fn expire_local(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for session in self.local.table.expire(now.mono) {
            self.local.remove(session);
            if let Some(conn) = self.attached.remove(&session) {
                effects.push(Effect::Close { conn });
            }
        }
    }
}

pub fn makes_ephemeral(write: &Write) -> bool {
    // Java: CreateMode.EPHEMERAL and EPHEMERAL_SEQUENTIAL.
    let is_ephemeral = |create: &Create| matches!(create.flags, 1 | 3);
    match write {
        Write::Create(create) => is_ephemeral(create),
        Write::Multi(members) => {
            members.iter().any(|member| matches!(member, MultiOp::Create(create) if is_ephemeral(create)))
        }
        _ => false,
    }
}
