//! The host's packet filter: whether it would reject or drop what the daemon serves.
//!
//! musterd hears machines by packet sockets, before the filter, and sends most frames the same way, behind it. So a filter that drops what comes in does
//! no harm on Ethernet. One that *rejects* it does: the kernel answers with ICMP beside our DATA, and EDK2 gives up on that. What the daemon sends by
//! ordinary sockets (windows, replies to relays) and all of DNS must pass in both directions.
//!
//! The rules are read ([`nft`], [`iptables`]) into one model ([`rules`]), and packets as they would come are followed through it. What a rule asks for
//! that this program does not know may be so or not: then the line says "may".

pub mod iptables;
pub mod nft;
pub mod rules;

use std::net::Ipv4Addr;
use std::path::Path;

use muster::base::endpoint::Transport;
use muster::config::{Config, Hardware, LinkConfig};
use muster::engine::endpoints::{self, Endpoints};

use super::super::table::counted;
use super::finding::{Diagnosis, Finding, Severity};
use super::program::{self, Ran};
use rules::{FilteredPacket, Hook, Outcome, Passage, Ruleset, TCP, UDP};

/// What is known of the rules.
pub struct FilterFacts {
    /// Those that could be read.
    pub rules: Ruleset,
    /// What could not be read, and why.
    pub unread: Vec<String>,
    /// Something was read, if only that there are no rules.
    pub seen: bool,
}

/// Reads the rules by the programs that are there.
pub fn gather() -> FilterFacts {
    let mut facts = FilterFacts { rules: Ruleset::default(), unread: Vec::new(), seen: false };
    let mut foreign = false;
    match program::run("nft", &["-j", "list", "ruleset"]) {
        Ran::Done(text) => match nft::read(&text) {
            Ok(read) => {
                (facts.seen, foreign) = (true, read.foreign);
                facts.rules = read.rules;
            }
            Err(why) => facts.unread.push(format!("nft: {why}")),
        },
        Ran::Failed(why) => facts.unread.push(format!("nft: {why}")),
        Ran::Missing => {}
    }
    // What iptables has put into nftables is shown there with parts that only iptables can read.
    if foreign || !facts.seen {
        match program::run("iptables-save", &[]) {
            Ran::Done(text) => {
                facts.rules.chains.retain(|chain| !chain.foreign);
                facts.rules.add(iptables::read(&text));
                facts.seen = true;
            }
            Ran::Failed(why) => facts.unread.push(format!("iptables-save: {why}")),
            Ran::Missing if foreign => facts.unread.push("iptables-save is not there, and some rules are iptables' own".into()),
            Ran::Missing => {}
        }
    }
    // The kernel's older tables, which nft does not show.
    let old = std::fs::read_to_string("/proc/net/ip_tables_names").unwrap_or_default();
    if !old.trim().is_empty() {
        match program::run("iptables-legacy-save", &[]) {
            Ran::Done(text) => {
                facts.rules.add(iptables::read(&text));
                facts.seen = true;
            }
            Ran::Failed(why) => facts.unread.push(format!("iptables-legacy-save: {why}")),
            Ran::Missing => facts.unread.push("iptables-legacy-save is not there, and the kernel has such rules".into()),
        }
    }
    facts
}

/// Whether this host has a packet filter at all, where no program can list it.
pub fn has_filter() -> bool {
    ["/proc/net/ip_tables_names", "/proc/sys/net/netfilter/nf_conntrack_max"].iter().any(|path| Path::new(path).exists())
}

/// What stands in the way of one kind of packets.
#[derive(PartialEq, Eq)]
struct Obstacle {
    what: &'static str,
    protocol: &'static str,
    outcome: Outcome,
    sure: bool,
    by: String,
}

