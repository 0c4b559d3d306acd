//! Buckets by rate: what outsiders can cause without end (log lines, journal records) costs each of them, and all of them together, a
//! bounded amount. A bucket is one instant (the generic cell rate algorithm): when it will be full again. Allocated once; O(1).

use std::time::Duration;

use super::rng::mix;
use super::time::Instant;

/// How much a bucket holds: so many at once, and one more each interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// What a full bucket holds.
    pub burst: u32,
    /// The time in which one more comes in.
    pub every: Duration,
}

impl Bucket {
    fn allow(self, now: Instant, full: Instant) -> bool {
        self.room(now, full) > 0
    }

    /// How many there are in it now. `full`: when it will be full again.
    pub fn room(self, now: Instant, full: Instant) -> u32 {
        let left = (self.every * self.burst).saturating_sub(full.since(now));
        u32::try_from(left.as_nanos() / self.every.as_nanos().max(1)).unwrap_or(u32::MAX)
    }

    /// Takes one out.
    pub fn take(self, now: Instant, full: &mut Instant) {
        *full = (*full).max(now) + self.every;
    }
}

/// Whose doing it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payer {
    /// A machine with this number: limited by itself.
    Node(u32),
    /// A machine without, by the key of its identity: limited by itself and with all others.
    Guest(u64),
    /// A machine without that goes on with what it has: limited by itself.
    Resident(u64),
}

/// Buckets of nodes, of guests, and of all guests together.
///
/// A guest's bucket is found by a hash that nobody outside can predict. Two guests may share one: with sixteen places for each record that
/// the roll has, four hardly ever do, and a burst should have room for three.
pub struct Buckets {
    each: Bucket,
    all: Bucket,
    /// When each will be full again, in whole ticks.
    nodes: Box<[Tick]>,
    guests: Box<[Tick]>,
    together: Instant,
    seed: u64,
    refused: u64,
}

/// An instant in ticks since zero, which fits 30 years: there are sixteen for each record, and a bucket holds minutes.
#[derive(Clone, Copy, Default)]
struct Tick(u32);

impl Tick {
    const LENGTH: Duration = Duration::from_millis(250);

    /// The first tick that is not before an instant.
    fn after(at: Instant) -> Tick {
        Tick(u32::try_from(at.nanos().div_ceil(Tick::LENGTH.as_nanos() as u64)).unwrap_or(u32::MAX))
    }

    fn instant(self) -> Instant {
        Instant::ZERO + Tick::LENGTH * self.0
    }
}

/// Places for guests, whatever the capacity.
const PLACES_MIN: usize = 1 << 16;
const PLACES_MAX: usize = 1 << 19;

impl Buckets {
    /// For `capacity` records of machines: `each` of one machine, `all` of all guests together.
    pub fn new(capacity: usize, seed: u64, each: Bucket, all: Bucket) -> Buckets {
        let places = (16 * capacity).next_power_of_two().clamp(PLACES_MIN, PLACES_MAX);
        let nodes = vec![Tick::default(); capacity.next_power_of_two()].into();
        Buckets { each, all, nodes, guests: vec![Tick::default(); places].into(), together: Instant::ZERO, seed, refused: 0 }
    }

    /// Whether one more is within the limits, which counts it; one that is refused costs nobody anything.
    pub fn allow(&mut self, now: Instant, who: Payer) -> bool {
        let (table, key) = match who {
            Payer::Node(number) => (&mut self.nodes, u64::from(number)),
            Payer::Guest(key) | Payer::Resident(key) => (&mut self.guests, mix(key ^ self.seed)),
        };
        let place = key as usize & (table.len() - 1);
        let Some(tick) = table.get_mut(place) else { return false };
        let mut own = tick.instant();
        let shared = matches!(who, Payer::Guest(_));
        if !self.each.allow(now, own) || shared && !self.all.allow(now, self.together) {
            self.refused += 1;
            return false;
        }
        self.each.take(now, &mut own);
        *tick = Tick::after(own);
        if shared {
            self.all.take(now, &mut self.together);
        }
        true
    }

    /// How many were refused since this was asked last.
    pub fn refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EACH: Bucket = Bucket { burst: 3, every: Duration::from_secs(10) };
    const ALL: Bucket = Bucket { burst: 100, every: Duration::from_secs(1) };

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(1000 * seconds)
    }

    #[test]
    fn a_burst_then_one_an_interval() {
        for who in [Payer::Node(3), Payer::Guest(7), Payer::Resident(9)] {
            let mut limits = Buckets::new(16, 1, EACH, ALL);
            let admitted = |limits: &mut Buckets, second| (0..10).filter(|_| limits.allow(at(second), who)).count();
            assert_eq!([0, 5, 10, 11, 30, 1000].map(|second| admitted(&mut limits, second)), [3, 0, 1, 0, 2, 3]);
            assert_eq!((limits.refused(), limits.refused()), (51, 0));
        }
    }

    #[test]
    fn guests_share_a_limit_and_nodes_do_not() {
        let mut limits = Buckets::new(4096, 1, EACH, ALL);
        let admitted = |limits: &mut Buckets, who: fn(u64) -> Payer| (0..2000).filter(|&n| limits.allow(at(0), who(n))).count();
        assert_eq!(admitted(&mut limits, Payer::Guest), 100);
        assert!(!limits.allow(at(0), Payer::Guest(5000)) && limits.allow(at(1), Payer::Guest(5000)));
        assert!(admitted(&mut limits, Payer::Resident) > 1990);
        assert_eq!(admitted(&mut limits, |n| Payer::Node(n as u32)), 2000);
    }

    /// A thousand new machines at once, each with all that a boot writes, are within the limits that a burst of 4,000 leaves.
    #[test]
    fn a_crowd_is_not_slowed() {
        for seed in 0..20 {
            let all = Bucket { burst: 4000, ..ALL };
            let mut limits = Buckets::new(4096, seed, Bucket { burst: 12, ..EACH }, all);
            let macs = (0..1000).map(|n| 0x0200_0000_0000 + n);
            assert!(macs.flat_map(|mac| [mac; 4]).all(|mac| limits.allow(at(0), Payer::Guest(mac))), "seed {seed}");
        }
    }

    #[test]
    fn what_is_in_it_comes_back_at_an_even_pace() {
        let (bucket, mut full) = (Bucket { burst: 120, every: Duration::from_millis(100) }, Instant::ZERO);
        let mut taken = |seconds: u64| {
            let now = Instant::from_millis(seconds * 1000);
            let room = bucket.room(now, full);
            (0..room).for_each(|_| bucket.take(now, &mut full));
            assert_eq!(bucket.room(now, full), 0);
            room
        };
        assert_eq!([50, 50, 51, 53, 66].map(&mut taken), [120, 0, 10, 20, 120]);
    }
}
