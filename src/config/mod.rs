//! Text, flags and facts -> one checked [`Config`], before anything is opened.
//!
//! Every later room may rely on what is checked here: addresses do not overlap, numbers have a lot, links exist, limits hold.

mod boot;
mod check;
mod derive;
mod dns;
mod effective;
mod error;
mod options;
mod raw;
mod resolve;
mod setting;
mod shadow;
mod street;
mod value;

#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

pub use dns::Dns;
pub use effective::{difference, effective, needs_restart};
pub use error::{Error, Place, nearest};
pub use resolve::{Flags, Resolved, Text, World, resolve};
pub use setting::{Key, Origin, Origins, Setting, Value};

use crate::base::addr::{Mac, MacPattern};
pub use crate::base::facts::Hardware;
use crate::base::machine::Link;
use crate::roll::kind::Arch;
use crate::roll::plan::{AddressPlan, AddressRange, Number, Subnet};
pub use crate::roll::ruling::Numbering;

/// Everything that musterd needs to know, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Which lots there are, where they lie, and what they are called; the cluster's name is its domain.
    pub plan: AddressPlan,
    /// How strangers come to a number.
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
    pub boot: Boot,
    /// `[[for]]` sections, in the order of the file: later ones win.
    pub special: Vec<Special>,
    /// Which lines of the file said it.
    pub origins: Origins,
    pub tftp: Tftp,
    pub dns: Dns,
    /// Client records.
    pub capacity: usize,
    /// Answer an INIT-REBOOT of an unknown client on the right network with a NAK instead of silence.
    pub authoritative: bool,
    /// The DHCP option that carries a machine's report.
    pub report_option: u8,
    /// Answer IPv6 router solicitations with a lifetime of 0, so that no firmware waits for a router.
    pub router_adverts: bool,
    /// Where the pid file and state.json go.
    pub run_dir: PathBuf,
    /// Where the journal is kept.
    pub state_dir: PathBuf,
}

/// A boot interface.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkConfig {
    pub interface: String,
    /// The kernel's interface index.
    pub index: u32,
    pub hardware: Hardware,
    pub mac: Mac,
    /// The address by which the head is known on this link.
    pub head: Ipv4Addr,
    /// Bytes of an IP packet.
    pub mtu: u32,
    /// Bits per second: the config's `link-rate`, else what the device says, else None (virtual devices).
    pub rate: Option<u64>,
    /// How much queue on the way to the nodes is aimed at, 1 to 50 ms.
    pub queue_delay: Duration,
}

impl LinkConfig {
    /// 2 ms: 160 full frames at 1 Gbit/s, less than a small switch's queue.
    pub const QUEUE_DELAY: Duration = Duration::from_millis(2);
}

/// A subnet that is served: a link's own, or one behind a relay agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    pub subnet: Subnet,
    /// The link whose own network this is; None for a relayed one.
    pub link: Option<Link>,
    /// Where strangers live. None: strangers get nothing here.
    pub guests: Option<AddressRange>,
    /// How long a guest keeps its address, at least a minute.
    pub guest_lease: Duration,
    /// The lease told to numbered nodes, at least a minute.
    pub lease: Duration,
    pub routers: Vec<Ipv4Addr>,
    pub dns: Vec<Ipv4Addr>,
    pub ntp: Vec<Ipv4Addr>,
    /// DHCP option 15.
    pub domain: Option<String>,
    /// More DHCP options, by number, with their bytes; they win over everything the server would send itself.
    pub options: Vec<(u8, Vec<u8>)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct KnownNode {
    pub number: Number,
    /// At least one; no MAC belongs to two nodes.
    pub macs: Vec<Mac>,
}

/// What machines boot.
#[derive(Clone, Debug, PartialEq)]
pub struct Boot {
    /// The folder that TFTP serves.
    pub root: PathBuf,
    /// Boot programs by architecture, relative to the root (a URI for HTTP architectures).
    pub program: Vec<(Arch, String)>,
    /// The second stage, handed to iPXE: a file beneath the root. None: a script made from kernel, initrd and args.
    pub script: Option<String>,
    pub kernel: Option<String>,
    pub initrd: Vec<String>,
    /// Kernel arguments; `{node}` is replaced by the number, `{name}` by the name, `{ip}` by the address, `{mac}` by the MAC, `{head}` by the head's address.
    pub args: String,
}

/// A `[[for]]` section: what it leaves out stays as it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Special {
    /// Inclusive ranges of numbers.
    pub nodes: Vec<(Number, Number)>,
    pub program: Vec<(Arch, String)>,
    pub script: Option<String>,
    pub kernel: Option<String>,
    pub initrd: Option<Vec<String>>,
    pub args: Option<String>,
    pub lease: Option<Duration>,
    pub options: Vec<(u8, Vec<u8>)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Tftp {
    /// The pool of server ports, `first..=last`, bound on every link.
    pub ports: (u16, u16),
    /// The largest windowsize (RFC 7440) that is acknowledged, 1 to `crate::wire::tftp::WINDOWSIZE_MAX`.
    pub windowsize: u16,
    /// A transfer of which nothing was heard for this long is ended.
    pub give_up: Duration,
}

impl Config {
    /// The network that an address belongs to.
    pub fn network_of(&self, address: Ipv4Addr) -> Option<usize> {
        self.networks.iter().position(|network| network.subnet.contains(address))
    }

    /// The networks that may be reached over a link: its own and, since relays answer through any, all relayed ones.
    pub fn serves(&self, link: Link, address: Ipv4Addr) -> bool {
        self.network_of(address).is_some_and(|at| self.networks[at].link.is_none_or(|own| own == link))
    }
}
