//! The guest house: a pool of addresses for machines without a number.
//!
//! An address is *fresh* (never looked at), being *probed* by ARP, *vetted* (nobody answered), *held* by a client, in
//! *quarantine* (somebody else was found on it), or *resting* (its machine left it before its lease ended). What was acknowledged stays with the
//! address whatever becomes of its holder's record: it is nobody else's before the lease ends. The pool vets fresh addresses ahead of need, one
//! a millisecond, so that a storm of strangers waits for no probe; a stranger that comes before that waits for its own. A vetted
//! address is probed once more as it is offered, without waiting: whoever took it meanwhile answers before the client's REQUEST does.
//! Vetted addresses are given out oldest first, except that a machine gets the one that its identity points at when that
//! is vetted: the same address again after a restart. Nobody can put the whole pool away: where no other address is
//! free and more than a quarter is in quarantine, the one that is there longest is probed and given. An answer of ARP counts where a probe has asked for it within [`ANSWER_WAIT`]. Every operation is O(1); the lists run through one array.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::slab::Key;
use crate::base::time::Instant;
use crate::base::wheel::Wheel;

use super::client::{Client, Identity};
use super::plan::AddressRange;

/// How long an ARP probe may go unanswered before the address counts as unused.
pub const PROBE_WAIT: Duration = Duration::from_millis(100);
/// How long after a probe an answer counts. A sleepy host takes a part of a second.
pub const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// Between two probes of the vetting sweep.
const SWEEP_INTERVAL: Duration = Duration::from_millis(1);
/// Between two addresses that are looked at again because of a claim that nobody had asked for.
const AGAIN_INTERVAL: Duration = Duration::from_millis(100);
/// How long an address that was found in use stays out of the pool.
pub const QUARANTINE: Duration = Duration::from_secs(600);

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AddressState {
    Fresh,
    Probing,
    Vetted,
    Quarantine,
    Resting,
    Held(Key<Client>),
    /// The head's or a router's: never given.
    Excluded,
}

#[derive(Clone, Copy)]
struct AddressSlot {
    state: AddressState,
    /// Probing: when it is vetted. Held: when its probe is over.
    at: Instant,
    /// Quarantine: whom ARP showed on it. If that machine asks for the address, it was given before a restart.
    seen: Option<Mac>,
    /// What was promised last: to the holder, or to who left it. None where the address is fresh, probed or vetted.
    lease: Option<Lease>,
    /// Until when the answer to a probe counts.
    asked: Instant,
    next: u32,
    prev: u32,
}

#[derive(Clone, Copy)]
struct AddressList {
    head: u32,
    tail: u32,
    len: u32,
}

const EMPTY: AddressList = AddressList { head: NONE, tail: NONE, len: 0 };

/// A promise of an address, acknowledged or on record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    pub to: Identity,
    pub until: Instant,
}

/// Who has an address of a pool, for the journal.
#[derive(Clone, Copy)]
pub struct Tenure {
    pub address: Ipv4Addr,
    pub holder: Option<Key<Client>>,
    pub lease: Option<Lease>,
}

/// An address that was taken for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub address: Ipv4Addr,
    /// Not to be offered before; now for vetted addresses.
    pub ready: Instant,
    /// An ARP probe is to be sent for it now.
    pub probe: bool,
}

pub struct GuestPool {
    range: AddressRange,
    slots: Box<[AddressSlot]>,
    fresh: AddressList,
    probing: AddressList,
    vetted: AddressList,
    quarantine: AddressList,
    resting: AddressList,
    /// When quarantine and rest end.
    wheel: Wheel,
    held: usize,
    next_sweep: Instant,
    next_again: Instant,
    /// ARP reaches this network.
    probes: bool,
    /// Its link is out of service.
    suspended: bool,
}

