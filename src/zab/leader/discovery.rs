//! Discovery: an epoch that nobody has promised to another, and a quorum that holds nothing which this leader lacks.
//!
//! Java: `Leader.getEpochToPropose`, `Leader.waitForEpochAck`; quorum-protocol 5.3-5.5.

use std::collections::BTreeSet;

use super::{From, Leader, LinkStage, Stage, Who, send};
use crate::config::Role;
use crate::id::{LinkId, Zxid};
use crate::planted::{self, Bug};
use crate::session::Mono;
use crate::storage::epoch::EpochFile;
use crate::zab::history::History;
use crate::zab::packet::{FeatureLevel, LearnerInfo, Mark, PROTOCOL, Packet};
use crate::zab::quorum::votes;
use crate::zab::{Effect, Fault};

/// A zxid has 31 bits for it and one for the sign.
const LAST_EPOCH: i64 = i32::MAX as i64;
/// So long one learner's other tree makes that of the next a dispute.
const DISPUTE_MS: Mono = 3_600_000;

impl Leader {
    #[expect(clippy::too_many_arguments, reason = "the packet, and where it goes")]
    pub(super) fn on_info(
        &mut self,
        now: Mono,
        link: LinkId,
        accepted: i64,
        info: LearnerInfo,
        kind: Role,
        history: &History,
        out: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        let version = self.rules.membership.version;
        if info.config_version > version {
            let theirs = info.config_version;
            return Err(Fault::Protocol(format!("the learner's member list is of {theirs:#x}, ours of {version:#x}")));
        }
        if accepted >= LAST_EPOCH {
            return Err(Fault::Protocol(format!("the learner has accepted epoch {accepted}")));
        }
        let server = info.server.unwrap_or_else(|| {
            self.next_unnamed -= 1;
            self.next_unnamed + 1
        });
        if server == self.rules.me {
            return Err(Fault::Protocol(format!("the learner calls itself {server}, as this server is called")));
        }
        // Its log may be cut on the new link: what it said on the old one holds no longer.
        let older = self.links.iter().filter(|(_, l)| l.learner.is_some_and(|who| who.server == server));
        for older in older.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.drop_link(older, Fault::Protocol(format!("server {server} has a new link")), out);
        }
        self.acks.forget(server);
        // What it speaks tells neither the end of its log nor what it has acknowledged.
        let is_old = info.protocol < PROTOCOL;
        let counts = kind == Role::Participant && !is_old && votes(&self.rules.membership, server);
        let level = info.mark.map(|mark| mark.level);
        let hears_ahead = counts
            && FeatureLevel::AHEAD.is_of_both(level, self.rules.level)
            && self.rules.membership.is_quorum(&BTreeSet::from([self.rules.me, server]));
        let init_limit_ms = self.init_limit_ms();
        let learner = self.link(link);
        let differs = info.mark.is_some_and(|mark| mark.differs);
        learner.learner = Some(Who { server, kind, votes: counts, is_old, level, differs, hears_ahead });
        learner.enter(LinkStage::AwaitsEpoch, Some(now + init_limit_ms));
        // Whoever is no member may have any number of names.
        if differs && self.rules.membership.members.contains_key(&server) {
            self.differing.insert(server, now);
        }
        match self.stage {
            Stage::Discovers => {
                // Observers and those without a vote raise it too.
                self.epoch = self.epoch.max(accepted + 1);
                if counts {
                    self.told.insert(server);
                }
                self.choose_epoch(out);
            }
            Stage::SavesAccepted => {}
            // It promised a later epoch to somebody who never led, and so cannot follow this one, ever. Java leaves it
            // outside until the leader changes for another reason.
            Stage::Serves if counts && accepted > self.epoch => {
                let epoch = self.epoch;
                let text = format!("server {server} has accepted epoch {accepted}, and can't follow in {epoch}");
                self.fail(Fault::Protocol(text), out);
            }
            _ => {
                self.tell_epoch(now, link, out);
                self.begin_syncs(now, history, out);
            }
        }
        Ok(())
    }

    pub(super) fn choose_epoch(&mut self, out: &mut Vec<Effect>) {
        if self.epoch > LAST_EPOCH {
            self.fail(Fault::Protocol(format!("epoch {} was accepted, and none is left", self.epoch - 1)), out);
        } else if self.rules.membership.is_quorum(&self.told) {
            self.stage = Stage::SavesAccepted;
            out.push(Effect::SaveEpoch { file: EpochFile::Accepted, epoch: self.epoch });
        }
    }

    pub(super) fn tell_epoch(&mut self, now: Mono, link: LinkId, out: &mut Vec<Effect>) {
        let deadline = Some(now + self.init_limit_ms());
        let who = self.link(link).learner.expect("it has said who it is");
        self.differing.retain(|_, at| now - *at < DISPUTE_MS);
        let others = self.differing.keys().any(|server| *server != who.server);
        if who.differs && others {
            out.push(Effect::Disputed { by: self.differing.keys().copied().collect() });
        }
        let (epoch, mark) = (self.epoch, self.rules.level.map(|level| Mark { level, differs: others }));
        let learner = self.link(link);
        if who.is_old {
            learner.enter(LinkStage::AwaitsSync { from: From::Nowhere }, deadline);
        } else {
            learner.enter(LinkStage::AwaitsAckEpoch, deadline);
            out.push(send(link, Packet::LeaderInfo { epoch, mark }));
        }
    }

    pub(super) fn on_ack_epoch(
        &mut self,
        now: Mono,
        link: LinkId,
        last: Zxid,
        current: Option<i64>,
        history: &History,
        out: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        let deadline = Some(now + self.init_limit_ms());
        let own = (self.epochs.current, self.history_end);
        let who = self.who(link);
        // Once a quorum has acknowledged, whatever one more learner holds cannot have been committed.
        if self.stage == Stage::AwaitsEpochAcks
            && let Some(current) = current
        {
            if (current, last) > own && !planted::is(Bug::LeadsBehind) {
                let (epoch, zxid) = own;
                let text = format!("it holds ({current}, {last}), more than the ({epoch}, {zxid}) of this leader");
                return Err(Fault::Protocol(text));
            }
            if last != Zxid(-1) && who.votes {
                self.epoch_acks.insert(who.server);
            }
        }
        self.on_return(link, last, out)?;
        // A zooid that has nowhere to go back to says that it has nothing (design.md D17).
        let from = match (last, current) {
            (Zxid::ZERO, None) if history.last() > Zxid::ZERO => From::Nowhere,
            _ => From::Log(last),
        };
        self.link(link).enter(LinkStage::AwaitsSync { from }, deadline);
        self.count_epoch_acks(now, history, out);
        self.begin_syncs(now, history, out);
        Ok(())
    }

    pub(super) fn count_epoch_acks(&mut self, now: Mono, history: &History, out: &mut Vec<Effect>) {
        if self.stage == Stage::AwaitsEpochAcks && self.rules.membership.is_quorum(&self.epoch_acks) {
            self.stage = Stage::Synchronizes;
            self.deadline = Some(now + self.init_limit_ms());
            out.push(Effect::SaveEpoch { file: EpochFile::Current, epoch: self.epoch });
            self.begin_syncs(now, history, out);
        }
    }
}
