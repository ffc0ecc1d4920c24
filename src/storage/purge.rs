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

/// Finds out what may go, and remembers which snapshots it has read, so that each is read once.
#[derive(Default)]
pub struct Purger {
    verified: Vec<SnapshotId>,
}

/// What may go, as long as nothing but the end of the log changes: what a TRUNC or a SNAP leaves has to be looked at anew.
#[derive(Debug, Default)]
pub struct Plan {
    /// Without it nothing may go.
    oldest: Option<SnapshotId>,
    old_snapshots: Vec<SnapshotName>,
    old_logs: Vec<LogName>,
    purged: Purged,
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
    /// this server does not know by name. Reads all of what is to stay, which may be much.
    pub fn plan<D: Disk>(&mut self, log: &D, snap: &D, retain: usize) -> Result<Plan, StorageError> {
        let mut plan = Plan::default();
        let all = snapshots::list(snap)?;
        let Some(oldest) = self.oldest_kept(snap, &all, retain.max(RETAIN_MIN), &mut plan.purged)? else {
            return Ok(plan);
        };
        let mut chain = Chain::new(log, None)?.while_written();
        match chain.run(Start::Behind(oldest.name.zxid), &mut |_, _| Ok(())) {
            Ok(()) => {}
            Err(StorageError::Refused(refusal)) => {
                plan.purged.kept_all = Some(refusal.to_string());
                return Ok(plan);
            }
            Err(error) => return Err(error),
        }
        plan.oldest = Some(oldest);
        plan.old_snapshots = all.into_iter().filter(|name| name.zxid < oldest.name.zxid).collect();
        // The file that holds what follows the snapshot may be named before it.
        if let Some(first_kept) = chain.files().iter().rev().find(|file| file.0 <= oldest.name.zxid) {
            plan.old_logs = chain.files().iter().filter(|file| *file < first_kept).copied().collect();
        }
        Ok(plan)
    }

    fn oldest_kept<D: Disk>(
        &mut self,
        snap: &D,
        all: &[SnapshotName],
        retain: usize,
        purged: &mut Purged,
    ) -> Result<Option<SnapshotId>, StorageError> {
        let mut kept = Vec::new();
        for name in all.iter().rev().copied() {
            let id = match SnapshotId::of(snap, name) {
                Ok(Some(id)) => id,
                Ok(None) => continue,
                Err(error) => {
                    purged.unusable.push((name, error.to_string()));
                    continue;
                }
            };
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
        let oldest = kept.last().copied();
        self.verified = kept;
        Ok(oldest)
    }
}

impl Plan {
    /// Removes what may go.
    pub fn carry_out<D: Disk>(self, log: &D, snap: &D) -> Result<Purged, StorageError> {
        let Self { oldest, old_snapshots, old_logs, mut purged } = self;
        let Some(oldest) = oldest else { return Ok(purged) };
        if SnapshotId::of(snap, oldest.name)? != Some(oldest) {
            purged.kept_all = Some(format!("{} was there a moment ago, and is gone", oldest.name));
            return Ok(purged);
        }
        remove_all(snap, old_snapshots.iter().map(SnapshotName::to_string), &mut purged)?;
        remove_all(log, old_logs.iter().map(LogName::to_string), &mut purged)?;
        Ok(purged)
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