impl GuestPool {
    /// A pool over `range`, leaving out `excluded`. Without `probes` (a network behind a relay, which ARP does not reach)
    /// every address counts as vetted.
    pub fn new(range: AddressRange, excluded: impl Fn(Ipv4Addr) -> bool, probes: bool, now: Instant) -> GuestPool {
        let slot =
            AddressSlot { state: AddressState::Excluded, at: now, seen: None, lease: None, asked: Instant::ZERO, next: NONE, prev: NONE };
        let slots: Box<[AddressSlot]> = vec![slot; range.count() as usize].into();
        let [fresh, probing, vetted, quarantine, resting] = [EMPTY; 5];
        let (next_sweep, next_again, wheel) = (now, now, Wheel::new(slots.len(), now));
        let mut pool = GuestPool {
            range,
            slots,
            fresh,
            probing,
            vetted,
            quarantine,
            resting,
            wheel,
            held: 0,
            next_sweep,
            next_again,
            probes,
            suspended: false,
        };
        for at in 0..pool.slots.len() {
            if !range.nth(at).is_none_or(&excluded) {
                pool.push(at as u32, pool.unvetted());
            }
        }
        pool
    }

    pub fn range(&self) -> AddressRange {
        self.range
    }

    /// Addresses held by clients.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Addresses that a client could get.
    pub fn free(&self) -> usize {
        (self.fresh.len + self.probing.len + self.vetted.len) as usize
    }

    /// Addresses on which somebody else was found.
    pub fn quarantined(&self) -> usize {
        self.quarantine.len as usize
    }

    /// Addresses whose machines have left them before their leases end.
    pub fn resting(&self) -> usize {
        self.resting.len as usize
    }

    /// The state of a free address of which nothing is known.
    fn unvetted(&self) -> AddressState {
        if self.probes { AddressState::Fresh } else { AddressState::Vetted }
    }

    fn list(&mut self, state: AddressState) -> Option<&mut AddressList> {
        match state {
            AddressState::Fresh => Some(&mut self.fresh),
            AddressState::Probing => Some(&mut self.probing),
            AddressState::Vetted => Some(&mut self.vetted),
            AddressState::Quarantine => Some(&mut self.quarantine),
            AddressState::Resting => Some(&mut self.resting),
            AddressState::Held(_) | AddressState::Excluded => None,
        }
    }

    /// Puts a slot that is in no list at the end of its state's list.
    fn push(&mut self, at: u32, state: AddressState) {
        let mut tail = NONE;
        if let Some(list) = self.list(state) {
            tail = list.tail;
            list.tail = at;
            list.len += 1;
            if tail == NONE {
                list.head = at;
            }
        }
        if tail != NONE {
            self.slots[tail as usize].next = at;
        }
        let slot = &mut self.slots[at as usize];
        (slot.state, slot.prev, slot.next) = (state, tail, NONE);
        self.held += usize::from(matches!(state, AddressState::Held(_)));
    }

    /// Takes a slot out of its list.
    fn pull(&mut self, at: u32) {
        let AddressSlot { state, next, prev, .. } = self.slots[at as usize];
        self.held -= usize::from(matches!(state, AddressState::Held(_)));
        let Some(list) = self.list(state) else { return };
        list.len -= 1;
        if prev == NONE {
            list.head = next;
        }
        if next == NONE {
            list.tail = prev;
        }
        if prev != NONE {
            self.slots[prev as usize].next = next;
        }
        if next != NONE {
            self.slots[next as usize].prev = prev;
        }
    }

    fn shift(&mut self, at: u32, state: AddressState) {
        self.pull(at);
        self.push(at, state);
    }

    fn at(&self, address: Ipv4Addr) -> Option<u32> {
        self.range.position(address).map(|at| at as u32)
    }

