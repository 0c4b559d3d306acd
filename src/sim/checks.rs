//! Checkers, apart from the code they judge: they see what arrives at the server and what leaves it, and know the protocols' laws.
//!
//! Laws: an address has one holder at a time; files go only to addresses that were given once; replies stay within the served networks and carry the head's name; a frame goes to whom its
//! packet is for; an OACK holds only what was asked for; DATA stays within the acknowledged window and is the file's; every datagram
//! can be read. The longest silence towards a transfer that asked is measured, not judged.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::time::Instant;
use crate::config::Config;
use crate::roll::plan::Subnet;
use crate::wire::dhcp::{self, MessageType, Scratch};
use crate::wire::ether::{self, Checksum, Frame, UdpFrame};

use super::disk::Version;
use super::table::Table;
pub use super::tftp_checks::Block;
use super::tftp_checks::Transfers;

/// Violations that are kept; more are counted.
const KEPT: usize = 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub at: Instant,
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.text)
    }
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    pub violations: Vec<Violation>,
    /// All of them, kept or not.
    pub count: u64,
    /// DHCP ACKs that gave an address.
    pub leases: u64,
    /// Transfers whose last block was acknowledged.
    pub transfers: u64,
    /// The longest time between a request or a progressing ACK and the server's next packet to that client.
    pub silence: Duration,
    /// To whom, and when it ended.
    pub silent_to: Option<(SocketAddrV4, Instant)>,
}

impl Findings {
    pub fn violate(&mut self, at: Instant, text: fmt::Arguments<'_>) {
        self.count += 1;
        if self.violations.len() < KEPT {
            self.violations.push(Violation { at, text: text.to_string() });
        }
    }
}

#[derive(Clone, Copy)]
struct SeenLease {
    mac: Mac,
    until: Instant,
}

/// What is known of an address.
#[derive(Default)]
struct SeenAddress {
    lease: Option<SeenLease>,
    /// It was given once, to whomever.
    given: bool,
}

/// What is known of a machine.
#[derive(Default)]
struct Party {
    /// The transaction of its last message that arrived.
    asked: Option<u32>,
    /// The address that it was given last.
    has: Option<Ipv4Addr>,
    unheard: Unheard,
}

/// What the link has lost of a machine's DHCP, of one transaction: its messages, and the answers to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unheard {
    pub xid: u32,
    /// DISCOVER and OFFER.
    pub discovers: u32,
    /// REQUEST since the last DISCOVER, and ACK.
    pub requests: u32,
    /// The last loss that was counted.
    at: Instant,
}

/// Two frames of one try are lost within less, where the link gave the first of them twice; firmware tries again after more.
const TRY: Duration = Duration::from_millis(100);

fn key(address: Ipv4Addr) -> u64 {
    address.to_bits().into()
}

pub struct Checks {
    heads: Vec<Ipv4Addr>,
    subnets: Vec<Subnet>,
    addresses: Table<SeenAddress>,
    /// By MAC.
    parties: Table<Party>,
    transfers: Transfers,
    scratch: Box<Scratch>,
    pub findings: Findings,
}

/// How long a BOOTP client has its address: it has no lease and cannot renew.
const BOOTP_LEASE: Duration = Duration::from_secs(86_400);

impl Checks {
    pub fn new(config: &Config) -> Checks {
        Checks {
            heads: config.links.iter().map(|link| link.head).collect(),
            subnets: config.networks.iter().map(|network| network.subnet).collect(),
            addresses: Table::default(),
            parties: Table::default(),
            transfers: Transfers::new(config.tftp.ports),
            scratch: Box::default(),
            findings: Findings::default(),
        }
    }

    /// A frame that the link has lost, either way; one that a full queue has dropped is not the link's doing.
    pub fn lost(&mut self, now: Instant, bytes: &[u8]) {
        let Ok(Frame::Udp(frame)) = ether::parse(bytes, Checksum::Verify) else { return };
        if !matches!(frame.dst.port(), 67 | 68) {
            return;
        }
        let Ok(message) = dhcp::parse(frame.payload, &mut self.scratch) else { return };
        let Some(mac) = chaddr(&message.header) else { return };
        let unheard = &mut self.parties.entry(mac.to_u64()).unheard;
        if unheard.xid != message.header.xid {
            *unheard = Unheard { xid: message.header.xid, ..Unheard::default() };
        }
        let again = unheard.at > Instant::ZERO && now.since(unheard.at) < TRY;
        unheard.at = now;
        match message.message_type() {
            Some(MessageType::Discover) => (unheard.discovers, unheard.requests) = (unheard.discovers + u32::from(!again), 0),
            Some(MessageType::Offer) => unheard.discovers += u32::from(!again),
            Some(MessageType::Request | MessageType::Ack) => unheard.requests += u32::from(!again),
            _ => {}
        }
    }

