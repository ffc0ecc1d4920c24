//! Connections between election ports, and who dials whom.
//!
//! There is one connection between two servers, and the one with the larger id dials it. The smaller one that wants
//! to talk dials too, but only to announce itself: it says who it is and where to find it, closes, and is dialled
//! back. So two servers that dial each other at once do not end with two connections, or with none.
//!
//! A notification is worth sending only if it is the last one. So each peer has one place for what waits, and a new
//! notification takes the place of the old. What was handed to the network may still have been lost with its
//! connection, so a new connection begins with a repetition. Nothing dials by itself: the next notification does.
//!
//! What always holds here:
//!
//! - One live connection, and one dial, per server; what comes on an older connection is not delivered any more.
//! - What others can make us keep is bounded: half of a frame and one notification for each member, the same for
//!   [`MAX_STRANGERS`] others, and [`MAX_HANDSHAKES`] beginnings of a hello.
//!
//! Whoever knows the port may claim any id, a stranger's too: one that this member list does not have yet may be in
//! the next. The votes of strangers do not count.
//!
//! Java: `QuorumCnxManager` with its threads per peer; quorum-protocol 2. Java repeats an announcement for every
//! notification that is sent before it is dialled back, each of which ends the connection just made; here
//! [`QUIET_MS`] lie between them.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::config::{Endpoint, Member, Membership, MultiAddress};
use crate::id::ServerId;
use crate::session::Mono;

/// The largest notification.
pub const MAX_FRAME: usize = 512 * 1024;
/// The longest list of addresses in a hello.
const MAX_ADDRESSES_TEXT: usize = 2048;
/// How many addresses of a hello are believed. A dial tries all of them.
const MAX_ADDRESSES: usize = 8;
/// Accepted connections that have not said yet whose they are. Beyond, the oldest is closed.
pub const MAX_HANDSHAKES: usize = 64;
/// Connections of servers that are no members. Beyond, the oldest is closed.
pub const MAX_STRANGERS: usize = 16;
/// Between the end of a dial that gave no connection and the next one to the same server.
pub const QUIET_MS: i64 = 100;

/// What stands for no limit. Java takes 0 at its word, and then a lost packet costs a thread for ever.
pub const NO_LIMIT_MS: i64 = 60_000;

/// One address in the hello, as all releases understand it.
const HELLO_V1: i64 = -65_536;
/// Several, with the multi-address feature.
const HELLO_V2: i64 = -65_535;
/// Version, id and length.
const HELLO_HEAD: usize = 20;

#[derive(Clone, Debug)]
pub struct LinkRules {
    pub me: ServerId,
    pub membership: Arc<Membership>,
    pub multi_address: MultiAddress,
    /// How long a dial may take; [`NO_LIMIT_MS`] if it is not positive.
    pub connect_ms: i64,
    /// How long an accepted connection may take to say whose it is; [`NO_LIMIT_MS`] if it is not positive.
    pub handshake_ms: i64,
}

/// A connection of this module, dialled or accepted, never reused.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Conn(pub u64);

#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Connect to any of these; names are to be resolved now. Answered by `on_dialled` or `on_closed`.
    Dial { conn: Conn, to: ServerId, addresses: Vec<Endpoint> },
    /// To be written as one piece; answered by `on_written`. There is one at a time on a connection.
    Write { conn: Conn, bytes: Bytes },
    /// Close, once what was to be written is. Answered by nothing; a dial under way ends too.
    Close { conn: Conn, why: Why },
    /// A notification came.
    Deliver { from: ServerId, body: Bytes },
}

/// Why a connection was closed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Why {
    #[error("server {0} has the larger id, and dials back")]
    Announced(ServerId),
    #[error("server {0} has the smaller id, and is dialled back")]
    DialledBack(ServerId),
    #[error("a newer connection to server {0} takes its place")]
    Replaced(ServerId),
    #[error(
        "the other side claims this server's own id, {0}: two servers have the same one, or this one's address is another's too"
    )]
    OwnId(ServerId),
    #[error("the id {0} is reserved")]
    ReservedId(ServerId),
    #[error("the first word is {0}, which is neither a version nor an id")]
    Version(i64),
    #[error("the hello's addresses take {0} bytes")]
    AddressLength(i32),
    #[error("the hello has a malformed address: {0}")]
    Address(String),
    #[error("a notification of {0} bytes")]
    FrameLength(i32),
    #[error("it took too long")]
    Late,
    #[error("too many connections of servers that are no members")]
    Crowded,
}

/// All connections of a server.
#[derive(Debug)]
pub struct Links {
    rules: LinkRules,
    hello: Bytes,
    next_conn: u64,
    conns: BTreeMap<Conn, State>,
    peers: BTreeMap<ServerId, Peer>,
}

#[derive(Debug)]
enum State {
    Dialling {
        to: ServerId,
        deadline: Mono,
    },
    /// Accepted; the hello is not complete.
    Expecting {
        received: BytesMut,
        deadline: Mono,
    },
    Live(Live),
}

#[derive(Debug)]
struct Live {
    peer: ServerId,
    received: BytesMut,
    /// Something is handed to the network, and not all of it taken.
    writing: bool,
    /// No notification was written on it.
    fresh: bool,
}

