//! A Node as a member of an ensemble: an election, the role that comes of it, and the next election when that
//! ends.
//!
//! What lasts across roles is the log, and of it three things are known: what is durable here, what is
//! committed, and what is applied. A role may end at any moment; what it had handed to the log stays there, and
//! the next election waits until the disk has taken all of it, because a vote speaks of durable transactions.
//! The tree holds committed ones only: the rest of the log waits until a leader confirms or removes it
//! (design.md D17).
//!
//! Here is what a member knows and what becomes of what happens; how roles begin and end is in [`roles`], and what takes
//! the place of a log or a tree in [`replaced`].
//!
//! Java: `QuorumPeer`; quorum-protocol 1.5, 1.6.

mod replaced;
mod roles;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::effect::{Effect, Notice, PeerEffect};
use super::input::{Now, PeerInput, Room};
use super::local::LocalRules;
use super::stats::{LeadingStats, MemberCounts, RoleKind, RoleStats};
use super::{Duty, InFlight, Node};
use crate::config::{Membership, MultiAddress, Role as MemberRole};
use crate::election::{self, Election, ElectionRules};
use crate::id::{LinkId, ServerId, Zxid};
use crate::journal;
use crate::session::Mono;
use crate::stats::{Ages, Runs};
use crate::storage::epoch::{EpochFile, Epochs};
use crate::tree::Tree;
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
