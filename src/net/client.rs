//! One client connection: frames in, replies and events out, on one task.
//!
//! The task reads what has arrived, decodes every whole frame of it, answers reads on the spot under one hold
//! of the Store's lock, passes writes on in one piece, and writes out whatever its queue holds. It stops
//! reading while its client has too much under way or reads too slowly; so every queue has an end, and only
//! the client that fills it waits. A connection that is idle holds no buffers.
//!
//! Java: `NIOServerCnxn`, `ZooKeeperServer.processPacket`, `processConnectRequest`.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use jute::records::proto as wire;
use jute::{Reader, Record};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::io::poll_read_buf;
use tracing::{debug, info, warn};

use super::conn::{Asked, Conn, MAX_UNREAD, OnTheSpot, Phase, State};
use super::line::{Line, Turn};
use super::socket::{poll_write, write_all};
use crate::acl::Identity;
use crate::admin::four_letter;
use crate::auth::Proof;
use crate::id::{SessionId, Zxid};
use crate::node::input::{Input, Raw};
use crate::node::local::makes_ephemeral;
use crate::node::reply;
use crate::proto::request::{Frame, Read, Request, Write, decode};
use crate::proto::{ErrorCode, op};
use crate::server::{Shared, answer_on_the_spot};
use crate::session::Mono;
use crate::stats::{Replies, Throttled};
use crate::throttle::{Asks, Holds, NoRoom};

/// What one read takes at most while there is no session; all that such a connection costs.
const FRESH_READ: usize = 4 << 10;
const READ: usize = 32 << 10;
/// The longest ConnectRequest: it has 44 or 45 bytes, 16 of them a password.
const MAX_CONNECT: u32 = 4 << 10;
/// Requests of one connection that may be under way; beyond, it is not read.
const MAX_UNDER_WAY: usize = 4096;
/// Reads that may wait before a further write of the same client goes on its way: all of them have to be
/// answered together then, whether the client reads or not.
const MAX_READS_BEFORE_WRITE: usize = 32;
/// Bytes of all identities of one connection. Each write takes them to the leader, which does not let a packet of any
/// size in; and each is compared with all of an access list.
const MAX_IDENTITIES: usize = 32 << 10;
/// Bytes of a reply to most reads.
const USUAL_REPLY: usize = 256;
/// What a closing connection still has to send may take this long.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Serves a connection until it ends.
pub async fn serve(shared: Arc<Shared>, conn: Arc<Conn>, stream: TcpStream) {
    let (mut input, output) = stream.into_split();
    let output = Arc::new(output);
    conn.state.lock().socket = Some(output.clone());
    let mut task = Task {
        shared: &shared,
        conn: &conn,
        inbox: BytesMut::new(),
        sending: BytesMut::new(),
        announced: false,
        line: shared.slots.as_ref().map(Line::new),
        held_back: Vec::new(),
        inputs: Vec::new(),
    };
    let why = task.run(&mut input, &output).await;
    conn.state.lock().socket = None;
    // The last of both halves closes it.
    drop((input, output));
    task.leave_line().await;
    conn.state.lock().phase = Phase::Closed;
    count_end(&shared, &conn, why);
    // Nobody adds a watch for a closed connection, so these are all.
    shared.watches.lock().remove_conn(conn.id);
    shared.registry.remove(&conn);
    let unanswered = {
        let state = conn.state.lock();
        shared.on_finished(state.gate.len() - state.parked);
        state.gate.len()
    };
    let session = conn.session();
    if session != SessionId::NONE {
        let touched = conn.take_touch(shared.clock.mono());
        shared.inputs.push(Input::Disconnected { conn: conn.id, session, touched });
    }
    debug!(peer = %conn.peer_text(), %session, ?why, unanswered, "connection closed");
}

