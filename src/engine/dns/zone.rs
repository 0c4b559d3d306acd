//! Which zones there are, and where in them a name lies. Pure; made from the config.
//!
//! The forward zone is the cluster's domain. The reverse zones are those of the served networks, cut where `in-addr.arpa` has its dots: a
//! network of 9 to 16 bits makes zones of two octets, a smaller one zones of three. A network smaller than a /24 lies in a zone with its
//! neighbours' addresses, of which this server says that they have no names.

use std::net::Ipv4Addr;

use crate::base::text::Text;
use crate::config::Config;
use crate::roll::plan::{AddressPlan, AddressRange, Subnet};
use crate::wire::dns::{Authority, DnsName};

/// How long secondaries keep a zone (RFC 1912, 2.2), in seconds.
const REFRESH: u32 = 3600;
const RETRY: u32 = 600;
const EXPIRE: u32 = 604_800;
/// How long it may be remembered that there is no such name (RFC 2308, 4): a guest's may be there soon.
pub const NEGATIVE_TTL: u32 = 60;

const ARPA: [&[u8]; 2] = [b"in-addr", b"arpa"];

/// A zone of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    Forward,
    /// Of these addresses: 8, 16 or 24 bits.
    Reverse(Subnet),
}

/// A place in a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spot<'n> {
    Apex,
    /// One label beneath the forward apex.
    Host(&'n str),
    Address(Ipv4Addr),
    /// Above the addresses of this subnet and beneath the apex.
    Above(Subnet),
    /// Where no zone of ours ever has anything.
    Nowhere,
}

/// Addresses whose reverse zones have so many bits.
#[derive(Clone, Copy, Debug)]
struct ReverseBlock {
    range: AddressRange,
    bits: u8,
}

pub struct Zones {
    /// None without a domain: names have no place to be then, and nothing is answered.
    apex: Option<DnsName>,
    pub authority: Option<Authority>,
    /// In order of their addresses; they do not overlap.
    blocks: Vec<ReverseBlock>,
}

impl Zones {
    /// The zones of a config that came into force at a time. Allocates.
    pub fn new(config: &Config, serial: u32) -> Zones {
        let apex = DnsName::of_text(config.plan.names().domain());
        let authority = apex.as_ref().and_then(|apex| authority(apex, serial));
        Zones { blocks: blocks(config), apex: apex.filter(|_| authority.is_some()), authority }
    }

    pub fn apex(&self) -> Option<&DnsName> {
        self.apex.as_ref()
    }

    pub fn serial(&self) -> u32 {
        self.authority.as_ref().map_or(0, |authority| authority.serial)
    }

    /// How many reverse zones there are.
    pub fn reverse_count(&self) -> u64 {
        self.blocks.iter().map(|block| block.range.count() >> (32 - block.bits)).sum()
    }

    /// The name of a zone's apex.
    pub fn name(&self, zone: Zone) -> Option<DnsName> {
        match zone {
            Zone::Forward => self.apex.clone(),
            Zone::Reverse(subnet) => reverse_name(subnet.network(), subnet.prefix()),
        }
    }

    /// A name one label beneath the forward apex.
    pub fn host(&self, label: std::fmt::Arguments<'_>) -> Option<DnsName> {
        let text: Text<63> = Text::of(label);
        DnsName::beneath([text.as_str().as_bytes()], self.apex.as_ref()?)
    }

