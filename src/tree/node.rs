//! Znodes and where they are kept: a slab of fixed chunks, so that growing moves nothing, and an index from
//! the hash of a path to a slot, so that no path is stored. A path is compared by walking up to the root,
//! whose nearer part every lookup keeps warm.
//!
//! A million znodes of 100 bytes must fit into 300 MB (design.md 4): a node is 88 bytes and one block for
//! name and data.

use jute::records::data::StatPersisted;

use super::acls::AclSlot;
use super::index::{Index, prefetch};

/// A slot of the slab.
pub type Ix = u32;

pub const ROOT: Ix = 0;

/// What kind of owner a node has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Persistent,
    Ephemeral,
    Container,
    Ttl,
}

#[derive(Debug)]
pub struct Node {
    czxid: i64,
    mzxid: i64,
    ctime: i64,
    mtime: i64,
    version: i32,
    pub prefix_crc: u32,
    pub parent: Ix,
    /// Where this node stands among its parent's children.
    position: u32,
    pub acl: AclSlot,
    name_len: u32,
    /// The name, then the data.
    name_and_data: Box<[u8]>,
    more: Option<Box<More>>,
    pub kind: Kind,
    null_data: bool,
    /// The image has an older state of this node, or none.
    pub dirty: bool,
    live: bool,
}

/// What most nodes do without: they have no children and never had any, nobody owns them, and their access
/// list is the one they were made with.
#[derive(Debug, Default)]
struct More {
    pzxid: i64,
    owner: i64,
    cversion: i32,
    aversion: i32,
    children: Vec<Ix>,
}

impl Node {
    pub fn new(name: &str, data: Option<&[u8]>, acl: AclSlot, stat: StatPersisted, kind: Kind) -> Self {
        let mut node = Self {
            czxid: 0,
            mzxid: 0,
            ctime: 0,
            mtime: 0,
            version: 0,
            prefix_crc: 0,
            parent: ROOT,
            position: 0,
            acl,
            name_len: name.len() as u32,
            name_and_data: [name.as_bytes(), data.unwrap_or_default()].concat().into(),
            more: None,
            kind,
            null_data: data.is_none(),
            dirty: false,
            live: true,
        };
        node.set_stat(stat);
        node
    }

    pub fn stat(&self) -> StatPersisted {
        let Self { czxid, mzxid, ctime, mtime, version, .. } = *self;
        let plain = (czxid, 0, 0, 0);
        let (pzxid, ephemeral_owner, cversion, aversion) =
            self.more.as_ref().map_or(plain, |more| (more.pzxid, more.owner, more.cversion, more.aversion));
        StatPersisted { czxid, mzxid, ctime, mtime, version, cversion, aversion, ephemeral_owner, pzxid }
    }

    pub fn set_stat(&mut self, stat: StatPersisted) {
        let StatPersisted { czxid, mzxid, ctime, mtime, version, cversion, aversion, ephemeral_owner: owner, pzxid } =
            stat;
        (self.czxid, self.mzxid, self.ctime, self.mtime, self.version) = (czxid, mzxid, ctime, mtime, version);
        if self.more.is_some() || (pzxid, owner, cversion, aversion) != (czxid, 0, 0, 0) {
            let more = self.more.get_or_insert_default();
            (more.pzxid, more.owner, more.cversion, more.aversion) = (pzxid, owner, cversion, aversion);
        }
    }

    pub fn name(&self) -> &str {
        // SAFETY: `new` took it from a str, and `set_data` copies it unchanged.
        unsafe { std::str::from_utf8_unchecked(&self.name_and_data[..self.name_len as usize]) }
    }

    pub fn data(&self) -> Option<&[u8]> {
        if self.null_data { None } else { Some(&self.name_and_data[self.name_len as usize..]) }
    }

    pub fn set_data(&mut self, data: Option<&[u8]>) {
        self.null_data = data.is_none();
        let data = data.unwrap_or_default();
        let name_len = self.name_len as usize;
        if self.name_and_data.len() == name_len + data.len() {
            self.name_and_data[name_len..].copy_from_slice(data);
        } else {
            self.name_and_data = [&self.name_and_data[..name_len], data].concat().into();
        }
    }

    pub fn children(&self) -> &[Ix] {
        self.more.as_ref().map_or(&[], |more| &more.children)
    }

