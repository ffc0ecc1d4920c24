//! What a start makes of the directories: the newest state that they prove, or a refusal that names what is
//! wrong. Nothing on disk changes until it is clear that the start is not refused, but for a replacement that
//! a crash has cut off: that comes to its end first (on-disk 4).

use std::fmt;

use bytes::Bytes;

use super::chain::{self, Chain, Start};
use super::error::{DirectoryKind, Refusal};
use super::image::{self, Anchor, Image};
use super::mark::Mark;
use super::names::{self, LogName, SnapshotName};
use super::segments::ForceSync;
use super::snapshots::{self, SnapshotId, Unusable};
use super::{Disk, DiskError, DiskErrorKind, Position, StorageError, install};
use crate::id::Zxid;
use crate::journal::{Damage, FILE_HEADER_LEN, Scan};
use crate::planted::{self, Bug};
use crate::tree::digest::{DigestCheck, Verdict};
use crate::tree::snapshot::{Compression, DigestSection};
use crate::tree::{Tree, TreeRules, Unwatched};
use crate::txn::Logged;
use crate::zab::Entry;

/// The directories of a server.
pub struct Disks<D> {
    /// `dataLogDir/version-2`.
    pub log: D,
    /// `dataDir/version-2`; the same directory unless `dataLogDir` says otherwise.
    pub snap: D,
    /// `dataLogDir`, where Java looks for the file `initialize`.
    pub log_home: D,
    /// `dataDir/zooid`.
    pub own: D,
}

#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub rules: TreeRules,
    pub replay: Replay,
    /// Whose image counts: `myid`, 0 standalone.
    pub server: i64,
    /// `zookeeper.snapshot.trust.empty`.
    pub trust_empty: bool,
    /// `zookeeper.datadir.autocreate`.
    pub make_directories: bool,
    /// `zookeeper.db.autocreate`.
    pub db_autocreate: bool,
    /// For snapshots that recovery itself writes.
    pub compression: Compression,
    /// `zooid.giveUpAfter`: if the start would be refused for something behind exactly this zxid, set that
    /// aside and start. It names one place, so it does no harm when it is left in a configuration.
    pub give_up_after: Option<Zxid>,
    /// Without it the image may know more than a power cut has left of the log.
    pub force_sync: ForceSync,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rules: TreeRules::default(),
            replay: Replay::All,
            server: 0,
            trust_empty: false,
            make_directories: true,
            db_autocreate: true,
            compression: Compression::Plain,
            give_up_after: None,
            force_sync: ForceSync::Yes,
        }
    }
}

/// What happens to the log behind snapshot or image.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Replay {
    /// Standalone: every logged transaction counts.
    All,
    /// A member of an ensemble: the tail is checked but not applied, until a leader confirms it (design.md D17).
    Nothing,
}

/// Where the log goes on.
#[derive(Clone, Copy, Debug)]
pub struct LogState {
    /// The last logged zxid; -1 for a member that must not vote before it was synced.
    pub last: Zxid,
    pub(super) mark: Option<Mark>,
    /// The file with the last record, and where that ends.
    pub(super) end: Option<(LogName, u64)>,
}

/// What is to be done for the image.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ImageState {
    /// It was used, and lacks what was replayed.
    Used { applied: Zxid },
    /// It is empty now: every node of the tree counts as changed.
    Empty,
    /// It was dropped, for this reason, and is empty now.
    Dropped { why: String },
    /// It was dropped and could not be made anew: run without, say so, and try again later.
    Unavailable { why: String },
}

pub struct Recovered {
    pub tree: Tree,
    pub digest_check: DigestCheck,
    /// The last zxid on disk. Equal to the tree's, except for a member with a tail that is not applied.
    pub last_zxid: Zxid,
    pub log: LogState,
    pub image: ImageState,
    /// What the tree is the state of, for the image's keeper.
    pub anchor: Option<Anchor>,
    /// Snapshots that the image may vouch for.
    pub known_snapshots: Vec<SnapshotId>,
    /// The zxid of the newest usable snapshot.
    pub snapshot: Zxid,
    /// Its length.
    pub snapshot_bytes: u64,
    /// Transactions since that snapshot, and their bytes.
    pub txns_since_snapshot: u64,
    pub bytes_since_snapshot: u64,
    pub replayed: u64,
    /// With [`Replay::Nothing`]: what is logged behind the tree, in order, and where it stands.
    pub tail: Vec<Entry>,
    pub tail_positions: Vec<Position>,
    pub notices: Vec<Notice>,
}

