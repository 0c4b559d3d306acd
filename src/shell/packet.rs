//! Packet sockets: one for each boot interface. A filter in the kernel lets in what the endpoints of the link, ARP and router solicitations
//! need; frames leave with headers of our own, so that neither route nor ARP is asked for a machine that has no address yet
//! or does not answer while it loads. Frames come in through a ring where the kernel has one to give. The host's packet filter sees
//! nothing of what goes this way.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};

use crate::base::endpoint::{Endpoint, EndpointId, Transport};
use crate::base::facts::{Hardware, LinkFacts};
use crate::base::machine::{Datagram, Input, Link};
use crate::wire::ether::{self, Checksum, Frame, FrameError};

use super::ShellError;
use super::sys::{self, Filter, Received, ring::Ring};

/// What a socket without a ring may queue: a storm of DISCOVERs arrives within milliseconds.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Places of the rings of all links together (16 MiB), and the least that one has: a thousand machines at once.
const RING_FRAMES: usize = 8192;
const RING_FRAMES_MIN: usize = 1024;
/// What may wait for the device: a turn's frames, as the kernel reckons them.
const SEND_BUFFER: usize = 4 << 20;
/// Where IPv6 router solicitations go.
const ALL_ROUTERS: [u8; 6] = [0x33, 0x33, 0, 0, 0, 2];

/// How frames begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkHeader {
    /// With the Ethernet header.
    Raw,
    /// With the IP header: links whose headers are not Ethernet's.
    Cooked,
}

pub struct PacketSocket {
    pub fd: OwnedFd,
    interface: String,
    framing: LinkHeader,
    /// Deliver whole frames, unparsed: for machines that answer for MACs of their own.
    whole: bool,
    /// Where frames are received; without it they are by `recvmmsg`.
    pub ring: Option<Ring>,
    /// The UDP ports that are heard, and whose they are; in order.
    ports: Vec<(u16, EndpointId)>,
}

/// What a socket is to become.
struct Opening<'a> {
    interface: &'a str,
    index: u32,
    framing: LinkHeader,
    /// Places of its ring; 0: none.
    frames: usize,
}

impl PacketSocket {
    /// Why it hears nothing any more, once its interface was deleted: one that is down, or without its cable, comes back by itself.
    pub fn death(&self) -> Option<ShellError> {
        // The kernel reports that an interface goes down, and not that it is deleted then: its index here becomes -1.
        let gone = sys::bound_index(self.fd.as_fd()).is_ok_and(|index| index == -1);
        let sentence = || format!("interface {} was removed: start musterd again when it is back (a supervisor does)", self.interface);
        gone.then(|| ShellError::new(sentence()))
    }
}

impl Opening<'_> {
    /// Without a filter the socket takes whole frames, whoever they are for.
    fn open(&self, filter: Option<&[Filter]>, multicast: Option<[u8; 6]>) -> Result<PacketSocket, ShellError> {
        let failed = |error| {
            ShellError::system(
                format_args!("cannot open a packet socket on {}", self.interface),
                error,
                "run as root, or with CAP_NET_RAW and CAP_NET_ADMIN",
            )
        };
        let fd = sys::packet_socket(self.framing == LinkHeader::Raw).map_err(failed)?;
        if let Some(filter) = filter {
            sys::attach_filter(fd.as_fd(), filter).map_err(failed)?;
        }
        sys::packet_options(fd.as_fd()).map_err(failed)?;
        let ring = self.ring(&fd);
        if ring.is_none() {
            self.enlarge_queue(&fd);
        }
        sys::set_send_buffer(fd.as_fd(), SEND_BUFFER);
        sys::bind_packet(fd.as_fd(), self.index).map_err(failed)?;
        match multicast {
            None if filter.is_none() => sys::packet_membership(fd.as_fd(), self.index, None).map_err(failed)?,
            None => {}
            some => sys::packet_membership(fd.as_fd(), self.index, some).map_err(failed)?,
        }
        let interface = self.interface.into();
        Ok(PacketSocket { fd, interface, framing: self.framing, whole: filter.is_none(), ring, ports: Vec::new() })
    }

    fn ring(&self, fd: &OwnedFd) -> Option<Ring> {
        if self.frames == 0 {
            return None;
        }
        match Ring::new(fd.as_fd(), self.frames) {
            Ok(ring) => Some(ring),
            Err(error) => {
                log::warn!("{}: receives by system calls, which is slower (no packet ring: {error})", self.interface);
                None
            }
        }
    }

    fn enlarge_queue(&self, fd: &OwnedFd) {
        let _ = sys::set_int_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1);
        let buffer = sys::set_receive_buffer(fd.as_fd(), RECEIVE_BUFFER);
        if buffer < RECEIVE_BUFFER {
            log::warn!(
                "{}: receive buffer of {buffer} bytes is too small for a storm (raise net.core.rmem_max to {RECEIVE_BUFFER})",
                self.interface
            );
        }
    }
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

