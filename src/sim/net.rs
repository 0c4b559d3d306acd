//! The network model: one link with a rate, a bounded FIFO queue in each direction, and faults by seeded odds. Sans-IO: it says when
//! a frame arrives, the world delivers it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::rng::Rng;
use crate::base::time::Instant;

/// Preamble and start delimiter, frame check sequence, and the gap between two frames (IEEE 802.3), in bytes.
const OVERHEAD: u64 = 8 + 4 + 12;
/// The shortest frame without its check sequence: shorter ones are padded.
const FRAME_MIN: u64 = 60;

/// How likely the link does what it should not, in parts per million of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Odds {
    /// Frames that are lost.
    pub loss: u32,
    /// Frames that arrive twice.
    pub duplicate: u32,
    /// Frames that arrive behind later ones.
    pub reorder: u32,
    /// Every frame is late by up to this, without overtaking.
    pub jitter: Duration,
}

impl Odds {
    /// A perfect link.
    pub const NONE: Odds = Odds { loss: 0, duplicate: 0, reorder: 0, jitter: Duration::ZERO };

    /// Each seed switches some faults off entirely, so that the others meet alone (swarm testing). The worst that comes: 1 % loss,
    /// 1 % duplicates, 1 % reordered, 2 ms of jitter.
    pub fn swarm(seed: u64) -> Odds {
        let mut rng = Rng::new(seed);
        let mut some = |bound: u64| if rng.chance(500_000) { 0 } else { rng.below(bound) + 1 };
        Odds {
            loss: some(10_000) as u32,
            duplicate: some(10_000) as u32,
            reorder: some(10_000) as u32,
            jitter: Duration::from_micros(some(2_000)),
        }
    }
}

/// A link between the head and everybody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// Bits per second in each direction; 0: without limit.
    pub rate: u64,
    /// Frames that wait or are being sent towards the clients before the tail is dropped. At least 1.
    pub queue: usize,
    /// Likewise towards the server: what a switch of some megabytes gives to small frames that come from all its ports in one instant.
    pub queue_up: usize,
    /// Propagation.
    pub delay: Duration,
    /// What else happens to frames.
    pub odds: Odds,
}

impl Wire {
    /// A clean 1 Gbit/s link through a switch.
    pub const GIGABIT: Wire = Wire { rate: 1_000_000_000, queue: 256, queue_up: 4096, delay: Duration::from_micros(20), odds: Odds::NONE };
}

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FrameDirection {
    /// From the machines to the head.
    ToServer,
    /// From the head to the machines.
    ToClients,
}

/// What has happened to frames in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounts {
    /// Frames that were sent.
    pub sent: u64,
    /// Frames that found the queue full.
    pub queue_drops: u64,
    /// Frames that were lost at random.
    pub lost: u64,
    /// Frames that arrived twice.
    pub duplicated: u64,
    /// Frames that arrived behind later ones.
    pub reordered: u64,
    /// Bytes as they occupy the link, overhead included.
    pub wire_bytes: u64,
}

#[derive(Default)]
struct Direction {
    /// When each frame in the queue will have left, the first to leave first.
    leaving: VecDeque<Instant>,
    last_arrival: Instant,
    tally: LinkCounts,
}

/// A modelled link with a switch: rate, queues, and faults by chance.
pub struct Net {
    wire: Wire,
    rng: Rng,
    ways: [Direction; 2],
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// When it arrives, once or twice.
    Arrives(Instant, Option<Instant>),
    /// The queue was full.
    Dropped,
    /// Chance took it.
    Lost,
}

impl Net {
    /// A link with nothing on it.
    pub fn new(wire: Wire, rng: Rng) -> Net {
        Net { wire, rng, ways: Default::default() }
    }

    /// The link as it is now.
    pub fn wire(&self) -> Wire {
        self.wire
    }

    /// Changes the link from now on: a fault that begins or ends in the middle of a run. Frames under way arrive as promised.
    pub fn set_wire(&mut self, wire: Wire) {
        self.wire = wire;
    }

    /// What has happened to frames in one direction so far.
    pub fn tally(&self, way: FrameDirection) -> LinkCounts {
        self.ways[way as usize].tally
    }

    /// How long a frame of `len` bytes (without check sequence) occupies the link.
    pub fn duration(&self, len: usize) -> Duration {
        let bits = wire_bytes(len) * 8;
        match self.wire.rate {
            0 => Duration::ZERO,
            rate => Duration::from_nanos((bits * 1_000_000_000).div_ceil(rate)),
        }
    }

    /// Puts a frame of `len` bytes on the link.
    pub fn send(&mut self, now: Instant, way: FrameDirection, len: usize) -> Fate {
        let duration = self.duration(len);
        let Wire { queue, queue_up, delay, odds, .. } = self.wire;
        let queue = if way == FrameDirection::ToServer { queue_up } else { queue };
        let direction = &mut self.ways[way as usize];
        direction.tally.sent += 1;
        while direction.leaving.front().is_some_and(|&at| at <= now) {
            direction.leaving.pop_front();
        }
        if direction.leaving.len() >= queue.max(1) {
            direction.tally.queue_drops += 1;
            return Fate::Dropped;
        }
        let left = direction.leaving.back().copied().unwrap_or(now) + duration;
        direction.leaving.push_back(left);
        direction.tally.wire_bytes += wire_bytes(len);
        // A lost frame has occupied the link all the same.
        if self.rng.chance(odds.loss) {
            direction.tally.lost += 1;
            return Fate::Lost;
        }
        let arrival = left + delay;
        if self.rng.chance(odds.reorder) {
            direction.tally.reordered += 1;
            return Fate::Arrives(arrival + LATE + Duration::from_nanos(self.rng.below(LATE.as_nanos() as u64)), None);
        }
        let arrival = arrival + Duration::from_nanos(self.rng.below(odds.jitter.as_nanos() as u64));
        direction.last_arrival = direction.last_arrival.max(arrival);
        let first = direction.last_arrival;
        let twice = self.rng.chance(odds.duplicate);
        direction.tally.duplicated += u64::from(twice);
        Fate::Arrives(first, twice.then(|| first + Duration::from_nanos(self.rng.below(LATE.as_nanos() as u64))))
    }
}