/// What a start has seen or done that an operator may want to know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Notice {
    /// A name that resembles a log or a snapshot, and is ignored; Java would use or delete the file.
    LookAlike {
        name: String,
    },
    SnapshotUnusable {
        name: SnapshotName,
        reason: String,
    },
    SnapshotWritten {
        name: SnapshotName,
    },
    /// A log that is not needed, and can't be read.
    Unread {
        file: LogName,
        error: DiskError,
    },
    /// A log without a single byte of its header.
    Unwritten {
        file: LogName,
    },
    OddHeader {
        file: LogName,
        version: i32,
        dbid: i64,
    },
    /// A log below the snapshot whose name is not its first zxid.
    Misnamed {
        file: LogName,
        first: Zxid,
    },
    TornTail {
        file: LogName,
        offset: u64,
        last: Zxid,
    },
    /// Pages of a batch that was never acknowledged reached the disk out of order.
    UnfinishedBatch {
        file: LogName,
        offset: u64,
        last: Zxid,
        damage: Damage,
    },
    /// A log below the snapshot is damaged: older snapshots can't be recovered from any more.
    DamageBelowSnapshot {
        file: LogName,
        offset: u64,
        damage: Damage,
    },
    /// A record stands twice; it was applied once.
    Repeated {
        file: LogName,
        offset: u64,
        zxid: Zxid,
    },
    GivenUp {
        reason: String,
        last: Zxid,
    },
    SetAside {
        from: String,
        to: String,
    },
    Cut {
        file: LogName,
        at: u64,
    },
    Removed {
        name: String,
    },
    /// The log ends before what was once durable. A newer file may have been lost.
    MarkAhead {
        file: LogName,
        zxid: Zxid,
        last: Zxid,
    },
    /// A member's image knows of more than its log: what a leader has taken back, or what a log held that is gone.
    ImageAhead {
        image: Zxid,
        last: Zxid,
    },
    DigestMismatch {
        zxid: Zxid,
        count: u64,
    },
    /// The snapshot's digest belongs to a transaction that is not in the log.
    DigestNeverReached {
        last: Zxid,
    },
    /// Ephemerals of sessions that do not exist were deleted, without a transaction, as Java does.
    OrphansDropped {
        nodes: usize,
    },
    ImageDropped {
        why: String,
    },
    /// The last start was cut off while a leader's snapshot took the place of everything; now it has.
    Replaced {
        by: SnapshotName,
    },
}

/// The state before the log's tail.
struct Base {
    tree: Tree,
    check: DigestCheck,
    start: Start,
    /// `None` for the built-in tree, whose snapshot is written once nothing is refused.
    anchor: Option<Anchor>,
}

