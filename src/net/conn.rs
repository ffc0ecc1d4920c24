//! What the server knows of one client connection, shared between its own task and the Node's thread.
//!
//! Lock order: the Store (read or write), then the state of a connection, then, by readers, the watch table.
//! The Node's thread holds the watch table while it applies, which no reader can do at that time.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use bytes::{Buf, BytesMut};
use foldhash::fast::RandomState;
use jute::Writer;
use parking_lot::{MappedRwLockReadGuard, Mutex, RwLock, RwLockReadGuard};
use tokio::net::tcp::OwnedWriteHalf;

use crate::acl::Identity;
use crate::id::{ConnId, SessionId, Zxid};
use crate::order::Gate;
use crate::proto::ErrorCode;
use crate::proto::request::Read;
use crate::session::Mono;
use crate::stats::Summary;
use crate::throttle::Holds;

/// Bytes of replies that a client may leave unread; beyond, its requests wait.
pub const MAX_UNREAD: usize = 1 << 20;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// No ConnectRequest was accepted yet.
    Fresh,
    /// The Node is asked for the session; nothing is read meanwhile.
    Connecting,
    Open,
    /// What is queued still goes out, then the socket is closed.
    Closing,
    /// The socket is closed, or will be without another byte.
    Closed,
}

/// A request as the statistics see it.
#[derive(Debug)]
pub struct Asked {
    pub xid: i32,
    pub op: i32,
    pub arrived: Mono,
    /// Its place among large requests, until its reply is produced, and among those under way.
    pub held: Option<Box<Holds>>,
    /// Who asked, if the connection has proved more since.
    pub identities: Option<Arc<[Identity]>>,
}

/// What is answered on the spot, once its turn comes.
#[derive(Debug)]
pub enum OnTheSpot {
    Read(Read),
    Refused(ErrorCode),
}

#[derive(Debug)]
pub struct State {
    pub phase: Phase,
    /// As long as the connection has one.
    pub socket: Option<Arc<OwnedWriteHalf>>,
    /// The task has nothing to send and only waits for its client.
    pub rests: bool,
    /// Replies and events in order, not yet handed to the socket.
    pub out: BytesMut,
    /// Bytes of events in it.
    pub events: usize,
    pub gate: Gate<(Asked, OnTheSpot), Asked>,
    /// Of what is in the gate, so many wait for nothing but their own client, which does not read: that is no work of
    /// the server's which others should make way for.
    pub parked: usize,
    pub identities: Arc<[Identity]>,
    pub stats: ConnStats,
    /// The ConnectRequest had the readOnly byte.
    pub sent_read_only: bool,
    /// The session that the ConnectRequest asked for, and when that came.
    pub asked_session: SessionId,
    pub connect_asked: Mono,
    /// The client closed its session: whatever it sends after that is ignored.
    pub leaving: bool,
}

impl State {
    /// What waits was asked before they were proved, and is judged without them.
    pub fn add_identities(&mut self, new: Vec<Identity>) {
        for (asked, _) in self.gate.reads_mut() {
            asked.identities.get_or_insert_with(|| self.identities.clone());
        }
        self.identities = self.identities.iter().cloned().chain(new).collect();
    }

    /// Whether what is appended to `out` will still reach the client.
    pub fn is_sending(&self) -> bool {
        matches!(self.phase, Phase::Connecting | Phase::Open)
    }

    /// What is queued still goes out.
    pub fn close(&mut self) {
        if self.phase != Phase::Closed {
            self.phase = Phase::Closing;
        }
    }

    /// What is next in the gate waits for the client alone, and so does all behind it. How many are so by now that were
    /// not before.
    pub fn park(&mut self) -> usize {
        let all = if self.gate.is_read_next() { self.gate.len() } else { 0 };
        let more = all.saturating_sub(self.parked);
        self.parked += more;
        more
    }

    /// `answered` of those that were next in the gate are out of it. How many of them still count as the server's work.
    pub fn unpark(&mut self, answered: usize) -> usize {
        let parked = self.parked.min(answered);
        self.parked -= parked;
        answered - parked
    }

