//! What can go wrong with what is on disk, and what an operator can do about it.

use std::fmt;

use jute::DecodeError;

use super::names::{LogName, SnapshotName};
use crate::id::Zxid;
use crate::journal::Damage;

/// What went wrong in one operation on a file.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{operation} of {path} fails: {message}")]
pub struct DiskError {
    pub kind: DiskErrorKind,
    pub operation: &'static str,
    pub path: String,
    pub message: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DiskErrorKind {
    /// No room: ENOSPC, EDQUOT. The only one after which anything may go on.
    Full,
    /// The file, or the file system, may only be read.
    Denied,
    Other,
}

/// Why storage cannot do what it should.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StorageError {
    /// No room for the batch. Nothing of it was written: it may be given up, or appended later.
    #[error("no room on the disk for the transaction log: {0}")]
    Full(DiskError),
    /// What was appended may or may not be on disk, and no later success says more about it.
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("the log does not take anything more after an error")]
    Broken,
    /// In Java's words.
    #[error("Unable to create {kind} directory {path}: {error}")]
    NotMade { kind: DirectoryKind, path: String, error: DiskError },
    #[error(transparent)]
    Refused(#[from] Box<Refusal>),
}

impl From<Refusal> for StorageError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl StorageError {
    /// With what a process ends that cannot start because of this, as Java's does (on-disk 1.1).
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Refused(refusal) => refusal.exit_code(),
            Self::NotMade { .. } => 3,
            _ => 1,
        }
    }
}

/// Why a start is refused: what was found, and what an operator can do. Nothing has been changed then.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// Java's words, which deployments look for.
    MissingDirectory {
        kind: DirectoryKind,
        path: String,
    },
    NotWritable {
        kind: DirectoryKind,
        path: String,
    },
    SnapshotsInLogDirectory,
    LogsInSnapshotDirectory,
    /// Files named as snapshots are there, and none can be used.
    NoUsableSnapshot {
        dir: String,
        tried: Vec<(String, String)>,
    },
    LogsWithoutSnapshot {
        dir: String,
    },
    /// `zookeeper.db.autocreate=false`, and nobody said that this server may start empty.
    NotInitialized {
        dir: String,
    },
    /// A snapshot that can't be used says that there were transactions which the log does not have.
    LogEndsBefore {
        snapshot: SnapshotName,
        reason: String,
        last: Zxid,
    },
    BadMagic {
        file: LogName,
        found: i32,
        last: Zxid,
    },
    /// A file whose first record is not the one it is named after.
    Misnamed {
        file: LogName,
        first: Zxid,
        last: Zxid,
    },
    /// Transactions are missing between two that are there.
    Gap {
        file: LogName,
        offset: u64,
        last: Zxid,
        found: Zxid,
    },
    Damaged {
        file: LogName,
        offset: u64,
        last: Zxid,
        damage: Damage,
    },
    /// The file ends before what was once reported as durable.
    EndsBelowMark {
        file: LogName,
        offset: u64,
        last: Zxid,
        mark_offset: u64,
        mark_zxid: Zxid,
    },
    /// A record with the right checksum that has no meaning.
    Undecodable {
        file: LogName,
        offset: u64,
        zxid: Zxid,
        last: Zxid,
        error: DecodeError,
    },
    /// An epoch file, or the relation of both to the log.
    Epoch(String),
    /// The own image holds transactions that were durable, and that are in no log any more.
    LogMissing {
        dir: String,
        image: Zxid,
        last: Zxid,
    },
    /// What a leader sent was taking the place of everything, and can't be found or read.
    HalfReplaced {
        dir: String,
        what: String,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DirectoryKind {
    Log,
    Snapshot,
}

impl fmt::Display for DirectoryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Log { "data" } else { "snap" })
    }
}