/// Reads the newest state that is on disk.
pub fn recover<D: Disk, I: Image>(disks: &Disks<D>, image: &I, options: &Options) -> Result<Recovered, StorageError> {
    check_directories(disks, options)?;
    let replaced = install::finish_begun(disks)?;
    let may_start_empty = take_initialize_marker(disks)? || options.db_autocreate;
    let mut notices = look_alikes(disks)?;
    let mark = Mark::read(&disks.log)?;
    let snapshots = snapshots::list(&disks.snap)?;

    let mut dropped = None;
    let mut from_image = None;
    let mut image_knows = None;
    if let Some(begun) = replaced {
        notices.extend(begun.notices);
        dropped = begun.replaced_by.map(|name| format!("{name} has taken the place of what it was an image of"));
    }
    if dropped.is_none() {
        image_knows = known_to_image(image, options);
        match open_image(disks, image, options, &snapshots) {
            Ok(base) => from_image = base,
            Err(why) => dropped = Some(why),
        }
    }
    let mut unusable = Vec::new();
    let used_image = from_image.is_some();
    let mut run = None;
    if let Some(base) = from_image.take() {
        let mut attempt = Tail::new(disks, mark, options, base)?;
        match attempt.run(options) {
            Ok(()) => run = Some(attempt),
            // The log does not continue the image. It may continue a snapshot.
            Err(StorageError::Refused(refusal)) => dropped = Some(refusal.to_string()),
            Err(error) => return Err(error),
        }
    }
    let mut run = match run {
        Some(run) => run,
        None => {
            let base = match from_snapshots(disks, options, &snapshots, &mut unusable)? {
                Some(base) => base,
                None => match without_snapshot(disks, options, &snapshots, &unusable, may_start_empty)? {
                    Some(base) => base,
                    None => return Ok(not_initialized(options, notices)),
                },
            };
            let mut run = Tail::new(disks, mark, options, base)?;
            run.run(options)?;
            run
        }
    };
    notices.append(&mut run.chain.notices);
    notices.append(&mut run.notices);
    for (name, reason) in &unusable {
        notices.push(Notice::SnapshotUnusable { name: *name, reason: reason.to_string() });
    }
    let last = run.chain.last;
    // A member is told by its leader what it lacks. (And what it has too much: then its log may end before its image.)
    let is_alone = options.replay == Replay::All;
    let lost = image_knows.filter(|knows| options.force_sync == ForceSync::Yes && *knows > last);
    match lost {
        Some(image) if is_alone && options.give_up_after != Some(last) => {
            return Err(Refusal::LogMissing { dir: disks.log.path(), image, last }.into());
        }
        Some(image) => notices.push(Notice::ImageAhead { image, last }),
        None => {}
    }
    let behind = snapshots_behind(last, &unusable, options)?;

    // From here on nothing is refused.
    let image_usable = used_image && dropped.is_none();
    notices.extend(chain::repair(&disks.log, &run.chain.repairs)?);
    for name in behind {
        let to = super::set_aside(&disks.snap, &name.to_string())?;
        notices.push(Notice::SetAside { from: name.to_string(), to });
    }
    notices.extend(remove_tmp(disks)?);
    let (mut mark, before) = (mark, mark);
    if let Some(old) = mark.filter(|_| run.chain.gave_up) {
        // What was durable behind that counts no more, at later starts either.
        let (file, offset) = run.chain.end.unwrap_or((old.file, FILE_HEADER_LEN));
        mark = Some(Mark { file, offset, zxid: last, serial: old.serial });
    }
    if !planted::is(Bug::CacheBelieved) {
        write_again(&disks.log, before, run.chain.last_position)?;
        make_durable(disks, run.chain.files(), run.start, &unusable)?;
        // Both slots: one may be in the cache alone, and the other from before a TRUNC.
        mark = mark.map(|mark| mark.replace(&disks.log)).transpose()?;
    }
    if let Some(mark) = mark.filter(|mark| mark.zxid > last) {
        notices.push(Notice::MarkAhead { file: mark.file, zxid: mark.zxid, last });
    }
    let Tail { mut tree, check, anchor, replayed, tail, tail_positions, chain, .. } = run;
    if check.fuzzy_until().is_some_and(|(until, _)| until > last) {
        notices.push(Notice::DigestNeverReached { last });
    }
    let mut anchor = match anchor {
        Some(anchor) => anchor,
        // With logs it is written too: it is the state from which they were complete.
        None => {
            let id = snapshots::write_tree(&disks.snap, &Tree::new(options.rules), options.compression)?;
            notices.push(Notice::SnapshotWritten { name: id.name });
            Anchor::Snapshot(id)
        }
    };
    if options.replay == Replay::All {
        assert!(tree.last_zxid() == last, "the tree is at {}, the log at {last}", tree.last_zxid());
        if let Some(position) = chain.last_position {
            anchor = Anchor::Record(position);
        }
        notices.extend(drop_orphans(disks, options, &mut tree)?);
    }
    let present = snapshots::list(&disks.snap)?;
    let newest = newest_usable(&present, &unusable);
    let image_state = if image_usable && dropped.is_none() {
        let applied = tree.last_zxid();
        ImageState::Used { applied }
    } else {
        drop_image(image, dropped, &mut notices)
    };
    // The unusable ones too: they were judged, and changed nothing.
    let mut known = Vec::new();
    for name in present {
        match SnapshotId::of(&disks.snap, name) {
            Ok(id) => known.extend(id),
            // Said already.
            Err(_) if is_among(&unusable, name) => {}
            // It is not needed: what is, was read.
            Err(error) => notices.push(Notice::SnapshotUnusable { name, reason: error.to_string() }),
        }
    }
    let newest_id = known.iter().find(|id| Some(id.name) == newest);
    let snapshot = newest.map_or(Zxid::ZERO, |name| name.zxid);
    let txns_since = if snapshot.epoch() == last.epoch() { (last.0 - snapshot.0) as u64 } else { chain.records };
    let bytes_since = bytes_behind(disks, chain.files(), snapshot)?.max(chain.bytes);
    Ok(Recovered {
        tree,
        digest_check: check,
        last_zxid: last,
        log: LogState { last, mark, end: chain.end },
        image: image_state,
        anchor: Some(anchor),
        snapshot,
        snapshot_bytes: newest_id.map_or(0, |id| id.len),
        known_snapshots: known,
        txns_since_snapshot: txns_since,
        bytes_since_snapshot: bytes_since,
        replayed,
        tail,
        tail_positions,
        notices,
    })
}