    /// Whether all that is queued went out and the task need not hear of it.
    fn send_at_once(&mut self) -> bool {
        let Some(socket) = self.socket.as_ref().filter(|_| self.rests && self.phase == Phase::Open) else {
            return false;
        };
        // Why it does not go is for the task to find out.
        let sent = if self.out.is_empty() { 0 } else { socket.try_write(&self.out).unwrap_or(0) };
        if sent < self.out.len() {
            self.out.advance(sent);
            return false;
        }
        self.out = BytesMut::new();
        self.events = 0;
        !self.gate.is_read_next()
    }

    /// The answer to a ConnectRequest. Old clients, which did not send the readOnly byte, don't get it
    /// either.
    pub fn write_connect_response(
        &mut self,
        session: SessionId,
        timeout_ms: i32,
        password: &[u8; 16],
        is_read_only: bool,
    ) {
        let start = self.out.len();
        let mut w = Writer::new(&mut self.out);
        w.int(0);
        w.int(0);
        w.int(timeout_ms);
        w.long(session.0);
        w.buffer(Some(password));
        if self.sent_read_only {
            w.bool(is_read_only);
        }
        let length = (self.out.len() - start - 4) as i32;
        self.out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
}

/// What the word `cons` shows of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnStats {
    pub received: u64,
    pub sent: u64,
    pub last_op: Option<i32>,
    /// Of a request of the client's own: pings and the like have negative ones.
    pub last_cxid: Option<i32>,
    pub last_zxid: Zxid,
    pub last_response_ms: Mono,
    pub last_latency_ms: i64,
    pub latency_ms: Summary,
}

impl ConnStats {
    /// Takes note of a reply and gives its latency in milliseconds.
    pub fn on_answered(
        &mut self,
        Asked { xid, op, arrived, held: _, identities: _ }: Asked,
        zxid: Zxid,
        now: Mono,
    ) -> i64 {
        let latency = (now - arrived).max(0);
        self.sent += 1;
        self.last_op = Some(op);
        if xid >= 0 {
            self.last_cxid = Some(xid);
        }
        self.last_zxid = zxid;
        self.last_response_ms = now;
        self.last_latency_ms = latency;
        self.latency_ms.add(latency);
        latency
    }
}

#[derive(Debug)]
pub struct Conn {
    pub id: ConnId,
    pub peer: IpAddr,
    pub peer_port: u16,
    /// When it was accepted, in wall milliseconds.
    pub established_ms: i64,
    pub state: Mutex<State>,
    /// The connection's task: there is something to send, or to stop for.
    task: AtomicWaker,
    /// The task has not heard of it yet.
    is_called: AtomicBool,
    pub session: AtomicI64,
    pub timeout_ms: AtomicI32,
    /// When the last frame was read; `HEARD_NOTHING` since the last report to the Node.
    touched: AtomicI64,
    /// When the last frame was read, for the word `dump`.
    heard: AtomicI64,
    woken: AtomicBool,
}

const HEARD_NOTHING: Mono = -1;

impl Conn {
    pub fn new(id: ConnId, peer: IpAddr, peer_port: u16, established_ms: i64, now: Mono) -> Self {
        let address = crate::acl::address_text(peer);
        Self {
            id,
            peer,
            peer_port,
            established_ms,
            state: Mutex::new(State {
                phase: Phase::Fresh,
                socket: None,
                rests: false,
                out: BytesMut::new(),
                events: 0,
                parked: 0,
                gate: Gate::default(),
                identities: crate::node::initial_identities(&address),
                stats: ConnStats::default(),
                sent_read_only: false,
                asked_session: SessionId::NONE,
                connect_asked: now,
                leaving: false,
            }),
            task: AtomicWaker::new(),
            is_called: AtomicBool::new(false),
            session: AtomicI64::new(0),
            timeout_ms: AtomicI32::new(0),
            touched: AtomicI64::new(HEARD_NOTHING),
            heard: AtomicI64::new(now),
            woken: AtomicBool::new(false),
        }
    }

    pub fn session(&self) -> SessionId {
        SessionId(self.session.load(Ordering::Relaxed))
    }

    pub fn touch(&self, now: Mono) {
        self.touched.store(now, Ordering::Relaxed);
        self.heard.store(now, Ordering::Relaxed);
    }

    /// When the last frame came, or the connection.
    pub fn heard(&self) -> Mono {
        self.heard.load(Ordering::Relaxed)
    }

