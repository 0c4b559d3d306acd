//! Addresses that two machines claim: ARP, and DECLINE.
//!
//! ARP says who has an address, and anybody can say it. It is believed where a probe of ours has asked for that very address, within
//! [`ANSWER_WAIT`](crate::roll::guests::ANSWER_WAIT), and as [`decide::claim`] has it. A DECLINE (RFC 2131, 4.3.3) is a machine's own word that
//! somebody answered its probe: ours asks once more, and only an answer puts the address away. Where none comes the machine is served again: a
//! guest with another address, a node with its own, unless it declines that over and over. Where ARP does not reach, the word is all there is.
//!
//! A box that answers for everybody (proxy ARP, ARP suppression of a switch) would put every address away. One that has answered for more than
//! [`FEW`] is logged once and not believed any more, and the addresses that were put away for it come back.

use std::net::Ipv4Addr;

use crate::base::addr::Mac;
use crate::base::machine::Link;
use crate::base::outbox::Output;
use crate::base::slab::Key;
use crate::base::time::Instant;
use crate::engine::Ctx;
use crate::engine::dhcp::Counter;
use crate::roll::client::Client;
use crate::roll::guests::{ANSWER_WAIT, QUARANTINE};
use crate::roll::stage::Stage;
use crate::wire::dhcp::Scratch;

use super::addresses::{drop_neighbour, probes};
use super::decide::{self, ClaimDecision, ClaimView};
use super::request::ClientRequest;
use super::{Dhcp, passing};

/// A machine that declines the address of its number more often than this within a minute (`roll::client`, module `doubt`), with
/// nobody else there, gets another.
const DECLINES: u8 = 3;

/// Addresses that one machine may answer for before it counts as a proxy: a host may have several.
pub const FEW: usize = 8;
/// Machines that answered for others' addresses, remembered at a time.
const ANSWERERS: usize = 16;

/// A machine that answered probes.
#[derive(Clone, Copy)]
struct Answerer {
    mac: Mac,
    /// When it answered last.
    last: Instant,
    addresses: [Option<Ipv4Addr>; FEW],
    proxy: bool,
}

/// Who answered probes for addresses that it was not given.
#[derive(Default)]
pub struct Answerers([Option<Answerer>; ANSWERERS]);

impl Answerers {
    fn find(&mut self, now: Instant, mac: Mac) -> Option<&mut Answerer> {
        self.0.iter_mut().flatten().find(|answerer| answerer.mac == mac && now.since(answerer.last) < QUARANTINE)
    }

    fn is_proxy(&mut self, now: Instant, mac: Mac) -> bool {
        let known = self.find(now, mac).filter(|answerer| answerer.proxy);
        known.map(|answerer| answerer.last = now).is_some()
    }

    /// Notes an answer. One too many gives all addresses that were answered for: the machine is a proxy from now on.
    fn note(&mut self, now: Instant, mac: Mac, address: Ipv4Addr) -> Option<[Option<Ipv4Addr>; FEW]> {
        if self.find(now, mac).is_none() {
            let fresh = Answerer { mac, last: now, addresses: [None; FEW], proxy: false };
            // A proxy is kept before others, the one heard last before those that fell silent.
            let kept = |place: &Option<Answerer>| place.map(|answerer| (answerer.proxy, answerer.last));
            if let Some(place) = self.0.iter_mut().min_by_key(|place| kept(place)) {
                *place = Some(fresh);
            }
        }
        let answerer = self.find(now, mac)?;
        answerer.last = now;
        if answerer.addresses.contains(&Some(address)) {
            return None;
        }
        match answerer.addresses.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(address),
            None => answerer.proxy = true,
        }
        answerer.proxy.then_some(answerer.addresses)
    }
}

