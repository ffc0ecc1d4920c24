//! What a learner does for its clients: it sends what they want changed to the leader, and answers when the
//! transaction comes back.
//!
//! The leader's transactions of one session come in the order in which its requests were sent, failed ones
//! included, so the oldest request that waits is the one that a transaction of its session and xid answers. A
//! SYNC answers the oldest sync, and shows what was committed before it: so it waits until that is applied.
//!
//! Java: `FollowerRequestProcessor`, `CommitProcessor`, `Learner.validateSession`; quorum-protocol 6.5 to 6.8, 7.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use hashbrown::HashMap;
use jute::Text;
use jute::records::data::Id;

use super::input::{Now, Raw};
use super::member::Role;
use super::{Asked, Deliver, Duty, Effect, InFlight, Node, Origin, reply};
use crate::acl::Identity;
use crate::id::{ConnId, SessionId, Zxid};
use crate::planted::{self, Bug};
use crate::proto::request::Write;
use crate::proto::{ErrorCode, op};
use crate::session::{self, Mono};
use crate::tree::Tree;
use crate::txn::{Header, Txn};
use crate::watch::WatchTable;
use crate::zab::FromLeader;
use crate::zab::packet::{Forwarded, Touched};

/// Everything that waits for the leader. Bounded by what connections may have under way.
#[derive(Debug, Default)]
pub(super) struct Forwarding {
    requests: HashMap<SessionId, VecDeque<Waiting>, foldhash::fast::FixedState>,
    /// Connections that wait to hear whether their session lives, in the order in which the leader was asked.
    revalidations: VecDeque<Revalidation>,
    syncs: VecDeque<PendingSync>,
    /// Heard of since the leader asked last.
    touched: BTreeMap<SessionId, i32>,
}

/// A request that was forwarded.
#[derive(Debug)]
struct Waiting {
    origin: Origin,
    /// Its connection is closed, and what comes of it is nobody's. It keeps its place: a client that counts its requests
    /// from the start again on its next connection must not be given what its former self had asked for.
    is_orphan: bool,
    is_close: bool,
}

impl Waiting {
    fn new(conn: ConnId, xid: i32, is_close: bool) -> Self {
        Self { origin: Origin { conn, xid }, is_orphan: false, is_close }
    }
}

#[derive(Debug)]
struct Revalidation {
    session: SessionId,
    conn: ConnId,
    timeout_ms: i32,
}

#[derive(Debug)]
struct PendingSync {
    conn: ConnId,
    then: Then,
    /// What must show; known once the leader has answered.
    shows: Option<Zxid>,
    /// On a leader: the round in which a quorum must have said that it still follows; 0 if that does not matter.
    round: i64,
}

/// What comes when all shows that must.
#[derive(Debug)]
enum Then {
    Answer { xid: i32, path: Option<Text> },
    Attach { session: SessionId, timeout_ms: i32 },
}

impl Forwarding {
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    pub fn on_disconnected(&mut self, conn: ConnId, session: SessionId) {
        for waiting in self.requests.get_mut(&session).into_iter().flatten() {
            waiting.is_orphan |= waiting.origin.conn == conn;
        }
    }

    /// Something else than a session of its own is what this session's oldest request asks for.
    pub fn asks_more(&self, session: SessionId) -> bool {
        self.requests.get(&session).and_then(VecDeque::front).is_some_and(|first| first.origin.xid != 0)
    }

    /// Who waits for the transaction with this header.
    pub fn take_origin(&mut self, header: &Header, txn: &Txn) -> Option<Origin> {
        if self.requests.is_empty() {
            return None;
        }
        let queue = self.requests.get_mut(&header.session)?;
        let mut found = None;
        // A session that ends without having asked for it ends with 0, which a client may count from.
        let answers = |first: &Waiting| {
            first.origin.xid == header.cxid && (first.is_close || !matches!(txn, Txn::CloseSession { .. }))
        };
        // An orphan may have been refused by a leader that tells nobody.
        while let Some(first) = queue.pop_front_if(|first| answers(first) || first.is_orphan) {
            if answers(&first) {
                found = (!first.is_orphan).then_some(first.origin);
                break;
            }
        }
        if queue.is_empty() {
            self.requests.remove(&header.session);
        }
        found
    }
}

