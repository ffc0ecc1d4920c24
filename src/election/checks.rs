//! What an election does, as stories of one server and as many servers on a bad network. The numbers are those of
//! quorum-protocol 12.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;

pub(super) fn membership(text: &str) -> Membership {
    Membership::parse(&parse_properties(text.as_bytes()).unwrap(), MultiAddress::Refused).unwrap()
}

const THREE: &str = "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2";
const FIVE: &str = "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\nserver.4=d:1:2\nserver.5=e:1:2";
const WITH_OBSERVER: &str = "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\nserver.9=o:1:2:observer";

use PeerState::{Following, Leading, Looking as Looks, Observing};

/// One server, what it hears, and what it says to that, as text.
struct Stand {
    election: Election,
    now: Mono,
}

/// A vote as the stories write it: leader, zxid, round, epoch.
fn vote(leader: i64, zxid: i64, round: i64, peer_epoch: i64) -> Vote {
    Vote { leader, zxid: Zxid(zxid), round, peer_epoch }
}

impl Stand {
    fn new(me: i64, text: &str) -> Self {
        let membership = membership(text);
        let role = membership.members.get(&me).map_or(Role::Participant, |member| member.role);
        Self::with(ElectionRules {
            me,
            role,
            membership: Arc::new(membership),
            min_interval_ms: 200,
            max_interval_ms: 60_000,
        })
    }

    fn with(rules: ElectionRules) -> Self {
        Self { election: Election::new(rules), now: 0 }
    }

    fn look(&mut self, last: i64, current_epoch: i64) -> String {
        let mut out = Vec::new();
        self.election.look(self.now, OwnHistory { last: Zxid(last), current_epoch }, &mut out);
        told(&out)
    }

    fn hear(&mut self, from: i64, state: PeerState, vote: Vote) -> String {
        let config = self.election.config.clone();
        self.hear_bytes(from, wire::write(state, &vote, &config))
    }

    fn hear_bytes(&mut self, from: i64, body: Bytes) -> String {
        let mut out = Vec::new();
        self.election.on_notification(self.now, from, &body, &mut out);
        told(&out)
    }

    fn wait(&mut self, ms: i64) -> String {
        self.now += ms;
        let mut out = Vec::new();
        self.election.on_time(self.now, &mut out);
        told(&out)
    }

    /// Waits for the deadline, and says how long that took.
    fn wait_on(&mut self) -> (i64, String) {
        let ms = self.election.next_deadline().expect("a deadline") - self.now;
        (ms, self.wait(ms))
    }
}

/// Each effect in its order; the same notification to several is written once.
fn told(effects: &[Effect]) -> String {
    let mut lines: Vec<(String, Vec<i64>)> = Vec::new();
    let mut add = |what: String, to: ServerId| match lines.last_mut() {
        Some((last, all)) if *last == what => all.push(to),
        _ => lines.push((what, vec![to])),
    };
    for effect in effects {
        match effect {
            Effect::Send { to, body } => add(shown(body), *to),
            Effect::Resend(all) => all.iter().for_each(|(to, body)| add(format!("again {}", shown(body)), *to)),
            Effect::Decided(vote) => add(format!("decided {}", shown_vote(vote)), 0),
            Effect::NewerConfig { text } => add(format!("newer {}", text.len()), 0),
            Effect::OtherMembers { from, .. } => add("other members".to_owned(), *from),
        }
    }
    let line = |(what, to): (String, Vec<i64>)| match to[..] {
        [0] => what,
        _ => format!("{what} to {to:?}"),
    };
    lines.into_iter().map(line).collect::<Vec<_>>().join(", ")
}

fn shown(body: &Bytes) -> String {
    let heard = Notification::parse(body).unwrap();
    format!("{:?} {}", heard.state.unwrap(), shown_vote(&heard.vote))
}

fn shown_vote(vote: &Vote) -> String {
    let short = |n: i64| if n == i64::MIN { "none".to_owned() } else { n.to_string() };
    format!("{}:{} r{} e{}", short(vote.leader), short(vote.zxid.0), vote.round, short(vote.peer_epoch))
}

