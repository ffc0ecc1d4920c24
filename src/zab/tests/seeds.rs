//! Whole ensembles, with delays, cut links, crashes that lose what was not durable, and leaders that no sane
//! election would choose, all drawn from a seed. After every event the invariants of quorum-protocol 12.3 that
//! concern agreement must hold, and once the faults end everybody must serve the same history.
//!
//! The election is an oracle that sometimes errs: the safety of ZAB does not rest on it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::super::history::History;
use super::super::leader::{Leader, LeaderRules};
use super::super::learner::{Learner, LearnerRules, Want};
use super::super::packet::Packet;
use super::super::{Effect, Entry, Fault, epoch_of};
use super::show::membership;
use crate::config::{Membership, Role};
use crate::id::{LinkId, ServerId, Zxid};
use crate::session::Mono;
use crate::storage::epoch::{EpochFile, Epochs};

const TICK_MS: i64 = 100;

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What survives a crash: the epochs, and one sequence of which the first part is a snapshot.
#[derive(Clone, Debug, Default)]
struct Disk {
    accepted: i64,
    current: i64,
    entries: Vec<Entry>,
    in_snapshot: usize,
}

impl Disk {
    fn last(&self) -> Zxid {
        self.entries.last().map_or(Zxid::ZERO, |entry| entry.zxid)
    }

    fn upto(&self, zxid: Zxid) -> &[Entry] {
        &self.entries[..self.entries.partition_point(|entry| entry.zxid <= zxid)]
    }
}

#[derive(Clone, Debug)]
enum Write {
    Epoch(EpochFile, i64),
    Append(Entry),
    Truncate(Zxid),
    /// The tree as a sequence, up to this, and the log behind it.
    Install(Zxid, Vec<Entry>, Vec<Entry>),
}

enum State {
    Down,
    Looking,
    Leads(Box<Leader>),
    Learns(Box<Learner>),
}

struct Server {
    id: ServerId,
    kind: Role,
    disk: Disk,
    writes: VecDeque<Write>,
    is_writing: bool,
    /// Raised whenever what was under way is of no interest any more.
    life: u64,
    state: State,
    history: History,
    committed: Zxid,
    serves: bool,
    delivered: Vec<Entry>,
    wakes_at: Option<Mono>,
    /// The tree that came behind a SNAP.
    received: Option<Vec<Entry>>,
}

#[derive(Debug)]
enum Event {
    /// A packet at the end of the link that is not the sender's, and the snapshot behind it.
    Packet {
        to_leader: bool,
        link: LinkId,
        packet: Packet,
        tree: Option<Vec<Entry>>,
    },
    Closed {
        to_leader: bool,
        link: LinkId,
    },
    Dialled {
        link: LinkId,
    },
    Written {
        server: usize,
        life: u64,
    },
    Snapshot {
        server: usize,
        link: LinkId,
    },
    /// It went out, if that is its zxid; else what was queued behind it.
    WentOut {
        server: usize,
        link: LinkId,
        snapshot: Option<Zxid>,
    },
    LogRead {
        server: usize,
        link: LinkId,
        after: Zxid,
        upto: Zxid,
        in_parts: bool,
    },
    Applied {
        server: usize,
        life: u64,
    },
    Time {
        server: usize,
    },
    Elect,
    Propose,
    Fault,
    Restart {
        server: usize,
    },
}

struct Wire {
    learner: usize,
    leader: usize,
    is_up: bool,
    /// When the last packet of each direction arrives: they stay in order.
    busy_until: [Mono; 2],
    last_ack: Zxid,
    /// Nothing may be sent while a snapshot is.
    streams: bool,
}

struct World {
    random: Random,
    now: Mono,
    events: BTreeMap<(Mono, u64), Event>,
    sequence: u64,
    membership: Arc<Membership>,
    servers: Vec<Server>,
    wires: BTreeMap<LinkId, Wire>,
    faulty: bool,
    is_slow: bool,

