//! Places in the table of transfers: who gets one, who makes room, and who is known to be there.
//!
//! | the request comes from | its transfer | its first packet |
//! |---|---|---|
//! | the MAC on record for the address | is the machine's own; no other MAC may speak for it | waits like everybody's |
//! | a router, for a machine on record behind it | is the machine's own | waits like everybody's |
//! | anybody else | is a stranger's: no record and no text of the machine's is touched | waits in the quiet share, as all others of it |
//!
//! A request never finds the table full of nobody: when there is no place, a machine on record takes that of the stranger who has not
//! acknowledged anything for longest, or else that of the longest silent transfer. Strangers make room for each other.

use std::net::SocketAddrV4;

use crate::base::machine::Datagram;
use crate::base::slab::Key;
use crate::engine::Ctx;
use crate::engine::returning::{self, Returning};
use crate::roll::client::{Client, Identity};
use crate::roll::kind::FirmwareKind;
use crate::roll::stage::Stage;

use super::policy::kind_of;
use super::transfer::{Asked, Asker, Requester, Session, Transfer};
use super::turns::waiter;
use super::{CHECK_INTERVAL, CLIENT_TRANSFERS, SILENT, STRANGERS, Tftp};
use crate::engine::tftp::Counter;

/// See [`Tftp::claim`].
pub(super) enum Claimant {
    /// From its own client.
    Same,
    /// From the machine whose name it bears.
    Stronger,
    /// From somebody else.
    Forged,
}

impl Tftp {
    /// Places of strangers who have not acknowledged anything; of all strangers; and files that are being opened while strangers' are
    /// too.
    fn unmet_max(&self) -> usize {
        (self.transfers.capacity() / 4).max(8)
    }

    fn strangers_max(&self) -> usize {
        self.transfers.capacity() / 2
    }

    fn opening_max(&self) -> usize {
        (self.transfers.capacity() / 16).max(16)
    }

    /// Makes the record of a transfer, on a server port that its client did not have for the last one.
    pub(super) fn admit(&mut self, ctx: &mut Ctx<'_>, datagram: &Datagram<'_>, asked: &Asked<'_>) -> Option<Key<Transfer>> {
        let (client, origin) = self.origin(ctx, datagram);
        if !self.make_room(ctx, client, origin) {
            return None;
        }
        let known = client.and_then(|key| ctx.roll.get(key)).map(|client| client.evidence.kind());
        let kind = known.map_or(FirmwareKind::Other, |known| kind_of(known, &asked.options));
        let count = match client.and_then(|key| ctx.roll.get_mut(key)) {
            Some(client) => client.loading.counts(),
            None => {
                self.begun = self.begun.wrapping_add(1);
                self.begun
            }
        };
        let (first, last) = ctx.config.tftp.ports;
        let port = first + u16::from(count) % (last - first + 1);
        let asker = Asker { client, origin, kind };
        let link = ctx.endpoints.link(datagram.endpoint);
        let server = SocketAddrV4::new(*datagram.dst.ip(), port);
        let session = Session::new(ctx.now, link, server, asker, datagram, asked);
        let key = self.transfers.insert(Transfer::new(ctx.now, session, asked))?;
        let fits = self.by_key.insert(Session::key(datagram.src, port), key.slot() as u32)
            && self.by_peer.insert(Session::peer_key(datagram.src), key.slot() as u32);
        assert!(fits, "the index has a place for every record");
        self.wheel.set(key.slot(), ctx.now + CHECK_INTERVAL);
        if let Some(client) = client {
            let former = begins(ctx, client, key.to_u64()).and_then(|token| self.transfers.get_mut(Key::from_u64(token)));
            if let Some(former) = former.filter(|former| former.session().client() == Some(client)) {
                former.muted();
            }
        }
        Some(key)
    }

    /// Whose request this is, and the record that it belongs to.
    fn origin(&mut self, ctx: &mut Ctx<'_>, datagram: &Datagram<'_>) -> (Option<Key<Client>>, Requester) {
        let address = *datagram.src.ip();
        let Some(key) = ctx.roll.at_address(address) else {
            // After a restart, a node that goes on with its lease has no record yet; but its MAC is known, and its address says its number.
            let number = datagram.mac.and_then(|mac| ctx.roll.lots().number_of(mac));
            let known = number.is_some() && number == ctx.config.plan.number(address);
            let Some(mac) = datagram.mac.filter(|_| known) else { return (None, Requester::Stranger) };
            let machine = Returning { address, identity: Identity::Mac(mac), arch: None, program: FirmwareKind::Other };
            return (returning::record(ctx, &machine), Requester::Record);
        };
        let Some(client) = ctx.roll.get(key) else { return (None, Requester::Stranger) };
        let routed = ctx.config.networks.get(client.route.network()).is_none_or(|network| network.link.is_none());
        let Some(mac) = datagram.mac.filter(|_| !routed && client.mac().is_individual()) else { return (Some(key), Requester::Routed) };
        if client.mac() == mac || (client.number().is_some() && client.number() == ctx.roll.lots().number_of(mac)) {
            return (Some(key), Requester::Record);
        }
        ctx.stats.count(Counter::TftpForged);
        if let Some(more) = self.told_forged.allow(ctx.now) {
            let title = client.title();
            log::warn!(
                "{title}: TFTP request from its address {address} came from {mac} (served as an unknown machine's; \
                 if the machine has that card, add its MAC to the node{more})"
            );
        }
        (None, Requester::Stranger)
    }

