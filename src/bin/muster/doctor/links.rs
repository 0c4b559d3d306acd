//! The boot interfaces: there, up, with a cable, with an address of the network that its nodes have, and not a part of another one.

use std::net::Ipv4Addr;
use std::path::Path;

use muster::base::facts::LinkFacts;
use muster::roll::plan::Subnet;

use super::finding::{Diagnosis, Finding, Severity};
use super::site::Site;

const CHECK: &str = "interface";
/// IPv4 asks for as much.
const MTU_MIN: u32 = 576;
const GIGABIT: u64 = 1_000_000_000;

/// Looks at each interface that is named.
pub fn check(site: &Site, found: &mut Diagnosis) {
    let links = match &site.links {
        Ok(links) => links,
        Err(why) => return found.look(CHECK, why, "look with ip address"),
    };
    if site.interfaces.is_empty() {
        let names = names(links);
        return found.broken(
            CHECK,
            "none is named",
            format!("name one in /etc/muster/muster.toml, as interface of [[network]]; there are {names}"),
        );
    }
    for name in &site.interfaces {
        let link = links.iter().find(|link| link.name == *name);
        let config = site.config();
        let at = config.and_then(|config| config.links.iter().position(|link| link.interface == *name));
        let home = at.zip(config).and_then(|(at, config)| {
            let network = config.networks.iter().find(|network| network.link.is_some_and(|link| usize::from(link) == at))?;
            Some((config.links.get(at)?.head, network.subnet))
        });
        let kind = link.and_then(|link| link.master.as_deref()).map_or("", kind);
        judge(name, link, kind, home, &names(links)).into_iter().for_each(|finding| found.add(finding));
    }
}

fn names(links: &[LinkFacts]) -> String {
    let names: Vec<&str> = links.iter().filter(|link| !link.loopback).map(|link| link.name.as_str()).collect();
    if names.is_empty() { "no others".into() } else { names.join(", ") }
}

/// What an interface is that has parts.
fn kind(master: &str) -> &'static str {
    let has = |part: &str| Path::new("/sys/class/net").join(master).join(part).exists();
    match (has("bridge"), has("bonding")) {
        (true, _) => "a bridge",
        (_, true) => "a bond",
        _ => "a team or the like",
    }
}

/// The verdict on one. `kind`: what its master is; `home`: the head's address and network by the config.
fn judge(name: &str, link: Option<&LinkFacts>, kind: &str, home: Option<(Ipv4Addr, Subnet)>, others: &str) -> Vec<Finding> {
    let new = |verdict, what: String| Finding::new(CHECK, verdict, what).on(name);
    let Some(link) = link else {
        let what = "is not there, or is neither Ethernet nor InfiniBand".to_string();
        return vec![new(Severity::Broken, what).remedy(format!("load its driver, or name another one: there are {others}"))];
    };
    let mut findings = Vec::new();
    if let Some(master) = &link.master {
        let what = format!("is a part of {master} ({kind}), which gets its frames");
        findings.push(new(Severity::Broken, what).remedy(format!("name {master} in the config instead")));
    }
    if !link.up {
        findings.push(new(Severity::Broken, "is down".into()).remedy(format!("ip link set {name} up, and have it set up at boot")));
    } else if !link.carrier {
        findings.push(
            new(Severity::Broken, "has no carrier: there is nobody at the other end of its cable".into())
                .remedy("look at cable and switch"),
        );
    }
    if link.addresses.is_empty() {
        findings.push(
            new(Severity::Broken, "has no IPv4 address".into())
                .remedy(format!("ip address add ADDRESS/LENGTH dev {name}, and have it set at boot")),
        );
    }
    let away = |(_, subnet): &(Ipv4Addr, Subnet)| !link.addresses.iter().any(|(ip, _)| subnet.contains(*ip));
    if let Some((head, subnet)) = home.filter(away).filter(|_| !link.addresses.is_empty()) {
        let what = format!("has no address in {subnet}, the network of its nodes");
        let remedy =
            format!("ip address add {head}/{} dev {name}, or give the nodes new addresses with muster reload --renumber", subnet.prefix());
        findings.push(new(Severity::Broken, what).remedy(remedy));
    }
    if link.mtu < MTU_MIN {
        let remedy = format!("ip link set {name} mtu 1500");
        findings.push(new(Severity::Broken, format!("has an MTU of {}, less than DHCP asks for", link.mtu)).remedy(remedy));
    }
    if let Some(rate) = link.rate.filter(|rate| *rate < GIGABIT) {
        let what = format!("runs at {} Mbit/s: large images take long", rate / 1_000_000);
        findings.push(new(Severity::Look, what).remedy("look at cable and switch port: a pair may be broken"));
    }
    if findings.is_empty() {
        findings.push(new(Severity::Fine, described(link, home)));
    }
    findings
}

fn described(link: &LinkFacts, home: Option<(Ipv4Addr, Subnet)>) -> String {
    let rate = link.rate.map_or("rate unknown".into(), |rate| format!("{} Mbit/s", rate / 1_000_000));
    let addresses: Vec<String> = link.addresses.iter().map(|(ip, len)| format!("{ip}/{len}")).collect();
    let head = home.map(|(head, _)| format!(", the head is {head}")).unwrap_or_default();
    format!("is up, {rate}, MTU {}, {}{head}", link.mtu, addresses.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> LinkFacts {
        let loopback = muster::shell::facts::links().unwrap().into_iter().find(|link| link.loopback).unwrap();
        let (addresses, master, rate) = (vec![([10, 54, 0, 1].into(), 16)], None, Some(10 * GIGABIT));
        LinkFacts { name: "eth1".into(), mtu: 1500, rate, addresses, loopback: false, up: true, carrier: true, master, ..loopback }
    }

    #[test]
    fn each_fault_has_its_line() {
        let home = Some(([10, 54, 0, 1].into(), Subnet::of([10, 54, 0, 1].into(), 16)));
        let lines = |link: LinkFacts| judge("eth1", Some(&link), "a bridge", home, "eth0").iter().map(Finding::line).collect::<Vec<_>>();
        assert_eq!(lines(link()), ["fine   interface eth1: is up, 10000 Mbit/s, MTU 1500, 10.54.0.1/16, the head is 10.54.0.1"]);
        assert!(judge("eth1", None, "", home, "eth0")[0].line().contains("there are eth0"));
        assert_eq!(
            lines(LinkFacts { master: Some("br0".into()), ..link() }),
            ["broken interface eth1: is a part of br0 (a bridge), which gets its frames (name br0 in the config instead)"]
        );
        assert!(lines(LinkFacts { carrier: false, ..link() })[0].contains("no carrier"));
        let down = lines(LinkFacts { up: false, carrier: false, addresses: Vec::new(), ..link() });
        assert!(down.len() == 2 && down[0].contains("is down") && down[1].contains("no IPv4 address"), "{down:?}");
        let moved = lines(LinkFacts { addresses: vec![([10, 99, 0, 1].into(), 16)], ..link() });
        assert!(
            moved[0].starts_with("broken interface eth1: has no address in 10.54.0.0/16") && moved[0].contains("10.54.0.1/16 dev eth1"),
            "{moved:?}"
        );
        for (mtu, verdict) in [(9000, Severity::Fine), (1400, Severity::Fine), (500, Severity::Broken)] {
            assert_eq!(judge("eth1", Some(&LinkFacts { mtu, ..link() }), "", home, "")[0].verdict, verdict);
        }
        assert!(lines(LinkFacts { rate: Some(100_000_000), ..link() })[0].contains("100 Mbit/s"));
    }
}
