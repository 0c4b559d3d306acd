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
//! [`PassingClient`] knows one machine and sends nothing itself; [`PassingMachine`] makes a [`Machine`] of it, on link 0. What is not sound is dropped
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
use crate::wire::dhcp::{Header, Message, MessageBuilder, MessageType, Scratch, code, parse};
use crate::wire::ether::{Arp, ArpOp, emit_arp};
use crate::wire::report::{self, Report};

pub use lease::{Addresses, PassingLease};

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

/// The states of RFC 2131, figure 5, and those of a client that probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassingState {
    /// The time is not known yet.
    Off,
    /// DISCOVERs are sent, offers awaited.
    Selecting,
    /// An offer was chosen; the server's word is awaited.
    Requesting,
    /// The address was given; ARP asks whether somebody uses it.
    Probing,
    /// The lease is ours.
    Bound,
    /// T1 has passed: the server is asked to renew.
    Renewing,
    /// T2 has passed: any server is asked to renew.
    Rebinding,
    /// A moment after a failure, before all begins again.
    Pausing,
}

/// What a client is made from.
#[derive(Clone, Copy, Debug)]
pub struct PassingSetup {
    /// The interface's own address, which is `chaddr`.
    pub mac: Mac,
    /// What this machine says of itself.
    pub report: Report,
    /// The option that carries the report; 224 to 254 are site-specific.
    pub option: u8,
    /// Ask by ARP whether a new address is in use.
    pub probe: bool,
}

/// What is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassingSend {
    /// A DHCP message of this kind.
    Message(MessageType),
    /// An ARP probe (RFC 5227): a request in the name of 0.0.0.0.
    Probe(Ipv4Addr),
    /// An ARP announcement (RFC 5227, 2.3): who still sends to an earlier machine of this address learns better.
    Announce(Ipv4Addr),
}

/// What whoever applies leases should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassingEvent {
    /// The lease is ours from now on: after a first exchange, or again after a renewal.
    Bound {
        /// Whether the address is the one that was held before.
        renewed: bool,
    },
    /// A server refused the address that was asked for. One that was held before is held no more.
    Denied,
    /// Somebody else has the address; it was declined, and another is requested.
    InUse {
        /// The address that was offered.
        address: Ipv4Addr,
        /// Who uses it.
        by: Mac,
    },
    /// The lease has ended, and nobody renewed it.
    Expired,
}

/// What a client wants after an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassingStep {
    /// What to send.
    pub send: Option<PassingSend>,
    /// What happened.
    pub event: Option<PassingEvent>,
    /// What was heard is of no use.
    pub ignored: bool,
}

impl PassingStep {
    const IGNORED: PassingStep = PassingStep { send: None, event: None, ignored: true };

    fn send(send: PassingSend) -> PassingStep {
        PassingStep { send: Some(send), ..PassingStep::default() }
    }

    fn tell(self, event: PassingEvent) -> PassingStep {
        PassingStep { event: Some(event), ..self }
    }
}

/// What a client has done and heard: what a time-out is explained with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PassingCounts {
    /// DISCOVERs sent.
    pub discovers: u32,
    /// REQUESTs sent.
    pub requests: u32,
    /// OFFERs received.
    pub offers: u32,
    /// NAKs received.
    pub naks: u32,
    /// Addresses that were in use.
    pub declines: u32,
    /// Messages to port 68 that were not for this client, or of no use to it.
    pub ignored: u32,
    /// Those that are no DHCP.
    pub malformed: u32,
}

/// What a message means (RFC 2131, figure 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PassingMeaning {
    Nothing,
    Offered,
    Given,
    Denied,
}