    /// Takes an address for `owner`, who is `who`: the one that `wish` (a hash of its identity) points at, if it is vetted or was left by
    /// this very machine, else the one vetted longest ago, else one that must be probed first. None when no address is left.
    pub fn take(&mut self, now: Instant, wish: u64, owner: Key<Client>, who: &Identity) -> Option<Taken> {
        self.settle(now);
        let wished = (wish % self.slots.len().max(1) as u64) as u32;
        let left = |slot: &AddressSlot| slot.state == AddressState::Resting && slot.lease.is_some_and(|lease| lease.to == *who);
        let good = |slot: &AddressSlot| slot.state == AddressState::Vetted || left(slot);
        let wished = Some(wished).filter(|&at| self.slots.get(at as usize).is_some_and(good));
        let first = |list: AddressList| Some(list.head).filter(|&at| at != NONE);
        let free = wished.or(first(self.vetted)).or(first(self.probing)).or(first(self.fresh));
        let at = free.or_else(|| self.last_resort())?;
        self.hold(at, now, owner)
    }

    /// The address that is in quarantine for longest, which is probed again, while more than a quarter of the pool is.
    fn last_resort(&mut self) -> Option<u32> {
        let AddressList { head, len, .. } = self.quarantine;
        if len as usize <= (self.slots.len() / 4).max(1) {
            return None;
        }
        if self.slots[head as usize].lease.is_some() {
            // It is promised to somebody: the next who asks is led to another one.
            self.shift(head, AddressState::Quarantine);
            return None;
        }
        self.release(head);
        Some(head)
    }

    /// Takes this very address for `owner`, when it is free.
    pub fn claim(&mut self, now: Instant, address: Ipv4Addr, owner: Key<Client>, who: &Identity) -> Option<Taken> {
        self.settle(now);
        let at = self.at(address).filter(|_| self.is_free(address, who))?;
        self.hold(at, now, owner)
    }

    fn hold(&mut self, at: u32, now: Instant, owner: Key<Client>) -> Option<Taken> {
        let address = self.range.nth(at as usize)?;
        let slot = self.slots[at as usize];
        let (ready, probe) = match slot.state {
            AddressState::Fresh => (now + PROBE_WAIT, true),
            AddressState::Probing => (slot.at, false),
            _ => (now, self.probes),
        };
        self.wheel.cancel(at as usize);
        self.shift(at, AddressState::Held(owner));
        self.slots[at as usize].at = ready;
        if probe {
            self.slots[at as usize].asked = now + ANSWER_WAIT;
        }
        Some(Taken { address, ready, probe })
    }

    /// Whether this machine could claim this address.
    pub fn is_free(&self, address: Ipv4Addr, who: &Identity) -> bool {
        let Some(slot) = self.at(address).map(|at| &self.slots[at as usize]) else { return false };
        let another = slot.lease.is_some_and(|lease| lease.to != *who);
        match slot.state {
            AddressState::Fresh | AddressState::Probing | AddressState::Vetted => true,
            AddressState::Resting => !another,
            AddressState::Quarantine => !another && slot.seen.is_some_and(|seen| *who == Identity::Mac(seen)),
            AddressState::Held(_) | AddressState::Excluded => false,
        }
    }

    /// Who holds an address.
    pub fn owner(&self, address: Ipv4Addr) -> Option<Key<Client>> {
        match self.slots[self.at(address)? as usize].state {
            AddressState::Held(owner) => Some(owner),
            _ => None,
        }
    }

    /// Notes what the holder of an address was promised. An earlier promise to it that lasts longer stands.
    pub fn promise(&mut self, address: Ipv4Addr, owner: Key<Client>, lease: Lease) {
        let Some(at) = self.at(address).filter(|_| self.owner(address) == Some(owner)) else { return };
        let slot = &mut self.slots[at as usize];
        let before = slot.lease.filter(|before| before.to == lease.to).map_or(lease.until, |before| before.until);
        slot.lease = Some(Lease { until: lease.until.max(before), ..lease });
    }

