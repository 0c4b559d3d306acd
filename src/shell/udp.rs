//! UDP sockets: one for each endpoint of datagrams, all opened at start. No machine that boots costs a descriptor.
//!
//! Those of a link are bound so that the kernel sends no ICMP and a second server is noticed. What is broadcast, and on Ethernet everything,
//! comes through the packet socket, so a filter keeps those sockets empty. They send what the kernel must route or cut into packets:
//! replies to relays and to clients behind routers, and windows. Those of no link are bound to their address alone.

use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, OwnedFd};

use crate::base::endpoint::{Endpoint, EndpointId, Transport};
use crate::base::facts::{Hardware, LinkFacts};
use crate::base::machine::Link;

use super::left::LeftSockets;
use super::packet::filter::DROP_ALL;
use super::sys;

/// Of a link's sockets: acknowledgements of a thousand machines in one window; and a turn's windows, as the kernel reckons them.
const LINK_BUFFER: usize = 4 << 20;
/// Of others: a burst of questions, some thousands.
const OTHER_BUFFER: usize = 1 << 20;

pub struct UdpSocket {
    pub fd: OwnedFd,
    pub endpoint: EndpointId,
    pub link: Option<Link>,
    pub local: SocketAddrV4,
    /// It is kept empty by its filter.
    pub mute: bool,
    /// How many datagrams the kernel has dropped because its queue was full, in all.
    pub lost: u32,
}

/// Opens the sockets of a table, or adopts those that an earlier daemon has left: those of links first. Gives what cannot be opened.
pub fn open_all(table: &[Endpoint], links: &[LinkFacts], left: &mut LeftSockets) -> (Vec<UdpSocket>, Vec<(EndpointId, io::Error)>) {
    let (mut sockets, mut refused) = (Vec::new(), Vec::new());
    for of_links in [true, false] {
        for (at, row) in (0..).zip(table).filter(|(_, row)| row.link.is_some() == of_links && has_socket(&row.transport)) {
            let link = row.link.and_then(|link| links.get(usize::from(link)));
            let own = link.and_then(|link| left.adopt(row.address, link.index));
            match own.map_or_else(|| open(at, row, link), |fd| adopted(fd, at, row, link)) {
                Ok(socket) => sockets.push(socket),
                Err(error) => refused.push((at, error)),
            }
        }
    }
    (sockets, refused)
}

pub fn has_socket(transport: &Transport) -> bool {
    matches!(transport, Transport::Udp | Transport::Broadcast)
}

/// Opens the socket of an endpoint on its link. That of a link that is not there is bound to nothing.
pub fn open(endpoint: EndpointId, row: &Endpoint, link: Option<&LinkFacts>) -> io::Result<UdpSocket> {
    let fd = sys::udp_socket()?;
    if link.is_some_and(|link| !link.is_there()) {
        return Ok(UdpSocket { fd, endpoint, link: row.link, local: row.address, mute: true, lost: 0 });
    }
    let broadcast = row.transport == Transport::Broadcast;
    let mute = is_mute(row, link);
    sys::set_send_buffer(fd.as_fd(), if link.is_some() { LINK_BUFFER } else { OTHER_BUFFER });
    if broadcast && link.is_some_and(|link| link.hardware == Hardware::Infiniband) {
        sys::set_int_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_BROADCAST, 1)?;
    }
    if mute {
        sys::attach_filter(fd.as_fd(), &DROP_ALL)?;
    } else {
        sys::set_receive_buffer(fd.as_fd(), if link.is_some() { LINK_BUFFER } else { OTHER_BUFFER });
        sys::set_int_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
    }
    if let Some(link) = link {
        sys::bind_to_device(fd.as_fd(), &link.name)?;
    }
    // The interface may lose the address for a moment, or not have it yet; what may be served then is the machine's to know.
    sys::set_int_option(fd.as_fd(), libc::IPPROTO_IP, libc::IP_FREEBIND, 1)?;
    sys::bind_inet(fd.as_fd(), row.address)?;
    Ok(UdpSocket { fd, endpoint, link: row.link, local: row.address, mute, lost: 0 })
}

/// The socket of an earlier daemon, which is bound as this one is to be: the kernel told nobody in between that no program listens.
fn adopted(fd: OwnedFd, endpoint: EndpointId, row: &Endpoint, link: Option<&LinkFacts>) -> io::Result<UdpSocket> {
    let mute = is_mute(row, link);
    if mute {
        sys::attach_filter(fd.as_fd(), &DROP_ALL)?;
    }
    Ok(UdpSocket { fd, endpoint, link: row.link, local: row.address, mute, lost: 0 })
}

fn is_mute(row: &Endpoint, link: Option<&LinkFacts>) -> bool {
    link.is_some_and(|link| row.transport == Transport::Broadcast || link.hardware == Hardware::Ethernet)
}

/// What to do about an endpoint that could not be opened.
pub fn remedy(row: &Endpoint, error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => row.remedy,
        Some(libc::EPERM | libc::EACCES) => "run as root, or with CAP_NET_BIND_SERVICE and CAP_NET_RAW",
        _ => "",
    }
}
