//! What a leader does, packet by packet. Server 1 leads; link 2 is that of server 2, and so on.

use bytes::Bytes;

use super::super::history::History;
use super::super::leader::{Leader, LeaderRules};
use super::super::packet::{FeatureLevel, Forwarded, LearnerInfo, Mark, Packet, Touched};
use super::super::{Effect, Entry, PART_BYTES};
use super::show::{self, entry, info, membership, z};
use crate::id::{LinkId, Zxid};
use crate::session::Mono;
use crate::storage::epoch::{EpochFile, Epochs};

const TICK_MS: i64 = 1000;

struct Bench {
    leader: Leader,
    history: History,
    now: Mono,
    out: Vec<Effect>,
}

fn rules(voters: usize, observers: usize) -> LeaderRules {
    LeaderRules {
        me: 1,
        tick_ms: TICK_MS,
        init_limit_ticks: 10,
        sync_limit_ticks: 5,
        membership: membership(voters, observers),
        config_text: Bytes::from_static(b"version=0"),
        level: None,
        force_snapshot: false,
        sync_from_log: true,
        max_concurrent_snap_syncs: 10,
        max_concurrent_diff_syncs: 10,
        max_diff_bytes: usize::MAX,
    }
}

impl Bench {
    /// Elected with this log, and the epochs 1.
    fn elected(rules: LeaderRules, base: Zxid, log: &[Zxid]) -> Self {
        let mut history = History::new(base);
        log.iter().for_each(|zxid| history.push(entry(*zxid)));
        let mut out = Vec::new();
        let epochs = Epochs { accepted: 1, current: 1, was_raised: false };
        let leader = Leader::new(rules, 0, epochs, history.last(), &mut out);
        Self { leader, history, now: 0, out }
    }

    /// Leads epoch 2 of three voters and two observers, with server 2 at its side.
    fn serving(base: Zxid, log: &[Zxid]) -> Self {
        Self::serving_by(rules(3, 2), base, log)
    }

    fn serving_by(rules: LeaderRules, base: Zxid, log: &[Zxid]) -> Self {
        let mut bench = Self::elected(rules, base, log);
        bench.join(2);
        bench.saved(EpochFile::Accepted, 2);
        let last = bench.history.last();
        bench.hear(2, Packet::AckEpoch { last, current: Some(1) });
        if bench.leader.figures().snap_syncs == 1 {
            bench.leader.on_snapshot_sent(0, LinkId(2), last, &bench.history, &mut bench.out);
        }
        bench.hear(2, Packet::Ack { zxid: z(2, 0) });
        assert!(bench.saved(EpochFile::Current, 2).contains(&"established 2".to_owned()));
        assert_eq!(bench.serve(), ["2 UPTODATE"]);
        bench
    }

    fn took(&mut self) -> Vec<String> {
        self.out.drain(..).map(|effect| show::effect(&effect)).collect()
    }

    fn hear(&mut self, link: u64, packet: Packet) -> Vec<String> {
        self.leader.on_packet(self.now, LinkId(link), packet, &self.history, &mut self.out);
        self.took()
    }

    /// Connects and says FOLLOWERINFO.
    fn join(&mut self, server: i64) -> Vec<String> {
        self.leader.on_link(self.now, LinkId(server as u64));
        self.hear(server as u64, Packet::FollowerInfo { accepted: 1, info: info(server) })
    }

    fn observe(&mut self, server: i64) -> Vec<String> {
        self.leader.on_link(self.now, LinkId(server as u64));
        self.hear(server as u64, Packet::ObserverInfo { accepted: 1, info: info(server) })
    }

    /// Joins with a log that ends there; what comes behind LEADERINFO.
    fn sync(&mut self, server: i64, last: Zxid) -> Vec<String> {
        assert_eq!(self.join(server), [format!("{server} LEADERINFO 2")]);
        self.hear(server as u64, Packet::AckEpoch { last, current: None })
    }

    fn saved(&mut self, file: EpochFile, epoch: i64) -> Vec<String> {
        self.leader.on_epoch_saved(self.now, file, epoch, &self.history, &mut self.out);
        self.took()
    }

    fn serve(&mut self) -> Vec<String> {
        self.leader.on_serving(self.now, &mut self.out);
        self.took()
    }

    fn propose(&mut self) -> Vec<String> {
        let zxid = self.leader.next_zxid(&mut self.out).expect("an epoch that is not full");
        self.history.push(entry(zxid));
        self.leader.propose(self.now, &entry(zxid), &mut self.out);
        self.took()
    }

    fn ack(&mut self, link: u64, zxid: Zxid) -> Vec<String> {
        self.hear(link, Packet::Ack { zxid })
    }

    fn pong(&mut self, link: u64) -> Vec<String> {
        self.hear(link, Packet::Ping { zxid: self.leader.last_proposed(), touched: Some(Vec::new()) })
    }

    fn durable(&mut self, zxid: Zxid) -> Vec<String> {
        self.leader.on_durable(zxid, &mut self.out);
        self.took()
    }

    fn snapshot_sent(&mut self, link: u64, zxid: Zxid) -> Vec<String> {
        self.leader.on_snapshot_sent(self.now, LinkId(link), zxid, &self.history, &mut self.out);
        self.took()
    }

    fn log_read(&mut self, link: u64, read: Option<&[Zxid]>) -> Vec<String> {
        let read = read.map(|zxids| zxids.iter().map(|zxid| entry(*zxid)).collect::<Vec<Entry>>());
        self.leader.on_log_read(self.now, LinkId(link), read, &self.history, &mut self.out);
        self.took()
    }

    fn close(&mut self, link: u64) -> Vec<String> {
        self.leader.on_closed(LinkId(link), &mut self.out);
        self.took()
    }

    /// Lets time pass, deadline by deadline.
    fn wait(&mut self, ms: i64) -> Vec<String> {
        let until = self.now + ms;
        while let Some(deadline) = self.leader.next_deadline().filter(|deadline| *deadline <= until) {
            self.now = deadline;
            self.leader.on_time(self.now, &mut self.out);
        }
        self.now = until;
        self.took()
    }

    /// The same while these learners answer every PING.
    fn wait_with(&mut self, ms: i64, links: &[u64]) -> Vec<String> {
        let mut said = Vec::new();
        for _ in 0..ms / (TICK_MS / 2) {
            said.extend(self.wait(TICK_MS / 2).into_iter().filter(|line| !line.contains("PING")));
            for link in links {
                let pong = Packet::Ping { zxid: self.leader.last_proposed(), touched: Some(Vec::new()) };
                said.extend(self.hear(*link, pong).into_iter().filter(|line| !line.contains("touched")));
            }
        }
        said
    }
}

const NOTHING: [&str; 0] = [];

