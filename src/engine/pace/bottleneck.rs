//! The rate of the way to the clients, measured (see the parent for why).
//!
//! Time goes in ticks of 10 ms. What was acknowledged in a tick is a sample of the delivery rate; the greatest of the last fifth of a
//! second counts. A tick in which somebody was made to wait and nobody's want ran out was *pressed*: it measures the way. Any other
//! measures the demand, and can only raise the rate. A pressed tick in which next to nothing is acknowledged measures who is there, not
//! the way: it lowers the rate only when the crowd tells of loss or delay ([`crowd`](super::crowd)). What is under way is kept by the
//! time at which it left, so that a packet that is lost, or was sent to a machine that is gone, stops counting after twice the time
//! that an answer takes (5 to 30 ms) without anybody looking for it.
//!
//! Cost: O(1) a packet, no allocation.

use std::time::Duration;

use crate::base::time::Instant;

use super::FULL_FRAME;
use super::crowd::{Crowd, Witness};

const TICK: Duration = Duration::from_millis(10);
/// Ticks over which the greatest delivery rate counts: a few cycles, so that one that was too great does not fill the queue for long.
const MEMORY: usize = 20;
/// What is under way is kept in slots of so long, and the last of them.
const SLOT: Duration = Duration::from_micros(2500);
const SLOTS: usize = 12;
/// A round trip that is longer counts as this long, and one that nobody has measured.
const LEAST_MAX: Duration = Duration::from_millis(20);
/// What may be under way before anything was measured: 32 full frames, an eighth of a small switch's queue.
const FIRST_WINDOW: u64 = 32 * FULL_FRAME;
/// Packets that the queue on the way is trusted to hold, whatever their size: two thirds of a small switch's.
const QUEUE_PACKETS: u64 = 166;
/// Small packets that may be under way, whatever the rate: each may be answered by two (a size probe's ERROR and the next request), and
/// the queue on their way back is as small.
const SMALL_PACKETS: u64 = 64;
/// The rate never sinks below a tenth of Fast Ethernet.
const RATE_MIN: u64 = 1_250_000;
/// Parts per 1,000 of the bottleneck rate, tick by tick: a probe upwards, a pause to drain it, then a little less than the rate.
const CYCLE: [u64; 8] = [1060, 900, 990, 990, 990, 990, 990, 990];
/// While round trips show no queue, and the climb before brought more.
const CLIMB: u64 = 1120;
/// Ticks before a climb that brought nothing is tried again.
const CLIMB_PAUSE: u32 = 16;
/// While the rate is still being found, and while the queue that this made drains.
const STARTUP: u64 = 2000;
const DRAIN: u64 = 500;
/// Ticks of the drain at most: clients that think long keep more under way than the queue does.
const DRAIN_TICKS: u32 = 3;

/// Noted when a packet leaves, given back when it is acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub struct SendStamp {
    at: Instant,
    bytes: u64,
    /// What of it counts as under way.
    load: Load,
}

impl SendStamp {
    /// Two packets that are acknowledged as one: the later one's time, both their bytes.
    pub fn and(self, later: SendStamp) -> SendStamp {
        let mut load = later.load;
        load.add(self.load);
        SendStamp { at: later.at, bytes: self.bytes + later.bytes, load }
    }
}

/// What is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    bytes: u64,
    packets: u64,
}

impl Load {
    fn add(&mut self, more: Load) {
        self.bytes += more.bytes;
        self.packets += more.packets;
    }

    /// Takes away what is there of `less`, and says how much that was.
    fn take(&mut self, less: Load) -> Load {
        let taken = Load { bytes: less.bytes.min(self.bytes), packets: less.packets.min(self.packets) };
        self.bytes -= taken.bytes;
        self.packets -= taken.packets;
        taken
    }
}

/// Parts per 1,000.
type Mille = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RatePhase {
    /// Doubling, until three ticks under pressure have not brought a quarter more.
    Startup,
    /// Emptying the queue, so that clients see the way without one.
    Drain(u32),
    Cruise,
}