fn meaning(state: PassingState, kind: Option<MessageType>, from_chosen: bool) -> PassingMeaning {
    use MessageType::{Ack, Nak, Offer};
    match (state, kind, from_chosen) {
        (PassingState::Selecting, Some(Offer), _) => PassingMeaning::Offered,
        (PassingState::Requesting, Some(Ack), true) => PassingMeaning::Given,
        (PassingState::Requesting, Some(Nak), true) => PassingMeaning::Denied,
        (PassingState::Renewing | PassingState::Rebinding, Some(Ack), _) => PassingMeaning::Given,
        (PassingState::Renewing | PassingState::Rebinding, Some(Nak), _) => PassingMeaning::Denied,
        _ => PassingMeaning::Nothing,
    }
}

/// How long the next message is waited with, when so many have been sent.
fn wait(sent: u32) -> Duration {
    if sent < QUICK_COUNT { QUICK } else { STEADY }
}

/// A DHCP client that reports, as a pure state machine.
pub struct PassingClient {
    setup: PassingSetup,
    report: ([u8; report::LEN_MAX], usize),
    rng: Rng,
    state: PassingState,
    xid: u32,
    /// Messages, or probes, of this state.
    sent: u32,
    /// When this round began, and when its first REQUEST left: from then on the lease counts.
    begun: Option<Instant>,
    requested: Instant,
    bound: Instant,
    wake: Option<Instant>,
    /// The offer that was chosen, then the lease.
    lease: Option<PassingLease>,
    counts: PassingCounts,
}

impl PassingClient {
    /// Begins when it first learns the time. The seed makes its transaction ids: two machines must have two seeds.
    pub fn new(setup: PassingSetup, seed: u64) -> PassingClient {
        let mut report = [0; report::LEN_MAX];
        let len = setup.report.write(&mut report).unwrap_or(0);
        PassingClient {
            setup,
            report: (report, len),
            rng: Rng::new(seed),
            state: PassingState::Off,
            xid: 0,
            sent: 0,
            begun: None,
            requested: Instant::ZERO,
            bound: Instant::ZERO,
            wake: Some(Instant::ZERO),
            lease: None,
            counts: PassingCounts::default(),
        }
    }

    /// The state that it is in.
    pub fn state(&self) -> PassingState {
        self.state
    }

    /// The id of its transaction.
    pub fn xid(&self) -> u32 {
        self.xid
    }

    /// The lease that is held, or that was offered.
    pub fn lease(&self) -> Option<&PassingLease> {
        self.lease.as_ref()
    }

    /// When [`expire`](PassingClient::expire) is due, if ever.
    pub fn wake(&self) -> Option<Instant> {
        self.wake
    }

    /// What it has done and heard so far.
    pub fn counts(&self) -> PassingCounts {
        self.counts
    }

    /// Begins from nothing, with a DISCOVER: at once, or a second after the last beginning.
    pub fn start(&mut self, now: Instant) -> PassingStep {
        self.lease = None;
        self.sent = 0;
        let earliest = self.begun.map_or(now, |begun| begun + STEADY);
        if now < earliest {
            (self.state, self.wake) = (PassingState::Pausing, Some(earliest));
            return PassingStep::default();
        }
        (self.state, self.begun, self.xid) = (PassingState::Selecting, Some(now), self.rng.u64() as u32);
        self.repeat(now, MessageType::Discover)
    }

    fn repeat(&mut self, now: Instant, kind: MessageType) -> PassingStep {
        self.sent += 1;
        self.wake = Some(now + wait(self.sent));
        match kind {
            MessageType::Discover => self.counts.discovers += 1,
            _ => self.counts.requests += 1,
        }
        PassingStep::send(PassingSend::Message(kind))
    }

    /// The wait is over.
    pub fn expire(&mut self, now: Instant) -> PassingStep {
        if self.wake.is_none_or(|wake| now < wake) {
            return PassingStep::default();
        }
        match self.state {
            PassingState::Off | PassingState::Pausing => self.start(now),
            PassingState::Selecting => self.repeat(now, MessageType::Discover),
            PassingState::Requesting if self.sent >= REQUESTS_MAX => self.start(now),
            PassingState::Requesting => self.repeat(now, MessageType::Request),
            PassingState::Probing if self.sent >= PROBES => self.bind(false),
            PassingState::Probing => self.probe(now),
            PassingState::Bound | PassingState::Renewing | PassingState::Rebinding => self.renew(now),
        }
    }

