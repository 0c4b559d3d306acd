//! Which boot interfaces there are, and what is known of their networks and of those behind relays. Used by this room only.

use std::net::Ipv4Addr;
use std::ops::Range;

use super::derive;
use super::error::{Errors, listed};
use super::keys::NetworkKeys;
use super::keys::Section;
use super::model::{LinkConfig, Network};
use super::parsed::Parsed;
use super::value::{KeySlot, RATES, Set};
use crate::base::facts::LinkFacts;
use crate::base::limits;
use crate::base::machine::Link;
use crate::roll::plan::{AddressRange, Subnet};

/// A network whose gaps are being filled.
pub(super) struct NetworkDraft {
    pub keys: NetworkKeys,
    pub subnet: Subnet,
    /// The link whose own network this is, and the head's address there.
    pub own: Option<(Link, Ipv4Addr)>,
    /// For sentences: the interface, or the subnet.
    pub name: String,
}

impl NetworkDraft {
    /// The position of a key that the file sets, else that of the whole section; None for what the flags brought.
    pub fn place<'d>(&'d self, key: Option<&'d Range<usize>>) -> Option<&'d Range<usize>> {
        key.or(self.keys.at())
    }

    pub fn head(&self) -> Option<Ipv4Addr> {
        self.own.map(|(_, head)| head)
    }

    pub fn routers(&self) -> Vec<Ipv4Addr> {
        self.keys.router.value().unwrap_or_default()
    }

    pub fn guests(&self) -> Option<AddressRange> {
        self.keys.guests.value().flatten()
    }

    /// Addresses that neither nodes nor guests are given by derivation.
    pub fn taken(&self) -> Vec<AddressRange> {
        let lists = [&self.keys.router, &self.keys.dns, &self.keys.ntp];
        let addresses = self.head().into_iter().chain(lists.into_iter().flat_map(|list| list.value().unwrap_or_default()));
        addresses.map(AddressRange::one).collect()
    }

    /// What the listing says beside its keys.
    pub fn note(&self) -> String {
        self.own.map_or_else(String::new, |_| self.subnet.to_string())
    }

    pub fn network(&self) -> Network {
        Network {
            subnet: self.subnet,
            link: self.own.map(|(link, _)| link),
            guests: self.guests(),
            guest_lease: self.keys.guest_lease.filled(),
            lease: self.keys.lease.filled(),
            routers: self.routers(),
            dns: self.keys.dns.value().unwrap_or_default(),
            ntp: self.keys.ntp.filled(),
            domain: self.keys.domain.value(),
            mtu: self.keys.mtu.value(),
            options: self.keys.options.value().unwrap_or_default(),
        }
    }
}

/// A boot interface with its own network. None after an error.
fn own(
    link: Link,
    (facts, keys): (&LinkFacts, Option<&NetworkKeys>),
    parsed: &Parsed,
    errors: &mut Errors<'_>,
    notes: &mut Vec<String>,
) -> Option<(LinkConfig, NetworkDraft)> {
    let (head, prefix) = head_address(facts, keys, errors)?;
    let (subnet, name) = (Subnet::of(head, prefix), facts.name.clone());
    notes.push(format!("{name}: network {subnet}, head {head}"));
    let mut keys = keys.cloned().unwrap_or_default();
    let (head_is_set, rate_is_set) = (keys.head.is_some(), keys.link_rate.value().is_some());
    let rate = keys.link_rate.value().or(facts.rate);
    keys.interface.get_or_insert_with(|| Set::derived(name.clone()));
    keys.head.get_or_insert(Set::derived(head));
    keys.link_rate = keys.link_rate.or_else(|| facts.rate.filter(|rate| RATES.contains(rate)).map(Set::derived));
    if keys.router.is_none() {
        let gateway = facts.gateway.filter(|gateway| subnet.is_host(*gateway));
        notes.extend(gateway.map(|gateway| format!("{name}: router {gateway} (the interface's gateway)")));
        keys.router = Some(Set::derived(gateway.into_iter().collect()));
    }
    // Where other servers are known, this one knows every name.
    if keys.dns.is_none() && parsed.dns.enabled.filled() && !parsed.dns.upstream.filled().is_empty() {
        notes.push(format!("{name}: name server {head} (this one, as [dns] has an upstream)"));
        keys.dns = Some(Set::derived(vec![head]));
        // Short names are looked for there: without the domain n23 would not be found.
        let domain = parsed.cluster.name.filled();
        if keys.domain.is_none() {
            notes.push(format!("{name}: domain {domain} (the cluster's, as this is the name server)"));
            keys.domain = Some(Set::derived(domain));
        }
    }
    fill(&mut keys, parsed);
    let LinkFacts { index, hardware, mac, mtu, .. } = *facts;
    let queue_delay = keys.queue_delay.filled();
    let (interface, others) = (name.clone(), Vec::new());
    let config = LinkConfig { interface, index, hardware, mac, head, others, head_is_set, mtu, rate, rate_is_set, queue_delay };
    Some((config, NetworkDraft { keys, subnet, own: Some((link, head)), name }))
}

