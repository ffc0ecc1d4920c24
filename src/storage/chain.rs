//! The log as one sequence: which files, in which order, and whether each record follows the one before.
//!
//! Java replays what it finds and notices a gap only by accident. Here every zxid must be the next one of its
//! epoch, or the first of a later epoch (on-disk 4.3, 4.6 R4 to R10).

use super::error::Refusal;
use super::mark::Mark;
use super::names::LogName;
use super::recover::Notice;
use super::{Disk, DiskError, Position, StorageError, copy_aside, set_aside};
use crate::id::Zxid;
use crate::journal::{self, End, Head, Record, Scan, Source};
use crate::proto::op;

/// One file of a directory, as the journal reads it.
pub struct DiskFile<'a, D> {
    disk: &'a D,
    name: String,
    len: u64,
}

impl<'a, D: Disk> DiskFile<'a, D> {
    /// A file that is not there reads as an empty one.
    pub fn open(disk: &'a D, name: impl ToString) -> Result<Self, DiskError> {
        let name = name.to_string();
        let len = disk.len(&name)?.unwrap_or(0);
        Ok(Self { disk, name, len })
    }
}

impl<D: Disk> Source for DiskFile<'_, D> {
    type Error = DiskError;

    fn size(&self) -> u64 {
        self.len
    }

    fn read(&self, offset: u64, len: usize) -> Result<bytes::Bytes, DiskError> {
        self.disk.read(&self.name, offset, len)
    }
}

/// What must change on disk before anything is appended. Done only once nothing is refused any more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Repair {
    /// A log that holds nothing of what it should, or what is given up.
    Aside(LogName),
    /// Bytes behind the last good record that a later start would misjudge.
    Cut { file: LogName, at: u64 },
    /// What stands there from here on is given up, and may still be of use to somebody.
    CutCopied { file: LogName, at: u64 },
}

/// Where to begin.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    /// With whatever follows a snapshot of this zxid.
    Behind(Zxid),
    /// With whatever follows this record, which is known to stand there.
    BehindRecord(Position),
}

impl Start {
    pub fn zxid(self) -> Zxid {
        match self {
            Self::Behind(zxid) => zxid,
            Self::BehindRecord(position) => position.zxid,
        }
    }
}

pub struct Chain<'a, D> {
    disk: &'a D,
    /// All logs of the directory, in order.
    files: Vec<LogName>,
    mark: Option<Mark>,
    /// A snapshot of this zxid is there. A Java server that cut the log down to it left the mark behind.
    snapshot: Option<Zxid>,
    give_up_after: Option<Zxid>,
    /// The last file is being written to: what stands behind its last record is not judged.
    is_live: bool,
    start: Zxid,
    /// The last zxid so far.
    pub last: Zxid,
    pub last_position: Option<Position>,
    /// The file with the last record that was read, and where that ends.
    pub end: Option<(LogName, u64)>,
    /// An operator has said that what stands behind `last` is given up.
    pub gave_up: bool,
    pub records: u64,
    /// Bytes of the records visited.
    pub bytes: u64,
    pub notices: Vec<Notice>,
    pub repairs: Vec<Repair>,
    repeats_noticed: bool,
}

/// How the reading of one file went.
enum Next {
    File,
    /// Everything from here on is given up.
    Stop,
}

impl<'a, D: Disk> Chain<'a, D> {
    pub fn new(disk: &'a D, mark: Option<Mark>) -> Result<Self, DiskError> {
        let mut files: Vec<LogName> = disk.list()?.iter().filter_map(|name| LogName::parse(name)).collect();
        files.sort_unstable();
        Ok(Self {
            disk,
            files,
            mark,
            snapshot: None,
            give_up_after: None,
            is_live: false,
            start: Zxid::ZERO,
            last: Zxid::ZERO,
            last_position: None,
            end: None,
            gave_up: false,
            records: 0,
            bytes: 0,
            notices: Vec::new(),
            repairs: Vec::new(),
            repeats_noticed: false,
        })
    }

    pub fn giving_up_after(mut self, zxid: Option<Zxid>) -> Self {
        self.give_up_after = zxid;
        self
    }

