//! The DHCP server (RFC 2131, 2132, 951/1542 BOOTP, 3046 relays, 4390 IPoIB, 4578 PXE).
//!
//! A message goes one way through this room, downward:
//!
//! | step | module | what it does |
//! |---|---|---|
//! | receive | [`Dhcp::datagram`] | parses, counts |
//! | read | [`request`] | identity, architecture, kind, network and way, each worked out once |
//! | believe | [`suspect`] | whose word it is; [`decide::licence`] is the table of what it may do |
//! | report | [`passing`] | a tested machine's report, which may give it a number |
//! | decide | [`decide`], [`rights`] | pure tables: what a REQUEST gets, who may have which address, when it may be offered |
//! | apply | [`offer`], [`lease`], [`conflict`], on [`addresses`] | DISCOVER and BOOTP; REQUEST and RELEASE; DECLINE and ARP |
//! | wait | [`held`], [`promise`] | for a probe, for room on the link, for a record (`engine::commit`): the message is kept, and goes the whole way again |
//! | answer | [`reply`] | the reply, from the config and the record |
//!
//! Identity is the MAC. A numbered node has the address of its number and costs no state. A machine without a number gets a guest address that
//! was vetted by ARP.

mod addresses;
mod conflict;
mod counter;
mod decide;
mod held;
mod lease;
mod offer;
mod other_servers;
mod passing;
mod promise;
mod reply;
mod request;
mod rights;
mod suspect;

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::log_limit::LogLimit;
use crate::base::machine::Datagram;
use crate::base::outbox::Output;
use crate::base::slab::{Key, Slab};
use crate::base::time::Instant;
use crate::roll::client::Client;
use crate::roll::registry::{Due, Registry};
use crate::wire::dhcp::{self, Message, MessageType, Scratch};

use super::Ctx;
use conflict::Answerers;
use decide::Licence;
use held::HeldMessage;
use other_servers::OtherServers;
use passing::NumberPace;
use reply::send;
use request::ClientRequest;

pub use addresses::probes;
pub use counter::Counter;
pub use reply::{CLIENT_PORT, SERVER_PORT};

/// How long an offered address is kept for a REQUEST: firmware picks an offer after 4 s, and asks again within 32.
const OFFER_HOLD: Duration = Duration::from_secs(60);
/// A machine that was refused an address is remembered this long.
const STRANGER_HOLD: Duration = Duration::from_secs(60);

/// The state of the DHCP service. Addresses and records are in the roll.
pub struct Dhcp {
    held: Slab<HeldMessage>,
    /// Parallel to the roll's slots.
    held_by: Box<[Option<Key<HeldMessage>>]>,
    /// Who was held for want of room, oldest first; who was answered meanwhile is passed over.
    deferred: VecDeque<Key<Client>>,
    next_release: Instant,
    started: Instant,
    other_servers: OtherServers,
    passing: NumberPace,
    full: LogLimit,
    empty: LogLimit,
    answerers: Answerers,
    conflict: LogLimit,
    doubted: LogLimit,
    proxies: LogLimit,
    forged: LogLimit,
    no_script: LogLimit,
    nak: LogLimit,
    declined: LogLimit,
    unclaimed: LogLimit,
    unread: LogLimit,
    unserved: LogLimit,
    twice: LogLimit,
}

impl Dhcp {
    /// A service for `capacity` client records. The seed decides its transaction id.
    pub fn new(capacity: usize, seed: u64) -> Dhcp {
        let log_limit = LogLimit::default();
        Dhcp {
            held: Slab::new(capacity),
            held_by: vec![None; capacity].into(),
            deferred: VecDeque::with_capacity(capacity),
            next_release: Instant::ZERO,
            started: Instant::ZERO,
            other_servers: OtherServers::new(seed),
            passing: NumberPace::default(),
            full: log_limit,
            empty: log_limit,
            answerers: Answerers::default(),
            conflict: log_limit,
            doubted: log_limit,
            proxies: log_limit,
            forged: log_limit,
            no_script: log_limit,
            nak: log_limit,
            declined: log_limit,
            unclaimed: log_limit,
            unread: log_limit,
            unserved: log_limit,
            twice: log_limit,
        }
    }

    /// Asks each link once whether another DHCP server is there.
    pub fn start(&mut self, ctx: &mut Ctx<'_>) {
        self.started = ctx.now;
        self.other_servers.probe(ctx);
    }

    /// A datagram to port 67, or to port 68 where only servers send.
    pub fn datagram(&mut self, ctx: &mut Ctx<'_>, scratch: &mut Scratch, datagram: Datagram<'_>) {
        self.take(ctx, scratch, datagram, false);
    }

    /// `held`: a message that has waited already.
    fn take(&mut self, ctx: &mut Ctx<'_>, scratch: &mut Scratch, datagram: Datagram<'_>, held: bool) {
        let link = ctx.endpoints.link(datagram.endpoint);
        let message = match dhcp::parse(datagram.payload, scratch) {
            Ok(message) => message,
            Err(why) => return self.malformed(ctx, &datagram, why),
        };
        if datagram.dst.port() == CLIENT_PORT {
            return self.other_servers.heard(ctx, link, datagram.mac, &message);
        }
        let mut asked = match ClientRequest::read(ctx.config, &message, (link, datagram), held) {
            Ok(asked) => asked,
            Err(reason) => return self.not_for_us(ctx, &message, reason),
        };
        if !held {
            ctx.stats.count(counter(asked.message_type()));
        }
        let record = ctx.roll.find(&asked.identity);
        if let Some(client) = record.and_then(|key| ctx.roll.get(key)).filter(|_| asked.is_brief_choice()) {
            (asked.arch, asked.kind) = (client.evidence.arch(), client.evidence.kind());
        }
        match decide::licence(asked.message_type(), suspect::word(ctx, record, asked.way, asked.network)) {
            Licence::Everything => self.follow(ctx, &asked, record),
            Licence::Repeat => self.repeat(ctx, &asked),
            Licence::Nothing => self.not_itself(ctx, &asked),
        }
    }

