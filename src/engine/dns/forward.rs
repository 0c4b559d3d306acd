//! Questions about others' names, handed on to the configured servers.
//!
//! A question that waits is *asked* by a datagram, or *called* for by a connection when its client has one and the answer was too long for
//! a datagram. After a constant time it goes to the next server, and at last its client hears that there is no answer. Nothing is kept: who
//! wants a cache asks a resolver that forwards here.
//!
//! An answer counts when it comes from the server that was asked, to the socket from which it was asked, with the id and the question that
//! were sent (RFC 5452, 9): ids and sockets are drawn again for each try from a keyed hash, so that nobody can tell the next from the last.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use crate::base::endpoint::EndpointId;
use crate::base::log_limit::LogLimit;
use crate::base::machine::{ConnId, Datagram, Stream, StreamEvent};
use crate::base::outbox::Output;
use crate::base::rng::mix;
use crate::base::slab::{Key, Slab};
use crate::base::time::Instant;
use crate::base::wheel::Wheel;
use crate::config::Config;
use crate::engine::dns::Counter;
use crate::wire::dns::{self, Query, Response, ResponseBuilder, ResponseFlags, rcode};

use super::super::Ctx;
use super::find::is_head;
use super::{PORT, Peer, limit, say, send};

/// How long a server has for an answer; three tries are over before the five seconds of the C library.
const TIMEOUT: Duration = Duration::from_millis(1500);
const TRIES: u8 = 3;

/// A question that waits, and who asked it.
struct Pending {
    peer: Peer,
    src: SocketAddrV4,
    query: Query,
    /// Where it was asked, from which socket, by which id.
    upstream: Ipv4Addr,
    socket: EndpointId,
    id: u16,
    tries: u8,
    call: Option<u8>,
}

/// A place for a connection to a server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Free,
    /// The world was asked for one; None: nobody wants it any more.
    Asked(Option<Key<Pending>>),
    Open(Key<Pending>, ConnId),
    /// Until the world says that it has gone.
    Ending(ConnId),
}

pub struct Forwarder {
    pending: Slab<Pending>,
    wheel: Wheel,
    calls: [Call; dns::CALLS],
    seed: u64,
    drawn: u64,
    silent: LogLimit,
}

/// Whether somebody's questions are forwarded: the cluster's own, and the head's.
pub fn may(config: &Config, asker: Ipv4Addr) -> bool {
    !config.dns.upstream.is_empty() && (config.network_of(asker).is_some() || is_head(config, asker))
}

impl Forwarder {
    pub fn new(seed: u64, now: Instant) -> Forwarder {
        let (pending, wheel) = (Slab::new(dns::PENDING), Wheel::new(dns::PENDING, now));
        Forwarder { pending, wheel, calls: [Call::Free; dns::CALLS], seed, drawn: 0, silent: LogLimit::default() }
    }

    pub fn len(&self) -> usize {
        self.pending.len()
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.wheel.deadline()
    }