#[derive(Clone, Debug)]
pub struct Bottleneck {
    /// Bytes per second that the link itself carries, if it says so.
    limit: Option<u64>,
    /// How much queue on the way is wanted at most.
    queue: Duration,
    tick: u64,
    /// Bytes acknowledged in the present tick, and those that left for the quiet.
    delivered: u64,
    quiet: u64,
    /// Somebody was made to wait in this tick; and the rate was not what made anybody wait.
    refused: bool,
    idle: bool,
    rates: [u64; MEMORY],
    /// The greatest of `rates`; None before the first full tick.
    rate: Option<u64>,
    /// The last rate that was a quarter above its forerunner, and for how many ticks none has been.
    plateau: (u64, u32),
    phase: RatePhase,
    /// Ticks until the next climb.
    pause: u32,
    /// What loss and delay leave of the rate.
    share: Mille,
    /// The least round trip of all, in nanoseconds.
    least: u64,
    /// The least round trip of clients, smoothed, and the rise above it that half of them see, in nanoseconds.
    base: u64,
    rise: u64,
    crowd: Crowd,
    under_way: Load,
    /// By the slot in which it left; the present slot, and the first one that counts.
    sent_in: [Load; SLOTS + 1],
    slot: u64,
    first_slot: u64,
    /// Bytes that left to be answered, and that were acknowledged by somebody, in the present tick.
    asked: u64,
    answered: u64,
    /// Bytes that left, and that the kernel refused or dropped: both fade.
    sent_now: u64,
    missed: u64,
    /// Bytes that may leave now; negative after a large turn.
    tokens: i64,
    filled: Instant,
}

impl Bottleneck {
    /// `limit`: the link's own rate in bits per second. `queue`: the queue on the way that is aimed at.
    pub fn new(limit: Option<u64>, queue: Duration, now: Instant) -> Bottleneck {
        let mut bottleneck = Bottleneck {
            limit: None,
            queue,
            tick: tick_of(now),
            delivered: 0,
            quiet: 0,
            refused: false,
            idle: false,
            rates: [0; MEMORY],
            rate: None,
            plateau: (0, 0),
            phase: RatePhase::Startup,
            pause: 0,
            share: 1000,
            least: LEAST_MAX.as_nanos() as u64,
            base: 0,
            rise: 0,
            crowd: Crowd::EMPTY,
            under_way: Load::default(),
            sent_in: [Load::default(); SLOTS + 1],
            slot: slot_of(now),
            first_slot: slot_of(now),
            asked: 0,
            answered: 0,
            sent_now: 0,
            missed: 0,
            tokens: FIRST_WINDOW as i64,
            filled: now,
        };
        bottleneck.set_limit(limit);
        bottleneck
    }

    /// Another rate of the link, in bits per second.
    pub fn set_limit(&mut self, limit: Option<u64>) {
        self.limit = limit.map(|bits| bits / 8 / 100 * 97);
    }

    /// Another queue to aim at.
    pub fn set_queue(&mut self, queue: Duration) {
        self.queue = queue;
    }

    /// Whether the rate is still being found.
    pub fn seeks(&self) -> bool {
        self.phase == RatePhase::Startup
    }

    /// The measured bottleneck in bytes per second, if it is known by now.
    pub fn measured(&self) -> Option<u64> {
        self.rate
    }

    /// Bytes per second at which this link is fed now.
    pub fn rate(&self) -> u64 {
        let gain = match self.phase {
            RatePhase::Startup => STARTUP,
            RatePhase::Drain(_) => DRAIN,
            RatePhase::Cruise if self.climbs() => CLIMB,
            RatePhase::Cruise => CYCLE[self.tick as usize % CYCLE.len()],
        };
        let rate = self.rate.map_or(u64::MAX / 4096, |rate| rate * gain / 1000 * self.share / 1000);
        rate.max(RATE_MIN).min(self.limit.unwrap_or(u64::MAX / 4096))
    }

    /// Bytes per second that can be counted on: for the length of a lap. While the rate is still being found, what was measured is no
    /// more than a lower bound of it, and nobody is held because of that.
    pub fn steady_rate(&self) -> u64 {
        let measured = self.rate.filter(|_| self.phase == RatePhase::Cruise).map_or(u64::MAX, |rate| rate * self.share / 1000);
        measured.min(self.limit.unwrap_or(u64::MAX)).max(RATE_MIN)
    }

