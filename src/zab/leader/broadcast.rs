//! Broadcast: transactions go out, a quorum's logs hold them, and then they are committed, in order. Beside them go the
//! PINGs, whose answers show who still follows.
//!
//! Java: `Leader.propose`, `Leader.tryToCommit`, `Leader.processSync`, `Leader.lead`; quorum-protocol 6.2-6.8.

use std::collections::BTreeSet;

use super::{Leader, Link, LinkStage, Stage, commit, proposal, send};
use crate::config::Role;
use crate::id::{LinkId, ServerId, Zxid};
use crate::planted::{self, Bug};
use crate::session::Mono;
use crate::zab::packet::Packet;
use crate::zab::{Effect, Entry, Fault, FromLearner, beginning_of, epoch_of};

/// Answered behind the COMMIT of this zxid, and not before a quorum has answered this round.
#[derive(Clone, Copy, Debug)]
pub(super) struct ForwardedSync {
    pub(super) link: LinkId,
    after: Zxid,
    round: i64,
}

#[derive(Clone, Debug)]
pub(super) enum Held {
    Packet(Packet),
    /// The answer to a sync, once a quorum has answered this round.
    Synced {
        round: i64,
    },
}

/// The oldest proposal that waits for its ACK, and the newest: enough to see that a server does not log, at
/// the cost of two zxids (Java: `LearnerHandler.SyncLimitCheck`, for followers alone).
#[derive(Debug, Default)]
pub(super) struct Timed {
    oldest: Option<(Zxid, Mono)>,
    newest: Option<(Zxid, Mono)>,
}

impl Timed {
    pub(super) fn on_proposal(&mut self, zxid: Zxid, now: Mono) {
        match self.oldest {
            None => self.oldest = Some((zxid, now)),
            Some(_) => self.newest = Some((zxid, now)),
        }
    }

    pub(super) fn on_ack(&mut self, acked: Zxid) {
        if self.oldest.is_some_and(|(zxid, _)| zxid <= acked) {
            self.oldest = self.newest.take().filter(|(zxid, _)| *zxid > acked);
        }
    }
}

/// Bytes of proposals.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sizes {
    pub last: usize,
    pub min: usize,
    pub max: usize,
}

impl Leader {
    /// The zxid of the next proposal. There is none behind the last of an epoch: the role ends, and the next
    /// leader has a new one.
    pub fn next_zxid(&mut self, out: &mut Vec<Effect>) -> Option<Zxid> {
        if self.stage == Stage::Over {
            return None;
        }
        assert!(self.is_established(), "a zxid is wanted before the epoch is established");
        if self.last_proposed.counter() >= u32::MAX - 1 {
            self.fail(Fault::EpochFull, out);
            return None;
        }
        Some(self.last_proposed.next())
    }

    /// As if the epoch's transactions up to this counter had come and gone.
    #[cfg(test)]
    pub fn pass_by(&mut self, counter: u32) {
        self.last_proposed = Zxid(beginning_of(self.epoch).0 + i64::from(counter));
        self.committed = self.last_proposed;
    }

    /// A transaction of this leader, which the history holds already.
    pub fn propose(&mut self, now: Mono, entry: &Entry, out: &mut Vec<Effect>) {
        if self.stage == Stage::Over {
            return;
        }
        assert!(self.is_established(), "{} is proposed before the epoch is established", entry.zxid);
        assert!(entry.zxid == self.last_proposed.next(), "{} is proposed behind {}", entry.zxid, self.last_proposed);
        assert!(entry.zxid.counter() != u32::MAX, "{} has the counter that no transaction has", entry.zxid);
        self.last_proposed = entry.zxid;
        self.own.on_proposal(entry.zxid, now);
        self.outstanding.push_back(entry.clone());
        if planted::is(Bug::CountsOwnUnsynced) {
            self.acks.record(self.rules.me, entry.zxid);
        }
        let bytes = entry.txn.len();
        let sizes = self.proposal_bytes.get_or_insert(Sizes { last: bytes, min: bytes, max: bytes });
        *sizes = Sizes { last: bytes, min: sizes.min.min(bytes), max: sizes.max.max(bytes) };
        for (id, link) in &mut self.links {
            if link.is_forwarded_to() && link.is_follower() {
                if matches!(link.stage, LinkStage::Acked | LinkStage::Live) {
                    link.timed.on_proposal(entry.zxid, now);
                }
                out.push(send(*id, proposal(entry)));
            }
        }
    }

