//! A client that is a socket: it sends exactly the bytes it is given and hands back exactly what comes.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use jute::records::data::Stat;
use jute::records::proto::{ReplyHeader, WatcherEvent};
use jute::{Reader, Record, Text};

use crate::Server;
use crate::request::{Body, op};

/// How long an answer may take. Long, because it is reached only when a test fails.
pub const ANSWER: Duration = Duration::from_secs(10);

/// A longer frame than this is not one that a test provokes.
const LONGEST_FRAME: usize = 64 << 20;

/// What a wait brought.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Received {
    /// The payload of a frame.
    Frame(Bytes),
    /// The server closed; the bytes that came before it and are no whole frame.
    Closed(Vec<u8>),
    /// Nothing until the deadline.
    Silence,
}

/// A TCP connection that speaks in frames.
pub struct Connection {
    socket: TcpStream,
    input: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        Self::try_open(address).unwrap_or_else(|e| panic!("cannot connect to the server at {address}: {e}"))
    }

    pub fn try_open(address: SocketAddr) -> std::io::Result<Self> {
        Self::open_within(address, ANSWER)
    }

    pub fn open_within(address: SocketAddr, patience: Duration) -> std::io::Result<Self> {
        let socket = TcpStream::connect_timeout(&address, patience)?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, input: Vec::new() })
    }

    /// Bytes as they are. That the server has closed already shows when receiving, not here.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    /// One frame.
    pub fn send(&mut self, payload: &[u8]) {
        self.send_bytes(&frame(payload));
    }

    /// Ends our direction, as a client does that exits.
    pub fn half_close(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// The next frame, the end, or silence for as long as `patience`.
    pub fn receive(&mut self, patience: Duration) -> Received {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(length) = self.input.first_chunk::<4>() {
                let length = u32::from_be_bytes(*length) as usize;
                assert!(length <= LONGEST_FRAME, "the server sent a frame of {length} bytes");
                if self.input.len() >= 4 + length {
                    let payload = Bytes::copy_from_slice(&self.input[4..4 + length]);
                    self.input.drain(..4 + length);
                    return Received::Frame(payload);
                }
            }
            match self.read_more(deadline) {
                Some(0) => return Received::Closed(std::mem::take(&mut self.input)),
                Some(_) => {}
                None => return Received::Silence,
            }
        }
    }

    /// Everything until the server closes, frames or not; `None` if it does not.
    pub fn receive_to_end(&mut self, patience: Duration) -> Option<Vec<u8>> {
        let deadline = Instant::now() + patience;
        loop {
            match self.read_more(deadline) {
                Some(0) => return Some(std::mem::take(&mut self.input)),
                Some(_) => {}
                None => return None,
            }
        }
    }

    /// Reads once: how many bytes, 0 at the end; `None` at the deadline.
    fn read_more(&mut self, deadline: Instant) -> Option<usize> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        self.socket.set_read_timeout(Some(left)).expect("cannot set a read timeout");
        let mut chunk = [0; 16384];
        match self.socket.read(&mut chunk) {
            Ok(n) => {
                self.input.extend_from_slice(&chunk[..n]);
                Some(n)
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(e) if e.kind() == ErrorKind::Interrupted => Some(1),
            // A reset is a close with our bytes still unread.
            Err(_) => Some(0),
        }
    }
}

/// `payload` behind its length.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + payload.len());
    bytes.extend_from_slice(&(payload.len() as i32).to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A ConnectRequest, field by field.
#[derive(Clone, Debug)]
pub struct Connect {
    pub protocol_version: i32,
    pub last_zxid_seen: i64,
    pub time_out: i32,
    pub session_id: i64,
    pub passwd: Option<Vec<u8>>,
    /// `None` is the 44-byte form of old clients.
    pub read_only: Option<u8>,
}

impl Default for Connect {
    fn default() -> Self {
        Self {
            protocol_version: 0,
            last_zxid_seen: 0,
            // Where the configuration allows it, longer than any test: an expiring session takes a zxid.
            time_out: 3_600_000,
            session_id: 0,
            passwd: Some(vec![0; 16]),
            read_only: Some(0),
        }
    }
}

impl Connect {
    pub fn attach(session: &Session) -> Self {
        Self { session_id: session.id, passwd: Some(session.passwd.to_vec()), ..Self::default() }
    }

    pub fn payload(&self) -> Vec<u8> {
        let mut body = Body::new()
            .int(self.protocol_version)
            .long(self.last_zxid_seen)
            .int(self.time_out)
            .long(self.session_id)
            .buffer(self.passwd.as_deref());
        if let Some(byte) = self.read_only {
            body = body.byte(byte);
        }
        body.into()
    }
}

/// What a ConnectResponse said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Session {
    pub id: i64,
    pub passwd: Bytes,
    pub time_out: i32,
    /// The last byte, if there was one.
    pub read_only: Option<u8>,
}

