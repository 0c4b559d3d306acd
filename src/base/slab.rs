//! A fixed number of records, allocated once, named by keys that go stale (law 2).
//!
//! A [`Key`] carries the generation of its slot, so a key of a record that has gone finds nothing, even when the slot is in use
//! again. Insertion and removal are O(1); a full slab refuses (law 3: the caller sheds the newest stranger and counts it).

use std::fmt;
use std::marker::PhantomData;

/// Names a record of a `Slab<T>`. 2^32 re-uses of one slot pass before a stale key could match again.
pub struct Key<T> {
    slot: u32,
    generation: u32,
    of: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// The place of the record: below the slab's capacity. For tables that run parallel to the slab, such as timers.
    pub fn slot(self) -> usize {
        self.slot as usize
    }

    /// The key as one word, for tokens that travel through the shell.
    pub fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// The key that [`Key::to_u64`] made a word of. A made-up word gives a key that finds nothing, or another record.
    pub fn from_u64(word: u64) -> Key<T> {
        Key { slot: word as u32, generation: (word >> 32) as u32, of: PhantomData }
    }
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Key<T> {
        *self
    }
}
impl<T> Copy for Key<T> {}
impl<T> PartialEq for Key<T> {
    fn eq(&self, other: &Key<T>) -> bool {
        (self.slot, self.generation) == (other.slot, other.generation)
    }
}
impl<T> Eq for Key<T> {}
impl<T> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{}", self.slot, self.generation)
    }
}

const NONE: u32 = u32::MAX;

struct Slot<T> {
    generation: u32,
    next_free: u32,
    value: Option<T>,
}

/// A table of records with a fixed number of slots.
pub struct Slab<T> {
    slots: Box<[Slot<T>]>,
    first_free: u32,
    len: usize,
}

impl<T> Slab<T> {
    /// Allocates room for `capacity` records (below 2^32 - 1), the only allocation ever made.
    pub fn new(capacity: usize) -> Slab<T> {
        assert!(capacity < NONE as usize);
        let slot = |i: usize| Slot { generation: 0, next_free: if i + 1 < capacity { i as u32 + 1 } else { NONE }, value: None };
        Slab { slots: (0..capacity).map(slot).collect(), first_free: if capacity > 0 { 0 } else { NONE }, len: 0 }
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether no slot is free.
    pub fn is_full(&self) -> bool {
        self.first_free == NONE
    }

    /// The number of slots.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// None when full; the value is then dropped by the caller's choice, nothing changed.
    pub fn insert(&mut self, value: T) -> Option<Key<T>> {
        let at = self.first_free;
        let slot = self.slots.get_mut(at as usize)?;
        self.first_free = slot.next_free;
        slot.value = Some(value);
        self.len += 1;
        Some(Key { slot: at, generation: slot.generation, of: PhantomData })
    }

    /// Takes a record out. None when the key is stale.
    pub fn remove(&mut self, key: Key<T>) -> Option<T> {
        let slot = self.slots.get_mut(key.slot as usize).filter(|s| s.generation == key.generation)?;
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        slot.next_free = self.first_free;
        self.first_free = key.slot;
        self.len -= 1;
        Some(value)
    }

    /// The record of a key. None when the key is stale.
    pub fn get(&self, key: Key<T>) -> Option<&T> {
        self.slots.get(key.slot as usize).filter(|s| s.generation == key.generation)?.value.as_ref()
    }

    /// The record of a key, to be changed. None when the key is stale.
    pub fn get_mut(&mut self, key: Key<T>) -> Option<&mut T> {
        self.slots.get_mut(key.slot as usize).filter(|s| s.generation == key.generation)?.value.as_mut()
    }

    /// The key of the record that is in `slot` now.
    pub fn key_at(&self, slot: usize) -> Option<Key<T>> {
        let found = self.slots.get(slot)?;
        found.value.as_ref()?;
        Some(Key { slot: slot as u32, generation: found.generation, of: PhantomData })
    }

    /// All records in slot order. O(capacity): for reports, never for a packet.
    pub fn iter(&self) -> impl Iterator<Item = (Key<T>, &T)> {
        self.slots.iter().enumerate().filter_map(|(i, slot)| {
            let key = Key { slot: i as u32, generation: slot.generation, of: PhantomData };
            slot.value.as_ref().map(|value| (key, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_keys_find_nothing() {
        let mut slab = Slab::new(2);
        let a = slab.insert("a").unwrap();
        assert_eq!(slab.remove(a), Some("a"));
        let b = slab.insert("b").unwrap();
        assert_eq!((a.slot(), slab.get(a), slab.get(b)), (b.slot(), None, Some(&"b")));
        assert_eq!(slab.remove(a), None);
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn a_full_slab_refuses_and_recovers() {
        let mut slab = Slab::new(3);
        let keys: Vec<_> = (0..3).map(|n| slab.insert(n).unwrap()).collect();
        assert!(slab.is_full() && slab.insert(9).is_none());
        assert_eq!(slab.remove(keys[1]), Some(1));
        assert_eq!(slab.insert(7).map(Key::slot), Some(1));
        assert_eq!(slab.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [0, 7, 2]);
        assert!(Slab::<u8>::new(0).insert(1).is_none());
    }

    #[test]
    fn keys_travel_as_words() {
        let mut slab = Slab::new(4);
        let first = slab.insert(1).unwrap();
        slab.remove(first);
        let key = slab.insert(2).unwrap();
        assert_eq!(Key::from_u64(key.to_u64()), key);
        assert_eq!(slab.key_at(key.slot()), Some(key));
        assert_eq!(slab.key_at(3), None);
    }
}