    /// The own log is durable up to `zxid`: one vote like any other.
    pub fn on_durable(&mut self, zxid: Zxid, out: &mut Vec<Effect>) {
        if self.is_established() && zxid > beginning_of(self.epoch) {
            assert!(zxid <= self.last_proposed, "{zxid} is durable, but {} was proposed", self.last_proposed);
            self.own.on_ack(zxid);
            self.acks.record(self.rules.me, zxid);
            self.commit(out);
        }
    }

    pub(super) fn on_live_packet(
        &mut self,
        now: Mono,
        id: LinkId,
        packet: Packet,
        out: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        let deadline = Some(now + self.sync_limit_ms());
        let synced_until = self.tick() + self.rules.sync_limit_ticks;
        let from = self.who(id).server;
        let link = self.link(id);
        link.deadline = deadline;
        link.synced_until = synced_until;
        let message = match packet {
            Packet::Ack { zxid } => {
                self.on_ack(id, zxid, out);
                return Ok(());
            }
            Packet::Ping { touched: Some(touched), .. } => {
                self.on_pong(id, out);
                FromLearner::Touched(touched)
            }
            Packet::Ping { touched: None, .. } => {
                return Err(Fault::Protocol("a PING of a learner without data".to_owned()));
            }
            Packet::Request(request) => FromLearner::Request(request),
            Packet::Revalidate { session, timeout_ms } => FromLearner::Revalidate { session, timeout_ms },
            // Java says so in its log and goes on.
            _ => return Ok(()),
        };
        out.push(Effect::FromLearner { link: id, from, message });
        Ok(())
    }

    /// Counts what is outstanding and was sent on this link. Others are of no interest: Java's followers
    /// acknowledge history too (quorum-protocol 0.3), and the epoch's beginning twice.
    pub(super) fn on_ack(&mut self, id: LinkId, zxid: Zxid, out: &mut Vec<Effect>) {
        let who = self.who(id);
        if !self.is_established() || who.kind == Role::Observer {
            return;
        }
        if epoch_of(zxid) != self.epoch || zxid <= beginning_of(self.epoch) || zxid > self.last_proposed {
            return;
        }
        let link = self.link(id);
        link.acked = link.acked.max(Some(zxid));
        link.timed.on_ack(zxid);
        if who.votes && matches!(link.stage, LinkStage::Acked | LinkStage::Live) {
            self.acks.record(who.server, zxid);
            self.commit(out);
        }
    }

    /// Commits, in order, what a quorum holds.
    pub(super) fn commit(&mut self, out: &mut Vec<Effect>) {
        self.commit_agreed(out);
        self.commit_ahead(out);
    }

    fn commit_agreed(&mut self, out: &mut Vec<Effect>) {
        let agreed = match planted::is(Bug::CommitsWithoutQuorum) {
            true => Some(self.last_proposed),
            false => self.acks.agreed(),
        };
        let Some(agreed) = agreed.filter(|agreed| *agreed > self.committed) else { return };
        if !self.is_established() {
            return;
        }
        let level = self.rules.level;
        while let Some(entry) = self.outstanding.pop_front_if(|entry| entry.zxid <= agreed) {
            let is_asked_for = self.syncs.front().is_some_and(|sync| sync.after <= entry.zxid);
            for (id, link) in self.links.iter_mut().filter(|(_, link)| link.is_forwarded_to()) {
                let is_said_by_others = link.is_cumulative(level) && entry.zxid < agreed && !is_asked_for;
                if is_said_by_others || entry.zxid <= link.told {
                    continue;
                }
                let packet = if link.is_follower() {
                    commit(&entry)
                } else {
                    Packet::Inform { zxid: entry.zxid, txn: entry.txn.clone() }
                };
                if link.must_hold_commits() || !link.held.is_empty() {
                    link.held.push_back(Held::Packet(packet));
                } else {
                    out.push(send(*id, packet));
                }
            }
            self.committed = entry.zxid;
            // Before the next COMMIT: a learner answers its clients in the order of what it hears.
            self.place_syncs(out);
        }
        assert!(self.committed == agreed, "a quorum has acknowledged {agreed}, which was not proposed");
        out.push(Effect::Committed { zxid: self.committed });
    }

