//! What is on disk, and what a start makes of it.
//!
//! `version-2` holds the truth, in Java's format: snapshots, and a log that continues the newest of them. The
//! image (`dataDir/zooid`) is a cache of the tree: it may be missing, old or broken at any moment, and nothing
//! but time is lost. What holds at every instant, a crash included:
//!
//! - Whatever `LogWriter::sync` reported is found again by [`recover`]; what it did not report may be.
//! - Recovery with and without the image gives the same tree, sessions and zxid.
//! - A file is never overwritten in place, never appended to after a restart, and never deleted unless it was
//!   recognised by its exact name.
//! - Damage to what may have been acknowledged refuses the start and says where it is and what the way out is.
//!
//! All of it is pure code over [`Disk`] and [`Image`], so that the simulator runs this very code over disks
//! that lie. It builds the [`Tree`](crate::tree::Tree) itself rather than through a trait: recovery, the image
//! and snapshots are about exactly that one structure, and a second implementation would only exist for show.
//!
//! Java: `FileTxnSnapLog`, `FileTxnLog`, `FileSnap`, `PurgeTxnLog`; on-disk, design.md D3, D4, D9, D17, D18.

mod chain;
pub mod epoch;
mod error;
pub mod image;
mod install;
mod mark;
pub mod member;
mod names;
pub mod purge;
mod recover;
pub mod schedule;
mod segments;
mod snapshots;
mod trunc;
mod writer;

use bytes::Bytes;

use crate::id::Zxid;

pub use chain::Start;
pub use error::{DiskError, DiskErrorKind, Refusal, StorageError};
pub use image::{Image, ImageError};
pub use member::{Installed, LogPart, MemberStore, OpenedMember, Truncated, read_log, read_log_part};
pub use names::{LogName, SnapshotName};
pub use recover::{Disks, ImageState, LogState, Notice, Options, Recovered, Replay, check_directories, recover};
pub use segments::{Durable, ForceSync, LogOptions, LogWriter};
pub use snapshots::{Pace, SnapshotId, discard as discard_snapshot, write_tree};
pub use trunc::{Trunc, trunc};
pub use writer::Writer;

/// One directory. A file is named by its bare name. Nothing that is written, made, renamed or removed is safe
/// from a crash until `sync` of the file, or `sync_dir` for names, has returned.
pub trait Disk {
    /// Where it is, for messages.
    fn path(&self) -> String;
    fn exists(&self) -> Result<bool, DiskError>;
    /// Makes the directory and those above it, durably.
    fn make(&self) -> Result<(), DiskError>;
    fn is_writable(&self) -> bool;
    /// Names of the files in it, in any order.
    fn list(&self) -> Result<Vec<String>, DiskError>;
    /// The length of a file, `None` if there is none of that name.
    fn len(&self, name: &str) -> Result<Option<u64>, DiskError>;
    /// The bytes from `offset`, `len` of them or as many as there are.
    fn read(&self, name: &str, offset: u64, len: usize) -> Result<Bytes, DiskError>;
    /// An empty file of that name, whatever was there before.
    fn create(&self, name: &str) -> Result<(), DiskError>;
    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;
    /// Makes the file `len` bytes long, with room on the disk for all of them; what is new reads as zeros.
    fn preallocate(&self, name: &str, len: u64) -> Result<(), DiskError>;
    fn set_len(&self, name: &str, len: u64) -> Result<(), DiskError>;
    /// fdatasync.
    fn sync(&self, name: &str) -> Result<(), DiskError>;
    fn sync_dir(&self) -> Result<(), DiskError>;
    /// Replaces `to` if it exists.
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError>;
    fn remove(&self, name: &str) -> Result<(), DiskError>;
}

macro_rules! disk_by_reference {
    ($($pointer:ty),*) => {$(
        impl<D: Disk + ?Sized> Disk for $pointer {
            fn path(&self) -> String { (**self).path() }
            fn exists(&self) -> Result<bool, DiskError> { (**self).exists() }
            fn make(&self) -> Result<(), DiskError> { (**self).make() }
            fn is_writable(&self) -> bool { (**self).is_writable() }
            fn list(&self) -> Result<Vec<String>, DiskError> { (**self).list() }
            fn len(&self, name: &str) -> Result<Option<u64>, DiskError> { (**self).len(name) }
            fn read(&self, name: &str, offset: u64, len: usize) -> Result<Bytes, DiskError> {
                (**self).read(name, offset, len)
            }
            fn create(&self, name: &str) -> Result<(), DiskError> { (**self).create(name) }
            fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
                (**self).write_at(name, offset, bytes)
            }
            fn preallocate(&self, name: &str, len: u64) -> Result<(), DiskError> { (**self).preallocate(name, len) }
            fn set_len(&self, name: &str, len: u64) -> Result<(), DiskError> { (**self).set_len(name, len) }
            fn sync(&self, name: &str) -> Result<(), DiskError> { (**self).sync(name) }
            fn sync_dir(&self) -> Result<(), DiskError> { (**self).sync_dir() }
            fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> { (**self).rename(from, to) }
            fn remove(&self, name: &str) -> Result<(), DiskError> { (**self).remove(name) }
        }
    )*};
}

disk_by_reference!(&D, std::rc::Rc<D>, std::sync::Arc<D>);

/// Where a record stands in the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Position {
    pub file: LogName,
    pub offset: u64,
    pub zxid: Zxid,
    pub checksum: u32,
}

/// Renames a file so that neither this server nor a Java server takes it for a log or snapshot. Durable on
/// return.
fn set_aside(disk: &impl Disk, name: &str) -> Result<String, DiskError> {
    let aside = name_aside(disk, name)?;
    disk.rename(name, &aside)?;
    disk.sync_dir()?;
    Ok(aside)
}

/// As [`set_aside`], but the file stays as well.
fn copy_aside(disk: &impl Disk, name: &str) -> Result<String, DiskError> {
    const PIECE: usize = 1 << 20;
    let aside = name_aside(disk, name)?;
    let copy = || {
        disk.create(&aside)?;
        let mut done = 0;
        loop {
            let bytes = disk.read(name, done, PIECE)?;
            if bytes.is_empty() {
                break;
            }
            disk.write_at(&aside, done, &bytes)?;
            done += bytes.len() as u64;
        }
        disk.sync(&aside)?;
        disk.sync_dir()
    };
    // Half a copy is of no use, and takes what room there is.
    copy().inspect_err(|_| drop(disk.remove(&aside)))?;
    Ok(aside)
}

fn name_aside(disk: &impl Disk, name: &str) -> Result<String, DiskError> {
    let mut aside = format!("aside.{name}");
    let mut n = 1;
    while disk.len(&aside)?.is_some() {
        n += 1;
        aside = format!("aside-{n}.{name}");
    }
    Ok(aside)
}
