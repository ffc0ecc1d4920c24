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
use super::names::LogName;
use super::recover::{Disks, Notice};
use super::{Disk, StorageError, set_aside, snapshots};
use crate::id::Zxid;
use crate::journal::{self, Head, Scan};

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
/// must have been dropped before.
pub fn trunc<D: Disk, I: Image>(disks: &Disks<D>, image: &I, target: Zxid) -> Result<Trunc, StorageError> {
    if !reaches(disks, target)? {
        return Ok(Trunc::NoBase);
    }
    let mut notices = Vec::new();
    if image_is_above(image, target) {
        image.destroy().map_err(|error| super::DiskError {
            kind: super::DiskErrorKind::Other,
            operation: "removal of the image",
            path: disks.own.path(),
            message: error.to_string(),
        })?;
    }
    for name in snapshots::list(&disks.snap)?.iter().rev().filter(|name| name.zxid > target) {
        let to = set_aside(&disks.snap, &name.to_string())?;
        notices.push(Notice::SetAside { from: name.to_string(), to });
    }
    let chain = Chain::new(&disks.log, None)?;
    let (kept, later) = chain.files().split_at(chain.files().partition_point(|file| file.0 <= target));
    // The mark would call the shortened log damaged.
    if let Some(mark) = Mark::read(&disks.log)?.filter(|mark| mark.zxid > target || later.contains(&mark.file)) {
        let file = kept.last().copied().unwrap_or(mark.file);
        let lowered = Mark { file, offset: journal::FILE_HEADER_LEN, zxid: target.min(mark.zxid), ..mark };
        lowered.replace(&disks.log)?;
    }
    for file in later.iter().rev() {
        disks.log.remove(&file.to_string())?;
        disks.log.sync_dir()?;
        notices.push(Notice::Removed { name: file.to_string() });
    }
    // Records behind the target can only stand in the last file that is left: each ends where the next begins.
    if let Some(file) = kept.last() {
        let is_whole = later.first() == Some(&LogName(Zxid(target.0 + 1)));
        if let Some(at) = first_behind(&disks.log, *file, target, is_whole)? {
            chain::cut(&disks.log, *file, at)?;
            notices.push(Notice::Cut { file: *file, at });
        }
    }
    Ok(Trunc::Done { notices })
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

/// Where the first record behind `target` stands, or damage that may hide one. A file is whole if the next
/// begins right behind the target: then damage in it hides nothing that would have to go.
fn first_behind<D: Disk>(disk: &D, file: LogName, target: Zxid, is_whole: bool) -> Result<Option<u64>, StorageError> {
    let source = DiskFile::open(disk, file)?;
    if !matches!(journal::read_head(&source)?, Head::Good | Head::Odd { .. }) {
        return Ok(None);
    }
    let mut scan = Scan::new(&source);
    while let Some(record) = scan.read()? {
        if record.zxid > target {
            return Ok(Some(record.offset));
        }
    }
    let at = scan.position();
    Ok((!is_whole && scan.end()? != journal::End::Clean).then_some(at))
}
