//! A server's storage, stopped at every single operation: by a kill, by a power cut that takes everything
//! unsynced, and by ones that take some of it, sector by sector. After each, a start with the image and one
//! without it must agree with each other and with what was logged, and nothing acknowledged may be missing.
//!
//! on-disk 8.1: 1 to 20, 26 to 29 and 31.

mod support;

use bytes::BytesMut;
use support::sim::{Fate, Random, SimDisk, World};
use support::{trees, txns};
use zooid::id::{SessionId, Zxid};
use zooid::journal;
use zooid::proto::op;
use zooid::storage::image::{Anchor, Keeper, Progress};
use zooid::storage::purge::Purger;
use zooid::storage::{
    ForceSync, Image, ImageState, LogOptions, LogWriter, Options, Pace, Recovered, StorageError, Trunc, recover, trunc,
};
use zooid::tree::snapshot::Compression;
use zooid::tree::{Tree, TreeRules, Unwatched};
use zooid::txn::{Header, Logged, Txn};

const LOG: LogOptions = LogOptions { preallocate: 4096, size_limit: Some(3000), force_sync: ForceSync::Yes };

/// What was logged, and how much of it was acknowledged.
#[derive(Clone)]
struct History {
    logged: Vec<Logged>,
    /// The tree after all of it.
    tree: std::rc::Rc<std::cell::RefCell<Tree>>,
    acknowledged: Zxid,
}

impl History {
    fn new() -> Self {
        Self {
            logged: Vec::new(),
            tree: std::rc::Rc::new(std::cell::RefCell::new(Tree::new(TreeRules::default()))),
            acknowledged: Zxid::ZERO,
        }
    }

    /// The tree after everything up to `last`.
    fn tree_at(&self, last: Zxid) -> Tree {
        let mut tree = Tree::new(TreeRules::default());
        for logged in self.logged.iter().take_while(|logged| logged.header.zxid <= last) {
            tree.apply(&logged.header, &logged.txn, &mut Unwatched);
        }
        tree
    }

    /// Goes on from what a start has found.
    fn rewind(&mut self, last: Zxid) {
        self.logged.retain(|logged| logged.header.zxid <= last);
        *self.tree.borrow_mut() = self.tree_at(last);
    }

    fn last(&self) -> Zxid {
        self.logged.last().map_or(Zxid::ZERO, |logged| logged.header.zxid)
    }

    fn invent(&mut self, random: &mut Random) -> Logged {
        let logged = txns::invent(&mut self.tree.borrow_mut(), self.last().next(), random);
        self.logged.push(logged.clone());
        logged
    }
}

/// The parts of a server that storage works with.
struct Server<'a> {
    world: &'a World,
    tree: Tree,
    log: LogWriter<SimDisk>,
    keeper: Keeper,
    purger: Purger,
    /// Durable, not yet applied.
    to_apply: Vec<Logged>,
    now_ms: u64,
}

/// Storage has stopped.
struct Stopped;

impl<'a> Server<'a> {
    fn start(world: &'a World, recovered: Recovered) -> Self {
        let keeper = Keeper::new(0, &recovered, 0);
        let log = LogWriter::new(world.log.clone(), &recovered.log, LOG);
        let purger = Purger::default();
        Self { world, tree: recovered.tree, log, keeper, purger, to_apply: Vec::new(), now_ms: 0 }
    }

    fn step(&mut self, history: &mut History, random: &mut Random) -> Result<(), Stopped> {
        self.now_ms += 100;
        match random.below(16) {
            0..7 => self.append(history, random)?,
            7..10 => self.sync(history)?,
            10 => self.log.write_durable_mark().map_err(|_| Stopped)?,
            11 => {
                let durable = self.log.roll().map_err(|_| Stopped)?;
                self.on_durable(history, durable);
            }
            12 | 13 => self.write_image(random)?,
            14 => self.world.image.flush().map_err(|_| Stopped)?,
            _ => self.write_snapshot()?,
        }
        Ok(())
    }

    fn append(&mut self, history: &mut History, random: &mut Random) -> Result<(), Stopped> {
        let batch: Vec<Logged> = (0..=random.below(5)).map(|_| history.invent(random)).collect();
        let mut records = BytesMut::new();
        for logged in &batch {
            journal::write_record(&logged.header, &logged.txn, logged.digest, journal::PAYLOAD_MAX, &mut records)
                .unwrap();
        }
        let (first, last) = (batch[0].header.zxid, batch[batch.len() - 1].header.zxid);
        self.to_apply.extend(batch);
        self.log.append(first, last, &records).map_err(|_| Stopped)
    }

