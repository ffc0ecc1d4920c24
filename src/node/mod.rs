//! The whole server as one machine: sessions, preparation, the order of transactions, their application.
//!
//! [`Node::step`] takes what happened and says what is wished for; it does no I/O and reads no clock. A
//! request becomes a transaction with the next zxid and goes into the log; only when the log says that it is
//! durable does [`Node::apply`] put it into the tree, in order, and answer. So nothing is ever shown that a
//! crash could take back.
//!
//! In an ensemble a transaction is applied once it is durable here *and* a quorum has it ([`member`]); on a
//! learner the request goes to the leader and comes back as a transaction ([`forward`]), and the leader puts
//! those of its learners among its own ([`lead`]). Standalone is a fixed role of this machine, not a server of
//! its own: no election, no new epoch, and the zxid continues where the log ends.
//!
//! Java: `ZooKeeperServer`, `SyncRequestProcessor`, `FinalRequestProcessor`.

pub mod effect;
mod forward;
pub mod input;
mod lead;
pub mod local;
pub mod member;
pub mod read;
pub mod reaper;
pub mod reply;
pub mod stats;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hashbrown::HashMap;
use jute::Text;

use crate::acl::{Acl, Identity};
use crate::id::{ConnId, SessionId, Zxid};
use crate::journal;
use crate::planted::{self, Bug};
use crate::prepare::{Context, PrepareRules, Preparer};
use crate::proto::ErrorCode;
use crate::proto::request::Write;
use crate::session::{self, Liveness, Mono, SessionIds, SessionTable};
use crate::stats::{Ages, Namespaces, Runs};
use crate::tree::digest::{DigestCheck, Verdict};
use crate::tree::{Outcome, Tree, Witness};
use crate::txn::{Header, Logged, Txn};
use crate::watch::{EventType, WatchTable};

use effect::{Effect, Notice};
use forward::Forwarding;
use input::{Input, Now};
use lead::{Owner, Owners};
use local::LocalSessions;
use member::{Found, Member, MemberRules};
use reaper::{Candidate, Reaper, ReaperRules};
use stats::NodeStats;

/// What a Node must be told, since it reads no configuration.
#[derive(Clone, Debug)]
pub struct NodeRules {
    /// Standalone servers make session ids as server 1.
    pub server_id: u8,
    pub tick_ms: i64,
    /// The largest payload of a log record, in bytes: `jute.maxbuffer` and its extra.
    pub record_most: usize,
    pub prepare: PrepareRules,
    pub reaper: ReaperRules,
}

/// Where replies and events go. Called under the write lock, so nothing here may block.
pub trait Deliver {
    /// The oldest write of `conn` is answered with what `reply` appends; what waited for it runs next, on
    /// this state of the tree.
    fn answer(&mut self, conn: ConnId, tree: &Tree, watches: &mut WatchTable, reply: impl FnOnce(&mut BytesMut));
    /// An event for `conn`, if it may read what `acl` guards.
    fn event(&mut self, conn: ConnId, zxid: Zxid, event: EventType, path: &str, acl: &[Acl]);
    /// The session that `conn` asked for is there.
    fn session_opened(&mut self, conn: ConnId, session: SessionId, timeout_ms: i32);
    /// The session of `conn` is over; what was queued still goes out.
    fn close(&mut self, conn: ConnId);
}

/// What becomes of a client's request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Duty {
    /// Nobody is served.
    None,
    /// It gets its place in the order here: standalone, or on a leader.
    Order,
    /// The leader is asked.
    Forward,
    /// It is refused, unless it only reads: there is no leader.
    ReadOnly,
}

#[derive(Debug)]
struct InFlight {
    logged: Logged,
    origin: Option<Origin>,
}

/// The request that a transaction answers.
#[derive(Clone, Copy, Debug)]
struct Origin {
    conn: ConnId,
    xid: i32,
}