/// Deletes what belongs to sessions that do not exist. No transaction says so: only a snapshot makes it the
/// state of this zxid, for the next start and for Java.
fn drop_orphans<D: Disk>(disks: &Disks<D>, options: &Options, tree: &mut Tree) -> Result<Vec<Notice>, DiskError> {
    let before = tree.node_count();
    tree.drop_orphans();
    if tree.node_count() == before {
        return Ok(Vec::new());
    }
    let mut notices = vec![Notice::OrphansDropped { nodes: before - tree.node_count() }];
    let id = snapshots::write_tree(&disks.snap, tree, options.compression)?;
    notices.push(Notice::SnapshotWritten { name: id.name });
    for other in snapshots::list(&disks.snap)? {
        if other.zxid == id.name.zxid && other != id.name {
            let to = super::set_aside(&disks.snap, &other.to_string())?;
            notices.push(Notice::SetAside { from: other.to_string(), to });
        }
    }
    Ok(notices)
}

/// The reading of the log behind a state.
struct Tail<'a, D> {
    chain: Chain<'a, D>,
    tree: Tree,
    check: DigestCheck,
    start: Start,
    anchor: Option<Anchor>,
    replayed: u64,
    tail: Vec<Entry>,
    tail_positions: Vec<Position>,
    notices: Vec<Notice>,
}

impl<'a, D: Disk> Tail<'a, D> {
    fn new(disks: &'a Disks<D>, mark: Option<Mark>, options: &Options, base: Base) -> Result<Self, DiskError> {
        let newest = snapshots::list(&disks.snap)?.last().map(|name| name.zxid);
        let chain = Chain::new(&disks.log, mark)?.giving_up_after(options.give_up_after).with_snapshot(newest);
        let Base { tree, check, start, anchor } = base;
        Ok(Self {
            chain,
            tree,
            check,
            start,
            anchor,
            replayed: 0,
            tail: Vec::new(),
            tail_positions: Vec::new(),
            notices: Vec::new(),
        })
    }

    fn run(&mut self, options: &Options) -> Result<(), StorageError> {
        let Self { chain, tree, check, start, replayed, tail, tail_positions, notices, .. } = self;
        chain.run(*start, &mut |position, record| {
            let logged = Logged::read(record.payload.clone())?;
            if options.replay == Replay::All {
                tree.apply(&logged.header, &logged.txn, &mut Unwatched);
                *replayed += 1;
                let zxid = logged.header.zxid;
                if tree.keeps_digest() {
                    let verdict = check.on_applied(zxid, tree.digest(), logged.digest);
                    note_verdict(verdict, zxid, notices);
                }
            } else {
                // A copy, because the payload is a view into a piece of the file many times as large.
                let txn = Bytes::copy_from_slice(&record.payload);
                tail.push(Entry { zxid: record.zxid, txn });
                tail_positions.push(*position);
            }
            Ok(())
        })
    }
}