const fn load_word(at: u32) -> Filter {
    step(0x20, at, 0, 0)
}

/// What one link's filter lets in.
#[derive(Default)]
struct Ports {
    /// UDP ports whoever the frame is for.
    any: Vec<u16>,
    /// Ranges of UDP ports of `head`, in frames to this machine alone.
    own: Vec<(u16, u16)>,
    head: Option<Ipv4Addr>,
}

impl Ports {
    fn of(table: &[Endpoint], link: Link) -> Ports {
        let mut ports = Ports::default();
        for row in table.iter().filter(|row| row.link == Some(link)) {
            let port = row.address.port();
            match row.transport {
                Transport::Udp => {
                    ports.head = Some(*row.address.ip());
                    match ports.own.last_mut().filter(|(_, last)| last.checked_add(1) == Some(port)) {
                        Some((_, last)) => *last = port,
                        None => ports.own.push((port, port)),
                    }
                }
                Transport::Broadcast | Transport::Overheard => ports.any.push(port),
                _ => {}
            }
        }
        ports
    }

    /// ARP; unfragmented IPv4 UDP to these ports; and where there are own ones, which means a server, ICMPv6 type 133. Jumps forward skip
    /// as many steps as they say. None: more than one filter may hold.
    fn ethernet(&self) -> Option<Vec<Filter>> {
        // The ports; then to drop, the check of the head, that of IPv6, and the ends.
        let (ports, behind) = (self.any.len() + 2 * self.own.len(), 10);
        let (drop, host, ipv6) = (behind + ports, behind + ports + 1, behind + ports + 5);
        let (accept, last) = (ipv6 + 4, ipv6 + 5);
        let to = |from: usize, to: usize| u8::try_from(to - from - 1).ok();
        let server = self.head.is_some();
        let mut program = vec![
            load_half(12),
            equal(0x0806, to(1, accept)?, 0),
            equal(0x86dd, to(2, if server { ipv6 } else { last })?, 0),
            equal(0x0800, 0, to(3, last)?),
            load_byte(23),
            equal(17, 0, to(5, last)?), // not UDP
            load_half(20),
            any_bit(0x3fff, to(7, last)?, 0), // a fragment
            header_length(14),
            load_half_behind(16),
        ];
        for port in &self.any {
            program.push(equal((*port).into(), to(program.len(), accept)?, 0));
        }
        for (first, last) in &self.own {
            program.push(at_least((*first).into(), 0, 1));
            program.push(greater((*last).into(), 0, to(program.len(), host)?));
        }
        debug_assert_eq!(program.len(), drop);
        program.extend([
            DROP,
            load_word(30),
            equal(self.head.map_or(0, Ipv4Addr::to_bits), 0, to(host + 1, last)?),
            load_word(SKF_PACKET_TYPE),
            equal(PACKET_HOST, to(host + 3, accept)?, to(host + 3, last)?), // for others
            load_byte(20),                                                  // next header
            equal(58, 0, 3),                                                // not ICMPv6
            load_byte(54),
            equal(133, 0, 1), // router solicitation
            ACCEPT,
            DROP,
        ]);
        Some(program)
    }

    /// The same for a cooked socket, IPv4 only and of what is broadcast: the frame begins with the IP header, the protocol comes from the
    /// kernel's notes.
    fn cooked(table: &[Endpoint], link: Link) -> Option<Vec<Filter>> {
        let own = |row: &&Endpoint| row.link == Some(link) && row.transport == Transport::Broadcast;
        let ports: Vec<u16> = table.iter().filter(own).map(|row| row.address.port()).collect();
        let drop = u8::try_from(8 + ports.len()).ok()?;
        let mut program = vec![
            load_half(SKF_PROTOCOL),
            equal(0x0800, 0, drop - 2),
            load_byte(9),
            equal(17, 0, drop - 4),
            load_half(6),
            any_bit(0x3fff, drop - 6, 0),
            header_length(0),
            load_half_behind(2),
        ];
        program.extend((0..).zip(&ports).map(|(at, port)| equal((*port).into(), drop - 8 - at, 0)));
        program.extend([DROP, ACCEPT]);
        Some(program)
    }
}

