//! From the hash of a path to the slots of the nodes that may have it.
//!
//! A million znodes do not fit into a processor's cache, so a look-up waits for memory: once here, once for
//! the node, once for its name. The whole hash stands in the table, so a node is touched only if it is almost
//! surely the right one, and where a look-up will go is known before it goes there: requests that arrive
//! together are looked up together, their waits one beside the other (`prefetch`).
//!
//! Many small tables, with open addressing and no tombstones: each grows by itself, so no insertion waits for
//! a million entries to move.

use super::node::Ix;

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u32,
    ix: Ix,
}

const EMPTY: Entry = Entry { hash: 0, ix: Ix::MAX };

#[derive(Debug, Default)]
struct Shard {
    /// At most three quarters of them taken.
    entries: Box<[Entry]>,
    taken: usize,
}

impl Shard {
    /// Where a hash belongs: as far into the table as it is into all hashes. Its low bits chose the shard.
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash >> SHARD_BITS) * self.entries.len() as u64) >> (32 - SHARD_BITS)) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.entries.len() { 0 } else { at + 1 }
    }

    /// How many steps lead from one place to another.
    fn steps(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.entries.len() - from }
    }

    fn put(&mut self, entry: Entry) {
        let mut at = self.home(entry.hash);
        while self.entries[at].ix != EMPTY.ix {
            at = self.after(at);
        }
        self.entries[at] = entry;
    }

    /// By a quarter: what is not taken is memory too.
    fn grow(&mut self) {
        self.resize((self.entries.len() * 5 / 4).max(8));
    }

    fn resize(&mut self, larger: usize) {
        let old = std::mem::replace(&mut self.entries, vec![EMPTY; larger].into());
        for entry in old.iter().filter(|entry| entry.ix != EMPTY.ix) {
            self.put(*entry);
        }
    }
}

const SHARD_BITS: u32 = 8;

#[derive(Debug)]
pub struct Index {
    shards: Box<[Shard]>,
}

impl Default for Index {
    fn default() -> Self {
        Self { shards: (0..1 << SHARD_BITS).map(|_| Shard::default()).collect() }
    }
}

impl Index {
    fn shard(&self, hash: u32) -> &Shard {
        &self.shards[hash as usize % (1 << SHARD_BITS)]
    }

    fn shard_mut(&mut self, hash: u32) -> &mut Shard {
        &mut self.shards[hash as usize % (1 << SHARD_BITS)]
    }

    /// The slot with this hash that `matches`.
    pub fn find(&self, hash: u32, mut matches: impl FnMut(Ix) -> bool) -> Option<Ix> {
        let shard = self.shard(hash);
        if shard.entries.is_empty() {
            return None;
        }
        let mut at = shard.home(hash);
        loop {
            let entry = shard.entries[at];
            if entry.ix == EMPTY.ix {
                return None;
            }
            if entry.hash == hash && matches(entry.ix) {
                return Some(entry.ix);
            }
            at = shard.after(at);
        }
    }

    /// Makes room for `count` entries in all.
    pub fn reserve(&mut self, count: usize) {
        let each = count >> SHARD_BITS;
        // Shards differ by a few times the root of their size.
        let wanted = (each + 4 * each.isqrt()) * 4 / 3 + 8;
        for shard in self.shards.iter_mut().filter(|shard| shard.entries.len() < wanted) {
            shard.resize(wanted);
        }
    }

    pub fn insert(&mut self, hash: u32, ix: Ix) {
        assert!(ix != EMPTY.ix, "more than 2^32 - 1 znodes");
        let shard = self.shard_mut(hash);
        if (shard.taken + 1) * 4 > shard.entries.len() * 3 {
            shard.grow();
        }
        shard.taken += 1;
        shard.put(Entry { hash, ix });
    }

    /// Takes an entry out, which must be there, and moves back those that were displaced past it.
    pub fn remove(&mut self, hash: u32, ix: Ix) {
        let shard = self.shard_mut(hash);
        let mut hole = shard.home(hash);
        while shard.entries[hole].ix != ix {
            assert!(shard.entries[hole].ix != EMPTY.ix, "every node is in the index");
            hole = shard.after(hole);
        }
        let mut at = shard.after(hole);
        while shard.entries[at].ix != EMPTY.ix {
            let home = shard.home(shard.entries[at].hash);
            // It may move into the hole unless that lies before its home.
            if shard.steps(home, at) >= shard.steps(hole, at) {
                shard.entries[hole] = shard.entries[at];
                hole = at;
            }
            at = shard.after(at);
        }
        shard.entries[hole] = EMPTY;
        shard.taken -= 1;
    }

    /// Asks memory for the place at which a look-up of this hash begins.
    pub fn prefetch(&self, hash: u32) {
        let shard = self.shard(hash);
        if !shard.entries.is_empty() {
            prefetch(&shard.entries[shard.home(hash)]);
        }
    }
}

/// Asks memory for a cache line, and does not wait for it.
pub fn prefetch<T: ?Sized>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing and cannot fault.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Against a map, with hashes that collide often.
    #[test]
    fn it_is_a_map() {
        let mut index = Index::default();
        let mut twin: BTreeMap<Ix, u32> = BTreeMap::new();
        let mut state = 1u64;
        for step in 0..200_000u32 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let random = (state >> 33) as u32;
            // Few shards, and homes close to the end of a table: long runs, which wrap around it.
            let hash = (u32::MAX - ((random % 300) << 20)) & (u32::MAX << SHARD_BITS) | (random % 3);
            if random % 5 < 3 {
                index.insert(hash, step);
                twin.insert(step, hash);
            } else if let Some((ix, hash)) = twin.iter().nth(random as usize % twin.len().max(1)).map(|(i, h)| (*i, *h))
            {
                index.remove(hash, ix);
                twin.remove(&ix);
            }
            if twin.len() > 600 {
                for (ix, hash) in std::mem::take(&mut twin) {
                    assert_eq!(index.find(hash, |found| found == ix), Some(ix));
                    index.remove(hash, ix);
                    assert_eq!(index.find(hash, |found| found == ix), None);
                }
            }
        }
        for (ix, hash) in twin {
            assert_eq!(index.find(hash, |found| found == ix), Some(ix));
        }
    }
}
