use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;

use super::deliberate;
use super::reply::{Owners, Parsed, describe_event, describe_reply};
use super::script::{Connect, Memory, Password, Request, Script, Step, Whose};
use crate::raw::{self, Connection, Event, Received, Session, frame, hex};
use crate::request::op;
use crate::{Kind, Server};

/// How long an answer or a close may take before it counts as missing.
const PATIENCE: Duration = Duration::from_secs(5);

/// Everything one server said.
pub struct Transcript {
    pub kind: Kind,
    entries: Vec<Entry>,
    /// The end of the server's log.
    log: String,
}

/// One frame, or the lack of one.
struct Entry {
    step: usize,
    slot: usize,
    what: What,
    /// What is compared.
    canonical: Vec<u8>,
    /// What came.
    received: Bytes,
    /// The request that it answers.
    request: Option<Sent>,
}

#[derive(Clone)]
struct Sent {
    /// `None` for a ConnectRequest.
    op: Option<i32>,
    payload: Bytes,
}

impl Sent {
    fn name(&self) -> &'static str {
        self.op.map_or("connect", op::name)
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum What {
    Connected,
    Refused,
    Reply,
    Event,
    Closed,
    /// Nothing, where something was due.
    Silence,
    /// A reply to nothing.
    Unasked,
    /// All bytes of a stray connection.
    Bytes,
    /// The step made no sense and was left out.
    Skipped,
    /// The process is gone.
    Dead,
}

/// Where two servers differ first.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The step of the script.
    pub step: usize,
    /// The kind of difference: equal for two scripts that show the same one.
    pub signature: String,
    /// The request, and both answers in hex and in words.
    pub report: String,
}

/// A connection in a slot.
struct Live {
    connection: Connection,
    session: u32,
}

struct Runner<'a> {
    server: &'a Server,
    live: BTreeMap<usize, Live>,
    /// By number.
    sessions: BTreeMap<u32, Session>,
    owners: Owners,
    memory: Memory,
    entries: Vec<Entry>,
    step: usize,
    /// The zxid of a closeSession in this step: the order of its events is unspecified.
    closed_at: Option<i64>,
}

/// Holds the conversation with `server`.
pub fn run(server: &mut Server, script: &Script) -> Transcript {
    let kind = server.kind().clone();
    let mut runner = Runner {
        server,
        live: BTreeMap::new(),
        sessions: BTreeMap::new(),
        owners: Owners::new(),
        memory: Memory::default(),
        entries: Vec::new(),
        step: 0,
        closed_at: None,
    };
    for (at, step) in script.0.iter().enumerate() {
        runner.step = at;
        runner.closed_at = None;
        let first = runner.entries.len();
        runner.perform(step);
        runner.barrier();
        runner.order_events_of_close(first);
    }
    let mut entries = runner.entries;
    if !server.is_alive() {
        let received = Bytes::from(server.log());
        let step = script.0.len();
        entries.push(Entry { step, slot: 0, what: What::Dead, canonical: vec![], received, request: None });
    }
    Transcript { kind, entries, log: server.log() }
}

