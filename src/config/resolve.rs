//! Flags, text and facts -> one [`Config`]: which links there are, which networks they have, and what follows from them.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{Error, Errors, listed};
use super::raw::{self, Guests, NetworkSection, Raw};
use super::value::Set;
use super::{Config, LinkConfig, Network, Tftp, boot, check, derive, dns, setting, shadow, street};
use crate::base::facts::LinkFacts;
use crate::base::limits;
use crate::base::machine::Link;
use crate::roll::plan::{AddressPlan, AddressRange, Subnet};

const LEASE: Duration = Duration::from_secs(12 * 3600);
const GUEST_LEASE: Duration = Duration::from_secs(600);
const GIVE_UP: Duration = Duration::from_secs(30);
const PORTS: (u16, u16) = (20_069, 20_084);
const WINDOWSIZE: u64 = 16;
const RUN_DIR: &str = "/run/muster";
const STATE_DIR: &str = "/var/lib/muster";
/// The first of the site-specific codes (RFC 3942).
const REPORT_OPTION: u8 = 224;
/// A thousand machines that pass within a minute and a half wait for nothing.
const NEW_NUMBERS: u32 = 600;

/// What the command line says; it wins over the file.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `-i`: boot interfaces, which replace those of the file.
    pub interfaces: Vec<String>,
    /// `-r`: the folder that TFTP serves.
    pub root: Option<PathBuf>,
    /// `--run-dir`
    pub run_dir: Option<PathBuf>,
    /// `--state-dir`
    pub state_dir: Option<PathBuf>,
}

/// A config file's text; the path is for errors only.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    pub path: &'a str,
    pub text: &'a str,
}

/// What resolution may ask of the machine it runs on.
pub trait World {
    fn links(&self) -> &[LinkFacts];

    /// Whether there is a regular file of this name beneath the root.
    fn exists(&self, root: &Path, name: &str) -> bool;
}

#[derive(Clone, Debug)]
pub struct Resolved {
    pub config: Config,
    /// A line for each thing that was derived and not configured, and for what the operator will probably miss.
    pub choices: Vec<String>,
}

/// Text, flags and facts -> one checked config. Without a text everything is derived from the interfaces that the flags name.
///
/// # Errors
/// Everything that is wrong, as far as it can be found in one run.
pub fn resolve(text: Option<Text<'_>>, flags: &Flags, world: &impl World) -> Result<Resolved, Vec<Error>> {
    let mut errors = Errors::new(text);
    let raw = match text {
        None => Raw::default(),
        Some(text) => match raw::read(text, &mut errors) {
            Some(raw) => raw,
            None => return Err(errors.into_errors()),
        },
    };
    let mut choices = Vec::new();
    let ground = if raw.addresses_unsure { None } else { ground(&raw, flags, world, &mut errors, &mut choices) };
    let nodes = check::nodes(&raw, ground.as_ref().map(|ground| ground.plan), &mut errors);
    dns::check(&raw.dns, ground.as_ref().map_or(&[], |ground| ground.links.as_slice()), &mut errors);
    let root = boot::root(&raw.boot, flags, &mut errors, &mut choices);
    let boot = boot::boot(&raw.boot.choice, root, world, &mut choices);
    let special = boot::special(&raw.special);
    boot::check_scripts(&boot, &special, &raw, &mut errors, &mut choices);
    shadow::shadowed(text, &raw, &mut choices);
    let run_dir = folder("--run-dir", &flags.run_dir, &raw.run_dir, RUN_DIR, &mut errors);
    let state_dir = folder("--state-dir", &flags.state_dir, &raw.state_dir, STATE_DIR, &mut errors);
    let Some(Ground { plan, links, networks }) = ground.filter(|_| errors.is_empty()) else {
        return Err(errors.into_errors());
    };
    let config = Config {
        plan,
        origins: setting::origins(text, &raw, &boot, &links, &networks),
        numbering: value(&raw.cluster.numbering).unwrap_or_default(),
        new_numbers: value(&raw.cluster.new_numbers).map_or(NEW_NUMBERS, |numbers| numbers as u32),
        links,
        networks,
        nodes,
        boot,
        special,
        tftp: Tftp {
            ports: value(&raw.ports).unwrap_or(PORTS),
            windowsize: value(&raw.windowsize).unwrap_or(WINDOWSIZE) as u16,
            give_up: value(&raw.give_up).unwrap_or(GIVE_UP),
        },
        dns: raw.dns.resolved(),
        capacity: capacity(&raw),
        authoritative: value(&raw.authoritative).unwrap_or(false),
        report_option: value(&raw.report_option).map_or(REPORT_OPTION, |code| code as u8),
        ignore: value(&raw.cluster.ignore).unwrap_or_default(),
        router_adverts: value(&raw.router_adverts).unwrap_or(true),
        run_dir,
        state_dir,
    };
    Ok(Resolved { config, choices })
}