/// What is known of another server.
#[derive(Debug, Default)]
struct Peer {
    live: Option<Conn>,
    dialling: Option<Conn>,
    /// The newest notification, if it was not handed to the network.
    waiting: Option<Bytes>,
    /// The last one that was.
    last: Option<Bytes>,
    /// Until when it is not dialled.
    quiet_until: Mono,
    /// It is dialled then.
    dial_later: bool,
}

impl Links {
    pub fn new(rules: LinkRules) -> Self {
        let hello = hello(&rules);
        Self { rules, hello, next_conn: 0, conns: BTreeMap::new(), peers: BTreeMap::new() }
    }

    /// A notification for another server; one for ourselves, or for a stranger who is not here, goes nowhere.
    pub fn send(&mut self, now: Mono, to: ServerId, body: Bytes, out: &mut Vec<Effect>) {
        assert!((1..=MAX_FRAME).contains(&body.len()), "a notification of {} bytes", body.len());
        let is_member = self.rules.membership.members.contains_key(&to);
        if to == self.rules.me || !(is_member || self.peers.contains_key(&to)) {
            return;
        }
        self.peers.entry(to).or_default().waiting = Some(body);
        self.pump(to, out);
        self.dial(now, to, None, out);
    }

    /// Nothing was heard for a while: says it again, if anything said before got as far as the network. If nothing
    /// did, connections are what is missing.
    ///
    /// Java: `haveDelivered`, `connectAll`.
    pub fn resend(&mut self, now: Mono, messages: Vec<(ServerId, Bytes)>, out: &mut Vec<Effect>) {
        if self.peers.values().any(|peer| peer.waiting.is_none()) || self.peers.is_empty() {
            for (to, body) in messages {
                self.send(now, to, body, out);
            }
        } else {
            let all: Vec<ServerId> = self.peers.keys().copied().collect();
            for to in all {
                self.dial(now, to, None, out);
            }
        }
    }

    /// A dial succeeded.
    pub fn on_dialled(&mut self, now: Mono, conn: Conn, out: &mut Vec<Effect>) {
        let Some(State::Dialling { to, .. }) = self.conns.get(&conn) else { return };
        let to = *to;
        out.push(Effect::Write { conn, bytes: self.hello.clone() });
        if to > self.rules.me {
            self.conns.remove(&conn);
            self.end_dial(now, to);
            out.push(Effect::Close { conn, why: Why::Announced(to) });
        } else {
            self.peers.entry(to).or_default().dialling = None;
            self.become_live(conn, to, BytesMut::new(), out);
            if let Some(State::Live(live)) = self.conns.get_mut(&conn) {
                live.writing = true;
            }
        }
    }

    /// A connection was accepted, and has this number from now on.
    pub fn on_accepted(&mut self, now: Mono, out: &mut Vec<Effect>) -> Conn {
        let expecting = |(_, state): &(&Conn, &State)| matches!(state, State::Expecting { .. });
        if self.conns.iter().filter(expecting).count() >= MAX_HANDSHAKES {
            // A real peer says hello at once; it is the others that are old.
            let oldest = *self.conns.iter().find(expecting).expect("there are some").0;
            self.close(oldest, Why::Crowded, out);
        }
        let conn = self.new_conn();
        let deadline = now + limit(self.rules.handshake_ms);
        self.conns.insert(conn, State::Expecting { received: BytesMut::new(), deadline });
        conn
    }

    /// Bytes came, any part of what was sent.
    pub fn on_bytes(&mut self, now: Mono, conn: Conn, bytes: &[u8], out: &mut Vec<Effect>) {
        match self.conns.get_mut(&conn) {
            Some(State::Expecting { received, .. }) => {
                received.extend_from_slice(bytes);
                match parse_hello(received) {
                    Ok(None) => {}
                    Ok(Some(hello)) => {
                        let rest = std::mem::take(received);
                        self.on_hello(now, conn, hello, rest, out);
                    }
                    Err(why) => self.close(conn, why, out),
                }
            }
            Some(State::Live(live)) => {
                live.received.extend_from_slice(bytes);
                self.deliver(conn, out);
            }
            // Closed meanwhile; and nobody speaks on a connection before it is there.
            Some(State::Dialling { .. }) | None => {}
        }
    }

    /// What was to be written is.
    pub fn on_written(&mut self, conn: Conn, out: &mut Vec<Effect>) {
        let Some(State::Live(live)) = self.conns.get_mut(&conn) else { return };
        live.writing = false;
        let peer = live.peer;
        self.pump(peer, out);
    }

    /// The other side closed, a read or write failed, or a dial did.
    pub fn on_closed(&mut self, now: Mono, conn: Conn) {
        match self.conns.remove(&conn) {
            Some(State::Dialling { to, .. }) => self.end_dial(now, to),
            Some(State::Live(live)) => self.forget(live.peer, conn),
            Some(State::Expecting { .. }) | None => {}
        }
    }

    pub fn on_time(&mut self, now: Mono, out: &mut Vec<Effect>) {
        let late = |state: &State| match state {
            State::Dialling { deadline, .. } | State::Expecting { deadline, .. } => *deadline <= now,
            State::Live(_) => false,
        };
        let all: Vec<Conn> = self.conns.iter().filter(|(_, state)| late(state)).map(|(conn, _)| *conn).collect();
        for conn in all {
            out.push(Effect::Close { conn, why: Why::Late });
            self.on_closed(now, conn);
        }
        let due = |peer: &Peer| peer.dial_later && peer.quiet_until <= now;
        let all: Vec<ServerId> = self.peers.iter().filter(|(_, peer)| due(peer)).map(|(id, _)| *id).collect();
        for to in all {
            self.dial(now, to, None, out);
        }
    }

