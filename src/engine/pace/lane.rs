//! A lane: what one boot interface sends, and who waits for it.
//!
//! Waiting clients stand in three queues: those whose packet was lost, the ring of running transfers, one turn each, and transfers that
//! have not begun. Who lost a packet goes first. A new transfer goes before the ring while the ring hardly waits, takes turns with it
//! when it does or while the rate is still being found, and stands back when somebody in the ring has waited for a quarter of a second.
//! While a lap is too long new ones wait their time. Nobody stands in more than one place; a key that has gone stale is passed over.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::time::Instant;

use super::{Bottleneck, Regime};

/// A lap near half a second closes admission, and a little less opens it again.
const DEFER_ABOVE: Duration = Duration::from_millis(450);
const DEFER_BELOW: Duration = Duration::from_millis(350);
/// The wait in the ring that tells round robin from bandwidth control; and back, when it was below the lower mark for a second.
const WAIT_ABOVE: Duration = Duration::from_millis(4);
const WAIT_BELOW: Duration = Duration::from_millis(1);
const CALM: Duration = Duration::from_secs(1);
/// What windows are reckoned with while the rate is not known: bytes per second.
const FAST_ETHERNET: u64 = 12_500_000;
/// Until somebody in the ring has waited so long, new transfers go first; until this, every other turn.
const RING_HARDLY_WAITS: Duration = Duration::from_millis(50);
const RING_WAITS: Duration = Duration::from_millis(250);
/// A transfer that has not begun waits this long at most.
pub const FIRST_PACKET_WAIT: Duration = Duration::from_millis(1500);

/// Where somebody waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A packet was lost: first in the next lap.
    Lost,
    Ring,
    /// Not begun yet.
    New,
}

/// Who waits: the key of a transfer, as a word.
pub type Waiter = u64;

/// A minute in which somebody had to wait: since when, turns given, the longest wait of one, and the lane's counters as it began.
#[derive(Clone, Copy, Debug)]
pub struct Minute {
    pub since: Instant,
    pub turns: u64,
    pub longest: Duration,
    pub rescued: u64,
    pub deferred: u64,
}

impl Minute {
    pub const LENGTH: Duration = Duration::from_secs(60);
}

pub struct Lane {
    pub bottleneck: Bottleneck,
    lost: VecDeque<Waiter>,
    ring: VecDeque<(Waiter, Instant)>,
    new: VecDeque<(Waiter, Instant)>,
    /// The turn before this one went to a new transfer.
    new_had_one: bool,
    /// Transfers that have begun, and wire bytes of one turn for each.
    running: u64,
    turn_bytes: u64,
    /// Smoothed wait of a turn in the ring, in nanoseconds.
    wait: u64,
    /// When it was above the lower mark last.
    waited: Instant,
    pub regime: Regime,
    /// What the present minute of load came to.
    pub minute: Option<Minute>,
    /// When the queues are to be looked at next.
    next: Option<Instant>,
    /// Turns given out of the queue of lost packets.
    pub rescued: u64,
    /// New transfers and DISCOVERs that had to wait.
    pub deferred: u64,
}

impl Lane {
    /// Room for `capacity` waiters in each queue. `limit`: the link's rate in bits per second, if it is known; `queue`: the queue on
    /// the way that is aimed at.
    pub fn new(capacity: usize, limit: Option<u64>, queue: Duration, now: Instant) -> Lane {
        Lane {
            bottleneck: Bottleneck::new(limit, queue, now),
            lost: VecDeque::with_capacity(capacity),
            ring: VecDeque::with_capacity(capacity),
            new: VecDeque::with_capacity(capacity),
            new_had_one: false,
            running: 0,
            turn_bytes: 0,
            wait: 0,
            waited: now,
            regime: Regime::Bandwidth,
            minute: None,
            next: None,
            rescued: 0,
            deferred: 0,
        }
    }

    /// Puts somebody into a queue, who stands in none. The queues have room for every transfer that there can be.
    pub fn enter(&mut self, now: Instant, place: Place, who: Waiter) {
        match place {
            Place::Lost => self.lost.push_back(who),
            Place::Ring => self.ring.push_back((who, now)),
            Place::New => self.new.push_back((who, now)),
        }
    }

