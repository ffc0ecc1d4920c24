//! The tree as it must be: what a server decides about a request, what a transaction does, and what a read
//! finds. It is slow where that makes it plain, holds every node by its path, and shares no code with the
//! server.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use jute::Text;
use jute::records::data::Stat;

use super::log::{Record, Txn};
use super::{Dumped, NODE_CHILDREN_CHANGED, NODE_CREATED, NODE_DATA_CHANGED, NODE_DELETED, Outcome, Request, Rewatch};

pub const RUNTIME_INCONSISTENCY: i32 = -2;
pub const OPERATION_TIMEOUT: i32 = -7;
pub const NO_NODE: i32 = -101;
pub const NO_AUTH: i32 = -102;
pub const BAD_VERSION: i32 = -103;
pub const NO_CHILDREN_FOR_EPHEMERALS: i32 = -108;
pub const NODE_EXISTS: i32 = -110;
pub const NOT_EMPTY: i32 = -111;
pub const SESSION_EXPIRED: i32 = -112;
pub const SESSION_MOVED: i32 = -118;

/// Rights.
pub const READ: i32 = 1;
pub const WRITE: i32 = 2;
pub const CREATE: i32 = 4;
pub const DELETE: i32 = 8;
pub const ADMIN: i32 = 16;
pub const ALL: i32 = 31;

/// Flags of a create.
pub const EPHEMERAL: i32 = 1;
pub const SEQUENTIAL: i32 = 2;

#[derive(Clone, Debug, Default)]
struct Node {
    data: Bytes,
    perms: i32,
    czxid: i64,
    mzxid: i64,
    pzxid: i64,
    ctime: i64,
    mtime: i64,
    version: i32,
    aversion: i32,
    /// Children ever created.
    creations: i32,
    owner: i64,
}

/// What a watch may hear of, in the order of all such things.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    pub zxid: i64,
    pub kind: i32,
    pub path: Text,
}

/// How to take back what a part of a multi did.
enum Undo {
    Node(Text, Option<Node>),
    Child { parent: Text, path: Text, was_there: bool },
}

pub struct Model {
    nodes: HashMap<Text, Node>,
    /// Paths of children, by the path of their parent; parents without any are left out.
    children: HashMap<Text, BTreeSet<Text>>,
    ephemerals: HashMap<i64, BTreeSet<Text>>,
    /// The timeouts of open sessions.
    sessions: BTreeMap<i64, i32>,
    undo: Vec<Undo>,
}

impl Default for Model {
    /// The tree that every server begins with.
    fn default() -> Self {
        let mut model = Self {
            nodes: HashMap::new(),
            children: HashMap::new(),
            ephemerals: HashMap::new(),
            sessions: BTreeMap::new(),
            undo: Vec::new(),
        };
        for path in ["/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"] {
            let path = Text::from(path);
            model.nodes.insert(path.clone(), Node { perms: ALL, ..Node::default() });
            if let Some(parent) = parent(&path) {
                model.children.entry(parent).or_default().insert(path);
            }
        }
        model
    }
}

impl Model {
    pub fn sessions(&self) -> &BTreeMap<i64, i32> {
        &self.sessions
    }

    pub fn ephemerals(&self, session: i64) -> Vec<Text> {
        self.ephemerals.get(&session).into_iter().flatten().cloned().collect()
    }

    /// What becomes of a request at its place in the order. Changes nothing.
    pub fn decide(&mut self, session: i64, zxid: i64, time: i64, request: &Request) -> Txn {
        match request {
            Request::Multi(parts) => {
                let mut decided = Vec::with_capacity(parts.len());
                let at = |txn: &Txn| Record { zxid, session, cxid: 0, time, txn: txn.clone() };
                self.undo.clear();
                for part in parts {
                    let txn = match decided.last() {
                        Some(Txn::Error(_)) => Txn::Error(RUNTIME_INCONSISTENCY),
                        _ => self.decide_single(session, part),
                    };
                    if !matches!(txn, Txn::Error(_)) {
                        self.apply_single(&at(&txn), &txn, &mut Vec::new());
                    }
                    decided.push(txn);
                }
                self.take_back();
                Txn::multi(decided)
            }
            Request::CloseSession => Txn::CloseSession { paths: self.ephemerals(session) },
            single => self.decide_single(session, single),
        }
    }

