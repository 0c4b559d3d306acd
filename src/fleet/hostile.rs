//! A hostile neighbour: a machine on the boot network that sends what no machine of the cluster would, many times a second.
//!
//! It learns from one OFFER who the head is, as any machine on the network can, and sends from then on. Everything that it sends bears
//! a MAC of its own in the frame, unless a kind says otherwise: who takes over the MACs of others has the switch against him, and no
//! server can tell.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

mod laggards;

use super::Name;
use super::dhcp::MESSAGE_MAX;
use super::machine::mac;
use crate::base::addr::Mac;
use crate::base::machine::{Input, Machine};
use crate::base::outbox::Outbox;
use crate::base::rng::Rng;
use crate::base::text::Text;
use crate::base::time::{Instant, Now};
use crate::wire::dhcp::{Header, MessageBuilder, MessageType, Scratch, code, parse as parse_dhcp};
use crate::wire::ether::{Arp, ArpOp, Checksum, Frame, emit_arp, emit_udp, parse};
use crate::wire::report::{self, Report, ReportMacs, ReportVerdict};
use crate::wire::tftp::{Mode, TftpOptions, emit_ack, emit_rrq};
use laggards::{Habit, Laggards};

/// What is in the frames of the hostile machine.
const OURS: Mac = Mac([0x02, 0x66, 0, 0, 0, 1]);
/// The first octets of the MACs that it invents.
const INVENTED: [u8; 2] = [0x02, 0x67];
/// Different files that are asked for.
pub const NAMES: u32 = 300;
/// Hears nothing of the head: asks again.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// It sends this often.
const BURST: Duration = Duration::from_millis(1);
/// Frames that it is behind by are left out beyond this many.
const BEHIND_MAX: u64 = 1024;
/// Ethernet, and with IPv4 and UDP.
const ETHERNET: usize = 14;
const HEADERS: usize = 42;
const NOBODY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
const EVERYBODY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);

macro_rules! attacks {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A kind of hostile frames.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Attack { $(#[doc = $text] $(#[$doc])* $name,)* }

        impl Attack {
            /// All kinds, in the order of their declaration.
            pub const ALL: &'static [Attack] = &[$(Attack::$name,)*];

            /// Its name in flags.
            pub const fn name(self) -> &'static str {
                match self { $(Attack::$name => $text,)* }
            }
        }
    };
}

attacks! {
    /// RRQs from invented addresses of the network, which nobody acknowledges.
    RrqInvented = "rrq-invented",
    /// RRQs in the names of nodes.
    RrqNodes = "rrq-nodes",
    /// RRQs likewise, for different files: the name with `-0` to `-299` behind it.
    RrqFiles = "rrq-files",
    /// DISCOVERs of invented machines that say that they have passed their test: each from the MAC that it tells.
    Passed = "passed",
    /// ARP that claims the addresses of nodes.
    Arp = "arp",
    /// RELEASEs and DECLINEs in the names of nodes.
    Release = "release",
    /// OFFERs of invented servers.
    Offers = "offers",
    /// Twenty invented addresses that load the file in windows of 16, and acknowledge the first three windows at once and all others
    /// 300 ms late.
    RrqLate = "rrq-late",
    /// Likewise, but they repeat their first acknowledgement 200 ms after each window, for ever.
    RrqSame = "rrq-same",
    /// Both, from machines that have taken a lease as guests.
    GuestLate = "guest-late",
    GuestSame = "guest-same",
    /// DHCP, TFTP and ARP with some octets changed.
    Mutants = "mutants",
}

