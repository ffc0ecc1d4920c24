//! The tree digest: the one number by which replicas prove that they hold the same tree.
//!
//! It is the wrapping sum of a CRC-32 per node over path, data and stat, so a change costs the node's old
//! value and its new one. Each node keeps the CRC of its path and data, and only the 60 bytes of its stat are
//! hashed again when a child comes or goes.
//!
//! Java: `DigestCalculator`, `AdHash`, `DataTree.logZxidDigest` and `compareDigest`; data-model 4.

use std::collections::VecDeque;

use jute::records::data::StatPersisted;

use crate::id::Zxid;

/// CRC-32 over the path (empty for the root) and the data (nothing for null).
pub fn prefix_crc(path: &str, data: Option<&[u8]>) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    if path != "/" {
        hasher.update(path.as_bytes());
    }
    hasher.update(data.unwrap_or_default());
    hasher.finalize()
}

/// The digest of one node. Everything below `/zookeeper/` counts as nothing; `/zookeeper` itself counts.
pub fn node_digest(path: &str, prefix_crc: u32, stat: &StatPersisted) -> u64 {
    if is_excluded(path) { 0 } else { stat_digest(prefix_crc, stat) }
}

pub fn is_excluded(path: &str) -> bool {
    path.starts_with("/zookeeper/")
}

/// The CRC continued over the stat, in an order of its own: pzxid comes third.
pub fn stat_digest(prefix_crc: u32, s: &StatPersisted) -> u64 {
    let mut bytes = [0u8; 60];
    let longs = [s.czxid, s.mzxid, s.pzxid, s.ctime, s.mtime];
    for (at, long) in longs.into_iter().enumerate() {
        bytes[at * 8..][..8].copy_from_slice(&long.to_be_bytes());
    }
    for (at, int) in [s.version, s.cversion, s.aversion].into_iter().enumerate() {
        bytes[40 + at * 4..][..4].copy_from_slice(&int.to_be_bytes());
    }
    bytes[52..].copy_from_slice(&s.ephemeral_owner.to_be_bytes());
    let mut hasher = crc32fast::Hasher::new_with_initial(prefix_crc);
    hasher.update(&bytes);
    hasher.finalize().into()
}

/// Compares what transactions say the digest is with what the tree says, and remembers some of it.
#[derive(Debug, Default)]
pub struct DigestCheck {
    /// The tree may hold more than its zxid says until this transaction was applied: a fuzzy snapshot.
    fuzzy_until: Option<(Zxid, u64)>,
    mismatches: u64,
    /// (zxid, digest) at every 128th counter, the newest 1024, as the word `hash` lists them.
    log: VecDeque<(Zxid, u64)>,
}

/// What a comparison showed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Equal, or nothing to compare.
    Agrees,
    /// So many mismatches so far.
    Mismatch(u64),
}

impl Verdict {
    /// How many mismatches there are, if that is to be said: with each doubling, because a tree that differs once differs
    /// with every transaction from then on. (Java says it every quarter of an hour.)
    pub fn to_say(self) -> Option<u64> {
        match self {
            Self::Mismatch(count) if count.is_power_of_two() => Some(count),
            _ => None,
        }
    }
}

const LOG_INTERVAL: i64 = 128;
const LOG_LENGTH: usize = 1024;

impl DigestCheck {
    /// After loading a snapshot whose digest belongs to `zxid`, later than the snapshot's own.
    pub fn set_fuzzy_until(&mut self, zxid: Zxid, digest: u64) {
        self.fuzzy_until = Some((zxid, digest));
    }

    /// Takes note of the tree's digest after the transaction `zxid`, which promised `expected`.
    pub fn on_applied(&mut self, zxid: Zxid, actual: u64, expected: Option<u64>) -> Verdict {
        let expected = match self.fuzzy_until {
            Some((until, _)) if zxid < until => return Verdict::Agrees,
            Some((until, digest)) => {
                self.fuzzy_until = None;
                // That transaction may never have come to be.
                if zxid == until { Some(digest) } else { expected }
            }
            None => expected,
        };
        if zxid.0 % LOG_INTERVAL == 0 {
            if self.log.len() == LOG_LENGTH {
                self.log.pop_front();
            }
            self.log.push_back((zxid, actual));
        }
        if expected.is_none_or(|expected| expected == actual) {
            return Verdict::Agrees;
        }
        self.mismatches += 1;
        Verdict::Mismatch(self.mismatches)
    }

    /// The transaction up to which the tree may hold more than its zxid says, and the digest behind it.
    pub fn fuzzy_until(&self) -> Option<(Zxid, u64)> {
        self.fuzzy_until
    }

    pub fn mismatches(&self) -> u64 {
        self.mismatches
    }

    pub fn log(&self) -> impl Iterator<Item = (Zxid, u64)> + '_ {
        self.log.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // data-model 4.3
    #[test]
    fn java_s_vectors() {
        let zero = StatPersisted::default();
        let digest = |path: &str, data: Option<&[u8]>, stat| node_digest(path, prefix_crc(path, data), &stat);
        assert_eq!(digest("/", Some(b""), zero), 68323592);
        assert_eq!(digest("/zookeeper", Some(b""), zero), 1303661912);
        assert_eq!(digest("/zookeeper/quota", Some(b""), zero), 0);
        let a = StatPersisted { czxid: 2, mzxid: 2, pzxid: 2, ctime: 1000, mtime: 1000, ..zero };
        assert_eq!(digest("/a", Some(b"hi"), a), 3220797004);
        assert_eq!(digest("/a", None, a), 2324717246);
        assert_eq!(digest("/", Some(b""), StatPersisted { pzxid: 2, cversion: 1, ..zero }), 51738866);
        let c = StatPersisted { czxid: 3, mzxid: 3, pzxid: 3, ephemeral_owner: i64::MIN, ..a };
        assert_eq!(digest("/c", Some(b""), c), 2140130824);
        let owner = 0xff00_0000_0000_ea60_u64 as i64;
        let t = StatPersisted { czxid: 4, mzxid: 4, pzxid: 4, ephemeral_owner: owner, ..a };
        assert_eq!(digest("/t", Some(b""), t), 3013063485);
    }

    #[test]
    fn nothing_is_compared_before_a_fuzzy_snapshot_is_a_tree() {
        let mut check = DigestCheck::default();
        check.set_fuzzy_until(Zxid(5), 50);
        assert_eq!(check.on_applied(Zxid(4), 1, Some(2)), Verdict::Agrees);
        assert_eq!(check.on_applied(Zxid(5), 50, Some(1)), Verdict::Agrees);
        assert_eq!(check.on_applied(Zxid(6), 1, Some(2)), Verdict::Mismatch(1));
        // If that was cut from the log, what comes in its place is compared.
        check.set_fuzzy_until(Zxid(9), 90);
        assert_eq!(check.on_applied(Zxid(8), 1, Some(2)), Verdict::Agrees);
        assert_eq!(check.on_applied(Zxid::new(1, 1), 1, Some(2)), Verdict::Mismatch(2));
        assert_eq!(check.fuzzy_until(), None);
    }
}
