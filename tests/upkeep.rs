//! Epoch files, purging, truncation, overrides and other things that are done to a data directory.

mod support;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use support::sim::{Fate, Random, SimDisk, World};
use support::trees;
use zooid::acl::Acl;
use zooid::id::{SessionId, Zxid};
use zooid::journal;
use zooid::storage::epoch::{self, EpochFile, Epochs};
use zooid::storage::image::{Keeper, Progress};
use zooid::storage::purge::{Purged, Purger};
use zooid::storage::schedule::SnapshotSchedule;
use zooid::storage::{
    ForceSync, Image, LogOptions, LogWriter, Notice, Options, Pace, Recovered, Refusal, StorageError, Trunc, recover,
    trunc,
};
use zooid::tree::snapshot::Compression;
use zooid::txn::{Create, CreateKind, Header, Txn, write_logged};

const LOG: LogOptions = LogOptions { preallocate: 8192, size_limit: None, force_sync: ForceSync::Yes };

fn open(world: &World) -> Result<Recovered, StorageError> {
    recover(&world.disks(), &world.image, &Options::default())
}

fn refusal(result: Result<Recovered, StorageError>) -> Refusal {
    match result {
        Err(StorageError::Refused(refusal)) => *refusal,
        Err(other) => panic!("{other}"),
        Ok(recovered) => panic!("it opens {}", recovered.last_zxid),
    }
}

fn create(zxid: i64, kind: CreateKind, data: &[u8]) -> (Header, Txn) {
    let header = Header { session: SessionId(0x55), cxid: 1, zxid: Zxid(zxid), time: 1000 };
    let create = Create {
        kind,
        path: format!("/n{zxid}").into(),
        data: Some(Bytes::copy_from_slice(data)),
        acl: Some(Acl::open()),
        parent_cversion: -1,
    };
    (header, Txn::Create(create))
}

fn records(zxids: std::ops::RangeInclusive<i64>, data: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    for zxid in zxids {
        let (header, txn) = create(zxid, CreateKind::Create { ephemeral: false }, data);
        journal::write_record(&header, &txn, None, journal::PAYLOAD_MAX, &mut out).unwrap();
    }
    out
}

/// Logs creates in files that begin with the given zxids, and ends with the last.
fn log(world: &World, starts: &[i64], last: i64) {
    let recovered = open(world).unwrap();
    let mut writer = LogWriter::new(world.log.clone(), &recovered.log, LOG);
    for (at, start) in starts.iter().enumerate() {
        let end = starts.get(at + 1).map_or(last, |next| next - 1);
        writer.append(Zxid(*start), Zxid(end), &records(*start..=end, b"data")).unwrap();
        writer.roll().unwrap();
    }
}

/// Writes the snapshot of what a start finds, as a server does.
fn snapshot(world: &World) {
    let mut recovered = open(world).unwrap();
    world.image.open().unwrap();
    let mut keeper = Keeper::new(0, &recovered, 0);
    let mut capture = keeper.begin();
    while capture.take(&mut recovered.tree) == Progress::More {}
    let batch = keeper.finish(capture, &mut recovered.tree).ok().unwrap();
    world.image.write(&batch).unwrap();
    if let Some(job) = keeper.begin_snapshot(&world.image, Compression::Plain).unwrap() {
        let id = job.write(&world.snap, Pace::Hurried).unwrap();
        keeper.finish_snapshot(&world.image, &world.snap, id).unwrap();
    }
}

// ---- epoch files (on-disk 1.2) ----

fn epochs(files: &[(&str, &str)], last: i64) -> (Result<Epochs, StorageError>, SimDisk) {
    let world = World::new();
    for (name, text) in files {
        world.snap.put(name, text.as_bytes());
    }
    (epoch::load(&world.snap, Zxid(last)), world.snap.clone())
}

fn text(disk: &SimDisk, name: &str) -> String {
    String::from_utf8(disk.content(name).unwrap()).unwrap()
}

