//! What is known of the machine's interfaces: plain data, gathered by the shell, used by the config.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::addr::Mac;

/// The kinds of network interfaces that can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hardware {
    /// Ethernet, and what behaves so: 6-byte hardware addresses.
    Ethernet,
    /// IP over InfiniBand: 20-byte hardware addresses, identity by client-id (RFC 4390).
    Infiniband,
}

/// One interface. Those that are neither Ethernet (or loopback, which behaves so) nor InfiniBand are not listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkFacts {
    /// The kernel's name, such as `eth1`.
    pub name: String,
    /// The kernel's interface index; 0: it is not there.
    pub index: u32,
    /// The kind of hardware addresses.
    pub hardware: Hardware,
    /// Zero on InfiniBand.
    pub mac: Mac,
    /// Bytes of an IP packet.
    pub mtu: u32,
    /// Bits per second, where the device knows.
    pub rate: Option<u64>,
    /// Addresses with their prefix lengths, in the kernel's order.
    pub addresses: Vec<(Ipv4Addr, u8)>,
    /// The first link-local IPv6 address.
    pub link_local: Option<Ipv6Addr>,
    /// The router of a route through this interface that covers everything.
    pub gateway: Option<Ipv4Addr>,
    /// Whether an IPv4 default route leaves by this interface.
    pub default_route: bool,
    /// Whether it is the loopback interface.
    pub loopback: bool,
    /// Administratively up.
    pub up: bool,
    /// Somebody is at the other end of its cable. Not known while it is down.
    pub carrier: bool,
    /// The bridge, bond or team that it is a part of, and that gets its frames.
    pub master: Option<String>,
}

impl LinkFacts {
    /// An interface that is not there.
    pub fn absent(name: &str) -> LinkFacts {
        LinkFacts {
            name: name.into(),
            index: 0,
            hardware: Hardware::Ethernet,
            mac: Mac::ZERO,
            mtu: 1500,
            rate: None,
            addresses: Vec::new(),
            link_local: None,
            gateway: None,
            default_route: false,
            loopback: false,
            up: false,
            carrier: false,
            master: None,
        }
    }

    /// An Ethernet interface that is up and plugged in, and has no address.
    pub fn ethernet(name: &str, index: u32, mac: Mac) -> LinkFacts {
        LinkFacts { index, mac, up: true, carrier: true, ..LinkFacts::absent(name) }
    }

    /// Whether it is there, whatever its state.
    pub fn is_there(&self) -> bool {
        self.index != 0
    }
}