// quorum-protocol 12: 37, 38.
#[test]
fn an_epoch_is_above_all_promises_and_saved_before_it_is_told() {
    let mut bench = Bench::elected(rules(3, 1), Zxid::ZERO, &[]);
    assert_eq!(bench.took(), NOTHING);
    // An observer's promise counts, though its word does not.
    bench.leader.on_link(0, LinkId(4));
    assert_eq!(bench.hear(4, Packet::ObserverInfo { accepted: 6, info: info(4) }), NOTHING);
    assert_eq!(bench.join(2), ["save accepted 7"]);
    assert_eq!(bench.join(3), NOTHING);
    let told = bench.saved(EpochFile::Accepted, 7);
    assert_eq!(told, ["2 LEADERINFO 7", "3 LEADERINFO 7", "4 LEADERINFO 7"]);
    assert_eq!(bench.hear(4, Packet::AckEpoch { last: Zxid::ZERO, current: Some(0) }), NOTHING);
    assert_eq!(
        bench.hear(2, Packet::AckEpoch { last: Zxid::ZERO, current: Some(1) }),
        ["save current 7", "2 DIFF 0:0", "2 NEWLEADER 7:0", "4 DIFF 0:0", "4 NEWLEADER 7:0"]
    );
}

#[test]
fn a_lone_voter_leads_itself() {
    let mut bench = Bench::elected(rules(1, 0), Zxid::ZERO, &[z(1, 1)]);
    assert_eq!(bench.took(), ["save accepted 2"]);
    assert_eq!(bench.saved(EpochFile::Accepted, 2), ["save current 2"]);
    assert_eq!(bench.saved(EpochFile::Current, 2), ["established 2"]);
    assert_eq!(bench.serve(), NOTHING);
    assert_eq!(bench.propose(), NOTHING);
    assert_eq!(bench.durable(z(2, 1)), ["committed 2:1"]);
}

// 15, 16.
#[test]
fn who_does_not_introduce_itself_is_sent_away_without_a_word() {
    let mut bench = Bench::elected(rules(3, 0), Zxid::ZERO, &[]);
    let newer = LearnerInfo { config_version: 1, ..info(2) };
    let cases = [
        (Packet::Ack { zxid: z(1, 0) }, "2 closed: got ACK while expecting FOLLOWERINFO or OBSERVERINFO"),
        (Packet::Unknown { op: 99 }, "2 closed: got UNKNOWN while expecting FOLLOWERINFO or OBSERVERINFO"),
        (
            Packet::FollowerInfo { accepted: 1, info: newer },
            "2 closed: the learner's member list is of 0x1, ours of 0x0",
        ),
        (
            Packet::FollowerInfo { accepted: 1, info: info(1) },
            "2 closed: the learner calls itself 1, as this server is called",
        ),
        (
            Packet::FollowerInfo { accepted: i64::from(i32::MAX), info: info(2) },
            "2 closed: the learner has accepted epoch 2147483647",
        ),
    ];
    for (packet, expected) in cases {
        bench.leader.on_link(0, LinkId(2));
        assert_eq!(bench.hear(2, packet), [expected]);
        assert_eq!(bench.hear(2, Packet::Ack { zxid: z(1, 0) }), NOTHING);
    }
}

// 17: its log's end is not told in words that can be relied upon, so it gets everything, and counts for nothing.
#[test]
fn a_learner_of_the_old_protocol_gets_newleader_without_members() {
    for server in [Some(3), None] {
        let mut bench = Bench::serving(Zxid::ZERO, &[z(1, 1)]);
        bench.propose();
        bench.leader.on_link(0, LinkId(3));
        let info = LearnerInfo { server, protocol: 1, ..info(3) };
        assert_eq!(bench.hear(3, Packet::FollowerInfo { accepted: 1, info }), ["3 snapshot"]);
        let rest = ["3 NEWLEADER 2:0 without members", "3 PROPOSAL 1:1", "3 COMMIT 1:1", "3 PROPOSAL 2:1"];
        assert_eq!(bench.snapshot_sent(3, Zxid::ZERO), rest);
        assert_eq!(bench.ack(3, z(2, 0)), ["3 UPTODATE"]);
        assert_eq!(bench.durable(z(2, 1)), NOTHING);
        assert_eq!(bench.ack(3, z(2, 1)), NOTHING);
        let gone = if server.is_some() { "from 3: gone" } else { "from -1: gone" };
        assert_eq!(bench.close(3), [gone]);
    }
}

// H8: only the link of the one that holds more.
#[test]
fn who_holds_more_is_sent_away() {
    for (last, current) in [(z(1, 3), 1), (z(1, 1), 2)] {
        let mut bench = Bench::elected(rules(3, 0), Zxid::ZERO, &[z(1, 1), z(1, 2)]);
        bench.join(2);
        bench.join(3);
        bench.saved(EpochFile::Accepted, 2);
        let said = bench.hear(2, Packet::AckEpoch { last, current: Some(current) });
        assert!(said[0].starts_with("2 closed: it holds"), "{said:?}");
        assert_eq!(said[1..], ["from 2: gone"]);
        let said = bench.hear(3, Packet::AckEpoch { last: z(1, 2), current: Some(1) });
        assert_eq!(said, ["save current 2", "3 DIFF 1:2", "3 NEWLEADER 2:0"]);
    }
}

// H7: what one more learner holds beyond a quorum cannot have been committed.
#[test]
fn who_holds_more_and_comes_late_is_cut() {
    let mut bench = Bench::serving(Zxid::ZERO, &[z(1, 1), z(1, 2)]);
    bench.join(3);
    let said = bench.hear(3, Packet::AckEpoch { last: z(1, 9), current: Some(1) });
    assert_eq!(said, ["3 TRUNC 1:2", "3 NEWLEADER 2:0"]);
}

// 18.
#[test]
fn who_has_acknowledged_the_epoch_before_is_not_counted() {
    for (last, current) in [(z(1, 2), None), (Zxid(-1), Some(0))] {
        let mut bench = Bench::elected(rules(3, 0), Zxid::ZERO, &[z(1, 1), z(1, 2)]);
        bench.join(2);
        bench.saved(EpochFile::Accepted, 2);
        assert_eq!(bench.hear(2, Packet::AckEpoch { last, current }), NOTHING);
        let said = bench.wait(10 * TICK_MS);
        let expected = "failed: nothing was heard for 10000 ms while waiting for a quorum to acknowledge the epoch";
        assert_eq!(said.last().unwrap(), expected);
    }
}

// 36.
#[test]
fn a_leader_without_a_quorum_gives_up() {
    let mut bench = Bench::elected(rules(3, 0), Zxid::ZERO, &[]);
    let expected = "failed: nothing was heard for 10000 ms while waiting for the epochs of a quorum";
    assert_eq!(bench.wait(10 * TICK_MS), [expected]);
    assert_eq!(bench.leader.next_deadline(), None);

    let mut bench = Bench::elected(rules(3, 0), Zxid::ZERO, &[]);
    bench.wait(9 * TICK_MS);
    bench.join(2);
    bench.saved(EpochFile::Accepted, 2);
    bench.wait(9 * TICK_MS);
    bench.hear(2, Packet::AckEpoch { last: Zxid::ZERO, current: Some(1) });
    assert_eq!(bench.saved(EpochFile::Current, 2), NOTHING);
    assert_eq!(bench.wait(9 * TICK_MS), NOTHING);
    let said = bench.wait(TICK_MS);
    let expected = "failed: nothing was heard for 10000 ms while waiting for a quorum to acknowledge NEWLEADER";
    assert_eq!(said.last().unwrap(), expected);
}

