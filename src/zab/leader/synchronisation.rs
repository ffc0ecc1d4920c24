//! Synchronisation: every learner is brought to this leader's own history, and a quorum says that it holds it.
//!
//! What a learner is sent is decided by [`History`]; here it is put on the link, the history first, then what is
//! outstanding, then NEWLEADER, and from there on what is live.
//!
//! Java: `LearnerHandler.syncFollower`, `LearnerSyncThrottler`, `Leader.waitForNewLeaderAck`; quorum-protocol 5.6-5.8.

use super::{Leader, LinkStage, Stage, commit, proposal, send};
use crate::config::Role;
use crate::id::{LinkId, Zxid};
use crate::planted::{self, Bug};
use crate::session::Mono;
use crate::stats::Summary;
use crate::zab::history::{History, Plan};
use crate::zab::packet::Packet;
use crate::zab::{Effect, Entry, Fault, PART_BYTES, beginning_of};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sync {
    Diff,
    Snap,
}

/// Where a learner's log ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum From {
    Log(Zxid),
    /// Nothing that can be told, or a snapshot is asked for.
    Nowhere,
}

/// What a learner got before the log was read for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Before {
    Nothing,
    Snapshot,
}

/// How learners were brought up to date, since this server leads.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SyncCounts {
    pub snaps: u64,
    pub diffs: u64,
    /// How many were under way whenever one began or ended.
    pub snaps_at_once: Summary,
    pub diffs_at_once: Summary,
}

impl SyncCounts {
    pub fn merge(&mut self, other: &Self) {
        self.snaps += other.snaps;
        self.diffs += other.diffs;
        self.snaps_at_once.merge(&other.snaps_at_once);
        self.diffs_at_once.merge(&other.diffs_at_once);
    }
}

impl Leader {
    /// Brings everybody who waits for it to the own history, if the time has come.
    pub(super) fn begin_syncs(&mut self, now: Mono, history: &History, out: &mut Vec<Effect>) {
        if !matches!(self.stage, Stage::Synchronizes | Stage::Establishes | Stage::Serves) {
            return;
        }
        for link in self.links_in(|stage| matches!(stage, LinkStage::AwaitsSync { .. })) {
            let LinkStage::AwaitsSync { from } = self.links[&link].stage else { continue };
            self.begin_sync(now, link, from, history, out);
        }
    }

    fn begin_sync(&mut self, now: Mono, link: LinkId, from: From, history: &History, out: &mut Vec<Effect>) {
        let end = if self.outstanding.is_empty() { self.committed } else { self.last_proposed };
        assert!(history.last() == end, "the history ends with {} instead of {end}", history.last());
        let last = if self.is_established() { self.committed.max(beginning_of(self.epoch)) } else { self.committed };
        let plan = match from {
            From::Log(peer) if !self.rules.force_snapshot => history.plan(peer, last, self.committed),
            _ => Plan::Snap,
        };
        let in_window = match plan {
            Plan::Diff { behind, .. } | Plan::Trunc { target: behind } => history.bytes_behind(behind),
            Plan::FromDisk { .. } => history.bytes_behind(history.first_behind()),
            Plan::Snap => 0,
        };
        match (plan, from) {
            (Plan::Snap, _) => return self.snapshot(link, out),
            _ if in_window > self.rules.max_diff_bytes => return self.snapshot(link, out),
            (Plan::FromDisk { .. }, _) if !self.rules.sync_from_log => return self.snapshot(link, out),
            _ => {}
        }
        if let Err(fault) = self.throttle(link, Sync::Diff) {
            return self.drop_link(link, fault, out);
        }
        self.set_sync(link, Some(Sync::Diff));
        match (plan, from) {
            (Plan::Diff { zxid, behind }, _) => {
                out.push(send(link, Packet::Diff { zxid }));
                self.forward(now, link, behind, history, out);
            }
            (Plan::Trunc { target }, _) => {
                out.push(send(link, Packet::Trunc { zxid: target }));
                self.forward(now, link, target, history, out);
            }
            (Plan::FromDisk { .. }, From::Log(peer)) => self.read_log(link, peer, Before::Nothing, history, out),
            (plan, from) => panic!("{plan:?} for a learner from {from:?}"),
        }
    }

    fn read_log(&mut self, link: LinkId, behind: Zxid, after: Before, history: &History, out: &mut Vec<Effect>) {
        let upto = history.first_behind();
        self.link(link).enter(LinkStage::ReadsLog { behind, pinned: upto, after }, None);
        out.push(match after {
            // With the one that the learner's log ends with: it proves that the two logs are one.
            Before::Nothing => Effect::ReadLog { link, after: Zxid(behind.0 - 1), upto, in_parts: false },
            Before::Snapshot => Effect::ReadLog { link, after: behind, upto, in_parts: true },
        });
    }

    fn snapshot(&mut self, link: LinkId, out: &mut Vec<Effect>) {
        // An attempt by way of the log has failed if there was one.
        self.set_sync(link, None);
        if let Err(fault) = self.throttle(link, Sync::Snap) {
            return self.drop_link(link, fault, out);
        }
        self.set_sync(link, Some(Sync::Snap));
        self.sync_counts.snaps += 1;
        self.link(link).enter(LinkStage::SendsSnapshot, None);
        out.push(Effect::SendSnapshot { link });
    }

