//! The judgement: which of the promises a history breaks.
//!
//! One pass over the merged log, transaction by transaction: at each place the model decides anew what was asked there,
//! and answers every read that says it was made there. Around it are sorts: of writes by time, of replies by
//! connection, of sessions by life. A million operations take seconds.

use std::collections::{BTreeMap, HashMap, HashSet};

use jute::Text;

use super::log::{Record, Txn, follows};
use super::model::{Change, Model, OPERATION_TIMEOUT, SEQUENTIAL, SESSION_EXPIRED, SESSION_MOVED};
use super::watches::{self, CaughtUp, Changes};
use super::{Answer, History, Link, Nanos, Operation, Outcome, Received, Request};

/// A promise.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Property {
    /// The members have one log, without a gap, in which each zxid is given once.
    L1,
    /// The order of transactions respects real time.
    W1,
    /// A request takes effect at most once, and nothing happens that nobody asked for.
    W2,
    /// What is decided about a request, above all an error, is right at its place.
    W3,
    /// Everything acknowledged is in the log, at the zxid of the reply.
    D1,
    /// In the end all members have the same tree, the one that follows from the log.
    D2,
    /// A read finds the state of exactly the zxid in its reply.
    R1,
    /// The zxid that a session sees never falls.
    R2,
    /// Replies come in the order of the requests, and a connection's writes take effect in that order, none left out
    /// before one that did.
    R4,
    /// Nothing is read before somebody asked for it.
    R6,
    /// A sync shows everything that was committed when its leader heard of it.
    Y1,
    /// A multi happens as a whole, and its results say so.
    M1,
    /// Numbers of sequential nodes grow, and none is given twice.
    Q1,
    /// The answer to a write has the path and the Stat that its transaction makes.
    T1,
    /// A session's nodes go with it, and it does nothing when it is closed.
    E1,
    /// No session expires early.
    E2,
    /// None stays when its time is over.
    E3,
    /// Who comes back to a session gets it, or hears that it is over when it is.
    E4,
    /// A connection that the session has left writes nothing any more.
    E5,
    /// An event comes before any reply that could show what it tells.
    V1,
    /// Events come in the order of their changes.
    V2,
    /// No event is left out.
    V3,
    /// No event comes twice or for nothing.
    V4,
    /// A client that takes its watches along hears exactly what it missed.
    V5,
}

/// A promise that was broken, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    pub property: Property,
    pub what: String,
}

/// How strict to be about `sync`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Sync {
    /// As Java: a leader that does not know yet that it was replaced may answer.
    #[default]
    Sequential,
    /// Everything whose reply came before the sync was asked for.
    Linearizable,
}

/// What was looked at.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Figures {
    pub transactions: usize,
    pub sessions: usize,
    pub links: usize,
    pub writes: usize,
    pub refused_writes: usize,
    /// Writes without an answer, and how many of them happened.
    pub unknown: usize,
    pub unknown_happened: usize,
    pub reads: usize,
    pub events: usize,
    pub syncs: usize,
    /// Syncs that did not show everything that was acknowledged before.
    pub stale_syncs: usize,
    pub expired: usize,
}

#[derive(Clone, Debug, Default)]
pub struct Report {
    pub figures: Figures,
    pub violations: Vec<Violation>,
}

/// What follows from the first of them says nothing new.
const MOST: usize = 20;

/// Between a clock in milliseconds and one in nanoseconds that were started one after the other.
const CLOCK_SLACK_MS: i64 = 5;

pub fn check(history: &History, sync: Sync) -> Report {
    let mut judge =
        Judge { history, log: Vec::new(), asked: HashMap::new(), lives: HashMap::new(), report: Report::default() };
    judge.take_log();
    judge.take_operations();
    judge.check_links();
    judge.check_order();
    judge.check_future();
    judge.check_syncs(sync);
    judge.check_sessions();
    let (changes, caught_up) = judge.replay();
    let changes = Changes::new(changes, &history.links);
    for (at, link) in history.links.iter().enumerate() {
        watches::check_link(at, link, &changes, &caught_up, &mut judge.report.violations);
    }
    judge.report.violations.truncate(MOST);
    judge.report
}

