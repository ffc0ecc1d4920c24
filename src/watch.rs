//! Who is to be told of what. Two tables, data and child, of watches by path and connection.
//!
//! A watch belongs to a connection, and goes with it. One trigger tells a connection once, however many of
//! its watches match. Java: `WatchManager`, `WatcherModeManager`; client-protocol 6, data-model 8.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};
use jute::Text;

use crate::id::ConnId;
use crate::path;
use crate::planted::{self, Bug};
use crate::stats::Fired;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Table {
    Data,
    Child,
}

/// How long a watch lasts and how far it sees.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Mode {
    /// Fires once.
    Standard = 1,
    Persistent = 2,
    /// Sees the whole subtree, and never ChildrenChanged.
    Recursive = 4,
}

/// What clients call the kinds of events.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(i32)]
pub enum EventType {
    Created = 1,
    Deleted = 2,
    DataChanged = 3,
    ChildrenChanged = 4,
}

/// The numbers by which checkWatches and removeWatches name watches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WatcherType {
    Children,
    Data,
    Any,
    Persistent,
    PersistentRecursive,
}

impl WatcherType {
    pub fn from_wire(value: i32) -> Option<Self> {
        Some(match value {
            1 => Self::Children,
            2 => Self::Data,
            3 => Self::Any,
            4 => Self::Persistent,
            5 => Self::PersistentRecursive,
            _ => return None,
        })
    }
}

type Map<K, V> = HashMap<K, V, foldhash::fast::FixedState>;
type ConnSet = HashSet<ConnId, foldhash::fast::FixedState>;

/// The watches on one path: connection and set of modes. They may be as many as there are connections, and those
/// come and go together, so nothing looks for one of them here.
type Watchers = Vec<(ConnId, u8)>;
type Places = Map<ConnId, BTreeMap<Text, usize>>;

const BOTH_WAYS: &str = "a watch stands in both maps";

#[derive(Debug, Default)]
struct Side {
    by_path: Map<Text, Watchers>,
    /// The paths of each connection, and its place among the watchers of each. A connection stays until it closes, as
    /// in Java, even when all its watches have fired.
    by_conn: Places,
    recursive: usize,
}

fn set_place(by_conn: &mut Places, conn: ConnId, path: &str, at: usize) {
    let place = by_conn.get_mut(&conn).and_then(|paths| paths.get_mut(path));
    *place.expect(BOTH_WAYS) = at;
}

impl Side {
    fn add(&mut self, path: &Text, conn: ConnId, mode: Mode) {
        let paths = self.by_conn.entry(conn).or_default();
        let modes = match paths.get(path.as_str()) {
            Some(&at) => &mut self.by_path.get_mut(path.as_str()).expect(BOTH_WAYS)[at].1,
            None => {
                let watchers = self.by_path.entry_ref(path.as_str()).or_insert_with_key_detached(path);
                paths.insert(path.detach(), watchers.len());
                watchers.push((conn, 0));
                &mut watchers.last_mut().expect("just pushed").1
            }
        };
        if mode == Mode::Recursive && *modes & Mode::Recursive as u8 == 0 {
            self.recursive += 1;
        }
        *modes |= mode as u8;
    }

    fn place(&self, path: &str, conn: ConnId) -> Option<usize> {
        self.by_conn.get(&conn)?.get(path).copied()
    }

    /// Takes `modes` away; true if there was any of them.
    fn remove(&mut self, path: &str, conn: ConnId, modes: u8) -> bool {
        self.place(path, conn).is_some_and(|at| self.take_modes(path, at, modes))
    }

    /// The same of the watcher at this place, who leaves it if nothing is left.
    fn take_modes(&mut self, path: &str, at: usize, modes: u8) -> bool {
        let watchers = self.by_path.get_mut(path).expect(BOTH_WAYS);
        let (conn, left) = &mut watchers[at];
        let (conn, had) = (*conn, *left & modes);
        *left &= !modes;
        if had & Mode::Recursive as u8 != 0 {
            self.recursive -= 1;
        }
        if *left == 0 {
            watchers.swap_remove(at);
            if let Some((moved, _)) = watchers.get(at) {
                set_place(&mut self.by_conn, *moved, path, at);
            }
            if watchers.is_empty() {
                self.by_path.remove(path);
            }
            // It is gone already if the connection is.
            if let Some(paths) = self.by_conn.get_mut(&conn) {
                paths.remove(path);
            }
        }
        had != 0
    }

    fn has(&self, path: &str, conn: ConnId, modes: u8) -> bool {
        self.place(path, conn).is_some_and(|at| self.by_path[path][at].1 & modes != 0)
    }