// quorum-protocol 11.1, as server 1 saw it: 3 is there, 2 comes while the vote ages. (Java starts the wait anew for
// the vote of 2 as well; so do we.)
#[test]
fn the_worked_example() {
    let mut one = Stand::new(1, THREE);
    assert_eq!(one.look(0, 0), "Looking 1:0 r1 e0 to [2, 3]");
    one.wait(50);
    assert_eq!(one.hear(3, Looks, vote(3, 0, 1, 0)), "Looking 3:0 r1 e0 to [2, 3]");
    one.wait(117);
    assert_eq!(one.hear(2, Looks, vote(2, 0, 1, 0)), "Looking 3:0 r1 e0 to [2]", "it beats nothing");
    one.wait(8);
    assert_eq!(one.hear(2, Looks, vote(3, 0, 1, 0)), "");
    assert_eq!(one.wait_on(), (200, "decided 3:0 r1 e0".to_owned()));
    assert_eq!(one.now, 375);
    assert_eq!((one.election.state(), one.election.next_deadline()), (Following, None));

    let mut three = Stand::new(3, THREE);
    three.look(0, 0);
    assert_eq!(three.hear(1, Looks, vote(1, 0, 1, 0)), "Looking 3:0 r1 e0 to [1]", "1 does not beat 3");
    assert_eq!(three.hear(1, Looks, vote(3, 0, 1, 0)), "");
    assert_eq!(three.wait_on(), (200, "decided 3:0 r1 e0".to_owned()));
    assert_eq!(three.election.state(), Leading);

    // Once epoch 1 is established, the vote shows it, and whoever comes later is told.
    three.election.on_epoch(1);
    assert_eq!(three.hear(2, Looks, vote(2, 0, 1, 0)), "Leading 3:0 r1 e1 to [2]");
    assert_eq!(three.hear(2, Following, vote(3, 0, 1, 0)), "", "who has found its leader needs no answer");
}

// Check 29.
#[test]
fn the_larger_epoch_wins_over_zxid_and_id() {
    let mut three = Stand::new(3, THREE);
    assert_eq!(three.look(900, 1), "Looking 3:900 r1 e1 to [1, 2]");
    assert_eq!(three.hear(1, Looks, vote(1, 5, 1, 2)), "Looking 1:5 r1 e2 to [1, 2]");
    assert_eq!(three.wait_on(), (200, "decided 1:5 r1 e2".to_owned()));
    assert_eq!(three.election.state(), Following);

    let mut two = Stand::new(2, THREE);
    two.look(7, 1);
    assert_eq!(two.hear(1, Looks, vote(1, 7, 1, 1)), "Looking 2:7 r1 e1 to [1]");
    assert_eq!(two.hear(3, Looks, vote(3, 7, 1, 1)), "Looking 3:7 r1 e1 to [1, 3]");
}

// Check 30.
#[test]
fn a_better_vote_within_the_wait_starts_it_anew() {
    let mut two = Stand::new(2, FIVE);
    two.look(0, 0);
    two.hear(1, Looks, vote(2, 0, 1, 0));
    two.hear(3, Looks, vote(2, 0, 1, 0));
    assert_eq!(two.wait(199), "");
    assert_eq!(two.hear(4, Looks, vote(4, 0, 1, 0)), "Looking 4:0 r1 e0 to [1, 3, 4, 5]");
    assert_eq!(two.wait(150), "", "one and itself are no quorum of five");
    two.hear(1, Looks, vote(4, 0, 1, 0));
    assert_eq!(two.wait_on(), (200, "decided 4:0 r1 e0".to_owned()));
}

// Two that lose their leader do not notice at the same moment, and the second hears nothing of what the first says
// while it still follows.
#[test]
fn who_comes_with_a_worse_vote_is_told_ours_once() {
    let mut two = Stand::new(2, THREE);
    two.look(0, 1);
    assert_eq!(two.hear(1, Looks, vote(1, 0, 1, 1)), "Looking 2:0 r1 e1 to [1]");
    assert_eq!(two.hear(1, Looks, vote(1, 0, 1, 1)), "", "it repeats itself");
    assert_eq!(two.hear(1, Looks, vote(2, 0, 1, 1)), "");
    assert_eq!(two.wait_on(), (200, "decided 2:0 r1 e1".to_owned()));
}

#[test]
fn a_quorum_that_falls_apart_within_the_wait_decides_nothing() {
    // 1 votes for 3, dies, and comes back without a memory of that: round 1 again, and its own vote.
    let mut three = Stand::new(3, THREE);
    three.look(0, 0);
    three.hear(1, Looks, vote(3, 0, 1, 0));
    assert_eq!(three.wait(100), "");
    assert_eq!(three.hear(1, Looks, vote(1, 0, 1, 0)), "Looking 3:0 r1 e0 to [1]");
    assert_eq!(three.wait(199), "");
    assert_eq!(three.wait_on(), (1, "again Looking 3:0 r1 e0 to [1, 2]".to_owned()));
}

