//! What a learner does, packet by packet. Server 2 learns from server 1, whose epoch is 2.

use bytes::Bytes;

use super::super::Effect;
use super::super::learner::{Learner, LearnerRules, Want};
use super::super::packet::{FeatureLevel, Forwarded, Mark, Packet, Touched};
use super::show::{self, commit, inform, proposal, z};
use crate::config::Role;
use crate::id::{LinkId, Zxid};
use crate::session::Mono;
use crate::storage::epoch::{EpochFile, Epochs};

const TICK_MS: i64 = 1000;
const NOTHING: [&str; 0] = [];

struct Bench {
    learner: Learner,
    now: Mono,
    out: Vec<Effect>,
}

impl Bench {
    /// A learner whose epochs are 1, with a log that ends there.
    fn new(role: Role, last: Zxid, want: Want) -> Self {
        let epochs = Epochs { accepted: 1, current: 1, was_raised: false };
        let rules = LearnerRules {
            me: 2,
            role,
            tick_ms: TICK_MS,
            init_limit_ticks: 10,
            sync_limit_ticks: 5,
            connect_limit_ticks: 3,
            config_version: 0,
            level: Some(FeatureLevel::CUMULATIVE),
        };
        let mut out = Vec::new();
        let learner = Learner::new(rules, 0, 1, LinkId(1), epochs, last, want, &mut out);
        let mut bench = Self { learner, now: 0, out };
        assert_eq!(bench.took(), ["dial 1"]);
        bench
    }

    /// The same, once ACKEPOCH has gone out.
    fn registered(role: Role, last: Zxid, want: Want) -> Self {
        let mut bench = Self::new(role, last, want);
        bench.connected();
        assert_eq!(bench.hear(Packet::LeaderInfo { epoch: 2, mark: None }), ["save accepted 2"]);
        bench.saved(EpochFile::Accepted, 2);
        bench
    }

    fn follower(last: Zxid) -> Self {
        Self::registered(Role::Participant, last, Want::Cheapest)
    }

    /// A learner that serves, and whose log ends there.
    fn serving(role: Role, last: Zxid) -> Self {
        let mut bench = Self::registered(role, last, Want::Cheapest);
        bench.hear(Packet::Diff { zxid: last });
        bench.hear(new_leader());
        bench.saved(EpochFile::Current, 2);
        assert_eq!(bench.hear(Packet::UpToDate)[0], "1 ACK 2:0");
        assert!(bench.learner.is_serving());
        bench
    }

    fn took(&mut self) -> Vec<String> {
        self.out.drain(..).map(|effect| show::effect(&effect)).collect()
    }

    fn connected(&mut self) -> Vec<String> {
        self.learner.on_connected(self.now, &mut self.out);
        self.took()
    }

    fn hear(&mut self, packet: Packet) -> Vec<String> {
        self.learner.on_packet(self.now, packet, &mut self.out);
        self.took()
    }

    fn hear_all(&mut self, packets: impl IntoIterator<Item = Packet>) -> Vec<String> {
        packets.into_iter().flat_map(|packet| self.hear(packet)).collect()
    }

    fn saved(&mut self, file: EpochFile, epoch: i64) -> Vec<String> {
        self.learner.on_epoch_saved(self.now, file, epoch, &mut self.out);
        self.took()
    }

    fn durable(&mut self, zxid: Zxid) -> Vec<String> {
        self.learner.on_durable(self.now, zxid, &mut self.out);
        self.took()
    }

    fn truncated(&mut self, last: Option<Zxid>) -> Vec<String> {
        self.learner.on_truncated(self.now, last, &mut self.out);
        self.took()
    }

    fn installed(&mut self, last: Zxid) -> Vec<String> {
        self.learner.on_installed(self.now, last, &mut self.out);
        self.took()
    }

    fn wait(&mut self, ms: i64) -> Vec<String> {
        self.now += ms;
        self.learner.on_time(self.now, &mut self.out);
        self.took()
    }

    /// The link died, and the role with it.
    #[track_caller]
    fn died(said: &[String], why: &str) {
        let [.., closed, failed] = said else { panic!("{said:?}") };
        assert_eq!(*closed, format!("1 closed: {why}"));
        assert_eq!(*failed, format!("failed: {why}"));
    }
}

