//! The boot interfaces as they are now: what becomes of one is an input (`Input::Link`), and this says what may be served with it.
//!
//! | the world says | what is served |
//! |---|---|
//! | it is there, with an address in its network | everything |
//! | it is not there, is down, has no carrier, or has no address yet ([`Trouble::passes`]) | nothing; transfers wait for it as long as their clients do |
//! | it is there, and does not fit the plan | nothing, and transfers end: no answer bears an address that nobody has |
//!
//! Which address is the head's: the one that it was, while the interface has it; else the first of the interface's in the link's network,
//! unless the config sets `head`. By its other addresses in served networks it is known as well. The network itself never changes by what an
//! interface says: numbers and leases rest on it.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::base::facts::{Hardware, LinkFacts};
use crate::base::limits;
use crate::base::machine::Link;
use crate::base::time::Instant;
use crate::config::{Config, LinkConfig};
use crate::roll::plan::Subnet;

/// What IP carries at most.
const MTU_MAX: u32 = 65_535;
/// How old what is known of a route may be.
const ROUTE_LOOK: Duration = Duration::from_secs(60);

/// Addresses of a link besides the head's first one.
pub const OTHERS_MAX: usize = 6;

/// Why an interface is not served as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It is not there.
    Absent,
    /// It is there, and administratively down.
    Down,
    /// Nobody is at the other end of its cable.
    NoCarrier,
    /// It has no address.
    NoAddress { subnet: Subnet },
    /// It is a part of another interface, which gets its frames.
    Part { of: String },
    /// It is of another kind than it was at start.
    Hardware { was: Hardware, is: Hardware },
    /// The config sets `head`, and the interface has not got that address.
    HeadMissing { head: Ipv4Addr },
    /// None of its addresses lies in its network.
    Elsewhere { subnet: Subnet, has: Ipv4Addr },
    /// The address that it has there belongs to a node or to guests.
    Taken { address: Ipv4Addr, whose: &'static str },
}

impl Trouble {
    /// Whether it is over as soon as the interface comes up: while a head or its switch starts, or while an interface is made anew.
    pub fn passes(&self) -> bool {
        matches!(self, Trouble::Absent | Trouble::Down | Trouble::NoCarrier | Trouble::NoAddress { .. })
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Absent => write!(f, "there is no such interface now (it is served as soon as it is there)"),
            Trouble::Down => write!(f, "it is down (ip link set it up; it is served then)"),
            Trouble::NoCarrier => write!(f, "it has no carrier (check the cable and the switch; it is served as soon as there is one)"),
            Trouble::NoAddress { subnet } => write!(f, "it has no address (give it one in {subnet}; it is served then)"),
            Trouble::Part { of } => {
                write!(f, "it is a part of {of}, which gets its frames: name {of} as the boot interface, and restart musterd")
            }
            Trouble::Hardware { was, is } => write!(f, "it was {was:?} and is {is:?}; restart musterd"),
            Trouble::HeadMissing { head } => write!(f, "it does not have the address {head} of `head`; add that address"),
            Trouble::Elsewhere { subnet, has } => write!(
                f,
                "it has {has}, which is not in its network {subnet}; add an address there, or move the nodes with muster reload --renumber"
            ),
            Trouble::Taken { address, whose } => write!(f, "its address {address} is {whose}; give it another one"),
        }
    }
}

/// What the world says of each link. All serve at start, until it says something: the config was made from what there was.
#[derive(Default)]
pub struct Links {
    /// By network: how large a packet may be on the route to it, and when that was asked for last.
    routes: Vec<(u32, Option<Instant>)>,
    facts: [Option<LinkFacts>; limits::LINKS_MAX],
    /// Addresses of guests that an interface has, and that are given to nobody meanwhile.
    pub withheld: Vec<(Link, Ipv4Addr)>,
    troubles: [Option<Trouble>; limits::LINKS_MAX],
}

impl Links {
    /// Room for so many networks.
    pub fn new(networks: usize) -> Links {
        Links { routes: vec![(MTU_MAX, None); networks], ..Links::default() }
    }