    fn decide_single(&self, session: i64, request: &Request) -> Txn {
        self.try_decide(session, request).unwrap_or_else(Txn::Error)
    }

    fn try_decide(&self, session: i64, request: &Request) -> Result<Txn, i32> {
        let find = |path: &Text| self.nodes.get(path).ok_or(NO_NODE);
        let allowed = |node: &Node, right: i32| if node.perms & right != 0 { Ok(()) } else { Err(NO_AUTH) };
        let same = |wanted: i32, actual: i32| if wanted == -1 || wanted == actual { Ok(()) } else { Err(BAD_VERSION) };
        Ok(match request {
            Request::Create { path, data, perms, flags, .. } => {
                let parent = find(&parent(path).expect("nobody creates the root"))?;
                allowed(parent, CREATE)?;
                let path = match flags & SEQUENTIAL {
                    0 => path.clone(),
                    _ => Text::from(format!("{path}{:010}", parent.creations)),
                };
                if self.nodes.contains_key(&path) {
                    return Err(NODE_EXISTS);
                }
                if parent.owner != 0 {
                    return Err(NO_CHILDREN_FOR_EPHEMERALS);
                }
                if flags & EPHEMERAL != 0 && !self.sessions.contains_key(&session) {
                    return Err(SESSION_EXPIRED);
                }
                Txn::Create {
                    path,
                    data: data.clone(),
                    perms: *perms,
                    is_ephemeral: flags & EPHEMERAL != 0,
                    parent_cversion: parent.creations + 1,
                }
            }
            Request::Delete { path, version } => {
                allowed(find(&parent(path).expect("nobody deletes the root"))?, DELETE)?;
                same(*version, find(path)?.version)?;
                if self.children.contains_key(path) {
                    return Err(NOT_EMPTY);
                }
                Txn::Delete { path: path.clone() }
            }
            Request::SetData { path, data, version } => {
                let node = find(path)?;
                allowed(node, WRITE)?;
                same(*version, node.version)?;
                Txn::SetData { path: path.clone(), data: data.clone(), version: node.version + 1 }
            }
            Request::SetAcl { path, perms, version } => {
                let node = find(path)?;
                allowed(node, ADMIN)?;
                same(*version, node.aversion)?;
                Txn::SetAcl { path: path.clone(), perms: *perms, version: node.aversion + 1 }
            }
            Request::Check { path, version } => {
                let node = find(path)?;
                allowed(node, READ)?;
                same(*version, node.version)?;
                Txn::Check { path: path.clone(), version: node.version + 1 }
            }
            other => unreachable!("{other:?} is no write"),
        })
    }

    /// Carries out a transaction: the error and the rest of the answer, as if the request had asked for all there is.
    pub fn apply(&mut self, record: &Record, changes: &mut Vec<Change>) -> (i32, Outcome) {
        match &record.txn {
            Txn::Error(err) => (*err, Outcome::Nothing),
            Txn::Multi(parts) => {
                let has_failed = parts.iter().any(|part| matches!(part, Txn::Error(_)));
                let outcome = |part: &Txn| match part {
                    Txn::Error(err) => (*err, Outcome::Nothing),
                    _ if has_failed => (RUNTIME_INCONSISTENCY, Outcome::Nothing),
                    part => (0, self.apply_single(record, part, changes)),
                };
                let outcomes = parts.iter().map(outcome).collect();
                self.undo.clear();
                (0, Outcome::Multi(outcomes))
            }
            single => {
                let outcome = self.apply_single(record, single, changes);
                self.undo.clear();
                (0, outcome)
            }
        }
    }