    /// Where a name lies. None: in no zone of ours.
    pub fn locate<'n>(&self, name: &'n DnsName) -> Option<(Zone, Spot<'n>)> {
        self.forward(name).map(|spot| (Zone::Forward, spot)).or_else(|| self.reverse(name))
    }

    fn forward<'n>(&self, name: &'n DnsName) -> Option<Spot<'n>> {
        let mut labels = name.labels();
        for own in self.apex.as_ref()?.labels().rev() {
            if !labels.next_back()?.eq_ignore_ascii_case(own) {
                return None;
            }
        }
        let spot = match (labels.next_back(), labels.next_back()) {
            (None, _) => Spot::Apex,
            (Some(label), None) => std::str::from_utf8(label).map_or(Spot::Nowhere, Spot::Host),
            _ => Spot::Nowhere,
        };
        Some(spot)
    }

    fn reverse<'n>(&self, name: &'n DnsName) -> Option<(Zone, Spot<'n>)> {
        self.apex.as_ref()?;
        let mut labels = name.labels();
        for own in ARPA.iter().rev() {
            if !labels.next_back()?.eq_ignore_ascii_case(own) {
                return None;
            }
        }
        let (mut octets, mut count, mut strange) = ([0u8; 4], 0u8, false);
        for label in labels.rev() {
            match octets.get_mut(usize::from(count)).zip(octet(label)) {
                Some((place, octet)) if !strange => (*place, count) = (octet, count + 1),
                _ => strange = true,
            }
        }
        let bits = 8 * count;
        let zone = self.zone_of(octets.into()).filter(|zone| zone.prefix() <= bits)?;
        let spot = match () {
            () if strange => Spot::Nowhere,
            () if bits == zone.prefix() => Spot::Apex,
            () if bits == 32 => Spot::Address(octets.into()),
            () => Spot::Above(Subnet::of(octets.into(), bits)),
        };
        Some((Zone::Reverse(zone), spot))
    }

    /// The reverse zone that an address lies in.
    fn zone_of(&self, address: Ipv4Addr) -> Option<Subnet> {
        let at = self.blocks.partition_point(|block| block.range.last() < address);
        let block = self.blocks.get(at).filter(|block| block.range.contains(address))?;
        Some(Subnet::of(address, block.bits))
    }
}

/// `23.1.54.10.in-addr.arpa` (RFC 1035, 3.5), of the first so many bits of an address: a multiple of 8.
pub fn reverse_name(address: Ipv4Addr, bits: u8) -> Option<DnsName> {
    let texts = address.octets().map(|octet| Text::<3>::of(format_args!("{octet}")));
    let numbers = texts.iter().take(usize::from(bits / 8)).rev().map(|text| text.as_str().as_bytes());
    DnsName::of(numbers.chain(ARPA))
}

/// A decimal octet as the arpa domain has it: no leading zero.
fn octet(label: &[u8]) -> Option<u8> {
    let plain = label.iter().all(u8::is_ascii_digit) && (label.first() != Some(&b'0') || label.len() == 1);
    std::str::from_utf8(label).ok().filter(|_| plain)?.parse().ok()
}

fn authority(apex: &DnsName, serial: u32) -> Option<Authority> {
    let server = DnsName::beneath([b"ns".as_slice()], apex)?;
    let mailbox = DnsName::beneath([b"hostmaster".as_slice()], apex)?;
    Some(Authority { server, mailbox, serial, refresh: REFRESH, retry: RETRY, expire: EXPIRE, minimum: NEGATIVE_TTL })
}

fn blocks(config: &Config) -> Vec<ReverseBlock> {
    let networks = config.networks.iter().map(|network| network.subnet);
    let mut blocks: Vec<ReverseBlock> = Vec::new();
    for (subnet, bits) in networks.map(|subnet| (subnet, subnet.prefix().clamp(1, 24).div_ceil(8) * 8)).chain(stray(&config.plan)) {
        let subnet = Subnet::of(subnet.network(), subnet.prefix().min(bits));
        let Some(range) = AddressRange::new(subnet.network(), subnet.broadcast()) else { continue };
        if !blocks.iter().any(|other| other.range.overlaps(range)) {
            blocks.push(ReverseBlock { range, bits });
        }
    }
    blocks.sort_by_key(|block| block.range.first());
    blocks
}