impl Session {
    /// Takes a ConnectResponse apart; an error says what is wrong with it.
    pub fn parse(payload: &Bytes) -> Result<Self, String> {
        let parse = |r: &mut Reader| -> Result<_, jute::DecodeError> {
            let version = r.int("protocolVersion")?;
            let time_out = r.int("timeOut")?;
            let id = r.long("sessionId")?;
            let passwd = r.buffer("passwd")?;
            let read_only = if r.is_empty() { None } else { Some(r.byte("readOnly")?) };
            Ok((version, time_out, id, passwd, read_only, r.remaining()))
        };
        let (version, time_out, id, passwd, read_only, left) =
            parse(&mut Reader::new(payload.clone())).map_err(|e| format!("not a ConnectResponse: {e}"))?;
        if version != 0 || left != 0 {
            return Err(format!("a ConnectResponse of version {version} with {left} bytes too many"));
        }
        let passwd = passwd.ok_or("a ConnectResponse without a password")?;
        Ok(Self { id, passwd, time_out, read_only })
    }
}

/// A reply: the header, and the bytes behind it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply {
    pub xid: i32,
    pub zxid: i64,
    pub err: i32,
    pub body: Bytes,
}

impl Reply {
    pub fn parse(payload: Bytes) -> Self {
        let mut r = Reader::new(payload.clone());
        let header = ReplyHeader::read(&mut r).unwrap_or_else(|e| panic!("not a reply: {e} in {}", hex(&payload)));
        Self { xid: header.xid, zxid: header.zxid, err: header.err, body: r.rest() }
    }

    /// The body as a record, which it must fill exactly.
    pub fn record<T: Record>(&self) -> T {
        let mut r = Reader::new(self.body.clone());
        let record = T::read(&mut r).unwrap_or_else(|e| panic!("{e} in the body of {self:?}"));
        assert!(r.is_empty(), "{} bytes too many in the body of {self:?}", r.remaining());
        record
    }

    /// The results of a multi or multiRead, which must end with a terminator and nothing behind it.
    pub fn results(&self) -> Vec<MultiResult> {
        let mut r = Reader::new(self.body.clone());
        let mut results = Vec::new();
        loop {
            let result = MultiResult::read(&mut r).unwrap_or_else(|e| panic!("{e} in the results of {self:?}"));
            let Some(result) = result else {
                assert!(r.is_empty(), "{} bytes behind the results of {self:?}", r.remaining());
                return results;
            };
            results.push(result);
        }
    }

    /// Type and error of each result.
    pub fn outcomes(&self) -> Vec<(i32, i32)> {
        self.results().iter().map(|r| (r.op, r.err)).collect()
    }

    /// The string that the body starts with.
    pub fn path(&self) -> String {
        let path = Reader::new(self.body.clone()).text("path");
        path.ok().flatten().unwrap_or_else(|| panic!("no path in {self:?}")).to_string()
    }

    /// The Stat that the body ends with.
    pub fn stat(&self) -> Stat {
        let at = self.body.len().checked_sub(68).unwrap_or_else(|| panic!("no Stat in {self:?}"));
        Stat::read(&mut Reader::new(self.body.slice(at..))).expect("68 bytes are a Stat")
    }
}

/// One result of a multi.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MultiResult {
    pub op: i32,
    pub err: i32,
    pub body: Bytes,
}

