//! The roll: the lot table, all client records, found by identity and by address, with their timers, and the guest pools.
//!
//! A client's number is what the lot table says of its MAC: [`Registry::set_lot`] is the one way to change a lot, and tells the clients. Strangers
//! may fill the table only as far as every node that has no record yet still finds a place (law 3: the newest stranger is shed, never a
//! machine that belongs here). All operations are O(1) but those for reports.

use std::fmt;
use std::net::Ipv4Addr;

use crate::base::addr::Mac;
use crate::base::index::Index;
use crate::base::machine::Seq;
use crate::base::slab::{Key, Slab};
use crate::base::time::{Instant, Seconds};
use crate::base::wheel::Wheel;

use super::client::{Client, Identity};
use super::guests::{GuestPool, Lease, Tenure};
use super::lot::{Lot, Macs};
use super::lot_table::{Clash, LotTable};
use super::offers::Offers;
use super::plan::{AddressPlan, Number};
use super::recent::Recent;
use super::shares::Shares;
use super::stage::Stage;
use super::unwritten::Unwritten;

/// Records that are looked at, at most, to find one that can be shed. A flood leaves hardly any other.
const SHED_LOOKS: usize = 64;

pub struct Registry {
    pub plan: AddressPlan,
    lots: LotTable,
    /// Numbers that were offered and not given.
    pub offers: Offers,
    /// Lots that were changed together, and whose records have not been put out.
    pub unwritten: Unwritten,
    /// For each lot the records that its machine's number waits for.
    promised: Box<[Promise]>,
    clients: Slab<Client>,
    by_identity: Index,
    by_address: Index,
    /// For each lot its client records.
    records: Box<[u16]>,
    /// For each lot where its machine stood when the journal was written, and since when.
    past: Box<[Option<(u64, Stage)>]>,
    /// Lots that have a client record, and the records of all of them.
    with_record: usize,
    numbered: usize,
    /// One a network, None where strangers get nothing.
    pub pools: Vec<Option<GuestPool>>,
    wheel: Wheel,
    seed: u64,
    /// Where [`Registry::sheddable`] has looked last.
    hand: usize,
    /// What has happened just now, for those who watch.
    pub recent: Recent,
    /// What machines may still cause in the log and the journal.
    pub shares: Shares,
}

/// The records that a number waits for before its machine may learn it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promise {
    /// The record that gave it; [`Seq::NONE`] where none was needed.
    pub all: Seq,
    /// The record that added MACs to the first so many.
    pub new: Seq,
    pub known: u8,
}

impl Promise {
    /// By one record.
    pub const fn by(seq: Seq) -> Promise {
        Promise { all: seq, new: seq, known: 0 }
    }
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

impl Registry {
    pub fn new(capacity: usize, plan: AddressPlan, seed: u64, now: Instant) -> Registry {
        let nodes = plan.nodes() as usize;
        Registry {
            lots: LotTable::new(plan.nodes(), seed),
            offers: Offers::new(nodes),
            plan,
            unwritten: Unwritten::new(nodes),
            promised: vec![Promise::default(); nodes].into(),
            clients: Slab::new(capacity),
            by_identity: Index::new(capacity, seed),
            by_address: Index::new(capacity, seed),
            records: vec![0; nodes].into(),
            past: vec![None; nodes].into(),
            with_record: 0,
            numbered: 0,
            pools: Vec::new(),
            wheel: Wheel::new(capacity, now),
            seed,
            hand: 0,
            recent: Recent::new(),
            shares: Shares::new(capacity, seed),
        }
    }

    pub fn lots(&self) -> &LotTable {
        &self.lots
    }

    /// The first lot that is not vacant and that a shorter lot table would not have.
    pub fn beyond(&self, nodes: u32) -> Option<Number> {
        self.lots.iter().skip(nodes as usize).find(|(_, lot)| !lot.is_vacant()).map(|(number, _)| number)
    }

