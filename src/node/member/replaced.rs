//! What takes the place of a member's log, or of its tree: a log that was cut, an older tree with the log behind it, or a
//! leader's snapshot with what came behind it.
//!
//! What always holds: the storage has done it, in one step that a crash cannot split, before the Node goes by it; nothing
//! that was known of the old log counts for the new one.
//!
//! Java: `Learner.syncWithLeader`, `ZKDatabase.truncateLog`; quorum-protocol 5.5, 5.7; design.md D17.

use super::Role;
use crate::id::Zxid;
use crate::node::Node;
use crate::node::effect::{Effect, PeerEffect};
use crate::node::input::{Now, Truncation};
use crate::tree::digest::DigestCheck;
use crate::tree::{Tree, Unwatched};
use crate::txn::Logged;
use crate::zab::{Entry, Fault};

impl Node {
    pub(super) fn on_truncated(&mut self, now: Now, tree: &Tree, truncation: Truncation) {
        let member = self.member.as_mut().expect("only a member's log is cut");
        member.storing -= 1;
        let last = match truncation {
            Truncation::NoBase => None,
            Truncation::Log { last } => {
                member.history.truncate(last);
                let kept = self.in_flight.partition_point(|in_flight| in_flight.logged.header.zxid <= last);
                self.in_flight.truncate(kept);
                Some(last)
            }
            Truncation::Reloaded { tail } => {
                self.begin_with(tree.last_zxid(), tail);
                Some(self.member().history.last())
            }
        };
        if let Some(last) = last {
            self.last_prepared = last;
            self.durable = last;
            self.committed = self.committed.min(last);
        }
        let Some((role, out)) = self.role() else { return };
        if let Role::Learning(learner) = role {
            learner.on_truncated(now.mono, last, out);
        }
    }

    /// The Store has another tree, and this is the log behind it: nothing of the old one counts.
    fn begin_with(&mut self, base: Zxid, tail: Vec<Entry>) {
        self.stats.digest_mismatches += self.digests.mismatches();
        self.digests = DigestCheck::default();
        self.committed = base;
        self.last_prepared = base;
        self.load_tail(&tail);
        let member = self.member();
        member.diverged = false;
        member.history.reset(base);
        tail.into_iter().for_each(|entry| member.history.push(entry));
    }

    pub(super) fn on_installed(&mut self, now: Now, tree: &Tree, last: Zxid) {
        let rest = std::mem::take(&mut self.member().installing);
        self.begin_with(tree.last_zxid(), rest);
        let durable = self.durable;
        let member = self.member();
        member.storing -= 1;
        member.give_room(durable);
        assert!(member.history.last() == last, "{last} was installed last instead of {}", member.history.last());
        if let Role::Learning(learner) = &mut member.role {
            learner.on_installed(now.mono, last, &mut member.out);
        }
    }

    pub(super) fn install(
        &mut self,
        now: Now,
        upto: Zxid,
        entries: Vec<Entry>,
        rest: Vec<Entry>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(mut tree) = self.member().received.take() else {
            return self.end_role(now, Fault::Protocol("something came in place of the snapshot".to_owned()), effects);
        };
        for entry in entries {
            match Logged::read(entry.txn) {
                Ok(logged) => drop(tree.apply(&logged.header, &logged.txn, &mut Unwatched)),
                Err(error) => {
                    let what = format!("the proposal {} does not decode: {error}", entry.zxid);
                    return self.end_role(now, Fault::Protocol(what), effects);
                }
            }
        }
        tree.set_last_zxid(upto);
        if let Some(error) = rest.iter().find_map(|entry| Logged::read(entry.txn.clone()).err()) {
            let what = format!("a proposal behind the snapshot does not decode: {error}");
            return self.end_role(now, Fault::Protocol(what), effects);
        }
        let member = self.member();
        member.installing = rest.clone();
        // Whatever becomes of the link.
        member.refilling = false;
        self.store(now, PeerEffect::Install { tree, rest }, effects);
    }
}
