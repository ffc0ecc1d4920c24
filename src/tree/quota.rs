//! Quotas: which subtrees have one, and the texts in which limits and usage are kept.
//!
//! Limits live in `/zookeeper/quota<path>/zookeeper_limits`, usage in `.../zookeeper_stats`. Usage is
//! derived: each server counts for itself, and the counted node changes in nothing but its data.
//!
//! Java: `Quotas`, `StatsTrack`, `PathTrie`; data-model 9.

use std::collections::BTreeMap;

use crate::path;

pub const LIMITS: &str = "zookeeper_limits";
pub const STATS: &str = "zookeeper_stats";

/// The subtree that a node below `/zookeeper/quota` speaks of, if it is one of the two that do. Java takes
/// any path that begins like one and fails on it, and fails on a quota for the root (data-model 12b, rows 3
/// and 4).
pub fn subject<'a>(path: &'a str, leaf: &str) -> Option<&'a str> {
    let subject = path.strip_prefix(path::QUOTA)?.strip_suffix(leaf)?.strip_suffix('/')?;
    (!subject.is_empty()).then_some(subject)
}

pub fn limits_path(subject: &str) -> String {
    format!("{}{subject}/{LIMITS}", path::QUOTA)
}

pub fn stats_path(subject: &str) -> String {
    format!("{}{subject}/{STATS}", path::QUOTA)
}

/// Counts and bytes, used or allowed; -1 is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Track {
    pub count: i64,
    pub bytes: i64,
    pub count_hard_limit: i64,
    pub byte_hard_limit: i64,
}

impl Track {
    pub const NONE: Self = Self { count: -1, bytes: -1, count_hard_limit: -1, byte_hard_limit: -1 };

    /// `key=value` pairs between runs of `,` and `;`; `None` when a pair is none (data-model 9.1).
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut values = BTreeMap::new();
        for pair in text.split([',', ';']).filter(|pair| !pair.is_empty()) {
            let mut parts = pair.split('=');
            let (key, value) = (parts.next()?, parts.next()?);
            values.insert(key, value.parse::<i64>().ok()?);
        }
        let value = |key| values.get(key).copied().unwrap_or(-1);
        Some(Self {
            count: value("count"),
            bytes: value("bytes"),
            count_hard_limit: value("countHardLimit"),
            byte_hard_limit: value("byteHardLimit"),
        })
    }

    pub fn usage_text(count: i64, bytes: i64) -> String {
        format!("count={count},bytes={bytes}")
    }
}

/// The subtrees that have limits.
#[derive(Debug, Default)]
pub struct Quotas {
    subjects: std::collections::BTreeSet<String>,
}

impl Quotas {
    pub fn is_empty(&self) -> bool {
        self.subjects.is_empty()
    }

    pub fn add(&mut self, subject: &str) {
        self.subjects.insert(subject.to_owned());
    }

    pub fn remove(&mut self, subject: &str) {
        self.subjects.remove(subject);
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.subjects.iter().map(String::as_str)
    }

    /// The nearest of `path` and its ancestors that has limits; enclosing quotas do not count.
    pub fn nearest<'a>(&self, path: &'a str) -> Option<&'a str> {
        if self.subjects.is_empty() {
            return None;
        }
        path::ancestors(path).find(|ancestor| self.subjects.contains(*ancestor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_parse_as_java_parses_them() {
        assert_eq!(Track::parse(b"count=2,bytes=8"), Some(Track { count: 2, bytes: 8, ..Track::NONE }));
        assert_eq!(
            Track::parse(b"count=-1,bytes=-1=;byteHardLimit=20;countHardLimit=4"),
            Some(Track { count_hard_limit: 4, byte_hard_limit: 20, ..Track::NONE })
        );
        assert_eq!(Track::parse(b""), Some(Track::NONE));
        for bad in [&b"count="[..], b"count", b"count=x", b"\xff"] {
            assert_eq!(Track::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn only_paths_below_quota_speak_of_a_subtree() {
        assert_eq!(subject("/zookeeper/quota/q/zookeeper_limits", LIMITS), Some("/q"));
        assert_eq!(subject("/zookeeper/quota/zookeeper_limits", LIMITS), None);
        assert_eq!(subject("/zookeeperx/zookeeper_limits", LIMITS), None);
        assert_eq!(subject("/zookeeper/quota/q/xzookeeper_limits", LIMITS), None);
    }
}
