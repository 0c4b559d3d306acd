//! DNS: authoritative for the cluster's names and addresses, which follow from the plan, and a way to other servers for everything else.
//!
//! A query is judged ([`Dns::judge`] looks like the list of what the RFCs refuse), answered from the plan ([`find`]) or handed on
//! ([`forward`]); whole zones go to allowed addresses in pieces ([`transfer`]). Nothing is remembered but what waits for an upstream, for
//! four and a half seconds, and where a transfer stands. Called by the Server alone.

mod counter;
mod find;
mod forward;
mod lines;
mod local;
mod serial;
mod transfer;
mod upstreams;
mod zone;

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::base::endpoint::EndpointId;
use crate::base::machine::{ConnId, Datagram, Stream, StreamEvent};
use crate::base::outbox::Via;
use crate::base::time::{Instant, Now};
use crate::config::Config;
use crate::wire::control::DnsStatus;
use crate::wire::dns::{self, CLASS_IN, Data, DnsName, NoQuery, OPCODE_QUERY, Query, Record, ResponseBuilder, ResponseFlags, rcode, rtype};

use super::Ctx;
use find::{Lookup, PLAN_TTL};
use forward::Forwarder;
use local::Local;
use transfer::ZoneTransfer;
use zone::{NEGATIVE_TTL, Spot, Zone, Zones};

pub use counter::Counter;
pub use serial::Serial;

/// The well-known port, of UDP and TCP.
pub const PORT: u16 = 53;
/// Transfers that may be asked for on one connection: they follow one another.
const AT_ONCE: usize = 8;

/// How somebody asks, and is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// By UDP, to this endpoint.
    Datagram(EndpointId),
    /// By UDP, to this endpoint at another address of its link.
    At(EndpointId, Ipv4Addr),
    /// By TCP, on this connection.
    Conn(ConnId),
}

impl Peer {
    fn is_by_udp(self) -> bool {
        matches!(self, Peer::Datagram(_) | Peer::At(..))
    }
}

/// The DNS service: zones from the plan, questions that wait for upstreams, zone transfers.
pub struct Dns {
    zones: Zones,
    serial: Serial,
    forwarder: Forwarder,
    /// One a connection.
    transfers: Box<[Option<(ConnId, ZoneTransfer)>]>,
}

/// What is to be done with a query.
enum Judgement<'q> {
    /// Answer with this code alone.
    Say(u16, Counter),
    Answer(Zone, Spot<'q>),
    Local(Local),
    Forward,
    Transfer(Zone),
}

/// Who has the answer to a question about a place in a zone of ours.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Ours,
    /// Others, and this server says nothing about it.
    Others,
    /// Others, but who may not ask them through this server gets what it knows.
    OthersIfAsked,
}

impl Dns {
    /// Allocates everything that will ever be used. The zones' serial is the time at which they came into force, if none is kept.
    pub fn new(config: &Config, seed: u64, now: Now) -> Dns {
        let serial = Serial::of(config, now.unix);
        Dns {
            zones: Zones::new(config, serial.number),
            serial,
            forwarder: Forwarder::new(seed, now.at),
            transfers: (0..dns::CONNECTIONS).map(|_| None).collect(),
        }
    }

    /// Goes on behind the serial that an earlier daemon has kept.
    pub fn resume(&mut self, config: &Config, kept: Serial) {
        self.set_serial(config, kept.then(self.serial));
    }

    /// What the next daemon goes on behind.
    pub fn serial(&self) -> Serial {
        self.serial
    }

    /// Takes over a new config; when it changes a name or an address, secondaries are to ask for the zones again. Running transfers of the
    /// old ones end with their next piece.
    pub fn reconfigure(&mut self, new: &Config, now: Now) {
        let next = self.serial.then(Serial::of(new, now.unix));
        if next != self.serial {
            self.set_serial(new, next);
        }
    }

    fn set_serial(&mut self, config: &Config, serial: Serial) {
        self.serial = serial;
        self.zones = Zones::new(config, serial.number);
    }

    /// What an operator sees of it.
    pub fn status(&self) -> DnsStatus {
        DnsStatus {
            zone: self.zones.apex().map(ToString::to_string).unwrap_or_default(),
            reverse_zones: self.zones.reverse_count(),
            serial: self.zones.serial(),
            waiting: self.forwarder.len(),
            transfers: self.transfers.iter().flatten().count(),
        }
    }

