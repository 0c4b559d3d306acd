//! DISCOVER and BOOTP: which address a machine is offered, and when. The tables are those of [`super::rights`].

use std::time::Duration;

use crate::base::slab::Key;
use crate::engine::Ctx;
use crate::engine::dhcp::Counter;
use crate::roll::client::{Arrival, Client};
use crate::roll::kind::FirmwareKind;
use crate::roll::stage::Stage;
use crate::wire::dhcp::MessageType;

use super::addresses::{lease_of, number_for};
use super::promise::{self, Kept};
use super::reply::send;
use super::request::ClientRequest;
use super::{Dhcp, OFFER_HOLD, STRANGER_HOLD, passing};

/// A BOOTP client cannot renew: its address is kept for a day. Like every guest address it is probed as it is offered again.
const BOOTP_HOLD: Duration = Duration::from_secs(86_400);

impl Dhcp {
    pub(super) fn discover(&mut self, ctx: &mut Ctx<'_>, asked: &ClientRequest<'_>) {
        let Some(key) = self.admit(ctx, asked) else { return };
        if let Some(client) = ctx.roll.get_mut(key).filter(|_| !matches!(asked.way, Arrival::Through(_))) {
            client.asks_anew(ctx.now, asked.message.header.xid);
        }
        begin_boot(ctx, key, asked.kind);
        if let Some(seq) = promise::awaited(ctx, key, asked.network) {
            return self.await_record(ctx, key, asked.datagram, seq);
        }
        let Some((address, ready)) = self.choose(ctx, key, asked) else { return };
        if ready > ctx.now {
            return self.hold(ctx, key, asked.datagram, ready, format_args!("probe {address}"));
        }
        if let Some(until) = self.deferral(ctx, key, asked) {
            return self.hold(ctx, key, asked.datagram, until, format_args!("held"));
        }
        self.drop_held(key);
        ctx.stats.count(Counter::Offer);
        let lease = lease_of(ctx, address, number_for(ctx, key, Some(address)), asked.network);
        send(ctx, asked, Some(key), Some(MessageType::Offer), Some(address), Some(lease));
        let Some(client) = ctx.roll.get(key) else { return };
        let (again, until) = (client.boot.stage() == Stage::Offered, client.binding.until().max(ctx.now + OFFER_HOLD));
        ctx.roll.keep_until(key, until);
        if again {
            log::debug!("{}: offer {address} again", asked.identity);
        } else {
            ctx.roll.enter(ctx.now, key, Stage::Offered, format_args!("offer {address}"));
        }
    }

    pub(super) fn bootp(&mut self, ctx: &mut Ctx<'_>, asked: &ClientRequest<'_>) {
        let Some(key) = self.admit(ctx, asked) else { return };
        if let Some(client) = ctx.roll.get_mut(key).filter(|_| !matches!(asked.way, Arrival::Through(_))) {
            client.asks_anew(ctx.now, asked.message.header.xid);
        }
        begin_boot(ctx, key, asked.kind);
        let Some((address, ready)) = self.choose(ctx, key, asked) else { return };
        if ready > ctx.now {
            // Its next request finds the address vetted.
            return ctx.roll.keep_until(key, ready + STRANGER_HOLD);
        }
        match promise::kept(ctx, key, address, BOOTP_HOLD) {
            Kept::Committed => {}
            Kept::By(seq) => return self.await_record(ctx, key, asked.datagram, seq),
            Kept::NoRoom => return ctx.stats.count(Counter::DhcpJournal),
            Kept::NoShare => return ctx.stats.count(Counter::DhcpRecords),
        }
        send(ctx, asked, Some(key), None, Some(address), None);
        self.leased(ctx, key, asked, address, ctx.now + BOOTP_HOLD, false);
    }
}

/// A DISCOVER of firmware begins a boot; one of a later program goes on with it.
fn begin_boot(ctx: &mut Ctx<'_>, key: Key<Client>, kind: FirmwareKind) {
    let Some(client) = ctx.roll.get(key) else { return };
    let (arch, stage) = (client.evidence.arch(), client.boot.stage());
    if matches!(stage, Stage::Probing | Stage::Offered) {
        return;
    }
    let firmware = !matches!(kind, FirmwareKind::Other | FirmwareKind::Ipxe);
    if firmware || stage == Stage::Up {
        ctx.roll.finish_story(ctx.now, key, log::Level::Info, format_args!("started again"));
    }
    if ctx.roll.begin_boot(ctx.now, key) {
        passing::refuse_retired(ctx, key);
    }
    let stage = Stage::Discover;
    match arch.filter(|_| kind != FirmwareKind::Other) {
        Some(arch) if kind == FirmwareKind::Ipxe => ctx.roll.enter(ctx.now, key, stage, format_args!("discover (ipxe {arch})")),
        Some(arch) => ctx.roll.enter(ctx.now, key, stage, format_args!("discover ({arch})")),
        None => ctx.roll.enter(ctx.now, key, stage, format_args!("discover (os)")),
    }
}