// 23
#[test]
fn missing_epoch_files_are_made_from_the_log() {
    let (loaded, disk) = epochs(&[], 0x2_0000_0001);
    assert_eq!(loaded, Ok(Epochs { accepted: 2, current: 2, was_raised: false }));
    assert_eq!((text(&disk, "currentEpoch"), text(&disk, "acceptedEpoch")), ("2".into(), "2".into()));
    let (loaded, _) = epochs(&[("acceptedEpoch", "7"), ("currentEpoch", "5\n")], 0x2_0000_0001);
    assert_eq!(loaded, Ok(Epochs { accepted: 7, current: 5, was_raised: false }));
}

// 21, 22
#[test]
fn a_current_epoch_behind_the_log_is_raised_if_that_epoch_was_accepted() {
    let (loaded, disk) = epochs(&[("acceptedEpoch", "3"), ("currentEpoch", "2")], 0x3_0000_0005);
    assert_eq!(loaded, Ok(Epochs { accepted: 3, current: 3, was_raised: true }));
    assert_eq!(text(&disk, "currentEpoch"), "3");
    let (loaded, disk) = epochs(&[("acceptedEpoch", "2"), ("currentEpoch", "2")], 0x3_0000_0005);
    let message = loaded.unwrap_err().to_string();
    assert!(message.starts_with("The current epoch, 2, is older than the last zxid, 12884901893"), "{message}");
    assert_eq!(text(&disk, "currentEpoch"), "2");
}

// 24
#[test]
fn an_unfinished_write_counts_only_if_it_makes_sense() {
    for (tmp, current) in [("", 3), ("x", 3), ("0", 3), ("4", 4), ("9", 3)] {
        let files = [("acceptedEpoch", "5"), ("currentEpoch", "2"), ("currentEpoch.tmp", tmp)];
        assert_eq!(epochs(&files, 0x3_0000_0005).0.unwrap().current, current, "{tmp:?}");
    }
}

// 25, 73
#[test]
fn unreadable_or_contradicting_epochs_are_refused() {
    for (content, found) in [("", "null"), ("abc", "abc"), ("2 ", "2 "), (" 2", " 2")] {
        let (loaded, _) = epochs(&[("acceptedEpoch", "5"), ("currentEpoch", content)], 0x3_0000_0005);
        let message = loaded.unwrap_err().to_string();
        assert!(message.starts_with(&format!("Found {found} in /data/version-2/currentEpoch")), "{message}");
        assert!(message.contains("allows 3"), "{message}");
    }
    let (loaded, _) = epochs(&[("acceptedEpoch", "2"), ("currentEpoch", "9")], 0x2_0000_0005);
    assert_eq!(loaded.unwrap_err().to_string(), "The accepted epoch, 2 is less than the current epoch, 9");
}

// 24
#[test]
fn an_epoch_is_old_or_new_whenever_the_power_goes() {
    for at in 0..6 {
        for (fate, chance) in [(Fate::Kept, 1), (Fate::Lost, 1), (Fate::Torn, 1), (Fate::Torn, 2)] {
            let world = World::new();
            epoch::save(&world.snap, EpochFile::Accepted, 6).unwrap();
            epoch::save(&world.snap, EpochFile::Current, 6).unwrap();
            world.blow_after(at);
            let saved = epoch::save(&world.snap, EpochFile::Accepted, 17);
            world.crash(fate, &mut Random(chance));
            let loaded = epoch::load(&world.snap, Zxid::new(6, 1)).unwrap();
            assert!(loaded.accepted == 17 || saved.is_err() && loaded.accepted == 6, "{at} {fate:?}");
        }
    }
}

// ---- purging (on-disk 5.2) ----

/// Five snapshots and as many logs.
fn grown() -> World {
    let world = World::new();
    for start in [1, 11, 21, 31, 41] {
        log(&world, &[start], start + 9);
        snapshot(&world);
    }
    assert_eq!(world.snap.names().len(), 6);
    world
}

fn purge(world: &World, retain: usize) -> Purged {
    let plan = Purger::default().plan(&world.log, &world.snap, retain).unwrap();
    plan.carry_out(&world.log, &world.snap).unwrap()
}

