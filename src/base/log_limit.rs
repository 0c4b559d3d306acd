//! Rate limits for log lines that outsiders can cause: the first, then at most one an interval, with the number left out.

use std::fmt;
use std::time::Duration;

use super::time::Instant;

/// The time between two lines of one kind.
const INTERVAL: Duration = Duration::from_secs(10);

/// The end of a log line: how many similar lines were not logged. Empty for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct More(pub u64);

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 0 { write!(f, "; {} more not logged", self.0) } else { Ok(()) }
    }
}

/// The rate limit of one kind of log line.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogLimit {
    next: Instant,
    suppressed: u64,
}

impl LogLimit {
    /// Whether to log now. Gives how many lines were left out since the last one.
    pub fn allow(&mut self, now: Instant) -> Option<More> {
        if now < self.next {
            self.suppressed += 1;
            return None;
        }
        self.next = now + INTERVAL;
        Some(More(std::mem::take(&mut self.suppressed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_then_one_an_interval() {
        let mut log_limit = LogLimit::default();
        assert_eq!(log_limit.allow(Instant::ZERO), Some(More(0)));
        assert_eq!([1, 2, 9_999].map(|ms| log_limit.allow(Instant::from_millis(ms))), [None; 3]);
        assert_eq!(log_limit.allow(Instant::from_millis(10_000)), Some(More(3)));
        assert_eq!((More(0).to_string(), More(3).to_string()), (String::new(), "; 3 more not logged".to_string()));
    }
}