    fn apply_single(&mut self, record: &Record, txn: &Txn, changes: &mut Vec<Change>) -> Outcome {
        let Record { zxid, session, time, .. } = *record;
        match txn {
            Txn::Create { path, data, perms, is_ephemeral, parent_cversion } => {
                let above = parent(path).unwrap_or_default();
                let node = Node {
                    data: data.clone(),
                    perms: *perms,
                    czxid: zxid,
                    mzxid: zxid,
                    pzxid: zxid,
                    ctime: time,
                    mtime: time,
                    owner: if *is_ephemeral { session } else { 0 },
                    ..Node::default()
                };
                self.put(path, Some(node));
                self.link(&above, path, true);
                self.change(&above, |parent| (parent.creations, parent.pzxid) = (*parent_cversion, zxid));
                changes.push(Change { zxid, kind: NODE_CREATED, path: path.clone() });
                changes.push(Change { zxid, kind: NODE_CHILDREN_CHANGED, path: above });
                Outcome::PathAndStat(path.clone(), self.stat(path).unwrap_or_default())
            }
            Txn::Delete { path } => {
                self.remove(path, zxid, changes);
                Outcome::Nothing
            }
            Txn::SetData { path, data, version } => {
                self.change(path, |node| {
                    (node.data, node.version, node.mzxid, node.mtime) = (data.clone(), *version, zxid, time);
                });
                changes.push(Change { zxid, kind: NODE_DATA_CHANGED, path: path.clone() });
                Outcome::Stat(self.stat(path).unwrap_or_default())
            }
            Txn::SetAcl { path, perms, version } => {
                self.change(path, |node| (node.perms, node.aversion) = (*perms, *version));
                Outcome::Stat(self.stat(path).unwrap_or_default())
            }
            Txn::OpenSession { timeout_ms } => {
                self.sessions.insert(session, *timeout_ms);
                Outcome::Nothing
            }
            Txn::CloseSession { paths } => {
                self.sessions.remove(&session);
                for path in paths {
                    self.remove(path, zxid, changes);
                }
                for path in self.ephemerals(session) {
                    self.remove(&path, zxid, changes);
                }
                Outcome::Nothing
            }
            Txn::Check { .. } | Txn::Error(_) | Txn::Multi(_) => Outcome::Nothing,
        }
    }

    fn remove(&mut self, path: &Text, zxid: i64, changes: &mut Vec<Change>) {
        let above = parent(path).unwrap_or_default();
        self.put(path, None);
        self.link(&above, path, false);
        self.change(&above, |parent| parent.pzxid = zxid);
        changes.push(Change { zxid, kind: NODE_DELETED, path: path.clone() });
        changes.push(Change { zxid, kind: NODE_CHILDREN_CHANGED, path: above });
    }

    // ---- changes that can be taken back ----

    fn put(&mut self, path: &Text, node: Option<Node>) {
        let before = self.replace(path, node);
        self.undo.push(Undo::Node(path.clone(), before));
    }

    fn replace(&mut self, path: &Text, node: Option<Node>) -> Option<Node> {
        let owner = node.as_ref().map_or(0, |node| node.owner);
        let before = match node {
            Some(node) => self.nodes.insert(path.clone(), node),
            None => self.nodes.remove(path),
        };
        let owner_before = before.as_ref().map_or(0, |node| node.owner);
        if owner_before != 0
            && owner_before != owner
            && let Some(paths) = self.ephemerals.get_mut(&owner_before)
        {
            paths.remove(path);
            if paths.is_empty() {
                self.ephemerals.remove(&owner_before);
            }
        }
        if owner != 0 {
            self.ephemerals.entry(owner).or_default().insert(path.clone());
        }
        before
    }

    fn change(&mut self, path: &Text, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.nodes.get_mut(path) {
            self.undo.push(Undo::Node(path.clone(), Some(node.clone())));
            change(node);
        }
    }

    fn link(&mut self, parent: &Text, path: &Text, is_there: bool) {
        if self.relink(parent, path, is_there) {
            self.undo.push(Undo::Child { parent: parent.clone(), path: path.clone(), was_there: !is_there });
        }
    }

    fn relink(&mut self, parent: &Text, path: &Text, is_there: bool) -> bool {
        if is_there {
            return self.children.entry(parent.clone()).or_default().insert(path.clone());
        }
        let Some(children) = self.children.get_mut(parent) else { return false };
        let was_there = children.remove(path);
        if children.is_empty() {
            self.children.remove(parent);
        }
        was_there
    }

