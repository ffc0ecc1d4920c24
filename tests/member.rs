//! A member's storage, stopped at every single operation: while it logs, saves epochs, takes back what another
//! leader does not know, and replaces everything by a leader's snapshot. After each, starts with the image,
//! without it and without anything in `dataDir/zooid` must find the same log, a tree that holds only what was
//! applied, the tail behind it, and the epochs.
//!
//! on-disk 1.2, 2.6 and 8.1: 16, 21 to 24, 26 to 28; quorum-protocol 10: H2 to H6, H11 to H13.

mod support;

use std::path::PathBuf;

use bytes::BytesMut;
use support::sim::{Fate, Random, SimDisk, SimImage, World};
use support::{trees, txns};
use zooid::id::Zxid;
use zooid::journal;
use zooid::storage::epoch::EpochFile;
use zooid::storage::image::{Keeper, Progress};
use zooid::storage::purge::Purger;
use zooid::storage::{
    ForceSync, Image, ImageState, LogOptions, LogPart, MemberStore, Notice, OpenedMember, Options, Pace, Position,
    Refusal, Start, StorageError, Truncated, read_log, read_log_part, recover,
};
use zooid::tree::snapshot::{self, Compression};
use zooid::tree::{Tree, TreeRules, Unwatched};
use zooid::txn::{Logged, write_logged};
use zooid::zab::Entry;

const LOG: LogOptions = LogOptions { preallocate: 4096, size_limit: Some(3000), force_sync: ForceSync::Yes };
const SERVER: i64 = 3;

fn options() -> Options {
    Options { server: SERVER, ..Options::default() }
}

fn entry(logged: &Logged) -> Entry {
    let mut txn = BytesMut::new();
    write_logged(&logged.header, &logged.txn, logged.digest, &mut txn);
    Entry { zxid: logged.header.zxid, txn: txn.freeze() }
}

// ---- what a start may find ----

/// One course of events, from the empty tree on.
#[derive(Clone, Default)]
struct Course {
    entries: Vec<Logged>,
    /// The tree holds at least this: zero, or what a leader has sent, which need not be an entry's zxid.
    base: Zxid,
    /// The tree holds at most this.
    applied: Zxid,
    /// The log reaches at least to here.
    durable: Zxid,
}

impl Course {
    fn last(&self) -> Zxid {
        self.floor(Zxid(i64::MAX))
    }

    /// The last of its zxids up to `target`.
    fn floor(&self, target: Zxid) -> Zxid {
        let upto = self.entries.partition_point(|logged| logged.header.zxid <= target);
        let last = upto.checked_sub(1).map_or(Zxid::ZERO, |at| self.entries[at].header.zxid);
        if self.base <= target { last.max(self.base) } else { last }
    }

    fn tree_at(&self, zxid: Zxid) -> Tree {
        let mut tree = Tree::new(TreeRules::default());
        for logged in self.entries.iter().take_while(|logged| logged.header.zxid <= zxid) {
            tree.apply(&logged.header, &logged.txn, &mut Unwatched);
        }
        tree.set_last_zxid(zxid);
        tree
    }

    fn between(&self, after: Zxid, upto: Zxid) -> Vec<Entry> {
        let wanted = |logged: &&Logged| logged.header.zxid > after && logged.header.zxid <= upto;
        self.entries.iter().filter(wanted).map(entry).collect()
    }

    /// Adds entries that follow in `epoch`.
    fn invent(&mut self, epoch: u32, count: u64, random: &mut Random) -> Vec<Logged> {
        let mut tree = self.tree_at(self.last());
        let mut last = self.last().max(Zxid::new(epoch, 0));
        let invented = (0..count).map(|_| {
            last = last.next();
            txns::invent(&mut tree, last, random)
        });
        let invented: Vec<_> = invented.collect();
        self.entries.extend(invented.iter().cloned());
        invented
    }

    fn explains(&self, opened: &OpenedMember) -> Result<(), String> {
        let recovered = &opened.recovered;
        let (last, tree) = (recovered.last_zxid, recovered.tree.last_zxid());
        if last < self.durable || self.floor(last) != last {
            return Err(format!("the log ends with {last}, durable was {}", self.durable));
        }
        if tree < self.base || tree > self.applied || self.floor(tree) != tree {
            return Err(format!("the tree is at {tree}, applied was {} to {}", self.base, self.applied));
        }
        if trees::lines(&self.tree_at(tree)) != trees::lines(&recovered.tree) {
            return Err(format!("another tree at {tree}"));
        }
        if self.between(tree, last) != recovered.tail {
            let tail: Vec<_> = recovered.tail.iter().map(|entry| entry.zxid).collect();
            let expected: Vec<_> = self.between(tree, last).iter().map(|entry| entry.zxid).collect();
            return Err(format!("the tail from {tree} to {last} is {tail:?} and not {expected:?}"));
        }
        Ok(())
    }
}

/// Everything that a start may find.
#[derive(Clone)]
struct Model {
    /// The present, and while it is about to change, the future.
    courses: Vec<Course>,
    /// Durable, and perhaps durable.
    accepted: (i64, i64),
    current: (i64, i64),
}

impl Model {
    fn new() -> Self {
        Self { courses: vec![Course::default()], accepted: (0, 0), current: (0, 0) }
    }

    fn now(&mut self) -> &mut Course {
        assert_eq!(self.courses.len(), 1);
        &mut self.courses[0]
    }

    fn check(&self, opened: &OpenedMember, what: &str) -> usize {
        let verdicts: Vec<_> = self.courses.iter().map(|course| course.explains(opened)).collect();
        let found = verdicts.iter().position(Result::is_ok);
        let epochs = opened.epochs;
        let raised = i64::from(opened.recovered.last_zxid.epoch());
        let is_one_of = |epoch, (durable, perhaps): (i64, i64)| epoch == durable || epoch == perhaps;
        assert!(is_one_of(epochs.accepted, self.accepted), "{what}: {epochs:?} of {:?}", self.accepted);
        let current = (self.current.0.max(raised), self.current.1.max(raised));
        assert!(is_one_of(epochs.current, current), "{what}: {epochs:?} of {current:?}");
        assert_eq!(opened.recovered.digest_check.mismatches(), 0, "{what}");
        found.unwrap_or_else(|| panic!("{what}: {verdicts:?}\n{:?}", opened.recovered.notices))
    }