impl Attack {
    /// The habit of the crowd that plays it, where it is no single frames; and whether that are guests.
    const fn crowd(self) -> Option<(Habit, bool)> {
        match self {
            Attack::RrqLate => Some((Habit::Late, false)),
            Attack::RrqSame => Some((Habit::Same, false)),
            Attack::GuestLate => Some((Habit::Late, true)),
            Attack::GuestSame => Some((Habit::Same, true)),
            _ => None,
        }
    }
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a hostile machine is to do.
#[derive(Clone, Debug)]
pub struct Assault {
    /// In turns.
    pub attacks: Vec<Attack>,
    /// Frames a second, of all kinds together.
    pub rate: u32,
    /// Nodes in whose names frames are sent: the number of the first one's MAC (see [`mac`]), its address, and how many there are. The
    /// others follow it.
    pub first: u32,
    /// The address of the first node.
    pub node0: Ipv4Addr,
    /// How many nodes there are.
    pub nodes: u32,
    /// The file that is asked for.
    pub file: Vec<u8>,
    /// Decides all that is random: the same seed gives the same frames.
    pub seed: u64,
}

/// What an OFFER revealed of the head.
#[derive(Clone, Copy)]
struct OfferedHead {
    mac: Mac,
    address: Ipv4Addr,
    mask: u32,
}

/// A machine on the boot network that wants harm: it floods, forges and holds on.
pub struct Hostile {
    assault: Assault,
    file: Name,
    head: Option<OfferedHead>,
    rng: Rng,
    scratch: Scratch,
    /// For each attack, if a crowd plays it.
    laggards: Vec<Option<Laggards>>,
    /// When it sends next, or asks for the head.
    next: Instant,
    began: Instant,
    sent: u64,
    /// Frames that it was too late for, or had no occasion for.
    skipped: u64,
}

impl Hostile {
    /// The reason why it cannot be, as one sentence.
    pub fn new(assault: Assault, now: Instant) -> Result<Hostile, &'static str> {
        if assault.attacks.is_empty() || assault.rate == 0 || assault.nodes == 0 {
            return Err("a hostile machine sends some kind of frames, at least one a second, in the names of at least one node");
        }
        if assault.first.checked_add(assault.nodes).is_none() || u32::from(assault.node0).checked_add(assault.nodes).is_none() {
            return Err("the nodes' numbers or addresses go beyond 32 bits");
        }
        let file = Name::new(&assault.file)
            .filter(|name| !name.is_empty())
            .ok_or("a hostile machine asks for a file: its name has 1 to 255 bytes")?;
        let rng = Rng::new(assault.seed);
        let laggards =
            assault.attacks.iter().map(|attack| attack.crowd().map(|(habit, guests)| Laggards::new(habit, guests, now))).collect();
        let scratch = Scratch::default();
        Ok(Hostile { assault, file, head: None, rng, scratch, laggards, next: now, began: now, sent: 0, skipped: 0 })
    }

    /// Hostile frames sent so far. None before it has heard of the head.
    pub fn sent(&self) -> Option<u64> {
        self.head.map(|_| self.sent)
    }

    fn below(&mut self, bound: u32) -> u32 {
        self.rng.below(bound.into()) as u32
    }

    /// A node: its MAC and its address.
    fn node(&mut self) -> (Mac, Ipv4Addr) {
        let n = self.below(self.assault.nodes);
        (mac(self.assault.first + n), Ipv4Addr::from_bits(self.assault.node0.to_bits() + n))
    }

    /// An address of the network that is the head's or a node's least of all.
    fn invented(&mut self, head: &OfferedHead) -> Ipv4Addr {
        let nodes = self.assault.node0.to_bits()..self.assault.node0.to_bits() + self.assault.nodes;
        let host = 1 + self.below((!head.mask).saturating_sub(1).max(1));
        let address = head.address.to_bits() & head.mask | host;
        let taken = nodes.contains(&address) || address == head.address.to_bits();
        Ipv4Addr::from_bits(if taken { head.address.to_bits() & head.mask | !head.mask & !1 } else { address })
    }

    fn invented_mac(&mut self) -> Mac {
        let [a, b, c, d] = self.below(u32::MAX).to_be_bytes();
        Mac([INVENTED[0], INVENTED[1], a, b, c, d])
    }
}

