//! The storage of a member of an ensemble: tree and tail, epochs, and a log that can also be taken back.
//!
//! Standalone, what is logged is what happened, so a start replays all of it. A member's log may end in
//! transactions that no quorum has, and a leader that did not know of them may take their zxids' places. So a
//! start hands out the tree as far as it was committed for certain, and the *tail*, what is logged behind it;
//! nothing of the tail is applied before a leader has confirmed it. What always holds, a crash at any
//! operation included:
//!
//! - What `sync` reported, and each epoch that `save_epoch` returned from, is found again by the next `open`.
//! - Tree and image hold nothing of the tail, and nothing that `truncate` took back.
//! - After a crash in `truncate`, the log is what it was before, or a beginning of it that reaches the target.
//! - After a crash in `install`, all is as before, or all is new, the transactions behind the snapshot
//!   included. Nothing of what was there before ever comes back.
//!
//! Calls are made in order, by one thread or the simulator. Those that change the tree's base, `install` and a
//! `truncate` below what the tree holds, need the image for themselves: nobody may write it, hold a view of it,
//! or write a snapshot or purge meanwhile.
//!
//! Java: `ZKDatabase`, `FileTxnSnapLog` as `Learner` uses them; design.md D2, D9, D17, on-disk 1.2, 2.6,
//! quorum-protocol 10.3.

use super::chain::{self, DiskFile, Start};
use super::epoch::{self, EpochFile, Epochs};
use super::image::{Image, ImageError};
use super::install;
use super::mark::Mark;
use super::names::LogName;
use super::recover::{Disks, LogState, Notice, Options, Recovered, Replay, recover};
use super::segments::{Durable, LogOptions, LogWriter};
use super::snapshots::{self, SnapshotId};
use super::trunc::{self, Trunc, trunc};
use super::{Disk, DiskError, DiskErrorKind, Position, StorageError};
use crate::id::Zxid;
use crate::journal::{self, Head, Scan};
use crate::tree::Tree;
use crate::zab::Entry;

/// The directories of a member, and their one writer.
pub struct MemberStore<D, I> {
    disks: Disks<D>,
    image: I,
    options: Options,
    log: LogWriter<D>,
    epochs: Epochs,
    /// What the tree's base holds and no record needs to: the log may go back to here.
    base: Zxid,
}

/// What a start has found.
pub struct OpenedMember {
    /// The tree, the tail behind it, and the last zxid of both: -1 for a member that was never filled and may
    /// not vote before it is.
    pub recovered: Recovered,
    pub epochs: Epochs,
}

/// What became of a truncation.
pub enum Truncated {
    /// Only the log was cut, if at all; it ends with `last` now.
    Log { last: Zxid, notices: Vec<Notice> },
    /// The tree had held what was cut, and was read anew; its tail reaches to `last_zxid`.
    Reloaded { recovered: Box<Recovered>, notices: Vec<Notice> },
    /// Nothing on disk leads to the target. Nothing was changed: the leader must send a snapshot.
    NoBase,
}

/// What has taken the place of everything.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Installed {
    pub snapshot: SnapshotId,
    /// The last zxid, of the log if something is in it. All of it is durable.
    pub last: Zxid,
    /// Where the records behind the snapshot stand, for the image.
    pub records: Vec<Position>,
    /// Whether the image is empty now. If not, it must not be written any more; the next start does not believe
    /// it, because it does not know the snapshot.
    pub image: Result<(), ImageError>,
}

impl<D: Disk + Clone, I: Image> MemberStore<D, I> {
    /// Reads what is there, and makes durable what it goes by.
    pub fn open(
        disks: Disks<D>,
        image: I,
        options: Options,
        log_options: LogOptions,
    ) -> Result<(Self, OpenedMember), StorageError> {
        let options = Options { replay: Replay::Nothing, ..options };
        let recovered = recover(&disks, &image, &options)?;
        let epochs = epoch::load(&disks.snap, recovered.last_zxid)?;
        let log = LogWriter::new(disks.log.clone(), &recovered.log, log_options);
        let base = base_of(&recovered);
        Ok((Self { disks, image, options, log, epochs, base }, OpenedMember { recovered, epochs }))
    }