#[test]
fn the_own_vote_for_the_history_waits_for_the_own_epoch() {
    let mut bench = Bench::elected(rules(5, 0), Zxid::ZERO, &[]);
    for server in [2, 3, 4] {
        bench.join(server);
    }
    bench.saved(EpochFile::Accepted, 2);
    for link in [2, 3, 4] {
        bench.hear(link, Packet::AckEpoch { last: Zxid::ZERO, current: Some(1) });
    }
    for link in [2, 3, 4] {
        assert_eq!(bench.ack(link, z(2, 0)), NOTHING);
    }
    assert_eq!(bench.saved(EpochFile::Current, 2), ["established 2"]);
    // And who has acknowledged waits until this server serves.
    assert_eq!(bench.wait(2 * TICK_MS).iter().filter(|line| line.contains("UPTODATE")).count(), 0);
    assert_eq!(bench.serve(), ["2 UPTODATE", "3 UPTODATE", "4 UPTODATE"]);
}

// 40, row by row. The window begins behind 1:2.
#[test]
fn a_learner_is_brought_to_the_history() {
    let log = [z(1, 3), z(1, 4), z(1, 5)];
    let diff = |zxid: &str, from: u32| {
        let mut lines = vec![format!("3 DIFF {zxid}")];
        lines.extend((from..=5).flat_map(|n| [format!("3 PROPOSAL 1:{n}"), format!("3 COMMIT 1:{n}")]));
        lines.push("3 NEWLEADER 2:0".to_owned());
        lines
    };
    let snapshot = vec!["3 snapshot".to_owned()];
    let cases = [
        (z(1, 5), diff("1:5", 6)),
        (z(1, 4), diff("1:5", 5)),
        (z(1, 2), diff("1:5", 3)),
        // The leader itself stands at the beginning of its epoch.
        (z(2, 0), diff("2:0", 6)),
        (z(1, 7), vec!["3 TRUNC 1:5".to_owned(), "3 NEWLEADER 2:0".to_owned()]),
        (z(2, 9), vec!["3 TRUNC 1:5".to_owned(), "3 NEWLEADER 2:0".to_owned()]),
        (z(3, 0), snapshot.clone()),
        (z(1, 1), vec!["3 read 1:0 1:2".to_owned()]),
        (z(1, 0), snapshot.clone()),
        (Zxid::ZERO, snapshot.clone()),
        (Zxid(-1), snapshot.clone()),
    ];
    for (last, expected) in cases {
        let mut bench = Bench::serving(z(1, 2), &log);
        assert_eq!(bench.sync(3, last), expected, "{last}");
    }
    // The epoch of a leader whose transactions were lost; the beginning of one; a log that others cut.
    let log = [z(1, 3), z(3, 2), z(3, 3)];
    let cases = [
        (z(1, 7), "3 snapshot"),
        (z(2, 4), "3 snapshot"),
        (z(2, 0), "3 DIFF 3:3"),
        (z(3, 0), "3 DIFF 3:3"),
        (z(3, 1), "3 TRUNC 1:3"),
    ];
    for (last, expected) in cases {
        let mut bench = Bench::elected(rules(3, 0), z(1, 2), &log);
        bench.join(2);
        bench.join(3);
        bench.saved(EpochFile::Accepted, 2);
        bench.hear(2, Packet::AckEpoch { last: z(3, 3), current: Some(1) });
        assert_eq!(bench.hear(3, Packet::AckEpoch { last, current: None })[0], expected, "{last}");
    }
    let forced = LeaderRules { force_snapshot: true, ..rules(3, 0) };
    assert_eq!(Bench::serving_by(forced, Zxid::ZERO, &[z(1, 1)]).sync(3, z(1, 1)), snapshot);
    // H2: a Java learner that is told to cut where no transaction is keeps one too many.
    assert_eq!(Bench::serving(z(1, 0), &[]).sync(3, z(1, 1)), snapshot);
    // Somebody who says that he has nothing, and has acknowledged before, may have too much.
    assert_eq!(Bench::serving(Zxid::ZERO, &[z(1, 1)]).sync(3, Zxid::ZERO), snapshot);
}

#[test]
fn a_learner_behind_the_window_is_brought_up_from_the_log() {
    let serving = || {
        let mut bench = Bench::serving(z(1, 3), &[z(1, 4)]);
        bench.propose();
        assert_eq!(bench.sync(3, z(1, 1)), ["3 read 1:0 1:3"]);
        assert_eq!(bench.leader.pinned(), Some(z(1, 3)));
        bench
    };
    let mut bench = serving();
    // What is committed meanwhile comes with it.
    bench.durable(z(2, 1));
    assert_eq!(bench.ack(2, z(2, 1)), ["2 COMMIT 2:1", "committed 2:1"]);
    let said = bench.log_read(3, Some(&[z(1, 1), z(1, 2), z(1, 3)]));
    let mut expected = vec!["3 DIFF 2:1".to_owned()];
    for zxid in ["1:2", "1:3", "1:4", "2:1"] {
        expected.extend([format!("3 PROPOSAL {zxid}"), format!("3 COMMIT {zxid}")]);
    }
    expected.push("3 NEWLEADER 2:0".to_owned());
    assert_eq!(said, expected);
    assert_eq!(bench.leader.pinned(), None);

    // A log that has it no longer, has a hole, or does not know the learner's last.
    let reads: [Option<&[Zxid]>; 4] = [None, Some(&[]), Some(&[z(1, 1), z(1, 3)]), Some(&[z(1, 2), z(1, 3)])];
    for read in reads {
        assert_eq!(serving().log_read(3, read), ["3 snapshot"]);
    }
    let off = LeaderRules { sync_from_log: false, ..rules(3, 0) };
    assert_eq!(Bench::serving_by(off, z(1, 3), &[z(1, 4)]).sync(3, z(1, 1)), ["3 snapshot"]);
}