fn note_verdict(verdict: Verdict, zxid: Zxid, notices: &mut Vec<Notice>) {
    notices.extend(verdict.to_say().map(|count| Notice::DigestMismatch { zxid, count }));
}

// ---- directories ----

/// Makes the directories that are missing, if that is allowed, and refuses those that can't be used. [`recover`] begins with
/// it; whoever puts something into one of them before that calls it before.
pub fn check_directories<D: Disk>(disks: &Disks<D>, options: &Options) -> Result<(), StorageError> {
    for (disk, kind) in [(&disks.log, DirectoryKind::Log), (&disks.snap, DirectoryKind::Snapshot)] {
        let not_made = |error| StorageError::NotMade { kind, path: disk.path(), error };
        if !disk.exists().map_err(not_made)? {
            if !options.make_directories {
                return Err(Refusal::MissingDirectory { kind, path: disk.path() }.into());
            }
            disk.make().map_err(not_made)?;
        }
        if !disk.is_writable() {
            return Err(Refusal::NotWritable { kind, path: disk.path() }.into());
        }
    }
    // Compared as Java does it, by name.
    if disks.log.path() != disks.snap.path() {
        if disks.log.list()?.iter().any(|name| name.starts_with("snapshot.")) {
            return Err(Refusal::SnapshotsInLogDirectory.into());
        }
        if disks.snap.list()?.iter().any(|name| name.starts_with("log.")) {
            return Err(Refusal::LogsInSnapshotDirectory.into());
        }
    }
    let (own, kind) = (&disks.own, DirectoryKind::Snapshot);
    if !own.exists()? {
        own.make().map_err(|error| StorageError::NotMade { kind, path: own.path(), error })?;
    }
    Ok(())
}

/// Whether the file was there that lets a server start empty; it counts once.
fn take_initialize_marker<D: Disk>(disks: &Disks<D>) -> Result<bool, DiskError> {
    const NAME: &str = "initialize";
    let found = disks.log_home.len(NAME)?.is_some();
    if found {
        disks.log_home.remove(NAME)?;
    }
    Ok(found)
}

fn look_alikes<D: Disk>(disks: &Disks<D>) -> Result<Vec<Notice>, DiskError> {
    let mut found = disks.log.list()?;
    if disks.log.path() != disks.snap.path() {
        found.extend(disks.snap.list()?);
    }
    found.retain(|name| names::resembles(name));
    found.sort_unstable();
    Ok(found.into_iter().map(|name| Notice::LookAlike { name }).collect())
}

/// A process that ended because a sync failed leaves pages that the cache calls clean, and no later sync writes
/// them (ext4, XFS). So what was not known to be durable is written once more, the same bytes to the same place.
fn write_again<D: Disk>(disk: &D, mark: Option<Mark>, last: Option<Position>) -> Result<(), DiskError> {
    let Some(last) = last else { return Ok(()) };
    let name = last.file.to_string();
    let source = chain::DiskFile::open(disk, &name)?;
    let Some(record) = Scan::from(&source, last.offset).read()? else { return Ok(()) };
    let mut at = mark.filter(|mark| mark.file == last.file).map_or(0, |mark| mark.offset);
    while at < record.end() {
        let bytes = disk.read(&name, at, (record.end() - at).min(AGAIN) as usize)?;
        if bytes.is_empty() {
            break;
        }
        match disk.write_at(&name, at, &bytes) {
            // It is another user's, so it was not written by this server.
            Err(error) if error.kind == DiskErrorKind::Denied => break,
            written => written?,
        }
        at += bytes.len() as u64;
    }
    Ok(())
}

fn is_among(unusable: &[(SnapshotName, Unusable)], name: SnapshotName) -> bool {
    unusable.iter().any(|(other, _)| *other == name)
}

/// Of those of a directory, which are in order.
fn newest_usable(present: &[SnapshotName], unusable: &[(SnapshotName, Unusable)]) -> Option<SnapshotName> {
    present.iter().rev().copied().find(|name| !is_among(unusable, *name))
}

/// How much is read and written at once.
const AGAIN: u64 = 1 << 20;

