//! The transaction logs of a member, read without the server's own code: what is in them is the truth that all
//! answers are held against, so nothing of the server may have a say in it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use jute::records::data::Acl;
use jute::records::txn;
use jute::{DecodeError, Reader, Record as _, Text, op};

/// One transaction in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub zxid: i64,
    pub session: i64,
    pub cxid: i32,
    /// Milliseconds since 1970.
    pub time: i64,
    pub txn: Txn,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Txn {
    Create {
        path: Text,
        data: Bytes,
        perms: i32,
        is_ephemeral: bool,
        parent_cversion: i32,
    },
    Delete {
        path: Text,
    },
    SetData {
        path: Text,
        data: Bytes,
        version: i32,
    },
    SetAcl {
        path: Text,
        perms: i32,
        version: i32,
    },
    /// Only in a multi.
    Check {
        path: Text,
        version: i32,
    },
    OpenSession {
        timeout_ms: i32,
    },
    CloseSession {
        paths: Vec<Text>,
    },
    Error(i32),
    /// If a part failed, those before it are `Error(0)`.
    Multi(Vec<Txn>),
}

impl Txn {
    /// A multi of these parts. What came before the part that failed has no effect, and a Java leader that
    /// has applied a failed multi hands it on with other types in these places (`DataTree.processTxn`).
    pub fn multi(mut parts: Vec<Self>) -> Self {
        let culprit = parts.iter().position(|part| matches!(part, Self::Error(err) if *err < 0));
        parts[..culprit.unwrap_or(0)].fill(Self::Error(0));
        Self::Multi(parts)
    }
}

const HEAD_BYTES: usize = 16;
const MAGIC: &[u8; 4] = b"ZKLG";

/// All records in the logs of a data directory, in the order of the files. A file may end in the middle of a record, as
/// a kill leaves it; then what follows does not continue it.
pub fn read(data_dir: &Path) -> Result<Vec<Record>, String> {
    let mut records = Vec::new();
    for file in list(&data_dir.join("version-2")).map_err(|e| format!("{}: {e}", data_dir.display()))? {
        records.extend(read_path(&file.path)?);
    }
    Ok(records)
}

struct LogFile {
    inode: u64,
    path: PathBuf,
}

/// The logs in a directory, in their order.
fn list(directory: &Path) -> std::io::Result<Vec<LogFile>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let first = name.to_str().and_then(|name| name.strip_prefix("log."));
        if let Some(first) = first.and_then(|first| i64::from_str_radix(first, 16).ok()) {
            files.insert(first, LogFile { inode: entry.ino(), path: entry.path() });
        }
    }
    Ok(files.into_values().collect())
}

fn read_path(path: &Path) -> Result<Vec<Record>, String> {
    let bytes = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut records = Vec::new();
    read_file(&Bytes::from(bytes), &mut records).map_err(|why| format!("{}: {why}", path.display()))?;
    Ok(records)
}

fn read_file(bytes: &Bytes, records: &mut Vec<Record>) -> Result<(), String> {
    if bytes.len() < HEAD_BYTES || bytes[..4] != MAGIC[..] {
        // Made, and killed before its head was written.
        return if bytes.iter().all(|byte| *byte == 0) { Ok(()) } else { Err("not a transaction log".into()) };
    }
    let mut at = HEAD_BYTES;
    while let Some(head) = bytes.get(at..at + 12) {
        let (sum, length) = head.split_at(8);
        let sum = i64::from_be_bytes(sum.try_into().expect("8 bytes"));
        let length = i32::from_be_bytes(length.try_into().expect("4 bytes")) as usize;
        if length == 0 {
            break;
        }
        let (from, to) = (at + 12, at + 12 + length);
        if bytes.get(to) != Some(&b'B') || i64::from(adler32(&bytes[from..to])) != sum {
            break;
        }
        let record = parse(bytes.slice(from..to)).map_err(|e| format!("the record at {at}: {e}"))?;
        records.push(record);
        at = to + 1;
    }
    Ok(())
}

