//! Names of logs and snapshots. Java takes `log.69.bak` for a log and replays it a second time; only the exact
//! form counts here, and what merely resembles it is reported (on-disk 1).

use std::fmt;

use crate::id::Zxid;
use crate::tree::snapshot::Compression;

/// A log file, by the zxid of its first record.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct LogName(pub Zxid);

impl LogName {
    pub fn parse(name: &str) -> Option<Self> {
        parse_zxid(name.strip_prefix("log.")?).map(Self)
    }
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log.{:x}", self.0)
    }
}

/// A snapshot file, by the zxid of its state.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct SnapshotName {
    pub zxid: Zxid,
    pub compression: Compression,
}

impl SnapshotName {
    pub fn parse(name: &str) -> Option<Self> {
        let rest = name.strip_prefix("snapshot.")?;
        let (zxid, compression) = match rest.split_once('.') {
            None => (rest, Compression::Plain),
            Some((zxid, "gz")) => (zxid, Compression::Gz),
            Some((zxid, "snappy")) => (zxid, Compression::Snappy),
            Some(_) => return None,
        };
        Some(Self { zxid: parse_zxid(zxid)?, compression })
    }

    /// The name under which it is written.
    pub fn tmp(&self) -> String {
        format!("{self}.tmp")
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snapshot.{:x}{}", self.zxid, self.compression.suffix())
    }
}

/// What a write of a snapshot left that did not come to its end.
pub fn is_snapshot_tmp(name: &str) -> bool {
    name.strip_suffix(".tmp").is_some_and(|name| SnapshotName::parse(name).is_some())
}

/// Java might take this for a log or a snapshot.
pub fn resembles(name: &str) -> bool {
    let known = LogName::parse(name).is_some() || SnapshotName::parse(name).is_some() || is_snapshot_tmp(name);
    !known && (name.starts_with("log.") || name.starts_with("snapshot."))
}

/// Lower-case, without leading zeros, below 2^63.
fn parse_zxid(text: &str) -> Option<Zxid> {
    let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    if text.is_empty() || !text.bytes().all(is_hex) || text.len() > 1 && text.starts_with('0') {
        return None;
    }
    i64::from_str_radix(text, 16).ok().map(Zxid)
}

#[cfg(test)]
mod tests {
    use super::*;

    // on-disk 8: 56, 88
    #[test]
    fn only_exact_names_count() {
        assert_eq!(LogName::parse("log.0"), Some(LogName(Zxid(0))));
        assert_eq!(LogName::parse("log.7fffffffffffffff"), Some(LogName(Zxid(i64::MAX))));
        for other in ["log.", "log.00", "log.0069", "log.69.bak", "log.6G", "log.6A", "log.8000000000000000", "log.+1"]
        {
            assert_eq!(LogName::parse(other), None, "{other}");
            assert!(resembles(other), "{other}");
        }
        let name = SnapshotName { zxid: Zxid(0x1a), compression: Compression::Snappy };
        assert_eq!(SnapshotName::parse("snapshot.1a.snappy"), Some(name));
        assert_eq!(name.to_string(), "snapshot.1a.snappy");
        for other in ["snapshot.1a.GZ", "snapshot.1a.tmp", "snapshot.zz", "snapshot.1a.gz.bak", "snapshots.1a"] {
            assert_eq!(SnapshotName::parse(other), None, "{other}");
        }
        assert!(is_snapshot_tmp("snapshot.1a.gz.tmp") && !is_snapshot_tmp("snapshot.zz.tmp"));
        assert!(!resembles("aside.log.1") && !resembles("currentEpoch"));
    }
}
