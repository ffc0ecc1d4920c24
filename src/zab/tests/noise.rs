//! Packets that nobody sane would send, in any order: a link or a role ends, and nothing panics.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::super::history::History;
use super::super::leader::{Leader, LeaderRules};
use super::super::learner::{Learner, LearnerRules, Want};
use super::super::packet::{FeatureLevel, LearnerInfo, Mark, Packet};
use super::super::{Effect, Entry};
use super::seeds::Random;
use super::show::membership;
use crate::config::Role;
use crate::id::{LinkId, Zxid};
use crate::storage::epoch::{EpochFile, Epochs};

fn zxid(random: &mut Random) -> Zxid {
    match random.below(30) {
        0 => Zxid(-1),
        1 => Zxid(i64::MIN),
        2 => Zxid(i64::MAX),
        3 => Zxid(random.next() as i64),
        _ => Zxid::new(random.below(4) as u32, random.below(4) as u32),
    }
}

fn epoch(random: &mut Random) -> i64 {
    match random.below(100) {
        0 => i64::from(i32::MAX),
        1 => i64::from(i32::MIN),
        2 => -1,
        _ => random.below(4) as i64,
    }
}

fn mark(random: &mut Random) -> Option<Mark> {
    let mark = Mark { level: FeatureLevel(random.below(3) as u32), differs: random.one_in(2) };
    random.one_in(4).then_some(mark)
}

fn packet(random: &mut Random) -> Packet {
    let info = LearnerInfo {
        server: (!random.one_in(20)).then(|| random.below(6) as i64),
        protocol: if random.one_in(20) { 1 } else { 0x10000 },
        config_version: i64::from(random.one_in(50)),
        mark: mark(random),
    };
    let txn = Bytes::from_static(b"txn");
    let touched = (!random.one_in(10)).then(Vec::new);
    let current = (!random.one_in(3)).then(|| epoch(random));
    let zxid = zxid(random);
    match random.below(24) {
        0..=2 => Packet::FollowerInfo { accepted: epoch(random), info },
        3 => Packet::ObserverInfo { accepted: epoch(random), info },
        4 => Packet::LeaderInfo { epoch: epoch(random), mark: mark(random) },
        5 | 6 => Packet::AckEpoch { last: zxid, current },
        7 => Packet::Diff { zxid },
        8 => Packet::Trunc { zxid },
        9 => Packet::Snap { zxid },
        10..=12 => Packet::Proposal { zxid, txn },
        13..=15 => Packet::Ack { zxid },
        16 => Packet::Commit { zxid },
        17 => Packet::Inform { zxid, txn },
        18 => Packet::NewLeader { zxid, config: Some(Bytes::from_static(b"\xff\nversion=zz")) },
        19 => Packet::UpToDate,
        20 => Packet::Ping { zxid, touched },
        21 => Packet::Revalidate { session: 1, timeout_ms: 1 },
        22 => Packet::Sync,
        _ => Packet::Unknown { op: 77 },
    }
}