/// Keeps what members throw away. A member that gets a snapshot from its leader has no use for its own logs any more, and
/// all members may have got one; what clients were told about is then in no log at all. So every log is
/// held by a second name from when it is first seen, with the logs that stood beside it.
///
/// What was once logged need not have been committed. What is known to be is what the members have in the end; and of
/// what a member had directly before something that was committed, that it was committed too.
pub struct Archive {
    shared: Arc<Shared>,
    watcher: Option<thread::JoinHandle<()>>,
}

struct Shared {
    /// `version-2` of each member, and where its logs are kept, on the same file system.
    places: Vec<(PathBuf, PathBuf)>,
    is_over: AtomicBool,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    kept: HashMap<(usize, u64), PathBuf>,
    /// What made up the log of a member at some time, in order.
    lists: BTreeSet<(usize, Vec<u64>)>,
}

impl Archive {
    /// Watches data directories, each with a place of its own for what is kept.
    pub fn start(places: &[(PathBuf, PathBuf)]) -> Self {
        for (_, kept) in places {
            fs::create_dir_all(kept).expect("a directory can be made");
        }
        let places = places.iter().map(|(data, kept)| (data.join("version-2"), kept.clone())).collect();
        let shared = Shared { places, is_over: AtomicBool::new(false), found: Mutex::default() };
        let shared = Arc::new(shared);
        let watched = Arc::clone(&shared);
        let watch = move || {
            while !watched.is_over.load(Ordering::Relaxed) {
                watched.look();
                thread::sleep(Duration::from_millis(10));
            }
        };
        Self { shared, watcher: Some(thread::spawn(watch)) }
    }

    /// Everything that was committed, from the beginning: what the members have in the end, and what must have been
    /// before it.
    pub fn complete(&self, logs: &[Vec<Record>]) -> Result<Vec<Record>, String> {
        self.shared.look();
        let found = self.shared.found.lock().unwrap_or_else(PoisonError::into_inner);
        let mut files: HashMap<(usize, u64), Vec<Record>> = HashMap::new();
        for (key, path) in &found.kept {
            files.insert(*key, read_path(path)?);
        }
        // What stood directly before what, in some member's log.
        let mut before: HashMap<i64, Record> = HashMap::new();
        for (member, list) in &found.lists {
            let records = list.iter().filter_map(|inode| files.get(&(*member, *inode))).flatten();
            let mut last: Option<&Record> = None;
            for record in records {
                if let Some(last) = last
                    && follows(last.zxid, record.zxid)
                {
                    let known = before.entry(record.zxid).or_insert_with(|| last.clone());
                    if known != last {
                        return Err(format!("0x{:x} follows {known:?} and {last:?}", record.zxid));
                    }
                }
                last = Some(record);
            }
        }
        let mut whole: BTreeMap<i64, Record> = BTreeMap::new();
        for record in logs.iter().flatten() {
            whole.insert(record.zxid, record.clone());
        }
        let Some(mut at) = whole.keys().next().copied() else { return Ok(Vec::new()) };
        while let Some(record) = before.get(&at) {
            at = record.zxid;
            whole.insert(at, record.clone());
        }
        Ok(whole.into_values().collect())
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(watcher) = self.watcher.take() {
            let _ = watcher.join();
        }
    }
}

impl Shared {
    fn look(&self) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        for (member, (directory, kept)) in self.places.iter().enumerate() {
            let Ok(files) = list(directory) else { continue };
            for LogFile { inode, path } in &files {
                let to = kept.join(inode.to_string());
                // One that is renamed at this moment is seen again the next time, or was seen before.
                if !found.kept.contains_key(&(member, *inode)) && fs::hard_link(path, &to).is_ok() {
                    found.kept.insert((member, *inode), to);
                }
            }
            found.lists.insert((member, files.iter().map(|file| file.inode).collect()));
        }
    }
}