// 42.
#[test]
fn behind_a_snapshot_stands_what_it_lacks() {
    let mut bench = Bench::serving(z(1, 2), &[z(1, 3)]);
    assert_eq!(bench.sync(3, Zxid::ZERO), ["3 snapshot"]);
    assert_eq!(bench.observe(5), ["5 LEADERINFO 2"]);
    // It may take long: what it will lack is on disk.
    assert_eq!(bench.leader.pinned(), None);
    // Nothing goes out on a link that carries a snapshot.
    assert_eq!(bench.propose(), ["2 PROPOSAL 2:1"]);
    bench.durable(z(2, 1));
    assert_eq!(bench.ack(2, z(2, 1)), ["2 COMMIT 2:1", "committed 2:1"]);
    assert_eq!(bench.propose(), ["2 PROPOSAL 2:2"]);
    assert!(!bench.wait(TICK_MS).iter().any(|line| line.starts_with('3')));
    let expected =
        ["3 PROPOSAL 1:3", "3 COMMIT 1:3", "3 PROPOSAL 2:1", "3 COMMIT 2:1", "3 PROPOSAL 2:2", "3 NEWLEADER 2:0"];
    assert_eq!(bench.snapshot_sent(3, z(1, 2)), expected);
    assert_eq!(bench.propose(), ["2 PROPOSAL 2:3", "3 PROPOSAL 2:3"]);

    // An image from before the window is continued by the log.
    let mut bench = Bench::serving(z(1, 2), &[z(1, 3)]);
    bench.sync(3, Zxid::ZERO);
    assert_eq!(bench.snapshot_sent(3, z(1, 1)), ["3 read some of 1:1 1:2"]);
    assert_eq!(bench.leader.pinned(), Some(z(1, 2)));
    let expected = ["3 PROPOSAL 1:2", "3 COMMIT 1:2", "3 PROPOSAL 1:3", "3 COMMIT 1:3", "3 NEWLEADER 2:0"];
    assert_eq!(bench.log_read(3, Some(&[z(1, 2)])), expected);
    assert_eq!(bench.leader.pinned(), None);
    let reads: [Option<&[Zxid]>; 5] =
        [None, Some(&[]), Some(&[z(1, 3)]), Some(&[z(1, 1), z(1, 2)]), Some(&[z(1, 2), z(1, 3)])];
    for (link, read) in (4..).zip(reads) {
        bench.sync(link, Zxid::ZERO);
        bench.snapshot_sent(link as u64, z(1, 1));
        let said = bench.log_read(link as u64, read);
        assert!(said[0].contains("closed: the log does not go on"), "{said:?}");
    }
}

#[test]
fn what_came_during_a_long_snapshot_is_sent_in_parts() {
    let mut bench = Bench::serving(z(1, 9), &[]);
    assert_eq!(bench.sync(3, Zxid::ZERO), ["3 snapshot"]);
    assert_eq!(bench.snapshot_sent(3, z(1, 1)), ["3 read some of 1:1 1:9"]);
    let part = ["3 PROPOSAL 1:2", "3 COMMIT 1:2", "3 PROPOSAL 1:3", "3 COMMIT 1:3", "3 awaits drained"];
    assert_eq!(bench.log_read(3, Some(&[z(1, 2), z(1, 3)])), part);
    // Meanwhile nothing is kept for it, and nothing that is live overtakes.
    assert_eq!(bench.leader.pinned(), None);
    assert_eq!(bench.propose(), ["2 PROPOSAL 2:1"]);
    bench.durable(z(2, 1));
    assert_eq!(bench.ack(2, z(2, 1)), ["2 COMMIT 2:1", "committed 2:1"]);
    // As long as it takes something it is not silent.
    let drained = |bench: &mut Bench| {
        bench.leader.on_drained(bench.now, LinkId(3), &bench.history, &mut bench.out);
        bench.took()
    };
    for _ in 0..3 {
        bench.wait_with(99 * TICK_MS, &[2]);
        bench.leader.on_progress(bench.now, LinkId(3));
    }
    // The window may have moved on by then.
    bench.history.trim(z(2, 1), 0, usize::MAX);
    assert_eq!(drained(&mut bench), ["3 read some of 1:3 2:1"]);
    let said = bench.log_read(3, Some(&[z(1, 4), z(1, 5)]));
    assert_eq!(said.last().unwrap(), "3 awaits drained");
    assert_eq!(drained(&mut bench), ["3 read some of 1:5 2:1"]);
    let said = bench.log_read(3, Some(&[z(1, 6), z(1, 7), z(1, 8), z(1, 9), z(2, 1)]));
    assert_eq!(said[said.len() - 3..], ["3 PROPOSAL 2:1", "3 COMMIT 2:1", "3 NEWLEADER 2:0"]);
    assert_eq!(drained(&mut bench), NOTHING);
    assert_eq!(bench.propose(), ["2 PROPOSAL 2:2", "3 PROPOSAL 2:2"]);
    assert_eq!(bench.ack(3, z(2, 0)), ["3 UPTODATE"]);

    // Who takes nothing is given up.
    let mut bench = Bench::serving(z(1, 9), &[]);
    bench.sync(3, Zxid::ZERO);
    bench.snapshot_sent(3, z(1, 1));
    bench.log_read(3, Some(&[z(1, 2)]));
    let said = bench.wait_with(101 * TICK_MS, &[2]);
    let expected = "3 closed: nothing was heard for 100000 ms while sending what is behind a snapshot";
    assert!(said.contains(&expected.to_owned()), "{said:?}");

    // A window of much goes out in parts as well, and what is live behind it.
    let mut bench = Bench::serving(Zxid::ZERO, &[]);
    for _ in 0..5 {
        let zxid = bench.leader.next_zxid(&mut bench.out).unwrap();
        let large = Entry { zxid, txn: vec![7; PART_BYTES / 2].into() };
        bench.history.push(large.clone());
        bench.leader.propose(bench.now, &large, &mut bench.out);
        bench.durable(zxid);
        if zxid < z(2, 5) {
            bench.ack(2, zxid);
        }
    }
    bench.sync(3, Zxid::ZERO);
    let part = ["3 PROPOSAL 2:1", "3 COMMIT 2:1", "3 PROPOSAL 2:2", "3 COMMIT 2:2", "3 awaits drained"];
    assert_eq!(bench.snapshot_sent(3, Zxid::ZERO), part);
    let rest =
        ["3 PROPOSAL 2:3", "3 COMMIT 2:3", "3 PROPOSAL 2:4", "3 COMMIT 2:4", "3 PROPOSAL 2:5", "3 NEWLEADER 2:0"];
    assert_eq!(drained(&mut bench), rest);
}