/// A network behind a relay.
pub(super) fn relayed(section: &NetworkKeys, subnet: Subnet, parsed: &Parsed) -> NetworkDraft {
    let mut keys = section.clone();
    fill(&mut keys, parsed);
    keys.queue_delay = None;
    NetworkDraft { keys, subnet, own: None, name: subnet.to_string() }
}

/// What is the same in networks of both kinds.
fn fill(keys: &mut NetworkKeys, parsed: &Parsed) {
    keys.lease = keys.lease.take().or_else(|| parsed.dhcp.lease.clone());
    keys.guest_lease = keys.guest_lease.take().or_else(|| parsed.dhcp.guest_lease.clone());
    keys.router.get_or_insert_with(|| Set::derived(Vec::new()));
    keys.dns.get_or_insert_with(|| Set::derived(Vec::new()));
    keys.fill();
}

/// The boot interfaces that flags and file choose, with their networks. None where there are none to speak of.
pub(super) fn links(
    parsed: &Parsed,
    interfaces: &[String],
    machine: &[LinkFacts],
    errors: &mut Errors<'_>,
    notes: &mut Vec<String>,
) -> Option<(Vec<LinkConfig>, Vec<NetworkDraft>)> {
    let wanted = wanted_links(parsed, interfaces, errors, notes);
    let chosen = chosen_links(wanted, machine, errors)?;
    Some(chosen.into_iter().enumerate().filter_map(|(link, chosen)| own(link as Link, chosen, parsed, errors, notes)).unzip())
}

/// A boot interface by its name only, and what the file says of it; it has a position when the file chose it.
struct LinkDraft<'a> {
    name: &'a str,
    keys: Option<&'a NetworkKeys>,
    at: Option<&'a Range<usize>>,
}

/// The boot interfaces: those of the flags, else those of the file.
fn wanted_links<'a>(parsed: &'a Parsed, interfaces: &'a [String], errors: &mut Errors<'_>, notes: &mut Vec<String>) -> Vec<LinkDraft<'a>> {
    let mut wanted: Vec<LinkDraft<'a>> = Vec::new();
    for keys in &parsed.networks {
        let Some(Set { value: name, at, .. }) = &keys.interface else { continue };
        if wanted.iter().any(|known| known.name == name) {
            errors.add(at.as_ref(), "interface", format!("{name:?} has a section already: leave one of the two out"));
        }
        wanted.push(LinkDraft { name, keys: Some(keys), at: at.as_ref() });
    }
    if interfaces.is_empty() {
        return wanted;
    }
    let configured = std::mem::take(&mut wanted);
    for name in interfaces {
        let keys = configured.iter().find(|known| known.name == name).and_then(|known| known.keys);
        if !wanted.iter().any(|known| known.name == name) {
            wanted.push(LinkDraft { name, keys, at: None });
        }
    }
    let unused = configured.iter().filter(|known| !interfaces.iter().any(|name| name == known.name));
    notes.extend(unused.map(|known| format!("{}: left out, as -i names other interfaces", known.name)));
    wanted
}

/// What the machine says of the interfaces that were chosen.
fn chosen_links<'a>(
    wanted: Vec<LinkDraft<'a>>,
    machine: &'a [LinkFacts],
    errors: &mut Errors<'_>,
) -> Option<Vec<(&'a LinkFacts, Option<&'a NetworkKeys>)>> {
    if wanted.is_empty() {
        let what = format!("none chosen: give -i IF, or [[network]] with interface = \"IF\"; {}", candidates(machine));
        errors.add(None, "boot interface", what);
        return None;
    }
    if wanted.len() > limits::LINKS_MAX {
        errors.add(None, "boot interfaces", format!("{} are chosen: at most {} are possible", wanted.len(), limits::LINKS_MAX));
        return None;
    }
    let before = errors.count();
    let mut chosen = Vec::new();
    for LinkDraft { name, keys, at } in wanted {
        if let Some(wrong) = no_name(name) {
            errors.add(at, if at.is_some() { "interface" } else { "-i" }, format!("{name:?} is no name of an interface: {wrong}"));
            continue;
        }
        match machine.iter().find(|facts| facts.name == name) {
            Some(LinkFacts { master: Some(master), .. }) => {
                let key = if at.is_some() { "interface" } else { "-i" };
                errors.add(at, key, format!("{name} is a part of {master}, which gets its frames: name {master} instead"));
            }
            Some(facts) => chosen.push((facts, keys)),
            None => {
                let key = if at.is_some() { "interface" } else { "-i" };
                errors.add_passing(at, key, format!("there is no interface {name:?}: {}", candidates(machine)));
            }
        }
    }
    (errors.count() == before).then_some(chosen)
}

