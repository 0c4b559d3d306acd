//! The DHCP server (RFC 2131, 2132, 951/1542 BOOTP, 3046 relays, 4390 IPoIB, 4578 PXE).
//!
//! Identity is the MAC. A numbered node has the address of its number and costs no state; a stranger gets a guest address that
//! was vetted by ARP, and is held for a moment when it has to be vetted first. Whose word a message is [`suspect`] says, who else claims an
//! address [`conflict`]. A REQUEST is judged by the table in [`decide`]; a [`reply`] is computed from the config and the record. The stage of a client is written through `Roll::enter` alone. Reports of tested
//! machines give numbers ([`passing`]); what promises something that is not on disk yet is held until it is ([`promise`]).

mod conflict;
mod counter;
mod decide;
mod foreign;
mod held;
mod identify;
mod passing;
mod promise;
mod reply;
mod suspect;

use std::collections::VecDeque;
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::machine::{Datagram, Link};
use crate::base::muffle::Muffle;
use crate::base::outbox::Output;
use crate::base::slab::{Key, Slab};
use crate::base::time::Instant;
use crate::config::{Config, Hardware};
use crate::roll::client::{Client, Stage, Way};
use crate::roll::guests::PROBE_WAIT;
use crate::roll::kind::Kind;
use crate::roll::plan::Number;
use crate::roll::registry::Due;
use crate::wire::dhcp::{self, Message, MessageType, Scratch};

use super::{Ctx, boot};
use conflict::Answerers;
use decide::{Licence, State, Verdict, View};
use foreign::Foreign;
use held::Held;
use passing::Passing;
use promise::{Awaiting, Kept};
use reply::{Asked, Reply};

pub use counter::Counter;
pub use reply::{CLIENT_PORT, SERVER_PORT};

/// How long an offered address is kept for a REQUEST: firmware picks an offer after 4 s, and asks again within 32.
const OFFER_HOLD: Duration = Duration::from_secs(60);
/// A machine that was refused an address is remembered this long.
const STRANGER_HOLD: Duration = Duration::from_secs(60);
/// A BOOTP client cannot renew: its address is kept for a day. Like every guest address it is probed as it is offered again.
const BOOTP_HOLD: Duration = Duration::from_secs(86_400);
/// NICs of one machine ask one after the other; a NIC that was silent for this long leaves the node's address to another one.
const NIC_SILENCE: Duration = Duration::from_secs(5);

/// Who else it happened to, untold.
struct Others(u64);

impl fmt::Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 0 { write!(f, ", as for {} others", self.0) } else { Ok(()) }
    }
}

pub struct Dhcp {
    held: Slab<Held>,
    /// Parallel to the roll's slots.
    held_by: Box<[Option<Key<Held>>]>,
    /// Who was held for want of room, oldest first; who was answered meanwhile is passed over.
    deferred: VecDeque<Key<Client>>,
    next_release: Instant,
    foreign: Foreign,
    awaiting: Awaiting,
    passing: Passing,
    full: Muffle,
    empty: Muffle,
    answerers: Answerers,
    conflict: Muffle,
    doubted: Muffle,
    proxies: Muffle,
    forged: Muffle,
    no_script: Muffle,
    nak: Muffle,
    declined: Muffle,
    unclaimed: Muffle,
}

impl Dhcp {
    pub fn new(capacity: usize, seed: u64) -> Dhcp {
        let muffle = Muffle::default();
        Dhcp {
            held: Slab::new(capacity),
            held_by: vec![None; capacity].into(),
            deferred: VecDeque::with_capacity(capacity),
            next_release: Instant::ZERO,
            foreign: Foreign::new(seed),
            awaiting: Awaiting::new(capacity),
            passing: Passing::default(),
            full: muffle,
            empty: muffle,
            answerers: Answerers::default(),
            conflict: muffle,
            doubted: muffle,
            proxies: muffle,
            forged: muffle,
            no_script: muffle,
            nak: muffle,
            declined: muffle,
            unclaimed: muffle,
        }
    }

    /// Asks each link once whether another DHCP server is there.
    pub fn start(&mut self, ctx: &mut Ctx<'_>) {
        self.foreign.probe(ctx);
    }