    /// The largest IP packet that an address takes, in bytes: what its link takes, or the route to it as far as that is known, and the config allows.
    pub fn mtu(&self, config: &Config, link: Link, to: Ipv4Addr) -> u32 {
        let own = config.links.get(usize::from(link)).map_or(MTU_MAX, |link| link.mtu);
        let Some((at, network)) = config.network_of(to).and_then(|at| Some((at, config.networks.get(at)?))) else { return own.min(1500) };
        let route = self.routes.get(at).filter(|_| network.link.is_none());
        network.mtu(route.map_or(own, |(route, _)| *route))
    }

    /// The network of an address behind routers, if it is time to look at the route to it.
    pub fn looks_at_route(&mut self, now: Instant, config: &Config, to: Ipv4Addr) -> Option<u64> {
        let at = config.network_of(to)?;
        let (_, asked) = self.routes.get_mut(at).filter(|_| config.networks.get(at).is_some_and(|network| network.link.is_none()))?;
        if asked.is_some_and(|asked| now.since(asked) < ROUTE_LOOK) {
            return None;
        }
        *asked = Some(now);
        Some(at as u64)
    }

    /// What the world says of a route.
    pub fn learn_route(&mut self, network: u64, mtu: u32) {
        let route = usize::try_from(network).ok().and_then(|at| self.routes.get_mut(at));
        route.into_iter().for_each(|(known, _)| *known = mtu);
    }

    /// Whether what comes from a link is answered.
    pub fn serves(&self, link: Link) -> bool {
        self.troubles.get(usize::from(link)).is_some_and(Option::is_none)
    }

    /// Why a link is not served; None: it is.
    pub fn trouble(&self, link: Link) -> Option<&Trouble> {
        self.troubles.get(usize::from(link)).and_then(Option::as_ref)
    }

    /// What is known of a link's interface; None: it is not there, or the world has not said.
    pub fn facts(&self, link: Link) -> Option<&LinkFacts> {
        self.facts.get(usize::from(link)).and_then(Option::as_ref)
    }

    /// Whether an interface has this address, whatever it is in the plan.
    pub fn has(&self, address: Ipv4Addr) -> bool {
        self.facts.iter().flatten().any(|facts| facts.addresses.iter().any(|(own, _)| *own == address))
    }

    /// Notes what the world says, and gives what it said before.
    pub fn learn(&mut self, link: Link, facts: Option<&LinkFacts>) -> Option<LinkFacts> {
        self.facts.get_mut(usize::from(link)).and_then(|old| std::mem::replace(old, facts.cloned()))
    }

    /// Sets why a link is not served, and gives why it was not.
    pub fn enter(&mut self, link: Link, trouble: Option<Trouble>) -> Option<Trouble> {
        self.troubles.get_mut(usize::from(link)).and_then(|old| std::mem::replace(old, trouble))
    }
}

/// What a link is with these facts. The config is the one in force.
pub fn fitted(config: &Config, link: Link, facts: Option<&LinkFacts>) -> Result<LinkConfig, Trouble> {
    let (Some(old), Some(facts)) = (config.links.get(usize::from(link)), facts) else { return Err(Trouble::Absent) };
    if let Some(master) = &facts.master {
        return Err(Trouble::Part { of: master.clone() });
    }
    if facts.hardware != old.hardware {
        return Err(Trouble::Hardware { was: old.hardware, is: facts.hardware });
    }
    if !facts.up {
        return Err(Trouble::Down);
    }
    if !facts.carrier {
        return Err(Trouble::NoCarrier);
    }
    let mut new = old.clone();
    (new.index, new.mac, new.mtu) = (facts.index, facts.mac, facts.mtu);
    new.rate = facts.rate.filter(|_| !old.rate_is_set).or(old.rate);
    new.head = head(config, link, old, facts)?;
    new.others = others(config, link, new.head, facts);
    Ok(new)
}

