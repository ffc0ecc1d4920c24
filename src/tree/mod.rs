//! The znode tree: every committed transaction applied, and nothing else.
//!
//! What always holds: `apply` is total (a transaction that cannot take effect has none, and says so), its
//! result depends on the tree and the transaction alone, and it bears replay over a state that already holds
//! some of what is replayed, as a fuzzy snapshot of a Java server does. The digest is kept up to date by each
//! change; the indexes (ephemerals by session, containers, TTL nodes, quotas) are derived and never stored.
//!
//! Java: `DataTree`, `DataNode`; data-model 1 and 3.

pub mod acls;
mod body;
pub mod digest;
mod index;
mod load;
mod node;
pub mod quota;
pub mod snapshot;
pub mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashMap;
use jute::Text;
use jute::records::data::{Stat, StatPersisted};

use crate::acl::Acl;
use crate::id::{SessionId, Zxid};
use crate::path::{self, CONFIG, ROOT};
use crate::planted::{self, Bug};
use crate::proto::{ErrorCode, op};
use crate::txn::{Create, CreateKind, Header, Txn};

use acls::AclTable;
use node::{Ix, Node, Nodes};
use quota::Quotas;

pub(crate) use body::read_stat;
pub use load::{LoadError, Loader};
pub use node::Kind;

/// The owner that marks a container.
pub const CONTAINER_OWNER: i64 = i64::MIN;
/// The owner of a TTL node is this, or'ed with the TTL in milliseconds.
pub const TTL_OWNER: i64 = 0xff00_0000_0000_0000_u64 as i64;
/// The longest TTL: 40 bits of milliseconds.
pub const TTL_MAX: i64 = 0xff_ffff_ffff;

/// What the tree must be told, since it reads no configuration.
#[derive(Clone, Copy, Debug)]
pub struct TreeRules {
    /// Keys the hash of paths.
    pub seed: u64,
    /// `zookeeper.digest.enabled`.
    pub digest: bool,
    /// `zookeeper.emulate353TTLNodes`: any other negative owner is a TTL node too, in 3.5.3's format.
    pub emulate_353_ttl: bool,
}

impl Default for TreeRules {
    fn default() -> Self {
        Self { seed: 0, digest: true, emulate_353_ttl: false }
    }
}

/// Sees each change at the moment at which it is made, in the order in which watches fire
/// (data-model 8.2).
pub trait Witness {
    fn created(&mut self, path: &str, acl: &[Acl], parent: &str, parent_acl: &[Acl]);
    fn deleted(&mut self, path: &str, acl: &[Acl], parent: &str, parent_acl: &[Acl]);
    fn data_changed(&mut self, path: &str, acl: &[Acl]);
}

/// Watches nothing: for replay.
pub struct Unwatched;

impl Witness for Unwatched {
    fn created(&mut self, _: &str, _: &[Acl], _: &str, _: &[Acl]) {}
    fn deleted(&mut self, _: &str, _: &[Acl], _: &str, _: &[Acl]) {}
    fn data_changed(&mut self, _: &str, _: &[Acl]) {}
}

/// What became of a transaction.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    Done,
    /// A create or setData, with the Stat at that moment.
    Stat(Stat),
    Failed(i32),
    /// One for each member.
    Multi(Vec<Outcome>),
}

#[derive(Debug)]
pub struct Tree {
    nodes: Nodes,
    acls: AclTable,
    /// Timeout in milliseconds of each global session.
    sessions: BTreeMap<SessionId, i32>,
    ephemerals: HashMap<SessionId, BTreeSet<Ix>, foldhash::fast::FixedState>,
    ephemeral_count: usize,
    containers: BTreeSet<Ix>,
    ttls: BTreeSet<Ix>,
    quotas: Quotas,
    digest: u64,
    last_zxid: Zxid,
    /// Sum of the lengths of paths (in UTF-16 units) and data, as `approximate_data_size` reports it.
    data_size: i64,
    rules: TreeRules,
    changes: Unsaved,
}

/// What the image lacks: kept as slots and names, so that a write costs a few instructions here.
#[derive(Debug, Default)]
struct Unsaved {
    nodes: Vec<Ix>,
    /// About how much data they have.
    bytes: usize,
    removed: Vec<Text>,
    sessions: Vec<SessionId>,
}