    /// The machine does not want any more what it was promised.
    pub fn waive(&mut self, address: Ipv4Addr, who: &Identity) {
        if let Some(at) = self.at(address).filter(|_| self.owner(address).is_some()) {
            let slot = &mut self.slots[at as usize];
            slot.lease = slot.lease.filter(|lease| lease.to != *who);
        }
    }

    /// A machine that has another address now gives up one that it has left and that was promised to it: it is probed before anybody else gets it,
    /// for a system may go on with what its firmware had. Where that cannot be found out the address rests.
    pub fn give_up(&mut self, address: Ipv4Addr, who: &Identity) {
        let left =
            |slot: &AddressSlot| self.probes && slot.state == AddressState::Resting && slot.lease.is_some_and(|lease| lease.to == *who);
        if let Some(at) = self.at(address).filter(|&at| left(&self.slots[at as usize])) {
            self.slots[at as usize].lease = None;
            self.release(at);
        }
    }

    /// Gives a held address back; one that is promised rests until its lease ends. `vetted` is false when its holder may still be using it
    /// (BOOTP): it is probed again then.
    pub fn free_up(&mut self, address: Ipv4Addr, vetted: bool) {
        let Some(at) = self.at(address).filter(|_| self.owner(address).is_some()) else { return };
        match self.slots[at as usize].lease {
            None => self.shift(at, if vetted { AddressState::Vetted } else { self.unvetted() }),
            Some(_) => self.release(at),
        }
    }

    /// Lets an address go from whatever it was: to rest while it is promised, and else to be probed.
    fn release(&mut self, at: u32) {
        self.slots[at as usize].seen = None;
        match self.slots[at as usize].lease {
            Some(lease) => {
                self.shift(at, AddressState::Resting);
                self.wheel.set(at as usize, lease.until);
            }
            None => {
                self.shift(at, self.unvetted());
                self.wheel.cancel(at as usize);
            }
        }
    }

    /// Whether the answer of somebody who has this address counts now: a probe has asked for it.
    pub fn asked(&self, now: Instant, address: Ipv4Addr) -> bool {
        self.at(address).is_some_and(|at| now <= self.slots[at as usize].asked)
    }

    /// A free address that somebody claims unasked is probed again before it is given, one now and then.
    pub fn look_again(&mut self, now: Instant, address: Ipv4Addr) {
        let Some(at) = self.at(address).filter(|&at| self.slots[at as usize].state == AddressState::Vetted) else { return };
        if now >= self.next_again && self.probes {
            self.next_again = now + AGAIN_INTERVAL;
            self.shift(at, AddressState::Fresh);
        }
    }

    /// The holder of an address says that another machine uses it: it is given back, and to be probed now. False when it is not held.
    pub fn doubt(&mut self, now: Instant, address: Ipv4Addr) -> bool {
        let Some(at) = self.at(address).filter(|_| self.owner(address).is_some()) else { return false };
        self.shift(at, AddressState::Probing);
        let slot = &mut self.slots[at as usize];
        (slot.at, slot.asked, slot.lease) = (now + PROBE_WAIT, now + ANSWER_WAIT, None);
        true
    }

    /// An address that was put away because `user` answered for it: that answer counts no more.
    pub fn take_back(&mut self, address: Ipv4Addr, user: Mac) {
        let away = |slot: &AddressSlot| slot.state == AddressState::Quarantine && slot.seen == Some(user);
        if let Some(at) = self.at(address).filter(|&at| away(&self.slots[at as usize])) {
            self.release(at);
        }
    }

    /// Puts an address away because a machine that we did not give it to uses it; `user` is that machine, if it was seen. False when
    /// it was away already, or is not ours.
    pub fn put_away(&mut self, now: Instant, address: Ipv4Addr, user: Option<Mac>) -> bool {
        let Some(at) = self.at(address) else { return false };
        if matches!(self.slots[at as usize].state, AddressState::Excluded | AddressState::Quarantine) {
            return false;
        }
        self.shift(at, AddressState::Quarantine);
        self.slots[at as usize].seen = user;
        self.wheel.set(at as usize, now + QUARANTINE);
        true
    }

