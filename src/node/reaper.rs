//! When to look for containers and TTL nodes that nobody needs any more, and how fast to remove them.
//!
//! Java: `ContainerManager`; data-model 6.

use std::collections::VecDeque;

use jute::Text;

use super::input::Now;
use crate::session::Mono;
use crate::tree::Tree;

#[derive(Clone, Copy, Debug)]
pub struct ReaperRules {
    /// `znode.container.checkIntervalMs`.
    pub interval_ms: i64,
    /// `znode.container.maxPerMinute`.
    pub max_per_minute: i64,
    /// `znode.container.maxNeverUsedIntervalMs`; 0 keeps containers that never had a child.
    pub max_never_used_ms: i64,
}

#[derive(Debug)]
pub struct Reaper {
    rules: ReaperRules,
    next_look: Mono,
    next_removal: Mono,
    candidates: VecDeque<Text>,
}

impl Reaper {
    pub fn new(rules: ReaperRules, now: Mono) -> Self {
        Self { rules, next_look: now + rules.interval_ms, next_removal: now, candidates: VecDeque::new() }
    }

    pub fn next_deadline(&self) -> Mono {
        if self.candidates.is_empty() { self.next_look } else { self.next_removal }
    }

    /// The nodes to remove now. Whether they still may be removed is checked when that is prepared.
    pub fn due(&mut self, now: Now, tree: &Tree) -> Vec<Text> {
        if now.mono >= self.next_look && self.candidates.is_empty() {
            self.next_look = now.mono + self.rules.interval_ms;
            self.candidates = self.look(now.wall_ms, tree).collect();
            self.next_removal = now.mono;
        }
        let gap = 60_000 / self.rules.max_per_minute.max(1);
        let mut due = Vec::new();
        while self.next_removal <= now.mono {
            let Some(path) = self.candidates.pop_front() else { break };
            due.push(path);
            self.next_removal += gap;
        }
        due
    }

    fn look<'a>(&self, wall_ms: i64, tree: &'a Tree) -> impl Iterator<Item = Text> + 'a {
        let max_never_used = self.rules.max_never_used_ms;
        let containers = tree.containers().filter(move |node| {
            let stat = node.persisted();
            let unused = max_never_used != 0 && wall_ms - stat.mtime > max_never_used;
            node.child_count() == 0 && (stat.cversion > 0 || unused)
        });
        let outlived =
            tree.ttl_nodes().filter(move |n| n.child_count() == 0 && wall_ms - n.persisted().mtime > n.ttl_ms());
        containers.chain(outlived).map(|node| Text::from(node.path()))
    }
}