pub(super) fn value<T: Clone>(set: &Option<Set<T>>) -> Option<T> {
    set.as_ref().map(|set| set.value.clone())
}

fn at<T>(set: &Option<Set<T>>) -> Option<&Range<usize>> {
    set.as_ref().map(|set| &set.at)
}

pub(super) fn capacity(raw: &Raw) -> usize {
    value(&raw.capacity).map_or(limits::CAPACITY_DEFAULT, |capacity| capacity as usize)
}

/// A folder: by its flag, by its key, or the usual one.
fn folder(name: &str, flag: &Option<PathBuf>, key: &Option<Set<String>>, usual: &str, errors: &mut Errors<'_>) -> PathBuf {
    let dir = flag.clone().unwrap_or_else(|| PathBuf::from(value(key).as_deref().unwrap_or(usual)));
    if dir.to_str().is_none_or(|text| text.chars().any(char::is_control)) {
        errors.add(None, name, format!("{dir:?} is not plain text: choose another folder"));
    }
    dir
}

/// Where everybody lives.
struct Ground {
    plan: AddressPlan,
    links: Vec<LinkConfig>,
    networks: Vec<Network>,
}

/// A network on its way: what is known of it, and where its guests were configured.
pub(super) struct Draft<'r> {
    pub network: Network,
    /// For sentences: the interface, or the subnet.
    pub name: String,
    /// What the file says of it, if anything.
    section: Option<&'r Set<NetworkSection>>,
    /// The configured guests, the network's own or the cluster's.
    pub guests: Option<&'r Set<Guests>>,
    pub head: Option<Ipv4Addr>,
}

impl Draft<'_> {
    /// The place of a key that was set, else of the whole section; None for what the flags brought.
    pub fn place<T>(&self, key: impl FnOnce(&NetworkSection) -> &Option<Set<T>>) -> Option<Range<usize>> {
        self.section.map(|section| at(key(&section.value)).unwrap_or(&section.at).clone())
    }

    pub fn guests_place(&self) -> Option<Range<usize>> {
        self.guests.map(|guests| guests.at.clone())
    }

    /// Addresses that neither nodes nor guests are given by derivation.
    pub fn taken(&self) -> Vec<AddressRange> {
        let network = &self.network;
        let addresses = self.head.iter().chain(&network.routers).chain(&network.dns).chain(&network.ntp);
        addresses.map(|&address| AddressRange::one(address)).collect()
    }
}

fn ground(raw: &Raw, flags: &Flags, world: &impl World, errors: &mut Errors<'_>, choices: &mut Vec<String>) -> Option<Ground> {
    let before = errors.count();
    let wanted = wanted_links(raw, flags, errors, choices);
    let chosen = chosen_links(wanted, world, errors)?;
    let mut links = Vec::new();
    let mut drafts = Vec::new();
    for (position, Chosen { facts, section }) in chosen.iter().enumerate() {
        let Some((head, prefix)) = head_address(facts, *section, errors) else { continue };
        let subnet = Subnet::of(head, prefix);
        choices.push(format!("{}: network {subnet}, head {head}", facts.name));
        links.push(link(facts, *section, head));
        drafts.push(draft(raw, subnet, Some((position as Link, facts, head)), *section, choices));
    }
    for section in raw.networks.iter().filter(|section| section.value.interface.is_none()) {
        drafts.extend(section.value.subnet.as_ref().map(|subnet| draft(raw, subnet.value, None, Some(section), choices)));
    }
    cluster_guests(raw, &mut drafts, errors);
    check::subnets(&drafts, errors);
    if errors.count() > before {
        return None;
    }
    let plan = street::street(raw, &mut drafts, errors, choices)?;
    check::addresses(raw, &drafts, plan, capacity(raw), errors);
    Some(Ground { plan, links, networks: drafts.into_iter().map(|draft| draft.network).collect() })
}