#[derive(Debug)]
pub struct Node {
    tick_ms: i64,
    record_most: usize,
    server_id: u8,
    preparer: Preparer,
    sessions: SessionTable,
    ids: SessionIds,
    /// The connection of each session that has one here.
    attached: HashMap<SessionId, ConnId, foldhash::fast::FixedState>,
    duty: Duty,
    /// `None` standalone.
    member: Option<Box<Member>>,
    /// Sessions that only this server knows of.
    local: LocalSessions,
    /// Through which server each session speaks.
    owners: Owners,
    /// What the leader was asked and has not answered.
    forwarding: Forwarding,
    reaper: Reaper,
    digests: DigestCheck,
    /// The zxid of the newest prepared transaction.
    last_prepared: Zxid,
    /// Everything up to here is durable in our own log.
    durable: Zxid,
    /// Everything up to here is committed; standalone, what is durable is.
    committed: Zxid,
    /// In the log, or on the way there, and not applied, in order.
    in_flight: VecDeque<InFlight>,
    /// Log records prepared since the last [`Node::flush`].
    batch: BytesMut,
    batch_first: Zxid,
    disk_full: bool,
    stats: NodeStats,
    /// When the transactions were created that were applied since the shell last asked.
    created: Runs,
    /// What those wrote.
    written: Namespaces,
    /// Of a member's transactions, since the shell last asked.
    ages: Ages,
    /// Requests that got a place in the order, since then.
    prepared: u64,
}

impl Node {
    /// `millis` seeds session ids: milliseconds of a clock that has moved on since the last start.
    pub fn new(rules: NodeRules, tree: &Tree, digests: DigestCheck, now: Mono, millis: i64) -> Self {
        let tick_ms = rules.tick_ms;
        let mut sessions = SessionTable::new(tick_ms);
        for (session, timeout_ms) in tree.sessions() {
            sessions.open(*session, *timeout_ms, now);
        }
        Self {
            tick_ms,
            record_most: rules.record_most,
            server_id: rules.server_id,
            preparer: Preparer::new(rules.prepare, tree),
            sessions,
            ids: SessionIds::new(rules.server_id, millis),
            attached: HashMap::default(),
            duty: Duty::Order,
            member: None,
            local: LocalSessions::new(None, tick_ms),
            owners: Owners::default(),
            forwarding: Forwarding::default(),
            reaper: Reaper::new(rules.reaper, now, tree),
            digests,
            last_prepared: tree.last_zxid(),
            durable: tree.last_zxid(),
            committed: Zxid(i64::MAX),
            in_flight: VecDeque::new(),
            batch: BytesMut::new(),
            batch_first: Zxid::ZERO,
            disk_full: false,
            stats: NodeStats::default(),
            created: Runs::default(),
            written: Namespaces::default(),
            ages: Ages::default(),
            prepared: 0,
        }
    }

    /// A member of an ensemble. What was logged behind the tree waits for a leader to confirm it.
    pub fn new_member(
        rules: NodeRules,
        member: MemberRules,
        tree: &Tree,
        found: Found,
        digests: DigestCheck,
        now: Mono,
        millis: i64,
    ) -> Self {
        let mut node = Self::new(rules, tree, digests, now, millis);
        node.duty = Duty::None;
        node.sessions = SessionTable::new(node.tick_ms);
        node.committed = tree.last_zxid();
        node.load_tail(&found.tail);
        if planted::is(Bug::TailApplied) {
            node.committed = node.durable;
        }
        node.local = LocalSessions::new(member.local_sessions, node.tick_ms);
        node.member = Some(Box::new(Member::new(member, tree.last_zxid(), found, now)));
        node
    }

    pub fn duty(&self) -> Duty {
        self.duty
    }

    /// Up to where everything is committed, as far as this server knows.
    pub fn committed(&self) -> Zxid {
        self.committed
    }

    pub fn stats(&self) -> NodeStats {
        NodeStats {
            in_flight: self.in_flight.len(),
            sessions: self.sessions.len(),
            local_sessions: self.local.len(),
            role: self.member.as_ref().map(|member| member.stats()),
            digest_mismatches: self.stats.digest_mismatches + self.digests.mismatches(),
            changes_queued: self.preparer.changes_queued(),
            changes_removed: self.preparer.changes_removed(),
            ..self.stats
        }
    }

