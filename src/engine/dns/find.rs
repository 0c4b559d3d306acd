//! What there is at a place of a zone: by arithmetic from the plan, and for guests by their leases. Pure.

use std::net::Ipv4Addr;

use crate::base::addr::Mac;
use crate::base::limits;
use crate::config::Config;
use crate::roll::client::{Client, Identity};
use crate::roll::plan::{AddressRange, Host, Subnet};
use crate::roll::registry::Registry;
use crate::wire::dns::DnsName;

use super::zone::{Spot, Zones};

/// How long an answer may be remembered, in seconds: what follows from the plan alone stays until the plan changes.
pub const PLAN_TTL: u32 = 3600;
pub const GUEST_TTL: u32 = 30;
/// The answer depends on the asker, so it must not be cached.
const SELF_TTL: u32 = 0;

const GUEST: &str = "guest-";

/// Addresses of one host.
#[derive(Clone, Copy, Debug)]
pub struct Hosts {
    addresses: [Ipv4Addr; limits::LINKS_MAX],
    len: usize,
    pub ttl: u32,
}

impl Hosts {
    fn one(address: Ipv4Addr, ttl: u32) -> Hosts {
        let mut hosts = Hosts { addresses: [Ipv4Addr::UNSPECIFIED; limits::LINKS_MAX], len: 1, ttl };
        hosts.addresses[0] = address;
        hosts
    }

    /// The head's, the one in the asker's own network first.
    fn head(config: &Config, asker: Ipv4Addr) -> Hosts {
        let mut hosts = Hosts { addresses: [Ipv4Addr::UNSPECIFIED; limits::LINKS_MAX], len: 0, ttl: PLAN_TTL };
        for (to, link) in hosts.addresses.iter_mut().zip(&config.links) {
            *to = link.head;
            hosts.len += 1;
        }
        let own = config.network_of(asker).and_then(|at| config.networks.get(at));
        let near = own.and_then(|network| hosts.as_slice().iter().position(|address| network.subnet.contains(*address)));
        if let Some(addresses) = hosts.addresses.get_mut(..hosts.len) {
            addresses.rotate_left(near.unwrap_or(0));
        }
        hosts
    }

    pub fn as_slice(&self) -> &[Ipv4Addr] {
        self.addresses.get(..self.len).unwrap_or_default()
    }
}

/// What there is.
#[derive(Debug)]
pub enum Lookup {
    /// No such name, and none beneath it.
    Missing,
    /// The name is there, and has nothing.
    Empty,
    /// SOA and NS.
    Apex,
    Hosts(Hosts),
    Pointer {
        target: DnsName,
        ttl: u32,
    },
}

/// Looks at a place for whoever asks from an address.
pub fn find(zones: &Zones, config: &Config, roll: &Registry, asker: Ipv4Addr, spot: Spot<'_>) -> Lookup {
    match spot {
        Spot::Apex => Lookup::Apex,
        Spot::Nowhere => Lookup::Missing,
        Spot::Host(label) => host(config, roll, asker, label).map_or(Lookup::Missing, Lookup::Hosts),
        Spot::Address(address) => {
            pointer(zones, config, roll, address).map_or(Lookup::Missing, |(target, ttl)| Lookup::Pointer { target, ttl })
        }
        Spot::Above(subnet) if any_beneath(config, subnet) => Lookup::Empty,
        Spot::Above(_) => Lookup::Missing,
    }
}

fn host(config: &Config, roll: &Registry, asker: Ipv4Addr, label: &str) -> Option<Hosts> {
    match config.plan.meaning_in_domain(label) {
        Some(Host::Node(number)) => config.plan.address(number).map(|address| Hosts::one(address, PLAN_TTL)),
        Some(Host::Head) => Some(Hosts::head(config, asker)),
        Some(Host::This) => this(config, roll, asker),
        None if label.eq_ignore_ascii_case("ns") => Some(Hosts::head(config, asker)),
        None => guest(config, roll, label),
    }
}

/// Whoever asks: a node, a guest or the head itself.
fn this(config: &Config, roll: &Registry, asker: Ipv4Addr) -> Option<Hosts> {
    let known = config.plan.number(asker).is_some() || leased(config, roll, asker).is_some();
    match known {
        true => Some(Hosts::one(asker, SELF_TTL)),
        false if is_head(config, asker) => Some(Hosts { ttl: SELF_TTL, ..Hosts::head(config, asker) }),
        false => None,
    }
}

/// Whether an address is the head's own.
pub fn is_head(config: &Config, address: Ipv4Addr) -> bool {
    address.is_loopback() || config.is_own(address)
}

/// Whether a subnet lies in a served network, or has numbers in none.
pub fn is_served(config: &Config, subnet: Subnet) -> bool {
    let within = |network: &Subnet| network.contains(subnet.network()) && network.prefix() <= subnet.prefix();
    config.networks.iter().any(|network| within(&network.subnet))
        || config.networks.iter().all(|network| !subnet.contains(network.subnet.network()))
}

/// `guest-52540012ab34`
fn guest(config: &Config, roll: &Registry, label: &str) -> Option<Hosts> {
    let (head, digits) = (label.get(..GUEST.len())?, label.get(GUEST.len()..)?);
    let plain = digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !head.eq_ignore_ascii_case(GUEST) || !plain {
        return None;
    }
    let [_, _, mac @ ..] = u64::from_str_radix(digits, 16).ok()?.to_be_bytes();
    let address = roll.get(roll.find(&Identity::Mac(Mac(mac)))?)?.address()?;
    leased(config, roll, address).map(|_| Hosts::one(address, GUEST_TTL))
}

/// The guest that has a lease of an address: one that is no node's own.
fn leased<'r>(config: &Config, roll: &'r Registry, address: Ipv4Addr) -> Option<&'r Client> {
    let client = roll.get(roll.at_address(address)?)?;
    (client.is_leased() && config.plan.number(address).is_none()).then_some(client)
}

/// What an address is called.
fn pointer(zones: &Zones, config: &Config, roll: &Registry, address: Ipv4Addr) -> Option<(DnsName, u32)> {
    if let Some(name) = config.plan.number(address).and_then(|number| config.plan.name(number)) {
        return Some((zones.host(format_args!("{name}"))?, PLAN_TTL));
    }
    if config.is_own(address) {
        return Some((zones.host(format_args!("head"))?, PLAN_TTL));
    }
    // Without a MAC (IP over InfiniBand) a guest has no name.
    let Identity::Mac(Mac([a, b, c, d, e, f])) = leased(config, roll, address)?.identity() else { return None };
    Some((zones.host(format_args!("{GUEST}{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{f:02x}"))?, GUEST_TTL))
}

/// Whether addresses of a subnet have names, or may have some soon (RFC 8020).
fn any_beneath(config: &Config, subnet: Subnet) -> bool {
    let Some(range) = AddressRange::new(subnet.network(), subnet.broadcast()) else { return false };
    config.plan.pieces().iter().any(|piece| piece.addresses().overlaps(range))
        || config.links.iter().any(|link| range.contains(link.head))
        || config.networks.iter().filter_map(|network| network.guests).any(|guests| guests.overlaps(range))
}