    fn sync(&mut self, history: &mut History) -> Result<(), Stopped> {
        let durable = self.log.sync().map_err(|_| Stopped)?;
        self.on_durable(history, durable);
        Ok(())
    }

    fn on_durable(&mut self, history: &mut History, durable: zooid::storage::Durable) {
        history.acknowledged = durable.zxid;
        self.keeper.on_durable(&durable.records);
        let upto = self.to_apply.iter().take_while(|logged| logged.header.zxid <= durable.zxid).count();
        for logged in self.to_apply.drain(..upto) {
            self.tree.apply(&logged.header, &logged.txn, &mut Unwatched);
        }
    }

    fn write_image(&mut self, random: &mut Random) -> Result<(), Stopped> {
        let mut capture = self.keeper.begin();
        while capture.take(&mut self.tree) == Progress::More || random.below(2) == 0 {
            if let Some(part) = capture.take_part() {
                self.world.image.write(&part).map_err(|_| Stopped)?;
            }
        }
        let batch = self.keeper.finish(capture, &mut self.tree).ok().expect("positions were told before");
        self.world.image.write(&batch).map_err(|_| Stopped)?;
        if self.keeper.on_written(batch.bytes(), self.now_ms, self.now_ms) {
            self.world.image.flush().map_err(|_| Stopped)?;
            self.keeper.on_flushed(self.now_ms);
        }
        Ok(())
    }

    /// As a server does: the image up to date, a snapshot of it, a roll, a purge.
    fn write_snapshot(&mut self) -> Result<(), Stopped> {
        self.write_image(&mut Random(1))?;
        let job = self.keeper.begin_snapshot(&self.world.image, Compression::Plain).map_err(|_| Stopped)?;
        if let Some(job) = job {
            let id = job.write(&self.world.snap, Pace::Hurried).map_err(|_| Stopped)?;
            self.keeper.finish_snapshot(&self.world.image, &self.world.snap, id).map_err(|_| Stopped)?;
        }
        let purged = self
            .purger
            .plan(&self.world.log, &self.world.snap, 3)
            .and_then(|plan| plan.carry_out(&self.world.log, &self.world.snap))
            .map_err(|_| Stopped)?;
        assert_eq!(purged.kept_all, None);
        Ok(())
    }
}

