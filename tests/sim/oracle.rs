//! What must be true for clients: one small model of the tree, fed with what was committed, in order. It shares
//! nothing with the server but the codec.
//!
//! Every reply carries the zxid of the state that it shows, and every write its place in the order. So nothing
//! has to be searched: a reply is right if it says what the model says at exactly that zxid.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use jute::records::data::Stat;
use zooid::acl::Acl;
use zooid::proto::op;
use zooid::txn::{CreateKind, Logged, Txn};

use crate::clock::{MS, Time};

/// Ends the run: an invariant does not hold.
macro_rules! broken {
    ($name:literal, $($arg:tt)*) => { panic!("[{}] {}", $name, format_args!($($arg)*)) };
}
pub(crate) use broken;

/// Asserts an invariant by its name.
macro_rules! holds {
    ($name:literal, $condition:expr, $($arg:tt)*) => {
        if !$condition { crate::oracle::broken!($name, $($arg)*) }
    };
}
pub(crate) use holds;

pub const NO_NODE: i32 = -101;
pub const NO_AUTH: i32 = -102;
pub const BAD_VERSION: i32 = -103;
pub const NO_CHILDREN_FOR_EPHEMERALS: i32 = -108;
pub const NODE_EXISTS: i32 = -110;
pub const NOT_EMPTY: i32 = -111;
pub const SESSION_EXPIRED: i32 = -112;
pub const SESSION_MOVED: i32 = -118;
pub const OPERATION_TIMEOUT: i32 = -7;
pub const RUNTIME_INCONSISTENCY: i32 = -2;

/// What world:anyone may do, bit by bit.
pub const READ: i32 = 1;
pub const WRITE: i32 = 2;
pub const CREATE: i32 = 4;
pub const DELETE: i32 = 8;
pub const ADMIN: i32 = 16;
pub const ALL: i32 = 31;

/// What a node is made as.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Made {
    Plain,
    Ephemeral,
    /// Goes when its last child has gone.
    Container,
    /// Goes when it has not been set for so many milliseconds and has no children.
    Ttl(i64),
}

/// A node at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub data: Bytes,
    made: Made,
    pub perms: i32,
    czxid: i64,
    mzxid: i64,
    pzxid: i64,
    ctime: i64,
    mtime: i64,
    pub version: i32,
    aversion: i32,
    /// Creates below it, ever.
    creates: i32,
    pub owner: i64,
}

impl Node {
    fn new(data: Bytes, made: Made, perms: i32, zxid: i64, time: i64, session: i64) -> Self {
        let (czxid, mzxid, pzxid) = (zxid, zxid, zxid);
        let owner = if made == Made::Ephemeral { session } else { 0 };
        Self {
            data,
            made,
            perms,
            czxid,
            mzxid,
            pzxid,
            ctime: time,
            mtime: time,
            version: 0,
            aversion: 0,
            creates: 0,
            owner,
        }
    }

    fn allows(&self, perm: i32) -> bool {
        self.perms & perm != 0
    }

    fn stat(&self, children: usize) -> Stat {
        let children = children as i32;
        Stat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            ctime: self.ctime,
            mtime: self.mtime,
            version: self.version,
            cversion: self.creates * 2 - children,
            aversion: self.aversion,
            ephemeral_owner: self.owner,
            data_length: self.data.len() as i32,
            num_children: children,
            pzxid: self.pzxid,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Session {
    pub opened: i64,
    pub closed: Option<i64>,
    ephemerals: BTreeSet<String>,
}

/// A kind of change that a watch waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Watched {
    /// Data watch on a node that is there: set or deleted.
    Data,
    /// On a node that is not: created.
    Missing,
    /// Child watch: a child comes or goes, or the node goes.
    Children,
}

/// What watchers that stay hear of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Created = 1,
    Deleted = 2,
    DataChanged = 3,
}