    /// Goes on from what a start has found.
    fn settle(&mut self, opened: &OpenedMember, course: usize) {
        let mut course = self.courses.swap_remove(course);
        let last = opened.recovered.last_zxid;
        course.entries.retain(|logged| logged.header.zxid <= last);
        (course.durable, course.applied) = (last, opened.recovered.tree.last_zxid());
        self.courses = vec![course];
        self.accepted = (opened.epochs.accepted, opened.epochs.accepted);
        self.current = (opened.epochs.current, opened.epochs.current);
    }
}

// ---- a member's life ----

type Store = MemberStore<SimDisk, SimImage>;

/// Storage has stopped.
#[derive(Debug)]
struct Stopped;

fn stopped<E: Into<StorageError>>(error: E) -> Stopped {
    match error.into() {
        StorageError::Refused(refusal) => panic!("{refusal}"),
        _ => Stopped,
    }
}

fn try_open(world: &World) -> Result<(Store, OpenedMember), StorageError> {
    MemberStore::open(world.disks(), world.image.clone(), options(), LOG)
}

fn open(world: &World, what: &str) -> (Store, OpenedMember) {
    try_open(world).unwrap_or_else(|error| panic!("{what}: {error}"))
}

struct Member<'a> {
    world: &'a World,
    model: &'a mut Model,
    store: Store,
    tree: Tree,
    keeper: Keeper,
    purger: Purger,
    now_ms: u64,
    counts: Counts,
}

/// What a life came across.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    cuts: u32,
    reloads: u32,
    no_base: u32,
    installs: u32,
    installs_below: u32,
}

impl<'a> Member<'a> {
    fn start(world: &'a World, model: &'a mut Model, store: Store, opened: OpenedMember) -> Self {
        let keeper = Keeper::new(SERVER, &opened.recovered, 0);
        let tree = opened.recovered.tree;
        Self { world, model, store, tree, keeper, purger: Purger::default(), now_ms: 0, counts: Counts::default() }
    }

    fn step(&mut self, random: &mut Random) -> Result<(), Stopped> {
        self.now_ms += 100;
        match random.below(17) {
            0..4 => self.append(random),
            4..7 => self.sync(),
            7 => self.apply(random),
            8 => self.store.write_durable_mark().map_err(stopped),
            9 | 10 => self.write_image(),
            11 => self.world.image.flush().map_err(|_| Stopped),
            12 => self.write_snapshot(),
            13 => {
                let durable = self.store.roll().map_err(stopped)?;
                self.on_durable(durable);
                Ok(())
            }
            _ => self.follow(random),
        }
    }

    fn append(&mut self, random: &mut Random) -> Result<(), Stopped> {
        let epoch = self.store.epochs().current as u32;
        if epoch == 0 {
            return Ok(());
        }
        self.append_in(epoch, random)
    }

    fn append_in(&mut self, epoch: u32, random: &mut Random) -> Result<(), Stopped> {
        let batch = self.model.now().invent(epoch, 1 + random.below(4), random);
        let mut records = BytesMut::new();
        for logged in &batch {
            journal::write_record(&logged.header, &logged.txn, logged.digest, journal::PAYLOAD_MAX, &mut records)
                .unwrap();
        }
        let (first, last) = (batch[0].header.zxid, batch[batch.len() - 1].header.zxid);
        self.store.append(first, last, &records).map_err(stopped)
    }

    fn sync(&mut self) -> Result<(), Stopped> {
        let durable = self.store.sync().map_err(stopped)?;
        self.on_durable(durable);
        Ok(())
    }

    fn on_durable(&mut self, durable: zooid::storage::Durable) {
        self.model.now().durable = durable.zxid;
        self.keeper.on_durable(&durable.records);
    }

    /// A leader has confirmed some of what is durable.
    fn apply(&mut self, random: &mut Random) -> Result<(), Stopped> {
        let course = self.model.now();
        let at = self.tree.last_zxid();
        let ready = |logged: &&Logged| logged.header.zxid > at && logged.header.zxid <= course.durable;
        let mut ready: Vec<_> = course.entries.iter().filter(ready).cloned().collect();
        ready.truncate(random.below(ready.len() as u64 + 1) as usize);
        for logged in ready {
            self.tree.apply(&logged.header, &logged.txn, &mut Unwatched);
        }
        course.applied = self.tree.last_zxid();
        Ok(())
    }

    fn write_image(&mut self) -> Result<(), Stopped> {
        let mut capture = self.keeper.begin();
        while capture.take(&mut self.tree) == Progress::More {}
        let batch = self.keeper.finish(capture, &mut self.tree).ok().expect("positions were told before");
        self.world.image.write(&batch).map_err(|_| Stopped)?;
        if self.keeper.on_written(batch.bytes(), self.now_ms, self.now_ms) {
            self.world.image.flush().map_err(|_| Stopped)?;
            self.keeper.on_flushed(self.now_ms);
        }
        Ok(())
    }

    fn write_snapshot(&mut self) -> Result<(), Stopped> {
        self.write_image()?;
        if let Some(job) = self.keeper.begin_snapshot(&self.world.image, Compression::Plain).map_err(|_| Stopped)? {
            let id = job.write(&self.world.snap, Pace::Hurried).map_err(|_| Stopped)?;
            self.keeper.finish_snapshot(&self.world.image, &self.world.snap, id).map_err(|_| Stopped)?;
        }
        let purged = self
            .purger
            .plan(&self.world.log, &self.world.snap, 3)
            .and_then(|plan| plan.carry_out(&self.world.log, &self.world.snap))
            .map_err(stopped)?;
        assert_eq!(purged.kept_all, None);
        Ok(())
    }

    /// Another leader: a promise, a sync of one kind or the other, and what it says about the epoch.
    fn follow(&mut self, random: &mut Random) -> Result<(), Stopped> {
        let epoch = self.store.epochs().accepted + 1;
        self.save_epoch(EpochFile::Accepted, epoch)?;
        if random.below(2) == 0 {
            self.sync()?;
        }
        match random.below(5) {
            0 => {}
            1 | 2 => self.truncate(random)?,
            _ => self.install(epoch as u32, random)?,
        }
        if random.below(2) == 0 {
            self.append_in(epoch as u32, random)?;
            self.sync()?;
        }
        self.save_epoch(EpochFile::Current, epoch)
    }

