//! Addresses of machines as the tables of [`rights`] have it: which one a machine gets, and how it changes hands.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::base::machine::Link;
use crate::base::outbox::Output;
use crate::base::rng::mix;
use crate::base::slab::Key;
use crate::base::time::Instant;
use crate::config::{Config, Hardware};
use crate::engine::dhcp::Counter;
use crate::engine::{Ctx, boot};
use crate::roll::client::{Arrival, Client};
use crate::roll::guests::PROBE_WAIT;
use crate::roll::kind::FirmwareKind;
use crate::roll::plan::Number;
use crate::roll::stage::Stage;

use super::request::ClientRequest;
use super::rights::{self, Holder, HolderView, OfferView, RightView, Vetting};
use super::{Dhcp, STRANGER_HOLD, conflict};

/// NICs of one machine ask one after the other; a NIC that was silent for this long leaves the node's address to another one.
const NIC_SILENCE: Duration = Duration::from_secs(5);

impl Dhcp {
    /// The address that a client is offered on this network, bound to it, and when: the one of the number that it may get, the one that it has a
    /// right to, the one it wishes for, any.
    pub(super) fn choose(&mut self, ctx: &mut Ctx<'_>, key: Key<Client>, asked: &ClientRequest<'_>) -> Option<(Ipv4Addr, Instant)> {
        if let Some(address) = self.offer_number(ctx, key, asked) {
            return Some((address, ctx.now));
        }
        let Some(address) = entitled(ctx, key, asked) else { return self.choose_guest(ctx, key, asked) };
        let view = offer_view(ctx, key, asked, address)?;
        move_to(ctx, key, address);
        let (asks, ready) = match rights::vetting(view) {
            Vetting::Now => (false, ctx.now),
            Vetting::At(instant) => (false, instant),
            Vetting::Ask => (true, ctx.now),
            Vetting::AskAndWait => (true, ctx.now + PROBE_WAIT),
        };
        if asks {
            conflict::asked(ctx, key);
            ctx.stats.count(Counter::ArpProbe);
            ctx.out.put(Output::Probe { link: asked.link(), ip: address });
        }
        Some((address, ready))
    }

    fn choose_guest(&mut self, ctx: &mut Ctx<'_>, key: Key<Client>, asked: &ClientRequest<'_>) -> Option<(Ipv4Addr, Instant)> {
        let (shunned, times) = ctx.roll.get(key).map(|client| client.doubt.lately(ctx.now)).unwrap_or_default();
        let wish = asked.message.requested_ip().filter(|wish| shunned != Some(*wish));
        let pool = ctx.roll.pools.get_mut(asked.network).and_then(Option::as_mut);
        // Each DECLINE leads it to another place of the pool.
        let place = mix(asked.identity.key()) + u64::from(times);
        let taken = pool.and_then(|pool| {
            let wished = wish.and_then(|address| pool.claim(ctx.now, address, key, &asked.identity));
            wished.or_else(|| pool.take(ctx.now, place, key, &asked.identity))
        });
        let Some(taken) = taken else {
            self.pool_is_empty(ctx, key, asked);
            return None;
        };
        move_to(ctx, key, taken.address);
        if let Some(client) = ctx.roll.get_mut(key) {
            client.route.moved(asked.network);
        }
        if taken.probe {
            ctx.stats.count(Counter::ArpProbe);
            ctx.out.put(Output::Probe { link: asked.link(), ip: taken.address });
        }
        Some((taken.address, taken.ready))
    }

    fn pool_is_empty(&mut self, ctx: &mut Ctx<'_>, key: Key<Client>, asked: &ClientRequest<'_>) {
        ctx.stats.count(Counter::DhcpNoAddress);
        ctx.roll.keep_until(key, ctx.now + STRANGER_HOLD);
        if let Some(more) = self.empty.allow(ctx.now) {
            let subnet = ctx.config.networks.get(asked.network).map(|network| network.subnet.to_string()).unwrap_or_default();
            let who = asked.identity;
            log::warn!("{who}: not answered (guest pool exhausted in {subnet}; enlarge `guests`{more})");
        }
    }
}

/// What is known of an address that a machine has a right to.
fn offer_view(ctx: &Ctx<'_>, key: Key<Client>, asked: &ClientRequest<'_>, address: Ipv4Addr) -> Option<OfferView> {
    let client = ctx.roll.get(key)?;
    let lot = client.number().and_then(|number| ctx.roll.lots().lot(number));
    let (nics, replaced) = lot.map_or((0, false), |lot| (lot.fingerprint.macs.len(), !lot.retired.is_empty()));
    // Declined, and not known yet whether rightly.
    let doubted = client.doubt.is_declined().then_some(client.doubt.asked());
    let probing = (client.boot.stage() == Stage::Probing).then_some(client.binding.until());
    Some(OfferView {
        holder: holder(ctx, key, address, asked.kind),
        replaced,
        several_nics: nics > 1,
        probes: probes(ctx.config, link_of(ctx, asked.network)),
        vetted_at: doubted.max(probing),
    })
}

