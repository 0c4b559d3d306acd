//! What musterd needs to know, validated.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::keys::{BootKeys, ClusterKeys, Dhcp, Dns, ForKeys, NetworkKeys, Server, Tftp, filled};
use super::listing::Listing;
use super::value::KeySlot;
use crate::base::addr::{Mac, MacPattern};
use crate::base::facts::{Hardware, LinkFacts};
use crate::base::machine::Link;
use crate::roll::kind::Arch;
use crate::roll::plan::{AddressPlan, AddressRange, Number, Subnet};
use crate::roll::ruling::Numbering;

/// What resolution may ask of the machine it runs on.
pub trait System {
    /// The interfaces of this machine.
    fn links(&self) -> &[LinkFacts];

    /// Whether there is a regular file of this name beneath the root.
    fn exists(&self, root: &Path, name: &str) -> bool;

    /// From now on links may lead into these folders as well.
    fn allow(&self, _: &[PathBuf]) {}

    /// These are the folders of the pid file and of the journal.
    fn places(&self, _run: &Path, _state: &Path) {}
}

/// Everything that musterd needs to know, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Which lots there are, where they lie, and what they are called; the cluster's name is its domain.
    pub plan: AddressPlan,
    /// How a machine without a number comes to one.
    pub numbering: Numbering,
    /// At most so many new numbers a minute, of which a fifth may be given at once.
    pub new_numbers: u32,
    /// MACs of machines that never get a number, BMCs and the like: they are guests for ever.
    pub ignore: Vec<MacPattern>,
    /// Boot interfaces; a [`Link`] is a place in this list. At least one.
    pub links: Vec<LinkConfig>,
    /// The links' own networks first, in the order of `links`, then those behind relays.
    pub networks: Vec<Network>,
    /// Known machines, in order of their numbers.
    pub nodes: Vec<KnownNode>,
    /// What machines boot.
    pub boot: Boot,
    /// `[[for]]` sections, in the order of the file: later ones win.
    pub overrides: Vec<Override>,
    /// `[tftp]`: transfers.
    pub tftp: Tftp,
    /// `[dhcp]`: addresses.
    pub dhcp: Dhcp,
    /// `[dns]`: names.
    pub dns: Dns,
    /// `[server]`: the daemon itself.
    pub server: Server,
    /// The same in the terms of the file, with each setting's origin. Shared by all copies of a config: a node takes half a kilobyte.
    pub listing: Arc<Listing>,
}

/// Ethernet's: firmware takes no larger packets, however large those of the head's interface are.
const MTU: u16 = 1500;

/// A boot interface.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkConfig {
    /// The kernel's name, such as `eth1`.
    pub interface: String,
    /// The kernel's interface index.
    pub index: u32,
    /// Ethernet or InfiniBand.
    pub hardware: Hardware,
    /// The head's hardware address; zero on InfiniBand.
    pub mac: Mac,
    /// The address by which the head is known on this link.
    pub head: Ipv4Addr,
    /// Its other addresses in networks that are served: the head is known by each of them.
    pub others: Vec<Ipv4Addr>,
    /// Bytes of an IP packet.
    pub mtu: u32,
    /// The config sets `head`: no other address of the interface takes its place.
    pub head_is_set: bool,
    /// Bits per second: the config's `link-rate`, else what the device says, else None (virtual devices).
    pub rate: Option<u64>,
    /// The config sets `link-rate`: what the device says does not count.
    pub rate_is_set: bool,
    /// How much queue on the way to the nodes is aimed at, 1 to 50 ms.
    pub queue_delay: Duration,
}

impl LinkConfig {
    /// Whether this is an address of the head's on the link.
    pub fn has(&self, address: Ipv4Addr) -> bool {
        self.head == address || self.others.contains(&address)
    }

    /// A link of 1,500 bytes, of which nothing is known or set: for simulations and tests.
    pub fn plain(interface: &str, index: u32, mac: Mac, head: Ipv4Addr) -> LinkConfig {
        let queue_delay = filled::<NetworkKeys>().queue_delay.filled();
        LinkConfig {
            interface: interface.into(),
            index,
            hardware: Hardware::Ethernet,
            mac,
            head,
            others: Vec::new(),
            head_is_set: false,
            mtu: 1500,
            rate: None,
            rate_is_set: false,
            queue_delay,
        }
    }
}

/// A subnet that is served: a link's own, or one behind a relay agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Its addresses.
    pub subnet: Subnet,
    /// The link whose own network this is; None for a relayed one.
    pub link: Option<Link>,
    /// Addresses of machines without a number. None: they get none here.
    pub guests: Option<AddressRange>,
    /// How long a guest keeps its address, at least a minute.
    pub guest_lease: Duration,
    /// The lease of numbered nodes, at least a minute.
    pub lease: Duration,
    /// DHCP option 3, the best first.
    pub routers: Vec<Ipv4Addr>,
    /// DHCP option 6, the best first.
    pub dns: Vec<Ipv4Addr>,
    /// DHCP option 42.
    pub ntp: Vec<Ipv4Addr>,
    /// DHCP option 15.
    pub domain: Option<String>,
    /// The largest IP packet, in bytes, that the nodes and the path to them take. None: 1500, or less where the path says so.
    pub mtu: Option<u16>,
    /// More DHCP options, by number, with their bytes; they win over everything the server would send itself.
    pub options: Vec<(u8, Vec<u8>)>,
}

impl Network {
    /// The largest IP packet, in bytes, for a node behind a path that takes `path`.
    pub fn mtu(&self, path: u32) -> u32 {
        path.min(self.mtu.unwrap_or(MTU).into())
    }

