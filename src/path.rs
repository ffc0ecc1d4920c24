//! Paths of znodes. Java validates in three places by three rules, and clients can tell them apart
//! (client-protocol 4.3): creation splits first and validates the final name, deletion only splits, the
//! rest validates at once, and reads look up whatever they are given.

use jute::Text;

use crate::proto::ErrorCode;

pub const ROOT: &str = "/";
pub const ZOOKEEPER: &str = "/zookeeper";
pub const QUOTA: &str = "/zookeeper/quota";
pub const CONFIG: &str = "/zookeeper/config";

/// Nodes that exist from the start and can't be deleted.
pub const BUILT_IN: [&str; 4] = [ROOT, ZOOKEEPER, QUOTA, CONFIG];
/// Those that every tree has that was ever stored. A server that came from ZooKeeper 3.4 may never have got the other one:
/// Java makes it in a tree that it then replaces by what it loads.
pub const ALWAYS_STORED: [&str; 3] = [ROOT, ZOOKEEPER, QUOTA];

/// A path that passed every rule of `PathUtils.validatePath`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Path(Text);

impl Path {
    /// ```
    /// # use zooid::path::Path;
    /// assert!(Path::parse("/app/lock-0000000001".into()).is_ok());
    /// assert!(Path::parse("/app/".into()).is_err());
    /// assert!(Path::parse("/app/../x".into()).is_err());
    /// ```
    pub fn parse(text: Text) -> Result<Self, ErrorCode> {
        if is_well_formed(&text) { Ok(Self(text)) } else { Err(ErrorCode::BadArguments) }
    }

    pub fn text(&self) -> &Text {
        &self.0
    }

    pub fn into_text(self) -> Text {
        self.0
    }
}

impl std::ops::Deref for Path {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

fn is_well_formed(path: &str) -> bool {
    if path == ROOT {
        return true;
    }
    let Some(inner) = path.strip_prefix('/') else { return false };
    // Splitting also yields an empty last component for a trailing slash, which is refused with the others.
    inner.split('/').all(|name| !matches!(name, "" | "." | "..")) && !path.chars().any(is_forbidden)
}

/// Counted in UTF-16 units as Java counts: every character above U+FFFF is a pair of surrogates, and those
/// are forbidden.
fn is_forbidden(c: char) -> bool {
    matches!(c as u32, 0..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..)
}

/// The parent of what a create or delete names; `/` for first-level names. The path need not be well formed
/// otherwise (Java: `PrepRequestProcessor.validatePath`, `DataTree` take it apart the same way).
pub fn split_parent(path: &str) -> Result<&str, ErrorCode> {
    if path.contains('\0') {
        return Err(ErrorCode::BadArguments);
    }
    match path.rfind('/') {
        None => Err(ErrorCode::BadArguments),
        Some(0) => Ok(ROOT),
        Some(at) => Ok(&path[..at]),
    }
}

/// As [`split_parent`], of a node that was stored. The root is stored as `""`, so that no name in a stored
/// path follows a root called `/`: Java finds no parent of `//a` in a snapshot.
pub fn split_stored(path: &str) -> Result<&str, ErrorCode> {
    match split_parent(path)? {
        ROOT if path.starts_with("//") => Err(ErrorCode::BadArguments),
        parent => Ok(parent),
    }
}

/// The parent of a well-formed path, `None` for the root.
pub fn parent(path: &str) -> Option<&str> {
    if path == ROOT || path.is_empty() {
        return None;
    }
    path.rfind('/').map(|at| if at == 0 { ROOT } else { &path[..at] })
}

/// The last component of a well-formed path; empty for the root.
pub fn name(path: &str) -> &str {
    path.rfind('/').map_or(path, |at| &path[at + 1..])
}

/// `path` and its ancestors up to the root, nearest first.
pub fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |p| parent(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_s_rules_for_a_full_path() {
        for good in ["/", "/a", "/a b", "/\u{a0}", "/...", "/.a", "/a.", "/..a", "/\u{ffef}", "/é"] {
            assert!(Path::parse(good.into()).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "a",
            "a/b",
            "/a/",
            "//",
            "/a//b",
            "/.",
            "/a/..",
            "/../a",
            "/a\0",
            "/\u{1}",
            "/\u{1f}",
            "/\u{7f}",
            "/\u{9f}",
            "/😀",
            "/\u{e000}",
            "/\u{f8ff}",
            "/\u{fff0}",
            "/\u{fffd}",
        ] {
            assert!(Path::parse(bad.into()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn parents() {
        assert_eq!(split_parent("/a"), Ok("/"));
        assert_eq!(split_parent("a/b"), Ok("a"));
        assert_eq!(split_parent("/a/"), Ok("/a"));
        assert_eq!(split_parent("a"), Err(ErrorCode::BadArguments));
        assert_eq!(split_parent("/a\0"), Err(ErrorCode::BadArguments));
        assert_eq!(split_parent("//a"), Ok("/"));
        assert_eq!(split_stored("//a"), Err(ErrorCode::BadArguments));
        assert_eq!(split_stored("/a"), Ok("/"));
        assert_eq!(ancestors("/a/b").collect::<Vec<_>>(), ["/a/b", "/a", "/"]);
    }
}