impl Dhcp {
    /// RFC 2131, 4.3.3: the machine says that somebody else uses its address.
    pub(super) fn decline(&mut self, ctx: &mut Ctx<'_>, asked: &ClientRequest<'_>) {
        let Some(key) = ctx.roll.find(&asked.identity) else { return };
        let Some(client) = ctx.roll.get_mut(key) else { return };
        let Some(address) = client.address().filter(|address| asked.message.requested_ip() == Some(*address)) else { return };
        let times = client.doubt.declines(ctx.now, address);
        let network = ctx.config.networks.iter().find(|network| network.subnet.contains(address));
        let link = network.and_then(|network| network.link).filter(|link| probes(ctx.config, Some(*link)));
        let numbered = ctx.roll.plan.number(address).is_some();
        let asks = link.is_some() && !(numbered && times > DECLINES);
        self.tell_declined(ctx, key, address, asks);
        ctx.roll.note(key, format_args!("decline {address}"));
        drop_neighbour(ctx, key);
        if let (Some(link), true) = (link, asks) {
            ctx.stats.count(Counter::ArpProbe);
            ctx.out.put(Output::Probe { link, ip: address });
        }
        match (numbered, asks) {
            (true, true) => {
                if let Some(client) = ctx.roll.get_mut(key) {
                    client.declines(ctx.now + ANSWER_WAIT);
                }
            }
            (true, false) => give_up_number(ctx, key, None),
            (false, asks) => {
                ctx.roll.waive(key);
                for pool in ctx.roll.pools.iter_mut().flatten() {
                    let _ = if asks { pool.doubt(ctx.now, address) } else { pool.put_away(ctx.now, address, None) };
                }
                ctx.roll.unbind(key, true);
            }
        }
        ctx.roll.keep_until(key, ctx.now + QUARANTINE);
        ctx.roll.enter(ctx.now, key, Stage::Discover, format_args!(""));
    }

    fn tell_declined(&mut self, ctx: &Ctx<'_>, key: Key<Client>, address: Ipv4Addr, asks: bool) {
        let Some(client) = ctx.roll.get(key) else { return };
        let Some(more) = self.declined.allow(ctx.now) else { return };
        let (who, pause) = (client.title(), QUARANTINE.as_secs());
        match asks {
            true => log::warn!("{who}: declined {address} (ARP now asks whether another machine uses it{more})"),
            false => log::warn!("{who}: declined {address} and gets another address (nobody gets {address} for {pause} s{more})"),
        }
    }

    /// Somebody claims an IP address by ARP.
    pub fn arp(&mut self, ctx: &mut Ctx<'_>, scratch: &mut Scratch, link: Link, mac: Mac, sender: Ipv4Addr) {
        let Some(network) = ctx.config.networks.iter().position(|net| net.link == Some(link) && net.subnet.contains(sender)) else {
            return;
        };
        let holder = ctx.roll.at_address(sender);
        if let Some(key) = holder {
            passing::heard_by_arp(ctx, key, mac);
        }
        let pool = ctx.roll.pools.get(network).and_then(Option::as_ref);
        let client = holder.and_then(|key| ctx.roll.get(key));
        let numbered = ctx.roll.plan.number(sender).is_some();
        if client.is_none() && pool.is_none_or(|pool| pool.range().position(sender).is_none()) {
            // Nobody's, and no address that is given.
            return;
        }
        let asked = match client.filter(|_| numbered) {
            Some(client) => ctx.now <= client.doubt.asked(),
            None => pool.is_some_and(|pool| pool.asked(ctx.now, sender)),
        };
        let settled = client.is_some_and(|client| client.mac() == mac || client.is_leased());
        let view = ClaimView {
            settled,
            asked,
            proxy: asked && !settled && self.answerers.is_proxy(ctx.now, mac),
            numbered: numbered && !client.is_some_and(|client| client.doubt.is_declined()),
            known: ctx.roll.lots().number_of(mac).is_some() || ctx.roll.lots().retired_from(mac).is_some(),
            free: holder.is_none(),
        };
        match decide::claim(view) {
            ClaimDecision::Nothing if settled => {}
            ClaimDecision::Nothing => ctx.stats.count(Counter::ArpUnasked),
            ClaimDecision::LookAgain => {
                ctx.stats.count(Counter::ArpUnasked);
                if let Some(pool) = ctx.roll.pools.get_mut(network).and_then(Option::as_mut) {
                    pool.look_again(ctx.now, sender);
                }
            }
            ClaimDecision::Doubted => self.doubt(ctx, mac, sender),
            ClaimDecision::Conflict => match self.answerers.note(ctx.now, mac, sender) {
                Some(addresses) => self.expose(ctx, link, mac, &addresses),
                None => self.conflict(ctx, scratch, (network, holder), mac, sender),
            },
        }
    }

