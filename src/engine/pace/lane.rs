//! A lane: what one boot interface sends, and the waiters for it. All services that send by turns share it: a waiter is a record of one of
//! them, and the lane knows no more of it.
//!
//! Waiting transfers stand in chains, each in one at most. Those that are known to be there: whose packet was lost, the ring of running
//! transfers, one turn each, and transfers that have not begun. Who lost a packet goes first, though never more than three times in a row
//! while others wait. A new transfer goes before the ring while the ring hardly waits, takes turns with it when it does or while the rate
//! is still being found, and stands back when somebody in the ring has waited for a quarter of a second. While a lap is too long new ones
//! wait their time.
//!
//! Those of whom nobody knows whether or who they are ([`quiet`](super::quiet)) take turns in a share of their own: who fell silent a
//! moment ago (its packet was lost twice, perhaps), strangers, and transfers that have been silent for long.

use std::time::Duration;

use crate::base::chain::Chains;
use crate::base::slab::Key;
use crate::base::time::Instant;

use super::quiet::{PART, Share};
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

/// Lost packets that are served in a row while others wait.
const RESCUES: u32 = 3;

/// Where somebody waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitQueue {
    /// A packet was lost: first in the next lap.
    Lost,
    Ring,
    /// Not begun yet.
    New,
    /// Two sendings have not been answered.
    Silent,
    /// No machine on record has asked.
    Stranger,
    /// Many sendings have not been answered.
    LongSilent,
}

impl WaitQueue {
    const ALL: usize = 6;
    const QUIET: [WaitQueue; 3] = [WaitQueue::Silent, WaitQueue::Stranger, WaitQueue::LongSilent];

    /// Whether it is of those who are no evidence ([`quiet`](super::quiet)).
    pub fn is_quiet(self) -> bool {
        WaitQueue::QUIET.contains(&self)
    }
}

/// A service that sends by turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taker {
    /// Its number in the table of endpoints.
    pub service: u8,
    /// How many records it has, each of which may wait in one lane.
    pub records: usize,
}

/// A record of a service that waits, or has its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    pub service: u8,
    /// The record's key, as the service's own word.
    key: u64,
}

impl Waiter {
    pub fn new<T>(service: u8, key: Key<T>) -> Waiter {
        Waiter { service, key: key.to_u64() }
    }

    /// The key that its service gave it.
    pub fn key<T>(self) -> Key<T> {
        Key::from_u64(self.key)
    }
}

/// Permission to send one window, or a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    pub who: Waiter,
    /// Where it has waited, and how long.
    pub place: WaitQueue,
    pub waited: Duration,
}

/// What a lane keeps of a record of a service: its key, and since when it waits.
#[derive(Clone, Copy)]
struct Standing {
    key: u64,
    since: Instant,
}

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
    /// Whose records the standings are, in their order.
    takers: Box<[Taker]>,
    waiting: Chains<{ WaitQueue::ALL }>,
    standings: Box<[Standing]>,
    /// The turn before this one went to a new transfer.
    new_had_one: bool,
    /// Lost packets served in a row.
    rescues: u32,
    share: Share,
    /// Whose turn it is among the quiet.
    quiet_turn: usize,
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
    /// Turns given to those who had lost a packet.
    pub rescued: u64,
    /// New transfers and DISCOVERs that had to wait.
    pub deferred: u64,
}