    /// A number that follows from none before it, for those who do not know the seed.
    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        mix(self.seed ^ mix(self.drawn ^ self.seed.rotate_left(32)))
    }

    /// Hands a question on.
    pub fn forward(&mut self, ctx: &mut Ctx<'_>, peer: Peer, src: SocketAddrV4, query: Query) {
        let again = |other: &Pending| (other.peer, other.src, other.query.id) == (peer, src, query.id) && same(&other.query, &query);
        if self.pending.iter().any(|(_, other)| again(other)) {
            return ctx.stats.count(Counter::DnsRepeated);
        }
        if self.pending.is_full() {
            ctx.stats.count(Counter::DnsTableFull);
            return say(ctx, peer, src, &query, rcode::SERVFAIL);
        }
        let nobody = Ipv4Addr::UNSPECIFIED;
        let waits = Pending { peer, src, query, upstream: nobody, socket: 0, id: 0, tries: 0, call: None };
        if let Some(key) = self.pending.insert(waits) {
            ctx.stats.count(Counter::DnsForwarded);
            self.ask(ctx, key);
        }
    }

    /// Asks the server whose turn it is.
    fn ask(&mut self, ctx: &mut Ctx<'_>, key: Key<Pending>) {
        let drawn = self.draw();
        let servers = &ctx.config.dns.upstream;
        let Some(pending) = self.pending.get_mut(key) else { return };
        // None is left when a re-read config has none.
        let Some(&upstream) = servers.get(usize::from(pending.tries) % servers.len().max(1)) else { return self.fail(ctx, key) };
        let [a, b, c, ..] = drawn.to_be_bytes();
        let (id, socket) = (u16::from_be_bytes([a, b]), ctx.endpoints.asker(c % dns::ASKERS as u8));
        (pending.upstream, pending.socket, pending.id) = (upstream, socket, id);
        let query = &pending.query;
        send(ctx, Peer::Datagram(socket), SocketAddrV4::new(upstream, PORT), |buf| dns::write_query(buf, id, query));
        self.wheel.set(key.slot(), ctx.now + TIMEOUT);
    }

    /// Tells a client that there is no answer.
    fn fail(&mut self, ctx: &mut Ctx<'_>, key: Key<Pending>) {
        if let Some(pending) = self.take(ctx, key) {
            ctx.stats.count(Counter::DnsFailed);
            if let (Some(more), Some(question)) = (self.silent.allow(ctx.now), &pending.query.question) {
                let name = &question.name;
                log::warn!("dns: no upstream answered for {name} (check that the head can reach dns.upstream{more})");
            }
            say(ctx, pending.peer, pending.src, &pending.query, rcode::SERVFAIL);
        }
    }

    /// Forgets a question, and hangs up where it was called for.
    fn take(&mut self, ctx: &mut Ctx<'_>, key: Key<Pending>) -> Option<Pending> {
        self.wheel.cancel(key.slot());
        let pending = self.pending.remove(key)?;
        self.hang_up(ctx, pending.call);
        Some(pending)
    }

    fn hang_up(&mut self, ctx: &mut Ctx<'_>, call: Option<u8>) {
        let Some(place) = call.and_then(|call| self.calls.get_mut(usize::from(call))) else { return };
        match *place {
            Call::Asked(_) => *place = Call::Asked(None),
            Call::Open(_, conn) => {
                *place = Call::Ending(conn);
                ctx.out.put(Output::Close { conn, at_once: true });
            }
            Call::Free | Call::Ending(_) => {}
        }
    }

    /// A datagram has come to a socket.
    pub fn answered(&mut self, ctx: &mut Ctx<'_>, &Datagram { endpoint: socket, src, payload: bytes, .. }: &Datagram<'_>) {
        let response = dns::parse_response(bytes).filter(|_| src.port() == PORT);
        let found = response.as_ref().and_then(|response| {
            let to = |pending: &Pending| {
                let asked = (pending.socket, pending.id, pending.upstream) == (socket, response.id, *src.ip());
                asked && pending.call.is_none() && is_of(response, &pending.query)
            };
            self.pending.iter().find(|(_, pending)| to(pending)).map(|(key, pending)| (key, pending.peer, response.truncated))
        });
        match found {
            None => ctx.stats.count(Counter::DnsStray),
            Some((key, Peer::Conn(_), true)) => self.call(ctx, key),
            Some((key, ..)) => self.hand_on(ctx, key, bytes),
        }
    }

    /// Asks the same server by a connection. Without a place for one the question waits for its next try.
    fn call(&mut self, ctx: &mut Ctx<'_>, key: Key<Pending>) {
        let free = self.calls.iter().position(|call| *call == Call::Free);
        let (Some(call), Some(pending)) = (free, self.pending.get_mut(key)) else { return };
        let to = SocketAddrV4::new(pending.upstream, PORT);
        if ctx.out.put(Output::Connect { endpoint: ctx.endpoints.dial(), to, token: call as u64 }) {
            pending.call = Some(call as u8);
            self.calls[call] = Call::Asked(Some(key));
            self.wheel.set(key.slot(), ctx.now + TIMEOUT);
        }
    }

    /// What happens on a connection to a server.
    pub fn called(&mut self, ctx: &mut Ctx<'_>, stream: &Stream<'_>) {
        match stream.event {
            StreamEvent::Opened { token } => self.connected(ctx, stream.conn, token),
            StreamEvent::Bytes(bytes) => self.told(ctx, stream.conn, bytes),
            StreamEvent::Drained => {}
            StreamEvent::Closed => self.hung_up(stream.conn),
        }
    }

    /// A connection was given: the question goes out by it.
    fn connected(&mut self, ctx: &mut Ctx<'_>, conn: ConnId, token: u64) {
        let Some(place) = usize::try_from(token).ok().and_then(|call| self.calls.get_mut(call)) else { return };
        let Call::Asked(key) = *place else { return };
        match key.and_then(|key| Some((key, self.pending.get(key)?))) {
            Some((key, pending)) => {
                *place = Call::Open(key, conn);
                let (id, query) = (pending.id, &pending.query);
                ctx.out.write(conn, |buf| dns::write_query(buf, id, query));
            }
            None => {
                *place = Call::Ending(conn);
                ctx.out.put(Output::Close { conn, at_once: true });
            }
        }
    }

    /// A message has come from a server that was called.
    fn told(&mut self, ctx: &mut Ctx<'_>, conn: ConnId, bytes: &[u8]) {
        let open = self.calls.iter().find_map(|call| match call {
            Call::Open(key, own) if *own == conn => self.pending.get(*key).map(|pending| (*key, pending)),
            _ => None,
        });
        let response = dns::parse_response(bytes);
        let fits =
            |pending: &Pending| response.as_ref().is_some_and(|response| response.id == pending.id && is_of(response, &pending.query));
        match open.filter(|(_, pending)| fits(pending)) {
            Some((key, _)) => self.hand_on(ctx, key, bytes),
            None => ctx.stats.count(Counter::DnsStray),
        }
    }

    /// A connection to a server has gone. What it was for waits for its next try.
    fn hung_up(&mut self, conn: ConnId) {
        let own = |call: &&mut Call| matches!(**call, Call::Open(_, own) | Call::Ending(own) if own == conn);
        let Some(place) = self.calls.iter_mut().find(own) else { return };
        if let Call::Open(key, _) = std::mem::replace(place, Call::Free) {
            self.pending.get_mut(key).into_iter().for_each(|pending| pending.call = None);
        }
    }

    /// Gives an answer to whoever asked, under the id by which they asked.
    fn hand_on(&mut self, ctx: &mut Ctx<'_>, key: Key<Pending>, bytes: &[u8]) {
        let Some(pending) = self.take(ctx, key) else { return };
        let Pending { peer, src, query, .. } = pending;
        ctx.stats.count(Counter::DnsForwardedAnswer);
        let datagram = peer.is_by_udp();
        if datagram && bytes.len() > query.udp_limit() {
            let verdict = ResponseFlags { rcode: rcode::NOERROR, authoritative: false, recursive: true };
            send(ctx, peer, src, |buf| {
                let mut reply = ResponseBuilder::new(buf, limit(peer, &query), &query, verdict)?;
                reply.truncate();
                Some(reply.finish(None))
            });
            return;
        }
        send(ctx, peer, src, |buf| {
            let message = buf.get_mut(..bytes.len())?;
            message.copy_from_slice(bytes);
            dns::set_id(message, query.id);
            Some(bytes.len())
        });
    }

    /// A client's connection has gone: its questions wait for nobody.
    pub fn left(&mut self, ctx: &mut Ctx<'_>, peer: Peer) {
        for slot in 0..self.pending.capacity() {
            let key = self.pending.key_at(slot).filter(|key| self.pending.get(*key).is_some_and(|pending| pending.peer == peer));
            if let Some(key) = key {
                self.take(ctx, key);
            }
        }
    }

    /// Asks again, or gives up, where nobody has answered in time.
    pub fn expire(&mut self, ctx: &mut Ctx<'_>) {
        while ctx.out.has_room() {
            let Some(slot) = self.wheel.expire(ctx.now) else { break };
            let Some(key) = self.pending.key_at(slot) else { continue };
            let Some(pending) = self.pending.get_mut(key) else { continue };
            pending.tries += 1;
            let (tries, call) = (pending.tries, pending.call.take());
            self.hang_up(ctx, call);
            if tries < TRIES {
                ctx.stats.count(Counter::DnsRetried);
                self.ask(ctx, key);
            } else {
                self.fail(ctx, key);
            }
        }
    }
}

fn same(one: &Query, other: &Query) -> bool {
    one.question.as_ref().zip(other.question.as_ref()).is_some_and(|(one, other)| one.is(other))
}

fn is_of(response: &Response, query: &Query) -> bool {
    query.question.as_ref().is_some_and(|question| question.is(&response.question))
}
