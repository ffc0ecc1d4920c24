//! What must hold at every moment, each property in a file of its own, and what is remembered of the whole
//! world to check it. Names are those of the list of safety invariants (quorum-protocol 12.3).

pub mod commit;
pub mod durable;
pub mod epochs;
pub mod log;
pub mod prefix;
pub mod sessions;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use zooid::config::Membership;
use zooid::election::Notification;
use zooid::id::Zxid;
use zooid::node::member::Found;
use zooid::storage::{Durable, Position, Recovered, SnapshotId};
use zooid::tree::Tree;
use zooid::zab::Entry;
use zooid::zab::packet::Packet;

use crate::clock::Time;
use crate::net::Host;
use crate::oracle::{Model, holds};
use crate::support::sim::World as Machine;

/// Who sends a packet.
pub struct Sender {
    /// The leader at one end of the link, and who is at the other end than the sender.
    pub leader: Host,
    pub to: Option<Host>,
    /// In which the sender serves, 0 if it does not.
    pub epoch: i64,
    /// What the sender takes for committed.
    pub committed: Zxid,
}

pub struct Ghosts {
    /// What is committed, for clients.
    pub model: Model,
    /// The highest zxid of a write that a client had an answer to.
    pub acknowledged: i64,
    pub now: Time,
    /// When each session was closed, as the first server showed it.
    pub committed_at: BTreeMap<i64, Time>,
    /// Counts the leaderships that came to be.
    pub leadership: u64,
    pub prefix: prefix::Prefix,
    pub logs: Vec<log::Log>,
    pub durable: Vec<durable::Durability>,
    pub epochs: Vec<epochs::OnDisk>,
    pub leaders: epochs::Leaders,
    pub commit: commit::Commits,
    pub heard: Vec<sessions::Heard>,
    pub taken: Vec<sessions::Taken>,
    membership: Option<Membership>,
}

impl Ghosts {
    pub fn new(servers: usize, membership: Option<Membership>) -> Self {
        Self {
            model: Model::new(),
            acknowledged: 0,
            now: 0,
            committed_at: BTreeMap::new(),
            leadership: 0,
            prefix: prefix::Prefix::new(servers),
            logs: (0..servers).map(|_| log::Log::default()).collect(),
            durable: (0..servers).map(|_| durable::Durability::default()).collect(),
            epochs: (0..servers).map(|_| epochs::OnDisk::default()).collect(),
            leaders: epochs::Leaders::default(),
            commit: commit::Commits::default(),
            heard: (0..servers).map(|_| sessions::Heard::default()).collect(),
            taken: (0..servers).map(|_| sessions::Taken::default()).collect(),
            membership,
        }
    }

    /// A server has read its disks, and believes this.
    pub fn on_started(&mut self, server: Host, machine: &Machine, recovered: &Recovered, found: Option<&Found>) {
        let last = recovered.last_zxid.0.max(0);
        self.taken[server].clear();
        match found {
            // A server on its own takes everything that it has logged for committed.
            None => {
                for (zxid, payload) in &self.logs[server].start(last) {
                    if *zxid > self.prefix.last() {
                        self.prefix.commit(&mut self.model, *zxid, payload, None);
                    }
                }
            }
            Some(found) => {
                self.logs[server].restart(server, recovered.tree.last_zxid().0, &found.tail);
                self.epochs[server].check(server, machine);
                let (accepted, current) = (found.epochs.accepted, found.epochs.current);
                holds!("S3", current <= accepted, "server {server} starts with {current} above {accepted}");
            }
        }
        self.prefix.on_started(server, &recovered.tree);
        self.durable[server].on_started(server, machine, last, &recovered.tail_positions);
    }

    /// The epoch of the newest leadership.
    pub fn newest_epoch(&self) -> i64 {
        self.leaders.newest()
    }

    pub fn on_append(&mut self, server: Host, records: &[u8]) {
        for zxid in self.logs[server].on_append(server, records) {
            let at = self.model.logged_at.entry(zxid.0).or_insert(self.now);
            // A server that is alone gives a zxid again that a power cut has lost; in an ensemble others log it later.
            if self.membership.is_none() {
                *at = self.now;
            }
        }
    }

    /// What is not durable never happened.
    pub fn on_log_full(&mut self, server: Host) {
        let durable = self.durable[server].last();
        self.logs[server].truncate(durable);
    }

    pub fn on_durable(&mut self, server: Host, machine: &Machine, durable: &Durable) {
        self.durable[server].on_durable(server, machine, durable);
    }