fn new_leader() -> Packet {
    Packet::NewLeader { zxid: z(2, 0), config: Some(Bytes::from_static(b"version=0")) }
}

// quorum-protocol 12: 38; 5.5.
#[test]
fn a_promise_is_on_disk_before_it_is_given() {
    let mut bench = Bench::new(Role::Participant, z(1, 3), Want::Cheapest);
    assert_eq!(bench.connected(), ["1 FOLLOWERINFO 1"]);
    assert_eq!(bench.hear(Packet::LeaderInfo { epoch: 4, mark: None }), ["save accepted 4"]);
    assert_eq!(bench.saved(EpochFile::Accepted, 4), ["1 ACKEPOCH 1:3 of 1"]);
    assert_eq!(bench.learner.epoch(), 4);

    // An epoch that was accepted before is not acknowledged twice; one below is refused.
    let mut bench = Bench::new(Role::Observer, z(1, 3), Want::Cheapest);
    assert_eq!(bench.connected(), ["1 OBSERVERINFO 1"]);
    assert_eq!(bench.hear(Packet::LeaderInfo { epoch: 1, mark: None }), ["1 ACKEPOCH 1:3 again"]);
    let mut bench = Bench::new(Role::Participant, z(1, 3), Want::Cheapest);
    bench.connected();
    let said = bench.hear(Packet::LeaderInfo { epoch: 0, mark: None });
    Bench::died(&said, "the leader's epoch 0 is less than accepted epoch 1");
    assert_eq!(bench.learner.next_deadline(), None);
}

// 39; 10.3; the ACKs of 0.3 and 5.8.
#[test]
fn history_then_epoch_then_the_ack() {
    let mut bench = Bench::follower(z(1, 3));
    assert_eq!(bench.hear(Packet::Diff { zxid: z(2, 1) }), NOTHING);
    assert_eq!(bench.hear(proposal(z(1, 4))), ["append 1:4"]);
    assert_eq!(bench.hear(commit(z(1, 4))), NOTHING);
    assert_eq!(bench.hear_all([proposal(z(2, 1)), commit(z(2, 1)), proposal(z(2, 2))]), ["append 2:1", "append 2:2"]);
    assert_eq!(bench.durable(z(2, 1)), NOTHING);
    assert_eq!(bench.hear(new_leader()), NOTHING);
    // What comes while the disk is at work waits for it.
    assert_eq!(bench.hear_all([proposal(z(2, 3)), commit(z(2, 2))]), NOTHING);
    assert_eq!(bench.durable(z(2, 2)), ["save current 2"]);
    assert_eq!(bench.saved(EpochFile::Current, 2), ["1 ACK 2:0", "append 2:3"]);
    assert_eq!(bench.durable(z(2, 3)), NOTHING);
    assert_eq!(bench.hear(proposal(z(2, 4))), ["append 2:4"]);
    // Then one for each that was not committed at NEWLEADER, committed or not by now.
    let expected = ["1 ACK 2:0", "serve 2 with 2:2", "1 ACK 2:2", "1 ACK 2:3"];
    assert_eq!(bench.hear(Packet::UpToDate), expected);
    assert_eq!(bench.durable(z(2, 4)), ["1 ACK 2:4"]);
    assert_eq!(bench.hear_all([commit(z(2, 3)), commit(z(2, 4))]), ["committed 2:3", "committed 2:4"]);
}

#[test]
fn a_log_that_is_the_leaders_is_committed_at_uptodate() {
    let mut bench = Bench::follower(z(1, 3));
    assert_eq!(bench.hear_all([Packet::Diff { zxid: z(1, 3) }, new_leader()]), ["save current 2"]);
    assert_eq!(bench.saved(EpochFile::Current, 2), ["1 ACK 2:0"]);
    assert_eq!(bench.hear(Packet::UpToDate), ["1 ACK 2:0", "serve 2 with 1:3"]);
}