    /// A datagram to port 67, or to port 68 where only servers send.
    pub fn datagram(&mut self, ctx: &mut Ctx<'_>, scratch: &mut Scratch, datagram: Datagram<'_>) {
        self.take(ctx, scratch, datagram, false);
    }

    /// `held`: a DISCOVER that has waited already.
    fn take(&mut self, ctx: &mut Ctx<'_>, scratch: &mut Scratch, datagram: Datagram<'_>, held: bool) {
        let link = ctx.endpoints.link(datagram.endpoint);
        let Ok(message) = dhcp::parse(datagram.payload, scratch) else {
            return ctx.stats.count(Counter::DhcpMalformed);
        };
        if datagram.dst.port() == CLIENT_PORT {
            return self.foreign.heard(ctx, link, datagram.mac, &message);
        }
        if message.header.op != 1 {
            return ctx.stats.count(Counter::DhcpNotARequest);
        }
        let Some(identity) = identify::identity(&message) else {
            return ctx.stats.count(Counter::DhcpNoIdentity);
        };
        let Some(network) = network_of(ctx.config, link, &message) else {
            return ctx.stats.count(Counter::DhcpNoNetwork);
        };
        if !held {
            count_type(ctx, message.message_type());
        }
        let (arch, kind) = identify::firmware(&message);
        let way = suspect::way(&message, &identity, datagram.mac, link_of(ctx, network).is_some());
        let Datagram { src, dst, .. } = datagram;
        // What a relay sends comes to us alone, whatever its client did.
        let unicast = message.header.giaddr.is_unspecified() && ctx.config.links.iter().any(|link| link.head == *dst.ip());
        let asked = Asked { message: &message, link, network, identity, kind, way, unicast, src, held };
        let record = ctx.roll.find(&identity);
        match decide::licence(message.message_type(), suspect::word(ctx, record, way, network)) {
            Licence::Everything => {}
            Licence::Repeat => return self.repeat(ctx, &asked, datagram),
            Licence::Nothing => return self.not_itself(ctx, &asked, datagram),
        }
        if let Some(client) = record.and_then(|key| ctx.roll.get_mut(key)) {
            (client.arch, client.kind, client.heard, client.way) = (arch.or(client.arch), kind, ctx.now, way);
        }
        let reports = matches!(message.message_type(), Some(MessageType::Discover | MessageType::Request));
        if !held && reports && suspect::may_report(ctx, &asked) {
            self.report(ctx, &asked);
        }
        match message.message_type() {
            Some(MessageType::Discover) => self.discover(ctx, &asked, datagram),
            Some(MessageType::Request) => self.request(ctx, &asked, datagram),
            Some(MessageType::Decline) => self.decline(ctx, &asked),
            Some(MessageType::Release) => self.release(ctx, &asked),
            Some(MessageType::Inform) => send(ctx, &asked, ctx.roll.find(&identity), Some(MessageType::Ack), None, None),
            None => self.bootp(ctx, &asked, datagram),
            Some(_) => {}
        }
    }

    /// The record of whoever asks, made now if need be, with what this message says of it.
    fn admit(&mut self, ctx: &mut Ctx<'_>, asked: &Asked<'_>) -> Option<Key<Client>> {
        let Some(key) = ctx.roll.admit(ctx.now, asked.identity) else {
            ctx.stats.count(Counter::DhcpTableFull);
            if let Some(muffled) = self.full.admits(ctx.now) {
                let (who, room) = (asked.identity, ctx.roll.capacity());
                log::warn!(
                    "client table is full ({room} records): {who} is not answered, nor were {muffled} others; raise server.capacity"
                );
            }
            return None;
        };
        let (arch, kind) = identify::firmware(asked.message);
        if let Some(client) = ctx.roll.get_mut(key) {
            (client.arch, client.kind, client.link, client.way) = (arch.or(client.arch), kind, asked.link, asked.way);
        }
        Some(key)
    }