#[test]
fn talking_without_end_does_not_keep_others_from_deciding() {
    let mut three = Stand::new(3, THREE);
    three.look(0, 0);
    three.hear(1, Looks, vote(3, 0, 1, 0));
    let mut decided = String::new();
    while decided.is_empty() {
        three.hear(2, Looks, vote(2, 0, 1, 0));
        decided = three.wait(50);
    }
    assert_eq!((three.now, &decided[..]), (FINALIZE_MAX_MS, "decided 3:0 r1 e0"));
}

// Check 31.
#[test]
fn who_comes_late_waits_for_the_leaders_own_word_and_a_quorum() {
    for round in [1, 7] {
        // The own history would beat the advertised vote. It does not matter any more.
        let mut three = Stand::new(3, THREE);
        three.look(0x1_0000_0004, 1);
        assert_eq!(three.hear(1, Following, vote(2, 0, round, 1)), "");
        assert_eq!(three.hear(2, Leading, vote(2, 0, round, 1)), format!("decided 2:0 r{round} e1"));
        assert_eq!((three.election.state(), three.election.round()), (Following, round));

        let mut five = Stand::new(5, FIVE);
        five.look(0, 0);
        for from in [1, 3, 4] {
            assert_eq!(five.hear(from, Following, vote(2, 0, round, 1)), "", "2 itself may be dead");
        }
        assert_eq!(five.hear(2, Following, vote(2, 0, round, 1)), "", "it does not lead");
        assert_eq!(five.hear(2, Leading, vote(2, 0, round, 1)), format!("decided 2:0 r{round} e1"));
    }
    let mut five = Stand::new(5, FIVE);
    five.look(0, 0);
    five.hear(2, Leading, vote(2, 0, 4, 1));
    assert_eq!(five.hear(1, Following, vote(2, 0, 4, 1)), "", "two are no quorum of five");
    // Whoever came to the leader in another round, or with another zxid, counts all the same; not in another epoch.
    assert_eq!(five.hear(3, Following, vote(2, 99, 3, 0)), "");
    assert_eq!(five.hear(3, Following, vote(2, 99, 3, 1)), "decided 2:99 r3 e1");
}

#[test]
fn votes_of_the_same_round_count_whatever_their_epoch_says() {
    // 1 has seen the new epoch established, 2 not yet.
    let mut three = Stand::new(3, THREE);
    three.look(0, 0);
    three.hear(1, Following, vote(2, 0, 1, 1));
    assert_eq!(three.hear(2, Leading, vote(2, 0, 1, 0)), "decided 2:0 r1 e0");
}

#[test]
fn a_leader_that_others_still_follow_leads_again_in_the_same_round_alone() {
    let mut two = Stand::new(2, THREE);
    two.look(7, 1);
    two.hear(1, Following, vote(2, 0, 1, 1));
    assert_eq!(two.hear(3, Following, vote(2, 0, 1, 1)), "decided 2:0 r1 e1");
    assert_eq!(two.election.state(), Leading);

    let mut two = Stand::new(2, THREE);
    two.look(7, 1);
    two.hear(1, Following, vote(2, 0, 5, 1));
    assert_eq!(two.hear(3, Following, vote(2, 0, 5, 1)), "");
    assert_eq!(two.election.state(), Looks);
}

// Check 32.
#[test]
fn a_higher_round_is_joined_and_a_lower_one_answered() {
    let mut one = Stand::new(1, THREE);
    one.look(9, 1);
    one.hear(2, Looks, vote(1, 9, 1, 1));
    // The votes of round 1 are void, and the own history is weighed again.
    assert_eq!(one.hear(3, Looks, vote(3, 5, 3, 1)), "Looking 1:9 r3 e1 to [2, 3]");
    assert_eq!(one.wait(199), "", "two of round 1 and one of round 3 are no quorum of round 3");
    assert_eq!(one.hear(3, Looks, vote(1, 9, 3, 1)), "");
    assert_eq!(one.hear(2, Looks, vote(2, 9, 2, 1)), "Looking 1:9 r3 e1 to [2]");
    assert_eq!(one.wait_on(), (200, "decided 1:9 r3 e1".to_owned()));
    assert_eq!(one.look(9, 1), "Looking 1:9 r4 e1 to [2, 3]", "the next one has the next number");

    let mut one = Stand::new(1, THREE);
    one.look(9, 1);
    assert_eq!(one.hear(3, Looks, vote(3, 9, 3, 1)), "Looking 3:9 r3 e1 to [2, 3]");
}

