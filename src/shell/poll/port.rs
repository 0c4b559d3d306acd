//! A link as the loop sees it.

use crate::base::addr::Mac;
use crate::base::facts::LinkFacts;
use crate::base::machine::{Datagram, Input, Link};
use crate::base::outbox::Via;
use crate::wire::ether::FrameError;

use super::super::packet::PacketSocket;
use super::super::sys::Received;
use super::super::udp::UdpSocket;
use super::Losses;

/// How a link looks from the loop.
pub struct LinkPort {
    pub packet: PacketSocket,
    pub index: u32,
    pub mac: Mac,
    /// Bytes of an IP packet.
    pub mtu: u32,
    pub segment: bool,
    /// The ring had more to give than one turn takes: it may have overflowed since.
    pub behind: bool,
    /// What the machine has not received yet.
    pub refused: u32,
    pub overrun: u32,
    /// How many frames the kernel has dropped of a socket without a ring, in all.
    pub lost: u32,
}

impl LinkPort {
    /// Where a frame of our own making around `len` bytes goes; None: the kernel sends the packet.
    pub fn destination(&self, via: Via, len: usize) -> Option<Mac> {
        let destination = match via {
            Via::Mac(mac) => Some(mac),
            Via::Broadcast => Some(Mac::BROADCAST),
            Via::Kernel => None,
        };
        destination.filter(|_| self.packet.is_raw() && len + 20 + 8 <= self.mtu as usize)
    }

    pub fn new(packet: PacketSocket, facts: &LinkFacts) -> LinkPort {
        let &LinkFacts { index, mac, mtu, .. } = facts;
        LinkPort { packet, index, mac, mtu, segment: false, behind: false, refused: 0, overrun: 0, lost: 0 }
    }
}

/// What a received message means to the machine; None: it is dropped, and counted.
pub fn judge<'a>(
    links: &[LinkPort],
    link: Link,
    socket: Option<&UdpSocket>,
    received: &Received<'a>,
    losses: &mut Losses,
) -> Option<Input<'a>> {
    if received.truncated {
        losses.truncated += 1;
        return None;
    }
    let input = match (socket, links.get(usize::from(link))) {
        (Some(socket), _) => {
            let datagram = |src| Datagram { endpoint: socket.endpoint, mac: None, src, dst: socket.local, payload: received.bytes };
            received.from.map(datagram).map(Input::Datagram).ok_or(FrameError::Other)
        }
        (None, Some(port)) => port.packet.input(link, received),
        (None, None) => return None,
    };
    match input {
        Ok(Input::Arp { mac, .. }) if links.iter().any(|link| link.mac == mac) => None,
        Ok(input) => Some(input),
        Err(why) => {
            losses.malformed[why as usize] += 1;
            None
        }
    }
}

/// Says by which way a link's packets come and go.
pub fn tell_path(interface: &str, port: &LinkPort) {
    let received = match &port.packet.ring {
        Some(ring) => format!("receives through a ring of {} frames", ring.frames()),
        None => "receives by system calls".into(),
    };
    let windows = if port.segment { "cut up by the kernel (UDP_SEGMENT)" } else { "sent packet by packet" };
    log::info!("{interface}: {received}; windows are {windows}");
}
