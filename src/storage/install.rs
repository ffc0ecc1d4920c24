//! Replacing everything by what a leader has sent: a snapshot, and the transactions behind it that are not
//! committed yet.
//!
//! A new snapshot beside old logs is not enough. Logs and snapshots of other transactions with higher zxids
//! may lie there, of a leader that did not prevail, and would win or be replayed on top (quorum-protocol 10,
//! H3, H13; Java leaves them). To remove them first would lose, in a crash, what this server may have
//! acknowledged, before what takes its place is there. So snapshot and log are made ready under names that
//! mean nothing, and then a record, `incoming`, says that they count: that rename is the moment of the change.
//! What follows is repeated by a start until it is done. In every state in between a Java server, which knows
//! nothing of the record, finds the old state, a beginning of it, or the new one, and never a mixture:
//!
//! 1. old logs go aside, the newest first;
//! 2. the snapshot gets its name;
//! 3. old snapshots go aside, the newest first;
//! 4. the log gets its name;
//! 5. the record goes.
//!
//! The record names the files that it found. If there is another one, a server that knew nothing of the record
//! has gone on from the old state since, and the record is void.
//!
//! What went aside stays, as `replaced.*`, until the next time.
//!
//! Java: `Learner.syncWithLeader`, which writes the snapshot and leaves the rest; on-disk 2.6, design.md D9.

use std::fmt::Write;

use bytes::BytesMut;

use super::error::Refusal;
use super::mark::Mark;
use super::names::{LogName, SnapshotName};
use super::recover::{Disks, Notice};
use super::snapshots::{self, Pace, SnapshotId};
use super::{Disk, DiskError, StorageError};
use crate::id::Zxid;
use crate::journal::{self, FILE_HEADER_LEN};
use crate::planted::{self, Bug};
use crate::tree::Tree;
use crate::tree::snapshot::{self, Compression};
use crate::zab::Entry;

/// The record, beside the snapshots.
const RECORD: &str = "incoming";
const RECORD_TMP: &str = "incoming.tmp";
/// What is ready, and not yet a snapshot or log.
const READY: &str = "incoming.";
/// What was one before.
const REPLACED: &str = "replaced.";
const FORMAT: &str = "zooid incoming 1";

/// What takes the place of everything.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Incoming {
    pub snapshot: SnapshotId,
    pub log: Option<IncomingLog>,
    /// The names of all logs and snapshots that were there.
    old: Vec<String>,
}

/// The log behind the snapshot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IncomingLog {
    pub file: LogName,
    pub len: u64,
    pub last: Zxid,
}

/// Writes the tree and what is behind it to files that do not count before [`commit`]. After an error nothing
/// has changed but for files that had been aside.
pub fn prepare<D: Disk>(
    disks: &Disks<D>,
    tree: &Tree,
    rest: &[Entry],
    compression: Compression,
) -> Result<Incoming, StorageError> {
    remove_left(disks)?;
    remove_replaced(disks)?;
    let attempt = || -> Result<Incoming, StorageError> {
        let name = SnapshotName { zxid: tree.last_zxid(), compression };
        let snapshot = snapshots::prepare_as(&disks.snap, name, &ready(&name), Pace::Leisurely(&|| true), |out| {
            snapshot::write_tree(tree, out, compression).map(|_| ())
        })?;
        let log = write_log(&disks.log, rest)?;
        let incoming = Incoming { snapshot, log, old: files(disks)? };
        disks.snap.create(RECORD_TMP)?;
        disks.snap.write_at(RECORD_TMP, 0, incoming.encode().as_bytes())?;
        disks.snap.sync(RECORD_TMP)?;
        Ok(incoming)
    };
    attempt().inspect_err(|_| {
        // What cannot be removed now is removed by the next start.
        let _ = remove_left(disks);
    })
}

/// From here on what was prepared counts, and what was there before does not. After an error only a start
/// knows which.
pub fn commit<D: Disk>(disks: &Disks<D>) -> Result<(), DiskError> {
    disks.snap.rename(RECORD_TMP, RECORD)?;
    disks.snap.sync_dir()
}

fn write_log<D: Disk>(disk: &D, rest: &[Entry]) -> Result<Option<IncomingLog>, StorageError> {
    let (Some(first), Some(last)) = (rest.first(), rest.last()) else { return Ok(None) };
    let file = LogName(first.zxid);
    let mut bytes = BytesMut::from(&journal::file_header()[..]);
    for entry in rest {
        journal::write_payload(&entry.txn, &mut bytes);
    }
    let name = ready(&file);
    disk.create(&name)?;
    disk.write_at(&name, 0, &bytes)?;
    disk.sync(&name)?;
    disk.sync_dir()?;
    Ok(Some(IncomingLog { file, len: bytes.len() as u64, last: last.zxid }))
}