/// The kinds of packets that are looked at, and what it means when they do not get through.
struct Way {
    what: &'static str,
    hook: Hook,
    protocol: u8,
    /// The server's own.
    ports: Vec<u16>,
    /// On a reject, and on a drop. None: it does no harm.
    rejected: Option<(Severity, &'static str)>,
    dropped: Option<(Severity, &'static str)>,
}

const ICMP: &str = "the kernel answers with ICMP beside what musterd sends, and UEFI firmware gives up on that";
const UNHEARD: &str = "musterd does not hear them";
const SENT: &str = "windows and what goes to relays leave by ordinary sockets and do not get out";
const NAMES: &str = "names are not answered";
const FRAMES: &str = "no frame gets out";

fn ways(config: &Config, link: &LinkConfig) -> Vec<Way> {
    let table = Endpoints::new(config);
    let of = |service| {
        let own = table.rows().iter().filter(move |row| row.service == service && *row.address.ip() == link.head);
        own.filter(|row| matches!(row.transport, Transport::Udp | Transport::Broadcast)).map(|row| row.address.port()).collect::<Vec<u16>>()
    };
    let (tftp, dhcp, dns) = (of(endpoints::TFTP), of(endpoints::DHCP), of(endpoints::DNS));
    let unheard = (link.hardware != Hardware::Ethernet).then_some((Severity::Broken, UNHEARD));
    let pool: Vec<u16> = tftp.iter().copied().filter(|port| *port != muster::engine::tftp::PORT).collect();
    let way =
        |what, hook, protocol, ports: &[u16], rejected, dropped| Way { what, hook, protocol, ports: ports.to_vec(), rejected, dropped };
    let sent = Some((Severity::Broken, SENT));
    let frames = Some((Severity::Broken, FRAMES));
    let names = Some((Severity::Look, NAMES));
    vec![
        way("requests for files", Hook::Input, UDP, &tftp, Some((Severity::Broken, ICMP)), unheard),
        way("DHCP requests", Hook::Input, UDP, &dhcp, Some((Severity::Look, ICMP)), unheard),
        way("questions for names", Hook::Input, UDP, &dns, names, names),
        way("questions for names by TCP", Hook::Input, TCP, &dns, names, names),
        way("files on their way out", Hook::Output, UDP, &pool, sent, sent),
        way("DHCP replies", Hook::Output, UDP, &dhcp, Some((Severity::Look, SENT)), Some((Severity::Look, SENT))),
        way("answers for names", Hook::Output, UDP, &dns, names, names),
        way("frames", Hook::Egress, UDP, &tftp, frames, frames),
    ]
}

/// An address of the link's network that a machine may have.
fn client(config: &Config, link: &LinkConfig) -> Ipv4Addr {
    let own = config.networks.iter().find(|network| network.subnet.contains(link.head));
    let node0 = config.plan.node0();
    match own {
        Some(own) if !own.subnet.contains(node0) => own.guests.map_or(node0, |guests| guests.first()),
        _ => node0,
    }
}

/// The verdict on the rules, for each link.
pub fn judge(facts: &FilterFacts, config: &Config, found: &mut Diagnosis) {
    if !facts.seen {
        let why = match facts.unread.as_slice() {
            [] => "neither nft nor iptables-save is there".to_string(),
            unread => unread.join("; "),
        };
        // Without a program that makes rules there are hardly any.
        let verdict = if facts.unread.is_empty() && !has_filter() { Severity::Fine } else { Severity::Look };
        found
            .add(Finding::new("firewall", verdict, format!("could not look: {why}")).remedy_if(verdict, "run as root, with nft installed"));
        return;
    }
    let mut clear = true;
    for link in &config.links {
        clear &= judge_link(facts, config, link, found);
    }
    for why in &facts.unread {
        found.add(Finding::new("firewall", Severity::Look, format!("could not see all rules: {why}")));
    }
    if clear {
        let rules = facts.rules.count();
        let what = if rules == 0 {
            "there are no rules".to_string()
        } else {
            format!("{}, none in the way of what musterd serves", counted(rules as u64, "rule"))
        };
        found.add(Finding::new("firewall", Severity::Fine, what));
    }
}

fn judge_link(facts: &FilterFacts, config: &Config, link: &LinkConfig, found: &mut Diagnosis) -> bool {
    let client = client(config, link);
    let mut clear = true;
    for way in ways(config, link) {
        let mut told: Vec<(Obstacle, Vec<u16>)> = Vec::new();
        for &port in &way.ports {
            let packet =
                FilteredPacket { hook: way.hook, interface: &link.interface, protocol: way.protocol, server: link.head, client, port };
            for obstacle in obstacles(&way, facts.rules.passage(&packet)) {
                match told.iter_mut().find(|(known, _)| *known == obstacle) {
                    Some((_, ports)) => ports.push(port),
                    None => told.push((obstacle, vec![port])),
                }
            }
        }
        for (obstacle, ports) in told {
            let meant = if obstacle.outcome == Outcome::Reject { way.rejected } else { way.dropped };
            let Some((verdict, consequence)) = meant else { continue };
            clear = false;
            found.add(finding(&obstacle, &ports, (verdict, consequence), link, way.hook));
        }
    }
    clear
}

fn obstacles(way: &Way, passage: Passage) -> Vec<Obstacle> {
    let obstacle = |sure| {
        move |(outcome, by): (Outcome, String)| Obstacle {
            what: way.what,
            protocol: if way.protocol == TCP { "TCP" } else { "UDP" },
            outcome,
            sure,
            by,
        }
    };
    let certain = passage.certain.into_iter().map(obstacle(true));
    certain.chain(passage.possible.into_iter().map(obstacle(false))).filter(|it| it.outcome != Outcome::Accept).collect()
}

fn finding(obstacle: &Obstacle, ports: &[u16], (verdict, consequence): (Severity, &str), link: &LinkConfig, hook: Hook) -> Finding {
    let Obstacle { what, protocol, outcome, sure, by } = obstacle;
    let does = match (outcome, sure) {
        (Outcome::Reject, true) => "rejects",
        (Outcome::Reject, false) => "may reject",
        (_, true) => "drops",
        (_, false) => "may drop",
    };
    let verdict = if *sure { verdict } else { Severity::Look };
    let ports = match ports {
        [one] => format!("port {one}"),
        [first, .., last] => format!("ports {first} to {last}"),
        [] => String::new(),
    };
    let side = if hook == Hook::Input { "in by" } else { "out by" };
    let remedy = format!("accept {protocol} {ports} {side} {} before that rule", link.interface);
    Finding::new("firewall", verdict, format!("{does} {what} ({ports}): {consequence}; by {by}")).on(&link.interface).remedy(remedy)
}

#[cfg(test)]
mod tests;
