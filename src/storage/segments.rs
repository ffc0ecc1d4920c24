//! The writing end of the log: batches in, one sync for whatever was appended since the last.
//!
//! A file is made for the first record after a start, a roll or a TRUNC, and named after it. Before the first
//! record goes in, the file before it is durable, and so are the new file's header and its name in the
//! directory; Java does neither, and loses or reorders acknowledged transactions in a power cut (on-disk 8.1,
//! rows 12 and 13).
//!
//! Room on the disk is made before a batch is written, so "no room" is the one failure after which the log
//! is still what it was. After any other failure nothing is appended or synced any more: a second fsync may
//! report success for pages that the first one lost.
//!
//! Java: `FileTxnLog`, `FilePadding`, `SyncRequestProcessor`; on-disk 2.3.

use super::chain::DiskFile;
use super::mark::Mark;
use super::names::LogName;
use super::recover::LogState;
use super::{Disk, DiskError, DiskErrorKind, Position, StorageError};
use crate::id::Zxid;
use crate::journal::{self, FILE_HEADER_LEN, Scan};
use crate::planted::{self, Bug};

/// What the log must be told, since it reads no configuration.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// `preAllocSize`, in bytes: by how much a file grows. 0 means as much as each batch needs.
    pub preallocate: u64,
    /// `zookeeper.txnLogSizeLimitInKb`, in bytes: a file larger than this is followed by a new one.
    pub size_limit: Option<u64>,
    /// `zookeeper.forceSync`: `no` gives up durability.
    pub force_sync: ForceSync,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ForceSync {
    Yes,
    No,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { preallocate: 64 << 20, size_limit: None, force_sync: ForceSync::Yes }
    }
}

/// What a sync has made durable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Durable {
    /// Everything up to this zxid is durable.
    pub zxid: Zxid,
    /// The records that this sync made so, in order: the image wants to know where they stand.
    pub records: Vec<Position>,
}

pub struct LogWriter<D> {
    disk: D,
    options: LogOptions,
    file: Option<File>,
    /// The file before it, and where its records end: what was preallocated for it still goes back to the disk.
    left: Option<(LogName, u64)>,
    last: Zxid,
    /// Appended, not yet synced.
    pending: Vec<Position>,
    durable: Zxid,
    mark: Option<Mark>,
    is_broken: bool,
    /// Bytes of records appended since the start.
    appended: u64,
}

struct File {
    name: LogName,
    /// As a string, so that no append formats it.
    path: String,
    end: u64,
    allocated: u64,
    synced: u64,
}

impl<D: Disk> LogWriter<D> {
    /// Continues the log that `recover` has read.
    pub fn new(log: D, state: &LogState, options: LogOptions) -> Self {
        Self {
            disk: log,
            options,
            file: None,
            left: state.end,
            last: state.last,
            pending: Vec::new(),
            durable: state.last,
            mark: state.mark,
            is_broken: false,
            appended: 0,
        }
    }

    /// The last zxid appended.
    pub fn last(&self) -> Zxid {
        self.last
    }

    /// The file that is being written, and its size with what is preallocated.
    pub fn file(&self) -> Option<(LogName, u64)> {
        self.file.as_ref().map(|file| (file.name, file.allocated.max(file.end)))
    }

    /// Bytes of records appended since the start: what the schedule of snapshots goes by.
    pub fn appended(&self) -> u64 {
        self.appended
    }

    /// Appends records made by [`journal::write_record`], `first` to `last`, as one write. Nothing of them
    /// is durable, nor may be acknowledged, before [`sync`](Self::sync) returns.
    ///
    /// [`StorageError::Full`] means that nothing was written and the batch may be appended again.
    pub fn append(&mut self, first: Zxid, last: Zxid, records: &[u8]) -> Result<(), StorageError> {
        if self.is_broken {
            return Err(StorageError::Broken);
        }
        assert!(first > self.last, "the log goes backwards: {first} after {}", self.last);
        assert!(last >= first, "a batch goes backwards: {last} after {first}");
        let result = self.try_append(first, last, records);
        self.is_broken = matches!(result, Err(StorageError::Disk(_)));
        result
    }