#[test]
fn an_epoch_is_saved_once() {
    let epochs = Epochs { accepted: 2, current: 2, was_raised: false };
    let mut bench = Bench::new(Role::Participant, z(2, 3), Want::Cheapest);
    let rules = LearnerRules {
        me: 2,
        role: Role::Participant,
        tick_ms: TICK_MS,
        init_limit_ticks: 10,
        sync_limit_ticks: 5,
        connect_limit_ticks: 3,
        config_version: 0,
        level: None,
    };
    bench.learner = Learner::new(rules, 0, 1, LinkId(1), epochs, z(2, 3), Want::Cheapest, &mut bench.out);
    bench.connected();
    assert_eq!(bench.hear(Packet::LeaderInfo { epoch: 2, mark: None }), ["1 ACKEPOCH 2:3 again"]);
    assert_eq!(bench.hear_all([Packet::Diff { zxid: z(2, 4) }, proposal(z(2, 4)), commit(z(2, 4))]), ["append 2:4"]);
    assert_eq!(bench.hear(new_leader()), NOTHING);
    assert_eq!(bench.durable(z(2, 4)), ["1 ACK 2:0"]);
}

// 41; H2, H4.
#[test]
fn a_log_is_cut_before_anything_else() {
    let mut bench = Bench::follower(z(1, 9));
    assert_eq!(bench.hear(Packet::Trunc { zxid: z(1, 5) }), ["truncate 1:5"]);
    assert_eq!(bench.hear_all([proposal(z(2, 1)), commit(z(2, 1)), new_leader()]), NOTHING);
    assert_eq!(bench.truncated(Some(z(1, 5))), ["append 2:1"]);
    assert_eq!(bench.durable(z(2, 1)), ["save current 2"]);
    assert_eq!(bench.saved(EpochFile::Current, 2), ["1 ACK 2:0"]);
    assert_eq!(bench.hear(Packet::UpToDate), ["1 ACK 2:0", "serve 2 with 2:1"]);

    // Nothing to cut.
    let mut bench = Bench::follower(z(1, 9));
    assert_eq!(bench.hear_all([Packet::Trunc { zxid: z(1, 9) }, new_leader()]), ["save current 2"]);
    // A leader cannot know of more than was said.
    let mut bench = Bench::follower(z(1, 9));
    let said = bench.hear(Packet::Trunc { zxid: z(2, 0) });
    Bench::died(&said, "TRUNC to 0x200000000, but the log ends with 0x100000009");
}

// design.md D17.
#[test]
fn what_nothing_leads_back_to_is_asked_for_as_a_snapshot() {
    // Nothing at all, or a log with something missing before the target.
    for last in [None, Some(z(1, 4))] {
        let mut bench = Bench::follower(z(1, 9));
        bench.hear(Packet::Trunc { zxid: z(1, 5) });
        let said = bench.truncated(last);
        Bench::died(&said, "nothing on disk leads back to 0x100000005; asking the leader for a snapshot");
    }
    let mut bench = Bench::new(Role::Participant, z(1, 9), Want::Snapshot);
    bench.connected();
    bench.hear(Packet::LeaderInfo { epoch: 2, mark: None });
    assert_eq!(bench.saved(EpochFile::Accepted, 2), ["1 ACKEPOCH 0:0 again"]);
    assert_eq!(bench.hear(Packet::Snap { zxid: z(1, 7) }), NOTHING);
    // A leader that has everything from the beginning may send that instead.
    let mut bench = Bench::registered(Role::Participant, z(1, 9), Want::Snapshot);
    assert_eq!(bench.hear(Packet::Diff { zxid: z(1, 1) }), ["truncate 0:0"]);
    assert_eq!(bench.hear_all([proposal(z(1, 1)), commit(z(1, 1))]), NOTHING);
    assert_eq!(bench.truncated(Some(Zxid::ZERO)), ["append 1:1"]);
}