/// A boot interface, and what the file says of it.
struct Chosen<'a> {
    facts: &'a LinkFacts,
    section: Option<&'a Set<NetworkSection>>,
}

/// A boot interface by its name only; it has a place when the file chose it.
struct Wanted<'a> {
    name: &'a str,
    section: Option<&'a Set<NetworkSection>>,
    at: Option<&'a Range<usize>>,
}

/// The boot interfaces: those of the flags, else those of the file.
fn wanted_links<'a>(raw: &'a Raw, flags: &'a Flags, errors: &mut Errors<'_>, choices: &mut Vec<String>) -> Vec<Wanted<'a>> {
    let mut wanted: Vec<Wanted<'a>> = Vec::new();
    for section in &raw.networks {
        let Some(Set { value: name, at }) = &section.value.interface else { continue };
        if wanted.iter().any(|known| known.name == name) {
            errors.add(Some(at), "interface", format!("{name:?} has a section already: leave one of the two out"));
        }
        wanted.push(Wanted { name, section: Some(section), at: Some(at) });
    }
    if flags.interfaces.is_empty() {
        return wanted;
    }
    let configured = std::mem::take(&mut wanted);
    for name in &flags.interfaces {
        let section = configured.iter().find(|known| known.name == name).and_then(|known| known.section);
        if !wanted.iter().any(|known| known.name == name) {
            wanted.push(Wanted { name, section, at: None });
        }
    }
    let unused = configured.iter().filter(|known| !flags.interfaces.iter().any(|name| name == known.name));
    choices.extend(unused.map(|known| format!("{}: left out, as -i names other interfaces", known.name)));
    wanted
}

/// What the machine says of the interfaces that were chosen.
fn chosen_links<'a>(wanted: Vec<Wanted<'a>>, world: &'a impl World, errors: &mut Errors<'_>) -> Option<Vec<Chosen<'a>>> {
    if wanted.is_empty() {
        let what = format!("none chosen: give -i IF, or [[network]] with interface = \"IF\"; {}", candidates(world.links()));
        errors.add(None, "boot interface", what);
        return None;
    }
    if wanted.len() > limits::LINKS_MAX {
        errors.add(None, "boot interfaces", format!("{} are chosen: at most {} are possible", wanted.len(), limits::LINKS_MAX));
        return None;
    }
    let before = errors.count();
    let mut chosen = Vec::new();
    for Wanted { name, section, at } in wanted {
        match world.links().iter().find(|facts| facts.name == name) {
            Some(facts) => chosen.push(Chosen { facts, section }),
            None => {
                let key = if at.is_some() { "interface" } else { "-i" };
                errors.add(at, key, format!("there is no interface {name:?}: {}", candidates(world.links())));
            }
        }
    }
    (errors.count() == before).then_some(chosen)
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
        () if !all.is_empty() => format!("this machine has {}, its way to the rest of the world", listed(all)),
        () => "no interface of this machine has an IPv4 address: give one to the boot interface (ip address add 10.54.0.1/16 dev IF)"
            .to_string(),
    }
}