impl MultiResult {
    /// The next result; `None` for the terminator, which is always -1, done, -1.
    fn read(r: &mut Reader) -> Result<Option<Self>, jute::DecodeError> {
        let (op, done, err) = (r.int("type")?, r.byte("done")?, r.int("err")?);
        if done != 0 {
            assert_eq!((op, done, err), (-1, 1, -1), "not the terminator of a multi");
            return Ok(None);
        }
        let before = r.clone();
        match op {
            op::CREATE => _ = r.buffer("path")?,
            op::CREATE2 | op::GET_DATA => {
                r.buffer("path or data")?;
                r.take("stat", 68)?;
            }
            op::SET_DATA => _ = r.take("stat", 68)?,
            op::GET_CHILDREN => _ = r.vector::<Option<Text>>("children")?,
            -1 => assert_eq!(r.int("error")?, err, "header and body of a result have different errors"),
            _ => {}
        }
        let body = before.rest().slice(..r.position() - before.position());
        Ok(Some(Self { op, err, body }))
    }

    /// The Stat that the result ends with.
    pub fn stat(&self) -> Stat {
        let at = self.body.len().checked_sub(68).unwrap_or_else(|| panic!("no Stat in {self:?}"));
        Stat::read(&mut Reader::new(self.body.slice(at..))).expect("68 bytes are a Stat")
    }
}

/// A watch event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    pub zxid: i64,
    pub kind: i32,
    pub path: String,
}

impl Event {
    /// Reads a frame as an event, if it is one: xid -1, and a WatcherEvent of state 3 as the whole body.
    pub fn parse(payload: &Bytes) -> Option<Self> {
        let mut r = Reader::new(payload.clone());
        let header = ReplyHeader::read(&mut r).ok()?;
        if header.xid != -1 || header.err != 0 {
            return None;
        }
        let event = WatcherEvent::read(&mut r).ok()?;
        if event.state != 3 || !r.is_empty() {
            return None;
        }
        Some(Self { zxid: header.zxid, kind: event.event_type, path: event.path?.to_string() })
    }
}

/// A client with a session: requests one after another, events set aside as they come. Dropped, it ends the
/// session, so that nothing of it is left for the next check.
pub struct Client {
    connection: Connection,
    pub session: Session,
    events: VecDeque<Event>,
    xid: i32,
    is_abandoned: bool,
}

impl Client {
    /// A new session.
    pub fn connect(server: &Server) -> Self {
        Self::connect_as(server, &Connect::default())
    }

    /// A session by `request`, which the server must accept.
    pub fn connect_as(server: &Server, request: &Connect) -> Self {
        Self::try_connect_as(server, request).unwrap_or_else(|why| panic!("{why}\n{}", server.log()))
    }

    /// A session by `request`, or why there is none.
    pub fn try_connect_as(server: &Server, request: &Connect) -> Result<Self, String> {
        let mut connection = Connection::try_open(server.address()).map_err(|e| e.to_string())?;
        connection.send(&request.payload());
        let payload = match connection.receive(ANSWER) {
            Received::Frame(payload) => payload,
            other => return Err(format!("{other:?} instead of a ConnectResponse to {request:?}")),
        };
        let session = Session::parse(&payload).map_err(|why| format!("{why}: {}", hex(&payload)))?;
        if session.time_out <= 0 {
            return Err(format!("the server refused {request:?}"));
        }
        Ok(Self { connection, session, events: VecDeque::new(), xid: 0, is_abandoned: false })
    }

    /// A request with the next xid, and its reply.
    pub fn call(&mut self, op: i32, body: impl Into<Vec<u8>>) -> Reply {
        let xid = self.send(op, body);
        let reply = self.reply();
        let expected = if op == op::PING && reply.err == 0 { -2 } else { xid };
        assert_eq!(reply.xid, expected, "the reply to another request");
        reply
    }

    /// The error code of a request's reply.
    pub fn err(&mut self, op: i32, body: impl Into<Vec<u8>>) -> i32 {
        self.call(op, body).err
    }

    /// A request that must succeed.
    pub fn ok(&mut self, op: i32, body: impl Into<Vec<u8>>) -> Reply {
        let reply = self.call(op, body);
        assert_eq!(reply.err, 0, "op {op} failed");
        reply
    }

    /// Sends a request without waiting for its reply.
    pub fn send(&mut self, op: i32, body: impl Into<Vec<u8>>) -> i32 {
        self.xid += 1;
        self.send_as(self.xid, op, body);
        self.xid
    }

    /// Sends a request with an xid of one's choice.
    pub fn send_as(&mut self, xid: i32, op: i32, body: impl Into<Vec<u8>>) {
        self.connection.send(&request(xid, op, &body.into()));
    }

