//! A Node as a member of an ensemble: an election, the role that comes of it, and the next election when that
//! ends.
//!
//! What lasts across roles is the log, and of it three things are known: what is durable here, what is
//! committed, and what is applied. A role may end at any moment; what it had handed to the log stays there, and
//! the next election waits until the disk has taken all of it, because a vote speaks of durable transactions.
//! The tree holds committed ones only: the rest of the log waits until a leader confirms or removes it
//! (design.md D17).
//!
//! Java: `QuorumPeer`; quorum-protocol 1.5, 1.6.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::effect::{Effect, Notice, PeerEffect};
use super::input::{Now, PeerInput, Room, Truncation};
use super::local::LocalRules;
use super::stats::{LeadingStats, MemberCounts, RoleKind, RoleStats};
use super::{Announce, Deliver, Duty, InFlight, Node};
use crate::config::{Membership, MultiAddress, Role as MemberRole, parse_members};
use crate::election::{self, Election, ElectionRules, OwnHistory, PeerState, Vote};
use crate::id::{LinkId, ServerId, Zxid};
use crate::journal;
use crate::planted::{self, Bug};
use crate::session::Mono;
use crate::stats::{Ages, Runs};
use crate::storage::epoch::{EpochFile, Epochs};
use crate::tree::digest::DigestCheck;
use crate::tree::{Tree, Unwatched};
use crate::txn::Logged;
use crate::zab::history::{History, WINDOW_BYTES};
use crate::zab::leader::{Leader, LeaderRules};
use crate::zab::learner::{Learner, LearnerRules, Want};
use crate::zab::{self, Entry, Fault};

/// What a member must be told, since it reads no configuration.
#[derive(Clone, Debug)]
pub struct MemberRules {
    pub me: ServerId,
    pub role: MemberRole,
    pub election: ElectionRules,
    pub leader: LeaderRules,
    pub learner: LearnerRules,
    /// Committed transactions that are kept for learners at least: `zookeeper.commitLogCount`.
    pub commit_log_count: usize,
    /// The last place of an epoch that is used.
    pub last_counter: u32,
    /// Newer versions of the member list are taken over: `reconfigEnabled`.
    pub follows_config: bool,
    pub multi_address: MultiAddress,
    /// Of every so many transactions a leader notes when each server's log holds it; 0: of none.
    pub ack_logging_frequency: u32,
    /// A leader serves clients too: `leaderServes`.
    pub leader_serves: bool,
    pub local_sessions: Option<LocalRules>,
    /// After how long without a leader those are served who only read; `None`: never.
    pub read_only_after_ms: Option<Mono>,
}

/// What a start found in the directories of a member.
#[derive(Clone, Debug)]
pub struct Found {
    /// Logged behind the tree.
    pub tail: Vec<Entry>,
    pub epochs: Epochs,
    /// It must not vote before a leader has filled it.
    pub is_blank: bool,
}

#[derive(Debug)]
pub(super) enum Role {
    /// The disk has still to take what the last role left.
    Settling,
    Looking,
    Leading(Box<Leader>),
    Learning(Box<Learner>),
}

#[derive(Debug)]
pub(super) struct Member {
    rules: MemberRules,
    election: Election,
    role: Role,
    history: History,
    epochs: Epochs,
    is_blank: bool,
    /// Who is asked for a snapshot next, without an election.
    again: Option<(ServerId, Want)>,
    /// Of those that we dial.
    next_link: u64,
    /// The link of a learner, or `None`.
    link: Option<LinkId>,
    /// Wishes to the storage that are not answered yet, appends aside.
    storing: usize,
    /// A snapshot that came, and what it will be is not known yet.
    received: Option<Box<Tree>>,
    /// What brings this server up to date comes no faster than its log takes it: these are given back when it has.
    rooms: VecDeque<(Zxid, Room)>,
    /// What is logged behind a snapshot that is being installed.
    installing: Vec<Entry>,
    /// The tree is not what its transactions say.
    diverged: bool,
    /// When it was filled anew for that reason.
    refilled: Option<Mono>,
    /// That is still to come.
    refilling: bool,
    /// How often it has differed since.
    diverged_again: u64,
    /// What to be once what was committed then is applied.
    starting: Option<Start>,
    /// When the election began, and how long the last one took.
    looking_since: Mono,
    election_ms: i64,
    /// Since when it serves nobody.
    unavailable_since: Option<Mono>,
    /// Roles in a row in which it never served, and until when it rests from the last of them.
    futile: i64,
    /// How often it was elected in vain because it can't be reached, since it served last.
    portless: u32,
    rests_until: Mono,
    pub(super) counts: MemberCounts,
    samples: Samples,
    /// Since when it leads or learns, or serves who only reads.
    role_since: Mono,
    /// When its last role ended.
    settling_since: Mono,
    /// When to hear of clients again.
    next_touch: Mono,
    out: Vec<zab::Effect>,
    votes: Vec<election::Effect>,
}

/// Some of a leader's own transactions, and when it made them, in wall milliseconds: the last server's log holds them
/// long after they are applied.
#[derive(Debug, Default)]
struct Samples(VecDeque<(Zxid, i64)>);

impl Samples {
    /// So many wait for the slowest server at most.
    const MOST: usize = 64;

    fn on_proposed(&mut self, zxid: Zxid, now: Now) {
        if self.0.len() == Self::MOST {
            self.0.pop_front();
        }
        self.0.push_back((zxid, now.wall_ms));
    }