    fn save_epoch(&mut self, file: EpochFile, epoch: i64) -> Result<(), Stopped> {
        let (durable, _) = match file {
            EpochFile::Accepted => self.model.accepted,
            EpochFile::Current => self.model.current,
        };
        let set = |model: &mut Model, value| match file {
            EpochFile::Accepted => model.accepted = value,
            EpochFile::Current => model.current = value,
        };
        set(self.model, (durable, epoch));
        self.store.save_epoch(file, epoch).map_err(stopped)?;
        set(self.model, (epoch, epoch));
        Ok(())
    }

    fn truncate(&mut self, random: &mut Random) -> Result<(), Stopped> {
        let course = self.model.now();
        let some = |random: &mut Random, course: &Course| {
            let at = random.below(course.entries.len() as u64 + 1) as usize;
            course.entries.get(at).map_or(Zxid(course.last().0 + 3), |logged| logged.header.zxid)
        };
        let target = match random.below(4) {
            // Often a zxid that was never logged.
            0 => Zxid::new(some(random, course).epoch(), 0),
            1 => some(random, course),
            _ => some(random, course).max(self.tree.last_zxid()),
        };
        self.truncate_to(target)
    }

    fn truncate_to(&mut self, target: Zxid) -> Result<(), Stopped> {
        let applied = self.tree.last_zxid();
        let course = self.model.now();
        let before = course.clone();
        course.durable = course.durable.min(course.floor(target));
        match self.store.truncate(target, applied).map_err(stopped)? {
            Truncated::Log { last, .. } => {
                self.counts.cuts += u32::from(last != before.last());
                assert!(target >= applied || target >= before.last());
                assert_eq!(last, before.floor(target).max(before.base));
            }
            Truncated::Reloaded { recovered, .. } => {
                self.counts.reloads += 1;
                assert!(target < applied);
                self.keeper.on_reloaded(&recovered, self.now_ms);
                self.tree = recovered.tree;
                let course = self.model.now();
                course.applied = self.tree.last_zxid();
                assert!(course.applied <= target);
                assert_eq!(course.between(course.applied, target), recovered.tail);
                trees::assert_equal("reloaded", &course.tree_at(course.applied), &self.tree);
            }
            Truncated::NoBase => {
                self.counts.no_base += 1;
                *self.model.now() = before;
                return Ok(());
            }
        }
        self.keeper.on_truncated(target);
        let course = self.model.now();
        course.entries.retain(|logged| logged.header.zxid <= target);
        course.durable = course.last();
        assert_eq!(self.store.last(), course.last());
        // What stays of an append without a sync is still to be told.
        self.sync()
    }

    /// A leader's history: some of ours, more of its own, and something that is not committed.
    fn install(&mut self, epoch: u32, random: &mut Random) -> Result<(), Stopped> {
        let old = self.model.now().clone();
        let shared = random.below(old.entries.len() as u64 + 1) as usize;
        let mut new = Course { entries: old.entries[..shared].to_vec(), ..Course::default() };
        // Often it is behind ours, as that of a leader which never saw what a failed one had proposed.
        let is_behind = random.below(2) == 0;
        let at_most = |n: u64, random: &mut Random| if is_behind { 0 } else { random.below(n + 1) };
        let own = at_most(2, random);
        new.invent(epoch, own, random);
        new.base =
            if new.entries.is_empty() || !is_behind && random.below(3) == 0 { Zxid::new(epoch, 0) } else { new.last() };
        new.base = new.base.max(new.last());
        new.applied = new.base;
        let tree = new.tree_at(new.base);
        let uncommitted = at_most(3, random);
        let rest: Vec<_> = new.invent(epoch, uncommitted, random).iter().map(entry).collect();
        new.durable = new.last();
        self.counts.installs += 1;
        self.counts.installs_below += u32::from(new.last() < old.last());
        self.model.courses.push(new.clone());
        let installed = self.store.install(&tree, &rest).map_err(stopped)?;
        installed.image.map_err(|_| Stopped)?;
        assert_eq!((installed.snapshot.name.zxid, installed.last), (new.base, new.last()));
        assert_eq!(installed.records.len(), rest.len());
        self.model.courses = vec![new];
        self.tree = tree;
        self.keeper.on_replaced(installed.snapshot);
        self.keeper.on_durable(&installed.records);
        assert!(self.world.snap.names().iter().all(|name| !name.starts_with("incoming")));
        Ok(())
    }
}

fn life(world: &World, model: &mut Model, seed: u64, steps: u32) -> Result<Counts, Stopped> {
    let mut random = Random(seed);
    let (store, opened) = try_open(world).map_err(stopped)?;
    let course = model.check(&opened, "at the start");
    model.settle(&opened, course);
    let mut member = Member::start(world, model, store, opened);
    for _ in 0..steps {
        member.step(&mut random)?;
    }
    Ok(member.counts)
}

/// Starts three times after a crash; none may need help.
fn check_start(world: &World, model: &mut Model, what: &str) -> (Store, OpenedMember) {
    let (bare, own) = (world.without_image(), world.without_own());
    let (_, without) = open(&bare, what);
    let (_, alone) = open(&own, what);
    let (store, with) = open(world, what);
    assert_eq!(with.recovered.last_zxid, without.recovered.last_zxid, "{what}");
    assert_eq!(with.recovered.last_zxid, alone.recovered.last_zxid, "{what}");
    let course = model.check(&with, what);
    assert_eq!(model.check(&without, what), course, "{what}");
    assert_eq!(model.check(&alone, what), course, "{what}");
    model.settle(&with, course);
    (store, with)
}

const FATES: [(Fate, u64); 4] = [(Fate::Kept, 1), (Fate::Lost, 1), (Fate::Torn, 1), (Fate::Torn, 2)];

#[test]
fn a_crash_at_any_operation_leaves_what_was_promised() {
    let (mut used, mut reached) = (0, Counts::default());
    for seed in [112, 237] {
        let steps = 40;
        let new_world = || if seed == 237 { World::with_one_directory() } else { World::new() };
        let world = new_world();
        let counts = life(&world, &mut Model::new(), seed, steps).expect("nothing stops it");
        reached.cuts += counts.cuts;
        reached.reloads += counts.reloads;
        reached.no_base += counts.no_base;
        reached.installs += counts.installs;
        reached.installs_below += counts.installs_below;
        let operations = world.operations();
        for at in 0..operations {
            for (fate, chance) in FATES {
                let what = format!("seed {seed}, operation {at} of {operations}, {fate:?} {chance}");
                let world = new_world();
                let mut model = Model::new();
                world.blow_after(at);
                assert!(life(&world, &mut model, seed, steps).is_err(), "{what}");
                world.crash(fate, &mut Random(chance * 1000 + at));
                let (_, opened) = check_start(&world, &mut model, &what);
                used += u32::from(matches!(opened.recovered.image, ImageState::Used { .. }));
            }
        }
    }
    let Counts { cuts, reloads, no_base, installs, installs_below } = reached;
    assert!(cuts > 0 && reloads > 0 && installs > 2 && installs_below > 0 && no_base > 0, "{reached:?}");
    assert!(used > 100, "the image was used {used} times");
}