#[test]
fn what_was_counted_in_one_round_does_not_count_in_the_next() {
    // Within a round a settled vote counts by its leader alone: 4's, of an epoch that is over, must be gone.
    let mut one = Stand::new(1, FIVE);
    one.look(0, 0);
    one.hear(4, Following, vote(2, 0, 1, 0));
    one.hear(5, Looks, vote(5, 0, 3, 0));
    one.hear(3, Following, vote(2, 0, 3, 9));
    assert_eq!(one.hear(2, Leading, vote(2, 0, 3, 9)), "");
    assert_eq!(one.hear(4, Following, vote(2, 0, 1, 9)), "decided 2:0 r1 e9");
}

// Check 33.
#[test]
fn the_silence_between_repetitions_doubles_up_to_a_minute() {
    let mut one = Stand::new(1, THREE);
    one.look(0, 0);
    let again = "again Looking 1:0 r1 e0 to [2, 3]";
    for ms in [200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000] {
        assert_eq!(one.wait_on(), (ms, again.to_owned()));
    }
    // A notification shows that somebody is there, and the silence begins anew, as long as before.
    one.wait(59_000);
    one.hear(2, Looks, vote(1, 0, 0, 0));
    assert_eq!(one.wait_on(), (60_000, again.to_owned()));
    one.look(0, 0);
    assert_eq!(one.wait_on(), (200, "again Looking 1:0 r2 e0 to [2, 3]".to_owned()));
}

// Check 34.
#[test]
fn a_server_without_history_elects_no_one_and_is_not_elected() {
    let mut one = Stand::new(1, THREE);
    assert_eq!(one.look(-1, 0), "Looking 1:-1 r1 e0 to [2, 3]");
    assert_eq!(one.hear(3, Looks, vote(3, 5, 1, 1)), "");
    assert_eq!(one.hear(2, Looks, vote(3, 5, 1, 1)), "");
    assert_eq!(one.wait_on(), (200, "again Looking 1:-1 r1 e0 to [2, 3]".to_owned()));

    let mut three = Stand::new(3, THREE);
    three.look(0, 0);
    assert_eq!(three.hear(1, Looks, vote(1, -1, 8, 9)), "");
    assert_eq!((three.election.round(), three.election.proposal().unwrap().leader), (1, 3));

    // An established leader it may join.
    one.hear(2, Following, vote(3, 5, 4, 2));
    assert_eq!(one.hear(3, Leading, vote(3, 5, 4, 2)), "decided 3:5 r4 e2");

    // But it does not lead for those who still follow what it was.
    let mut two = Stand::new(2, THREE);
    two.look(-1, 0);
    two.hear(1, Following, vote(2, 5, 1, 1));
    assert_eq!(two.hear(3, Following, vote(2, 5, 1, 1)), "");
    assert_eq!(two.election.state(), Looks);
}

// Check 35.
#[test]
fn a_server_without_weight_is_not_elected_and_adds_nothing() {
    let text = format!("{FIVE}\ngroup.1=1:2:3:4:5\nweight.4=0\nweight.5=0");
    let mut one = Stand::new(1, &text);
    one.look(0, 0);
    assert_eq!(one.hear(5, Looks, vote(5, 900, 1, 5)), "");
    one.hear(5, Looks, vote(1, 0, 1, 0));
    one.hear(4, Looks, vote(1, 0, 1, 0));
    assert_eq!(one.wait(199), "");
    assert_eq!(one.wait(1), "again Looking 1:0 r1 e0 to [2, 3, 4, 5]", "three of five, but a third of the weight");
    one.hear(2, Looks, vote(1, 0, 1, 0));
    assert_eq!(one.wait_on(), (200, "decided 1:0 r1 e0".to_owned()));
}

#[test]
fn groups_decide_by_their_majorities() {
    let text = "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\nserver.4=d:1:2\nserver.5=e:1:2\nserver.6=f:1:2\n\
                group.1=1:2:3\ngroup.2=4:5:6";
    let mut one = Stand::new(1, text);
    one.look(9, 0);
    for from in [2, 3, 4] {
        one.hear(from, Looks, vote(1, 9, 1, 0));
    }
    assert_eq!(one.wait(200), "again Looking 1:9 r1 e0 to [2, 3, 4, 5, 6]", "four of six, but one group of two");
    one.hear(5, Looks, vote(1, 9, 1, 0));
    assert_eq!(one.wait_on(), (200, "decided 1:9 r1 e0".to_owned()));
}