    /// The snapshot of `zxid` went out on the link: what is behind it follows. That took as long as it takes, and nothing
    /// was kept for it meanwhile.
    pub fn on_snapshot_sent(&mut self, now: Mono, link: LinkId, zxid: Zxid, history: &History, out: &mut Vec<Effect>) {
        let Some(learner) = self.links.get(&link) else { return };
        if learner.stage != LinkStage::SendsSnapshot {
            return;
        }
        assert!(zxid <= self.committed, "a snapshot of {zxid}, but only {} is committed", self.committed);
        self.catch_up(now, link, zxid, history, out);
    }

    /// What is behind a snapshot comes part by part, as the learner takes it: from the log, until the window reaches back to
    /// where it stands, and then from there until the rest is small.
    fn catch_up(&mut self, now: Mono, link: LinkId, behind: Zxid, history: &History, out: &mut Vec<Effect>) {
        if behind < history.first_behind() {
            return self.read_log(link, behind, Before::Snapshot, history, out);
        }
        let lacking = || history.entries_behind(behind).take_while(|entry| entry.zxid <= self.committed);
        if lacking().map(|entry| entry.txn.len()).sum::<usize>() <= PART_BYTES {
            return self.forward(now, link, behind, history, out);
        }
        let mut left = PART_BYTES;
        let part: Vec<&Entry> = lacking()
            .take_while(|entry| {
                let had = left;
                left = left.saturating_sub(entry.txn.len());
                // The first of them, and what fits.
                had == PART_BYTES || entry.txn.len() <= had
            })
            .collect();
        self.send_part(now, link, part, out);
    }