impl Lane {
    /// For all records of these services. `limit`: the link's rate in bits per second, if it is known; `queue`: the queue on the way that
    /// is aimed at.
    pub fn new(takers: &[Taker], limit: Option<u64>, queue: Duration, now: Instant) -> Lane {
        let records = takers.iter().map(|taker| taker.records).sum();
        Lane {
            bottleneck: Bottleneck::new(limit, queue, now),
            takers: takers.into(),
            waiting: Chains::new(records),
            standings: vec![Standing { key: 0, since: now }; records].into(),
            new_had_one: false,
            rescues: 0,
            share: Share::new(now),
            quiet_turn: 0,
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

    /// The place of a record among the standings of all services.
    fn slot(&self, who: Waiter) -> usize {
        let mut first = 0;
        for taker in &self.takers {
            if taker.service == who.service {
                let slot = who.key::<()>().slot();
                assert!(slot < taker.records, "a service has no more records than it has said");
                return first + slot;
            }
            first += taker.records;
        }
        unreachable!("service {} takes no turns", who.service);
    }

    /// Who has a place.
    fn who(&self, slot: usize) -> Waiter {
        let mut end = 0;
        for taker in &self.takers {
            end += taker.records;
            if slot < end {
                return Waiter { service: taker.service, key: self.standings[slot].key };
            }
        }
        unreachable!("there is no place {slot}");
    }

    /// Puts somebody at the end of a queue who stands in none.
    pub fn enter(&mut self, now: Instant, place: WaitQueue, who: Waiter) {
        let slot = self.slot(who);
        self.waiting.push(place as usize, slot);
        self.standings[slot] = Standing { key: who.key, since: now };
    }

    /// Puts a waiter at the end of another queue. For how long it has waited is not forgotten.
    pub fn change(&mut self, place: WaitQueue, who: Waiter) {
        let slot = self.slot(who);
        self.waiting.remove(slot);
        self.waiting.push(place as usize, slot);
    }

    /// Somebody waits no longer.
    pub fn leave(&mut self, who: Waiter) {
        self.waiting.remove(self.slot(who));
    }

    /// Whether somebody waits.
    pub fn waits(&self, who: Waiter) -> bool {
        self.waiting.holds(self.slot(who))
    }

    fn none(&self, place: WaitQueue) -> bool {
        self.waiting.is_empty(place as usize)
    }

    /// How long the first in a queue has waited.
    fn waited(&self, now: Instant, place: WaitQueue) -> Option<Duration> {
        self.waiting.first(place as usize).map(|slot| now.since(self.standings[slot].since))
    }

    /// Takes the first out of a queue.
    fn pop(&mut self, now: Instant, place: WaitQueue) -> Option<Turn> {
        let slot = self.waiting.pop(place as usize)?;
        Some(Turn { who: self.who(slot), place, waited: now.since(self.standings[slot].since) })
    }

    /// Whose turn it is now. None while the way is full, or nobody waits.
    pub fn next(&mut self, now: Instant) -> Option<Turn> {
        self.next = None;
        let due = self.waited(now, WaitQueue::New).is_some_and(|waited| waited >= FIRST_PACKET_WAIT);
        let admitted = !self.none(WaitQueue::New) && (self.regime != Regime::Deferral || due);
        let wanted = !self.none(WaitQueue::Lost) || !self.none(WaitQueue::Ring) || admitted;
        if !wanted {
            self.bottleneck.idle();
            self.next = self.waiting.first(WaitQueue::New as usize).map(|slot| self.standings[slot].since + FIRST_PACKET_WAIT);
        }
        if let Some(quiet) = self.next_quiet(now) {
            return Some(quiet);
        }
        if !wanted {
            return None;
        }
        if !self.bottleneck.open(now) {
            self.look_by(self.bottleneck.opens_at(now));
            return None;
        }
        let place = self.choose(now, admitted, due);
        let turn = self.pop(now, place)?;
        match place {
            WaitQueue::Lost => self.rescued += 1,
            WaitQueue::New => self.deferred += u64::from(turn.waited > Duration::from_millis(100)),
            _ => {}
        }
        Some(turn)
    }

    /// Which queue has the next turn, of those that are known to be there.
    fn choose(&mut self, now: Instant, admitted: bool, due: bool) -> WaitQueue {
        let waited = self.waited(now, WaitQueue::Ring);
        let others = waited.is_some() || admitted;
        if !self.none(WaitQueue::Lost) && (self.rescues < RESCUES || !others) {
            self.rescues += 1;
            return WaitQueue::Lost;
        }
        self.rescues = 0;
        let new_first = match waited {
            None => true,
            Some(waited) if waited < RING_HARDLY_WAITS && !self.bottleneck.seeks() => true,
            Some(waited) => !self.new_had_one && (due || waited < RING_WAITS),
        };
        self.new_had_one = admitted && new_first;
        if self.new_had_one { WaitQueue::New } else { WaitQueue::Ring }
    }

    /// The next of the quiet, if their share has room.
    fn next_quiet(&mut self, now: Instant) -> Option<Turn> {
        if self.quiet() == 0 {
            return None;
        }
        // Strangers alone (an administrator's client, a machine with an address of its own) get half of the rate: nobody is there to protect.
        let silent = self.waiting.len(WaitQueue::Silent as usize) + self.waiting.len(WaitQueue::LongSilent as usize);
        let alone = self.running == 0 && self.waiting() == 0 && silent == 0;
        let rate = self.counted_on() * if alone { PART / 2 } else { 1 };
        if !self.share.open(now, rate) {
            self.look_by(self.share.opens_at(now, rate));
            return None;
        }
        if !self.bottleneck.has_tokens(now) {
            self.look_by(self.bottleneck.opens_at(now));
            return None;
        }
        for _ in WaitQueue::QUIET {
            self.quiet_turn = (self.quiet_turn + 1) % WaitQueue::QUIET.len();
            if let Some(turn) = self.pop(now, WaitQueue::QUIET[self.quiet_turn]) {
                return Some(turn);
            }
        }
        None
    }

    fn look_by(&mut self, at: Instant) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    /// So many bytes leave for somebody quiet.
    pub fn sent_quietly(&mut self, now: Instant, bytes: u64) {
        self.share.sent(bytes);
        self.bottleneck.sent_quietly(now, bytes);
    }

    /// The lap goes on at this time.
    pub fn pause(&mut self, now: Instant) {
        self.next = Some(now);
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// How many wait who are known to be there.
    pub fn waiting(&self) -> usize {
        [WaitQueue::Lost, WaitQueue::Ring, WaitQueue::New].map(|place| self.waiting.len(place as usize)).iter().sum()
    }

    /// How many wait of whom nobody knows whether they are there.
    pub fn quiet(&self) -> usize {
        WaitQueue::QUIET.map(|place| self.waiting.len(place as usize)).iter().sum()
    }

    /// The rate that can be counted on, in bytes per second, also while it is still being found.
    fn counted_on(&self) -> u64 {
        if self.bottleneck.seeks() { FAST_ETHERNET } else { self.bottleneck.steady_rate() }
    }

    /// Wire bytes that a window may have so that a lap of everybody who is here fits into half a second.
    pub fn window_share(&self) -> u64 {
        let lap = u128::from(self.counted_on()) * DEFER_ABOVE.as_nanos() / 1_000_000_000;
        lap as u64 / (self.running + self.waiting.len(WaitQueue::New as usize) as u64 + 1)
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

    /// A turn was given to somebody who is known to be there, `waited` after it was asked for.
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
    use crate::engine::pace::{FULL_FRAME, Witness};

    fn lane() -> Lane {
        Lane::new(&[taker(16)], Some(1_000_000_000), Duration::from_millis(2), Instant::ZERO)
    }

    fn taker(records: usize) -> Taker {
        Taker { service: 3, records }
    }

    fn who(n: usize) -> Waiter {
        Waiter::new(3, Key::<()>::from_u64(n as u64))
    }

    /// Whose turn it is, and from where.
    fn next(lane: &mut Lane, now: Instant) -> Option<(usize, WaitQueue)> {
        lane.next(now).map(|turn| (turn.who.key::<()>().slot(), turn.place))
    }

    #[test]
    fn lost_packets_go_first() {
        let (mut lane, now) = (lane(), Instant::ZERO);
        lane.enter(now, WaitQueue::New, who(1));
        lane.enter(now, WaitQueue::Ring, who(2));
        lane.enter(now, WaitQueue::Ring, who(3));
        lane.enter(now, WaitQueue::Lost, who(4));
        let order: Vec<_> = std::iter::from_fn(|| next(&mut lane, now)).map(|(who, _)| who).collect();
        assert_eq!(order, [4, 1, 2, 3]);
        assert_eq!((lane.waiting(), lane.deadline()), (0, None));
    }

    #[test]
    fn lost_packets_do_not_keep_others_waiting() {
        let (mut lane, now) = (lane(), Instant::ZERO);
        (0..8).for_each(|n| lane.enter(now, WaitQueue::Lost, who(n)));
        (8..10).for_each(|n| lane.enter(now, WaitQueue::Ring, who(n)));
        let order: Vec<_> = std::iter::from_fn(|| next(&mut lane, now)).map(|(who, _)| who).collect();
        assert_eq!(order, [0, 1, 2, 8, 3, 4, 5, 9, 6, 7]);
    }

    /// The law of silence: whoever does not answer, and however many, together they get a small share, and say nothing of the way.
    #[test]
    fn the_silent_share_a_sixteenth() {
        let mut lane = Lane::new(&[taker(64)], Some(1_000_000_000), Duration::from_millis(2), Instant::ZERO);
        let rate = lane.bottleneck.steady_rate();
        let quiet = [WaitQueue::Silent, WaitQueue::Stranger, WaitQueue::LongSilent];
        (0..60).for_each(|n| lane.enter(Instant::ZERO, quiet[n % 3], who(n)));
        lane.enter(Instant::ZERO, WaitQueue::Ring, who(63));
        let (mut quiet_bytes, mut ring_bytes) = (0, 0);
        let mut stamps = std::collections::VecDeque::new();
        let mut witness = Witness::default();
        for micros in (0..1_000_000).step_by(10) {
            let now = Instant::from_nanos(micros * 1000);
            while let Some(Turn { who, place, .. }) = lane.next(now) {
                if place.is_quiet() {
                    lane.sent_quietly(now, FULL_FRAME);
                    quiet_bytes += FULL_FRAME;
                } else {
                    stamps.push_back((now + Duration::from_micros(200), lane.bottleneck.sent(now, FULL_FRAME, 1, true)));
                    ring_bytes += FULL_FRAME;
                }
                lane.enter(now, place, who);
            }
            while stamps.front().is_some_and(|(at, _)| *at <= now) {
                let stamp = stamps.pop_front().map(|(_, stamp)| stamp).unwrap_or_default();
                lane.bottleneck.acknowledged(now, stamp, &mut witness, true);
            }
        }
        assert!(quiet_bytes <= rate / 15, "{quiet_bytes}");
        assert!(ring_bytes > rate / 100 * 85, "{ring_bytes} of {rate}");
        assert_eq!((lane.waiting(), lane.quiet()), (1, 60));
        (0..60).for_each(|n| lane.leave(who(n)));
        assert_eq!(lane.quiet(), 0);
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
        lane.enter(Instant::ZERO, WaitQueue::New, who(7));
        assert_eq!(lane.next(Instant::ZERO), None, "held");
        assert_eq!(lane.deadline(), Some(Instant::ZERO + FIRST_PACKET_WAIT));
        assert_eq!(next(&mut lane, Instant::ZERO + FIRST_PACKET_WAIT), Some((7, WaitQueue::New)), "and not forgotten");
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
        lane.enter(now, WaitQueue::Ring, who(1));
        while let Some(turn) = lane.next(now) {
            lane.bottleneck.sent(now, FULL_FRAME, 1, true);
            lane.enter(now, WaitQueue::Ring, turn.who);
            sent += 1;
        }
        assert_eq!(sent, 32, "the first window");
        assert!(lane.deadline().is_some_and(|next| next > now));
    }
}