    /// Where files are. Whoever reads logs elsewhere must do so through this one: a name can come to stand for
    /// another file.
    pub fn disks(&self) -> &Disks<D> {
        &self.disks
    }

    /// The last zxid that was appended, or that a snapshot holds.
    pub fn last(&self) -> Zxid {
        self.log.last()
    }

    pub fn epochs(&self) -> Epochs {
        self.epochs
    }

    // ---- the log's writing end: see LogWriter ----

    /// The file that is being written, and its size with what is preallocated.
    pub fn file(&self) -> Option<(LogName, u64)> {
        self.log.file()
    }

    /// Bytes of records appended since the start.
    pub fn appended(&self) -> u64 {
        self.log.appended()
    }

    /// Appends records, `first` to `last`. There is no hole before them: whoever sends them has seen to that.
    pub fn append(&mut self, first: Zxid, last: Zxid, records: &[u8]) -> Result<(), StorageError> {
        let before = self.log.last().max(Zxid::ZERO);
        assert!(first.follows(before), "a hole in the log: {first} after {before}");
        self.make_first_snapshot()?;
        self.log.append(first, last, records)
    }

    pub fn sync(&mut self) -> Result<Durable, StorageError> {
        self.log.sync()
    }

    pub fn roll(&mut self) -> Result<Durable, StorageError> {
        self.log.roll()
    }

    pub fn is_mark_behind(&self) -> bool {
        self.log.is_mark_behind()
    }

    pub fn write_durable_mark(&mut self) -> Result<(), StorageError> {
        self.log.write_durable_mark()
    }

    pub fn has_room(&mut self) -> Result<bool, DiskError> {
        self.log.has_room()
    }

    // ---- what only a member does ----

    /// Durable on return.
    pub fn save_epoch(&mut self, file: EpochFile, epoch: i64) -> Result<(), StorageError> {
        let Epochs { accepted, current, .. } = self.epochs;
        match file {
            EpochFile::Accepted => {
                assert!(epoch >= accepted, "the accepted epoch goes back: {epoch} after {accepted}");
            }
            EpochFile::Current => {
                assert!(epoch >= current, "the current epoch goes back: {epoch} after {current}");
                assert!(epoch <= accepted, "the epoch {epoch} was never accepted, but {accepted}");
                // A history is held from here on, be it an empty one.
                self.make_first_snapshot()?;
            }
        }
        epoch::save(&self.disks.snap, file, epoch).inspect_err(|_| self.log.give_up())?;
        match file {
            EpochFile::Accepted => self.epochs.accepted = epoch,
            EpochFile::Current => self.epochs.current = epoch,
        }
        Ok(())
    }

    /// A member that was never filled has no snapshot, and no start takes a log without one.
    fn make_first_snapshot(&mut self) -> Result<(), StorageError> {
        if self.base >= Zxid::ZERO {
            return Ok(());
        }
        snapshots::write_tree(&self.disks.snap, &Tree::new(self.options.rules), self.options.compression)?;
        self.base = Zxid::ZERO;
        Ok(())
    }

    /// Takes back everything behind `target`, whether or not that itself was logged. `applied` is what the tree
    /// holds. Durable on return. A target that nothing is behind of changes nothing.
    pub fn truncate(&mut self, target: Zxid, applied: Zxid) -> Result<Truncated, StorageError> {
        self.log.flush()?;
        if target >= self.log.last() {
            return Ok(Truncated::Log { last: self.log.last(), notices: Vec::new() });
        }
        let result = if target >= applied { self.cut_log(target, applied) } else { self.go_back(target) };
        result.inspect_err(|_| self.log.give_up())
    }