// design.md D8.
#[test]
fn a_tree_that_differs_is_replaced_unless_others_differ_too() {
    for (differs, want) in [(false, "1 ACKEPOCH 0:0 again"), (true, "1 ACKEPOCH 1:9 of 1")] {
        let mut bench = Bench::new(Role::Participant, z(1, 9), Want::Refill);
        bench.learner.on_connected(0, &mut bench.out);
        let [Effect::Send { packet: Packet::FollowerInfo { info, .. }, .. }] = &bench.out[..] else { panic!() };
        let mark = Mark { level: FeatureLevel::CUMULATIVE, differs: true };
        assert_eq!(info.mark, Some(mark));
        bench.took();
        bench.hear(Packet::LeaderInfo { epoch: 2, mark: Some(Mark { differs, ..mark }) });
        assert_eq!(bench.saved(EpochFile::Accepted, 2), [want]);
    }
}

// 42; 5.7, H13.
#[test]
fn a_snapshot_is_installed_with_what_is_committed_behind_it() {
    let mut bench = Bench::follower(z(1, 9));
    assert_eq!(bench.hear(Packet::Snap { zxid: z(1, 6) }), NOTHING);
    // What a Java leader sends may begin before the snapshot's zxid.
    let packets = [proposal(z(1, 5)), commit(z(1, 5)), proposal(z(1, 6)), proposal(z(1, 7)), commit(z(1, 6))];
    assert_eq!(bench.hear_all(packets), NOTHING);
    assert_eq!(bench.hear_all([commit(z(1, 7)), proposal(z(2, 1)), proposal(z(2, 2)), commit(z(2, 1))]), NOTHING);
    assert_eq!(bench.hear(new_leader()), ["install 2:1 with 1:7 2:1, then 2:2"]);
    assert_eq!(bench.hear(proposal(z(2, 3))), NOTHING);
    assert_eq!(bench.installed(z(2, 2)), ["save current 2"]);
    assert_eq!(bench.saved(EpochFile::Current, 2), ["1 ACK 2:0", "append 2:3"]);
    assert_eq!(bench.hear(commit(z(2, 2))), NOTHING);
    assert_eq!(bench.durable(z(2, 3)), NOTHING);
    assert_eq!(bench.hear(Packet::UpToDate), ["1 ACK 2:0", "serve 2 with 2:2", "1 ACK 2:2", "1 ACK 2:3"]);

    // A Java leader that has just begun stands at the beginning of its epoch.
    let mut bench = Bench::follower(Zxid(-1));
    bench.hear(Packet::Snap { zxid: z(2, 0) });
    assert_eq!(bench.hear_all([proposal(z(2, 1)), new_leader()]), ["install 2:0 with, then 2:1"]);
    assert_eq!(bench.installed(z(2, 1)), ["save current 2"]);
    let mut bench = Bench::follower(Zxid::ZERO);
    Bench::died(&bench.hear(Packet::Snap { zxid: z(3, 1) }), "SNAP 0x300000001 in epoch 2");
}

