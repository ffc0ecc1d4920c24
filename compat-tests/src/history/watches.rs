//! Whether every watch was answered: with the right event, once, in order, and before any reply that shows what
//! it is about.
//!
//! All changes of all nodes are one list, in the order of transactions and of their parts. A watch that was set at a zxid
//! waits for the first entry behind it that concerns its node; so at every moment it is known which event each
//! watch of a connection is owed next, and the earliest of them is the only one that may come.

use std::collections::{BTreeMap, HashMap};

use jute::Text;

use super::check::{Property, Violation};
use super::model::Change;
use super::{
    Event, Link, Mode, NODE_CHILDREN_CHANGED, NODE_CREATED, NODE_DATA_CHANGED, NODE_DELETED, Outcome, Received,
    Request, Watch,
};

/// No change to come.
const NEVER: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Table {
    Data,
    Child,
    Lasting(Mode),
}

type Key = (Table, Text);

/// The list of all changes, and where in it each node occurs.
pub struct Changes {
    all: Vec<Change>,
    /// Creations, deletions, and changes of data.
    data: HashMap<Text, Vec<u32>>,
    /// Deletions, and changes of children.
    child: HashMap<Text, Vec<u32>>,
    persistent: HashMap<Text, Vec<u32>>,
    /// By the node on top; only for those that somebody watches so.
    recursive: HashMap<Text, Vec<u32>>,
}

impl Changes {
    pub fn new(all: Vec<Change>, links: &[Link]) -> Self {
        let mut recursive: HashMap<Text, Vec<u32>> = HashMap::new();
        for operation in links.iter().flat_map(|link| &link.operations) {
            match &operation.request {
                Request::AddWatch { path, mode: Mode::Recursive } => _ = recursive.entry(path.clone()).or_default(),
                Request::SetWatches(rewatch) => {
                    rewatch.recursive.iter().for_each(|path| _ = recursive.entry(path.clone()).or_default());
                }
                _ => {}
            }
        }
        let mut changes =
            Self { all, data: HashMap::new(), child: HashMap::new(), persistent: HashMap::new(), recursive };
        for (at, change) in (0..).zip(&changes.all) {
            changes.persistent.entry(change.path.clone()).or_default().push(at);
            if change.kind != NODE_CHILDREN_CHANGED {
                changes.data.entry(change.path.clone()).or_default().push(at);
                for (top, list) in &mut changes.recursive {
                    let below = change.path.strip_prefix(&**top);
                    if below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
                        list.push(at);
                    }
                }
            }
            if matches!(change.kind, NODE_CHILDREN_CHANGED | NODE_DELETED) {
                changes.child.entry(change.path.clone()).or_default().push(at);
            }
        }
        changes
    }

    fn list(&self, (table, path): &Key) -> &[u32] {
        let map = match table {
            Table::Data => &self.data,
            Table::Child => &self.child,
            Table::Lasting(Mode::Persistent) => &self.persistent,
            Table::Lasting(Mode::Recursive) => &self.recursive,
        };
        map.get(path).map_or(&[], Vec::as_slice)
    }

    /// The first change of a watch's node behind a zxid.
    fn first_behind(&self, key: &Key, zxid: i64) -> u32 {
        let list = self.list(key);
        list.get(list.partition_point(|at| self.all[*at as usize].zxid <= zxid)).copied().unwrap_or(NEVER)
    }

    /// The next change of a watch's node behind another change.
    fn next(&self, key: &Key, after: u32) -> u32 {
        let list = self.list(key);
        list.get(list.partition_point(|at| *at <= after)).copied().unwrap_or(NEVER)
    }

    fn get(&self, at: u32) -> &Change {
        &self.all[at as usize]
    }
}

/// Events that a request to take watches along must bring, by link and operation.
pub type CaughtUp = HashMap<(usize, usize), Vec<(i32, Text)>>;

/// The watches of one connection.
struct Armed<'a> {
    changes: &'a Changes,
    next: HashMap<Key, u32>,
    due: BTreeMap<u32, Vec<Key>>,
}

impl Armed<'_> {
    fn arm(&mut self, key: Key, zxid: i64) {
        // What is armed already stays as it is: its event has not come, so nothing lies between.
        if !self.next.contains_key(&key) {
            let next = self.changes.first_behind(&key, zxid);
            self.set(key, next);
        }
    }

    fn set(&mut self, key: Key, next: u32) {
        if next != NEVER {
            self.due.entry(next).or_default().push(key.clone());
        }
        self.next.insert(key, next);
    }

    /// The earliest change that some watch is owed the event of.
    fn earliest(&self) -> Option<&Change> {
        self.due.first_key_value().map(|(at, _)| self.changes.get(*at))
    }

    /// Which owed change an event is; the order within a transaction is free.
    fn find(&self, event: &Event) -> Option<u32> {
        let zxid = self.earliest()?.zxid;
        let owed = self.due.keys().copied().take_while(|at| self.changes.get(*at).zxid == zxid);
        owed.into_iter().find(|at| {
            let change = self.changes.get(*at);
            (change.zxid, change.kind, &change.path) == (event.zxid, event.kind, &event.path)
        })
    }

    fn fire(&mut self, at: u32) {
        for key in self.due.remove(&at).unwrap_or_default() {
            match key.0 {
                Table::Data | Table::Child => _ = self.next.remove(&key),
                Table::Lasting(_) => {
                    let next = self.changes.next(&key, at);
                    self.set(key, next);
                }
            }
        }
    }
}

