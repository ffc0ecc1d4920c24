//! The log as it is written: what `LogWriter` puts on disk, and that Java's form is met to the byte.

mod support;

use bytes::{Bytes, BytesMut};
use support::sim::{Fate, Random, World};
use zooid::id::{SessionId, Zxid};
use zooid::journal::{self, End, Head, Scan};
use zooid::storage::{LogOptions, LogWriter, Options, StorageError, recover};
use zooid::txn::{Create, CreateKind, Header, Logged, Txn};

fn create(zxid: i64) -> Logged {
    let create = Create {
        kind: CreateKind::Create { ephemeral: false },
        path: format!("/n{zxid}").into(),
        data: Some(Bytes::from_static(b"data")),
        acl: Some(zooid::acl::Acl::open()),
        parent_cversion: -1,
    };
    let header = Header { session: SessionId(1), cxid: 1, zxid: Zxid(zxid), time: 1000 };
    Logged { header, txn: Txn::Create(create), digest: None }
}

fn batch(zxids: std::ops::RangeInclusive<i64>) -> BytesMut {
    let mut out = BytesMut::new();
    for zxid in zxids {
        let logged = create(zxid);
        journal::write_record(&logged.header, &logged.txn, logged.digest, journal::PAYLOAD_MAX, &mut out).unwrap();
    }
    out
}

fn writer(world: &World, options: LogOptions) -> LogWriter<support::sim::SimDisk> {
    let recovered = recover(&world.disks(), &world.image, &Options::default()).unwrap();
    LogWriter::new(world.log.clone(), &recovered.log, options)
}

const SMALL: LogOptions =
    LogOptions { preallocate: 4096, size_limit: None, force_sync: zooid::storage::ForceSync::Yes };

fn append(writer: &mut LogWriter<support::sim::SimDisk>, zxids: std::ops::RangeInclusive<i64>) {
    writer.append(Zxid(*zxids.start()), Zxid(*zxids.end()), &batch(zxids)).unwrap();
}