/// Whether a zxid may stand behind another in a log: the next of the epoch, or the first of a later one.
pub(super) fn follows(last: i64, zxid: i64) -> bool {
    let counter = |zxid: i64| zxid & 0xffff_ffff;
    if last >> 32 == zxid >> 32 { zxid == last + 1 } else { zxid > last && counter(zxid) == 1 }
}

fn adler32(bytes: &[u8]) -> u32 {
    const MODULUS: u32 = 65_521;
    /// As many as cannot overflow the sums.
    const AT_ONCE: usize = 5552;
    let (mut a, mut b) = (1u32, 0u32);
    for part in bytes.chunks(AT_ONCE) {
        for byte in part {
            a += u32::from(*byte);
            b += a;
        }
        (a, b) = (a % MODULUS, b % MODULUS);
    }
    b << 16 | a
}

fn parse(bytes: Bytes) -> Result<Record, String> {
    let mut r = Reader::new(bytes);
    let header = txn::TxnHeader::read(&mut r).map_err(|e| e.to_string())?;
    let txn = parse_txn(header.op, &mut r)?;
    Ok(Record { zxid: header.zxid, session: header.client_id, cxid: header.cxid, time: header.time, txn })
}

fn parse_txn(kind: i32, r: &mut Reader) -> Result<Txn, String> {
    let failed = |e: DecodeError| e.to_string();
    Ok(match kind {
        op::CREATE | op::CREATE2 => {
            let create = txn::CreateTxn::read(r).map_err(failed)?;
            Txn::Create {
                path: create.path,
                data: create.data.unwrap_or_default(),
                perms: perms(create.acl.as_deref())?,
                is_ephemeral: create.ephemeral,
                parent_cversion: create.parent_cversion,
            }
        }
        op::DELETE => Txn::Delete { path: txn::DeleteTxn::read(r).map_err(failed)?.path },
        op::SET_DATA => {
            let set = txn::SetDataTxn::read(r).map_err(failed)?;
            Txn::SetData { path: set.path, data: set.data.unwrap_or_default(), version: set.version }
        }
        op::SET_ACL => {
            let set = txn::SetAclTxn::read(r).map_err(failed)?;
            Txn::SetAcl { path: set.path, perms: perms(set.acl.as_deref())?, version: set.version }
        }
        op::CHECK => {
            let check = txn::CheckVersionTxn::read(r).map_err(failed)?;
            Txn::Check { path: check.path, version: check.version }
        }
        op::CREATE_SESSION => Txn::OpenSession { timeout_ms: txn::CreateSessionTxn::read(r).map_err(failed)?.time_out },
        op::CLOSE_SESSION => {
            let close = txn::CloseSessionTxn::read(r).map_err(failed)?;
            Txn::CloseSession { paths: close.paths_to_delete.unwrap_or_default() }
        }
        op::ERROR => Txn::Error(txn::ErrorTxn::read(r).map_err(failed)?.err),
        op::MULTI => {
            let parts = txn::MultiTxn::read(r).map_err(failed)?.txns.unwrap_or_default();
            let part = |part: txn::Txn| parse_txn(part.op, &mut Reader::new(part.data.unwrap_or_default()));
            Txn::multi(parts.into_iter().map(part).collect::<Result<_, _>>()?)
        }
        other => return Err(format!("a transaction of type {other}, which nobody asked for")),
    })
}

/// The rights of `world:anyone` in a list of one entry.
pub(super) fn perms(acl: Option<&[Acl]>) -> Result<i32, String> {
    match acl {
        Some([Acl { perms, scheme: Some(scheme), id: Some(id) }]) if *scheme == "world" && *id == "anyone" => {
            Ok(*perms)
        }
        other => Err(format!("an access list that nobody asked for: {other:?}")),
    }
}
