//! Questions about others' names, handed on to the configured servers.
//!
//! Whoever asks is a *waiter*; equal questions by datagram wait together for one that is *asked*. The servers are asked in the order that
//! [`Upstreams`] gives: the next one at once when one says no (ICMP, SERVFAIL, REFUSED and the like), and after [`HEDGE`] when it says
//! nothing; what was said to nobody is said again each [`ROUND`]. Lines stay open meanwhile, so a slow answer counts as well. The first
//! good answer goes to all who wait; when every server has said no, the last such answer does; after [`LONGEST`] they hear that there is
//! none. A client with a connection whose answer is too long for a datagram gets it by a connection: one is *called* for, as soon as there
//! is a place. Nothing is kept: who wants a cache asks a resolver that forwards here.
//!
//! An answer counts when it comes on the line by which it was asked for, with the id and the question that were sent, letter by letter
//! (RFC 5452, 9; draft-vixie-dnsext-dns0x20): id and letters are drawn for each question from a keyed hash, the port is the kernel's choice.
//!
//! When the tables are half full nobody may have more than [`SHARE`] waiting, so that one machine with names that nobody answers keeps no
//! other one out.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use crate::base::log_limit::LogLimit;
use crate::base::machine::{ConnId, Stream, StreamEvent};
use crate::base::rng::mix;
use crate::base::slab::{Key, Slab};
use crate::base::time::Instant;
use crate::base::wheel::Wheel;
use crate::config::Config;
use crate::config::limits::DNS_UPSTREAMS_MAX as SERVERS;
use crate::engine::dns::Counter;
use crate::wire::dns::{self, Query, ResponseBuilder, ResponseFlags, rcode};

use super::super::Ctx;
use super::find::is_head;
use super::lines::{By, LineId, Lines, Owner};
use super::upstreams::{UpstreamOrder, Upstreams};
use super::{Peer, limit, say, send};

/// How long a server may be silent before the next one is asked as well.
const HEDGE: Duration = Duration::from_millis(300);
/// How long until all are asked again.
const ROUND: Duration = Duration::from_millis(1500);
/// How long a client waits: less than the five seconds of the C library.
const LONGEST: Duration = Duration::from_millis(4500);
/// Waiters of one question: with what else an answer puts out, fewer than a call may.
const TOGETHER: usize = 8;
/// Questions of one address that wait while a table is half full.
const SHARE: usize = 16;

/// Somebody who waits for an answer.
struct Waiter {
    peer: Peer,
    src: SocketAddrV4,
    query: Query,
    question: Key<UpstreamQuestion>,
}

/// How far it is with a server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Unasked,
    Asked(LineId),
    /// It has no answer.
    Declined,
    /// Nobody is there.
    Gone,
}

/// How a question is asked at the moment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Datagrams,
    /// Of this server, as soon as there is a place for a connection.
    CallWanted(usize),
    Call(usize, LineId),
}

/// A question that others are asked.
pub struct UpstreamQuestion {
    query: Query,
    order: UpstreamOrder,
    turns: [Turn; SERVERS],
    way: Way,
    id: u16,
    /// Which letters are of the other case.
    letters: u64,
    /// The number of the draw by which it began: its age.
    born: u64,
    until: Instant,
    waiters: usize,
    /// What the first server said that has no answer.
    said: Option<u16>,
}

impl UpstreamQuestion {
    fn server(&self, at: usize) -> Option<Ipv4Addr> {
        self.order.as_slice().get(at).copied()
    }

    fn next(&self) -> Option<usize> {
        (0..self.order.as_slice().len()).find(|at| self.turns.get(*at) == Some(&Turn::Unasked))
    }

    fn waits(&self) -> bool {
        self.turns.iter().any(|turn| matches!(turn, Turn::Asked(_)))
    }

    fn lines(&self) -> impl Iterator<Item = (usize, LineId)> {
        let turns = self.turns;
        turns.into_iter().enumerate().filter_map(|(at, turn)| if let Turn::Asked(line) = turn { Some((at, line)) } else { None })
    }
}

pub struct Forwarder {
    waiters: Slab<Waiter>,
    asked: Slab<UpstreamQuestion>,
    wheel: Wheel,
    lines: Lines,
    upstreams: Upstreams,
    seed: u64,
    drawn: u64,
    silent: LogLimit,
    crowded: LogLimit,
}

