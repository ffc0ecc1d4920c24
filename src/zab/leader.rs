//! A leader: from the moment that a server was elected until it loses its quorum.
//!
//! It finds an epoch that nobody has promised to another (discovery), makes sure that a quorum holds nothing
//! that it lacks (epoch acks), brings every learner to its own history and waits for a quorum to hold it
//! (synchronisation), and then has transactions logged by all and commits what a quorum holds (broadcast).
//! A learner that comes late goes the same way, link by link, past waits that are over.
//!
//! What always holds:
//!
//! - Its own promises are on disk before they count: `acceptedEpoch` before LEADERINFO, `currentEpoch` before
//!   its vote for its own history, and of a transaction no vote before it is durable here.
//! - On every link the history, what is outstanding and what is live stand in one ascending order without a
//!   hole or a repetition, and a COMMIT follows its PROPOSAL.
//! - A vote counts for what the learner's log holds *now*: when a server comes back on a new link, whose
//!   beginning may truncate its log, what it acknowledged on the old one is forgotten. (Java counts it still.)
//! - Whatever a learner sends, at worst its own link dies.
//!
//! Java: `Leader`, `LearnerHandler`, `LearnerSyncThrottler`; quorum-protocol 0.3, 5.3-5.8, 6.2-6.8.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::history::{History, Plan};
use super::packet::{FeatureLevel, LearnerInfo, Mark, PROTOCOL, Packet};
use super::quorum::{AckSet, votes};
use super::{Effect, Entry, Fault, FromLearner, beginning_of, epoch_of};
use crate::config::{Membership, Role};
use crate::id::{LinkId, ServerId, Zxid};
use crate::planted::{self, Bug};
use crate::session::Mono;
use crate::stats::Summary;
use crate::storage::epoch::{EpochFile, Epochs};

/// A zxid has 31 bits for it and one for the sign.
const LAST_EPOCH: i64 = i32::MAX as i64;

#[derive(Clone, Debug)]
pub struct LeaderRules {
    pub me: ServerId,
    pub tick_ms: i64,
    pub init_limit_ticks: i64,
    pub sync_limit_ticks: i64,
    pub membership: Arc<Membership>,
    /// What NEWLEADER carries.
    pub config_text: Bytes,
    pub level: Option<FeatureLevel>,
    /// A snapshot even where a diff would do.
    pub force_snapshot: bool,
    /// The log on disk may serve a learner that the window does not reach.
    pub sync_from_log: bool,
    /// How many may get a snapshot at a time. Followers are counted, but only observers are refused.
    pub max_concurrent_snap_syncs: usize,
    pub max_concurrent_diff_syncs: usize,
    /// Bytes of transactions that a learner is sent one by one at most; if it lacks more, it gets a snapshot.
    pub max_diff_bytes: usize,
}

#[derive(Debug)]
pub struct Leader {
    rules: LeaderRules,
    stage: Stage,
    /// A quorum must have spoken by then.
    deadline: Option<Mono>,
    epochs: Epochs,
    /// The largest promise heard of, plus one; then the epoch.
    epoch: i64,
    /// The end of the own log at the beginning: what the epoch's history is.
    history_end: Zxid,
    /// Who has told its promise, who holds no more than this server, and who holds its history.
    told: BTreeSet<ServerId>,
    epoch_acks: BTreeSet<ServerId>,
    new_leader_acks: BTreeSet<ServerId>,
    links: BTreeMap<LinkId, Link>,
    /// The number of the next learner that does not tell its own.
    next_unnamed: ServerId,

    acks: AckSet,
    last_proposed: Zxid,
    committed: Zxid,
    outstanding: VecDeque<Entry>,
    /// Forwarded syncs whose place among the commits is still to come, in order.
    syncs: VecDeque<ForwardedSync>,
    /// Rounds of PINGs, which ask whether a quorum still follows this leader: a sync shows what others have been told before
    /// it only if no other leader can have told them. The last that was begun, the last that somebody waits for, and what
    /// each voter has answered; of rounds, too, one number for a server is enough.
    round: i64,
    wanted_round: i64,
    answered: AckSet,

