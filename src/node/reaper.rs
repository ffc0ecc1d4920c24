//! When to look for containers and TTL nodes that nobody needs any more, and how fast to remove them.
//!
//! How old a node is, is not read from a wall clock: that may jump, or be another server's than the one that set the
//! node's mtime, and Java has removed living nodes for it (reliability C1). What counts is how long this process has
//! known the node's last change. So no node goes before its time; one may go later, by what had passed of its time when
//! the process began.
//!
//! Java: `ContainerManager`; data-model 6.

use std::collections::VecDeque;

use jute::Text;

use super::input::Now;
use crate::id::Zxid;
use crate::planted::{self, Bug};
use crate::session::Mono;
use crate::tree::{NodeRef, Tree};

#[derive(Clone, Copy, Debug)]
pub struct ReaperRules {
    /// `znode.container.checkIntervalMs`.
    pub interval_ms: i64,
    /// `znode.container.maxPerMinute`.
    pub max_per_minute: i64,
    /// `znode.container.maxNeverUsedIntervalMs`; 0 keeps containers that never had a child.
    pub max_never_used_ms: i64,
}

/// A node to remove, if it is as it was seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Candidate {
    pub path: Text,
    pub mzxid: Zxid,
}

#[derive(Debug)]
pub struct Reaper {
    rules: ReaperRules,
    next_look: Mono,
    next_removal: Mono,
    candidates: VecDeque<Candidate>,
    known: Known,
}

impl Reaper {
    pub fn new(rules: ReaperRules, now: Mono, tree: &Tree) -> Self {
        let mut known = Known::default();
        known.note(tree.last_zxid(), now);
        Self { rules, next_look: now + rules.interval_ms, next_removal: now, candidates: VecDeque::new(), known }
    }

    /// When [`Self::on_time`] is due. A server that does not order transactions looks, so that it knows how old nodes
    /// are when it does.
    pub fn next_deadline(&self) -> Mono {
        if self.candidates.is_empty() { self.next_look } else { self.next_removal }
    }

    /// What to remove now, if this server `orders` transactions. Whether a node is still as it was seen is checked when
    /// its removal is prepared.
    pub fn on_time(&mut self, now: Now, tree: &Tree, orders: bool) -> Vec<Candidate> {
        let Now { mono: now, wall_ms } = now;
        self.known.note_if_older(tree.last_zxid(), now, self.rules.interval_ms / NOTES);
        if !orders {
            self.candidates.clear();
        }
        if now >= self.next_look && self.candidates.is_empty() {
            self.next_look = now + self.rules.interval_ms;
            self.known.note(tree.last_zxid(), now);
            if orders {
                self.candidates = self.look(now, wall_ms, tree).collect();
                self.next_removal = now;
            }
        }
        let gap = 60_000 / self.rules.max_per_minute.max(1);
        let mut due = Vec::new();
        while self.next_removal <= now {
            let Some(candidate) = self.candidates.pop_front() else { break };
            due.push(candidate);
            self.next_removal += gap;
        }
        due
    }

    fn look<'a>(&'a self, now: Mono, wall_ms: i64, tree: &'a Tree) -> impl Iterator<Item = Candidate> + 'a {
        let is_older = move |node: NodeRef<'_>, ms: i64| match planted::is(Bug::AgesByWall) {
            true => wall_ms - node.persisted().mtime > ms,
            false => self.known.is_older(Zxid(node.persisted().mzxid), now, ms),
        };
        let max_never_used = self.rules.max_never_used_ms;
        let containers = tree.containers().filter(move |node| {
            node.persisted().cversion > 0 || max_never_used != 0 && is_older(*node, max_never_used)
        });
        let outlived = tree.ttl_nodes().filter(move |node| is_older(*node, node.ttl_ms()));
        let empty = containers.chain(outlived).filter(|node| node.child_count() == 0);
        empty.map(|node| Candidate { path: Text::from(node.path()), mzxid: Zxid(node.persisted().mzxid) })
    }
}

/// Notes between two looks.
const NOTES: i64 = 16;
/// More are thinned out: then nodes with a long time go a little later.
const MOST_NOTES: usize = 4096;

/// Up to which transaction the tree had come at which times: what stands in it with a change of then is at least so old.
#[derive(Debug, Default)]
struct Known(VecDeque<(Zxid, Mono)>);

impl Known {
    fn note(&mut self, zxid: Zxid, now: Mono) {
        if self.0.back().is_some_and(|(last, _)| *last >= zxid) {
            return;
        }
        self.0.push_back((zxid, now));
        if self.0.len() > MOST_NOTES {
            let mut place = 0;
            self.0.retain(|_| {
                place += 1;
                place > MOST_NOTES / 2 || place % 2 == 0
            });
        }
    }

    fn note_if_older(&mut self, zxid: Zxid, now: Mono, ms: i64) {
        if self.0.back().is_none_or(|(_, at)| now - at >= ms) {
            self.note(zxid, now);
        }
    }

    /// Whether what was changed at `zxid` has been so for more than `ms`.
    fn is_older(&self, zxid: Zxid, now: Mono, ms: i64) -> bool {
        let then = self.0.partition_point(|(_, at)| now - at > ms);
        then > 0 && zxid <= self.0[then - 1].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_older_than_it_is_and_everything_is_at_last() {
        let mut known = Known::default();
        // A change each 7 ms, noted each 10.
        for now in 0..100_000 {
            known.note_if_older(Zxid(now / 7), now, 10);
        }
        assert!(known.0.len() <= MOST_NOTES);
        for changed in (0..90_000).step_by(7 * 131) {
            let zxid = Zxid(changed / 7);
            for ms in [0, 3, 50, 4_000, 60_000] {
                for now in [changed, changed + ms / 2, changed + ms] {
                    assert!(!known.is_older(zxid, now, ms), "{changed} is older than {ms} at {now}");
                }
                assert!(known.is_older(zxid, 200_000, ms), "{changed} is never older than {ms}");
            }
        }
    }

    #[test]
    fn a_new_note_of_an_old_state_changes_nothing() {
        let mut known = Known::default();
        known.note(Zxid(5), 100);
        known.note(Zxid(5), 900);
        known.note(Zxid(3), 950);
        assert!(known.is_older(Zxid(5), 151, 50));
        assert!(!known.is_older(Zxid(6), 10_000, 50), "it has not been seen");
    }
}