/// A look at one node.
#[derive(Clone, Copy)]
pub struct NodeRef<'a> {
    tree: &'a Tree,
    ix: Ix,
}

impl Tree {
    /// The tree of a fresh database: the four built-in nodes.
    pub fn new(rules: TreeRules) -> Self {
        let mut tree = Self::bare(rules);
        let zero = StatPersisted::default();
        for path in [path::ZOOKEEPER, path::QUOTA] {
            tree.insert(path, Some(b""), None, zero, Kind::Persistent).expect("built-in nodes have parents");
        }
        tree.insert_config();
        tree
    }

    /// As Java makes it for a new tree (`DataTree.addConfigNode`).
    fn insert_config(&mut self) {
        let zero = StatPersisted::default();
        self.insert(CONFIG, Some(b""), None, zero, Kind::Persistent).expect("its parent is there");
        let config = self.nodes.find(CONFIG).expect("just inserted");
        let acl = self.acls.intern(Some(&[Acl::new(crate::acl::READ, "world", "anyone")]));
        let node = self.nodes.get_mut(config);
        node.acl = acl;
        node.set_stat(StatPersisted { aversion: -1, ..zero });
    }

    /// Keys the hashes of what clients choose.
    pub fn seed(&self) -> u64 {
        self.rules.seed
    }

    /// The root alone.
    fn bare(rules: TreeRules) -> Self {
        let root = Node::new("", Some(b""), acls::OPEN_SLOT, StatPersisted::default(), Kind::Persistent);
        let mut tree = Self {
            nodes: Nodes::new(root, rules.seed),
            acls: AclTable::new(rules.seed),
            sessions: BTreeMap::new(),
            ephemerals: HashMap::default(),
            ephemeral_count: 0,
            containers: BTreeSet::new(),
            ttls: BTreeSet::new(),
            quotas: Quotas::default(),
            digest: 0,
            last_zxid: Zxid::ZERO,
            // Java's map has the root twice, as "" and "/".
            data_size: 1,
            rules,
            changes: Unsaved::default(),
        };
        tree.renew(node::ROOT, ROOT, |node, _| node.prefix_crc = digest::prefix_crc(ROOT, Some(b"")));
        tree.digest = tree.digest_of(node::ROOT, ROOT);
        tree
    }

