//! The two promises of a member: `acceptedEpoch`, the newest leader it has agreed to follow, and
//! `currentEpoch`, the newest whose history it holds. Each is a file of decimal text without a newline,
//! replaced as a whole and durably.
//!
//! Java: `QuorumPeer.loadDataBase`, `AtomicFileOutputStream`; on-disk 1.2.

use super::error::Refusal;
use super::{Disk, DiskError, StorageError};
use crate::id::Zxid;
use crate::planted::{self, Bug};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EpochFile {
    Accepted,
    Current,
}

impl EpochFile {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "acceptedEpoch",
            Self::Current => "currentEpoch",
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Epochs {
    pub accepted: i64,
    pub current: i64,
    /// `currentEpoch` was behind the log and was raised: the server stopped between a sync and its end.
    pub was_raised: bool,
}

/// Replaces an epoch. Durable on return.
pub fn save(disk: &impl Disk, file: EpochFile, epoch: i64) -> Result<(), DiskError> {
    let (name, tmp) = (file.name(), format!("{}.tmp", file.name()));
    disk.create(&tmp)?;
    disk.write_at(&tmp, 0, epoch.to_string().as_bytes())?;
    disk.sync(&tmp)?;
    disk.rename(&tmp, name)?;
    if planted::is(Bug::EpochNameUnsynced) {
        return Ok(());
    }
    disk.sync_dir()
}

/// Reads both files, in `dataDir/version-2`, makes what is missing, and holds them against the last logged
/// zxid.
pub fn load(disk: &impl Disk, last: Zxid) -> Result<Epochs, StorageError> {
    // -1 for a member that was never filled, as Java has it: such an epoch counts for nothing in a vote.
    let logged = last.0 >> 32;
    let mut was_raised = false;
    let mut current = match read(disk, EpochFile::Current.name(), logged)? {
        Some(epoch) => epoch,
        None => {
            save(disk, EpochFile::Current, logged)?;
            logged
        }
    };
    let accepted = match read(disk, EpochFile::Accepted.name(), current.max(logged))? {
        Some(epoch) => epoch,
        None => {
            // Java takes the log's epoch, and refuses its own file at the next start if `currentEpoch` is above.
            let epoch = current.max(logged);
            save(disk, EpochFile::Accepted, epoch)?;
            epoch
        }
    };
    if logged > current {
        // What is logged of an epoch that was accepted is a prefix of its history.
        let finished = unfinished_write(disk)?.filter(|epoch| *epoch >= logged && *epoch <= accepted);
        let raised = finished.unwrap_or(logged);
        if raised > accepted {
            return Err(Refusal::Epoch(format!(
                "The current epoch, {current}, is older than the last zxid, {}, and its epoch {logged} was never \
                 accepted (acceptedEpoch is {accepted})",
                last.0
            ))
            .into());
        }
        save(disk, EpochFile::Current, raised)?;
        current = raised;
        was_raised = true;
    }
    if accepted < current {
        return Err(Refusal::Epoch(format!(
            "The accepted epoch, {accepted} is less than the current epoch, {current}"
        ))
        .into());
    }
    Ok(Epochs { accepted, current, was_raised })
}

/// `None` if there is no such file.
fn read(disk: &impl Disk, name: &str, safe: i64) -> Result<Option<i64>, StorageError> {
    if disk.len(name)?.is_none() {
        return Ok(None);
    }
    let bytes = disk.read(name, 0, 64)?;
    let text = String::from_utf8_lossy(&bytes);
    match text.lines().next().map(|line| (line, line.parse())) {
        Some((_, Ok(epoch))) => Ok(Some(epoch)),
        other => {
            let found = other.map_or("null", |(line, _)| line);
            let path = disk.path();
            let message = format!(
                "Found {found} in {path}/{name}. The log allows {safe}: write that into the file if this server \
                 has accepted no later epoch, or empty the data directory and let the leader fill it"
            );
            Err(Refusal::Epoch(message).into())
        }
    }
}

/// The value of a write of `currentEpoch` that a crash cut off before the rename; Java believes any.
fn unfinished_write(disk: &impl Disk) -> Result<Option<i64>, DiskError> {
    const TMP: &str = "currentEpoch.tmp";
    if disk.len(TMP)?.is_none() {
        return Ok(None);
    }
    let bytes = disk.read(TMP, 0, 64)?;
    Ok(std::str::from_utf8(&bytes).ok().and_then(|text| text.lines().next()?.parse().ok()))
}
