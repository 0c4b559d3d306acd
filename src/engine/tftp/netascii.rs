//! Netascii (RFC 764, by way of RFC 1350): a line feed travels as CR LF, a carriage return as CR NUL.
//!
//! The encoding stretches the text, so a block's place in the file depends on everything before it. A transfer keeps the place of its
//! current block; pairs may be split between blocks.

/// Where a block begins: a place in the file, and the second half of a pair that the block before had no room for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub offset: u64,
    carry: Option<u8>,
}

/// Fills `block` from the file's bytes at `place`; gives the number of bytes laid down and the place of the next block.
/// The block is short only when `text` ran out, so `text` must hold `block.len()` bytes unless the file ends.
pub fn encode(place: Place, text: &[u8], block: &mut [u8]) -> (usize, Place) {
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
        let (mut place, mut all, mut blocks) = (Place::default(), Vec::new(), 0);
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
