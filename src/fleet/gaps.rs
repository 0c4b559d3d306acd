//! A histogram of the gaps between packets of running transfers.

use std::time::Duration;

/// The upper end of each class, in microseconds.
const UPPER: [u64; 19] = [
    100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 4_000_000, 5_000_000,
    8_000_000, 12_000_000, 60_000_000,
];

/// How many gaps fall into each class. What is above the last class is counted in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gaps([u64; UPPER.len()]);

impl Gaps {
    pub fn note(&mut self, gap: Duration) {
        let micros = u64::try_from(gap.as_micros()).unwrap_or(u64::MAX);
        let class = UPPER.partition_point(|&upper| upper < micros).min(UPPER.len() - 1);
        self.0[class] += 1;
    }

    /// The classes that are not empty: the upper end in milliseconds, and how many gaps there were.
    pub fn iter(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        UPPER.iter().zip(&self.0).filter(|(_, count)| **count > 0).map(|(&upper, &count)| (upper as f64 / 1000.0, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_their_upper_end() {
        let mut gaps = Gaps::default();
        for micros in [0, 100, 101, 500_000, 500_001, 90_000_000] {
            gaps.note(Duration::from_micros(micros));
        }
        let told: Vec<_> = gaps.iter().collect();
        assert_eq!(told, [(0.1, 2), (0.2, 1), (500.0, 1), (1000.0, 1), (60_000.0, 1)]);
    }
}