impl Runner<'_> {
    fn perform(&mut self, step: &Step) {
        match step {
            Step::Open { slot, connect } => self.open(*slot, connect),
            Step::Batch { slot, requests } => self.batch(*slot, requests),
            Step::Break { slot, bytes } => {
                let Some(live) = self.live.get_mut(slot) else { return self.note(*slot, What::Skipped) };
                live.connection.send_bytes(bytes);
                self.await_close(*slot);
            }
            Step::Drop { slot } => self.drop_connection(*slot),
            Step::Stray { bytes } => {
                let Ok(mut connection) = Connection::try_open(self.server.address()) else {
                    return self.note(0, What::Dead);
                };
                connection.send_bytes(bytes);
                match connection.receive_to_end(PATIENCE) {
                    Some(all) => self.push(0, What::Bytes, all.clone(), all.into(), None),
                    None => self.note(0, What::Silence),
                }
            }
        }
    }

    fn open(&mut self, slot: usize, connect: &Connect) {
        self.drop_connection(slot);
        let (id, passwd) = match connect.session {
            Whose::New(_) => (0, Bytes::from_static(&[0; 16])),
            Whose::Nobodys(id) => (id, Bytes::from_static(&[7; 16])),
            Whose::Of(number) => match self.sessions.get(&number) {
                Some(session) => (session.id, session.passwd.clone()),
                None => return self.note(slot, What::Skipped),
            },
        };
        let before = match connect.session {
            Whose::Of(number) => self.live.iter().find(|(_, live)| live.session == number).map(|(slot, _)| *slot),
            _ => None,
        };
        // Java closes the owner's connection for anyone who knows the session's id (data-model 12b, 7).
        if before.is_some() && connect.password != Password::Right {
            return self.note(slot, What::Skipped);
        }
        let passwd = match connect.password {
            Password::Right => Some(passwd.to_vec()),
            Password::Wrong => Some(passwd.iter().map(|b| !b).collect()),
            Password::Null => None,
            Password::Empty => Some(Vec::new()),
        };
        let last_zxid_seen = self.memory.zxid(connect.last_zxid_seen);
        let request = raw::Connect {
            protocol_version: 0,
            last_zxid_seen,
            time_out: connect.time_out,
            session_id: id,
            passwd,
            read_only: connect.read_only,
        };
        let mut payload = request.payload();
        payload.extend_from_slice(&connect.junk);
        let sent = Sent { op: None, payload: payload.clone().into() };
        let Ok(mut connection) = Connection::try_open(self.server.address()) else {
            return self.note(slot, What::Dead);
        };
        connection.send(&payload);
        match connection.receive(PATIENCE) {
            Received::Frame(answer) => self.connected(slot, connect, connection, answer, before, sent),
            Received::Closed(left) => self.push(slot, What::Closed, left.clone(), left.into(), Some(sent)),
            Received::Silence => self.push(slot, What::Silence, vec![], Bytes::new(), Some(sent)),
        }
    }

    fn connected(
        &mut self,
        slot: usize,
        connect: &Connect,
        mut connection: Connection,
        answer: Bytes,
        before: Option<usize>,
        sent: Sent,
    ) {
        let session = match Session::parse(&answer) {
            Ok(session) if session.time_out > 0 => session,
            _ => {
                self.push(slot, What::Refused, answer.to_vec(), answer, Some(sent));
                let end = match connection.receive(PATIENCE) {
                    Received::Closed(_) => What::Closed,
                    Received::Frame(_) => What::Unasked,
                    Received::Silence => What::Silence,
                };
                return self.note(slot, end);
            }
        };
        let number = match connect.session {
            Whose::New(number) | Whose::Of(number) => number,
            Whose::Nobodys(_) => u32::MAX,
        };
        let mut canonical = session.time_out.to_be_bytes().to_vec();
        canonical.extend(number.to_be_bytes());
        canonical.extend((session.passwd.len() as u32).to_be_bytes());
        canonical.extend(session.read_only);
        if let Some(known) = self.sessions.get(&number) {
            canonical.push((known.id == session.id && known.passwd == session.passwd).into());
        }
        self.push(slot, What::Connected, canonical, answer, Some(sent));
        self.owners.insert(session.id, number);
        self.sessions.insert(number, session);
        if let Some(before) = before {
            self.await_close(before);
        }
        self.live.insert(slot, Live { connection, session: number });
    }

    fn batch(&mut self, slot: usize, requests: &[Request]) {
        if !self.live.contains_key(&slot) {
            return self.note(slot, What::Skipped);
        }
        let mut bytes = Vec::new();
        let mut sent = Vec::new();
        for request in requests {
            let encoded = request.encode(&self.memory);
            bytes.extend_from_slice(&frame(&encoded.payload));
            sent.push((Sent { op: Some(request.op), payload: encoded.payload.into() }, encoded.path));
        }
        self.connection(slot).send_bytes(&bytes);
        let mut last_word = false;
        for ((sent, path), request) in sent.into_iter().zip(requests) {
            let op = request.op;
            match self.reply(slot, Some(sent), What::Reply) {
                Some(payload) => last_word = self.learn(op, path, &payload),
                None => return,
            }
        }
        if last_word {
            self.await_close(slot);
        }
    }

    /// Takes from a reply what the script may refer to; whether the server closes after it.
    fn learn(&mut self, op: i32, path: Option<Vec<u8>>, payload: &Bytes) -> bool {
        let Some(parsed) = Parsed::new(op, payload) else { return false };
        self.memory.zxid = self.memory.zxid.max(parsed.zxid);
        let created = parsed.created(op);
        created.iter().for_each(|path| self.memory.note_created(path));
        if let (Some(stat), Some(path)) = (parsed.stat(op), created.first().map(|p| p.to_vec()).or(path)) {
            self.memory.versions.insert(path, (stat.version, stat.aversion));
        }
        if op == op::CLOSE_SESSION && parsed.err == 0 {
            self.closed_at = Some(parsed.zxid);
            return true;
        }
        let unknown = parsed.err == -6 && parsed.zxid == -1;
        unknown || parsed.err == -124 || (matches!(op, op::AUTH | op::SASL) && parsed.err != 0)
    }

    /// The next reply on a slot, with the events before it; `None` ends the connection.
    fn reply(&mut self, slot: usize, request: Option<Sent>, what: What) -> Option<Bytes> {
        loop {
            match self.connection(slot).receive(PATIENCE) {
                Received::Frame(payload) => {
                    if Event::parse(&payload).is_some() {
                        self.push(slot, What::Event, payload.to_vec(), payload, None);
                        continue;
                    }
                    let op = request.as_ref().and_then(|r| r.op).unwrap_or(op::PING);
                    let canonical =
                        Parsed::new(op, &payload).map_or_else(|| payload.to_vec(), |p| p.canonical(&self.owners));
                    self.push(slot, what, canonical, payload.clone(), request);
                    return Some(payload);
                }
                Received::Closed(left) => {
                    self.live.remove(&slot);
                    self.push(slot, What::Closed, left.clone(), left.into(), request);
                    return None;
                }
                Received::Silence => {
                    self.live.remove(&slot);
                    self.push(slot, What::Silence, vec![], Bytes::new(), request);
                    return None;
                }
            }
        }
    }

    /// The server must close this one; events may come before.
    fn await_close(&mut self, slot: usize) {
        while self.live.contains_key(&slot) {
            self.reply(slot, None, What::Unasked);
        }
    }

    /// Leaves as a client that exits, and waits until the server has noticed: Java forgets the session's
    /// *new* connection if it notices the end of the old one too late.
    fn drop_connection(&mut self, slot: usize) {
        if let Some(live) = self.live.get_mut(&slot) {
            live.connection.half_close();
            self.await_close(slot);
        }
    }

    /// After this, what the step caused has arrived everywhere: a ping waits behind it in the pipeline.
    fn barrier(&mut self) {
        let slots: Vec<_> = self.live.keys().copied().collect();
        for slot in &slots {
            self.connection(*slot).send(&raw::request(-2, op::PING, &[]));
        }
        for slot in slots {
            loop {
                let Some(payload) = self.reply(slot, None, What::Unasked) else { break };
                if payload.starts_with(&(-2i32).to_be_bytes()) {
                    self.entries.last_mut().expect("the reply was noted").what = What::Reply;
                    self.memory.zxid = Parsed::new(op::PING, &payload).map_or(self.memory.zxid, |p| p.zxid);
                    break;
                }
            }
        }
    }

    fn order_events_of_close(&mut self, first: usize) {
        let Some(zxid) = self.closed_at else { return };
        let of_close = |e: &Entry| e.what == What::Event && e.received[4..12] == zxid.to_be_bytes();
        self.entries[first..]
            .chunk_by_mut(|a, b| of_close(a) && of_close(b) && a.slot == b.slot)
            .for_each(|run| run.sort_by(|a, b| a.canonical.cmp(&b.canonical)));
    }

    fn connection(&mut self, slot: usize) -> &mut Connection {
        &mut self.live.get_mut(&slot).expect("the slot is in use").connection
    }

    fn note(&mut self, slot: usize, what: What) {
        self.push(slot, what, Vec::new(), Bytes::new(), None);
    }

    fn push(&mut self, slot: usize, what: What, canonical: Vec<u8>, received: Bytes, request: Option<Sent>) {
        self.entries.push(Entry { step: self.step, slot, what, canonical, received, request });
    }
}