/// The first and the last /24 of each piece of the lot table, should a piece lie in no network.
fn stray(plan: &AddressPlan) -> impl Iterator<Item = (Subnet, u8)> {
    let ends = plan.pieces().iter().map(|piece| piece.addresses());
    ends.flat_map(|range| {
        let (first, last) = (u32::from(range.first()) >> 8, u32::from(range.last()) >> 8);
        (first..=last).map(|block| (Subnet::of(Ipv4Addr::from(block << 8), 24), 24))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::config;

    fn name(text: &str) -> DnsName {
        DnsName::of_text(text).unwrap()
    }

    fn zones(subnets: &[&str]) -> Zones {
        let mut config = config();
        let model = config.networks[0].clone();
        let subnet = |text: &str| {
            let (address, bits) = text.split_once('/').unwrap();
            Subnet::of(address.parse().unwrap(), bits.parse().unwrap())
        };
        config.networks = subnets.iter().map(|text| crate::config::Network { subnet: subnet(text), ..model.clone() }).collect();
        Zones::new(&config, 1)
    }

    #[test]
    fn reverse_zones_are_cut_at_the_dots() {
        let zones = zones(&["10.54.0.0/16", "10.60.16.0/20", "11.0.0.0/8", "192.0.2.128/25", "192.0.2.0/25", "172.16.0.0/12"]);
        assert_eq!(zones.reverse_count(), 1 + 16 + 1 + 1 + 16);
        let zone = |text: &str| zones.locate(&name(text)).and_then(|(zone, _)| zones.name(zone)).map(|name| name.to_string());
        for (asked, of) in [
            ("23.1.54.10.in-addr.arpa", "54.10.in-addr.arpa"),
            ("54.10.IN-ADDR.arpa", "54.10.in-addr.arpa"),
            ("7.20.60.10.in-addr.arpa", "20.60.10.in-addr.arpa"),
            ("1.2.3.11.in-addr.arpa", "11.in-addr.arpa"),
            ("200.2.0.192.in-addr.arpa", "2.0.192.in-addr.arpa"),
            ("1.1.17.172.in-addr.arpa", "17.172.in-addr.arpa"),
            ("x.n23.Cluster", "cluster"),
        ] {
            assert_eq!(zone(asked).as_deref(), Some(of), "{asked}");
        }
        for other in ["10.in-addr.arpa", "in-addr.arpa", "60.10.in-addr.arpa", "1.32.60.10.in-addr.arpa", "32.172.in-addr.arpa", "example"]
        {
            assert_eq!(zone(other), None, "{other}");
        }
    }

    #[test]
    fn names_have_their_place() {
        let zones = zones(&["10.54.0.0/16"]);
        let spot = |text: &str| {
            let name = name(text);
            zones.locate(&name).map(|(_, spot)| format!("{spot:?}")).unwrap_or_default()
        };
        for (text, expected) in [
            ("cluster", "Apex"),
            ("N23.cluster", "Host(\"N23\")"),
            ("a.n23.cluster", "Nowhere"),
            ("54.10.in-addr.arpa", "Apex"),
            ("1.54.10.in-addr.arpa", "Above(Subnet { network: 10.54.1.0, len: 24 })"),
            ("23.1.54.10.in-addr.arpa", "Address(10.54.1.23)"),
            ("0.23.1.54.10.in-addr.arpa", "Nowhere"),
            ("023.1.54.10.in-addr.arpa", "Nowhere"),
            ("256.1.54.10.in-addr.arpa", "Nowhere"),
            ("1.x.54.10.in-addr.arpa", "Nowhere"),
            ("1.x.10.in-addr.arpa", ""),
            ("xcluster", ""),
        ] {
            assert_eq!(spot(text), expected, "{text}");
        }
    }

    #[test]
    fn a_piece_in_no_network_has_its_zone() {
        let mut config = config();
        config.plan = AddressPlan::new([10, 99, 1, 200].into(), 100);
        let zones = Zones::new(&config, 1);
        let spot = |text: &str| zones.locate(&name(text)).map(|(zone, _)| zones.name(zone).unwrap().to_string());
        assert_eq!(spot("200.1.99.10.in-addr.arpa").as_deref(), Some("1.99.10.in-addr.arpa"));
        assert_eq!((spot("1.2.99.10.in-addr.arpa").is_some(), spot("1.3.99.10.in-addr.arpa")), (true, None));
    }
}
