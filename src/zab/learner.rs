//! A follower or an observer, from the dial to the end of its link.
//!
//! It promises the leader's epoch, is brought to the leader's history, says so, and then logs what the leader
//! proposes and learns what is committed. Each of these words may only go out once it is true on disk: so every
//! step that needs the disk ends in a stage that waits for the disk's answer, and what the leader says in the
//! meantime waits in a queue.
//!
//! What always holds:
//!
//! - Transactions are logged as they come, committed or not, and in no other order than the leader's: one that
//!   does not follow the last is a fault (quorum-protocol 10, H1 and H16).
//! - The ACK of NEWLEADER is the first ACK, and stands for a durable history and, after that, a durable
//!   `currentEpoch`. An ACK of a transaction stands for all before it, and goes out after UPTODATE.
//! - Before UPTODATE nothing is to be applied but what a leader has committed in its own epoch, with all before it. What a
//!   DIFF or a TRUNC left in place is committed by UPTODATE.
//!
//! What ends the link ends the role: an election follows.
//!
//! Java: `Learner`, `Follower`, `Observer`; quorum-protocol 5.3, 5.5, 5.8, 6.3, 6.5, 9.1. Java appends what is
//! not committed only after UPTODATE.

use std::collections::VecDeque;

use bytes::Bytes;

use super::packet::{FeatureLevel, Forwarded, LearnerInfo, Mark, PROTOCOL, Packet, Touched};
use super::{Effect, Entry, Fault, FromLeader, beginning_of, epoch_of};
use crate::config::Role;
use crate::id::{LinkId, ServerId, Zxid};
use crate::planted::{self, Bug};
use crate::session::Mono;
use crate::storage::epoch::{EpochFile, Epochs};

/// How much may wait in memory: behind a snapshot until NEWLEADER, and for the disk. At the bound the link
/// dies.
const WAITING_BYTES: usize = 512 << 20;

#[derive(Clone, Debug)]
pub struct LearnerRules {
    pub me: ServerId,
    pub role: Role,
    pub tick_ms: i64,
    pub init_limit_ticks: i64,
    pub sync_limit_ticks: i64,
    /// How long the dial may take.
    pub connect_limit_ticks: i64,
    /// The version of the member list that is in force here.
    pub config_version: i64,
    pub level: Option<FeatureLevel>,
}

/// What a learner asks its leader for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Want {
    /// Whatever leads from the own log to the leader's.
    Cheapest,
    /// A snapshot, because nothing on disk leads back to where a TRUNC pointed (design.md D17).
    Snapshot,
    /// A snapshot, because the own tree is not what this leader's transactions make of it (design.md D8). If another
    /// learner says the same of its own, the leader may be the one that is wrong, and nobody's tree is replaced.
    Refill,
}

#[derive(Debug)]
pub struct Learner {
    rules: LearnerRules,
    leader: ServerId,
    link: LinkId,
    want: Want,
    epochs: Epochs,
    stage: Stage,
    /// Silence until then is a fault; nothing while the disk is at work.
    deadline: Option<Mono>,
    /// The leader's epoch, once it has said it.
    epoch: i64,
    /// The leader's mark, if it is a zooid.
    leader_level: Option<FeatureLevel>,
    /// The end of the log: of what was appended, or is held behind a snapshot.
    last: Zxid,
    durable: Zxid,
    committed: Zxid,
    /// Proposed and not committed, in order.
    uncommitted: VecDeque<Zxid>,
    /// Logged and to be acknowledged, in order.
    unacknowledged: VecDeque<Zxid>,
    /// The last zxid that this sync brought.
    synced: Option<Zxid>,
    /// After SNAP until it is installed: what came behind the snapshot, and what the log that it replaces ends with.
    held: Option<Held>,
    /// What came while the disk was at work.
    waiting: VecDeque<Packet>,
    waiting_bytes: usize,
    /// When it had told its history, until that is asked for.
    sync_began: Option<Mono>,
    /// Of an observer: what its log had still to hold when that was looked at, and when that was.
    behind: Option<(Zxid, Mono)>,
}