    /// Who is to be served now, and from which place. None while the way is full, or nobody waits.
    pub fn next(&mut self, now: Instant) -> Option<(Waiter, Place)> {
        self.next = None;
        let due = self.new.front().is_some_and(|(_, since)| now.since(*since) >= FIRST_PACKET_WAIT);
        let admitted = !self.new.is_empty() && (self.regime != Regime::Deferral || due);
        if self.lost.is_empty() && self.ring.is_empty() && !admitted {
            self.bottleneck.idle();
            self.next = self.new.front().map(|(_, since)| *since + FIRST_PACKET_WAIT);
            return None;
        }
        if !self.bottleneck.open(now) {
            self.next = Some(self.bottleneck.opens_at(now));
            return None;
        }
        if let Some(who) = self.lost.pop_front() {
            self.rescued += 1;
            return Some((who, Place::Lost));
        }
        let waited = self.ring.front().map(|(_, since)| now.since(*since));
        let new_first = match waited {
            None => true,
            Some(waited) if waited < RING_HARDLY_WAITS && !self.bottleneck.seeks() => true,
            Some(waited) => !self.new_had_one && (due || waited < RING_WAITS),
        };
        self.new_had_one = admitted && new_first;
        if self.new_had_one {
            if let Some((who, since)) = self.new.pop_front() {
                self.deferred += u64::from(now.since(since) > Duration::from_millis(100));
                return Some((who, Place::New));
            }
        }
        self.ring.pop_front().map(|(who, _)| (who, Place::Ring))
    }

    /// The lap goes on in a moment, with more room for outputs.
    pub fn pause(&mut self, now: Instant) {
        self.next = Some(now);
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.next
    }

    pub fn waiting(&self) -> usize {
        self.lost.len() + self.ring.len() + self.new.len()
    }

    /// Wire bytes that a window may have so that a lap of everybody who is here fits into half a second.
    pub fn window_share(&self) -> u64 {
        let rate = if self.bottleneck.seeks() { FAST_ETHERNET } else { self.bottleneck.steady_rate() };
        let lap = u128::from(rate) * DEFER_ABOVE.as_nanos() / 1_000_000_000;
        lap as u64 / (self.running + self.new.len() as u64 + 1)
    }

    /// A transfer begins or ends: its turn costs so many bytes on the wire.
    pub fn begins(&mut self, turn: u64) {
        self.running += 1;
        self.turn_bytes += turn;
    }

    pub fn ends(&mut self, now: Instant, turn: u64) {
        self.running = self.running.saturating_sub(1);
        self.turn_bytes = self.turn_bytes.saturating_sub(turn);
        if self.turn_bytes == 0 {
            self.wait = 0;
        }
        self.judge(now);
    }

    /// What one turn for each running transfer takes.
    pub fn lap(&self) -> Duration {
        Duration::from_nanos((u128::from(self.turn_bytes) * 1_000_000_000 / u128::from(self.bottleneck.steady_rate())) as u64)
    }

    /// A turn was given `waited` after it was asked for.
    pub fn served(&mut self, now: Instant, waited: Duration) {
        self.wait = self.wait - self.wait / 64 + waited.as_nanos() as u64 / 64;
        self.judge(now);
        if self.regime != Regime::Bandwidth && self.minute.is_none() {
            self.minute = Some(Minute { since: now, turns: 0, longest: Duration::ZERO, rescued: self.rescued, deferred: self.deferred });
        }
        if let Some(minute) = self.minute.as_mut() {
            minute.turns += 1;
            minute.longest = minute.longest.max(waited);
        }
    }

    fn judge(&mut self, now: Instant) {
        let (wait, lap) = (Duration::from_nanos(self.wait), self.lap());
        if wait > WAIT_BELOW {
            self.waited = now;
        }
        let calm = self.turn_bytes == 0 || now.since(self.waited) >= CALM;
        self.regime = match self.regime {
            Regime::Bandwidth if lap > DEFER_ABOVE => Regime::Deferral,
            Regime::Bandwidth if wait > WAIT_ABOVE => Regime::RoundRobin,
            Regime::RoundRobin if lap > DEFER_ABOVE => Regime::Deferral,
            Regime::RoundRobin if calm => Regime::Bandwidth,
            Regime::Deferral if lap < DEFER_BELOW => Regime::RoundRobin,
            same => same,
        };
    }

