//! The same storage over real files and RocksDB.

#![cfg(feature = "io")]

mod support;

use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use support::trees;
use zooid::acl::Acl;
use zooid::disk::{self, FileDisk};
use zooid::id::{SessionId, Zxid};
use zooid::image_rocksdb::RocksImage;
use zooid::journal;
use zooid::storage::image::{Batch, Keeper, Progress, View};
use zooid::storage::{
    Disk, Disks, ForceSync, Image, ImageState, LogOptions, LogWriter, Options, Pace, Recovered, StorageError, recover,
};
use zooid::tree::snapshot::Compression;
use zooid::tree::{Tree, TreeRules, Unwatched};
use zooid::txn::{Create, CreateKind, Header, Txn};

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

fn disks(data: &Path, logs: &Path) -> Disks<FileDisk> {
    Disks {
        log: FileDisk::new(logs.join("version-2")),
        snap: FileDisk::new(data.join("version-2")),
        log_home: FileDisk::new(logs),
        own: FileDisk::new(data.join("zooid")),
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to)
        } else {
            drop(std::fs::copy(entry.path(), to))
        }
    }
}

fn fill(image: &RocksImage, recovered: &mut Recovered) -> Keeper {
    let mut keeper = Keeper::new(0, recovered, 0);
    let mut capture = keeper.begin();
    while capture.take(&mut recovered.tree) == Progress::More {
        if let Some(part) = capture.take_part() {
            image.write(&part).unwrap();
        }
    }
    let batch = keeper.finish(capture, &mut recovered.tree).ok().unwrap();
    image.write(&batch).unwrap();
    keeper.on_written(batch.bytes(), 0, 0);
    image.flush().unwrap();
    keeper
}

// 75, 78 (our part), 80 (our part)
#[test]
fn a_java_directory_is_taken_over_and_goes_on() {
    let temp = Temp::new("takeover");
    let sample = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/java-datadir/std-3.9.5");
    copy(&sample, &temp.0);
    let (data, logs) = (temp.0.join("dataDir"), temp.0.join("dataLogDir"));
    let disks = disks(&data, &logs);
    let image = RocksImage::new(data.join("zooid/image"));
    let options = Options::default();
    let mut first = recover(&disks, &image, &options).unwrap();
    assert_eq!((first.last_zxid, &first.image), (Zxid(0x7a), &ImageState::Empty));
    let mut keeper = fill(&image, &mut first);

    let log_options = LogOptions { preallocate: 1 << 20, size_limit: None, force_sync: ForceSync::Yes };
    let mut log = LogWriter::new(&disks.log, &first.log, log_options);
    let mut records = BytesMut::new();
    for zxid in 0x7b..0x100 {
        let (header, txn) = create(zxid, &format!("/app/more-{zxid}"));
        first.tree.apply(&header, &txn, &mut Unwatched);
        journal::write_record(&header, &txn, Some(first.tree.digest()), journal::PAYLOAD_MAX, &mut records).unwrap();
    }
    log.append(Zxid(0x7b), Zxid(0xff), &records).unwrap();
    let durable = log.sync().unwrap();
    assert_eq!(durable.zxid, Zxid(0xff));
    assert_eq!(disks.log.len("log.7b").unwrap(), Some(16 + (1 << 20)));
    keeper.on_durable(&durable.records);

    let second = recover(&disks, &image, &options).unwrap();
    assert_eq!((second.last_zxid, second.replayed), (Zxid(0xff), 0x100 - 0x7b));
    assert!(matches!(second.image, ImageState::Used { .. }));
    trees::assert_equal("with the log's tail", &first.tree, &second.tree);

    let mut capture = keeper.begin();
    while capture.take(&mut first.tree) == Progress::More {}
    let batch = keeper.finish(capture, &mut first.tree).ok().unwrap();
    image.write(&batch).unwrap();
    let job = keeper.begin_snapshot(&image, Compression::Snappy).unwrap().unwrap();
    let id = job.write(&disks.snap, Pace::Hurried).unwrap();
    keeper.finish_snapshot(&image, &disks.snap, id).unwrap();
    drop(job);
    let third = recover(&disks, &image, &options).unwrap();
    assert!(matches!(third.image, ImageState::Used { .. }) && third.replayed == 0);
    image.destroy().unwrap();
    let bare = recover(&disks, &image, &options).unwrap();
    assert_eq!((bare.snapshot, &bare.image), (Zxid(0xff), &ImageState::Empty));
    trees::assert_equal("from the snapshot", &third.tree, &bare.tree);
}