// 88
#[test]
fn a_purge_keeps_what_the_retained_snapshots_need_and_every_unknown_name() {
    let world = grown();
    for name in ["log.zz", "log.1.bak", "snapshot.zz", "snapshot.1.tmp", "aside.log.1", "readme"] {
        let disk = if name.starts_with("snap") { &world.snap } else { &world.log };
        disk.put(name, b"x");
    }
    let purged = purge(&world, 1);
    assert_eq!(purged.removed, ["snapshot.0", "snapshot.a", "snapshot.14", "log.1", "log.b"]);
    assert_eq!(world.snap.names(), ["snapshot.1.tmp", "snapshot.1e", "snapshot.28", "snapshot.32", "snapshot.zz"]);
    assert_eq!(
        world.log.names(),
        ["aside.log.1", "durable.zooid", "log.1.bak", "log.15", "log.1f", "log.29", "log.zz", "readme"]
    );
    for newer in ["snapshot.32", "snapshot.28"] {
        world.snap.delete(newer);
        assert_eq!(open(&world).unwrap().last_zxid, Zxid(50));
    }
}

// 19
#[test]
fn a_snapshot_that_does_not_read_is_not_counted() {
    let world = grown();
    for name in ["snapshot.32", "snapshot.28"] {
        world.snap.edit(name, |file| file[300] ^= 1);
    }
    let purged = purge(&world, 3);
    assert_eq!(purged.unusable.len(), 2);
    assert_eq!(purged.removed, ["snapshot.0"]);
    assert_eq!(open(&world).unwrap().last_zxid, Zxid(50));
}

#[test]
fn nothing_goes_once_the_oldest_that_was_to_stay_is_gone() {
    let world = grown();
    let plan = Purger::default().plan(&world.log, &world.snap, 3).unwrap();
    world.snap.delete("snapshot.1e");
    let (logs, snapshots) = (world.log.names(), world.snap.names());
    let purged = plan.carry_out(&world.log, &world.snap).unwrap();
    assert!(purged.kept_all.is_some() && purged.removed.is_empty(), "{purged:?}");
    assert_eq!((world.log.names(), world.snap.names()), (logs, snapshots));
}

#[test]
fn a_log_with_a_gap_is_not_purged() {
    let world = grown();
    world.log.delete("log.29");
    world.log.put("log.33", &{
        let mut file = journal::file_header().to_vec();
        file.extend_from_slice(&records(0x33..=0x34, b"x"));
        file
    });
    let purged = purge(&world, 3);
    assert!(purged.kept_all.is_some() && purged.removed.is_empty(), "{purged:?}");
}

// 32
#[test]
fn a_snapshot_that_cannot_be_written_leaves_nothing_behind() {
    let world = World::new();
    log(&world, &[1], 10);
    let recovered = open(&world).unwrap();
    let mut keeper = Keeper::new(0, &recovered, 0);
    let mut tree = recovered.tree;
    let mut capture = keeper.begin();
    while capture.take(&mut tree) == Progress::More {}
    let batch = keeper.finish(capture, &mut tree).ok().unwrap();
    world.image.write(&batch).unwrap();
    let job = keeper.begin_snapshot(&world.image, Compression::Gz).unwrap().unwrap();
    world.blow_after(2);
    assert!(job.write(&world.snap, Pace::Hurried).is_err());
    world.crash(Fate::Kept, &mut Random(1));
    assert_eq!(open(&world).unwrap().last_zxid, Zxid(10));
    assert_eq!(world.snap.names(), ["snapshot.0"]);
}

#[test]
fn a_snapshot_that_is_given_up_ends_with_its_first_piece() {
    let world = World::new();
    let recovered = open(&world).unwrap();
    let mut writer = LogWriter::new(world.log.clone(), &recovered.log, LOG);
    writer.append(Zxid(1), Zxid(4), &records(1..=4, &vec![7; 1 << 20])).unwrap();
    writer.sync().unwrap();
    let (mut recovered, pieces) = (open(&world).unwrap(), Cell::new(0));
    let mut keeper = Keeper::new(0, &recovered, 0);
    let mut capture = keeper.begin();
    while capture.take(&mut recovered.tree) == Progress::More {}
    let batch = keeper.finish(capture, &mut recovered.tree).ok().unwrap();
    world.image.write(&batch).unwrap();
    let job = keeper.begin_snapshot(&world.image, Compression::Plain).unwrap().unwrap();
    let count = |go_on| {
        pieces.set(pieces.get() + 1);
        go_on
    };
    let error = job.write(&world.snap, Pace::Leisurely(&|| count(false))).unwrap_err();
    assert!(error.to_string().contains("it is not wanted any more"), "{error}");
    assert_eq!((pieces.take(), world.snap.names()), (1, vec!["snapshot.0".to_owned()]));
    job.write(&world.snap, Pace::Leisurely(&|| count(true))).unwrap();
    assert!(pieces.get() >= 3, "{} pieces of 4 MiB", pieces.get());
}