    fn children_mut(&mut self) -> &mut Vec<Ix> {
        let pzxid = self.czxid;
        &mut self.more.get_or_insert_with(|| Box::new(More { pzxid, ..More::default() })).children
    }
}

const CHUNK: usize = 1024;
/// How many look-ups wait side by side: as many as a processor keeps under way, and some more.
const TOGETHER: usize = 32;

/// All nodes, reachable by path. The root is always there.
#[derive(Debug)]
pub struct Nodes {
    chunks: Vec<Vec<Node>>,
    free: Vec<Ix>,
    index: Index,
    count: usize,
    hasher: foldhash::fast::FixedState,
}

impl Nodes {
    /// `seed` keys the hash: clients choose paths, and must not be able to choose collisions.
    pub fn new(root: Node, seed: u64) -> Self {
        let mut nodes = Self {
            chunks: Vec::new(),
            free: Vec::new(),
            index: Index::default(),
            count: 0,
            hasher: foldhash::fast::FixedState::with_seed(seed),
        };
        let ix = nodes.place(root);
        assert!(ix == ROOT, "the root is the first node");
        nodes
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// Live nodes and free slots together: every [`Ix`] that was ever given out is less.
    pub fn slots(&self) -> usize {
        self.count + self.free.len()
    }

    /// Makes room in the index for this many nodes, so that it does not grow step by step.
    pub fn reserve(&mut self, nodes: usize) {
        self.index.reserve(nodes);
    }

    pub fn get(&self, ix: Ix) -> &Node {
        &self.chunks[ix as usize / CHUNK][ix as usize % CHUNK]
    }

    pub fn get_mut(&mut self, ix: Ix) -> &mut Node {
        &mut self.chunks[ix as usize / CHUNK][ix as usize % CHUNK]
    }

    pub fn is_live(&self, ix: Ix) -> bool {
        self.get(ix).live
    }

    fn hash(&self, path: &str) -> u32 {
        use std::hash::{BuildHasher, Hasher};
        let mut hasher = self.hasher.build_hasher();
        hasher.write(path.as_bytes());
        (hasher.finish() >> 16) as u32
    }

    /// The slot of `path`; `""` and `"/"` are the root, and only the exact spelling of any other path counts.
    pub fn find(&self, path: &str) -> Option<Ix> {
        if path.len() <= 1 {
            return (path.is_empty() || path == "/").then_some(ROOT);
        }
        let hash = self.hash(path);
        self.index.find(hash, |ix| self.is_at(ix, path))
    }

    /// Asks memory for everything that looking up these paths will touch, all at once instead of one after
    /// the other. Paths beyond the first [`TOGETHER`] are left alone.
    pub fn prefetch<'a>(&self, paths: impl Iterator<Item = &'a str>) {
        let mut hashes = [0; TOGETHER];
        let mut count = 0;
        for path in paths.take(TOGETHER) {
            hashes[count] = self.hash(path);
            self.index.prefetch(hashes[count]);
            count += 1;
        }
        let mut found = [ROOT; TOGETHER];
        for (hash, ix) in hashes[..count].iter().zip(&mut found) {
            // The first with that hash is the right one, but for one in four billion.
            *ix = self.index.find(*hash, |_| true).unwrap_or(ROOT);
            let node = self.get(*ix);
            prefetch(&node.czxid);
            prefetch(&node.live);
        }
        for ix in &found[..count] {
            let block = &self.get(*ix).name_and_data;
            if let (Some(first), Some(last)) = (block.first(), block.last()) {
                prefetch(first);
                prefetch(last);
            }
        }
    }

    fn is_at(&self, mut ix: Ix, path: &str) -> bool {
        let mut rest = path;
        while ix != ROOT {
            let node = self.get(ix);
            let Some(before) = rest.strip_suffix(node.name()) else { return false };
            let Some(before) = before.strip_suffix('/') else { return false };
            rest = before;
            ix = node.parent;
        }
        rest.is_empty()
    }

    /// The path of a node, built from the names up to the root.
    pub fn path(&self, ix: Ix) -> String {
        if ix == ROOT {
            return "/".to_owned();
        }
        let mut names = Vec::new();
        let mut at = ix;
        while at != ROOT {
            names.push(self.get(at).name());
            at = self.get(at).parent;
        }
        let mut path = String::with_capacity(names.iter().map(|name| name.len() + 1).sum());
        for name in names.iter().rev() {
            path.push('/');
            path.push_str(name);
        }
        path
    }