    /// Every connection that this side tells of an event at `path`, each once; one-shot watches there are used up.
    fn trigger(&mut self, path: &str) -> Vec<ConnId> {
        let mut told = Vec::new();
        if self.by_path.is_empty() {
            return told;
        }
        if let Some(watchers) = self.by_path.get_mut(path) {
            let mut place = 0;
            watchers.retain_mut(|(conn, modes)| {
                let moves = place < told.len();
                told.push(*conn);
                *modes &= !(Mode::Standard as u8);
                if planted::is(Bug::PersistentFiresOnce) {
                    *modes = 0;
                }
                if *modes == 0 {
                    self.by_conn.get_mut(conn).expect(BOTH_WAYS).remove(path);
                    return false;
                }
                if moves {
                    set_place(&mut self.by_conn, *conn, path, place);
                }
                place += 1;
                true
            });
            if watchers.is_empty() {
                self.by_path.remove(path);
            }
        }
        if self.recursive > 0 {
            let mut seen: ConnSet = told.iter().copied().collect();
            for ancestor in path::ancestors(path).skip(1) {
                for (conn, modes) in self.by_path.get(ancestor).into_iter().flatten() {
                    if modes & Mode::Recursive as u8 != 0 && seen.insert(*conn) {
                        told.push(*conn);
                    }
                }
            }
        }
        told
    }

    fn remove_conn(&mut self, conn: ConnId) {
        for (path, at) in self.by_conn.remove(&conn).into_iter().flatten() {
            self.take_modes(&path, at, u8::MAX);
        }
    }

    fn count(&self) -> usize {
        self.by_path.values().map(Vec::len).sum()
    }
}

/// All watches of this server.
#[derive(Debug, Default)]
pub struct WatchTable {
    data: Side,
    child: Side,
    fired: Fired,
}

impl WatchTable {
    /// `seed` keys the hash: clients choose paths, and must not be able to choose collisions.
    pub fn new(seed: u64) -> Self {
        let side =
            || Side { by_path: Map::with_hasher(foldhash::fast::FixedState::with_seed(seed)), ..Side::default() };
        Self { data: side(), child: side(), fired: Fired::default() }
    }

    fn side(&mut self, table: Table) -> &mut Side {
        match table {
            Table::Data => &mut self.data,
            Table::Child => &mut self.child,
        }
    }

    /// A watch that fires once.
    pub fn add(&mut self, table: Table, path: &Text, conn: ConnId) {
        self.side(table).add(path, conn, Mode::Standard);
    }

    /// addWatch mode 0: on data and children.
    pub fn add_persistent(&mut self, path: &Text, conn: ConnId) {
        self.child.add(path, conn, Mode::Persistent);
        self.data.add(path, conn, Mode::Persistent);
    }

    /// addWatch mode 1.
    pub fn add_recursive(&mut self, path: &Text, conn: ConnId) {
        self.data.add(path, conn, Mode::Recursive);
    }

    pub fn contains(&self, path: &str, conn: ConnId, watcher: WatcherType) -> bool {
        match watcher {
            WatcherType::Children => self.child.has(path, conn, Mode::Standard as u8),
            WatcherType::Data => self.data.has(path, conn, Mode::Standard as u8),
            WatcherType::Any => self.data.has(path, conn, u8::MAX) || self.child.has(path, conn, u8::MAX),
            WatcherType::Persistent => self.data.has(path, conn, Mode::Persistent as u8),
            WatcherType::PersistentRecursive => self.data.has(path, conn, Mode::Recursive as u8),
        }
    }

    /// True if something was removed.
    pub fn remove(&mut self, path: &str, conn: ConnId, watcher: WatcherType) -> bool {
        let (data, child) = match watcher {
            WatcherType::Children => (0, Mode::Standard as u8),
            WatcherType::Data => (Mode::Standard as u8, 0),
            WatcherType::Any => (u8::MAX, u8::MAX),
            WatcherType::Persistent => (Mode::Persistent as u8, Mode::Persistent as u8),
            WatcherType::PersistentRecursive => (Mode::Recursive as u8, 0),
        };
        let removed = self.data.remove(path, conn, data);
        self.child.remove(path, conn, child) || removed
    }

    pub fn remove_conn(&mut self, conn: ConnId) {
        self.data.remove_conn(conn);
        self.child.remove_conn(conn);
    }

