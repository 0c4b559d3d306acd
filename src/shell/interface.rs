//! A machine's own interfaces, by netlink: what there is, up and down, addresses, default routes. For programs that configure the machine
//! they run on (`muster-in`); the daemon changes none of it.
//!
//! Each call waits for the kernel's answer, which comes at once. The netlink library allocates for each message.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, CacheInfo};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use crate::base::addr::Mac;

use super::Error;

/// An Ethernet interface, physical or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub index: u32,
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
pub type Address = (Ipv4Addr, u8);

/// A default route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefaultRoute {
    pub index: u32,
    pub gateway: Ipv4Addr,
    /// 0 is the best.
    pub metric: u32,
    /// It was set from a DHCP lease (RTPROT_DHCP).
    pub leased: bool,
}

/// A netlink socket.
pub struct Interfaces {
    socket: Socket,
    buf: Vec<u8>,
    sequence: u32,
}

impl Interfaces {
    pub fn open() -> Result<Interfaces, Error> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(Interfaces { socket, buf: vec![0; 64 * 1024], sequence: 0 })
        };
        open().map_err(|error: io::Error| Error::system("cannot open a netlink socket", error, ""))
    }

    /// All Ethernet interfaces but loopback, in the kernel's order.
    pub fn list(&mut self) -> Result<Vec<Interface>, Error> {
        let mut found = Vec::new();
        let dump = self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), |message| {
            if let RouteNetlinkMessage::NewLink(link) = message {
                found.extend(interface(&link));
            }
        });
        dump.map_err(|error| Error::system("cannot list the network interfaces", error, ""))?;
        Ok(found)
    }

    pub fn set_up(&mut self, interface: &Interface, up: bool) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = interface.index;
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        let result = self.request(RouteNetlinkMessage::SetLink(message), 0);
        let what = if up { "up" } else { "down" };
        result.map_err(|error| {
            Error::system(format_args!("cannot set {} {what}", interface.name), error, "run as root, or with CAP_NET_ADMIN")
        })
    }

    /// The IPv4 addresses of an interface, in the kernel's order.
    pub fn addresses(&mut self, index: u32) -> Result<Vec<Address>, Error> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        let mut found = Vec::new();
        let dump = self.dump(RouteNetlinkMessage::GetAddress(message), |message| match message {
            RouteNetlinkMessage::NewAddress(address) if address.header.index == index => {
                let local = address.attributes.iter().find_map(|attribute| match attribute {
                    AddressAttribute::Local(IpAddr::V4(ip)) => Some(*ip),
                    _ => None,
                });
                found.extend(local.map(|ip| (ip, address.header.prefix_len)));
            }
            _ => {}
        });
        dump.map_err(|error| Error::system("cannot list the addresses", error, ""))?;
        Ok(found)
    }

    /// Sets an address, or its lifetime anew. The kernel itself drops it when `lifetime` is over.
    pub fn set_address(&mut self, index: u32, at: Address, broadcast: Option<Ipv4Addr>, lifetime: Option<Duration>) -> io::Result<()> {
        let mut message = address_message(index, at);
        message.attributes.extend(broadcast.map(AddressAttribute::Broadcast));
        let mut cache = CacheInfo::default();
        // All ones never end.
        let seconds = lifetime.map_or(u32::MAX, |lifetime| u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX).max(1));
        (cache.ifa_preferred, cache.ifa_valid) = (seconds, seconds);
        message.attributes.push(AddressAttribute::CacheInfo(cache));
        message.attributes.push(AddressAttribute::Flags(AddressFlags::empty()));
        self.request(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Removes an address; one that has gone already is no failure.
    pub fn remove_address(&mut self, index: u32, at: Address) -> io::Result<()> {
        gone(self.request(RouteNetlinkMessage::DelAddress(address_message(index, at)), 0))
    }

    /// The IPv4 default routes with one gateway each.
    pub fn default_routes(&mut self) -> io::Result<Vec<DefaultRoute>> {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        let mut found = Vec::new();
        self.dump(RouteNetlinkMessage::GetRoute(message), |message| {
            if let RouteNetlinkMessage::NewRoute(route) = message {
                found.extend(default_route(&route));
            }
        })?;
        Ok(found)
    }

    /// Adds a default route behind those that are as good.
    pub fn add_default_route(&mut self, route: DefaultRoute) -> io::Result<()> {
        let message = || RouteNetlinkMessage::NewRoute(route_message(route));
        match self.request(message(), NLM_F_CREATE | NLM_F_EXCL) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => self.request(message(), NLM_F_CREATE | NLM_F_APPEND),
            result => result,
        }
    }

    pub fn remove_default_route(&mut self, route: DefaultRoute) -> io::Result<()> {
        gone(self.request(RouteNetlinkMessage::DelRoute(route_message(route)), 0))
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        self.sequence = self.sequence.wrapping_add(1);
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let len = request.header.length as usize;
        let Some(bytes) = self.buf.get_mut(..len) else { return Err(io::ErrorKind::InvalidInput.into()) };
        request.serialize(bytes);
        self.socket.send(bytes, 0).map(drop)
    }

    /// Changes something, and waits for the kernel's word on it.
    fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.send(message, NLM_F_ACK | flags)?;
        self.answers(|_| {})
    }

    fn dump(&mut self, message: RouteNetlinkMessage, each: impl FnMut(RouteNetlinkMessage)) -> io::Result<()> {
        self.send(message, NLM_F_DUMP)?;
        self.answers(each)
    }

    /// Takes what the kernel answers to the last message, up to its end or its refusal. What cannot be read is passed over: it is
    /// something of an interface or a route that is none of ours.
    fn answers(&mut self, mut each: impl FnMut(RouteNetlinkMessage)) -> io::Result<()> {
        loop {
            let mut rest = self.buf.as_mut_slice();
            let got = self.socket.recv(&mut rest, 0)?;
            let mut at = 0;
            while let Some(bytes) = self.buf.get(at..got).filter(|bytes| bytes.len() >= 16) {
                let word = |from: usize| bytes.get(from..from + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_ne_bytes);
                let (len, sequence) = (word(0) as usize, word(8));
                at += len.next_multiple_of(4).max(16);
                let Some(bytes) = bytes.get(..len).filter(|_| sequence == self.sequence) else { continue };
                match NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes).map(|message| message.payload) {
                    Ok(NetlinkPayload::InnerMessage(message)) => each(message),
                    Ok(NetlinkPayload::Done(_)) => return Ok(()),
                    Ok(NetlinkPayload::Error(error)) if error.code.is_some() => return Err(error.to_io()),
                    Ok(NetlinkPayload::Error(_)) => return Ok(()),
                    Ok(_) | Err(_) => {}
                }
            }
        }
    }
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::ESRCH | libc::ENODEV)) => Ok(()),
        result => result,
    }
}

