//! Every deadline of a machine: a hierarchical timing wheel (Varghese and Lauck, 1987) over a fixed set of timers.
//!
//! Timer `n` belongs to slot `n` of a slab (the owner lays its slabs out in one range). Setting, moving, cancelling and expiring
//! are O(1); finding the next deadline looks at one bitmap a level. A tick is 2^20 ns (1.05 ms). A timer never fires early; it
//! fires at most one tick late. Four levels of 64 slots reach 4.9 hours; what is further away waits in the last slot of the top
//! level and is put back until it is due.

use super::time::Instant;

const LEVELS: usize = 4;
const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const TICK_BITS: u32 = 20;
const NONE: u32 = u32::MAX;
const IDLE: u16 = u16::MAX;

#[derive(Clone, Copy)]
struct Timer {
    /// The first tick that is not before the deadline.
    tick: u64,
    next: u32,
    prev: u32,
    /// level * SLOTS + slot, or IDLE.
    place: u16,
}

pub struct Wheel {
    timers: Box<[Timer]>,
    heads: [u32; LEVELS * SLOTS],
    used: [u64; LEVELS],
    /// Every tick below this one has been expired.
    tick: u64,
    armed: usize,
}

impl Wheel {
    /// A wheel of timers `0..timers`, all idle, starting at `now`.
    pub fn new(timers: usize, now: Instant) -> Wheel {
        assert!(timers < NONE as usize);
        let idle = Timer { tick: 0, next: NONE, prev: NONE, place: IDLE };
        Wheel {
            timers: vec![idle; timers].into(),
            heads: [NONE; LEVELS * SLOTS],
            used: [0; LEVELS],
            tick: now.nanos() >> TICK_BITS,
            armed: 0,
        }
    }

    pub fn armed(&self) -> usize {
        self.armed
    }

    pub fn is_armed(&self, timer: usize) -> bool {
        self.timers[timer].place != IDLE
    }

    /// Arms `timer` for `deadline`, or moves it there.
    pub fn set(&mut self, timer: usize, deadline: Instant) {
        self.cancel(timer);
        self.timers[timer].tick = deadline.nanos().div_ceil(1 << TICK_BITS);
        self.link(timer);
    }

    pub fn cancel(&mut self, timer: usize) {
        let Timer { next, prev, place, .. } = self.timers[timer];
        if place == IDLE {
            return;
        }
        match prev {
            NONE => self.heads[place as usize] = next,
            prev => self.timers[prev as usize].next = next,
        }
        if next != NONE {
            self.timers[next as usize].prev = prev;
        }
        if self.heads[place as usize] == NONE {
            self.used[place as usize / SLOTS] &= !(1 << (place as usize % SLOTS));
        }
        self.timers[timer].place = IDLE;
        self.armed -= 1;
    }

    fn link(&mut self, timer: usize) {
        let tick = self.timers[timer].tick.max(self.tick);
        let ahead = tick ^ self.tick;
        let level = (((63 - (ahead | 1).leading_zeros()) / BITS) as usize).min(LEVELS - 1);
        let shift = level as u32 * BITS;
        // Beyond the horizon: the slot of the top level that comes up last.
        let turns = ((tick >> shift) - (self.tick >> shift)).min(SLOTS as u64 - 1);
        let place = level * SLOTS + ((self.tick >> shift) + turns) as usize % SLOTS;
        let head = self.heads[place];
        if head != NONE {
            self.timers[head as usize].prev = timer as u32;
        }
        self.timers[timer] = Timer { next: head, prev: NONE, place: place as u16, ..self.timers[timer] };
        self.heads[place] = timer as u32;
        self.used[place / SLOTS] |= 1 << (place % SLOTS);
        self.armed += 1;
    }

    /// The first slot in use: its level, its number and the tick at which it comes up.
    fn first(&self) -> Option<(usize, usize, u64)> {
        let slot_of = |level: usize| (self.tick >> (level as u32 * BITS)) as usize % SLOTS;
        let candidates = (0..LEVELS).filter(|&level| self.used[level] != 0).map(|level| {
            let ahead = self.used[level].rotate_right(slot_of(level) as u32).trailing_zeros() as u64;
            let shift = level as u32 * BITS;
            let start = ((self.tick >> shift) + ahead) << shift;
            (level, (slot_of(level) + ahead as usize) % SLOTS, start.max(self.tick))
        });
        // Of equal times the higher level comes first: it must be spread before the lower one is read.
        candidates.min_by_key(|&(level, _, tick)| (tick, usize::MAX - level))
    }