    fn place(&mut self, node: Node) -> Ix {
        self.count += 1;
        if let Some(ix) = self.free.pop() {
            *self.get_mut(ix) = node;
            return ix;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let chunk = self.chunks.len() - 1;
        let nodes = &mut self.chunks[chunk];
        nodes.push(node);
        Ix::try_from(chunk * CHUNK + nodes.len() - 1).expect("more than 2^32 znodes")
    }

    /// Adds `node` as a child of `parent` under `path`, which must be its path and not be taken.
    pub fn insert(&mut self, parent: Ix, path: &str, node: Node) -> Ix {
        let hash = self.hash(path);
        let position = self.get(parent).children().len() as u32;
        let ix = self.place(Node { parent, position, ..node });
        self.get_mut(parent).children_mut().push(ix);
        self.index.insert(hash, ix);
        ix
    }

    /// Takes the node at `path`, which has no children, out and frees its slot.
    pub fn remove(&mut self, ix: Ix, path: &str) {
        assert!(ix != ROOT, "the root can't be removed");
        let Node { parent, position, .. } = *self.get(ix);
        assert!(self.get(ix).children().is_empty(), "a node with children can't be removed");
        self.index.remove(self.hash(path), ix);
        let siblings = self.get_mut(parent).children_mut();
        siblings.swap_remove(position as usize);
        let moved = siblings.get(position as usize).copied();
        if siblings.is_empty() {
            *siblings = Vec::new();
        }
        if let Some(moved) = moved {
            self.get_mut(moved).position = position;
        }
        let node = self.get_mut(ix);
        node.name_and_data = Box::default();
        node.name_len = 0;
        node.more = None;
        node.live = false;
        node.dirty = false;
        self.free.push(ix);
        self.count -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_small() {
        assert!(size_of::<Node>() <= 88, "{}", size_of::<Node>());
    }

    #[test]
    fn a_stat_comes_back_as_it_was_set() {
        let leaf = StatPersisted { czxid: 1, pzxid: 1, mzxid: 2, ctime: 3, mtime: 4, version: 5, ..Default::default() };
        let others = [
            StatPersisted { pzxid: 2, ..leaf },
            StatPersisted { ephemeral_owner: -7, ..leaf },
            StatPersisted { cversion: 1, ..leaf },
            StatPersisted { aversion: -1, ..leaf },
        ];
        for stat in [leaf].into_iter().chain(others) {
            let mut node = Node::new("n", None, 0, stat, Kind::Persistent);
            assert_eq!(node.more.is_none(), stat == leaf);
            assert_eq!(node.stat(), stat);
            node.children_mut();
            assert_eq!(node.stat(), stat, "a first child changes nothing by itself");
            node.set_stat(leaf);
            assert_eq!(node.stat(), leaf);
        }
    }

    #[test]
    fn only_the_exact_spelling_is_found() {
        let plain = |name: &str| Node::new(name, Some(b"x"), 0, StatPersisted::default(), Kind::Persistent);
        let mut nodes = Nodes::new(plain(""), 7);
        let a = nodes.insert(ROOT, "/a", plain("a"));
        let b = nodes.insert(a, "/a/b", plain("b"));
        assert_eq!(nodes.find("/a/b"), Some(b));
        assert_eq!(nodes.path(b), "/a/b");
        for other in ["/a/b/", "a/b", "//a/b", "/a//b", "/b", "/a/", "/ab"] {
            assert_eq!(nodes.find(other), None, "{other}");
        }
        nodes.remove(b, "/a/b");
        assert_eq!(nodes.find("/a/b"), None);
        assert_eq!(nodes.count(), 2);
    }

    #[test]
    fn many_siblings_come_and_go() {
        let plain = |name: &str| Node::new(name, None, 0, StatPersisted::default(), Kind::Persistent);
        let mut nodes = Nodes::new(plain(""), 1);
        for n in 0..5000 {
            nodes.insert(ROOT, &format!("/n{n}"), plain(&format!("n{n}")));
        }
        for n in (0..5000).step_by(3) {
            let ix = nodes.find(&format!("/n{n}")).unwrap();
            nodes.remove(ix, &format!("/n{n}"));
        }
        for n in 0..5000 {
            assert_eq!(nodes.find(&format!("/n{n}")).is_some(), n % 3 != 0);
        }
        assert_eq!(nodes.get(ROOT).children().len(), nodes.count() - 1);
    }
}