// Whoever has failed once is filled at once when it is empty, however long the server has run.
#[test]
fn an_image_that_was_emptied_is_due_at_once() {
    let world = World::new();
    let mut keeper = Keeper::new(0, &open(&world).unwrap(), 0);
    keeper.on_written(1000, 3_600_000, 3_600_500);
    assert!(keeper.next_write(1, 1) > 3_600_600);
    keeper.on_emptied();
    assert!(keeper.next_write(1, 1) <= 3_600_500);
    assert!(keeper.next_write(0, 0) <= 3_600_500);
}

#[test]
fn the_image_is_flushed_once_writes_have_ceased() {
    let world = World::new();
    let mut keeper = Keeper::new(0, &open(&world).unwrap(), 0);
    assert!(!keeper.on_written(1000, 0, 0) && !keeper.is_quiet(50_000), "so little may stay where it is");
    assert!(!keeper.on_written(2 << 20, 0, 100));
    assert!(!keeper.is_quiet(1_000) && keeper.is_quiet(2_100));
    keeper.on_flushed(2_100);
    assert!(!keeper.is_quiet(50_000));
}

#[test]
fn a_tree_is_marked_as_a_whole_in_steps() {
    let world = World::new();
    log(&world, &[1], 10_000);
    let mut tree = open(&world).unwrap().tree;
    tree.mark_saved();
    let (mut next, mut steps) = (Some(0), 0);
    while let Some(from) = next {
        next = tree.mark_unsaved(from);
        steps += 1;
    }
    assert_eq!((steps, tree.unsaved()), (3, tree.node_count()));
    let mut paths = Vec::new();
    tree.take_changed(usize::MAX, |path, _| paths.push(path.to_owned()));
    paths.sort_unstable();
    paths.dedup();
    assert_eq!(paths.len(), tree.node_count());
}

#[test]
fn a_snapshot_is_due_when_the_log_is_worth_it() {
    let world = World::new();
    let mut schedule = SnapshotSchedule::new(0, 100, None, &open(&world).unwrap());
    assert!(!schedule.is_due() && !schedule.is_due_before_purge());
    schedule.on_logged(100, 200);
    assert!(!schedule.is_due(), "the snapshot is larger than that");
    schedule.on_logged(1, 10_000);
    assert!(schedule.is_due());
    schedule.on_snapshot(8000);
    schedule.on_logged(1000, 15_999);
    assert!(!schedule.is_due() && schedule.is_due_before_purge());
    // on-disk 5.1: few transactions that are large.
    let mut schedule = SnapshotSchedule::new(0, 100, Some(50_000), &open(&world).unwrap());
    schedule.on_logged(3, 49_999);
    assert!(!schedule.is_due());
    schedule.on_logged(1, 1);
    assert!(schedule.is_due());
    schedule.on_logged(1, 1);
    assert!(schedule.is_due());
}

// on-disk 5.1: up to a half more, and not all members at once.
#[test]
fn members_take_their_snapshots_one_after_the_other() {
    let world = World::new();
    let recovered = open(&world).unwrap();
    let first_due = |server, rounds: u64| {
        let mut schedule = SnapshotSchedule::new(server, 1000, None, &recovered);
        (0..rounds).for_each(|_| schedule.on_snapshot(0));
        (1..).find(|_| {
            schedule.on_logged(1, 1000);
            schedule.is_due()
        })
    };
    let all: Vec<u64> = (1..=5).flat_map(|server| (0..20).filter_map(move |round| first_due(server, round))).collect();
    assert!(all.len() == 100 && all.iter().all(|txns| (1000..=1500).contains(txns)), "{all:?}");
    let in_each_tenth = (0..10).map(|tenth| all.iter().filter(|txns| (**txns - 1000) / 50 == tenth).count());
    assert!(in_each_tenth.clone().all(|count| count > 2), "{:?}", in_each_tenth.collect::<Vec<_>>());
    for round in 0..20 {
        let due: BTreeSet<_> = (1..=3).map(|server| first_due(server, round)).collect();
        assert_eq!(due.len(), 3, "round {round}: {due:?}");
    }
    assert_eq!(first_due(0, 3), Some(1000), "standalone, nobody else is to be avoided");
}