/// The address by which the head is known on a link from now on.
fn head(config: &Config, link: Link, old: &LinkConfig, facts: &LinkFacts) -> Result<Ipv4Addr, Trouble> {
    let mut addresses = facts.addresses.iter().map(|(address, _)| *address);
    if addresses.clone().any(|address| address == old.head) {
        return Ok(old.head);
    }
    let Some(network) = own_network(config, link) else { return Ok(old.head) };
    // What it gave itself while nobody gave it one (RFC 3927) is none.
    let Some(&(has, _)) = facts.addresses.iter().find(|(address, _)| !address.is_link_local()) else {
        return Err(Trouble::NoAddress { subnet: network });
    };
    if old.head_is_set {
        return Err(Trouble::HeadMissing { head: old.head });
    }
    let address = addresses.find(|address| network.is_host(*address)).ok_or(Trouble::Elsewhere { subnet: network, has })?;
    whose(config, address).map_or(Ok(address), |whose| Err(Trouble::Taken { address, whose }))
}

fn own_network(config: &Config, link: Link) -> Option<Subnet> {
    config.networks.iter().find(|network| network.link == Some(link)).map(|network| network.subnet)
}

/// Whose an address is that cannot be the head's.
fn whose(config: &Config, address: Ipv4Addr) -> Option<&'static str> {
    let mut guests = config.networks.iter().filter_map(|network| network.guests);
    match () {
        () if config.plan.number(address).is_some() => Some("a node's"),
        () if guests.any(|guests| guests.contains(address)) => Some("a guest's"),
        () => None,
    }
}

/// The addresses of an interface that the plan gives to machines, and whose they are.
pub fn misplaced<'a>(config: &'a Config, facts: &'a LinkFacts) -> impl Iterator<Item = (Ipv4Addr, &'static str)> + 'a {
    facts.addresses.iter().filter_map(|(address, _)| whose(config, *address).map(|whose| (*address, whose)))
}

/// The interface's other addresses in networks that are served over the link.
fn others(config: &Config, link: Link, head: Ipv4Addr, facts: &LinkFacts) -> Vec<Ipv4Addr> {
    let served = |address: &Ipv4Addr| *address != head && config.serves(link, *address) && whose(config, *address).is_none();
    let mut others: Vec<Ipv4Addr> = facts.addresses.iter().map(|(address, _)| *address).filter(served).collect();
    others.truncate(OTHERS_MAX);
    others
}