fn count_end(shared: &Shared, conn: &Conn, why: End) {
    match why {
        End::NoSession => shared.counters.measures.lock().sessionless_expired += 1,
        End::Gone => {
            shared.counters.measures.lock().connections_dropped += 1;
            // Java says so of every client that leaves without a closeSession, monitors included.
            info!(
                "Unable to read additional data from client, it probably closed the socket: address = {}, session = \
                 0x{:x}",
                conn.peer_text(),
                conn.session()
            );
        }
        _ => {}
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// The client closed it, or the network did.
    Gone,
    /// We did, with all said that was to be said.
    Closed,
    /// What came is not the protocol, or is refused without a word.
    Refused,
    /// A four-letter word was answered.
    Word,
    NoSession,
    TooSlow,
}

struct Task<'a> {
    shared: &'a Arc<Shared>,
    conn: &'a Arc<Conn>,
    /// Bytes read and not yet understood.
    inbox: BytesMut,
    /// Bytes taken from the queue and not yet written.
    sending: BytesMut,
    /// The length of the frame in front of the inbox was found to have room.
    announced: bool,
    /// Where requests wait if their number is limited.
    line: Option<Line<'a, Asking>>,
    /// Requests that wait until the client has read what it has, or until all before them are answered.
    held_back: Vec<Asking>,
    /// For the Node, gathered from one read.
    inputs: Vec<Input>,
}

enum Event {
    Turn(Turn),
    Read(std::io::Result<usize>),
    Written(std::io::Result<usize>),
    Woken,
}

/// What a connection does next, besides writing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Flow {
    /// Reads what the client sends.
    Read,
    /// Answers what waited.
    CatchUp,
    /// Waits until something is written or applied.
    Hold,
}

/// A frame after the first: its header, and what it asks.
struct Asking {
    xid: i32,
    op: i32,
    /// As it came, if there is a leader to send it to.
    body: Bytes,
    frame: Frame,
    /// The Node decides when it is answered, which may take a round of agreement.
    is_ordered: bool,
    arrived: Mono,
    held: Option<Box<Holds>>,
}

impl Asking {
    fn is_throttled(&self) -> bool {
        match &self.frame {
            Frame::Request(Request::Read(Read::Ping) | Request::Write(Write::CloseSession)) => false,
            Frame::Request(_) => true,
            _ => false,
        }
    }
}

impl Asking {
    fn path(&self) -> Option<&str> {
        match &self.frame {
            Frame::Request(Request::Read(read)) => read.path(),
            _ => None,
        }
    }

    /// A local session is closed, and refused an ephemeral, by this server alone, at once: that must not overtake what
    /// was asked before.
    fn stands_alone(&self, shared: &Shared) -> bool {
        let Frame::Request(Request::Write(write)) = &self.frame else { return false };
        shared.makes_local_sessions() && (*write == Write::CloseSession || makes_ephemeral(write))
    }
}

