//! Going back to an earlier transaction, because the leader says that what was logged behind it never came to
//! pass.
//!
//! Every step leaves a state that a start recovers from: snapshots above the target are set aside first (until
//! then they would win), then logs go from the newest to the oldest (so there is never a gap), then the log
//! that holds the target is cut. If nothing on disk reaches the target, nothing is changed: the learner
//! asks for a whole snapshot instead.
//!
//! Java: `FileTxnLog.truncate`, which cuts first, deletes upwards, keeps newer snapshots and syncs nothing;
//! on-disk 2.6, design.md D17.

use super::chain::{self, Chain, DiskFile, Start};
use super::image::{self, Image};
use super::mark::Mark;
use super::names::{LogName, SnapshotName};
use super::recover::{Disks, Notice};
use super::{Disk, DiskError, StorageError, install, snapshots};
use crate::id::Zxid;
use crate::journal::{self, FILE_HEADER_LEN, Head, Scan};
use crate::planted::{self, Bug};

/// What became of a truncation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Trunc {
    /// Nothing behind the target is left. The state is to be recovered anew; it may end before the target, if
    /// that was never logged here.
    Done { notices: Vec<Notice> },
    /// No snapshot and log lead to the target; nothing was changed.
    NoBase,
}

/// Removes every transaction behind `target`, which need not be one that was logged. The log's writing end
/// must have been flushed, and begin a new file afterwards.
pub fn trunc<D: Disk, I: Image>(disks: &Disks<D>, image: &I, target: Zxid) -> Result<Trunc, StorageError> {
    if !reaches(disks, target)? {
        return Ok(Trunc::NoBase);
    }
    if image_is_above(image, target) {
        // If it can't be removed, the next start does not believe it: its record is about to go.
        let _ = image.destroy();
    }
    let mut notices = set_aside_above(&disks.snap, target)?;
    notices.extend(cut_log(&disks.log, target)?.notices);
    Ok(Trunc::Done { notices })
}

/// No snapshot is left of what is about to be removed from the log, not even one that can't be used: it would seem that
/// the log lacks what it is of.
pub(super) fn set_aside_above<D: Disk>(snap: &D, target: Zxid) -> Result<Vec<Notice>, DiskError> {
    let above: Vec<_> = snapshots::list(snap)?.into_iter().filter(|name| name.zxid > target).collect();
    if !above.is_empty() {
        install::remove_replaced_snapshots(snap)?;
    }
    let aside = |name: &SnapshotName| -> Result<Notice, DiskError> {
        let to = install::set_aside(snap, &name.to_string())?;
        Ok(Notice::SetAside { from: name.to_string(), to })
    };
    above.iter().rev().map(aside).collect()
}

/// What is left of a log.
pub(super) struct Cut {
    /// The last record; `None` if there is none.
    pub last: Option<Zxid>,
    pub mark: Option<Mark>,
    pub notices: Vec<Notice>,
}

/// Removes every record behind `target` from the log.
pub(super) fn cut_log<D: Disk>(disk: &D, target: Zxid) -> Result<Cut, DiskError> {
    let target = Zxid(target.0 + i64::from(planted::is(Bug::TruncKeepsOne)));
    let chain = Chain::new(disk, None)?;
    let (kept, later) = chain.files().split_at(chain.files().partition_point(|file| file.0 <= target));
    let mut notices = Vec::new();
    // Records behind the target can only stand in the last file that holds any: each ends where the next begins. A file
    // that was begun and got no record says nothing: those that were begun later may have names before its own.
    let mut is_whole = later.first() == Some(&LogName(Zxid(target.0 + 1)));
    let mut looked = Vec::new();
    for file in kept.iter().rev() {
        looked.push((*file, what_stays(disk, *file, target, is_whole)?));
        if looked.last().is_some_and(|(_, stays)| stays.last.is_some()) {
            break;
        }
        is_whole = true;
    }
    let (end_of, last) = match looked.last() {
        Some((file, stays)) => (Some((*file, stays.end)), stays.last),
        None => (None, None),
    };
    let mut mark = Mark::read(disk)?;
    // It would call the shortened log damaged.
    let lowered = mark.filter(|_| !planted::is(Bug::MarkStays));
    if let Some(old) = lowered.filter(|mark| mark.zxid > target || later.contains(&mark.file)) {
        let (file, end) = end_of.unwrap_or((old.file, FILE_HEADER_LEN));
        // Of a file that is not its own, all was durable before the next was begun.
        let offset = if file == old.file { end.min(old.offset) } else { end };
        let zxid = last.unwrap_or(target).min(target).min(old.zxid);
        mark = Some(Mark { file, offset, zxid, ..old }.replace(disk)?);
    }
    for file in later.iter().rev() {
        disk.remove(&file.to_string())?;
        disk.sync_dir()?;
        notices.push(Notice::Removed { name: file.to_string() });
    }
    for (file, Stays { end, .. }) in looked.into_iter().filter(|(_, stays)| stays.goes_on) {
        chain::cut(disk, file, end)?;
        notices.push(Notice::Cut { file, at: end });
    }
    Ok(Cut { last, mark, notices })
}

/// Whether a usable snapshot, and the log behind it, lead to `target`.
fn reaches<D: Disk>(disks: &Disks<D>, target: Zxid) -> Result<bool, StorageError> {
    for name in snapshots::list(&disks.snap)?.into_iter().rev().filter(|name| name.zxid <= target) {
        if snapshots::verify(&disks.snap, name).is_err() {
            continue;
        }
        let mut chain = Chain::new(&disks.log, None)?;
        return match chain.run(Start::Behind(name.zxid), &mut |_, _| Ok(())) {
            Ok(()) => Ok(true),
            // What stands behind the target goes anyway, in whatever state it is.
            Err(StorageError::Refused(_)) => Ok(chain.last >= target),
            Err(error) => Err(error),
        };
    }
    Ok(false)
}

/// An image that does not say what it is counts too.
fn image_is_above(image: &impl Image, target: Zxid) -> bool {
    let meta = image.view().and_then(|view| image::meta(&view));
    !matches!(meta, Ok(Some(meta)) if meta.anchor.zxid() <= target)
}

/// What stays of a file.
struct Stays {
    /// The last record up to the target; `None` if there is none.
    last: Option<Zxid>,
    /// Where that ends.
    end: u64,
    /// A record behind the target stands there, or damage that may hide one.
    goes_on: bool,
}

/// A file is whole if the next begins right behind the target: then damage in it hides nothing that would
/// have to go.
fn what_stays<D: Disk>(disk: &D, file: LogName, target: Zxid, is_whole: bool) -> Result<Stays, DiskError> {
    let source = DiskFile::open(disk, file)?;
    let mut stays = Stays { last: None, end: FILE_HEADER_LEN, goes_on: false };
    if !matches!(journal::read_head(&source)?, Head::Good | Head::Odd { .. }) {
        return Ok(stays);
    }
    let mut scan = Scan::new(&source);
    while let Some(record) = scan.read()? {
        if record.zxid > target {
            return Ok(Stays { goes_on: true, ..stays });
        }
        stays.last = stays.last.max(Some(record.zxid));
        stays.end = record.end();
    }
    stays.goes_on = !is_whole && scan.end()? != journal::End::Clean;
    Ok(stays)
}