/// Whether somebody's questions are forwarded: the cluster's own, and the head's.
pub fn may(config: &Config, asker: Ipv4Addr) -> bool {
    !config.dns.upstream.is_empty() && (config.network_of(asker).is_some() || is_head(config, asker))
}

impl Forwarder {
    pub fn new(seed: u64, now: Instant) -> Forwarder {
        Forwarder {
            waiters: Slab::new(dns::WAITERS),
            asked: Slab::new(dns::PENDING),
            wheel: Wheel::new(dns::PENDING, now),
            lines: Lines::new(),
            upstreams: Upstreams::new(now),
            seed,
            drawn: 0,
            silent: LogLimit::default(),
            crowded: LogLimit::default(),
        }
    }

    pub fn len(&self) -> usize {
        self.waiters.len()
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
        let again = |other: &Waiter| (other.peer, other.src, other.query.id) == (peer, src, query.id) && same(&other.query, &query);
        if self.waiters.iter().any(|(_, other)| again(other)) {
            return ctx.stats.count(Counter::DnsRepeated);
        }
        if self.has_its_share(src) {
            ctx.stats.count(Counter::DnsShare);
            if let Some(more) = self.crowded.allow(ctx.now) {
                let who = src.ip();
                log::warn!("dns: {who} is answered SERVFAIL (it has {SHARE} questions waiting, and there is little room left{more})");
            }
            return say(ctx, peer, src, &query, rcode::SERVFAIL);
        }
        // An answer by a connection may be as large as all that a call may put out.
        let joined = if peer.is_by_udp() { self.equal(&query) } else { None };
        let begun = if joined.is_none() && !self.waiters.is_full() { self.begin(ctx, &query) } else { None };
        let waiter = joined.or(begun).map(|question| Waiter { peer, src, query: query.clone(), question });
        let Some(question) = waiter.and_then(|waiter| Some((waiter.question, self.waiters.insert(waiter)?))).map(|(key, _)| key) else {
            ctx.stats.count(Counter::DnsTableFull);
            return say(ctx, peer, src, &query, rcode::SERVFAIL);
        };
        ctx.stats.count(Counter::DnsForwarded);
        if let Some(asked) = self.asked.get_mut(question) {
            asked.waiters += 1;
        }
        if begun.is_some() {
            self.ask_first(ctx, question);
        }
    }

    fn has_its_share(&self, src: SocketAddrV4) -> bool {
        let crowded = 2 * self.waiters.len() >= self.waiters.capacity() || 2 * self.asked.len() >= self.asked.capacity();
        crowded && self.waiters.iter().filter(|(_, waiter)| waiter.src.ip() == src.ip()).count() >= SHARE
    }

    /// The question that may be waited for as well.
    fn equal(&self, query: &Query) -> Option<Key<UpstreamQuestion>> {
        let flags = |query: &Query| (query.checking_disabled, query.authentic, query.edns.map(|edns| edns.dnssec));
        let equal = |asked: &UpstreamQuestion| {
            let room = (1..TOGETHER).contains(&asked.waiters) && asked.way == Way::Datagrams;
            room && same(&asked.query, query) && flags(&asked.query) == flags(query)
        };
        self.asked.iter().find(|(_, asked)| equal(asked)).map(|(key, _)| key)
    }

    fn begin(&mut self, ctx: &Ctx<'_>, query: &Query) -> Option<Key<UpstreamQuestion>> {
        if self.asked.is_full() {
            return None;
        }
        let order = self.upstreams.order(&ctx.config.dns.upstream, ctx.now);
        let (drawn, letters) = (self.draw(), self.draw());
        self.asked.insert(UpstreamQuestion {
            query: query.clone(),
            order,
            turns: [Turn::Unasked; SERVERS],
            way: Way::Datagrams,
            id: drawn as u16,
            letters,
            born: self.drawn,
            until: ctx.now + LONGEST,
            waiters: 0,
            said: None,
        })
    }

    fn ask_first(&mut self, ctx: &mut Ctx<'_>, key: Key<UpstreamQuestion>) {
        let both = self.asked.get(key).is_some_and(|asked| asked.order.both);
        if !self.ask_next(ctx, key) {
            self.fail(ctx, key);
        } else if both {
            self.ask_next(ctx, key);
        }
    }