#[test]
fn an_observer_asks_and_observes() {
    let mut nine = Stand::new(9, WITH_OBSERVER);
    assert_eq!(nine.look(0x1_0000_0001, 1), "Looking none:none r1 enone to [1, 2, 3]");
    nine.hear(1, Following, vote(2, 0, 6, 1));
    assert_eq!(nine.hear(2, Leading, vote(2, 0, 6, 1)), "decided 2:0 r6 e1");
    assert_eq!(nine.election.state(), Observing);

    // It may also watch an election.
    nine.look(0x1_0000_0001, 1);
    assert_eq!(nine.hear(1, Looks, vote(2, 0, 7, 1)), "Looking 2:0 r7 e1 to [1, 2, 3]");
    nine.hear(2, Looks, vote(2, 0, 7, 1));
    assert_eq!(nine.wait_on(), (200, "decided 2:0 r7 e1".to_owned()));
    assert_eq!(nine.election.state(), Observing);
}

#[test]
fn who_has_no_vote_is_answered_at_once_and_not_counted() {
    for stranger in [9, 77] {
        let mut one = Stand::new(1, WITH_OBSERVER);
        one.look(5, 1);
        one.hear(2, Looks, vote(2, 6, 4, 1));
        // The vote is the one before the election, the round that of the election.
        assert_eq!(one.hear(stranger, Looks, vote(3, 99, 9, 9)), format!("Looking 1:5 r4 e1 to [{stranger}]"));
        assert_eq!(one.election.proposal(), Some(vote(2, 6, 4, 1)));
        assert_eq!(one.wait_on(), (200, "decided 2:6 r4 e1".to_owned()));
        one.election.on_epoch(2);
        assert_eq!(one.hear(stranger, Looks, vote(3, 99, 9, 9)), format!("Following 2:6 r4 e2 to [{stranger}]"));
    }
}

#[test]
fn who_has_no_vote_says_nothing_but_its_own() {
    let mut nine = Stand::new(9, WITH_OBSERVER);
    nine.look(5, 1);
    nine.look(5, 1);
    assert_eq!(nine.hear(1, Looks, vote(1, 5, 1, 1)), "", "a lower round is its own business");
    nine.hear(1, Following, vote(2, 0, 6, 1));
    nine.hear(2, Leading, vote(2, 0, 6, 1));
    assert_eq!(nine.hear(1, Looks, vote(1, 5, 7, 1)), "");
    assert_eq!(nine.hear(77, Looks, vote(1, 5, 7, 1)), "");

    let mut one = Stand::new(1, WITH_OBSERVER);
    one.look(5, 1);
    for state in [Following, Leading, Observing] {
        assert_eq!(one.hear(9, state, vote(2, 0, 6, 1)), "");
    }
}

#[test]
fn a_participant_that_is_in_no_list_follows_without_a_vote() {
    let mut four = Stand::new(4, THREE);
    assert_eq!(four.look(5, 1), "Looking none:5 r1 e1 to [1, 2, 3]");
    four.hear(1, Following, vote(2, 0, 6, 1));
    assert_eq!(four.hear(2, Leading, vote(2, 0, 6, 1)), "decided 2:0 r6 e1");
    assert_eq!(four.election.state(), Following);
}

#[test]
fn a_vote_for_a_stranger_is_passed_over() {
    let mut one = Stand::new(1, WITH_OBSERVER);
    one.look(0, 0);
    assert_eq!(one.hear(2, Looks, vote(77, 99, 1, 9)), "");
    assert_eq!(one.hear(2, Looks, vote(9, 99, 1, 9)), "");
    one.hear(2, Following, vote(77, 99, 1, 9));
    assert_eq!(one.hear(3, Leading, vote(77, 99, 1, 9)), "");
    assert_eq!(one.hear(2, Observing, vote(2, 99, 1, 9)), "");
    assert_eq!(one.election.proposal(), Some(vote(1, 0, 1, 0)));
}