impl Refusal {
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::MissingDirectory { .. }
            | Self::NotWritable { .. }
            | Self::SnapshotsInLogDirectory
            | Self::LogsInSnapshotDirectory => 3,
            _ => 1,
        }
    }

    /// The zxid that `giveUpAfter` must name for a start in spite of this.
    pub fn give_up_after(&self) -> Option<Zxid> {
        match self {
            Self::LogEndsBefore { last, .. }
            | Self::BadMagic { last, .. }
            | Self::Misnamed { last, .. }
            | Self::Gap { last, .. }
            | Self::Damaged { last, .. }
            | Self::EndsBelowMark { last, .. }
            | Self::Undecodable { last, .. }
            | Self::LogMissing { last, .. } => Some(*last),
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingDirectory { kind, path } => {
                write!(
                    f,
                    "Missing {kind} directory {path}, automatic data directory creation is disabled \
                     (zookeeper.datadir.autocreate is false). Please create this directory manually."
                )?;
            }
            Self::NotWritable { kind, path } => write!(f, "Cannot write to {kind} directory {path}")?,
            Self::SnapshotsInLogDirectory => write!(
                f,
                "Log directory has snapshot files. Check if dataLogDir and dataDir configuration is correct."
            )?,
            Self::LogsInSnapshotDirectory => write!(
                f,
                "Snapshot directory has log files. Check if dataLogDir and dataDir configuration is correct."
            )?,
            Self::NoUsableSnapshot { dir, tried } => {
                write!(f, "Not able to find valid snapshots in {dir}")?;
                for (name, reason) in tried {
                    write!(f, "; {name}: {reason}")?;
                }
                write!(f, ". Put back an intact snapshot, or empty the directory to start without data")?;
            }
            Self::LogsWithoutSnapshot { dir } => write!(
                f,
                "No snapshot found, but there are log entries. Something is broken! Put back a snapshot into {dir}, \
                 or set zookeeper.snapshot.trust.empty=true if the log is complete from its first transaction"
            )?,
            Self::NotInitialized { dir } => write!(
                f,
                "{dir} is empty and zookeeper.db.autocreate is false: run zkServer-initialize.sh, or put back the data"
            )?,
            Self::LogEndsBefore { snapshot, reason, last } => {
                write!(f, "the log ends at {last}, before {snapshot}, which can't be used: {reason}")?;
            }
            Self::BadMagic { file, found, .. } => {
                write!(f, "{file} has the invalid magic number {found}, expected 1514884167")?;
            }
            Self::Misnamed { file, first, last } => write!(
                f,
                "{file} begins with zxid {first} instead of the one in its name; the transactions after {last} would \
                 be missed or repeated"
            )?,
            Self::Gap { file, offset, last, found } => {
                let expected = Zxid(last.0.wrapping_add(1));
                write!(f, "{file} at offset {offset}: found zxid {found}, expected {expected}")?;
            }
            Self::Damaged { file, offset, last, damage } => {
                write!(f, "{file} at offset {offset}, behind zxid {last}: {}", damage.what)?;
                if let Some(behind) = damage.behind {
                    let (at, first, last) = (behind.offset, behind.first, behind.last);
                    write!(f, "; valid records follow from offset {at} on, zxids {first} to {last}")?;
                }
                if damage.sector_missing {
                    write!(f, "; a sector of it reads as zeros")?;
                }
            }
            Self::EndsBelowMark { file, offset, last, mark_offset, mark_zxid } => write!(
                f,
                "{file} ends at offset {offset} with zxid {last}, but was durable up to offset {mark_offset}, zxid \
                 {mark_zxid}. If this is a copy of the files of a server that ran, remove durable.zooid beside the log"
            )?,
            Self::Undecodable { file, offset, zxid, error, .. } => {
                write!(f, "{file} at offset {offset}, zxid {zxid}: {error}")?;
            }
            Self::LogMissing { dir, image, last } => write!(
                f,
                "the image in dataDir/zooid knows of transactions up to {image}, which were durable, and the logs in {dir} \
                 end with {last}. Is the volume of dataLogDir mounted? If an older backup was put back on purpose, remove \
                 dataDir/zooid/image"
            )?,
            Self::Epoch(message) => write!(f, "{message}")?,
            Self::HalfReplaced { dir, what } => write!(
                f,
                "a snapshot from the leader was taking the place of what is in {dir}, and {what}. Empty the data \
                 directories but for myid and the epoch files, and let the leader fill them again"
            )?,
        }
        if let Some(last) = self.give_up_after() {
            write!(
                f,
                ". Put back the intact file, or set zooid.giveUpAfter={last} to start with the state of that zxid and \
                 set aside everything after it"
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}