impl Entry {
    fn same(&self, other: &Self) -> bool {
        (self.step, self.slot, self.what) == (other.step, other.slot, other.what) && self.canonical == other.canonical
    }

    fn op(&self) -> i32 {
        self.request.as_ref().and_then(|r| r.op).unwrap_or(op::PING)
    }

    fn describe(&self) -> String {
        match self.what {
            What::Reply | What::Unasked => describe_reply(self.op(), &self.received),
            What::Event => describe_event(&self.received),
            What::Dead => String::from_utf8_lossy(&self.received).into_owned(),
            _ => hex(&self.received),
        }
    }

    fn error(&self) -> i32 {
        match self.what {
            What::Reply => Parsed::new(self.op(), &self.received).map_or(0, |p| p.err),
            _ => 0,
        }
    }
}

/// The first difference between what two servers said to one script, if there is one.
pub fn compare(a: &Transcript, b: &Transcript) -> Option<Difference> {
    let deliberate = matches!((&a.kind, &b.kind), (Kind::Java(_), Kind::Zooid));
    for at in 0..a.entries.len().max(b.entries.len()) {
        let (x, y) = (a.entries.get(at), b.entries.get(at));
        if let (Some(x), Some(y)) = (x, y) {
            if x.same(y) {
                continue;
            }
            if deliberate
                && x.what == What::Reply
                && y.what == What::Reply
                && let Some(sent) = &x.request
                && deliberate::explains(&sent.payload, &x.received, &y.received)
            {
                continue;
            }
        }
        return Some(difference(a, b, x, y));
    }
    None
}