// 49, 50; 6.2 and 6.4.
#[test]
fn a_quorum_commits_in_order() {
    let mut bench = Bench::serving(Zxid::ZERO, &[]);
    bench.sync(3, Zxid::ZERO);
    assert_eq!(bench.ack(3, z(2, 0)), ["3 UPTODATE"]);
    bench.observe(4);
    bench.hear(4, Packet::AckEpoch { last: Zxid::ZERO, current: Some(0) });
    assert_eq!(bench.ack(4, z(2, 0)), ["4 UPTODATE"]);
    for n in 1..=4 {
        assert_eq!(bench.propose(), [format!("2 PROPOSAL 2:{n}"), format!("3 PROPOSAL 2:{n}")]);
    }
    assert_eq!(bench.ack(2, z(2, 1)), NOTHING);
    assert_eq!(bench.durable(z(2, 1)), ["2 COMMIT 2:1", "3 COMMIT 2:1", "4 INFORM 2:1", "committed 2:1"]);
    // The own disk hangs: the others are a quorum. One ACK stands for all before it.
    assert_eq!(bench.ack(2, z(2, 3)), NOTHING);
    let expected = [
        "2 COMMIT 2:2",
        "3 COMMIT 2:2",
        "4 INFORM 2:2",
        "2 COMMIT 2:3",
        "3 COMMIT 2:3",
        "4 INFORM 2:3",
        "committed 2:3",
    ];
    assert_eq!(bench.ack(3, z(2, 3)), expected);
    assert_eq!(bench.durable(z(2, 3)), NOTHING);
    // 28: an observer's ACK is none, nor is one of what was not proposed, or of an older epoch.
    assert_eq!(bench.durable(z(2, 4)), NOTHING);
    for (link, zxid) in [(4, z(2, 4)), (2, z(2, 5)), (2, z(1, 9)), (2, z(2, 0)), (2, z(2, 3)), (3, z(3, 1))] {
        assert_eq!(bench.ack(link, zxid), NOTHING);
    }
    assert_eq!(bench.ack(2, z(2, 4)), ["2 COMMIT 2:4", "3 COMMIT 2:4", "4 INFORM 2:4", "committed 2:4"]);
}

// design.md D8: two that differ may be right, and the leader wrong.
#[test]
fn the_second_learner_that_differs_is_told_of_the_first() {
    let level = FeatureLevel::CUMULATIVE;
    let mut bench = Bench::serving_by(LeaderRules { level: Some(level), ..rules(3, 2) }, Zxid::ZERO, &[]);
    let join = |bench: &mut Bench, link: u64, server, differs| {
        let info = LearnerInfo { mark: Some(Mark { level, differs }), ..info(server) };
        bench.leader.on_link(bench.now, LinkId(link));
        let said = bench.hear(link, Packet::FollowerInfo { accepted: 1, info });
        said.into_iter().filter(|said| said.contains("LEADERINFO") || said.contains("disputed")).collect::<Vec<_>>()
    };
    // Once, or twice the same, is its own affair.
    assert_eq!(join(&mut bench, 10, 2, true), ["10 LEADERINFO 2"]);
    assert_eq!(join(&mut bench, 11, 2, true), ["11 LEADERINFO 2"]);
    assert_eq!(join(&mut bench, 12, 3, true), ["disputed by [2, 3]", "12 LEADERINFO 2 differs"]);
    // An hour later it is the first again.
    bench.now += 3_600_000;
    assert_eq!(join(&mut bench, 13, 3, true), ["13 LEADERINFO 2"]);
    // Who does not differ has nothing to do with it.
    assert_eq!(join(&mut bench, 14, 2, false), ["14 LEADERINFO 2 differs"]);
}

// design.md D16: a batch has one COMMIT for those who know that it stands for all, one for each transaction for others.
#[test]
fn a_commit_stands_for_all_before_it_among_equals() {
    let level = Some(FeatureLevel::CUMULATIVE);
    let mut bench = Bench::serving_by(LeaderRules { level, ..rules(3, 2) }, Zxid::ZERO, &[]);
    bench.leader.on_link(bench.now, LinkId(3));
    let info = LearnerInfo { mark: level.map(|level| Mark { level, differs: false }), ..info(3) };
    bench.hear(3, Packet::FollowerInfo { accepted: 1, info });
    bench.hear(3, Packet::AckEpoch { last: Zxid::ZERO, current: None });
    assert_eq!(bench.ack(3, z(2, 0)), ["3 UPTODATE"]);
    (1..=3).for_each(|_| drop(bench.propose()));
    bench.durable(z(2, 3));
    let expected = ["2 COMMIT 2:1", "2 COMMIT 2:2", "2 COMMIT 2:3", "3 COMMIT 2:3", "committed 2:3"];
    assert_eq!(bench.ack(3, z(2, 3)), expected);
    // But not past a SYNC.
    bench.propose();
    bench.leader.on_sync(LinkId(3), &mut bench.out);
    (5..=6).for_each(|_| drop(bench.propose()));
    bench.durable(z(2, 6));
    let of_third = |said: Vec<String>| said.into_iter().filter(|said| said.starts_with('3')).collect::<Vec<_>>();
    // Nor before it: what comes behind waits for the quorum that it waits for.
    assert_eq!(of_third(bench.ack(3, z(2, 6))), ["3 COMMIT 2:4"]);
    assert_eq!(of_third(bench.pong(3)), ["3 SYNC", "3 COMMIT 2:6"]);
}

// design.md D16: who makes a quorum with the leader need not wait for the answer to its ACK.
#[test]
fn a_commit_comes_ahead_of_the_ack_that_it_lacks() {
    let join = |bench: &mut Bench, link: u64, server, level, last| {
        bench.leader.on_link(bench.now, LinkId(link));
        let info = LearnerInfo { mark: Some(Mark { level, differs: false }), ..info(server) };
        let mut said = bench.hear(link, Packet::FollowerInfo { accepted: 2, info });
        said.extend(bench.hear(link, Packet::AckEpoch { last, current: None }));
        said.extend(bench.ack(link, z(2, 0)));
        said
    };
    let level = FeatureLevel::AHEAD;
    let rules = |voters| LeaderRules { level: Some(level), ..rules(voters, 0) };
    let mut bench = Bench::serving_by(rules(3), Zxid::ZERO, &[]);
    join(&mut bench, 3, 3, level, Zxid::ZERO);
    // Not before the leader holds it, nor to Java.
    assert_eq!(bench.propose(), ["2 PROPOSAL 2:1", "3 PROPOSAL 2:1"]);
    assert_eq!(bench.durable(z(2, 1)), ["3 COMMIT 2:1"]);
    assert_eq!(bench.ack(3, z(2, 1)), ["2 COMMIT 2:1", "committed 2:1"]);
    // Once, by whomever it is committed.
    bench.propose();
    assert_eq!(bench.ack(2, z(2, 2)), NOTHING);
    assert_eq!(bench.durable(z(2, 2)), ["2 COMMIT 2:2", "3 COMMIT 2:2", "committed 2:2"]);
    assert_eq!(bench.ack(3, z(2, 2)), NOTHING);
    // What follows a sync comes behind its answer.
    bench.propose();
    bench.durable(z(2, 3));
    bench.leader.on_sync(LinkId(3), &mut bench.out);
    bench.took();
    bench.propose();
    assert_eq!(bench.durable(z(2, 4)), NOTHING);
    assert_eq!(bench.ack(3, z(2, 4)), ["2 COMMIT 2:3", "2 COMMIT 2:4", "committed 2:4"]);
    assert_eq!(bench.pong(3)[..2], ["3 SYNC", "3 COMMIT 2:4"]);
    // Who comes back with what it may have applied keeps that, whatever has become of its ACK. What this leader had not yet
    // itself, it can't have applied.
    (5..=6).for_each(|_| drop(bench.propose()));
    assert_eq!(bench.durable(z(2, 5)), ["3 COMMIT 2:5"]);
    bench.close(3);
    let said = join(&mut bench, 30, 3, level, z(2, 6));
    let expected = ["30 LEADERINFO 2", "2 COMMIT 2:5", "committed 2:5", "30 TRUNC 2:5", "30 PROPOSAL 2:6"];
    assert_eq!(said[..5], expected);
    assert_eq!(bench.durable(z(2, 6)), ["30 COMMIT 2:6"]);
    // Whatever level it has then. Java's word for its log proves nothing: it waits until others have what it may have applied.
    bench.close(30);
    let said = join(&mut bench, 31, 3, FeatureLevel(0), z(2, 6));
    assert_eq!(said[..4], ["31 LEADERINFO 2", "2 COMMIT 2:6", "committed 2:6", "31 DIFF 2:6"]);
    bench.close(31);
    join(&mut bench, 32, 3, level, z(2, 6));
    bench.propose();
    assert_eq!(bench.durable(z(2, 7)), ["32 COMMIT 2:7"]);
    bench.close(32);
    let java = |bench: &mut Bench| bench.sync(3, z(2, 7))[0].clone();
    assert_eq!(java(&mut bench), "3 closed: it may have applied 0x200000007, which is not committed here yet");
    bench.ack(2, z(2, 7));
    assert_eq!(java(&mut bench), "3 DIFF 2:7");
    // An epoch's beginning is no transaction.
    let mut bench = Bench::serving_by(rules(3), Zxid::ZERO, &[z(1, 1)]);
    bench.propose();
    bench.durable(z(2, 1));
    assert!(join(&mut bench, 3, 3, level, z(2, 0)).contains(&"3 UPTODATE".to_owned()));
    // Whose level is lower, or who needs others, waits.
    for (voters, level) in [(3, FeatureLevel::CUMULATIVE), (4, level), (5, level)] {
        let mut bench = Bench::elected(rules(voters), Zxid::ZERO, &[]);
        for server in 2..=voters as i64 {
            bench.join(server);
        }
        bench.saved(EpochFile::Accepted, 2);
        for link in 2..=voters as u64 {
            bench.hear(link, Packet::AckEpoch { last: Zxid::ZERO, current: Some(1) });
            bench.ack(link, z(2, 0));
        }
        bench.saved(EpochFile::Current, 2);
        bench.serve();
        join(&mut bench, 20, 2, level, Zxid::ZERO);
        bench.propose();
        assert_eq!(bench.durable(z(2, 1)), NOTHING);
    }
}

