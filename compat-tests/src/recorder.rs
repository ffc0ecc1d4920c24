//! What the members of an ensemble say to each other, byte by byte: a relay in front of each one's quorum and
//! election port, which keeps what goes through, in both directions and in order. It can also let a connection
//! wait, or break it off at a byte of one's choice.
//!
//! A member tells others where it listens for votes, and they dial that address back; so the relays put their
//! own address there. What is kept is what the member said.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use crate::ensemble::{Ensemble, Ports};
use crate::server::pause;

/// Which of a member's ports.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Port {
    Election,
    Quorum,
}

/// What a relay does with connections that come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    Carry,
    /// Takes them and lets them wait until there is another rule.
    Hold,
    /// Closes both ends when the dialler says more than so many bytes; the rest does not arrive.
    BreakAfter(usize),
    /// Closes both ends when the acceptor says more than so many bytes.
    BreakAnswerAfter(usize),
}

/// How a leader brings a learner to its own history.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sync {
    Diff,
    Trunc,
    Snap,
}

/// Who sent something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Dialler,
    Acceptor,
}

/// The relays, which carry until the value is dropped.
pub struct Recorder {
    shared: Arc<Shared>,
}

struct Shared {
    is_over: AtomicBool,
    state: Mutex<State>,
    /// What a member calls its election address, and what others are to call it.
    names: BTreeMap<String, String>,
}

#[derive(Default)]
struct State {
    rules: BTreeMap<(i64, Port), Rule>,
    /// How many connections wait.
    held: usize,
    /// How many were broken off.
    broken: usize,
    connections: Vec<Connection>,
    /// Connection, who sent, how many bytes.
    order: Vec<(usize, End, usize)>,
}

struct Connection {
    port: Port,
    to: i64,
    dialled: Vec<u8>,
    answered: Vec<u8>,
    /// Both sockets, to break it off.
    sockets: [TcpStream; 2],
}

impl Recorder {
    /// Puts relays in front of all members, which must not run yet.
    pub fn before(ensemble: &mut Ensemble) -> Self {
        let relays: Vec<(i64, Ports, Ports)> =
            ensemble.sids().into_iter().map(|sid| (sid, Ports::fresh(), ensemble.ports(sid))).collect();
        let name = |(_, relay, member): &(_, Ports, Ports)| (member.election.to_string(), relay.election.to_string());
        let shared = Arc::new(Shared {
            is_over: AtomicBool::new(false),
            state: Mutex::default(),
            names: relays.iter().map(name).collect(),
        });
        for (sid, relay, member) in relays {
            ensemble.show_at(sid, relay);
            for (port, from, to) in
                [(Port::Election, relay.election, member.election), (Port::Quorum, relay.quorum, member.quorum)]
            {
                let listener = TcpListener::bind(from).unwrap_or_else(|e| panic!("cannot listen on {from}: {e}"));
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.accept(&listener, sid, port, to));
            }
        }
        Self { shared }
    }

    /// Sets what becomes of new connections to a member's port.
    pub fn rule(&self, sid: i64, port: Port, rule: Rule) {
        self.shared.state().rules.insert((sid, port), rule);
    }

    /// Breaks off every connection to a member's port.
    pub fn cut(&self, sid: i64, port: Port) {
        for connection in self.shared.state().connections.iter().filter(|c| (c.to, c.port) == (sid, port)) {
            connection.cut();
        }
    }

    /// How many connections wait.
    pub fn held(&self) -> usize {
        self.shared.state().held
    }

    /// How many connections were broken off by a rule.
    pub fn broken(&self) -> usize {
        self.shared.state().broken
    }

    /// Writes what was recorded from connection `first` on: a file for either end of each connection, and the
    /// order in which the bytes came.
    pub fn save(&self, directory: &Path, first: usize) -> io::Result<()> {
        let _ = fs::remove_dir_all(directory);
        fs::create_dir_all(directory)?;
        let state = self.shared.state();
        let mut order = String::new();
        for (at, connection) in state.connections.iter().enumerate().skip(first) {
            if !connection.is_empty() {
                let name = connection.name(at - first);
                fs::write(directory.join(format!("{name}.dialled")), &connection.dialled)?;
                fs::write(directory.join(format!("{name}.answered")), &connection.answered)?;
            }
        }
        for (at, end, count) in state.order.iter().filter(|(at, ..)| *at >= first) {
            let end = match end {
                End::Dialler => "dialled",
                End::Acceptor => "answered",
            };
            order.push_str(&format!("{}.{end} {count}\n", state.connections[*at].name(at - first)));
        }
        fs::write(directory.join("order"), order)
    }

    /// How the leader brought this learner to its own history the last time it did: what stood in its first
    /// packet behind LEADERINFO, and how many transactions came before NEWLEADER.
    pub fn last_sync(&self, learner: i64) -> Option<(Sync, usize)> {
        let state = self.shared.state();
        let is_learner = |c: &&Connection| c.port == Port::Quorum && c.dialler() == Some(learner);
        state.connections.iter().filter(is_learner).rev().find_map(|c| sync_of(&c.answered))
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.shared.state().connections.len()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.shared.state().connections.iter().for_each(Connection::cut);
    }
}

