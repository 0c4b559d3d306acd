//! A machine's own interfaces, by netlink: what there is, up and down, addresses, default routes. For programs that configure the machine
//! they run on (`muster-in`); the daemon changes none of it.
//!
//! Each call waits for the kernel's answer, which comes at once ([`super::netlink`]).

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, CacheInfo};
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::base::addr::Mac;

use super::ShellError;
use super::netlink::{
    ADDRESS_HEADER, Attributes, LINK_HEADER, Netlink, ROUTE_HEADER, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWROUTE, half, ip, name, word,
};

/// Attributes of `linux/rtnetlink.h`, `linux/if_link.h` and `linux/if_addr.h`.
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_PERM_ADDRESS: u16 = 54;
const IFA_LOCAL: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTN_UNICAST: u8 = 1;
const RTPROT_DHCP: u8 = 16;
const ARPHRD_ETHER: u16 = 1;

/// An Ethernet interface, physical or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's interface index.
    pub index: u32,
    /// The kernel's name, such as `eth0`.
    pub name: String,
    /// The address that it uses now.
    pub mac: Mac,
    /// The address that the card was made with, where the driver knows it.
    pub permanent: Option<Mac>,
    /// Bytes of an IP packet.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// A cable with somebody at its other end. Not known while it is down.
    pub carrier: bool,
}

/// An IPv4 address of an interface, with its prefix length.
pub type PrefixedAddress = (Ipv4Addr, u8);

/// A default route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultRoute {
    /// The interface that it leaves by.
    pub index: u32,
    /// The router.
    pub gateway: Ipv4Addr,
    /// 0 is the best.
    pub metric: u32,
    /// It was set from a DHCP lease (RTPROT_DHCP).
    pub leased: bool,
}

/// A netlink socket.
pub struct Interfaces(Netlink);

impl Interfaces {
    /// Opens the socket. An error says why the kernel gives none.
    pub fn open() -> Result<Interfaces, ShellError> {
        Netlink::open().map(Interfaces)
    }

    /// All Ethernet interfaces but loopback, in the kernel's order.
    pub fn list(&mut self) -> Result<Vec<Interface>, ShellError> {
        let mut found = Vec::new();
        let dump = self.0.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), |kind, body| {
            found.extend(interface(body).filter(|_| kind == RTM_NEWLINK));
        });
        dump.map(drop).map_err(|error| ShellError::system("cannot list the network interfaces", error, ""))?;
        Ok(found)
    }

    /// Sets an interface administratively up or down.
    pub fn set_up(&mut self, interface: &Interface, up: bool) -> Result<(), ShellError> {
        let mut message = LinkMessage::default();
        message.header.index = interface.index;
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        let result = self.0.request(RouteNetlinkMessage::SetLink(message), 0);
        let what = if up { "up" } else { "down" };
        result.map_err(|error| {
            ShellError::system(format_args!("cannot set {} {what}", interface.name), error, "run as root, or with CAP_NET_ADMIN")
        })
    }

    /// The IPv4 addresses of an interface, in the kernel's order.
    pub fn addresses(&mut self, index: u32) -> Result<Vec<PrefixedAddress>, ShellError> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        let mut found = Vec::new();
        let dump = self.0.dump(RouteNetlinkMessage::GetAddress(message), |kind, body| {
            found.extend(address(body).filter(|(of, _)| kind == RTM_NEWADDR && *of == index).map(|(_, address)| address));
        });
        dump.map(drop).map_err(|error| ShellError::system("cannot list the addresses", error, ""))?;
        Ok(found)
    }

    /// Sets an address, or its lifetime again. The kernel itself drops it when `lifetime` is over.
    pub fn set_address(
        &mut self,
        index: u32,
        at: PrefixedAddress,
        broadcast: Option<Ipv4Addr>,
        lifetime: Option<Duration>,
    ) -> io::Result<()> {
        let mut message = address_message(index, at);
        message.attributes.extend(broadcast.map(AddressAttribute::Broadcast));
        let mut cache = CacheInfo::default();
        // All ones never end.
        let seconds = lifetime.map_or(u32::MAX, |lifetime| u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX).max(1));
        (cache.ifa_preferred, cache.ifa_valid) = (seconds, seconds);
        message.attributes.push(AddressAttribute::CacheInfo(cache));
        message.attributes.push(AddressAttribute::Flags(AddressFlags::empty()));
        self.0.request(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Removes an address; one that has gone already is no failure.
    pub fn remove_address(&mut self, index: u32, at: PrefixedAddress) -> io::Result<()> {
        gone(self.0.request(RouteNetlinkMessage::DelAddress(address_message(index, at)), 0))
    }

    /// The IPv4 default routes with one gateway each.
    pub fn default_routes(&mut self) -> io::Result<Vec<DefaultRoute>> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        let mut found = Vec::new();
        self.0.dump(RouteNetlinkMessage::GetRoute(message), |kind, body| {
            found.extend(default_route(body).filter(|_| kind == RTM_NEWROUTE));
        })?;
        Ok(found)
    }

    /// Adds a default route behind those that are as good.
    pub fn add_default_route(&mut self, route: DefaultRoute) -> io::Result<()> {
        let message = || RouteNetlinkMessage::NewRoute(route_message(route));
        match self.0.request(message(), NLM_F_CREATE | NLM_F_EXCL) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => self.0.request(message(), NLM_F_CREATE | NLM_F_APPEND),
            result => result,
        }
    }

    /// Removes a default route; one that is not there is an error.
    pub fn remove_default_route(&mut self, route: DefaultRoute) -> io::Result<()> {
        gone(self.0.request(RouteNetlinkMessage::DelRoute(route_message(route)), 0))
    }
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::ESRCH | libc::ENODEV)) => Ok(()),
        result => result,
    }
}