/// Of a zooid, whose snapshot is a tree: what follows goes to the log. But not before the new history holds whatever the
/// old one does, which may be committed by this server's word.
#[test]
fn a_snapshot_is_installed_before_what_is_behind_it_has_come() {
    let snap = |last| {
        let mut bench = Bench::new(Role::Participant, last, Want::Cheapest);
        bench.connected();
        let mark = Mark { level: FeatureLevel::CUMULATIVE, differs: false };
        assert_eq!(bench.hear(Packet::LeaderInfo { epoch: 2, mark: Some(mark) }), ["save accepted 2"]);
        bench.saved(EpochFile::Accepted, 2);
        assert_eq!(bench.hear(Packet::Snap { zxid: z(1, 7) }), NOTHING);
        bench
    };
    let mut bench = snap(z(1, 3));
    assert_eq!(bench.hear(proposal(z(1, 8))), ["install 1:7 with, then"]);
    assert_eq!(bench.hear_all([commit(z(1, 8)), proposal(z(1, 9))]), NOTHING);
    // What the log says of what it held before counts for nothing.
    assert_eq!(bench.durable(z(1, 3)), NOTHING);
    assert_eq!(bench.installed(z(1, 7)), ["append 1:8", "append 1:9"]);
    assert_eq!(bench.hear_all([commit(z(1, 9)), proposal(z(2, 1)), new_leader()]), ["append 2:1"]);
    assert_eq!(bench.durable(z(1, 9)), NOTHING);
    assert_eq!(bench.durable(z(2, 1)), ["save current 2"]);
    assert_eq!(bench.saved(EpochFile::Current, 2), ["1 ACK 2:0"]);
    assert_eq!(bench.hear(Packet::UpToDate), ["1 ACK 2:0", "serve 2 with 1:9", "1 ACK 2:1"]);

    // What is committed in the leader's epoch is so with all before it, and need not be kept until UPTODATE.
    let mut bench = snap(z(1, 3));
    bench.hear(proposal(z(1, 8)));
    assert_eq!(bench.learner.unwritten(), Some(z(1, 7)));
    assert_eq!(bench.installed(z(1, 7)), ["append 1:8"]);
    assert_eq!(bench.learner.unwritten(), Some(z(1, 8)));
    assert_eq!(bench.hear_all([commit(z(1, 8)), proposal(z(2, 1))]), ["append 2:1"]);
    assert_eq!(bench.hear(commit(z(2, 1))), ["committed 2:1"]);
    bench.durable(z(2, 1));
    assert_eq!(bench.learner.unwritten(), None);

    // What the log ends with may be outstanding there.
    let mut bench = snap(z(2, 2));
    let behind = [proposal(z(1, 8)), commit(z(1, 8)), proposal(z(2, 1)), commit(z(2, 1)), proposal(z(2, 2))];
    assert_eq!(bench.hear_all(behind), NOTHING);
    assert_eq!(bench.hear(proposal(z(2, 3))), ["install 2:1 with 1:8 2:1, then 2:2"]);
    assert_eq!(bench.installed(z(2, 2)), ["append 2:3"]);
    // And one that has lost its history must not look after a crash as if it had one.
    for last in [z(2, 2), Zxid(-1)] {
        let mut bench = snap(last);
        assert_eq!(bench.hear_all([proposal(z(1, 8)), commit(z(1, 8)), proposal(z(2, 1))]), NOTHING);
        assert_eq!(bench.learner.unwritten(), None);
        assert_eq!(bench.hear(new_leader()), ["install 1:8 with 1:8, then 2:1"]);
    }
}

// 43; H1, H16, S7.
#[test]
fn what_does_not_follow_the_last_is_a_fault() {
    let diff = || {
        let mut bench = Bench::follower(z(1, 3));
        bench.hear(Packet::Diff { zxid: z(2, 5) });
        bench
    };
    let snap = || {
        let mut bench = Bench::follower(z(1, 3));
        bench.hear(Packet::Snap { zxid: z(1, 7) });
        bench
    };
    let live = || Bench::serving(Role::Participant, z(1, 3));
    let cases: [(Bench, &[Zxid], &str); 10] = [
        (diff(), &[z(1, 5)], "got 0x100000005 behind 0x100000003"),
        (diff(), &[z(1, 3)], "got 0x100000003 behind 0x100000003"),
        (diff(), &[z(2, 1), z(2, 3)], "got 0x200000003 behind 0x200000001"),
        (diff(), &[z(2, 1), z(1, 4)], "got 0x100000004 behind 0x200000001"),
        (diff(), &[z(3, 1)], "got 0x300000001 in epoch 2"),
        (snap(), &[z(1, 9)], "got 0x100000009 behind 0x100000007"),
        (snap(), &[z(1, 4), z(1, 6)], "got 0x100000006 behind 0x100000004"),
        (live(), &[z(2, 1), z(2, 1)], "got 0x200000001 behind 0x200000001"),
        (live(), &[z(2, 1), z(2, 3)], "got 0x200000003 behind 0x200000001"),
        (live(), &[z(1, 4)], "got PROPOSAL of 0x100000004 in epoch 2"),
    ];
    for (mut bench, zxids, why) in cases {
        let said = bench.hear_all(zxids.iter().map(|zxid| proposal(*zxid)));
        Bench::died(&said, why);
        assert_eq!(bench.hear(proposal(z(2, 1))), NOTHING);
    }
}