    /// A question by a datagram.
    pub fn datagram(&mut self, ctx: &mut Ctx<'_>, datagram: &Datagram<'_>) {
        let own = ctx.endpoints.get(datagram.endpoint).is_some_and(|row| row.address == datagram.dst);
        let peer = if own { Peer::Datagram(datagram.endpoint) } else { Peer::At(datagram.endpoint, *datagram.dst.ip()) };
        self.query(ctx, peer, datagram.src, datagram.payload);
    }

    /// What a client does on its connection.
    pub fn stream(&mut self, ctx: &mut Ctx<'_>, stream: &Stream<'_>) {
        match stream.event {
            StreamEvent::Opened { .. } => {}
            StreamEvent::Bytes(bytes) => self.query(ctx, Peer::Conn(stream.conn), stream.peer, bytes),
            StreamEvent::Drained => self.go_on(ctx, stream.conn),
            StreamEvent::Closed => {
                for place in self.transfers.iter_mut() {
                    place.take_if(|(conn, _)| *conn == stream.conn);
                }
                self.forwarder.left(ctx, Peer::Conn(stream.conn));
            }
        }
    }

    /// What another server does on a line to it.
    pub fn called(&mut self, ctx: &mut Ctx<'_>, stream: &Stream<'_>) {
        self.forwarder.called(ctx, stream);
    }

    /// A connection has taken everything: a transfer goes on.
    fn go_on(&mut self, ctx: &mut Ctx<'_>, conn: ConnId) {
        // The one that has begun comes before those that wait for it.
        let own = self.transfers.iter_mut().filter(|place| matches!(place, Some((whose, _)) if *whose == conn));
        let Some(place) = own.max_by_key(|place| place.as_ref().is_some_and(|(_, transfer)| transfer.has_begun())) else { return };
        if place.as_mut().is_some_and(|(_, transfer)| transfer.go_on(ctx, &self.zones, conn).is_over()) {
            *place = None;
        }
    }

    /// Asks upstreams again, and gives up questions whose time is over.
    pub fn expire(&mut self, ctx: &mut Ctx<'_>) {
        self.forwarder.expire(ctx);
    }