#[test]
fn a_leader_survives_any_packets() {
    let (mut established, mut live) = (0, 0);
    for seed in 0..3000 {
        let mut random = Random(seed);
        let mut history = History::new(Zxid::ZERO);
        for n in 1..=random.below(4) as u32 {
            history.push(Entry { zxid: Zxid::new(1, n), txn: Bytes::new() });
        }
        let rules = LeaderRules {
            me: 1,
            tick_ms: 100,
            init_limit_ticks: 10,
            sync_limit_ticks: 5,
            membership: membership(3, 1),
            config_text: Bytes::new(),
            level: random.one_in(2).then_some(FeatureLevel::AHEAD),
            force_snapshot: false,
            sync_from_log: random.one_in(2),
            max_concurrent_snap_syncs: 1,
            max_concurrent_diff_syncs: 1,
            max_diff_bytes: usize::MAX,
        };
        let mut out = Vec::new();
        let epochs = Epochs { accepted: 1, current: 1, was_raised: false };
        let mut leader = Leader::new(rules, 0, epochs, history.last(), &mut out);
        let (mut now, mut links) = (0, 0);
        let mut log = history.last();
        let mut said = BTreeMap::new();
        let mut asked = BTreeSet::new();
        for _ in 0..150 {
            let link = LinkId(random.below(links + 1));
            let mut saves: Vec<(EpochFile, i64)> = Vec::new();
            for effect in out.drain(..) {
                match effect {
                    Effect::SaveEpoch { file, epoch } => saves.push((file, epoch)),
                    Effect::Established { .. } => established += 1,
                    Effect::Send { packet: Packet::UpToDate, .. } => live += 1,
                    Effect::Send { link, packet } => {
                        asked.insert((link, packet.name()));
                    }
                    _ => {}
                }
            }
            for (file, epoch) in saves {
                leader.on_epoch_saved(now, file, epoch, &history, &mut out);
            }
            match random.below(20) {
                0 => {
                    links += 1;
                    leader.on_link(now, LinkId(links));
                }
                // What a learner in its right mind says next.
                1..=6 => {
                    let said = said.entry(link).or_insert(0);
                    let info = LearnerInfo {
                        server: Some(link.0 as i64 + 1),
                        protocol: 0x10000,
                        config_version: 0,
                        mark: link.0.is_multiple_of(2).then_some(Mark { level: FeatureLevel::AHEAD, differs: false }),
                    };
                    let word = match said {
                        0 => Packet::FollowerInfo { accepted: 1, info },
                        1 => Packet::AckEpoch { last: history.first_behind(), current: Some(0) },
                        2 => Packet::Ack { zxid: Zxid(leader.epoch() << 32) },
                        _ => Packet::Ack { zxid: log },
                    };
                    // Once it was asked.
                    let may = match said {
                        0 => true,
                        1 => asked.contains(&(link, "LEADERINFO")),
                        _ => asked.contains(&(link, "NEWLEADER")),
                    };
                    if may {
                        *said += 1;
                        leader.on_packet(now, link, word, &history, &mut out);
                    }
                }
                7 => leader.on_closed(link, &mut out),
                8 => {
                    now += random.below(100) as i64;
                    leader.on_time(now, &mut out);
                }
                9 => leader.on_serving(now, &mut out),
                10 if leader.is_established() => {
                    let next = leader.next_zxid(&mut out).expect("a short epoch");
                    let entry = Entry { zxid: next, txn: Bytes::new() };
                    history.push(entry.clone());
                    leader.propose(now, &entry, &mut out);
                    log = next;
                }
                11 if leader.is_established() => leader.on_durable(log, &mut out),
                12 => leader.on_snapshot_sent(now, link, history.first_behind(), &history, &mut out),
                13 => leader.on_log_read(now, link, None, &history, &mut out),
                16 => leader.on_drained(now, link, &history, &mut out),
                14 => leader.on_sync(link, &mut out),
                15 => leader.on_packet(now, link, packet(&mut random), &history, &mut out),
                _ => {}
            }
            assert!(leader.next_deadline().is_none_or(|deadline| deadline > now - 300), "a deadline long past");
        }
    }
    assert!(established > 100 && live > 100, "{established} established, {live} live");
}

#[test]
fn a_learner_survives_any_packets() {
    let mut serving = 0;
    for seed in 0..10_000 {
        let mut random = Random(seed);
        let role = if random.one_in(4) { Role::Observer } else { Role::Participant };
        let rules = LearnerRules {
            me: 2,
            role,
            tick_ms: 100,
            init_limit_ticks: 10,
            sync_limit_ticks: 5,
            connect_limit_ticks: 5,
            config_version: 0,
            level: None,
        };
        let want = if random.one_in(4) { Want::Snapshot } else { Want::Cheapest };
        let mut out = Vec::new();
        let epochs = Epochs { accepted: 1, current: 1, was_raised: false };
        let mut learner = Learner::new(rules, 0, 1, LinkId(1), epochs, Zxid::new(1, 2), want, &mut out);
        learner.on_connected(0, &mut out);
        let mut step = 0;
        for _ in 0..60 {
            let effects: Vec<Effect> = std::mem::take(&mut out);
            for effect in effects {
                match effect {
                    Effect::SaveEpoch { file, epoch } => learner.on_epoch_saved(0, file, epoch, &mut out),
                    Effect::Append(entry) => learner.on_durable(0, entry.zxid, &mut out),
                    Effect::Truncate { target } => {
                        learner.on_truncated(0, (!random.one_in(5)).then_some(target), &mut out);
                    }
                    Effect::Install { upto, rest, .. } => {
                        let last = rest.last().map_or(upto, |entry| entry.zxid);
                        learner.on_installed(0, last, &mut out);
                    }
                    Effect::Serve { .. } => serving += 1,
                    _ => {}
                }
            }
            let next = Zxid(learner.last().0.wrapping_add(1));
            let (word, then) = match (step, random.below(5)) {
                (0, _) => (Packet::LeaderInfo { epoch: 2, mark: None }, 1),
                (1, 0) => (Packet::Trunc { zxid: Zxid::new(1, 1) }, 2),
                (1, 1) => (Packet::Snap { zxid: zxid(&mut random) }, 2),
                (1, _) => (Packet::Diff { zxid: next }, 2),
                (2 | 3, 0) => (Packet::Proposal { zxid: next, txn: Bytes::new() }, step),
                (2 | 3, 1) => (Packet::Commit { zxid: learner.last() }, step),
                (2, _) => (Packet::NewLeader { zxid: Zxid(learner.epoch() << 32), config: None }, 3),
                (3, _) => (Packet::UpToDate, 4),
                _ => (packet(&mut random), 4),
            };
            step = then;
            let word = if random.one_in(15) { packet(&mut random) } else { word };
            learner.on_packet(0, word, &mut out);
        }
    }
    assert!(serving > 1000, "{serving}");
}
