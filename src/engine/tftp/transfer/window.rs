//! The window: which blocks have left and which have arrived, and what an ACK means (RFC 1350, 7440).
//!
//! Blocks are counted from 1 in 64 bits; on the wire the number wraps. It always holds, and is asserted after every change, that
//! `acked <= sent <= highest <= acked + size`.

/// What an ACK means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// The whole file has arrived.
    Done,
    /// Everything that was sent has arrived: the next window.
    Next,
    /// The window broke after this block: it goes on from there.
    Broken,
    /// The client repeats its last ACK, late enough to be its own retry.
    Retry,
    /// It repeats its last ACK while our packets may still be under way (Sorcerer's Apprentice): not to be answered.
    Echo,
    /// Outside the window.
    Stale,
}

pub struct Window {
    /// Blocks that are behind.
    acked: u64,
    /// The highest that left since the last rewind.
    sent: u64,
    /// The highest that ever left: what is below it is sent again.
    highest: u64,
    /// Blocks in all; the last is short. Unknown (the maximum) in netascii until the last was made.
    blocks: u64,
    /// Blocks that may be under way.
    size: u16,
}

impl Window {
    /// Lock-step, until something else is settled.
    pub const NEW: Window = Window { acked: 0, sent: 0, highest: 0, blocks: u64::MAX, size: 1 };

    /// As an earlier daemon has left it: what may have left of the window behind `acked` has, as far as anybody knows. None: this cannot be.
    pub fn taken_up(acked: u64, size: u16, blocks: u64) -> Option<Window> {
        let window = Window { acked, sent: acked, highest: acked, blocks, size };
        let end = window.end();
        (acked < blocks).then_some(Window { sent: end, highest: end, ..window })
    }

    pub fn acked(&self) -> u64 {
        self.acked
    }

    pub fn sent(&self) -> u64 {
        self.sent
    }

    pub fn highest(&self) -> u64 {
        self.highest
    }

    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    pub fn size(&self) -> u16 {
        self.size
    }

    /// Blocks that are not acknowledged.
    pub fn under_way(&self) -> u64 {
        self.sent - self.acked
    }

    /// The last block of the window that begins behind `acked`.
    pub fn end(&self) -> u64 {
        self.acked.saturating_add(u64::from(self.size)).min(self.blocks)
    }

    /// What an ACK of a 16-bit block number means now. `early`: our last packet left too recently for this to be a retry.
    /// Moves nothing; gives the block that is acknowledged with the meaning.
    pub fn judge(&self, block: u16, early: bool) -> (Ack, u64) {
        let ahead = u64::from(block.wrapping_sub(self.acked as u16));
        let acked = self.acked + ahead;
        let meaning = match ahead {
            0 if early => Ack::Echo,
            0 => Ack::Retry,
            // After a rewind or a cold read, what left before may still arrive and be acknowledged.
            _ if acked > self.highest => Ack::Stale,
            _ if acked == self.blocks => Ack::Done,
            _ if acked >= self.sent => Ack::Next,
            _ => Ack::Broken,
        };
        (meaning, acked)
    }

    /// Asserts what always holds.
    fn check(&self) {
        let Window { acked, sent, highest, .. } = *self;
        let holds = acked <= sent && sent <= highest && highest <= acked + u64::from(self.size);
        assert!(holds, "{acked} acknowledged, {sent} sent, {highest} ever, window of {}", self.size);
    }

    /// The size of the window and the number of blocks, before anything has left.
    pub(super) fn settled(&mut self, size: u16, blocks: u64) {
        (self.size, self.blocks) = (size, blocks);
        self.check();
    }

    /// Nothing has left yet: the window is no larger than this.
    pub(super) fn narrowed(&mut self, size: u64) {
        self.size = u64::from(self.size).min(size) as u16;
        self.check();
    }

    /// The last block was made: there is no other one behind it.
    pub(super) fn ends_at(&mut self, block: u64) {
        self.blocks = block;
    }

    /// The blocks `first..=last` leave; gives how many of them not for the first time.
    pub(super) fn left(&mut self, first: u64, last: u64) -> u64 {
        let again = (self.highest + 1).saturating_sub(first).min(last + 1 - first);
        self.sent = self.sent.max(last);
        self.highest = self.highest.max(last);
        self.check();
        again
    }

    /// Everything up to this block has arrived, and nothing behind it.
    pub(super) fn acknowledged(&mut self, block: u64) {
        (self.acked, self.sent) = (block, block);
        self.check();
    }

    /// Nothing has left behind what is acknowledged.
    pub(super) fn forgotten(&mut self) {
        (self.sent, self.highest) = (self.acked, self.acked);
        self.check();
    }

    /// Everything that is not acknowledged will leave again.
    pub(super) fn rewound(&mut self) {
        self.sent = self.acked;
        self.check();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(acked: u64, sent: u64, blocks: u64) -> Window {
        Window { acked, sent, highest: sent, blocks, size: 4 }
    }

    #[test]
    fn what_acks_mean() {
        let table = [
            // acked, sent, blocks, ACK, early -> meaning, acknowledged
            (0, 1, 9, 1, false, Ack::Next, 1),
            (0, 1, 9, 0, false, Ack::Retry, 0),
            (0, 1, 9, 0, true, Ack::Echo, 0),
            (8, 9, 9, 9, false, Ack::Done, 9),
            (4, 8, 99, 8, false, Ack::Next, 8),
            (4, 8, 99, 6, false, Ack::Broken, 6),
            (4, 8, 99, 4, true, Ack::Echo, 4),
            (4, 8, 99, 9, false, Ack::Stale, 9),
            // the number wraps
            (65_535, 65_536, 70_000, 0, false, Ack::Next, 65_536),
            (65_534, 65_538, 70_000, 1, false, Ack::Broken, 65_537),
            (131_071, 131_072, 200_000, 0, false, Ack::Next, 131_072),
        ];
        for (acked, sent, blocks, block, early, meaning, at) in table {
            assert_eq!(window(acked, sent, blocks).judge(block, early), (meaning, at), "{acked} {sent} {block}");
        }
        assert_eq!(window(4, 8, 99).judge(3, false).0, Ack::Stale, "an old ACK");
        let rewound = Window { sent: 5, ..window(4, 8, 99) };
        assert_eq!([5, 7, 8, 9].map(|block| rewound.judge(block, false).0), [Ack::Next, Ack::Next, Ack::Next, Ack::Stale]);
    }

    #[test]
    fn what_leaves_again_is_counted() {
        let mut it = Window::NEW;
        it.settled(4, 99);
        assert_eq!(it.left(1, 4), 0);
        it.acknowledged(2);
        assert_eq!((it.left(3, 6), it.sent(), it.end()), (2, 6, 6), "two of them for the first time");
        it.rewound();
        assert_eq!((it.under_way(), it.highest(), it.left(6, 6)), (0, 6, 1));
    }

    #[test]
    #[should_panic(expected = "5 sent, 5 ever, window of 4")]
    fn no_more_leaves_than_the_window_holds() {
        let mut it = Window::NEW;
        it.settled(4, 99);
        it.left(1, 5);
    }
}