    /// A server's log holds what is behind `before` up to `acked`.
    fn on_acked(&self, ages: &mut Ages, server: ServerId, before: Option<Zxid>, acked: Option<Zxid>, now: Now) {
        let Some(acked) = acked.filter(|_| !self.0.is_empty()) else { return };
        let is_new = |zxid: Zxid| zxid <= acked && before.map_or(zxid == acked, |before| zxid > before);
        let new = self.0.iter().filter(|(zxid, _)| is_new(*zxid));
        ages.acked_by.extend(new.map(|(_, made)| (server, (now.wall_ms - made).max(0))));
    }
}

#[derive(Clone, Copy, Debug)]
struct Start {
    duty: Duty,
    epoch: i64,
    /// Once this is applied. What is committed meanwhile would be a moving goal: an observer hears of nothing else, and
    /// one whose disk is slower than a quorum's never has all that is committed.
    upto: Zxid,
}

/// A tree that differs from the leader's is thrown away no more often than this.
const REFILL_EVERY_MS: Mono = 3_600_000;
/// How long it rests after a role in which it never served, for each of those in a row, and at most (Java's observers:
/// 100 ms on average, by chance).
const REST_MS: Mono = 10;
const LONGEST_REST_MS: Mono = 200;
/// Who is elected and has no port for learners is silent for so long the first time, and at most.
const PORTLESS_REST_MS: Mono = 1000;
const LONGEST_PORTLESS_REST_MS: Mono = 30_000;
/// A little longer than a role that ends in order needs until it looks for the next one.
const SPEAKS_WHILE_SETTLING_MS: Mono = 250;
/// A learner's clients are heard of this often, so that a ping that comes has something new to say.
const TOUCHES_PER_TICK: Mono = 4;

/// The place behind it is never used (`ZooDefs`: quorum-protocol 4.1).
pub const LAST_COUNTER: u32 = u32::MAX - 1;

impl Member {
    pub fn new(rules: MemberRules, applied: Zxid, found: Found, now: Mono) -> Self {
        let mut history = History::new(applied);
        found.tail.into_iter().for_each(|entry| history.push(entry));
        Self {
            election: Election::new(rules.election.clone()),
            rules,
            role: Role::Settling,
            history,
            epochs: found.epochs,
            is_blank: found.is_blank,
            again: None,
            next_link: 0,
            link: None,
            storing: 0,
            received: None,
            rooms: VecDeque::new(),
            installing: Vec::new(),
            diverged: false,
            refilled: None,
            refilling: false,
            diverged_again: 0,
            starting: None,
            looking_since: now,
            election_ms: 0,
            unavailable_since: Some(now),
            futile: 0,
            portless: 0,
            rests_until: now,
            counts: MemberCounts::default(),
            role_since: now,
            settling_since: now,
            samples: Samples::default(),
            next_touch: now,
            out: Vec::new(),
            votes: Vec::new(),
        }
    }

    pub fn next_deadline(&self, duty: Duty) -> Mono {
        let role = match &self.role {
            // What it waits for may be there already.
            Role::Settling => self.rests_until,
            Role::Looking if duty == Duty::None => self.read_only_at().unwrap_or(Mono::MAX),
            Role::Looking => self.next_touch,
            Role::Leading(leader) => leader.next_deadline().unwrap_or(Mono::MAX),
            Role::Learning(learner) => learner.next_deadline().unwrap_or(Mono::MAX),
        };
        let role = if duty == Duty::Forward { role.min(self.next_touch) } else { role };
        self.election.next_deadline().map_or(role, |election| election.min(role))
    }

    fn read_only_at(&self) -> Option<Mono> {
        Some(self.looking_since + self.rules.read_only_after_ms?)
    }

    pub fn stats(&self) -> RoleStats {
        let kind = match &self.role {
            Role::Settling | Role::Looking => RoleKind::Looking,
            Role::Leading(_) => RoleKind::Leading,
            Role::Learning(_) if self.rules.role == MemberRole::Observer => RoleKind::Observing,
            Role::Learning(_) => RoleKind::Following,
        };
        let leading = match &self.role {
            Role::Leading(leader) => {
                let figures = leader.figures();
                let size = |size: usize| i32::try_from(size).unwrap_or(i32::MAX);
                let sizes = figures.proposal_bytes;
                Some(LeadingStats {
                    learners: figures.learners,
                    synced_followers: figures.synced_followers,
                    synced_non_voting_followers: figures.synced_non_voting_followers,
                    synced_observers: figures.synced_observers,
                    pending_syncs: figures.pending_syncs,
                    proposal_sizes: sizes.map_or([-1; 3], |sizes| [sizes.last, sizes.min, sizes.max].map(size)),
                })
            }
            _ => None,
        };
        let mut counts = self.counts;
        if let Role::Leading(leader) = &self.role {
            counts.syncs.merge(&leader.sync_counts());
        }
        let leader = match &self.role {
            Role::Learning(learner) => Some(learner.leader()),
            _ => None,
        };
        let last_logged = self.history.last();
        RoleStats { kind, since: self.role_since, epochs: self.epochs, counts, last_logged, leading, leader }
    }

    /// Who can't say for long what its log ends with says nothing, rather than that it is what it was: that would be
    /// dialled again and again by those who could elect another one.
    fn is_silent(&self, now: Mono) -> bool {
        matches!(self.role, Role::Settling) && now - self.settling_since > SPEAKS_WHILE_SETTLING_MS
    }

    /// More may be sent in place of what is durable.
    fn give_room(&mut self, durable: Zxid) {
        while self.rooms.pop_front_if(|(last, _)| *last <= durable).is_some() {}
    }