/// An event's type where a child came or went.
pub const CHILDREN_CHANGED: i32 = 4;

struct Happened {
    zxid: i64,
    kind: Kind,
    path: String,
}

#[derive(Default)]
pub struct Model {
    nodes: BTreeMap<String, Vec<(i64, Option<Node>)>>,
    names: BTreeMap<String, BTreeSet<String>>,
    /// When a child came or went.
    child_changes: BTreeMap<String, Vec<i64>>,
    /// When the node itself was created or set, and when it was deleted.
    own_changes: BTreeMap<String, Vec<(i64, bool)>>,
    pub sessions: BTreeMap<i64, Session>,
    last: i64,
    /// (session, cxid) of every request in the order, each once.
    requests: BTreeMap<(i64, i32), i64>,
    /// Requests that have their place by then, or never.
    upto: BTreeMap<(i64, i32), i64>,
    /// Everything that happened to nodes, in order.
    changes: Vec<Happened>,
    /// The leader's clock at each transaction.
    times: BTreeMap<i64, i64>,
    /// When each transaction was first logged anywhere, by the world's own time.
    pub logged_at: BTreeMap<i64, Time>,
}

/// Clients name world:anyone alone.
fn perms(acl: Option<&[Acl]>) -> i32 {
    match acl {
        Some([only]) => only.perms,
        other => broken!("A1", "an access list that nobody has given: {other:?}"),
    }
}

/// Everything in this model lies below nodes that clients make; what a server is born with is left alone.
fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(at) => &path[..at],
    }
}

impl Model {
    pub fn new() -> Self {
        let mut model = Self::default();
        model.nodes.insert(
            "/".into(),
            vec![(0, Some(Node { creates: -1, ..Node::new(Bytes::new(), Made::Plain, ALL, 0, 0, 0) }))],
        );
        model
    }

    pub fn at(&self, path: &str, zxid: i64) -> Option<&Node> {
        let versions = self.nodes.get(path)?;
        let upto = versions.partition_point(|(at, _)| *at <= zxid);
        versions[..upto].last()?.1.as_ref()
    }

    pub fn children_at(&self, path: &str, zxid: i64) -> BTreeSet<String> {
        let names = self.names.get(path).into_iter().flatten();
        let prefix = if path == "/" { "" } else { path };
        names.filter(|name| self.at(&format!("{prefix}/{name}"), zxid).is_some()).cloned().collect()
    }

    pub fn stat_at(&self, path: &str, zxid: i64) -> Option<Stat> {
        self.at(path, zxid).map(|node| node.stat(self.children_at(path, zxid).len()))
    }

    /// The place in the order of a session's request.
    pub fn place_of(&self, session: i64, cxid: i32) -> Option<i64> {
        self.requests.get(&(session, cxid)).copied()
    }

    /// A request that has its place at `zxid` or before, or never.
    pub fn expect_upto(&mut self, session: i64, cxid: i32, zxid: i64) {
        match self.place_of(session, cxid) {
            Some(place) => Self::check_upto(session, cxid, place, zxid),
            None => drop(self.upto.insert((session, cxid), zxid)),
        }
    }

    fn check_upto(session: i64, cxid: i32, place: i64, upto: i64) {
        holds!(
            "R4",
            place <= upto,
            "request {cxid} of session {session:#x} is at {place:#x}, and the session's next connection on the same server \
             saw the state at {upto:#x}"
        );
    }

    /// The first change after `zxid` that a watch fires for.
    pub fn first_change(&self, path: &str, watched: Watched, zxid: i64) -> Option<i64> {
        let own = self.own_changes.get(path).map_or(&[][..], |changes| changes);
        let own = &own[own.partition_point(|(at, _)| *at <= zxid)..];
        match watched {
            Watched::Data | Watched::Missing => own.first().map(|(at, _)| *at),
            Watched::Children => {
                let gone = own.iter().find(|(_, gone)| *gone).map(|(at, _)| *at);
                let changes = self.child_changes.get(path).map_or(&[][..], |changes| changes);
                let child = changes.get(changes.partition_point(|at| *at <= zxid)).copied();
                [gone, child].into_iter().flatten().min()
            }
        }
    }