    /// The tree, the image and every snapshot that can be used are at or below the target, so they stay.
    fn cut_log(&mut self, target: Zxid, applied: Zxid) -> Result<Truncated, StorageError> {
        let mut notices = trunc::set_aside_above(&self.disks.snap, target)?;
        let cut = trunc::cut_log(&self.disks.log, target)?;
        notices.extend(cut.notices);
        // The base may be a snapshot of a zxid that was never logged, as that of an epoch's start.
        let last = cut.last.map_or(self.base, |last| last.max(self.base));
        assert!(last >= applied || applied.counter() == 0, "{applied} was applied, but not logged");
        self.log.on_cut(&LogState { last, mark: cut.mark, end: None });
        Ok(Truncated::Log { last, notices })
    }

    fn go_back(&mut self, target: Zxid) -> Result<Truncated, StorageError> {
        let notices = match trunc(&self.disks, &self.image, target)? {
            Trunc::Done { notices } => notices,
            Trunc::NoBase => return Ok(Truncated::NoBase),
        };
        let recovered = recover(&self.disks, &self.image, &self.options)?;
        self.log.on_replaced(&recovered.log);
        self.base = base_of(&recovered);
        Ok(Truncated::Reloaded { recovered: Box::new(recovered), notices })
    }

    /// Puts a tree in the place of everything that is on disk, and `rest` behind it: what the leader has sent
    /// and not committed yet. It may have counted this server's vote for some of that, given over an earlier
    /// link, so a crash must not leave the tree without it. Durable on return.
    ///
    /// [`StorageError::Full`] means that nothing was changed.
    pub fn install(&mut self, tree: &Tree, rest: &[Entry]) -> Result<Installed, StorageError> {
        let mut last = tree.last_zxid();
        for entry in rest {
            assert!(entry.zxid.follows(last), "a hole behind the snapshot: {} after {last}", entry.zxid);
            last = entry.zxid;
        }
        self.log.flush()?;
        let incoming =
            install::prepare(&self.disks, tree, rest, self.options.compression).map_err(|error| match error {
                StorageError::Disk(error) if error.kind == DiskErrorKind::Full => StorageError::Full(error),
                error => {
                    self.log.give_up();
                    error
                }
            })?;
        self.replace(&incoming).inspect_err(|_| self.log.give_up())
    }

    fn replace(&mut self, incoming: &install::Incoming) -> Result<Installed, StorageError> {
        install::commit(&self.disks)?;
        let image = self.image.destroy();
        install::finish(&self.disks, incoming)?;
        let base = incoming.snapshot.name.zxid;
        let mut records = Vec::new();
        if let Some(log) = incoming.log {
            let source = DiskFile::open(&self.disks.log, log.file)?;
            let mut scan = Scan::new(&source);
            while let Some(record) = scan.read()? {
                let (offset, zxid, checksum) = (record.offset, record.zxid, record.checksum);
                records.push(Position { file: log.file, offset, zxid, checksum });
            }
        }
        let last = records.last().map_or(base, |position| position.zxid);
        self.log.on_replaced(&LogState { last, mark: Mark::read(&self.disks.log)?, end: None });
        self.base = base;
        Ok(Installed { snapshot: incoming.snapshot, last, records, image })
    }

    /// See [`read_log`].
    pub fn read_log(&self, after: Zxid, upto: Zxid, max_bytes: u64) -> Result<Option<Vec<Entry>>, DiskError> {
        read_log(&self.disks.log, after, upto, max_bytes)
    }
}

/// The state that the log goes on from, as far as that is on disk.
fn base_of(recovered: &Recovered) -> Zxid {
    if recovered.last_zxid < Zxid::ZERO { recovered.last_zxid } else { recovered.tree.last_zxid() }
}

/// The transactions behind `after` up to `upto`, from a log that may be in use. `None` if it can't tell all of
/// them without a gap, or they are more than `max_bytes`: they must then come as a snapshot.
pub fn read_log<D: Disk>(disk: &D, after: Zxid, upto: Zxid, max_bytes: u64) -> Result<Option<Vec<Entry>>, DiskError> {
    let reading = read(disk, Start::Behind(after), upto, max_bytes, false)?;
    Ok(reading.map(|reading| reading.entries))
}

/// Some transactions of a log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogPart {
    pub entries: Vec<Entry>,
    /// Where the last of them stands.
    pub end: Option<Position>,
}

