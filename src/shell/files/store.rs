//! Bytes of far files: all that is sent of one comes from here, since asking for its pages could wait.
//!
//! Pieces of 64 KiB in sets of eight; a set gives up the piece that was used the longest ago. A place that a reader is filling is given to nobody else
//! until it has answered, which takes one place from a file that hangs. A piece is known by its file's number, which stands for one content.

use crate::base::machine::FileId;
use crate::base::rng::mix;

use super::super::work::READERS;
use super::super::work::message::BODY_MAX;

/// Bytes of a piece: those of one message.
pub const PIECE: usize = BODY_MAX;
const WAYS: usize = 8;
const SETS: usize = 128;
/// In MiB.
pub const SIZE: usize = (SETS * WAYS * PIECE) >> 20;

// There is a place for every reader to fill, whatever the others fill.
const _: () = assert!(READERS < WAYS);

#[derive(Clone, Copy, PartialEq, Eq)]
enum StoreSlot {
    Nothing,
    /// A reader fills it.
    Filling(FileId, u64),
    Piece(FileId, u64),
}

pub struct Store {
    bytes: Box<[u8]>,
    held: Box<[StoreSlot]>,
    /// When each was used last, in uses.
    used: Box<[u64]>,
    uses: u64,
}

impl Store {
    pub fn new() -> Store {
        let places = SETS * WAYS;
        Store {
            bytes: vec![0; places * PIECE].into(),
            held: vec![StoreSlot::Nothing; places].into(),
            used: vec![0; places].into(),
            uses: 0,
        }
    }

    /// All of its memory.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn set(file: FileId, piece: u64) -> std::ops::Range<usize> {
        // Neighbours of one file are in neighbouring sets.
        let first = (mix(file.to_u64()).wrapping_add(piece) % SETS as u64) as usize * WAYS;
        first..first + WAYS
    }

    fn find(&self, file: FileId, piece: u64) -> Option<usize> {
        Store::set(file, piece).find(|&at| self.held[at] == StoreSlot::Piece(file, piece))
    }

    /// The first piece that is missing of some bytes of a file.
    pub fn missing(&self, file: FileId, offset: u64, bytes: usize) -> Option<u64> {
        let piece = PIECE as u64;
        (offset / piece..(offset + bytes as u64).div_ceil(piece)).find(|&piece| self.find(file, piece).is_none())
    }

    /// Copies bytes of a file that are there; gives how many there are.
    pub fn copy(&mut self, file: FileId, to: &mut [u8], offset: u64) -> usize {
        let mut done = 0;
        while let Some(rest) = to.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset + done as u64;
            let (piece, skip) = (at / PIECE as u64, (at % PIECE as u64) as usize);
            let Some(place) = self.find(file, piece) else { break };
            self.uses += 1;
            self.used[place] = self.uses;
            let count = rest.len().min(PIECE - skip);
            let from = place * PIECE + skip;
            rest[..count].copy_from_slice(&self.bytes[from..from + count]);
            done += count;
        }
        done
    }

    /// A place for a reader to fill with a piece. None: another one does, or it is there.
    pub fn reserve(&mut self, file: FileId, piece: u64) -> Option<usize> {
        let set = Store::set(file, piece);
        let is_it = |held: &StoreSlot| matches!(held, StoreSlot::Filling(of, at) | StoreSlot::Piece(of, at) if (*of, *at) == (file, piece));
        if self.held[set.clone()].iter().any(is_it) {
            return None;
        }
        let free = set.filter(|&at| !matches!(self.held[at], StoreSlot::Filling(..)));
        let place = free.min_by_key(|&at| (self.held[at] != StoreSlot::Nothing, self.used[at]))?;
        self.held[place] = StoreSlot::Filling(file, piece);
        Some(place)
    }

    /// Where that reader's answer goes.
    pub fn room(&mut self, place: usize) -> &mut [u8] {
        self.bytes.get_mut(place * PIECE..(place + 1) * PIECE).unwrap_or_default()
    }

    /// The reader has answered: the piece is there, or is not.
    pub fn filled(&mut self, place: usize, good: bool) {
        self.held[place] = match self.held[place] {
            StoreSlot::Filling(file, piece) if good => StoreSlot::Piece(file, piece),
            _ => StoreSlot::Nothing,
        };
        self.uses += 1;
        self.used[place] = self.uses;
    }

    /// Drops a file's pieces.
    pub fn forget(&mut self, matches: impl Fn(FileId) -> bool) {
        for held in self.held.iter_mut() {
            if matches!(held, StoreSlot::Piece(file, _) if matches(*file)) {
                *held = StoreSlot::Nothing;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(store: &mut Store, file: FileId, piece: u64) {
        let place = store.reserve(file, piece).unwrap();
        store.room(place).fill(piece as u8);
        store.filled(place, true);
    }

    #[test]
    fn what_was_filled_is_copied_across_pieces() {
        let mut store = Store::new();
        let file = FileId::from_u64(7);
        assert_eq!(store.missing(file, 10, 100), Some(0));
        fill(&mut store, file, 0);
        assert_eq!(store.missing(file, PIECE as u64 - 1, 2), Some(1));
        fill(&mut store, file, 1);
        assert_eq!(store.missing(file, 0, 2 * PIECE), None);
        let mut to = [9; 4];
        assert_eq!((store.copy(file, &mut to, PIECE as u64 - 2), to), (4, [0, 0, 1, 1]));
        assert_eq!(store.copy(file, &mut to, 2 * PIECE as u64 - 1), 1, "as far as there is");
        store.forget(|of| of == file);
        assert_eq!(store.missing(file, 0, 1), Some(0));
    }

    #[test]
    fn places_that_are_being_filled_are_nobody_elses() {
        let mut store = Store::new();
        let file = FileId::from_u64(1);
        // All of one set.
        let hanging: Vec<_> = (0..READERS as u64).map(|n| store.reserve(file, n * SETS as u64).unwrap()).collect();
        assert_eq!(store.reserve(file, 0), None, "a reader is at it");
        for n in 10..100 {
            fill(&mut store, file, n * SETS as u64);
        }
        assert_eq!(store.missing(file, 99 * (SETS * PIECE) as u64, 1), None, "the newest is there");
        for place in hanging {
            store.filled(place, false);
        }
        assert_eq!(store.missing(file, 0, 1), Some(0), "it came to nothing");
        fill(&mut store, file, 0);
    }
}