    pub fn next_deadline(&self) -> Option<Mono> {
        let of_conns = self.conns.values().filter_map(|state| match state {
            State::Dialling { deadline, .. } | State::Expecting { deadline, .. } => Some(*deadline),
            State::Live(_) => None,
        });
        let of_peers = self.peers.values().filter(|peer| peer.dial_later).map(|peer| peer.quiet_until);
        of_conns.chain(of_peers).min()
    }

    /// Addresses are the new list's from now on. Connections stay.
    pub fn set_membership(&mut self, membership: Arc<Membership>) {
        self.rules.membership = membership;
        self.hello = hello(&self.rules);
        let all: Vec<ServerId> = self.peers.keys().copied().collect();
        for id in all {
            self.forget_stranger(id);
        }
    }

    /// The servers that there is a connection to.
    pub fn connected(&self) -> impl Iterator<Item = ServerId> {
        self.peers.iter().filter(|(_, peer)| peer.live.is_some()).map(|(id, _)| *id)
    }

    fn on_hello(&mut self, now: Mono, conn: Conn, hello: Hello, rest: BytesMut, out: &mut Vec<Effect>) {
        let (me, from) = (self.rules.me, hello.from);
        if from == me {
            // Java leaves it open and never reads from it.
            self.close(conn, Why::OwnId(me), out);
        } else if from == i64::MAX {
            // An observer without an id, as it once was meant to be: nobody could dial it back.
            self.close(conn, Why::ReservedId(from), out);
        } else if from < me {
            self.close(conn, Why::DialledBack(from), out);
            // It would not announce itself if it had a connection, whatever we believe.
            if let Some(live) = self.peers.get(&from).and_then(|peer| peer.live) {
                self.close(live, Why::DialledBack(from), out);
            }
            let addresses = Some(hello.addresses).filter(|addresses| !addresses.is_empty());
            self.dial(now, from, addresses, out);
        } else {
            self.make_room_for(from, out);
            self.become_live(conn, from, rest, out);
            self.pump(from, out);
            self.deliver(conn, out);
        }
    }

    /// Dials, unless there is a connection, or one under way, or the last attempt was just now.
    fn dial(&mut self, now: Mono, to: ServerId, addresses: Option<Vec<Endpoint>>, out: &mut Vec<Effect>) {
        let dials_back = addresses.is_some();
        let configured = || self.rules.membership.members.get(&to).map(election_endpoints);
        let Some(addresses) = addresses.or_else(configured) else { return };
        if !self.peers.contains_key(&to) {
            self.make_room_for(to, out);
        }
        let peer = self.peers.entry(to).or_default();
        if peer.live.is_some() || peer.dialling.is_some() {
            peer.dial_later = false;
            return;
        }
        if now < peer.quiet_until && !dials_back {
            peer.dial_later = true;
            return;
        }
        let conn = self.new_conn();
        let peer = self.peers.entry(to).or_default();
        peer.dial_later = false;
        peer.dialling = Some(conn);
        self.conns.insert(conn, State::Dialling { to, deadline: now + limit(self.rules.connect_ms) });
        out.push(Effect::Dial { conn, to, addresses });
    }

    /// A dial gave no connection that stays.
    fn end_dial(&mut self, now: Mono, to: ServerId) {
        if let Some(peer) = self.peers.get_mut(&to) {
            peer.dialling = None;
            peer.quiet_until = now + QUIET_MS;
        }
        self.forget_stranger(to);
    }

    /// This is now the connection to that server.
    fn become_live(&mut self, conn: Conn, peer: ServerId, received: BytesMut, out: &mut Vec<Effect>) {
        self.conns.insert(conn, State::Live(Live { peer, received, writing: false, fresh: true }));
        let entry = self.peers.entry(peer).or_default();
        entry.dial_later = false;
        if let Some(older) = entry.live.replace(conn) {
            self.conns.remove(&older);
            out.push(Effect::Close { conn: older, why: Why::Replaced(peer) });
        }
    }

    /// Hands the next notification to the network, if it is ready for one.
    fn pump(&mut self, to: ServerId, out: &mut Vec<Effect>) {
        let Some(peer) = self.peers.get_mut(&to) else { return };
        let Some(conn) = peer.live else { return };
        let Some(State::Live(live)) = self.conns.get_mut(&conn) else { unreachable!("{conn:?} is live") };
        if live.writing {
            return;
        }
        let repeats = live.fresh && peer.waiting.is_none();
        live.fresh = false;
        if let Some(body) = peer.waiting.take() {
            peer.last = Some(body);
        } else if !repeats {
            return;
        }
        let Some(body) = &peer.last else { return };
        live.writing = true;
        let mut frame = BytesMut::with_capacity(4 + body.len());
        frame.put_i32(body.len() as i32);
        frame.put_slice(body);
        out.push(Effect::Write { conn, bytes: frame.freeze() });
    }