    /// When to call [`expire`](Wheel::expire) next. May be early (a slot of a higher level has to be spread), never late.
    pub fn deadline(&self) -> Option<Instant> {
        self.first().map(|(_, _, tick)| Instant::from_nanos(tick << TICK_BITS))
    }

    /// Takes the next timer that is due; call until it gives None. A timer that is given is idle again.
    pub fn expire(&mut self, now: Instant) -> Option<usize> {
        let now = now.nanos() >> TICK_BITS;
        loop {
            match self.first() {
                Some((level, slot, tick)) if tick <= now => {
                    self.tick = tick;
                    let timer = self.heads[level * SLOTS + slot] as usize;
                    if level == 0 {
                        self.cancel(timer);
                        return Some(timer);
                    }
                    self.spread(level * SLOTS + slot);
                }
                _ => {
                    self.tick = self.tick.max(now);
                    return None;
                }
            }
        }
    }

    /// Empties a slot of a higher level; each timer finds its place again, seen from the present tick.
    fn spread(&mut self, place: usize) {
        let mut timer = std::mem::replace(&mut self.heads[place], NONE);
        self.used[place / SLOTS] &= !(1 << (place % SLOTS));
        while timer != NONE {
            let next = self.timers[timer as usize].next;
            self.armed -= 1;
            self.link(timer as usize);
            timer = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use std::time::Duration;

    const TICK: Duration = Duration::from_nanos(1 << TICK_BITS);

    #[test]
    fn never_early_and_at_most_a_tick_late() {
        for seed in 0..40 {
            let mut rng = Rng::new(seed);
            let mut now = Instant::from_nanos(rng.below(1 << 50));
            let mut wheel = Wheel::new(200, now);
            let mut due: Vec<Option<Instant>> = vec![None; 200];
            for _ in 0..3000 {
                let timer = rng.below(200) as usize;
                if rng.chance(200_000) {
                    wheel.cancel(timer);
                    due[timer] = None;
                } else {
                    let far = [3_000_000, 600_000_000, 40_000_000_000, 90_000_000_000_000][rng.below(4) as usize];
                    let deadline = now + Duration::from_nanos(rng.below(far));
                    wheel.set(timer, deadline);
                    due[timer] = Some(deadline);
                }
                let step = [0, 100_000, 70_000_000, 900_000_000_000][rng.below(4) as usize];
                now += Duration::from_nanos(rng.below(step + 1));
                while let Some(fired) = wheel.expire(now) {
                    let deadline = due[fired].take().expect("a timer that was armed");
                    assert!(deadline <= now, "seed {seed}: early");
                }
                for deadline in due.iter().flatten() {
                    assert!(*deadline + TICK > now, "seed {seed}: late: {deadline} at {now}");
                }
                assert_eq!(wheel.armed(), due.iter().flatten().count());
                let first = due.iter().flatten().min();
                assert_eq!(wheel.deadline().is_some(), first.is_some());
                if let (Some(told), Some(first)) = (wheel.deadline(), first) {
                    assert!(told <= *first + TICK, "seed {seed}: would sleep past {first}");
                }
            }
        }
    }

    #[test]
    fn sleeping_until_the_deadline_fires_everything() {
        let mut wheel = Wheel::new(3, Instant::ZERO);
        wheel.set(0, Instant::from_millis(500));
        wheel.set(1, Instant::from_millis(70_000));
        wheel.set(2, Instant::from_millis(500));
        let (mut fired, mut wakes) = (Vec::new(), 0);
        while let Some(deadline) = wheel.deadline() {
            wakes += 1;
            fired.extend(std::iter::from_fn(|| wheel.expire(deadline)));
        }
        fired.sort_unstable();
        assert_eq!(fired, [0, 1, 2]);
        assert!(wakes <= 8, "{wakes} wake-ups");
    }
}