/// A frame that is overtaken arrives later by this, and by up to as much again.
const LATE: Duration = Duration::from_millis(1);

fn wire_bytes(len: usize) -> u64 {
    (len as u64).max(FRAME_MIN) + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(fate: Fate) -> Option<Instant> {
        match fate {
            Fate::Arrives(at, _) => Some(at),
            Fate::Dropped | Fate::Lost => None,
        }
    }

    fn net(rate: u64, queue: usize, odds: Odds) -> Net {
        Net::new(Wire { rate, queue, queue_up: queue, delay: Duration::from_micros(20), odds }, Rng::new(7))
    }

    /// How many of 10,000 full frames, sent at once at their wire rate x `load` percent, arrive.
    fn delivered(load: u64, queue: usize, loss: u32) -> usize {
        let mut net = net(1_000_000_000, queue, Odds { loss, ..Odds::NONE });
        let gap = net.duration(1514).as_nanos() as u64 * 100 / load;
        (0..10_000u64)
            .filter(|n| matches!(net.send(Instant::from_nanos(n * gap), FrameDirection::ToClients, 1514), Fate::Arrives(..)))
            .count()
    }

    #[test]
    fn golden_table_of_loss_and_queue() {
        // load in percent, queue in frames, loss in parts per million -> delivered of 10,000
        let rows = [
            (100, 1, 0, 10_000),
            (50, 1, 0, 10_000),
            (200, 1, 0, 5_000),
            (200, 256, 0, 5_255),
            (400, 256, 0, 2_755),
            (100, 256, 1_000, 9_988),
            (100, 256, 10_000, 9_885),
            (100, 256, 1_000_000, 0),
        ];
        for (load, queue, loss, golden) in rows {
            assert_eq!(delivered(load, queue, loss), golden, "load {load} %, queue {queue}, loss {loss} ppm");
        }
    }

    #[test]
    fn frames_take_their_time() {
        let mut net = self::net(1_000_000_000, 10, Odds::NONE);
        // 1,514 + 24 bytes at 8 ns each, and the propagation; the second waits for the first.
        let at = |fate: Fate| first(fate).map(Instant::nanos);
        assert_eq!(at(net.send(Instant::ZERO, FrameDirection::ToClients, 1514)), Some(12_304 + 20_000));
        assert_eq!(at(net.send(Instant::ZERO, FrameDirection::ToClients, 42)), Some(12_304 + 672 + 20_000));
        assert_eq!(at(net.send(Instant::ZERO, FrameDirection::ToServer, 60)), Some(672 + 20_000), "the other way is free");
        assert_eq!(net.tally(FrameDirection::ToClients), LinkCounts { sent: 2, wire_bytes: 1538 + 84, ..LinkCounts::default() });
        assert_eq!(self::net(0, 10, Odds::NONE).duration(1514), Duration::ZERO);
    }

    #[test]
    fn only_reordering_overtakes() {
        let run = |odds| {
            let mut net = net(0, 1000, odds);
            let arrivals: Vec<_> =
                (0..1000u64).map(|n| first(net.send(Instant::from_nanos(n * 100_000), FrameDirection::ToServer, 100))).collect();
            (arrivals.windows(2).filter(|pair| pair[0] > pair[1]).count(), net.tally(FrameDirection::ToServer))
        };
        assert_eq!(run(Odds { jitter: Duration::from_millis(1), ..Odds::NONE }).0, 0);
        let (overtaken, tally) = run(Odds { reorder: 50_000, ..Odds::NONE });
        assert!(overtaken > 20 && tally.reordered as usize >= overtaken, "{overtaken} {tally:?}");
    }

    #[test]
    fn same_seed_same_faults() {
        let run = |seed| {
            let odds = Odds { loss: 9_000, duplicate: 9_000, reorder: 9_000, jitter: Duration::from_millis(1) };
            let mut net = Net::new(Wire { odds, ..Wire::GIGABIT }, Rng::new(seed));
            (0..500).map(|n| net.send(Instant::from_millis(n), FrameDirection::ToClients, 500)).collect::<Vec<_>>()
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }

    #[test]
    fn swarms_switch_faults_off() {
        let swarm: Vec<Odds> = (0..64).map(Odds::swarm).collect();
        assert!(swarm.iter().any(|odds| odds.loss == 0 && odds.reorder > 0) && swarm.iter().any(|odds| odds.loss > 0 && odds.reorder == 0));
        assert!(swarm.iter().all(|odds| odds.loss <= 10_000 && odds.jitter <= Duration::from_millis(2)));
    }
}