    /// Hands up all complete frames.
    fn deliver(&mut self, conn: Conn, out: &mut Vec<Effect>) {
        let Some(State::Live(live)) = self.conns.get_mut(&conn) else { return };
        while let Some((length, _)) = live.received.split_first_chunk() {
            let length = i32::from_be_bytes(*length);
            let size = match usize::try_from(length) {
                Ok(size @ 1..=MAX_FRAME) => size,
                _ => return self.close(conn, Why::FrameLength(length), out),
            };
            if live.received.len() < 4 + size {
                return;
            }
            live.received.advance(4);
            let body = live.received.split_to(size).freeze();
            out.push(Effect::Deliver { from: live.peer, body });
        }
    }

    fn close(&mut self, conn: Conn, why: Why, out: &mut Vec<Effect>) {
        out.push(Effect::Close { conn, why });
        if let Some(State::Live(live)) = self.conns.remove(&conn) {
            self.forget(live.peer, conn);
        }
    }

    fn forget(&mut self, id: ServerId, conn: Conn) {
        if let Some(peer) = self.peers.get_mut(&id)
            && peer.live == Some(conn)
        {
            peer.live = None;
        }
        self.forget_stranger(id);
    }

    /// Nothing is kept for a server that is no member, and not here.
    fn forget_stranger(&mut self, id: ServerId) {
        let is_gone = |peer: &Peer| peer.live.is_none() && peer.dialling.is_none();
        if !self.rules.membership.members.contains_key(&id) && self.peers.get(&id).is_some_and(is_gone) {
            self.peers.remove(&id);
        }
    }

    /// Before a stranger comes, perhaps another one must go.
    fn make_room_for(&mut self, id: ServerId, out: &mut Vec<Effect>) {
        let members = &self.rules.membership.members;
        if members.contains_key(&id) || self.peers.contains_key(&id) {
            return;
        }
        let strangers = self.peers.iter().filter(|(id, _)| !members.contains_key(id));
        let conns: Vec<Conn> = strangers.filter_map(|(_, peer)| peer.live.or(peer.dialling)).collect();
        if conns.len() < MAX_STRANGERS {
            return;
        }
        let Some(oldest) = conns.into_iter().min() else { return };
        out.push(Effect::Close { conn: oldest, why: Why::Crowded });
        match self.conns.remove(&oldest) {
            Some(State::Live(Live { peer, .. }) | State::Dialling { to: peer, .. }) => {
                self.peers.remove(&peer);
            }
            _ => unreachable!("{oldest:?} is somebody's"),
        }
    }

    fn new_conn(&mut self) -> Conn {
        self.next_conn += 1;
        Conn(self.next_conn)
    }
}

fn limit(ms: i64) -> i64 {
    if ms > 0 { ms } else { NO_LIMIT_MS }
}

/// Where a member listens for the others' elections.
pub fn election_endpoints(member: &Member) -> Vec<Endpoint> {
    member.addresses.iter().map(|a| Endpoint { host: a.host.clone(), port: a.election_port }).collect()
}

/// The first words on a connection: who dials, and where it is to be found.
fn hello(rules: &LinkRules) -> Bytes {
    let own = rules.membership.members.get(&rules.me).map(election_endpoints).unwrap_or_default();
    let mut addresses: Vec<String> = own.iter().map(Endpoint::to_string).collect();
    let version = match rules.multi_address {
        MultiAddress::Allowed => HELLO_V2,
        MultiAddress::Refused => {
            addresses.truncate(1);
            HELLO_V1
        }
    };
    // A server that is in no list can say nothing better than this, which is passed over.
    let mut text = if addresses.is_empty() { "0.0.0.0:0".to_owned() } else { addresses.join("|") };
    while text.len() > MAX_ADDRESSES_TEXT {
        addresses.pop();
        text = addresses.join("|");
    }
    let mut bytes = BytesMut::with_capacity(HELLO_HEAD + text.len());
    bytes.put_i64(version);
    bytes.put_i64(rules.me);
    bytes.put_i32(text.len() as i32);
    bytes.put_slice(text.as_bytes());
    bytes.freeze()
}

struct Hello {
    from: ServerId,
    /// Where it says it is. Empty if it does not, or says "everywhere".
    addresses: Vec<Endpoint>,
}