/// Does what the record says, from wherever it was left.
pub fn finish<D: Disk>(disks: &Disks<D>, incoming: &Incoming) -> Result<(), DiskError> {
    let name = incoming.snapshot.name;
    let next = incoming.log.map_or(LogName(Zxid(name.zxid.0 + 1)), |log| log.file);
    // The mark would call the new log damaged.
    let mark = Mark::read(&disks.log)?;
    if let Some(mark) = mark {
        Mark { file: next, offset: FILE_HEADER_LEN, zxid: name.zxid, ..mark }.replace(&disks.log)?;
    }
    // Once the snapshot has its name, all logs that are left are new.
    if disks.snap.len(&ready(&name))?.is_some() {
        for log in logs(&disks.log)?.iter().rev().filter(|_| !planted::is(Bug::OldLogsStay)) {
            set_aside(&disks.log, &log.to_string())?;
        }
        disks.snap.rename(&ready(&name), &name.to_string())?;
        disks.snap.sync_dir()?;
    }
    for old in snapshots::list(&disks.snap)?.iter().rev().filter(|old| **old != name) {
        set_aside(&disks.snap, &old.to_string())?;
    }
    if let Some(log) = &incoming.log {
        if disks.log.len(&ready(&log.file))?.is_some() {
            disks.log.rename(&ready(&log.file), &log.file.to_string())?;
            disks.log.sync_dir()?;
        }
        let serial = Mark::read(&disks.log)?.map_or(1, |mark| mark.serial + 1);
        Mark { file: log.file, offset: log.len, zxid: log.last, serial }.write(&disks.log)?;
    }
    disks.snap.remove(RECORD)?;
    disks.snap.sync_dir()
}

/// What a start has found of an unfinished replacement.
pub struct Begun {
    pub replaced_by: Option<SnapshotName>,
    pub notices: Vec<Notice>,
}

/// Brings to its end what a crash has cut off. `None` if there was nothing.
pub fn finish_begun<D: Disk>(disks: &Disks<D>) -> Result<Option<Begun>, StorageError> {
    let Some(len) = disks.snap.len(RECORD)? else { return Ok(None) };
    let refused = |what: String| Refusal::HalfReplaced { dir: disks.snap.path(), what };
    let bytes = disks.snap.read(RECORD, 0, len as usize)?;
    let Some(incoming) = Incoming::decode(&bytes) else {
        return Err(refused(format!("{RECORD}, which says how, does not read")).into());
    };
    let present = files(disks)?;
    if present.iter().any(|name| !incoming.names(name)) {
        return Ok(Some(Begun { replaced_by: None, notices: give_up(disks)? }));
    }
    let name = incoming.snapshot.name;
    let file = ready(&name);
    match SnapshotId::of_file(&disks.snap, name, &file)? {
        Some(id) => {
            let whole = id == incoming.snapshot && snapshots::verify_file(&disks.snap, name, file.clone()).is_ok();
            if !whole && incoming.old.iter().all(|old| present.contains(old)) {
                return Ok(Some(Begun { replaced_by: None, notices: give_up(disks)? }));
            }
            if !whole {
                return Err(refused(format!("{file} does not read")).into());
            }
        }
        None if SnapshotId::of_file(&disks.snap, name, &name.to_string())? == Some(incoming.snapshot) => {}
        None => return Err(refused(format!("{name} is missing or changed")).into()),
    }
    // It may have its name in the cache alone, and what follows must not outlive it.
    disks.snap.sync(RECORD)?;
    disks.snap.sync_dir()?;
    finish(disks, &incoming)?;
    Ok(Some(Begun { replaced_by: Some(name), notices: vec![Notice::Replaced { by: name }] }))
}

/// The record is void. It goes first: what it names would be missing.
fn give_up<D: Disk>(disks: &Disks<D>) -> Result<Vec<Notice>, DiskError> {
    disks.snap.remove(RECORD)?;
    disks.snap.sync_dir()?;
    let mut notices = vec![Notice::Removed { name: RECORD.to_owned() }];
    notices.extend(remove_left(disks)?);
    Ok(notices)
}

/// Removes what was made ready for a record that was never written.
pub fn remove_left<D: Disk>(disks: &Disks<D>) -> Result<Vec<Notice>, DiskError> {
    let is_left = |name: &str| name == RECORD_TMP || name.strip_prefix(READY).is_some_and(is_log_or_snapshot);
    remove(disks, is_left)
}

/// Removes what went aside the last time.
fn remove_replaced<D: Disk>(disks: &Disks<D>) -> Result<(), DiskError> {
    remove(disks, |name| name.strip_prefix(REPLACED).is_some_and(is_log_or_snapshot)).map(|_| ())
}

fn remove<D: Disk>(disks: &Disks<D>, goes: impl Fn(&str) -> bool) -> Result<Vec<Notice>, DiskError> {
    let mut notices = Vec::new();
    for disk in [&disks.log, &disks.snap] {
        let mut names = disk.list()?;
        names.retain(|name| goes(name));
        names.sort_unstable();
        for name in names {
            disk.remove(&name)?;
            notices.push(Notice::Removed { name });
        }
    }
    Ok(notices)
}