#[test]
fn many_crashes_in_a_row_leave_what_was_promised() {
    for seed in 0..40 {
        let mut random = Random(seed);
        let world = if seed % 2 == 0 { World::new() } else { World::with_one_directory() };
        let mut model = Model::new();
        for round in 0..12 {
            let what = format!("seed {seed}, round {round}");
            world.blow_after(random.below(120));
            let _ = life(&world, &mut model, seed * 100 + round, 200);
            let fate = [Fate::Kept, Fate::Lost, Fate::Torn, Fate::Torn][random.below(4) as usize];
            world.crash(fate, &mut random);
            check_start(&world, &mut model, &what);
        }
    }
}

/// A life that is cut off somewhere, and a start that follows.
fn cut_off(seed: u64, fate: Fate) -> (World, Model) {
    let world = World::new();
    let mut model = Model::new();
    world.blow_after(60 + seed * 7);
    let _ = life(&world, &mut model, seed, 200);
    world.crash(fate, &mut Random(seed));
    (world, model)
}

#[test]
fn a_crash_during_a_start_changes_nothing() {
    for seed in 0..12 {
        let (world, _) = cut_off(seed, Fate::Torn);
        let before = world.operations();
        open(&world, "the start itself");
        for at in 0..=world.operations() - before {
            for (fate, chance) in FATES {
                let (world, mut model) = cut_off(seed, Fate::Torn);
                world.blow_after(at);
                let _ = try_open(&world);
                world.crash(fate, &mut Random(chance + at));
                check_start(&world, &mut model, &format!("seed {seed}, operation {at} of the start, {fate:?}"));
            }
        }
    }
}

// H11: what a start has read was perhaps in the page cache of a process that was killed
#[test]
fn what_a_start_has_found_survives_a_power_cut() {
    let mut unsynced = 0;
    for seed in 0..60 {
        let (world, mut model) = cut_off(seed, Fate::Cached);
        let durable = model.courses[0].durable;
        let (_, found) = check_start(&world, &mut model, "after the kill");
        unsynced += u32::from(found.recovered.last_zxid > durable);
        world.crash(Fate::Lost, &mut Random(1));
        let (_, again) = check_start(&world, &mut model, &format!("seed {seed}, after the power cut"));
        assert_eq!(again.recovered.last_zxid, found.recovered.last_zxid, "seed {seed}");
        let numbers = |opened: &OpenedMember| (opened.epochs.accepted, opened.epochs.current);
        assert_eq!(numbers(&again), numbers(&found), "seed {seed}");
    }
    assert!(unsynced > 10, "{unsynced} starts found more than was durable");
}

// ---- single stories ----

/// A member that has logged `ends` in files of their own: each is the last zxid of one.
struct Story {
    world: World,
    course: Course,
}

impl Story {
    /// Files whose last zxids are `ends`; the first of each epoch has counter 1.
    fn new(ends: &[Zxid]) -> Self {
        let (world, mut course, mut random) = (World::new(), Course::default(), Random(7));
        let (mut store, _) = open(&world, "an empty directory");
        let top = i64::from(ends.last().map_or(0, |end| end.epoch()));
        store.save_epoch(EpochFile::Accepted, top).unwrap();
        store.save_epoch(EpochFile::Current, top).unwrap();
        for end in ends {
            let start = course.last();
            let count = if start.epoch() == end.epoch() { end.0 - start.0 } else { i64::from(end.counter()) };
            let batch = course.invent(end.epoch(), count as u64, &mut random);
            append(&mut store, &batch.iter().map(entry).collect::<Vec<_>>());
            store.roll().unwrap();
        }
        store.write_durable_mark().unwrap();
        (course.durable, course.applied) = (course.last(), Zxid::ZERO);
        Self { world, course }
    }

    fn open(&self) -> (Store, OpenedMember) {
        let (store, opened) = open(&self.world, "a start");
        self.course.explains(&opened).unwrap_or_else(|why| panic!("{why}"));
        (store, opened)
    }

    /// With everything up to `applied` in an image.
    fn with_image(mut self, applied: Zxid) -> Self {
        let (_, opened) = self.open();
        let mut keeper = Keeper::new(SERVER, &opened.recovered, 0);
        let mut tree = self.course.tree_at(applied);
        let mut capture = keeper.begin();
        while capture.take(&mut tree) == Progress::More {}
        let batch = keeper.finish(capture, &mut tree).ok().expect("the tail's positions are known");
        self.world.image.write(&batch).unwrap();
        self.world.image.flush().unwrap();
        self.course.applied = applied;
        self
    }
}

fn append(store: &mut Store, entries: &[Entry]) {
    let mut records = BytesMut::new();
    for entry in entries {
        journal::write_payload(&entry.txn, &mut records);
    }
    store.append(entries[0].zxid, entries[entries.len() - 1].zxid, &records).unwrap();
}

fn z(epoch: u32, counter: u32) -> Zxid {
    Zxid::new(epoch, counter)
}

fn logs(world: &World) -> Vec<String> {
    world.log.names().into_iter().filter(|name| name.starts_with("log.")).collect()
}

#[test]
fn the_tail_is_handed_out_and_not_applied() {
    let story = Story::new(&[z(1, 5), z(1, 9), z(2, 3)]);
    let (store, opened) = story.open();
    assert_eq!((opened.recovered.tree.last_zxid(), store.last()), (Zxid::ZERO, z(2, 3)));
    assert_eq!(opened.recovered.tail.len(), 12);
    let zxids = |positions: &[zooid::storage::Position]| positions.iter().map(|at| at.zxid).collect::<Vec<_>>();
    let of_tail: Vec<_> = opened.recovered.tail.iter().map(|entry| entry.zxid).collect();
    assert_eq!(zxids(&opened.recovered.tail_positions), of_tail);

    let story = story.with_image(z(1, 7));
    let (_, opened) = story.open();
    assert_eq!(opened.recovered.image, ImageState::Used { applied: z(1, 7) });
    assert_eq!(opened.recovered.tail.len(), 5);
}

