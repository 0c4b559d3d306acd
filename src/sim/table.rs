//! A map from a 64-bit key that grows: open addressing, linear probing, removal by backward shift, values inside. O(1) however many
//! machines there are; its order of slots depends on the keys alone.

use crate::base::rng::mix;

pub struct Table<V> {
    slots: Box<[Option<(u64, V)>]>,
    len: usize,
}

impl<V> Default for Table<V> {
    fn default() -> Table<V> {
        Table { slots: empty(64), len: 0 }
    }
}

fn empty<V>(slots: usize) -> Box<[Option<(u64, V)>]> {
    std::iter::repeat_with(|| None).take(slots).collect()
}

impl<V> Table<V> {
    fn mask(&self) -> usize {
        self.slots.len() - 1
    }

    fn home(&self, key: u64) -> usize {
        mix(key) as usize & self.mask()
    }

    /// The slot of a key, or the free slot where it would go: there is always one.
    fn find(&self, key: u64) -> usize {
        let mut at = self.home(key);
        while self.slots[at].as_ref().is_some_and(|(other, _)| *other != key) {
            at = (at + 1) & self.mask();
        }
        at
    }

    pub fn get(&self, key: u64) -> Option<&V> {
        self.slots[self.find(key)].as_ref().map(|(_, value)| value)
    }

    pub fn get_mut(&mut self, key: u64) -> Option<&mut V> {
        let at = self.find(key);
        self.slots[at].as_mut().map(|(_, value)| value)
    }

    pub fn insert(&mut self, key: u64, value: V) {
        let at = self.find(key);
        if self.slots[at].replace((key, value)).is_none() {
            self.len += 1;
            if self.len * 2 > self.slots.len() {
                self.grow();
            }
        }
    }

    /// The value of a key, made now if there is none.
    pub fn entry(&mut self, key: u64) -> &mut V
    where
        V: Default,
    {
        if self.slots[self.find(key)].is_none() {
            self.insert(key, V::default());
        }
        let at = self.find(key);
        &mut self.slots[at].get_or_insert_with(|| (key, V::default())).1
    }

    fn grow(&mut self) {
        let twice = empty(2 * self.slots.len());
        for (key, value) in std::mem::replace(&mut self.slots, twice).into_iter().flatten() {
            let at = self.find(key);
            self.slots[at] = Some((key, value));
        }
    }

    pub fn remove(&mut self, key: u64) -> Option<V> {
        let mut hole = self.find(key);
        let (_, value) = self.slots[hole].take()?;
        self.len -= 1;
        let mut at = (hole + 1) & self.mask();
        while let Some((other, _)) = &self.slots[at] {
            // Whoever sits at or after its home and beyond the hole moves back into it.
            let home = self.home(*other);
            if at.wrapping_sub(home) & self.mask() >= at.wrapping_sub(hole) & self.mask() {
                self.slots[hole] = self.slots[at].take();
                hole = at;
            }
            at = (at + 1) & self.mask();
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use std::collections::BTreeMap;

    #[test]
    fn agrees_with_a_map_through_growth_and_churn() {
        let (mut rng, mut table, mut model) = (Rng::new(1), Table::default(), BTreeMap::new());
        for step in 0..40_000u32 {
            let key = rng.below(900);
            match rng.below(4) {
                0 => assert_eq!(table.remove(key), model.remove(&key)),
                1 => *table.entry(key) += *model.entry(key).and_modify(|n| *n += 1).or_insert(1) - table.get(key).copied().unwrap_or(0),
                _ => {
                    table.insert(key, step);
                    model.insert(key, step);
                }
            }
        }
        assert!((0..900).all(|key| table.get(key) == model.get(&key) && table.get_mut(key).copied() == model.get(&key).copied()));
    }
}