// ---- what a start does about damage ----

// 13, 51: refused, unless exactly this place is given up
#[test]
fn what_lies_behind_a_gap_is_set_aside_only_on_request() {
    let world = World::new();
    log(&world, &[1, 11, 21, 31], 40);
    world.log.delete("log.15");
    let found = refusal(open(&world));
    assert_eq!(found, Refusal::Gap { file: "log.1f".parse_log(), offset: 16, last: Zxid(20), found: Zxid(31) });
    let message = found.to_string();
    assert!(message.contains("log.1f at offset 16: found zxid 0x1f, expected 0x15"), "{message}");
    assert!(message.contains("zooid.giveUpAfter=0x14"), "{message}");

    let other = Options { give_up_after: Some(Zxid(19)), ..Options::default() };
    assert!(recover(&world.disks(), &world.image, &other).is_err());
    let options = Options { give_up_after: Some(Zxid(20)), ..Options::default() };
    let recovered = recover(&world.disks(), &world.image, &options).unwrap();
    assert_eq!(recovered.last_zxid, Zxid(20));
    assert!(recovered.notices.iter().any(|notice| matches!(notice, Notice::GivenUp { .. })));
    assert_eq!(open(&world).unwrap().last_zxid, Zxid(20), "what was set aside stays aside");
}

// A file may have been begun for a transaction that never came to be, and others, with names before its own, since.
#[test]
fn a_log_without_a_record_does_not_hide_what_trunc_removes() {
    for begun_before in [false, true] {
        let world = World::new();
        open(&world).unwrap();
        let put = || world.log.put("log.20", &journal::file_header());
        if begun_before {
            put();
        }
        log(&world, &[1], 0x30);
        assert_eq!(world.log.content("log.20"), None);
        if !begun_before {
            put();
        }
        assert!(matches!(trunc(&world.disks(), &world.image, Zxid(0x28)), Ok(Trunc::Done { .. })));
        assert_eq!(open(&world).unwrap().last_zxid, Zxid(0x28));
    }
}

// What an operator gives up may be wanted after all, and is asked about once.
#[test]
fn what_is_given_up_stays_in_a_file_aside() {
    let world = World::new();
    let recovered = open(&world).unwrap();
    let mut writer = LogWriter::new(world.log.clone(), &recovered.log, LOG);
    writer.append(Zxid(1), Zxid(20), &records(1..=20, b"data")).unwrap();
    writer.sync().unwrap();
    writer.write_durable_mark().unwrap();
    world.log.edit("log.1", |file| file[1000] ^= 1);
    let damaged = world.log.content("log.1").unwrap();
    let last = refusal(open(&world)).give_up_after().expect("it can be given up");
    assert!(last > Zxid(1) && last < Zxid(20), "{last}");
    let options = Options { give_up_after: Some(last), ..Options::default() };
    assert_eq!(recover(&world.disks(), &world.image, &options).unwrap().last_zxid, last);
    assert_eq!(world.log.content("aside.log.1"), Some(damaged));
    assert_eq!(open(&world).unwrap().last_zxid, last, "the mark still speaks of what is gone");
}

trait ParseLog {
    fn parse_log(&self) -> zooid::storage::LogName;
}

impl ParseLog for str {
    fn parse_log(&self) -> zooid::storage::LogName {
        zooid::storage::LogName::parse(self).unwrap()
    }
}

/// Two batches, the first durable and marked so, the second never synced, of which a sector has not arrived.
fn torn_batch(marked: bool) -> World {
    let world = World::new();
    let recovered = open(&world).unwrap();
    let mut writer = LogWriter::new(world.log.clone(), &recovered.log, LOG);
    writer.append(Zxid(1), Zxid(9), &records(1..=9, b"data")).unwrap();
    writer.sync().unwrap();
    if marked {
        writer.write_durable_mark().unwrap();
        assert!(!writer.is_mark_behind());
    }
    writer.append(Zxid(10), Zxid(30), &records(10..=30, b"data")).unwrap();
    world.log.edit("log.1", |file| file[1536..2048].fill(0));
    world
}