    /// Ends whom a new transfer pushes out. False: there is no place for it.
    fn make_room(&mut self, ctx: &mut Ctx<'_>, client: Option<Key<Client>>, origin: Requester) -> bool {
        if origin == Requester::Stranger {
            if self.opening >= self.opening_max() {
                return false;
            }
            let full = self.chains.len(STRANGERS) >= self.unmet_max() || self.transfers.len() >= self.strangers_max();
            return !full || self.evict(ctx, STRANGERS);
        }
        let begun = client.and_then(|key| ctx.roll.get(key)).map(|client| (client.loading.running(), client.loading.last()));
        if let Some((CLIENT_TRANSFERS.., last)) = begun {
            // One that was never acknowledged makes room; sixteen that run are too many.
            let last = Key::from_u64(last);
            if self.transfers.get(last).is_none_or(|transfer| transfer.look().is_met()) {
                return false;
            }
            ctx.stats.count(Counter::TftpEvicted);
            self.end(ctx, last);
        }
        !self.transfers.is_full() || self.evict(ctx, STRANGERS) || self.evict(ctx, SILENT)
    }

    /// Ends the transfer that has stood longest in a chain.
    fn evict(&mut self, ctx: &mut Ctx<'_>, chain: usize) -> bool {
        let Some(key) = self.chains.first(chain).and_then(|slot| self.transfers.key_at(slot)) else { return false };
        ctx.stats.count(Counter::TftpEvicted);
        self.end(ctx, key);
        true
    }

    /// The world has answered. A stranger's transfer holds a place from now on until it is heard of.
    pub(super) fn settled(&mut self, key: Key<Transfer>) {
        self.opening = self.opening.saturating_sub(1);
        // One that was taken up has its place.
        if self.transfers.get(key).is_some_and(|transfer| transfer.session().is_strangers() && !transfer.is_reopening()) {
            self.chains.push(STRANGERS, key.slot());
        }
    }

    /// What a request from the address and port of a running transfer is to it. What somebody else has begun in a machine's name yields
    /// to the machine.
    pub(super) fn claim(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>, datagram: &Datagram<'_>) -> Claimant {
        match self.transfers.get(key) {
            Some(transfer) if !transfer.may_come_from(datagram.mac) => {
                let strangers = transfer.session().is_strangers();
                if strangers && self.origin(ctx, datagram).1 != Requester::Stranger { Claimant::Stronger } else { Claimant::Forged }
            }
            Some(_) | None => Claimant::Same,
        }
    }

    /// Something came from the transfer's client: it is there.
    pub(super) fn hear(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>) {
        let Some(transfer) = self.transfers.get_mut(key) else { return };
        if let Some(hold) = transfer.content().hold() {
            self.held.heard(key.slot(), hold);
        }
        if transfer.is_quiet() {
            self.chains.remove(key.slot());
        }
        transfer.heard(ctx.pace.lane(transfer.session().link()), ctx.now, waiter(key));
    }

    /// Ends a transfer whose machine has asked for an address since it was heard of: it began to boot again, and a packet of what it has
    /// forgotten would be fatal to what it loads now from the same port.
    pub(super) fn forgotten(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>) -> bool {
        let Some(transfer) = self.transfers.get(key) else { return true };
        let restarted = transfer.session().client().and_then(|client| ctx.roll.get(client)).map(|client| client.restarted());
        let forgotten = restarted.is_some_and(|at| at > transfer.look().heard());
        if forgotten {
            ctx.stats.count(Counter::TftpForgotten);
            self.end(ctx, key);
        }
        forgotten
    }

    /// A look finds no answer: it counts no longer among those who load, until it is heard of. After two looks it is silent.
    pub(super) fn fall_silent(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>) {
        let Some(transfer) = self.transfers.get_mut(key) else { return };
        if transfer.look().is_silent() {
            self.chains.push(SILENT, key.slot());
        }
        transfer.counts_no_more(ctx.pace.lane(transfer.session().link()), ctx.now);
    }
}

/// A machine on record begins to load something; gives what it began last. The latest speaks for it.
pub(super) fn begins(ctx: &mut Ctx<'_>, key: Key<Client>, token: u64) -> Option<u64> {
    let client = ctx.roll.get_mut(key)?;
    let former = client.loading.begins(token);
    if client.boot.stage() != Stage::Up {
        ctx.roll.enter(ctx.now, key, Stage::Loading, format_args!(""));
    }
    Some(former)
}
