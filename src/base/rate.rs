//! So many a minute: the generic cell rate algorithm (ITU-T I.371), in whole nanoseconds.

use std::time::Duration;

use super::time::Instant;

/// What a minute's worth is divided by: so much of it may come at once.
const BURST: u32 = 5;

/// How many events are let through: a fifth of a minute's worth at once, and after that one each interval.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    /// When the next event would be due if all came at an even pace.
    due: Instant,
}

impl Rate {
    fn interval(per_minute: u32) -> Duration {
        Duration::from_secs(60) / per_minute.max(1)
    }

    /// How many may come at once: at least one.
    pub fn burst(per_minute: u32) -> u32 {
        (per_minute / BURST).max(1)
    }

    /// How many may come now.
    pub fn room(&self, now: Instant, per_minute: u32) -> u32 {
        let interval = Rate::interval(per_minute);
        let left = (interval * Rate::burst(per_minute)).saturating_sub(self.due.since(now));
        u32::try_from(left.as_nanos() / interval.as_nanos().max(1)).unwrap_or(u32::MAX)
    }

    /// Lets one through, if it may come now.
    pub fn take(&mut self, now: Instant, per_minute: u32) -> bool {
        let may = self.room(now, per_minute) > 0;
        if may {
            self.due = self.due.max(now) + Rate::interval(per_minute);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_then_an_even_pace() {
        let mut rate = Rate::default();
        let mut taken = |seconds: u64| (0..1000).filter(|_| rate.take(Instant::from_millis(seconds * 1000), 600)).count();
        assert_eq!([50, 50, 51, 53, 120].map(&mut taken), [120, 0, 10, 20, 120]);
        let mut slow = Rate::default();
        assert_eq!(
            [1, 59, 61, 61, 181].map(|seconds| slow.take(Instant::from_millis(seconds * 1000), 1)),
            [true, false, true, false, true]
        );
    }

    proptest! {
        #[test]
        fn no_time_lets_more_through_than_it_may(per_minute in 1u32..5000, steps in prop::collection::vec(0u64..2000, 1..300)) {
            let (mut rate, mut now, mut taken) = (Rate::default(), 1_000_000, 0);
            for step in &steps {
                now += step;
                let room = rate.room(Instant::from_millis(now), per_minute);
                let may = rate.take(Instant::from_millis(now), per_minute);
                prop_assert_eq!(may, room > 0);
                taken += u64::from(may);
            }
            let most = u64::from(Rate::burst(per_minute)) + (now - 1_000_000) * u64::from(per_minute) / 60_000 + 1;
            prop_assert!(taken <= most, "{} of at most {}", taken, most);
        }
    }
}
