//! What clients are told: replies and events into the queues of their connections, in the order of what was applied.

use std::cell::{RefCell, RefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use parking_lot::MappedRwLockReadGuard;
use tracing::{debug, warn};

use super::Shared;
use crate::acl::{self, Acl};
use crate::id::{ConnId, SessionId, Zxid};
use crate::net::conn::{Asked, Conn, Conns, MAX_UNREAD, OnTheSpot, Phase, State};
use crate::node::{Deliver, read, reply};
use crate::proto::op;
use crate::session::{Mono, password};
use crate::stats::Replies;
use crate::tree::Tree;
use crate::watch::{EventType, WatchTable};

/// Carries replies and events to the connections while a batch is applied.
pub struct Delivery<'a> {
    shared: &'a Shared,
    conns: MappedRwLockReadGuard<'a, Conns>,
    /// Connections that have something to send now; each once.
    woken: &'a mut Vec<Arc<Conn>>,
    now: Mono,
    replies: Replies,
    answered: u64,
    /// Requests that were not answered, because their client does not read.
    parked: usize,
    /// Events, and answers to ConnectRequests.
    events: u64,
}

impl<'a> Delivery<'a> {
    pub fn new(shared: &'a Shared, woken: &'a mut Vec<Arc<Conn>>) -> Self {
        let conns = shared.registry.lock();
        let now = shared.clock.mono();
        Self { shared, conns, woken, now, replies: Replies::default(), answered: 0, parked: 0, events: 0 }
    }

    fn with(&mut self, conn: ConnId, act: impl FnOnce(&Conn, &mut State, &mut Replies)) {
        let Some(conn) = self.conns.get(&conn) else { return };
        act(conn, &mut conn.state.lock(), &mut self.replies);
        if conn.mark_woken() {
            self.woken.push(conn.clone());
        }
    }
}

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        let counters = &self.shared.counters;
        counters.measures.lock().add_replies(&self.replies);
        counters.sent.fetch_add(self.answered + self.events, Ordering::Relaxed);
        self.shared.on_finished(self.answered as usize + self.parked);
    }
}

impl Deliver for Delivery<'_> {
    fn answer(&mut self, conn: ConnId, tree: &Tree, watches: &mut WatchTable, reply: impl FnOnce(&mut BytesMut)) {
        let (shared, now) = (self.shared, self.now);
        let (mut answered, mut parked) = (0, 0);
        let watches = RefCell::new(watches);
        self.with(conn, |conn, state, replies| {
            let asked = state.gate.on_write_answered();
            answered += 1;
            if !state.is_sending() {
                replies.stale += 1;
                // Nor is what came behind it answered; the next write to be answered must be next.
                while state.gate.next_read().is_some() {
                    answered += 1;
                }
                return;
            }
            let start = state.out.len();
            reply(&mut state.out);
            let bytes = state.out.len() - start;
            replies.add_update(state.stats.on_answered(asked, tree.last_zxid(), now), bytes);
            // What comes before another write must be answered before that is applied; the rest may wait until
            // the client has read what it has.
            while (state.out.len() < MAX_UNREAD || state.gate.has_writes())
                && let Some((asked, request)) = state.gate.next_read()
            {
                answered += 1;
                let lock = || RefMut::map(watches.borrow_mut(), |table| &mut **table);
                answer_on_the_spot(shared, conn, state, replies, tree, lock, now, (asked, request));
            }
            parked = state.park();
        });
        self.answered += answered;
        self.parked += parked;
    }

    fn event(&mut self, conn: ConnId, zxid: Zxid, event: EventType, path: &str, acl: &[Acl]) {
        let shared = self.shared;
        let mut events = 0;
        self.with(conn, |conn, state, replies| {
            if !state.is_sending() || acl::authorise(&shared.acl_rules, acl, &state.identities, acl::READ).is_err() {
                return;
            }
            if state.events > MAX_UNREAD_EVENTS {
                warn!(peer = %conn.peer_text(), "a client does not read its events: its connection is closed");
                return state.close();
            }
            let start = state.out.len();
            reply::write_event(&mut state.out, zxid, event, path);
            let bytes = state.out.len() - start;
            replies.add_event(bytes);
            state.events += bytes;
            state.stats.sent += 1;
            events += 1;
        });
        self.events += events;
    }

    fn session_opened(&mut self, conn: ConnId, session: SessionId, timeout_ms: i32) {
        let (now, shared) = (self.now, self.shared);
        let mut opened = 0;
        self.with(conn, |conn, state, replies| {
            let start = state.out.len();
            if open_session(shared, conn, state, session, timeout_ms) {
                let asked = Asked {
                    xid: 0,
                    op: op::CREATE_SESSION,
                    arrived: state.connect_asked,
                    held: None,
                    identities: None,
                };
                let latency = state.stats.on_answered(asked, state.stats.last_zxid, now);
                replies.add_update(latency, state.out.len() - start);
                opened = 1;
            }
        });
        self.events += opened;
    }

    fn close(&mut self, conn: ConnId) {
        self.with(conn, |_, state, _| state.close());
    }
}

/// False if the connection does not wait for it any more.
pub(super) fn open_session(
    shared: &Shared,
    conn: &Conn,
    state: &mut State,
    session: SessionId,
    timeout_ms: i32,
) -> bool {
    if state.phase != Phase::Connecting {
        return false;
    }
    conn.timeout_ms.store(timeout_ms, Ordering::Relaxed);
    conn.session.store(session.0, Ordering::Relaxed);
    state.write_connect_response(session, timeout_ms, &password(session), shared.is_read_only());
    state.phase = Phase::Open;
    debug!(peer = %conn.peer_text(), "Established session 0x{session:x} with negotiated timeout {timeout_ms}");
    true
}

/// Events that a connection may leave unread, in bytes; one that leaves more is closed, and its client
/// catches up when it reconnects.
const MAX_UNREAD_EVENTS: usize = 16 << 20;

/// Bytes of replies that a connection may have queued at all. Reads that stand between two writes are answered together,
/// whether their client takes the replies or not.
const MOST_QUEUED: usize = 256 << 20;

/// Answers a request whose turn it is, into the queue of its connection, and counts the reply.
#[expect(clippy::too_many_arguments, reason = "who asks, what, of which state, and where it is counted")]
pub fn answer_on_the_spot<W: std::ops::DerefMut<Target = WatchTable>>(
    shared: &Shared,
    conn: &Conn,
    state: &mut State,
    replies: &mut Replies,
    tree: &Tree,
    watches: impl Fn() -> W,
    now: Mono,
    (asked, request): (Asked, OnTheSpot),
) {
    let (start, xid) = (state.out.len(), asked.xid);
    match &request {
        OnTheSpot::Refused(error) => reply::write_header(&mut state.out, xid, tree.last_zxid(), error.code()),
        OnTheSpot::Read(request) => {
            let reader = read::Reader {
                conn: conn.id,
                session: conn.session(),
                identities: asked.identities.as_deref().unwrap_or(&state.identities),
                rules: &shared.acl_rules,
                max_reply: shared.max_reply.min(MOST_QUEUED.saturating_sub(start)),
            };
            read::answer(&mut state.out, tree, watches, reader, xid, request);
            if let Some((path, bytes)) = read::shown(request, &state.out[start..]) {
                replies.read.add(path, bytes);
            }
        }
    }
    let bytes = state.out.len() - start;
    replies.add_read(state.stats.on_answered(asked, tree.last_zxid(), now), bytes);
}