/// Where an operation is.
type At = (usize, usize);

/// What the log says about a session.
#[derive(Clone, Copy, Debug, Default)]
struct Life {
    closed: Option<i64>,
}

struct Judge<'a> {
    history: &'a History,
    log: Vec<&'a Record>,
    /// Writes by session and xid.
    asked: HashMap<(i64, i32), At>,
    lives: HashMap<i64, Life>,
    report: Report,
}

impl<'a> Judge<'a> {
    fn found(&mut self, property: Property, what: String) {
        self.report.violations.push(Violation { property, what });
    }

    fn operation(&self, (link, at): At) -> &'a Operation {
        &self.history.links[link].operations[at]
    }

    fn operations(&self) -> impl Iterator<Item = (At, &'a Link, &'a Operation)> + use<'a> {
        let links = self.history.links.iter().enumerate();
        links.flat_map(|(at, link)| {
            link.operations.iter().enumerate().map(move |(index, operation)| ((at, index), link, operation))
        })
    }

    fn logged(&self, zxid: i64) -> Option<&'a Record> {
        self.log.binary_search_by_key(&zxid, |record| record.zxid).ok().map(|at| self.log[at])
    }

    // ---- the log ----

    fn take_log(&mut self) {
        let mut merged: BTreeMap<i64, &'a Record> = BTreeMap::new();
        for (member, records) in self.history.logs.iter().enumerate() {
            let mut last: Option<i64> = None;
            for record in records {
                if let Some(last) = last
                    && !follows(last, record.zxid)
                {
                    let what = format!("member {member}: 0x{:x} is logged behind 0x{last:x}", record.zxid);
                    self.found(Property::L1, what);
                }
                last = Some(record.zxid);
                let known = merged.entry(record.zxid).or_insert(record);
                if *known != record {
                    let what = format!("member {member} has {record:?}, another has {known:?}");
                    self.found(Property::L1, what);
                }
            }
        }
        self.log = merged.into_values().collect();
        let mut last = 0;
        for record in &self.log {
            if !follows(last, record.zxid) {
                let what = format!("no member has what lies between 0x{last:x} and 0x{:x}", record.zxid);
                self.report.violations.push(Violation { property: Property::L1, what });
            }
            last = record.zxid;
            if let Txn::CloseSession { .. } = record.txn {
                self.lives.entry(record.session).or_default().closed = Some(record.zxid);
            }
        }
        self.report.figures.transactions = self.log.len();
    }

    fn take_operations(&mut self) {
        let history = self.history;
        for oddity in &history.oddities {
            self.found(Property::R4, oddity.clone());
        }
        for (at, link, operation) in self.operations() {
            if operation.request.is_write() {
                self.asked.insert((link.session, operation.xid), at);
            }
            let figures = &mut self.report.figures;
            match (operation.request.is_write(), &operation.answer) {
                (true, Some(answer)) => {
                    figures.writes += 1;
                    figures.refused_writes += usize::from(answer.err != 0);
                }
                (true, None) => figures.unknown += 1,
                (false, Some(_)) => figures.reads += 1,
                (false, None) => {}
            }
        }
        let sessions: HashSet<i64> = history.links.iter().map(|link| link.session).collect();
        let events =
            |link: &Link| link.received.iter().filter(|received| matches!(received, Received::Event(_))).count();
        self.report.figures.sessions = sessions.len();
        self.report.figures.links = history.links.len();
        self.report.figures.events = history.links.iter().map(events).sum();
    }

    // ---- one connection at a time ----

    fn check_links(&mut self) {
        let history = self.history;
        for (at, link) in history.links.iter().enumerate() {
            let mut seen = link.last_seen;
            let mut next = 0;
            for received in &link.received {
                let Received::Answer(index) = received else { continue };
                let operation = &link.operations[*index];
                if *index != next {
                    let what = format!("link {at}: the reply to request {} came out of turn", operation.xid);
                    self.found(Property::R4, what);
                }
                next = index + 1;
                let Some(answer) = &operation.answer else { continue };
                if answer.zxid < seen && answer.err != OPERATION_TIMEOUT {
                    let session = link.session;
                    let what = format!(
                        "session 0x{session:x}, link {at}: a reply of 0x{:x} after one of 0x{seen:x}: {operation:?}",
                        answer.zxid
                    );
                    self.found(Property::R2, what);
                }
                seen = seen.max(answer.zxid);
            }
        }
    }

    // ---- writes in real time ----

    fn check_order(&mut self) {
        let mut effects: HashMap<(i64, i32), Vec<&'a Record>> = HashMap::new();
        for record in self.log.iter().filter(|record| record.cxid > 0) {
            effects.entry((record.session, record.cxid)).or_default().push(record);
        }
        let mut twice: Vec<_> = effects.values().filter(|records| records.len() > 1).collect();
        twice.sort_by_key(|records| records[0].zxid);
        for records in twice {
            self.found(Property::W2, format!("one request took effect twice: {records:?}"));
        }

        let mut invoked: Vec<(Nanos, i64, At)> = Vec::new();
        let mut returned: Vec<(Nanos, i64)> = Vec::new();
        for (at, link, operation) in self.operations().filter(|(_, _, operation)| operation.request.is_write()) {
            let logged = effects.get(&(link.session, operation.xid)).and_then(|records| records.first());
            match &operation.answer {
                Some(answer) if !takes_a_place(answer) => {
                    if let Some(record) = logged {
                        self.found(Property::W3, format!("{operation:?} was refused, and yet there is {record:?}"));
                    }
                }
                Some(answer) => {
                    returned.push((answer.returned, answer.zxid));
                    invoked.push((operation.invoked, answer.zxid, at));
                    self.check_acknowledged(link, operation, answer, logged.copied());
                }
                None => {
                    if let Some(record) = logged {
                        self.report.figures.unknown_happened += 1;
                        invoked.push((operation.invoked, record.zxid, at));
                    }
                }
            }
        }
        returned.sort_unstable();
        invoked.sort_unstable();
        let mut before = returned.iter().peekable();
        let mut highest = 0;
        for (when, zxid, at) in invoked {
            while let Some((_, zxid)) = before.next_if(|(returned, _)| *returned < when) {
                highest = highest.max(*zxid);
            }
            if zxid <= highest {
                let operation = self.operation(at);
                let what =
                    format!("0x{highest:x} had been acknowledged when {operation:?} was sent, which got 0x{zxid:x}");
                self.found(Property::W1, what);
            }
        }
        self.check_turns(&effects);
    }

    fn check_acknowledged(&mut self, link: &Link, operation: &Operation, answer: &Answer, logged: Option<&Record>) {
        match logged {
            Some(record) if record.zxid == answer.zxid => {}
            Some(record) => {
                self.found(Property::D1, format!("{operation:?} was acknowledged, but is logged as {record:?}"));
            }
            None => {
                let there = self.logged(answer.zxid);
                let what = format!(
                    "session 0x{:x}: {operation:?} was acknowledged and is not in the log; at its place is {there:?}",
                    link.session
                );
                self.found(Property::D1, what);
            }
        }
    }

    /// A session's writes in the log are in the order of its requests, and none is left out on a connection
    /// before one that is there.
    fn check_turns(&mut self, effects: &HashMap<(i64, i32), Vec<&'a Record>>) {
        let mut last: HashMap<i64, (i32, i64)> = HashMap::new();
        let is_effect = |record: &Record| match &record.txn {
            Txn::Error(SESSION_MOVED | SESSION_EXPIRED) => false,
            Txn::Multi(parts) => !matches!(parts.first(), Some(Txn::Error(SESSION_MOVED | SESSION_EXPIRED))),
            _ => true,
        };
        let mut overtaken = Vec::new();
        for record in self.log.iter().filter(|record| record.cxid > 0 && is_effect(record)) {
            if let Some((cxid, zxid)) = last.insert(record.session, (record.cxid, record.zxid))
                && cxid > record.cxid
            {
                overtaken.push(format!("request {cxid} took effect at 0x{zxid:x}, before {record:?}"));
            }
        }
        for (at, link) in self.history.links.iter().enumerate() {
            let mut missing: Option<&Operation> = None;
            for operation in link.operations.iter().filter(|operation| operation.request.is_write()) {
                let has_happened = effects.contains_key(&(link.session, operation.xid));
                if !has_happened && operation.answer.is_none() {
                    missing = missing.or(Some(operation));
                } else if let Some(missing) = missing {
                    let what = format!("link {at}: {missing:?} did not happen, and {operation:?} did");
                    overtaken.push(what);
                    break;
                }
            }
        }
        for what in overtaken {
            self.found(Property::R4, what);
        }
    }

    /// A reply shows no transaction that had not been asked for when it came.
    fn check_future(&mut self) {
        let mut latest = 0;
        let mut begun: Vec<(i64, Nanos)> = Vec::with_capacity(self.log.len());
        for record in &self.log {
            let asked = self.asked.get(&(record.session, record.cxid)).filter(|_| record.cxid > 0);
            latest = asked.map_or(latest, |at| latest.max(self.operation(*at).invoked));
            begun.push((record.zxid, latest));
        }
        for (_, link, operation) in self.operations() {
            let Some(answer) = &operation.answer else { continue };
            let count = begun.partition_point(|(zxid, _)| *zxid <= answer.zxid);
            let Some((_, begun)) = count.checked_sub(1).map(|last| begun[last]) else { continue };
            if begun > answer.returned {
                let what =
                    format!("session 0x{:x}: {operation:?} shows what was asked for only at {begun}", link.session);
                self.found(Property::R6, what);
            }
        }
    }

    fn check_syncs(&mut self, strictness: Sync) {
        // By epoch, what the clients knew of at which time: times and the highest zxid so far.
        let mut known: BTreeMap<i64, Vec<(Nanos, i64)>> = BTreeMap::new();
        for (_, _, operation) in self.operations().filter(|(_, _, operation)| operation.request.is_write()) {
            if let Some(answer) = operation.answer.as_ref().filter(|answer| takes_a_place(answer)) {
                known.entry(answer.zxid >> 32).or_default().push((answer.returned, answer.zxid));
            }
        }
        for list in known.values_mut() {
            list.sort_unstable();
            let mut highest = 0;
            for (_, zxid) in list {
                highest = highest.max(*zxid);
                *zxid = highest;
            }
        }
        let known_at = |when: Nanos, epochs: i64| {
            known.range(..=epochs).rev().find_map(|(_, list)| {
                let count = list.partition_point(|(returned, _)| *returned < when);
                count.checked_sub(1).map(|last| list[last].1)
            })
        };
        for (_, link, operation) in self.operations() {
            let (Request::Sync { .. }, Some(answer)) = (&operation.request, &operation.answer) else { continue };
            if answer.err != 0 {
                continue;
            }
            self.report.figures.syncs += 1;
            let stale = |epochs: i64| known_at(operation.invoked, epochs).filter(|zxid| *zxid > answer.zxid);
            let any = stale(i64::MAX);
            self.report.figures.stale_syncs += usize::from(any.is_some());
            let broken = if strictness == Sync::Linearizable { any } else { stale(answer.zxid >> 32) };
            if let Some(zxid) = broken {
                let what = format!(
                    "session 0x{:x} at server {}: 0x{zxid:x} had been acknowledged before {operation:?}",
                    link.session, link.server
                );
                self.found(Property::Y1, what);
            }
        }
    }

    // ---- sessions ----

    fn check_sessions(&mut self) {
        let history = self.history;
        let mut by_session: BTreeMap<i64, Vec<&Link>> = BTreeMap::new();
        for link in &history.links {
            by_session.entry(link.session).or_default().push(link);
            if link.wanted != 0 && link.wanted != link.session {
                let what = format!("session 0x{:x} was asked for, and 0x{:x} given", link.wanted, link.session);
                self.found(Property::E4, what);
            }
        }
        for refusal in &history.refusals {
            if self.lives.get(&refusal.session).is_none_or(|life| life.closed.is_none()) {
                self.found(Property::E4, format!("{refusal:?}, though the session was never closed"));
            }
        }
        for (session, links) in by_session {
            for link in &links {
                let left = links.iter().map(|other| other.attached).filter(|attached| *attached > link.attached).min();
                let Some(left) = left else { continue };
                let late = link.operations.iter().find(|operation| {
                    let is_done = operation.answer.as_ref().is_some_and(|answer| answer.err == 0);
                    is_done && operation.request.is_write() && operation.invoked > left
                });
                if let Some(operation) = late {
                    let what = format!(
                        "session 0x{session:x} had moved from server {} at {left}, and yet there {operation:?}",
                        link.server
                    );
                    self.found(Property::E5, what);
                }
            }
            self.check_end(session, &links);
        }
    }

    /// When the session was closed, unless by its client: not early, and not late.
    fn check_end(&mut self, session: i64, links: &[&Link]) {
        let history = self.history;
        let timeout_ms = i64::from(links.iter().map(|link| link.timeout_ms).max().unwrap_or(0));
        let closed = self.lives.get(&session).and_then(|life| life.closed);
        let operations = || links.iter().flat_map(|link| &link.operations);
        let Some(zxid) = closed else {
            let last = links.iter().map(|link| link.attached).chain(operations().map(|operation| operation.invoked));
            let last = last.max().unwrap_or(0);
            if let Some(calm) = history.calm
                && last < calm.from
                && (calm.to - calm.from) / 1_000_000 > timeout_ms as u64 + 2 * calm.tick.as_millis() as u64 + 1000
            {
                let what =
                    format!("session 0x{session:x} of {timeout_ms} ms was last used at {last}, and is open still");
                self.found(Property::E3, what);
            }
            return;
        };
        let record = self.logged(zxid).expect("it was read from the log");
        if record.cxid != 0 {
            return;
        }
        self.report.figures.expired += 1;
        let closed_ms = record.time - history.began_wall;
        // A leader knows of what it answered itself. An attachment it may know of is one that came before.
        let attached =
            links.iter().filter(|link| ((link.attached / 1_000_000) as i64) < closed_ms).map(|link| link.asked);
        let written = operations().filter(|operation| {
            let answer = operation.answer.as_ref().filter(|answer| takes_a_place(answer) && answer.zxid < zxid);
            operation.request.is_write() && answer.is_some()
        });
        let last = attached.chain(written.map(|operation| operation.invoked)).max().unwrap_or(0);
        let last_ms = (last / 1_000_000) as i64;
        if closed_ms + CLOCK_SLACK_MS < last_ms + timeout_ms {
            let what = format!(
                "session 0x{session:x} of {timeout_ms} ms was in use at {last_ms} ms and expired at {closed_ms} ms: {record:?}"
            );
            self.found(Property::E2, what);
        }
    }

    // ---- replay ----

    fn replay(&mut self) -> (Vec<Change>, CaughtUp) {
        let mut reads: Vec<(i64, At)> = Vec::new();
        for (at, _, operation) in self.operations() {
            if let Some(answer) = operation.answer.as_ref().filter(|_| !operation.request.is_write()) {
                reads.push((answer.zxid, at));
            }
        }
        reads.sort_unstable();
        let mut dumps: Vec<_> = self.history.dumps.iter().collect();
        dumps.sort_by_key(|dump| dump.zxid);
        let mut reads = reads.into_iter().peekable();
        let mut dumps = dumps.into_iter().peekable();

        let recorded: HashSet<i64> = self.history.links.iter().map(|link| link.session).collect();
        let mut model = Model::default();
        let mut changes = Vec::new();
        let mut caught_up = CaughtUp::new();
        let mut numbers: HashMap<Text, i64> = HashMap::new();
        let log = std::mem::take(&mut self.log);
        let mut position = 0;
        loop {
            // Everything that was seen before the next transaction.
            let next = log.get(position).map_or(i64::MAX, |record| record.zxid);
            let last = position.checked_sub(1).map_or(0, |last| log[last].zxid);
            while let Some((zxid, at)) = reads.next_if(|(zxid, _)| *zxid < next) {
                self.check_read(&model, at, zxid, last, &mut caught_up);
            }
            while let Some(dump) = dumps.next_if(|dump| dump.zxid < next) {
                self.check_dump(&model, dump, last);
            }
            let Some(record) = log.get(position) else { break };
            self.check_record(&mut model, record, &recorded, &mut numbers, &mut changes);
            position += 1;
            if self.report.violations.len() >= MOST {
                break;
            }
        }
        self.check_convergence();
        (changes, caught_up)
    }

    fn check_read(&mut self, model: &Model, at: At, zxid: i64, last: i64, caught_up: &mut CaughtUp) {
        let operation = self.operation(at);
        let answer = operation.answer.as_ref().expect("only answered reads are looked at");
        // The session is being closed: it is answered nothing any more.
        if answer.err == SESSION_EXPIRED || answer.err == OPERATION_TIMEOUT {
            return;
        }
        // A new leader stands at the beginning of its epoch until there is a transaction in it.
        if zxid != last && zxid & 0xffff_ffff != 0 {
            let what = format!("{operation:?} was made at 0x{zxid:x}, which is nowhere; the last before is 0x{last:x}");
            self.found(Property::R1, what);
            return;
        }
        if let Request::SetWatches(rewatch) = &operation.request {
            caught_up.insert(at, model.caught_up(rewatch));
        }
        let (err, outcome) = model.read(&operation.request);
        if (err, &outcome) != (answer.err, &answer.outcome) {
            let what = format!("{operation:?} should have found {err} {outcome:?}");
            self.found(Property::R1, what);
        }
    }

    fn check_dump(&mut self, model: &Model, dump: &super::Dump, last: i64) {
        if dump.zxid != last && dump.zxid & 0xffff_ffff != 0 {
            self.found(Property::D2, format!("server {} stands at 0x{:x}, which is nowhere", dump.server, dump.zxid));
            return;
        }
        let expected = model.dump();
        for (path, node) in &expected {
            let found = dump.nodes.get(path);
            if found != Some(node) {
                let what = format!("server {}: {path} should be {node:?} and is {found:?}", dump.server);
                self.found(Property::D2, what);
                return;
            }
        }
        if let Some((path, found)) = dump.nodes.iter().find(|(path, _)| !expected.contains_key(*path)) {
            let what = format!("server {}: {path} should not be there: {found:?}", dump.server);
            self.found(Property::D2, what);
        }
    }

    fn check_convergence(&mut self) {
        let history = self.history;
        let Some(first) = history.dumps.first() else { return };
        for dump in &history.dumps {
            if dump.zxid != first.zxid {
                let what = format!(
                    "server {} stands at 0x{:x} and server {} at 0x{:x}",
                    first.server, first.zxid, dump.server, dump.zxid
                );
                self.found(Property::D2, what);
            }
        }
    }

    fn check_record(
        &mut self,
        model: &mut Model,
        record: &Record,
        recorded: &HashSet<i64>,
        numbers: &mut HashMap<Text, i64>,
        changes: &mut Vec<Change>,
    ) {
        let Record { session, cxid, zxid, time, ref txn } = *record;
        let at = self.asked.get(&(session, cxid)).copied().filter(|_| cxid > 0);
        self.check_session_txn(model, record);
        let Some(at) = at else {
            let is_own = cxid == 0 && matches!(txn, Txn::OpenSession { .. } | Txn::CloseSession { .. });
            if recorded.contains(&session) && !is_own {
                self.found(Property::W2, format!("nobody asked for {record:?}"));
            }
            model.apply(record, changes);
            return;
        };
        let operation = self.operation(at);
        let refusal = match txn {
            Txn::Multi(parts) => parts.first(),
            single => Some(single),
        };
        let is_excused = match refusal {
            Some(Txn::Error(SESSION_EXPIRED)) => self.lives.get(&session).is_some_and(|life| life.closed.is_some()),
            Some(Txn::Error(SESSION_MOVED)) => {
                self.history.links.iter().filter(|link| link.session == session).nth(1).is_some()
            }
            _ => false,
        };
        if !is_excused {
            let decided = model.decide(session, zxid, time, &operation.request);
            if !same_decision(&decided, txn) {
                let property = blame(&operation.request, &decided, txn);
                let what =
                    format!("session 0x{session:x}: {operation:?} should be {decided:?} at 0x{zxid:x}, and is {txn:?}");
                self.found(property, what);
            }
        }
        let (err, outcome) = model.apply(record, changes);
        if let (Request::Create { flags, path, .. }, Txn::Create { path: made, .. }) = (&operation.request, txn)
            && flags & SEQUENTIAL != 0
        {
            self.check_number(path, made, zxid, numbers);
        }
        let outcome = outcome.shaped_by(&operation.request);
        if let Some(answer) = operation.answer.as_ref().filter(|answer| answer.zxid == zxid)
            && (answer.err, &answer.outcome) != (err, &outcome)
        {
            let property = match (&operation.request, &outcome, &answer.outcome) {
                (Request::Multi(_), ..) => Property::M1,
                _ if answer.err != err => Property::W3,
                (Request::Create { flags, .. }, Outcome::Path(right), Outcome::Path(wrong))
                    if flags & SEQUENTIAL != 0 && right != wrong =>
                {
                    Property::Q1
                }
                _ => Property::T1,
            };
            self.found(property, format!("session 0x{session:x}: {operation:?} should be answered {err} {outcome:?}"));
        }
    }

    /// What must hold of the session, whatever the transaction is.
    fn check_session_txn(&mut self, model: &Model, record: &Record) {
        let is_open = model.sessions().contains_key(&record.session);
        match &record.txn {
            Txn::OpenSession { .. } if is_open => {
                self.found(Property::E1, format!("the session of {record:?} is open already"));
            }
            Txn::OpenSession { .. } | Txn::Error(_) => {}
            Txn::CloseSession { paths } => {
                let mut listed = paths.clone();
                listed.sort();
                let owned = model.ephemerals(record.session);
                if listed != owned {
                    self.found(Property::E1, format!("{record:?}: the session owns {owned:?}"));
                }
            }
            Txn::Multi(parts) if parts.iter().any(|part| matches!(part, Txn::Error(_))) => {}
            _ if !is_open => self.found(Property::E1, format!("the session of {record:?} is not open")),
            _ => {}
        }
    }

    fn check_number(&mut self, asked: &Text, made: &Text, zxid: i64, numbers: &mut HashMap<Text, i64>) {
        let number =
            made.strip_prefix(&**asked).filter(|digits| digits.len() == 10).and_then(|d| d.parse::<i64>().ok());
        let Some(number) = number else {
            self.found(Property::Q1, format!("0x{zxid:x}: {asked} became {made}"));
            return;
        };
        let parent = super::model::parent(made).unwrap_or_default();
        if let Some(before) = numbers.insert(parent, number)
            && before >= number
        {
            self.found(Property::Q1, format!("0x{zxid:x}: {made} comes after number {before}"));
        }
    }
}

/// Whether an answered write has a transaction: one for which there was no room has none.
fn takes_a_place(answer: &Answer) -> bool {
    answer.err != OPERATION_TIMEOUT
}

fn same_decision(decided: &Txn, logged: &Txn) -> bool {
    match (decided, logged) {
        (Txn::CloseSession { .. }, Txn::CloseSession { .. }) => true,
        _ => decided == logged,
    }
}

/// Which promise a wrong decision breaks.
fn blame(request: &Request, decided: &Txn, logged: &Txn) -> Property {
    match (request, decided, logged) {
        (Request::Multi(_), _, Txn::Multi(_)) => Property::M1,
        (_, Txn::Error(_), _) | (_, _, Txn::Error(_)) => Property::W3,
        (Request::Create { flags, .. }, Txn::Create { path: a, .. }, Txn::Create { path: b, .. })
            if flags & SEQUENTIAL != 0 && a != b =>
        {
            Property::Q1
        }
        _ => Property::W2,
    }
}