impl Node {
    pub(super) fn forward_connect(
        &mut self,
        conn: ConnId,
        session: SessionId,
        password: &Bytes,
        timeout_ms: i32,
        effects: &mut Vec<Effect>,
    ) {
        if session == SessionId::NONE {
            let session = self.ids.allocate();
            self.forwarding.requests.entry(session).or_default().push_back(Waiting::new(conn, 0, false));
            return self.ask_for_session(session, timeout_ms);
        }
        if !session::is_password(session, password) {
            return effects.push(Effect::Refused { conn });
        }
        self.forwarding.revalidations.push_back(Revalidation { session, conn, timeout_ms });
        if let Some((Role::Learning(learner), out)) = self.role() {
            learner.revalidate(session.0, timeout_ms, out);
        }
    }

    pub(super) fn forward_write(&mut self, asked: Asked, write: &Write, raw: Raw, effects: &mut Vec<Effect>) {
        let Asked { conn, session, xid, identities } = asked;
        if self.attached.get(&session) != Some(&conn) {
            return effects.push(Effect::Close { conn });
        }
        let is_close = *write == Write::CloseSession;
        self.forwarding.requests.entry(session).or_default().push_back(Waiting::new(conn, xid, is_close));
        let identities = (!is_close).then(|| ids(&identities));
        self.ask(Forwarded { session: session.0, cxid: xid, op: raw.op, body: raw.body, identities });
    }

    pub(super) fn on_sync(&mut self, asked: Asked, path: Option<Text>, raw: Raw, effects: &mut Vec<Effect>) {
        let Asked { conn, session, xid, identities } = asked;
        if self.duty == Duty::ReadOnly {
            return effects.push(Effect::WriteRefused { conn, xid, error: ErrorCode::NotReadOnly });
        }
        if self.duty == Duty::None || self.attached.get(&session) != Some(&conn) {
            return effects.push(Effect::Close { conn });
        }
        // What a quorum has may be answered elsewhere before our own log has it, and so before it shows here.
        let shows = (self.duty == Duty::Order).then_some(self.last_prepared);
        let round = match self.role() {
            Some((Role::Leading(leader), out)) => leader.ask_quorum(out),
            _ => 0,
        };
        self.forwarding.syncs.push_back(PendingSync { conn, then: Then::Answer { xid, path }, shows, round });
        if shows.is_some() {
            return;
        }
        let identities = Some(ids(&identities));
        self.ask(Forwarded { session: session.0, cxid: xid, op: raw.op, body: raw.body, identities });
    }

    pub(super) fn forward_touched(&mut self, touched: &[(SessionId, i32, Mono)]) {
        let local = &self.local;
        let touched = touched.iter().filter(|(session, ..)| !local.knows(*session));
        self.forwarding.touched.extend(touched.map(|(session, timeout_ms, _)| (*session, *timeout_ms)));
    }

    /// Asks the leader to make the session one of all servers.
    pub(super) fn ask_for_session(&mut self, session: SessionId, timeout_ms: i32) {
        let body = Bytes::copy_from_slice(&timeout_ms.to_be_bytes());
        self.ask(Forwarded { session: session.0, cxid: 0, op: op::CREATE_SESSION, body, identities: None });
    }

    fn ask(&mut self, request: Forwarded) {
        if let Some((Role::Learning(learner), out)) = self.role() {
            learner.request(request, out);
        }
    }

    pub(super) fn on_leader(&mut self, now: Now, message: FromLeader, effects: &mut Vec<Effect>) {
        match message {
            FromLeader::Revalidated { session, valid } => self.on_revalidated(SessionId(session), valid, effects),
            FromLeader::Synced => {
                // A leader's epoch may begin behind everything that there is.
                let shows = self.committed.min(self.last_prepared);
                // One that nobody asked for is Java's to explain.
                if let Some(sync) = self.forwarding.syncs.iter_mut().find(|sync| sync.shows.is_none()) {
                    sync.shows = Some(shows);
                }
            }
            FromLeader::Ping { zxid } => {
                let touched = std::mem::take(&mut self.forwarding.touched);
                let touched =
                    touched.into_iter().map(|(session, timeout_ms)| Touched { session: session.0, timeout_ms });
                let touched = touched.collect();
                if let Some((Role::Learning(learner), out)) = self.role() {
                    learner.on_touched(zxid, touched, out);
                }
            }
            FromLeader::Config { text } => self.on_config(now, &text, effects),
        }
    }

