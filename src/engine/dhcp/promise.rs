//! What may be promised (law 4): a number, or a guest's lease, once its record is committed.
//!
//! Whoever asks before that waits in the commit lane ([`commit`](crate::engine::commit)). Its message is kept, and goes the whole way again when the
//! lane releases it.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::machine::{Datagram, Seq};
use crate::base::slab::Key;
use crate::engine::Ctx;
use crate::engine::commit::CommitWaiter;
use crate::roll::client::{Client, OnRecord};
use crate::roll::journal::{Guest, JournalEvent};
use crate::wire::dhcp::Scratch;

use super::addresses::numbered_address;
use super::{Counter, Dhcp, OFFER_HOLD};

/// Whether a lease is on the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Committed,
    /// It will be, with this record.
    By(Seq),
    /// Too much waits for the disk already.
    NoRoom,
    /// The machine, or all without a number, have caused more records than their share: it waits until there is one for it.
    NoShare,
}

/// The record that a client's number still waits for, where the number gives it an address here.
pub fn awaited(ctx: &Ctx<'_>, key: Key<Client>, network: usize) -> Option<Seq> {
    let client = ctx.roll.get(key)?;
    numbered(ctx, numbered_address(ctx, client.number(), network)?, client.mac())
}

/// The record that the number of this address waits for, before a MAC may have it.
fn numbered(ctx: &Ctx<'_>, address: Ipv4Addr, mac: Mac) -> Option<Seq> {
    ctx.commit.awaited(ctx.roll.promised_by(ctx.roll.plan.number(address)?, mac))
}

/// Puts a lease on the record, where it needs one and has none. A record speaks of twice the lease, so that every other renewal writes.
pub fn kept(ctx: &mut Ctx<'_>, key: Key<Client>, address: Ipv4Addr, lease: Duration) -> Kept {
    let Some(client) = ctx.roll.get(key) else { return Kept::NoRoom };
    if ctx.roll.plan.number(address).is_some() {
        return numbered(ctx, address, client.mac()).map_or(Kept::Committed, Kept::By);
    }
    let mut record = client.binding.on_record();
    let (renews, covers) = (record.address == address, record.until >= ctx.unix + lease.as_secs());
    let (identity, news) = (client.identity(), client.evidence.has_news());
    if renews && covers && !news {
        // As it was promised before.
    } else if !ctx.roll.may_record(ctx.now, &identity, renews) {
        if !(renews && covers) {
            return Kept::NoShare;
        }
    } else {
        let Some(client) = ctx.roll.get(key) else { return Kept::NoRoom };
        let until = ctx.unix + 2 * lease.as_secs();
        let guest = Guest {
            address,
            identity: client.identity(),
            until,
            verdict: client.evidence.verdict(),
            fingerprint: *client.evidence.fingerprint(),
        };
        let Some(seq) = ctx.record(&[JournalEvent::Guest(guest)]) else { return Kept::NoRoom };
        record = OnRecord { address, until, seq };
        if let Some(client) = ctx.roll.get_mut(key) {
            client.recorded(record);
        }
    }
    ctx.commit.awaited(record.seq).map_or(Kept::Committed, Kept::By)
}

impl Dhcp {
    /// Keeps a message until a record is committed. When the lane is full, the client has to ask again.
    pub(super) fn await_record(&mut self, ctx: &mut Ctx<'_>, key: Key<Client>, datagram: Datagram<'_>, seq: Seq) {
        // A record that was just made for it must not end before the disk has answered.
        let until = ctx.roll.get(key).map_or(ctx.now, |client| client.binding.until().max(ctx.now + OFFER_HOLD));
        ctx.roll.keep_until(key, until);
        match ctx.commit.after(seq, CommitWaiter::Client(key)) {
            true => self.keep(key, datagram),
            false => ctx.stats.count(Counter::DhcpJournal),
        }
    }

    /// The record that a client's message waited for is committed: the message is taken up.
    pub fn committed(&mut self, ctx: &mut Ctx<'_>, scratch: &mut Scratch, key: Key<Client>) {
        let held = ctx.roll.get(key).and_then(|_| self.drop_held(key));
        if let Some(held) = held {
            self.take_held(ctx, scratch, &held);
        }
    }
}