fn difference(a: &Transcript, b: &Transcript, x: Option<&Entry>, y: Option<&Entry>) -> Difference {
    let one = x.or(y).expect("one of the two has more");
    let say = |e: Option<&Entry>| e.map_or("nothing more".into(), |e| format!("{:?} {}", e.what, e.describe()));
    let brief = |e: Option<&Entry>| e.map_or("-".into(), |e| format!("{:?} {} {}", e.what, e.op(), e.error()));
    let mut report = format!("step {}, connection {}\n", one.step, one.slot);
    if let Some(sent) = &one.request {
        let _ = writeln!(report, "request {} {}", sent.name(), hex(&sent.payload));
    }
    let _ = writeln!(report, "{:?} said {}", a.kind, say(x));
    let _ = writeln!(report, "{:?} said {}", b.kind, say(y));
    // A close or a silence has its reason in the log, if it has one.
    if [x, y].into_iter().flatten().any(|e| matches!(e.what, What::Closed | What::Silence)) {
        let _ = writeln!(report, "log of {:?}:\n{}\nlog of {:?}:\n{}", a.kind, a.log, b.kind, b.log);
    }
    Difference { step: one.step, signature: format!("{} / {}", brief(x), brief(y)), report }
}

impl Transcript {
    /// The conversation as it went, frame by frame.
    pub fn tell(&self) -> String {
        let mut text = String::new();
        for entry in &self.entries {
            if let Some(sent) = &entry.request {
                let _ = writeln!(text, "[{}] > {} {}", entry.slot, sent.name(), hex(&sent.payload));
            }
            // The pings of the barrier say nothing to a reader.
            if entry.request.is_some() || entry.what != What::Reply {
                let _ = writeln!(text, "[{}] < {:?} {}", entry.slot, entry.what, entry.describe());
            }
        }
        text
    }

    /// How often each error code came, by operation: what a seed really covers.
    pub fn coverage(&self) -> BTreeMap<(i32, i32), usize> {
        let mut seen = BTreeMap::new();
        for entry in self.entries.iter().filter(|e| e.what == What::Reply && e.request.is_some()) {
            *seen.entry((entry.op(), entry.error())).or_default() += 1;
        }
        seen
    }

    /// How many events came.
    pub fn events(&self) -> usize {
        self.entries.iter().filter(|e| e.what == What::Event).count()
    }
}