// H18.
#[test]
fn a_commit_of_anything_but_the_next_is_a_fault() {
    let mut bench = Bench::serving(Role::Participant, z(1, 3));
    bench.hear_all([proposal(z(2, 1)), proposal(z(2, 2))]);
    let said = bench.hear(commit(z(2, 2)));
    Bench::died(&said, "got COMMIT of 0x200000002 while the next proposal is 0x200000001");
    let mut bench = Bench::follower(z(1, 3));
    bench.hear(Packet::Diff { zxid: z(1, 3) });
    let said = bench.hear(commit(z(1, 3)));
    Bench::died(&said, "got COMMIT of 0x100000003 while the next proposal is none");
}

// H9.
#[test]
fn a_newleader_of_another_epoch_is_a_fault() {
    for zxid in [z(1, 0), z(3, 0), z(2, 1)] {
        let mut bench = Bench::follower(z(1, 3));
        bench.hear(Packet::Diff { zxid: z(1, 3) });
        let said = bench.hear(Packet::NewLeader { zxid, config: None });
        Bench::died(&said, &format!("got NEWLEADER of {zxid} in epoch 2"));
    }
}

// Java's learners end with exit code 13 at most of these.
#[test]
fn what_comes_out_of_turn_ends_the_link() {
    let mut bench = Bench::new(Role::Participant, z(1, 3), Want::Cheapest);
    bench.connected();
    Bench::died(&bench.hear(new_leader()), "got NEWLEADER while expecting LEADERINFO");
    for packet in [proposal(z(1, 4)), new_leader(), Packet::UpToDate, Packet::Unknown { op: 99 }] {
        let name = packet.name();
        let said = Bench::follower(z(1, 3)).hear(packet);
        Bench::died(&said, &format!("got {name} while expecting DIFF, TRUNC or SNAP"));
    }
    let mut bench = Bench::follower(z(1, 3));
    bench.hear(Packet::Diff { zxid: z(1, 3) });
    Bench::died(&bench.hear(Packet::UpToDate), "got UPTODATE while expecting NEWLEADER");
    let mut bench = Bench::serving(Role::Participant, z(1, 3));
    Bench::died(&bench.hear(new_leader()), "got NEWLEADER while expecting a packet of the broadcast");
}

// 46; 25.
#[test]
fn a_ping_is_answered_once_it_serves() {
    let ping = || Packet::Ping { zxid: z(2, 0), touched: None };
    let mut bench = Bench::follower(z(1, 3));
    bench.hear(Packet::Diff { zxid: z(1, 3) });
    assert_eq!(bench.hear_all([ping(), Packet::Unknown { op: 99 }]), NOTHING);
    bench.hear(new_leader());
    bench.saved(EpochFile::Current, 2);
    assert_eq!(bench.hear_all([ping(), Packet::Unknown { op: 99 }]), NOTHING);
    bench.learner.on_touched(z(2, 0), Vec::new(), &mut bench.out);
    assert_eq!(bench.took(), NOTHING);
    bench.hear(Packet::UpToDate);
    assert_eq!(bench.hear_all([ping(), Packet::Unknown { op: 99 }, Packet::UpToDate]), ["ping 2:0"]);
    let touched = vec![Touched { session: 1, timeout_ms: 2 }];
    bench.learner.on_touched(z(2, 0), touched.clone(), &mut bench.out);
    let pong = Packet::Ping { zxid: z(2, 0), touched: Some(touched) };
    assert_eq!(bench.out, [Effect::Send { link: LinkId(1), packet: pong }]);
}