    fn discover(&mut self, ctx: &mut Ctx<'_>, asked: &Asked<'_>, datagram: Datagram<'_>) {
        let Some(key) = self.admit(ctx, asked) else { return };
        if let Some(client) = ctx.roll.get_mut(key).filter(|_| !matches!(asked.way, Way::Through(_))) {
            client.asks_anew(ctx.now, asked.message.header.xid);
        }
        begin_chapter(ctx, key, asked.kind);
        if let Some(seq) = unpromised(ctx, key, asked.network) {
            return self.await_disk(ctx, key, datagram, seq);
        }
        let Some((address, ready)) = self.choose(ctx, key, asked) else { return };
        if ready > ctx.now {
            return self.hold(ctx, key, datagram, ready, format_args!("probe {address}"));
        }
        if let Some(until) = self.deferral(ctx, key, asked) {
            return self.hold(ctx, key, datagram, until, format_args!("held"));
        }
        self.drop_held(key);
        ctx.stats.count(Counter::Offer);
        let lease = lease_of(ctx, address, number_for(ctx, key, Some(address)), asked.network);
        send(ctx, asked, Some(key), Some(MessageType::Offer), Some(address), Some(lease));
        let Some(client) = ctx.roll.get(key) else { return };
        let (again, until) = (client.stage == Stage::Offered, client.until.max(ctx.now + OFFER_HOLD));
        ctx.roll.keep_until(key, until);
        if again {
            log::debug!("offer {address} again to {}", asked.identity);
        } else {
            ctx.roll.enter(ctx.now, key, Stage::Offered, format_args!("offer {address}"));
        }
    }

    /// The address for a client on this network, bound to it, and when it may be offered: its number's, the one it has, the one
    /// it wishes for, any.
    fn choose(&mut self, ctx: &mut Ctx<'_>, key: Key<Client>, asked: &Asked<'_>) -> Option<(Ipv4Addr, Instant)> {
        if let Some(address) = self.offer_number(ctx, key, asked) {
            return Some((address, ctx.now));
        }
        if let Some(address) = entitled(ctx, key, asked) {
            let holder = ctx.roll.at_address(address);
            move_to(ctx, key, address);
            // Which of a machine's NICs had its address before a restart is not on record: the other one answers before a REQUEST comes. One
            // that is on record, and silent, is waited for; so is the machine that was replaced, which may run on.
            let lot = ctx.roll.get(key).and_then(|client| ctx.roll.street().lot(client.number?));
            let (nics, replaced) = lot.map_or((0, false), |lot| (lot.papers.macs.len(), !lot.retired.is_empty()));
            let taken_over = holder.map_or(replaced, |holder| holder != key);
            if (taken_over || (holder.is_none() && nics > 1)) && probes(ctx.config, link_of(ctx, asked.network)) {
                conflict::asked(ctx, key);
                ctx.stats.count(Counter::ArpProbe);
                ctx.out.put(Output::Probe { link: asked.link, ip: address });
                return Some((address, if taken_over { ctx.now + PROBE_WAIT } else { ctx.now }));
            }
            // Declined, and not known yet whether rightly.
            let doubted = ctx.roll.get(key).map(|client| client.doubt).filter(|doubt| doubt.declined).map(|doubt| doubt.asked);
            let ready = ctx.roll.get(key).filter(|client| client.stage == Stage::Probing).map(|client| client.until);
            return Some((address, doubted.max(ready).unwrap_or(ctx.now)));
        }
        self.choose_guest(ctx, key, asked)
    }

    fn choose_guest(&mut self, ctx: &mut Ctx<'_>, key: Key<Client>, asked: &Asked<'_>) -> Option<(Ipv4Addr, Instant)> {
        let (shunned, times) = ctx.roll.get(key).map(|client| conflict::shunned(client, ctx.now)).unwrap_or_default();
        let wish = asked.message.requested_ip().filter(|wish| shunned != Some(*wish));
        let pool = ctx.roll.pools.get_mut(asked.network).and_then(Option::as_mut);
        let taken = pool.and_then(|pool| {
            let wished = wish.and_then(|address| pool.claim(ctx.now, address, key, &asked.identity));
            wished.or_else(|| pool.take(ctx.now, crate::base::rng::mix(asked.identity.key()) + times, key, &asked.identity))
        });
        let Some(taken) = taken else {
            ctx.stats.count(Counter::DhcpNoAddress);
            ctx.roll.keep_until(key, ctx.now + STRANGER_HOLD);
            if let Some(muffled) = self.empty.admits(ctx.now) {
                let subnet = ctx.config.networks.get(asked.network).map(|network| network.subnet.to_string()).unwrap_or_default();
                let who = asked.identity;
                log::warn!("no guest address is left in {subnet}: {who} is not answered, nor were {muffled} others; widen `guests`");
            }
            return None;
        };
        move_to(ctx, key, taken.address);
        if let Some(client) = ctx.roll.get_mut(key) {
            client.network = asked.network as u16;
        }
        if taken.probe {
            ctx.stats.count(Counter::ArpProbe);
            ctx.out.put(Output::Probe { link: asked.link, ip: taken.address });
        }
        Some((taken.address, taken.ready))
    }