/// What was read may be in the page cache of a process that was killed, and on no disk: from here on it counts
/// as history (quorum-protocol 10, H11). Files below the state that the reading began with don't matter.
fn make_durable<D: Disk>(
    disks: &Disks<D>,
    files: &[LogName],
    start: Start,
    unusable: &[(SnapshotName, Unusable)],
) -> Result<(), DiskError> {
    let below = files.partition_point(|file| file.0 <= start.zxid());
    for file in &files[below.saturating_sub(1)..] {
        let name = file.to_string();
        // It may have been set aside.
        if disks.log.len(&name)?.is_some() {
            match disks.log.sync(&name) {
                // It is below what counts, and nobody has written it since.
                Err(error) if file.0 <= start.zxid() && error.kind == DiskErrorKind::Denied => {}
                synced => synced?,
            }
        }
    }
    disks.log.sync_dir()?;
    if let Some(newest) = newest_usable(&snapshots::list(&disks.snap)?, unusable) {
        match disks.snap.sync(&newest.to_string()) {
            // What counts is the image; this one can't be read, and nobody here has written it.
            Err(error) if error.kind == DiskErrorKind::Denied => {}
            synced => synced?,
        }
    }
    disks.snap.sync_dir()
}

/// What a write of a snapshot left that did not come to its end.
fn remove_tmp<D: Disk>(disks: &Disks<D>) -> Result<Vec<Notice>, DiskError> {
    let mut notices = install::remove_left(disks)?;
    for name in disks.snap.list()? {
        if names::is_snapshot_tmp(&name) {
            disks.snap.remove(&name)?;
            notices.push(Notice::Removed { name });
        }
    }
    Ok(notices)
}

/// Bytes of the logs that hold what came behind a snapshot. Preallocated ones count whole.
fn bytes_behind<D: Disk>(disks: &Disks<D>, files: &[LogName], snapshot: Zxid) -> Result<u64, DiskError> {
    let mut bytes = 0;
    // The last file is preallocated; how much of it is used, the chain knows.
    for file in files.iter().take(files.len().saturating_sub(1)).filter(|file| file.0 > snapshot) {
        bytes += disks.log.len(&file.to_string())?.unwrap_or(0);
    }
    Ok(bytes)
}

// ---- the state before the tail ----

/// The last transaction that this server's image holds, whether or not `version-2` vouches for it.
fn known_to_image<I: Image>(image: &I, options: &Options) -> Option<Zxid> {
    image.open().ok()?;
    let meta = image::meta(&image.view().ok()?).ok()??;
    (meta.server == options.server).then(|| meta.anchor.zxid())
}

/// The image, if `version-2` vouches for it; why not, if there is one and it does not.
fn open_image<D: Disk, I: Image>(
    disks: &Disks<D>,
    image: &I,
    options: &Options,
    snapshots: &[SnapshotName],
) -> Result<Option<Base>, String> {
    let say = |error: image::ImageError| error.to_string();
    image.open().map_err(say)?;
    let view = image.view().map_err(say)?;
    let Some(meta) = image::meta(&view).map_err(say)? else {
        let unfinished = image::has_rows(&view).map_err(say)?;
        return if unfinished { Err("it was not filled to its end".to_owned()) } else { Ok(None) };
    };
    if meta.server != options.server {
        return Err(format!("it is that of server {}", meta.server));
    }
    let Some(&newest) = snapshots.last() else { return Err("there is no snapshot".to_owned()) };
    let applied = meta.anchor.zxid();
    if newest.zxid > applied {
        return Err(format!("it ends at {applied}, before {newest}"));
    }
    let id = SnapshotId::of(&disks.snap, newest).map_err(|error| error.to_string())?;
    if !image::known_snapshots(&view).map_err(say)?.iter().any(|known| Some(*known) == id) {
        return Err(format!("{newest} was written by another server, or changed"));
    }
    let start = match meta.anchor {
        Anchor::Record(position) => {
            if !chain::holds(&disks.log, &position).map_err(|error| error.to_string())? {
                return Err(format!("{} does not hold zxid {applied} at offset {}", position.file, position.offset));
            }
            Start::BehindRecord(position)
        }
        Anchor::Snapshot(snapshot) if Some(snapshot) == id => Start::Behind(applied),
        Anchor::Snapshot(snapshot) => return Err(format!("{} is not the one it was made from", snapshot.name)),
    };
    let tree = image::load(&view, &meta, options.rules).map_err(say)?;
    let mut check = DigestCheck::default();
    meta.fuzzy_until.into_iter().for_each(|(until, digest)| check.set_fuzzy_until(until, digest));
    Ok(Some(Base { tree, check, start, anchor: Some(meta.anchor) }))
}