    fn try_append(&mut self, first: Zxid, last: Zxid, records: &[u8]) -> Result<(), StorageError> {
        let file = match self.file.take() {
            Some(mut file) => {
                let grown = Self::make_room(&self.disk, &self.options, &mut file, records.len() as u64);
                self.file = Some(file);
                grown?;
                self.file.as_mut().expect("just put back")
            }
            None => {
                let file = self.begin_file(LogName(first), records.len() as u64)?;
                self.file.insert(file)
            }
        };
        self.disk.write_at(&file.path, file.end, records)?;
        for placed in journal::placed(records) {
            let (zxid, offset) = (placed.zxid, file.end + placed.offset);
            assert!(zxid > self.last, "the log goes backwards: {zxid} after {}", self.last);
            self.pending.push(Position { file: file.name, offset, zxid, checksum: placed.checksum });
            self.last = zxid;
        }
        assert!(self.last == last, "the batch ends with {}, not with {last}", self.last);
        file.end += records.len() as u64;
        self.appended += records.len() as u64;
        Ok(())
    }

    /// Makes a file, with room for `len` bytes of records, and everything about it durable.
    fn begin_file(&mut self, name: LogName, len: u64) -> Result<File, StorageError> {
        self.trim();
        let path = name.to_string();
        let mut file = File { name, path, end: FILE_HEADER_LEN, allocated: 0, synced: FILE_HEADER_LEN };
        let result = self.try_begin(&mut file, len).map_err(full);
        if let Err(StorageError::Full(_)) = result {
            // An empty file would be reported at every start.
            let _ = self.disk.remove(&file.path);
        }
        result.map(|()| file)
    }

    fn try_begin(&mut self, file: &mut File, len: u64) -> Result<(), StorageError> {
        // Recovery has read those that are named after this zxid or a later one: no record in them was ever completed, or
        // the log would end there. They must not seem to come behind this one.
        let names = self.disk.list()?;
        let mut others: Vec<_> = names.iter().filter_map(|name| LogName::parse(name)).collect();
        others.retain(|other| *other >= file.name);
        if !others.is_empty() {
            for other in others {
                let other = other.to_string();
                let first = Scan::new(&DiskFile::open(&self.disk, &other)?).read()?;
                assert!(first.is_none(), "{other} holds records, and {} is to follow {}", file.path, self.last);
                self.disk.remove(&other)?;
            }
            self.disk.sync_dir()?;
        }
        self.disk.create(&file.path)?;
        // Before the room, so that at no moment it is a file of zeros, which Java refuses.
        self.disk.write_at(&file.path, 0, &journal::file_header())?;
        Self::make_room(&self.disk, &self.options, file, len)?;
        self.disk.sync(&file.path)?;
        if !planted::is(Bug::LogNameUnsynced) {
            self.disk.sync_dir()?;
        }
        let mark = Mark { file: file.name, offset: FILE_HEADER_LEN, zxid: self.durable, serial: 0 };
        Ok(self.write_mark(mark)?)
    }

    fn make_room(disk: &D, options: &LogOptions, file: &mut File, len: u64) -> Result<(), StorageError> {
        let needed = file.end + len;
        if needed <= file.allocated {
            return Ok(());
        }
        let step = options.preallocate;
        // As Java: the header and a first step, then one step after the other.
        let steps = if step == 0 { 0 } else { (needed - FILE_HEADER_LEN).div_ceil(step) };
        let wanted = needed.max(FILE_HEADER_LEN + steps * step);
        if let Err(error) = disk.preallocate(&file.path, wanted) {
            if error.kind == DiskErrorKind::Full && file.allocated > 0 {
                // Some file systems have by now given it what there was, which others need more.
                let _ = disk.set_len(&file.path, file.allocated);
            }
            return Err(full(error.into()));
        }
        file.allocated = wanted;
        Ok(())
    }

    /// Makes everything appended so far durable.
    pub fn sync(&mut self) -> Result<Durable, StorageError> {
        self.flush()?;
        if let (Some(limit), Some(file)) = (self.options.size_limit, &self.file)
            && file.end > limit
        {
            self.leave();
        }
        Ok(Durable { zxid: self.durable, records: std::mem::take(&mut self.pending) })
    }

