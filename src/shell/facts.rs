//! Gathers the facts of the machine: interfaces, limits, what the kernel is set to.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use crate::base::addr::Mac;
use crate::base::facts::{Hardware, LinkFacts};

use super::ShellError;

/// ARPHRD_ETHER, ARPHRD_LOOPBACK and ARPHRD_INFINIBAND of `linux/if_arp.h`.
const ETHER: u32 = 1;
const LOOPBACK: u32 = 772;
const INFINIBAND: u32 = 32;

/// All interfaces that could be booted from, in order of their index.
pub fn links() -> Result<Vec<LinkFacts>, ShellError> {
    let failed = |error| ShellError::system("cannot list the network interfaces", error, "");
    let mut links: BTreeMap<String, LinkFacts> = BTreeMap::new();
    for address in getifaddrs().map_err(failed)? {
        let name = address.interface_name;
        if !links.contains_key(&name) {
            let Some(link) = link(&name, address.flags) else { continue };
            links.insert(name.clone(), link);
        }
        let Some(link) = links.get_mut(&name) else { continue };
        let Some(storage) = address.address else { continue };
        if let Some(ip) = storage.as_sockaddr_in() {
            let mask = address.netmask.as_ref().and_then(|mask| mask.as_sockaddr_in()).map_or(Ipv4Addr::BROADCAST, |mask| mask.ip());
            link.addresses.push((ip.ip(), u32::from(mask).leading_ones() as u8));
        } else if let Some(ip) = storage.as_sockaddr_in6().filter(|ip| is_link_local(ip.ip())) {
            link.link_local.get_or_insert(ip.ip());
        }
    }
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    for link in links.values_mut() {
        (link.default_route, link.gateway) = default_route(&routes, &link.name);
    }
    let mut links: Vec<LinkFacts> = links.into_values().collect();
    links.sort_by_key(|link| link.index);
    Ok(links)
}

fn is_link_local(ip: Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfe80
}

/// What sysfs tells of an interface.
fn link(name: &str, flags: InterfaceFlags) -> Option<LinkFacts> {
    let read = |file: &str| fs::read_to_string(format!("/sys/class/net/{name}/{file}")).map(|text| text.trim().to_string());
    let number = |file: &str| read(file).ok().and_then(|text| text.parse::<u32>().ok());
    let hardware = match number("type")? {
        ETHER | LOOPBACK => Hardware::Ethernet,
        INFINIBAND => Hardware::Infiniband,
        _ => return None,
    };
    let mac = read("address").ok().and_then(|text| text.parse().ok());
    Some(LinkFacts {
        name: name.to_string(),
        index: nix::net::if_::if_nametoindex(name).ok()?,
        hardware,
        mac: mac.unwrap_or(Mac::ZERO),
        mtu: number("mtu")?,
        // The file cannot be read while the link is down, and holds -1 or 2^32 - 1 where the device does not know.
        rate: number("speed").filter(|&mbit| mbit > 0 && mbit < u32::MAX).map(|mbit| u64::from(mbit) * 1_000_000),
        addresses: Vec::new(),
        link_local: None,
        gateway: None,
        default_route: false,
        loopback: flags.contains(InterfaceFlags::IFF_LOOPBACK),
        up: flags.contains(InterfaceFlags::IFF_UP),
    })
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
        assert!(lo.mtu >= 1500 && lo.index > 0);
    }
}
