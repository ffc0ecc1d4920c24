//! What may go. Java counts a snapshot by its last five bytes, deletes logs first, and deletes files it does
//! not know; three damaged snapshots and one purge leave nothing to recover from. Here a snapshot counts only
//! if it was read to its last seal, snapshots go before logs, the oldest first, and nothing goes unless what
//! stays leads from the oldest kept snapshot to the log's end without a gap (on-disk 5.2).
//!
//! Java: `PurgeTxnLog`, `DatadirCleanupManager`.

use super::chain::{Chain, Start};
use super::names::{LogName, SnapshotName};
use super::snapshots::{self, SnapshotId};
use super::{Disk, StorageError};

/// Smaller values are raised to this (`autopurge.snapRetainCount`).
pub const RETAIN_MIN: usize = 3;

/// Purges, and remembers which snapshots it has read, so that each is read once.
#[derive(Default)]
pub struct Purger {
    verified: Vec<SnapshotId>,
}

/// What a purge has done.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Purged {
    /// In the order in which they went.
    pub removed: Vec<String>,
    /// Snapshots that do not count, and why.
    pub unusable: Vec<(SnapshotName, String)>,
    /// Why nothing was removed, if something should have been.
    pub kept_all: Option<String>,
}

impl Purger {
    /// Keeps the newest `retain` usable snapshots, the log from the oldest of them on, and everything that
    /// this server does not know by name.
    pub fn purge<D: Disk>(&mut self, log: &D, snap: &D, retain: usize) -> Result<Purged, StorageError> {
        let mut purged = Purged::default();
        let all = snapshots::list(snap)?;
        let Some(oldest) = self.oldest_kept(snap, &all, retain.max(RETAIN_MIN), &mut purged)? else {
            return Ok(purged);
        };
        let mut chain = Chain::new(log, None)?.while_written();
        match chain.run(Start::Behind(oldest.zxid), &mut |_, _| Ok(())) {
            Ok(()) => {}
            Err(StorageError::Refused(refusal)) => {
                purged.kept_all = Some(refusal.to_string());
                return Ok(purged);
            }
            Err(error) => return Err(error),
        }
        // The file that holds what follows the snapshot may be named before it.
        let first_kept = chain.files().iter().rev().find(|file| file.0 <= oldest.zxid).copied();
        let old_snapshots = all.iter().filter(|name| name.zxid < oldest.zxid).map(SnapshotName::to_string);
        remove_all(snap, old_snapshots, &mut purged)?;
        let Some(first_kept) = first_kept else { return Ok(purged) };
        let old_logs = chain.files().iter().filter(|file| **file < first_kept).map(LogName::to_string);
        remove_all(log, old_logs, &mut purged)?;
        Ok(purged)
    }

    fn oldest_kept<D: Disk>(
        &mut self,
        snap: &D,
        all: &[SnapshotName],
        retain: usize,
        purged: &mut Purged,
    ) -> Result<Option<SnapshotName>, StorageError> {
        let mut kept = Vec::new();
        for name in all.iter().rev().copied() {
            let Some(id) = SnapshotId::of(snap, name)? else { continue };
            if !self.verified.contains(&id)
                && let Err(reason) = snapshots::verify(snap, name)
            {
                purged.unusable.push((name, reason.to_string()));
                continue;
            }
            kept.push(id);
            if kept.len() == retain {
                break;
            }
        }
        let oldest = kept.last().map(|id| id.name);
        self.verified = kept;
        Ok(oldest)
    }
}

fn remove_all(disk: &impl Disk, names: impl Iterator<Item = String>, purged: &mut Purged) -> Result<(), StorageError> {
    for name in names {
        disk.remove(&name)?;
        // One by one: an older file never outlives a newer one.
        disk.sync_dir()?;
        purged.removed.push(name);
    }
    Ok(())
}