    /// Where those changes begin that are later than this.
    pub fn changes_after(&self, zxid: i64) -> usize {
        self.changes.partition_point(|change| change.zxid <= zxid)
    }

    /// The next change from a place on that a watch which stays has an event for, and that event: zxid, type and path.
    pub fn next_event(&self, from: usize, watched: &str, recursive: bool) -> (usize, Option<(i64, i32, &str)>) {
        let event = |Happened { zxid, kind, path }: &Happened| {
            let is_below = watched == "/" || path.strip_prefix(watched).is_some_and(|rest| rest.starts_with('/'));
            if path == watched || recursive && is_below {
                Some((*zxid, *kind as i32))
            } else if !recursive && *kind != Kind::DataChanged && parent(path) == watched {
                Some((*zxid, CHILDREN_CHANGED))
            } else {
                None
            }
        };
        let found = self.changes[from..].iter().enumerate().find_map(|(at, change)| Some((at, event(change)?, change)));
        match found {
            None => (self.changes.len(), None),
            Some((at, (zxid, CHILDREN_CHANGED), change)) => {
                (from + at, Some((zxid, CHILDREN_CHANGED, parent(&change.path))))
            }
            Some((at, (zxid, kind), change)) => (from + at, Some((zxid, kind, &change.path))),
        }
    }

    fn changed(&mut self, path: &str, zxid: i64, kind: Kind) {
        self.changes.push(Happened { zxid, kind, path: path.to_owned() });
        let gone = kind == Kind::Deleted;
        self.own_changes.entry(path.to_owned()).or_default().push((zxid, gone));
    }

    fn put(&mut self, path: &str, zxid: i64, node: Option<Node>) {
        let versions = self.nodes.entry(path.to_owned()).or_default();
        if versions.last().is_some_and(|(at, _)| *at == zxid) {
            versions.pop();
        }
        versions.push((zxid, node));
    }

    fn child_changed(&mut self, path: &str, zxid: i64, created: Option<i32>) {
        let above = parent(path).to_owned();
        let name = path[path.rfind('/').expect("a path") + 1..].to_owned();
        self.names.entry(above.clone()).or_default().insert(name);
        self.child_changes.entry(above.clone()).or_default().push(zxid);
        let mut node =
            self.at(&above, zxid).cloned().unwrap_or_else(|| broken!("W1", "{path} has no parent at {zxid:#x}"));
        node.pzxid = zxid;
        if let Some(cversion) = created {
            // The root's count begins with what a server is born with.
            if above == "/" && node.creates == -1 {
                node.creates = cversion - 1;
            }
            node.creates += 1;
            holds!(
                "T1",
                cversion == node.creates,
                "{path}: the parent's cversion {cversion}, expected {}",
                node.creates
            );
        }
        self.put(&above, zxid, Some(node));
    }

    /// Takes the next committed transaction.
    pub fn apply(&mut self, logged: &Logged) {
        let (zxid, session) = (logged.header.zxid.0, logged.header.session.0);
        assert!(zxid > self.last, "fed in order");
        self.last = zxid;
        self.times.insert(zxid, logged.header.time);
        if logged.header.cxid > 0 {
            if let Some(upto) = self.upto.remove(&(session, logged.header.cxid)) {
                Self::check_upto(session, logged.header.cxid, zxid, upto);
            }
            let before = self.requests.insert((session, logged.header.cxid), zxid);
            holds!(
                "W2",
                before.is_none(),
                "request {} of session {session:#x} is at {before:x?} and {zxid:#x}",
                logged.header.cxid
            );
        }
        match &logged.txn {
            Txn::Multi(members) if members.iter().any(|member| matches!(member, Txn::Error { .. })) => {}
            Txn::Multi(members) => {
                for member in members {
                    self.apply_one(logged, member);
                }
            }
            txn => self.apply_one(logged, txn),
        }
    }

