//! What a leader does for its learners' clients: their requests get their places among its own, and their
//! sessions live as long as their servers speak of them.
//!
//! A session speaks through one server at a time. Whoever asks for it through another may have it, and what
//! then still comes over the old way is refused with SessionMoved.
//!
//! Java: `Leader.LearnerCnxAcceptor` and `LearnerHandler`, `SessionTrackerImpl.checkSession`,
//! `PrepRequestProcessor`; quorum-protocol 6.6, 7.

use bytes::Buf;
use hashbrown::HashMap;

use super::input::Now;
use super::member::Role;
use super::{Asks, Duty, Effect, Node, local};
use crate::acl::Identity;
use crate::id::{LinkId, SessionId};
use crate::planted::{self, Bug};
use crate::proto::request::{Frame, Request, Write, decode};
use crate::proto::{ErrorCode, op};
use crate::session::Liveness;
use crate::tree::Tree;
use crate::txn::Txn;
use crate::zab::FromLearner;
use crate::zab::packet::{Forwarded, Packet, Touched};

/// Through which server a session speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Owner {
    Here,
    There(LinkId),
}

/// A session that nobody has spoken for since the leader began has no owner: the first to speak is it.
#[derive(Debug, Default)]
pub(super) struct Owners(HashMap<SessionId, Owner, foldhash::fast::FixedState>);

impl Owners {
    pub fn set(&mut self, session: SessionId, owner: Owner) {
        self.0.insert(session, owner);
    }

    pub fn remove(&mut self, session: SessionId) {
        self.0.remove(&session);
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    fn check(&mut self, session: SessionId, asks: Owner) -> Result<(), ErrorCode> {
        if *self.0.entry(session).or_insert(asks) == asks { Ok(()) } else { Err(ErrorCode::SessionMoved) }
    }
}

impl Node {
    pub(super) fn on_learner(
        &mut self,
        now: Now,
        tree: &Tree,
        link: LinkId,
        message: FromLearner,
        effects: &mut Vec<Effect>,
    ) {
        if self.duty != Duty::Order {
            // Not even the fastest learner may serve before its leader does.
            return;
        }
        match message {
            FromLearner::Request(request) => self.on_forwarded(now, tree, link, request, effects),
            FromLearner::Revalidate { session, timeout_ms } => {
                let id = SessionId(session);
                self.count_revalidation();
                let valid = self.sessions.touch(id, timeout_ms, now.mono) || planted::is(Bug::RevalidatesAll);
                if valid {
                    // What the session has asked for before must reach the learner first.
                    self.flush(now, effects);
                    self.owners.set(id, Owner::There(link));
                    if let Some(conn) = self.attached.remove(&id) {
                        effects.push(Effect::Close { conn });
                    }
                }
                self.leader_sends(link, Packet::Revalidated { session, valid });
            }
            FromLearner::Touched(_) if planted::is(Bug::IgnoresTouched) => {}
            FromLearner::Touched(touched) => {
                for Touched { session, timeout_ms } in touched {
                    self.sessions.touch(SessionId(session), timeout_ms, now.mono);
                }
            }
            FromLearner::Gone => {}
        }
    }

    fn on_forwarded(&mut self, now: Now, tree: &Tree, link: LinkId, request: Forwarded, effects: &mut Vec<Effect>) {
        let Forwarded { session, cxid, op, mut body, identities } = request;
        let session = SessionId(session);
        let owner = Owner::There(link);
        // Java waits for the learner to report it, which that may not live to do.
        self.sessions.hear(session, now.mono);
        if op == op::SYNC {
            // It waits for everything before it, what is still to be flushed included.
            self.flush(now, effects);
            return self.leader_syncs(link);
        }
        if self.is_epoch_full() {
            return;
        }
        if op == op::CREATE_SESSION {
            let Some(timeout_ms) = body.try_get_i32().ok() else { return self.refuse(now, tree, session, cxid) };
            self.sessions.open(session, timeout_ms, now.mono);
            self.owners.set(session, owner);
            return self.propose(now, session, cxid, Txn::CreateSession { timeout_ms }, None, tree);
        }
        let check = match self.sessions.liveness(session) {
            Liveness::Open => self.owners.check(session, owner),
            // It may be a local session of the server that made it.
            Liveness::Unknown if self.local.is_enabled() && !self.is_own(session) => Ok(()),
            Liveness::Closing | Liveness::Unknown => Err(ErrorCode::SessionExpired),
        };
        // Java does not look at the owner here; a close that a learner has forwarded is its client's own.
        let check = if op == op::CLOSE_SESSION { Ok(()) } else { check };
        let write = match decode(op, body) {
            Frame::Request(Request::Write(write)) => write,
            _ => return self.refuse(now, tree, session, cxid),
        };
        let identities: Vec<Identity> = match identities {
            Some(given) => {
                given.into_iter().filter_map(|id| Some(Identity { scheme: id.scheme?, id: id.id? })).collect()
            }
            None if write == Write::CloseSession => Vec::new(),
            None => return self.refuse(now, tree, session, cxid),
        };
        // An ephemeral node needs a session that all know.
        let is_global = self.sessions.liveness(session) == Liveness::Open;
        let check = if local::makes_ephemeral(&write) && !is_global { Err(ErrorCode::SessionExpired) } else { check };
        let asks = Asks { session, cxid, identities: &identities, check };
        self.order(now, tree, asks, &write, None, effects);
    }

    fn count_revalidation(&mut self) {
        if let Some(member) = &mut self.member {
            member.counts.revalidated += 1;
        }
    }

    /// Whether this server made the session.
    pub(super) fn is_own(&self, session: SessionId) -> bool {
        (session.0 >> 56) as u8 == self.server_id
    }

    /// The learner waits for a transaction, whatever it sent (quorum-protocol 10, H1).
    fn refuse(&mut self, now: Now, tree: &Tree, session: SessionId, cxid: i32) {
        let code = ErrorCode::Marshalling.code();
        self.propose(now, session, cxid, Txn::Error { code }, None, tree);
    }

    fn leader_sends(&mut self, link: LinkId, packet: Packet) {
        if let Some((Role::Leading(leader), out)) = self.role() {
            leader.send(link, packet, out);
        }
    }

    fn leader_syncs(&mut self, link: LinkId) {
        if let Some((Role::Leading(leader), out)) = self.role() {
            leader.on_sync(link, out);
        }
    }
}
