//! The DHCP client of a node that has booted: what `muster-in` runs, and whoever simulates nodes that pass muster (RFC 2131, 4.4).
//!
//! The first packet wakes the card, the second the switch port, the third gets through: so four DISCOVERs leave in the first second, a
//! quarter of it apart, then one a second for as long as nobody answers, and REQUESTs likewise. Nothing ever backs off. Each carries the
//! node's [`Report`].
//!
//! | state | what ends it |
//! |---|---|
//! | `Selecting` | the first sound offer: `Requesting` |
//! | `Requesting` | ACK: `Probing`; NAK, or eight REQUESTs in vain: `Selecting` again |
//! | `Probing` | nobody claims the address by ARP within 0.2 s: `Bound`; somebody does: DECLINE, `Pausing` |
//! | `Bound` | T1: `Renewing`, with a REQUEST to the server that gave the lease |
//! | `Renewing` | ACK: `Bound`; NAK: `Selecting`; T2: `Rebinding`, with a REQUEST to everybody |
//! | `Rebinding` | ACK: `Bound`; NAK, the lease's end: `Selecting` |
//! | `Pausing` | a second since the last beginning: `Selecting`. So nobody is asked to begin faster than that |
//!
//! [`Client`] knows one machine and sends nothing itself; [`Passing`] makes a [`Machine`] of it, on link 0. What is not sound is dropped
//! and counted. IP over InfiniBand, INIT-REBOOT, INFORM and FORCERENEW are not spoken.

mod lease;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::endpoint::{Endpoint, Service, Transport};
use crate::base::machine::{Input, Machine};
use crate::base::outbox::{Outbox, Output, Via};
use crate::base::rng::Rng;
use crate::base::time::{Instant, Now};
use crate::wire::dhcp::{Builder, Header, Message, MessageType, Scratch, code, parse};
use crate::wire::ether::{Arp, ArpOp, emit_arp};
use crate::wire::report::{self, Report};

pub use lease::{Addresses, Lease};

/// The option that carries the plan is the one behind the report's.
const fn names_option(report: u8) -> u8 {
    report.wrapping_add(1)
}

/// What it asks for, besides the plan: mask, routers, DNS, host name, domain, NTP, lease time, server.
const PARAMETERS: &[u8] =
    &[code::SUBNET_MASK, code::ROUTER, code::DNS, code::HOST_NAME, code::DOMAIN, code::NTP, code::LEASE_TIME, code::SERVER_ID];
/// Bytes that a message of ours may need, IP and UDP headers not counted.
const MESSAGE_MAX: usize = 576;
/// Option 57: bytes of an IP datagram that fits every Ethernet frame.
const DATAGRAM_MAX: u16 = 1500;

/// Between the messages of the first second.
const QUICK: Duration = Duration::from_millis(250);
const QUICK_COUNT: u32 = 4;
/// Between all later ones, and between one beginning and the next.
const STEADY: Duration = Duration::from_secs(1);
/// REQUESTs that may stay without an answer. Four of them take 1.75 s; a head that has restarted in between wants a DISCOVER.
const REQUESTS_MAX: u32 = 8;
/// RFC 5227 wants seconds; the server has probed the address as well.
const PROBES: u32 = 2;
const PROBE_WAIT: Duration = Duration::from_millis(100);
/// RFC 2131, 4.4.5: a renewal is not repeated faster than this, but where a lease is short by an eighth of it.
const RENEWAL_WAIT: Duration = Duration::from_secs(60);

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The time is not known yet.
    Off,
    Selecting,
    Requesting,
    Probing,
    Bound,
    Renewing,
    Rebinding,
    Pausing,
}

/// What a client is made from.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// The interface's own address, which is `chaddr`.
    pub mac: Mac,
    pub report: Report,
    /// The option that carries the report; 224 to 254 are site-specific.
    pub option: u8,
    /// Ask by ARP whether a new address is in use.
    pub probe: bool,
}

/// What is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Send {
    Message(MessageType),
    /// An ARP probe (RFC 5227): a request in the name of 0.0.0.0.
    Probe(Ipv4Addr),
    /// An ARP announcement (RFC 5227, 2.3): who still sends to an earlier machine of this address learns better.
    Announce(Ipv4Addr),
}

/// What whoever applies leases should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The lease is ours from now on: after a first exchange, or again after a renewal.
    Bound { renewed: bool },
    /// A server refused the address that was asked for. One that was held before is held no more.
    Denied,
    /// Somebody else has the address; it was declined, and another is requested.
    InUse { address: Ipv4Addr, by: Mac },
    /// The lease has ended, and nobody renewed it.
    Expired,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    pub send: Option<Send>,
    pub event: Option<Event>,
    /// What was heard is of no use.
    pub ignored: bool,
}