    fn request(&mut self, ctx: &mut Ctx<'_>, asked: &Asked<'_>, datagram: Datagram<'_>) {
        let message = asked.message;
        let Some((state, address)) = decide::state(message.server_id(), message.requested_ip(), message.header.ciaddr, asked.unicast)
        else {
            return ctx.stats.count(Counter::DhcpMalformed);
        };
        let record = ctx.roll.find(&asked.identity);
        if let Some(key) = record {
            self.give_number(ctx, key, asked, state, address);
        }
        let Some(network) = ctx.config.networks.get(asked.network) else { return };
        let bound = match record {
            Some(key) => entitled(ctx, key, asked),
            None => numbered_address(ctx, ctx.roll.number_of(&asked.identity), asked.network),
        };
        let pool = ctx.roll.pools.get(asked.network).and_then(Option::as_ref);
        let view = View {
            ours: message.server_id().is_none_or(|server| ctx.config.links.iter().any(|link| link.head == server)),
            reaches: network.link.is_some() || !message.header.giaddr.is_unspecified(),
            bound,
            right_network: network.subnet.is_host(address),
            free_guest: pool.is_some_and(|pool| pool.is_free(address, &asked.identity)),
            authoritative: ctx.config.authoritative,
        };
        match decide::request(state, address, view) {
            Verdict::Ack => self.grant(ctx, asked, datagram, state, address),
            Verdict::Adopt => self.adopt(ctx, asked, datagram, state, address),
            Verdict::Nak => {
                ctx.stats.count(Counter::Nak);
                if let Some(muffled) = self.nak.admits(ctx.now) {
                    log::info!("{} asked for {address}, not its address here: told to ask anew ({muffled} more were)", asked.identity);
                }
                send(ctx, asked, None, Some(MessageType::Nak), None, None);
                self.leave(ctx, record, address);
            }
            Verdict::Withdraw => {
                ctx.stats.count(Counter::DhcpOtherServer);
                self.withdraw(ctx, asked);
            }
            Verdict::Silence => ctx.stats.count(Counter::DhcpUnknown),
        }
    }

    /// Takes an address back that a client was told not to use any more.
    fn leave(&mut self, ctx: &mut Ctx<'_>, record: Option<Key<Client>>, address: Ipv4Addr) {
        let Some(key) = record.filter(|&key| ctx.roll.get(key).is_some_and(|client| client.address == Some(address))) else { return };
        if ctx.roll.plan.number(address).is_some() {
            drop_neighbour(ctx, key);
            ctx.roll.unbind(key, true);
        }
    }

    /// A guest address that was given before a restart goes on with its holder.
    fn adopt(&mut self, ctx: &mut Ctx<'_>, asked: &Asked<'_>, datagram: Datagram<'_>, state: State, address: Ipv4Addr) {
        let Some(key) = self.admit(ctx, asked) else { return };
        let pool = ctx.roll.pools.get_mut(asked.network).and_then(Option::as_mut);
        if pool.and_then(|pool| pool.claim(ctx.now, address, key, &asked.identity)).is_some() {
            move_to(ctx, key, address);
            self.grant(ctx, asked, datagram, state, address);
        }
    }

    fn grant(&mut self, ctx: &mut Ctx<'_>, asked: &Asked<'_>, datagram: Datagram<'_>, state: State, address: Ipv4Addr) {
        let Some(key) = self.admit(ctx, asked) else { return };
        let lease = lease_of(ctx, address, ctx.roll.get(key).and_then(|client| client.number), asked.network);
        match promise::kept(ctx, key, address, lease) {
            Kept::OnDisk => {}
            Kept::By(seq) => return self.await_disk(ctx, key, datagram, seq),
            Kept::NoRoom => return ctx.stats.count(Counter::DhcpJournal),
            Kept::NoShare => return ctx.stats.count(Counter::DhcpRecords),
        }
        if !move_to(ctx, key, address) {
            return;
        }
        self.drop_held(key);
        ctx.stats.count(Counter::Ack);
        send(ctx, asked, Some(key), Some(MessageType::Ack), Some(address), Some(lease));
        let renewal = matches!(state, State::Renewing | State::Rebinding);
        self.leased(ctx, key, asked, address, ctx.now + lease, renewal);
    }