// 5.2, 6.8.
#[test]
fn a_silent_leader_is_left() {
    let mut bench = Bench::new(Role::Participant, z(1, 3), Want::Cheapest);
    assert_eq!(bench.wait(3 * TICK_MS - 1), NOTHING);
    Bench::died(&bench.wait(1), "nothing was heard for 3000 ms while dialling the leader");

    let mut bench = Bench::follower(z(1, 3));
    assert_eq!(bench.wait(10 * TICK_MS - 1), NOTHING);
    bench.hear(Packet::Snap { zxid: z(1, 3) });
    // A snapshot takes as long as it takes.
    assert_eq!(bench.wait(10 * TICK_MS - 1), NOTHING);
    bench.learner.on_progress(bench.now);
    assert_eq!(bench.wait(10 * TICK_MS - 1), NOTHING);
    Bench::died(&bench.wait(1), "nothing was heard for 10000 ms while expecting NEWLEADER");

    // So does the own disk.
    let mut bench = Bench::follower(z(1, 3));
    bench.hear_all([Packet::Diff { zxid: z(1, 3) }, new_leader()]);
    assert_eq!(bench.learner.next_deadline(), None);
    assert_eq!(bench.wait(100 * TICK_MS), NOTHING);
    bench.saved(EpochFile::Current, 2);
    assert_eq!(bench.wait(5 * TICK_MS - 1), NOTHING);
    bench.hear(Packet::UpToDate);
    assert_eq!(bench.wait(5 * TICK_MS - 1), NOTHING);
    bench.hear(Packet::Ping { zxid: z(2, 0), touched: None });
    assert_eq!(bench.wait(5 * TICK_MS - 1), NOTHING);
    Bench::died(&bench.wait(1), "nothing was heard for 5000 ms while following");
}

#[test]
fn a_closed_link_ends_the_role() {
    let mut bench = Bench::serving(Role::Participant, z(1, 3));
    bench.learner.on_closed(&mut bench.out);
    assert_eq!(bench.took(), ["failed: the link is gone"]);
    bench.learner.on_closed(&mut bench.out);
    assert_eq!(bench.hear(proposal(z(2, 1))), NOTHING);
    assert_eq!(bench.durable(z(2, 1)), NOTHING);
    assert_eq!(bench.wait(100 * TICK_MS), NOTHING);
}

// design.md D16: a zooid that leads has one ACK of a batch, and one COMMIT of it stands for all. Java's has each.
#[test]
fn a_batch_is_acknowledged_and_committed_as_one_among_equals() {
    let equals = Some(FeatureLevel::CUMULATIVE);
    for level in [None, Some(FeatureLevel(0)), equals] {
        let mut bench = Bench::new(Role::Participant, z(1, 1), Want::Cheapest);
        bench.connected();
        let mark = level.map(|level| Mark { level, differs: false });
        bench.hear(Packet::LeaderInfo { epoch: 2, mark });
        bench.saved(EpochFile::Accepted, 2);
        bench.hear(Packet::Diff { zxid: z(1, 1) });
        bench.hear(new_leader());
        bench.saved(EpochFile::Current, 2);
        bench.hear(Packet::UpToDate);
        bench.hear_all((1..=4).map(|n| proposal(z(2, n))));
        let (acked, committed) = (bench.durable(z(2, 3)), bench.hear(Packet::Commit { zxid: z(2, 3) }));
        if level == equals {
            assert_eq!(acked, ["1 ACK 2:3"]);
            assert_eq!(committed, ["committed 2:3"]);
            assert_eq!(bench.durable(z(2, 4)), ["1 ACK 2:4"]);
            // What is committed already.
            let again = bench.hear(Packet::Commit { zxid: z(2, 3) });
            Bench::died(&again, &format!("got COMMIT of {} while the next proposal is {}", z(2, 3), z(2, 4)));
        } else {
            assert_eq!(acked, ["1 ACK 2:1", "1 ACK 2:2", "1 ACK 2:3"]);
            Bench::died(&committed, &format!("got COMMIT of {} while the next proposal is {}", z(2, 3), z(2, 1)));
        }
    }
}