impl Task<'_> {
    async fn run(&mut self, input: &mut OwnedReadHalf, output: &OwnedWriteHalf) -> End {
        let patience = Duration::from_millis(self.shared.config.node.sessionless_cnxn_timeout_ms);
        let connected = tokio::time::sleep(patience);
        tokio::pin!(connected);
        let mut was_open = false;
        loop {
            let (phase, flow) = self.take_out();
            match phase {
                Phase::Closed => return End::Closed,
                Phase::Closing => return self.say_last_words(output).await,
                _ => {}
            }
            // What came together with the ConnectRequest waited until there is a session. Nobody need call for it: the
            // response may have gone out already.
            if phase == Phase::Open && !std::mem::replace(&mut was_open, true) && !self.inbox.is_empty() {
                let understood = self.understand();
                self.hand_in();
                if let Err(end) = understood {
                    return end;
                }
                if self.inbox.is_empty() {
                    self.inbox = BytesMut::new();
                }
                continue;
            }
            if flow == Flow::CatchUp {
                let caught_up = self.catch_up();
                self.hand_in();
                if let Err(end) = caught_up {
                    return end;
                }
                // The others have a turn, however much there is to catch up with.
                tokio::task::yield_now().await;
                continue;
            }
            let may_read = flow == Flow::Read;
            let event = {
                let Self { conn, inbox, sending, line, .. } = self;
                let waits = line.as_ref().is_some_and(|line| !line.is_empty());
                let turn = |cx: &mut Context<'_>| line.as_mut().map_or(Poll::Pending, |line| line.poll_turn(cx));
                let read_size = if phase == Phase::Open { READ } else { FRESH_READ };
                let mut io = Io { input, output, inbox, sending, may_read, read_size };
                tokio::select! {
                    biased;
                    turn = poll_fn(turn), if waits => Event::Turn(turn),
                    event = poll_fn(|cx| io.poll(cx)) => event,
                    () = poll_fn(|cx| conn.poll_woken(cx)) => Event::Woken,
                    () = &mut connected, if phase == Phase::Fresh => return End::NoSession,
                }
            };
            let understood = match event {
                Event::Read(Ok(bytes @ 1..)) => {
                    self.shared.counters.bytes_received.fetch_add(bytes as u64, Ordering::Relaxed);
                    self.understand()
                }
                Event::Turn(turn) => self.on_turn(turn),
                Event::Written(Ok(1..)) => {
                    // Its pings wait unread behind what it has still to take, and who takes that lives.
                    if !may_read {
                        self.conn.touch(self.shared.clock.mono());
                    }
                    continue;
                }
                Event::Woken => continue,
                Event::Read(_) | Event::Written(_) => return End::Gone,
            };
            self.hand_in();
            match understood {
                Err(End::Word) => return self.say_last_words(output).await,
                Err(end) => return end,
                Ok(()) if self.inbox.is_empty() => self.inbox = BytesMut::new(),
                Ok(()) => {}
            }
        }
    }

    fn hand_in(&mut self) {
        let weight = self.inputs.len();
        self.shared.hand_in(&mut self.inputs, weight);
    }

    /// Takes what is queued for the socket, and says what may come next.
    fn take_out(&mut self) -> (Phase, Flow) {
        let mut state = self.conn.state.lock();
        if self.sending.is_empty() {
            self.sending = std::mem::take(&mut state.out);
            state.events = 0;
        }
        let unread = self.sending.len() + state.out.len();
        let under_way = state.gate.len() + self.line.as_ref().map_or(0, Line::len);
        let limit = self.shared.outstanding_limit;
        let crowded = self.shared.counters.outstanding.load(Ordering::Relaxed) > limit
            || self.shared.under_way.is_full()
            || self.line.as_ref().is_some_and(|line| line.slots().waiting() > limit);
        let reads_wait = state.gate.waiting_reads() > MAX_READS_BEFORE_WRITE && !state.gate.is_read_next();
        let flow = if !matches!(state.phase, Phase::Fresh | Phase::Open) || unread >= MAX_UNREAD || reads_wait {
            Flow::Hold
        } else if state.gate.is_read_next() {
            Flow::CatchUp
        } else if let Some(first) = self.held_back.first() {
            let waits = first.stands_alone(self.shared) && !state.gate.is_empty();
            if waits { Flow::Hold } else { Flow::CatchUp }
        } else if under_way < MAX_UNDER_WAY && (under_way == 0 || !crowded) {
            Flow::Read
        } else {
            Flow::Hold
        };
        state.rests = flow == Flow::Read && state.phase == Phase::Open && self.sending.is_empty();
        (state.phase, flow)
    }

    /// Answers what waited until the client had read enough.
    fn catch_up(&mut self) -> Result<(), End> {
        let (shared, now) = (self.shared, self.shared.clock.mono());
        let (mut replies, mut answered) = (Replies::default(), 0);
        let finished;
        {
            let tree = shared.tree.read();
            let mut state = self.conn.state.lock();
            while state.is_sending()
                && state.out.len() < MAX_UNREAD
                && let Some((asked, request)) = state.gate.next_read()
            {
                let lock = || shared.watches.lock();
                answer_on_the_spot(shared, self.conn, &mut state, &mut replies, &tree, lock, now, (asked, request));
                answered += 1;
            }
            finished = state.unpark(answered);
        }
        shared.on_finished(finished);
        shared.counters.sent.fetch_add(answered as u64, Ordering::Relaxed);
        if !replies.is_empty() {
            shared.counters.measures.lock().add_replies(&replies);
        }
        let held_back = std::mem::take(&mut self.held_back);
        if let Some(slots) = &shared.slots {
            slots.take_back(held_back.len());
        }
        self.handle(held_back, now)
    }

    /// Writes out what is queued, and no more.
    async fn say_last_words(&mut self, output: &OwnedWriteHalf) -> End {
        let said = async {
            loop {
                write_all(output, &mut self.sending).await?;
                self.sending = std::mem::take(&mut self.conn.state.lock().out);
                if self.sending.is_empty() {
                    // First, so that who hears the end and asks again is not shown this connection.
                    self.shared.registry.remove(self.conn);
                    return socket2::SockRef::from(output.as_ref()).shutdown(Shutdown::Write);
                }
            }
        };
        match tokio::time::timeout(LAST_WORDS, said).await {
            Ok(Ok(())) => End::Closed,
            Ok(Err(_)) => End::Gone,
            Err(_) => End::TooSlow,
        }
    }

    /// Takes every whole frame out of the inbox.
    fn understand(&mut self) -> Result<(), End> {
        let now = self.shared.clock.mono();
        let phase = self.conn.state.lock().phase;
        match phase {
            Phase::Fresh => {
                if let Some(frame) = self.first_frame()? {
                    self.connect(frame)?;
                }
                Ok(())
            }
            Phase::Open => {
                let mut asking = Vec::new();
                let end = self.requests(now, &mut asking);
                // A part of a frame says nothing of its client: it may be long that it came.
                if !asking.is_empty() {
                    self.conn.touch(now);
                }
                match &mut self.line {
                    None => self.handle(asking, now)?,
                    Some(line) => line.extend(asking),
                }
                end
            }
            Phase::Connecting | Phase::Closing | Phase::Closed => Ok(()),
        }
    }

    /// The first frame, unless what came is one of the words that operators type.
    fn first_frame(&mut self) -> Result<Option<Bytes>, End> {
        let Some(word) = self.inbox.first_chunk::<4>().copied() else { return Ok(None) };
        if let Some(needs) = four_letter::argument_bytes(&self.shared.config.node.four_letter_words, &word) {
            if self.inbox.len() < 4 + needs {
                return Ok(None);
            }
            let answer = four_letter::answer(self.shared, self.conn, &word, &self.inbox[4..4 + needs]);
            self.conn.state.lock().out.extend_from_slice(answer.as_bytes());
            return Err(End::Word);
        }
        self.next_frame(MAX_CONNECT.min(self.shared.config.node.jute_max_buffer_bytes))
    }

    /// A whole frame without its length, if one is there. A length out of range ends the connection; nothing
    /// is set aside for a length that is only claimed.
    fn next_frame(&mut self, max: u32) -> Result<Option<Bytes>, End> {
        let Some(length) = self.inbox.first_chunk::<4>() else { return Ok(None) };
        let length = i32::from_be_bytes(*length);
        if u32::try_from(length).ok().is_none_or(|length| length > max) {
            let of = if max == MAX_CONNECT { "the longest ConnectRequest" } else { "jute.maxbuffer" };
            warn!(
                session = %self.conn.session(),
                "Len error. A message from {} with advertised length of {length} is either a malformed message or \
                 too large to process (length is greater than {of}={max})",
                self.conn.peer_text()
            );
            return Err(End::Refused);
        }
        if let Some(account) = self.shared.large_requests.as_ref().filter(|_| !self.announced) {
            account.has_room(length as u32).map_err(|NoRoom| self.reject_large(length as usize))?;
            self.announced = true;
        }
        let length = length as usize;
        if self.inbox.len() < 4 + length {
            return Ok(None);
        }
        self.announced = false;
        self.inbox.advance(4);
        Ok(Some(self.inbox.split_to(length).freeze()))
    }

    /// Every whole frame of the inbox, up to one that ends the connection.
    fn requests(&mut self, arrived: Mono, into: &mut Vec<Asking>) -> Result<(), End> {
        let max = self.shared.config.node.jute_max_buffer_bytes;
        while let Some(frame) = self.next_frame(max)? {
            let bytes = frame.len();
            let mut r = Reader::new(frame);
            let Ok(wire::RequestHeader { xid, op }) = wire::RequestHeader::read(&mut r) else {
                return Err(End::Refused);
            };
            let rest = r.rest();
            let body = if self.shared.is_forwarding() { rest.clone() } else { Bytes::new() };
            let frame = decode(op, rest);
            let large = match &self.shared.large_requests {
                Some(account) if !matches!(frame, Frame::Auth(_) | Frame::Sasl { .. }) => {
                    account.hold(bytes as u32).map_err(|NoRoom| self.reject_large(bytes))?
                }
                _ => None,
            };
            let held = Holds::of(large, self.shared.under_way.hold(bytes as u32));
            let is_ordered = match frame {
                Frame::Request(Request::Write(_)) => true,
                Frame::Request(Request::Read(Read::Sync { .. })) => self.shared.orders_syncs(),
                _ => false,
            };
            into.push(Asking { xid, op, body, frame, is_ordered, arrived, held });
        }
        Ok(())
    }

    fn reject_large(&self, bytes: usize) -> End {
        self.shared.counters.measures.lock().throttled.large_rejected += 1;
        warn!(
            peer = %self.conn.peer_text(), session = %self.conn.session(), bytes,
            "large requests fill largeRequestMaxBytes: the connection of one more is closed"
        );
        End::Refused
    }

    /// Hands on the requests whose turn it is.
    fn on_turn(&mut self, turn: Turn) -> Result<(), End> {
        let Some(line) = &mut self.line else { unreachable!("without a line there is no turn") };
        let (slots, mut asking) = (line.slots(), line.take());
        let now = self.shared.clock.mono();
        let timeout_ms = Mono::from(self.conn.timeout_ms.load(Ordering::Relaxed));
        let is_stale = |asking: &Asking| {
            let is_late = now - asking.arrived > timeout_ms;
            slots.rules.stale_latency_check && is_late && asking.op != op::CLOSE_SESSION
        };
        let mut counted = Throttled { waited: (turn == Turn::AfterWaiting).into(), ..Throttled::default() };
        let mut end = Ok(());
        let stale = asking.iter().filter(|asking| is_stale(asking)).count();
        if stale > 0 && slots.rules.drop_stale {
            // What comes behind it must not be done without it.
            let first = asking.iter().position(is_stale).expect("there is one");
            slots.give_back(asking.split_off(first).len());
            line.clear();
            counted.stale_dropped = 1;
            end = Err(End::Refused);
        } else {
            counted.stale = stale as u64;
        }
        for asking in &mut asking {
            if asking.is_throttled() && slots.is_overdue(asking.arrived, now) {
                asking.frame = Frame::Request(Request::Refused(ErrorCode::ThrottledOp));
                counted.overdue += 1;
            }
        }
        if counted != Throttled::default() {
            self.shared.counters.measures.lock().throttled.merge(&counted);
        }
        self.handle(asking, now).and(end)
    }

    /// What waits when its connection has ended is dropped, and what stands behind it too. Closing a session
    /// is always meant.
    async fn leave_line(&mut self) {
        let Some(line) = &self.line else { return };
        let rules = &line.slots().rules;
        let is_stale = |asking: &&Asking| rules.stale_connection_check && asking.op != op::CLOSE_SESSION;
        if !rules.drop_stale {
            self.shared.counters.measures.lock().throttled.stale += line.iter().filter(is_stale).count() as u64;
        }
        loop {
            let phase = self.conn.state.lock().phase;
            let Some(line) = self.line.as_mut().filter(|line| phase == Phase::Open && !line.is_empty()) else { break };
            if rules.drop_stale && line.iter().take(1).any(|first| is_stale(&first)) {
                self.shared.counters.measures.lock().throttled.stale_dropped += 1;
                break;
            }
            let conn = self.conn;
            let turn = poll_fn(|cx| match line.poll_turn(cx) {
                Poll::Ready(turn) => Poll::Ready(Some(turn)),
                // The slots that it waits for may be those of its own requests, which the Node gives up when it says so.
                Poll::Pending => conn.poll_woken(cx).map(|()| None),
            });
            let Some(turn) = turn.await else { continue };
            // The connection has ended anyway.
            let _ = self.on_turn(turn);
            self.hand_in();
        }
        self.line = None;
    }

    /// Takes what a connection costs, and gives the tokens that are out then.
    fn pay(&self, session: SessionId) -> Result<i64, End> {
        let Some(tokens) = &self.shared.connection_tokens else { return Ok(0) };
        let asks = match session {
            SessionId::NONE if self.shared.makes_local_sessions() => Asks::LocalSession,
            SessionId::NONE => Asks::GlobalSession,
            _ => Asks::Renewal,
        };
        let mut tokens = tokens.lock();
        if tokens.admits(self.shared.clock.mono(), asks) {
            return Ok(tokens.deficit());
        }
        self.shared.counters.measures.lock().connections_rejected += 1;
        warn!(peer = %self.conn.peer_text(), "connections come faster than connection_throttle allows: one is closed");
        Err(End::Refused)
    }

    /// The ConnectRequest: asks the Node for a session.
    fn connect(&mut self, frame: Bytes) -> Result<(), End> {
        let mut r = Reader::new(frame);
        let Ok(request) = wire::ConnectRequest::read(&mut r) else { return Err(End::Refused) };
        let Ok(read_only) = wire::read_only_byte(&mut r) else { return Err(End::Refused) };
        if !self.shared.is_serving() {
            debug!(peer = %self.conn.peer_text(), "ZooKeeperServer not running: a client is turned away");
            return Err(End::Refused);
        }
        if self.shared.is_read_only() && read_only != Some(true) {
            info!(
                "Refusing session request for not-read-only client {}: this server has no leader and serves only those \
                 who only read",
                self.conn.peer_text()
            );
            return Err(End::Refused);
        }
        let last_zxid = self.shared.tree.read().last_zxid();
        self.shared.counters.received.fetch_add(1, Ordering::Relaxed);
        let deficit = self.pay(SessionId(request.session_id))?;
        {
            let mut measures = self.shared.counters.measures.lock();
            measures.connection_requests += 1;
            measures.token_deficit.add(deficit);
        }
        if Zxid(request.last_zxid_seen) > last_zxid {
            info!(
                "Refusing session(0x{:x}) request for client {} as it has seen zxid 0x{:x} our last zxid is \
                 0x{last_zxid:x} client must try another server",
                request.session_id,
                self.conn.peer_text(),
                request.last_zxid_seen
            );
            return Err(End::Refused);
        }
        let node = &self.shared.config.node;
        let timeout_ms = request.time_out.max(node.min_session_timeout_ms).min(node.max_session_timeout_ms);
        {
            let mut state = self.conn.state.lock();
            state.sent_read_only = read_only.is_some();
            state.asked_session = SessionId(request.session_id);
            state.stats.received += 1;
            state.stats.last_zxid = last_zxid;
            state.connect_asked = self.shared.clock.mono();
            state.phase = Phase::Connecting;
        }
        self.inputs.push(Input::Connect {
            conn: self.conn.id,
            session: SessionId(request.session_id),
            password: request.passwd.unwrap_or_default(),
            timeout_ms,
        });
        Ok(())
    }

    /// Answers what can be answered on the spot and gathers the rest for the Node, in order. If there are
    /// slots, each of `asking` has one.
    fn handle(&mut self, asking: Vec<Asking>, now: Mono) -> Result<(), End> {
        let Self { shared, conn, inputs, held_back, .. } = self;
        // What came later waits behind what waits.
        if !held_back.is_empty() {
            // What waits for its own client keeps no slot from others.
            if let Some(slots) = &shared.slots {
                slots.give_back(asking.len());
            }
            held_back.extend(asking);
            return Ok(());
        }
        let on_the_spot =
            |asking: &Asking| matches!(asking.frame, Frame::Request(Request::Read(_) | Request::Refused(_)));
        // Before the connection's own lock: see the order of locks in `conn`.
        let tree = asking.iter().any(on_the_spot).then(|| shared.tree.read());
        if let Some(tree) = &tree {
            tree.prefetch(asking.iter().filter_map(Asking::path));
        }
        let mut state = conn.state.lock();
        if tree.is_some() {
            state.out.reserve(asking.len() * USUAL_REPLY);
        }
        let (mut answered, mut waiting) = (0, 0);
        let mut replies = Replies::default();
        let (came, mut end) = (asking.len(), Ok(()));
        let mut asking = asking.into_iter();
        while let Some(next) = asking.next() {
            if state.phase != Phase::Open || state.leaving {
                break;
            }
            if state.out.len() >= MAX_UNREAD
                || state.gate.is_read_next()
                || next.stands_alone(shared) && !state.gate.is_empty()
                || next.is_ordered && state.gate.waiting_reads() > MAX_READS_BEFORE_WRITE
            {
                held_back.push(next);
                held_back.extend(asking);
                break;
            }
            let Asking { xid, op, body, frame, is_ordered, arrived, held } = next;
            state.stats.received += 1;
            let proving = matches!(frame, Frame::Auth(_) | Frame::Sasl { .. });
            if !proving && !shared.auth_rules.admits(&state.identities) {
                let error = ErrorCode::SessionClosedRequireAuth;
                reply::write_header(&mut state.out, xid, Zxid::ZERO, error.code());
                state.close();
                break;
            }
            let asked = Asked { xid, op, arrived, held, identities: None };
            let request = match frame {
                Frame::Request(Request::Write(write)) => {
                    state.leaving = write == Write::CloseSession;
                    state.gate.on_write(asked);
                    waiting += 1;
                    let (session, identities) = (conn.session(), state.identities.clone());
                    let raw = Raw { op, body };
                    inputs.push(Input::Write { conn: conn.id, session, xid, write, raw, identities });
                    continue;
                }
                Frame::Request(Request::Read(Read::Sync { path })) if is_ordered => {
                    state.gate.on_write(asked);
                    waiting += 1;
                    let (session, identities) = (conn.session(), state.identities.clone());
                    inputs.push(Input::Sync { conn: conn.id, session, xid, path, raw: Raw { op, body }, identities });
                    continue;
                }
                Frame::Request(Request::Read(read)) => OnTheSpot::Read(read),
                // Where nothing is written, a write is not even decoded.
                Frame::Request(Request::Refused(_)) if shared.is_read_only() && op::is_for_leaders(op) => {
                    OnTheSpot::Refused(ErrorCode::NotReadOnly)
                }
                Frame::Request(Request::Refused(error)) => OnTheSpot::Refused(error),
                Frame::Auth(packet) => {
                    answered += 1;
                    end = prove(shared, conn, &mut state, xid, &packet);
                    if end.is_err() {
                        break;
                    }
                    continue;
                }
                Frame::Sasl { token: _ } => {
                    // A server without SASL accepts every attempt and adds no identity.
                    answered += 1;
                    let header = wire::ReplyHeader { xid, zxid: 0, err: 0 };
                    wire::write_frame(&mut state.out, &header, |w| w.buffer(None));
                    continue;
                }
                Frame::UnknownOp => {
                    let error = ErrorCode::Unimplemented;
                    reply::write_header(&mut state.out, xid, Zxid(-1), error.code());
                    state.close();
                    break;
                }
                Frame::Garbage => {
                    end = Err(End::Refused);
                    break;
                }
            };
            match state.gate.on_read((asked, request)) {
                None => waiting += 1,
                Some((asked, request)) => {
                    let tree = tree.as_ref().expect("taken because of this request");
                    let lock = || shared.watches.lock();
                    answer_on_the_spot(shared, conn, &mut state, &mut replies, tree, lock, now, (asked, request));
                    answered += 1;
                }
            }
        }
        let handled = came - held_back.len();
        shared.counters.received.fetch_add(handled as u64, Ordering::Relaxed);
        shared.counters.sent.fetch_add(answered, Ordering::Relaxed);
        shared.counters.outstanding.fetch_add(waiting, Ordering::Relaxed);
        if let Some(slots) = &shared.slots {
            slots.give_back(came - waiting);
        }
        if !replies.is_empty() {
            shared.counters.measures.lock().add_replies(&replies);
        }
        end
    }
}