/// Why an interface cannot have this name, so that nobody waits for it.
fn no_name(name: &str) -> Option<String> {
    if let Some((interface, _)) = name.split_once(':').filter(|(interface, _)| !interface.is_empty()) {
        return Some(format!("it is the label of an address: write {interface}, and the address as head if it is not the first"));
    }
    if name.contains(',') {
        return Some("write one name each: -i eth1 -i eth2".into());
    }
    let fits = (1..=15).contains(&name.len()) && !name.chars().any(|c| c == '/' || c.is_whitespace() || c.is_control());
    (!fits || name.parse::<Ipv4Addr>().is_ok()).then(|| "it has 1 to 15 characters, no blank and no slash, as in eth1".into())
}

/// Interfaces that could serve: those with an address that are not the way to the rest of the world; if there is none, all that have
/// an address.
fn candidates(links: &[LinkFacts]) -> String {
    let usable = |facts: &&LinkFacts| !facts.addresses.is_empty() && !facts.loopback;
    let shown = |facts: &LinkFacts| match facts.addresses.first() {
        Some((address, prefix)) => format!("{} ({address}/{prefix})", facts.name),
        None => facts.name.clone(),
    };
    let inner: Vec<String> = links.iter().filter(usable).filter(|facts| !facts.default_route).map(shown).collect();
    let all: Vec<String> = links.iter().filter(usable).map(shown).collect();
    match () {
        () if !inner.is_empty() => format!("this machine has {}", listed(inner)),
        () if !all.is_empty() => format!("this machine has {}, which has the default route", listed(all)),
        () => "no interface of this machine has an IPv4 address: give one to the boot interface (ip address add 10.54.0.1/16 dev IF)"
            .to_string(),
    }
}

/// The address by which the head is known on a link, with its prefix length: the configured one, else the interface's first that makes a network.
fn head_address(facts: &LinkFacts, keys: Option<&NetworkKeys>, errors: &mut Errors<'_>) -> Option<(Ipv4Addr, u8)> {
    let configured = keys.and_then(|keys| keys.head.as_ref());
    let interface = keys.and_then(|keys| keys.interface.at());
    let (name, has) = (&facts.name, || listed(facts.addresses.iter().map(|(address, prefix)| format!("{address}/{prefix}"))));
    // A virtual address (/32) makes no network, nor does one that the interface gave itself while nobody gave it any (RFC 3927).
    let networks = || facts.addresses.iter().copied().filter(|(address, prefix)| *prefix <= derive::PREFIX_MAX && !address.is_link_local());
    let Some(head) = configured else {
        if let Some(first) = networks().next() {
            return Some(first);
        }
        let remedy = format!("give it one (ip address add 10.54.0.1/16 dev {name})");
        let what = match facts.addresses.is_empty() {
            true => format!("{name} has no IPv4 address: {remedy}"),
            false => format!("{name} has {}, none of which makes a boot network of a /{} or larger: {remedy}", has(), derive::PREFIX_MAX),
        };
        errors.add_passing(interface, "interface", what);
        return None;
    };
    let own = facts.addresses.iter().copied().find(|(address, _)| *address == head.value);
    let Some((address, prefix)) = own else {
        let what = match facts.addresses.is_empty() {
            true => format!("{name} has no IPv4 address: give it one (ip address add 10.54.0.1/16 dev {name})"),
            false => format!("\"{}\" is not an address of {name}, which has {}", head.value, has()),
        };
        errors.add_passing(head.at.as_ref(), "head", what);
        return None;
    };
    let around = || networks().find(|(other, prefix)| Subnet::of(*other, *prefix).contains(address)).map(|(_, prefix)| prefix);
    let Some(prefix) = Some(prefix).filter(|prefix| *prefix <= derive::PREFIX_MAX).or_else(around) else {
        let what = format!(
            "{name} has {address}/{prefix}, and no address of the network around it: a boot network is a /{} or larger",
            derive::PREFIX_MAX
        );
        errors.add_passing(interface, "interface", what);
        return None;
    };
    Some((address, prefix))
}
