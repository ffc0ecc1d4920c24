//! Votes: which of two is better, and which of them count together.

use crate::config::Membership;
use crate::id::{ServerId, Zxid};
use crate::planted::{self, Bug};

/// What a server is doing. The numbers are those of the wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PeerState {
    Looking = 0,
    Following = 1,
    Leading = 2,
    Observing = 3,
}

impl PeerState {
    pub fn from_wire(ordinal: i32) -> Option<Self> {
        [Self::Looking, Self::Following, Self::Leading, Self::Observing].into_iter().find(|s| *s as i32 == ordinal)
    }
}

/// Whom a server wants to lead, and the history that speaks for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Vote {
    pub leader: ServerId,
    /// The last transaction in the leader's log.
    pub zxid: Zxid,
    /// The election in which it was cast. Java's electionEpoch.
    pub round: i64,
    /// The last epoch in which the leader took part; once an epoch is established, that one.
    pub peer_epoch: i64,
}

impl Vote {
    /// Whether a server that stands by `other` changes its mind for this one. The epoch counts before the zxid:
    /// a log of an old epoch may be long and yet never have been committed.
    ///
    /// Java: `FastLeaderElection.totalOrderPredicate`.
    pub fn beats(&self, other: &Self, membership: &Membership) -> bool {
        if planted::is(Bug::VoteByIdAlone) {
            return self.leader > other.leader;
        }
        membership.weight(self.leader) != 0
            && (self.peer_epoch, self.zxid, self.leader) > (other.peer_epoch, other.zxid, other.leader)
    }
}

/// A vote, and what the one who cast it was doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ballot {
    pub vote: Vote,
    pub state: PeerState,
    /// Of the notification's format. 0 for all that are counted within a round.
    pub version: i32,
}

impl Ballot {
    /// Whether two ballots are for the same thing.
    ///
    /// Within a round all of the vote must be the same. Servers that are through with theirs may have come to
    /// the same leader in different rounds and with different ideas of its zxid. Before 3.4.6 (version 0) the
    /// epoch of a vote was not raised when the leader's was established, so across that line only the leader counts.
    ///
    /// Java: `Vote.equals`.
    pub fn counts_with(&self, other: &Self) -> bool {
        let (a, b) = (&self.vote, &other.vote);
        if self.state == PeerState::Looking || other.state == PeerState::Looking {
            a == b
        } else if (self.version > 0) != (other.version > 0) {
            a.leader == b.leader
        } else {
            a.leader == b.leader && a.peer_epoch == b.peer_epoch
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::checks::membership;
    use super::*;

    fn vote(leader: i64, zxid: i64, round: i64, peer_epoch: i64) -> Vote {
        Vote { leader, zxid: Zxid(zxid), round, peer_epoch }
    }

    // Check 29.
    #[test]
    fn the_epoch_counts_first_then_the_zxid_then_the_id() {
        let members = membership("server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2");
        // Leader, zxid, peerEpoch of both; whether the first beats the second.
        let table = [
            ((1, 5, 2), (3, 900, 1), true),
            ((3, 900, 1), (1, 5, 2), false),
            ((1, 6, 1), (3, 5, 1), true),
            ((3, 5, 1), (1, 6, 1), false),
            ((3, 5, 1), (2, 5, 1), true),
            ((2, 5, 1), (3, 5, 1), false),
            ((2, 5, 1), (2, 5, 1), false),
            // All are signed: an observer's vote loses to every other, and -1 to an empty log.
            ((1, 0, 0), (i64::MIN, i64::MIN, i64::MIN), true),
            ((1, 0, 0), (3, -1, 0), true),
        ];
        for ((leader, zxid, epoch), (other_leader, other_zxid, other_epoch), expected) in table {
            let (new, old) = (vote(leader, zxid, 1, epoch), vote(other_leader, other_zxid, 9, other_epoch));
            assert_eq!(new.beats(&old, &members), expected, "{new:?} beats {old:?}");
        }
    }

    // Check 35.
    #[test]
    fn a_leader_without_weight_beats_no_one() {
        let text = "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\ngroup.1=1:2:3\nweight.3=0";
        let members = membership(text);
        assert!(!vote(3, 100, 1, 5).beats(&vote(1, 0, 1, 0), &members));
        assert!(vote(2, 0, 1, 0).beats(&vote(1, 0, 1, 0), &members));
        // Nor does one that nobody knows, where weights are given at all.
        assert!(!vote(4, 100, 1, 5).beats(&vote(1, 0, 1, 0), &members));
    }

    #[test]
    fn equality_depends_on_states_and_versions() {
        use PeerState::{Following, Leading, Looking, Observing};
        let base = vote(3, 7, 4, 2);
        let (other_zxid, other_round) = (vote(3, 8, 4, 2), vote(3, 7, 5, 2));
        let (other_epoch, other_leader) = (vote(3, 7, 4, 1), vote(2, 7, 4, 2));
        // State and version of both; then whether a different zxid, round, epoch, leader still counts.
        let table = [
            ((Looking, 0), (Looking, 0), [false, false, false, false]),
            ((Looking, 0), (Following, 2), [false, false, false, false]),
            ((Leading, 2), (Looking, 2), [false, false, false, false]),
            ((Following, 2), (Leading, 2), [true, true, false, false]),
            ((Following, 0), (Leading, 0), [true, true, false, false]),
            ((Following, 1), (Observing, 2), [true, true, false, false]),
            ((Following, 0), (Leading, 2), [true, true, true, false]),
            ((Following, 2), (Leading, 0), [true, true, true, false]),
            ((Following, -1), (Leading, 0), [true, true, false, false]),
        ];
        for ((state, version), (other_state, other_version), expected) in table {
            let ballot = Ballot { vote: base, state, version };
            let others = [other_zxid, other_round, other_epoch, other_leader];
            for (vote, expected) in others.into_iter().zip(expected).chain([(base, true)]) {
                let other = Ballot { vote, state: other_state, version: other_version };
                assert_eq!(ballot.counts_with(&other), expected, "{ballot:?} with {other:?}");
                assert_eq!(other.counts_with(&ballot), expected, "{other:?} with {ballot:?}");
            }
        }
    }
}
