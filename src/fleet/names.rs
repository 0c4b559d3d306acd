//! The names of loaded files, each kept once.

use super::Name;
use super::tftp::Hash;
use crate::base::index::Index;

/// A fixed table: names beyond its capacity are all one.
pub(super) struct NameTable {
    names: Vec<Name>,
    index: Index,
}

impl NameTable {
    /// The place of names that found no room.
    pub const OTHER: u32 = u32::MAX;

    pub fn new(capacity: usize, seed: u64) -> NameTable {
        NameTable { names: Vec::with_capacity(capacity), index: Index::new(capacity, seed) }
    }

    pub fn intern(&mut self, name: &Name) -> u32 {
        let mut hash = Hash::default();
        hash.add(name.bytes());
        let key = hash.finish();
        if let Some(place) = self.index.get(key) {
            return place;
        }
        let place = self.names.len();
        if place == self.names.capacity() || !self.index.insert(key, place as u32) {
            return NameTable::OTHER;
        }
        self.names.push(*name);
        place as u32
    }

    /// As text; bytes that are none are replaced.
    pub fn text(&self, place: u32) -> String {
        let name = self.names.get(place as usize);
        name.map_or_else(|| "(others)".into(), |name| String::from_utf8_lossy(name.bytes()).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_calls_the_rest_others() {
        let mut names = NameTable::new(2, 0);
        let places: Vec<u32> = ["a", "b", "a", "c", "b"].iter().map(|name| names.intern(&Name::new(name.as_bytes()).unwrap())).collect();
        assert_eq!(places, [0, 1, 0, NameTable::OTHER, 1]);
        assert_eq!((names.text(1), names.text(NameTable::OTHER)), ("b".into(), "(others)".into()));
    }
}