    pub fn with_snapshot(mut self, zxid: Option<Zxid>) -> Self {
        self.snapshot = zxid;
        self
    }

    /// For a log that is in use.
    pub fn while_written(mut self) -> Self {
        self.is_live = true;
        self
    }

    pub fn files(&self) -> &[LogName] {
        &self.files
    }

    /// Visits each record behind `start`, in order. An error of `visit` about what a record says is told as
    /// [`Refusal::Undecodable`].
    pub fn run(
        &mut self,
        start: Start,
        visit: &mut dyn FnMut(&Position, &Record) -> Result<(), jute::DecodeError>,
    ) -> Result<(), StorageError> {
        self.start = start.zxid();
        self.last = self.start;
        if let Start::BehindRecord(position) = start {
            self.last_position = Some(position);
        }
        let first = self.first_file(start);
        for at in 0..first {
            self.check_unread(self.files[at])?;
        }
        if let (Start::Behind(zxid), Some(before)) = (start, first.checked_sub(1)) {
            let repeated = match self.files.get(first) {
                Some(file) if file.0.0 == zxid.0 + 1 && self.may_repeat(*file)? => Some(file.0),
                _ => None,
            };
            self.look_below(self.files[before], repeated, visit)?;
        }
        for at in first..self.files.len() {
            let file = self.files[at];
            let from = match start {
                Start::BehindRecord(position) if position.file == file => Some(position.offset),
                _ => None,
            };
            if let Next::Stop = self.read_file(at, from, visit)? {
                let given_up = self.files[at + 1..].iter().map(|file| Repair::Aside(*file));
                self.repairs.extend(given_up);
                return Ok(());
            }
        }
        Ok(())
    }

    /// The file that is named after the zxid that must follow, else the one before it (R5).
    fn first_file(&self, start: Start) -> usize {
        if let Start::BehindRecord(position) = start
            && let Ok(at) = self.files.binary_search(&position.file)
        {
            return at;
        }
        let wanted = LogName(Zxid(start.zxid().0 + 1));
        match self.files.binary_search(&wanted) {
            Ok(at) => at,
            Err(at) => at.saturating_sub(1),
        }
    }

    /// A file that need not be read could still hold, under a wrong name, what is missing elsewhere.
    fn check_unread(&mut self, file: LogName) -> Result<(), StorageError> {
        let first = || {
            let source = DiskFile::open(self.disk, file)?;
            match journal::read_head(&source)? {
                Head::Good | Head::Odd { .. } => Scan::new(&source).read(),
                _ => Ok(None),
            }
        };
        match first() {
            Ok(Some(record)) if record.zxid == file.0 => {}
            Ok(None) => {}
            Ok(Some(record)) if record.zxid > self.start => {
                return Err(Refusal::Misnamed { file, first: record.zxid, last: self.start }.into());
            }
            Ok(Some(record)) => self.notices.push(Notice::Misnamed { file, first: record.zxid }),
            // Nothing of it is needed; it might not be there at all.
            Err(error) => self.notices.push(Notice::Unread { file, error }),
        }
        Ok(())
    }

    /// Java gives the error of a request that it can't decode the zxid of the transaction before (2.2), and a file that
    /// begins with it that name: the transaction itself then stands at the end of the file before. The record may have been
    /// lost in a crash, and the name not.
    fn may_repeat(&self, file: LogName) -> Result<bool, DiskError> {
        let source = DiskFile::open(self.disk, file)?;
        let first = Scan::new(&source).read()?;
        Ok(first.is_none_or(|record| record.op == op::ERROR && record.zxid == file.0))
    }

