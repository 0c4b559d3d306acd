//! Settings that numbers may differ in: which key, what value, which section of the config gave it.

use std::fmt::{self, Write};
use std::net::Ipv4Addr;
use std::time::Duration;

use super::effective::Quoted;
use super::error::line_and_column;
use super::options::Shown;
use super::raw::{Choice, ForSection, Raw};
use super::value::{Set, shown_duration};
use super::{Boot, LinkConfig, Network, Text};
use crate::roll::kind::Arch;

/// What holds for a number, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting<'a> {
    pub key: Key,
    pub value: Value<'a>,
    pub origin: Origin,
}

/// A key that a node's settings have: those of `[[for]]`, and those of its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Program(Arch),
    Script,
    Kernel,
    Initrd,
    Args,
    Lease,
    Router,
    Dns,
    Ntp,
    Domain,
    /// A DHCP option of the operator's own.
    Option(u8),
}

/// As errors call it: `program.efi-x64`, `args`, `options.66`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Program(arch) => write!(f, "program.{arch}"),
            Key::Script => f.write_str("script"),
            Key::Kernel => f.write_str("kernel"),
            Key::Initrd => f.write_str("initrd"),
            Key::Args => f.write_str("args"),
            Key::Lease => f.write_str("lease"),
            Key::Router => f.write_str("router"),
            Key::Dns => f.write_str("dns"),
            Key::Ntp => f.write_str("ntp"),
            Key::Domain => f.write_str("domain"),
            Key::Option(code) => write!(f, "options.{code}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Text(&'a str),
    Files(&'a [String]),
    Time(Duration),
    Addresses(&'a [Ipv4Addr]),
    /// The bytes of a DHCP option, and its code.
    Option(u8, &'a [u8]),
}

/// As the config would have it, in TOML.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Value::Text(text) => Quoted(text).fmt(f),
            Value::Files(files) => list(f, files.iter().map(|file| Quoted(file))),
            Value::Addresses(addresses) => list(f, addresses.iter().map(InQuotes)),
            Value::Time(time) => InQuotes(shown_duration(time)).fmt(f),
            Value::Option(code, bytes) => Shown(code, bytes).fmt(f),
        }
    }
}

struct InQuotes<T>(T);

impl<T: fmt::Display> fmt::Display for InQuotes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

fn list(f: &mut fmt::Formatter<'_>, values: impl Iterator<Item = impl fmt::Display>) -> fmt::Result {
    f.write_char('[')?;
    for (at, value) in values.enumerate() {
        write!(f, "{}{value}", if at == 0 { "" } else { ", " })?;
    }
    f.write_char(']')
}

/// Where a setting comes from. Lines count from 1; there are none without a config file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    #[default]
    Default,
    /// A file of a usual name in the root.
    Found,
    /// A text that is made from kernel, initrd and args.
    Made,
    Boot,
    Dhcp,
    Network(Option<usize>),
    For(Option<usize>),
}

/// As `muster node show` prints it: `[[for]] line 12`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let section = |f: &mut fmt::Formatter<'_>, name, line: Option<usize>| match line {
            Some(line) => write!(f, "{name} line {line}"),
            None => f.write_str(name),
        };
        match *self {
            Origin::Default => f.write_str("default"),
            Origin::Found => f.write_str("found in the root"),
            Origin::Made => f.write_str("made from kernel, initrd and args"),
            Origin::Boot => f.write_str("[boot]"),
            Origin::Dhcp => f.write_str("[dhcp]"),
            Origin::Network(line) => section(f, "[[network]]", line),
            Origin::For(line) => section(f, "[[for]]", line),
        }
    }
}

/// What a [`Config`](super::Config) remembers of the file that it was read from. It is no part of what the config means: all are equal.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// The lines of the `[[for]]` sections.
    special: Vec<usize>,
    networks: Vec<NetworkOrigins>,
    /// What `[boot]` leaves out and the root has.
    found: Vec<Key>,
}