    /// Asks the next server that was not asked yet. False: there is none, or no line to it.
    fn ask_next(&mut self, ctx: &mut Ctx<'_>, key: Key<UpstreamQuestion>) -> bool {
        let Some(asked) = self.asked.get_mut(key) else { return false };
        let Some((server, to)) = asked.next().and_then(|at| Some((at, asked.server(at)?))) else { return false };
        let Some(line) = self.lines.dial(ctx, By::Datagrams, to, Owner { question: key, server }) else { return false };
        if let Some(turn) = asked.turns.get_mut(server) {
            *turn = Turn::Asked(line);
        }
        let wait = if asked.next().is_some() { HEDGE } else { ROUND };
        self.wheel.set(key.slot(), (ctx.now + wait).min(asked.until));
        true
    }

    /// Writes a question to a line.
    fn write(&self, ctx: &mut Ctx<'_>, owner: Owner, conn: ConnId) {
        let Some(asked) = self.asked.get(owner.question) else { return };
        let letters = self.letters(asked, owner.server);
        ctx.out.write(conn, |buf| {
            let len = dns::write_query(buf, asked.id, &asked.query)?;
            dns::mix_case(buf, letters);
            Some(len)
        });
    }

    fn letters(&self, asked: &UpstreamQuestion, server: usize) -> u64 {
        let keeps = asked.server(server).is_some_and(|server| self.upstreams.keeps_case(server));
        if keeps { asked.letters } else { 0 }
    }

    /// What happens on a line to a server.
    pub fn called(&mut self, ctx: &mut Ctx<'_>, stream: &Stream<'_>) {
        match stream.event {
            StreamEvent::Opened { token } => {
                if let Some(owner) = self.lines.opened(ctx, stream.conn, token) {
                    self.write(ctx, owner, stream.conn);
                }
            }
            StreamEvent::Bytes(bytes) => self.told(ctx, stream.conn, bytes),
            StreamEvent::Drained => {}
            StreamEvent::Closed => {
                let (owner, freed) = self.lines.closed(stream.conn);
                if let Some(owner) = owner {
                    self.decline(ctx, owner, Turn::Gone, None);
                }
                if freed {
                    self.call_next(ctx);
                }
            }
        }
    }

    /// A message has come from a server.
    fn told(&mut self, ctx: &mut Ctx<'_>, conn: ConnId, bytes: &[u8]) {
        let owner = self.lines.owner(conn);
        let found = owner.and_then(|owner| Some((owner, self.asked.get(owner.question)?)));
        let response = dns::parse_response(bytes);
        let (Some((owner, asked)), Some(response)) =
            (found, response.filter(|response| found.is_some_and(|(_, asked)| asked.id == response.id)))
        else {
            return ctx.stats.count(Counter::DnsStray);
        };
        let declined = matches!(response.rcode, rcode::FORMERR | rcode::SERVFAIL | rcode::NOTIMP | rcode::REFUSED);
        let Some((asked_for, told_for)) = asked.query.question.as_ref().zip(response.question.as_ref()) else {
            // Some servers say no without the question.
            return match declined {
                true => self.decline(ctx, owner, Turn::Declined, Some((response.rcode, None))),
                false => ctx.stats.count(Counter::DnsStray),
            };
        };
        if !told_for.is(asked_for) {
            return ctx.stats.count(Counter::DnsStray);
        }
        if !dns::has_case(bytes, &asked_for.name, self.letters(asked, owner.server)) {
            return self.other_letters(ctx, owner, conn);
        }
        let stream = matches!(asked.way, Way::Call(..));
        match () {
            () if declined => self.decline(ctx, owner, Turn::Declined, Some((response.rcode, Some(bytes)))),
            () if response.truncated && !stream && self.is_by_stream(owner.question) => self.call(ctx, owner),
            () => self.hand_on(ctx, owner, bytes),
        }
    }

    /// A server does not keep the case of letters: it is asked again as the client did, now and later.
    fn other_letters(&mut self, ctx: &mut Ctx<'_>, owner: Owner, conn: ConnId) {
        ctx.stats.count(Counter::DnsStray);
        let server = self.asked.get(owner.question).and_then(|asked| asked.server(owner.server));
        if let Some(server) = server.filter(|server| self.upstreams.keeps_case(*server)) {
            self.upstreams.changes_case(server);
            self.write(ctx, owner, conn);
        }
    }