impl Step {
    const IGNORED: Step = Step { send: None, event: None, ignored: true };

    fn send(send: Send) -> Step {
        Step { send: Some(send), ..Step::default() }
    }

    fn tell(self, event: Event) -> Step {
        Step { event: Some(event), ..self }
    }
}

/// What a client has done and heard: what a time-out is explained with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub discovers: u32,
    pub requests: u32,
    pub offers: u32,
    pub naks: u32,
    pub declines: u32,
    /// Messages to port 68 that were not for this client, or of no use to it.
    pub ignored: u32,
    /// Those that are no DHCP.
    pub malformed: u32,
}

/// What a message means (RFC 2131, figure 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Nothing,
    Offered,
    Given,
    Denied,
}

fn meaning(state: State, kind: Option<MessageType>, from_chosen: bool) -> Meaning {
    use MessageType::{Ack, Nak, Offer};
    match (state, kind, from_chosen) {
        (State::Selecting, Some(Offer), _) => Meaning::Offered,
        (State::Requesting, Some(Ack), true) => Meaning::Given,
        (State::Requesting, Some(Nak), true) => Meaning::Denied,
        (State::Renewing | State::Rebinding, Some(Ack), _) => Meaning::Given,
        (State::Renewing | State::Rebinding, Some(Nak), _) => Meaning::Denied,
        _ => Meaning::Nothing,
    }
}

/// How long the next message is waited with, when so many have been sent.
fn wait(sent: u32) -> Duration {
    if sent < QUICK_COUNT { QUICK } else { STEADY }
}

pub struct Client {
    setup: Setup,
    report: ([u8; report::LEN_MAX], usize),
    rng: Rng,
    state: State,
    xid: u32,
    /// Messages, or probes, of this state.
    sent: u32,
    /// When this round began, and when its first REQUEST left: from then on the lease counts.
    begun: Option<Instant>,
    requested: Instant,
    bound: Instant,
    wake: Option<Instant>,
    /// The offer that was chosen, then the lease.
    lease: Option<Lease>,
    counts: Counts,
}

