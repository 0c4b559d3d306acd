//! A fixed-size map from a 64-bit key to a 32-bit value: open addressing, linear probing, removal by backward shift (no
//! tombstones, so a year of churn costs nothing). Allocated once, at most three quarters full, deterministic for a seed.
//!
//! The seed makes the slot order unpredictable from outside, so that nobody can choose MACs that all collide.

use super::rng::mix;

#[derive(Clone, Copy)]
struct IndexEntry {
    key: u64,
    value: u32,
    used: bool,
}

/// A map from 64-bit keys to 32-bit values with a fixed number of places.
pub struct Index {
    entries: Box<[IndexEntry]>,
    len: usize,
    seed: u64,
}

impl Index {
    /// Room for `capacity` keys.
    pub fn new(capacity: usize, seed: u64) -> Index {
        let slots = (capacity + capacity / 3 + 2).next_power_of_two();
        Index { entries: vec![IndexEntry { key: 0, value: 0, used: false }; slots].into(), len: 0, seed }
    }

    /// How many keys it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no key.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn home(&self, key: u64) -> usize {
        mix(key ^ self.seed) as usize & (self.entries.len() - 1)
    }

    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.entries.len() - 1)
    }

    /// The slot of `key`, or the free slot where it would go.
    fn find(&self, key: u64) -> usize {
        let mut at = self.home(key);
        while self.entries[at].used && self.entries[at].key != key {
            at = self.next(at);
        }
        at
    }

    /// The value of `key`, if it has one.
    pub fn get(&self, key: u64) -> Option<u32> {
        let entry = &self.entries[self.find(key)];
        entry.used.then_some(entry.value)
    }

    /// Sets the value of `key`. False when the index is full and the key is new; nothing is changed then.
    pub fn insert(&mut self, key: u64, value: u32) -> bool {
        let at = self.find(key);
        if !self.entries[at].used {
            if (self.len + 1) * 4 > self.entries.len() * 3 {
                return false;
            }
            self.len += 1;
        }
        self.entries[at] = IndexEntry { key, value, used: true };
        true
    }

    /// Removes `key`. Gives its value, if it had one.
    pub fn remove(&mut self, key: u64) -> Option<u32> {
        let mut hole = self.find(key);
        if !self.entries[hole].used {
            return None;
        }
        let value = self.entries[hole].value;
        let mask = self.entries.len() - 1;
        let mut at = self.next(hole);
        while self.entries[at].used {
            // Whoever sits at or after its home and beyond the hole moves back into it.
            let home = self.home(self.entries[at].key);
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.entries[hole] = self.entries[at];
                hole = at;
            }
            at = self.next(at);
        }
        self.entries[hole].used = false;
        self.len -= 1;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use std::collections::BTreeMap;

    #[test]
    fn agrees_with_a_map_through_churn() {
        for seed in 0..50 {
            let (mut rng, mut index, mut model) = (Rng::new(seed), Index::new(64, seed), BTreeMap::new());
            for step in 0..4000u32 {
                let key = rng.below(90);
                if rng.chance(500_000) {
                    if model.contains_key(&key) || model.len() < 64 {
                        assert!(index.insert(key, step));
                        model.insert(key, step);
                    }
                } else {
                    assert_eq!(index.remove(key), model.remove(&key));
                }
                assert_eq!(index.len(), model.len());
            }
            for key in 0..90 {
                assert_eq!(index.get(key), model.get(&key).copied());
            }
        }
    }

    #[test]
    fn a_full_index_refuses_new_keys_only() {
        let mut index = Index::new(4, 1);
        let taken = (0..1000u64).take_while(|&key| index.insert(key, 1)).count();
        assert!(taken >= 4);
        assert!(index.insert(0, 5));
        assert_eq!(index.get(0), Some(5));
    }
}