    /// Leaves an address out as long as the head has it. False where a machine holds it, or it is left out anyhow.
    pub fn withhold(&mut self, address: Ipv4Addr) -> bool {
        let free = |state| !matches!(state, AddressState::Excluded | AddressState::Held(_));
        let Some(at) = self.at(address).filter(|&at| free(self.slots[at as usize].state)) else { return false };
        self.wheel.cancel(at as usize);
        self.shift(at, AddressState::Excluded);
        self.slots[at as usize].lease = None;
        true
    }

    /// The head has an address no more that was withheld.
    pub fn give_back(&mut self, address: Ipv4Addr) {
        if let Some(at) = self.at(address).filter(|&at| self.slots[at as usize].state == AddressState::Excluded) {
            self.shift(at, self.unvetted());
        }
    }

    /// Leaves a free address out until its lease, which its machine has left, would have ended. False when it is not free to that machine.
    pub fn rest(&mut self, address: Ipv4Addr, lease: Lease) -> bool {
        let Some(at) = self.at(address).filter(|_| self.is_free(address, &lease.to)) else { return false };
        self.slots[at as usize].lease = Some(lease);
        self.release(at);
        true
    }

    /// Who has the address at this place of the pool, and to whom it is promised; None is the pool's end.
    pub fn tenure(&self, at: usize) -> Option<Tenure> {
        let address = self.range.nth(at)?;
        Some(Tenure { address, holder: self.owner(address), lease: self.slots.get(at)?.lease })
    }

    /// Moves on what time has settled.
    fn settle(&mut self, now: Instant) {
        // All probes take the same time: the list is in order.
        while self.probing.head != NONE && self.slots[self.probing.head as usize].at <= now {
            self.shift(self.probing.head, AddressState::Vetted);
        }
        while let Some(at) = self.wheel.expire(now) {
            let slot = &mut self.slots[at];
            slot.lease = slot.lease.filter(|lease| lease.until > now);
            self.release(at as u32);
        }
    }

    /// No probe reaches the network any more: who is there when it is back is anybody's guess, so every free address is to be probed again,
    /// once [`resume`](GuestPool::resume) says that probes are heard.
    pub fn suspend(&mut self) {
        self.suspended = true;
        for state in [AddressState::Probing, AddressState::Vetted] {
            while let Some(at) = self.list(state).map(|list| list.head).filter(|at| *at != NONE && self.probes) {
                self.shift(at, AddressState::Fresh);
            }
        }
    }

    pub fn resume(&mut self) {
        self.suspended = false;
    }

    /// One step of the vetting sweep: an address to probe now, when it is time and one is fresh.
    pub fn sweep(&mut self, now: Instant) -> Option<Ipv4Addr> {
        self.settle(now);
        if self.suspended || self.fresh.head == NONE || now < self.next_sweep {
            return None;
        }
        self.next_sweep = now + SWEEP_INTERVAL;
        let at = self.fresh.head;
        self.shift(at, AddressState::Probing);
        let slot = &mut self.slots[at as usize];
        (slot.at, slot.asked) = (now + PROBE_WAIT, now + ANSWER_WAIT);
        self.range.nth(at as usize)
    }

    /// When [`sweep`](GuestPool::sweep) is to be called, at the latest: it may have nothing to do then.
    pub fn deadline(&self) -> Option<Instant> {
        let fresh = (self.fresh.head != NONE && !self.suspended).then_some(self.next_sweep);
        fresh.into_iter().chain(self.wheel.deadline()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    fn range(last: u8) -> AddressRange {
        AddressRange::new([10, 0, 0, 10].into(), [10, 0, 0, last].into()).unwrap()
    }

    fn owner(n: u64) -> Key<Client> {
        Key::from_u64(n)
    }

    fn mac(n: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, n])
    }