/// A snapshot that is not installed yet.
#[derive(Debug)]
struct Held {
    entries: Vec<Entry>,
    /// The end of the log that goes: what is in it may be committed by this server's word.
    replaced: Zxid,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Dialling,
    AwaitsLeaderInfo,
    SavesAccepted {
        current: i64,
    },
    AwaitsPlan,
    Truncates {
        target: Zxid,
    },
    Synchronizes,
    Installs {
        last: Zxid,
        /// NEWLEADER has come; else more of the history is to come.
        is_whole: bool,
    },
    /// NEWLEADER has come; the log must be durable.
    Flushes,
    SavesCurrent,
    AwaitsUpToDate,
    Serves,
    Over,
}

impl Learner {
    /// Begins with a dial. `last` is the end of the own log, all of which is durable, with no answer of the disk
    /// outstanding; -1 if there is no database.
    #[expect(clippy::too_many_arguments, reason = "what a role begins with")]
    pub fn new(
        rules: LearnerRules,
        now: Mono,
        leader: ServerId,
        link: LinkId,
        epochs: Epochs,
        last: Zxid,
        want: Want,
        out: &mut Vec<Effect>,
    ) -> Self {
        assert!(epochs.accepted >= epochs.current, "{} was never accepted: {epochs:?}", epochs.current);
        out.push(Effect::Dial { link, leader });
        Self {
            deadline: Some(now + rules.connect_limit_ticks * rules.tick_ms),
            rules,
            leader,
            link,
            want,
            epochs,
            stage: Stage::Dialling,
            epoch: epochs.accepted,
            leader_level: None,
            last,
            durable: last,
            committed: last,
            uncommitted: VecDeque::new(),
            unacknowledged: VecDeque::new(),
            synced: None,
            held: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            sync_began: None,
            behind: None,
        }
    }

    pub fn leader(&self) -> ServerId {
        self.leader
    }

    pub fn link(&self) -> LinkId {
        self.link
    }

