//! A config as text: what `musterd -t` prints, and what a re-read changed.

use std::fmt::{self, Display, Write};

use super::options::Shown;
use super::value::{RATES, shown_duration, shown_numbers, shown_rate};
use super::{Config, LinkConfig, Network, Special};
use crate::roll::kind::Arch;
use crate::roll::plan::Segment;

/// A section on its way to text.
struct Sheet {
    header: &'static str,
    /// What the section is called in a difference; no two sections share it.
    label: String,
    /// Facts that are no keys.
    note: String,
    entries: Vec<(&'static str, String)>,
}

/// The whole config in TOML, every derived value included. Read again on the same machine it gives an equal config.
pub fn effective(config: &Config) -> String {
    let mut text = String::new();
    for (position, Sheet { header, note, entries, .. }) in sheets(config).into_iter().enumerate() {
        let blank = if position == 0 { "" } else { "\n" };
        let note = if note.is_empty() { note } else { format!("  # {note}") };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{blank}{header}{note}");
        for (key, value) in entries {
            let _ = writeln!(text, "{key} = {value}");
        }
    }
    text
}

/// What a new config changes, a line each: `[tftp]: windowsize 16 -> 8`. Empty when both are equal.
pub fn difference(old: &Config, new: &Config) -> Vec<String> {
    let (old, new) = (sheets(old), sheets(new));
    let mut lines = Vec::new();
    let inline = |sheet: &Sheet| sheet.entries.iter().map(|(key, value)| format!("{key} = {value}")).collect::<Vec<_>>().join(", ");
    let position = |sheets: &[Sheet]| -> std::collections::BTreeMap<String, usize> {
        sheets.iter().enumerate().map(|(position, sheet)| (sheet.label.clone(), position)).collect()
    };
    let (in_old, in_new) = (position(&old), position(&new));
    for sheet in &old {
        let Some(now) = in_new.get(&sheet.label).and_then(|position| new.get(*position)) else {
            lines.push(format!("{}: gone ({})", sheet.label, inline(sheet)));
            continue;
        };
        let value = |sheet: &Sheet, key: &str| sheet.entries.iter().find(|(known, _)| *known == key).map(|(_, value)| value.clone());
        let keys = sheet.entries.iter().chain(now.entries.iter().filter(|(key, _)| value(sheet, key).is_none()));
        for (key, _) in keys {
            match (value(sheet, key), value(now, key)) {
                (before, after) if before == after => {}
                (before, after) => {
                    let shown = |value: Option<String>| value.unwrap_or_else(|| "not set".to_string());
                    lines.push(format!("{}: {key} {} -> {}", sheet.label, shown(before), shown(after)));
                }
            }
        }
        if sheet.note != now.note {
            lines.push(format!("{}: {} -> {}", sheet.label, sheet.note, now.note));
        }
    }
    let added = new.iter().filter(|sheet| !in_old.contains_key(&sheet.label));
    lines.extend(added.map(|sheet| format!("{}: new ({})", sheet.label, inline(sheet))));
    lines
}

/// The keys that a running daemon cannot change, a line each; empty when the new config can simply be used.
pub fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let names = |config: &Config| config.links.iter().map(|link| link.interface.clone()).collect::<Vec<_>>().join(", ");
    let mut lines = Vec::new();
    let mut changed = |what: &str, old: String, new: String| {
        if old != new {
            lines.push(format!("{what} {old} -> {new}"));
        }
    };
    changed("boot interfaces", names(old), names(new));
    for (old, new) in old.links.iter().zip(&new.links).filter(|(old, new)| old.interface == new.interface) {
        let name = &old.interface;
        changed(&format!("{name}: index"), old.index.to_string(), new.index.to_string());
        changed(&format!("{name}: address"), old.head.to_string(), new.head.to_string());
        changed(&format!("{name}: MAC"), old.mac.to_string(), new.mac.to_string());
        changed(&format!("{name}: MTU"), old.mtu.to_string(), new.mtu.to_string());
    }
    let upstreams = |config: &Config| if config.dns.upstream.is_empty() { "none" } else { "some" }.to_string();
    changed("[dns] enabled", old.dns.enabled.to_string(), new.dns.enabled.to_string());
    let listens = |config: &Config| super::error::listed(config.dns.listen.iter().map(in_quotes));
    changed("[dns] listen", listens(old), listens(new));
    changed("[dns] upstream", upstreams(old), upstreams(new));
    changed("[tftp] ports", shown_ports(old.tftp.ports), shown_ports(new.tftp.ports));
    changed("[server] capacity", old.capacity.to_string(), new.capacity.to_string());
    changed("[server] run-dir", old.run_dir.display().to_string(), new.run_dir.display().to_string());
    changed("[server] state-dir", old.state_dir.display().to_string(), new.state_dir.display().to_string());
    lines
}

