//! Rate limits for log lines that outsiders can cause: the first, then at most one an interval, with the number left out.

use std::time::Duration;

use super::time::Instant;

/// The time between two lines of one kind.
const INTERVAL: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, Default)]
pub struct Muffle {
    next: Instant,
    muffled: u64,
}

impl Muffle {
    /// Whether to log now; gives how many lines were left out since the last one.
    pub fn admits(&mut self, now: Instant) -> Option<u64> {
        if now < self.next {
            self.muffled += 1;
            return None;
        }
        self.next = now + INTERVAL;
        Some(std::mem::take(&mut self.muffled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_then_one_an_interval() {
        let mut muffle = Muffle::default();
        assert_eq!(muffle.admits(Instant::ZERO), Some(0));
        assert_eq!([1, 2, 9_999].map(|ms| muffle.admits(Instant::from_millis(ms))), [None; 3]);
        assert_eq!(muffle.admits(Instant::from_millis(10_000)), Some(3));
    }
}