    /// The times of the transactions applied since the last call, and the bytes that they wrote.
    pub fn take_applied(&mut self) -> (Runs, Namespaces) {
        (std::mem::take(&mut self.created), std::mem::take(&mut self.written))
    }

    /// How many requests were prepared since the last call: clients', learners', and its own.
    pub fn take_prepared(&mut self) -> u64 {
        std::mem::take(&mut self.prepared)
    }

    /// What [`Node::stats`] counts of a member starts from zero.
    pub fn reset_counts(&mut self) {
        if let Some(member) = &mut self.member {
            member.reset_counts();
        }
    }

    /// How old a member's transactions were at each of their stages since the last call.
    pub fn take_ages(&mut self) -> Option<Ages> {
        (!self.ages.is_empty()).then(|| std::mem::take(&mut self.ages))
    }

    pub fn sessions(&self) -> &SessionTable {
        &self.sessions
    }

    pub fn digests(&self) -> &DigestCheck {
        &self.digests
    }

    /// When [`Input::Time`] is due next.
    pub fn next_deadline(&self) -> Mono {
        let member = self.member.as_ref().map_or(Mono::MAX, |member| member.next_deadline(self.duty));
        let member = self.local.next_deadline().map_or(member, |expiry| expiry.min(member));
        let earliest = self.reaper.next_deadline().min(member);
        match self.sessions.next_deadline() {
            Some(expiry) if self.duty == Duty::Order => expiry.min(earliest),
            _ => earliest,
        }
    }