// H2, on-disk 2.6
#[test]
fn exactly_what_is_behind_the_target_goes() {
    let ends = [z(1, 5), z(1, 9), z(3, 3), z(3, 6)];
    // Target, what is left, and how many files.
    let cases = [
        (z(3, 6), z(3, 6), 4),
        (z(3, 99), z(3, 6), 4),
        (z(9, 0), z(3, 6), 4),
        (z(3, 5), z(3, 5), 4),
        (z(3, 3), z(3, 3), 3),
        (z(3, 2), z(3, 2), 3),
        (z(3, 0), z(1, 9), 2),
        (z(2, 0), z(1, 9), 2),
        (z(1, 200), z(1, 9), 2),
        (z(1, 7), z(1, 7), 2),
        (z(1, 5), z(1, 5), 1),
        (z(1, 0), Zxid::ZERO, 0),
        (Zxid::ZERO, Zxid::ZERO, 0),
    ];
    for (target, left, files) in cases {
        let mut story = Story::new(&ends);
        let (mut store, _) = story.open();
        let Ok(Truncated::Log { last, .. }) = store.truncate(target, Zxid::ZERO) else { panic!("to {target}") };
        assert_eq!((last, store.last()), (left, left), "to {target}");
        assert_eq!(logs(&story.world).len(), files, "to {target}: {:?}", logs(&story.world));
        story.course.entries.retain(|logged| logged.header.zxid <= target);
        story.course.durable = left;
        // The writer goes on, and so does a start.
        let next = story.course.invent(4, 3, &mut Random(5));
        append(&mut store, &next.iter().map(entry).collect::<Vec<_>>());
        let durable = store.sync().unwrap();
        assert_eq!((durable.zxid, durable.records.len()), (z(4, 3), 3));
        story.course.durable = z(4, 3);
        store.save_epoch(EpochFile::Accepted, 4).unwrap();
        story.open();
        story.world.crash(Fate::Lost, &mut Random(1));
        let (_, opened) = story.open();
        assert!(!opened.recovered.notices.iter().any(|notice| matches!(notice, Notice::MarkAhead { .. })));
    }
}

// A sync that has not been reported yet must tell of what stays, and of nothing that went.
#[test]
fn a_truncation_between_append_and_sync_is_reported_rightly() {
    let mut story = Story::new(&[z(1, 5)]);
    let (mut store, _) = story.open();
    let batch = story.course.invent(1, 4, &mut Random(3));
    append(&mut store, &batch.iter().map(entry).collect::<Vec<_>>());
    assert!(matches!(store.truncate(z(1, 7), Zxid::ZERO), Ok(Truncated::Log { last, .. }) if last == z(1, 7)));
    let durable = store.sync().unwrap();
    assert_eq!(durable.zxid, z(1, 7));
    assert_eq!(durable.records.iter().map(|at| at.zxid).collect::<Vec<_>>(), [z(1, 6), z(1, 7)]);
}

// A leader that never led may have been killed while it wrote its first snapshot, of what is taken back now.
#[test]
fn a_torn_snapshot_above_the_target_goes_with_the_log() {
    let mut story = Story::new(&[z(1, 9)]);
    let torn = format!("snapshot.{:x}", z(1, 8).0);
    story.world.snap.put(&torn, b"ZKSN");
    let (mut store, _) = story.open();
    assert!(matches!(store.truncate(z(1, 6), Zxid::ZERO), Ok(Truncated::Log { last, .. }) if last == z(1, 6)));
    assert!(!story.world.snap.names().contains(&torn));
    story.course.entries.retain(|logged| logged.header.zxid <= z(1, 6));
    story.course.durable = z(1, 6);
    let (store, _) = story.open();
    assert_eq!(store.last(), z(1, 6));
}

// What is logged again after a truncation stands elsewhere.
#[test]
fn an_image_goes_by_where_its_record_stands_now() {
    for (cut, applied) in (2..9).flat_map(|cut| (cut + 1..=9).map(move |applied| (cut, applied))) {
        let mut story = Story::new(&[z(1, 9)]);
        let (mut store, opened) = story.open();
        let mut keeper = Keeper::new(SERVER, &opened.recovered, 0);
        assert!(matches!(store.truncate(z(1, cut), Zxid::ZERO), Ok(Truncated::Log { .. })));
        keeper.on_truncated(z(1, cut));
        append(&mut store, &story.course.between(z(1, cut), z(1, 9)));
        keeper.on_durable(&store.sync().unwrap().records);
        let mut tree = story.course.tree_at(z(1, applied));
        let mut capture = keeper.begin();
        while capture.take(&mut tree) == Progress::More {}
        let batch = keeper.finish(capture, &mut tree).ok().expect("it was told");
        story.world.image.write(&batch).unwrap();
        story.course.applied = z(1, applied);
        let (_, opened) = story.open();
        assert_eq!(opened.recovered.image, ImageState::Used { applied: z(1, applied) }, "cut to {cut}");
    }
}

// design.md D4: the image is believed only if its record stands in the log
#[test]
fn an_image_is_not_believed_over_a_log_that_was_cut_below_it() {
    let cut = |applied: Zxid| {
        let story = Story::new(&[z(1, 5), z(1, 9)]).with_image(z(1, 8));
        let (mut store, _) = open(&story.world, "a start");
        let truncated = store.truncate(z(1, 6), applied).unwrap();
        (story, truncated)
    };
    let (mut story, truncated) = cut(z(1, 8));
    let Truncated::Reloaded { recovered, .. } = truncated else { panic!("the tree held more") };
    assert_eq!((recovered.tree.last_zxid(), recovered.last_zxid), (Zxid::ZERO, z(1, 6)));
    assert_eq!(recovered.tail.len(), 6);
    assert_eq!(recovered.image, ImageState::Empty, "it was destroyed before the log was cut");
    story.course.entries.retain(|logged| logged.header.zxid <= z(1, 6));
    story.course.durable = z(1, 6);
    story.open();

    // The same zxids stand there again, with other transactions.
    let mut story = Story::new(&[z(1, 5), z(1, 9)]).with_image(z(1, 8));
    story.course.entries.retain(|logged| logged.header.zxid <= z(1, 6));
    story.course.invent(1, 4, &mut Random(99));
    let image = story.world.image.clone();
    let world = story.world.without_image();
    let mut store = open(&world, "a start").0;
    assert!(matches!(store.truncate(z(1, 6), Zxid::ZERO), Ok(Truncated::Log { .. })));
    append(&mut store, &story.course.between(z(1, 6), z(1, 10)));
    store.sync().unwrap();
    let opened = MemberStore::open(world.disks(), image, options(), LOG).unwrap().1;
    assert!(matches!(opened.recovered.image, ImageState::Dropped { .. }), "{:?}", opened.recovered.image);
    story.course.explains(&opened).unwrap();
}