    fn on_revalidated(&mut self, session: SessionId, valid: bool, effects: &mut Vec<Effect>) {
        let Some(at) = self.forwarding.revalidations.iter().position(|asked| asked.session == session) else { return };
        let Revalidation { conn, timeout_ms, .. } = self.forwarding.revalidations.remove(at).expect("just found");
        if !valid {
            return effects.push(Effect::Refused { conn });
        }
        self.forwarding.touched.insert(session, timeout_ms);
        self.attach(conn, session, timeout_ms, effects);
    }

    /// A session that lives speaks through this connection from now on. What its former one has still under way here
    /// comes first: a client that asks whether its create has succeeded must not be answered before it does. (Java has
    /// one queue for a session, whatever its connection: `CommitProcessor`.)
    pub(super) fn attach(&mut self, conn: ConnId, session: SessionId, timeout_ms: i32, effects: &mut Vec<Effect>) {
        if let Some(old) = self.attached.insert(session, conn) {
            effects.push(Effect::Close { conn: old });
        }
        let is_forwarded = self.forwarding.requests.contains_key(&session)
            || self.member.as_ref().is_some_and(|member| member.hears_late());
        let own = |in_flight: &&InFlight| in_flight.logged.header.session == session;
        let shows = self.in_flight.iter().rev().find(own).map(|last| last.logged.header.zxid);
        if !is_forwarded && shows.is_none() || planted::is(Bug::AttachOvertakes) {
            return effects.push(Effect::Attached { conn, session, timeout_ms });
        }
        // The leader may have refused some of it, and says so to nobody: it is done with all that it was sent before.
        let shows = shows.filter(|_| !is_forwarded);
        let then = Then::Attach { session, timeout_ms };
        self.forwarding.syncs.push_back(PendingSync { conn, then, shows, round: 0 });
        if is_forwarded {
            let body = Bytes::from_static(b"\0\0\0\x01/");
            self.ask(Forwarded { session: session.0, cxid: 0, op: op::SYNC, body, identities: Some(Vec::new()) });
        }
    }

    /// Everything that the oldest sync must show is applied, and nothing behind it may be before it is answered.
    pub(super) fn is_sync_next(&self) -> bool {
        let shows = self.forwarding.syncs.front().and_then(|sync| sync.shows);
        shows.is_some_and(|shows| self.in_flight.front().is_none_or(|first| first.logged.header.zxid > shows))
    }

    /// And, on a leader, a quorum has said that it still follows.
    pub(super) fn is_sync_due(&self) -> bool {
        let Some(PendingSync { round, .. }) = self.forwarding.syncs.front().filter(|_| self.is_sync_next()) else {
            return false;
        };
        let answered = || self.member.as_ref().and_then(|member| member.answered_round());
        *round == 0 || answered().is_some_and(|answered| answered >= *round)
    }

    /// Answers the syncs that now show what they must.
    pub(super) fn answer_syncs(
        &mut self,
        tree: &Tree,
        watches: &mut WatchTable,
        deliver: &mut impl Deliver,
        effects: &mut Vec<Effect>,
    ) {
        let zxid = tree.last_zxid();
        while self.is_sync_due() {
            let PendingSync { conn, then, .. } = self.forwarding.syncs.pop_front().expect("one is due");
            match then {
                Then::Answer { xid, path } => {
                    deliver.answer(conn, tree, watches, |out| reply::write_sync(out, xid, zxid, path.as_ref()));
                }
                // It may have ended meanwhile, by what another connection has asked for.
                Then::Attach { session, .. } if self.attached.get(&session) != Some(&conn) => {
                    effects.push(Effect::Close { conn });
                }
                Then::Attach { session, timeout_ms } => effects.push(Effect::Attached { conn, session, timeout_ms }),
            }
        }
    }
}

fn ids(identities: &[Identity]) -> Vec<Id> {
    let id = |identity: &Identity| Id { scheme: Some(identity.scheme.clone()), id: Some(identity.id.clone()) };
    identities.iter().map(id).collect()
}
