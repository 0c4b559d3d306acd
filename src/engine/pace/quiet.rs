//! The share of those who are no evidence: transfers that have been silent for several looks, and all transfers to strangers, whom no
//! record knows.
//!
//! *The law of silence*: what is sent to somebody who does not answer is no evidence of the way, and all of it together gets a small
//! share of the rate. Nor is what strangers answer: addresses cost nothing to invent, and any number of them may acknowledge late, or
//! tell of loss. So any number of machines that die in mid-load, and of invented ones whatever they say, cost those who boot no more
//! than that share. A machine on record that is heard of again is served like everybody else from then on; a stranger stays here until
//! its transfer ends.
//!
//! The share is a bucket of a few frames that fills with a part of the rate. It never fills faster for the silent when nobody else wants
//! anything, so that the first machine that comes back finds the way free. Strangers get half of the rate while no machine on record loads.

use std::time::Duration;

use crate::base::time::Instant;

use super::FULL_FRAME;

/// Their part of the rate is one in so many.
pub const PART: u64 = 16;
/// How many bytes of it may leave at once.
const DEPTH: i64 = 8 * FULL_FRAME as i64;

pub struct Share {
    credit: i64,
    filled: Instant,
}

impl Share {
    pub fn new(now: Instant) -> Share {
        Share { credit: DEPTH, filled: now }
    }

    /// Whether something may leave. `rate`: of all that is sent, in bytes per second.
    pub fn open(&mut self, now: Instant, rate: u64) -> bool {
        let gained = u128::from(rate / PART) * now.since(self.filled).min(Duration::from_secs(1)).as_nanos() / 1_000_000_000;
        // Less than a byte is not lost.
        if gained > 0 {
            self.filled = now;
            self.credit = (self.credit + gained as i64).min(DEPTH);
        }
        self.credit > 0
    }

    pub fn sent(&mut self, bytes: u64) {
        self.credit -= bytes as i64;
    }

    /// When to look again, after [`open`](Share::open) said no.
    pub fn opens_at(&self, now: Instant, rate: u64) -> Instant {
        let missing = u128::from((1 - self.credit).max(1).unsigned_abs());
        let wait = missing * 1_000_000_000 / u128::from((rate / PART).max(1));
        now + Duration::from_nanos(wait as u64).clamp(Duration::from_micros(250), Duration::from_millis(500))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_rate() {
        let rate = 16_000_000;
        let mut share = Share::new(Instant::ZERO);
        let mut sent = 0;
        for millis in 0..1000 {
            let now = Instant::from_millis(millis);
            while share.open(now, rate) {
                share.sent(1000);
                sent += 1000;
            }
            assert!(share.opens_at(now, rate) > now && share.opens_at(now, rate) <= now + Duration::from_millis(2));
        }
        assert!((980_000..=1_020_000).contains(&sent), "a sixteenth of 16 MB/s: {sent}");
        let idle = Instant::from_millis(60_000);
        let burst = (0..).take_while(|_| {
            share.sent(FULL_FRAME);
            share.open(idle, rate)
        });
        assert!(burst.count() <= 8, "what was not used is not saved");
    }
}
