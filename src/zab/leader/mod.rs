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
//! Here is what a leader knows, and who is asked about what happens: [`discovery`], [`synchronisation`] or
//! [`broadcast`].
//!
//! Java: `Leader`, `LearnerHandler`, `LearnerSyncThrottler`; quorum-protocol 0.3, 5.3-5.8, 6.2-6.8.

mod broadcast;
mod discovery;
mod synchronisation;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

pub use broadcast::Sizes;
use broadcast::{ForwardedSync, Held, Timed};
pub use synchronisation::SyncCounts;
use synchronisation::{Before, From, Sync};

use super::history::History;
use super::packet::{FeatureLevel, Packet};
use super::quorum::AckSet;
use super::{Effect, Entry, Fault, FromLearner, beginning_of};
use crate::config::{Membership, Role};
use crate::id::{LinkId, ServerId, Zxid};
use crate::session::Mono;
use crate::storage::epoch::{EpochFile, Epochs};

/// In `initLimit`s.
const INSTALL_PATIENCE: i64 = 10;

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
    /// What of this epoch a learner may have applied before its ACK came, on whatever link it was told of that.
    told_ahead: BTreeMap<ServerId, Zxid>,
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
    /// It has heard the COMMIT up to here on this link, ahead of its own ACK.
    told: Zxid,
    timed: Timed,
    /// What has its place behind something that can't be said yet: UPTODATE, or the answer to a sync.
    held: VecDeque<Held>,
    /// The PINGs that it has not answered, by the round that each asks for.
    pinged: VecDeque<i64>,
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
    /// A COMMIT may come before its ACK: the two of them are a quorum.
    hears_ahead: bool,
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
    SendsSnapshot,
    /// Takes a part of what stands behind its snapshot, up to this.
    CatchesUp {
        behind: Zxid,
    },
    /// NEWLEADER is sent. From here on live packets go out.
    AwaitsAck,
    /// Holds the history; this server does not serve yet.
    Acked,
    Live,
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

impl Leader {
    /// `last` is the end of the own log, all of which is durable, with no answer of the disk outstanding.
    pub fn new(rules: LeaderRules, now: Mono, epochs: Epochs, last: Zxid, out: &mut Vec<Effect>) -> Self {
        assert!(epochs.accepted >= epochs.current, "{} was never accepted: {epochs:?}", epochs.current);
        let mut leader = Self {
            deadline: Some(now + rules.init_limit_ticks * rules.tick_ms),
            acks: AckSet::new(vec![rules.membership.clone()]),
            told_ahead: BTreeMap::new(),
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

    /// The feature level that everybody has who is linked; `None` if one of them is no zooid.
    pub fn common_level(&self) -> Option<FeatureLevel> {
        let learners = self.links.values().filter_map(|link| link.learner);
        learners.map(|who| who.level).chain([self.rules.level]).min().flatten()
    }

    /// Who the learner is, and up to where its log is known to hold this epoch's transactions.
    pub fn acked(&self, link: LinkId) -> Option<(ServerId, Option<Zxid>)> {
        self.links.get(&link).and_then(|link| Some((link.learner?.server, link.acked)))
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
            told: Zxid::ZERO,
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
            | LinkStage::SendsSnapshot
            | LinkStage::CatchesUp { .. } => Err(unexpected(&packet, "nothing while the learner has to wait")),
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
            let fault = Fault::Silence { doing: learner.stage.doing(), ms: self.patience_ms(learner.stage) };
            self.drop_link(link, fault, out);
        }
        if self.next_half_tick.is_some_and(|half_tick| now >= half_tick) {
            self.on_half_tick(now, out);
        }
    }

    fn init_limit_ms(&self) -> i64 {
        self.rules.init_limit_ticks * self.rules.tick_ms
    }

    /// How long a learner may be silent.
    fn patience_ms(&self, stage: LinkStage) -> i64 {
        match stage {
            LinkStage::Live => self.sync_limit_ms(),
            // It takes nothing while its tree goes to its disk, which is no reason to begin anew.
            LinkStage::CatchesUp { .. } => INSTALL_PATIENCE * self.init_limit_ms(),
            _ => self.init_limit_ms(),
        }
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
        self.is_follower() && FeatureLevel::CUMULATIVE.is_of_both(theirs, level)
    }

    /// What its requests have to show comes in its place.
    fn may_hear_ahead(&self) -> bool {
        self.stage == LinkStage::Live && self.held.is_empty() && self.learner.is_some_and(|who| who.hears_ahead)
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
            Self::SendsSnapshot => "sending a snapshot",
            Self::CatchesUp { .. } => "sending what is behind a snapshot",
            Self::AwaitsAck => "expecting the ACK of NEWLEADER",
            Self::Acked => "waiting for a quorum to acknowledge NEWLEADER",
            Self::Live => "leading",
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
