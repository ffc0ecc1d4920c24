//! The network: connections of bytes in order, nothing else. It delays, splits anywhere, cuts in one direction
//! or both, resets, and leaves ends open that nobody listens to any more. What a connection carried never
//! shows up in another one.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::clock::{MS, SECOND, Time};
use crate::random::{Draw, Random};
use crate::world::{Event, Schedule};

/// A machine: servers first, then clients.
pub type Host = usize;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ConnNo(pub u64);

/// Which listener a connection is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Port {
    Client,
    Election,
    Quorum,
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    Dialler,
    Listener,
}

impl Side {
    pub fn other(self) -> Self {
        match self {
            Self::Dialler => Self::Listener,
            Self::Listener => Self::Dialler,
        }
    }
}

#[derive(Debug)]
enum Item {
    Bytes(Bytes),
    /// The other end closed, or there is nobody at it.
    End,
}

/// What is on its way to one end.
#[derive(Debug, Default)]
struct Stream {
    items: VecDeque<Item>,
    last_arrival: Time,
    /// Items whose time has come and that a cut holds back.
    held: usize,
}

#[derive(Debug)]
struct End {
    host: Host,
    /// The process that holds it.
    life: u64,
    /// Neither closed by its process nor told of the other's end.
    open: bool,
}

#[derive(Debug)]
struct Conn {
    port: Port,
    ends: [End; 2],
    streams: [Stream; 2],
}

/// How the network behaves, besides cuts.
#[derive(Clone, Debug)]
pub struct NetRules {
    pub min_delay: Time,
    pub mean_delay: Time,
    /// In a thousand writes.
    pub splits: u64,
    /// In a thousand writes, one that takes up to a second.
    pub clogs: u64,
    /// In a million writes, one that ends its connection.
    pub resets: u64,
}

pub struct Net {
    pub rules: NetRules,
    conns: BTreeMap<ConnNo, Conn>,
    last: u64,
    /// `cuts[from][to]`.
    cuts: Vec<Vec<bool>>,
    random: Random,
    pub resets: u64,
}

/// What an arrival means for the process at that end.
#[derive(Debug)]
pub enum Arrival {
    Bytes(Bytes),
    End,
    Nothing,
}

/// How long an attempt to connect over a cut takes to fail.
const DIAL_TIMEOUT: Time = 2 * SECOND;

impl Net {
    pub fn new(rules: NetRules, hosts: usize, random: Random) -> Self {
        Self { rules, conns: BTreeMap::new(), last: 0, cuts: vec![vec![false; hosts]; hosts], random, resets: 0 }
    }

    fn delay(&mut self) -> Time {
        let clogged = self.random.permille(self.rules.clogs);
        let extra = if clogged { self.random.below(SECOND) } else { 0 };
        self.rules.min_delay + self.random.around(self.rules.mean_delay) + extra
    }

    fn is_cut(&self, from: Host, to: Host) -> bool {
        self.cuts[from][to]
    }

    /// Begins to connect. [`Event::DialArrives`] tells the listener.
    pub fn dial(&mut self, schedule: &mut Schedule, (from, life): (Host, u64), to: Host, port: Port) -> ConnNo {
        self.last += 1;
        let conn = ConnNo(self.last);
        let end = |host, life| End { host, life, open: true };
        let ends = [end(from, life), end(to, 0)];
        self.conns.insert(conn, Conn { port, ends, streams: Default::default() });
        let cut = self.is_cut(from, to) || self.is_cut(to, from);
        if cut {
            schedule.after(DIAL_TIMEOUT, Event::DialEnds { conn, connected: false });
        } else {
            let delay = self.delay();
            schedule.after(delay, Event::DialArrives { conn });
        }
        conn
    }

    /// Who wants to connect where; `None` if it gave up meanwhile.
    pub fn dialled(&self, conn: ConnNo) -> Option<(Host, Port, Host)> {
        let found = self.conns.get(&conn)?;
        Some((found.ends[1].host, found.port, found.ends[0].host))
    }

    /// The listener's answer to [`Event::DialArrives`].
    pub fn answer_dial(&mut self, schedule: &mut Schedule, conn: ConnNo, accepted_by: Option<u64>) {
        let delay = self.delay();
        let Some(found) = self.conns.get_mut(&conn) else { return };
        match accepted_by {
            Some(life) => found.ends[1].life = life,
            None => found.ends[1].open = false,
        }
        let connected = accepted_by.is_some();
        // What the listener says at once must not overtake it.
        let at = schedule.now() + delay;
        found.streams[0].last_arrival = at;
        schedule.at(at, Event::DialEnds { conn, connected });
    }

    /// An attempt to connect has failed.
    pub fn forget(&mut self, conn: ConnNo) {
        self.conns.remove(&conn);
    }

    pub fn host_of(&self, conn: ConnNo, side: Side) -> Option<Host> {
        self.conns.get(&conn).map(|found| found.ends[side as usize].host)
    }

    /// The process at an end, if it has not closed it.
    pub fn holder(&self, conn: ConnNo, side: Side) -> Option<(Host, u64, Port)> {
        let found = self.conns.get(&conn)?;
        let end = &found.ends[side as usize];
        end.open.then_some((end.host, end.life, found.port))
    }

    /// Bytes from `side` to the other.
    pub fn send(&mut self, schedule: &mut Schedule, conn: ConnNo, side: Side, bytes: Bytes) {
        if bytes.is_empty() || !self.conns.get(&conn).is_some_and(|found| found.ends[side as usize].open) {
            return;
        }
        if self.random.below(1_000_000) < self.rules.resets {
            self.resets += 1;
            return self.reset(schedule, conn);
        }
        let mut rest = bytes;
        while rest.len() > 1 && self.random.permille(self.rules.splits) {
            let at = self.random.between(1, rest.len() as u64 - 1) as usize;
            let first = rest.split_to(at);
            self.push(schedule, conn, side.other(), Item::Bytes(first));
        }
        self.push(schedule, conn, side.other(), Item::Bytes(rest));
    }