    pub fn find(&self, path: &str) -> Option<NodeRef<'_>> {
        self.nodes.find(path).map(|ix| NodeRef { tree: self, ix })
    }

    /// Makes the look-ups of these paths that will follow quicker; changes nothing.
    pub fn prefetch<'a>(&self, paths: impl Iterator<Item = &'a str>) {
        self.nodes.prefetch(paths);
    }

    pub fn last_zxid(&self) -> Zxid {
        self.last_zxid
    }

    /// A leader's epoch begins at a zxid that no transaction has (data-model 3.3).
    pub fn set_last_zxid(&mut self, zxid: Zxid) {
        self.last_zxid = zxid;
    }

    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Whether digests are kept at all (`zookeeper.digest.enabled`).
    pub fn keeps_digest(&self) -> bool {
        self.rules.digest
    }

    /// Nodes, the root counted once.
    pub fn node_count(&self) -> usize {
        self.nodes.count()
    }

    pub fn data_size(&self) -> i64 {
        self.data_size
    }

    pub fn ephemeral_count(&self) -> usize {
        self.ephemeral_count
    }

    pub fn sessions(&self) -> &BTreeMap<SessionId, i32> {
        &self.sessions
    }

    pub fn acl_table(&self) -> &AclTable {
        &self.acls
    }

    pub fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// Paths of the ephemerals of a session.
    pub fn ephemerals(&self, session: SessionId) -> impl Iterator<Item = String> + '_ {
        self.ephemerals.get(&session).into_iter().flatten().map(|ix| self.nodes.path(*ix))
    }

    /// Sessions that own ephemerals, in order.
    pub fn ephemeral_owners(&self) -> BTreeSet<SessionId> {
        self.ephemerals.keys().copied().collect()
    }

    pub fn containers(&self) -> impl Iterator<Item = NodeRef<'_>> {
        self.containers.iter().map(|ix| NodeRef { tree: self, ix: *ix })
    }

    pub fn ttl_nodes(&self) -> impl Iterator<Item = NodeRef<'_>> {
        self.ttls.iter().map(|ix| NodeRef { tree: self, ix: *ix })
    }

    /// All nodes with their paths, parents before children.
    pub fn walk(&self) -> impl Iterator<Item = (String, NodeRef<'_>)> {
        let mut stack = vec![(String::new(), node::ROOT)];
        std::iter::from_fn(move || {
            let (path, ix) = stack.pop()?;
            for child in self.nodes.get(ix).children() {
                stack.push((format!("{path}/{}", self.nodes.get(*child).name()), *child));
            }
            let path = if path.is_empty() { ROOT.to_owned() } else { path };
            Some((path, NodeRef { tree: self, ix }))
        })
    }

    // ---- applying ----

    /// Applies one committed transaction. The caller compares the digest (`digest::DigestCheck`).
    pub fn apply(&mut self, header: &Header, txn: &Txn, witness: &mut impl Witness) -> Outcome {
        let outcome = match txn {
            Txn::Multi(members) => self.apply_multi(header, members, witness),
            single => self.apply_single(header, single, witness),
        };
        self.last_zxid = self.last_zxid.max(header.zxid);
        outcome
    }

    fn apply_multi(&mut self, header: &Header, members: &[Txn], witness: &mut impl Witness) -> Outcome {
        let is_error = |member: &Txn| matches!(member, Txn::Error { .. });
        let Some(culprit) = members.iter().position(is_error) else {
            return Outcome::Multi(members.iter().map(|member| self.apply_single(header, member, witness)).collect());
        };
        let outcomes = members.iter().enumerate().map(|(at, member)| match member {
            Txn::Error { code } => Outcome::Failed(*code),
            _ if at < culprit => Outcome::Failed(0),
            _ => Outcome::Failed(ErrorCode::RuntimeInconsistency.code()),
        });
        Outcome::Multi(outcomes.collect())
    }

    fn apply_single(&mut self, header: &Header, txn: &Txn, witness: &mut impl Witness) -> Outcome {
        match txn {
            Txn::Create(create) => self.apply_create(header, create, witness),
            Txn::Delete { path, .. } => self.apply_delete(header.zxid, path, witness),
            Txn::SetData { op, path, data, version } => {
                // A reconfiguration leaves the version of the config node alone.
                let version = if *op == op::RECONFIG { -1 } else { *version };
                self.apply_set_data(header, path, data.as_deref(), version, witness)
            }
            Txn::SetAcl { path, acl, version } => self.apply_set_acl(path, acl.as_deref(), *version),
            Txn::CreateSession { timeout_ms } => {
                self.sessions.insert(header.session, *timeout_ms);
                if !planted::is(Bug::ImageForgetsSessions) {
                    self.changes.sessions.push(header.session);
                }
                Outcome::Done
            }
            Txn::CloseSession { paths } => self.apply_close(header, paths.as_deref().unwrap_or_default(), witness),
            Txn::Error { code } => Outcome::Failed(*code),
            Txn::Check { .. } => Outcome::Done,
            Txn::Multi(_) => unreachable!("a multi inside a multi does not decode"),
        }
    }

    fn apply_create(&mut self, header: &Header, create: &Create, witness: &mut impl Witness) -> Outcome {
        let Create { kind, path, data, acl, parent_cversion } = create;
        let Some(parent) = path::parent(path) else { return Outcome::Failed(ErrorCode::NodeExists.code()) };
        let Some(parent_ix) = self.nodes.find(parent) else { return Outcome::Failed(ErrorCode::NoNode.code()) };
        let existing = self.nodes.find(path);
        if let Some(ix) = existing {
            let slot = self.acls.intern(acl.as_deref());
            self.nodes.get_mut(ix).acl = slot;
            self.mark(ix);
        }
        if existing.is_none() || matches!(kind, CreateKind::Create { .. }) {
            self.renew(parent_ix, parent, |parent, _| {
                let stat = parent.stat();
                let cversion = if *parent_cversion == -1 { stat.cversion.wrapping_add(1) } else { *parent_cversion };
                if cversion > stat.cversion {
                    parent.set_stat(StatPersisted { cversion, pzxid: header.zxid.0, ..stat });
                }
            });
        }
        if existing.is_some() {
            return Outcome::Failed(ErrorCode::NodeExists.code());
        }
        let (kind, owner) = match *kind {
            CreateKind::Create { ephemeral: true } | CreateKind::Create2 { ephemeral: true } => {
                (Kind::Ephemeral, header.session.0)
            }
            CreateKind::Create { .. } | CreateKind::Create2 { .. } => (Kind::Persistent, 0),
            CreateKind::Container => (Kind::Container, CONTAINER_OWNER),
            CreateKind::Ttl { ms } => (Kind::Ttl, TTL_OWNER | ms),
        };
        let zxid = header.zxid.0;
        let stat = StatPersisted {
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime: header.time,
            mtime: header.time,
            ephemeral_owner: owner,
            ..StatPersisted::default()
        };
        let ix = self.insert(path, data.as_deref(), acl.as_deref(), stat, kind).expect("the parent was just found");
        self.on_quota_node_created(path);
        self.count_usage(path, 1, data.as_deref().map_or(0, |data| data.len() as i64));
        let list = |ix| self.acls.list(self.nodes.get(ix).acl);
        witness.created(path, list(ix), parent, list(parent_ix));
        Outcome::Stat(NodeRef { tree: self, ix }.stat())
    }

    /// Adds a node that is not there, with all that is derived from it. `None` without a parent.
    fn insert(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        acl: Option<&[Acl]>,
        stat: StatPersisted,
        kind: Kind,
    ) -> Option<Ix> {
        let parent = self.nodes.find(path::parent(path)?)?;
        let slot = self.acls.intern(acl);
        Some(self.insert_at(parent, path, data, slot, stat, kind))
    }

    fn insert_at(
        &mut self,
        parent: Ix,
        path: &str,
        data: Option<&[u8]>,
        acl: acls::AclSlot,
        stat: StatPersisted,
        kind: Kind,
    ) -> Ix {
        let mut node = Node::new(path::name(path), data, acl, stat, kind);
        if self.rules.digest {
            node.prefix_crc = digest::prefix_crc(path, data);
        }
        let ix = self.nodes.insert(parent, path, node);
        self.digest = self.digest.wrapping_add(self.digest_of(ix, path));
        self.data_size += text_units(path) + data.map_or(0, |data| data.len() as i64);
        match kind {
            Kind::Persistent => {}
            Kind::Ephemeral => {
                self.ephemerals.entry(SessionId(stat.ephemeral_owner)).or_default().insert(ix);
                self.ephemeral_count += 1;
            }
            Kind::Container => {
                self.containers.insert(ix);
            }
            Kind::Ttl => {
                self.ttls.insert(ix);
            }
        }
        self.mark(ix);
        ix
    }

    fn apply_delete(&mut self, zxid: Zxid, path: &str, witness: &mut impl Witness) -> Outcome {
        let Some(parent) = path::parent(path) else { return Outcome::Failed(ErrorCode::NoNode.code()) };
        let Some(parent_ix) = self.nodes.find(parent) else { return Outcome::Failed(ErrorCode::NoNode.code()) };
        self.renew(parent_ix, parent, |parent, _| {
            let stat = parent.stat();
            parent.set_stat(StatPersisted { pzxid: stat.pzxid.max(zxid.0), ..stat });
        });
        let Some(ix) = self.nodes.find(path) else { return Outcome::Failed(ErrorCode::NoNode.code()) };
        let acl = self.acls.list(self.nodes.get(ix).acl).clone();
        self.remove_subtree(ix, path);
        if let Some(subject) = quota::subject(path, quota::LIMITS) {
            self.quotas.remove(subject);
        }
        witness.deleted(path, &acl, parent, self.acls.list(self.nodes.get(parent_ix).acl));
        Outcome::Done
    }

    /// Removes a node and, over a fuzzy snapshot, the children that it has too early: Java leaves those
    /// unreachable until they are created again.
    fn remove_subtree(&mut self, ix: Ix, path: &str) {
        while let Some(&child) = self.nodes.get(ix).children().last() {
            let child_path = format!("{}/{}", path.trim_end_matches('/'), self.nodes.get(child).name());
            self.remove_subtree(child, &child_path);
        }
        let data_len = self.nodes.get(ix).data().map_or(0, |data| data.len() as i64);
        self.count_usage(path, -1, -data_len);
        let node = self.nodes.get(ix);
        let (kind, owner, slot) = (node.kind, SessionId(node.stat().ephemeral_owner), node.acl);
        match kind {
            Kind::Persistent => {}
            Kind::Ephemeral => {
                let owned = self.ephemerals.get_mut(&owner).expect("an ephemeral is in its owner's set");
                owned.remove(&ix);
                if owned.is_empty() {
                    self.ephemerals.remove(&owner);
                }
                self.ephemeral_count -= 1;
            }
            Kind::Container => {
                self.containers.remove(&ix);
            }
            Kind::Ttl => {
                self.ttls.remove(&ix);
            }
        }
        self.digest = self.digest.wrapping_sub(self.digest_of(ix, path));
        self.data_size -= text_units(path) + data_len;
        self.acls.release(slot);
        self.nodes.remove(ix, path);
        self.changes.removed.push(path.into());
    }

    fn apply_set_data(
        &mut self,
        header: &Header,
        path: &str,
        data: Option<&[u8]>,
        version: i32,
        witness: &mut impl Witness,
    ) -> Outcome {
        let Some(ix) = self.nodes.find(path) else { return Outcome::Failed(ErrorCode::NoNode.code()) };
        let old_len = self.data_len(ix);
        self.renew(ix, path, |node, rules| {
            node.set_data(data);
            if rules.digest {
                node.prefix_crc = digest::prefix_crc(path, data);
            }
            node.set_stat(StatPersisted { version, mzxid: header.zxid.0, mtime: header.time, ..node.stat() });
        });
        let grown = self.data_len(ix) - old_len;
        self.data_size += grown;
        self.count_usage(path, 0, grown);
        witness.data_changed(path, self.acls.list(self.nodes.get(ix).acl));
        Outcome::Stat(NodeRef { tree: self, ix }.stat())
    }

    fn apply_set_acl(&mut self, path: &str, acl: Option<&[Acl]>, version: i32) -> Outcome {
        let Some(ix) = self.nodes.find(path) else { return Outcome::Failed(ErrorCode::NoNode.code()) };
        // Released first: setting an otherwise unused list again gives it a new id, as in Java.
        self.acls.release(self.nodes.get(ix).acl);
        let slot = self.acls.intern(acl);
        self.renew(ix, path, |node, _| {
            node.acl = slot;
            node.set_stat(StatPersisted { aversion: version, ..node.stat() });
        });
        Outcome::Stat(NodeRef { tree: self, ix }.stat())
    }

    fn apply_close(&mut self, header: &Header, paths: &[Text], witness: &mut impl Witness) -> Outcome {
        self.sessions.remove(&header.session);
        self.changes.sessions.push(header.session);
        for path in paths {
            self.apply_delete(header.zxid, path, witness);
        }
        // A list may be absent or short (closeSessionTxn.enabled=false, or a session with so many ephemerals
        // that the list would not fit into a record); what else the session owns goes too.
        let left: Vec<String> = self.ephemerals(header.session).collect();
        for path in left {
            self.apply_delete(header.zxid, &path, witness);
        }
        Outcome::Done
    }

    /// Deletes what belongs to sessions that do not exist, as a server does after loading (data-model 3.3).
    pub fn drop_orphans(&mut self) {
        let orphaned = self.ephemeral_owners().into_iter().filter(|owner| !self.sessions.contains_key(owner));
        for owner in orphaned.collect::<Vec<_>>() {
            for path in self.ephemerals(owner).collect::<Vec<_>>() {
                self.apply_delete(self.last_zxid, &path, &mut Unwatched);
            }
        }
    }

    // ---- digest and the image's list of changes ----

    fn digest_of(&self, ix: Ix, path: &str) -> u64 {
        let node = self.nodes.get(ix);
        if self.rules.digest { digest::node_digest(path, node.prefix_crc, &node.stat()) } else { 0 }
    }

    /// Changes a node in place and keeps the digest right.
    fn renew(&mut self, ix: Ix, path: &str, change: impl FnOnce(&mut Node, &TreeRules)) {
        let before = self.digest_of(ix, path);
        change(self.nodes.get_mut(ix), &self.rules);
        self.digest = self.digest.wrapping_sub(before).wrapping_add(self.digest_of(ix, path));
        self.mark(ix);
    }

    fn mark(&mut self, ix: Ix) {
        let node = self.nodes.get_mut(ix);
        if !node.dirty {
            node.dirty = true;
            self.changes.bytes += node.data().map_or(0, <[u8]>::len);
            self.changes.nodes.push(ix);
        }
    }

    /// About how many bytes of data those have.
    pub fn unsaved_bytes(&self) -> usize {
        self.changes.bytes
    }

    /// How many nodes the image has an older state of.
    pub fn unsaved(&self) -> usize {
        self.changes.nodes.len() + self.changes.removed.len()
    }

    /// Hands out the present state of up to `limit` nodes that changed since they were last handed out.
    pub fn take_changed(&mut self, limit: usize, mut put: impl FnMut(&str, NodeRef<'_>)) {
        let from = self.changes.nodes.len().saturating_sub(limit);
        let mut taken = 0;
        for ix in self.changes.nodes.split_off(from) {
            // The slot may be free again, or have a new node, which stands in the list by itself.
            if self.nodes.is_live(ix) && self.nodes.get(ix).dirty {
                self.nodes.get_mut(ix).dirty = false;
                taken += self.nodes.get(ix).data().map_or(0, <[u8]>::len);
                put(&self.nodes.path(ix), NodeRef { tree: self, ix });
            }
        }
        // Of nodes that have changed since, or are gone, it was not right.
        self.changes.bytes = if from == 0 { 0 } else { self.changes.bytes.saturating_sub(taken) };
    }

    /// The paths of nodes removed since the last call. Some may have been created again.
    pub fn take_removed(&mut self) -> Vec<Text> {
        std::mem::take(&mut self.changes.removed)
    }

    /// The sessions that opened or closed since the last call, with their timeouts if they are open.
    pub fn take_changed_sessions(&mut self) -> Vec<(SessionId, Option<i32>)> {
        let sessions = std::mem::take(&mut self.changes.sessions);
        sessions.into_iter().map(|session| (session, self.sessions.get(&session).copied())).collect()
    }

    /// The access lists that came or went since the last call.
    pub fn take_changed_acls(&mut self) -> Vec<(i64, Option<Arc<[Acl]>>)> {
        let touched = self.acls.take_touched();
        if planted::is(Bug::ImageForgetsAcls) { Vec::new() } else { touched }
    }

    /// The image is empty: everything counts as changed. A step, which begins at node slot `from`; the value says where
    /// the next begins, if there is one. Others may change the tree between steps.
    pub fn mark_unsaved(&mut self, from: usize) -> Option<usize> {
        const STEP: usize = 4096;
        let upto = self.nodes.slots().min(from + STEP);
        for ix in from as Ix..upto as Ix {
            if self.nodes.is_live(ix) {
                self.mark(ix);
            }
        }
        if upto < self.nodes.slots() {
            return Some(upto);
        }
        self.changes.sessions = self.sessions.keys().copied().collect();
        self.acls.mark_unsaved();
        None
    }

    /// There is no image whose lack counts; what is listed would only grow. [`Tree::mark_unsaved`] follows.
    pub fn forget_changes(&mut self) {
        self.mark_saved();
        self.acls.take_touched();
    }

    /// Forgets all changes: this tree was just made from the image. Only lists that no node used, which
    /// loading has left out, are still to be removed there.
    pub fn mark_saved(&mut self) {
        for ix in std::mem::take(&mut self.changes).nodes {
            self.nodes.get_mut(ix).dirty = false;
        }
        self.acls.mark_saved();
    }

    // ---- quotas ----

    fn on_quota_node_created(&mut self, path: &str) {
        if let Some(subject) = quota::subject(path, quota::LIMITS) {
            self.quotas.add(subject);
        } else if let Some(subject) = quota::subject(path, quota::STATS) {
            self.recount_usage(subject);
        }
    }

    /// Counts a subtree anew and writes the result into its stats node, whose stat stays as it is.
    fn recount_usage(&mut self, subject: &str) {
        let (count, bytes) = match self.find(subject) {
            None => (0, 0),
            Some(node) => node.subtree_usage(),
        };
        self.write_usage(subject, count, bytes);
    }

    fn write_usage(&mut self, subject: &str, count: i64, bytes: i64) {
        let path = quota::stats_path(subject);
        let Some(ix) = self.nodes.find(&path) else { return };
        let text = quota::Track::usage_text(count, bytes);
        // Below /zookeeper/, so no digest counts it, and Java leaves approximate_data_size alone too.
        self.nodes.get_mut(ix).set_data(Some(text.as_bytes()));
        self.mark(ix);
    }

    fn count_usage(&mut self, path: &str, count: i64, bytes: i64) {
        let Some(subject) = self.quotas.nearest(path) else { return };
        let Some(stats) = self.find(&quota::stats_path(subject)) else { return };
        match quota::Track::parse(stats.data().unwrap_or_default()) {
            Some(used) => self.write_usage(subject, used.count.saturating_add(count), used.bytes.saturating_add(bytes)),
            // Java fails on data that it can't parse (data-model 12b, row 5).
            None => self.recount_usage(subject),
        }
    }

    fn data_len(&self, ix: Ix) -> i64 {
        self.nodes.get(ix).data().map_or(0, |data| data.len() as i64)
    }

    /// The config node as an ensemble's member shows it; no transaction writes this (data-model 1.4).
    pub fn set_config(&mut self, text: &str, version: i64, time: i64, witness: &mut impl Witness) {
        let header = Header { session: SessionId::NONE, cxid: 0, zxid: Zxid(version), time };
        self.apply_set_data(&header, CONFIG, Some(text.as_bytes()), -1, witness);
    }
}