    /// A message that came to port 68, and the hardware address of who sent it.
    pub fn receive(&mut self, now: Instant, message: &Message<'_>, from: Option<Mac>) -> PassingStep {
        let step = self.judge(now, message, from);
        self.counts.ignored += u32::from(step.ignored);
        step
    }

    fn read(&self, message: &Message<'_>, from: Option<Mac>) -> Option<PassingLease> {
        PassingLease::read(message, from, names_option(self.setup.option))
    }

    fn judge(&mut self, now: Instant, message: &Message<'_>, from: Option<Mac>) -> PassingStep {
        let Header { op, htype, hlen, xid, chaddr, .. } = message.header;
        let ours = (op, htype, hlen) == (2, 1, 6) && xid == self.xid && chaddr.starts_with(&self.setup.mac.0);
        if !ours {
            return PassingStep::IGNORED;
        }
        let from_chosen = self.lease.is_some_and(|lease| message.server_id() == Some(lease.server));
        match meaning(self.state, message.message_type(), from_chosen) {
            PassingMeaning::Nothing => PassingStep::IGNORED,
            PassingMeaning::Offered => self.read(message, from).map_or(PassingStep::IGNORED, |offer| self.request(now, offer)),
            PassingMeaning::Given => self.read(message, from).and_then(|lease| self.given(now, lease)).unwrap_or(PassingStep::IGNORED),
            PassingMeaning::Denied => {
                self.counts.naks += 1;
                self.start(now).tell(PassingEvent::Denied)
            }
        }
    }

    fn request(&mut self, now: Instant, offer: PassingLease) -> PassingStep {
        self.counts.offers += 1;
        (self.state, self.lease, self.requested, self.sent) = (PassingState::Requesting, Some(offer), now, 0);
        self.repeat(now, MessageType::Request)
    }

    fn given(&mut self, now: Instant, lease: PassingLease) -> Option<PassingStep> {
        self.lease.filter(|held| held.address == lease.address)?;
        let renewed = self.state != PassingState::Requesting;
        self.lease = Some(lease);
        if renewed || !self.setup.probe {
            return Some(self.bind(renewed));
        }
        (self.state, self.sent) = (PassingState::Probing, 0);
        Some(self.probe(now))
    }

    fn probe(&mut self, now: Instant) -> PassingStep {
        self.sent += 1;
        self.wake = Some(now + PROBE_WAIT);
        self.lease.map_or(PassingStep::default(), |lease| PassingStep::send(PassingSend::Probe(lease.address)))
    }

    fn bind(&mut self, renewed: bool) -> PassingStep {
        (self.state, self.bound, self.sent) = (PassingState::Bound, self.requested, 0);
        self.wake = self.times().map(|(t1, ..)| t1);
        let announced = self.lease.filter(|_| !renewed).map(|lease| PassingSend::Announce(lease.address));
        PassingStep { send: announced, event: Some(PassingEvent::Bound { renewed }), ignored: false }
    }

    /// Somebody claims an address by ARP.
    pub fn claimed(&mut self, address: Ipv4Addr, by: Mac) -> PassingStep {
        let ours = self.state == PassingState::Probing && by != self.setup.mac && self.lease.is_some_and(|lease| lease.address == address);
        if !ours {
            return PassingStep::default();
        }
        self.counts.declines += 1;
        // The lease stays until the DECLINE is written.
        (self.state, self.wake) = (PassingState::Pausing, self.begun.map(|begun| begun + STEADY));
        PassingStep::send(PassingSend::Message(MessageType::Decline)).tell(PassingEvent::InUse { address, by })
    }

    /// T1, T2 and the lease's end; None for a lease that never ends.
    fn times(&self) -> Option<(Instant, Instant, Instant)> {
        let lease = self.lease.filter(|lease| lease.seconds != u32::MAX)?;
        let (t1, t2) = lease.renewal();
        Some((self.bound + t1, self.bound + t2, self.bound + Duration::from_secs(lease.seconds.into())))
    }