    /// Takes over a plan that may have another number of lots (reload); `beyond` it there was nothing. Allocates.
    pub fn resize(&mut self, plan: AddressPlan) {
        let nodes = plan.nodes() as usize;
        if nodes != self.lots.len() {
            let old = std::mem::replace(&mut self.lots, LotTable::new(plan.nodes(), self.seed));
            for (number, lot) in old.iter().take(nodes) {
                let moved = self.lots.set(number, *lot);
                debug_assert!(moved.is_ok(), "these numbers made a plan before");
            }
            self.unwritten.grow(nodes);
            self.promised = (0..nodes).map(|n| self.promised.get(n).copied().unwrap_or_default()).collect();
            self.past = (0..nodes).map(|n| self.past.get(n).copied().flatten()).collect();
            self.records = vec![0; nodes].into();
            self.offers = Offers::new(nodes);
            (self.with_record, self.numbered) = (0, 0);
            for slot in 0..self.clients.capacity() {
                if let Some(client) = self.clients.key_at(slot).and_then(|key| self.clients.get_mut(key)) {
                    client.numbered(None);
                }
            }
            self.settle_all();
        }
        self.plan = plan;
    }

    /// Changes a lot: see [`Registry::set_lots`].
    pub fn set_lot(&mut self, number: Number, lot: Lot, promise: Promise) -> Result<(), Clash> {
        self.set_lots([(number, &lot)].into_iter(), promise)
    }