// A follower that is in no list, and one that is an observer by the list.
#[test]
fn a_follower_without_a_vote_is_told_everything_and_counts_for_nothing() {
    let mut bench = Bench::serving(Zxid::ZERO, &[]);
    for server in [9, 4] {
        assert_eq!(bench.sync(server, Zxid::ZERO).last().unwrap(), &format!("{server} NEWLEADER 2:0"));
        bench.ack(server as u64, z(2, 0));
    }
    assert_eq!(bench.propose(), ["2 PROPOSAL 2:1", "4 PROPOSAL 2:1", "9 PROPOSAL 2:1"]);
    bench.durable(z(2, 1));
    assert_eq!(bench.ack(9, z(2, 1)), NOTHING);
    assert_eq!(bench.ack(4, z(2, 1)), NOTHING);
    let figures = bench.leader.figures();
    assert_eq!((figures.synced_followers, figures.synced_non_voting_followers), (1, 2));
    assert!(bench.ack(2, z(2, 1)).contains(&"committed 2:1".to_owned()));
}

// 44: 3.8.1 to 3.8.4, 3.9.0 and 3.9.1 (quorum-protocol 0.3).
#[test]
fn an_ack_ahead_of_that_of_newleader_counts_once_that_came() {
    let mut bench = Bench::serving(Zxid::ZERO, &[]);
    bench.propose();
    bench.durable(z(2, 1));
    bench.close(2);
    bench.join(3);
    let said = bench.hear(3, Packet::AckEpoch { last: Zxid::ZERO, current: Some(0) });
    assert_eq!(said, ["3 DIFF 0:0", "3 PROPOSAL 2:1", "3 NEWLEADER 2:0"]);
    assert_eq!(bench.ack(3, z(2, 1)), NOTHING);
    // A Java learner hears no COMMIT between NEWLEADER and UPTODATE (quorum-protocol 10, H18).
    assert_eq!(bench.ack(3, z(2, 0)), ["committed 2:1", "3 UPTODATE", "3 COMMIT 2:1"]);

    let mut bench = Bench::elected(rules(3, 0), Zxid::ZERO, &[z(1, 1)]);
    bench.join(2);
    bench.saved(EpochFile::Accepted, 2);
    bench.hear(2, Packet::AckEpoch { last: Zxid::ZERO, current: Some(0) });
    bench.saved(EpochFile::Current, 2);
    assert_eq!(bench.ack(2, z(1, 1)), NOTHING);
    assert_eq!(bench.ack(2, z(2, 0)), ["established 2"]);
}

// 45: 3.8.5, 3.8.6 and 3.9.2.
#[test]
fn acks_of_history_are_passed_over() {
    let mut bench = Bench::serving(Zxid::ZERO, &[z(1, 1), z(1, 2), z(1, 3)]);
    for zxid in [z(1, 1), z(1, 2), z(1, 3), z(2, 0)] {
        assert_eq!(bench.ack(2, zxid), NOTHING);
    }
    assert_eq!(bench.leader.figures().synced_followers, 1);
}

// 43; 10.2, 1 and 3.
#[test]
fn who_joins_amid_writes_misses_none() {
    let mut bench = Bench::serving(Zxid::ZERO, &[z(1, 1)]);
    bench.propose();
    bench.durable(z(2, 1));
    bench.ack(2, z(2, 1));
    bench.propose();
    let expected = [
        "3 DIFF 2:1",
        "3 PROPOSAL 1:1",
        "3 COMMIT 1:1",
        "3 PROPOSAL 2:1",
        "3 COMMIT 2:1",
        "3 PROPOSAL 2:2",
        "3 NEWLEADER 2:0",
    ];
    assert_eq!(bench.join(3), ["3 LEADERINFO 2"]);
    assert_eq!(bench.hear(3, Packet::AckEpoch { last: Zxid::ZERO, current: Some(1) }), expected);
    assert_eq!(bench.propose(), ["2 PROPOSAL 2:3", "3 PROPOSAL 2:3"]);
    bench.durable(z(2, 3));
    bench.ack(2, z(2, 2));
    assert_eq!(bench.ack(3, z(2, 0)), ["3 UPTODATE", "3 COMMIT 2:2"]);
    assert_eq!(bench.ack(3, z(2, 3)), ["2 COMMIT 2:3", "3 COMMIT 2:3", "committed 2:3"]);
    // An observer learns of what is outstanding when it commits.
    bench.propose();
    bench.observe(4);
    let said = bench.hear(4, Packet::AckEpoch { last: z(2, 3), current: Some(1) });
    assert_eq!(said, ["4 DIFF 2:3", "4 NEWLEADER 2:0"]);
    bench.durable(z(2, 4));
    assert!(bench.ack(3, z(2, 4)).contains(&"4 INFORM 2:4".to_owned()));
}

