//! Gathers the facts of the machine: interfaces, limits, what the kernel is set to.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::base::addr::Mac;
use crate::base::facts::{Hardware, LinkFacts};

use super::ShellError;
use super::netlink::{ADDRESS_HEADER, Attributes, LINK_HEADER, Netlink, RTM_NEWADDR, RTM_NEWLINK, half, ip, name, word};

/// ARPHRD_ETHER, ARPHRD_LOOPBACK and ARPHRD_INFINIBAND of `linux/if_arp.h`.
const ETHER: u16 = 1;
const LOOPBACK: u16 = 772;
const INFINIBAND: u16 = 32;
/// Attributes of `linux/if_link.h` and `linux/if_addr.h`.
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// How often it is read again what changed while it was read.
const READS: usize = 4;

/// All interfaces that could be booted from, in order of their index.
pub fn links() -> Result<Vec<LinkFacts>, ShellError> {
    LinkReader::open()?.read(|_| true)
}

/// Reads what there is of interfaces, by a socket that stays open.
pub struct LinkReader(Netlink);

impl LinkReader {
    /// Opens the socket. An error says why the kernel gives none.
    pub fn open() -> Result<LinkReader, ShellError> {
        Netlink::open().map(LinkReader)
    }

    /// The interfaces whose names are wanted, in order of their index.
    pub fn read(&mut self, wanted: impl Fn(&str) -> bool) -> Result<Vec<LinkFacts>, ShellError> {
        let failed = |error| ShellError::system("cannot list the network interfaces", error, "");
        let mut links = Vec::new();
        for _ in 0..READS {
            let (found, whole) = self.dump(&wanted).map_err(failed)?;
            links = found;
            if whole {
                break;
            }
        }
        let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
        for link in &mut links {
            (link.default_route, link.gateway) = default_route(&routes, &link.name);
            link.rate = rate(&link.name);
        }
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// What the kernel says of them by netlink, and whether it has not changed meanwhile.
    fn dump(&mut self, wanted: impl Fn(&str) -> bool) -> io::Result<(Vec<LinkFacts>, bool)> {
        let (mut links, mut names, mut masters) = (Vec::new(), Vec::new(), Vec::new());
        let mut whole = self.0.dump(RouteNetlinkMessage::GetLink(LinkMessage::default()), |kind, body| {
            let Some(told) = TellsOfLink::read(body).filter(|_| kind == RTM_NEWLINK) else { return };
            names.push((told.index, told.name.to_string()));
            if let Some(facts) = told.facts().filter(|facts| wanted(&facts.name)) {
                masters.extend(told.master.map(|master| (told.index, master)));
                links.push(facts);
            }
        })?;
        for link in &mut links {
            let master = masters.iter().find(|(of, _)| *of == link.index).map(|(_, master)| *master);
            link.master = master.and_then(|master| names.iter().find(|(index, _)| *index == master)).map(|(_, name)| name.clone());
        }
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = AddressMessage::default();
            message.header.family = family;
            whole &= self.0.dump(RouteNetlinkMessage::GetAddress(message), |kind, body| {
                let index = word(body, 4);
                if let Some(link) = links.iter_mut().find(|link| kind == RTM_NEWADDR && link.index == index) {
                    link.addresses.extend(address(body));
                    link.link_local = link.link_local.or_else(|| link_local(body));
                }
            })?;
        }
        Ok((links, whole))
    }
}

/// An RTM_NEWLINK or RTM_DELLINK.
pub struct TellsOfLink<'a> {
    /// The kernel's interface index.
    pub index: u32,
    /// The kernel's name.
    pub name: &'a str,
    hardware: u16,
    flags: LinkFlags,
    mac: &'a [u8],
    mtu: u32,
    /// The interface that gets its frames.
    master: Option<u32>,
}

