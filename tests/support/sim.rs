//! A disk that crashes. What a file holds is kept twice: as the process sees it, and as it survives. A crash
//! decides sector by sector which of the unsynced writes arrived, in any order, and how many of the unsynced
//! changes to names did, in their order, as a journaling file system has it.

#![allow(dead_code)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;
use zooid::storage::image::{Batch, TakeRow, View};
use zooid::storage::{Disk, DiskError, DiskErrorKind, Disks, Image, ImageError};

const SECTOR: usize = 512;

/// A generator that needs no crate (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// What a crash does with what was not synced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// A kill of the process: all of it is there.
    Kept,
    /// The same, but none of it is any safer than before.
    Cached,
    /// A power cut that takes all of it.
    Lost,
    /// A power cut that takes some of it.
    Torn,
}

/// Counts operations across all disks and images of a world, and stops it at one of them.
#[derive(Default)]
pub struct Fuse {
    operations: u64,
    blows_at: Option<u64>,
    /// Bytes that may still be allocated.
    room: Option<u64>,
    /// No write finds room.
    is_full: bool,
    /// How many syncs of files or directories succeed before one fails.
    syncs_left: Option<u64>,
}

pub type SharedFuse = Rc<RefCell<Fuse>>;

impl Fuse {
    fn burn(&mut self) -> bool {
        if self.blows_at.is_some_and(|at| self.operations >= at) {
            return false;
        }
        self.operations += 1;
        true
    }