/// What an interface should have, and is served without.
pub fn remark(config: &Config, link: Link, facts: &LinkFacts) -> Option<String> {
    let (own, head) = (own_network(config, link)?, config.links.get(usize::from(link))?.head);
    let (_, prefix) = *facts.addresses.iter().find(|(address, _)| *address == head)?;
    (prefix != own.prefix()).then(|| {
        format!(
            "its address is {head}/{prefix}, and the nodes' addresses rest on {own}, which stays (set the address again with /{}, or move the \
             nodes with muster reload --renumber)",
            own.prefix()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::addr::Mac;
    use crate::engine::testing::{HEAD, config};

    fn facts(addresses: &[(Ipv4Addr, u8)]) -> LinkFacts {
        LinkFacts {
            mtu: 9000,
            rate: Some(10_000_000_000),
            addresses: addresses.to_vec(),
            ..LinkFacts::ethernet("eth1", 7, Mac([2, 0, 0, 0, 0, 0x77]))
        }
    }

    fn fit(config: &Config, facts: &LinkFacts) -> Result<LinkConfig, Trouble> {
        fitted(config, 0, Some(facts))
    }

    #[test]
    fn the_head_keeps_its_address_while_the_interface_has_it() {
        let config = config();
        let other: Ipv4Addr = [192, 0, 2, 1].into();
        let new = fit(&config, &facts(&[(other, 24), (HEAD, 16)])).unwrap();
        assert_eq!((new.head, new.index, new.mtu, new.rate), (HEAD, 7, 9000, Some(10_000_000_000)));
        assert_eq!(new.mac, Mac([2, 0, 0, 0, 0, 0x77]));
    }

    #[test]
    fn another_address_of_its_network_takes_the_place_of_one_that_is_gone() {
        let mut config = config();
        let subnet = config.networks[0].subnet;
        let free = |address: &Ipv4Addr| {
            *address != HEAD
                && config.plan.number(*address).is_none()
                && !config.networks.iter().filter_map(|network| network.guests).any(|guests| guests.contains(*address))
        };
        let moved = (1..=u16::MAX).map(|n| Ipv4Addr::from(u32::from(HEAD) + u32::from(n))).filter(|ip| subnet.is_host(*ip)).find(free);
        let moved = moved.expect("an address that is nobody's");
        assert_eq!(fit(&config, &facts(&[([192, 0, 2, 1].into(), 24), (moved, 24)])).unwrap().head, moved, "whatever its prefix length is");
        config.links[0].head_is_set = true;
        assert_eq!(fit(&config, &facts(&[(moved, 16)])), Err(Trouble::HeadMissing { head: HEAD }));
    }

    #[test]
    fn an_address_that_does_not_fit_serves_nobody() {
        let config = config();
        let subnet = config.networks[0].subnet;
        let other_servers: Ipv4Addr = [192, 0, 2, 1].into();
        assert_eq!(fit(&config, &facts(&[])), Err(Trouble::NoAddress { subnet }));
        assert_eq!(fit(&config, &facts(&[(other_servers, 24)])), Err(Trouble::Elsewhere { subnet, has: other_servers }));
        let node = config.plan.node0();
        assert_eq!(fit(&config, &facts(&[(node, 16)])), Err(Trouble::Taken { address: node, whose: "a node's" }));
        let guest = config.networks[0].guests.and_then(|guests| guests.nth(0)).expect("guests");
        assert_eq!(fit(&config, &facts(&[(guest, 16)])), Err(Trouble::Taken { address: guest, whose: "a guest's" }));
        let was_ethernet = LinkFacts { hardware: Hardware::Infiniband, ..facts(&[(HEAD, 16)]) };
        assert!(matches!(fit(&config, &was_ethernet), Err(Trouble::Hardware { .. })));
    }

    #[test]
    fn a_rate_that_the_config_sets_stays() {
        let mut config = config();
        (config.links[0].rate, config.links[0].rate_is_set) = (Some(1_000_000_000), true);
        assert_eq!(fit(&config, &facts(&[(HEAD, 16)])).unwrap().rate, Some(1_000_000_000));
        config.links[0].rate_is_set = false;
        let unknown = LinkFacts { rate: None, ..facts(&[(HEAD, 16)]) };
        assert_eq!(fit(&config, &unknown).unwrap().rate, Some(1_000_000_000), "a card without its cable does not know");
    }

    #[test]
    fn a_part_of_a_bridge_names_the_bridge() {
        let config = config();
        let port = LinkFacts { master: Some("br0".into()), ..facts(&[(HEAD, 16)]) };
        assert_eq!(fit(&config, &port), Err(Trouble::Part { of: "br0".into() }));
    }

    #[test]
    fn what_is_down_or_away_is_waited_for() {
        let config = config();
        assert_eq!(fitted(&config, 0, None), Err(Trouble::Absent));
        let down = LinkFacts { up: false, ..facts(&[(HEAD, 16)]) };
        assert_eq!(fit(&config, &down), Err(Trouble::Down));
        let unplugged = LinkFacts { carrier: false, ..facts(&[(HEAD, 16)]) };
        assert_eq!(fit(&config, &unplugged), Err(Trouble::NoCarrier), "what is sent now nobody hears: not even a probe");
        assert!(Trouble::Absent.passes() && Trouble::Down.passes() && !Trouble::Part { of: "br0".into() }.passes());
    }

    #[test]
    fn other_addresses_in_its_network_are_the_heads_too() {
        let config = config();
        let (vip, elsewhere): (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::from(u32::from(HEAD) + 1), [192, 0, 2, 1].into());
        assert!(whose(&config, vip).is_none(), "{vip} is nobody's");
        let new = fit(&config, &facts(&[(vip, 32), (HEAD, 16), (elsewhere, 24), (config.plan.node0(), 16)])).unwrap();
        assert_eq!((new.head, new.others.as_slice()), (HEAD, &[vip][..]));
    }

    #[test]
    fn another_prefix_length_is_remarked() {
        let config = config();
        assert_eq!(remark(&config, 0, &facts(&[(HEAD, 16)])), None);
        let said = remark(&config, 0, &facts(&[(HEAD, 24)])).expect("a remark");
        assert!(said.contains("/24") && said.contains("/16"), "{said}");
    }
}
