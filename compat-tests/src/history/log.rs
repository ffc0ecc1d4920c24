//! The transaction logs of a member, read without the server's own code: what is in them is the truth that all
//! answers are held against, so nothing of the server may have a say in it.

use std::fs;
use std::path::{Path, PathBuf};

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

/// All records in the logs of a data directory, in the order of the files. The last file may end in the middle of a record,
/// as a kill leaves it.
pub fn read(data_dir: &Path) -> Result<Vec<Record>, String> {
    let directory = data_dir.join("version-2");
    let entries = fs::read_dir(&directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    let mut files: Vec<(i64, PathBuf)> = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| format!("{}: {e}", directory.display()))?.path();
        let first = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix("log."));
        if let Some(first) = first.and_then(|first| i64::from_str_radix(first, 16).ok()) {
            files.push((first, path));
        }
    }
    files.sort();
    let mut records = Vec::new();
    for (_, path) in &files {
        let bytes = fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
        read_file(&Bytes::from(bytes), &mut records).map_err(|why| format!("{}: {why}", path.display()))?;
    }
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