// Check 11.
#[test]
fn what_comes_twice_or_late_changes_nothing() {
    let mut one = Stand::new(1, FIVE);
    one.look(0, 0);
    for _ in 0..2 {
        one.hear(2, Looks, vote(5, 0, 1, 0));
        one.hear(3, Looks, vote(5, 0, 1, 0));
    }
    // A settled vote of the same round is a vote too; a late one for itself takes its place, and counts for nobody.
    one.hear(5, Following, vote(4, 0, 1, 0));
    one.hear(5, Looks, vote(5, 0, 1, 0));
    assert_eq!(one.wait_on(), (200, "decided 5:0 r1 e0".to_owned()));
    for _ in 0..2 {
        assert_eq!(one.hear(5, Looks, vote(5, 0, 1, 0)), "Following 5:0 r1 e0 to [5]");
        assert_eq!(one.hear(5, Leading, vote(5, 0, 1, 0)), "");
    }
    assert_eq!((one.election.state(), one.election.current_vote()), (Following, vote(5, 0, 1, 0)));
}

#[test]
fn what_makes_no_sense_is_dropped() {
    let mut one = Stand::new(1, THREE);
    one.look(0, 0);
    let before = format!("{:?}", one.election);
    let good = wire::write(Looks, &vote(3, 9, 9, 9), b"");
    for size in (0..28).chain(29..40) {
        assert_eq!(one.hear_bytes(3, good.slice(..size)), "");
    }
    let mut unknown_state = good.to_vec();
    unknown_state[3] = 4;
    assert_eq!(one.hear_bytes(1, good), "", "nobody else has the own id");
    assert_eq!(format!("{:?}", one.election), before);
    // Java takes a voter's silence as broken even by what it then drops; that is no matter.
    assert_eq!(one.hear_bytes(3, unknown_state.clone().into()), "");
    assert_eq!(one.election.proposal(), Some(vote(1, 0, 1, 0)));
    assert_eq!(one.hear_bytes(77, unknown_state.into()), "Looking 1:0 r1 e0 to [77]");
}

#[test]
fn numbers_at_their_ends_do_no_harm() {
    let ends = [i64::MIN, -1, 0, 1, i64::MAX];
    for from in [2, 77] {
        for leader in [i64::MIN, 1, 2, i64::MAX] {
            for state in [Looks, Following, Leading, Observing] {
                for round in ends {
                    let mut one = Stand::new(1, THREE);
                    one.look(0, 0);
                    one.hear(from, state, vote(leader, i64::MAX, round, i64::MIN));
                    one.hear(from, state, vote(leader, i64::MIN, round, i64::MAX));
                    one.look(0, 0);
                    one.wait(1_000_000);
                }
            }
        }
    }
}

#[test]
fn one_server_elects_itself() {
    let mut one = Stand::new(1, "server.1=a:1:2");
    assert_eq!(one.look(5, 1), "");
    assert_eq!(one.wait_on(), (200, "decided 1:5 r1 e1".to_owned()));
    assert_eq!(one.election.state(), Leading);
}

fn with_config(text: &str) -> Bytes {
    wire::write(Looks, &vote(3, 0, 1, 0), text.as_bytes())
}

#[test]
fn a_newer_version_of_the_same_members_is_taken_over() {
    let mut one = Stand::new(1, THREE);
    one.look(0, 0);
    let newer = one.election.membership().to_string().replace("version=0", "version=100000002");
    let told = one.hear_bytes(2, with_config(&newer));
    assert_eq!(told, format!("newer {}, Looking 3:0 r1 e0 to [2, 3]", newer.len()));
    assert_eq!(one.election.membership().version, 0x1_0000_0002);
    assert_eq!(one.election.config, newer);
    assert_eq!(one.hear_bytes(2, with_config(&newer)), "", "once");

    // Not while there is a leader, who will tell itself.
    one.wait(200);
    let newest = newer.replace("version=100000002", "version=100000003");
    one.hear_bytes(2, with_config(&newest));
    assert_eq!(one.election.membership().version, 0x1_0000_0002);
}

#[test]
fn who_has_a_newer_list_of_other_members_is_not_counted() {
    let mut one = Stand::new(1, THREE);
    one.look(0, 0);
    let text = format!("{FIVE}\nversion=5");
    assert_eq!(one.hear_bytes(3, with_config(&text)), "other members to [3]");
    assert_eq!(one.hear_bytes(3, with_config(&text)), "", "said once");
    assert_eq!(one.election.proposal(), Some(vote(1, 0, 1, 0)));
    // An older list, an empty one, and none at all do not keep a vote from counting.
    for text in ["", "server.1=a:1:2\nversion=0", "nonsense=1\nversion=9", "server.1=a\nversion=9", "version=x", "\\u"]
    {
        let mut one = Stand::new(1, THREE);
        one.look(0, 0);
        assert_eq!(one.hear_bytes(3, with_config(text)), "Looking 3:0 r1 e0 to [2, 3]", "{text}");
    }
}