    /// Takes one thing that happened.
    pub fn step(&mut self, now: Now, tree: &Tree, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Connect { conn, session, password, timeout_ms } => {
                self.on_connect(now, tree, conn, session, &password, timeout_ms, effects);
            }
            Input::Write { conn, session, xid, write, raw, identities } => {
                let asked = Asked { conn, session, xid, identities };
                if self.local.knows(session) && !self.is_for_all(now, tree, &asked, &write, effects) {
                    return;
                }
                match self.duty {
                    Duty::None | Duty::ReadOnly => effects.push(Effect::Close { conn }),
                    Duty::Order => self.on_write(now, tree, asked, &write, effects),
                    Duty::Forward => self.forward_write(asked, &write, raw, effects),
                }
            }
            Input::Sync { conn, session, xid, path, raw, identities } => {
                self.on_sync(Asked { conn, session, xid, identities }, path, raw, effects);
            }
            Input::Disconnected { conn, session, touched } => {
                self.on_touched(touched.as_slice());
                if self.attached.get(&session) == Some(&conn) {
                    self.attached.remove(&session);
                }
                self.forwarding.on_disconnected(conn, session);
            }
            Input::Time { touched } => self.on_time(now, tree, &touched, effects),
            Input::Durable(zxid) => {
                assert!(zxid <= self.last_prepared, "{zxid} is durable, but {} is the last", self.last_prepared);
                let before = self.durable;
                self.durable = self.durable.max(zxid);
                self.on_member_durable(now, before);
            }
            Input::LogFull => self.on_log_full(now, tree, effects),
            Input::LogRoom => {
                self.disk_full = false;
                effects.push(Effect::Notice(Notice::LogRoom));
            }
            Input::Peer(input) => self.on_peer(now, tree, input, effects),
        }
        self.carry_out(now, tree, effects);
    }

    /// Hands what was prepared since the last call to the log, and to the learners.
    pub fn flush(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.batch.is_empty() {
            let records = self.batch.split().freeze();
            let (first, last) = (self.batch_first, self.last_prepared);
            effects.push(Effect::Append { first, last, records: records.clone() });
            self.on_flush(now, &records, effects);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one input")]
    fn on_connect(
        &mut self,
        now: Now,
        tree: &Tree,
        conn: ConnId,
        session: SessionId,
        password: &Bytes,
        timeout_ms: i32,
        effects: &mut Vec<Effect>,
    ) {
        if self.duty == Duty::None || self.disk_full && session == SessionId::NONE {
            return effects.push(Effect::Close { conn });
        }
        if self.connect_locally(now, tree, conn, session, password, timeout_ms, effects) {
            return;
        }
        if self.duty == Duty::Forward {
            return self.forward_connect(conn, session, password, timeout_ms, effects);
        }
        if session == SessionId::NONE {
            if self.is_epoch_full() {
                return effects.push(Effect::Close { conn });
            }
            let session = self.ids.allocate();
            self.sessions.open(session, timeout_ms, now.mono);
            self.owners.set(session, Owner::Here);
            self.attached.insert(session, conn);
            let origin = Some(Origin { conn, xid: 0 });
            return self.propose(now, session, 0, Txn::CreateSession { timeout_ms }, origin, tree);
        }
        // The password first: who only knows an id must not be able to push its owner out (data-model 12b,
        // row 7).
        let valid = session::is_password(session, password) && self.sessions.touch(session, timeout_ms, now.mono);
        if !valid {
            return effects.push(Effect::Refused { conn });
        }
        self.owners.set(session, Owner::Here);
        self.attach(conn, session, timeout_ms, effects);
    }

    fn on_write(&mut self, now: Now, tree: &Tree, asked: Asked, write: &Write, effects: &mut Vec<Effect>) {
        let Asked { conn, session, xid, identities } = asked;
        let is_open = self.sessions.liveness(session) == Liveness::Open || self.local.knows(session);
        if !is_open || self.attached.get(&session) != Some(&conn) {
            // Its close is under way, or it moved to another connection.
            return effects.push(Effect::Close { conn });
        }
        if self.disk_full {
            return effects.push(Effect::WriteRefused { conn, xid, error: ErrorCode::OperationTimeout });
        }
        if self.is_epoch_full() {
            return effects.push(Effect::Close { conn });
        }
        let asks = Asks { session, cxid: xid, identities: &identities, check: Ok(()) };
        self.order(now, tree, asks, write, Some(Origin { conn, xid }), effects);
    }

    /// Makes a request the next transaction.
    fn order(
        &mut self,
        now: Now,
        tree: &Tree,
        Asks { session, cxid, identities, check }: Asks<'_>,
        write: &Write,
        origin: Option<Origin>,
        effects: &mut Vec<Effect>,
    ) {
        let zxid = self.next_zxid();
        let time = now.wall_ms;
        let context = Context { session, identities, zxid, time, session_check: check, internal: false };
        self.prepared += 1;
        let txn = self.preparer.prepare(tree, &context, write);
        let exceeded = self.preparer.take_exceeded();
        effects.extend(exceeded.map(|exceeded| Effect::Notice(Notice::QuotaExceeded(exceeded))));
        if matches!(write, Write::CloseSession) {
            self.sessions.close(session);
        }
        self.propose(now, session, cxid, txn, origin, tree);
    }

    /// Gives a transaction the next place in the order.
    fn propose(&mut self, now: Now, session: SessionId, cxid: i32, txn: Txn, origin: Option<Origin>, tree: &Tree) {
        let zxid = self.next_zxid();
        let header = Header { session, cxid, zxid, time: now.wall_ms };
        let carries_digest = tree.keeps_digest() && !self.distrusts_digests() && !matches!(txn, Txn::Error { .. });
        let digest = carries_digest.then(|| self.preparer.digest());
        let mut logged = Logged { header, txn, digest };
        self.begin_batch(zxid);
        if journal::write_record(&header, &logged.txn, logged.digest, self.record_most, &mut self.batch).is_err() {
            // Java would log it and then refuse to read its own log (on-disk 0).
            self.preparer.roll_back();
            logged.txn = Txn::Error { code: ErrorCode::Marshalling.code() };
            logged.digest = None;
            journal::write_record(&header, &logged.txn, None, self.record_most, &mut self.batch)
                .expect("an error fits");
        }
        self.last_prepared = zxid;
        self.in_flight.push_back(InFlight { logged, origin });
    }

    /// The next place in the order.
    fn next_zxid(&self) -> Zxid {
        // Java's server that is alone counts from the last place of what looks like an epoch to the first of the next.
        if self.member.is_none() { Zxid(self.last_prepared.0 + 1) } else { self.last_prepared.next() }
    }

    fn begin_batch(&mut self, first: Zxid) {
        if self.batch.is_empty() {
            self.batch_first = first;
        }
    }

    fn on_time(&mut self, now: Now, tree: &Tree, touched: &[(SessionId, i32, Mono)], effects: &mut Vec<Effect>) {
        self.on_member_time(now, effects);
        self.on_touched(touched);
        self.expire_local(now, effects);
        let orders = self.duty == Duty::Order && !self.disk_full && !self.is_epoch_full();
        for Candidate { path, mzxid } in self.reaper.on_time(now, tree, orders) {
            if self.is_epoch_full() {
                return;
            }
            let seen = Some(mzxid);
            self.propose_internal(now, tree, SessionId::NONE, &Write::DeleteContainer { path, seen });
        }
        if !orders {
            return;
        }
        for session in self.sessions.expire(now.mono) {
            if self.is_epoch_full() {
                return;
            }
            let timeout_ms = tree.sessions().get(&session).copied().unwrap_or_default();
            effects.push(Effect::Notice(Notice::Expired { session, timeout_ms }));
            self.stats.expired += 1;
            self.propose_internal(now, tree, session, &Write::CloseSession);
        }
    }

    /// These sessions were heard of.
    fn on_touched(&mut self, touched: &[(SessionId, i32, Mono)]) {
        self.touch_local(touched);
        match self.duty {
            Duty::None | Duty::ReadOnly => {}
            Duty::Forward => self.forward_touched(touched),
            Duty::Order => {
                for (session, timeout_ms, at) in touched {
                    self.sessions.touch(*session, *timeout_ms, *at);
                }
            }
        }
    }

    fn propose_internal(&mut self, now: Now, tree: &Tree, session: SessionId, write: &Write) {
        let context = Context {
            session,
            identities: &[],
            zxid: self.next_zxid(),
            time: now.wall_ms,
            session_check: Ok(()),
            internal: true,
        };
        self.prepared += 1;
        let txn = self.preparer.prepare(tree, &context, write);
        self.propose(now, session, 0, txn, None, tree);
    }

    /// Nothing after the last durable transaction was written: it never happened. Writers hear an error that
    /// clients retry; reads go on.
    fn on_log_full(&mut self, now: Now, tree: &Tree, effects: &mut Vec<Effect>) {
        if !self.disk_full {
            effects.push(Effect::Notice(Notice::LogFull));
        }
        self.disk_full = true;
        if self.member.is_some() {
            self.on_member_log_full(now, effects);
            return effects.push(Effect::LogFullHeard);
        }
        effects.push(Effect::LogFullHeard);
        self.batch.clear();
        let lost = self.in_flight.partition_point(|in_flight| in_flight.logged.header.zxid <= self.durable);
        for InFlight { logged, origin } in self.in_flight.split_off(lost) {
            let session = logged.header.session;
            match logged.txn {
                Txn::CreateSession { .. } => {
                    self.sessions.remove(session);
                    self.attached.remove(&session);
                    effects.extend(origin.map(|origin| Effect::Close { conn: origin.conn }));
                    continue;
                }
                Txn::CloseSession { .. } => self.sessions.reopen(session, now.mono),
                _ => {}
            }
            let error = ErrorCode::OperationTimeout;
            effects.extend(origin.map(|Origin { conn, xid }| Effect::WriteRefused { conn, xid, error }));
        }
        self.last_prepared = self.durable;
        // What is durable and not applied yet is all that the overlay should hold; since it holds no more
        // than a batch, it is simplest to let those be applied first.
        assert!(self.in_flight.is_empty(), "the shell applies what is durable before it reports a full disk");
        self.preparer.reset(tree);
    }

    /// What may be applied: D17, a transaction of an ensemble must be in our own log too.
    fn settled(&self) -> Zxid {
        if planted::is(Bug::AppliesBeforeDurable) && self.member.is_some() {
            return self.committed.min(self.last_prepared);
        }
        if planted::is(Bug::AppliesUncommitted) {
            return self.durable;
        }
        self.durable.min(self.committed)
    }

    /// True when [`Node::apply`] has something to do.
    pub fn has_committed(&self) -> bool {
        let settled = self.settled();
        let is_settled = || self.in_flight.front().is_some_and(|first| first.logged.header.zxid <= settled);
        !self.is_sync_next() && is_settled() || self.is_sync_due() || self.may_begin_to_serve()
    }

    /// Applies up to `limit` transactions that are durable and committed, in order; the caller holds the write
    /// lock.
    pub fn apply(
        &mut self,
        now: Now,
        limit: usize,
        tree: &mut Tree,
        watches: &mut WatchTable,
        deliver: &mut impl Deliver,
        effects: &mut Vec<Effect>,
    ) {
        let settled = self.settled();
        for _ in 0..limit {
            // A sync shows what was committed before it, and comes before what was not.
            self.answer_syncs(tree, watches, deliver, effects);
            // What its client has asked behind it is not answered before it.
            if self.is_sync_next() {
                break;
            }
            let Some(next) = self.in_flight.pop_front_if(|next| next.logged.header.zxid <= settled) else { break };
            self.apply_one(next, tree, watches, deliver, effects);
        }
        self.answer_syncs(tree, watches, deliver, effects);
        self.leave_if_diverged(now, tree, effects);
        if self.may_begin_to_serve() {
            let zxid = tree.last_zxid();
            self.begin_to_serve(now, tree, &mut Announce { watches, deliver, zxid }, effects);
        }
    }

    fn apply_one(
        &mut self,
        InFlight { logged, origin }: InFlight,
        tree: &mut Tree,
        watches: &mut WatchTable,
        deliver: &mut impl Deliver,
        effects: &mut Vec<Effect>,
    ) {
        let Logged { header, txn, digest } = logged;
        let zxid = header.zxid;
        // A session that was local has its connection, and nobody waits for the transaction that makes it one of all.
        // It may also have lost it meanwhile, and have asked for more on it.
        let begins = matches!(txn, Txn::CreateSession { .. });
        let was_local =
            begins && (self.attached.contains_key(&header.session) || self.forwarding.asks_more(header.session));
        let forwarded = !was_local && origin.is_none();
        let origin = if forwarded { self.forwarding.take_origin(&header, &txn) } else { origin };
        assert!(zxid > tree.last_zxid(), "{zxid} is to be applied after {}", tree.last_zxid());
        let outcome = tree.apply(&header, &txn, &mut Announce { watches, deliver, zxid });
        self.stats.applied += 1;
        self.created.add(header.time);
        count_written(&mut self.written, &txn, &outcome);
        self.preparer.on_applied(zxid);
        if tree.keeps_digest() {
            let verdict = self.digests.on_applied(zxid, tree.digest(), digest);
            if verdict != Verdict::Agrees {
                let (expected, actual) = (digest.unwrap_or_default(), tree.digest());
                if let Some(count) = verdict.to_say() {
                    effects.push(Effect::Notice(Notice::DigestMismatch { zxid, expected, actual, count }));
                }
                self.on_diverged(zxid);
            }
        }
        match (&txn, origin) {
            (Txn::CreateSession { .. }, None) => {
                // It was local, here or on the server from which it has moved.
                self.local.remove(header.session);
            }
            (Txn::CreateSession { timeout_ms }, Some(Origin { conn, .. })) => {
                if self.duty == Duty::Forward {
                    self.attached.insert(header.session, conn);
                }
                deliver.session_opened(conn, header.session, *timeout_ms);
            }
            (Txn::CloseSession { .. }, _) => {
                self.sessions.remove(header.session);
                self.owners.remove(header.session);
                let attached = self.attached.remove(&header.session);
                if let Some(Origin { conn, xid }) = origin {
                    answer(deliver, tree, watches, conn, xid, zxid, &txn, &outcome);
                    deliver.close(conn);
                }
                // Another one may have come for the session meanwhile.
                if let Some(conn) = attached.filter(|attached| origin.is_none_or(|origin| origin.conn != *attached)) {
                    deliver.close(conn);
                }
            }
            (txn, Some(Origin { conn, .. })) if is_moved(txn) => {
                // Never told (client-protocol 2.12).
                deliver.close(conn);
            }
            (_, Some(Origin { conn, xid })) => {
                answer(deliver, tree, watches, conn, xid, zxid, &txn, &outcome);
            }
            (_, None) => {}
        }
    }
}

/// Whether the session had moved to another connection, for a multi for one of its members.
fn is_moved(txn: &Txn) -> bool {
    match txn {
        Txn::Error { code } => *code == ErrorCode::SessionMoved.code(),
        Txn::Multi(members) => members.iter().any(is_moved),
        _ => false,
    }
}

/// Java: `DataTree.updateWriteStat`.
fn count_written(written: &mut Namespaces, txn: &Txn, outcome: &Outcome) {
    let mut count = |path: &Text, data: usize| written.add(path, (path.len() + data) as i64);
    match (txn, outcome) {
        (_, Outcome::Failed(_)) => {}
        (Txn::Create(create), _) => count(&create.path, create.data.as_ref().map_or(0, |data| data.len())),
        (Txn::SetData { path, data, .. }, _) => count(path, data.as_ref().map_or(0, |data| data.len())),
        (Txn::Delete { path, .. }, _) => count(path, 0),
        (Txn::CloseSession { paths: Some(paths) }, _) => paths.iter().for_each(|path| count(path, 0)),
        (Txn::Multi(members), Outcome::Multi(outcomes)) => {
            members.iter().zip(outcomes).for_each(|(member, outcome)| count_written(written, member, outcome));
        }
        _ => {}
    }
}

/// A request in its place: whose it is, and whether that session may ask at all.
struct Asks<'a> {
    session: SessionId,
    cxid: i32,
    identities: &'a [Identity],
    check: Result<(), ErrorCode>,
}