    /// Whether strangers have to wait.
    pub fn defers(&self) -> bool {
        self.regime == Regime::Deferral
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane() -> Lane {
        Lane::new(16, Some(1_000_000_000), Duration::from_millis(2), Instant::ZERO)
    }

    #[test]
    fn lost_packets_go_first() {
        let (mut lane, now) = (lane(), Instant::ZERO);
        lane.enter(now, Place::New, 1);
        lane.enter(now, Place::Ring, 2);
        lane.enter(now, Place::Ring, 3);
        lane.enter(now, Place::Lost, 4);
        let order: Vec<_> = std::iter::from_fn(|| lane.next(now)).map(|(who, _)| who).collect();
        assert_eq!(order, [4, 1, 2, 3]);
        assert_eq!((lane.waiting(), lane.deadline()), (0, None));
    }

    #[test]
    fn a_long_lap_defers_and_hysteresis_holds() {
        let mut lane = lane();
        let rate = lane.bottleneck.steady_rate();
        let lap = |millis: u64| rate * millis / 1000;
        let served = |lane: &mut Lane, millis| {
            lane.served(Instant::from_millis(millis), Duration::ZERO);
            lane.regime
        };
        lane.begins(lap(460));
        assert_eq!(served(&mut lane, 0), Regime::Deferral);
        lane.enter(Instant::ZERO, Place::New, 7);
        assert_eq!(lane.next(Instant::ZERO), None, "held");
        assert_eq!(lane.deadline(), Some(Instant::ZERO + FIRST_PACKET_WAIT));
        assert_eq!(lane.next(Instant::ZERO + FIRST_PACKET_WAIT), Some((7, Place::New)), "and not forgotten");
        lane.ends(Instant::ZERO, lap(60));
        assert_eq!(served(&mut lane, 0), Regime::Deferral, "between the marks nothing changes");
        lane.ends(Instant::ZERO, lap(60));
        assert_eq!(lane.regime, Regime::RoundRobin, "room opens as a transfer ends");
        assert_eq!((served(&mut lane, 999), served(&mut lane, 1000)), (Regime::RoundRobin, Regime::Bandwidth));
        assert!(lane.minute.is_some_and(|minute| minute.turns == 4));
    }

    /// The load goes up and down again, with a ripple of a tenth on it: each border is crossed once each way.
    #[test]
    fn regimes_follow_the_load_and_do_not_swing() {
        let mut lane = lane();
        let millisecond = lane.bottleneck.steady_rate() / 1000;
        let mut passed = vec![lane.regime];
        for step in 0..14_000u64 {
            let load = step.min(12_000u64.saturating_sub(step)) / 10;
            let millis = load + load * (step % 7) / 70;
            lane.begins(millis * millisecond + 1);
            // Who waits in the ring waits a lap.
            lane.served(Instant::from_millis(step), Duration::from_millis(millis));
            if passed.last() != Some(&lane.regime) {
                passed.push(lane.regime);
            }
            lane.turn_bytes = 0;
        }
        use Regime::{Bandwidth, Deferral, RoundRobin};
        assert_eq!(passed, [Bandwidth, RoundRobin, Deferral, RoundRobin, Bandwidth]);
    }

    #[test]
    fn a_full_way_is_waited_for() {
        let (mut lane, now) = (lane(), Instant::ZERO);
        let mut sent = 0;
        lane.enter(now, Place::Ring, 1);
        while let Some((who, _)) = lane.next(now) {
            lane.bottleneck.sent(now, 1538, 1, true);
            lane.enter(now, Place::Ring, who);
            sent += 1;
        }
        assert_eq!(sent, 32, "the first window");
        assert!(lane.deadline().is_some_and(|next| next > now));
    }
}