/// An auth packet is answered at once, past everything that waits.
fn prove(shared: &Shared, conn: &Conn, state: &mut State, xid: i32, packet: &wire::AuthPacket) -> Result<(), End> {
    let address = crate::acl::address_text(conn.peer);
    match shared.auth_rules.check(packet.scheme.as_deref(), packet.auth.as_deref(), &address) {
        Proof::Accepted(mut new) => {
            new.retain(|identity| !state.identities.contains(identity));
            let bytes: usize = state.identities.iter().chain(&new).map(Identity::bytes).sum();
            if bytes > MAX_IDENTITIES {
                warn!(
                    peer = %conn.peer_text(), session = %conn.session(),
                    "a client has proved more identities than {MAX_IDENTITIES} bytes hold: its connection is closed"
                );
                reply::write_header(&mut state.out, xid, Zxid::ZERO, ErrorCode::AuthFailed.code());
                state.close();
                return Ok(());
            }
            if !new.is_empty() {
                state.add_identities(new);
            }
            if packet.scheme.as_deref() == Some("ensemble") {
                let named = packet.auth.as_deref().is_some_and(|name| !name.is_empty());
                let counts = &mut shared.counters.measures.lock().ensemble_auth;
                *(if named { &mut counts.success } else { &mut counts.skip }) += 1;
            }
            reply::write_header(&mut state.out, xid, Zxid::ZERO, 0);
            Ok(())
        }
        Proof::Failed => {
            let scheme = packet.scheme.as_deref().unwrap_or("null");
            warn!(peer = %conn.peer_text(), session = %conn.session(), "Authentication failed for scheme: {scheme}");
            shared.counters.measures.lock().auth_failed += 1;
            reply::write_header(&mut state.out, xid, Zxid::ZERO, ErrorCode::AuthFailed.code());
            state.close();
            Ok(())
        }
        Proof::WrongEnsemble => {
            shared.counters.measures.lock().ensemble_auth.fail += 1;
            warn!(peer = %conn.peer_text(), "the client wants another ensemble: its connection is closed");
            Err(End::Refused)
        }
    }
}