    /// Books a lease that was just acknowledged: neighbour entry, stage, story.
    fn leased(&mut self, ctx: &mut Ctx<'_>, key: Key<Client>, asked: &Asked<'_>, address: Ipv4Addr, until: Instant, renewal: bool) {
        let on_link = ctx.config.networks.get(asked.network).is_some_and(|network| network.link.is_some());
        let Some(client) = ctx.roll.get_mut(key) else { return };
        client.network = asked.network as u16;
        if on_link && client.mac != Mac::ZERO && client.neighbour != Some(client.link) {
            client.neighbour = Some(client.link);
            ctx.out.put(Output::Neighbour { link: client.link, ip: address, mac: Some(client.mac) });
        }
        let told = boot::file(ctx.config, client);
        let (kind, stage) = (client.kind, client.stage);
        let (system, again) = (kind == Kind::Other, stage == Stage::Up || (stage == Stage::Leased && kind != Kind::Other));
        ctx.roll.lease(key, until);
        passing::heard_again(ctx, key);
        if again || (renewal && !system) {
            return;
        }
        if system {
            match renewal {
                // It was up before this server was: no boot to tell of.
                true => ctx.roll.enter(ctx.now, key, Stage::Up, format_args!("")),
                false => ctx.roll.enter(ctx.now, key, Stage::Up, format_args!("lease {address}")),
            }
            return ctx.roll.tell(ctx.now, key, log::Level::Info, format_args!("up"));
        }
        ctx.roll.enter(ctx.now, key, Stage::Leased, format_args!("lease {address}"));
        if told.is_none() {
            if let Some(muffled) = self.no_script.admits(ctx.now) {
                let what = if kind == Kind::Ipxe { "boot.script or boot.kernel" } else { "boot.program for its architecture" };
                log::warn!("{} has nothing to boot ({kind}; so had {muffled} others): set {what}", asked.identity);
            }
        }
    }

    /// The client picked another server's offer.
    fn withdraw(&mut self, ctx: &mut Ctx<'_>, asked: &Asked<'_>) {
        let Some(key) = ctx.roll.find(&asked.identity) else { return };
        if ctx.roll.get(key).is_some_and(|client| client.leased) {
            return;
        }
        let server = asked.message.server_id().unwrap_or(Ipv4Addr::UNSPECIFIED);
        ctx.roll.tell(ctx.now, key, log::Level::Info, format_args!("took the offer of another server, {server}"));
        self.forget(ctx, key, true);
    }

    fn release(&mut self, ctx: &mut Ctx<'_>, asked: &Asked<'_>) {
        let Some(key) = ctx.roll.find(&asked.identity) else { return };
        let Some(client) = ctx.roll.get(key) else { return };
        if client.address == Some(asked.message.header.ciaddr) {
            log::debug!("{} released {}", client.title(), asked.message.header.ciaddr);
            ctx.roll.waive(key);
            self.forget(ctx, key, true);
        }
    }

    fn bootp(&mut self, ctx: &mut Ctx<'_>, asked: &Asked<'_>, datagram: Datagram<'_>) {
        let Some(key) = self.admit(ctx, asked) else { return };
        if let Some(client) = ctx.roll.get_mut(key).filter(|_| !matches!(asked.way, Way::Through(_))) {
            client.asks_anew(ctx.now, asked.message.header.xid);
        }
        begin_chapter(ctx, key, asked.kind);
        let Some((address, ready)) = self.choose(ctx, key, asked) else { return };
        if ready > ctx.now {
            // Its next request finds the address vetted.
            return ctx.roll.keep_until(key, ready + STRANGER_HOLD);
        }
        match promise::kept(ctx, key, address, BOOTP_HOLD) {
            Kept::OnDisk => {}
            Kept::By(seq) => return self.await_disk(ctx, key, datagram, seq),
            Kept::NoRoom => return ctx.stats.count(Counter::DhcpJournal),
            Kept::NoShare => return ctx.stats.count(Counter::DhcpRecords),
        }
        send(ctx, asked, Some(key), None, Some(address), None);
        self.leased(ctx, key, asked, address, ctx.now + BOOTP_HOLD, false);
    }