#[derive(Clone, Copy, Debug, Default)]
struct NetworkOrigins {
    /// The line of its section, if it has one.
    line: Option<usize>,
    lease: Origin,
    router: Origin,
}

impl PartialEq for Origins {
    fn eq(&self, _: &Origins) -> bool {
        true
    }
}

impl Origins {
    /// The `[[for]]` section at a place of [`Config::special`](super::Config).
    pub fn special(&self, at: usize) -> Origin {
        Origin::For(self.special.get(at).copied())
    }

    /// The section of the network at a place of [`Config::networks`](super::Config).
    pub fn network(&self, at: usize) -> Origin {
        Origin::Network(self.networks.get(at).and_then(|network| network.line))
    }

    /// What says the lease in that network.
    pub fn lease(&self, at: usize) -> Origin {
        self.networks.get(at).map_or(Origin::Default, |network| network.lease)
    }

    /// What says the routers in that network.
    pub fn router(&self, at: usize) -> Origin {
        self.networks.get(at).map_or(Origin::Default, |network| network.router)
    }

    /// Where `[boot]` has a key from that is set for all.
    pub fn boot(&self, key: Key) -> Origin {
        if self.found.contains(&key) { Origin::Found } else { Origin::Boot }
    }
}

/// Notes where everything comes from.
pub(super) fn origins(text: Option<Text<'_>>, raw: &Raw, boot: &Boot, links: &[LinkConfig], networks: &[Network]) -> Origins {
    let line = |at: usize| text.map_or(0, |text| line_and_column(text.text, at).0);
    let section = |network: &Network| {
        let interface = network.link.and_then(|link| links.get(usize::from(link))).map(|link| link.interface.as_str());
        raw.networks.iter().find(|Set { value, .. }| match interface {
            Some(interface) => value.interface.as_ref().is_some_and(|set| set.value == interface),
            None => value.subnet.as_ref().is_some_and(|set| set.value == network.subnet),
        })
    };
    let network = |network: &Network| {
        let section = section(network);
        let place = section.map(|section| line(section.at.start));
        let lease = match section {
            Some(section) if section.value.lease.is_some() => Origin::Network(place),
            _ if raw.lease.is_some() => Origin::Dhcp,
            _ => Origin::Default,
        };
        let has_router = section.is_some_and(|section| section.value.router.is_some());
        NetworkOrigins { line: place, lease, router: if has_router { Origin::Network(place) } else { Origin::Default } }
    };
    Origins {
        special: raw.special.iter().map(|section| line(section.at.start)).collect(),
        networks: networks.iter().map(network).collect(),
        found: found(&raw.boot.choice, boot),
    }
}

fn found(choice: &Choice, boot: &Boot) -> Vec<Key> {
    let configured: Vec<Key> = choice_keys(choice).collect();
    let programs = boot.program.iter().map(|(arch, _)| Key::Program(*arch));
    let script = boot.script.as_ref().map(|_| Key::Script);
    let kernel = boot.kernel.as_ref().map(|_| Key::Kernel);
    let initrd = (!boot.initrd.is_empty()).then_some(Key::Initrd);
    programs.chain(script).chain(kernel).chain(initrd).filter(|key| !configured.contains(key)).collect()
}

fn choice_keys(choice: &Choice) -> impl Iterator<Item = Key> {
    let programs = choice.program.iter().map(|set| Key::Program(set.value.0));
    let script = choice.script.as_ref().map(|_| Key::Script);
    let kernel = choice.kernel.as_ref().map(|_| Key::Kernel);
    let initrd = choice.initrd.as_ref().map(|_| Key::Initrd);
    programs.chain(script).chain(kernel).chain(initrd).chain(choice.args.as_ref().map(|_| Key::Args))
}

/// The keys that a section sets.
pub(super) fn keys(section: &ForSection) -> impl Iterator<Item = Key> {
    let options = section.options.iter().map(|set| Key::Option(set.value.0));
    choice_keys(&section.choice).chain(section.lease.as_ref().map(|_| Key::Lease)).chain(options)
}