/// What a connection waits for from its socket.
struct Io<'a> {
    input: &'a mut OwnedReadHalf,
    output: &'a OwnedWriteHalf,
    inbox: &'a mut BytesMut,
    sending: &'a mut BytesMut,
    may_read: bool,
    read_size: usize,
}

thread_local! {
    /// What is read into while nothing waits in a connection's own buffer: in the processor's caches, unlike one that
    /// was made for this read.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
}

impl Io<'_> {
    /// Writes first, then reads; a connection's own buffer is taken only once something has arrived.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if !self.sending.is_empty()
            && let Poll::Ready(written) = poll_write(self.output, cx, self.sending)
        {
            return Poll::Ready(Event::Written(written));
        }
        match self.may_read {
            false => Poll::Pending,
            true if self.inbox.is_empty() => SCRATCH.with_borrow_mut(|scratch| {
                let mut read = ReadBuf::new(&mut scratch[..self.read_size]);
                let polled = Pin::new(&mut *self.input).poll_read(cx, &mut read);
                self.inbox.extend_from_slice(read.filled());
                polled.map_ok(|()| read.filled().len()).map(Event::Read)
            }),
            true => {
                self.inbox.reserve(self.read_size);
                poll_read_buf(Pin::new(&mut *self.input), cx, self.inbox).map(Event::Read)
            }
        }
    }
}
