//! What is remembered of the boot interfaces from one daemon to the next, in a small file beside the journal.
//!
//! What the config leaves out is derived from the interface: its address and prefix length, its gateway. Nodes have their addresses by that. So once
//! there are numbered machines, it is not derived from anything else: an interface that is missing, that has no address, or that has another network
//! counts with what it was. Whether it can be served with what it is, is decided afterwards (`engine::links`); only an operator's
//! `reload --renumber` derives anew.
//!
//! ```text
//! numbered yes
//! eth1 ethernet 10.54.0.1/16 gateway=10.54.0.254
//! ```

use std::fmt;
use std::net::Ipv4Addr;

use super::model::Config;
use crate::base::facts::{Hardware, LinkFacts};
use crate::base::limits;

/// What the links were, and whether somebody has a number by that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkMemory {
    /// There are numbers that are not vacant.
    pub numbered: bool,
    /// The links.
    links: Vec<Remembered>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Remembered {
    name: String,
    hardware: Hardware,
    head: Ipv4Addr,
    prefix: u8,
    gateway: Option<Ipv4Addr>,
}

impl LinkMemory {
    /// The name of its file.
    pub const FILE: &'static str = "interfaces";

    /// What a config rests on.
    pub fn of(config: &Config, numbered: bool) -> LinkMemory {
        let links = (0..).zip(&config.links).filter_map(|(at, link)| {
            let network = config.networks.iter().find(|network| network.link == Some(at))?;
            let gateway = network.routers.iter().copied().find(|router| network.subnet.is_host(*router));
            let (name, prefix) = (link.interface.clone(), network.subnet.prefix());
            Some(Remembered { name, hardware: link.hardware, head: link.head, prefix, gateway })
        });
        LinkMemory { numbered, links: links.collect() }
    }

    /// Reads the file; None for what is none.
    pub fn read(text: &str) -> Option<LinkMemory> {
        let mut lines = text.lines().filter(|line| !line.starts_with('#'));
        let numbered = match lines.next()? {
            "numbered yes" => true,
            "numbered no" => false,
            _ => return None,
        };
        let links = lines.take(limits::LINKS_MAX).map(Remembered::read).collect::<Option<_>>()?;
        Some(LinkMemory { numbered, links })
    }

    /// Makes of what the machine has what counts: a link that is missing or without an address is what it was; one that is another network is,
    /// too, once there are numbers.
    pub fn apply(&self, machine: &mut Vec<LinkFacts>) {
        for was in &self.links {
            let at = machine.iter().position(|facts| facts.name == was.name).unwrap_or_else(|| {
                machine.push(LinkFacts { hardware: was.hardware, gateway: was.gateway, ..LinkFacts::absent(&was.name) });
                machine.len() - 1
            });
            let Some(facts) = machine.get_mut(at) else { continue };
            let bare = facts.addresses.is_empty();
            if bare {
                facts.gateway = was.gateway;
            }
            // The first one is the one that counts.
            let is = facts.addresses.iter().position(|(address, _)| *address == was.head).map(|at| facts.addresses.remove(at));
            let counts = if self.numbered || bare { Some((was.head, was.prefix)) } else { is };
            counts.into_iter().for_each(|first| facts.addresses.insert(0, first));
        }
    }
}

/// As in the file.
impl fmt::Display for LinkMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("# What nodes have their addresses by. Written by musterd; see FILES in musterd(8).\n")?;
        writeln!(f, "numbered {}", if self.numbered { "yes" } else { "no" })?;
        self.links.iter().try_for_each(|link| writeln!(f, "{link}"))
    }
}

const KINDS: [(Hardware, &str); 2] = [(Hardware::Ethernet, "ethernet"), (Hardware::Infiniband, "infiniband")];

impl fmt::Display for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = KINDS.iter().find(|(hardware, _)| *hardware == self.hardware).map_or("", |(_, kind)| kind);
        write!(f, "{} {kind} {}/{}", self.name, self.head, self.prefix)?;
        self.gateway.map_or(Ok(()), |gateway| write!(f, " gateway={gateway}"))
    }
}