    fn who(n: u8) -> Identity {
        Identity::Mac(mac(n))
    }

    fn lease(n: u8, millis: u64) -> Lease {
        Lease { to: who(n), until: Instant::from_millis(millis) }
    }

    #[test]
    fn a_fresh_address_is_probed_and_a_vetted_one_is_not() {
        let now = Instant::from_millis(1000);
        let mut pool = GuestPool::new(range(12), |ip| ip == Ipv4Addr::new(10, 0, 0, 11), true, now);
        let first = pool.take(now, 0, owner(1), &who(9)).unwrap();
        assert_eq!(first, Taken { address: [10, 0, 0, 10].into(), ready: now + PROBE_WAIT, probe: true });
        assert_eq!(pool.sweep(now), Some([10, 0, 0, 12].into()));
        assert_eq!(pool.sweep(now), None, "nothing is left to probe");
        let later = now + PROBE_WAIT;
        let second = pool.take(later, 0, owner(2), &who(9)).unwrap();
        assert_eq!(second, Taken { address: [10, 0, 0, 12].into(), ready: later, probe: true });
        assert_eq!(pool.take(later, 0, owner(3), &who(9)), None, "the head's address is never given");
        assert_eq!(pool.owner(first.address), Some(owner(1)));
    }

    #[test]
    fn the_same_machine_is_led_to_the_same_address() {
        let now = Instant::ZERO;
        for wish in 0..20 {
            let mut pool = GuestPool::new(range(29), |_| false, false, now);
            assert_eq!(pool.take(now, wish, owner(1), &who(9)).unwrap().address, Ipv4Addr::new(10, 0, 0, 10 + wish as u8));
        }
    }

    #[test]
    fn quarantine_ends_with_a_new_probe() {
        let now = Instant::ZERO;
        let mut pool = GuestPool::new(range(10), |_| false, true, now);
        let address = pool.take(now, 0, owner(1), &who(9)).unwrap().address;
        assert!(pool.put_away(now, address, None) && !pool.put_away(now, address, None));
        assert_eq!((pool.take(now, 0, owner(1), &who(9)), pool.deadline() <= Some(now + QUARANTINE)), (None, true));
        let end = now + QUARANTINE + Duration::from_millis(2);
        assert_eq!(pool.take(end, 0, owner(1), &who(9)).unwrap().ready, end + PROBE_WAIT);
    }

    #[test]
    fn nobody_puts_the_whole_pool_away() {
        let mut now = Instant::ZERO;
        let mut pool = GuestPool::new(range(25), |_| false, true, now);
        let address = |n: u8| Ipv4Addr::new(10, 0, 0, 10 + n);
        for n in 0..16 {
            now += Duration::from_millis(1);
            assert!(pool.put_away(now, address(n), None));
        }
        for n in 0..12 {
            let taken = pool.take(now, 0, owner(n), &who(9)).expect("the rest of the pool");
            assert_eq!(taken, Taken { address: address(n as u8), ready: now + PROBE_WAIT, probe: true }, "the oldest first, probed anew");
        }
        assert_eq!((pool.take(now, 0, owner(99), &who(9)), pool.quarantined()), (None, 4));
    }