/// The address by which the head is known on a link, with its prefix length: the configured one, else the interface's first.
fn head_address(facts: &LinkFacts, section: Option<&Set<NetworkSection>>, errors: &mut Errors<'_>) -> Option<(Ipv4Addr, u8)> {
    let configured = section.and_then(|section| section.value.head.as_ref());
    let interface = section.and_then(|section| at(&section.value.interface));
    let name = &facts.name;
    let Some(&first) = facts.addresses.first() else {
        errors.add(interface, "interface", format!("{name} has no IPv4 address: give it one (ip address add 10.54.0.1/16 dev {name})"));
        return None;
    };
    let (head, prefix) = match configured {
        None => first,
        Some(head) => match facts.addresses.iter().find(|(address, _)| *address == head.value) {
            Some(found) => *found,
            None => {
                let has = listed(facts.addresses.iter().map(|(address, _)| address));
                errors.add(Some(&head.at), "head", format!("\"{}\" is not an address of {name}, which has {has}", head.value));
                return None;
            }
        },
    };
    if prefix > derive::PREFIX_MAX {
        let what = format!("{name} has {head}/{prefix}, which is too small: a boot network is a /{} or larger", derive::PREFIX_MAX);
        errors.add(interface, "interface", what);
        return None;
    }
    Some((head, prefix))
}

fn link(facts: &LinkFacts, section: Option<&Set<NetworkSection>>, head: Ipv4Addr) -> LinkConfig {
    LinkConfig {
        interface: facts.name.clone(),
        index: facts.index,
        hardware: facts.hardware,
        mac: facts.mac,
        head,
        mtu: facts.mtu,
        rate: section.and_then(|section| value(&section.value.link_rate)).or(facts.rate),
        queue_delay: section.and_then(|section| value(&section.value.queue_delay)).unwrap_or(LinkConfig::QUEUE_DELAY),
    }
}

/// A network with everything but its guests.
fn draft<'r>(
    raw: &'r Raw,
    subnet: Subnet,
    own: Option<(Link, &LinkFacts, Ipv4Addr)>,
    section: Option<&'r Set<NetworkSection>>,
    choices: &mut Vec<String>,
) -> Draft<'r> {
    let set = section.map(|section| &section.value);
    let gateway = own.and_then(|(_, facts, _)| facts.gateway).filter(|gateway| subnet.is_host(*gateway));
    let name = own.map_or_else(|| subnet.to_string(), |(_, facts, _)| facts.name.clone());
    let routers = set.and_then(|set| value(&set.router)).unwrap_or_else(|| {
        choices.extend(gateway.iter().map(|gateway| format!("{name}: router {gateway} (the interface's gateway)")));
        gateway.into_iter().collect()
    });
    let network = Network {
        subnet,
        link: own.map(|(link, ..)| link),
        guests: None,
        guest_lease: set.and_then(|set| value(&set.guest_lease)).or(value(&raw.guest_lease)).unwrap_or(GUEST_LEASE),
        lease: set.and_then(|set| value(&set.lease)).or(value(&raw.lease)).unwrap_or(LEASE),
        routers,
        dns: set.and_then(|set| value(&set.dns)).unwrap_or_else(|| dns::told(&raw.dns, &name, own.map(|(.., head)| head), choices)),
        ntp: set.and_then(|set| value(&set.ntp)).unwrap_or_default(),
        domain: set.and_then(|set| value(&set.domain)),
        options: set.map(|set| set.options.iter().map(|option| option.value.clone()).collect()).unwrap_or_default(),
    };
    Draft { network, name, section, guests: set.and_then(|set| set.guests.as_ref()), head: own.map(|(.., head)| head) }
}

/// `guests` of [cluster] belong to the network that holds them; `"none"` to all that don't say otherwise.
fn cluster_guests<'r>(raw: &'r Raw, drafts: &mut [Draft<'r>], errors: &mut Errors<'_>) {
    let Some(guests) = &raw.cluster.guests else { return };
    let Some(range) = guests.value else {
        drafts.iter_mut().filter(|draft| draft.guests.is_none()).for_each(|draft| draft.guests = Some(guests));
        return;
    };
    let subnets = listed(drafts.iter().map(|draft| draft.network.subnet));
    match drafts.iter_mut().find(|draft| draft.network.subnet.contains(range.first())) {
        None => errors.add(Some(&guests.at), "guests", format!("\"{range}\" lies in no served network: choose a range in {subnets}")),
        Some(Draft { guests: Some(own), .. }) => {
            errors.add(Some(&own.at), "guests", "[cluster] has guests in this network too: leave one of the two out".to_string());
        }
        Some(draft) => draft.guests = Some(guests),
    }
}