#[test]
fn without_a_snapshot_below_the_target_nothing_is_changed() {
    let story = Story::new(&[z(1, 5), z(1, 9)]);
    let (mut store, _) = story.open();
    store.install(&story.course.tree_at(z(1, 8)), &story.course.between(z(1, 8), z(1, 9))).unwrap();
    let names = (story.world.log.names(), story.world.snap.names());
    assert!(matches!(store.truncate(z(1, 6), z(1, 8)), Ok(Truncated::NoBase)));
    assert_eq!((story.world.log.names(), story.world.snap.names()), names);
    assert_eq!(store.last(), z(1, 9));
    let mut course = story.course;
    (course.base, course.applied) = (z(1, 8), z(1, 8));
    let next = course.invent(1, 1, &mut Random(1));
    append(&mut store, &[entry(&next[0])]);
    course.durable = store.sync().unwrap().zxid;
    course.explains(&open(&story.world, "it goes on").1).unwrap();
}

// H3, H13
#[test]
fn what_a_snapshot_from_a_leader_replaces_never_comes_back() {
    for base in [z(1, 7), z(1, 9), z(2, 0), z(5, 0)] {
        let story = Story::new(&[z(1, 5), z(1, 9), z(3, 4)]).with_image(z(3, 2));
        let (mut store, _) = open(&story.world, "a start");
        store.save_epoch(EpochFile::Accepted, 5).unwrap();
        let mut new = story.course.clone();
        new.entries.retain(|logged| logged.header.zxid <= base);
        (new.base, new.applied, new.durable) = (base, base, base);
        let installed = store.install(&new.tree_at(base), &[]).unwrap();
        assert_eq!((installed.last, store.last()), (base, base));
        assert!(logs(&story.world).is_empty());
        let (_, opened) = open(&story.world, "right after");
        new.explains(&opened).unwrap();
        assert_eq!(opened.recovered.notices.iter().find(|notice| matches!(notice, Notice::MarkAhead { .. })), None);
        assert!(opened.recovered.tail.is_empty());
        assert_eq!(opened.epochs.current, 3.max(i64::from(base.epoch())));

        let mut store = open(&story.world, "again").0;
        let next = new.invent(5, 2, &mut Random(4));
        append(&mut store, &next.iter().map(entry).collect::<Vec<_>>());
        new.durable = store.sync().unwrap().zxid;
        story.world.crash(Fate::Lost, &mut Random(1));
        new.explains(&open(&story.world, "later").1).unwrap();
    }
}

#[test]
fn one_generation_of_what_was_replaced_is_kept() {
    let story = Story::new(&[z(1, 5), z(1, 9)]);
    let (mut store, _) = story.open();
    let aside = |world: &World| {
        let mut names: Vec<_> = world.log.names().into_iter().chain(world.snap.names()).collect();
        names.retain(|name| name.starts_with("replaced."));
        names
    };
    let mut course = story.course.clone();
    for round in 0..5 {
        let base = course.last();
        store.install(&course.tree_at(base), &[]).unwrap();
        course.base = base;
        let next = course.invent(1, 3, &mut Random(round));
        append(&mut store, &next.iter().map(entry).collect::<Vec<_>>());
        store.sync().unwrap();
        let expected = if round == 0 { 3 } else { 2 };
        assert_eq!(aside(&story.world).len(), expected, "round {round}: {:?}", aside(&story.world));
    }
    let present: Vec<_> = story.world.snap.names().into_iter().filter(|name| name.starts_with("snapshot.")).collect();
    assert_eq!(present, ["snapshot.100000015"]);
}

/// A replacement that stopped right after it began to count.
fn half_replaced() -> (Story, Course) {
    for at in 0.. {
        let story = Story::new(&[z(1, 5), z(1, 9)]);
        let (mut store, _) = story.open();
        let mut new = story.course.clone();
        new.entries.truncate(3);
        new.base = new.last();
        let tree = new.tree_at(new.base);
        let rest: Vec<_> = new.invent(1, 2, &mut Random(77)).iter().map(entry).collect();
        (new.applied, new.durable) = (new.base, new.last());
        story.world.blow_after(at);
        assert!(store.install(&tree, &rest).is_err());
        story.world.crash(Fate::Kept, &mut Random(1));
        if story.world.snap.names().iter().any(|name| name == "incoming") {
            return (story, new);
        }
    }
    unreachable!()
}

#[test]
fn a_replacement_that_began_to_count_comes_to_its_end() {
    let (story, new) = half_replaced();
    let (_, opened) = open(&story.world, "after the crash");
    new.explains(&opened).unwrap();
    let finished = |notice: &Notice| matches!(notice, Notice::Replaced { by } if by.zxid == new.base);
    assert!(opened.recovered.notices.iter().any(finished), "{:?}", opened.recovered.notices);
    new.explains(&open(&story.world, "and again").1).unwrap();
}

/// A Java server knows nothing of the record: what it has logged since counts.
#[test]
fn a_replacement_is_void_once_another_server_has_gone_on() {
    let (mut story, _) = half_replaced();
    let next = story.course.invent(1, 1, &mut Random(5));
    let mut file = BytesMut::from(&journal::file_header()[..]);
    journal::write_payload(&entry(&next[0]).txn, &mut file);
    story.world.log.put(&format!("log.{:x}", next[0].header.zxid), &file);
    story.course.durable = next[0].header.zxid;
    let (_, opened) = story.open();
    assert!(opened.recovered.tail.last().is_some_and(|entry| entry.zxid == z(1, 10)));
    let names: Vec<_> = story.world.snap.names().into_iter().chain(story.world.log.names()).collect();
    assert!(!names.iter().any(|name| name.starts_with("incoming")), "{names:?}");
}