fn sheets(config: &Config) -> Vec<Sheet> {
    let one = |header, entries| Sheet { header, label: header.to_string(), note: String::new(), entries };
    let mut sheets = vec![one(
        "[cluster]",
        vec![
            ("name", in_quotes(config.plan.names().domain())),
            ("prefix", in_quotes(config.plan.names().prefix())),
            ("digits", config.plan.names().digits().to_string()),
            ("node0", in_quotes(config.plan.node0())),
            ("nodes", config.plan.nodes().to_string()),
            ("numbering", in_quotes(config.numbering)),
            ("new-numbers", config.new_numbers.to_string()),
            ("ignore", listed(config.ignore.iter().map(in_quotes))),
        ],
    )];
    sheets.extend(config.networks.iter().map(|network| {
        let link = network.link.and_then(|link| config.links.get(usize::from(link)));
        network_sheet(network, link)
    }));
    let node0 = u32::from(config.plan.node0());
    let moved = |piece: &&Segment| u32::from(piece.address).checked_sub(node0) != Some(piece.first.0);
    sheets.extend(config.plan.pieces().iter().filter(moved).map(|piece| {
        let nodes = shown_numbers(&[(piece.first, piece.last)]);
        let label = format!("segment {nodes}");
        let entries = vec![("nodes", quoted(&nodes)), ("first", in_quotes(piece.address))];
        Sheet { header: "[[segment]]", label, note: String::new(), entries }
    }));
    sheets.extend(config.nodes.iter().map(|node| Sheet {
        header: "[[node]]",
        label: format!("node {}", node.number),
        note: String::new(),
        entries: vec![("number", node.number.0.to_string()), ("macs", listed(node.macs.iter().map(in_quotes)))],
    }));
    let boot = &config.boot;
    let mut entries = vec![("root", in_quotes(boot.root.display())), ("program", programs(&boot.program))];
    entries.extend(boot.script.iter().map(|script| ("script", quoted(script))));
    entries.extend(boot.kernel.iter().map(|kernel| ("kernel", quoted(kernel))));
    entries.push(("initrd", listed(boot.initrd.iter().map(|initrd| quoted(initrd)))));
    entries.push(("args", quoted(&boot.args)));
    sheets.push(one("[boot]", entries));
    for (position, special) in config.special.iter().enumerate() {
        let nodes = shown_numbers(&special.nodes);
        let same = config.special.iter().take(position).filter(|other| other.nodes == special.nodes).count();
        let label = if same == 0 { format!("for nodes {nodes}") } else { format!("for nodes {nodes} ({})", same + 1) };
        sheets.push(Sheet { header: "[[for]]", label, note: String::new(), entries: special_entries(special, nodes) });
    }
    let tftp = &config.tftp;
    let ports = quoted(&shown_ports(tftp.ports));
    let give_up = quoted(&shown_duration(tftp.give_up));
    sheets.push(one("[tftp]", vec![("ports", ports), ("windowsize", tftp.windowsize.to_string()), ("give-up", give_up)]));
    let report = config.report_option.to_string();
    sheets.push(one("[dhcp]", vec![("authoritative", config.authoritative.to_string()), ("report-option", report)]));
    sheets.push(one("[dns]", config.dns.entries()));
    let (run_dir, state_dir) = (in_quotes(config.run_dir.display()), in_quotes(config.state_dir.display()));
    let (capacity, adverts) = (config.capacity.to_string(), config.router_adverts.to_string());
    sheets.push(one("[server]", vec![("capacity", capacity), ("run-dir", run_dir), ("state-dir", state_dir), ("router-adverts", adverts)]));
    sheets
}