/// The frames. Each gives its length; None where it does not fit.
impl Hostile {
    fn write(&mut self, buf: &mut [u8], head: &OfferedHead, attack: Attack) -> Option<usize> {
        match attack {
            Attack::RrqInvented => {
                let from = self.invented(head);
                self.rrq(buf, head, from, self.file)
            }
            Attack::RrqFiles => {
                let (from, number) = (self.invented(head), (self.sent + self.skipped) % u64::from(NAMES));
                let name = Text::<300>::of(format_args!("{}-{number}", String::from_utf8_lossy(self.file.bytes())));
                self.rrq(buf, head, from, Name::new(name.as_str().as_bytes())?)
            }
            Attack::RrqNodes => {
                let (_, from) = self.node();
                self.rrq(buf, head, from, self.file)
            }
            Attack::Passed => {
                let mac = self.invented_mac();
                self.passed(buf, mac)
            }
            Attack::Arp => {
                let (_, claimed) = self.node();
                let (operation, target_mac) = [(ArpOp::Request, Mac::ZERO), (ArpOp::Reply, head.mac)][self.below(2) as usize];
                emit_arp(buf, &Arp { operation, sender_mac: OURS, sender_ip: claimed, target_mac, target_ip: head.address })
            }
            Attack::Release => self.release(buf, head),
            Attack::Offers => self.offer(buf),
            Attack::Mutants => self.mutant(buf, head),
            Attack::RrqLate | Attack::RrqSame | Attack::GuestLate | Attack::GuestSame => None,
        }
    }

    fn rrq(&mut self, buf: &mut [u8], head: &OfferedHead, from: Ipv4Addr, file: Name) -> Option<usize> {
        // Answered by an OACK, or by a first block, which does more harm.
        let options = match self.below(4) {
            0 => TftpOptions { windowsize: Some(16), blksize: Some(1468), ..TftpOptions::default() },
            _ => TftpOptions::default(),
        };
        let mut packet = [0; MESSAGE_MAX];
        let len = emit_rrq(&mut packet, file.bytes(), Mode::Octet, &options)?;
        let from = SocketAddrV4::new(from, 1024 + self.below(60_000) as u16);
        emit_udp(buf, OURS, head.mac, from, SocketAddrV4::new(head.address, 69), 0, packet.get(..len)?)
    }

    fn passed(&mut self, buf: &mut [u8], mac: Mac) -> Option<usize> {
        let (mut macs, mut text) = (ReportMacs::NONE, [0; report::LEN_MAX]);
        macs.push(mac);
        let len = Report { macs, verdict: ReportVerdict::Passed, ..Report::EMPTY }.write(&mut text)?;
        self.dhcp(buf, (mac, mac), MessageType::Discover, Ipv4Addr::UNSPECIFIED, |builder| {
            builder.option(report::CODE, text.get(..len).unwrap_or(&[]));
        })
    }

    fn release(&mut self, buf: &mut [u8], head: &OfferedHead) -> Option<usize> {
        let (mac, address) = self.node();
        let release = self.below(2) == 0;
        let (kind, ciaddr) = if release { (MessageType::Release, address) } else { (MessageType::Decline, Ipv4Addr::UNSPECIFIED) };
        self.dhcp(buf, (OURS, mac), kind, ciaddr, |builder| {
            builder.ip(code::SERVER_ID, head.address);
            if !release {
                builder.ip(code::REQUESTED_IP, address);
            }
        })
    }

    fn offer(&mut self, buf: &mut [u8]) -> Option<usize> {
        let (mac, address) = self.node();
        let server = Ipv4Addr::from_bits(self.below(u32::MAX));
        let header = Header {
            op: 2,
            xid: self.below(u32::MAX),
            yiaddr: address,
            siaddr: server,
            flags: Header::BROADCAST,
            chaddr: chaddr(mac),
            ..Header::default()
        };
        let mut body = [0; MESSAGE_MAX];
        let mut builder = MessageBuilder::new(&mut body, &header, MESSAGE_MAX)?;
        builder.message_type(MessageType::Offer);
        builder.ip(code::SERVER_ID, server);
        builder.u32(code::LEASE_TIME, 600);
        let len = builder.finish(None);
        let (from, to) = (SocketAddrV4::new(server, 67), SocketAddrV4::new(Ipv4Addr::BROADCAST, 68 - (self.below(2) as u16)));
        emit_udp(buf, OURS, Mac::BROADCAST, from, to, 0, body.get(..len)?)
    }