// 9.1, 28.
#[test]
fn an_observer_logs_what_is_committed_and_acknowledges_nothing_else() {
    let mut bench = Bench::registered(Role::Observer, z(1, 3), Want::Cheapest);
    bench.hear(Packet::Diff { zxid: z(1, 4) });
    let said = bench.hear_all([proposal(z(1, 4)), commit(z(1, 4)), inform(z(2, 1)), new_leader()]);
    assert_eq!(said, ["append 1:4", "append 2:1"]);
    assert_eq!(bench.durable(z(2, 1)), ["save current 2"]);
    assert_eq!(bench.saved(EpochFile::Current, 2), ["1 ACK 2:0"]);
    assert_eq!(bench.hear(inform(z(2, 2))), ["append 2:2"]);
    assert_eq!(bench.hear(Packet::UpToDate), ["1 ACK 2:0", "serve 2 with 2:2"]);
    assert_eq!(bench.hear_all([proposal(z(2, 3)), commit(z(2, 3))]), NOTHING);
    assert_eq!(bench.hear(inform(z(2, 3))), ["append 2:3", "committed 2:3"]);
    assert_eq!(bench.durable(z(2, 3)), NOTHING);
    Bench::died(&bench.hear(inform(z(2, 5))), "got 0x200000005 behind 0x200000003");
    // A follower gets no INFORM once it serves.
    let mut bench = Bench::serving(Role::Participant, z(1, 3));
    Bench::died(&bench.hear(inform(z(2, 1))), "got INFORM while expecting a packet of the broadcast");
}

// 6.6, 6.7, 7.
#[test]
fn requests_go_out_once_it_serves() {
    let request = || Forwarded { session: 1, cxid: 1, op: 1, body: Bytes::new(), identities: None };
    let mut bench = Bench::follower(z(1, 3));
    bench.learner.request(request(), &mut bench.out);
    bench.learner.revalidate(1, 2, &mut bench.out);
    assert_eq!(bench.took(), NOTHING);
    let mut bench = Bench::serving(Role::Participant, z(1, 3));
    bench.learner.request(request(), &mut bench.out);
    bench.learner.revalidate(1, 2, &mut bench.out);
    assert_eq!(bench.took(), ["1 REQUEST", "1 REVALIDATE"]);
    let said = bench.hear_all([Packet::Sync, Packet::Revalidated { session: 1, valid: true }]);
    assert_eq!(said, ["synced", "revalidated"]);
}

// 26; 8.4.
#[test]
fn a_newer_member_list_is_told() {
    let list = |version: &str| {
        let mut bench = Bench::follower(z(1, 3));
        bench.hear(Packet::Diff { zxid: z(1, 3) });
        let config = Some(format!("server.1=a:1:2:participant\nversion={version}").into());
        bench.hear(Packet::NewLeader { zxid: z(2, 0), config })
    };
    assert_eq!(list("100000001"), ["members", "save current 2"]);
    assert_eq!(list("0"), ["save current 2"]);
    assert_eq!(list("xyz"), ["save current 2"]);

    let mut bench = Bench::serving(Role::Participant, z(1, 3));
    bench.hear(proposal(z(2, 1)));
    let said = bench.hear(Packet::CommitAndActivate { zxid: z(2, 1), leader: 3 });
    assert_eq!(said[0], "committed 2:1");
    Bench::died(&said, "the ensemble's members are now: those of the reconfiguration 0x200000001");
}

// reliability S23: it has no ACKs that a leader could miss.
#[test]
fn an_observer_whose_disk_hangs_gives_up() {
    let ping = || Packet::Ping { zxid: z(2, 9), touched: None };
    let mut bench = Bench::serving(Role::Observer, z(1, 3));
    for at in 1..=3 {
        bench.hear(inform(z(2, at)));
        assert_eq!(bench.hear(ping()), ["ping 2:9"], "it has just come");
    }
    bench.wait(4 * TICK_MS);
    bench.hear(ping());
    // The disk is slow, but it goes on: what counts is what it still lacks of what came then.
    bench.durable(z(2, 3));
    bench.hear(inform(z(2, 4)));
    for _ in 0..4 {
        assert_eq!(bench.hear(ping()).len(), 1);
        bench.wait(TICK_MS);
    }
    assert_eq!(bench.hear(ping()).len(), 1);
    bench.wait(TICK_MS);
    let said = bench.hear(ping());
    Bench::died(&said[1..], "the own disk has not written 0x200000004 for 5000 ms; others can");

    // A follower's leader sees it.
    let mut bench = Bench::serving(Role::Participant, z(1, 3));
    bench.hear(proposal(z(2, 1)));
    for _ in 0..10 {
        bench.wait(TICK_MS);
        assert_eq!(bench.hear(ping()).len(), 1);
    }
}