    /// The leader's epoch; before it has said it, the last one that was accepted.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    pub fn epochs(&self) -> Epochs {
        self.epochs
    }

    /// The end of the log.
    pub fn last(&self) -> Zxid {
        self.last
    }

    pub fn leader_level(&self) -> Option<FeatureLevel> {
        self.leader_level
    }

    /// When the leader began to bring this server to its history, said once: of an attempt that came to an end.
    pub fn take_sync_began(&mut self) -> Option<Mono> {
        self.sync_began.take()
    }

    pub fn is_serving(&self) -> bool {
        self.stage == Stage::Serves
    }

    pub fn next_deadline(&self) -> Option<Mono> {
        self.deadline
    }

    pub fn on_time(&mut self, now: Mono, out: &mut Vec<Effect>) {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            let ms = self.patience_ms();
            self.fail(Fault::Silence { doing: self.stage.doing(), ms }, out);
        }
    }

    /// The dial succeeded.
    pub fn on_connected(&mut self, now: Mono, out: &mut Vec<Effect>) {
        if self.stage != Stage::Dialling {
            return;
        }
        self.enter(now, Stage::AwaitsLeaderInfo);
        let info = LearnerInfo {
            server: Some(self.rules.me),
            protocol: PROTOCOL,
            config_version: self.rules.config_version,
            mark: self.rules.level.map(|level| Mark { level, differs: self.want == Want::Refill }),
        };
        let accepted = self.epochs.accepted;
        self.send(
            match self.rules.role {
                Role::Participant => Packet::FollowerInfo { accepted, info },
                Role::Observer => Packet::ObserverInfo { accepted, info },
            },
            out,
        );
    }

    /// The dial failed, or the link is gone.
    pub fn on_closed(&mut self, out: &mut Vec<Effect>) {
        if self.stage != Stage::Over {
            self.stage = Stage::Over;
            self.deadline = None;
            out.push(Effect::Failed(Fault::Gone));
        }
    }

    /// Some bytes of a snapshot came: the leader is not silent. What stands behind the snapshot is a packet
    /// again.
    pub fn on_progress(&mut self, now: Mono) {
        if !self.stage.waits_for_disk() && self.stage != Stage::Over {
            self.deadline = Some(now + self.patience_ms());
        }
    }

    pub fn on_packet(&mut self, now: Mono, packet: Packet, out: &mut Vec<Effect>) {
        if self.stage == Stage::Over {
            return;
        }
        if self.stage.waits_for_disk() {
            self.waiting_bytes += size(&packet);
            self.waiting.push_back(packet);
            if self.waiting_bytes > WAITING_BYTES {
                self.fail(Fault::Protocol(format!("more than {WAITING_BYTES} bytes wait for the disk")), out);
            }
            return;
        }
        self.on_progress(now);
        if let Err(fault) = self.take(now, packet, out) {
            self.fail(fault, out);
        }
    }

    pub fn on_epoch_saved(&mut self, now: Mono, file: EpochFile, epoch: i64, out: &mut Vec<Effect>) {
        match (self.stage, file) {
            (Stage::SavesAccepted { current }, EpochFile::Accepted) => {
                assert!(epoch == self.epoch, "epoch {epoch} was saved instead of {}", self.epoch);
                self.epochs.accepted = epoch;
                self.acknowledge_epoch(now, Some(current), out);
            }
            (Stage::SavesCurrent, EpochFile::Current) => {
                assert!(epoch == self.epoch, "epoch {epoch} was saved instead of {}", self.epoch);
                self.epochs.current = epoch;
                self.acknowledge_new_leader(now, out);
            }
            (Stage::Over, _) => {}
            (stage, file) => panic!("{} was saved while {}", file.name(), stage.doing()),
        }
        self.resume(now, out);
    }

    /// The log is durable up to `zxid`.
    pub fn on_durable(&mut self, now: Mono, zxid: Zxid, out: &mut Vec<Effect>) {
        if self.stage == Stage::Over {
            return;
        }
        if self.held.is_some() || matches!(self.stage, Stage::Installs { .. }) {
            // The disk says again what it has said, when a file ends: of a log that a snapshot is about to replace.
            return;
        }
        assert!(zxid <= self.last, "{zxid} is durable, but the log ends with {}", self.last);
        self.durable = self.durable.max(zxid);
        match self.stage {
            Stage::Flushes => self.save_current(now, out),
            Stage::Serves => self.acknowledge(out),
            _ => {}
        }
        self.resume(now, out);
    }

    /// The log ends with `last` now; `None`: nothing leads back to the target, and nothing was changed.
    pub fn on_truncated(&mut self, now: Mono, last: Option<Zxid>, out: &mut Vec<Effect>) {
        let Stage::Truncates { target } = self.stage else { return };
        match last {
            // Something between the log's end and the target would be missing for ever.
            Some(last) if last == target => {
                self.begin_sync(now, target);
                self.resume(now, out);
            }
            _ => self.fail(Fault::NoBase(target), out),
        }
    }

    /// The snapshot has replaced tree and log.
    pub fn on_installed(&mut self, now: Mono, last: Zxid, out: &mut Vec<Effect>) {
        let Stage::Installs { last: wanted, is_whole } = self.stage else { return };
        assert!(last == wanted, "the snapshot was installed up to {last} instead of {wanted}");
        self.durable = last;
        if is_whole {
            self.save_current(now, out);
        } else {
            self.enter(now, Stage::Synchronizes);
        }
        self.resume(now, out);
    }

    /// The answer to [`FromLeader::Ping`].
    pub fn on_touched(&mut self, zxid: Zxid, touched: Vec<Touched>, out: &mut Vec<Effect>) {
        if self.is_serving() {
            self.send(Packet::Ping { zxid, touched: Some(touched) }, out);
        }
    }

    /// Forwards a request. Without a serving role there is nobody to ask, and the client's connection is about
    /// to end.
    pub fn request(&mut self, request: Forwarded, out: &mut Vec<Effect>) {
        if self.is_serving() {
            self.send(Packet::Request(request), out);
        }
    }

    /// Asks whether a session lives.
    pub fn revalidate(&mut self, session: i64, timeout_ms: i32, out: &mut Vec<Effect>) {
        if self.is_serving() {
            self.send(Packet::Revalidate { session, timeout_ms }, out);
        }
    }

    fn take(&mut self, now: Mono, packet: Packet, out: &mut Vec<Effect>) -> Result<(), Fault> {
        match self.stage {
            Stage::AwaitsLeaderInfo => match packet {
                Packet::LeaderInfo { epoch, mark } => self.on_leader_info(now, epoch, mark, out),
                other => Err(unexpected(&other, "LEADERINFO")),
            },
            Stage::AwaitsPlan => self.on_plan(now, packet, out),
            Stage::Synchronizes if self.may_install(&packet) => {
                self.waiting_bytes += size(&packet);
                self.waiting.push_front(packet);
                self.install(now, false, out);
                Ok(())
            }
            Stage::Synchronizes => match packet {
                Packet::NewLeader { zxid, config } => self.on_new_leader(now, zxid, config, out),
                Packet::UpToDate => Err(unexpected(&Packet::UpToDate, "NEWLEADER")),
                other => self.on_sync_packet(other, out),
            },
            Stage::AwaitsUpToDate => match packet {
                Packet::UpToDate => {
                    self.on_up_to_date(now, out);
                    Ok(())
                }
                other => self.on_sync_packet(other, out),
            },
            Stage::Serves => self.on_live_packet(now, packet, out),
            Stage::Dialling => Err(unexpected(&packet, "nothing yet")),
            stage => panic!("a packet is looked at while {}", stage.doing()),
        }
    }

    fn on_leader_info(
        &mut self,
        now: Mono,
        epoch: i64,
        mark: Option<Mark>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        let Epochs { accepted, current, .. } = self.epochs;
        if epoch < accepted {
            return Err(Fault::Protocol(format!("the leader's epoch {epoch} is less than accepted epoch {accepted}")));
        }
        self.leader_level = mark.map(|mark| mark.level);
        if self.want == Want::Refill && mark.is_some_and(|mark| mark.differs) {
            self.want = Want::Cheapest;
        }
        self.epoch = epoch;
        if epoch > accepted {
            self.enter(now, Stage::SavesAccepted { current });
            out.push(Effect::SaveEpoch { file: EpochFile::Accepted, epoch });
            if planted::is(Bug::PromiseNotSaved) {
                self.acknowledge_epoch(now, Some(current), out);
            }
        } else {
            // It has acknowledged this epoch before, and must not be counted for it again.
            self.acknowledge_epoch(now, None, out);
        }
        Ok(())
    }

    fn acknowledge_epoch(&mut self, now: Mono, current: Option<i64>, out: &mut Vec<Effect>) {
        self.enter(now, Stage::AwaitsPlan);
        self.sync_began = Some(now);
        let word = match self.want {
            Want::Cheapest => Packet::AckEpoch { last: self.last, current },
            Want::Snapshot | Want::Refill => Packet::AckEpoch { last: Zxid::ZERO, current: None },
        };
        self.send(word, out);
    }

    fn on_plan(&mut self, now: Mono, packet: Packet, out: &mut Vec<Effect>) -> Result<(), Fault> {
        match (packet, self.want) {
            (Packet::Diff { .. }, Want::Cheapest) => self.begin_sync(now, self.last),
            // Behind nothing stands everything.
            (Packet::Diff { .. }, Want::Snapshot | Want::Refill) => self.truncate(now, Zxid::ZERO, out),
            (Packet::Trunc { zxid }, _) if zxid > self.last => {
                return Err(Fault::Protocol(format!("TRUNC to {zxid}, but the log ends with {}", self.last)));
            }
            (Packet::Trunc { zxid }, _) => self.truncate(now, zxid, out),
            (Packet::Snap { zxid }, _) => {
                if epoch_of(zxid) > self.epoch {
                    return Err(Fault::Protocol(format!("SNAP {zxid} in epoch {}", self.epoch)));
                }
                let replaced = self.last;
                self.begin_sync(now, zxid);
                self.held = Some(Held { entries: Vec::new(), replaced });
            }
            (other, _) => return Err(unexpected(&other, "DIFF, TRUNC or SNAP")),
        }
        Ok(())
    }

    fn truncate(&mut self, now: Mono, target: Zxid, out: &mut Vec<Effect>) {
        if target == self.last {
            self.begin_sync(now, target);
        } else {
            self.enter(now, Stage::Truncates { target });
            out.push(Effect::Truncate { target });
        }
    }

    /// The log, or the snapshot in its place, ends with `last`.
    fn begin_sync(&mut self, now: Mono, last: Zxid) {
        self.last = last;
        self.durable = last;
        self.committed = last;
        self.enter(now, Stage::Synchronizes);
    }

    /// What a leader sends behind DIFF, TRUNC or SNAP, up to UPTODATE.
    fn on_sync_packet(&mut self, packet: Packet, out: &mut Vec<Effect>) -> Result<(), Fault> {
        match packet {
            Packet::Proposal { zxid, txn } => self.log(Entry { zxid, txn }, out),
            Packet::Commit { zxid } => self.commit_in_sync(zxid, out),
            Packet::Inform { zxid, txn } => {
                self.log(Entry { zxid, txn }, out)?;
                self.commit_in_sync(zxid, out)
            }
            Packet::CommitAndActivate { zxid, .. } => {
                self.commit(zxid)?;
                Err(reconfigured(zxid))
            }
            Packet::InformAndActivate { zxid, .. } => Err(reconfigured(zxid)),
            // Answered is only what comes after UPTODATE.
            Packet::Ping { .. } | Packet::Sync | Packet::Revalidated { .. } | Packet::Unknown { .. } => Ok(()),
            other => Err(unexpected(&other, "the history, NEWLEADER or UPTODATE")),
        }
    }

    /// Takes a transaction to the log, or to what is held behind a snapshot.
    fn log(&mut self, entry: Entry, out: &mut Vec<Effect>) -> Result<(), Fault> {
        let zxid = entry.zxid;
        if epoch_of(zxid) > self.epoch {
            return Err(Fault::Protocol(format!("got {zxid} in epoch {}", self.epoch)));
        }
        // What a Java leader sends behind a snapshot may begin with what the snapshot holds (quorum-protocol 5.7).
        let overlaps = self.held.is_some() && zxid <= self.last;
        let previous = if overlaps { self.synced } else { Some(self.last) };
        if previous.is_some_and(|previous| zxid <= previous || !zxid.follows(previous)) {
            return Err(Fault::Protocol(format!("got {zxid} behind {}", previous.unwrap_or(self.last))));
        }
        self.synced = Some(zxid);
        self.uncommitted.push_back(zxid);
        if overlaps {
            return Ok(());
        }
        self.last = zxid;
        if let Some(held) = &mut self.held {
            self.waiting_bytes += entry.txn.len();
            held.entries.push(entry);
            if self.waiting_bytes > WAITING_BYTES {
                return Err(Fault::Protocol(format!("more than {WAITING_BYTES} bytes came behind a snapshot")));
            }
        } else {
            if self.rules.role == Role::Participant {
                self.unacknowledged.push_back(zxid);
            }
            out.push(Effect::Append(entry));
        }
        Ok(())
    }

    fn commit(&mut self, zxid: Zxid) -> Result<(), Fault> {
        if self.is_cumulative() && self.uncommitted.back() >= Some(&zxid) {
            while self.uncommitted.pop_front_if(|before| *before < zxid).is_some() {}
        }
        if self.uncommitted.front() != Some(&zxid) {
            let expected = self.uncommitted.front().map_or("none".to_owned(), ToString::to_string);
            return Err(Fault::Protocol(format!("got COMMIT of {zxid} while the next proposal is {expected}")));
        }
        self.uncommitted.pop_front();
        self.committed = self.committed.max(zxid);
        Ok(())
    }

    /// A COMMIT says here that the transaction is in the leader's history, which is committed only by UPTODATE. But what
    /// is of the leader's epoch a quorum has acknowledged, so that it is committed with all before it. However much comes
    /// before UPTODATE, it need not be kept in memory until then.
    /// A Java leader sends what it finds in its log with a COMMIT, too.
    fn commit_in_sync(&mut self, zxid: Zxid, out: &mut Vec<Effect>) -> Result<(), Fault> {
        self.commit(zxid)?;
        let is_final = epoch_of(zxid) == self.epoch || planted::is(Bug::HistoryIsCommitted);
        if is_final && self.held.is_none() && self.leader_level.is_some() {
            out.push(Effect::Committed { zxid: self.committed });
        }
        Ok(())
    }

    /// What must be durable before more is wanted of what brings this server up to date.
    pub fn unwritten(&self) -> Option<Zxid> {
        match self.stage {
            Stage::Installs { last, is_whole: false } => Some(last),
            Stage::Synchronizes if self.held.is_none() && self.durable < self.last => Some(self.last),
            _ => None,
        }
    }

    fn on_new_leader(
        &mut self,
        now: Mono,
        zxid: Zxid,
        config: Option<Bytes>,
        out: &mut Vec<Effect>,
    ) -> Result<(), Fault> {
        if zxid != beginning_of(self.epoch) {
            return Err(Fault::Protocol(format!("got NEWLEADER of {zxid} in epoch {}", self.epoch)));
        }
        if let Some(text) = config
            && version_of(&text).is_some_and(|version| version > self.rules.config_version)
        {
            out.push(Effect::FromLeader(FromLeader::Config { text }));
        }
        // The ACK of NEWLEADER is that of all that is committed.
        self.unacknowledged = match self.rules.role {
            Role::Participant => self.uncommitted.clone(),
            Role::Observer => VecDeque::new(),
        };
        if self.held.is_some() {
            self.install(now, true, out);
        } else {
            self.save_current(now, out);
        }
        Ok(())
    }

    /// Whether the snapshot may take the place of the own log before this packet is looked at, which comes behind it. What
    /// follows goes to the log then and need not be held, however long the leader has to tell. Until snapshot and
    /// followers reach to where the log ends, it may hold what is committed by its word and is in neither of them.
    /// A Java leader's snapshot has effects of what follows it (quorum-protocol 5.7), and is no tree before that.
    fn may_install(&self, packet: &Packet) -> bool {
        // Who has lost its history looks so again after a restart only as long as its disk is empty.
        let reaches = |held: &Held| {
            held.replaced >= Zxid::ZERO && self.last >= held.replaced || planted::is(Bug::InstallsTooEarly)
        };
        self.leader_level.is_some()
            && self.held.as_ref().is_some_and(reaches)
            && !matches!(packet, Packet::NewLeader { .. })
    }

    fn install(&mut self, now: Mono, is_whole: bool, out: &mut Vec<Effect>) {
        let Held { mut entries, .. } = self.held.take().expect("a snapshot has come");
        let upto = self.committed;
        // What is not committed is installed with it: an earlier ACK of some of it may have been counted, and the log
        // that held it goes.
        let rest = entries.split_off(entries.partition_point(|entry| entry.zxid <= upto));
        let freed: usize = entries.iter().chain(&rest).map(|entry| entry.txn.len()).sum();
        self.waiting_bytes = self.waiting_bytes.saturating_sub(freed);
        self.enter(now, Stage::Installs { last: rest.last().map_or(upto, |entry| entry.zxid), is_whole });
        out.push(Effect::Install { upto, entries, rest });
    }

    /// The history is there: once it is durable, `currentEpoch` may say so.
    fn save_current(&mut self, now: Mono, out: &mut Vec<Effect>) {
        if planted::is(Bug::NewLeaderAckEarly) {
            out.push(Effect::SaveEpoch { file: EpochFile::Current, epoch: self.epoch });
            self.enter(now, Stage::AwaitsUpToDate);
            self.send(Packet::Ack { zxid: beginning_of(self.epoch) }, out);
        } else if self.durable < self.last {
            self.enter(now, Stage::Flushes);
        } else if self.epochs.current == self.epoch {
            self.acknowledge_new_leader(now, out);
        } else {
            self.enter(now, Stage::SavesCurrent);
            out.push(Effect::SaveEpoch { file: EpochFile::Current, epoch: self.epoch });
        }
    }

    fn acknowledge_new_leader(&mut self, now: Mono, out: &mut Vec<Effect>) {
        assert!(self.durable == self.last, "{} is not durable at the ACK of NEWLEADER", self.last);
        assert!(self.epochs.current == self.epoch, "currentEpoch is {} at the ACK of NEWLEADER", self.epochs.current);
        self.enter(now, Stage::AwaitsUpToDate);
        self.send(Packet::Ack { zxid: beginning_of(self.epoch) }, out);
    }

    fn on_up_to_date(&mut self, now: Mono, out: &mut Vec<Effect>) {
        self.enter(now, Stage::Serves);
        self.send(Packet::Ack { zxid: beginning_of(self.epoch) }, out);
        out.push(Effect::Serve { epoch: self.epoch, committed: self.committed });
        self.acknowledge(out);
    }

    fn on_live_packet(&mut self, now: Mono, packet: Packet, out: &mut Vec<Effect>) -> Result<(), Fault> {
        match (packet, self.rules.role) {
            (Packet::Proposal { zxid, txn }, Role::Participant) => {
                if epoch_of(zxid) != self.epoch {
                    return Err(Fault::Protocol(format!("got PROPOSAL of {zxid} in epoch {}", self.epoch)));
                }
                self.log(Entry { zxid, txn }, out)
            }
            (Packet::Commit { zxid }, Role::Participant) => {
                self.commit(zxid)?;
                out.push(Effect::Committed { zxid });
                Ok(())
            }
            (Packet::CommitAndActivate { zxid, .. }, Role::Participant) => {
                self.commit(zxid)?;
                out.push(Effect::Committed { zxid });
                Err(reconfigured(zxid))
            }
            (Packet::Inform { zxid, txn }, Role::Observer) => {
                self.log(Entry { zxid, txn }, out)?;
                self.commit(zxid)?;
                out.push(Effect::Committed { zxid });
                Ok(())
            }
            (Packet::InformAndActivate { zxid, txn, .. }, Role::Observer) => {
                self.log(Entry { zxid, txn }, out)?;
                self.commit(zxid)?;
                out.push(Effect::Committed { zxid });
                Err(reconfigured(zxid))
            }
            (Packet::Proposal { .. } | Packet::Commit { .. }, Role::Observer) => Ok(()),
            (Packet::Ping { zxid, .. }, _) => {
                out.push(Effect::FromLeader(FromLeader::Ping { zxid }));
                self.look_at_disk(now)
            }
            (Packet::Sync, _) => {
                out.push(Effect::FromLeader(FromLeader::Synced));
                Ok(())
            }
            (Packet::Revalidated { session, valid }, _) => {
                out.push(Effect::FromLeader(FromLeader::Revalidated { session, valid }));
                Ok(())
            }
            // A second UPTODATE says nothing new.
            (Packet::UpToDate | Packet::Unknown { .. }, _) => Ok(()),
            (other, _) => Err(unexpected(&other, "a packet of the broadcast")),
        }
    }

    /// One ACK for each: a Java leader counts them one by one. For a zooid the last one stands for all.
    fn acknowledge(&mut self, out: &mut Vec<Effect>) {
        let (durable, is_cumulative) = (self.durable, self.is_cumulative());
        let mut last = None;
        while let Some(zxid) =
            self.unacknowledged.pop_front_if(|zxid| *zxid <= durable || planted::is(Bug::AckBeforeDurable))
        {
            if let Some(before) = last.replace(zxid)
                && !is_cumulative
            {
                self.send(Packet::Ack { zxid: before }, out);
            }
        }
        if let Some(zxid) = last {
            self.send(Packet::Ack { zxid }, out);
        }
    }

    fn is_cumulative(&self) -> bool {
        FeatureLevel::CUMULATIVE.is_of_both(self.rules.level, self.leader_level)
    }

    /// The disk has answered: what came in the meantime is looked at.
    fn resume(&mut self, now: Mono, out: &mut Vec<Effect>) {
        while !self.stage.waits_for_disk() && self.stage != Stage::Over {
            let Some(packet) = self.waiting.pop_front() else { return };
            self.waiting_bytes = self.waiting_bytes.saturating_sub(size(&packet));
            if let Err(fault) = self.take(now, packet, out) {
                self.fail(fault, out);
            }
        }
    }

    fn enter(&mut self, now: Mono, stage: Stage) {
        self.stage = stage;
        self.deadline = (!stage.waits_for_disk()).then(|| now + self.patience_ms());
    }

    /// A leader gives up a follower whose ACKs don't come. An observer has none to send: with a disk that hangs it would
    /// show its clients an ever older tree, and keep in memory all that comes.
    fn look_at_disk(&mut self, now: Mono) -> Result<(), Fault> {
        if self.rules.role == Role::Participant || self.durable >= self.last {
            self.behind = None;
            return Ok(());
        }
        let (zxid, since) = match self.behind {
            Some((zxid, since)) if zxid > self.durable => (zxid, since),
            _ => *self.behind.insert((self.last, now)),
        };
        let ms = now - since;
        if ms >= self.patience_ms() { Err(Fault::DiskHangs { zxid, ms }) } else { Ok(()) }
    }

    /// How long the leader may be silent.
    fn patience_ms(&self) -> i64 {
        let ticks = match self.stage {
            Stage::Dialling => self.rules.connect_limit_ticks,
            Stage::AwaitsUpToDate | Stage::Serves => self.rules.sync_limit_ticks,
            _ => self.rules.init_limit_ticks,
        };
        ticks * self.rules.tick_ms
    }

    fn send(&self, packet: Packet, out: &mut Vec<Effect>) {
        out.push(Effect::Send { link: self.link, packet });
    }

    fn fail(&mut self, fault: Fault, out: &mut Vec<Effect>) {
        self.stage = Stage::Over;
        self.deadline = None;
        self.waiting.clear();
        out.push(Effect::Close { link: self.link, why: fault.clone() });
        out.push(Effect::Failed(fault));
    }
}