    /// Tells who with this server is a quorum what this server's log holds: once its own log does, too, it need not wait
    /// until its ACK has come here and the COMMIT has come back. No other ACK is counted on: what another learner has
    /// acknowledged may be taken from it when it comes back, as long as it is not committed here.
    fn commit_ahead(&mut self, out: &mut Vec<Effect>) {
        let held = match planted::is(Bug::CommitsFarAhead) {
            true => Some(self.last_proposed),
            false => self.acks.acked(self.rules.me),
        };
        let Some(held) = held.filter(|held| *held > self.committed && self.is_established()) else { return };
        for (id, link) in self.links.iter_mut().filter(|(_, link)| link.may_hear_ahead() && link.told < held) {
            // What follows a sync comes behind its answer.
            if !self.syncs.iter().any(|sync| sync.link == *id) {
                link.told = held;
                self.told_ahead.extend(link.learner.map(|who| (who.server, held)));
                out.push(send(*id, Packet::Commit { zxid: held }));
            }
        }
    }

    /// A learner that was told ahead may have applied what it holds, though its ACK has not come: what it says of its log is
    /// one now. Nothing of that may be taken from it, whatever speaks for it today: if it can't be believed, it has to wait.
    pub(super) fn on_return(&mut self, id: LinkId, last: Zxid, out: &mut Vec<Effect>) -> Result<(), Fault> {
        let is_of_epoch = last > beginning_of(self.epoch) && last <= self.last_proposed;
        if !is_of_epoch || !self.is_established() || planted::is(Bug::AheadForgotten) {
            return Ok(());
        }
        let who = self.who(id);
        // Java speaks of what it has only in memory.
        if who.votes && who.level.is_some() {
            self.acks.record(who.server, last);
            self.commit(out);
            // What is not committed by that may be taken from it.
            self.acks.forget(who.server);
        }
        match self.told_ahead.get(&who.server).map(|told| last.min(*told)) {
            Some(applied) if applied > self.committed => {
                Err(Fault::Protocol(format!("it may have applied {applied}, which is not committed here yet")))
            }
            _ => Ok(()),
        }
    }

    /// A learner's forwarded sync, in its place among the requests.
    pub fn on_sync(&mut self, link: LinkId, out: &mut Vec<Effect>) {
        if planted::is(Bug::SyncsAtOnce) {
            return self.send(link, Packet::Sync, out);
        }
        if self.links.contains_key(&link) {
            let after = self.outstanding.back().map_or(self.committed, |last| last.zxid);
            let round = self.ask_quorum(out);
            self.syncs.push_back(ForwardedSync { link, after, round });
            self.place_syncs(out);
        }
    }

    /// Asks whether a quorum still follows: the value is the round that answers it.
    pub fn ask_quorum(&mut self, out: &mut Vec<Effect>) -> i64 {
        self.wanted_round = self.round + 1;
        // What the round under way asks was asked before. Whoever comes meanwhile waits for the next one together.
        if self.answered_round() >= self.round {
            self.begin_round(out);
        }
        self.wanted_round
    }

    /// The last round that a quorum has answered.
    pub fn answered_round(&self) -> i64 {
        self.answered.agreed().map_or(0, |round| round.0)
    }

    fn begin_round(&mut self, out: &mut Vec<Effect>) {
        self.round += 1;
        self.answered.record(self.rules.me, Zxid(self.round));
        for link in self.links_in(|stage| stage == LinkStage::Live) {
            if self.who(link).votes {
                self.ping(link, out);
            }
        }
    }

