//! The roll: all client records, found by identity and by address, with their timers and the guest pools.
//!
//! Strangers may fill the table only as far as every known node that has no record yet still finds a place (law 3: the newest
//! stranger is shed, never a machine that belongs here). All operations are O(1) but those for reports.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::index::Index;
use crate::base::slab::{Key, Slab};
use crate::base::text::Text;
use crate::base::time::{Instant, Seconds};
use crate::base::wheel::Wheel;

use super::client::{Client, Identity, Stage};
use super::guests::GuestPool;
use super::plan::{AddressPlan, Number};
use super::recent::Recent;

/// After this long in a stage that should lead on, the log says that the machine stalls.
const STALL: Duration = Duration::from_secs(15);
/// After this long of silence behind its last transfer, a boot counts as ended: not every system asks for a lease.
const QUIET: Duration = Duration::from_secs(60);

pub struct Roll {
    pub plan: AddressPlan,
    clients: Slab<Client>,
    by_identity: Index,
    by_address: Index,
    known: Index,
    /// MACs of each known node that has no client record: places kept free for them.
    awaited: usize,
    /// One a network, None where strangers get nothing.
    pub pools: Vec<Option<GuestPool>>,
    wheel: Wheel,
    seed: u64,
    /// What has happened just now, for those who watch.
    pub recent: Recent,
}

/// What is due for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The ARP probe of its address went unanswered.
    Vetted(Key<Client>),
    /// It has been in its stage for too long.
    Stalled(Key<Client>),
    /// Its offer or lease has ended.
    Ended(Key<Client>),
}

impl Roll {
    /// `known`: the MACs of numbered nodes; at most `known_max` of them will ever be given.
    pub fn new(capacity: usize, known_max: usize, plan: AddressPlan, seed: u64, now: Instant) -> Roll {
        Roll {
            plan,
            clients: Slab::new(capacity),
            by_identity: Index::new(capacity, seed),
            by_address: Index::new(capacity, seed),
            known: Index::new(known_max, seed),
            awaited: 0,
            pools: Vec::new(),
            wheel: Wheel::new(capacity, now),
            seed,
            recent: Recent::new(),
        }
    }

    /// Replaces the table of known nodes (start and reload). Records of machines whose number changes keep their address until
    /// they ask again.
    pub fn set_known(&mut self, count: usize, known: impl Iterator<Item = (Mac, Number)>) {
        self.known = Index::new(count.max(1), self.seed);
        for (mac, number) in known {
            let fits = self.known.insert(mac.to_u64(), number.0);
            debug_assert!(fits);
        }
        self.awaited = self.known.len();
        for slot in 0..self.clients.capacity() {
            let Some(key) = self.clients.key_at(slot) else { continue };
            let Some(identity) = self.clients.get(key).map(|client| client.identity) else { continue };
            let number = self.number_of(&identity);
            self.awaited -= usize::from(number.is_some());
            if let Some(client) = self.clients.get_mut(key) {
                client.number = number;
            }
        }
    }

    pub fn number_of(&self, identity: &Identity) -> Option<Number> {
        match identity {
            Identity::Mac(mac) => self.known.get(mac.to_u64()).map(Number),
            Identity::ClientId(_) => None,
        }
    }

    pub fn len(&self) -> usize {
        self.clients.len()
    }

    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    pub fn capacity(&self) -> usize {
        self.clients.capacity()
    }

    pub fn get(&self, key: Key<Client>) -> Option<&Client> {
        self.clients.get(key)
    }

    pub fn get_mut(&mut self, key: Key<Client>) -> Option<&mut Client> {
        self.clients.get_mut(key)
    }

    /// The record at a place of the table, for reports that come in pages.
    pub fn at_slot(&self, slot: usize) -> Option<&Client> {
        self.clients.get(self.clients.key_at(slot)?)
    }

    /// How many machines without a number have a record.
    pub fn strangers(&self) -> usize {
        self.clients.len() + self.awaited - self.known.len()
    }

    /// All records. O(capacity): for reports.
    pub fn iter(&self) -> impl Iterator<Item = (Key<Client>, &Client)> {
        self.clients.iter()
    }

    pub fn find(&self, identity: &Identity) -> Option<Key<Client>> {
        let key = self.clients.key_at(self.by_identity.get(identity.key())? as usize)?;
        self.clients.get(key).filter(|client| client.identity == *identity).map(|_| key)
    }

    pub fn at_address(&self, address: Ipv4Addr) -> Option<Key<Client>> {
        self.clients.key_at(self.by_address.get(u32::from(address).into())? as usize)
    }