    /// The file is complete, and durable.
    fn leave(&mut self) {
        if let Some(file) = self.file.take() {
            self.left = (file.end < file.allocated).then_some((file.name, file.end));
        }
        self.trim();
    }

    /// Gives back what was preallocated for the file that was left. Readers need no zeros behind the last record, and if it
    /// fails, they don't mind them.
    fn trim(&mut self) {
        if let Some((file, end)) = self.left.take() {
            let path = file.to_string();
            if matches!(self.disk.len(&path), Ok(Some(len)) if len > end) {
                let _ = self.disk.set_len(&path, end);
            }
        }
    }

    /// As [`sync`](Self::sync), but the next sync reports it.
    pub(super) fn flush(&mut self) -> Result<(), StorageError> {
        if self.is_broken {
            return Err(StorageError::Broken);
        }
        if let Some(file) = self.file.as_mut().filter(|file| file.synced < file.end) {
            if self.options.force_sync == ForceSync::Yes
                && !planted::is(Bug::SyncLeftOut)
                && let Err(error) = self.disk.sync(&file.path)
            {
                self.is_broken = true;
                return Err(error.into());
            }
            file.synced = file.end;
            self.durable = self.last;
        }
        Ok(())
    }

    /// The log, which had been flushed, was cut: it ends with `state` now, and the next record begins a new file.
    pub(super) fn on_cut(&mut self, state: &LogState) {
        (self.file, self.left) = (None, state.end);
        self.pending.retain(|position| position.zxid <= state.last);
        (self.last, self.durable, self.mark) = (state.last, state.last, state.mark);
    }

    /// The log was replaced or read anew, so what was to be reported of it is void or known.
    pub(super) fn on_replaced(&mut self, state: &LogState) {
        self.pending.clear();
        self.on_cut(state);
    }

    /// What the log is now is not known: nothing more is taken.
    pub(super) fn give_up(&mut self) {
        self.is_broken = true;
    }

    /// The next record begins a new file. What was appended before is durable on return.
    pub fn roll(&mut self) -> Result<Durable, StorageError> {
        let durable = self.sync()?;
        self.leave();
        Ok(durable)
    }

    /// Whether [`write_durable_mark`](Self::write_durable_mark) has something to say: to be called within a
    /// second then.
    pub fn is_mark_behind(&self) -> bool {
        self.next_mark().is_some()
    }

    fn next_mark(&self) -> Option<Mark> {
        let file = self.file.as_ref().filter(|_| self.options.force_sync == ForceSync::Yes)?;
        let mark = Mark { file: file.name, offset: file.synced, zxid: self.durable, serial: 0 };
        let is_new = self.mark.is_none_or(|old| (old.file, old.offset) != (mark.file, mark.offset));
        is_new.then_some(mark)
    }

    /// Writes down how far the log is durable, for a start after a power cut.
    pub fn write_durable_mark(&mut self) -> Result<(), StorageError> {
        match self.next_mark() {
            Some(mark) if !self.is_broken => Ok(self.write_mark(mark)?),
            _ => Ok(()),
        }
    }

    fn write_mark(&mut self, mark: Mark) -> Result<(), DiskError> {
        let serial = self.mark.map_or(1, |old| old.serial + 1);
        let mark = Mark { serial, ..mark };
        mark.write(&self.disk)?;
        self.mark = Some(mark);
        Ok(())
    }

    /// Whether the log may be used again after [`StorageError::Full`]: with room for two steps, so that it
    /// does not come and go with each batch.
    pub fn has_room(&mut self) -> Result<bool, DiskError> {
        const PROBE: &str = "room.probe";
        let result = self.disk.create(PROBE);
        let result = result.and_then(|()| self.disk.preallocate(PROBE, 2 * self.options.preallocate.max(1 << 20)));
        let removed = match self.disk.len(PROBE)? {
            Some(_) => self.disk.remove(PROBE),
            None => Ok(()),
        };
        match result.and(removed) {
            Ok(()) => Ok(true),
            Err(error) if error.kind == DiskErrorKind::Full => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn full(error: StorageError) -> StorageError {
    match error {
        StorageError::Disk(error) if error.kind == DiskErrorKind::Full => StorageError::Full(error),
        other => other,
    }
}