    fn ping(&mut self, link: LinkId, out: &mut Vec<Effect>) {
        let round = self.round;
        out.push(send(link, Packet::Ping { zxid: self.last_proposed, touched: None }));
        // Before UPTODATE none is answered.
        let link = self.link(link);
        if link.stage == LinkStage::Live {
            link.pinged.push_back(round);
        }
    }

    /// PINGs are answered in their order.
    fn on_pong(&mut self, id: LinkId, out: &mut Vec<Effect>) {
        let who = self.who(id);
        let Some(round) = self.link(id).pinged.pop_front() else { return };
        let before = self.answered_round();
        if who.votes {
            self.answered.record(who.server, Zxid(round));
        }
        let answered = self.answered_round();
        if answered > before {
            for link in self.links_in(|stage| stage == LinkStage::Live) {
                self.let_go(link, out);
            }
        }
        if answered >= self.round && self.wanted_round > self.round {
            self.begin_round(out);
        }
    }

    /// Syncs whose place is here, behind what is committed.
    fn place_syncs(&mut self, out: &mut Vec<Effect>) {
        while let Some(sync) = self.syncs.pop_front_if(|sync| sync.after <= self.committed) {
            self.link(sync.link).held.push_back(Held::Synced { round: sync.round });
            self.let_go(sync.link, out);
        }
    }

    /// Says what was held and can be said.
    pub(super) fn let_go(&mut self, id: LinkId, out: &mut Vec<Effect>) {
        let answered = self.answered_round();
        let link = self.link(id);
        if link.stage != LinkStage::Live {
            return;
        }
        while let Some(held) = link.held.pop_front_if(|held| match held {
            Held::Packet(_) => true,
            Held::Synced { round } => *round <= answered,
        }) {
            out.push(send(
                id,
                match held {
                    Held::Packet(packet) => packet,
                    Held::Synced { .. } => Packet::Sync,
                },
            ));
        }
    }

    /// Every half tick a PING, every tick a look at who is there.
    pub(super) fn on_half_tick(&mut self, now: Mono, out: &mut Vec<Effect>) {
        self.next_half_tick = Some(now + self.half_tick_ms());
        self.half_ticks += 1;
        if self.half_ticks % 2 == 0 {
            let synced = self.links.values().filter(|link| self.is_synced(link)).filter_map(|link| link.learner);
            let mut synced: BTreeSet<ServerId> = synced.filter(|who| who.votes).map(|who| who.server).collect();
            synced.insert(self.rules.me);
            if !self.rules.membership.is_quorum(&synced) {
                let sids: Vec<String> = synced.iter().map(ToString::to_string).collect();
                self.fail(Fault::NoQuorum(format!("[ {} ]", sids.join(","))), out);
                return;
            }
        }
        let limit = self.sync_limit_ms();
        if let Some((zxid, _)) = self.own.oldest.filter(|(_, since)| 2 * (now - since) >= limit)
            && !self.rules.membership.is_quorum(&BTreeSet::from([self.rules.me]))
        {
            // Others may commit, but nobody here is shown anything; and if it needs us, nothing is committed.
            return self.fail(Fault::DiskHangs { zxid, ms: limit / 2 }, out);
        }
        for link in self.links_in(|stage| matches!(stage, LinkStage::AwaitsAck | LinkStage::Acked | LinkStage::Live)) {
            if self.links[&link].timed.oldest.is_some_and(|(_, since)| now - since >= limit) {
                let fault = Fault::Silence { doing: "waiting for the ACK of a proposal", ms: limit };
                self.drop_link(link, fault, out);
            } else {
                self.ping(link, out);
            }
        }
    }

    pub(super) fn is_synced(&self, link: &Link) -> bool {
        link.learner.is_some() && self.tick() <= link.synced_until
    }

    pub(super) fn tick(&self) -> i64 {
        self.half_ticks / 2
    }
}
