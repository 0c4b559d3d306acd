//! Bytes of files that many machines load at once, copied where a read would cost a system call for each block.
//!
//! Whole pieces of a file, each in the one place that its number gives it. The machine that comes to the beginning of a piece has it read
//! in; one that finds its piece replaced meanwhile reads its block itself, so machines that load at very different places do no harm. A
//! piece is known by its file's number, which stands for one content ([`super::Files`] watches that).

use std::io;

use crate::base::machine::FileId;

/// Bytes of a piece.
const PIECE: usize = 16 * 1024;
/// Pieces, 4 MiB in all.
const PIECES: usize = 256;

#[derive(Clone, Copy, PartialEq, Eq)]
struct CachedPiece {
    file: FileId,
    piece: u64,
    len: usize,
}

pub struct Cache {
    bytes: Box<[u8]>,
    held: Box<[Option<CachedPiece>]>,
}

impl Default for Cache {
    fn default() -> Cache {
        Cache { bytes: vec![0; PIECES * PIECE].into(), held: vec![None; PIECES].into() }
    }
}

impl Cache {
    /// Copies one block of a file of `size` bytes; `read` gives bytes of the file at an offset. False: the block is not all here.
    pub fn copy(
        &mut self,
        (file, size): (FileId, u64),
        to: &mut [u8],
        offset: u64,
        mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
    ) -> bool {
        let block = to.len();
        let mut rest = to;
        while !rest.is_empty() {
            let at = offset + (block - rest.len()) as u64;
            let (piece, skip) = (at / PIECE as u64, (at % PIECE as u64) as usize);
            let start = piece * PIECE as u64;
            let len = size.saturating_sub(start).min(PIECE as u64) as usize;
            let wanted = CachedPiece { file, piece, len };
            let place = (piece as usize).wrapping_add((file.to_u64() as usize).wrapping_mul(61)) % PIECES;
            let Some(room) = self.bytes.get_mut(place * PIECE..place * PIECE + len) else { return false };
            if self.held[place] != Some(wanted) {
                if skip >= block {
                    return false;
                }
                self.held[place] = None;
                if !read(room, start).is_ok_and(|got| got == len) {
                    return false;
                }
                self.held[place] = Some(wanted);
            }
            let Some(here) = room.get(skip..).filter(|here| !here.is_empty()) else { return false };
            let count = here.len().min(rest.len());
            let (now, later) = rest.split_at_mut(count);
            now.copy_from_slice(&here[..count]);
            rest = later;
        }
        true
    }

    /// Drops what matches: a file's number is given to another content.
    pub fn forget(&mut self, matches: impl Fn(FileId) -> bool) {
        for held in self.held.iter_mut().filter(|held| held.is_some_and(|held| matches(held.file))) {
            *held = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn byte(file: FileId, at: u64) -> u8 {
        (at % 251) as u8 ^ (at / 4096) as u8 ^ file.to_u64() as u8
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        /// Whatever is asked for, what is copied is right; what is not held is refused.
        #[test]
        fn blocks_are_right(size in 1u64..9_000_000, asks in proptest::collection::vec((0u32..3, any::<u64>(), 1usize..20_000), 1..30)) {
            let mut cache = Cache::default();
            for (file, at, len) in asks {
                let (file, at) = (FileId::from_u64(file.into()), at % size);
                let len = len.min((size - at) as usize);
                let mut to = vec![0; len];
                let copied = cache.copy((file, size), &mut to, at, |room, at| {
                    room.iter_mut().zip(at..).for_each(|(to, at)| *to = byte(file, at));
                    Ok(room.len())
                });
                prop_assert!(!copied || to.iter().zip(at..).all(|(&to, at)| to == byte(file, at)));
            }
        }
    }

    #[test]
    fn a_machine_that_goes_through_a_file_reads_each_piece_once() {
        let mut cache = Cache::default();
        let (mut reads, size) = (0, 200_000);
        for block in 0..size / 1456 {
            let mut to = [0; 1456];
            assert!(cache.copy((FileId::from_u64(1), size), &mut to, block * 1456, |room, _| {
                reads += 1;
                Ok(room.len())
            }));
        }
        assert_eq!(reads, size.div_ceil(PIECE as u64));
        let mut to = [0; 100];
        assert!(!cache.copy((FileId::from_u64(2), size), &mut to, 200, |_, _| unreachable!()), "in the middle of a piece that is not here");
        assert!(!cache.copy((FileId::from_u64(2), size), &mut to, 0, |_, _| Ok(1)), "the disk has not all of it yet");
        cache.forget(|file| file == FileId::from_u64(1));
        assert!(!cache.copy((FileId::from_u64(1), size), &mut to, 200, |_, _| unreachable!()));
    }
}