/// Who asks for a change.
struct Asked {
    conn: ConnId,
    session: SessionId,
    xid: i32,
    identities: Arc<[Identity]>,
}

#[expect(clippy::too_many_arguments, reason = "the parts of one reply")]
fn answer(
    deliver: &mut impl Deliver,
    tree: &Tree,
    watches: &mut WatchTable,
    conn: ConnId,
    xid: i32,
    zxid: Zxid,
    txn: &Txn,
    outcome: &Outcome,
) {
    deliver.answer(conn, tree, watches, |out| reply::write_reply(out, xid, zxid, txn, outcome));
}

/// Turns changes of the tree into events.
struct Announce<'a, D> {
    watches: &'a mut WatchTable,
    deliver: &'a mut D,
    zxid: Zxid,
}

impl<D: Deliver> Witness for Announce<'_, D> {
    fn created(&mut self, path: &str, acl: &[Acl], parent: &str, parent_acl: &[Acl]) {
        let Self { watches, deliver, zxid } = self;
        watches.on_created(path, parent, |conn, event, at| {
            let guard = if event == EventType::ChildrenChanged { parent_acl } else { acl };
            deliver.event(conn, *zxid, event, at, guard);
        });
    }

    fn deleted(&mut self, path: &str, acl: &[Acl], parent: &str, parent_acl: &[Acl]) {
        let Self { watches, deliver, zxid } = self;
        watches.on_deleted(path, parent, |conn, event, at| {
            let guard = if event == EventType::ChildrenChanged { parent_acl } else { acl };
            deliver.event(conn, *zxid, event, at, guard);
        });
    }

    fn data_changed(&mut self, path: &str, acl: &[Acl]) {
        let Self { watches, deliver, zxid } = self;
        watches.on_data_changed(path, |conn, event, at| deliver.event(conn, *zxid, event, at, acl));
    }
}

/// The identity list that every connection starts with.
pub fn initial_identities(address: &str) -> Arc<[Identity]> {
    Arc::from([Identity { scheme: Text::from_static("ip"), id: address.into() }])
}