impl Client {
    /// Begins when it first learns the time. The seed makes its transaction ids: two machines must have two seeds.
    pub fn new(setup: Setup, seed: u64) -> Client {
        let mut report = [0; report::LEN_MAX];
        let len = setup.report.write(&mut report).unwrap_or(0);
        Client {
            setup,
            report: (report, len),
            rng: Rng::new(seed),
            state: State::Off,
            xid: 0,
            sent: 0,
            begun: None,
            requested: Instant::ZERO,
            bound: Instant::ZERO,
            wake: Some(Instant::ZERO),
            lease: None,
            counts: Counts::default(),
        }
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn xid(&self) -> u32 {
        self.xid
    }

    /// The lease that is held, or that was offered.
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// When [`expire`](Client::expire) is due, if ever.
    pub fn wake(&self) -> Option<Instant> {
        self.wake
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Begins from nothing, with a DISCOVER: at once, or a second after the last beginning.
    pub fn start(&mut self, now: Instant) -> Step {
        self.lease = None;
        self.sent = 0;
        let earliest = self.begun.map_or(now, |begun| begun + STEADY);
        if now < earliest {
            (self.state, self.wake) = (State::Pausing, Some(earliest));
            return Step::default();
        }
        (self.state, self.begun, self.xid) = (State::Selecting, Some(now), self.rng.u64() as u32);
        self.repeat(now, MessageType::Discover)
    }

    fn repeat(&mut self, now: Instant, kind: MessageType) -> Step {
        self.sent += 1;
        self.wake = Some(now + wait(self.sent));
        match kind {
            MessageType::Discover => self.counts.discovers += 1,
            _ => self.counts.requests += 1,
        }
        Step::send(Send::Message(kind))
    }

    /// The wait is over.
    pub fn expire(&mut self, now: Instant) -> Step {
        if self.wake.is_none_or(|wake| now < wake) {
            return Step::default();
        }
        match self.state {
            State::Off | State::Pausing => self.start(now),
            State::Selecting => self.repeat(now, MessageType::Discover),
            State::Requesting if self.sent >= REQUESTS_MAX => self.start(now),
            State::Requesting => self.repeat(now, MessageType::Request),
            State::Probing if self.sent >= PROBES => self.bind(false),
            State::Probing => self.probe(now),
            State::Bound | State::Renewing | State::Rebinding => self.renew(now),
        }
    }

    /// A message that came to port 68, and the hardware address of who sent it.
    pub fn receive(&mut self, now: Instant, message: &Message<'_>, from: Option<Mac>) -> Step {
        let step = self.judge(now, message, from);
        self.counts.ignored += u32::from(step.ignored);
        step
    }

    fn read(&self, message: &Message<'_>, from: Option<Mac>) -> Option<Lease> {
        Lease::read(message, from, names_option(self.setup.option))
    }

    fn judge(&mut self, now: Instant, message: &Message<'_>, from: Option<Mac>) -> Step {
        let Header { op, htype, hlen, xid, chaddr, .. } = message.header;
        let ours = (op, htype, hlen) == (2, 1, 6) && xid == self.xid && chaddr.starts_with(&self.setup.mac.0);
        if !ours {
            return Step::IGNORED;
        }
        let from_chosen = self.lease.is_some_and(|lease| message.server_id() == Some(lease.server));
        match meaning(self.state, message.message_type(), from_chosen) {
            Meaning::Nothing => Step::IGNORED,
            Meaning::Offered => self.read(message, from).map_or(Step::IGNORED, |offer| self.request(now, offer)),
            Meaning::Given => self.read(message, from).and_then(|lease| self.given(now, lease)).unwrap_or(Step::IGNORED),
            Meaning::Denied => {
                self.counts.naks += 1;
                self.start(now).tell(Event::Denied)
            }
        }
    }

    fn request(&mut self, now: Instant, offer: Lease) -> Step {
        self.counts.offers += 1;
        (self.state, self.lease, self.requested, self.sent) = (State::Requesting, Some(offer), now, 0);
        self.repeat(now, MessageType::Request)
    }

    fn given(&mut self, now: Instant, lease: Lease) -> Option<Step> {
        self.lease.filter(|held| held.address == lease.address)?;
        let renewed = self.state != State::Requesting;
        self.lease = Some(lease);
        if renewed || !self.setup.probe {
            return Some(self.bind(renewed));
        }
        (self.state, self.sent) = (State::Probing, 0);
        Some(self.probe(now))
    }

    fn probe(&mut self, now: Instant) -> Step {
        self.sent += 1;
        self.wake = Some(now + PROBE_WAIT);
        self.lease.map_or(Step::default(), |lease| Step::send(Send::Probe(lease.address)))
    }

    fn bind(&mut self, renewed: bool) -> Step {
        (self.state, self.bound, self.sent) = (State::Bound, self.requested, 0);
        self.wake = self.times().map(|(t1, ..)| t1);
        let announced = self.lease.filter(|_| !renewed).map(|lease| Send::Announce(lease.address));
        Step { send: announced, event: Some(Event::Bound { renewed }), ignored: false }
    }

    /// Somebody claims an address by ARP.
    pub fn claimed(&mut self, address: Ipv4Addr, by: Mac) -> Step {
        let ours = self.state == State::Probing && by != self.setup.mac && self.lease.is_some_and(|lease| lease.address == address);
        if !ours {
            return Step::default();
        }
        self.counts.declines += 1;
        // The lease stays until the DECLINE is written.
        (self.state, self.wake) = (State::Pausing, self.begun.map(|begun| begun + STEADY));
        Step::send(Send::Message(MessageType::Decline)).tell(Event::InUse { address, by })
    }

    /// T1, T2 and the lease's end; None for a lease that never ends.
    fn times(&self) -> Option<(Instant, Instant, Instant)> {
        let lease = self.lease.filter(|lease| lease.seconds != u32::MAX)?;
        let (t1, t2) = lease.renewal();
        Some((self.bound + t1, self.bound + t2, self.bound + Duration::from_secs(lease.seconds.into())))
    }

    fn renew(&mut self, now: Instant) -> Step {
        let Some((t1, t2, end)) = self.times() else {
            self.wake = None;
            return Step::default();
        };
        if now >= end {
            return self.start(now).tell(Event::Expired);
        }
        if now < t1 {
            self.wake = Some(t1);
            return Step::default();
        }
        if self.state == State::Bound {
            (self.xid, self.requested) = (self.rng.u64() as u32, now);
        }
        let until = if now < t2 { t2 } else { end };
        self.state = if now < t2 { State::Renewing } else { State::Rebinding };
        // Half of what is left, but no less than a minute or an eighth of a short lease.
        let least = RENEWAL_WAIT.min(end.since(self.bound) / 8).max(STEADY);
        self.wake = Some((now + (until.since(now) / 2).max(least)).min(until));
        self.counts.requests += 1;
        Step::send(Send::Message(MessageType::Request))
    }

    /// From where, to where and how a message goes.
    fn route(&self) -> (SocketAddrV4, SocketAddrV4, Via) {
        let held = self.lease.filter(|_| matches!(self.state, State::Renewing | State::Rebinding));
        let from = SocketAddrV4::new(held.map_or(Ipv4Addr::UNSPECIFIED, |lease| lease.address), CLIENT_PORT);
        let server = held.filter(|_| self.state == State::Renewing).and_then(|lease| lease.from.map(|mac| (lease.server, mac)));
        match server {
            Some((server, mac)) => (from, SocketAddrV4::new(server, SERVER_PORT), Via::Mac(mac)),
            None => (from, SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT), Via::Broadcast),
        }
    }

    /// Writes a message (RFC 2131, table 5); gives its length. None when it does not fit `buf`.
    pub fn write(&self, buf: &mut [u8], kind: MessageType, now: Instant) -> Option<usize> {
        let renewing = matches!(self.state, State::Renewing | State::Rebinding);
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&self.setup.mac.0);
        let secs = self.begun.map_or(0, |begun| now.since(begun).as_secs());
        let header = Header {
            xid: self.xid,
            secs: if renewing || kind == MessageType::Decline { 0 } else { secs.min(u64::from(u16::MAX)) as u16 },
            ciaddr: self.lease.filter(|_| renewing).map_or(Ipv4Addr::UNSPECIFIED, |lease| lease.address),
            chaddr,
            ..Header::default()
        };
        let mut builder = Builder::new(buf, &header, MESSAGE_MAX)?;
        builder.message_type(kind);
        if let Some(lease) = self.lease.filter(|_| kind != MessageType::Discover && !renewing) {
            builder.ip(code::REQUESTED_IP, lease.address);
            builder.ip(code::SERVER_ID, lease.server);
        }
        if kind != MessageType::Decline {
            let mut parameters = [0; PARAMETERS.len() + 1];
            parameters.iter_mut().zip(PARAMETERS.iter().chain([&names_option(self.setup.option)])).for_each(|(to, from)| *to = *from);
            builder.option(code::PARAMETER_LIST, &parameters);
            builder.option(code::MAX_MESSAGE_SIZE, &DATAGRAM_MAX.to_be_bytes());
            let (bytes, len) = &self.report;
            builder.option(self.setup.option, bytes.get(..*len).filter(|bytes| !bytes.is_empty())?);
        }
        Some(builder.finish(None))
    }
}