    /// Any other kind, or an ACK in a node's name, with up to eight octets changed, and maybe cut off. The Ethernet header stays: it
    /// says whose frame it is. Where the headers stay too, the UDP checksum is none, so that the head reads what follows.
    fn mutant(&mut self, buf: &mut [u8], head: &OfferedHead) -> Option<usize> {
        let kind = self.below(Attack::ALL.len() as u32) as usize;
        let len = match Attack::ALL.get(kind) {
            Some(&attack) if attack != Attack::Mutants && attack.crowd().is_none() => self.write(buf, head, attack)?,
            _ => self.ack(buf, head)?,
        };
        let readable = len > HEADERS && buf.get(12..14)? == [8, 0] && self.below(4) > 0;
        let from = if readable { HEADERS } else { ETHERNET };
        if readable {
            buf.get_mut(HEADERS - 2..HEADERS)?.fill(0);
        }
        for _ in 0..1 + self.below(8) {
            let at = from + self.below((len - from) as u32) as usize;
            *buf.get_mut(at)? = self.below(256) as u8;
        }
        Some(if self.below(8) == 0 { from + self.below((len - from) as u32) as usize } else { len })
    }

    fn ack(&mut self, buf: &mut [u8], head: &OfferedHead) -> Option<usize> {
        let (_, from) = self.node();
        let mut packet = [0; 4];
        emit_ack(&mut packet, self.below(200) as u16);
        let (from, to) =
            (SocketAddrV4::new(from, 2070 + self.below(4) as u16), SocketAddrV4::new(head.address, 1024 + self.below(60_000) as u16));
        emit_udp(buf, OURS, head.mac, from, to, 0, &packet)
    }

    /// A message to the head, in a frame of one MAC and the name of another.
    fn dhcp(
        &mut self,
        buf: &mut [u8],
        (frame, name): (Mac, Mac),
        kind: MessageType,
        ciaddr: Ipv4Addr,
        more: impl FnOnce(&mut MessageBuilder<'_>),
    ) -> Option<usize> {
        let header = Header { xid: self.below(u32::MAX), flags: Header::BROADCAST, ciaddr, chaddr: chaddr(name), ..Header::default() };
        let mut body = [0; MESSAGE_MAX];
        let mut builder = MessageBuilder::new(&mut body, &header, MESSAGE_MAX)?;
        builder.message_type(kind);
        more(&mut builder);
        let len = builder.finish(None);
        let from = if ciaddr.is_unspecified() { NOBODY } else { SocketAddrV4::new(ciaddr, 68) };
        emit_udp(buf, frame, Mac::BROADCAST, from, EVERYBODY, 0, body.get(..len)?)
    }
}

fn chaddr(mac: Mac) -> [u8; 16] {
    let mut chaddr = [0; 16];
    chaddr[..6].copy_from_slice(&mac.0);
    chaddr
}

impl Machine for Hostile {
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Outbox) {
        let Input::Frame { link: 0, bytes } = input else { return };
        if self.head.is_some() && self.laggards.iter().all(Option::is_none) {
            return;
        }
        let Ok(frame) = parse(bytes, Checksum::Trusted) else { return };
        self.laggards.iter_mut().flatten().for_each(|laggards| laggards.hear(now.at, &frame, out));
        let Frame::Udp(frame) = frame else { return };
        if frame.src.port() != 67 {
            return;
        }
        let Ok(message) = parse_dhcp(frame.payload, &mut self.scratch) else { return };
        self.laggards.iter_mut().flatten().for_each(|laggards| laggards.leased(now.at, &message));
        if self.head.is_some() || message.message_type() != Some(MessageType::Offer) || message.header.chaddr.get(..6) != Some(&OURS.0[..])
        {
            return;
        }
        let mask = message.option(code::SUBNET_MASK).and_then(|mask| mask.try_into().ok()).map(u32::from_be_bytes);
        if let (Some(address), Some(mask)) = (message.server_id(), mask) {
            self.head = Some(OfferedHead { mac: frame.src_mac, address, mask });
            (self.began, self.next) = (now.at, now.at);
        }
    }

