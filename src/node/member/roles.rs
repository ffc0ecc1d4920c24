//! From the end of one role to the next: the log settles, an election is held or the last leader is asked again, a role
//! begins, clients are served once what was committed then is applied, and some fault ends it.
//!
//! What always holds: nobody is served between two roles (who only reads aside), nothing that a role still wished for is
//! granted when it has ended, and what a COMMIT said then counts for no more than the log held.
//!
//! Java: `QuorumPeer.run`, `Leader.shutdown`, `Follower.shutdown`; quorum-protocol 1.5, 1.6.

use std::sync::Arc;

use bytes::Bytes;

use super::{Member, Role, Samples, Start};
use crate::config::{Role as MemberRole, parse_members};
use crate::election::{OwnHistory, PeerState, Vote};
use crate::id::{LinkId, ServerId, Zxid};
use crate::node::effect::{Effect, Notice, PeerEffect};
use crate::node::input::Now;
use crate::node::{Announce, Deliver, Duty, Node};
use crate::planted::{self, Bug};
use crate::session::Mono;
use crate::storage::epoch::{EpochFile, Epochs};
use crate::tree::Tree;
use crate::zab::Fault;
use crate::zab::leader::Leader;
use crate::zab::learner::{Learner, Want};

/// A tree that differs from the leader's is thrown away no more often than this.
const REFILL_EVERY_MS: Mono = 3_600_000;
/// How long it rests after a role in which it never served, for each of those in a row, and at most (Java's observers:
/// 100 ms on average, by chance).
const REST_MS: Mono = 10;
const LONGEST_REST_MS: Mono = 200;
/// Who is elected and has no port for learners is silent for so long the first time, and at most.
const PORTLESS_REST_MS: Mono = 1000;
const LONGEST_PORTLESS_REST_MS: Mono = 30_000;

impl Node {
    /// Who only reads may do so while there is no leader.
    pub(super) fn serve_read_only(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(member) = &self.member else { return };
        let is_time = member.read_only_at().is_some_and(|at| now.mono >= at);
        if is_time && self.duty == Duty::None && matches!(member.role, Role::Looking) {
            self.duty = Duty::ReadOnly;
            self.member().role_since = now.mono;
            effects.push(Effect::Peer(PeerEffect::Serve { duty: Duty::ReadOnly }));
        }
    }

    pub(super) fn stop_serving(&mut self, effects: &mut Vec<Effect>) {
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

    pub(super) fn may_settle(&self, now: Now) -> bool {
        self.member.as_ref().is_some_and(|member| {
            matches!(member.role, Role::Settling)
                && now.mono >= member.rests_until
                && member.storing == 0
                && !self.disk_full
                && (self.durable >= member.history.last() || planted::is(Bug::VotesUnsynced))
        })
    }

    /// The log is as it will be for a while.
    pub(super) fn settle(&mut self, now: Now, effects: &mut Vec<Effect>) {
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

    pub(super) fn begin_role(&mut self, now: Now, vote: Vote, effects: &mut Vec<Effect>) {
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
    pub(in crate::node) fn on_diverged(&mut self, zxid: Zxid) {
        let Some(member) = &mut self.member else { return };
        let epoch = i64::from(zxid.epoch());
        member.diverged |= match &member.role {
            Role::Leading(leader) => leader.epoch() == epoch,
            Role::Learning(learner) => learner.leader_level().is_some() && learner.epoch() == epoch,
            Role::Settling | Role::Looking => false,
        };
    }

    /// A leader that disagrees with itself sends no more digests: its learners would leave it one by one.
    pub(in crate::node) fn distrusts_digests(&self) -> bool {
        self.member.as_ref().is_some_and(|member| member.diverged)
    }

    /// A learner that differs shows nobody what it has, and takes the leader's tree: once in a while, because if
    /// that does not help it is not this server that is wrong.
    pub(in crate::node) fn leave_if_diverged(&mut self, now: Now, tree: &Tree, effects: &mut Vec<Effect>) {
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
    pub(super) fn end_role(&mut self, now: Now, fault: Fault, effects: &mut Vec<Effect>) {
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

    pub(in crate::node) fn may_begin_to_serve(&self) -> bool {
        let starting = self.member.as_ref().and_then(|member| member.starting);
        let Some(Start { upto, .. }) = starting else { return false };
        self.in_flight.front().is_none_or(|first| first.logged.header.zxid > upto)
    }

    /// Everything that is committed is applied.
    pub(in crate::node) fn begin_to_serve(
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

    /// A leader's member list. Only its version may be another one than ours: whoever is to follow more than that
    /// must be started anew.
    pub(in crate::node) fn on_config(&mut self, now: Now, text: &[u8], effects: &mut Vec<Effect>) {
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