    /// Whether what a session has asked for elsewhere may come to this server's log after the word that the session lives: an
    /// observer hears of it when it is committed, and a Java leader gives that word past its queue.
    pub fn hears_late(&self) -> bool {
        match &self.role {
            Role::Learning(learner) => self.rules.role == MemberRole::Observer || learner.leader_level().is_none(),
            _ => false,
        }
    }

    /// As a leader: the last round that a quorum has answered.
    pub fn answered_round(&self) -> Option<i64> {
        match &self.role {
            Role::Leading(leader) => Some(leader.answered_round()),
            _ => None,
        }
    }

    pub fn reset_counts(&mut self) {
        self.counts = MemberCounts::default();
        if let Role::Leading(leader) = &mut self.role {
            leader.reset_counts();
        }
    }

    /// An attempt to be brought up to date has come to its end.
    fn count_sync(&mut self, began: Option<Mono>, now: Mono) {
        let took = match self.rules.role {
            MemberRole::Participant => &mut self.counts.follower_sync_ms,
            MemberRole::Observer => &mut self.counts.observer_sync_ms,
        };
        began.into_iter().for_each(|began| took.add(now - began));
    }
}

impl Node {
    /// The list of members that the ensemble goes by; `None` standalone.
    pub fn membership(&self) -> Option<&Arc<Membership>> {
        self.member.as_ref().map(|member| &member.rules.leader.membership)
    }

    /// The role, and where its wishes go.
    pub(super) fn role(&mut self) -> Option<(&mut Role, &mut Vec<zab::Effect>)> {
        self.member.as_mut().map(|member| (&mut member.role, &mut member.out))
    }

    /// What was logged behind the tree, as transactions in flight that nobody here has asked for.
    pub(super) fn load_tail(&mut self, tail: &[Entry]) {
        self.in_flight.clear();
        for entry in tail {
            let logged = Logged::read(entry.txn.clone()).expect("recovery has decoded the log");
            self.in_flight.push_back(InFlight { logged, origin: None });
            self.last_prepared = entry.zxid;
        }
        self.durable = self.last_prepared;
    }

    pub(super) fn on_peer(&mut self, now: Now, tree: &Tree, input: PeerInput, effects: &mut Vec<Effect>) {
        let Some(member) = self.member.as_mut() else { return };
        let is_silent = member.is_silent(now.mono);
        let Member {
            role,
            history,
            out,
            votes,
            election,
            epochs,
            storing,
            received,
            rooms,
            link: own,
            is_blank,
            samples,
            ..
        } = &mut **member;
        let (mono, own) = (now.mono, *own);
        match input {
            PeerInput::Notification { .. } if is_silent => {}
            PeerInput::Notification { from, body } => election.on_notification(mono, from, &body, votes),
            PeerInput::NotListening { why } => {
                if matches!(role, Role::Leading(_)) {
                    out.push(zab::Effect::Failed(Fault::NoPort(why)));
                }
            }
            PeerInput::LinkUp { link } => match role {
                Role::Leading(leader) => leader.on_link(mono, link),
                Role::Learning(learner) if own == Some(link) => learner.on_connected(mono, out),
                _ => effects.push(Effect::Peer(PeerEffect::CloseLink { link })),
            },
            PeerInput::Packets { link, packets, room } => match role {
                Role::Leading(leader) => {
                    let before = leader.acked(link);
                    for packet in packets {
                        leader.on_packet(mono, link, packet, history, out);
                    }
                    if let (Some((server, before)), Some((_, acked))) = (before, leader.acked(link)) {
                        samples.on_acked(&mut self.ages, server, before, acked, now);
                    }
                }
                Role::Learning(learner) if own == Some(link) => {
                    for packet in packets {
                        learner.on_packet(mono, packet, out);
                    }
                    rooms.extend(learner.unwritten().map(|last| (last, room)));
                }
                _ => {}
            },
            PeerInput::SnapshotReceived { link, tree } => {
                if own == Some(link) {
                    *received = Some(tree);
                }
            }
            PeerInput::SyncProgress { link } => match role {
                Role::Leading(leader) => leader.on_progress(mono, link),
                Role::Learning(learner) if own == Some(link) => learner.on_progress(mono),
                _ => {}
            },
            PeerInput::LinkDown { link } => match role {
                Role::Leading(leader) => leader.on_closed(link, out),
                Role::Learning(learner) if own == Some(link) => learner.on_closed(out),
                _ => {}
            },
            PeerInput::EpochSaved { file, epoch } => {
                *storing -= 1;
                match file {
                    EpochFile::Accepted => epochs.accepted = epoch,
                    EpochFile::Current => epochs.current = epoch,
                }
                // It holds a leader's history, and its vote for that may be counted.
                if file == EpochFile::Current && matches!(role, Role::Learning(_)) {
                    *is_blank = false;
                }
                match role {
                    Role::Leading(leader) => leader.on_epoch_saved(mono, file, epoch, history, out),
                    Role::Learning(learner) => learner.on_epoch_saved(mono, file, epoch, out),
                    Role::Settling | Role::Looking => {}
                }
            }
            PeerInput::Truncated(truncation) => self.on_truncated(now, tree, truncation),
            PeerInput::Installed { last } => self.on_installed(now, tree, last),
            PeerInput::SnapshotSent { link, zxid } => {
                if let Role::Leading(leader) = role {
                    leader.on_snapshot_sent(mono, link, zxid, history, out);
                }
            }
            PeerInput::Drained { link } => {
                if let Role::Leading(leader) = role {
                    leader.on_drained(mono, link, history, out);
                }
            }
            PeerInput::LogRead { link, entries } => {
                if let Role::Leading(leader) = role {
                    leader.on_log_read(mono, link, entries, history, out);
                }
            }
        }
    }