    /// The rise of round trips over the clients' own minima that half of them see: the queue on the way.
    pub fn queue(&self) -> Duration {
        Duration::from_nanos(self.rise)
    }

    pub fn under_way(&self) -> u64 {
        self.under_way.bytes
    }

    /// Whether as many small packets are under way as may be. Queues count packets, and a small one as much as a block.
    fn small_fill_the_way(&self) -> bool {
        self.under_way.packets >= SMALL_PACKETS.max(self.window() / FULL_FRAME)
    }

    /// How many bytes may be under way.
    fn window(&self) -> u64 {
        match self.rate {
            None => FIRST_WINDOW,
            Some(rate) => {
                // On the way up most clients have seen a queue and no way without one: the least round trip of all counts.
                let base = if self.phase == RatePhase::Cruise { self.base } else { self.least };
                let during = |nanos: u64| (u128::from(rate) * u128::from(nanos) / 1_000_000_000) as u64;
                let queue = during(self.queue.as_nanos() as u64).min(QUEUE_PACKETS * FULL_FRAME);
                (during(base) + queue).max(FIRST_WINDOW / 2)
            }
        }
    }

    fn depth(&self) -> i64 {
        // A timer fires every half millisecond at best: a millisecond's worth may leave at once.
        (self.rate().min(u64::MAX / 4096) / 1000).clamp(8 * FULL_FRAME, 96 * FULL_FRAME) as i64
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.since(self.filled).min(Duration::from_millis(100));
        self.filled = now;
        let gained = u128::from(self.rate()) * passed.as_nanos() / 1_000_000_000;
        self.tokens = (self.tokens + gained as i64).min(self.depth());
    }

    /// Whether something may leave now.
    pub fn open(&mut self, now: Instant) -> bool {
        self.turn(now);
        self.fill(now);
        let full = self.tokens <= 0 || self.under_way.bytes >= self.window();
        self.refused |= full;
        if !full && self.small_fill_the_way() {
            // Their number is the limit: what is delivered says nothing of the rate.
            self.idle = true;
            return false;
        }
        !full
    }

    /// When to look again, after [`open`](Bottleneck::open) said no. An acknowledgement may open it sooner.
    pub fn opens_at(&self, now: Instant) -> Instant {
        if self.tokens > 0 {
            return now + Duration::from_millis(2);
        }
        let missing = self.tokens.unsigned_abs() + FULL_FRAME;
        let wait = u128::from(missing) * 1_000_000_000 / u128::from(self.rate().max(1));
        now + Duration::from_nanos(wait as u64).clamp(Duration::from_micros(250), Duration::from_millis(10))
    }

    /// Packets of so many bytes in all leave. `answered`: they will be acknowledged at once, so that they are under way until then. Part
    /// of a window is acknowledged only with the rest of it, and a DHCP reply not at all.
    pub fn sent(&mut self, now: Instant, bytes: u64, packets: u64, answered: bool) -> SendStamp {
        self.turn(now);
        self.fill(now);
        self.tokens -= bytes as i64;
        let load = if answered { Load { bytes, packets } } else { Load::default() };
        self.under_way.add(load);
        self.sent_in[self.slot as usize % (SLOTS + 1)].add(load);
        self.asked += load.bytes;
        self.sent_now += bytes;
        SendStamp { at: now, bytes, load }
    }

    /// A packet was acknowledged by this client. Not `certain` after a re-transmission, when nobody knows which of the two it was (Karn).
    pub fn acknowledged(&mut self, now: Instant, stamp: SendStamp, witness: &mut Witness, certain: bool) {
        self.turn(now);
        self.delivered += stamp.bytes;
        self.answered += stamp.load.bytes;
        self.settle(stamp);
        self.crowd.hears(self.tick, witness);
        if !certain {
            return;
        }
        let trip = now.since(stamp.at);
        let rise = witness.measure(trip);
        self.crowd.rose(self.tick, witness, rise);
        self.least = self.least.min(trip.as_nanos() as u64);
        let least = witness.least().min(LEAST_MAX).as_nanos() as u64;
        self.base = if self.base == 0 { least } else { self.base - self.base / 32 + least / 32 };
    }