// 11
#[test]
fn a_hole_with_valid_records_behind_is_a_torn_batch_above_the_mark_and_corruption_below() {
    let world = torn_batch(true);
    let recovered = open(&world).unwrap();
    assert!((9..30).contains(&recovered.last_zxid.0), "{}", recovered.last_zxid);
    assert!(recovered.notices.iter().any(|notice| matches!(notice, Notice::UnfinishedBatch { .. })));
    assert!(recovered.notices.iter().any(|notice| matches!(notice, Notice::Cut { .. })));
    assert_eq!(open(&world).unwrap().last_zxid, recovered.last_zxid, "the next start sees nothing of it");

    // No mark, as in Java's files: refused, with the lost zxids and the way out.
    let world = torn_batch(true);
    world.log.delete("durable.zooid");
    let Refusal::Damaged { damage, last, .. } = refusal(open(&world)) else { panic!("not damaged") };
    assert!(damage.sector_missing && damage.behind.unwrap().last == Zxid(30));
    let options = Options { give_up_after: Some(last), ..Options::default() };
    assert_eq!(recover(&world.disks(), &world.image, &options).unwrap().last_zxid, last);

    // The same hole in what was acknowledged.
    let world = torn_batch(true);
    world.log.edit("log.1", |file| file[512..1024].fill(0));
    assert!(matches!(refusal(open(&world)), Refusal::Damaged { .. }));
}

#[test]
fn a_log_that_ends_before_what_was_durable_is_refused() {
    let world = World::new();
    let recovered = open(&world).unwrap();
    let mut writer = LogWriter::new(world.log.clone(), &recovered.log, LOG);
    writer.append(Zxid(1), Zxid(9), &records(1..=9, b"data")).unwrap();
    let durable = writer.sync().unwrap();
    writer.write_durable_mark().unwrap();
    let at = durable.records[7].offset as usize;
    world.log.edit("log.1", |file| file[at..].fill(0));
    let Refusal::EndsBelowMark { last, mark_zxid, .. } = refusal(open(&world)) else { panic!("another refusal") };
    assert_eq!((last, mark_zxid), (Zxid(7), Zxid(9)));
}

// 57
#[test]
fn a_lost_newest_log_is_told() {
    let world = World::new();
    log(&world, &[1, 11], 20);
    world.log.delete("log.b");
    let recovered = open(&world).unwrap();
    assert_eq!(recovered.last_zxid, Zxid(10));
    // The mark was written when the file was begun.
    assert!(!recovered.notices.iter().any(|notice| matches!(notice, Notice::MarkAhead { .. })));
}

// 15
#[test]
fn a_name_is_used_again_only_for_a_file_without_a_record() {
    let world = World::new();
    log(&world, &[1], 3);
    let mut torn = journal::file_header().to_vec();
    torn.extend_from_slice(&records(4..=4, b"data")[..40]);
    torn.resize(9000, 0);
    world.log.put("log.4", &torn);
    log(&world, &[4], 6);
    assert_eq!(open(&world).unwrap().last_zxid, Zxid(6));
}

// 2, 4, 50
#[test]
fn files_without_a_header_are_set_aside_or_passed_over() {
    for content in [&b""[..], &b"ZKLG\0\0\0\x02\0\0\0\0\0\0\0"[..], &[0; 5000][..]] {
        let world = World::new();
        log(&world, &[1, 11], 20);
        world.log.put("log.7", content);
        world.log.put("log.15", content);
        assert_eq!(open(&world).unwrap().last_zxid, Zxid(20));
        assert_eq!(world.log.names(), ["aside.log.15", "durable.zooid", "log.1", "log.7", "log.b"]);
        log(&world, &[21], 22);
        assert_eq!(open(&world).unwrap().last_zxid, Zxid(22));
    }
}