impl Connection {
    fn cut(&self) {
        for socket in &self.sockets {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn is_empty(&self) -> bool {
        self.dialled.is_empty() && self.answered.is_empty()
    }

    /// `03-quorum-1-2`: the fourth connection, by member 1 to the quorum port of member 2.
    fn name(&self, number: usize) -> String {
        let port = match self.port {
            Port::Election => "election",
            Port::Quorum => "quorum",
        };
        format!("{number:02}-{port}-{}-{}", self.dialler().unwrap_or(0), self.to)
    }

    /// Who dialled, as it said itself.
    fn dialler(&self) -> Option<i64> {
        // The hello of an election connection has the sid behind the version, and the first packet of a learner
        // behind type, zxid and the length of its data.
        let at = match self.port {
            Port::Election => 8,
            Port::Quorum => 16,
        };
        self.dialled.get(at..at + 8).and_then(|sid| sid.try_into().ok()).map(i64::from_be_bytes)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    fn accept(self: Arc<Self>, listener: &TcpListener, sid: i64, port: Port, to: SocketAddr) {
        listener.set_nonblocking(true).expect("a listener that does not block");
        while !self.is_over.load(Ordering::Relaxed) {
            let Ok((dialler, _)) = listener.accept() else {
                pause();
                continue;
            };
            dialler.set_nonblocking(false).expect("a socket that blocks");
            let shared = Arc::clone(&self);
            thread::spawn(move || shared.relay(dialler, sid, port, to));
        }
    }

    /// Carries one connection to its end.
    fn relay(self: Arc<Self>, mut dialler: TcpStream, sid: i64, port: Port, to: SocketAddr) {
        let rule = self.await_rule(sid, port);
        let _ = dialler.set_nodelay(true);
        let Some(acceptor) = dial(port, to) else { return };
        let sockets = [dialler.try_clone().expect("a socket"), acceptor.try_clone().expect("a socket")];
        let connection = Connection { port, to: sid, dialled: Vec::new(), answered: Vec::new(), sockets };
        let number = {
            let mut state = self.state();
            state.connections.push(connection);
            state.connections.len() - 1
        };
        let back = {
            let (shared, from, to) = (Arc::clone(&self), acceptor.try_clone(), dialler.try_clone());
            let (from, to) = (from.expect("a socket"), to.expect("a socket"));
            let most = if let Rule::BreakAnswerAfter(most) = rule { most } else { usize::MAX };
            thread::spawn(move || shared.carry(number, End::Acceptor, from, to, most))
        };
        let mut left = if let Rule::BreakAfter(most) = rule { most } else { usize::MAX };
        if port == Port::Election {
            let Some(hello) = read_hello(&mut dialler) else { return };
            self.keep(number, End::Dialler, &hello);
            left -= hello.len();
            let _ = (&acceptor).write_all(&self.readdressed(&hello));
        }
        Arc::clone(&self).carry(number, End::Dialler, dialler, acceptor, left);
        let _ = back.join();
    }

    /// What becomes of a connection that came, once that is settled.
    fn await_rule(&self, sid: i64, port: Port) -> Rule {
        let mut is_held = false;
        loop {
            let mut state = self.state();
            let rule = state.rules.get(&(sid, port)).copied().unwrap_or(Rule::Carry);
            if rule != Rule::Hold || self.is_over.load(Ordering::Relaxed) {
                state.held -= usize::from(is_held);
                return rule;
            }
            state.held += usize::from(!is_held);
            is_held = true;
            drop(state);
            pause();
        }
    }

    fn carry(self: Arc<Self>, number: usize, end: End, mut from: TcpStream, mut to: TcpStream, mut left: usize) {
        let mut chunk = [0; 16384];
        while let Ok(count @ 1..) = from.read(&mut chunk) {
            if count > left {
                let mut state = self.state();
                state.broken += 1;
                state.connections[number].cut();
                break;
            }
            self.keep(number, end, &chunk[..count]);
            left -= count;
            if to.write_all(&chunk[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    }

    fn keep(&self, number: usize, end: End, bytes: &[u8]) {
        let mut state = self.state();
        state.order.push((number, end, bytes.len()));
        let connection = &mut state.connections[number];
        match end {
            End::Dialler => connection.dialled.extend_from_slice(bytes),
            End::Acceptor => connection.answered.extend_from_slice(bytes),
        }
    }

    /// The hello with the relay's address instead of the member's.
    fn readdressed(&self, hello: &[u8]) -> Vec<u8> {
        let address = String::from_utf8_lossy(&hello[HELLO..]);
        let Some(name) = self.names.get(address.as_ref()) else { return hello.to_vec() };
        let mut bytes = hello[..HELLO - 4].to_vec();
        bytes.extend((name.len() as i32).to_be_bytes());
        bytes.extend(name.as_bytes());
        bytes
    }
}

/// What a leader said first on a link, and how many proposals then came before NEWLEADER; none are counted behind
/// a snapshot.
fn sync_of(answered: &[u8]) -> Option<(Sync, usize)> {
    const PROPOSAL: i32 = 2;
    let int = |at: usize| Some(i32::from_be_bytes(answered.get(at..at + 4)?.try_into().expect("4 bytes")));
    // Type, zxid, and data behind its length; a leader's packets have no identities behind that.
    let length = |at: usize| Some(20 + usize::try_from(int(at + 12)?).unwrap_or(0));
    let mut at = length(0)?;
    let sync = match int(at)? {
        13 => Sync::Diff,
        14 => Sync::Trunc,
        15 => return Some((Sync::Snap, 0)),
        _ => return None,
    };
    let mut proposals = 0;
    loop {
        at += length(at)?;
        match int(at)? {
            NEW_LEADER => return Some((sync, proposals)),
            PROPOSAL => proposals += 1,
            _ => {}
        }
    }
}

const NEW_LEADER: i32 = 10;

/// Version, sid, and the length of the address.
const HELLO: usize = 20;

/// The first words on an election connection.
fn read_hello(dialler: &mut TcpStream) -> Option<Vec<u8>> {
    let mut hello = vec![0; HELLO];
    dialler.read_exact(&mut hello).ok()?;
    let length = i32::from_be_bytes(hello[HELLO - 4..].try_into().expect("4 bytes"));
    hello.resize(HELLO + usize::try_from(length).ok()?, 0);
    dialler.read_exact(&mut hello[HELLO..]).ok()?;
    Some(hello)
}

/// Dials a member. A leader listens a moment after others know that it leads, and who dials it meanwhile must
/// not see its connection taken and closed, which is not the same as refused.
fn dial(port: Port, to: SocketAddr) -> Option<TcpStream> {
    let patience = if port == Port::Quorum { Duration::from_secs(2) } else { Duration::ZERO };
    let deadline = Instant::now() + patience;
    loop {
        match TcpStream::connect(to) {
            Ok(socket) => {
                let _ = socket.set_nodelay(true);
                return Some(socket);
            }
            Err(_) if Instant::now() > deadline => return None,
            Err(_) => pause(),
        }
    }
}