    /// Calls `tell` for each connection and event that a creation causes, in Java's order.
    pub fn on_created(&mut self, path: &str, parent: &str, mut tell: impl FnMut(ConnId, EventType, &str)) {
        self.fire(Table::Data, EventType::Created, path, |conn| tell(conn, EventType::Created, path));
        self.fire(Table::Child, EventType::ChildrenChanged, parent, |conn| {
            tell(conn, EventType::ChildrenChanged, parent);
        });
    }

    /// One connection hears of a deletion once, whichever tables it stands in.
    pub fn on_deleted(&mut self, path: &str, parent: &str, mut tell: impl FnMut(ConnId, EventType, &str)) {
        let deleted = EventType::Deleted;
        let told = self.fire(Table::Data, deleted, path, |conn| tell(conn, deleted, path));
        let told: ConnSet = told.into_iter().collect();
        self.fire(Table::Child, deleted, path, |conn| {
            if !told.contains(&conn) {
                tell(conn, deleted, path);
            }
        });
        if planted::is(Bug::WatchLost) {
            return;
        }
        self.fire(Table::Child, EventType::ChildrenChanged, parent, |conn| {
            tell(conn, EventType::ChildrenChanged, parent);
        });
    }

    pub fn on_data_changed(&mut self, path: &str, mut tell: impl FnMut(ConnId, EventType, &str)) {
        self.fire(Table::Data, EventType::DataChanged, path, |conn| tell(conn, EventType::DataChanged, path));
    }

    fn fire(&mut self, table: Table, event: EventType, path: &str, mut tell: impl FnMut(ConnId)) -> Vec<ConnId> {
        let told = self.side(table).trigger(path);
        if told.is_empty() {
            return told;
        }
        let fired = match event {
            EventType::Created => &mut self.fired.created,
            EventType::Deleted => &mut self.fired.deleted,
            EventType::DataChanged => &mut self.fired.data_changed,
            EventType::ChildrenChanged => &mut self.fired.children_changed,
        };
        fired.add(told.len() as i64);
        told.iter().for_each(|conn| tell(*conn));
        told
    }

    /// How many connections each event since the last call was told to.
    pub fn take_fired(&mut self) -> Fired {
        std::mem::take(&mut self.fired)
    }

    /// Watches in both tables, a connection counted once for each path and table.
    pub fn count(&self) -> usize {
        self.data.count() + self.child.count()
    }

    /// Connections, paths and watches of the data table, which is all that the words wchs, wchc and wchp see.
    pub fn data_summary(&self) -> (usize, usize, usize) {
        (self.data.by_conn.len(), self.data.by_path.len(), self.data.count())
    }

    /// The data table: paths by connection.
    pub fn data_by_conn(&self) -> impl Iterator<Item = (ConnId, impl Iterator<Item = &Text>)> {
        self.data.by_conn.iter().map(|(conn, paths)| (*conn, paths.keys()))
    }

    /// The data table: connections by path.
    pub fn data_by_path(&self) -> impl Iterator<Item = (&Text, impl Iterator<Item = ConnId> + '_)> {
        self.data.by_path.iter().map(|(path, watchers)| (path, watchers.iter().map(|(conn, _)| *conn)))
    }
}

trait EntryDetached<'a> {
    fn or_insert_with_key_detached(self, path: &Text) -> &'a mut Watchers;
}