    fn is_by_stream(&self, key: Key<UpstreamQuestion>) -> bool {
        self.waiters.iter().any(|(_, waiter)| waiter.question == key && !waiter.peer.is_by_udp())
    }

    /// A server has no answer: the next one is asked. When all have none that is the answer.
    fn decline(&mut self, ctx: &mut Ctx<'_>, owner: Owner, how: Turn, said: Option<(u16, Option<&[u8]>)>) {
        let Owner { question: key, server } = owner;
        let Some(asked) = self.asked.get_mut(key) else { return };
        if let Way::Call(of, line) = asked.way {
            self.lines.hang_up(ctx, line);
            asked.way = if of == server { Way::Datagrams } else { asked.way };
        }
        if let Some(turn) = asked.turns.get_mut(server) {
            if let Turn::Asked(line) = std::mem::replace(turn, how) {
                self.lines.hang_up(ctx, line);
            }
        }
        asked.said = asked.said.or(said.map(|(code, _)| code));
        if self.ask_next(ctx, key) {
            return ctx.stats.count(Counter::DnsRetried);
        }
        match (self.asked.get(key).is_some_and(UpstreamQuestion::waits), said) {
            (true, _) => {}
            (false, Some((_, Some(bytes)))) => self.hand_on(ctx, owner, bytes),
            (false, _) => self.fail(ctx, key),
        }
    }

    /// The answer of a server is too long for a datagram: it alone is asked from now on, by a connection.
    fn call(&mut self, ctx: &mut Ctx<'_>, owner: Owner) {
        let Some(asked) = self.asked.get_mut(owner.question) else { return };
        for (_, line) in asked.lines() {
            self.lines.hang_up(ctx, line);
        }
        for turn in asked.turns.iter_mut().filter(|turn| matches!(turn, Turn::Asked(_))) {
            *turn = Turn::Gone;
        }
        asked.way = Way::CallWanted(owner.server);
        self.wheel.set(owner.question.slot(), asked.until);
        self.call_next(ctx);
    }

    /// Gives a free place for a connection to the question that has waited for one longest.
    fn call_next(&mut self, ctx: &mut Ctx<'_>) {
        let wanted = |asked: &UpstreamQuestion| matches!(asked.way, Way::CallWanted(_));
        let Some(key) = self.asked.iter().filter(|(_, asked)| wanted(asked)).min_by_key(|(_, asked)| asked.born).map(|(key, _)| key) else {
            return;
        };
        let Some(asked) = self.asked.get_mut(key) else { return };
        let Way::CallWanted(server) = asked.way else { return };
        let Some(to) = asked.server(server) else { return };
        if let Some(line) = self.lines.dial(ctx, By::Stream, to, Owner { question: key, server }) {
            asked.way = Way::Call(server, line);
            self.wheel.set(key.slot(), ctx.now + ROUND);
        }
    }

    /// Gives an answer to all who wait for it, each under the id and in the letters by which it asked.
    fn hand_on(&mut self, ctx: &mut Ctx<'_>, owner: Owner, bytes: &[u8]) {
        let Some(asked) = self.take(ctx, owner.question) else { return };
        self.note(ctx, &asked, owner.server);
        while let Some(waiter) = self.next_waiter(owner.question) {
            ctx.stats.count(Counter::DnsForwardedAnswer);
            let Waiter { peer, src, query, .. } = waiter;
            if peer.is_by_udp() && bytes.len() > query.udp_limit() {
                let verdict = ResponseFlags { rcode: rcode::NOERROR, authoritative: false, recursive: true };
                send(ctx, peer, src, |buf| {
                    let mut reply = ResponseBuilder::new(buf, limit(peer, &query), &query, verdict)?;
                    reply.truncate();
                    Some(reply.finish(None))
                });
                continue;
            }
            send(ctx, peer, src, |buf| {
                let message = buf.get_mut(..bytes.len())?;
                message.copy_from_slice(bytes);
                dns::make_forwarded(message, &query);
                Some(bytes.len())
            });
        }
    }

    /// Remembers who answers, and says so when that is another one than before.
    fn note(&mut self, ctx: &mut Ctx<'_>, asked: &UpstreamQuestion, server: usize) {
        let first = asked.order.as_slice().iter().position(|server| self.upstreams.is_first(*server));
        let silent = first.and_then(|at| asked.turns.get(at)).is_some_and(|turn| matches!(turn, Turn::Asked(_) | Turn::Gone));
        let answered = asked.turns.get(server).is_some_and(|turn| *turn != Turn::Declined);
        let Some(address) = asked.server(server).filter(|_| answered) else { return };
        if self.upstreams.answered(ctx.now, address, silent && first != Some(server)) {
            log::info!(
                "dns: upstream {address} is asked first from now on (it answers; those before it in dns.upstream are silent, or were)"
            );
        }
    }

