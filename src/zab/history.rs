//! The recent transactions of the own log, in memory, and how a learner is brought to them.
//!
//! A learner that was away for a moment lacks a few transactions, or has a few that nobody else has. Sending
//! it the whole tree for that would take minutes where milliseconds do, so the newest part of the log stays at
//! hand, across all roles: whoever leads next needs it at once.
//!
//! What always holds: zxids ascend, within an epoch without a hole; `first_behind` is where the log stood
//! before the first entry, so a learner that stands there can be served too.
//!
//! Java: `ZKDatabase.committedLog`, `LearnerHandler.syncFollower`; quorum-protocol 5.6. What differs: the
//! window holds what is not committed too, and a plan looks at the committed part alone.

use std::collections::VecDeque;

use super::Entry;
use crate::id::Zxid;

/// The window.
#[derive(Clone, Debug)]
pub struct History {
    base: Zxid,
    entries: VecDeque<Entry>,
    /// Of the transactions in `entries`.
    bytes: usize,
}

/// What is kept at hand of what everybody here has, whatever the number: a learner that lacks more is served by the log.
pub const WINDOW_BYTES: usize = 16 << 20;

/// How a learner gets to the leader's committed history.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Plan {
    /// Its log is a prefix: DIFF with `zxid`, then everything behind `behind`.
    Diff { zxid: Zxid, behind: Zxid },
    /// It shall take back what stands behind `target`, and then gets everything behind that.
    Trunc { target: Zxid },
    /// Nothing that it has is of use.
    Snap,
    /// The window does not reach back to it; the log on disk might. The transactions behind `after`, up to
    /// `upto`, decide ([`History::plan_from_disk`]). The learner's own last is meant to be among them.
    FromDisk { after: Zxid, upto: Zxid },
}

impl History {
    /// An empty window of a log that ends with `base`.
    pub fn new(base: Zxid) -> Self {
        Self { base, entries: VecDeque::new(), bytes: 0 }
    }

    pub fn push(&mut self, entry: Entry) {
        let last = self.last();
        assert!(entry.zxid > last && entry.zxid.follows(last), "the log has a hole: {} behind {last}", entry.zxid);
        self.bytes += entry.txn.len();
        self.entries.push_back(entry);
    }

    /// The end of the log.
    pub fn last(&self) -> Zxid {
        self.entries.back().map_or(self.base, |entry| entry.zxid)
    }