    /// Bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.connection.send_bytes(bytes);
    }

    /// The next reply.
    pub fn reply(&mut self) -> Reply {
        loop {
            match self.next_frame() {
                Next::Event(event) => self.events.push_back(event),
                Next::Reply(reply) => return reply,
            }
        }
    }

    /// Whatever comes next.
    pub fn receive(&mut self, patience: Duration) -> Received {
        self.connection.receive(patience)
    }

    /// The next frame, event or reply, in the order of the wire.
    pub fn next_frame(&mut self) -> Next {
        match self.connection.receive(ANSWER) {
            Received::Frame(payload) => match Event::parse(&payload) {
                Some(event) => Next::Event(event),
                None => Next::Reply(Reply::parse(payload)),
            },
            Received::Closed(_) => panic!("the server closed instead of answering"),
            Received::Silence => panic!("no answer within {ANSWER:?}"),
        }
    }

    /// The next event, as (type, path).
    pub fn event(&mut self) -> (i32, String) {
        let event = self.whole_event();
        (event.kind, event.path)
    }

    /// The next event.
    pub fn whole_event(&mut self) -> Event {
        if let Some(event) = self.events.pop_front() {
            return event;
        }
        match self.next_frame() {
            Next::Event(event) => event,
            Next::Reply(reply) => panic!("{reply:?} instead of an event"),
        }
    }

    /// All events that the server has for us by now: those before the reply to a ping.
    pub fn events(&mut self) -> Vec<(i32, String)> {
        self.whole_events().into_iter().map(|e| (e.kind, e.path)).collect()
    }

    pub fn whole_events(&mut self) -> Vec<Event> {
        self.ping();
        self.events.drain(..).collect()
    }

    /// The last zxid that the server has applied.
    pub fn ping(&mut self) -> i64 {
        self.send_as(-2, op::PING, []);
        let reply = self.reply();
        assert_eq!((reply.xid, reply.err, reply.body.len()), (-2, 0, 0), "not the reply to a ping");
        reply.zxid
    }

    /// The server must close without another reply; events may come before it.
    pub fn expect_closed(&mut self) {
        self.expect_closed_within(ANSWER);
    }

    pub fn expect_closed_within(&mut self, patience: Duration) {
        loop {
            match self.connection.receive(patience) {
                Received::Closed(left) if left.is_empty() => return,
                Received::Frame(payload) if Event::parse(&payload).is_some() => {}
                other => panic!("{other:?} where the server should close"),
            }
        }
    }

    /// The connection must still serve.
    pub fn expect_open(&mut self) {
        self.ping();
    }

    /// Ends the session.
    pub fn close(mut self) -> Reply {
        let reply = self.ok(op::CLOSE_SESSION, []);
        self.expect_closed();
        reply
    }

    /// Ends the connection and leaves the session; returns when the server has noticed.
    pub fn leave(&mut self) {
        self.connection.half_close();
        self.expect_closed();
    }

    /// Leaves the session, and ends the connection whatever the server does.
    pub fn abandon(mut self) -> Session {
        self.is_abandoned = true;
        self.session.clone()
    }

    pub fn create(&mut self, path: &str) {
        self.ok(op::CREATE, crate::request::node(path));
    }

    pub fn exists(&mut self, path: &str) -> bool {
        match self.err(op::EXISTS, crate::request::unwatched(path)) {
            0 => true,
            -101 => false,
            err => panic!("exists {path}: error {err}"),
        }
    }

    pub fn stat(&mut self, path: &str) -> Stat {
        self.ok(op::EXISTS, crate::request::unwatched(path)).stat()
    }

    pub fn data(&mut self, path: &str) -> String {
        let body = self.ok(op::GET_DATA, crate::request::unwatched(path)).body;
        let data = Reader::new(body).buffer("data").expect("getData answers data").unwrap_or_default();
        String::from_utf8_lossy(&data).into_owned()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if self.is_abandoned || std::thread::panicking() {
            return;
        }
        self.send(op::CLOSE_SESSION, []);
        while let Received::Frame(_) = self.connection.receive(ANSWER) {}
    }
}

/// What came next on the wire.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Next {
    Event(Event),
    Reply(Reply),
}

/// The payload of a request.
pub fn request(xid: i32, op: i32, body: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(8 + body.len());
    payload.extend_from_slice(&xid.to_be_bytes());
    payload.extend_from_slice(&op.to_be_bytes());
    payload.extend_from_slice(body);
    payload
}

/// Bytes as the specifications print them.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
