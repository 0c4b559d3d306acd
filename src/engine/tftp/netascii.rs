//! Netascii (RFC 764, by way of RFC 1350): a line feed travels as CR LF, a carriage return as CR NUL.
//!
//! The encoding stretches the text, so a block's place in the file depends on everything before it. A transfer keeps the place of its
//! current block ([`Cursor`]); pairs may be split between blocks.

/// Where a block begins: a place in the file, and the second half of a pair that the block before had no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockStart {
    pub offset: u64,
    pub carry: Option<u8>,
}

/// Where a transfer stands: the place of the block that is being sent, and of the one after it once that is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    offset: u64,
    next_offset: u64,
    carry: Option<u8>,
    next_carry: Option<u8>,
    /// Reads that are not answered yet. Answers come in order, and all but the last are of a place that may be behind.
    reads: u8,
}

impl Cursor {
    /// At a block that an earlier daemon has come to.
    pub fn at(start: BlockStart) -> Cursor {
        Cursor { offset: start.offset, carry: start.carry, ..Cursor::default() }
    }

    /// Where the present block begins.
    pub fn start(&self) -> BlockStart {
        BlockStart { offset: self.offset, carry: self.carry }
    }

    /// Where in the file the present block begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Counts a read of the present block, if one more may be under way.
    pub fn reads(self) -> Option<Cursor> {
        Some(Cursor { reads: self.reads.checked_add(1)?, ..self })
    }

    /// Counts the answer to a read. False: a later read is under way, and its answer is the one that counts.
    pub fn answered(&mut self) -> bool {
        self.reads = self.reads.saturating_sub(1);
        self.reads == 0
    }

    /// Lays the present block down; gives its length.
    pub fn lay(&mut self, text: &[u8], block: &mut [u8]) -> usize {
        let (len, next) = encode(BlockStart { offset: self.offset, carry: self.carry }, text, block);
        (self.next_offset, self.next_carry) = (next.offset, next.carry);
        len
    }

    /// The present block has arrived.
    pub fn arrived(&mut self) {
        (self.offset, self.carry) = (self.next_offset, self.next_carry);
    }
}

/// Fills `block` from the file's bytes at `place`; gives the number of bytes laid down and the place of the next block.
/// The block is short only when `text` ran out, so `text` must hold `block.len()` bytes unless the file ends.
fn encode(place: BlockStart, text: &[u8], block: &mut [u8]) -> (usize, BlockStart) {
    let (mut len, mut next) = (0, place);
    let mut text = text.iter();
    for slot in block {
        *slot = match next.carry.take() {
            Some(second) => second,
            None => {
                let Some(&byte) = text.next() else { break };
                next.offset += 1;
                match byte {
                    b'\n' => {
                        next.carry = Some(b'\n');
                        b'\r'
                    }
                    b'\r' => {
                        next.carry = Some(0);
                        b'\r'
                    }
                    byte => byte,
                }
            }
        };
        len += 1;
    }
    (len, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &[u8], blksize: usize) -> (Vec<u8>, usize) {
        let (mut place, mut all, mut blocks) = (BlockStart::default(), Vec::new(), 0);
        loop {
            let mut block = vec![0; blksize];
            let from = place.offset as usize;
            let (len, next) = encode(place, &text[from..text.len().min(from + blksize)], &mut block);
            all.extend_from_slice(&block[..len]);
            blocks += 1;
            place = next;
            if len < blksize {
                return (all, blocks);
            }
        }
    }

    #[test]
    fn pairs_survive_every_block_boundary() {
        let text = b"one\ntwo\r\n\n\rend";
        let expected = b"one\r\ntwo\r\0\r\n\r\n\r\0end";
        for blksize in 1..30 {
            let (all, blocks) = whole(text, blksize);
            assert_eq!(all, expected, "blksize {blksize}");
            assert_eq!(blocks, expected.len() / blksize + 1);
        }
    }
}