/// Five servers, so that an ACK can be counted without committing. Server 2 acknowledges 2:1 and comes back: its
/// log is cut to what is committed, so until it acknowledges again it does not hold 2:1. Java counts the old ACK.
#[test]
fn an_ack_on_an_old_link_is_forgotten() {
    let mut bench = Bench::elected(rules(5, 0), Zxid::ZERO, &[z(1, 1)]);
    for server in [2, 3, 4] {
        bench.join(server);
    }
    bench.saved(EpochFile::Accepted, 2);
    for link in [2, 3, 4] {
        bench.hear(link, Packet::AckEpoch { last: z(1, 1), current: Some(1) });
    }
    for link in [2, 3, 4] {
        bench.ack(link, z(2, 0));
    }
    bench.saved(EpochFile::Current, 2);
    bench.serve();
    bench.propose();
    bench.durable(z(2, 1));
    assert_eq!(bench.ack(2, z(2, 1)), NOTHING);
    bench.leader.on_link(0, LinkId(20));
    let said = bench.hear(20, Packet::FollowerInfo { accepted: 2, info: info(2) });
    assert_eq!(said, ["2 closed: server 2 has a new link", "from 2: gone", "20 LEADERINFO 2"]);
    let said = bench.hear(20, Packet::AckEpoch { last: z(2, 1), current: None });
    assert_eq!(said, ["20 TRUNC 1:1", "20 PROPOSAL 2:1", "20 NEWLEADER 2:0"]);
    assert_eq!(bench.ack(3, z(2, 1)), NOTHING);
    bench.ack(20, z(2, 0));
    assert!(bench.ack(20, z(2, 1)).contains(&"committed 2:1".to_owned()));
}

// 19, 46; 6.8.
#[test]
fn pings_keep_a_link_and_only_with_data() {
    let mut bench = Bench::serving(Zxid::ZERO, &[]);
    bench.sync(3, Zxid::ZERO);
    // Link 3 has got NEWLEADER: it is pinged, and not expected to answer.
    assert_eq!(bench.wait(TICK_MS / 2), ["2 PING 2:0", "3 PING 2:0"]);
    assert_eq!(bench.wait_with(4 * TICK_MS, &[2]), NOTHING);
    let touched = vec![Touched { session: 7, timeout_ms: 1000 }];
    assert_eq!(bench.hear(2, Packet::Ping { zxid: z(2, 0), touched: Some(touched) }), ["from 2: touched"]);
    let said = bench.hear(2, Packet::Ping { zxid: z(2, 0), touched: None });
    assert_eq!(said, ["2 closed: a PING of a learner without data", "from 2: gone"]);
}

#[test]
fn who_is_silent_is_sent_away() {
    let mut bench = Bench::serving(Zxid::ZERO, &[]);
    bench.leader.on_link(0, LinkId(7));
    bench.sync(3, Zxid::ZERO);
    let said = bench.wait_with(10 * TICK_MS, &[2]);
    let expected = [
        "3 closed: nothing was heard for 10000 ms while expecting the ACK of NEWLEADER",
        "from 3: gone",
        "7 closed: nothing was heard for 10000 ms while expecting FOLLOWERINFO or OBSERVERINFO",
    ];
    assert_eq!(said, expected);
}

// 47.
#[test]
fn who_answers_and_does_not_log_is_sent_away() {
    let mut bench = Bench::serving(Zxid::ZERO, &[]);
    bench.sync(3, Zxid::ZERO);
    bench.ack(3, z(2, 0));
    for n in 1..=3 {
        bench.propose();
        bench.durable(z(2, n));
        bench.ack(2, z(2, n));
        bench.wait_with(TICK_MS, &[2, 3]);
    }
    let said = bench.wait_with(3 * TICK_MS, &[2, 3]);
    assert_eq!(said[0], "3 closed: nothing was heard for 5000 ms while waiting for the ACK of a proposal");
    // Who acknowledges the newest has acknowledged all.
    let said = bench.wait_with(10 * TICK_MS, &[2]);
    assert_eq!(said, NOTHING);
}

// 48.
#[test]
fn a_leader_without_synced_followers_stops() {
    let mut bench = Bench::serving(Zxid::ZERO, &[]);
    bench.wait_with(20 * TICK_MS, &[2]);
    assert_eq!(bench.close(2), ["from 2: gone"]);
    let said = bench.wait(TICK_MS);
    assert_eq!(said, ["failed: not sufficient followers synced, only synced with sids: [ 1 ]"]);
    // Nothing is said or done after that.
    bench.leader.on_link(bench.now, LinkId(3));
    assert_eq!(bench.hear(3, Packet::FollowerInfo { accepted: 1, info: info(3) }), NOTHING);
    assert_eq!(bench.leader.next_zxid(&mut bench.out), None);
    assert_eq!(bench.durable(z(2, 1)), NOTHING);

    // An observer does not help, however lively it is.
    let mut bench = Bench::serving(Zxid::ZERO, &[]);
    bench.observe(4);
    bench.hear(4, Packet::AckEpoch { last: Zxid::ZERO, current: Some(1) });
    bench.ack(4, z(2, 0));
    let said = bench.wait_with(7 * TICK_MS, &[4]);
    assert_eq!(said[0], "2 closed: nothing was heard for 5000 ms while leading");
    assert_eq!(said.last().unwrap(), "failed: not sufficient followers synced, only synced with sids: [ 1 ]");
}

// 25.
#[test]
fn unknown_packets_are_passed_over() {
    let mut bench = Bench::serving(Zxid::ZERO, &[]);
    bench.sync(3, Zxid::ZERO);
    for link in [2, 3] {
        assert_eq!(bench.hear(link, Packet::Unknown { op: 99 }), NOTHING);
    }
    // Java's leader passes over what only a leader says, too.
    assert_eq!(bench.hear(2, Packet::Commit { zxid: z(2, 1) }), NOTHING);
    assert_eq!(bench.leader.figures().learners, 2);
}