/// Numbers that look like chance, the same for the same seed (splitmix64).
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> i64 {
        (self.next() % end) as i64
    }
}

enum Event {
    Start(ServerId),
    Notification {
        from: ServerId,
        to: ServerId,
        body: Bytes,
    },
    /// ZAB has had its time: who leads without a quorum, or follows who does not lead, looks again.
    Settled {
        server: ServerId,
        round: i64,
    },
}

/// Servers with random histories on a network that delays, doubles and loses for a while.
struct Crowd {
    seeded: Seeded,
    servers: BTreeMap<ServerId, (Election, OwnHistory)>,
    membership: Arc<Membership>,
    now: Mono,
    events: BTreeMap<(Mono, u64), Event>,
    count: u64,
    /// Of a thousand notifications, until `heals_at`.
    lost: u64,
    max_delay_ms: u64,
    heals_at: Mono,
    /// When the last one arrived or will.
    delivered: BTreeMap<(ServerId, ServerId), Mono>,
    looks: usize,
}

const SETTLE_MS: i64 = 3000;

impl Crowd {
    fn new(seed: u64, lost: u64, max_delay_ms: u64) -> Self {
        let mut seeded = Seeded(seed);
        let members = 3 + seeded.below(4);
        let mut text: String = (1..=members).map(|id| format!("server.{id}=h{id}:1:2\n")).collect();
        if seeded.below(4) == 0 {
            text.push_str("group.1=1:2\n");
            text.push_str(&format!(
                "group.2={}\n",
                (3..=members).map(|id| id.to_string()).collect::<Vec<_>>().join(":")
            ));
            if members > 4 {
                text.push_str("weight.5=0\n");
            }
        }
        text.push_str("server.9=o:1:2:observer\n");
        let membership = Arc::new(membership(&text));
        let mut crowd = Self {
            seeded,
            servers: BTreeMap::new(),
            membership: membership.clone(),
            now: 0,
            events: BTreeMap::new(),
            count: 0,
            lost,
            max_delay_ms,
            heals_at: if lost > 0 { 5000 } else { 0 },
            delivered: BTreeMap::new(),
            looks: 0,
        };
        for member in membership.members.values() {
            let rules = ElectionRules {
                me: member.id,
                role: member.role,
                membership: membership.clone(),
                min_interval_ms: 200,
                max_interval_ms: 60_000,
            };
            let own = OwnHistory {
                last: Zxid::new(crowd.seeded.below(3) as u32, crowd.seeded.below(3) as u32),
                current_epoch: crowd.seeded.below(3),
            };
            crowd.servers.insert(member.id, (Election::new(rules), own));
            let start = if lost > 0 { crowd.seeded.below(3000) } else { 0 };
            crowd.schedule(start, Event::Start(member.id));
        }
        crowd
    }

    fn schedule(&mut self, after: Mono, event: Event) {
        self.count += 1;
        self.events.insert((self.now + after, self.count), event);
    }

    /// Runs to the next event or deadline; false at the end.
    fn step(&mut self) -> bool {
        let deadline = self.servers.values().filter_map(|(election, _)| election.next_deadline()).min();
        let event_at = self.events.keys().next().map(|(at, _)| *at);
        let Some(at) = deadline.into_iter().chain(event_at).min() else { return false };
        assert!(self.count < 100_000, "there is no end of talk");
        assert!(at < 600_000, "the election does not end: {:?}", self.servers);
        self.now = at.max(self.now);
        let mut out = Vec::new();
        if event_at == Some(at) {
            let (_, event) = self.events.pop_first().expect("an event");
            match event {
                Event::Start(server) => self.look(server),
                Event::Notification { from, to, body } => {
                    self.servers.get_mut(&to).expect("a member").0.on_notification(self.now, from, &body, &mut out);
                    self.carry_out(to, out);
                }
                Event::Settled { server, round } => {
                    let election = &self.servers[&server].0;
                    if election.round() == round && election.next_deadline().is_none() && !self.is_settled(server) {
                        self.look(server);
                    }
                }
            }
        } else {
            let due = |(_, (election, _)): &(&ServerId, &(Election, _))| election.next_deadline() == Some(at);
            let server = *self.servers.iter().find(due).expect("whose deadline it is").0;
            self.servers.get_mut(&server).expect("a member").0.on_time(self.now, &mut out);
            self.carry_out(server, out);
        }
        true
    }