fn open(world: &World, what: &str) -> Recovered {
    recover(&world.disks(), &world.image, &Options::default()).unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// Starts after a crash, with the image, without it and without anything in `dataDir/zooid`, and holds the result
/// against the history. None of these starts may need help.
fn check_start(world: &World, history: &mut History, what: &str) -> Recovered {
    let bare = world.without_image();
    let own = world.without_own();
    let without = open(&bare, what);
    let alone = open(&own, what);
    assert_eq!(alone.last_zxid, without.last_zxid, "{what}");
    trees::assert_equal(what, &alone.tree, &without.tree);
    let with = open(world, what);
    assert_eq!(with.last_zxid, without.last_zxid, "{what}");
    trees::assert_equal(what, &without.tree, &with.tree);
    assert!(with.last_zxid >= history.acknowledged, "{what}: {} of {}", with.last_zxid, history.acknowledged);
    assert!(with.last_zxid <= history.last(), "{what}");
    trees::assert_equal(what, &history.tree_at(with.last_zxid), &with.tree);
    assert_eq!(with.digest_check.mismatches() + without.digest_check.mismatches(), 0, "{what}");
    with
}

const FATES: [(Fate, u64); 5] = [(Fate::Kept, 1), (Fate::Lost, 1), (Fate::Torn, 1), (Fate::Torn, 2), (Fate::Torn, 3)];

/// Runs `steps` steps, or until the fuse blows.
fn run(world: &World, history: &mut History, seed: u64, steps: u32) -> Result<(), Stopped> {
    let mut random = Random(seed);
    let recovered = match recover(&world.disks(), &world.image, &Options::default()) {
        Ok(recovered) => recovered,
        Err(StorageError::Disk(_) | StorageError::NotMade { .. }) => return Err(Stopped),
        Err(other) => panic!("seed {seed}: {other}"),
    };
    let mut server = Server::start(world, recovered);
    for _ in 0..steps {
        server.step(history, &mut random)?;
    }
    Ok(())
}

// on-disk 8.1: 1 to 19, 29; design.md D4
#[test]
fn a_crash_at_any_operation_loses_nothing_that_was_acknowledged() {
    for seed in [1, 2, 3] {
        let steps = 60;
        let world = World::new();
        let _ = run(&world, &mut History::new(), seed, steps);
        let operations = world.operations();
        assert!(operations > 100, "{operations}");
        for at in 0..operations {
            for (fate, chance) in FATES {
                let what = format!("seed {seed}, operation {at}, {fate:?} {chance}");
                let world = World::new();
                let mut history = History::new();
                world.blow_after(at);
                let _ = run(&world, &mut history, seed, steps);
                world.crash(fate, &mut Random(chance * 1000 + at));
                check_start(&world, &mut history, &what);
            }
        }
    }
}

// on-disk 8.1: 16; torn tails in several files, each continued by the next
#[test]
fn many_crashes_in_a_row_lose_nothing_that_was_acknowledged() {
    for seed in 0..40 {
        let mut random = Random(seed);
        let world = World::new();
        let mut history = History::new();
        for round in 0..12 {
            world.blow_after(random.below(90));
            let _ = run(&world, &mut history, seed * 100 + round, 200);
            let fate = [Fate::Kept, Fate::Lost, Fate::Torn, Fate::Torn][random.below(4) as usize];
            world.crash(fate, &mut random);
            let recovered = check_start(&world, &mut history, &format!("seed {seed}, round {round}, {fate:?}"));
            history.rewind(recovered.last_zxid);
        }
    }
}

// the same for a start that is cut off itself
#[test]
fn a_crash_during_a_start_changes_nothing() {
    for seed in 1..4 {
        let stopped = || {
            let world = World::new();
            let mut history = History::new();
            world.blow_after(140);
            let _ = run(&world, &mut history, seed, 200);
            world.crash(Fate::Torn, &mut Random(seed));
            (world, history)
        };
        let (world, _) = stopped();
        let before = world.operations();
        open(&world, "the start itself");
        for at in 0..=world.operations() - before {
            for (fate, chance) in FATES {
                let (world, mut history) = stopped();
                world.blow_after(at);
                let _ = recover(&world.disks(), &world.image, &Options::default());
                world.crash(fate, &mut Random(chance + at));
                check_start(&world, &mut history, &format!("seed {seed}, operation {at} of the start, {fate:?}"));
            }
        }
    }
}

// on-disk 8.1: 26, 27, 28
#[test]
fn a_crash_at_any_operation_of_a_truncation_leaves_a_prefix_that_reaches_the_target() {
    for seed in [1, 4, 7] {
        let prepared = || {
            let world = World::new();
            let mut history = History::new();
            let _ = run(&world, &mut history, seed, 90);
            world.crash(Fate::Kept, &mut Random(seed));
            let recovered = check_start(&world, &mut history, "before");
            history.rewind(recovered.last_zxid);
            (world, history)
        };
        let (world, history) = prepared();
        let target = Zxid(history.last().0 - 25);
        let before = world.operations();
        assert!(matches!(trunc(&world.disks(), &world.image, target), Ok(Trunc::Done { .. })), "seed {seed}");
        let operations = world.operations() - before;
        assert!(operations > 5);
        for at in 0..=operations {
            for (fate, chance) in FATES {
                let what = format!("seed {seed}, operation {at} of the truncation, {fate:?} {chance}");
                let (world, mut history) = prepared();
                history.acknowledged = target;
                world.blow_after(at);
                let _ = trunc(&world.disks(), &world.image, target);
                world.crash(fate, &mut Random(chance + at));
                check_start(&world, &mut history, &what);
                assert!(matches!(trunc(&world.disks(), &world.image, target), Ok(Trunc::Done { .. })), "{what}");
                let recovered = check_start(&world, &mut history, &what);
                assert_eq!(recovered.last_zxid, target, "{what}");
            }
        }
    }
}

#[test]
fn a_truncation_that_nothing_reaches_changes_nothing() {
    let world = World::new();
    let mut history = History::new();
    let _ = run(&world, &mut history, 5, 40);
    world.crash(Fate::Kept, &mut Random(1));
    world.snap.delete("snapshot.0");
    let names = (world.log.names(), world.snap.names());
    let outcome = trunc(&world.disks(), &world.image, Zxid(1)).unwrap();
    if outcome == Trunc::NoBase {
        assert_eq!(names, (world.log.names(), world.snap.names()));
    } else {
        panic!("{outcome:?}: a snapshot at or below 1 was left");
    }
}

// design.md D4: what the image says is believed only if the log and the snapshots vouch for it
#[test]
fn an_image_that_is_damaged_foreign_or_ahead_is_dropped() {
    let prepared = || {
        let world = World::new();
        let mut history = History::new();
        let _ = run(&world, &mut history, 3, 60);
        let mut server = Server::start(&world, open(&world, "start"));
        assert!(server.write_image(&mut Random(9)).is_ok() && world.image.flush().is_ok());
        (world, history)
    };
    let used = |world: &World| {
        let recovered = open(world, "image");
        let bare = open(&world.without_image(), "image");
        trees::assert_equal("image", &bare.tree, &recovered.tree);
        matches!(recovered.image, ImageState::Used { .. })
    };
    let (world, _) = prepared();
    assert!(used(&world));

    let (world, _) = prepared();
    world.image.damage();
    assert!(!used(&world));

    let (world, _) = prepared();
    world.image.edit(|rows| {
        let key = rows.keys().next_back().unwrap().clone();
        rows.remove(&key);
    });
    assert!(!used(&world), "a row is missing");

    let (world, _) = prepared();
    world.image.edit(|rows| {
        // The digest counts nothing below /zookeeper; there, as for sessions and lists, the store's own
        // checksums have to do.
        let node = rows.iter().rfind(|(key, _)| key[0] == 4 && !key.ends_with(b"quota") && !key.ends_with(b"config"));
        let (key, mut row) = node.map(|(key, row)| (key.clone(), row.to_vec())).unwrap();
        row[3] ^= 1;
        rows.insert(key, row.into());
    });
    assert!(!used(&world), "a row is changed");

    // The log was cut shorter by somebody, or holds another transaction there: whole either way.
    let cut = |other: Option<Txn>| {
        let (world, _) = prepared();
        let Some(Anchor::Record(position)) = open(&world, "anchor").anchor else { panic!("no record") };
        world.log.delete("durable.zooid");
        world.log.edit(&position.file.to_string(), |file| {
            file.truncate(position.offset as usize);
            if let Some(txn) = other {
                let header = Header { session: SessionId(1), cxid: 1, zxid: position.zxid, time: 1 };
                let mut record = BytesMut::new();
                journal::write_record(&header, &txn, None, journal::PAYLOAD_MAX, &mut record).unwrap();
                file.extend_from_slice(&record);
            }
        });
        world
    };
    assert!(!used(&cut(Some(Txn::Error { code: -4 }))), "the log does not hold its record");
    // What was durable is gone, and nobody else can have it.
    let world = cut(None);
    let last = open(&world.without_image(), "image").last_zxid;
    let refused = recover(&world.disks(), &world.image, &Options::default()).map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains(&format!("giveUpAfter={last}")), "{refused}");
    // Unless it is given up, or was never synced.
    let given_up = Options { give_up_after: Some(last), ..Options::default() };
    let unsynced = Options { force_sync: zooid::storage::ForceSync::No, ..Options::default() };
    for options in [given_up, unsynced] {
        let world = cut(None);
        let recovered = recover(&world.disks(), &world.image, &options).unwrap();
        assert!(matches!(recovered.image, ImageState::Dropped { .. }) && recovered.last_zxid == last);
    }

    // A Java server was here: no transaction, but a snapshot of what it made of the state in memory.
    let (world, _) = prepared();
    let mut tree = open(&world, "java").tree;
    let header = Header { session: SessionId(1), cxid: 1, zxid: tree.last_zxid(), time: 1 };
    let txn = Txn::SetData { op: op::SET_DATA, path: "/".into(), data: None, version: 77 };
    tree.apply(&header, &txn, &mut Unwatched);
    let (_, file) = zooid::tree::snapshot::write_tree(&tree, Vec::new(), Compression::Plain).unwrap();
    world.snap.put(&format!("snapshot.{:x}", tree.last_zxid()), &file);
    assert!(!used(&world), "it does not know the snapshot");

    let (world, _) = prepared();
    let options = Options { server: 7, ..Options::default() };
    let recovered = recover(&world.disks(), &world.image, &options).unwrap();
    assert!(matches!(recovered.image, ImageState::Dropped { .. }), "it is another server's");
}