    fn on_truncated(&mut self, now: Now, tree: &Tree, truncation: Truncation) {
        let member = self.member.as_mut().expect("only a member's log is cut");
        member.storing -= 1;
        let last = match truncation {
            Truncation::NoBase => None,
            Truncation::Log { last } => {
                member.history.truncate(last);
                let kept = self.in_flight.partition_point(|in_flight| in_flight.logged.header.zxid <= last);
                self.in_flight.truncate(kept);
                Some(last)
            }
            Truncation::Reloaded { tail } => {
                self.begin_with(tree.last_zxid(), tail);
                Some(self.member().history.last())
            }
        };
        if let Some(last) = last {
            self.last_prepared = last;
            self.durable = last;
            self.committed = self.committed.min(last);
        }
        let Some((role, out)) = self.role() else { return };
        if let Role::Learning(learner) = role {
            learner.on_truncated(now.mono, last, out);
        }
    }

    /// The Store has another tree, and this is the log behind it: nothing of the old one counts.
    fn begin_with(&mut self, base: Zxid, tail: Vec<Entry>) {
        self.stats.digest_mismatches += self.digests.mismatches();
        self.digests = DigestCheck::default();
        self.committed = base;
        self.last_prepared = base;
        self.load_tail(&tail);
        let member = self.member();
        member.diverged = false;
        member.history.reset(base);
        tail.into_iter().for_each(|entry| member.history.push(entry));
    }

    fn on_installed(&mut self, now: Now, tree: &Tree, last: Zxid) {
        let rest = std::mem::take(&mut self.member().installing);
        self.begin_with(tree.last_zxid(), rest);
        let durable = self.durable;
        let member = self.member();
        member.storing -= 1;
        member.give_room(durable);
        assert!(member.history.last() == last, "{last} was installed last instead of {}", member.history.last());
        if let Role::Learning(learner) = &mut member.role {
            learner.on_installed(now.mono, last, &mut member.out);
        }
    }

    /// The log holds what stands behind `before` by now.
    pub(super) fn on_member_durable(&mut self, now: Now, before: Zxid) {
        let Some(member) = self.member.as_mut() else { return };
        if member.rules.role == MemberRole::Participant {
            add_ages(&mut self.ages.acknowledged, &self.in_flight, before, self.durable, now);
        }
        member.give_room(self.durable);
        match &mut member.role {
            Role::Leading(leader) => {
                let me = member.rules.me;
                member.samples.on_acked(&mut self.ages, me, Some(before), Some(self.durable), now);
                leader.on_durable(self.durable, &mut member.out);
            }
            Role::Learning(learner) => learner.on_durable(now.mono, self.durable, &mut member.out),
            Role::Settling | Role::Looking => {}
        }
    }

    pub(super) fn on_member_time(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(member) = self.member.as_mut() else { return };
        member.election.on_time(now.mono, &mut member.votes);
        member.next_touch = now.mono + (self.tick_ms / TOUCHES_PER_TICK).max(1);
        match &mut member.role {
            Role::Leading(leader) => leader.on_time(now.mono, &mut member.out),
            Role::Learning(learner) => learner.on_time(now.mono, &mut member.out),
            Role::Settling | Role::Looking => {}
        }
        self.serve_read_only(now, effects);
    }

    /// Who only reads may do so while there is no leader.
    fn serve_read_only(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(member) = &self.member else { return };
        let is_time = member.read_only_at().is_some_and(|at| now.mono >= at);
        if is_time && self.duty == Duty::None && matches!(member.role, Role::Looking) {
            self.duty = Duty::ReadOnly;
            self.member().role_since = now.mono;
            effects.push(Effect::Peer(PeerEffect::Serve { duty: Duty::ReadOnly }));
        }
    }

    fn stop_serving(&mut self, effects: &mut Vec<Effect>) {
        if self.duty != Duty::None {
            self.duty = Duty::None;
            effects.push(Effect::Peer(PeerEffect::StopServing));
        }
        self.sessions = crate::session::SessionTable::new(self.tick_ms);
        self.attached.clear();
        self.owners.clear();
        self.forwarding.clear();
        self.local.clear();
    }

    /// The disk took nothing of what was sent to it after `durable`. Who cannot write can neither lead nor
    /// follow.
    pub(super) fn on_member_log_full(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.end_role(now, Fault::Storage("no room on the device of dataLogDir".to_owned()), effects);
        // What the role left unwritten never happened.
        self.batch.clear();
        effects.retain(|effect| !matches!(effect, Effect::Append { .. }));
        let kept = self.in_flight.partition_point(|in_flight| in_flight.logged.header.zxid <= self.durable);
        self.in_flight.truncate(kept);
        let member = self.member.as_mut().expect("asked before");
        member.history.truncate(self.durable);
        // What a leader calls durable before its first transaction is its epoch's beginning, which is in no log.
        let last = member.history.last();
        (self.last_prepared, self.durable) = (last, last);
    }

