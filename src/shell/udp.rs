//! UDP sockets: on each link port 67, port 69 and the TFTP pool, all opened at start. No machine that boots costs a descriptor.
//!
//! They are bound so that the kernel sends no ICMP and a second server is noticed. What arrives on port 67, and on Ethernet on every port,
//! comes through the packet socket, so a filter keeps those sockets empty. They send what the kernel must route or cut into packets:
//! replies to relays and to clients behind routers, and windows.

use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, OwnedFd};

use crate::base::facts::Hardware;
use crate::base::machine::Link;
use crate::config::{Config, LinkConfig};

use super::Error;
use super::packet::DROP_ALL;
use super::sys;

const DHCP: u16 = 67;
const TFTP: u16 = 69;
/// Acknowledgements of a thousand machines in one window.
const RECEIVE_BUFFER: usize = 4 << 20;
/// What may wait for the device: a turn's windows, as the kernel reckons them.
const SEND_BUFFER: usize = 4 << 20;

pub struct UdpSocket {
    pub fd: OwnedFd,
    pub link: Link,
    pub local: SocketAddrV4,
    /// It is kept empty by its filter.
    pub mute: bool,
}

/// Opens the sockets of all links: for each link port 67, then 69, then the pool in order.
pub fn open_all(config: &Config) -> Result<Vec<UdpSocket>, Error> {
    let mut sockets = Vec::new();
    for (at, link) in config.links.iter().enumerate() {
        let (first, last) = config.tftp.ports;
        for port in [DHCP, TFTP].into_iter().chain(first..=last) {
            sockets.push(open(at as Link, link, port)?);
        }
    }
    Ok(sockets)
}

/// How many sockets each link has.
pub fn per_link(config: &Config) -> usize {
    3 + usize::from(config.tftp.ports.1 - config.tftp.ports.0)
}

fn open(link: Link, config: &LinkConfig, port: u16) -> Result<UdpSocket, Error> {
    let local = SocketAddrV4::new(config.head, port);
    let fd = try_open(config, local).map_err(|error| refused(config, local, &error))?;
    Ok(UdpSocket { fd, link, local, mute: mute(config, port) })
}

/// Whether the packet socket hears what this one would.
fn mute(config: &LinkConfig, port: u16) -> bool {
    port == DHCP || config.hardware == Hardware::Ethernet
}

fn try_open(config: &LinkConfig, local: SocketAddrV4) -> io::Result<OwnedFd> {
    let fd = sys::udp_socket()?;
    sys::set_send_buffer(fd.as_fd(), SEND_BUFFER);
    if local.port() == DHCP && config.hardware == Hardware::Infiniband {
        sys::set_int_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_BROADCAST, 1)?;
    }
    if mute(config, local.port()) {
        sys::attach_filter(fd.as_fd(), &DROP_ALL)?;
    } else {
        sys::set_receive_buffer(fd.as_fd(), RECEIVE_BUFFER);
        sys::set_int_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
    }
    sys::bind_to_device(fd.as_fd(), &config.interface)?;
    sys::bind_udp(fd.as_fd(), local)?;
    Ok(fd)
}

/// Binds a port on an interface, and hears nothing on it.
pub fn hold(interface: &str, port: u16) -> io::Result<UdpSocket> {
    let local = SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, port);
    let fd = sys::udp_socket()?;
    sys::attach_filter(fd.as_fd(), &DROP_ALL)?;
    sys::bind_to_device(fd.as_fd(), interface)?;
    sys::bind_udp(fd.as_fd(), local)?;
    Ok(UdpSocket { fd, link: 0, local, mute: true })
}

fn refused(config: &LinkConfig, local: SocketAddrV4, error: &io::Error) -> Error {
    let what = format!("cannot bind UDP {local} on {}", config.interface);
    let remedy = match (error.raw_os_error(), local.port()) {
        (Some(libc::EADDRINUSE), DHCP) => "another DHCP server is running: stop it (ss -ulpn shows it)",
        (Some(libc::EADDRINUSE), TFTP) => "another TFTP server is running: stop it (ss -ulpn shows it)",
        (Some(libc::EADDRINUSE), _) => "another program uses a port of the TFTP pool: choose another range with tftp.ports",
        (Some(libc::EADDRNOTAVAIL), _) => "the interface does not have this address any more",
        (Some(libc::EPERM | libc::EACCES), _) => "run as root, or with CAP_NET_BIND_SERVICE and CAP_NET_RAW",
        _ => "",
    };
    Error::system(what, error, remedy)
}
