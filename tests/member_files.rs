//! A member's storage over real files.

#![cfg(feature = "shell")]

mod support;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::BytesMut;
use support::sim::{Random, SharedFuse, SimImage};
use support::{trees, txns};
use zooid::disk::FileDisk;
use zooid::id::Zxid;
use zooid::journal;
use zooid::storage::epoch::EpochFile;
use zooid::storage::{Disks, LogOptions, MemberStore, OpenedMember, Options, Truncated};
use zooid::tree::{Tree, TreeRules, Unwatched};
use zooid::txn::{Logged, write_logged};
use zooid::zab::Entry;

/// A directory that is gone afterwards.
struct Temp(PathBuf);

impl Temp {
    fn new(name: &str) -> Self {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

type Store = MemberStore<Arc<FileDisk>, SimImage>;

fn open(temp: &Temp, image: &SimImage) -> (Store, OpenedMember) {
    let version_2 = Arc::new(FileDisk::new(temp.0.join("version-2")));
    let disks = Disks {
        log: version_2.clone(),
        snap: version_2,
        log_home: Arc::new(FileDisk::new(&temp.0)),
        own: Arc::new(FileDisk::new(temp.0.join("zooid"))),
    };
    let log_options = LogOptions { preallocate: 1 << 20, ..LogOptions::default() };
    MemberStore::open(disks, image.clone(), Options::default(), log_options).unwrap()
}

fn entry(logged: &Logged) -> Entry {
    let mut txn = BytesMut::new();
    write_logged(&logged.header, &logged.txn, logged.digest, &mut txn);
    Entry { zxid: logged.header.zxid, txn: txn.freeze() }
}

fn append(store: &mut Store, entries: &[Entry]) {
    let mut records = BytesMut::new();
    for entry in entries {
        journal::write_payload(&entry.txn, &mut records);
    }
    store.append(entries[0].zxid, entries[entries.len() - 1].zxid, &records).unwrap();
    store.sync().unwrap();
}

fn tree_of(entries: &[Entry]) -> Tree {
    let mut tree = Tree::new(TreeRules::default());
    for entry in entries {
        let logged = Logged::read(entry.txn.clone()).unwrap();
        tree.apply(&logged.header, &logged.txn, &mut Unwatched);
    }
    tree
}

#[test]
fn a_member_logs_takes_back_and_is_replaced_on_real_files() {
    let (temp, image) = (Temp::new("member"), SimImage::new(&SharedFuse::default()));
    let mut random = Random(1);
    let mut tree = Tree::new(TreeRules::default());
    let mut invent = |epoch: u32, counters: std::ops::RangeInclusive<u32>| -> Vec<Entry> {
        counters.map(|counter| entry(&txns::invent(&mut tree, Zxid::new(epoch, counter), &mut random))).collect()
    };
    let entries = invent(1, 1..=20);
    {
        let (mut store, opened) = open(&temp, &image);
        assert_eq!((opened.recovered.last_zxid, opened.epochs.current), (Zxid::ZERO, 0));
        for file in [EpochFile::Accepted, EpochFile::Current] {
            store.save_epoch(file, 1).unwrap();
        }
        append(&mut store, &entries[..10]);
        store.roll().unwrap();
        append(&mut store, &entries[10..]);
    }
    let (mut store, opened) = open(&temp, &image);
    assert_eq!(opened.recovered.tail, entries);
    assert_eq!(store.read_log(Zxid::new(1, 3), Zxid::new(1, 15), 1 << 20), Ok(Some(entries[3..15].to_vec())));

    let target = Zxid::new(1, 7);
    assert!(matches!(store.truncate(target, Zxid::ZERO), Ok(Truncated::Log { last, .. }) if last == target));
    store.save_epoch(EpochFile::Accepted, 2).unwrap();
    let others = invent(2, 1..=5);
    append(&mut store, &others);
    let kept = [&entries[..7], &others[..]].concat();
    // The writer goes on in a file of its own; so must whoever reads after it.
    assert_eq!(store.read_log(Zxid::new(1, 3), Zxid::new(2, 5), 1 << 20), Ok(Some(kept[3..].to_vec())));
    let (mut store, opened) = open(&temp, &image);
    assert_eq!(opened.recovered.tail, kept);
    assert_eq!(opened.epochs.current, 2, "it is raised to that of the log");

    let sent = tree_of(&entries[..12]);
    let installed = store.install(&sent, &others).unwrap();
    assert_eq!((installed.last, installed.records.len()), (Zxid::new(2, 5), 5));
    for _ in 0..2 {
        let (_, opened) = open(&temp, &image);
        trees::assert_equal("installed", &sent, &opened.recovered.tree);
        assert_eq!(opened.recovered.tail, others);
    }
    let version_2 = temp.0.join("version-2");
    let mut names: Vec<_> = std::fs::read_dir(version_2).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort_unstable();
    let (ours, aside) = names.split_at(4);
    assert_eq!(ours, ["acceptedEpoch", "currentEpoch", "durable.zooid", "log.200000001"]);
    let expected = ["replaced.log.100000001", "replaced.log.200000001", "replaced.snapshot.0", "snapshot.10000000c"];
    assert_eq!(aside, expected);
}