// 6.6, 6.7.
#[test]
fn a_sync_is_answered_when_what_was_proposed_is_committed() {
    let mut bench = Bench::serving(Zxid::ZERO, &[]);
    let request = Forwarded { session: 1, cxid: 1, op: 9, body: Bytes::new(), identities: None };
    assert_eq!(bench.hear(2, Packet::Request(request)), ["from 2: request"]);
    let sync = |bench: &mut Bench, link| {
        bench.leader.on_sync(LinkId(link), &mut bench.out);
        bench.took()
    };
    // Whether a quorum still follows is asked first: else another leader may have told others more.
    assert_eq!(sync(&mut bench, 2), ["2 PING 2:0"]);
    assert_eq!(bench.pong(2), ["2 SYNC", "from 2: touched"]);
    bench.propose();
    assert_eq!(sync(&mut bench, 2), ["2 PING 2:1"]);
    bench.propose();
    // A question that is on its way may have been asked too soon; the next one is for all who come until then.
    assert_eq!([sync(&mut bench, 2), sync(&mut bench, 2)], [NOTHING, NOTHING]);
    assert_eq!(bench.pong(2), ["2 PING 2:2", "from 2: touched"]);
    assert_eq!(bench.pong(2), ["from 2: touched"]);
    assert_eq!(bench.leader.figures().pending_syncs, 3);
    bench.durable(z(2, 2));
    // Each stands right behind the COMMIT that it waits for, also if one ACK commits them all.
    let expected = ["2 COMMIT 2:1", "2 SYNC", "2 COMMIT 2:2", "2 SYNC", "2 SYNC", "committed 2:2"];
    assert_eq!(bench.ack(2, z(2, 2)), expected);
    // A PING that nobody has answered is no answer; the next that everybody is sent asks again.
    let mut bench = Bench::serving(Zxid::ZERO, &[]);
    bench.sync(3, Zxid::ZERO);
    assert_eq!(bench.ack(3, z(2, 0)), ["3 UPTODATE"]);
    assert_eq!(sync(&mut bench, 2), ["2 PING 2:0", "3 PING 2:0"]);
    bench.close(3);
    assert_eq!(bench.wait(TICK_MS / 2), ["2 PING 2:0"]);
    assert_eq!(bench.pong(2), ["2 SYNC", "from 2: touched"]);
    bench.propose();
    sync(&mut bench, 2);
    bench.close(2);
    assert_eq!(bench.leader.figures().pending_syncs, 0);
    assert_eq!(sync(&mut bench, 2), NOTHING);
}

#[test]
fn sessions_of_learners_are_asked_for() {
    let mut bench = Bench::serving(Zxid::ZERO, &[]);
    assert_eq!(bench.hear(2, Packet::Revalidate { session: 5, timeout_ms: 9 }), ["from 2: revalidate"]);
    bench.leader.send(LinkId(2), Packet::Revalidated { session: 5, valid: true }, &mut bench.out);
    bench.leader.send(LinkId(3), Packet::Revalidated { session: 5, valid: true }, &mut bench.out);
    assert_eq!(bench.took(), ["2 REVALIDATE"]);
}

// 64.
#[test]
fn the_end_of_an_epochs_counter_ends_the_leadership() {
    let mut bench = Bench::serving(Zxid::ZERO, &[]);
    bench.leader.pass_by(u32::MAX - 2);
    bench.history.reset(z(2, u32::MAX - 2));
    assert_eq!(bench.propose(), [format!("2 PROPOSAL 2:{}", u32::MAX - 1)]);
    assert_eq!(bench.leader.next_zxid(&mut bench.out), None);
    let why = "the epoch's transactions are used up";
    assert_eq!(bench.took(), [format!("2 closed: {why}"), format!("failed: {why}")]);
}

// 5.6, at its end. What calls itself a follower and is no member has no better right than an observer.
#[test]
fn only_voters_do_not_wait_for_others_syncs() {
    let one = LeaderRules { max_concurrent_snap_syncs: 1, max_concurrent_diff_syncs: 1, ..rules(3, 2) };
    let mut bench = Bench::serving_by(one, Zxid::ZERO, &[z(1, 1)]);
    assert_eq!(bench.sync(3, Zxid::ZERO), ["3 snapshot"]);
    let refused =
        |link| [format!("{link} closed: too many concurrent syncs: 1 are allowed"), format!("from {link}: gone")];
    assert_eq!(bench.sync(9, Zxid::ZERO), refused(9));
    bench.observe(4);
    let said = bench.hear(4, Packet::AckEpoch { last: Zxid::ZERO, current: None });
    assert_eq!(said, refused(4));
    assert_eq!(bench.sync(8, z(1, 1)), ["8 DIFF 1:1", "8 NEWLEADER 2:0"]);
    bench.observe(5);
    let said = bench.hear(5, Packet::AckEpoch { last: z(1, 1), current: None });
    assert_eq!(said, refused(5));
    // A sync lasts until it is acknowledged.
    bench.ack(8, z(2, 0));
    bench.observe(5);
    assert_eq!(bench.hear(5, Packet::AckEpoch { last: z(1, 1), current: None }), ["5 DIFF 1:1", "5 NEWLEADER 2:0"]);
}

// However long the snapshot takes: Java waits for the answer only when the last byte is out.
#[test]
fn the_time_to_deal_with_a_snapshot_begins_when_it_was_taken() {
    let mut bench = Bench::serving(Zxid::ZERO, &[z(1, 1)]);
    assert_eq!(bench.sync(3, Zxid::ZERO), ["3 snapshot"]);
    bench.snapshot_sent(3, z(1, 1));
    for _ in 0..5 {
        assert_eq!(bench.wait_with(9 * TICK_MS, &[2]), NOTHING);
        bench.leader.on_progress(bench.now, LinkId(3));
    }
    assert_eq!(bench.wait_with(9 * TICK_MS, &[2]), NOTHING);
    let said = bench.wait_with(2 * TICK_MS, &[2]);
    assert!(
        said[0].starts_with("3 closed: nothing was heard"),
        "it has the whole snapshot, and says nothing: {said:?}"
    );
}

// A link holds so much at most, and what is sent piece by piece must find room on it.
#[test]
fn who_lacks_more_than_a_link_holds_gets_a_snapshot() {
    let history = [z(1, 1), z(1, 2), z(1, 3)];
    let each = entry(z(1, 1)).txn.len();
    let rules = LeaderRules { max_diff_bytes: each, ..rules(3, 2) };
    let mut bench = Bench::serving_by(rules, Zxid::ZERO, &history);
    assert_eq!(bench.sync(3, z(1, 1)), ["3 snapshot"]);
    assert_eq!(bench.snapshot_sent(3, z(1, 3))[0], "3 NEWLEADER 2:0", "it repeats nothing of that");
    assert_eq!(bench.sync(9, z(1, 2))[0], "9 DIFF 1:3");
}

#[test]
fn a_learner_that_speaks_out_of_turn_is_sent_away() {
    let mut bench = Bench::elected(rules(3, 0), Zxid::ZERO, &[]);
    bench.leader.on_link(0, LinkId(9));
    bench.hear(9, Packet::ObserverInfo { accepted: 1, info: info(9) });
    let said = bench.ack(9, z(1, 0));
    assert_eq!(said[0], "9 closed: got ACK while expecting nothing while the learner has to wait");
    bench.join(2);
    bench.saved(EpochFile::Accepted, 2);
    assert_eq!(bench.ack(2, z(2, 0))[0], "2 closed: got ACK while expecting ACKEPOCH");
    let mut bench = Bench::serving(Zxid::ZERO, &[]);
    bench.sync(3, Zxid::ZERO);
    let ping = Packet::Ping { zxid: z(2, 0), touched: Some(Vec::new()) };
    assert_eq!(bench.hear(3, ping)[0], "3 closed: got PING while expecting ACK of NEWLEADER");
}