    /// The last place of an epoch is never used; the next leader begins a new one. To be asked before each transaction. A
    /// server that is alone has no epochs, it counts on.
    pub(super) fn is_epoch_full(&mut self) -> bool {
        let last_used = self.member.as_ref().map_or(u32::MAX, |member| member.rules.last_counter);
        let is_full = self.member.is_some() && self.last_prepared.counter() >= last_used;
        if is_full && let Some((Role::Leading(_), out)) = self.role() {
            let is_said = out.iter().any(|wish| matches!(wish, zab::Effect::Failed(_)));
            if !is_said {
                out.push(zab::Effect::Failed(Fault::EpochFull));
            }
        }
        is_full
    }

    /// A transaction that came from the leader goes into our log.
    fn on_append(&mut self, now: Now, entry: Entry, effects: &mut Vec<Effect>) {
        let logged = match Logged::read(entry.txn.clone()) {
            Ok(logged) if logged.header.zxid == entry.zxid => logged,
            Ok(logged) => {
                let inside = logged.header.zxid;
                let what = format!("the proposal {} holds the transaction {inside}", entry.zxid);
                return self.end_role(now, Fault::Protocol(what), effects);
            }
            Err(error) => {
                let what = format!("the proposal {} does not decode: {error}", entry.zxid);
                return self.end_role(now, Fault::Protocol(what), effects);
            }
        };
        self.begin_batch(entry.zxid);
        journal::write_payload(&entry.txn, &mut self.batch);
        assert!(entry.zxid > self.last_prepared, "{} is to be logged after {}", entry.zxid, self.last_prepared);
        self.last_prepared = entry.zxid;
        let member = self.member.as_mut().expect("only a learner appends");
        if member.rules.role == MemberRole::Participant {
            add_age(&mut self.ages.proposed, &logged, now);
        }
        self.in_flight.push_back(InFlight { logged, origin: None });
        // Not what brings it up to date.
        if member.rules.role == MemberRole::Participant && self.duty == Duty::Forward {
            member.counts.proposals_received += 1;
        }
        member.history.push(entry);
    }

    /// Proposes what goes to the log now.
    pub(super) fn on_flush(&mut self, now: Now, records: &Bytes, effects: &mut Vec<Effect>) {
        let Some(member) = self.member.as_mut() else { return };
        let every = member.rules.ack_logging_frequency;
        let Member { role: Role::Leading(leader), history, counts, samples, .. } = &mut **member else { return };
        if self.duty != Duty::Order {
            return;
        }
        let mut wishes = Vec::new();
        for placed in journal::placed(records) {
            let entry = Entry { zxid: placed.zxid, txn: records.slice(placed.payload) };
            leader.propose(now.mono, &entry, &mut wishes);
            counts.proposed += 1;
            if every > 0 && placed.zxid.0 % i64::from(every) == 0 {
                samples.on_proposed(placed.zxid, now);
            }
            history.push(entry);
        }
        for wish in wishes {
            match wish {
                zab::Effect::Send { link, packet } => effects.push(Effect::Peer(PeerEffect::Send { link, packet })),
                other => unreachable!("a proposal is only sent, but {other:?}"),
            }
        }
    }

    /// Translates what election and role wish for, until they wish for nothing more; then keeps house.
    pub(super) fn carry_out(&mut self, now: Now, tree: &Tree, effects: &mut Vec<Effect>) {
        if self.member.is_none() {
            return;
        }
        loop {
            let member = self.member.as_mut().expect("there is one");
            let votes = std::mem::take(&mut member.votes);
            let wishes = std::mem::take(&mut member.out);
            if votes.is_empty() && wishes.is_empty() {
                if self.may_settle(now) {
                    self.settle(now, effects);
                    continue;
                }
                return self.trim(tree);
            }
            for vote in votes {
                match vote {
                    election::Effect::Send { to, body } => effects.push(Effect::Peer(PeerEffect::Vote { to, body })),
                    election::Effect::Resend(votes) => effects.push(Effect::Peer(PeerEffect::VoteAgain(votes))),
                    election::Effect::Decided(vote) => self.begin_role(now, vote, effects),
                    election::Effect::NewerConfig { text } => self.on_config(now, &text, effects),
                    election::Effect::OtherMembers { from, text } => {
                        let text = String::from_utf8_lossy(&text).into_owned();
                        effects.push(Effect::Notice(Notice::OtherMembers { from, text }));
                    }
                }
            }
            for wish in wishes {
                let had_role = self.has_role();
                self.grant(now, tree, wish, effects);
                // What a role that has ended still wished for is nobody's wish any more.
                if had_role && !self.has_role() {
                    break;
                }
            }
        }
    }

    fn has_role(&self) -> bool {
        let role = self.member.as_ref().map(|member| &member.role);
        matches!(role, Some(Role::Leading(_) | Role::Learning(_)))
    }