// 44
#[test]
fn an_unknown_type_in_a_multi_is_refused() {
    let world = World::new();
    log(&world, &[1], 3);
    let header = Header { session: SessionId(1), cxid: 1, zxid: Zxid(4), time: 1 };
    let mut payload = BytesMut::new();
    write_logged(&header, &Txn::Multi(vec![Txn::Error { code: -1 }]), None, &mut payload);
    // The member's type follows the multi's count.
    payload[36..40].copy_from_slice(&16i32.to_be_bytes());
    let mut file = BytesMut::from(&journal::file_header()[..]);
    journal::write_payload(&payload, &mut file);
    world.log.put("log.4", &file);
    let found = refusal(open(&world));
    assert!(matches!(&found, Refusal::Undecodable { zxid: Zxid(4), offset: 16, .. }), "{found}");
    assert!(found.to_string().contains("type in a multi"), "{found}");
}

// 74
#[test]
fn a_record_larger_than_java_reads_opens() {
    let world = World::new();
    log(&world, &[1], 3);
    let (header, txn) = create(4, CreateKind::Create { ephemeral: false }, &vec![7; 3_000_000]);
    let mut payload = BytesMut::new();
    write_logged(&header, &txn, None, &mut payload);
    let mut file = journal::file_header().to_vec();
    file.extend_from_slice(&u64::from(simd_adler32::adler32(&&payload[..])).to_be_bytes());
    file.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    file.extend_from_slice(&payload);
    file.push(b'B');
    world.log.put("log.4", &file);
    assert_eq!(open(&world).unwrap().last_zxid, Zxid(4));
}

// on-disk 4.5
#[test]
fn ephemerals_without_a_session_are_dropped_and_stay_so() {
    let world = World::new();
    log(&world, &[1], 3);
    let (header, txn) = create(4, CreateKind::Create { ephemeral: true }, b"e");
    let mut file = BytesMut::from(&journal::file_header()[..]);
    journal::write_record(&header, &txn, None, journal::PAYLOAD_MAX, &mut file).unwrap();
    world.log.put("log.4", &file);
    let first = open(&world).unwrap();
    assert!(first.notices.contains(&Notice::OrphansDropped { nodes: 1 }));
    assert!(first.tree.find("/n4").is_none());
    assert_eq!(world.snap.names(), ["snapshot.0", "snapshot.4"]);
    // What is created there later is not taken for the old node.
    log(&world, &[5], 5);
    let second = open(&world).unwrap();
    assert!(second.tree.find("/n4").is_none() && second.tree.find("/n5").is_some());
    assert!(!second.notices.iter().any(|notice| matches!(notice, Notice::OrphansDropped { .. })));
}

// ---- truncation (on-disk 2.6) ----

// 28; a target that was never logged, as an epoch's start
#[test]
fn a_truncation_sets_newer_snapshots_aside_and_needs_no_exact_target() {
    let world = grown();
    let before = open(&world).unwrap();
    assert!(matches!(trunc(&world.disks(), &world.image, Zxid(25)), Ok(Trunc::Done { .. })));
    let after = open(&world).unwrap();
    assert_eq!(after.last_zxid, Zxid(25));
    assert_eq!(after.tree.node_count(), before.tree.node_count() - 25);
    assert!(world.snap.names().contains(&"replaced.snapshot.32".to_owned()));

    let world = World::new();
    log(&world, &[1], 10);
    let later = {
        let mut file = BytesMut::from(&journal::file_header()[..]);
        file.extend_from_slice(&records(0x1_0000_0001..=0x1_0000_0004, b"x"));
        file
    };
    world.log.put("log.100000001", &later);
    assert!(matches!(trunc(&world.disks(), &world.image, Zxid(0x1_0000_0000)), Ok(Trunc::Done { .. })));
    assert_eq!(open(&world).unwrap().last_zxid, Zxid(10));
}

// 27
#[test]
fn java_s_own_truncation_opens_from_the_older_snapshot_too() {
    let dir =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/java-datadir/trunc-3.9.5/dataDir/version-2");
    let world = World::with_one_directory();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        world.snap.put(entry.file_name().to_str().unwrap(), &std::fs::read(entry.path()).unwrap());
    }
    let with = open(&world).unwrap();
    world.snap.delete("snapshot.100000006");
    let without = open(&world).unwrap();
    // The config node is filled in by each start of a member, and no transaction says so.
    let lines = |recovered: &Recovered| {
        let mut lines = trees::lines(&recovered.tree);
        lines.retain(|line| !line.starts_with("/zookeeper/config") && !line.starts_with("bytes"));
        lines
    };
    assert_eq!(lines(&with), lines(&without));
}