    /// The kernel had no room for so many packets, on their way out or in: lost, before any client has to say so.
    pub fn missed(&mut self, now: Instant, packets: u32) {
        self.turn(now);
        self.missed += u64::from(packets).max(9) * FULL_FRAME;
    }

    /// So many bytes leave for somebody who is no evidence. They take their room on the way, and are reckoned as delivered where others'
    /// are: what they leave to those is not what the way can carry.
    pub fn sent_quietly(&mut self, now: Instant, bytes: u64) {
        self.turn(now);
        self.fill(now);
        self.tokens -= bytes as i64;
        self.sent_now += bytes;
        self.quiet += bytes;
    }

    /// Whether the rate allows something now, whatever is under way.
    pub fn has_tokens(&mut self, now: Instant) -> bool {
        self.turn(now);
        self.fill(now);
        self.tokens > 0
    }

    /// A packet is waited for no longer: it was sent again, or its transfer ended.
    pub fn given_up(&mut self, now: Instant, stamp: SendStamp) {
        self.turn(now);
        self.settle(stamp);
    }

    /// A client has said that something was lost.
    pub fn lost(&mut self, now: Instant, witness: &mut Witness) {
        self.turn(now);
        self.crowd.hears(self.tick, witness);
        self.crowd.lost(self.tick, witness);
    }

    fn settle(&mut self, stamp: SendStamp) {
        let slot = slot_of(stamp.at);
        if slot >= self.first_slot {
            let there = self.sent_in[slot as usize % (SLOTS + 1)].take(stamp.load);
            self.under_way.take(there);
        }
    }

    /// How long a packet that is not acknowledged counts as under way, in slots.
    fn hold(&self) -> u64 {
        let trip = self.base + self.rise + self.queue.as_nanos() as u64;
        (2 * trip / SLOT.as_nanos() as u64).clamp(2, SLOTS as u64)
    }

    /// Lets go of what has been under way for too long.
    fn let_go(&mut self, now: Instant) {
        let slot = slot_of(now);
        if slot == self.slot {
            return;
        }
        self.slot = slot;
        let first = slot.saturating_sub(if self.rate.is_some() { self.hold() } else { SLOTS as u64 });
        for old in self.first_slot..first.min(self.first_slot + SLOTS as u64 + 1) {
            let gone = std::mem::take(&mut self.sent_in[old as usize % (SLOTS + 1)]);
            self.under_way.take(gone);
        }
        self.first_slot = self.first_slot.max(first);
    }

    /// The way is another one, or was cut: it is found anew, and nothing is under way on it.
    pub fn begin_anew(&mut self, now: Instant) {
        *self = Bottleneck { limit: self.limit, ..Bottleneck::new(None, self.queue, now) };
    }

    /// Nobody wants anything: what is delivered now measures the demand.
    pub fn idle(&mut self) {
        self.idle = true;
    }

    /// Whether this tick measures the way.
    fn pressed(&self) -> bool {
        self.refused && !self.idle
    }

    /// Ends the ticks that have passed.
    fn turn(&mut self, now: Instant) {
        self.let_go(now);
        let tick = tick_of(now);
        if tick == self.tick {
            return;
        }
        let passed = tick - self.tick;
        if passed > MEMORY as u64 {
            // A long silence: what was measured stays, nothing is under way.
            (self.asked, self.answered, self.delivered, self.quiet) = (0, 0, 0, 0);
            (self.refused, self.idle) = (false, false);
            self.crowd = Crowd::EMPTY;
            self.tick = tick;
        }
        while self.tick < tick {
            self.end_tick();
            self.tick += 1;
            (self.asked, self.answered) = (0, 0);
            (self.refused, self.idle) = (false, false);
        }
    }

    /// Whether this tick may say that the way carries less than it did. That next to nothing is acknowledged says nothing by itself:
    /// who was sent to may be dead.
    fn may_be_less(&self) -> bool {
        self.phase != RatePhase::Cruise || self.is_slow() || self.crowd.loses() || self.answered * 16 >= self.asked
    }

    /// Whether the queue on the way is more than is wanted.
    fn is_slow(&self) -> bool {
        self.rise > self.queue.as_nanos() as u64 * 3 / 2
    }

    fn climbs(&self) -> bool {
        self.pause == 0 && self.rise < self.queue.as_nanos() as u64 / 4
    }

