//! Building a tree from what was stored: a snapshot of Java's or the rows of the image. Each attempt starts
//! from nothing, so a rejected one leaves nothing behind (on-disk 4.1).

use jute::records::data::StatPersisted;

use super::{CONTAINER_OWNER, Kind, TTL_OWNER, Tree, TreeRules};
use crate::acl::Acl;
use crate::id::{SessionId, Zxid};
use crate::path::{self, ROOT};

/// Why stored nodes are no tree.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LoadError {
    #[error("access list {0} stands twice, or has an id that is not positive")]
    AclId(i64),
    #[error("{path} has access list {id}, which is not in the table")]
    MissingAcl { path: String, id: i64 },
    #[error("unable to find the parent of {0}")]
    MissingParent(String),
    #[error("{0} stands twice")]
    Duplicate(String),
    #[error("{path} has the invalid owner {owner:#x}")]
    InvalidOwner { path: String, owner: i64 },
    #[error("{0} is missing")]
    MissingBuiltIn(&'static str),
    #[error("the first node is {0:?}, not the root")]
    NoRoot(String),
}

pub struct Loader {
    tree: Tree,
    has_root: bool,
    names: Names,
    lists: Lists,
    /// The first node whose list was not in the table.
    unlisted: Option<LoadError>,
    /// The parent of the last node: siblings follow each other in most orders.
    last_parent: (String, super::Ix),
}

/// Whether a path may stand twice in what is loaded.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Names {
    Unchecked,
    /// They are the keys of a store.
    Unique,
}

/// Whether every access list that a node names is in the table.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Lists {
    Complete,
    /// The table was written before the nodes, which changed meanwhile.
    Early,
}

impl Loader {
    pub fn new(rules: TreeRules) -> Self {
        let (tree, last_parent) = (Tree::bare(rules), (ROOT.into(), super::node::ROOT));
        Self { tree, has_root: false, names: Names::Unchecked, lists: Lists::Complete, unlisted: None, last_parent }
    }

    /// For what was written while its server went on, to a file or to a learner: a node may name a list that was made
    /// after the lists were written. The transaction that made it follows in the log or behind the stream, and replaces
    /// the node's list; until then, nobody may do anything with the node (Java: `DataTree.createNode` on a node that
    /// exists).
    pub fn of_stream(rules: TreeRules) -> Self {
        Self { lists: Lists::Early, ..Self::new(rules) }
    }

    /// Whether a list was missing, and of which node first.
    pub fn take_unlisted(&mut self) -> Option<LoadError> {
        self.unlisted.take()
    }

    /// For the rows of a store, in which no path stands twice, and about how many nodes they make.
    pub fn of_rows(rules: TreeRules, nodes: usize) -> Self {
        let mut loader = Self { names: Names::Unique, ..Self::new(rules) };
        loader.tree.nodes.reserve(nodes);
        loader
    }

    pub fn session(&mut self, id: SessionId, timeout_ms: i32) {
        self.tree.sessions.insert(id, timeout_ms);
        self.tree.changes.sessions.push(id);
    }

    pub fn acl(&mut self, id: i64, acl: Vec<Acl>) -> Result<(), LoadError> {
        if self.tree.acls.load(id, acl) { Ok(()) } else { Err(LoadError::AclId(id)) }
    }

