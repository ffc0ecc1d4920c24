//! Snapshot files: written under a temporary name, made durable, then renamed, so that a file with a
//! snapshot's name is a whole one (on-disk 4.6 R12; Java writes in place and never syncs).

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes};

use super::names::SnapshotName;
use super::{Disk, DiskError, DiskErrorKind};
use crate::id::Zxid;
use crate::planted::{self, Bug};
use crate::tree::snapshot::{self, Compression, Sections, SnapshotError, Target, Verifier};
use crate::tree::{LoadError, Loader, Tree, TreeRules};

/// A snapshot file, told apart from any other of its name: by length and the checksum of its last bytes,
/// which hold the seal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SnapshotId {
    pub name: SnapshotName,
    pub len: u64,
    pub tail: u32,
}

const TAIL: u64 = 4096;

impl SnapshotId {
    pub fn of(disk: &impl Disk, name: SnapshotName) -> Result<Option<Self>, DiskError> {
        Self::of_file(disk, name, &name.to_string())
    }

    /// Of a snapshot that does not have its name yet.
    pub(super) fn of_file(disk: &impl Disk, name: SnapshotName, file: &str) -> Result<Option<Self>, DiskError> {
        let Some(len) = disk.len(file)? else { return Ok(None) };
        let tail = disk.read(file, len.saturating_sub(TAIL), TAIL as usize)?;
        Ok(Some(Self { name, len, tail: crc32fast::hash(&tail) }))
    }
}

/// All snapshots of a directory, oldest first.
pub fn list(disk: &impl Disk) -> Result<Vec<SnapshotName>, DiskError> {
    let mut names: Vec<_> = disk.list()?.iter().filter_map(|name| SnapshotName::parse(name)).collect();
    names.sort_unstable();
    Ok(names)
}

/// Why a file that is named as a snapshot is not used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error(transparent)]
    Content(#[from] SnapshotError),
    #[error("its last zxid is {0}, below the one in its name")]
    BelowName(Zxid),
}

impl Unusable {
    pub fn is_torn(&self) -> bool {
        matches!(self, Self::Content(error) if error.is_torn())
    }
}

fn read_into(disk: &impl Disk, name: SnapshotName, target: &mut impl Target) -> Result<Sections, Unusable> {
    read_file_into(disk, name, name.to_string(), target)
}

fn read_file_into(
    disk: &impl Disk,
    name: SnapshotName,
    file: String,
    target: &mut impl Target,
) -> Result<Sections, Unusable> {
    let reader = FileReader::new(disk, file).map_err(|error| SnapshotError::Io(io::Error::other(error)))?;
    let sections = snapshot::read(reader, name.compression, target)?;
    match sections.last_zxid {
        Some(last) if last < name.zxid => Err(Unusable::BelowName(last)),
        _ => Ok(sections),
    }
}

/// The tree of a snapshot. Each attempt starts from nothing.
pub fn load(disk: &impl Disk, name: SnapshotName, rules: TreeRules) -> Result<(Tree, Sections), Unusable> {
    let mut loader = Loader::of_stream(rules);
    let sections = read_into(disk, name, &mut loader)?;
    check_lists(loader.take_unlisted(), &sections, name)?;
    let tree = loader.finish(name.zxid).map_err(SnapshotError::Load)?;
    Ok((tree, sections))
}

/// A node may lack its list only if the transaction that made it follows in the log.
fn check_lists(unlisted: Option<LoadError>, sections: &Sections, name: SnapshotName) -> Result<(), Unusable> {
    match unlisted {
        Some(error) if !sections.may_be_ahead_of(name.zxid) => Err(error.into()),
        _ => Ok(()),
    }
}

/// Reads a snapshot to its last seal, without keeping it.
pub fn verify(disk: &impl Disk, name: SnapshotName) -> Result<(), Unusable> {
    verify_file(disk, name, name.to_string())
}

/// The same for one that does not have its name yet.
pub(super) fn verify_file(disk: &impl Disk, name: SnapshotName, file: String) -> Result<(), Unusable> {
    let mut verifier = Verifier::default();
    let sections = read_file_into(disk, name, file, &mut verifier)?;
    check_lists(verifier.take_unlisted(), &sections, name)?;
    Ok(verifier.finish().map_err(SnapshotError::Load)?)
}

/// Writes the snapshot of a tree.
pub fn write_tree(disk: &impl Disk, tree: &Tree, compression: Compression) -> Result<SnapshotId, DiskError> {
    let name = SnapshotName { zxid: tree.last_zxid(), compression };
    let id = prepare(disk, name, Pace::Hurried, |out| snapshot::write_tree(tree, out, compression).map(|_| ()))?;
    publish(disk, &id)?;
    Ok(id)
}

/// How a snapshot is written, in pieces that are synced.
#[derive(Clone, Copy)]
pub enum Pace<'a> {
    /// Somebody waits for it.
    Hurried,
    /// Others are to notice as little of it as can be. Asked after each piece: whether the rest is still wanted. The
    /// answer may take its time.
    Leisurely(&'a dyn Fn() -> bool),
}