/// The address that a number gives on a network, if that is where it belongs.
pub(super) fn numbered_address(ctx: &Ctx<'_>, number: Option<Number>, network: usize) -> Option<Ipv4Addr> {
    let subnet = ctx.config.networks.get(network)?.subnet;
    // What the head itself has is nobody's, whatever the plan says.
    ctx.roll.plan.address(number?).filter(|&address| subnet.is_host(address) && !ctx.links.has(address))
}

/// The address that a machine has a right to on a network, by the table in [`rights::right`].
pub(super) fn entitled(ctx: &Ctx<'_>, key: Key<Client>, asked: &ClientRequest<'_>) -> Option<Ipv4Addr> {
    let client = ctx.roll.get(key)?;
    let pool = ctx.roll.pools.get(asked.network).and_then(Option::as_ref);
    let own = numbered_address(ctx, client.number(), asked.network);
    rights::right(RightView {
        own: own.map(|address| (address, holder(ctx, key, address, asked.kind))),
        put_away: client.doubt.put_away() > ctx.now,
        guest: client.address().filter(|&address| pool.is_some_and(|pool| pool.owner(address) == Some(key))),
    })
}

/// Who holds an address that a machine asks for through firmware, or a system, of this kind.
fn holder(ctx: &Ctx<'_>, key: Key<Client>, address: Ipv4Addr, kind: FirmwareKind) -> Holder {
    let Some(holder) = ctx.roll.at_address(address) else { return Holder::Nobody };
    if holder == key {
        return Holder::Itself;
    }
    let (Some(holder), Some(other)) = (ctx.roll.get(holder), ctx.roll.get(key)) else { return Holder::GivesWay };
    let own = holder.number().map(|number| ctx.roll.plan.address(number));
    let view = HolderView {
        moved: holder.is_leased() && own.is_some_and(|own| own != holder.address()),
        same_node: holder.number() == other.number(),
        forged: matches!(holder.route.way(), Arrival::Through(_)) && !matches!(other.route.way(), Arrival::Through(_)),
        silent: holder.loading.running() == 0 && ctx.now.since(holder.route.heard()) >= NIC_SILENCE,
        leased: holder.is_leased(),
        boots: kind != FirmwareKind::Other,
    };
    if rights::gives_way(view) { Holder::GivesWay } else { Holder::Keeps }
}

/// Binds an address to a client, dropping the neighbour entry of the one that it leaves. False when somebody else has it and keeps it.
pub(super) fn move_to(ctx: &mut Ctx<'_>, key: Key<Client>, address: Ipv4Addr) -> bool {
    let Some(kind) = ctx.roll.get(key).map(|client| client.evidence.kind()) else { return false };
    if ctx.roll.get(key).is_some_and(|client| client.address() != Some(address)) {
        drop_neighbour(ctx, key);
    }
    let numbered = ctx.roll.plan.number(address).is_some();
    if let (true, Holder::GivesWay, Some(holder)) = (numbered, holder(ctx, key, address, kind), ctx.roll.at_address(address)) {
        drop_neighbour(ctx, holder);
        ctx.roll.unbind(holder, true);
    }
    ctx.roll.bind(key, address)
}

pub(super) fn link_of(ctx: &Ctx<'_>, network: usize) -> Option<Link> {
    ctx.config.networks.get(network)?.link
}

/// Whether a link can be asked by ARP, and may be.
pub fn probes(config: &Config, link: Option<Link>) -> bool {
    config.dhcp.probe && link.and_then(|link| config.links.get(usize::from(link))).is_some_and(|link| link.hardware == Hardware::Ethernet)
}

pub(super) fn drop_neighbour(ctx: &mut Ctx<'_>, key: Key<Client>) {
    let Some(client) = ctx.roll.get_mut(key) else { return };
    if let (Some(link), Some(address)) = (client.neighbour.dropped(), client.address()) {
        ctx.out.put(Output::Neighbour { link, ip: address, mac: None });
    }
}

/// The number of a client, or the one whose address it is offered.
pub(super) fn number_for(ctx: &Ctx<'_>, key: Key<Client>, offered: Option<Ipv4Addr>) -> Option<Number> {
    let client = ctx.roll.get(key)?;
    client.number().or_else(|| client.prospect.offered().filter(|&number| offered.is_some() && ctx.roll.plan.address(number) == offered))
}

pub(super) fn lease_of(ctx: &Ctx<'_>, address: Ipv4Addr, number: Option<Number>, network: usize) -> Duration {
    let Some(network) = ctx.config.networks.get(network) else { return Duration::from_secs(60) };
    let numbered = ctx.roll.plan.number(address).is_some();
    if numbered { boot::lease(ctx.config, network, number) } else { network.guest_lease }
}