    /// The zxid behind which everything is at hand.
    pub fn first_behind(&self) -> Zxid {
        self.base
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn contains(&self, zxid: Zxid) -> bool {
        self.entries.binary_search_by_key(&zxid, |entry| entry.zxid).is_ok()
    }

    pub fn entries_behind(&self, after: Zxid) -> impl Iterator<Item = &Entry> {
        self.entries.range(self.position_behind(after)..)
    }

    /// How much there is behind `after`.
    pub fn bytes_behind(&self, after: Zxid) -> usize {
        self.entries_behind(after).map(|entry| entry.txn.len()).sum()
    }

    /// The log was cut behind `target`.
    pub fn truncate(&mut self, target: Zxid) {
        let kept = self.position_behind(target);
        self.bytes -= self.entries.range(kept..).map(|entry| entry.txn.len()).sum::<usize>();
        self.entries.truncate(kept);
        if target < self.base {
            self.base = target;
        }
    }

    /// The log was replaced by one that ends with `base`.
    pub fn reset(&mut self, base: Zxid) {
        *self = Self::new(base);
    }

    /// Forgets the oldest entries up to `unneeded`, but for the newest `keep` of those, as far as they are no more than
    /// `most` bytes with all that is needed.
    pub fn trim(&mut self, unneeded: Zxid, keep: usize, most: usize) {
        let mut left = self.position_behind(unneeded);
        while left > keep || left > 0 && self.bytes > most {
            let oldest = self.entries.pop_front().expect("as many are left");
            self.base = oldest.zxid;
            self.bytes -= oldest.txn.len();
            left -= 1;
        }
    }

    /// How a learner whose log ends with `peer` gets to what is committed up to `committed`. `last` is where the
    /// leader stands: `committed`, or its epoch's beginning if nothing of the epoch is committed yet.
    pub fn plan(&self, peer: Zxid, last: Zxid, committed: Zxid) -> Plan {
        assert!(self.base <= committed, "{committed} is committed, but the window begins behind {}", self.base);
        assert!(committed <= self.last(), "{committed} is committed, but the log ends with {}", self.last());
        if peer == last || peer == committed {
            return Plan::Diff { zxid: peer, behind: peer };
        }
        if peer > committed {
            // A transaction is what a log can be cut at. A Java learner that is told to cut at the beginning of
            // an epoch keeps one transaction too many (FileTxnLog.truncate; quorum-protocol 10, H2). And the
            // beginning of an epoch that a peer stands at is in nobody's log.
            let cut = !begins_epoch(peer) && !begins_epoch(committed);
            return if cut { Plan::Trunc { target: committed } } else { Plan::Snap };
        }
        if peer < self.base {
            // A log that begins an epoch without a transaction of it came as a snapshot: whether ours reaches
            // back to it, no record tells.
            if begins_epoch(peer) || peer < Zxid::ZERO {
                return Plan::Snap;
            }
            return Plan::FromDisk { after: Zxid(peer.0 - 1), upto: self.base };
        }
        if peer == self.base {
            return Plan::Diff { zxid: committed, behind: peer };
        }
        let at = self.position_behind(peer);
        let previous = at.checked_sub(1).map_or(self.base, |at| self.entries[at].zxid);
        let next = self.entries[at].zxid;
        if previous == peer || begins_epoch(peer) {
            Plan::Diff { zxid: committed, behind: peer }
        } else if next.epoch() == peer.epoch() && !begins_epoch(previous) {
            Plan::Trunc { target: previous }
        } else {
            // It followed a leader that this history has nothing more of. Java's learners end when they are told
            // to cut across epochs here.
            Plan::Snap
        }
    }

    /// The same, once the log on disk was read as [`Plan::FromDisk`] said. Nothing if it does not lead from the
    /// peer to the window without a gap: then there is a snapshot.
    pub fn plan_from_disk(&self, read: &[Entry], peer: Zxid, committed: Zxid) -> Plan {
        let begins = read.first().is_some_and(|entry| entry.zxid == peer);
        let without_hole =
            read.windows(2).all(|pair| pair[1].zxid > pair[0].zxid && pair[1].zxid.follows(pair[0].zxid));
        let reaches = read.last().is_some_and(|entry| entry.zxid == self.base);
        if begins && without_hole && reaches { Plan::Diff { zxid: committed, behind: peer } } else { Plan::Snap }
    }

    /// How many entries stand up to `zxid`.
    fn position_behind(&self, zxid: Zxid) -> usize {
        self.entries.partition_point(|entry| entry.zxid <= zxid)
    }
}

/// Java's leaders stand here before their first transaction, and so do those who got a snapshot from one.
fn begins_epoch(zxid: Zxid) -> bool {
    zxid.counter() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(zxid: Zxid) -> Entry {
        Entry { zxid, txn: zxid.0.to_be_bytes().to_vec().into() }
    }

    fn window(base: Zxid, zxids: &[Zxid]) -> History {
        let mut history = History::new(base);
        zxids.iter().for_each(|zxid| history.push(entry(*zxid)));
        history
    }

    fn zxids(entries: &History) -> Vec<Zxid> {
        entries.entries.iter().map(|entry| entry.zxid).collect()
    }

    /// All logs that the leaders of three epochs can have left, with up to two transactions of each.
    fn logs() -> Vec<Vec<Zxid>> {
        (0..27u32)
            .map(|case| {
                let counts = [case % 3, case / 3 % 3, case / 9];
                (0..3).flat_map(|at| (1..=counts[at as usize]).map(move |n| Zxid::new(at + 1, n))).collect()
            })
            .collect()
    }

    /// quorum-protocol 5.6, row by row, with Java's `min` and `max`; where the window begins is in its range, and
    /// nothing is cut at a zxid without a transaction.
    fn twin(base: Zxid, committed: &[Zxid], peer: Zxid, last: Zxid) -> Plan {
        let max = committed.last().copied().unwrap_or(base);
        let new_epoch = peer.counter() == 0;
        if last == peer {
            return Plan::Diff { zxid: peer, behind: peer };
        }
        if peer > max && !new_epoch && max.counter() != 0 {
            return Plan::Trunc { target: max };
        }
        if base <= peer && peer <= max {
            let mut previous = base;
            for zxid in [base].iter().chain(committed) {
                if *zxid < peer {
                    previous = *zxid;
                } else if *zxid == peer || new_epoch {
                    return Plan::Diff { zxid: max, behind: peer };
                } else if zxid.epoch() == peer.epoch() && previous.counter() != 0 {
                    return Plan::Trunc { target: previous };
                } else {
                    return Plan::Snap;
                }
            }
        }
        if peer < base && !new_epoch && peer.0 > 0 {
            return Plan::FromDisk { after: Zxid(peer.0 - 1), upto: base };
        }
        Plan::Snap
    }

    #[test]
    fn a_plan_is_what_the_table_says() {
        let mut seen = [0; 4];
        let grid: Vec<Zxid> =
            [Zxid(-1), Zxid(0)].into_iter().chain((1..5).flat_map(|e| (0..5).map(move |n| Zxid::new(e, n)))).collect();
        for log in logs() {
            // Cut from the front, the base is a transaction; from a snapshot, the beginning of an epoch as well.
            let mut bases = vec![(Zxid::ZERO, 0)];
            bases.extend(log.iter().enumerate().map(|(at, zxid)| (*zxid, at + 1)));
            bases.extend((1..4).map(|e| Zxid::new(e, 0)).map(|z| (z, log.partition_point(|zxid| *zxid < z))));
            for (base, from) in bases {
                let window = window(base, &log[from..]);
                for upto in from..=log.len() {
                    let committed = &log[from..upto];
                    let max = committed.last().copied().unwrap_or(base);
                    for last in [max, Zxid::new(4, 0)] {
                        for peer in &grid {
                            let plan = window.plan(*peer, last, max);
                            let expected = twin(base, committed, *peer, last);
                            assert_eq!(plan, expected, "base {base}, {committed:?}, last {last}, peer {peer}");
                            seen[match plan {
                                Plan::Diff { .. } => 0,
                                Plan::Trunc { .. } => 1,
                                Plan::Snap => 2,
                                Plan::FromDisk { .. } => 3,
                            }] += 1;
                        }
                    }
                }
            }
        }
        assert!(seen.iter().all(|times| *times > 1000), "{seen:?}");
    }

    /// SyncPlanExact: whatever a leader of an earlier epoch may have left behind in a learner's log, the plan
    /// makes it the leader's committed history.
    #[test]
    fn a_plan_leads_to_the_leaders_history() {
        let mut seen = [0; 3];
        for log in logs() {
            for upto in 0..=log.len() {
                let committed = &log[..upto];
                let max = committed.last().copied().unwrap_or(Zxid::ZERO);
                for from in 0..=upto {
                    let base = from.checked_sub(1).map_or(Zxid::ZERO, |at| log[at]);
                    let window = window(base, &log[from..]);
                    for peer in peers(&log) {
                        let last = peer.last().copied().unwrap_or(Zxid::ZERO);
                        let plan = match window.plan(last, max, max) {
                            Plan::FromDisk { after, upto } => {
                                let read: Vec<Entry> =
                                    log.iter().filter(|z| **z > after && **z <= upto).map(|z| entry(*z)).collect();
                                window.plan_from_disk(&read, last, max)
                            }
                            plan => plan,
                        };
                        let (kept, behind) = match plan {
                            Plan::Diff { behind, .. } => (Zxid(i64::MAX), behind),
                            Plan::Trunc { target } => (target, target),
                            Plan::Snap => {
                                seen[2] += 1;
                                continue;
                            }
                            Plan::FromDisk { .. } => panic!("from the disk, twice"),
                        };
                        seen[usize::from(kept == behind)] += 1;
                        let mut result: Vec<Zxid> = peer.iter().copied().filter(|zxid| *zxid <= kept).collect();
                        result.extend(committed.iter().filter(|zxid| **zxid > behind));
                        assert_eq!(result, committed, "{peer:?} by {plan:?}");
                    }
                }
            }
        }
        assert!(seen.iter().all(|times| *times > 100), "{seen:?}");
    }

    /// The logs that a learner can have when the log of the leader is this: a leader proposes only once a quorum
    /// has its history, so whoever has a transaction of an epoch has what all later leaders have from before.
    fn peers(log: &[Zxid]) -> Vec<Vec<Zxid>> {
        let mut peers = Vec::new();
        for kept in 0..=log.len() {
            peers.push(log[..kept].to_vec());
            for epoch in 1..=4 {
                let own = log[..kept].iter().filter(|zxid| zxid.epoch() == epoch).count() as u32;
                let established = log[..kept].iter().all(|zxid| zxid.epoch() <= epoch)
                    && log[kept..].iter().all(|zxid| zxid.epoch() > epoch);
                if established {
                    let more = |n| (1..=n).map(|n| Zxid::new(epoch, own + n));
                    peers.extend((1..=2).map(|n| log[..kept].iter().copied().chain(more(n)).collect()));
                }
            }
        }
        peers
    }

    #[test]
    fn a_log_that_does_not_lead_to_the_window_is_of_no_use() {
        let history = window(Zxid::new(1, 5), &[Zxid::new(1, 6)]);
        let committed = Zxid::new(1, 6);
        let read = |counters: &[u32]| counters.iter().map(|n| entry(Zxid::new(1, *n))).collect::<Vec<_>>();
        let plan = |counters: &[u32]| history.plan_from_disk(&read(counters), Zxid::new(1, 3), committed);
        assert_eq!(plan(&[3, 4, 5]), Plan::Diff { zxid: committed, behind: Zxid::new(1, 3) });
        for wrong in [&[][..], &[4, 5], &[3, 5], &[3, 4], &[3, 4, 5, 6], &[2, 3, 4, 5]] {
            assert_eq!(plan(wrong), Plan::Snap, "{wrong:?}");
        }
    }

    #[test]
    fn the_window_is_of_so_many_bytes_at_most() {
        let all: Vec<Zxid> = (1..=6).map(|n| Zxid::new(1, n)).collect();
        let trimmed = |unneeded, keep, most| {
            let mut window = window(Zxid::ZERO, &all);
            window.trim(Zxid::new(1, unneeded), keep, most);
            assert_eq!(window.bytes, 8 * window.len());
            (window.first_behind().counter(), window.len())
        };
        assert_eq!(trimmed(6, 4, 48), (2, 4));
        assert_eq!(trimmed(6, 4, 24), (3, 3));
        assert_eq!(trimmed(6, 4, 0), (6, 0));
        assert_eq!(trimmed(2, 4, 0), (2, 4), "the others are needed");
        let mut cut = window(Zxid::ZERO, &all);
        cut.truncate(all[1]);
        assert_eq!((cut.bytes, cut.len()), (16, 2));
    }

    #[test]
    fn the_window_moves_with_the_log() {
        let all: Vec<Zxid> = (1..=6).map(|n| Zxid::new(1, n)).collect();
        for upto in 0..=7 {
            for keep in 0..=7 {
                let mut trimmed = window(Zxid::ZERO, &all);
                trimmed.trim(Zxid::new(1, upto), keep as usize, usize::MAX);
                let dropped = (upto.min(6) as usize).saturating_sub(keep as usize);
                assert_eq!(zxids(&trimmed), all[dropped..]);
                assert_eq!(trimmed.first_behind(), dropped.checked_sub(1).map_or(Zxid::ZERO, |at| all[at]));

                let mut cut = trimmed.clone();
                let target = Zxid::new(1, keep);
                cut.truncate(target);
                let left: Vec<Zxid> = all[dropped..].iter().copied().filter(|zxid| *zxid <= target).collect();
                assert_eq!(zxids(&cut), left);
                assert!(cut.last() <= target && cut.first_behind() <= target);
                assert_eq!(cut.contains(target), left.contains(&target));
            }
        }
    }

    #[test]
    #[should_panic(expected = "the log has a hole")]
    fn a_hole_is_refused() {
        window(Zxid::new(1, 1), &[Zxid::new(1, 3)]);
    }
}