/// The newest usable snapshot.
fn from_snapshots<D: Disk>(
    disks: &Disks<D>,
    options: &Options,
    snapshots: &[SnapshotName],
    unusable: &mut Vec<(SnapshotName, Unusable)>,
) -> Result<Option<Base>, StorageError> {
    for name in snapshots.iter().rev().copied() {
        match snapshots::load(&disks.snap, name, options.rules) {
            Ok((tree, sections)) => {
                let mut check = DigestCheck::default();
                watch_digest(&mut check, &tree, name.zxid, sections.known_digest());
                let id = SnapshotId::of(&disks.snap, name)?.expect("it was just read");
                let start = Start::Behind(name.zxid);
                return Ok(Some(Base { tree, check, start, anchor: Some(Anchor::Snapshot(id)) }));
            }
            Err(reason) => unusable.push((name, reason)),
        }
    }
    Ok(None)
}

/// Compares the digest of a snapshot now, or when its transaction has been replayed. A lower one than the
/// name says nothing (on-disk 4.5).
fn watch_digest(check: &mut DigestCheck, tree: &Tree, name: Zxid, digest: Option<DigestSection>) {
    let Some(digest) = digest.filter(|_| tree.keeps_digest()) else { return };
    if digest.zxid > name {
        check.set_fuzzy_until(digest.zxid, digest.digest);
    } else if digest.zxid == name {
        check.on_applied(name, tree.digest(), Some(digest.digest));
    }
}

/// No snapshot is usable (on-disk 4.2). `None` for a member that may not start empty.
fn without_snapshot<D: Disk>(
    disks: &Disks<D>,
    options: &Options,
    snapshots: &[SnapshotName],
    unusable: &[(SnapshotName, Unusable)],
    may_start_empty: bool,
) -> Result<Option<Base>, StorageError> {
    let dir = disks.snap.path();
    if !snapshots.is_empty() {
        let tried = unusable.iter().map(|(name, reason)| (name.to_string(), reason.to_string())).collect();
        return Err(Refusal::NoUsableSnapshot { dir, tried }.into());
    }
    let has_logs = disks.log.list()?.iter().any(|name| LogName::parse(name).is_some());
    if has_logs && !options.trust_empty {
        return Err(Refusal::LogsWithoutSnapshot { dir }.into());
    }
    if !has_logs && !may_start_empty {
        return match options.replay {
            Replay::All => Err(Refusal::NotInitialized { dir }.into()),
            Replay::Nothing => Ok(None),
        };
    }
    let start = Start::Behind(Zxid::ZERO);
    Ok(Some(Base { tree: Tree::new(options.rules), check: DigestCheck::default(), start, anchor: None }))
}

/// A member without data that was not told that it may start so: it takes no part in elections until a leader
/// has filled it.
fn not_initialized(options: &Options, notices: Vec<Notice>) -> Recovered {
    let last = Zxid(-1);
    Recovered {
        tree: Tree::new(options.rules),
        digest_check: DigestCheck::default(),
        last_zxid: last,
        log: LogState { last, mark: None, end: None },
        image: ImageState::Empty,
        anchor: None,
        known_snapshots: Vec::new(),
        snapshot: Zxid::ZERO,
        snapshot_bytes: 0,
        txns_since_snapshot: 0,
        bytes_since_snapshot: 0,
        replayed: 0,
        tail: Vec::new(),
        tail_positions: Vec::new(),
        notices,
    }
}