/// Removes snapshots that went aside before.
pub fn remove_replaced_snapshots<D: Disk>(disk: &D) -> Result<(), DiskError> {
    let is_snapshot = |name: &str| SnapshotName::parse(name).is_some();
    for name in disk.list()?.iter().filter(|name| name.strip_prefix(REPLACED).is_some_and(is_snapshot)) {
        disk.remove(name)?;
    }
    Ok(())
}

/// Renames a file so that nobody takes it for a log or snapshot, until the next replacement removes it.
/// Durable on return.
pub fn set_aside<D: Disk>(disk: &D, name: &str) -> Result<String, DiskError> {
    let aside = format!("{REPLACED}{name}");
    disk.rename(name, &aside)?;
    disk.sync_dir()?;
    Ok(aside)
}

fn ready(name: &impl std::fmt::Display) -> String {
    format!("{READY}{name}")
}

fn is_log_or_snapshot(name: &str) -> bool {
    LogName::parse(name).is_some() || SnapshotName::parse(name).is_some()
}

fn logs(disk: &impl Disk) -> Result<Vec<LogName>, DiskError> {
    let mut logs: Vec<_> = disk.list()?.iter().filter_map(|name| LogName::parse(name)).collect();
    logs.sort_unstable();
    Ok(logs)
}

fn files<D: Disk>(disks: &Disks<D>) -> Result<Vec<String>, DiskError> {
    let logs = logs(&disks.log)?.into_iter().map(|name| name.to_string());
    let snapshots = snapshots::list(&disks.snap)?.into_iter().map(|name| name.to_string());
    Ok(logs.chain(snapshots).collect())
}

impl Incoming {
    /// Whether this log or snapshot is one that was there, or one that takes its place.
    fn names(&self, file: &str) -> bool {
        let is_new = file == self.snapshot.name.to_string() || self.log.is_some_and(|log| file == log.file.to_string());
        is_new || self.old.iter().any(|old| old == file)
    }

    /// Lines of text, the last of which seals them.
    fn encode(&self) -> String {
        let SnapshotId { name, len, tail } = self.snapshot;
        let mut out = format!("{FORMAT}\nsnapshot {name} {len} {tail:08x}\n");
        if let Some(IncomingLog { file, len, last }) = self.log {
            let _ = writeln!(out, "log {file} {len} {last:x}");
        }
        for old in &self.old {
            let _ = writeln!(out, "old {old}");
        }
        let sum = crc32fast::hash(out.as_bytes());
        let _ = writeln!(out, "sum {sum:08x}");
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (body, sum) = text.strip_suffix('\n')?.rsplit_once('\n')?;
        let sum = u32::from_str_radix(sum.strip_prefix("sum ")?, 16).ok()?;
        // The sealed lines, with the end of the last.
        if crc32fast::hash(&bytes[..body.len() + 1]) != sum {
            return None;
        }
        let mut lines = body.lines();
        if lines.next()? != FORMAT {
            return None;
        }
        let mut words = lines.next()?.strip_prefix("snapshot ")?.split(' ');
        let name = SnapshotName::parse(words.next()?)?;
        let (len, tail) = (words.next()?.parse().ok()?, u32::from_str_radix(words.next()?, 16).ok()?);
        let mut incoming = Self { snapshot: SnapshotId { name, len, tail }, log: None, old: Vec::new() };
        for line in lines {
            match line.split_once(' ')? {
                ("log", log) => {
                    let mut words = log.split(' ');
                    let (file, len) = (LogName::parse(words.next()?)?, words.next()?.parse().ok()?);
                    let last = Zxid(i64::from_str_radix(words.next()?, 16).ok()?);
                    incoming.log = Some(IncomingLog { file, len, last });
                }
                ("old", old) => incoming.old.push(old.to_owned()),
                _ => return None,
            }
        }
        Some(incoming)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_as_it_was_written_or_not_at_all() {
        let name = SnapshotName { zxid: Zxid::new(5, 0), compression: Compression::Gz };
        let log = IncomingLog { file: LogName(Zxid::new(5, 1)), len: 777, last: Zxid::new(5, 9) };
        let old = vec!["log.1".to_owned(), "snapshot.0".to_owned()];
        let snapshot = SnapshotId { name, len: 1234, tail: 0xab };
        for log in [Some(log), None] {
            let incoming = Incoming { snapshot, log, old: old.clone() };
            let text = incoming.encode();
            assert_eq!(Incoming::decode(text.as_bytes()), Some(incoming));
            for at in 0..text.len() {
                let mut bytes = text.clone().into_bytes();
                assert_eq!(Incoming::decode(&bytes[..at]), None, "cut at {at}");
                bytes[at] ^= 4;
                assert_eq!(Incoming::decode(&bytes), None, "changed at {at}");
            }
        }
    }
}
