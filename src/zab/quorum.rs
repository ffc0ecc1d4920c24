//! What a quorum has acknowledged.
//!
//! A learner's log takes transactions in their order, so an acknowledgement of one is an acknowledgement of
//! all before it: per server one number is enough, and what is committed is the largest that a quorum has
//! reached. While the members change, a quorum of the old and one of the new membership are needed.
//!
//! Java: `SyncedLearnerTracker`, one per proposal; quorum-protocol 1.4, 6.4.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::{Membership, QuorumRule, Role};
use crate::id::{ServerId, Zxid};

#[derive(Clone, Debug)]
pub struct AckSet {
    /// Never empty.
    memberships: Vec<Arc<Membership>>,
    /// Of participants of any membership, and of no one else.
    acked: BTreeMap<ServerId, Zxid>,
}

impl AckSet {
    pub fn new(memberships: Vec<Arc<Membership>>) -> Self {
        assert!(!memberships.is_empty(), "without a membership everything would be committed");
        Self { memberships, acked: BTreeMap::new() }
    }

    /// Takes an acknowledgement; of a server without a vote it changes nothing, nor does an old one.
    pub fn record(&mut self, server: ServerId, zxid: Zxid) {
        if self.memberships.iter().any(|membership| votes(membership, server)) {
            let acked = self.acked.entry(server).or_insert(zxid);
            *acked = (*acked).max(zxid);
        }
    }

    /// What this server has acknowledged is true no longer.
    pub fn forget(&mut self, server: ServerId) {
        self.acked.remove(&server);
    }

    /// What this server has acknowledged.
    pub fn acked(&self, server: ServerId) -> Option<Zxid> {
        self.acked.get(&server).copied()
    }

    /// The largest zxid that a quorum of each membership has acknowledged.
    pub fn agreed(&self) -> Option<Zxid> {
        self.memberships.iter().map(|membership| self.agreed_by(membership)).min().flatten()
    }

    fn agreed_by(&self, membership: &Membership) -> Option<Zxid> {
        match membership.rule {
            QuorumRule::Majority => {
                let mut acked: Vec<Option<Zxid>> =
                    membership.participants().map(|member| self.acked.get(&member.id).copied()).collect();
                acked.sort_unstable_by(|a, b| b.cmp(a));
                acked.get(acked.len() / 2).copied().flatten()
            }
            QuorumRule::Hierarchical { .. } => {
                let zxids: BTreeSet<Zxid> = self.acked.values().copied().collect();
                zxids.into_iter().rev().find(|zxid| {
                    let reached = self.acked.iter().filter(|(_, acked)| *acked >= zxid);
                    membership.is_quorum(&reached.map(|(server, _)| *server).collect())
                })
            }
        }
    }
}

/// Whether the server's word counts.
pub fn votes(membership: &Membership, server: ServerId) -> bool {
    membership.members.get(&server).is_some_and(|member| member.role == Role::Participant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{MultiAddress, parse_properties};

    fn membership(text: &str) -> Arc<Membership> {
        let properties = parse_properties(text.as_bytes()).unwrap();
        Arc::new(Membership::parse(&properties, MultiAddress::Refused).unwrap())
    }

    /// What a zxid needs, by its definition: a quorum that has it, in every membership.
    fn twin(memberships: &[Arc<Membership>], acked: &[Option<i64>]) -> Option<Zxid> {
        (0..=3).rev().map(Zxid).find(|zxid| {
            let have: BTreeSet<i64> =
                (0..acked.len()).filter(|at| acked[*at] >= Some(zxid.0)).map(|at| at as i64 + 1).collect();
            memberships.iter().all(|membership| membership.is_quorum(&have))
        })
    }

    #[test]
    fn what_is_agreed_is_what_counting_says() {
        let two = "server.1=a:1:2\nserver.2=b:1:2\n";
        let three = "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\nserver.4=d:1:2:observer\n";
        let four = "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\nserver.4=d:1:2\n";
        let weighed = format!("{four}group.1=1:2\ngroup.2=3:4\nweight.1=2\nweight.4=0\n");
        let [one, two, three, four, weighed] = ["server.1=a:1:2\n", two, three, four, &weighed].map(membership);
        let cases = [vec![one], vec![two], vec![three.clone()], vec![four.clone()], vec![weighed], vec![three, four]];
        let mut agreed = 0;
        for memberships in cases {
            // Each of five servers, one of them unknown to all, has acknowledged nothing or one of three zxids.
            for case in 0..4usize.pow(5) {
                let acked: Vec<Option<i64>> =
                    (0..5).map(|at| (case / 4usize.pow(at) % 4).checked_sub(1).map(|zxid| zxid as i64)).collect();
                let mut set = AckSet::new(memberships.clone());
                for (at, zxid) in acked.iter().enumerate() {
                    // An older word behind a newer one changes nothing.
                    for word in [*zxid, zxid.map(|_| 0)].into_iter().flatten() {
                        set.record(at as i64 + 1, Zxid(word));
                    }
                }
                assert_eq!(set.agreed(), twin(&memberships, &acked), "{memberships:?} {acked:?}");
                agreed += usize::from(set.agreed().is_some());
            }
        }
        assert!(agreed > 1000, "{agreed}");
    }

    #[test]
    fn what_is_forgotten_counts_no_longer() {
        let mut set = AckSet::new(vec![membership("server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\n")]);
        set.record(1, Zxid(5));
        set.record(2, Zxid(4));
        assert_eq!(set.agreed(), Some(Zxid(4)));
        set.forget(2);
        assert_eq!(set.agreed(), None);
    }
}
