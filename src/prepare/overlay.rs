//! The tree as it will be when everything prepared so far is applied: what differs, by path.
//!
//! Java: `ZooKeeperServer.outstandingChanges`. Every path has one key here, the root too (Java has two for
//! it, and they miss each other's changes: data-model 12b, row 9). A failed multi is taken back by dropping
//! what it added.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use jute::Text;
use jute::records::data::StatPersisted;

use crate::acl::Acl;
use crate::id::{SessionId, Zxid};
use crate::tree::{Kind, Tree, digest};

/// A znode as it will be.
#[derive(Clone, Debug)]
pub struct Pending {
    pub stat: StatPersisted,
    pub kind: Kind,
    pub children: usize,
    pub acl: Arc<[Acl]>,
    /// CRC of path and data, from which the digest continues.
    pub prefix_crc: u32,
    pub data_len: usize,
}

#[derive(Debug)]
struct Entry {
    zxid: Zxid,
    /// `None`: deleted.
    node: Option<Pending>,
}

#[derive(Debug)]
pub struct Overlay {
    newest: HashMap<Text, Entry, foldhash::fast::FixedState>,
    /// Every change in order, so that it can be dropped once it is applied.
    queue: VecDeque<(Zxid, Text)>,
    /// What the entries of the operation under way replaced, newest last.
    undo: Vec<(Text, Option<Entry>)>,
    /// The tree digest after everything prepared.
    digest: u64,
    /// `digest` as it was when the operation under way began.
    digest_before: u64,
    /// Changes since the start.
    queued: u64,
}

impl Overlay {
    /// `seed` keys the hash: clients choose paths.
    pub fn new(seed: u64) -> Self {
        Self {
            newest: HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed)),
            queue: VecDeque::new(),
            undo: Vec::new(),
            digest: 0,
            digest_before: 0,
            queued: 0,
        }
    }

    pub fn digest(&self) -> u64 {
        self.digest
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Changes since the start, the ones taken back included.
    pub fn queued(&self) -> u64 {
        self.queued
    }

    /// Nothing is prepared: everything is as the tree has it.
    pub fn reset(&mut self, tree: &Tree) {
        *self = Self { digest: tree.digest(), queued: self.queued, ..Self::new(tree.seed()) };
    }

    /// The node as it will be, if it will be there.
    pub fn find(&self, tree: &Tree, path: &str) -> Option<Pending> {
        let path = if path.is_empty() { "/" } else { path };
        if let Some(entry) = self.newest.get(path) {
            return entry.node.clone();
        }
        tree.find(path).map(|node| Pending {
            stat: node.persisted(),
            kind: node.kind(),
            children: node.child_count(),
            acl: node.acl().clone(),
            prefix_crc: node.prefix_crc(),
            data_len: node.data().map_or(0, <[u8]>::len),
        })
    }

    /// From here on, what is put can be taken back.
    pub fn begin(&mut self) {
        self.undo.clear();
        self.digest_before = self.digest;
    }

    /// Takes back all since [`Overlay::begin`].
    pub fn roll_back(&mut self) {
        while let Some((path, before)) = self.undo.pop() {
            self.queue.pop_back();
            match before {
                Some(entry) => self.newest.insert(path, entry),
                None => self.newest.remove(&path),
            };
        }
        self.digest = self.digest_before;
    }

    /// Records that `before` (as found) will be `after`.
    pub fn put(&mut self, zxid: Zxid, path: Text, before: Option<&Pending>, after: Option<Pending>) {
        let path = if path.is_empty() { Text::from_static("/") } else { path };
        let of = |node: &Pending| digest::node_digest(&path, node.prefix_crc, &node.stat);
        let (old, new) = (before.map_or(0, of), after.as_ref().map_or(0, of));
        self.digest = self.digest.wrapping_sub(old).wrapping_add(new);
        let replaced = self.newest.insert(path.clone(), Entry { zxid, node: after });
        self.undo.push((path.clone(), replaced));
        self.queue.push_back((zxid, path));
        self.queued += 1;
    }

    /// Everything up to `zxid` is in the tree now.
    pub fn on_applied(&mut self, zxid: Zxid) {
        while let Some((at, path)) = self.queue.front().filter(|(at, _)| *at <= zxid) {
            // Unless a later change replaced it.
            if self.newest.get(path.as_str()).is_some_and(|entry| entry.zxid == *at) {
                self.newest.remove(path.as_str());
            }
            self.queue.pop_front();
        }
    }

    /// The ephemerals that `session` will own, in the order of the tree and then of creation.
    pub fn ephemerals(&self, tree: &Tree, session: SessionId) -> Vec<Text> {
        let owned = |node: &Pending| node.kind == Kind::Ephemeral && node.stat.ephemeral_owner == session.0;
        let mut paths: Vec<Text> = tree.ephemerals(session).map(Text::from).collect();
        let mut seen: hashbrown::HashSet<Text, foldhash::fast::FixedState> = paths.iter().cloned().collect();
        paths.retain(|path| self.newest.get(path).is_none_or(|entry| entry.node.as_ref().is_some_and(owned)));
        for (_, path) in &self.queue {
            let pending = self.newest.get(path).and_then(|entry| entry.node.as_ref());
            if pending.is_some_and(owned) && seen.insert(path.clone()) {
                paths.push(path.clone());
            }
        }
        paths
    }
}