    fn grant(&mut self, now: Now, tree: &Tree, wish: zab::Effect, effects: &mut Vec<Effect>) {
        let peer = |effect| Effect::Peer(effect);
        match wish {
            zab::Effect::Dial { link, leader } => effects.push(peer(PeerEffect::Dial { link, leader })),
            zab::Effect::Send { link, packet } => effects.push(peer(PeerEffect::Send { link, packet })),
            zab::Effect::Close { link, why } => {
                effects.push(Effect::Notice(Notice::LinkClosed { link, why }));
                effects.push(peer(PeerEffect::CloseLink { link }));
            }
            zab::Effect::SaveEpoch { file, epoch } => self.store(now, PeerEffect::SaveEpoch { file, epoch }, effects),
            zab::Effect::Append(entry) => self.on_append(now, entry, effects),
            zab::Effect::Truncate { target } => {
                let applied = tree.last_zxid();
                self.store(now, PeerEffect::Truncate { target, applied }, effects);
            }
            zab::Effect::Install { upto, entries, rest } => self.install(now, upto, entries, rest, effects),
            zab::Effect::ReadLog { link, after, upto, in_parts } => {
                effects.push(peer(PeerEffect::ReadLog { link, after, upto, in_parts }));
            }
            zab::Effect::SendSnapshot { link } => effects.push(peer(PeerEffect::SendSnapshot { link })),
            zab::Effect::AwaitDrained { link } => effects.push(peer(PeerEffect::AwaitDrained { link })),
            zab::Effect::Established { epoch } => {
                self.committed = self.last_prepared;
                let upto = self.committed;
                self.member().starting = Some(Start { duty: Duty::Order, epoch, upto });
            }
            zab::Effect::Committed { zxid } => {
                assert!(zxid <= self.last_prepared, "{zxid} is committed, but {} is the last", self.last_prepared);
                let news = (zxid.0 - self.committed.0.max(Zxid::new(zxid.epoch(), 0).0)).max(0) as u64;
                let before = self.committed;
                self.committed = self.committed.max(zxid);
                let member = self.member();
                let is_leader = matches!(member.role, Role::Leading(_));
                let count = if is_leader { &mut member.counts.committed } else { &mut member.counts.commits_received };
                *count += news;
                let ages = if is_leader { &mut self.ages.agreed } else { &mut self.ages.committed };
                add_ages(ages, &self.in_flight, before, self.committed, now);
            }
            zab::Effect::Serve { epoch, committed } => {
                self.committed = self.committed.max(committed);
                let member = self.member();
                // If it was told that the leader may be the one that is wrong, it keeps what it has.
                (member.is_blank, member.refilling) = (false, false);
                if let Role::Learning(learner) = &mut member.role {
                    let began = learner.take_sync_began();
                    member.count_sync(began, now.mono);
                }
                member.starting = Some(Start { duty: Duty::Forward, epoch, upto: committed });
            }
            zab::Effect::FromLearner { link, from: _, message } => self.on_learner(now, tree, link, message, effects),
            zab::Effect::FromLeader(message) => self.on_leader(now, message, effects),
            zab::Effect::Disputed { by } => effects.push(Effect::Notice(Notice::Disputed { by })),
            zab::Effect::Failed(fault) => self.end_role(now, fault, effects),
        }
    }

    fn member(&mut self) -> &mut Member {
        self.member.as_mut().expect("a role is a member's")
    }

    /// Behind everything that goes to the log before it.
    fn store(&mut self, now: Now, effect: PeerEffect, effects: &mut Vec<Effect>) {
        self.flush(now, effects);
        self.member().storing += 1;
        effects.push(Effect::Peer(effect));
    }

    fn install(&mut self, now: Now, upto: Zxid, entries: Vec<Entry>, rest: Vec<Entry>, effects: &mut Vec<Effect>) {
        let Some(mut tree) = self.member().received.take() else {
            return self.end_role(now, Fault::Protocol("something came in place of the snapshot".to_owned()), effects);
        };
        for entry in entries {
            match Logged::read(entry.txn) {
                Ok(logged) => drop(tree.apply(&logged.header, &logged.txn, &mut Unwatched)),
                Err(error) => {
                    let what = format!("the proposal {} does not decode: {error}", entry.zxid);
                    return self.end_role(now, Fault::Protocol(what), effects);
                }
            }
        }
        tree.set_last_zxid(upto);
        if let Some(error) = rest.iter().find_map(|entry| Logged::read(entry.txn.clone()).err()) {
            let what = format!("a proposal behind the snapshot does not decode: {error}");
            return self.end_role(now, Fault::Protocol(what), effects);
        }
        let member = self.member();
        member.installing = rest.clone();
        // Whatever becomes of the link.
        member.refilling = false;
        self.store(now, PeerEffect::Install { tree, rest }, effects);
    }

    fn may_settle(&self, now: Now) -> bool {
        self.member.as_ref().is_some_and(|member| {
            matches!(member.role, Role::Settling)
                && now.mono >= member.rests_until
                && member.storing == 0
                && !self.disk_full
                && (self.durable >= member.history.last() || planted::is(Bug::VotesUnsynced))
        })
    }

    /// The log is as it will be for a while.
    fn settle(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let member = self.member.as_mut().expect("asked before");
        let logged = i64::from(member.history.last().epoch());
        let Epochs { accepted, current, .. } = member.epochs;
        // Who has no history has none of epoch 0 either: saying so would let the next start vote with it.
        if !member.is_blank && logged > current && logged <= accepted {
            // A sync broke off in the middle: what is logged of an epoch that was accepted is a prefix of its
            // history, and the next start would say the same.
            return self.store(now, PeerEffect::SaveEpoch { file: EpochFile::Current, epoch: logged }, effects);
        }
        match member.again.take() {
            Some((leader, want)) => self.begin_learner(now, leader, want, effects),
            None => self.look(now, effects),
        }
    }

    fn look(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let member = self.member.as_mut().expect("asked before");
        let last = if member.is_blank { Zxid(-1) } else { member.history.last() };
        let current_epoch = member.epochs.current;
        member.role = Role::Looking;
        member.looking_since = now.mono;
        member.counts.looking += 1;
        effects.push(Effect::Notice(Notice::Looking { me: member.rules.me, last, epoch: current_epoch }));
        member.election.look(now.mono, OwnHistory { last, current_epoch }, &mut member.votes);
    }