    pub fn deadline(&self, roll: &crate::roll::registry::Roll) -> Option<Instant> {
        let pools = roll.pools.iter().flatten().filter_map(|pool| pool.deadline());
        let release = (!self.deferred.is_empty()).then_some(self.next_release);
        pools.chain(roll.deadline()).chain(release).chain(self.awaiting.deadline(roll)).min()
    }

    /// Vets guest addresses ahead of need, answers what was held, ends leases. Stops early when the outbox is full.
    pub fn expire(&mut self, ctx: &mut Ctx<'_>, scratch: &mut Scratch) {
        for (network, pool) in ctx.roll.pools.iter_mut().enumerate() {
            let link = ctx.config.networks.get(network).and_then(|network| network.link);
            let room = ctx.out.has_room();
            if let Some(address) = pool.as_mut().filter(|_| room).and_then(|pool| pool.sweep(ctx.now)) {
                ctx.stats.count(Counter::ArpProbe);
                ctx.out.put(Output::Probe { link: link.unwrap_or(0), ip: address });
            }
        }
        self.release_deferred(ctx, scratch);
        self.keep_promises(ctx, scratch);
        ctx.stats.add(Counter::LogLeftOut, ctx.roll.shares.left_out());
        while ctx.out.has_room() {
            match ctx.roll.due(ctx.now) {
                Some(Due::Vetted(key)) => self.answer_held(ctx, scratch, key),
                Some(Due::Stalled(key)) => self.stalled(ctx, key),
                Some(Due::Ended(key)) => self.ended(ctx, key),
                None => return,
            }
        }
    }

    fn stalled(&mut self, ctx: &mut Ctx<'_>, key: Key<Client>) {
        let Some(client) = ctx.roll.get(key) else { return };
        let silent = crate::base::time::Seconds(ctx.now.since(client.since));
        let address = client.address.unwrap_or(Ipv4Addr::UNSPECIFIED);
        let file = boot::file(ctx.config, client).unwrap_or("nothing");
        match client.stage {
            Stage::Offered => {
                let known = client.number.is_some();
                ctx.roll.stick(key, format_args!("no request for the offer"));
                // A flood of invented machines ends here too: strangers are told of once an interval.
                let told = if known { Some(0) } else { self.unclaimed.admits(ctx.now) };
                let Some(muffled) = told else { return ctx.roll.note(key, format_args!("no request for the offer")) };
                let others = Others(muffled);
                let why = format_args!("stalled: no request for the offer in {silent}{others}");
                ctx.roll.tell(ctx.now, key, log::Level::Warn, why);
            }
            Stage::Leased => {
                // `file` borrows the config, not the roll.
                ctx.roll.stick(key, format_args!("asked for nothing, was told {file}"));
                ctx.roll.tell(
                    ctx.now,
                    key,
                    log::Level::Warn,
                    format_args!("stalled: has {address} and was told to load {file}, but asked for nothing in {silent}"),
                );
            }
            _ => ctx.roll.tell(ctx.now, key, log::Level::Info, format_args!("loaded, then silent for {silent}")),
        }
    }

    fn ended(&mut self, ctx: &mut Ctx<'_>, key: Key<Client>) {
        let Some(client) = ctx.roll.get(key) else { return };
        if client.transfers > 0 {
            // It is still loading: whatever the clock says, the address is in use.
            return ctx.roll.keep_until(key, ctx.now + OFFER_HOLD);
        }
        if let (true, Some(address)) = (client.leased, client.address) {
            ctx.roll.say_of(ctx.now, key, log::Level::Info, format_args!("did not renew {address}: its lease has ended"));
        }
        self.forget(ctx, key, true);
    }

    /// Takes back everything that a client has, and its record.
    fn forget(&mut self, ctx: &mut Ctx<'_>, key: Key<Client>, vetted: bool) {
        drop_neighbour(ctx, key);
        self.drop_held(key);
        ctx.roll.unbind(key, vetted);
        ctx.roll.remove(key);
    }
}