impl Stage {
    fn waits_for_disk(self) -> bool {
        matches!(
            self,
            Self::SavesAccepted { .. }
                | Self::Truncates { .. }
                | Self::Installs { .. }
                | Self::Flushes
                | Self::SavesCurrent
        )
    }

    fn doing(self) -> &'static str {
        match self {
            Self::Dialling => "dialling the leader",
            Self::AwaitsLeaderInfo => "expecting LEADERINFO",
            Self::SavesAccepted { .. } => "saving acceptedEpoch",
            Self::AwaitsPlan => "expecting DIFF, TRUNC or SNAP",
            Self::Truncates { .. } => "truncating the log",
            Self::Synchronizes => "expecting NEWLEADER",
            Self::Installs { .. } => "installing a snapshot",
            Self::Flushes => "writing the history",
            Self::SavesCurrent => "saving currentEpoch",
            Self::AwaitsUpToDate => "expecting UPTODATE",
            Self::Serves => "following",
            Self::Over => "doing nothing",
        }
    }
}

/// What a packet weighs while it waits.
fn size(packet: &Packet) -> usize {
    let data = match packet {
        Packet::Proposal { txn, .. } | Packet::Inform { txn, .. } | Packet::InformAndActivate { txn, .. } => txn.len(),
        Packet::NewLeader { config, .. } => config.as_ref().map_or(0, Bytes::len),
        _ => 0,
    };
    size_of::<Packet>() + data
}

/// The version that a member list names; it has no other line of that beginning.
fn version_of(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    text.lines().find_map(|line| i64::from_str_radix(line.strip_prefix("version=")?.trim(), 16).ok())
}

fn reconfigured(zxid: Zxid) -> Fault {
    Fault::Reconfigured(format!("those of the reconfiguration {zxid}"))
}

fn unexpected(packet: &Packet, expected: &'static str) -> Fault {
    Fault::Unexpected { got: packet.name().to_owned(), expected }
}