    /// The record of a machine, made now if it has none. None when the table has no place for it.
    pub fn admit(&mut self, now: Instant, identity: Identity) -> Option<Key<Client>> {
        if let Some(key) = self.find(&identity) {
            return Some(key);
        }
        let number = self.number_of(&identity);
        let kept = if number.is_some() { 0 } else { self.awaited };
        if self.clients.len() + kept >= self.clients.capacity() || self.by_identity.get(identity.key()).is_some() {
            return None;
        }
        let key = self.clients.insert(Client::new(identity, number, now))?;
        let fits = self.by_identity.insert(identity.key(), key.slot() as u32);
        assert!(fits, "the index has a place for every record");
        self.awaited -= usize::from(number.is_some());
        Some(key)
    }

    /// Forgets a machine that has no address.
    pub fn remove(&mut self, key: Key<Client>) {
        self.unbind(key, true);
        if let Some(client) = self.clients.remove(key) {
            self.wheel.cancel(key.slot());
            self.by_identity.remove(client.identity.key());
            self.awaited += usize::from(client.number.is_some());
        }
    }

    /// Gives an address to a machine. False when somebody else has it. A guest address was taken from its pool before.
    pub fn bind(&mut self, key: Key<Client>, address: Ipv4Addr) -> bool {
        match self.at_address(address) {
            Some(holder) if holder == key => return true,
            Some(_) => return false,
            None => {}
        }
        self.unbind(key, true);
        let Some(client) = self.clients.get_mut(key) else { return false };
        client.address = Some(address);
        let fits = self.by_address.insert(u32::from(address).into(), key.slot() as u32);
        assert!(fits, "the index has a place for every record");
        true
    }

    /// Takes the machine's address back, into its pool if it is a guest's; gives what it was. `vetted` as in `GuestPool::free_up`.
    pub fn unbind(&mut self, key: Key<Client>, vetted: bool) -> Option<Ipv4Addr> {
        let client = self.clients.get_mut(key)?;
        let address = client.address.take()?;
        client.leased = false;
        self.by_address.remove(u32::from(address).into());
        self.pools.iter_mut().flatten().for_each(|pool| {
            if pool.owner(address) == Some(key) {
                pool.free_up(address, vetted);
            }
        });
        Some(address)
    }

    /// The transition function (law 6): alone writes the stage, arms the timer, adds to the story and logs the step.
    pub fn enter(&mut self, now: Instant, key: Key<Client>, stage: Stage, note: fmt::Arguments<'_>) {
        let Some(client) = self.clients.get_mut(key) else { return };
        log::debug!("{} {} {} after {}", client.title(), stage.name(), note, Seconds(now.since(client.since)));
        client.stage = stage;
        client.since = now;
        client.stuck.clear();
        if stage == Stage::Stranger && client.story.is_empty() {
            client.reached = [Instant::ZERO; Stage::ALL.len()];
        }
        if let Some(reached) = client.reached.get_mut(stage as usize).filter(|at| **at == Instant::ZERO) {
            *reached = now;
        }
        client.stall_at = match stage {
            Stage::Offered | Stage::Leased => Some(now + STALL),
            Stage::Loaded => Some(now + QUIET),
            Stage::Stranger | Stage::Probing | Stage::Loading | Stage::Up => None,
        };
        if note.as_str() != Some("") {
            client.story.add(note);
            self.recent.write(client, false, note);
        }
        self.arm(key);
    }