    /// What the link has lost of this machine's last transaction of which it has lost anything.
    pub fn unheard(&self, mac: Mac) -> Unheard {
        self.parties.get(mac.to_u64()).map(|party| party.unheard).unwrap_or_default()
    }

    /// A datagram that arrives at the server. `file` tells what a name stands for on the disk now.
    pub fn arrives(&mut self, now: Instant, frame: &UdpFrame<'_>, file: impl Fn(&[u8]) -> Option<Version>) {
        match frame.dst.port() {
            67 => self.dhcp_arrives(frame),
            _ => self.transfers.arrives(&mut self.findings, now, frame, file),
        }
    }

    /// A datagram that leaves the server.
    pub fn leaves(&mut self, now: Instant, frame: &UdpFrame<'_>, file: impl Fn(&[u8]) -> Option<Version>) {
        let to = *frame.dst.ip();
        if frame.src == SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68) {
            // The server looks for others of its kind.
            return self.probe_leaves(now, frame);
        }
        if to.is_broadcast() != (frame.dst_mac == Mac::BROADCAST) {
            self.findings.violate(now, format_args!("a datagram to {to} in a frame to {}", frame.dst_mac));
        }
        self.ends(now, frame.src, to);
        match frame.src.port() {
            67 => self.dhcp_leaves(now, frame),
            _ => {
                let Checks { transfers, addresses, findings, .. } = self;
                let given = || addresses.get(key(to)).is_some_and(|address| address.given);
                transfers.leaves(findings, now, frame, given, file);
            }
        }
    }

    /// A block of a file leaves the server, in a frame of its own to the machine that has the address.
    pub fn block_leaves(&mut self, now: Instant, block: &Block, file: impl Fn(&[u8]) -> Option<Version>) {
        let to = *block.to.ip();
        self.ends(now, block.from, to);
        let Checks { transfers, addresses, findings, .. } = self;
        let given = || addresses.get(key(to)).is_some_and(|address| address.given);
        transfers.block_leaves(findings, now, block, given, file);
    }

    /// The head has these addresses from now on.
    pub fn readdress(&mut self, heads: impl Iterator<Item = Ipv4Addr>) {
        self.heads = heads.collect();
    }

    /// Whom a datagram is from and to.
    fn ends(&mut self, now: Instant, from: SocketAddrV4, to: Ipv4Addr) {
        if !self.heads.contains(from.ip()) {
            self.findings.violate(now, format_args!("a datagram from {from}, which is not the head"));
        }
        if !to.is_broadcast() && !self.subnets.iter().any(|subnet| subnet.is_host(to)) {
            self.findings.violate(now, format_args!("a datagram to {to}, which is in no served network"));
        }
    }

    fn dhcp_arrives(&mut self, frame: &UdpFrame<'_>) {
        let Ok(message) = dhcp::parse(frame.payload, &mut self.scratch) else { return };
        let Some(mac) = chaddr(&message.header) else { return };
        let party = self.parties.entry(mac.to_u64());
        party.asked = Some(message.header.xid);
        if message.message_type() == Some(MessageType::Discover) {
            party.unheard.requests = 0;
        }
        let given_back = match message.message_type() {
            Some(MessageType::Release) => Some(message.header.ciaddr),
            Some(MessageType::Decline) => message.requested_ip(),
            _ => None,
        };
        if let Some(address) = given_back.and_then(|address| self.addresses.get_mut(key(address))) {
            address.lease = address.lease.filter(|lease| lease.mac != mac);
        }
    }

    fn probe_leaves(&mut self, now: Instant, frame: &UdpFrame<'_>) {
        let message = dhcp::parse(frame.payload, &mut self.scratch);
        let sound = message.is_ok_and(|message| message.header.op == 1 && message.message_type() == Some(MessageType::Discover));
        if !sound || frame.dst != SocketAddrV4::new(Ipv4Addr::BROADCAST, 67) {
            self.findings.violate(now, format_args!("the probe for other servers is not a broadcast DISCOVER"));
        }
    }

    fn dhcp_leaves(&mut self, now: Instant, frame: &UdpFrame<'_>) {
        let Checks { findings, scratch, heads, .. } = self;
        let message = match dhcp::parse(frame.payload, scratch) {
            Ok(message) if message.header.op == 2 => message,
            Ok(_) => return findings.violate(now, format_args!("a DHCP reply with op 1 to {}", frame.dst)),
            Err(why) => return findings.violate(now, format_args!("a DHCP reply that cannot be read ({why:?}) to {}", frame.dst)),
        };
        let (header, kind) = (message.header, message.message_type());
        let Some(mac) = chaddr(&header) else {
            return findings.violate(now, format_args!("a DHCP reply to nobody"));
        };
        if !matches!(kind, None | Some(MessageType::Offer | MessageType::Ack | MessageType::Nak)) {
            findings.violate(now, format_args!("the server sent {kind:?}"));
        }
        if kind.is_some() && message.server_id() != Some(*frame.src.ip()) {
            findings.violate(now, format_args!("{kind:?} to {mac} with server identifier {:?}", message.server_id()));
        }
        if self.parties.get(mac.to_u64()).and_then(|party| party.asked) != Some(header.xid) {
            findings.violate(now, format_args!("{kind:?} to {mac} for transaction {:#x}, which is not its last", header.xid));
        }
        let direct = header.giaddr.is_unspecified();
        if direct && frame.dst_mac != Mac::BROADCAST && frame.dst_mac != mac {
            findings.violate(now, format_args!("{kind:?} for {mac} in a frame to {}", frame.dst_mac));
        }
        if direct && frame.dst.port() != 68 || !direct && frame.dst != SocketAddrV4::new(header.giaddr, 67) {
            findings.violate(now, format_args!("{kind:?} for {mac} to {}", frame.dst));
        }
        let given = header.yiaddr;
        if kind == Some(MessageType::Nak) {
            // RFC 2131, table 3.
            if !given.is_unspecified() || message.lease_time().is_some() {
                findings.violate(now, format_args!("a NAK to {mac} that gives {given}"));
            }
            return;
        }
        if given.is_unspecified() {
            // The answer to an INFORM; nothing else goes without an address.
            if kind != Some(MessageType::Ack) || message.lease_time().is_some() {
                findings.violate(now, format_args!("{kind:?} to {mac} without an address"));
            }
            return;
        }
        if heads.contains(&given) || !self.subnets.iter().any(|subnet| subnet.is_host(given)) {
            findings.violate(now, format_args!("{kind:?} gives {given} to {mac}, which is not to be given"));
        }
        let lease = match (kind, message.lease_time()) {
            (None, _) => BOOTP_LEASE,
            (Some(_), Some(seconds)) => Duration::from_secs(seconds.into()),
            (Some(_), None) => return findings.violate(now, format_args!("{kind:?} to {mac} without a lease time")),
        };
        self.give(now, mac, given, lease, kind);
    }

    /// An address is offered or given.
    fn give(&mut self, now: Instant, mac: Mac, address: Ipv4Addr, lease: Duration, kind: Option<MessageType>) {
        let held = self.addresses.get(key(address)).and_then(|address| address.lease);
        if let Some(SeenLease { mac: holder, until }) = held.filter(|held| held.mac != mac && held.until > now) {
            self.findings.violate(now, format_args!("{kind:?} gives {address} to {mac}, but {holder} has it until {until}"));
        }
        if kind == Some(MessageType::Offer) {
            return;
        }
        self.findings.leases += 1;
        // A machine that takes an address leaves the one it had.
        let left = self.parties.entry(mac.to_u64()).has.replace(address).filter(|left| *left != address);
        if let Some(left) = left.and_then(|left| self.addresses.get_mut(key(left))) {
            left.lease = left.lease.filter(|lease| lease.mac != mac);
        }
        let taken = self.addresses.entry(key(address));
        (taken.given, taken.lease) = (true, Some(SeenLease { mac, until: now + lease }));
    }
}

fn chaddr(header: &dhcp::Header) -> Option<Mac> {
    let &[a, b, c, d, e, f, ..] = &header.chaddr;
    (header.hlen == 6).then_some(Mac([a, b, c, d, e, f]))
}

#[cfg(test)]
mod tests;
