//! The boot interfaces as they are now: what becomes of one is an input (`Input::Link`), and this says what may be served with it.
//!
//! | state | the world says | what is served |
//! |---|---|---|
//! | [`Serving`](LinkState::Serving) | it is there, with an address in its network | everything |
//! | [`Gone`](LinkState::Gone) | it is not there | nothing; transfers wait for it as long as their clients do |
//! | [`Unfit`](LinkState::Unfit) | it is there, and its addresses do not fit the plan | nothing: no answer bears an address that nobody has |
//!
//! Which address is the head's: the one that it was, while the interface has it; else the first of the interface's in the link's network,
//! unless the config sets `head`. The network itself never changes by what an interface says: numbers and leases rest on it.

use std::fmt;
use std::net::Ipv4Addr;

use crate::base::facts::{Hardware, LinkFacts};
use crate::base::limits;
use crate::base::machine::Link;
use crate::config::{Config, LinkConfig};
use crate::roll::plan::Subnet;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkState {
    #[default]
    Serving,
    Gone,
    Unfit,
}

/// The state of each link. All serve at start, until the world says otherwise: the config was made from what there was.
#[derive(Default)]
pub struct Links {
    states: [LinkState; limits::LINKS_MAX],
}

impl Links {
    /// Whether what comes from a link is answered.
    pub fn serves(&self, link: Link) -> bool {
        self.state(link) == LinkState::Serving
    }

    /// The state of a link; one that does not exist is gone.
    pub fn state(&self, link: Link) -> LinkState {
        self.states.get(usize::from(link)).copied().unwrap_or(LinkState::Gone)
    }

    /// Sets the state of a link, and gives the one that it had.
    pub fn enter(&mut self, link: Link, state: LinkState) -> LinkState {
        self.states.get_mut(usize::from(link)).map_or(LinkState::Gone, |old| std::mem::replace(old, state))
    }
}

/// Why an interface cannot be served with the addresses that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is of another kind than it was at start.
    Hardware { was: Hardware, is: Hardware },
    /// The config sets `head`, and the interface has not got that address.
    HeadMissing { head: Ipv4Addr },
    /// None of its addresses lies in its network.
    NoAddress { subnet: Subnet, has: Option<Ipv4Addr> },
    /// The address that it has there belongs to a node or to guests.
    Taken { address: Ipv4Addr, whose: &'static str },
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::Hardware { was, is } => write!(f, "it was {was:?} and is {is:?}; restart musterd"),
            Unfit::HeadMissing { head } => write!(f, "it does not have the address {head} of `head`; add that address"),
            Unfit::NoAddress { subnet, has: None } => write!(f, "it has no address; add one in {subnet}"),
            Unfit::NoAddress { subnet, has: Some(has) } => {
                write!(
                    f,
                    "it has {has}, which is not in its network {subnet}; add an address there, or restart musterd for another network"
                )
            }
            Unfit::Taken { address, whose } => write!(f, "its address {address} is {whose}; give it another one"),
        }
    }
}

/// What a link is with these facts. The config is the one in force.
pub fn fitted(config: &Config, link: Link, facts: &LinkFacts) -> Result<LinkConfig, Unfit> {
    let Some(old) = config.links.get(usize::from(link)) else { return Err(Unfit::HeadMissing { head: Ipv4Addr::UNSPECIFIED }) };
    if facts.hardware != old.hardware {
        return Err(Unfit::Hardware { was: old.hardware, is: facts.hardware });
    }
    let mut new = old.clone();
    (new.index, new.mac, new.mtu) = (facts.index, facts.mac, facts.mtu);
    new.rate = facts.rate.filter(|_| !old.rate_is_set).or(old.rate);
    new.head = head(config, link, old, facts)?;
    Ok(new)
}

