//! The cluster of the tests.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::limits;
use crate::config::{Boot, Config, Dhcp, KnownNode, LinkConfig, Network, Server, Tftp};
use crate::roll::kind::Arch;
use crate::roll::plan::{AddressPlan, AddressRange, Number, Subnet};

/// The head's address, on 10.54.0.0/16.
pub const HEAD: Ipv4Addr = Ipv4Addr::new(10, 54, 0, 1);
/// The head's hardware address.
pub const HEAD_MAC: Mac = Mac([0x02, 0x54, 0, 0, 0, 1]);

/// Lots of the lot table, at most.
pub const NODES_MAX: usize = 130_000;
/// So many fit into a network of 16 bits; it has 14 where there are more.
const NODES_SMALL: usize = 16_384;

/// Boot programs by architecture.
pub const PROGRAMS: [(Arch, &str); 4] = [
    (Arch::Bios, "undionly.kpxe"),
    (Arch::EfiX64, "snponly.efi"),
    (Arch::EfiArm64, "snponly-arm64.efi"),
    (Arch::RaspberryPi, "bootcode.bin"),
];
/// The kernel's file.
pub const KERNEL: &str = "vmlinuz";
/// The initial RAM disk's file.
pub const INITRD: &str = "initrd.img";

/// One link at 10.54.0.1, which claims 10 Gbit/s, on a network of 16 bits; node n has 10.54.1.0 + n, up to 16,384 of them; 2,048 guests
/// from 10.54.240.0 on. With more nodes the network has 14 bits, and guests are at 10.53.0.0. There is room for twice as many records as
/// nodes are known, as far as the limits go, and 4,096 at least.
pub fn config(nodes: impl IntoIterator<Item = (u32, Mac)>) -> Config {
    let nodes: Vec<KnownNode> = nodes.into_iter().map(|(n, mac)| KnownNode { number: Number(n), macs: vec![mac] }).collect();
    let capacity = (2 * nodes.len()).clamp(limits::CAPACITY_DEFAULT, limits::CAPACITY_MAX);
    let small = nodes.len() <= NODES_SMALL;
    let guests = if small { AddressRange::new([10, 54, 240, 0].into(), [10, 54, 247, 255].into()) } else { wide_guests() };
    // The rate is what the interface says, and nothing on the way need keep to.
    let link = LinkConfig { rate: Some(10_000_000_000), ..LinkConfig::plain("sim0", 2, HEAD_MAC, HEAD) };
    let network = Network {
        guests,
        lease: Duration::from_secs(86_400),
        routers: vec![HEAD],
        dns: vec![HEAD],
        domain: Some("cluster".into()),
        ..Network::plain(Subnet::of(HEAD, if small { 16 } else { 14 }), Some(0))
    };
    let boot = Boot {
        root: "/srv/tftp".into(),
        allow: Vec::new(),
        program: PROGRAMS.map(|(arch, name)| (arch, name.to_string())).to_vec(),
        script: None,
        kernel: Some(KERNEL.into()),
        initrd: vec![INITRD.into()],
        args: "muster.node={node}".into(),
    };
    let plan = AddressPlan::new(Ipv4Addr::new(10, 54, 1, 0), if small { NODES_SMALL } else { NODES_MAX } as u32);
    Config {
        nodes,
        boot,
        tftp: Tftp { ports: (20_069, 20_100), windowsize: 16, give_up: Duration::from_secs(180) },
        dhcp: Dhcp { authoritative: true, ..Dhcp::default() },
        server: Server { capacity, state_dir: "/nowhere".into(), ..Server::default() },
        ..Config::plain(plan, vec![link], vec![network])
    }
}

fn wide_guests() -> Option<AddressRange> {
    AddressRange::new([10, 53, 0, 0].into(), [10, 53, 255, 255].into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_an_address_of_its_network() {
        for count in [1, NODES_SMALL, NODES_SMALL + 1, NODES_MAX] {
            let config = config((0..count as u32).map(|n| (n, Mac([2, 0, 0, 0, 0, 0]))));
            let network = &config.networks[0];
            let (last, guests) = (config.plan.address(Number(count as u32 - 1)).unwrap(), network.guests.unwrap());
            assert!(
                network.subnet.is_host(last) && network.subnet.is_host(guests.first()) && network.subnet.is_host(guests.last()),
                "{count}"
            );
            assert!(!guests.contains(last) && config.plan.number(guests.first()).is_none(), "{count}");
            assert!(config.server.capacity >= count, "{count}");
        }
    }
}