    fn end_tick(&mut self) {
        self.rise = self.crowd.rise().map_or(0, |rise| rise.as_nanos() as u64);
        let (delivered, quiet) = (std::mem::take(&mut self.delivered), std::mem::take(&mut self.quiet));
        // What leaves for the quiet alone says nothing.
        let bytes = if delivered > 0 { delivered + quiet } else { 0 };
        let rate = bytes * (1000 / TICK.as_millis() as u64);
        let known = self.rate.unwrap_or(0);
        if self.phase == RatePhase::Cruise {
            let fruitless = self.climbs() && rate < known / 100 * 104;
            self.pause = if fruitless { CLIMB_PAUSE } else { self.pause.saturating_sub(1) };
        }
        // Who holds back measures itself.
        if (self.pressed() && self.share == 1000 && self.may_be_less()) || rate > known {
            self.rates[self.tick as usize % MEMORY] = rate;
            let greatest = self.rates.iter().copied().max().unwrap_or(0);
            if greatest > 0 {
                self.rate = Some(greatest);
            }
        } else {
            // Demand, not the way: the tick keeps what was known, so that nothing is forgotten for want of clients.
            self.rates[self.tick as usize % MEMORY] = known;
        }
        self.find_plateau();
        self.react();
        self.crowd.fade();
    }

    fn find_plateau(&mut self) {
        let Some(rate) = self.rate else { return };
        match self.phase {
            RatePhase::Startup if !self.pressed() => {}
            RatePhase::Startup => {
                let (best, since) = self.plateau;
                if rate * 4 >= best * 5 {
                    self.plateau = (rate, 0);
                } else if since + 1 >= 3 || self.rise > 2 * self.queue.as_nanos() as u64 {
                    self.phase = RatePhase::Drain(0);
                } else {
                    self.plateau.1 = since + 1;
                }
            }
            RatePhase::Drain(ticks) if ticks + 1 >= DRAIN_TICKS => {
                // What was measured in the queue of the way up is forgotten.
                (self.phase, self.base, self.rise, self.crowd) = (RatePhase::Cruise, self.least, 0, Crowd::EMPTY);
            }
            RatePhase::Drain(ticks) => self.phase = RatePhase::Drain(ticks + 1),
            RatePhase::Cruise => {}
        }
    }

    /// Delay first, loss second: both lower the share by a tenth, and it comes back by a fiftieth. When half of the rate is still too
    /// much, the way has changed.
    fn react(&mut self) {
        let missed = self.missed * 50 > self.sent_now && self.missed > 8 * FULL_FRAME;
        // Where the rate keeps nobody waiting a lower one cures nothing: the cause is another.
        let crowded = self.refused && (self.is_slow() || self.crowd.loses());
        self.share = if crowded || missed { self.share * 9 / 10 } else { (self.share + 20).min(1000) };
        if self.share < 500 {
            self.share = 1000;
            self.rates.iter_mut().for_each(|rate| *rate /= 2);
            self.rate = self.rate.map(|rate| rate / 2);
        }
        self.missed -= self.missed / 4;
        self.sent_now -= self.sent_now / 4;
    }
}

fn slot_of(now: Instant) -> u64 {
    now.nanos() / SLOT.as_nanos() as u64
}