    /// The last file that is not needed, but for a transaction whose zxid the next one may repeat. It would be, if the
    /// snapshot were lost.
    fn look_below(
        &mut self,
        file: LogName,
        repeated: Option<Zxid>,
        visit: &mut dyn FnMut(&Position, &Record) -> Result<(), jute::DecodeError>,
    ) -> Result<(), StorageError> {
        let source = DiskFile::open(self.disk, file)?;
        let mut scan = Scan::new(&source);
        loop {
            match scan.read() {
                Ok(None) => break,
                Ok(Some(record)) if Some(record.zxid) == repeated && record.zxid > self.last => {
                    self.take(file, &record, visit)?;
                }
                Ok(Some(_)) => {}
                Err(error) if repeated.is_some() => return Err(error.into()),
                Err(error) => {
                    self.notices.push(Notice::Unread { file, error });
                    return Ok(());
                }
            }
        }
        let offset = scan.position();
        if let End::Damaged(damage) = scan.end()? {
            self.notices.push(Notice::DamageBelowSnapshot { file, offset, damage });
        }
        Ok(())
    }

    fn read_file(
        &mut self,
        at: usize,
        from: Option<u64>,
        visit: &mut dyn FnMut(&Position, &Record) -> Result<(), jute::DecodeError>,
    ) -> Result<Next, StorageError> {
        let file = self.files[at];
        let source = DiskFile::open(self.disk, file)?;
        match journal::read_head(&source)? {
            Head::Good => {}
            Head::Odd { version, dbid } => self.notices.push(Notice::OddHeader { file, version, dbid }),
            Head::Unwritten => {
                if let Some(next) = self.check_mark(file, 0)? {
                    return Ok(next);
                }
                self.notices.push(Notice::Unwritten { file });
                if at + 1 == self.files.len() {
                    self.repairs.push(Repair::Aside(file));
                }
                return Ok(Next::File);
            }
            Head::BadMagic(found) => {
                return self.give_up(Refusal::BadMagic { file, found, last: self.last }, Repair::Aside(file));
            }
        }
        let mut scan = match from {
            Some(offset) => Scan::from(&source, offset),
            None => Scan::new(&source),
        };
        let mut is_first = from.is_none();
        while let Some(record) = scan.read()? {
            let offset = record.offset;
            let cut = Repair::Cut { file, at: offset };
            if is_first && record.zxid != file.0 {
                let refusal = Refusal::Misnamed { file, first: record.zxid, last: self.last };
                return self.give_up(refusal, Repair::Aside(file));
            }
            is_first = false;
            if record.zxid <= self.last {
                self.end = Some((file, record.end()));
                self.note_repeat(file, &record);
                continue;
            }
            if !continues(self.last, record.zxid) {
                let refusal = Refusal::Gap { file, offset, last: self.last, found: record.zxid };
                return self.give_up(refusal, cut);
            }
            if let Err(refusal) = self.take(file, &record, visit) {
                return self.give_up(*refusal, cut);
            }
        }
        if self.is_live && at + 1 == self.files.len() {
            return Ok(Next::File);
        }
        let offset = scan.position();
        let end = scan.end()?;
        self.on_end(file, offset, end)
    }

    /// The record that comes next.
    fn take(
        &mut self,
        file: LogName,
        record: &Record,
        visit: &mut dyn FnMut(&Position, &Record) -> Result<(), jute::DecodeError>,
    ) -> Result<(), Box<Refusal>> {
        let (offset, zxid) = (record.offset, record.zxid);
        let position = Position { file, offset, zxid, checksum: record.checksum };
        if let Err(error) = visit(&position, record) {
            return Err(Refusal::Undecodable { file, offset, zxid, last: self.last, error }.into());
        }
        self.last = zxid;
        self.last_position = Some(position);
        self.end = Some((file, record.end()));
        self.records += 1;
        self.bytes += record.end() - offset;
        Ok(())
    }

    fn on_end(&mut self, file: LogName, offset: u64, end: End) -> Result<Next, StorageError> {
        let cut = Repair::Cut { file, at: offset };
        let damage = match end {
            End::Damaged(damage) => damage,
            End::Clean | End::Torn | End::Holed => {
                if let Some(next) = self.check_mark(file, offset)? {
                    return Ok(next);
                }
                if end != End::Clean {
                    self.notices.push(Notice::TornTail { file, offset, last: self.last });
                }
                if end == End::Holed {
                    self.repairs.push(cut);
                }
                return Ok(Next::File);
            }
        };
        let above_mark = self.mark.is_some_and(|mark| mark.file == file && offset >= mark.offset);
        if above_mark && damage.sector_missing {
            self.notices.push(Notice::UnfinishedBatch { file, offset, last: self.last, damage });
            self.repairs.push(cut);
            return Ok(Next::File);
        }
        self.give_up(Refusal::Damaged { file, offset, last: self.last, damage }, cut)
    }