/// Follows one connection.
pub fn check_link(at: usize, link: &Link, changes: &Changes, caught_up: &CaughtUp, found: &mut Vec<Violation>) {
    let mut armed = Armed { changes, next: HashMap::new(), due: BTreeMap::new() };
    let mut last_event = 0;
    let mut caught: Vec<(i32, Text)> = Vec::new();
    let says =
        |property, what| Violation { property, what: format!("session 0x{:x}, link {at}: {what}", link.session) };
    for (position, received) in link.received.iter().enumerate() {
        match received {
            Received::Event(event) if event.zxid == -1 => caught.push((event.kind, event.path.clone())),
            Received::Event(event) => {
                if event.zxid < last_event {
                    found.push(says(Property::V2, format!("{event:?} after an event of 0x{last_event:x}")));
                    return;
                }
                last_event = event.zxid;
                match armed.find(event) {
                    Some(at) => armed.fire(at),
                    None => {
                        let why = match armed.earliest() {
                            Some(owed) if owed.zxid < event.zxid => {
                                let property =
                                    if comes(&link.received[position..], owed) { Property::V2 } else { Property::V3 };
                                says(property, format!("{event:?} came, but {owed:?} was owed before it"))
                            }
                            owed => {
                                says(Property::V4, format!("{event:?} is owed to nobody; the next that is: {owed:?}"))
                            }
                        };
                        found.push(why);
                        return;
                    }
                }
            }
            Received::Answer(index) => {
                let operation = &link.operations[*index];
                let Some(answer) = &operation.answer else { continue };
                if let Some(owed) = armed.earliest().filter(|owed| answer.zxid >= owed.zxid) {
                    let property = if comes(&link.received[position..], owed) { Property::V1 } else { Property::V3 };
                    let what =
                        format!("a reply of 0x{:x} came to request {} before {owed:?}", answer.zxid, operation.xid);
                    found.push(says(property, what));
                    return;
                }
                if let Request::SetWatches(rewatch) = &operation.request {
                    let mut expected = caught_up.get(&(at, *index)).cloned().unwrap_or_default();
                    let mut came = std::mem::take(&mut caught);
                    expected.sort();
                    came.sort();
                    if expected != came {
                        let what =
                            format!("{rewatch:?} at 0x{:x} brought {came:?} instead of {expected:?}", answer.zxid);
                        found.push(says(Property::V5, what));
                        return;
                    }
                    let lists = [
                        (Table::Data, &rewatch.data, [NODE_DELETED, NODE_DATA_CHANGED]),
                        (Table::Data, &rewatch.exist, [NODE_CREATED, NODE_CREATED]),
                        (Table::Child, &rewatch.child, [NODE_DELETED, NODE_CHILDREN_CHANGED]),
                    ];
                    for (table, paths, told_by) in lists {
                        let is_told =
                            |path: &Text| expected.iter().any(|(kind, told)| told == path && told_by.contains(kind));
                        let left = paths.iter().filter(|path| !is_told(path));
                        left.for_each(|path| armed.arm((table, path.clone()), answer.zxid));
                    }
                    for (paths, mode) in
                        [(&rewatch.persistent, Mode::Persistent), (&rewatch.recursive, Mode::Recursive)]
                    {
                        paths.iter().for_each(|path| armed.arm((Table::Lasting(mode), path.clone()), answer.zxid));
                    }
                    continue;
                }
                if let Some(key) = sets(&operation.request, answer.err, &answer.outcome) {
                    armed.arm(key, answer.zxid);
                }
            }
        }
    }
    if !caught.is_empty() {
        // Those of a request whose reply was lost may be any part of what it owes.
        let asked = link
            .operations
            .iter()
            .any(|operation| matches!(operation.request, Request::SetWatches(_)) && operation.answer.is_none());
        if !asked {
            found.push(says(Property::V5, format!("{caught:?} with zxid -1, and no watches were taken along")));
        }
    }
}

/// Whether the event of a change is among what was received.
fn comes(received: &[Received], change: &Change) -> bool {
    received.iter().any(|received| match received {
        Received::Event(event) => (event.zxid, event.kind, &event.path) == (change.zxid, change.kind, &change.path),
        Received::Answer(_) => false,
    })
}

/// The watch that an answered request leaves behind.
fn sets(request: &Request, err: i32, outcome: &Outcome) -> Option<Key> {
    let is_ok = err == 0;
    let is_absent = err == super::model::NO_NODE && *outcome == Outcome::Nothing;
    match request {
        Request::Exists { path, watch: Watch::Yes } if is_ok || is_absent => Some((Table::Data, path.clone())),
        Request::GetData { path, watch: Watch::Yes } if is_ok => Some((Table::Data, path.clone())),
        Request::GetChildren { path, watch: Watch::Yes, .. } if is_ok => Some((Table::Child, path.clone())),
        Request::AddWatch { path, mode } if is_ok => Some((Table::Lasting(*mode), path.clone())),
        _ => None,
    }
}
