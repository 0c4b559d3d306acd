//! Packet sockets: one for each boot interface. A filter in the kernel lets in what the endpoints of the link, ARP and router solicitations
//! need; frames leave with headers of our own, so that neither route nor ARP is asked for a machine that has no address yet
//! or does not answer while it loads. Frames come in through a ring where the kernel has one to give. The host's packet filter sees
//! nothing of what goes this way.

pub mod filter;

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};

use crate::base::endpoint::{Endpoint, EndpointId};
use crate::base::facts::{Hardware, LinkFacts};
use crate::base::machine::{Datagram, Input, Link};
use crate::wire::ether::{self, Checksum, Frame, FrameError};

use super::ShellError;
use super::sys::{self, Filter, Received, ring::Ring};
use filter::Ports;

/// What a socket without a ring may queue: a storm of DISCOVERs arrives within milliseconds.
const RECEIVE_BUFFER: usize = 8 << 20;
/// Places of the rings of all links together (16 MiB), and the least that one has: a thousand machines at once.
const RING_FRAMES: usize = 8192;
const RING_FRAMES_MIN: usize = 1024;
/// What may wait for the device: a turn's frames, as the kernel reckons them.
const SEND_BUFFER: usize = 4 << 20;
/// Where IPv6 router solicitations go.
const ALL_ROUTERS: [u8; 6] = [0x33, 0x33, 0, 0, 0, 2];

const RIGHTS: &str = "run as root, or with CAP_NET_RAW and CAP_NET_ADMIN";

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
    /// Of the addresses of the head on the link, the ports that the kernel lets in.
    own: Vec<Ipv4Addr>,
    filter: Ports,
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
        let failed = |error| ShellError::system(format_args!("cannot open a packet socket on {}", self.interface), error, RIGHTS);
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
        Ok(PacketSocket { ring, whole: filter.is_none(), ..PacketSocket::of(fd, self.interface, self.framing) })
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

/// The UDP ports of a link, and whose they are; in order.
fn table_of(table: &[Endpoint], link: Link) -> Vec<(u16, EndpointId)> {
    let own = (0..).zip(table).filter(|(_, row)| row.link == Some(link) && row.transport.streams().is_none());
    let mut ports: Vec<_> = own.map(|(at, row)| (row.address.port(), at)).collect();
    ports.sort_unstable();
    ports
}

/// The addresses that a link's endpoints have in the table.
pub fn own_of(table: &[Endpoint], link: Link) -> Vec<Ipv4Addr> {
    let mut own: Vec<_> = table.iter().filter(|row| row.link == Some(link)).map(|row| *row.address.ip()).collect();
    own.sort_unstable();
    own.dedup();
    own
}

impl PacketSocket {
    /// The socket by which a link's endpoints are heard: one of `links`, which share the room for rings.
    pub fn server(link: (Link, &LinkFacts), table: &[Endpoint], links: usize, ring: bool) -> Result<PacketSocket, ShellError> {
        let (at, facts) = link;
        let (framing, frames) = match facts.hardware {
            Hardware::Ethernet => (LinkHeader::Raw, if ring { (RING_FRAMES / links.max(1)).max(RING_FRAMES_MIN) } else { 0 }),
            Hardware::Infiniband => (LinkHeader::Cooked, 0),
        };
        let (ports, own) = (Ports::of(table, at), own_of(table, at));
        let filter = if framing == LinkHeader::Raw { ports.ethernet(&own) } else { Ports::cooked(table, at) };
        let filter = filter.ok_or_else(|| ShellError::new(format!("{}: too many ports for a packet filter", facts.name)))?;
        let solicits = framing == LinkHeader::Raw && ports.is_server();
        let socket = Opening { interface: &facts.name, index: facts.index, framing, frames };
        let socket = socket.open(Some(&filter), solicits.then_some(ALL_ROUTERS))?;
        Ok(PacketSocket { ports: table_of(table, at), own, filter: ports, ..socket })
    }

    /// The same where the interface may be missing: then it hears nothing.
    pub fn of_link(link: (Link, &LinkFacts), table: &[Endpoint], links: usize, ring: bool) -> Result<PacketSocket, ShellError> {
        let (_, facts) = link;
        if facts.is_there() {
            return PacketSocket::server(link, table, links, ring);
        }
        let failed = |error| ShellError::system("cannot open a packet socket", error, RIGHTS);
        Ok(PacketSocket::of(sys::packet_socket(true).map_err(failed)?, &facts.name, LinkHeader::Raw))
    }

    fn of(fd: OwnedFd, interface: &str, framing: LinkHeader) -> PacketSocket {
        let (interface, filter) = (interface.into(), Ports::default());
        PacketSocket { fd, interface, framing, whole: false, ring: None, ports: Vec::new(), own: Vec::new(), filter }
    }

    /// The own addresses of the link are these from now on.
    pub fn set_addresses(&mut self, own: Vec<Ipv4Addr>) -> std::io::Result<()> {
        if own != self.own && self.is_raw() && self.filter.is_server() {
            let too_many = || std::io::Error::other("too many addresses and ports for a packet filter");
            sys::attach_filter(self.fd.as_fd(), &self.filter.ethernet(&own).ok_or_else(too_many)?)?;
        }
        self.own = own;
        Ok(())
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