/// The network that a message speaks of: its relay's, its sender's own after a routed renewal, its link's.
fn network_of(config: &Config, link: Link, message: &Message<'_>) -> Option<usize> {
    let header = &message.header;
    if !header.giaddr.is_unspecified() {
        return config.network_of(header.giaddr);
    }
    let routed = config.networks.iter().position(|n| n.link.is_none() && n.subnet.contains(header.ciaddr));
    let own = || config.networks.iter().position(|network| network.link == Some(link));
    routed.filter(|_| !header.ciaddr.is_unspecified()).or_else(own)
}

/// The address that a number gives on a network, if that is where it belongs.
fn numbered_address(ctx: &Ctx<'_>, number: Option<Number>, network: usize) -> Option<Ipv4Addr> {
    let subnet = ctx.config.networks.get(network)?.subnet;
    ctx.roll.plan.address(number?).filter(|&address| subnet.is_host(address))
}

/// The address that a machine has a right to on a network: its number's, unless it is declined or another of its NICs has it;
/// else the guest address that it has.
fn entitled(ctx: &Ctx<'_>, key: Key<Client>, asked: &Asked<'_>) -> Option<Ipv4Addr> {
    let client = ctx.roll.get(key)?;
    let free = |address| ctx.roll.at_address(address).is_none_or(|holder| holder == key || yields(ctx, holder, client, asked.kind));
    let own = numbered_address(ctx, client.number, asked.network).filter(|&address| free(address) && client.declined_until <= ctx.now);
    let pool = ctx.roll.pools.get(asked.network).and_then(Option::as_ref);
    own.or_else(|| client.address.filter(|&address| pool.is_some_and(|pool| pool.owner(address) == Some(key))))
}

/// Whether the NIC that holds the node's address leaves it to another once it has fallen silent: to one that firmware asks through, for the
/// machine starts again; or to the machine that has the number now. Whether it is there all the same, ARP tells.
fn yields(ctx: &Ctx<'_>, holder: Key<Client>, other: &Client, kind: Kind) -> bool {
    let Some(holder) = ctx.roll.get(holder) else { return true };
    let own = holder.number.map(|number| ctx.roll.plan.address(number));
    if holder.leased && own.is_some_and(|own| own != holder.address) {
        // From before the street was renumbered, and in use: whoever holds it learns that when it renews.
        return false;
    }
    let silent = holder.transfers == 0 && ctx.now.since(holder.heard) >= NIC_SILENCE;
    // What was told of it in another's frames keeps nobody from it who speaks for itself.
    let forged = matches!(holder.way, Way::Through(_)) && !matches!(other.way, Way::Through(_));
    if holder.number == other.number { forged || kind != Kind::Other && silent } else { !holder.leased || silent }
}

/// Binds an address to a client, dropping the neighbour entry of the one that it leaves. False when somebody else has it and keeps it.
fn move_to(ctx: &mut Ctx<'_>, key: Key<Client>, address: Ipv4Addr) -> bool {
    if ctx.roll.get(key).is_some_and(|client| client.address != Some(address)) {
        drop_neighbour(ctx, key);
    }
    let numbered = ctx.roll.plan.number(address).is_some();
    if let Some(holder) = ctx.roll.at_address(address).filter(|&holder| numbered && holder != key) {
        let yields = ctx.roll.get(key).is_some_and(|client| yields(ctx, holder, client, client.kind));
        if yields {
            drop_neighbour(ctx, holder);
            ctx.roll.unbind(holder, true);
        }
    }
    ctx.roll.bind(key, address)
}

fn link_of(ctx: &Ctx<'_>, network: usize) -> Option<Link> {
    ctx.config.networks.get(network)?.link
}

/// The record that a client's number waits for, where the number gives it an address here.
fn unpromised(ctx: &Ctx<'_>, key: Key<Client>, network: usize) -> Option<u64> {
    let client = ctx.roll.get(key)?;
    promise::numbered(ctx, numbered_address(ctx, client.number, network)?, client.mac)
}