fn tick_of(now: Instant) -> u64 {
    now.nanos() / TICK.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Reverse;
    use std::collections::{BinaryHeap, VecDeque};

    /// Lock-step clients behind a FIFO of `queue` packets that drains at `rate` bytes per second.
    struct Way {
        rate: u64,
        queue: usize,
        think: Duration,
        clients: usize,
        /// The first so many clients acknowledge three packets, and all others 300 ms late.
        late: usize,
    }

    /// What came of a simulated while.
    #[derive(Debug)]
    struct Outcome {
        dropped: u64,
        used: f64,
        deepest: usize,
    }

    fn run(way: &Way, limit: Option<u64>, millis: u64) -> Outcome {
        const BYTES: u64 = FULL_FRAME;
        let mut it = Bottleneck::new(limit, Duration::from_millis(2), Instant::ZERO);
        let mut witnesses = vec![Witness::default(); way.clients];
        let mut waiting: VecDeque<usize> = (0..way.clients).collect();
        let mut acks: BinaryHeap<Reverse<(Instant, usize, u64)>> = BinaryHeap::new();
        let mut stamps = vec![SendStamp::default(); way.clients];
        let mut acked = vec![0; way.clients];
        let mut fifo: VecDeque<Instant> = VecDeque::new();
        let (mut free, mut delivered, mut dropped, mut deepest) = (Instant::ZERO, 0u64, 0u64, 0);
        let mut late: VecDeque<(Instant, usize)> = VecDeque::new();
        let end = Instant::from_millis(millis);
        let mut now = Instant::ZERO;
        while now < end {
            while acks.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
                let Reverse((at, client, _)) = acks.pop().unwrap();
                it.acknowledged(at.max(now), stamps[client], &mut witnesses[client], true);
                waiting.push_back(client);
                delivered += BYTES;
            }
            while late.front().is_some_and(|(at, _)| *at <= now) {
                let (_, client) = late.pop_front().unwrap();
                it.given_up(now, stamps[client]);
                it.lost(now, &mut witnesses[client]);
                waiting.push_front(client);
            }
            while !waiting.is_empty() && it.open(now) {
                let client = waiting.pop_front().unwrap();
                stamps[client] = it.sent(now, BYTES, 1, true);
                while fifo.front().is_some_and(|at| *at <= now) {
                    fifo.pop_front();
                }
                deepest = deepest.max(fifo.len());
                if fifo.len() >= way.queue {
                    dropped += 1;
                    late.push_back((now + Duration::from_millis(500), client));
                    continue;
                }
                free = free.max(now) + Duration::from_nanos(BYTES * 1_000_000_000 / way.rate);
                fifo.push_back(free);
                acked[client] += 1;
                let late = client < way.late && acked[client] > 3;
                acks.push(Reverse((free + if late { Duration::from_millis(300) } else { way.think }, client, 0)));
            }
            if waiting.is_empty() {
                it.idle();
            }
            let soon = now + Duration::from_micros(250);
            let next = acks.peek().map_or(soon, |Reverse((at, ..))| *at);
            now = next.clamp(now + Duration::from_micros(20), soon);
        }
        Outcome { dropped, used: delivered as f64 / (way.rate as f64 * millis as f64 / 1000.0), deepest }
    }

    const GIGABIT: u64 = 125_000_000;

    #[test]
    fn finds_a_bottleneck_that_nobody_told_and_loses_nothing() {
        for rate in [GIGABIT, GIGABIT / 10] {
            for clients in [300, 1000, 4000] {
                for think in [50, 2000] {
                    let way = Way { rate, queue: 256, think: Duration::from_micros(think), clients, late: 0 };
                    let outcome = run(&way, Some(10_000_000_000), 3000);
                    assert_eq!(outcome.dropped, 0, "{rate} {clients} {think}: {outcome:?}");
                    assert!(outcome.deepest < 256 && outcome.used > 0.93, "{rate} {clients} {think}: {outcome:?}");
                }
            }
        }
    }

    /// A minority that acknowledges late costs the others its own share of turns, and nothing else.
    #[test]
    fn the_lateness_of_a_minority_is_its_own() {
        for (clients, late) in [(300, 1), (300, 20), (300, 140), (40, 19), (1000, 400)] {
            let way = Way { rate: GIGABIT, queue: 256, think: Duration::from_micros(50), clients, late };
            let outcome = run(&way, Some(10_000_000_000), 3000);
            // Who remains is in lock-step: a packet each in 12 us for all of them, or in the time that an answer takes.
            let most = ((clients - late) as f64 * 12.3 / 50.0).min(1.0);
            assert!(outcome.dropped == 0 && outcome.used > 0.9 * most, "{clients} {late}: {outcome:?}");
        }
    }

    #[test]
    fn few_clients_are_not_held_back() {
        let way = Way { rate: GIGABIT, queue: 256, think: Duration::from_millis(1), clients: 10, late: 0 };
        let outcome = run(&way, None, 1000);
        // Ten clients in lock-step: ten packets a millisecond and a bit.
        assert!(outcome.used > 0.9 * 10.0 * FULL_FRAME as f64 * 1000.0 / 1.15 / GIGABIT as f64, "{outcome:?}");
    }
}