fn network_sheet(network: &Network, link: Option<&LinkConfig>) -> Sheet {
    let mut entries = match link {
        Some(link) => vec![("interface", quoted(&link.interface)), ("head", in_quotes(link.head))],
        None => vec![("subnet", in_quotes(network.subnet))],
    };
    entries.push(("guests", in_quotes(network.guests.map_or_else(|| "none".to_string(), |guests| guests.to_string()))));
    entries.push(("guest-lease", quoted(&shown_duration(network.guest_lease))));
    entries.push(("lease", quoted(&shown_duration(network.lease))));
    entries.push(("router", listed(network.routers.iter().map(in_quotes))));
    entries.push(("dns", listed(network.dns.iter().map(in_quotes))));
    entries.push(("ntp", listed(network.ntp.iter().map(in_quotes))));
    entries.extend(network.domain.iter().map(|domain| ("domain", quoted(domain))));
    let rate = link.and_then(|link| link.rate).filter(|rate| RATES.contains(rate));
    entries.extend(rate.map(|rate| ("link-rate", quoted(&shown_rate(rate)))));
    entries.extend(link.map(|link| ("queue-delay", format!("\"{}ms\"", link.queue_delay.as_millis()))));
    entries.extend(shown_options(&network.options));
    let (label, note) = match link {
        Some(link) => (format!("network {}", link.interface), network.subnet.to_string()),
        None => (format!("network {}", network.subnet), String::new()),
    };
    Sheet { header: "[[network]]", label, note, entries }
}

fn special_entries(special: &Special, nodes: String) -> Vec<(&'static str, String)> {
    let mut entries = vec![("nodes", quoted(&nodes))];
    if !special.program.is_empty() {
        entries.push(("program", programs(&special.program)));
    }
    entries.extend(special.script.iter().map(|script| ("script", quoted(script))));
    entries.extend(special.kernel.iter().map(|kernel| ("kernel", quoted(kernel))));
    entries.extend(special.initrd.iter().map(|initrd| ("initrd", listed(initrd.iter().map(|initrd| quoted(initrd))))));
    entries.extend(special.args.iter().map(|args| ("args", quoted(args))));
    entries.extend(special.lease.iter().map(|lease| ("lease", quoted(&shown_duration(*lease)))));
    entries.extend(shown_options(&special.options));
    entries
}

fn programs(program: &[(Arch, String)]) -> String {
    let entries: Vec<String> = program.iter().map(|(arch, name)| format!("{arch} = {}", quoted(name))).collect();
    if entries.is_empty() { "{}".to_string() } else { format!("{{ {} }}", entries.join(", ")) }
}

fn shown_options(list: &[(u8, Vec<u8>)]) -> Option<(&'static str, String)> {
    let entries: Vec<String> = list.iter().map(|(code, bytes)| format!("{code} = {}", Shown(*code, bytes))).collect();
    (!entries.is_empty()).then(|| ("options", format!("{{ {} }}", entries.join(", "))))
}

fn shown_ports((first, last): (u16, u16)) -> String {
    format!("{first}-{last}")
}

pub(super) fn in_quotes(value: impl Display) -> String {
    quoted(&value.to_string())
}

fn quoted(text: &str) -> String {
    Quoted(text).to_string()
}

/// A TOML basic string.
pub(super) struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c if c.is_control() => write!(f, "\\u{:04X}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

pub(super) fn listed(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(", "))
}