    /// Adds a node whose parent was added before; the root comes first, as `""` or `"/"`. Sessions and
    /// access lists must have been entered already.
    pub fn node(&mut self, path: &str, data: Option<&[u8]>, acl_id: i64, stat: StatPersisted) -> Result<(), LoadError> {
        let missing = || LoadError::MissingAcl { path: path.into(), id: acl_id };
        let slot = match self.tree.acls.use_id(acl_id) {
            None if self.lists == Lists::Early => {
                self.unlisted.get_or_insert_with(missing);
                self.acl(acl_id, vec![Acl::new(0, "world", "anyone")])?;
                self.tree.acls.use_id(acl_id)
            }
            slot => slot,
        };
        let slot = slot.ok_or_else(missing)?;
        let has_session = |id| self.tree.sessions.contains_key(&id);
        let kind = kind(path, stat.ephemeral_owner, &self.tree.rules, has_session)?;
        if path.is_empty() || path == ROOT {
            if std::mem::replace(&mut self.has_root, true) {
                return Err(LoadError::Duplicate(path.into()));
            }
            self.tree.renew(super::node::ROOT, ROOT, |root, _| {
                root.set_data(data);
                root.prefix_crc = super::digest::prefix_crc(ROOT, data);
                root.acl = slot;
                root.set_stat(stat);
            });
            self.tree.data_size += data.map_or(0, |data| data.len() as i64);
            return Ok(());
        }
        if !self.has_root {
            return Err(LoadError::NoRoot(path.into()));
        }
        let parent = path::split_stored(path).map_err(|_| LoadError::MissingParent(path.into()))?;
        if self.last_parent.0 != parent {
            let ix = self.tree.nodes.find(parent).ok_or_else(|| LoadError::MissingParent(path.into()))?;
            self.last_parent = (parent.into(), ix);
        }
        if self.names == Names::Unchecked && self.tree.nodes.find(path).is_some() {
            return Err(LoadError::Duplicate(path.into()));
        }
        self.tree.insert_at(self.last_parent.1, path, data, slot, stat, kind);
        Ok(())
    }

    /// The tree as of `last_zxid`.
    pub fn finish(mut self, last_zxid: Zxid) -> Result<Tree, LoadError> {
        if !self.has_root {
            return Err(LoadError::MissingBuiltIn(ROOT));
        }
        for path in path::ALWAYS_STORED {
            if self.tree.nodes.find(path).is_none() {
                return Err(LoadError::MissingBuiltIn(path));
            }
        }
        if self.tree.nodes.find(path::CONFIG).is_none() {
            self.tree.insert_config();
        }
        self.tree.acls.purge_unused();
        self.tree.last_zxid = last_zxid;
        let limits: Vec<String> = self
            .tree
            .find(path::QUOTA)
            .into_iter()
            .flat_map(|quota| quota.below(path::QUOTA))
            .filter_map(|path| super::quota::subject(&path, super::quota::LIMITS).map(str::to_owned))
            .collect();
        for subject in limits {
            self.tree.quotas.add(&subject);
            self.tree.recount_usage(&subject);
        }
        Ok(self.tree)
    }
}

/// What its owner makes of a node. An owner with the high byte ff is a session only if there is such a session
/// (possible for server id 255), else a TTL node, whatever `extendedTypesEnabled` says now: Java deletes all
/// TTL nodes when the switch is off (on-disk 4.5).
pub(super) fn kind(
    path: &str,
    owner: i64,
    rules: &TreeRules,
    has_session: impl FnOnce(SessionId) -> bool,
) -> Result<Kind, LoadError> {
    let extended = owner & TTL_OWNER == TTL_OWNER;
    Ok(match owner {
        0 => Kind::Persistent,
        CONTAINER_OWNER => Kind::Container,
        _ if has_session(SessionId(owner)) => Kind::Ephemeral,
        _ if extended && owner & 0x00ff_ff00_0000_0000 == 0 => Kind::Ttl,
        _ if owner < 0 && rules.emulate_353_ttl => Kind::Ttl,
        _ if extended => return Err(LoadError::InvalidOwner { path: path.into(), owner }),
        _ => Kind::Ephemeral,
    })
}

impl super::NodeRef<'_> {
    /// The paths of all nodes below this one, which is at `path`.
    fn below(self, path: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut stack = vec![(path.to_owned(), self.ix)];
        while let Some((path, ix)) = stack.pop() {
            for child in self.tree.nodes.get(ix).children() {
                stack.push((format!("{path}/{}", self.tree.nodes.get(*child).name()), *child));
            }
            found.push(path);
        }
        found
    }
}