// A backup that root has put back, in a directory of the server's user.
#[test]
fn files_of_another_user_are_read() {
    const NOBODY: libc::uid_t = 65534;
    // Where another user may go.
    let temp = Temp(std::env::temp_dir().join(format!("zooid-backup-{}", std::process::id())));
    let sample = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/java-datadir/std-3.9.5");
    copy(&sample, &temp.0);
    let (data, logs) = (temp.0.join("dataDir"), temp.0.join("dataLogDir"));
    let own = |path: &Path| std::os::unix::fs::chown(path, Some(NOBODY), None).expect("this test is root's");
    for dir in [&data, &logs] {
        own(dir);
        own(&dir.join("version-2"));
    }
    let opened = std::thread::spawn(move || {
        // SAFETY: no pointers, and of this thread alone.
        unsafe { libc::syscall(libc::SYS_setfsuid, NOBODY) };
        let disks = disks(&data, &logs);
        let recovered = recover(&disks, &RocksImage::new(data.join("zooid/image")), &Options::default());
        let log = disks.log.list().unwrap().into_iter().find(|name| name.starts_with("log.")).expect("there is one");
        (recovered.map(|recovered| recovered.last_zxid), disks.log.write_at(&log, 0, b"x"))
    });
    let (recovered, written) = opened.join().unwrap();
    assert_eq!(recovered, Ok(Zxid(0x7a)));
    assert_eq!(written.unwrap_err().kind, zooid::storage::DiskErrorKind::Denied);
}

// 34
#[test]
fn a_second_process_is_refused() {
    let temp = Temp::new("lock");
    let held = disk::lock(&temp.0).unwrap();
    assert!(held.is_some());
    assert!(disk::lock(&temp.0).unwrap().is_none());
    drop(held);
    assert!(disk::lock(&temp.0).unwrap().is_some());
}

#[test]
fn an_image_that_does_not_open_is_made_anew() {
    let temp = Temp::new("broken");
    let disks = disks(&temp.0, &temp.0);
    let path = temp.0.join("zooid/image");
    std::fs::create_dir_all(path.join("3")).unwrap();
    std::fs::write(path.join("3/CURRENT"), "MANIFEST-nonsense\n").unwrap();
    let image = RocksImage::new(&path);
    let recovered = recover(&disks, &image, &Options::default()).unwrap();
    assert!(matches!(recovered.image, ImageState::Dropped { .. }), "{:?}", recovered.image);
    assert!(image.view().is_ok());
}

#[test]
fn a_view_does_not_see_later_writes() {
    let temp = Temp::new("view");
    let image = RocksImage::new(temp.0.join("image"));
    image.open().unwrap();
    let batch = |value: &'static [u8]| {
        let mut batch = Batch::default();
        batch.rows.insert(b"key".to_vec(), Some(Bytes::from_static(value)));
        batch
    };
    image.write(&batch(b"old")).unwrap();
    let view = image.view().unwrap();
    image.write(&batch(b"new")).unwrap();
    let read = |view: &dyn Fn() -> Option<Bytes>| view();
    assert_eq!(read(&|| view.get(b"key").unwrap()), Some(Bytes::from_static(b"old")));
    assert_eq!(image.view().unwrap().get(b"key").unwrap(), Some(Bytes::from_static(b"new")));
}

/// A snapshot may be under way to a learner when the leader of another sends one.
#[test]
fn an_image_is_destroyed_while_a_view_of_it_lives() {
    let temp = Temp::new("destroy");
    let image = RocksImage::new(temp.0.join("image"));
    image.open().unwrap();
    let batch = |value: &'static [u8]| {
        let mut batch = Batch::default();
        batch.rows.insert(b"key".to_vec(), Some(Bytes::from_static(value)));
        batch
    };
    for value in [&b"1"[..], b"2", b"3"] {
        image.write(&batch(value)).unwrap();
        image.flush().unwrap();
        let view = image.view().unwrap();
        image.destroy().unwrap();
        assert_eq!(image.view().unwrap().get(b"key").unwrap(), None);
        drop(view);
    }
    image.write(&batch(b"last")).unwrap();
    image.flush().unwrap();
    drop(image);
    let image = RocksImage::new(temp.0.join("image"));
    image.open().unwrap();
    assert_eq!(image.view().unwrap().get(b"key").unwrap(), Some(Bytes::from_static(b"last")));
    assert_eq!(std::fs::read_dir(temp.0.join("image")).unwrap().count(), 1);
}

#[test]
fn errors_name_the_file() {
    let temp = Temp::new("errors");
    let disk = FileDisk::new(temp.0.join("missing"));
    assert!(!disk.exists().unwrap());
    let error = StorageError::from(disk.create("file").unwrap_err());
    assert!(error.to_string().contains("missing/file"), "{error}");
}