    fn look(&mut self, server: ServerId) {
        self.looks += 1;
        let mut out = Vec::new();
        let (election, own) = self.servers.get_mut(&server).expect("a member");
        election.look(self.now, *own, &mut out);
        self.carry_out(server, out);
    }

    fn carry_out(&mut self, server: ServerId, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to, body } => self.send(server, to, body),
                Effect::Resend(all) => all.into_iter().for_each(|(to, body)| self.send(server, to, body)),
                Effect::Decided(vote) => self.on_decided(server, vote),
                other => panic!("{other:?}"),
            }
        }
    }

    fn send(&mut self, from: ServerId, to: ServerId, body: Bytes) {
        let bad = self.now < self.heals_at;
        let copies = if bad && (self.seeded.below(1000) as u64) < self.lost { 0 } else { 1 + self.seeded.below(2) };
        for _ in 0..copies {
            let max_delay = if bad { self.max_delay_ms * 10 } else { self.max_delay_ms };
            let mut delay = self.seeded.below(max_delay + 1);
            if !bad {
                // A connection keeps the order; only a new one may bring something old.
                let last = self.delivered.entry((from, to)).or_default();
                *last = (*last).max(self.now + delay);
                delay = *last - self.now;
            }
            self.schedule(delay, Event::Notification { from, to, body: body.clone() });
        }
    }

    fn on_decided(&mut self, server: ServerId, vote: Vote) {
        let behind = |own: &OwnHistory| {
            let leader = &self.servers[&vote.leader].1;
            (own.current_epoch, own.last) <= (leader.current_epoch, leader.last)
        };
        let not_ahead = self.servers.iter().filter(|(_, (_, own))| behind(own)).map(|(id, _)| *id).collect();
        assert!(self.membership.is_quorum(&not_ahead), "{server} elects {vote:?}, who is behind too many");
        assert_ne!(self.membership.weight(vote.leader), 0);
        let round = self.servers[&server].0.round();
        self.schedule(SETTLE_MS, Event::Settled { server, round });
    }

    fn is_settled(&self, server: ServerId) -> bool {
        let leader = self.servers[&server].0.current_vote().leader;
        let leads = self.servers[&leader].0.state() == Leading;
        let follows = |election: &Election| {
            election.state() != Looks && election.state() != Observing && election.current_vote().leader == leader
        };
        let followers = self.servers.iter().filter(|(_, (e, _))| follows(e)).map(|(id, _)| *id).collect();
        leads && self.membership.is_quorum(&followers)
    }

    /// Runs until nothing more happens, and returns the leader of all.
    fn run(&mut self) -> ServerId {
        while self.step() {}
        let leaders: BTreeSet<ServerId> = self.servers.values().map(|(e, _)| e.current_vote().leader).collect();
        assert_eq!(leaders.len(), 1, "{leaders:?}");
        let leader = *leaders.first().expect("a leader");
        for (id, (election, _)) in &self.servers {
            let expected = match id {
                9 => Observing,
                _ if *id == leader => Leading,
                _ => Following,
            };
            assert_eq!(election.state(), expected, "{id}");
        }
        leader
    }
}

#[test]
fn on_a_good_network_the_best_is_elected_at_the_first_try() {
    for seed in 0..300 {
        let mut crowd = Crowd::new(seed, 0, 20);
        let leader = crowd.run();
        let candidates = crowd.servers.iter().filter(|(id, _)| **id != 9 && crowd.membership.weight(**id) != 0);
        let best = candidates.max_by_key(|(id, (_, own))| (own.current_epoch, own.last, **id)).unwrap();
        assert_eq!(leader, *best.0, "seed {seed}");
        assert_eq!(crowd.looks, crowd.servers.len(), "seed {seed}: somebody had to look twice");
        // Who kept its own vote, or has none, asks again after 200, 600 and 1400 ms.
        assert!(crowd.now < 2000 + SETTLE_MS, "seed {seed}: {}", crowd.now);
    }
}

#[test]
fn on_a_bad_network_the_election_ends_with_one_leader() {
    let mut again = 0;
    for seed in 0..500 {
        let lost = [50, 200, 500, 900][seed as usize % 4];
        let mut crowd = Crowd::new(seed, lost, 60);
        crowd.run();
        again += crowd.looks - crowd.servers.len();
    }
    assert!(again > 0, "the network was not bad enough to matter");
}