    /// Changes lots at once, each named once; the clients with their MACs learn their numbers, which are promised as given. Clients keep the
    /// address that they have until they ask again. Nothing is changed when it gives a clash.
    pub fn set_lots<'a>(&mut self, lots: impl Iterator<Item = (Number, &'a Lot)> + Clone, promise: Promise) -> Result<(), Clash> {
        self.lots.move_macs(lots.clone())?;
        for (number, lot) in lots.clone() {
            if let Some(promised) = self.promised.get_mut(number.0 as usize) {
                *promised = promise;
            }
            self.settle_macs(&self.lots.macs_of(number));
            self.settle_macs(&lot.fingerprint.macs);
        }
        self.lots.place(lots);
        Ok(())
    }

    /// Takes over the config's nodes: see [`LotTable::configure`].
    pub fn configure<'a>(
        &mut self,
        sections: impl Iterator<Item = (Number, &'a [Mac])> + Clone,
        section: impl Fn(Number) -> Option<&'a [Mac]>,
        unix: u64,
    ) -> Result<(), (Number, Clash)> {
        let done = self.lots.configure(sections, section, unix);
        self.settle_all();
        done
    }

    /// What a number waits for.
    pub fn promise(&self, number: Number) -> Promise {
        self.promised.get(number.0 as usize).copied().unwrap_or_default()
    }

    /// The record that must be on disk before a MAC of the machine may learn its number; [`Seq::NONE`] for none.
    pub fn promised_by(&self, number: Number, mac: Mac) -> Seq {
        let promise = self.promise(number);
        let macs = self.lots.lot(number).map(|lot| lot.fingerprint.macs).unwrap_or_default();
        let known = macs.as_slice().iter().take(promise.known.into()).any(|&other| other == mac);
        if known { promise.all } else { promise.new }
    }

    /// What a number waits for once a record has added MACs behind those of its lot, while those up to `committed` are.
    pub fn promise_more(&self, number: Number, seq: Seq, committed: Seq) -> Promise {
        let promise = self.promise(number);
        let macs = self.lots.lot(number).map_or(0, |lot| lot.fingerprint.macs.len()) as u8;
        let known = if promise.new <= committed { macs } else { macs.min(promise.known) };
        Promise { new: seq, known, ..promise }
    }

    /// What an earlier daemon saw of nodes: number, since when in seconds since 1970, stage.
    pub fn past_stages(&mut self, stages: impl Iterator<Item = (Number, u64, Stage)>) {
        for (number, unix, stage) in stages {
            if let Some(place) = self.past.get_mut(number.0 as usize) {
                *place = Some((unix, stage));
            }
        }
    }

    /// Where a node stood before this daemon began, and since when; None once it has been seen.
    pub fn past_stage(&self, number: Number) -> Option<(u64, Stage)> {
        let seen = self.records.get(number.0 as usize).is_some_and(|records| *records > 0);
        self.past.get(number.0 as usize).copied().flatten().filter(|_| !seen)
    }

    fn settle_macs(&mut self, macs: &Macs) {
        for mac in macs.as_slice() {
            if let Some(key) = self.find(&Identity::Mac(*mac)) {
                self.settle(key);
            }
        }
    }

    fn settle_all(&mut self) {
        for slot in 0..self.clients.capacity() {
            if let Some(key) = self.clients.key_at(slot) {
                self.settle(key);
            }
        }
    }

    /// Lets a client have the number that the lot table says.
    fn settle(&mut self, key: Key<Client>) {
        let Some(client) = self.clients.get(key) else { return };
        let number = self.number_of(&client.identity());
        self.count_record(number, client.number());
        if let Some(client) = self.clients.get_mut(key) {
            client.numbered(number);
        }
    }

    /// Counts a record into one lot and out of another.
    fn count_record(&mut self, into: Option<Number>, out_of: Option<Number>) {
        let mut count = |number: Option<Number>, by: i32| {
            let Some(records) = number.and_then(|number| self.records.get_mut(number.0 as usize)) else { return };
            let before = *records > 0;
            *records = records.saturating_add_signed(by as i16);
            self.with_record = self.with_record + usize::from(*records > 0) - usize::from(before);
            self.numbered = self.numbered.saturating_add_signed(by as isize);
        };
        count(out_of, -1);
        count(into, 1);
    }

    /// Nodes that have no client record: places are kept free for them.
    fn awaited(&self) -> usize {
        self.lots.occupied().saturating_sub(self.with_record)
    }

    pub fn number_of(&self, identity: &Identity) -> Option<Number> {
        match identity {
            Identity::Mac(mac) => self.lots.number_of(*mac),
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
        self.clients.len() - self.numbered
    }

    /// All records. O(capacity): for reports.
    pub fn iter(&self) -> impl Iterator<Item = (Key<Client>, &Client)> {
        self.clients.iter()
    }

    pub fn find(&self, identity: &Identity) -> Option<Key<Client>> {
        let key = self.clients.key_at(self.by_identity.get(identity.key())? as usize)?;
        self.clients.get(key).filter(|client| client.identity() == *identity).map(|_| key)
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
        let kept = if number.is_some() { 0 } else { self.awaited() };
        if self.clients.len() + kept >= self.clients.capacity() || self.by_identity.get(identity.key()).is_some() {
            return None;
        }
        let key = self.clients.insert(Client::new(identity, number, now))?;
        let fits = self.by_identity.insert(identity.key(), key.slot() as u32);
        assert!(fits, "the index has a place for every record");
        self.count_record(number, None);
        Some(key)
    }

    /// A machine without a number that was given nothing yet: its record makes room for that of a node. Looks at a few records, in turn.
    pub fn sheddable(&mut self) -> Option<Key<Client>> {
        let idle = |client: &Client| client.number().is_none() && !client.is_leased() && client.loading.running() == 0;
        for _ in 0..SHED_LOOKS {
            self.hand = (self.hand + 1) % self.clients.capacity().max(1);
            let key = self.clients.key_at(self.hand).filter(|key| self.clients.get(*key).is_some_and(idle));
            if key.is_some() {
                return key;
            }
        }
        None
    }

    /// Forgets a machine that has no address.
    pub fn remove(&mut self, key: Key<Client>) {
        self.unbind(key, true);
        if let Some(client) = self.clients.remove(key) {
            self.wheel.cancel(key.slot());
            self.by_identity.remove(client.identity().key());
            self.count_record(None, client.number());
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
        client.binding.bound(address);
        let fits = self.by_address.insert(u32::from(address).into(), key.slot() as u32);
        assert!(fits, "the index has a place for every record");
        true
    }

    /// Takes the machine's address back, into its pool if it is a guest's; gives what it was. `vetted` as in `GuestPool::free_up`.
    pub fn unbind(&mut self, key: Key<Client>, vetted: bool) -> Option<Ipv4Addr> {
        let client = self.clients.get_mut(key)?;
        let address = client.binding.unbound()?;
        self.by_address.remove(u32::from(address).into());
        self.pools.iter_mut().flatten().for_each(|pool| {
            if pool.owner(address) == Some(key) {
                pool.free_up(address, vetted);
            }
        });
        Some(address)
    }

    /// The transition function (law 6): alone writes the stage, arms the timer, adds to the story (an empty note adds nothing) and logs the step.
    pub fn enter(&mut self, now: Instant, key: Key<Client>, stage: Stage, note: fmt::Arguments<'_>) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let since = client.boot.since();
        let before = client.boot.enter(now, stage);
        log::debug!("{}: {} -> {} after {} ({note})", client.title(), before.name(), stage.name(), Seconds(now.since(since)));
        if note.as_str() != Some("") {
            client.boot.note(note);
            self.recent.write(client, false, note);
        }
        self.arm(key);
    }

    /// Begins the story of a boot, where none has begun.
    pub fn begin_boot(&mut self, now: Instant, key: Key<Client>) -> bool {
        let new = self.clients.get_mut(key).filter(|client| client.boot.story().is_empty());
        new.map(|client| client.boot.begin(now)).is_some()
    }

    /// A machine that a journal knows to be up.
    pub fn was_up(&mut self, key: Key<Client>) {
        if let Some(client) = self.clients.get_mut(key) {
            client.boot.was_up();
        }
    }

    /// Tells the story of a boot, in one line, and begins a new one.
    pub fn finish_story(&mut self, now: Instant, key: Key<Client>, level: log::Level, ending: fmt::Arguments<'_>) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let (story, took) = (client.boot.story(), Seconds(now.since(client.boot.began())));
        if !story.is_empty() {
            self.recent.write(client, level <= log::Level::Warn, format_args!("{ending} ({took} in all)"));
            let line = format_args!("{}: {story} -> {ending} ({took} in all)", client.title());
            self.shares.say(now, client.number(), &client.identity(), level, line);
        }
        client.boot.begin(now);
    }

    /// Logs a line that a machine has caused, within its share.
    pub fn say(&mut self, now: Instant, identity: &Identity, level: log::Level, line: fmt::Arguments<'_>) {
        let number = self.number_of(identity);
        self.shares.say(now, number, identity, level, line);
    }

    /// The same, of a machine that has a record: the line begins with its name.
    pub fn say_of(&mut self, now: Instant, key: Key<Client>, level: log::Level, what: fmt::Arguments<'_>) {
        if let Some(client) = self.clients.get(key) {
            self.shares.say(now, client.number(), &client.identity(), level, format_args!("{}: {what}", client.title()));
        }
    }

    /// Whether a machine may cause a record of the journal now: see [`Shares::may_record`].
    pub fn may_record(&mut self, now: Instant, identity: &Identity, renews: bool) -> bool {
        let number = self.number_of(identity);
        self.shares.may_record(now, number, identity, renews)
    }

    /// The machine is longer in its stage than that takes, and this is where. It is stuck until it enters another one.
    pub fn mark_stuck(&mut self, key: Key<Client>, place: fmt::Arguments<'_>) {
        if let Some(client) = self.clients.get_mut(key) {
            client.boot.mark_stuck(place);
        }
    }

    /// Adds to the story without leaving the stage. What a machine does once it is up is no part of its boot.
    pub fn note(&mut self, key: Key<Client>, note: fmt::Arguments<'_>) {
        let Some(client) = self.clients.get_mut(key) else { return };
        log::debug!("{}: {note}", client.title());
        self.recent.write(client, false, note);
        if client.boot.stage() != Stage::Up {
            client.boot.note(note);
        }
    }

    /// Sets when the machine's address (or, without one, its record) falls back.
    pub fn keep_until(&mut self, key: Key<Client>, until: Instant) {
        if let Some(client) = self.clients.get_mut(key) {
            client.binding.kept_until(until);
            self.arm(key);
        }
    }

    fn arm(&mut self, key: Key<Client>) {
        if let Some(client) = self.clients.get(key) {
            let next = client.boot.stall_at().map_or(client.binding.until(), |stall| stall.min(client.binding.until()));
            self.wheel.set(key.slot(), next);
        }
    }

    /// Lets a machine have its address until then, as it was acknowledged, or is on record. A guest's address is promised to it as long,
    /// whatever becomes of its record.
    pub fn lease(&mut self, key: Key<Client>, until: Instant) {
        self.keep_until(key, until);
        let Some(client) = self.clients.get_mut(key) else { return };
        client.binding.leased();
        let (lease, address) = (Lease { to: client.identity(), until }, client.address());
        if let Some(address) = address {
            self.pools.iter_mut().flatten().for_each(|pool| pool.promise(address, key, lease));
        }
    }

    /// The machine gives back what it was promised, or cannot use it.
    pub fn waive(&mut self, key: Key<Client>) {
        let Some((identity, address)) = self.clients.get(key).and_then(|client| Some((client.identity(), client.address()?))) else {
            return;
        };
        self.pools.iter_mut().flatten().for_each(|pool| pool.waive(address, &identity));
    }

    /// The machine takes up another address, so it has let go of the guest address that it had before.
    pub fn give_up_guest(&mut self, key: Key<Client>) {
        let Some(client) = self.clients.get_mut(key) else { return };
        let (identity, left) = (client.identity(), client.binding.left());
        if let Some(address) = left {
            self.pools.iter_mut().flatten().for_each(|pool| pool.give_up(address, &identity));
        }
    }

    /// The clock was set: what the journal says of leases from now on counts by the new one. `by`: seconds, forwards.
    pub fn clock_was_set(&mut self, by: i64) {
        for slot in 0..self.clients.capacity() {
            if let Some(client) = self.clients.key_at(slot).and_then(|key| self.clients.get_mut(key)) {
                client.binding.clock_was_set(by);
            }
        }
    }

    /// After pools were replaced (reload): guests keep their addresses where the new pools have them, and what `old` ones had promised stays
    /// promised.
    pub fn reclaim(&mut self, now: Instant, old: &[Option<GuestPool>]) {
        for old in old.iter().flatten() {
            for Tenure { address, lease, .. } in (0..).map_while(|at| old.tenure(at)) {
                if let Some(lease) = lease {
                    self.pools.iter_mut().flatten().for_each(|pool| {
                        pool.rest(address, lease);
                    });
                }
            }
        }
        for slot in 0..self.clients.capacity() {
            let Some(key) = self.clients.key_at(slot) else { continue };
            let Some((identity, address)) = self.clients.get(key).and_then(|client| Some((client.identity(), client.address()?))) else {
                continue;
            };
            for pool in self.pools.iter_mut().flatten().filter(|pool| pool.owner(address).is_none()) {
                pool.claim(now, address, key, &identity);
            }
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.wheel.deadline()
    }

    /// The next thing that is due; call until None. What is given is settled by the caller, who must not leave an ended
    /// lease in place.
    pub fn due(&mut self, now: Instant) -> Option<Due> {
        loop {
            let slot = self.wheel.expire(now)?;
            let Some(key) = self.clients.key_at(slot) else { continue };
            let Some(client) = self.clients.get_mut(key) else { continue };
            if client.binding.until() <= now {
                let vetted = client.boot.stage() == Stage::Probing;
                return Some(if vetted { Due::Vetted(key) } else { Due::Ended(key) });
            }
            let stalled = client.boot.stalls(now);
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
    use crate::roll::lot::{AssignedBy, Fingerprint};
    use crate::roll::plan::AddressRange;

    fn plan(nodes: u32) -> AddressPlan {
        AddressPlan::new(Ipv4Addr::new(10, 0, 1, 0), nodes)
    }

    fn mac(n: u8) -> Identity {
        Identity::Mac(Mac([2, 0, 0, 0, 0, n]))
    }

    fn roll(capacity: usize) -> Registry {
        Registry::new(capacity, plan(100), 1, Instant::ZERO)
    }

    #[test]
    fn strangers_leave_room_for_known_nodes() {
        let mut roll = roll(4);
        let lot = |n| {
            Lot::default().occupied(
                Fingerprint { macs: [Mac([2, 0, 0, 0, 0, n])].into_iter().collect(), ..Fingerprint::default() },
                AssignedBy::Passed,
                1,
            )
        };
        roll.set_lot(Number(7), lot(1), Promise::default()).unwrap();
        roll.set_lot(Number(8), lot(2), Promise::default()).unwrap();
        let strangers: Vec<_> = (10..20).filter_map(|n| roll.admit(Instant::ZERO, mac(n))).collect();
        assert_eq!(strangers.len(), 2);
        let known = roll.admit(Instant::ZERO, mac(1)).unwrap();
        assert_eq!(roll.get(known).unwrap().number(), Some(Number(7)));
        assert!(roll.admit(Instant::ZERO, mac(2)).is_some() && roll.len() == 4);
        roll.remove(known);
        assert!(roll.admit(Instant::ZERO, mac(30)).is_none(), "the place stays reserved");
        assert!(roll.admit(Instant::ZERO, mac(1)).is_some());
        assert_eq!(roll.admit(Instant::ZERO, mac(11)), Some(strangers[1]), "a stranger that has a record keeps it");
    }

    #[test]
    fn clients_follow_the_lot_table() {
        let mut roll = roll(4);
        let (a, b) = (roll.admit(Instant::ZERO, mac(1)).unwrap(), roll.admit(Instant::ZERO, mac(2)).unwrap());
        let macs = [1, 2, 3].map(|n| Mac([2, 0, 0, 0, 0, n])).into_iter().collect();
        let lot = Lot::default().occupied(Fingerprint { macs, ..Fingerprint::default() }, AssignedBy::Passed, 1);
        roll.set_lot(Number(5), lot, Promise::by(Seq::new(1))).unwrap();
        let number = |roll: &Registry, key| roll.get(key).unwrap().number();
        assert_eq!((number(&roll, a), number(&roll, b), roll.awaited()), (Some(Number(5)), Some(Number(5)), 0));
        assert_eq!(roll.promised_by(Number(5), Mac([2, 0, 0, 0, 0, 1])), Seq::new(1));
        let mut more = *roll.lots().lot(Number(5)).unwrap();
        more.fingerprint.macs.add(Mac([2, 0, 0, 0, 0, 4]));
        roll.set_lot(Number(5), more, roll.promise_more(Number(5), Seq::new(2), Seq::new(1))).unwrap();
        assert_eq!(
            [1, 3, 4].map(|n| roll.promised_by(Number(5), Mac([2, 0, 0, 0, 0, n]))),
            [1, 1, 2].map(Seq::new),
            "the new NIC alone waits"
        );
        roll.remove(a);
        assert_eq!(roll.awaited(), 0, "its other NIC has a record");
        roll.set_lot(Number(5), lot.emptied(2), Promise::by(Seq::new(2))).unwrap();
        assert_eq!((number(&roll, b), roll.awaited(), roll.with_record), (None, 0, 0));
        roll.set_lot(Number(99), lot, Promise::by(Seq::new(3))).unwrap();
        assert_eq!((roll.beyond(99), roll.beyond(100)), (Some(Number(99)), None));
        roll.resize(plan(200));
        assert_eq!((number(&roll, b), roll.with_record, roll.promise(Number(99)).all), (Some(Number(99)), 1, Seq::new(3)));
    }

    #[test]
    fn an_address_has_one_holder() {
        let mut roll = roll(4);
        let range = AddressRange::new([10, 0, 9, 1].into(), [10, 0, 9, 9].into()).unwrap();
        roll.pools.push(Some(GuestPool::new(range, |_| false, false, Instant::ZERO)));
        let (a, b) = (roll.admit(Instant::ZERO, mac(1)).unwrap(), roll.admit(Instant::ZERO, mac(2)).unwrap());
        let guest = roll.pools[0].as_mut().unwrap().take(Instant::ZERO, 0, a, &mac(1)).unwrap().address;
        assert!(roll.bind(a, guest) && roll.bind(a, guest) && !roll.bind(b, guest));
        assert_eq!(roll.at_address(guest), Some(a));
        assert!(roll.bind(a, [10, 0, 1, 5].into()), "moves, and gives the guest address back");
        assert_eq!((roll.at_address(guest), roll.pools[0].as_ref().unwrap().held()), (None, 0));
        roll.remove(a);
        assert_eq!((roll.at_address([10, 0, 1, 5].into()), roll.get(a).is_none()), (None, true));
    }

    /// However soon a record is let go, as after an offer that was not taken.
    #[test]
    fn what_was_leased_is_nobody_elses_before_its_end() {
        let mut roll = roll(4);
        let range = AddressRange::new([10, 0, 9, 1].into(), [10, 0, 9, 1].into()).unwrap();
        roll.pools.push(Some(GuestPool::new(range, |_| false, false, Instant::ZERO)));
        let a = roll.admit(Instant::ZERO, mac(1)).unwrap();
        let guest = roll.pools[0].as_mut().unwrap().take(Instant::ZERO, 0, a, &mac(1)).unwrap().address;
        assert!(roll.bind(a, guest));
        roll.lease(a, Instant::from_millis(600_000));
        roll.keep_until(a, Instant::from_millis(60_000));
        assert_eq!(roll.due(Instant::from_millis(60_002)), Some(Due::Ended(a)));
        roll.remove(a);
        let pool = roll.pools[0].as_mut().unwrap();
        assert!(pool.is_free(guest, &mac(1)) && !pool.is_free(guest, &mac(2)));
        assert!(pool.sweep(Instant::from_millis(600_002)).is_none() && pool.is_free(guest, &mac(2)));
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
