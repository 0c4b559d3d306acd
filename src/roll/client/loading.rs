//! What a machine loads, whatever service serves it: how many transfers run, and the last that began, which speaks for it.

/// A token of no transfer.
const NONE: u64 = u64::MAX;

pub struct Loading {
    last: u64,
    running: u16,
    begun: u8,
}

impl Loading {
    pub(super) const NONE: Loading = Loading { last: NONE, running: 0, begun: 0 };

    /// Running transfers.
    pub fn running(&self) -> u16 {
        self.running
    }

    /// The transfer that it began last, as its service's own token.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Counts one more transfer. The count wraps; it makes each transfer different from the one before.
    pub fn counts(&mut self) -> u8 {
        self.begun = self.begun.wrapping_add(1);
        self.begun
    }

    /// An earlier daemon has counted so far.
    pub fn goes_on_from(&mut self, count: u8) {
        self.begun = count;
    }

    /// A transfer begins; gives the token of the one that began before.
    pub fn begins(&mut self, token: u64) -> u64 {
        self.running += 1;
        std::mem::replace(&mut self.last, token)
    }

    /// A transfer ends. True: it was the last one that ran.
    pub fn ends(&mut self) -> bool {
        self.running = self.running.saturating_sub(1);
        self.running == 0
    }
}