/// As a Java server, or an operator who removes what he does not know.
#[test]
fn without_the_record_there_is_the_old_state_a_beginning_of_it_or_the_new_one() {
    let mut found = [0; 3];
    for base in [z(1, 3), z(1, 12), z(3, 2), z(4, 0)] {
        for at in 0.. {
            let story = Story::new(&[z(1, 5), z(1, 9), z(3, 4)]).with_image(z(3, 2));
            // Snapshots above and below the new one.
            for zxid in [z(1, 7), z(3, 2)] {
                let (_, file) =
                    snapshot::write_tree(&story.course.tree_at(zxid), Vec::new(), Compression::Plain).unwrap();
                story.world.snap.put(&format!("snapshot.{zxid:x}"), &file);
            }
            let (mut store, _) = open(&story.world, "a start");
            store.save_epoch(EpochFile::Accepted, 4).unwrap();
            let mut new = story.course.clone();
            new.entries.retain(|logged| logged.header.zxid <= base);
            if base == z(1, 12) {
                new.invent(1, 3, &mut Random(8));
            }
            new.base = base;
            let tree = new.tree_at(base);
            let rest: Vec<_> = new.invent(4, 2, &mut Random(9)).iter().map(entry).collect();
            (new.applied, new.durable) = (base, base);
            story.world.blow_after(at);
            let is_done = store.install(&tree, &rest).is_ok();
            story.world.crash(Fate::Kept, &mut Random(1));
            let java = story.world.without_own();
            for disk in [&java.snap, &java.log] {
                for name in disk.names().iter().filter(|name| name.starts_with("incoming")) {
                    disk.delete(name);
                }
            }
            let mut old = story.course.clone();
            let what = format!("{base}, operation {at}: {:?} {:?}", java.snap.names(), logs(&java));
            let opened = open(&java, &what).1;
            let is_whole = old.explains(&opened).is_ok();
            old.durable = Zxid::ZERO;
            let case = match (new.explains(&opened), old.explains(&opened)) {
                (_, Ok(())) if is_whole => 0,
                (_, Ok(())) => 1,
                (Ok(()), _) => 2,
                (Err(new), Err(old)) => panic!("{what}: {new}; {old}"),
            };
            found[case] += 1;
            if is_done {
                assert_eq!(new.explains(&opened), Ok(()), "{what}");
                break;
            }
        }
    }
    assert!(found.iter().all(|times| *times > 4), "{found:?}");
}

#[test]
fn a_replacement_that_does_not_read_changes_nothing_or_is_refused() {
    let ready = |story: &Story| {
        let names = story.world.snap.names();
        names.into_iter().find(|name| name.starts_with("incoming.snapshot")).expect("it is ready")
    };
    // All that was there is still there.
    let (story, _) = half_replaced();
    story.world.snap.edit(&ready(&story), |file| file[200] ^= 1);
    story.open();

    // Some of it is not.
    let (story, _) = half_replaced();
    story.world.snap.edit(&ready(&story), |file| file[200] ^= 1);
    story.world.log.delete("log.100000006");
    let refused = |world: &World| match try_open(world) {
        Err(StorageError::Refused(refusal)) => *refusal,
        Err(other) => panic!("{other}"),
        Ok((_, opened)) => panic!("it opens {}", opened.recovered.last_zxid),
    };
    assert!(matches!(refused(&story.world), Refusal::HalfReplaced { .. }));

    let (story, _) = half_replaced();
    story.world.snap.edit("incoming", |file| file[20] ^= 1);
    let refusal = refused(&story.world);
    assert!(refusal.to_string().contains("let the leader fill them again"), "{refusal}");
}

#[test]
fn a_full_disk_keeps_a_snapshot_from_being_installed_and_nothing_else() {
    let story = Story::new(&[z(1, 5)]);
    let (mut store, _) = story.open();
    story.world.fill_up(true);
    let tree = story.course.tree_at(z(1, 4));
    assert!(matches!(store.install(&tree, &[]), Err(StorageError::Full(_))));
    story.world.fill_up(false);
    let mut course = story.course.clone();
    let next = course.invent(1, 1, &mut Random(1));
    append(&mut store, &[entry(&next[0])]);
    course.durable = store.sync().unwrap().zxid;
    course.explains(&open(&story.world, "it goes on").1).unwrap();
}

// zookeeper.db.autocreate=false
#[test]
fn a_member_that_was_never_filled_says_so_until_it_is() {
    let strict = Options { db_autocreate: false, ..options() };
    let open = |world: &World| MemberStore::open(world.disks(), world.image.clone(), strict, LOG).unwrap();
    let fresh = World::new();
    assert_eq!(MemberStore::open(fresh.disks(), fresh.image.clone(), options(), LOG).unwrap().0.last(), Zxid::ZERO);

    let world = World::new();
    for _ in 0..2 {
        let (store, opened) = open(&world);
        assert_eq!((store.last(), opened.recovered.last_zxid), (Zxid(-1), Zxid(-1)));
        assert_eq!((opened.epochs.accepted, opened.epochs.current), (-1, -1));
    }
    let (mut store, _) = open(&world);
    store.save_epoch(EpochFile::Accepted, 2).unwrap();
    assert_eq!(open(&world).0.last(), Zxid(-1), "a promise is no history");
    let mut course = Course::default();
    let (mut store, _) = open(&world);
    let logged = course.invent(2, 2, &mut Random(1));
    append(&mut store, &logged.iter().map(entry).collect::<Vec<_>>());
    course.durable = store.sync().unwrap().zxid;
    store.save_epoch(EpochFile::Current, 2).unwrap();
    let (store, opened) = open(&world);
    assert_eq!(store.last(), z(2, 2));
    course.explains(&opened).unwrap();

    // Filled with nothing.
    let world = World::new();
    let (mut store, _) = open(&world);
    store.save_epoch(EpochFile::Accepted, 2).unwrap();
    store.save_epoch(EpochFile::Current, 2).unwrap();
    assert_eq!(open(&world).0.last(), Zxid::ZERO);

    // Filled with a snapshot.
    let world = World::new();
    let (mut store, _) = open(&world);
    store.install(&course.tree_at(z(2, 1)), &course.between(z(2, 1), z(2, 2))).unwrap();
    course.base = z(2, 1);
    course.applied = z(2, 1);
    store.save_epoch(EpochFile::Accepted, 2).unwrap();
    course.explains(&open(&world).1).unwrap();
}

// ---- reading the log for a learner ----