    fn take_back(&mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Node(path, node) => _ = self.replace(&path, node),
                Undo::Child { parent, path, was_there } => _ = self.relink(&parent, &path, was_there),
            }
        }
    }

    // ---- reads ----

    /// What a read finds now.
    pub fn read(&self, request: &Request) -> (i32, Outcome) {
        self.try_read(request).map_or_else(|err| (err, Outcome::Nothing), |outcome| (0, outcome))
    }

    fn try_read(&self, request: &Request) -> Result<Outcome, i32> {
        let find = |path: &Text, rights: i32| match self.nodes.get(path) {
            None => Err(NO_NODE),
            Some(node) if node.perms & rights == 0 => Err(NO_AUTH),
            Some(node) => Ok((node, self.stat(path).expect("it is there"))),
        };
        Ok(match request {
            Request::Exists { path, .. } => Outcome::Stat(self.stat(path).ok_or(NO_NODE)?),
            Request::GetData { path, .. } => {
                let (node, stat) = find(path, READ)?;
                Outcome::Data(node.data.clone(), stat)
            }
            Request::GetAcl { path } => {
                let (node, stat) = find(path, READ | ADMIN)?;
                Outcome::Acl(node.perms, stat)
            }
            Request::GetChildren { path, with_stat, .. } => {
                let (_, stat) = find(path, READ)?;
                let name = |child: &Text| Text::from(&child[child.rfind('/').map_or(0, |at| at + 1)..]);
                let names = self.children.get(path).into_iter().flatten().map(name).collect();
                Outcome::Children(names, with_stat.then_some(stat))
            }
            Request::AddWatch { .. } | Request::SetWatches(_) | Request::Sync { .. } | Request::Ping => {
                Outcome::Nothing
            }
            other => unreachable!("{other:?} is no read"),
        })
    }

    /// The events that a client is told when it takes its watches along, in this order.
    pub fn caught_up(&self, rewatch: &Rewatch) -> Vec<(i32, Text)> {
        let mut events = Vec::new();
        for path in &rewatch.data {
            match self.nodes.get(path) {
                None => events.push((NODE_DELETED, path.clone())),
                Some(node) if node.mzxid > rewatch.relative => events.push((NODE_DATA_CHANGED, path.clone())),
                Some(_) => {}
            }
        }
        let there = rewatch.exist.iter().filter(|path| self.nodes.contains_key(*path));
        events.extend(there.map(|path| (NODE_CREATED, path.clone())));
        for path in &rewatch.child {
            match self.nodes.get(path) {
                None => events.push((NODE_DELETED, path.clone())),
                Some(node) if node.pzxid > rewatch.relative => events.push((NODE_CHILDREN_CHANGED, path.clone())),
                Some(_) => {}
            }
        }
        events
    }

    fn stat(&self, path: &str) -> Option<Stat> {
        let node = self.nodes.get(path)?;
        let num_children = self.children.get(path).map_or(0, BTreeSet::len) as i32;
        Some(Stat {
            czxid: node.czxid,
            mzxid: node.mzxid,
            ctime: node.ctime,
            mtime: node.mtime,
            version: node.version,
            cversion: 2 * node.creations - num_children,
            aversion: node.aversion,
            ephemeral_owner: node.owner,
            data_length: node.data.len() as i32,
            num_children,
            pzxid: node.pzxid,
        })
    }

    /// Everything that transactions made.
    pub fn dump(&self) -> BTreeMap<Text, Dumped> {
        let own = self.nodes.iter().filter(|(path, _)| !is_built_in(path));
        own.map(|(path, node)| {
            let stat = self.stat(path).expect("it is there");
            (path.clone(), Dumped { data: node.data.clone(), perms: node.perms, stat })
        })
        .collect()
    }
}

/// The nodes that are there from the beginning.
pub fn is_built_in(path: &str) -> bool {
    path == "/" || path == "/zookeeper" || path.starts_with("/zookeeper/")
}

/// The path of the parent; none for the root.
pub fn parent(path: &str) -> Option<Text> {
    match path.rfind('/')? {
        0 if path.len() == 1 => None,
        0 => Some(Text::from_static("/")),
        at => Some(Text::from(&path[..at])),
    }
}