#[test]
fn a_file_is_named_after_its_first_record_and_padded_with_zeros() {
    let world = World::new();
    let mut writer = writer(&world, SMALL);
    append(&mut writer, 1..=3);
    let durable = writer.sync().unwrap();
    assert_eq!(durable.zxid, Zxid(3));
    assert_eq!(durable.records.iter().map(|position| position.zxid.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(durable.records[0].offset, 16);
    let file = Bytes::from(world.log.content("log.1").unwrap());
    assert_eq!(file.len(), 16 + 4096);
    assert_eq!(journal::read_head(&file), Ok(Head::Good));
    let mut scan = Scan::new(&file);
    for zxid in 1..=3 {
        assert_eq!(scan.read().unwrap().unwrap().zxid, Zxid(zxid));
    }
    assert_eq!(scan.read(), Ok(None));
    assert_eq!(scan.end(), Ok(End::Clean));
}

// on-disk 2.3 (1), 8: 12, 13, 14
#[test]
fn a_roll_and_a_restart_begin_new_files() {
    let world = World::new();
    let mut first = writer(&world, SMALL);
    append(&mut first, 1..=2);
    first.roll().unwrap();
    append(&mut first, 3..=3);
    first.sync().unwrap();
    world.crash(Fate::Lost, &mut Random(1));
    let mut second = writer(&world, SMALL);
    append(&mut second, 4..=4);
    second.sync().unwrap();
    assert_eq!(world.log.names(), ["durable.zooid", "log.1", "log.3", "log.4"]);
    world.crash(Fate::Lost, &mut Random(1));
    let recovered = recover(&world.disks(), &world.image, &Options::default()).unwrap();
    assert_eq!(recovered.last_zxid, Zxid(4));
}

#[test]
fn a_file_above_the_limit_is_followed_by_another() {
    let world = World::new();
    let mut writer = writer(&world, LogOptions { size_limit: Some(200), ..SMALL });
    for zxid in 1..=6 {
        append(&mut writer, zxid..=zxid);
        writer.sync().unwrap();
    }
    assert_eq!(world.log.names(), ["durable.zooid", "log.1", "log.4"]);
}

// 31; design.md 3 "Disk errors"
#[test]
fn a_full_disk_leaves_the_log_as_it_was_and_is_left_behind() {
    let world = World::new();
    let mut writer = writer(&world, SMALL);
    append(&mut writer, 1..=1);
    writer.sync().unwrap();
    let before = world.log.content("log.1").unwrap();
    world.set_room(Some(100));
    let large = batch(2..=80);
    assert!(matches!(writer.append(Zxid(2), Zxid(80), &large), Err(StorageError::Full(_))));
    assert!(!writer.has_room().unwrap());
    assert!(world.log.content("log.1").unwrap() == before);
    writer.roll().unwrap();
    assert!(matches!(writer.append(Zxid(2), Zxid(80), &large), Err(StorageError::Full(_))));
    assert_eq!(world.log.names(), ["durable.zooid", "log.1"]);
    world.set_room(Some(1 << 22));
    assert!(writer.has_room().unwrap());
    writer.append(Zxid(2), Zxid(80), &large).unwrap();
    assert_eq!(writer.sync().unwrap().zxid, Zxid(80));
    assert_eq!(world.log.names(), ["durable.zooid", "log.1", "log.2"]);
}

// Restarts alone must not fill a disk.
#[test]
fn what_was_preallocated_for_a_file_goes_back_when_it_is_left() {
    let world = World::new();
    world.set_room(Some(2 * 4096 + 2000));
    for life in 1..=10 {
        let recovered = recover(&world.disks(), &world.image, &Options::default()).unwrap();
        let mut writer = LogWriter::new(world.log.clone(), &recovered.log, SMALL);
        append(&mut writer, life..=life);
        writer.sync().unwrap();
    }
    let length = |name: &str| world.log.content(name).unwrap().len();
    assert!(length("log.9") < 300 && length("log.a") > 4000, "{} {}", length("log.9"), length("log.a"));
    // Each file that is left while the server runs is as short.
    let recovered = recover(&world.disks(), &world.image, &Options::default()).unwrap();
    assert_eq!((recovered.last_zxid, recovered.log.last), (Zxid(10), Zxid(10)));
    let limited = LogOptions { size_limit: Some(100), ..SMALL };
    let mut writer = LogWriter::new(world.log.clone(), &recovered.log, limited);
    for zxid in 11..=20 {
        append(&mut writer, zxid..=zxid);
        writer.sync().unwrap();
    }
    writer.roll().unwrap();
    append(&mut writer, 21..=21);
    writer.sync().unwrap();
    assert!(world.log.names().iter().all(|name| name == "log.15" || length(name) < 1100), "{:?}", world.log.names());
    assert_eq!(recover(&world.disks(), &world.image, &Options::default()).unwrap().last_zxid, Zxid(21));
}

// 33
#[test]
fn after_a_failed_sync_nothing_is_appended_or_synced_any_more() {
    let world = World::new();
    let mut writer = writer(&world, SMALL);
    append(&mut writer, 1..=1);
    world.blow_after(0);
    assert!(matches!(writer.sync(), Err(StorageError::Disk(_))));
    world.crash(Fate::Kept, &mut Random(1));
    assert_eq!(writer.sync(), Err(StorageError::Broken));
    assert_eq!(writer.append(Zxid(2), Zxid(2), &batch(2..=2)), Err(StorageError::Broken));
}

#[test]
fn a_record_larger_than_java_reads_is_not_written() {
    let mut logged = create(1);
    let Txn::Create(create) = &mut logged.txn else { unreachable!() };
    create.data = Some(Bytes::from(vec![7; journal::PAYLOAD_MAX]));
    let mut out = BytesMut::from(&b"before"[..]);
    assert!(journal::write_record(&logged.header, &logged.txn, None, journal::PAYLOAD_MAX, &mut out).is_err());
    assert_eq!(out, b"before"[..]);
}