/// The address by which the head is known on a link from now on.
fn head(config: &Config, link: Link, old: &LinkConfig, facts: &LinkFacts) -> Result<Ipv4Addr, Unfit> {
    let mut addresses = facts.addresses.iter().map(|(address, _)| *address);
    if addresses.clone().any(|address| address == old.head) {
        return Ok(old.head);
    }
    if old.head_is_set {
        return Err(Unfit::HeadMissing { head: old.head });
    }
    let Some(network) = config.networks.iter().find(|network| network.link == Some(link)) else { return Ok(old.head) };
    let has = facts.addresses.first().map(|(address, _)| *address);
    let unfit = Unfit::NoAddress { subnet: network.subnet, has };
    let address = addresses.find(|address| network.subnet.is_host(*address)).ok_or(unfit)?;
    let guests = config.networks.iter().filter_map(|network| network.guests);
    if config.plan.number(address).is_some() {
        return Err(Unfit::Taken { address, whose: "a node's" });
    }
    if guests.into_iter().any(|guests| guests.contains(address)) {
        return Err(Unfit::Taken { address, whose: "a guest's" });
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::addr::Mac;
    use crate::engine::testing::{HEAD, config};

    fn facts(addresses: &[(Ipv4Addr, u8)]) -> LinkFacts {
        LinkFacts {
            name: "eth1".into(),
            index: 7,
            hardware: Hardware::Ethernet,
            mac: Mac([2, 0, 0, 0, 0, 0x77]),
            mtu: 9000,
            rate: Some(10_000_000_000),
            addresses: addresses.to_vec(),
            link_local: None,
            gateway: None,
            default_route: false,
            loopback: false,
            up: true,
        }
    }

    #[test]
    fn the_head_keeps_its_address_while_the_interface_has_it() {
        let config = config();
        let other: Ipv4Addr = [192, 0, 2, 1].into();
        let new = fitted(&config, 0, &facts(&[(other, 24), (HEAD, 16)])).unwrap();
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
        assert_eq!(
            fitted(&config, 0, &facts(&[([192, 0, 2, 1].into(), 24), (moved, 24)])).unwrap().head,
            moved,
            "whatever its prefix length is"
        );
        config.links[0].head_is_set = true;
        assert_eq!(fitted(&config, 0, &facts(&[(moved, 16)])), Err(Unfit::HeadMissing { head: HEAD }));
    }

    #[test]
    fn an_address_that_does_not_fit_serves_nobody() {
        let config = config();
        let subnet = config.networks[0].subnet;
        let other_servers: Ipv4Addr = [192, 0, 2, 1].into();
        assert_eq!(fitted(&config, 0, &facts(&[])), Err(Unfit::NoAddress { subnet, has: None }));
        assert_eq!(fitted(&config, 0, &facts(&[(other_servers, 24)])), Err(Unfit::NoAddress { subnet, has: Some(other_servers) }));
        let node = config.plan.node0();
        assert_eq!(fitted(&config, 0, &facts(&[(node, 16)])), Err(Unfit::Taken { address: node, whose: "a node's" }));
        let guest = config.networks[0].guests.and_then(|guests| guests.nth(0)).expect("guests");
        assert_eq!(fitted(&config, 0, &facts(&[(guest, 16)])), Err(Unfit::Taken { address: guest, whose: "a guest's" }));
        let was_ethernet = LinkFacts { hardware: Hardware::Infiniband, ..facts(&[(HEAD, 16)]) };
        assert!(matches!(fitted(&config, 0, &was_ethernet), Err(Unfit::Hardware { .. })));
    }

    #[test]
    fn a_rate_that_the_config_sets_stays() {
        let mut config = config();
        (config.links[0].rate, config.links[0].rate_is_set) = (Some(1_000_000_000), true);
        assert_eq!(fitted(&config, 0, &facts(&[(HEAD, 16)])).unwrap().rate, Some(1_000_000_000));
        config.links[0].rate_is_set = false;
        let unknown = LinkFacts { rate: None, ..facts(&[(HEAD, 16)]) };
        assert_eq!(fitted(&config, 0, &unknown).unwrap().rate, Some(1_000_000_000), "a card without its cable does not know");
    }
}