    fn apply_one(&mut self, logged: &Logged, txn: &Txn) {
        let (zxid, session, time) = (logged.header.zxid.0, logged.header.session.0, logged.header.time);
        match txn {
            Txn::Create(create) => {
                let path = create.path.as_str();
                holds!("W1", self.at(path, zxid).is_none(), "{path} is created twice, at {zxid:#x}");
                let made = match create.kind {
                    CreateKind::Create { ephemeral } | CreateKind::Create2 { ephemeral } if ephemeral => {
                        Made::Ephemeral
                    }
                    CreateKind::Create { .. } | CreateKind::Create2 { .. } => Made::Plain,
                    CreateKind::Container => Made::Container,
                    CreateKind::Ttl { ms } => Made::Ttl(ms),
                };
                let above = self
                    .at(parent(path), zxid)
                    .unwrap_or_else(|| broken!("W1", "{path} without a parent at {zxid:#x}"));
                holds!("W1", above.owner == 0, "{path} below an ephemeral at {zxid:#x}");
                let data = Bytes::copy_from_slice(&create.data.clone().unwrap_or_default());
                self.put(path, zxid, Some(Node::new(data, made, perms(create.acl.as_deref()), zxid, time, session)));
                self.changed(path, zxid, Kind::Created);
                self.child_changed(path, zxid, Some(create.parent_cversion));
                if made == Made::Ephemeral {
                    let open = self.sessions.get_mut(&session).filter(|session| session.closed.is_none());
                    match open {
                        Some(open) => open.ephemerals.insert(path.to_owned()),
                        None => broken!("E1", "{path} is an ephemeral of {session:#x}, which is not open at {zxid:#x}"),
                    };
                }
            }
            Txn::Delete { path, op } => {
                if *op == op::DELETE_CONTAINER {
                    self.check_removable(logged, path);
                }
                self.delete(path, zxid);
            }
            Txn::SetData { path, data, version, .. } => {
                let Some(mut node) = self.at(path, zxid).cloned() else {
                    broken!("W1", "set of {path} at {zxid:#x}, which is not there")
                };
                holds!("T1", *version == node.version + 1, "{path} goes from version {} to {version}", node.version);
                node.version = *version;
                node.data = Bytes::copy_from_slice(&data.clone().unwrap_or_default());
                (node.mzxid, node.mtime) = (zxid, time);
                self.changed(path, zxid, Kind::DataChanged);
                self.put(path, zxid, Some(node));
            }
            Txn::CreateSession { .. } => {
                let before =
                    self.sessions.insert(session, Session { opened: zxid, closed: None, ephemerals: BTreeSet::new() });
                holds!("E4", before.is_none(), "session {session:#x} is created twice, at {zxid:#x}");
            }
            Txn::CloseSession { paths } => {
                let Some(open) = self.sessions.get_mut(&session) else {
                    // Closed before it was created: nobody ever had it.
                    return;
                };
                let was_open = open.closed.is_none();
                open.closed.get_or_insert(zxid);
                let owned = std::mem::take(&mut open.ephemerals);
                let listed: BTreeSet<String> = paths.iter().flatten().map(|path| path.to_string()).collect();
                holds!(
                    "E1",
                    listed == owned,
                    "the close of {session:#x} at {zxid:#x} lists {listed:?}, it owns {owned:?} (open: {was_open})"
                );
                for path in paths.iter().flatten() {
                    self.delete(path, zxid);
                }
            }
            Txn::Check { .. } | Txn::Error { .. } => {}
            Txn::SetAcl { path, acl, version } => {
                let Some(mut node) = self.at(path, zxid).cloned() else {
                    broken!("W1", "setACL of {path} at {zxid:#x}, which is not there")
                };
                let before = node.aversion;
                holds!("T1", *version == before + 1, "{path} goes from aversion {before} to {version}");
                node.aversion = *version;
                node.perms = perms(acl.as_deref());
                self.put(path, zxid, Some(node));
            }
            Txn::Multi(_) => unreachable!("a multi in a multi"),
        }
    }