    /// `learns`: the epoch of the leader that this server learns from.
    pub fn on_applied(&mut self, server: Host, learns: Option<i64>, tree: &Tree) {
        let zxid = tree.last_zxid().0;
        self.durable[server].check_applied(server, zxid);
        if let Some(epoch) = learns
            && zxid > self.prefix.last()
        {
            // Among zooids a COMMIT stands for all before it.
            let log = &self.logs[server];
            let decided = self.commit.decided_from(zxid).any(|(zxid, payload)| log.payload(zxid) == Some(payload))
                || zxid >> 32 == epoch && self.is_held(server, zxid);
            holds!("S14", decided, "server {server} applies {zxid:#x}, which no leader has committed");
        }
        // With it is committed what came to this server in a tree, and which nobody has applied before.
        let log = &self.logs[server];
        let tree_was_at = self.prefix.at(server);
        for (below, payload) in log.behind(self.prefix.last()).take_while(|(below, _)| *below <= tree_was_at) {
            self.prefix.commit(&mut self.model, below, payload, None);
        }
        let payload = log.payload(zxid);
        self.prefix.on_applied(&mut self.model, server, tree, payload);
        self.committed_at.entry(zxid).or_insert(self.now);
    }

    /// The disk is about to be changed in ways that a crash may leave undone.
    pub fn on_uncertain(&mut self, server: Host, last: i64) {
        self.durable[server].expect_only(last);
    }

    /// A leader has sent a tree, which will take the place of everything.
    pub fn on_tree(&mut self, server: Host, leader: Host, base: i64) {
        // What the tree is made of is known from whoever sent it.
        let made_of = self.logs[leader].upto(base);
        self.logs[server].expect_tree(base, made_of);
    }

    /// The end of a log was taken back; the tree too, if there is another one now.
    pub fn on_truncated(&mut self, server: Host, target: Zxid, last: Zxid, other: Option<(&Tree, &[Entry])>) {
        holds!("S24", last <= target, "server {server} keeps {last}, behind {target}");
        self.check_kept(server, last.0);
        match other {
            None => self.logs[server].truncate(last.0),
            Some((tree, tail)) => {
                self.logs[server].restart(server, tree.last_zxid().0, tail);
                self.prefix.on_started(server, tree);
            }
        }
        self.durable[server].truncate(last.0);
    }

    /// A server loses what is behind `last`, and what of that is committed must still be a quorum's. (The leader
    /// may have spoken before it was committed; then it sends it again.)
    fn check_kept(&self, server: Host, last: i64) {
        let Some(membership) = &self.membership else { return };
        for (zxid, payload) in self.logs[server].behind(last) {
            let committed = self.prefix.payload(zxid).or_else(|| self.commit.decided(zxid));
            if committed == Some(payload) {
                let holders = self.holders(zxid, payload, Some(server));
                let kept = membership.is_quorum(&holders);
                holds!("S20", kept, "server {server} loses {zxid:#x}, which is committed; {holders:?} have it");
            }
        }
    }

    /// Who has a transaction where a power cut does not take it.
    fn holders(&self, zxid: i64, payload: &Bytes, but: Option<Host>) -> BTreeSet<i64> {
        let has = |server: &Host| self.durable[*server].last() >= zxid && self.logs[*server].has(zxid, payload);
        (0..self.logs.len()).filter(|server| Some(*server) != but).filter(has).map(|server| server as i64 + 1).collect()
    }

    /// A snapshot took the place of everything.
    pub fn on_installed(
        &mut self,
        server: Host,
        machine: &Machine,
        tree: &Tree,
        rest: &[Entry],
        snapshot: &SnapshotId,
        records: &[Position],
    ) {
        let base = tree.last_zxid().0;
        let last = rest.last().map_or(base, |entry| entry.zxid.0);
        self.check_kept(server, last);
        let name = snapshot.name.to_string();
        let safe = machine.snap.is_safe(&name, 0, |bytes| bytes.len() as u64 == snapshot.len);
        holds!("SnapDurable", safe, "{name} of server {server} would not survive a power cut");
        for name in machine.log.names().iter().filter(|name| name.starts_with("log.")) {
            let is_new = records.iter().any(|position| position.file.to_string() == **name);
            holds!("S24", is_new, "{name} of server {server} is not of the snapshot of {base:#x} that took its place");
        }
        self.logs[server].take_expected(base);
        for entry in rest {
            self.logs[server].push(server, entry.zxid, entry.txn.clone());
        }
        self.prefix.on_started(server, tree);
        self.durable[server].on_started(server, machine, last, records);
    }

    pub fn on_epoch_saved(&mut self, server: Host, machine: &Machine) {
        self.epochs[server].check(server, machine);
    }

    /// A server begins to serve, as leader or as learner.
    pub fn on_serving(&mut self, server: Host, epoch: i64, leads: bool, tree: &Tree) {
        // A leader's whole history is committed, also what only a snapshot told it; and a learner may be the first to
        // hold what its leader has committed.
        let last = tree.last_zxid().0;
        let told: Vec<(i64, Bytes)> =
            self.logs[server].behind(self.prefix.last()).map(|(zxid, payload)| (zxid, payload.clone())).collect();
        for (zxid, payload) in told.iter().filter(|(zxid, _)| *zxid <= last) {
            let decided = leads || self.commit.decided(*zxid) == Some(payload);
            holds!("S14", decided, "server {server} serves {zxid:#x}, which no leader has committed");
            self.prefix.commit(&mut self.model, *zxid, payload, None);
        }
        self.prefix.check_serving(server, tree);
        if leads {
            self.leadership += 1;
            self.leaders.on_leading(server, epoch);
            let (applied, before) = (self.prefix.applied(server), self.prefix.before(epoch << 32));
            holds!("S21", applied >= before, "server {server} leads {epoch} with {applied} of {before}");
            let lacks =
                self.commit.last_decided().filter(|decided| *decided > tree.last_zxid().0 && *decided >> 32 < epoch);
            holds!("S21", lacks.is_none(), "server {server} leads {epoch} without {lacks:x?}");
        }
    }