fn drop_neighbour(ctx: &mut Ctx<'_>, key: Key<Client>) {
    let Some(client) = ctx.roll.get_mut(key) else { return };
    if let (Some(link), Some(address)) = (client.neighbour.take(), client.address) {
        ctx.out.put(Output::Neighbour { link, ip: address, mac: None });
    }
}

/// A DISCOVER of firmware begins a boot; one of a later program goes on with it.
fn begin_chapter(ctx: &mut Ctx<'_>, key: Key<Client>, kind: Kind) {
    let Some(client) = ctx.roll.get(key) else { return };
    let (arch, stage) = (client.arch, client.stage);
    if matches!(stage, Stage::Probing | Stage::Offered) {
        return;
    }
    let firmware = !matches!(kind, Kind::Other | Kind::Ipxe);
    if firmware || stage == Stage::Up {
        ctx.roll.tell(ctx.now, key, log::Level::Info, format_args!("started again"));
    }
    if let Some(client) = ctx.roll.get_mut(key).filter(|client| client.story.is_empty()) {
        client.began = ctx.now;
        passing::refuse_retired(ctx, key);
    }
    let stage = Stage::Stranger;
    match arch.filter(|_| kind != Kind::Other) {
        Some(arch) if kind == Kind::Ipxe => ctx.roll.enter(ctx.now, key, stage, format_args!("discover (ipxe {arch})")),
        Some(arch) => ctx.roll.enter(ctx.now, key, stage, format_args!("discover ({arch})")),
        None => ctx.roll.enter(ctx.now, key, stage, format_args!("discover (os)")),
    }
}

/// The number of a client, or the one whose address it is offered.
fn number_for(ctx: &Ctx<'_>, key: Key<Client>, offered: Option<Ipv4Addr>) -> Option<Number> {
    let client = ctx.roll.get(key)?;
    client.number.or_else(|| client.offered.filter(|&number| offered.is_some() && ctx.roll.plan.address(number) == offered))
}

fn lease_of(ctx: &Ctx<'_>, address: Ipv4Addr, number: Option<Number>, network: usize) -> Duration {
    let Some(network) = ctx.config.networks.get(network) else { return Duration::from_secs(60) };
    let numbered = ctx.roll.plan.number(address).is_some();
    if numbered { boot::lease(ctx.config, network, number) } else { network.guest_lease }
}

/// What a reply is reckoned at, in bytes on the wire.
const REPLY_BYTES: u64 = 400;

/// Sends a reply of `kind` (None: BOOTP).
fn send(
    ctx: &mut Ctx<'_>,
    asked: &Asked<'_>,
    key: Option<Key<Client>>,
    kind: Option<MessageType>,
    yiaddr: Option<Ipv4Addr>,
    lease: Option<Duration>,
) {
    let client = key.and_then(|key| ctx.roll.get(key));
    let number = key.and_then(|key| number_for(ctx, key, yiaddr));
    let reply = Reply { config: ctx.config, asked, client, number, kind, yiaddr, lease };
    let (from, to, via) = reply.route();
    if !to.ip().is_broadcast() && !ctx.config.networks.iter().any(|network| network.subnet.contains(*to.ip())) {
        return ctx.stats.count(Counter::DhcpOutside);
    }
    ctx.pace.lane(asked.link).bottleneck.sent(ctx.now, REPLY_BYTES, 1, false);
    if !ctx.out.datagram(ctx.endpoints.udp(asked.link, SERVER_PORT), from, to, via, |buf| reply.write(buf)) {
        ctx.stats.count(Counter::DhcpTooLong);
    }
}

fn count_type(ctx: &mut Ctx<'_>, kind: Option<MessageType>) {
    ctx.stats.count(match kind {
        Some(MessageType::Discover) => Counter::Discover,
        Some(MessageType::Request) => Counter::Request,
        Some(MessageType::Decline) => Counter::Decline,
        Some(MessageType::Release) => Counter::Release,
        Some(MessageType::Inform) => Counter::Inform,
        None => Counter::Bootp,
        Some(_) => Counter::DhcpNotARequest,
    });
}

/// Whether a link can be asked by ARP.
pub fn probes(config: &Config, link: Option<Link>) -> bool {
    link.and_then(|link| config.links.get(usize::from(link))).is_some_and(|link| link.hardware == Hardware::Ethernet)
}

#[cfg(test)]
mod tests;