    /// Tells the story of a boot, in one line, and begins a new one.
    pub fn tell(&mut self, now: Instant, key: Key<Client>, level: log::Level, ending: fmt::Arguments<'_>) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if !client.story.is_empty() {
            self.recent.write(client, level <= log::Level::Warn, format_args!("{ending} ({} in all)", Seconds(now.since(client.began))));
            log::log!(level, "{} {} -> {} ({} in all)", client.title(), client.story, ending, Seconds(now.since(client.began)));
        }
        client.story.clear();
        client.began = now;
    }

    /// The machine is longer in its stage than that takes, and this is where. It is stuck until it enters another one.
    pub fn stick(&mut self, key: Key<Client>, place: fmt::Arguments<'_>) {
        if let Some(client) = self.clients.get_mut(key) {
            client.stuck = Text::of(place);
        }
    }

    /// Adds to the story without leaving the stage. What a machine does once it is up is no part of its boot.
    pub fn note(&mut self, key: Key<Client>, note: fmt::Arguments<'_>) {
        let Some(client) = self.clients.get_mut(key) else { return };
        log::debug!("{} {}", client.title(), note);
        self.recent.write(client, false, note);
        if client.stage != Stage::Up {
            client.story.add(note);
        }
    }

    /// Sets when the machine's address (or, without one, its record) falls back.
    pub fn keep_until(&mut self, key: Key<Client>, until: Instant) {
        if let Some(client) = self.clients.get_mut(key) {
            client.until = until;
            self.arm(key);
        }
    }

    fn arm(&mut self, key: Key<Client>) {
        if let Some(client) = self.clients.get(key) {
            let next = client.stall_at.map_or(client.until, |stall| stall.min(client.until));
            self.wheel.set(key.slot(), next);
        }
    }

    /// After the pools were replaced (reload): guests keep their addresses where the new pools have them.
    pub fn reclaim(&mut self, now: Instant) {
        for slot in 0..self.clients.capacity() {
            let Some(key) = self.clients.key_at(slot) else { continue };
            let Some(address) = self.clients.get(key).and_then(|client| client.address) else { continue };
            for pool in self.pools.iter_mut().flatten().filter(|pool| pool.owner(address).is_none()) {
                pool.claim(now, address, key, None);
            }
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.wheel.deadline()
    }

    /// The next thing that is due; call until None. What is told is settled by the caller, who must not leave an ended
    /// lease in place.
    pub fn due(&mut self, now: Instant) -> Option<Due> {
        loop {
            let slot = self.wheel.expire(now)?;
            let Some(key) = self.clients.key_at(slot) else { continue };
            let Some(client) = self.clients.get_mut(key) else { continue };
            if client.until <= now {
                let vetted = client.stage == Stage::Probing;
                return Some(if vetted { Due::Vetted(key) } else { Due::Ended(key) });
            }
            let stalled = client.stall_at.is_some_and(|at| at <= now);
            if stalled {
                client.stall_at = None;
            }
            self.arm(key);
            if stalled {
                return Some(Due::Stalled(key));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roll::plan::AddressRange;

    const PLAN: AddressPlan = AddressPlan { node0: Ipv4Addr::new(10, 0, 1, 0), nodes: 100 };

    fn mac(n: u8) -> Identity {
        Identity::Mac(Mac([2, 0, 0, 0, 0, n]))
    }

    fn roll(capacity: usize) -> Roll {
        Roll::new(capacity, 8, PLAN, 1, Instant::ZERO)
    }

    #[test]
    fn strangers_leave_room_for_known_nodes() {
        let mut roll = roll(4);
        roll.set_known(2, [(Mac([2, 0, 0, 0, 0, 1]), Number(7)), (Mac([2, 0, 0, 0, 0, 2]), Number(8))].into_iter());
        let strangers: Vec<_> = (10..20).filter_map(|n| roll.admit(Instant::ZERO, mac(n))).collect();
        assert_eq!(strangers.len(), 2);
        let known = roll.admit(Instant::ZERO, mac(1)).unwrap();
        assert_eq!(roll.get(known).unwrap().number, Some(Number(7)));
        assert!(roll.admit(Instant::ZERO, mac(2)).is_some() && roll.len() == 4);
        roll.remove(known);
        assert!(roll.admit(Instant::ZERO, mac(30)).is_none(), "the place stays reserved");
        assert!(roll.admit(Instant::ZERO, mac(1)).is_some());
        assert_eq!(roll.admit(Instant::ZERO, mac(11)), Some(strangers[1]), "a stranger that has a record keeps it");
    }

    #[test]
    fn an_address_has_one_holder() {
        let mut roll = roll(4);
        let range = AddressRange::new([10, 0, 9, 1].into(), [10, 0, 9, 9].into()).unwrap();
        roll.pools.push(Some(GuestPool::new(range, |_| false, false, Instant::ZERO)));
        let (a, b) = (roll.admit(Instant::ZERO, mac(1)).unwrap(), roll.admit(Instant::ZERO, mac(2)).unwrap());
        let guest = roll.pools[0].as_mut().unwrap().take(Instant::ZERO, 0, a).unwrap().address;
        assert!(roll.bind(a, guest) && roll.bind(a, guest) && !roll.bind(b, guest));
        assert_eq!(roll.at_address(guest), Some(a));
        assert!(roll.bind(a, [10, 0, 1, 5].into()), "moves, and gives the guest address back");
        assert_eq!((roll.at_address(guest), roll.pools[0].as_ref().unwrap().held()), (None, 0));
        roll.remove(a);
        assert_eq!((roll.at_address([10, 0, 1, 5].into()), roll.get(a).is_none()), (None, true));
    }

    #[test]
    fn stalls_are_told_once_and_leases_end() {
        let mut roll = roll(4);
        let key = roll.admit(Instant::ZERO, mac(1)).unwrap();
        roll.keep_until(key, Instant::from_millis(60_000));
        roll.enter(Instant::ZERO, key, Stage::Offered, format_args!("offer"));
        assert_eq!(roll.due(Instant::from_millis(14_000)), None);
        assert_eq!(roll.due(Instant::from_millis(15_002)), Some(Due::Stalled(key)));
        assert_eq!(roll.due(Instant::from_millis(59_000)), None);
        assert_eq!(roll.due(Instant::from_millis(60_002)), Some(Due::Ended(key)));
        assert_eq!(roll.due(Instant::from_millis(90_000)), None);
    }
}
