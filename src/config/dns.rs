//! `[dns]`: what is read of it, what must hold, and what nodes are told of it.

use std::net::Ipv4Addr;

use super::LinkConfig;
use super::effective::{in_quotes, listed};
use super::error::Errors;
use super::value::{self, Section, Set, Value};

/// The DNS gateway.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dns {
    pub enabled: bool,
    /// Addresses to listen on beside the links' own.
    pub listen: Vec<Ipv4Addr>,
    /// Servers for everybody else's names, in the order in which they are asked. Empty: such questions are refused.
    pub upstream: Vec<Ipv4Addr>,
    /// Who may have whole zones.
    pub transfer: Vec<Ipv4Addr>,
}

#[derive(Default)]
pub(super) struct DnsSection {
    enabled: Option<Set<bool>>,
    listen: Option<Set<Vec<Set<Ipv4Addr>>>>,
    upstream: Option<Set<Vec<Set<Ipv4Addr>>>>,
    transfer: Option<Set<Vec<Set<Ipv4Addr>>>>,
}

pub(super) fn read(value: Option<&Value<'_>>, errors: &mut Errors<'_>) -> DnsSection {
    let mut section = Section::new("[dns]", value::table(errors, "dns", value));
    let with_place = |value: &Value<'_>| value::address(value).map(|address| Set { value: address, at: value.span() });
    let addresses = |max: usize| move |value: &Value<'_>| value::list(value, max, with_place);
    let read = DnsSection {
        enabled: section.get(errors, "enabled", value::flag),
        listen: section.get(errors, "listen", addresses(crate::wire::dns::LISTEN_MAX)),
        upstream: section.get(errors, "upstream", addresses(crate::wire::dns::UPSTREAMS_MAX)),
        transfer: section.get(errors, "transfer", addresses(crate::wire::dns::TRANSFER_MAX)),
    };
    section.finish(errors);
    read
}

impl DnsSection {
    pub fn resolved(&self) -> Dns {
        let plain = |list: &Option<Set<Vec<Set<Ipv4Addr>>>>| elements(list).map(|address| address.value).collect();
        Dns {
            enabled: self.enabled.as_ref().is_none_or(|enabled| enabled.value),
            listen: plain(&self.listen),
            upstream: plain(&self.upstream),
            transfer: plain(&self.transfer),
        }
    }
}

fn elements(list: &Option<Set<Vec<Set<Ipv4Addr>>>>) -> impl Iterator<Item = &Set<Ipv4Addr>> {
    list.iter().flat_map(|list| &list.value)
}

/// Nobody asks themselves, and no address is listened on twice.
pub(super) fn check(section: &DnsSection, links: &[LinkConfig], errors: &mut Errors<'_>) {
    let head = |address: Ipv4Addr| links.iter().any(|link| link.head == address);
    let mut listened: Vec<Ipv4Addr> = Vec::new();
    for Set { value: address, at } in elements(&section.listen) {
        let what = match () {
            () if head(*address) => "is a boot interface's own, on which names are served anyhow: leave it out",
            () if listened.contains(address) => "is listed already: leave it out once",
            () if address.is_unspecified() || address.is_multicast() || address.is_broadcast() => {
                "is no address of this machine's own: name one, as in \"127.0.0.1\""
            }
            () => {
                listened.push(*address);
                continue;
            }
        };
        errors.add(Some(at), "listen", format!("\"{address}\" {what}"));
    }
    let mut upstreams: Vec<Ipv4Addr> = Vec::new();
    for Set { value: address, at } in elements(&section.upstream) {
        let what = match () {
            () if head(*address) || listened.contains(address) => "is this server itself: name another that knows everybody's names",
            () if upstreams.contains(address) => "is listed already: leave it out once",
            () if address.is_unspecified() || address.is_multicast() || address.is_broadcast() => "is no server's address",
            () => {
                upstreams.push(*address);
                continue;
            }
        };
        errors.add(Some(at), "upstream", format!("\"{address}\" {what}"));
    }
}

/// What machines of a boot interface's network are told where nothing else is set: where other servers are known this one knows everything.
pub(super) fn told(section: &DnsSection, interface: &str, head: Option<Ipv4Addr>, choices: &mut Vec<String>) -> Vec<Ipv4Addr> {
    let dns = section.resolved();
    let head = head.filter(|_| dns.enabled && !dns.upstream.is_empty());
    choices.extend(head.map(|head| format!("{interface}: name server {head} (this one, as [dns] has an upstream)")));
    head.into_iter().collect()
}

impl Dns {
    pub(super) fn entries(&self) -> Vec<(&'static str, String)> {
        let addresses = |list: &[Ipv4Addr]| listed(list.iter().map(in_quotes));
        vec![
            ("enabled", self.enabled.to_string()),
            ("listen", addresses(&self.listen)),
            ("upstream", addresses(&self.upstream)),
            ("transfer", addresses(&self.transfer)),
        ]
    }
}