    fn begin_role(&mut self, now: Now, vote: Vote, effects: &mut Vec<Effect>) {
        self.stop_serving(effects);
        let member = self.member.as_mut().expect("only a member elects");
        member.election_ms = now.mono - member.looking_since;
        if member.rules.role == MemberRole::Participant {
            member.counts.election_ms.add(member.election_ms);
        }
        if vote.leader != member.rules.me {
            return self.begin_learner(now, vote.leader, Want::Cheapest, effects);
        }
        let last = member.history.last();
        let Member { rules, election, role, epochs, out, election_ms, .. } = &mut **member;
        election.set_state(PeerState::Leading);
        effects.push(Effect::Notice(Notice::Leading { last, election_ms: *election_ms }));
        effects.push(Effect::Peer(PeerEffect::Listen));
        *role = Role::Leading(Box::new(Leader::new(rules.leader.clone(), now.mono, *epochs, last, out)));
        member.samples = Samples::default();
        member.role_since = now.mono;
    }

    fn begin_learner(&mut self, now: Now, leader: ServerId, want: Want, effects: &mut Vec<Effect>) {
        let member = self.member.as_mut().expect("only a member follows");
        let last = if member.is_blank { Zxid(-1) } else { member.history.last() };
        let Member { rules, election, role, epochs, out, next_link, link: own, election_ms, .. } = &mut **member;
        let election_ms = *election_ms;
        let (state, notice) = match rules.role {
            MemberRole::Participant => (PeerState::Following, Notice::Following { leader, election_ms }),
            MemberRole::Observer => (PeerState::Observing, Notice::Observing { leader }),
        };
        election.set_state(state);
        effects.push(Effect::Notice(notice));
        let link = LinkId(*next_link);
        *next_link += 1;
        *own = Some(link);
        let learner = Learner::new(rules.learner.clone(), now.mono, leader, link, *epochs, last, want, out);
        *role = Role::Learning(Box::new(learner));
        member.role_since = now.mono;
    }

    /// What was applied has another digest than its proposal says (design.md D8). Under a Java leader, which
    /// sends wrong ones after some requests, that is counted and no more; so is what earlier leaders proposed.
    pub(super) fn on_diverged(&mut self, zxid: Zxid) {
        let Some(member) = &mut self.member else { return };
        let epoch = i64::from(zxid.epoch());
        member.diverged |= match &member.role {
            Role::Leading(leader) => leader.epoch() == epoch,
            Role::Learning(learner) => learner.leader_level().is_some() && learner.epoch() == epoch,
            Role::Settling | Role::Looking => false,
        };
    }

    /// A leader that disagrees with itself sends no more digests: its learners would leave it one by one.
    pub(super) fn distrusts_digests(&self) -> bool {
        self.member.as_ref().is_some_and(|member| member.diverged)
    }

    /// A learner that differs shows nobody what it has, and takes the leader's tree: once in a while, because if
    /// that does not help it is not this server that is wrong.
    pub(super) fn leave_if_diverged(&mut self, now: Now, tree: &Tree, effects: &mut Vec<Effect>) {
        let Some(member) = &mut self.member else { return };
        let Role::Learning(learner) = &member.role else { return };
        if !std::mem::take(&mut member.diverged) {
            return;
        }
        let leader = learner.leader();
        if member.refilled.is_some_and(|at| now.mono - at < REFILL_EVERY_MS) {
            member.diverged_again += 1;
            // As with the mismatches themselves: this one will not be the last.
            if member.diverged_again.is_power_of_two() {
                effects.push(Effect::Notice(Notice::DivergedAgain { leader }));
            }
            return;
        }
        (member.refilled, member.diverged_again) = (Some(now.mono), 0);
        self.end_role(now, Fault::Diverged(tree.last_zxid()), effects);
        let member = self.member();
        (member.again, member.refilling) = (Some((leader, Want::Refill)), true);
    }

    /// Nobody is served any more, and the log keeps what it was given.
    fn end_role(&mut self, now: Now, fault: Fault, effects: &mut Vec<Effect>) {
        self.flush(now, effects);
        let member = self.member.as_mut().expect("a role is a member's");
        match std::mem::replace(&mut member.role, Role::Settling) {
            role @ (Role::Settling | Role::Looking) => {
                // It has ended for another reason just before.
                member.role = role;
                return;
            }
            Role::Leading(leader) => {
                member.counts.syncs.merge(&leader.sync_counts());
                effects.push(Effect::Peer(PeerEffect::StopListening));
            }
            Role::Learning(mut learner) => {
                member.count_sync(learner.take_sync_began(), now.mono);
                // No election: an ACKEPOCH that asks for a snapshot is not counted, and a leader that is still to be
                // found may need it (see the fault).
                member.again = matches!(fault, Fault::NoBase(_)).then(|| (learner.leader(), Want::Snapshot));
                let link = member.link.take().expect("a learner has dialled");
                effects.push(Effect::Peer(PeerEffect::CloseLink { link }));
                // A COMMIT that came ahead of our ACK speaks of what this log holds by the end of the role.
                self.committed = self.committed.min(self.durable);
            }
        }
        member.settling_since = now.mono;
        if std::mem::take(&mut member.refilling) {
            // It was not: the next transaction that differs asks for it again.
            member.refilled = None;
        }
        if matches!(fault, Fault::NoPort(_)) {
            // It has the best vote, and the others would elect it again, for as long as they hear of it.
            member.portless += 1;
            let rest = (PORTLESS_REST_MS << member.portless.min(8)).min(LONGEST_PORTLESS_REST_MS);
            member.rests_until = now.mono + rest;
        } else if self.duty == Duty::None && member.again.is_none() {
            // Whoever is refused would be back within a millisecond, as often as it is refused.
            member.futile += 1;
            member.rests_until = now.mono + (REST_MS * member.futile).min(LONGEST_REST_MS) + member.rules.me % REST_MS;
        }
        member.received = None;
        member.rooms.clear();
        member.starting = None;
        member.unavailable_since.get_or_insert(now.mono);
        // What it still wished for is nobody's wish any more.
        member.out.clear();
        if let Fault::Reconfigured(why) = &fault {
            effects.push(Effect::Peer(PeerEffect::Exit { why: why.clone() }));
        }
        effects.push(Effect::Notice(Notice::RoleEnded(fault)));
        // A leader's epoch began behind the end of its log, and what comes next may stand before that.
        let last = self.member().history.last();
        self.last_prepared = last;
        self.durable = self.durable.min(last);
        self.in_flight.iter_mut().for_each(|in_flight| in_flight.origin = None);
        self.stop_serving(effects);
    }

