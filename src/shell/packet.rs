//! Packet sockets: one for each boot interface. A filter in the kernel lets in what DHCP, ARP and router solicitations need; frames
//! leave with headers of our own, so that neither route nor ARP is asked for a machine that has no address yet.

use std::os::fd::{AsFd, OwnedFd};

use crate::base::facts::{Hardware, LinkFacts};
use crate::base::machine::{Datagram, Input, Link};
use crate::wire::ether::{self, Checksum, Frame, Malformed};

use super::Error;
use super::sys::{self, Filter, Received};

/// What the socket may queue: a storm of DISCOVERs arrives within milliseconds.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Where IPv6 router solicitations go.
const ALL_ROUTERS: [u8; 6] = [0x33, 0x33, 0, 0, 0, 2];

/// How frames begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// With the Ethernet header.
    Raw,
    /// With the IP header: links whose headers are not Ethernet's.
    Cooked,
}

pub struct PacketSocket {
    pub fd: OwnedFd,
    framing: Framing,
    /// Deliver whole frames, unparsed: for machines that answer for MACs of their own.
    whole: bool,
}

const fn step(code: u16, k: u32, jt: u8, jf: u8) -> Filter {
    Filter { code, jt, jf, k }
}
const fn load_byte(at: u32) -> Filter {
    step(0x30, at, 0, 0)
}
const fn load_half(at: u32) -> Filter {
    step(0x28, at, 0, 0)
}
/// Jumps forward by `jt` or `jf` steps.
const fn equal(k: u32, jt: u8, jf: u8) -> Filter {
    step(0x15, k, jt, jf)
}
const fn any_bit(k: u32, jt: u8, jf: u8) -> Filter {
    step(0x45, k, jt, jf)
}
/// x = 4 * (low nibble of the byte at `at`): the length of an IPv4 header.
const fn header_length(at: u32) -> Filter {
    step(0xb1, at, 0, 0)
}
/// Loads the 16 bits at x + `at`.
const fn load_half_behind(at: u32) -> Filter {
    step(0x48, at, 0, 0)
}
const ACCEPT: Filter = step(0x06, u32::MAX, 0, 0);
const DROP: Filter = step(0x06, 0, 0, 0);

/// ARP; unfragmented IPv4 UDP to ports 67 and 68; ICMPv6 type 133. A jump skips as many steps as it says.
const ETHERNET_FILTER: [Filter; 18] = [
    load_half(12),
    equal(0x0806, 14, 0), // ARP: accept
    equal(0x86dd, 9, 0),  // IPv6
    equal(0x0800, 0, 13), // neither: drop
    load_byte(23),
    equal(17, 0, 11), // not UDP: drop
    load_half(20),
    any_bit(0x3fff, 9, 0), // a fragment: drop
    header_length(14),
    load_half_behind(16),
    equal(67, 5, 0), // to a server
    equal(68, 4, 5), // to a client: other servers
    load_byte(20),   // next header
    equal(58, 0, 3), // not ICMPv6: drop
    load_byte(54),
    equal(133, 0, 1), // router solicitation
    ACCEPT,
    DROP,
];

/// The same for a cooked socket, IPv4 only: the frame begins with the IP header, the protocol comes from the kernel's notes.
const COOKED_FILTER: [Filter; 11] = [
    load_half(SKF_PROTOCOL),
    equal(0x0800, 0, 8),
    load_byte(9),
    equal(17, 0, 6),
    load_half(6),
    any_bit(0x3fff, 4, 0),
    header_length(0),
    load_half_behind(2),
    equal(67, 0, 1),
    ACCEPT,
    DROP,
];

/// SKF_AD_OFF + SKF_AD_PROTOCOL of `linux/filter.h`.
const SKF_PROTOCOL: u32 = (-0x1000i32) as u32;

/// Nothing passes: for sockets that only hold a port.
pub const DROP_ALL: [Filter; 1] = [DROP];

impl PacketSocket {
    /// The server's socket on a link.
    pub fn server(interface: &str, index: u32, hardware: Hardware) -> Result<PacketSocket, Error> {
        let framing = if hardware == Hardware::Ethernet { Framing::Raw } else { Framing::Cooked };
        PacketSocket::open(interface, index, framing, false)
    }

    /// A socket that sees and sends whole frames, whoever they are for.
    pub fn frames(link: &LinkFacts) -> Result<PacketSocket, Error> {
        PacketSocket::open(&link.name, link.index, Framing::Raw, true)
    }

    pub fn open(interface: &str, index: u32, framing: Framing, whole: bool) -> Result<PacketSocket, Error> {
        let failed = |error| {
            Error::system(
                format_args!("cannot open a packet socket on {interface}"),
                error,
                "run as root, or with CAP_NET_RAW and CAP_NET_ADMIN",
            )
        };
        let fd = sys::packet_socket(framing == Framing::Raw).map_err(failed)?;
        if !whole {
            let filter: &[Filter] = if framing == Framing::Raw { &ETHERNET_FILTER } else { &COOKED_FILTER };
            sys::attach_filter(fd.as_fd(), filter).map_err(failed)?;
        }
        sys::packet_options(fd.as_fd()).map_err(failed)?;
        let _ = sys::set_int_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1);
        let buffer = sys::set_receive_buffer(fd.as_fd(), RECEIVE_BUFFER);
        if buffer < RECEIVE_BUFFER {
            log::warn!(
                "{interface}: the receive buffer is {buffer} bytes, less than a storm needs: raise net.core.rmem_max to {RECEIVE_BUFFER}"
            );
        }
        sys::bind_packet(fd.as_fd(), index).map_err(failed)?;
        match (framing, whole) {
            (_, true) => sys::packet_membership(fd.as_fd(), index, None).map_err(failed)?,
            (Framing::Raw, false) => sys::packet_membership(fd.as_fd(), index, Some(ALL_ROUTERS)).map_err(failed)?,
            (Framing::Cooked, false) => {}
        }
        Ok(PacketSocket { fd, framing, whole })
    }

    /// Whether frames of our own making can leave here.
    pub fn is_raw(&self) -> bool {
        self.framing == Framing::Raw
    }

    /// What a received message means to a machine. None for what is nobody's business; the reason for what was dropped.
    pub fn input<'a>(&self, link: Link, received: &Received<'a>) -> Result<Input<'a>, Malformed> {
        // A frame of a VLAN belongs to the VLAN's interface; VLAN 0 is priority alone.
        if received.vlan.is_some_and(|tci| tci & 0xfff != 0) {
            return Err(Malformed::Other);
        }
        if self.whole {
            return Ok(Input::Frame { link, bytes: received.bytes });
        }
        let checksum = if received.checksum_pending { Checksum::Trusted } else { Checksum::Verify };
        let frame = match self.framing {
            Framing::Raw => ether::parse(received.bytes, checksum)?,
            Framing::Cooked => ether::parse_ip(received.bytes, crate::base::addr::Mac::ZERO, checksum)?,
        };
        match frame {
            Frame::Udp(udp) => {
                let mac = (self.framing == Framing::Raw).then_some(udp.src_mac);
                Ok(Input::Datagram(Datagram { link, mac, src: udp.src, dst: udp.dst, payload: udp.payload }))
            }
            // A probe claims nothing.
            Frame::Arp(arp) if arp.sender_ip.is_unspecified() => Err(Malformed::Other),
            Frame::Arp(arp) => Ok(Input::Arp { link, mac: arp.sender_mac, sender: arp.sender_ip }),
            Frame::RouterSolicit(solicit) => Ok(Input::RouterSolicit { link, mac: solicit.src_mac, source: solicit.src }),
        }
    }
}