    /// A network without guests, of which nothing is set: for simulations and tests.
    pub fn plain(subnet: Subnet, link: Option<Link>) -> Network {
        let Dhcp { lease, guest_lease, .. } = Dhcp::default();
        let (routers, dns, ntp) = (Vec::new(), Vec::new(), Vec::new());
        Network { subnet, link, guests: None, guest_lease, lease, routers, dns, ntp, domain: None, mtu: None, options: Vec::new() }
    }
}

/// A `[[node]]` section.
#[derive(Clone, Debug, PartialEq)]
pub struct KnownNode {
    /// Its number.
    pub number: Number,
    /// At least one; no MAC belongs to two nodes.
    pub macs: Vec<Mac>,
}

/// What machines boot.
#[derive(Clone, Debug, PartialEq)]
pub struct Boot {
    /// The folder that TFTP serves.
    pub root: PathBuf,
    /// Folders into which links in the root may lead.
    pub allow: Vec<PathBuf>,
    /// Boot programs by architecture, relative to the root (a URI for HTTP architectures).
    pub program: Vec<(Arch, String)>,
    /// The second stage, handed to iPXE: a file beneath the root. None: a script made from kernel, initrd and args.
    pub script: Option<String>,
    /// The kernel, for scripts that are generated; relative to the root.
    pub kernel: Option<String>,
    /// Initial RAM disks, in order; relative to the root.
    pub initrd: Vec<String>,
    /// Kernel arguments; `{node}` is replaced by the number, `{name}` by the name, `{ip}` by the address, `{mac}` by the MAC, `{head}` by
    /// the head's address.
    pub args: String,
}

impl From<&BootKeys> for Boot {
    fn from(keys: &BootKeys) -> Boot {
        Boot {
            root: keys.root.filled(),
            allow: keys.allow.filled(),
            program: keys.program.value().unwrap_or_default(),
            script: keys.script.value(),
            kernel: keys.kernel.value(),
            initrd: keys.initrd.value().unwrap_or_default(),
            args: keys.args.filled(),
        }
    }
}

/// A `[[for]]` section: what it leaves out stays as it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// Inclusive ranges of numbers.
    pub nodes: Vec<(Number, Number)>,
    /// Boot programs by architecture; other architectures stay as they were.
    pub program: Vec<(Arch, String)>,
    /// What iPXE runs.
    pub script: Option<String>,
    /// The kernel, for scripts that are generated.
    pub kernel: Option<String>,
    /// Initial RAM disks; an empty list means none.
    pub initrd: Option<Vec<String>>,
    /// The kernel's arguments, instead of those of `[boot]`.
    pub args: Option<String>,
    /// The lease of these nodes.
    pub lease: Option<Duration>,
    /// DHCP options by number, with their bytes.
    pub options: Vec<(u8, Vec<u8>)>,
}

impl From<&ForKeys> for Override {
    fn from(keys: &ForKeys) -> Override {
        Override {
            nodes: keys.nodes.value().unwrap_or_default(),
            program: keys.program.value().unwrap_or_default(),
            script: keys.script.value(),
            kernel: keys.kernel.value(),
            initrd: keys.initrd.value(),
            args: keys.args.value(),
            lease: keys.lease.value(),
            options: keys.options.value().unwrap_or_default(),
        }
    }
}

impl Config {
    /// A config of these parts, with names not served and everything else as the table of keys has it: for simulations and tests.
    pub fn plain(plan: AddressPlan, links: Vec<LinkConfig>, networks: Vec<Network>) -> Config {
        let cluster: ClusterKeys = filled();
        Config {
            plan,
            numbering: cluster.numbering.filled(),
            new_numbers: cluster.new_numbers.filled(),
            ignore: Vec::new(),
            links,
            networks,
            nodes: Vec::new(),
            boot: Boot::from(&filled()),
            overrides: Vec::new(),
            tftp: Tftp::default(),
            dhcp: Dhcp::default(),
            dns: Dns { enabled: false, ..Dns::default() },
            server: Server::default(),
            listing: Arc::default(),
        }
    }

    /// What a running daemon cannot take over, a line each; empty when the new config can simply be used.
    pub fn needs_restart(&self, new: &Config) -> Vec<String> {
        let names = |config: &Config| config.links.iter().map(|link| link.interface.clone()).collect::<Vec<_>>().join(", ");
        let mut lines = Vec::new();
        let mut changed = |what: &str, old: String, new: String| {
            if old != new {
                lines.push(format!("{what} {old} -> {new}"));
            }
        };
        changed("boot interfaces", names(self), names(new));
        lines.extend(self.listing.needs_restart(&new.listing));
        lines
    }

    /// The head's own address on node 0's network, else on its first.
    pub fn head(&self) -> Option<Ipv4Addr> {
        let home = self.networks.iter().find(|network| network.subnet.contains(self.plan.node0()));
        let link = home.and_then(|home| home.link).and_then(|link| self.links.get(usize::from(link)));
        link.or(self.links.first()).map(|link| link.head)
    }

    /// Whether this is an address of the head's on one of its links.
    pub fn is_own(&self, address: Ipv4Addr) -> bool {
        self.links.iter().any(|link| link.has(address))
    }

    /// The network that an address belongs to.
    pub fn network_of(&self, address: Ipv4Addr) -> Option<usize> {
        self.networks.iter().position(|network| network.subnet.contains(address))
    }

    /// The networks that may be reached over a link: its own and, since relays answer through any, all relayed ones.
    pub fn serves(&self, link: Link, address: Ipv4Addr) -> bool {
        self.network_of(address).is_some_and(|at| self.networks[at].link.is_none_or(|own| own == link))
    }
}