    /// A message that breaks its RFC. Whoever sent it waits for an answer that never comes.
    fn malformed(&mut self, ctx: &mut Ctx<'_>, datagram: &Datagram<'_>, why: dhcp::MessageError) {
        ctx.stats.count(Counter::DhcpMalformed);
        if let Some(more) = self.unread.allow(ctx.now) {
            let (src, link) = (datagram.src, ctx.endpoints.link(datagram.endpoint));
            let interface = ctx.config.links.get(usize::from(link)).map_or("", |link| link.interface.as_str());
            let mac = datagram.mac.map_or_else(String::new, |mac| format!(" ({mac})"));
            log::info!("dhcp: a message of {src}{mac} on {interface} was dropped: {why}{more}");
        }
    }

    /// A message that nobody here can answer.
    fn not_for_us(&mut self, ctx: &mut Ctx<'_>, message: &Message<'_>, reason: Counter) {
        ctx.stats.count(reason);
        let why = match reason {
            Counter::DhcpNoNetwork => {
                "no network that is served has the relay's address (add a [[network]] with its subnet, if it is ours)"
            }
            Counter::DhcpNoIdentity => "it has neither an Ethernet address nor a client identifier",
            _ => return,
        };
        if let Some(more) = self.unserved.allow(ctx.now) {
            let [a, b, c, d, e, f, ..] = message.header.chaddr;
            let (mac, giaddr) = (Mac([a, b, c, d, e, f]), message.header.giaddr);
            log::info!("dhcp: {mac} behind the relay {giaddr} is not answered: {why}{more}");
        }
    }

    /// Does what a message of the machine's own asks for.
    fn follow(&mut self, ctx: &mut Ctx<'_>, asked: &ClientRequest<'_>, record: Option<Key<Client>>) {
        if let Some(client) = record.and_then(|key| ctx.roll.get_mut(key)) {
            client.evidence.asked(asked.arch, asked.kind);
            client.route.spoke(ctx.now, asked.way);
        }
        let reports = matches!(asked.message_type(), Some(MessageType::Discover | MessageType::Request));
        if !asked.held && reports && suspect::may_report(ctx, asked) {
            self.report(ctx, asked);
        }
        match asked.message_type() {
            Some(MessageType::Discover) => self.discover(ctx, asked),
            Some(MessageType::Request) => self.request(ctx, asked),
            Some(MessageType::Decline) => self.decline(ctx, asked),
            Some(MessageType::Release) => self.release(ctx, asked),
            Some(MessageType::Inform) => send(ctx, asked, ctx.roll.find(&asked.identity), Some(MessageType::Ack), None, None),
            None => self.bootp(ctx, asked),
            Some(_) => {}
        }
    }

    /// A node finds a place in a full table: that of a machine without a number which was given nothing yet (law 3).
    fn admit_node(&mut self, ctx: &mut Ctx<'_>, asked: &ClientRequest<'_>) -> Option<Key<Client>> {
        ctx.roll.number_of(&asked.identity)?;
        let shed = ctx.roll.sheddable()?;
        ctx.stats.count(Counter::DhcpTableFull);
        self.forget(ctx, shed, true);
        ctx.roll.admit(ctx.now, asked.identity)
    }

    /// The record of whoever asks, made now if need be, with what this message says of it.
    fn admit(&mut self, ctx: &mut Ctx<'_>, asked: &ClientRequest<'_>) -> Option<Key<Client>> {
        let Some(key) = ctx.roll.admit(ctx.now, asked.identity).or_else(|| self.admit_node(ctx, asked)) else {
            ctx.stats.count(Counter::DhcpTableFull);
            if let Some(more) = self.full.allow(ctx.now) {
                let (who, room) = (asked.identity, ctx.roll.capacity());
                log::warn!("{who}: not answered (all {room} client records are in use; raise server.capacity{more})");
            }
            return None;
        };
        if let Some(client) = ctx.roll.get_mut(key) {
            client.evidence.asked(asked.arch, asked.kind);
            client.route.asked(asked.link(), asked.way);
        }
        Some(key)
    }

    /// When [`Dhcp::expire`] has something to do, at the latest.
    pub fn deadline(&self, roll: &Registry) -> Option<Instant> {
        let pools = roll.pools.iter().flatten().filter_map(|pool| pool.deadline());
        let release = (!self.deferred.is_empty()).then_some(self.next_release);
        pools.chain(roll.deadline()).chain(release).min()
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
}

/// What a message of a client counts as; None is BOOTP.
fn counter(kind: Option<MessageType>) -> Counter {
    match kind {
        Some(MessageType::Discover) => Counter::Discover,
        Some(MessageType::Request) => Counter::Request,
        Some(MessageType::Decline) => Counter::Decline,
        Some(MessageType::Release) => Counter::Release,
        Some(MessageType::Inform) => Counter::Inform,
        None => Counter::Bootp,
        Some(_) => Counter::DhcpNotARequest,
    }
}

#[cfg(test)]
mod tests;