    /// Whether the file ends, at `offset`, below what was durable.
    fn check_mark(&mut self, file: LogName, offset: u64) -> Result<Option<Next>, StorageError> {
        let Some(mark) = self.mark.filter(|mark| mark.file == file && mark.offset > offset.max(16)) else {
            return Ok(None);
        };
        if self.snapshot == Some(self.last) {
            return Ok(None);
        }
        let (mark_offset, mark_zxid) = (mark.offset, mark.zxid);
        let refusal = Refusal::EndsBelowMark { file, offset, last: self.last, mark_offset, mark_zxid };
        self.give_up(refusal, Repair::Cut { file, at: offset }).map(Some)
    }

    /// A zxid not above the last. An error record may repeat it: a request that could not be decoded (2.2).
    fn note_repeat(&mut self, file: LogName, record: &Record) {
        let expected = record.zxid <= self.start || record.op == op::ERROR && record.zxid == self.last;
        if !expected && !std::mem::replace(&mut self.repeats_noticed, true) {
            self.notices.push(Notice::Repeated { file, offset: record.offset, zxid: record.zxid });
        }
    }

    fn give_up(&mut self, refusal: Refusal, repair: Repair) -> Result<Next, StorageError> {
        if self.give_up_after != Some(self.last) {
            return Err(refusal.into());
        }
        self.notices.push(Notice::GivenUp { reason: refusal.to_string(), last: self.last });
        self.gave_up = true;
        self.repairs.push(match repair {
            Repair::Cut { file, at } => Repair::CutCopied { file, at },
            other => other,
        });
        Ok(Next::Stop)
    }
}

/// Whether `zxid` may stand behind `last`. The first transaction of an epoch has counter 1.
pub fn continues(last: Zxid, zxid: Zxid) -> bool {
    zxid.0 == last.0.wrapping_add(1) || zxid.epoch() > last.epoch() && zxid.counter() <= 1
}

/// Carries out what a reading has shown to be needed; the newest file first, so that whatever was done when
/// a crash comes leaves a log without a gap.
pub fn repair<D: Disk>(disk: &D, repairs: &[Repair]) -> Result<Vec<Notice>, DiskError> {
    let mut ordered = repairs.to_vec();
    ordered.sort_by_key(|repair| match repair {
        Repair::Aside(file) | Repair::Cut { file, .. } | Repair::CutCopied { file, .. } => std::cmp::Reverse(*file),
    });
    let mut notices = Vec::new();
    for repair in ordered {
        match repair {
            Repair::Aside(file) => {
                let to = set_aside(disk, &file.to_string())?;
                notices.push(Notice::SetAside { from: file.to_string(), to });
            }
            Repair::CutCopied { file, at } => {
                let to = copy_aside(disk, &file.to_string())?;
                notices.push(Notice::SetAside { from: file.to_string(), to });
                cut(disk, file, at)?;
                notices.push(Notice::Cut { file, at });
            }
            Repair::Cut { file, at } => {
                cut(disk, file, at)?;
                notices.push(Notice::Cut { file, at });
            }
        }
    }
    Ok(notices)
}

/// Takes off everything from `at` on, durably.
pub fn cut<D: Disk>(disk: &D, file: LogName, at: u64) -> Result<(), DiskError> {
    let name = file.to_string();
    disk.set_len(&name, at)?;
    disk.sync(&name)
}

/// The record at `position`, if that is what stands there.
pub fn holds<D: Disk>(disk: &D, position: &Position) -> Result<bool, DiskError> {
    let source = DiskFile::open(disk, position.file)?;
    let record = Scan::from(&source, position.offset).read()?;
    Ok(record.is_some_and(|record| record.zxid == position.zxid && record.checksum == position.checksum))
}