fn interface(link: &LinkMessage) -> Option<Interface> {
    if link.header.link_layer_type != LinkLayerType::Ether {
        return None;
    }
    let mac = |bytes: &[u8]| bytes.try_into().ok().map(Mac);
    let mut interface = Interface {
        index: link.header.index,
        name: String::new(),
        mac: Mac::ZERO,
        permanent: None,
        mtu: 1500,
        up: link.header.flags.contains(LinkFlags::Up),
        carrier: link.header.flags.contains(LinkFlags::LowerUp),
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name.clone_from(name),
            LinkAttribute::Address(bytes) => interface.mac = mac(bytes)?,
            LinkAttribute::PermAddress(bytes) => interface.permanent = mac(bytes).filter(|mac| mac.is_individual()),
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            _ => {}
        }
    }
    Some(interface).filter(|interface| !interface.name.is_empty())
}

fn address_message(index: u32, (ip, prefix): Address) -> AddressMessage {
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

fn default_route(message: &RouteMessage) -> Option<DefaultRoute> {
    let header = &message.header;
    if header.destination_prefix_length != 0 || header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast {
        return None;
    }
    let find = |wanted: fn(&RouteAttribute) -> Option<u32>| message.attributes.iter().find_map(wanted);
    let gateway = find(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(ip)) => Some(ip.to_bits()),
        _ => None,
    })?;
    let index = find(|attribute| if let RouteAttribute::Oif(index) = attribute { Some(*index) } else { None })?;
    let metric = find(|attribute| if let RouteAttribute::Priority(metric) = attribute { Some(*metric) } else { None });
    let leased = header.protocol == RouteProtocol::Dhcp;
    Some(DefaultRoute { index, gateway: gateway.into(), metric: metric.unwrap_or(0), leased })
}