    pub fn on_vote(&mut self, server: Host, body: &Bytes) {
        let vote = Notification::parse(body).expect("a notification of our own").vote;
        if vote.leader == server as i64 + 1 && vote.zxid.0 > 0 {
            // Others may give it back a vote of an earlier time.
            let durable = self.durable[server].ever();
            holds!("S31", vote.zxid.0 <= durable, "server {server} votes with {}, durable is {durable:#x}", vote.zxid);
        }
    }

    /// A COMMIT that came ahead of this server's own ACK is true from when a quorum holds what it speaks of.
    fn is_held(&mut self, server: Host, zxid: i64) -> bool {
        let Some(payload) = self.logs[server].payload(zxid) else { return false };
        let holders = self.holders(zxid, payload, None);
        let is_held = self.membership.as_ref().is_some_and(|membership| membership.is_quorum(&holders));
        if is_held {
            self.commit.decide(server, zxid, payload);
        }
        is_held
    }

    pub fn on_packet(&mut self, server: Host, machine: &Machine, packet: &Packet, from: Sender) {
        let Sender { leader, to, epoch, committed } = from;
        let leads = leader == server;
        match packet {
            Packet::LeaderInfo { epoch, .. } => {
                self.leaders.on_epoch(*epoch, server, self.logs[server].last());
                let accepted = epochs::read(machine, "acceptedEpoch");
                holds!(
                    "S6",
                    accepted == Some(*epoch),
                    "LEADERINFO({epoch}) of server {server}, which has {accepted:?} on disk"
                );
            }
            Packet::AckEpoch { last, .. } => {
                let (accepted, current) =
                    (epochs::read(machine, "acceptedEpoch"), epochs::read(machine, "currentEpoch"));
                holds!(
                    "S5",
                    accepted >= current,
                    "ACKEPOCH of server {server} with {accepted:?} and {current:?} on disk"
                );
                let durable = self.durable[server].last();
                holds!(
                    "S5",
                    last.0 <= durable,
                    "ACKEPOCH of server {server} speaks of {last}, durable is {durable:#x}"
                );
            }
            Packet::Ack { zxid } if !leads && zxid.counter() == 0 => {
                let current = epochs::read(machine, "currentEpoch");
                let epoch = i64::from(zxid.epoch());
                holds!("S22", current == Some(epoch), "ACK({zxid}) of server {server}, which has {current:?} on disk");
                let (end, durable) = (self.leaders.history_end(epoch, leader), self.durable[server].last());
                holds!(
                    "S22",
                    durable >= end,
                    "ACK({zxid}) of server {server}, where {durable:#x} is durable of {end:#x}"
                );
            }
            Packet::Ack { zxid } if !leads => {
                let durable = self.durable[server].last();
                holds!("S23", zxid.0 <= durable, "ACK({zxid}) of server {server}, where {durable:#x} is durable");
            }
            Packet::UpToDate => holds!("UPTODATE", epoch > 0, "server {server} says UPTODATE before it serves"),
            Packet::Commit { zxid } if leads && epoch > 0 && *zxid > committed => self.check_ahead(server, *zxid, to),
            // A DIFF or a TRUNC says what is committed as well.
            Packet::Commit { zxid } | Packet::Inform { zxid, .. } | Packet::Diff { zxid } | Packet::Trunc { zxid }
                if leads && epoch > 0 =>
            {
                self.commit_decided(server, *zxid);
            }
            _ => {}
        }
    }

    fn commit_decided(&mut self, leader: Host, zxid: Zxid) {
        let Some(membership) = &self.membership else { return };
        // A leader whose disk has just filled up may have forgotten what it commits, which others have.
        let own = self.logs[leader].payload(zxid.0);
        let Some(payload) = own.or_else(|| self.logs.iter().find_map(|log| log.payload(zxid.0))) else { return };
        let holders = self.holders(zxid.0, payload, None);
        holds!("S10", membership.is_quorum(&holders), "{zxid} is committed, and only {holders:?} have it durable");
        self.commit.decide(leader, zxid.0, payload);
    }

    /// A COMMIT ahead of the ACK of who hears it lacks no more than that.
    fn check_ahead(&self, leader: Host, zxid: Zxid, to: Option<Host>) {
        let Some((membership, payload)) = self.membership.as_ref().zip(self.logs[leader].payload(zxid.0)) else {
            return;
        };
        let mut holders = self.holders(zxid.0, payload, None);
        let leads = holders.contains(&(leader as i64 + 1));
        holders.extend(to.map(|server| server as i64 + 1));
        let is_quorum = leads && membership.is_quorum(&holders);
        holds!("S10", is_quorum, "{zxid} is committed ahead by {leader}, and only {holders:?} will have it");
    }
}