    proposed: BTreeMap<Zxid, (ServerId, Bytes)>,
    committed: Vec<Entry>,
    led: BTreeMap<i64, ServerId>,
    /// What the leader of an epoch had when it was established, or would be.
    initial: BTreeMap<i64, Vec<Entry>>,
    seen: BTreeMap<&'static str, u64>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let voters = [3, 3, 4, 5][random.below(4) as usize];
        let observers = random.below(2) as usize;
        let servers = (0..voters + observers).map(|at| Server {
            id: at as i64 + 1,
            kind: if at < voters { Role::Participant } else { Role::Observer },
            disk: Disk::default(),
            writes: VecDeque::new(),
            is_writing: false,
            life: 0,
            state: State::Looking,
            history: History::new(Zxid::ZERO),
            committed: Zxid::ZERO,
            serves: false,
            delivered: Vec::new(),
            wakes_at: None,
            received: None,
        });
        Self {
            servers: servers.collect(),
            membership: membership(voters, observers),
            now: 0,
            events: BTreeMap::new(),
            sequence: 0,
            wires: BTreeMap::new(),
            faulty: true,
            is_slow: random.one_in(3),
            proposed: BTreeMap::new(),
            committed: Vec::new(),
            led: BTreeMap::new(),
            initial: BTreeMap::new(),
            seen: BTreeMap::new(),
            random,
        }
    }

    fn at(&mut self, delay: Mono, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + delay, self.sequence), event);
    }

    fn see(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn delay(&mut self) -> Mono {
        let long = if self.is_slow { 150 } else { 10 };
        if self.random.one_in(20) { self.random.below(long) as i64 } else { self.random.below(5) as i64 }
    }

    fn run(&mut self) {
        self.at(1, Event::Elect);
        self.at(5, Event::Propose);
        self.at(300, Event::Fault);
        let chaos_until = 20_000;
        let heal_until = chaos_until + 6_000;
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = at;
            if at > chaos_until && self.faulty {
                self.faulty = false;
                self.is_slow = false;
            }
            if at > heal_until {
                break;
            }
            self.step(event);
            self.check();
        }
        self.check_the_end();
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Packet { to_leader, link, packet, tree } => {
                let wire = &self.wires[&link];
                if !wire.is_up {
                    return;
                }
                let at = if to_leader { wire.leader } else { wire.learner };
                if tree.is_some() {
                    self.servers[at].received = tree;
                }
                let now = self.now;
                self.drive(at, |server, out| match &mut server.state {
                    State::Leads(leader) => leader.on_packet(now, link, packet, &server.history, out),
                    State::Learns(learner) if learner.link() == link => learner.on_packet(now, packet, out),
                    _ => {}
                });
            }
            Event::Closed { to_leader, link } => {
                let wire = &self.wires[&link];
                let at = if to_leader { wire.leader } else { wire.learner };
                self.drive(at, |server, out| match &mut server.state {
                    State::Leads(leader) => leader.on_closed(link, out),
                    State::Learns(learner) if learner.link() == link => learner.on_closed(out),
                    _ => {}
                });
            }
            Event::Dialled { link } => {
                let Wire { learner, leader, .. } = self.wires[&link];
                let now = self.now;
                if !matches!(self.servers[leader].state, State::Leads(_)) {
                    self.wires.get_mut(&link).unwrap().is_up = false;
                    self.step(Event::Closed { to_leader: false, link });
                    return;
                }
                self.drive(leader, |server, _| {
                    if let State::Leads(leader) = &mut server.state {
                        leader.on_link(now, link);
                    }
                });
                self.drive(learner, |server, out| {
                    if let State::Learns(learner) = &mut server.state
                        && learner.link() == link
                    {
                        learner.on_connected(now, out);
                    }
                });
            }
            Event::Written { server, life } => {
                if self.servers[server].life == life {
                    self.written(server);
                }
            }
            Event::Snapshot { server, link } => self.send_snapshot(server, link),
            Event::WentOut { server, link, snapshot } => {
                if !self.wires[&link].is_up {
                    return;
                }
                self.wires.get_mut(&link).unwrap().streams = false;
                let now = self.now;
                self.drive(server, |server, out| {
                    let State::Leads(leader) = &mut server.state else { return };
                    match snapshot {
                        Some(zxid) => leader.on_snapshot_sent(now, link, zxid, &server.history, out),
                        None => leader.on_drained(now, link, &server.history, out),
                    }
                });
            }
            Event::LogRead { server, link, after, upto, in_parts } => {
                let disk = &self.servers[server].disk;
                let log = &disk.entries[disk.in_snapshot..];
                let reaches = log.first().is_some_and(|entry| entry.zxid.0 <= after.0 + 1);
                let most = if in_parts { 1 + self.random.below(3) as usize } else { usize::MAX };
                let wanted = log.iter().filter(|entry| entry.zxid > after && entry.zxid <= upto);
                let read = wanted.take(most).cloned().collect();
                let read = (reaches && !self.random.one_in(4)).then_some(read);
                let now = self.now;
                self.drive(server, |server, out| {
                    if let State::Leads(leader) = &mut server.state {
                        leader.on_log_read(now, link, read, &server.history, out);
                    }
                });
            }
            Event::Applied { server, life } => {
                if self.servers[server].life == life {
                    self.servers[server].serves = true;
                    self.deliver(server);
                    let now = self.now;
                    self.drive(server, |server, out| {
                        if let State::Leads(leader) = &mut server.state {
                            leader.on_serving(now, out);
                        }
                    });
                }
            }
            Event::Time { server } => {
                self.servers[server].wakes_at = None;
                let now = self.now;
                self.drive(server, |server, out| match &mut server.state {
                    State::Leads(leader) => leader.on_time(now, out),
                    State::Learns(learner) => learner.on_time(now, out),
                    _ => {}
                });
            }
            Event::Elect => {
                self.elect();
                self.at(20, Event::Elect);
            }
            Event::Propose => {
                let at = self.random.below(self.servers.len() as u64) as usize;
                self.propose(at);
                let pause = if self.random.one_in(10) { 200 } else { 3 };
                self.at(pause, Event::Propose);
            }
            Event::Fault => {
                if self.faulty {
                    self.fault();
                    let pause = 100 + self.random.below(1500) as i64;
                    self.at(pause, Event::Fault);
                }
            }
            Event::Restart { server } => self.restart(server),
        }
    }

    /// Gives a server something, and carries out what it wishes.
    fn drive(&mut self, at: usize, give: impl FnOnce(&mut Server, &mut Vec<Effect>)) {
        let mut out = Vec::new();
        give(&mut self.servers[at], &mut out);
        for effect in out {
            self.carry_out(at, effect);
        }
        let deadline = match &self.servers[at].state {
            State::Leads(leader) => leader.next_deadline(),
            State::Learns(learner) => learner.next_deadline(),
            _ => None,
        };
        let Some(deadline) = deadline else { return };
        if self.servers[at].wakes_at.is_none_or(|wakes| wakes > deadline) {
            self.servers[at].wakes_at = Some(deadline);
            self.at((deadline - self.now).max(1), Event::Time { server: at });
        }
    }

    fn carry_out(&mut self, at: usize, effect: Effect) {
        match effect {
            Effect::Dial { link, leader } => {
                let leader = leader as usize - 1;
                let wire =
                    Wire { learner: at, leader, is_up: true, busy_until: [0; 2], last_ack: Zxid(-1), streams: false };
                self.wires.insert(link, wire);
                let delay = self.delay() + 1;
                self.at(delay, Event::Dialled { link });
            }
            Effect::Send { link, packet } => self.send(at, link, packet, None),
            Effect::Close { link, .. } => self.cut(link, Some(at)),
            Effect::SaveEpoch { file, epoch } => {
                let server = &self.servers[at];
                if file == EpochFile::Current && matches!(server.state, State::Leads(_)) {
                    assert!(server.writes.is_empty(), "leading with writes under way");
                    self.initial.insert(epoch, server.disk.entries.clone());
                }
                self.write(at, Write::Epoch(file, epoch));
            }
            Effect::Append(entry) => {
                self.servers[at].history.push(entry.clone());
                self.write(at, Write::Append(entry));
            }
            Effect::Truncate { target } => self.write(at, Write::Truncate(target)),
            Effect::Install { upto, entries, rest } => {
                let mut tree = self.servers[at].received.take().expect("a snapshot");
                tree.extend(entries);
                self.write(at, Write::Install(upto, tree, rest));
            }
            Effect::ReadLog { link, after, upto, in_parts } => {
                let delay = self.delay();
                self.see(if in_parts { "log read behind a snapshot" } else { "log read" });
                self.at(delay, Event::LogRead { server: at, link, after, upto, in_parts });
            }
            Effect::AwaitDrained { link } => {
                let delay = self.delay();
                self.see("sent in parts");
                self.at(delay, Event::WentOut { server: at, link, snapshot: None });
            }
            Effect::SendSnapshot { link } => {
                self.wires.get_mut(&link).unwrap().streams = true;
                let delay = self.delay() * 5;
                self.at(delay, Event::Snapshot { server: at, link });
            }
            Effect::Established { epoch } => {
                let server = &self.servers[at];
                let history = server.disk.entries.clone();
                assert!(server.writes.is_empty(), "established with writes under way");
                assert!(server.disk.current == epoch, "established before currentEpoch was saved");
                self.commit_all(&history);
                let server = &mut self.servers[at];
                server.committed = server.history.last();
                let life = server.life;
                let delay = self.delay();
                self.see("established");
                self.at(delay, Event::Applied { server: at, life });
            }
            Effect::Committed { zxid } => {
                let server = &self.servers[at];
                assert!(zxid > server.committed, "{zxid} is committed behind {}", server.committed);
                if matches!(server.state, State::Leads(_)) {
                    let committed = server.committed;
                    let new: Vec<Entry> =
                        server.history.entries_behind(committed).take_while(|e| e.zxid <= zxid).cloned().collect();
                    for entry in new {
                        // S10.
                        let have = self.servers.iter().filter(|s| s.disk.upto(entry.zxid).last() == Some(&entry));
                        let have: BTreeSet<ServerId> = have.map(|server| server.id).collect();
                        assert!(
                            self.membership.is_quorum(&have),
                            "{} is committed, but only {have:?} have it",
                            entry.zxid
                        );
                        self.commit_one(entry);
                    }
                }
                self.servers[at].committed = zxid;
                self.deliver(at);
            }
            Effect::Serve { committed, .. } => {
                let server = &mut self.servers[at];
                server.committed = server.committed.max(committed);
                server.serves = true;
                self.deliver(at);
                self.see("serving");
            }
            Effect::FromLearner { .. } => {}
            Effect::FromLeader(super::super::FromLeader::Ping { zxid }) => {
                self.drive(at, |server, out| {
                    if let State::Learns(learner) = &mut server.state {
                        learner.on_touched(zxid, Vec::new(), out);
                    }
                });
            }
            Effect::FromLeader(_) => {}
            // Nobody's tree is looked at here.
            Effect::Disputed { .. } => unreachable!("no learner says that its tree differs"),
            Effect::Failed(fault) => {
                if matches!(fault, Fault::Protocol(_) | Fault::Unexpected { .. }) {
                    self.see("fault");
                }
                let server = &mut self.servers[at];
                let state = std::mem::replace(&mut server.state, State::Looking);
                server.serves = false;
                server.received = None;
                // Back to the same leader, and not to an election: the leader may be waiting for this server's ACK of
                // NEWLEADER, and the next leader could not count it among the epoch acks.
                if let (Fault::NoBase(_), State::Learns(learner)) = (fault, state) {
                    self.see("no base");
                    self.follow(at, learner.leader() as usize - 1, Want::Snapshot);
                }
            }
        }
    }

    fn send(&mut self, at: usize, link: LinkId, packet: Packet, tree: Option<Vec<Entry>>) {
        let wire = &self.wires[&link];
        let to_leader = wire.learner == at;
        if !to_leader {
            assert!(!wire.streams, "{packet:?} while a snapshot is sent");
        }
        if to_leader && self.servers[at].kind == Role::Participant || matches!(packet, Packet::Ack { .. }) {
            self.check_sent(at, link, &packet);
        }
        match &packet {
            Packet::Diff { .. } => self.see("DIFF"),
            Packet::Trunc { zxid } => {
                // S24. A leader that is about to be deposed may take back what its successor has committed already,
                // from a learner that the successor did not count; and it sends it again behind the TRUNC.
                let learner = &self.servers[self.wires[&link].learner].disk;
                let lost = learner.entries.iter().filter(|entry| entry.zxid > *zxid);
                for entry in lost.filter(|entry| !self.servers[at].history.contains(entry.zxid)) {
                    assert!(!self.committed.contains(entry), "TRUNC {zxid} takes {} back", entry.zxid);
                }
                self.see("TRUNC");
            }
            Packet::Snap { .. } => self.see("SNAP"),
            _ => {}
        }
        let delay = self.delay();
        let now = self.now;
        let wire = self.wires.get_mut(&link).unwrap();
        if !wire.is_up {
            return;
        }
        let busy = &mut wire.busy_until[usize::from(to_leader)];
        *busy = (*busy).max(now + delay);
        let delay = *busy - now;
        self.at(delay, Event::Packet { to_leader, link, packet, tree });
    }

    /// S5, S22 and S23: what a learner's word promises is durable when it goes out.
    fn check_sent(&mut self, at: usize, link: LinkId, packet: &Packet) {
        let (learner, leader) = (&self.servers[at], &self.servers[self.wires[&link].leader]);
        let State::Learns(role) = &learner.state else { return };
        match packet {
            Packet::AckEpoch { .. } => assert_eq!(learner.disk.accepted, role.epoch(), "acceptedEpoch at ACKEPOCH"),
            Packet::Ack { zxid } if zxid.counter() == 0 => {
                let epoch = epoch_of(*zxid);
                assert_eq!(learner.disk.current, epoch, "currentEpoch at the ACK of NEWLEADER");
                let initial = &self.initial[&epoch];
                assert!(
                    learner.disk.entries.starts_with(initial),
                    "the history of epoch {epoch} at the ACK of NEWLEADER"
                );
            }
            Packet::Ack { zxid } => {
                assert!(learner.kind == Role::Participant, "an observer acknowledges {zxid}");
                let wire = self.wires.get_mut(&link).unwrap();
                assert!(*zxid > wire.last_ack, "ACK of {zxid} behind {}", wire.last_ack);
                wire.last_ack = *zxid;
                assert!(
                    learner.disk.upto(*zxid).last().is_some_and(|entry| entry.zxid == *zxid),
                    "{zxid} is not durable"
                );
                if let State::Leads(role) = &leader.state
                    && role.epoch() == epoch_of(*zxid)
                {
                    let stream = leader.history.entries_behind(leader.history.first_behind());
                    let stream: Vec<&Entry> = stream.filter(|entry| entry.zxid <= *zxid).collect();
                    let own = learner.disk.upto(*zxid);
                    assert!(own.len() >= stream.len());
                    assert!(own[own.len() - stream.len()..].iter().eq(stream), "another log up to {zxid}");
                }
            }
            _ => {}
        }
    }

    fn send_snapshot(&mut self, at: usize, link: LinkId) {
        if !self.wires[&link].is_up {
            return;
        }
        let server = &self.servers[at];
        if !matches!(server.state, State::Leads(_)) {
            return;
        }
        // An image that lags behind what is applied, as far as it may.
        let entries = &server.disk.entries;
        let mut upto = server.delivered.len().max(server.disk.in_snapshot);
        let window = entries.partition_point(|entry| entry.zxid <= server.history.first_behind());
        assert!(window <= upto, "the window begins behind what is applied");
        if self.random.one_in(2) {
            let lowest = window.saturating_sub(2).max(server.disk.in_snapshot);
            upto -= self.random.below((upto - lowest.min(upto) + 1) as u64) as usize;
        }
        let tree = entries[..upto].to_vec();
        let zxid = tree.last().map_or(Zxid::ZERO, |entry| entry.zxid);
        self.wires.get_mut(&link).unwrap().streams = false;
        self.send(at, link, Packet::Snap { zxid }, Some(tree));
        self.wires.get_mut(&link).unwrap().streams = true;
        let delay = if self.random.one_in(3) { 20 * self.delay() } else { self.delay() };
        self.at(delay, Event::WentOut { server: at, link, snapshot: Some(zxid) });
    }

    fn cut(&mut self, link: LinkId, by: Option<usize>) {
        let wire = self.wires.get_mut(&link).unwrap();
        if !std::mem::replace(&mut wire.is_up, false) {
            return;
        }
        for (at, to_leader) in [(wire.learner, false), (wire.leader, true)] {
            if by != Some(at) {
                let delay = self.delay();
                self.at(delay, Event::Closed { to_leader, link });
            }
        }
    }

    fn write(&mut self, at: usize, write: Write) {
        self.servers[at].writes.push_back(write);
        self.schedule_write(at);
    }

    fn schedule_write(&mut self, at: usize) {
        let server = &mut self.servers[at];
        if server.writes.is_empty() || std::mem::replace(&mut server.is_writing, true) {
            return;
        }
        let delay = self.delay() + 1;
        let life = self.servers[at].life;
        self.at(delay, Event::Written { server: at, life });
    }

    /// The oldest write is done, and with it all appends behind it, as group commit has it.
    fn written(&mut self, at: usize) {
        let server = &mut self.servers[at];
        server.is_writing = false;
        let mut durable = None;
        let mut write = server.writes.pop_front().expect("a write");
        while let Write::Append(entry) = &write {
            let entry = entry.clone();
            let last = server.disk.last();
            // S7.
            assert!(entry.zxid > last && entry.zxid.follows(last), "{} is logged behind {last}", entry.zxid);
            assert!(entry.zxid.epoch() == last.epoch() || entry.zxid.counter() == 1, "{} begins an epoch", entry.zxid);
            // S8.
            let (_, txn) = &self.proposed[&entry.zxid];
            assert!(*txn == entry.txn, "two transactions have zxid {}", entry.zxid);
            durable = Some(entry.zxid);
            server.disk.entries.push(entry);
            if !matches!(server.writes.front(), Some(Write::Append(_))) || self.random.one_in(4) {
                break;
            }
            write = server.writes.pop_front().expect("it was looked at");
        }
        let now = self.now;
        match (durable, write) {
            (Some(zxid), _) => {
                self.deliver(at);
                self.drive(at, |server, out| match &mut server.state {
                    State::Leads(leader) => leader.on_durable(zxid, out),
                    State::Learns(learner) => learner.on_durable(now, zxid, out),
                    _ => {}
                });
            }
            (None, Write::Epoch(file, epoch)) => {
                match file {
                    EpochFile::Accepted => {
                        // S2.
                        assert!(epoch > server.disk.accepted, "acceptedEpoch falls");
                        server.disk.accepted = epoch;
                    }
                    EpochFile::Current => {
                        assert!(epoch > server.disk.current && epoch <= server.disk.accepted, "currentEpoch {epoch}");
                        server.disk.current = epoch;
                        if matches!(server.state, State::Leads(_)) {
                            let (id, history) = (server.id, server.disk.entries.clone());
                            // S1, S21.
                            let other = self.led.insert(epoch, id);
                            assert!(other.is_none(), "epoch {epoch} is led by {id} and {other:?}");
                            let covered = self.committed.partition_point(|entry| epoch_of(entry.zxid) < epoch);
                            assert!(
                                history.starts_with(&self.committed[..covered]),
                                "a leader without what is committed"
                            );
                        }
                    }
                }
                self.drive(at, |server, out| match &mut server.state {
                    State::Leads(leader) => leader.on_epoch_saved(now, file, epoch, &server.history, out),
                    State::Learns(learner) => learner.on_epoch_saved(now, file, epoch, out),
                    _ => {}
                });
            }
            (None, Write::Truncate(target)) => {
                let base = server.disk.in_snapshot.checked_sub(1).map_or(Zxid::ZERO, |at| server.disk.entries[at].zxid);
                // Some do not find a snapshot that leads there.
                let last = (target >= base && self.random.one_in(2)).then(|| {
                    let kept = server.disk.upto(target).len();
                    server.disk.entries.truncate(kept);
                    server.history.truncate(target);
                    server.disk.last()
                });
                self.see("truncated");
                self.drive(at, |server, out| {
                    if let State::Learns(learner) = &mut server.state {
                        learner.on_truncated(now, last, out);
                    }
                });
            }
            (None, Write::Install(upto, tree, rest)) => {
                assert!(tree.last().map_or(Zxid::ZERO, |entry| entry.zxid) == upto, "a snapshot of another zxid");
                server.disk.in_snapshot = tree.len();
                server.disk.entries = tree;
                server.history.reset(upto);
                for entry in rest {
                    server.history.push(entry.clone());
                    server.disk.entries.push(entry);
                }
                let last = server.history.last();
                for entry in &server.disk.entries {
                    // S8.
                    assert!(self.proposed[&entry.zxid].1 == entry.txn, "two transactions have zxid {}", entry.zxid);
                }
                self.see("installed");
                self.drive(at, |server, out| {
                    if let State::Learns(learner) = &mut server.state {
                        learner.on_installed(now, last, out);
                    }
                });
            }
            (None, Write::Append(_)) => unreachable!("it is durable"),
        }
        self.schedule_write(at);
    }

    /// Applies what is committed and in the own durable log.
    fn deliver(&mut self, at: usize) {
        let server = &mut self.servers[at];
        if !server.serves {
            return;
        }
        let upto = server.committed.min(server.disk.last());
        let entries = server.disk.upto(upto);
        if entries.len() > server.delivered.len() {
            let old = server.delivered.len();
            let same = server.delivered.last().is_none_or(|last| *last == entries[old - 1]);
            assert!(same, "what was applied is not in the log");
            server.delivered.extend_from_slice(&entries[old..]);
            let applied = server.delivered.last().expect("it is longer").zxid;
            let pinned = match &server.state {
                State::Leads(leader) => leader.pinned(),
                _ => None,
            };
            server.history.trim(pinned.map_or(applied, |pinned| pinned.min(applied)), 3, usize::MAX);
        }
    }

    fn commit_one(&mut self, entry: Entry) {
        match self.committed.binary_search_by_key(&entry.zxid, |committed| committed.zxid) {
            Ok(at) => assert!(self.committed[at] == entry, "{} is committed twice", entry.zxid),
            // S11.
            Err(at) => {
                assert!(at == self.committed.len(), "{} is committed behind a later one", entry.zxid);
                self.committed.push(entry);
            }
        }
    }

    fn commit_all(&mut self, history: &[Entry]) {
        for entry in history {
            self.commit_one(entry.clone());
        }
        assert!(self.committed.starts_with(history), "a history that lacks what is committed");
    }

    fn propose(&mut self, at: usize) {
        let now = self.now;
        let proposed = &mut self.proposed;
        let payload: Bytes = format!("{now} {at}").into();
        let mut new = None;
        let server = &mut self.servers[at];
        let id = server.id;
        if !server.serves {
            return;
        }
        let State::Leads(leader) = &mut server.state else { return };
        let mut out = Vec::new();
        if let Some(zxid) = leader.next_zxid(&mut out) {
            // S9.
            let other = proposed.insert(zxid, (id, payload.clone()));
            assert!(other.is_none(), "{zxid} is proposed twice");
            let entry = Entry { zxid, txn: payload };
            server.history.push(entry.clone());
            leader.propose(now, &entry, &mut out);
            new = Some(entry);
        }
        if let Some(entry) = new {
            self.write(at, Write::Append(entry));
        }
        self.drive(at, |_, given| given.extend(out));
    }

    fn looking(&self) -> Vec<usize> {
        let idle = |server: &Server| matches!(server.state, State::Looking) && server.writes.is_empty();
        (0..self.servers.len()).filter(|at| idle(&self.servers[*at])).collect()
    }

    fn elect(&mut self) {
        let looking = self.looking();
        for at in &looking {
            // As at the next start: the log never runs ahead of the epoch for long (S4).
            let disk = &mut self.servers[*at].disk;
            disk.current = disk.current.max(i64::from(disk.last().epoch()));
            assert!(disk.current <= disk.accepted, "a log of an epoch that was never accepted");
        }
        let leaders: Vec<usize> =
            (0..self.servers.len()).filter(|at| matches!(self.servers[*at].state, State::Leads(_))).collect();
        let voters: Vec<usize> =
            looking.iter().copied().filter(|at| self.servers[*at].kind == Role::Participant).collect();
        let ids: BTreeSet<ServerId> = voters.iter().map(|at| self.servers[*at].id).collect();
        let sane = !self.faulty || !self.random.one_in(4);
        let elected = if self.membership.is_quorum(&ids) && (sane || self.random.one_in(10)) {
            let best = |at: &&usize| {
                let server = &self.servers[**at];
                (server.disk.current, server.disk.last(), server.id)
            };
            if sane {
                voters.iter().max_by_key(best).copied()
            } else {
                Some(voters[self.random.below(voters.len() as u64) as usize])
            }
        } else if leaders.is_empty() {
            None
        } else {
            Some(leaders[self.random.below(leaders.len() as u64) as usize])
        };
        let Some(elected) = elected else { return };
        if looking.contains(&elected) {
            self.lead(elected);
        }
        for at in looking {
            if at != elected
                && matches!(self.servers[at].state, State::Looking)
                && (!self.faulty || !self.random.one_in(5))
            {
                self.follow(at, elected, Want::Cheapest);
            }
        }
    }

    fn lead(&mut self, at: usize) {
        let rules = LeaderRules {
            me: self.servers[at].id,
            tick_ms: TICK_MS,
            init_limit_ticks: 5,
            sync_limit_ticks: 3,
            membership: self.membership.clone(),
            config_text: Bytes::from_static(b"version=0"),
            level: None,
            force_snapshot: self.faulty && self.random.one_in(10),
            sync_from_log: !self.random.one_in(3),
            max_concurrent_snap_syncs: 10,
            max_concurrent_diff_syncs: 100,
            max_diff_bytes: usize::MAX,
        };
        let now = self.now;
        self.see("leading");
        self.drive(at, |server, out| {
            let last = server.disk.last();
            server.committed = Zxid::ZERO;
            server.state = State::Leads(Box::new(Leader::new(rules, now, epochs(&server.disk), last, out)));
        });
    }

    fn follow(&mut self, at: usize, leader: usize, want: Want) {
        let rules = LearnerRules {
            me: self.servers[at].id,
            role: self.servers[at].kind,
            tick_ms: TICK_MS,
            init_limit_ticks: 5,
            sync_limit_ticks: 3,
            connect_limit_ticks: 5,
            config_version: 0,
            level: None,
        };
        let link = LinkId(self.wires.len() as u64 + 1);
        let leader = self.servers[leader].id;
        let now = self.now;
        self.drive(at, |server, out| {
            let last = server.disk.last();
            server.committed = Zxid::ZERO;
            let learner = Learner::new(rules, now, leader, link, epochs(&server.disk), last, want, out);
            server.state = State::Learns(Box::new(learner));
        });
    }

    fn fault(&mut self) {
        match self.random.below(5) {
            kind @ (0 | 1) => {
                let up: Vec<LinkId> = self.wires.iter().filter(|(_, wire)| wire.is_up).map(|(id, _)| *id).collect();
                if !up.is_empty() {
                    let link = up[self.random.below(up.len() as u64) as usize];
                    if kind == 0 {
                        self.cut(link, None);
                        self.see("cut");
                    } else {
                        // Nobody hears of it.
                        self.wires.get_mut(&link).unwrap().is_up = false;
                        self.see("mute");
                    }
                }
            }
            2 => {
                // A leader on its own, that goes on logging until it sees that it is.
                let leads = |at: &usize| matches!(self.servers[*at].state, State::Leads(_));
                let leaders: Vec<usize> = (0..self.servers.len()).filter(leads).collect();
                let up = self.wires.iter().filter(|(_, wire)| wire.is_up && leaders.contains(&wire.leader));
                for link in up.map(|(id, _)| *id).collect::<Vec<_>>() {
                    self.cut(link, None);
                }
                self.see("isolated");
            }
            3 => {
                let at = self.random.below(self.servers.len() as u64) as usize;
                self.crash(at);
            }
            _ => {
                // Everybody at once, or the leader.
                let everybody = self.random.one_in(3);
                for at in 0..self.servers.len() {
                    if everybody || matches!(self.servers[at].state, State::Leads(_)) {
                        self.crash(at);
                    }
                }
            }
        }
    }

    fn crash(&mut self, at: usize) {
        if matches!(self.servers[at].state, State::Down) {
            return;
        }
        self.see("crash");
        let links: Vec<LinkId> = self
            .wires
            .iter()
            .filter(|(_, wire)| wire.is_up && (wire.learner == at || wire.leader == at))
            .map(|(id, _)| *id)
            .collect();
        let server = &mut self.servers[at];
        server.state = State::Down;
        server.life += 1;
        server.writes.clear();
        server.is_writing = false;
        for link in links {
            self.cut(link, Some(at));
        }
        let delay = self.random.below(800) as i64;
        self.at(delay, Event::Restart { server: at });
    }

    fn restart(&mut self, at: usize) {
        let server = &mut self.servers[at];
        server.state = State::Looking;
        server.serves = false;
        server.received = None;
        server.committed = Zxid::ZERO;
        // Some of the log is read back to memory, at the least what is not applied.
        let entries = &server.disk.entries;
        let applied = server.delivered.len().max(server.disk.in_snapshot);
        let some = entries.len().saturating_sub(self.random.below(6) as usize);
        let window = some.min(applied).max(server.disk.in_snapshot);
        server.history = History::new(window.checked_sub(1).map_or(Zxid::ZERO, |at| entries[at].zxid));
        entries[window..].iter().for_each(|entry| server.history.push(entry.clone()));
        let kept = server.delivered.len().min(entries.len());
        server.delivered = entries[..kept].to_vec();
        if self.random.one_in(2) {
            // A snapshot of all that is applied.
            let kept = kept.max(server.disk.in_snapshot);
            server.disk.in_snapshot = kept;
            let base = kept.checked_sub(1).map_or(Zxid::ZERO, |at| entries[at].zxid);
            server.history = History::new(base);
            entries[kept..].iter().for_each(|entry| server.history.push(entry.clone()));
        }
    }

    fn check(&self) {
        for server in &self.servers {
            // S3.
            assert!(server.disk.current <= server.disk.accepted, "server {}: {:?}", server.id, server.disk);
            // S13, S14.
            let delivered = &server.delivered;
            assert!(self.committed.len() >= delivered.len(), "server {} applied what is not committed", server.id);
            if let Some(last) = delivered.last() {
                assert!(self.committed[delivered.len() - 1] == *last, "server {} applied another history", server.id);
            }
        }
    }

    fn check_the_end(&self) {
        for server in &self.servers {
            let doing = match &server.state {
                State::Down => "down".to_owned(),
                State::Looking => format!("looking with {:?}", server.writes),
                State::Leads(leader) => format!("{leader:?}"),
                State::Learns(learner) => format!("{learner:?}"),
            };
            assert!(server.serves, "server {} does not serve in the end: {doing}", server.id);
            assert!(self.committed.starts_with(&server.delivered), "server {} applied another history", server.id);
            let behind = self.committed.len() - server.delivered.len();
            assert!(behind < 40, "server {} is {behind} behind", server.id);
        }
        let last = self.committed.last().expect("something is committed").zxid;
        assert!(self.led.last_key_value().is_some_and(|(epoch, _)| epoch_of(last) == *epoch), "{last} in the end");
    }
}