/// Jumps by `jt` when the value is at least `k`.
const fn at_least(k: u32, jt: u8, jf: u8) -> Filter {
    step(0x35, k, jt, jf)
}
/// Jumps by `jt` when the value is greater than `k`.
const fn greater(k: u32, jt: u8, jf: u8) -> Filter {
    step(0x25, k, jt, jf)
}

/// SKF_AD_OFF + SKF_AD_PROTOCOL of `linux/filter.h`.
const SKF_PROTOCOL: u32 = (-0x1000i32) as u32;

/// SKF_AD_OFF + SKF_AD_PKTTYPE.
const SKF_PACKET_TYPE: u32 = (-0x1000i32 + 4) as u32;
/// The frame is for this machine alone (`linux/if_packet.h`).
const PACKET_HOST: u32 = 0;

/// Nothing passes: for sockets that only hold a port.
pub const DROP_ALL: [Filter; 1] = [DROP];

/// The UDP ports of a link, and whose they are; in order.
fn table_of(table: &[Endpoint], link: Link) -> Vec<(u16, EndpointId)> {
    let own = (0..).zip(table).filter(|(_, row)| row.link == Some(link) && row.transport.streams().is_none());
    let mut ports: Vec<_> = own.map(|(at, row)| (row.address.port(), at)).collect();
    ports.sort_unstable();
    ports
}

impl PacketSocket {
    /// The socket by which a link's endpoints are heard: one of `links`, which share the room for rings.
    pub fn server(link: (Link, &LinkFacts), table: &[Endpoint], links: usize, ring: bool) -> Result<PacketSocket, ShellError> {
        let (at, facts) = link;
        let (framing, frames) = match facts.hardware {
            Hardware::Ethernet => (LinkHeader::Raw, if ring { (RING_FRAMES / links.max(1)).max(RING_FRAMES_MIN) } else { 0 }),
            Hardware::Infiniband => (LinkHeader::Cooked, 0),
        };
        let ports = Ports::of(table, at);
        let filter = if framing == LinkHeader::Raw { ports.ethernet() } else { Ports::cooked(table, at) };
        let filter = filter.ok_or_else(|| ShellError::new(format!("{}: too many ports for a packet filter", facts.name)))?;
        let solicits = framing == LinkHeader::Raw && ports.head.is_some();
        let socket = Opening { interface: &facts.name, index: facts.index, framing, frames };
        let mut socket = socket.open(Some(&filter), solicits.then_some(ALL_ROUTERS))?;
        socket.ports = table_of(table, at);
        Ok(socket)
    }

    /// A socket that sees and sends whole frames, whoever they are for.
    pub fn frames(link: &LinkFacts) -> Result<PacketSocket, ShellError> {
        Opening { interface: &link.name, index: link.index, framing: LinkHeader::Raw, frames: RING_FRAMES }.open(None, None)
    }

    /// Whether frames of our own making can leave here.
    pub fn is_raw(&self) -> bool {
        self.framing == LinkHeader::Raw
    }

    /// What a received message means to a machine. None for what is nobody's business; the reason for what was dropped.
    pub fn input<'a>(&self, link: Link, received: &Received<'a>) -> Result<Input<'a>, FrameError> {
        // A frame of a VLAN belongs to the VLAN's interface; VLAN 0 is priority alone.
        if received.vlan.is_some_and(|tci| tci & 0xfff != 0) {
            return Err(FrameError::Other);
        }
        if self.whole {
            return Ok(Input::Frame { link, bytes: received.bytes });
        }
        let checksum = if received.checksum_pending { Checksum::Trusted } else { Checksum::Verify };
        let frame = match self.framing {
            LinkHeader::Raw => ether::parse(received.bytes, checksum)?,
            LinkHeader::Cooked => ether::parse_ip(received.bytes, crate::base::addr::Mac::ZERO, checksum)?,
        };
        match frame {
            Frame::Udp(udp) => {
                let mac = (self.framing == LinkHeader::Raw).then_some(udp.src_mac);
                let at = self.ports.binary_search_by_key(&udp.dst.port(), |(port, _)| *port).map_err(|_| FrameError::Other)?;
                let (_, endpoint) = *self.ports.get(at).ok_or(FrameError::Other)?;
                Ok(Input::Datagram(Datagram { endpoint, mac, src: udp.src, dst: udp.dst, payload: udp.payload }))
            }
            // A probe claims nothing.
            Frame::Arp(arp) if arp.sender_ip.is_unspecified() => Err(FrameError::Other),
            Frame::Arp(arp) => Ok(Input::Arp { link, mac: arp.sender_mac, sender: arp.sender_ip }),
            Frame::RouterSolicit(_) => Ok(Input::Frame { link, bytes: received.bytes }),
        }
    }
}