impl Remembered {
    fn read(line: &str) -> Option<Remembered> {
        let mut words = line.split(' ');
        let (name, kind, (head, prefix)) = (words.next()?, words.next()?, words.next()?.split_once('/')?);
        let hardware = KINDS.iter().find(|(_, known)| *known == kind).map(|(hardware, _)| *hardware)?;
        let gateway = words.next().map(|word| word.strip_prefix("gateway=")?.parse().ok());
        let gateway = if let Some(gateway) = gateway { Some(gateway?) } else { None };
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= 32)?;
        let whole = words.next().is_none() && !name.is_empty();
        whole.then_some(Remembered { name: name.into(), hardware, head: head.parse().ok()?, prefix, gateway })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn memory(numbered: bool) -> LinkMemory {
        let text = format!(
            "numbered {}\neth1 ethernet 10.54.0.1/16 gateway=10.54.0.254\nib0 infiniband 10.55.0.1/20\n",
            if numbered { "yes" } else { "no" }
        );
        LinkMemory::read(&text).unwrap()
    }

    fn facts(name: &str, addresses: &[([u8; 4], u8)]) -> LinkFacts {
        let addresses = addresses.iter().map(|&(address, prefix)| (address.into(), prefix)).collect();
        LinkFacts { index: 2, addresses, ..LinkFacts::absent(name) }
    }

    fn applied(numbered: bool, facts: LinkFacts) -> LinkFacts {
        let mut machine = vec![facts];
        memory(numbered).apply(&mut machine);
        machine.swap_remove(0)
    }

    #[test]
    fn it_comes_back_as_it_was_written() {
        for numbered in [true, false] {
            assert_eq!(LinkMemory::read(&memory(numbered).to_string()), Some(memory(numbered)));
        }
        for bad in [
            "",
            "numbered maybe\n",
            "numbered yes\neth1\n",
            "numbered yes\neth1 ethernet 10.54.0.1/33\n",
            "numbered yes\neth1 ethernet 10.54.0.1/16 x\n",
        ] {
            assert_eq!(LinkMemory::read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_missing_link_is_what_it_was() {
        let mut machine = vec![facts("eth1", &[([10, 54, 0, 1], 16)])];
        memory(false).apply(&mut machine);
        let missing = machine.iter().find(|facts| facts.name == "ib0").unwrap();
        assert!(!missing.is_there() && missing.hardware == Hardware::Infiniband);
        assert_eq!(missing.addresses, [([10, 55, 0, 1].into(), 20)]);
        let bare = applied(false, facts("eth1", &[]));
        assert_eq!((bare.addresses, bare.gateway), (vec![([10, 54, 0, 1].into(), 16)], Some([10, 54, 0, 254].into())));
    }

    #[test]
    fn another_network_counts_only_while_nobody_has_a_number() {
        let other = facts("eth1", &[([10, 99, 0, 1], 24)]);
        assert_eq!(applied(false, other.clone()), other);
        assert_eq!(applied(true, other).addresses, [([10, 54, 0, 1].into(), 16), ([10, 99, 0, 1].into(), 24)]);
        let narrower = facts("eth1", &[([192, 0, 2, 1], 24), ([10, 54, 0, 1], 24)]);
        assert_eq!(applied(false, narrower.clone()).addresses, [([10, 54, 0, 1].into(), 24), ([192, 0, 2, 1].into(), 24)]);
        assert_eq!(applied(false, facts("eth1", &[([10, 54, 0, 1], 24)])).addresses, [([10, 54, 0, 1].into(), 24)]);
        assert_eq!(applied(true, narrower).addresses, [([10, 54, 0, 1].into(), 16), ([192, 0, 2, 1].into(), 24)]);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in ".{0,200}") {
            let _ = LinkMemory::read(&text);
            let _ = LinkMemory::read(&format!("numbered yes\n{text}"));
        }
    }
}