/// The first transactions of those that stand behind `start` up to `upto`, about `most` bytes of them but one at least. The
/// next part begins behind where this one ends. `None` as for [`read_log`].
pub fn read_log_part<D: Disk>(disk: &D, start: Start, upto: Zxid, most: u64) -> Result<Option<LogPart>, DiskError> {
    let start = match start {
        Start::BehindRecord(position) if !chain::holds(disk, &position)? => Start::Behind(position.zxid),
        start => start,
    };
    let reading = read(disk, start, upto, most, true)?;
    Ok(reading.map(|Reading { entries, end, .. }| LogPart { entries, end }))
}

fn read<D: Disk>(disk: &D, start: Start, upto: Zxid, most: u64, in_parts: bool) -> Result<Option<Reading>, DiskError> {
    let mut files: Vec<LogName> = disk.list()?.iter().filter_map(|name| LogName::parse(name)).collect();
    files.sort_unstable();
    let after = start.zxid();
    let first = match start {
        Start::Behind(after) => files.partition_point(|file| file.0.0 <= after.0 + 1),
        Start::BehindRecord(position) => files.partition_point(|file| *file <= position.file),
    };
    let Some(first) = first.checked_sub(1) else { return Ok(None) };
    let (left, entries) = (most, Vec::new());
    let mut reading = Reading { after, upto, left, in_parts, last: after, stands: false, entries, end: None };
    for file in &files[first..] {
        let from = match start {
            Start::BehindRecord(position) if position.file == *file => Some(position.offset),
            _ => None,
        };
        match reading.read_file(disk, *file, from) {
            Ok(Read::On) => {}
            Ok(Read::Done) => return Ok(Some(reading)),
            Ok(Read::Fails) => return Ok(None),
            // A purge may take the oldest files away at any moment.
            Err(_) if disk.len(&file.to_string())?.is_none() => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

struct Reading {
    after: Zxid,
    upto: Zxid,
    left: u64,
    in_parts: bool,
    last: Zxid,
    /// The record `after` itself was seen.
    stands: bool,
    entries: Vec<Entry>,
    /// Of the last of them.
    end: Option<Position>,
}

enum Read {
    On,
    Done,
    Fails,
}

impl Reading {
    fn read_file<D: Disk>(&mut self, disk: &D, file: LogName, from: Option<u64>) -> Result<Read, DiskError> {
        let source = DiskFile::open(disk, file)?;
        if !matches!(journal::read_head(&source)?, Head::Good | Head::Odd { .. }) {
            return Ok(Read::On);
        }
        let mut scan = from.map_or_else(|| Scan::new(&source), |offset| Scan::from(&source, offset));
        while let Some(record) = scan.read()? {
            let zxid = record.zxid;
            self.stands |= zxid == self.after;
            // An error record may repeat a zxid.
            if zxid > self.last {
                // Past everything wanted, and nothing was missing up to here.
                if zxid > self.upto && self.is_next(zxid) {
                    return Ok(Read::Done);
                }
                let bytes = record.payload.len() as u64;
                if !self.is_next(zxid) {
                    return Ok(Read::Fails);
                }
                if bytes > self.left {
                    match self.in_parts {
                        false => return Ok(Read::Fails),
                        true if !self.entries.is_empty() => return Ok(Read::Done),
                        true => {}
                    }
                }
                self.left = self.left.saturating_sub(bytes);
                self.last = zxid;
                self.end = Some(Position { file, offset: record.offset, zxid, checksum: record.checksum });
                self.entries.push(Entry { zxid, txn: bytes::Bytes::copy_from_slice(&record.payload) });
            }
            if self.last == self.upto && (self.stands || !self.entries.is_empty()) {
                return Ok(Read::Done);
            }
        }
        Ok(Read::On)
    }

    /// Whether nothing is missing before `zxid`. What precedes the first of an epoch is known only if it was
    /// seen.
    fn is_next(&self, zxid: Zxid) -> bool {
        let preceding_is_known = self.stands || !self.entries.is_empty();
        zxid.0 == self.last.0 + 1 || preceding_is_known && chain::continues(self.last, zxid)
    }
}