/// Unusable snapshots of a state that the log does not reach: they prove that transactions are missing. Not
/// so one torn while a new Java leader wrote it, whose zxid is that of the epoch's start and no transaction's.
fn snapshots_behind(
    last: Zxid,
    unusable: &[(SnapshotName, Unusable)],
    options: &Options,
) -> Result<Vec<SnapshotName>, StorageError> {
    let says_nothing = |name: &SnapshotName, reason: &Unusable| name.zxid.counter() == 0 && reason.is_torn();
    let behind = unusable.iter().filter(|(name, reason)| name.zxid > last && !says_nothing(name, reason));
    let behind: Vec<_> = behind.collect();
    match behind.first() {
        Some((snapshot, reason)) if options.give_up_after != Some(last) => {
            Err(Refusal::LogEndsBefore { snapshot: *snapshot, reason: reason.to_string(), last }.into())
        }
        _ => Ok(behind.into_iter().map(|(name, _)| *name).collect()),
    }
}

fn drop_image<I: Image>(image: &I, why: Option<String>, notices: &mut Vec<Notice>) -> ImageState {
    let Some(why) = why else { return ImageState::Empty };
    notices.push(Notice::ImageDropped { why: why.clone() });
    match image.destroy() {
        Ok(()) => ImageState::Dropped { why },
        Err(error) => ImageState::Unavailable { why: error.to_string() },
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LookAlike { name } => {
                write!(f, "{name} is ignored: its name is not exactly that of a log or snapshot")
            }
            Self::SnapshotUnusable { name, reason } => write!(f, "{name} can't be used: {reason}"),
            Self::SnapshotWritten { name } => write!(f, "wrote {name}"),
            Self::Unwritten { file } => write!(f, "{file} has no header: nothing in it was ever acknowledged"),
            Self::OddHeader { file, version, dbid } => {
                write!(f, "{file} has version {version} and dbid {dbid}, expected 2 and 0")
            }
            Self::Misnamed { file, first } => write!(f, "{file} begins with zxid {first}; it is not needed"),
            Self::TornTail { file, offset, last } => {
                write!(f, "{file} ends at offset {offset}, behind zxid {last}, with a write that was cut short")
            }
            Self::UnfinishedBatch { file, offset, last, damage } => {
                write!(
                    f,
                    "{file} at offset {offset}, behind zxid {last}: {}; a batch that was not finished",
                    damage.what
                )
            }
            Self::Unread { file, error } => {
                write!(f, "{file} is not needed for this start, and can't be read: {error}")
            }
            Self::DamageBelowSnapshot { file, offset, damage } => write!(
                f,
                "{file} at offset {offset}: {}; it is not needed now, but older snapshots can't be recovered from",
                damage.what
            ),
            Self::Repeated { file, offset, zxid } => {
                write!(f, "{file} at offset {offset} repeats zxid {zxid}: applied once")
            }
            Self::GivenUp { reason, last } => write!(f, "gave up everything after {last}: {reason}"),
            Self::SetAside { from, to } => write!(f, "renamed {from} to {to}"),
            Self::Cut { file, at } => write!(f, "cut {file} off at offset {at}"),
            Self::Removed { name } => write!(f, "removed {name}"),
            Self::MarkAhead { file, zxid, last } => {
                write!(f, "the log ends with zxid {last}, but {zxid} in {file} was durable once: a file may be missing")
            }
            Self::ImageAhead { image, last } => write!(
                f,
                "the image in dataDir/zooid knows of transactions up to {image}, and the log ends with {last}. Unless a leader \
                 has just taken them back or an older backup was put back, the log has been lost, with what this server has \
                 acknowledged: is the volume of dataLogDir mounted? If all members start like this, stop them"
            ),
            Self::DigestMismatch { zxid, count: 1 } => write!(f, "First digest mismatch on txn: {zxid}"),
            Self::DigestMismatch { zxid, count } => {
                write!(f, "Digests are not matching. Value is {zxid}. {count} so far")
            }
            Self::DigestNeverReached { last } => write!(
                f,
                "the snapshot's digest is that of a transaction behind {last}, where the log ends: nothing was compared"
            ),
            Self::OrphansDropped { nodes } => write!(f, "deleted {nodes} ephemerals of sessions that do not exist"),
            Self::ImageDropped { why } => write!(f, "the image is built anew: {why}"),
            Self::Replaced { by } => {
                write!(f, "{by}, which a leader has sent, has taken the place of everything before")
            }
        }
    }
}