    /// When it is given up if nothing is heard of it, in steps of ten seconds; without a session after `fresh_ms` (Java:
    /// `NIOServerCnxnFactory.cnxnExpiryQueue`).
    pub fn given_up_at(&self, fresh_ms: Mono) -> Mono {
        const STEP_MS: Mono = 10_000;
        let has_session = self.session() != SessionId::NONE;
        let patience = if has_session { self.timeout_ms.load(Ordering::Relaxed).into() } else { fresh_ms };
        ((self.heard() + patience) / STEP_MS + 1) * STEP_MS
    }

    /// The session, its timeout and when it was last heard of, if that was since the last call. Never later
    /// than `now`: a frame may have been read before the clock took a pause into account.
    pub fn take_touch(&self, now: Mono) -> Option<(SessionId, i32, Mono)> {
        let session = self.session();
        if session == SessionId::NONE || self.touched.load(Ordering::Relaxed) == HEARD_NOTHING {
            return None;
        }
        let at = self.touched.swap(HEARD_NOTHING, Ordering::Relaxed);
        Some((session, self.timeout_ms.load(Ordering::Relaxed), at.min(now)))
    }

    /// True for the first of several reasons to wake the task; the caller then wakes it.
    pub fn mark_woken(&self) -> bool {
        !self.woken.swap(true, Ordering::Relaxed)
    }

    /// Sends what is queued, or wakes the task for it, or for whatever else there is to do.
    pub fn wake_up(&self) {
        self.woken.store(false, Ordering::Relaxed);
        if !self.state.lock().send_at_once() {
            self.is_called.store(true, Ordering::Release);
            self.task.wake();
        }
    }

    /// For the task: whether it was called since this was ready last.
    pub fn poll_woken(&self, cx: &mut Context<'_>) -> Poll<()> {
        // First, so that a call between the two lines wakes it again.
        self.task.register(cx.waker());
        if self.is_called.swap(false, Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The session's address as Java prints it, with the slash that has nothing before it.
    pub fn peer_text(&self) -> String {
        match self.peer.to_canonical() {
            IpAddr::V4(v4) => format!("/{v4}:{}", self.peer_port),
            v6 => format!("/[{}]:{}", crate::acl::address_text(v6), self.peer_port),
        }
    }
}

/// Connections by id.
pub type Conns = hashbrown::HashMap<ConnId, Arc<Conn>, RandomState>;

#[derive(Debug, Default)]
struct Registered {
    conns: Conns,
    by_peer: hashbrown::HashMap<IpAddr, usize, RandomState>,
}

/// All connections, by id.
#[derive(Debug, Default)]
pub struct Registry {
    registered: RwLock<Registered>,
    last_id: AtomicU64,
}

impl Registry {
    pub fn next_id(&self) -> ConnId {
        ConnId(self.last_id.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub fn insert(&self, conn: Arc<Conn>) {
        let mut registered = self.registered.write();
        *registered.by_peer.entry(conn.peer).or_default() += 1;
        registered.conns.insert(conn.id, conn);
    }

    pub fn remove(&self, conn: &Conn) {
        let mut registered = self.registered.write();
        if registered.conns.remove(&conn.id).is_some() {
            let left = registered.by_peer.get_mut(&conn.peer).expect("a peer with a connection is counted");
            *left -= 1;
            if *left == 0 {
                registered.by_peer.remove(&conn.peer);
            }
        }
    }

    /// All of them while the guard lives; nobody connects or leaves meanwhile.
    pub fn lock(&self) -> MappedRwLockReadGuard<'_, Conns> {
        RwLockReadGuard::map(self.registered.read(), |registered| &registered.conns)
    }

    pub fn find(&self, id: ConnId) -> Option<Arc<Conn>> {
        self.lock().get(&id).cloned()
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn count_from(&self, peer: IpAddr) -> usize {
        self.registered.read().by_peer.get(&peer).copied().unwrap_or_default()
    }

    /// Every connection, oldest first.
    pub fn all(&self) -> Vec<Arc<Conn>> {
        let mut all: Vec<_> = self.lock().values().cloned().collect();
        all.sort_by_key(|conn| conn.id);
        all
    }
}