    next_half_tick: Option<Mono>,
    half_ticks: i64,
    /// What the own disk has still to write.
    own: Timed,
    proposal_bytes: Option<Sizes>,
    sync_counts: SyncCounts,
    /// Who had another tree than this leader's transactions make, and when that was said.
    differing: BTreeMap<ServerId, Mono>,
}

/// So long one learner's other tree makes that of the next a dispute.
const DISPUTE_MS: Mono = 3_600_000;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// A quorum's promises are wanted.
    Discovers,
    SavesAccepted,
    /// LEADERINFO is out; a quorum that holds no more is wanted.
    AwaitsEpochAcks,
    /// A quorum that holds the history is wanted.
    Synchronizes,
    /// The history is committed; the own server applies it.
    Establishes,
    Serves,
    Over,
}

#[derive(Debug)]
struct Link {
    stage: LinkStage,
    /// Silence until then is a fault.
    deadline: Option<Mono>,
    /// `None` until its first word.
    learner: Option<Who>,
    /// What brings it to the history, until it has said that it is there.
    sync: Option<Sync>,
    /// Until this tick it counts as synced.
    synced_until: i64,
    acked: Option<Zxid>,
    timed: Timed,
    /// What has its place behind something that can't be said yet: UPTODATE, or the answer to a sync.
    held: VecDeque<Held>,
    /// The PINGs that it has not answered, by the round that each asks for.
    pinged: VecDeque<i64>,
}

/// Answered behind the COMMIT of this zxid, and not before a quorum has answered this round.
#[derive(Clone, Copy, Debug)]
struct ForwardedSync {
    link: LinkId,
    after: Zxid,
    round: i64,
}

#[derive(Clone, Debug)]
enum Held {
    Packet(Packet),
    /// The answer to a sync, once a quorum has answered this round.
    Synced {
        round: i64,
    },
}

#[derive(Clone, Copy, Debug)]
struct Who {
    server: ServerId,
    kind: Role,
    /// Its word counts.
    votes: bool,
    /// It speaks the protocol from before ZooKeeper 3.4: no LEADERINFO and no ACKEPOCH.
    is_old: bool,
    level: Option<FeatureLevel>,
    /// It wants this leader's tree instead of its own.
    differs: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum LinkStage {
    AwaitsInfo,
    /// Its promise is told; the epoch is not yet known.
    AwaitsEpoch,
    AwaitsAckEpoch,
    /// Its history is told; the epoch acks are not yet complete.
    AwaitsSync {
        from: From,
    },
    ReadsLog {
        behind: Zxid,
        pinned: Zxid,
        after: Before,
    },
    SendsSnapshot {
        pinned: Zxid,
    },
    /// NEWLEADER is sent. From here on live packets go out.
    AwaitsAck,
    /// Holds the history; this server does not serve yet.
    Acked,
    Live,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sync {
    Diff,
    Snap,
}

/// Where a learner's log ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum From {
    Log(Zxid),
    /// Nothing that can be told, or a snapshot is asked for.
    Nowhere,
}

/// What a learner got before the log was read for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Before {
    Nothing,
    Snapshot,
}

/// The oldest proposal that waits for its ACK, and the newest: enough to see that a server does not log, at
/// the cost of two zxids (Java: `LearnerHandler.SyncLimitCheck`, for followers alone).
#[derive(Debug, Default)]
struct Timed {
    oldest: Option<(Zxid, Mono)>,
    newest: Option<(Zxid, Mono)>,
}

/// Bytes of proposals.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sizes {
    pub last: usize,
    pub min: usize,
    pub max: usize,
}