fn create(zxid: i64, path: &str) -> (Header, Txn) {
    let header = Header { session: SessionId(0x1000014090a0000), cxid: 1, zxid: Zxid(zxid), time: 1000 };
    let create = Create {
        kind: CreateKind::Create { ephemeral: false },
        path: path.into(),
        data: Some(Bytes::from_static(&[b'v'; 100])),
        acl: Some(Acl::open()),
        parent_cversion: -1,
    };
    (header, Txn::Create(create))
}

/// How long a start takes with a million znodes of 100 bytes below 1,000 parents. By hand, in release:
/// `cargo test --release --test shells -- --nocapture` prints the times.
#[test]
fn a_start_with_a_million_znodes() {
    let temp = Temp::new("million");
    let disks = disks(&temp.0, &temp.0);
    let path = temp.0.join("zooid/image");
    let image = RocksImage::new(&path);
    let options = Options { rules: TreeRules { seed: 7, ..TreeRules::default() }, ..Options::default() };
    let mut recovered = recover(&disks, &image, &options).unwrap();
    let mut log = LogWriter::new(&disks.log, &recovered.log, LogOptions::default());
    let mut keeper = Keeper::new(0, &recovered, 0);
    let begun = Instant::now();
    let mut zxid = 0;
    let mut batch = BytesMut::new();
    for parent in 0..1000 {
        let first = zxid + 1;
        for child in 0..=1000 {
            zxid += 1;
            let path = if child == 0 { format!("/p{parent}") } else { format!("/p{parent}/n{child:07}") };
            let (header, txn) = create(zxid, &path);
            recovered.tree.apply(&header, &txn, &mut Unwatched);
            journal::write_record(&header, &txn, Some(recovered.tree.digest()), journal::PAYLOAD_MAX, &mut batch)
                .unwrap();
        }
        log.append(Zxid(first), Zxid(zxid), &batch).unwrap();
        keeper.on_durable(&log.sync().unwrap().records);
        batch.clear();
    }
    println!("logged and applied {zxid} transactions: {:?}", begun.elapsed());

    let begun = Instant::now();
    let bare = recover(&disks, &image, &options).unwrap();
    println!("start without an image, all from the log: {:?}", begun.elapsed());
    drop(bare);

    let begun = Instant::now();
    let mut capture = keeper.begin();
    let (mut longest, mut holds) = (std::time::Duration::ZERO, 0);
    loop {
        let hold = Instant::now();
        let progress = capture.take(&mut recovered.tree);
        longest = longest.max(hold.elapsed());
        holds += 1;
        if let Some(part) = capture.take_part() {
            image.write(&part).unwrap();
        }
        if progress == Progress::Last {
            break;
        }
    }
    let rows = keeper.finish(capture, &mut recovered.tree).ok().unwrap();
    image.write(&rows).unwrap();
    image.flush().unwrap();
    println!("image filled: {:?}, {holds} holds, the longest {longest:?}", begun.elapsed());
    let tree = recovered.tree;

    let job = keeper.begin_snapshot(&image, Compression::Plain).unwrap().unwrap();
    let begun = Instant::now();
    let id = job.write(&disks.snap, Pace::Hurried).unwrap();
    println!("snapshot of {} bytes from the image: {:?}", id.len, begun.elapsed());
    keeper.finish_snapshot(&image, &disks.snap, id).unwrap();
    drop(job);
    drop(image);

    for _ in 0..3 {
        let begun = Instant::now();
        let image = RocksImage::new(&path);
        image.open().unwrap();
        let opened = begun.elapsed();
        let view = image.view().unwrap();
        let scan = Instant::now();
        let mut rows = 0;
        view.scan(&mut |_, _| {
            rows += 1;
            Ok(())
        })
        .unwrap();
        println!("opened: {opened:?}; scan of {rows} rows alone: {:?}", scan.elapsed());
        drop(view);
        drop(image);

        let begun = Instant::now();
        let image = RocksImage::new(&path);
        let again = recover(&disks, &image, &options).unwrap();
        println!("start with the image: {:?}", begun.elapsed());
        assert!(matches!(again.image, ImageState::Used { .. }));
        assert_eq!((again.tree.digest(), again.tree.node_count()), (tree.digest(), tree.node_count()));
    }

    let begun = Instant::now();
    let without = RocksImage::new(temp.0.join("zooid/other"));
    let again = recover(&disks, &without, &options).unwrap();
    println!("start from the snapshot: {:?}", begun.elapsed());
    assert_eq!(again.tree.digest(), tree.digest());
    let _: &Tree = &tree;
}