impl<'a> TellsOfLink<'a> {
    /// None for one that tells of something else, such as the port of a bridge.
    pub fn read(body: &'a [u8]) -> Option<TellsOfLink<'a>> {
        let flags = LinkFlags::from_bits_retain(word(body, 8));
        let mut told = TellsOfLink { index: word(body, 4), name: "", hardware: half(body, 2), flags, mac: &[], mtu: 0, master: None };
        let mut slave = &[][..];
        for (kind, value) in Attributes::behind(body, LINK_HEADER) {
            match kind {
                IFLA_IFNAME => told.name = std::str::from_utf8(name(value)).ok()?,
                IFLA_ADDRESS => told.mac = value,
                IFLA_MTU => told.mtu = word(value, 0),
                IFLA_MASTER => told.master = Some(word(value, 0)),
                IFLA_LINKINFO => slave = Attributes(value).find(|(kind, _)| *kind == IFLA_INFO_SLAVE_KIND).map_or(slave, |(_, kind)| kind),
                _ => {}
            }
        }
        // What is in a VRF gets its frames itself.
        told.master = told.master.filter(|_| name(slave) != b"vrf");
        let family = *body.first()?;
        (family == libc::AF_UNSPEC as u8 && !told.name.is_empty()).then_some(told)
    }

    /// None for hardware that nobody boots from.
    fn facts(&self) -> Option<LinkFacts> {
        let hardware = match self.hardware {
            ETHER | LOOPBACK => Hardware::Ethernet,
            INFINIBAND => Hardware::Infiniband,
            _ => return None,
        };
        Some(LinkFacts {
            index: self.index,
            hardware,
            mac: self.mac.try_into().map_or(Mac::ZERO, Mac),
            mtu: self.mtu,
            loopback: self.flags.contains(LinkFlags::Loopback),
            up: self.flags.contains(LinkFlags::Up),
            carrier: self.flags.contains(LinkFlags::LowerUp),
            ..LinkFacts::absent(self.name)
        })
    }
}

/// The IPv4 address of an RTM_NEWADDR, with its prefix length, whatever its label is.
fn address(body: &[u8]) -> Option<(Ipv4Addr, u8)> {
    let &[family, prefix, ..] = body else { return None };
    let local = Attributes::behind(body, ADDRESS_HEADER).find(|(kind, _)| *kind == IFA_LOCAL).filter(|_| family == libc::AF_INET as u8)?;
    Some((ip(local.1)?, prefix))
}

fn link_local(body: &[u8]) -> Option<Ipv6Addr> {
    let family = *body.first()?;
    let found = Attributes::behind(body, ADDRESS_HEADER).find(|(kind, _)| *kind == IFA_ADDRESS)?;
    let ip = <[u8; 16]>::try_from(found.1).ok().map(Ipv6Addr::from)?;
    (family == libc::AF_INET6 as u8 && ip.segments()[0] & 0xffc0 == 0xfe80).then_some(ip)
}

/// Bits per second. sysfs says nothing while the link is down, and -1 or 2^32 - 1 where the device does not know.
fn rate(name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/sys/class/net/{name}/speed")).ok()?;
    let mbit = text.trim().parse::<u32>().ok().filter(|&mbit| mbit > 0 && mbit < u32::MAX)?;
    Some(u64::from(mbit) * 1_000_000)
}

/// Whether a route through `interface` covers everything, and its router: from the table of `/proc/net/route`.
fn default_route(routes: &str, interface: &str) -> (bool, Option<Ipv4Addr>) {
    let hex = |field: &str| u32::from_str_radix(field, 16).ok().map(|word| Ipv4Addr::from(word.to_ne_bytes()));
    for line in routes.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let &[name, destination, gateway, _, _, _, _, mask, ..] = fields.as_slice() else { continue };
        let all = hex(destination) == Some(Ipv4Addr::UNSPECIFIED) && hex(mask) == Some(Ipv4Addr::UNSPECIFIED);
        if name == interface && all {
            return (true, hex(gateway).filter(|ip| !ip.is_unspecified()));
        }
    }
    (false, None)
}

/// The kernel's limit of neighbour entries that are not permanent.
pub fn gc_thresh3() -> Option<u64> {
    fs::read_to_string("/proc/sys/net/ipv4/neigh/default/gc_thresh3").ok()?.trim().parse().ok()
}

/// Makes sure that this process may open `needed` descriptors.
pub fn ensure_descriptors(needed: u64) -> Result<(), ShellError> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let failed = |error| ShellError::system(format_args!("cannot open {needed} descriptors"), error, "raise RLIMIT_NOFILE (ulimit -n)");
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    if soft >= needed {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, needed.max(soft), hard.max(needed)).map_err(failed)
}

/// Lets whoever this process becomes lock all its memory, as far as it may say so.
pub fn unlimit_locked_memory() {
    use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_default_route() {
        let routes = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                      eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                      eth1\t0000360A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        assert_eq!(default_route(routes, "eth0"), (true, Some([10, 0, 0, 1].into())));
        assert_eq!(default_route(routes, "eth1"), (false, None));
    }

    #[test]
    fn loopback_is_there() {
        let links = links().unwrap();
        let lo = links.iter().find(|link| link.loopback).unwrap();
        assert!(lo.mtu >= 1500 && lo.is_there() && lo.up && lo.master.is_none());
        assert!(lo.addresses.contains(&(Ipv4Addr::LOCALHOST, 8)));
        assert_eq!(LinkReader::open().unwrap().read(|name| name == "lo").unwrap(), std::slice::from_ref(lo));
    }

    proptest::proptest! {
        #[test]
        fn any_message_is_survived(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = (address(&body), link_local(&body), TellsOfLink::read(&body).map(|told| told.facts().is_some()));
        }
    }
}