/// What `mntr` shows of a leader.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Figures {
    pub learners: usize,
    pub synced_followers: usize,
    pub synced_non_voting_followers: usize,
    pub synced_observers: usize,
    pub pending_syncs: usize,
    pub snap_syncs: usize,
    pub diff_syncs: usize,
    pub outstanding: usize,
    pub proposal_bytes: Option<Sizes>,
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
    /// `last` is the end of the own log, all of which is durable, with no answer of the disk outstanding.
    pub fn new(rules: LeaderRules, now: Mono, epochs: Epochs, last: Zxid, out: &mut Vec<Effect>) -> Self {
        assert!(epochs.accepted >= epochs.current, "{} was never accepted: {epochs:?}", epochs.current);
        let mut leader = Self {
            deadline: Some(now + rules.init_limit_ticks * rules.tick_ms),
            acks: AckSet::new(vec![rules.membership.clone()]),
            answered: AckSet::new(vec![rules.membership.clone()]),
            told: BTreeSet::from([rules.me]),
            epoch_acks: BTreeSet::from([rules.me]),
            rules,
            stage: Stage::Discovers,
            epochs,
            epoch: epochs.accepted.max(-1) + 1,
            history_end: last,
            new_leader_acks: BTreeSet::new(),
            links: BTreeMap::new(),
            next_unnamed: -1,
            last_proposed: last,
            committed: last,
            outstanding: VecDeque::new(),
            syncs: VecDeque::new(),
            round: 0,
            wanted_round: 0,
            next_half_tick: None,
            half_ticks: 0,
            own: Timed::default(),
            proposal_bytes: None,
            sync_counts: SyncCounts::default(),
            differing: BTreeMap::new(),
        };
        leader.choose_epoch(out);
        leader
    }

    /// The epoch, once it is chosen.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    pub fn epochs(&self) -> Epochs {
        self.epochs
    }

    /// The history is committed, and transactions can be proposed.
    pub fn is_established(&self) -> bool {
        matches!(self.stage, Stage::Establishes | Stage::Serves)
    }

    pub fn committed(&self) -> Zxid {
        self.committed
    }

    /// The last proposed transaction; before the first, the epoch's beginning.
    pub fn last_proposed(&self) -> Zxid {
        self.last_proposed
    }

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

    /// The [`History`] must keep everything behind this.
    pub fn pinned(&self) -> Option<Zxid> {
        let pins = self.links.values().filter_map(|link| match link.stage {
            LinkStage::ReadsLog { pinned, .. } | LinkStage::SendsSnapshot { pinned } => Some(pinned),
            _ => None,
        });
        pins.min()
    }

    /// The feature level that everybody has who is linked; `None` if one of them is no zooid.
    pub fn common_level(&self) -> Option<FeatureLevel> {
        let learners = self.links.values().filter_map(|link| link.learner);
        learners.map(|who| who.level).chain([self.rules.level]).min().flatten()
    }

    /// Both counts, and the sizes of proposals, start anew.
    pub fn reset_counts(&mut self) {
        self.sync_counts = SyncCounts::default();
        self.proposal_bytes = None;
    }

    pub fn sync_counts(&self) -> SyncCounts {
        self.sync_counts
    }

    pub fn figures(&self) -> Figures {
        let mut figures = Figures {
            pending_syncs: self.syncs.len() + self.links.values().map(Link::held_syncs).sum::<usize>(),
            snap_syncs: self.syncs(Sync::Snap),
            diff_syncs: self.syncs(Sync::Diff),
            outstanding: self.outstanding.len(),
            proposal_bytes: self.proposal_bytes,
            ..Figures::default()
        };
        for link in self.links.values() {
            let Some(who) = link.learner else { continue };
            figures.learners += 1;
            if link.is_forwarded_to() && self.is_synced(link) {
                match (who.kind, who.votes) {
                    (Role::Participant, true) => figures.synced_followers += 1,
                    (Role::Participant, false) => figures.synced_non_voting_followers += 1,
                    (Role::Observer, _) => figures.synced_observers += 1,
                }
            }
        }
        figures
    }

    pub fn next_deadline(&self) -> Option<Mono> {
        let links = self.links.values().filter_map(|link| link.deadline);
        links.chain(self.deadline).chain(self.next_half_tick).min()
    }

    /// A learner has connected.
    pub fn on_link(&mut self, now: Mono, link: LinkId) {
        if self.stage == Stage::Over {
            return;
        }
        let learner = Link {
            stage: LinkStage::AwaitsInfo,
            deadline: Some(now + self.init_limit_ms()),
            learner: None,
            sync: None,
            synced_until: self.tick() + self.rules.init_limit_ticks + self.rules.sync_limit_ticks,
            acked: None,
            timed: Timed::default(),
            held: VecDeque::new(),
            pinged: VecDeque::new(),
        };
        assert!(self.links.insert(link, learner).is_none(), "{link:?} twice");
    }

    pub fn on_packet(&mut self, now: Mono, link: LinkId, packet: Packet, history: &History, out: &mut Vec<Effect>) {
        let Some(learner) = self.links.get(&link) else { return };
        let result = match learner.stage {
            LinkStage::AwaitsInfo => match packet {
                Packet::FollowerInfo { accepted, info } => {
                    self.on_info(now, link, accepted, info, Role::Participant, history, out)
                }
                Packet::ObserverInfo { accepted, info } => {
                    self.on_info(now, link, accepted, info, Role::Observer, history, out)
                }
                other => Err(unexpected(&other, "FOLLOWERINFO or OBSERVERINFO")),
            },
            LinkStage::AwaitsAckEpoch => match packet {
                Packet::AckEpoch { last, current } => self.on_ack_epoch(now, link, last, current, history, out),
                other => Err(unexpected(&other, "ACKEPOCH")),
            },
            LinkStage::AwaitsAck => match packet {
                Packet::Ack { zxid } if zxid == beginning_of(self.epoch) => {
                    self.on_new_leader_ack(now, link, out);
                    Ok(())
                }
                // A follower of 3.8.4 acknowledges proposals before NEWLEADER. Until it has said that it holds
                // the history, that counts for nothing.
                Packet::Ack { zxid } => {
                    self.on_ack(link, zxid, out);
                    Ok(())
                }
                Packet::Unknown { .. } => Ok(()),
                other => Err(unexpected(&other, "ACK of NEWLEADER")),
            },
            LinkStage::Acked => match packet {
                Packet::Ack { zxid } => {
                    self.on_ack(link, zxid, out);
                    Ok(())
                }
                Packet::Unknown { .. } => Ok(()),
                other => Err(unexpected(&other, "nothing before UPTODATE")),
            },
            LinkStage::Live => self.on_live_packet(now, link, packet, out),
            LinkStage::AwaitsEpoch
            | LinkStage::AwaitsSync { .. }
            | LinkStage::ReadsLog { .. }
            | LinkStage::SendsSnapshot { .. } => Err(unexpected(&packet, "nothing while the learner has to wait")),
        };
        if let Err(fault) = result {
            self.drop_link(link, fault, out);
        }
    }

    pub fn on_closed(&mut self, link: LinkId, out: &mut Vec<Effect>) {
        self.remove(link, out);
    }

    pub fn on_epoch_saved(&mut self, now: Mono, file: EpochFile, epoch: i64, history: &History, out: &mut Vec<Effect>) {
        match (self.stage, file) {
            (Stage::Over, _) => {}
            (Stage::SavesAccepted, EpochFile::Accepted) => {
                assert!(epoch == self.epoch, "epoch {epoch} was saved instead of {}", self.epoch);
                self.epochs.accepted = epoch;
                self.stage = Stage::AwaitsEpochAcks;
                self.deadline = Some(now + self.init_limit_ms());
                for link in self.links_in(|stage| stage == LinkStage::AwaitsEpoch) {
                    self.tell_epoch(now, link, out);
                }
                self.count_epoch_acks(now, history, out);
            }
            (_, EpochFile::Current) if self.epochs.current < epoch => {
                assert!(epoch == self.epoch, "epoch {epoch} was saved instead of {}", self.epoch);
                self.epochs.current = epoch;
                self.new_leader_acks.insert(self.rules.me);
                self.count_new_leader_acks(now, out);
            }
            (stage, file) => panic!("{} was saved while the leader {stage:?}", file.name()),
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

    /// The snapshot of `zxid` stands on the link: what is behind it follows.
    pub fn on_snapshot_sent(&mut self, now: Mono, link: LinkId, zxid: Zxid, history: &History, out: &mut Vec<Effect>) {
        let Some(learner) = self.links.get(&link) else { return };
        if !matches!(learner.stage, LinkStage::SendsSnapshot { .. }) {
            return;
        }
        assert!(zxid <= self.committed, "a snapshot of {zxid}, but only {} is committed", self.committed);
        if zxid < history.first_behind() {
            self.read_log(link, zxid, Before::Snapshot, history, out);
        } else {
            self.forward(now, link, zxid, history, out);
        }
    }

    /// The learner takes what it is sent. How long that takes is a matter of how much it is; only then does the time
    /// begin in which it must have dealt with it.
    pub fn on_progress(&mut self, now: Mono, link: LinkId) {
        let deadline = Some(now + self.init_limit_ms());
        if let Some(link) = self.links.get_mut(&link).filter(|link| link.stage == LinkStage::AwaitsAck) {
            link.deadline = deadline;
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
        let LinkStage::ReadsLog { behind, after, .. } = learner.stage else { return };
        let read = read.unwrap_or_default();
        let plan = history.plan_from_disk(&read, behind, self.committed);
        match (plan, after) {
            (Plan::Diff { zxid, .. }, _) => {
                if after == Before::Nothing {
                    out.push(send(link, Packet::Diff { zxid }));
                }
                for entry in read.iter().filter(|entry| entry.zxid > behind) {
                    out.extend([proposal(entry), commit(entry)].map(|packet| send(link, packet)));
                }
                self.forward(now, link, history.first_behind(), history, out);
            }
            (_, Before::Nothing) => self.snapshot(link, history, out),
            (_, Before::Snapshot) => {
                let fault = Fault::Storage(format!("the log does not go on behind the snapshot of {behind}"));
                self.drop_link(link, fault, out);
            }
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
    fn let_go(&mut self, id: LinkId, out: &mut Vec<Effect>) {
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

    /// An answer to a learner, if it is still there.
    pub fn send(&self, link: LinkId, packet: Packet, out: &mut Vec<Effect>) {
        if self.links.get(&link).is_some_and(|link| link.stage == LinkStage::Live) {
            out.push(send(link, packet));
        }
    }

    pub fn on_time(&mut self, now: Mono, out: &mut Vec<Effect>) {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            let doing = match self.stage {
                Stage::Discovers => "waiting for the epochs of a quorum",
                Stage::SavesAccepted => "saving acceptedEpoch",
                Stage::AwaitsEpochAcks => "waiting for a quorum to acknowledge the epoch",
                _ => "waiting for a quorum to acknowledge NEWLEADER",
            };
            self.fail(Fault::Silence { doing, ms: self.init_limit_ms() }, out);
            return;
        }
        let silent: Vec<LinkId> =
            self.links.iter().filter(|(_, l)| l.deadline.is_some_and(|d| now >= d)).map(|(id, _)| *id).collect();
        for link in silent {
            let learner = &self.links[&link];
            let ticks = match learner.stage {
                LinkStage::Live => self.rules.sync_limit_ticks,
                _ => self.rules.init_limit_ticks,
            };
            let fault = Fault::Silence { doing: learner.stage.doing(), ms: ticks * self.rules.tick_ms };
            self.drop_link(link, fault, out);
        }
        if self.next_half_tick.is_some_and(|half_tick| now >= half_tick) {
            self.on_half_tick(now, out);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the packet, and where it goes")]
    fn on_info(
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
        let init_limit_ms = self.init_limit_ms();
        let learner = self.link(link);
        let differs = info.mark.is_some_and(|mark| mark.differs);
        learner.learner =
            Some(Who { server, kind, votes: counts, is_old, level: info.mark.map(|mark| mark.level), differs });
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

    fn choose_epoch(&mut self, out: &mut Vec<Effect>) {
        if self.epoch > LAST_EPOCH {
            self.fail(Fault::Protocol(format!("epoch {} was accepted, and none is left", self.epoch - 1)), out);
        } else if self.rules.membership.is_quorum(&self.told) {
            self.stage = Stage::SavesAccepted;
            out.push(Effect::SaveEpoch { file: EpochFile::Accepted, epoch: self.epoch });
        }
    }

    fn tell_epoch(&mut self, now: Mono, link: LinkId, out: &mut Vec<Effect>) {
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

    fn on_ack_epoch(
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

    fn count_epoch_acks(&mut self, now: Mono, history: &History, out: &mut Vec<Effect>) {
        if self.stage == Stage::AwaitsEpochAcks && self.rules.membership.is_quorum(&self.epoch_acks) {
            self.stage = Stage::Synchronizes;
            self.deadline = Some(now + self.init_limit_ms());
            out.push(Effect::SaveEpoch { file: EpochFile::Current, epoch: self.epoch });
            self.begin_syncs(now, history, out);
        }
    }

    /// Brings everybody who waits for it to the own history, if the time has come.
    fn begin_syncs(&mut self, now: Mono, history: &History, out: &mut Vec<Effect>) {
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
            (Plan::Snap, _) => return self.snapshot(link, history, out),
            _ if in_window > self.rules.max_diff_bytes => return self.snapshot(link, history, out),
            (Plan::FromDisk { .. }, _) if !self.rules.sync_from_log => return self.snapshot(link, history, out),
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
        // With the one that the learner's log ends with: it proves that the two logs are one.
        out.push(Effect::ReadLog { link, after: Zxid(behind.0 - 1), upto });
    }

    fn snapshot(&mut self, link: LinkId, history: &History, out: &mut Vec<Effect>) {
        // An attempt by way of the log has failed if there was one.
        self.set_sync(link, None);
        if let Err(fault) = self.throttle(link, Sync::Snap) {
            return self.drop_link(link, fault, out);
        }
        self.set_sync(link, Some(Sync::Snap));
        self.sync_counts.snaps += 1;
        // What is applied is somewhere in the window.
        self.link(link).enter(LinkStage::SendsSnapshot { pinned: history.first_behind() }, None);
        out.push(Effect::SendSnapshot { link });
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
            out.extend([proposal(entry), commit(entry)].map(|packet| send(link, packet)));
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

    fn on_new_leader_ack(&mut self, now: Mono, link: LinkId, out: &mut Vec<Effect>) {
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

    fn count_new_leader_acks(&mut self, now: Mono, out: &mut Vec<Effect>) {
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

    fn up_to_date(&mut self, now: Mono, link: LinkId, out: &mut Vec<Effect>) {
        let deadline = Some(now + self.sync_limit_ms());
        self.link(link).enter(LinkStage::Live, deadline);
        out.push(send(link, Packet::UpToDate));
        self.let_go(link, out);
    }

    fn on_live_packet(&mut self, now: Mono, id: LinkId, packet: Packet, out: &mut Vec<Effect>) -> Result<(), Fault> {
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
    fn on_ack(&mut self, id: LinkId, zxid: Zxid, out: &mut Vec<Effect>) {
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
    fn commit(&mut self, out: &mut Vec<Effect>) {
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
                if link.is_cumulative(level) && entry.zxid < agreed && !is_asked_for {
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

    /// Every half tick a PING, every tick a look at who is there.
    fn on_half_tick(&mut self, now: Mono, out: &mut Vec<Effect>) {
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

    fn is_synced(&self, link: &Link) -> bool {
        link.learner.is_some() && self.tick() <= link.synced_until
    }

    fn tick(&self) -> i64 {
        self.half_ticks / 2
    }

    fn set_sync(&mut self, link: LinkId, sync: Option<Sync>) {
        let before = std::mem::replace(&mut self.link(link).sync, sync);
        for kind in [before, sync].into_iter().flatten() {
            let now = self.syncs(kind) as i64;
            match kind {
                Sync::Snap => self.sync_counts.snaps_at_once.add(now),
                Sync::Diff => self.sync_counts.diffs_at_once.add(now),
            }
        }
    }

    fn syncs(&self, kind: Sync) -> usize {
        self.links.values().filter(|link| link.sync == Some(kind)).count()
    }

    /// Whether one more may be synced this way. Whoever may vote is not kept waiting.
    fn throttle(&self, link: LinkId, kind: Sync) -> Result<(), Fault> {
        let max = match kind {
            Sync::Diff => self.rules.max_concurrent_diff_syncs,
            Sync::Snap => self.rules.max_concurrent_snap_syncs,
        };
        if self.who(link).kind == Role::Observer && self.syncs(kind) >= max {
            return Err(Fault::Protocol(format!("too many concurrent syncs: {max} are allowed")));
        }
        Ok(())
    }

    fn init_limit_ms(&self) -> i64 {
        self.rules.init_limit_ticks * self.rules.tick_ms
    }

    fn sync_limit_ms(&self) -> i64 {
        self.rules.sync_limit_ticks * self.rules.tick_ms
    }

    fn half_tick_ms(&self) -> i64 {
        (self.rules.tick_ms / 2).max(1)
    }

    fn links_in(&self, is_meant: impl Fn(LinkStage) -> bool) -> Vec<LinkId> {
        self.links.iter().filter(|(_, link)| is_meant(link.stage)).map(|(id, _)| *id).collect()
    }

    fn link(&mut self, id: LinkId) -> &mut Link {
        self.links.get_mut(&id).expect("a link that was just looked up")
    }

    fn who(&self, id: LinkId) -> Who {
        self.links[&id].learner.expect("a learner that has said who it is")
    }

    fn drop_link(&mut self, link: LinkId, why: Fault, out: &mut Vec<Effect>) {
        out.push(Effect::Close { link, why });
        self.remove(link, out);
    }

    fn remove(&mut self, link: LinkId, out: &mut Vec<Effect>) {
        self.syncs.retain(|sync| sync.link != link);
        if self.links.contains_key(&link) {
            self.set_sync(link, None);
        }
        if let Some(who) = self.links.remove(&link).and_then(|link| link.learner) {
            out.push(Effect::FromLearner { link, from: who.server, message: FromLearner::Gone });
        }
    }

    fn fail(&mut self, fault: Fault, out: &mut Vec<Effect>) {
        self.stage = Stage::Over;
        self.deadline = None;
        self.next_half_tick = None;
        self.outstanding.clear();
        self.syncs.clear();
        for link in std::mem::take(&mut self.links).into_keys() {
            out.push(Effect::Close { link, why: fault.clone() });
        }
        out.push(Effect::Failed(fault));
    }
}

impl Link {
    fn enter(&mut self, stage: LinkStage, deadline: Option<Mono>) {
        self.stage = stage;
        self.deadline = deadline;
    }

    /// What is live goes out on it.
    fn is_forwarded_to(&self) -> bool {
        matches!(self.stage, LinkStage::AwaitsAck | LinkStage::Acked | LinkStage::Live)
    }

    /// Followers up to 3.9.2 look for a COMMIT's proposal where they keep it no more after NEWLEADER, and give
    /// up the link when they find nothing (ZOOKEEPER-4394).
    fn must_hold_commits(&self) -> bool {
        let is_java = self.learner.is_some_and(|who| who.level.is_none());
        is_java && self.is_follower() && !matches!(self.stage, LinkStage::Live)
    }

    fn held_syncs(&self) -> usize {
        self.held.iter().filter(|held| matches!(held, Held::Synced { .. })).count()
    }

    fn is_follower(&self) -> bool {
        self.learner.is_some_and(|who| who.kind == Role::Participant)
    }

    /// Whether a COMMIT stands for all before it as well, to a leader of this level.
    fn is_cumulative(&self, level: Option<FeatureLevel>) -> bool {
        let theirs = self.learner.and_then(|who| who.level);
        self.is_follower() && FeatureLevel::are_cumulative(theirs, level)
    }
}

impl LinkStage {
    fn doing(self) -> &'static str {
        match self {
            Self::AwaitsInfo => "expecting FOLLOWERINFO or OBSERVERINFO",
            Self::AwaitsEpoch => "waiting for the epochs of a quorum",
            Self::AwaitsAckEpoch => "expecting ACKEPOCH",
            Self::AwaitsSync { .. } => "waiting for a quorum to acknowledge the epoch",
            Self::ReadsLog { .. } => "reading the log",
            Self::SendsSnapshot { .. } => "sending a snapshot",
            Self::AwaitsAck => "expecting the ACK of NEWLEADER",
            Self::Acked => "waiting for a quorum to acknowledge NEWLEADER",
            Self::Live => "leading",
        }
    }
}

impl Timed {
    fn on_proposal(&mut self, zxid: Zxid, now: Mono) {
        match self.oldest {
            None => self.oldest = Some((zxid, now)),
            Some(_) => self.newest = Some((zxid, now)),
        }
    }

    fn on_ack(&mut self, acked: Zxid) {
        if self.oldest.is_some_and(|(zxid, _)| zxid <= acked) {
            self.oldest = self.newest.take().filter(|(zxid, _)| *zxid > acked);
        }
    }
}

fn send(link: LinkId, packet: Packet) -> Effect {
    Effect::Send { link, packet }
}

fn proposal(entry: &Entry) -> Packet {
    Packet::Proposal { zxid: entry.zxid, txn: entry.txn.clone() }
}

fn commit(entry: &Entry) -> Packet {
    Packet::Commit { zxid: entry.zxid }
}

fn unexpected(packet: &Packet, expected: &'static str) -> Fault {
    Fault::Unexpected { got: packet.name().to_owned(), expected }
}