    /// K1: a leader removes by itself only what is empty and was made for it, and not before its time, whatever became of
    /// the clocks on the wall.
    fn check_removable(&self, logged: &Logged, path: &str) {
        let zxid = logged.header.zxid.0;
        holds!("K1", logged.header.cxid == 0, "a client has {path} removed as if it were a leader, at {zxid:#x}");
        let Some(node) = self.at(path, zxid) else { broken!("K1", "{path} is removed at {zxid:#x} and is not there") };
        match node.made {
            Made::Container => holds!("K1", node.creates > 0, "container {path} is removed before it had a child"),
            Made::Ttl(ms) => {
                // A clock may be a twentieth too fast, and shows whole milliseconds.
                let age = (self.logged_at[&zxid] - self.logged_at[&node.mzxid]) * 21 / 20 + 2 * MS;
                holds!("K1", age >= ms as Time * MS, "{path} has {ms} ms and is removed after {} us at most", age);
            }
            made => broken!("K1", "{path} is {made:?} and is removed at {zxid:#x}"),
        }
    }

    fn delete(&mut self, path: &str, zxid: i64) {
        let Some(node) = self.at(path, zxid).cloned() else {
            broken!("W1", "delete of {path} at {zxid:#x}, which is not there")
        };
        holds!("W1", self.children_at(path, zxid).is_empty(), "{path} is deleted with children, at {zxid:#x}");
        if node.owner != 0
            && let Some(session) = self.sessions.get_mut(&node.owner)
        {
            session.ephemerals.remove(path);
        }
        self.changed(path, zxid, Kind::Deleted);
        self.put(path, zxid, None);
        self.child_changed(path, zxid, None);
    }
}

/// A change that a client asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Create {
        path: String,
        data: Bytes,
        made: Made,
        perms: i32,
        sequential: bool,
        with_stat: bool,
    },
    SetAcl {
        path: String,
        perms: i32,
        /// The aversion.
        version: i32,
    },
    Delete {
        path: String,
        version: i32,
    },
    Set {
        path: String,
        data: Bytes,
        version: i32,
    },
    /// Only in a multi.
    Check {
        path: String,
        version: i32,
    },
    Multi(Vec<Change>),
}

/// What a change says when it is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Done,
    Path(String),
    PathStat(String, Stat),
    Stat(Stat),
    Error(i32),
    Multi(Vec<Said>),
}

/// The model right before a transaction, with the members of a multi so far applied to it.
struct Scratch<'a> {
    model: &'a Model,
    zxid: i64,
    time: i64,
    session: i64,
    changed: BTreeMap<String, Option<Node>>,
}

/// What a change must say in the place `zxid`.
pub fn expect(model: &Model, change: &Change, session: i64, zxid: i64) -> Said {
    let time = model.times.get(&zxid).copied().unwrap_or(0);
    let mut scratch = Scratch { model, zxid, time, session, changed: BTreeMap::new() };
    match change {
        Change::Multi(members) => {
            let mut said = Vec::new();
            for (at, member) in members.iter().enumerate() {
                match scratch.perform(member) {
                    Said::Error(error) => {
                        said = vec![Said::Error(0); at];
                        said.push(Said::Error(error));
                        said.resize(members.len(), Said::Error(RUNTIME_INCONSISTENCY));
                        return Said::Multi(said);
                    }
                    done => said.push(done),
                }
            }
            Said::Multi(said)
        }
        single => scratch.perform(single),
    }
}