    /// When [`Dns::expire`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.forwarder.deadline()
    }

    fn query(&mut self, ctx: &mut Ctx<'_>, peer: Peer, src: SocketAddrV4, bytes: &[u8]) {
        let query = match dns::parse(bytes) {
            Ok(query) => query,
            Err(NoQuery) => return ctx.stats.count(Counter::DnsNoQuery),
        };
        ctx.stats.count(Counter::DnsQuery);
        match self.judge(ctx, peer, src, &query) {
            Judgement::Say(rcode, counter) => {
                ctx.stats.count(counter);
                say(ctx, peer, src, &query, rcode);
            }
            Judgement::Answer(zone, spot) => self.answer(ctx, peer, src, &query, zone, spot),
            Judgement::Local(what) => answer_locally(ctx, peer, src, &query, what),
            Judgement::Forward => self.forwarder.forward(ctx, peer, src, query),
            Judgement::Transfer(zone) => self.transfer(ctx, peer, src, query, zone),
        }
    }

    fn judge<'q>(&self, ctx: &Ctx<'_>, peer: Peer, src: SocketAddrV4, query: &'q Query) -> Judgement<'q> {
        let over_udp = peer.is_by_udp();
        let unsupported = Judgement::Say(rcode::NOTIMP, Counter::DnsUnsupported);
        if query.opcode != OPCODE_QUERY {
            return unsupported;
        }
        let Some(question) = query.question.as_ref().filter(|_| query.sound) else {
            return Judgement::Say(rcode::FORMERR, Counter::DnsMalformed);
        };
        let place = self.zones.locate(&question.name);
        match question.rtype {
            // RFC 6891, 6.1.3
            _ if query.edns.is_some_and(|edns| edns.version > 0) => Judgement::Say(rcode::BADVERS, Counter::DnsUnsupported),
            _ if question.class != CLASS_IN => Judgement::Say(rcode::REFUSED, Counter::DnsRefused),
            rtype::OPT => Judgement::Say(rcode::FORMERR, Counter::DnsMalformed),
            // RFC 5936, 4.2: by datagrams that is not defined.
            rtype::AXFR if over_udp => Judgement::Say(rcode::FORMERR, Counter::DnsMalformed),
            rtype::AXFR | rtype::IXFR => match place {
                _ if !ctx.config.dns.transfer.contains(src.ip()) => Judgement::Say(rcode::REFUSED, Counter::DnsTransferRefused),
                Some((zone, Spot::Apex)) => Judgement::Transfer(zone),
                _ => Judgement::Say(rcode::NOTAUTH, Counter::DnsTransferRefused),
            },
            // Other questions that are no types of records (RFC 6895, 3.1).
            128..=254 => unsupported,
            kind => self.judge_place(ctx, src, query, (&question.name, kind), place),
        }
    }

    /// Whether it is answered, or is others' to answer.
    fn judge_place<'q>(
        &self,
        ctx: &Ctx<'_>,
        src: SocketAddrV4,
        query: &Query,
        (name, kind): (&DnsName, u16),
        place: Option<(Zone, Spot<'q>)>,
    ) -> Judgement<'q> {
        let goes = query.recursion && forward::may(ctx.config, *src.ip());
        let local = || local::local(name, kind, ctx.config.dns.forward_unknown);
        match place {
            Some((zone, spot)) => match self.owner(ctx, src, kind, zone, spot) {
                Whose::Ours => Judgement::Answer(zone, spot),
                Whose::OthersIfAsked if !goes => Judgement::Answer(zone, spot),
                Whose::Others if !goes => Judgement::Say(rcode::REFUSED, Counter::DnsRefused),
                Whose::Others | Whose::OthersIfAsked => Judgement::Forward,
            },
            None if goes => local().map_or(Judgement::Forward, Judgement::Local),
            None => Judgement::Say(rcode::REFUSED, Counter::DnsRefused),
        }
    }

    /// Who knows what there is at a place of our zones.
    fn owner(&self, ctx: &Ctx<'_>, src: SocketAddrV4, kind: u16, zone: Zone, spot: Spot<'_>) -> Whose {
        let missing = || matches!(find::find(&self.zones, ctx.config, ctx.roll, *src.ip(), spot), Lookup::Missing);
        match (zone, spot) {
            // The parent's, as it tells how the zone is delegated (RFC 4035, 3.1.4.1).
            (_, Spot::Apex) if kind == rtype::DS => Whose::OthersIfAsked,
            // A network smaller than a /24 shares its zone with its neighbours.
            (Zone::Reverse(subnet), Spot::Apex) if !find::is_served(ctx.config, subnet) => Whose::OthersIfAsked,
            (Zone::Reverse(_), Spot::Address(address)) if ctx.config.network_of(address).is_none() && missing() => Whose::Others,
            (_, Spot::Apex) => Whose::Ours,
            _ if ctx.config.dns.forward_unknown && missing() => Whose::OthersIfAsked,
            _ => Whose::Ours,
        }
    }

    /// Answers from the plan: the records, or that there are none, with the SOA record that says for how long (RFC 2308, 2).
    fn answer(&self, ctx: &mut Ctx<'_>, peer: Peer, src: SocketAddrV4, query: &Query, zone: Zone, spot: Spot<'_>) {
        let (Some(apex), Some(authority), Some(question)) = (self.zones.name(zone), &self.zones.authority, &query.question) else {
            return;
        };
        let found = find::find(&self.zones, ctx.config, ctx.roll, *src.ip(), spot);
        let owner = &question.name;
        let record = |ttl, data| Record { owner, ttl, data };
        let any = question.rtype == rtype::ANY;
        let rcode = if matches!(found, Lookup::Missing) { rcode::NXDOMAIN } else { rcode::NOERROR };
        let verdict = ResponseFlags { rcode, authoritative: true, recursive: forward::may(ctx.config, *src.ip()) };
        let limit = limit(peer, query);
        ctx.stats.count(Counter::DnsAnswer);
        send(ctx, peer, src, |buf| {
            let mut reply = ResponseBuilder::new(buf, limit, query, verdict)?;
            let (mut count, mut fits) = (0, true);
            let mut put = |record: Record<'_>| {
                count += 1;
                fits &= reply.answer(&record);
            };
            match &found {
                // One set of those that there are (RFC 8482, 4.1).
                Lookup::Apex if any || question.rtype == rtype::SOA => put(record(PLAN_TTL, Data::Soa(authority))),
                Lookup::Apex if question.rtype == rtype::NS => put(record(PLAN_TTL, Data::Ns(&authority.server))),
                Lookup::Hosts(hosts) if any || question.rtype == rtype::A => {
                    hosts.as_slice().iter().for_each(|address| put(record(hosts.ttl, Data::A(*address))));
                }
                Lookup::Pointer { target, ttl } if any || question.rtype == rtype::PTR => put(record(*ttl, Data::Ptr(target))),
                Lookup::Apex | Lookup::Hosts(_) | Lookup::Pointer { .. } | Lookup::Empty | Lookup::Missing => {}
            }
            if !fits {
                reply.truncate();
            }
            let nothing = Record { owner: &apex, ttl: NEGATIVE_TTL, data: Data::Soa(authority) };
            Some(reply.finish((count == 0).then_some(&nothing)))
        });
    }

    fn transfer(&mut self, ctx: &mut Ctx<'_>, peer: Peer, src: SocketAddrV4, query: Query, zone: Zone) {
        let Peer::Conn(conn) = peer else {
            // Incremental by a datagram: the latest SOA record says that a connection is needed (RFC 1995, 2).
            return self.answer_soa(ctx, peer, src, &query, zone);
        };
        // Who has it all already is told so (RFC 1995, 2).
        let ours = self.zones.serial();
        if query.serial.is_some_and(|theirs| theirs.wrapping_sub(ours) < 1 << 31) {
            return self.answer_soa(ctx, peer, src, &query, zone);
        }
        let under_way = self.transfers.iter().flatten().filter(|(whose, _)| *whose == conn).count();
        let Some(place) = self.transfers.iter_mut().find(|place| place.is_none()).filter(|_| under_way < AT_ONCE) else {
            ctx.stats.count(Counter::DnsTransferRefused);
            return say(ctx, peer, src, &query, rcode::REFUSED);
        };
        ctx.stats.count(Counter::DnsTransfer);
        let mut transfer = ZoneTransfer::new(query, src, zone, ours);
        if under_way > 0 || !transfer.go_on(ctx, &self.zones, conn).is_over() {
            *place = Some((conn, transfer));
        }
    }

    fn answer_soa(&self, ctx: &mut Ctx<'_>, peer: Peer, src: SocketAddrV4, query: &Query, zone: Zone) {
        let (Some(apex), Some(authority)) = (self.zones.name(zone), &self.zones.authority) else { return };
        let verdict = ResponseFlags { rcode: rcode::NOERROR, authoritative: true, recursive: false };
        ctx.stats.count(Counter::DnsAnswer);
        send(ctx, peer, src, |buf| {
            let mut reply = ResponseBuilder::new(buf, limit(peer, query), query, verdict)?;
            if !reply.answer(&Record { owner: &apex, ttl: PLAN_TTL, data: Data::Soa(authority) }) {
                reply.truncate();
            }
            Some(reply.finish(None))
        });
    }
}