    #[test]
    fn answers_count_where_a_probe_asked() {
        let mut now = Instant::from_millis(1000);
        let mut pool = GuestPool::new(range(10), |_| false, true, now);
        let address = pool.sweep(now).unwrap();
        assert!(pool.asked(now + ANSWER_WAIT, address) && !pool.asked(now + ANSWER_WAIT + PROBE_WAIT, address));
        now += Duration::from_secs(10);
        assert!(pool.sweep(now).is_none() && !pool.asked(now, address));
        pool.look_again(now, address);
        assert_eq!(pool.sweep(now), Some(address), "claimed unasked: probed once more");
        now += Duration::from_millis(50);
        pool.settle(now + PROBE_WAIT);
        pool.look_again(now, address);
        assert_eq!(pool.sweep(now), None, "but not for every claim");
        now += Duration::from_secs(10);
        pool.take(now, 0, owner(1), &who(9)).unwrap();
        assert!(pool.asked(now, address), "it is probed as it is offered");
        now += Duration::from_secs(10);
        assert!(pool.doubt(now, address) && !pool.doubt(now, address) && pool.asked(now, address));
        assert_eq!((pool.held(), pool.take(now, 0, owner(1), &who(9)).map(|taken| taken.ready)), (0, Some(now + PROBE_WAIT)));
    }

    #[test]
    fn claims_only_what_is_free() {
        let now = Instant::ZERO;
        let mut pool = GuestPool::new(range(12), |_| false, true, now);
        let address = [10, 0, 0, 11].into();
        assert_eq!(pool.claim(now, address, owner(1), &who(9)).map(|t| t.address), Some(address));
        assert_eq!(pool.claim(now, address, owner(2), &who(9)), None);
        pool.free_up(address, false);
        assert!(pool.claim(now, address, owner(2), &who(9)).unwrap().probe);
        assert_eq!(pool.claim(now, [10, 0, 1, 1].into(), owner(2), &who(9)), None);
    }

    #[test]
    fn who_was_seen_on_an_address_may_have_it_back() {
        let now = Instant::ZERO;
        let mut pool = GuestPool::new(range(12), |_| false, true, now);
        let address = [10, 0, 0, 11].into();
        assert!(pool.put_away(now, address, Some(mac(1))));
        assert!(!pool.is_free(address, &who(2)) && pool.claim(now, address, owner(2), &who(2)).is_none());
        assert_eq!(pool.claim(now, address, owner(1), &who(1)).map(|taken| taken.ready), Some(now));
    }

    #[test]
    fn what_was_left_rests_until_its_lease_would_have_ended() {
        let (now, later) = (Instant::ZERO, Instant::from_millis(60_002));
        let mut pool = GuestPool::new(range(11), |_| false, false, now);
        let [a, b] = [10, 11].map(|n| Ipv4Addr::new(10, 0, 0, n));
        assert!(pool.rest(a, lease(1, 60_000)) && pool.rest(b, lease(2, 9)) && !pool.rest(b, lease(3, 60_000)));
        assert_eq!((pool.take(now, 0, owner(3), &who(3)), pool.resting()), (None, 2));
        assert_eq!(pool.claim(now, a, owner(1), &who(1)).map(|taken| taken.address), Some(a), "who left it may come back");
        assert_eq!(pool.take(Instant::from_millis(11), 0, owner(3), &who(3)).map(|taken| taken.address), Some(b), "at its own time");
        pool.free_up(b, true);
        pool.promise(a, owner(1), lease(1, 50_000));
        pool.free_up(a, true);
        assert_eq!((pool.is_free(a, &who(3)), pool.take(later, 0, owner(3), &who(3)).map(|taken| taken.address)), (false, Some(a)));
    }

    #[test]
    fn who_has_another_address_by_now_gives_up_what_it_left() {
        let now = Instant::ZERO;
        let mut pool = GuestPool::new(range(10), |_| false, true, now);
        let a = Ipv4Addr::new(10, 0, 0, 10);
        assert!(pool.rest(a, lease(1, 600_000)));
        pool.give_up(a, &who(2));
        assert_eq!((pool.free(), pool.resting()), (0, 1), "it was not that machine's");
        pool.give_up(a, &who(1));
        assert_eq!((pool.free(), pool.resting(), pool.sweep(now)), (1, 0, Some(a)), "it is probed before it is given");
        assert!(pool.rest(a, lease(1, 600_000)) && pool.claim(now, a, owner(1), &who(1)).is_some());
        pool.give_up(a, &who(1));
        assert_eq!(pool.owner(a), Some(owner(1)), "what it holds it keeps");
    }