    pub(super) fn may_begin_to_serve(&self) -> bool {
        let starting = self.member.as_ref().and_then(|member| member.starting);
        let Some(Start { upto, .. }) = starting else { return false };
        self.in_flight.front().is_none_or(|first| first.logged.header.zxid > upto)
    }

    /// Everything that is committed is applied.
    pub(super) fn begin_to_serve(
        &mut self,
        now: Now,
        tree: &mut Tree,
        announce: &mut Announce<'_, impl Deliver>,
        effects: &mut Vec<Effect>,
    ) {
        let member = self.member.as_mut().expect("asked before");
        let Start { duty, epoch, upto: _ } = member.starting.take().expect("asked before");
        (member.futile, member.portless) = (0, 0);
        if let Some(since) = member.unavailable_since.take() {
            member.counts.unavailable_ms.add(now.mono - since);
            if duty == Duty::Order {
                member.counts.leader_unavailable_ms.add(now.mono - since);
            }
        }
        let members = &member.rules.leader.membership;
        tree.set_config(&members.to_string(), members.version, now.wall_ms, announce);
        member.election.on_epoch(epoch);
        self.duty = duty;
        effects.push(Effect::Notice(Notice::Serving { epoch }));
        if duty == Duty::Order {
            assert!(self.in_flight.is_empty(), "a leader's whole history is committed");
            if !planted::is(Bug::OverlayKept) {
                self.preparer.reset(tree);
            }
            self.last_prepared = Zxid(epoch << 32);
            self.durable = self.last_prepared;
            for (session, timeout_ms) in tree.sessions().iter().filter(|_| !planted::is(Bug::ForgetsSessions)) {
                let from = now.mono - i64::from(if planted::is(Bug::HalvesTimeouts) { timeout_ms / 2 } else { 0 });
                self.sessions.open(*session, *timeout_ms, from);
            }
            let Member { role: Role::Leading(leader), out, .. } = &mut **member else {
                unreachable!("only a leader orders")
            };
            leader.on_serving(now.mono, out);
        }
        if duty == Duty::Forward || member.rules.leader_serves {
            effects.push(Effect::Peer(PeerEffect::Serve { duty }));
        }
        self.carry_out(now, tree, effects);
    }

    /// Keeps of the history what learners may still need.
    fn trim(&mut self, tree: &Tree) {
        let member = self.member.as_mut().expect("asked before");
        let pinned = match &member.role {
            Role::Leading(leader) => leader.pinned(),
            _ => None,
        };
        let needed = pinned.map_or(tree.last_zxid(), |pinned| pinned.min(tree.last_zxid()));
        member.history.trim(needed, member.rules.commit_log_count, WINDOW_BYTES);
    }

    /// A leader's member list. Only its version may be another one than ours: whoever is to follow more than that
    /// must be started anew.
    pub(super) fn on_config(&mut self, now: Now, text: &[u8], effects: &mut Vec<Effect>) {
        let member = self.member();
        let ours = &member.rules.leader.membership;
        let theirs = match parse_members(text, member.rules.multi_address) {
            Ok(theirs) if theirs.version > ours.version && member.rules.follows_config => theirs,
            // Java does not look at it either.
            _ => return,
        };
        if !theirs.has_same_members(ours) {
            return self.end_role(now, Fault::Reconfigured(theirs.to_string()), effects);
        }
        let (theirs, version) = (Arc::new(theirs), ours.version);
        effects.push(Effect::Notice(Notice::NewerConfig { from: version, to: theirs.version }));
        effects.push(Effect::Peer(PeerEffect::SaveConfig { members: theirs.clone() }));
        let rules = &mut member.rules;
        rules.learner.config_version = theirs.version;
        rules.leader.config_text = Bytes::from(theirs.to_string());
        rules.leader.membership = theirs.clone();
        member.election.set_membership(theirs);
    }
}

/// Adds how old the transactions behind `after` are, up to `upto`.
fn add_ages(ages: &mut Runs, in_flight: &VecDeque<InFlight>, after: Zxid, upto: Zxid, now: Now) {
    let first = in_flight.partition_point(|in_flight| in_flight.logged.header.zxid <= after);
    let aged = in_flight.range(first..).take_while(|in_flight| in_flight.logged.header.zxid <= upto);
    aged.for_each(|in_flight| add_age(ages, &in_flight.logged, now));
}

/// A clock that is behind the leader's says nothing.
fn add_age(ages: &mut Runs, logged: &Logged, now: Now) {
    let age = now.wall_ms - logged.header.time;
    if age >= 0 {
        ages.add(age);
    }
}