/// One client as a machine on link 0.
pub struct Passing {
    client: Client,
    scratch: Scratch,
    event: Option<Event>,
}

impl Passing {
    pub fn new(setup: Setup, seed: u64) -> Passing {
        Passing { client: Client::new(setup, seed), scratch: Scratch::default(), event: None }
    }

    /// What its world is to open.
    pub fn endpoints() -> [Endpoint; 1] {
        let (service, address) = (Service { id: 0, name: "dhcp client" }, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT));
        [Endpoint { service, transport: Transport::Broadcast, link: Some(0), address, required: false, remedy: "" }]
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The last thing that happened, once.
    pub fn take_event(&mut self) -> Option<Event> {
        self.event.take()
    }

    fn act(&mut self, now: Now, step: Step, out: &mut Outbox) {
        match step.send {
            Some(Send::Message(kind)) => {
                let (client, (from, to, via)) = (&self.client, self.client.route());
                out.datagram(0, from, to, via, |buf| client.write(buf, kind, now.at));
            }
            Some(Send::Probe(ip)) => drop(out.put(Output::Probe { link: 0, ip })),
            Some(Send::Announce(ip)) => {
                let mac = self.client.setup.mac;
                let arp = Arp { operation: ArpOp::Request, sender_mac: mac, sender_ip: ip, target_mac: Mac::ZERO, target_ip: ip };
                out.frame(0, |buf| emit_arp(buf, &arp));
            }
            None => {}
        }
        self.event = step.event.or(self.event);
    }
}

impl Machine for Passing {
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Outbox) {
        let step = match input {
            Input::Datagram(datagram) if datagram.dst.port() == CLIENT_PORT => match parse(datagram.payload, &mut self.scratch) {
                Ok(message) => self.client.receive(now.at, &message, datagram.mac),
                Err(_) => {
                    self.client.counts.malformed += 1;
                    return;
                }
            },
            Input::Arp { mac, sender, .. } => self.client.claimed(sender, mac),
            _ => return,
        };
        self.act(now, step, out);
    }

    fn expire(&mut self, now: Now, out: &mut Outbox) {
        let step = self.client.expire(now.at);
        self.act(now, step, out);
    }

    fn deadline(&self) -> Option<Instant> {
        self.client.wake()
    }
}

#[cfg(test)]
mod tests;