    /// A machine takes its old address, is offered it and is not heard of again: what it was told before stands.
    #[test]
    fn a_promise_outlives_its_holders_record() {
        let mut now = Instant::ZERO;
        let mut pool = GuestPool::new(range(10), |_| false, false, now);
        let a = Ipv4Addr::new(10, 0, 0, 10);
        assert!(pool.rest(a, lease(1, 600_000)));
        for n in 0..5 {
            now += Duration::from_secs(60);
            assert!(pool.claim(now, a, owner(n), &who(1)).is_some(), "it may come back");
            pool.free_up(a, true);
            assert!(!pool.is_free(a, &who(2)) && pool.take(now, 0, owner(9), &who(2)).is_none(), "nobody else has it at {now}");
        }
        let told = pool.tenure(0).and_then(|tenure| tenure.lease);
        assert!(told == Some(lease(1, 600_000)) && pool.tenure(1).is_none());
        assert!(pool.take(Instant::from_millis(600_002), 0, owner(9), &who(2)).is_some());
    }

    #[test]
    fn a_promise_outlives_quarantine_and_ends_with_a_release() {
        let mut now = Instant::ZERO;
        let mut pool = GuestPool::new(range(10), |_| false, false, now);
        let a = Ipv4Addr::new(10, 0, 0, 10);
        pool.take(now, 0, owner(1), &who(1)).unwrap();
        pool.promise(a, owner(1), lease(1, 3_600_000));
        assert!(pool.put_away(now, a, Some(mac(2))));
        assert!([1, 2, 3].iter().all(|n| !pool.is_free(a, &who(*n))), "another machine is on it, and it is promised");
        assert!(pool.take(now, 0, owner(3), &who(3)).is_none(), "nor is it the last resort");
        now += QUARANTINE + Duration::from_millis(2);
        assert!(pool.take(now, 0, owner(3), &who(3)).is_none() && pool.claim(now, a, owner(1), &who(1)).is_some());
        pool.waive(a, &who(2));
        pool.free_up(a, true);
        assert!(!pool.is_free(a, &who(2)) && pool.claim(now, a, owner(1), &who(1)).is_some());
        pool.waive(a, &who(1));
        pool.free_up(a, true);
        assert!(pool.is_free(a, &who(2)));
    }

    #[test]
    fn lists_stay_whole_through_churn() {
        let mut rng = Rng::new(3);
        let mut now = Instant::ZERO;
        let mut pool = GuestPool::new(range(200), |ip| ip.octets()[3] == 77, true, now);
        let mut held: Vec<Ipv4Addr> = Vec::new();
        for n in 0..20_000 {
            now += Duration::from_millis(rng.below(300));
            match rng.below(6) {
                0 | 1 => held.extend(pool.take(now, rng.u64(), owner(n), &who(9)).map(|t| t.address)),
                2 if !held.is_empty() => pool.free_up(held.swap_remove(rng.below(held.len() as u64) as usize), rng.chance(500_000)),
                3 if rng.chance(100_000) && !held.is_empty() => {
                    assert!(pool.put_away(now, held.swap_remove(rng.below(held.len() as u64) as usize), None));
                }
                4 => {
                    let until = now + Duration::from_millis(rng.below(90_000));
                    pool.rest(Ipv4Addr::new(10, 0, 0, 10 + rng.below(191) as u8), Lease { to: who(rng.below(20) as u8), until });
                }
                _ => drop(pool.sweep(now)),
            }
            assert_eq!(pool.held(), held.len());
            assert_eq!(pool.held() + pool.free() + pool.resting() + pool.quarantined(), 190);
        }
        held.sort_unstable();
        held.dedup();
        assert_eq!(pool.held(), held.len(), "no address is held twice");
    }
}