/// Writes a snapshot under its temporary name. Durable on return, but not yet a snapshot. On an error, and if it is
/// not wanted any more, the file is removed again.
pub fn prepare<D: Disk>(
    disk: &D,
    name: SnapshotName,
    pace: Pace<'_>,
    write: impl FnOnce(FileWriter<'_, D>) -> io::Result<()>,
) -> Result<SnapshotId, DiskError> {
    prepare_as(disk, name, &name.tmp(), pace, write)
}

/// The same under any name.
pub(super) fn prepare_as<D: Disk>(
    disk: &D,
    name: SnapshotName,
    file: &str,
    pace: Pace<'_>,
    write: impl FnOnce(FileWriter<'_, D>) -> io::Result<()>,
) -> Result<SnapshotId, DiskError> {
    let attempt = || -> Result<SnapshotId, DiskError> {
        disk.create(file)?;
        write(FileWriter::new(disk, file, pace)).map_err(|error| disk_error(error, file))?;
        if !planted::is(Bug::SnapshotUnsynced) {
            disk.sync(file)?;
        }
        let id = SnapshotId::of_file(disk, name, file)?;
        Ok(id.expect("the file was just written"))
    };
    attempt().inspect_err(|_| {
        // What cannot be removed now is removed by the next start.
        let _ = disk.remove(file);
    })
}

/// Gives a prepared snapshot its name, durably.
pub fn publish(disk: &impl Disk, id: &SnapshotId) -> Result<(), DiskError> {
    disk.rename(&id.name.tmp(), &id.name.to_string())?;
    disk.sync_dir()
}

/// A prepared snapshot gets no name, and goes.
pub fn discard(disk: &impl Disk, id: &SnapshotId) -> Result<(), DiskError> {
    disk.remove(&id.name.tmp())
}

/// The error of the disk that came through a stream, or the stream's own.
fn disk_error(error: io::Error, name: &str) -> DiskError {
    let message = error.to_string();
    let inner = error.into_inner().and_then(|inner| inner.downcast::<DiskError>().ok());
    inner.map_or_else(
        || DiskError { kind: DiskErrorKind::Other, operation: "writing", path: name.to_owned(), message },
        |inner| *inner,
    )
}

/// How much is read or written at once.
const CHUNK: usize = 1 << 20;
/// How much is written between two syncs: one sync of a whole large file would hold up those of the log.
const HURRIED_PIECE: u64 = 8 << 20;
/// Those of the log wait for a piece that is being written out, so this is as small as does not cost the rest much.
const LEISURELY_PIECE: u64 = 1 << 20;

struct FileReader<'a, D> {
    disk: &'a D,
    name: String,
    offset: u64,
    chunk: Bytes,
}

impl<'a, D: Disk> FileReader<'a, D> {
    fn new(disk: &'a D, name: String) -> Result<Self, DiskError> {
        Ok(Self { disk, name, offset: 0, chunk: Bytes::new() })
    }
}

impl<D: Disk> Read for FileReader<'_, D> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() {
            self.chunk = self.disk.read(&self.name, self.offset, CHUNK).map_err(io::Error::other)?;
            self.offset += self.chunk.len() as u64;
        }
        let len = out.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut out[..len]);
        Ok(len)
    }
}

/// Appends to a file in large pieces.
pub struct FileWriter<'a, D> {
    disk: &'a D,
    name: &'a str,
    offset: u64,
    synced: u64,
    chunk: Vec<u8>,
    pace: Pace<'a>,
}

impl<'a, D: Disk> FileWriter<'a, D> {
    fn new(disk: &'a D, name: &'a str, pace: Pace<'a>) -> Self {
        Self { disk, name, offset: 0, synced: 0, chunk: Vec::new(), pace }
    }

    fn drain(&mut self) -> Result<(), DiskError> {
        self.disk.write_at(self.name, self.offset, &self.chunk)?;
        self.offset += self.chunk.len() as u64;
        self.chunk.clear();
        let piece = match self.pace {
            Pace::Hurried => HURRIED_PIECE,
            Pace::Leisurely(_) => LEISURELY_PIECE,
        };
        if self.offset - self.synced >= piece {
            self.disk.sync(self.name)?;
            self.synced = self.offset;
            if let Pace::Leisurely(go_on) = self.pace
                && !go_on()
            {
                let message = "it is not wanted any more".to_owned();
                let (kind, path) = (DiskErrorKind::Other, self.name.to_owned());
                return Err(DiskError { kind, operation: "writing", path, message });
            }
        }
        Ok(())
    }
}

impl<D: Disk> Write for FileWriter<'_, D> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK {
            self.drain().map_err(io::Error::other)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.drain().map_err(io::Error::other)
    }
}

impl From<LoadError> for Unusable {
    fn from(error: LoadError) -> Self {
        Self::Content(error.into())
    }
}