/// The length of a text as Java counts it.
fn text_units(text: &str) -> i64 {
    if text.is_ascii() { text.len() as i64 } else { text.encode_utf16().count() as i64 }
}

impl<'a> NodeRef<'a> {
    fn node(self) -> &'a Node {
        self.tree.nodes.get(self.ix)
    }

    pub fn data(self) -> Option<&'a [u8]> {
        self.node().data()
    }

    pub fn acl(self) -> &'a Arc<[Acl]> {
        self.tree.acls.list(self.node().acl)
    }

    pub fn acl_id(self) -> i64 {
        self.tree.acls.id(self.node().acl)
    }

    pub fn kind(self) -> Kind {
        self.node().kind
    }

    pub fn path(self) -> String {
        self.tree.nodes.path(self.ix)
    }

    pub fn prefix_crc(self) -> u32 {
        self.node().prefix_crc
    }

    pub fn child_count(self) -> usize {
        self.node().children().len()
    }

    /// Names of the children, in no order.
    pub fn children(self) -> impl ExactSizeIterator<Item = &'a str> + 'a {
        self.node().children().iter().map(move |ix| self.tree.nodes.get(*ix).name())
    }

    pub fn persisted(self) -> StatPersisted {
        self.node().stat()
    }

    /// The Stat as clients see it (data-model 1.1).
    pub fn stat(self) -> Stat {
        client_stat(self.persisted(), self.kind(), self.data().map_or(0, <[u8]>::len), self.child_count())
    }

    /// Milliseconds that a TTL node lives after its last write.
    pub fn ttl_ms(self) -> i64 {
        let owner = self.persisted().ephemeral_owner;
        if owner & TTL_OWNER == TTL_OWNER { owner & TTL_MAX } else { owner & i64::MAX }
    }

    /// Nodes below this one, at any depth.
    pub fn descendants(self) -> usize {
        if self.ix == node::ROOT {
            return self.tree.node_count() - 1;
        }
        self.subtree_usage().0 as usize - 1
    }

    /// Nodes in this subtree, this one included, and the bytes of their data.
    fn subtree_usage(self) -> (i64, i64) {
        let (mut count, mut bytes) = (0, 0);
        let mut stack = vec![self.ix];
        while let Some(ix) = stack.pop() {
            count += 1;
            bytes += self.tree.data_len(ix);
            stack.extend(self.tree.nodes.get(ix).children());
        }
        (count, bytes)
    }
}

/// Derives what clients see from what is stored: cversion counts removals too, and the owner codes of
/// containers and TTL nodes are not shown.
pub fn client_stat(s: StatPersisted, kind: Kind, data_length: usize, num_children: usize) -> Stat {
    let num_children = num_children as i32;
    Stat {
        czxid: s.czxid,
        mzxid: s.mzxid,
        ctime: s.ctime,
        mtime: s.mtime,
        version: s.version,
        cversion: s.cversion.wrapping_mul(2).wrapping_sub(num_children),
        aversion: s.aversion,
        ephemeral_owner: if kind == Kind::Ephemeral { s.ephemeral_owner } else { 0 },
        data_length: data_length as i32,
        num_children,
        pzxid: s.pzxid,
    }
}