/// Takes the hello off the front of what was received, once it is complete.
///
/// Java: `QuorumCnxManager.InitialMessage.parse`, which needs the addresses to come in one piece.
fn parse_hello(received: &mut BytesMut) -> Result<Option<Hello>, Why> {
    let Some(version) = received.first_chunk() else { return Ok(None) };
    let version = i64::from_be_bytes(*version);
    if version >= 0 {
        // Before 3.5 the id was all.
        received.advance(8);
        return Ok(Some(Hello { from: version, addresses: Vec::new() }));
    }
    if version != HELLO_V1 && version != HELLO_V2 {
        return Err(Why::Version(version));
    }
    if received.len() < HELLO_HEAD {
        return Ok(None);
    }
    let mut head = &received[8..HELLO_HEAD];
    let (from, length) = (head.get_i64(), head.get_i32());
    let size = match usize::try_from(length) {
        Ok(size @ 1..=MAX_ADDRESSES_TEXT) => size,
        _ => return Err(Why::AddressLength(length)),
    };
    if received.len() < HELLO_HEAD + size {
        return Ok(None);
    }
    received.advance(HELLO_HEAD);
    let text = received.split_to(size);
    let malformed = |text: &[u8]| Why::Address(String::from_utf8_lossy(text).escape_debug().to_string());
    let text = std::str::from_utf8(&text).map_err(|_| malformed(&text))?;
    let mut addresses = Vec::new();
    // Java's split: empty parts at the end are none.
    let text = text.trim_end_matches('|');
    for part in text.split('|').filter(|_| !text.is_empty()) {
        let endpoint = Endpoint::parse_announced(part).map_err(|_| malformed(part.as_bytes()))?;
        if !endpoint.is_any_address() && addresses.len() < MAX_ADDRESSES {
            addresses.push(endpoint);
        }
    }
    Ok(Some(Hello { from, addresses }))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::super::checks::membership;
    use super::*;

    const THREE: &str = "server.1=127.0.0.1:2888:3881\nserver.2=127.0.0.2:2888:3882\nserver.3=127.0.0.3:2888:3883";

    fn rules(me: ServerId) -> LinkRules {
        let membership = Arc::new(membership(THREE));
        LinkRules { me, membership, multi_address: MultiAddress::Refused, connect_ms: 5000, handshake_ms: 4000 }
    }

    fn frame(body: &[u8]) -> Vec<u8> {
        [&(body.len() as i32).to_be_bytes()[..], body].concat()
    }

    fn hello_of(version: i64, from: i64, addresses: &str) -> Vec<u8> {
        let length = addresses.len() as i32;
        [&version.to_be_bytes()[..], &from.to_be_bytes(), &length.to_be_bytes(), addresses.as_bytes()].concat()
    }

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    /// One server, and what it does, as text.
    struct Stand {
        links: Links,
        now: Mono,
    }

    impl Stand {
        fn new(me: ServerId) -> Self {
            Self { links: Links::new(rules(me)), now: 0 }
        }

        fn send(&mut self, to: ServerId, body: &str) -> String {
            self.act(|links, now, out| links.send(now, to, bytes(body), out))
        }

        fn act(&mut self, act: impl FnOnce(&mut Links, Mono, &mut Vec<Effect>)) -> String {
            let mut out = Vec::new();
            act(&mut self.links, self.now, &mut out);
            told(&out)
        }

        /// A connection is accepted, these bytes come on it, and what follows is told.
        fn accept(&mut self, bytes: &[u8]) -> (Conn, String) {
            let mut out = Vec::new();
            let conn = self.links.on_accepted(self.now, &mut out);
            self.links.on_bytes(self.now, conn, bytes, &mut out);
            (conn, told(&out))
        }

        fn receive(&mut self, conn: Conn, bytes: &[u8]) -> String {
            self.act(|links, now, out| links.on_bytes(now, conn, bytes, out))
        }

        fn dialled(&mut self, conn: u64) -> String {
            self.act(|links, now, out| links.on_dialled(now, Conn(conn), out))
        }

        fn written(&mut self, conn: Conn) -> String {
            self.act(|links, _, out| links.on_written(conn, out))
        }

        fn closed(&mut self, conn: Conn) {
            self.links.on_closed(self.now, conn);
        }

        fn wait(&mut self, ms: i64) -> String {
            self.now += ms;
            self.act(|links, now, out| links.on_time(now, out))
        }
    }

    fn told(effects: &[Effect]) -> String {
        let line = |effect: &Effect| match effect {
            Effect::Dial { conn, to, addresses } => {
                let all: Vec<String> = addresses.iter().map(Endpoint::to_string).collect();
                format!("dial#{} {to} at {}", conn.0, all.join("|"))
            }
            Effect::Write { conn, bytes } if bytes[0] == 0xff => format!("hello#{}", conn.0),
            Effect::Write { conn, bytes } => format!("write#{} {}", conn.0, String::from_utf8_lossy(&bytes[4..])),
            Effect::Close { conn, why } => {
                let why = format!("{why:?}");
                format!("close#{} {}", conn.0, why.split('(').next().unwrap_or_default())
            }
            Effect::Deliver { from, body } => format!("heard {from} {}", String::from_utf8_lossy(body)),
        };
        effects.iter().map(line).collect::<Vec<_>>().join(", ")
    }

    // quorum-protocol 11.1.
    #[test]
    fn the_hello_is_javas() {
        let written = Links::new(rules(3)).hello;
        let mut expected = vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0x0e];
        expected.extend(b"127.0.0.3:3883");
        assert_eq!(written, expected);
        let several = "server.1=[::1]:1:2|b:3:4\nserver.2=b:1:2";
        let properties = super::super::parse_properties(several.as_bytes()).unwrap();
        let membership = Arc::new(Membership::parse(&properties, MultiAddress::Allowed).unwrap());
        let rules = LinkRules { membership, multi_address: MultiAddress::Allowed, ..rules(1) };
        let written = Links::new(rules).hello;
        assert_eq!(written, hello_of(-65_535, 1, "[0:0:0:0:0:0:0:1]:2|b:4"));
    }

    #[test]
    fn the_larger_id_dials_and_keeps() {
        let mut three = Stand::new(3);
        assert_eq!(three.send(1, "a"), "dial#1 1 at 127.0.0.1:3881");
        assert_eq!(three.send(1, "b"), "", "one dial at a time, and b takes the place of a");
        assert_eq!(three.dialled(1), "hello#1");
        assert_eq!(three.written(Conn(1)), "write#1 b");
        assert_eq!(three.send(1, "c"), "", "the network has not taken b yet");
        assert_eq!(three.send(1, "d"), "");
        assert_eq!(three.written(Conn(1)), "write#1 d");
        assert_eq!(three.written(Conn(1)), "");
        assert_eq!(three.receive(Conn(1), &frame(b"x")), "heard 1 x");
        assert_eq!(three.send(9, "a"), "", "nobody knows where 9 is");
        assert_eq!(three.send(3, "a"), "", "nobody talks to itself");
    }

    #[test]
    fn the_smaller_id_announces_itself_and_closes() {
        let mut one = Stand::new(1);
        assert_eq!(one.send(3, "a"), "dial#1 3 at 127.0.0.3:3883");
        assert_eq!(one.dialled(1), "hello#1, close#1 Announced");
        assert_eq!(one.written(Conn(1)), "");
        assert_eq!(one.send(3, "b"), "", "3 is about to dial back");
        let (conn, told) = one.accept(&hello_of(HELLO_V1, 3, "127.0.0.3:3883"));
        assert_eq!(told, "write#2 b");
        assert_eq!(one.wait(QUIET_MS), "", "there is a connection");
        assert_eq!(one.receive(conn, &frame(b"x")), "heard 3 x");
    }

    #[test]
    fn an_announcement_that_nobody_answered_is_repeated_for_what_waits() {
        let mut one = Stand::new(1);
        one.send(3, "a");
        one.dialled(1);
        assert_eq!(one.links.next_deadline(), None);
        one.send(3, "b");
        assert_eq!(one.links.next_deadline(), Some(QUIET_MS));
        assert_eq!(one.wait(QUIET_MS), "dial#2 3 at 127.0.0.3:3883");
        one.closed(Conn(2));
        assert_eq!(one.links.next_deadline(), None, "the next notification dials, not the failure of the last");
    }

    // Check 4.
    #[test]
    fn who_announces_itself_is_dialled_back_where_it_says() {
        let mut three = Stand::new(3);
        let hello = hello_of(HELLO_V1, 1, "10.0.0.1:4000");
        assert_eq!(three.accept(&hello).1, "close#1 DialledBack, dial#2 1 at 10.0.0.1:4000");
        assert_eq!(three.accept(&hello).1, "close#3 DialledBack", "one dial at a time");
        three.dialled(2);
        three.written(Conn(2));
        three.send(1, "a");
        // It would not announce itself if its connection lived.
        let told = three.accept(&hello).1;
        assert_eq!(told, "close#4 DialledBack, close#2 DialledBack, dial#5 1 at 10.0.0.1:4000");
        assert_eq!(three.receive(Conn(2), &frame(b"late")), "", "what comes on the old one is not delivered");
        assert_eq!(three.dialled(5), "hello#5");
        assert_eq!(three.written(Conn(5)), "write#5 a", "it may have been lost with the old connection");
        // Whoever is everywhere is where the configuration says; and so is one that says nothing.
        for hello in [hello_of(HELLO_V1, 1, "0.0.0.0:4000"), hello_of(HELLO_V2, 1, "[::]:1|0.0.0.0:2"), vec![0; 8]] {
            let mut three = Stand::new(3);
            let mut hello = hello;
            if hello.len() == 8 {
                hello[7] = 1;
            }
            assert_eq!(three.accept(&hello).1, "close#1 DialledBack, dial#2 1 at 127.0.0.1:3881");
        }
        let mut three = Stand::new(3);
        assert_eq!(three.accept(&hello_of(HELLO_V1, 2, "|")).1, "close#1 DialledBack, dial#2 2 at 127.0.0.2:3882");
    }

    // Check 1.
    #[test]
    fn both_versions_of_the_hello_are_understood_and_no_others() {
        for version in [HELLO_V1, HELLO_V2] {
            let hello = hello_of(version, -7, "a:1|[::1]:2|0.0.0.0:3|b:4|");
            let told = Stand::new(2).accept(&hello).1;
            assert_eq!(told, "close#1 DialledBack, dial#2 -7 at a:1|[0:0:0:0:0:0:0:1]:2|b:4");
        }
        for version in [-65_534, -65_537, -1, i64::MIN] {
            assert_eq!(Stand::new(2).accept(&hello_of(version, 1, "a:1")).1, "close#1 Version");
        }
        for text in ["a", "a:b", "a:70000", "a:-1", "a:1:2", "|a:1", "a:1||b:2", "[::1:1", "[::1]"] {
            assert_eq!(Stand::new(2).accept(&hello_of(HELLO_V1, 1, text)).1, "close#1 Address", "{text}");
        }
        let mut not_utf8 = hello_of(HELLO_V1, 1, "a:1");
        not_utf8[20] = 0xff;
        assert_eq!(Stand::new(2).accept(&not_utf8).1, "close#1 Address");
        let many = vec!["a:1"; 300].join("|");
        let told = Stand::new(2).accept(&hello_of(HELLO_V2, 1, &many)).1;
        assert_eq!(told.matches("a:1").count(), MAX_ADDRESSES);
    }

    // Check 2.
    #[test]
    fn the_addresses_of_a_hello_have_a_length() {
        for length in [0i32, 2049, -1, i32::MIN, i32::MAX] {
            let mut hello = hello_of(HELLO_V1, 1, "a:1");
            hello[16..20].copy_from_slice(&length.to_be_bytes());
            assert_eq!(Stand::new(2).accept(&hello).1, "close#1 AddressLength", "{length}");
        }
        let longest = format!("{}:1", "a".repeat(2046));
        assert!(Stand::new(2).accept(&hello_of(HELLO_V1, 1, &longest)).1.contains("dial#2 1"));
    }

    // Checks 3 and 5.
    #[test]
    fn a_bare_id_and_an_unknown_one_are_taken() {
        let mut two = Stand::new(2);
        let (conn, told) = two.accept(&[&3i64.to_be_bytes()[..], &frame(b"x")].concat());
        assert_eq!(told, "heard 3 x", "frames follow at once");
        assert_eq!(two.send(3, "y"), format!("write#{} y", conn.0));
        let (conn, told) = two.accept(&[hello_of(HELLO_V1, 77, "q:1"), frame(b"z")].concat());
        assert_eq!(told, "heard 77 z");
        assert_eq!(two.send(77, "answer"), format!("write#{} answer", conn.0));
        two.closed(conn);
        assert_eq!(two.send(77, "answer"), "");
        assert!(!two.links.peers.contains_key(&77), "nothing is kept for it");
    }

    #[test]
    fn the_own_id_and_the_reserved_one_are_refused() {
        assert_eq!(Stand::new(2).accept(&hello_of(HELLO_V1, 2, "a:1")).1, "close#1 OwnId");
        assert_eq!(Stand::new(2).accept(&hello_of(HELLO_V1, i64::MAX, "a:1")).1, "close#1 ReservedId");
    }

    // Check 7.
    #[test]
    fn a_frame_has_a_length() {
        for length in [0i32, -1, MAX_FRAME as i32 + 1, i32::MAX, i32::MIN] {
            let mut two = Stand::new(2);
            let (conn, _) = two.accept(&hello_of(HELLO_V1, 3, "a:1"));
            assert_eq!(two.receive(conn, &length.to_be_bytes()), "close#1 FrameLength", "{length}");
            assert_eq!(two.receive(conn, &frame(b"x")), "");
        }
        let mut two = Stand::new(2);
        let (conn, _) = two.accept(&hello_of(HELLO_V1, 3, "a:1"));
        let told = two.receive(conn, &frame(&vec![b'a'; MAX_FRAME]));
        assert_eq!(told.len(), "heard 3 ".len() + MAX_FRAME);
    }

    // Check 10.
    #[test]
    fn bytes_may_come_in_any_pieces() {
        let all = [hello_of(HELLO_V1, 3, "a:1"), frame(b"first"), frame(b"second")].concat();
        for size in 1..=all.len() {
            let mut two = Stand::new(2);
            let conn = two.links.on_accepted(0, &mut Vec::new());
            let heard: Vec<String> = all.chunks(size).map(|piece| two.receive(conn, piece)).collect();
            let heard: Vec<&str> = heard.iter().filter(|told| !told.is_empty()).map(String::as_str).collect();
            assert_eq!(heard.join(", "), "heard 3 first, heard 3 second", "{size}");
        }
        // A length alone, and the end.
        for cut in 0..all.len() {
            let mut two = Stand::new(2);
            let (conn, _) = two.accept(&all[..cut]);
            two.closed(conn);
            assert!(two.links.conns.is_empty());
        }
    }

    #[test]
    fn a_newer_connection_takes_the_place_of_the_older() {
        let mut two = Stand::new(2);
        let (old, _) = two.accept(&hello_of(HELLO_V1, 3, "a:1"));
        assert_eq!(two.send(3, "a"), "write#1 a");
        let (_, told) = two.accept(&hello_of(HELLO_V1, 3, "a:1"));
        assert_eq!(told, "close#1 Replaced, write#2 a");
        assert_eq!(two.receive(old, &frame(b"late")), "");
        assert_eq!(two.written(old), "");
        two.closed(old);
        assert_eq!(two.links.connected().collect::<Vec<_>>(), [3], "the end of the old one is not that of the new");
    }

    #[test]
    fn nothing_is_sent_again_while_nothing_was_delivered() {
        let mut three = Stand::new(3);
        let again = || vec![(1, bytes("a1")), (2, bytes("a2"))];
        let resend = |three: &mut Stand| three.act(|links, now, out| links.resend(now, again(), out));
        assert_eq!(resend(&mut three), "dial#1 1 at 127.0.0.1:3881, dial#2 2 at 127.0.0.2:3882");
        three.closed(Conn(1));
        three.closed(Conn(2));
        three.now += QUIET_MS;
        assert_eq!(resend(&mut three), "dial#3 1 at 127.0.0.1:3881, dial#4 2 at 127.0.0.2:3882");
        three.dialled(3);
        assert_eq!(three.written(Conn(3)), "write#3 a1");
        three.written(Conn(3));
        assert_eq!(resend(&mut three), "write#3 a1", "and 2 is still being dialled");
    }

    #[test]
    fn who_takes_too_long_is_given_up() {
        let mut three = Stand::new(3);
        three.send(1, "a");
        assert_eq!(three.wait(4999), "");
        assert_eq!(three.wait(1), "close#1 Late");
        assert_eq!(three.dialled(1), "", "too late");
        let (_, told) = three.accept(&hello_of(HELLO_V1, 9, "a:1")[..19]);
        assert_eq!(told, "");
        assert_eq!(three.wait(4000), "close#2 Late");
        let (_, _) = three.accept(&hello_of(HELLO_V1, 9, "a:1"));
        assert_eq!(three.wait(1_000_000), "", "a connection may be silent for ever");
    }

    #[test]
    fn no_limit_is_a_long_one() {
        let rules = LinkRules { connect_ms: 0, handshake_ms: -5, ..rules(3) };
        let mut three = Stand { links: Links::new(rules), now: 0 };
        three.send(1, "a");
        three.accept(b"");
        assert_eq!(three.wait(NO_LIMIT_MS - 1), "");
        assert_eq!(three.wait(1), "close#1 Late, close#2 Late");
    }

    #[test]
    fn what_others_can_make_us_keep_is_bounded() {
        let mut two = Stand::new(2);
        let mut out = Vec::new();
        for _ in 0..2 * MAX_HANDSHAKES {
            two.links.on_accepted(0, &mut out);
        }
        assert_eq!(two.links.conns.len(), MAX_HANDSHAKES);
        assert_eq!(out.len(), MAX_HANDSHAKES);
        let mut two = Stand::new(2);
        for stranger in 10..100 {
            let (conn, _) = two.accept(&hello_of(HELLO_V1, stranger, "a:1"));
            assert!(two.links.conns.contains_key(&conn), "the newest stays");
        }
        for stranger in 10..100 {
            two.accept(&hello_of(HELLO_V1, -stranger, "a:1"));
        }
        assert_eq!((two.links.conns.len(), two.links.peers.len()), (MAX_STRANGERS, MAX_STRANGERS));
        two.accept(&hello_of(HELLO_V1, 3, "a:1"));
        assert_eq!(two.links.conns.len(), MAX_STRANGERS + 1, "a member always has its place");
    }

    #[test]
    fn no_bytes_from_outside_do_harm() {
        let mut state = 1u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        let good = [hello_of(HELLO_V2, 3, "a:1|[::1]:2"), frame(b"first"), frame(b"second")].concat();
        for _ in 0..20_000 {
            let mut bad = good.clone();
            for _ in 0..1 + next() % 4 {
                let at = next() % bad.len();
                bad[at] = [0, 1, 0x7f, 0x80, 0xff, b'|', b':', b'['][next() % 8];
            }
            let mut two = Stand::new(2);
            two.accept(&bad[..next() % (bad.len() + 1)]);
        }
    }

    /// Servers whose dials succeed, with bytes in pieces of one size.
    struct Net {
        all: BTreeMap<ServerId, Links>,
        /// The other end of each connection.
        ends: BTreeMap<(ServerId, Conn), (ServerId, Conn)>,
        work: VecDeque<(ServerId, Effect)>,
        piece: usize,
        heard: Vec<String>,
    }

    impl Net {
        fn act(&mut self, server: ServerId, act: impl FnOnce(&mut Links, &mut Vec<Effect>)) {
            let mut out = Vec::new();
            act(self.all.get_mut(&server).expect("a server"), &mut out);
            self.work.extend(out.into_iter().map(|effect| (server, effect)));
        }

        fn run(&mut self) {
            for steps in 0.. {
                assert!(steps < 10_000, "they do not come to rest");
                let Some((server, effect)) = self.work.pop_front() else { return };
                match effect {
                    Effect::Dial { conn, to, .. } => {
                        let mut accepted = None;
                        self.act(to, |links, out| accepted = Some(links.on_accepted(0, out)));
                        let accepted = accepted.expect("a number");
                        self.ends.insert((server, conn), (to, accepted));
                        self.ends.insert((to, accepted), (server, conn));
                        self.act(server, |links, out| links.on_dialled(0, conn, out));
                    }
                    Effect::Write { conn, bytes } => {
                        if let Some((to, end)) = self.ends.get(&(server, conn)).copied() {
                            for piece in bytes.chunks(self.piece) {
                                self.act(to, |links, out| links.on_bytes(0, end, piece, out));
                            }
                        }
                        self.act(server, |links, out| links.on_written(conn, out));
                    }
                    Effect::Close { conn, .. } => {
                        if let Some((to, end)) = self.ends.remove(&(server, conn)) {
                            self.ends.remove(&(to, end));
                            self.act(to, |links, _| links.on_closed(0, end));
                        }
                    }
                    Effect::Deliver { from, body } => {
                        self.heard.push(format!("{from}>{server} {}", String::from_utf8_lossy(&body)));
                    }
                }
            }
        }
    }

    #[test]
    fn servers_that_all_talk_at_once_end_with_one_connection_each() {
        for piece in [1, 3, 1000] {
            let all = (1..=3).map(|me| (me, Links::new(rules(me)))).collect();
            let mut net = Net { all, ends: BTreeMap::new(), work: VecDeque::new(), piece, heard: Vec::new() };
            for round in 0..3 {
                for (from, to) in [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)] {
                    net.act(from, |links, out| links.send(0, to, bytes(&format!("r{round}")), out));
                }
                net.run();
                for (from, to) in [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)] {
                    assert!(net.heard.contains(&format!("{from}>{to} r{round}")), "{:?}", net.heard);
                }
                assert_eq!(net.ends.len(), 6, "two ends of three connections");
                for (me, links) in &net.all {
                    assert_eq!(links.connected().count(), 2, "of {me}");
                    assert_eq!(links.conns.len(), 2);
                }
            }
        }
    }
}