/// Puts out a message that `write` lays down. False when it declines.
fn send(ctx: &mut Ctx<'_>, peer: Peer, to: SocketAddrV4, write: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
    match peer {
        Peer::Conn(conn) => ctx.out.write(conn, write),
        Peer::Datagram(endpoint) => {
            let Some(row) = ctx.endpoints.get(endpoint) else { return false };
            ctx.out.datagram(endpoint, row.address, to, Via::Kernel, write)
        }
        Peer::At(endpoint, address) => ctx.out.datagram(endpoint, SocketAddrV4::new(address, PORT), to, Via::Kernel, write),
    }
}

/// How long a response to a client may be, in bytes.
fn limit(peer: Peer, query: &Query) -> usize {
    match peer {
        peer if peer.is_by_udp() => query.udp_limit(),
        _ => dns::PIECE_MAX,
    }
}

/// Answers what is known of a name that stays here.
fn answer_locally(ctx: &mut Ctx<'_>, peer: Peer, src: SocketAddrV4, query: &Query, what: Local) {
    let Some(question) = &query.question else { return };
    ctx.stats.count(Counter::DnsLocal);
    let rcode = if what == Local::Missing { rcode::NXDOMAIN } else { rcode::NOERROR };
    let verdict = ResponseFlags { rcode, authoritative: false, recursive: true };
    let localhost = DnsName::of([b"localhost".as_slice()]);
    let data = match (what, question.rtype, &localhost) {
        (Local::Localhost, rtype::A | rtype::ANY, _) => Some(Data::A(Ipv4Addr::LOCALHOST)),
        (Local::Loopback, rtype::PTR | rtype::ANY, Some(name)) => Some(Data::Ptr(name)),
        _ => None,
    };
    send(ctx, peer, src, |buf| {
        let mut reply = ResponseBuilder::new(buf, limit(peer, query), query, verdict)?;
        let fits = data.is_none_or(|data| reply.answer(&Record { owner: &question.name, ttl: PLAN_TTL, data }));
        if !fits {
            reply.truncate();
        }
        Some(reply.finish(None))
    });
}

/// Answers with a code alone.
fn say(ctx: &mut Ctx<'_>, peer: Peer, src: SocketAddrV4, query: &Query, rcode: u16) {
    let verdict = ResponseFlags { rcode, authoritative: false, recursive: forward::may(ctx.config, *src.ip()) };
    send(ctx, peer, src, |buf| ResponseBuilder::new(buf, limit(peer, query), query, verdict).map(|reply| reply.finish(None)));
}