impl<'a, S: std::hash::BuildHasher> EntryDetached<'a>
    for hashbrown::hash_map::EntryRef<'a, '_, Text, str, Watchers, S>
{
    /// A key that does not hold the frame it came in.
    fn or_insert_with_key_detached(self, path: &Text) -> &'a mut Watchers {
        use hashbrown::hash_map::EntryRef;
        match self {
            EntryRef::Occupied(entry) => entry.into_mut(),
            EntryRef::Vacant(entry) => entry.insert_with_key(path.detach(), Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ConnId = ConnId(1);
    const B: ConnId = ConnId(2);

    #[derive(Default)]
    struct Heard(Vec<(u64, i32, String)>);

    impl Heard {
        fn tell(&mut self) -> impl FnMut(ConnId, EventType, &str) + '_ {
            |conn, event, path| self.0.push((conn.0, event as i32, path.to_owned()))
        }
    }

    fn text(path: &str) -> Text {
        path.into()
    }

    #[test]
    fn one_shot_watches_fire_once() {
        let mut table = WatchTable::default();
        table.add(Table::Data, &text("/a"), A);
        table.add(Table::Data, &text("/a"), A);
        let mut heard = Heard::default();
        table.on_data_changed("/a", heard.tell());
        table.on_data_changed("/a", heard.tell());
        assert_eq!(heard.0, [(1, 3, "/a".into())]);
        assert_eq!(table.count(), 0);
        assert_eq!(table.data_summary().0, 1, "the connection still counts, as in Java");
    }

    // client-protocol 11 #72
    #[test]
    fn a_deletion_is_told_once_to_each_connection() {
        let mut table = WatchTable::default();
        table.add(Table::Data, &text("/w/a"), A);
        table.add(Table::Child, &text("/w/a"), A);
        table.add(Table::Child, &text("/w/a"), B);
        table.add(Table::Child, &text("/w"), A);
        let mut heard = Heard::default();
        table.on_deleted("/w/a", "/w", heard.tell());
        assert_eq!(heard.0, [(1, 2, "/w/a".into()), (2, 2, "/w/a".into()), (1, 4, "/w".into())]);
    }

    // client-protocol 11 #74, #75
    #[test]
    fn persistent_watches_stay_and_recursive_ones_see_below() {
        let mut table = WatchTable::default();
        table.add_recursive(&text("/w"), A);
        table.add_persistent(&text("/w"), B);
        let mut heard = Heard::default();
        table.on_created("/w/c", "/w", heard.tell());
        table.on_created("/w/c/d", "/w/c", heard.tell());
        table.on_deleted("/w", "/", heard.tell());
        table.on_created("/w", "/", heard.tell());
        let w = || "/w".to_owned();
        assert_eq!(
            heard.0,
            [
                (1, 1, "/w/c".into()),
                (2, 4, w()),
                (1, 1, "/w/c/d".into()),
                (1, 2, w()),
                (2, 2, w()),
                (1, 1, w()),
                (2, 1, w())
            ]
        );
    }

    // client-protocol 11 #76
    #[test]
    fn removing_one_mode_keeps_the_others() {
        use WatcherType::*;
        let mut table = WatchTable::default();
        let p = text("/p");
        table.add_persistent(&p, A);
        table.add_recursive(&p, A);
        table.add(Table::Data, &p, A);
        table.add(Table::Child, &p, A);
        for watcher in [Children, Data, Any, Persistent, PersistentRecursive] {
            assert!(table.contains("/p", A, watcher));
        }
        assert!(table.remove("/p", A, Data));
        assert!(!table.contains("/p", A, Data));
        assert!(table.contains("/p", A, Persistent));
        assert!(table.remove("/p", A, Any));
        for watcher in [Children, Data, Any, Persistent, PersistentRecursive] {
            assert!(!table.contains("/p", A, watcher));
            assert!(!table.remove("/p", A, watcher));
        }
    }

    #[test]
    fn many_watchers_of_one_znode_come_and_go() {
        let mut table = WatchTable::default();
        let path = text("/many/w");
        let conns = || (0..1_000).map(|n| ConnId(n * 7 % 1_000));
        for conn in conns() {
            table.add(Table::Data, &path, conn);
            if conn.0 % 3 == 0 {
                table.add_persistent(&path, conn);
            }
            if conn.0 % 5 == 0 {
                table.add_recursive(&text("/many"), conn);
            }
        }
        for conn in conns().filter(|conn| conn.0 % 2 == 0) {
            table.remove_conn(conn);
        }
        let told = |table: &mut WatchTable| {
            let mut told = Vec::new();
            table.on_data_changed("/many/w", |conn, _, _| told.push(conn.0));
            told.sort_unstable();
            told
        };
        let odd = || (0..1_000).filter(|n| n % 2 == 1);
        assert_eq!(told(&mut table), odd().collect::<Vec<_>>());
        assert_eq!(told(&mut table), odd().filter(|n| n % 3 == 0 || n % 5 == 0).collect::<Vec<_>>());
        for conn in conns().filter(|conn| conn.0 % 3 == 0 && conn.0 % 2 == 1) {
            assert!(table.contains("/many/w", conn, WatcherType::Persistent));
            assert!(table.remove("/many/w", conn, WatcherType::Any));
        }
        assert_eq!(told(&mut table), odd().filter(|n| n % 5 == 0).collect::<Vec<_>>());
        conns().for_each(|conn| table.remove_conn(conn));
        assert_eq!((table.count(), table.data.recursive), (0, 0));
    }

    #[test]
    fn a_closed_connection_leaves_nothing() {
        let mut table = WatchTable::default();
        table.add_recursive(&text("/"), A);
        table.add(Table::Child, &text("/x"), A);
        table.remove_conn(A);
        assert_eq!(table.count(), 0);
        assert_eq!(table.data.recursive, 0);
        assert_eq!(table.data_summary(), (0, 0, 0));
    }
}
