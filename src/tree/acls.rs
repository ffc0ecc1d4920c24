//! Access lists, each kept once and named by a number, as snapshots name them.
//!
//! Java: `ReferenceCountedACLCache`. The numbers show in snapshots, so they are given out as Java gives them:
//! the next one for each list not in use, never one again (data-model 10.3).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::acl::Acl;

/// A slot of the table, held by each node that uses the list; 0 is the open list of built-in nodes.
pub type AclSlot = u32;

pub const OPEN_SLOT: AclSlot = 0;
/// How snapshots name the open list of built-in nodes.
pub const OPEN_ID: i64 = -1;

/// The next list gets the next id, so the largest one can't be taken.
pub fn may_be_id(id: i64) -> bool {
    id > 0 && id < i64::MAX
}

#[derive(Debug)]
struct Interned {
    id: i64,
    acl: Arc<[Acl]>,
    users: u32,
}

#[derive(Debug)]
pub struct AclTable {
    /// By slot; slot 0 is the open list, with no count kept.
    lists: Vec<Interned>,
    free: Vec<AclSlot>,
    by_list: HashMap<Arc<[Acl]>, AclSlot, foldhash::fast::FixedState>,
    by_id: BTreeMap<i64, AclSlot>,
    last_id: i64,
    /// Ids that came or went since the image was last brought up to date.
    touched: Vec<i64>,
}

impl AclTable {
    /// `seed` keys the hash: clients choose lists.
    pub fn new(seed: u64) -> Self {
        let open = Interned { id: OPEN_ID, acl: Acl::open().into(), users: 0 };
        Self {
            lists: vec![open],
            free: Vec::new(),
            by_list: HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed)),
            by_id: BTreeMap::new(),
            last_id: 0,
            touched: Vec::new(),
        }
    }

    pub fn list(&self, slot: AclSlot) -> &Arc<[Acl]> {
        &self.lists[slot as usize].acl
    }

    pub fn id(&self, slot: AclSlot) -> i64 {
        self.lists[slot as usize].id
    }

    /// Counts one more user of `acl`; a null list is the open one.
    pub fn intern(&mut self, acl: Option<&[Acl]>) -> AclSlot {
        let Some(acl) = acl else { return OPEN_SLOT };
        if let Some(&slot) = self.by_list.get(acl) {
            self.lists[slot as usize].users += 1;
            return slot;
        }
        self.last_id += 1;
        // What it was decoded from is not kept for its sake.
        let acl = acl.iter().map(Acl::detach).collect();
        let slot = self.enter(self.last_id, acl);
        self.lists[slot as usize].users = 1;
        slot
    }

    fn enter(&mut self, id: i64, acl: Arc<[Acl]>) -> AclSlot {
        let interned = Interned { id, acl: acl.clone(), users: 0 };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.lists[slot as usize] = interned;
                slot
            }
            None => {
                self.lists.push(interned);
                (self.lists.len() - 1) as AclSlot
            }
        };
        self.by_list.insert(acl, slot);
        self.by_id.insert(id, slot);
        self.touched.push(id);
        slot
    }

    /// One user fewer; the last one takes the list and its id along.
    pub fn release(&mut self, slot: AclSlot) {
        if slot == OPEN_SLOT {
            return;
        }
        let interned = &mut self.lists[slot as usize];
        interned.users -= 1;
        if interned.users == 0 {
            self.forget(slot);
        }
    }

    fn forget(&mut self, slot: AclSlot) {
        let Interned { id, acl, .. } = &self.lists[slot as usize];
        // A snapshot may name one list twice; only the entry that lookups find is taken out.
        if self.by_list.get(acl) == Some(&slot) {
            self.by_list.remove(acl);
        }
        self.by_id.remove(id);
        self.touched.push(*id);
        self.free.push(slot);
    }

    /// Enters a list under the id that a snapshot gave it. False if that id is taken or not positive.
    pub fn load(&mut self, id: i64, acl: Vec<Acl>) -> bool {
        if !may_be_id(id) {
            return false;
        }
        let Entry::Vacant(_) = self.by_id.entry(id) else { return false };
        self.enter(id, acl.into());
        self.last_id = self.last_id.max(id);
        true
    }

    /// Counts one more user of the list that a snapshot calls `id`.
    pub fn use_id(&mut self, id: i64) -> Option<AclSlot> {
        if id == OPEN_ID {
            return Some(OPEN_SLOT);
        }
        let slot = *self.by_id.get(&id)?;
        self.lists[slot as usize].users += 1;
        Some(slot)
    }

    /// Forgets what no node uses, after loading.
    pub fn purge_unused(&mut self) {
        let unused: Vec<AclSlot> =
            self.by_id.values().copied().filter(|slot| self.lists[*slot as usize].users == 0).collect();
        for slot in unused {
            self.forget(slot);
        }
    }

    /// Every list with its id, in order of ids.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (i64, &Arc<[Acl]>)> + '_ {
        self.by_id.iter().map(|(id, slot)| (*id, &self.lists[*slot as usize].acl))
    }

    /// Everything counts as new.
    pub fn mark_unsaved(&mut self) {
        self.touched = self.by_id.keys().copied().collect();
    }

    /// Forgets what came, but not what went.
    pub fn mark_saved(&mut self) {
        self.touched.retain(|id| !self.by_id.contains_key(id));
    }

    /// The ids that came or went since the last call, each with its list if it is still there.
    pub fn take_touched(&mut self) -> Vec<(i64, Option<Arc<[Acl]>>)> {
        let mut ids = std::mem::take(&mut self.touched);
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter().map(|id| (id, self.by_id.get(&id).map(|slot| self.list(*slot).clone()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // data-model 13 #87
    #[test]
    fn ids_are_given_out_as_java_gives_them() {
        let mut table = AclTable::new(7);
        let read = [Acl::new(1, "world", "anyone")];
        let own = [Acl::new(31, "digest", "a:b")];
        let read_slot = table.intern(Some(&read));
        assert_eq!(table.id(read_slot), 1);
        let own_slot = table.intern(Some(&own));
        assert_eq!(table.id(own_slot), 2);
        assert_eq!(table.intern(Some(&read)), read_slot);
        table.release(own_slot);
        let again = table.intern(Some(&own));
        assert_eq!(table.id(again), 3, "a released id is not given out again");
        table.release(read_slot);
        assert_eq!(table.iter().map(|(id, _)| id).collect::<Vec<_>>(), [1, 3]);
    }
}
