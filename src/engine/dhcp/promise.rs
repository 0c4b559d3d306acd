//! What may be promised (law 4): a number, and a guest's lease, is told when its record is on disk.
//!
//! Whoever asks before waits here: the message is kept, and taken up again as if it came now once the world has said `Synced`. A slow disk
//! delays new machines and nobody else: known nodes need no record.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::machine::{Datagram, Seq};
use crate::base::slab::Key;
use crate::base::time::Instant;
use crate::engine::Ctx;
use crate::roll::client::{Client, OnRecord};
use crate::roll::journal::{Event, Guest};
use crate::roll::registry::Roll;
use crate::wire::dhcp::Scratch;

use super::{Dhcp, OFFER_HOLD};

/// Clients whose kept message waits for a record, in the order of the records.
pub struct Awaiting {
    queue: VecDeque<(Seq, Key<Client>)>,
    /// Parallel to the roll's slots: the record that stands in the queue, or none.
    by_slot: Box<[Seq]>,
}

impl Awaiting {
    pub fn new(capacity: usize) -> Awaiting {
        Awaiting { queue: VecDeque::with_capacity(capacity), by_slot: vec![Seq::NONE; capacity].into() }
    }

    /// At once, when the first is on disk.
    pub fn deadline(&self, roll: &Roll) -> Option<Instant> {
        self.queue.front().filter(|(seq, _)| roll.keeper.holds(*seq)).map(|_| Instant::ZERO)
    }
}

/// Whether a lease is on the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    OnDisk,
    /// It will be, with this record.
    By(Seq),
    /// Too much waits for the disk already.
    NoRoom,
    /// The machine, or all without a number, have caused more records than their share: it waits until there is one for it.
    NoShare,
}

/// The record that the number of this address waits for, before it is told to a MAC.
pub fn numbered(ctx: &Ctx<'_>, address: Ipv4Addr, mac: Mac) -> Option<Seq> {
    let seq = ctx.roll.promised_by(ctx.roll.plan.number(address)?, mac);
    (!ctx.roll.keeper.holds(seq)).then_some(seq)
}

/// Puts a lease on the record, where it needs one and has none. A record speaks of twice the lease, so that every other renewal writes.
pub fn kept(ctx: &mut Ctx<'_>, key: Key<Client>, address: Ipv4Addr, lease: Duration) -> Kept {
    let Some(client) = ctx.roll.get(key) else { return Kept::NoRoom };
    if ctx.roll.plan.number(address).is_some() {
        return numbered(ctx, address, client.mac).map_or(Kept::OnDisk, Kept::By);
    }
    let mut record = client.on_record;
    let (renews, covers) = (record.address == address, record.until >= ctx.unix + lease.as_secs());
    let (identity, news) = (client.identity, client.news);
    if renews && covers && !news {
        // As it was promised before.
    } else if !ctx.roll.may_record(ctx.now, &identity, renews) {
        if !(renews && covers) {
            return Kept::NoShare;
        }
    } else {
        let Some(client) = ctx.roll.get(key) else { return Kept::NoRoom };
        let until = ctx.unix + 2 * lease.as_secs();
        let guest = Guest { address, identity: client.identity, until, verdict: client.verdict, papers: client.papers };
        let Some(seq) = ctx.record(&[Event::Guest(guest)]) else { return Kept::NoRoom };
        record = OnRecord { address, until, seq };
        if let Some(client) = ctx.roll.get_mut(key) {
            (client.on_record, client.news) = (record, false);
        }
    }
    if ctx.roll.keeper.holds(record.seq) { Kept::OnDisk } else { Kept::By(record.seq) }
}

impl Dhcp {
    /// Keeps a message until a record is on disk. When the queue is full the client's next message is taken up in its place.
    pub(super) fn await_disk(&mut self, ctx: &mut Ctx<'_>, key: Key<Client>, datagram: Datagram<'_>, seq: Seq) {
        self.keep(key, datagram);
        // A record that was just made for it must not end before the disk has answered.
        let until = ctx.roll.get(key).map_or(ctx.now, |client| client.until.max(ctx.now + OFFER_HOLD));
        ctx.roll.keep_until(key, until);
        let waits = &mut self.awaiting;
        let room = waits.queue.len() < waits.by_slot.len();
        if let Some(place) = waits.by_slot.get_mut(key.slot()).filter(|place| **place != seq && room) {
            *place = seq;
            waits.queue.push_back((seq, key));
        }
    }

    /// Answers whose records are on disk, in order. Stops early when the outbox is full.
    pub fn keep_promises(&mut self, ctx: &mut Ctx<'_>, scratch: &mut Scratch) {
        while let Some(&(seq, key)) = self.awaiting.queue.front().filter(|(seq, _)| ctx.roll.keeper.holds(*seq) && ctx.out.has_room()) {
            self.awaiting.queue.pop_front();
            if let Some(place) = self.awaiting.by_slot.get_mut(key.slot()).filter(|place| **place == seq) {
                *place = Seq::NONE;
            }
            let held = ctx.roll.get(key).and_then(|_| self.drop_held(key));
            if let Some(held) = held {
                self.take(ctx, scratch, held.datagram(), true);
            }
        }
    }
}