#[test]
fn a_log_is_read_only_where_it_tells_everything() {
    let story = Story::new(&[z(1, 5), z(1, 9), z(3, 3), z(3, 6)]);
    let read = |after, upto, max| read_log(&story.world.log, after, upto, max).unwrap();
    let part = |after, upto, most| {
        let part = read_log_part(&story.world.log, Start::Behind(after), upto, most).unwrap();
        part.map(|part| part.entries)
    };
    let all = story.course.between(Zxid::ZERO, z(3, 6));
    let zxids: Vec<_> = all.iter().map(|entry| entry.zxid).collect();
    for (at, after) in zxids.iter().enumerate() {
        for (to, upto) in zxids.iter().enumerate().skip(at) {
            assert_eq!(read(*after, *upto, 1 << 20), Some(all[at + 1..=to].to_vec()), "{after} to {upto}");
        }
    }
    let bytes = |entries: &[Entry]| entries.iter().map(|entry| entry.txn.len() as u64).sum::<u64>();
    let some = &all[2..8];
    assert_eq!(read(z(1, 2), z(1, 8), bytes(some)), Some(some.to_vec()));
    assert_eq!(read(z(1, 2), z(1, 8), bytes(some) - 1), None, "it is more than may be read");
    assert_eq!(part(z(1, 2), z(1, 8), bytes(some)), Some(some.to_vec()));
    assert_eq!(part(z(1, 2), z(1, 8), bytes(some) - 1), Some(some[..5].to_vec()));
    assert_eq!(part(z(1, 2), z(1, 8), 0), Some(some[..1].to_vec()), "one at least");
    assert_eq!(part(z(1, 20), z(3, 2), 0), None, "that was never here");
    // Part by part, each behind the last record of the one before.
    let (mut got, mut start) = (Vec::new(), Start::Behind(z(1, 2)));
    while got.len() < all.len() - 2 {
        let LogPart { entries, end } =
            read_log_part(&story.world.log, start, z(3, 6), bytes(&all[2..5])).unwrap().unwrap();
        start = Start::BehindRecord(end.unwrap());
        assert_eq!(start.zxid(), entries.last().unwrap().zxid);
        got.extend(entries);
    }
    assert_eq!(got, all[2..]);
    assert_eq!(read_log_part(&story.world.log, start, z(3, 7), 1 << 20).unwrap(), None, "the log ends before");
    // A record that stands there no longer is looked for by its zxid.
    let Start::BehindRecord(end) = start else { unreachable!() };
    let moved = Start::BehindRecord(Position { zxid: z(3, 2), ..end });
    assert_eq!(read_log_part(&story.world.log, moved, z(3, 6), 1 << 20).unwrap().unwrap().entries, all[11..]);

    assert_eq!(read(z(1, 0), z(1, 3), 1 << 20), Some(all[..3].to_vec()), "an epoch begins with counter 1");
    assert_eq!(read(z(3, 0), z(3, 2), 1 << 20), Some(all[9..11].to_vec()));
    assert_eq!(read(Zxid::ZERO, z(1, 3), 1 << 20), None, "what came before the epoch is not known");
    assert_eq!(read(z(2, 0), z(3, 2), 1 << 20), None, "nothing says what belongs to that epoch");
    assert_eq!(read(z(1, 20), z(3, 2), 1 << 20), None, "that was never here");
    assert_eq!(read(z(3, 2), z(3, 7), 1 << 20), None, "the log ends before");
    assert_eq!(read(z(1, 4), z(2, 0), 1 << 20), Some(all[4..9].to_vec()), "an epoch's start needs no record");

    story.world.log.delete("log.300000001");
    assert_eq!(read(z(1, 2), z(3, 5), 1 << 20), None, "a file is missing");
    assert_eq!(read(z(3, 1), z(3, 5), 1 << 20), None);
    assert_eq!(read(z(3, 3), z(3, 5), 1 << 20), Some(all[12..14].to_vec()));
}

#[test]
fn a_log_is_read_while_it_is_written() {
    let mut story = Story::new(&[z(1, 5)]);
    let (mut store, _) = story.open();
    let next: Vec<_> = story.course.invent(1, 3, &mut Random(1)).iter().map(entry).collect();
    append(&mut store, &next[..2]);
    store.sync().unwrap();
    append(&mut store, &next[2..]);
    let expected = story.course.between(z(1, 3), z(1, 7));
    assert_eq!(store.read_log(z(1, 3), z(1, 7), 1 << 20), Ok(Some(expected)));
    let before = (story.world.log.names(), story.world.operations());
    store.read_log(z(1, 3), z(1, 9), 1 << 20).unwrap();
    assert_eq!((story.world.log.names(), story.world.operations()), before, "a reader changes nothing");
}

// ---- a Java member's directory ----

#[test]
fn a_java_member_s_directory_opens_to_its_tree_and_tail() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/java-datadir");
    for set in ["quorum-3.9.5", "trunc-3.9.5"] {
        let world = World::with_one_directory();
        for entry in std::fs::read_dir(root.join(set).join("dataDir/version-2")).unwrap() {
            let entry = entry.unwrap();
            world.snap.put(entry.file_name().to_str().unwrap(), &std::fs::read(entry.path()).unwrap());
        }
        let whole = recover(&world.without_own().disks(), &world.without_own().image, &Options::default()).unwrap();
        let (mut store, opened) = open(&world, set);
        assert_eq!(opened.recovered.last_zxid, whole.last_zxid, "{set}");
        assert_eq!(opened.epochs.current, i64::from(whole.last_zxid.epoch()), "{set}");
        let mut tree = opened.recovered.tree;
        assert_eq!(tree.last_zxid(), opened.recovered.snapshot, "{set}");
        for entry in &opened.recovered.tail {
            let logged = Logged::read(entry.txn.clone()).unwrap();
            tree.apply(&logged.header, &logged.txn, &mut Unwatched);
        }
        trees::assert_equal(set, &whole.tree, &tree);

        // It goes on, and comes back.
        let last = store.last();
        let target = opened.recovered.tail.iter().rev().nth(1).map_or(last, |entry| entry.zxid);
        let entry = entry(&txns::invent(&mut tree, last.next(), &mut Random(3)));
        append(&mut store, std::slice::from_ref(&entry));
        store.sync().unwrap();
        assert_eq!(open(&world, set).1.recovered.tail.last(), Some(&entry), "{set}");
        assert!(
            matches!(store.truncate(target, opened.recovered.snapshot), Ok(Truncated::Log { last, .. }) if last == target)
        );
        assert_eq!(open(&world, set).0.last(), target, "{set}");
    }
}
