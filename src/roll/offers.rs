//! Numbers that were offered and not given: a machine that passed is offered the address of a vacant number, and the number is given
//! when it takes the offer.
//!
//! An offer is no promise: it is in memory alone, ends after [`HOLD`], and keeps other offers off the number, nothing else. A machine that
//! takes what it was offered while every vacant number is spoken for gets one that another was offered.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::slab::Key;
use crate::base::time::Instant;

use super::client::Client;
use super::plan::Number;

/// How long a number is kept for whom it was offered to. Clients that report take an offer at once, and repeat a lost REQUEST within a second.
pub const HOLD: Duration = Duration::from_secs(10);

#[derive(Clone, Copy)]
struct Offer {
    to: Key<Client>,
    until: Instant,
}

/// One offer a number, all for the same time, so that they end in order.
pub struct Offers {
    by_number: Box<[Option<Offer>]>,
    /// A bit for each number that is spoken for.
    bits: Box<[u64]>,
    queue: VecDeque<(Instant, Number)>,
    count: u32,
}

impl Offers {
    pub fn new(nodes: usize) -> Offers {
        Offers {
            by_number: vec![None; nodes].into(),
            bits: vec![0; nodes.div_ceil(64)].into(),
            queue: VecDeque::with_capacity(nodes),
            count: 0,
        }
    }

    /// A bit for each number that is spoken for, 64 in a word.
    pub fn bits(&self) -> &[u64] {
        &self.bits
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    pub fn is_spoken_for(&self, number: Number) -> bool {
        self.by_number.get(number.0 as usize).is_some_and(Option::is_some)
    }

    /// Ends those whose time is over.
    pub fn settle(&mut self, now: Instant) {
        while let Some(&(until, number)) = self.queue.front().filter(|(until, _)| *until <= now) {
            self.queue.pop_front();
            if self.by_number.get(number.0 as usize).copied().flatten().is_some_and(|offer| offer.until == until) {
                self.withdraw(number);
            }
        }
    }

    /// Speaks for a number. False when somebody else does, or too many were spoken for just now.
    pub fn make(&mut self, now: Instant, number: Number, to: Key<Client>) -> bool {
        self.settle(now);
        let room = self.queue.len() < self.by_number.len();
        let Some(place) = self.by_number.get_mut(number.0 as usize) else { return false };
        match place {
            Some(offer) => offer.to == to,
            None if room => {
                *place = Some(Offer { to, until: now + HOLD });
                self.queue.push_back((now + HOLD, number));
                self.count += 1;
                self.mark(number, true);
                true
            }
            None => false,
        }
    }

    /// Whether a number is spoken for by this machine.
    pub fn is_made(&self, now: Instant, number: Number, to: Key<Client>) -> bool {
        self.by_number.get(number.0 as usize).copied().flatten().is_some_and(|offer| offer.to == to && offer.until > now)
    }

    /// Nobody speaks for a number any more.
    pub fn withdraw(&mut self, number: Number) {
        if self.by_number.get_mut(number.0 as usize).and_then(Option::take).is_some() {
            self.count -= 1;
            self.mark(number, false);
        }
    }

    fn mark(&mut self, number: Number, spoken_for: bool) {
        let bit = 1 << (number.0 % 64);
        if let Some(word) = self.bits.get_mut(number.0 as usize / 64) {
            *word = if spoken_for { *word | bit } else { *word & !bit };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    fn key(n: u64) -> Key<Client> {
        Key::from_u64(n)
    }

    #[test]
    fn an_offer_keeps_others_off_for_ten_seconds() {
        let (now, mut offers) = (Instant::from_millis(1000), Offers::new(70));
        assert!(offers.make(now, Number(69), key(1)) && offers.make(now, Number(69), key(1)) && !offers.make(now, Number(69), key(2)));
        assert!(!offers.make(now, Number(70), key(1)), "there is no such number");
        assert_eq!((offers.bits(), offers.count()), ([0, 1 << 5].as_slice(), 1));
        assert!(offers.is_made(now, Number(69), key(1)) && !offers.is_made(now, Number(69), key(2)));
        assert!(!offers.is_made(now + HOLD, Number(69), key(1)) && offers.make(now + HOLD, Number(69), key(2)));
        offers.withdraw(Number(69));
        assert_eq!((offers.bits(), offers.count(), offers.is_spoken_for(Number(69))), ([0, 0].as_slice(), 0, false));
    }

    /// Made, withdrawn and made again at any speed: no more is kept than there are numbers, and all of it ends.
    #[test]
    fn the_queue_is_bounded() {
        let (mut rng, mut offers, mut now) = (Rng::new(3), Offers::new(8), Instant::ZERO);
        for _ in 0..10_000 {
            now += Duration::from_millis(rng.below(3) * 100);
            let number = Number(rng.below(8) as u32);
            match rng.below(3) {
                0 => offers.withdraw(number),
                _ => drop(offers.make(now, number, key(rng.below(3)))),
            }
            let set = offers.by_number.iter().filter(|offer| offer.is_some()).count();
            assert!(offers.queue.len() <= 8 && set == offers.count as usize && set == offers.bits[0].count_ones() as usize);
        }
        offers.settle(now + HOLD);
        assert_eq!((offers.count(), offers.queue.len()), (0, 0));
    }
}