fn epochs(disk: &Disk) -> Epochs {
    Epochs { accepted: disk.accepted, current: disk.current, was_raised: false }
}

#[test]
fn an_ensemble_agrees_whatever_fails() {
    let one = std::env::var("ZOOID_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let count = std::env::var("ZOOID_SEEDS").map_or(30, |count| count.parse().expect("a number"));
    let seeds = one.map_or(0..count, |seed: u64| seed..seed + 1);
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in seeds.clone() {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            world.run();
            world
        });
        let world = run.unwrap_or_else(|panic| {
            eprintln!("seed {seed}: ZOOID_SEED={seed} cargo test --no-default-features --lib zab::tests::seeds");
            std::panic::resume_unwind(panic)
        });
        for (what, times) in world.seen {
            *seen.entry(what).or_default() += times;
        }
        *seen.entry("committed").or_default() += world.committed.len() as u64;
    }
    println!("{seen:?}");
    if seeds.end - seeds.start >= 30 {
        for what in [
            "DIFF",
            "TRUNC",
            "SNAP",
            "truncated",
            "installed",
            "no base",
            "log read",
            "cut",
            "mute",
            "crash",
            "serving",
        ] {
            assert!(seen.get(what).is_some_and(|times| *times >= 2), "{what} hardly ever happens: {seen:?}");
        }
    }
}