    fn renew(&mut self, now: Instant) -> PassingStep {
        let Some((t1, t2, end)) = self.times() else {
            self.wake = None;
            return PassingStep::default();
        };
        if now >= end {
            return self.start(now).tell(PassingEvent::Expired);
        }
        if now < t1 {
            self.wake = Some(t1);
            return PassingStep::default();
        }
        if self.state == PassingState::Bound {
            (self.xid, self.requested) = (self.rng.u64() as u32, now);
        }
        let until = if now < t2 { t2 } else { end };
        self.state = if now < t2 { PassingState::Renewing } else { PassingState::Rebinding };
        // Half of what is left, but no less than a minute or an eighth of a short lease.
        let least = RENEWAL_WAIT.min(end.since(self.bound) / 8).max(STEADY);
        self.wake = Some((now + (until.since(now) / 2).max(least)).min(until));
        self.counts.requests += 1;
        PassingStep::send(PassingSend::Message(MessageType::Request))
    }

    /// From where, to where and how a message goes.
    fn route(&self) -> (SocketAddrV4, SocketAddrV4, Via) {
        let held = self.lease.filter(|_| matches!(self.state, PassingState::Renewing | PassingState::Rebinding));
        let from = SocketAddrV4::new(held.map_or(Ipv4Addr::UNSPECIFIED, |lease| lease.address), CLIENT_PORT);
        let server = held.filter(|_| self.state == PassingState::Renewing).and_then(|lease| lease.from.map(|mac| (lease.server, mac)));
        match server {
            Some((server, mac)) => (from, SocketAddrV4::new(server, SERVER_PORT), Via::Mac(mac)),
            None => (from, SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT), Via::Broadcast),
        }
    }

    /// Writes a message (RFC 2131, table 5); gives its length. None when it does not fit `buf`.
    pub fn write(&self, buf: &mut [u8], kind: MessageType, now: Instant) -> Option<usize> {
        let renewing = matches!(self.state, PassingState::Renewing | PassingState::Rebinding);
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
        let mut builder = MessageBuilder::new(buf, &header, MESSAGE_MAX)?;
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
pub struct PassingMachine {
    client: PassingClient,
    scratch: Scratch,
    event: Option<PassingEvent>,
}

impl PassingMachine {
    /// A machine with one client. See [`PassingClient::new`].
    pub fn new(setup: PassingSetup, seed: u64) -> PassingMachine {
        PassingMachine { client: PassingClient::new(setup, seed), scratch: Scratch::default(), event: None }
    }

    /// What its world is to open.
    pub fn endpoints() -> [Endpoint; 1] {
        let (service, address) = (Service { id: 0, name: "dhcp client" }, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT));
        [Endpoint { service, transport: Transport::Broadcast, link: Some(0), address, required: false, remedy: "" }]
    }

    /// Its client.
    pub fn client(&self) -> &PassingClient {
        &self.client
    }

    /// The last thing that happened, once.
    pub fn take_event(&mut self) -> Option<PassingEvent> {
        self.event.take()
    }

    fn act(&mut self, now: Now, step: PassingStep, out: &mut Outbox) {
        match step.send {
            Some(PassingSend::Message(kind)) => {
                let (client, (from, to, via)) = (&self.client, self.client.route());
                out.datagram(0, from, to, via, |buf| client.write(buf, kind, now.at));
            }
            Some(PassingSend::Probe(ip)) => drop(out.put(Output::Probe { link: 0, ip })),
            Some(PassingSend::Announce(ip)) => {
                let mac = self.client.setup.mac;
                let arp = Arp { operation: ArpOp::Request, sender_mac: mac, sender_ip: ip, target_mac: Mac::ZERO, target_ip: ip };
                out.frame(0, |buf| emit_arp(buf, &arp));
            }
            None => {}
        }
        self.event = step.event.or(self.event);
    }
}

impl Machine for PassingMachine {
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