    /// Some of what a learner lacks; more once it has taken that. It may have to wait until the whole tree is on its disk.
    fn send_part<'a>(
        &mut self,
        now: Mono,
        link: LinkId,
        part: impl IntoIterator<Item = &'a Entry>,
        out: &mut Vec<Effect>,
    ) {
        let mut last = None;
        for entry in part {
            last = Some(entry.zxid);
            out.extend(committed(link, entry));
        }
        let stage = LinkStage::CatchesUp { behind: last.expect("something is sent") };
        let deadline = Some(now + self.patience_ms(stage));
        self.link(link).enter(stage, deadline);
        out.push(Effect::AwaitDrained { link });
    }

    /// What [`Effect::AwaitDrained`] asked for.
    pub fn on_drained(&mut self, now: Mono, link: LinkId, history: &History, out: &mut Vec<Effect>) {
        let Some(learner) = self.links.get(&link) else { return };
        if let LinkStage::CatchesUp { behind } = learner.stage {
            self.catch_up(now, link, behind, history, out);
        }
    }

    /// What [`Effect::ReadLog`] asked for; `None` if the disk does not hold all of it.
    pub fn on_log_read(
        &mut self,
        now: Mono,
        link: LinkId,
        read: Option<Vec<Entry>>,
        history: &History,
        out: &mut Vec<Effect>,
    ) {
        let Some(learner) = self.links.get(&link) else { return };
        let LinkStage::ReadsLog { behind, pinned, after } = learner.stage else { return };
        let read = read.unwrap_or_default();
        match after {
            Before::Nothing => match history.plan_from_disk(&read, behind, self.committed) {
                Plan::Diff { zxid, .. } => {
                    out.push(send(link, Packet::Diff { zxid }));
                    let lacking = read.iter().filter(|entry| entry.zxid > behind);
                    out.extend(lacking.flat_map(|entry| committed(link, entry)));
                    self.forward(now, link, history.first_behind(), history, out);
                }
                _ => self.snapshot(link, out),
            },
            Before::Snapshot => {
                let Some(last) = end_of(&read, behind).filter(|last| *last <= pinned) else {
                    let fault = Fault::Storage(format!("the log does not go on behind the snapshot of {behind}"));
                    return self.drop_link(link, fault, out);
                };
                if last < pinned {
                    return self.send_part(now, link, &read, out);
                }
                out.extend(read.iter().flat_map(|entry| committed(link, entry)));
                self.catch_up(now, link, last, history, out);
            }
        }
    }

    /// Sends everything behind `behind`, with NEWLEADER at its end, and from now on what is live.
    fn forward(&mut self, now: Mono, link: LinkId, behind: Zxid, history: &History, out: &mut Vec<Effect>) {
        let who = self.who(link);
        let zxid = beginning_of(self.epoch);
        self.sync_counts.diffs += u64::from(self.links[&link].sync == Some(Sync::Diff));
        if who.is_old {
            out.push(send(link, Packet::NewLeader { zxid, config: None }));
        }
        let skipped = usize::from(planted::is(Bug::DiffSkipsOne));
        for entry in history.entries_behind(behind).skip(skipped).take_while(|entry| entry.zxid <= self.committed) {
            out.extend(committed(link, entry));
        }
        if who.kind == Role::Participant {
            out.extend(self.outstanding.iter().map(|entry| send(link, proposal(entry))));
            if planted::is(Bug::OutstandingAsCommitted) {
                out.extend(self.outstanding.iter().map(|entry| send(link, commit(entry))));
            }
        }
        if !who.is_old {
            out.push(send(link, Packet::NewLeader { zxid, config: Some(self.rules.config_text.clone()) }));
        }
        let deadline = Some(now + self.init_limit_ms());
        self.link(link).enter(LinkStage::AwaitsAck, deadline);
    }

    /// The learner takes what it is sent. How long that takes is a matter of how much it is; only then does the time
    /// begin in which it must have dealt with it.
    pub fn on_progress(&mut self, now: Mono, link: LinkId) {
        let Some(stage) = self.links.get(&link).map(|link| link.stage) else { return };
        if matches!(stage, LinkStage::CatchesUp { .. } | LinkStage::AwaitsAck) {
            self.link(link).deadline = Some(now + self.patience_ms(stage));
        }
    }

    pub(super) fn on_new_leader_ack(&mut self, now: Mono, link: LinkId, out: &mut Vec<Effect>) {
        let who = self.who(link);
        let waits_for_quorum = self.stage == Stage::Synchronizes;
        let deadline = waits_for_quorum.then(|| now + self.init_limit_ms());
        self.link(link).enter(LinkStage::Acked, deadline);
        self.set_sync(link, None);
        if who.votes {
            self.new_leader_acks.insert(who.server);
            if let Some(acked) = self.links[&link].acked {
                self.acks.record(who.server, acked);
                self.commit(out);
            }
        }
        match self.stage {
            Stage::Synchronizes => self.count_new_leader_acks(now, out),
            Stage::Serves => self.up_to_date(now, link, out),
            _ => {}
        }
    }

    pub(super) fn count_new_leader_acks(&mut self, now: Mono, out: &mut Vec<Effect>) {
        let acks = &self.new_leader_acks;
        if self.stage != Stage::Synchronizes || !acks.contains(&self.rules.me) || !self.rules.membership.is_quorum(acks)
        {
            return;
        }
        self.stage = Stage::Establishes;
        self.deadline = None;
        self.last_proposed = beginning_of(self.epoch);
        self.next_half_tick = Some(now + self.half_tick_ms());
        for link in self.links.values_mut().filter(|link| link.stage == LinkStage::Acked) {
            link.deadline = None;
        }
        out.push(Effect::Established { epoch: self.epoch });
    }

    /// Everything up to the end of the history is applied.
    pub fn on_serving(&mut self, now: Mono, out: &mut Vec<Effect>) {
        if self.stage != Stage::Establishes {
            return;
        }
        self.stage = Stage::Serves;
        for link in self.links_in(|stage| stage == LinkStage::Acked) {
            self.up_to_date(now, link, out);
        }
    }

    fn up_to_date(&mut self, now: Mono, link: LinkId, out: &mut Vec<Effect>) {
        let deadline = Some(now + self.sync_limit_ms());
        self.link(link).enter(LinkStage::Live, deadline);
        out.push(send(link, Packet::UpToDate));
        self.let_go(link, out);
    }

    /// The [`History`] must keep everything behind this.
    pub fn pinned(&self) -> Option<Zxid> {
        let pins = self.links.values().filter_map(|link| match link.stage {
            LinkStage::ReadsLog { pinned, .. } => Some(pinned),
            _ => None,
        });
        pins.min()
    }

    pub(super) fn set_sync(&mut self, link: LinkId, sync: Option<Sync>) {
        let before = std::mem::replace(&mut self.link(link).sync, sync);
        for kind in [before, sync].into_iter().flatten() {
            let now = self.syncs(kind) as i64;
            match kind {
                Sync::Snap => self.sync_counts.snaps_at_once.add(now),
                Sync::Diff => self.sync_counts.diffs_at_once.add(now),
            }
        }
    }

    pub(super) fn syncs(&self, kind: Sync) -> usize {
        self.links.values().filter(|link| link.sync == Some(kind)).count()
    }

    /// Whether one more may be synced this way. Whoever votes is not kept waiting.
    fn throttle(&self, link: LinkId, kind: Sync) -> Result<(), Fault> {
        let max = match kind {
            Sync::Diff => self.rules.max_concurrent_diff_syncs,
            Sync::Snap => self.rules.max_concurrent_snap_syncs,
        };
        if !self.who(link).votes && self.syncs(kind) >= max {
            return Err(Fault::Protocol(format!("too many concurrent syncs: {max} are allowed")));
        }
        Ok(())
    }
}

/// A transaction of the history, as it is sent to who lacks it.
fn committed(link: LinkId, entry: &Entry) -> [Effect; 2] {
    [proposal(entry), commit(entry)].map(|packet| send(link, packet))
}

/// Where these lead to from `behind`, if nothing is missing between.
fn end_of(entries: &[Entry], behind: Zxid) -> Option<Zxid> {
    let mut last = behind;
    for entry in entries {
        if entry.zxid <= last || !entry.zxid.follows(last) {
            return None;
        }
        last = entry.zxid;
    }
    (last > behind).then_some(last)
}