    fn push(&mut self, schedule: &mut Schedule, conn: ConnNo, to: Side, item: Item) {
        let delay = self.delay();
        let Some(found) = self.conns.get_mut(&conn) else { return };
        let stream = &mut found.streams[to as usize];
        stream.items.push_back(item);
        stream.last_arrival = stream.last_arrival.max(schedule.now() + delay);
        schedule.at(stream.last_arrival, Event::Arrive { conn, to });
    }

    /// Closes an end; what it has sent still arrives.
    pub fn close(&mut self, schedule: &mut Schedule, conn: ConnNo, side: Side) {
        let Some(found) = self.conns.get_mut(&conn) else { return };
        if std::mem::replace(&mut found.ends[side as usize].open, false) {
            self.push(schedule, conn, side.other(), Item::End);
        }
        self.forget_if_over(conn);
    }

    /// Ends a connection for both, losing what is under way.
    pub fn reset(&mut self, schedule: &mut Schedule, conn: ConnNo) {
        let Some(found) = self.conns.get_mut(&conn) else { return };
        for stream in &mut found.streams {
            // Their events find nothing.
            stream.items.clear();
            stream.held = 0;
        }
        for to in [Side::Dialler, Side::Listener] {
            self.push(schedule, conn, to, Item::End);
        }
    }

    fn forget_if_over(&mut self, conn: ConnNo) {
        let over = self.conns.get(&conn).is_some_and(|found| {
            !found.ends.iter().any(|end| end.open) && found.streams.iter().all(|stream| stream.items.is_empty())
        });
        if over {
            self.conns.remove(&conn);
        }
    }

    /// All ends of a process. With its machine switched off nobody hears of it.
    pub fn close_all(&mut self, schedule: &mut Schedule, host: Host, life: u64, silently: bool) {
        let held: Vec<(ConnNo, Side)> = self
            .conns
            .iter()
            .flat_map(|(conn, found)| {
                [Side::Dialler, Side::Listener].map(|side| (*conn, side, &found.ends[side as usize]))
            })
            .filter(|(_, _, end)| end.host == host && end.life == life && end.open)
            .map(|(conn, side, _)| (conn, side))
            .collect();
        for (conn, side) in held {
            if silently {
                self.conns.get_mut(&conn).expect("just found").ends[side as usize].open = false;
            } else {
                self.close(schedule, conn, side);
            }
        }
    }

    /// What has come to an end. `is_alive` says whether a machine is on.
    pub fn arrive(&mut self, schedule: &mut Schedule, conn: ConnNo, to: Side, is_on: impl Fn(Host) -> bool) -> Arrival {
        let Some(found) = self.conns.get_mut(&conn) else { return Arrival::Nothing };
        let (from_host, to_host) = (found.ends[to.other() as usize].host, found.ends[to as usize].host);
        let stream = &mut found.streams[to as usize];
        if stream.items.is_empty() {
            return Arrival::Nothing;
        }
        if self.cuts[from_host][to_host] {
            stream.held += 1;
            return Arrival::Nothing;
        }
        let item = stream.items.pop_front().expect("just looked");
        let open = found.ends[to as usize].open;
        let arrival = match item {
            Item::End => {
                found.ends[to as usize].open = false;
                if open { Arrival::End } else { Arrival::Nothing }
            }
            Item::Bytes(bytes) if open => Arrival::Bytes(bytes),
            Item::Bytes(_) => {
                // The other end is told, once the machine runs, that nobody is here.
                if is_on(to_host) && found.ends[to.other() as usize].open {
                    self.push(schedule, conn, to.other(), Item::End);
                }
                Arrival::Nothing
            }
        };
        self.forget_if_over(conn);
        arrival
    }

    pub fn cut(&mut self, from: Host, to: Host) {
        self.cuts[from][to] = true;
    }

    /// Ends all cuts, or those that `which` names. Some connections do not survive one.
    pub fn heal(&mut self, schedule: &mut Schedule, which: impl Fn(Host, Host) -> bool) {
        for from in 0..self.cuts.len() {
            for to in 0..self.cuts.len() {
                self.cuts[from][to] &= !which(from, to);
            }
        }
        let conns: Vec<ConnNo> = self.conns.keys().copied().collect();
        for conn in conns {
            let mut held = 0;
            for to in [Side::Dialler, Side::Listener] {
                let found = self.conns.get_mut(&conn).expect("just listed");
                let (from, at) = (found.ends[to.other() as usize].host, found.ends[to as usize].host);
                let stream = &mut found.streams[to as usize];
                if stream.held == 0 || self.cuts[from][at] {
                    continue;
                }
                held += stream.held;
                let late = self.random.below(200 * MS);
                let stream = &mut self.conns.get_mut(&conn).expect("just listed").streams[to as usize];
                for _ in 0..std::mem::take(&mut stream.held) {
                    schedule.after(late, Event::Arrive { conn, to });
                }
                stream.last_arrival = stream.last_arrival.max(schedule.now() + late);
            }
            if held > 0 && self.random.permille(300) {
                self.reset(schedule, conn);
            }
        }
    }

    /// One of the connections, for a fault.
    pub fn any(&self, random: &mut Random) -> Option<ConnNo> {
        let at = random.below(self.conns.len().max(1) as u64) as usize;
        self.conns.keys().nth(at).copied()
    }
}