    fn expire(&mut self, now: Now, out: &mut Outbox) {
        if self.next > now.at {
            return;
        }
        let Some(head) = self.head else {
            self.next = now.at + ASK_AGAIN;
            out.frame(0, |buf| self.dhcp(buf, (OURS, OURS), MessageType::Discover, Ipv4Addr::UNSPECIFIED, |_| ()));
            return;
        };
        let rate = u64::from(self.assault.rate);
        let wanted = now.at.since(self.began).as_nanos() as u64 / 1000 * rate / 1_000_000 + 1;
        let behind = wanted.saturating_sub(self.sent + self.skipped);
        self.skipped += behind.saturating_sub(BEHIND_MAX);
        for _ in 0..behind.min(BEHIND_MAX) {
            if !out.has_room() {
                break;
            }
            let turn = ((self.sent + self.skipped) % self.assault.attacks.len() as u64) as usize;
            let attack = self.assault.attacks[turn];
            let wrote = out.frame(0, |buf| match self.laggards[turn].as_mut() {
                Some(laggards) => laggards.write(now.at, &head, &self.file, buf),
                None => self.write(buf, &head, attack),
            });
            self.sent += u64::from(wrote);
            self.skipped += u64::from(!wrote);
        }
        self.next = now.at + BURST.max(Duration::from_nanos(1_000_000_000 / rate));
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.next)
    }
}

/// A fleet and a hostile machine on one link.
pub struct Company<C> {
    /// The honest machines.
    pub fleet: C,
    /// The hostile one.
    pub hostile: Hostile,
}