    /// Tells all who wait that there is no answer.
    fn fail(&mut self, ctx: &mut Ctx<'_>, key: Key<UpstreamQuestion>) {
        let Some(asked) = self.take(ctx, key) else { return };
        if let (None, Some(question), true) = (asked.said, &asked.query.question, asked.waiters > 0) {
            if let Some(more) = self.silent.allow(ctx.now) {
                let name = &question.name;
                log::warn!("dns: no upstream answered for {name} (check that the head can reach dns.upstream{more})");
            }
        }
        while let Some(Waiter { peer, src, query, .. }) = self.next_waiter(key) {
            ctx.stats.count(Counter::DnsFailed);
            say(ctx, peer, src, &query, asked.said.unwrap_or(rcode::SERVFAIL));
        }
    }

    /// Forgets a question, and hangs up where it was asked.
    fn take(&mut self, ctx: &mut Ctx<'_>, key: Key<UpstreamQuestion>) -> Option<UpstreamQuestion> {
        self.wheel.cancel(key.slot());
        let asked = self.asked.remove(key)?;
        for (_, line) in asked.lines() {
            self.lines.hang_up(ctx, line);
        }
        if let Way::Call(_, line) = asked.way {
            self.lines.hang_up(ctx, line);
        }
        Some(asked)
    }

    fn next_waiter(&mut self, question: Key<UpstreamQuestion>) -> Option<Waiter> {
        let key = self.waiters.iter().find(|(_, waiter)| waiter.question == question).map(|(key, _)| key)?;
        self.waiters.remove(key)
    }

    /// A client's connection has gone: its questions wait for nobody, and are forgotten when their time comes, which is now.
    pub fn left(&mut self, ctx: &mut Ctx<'_>, peer: Peer) {
        for slot in 0..self.waiters.capacity() {
            let key = self.waiters.key_at(slot).filter(|key| self.waiters.get(*key).is_some_and(|waiter| waiter.peer == peer));
            let Some(Waiter { question, .. }) = key.and_then(|key| self.waiters.remove(key)) else { continue };
            let Some(asked) = self.asked.get_mut(question) else { continue };
            asked.waiters -= 1;
            if asked.waiters == 0 {
                self.wheel.set(question.slot(), ctx.now);
            }
        }
    }

    /// Asks the next one, or again, or gives up, where nobody has answered in time.
    pub fn expire(&mut self, ctx: &mut Ctx<'_>) {
        while ctx.out.has_room() {
            let Some(slot) = self.wheel.expire(ctx.now) else { break };
            let Some(key) = self.asked.key_at(slot) else { continue };
            let Some(asked) = self.asked.get(key) else { continue };
            match asked.way {
                _ if asked.waiters == 0 || asked.until <= ctx.now => self.fail(ctx, key),
                Way::CallWanted(server) | Way::Call(server, _) => self.decline(ctx, Owner { question: key, server }, Turn::Gone, None),
                Way::Datagrams => self.go_on(ctx, key),
            }
        }
    }

    /// Nobody has answered yet: the next one is asked as well. When all were, and one has no answer, so be it; else they are asked again.
    fn go_on(&mut self, ctx: &mut Ctx<'_>, key: Key<UpstreamQuestion>) {
        if self.ask_next(ctx, key) {
            return ctx.stats.count(Counter::DnsRetried);
        }
        let Some(asked) = self.asked.get(key).filter(|asked| asked.said.is_none()) else { return self.fail(ctx, key) };
        let until = asked.until;
        for (server, line) in asked.lines() {
            if let Some(conn) = self.lines.conn(line) {
                ctx.stats.count(Counter::DnsRetried);
                self.write(ctx, Owner { question: key, server }, conn);
            }
        }
        self.wheel.set(key.slot(), (ctx.now + ROUND).min(until));
    }
}

fn same(one: &Query, other: &Query) -> bool {
    one.question.as_ref().zip(other.question.as_ref()).is_some_and(|(one, other)| one.is(other))
}