    /// The answer of a machine that is not believed.
    fn doubt(&mut self, ctx: &mut Ctx<'_>, mac: Mac, address: Ipv4Addr) {
        ctx.stats.count(Counter::ArpNotBelieved);
        let Some(number) = ctx.roll.plan.number(address) else { return };
        if let Some(more) = self.doubted.allow(ctx.now) {
            log::warn!("{mac}: its ARP answer for {address} is ignored (that is {number}'s address, and no node has this MAC{more})");
        }
    }

    /// A proxy: what was put away for it comes back.
    fn expose(&mut self, ctx: &mut Ctx<'_>, link: Link, mac: Mac, addresses: &[Option<Ipv4Addr>]) {
        ctx.stats.count(Counter::ArpNotBelieved);
        for pool in ctx.roll.pools.iter_mut().flatten() {
            addresses.iter().flatten().for_each(|address| pool.take_back(*address, mac));
        }
        if let Some(more) = self.proxies.allow(ctx.now) {
            let interface = ctx.config.links.get(usize::from(link)).map_or("?", |link| link.interface.as_str());
            log::warn!(
                "{mac}: its ARP answers on {interface} are ignored from now on (it is a proxy, as it answers for more than {FEW} addresses; \
                 switch off proxy ARP or ARP suppression there{more})"
            );
        }
    }

    /// Another machine uses the address: it is left out, and who was to get it gets another one.
    fn conflict(
        &mut self,
        ctx: &mut Ctx<'_>,
        scratch: &mut Scratch,
        (network, holder): (usize, Option<Key<Client>>),
        mac: Mac,
        address: Ipv4Addr,
    ) {
        let number = ctx.roll.plan.number(address);
        if let (Some(key), true) = (holder, number.is_some()) {
            give_up_number(ctx, key, Some(mac));
        } else {
            let pool = ctx.roll.pools.get_mut(network).and_then(Option::as_mut);
            if !pool.is_some_and(|pool| pool.put_away(ctx.now, address, Some(mac))) {
                return;
            }
        }
        ctx.stats.count(Counter::ArpConflict);
        if let Some(more) = self.conflict.allow(ctx.now) {
            let pause = QUARANTINE.as_secs();
            match number {
                Some(number) => log::warn!(
                    "{number}: {mac} uses its address {address}, so {number} is a guest for {pause} s (remove the address from that machine{more})"
                ),
                None => log::warn!("{mac}: uses {address} without a lease (nobody gets {address} for {pause} s{more})"),
            }
        }
        let Some(key) = holder else { return };
        ctx.roll.unbind(key, true);
        self.answer_held(ctx, scratch, key);
    }
}

/// The address of the machine's number is not given for a while.
fn give_up_number(ctx: &mut Ctx<'_>, key: Key<Client>, user: Option<Mac>) {
    if let Some(client) = ctx.roll.get_mut(key) {
        client.doubt.puts_away(ctx.now + QUARANTINE, user);
    }
    ctx.roll.unbind(key, true);
}

/// Notes that ARP was asked for the address of a machine's number.
pub(super) fn asked(ctx: &mut Ctx<'_>, key: Key<Client>) {
    if let Some(client) = ctx.roll.get_mut(key) {
        client.doubt.asks(ctx.now + ANSWER_WAIT);
    }
}