impl<C: Machine> Machine for Company<C> {
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Outbox) {
        self.hostile.handle(now, input, out);
        self.fleet.handle(now, input, out);
    }

    /// The fleet comes first: it was there before.
    fn expire(&mut self, now: Now, out: &mut Outbox) {
        self.fleet.expire(now, out);
        self.hostile.expire(now, out);
    }

    fn deadline(&self) -> Option<Instant> {
        [self.fleet.deadline(), self.hostile.deadline()].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::outbox::Output;
    use crate::wire::tftp::{Packet, parse as parse_tftp};

    const HEAD: Ipv4Addr = Ipv4Addr::new(10, 54, 0, 1);
    const NODE0: Ipv4Addr = Ipv4Addr::new(10, 54, 1, 0);

    fn assault(attack: Attack, rate: u32) -> Assault {
        Assault { attacks: vec![attack], rate, first: 7, node0: NODE0, nodes: 50, file: b"vmlinuz".to_vec(), seed: 1 }
    }

    /// What it sends from the OFFER on, in so many milliseconds.
    fn sent(assault: Assault, millis: u64) -> Vec<Vec<u8>> {
        let (mut hostile, mut out) = (Hostile::new(assault, Instant::ZERO).unwrap(), Outbox::new());
        let mut frames = Vec::new();
        for millis in 0..=millis {
            let now = Now { at: Instant::from_millis(millis), unix: 0 };
            hostile.expire(now, &mut out);
            if millis == 0 {
                assert_eq!((out.len(), hostile.sent()), (1, None), "a DISCOVER");
                hostile.handle(now, Input::Frame { link: 0, bytes: &offer() }, &mut out);
                out.clear();
            }
            frames.extend(out.iter().map(|output| {
                let Output::Frame { link: 0, bytes } = output else { panic!("{output:?}") };
                bytes.to_vec()
            }));
            out.clear();
        }
        assert_eq!(hostile.sent(), Some(frames.len() as u64));
        frames
    }

    fn offer() -> Vec<u8> {
        let header = Header { op: 2, chaddr: chaddr(OURS), yiaddr: Ipv4Addr::new(10, 54, 250, 1), ..Header::default() };
        let (mut body, mut buf) = ([0; MESSAGE_MAX], [0; 700]);
        let mut builder = MessageBuilder::new(&mut body, &header, MESSAGE_MAX).unwrap();
        builder.message_type(MessageType::Offer);
        builder.ip(code::SERVER_ID, HEAD);
        builder.ip(code::SUBNET_MASK, Ipv4Addr::new(255, 255, 0, 0));
        let len = builder.finish(None);
        let (from, to) = (SocketAddrV4::new(HEAD, 67), SocketAddrV4::new(Ipv4Addr::BROADCAST, 68));
        let len = emit_udp(&mut buf, Mac([2, 0, 0, 0, 0, 1]), Mac::BROADCAST, from, to, 0, &body[..len]).unwrap();
        buf[..len].to_vec()
    }

    #[test]
    fn it_keeps_to_its_rate() {
        for (rate, millis, frames) in [(20, 1000, 21), (500, 1000, 501), (25_000, 200, 5001)] {
            assert!(sent(assault(Attack::Arp, rate), millis).len().abs_diff(frames) <= 1, "{rate}");
        }
        assert_eq!(sent(assault(Attack::Mutants, 1000), 100), sent(assault(Attack::Mutants, 1000), 100), "the same seed, the same frames");
        assert!(Hostile::new(assault(Attack::Arp, 0), Instant::ZERO).is_err());
    }

    #[test]
    fn requests_come_from_invented_addresses_or_from_nodes() {
        for (attack, nodes) in [(Attack::RrqInvented, false), (Attack::RrqNodes, true)] {
            for frame in sent(assault(attack, 1000), 1000) {
                let Ok(Frame::Udp(udp)) = parse(&frame, Checksum::Verify) else { panic!("{attack}") };
                let (ours, known) = (udp.src.ip().octets()[..2] == [10, 54], (NODE0..Ipv4Addr::new(10, 54, 1, 50)).contains(udp.src.ip()));
                assert!(ours && known == nodes && *udp.src.ip() != HEAD && udp.src_mac == OURS, "{attack}: {udp:?}");
                let Ok(Packet::Request(request)) = parse_tftp(udp.payload) else { panic!("{attack}") };
                assert_eq!(request.filename, b"vmlinuz");
            }
        }
    }

    #[test]
    fn what_is_no_request_is_what_it_says() {
        let kinds = |attack| {
            let mut kinds = std::collections::BTreeSet::new();
            for frame in sent(assault(attack, 1000), 200) {
                match parse(&frame, Checksum::Verify) {
                    Ok(Frame::Udp(udp)) => {
                        let mut scratch = Scratch::default();
                        kinds.insert(format!("{:?}", parse_dhcp(udp.payload, &mut scratch).unwrap().message_type().unwrap()));
                    }
                    Ok(Frame::Arp(arp)) => {
                        assert!((NODE0..Ipv4Addr::new(10, 54, 1, 50)).contains(&arp.sender_ip) && arp.sender_mac == OURS);
                        kinds.insert(format!("{:?}", arp.operation));
                    }
                    other => panic!("{attack}: {other:?}"),
                }
            }
            kinds.into_iter().collect::<Vec<_>>().join(" ")
        };
        let told = [Attack::Passed, Attack::Arp, Attack::Release, Attack::Offers].map(kinds);
        assert_eq!(told, ["Discover", "Reply Request", "Decline Release", "Offer"]);
        let mutants = sent(assault(Attack::Mutants, 1000), 1000);
        let read = mutants.iter().filter(|frame| parse(frame, Checksum::Verify).is_ok()).count();
        assert!(read > 300 && read < mutants.len(), "{read} of {}", mutants.len());
    }
}