    fn may_sync(&mut self) -> bool {
        match &mut self.syncs_left {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Inode {
    now: Vec<u8>,
    safe: Vec<u8>,
    /// Sectors that a failed sync has left clean in the cache and not on the disk: no later sync writes them,
    /// unless they are written again (ext4).
    forgotten: BTreeSet<usize>,
}

impl Inode {
    fn crash(&mut self, fate: Fate, random: &mut Random) {
        self.forgotten.clear();
        let mut survivor = match fate {
            Fate::Kept | Fate::Cached => self.now.clone(),
            Fate::Lost => self.safe.clone(),
            Fate::Torn => {
                let len = if random.below(2) == 0 { self.now.len() } else { self.safe.len() };
                let mut mixed = vec![0; len];
                for at in (0..len).step_by(SECTOR) {
                    let end = (at + SECTOR).min(len);
                    let from = if random.below(2) == 0 { &self.now } else { &self.safe };
                    if at < from.len() {
                        let have = end.min(from.len());
                        mixed[at..have].copy_from_slice(&from[at..have]);
                    }
                }
                mixed
            }
        };
        survivor.shrink_to_fit();
        self.safe = survivor.clone();
        self.now = survivor;
    }

    fn sync(&mut self) {
        let kept: Vec<(usize, Vec<u8>)> = self
            .forgotten
            .iter()
            .map(|sector| (sector * SECTOR, self.safe.iter().skip(sector * SECTOR).take(SECTOR).copied().collect()))
            .collect();
        self.safe.clone_from(&self.now);
        for (at, bytes) in kept {
            let end = (at + SECTOR).min(self.safe.len());
            if at < end {
                self.safe[at..end].fill(0);
                let have = bytes.len().min(end - at);
                self.safe[at..at + have].copy_from_slice(&bytes[..have]);
            }
        }
    }

    /// The cache believes from now on that all of it is on the disk.
    fn forget(&mut self) {
        for sector in 0..self.now.len().div_ceil(SECTOR) {
            let at = sector * SECTOR;
            let end = (at + SECTOR).min(self.now.len());
            if self.safe.get(at..end) != Some(&self.now[at..end]) {
                self.forgotten.insert(sector);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum NameChange {
    Add(String, usize),
    Remove(String),
    Rename(String, String),
}

fn replay(names: &mut BTreeMap<String, usize>, change: &NameChange) {
    match change {
        NameChange::Add(name, inode) => {
            names.insert(name.clone(), *inode);
        }
        NameChange::Remove(name) => {
            names.remove(name);
        }
        NameChange::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
    }
}

#[derive(Debug, Default)]
struct Directory {
    exists: bool,
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    safe_names: BTreeMap<String, usize>,
    unsafe_changes: Vec<NameChange>,
}

#[derive(Clone)]
pub struct SimDisk {
    path: String,
    dir: Rc<RefCell<Directory>>,
    fuse: SharedFuse,
}

impl SimDisk {
    pub fn new(path: &str, fuse: &SharedFuse) -> Self {
        Self { path: path.to_owned(), dir: Rc::default(), fuse: fuse.clone() }
    }

    fn error(&self, kind: DiskErrorKind, operation: &'static str, name: &str, message: &str) -> DiskError {
        DiskError { kind, operation, path: format!("{}/{name}", self.path), message: message.to_owned() }
    }

    fn burn(&self, operation: &'static str, name: &str) -> Result<(), DiskError> {
        if self.fuse.borrow_mut().burn() {
            return Ok(());
        }
        Err(self.error(DiskErrorKind::Other, operation, name, "the power is out"))
    }

    fn inode<T>(&self, name: &str, act: impl FnOnce(&mut Inode) -> T) -> Result<T, DiskError> {
        let mut dir = self.dir.borrow_mut();
        let Some(ix) = dir.names.get(name).copied() else {
            return Err(self.error(DiskErrorKind::Other, "use", name, "no such file"));
        };
        Ok(act(&mut dir.inodes[ix]))
    }

    fn give_back(&self, freed: u64) {
        if let Some(room) = &mut self.fuse.borrow_mut().room {
            *room += freed;
        }
    }

    /// Puts a file there, as durable as can be.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let mut dir = self.dir.borrow_mut();
        dir.exists = true;
        let ix = dir.inodes.len();
        dir.inodes.push(Inode { now: bytes.to_vec(), safe: bytes.to_vec(), ..Inode::default() });
        dir.names.insert(name.to_owned(), ix);
        dir.safe_names.insert(name.to_owned(), ix);
    }

    pub fn content(&self, name: &str) -> Option<Vec<u8>> {
        let dir = self.dir.borrow();
        dir.names.get(name).map(|ix| dir.inodes[*ix].now.clone())
    }

    pub fn names(&self) -> Vec<String> {
        self.dir.borrow().names.keys().cloned().collect()
    }

    /// Edits a file in place, durably: a fault, not a write.
    pub fn edit(&self, name: &str, act: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.content(name).unwrap_or_else(|| panic!("{name} is not there"));
        act(&mut bytes);
        self.put(name, &bytes);
    }

    pub fn delete(&self, name: &str) {
        let mut dir = self.dir.borrow_mut();
        dir.names.remove(name);
        dir.safe_names.remove(name);
    }

    /// Whether what a power cut that takes everything unsynced would leave of a file passes, from there on.
    pub fn is_safe(&self, name: &str, offset: u64, check: impl FnOnce(&[u8]) -> bool) -> bool {
        let dir = self.dir.borrow();
        let Some(ix) = dir.safe_names.get(name) else { return false };
        dir.inodes[*ix].safe.get(offset as usize..).is_some_and(check)
    }

    pub fn safe_names(&self) -> Vec<String> {
        self.dir.borrow().safe_names.keys().cloned().collect()
    }

    fn crash(&self, fate: Fate, random: &mut Random) {
        if fate == Fate::Cached {
            return;
        }
        let mut dir = self.dir.borrow_mut();
        let changes = std::mem::take(&mut dir.unsafe_changes);
        let kept = match fate {
            Fate::Kept | Fate::Cached => changes.len(),
            Fate::Lost => 0,
            Fate::Torn => random.below(changes.len() as u64 + 1) as usize,
        };
        let mut names = dir.safe_names.clone();
        for change in &changes[..kept] {
            replay(&mut names, change);
        }
        dir.safe_names = names.clone();
        dir.names = names;
        for inode in &mut dir.inodes {
            inode.crash(fate, random);
        }
    }
}

impl Disk for SimDisk {
    fn path(&self) -> String {
        self.path.clone()
    }

    fn exists(&self) -> Result<bool, DiskError> {
        Ok(self.dir.borrow().exists)
    }

    fn make(&self) -> Result<(), DiskError> {
        self.burn("mkdir", "")?;
        self.dir.borrow_mut().exists = true;
        Ok(())
    }

    fn is_writable(&self) -> bool {
        true
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        Ok(self.names())
    }

    fn len(&self, name: &str) -> Result<Option<u64>, DiskError> {
        let dir = self.dir.borrow();
        Ok(dir.names.get(name).map(|ix| dir.inodes[*ix].now.len() as u64))
    }

    fn read(&self, name: &str, offset: u64, len: usize) -> Result<Bytes, DiskError> {
        self.inode(name, |inode| {
            let from = (offset as usize).min(inode.now.len());
            Bytes::copy_from_slice(&inode.now[from..(from + len).min(inode.now.len())])
        })
    }

    fn create(&self, name: &str) -> Result<(), DiskError> {
        self.burn("create", name)?;
        let mut dir = self.dir.borrow_mut();
        if let Some(ix) = dir.names.get(name).copied() {
            dir.inodes[ix].now.clear();
            return Ok(());
        }
        let ix = dir.inodes.len();
        dir.inodes.push(Inode::default());
        dir.names.insert(name.to_owned(), ix);
        dir.unsafe_changes.push(NameChange::Add(name.to_owned(), ix));
        Ok(())
    }

    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        if self.fuse.borrow().is_full {
            return Err(self.error(DiskErrorKind::Full, "write", name, "no space left on device"));
        }
        let done = self.burn("write", name);
        let whole = done.is_ok();
        self.inode(name, |inode| {
            // A process that is killed in a write has written a part of it.
            let bytes = if whole { bytes } else { &bytes[..bytes.len() / 2] };
            let end = offset as usize + bytes.len();
            if inode.now.len() < end {
                inode.now.resize(end, 0);
            }
            inode.now[offset as usize..end].copy_from_slice(bytes);
            if !inode.forgotten.is_empty() {
                let written = offset as usize / SECTOR..end.div_ceil(SECTOR);
                inode.forgotten.retain(|sector| !written.contains(sector));
            }
        })?;
        done
    }

    fn preallocate(&self, name: &str, len: u64) -> Result<(), DiskError> {
        self.burn("preallocate", name)?;
        let grown = self.inode(name, |inode| len.saturating_sub(inode.now.len() as u64))?;
        let mut fuse = self.fuse.borrow_mut();
        if let Some(room) = fuse.room.as_mut() {
            if *room < grown {
                // As ext4: what there is, and then no more.
                let taken = std::mem::take(room) as usize;
                drop(fuse);
                self.inode(name, |inode| inode.now.resize(inode.now.len() + taken, 0))?;
                return Err(self.error(DiskErrorKind::Full, "preallocate", name, "no space left on device"));
            }
            *room -= grown;
        }
        drop(fuse);
        self.inode(name, |inode| {
            if inode.now.len() < len as usize {
                inode.now.resize(len as usize, 0);
            }
        })
    }

    fn set_len(&self, name: &str, len: u64) -> Result<(), DiskError> {
        self.burn("truncate", name)?;
        let freed = self.inode(name, |inode| {
            let before = inode.now.len() as u64;
            inode.now.resize(len as usize, 0);
            before.saturating_sub(len)
        })?;
        self.give_back(freed);
        Ok(())
    }

    fn sync(&self, name: &str) -> Result<(), DiskError> {
        self.burn("sync", name)?;
        if !self.fuse.borrow_mut().may_sync() {
            self.inode(name, Inode::forget)?;
            return Err(self.error(DiskErrorKind::Other, "sync", name, "input/output error"));
        }
        self.inode(name, Inode::sync)
    }

    fn sync_dir(&self) -> Result<(), DiskError> {
        self.burn("sync of the directory", "")?;
        if !self.fuse.borrow_mut().may_sync() {
            return Err(self.error(DiskErrorKind::Other, "sync of the directory", "", "input/output error"));
        }
        let mut dir = self.dir.borrow_mut();
        dir.unsafe_changes.clear();
        dir.safe_names = dir.names.clone();
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.burn("rename", from)?;
        let mut dir = self.dir.borrow_mut();
        assert!(dir.names.contains_key(from), "{from} is not there");
        let change = NameChange::Rename(from.to_owned(), to.to_owned());
        replay(&mut dir.names, &change);
        dir.unsafe_changes.push(change);
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.burn("remove", name)?;
        let freed = self.inode(name, |inode| inode.now.len() as u64).unwrap_or(0);
        self.give_back(freed);
        let mut dir = self.dir.borrow_mut();
        dir.names.remove(name);
        dir.unsafe_changes.push(NameChange::Remove(name.to_owned()));
        Ok(())
    }
}

type Rows = BTreeMap<Vec<u8>, Bytes>;

#[derive(Default)]
struct Store {
    safe: Rows,
    unsafe_batches: Vec<Batch>,
    is_damaged: bool,
}

fn write_rows(rows: &mut Rows, batch: &Batch) {
    for (key, value) in &batch.rows {
        match value {
            Some(value) => rows.insert(key.clone(), value.clone()),
            None => rows.remove(key),
        };
    }
}

/// A store of which a crash takes whole batches, the newest first.
#[derive(Clone)]
pub struct SimImage {
    store: Rc<RefCell<Store>>,
    fuse: SharedFuse,
}

impl SimImage {
    pub fn new(fuse: &SharedFuse) -> Self {
        Self { store: Rc::default(), fuse: fuse.clone() }
    }

    /// The store no longer opens.
    pub fn damage(&self) {
        self.store.borrow_mut().is_damaged = true;
    }

    pub fn edit(&self, act: impl FnOnce(&mut BTreeMap<Vec<u8>, Bytes>)) {
        act(&mut self.store.borrow_mut().safe);
    }

    fn burn(&self) -> Result<(), ImageError> {
        let burnt = self.fuse.borrow_mut().burn();
        if burnt { Ok(()) } else { Err(ImageError::Store("the power is out".into())) }
    }

    fn crash(&self, fate: Fate, random: &mut Random) {
        let mut store = self.store.borrow_mut();
        let batches = std::mem::take(&mut store.unsafe_batches);
        // The store writes ahead of a flush as it likes, but never out of order; and it loses all that was
        // not flushed even if only the process dies.
        let kept = match fate {
            Fate::Kept | Fate::Cached | Fate::Torn => random.below(batches.len() as u64 + 1) as usize,
            Fate::Lost => 0,
        };
        for batch in &batches[..kept] {
            write_rows(&mut store.safe, batch);
        }
    }

    fn rows(&self) -> Rows {
        let store = self.store.borrow();
        let mut rows = store.safe.clone();
        for batch in &store.unsafe_batches {
            write_rows(&mut rows, batch);
        }
        rows
    }
}

pub struct SimView(Rows);

impl View for SimView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ImageError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, take: TakeRow<'_>) -> Result<(), ImageError> {
        self.0.iter().try_for_each(|(key, value)| take(key, value))
    }
}

impl Image for SimImage {
    type View = SimView;

    fn open(&self) -> Result<(), ImageError> {
        if self.store.borrow().is_damaged { Err(ImageError::Store("damaged".into())) } else { Ok(()) }
    }

    fn view(&self) -> Result<SimView, ImageError> {
        Ok(SimView(self.rows()))
    }

    fn write(&self, batch: &Batch) -> Result<(), ImageError> {
        self.burn()?;
        self.store.borrow_mut().unsafe_batches.push(batch.clone());
        Ok(())
    }

    fn flush(&self) -> Result<(), ImageError> {
        self.burn()?;
        let rows = self.rows();
        let mut store = self.store.borrow_mut();
        store.safe = rows;
        store.unsafe_batches.clear();
        Ok(())
    }

    fn destroy(&self) -> Result<(), ImageError> {
        self.burn()?;
        *self.store.borrow_mut() = Store::default();
        Ok(())
    }
}

/// A server's directories and its image.
pub struct World {
    pub log: SimDisk,
    pub snap: SimDisk,
    pub log_home: SimDisk,
    pub own: SimDisk,
    pub image: SimImage,
    pub fuse: SharedFuse,
}

impl World {
    /// With logs in a directory of their own.
    pub fn new() -> Self {
        let fuse = SharedFuse::default();
        Self {
            log: SimDisk::new("/log/version-2", &fuse),
            snap: SimDisk::new("/data/version-2", &fuse),
            log_home: SimDisk::new("/log", &fuse),
            own: SimDisk::new("/data/zooid", &fuse),
            image: SimImage::new(&fuse),
            fuse,
        }
    }

    /// With logs beside the snapshots.
    pub fn with_one_directory() -> Self {
        let mut world = Self::new();
        world.log = SimDisk::new("/data/version-2", &world.fuse);
        world.snap = world.log.clone();
        world.log_home = SimDisk::new("/data", &world.fuse);
        world
    }

    pub fn disks(&self) -> Disks<SimDisk> {
        Disks { log: self.log.clone(), snap: self.snap.clone(), log_home: self.log_home.clone(), own: self.own.clone() }
    }

    /// The same files, as they are now, and no image.
    pub fn without_image(&self) -> Self {
        let one = self.log.path() == self.snap.path();
        let copy = if one { Self::with_one_directory() } else { Self::new() };
        let all = [
            (&self.log, &copy.log),
            (&self.snap, &copy.snap),
            (&self.log_home, &copy.log_home),
            (&self.own, &copy.own),
        ];
        for (from, to) in all {
            to.dir.borrow_mut().exists = from.dir.borrow().exists;
            for name in from.names() {
                to.put(&name, &from.content(&name).unwrap());
            }
        }
        copy
    }

    /// The same files, as they are now, but for all of `dataDir/zooid`.
    pub fn without_own(&self) -> Self {
        let copy = self.without_image();
        *copy.own.dir.borrow_mut() = Directory::default();
        copy
    }

    /// Something is wrong with it that may end a server: no power, no room, or a sync that fails.
    pub fn is_faulty(&self) -> bool {
        let fuse = self.fuse.borrow();
        self.is_out() || fuse.is_full || fuse.room.is_some() || fuse.syncs_left == Some(0)
    }

    /// Operations so far.
    pub fn operations(&self) -> u64 {
        self.fuse.borrow().operations
    }

    /// Lets `more` operations pass, and no further one.
    pub fn blow_after(&self, more: u64) {
        let mut fuse = self.fuse.borrow_mut();
        fuse.blows_at = Some(fuse.operations + more);
    }

    pub fn is_out(&self) -> bool {
        let fuse = self.fuse.borrow();
        fuse.blows_at.is_some_and(|at| fuse.operations >= at)
    }

    pub fn fill_up(&self, is_full: bool) {
        self.fuse.borrow_mut().is_full = is_full;
    }

    pub fn set_room(&self, room: Option<u64>) {
        self.fuse.borrow_mut().room = room;
    }

    /// Lets `more` syncs succeed; those after it fail, until a crash.
    pub fn fail_syncs_after(&self, more: u64) {
        self.fuse.borrow_mut().syncs_left = Some(more);
    }

    /// Lets all operations succeed again, of a machine that is on.
    pub fn blow_never(&self) {
        let mut fuse = self.fuse.borrow_mut();
        (fuse.blows_at, fuse.syncs_left) = (None, None);
    }

    /// The process or the machine dies, and is started again.
    pub fn crash(&self, fate: Fate, random: &mut Random) {
        self.log.crash(fate, random);
        if !Rc::ptr_eq(&self.log.dir, &self.snap.dir) {
            self.snap.crash(fate, random);
        }
        self.own.crash(fate, random);
        self.log_home.crash(fate, random);
        self.image.crash(fate, random);
        self.blow_never();
    }
}
