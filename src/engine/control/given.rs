//! What a node is given, value by value, and which section of the config gives it: `[boot]`, or the last `[[for]]` that speaks of it.

use std::net::Ipv4Addr;

use crate::config::{Config, Network, Special};
use crate::roll::plan::Number;
use crate::roll::ranges::Ranges;
use crate::wire::control::Given;

/// The longest value that is shown whole, in characters.
const VALUE_MAX: usize = 2000;

/// A list in the making.
struct Sheet(Vec<Given>);

impl Sheet {
    fn add(&mut self, key: impl Into<String>, value: impl AsRef<str>, from: impl Into<String>) {
        let value = value.as_ref();
        let shown = match value.char_indices().nth(VALUE_MAX) {
            Some((at, _)) => format!("{}...", value.get(..at).unwrap_or_default()),
            None => value.to_string(),
        };
        self.0.push(Given { key: key.into(), value: shown, from: from.into() });
    }

    /// The first section that says something, else the default's value.
    fn first<T>(
        &mut self,
        key: &str,
        special: &[&Special],
        get: impl Fn(&Special) -> Option<T>,
        default: Option<(T, &str)>,
        show: impl Fn(T) -> String,
    ) {
        match special.iter().find_map(|section| get(section).map(|value| (value, label(section)))) {
            Some((value, from)) => self.add(key, show(value), from),
            None => {
                if let Some((value, from)) = default {
                    self.add(key, show(value), from);
                }
            }
        }
    }
}

fn label(section: &Special) -> String {
    let mut nodes = Ranges::default();
    section.nodes.iter().for_each(|(first, last)| nodes.union(&Ranges::of(first.0, last.0)));
    format!("[[for]] nodes = \"{nodes}\"")
}

/// Everything that holds for a number, in the order of the config's keys.
pub fn given(config: &Config, number: Number, address: Option<Ipv4Addr>) -> Vec<Given> {
    let speaks = |section: &&Special| section.nodes.iter().any(|(first, last)| (*first..=*last).contains(&number));
    let special: Vec<&Special> = config.special.iter().rev().filter(speaks).collect();
    let boot = &config.boot;
    let mut sheet = Sheet(Vec::new());
    let mut programs: Vec<_> = special.iter().flat_map(|section| section.program.iter().map(|(arch, _)| *arch)).collect();
    programs.extend(boot.program.iter().map(|(arch, _)| *arch));
    programs.sort_unstable();
    programs.dedup();
    for arch in programs {
        let of = |list: &[(_, String)]| list.iter().find(|(own, _)| *own == arch).map(|(_, path)| path.clone());
        let default = of(&boot.program).map(|path| (path, "[boot]"));
        sheet.first(&format!("program.{arch}"), &special, |section| of(&section.program), default, |path| path);
    }
    let default = |value: &Option<String>| value.clone().map(|value| (value, "[boot]"));
    sheet.first("script", &special, |section| section.script.clone(), default(&boot.script), |path| path);
    sheet.first("kernel", &special, |section| section.kernel.clone(), default(&boot.kernel), |path| path);
    let initrd = Some((boot.initrd.clone(), "[boot]"));
    sheet.first("initrd", &special, |section| section.initrd.clone(), initrd, |paths| paths.join(" "));
    sheet.first("args", &special, |section| section.args.clone(), Some((boot.args.clone(), "[boot]")), |args| args);
    let network = address.and_then(|address| config.network_of(address)).and_then(|at| config.networks.get(at));
    if let Some(network) = network {
        told(config, &mut sheet, &special, network);
    }
    sheet.0
}

/// What DHCP tells.
fn told(config: &Config, sheet: &mut Sheet, special: &[&Special], network: &Network) {
    let link = network.link.and_then(|link| config.links.get(usize::from(link)));
    let from = match link {
        Some(link) => format!("[[network]] {}", link.interface),
        None => format!("[[network]] {}", network.subnet),
    };
    sheet.first("lease", special, |section| section.lease, Some((network.lease, &from)), |lease| format!("{} s", lease.as_secs()));
    let addresses = |list: &[Ipv4Addr]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    for (key, list) in [("router", &network.routers), ("dns", &network.dns), ("ntp", &network.ntp)] {
        if !list.is_empty() {
            sheet.add(key, addresses(list), &from);
        }
    }
    if let Some(domain) = &network.domain {
        sheet.add("domain", domain, &from);
    }
    let mut codes: Vec<u8> = special.iter().flat_map(|section| &section.options).chain(&network.options).map(|(code, _)| *code).collect();
    codes.sort_unstable();
    codes.dedup();
    for code in codes {
        let of = |options: &[(u8, Vec<u8>)]| options.iter().find(|(own, _)| *own == code).map(|(_, bytes)| bytes.clone());
        let default = of(&network.options).map(|bytes| (bytes, from.as_str()));
        sheet.first(&format!("options.{code}"), special, |section| of(&section.options), default, |bytes| option(&bytes));
    }
}

/// An option's bytes: as text where they are one, else in hexadecimal.
fn option(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() && !text.chars().any(char::is_control) => format!("{text:?}"),
        _ => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"),
    }
}