impl Scratch<'_> {
    fn find(&self, path: &str) -> Option<Node> {
        match self.changed.get(path) {
            Some(changed) => changed.clone(),
            None => self.model.at(path, self.zxid - 1).cloned(),
        }
    }

    fn children(&self, path: &str) -> usize {
        let prefix = if path == "/" { String::new() } else { path.to_owned() };
        let mut names = self.model.children_at(path, self.zxid - 1);
        for (changed, node) in &self.changed {
            if parent(changed) == path && changed != "/" {
                let name = changed[prefix.len() + 1..].to_owned();
                if node.is_some() {
                    names.insert(name)
                } else {
                    names.remove(&name)
                };
            }
        }
        names.len()
    }

    fn perform(&mut self, change: &Change) -> Said {
        match change {
            Change::Create { path, data, made, perms, sequential, with_stat } => {
                let Some(mut above) = self.find(parent(path)) else { return Said::Error(NO_NODE) };
                if !above.allows(CREATE) {
                    return Said::Error(NO_AUTH);
                }
                let path = if *sequential { format!("{path}{:010}", above.creates) } else { path.clone() };
                if self.find(&path).is_some() {
                    return Said::Error(NODE_EXISTS);
                }
                if above.owner != 0 {
                    return Said::Error(NO_CHILDREN_FOR_EPHEMERALS);
                }
                let node = Node::new(data.clone(), *made, *perms, self.zxid, self.time, self.session);
                let stat = node.stat(0);
                above.creates += 1;
                above.pzxid = self.zxid;
                self.changed.insert(parent(&path).to_owned(), Some(above));
                self.changed.insert(path.clone(), Some(node));
                if *with_stat { Said::PathStat(path, stat) } else { Said::Path(path) }
            }
            Change::Delete { path, version } => {
                let Some(above) = self.find(parent(path)) else { return Said::Error(NO_NODE) };
                if !above.allows(DELETE) {
                    return Said::Error(NO_AUTH);
                }
                let Some(node) = self.find(path) else { return Said::Error(NO_NODE) };
                if *version != -1 && *version != node.version {
                    return Said::Error(BAD_VERSION);
                }
                if self.children(path) > 0 {
                    return Said::Error(NOT_EMPTY);
                }
                if let Some(mut above) = self.find(parent(path)) {
                    above.pzxid = self.zxid;
                    self.changed.insert(parent(path).to_owned(), Some(above));
                }
                self.changed.insert(path.clone(), None);
                Said::Done
            }
            Change::Set { path, data, version } => {
                let Some(mut node) = self.find(path) else { return Said::Error(NO_NODE) };
                if !node.allows(WRITE) {
                    return Said::Error(NO_AUTH);
                }
                if *version != -1 && *version != node.version {
                    return Said::Error(BAD_VERSION);
                }
                node.version += 1;
                (node.data, node.mzxid, node.mtime) = (data.clone(), self.zxid, self.time);
                let stat = node.stat(self.children(path));
                self.changed.insert(path.clone(), Some(node));
                Said::Stat(stat)
            }
            Change::SetAcl { path, perms, version } => {
                let Some(mut node) = self.find(path) else { return Said::Error(NO_NODE) };
                if !node.allows(ADMIN) {
                    return Said::Error(NO_AUTH);
                }
                if *version != -1 && *version != node.aversion {
                    return Said::Error(BAD_VERSION);
                }
                node.aversion += 1;
                node.perms = *perms;
                let stat = node.stat(self.children(path));
                self.changed.insert(path.clone(), Some(node));
                Said::Stat(stat)
            }
            Change::Check { path, version } => match self.find(path) {
                None => Said::Error(NO_NODE),
                Some(node) if *version != -1 && *version != node.version => Said::Error(BAD_VERSION),
                Some(_) => Said::Done,
            },
            Change::Multi(_) => unreachable!("a multi in a multi"),
        }
    }
}