/// Reads an RTM_NEWLINK; None for what is no Ethernet interface.
fn interface(body: &[u8]) -> Option<Interface> {
    let flags = LinkFlags::from_bits_retain(word(body, 8));
    if half(body, 2) != ARPHRD_ETHER {
        return None;
    }
    let mac = |bytes: &[u8]| bytes.try_into().ok().map(Mac);
    let mut interface = Interface {
        index: word(body, 4),
        name: String::new(),
        mac: Mac::ZERO,
        permanent: None,
        mtu: 1500,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
    };
    for (kind, value) in Attributes::behind(body, LINK_HEADER) {
        match kind {
            IFLA_IFNAME => interface.name = String::from_utf8_lossy(name(value)).into_owned(),
            IFLA_ADDRESS => interface.mac = mac(value)?,
            IFLA_PERM_ADDRESS => interface.permanent = mac(value).filter(|mac| mac.is_individual()),
            IFLA_MTU => interface.mtu = word(value, 0),
            _ => {}
        }
    }
    Some(interface).filter(|interface| !interface.name.is_empty())
}

/// Reads an RTM_NEWADDR of IPv4: the interface, and its address.
fn address(body: &[u8]) -> Option<(u32, PrefixedAddress)> {
    let prefix = *body.get(1)?;
    let local = Attributes::behind(body, ADDRESS_HEADER).find(|(kind, _)| *kind == IFA_LOCAL)?;
    Some((word(body, 4), (ip(local.1)?, prefix)))
}

fn address_message(index: u32, (ip, prefix): PrefixedAddress) -> AddressMessage {
    let mut message = AddressMessage::default();
    (message.header.family, message.header.prefix_len, message.header.index) = (AddressFamily::Inet, prefix, index);
    message.attributes = vec![AddressAttribute::Local(ip.into()), AddressAttribute::Address(ip.into())];
    message
}

fn route_message(route: DefaultRoute) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    (header.address_family, header.table) = (AddressFamily::Inet, RouteHeader::RT_TABLE_MAIN);
    header.protocol = if route.leased { RouteProtocol::Dhcp } else { RouteProtocol::Unspec };
    (header.scope, header.kind) = (RouteScope::Universe, RouteType::Unicast);
    message.attributes = vec![RouteAttribute::Gateway(RouteAddress::Inet(route.gateway)), RouteAttribute::Oif(route.index)];
    if route.metric > 0 {
        message.attributes.push(RouteAttribute::Priority(route.metric));
    }
    message
}

/// Reads an RTM_NEWROUTE; None for what is no default route of the main table by one gateway.
fn default_route(body: &[u8]) -> Option<DefaultRoute> {
    let &[_, prefix, _, _, table, protocol, _, kind, ..] = body else { return None };
    if prefix != 0 || table != RouteHeader::RT_TABLE_MAIN || kind != RTN_UNICAST {
        return None;
    }
    let find = |wanted: u16| Attributes::behind(body, ROUTE_HEADER).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    Some(DefaultRoute {
        index: word(find(RTA_OIF)?, 0),
        gateway: ip(find(RTA_GATEWAY)?)?,
        metric: find(RTA_PRIORITY).map_or(0, |value| word(value, 0)),
        leased: protocol == RTPROT_DHCP,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::Emitable;
    use netlink_packet_route::link::{LinkAttribute, LinkLayerType};
    use proptest::prelude::*;

    fn bytes(message: &RouteNetlinkMessage) -> Vec<u8> {
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    #[test]
    fn what_the_kernel_tells_is_read() {
        let mut link = LinkMessage::default();
        (link.header.index, link.header.link_layer_type) = (7, LinkLayerType::Ether);
        link.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
        let (mac, permanent) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        link.attributes = vec![
            LinkAttribute::IfName("eth0".into()),
            LinkAttribute::Mtu(9000),
            LinkAttribute::Address(mac.0.to_vec()),
            LinkAttribute::PermAddress(permanent.0.to_vec()),
        ];
        let told = bytes(&RouteNetlinkMessage::NewLink(link.clone()));
        let expected = Interface { index: 7, name: "eth0".into(), mac, permanent: Some(permanent), mtu: 9000, up: true, carrier: true };
        assert_eq!(interface(&told), Some(expected));
        link.header.link_layer_type = LinkLayerType::Infiniband;
        assert_eq!(interface(&bytes(&RouteNetlinkMessage::NewLink(link))), None);

        let at = (Ipv4Addr::new(10, 54, 1, 17), 16);
        assert_eq!(address(&bytes(&RouteNetlinkMessage::NewAddress(address_message(7, at)))), Some((7, at)));
        for (metric, leased) in [(0, true), (5, true)] {
            let route = DefaultRoute { index: 7, gateway: [10, 54, 0, 1].into(), metric, leased };
            assert_eq!(default_route(&bytes(&RouteNetlinkMessage::NewRoute(route_message(route)))), Some(route));
        }
    }

    #[test]
    fn this_machine_is_listed() {
        let mut links = Interfaces::open().unwrap();
        assert!(links.list().unwrap().iter().all(|interface| interface.index > 0 && interface.name != "lo"));
        assert!(links.addresses(1).unwrap().contains(&(Ipv4Addr::LOCALHOST, 8)), "loopback is the first interface");
        assert!(links.default_routes().is_ok());
    }

    proptest! {
        #[test]
        fn any_message_is_survived(mut body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (address(&body), default_route(&body));
            if let Some(kind) = body.get_mut(2..4) {
                kind.copy_from_slice(&ARPHRD_ETHER.to_ne_bytes());
            }
            let _ = interface(&body);
        }
    }
}
