//! The file as it is: every section and key with its own value checked, nothing related to anything else. Used by this room only.

use std::net::Ipv4Addr;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::de::{DeTable, Error as SyntaxError};

use super::dns::{self, DnsSection};
use super::error::{Errors, listed};
use super::options::options;
use super::value::{self, Read, Section, Set, Value, wrong};
use super::{Numbering, Text};
use crate::base::addr::{Mac, MacPattern};
use crate::base::limits;
use crate::roll::kind::Arch;
use crate::roll::plan::{AddressRange, Names, Number, Subnet};

/// A lease, in seconds: a minute to ten years.
const LEASE: RangeInclusive<u64> = 60..=3650 * 86_400;
/// How long a silent transfer lives, in seconds.
const GIVE_UP: RangeInclusive<u64> = 2..=3600;
/// The queue on the way that is aimed at, in milliseconds.
const QUEUE_DELAY: RangeInclusive<u64> = 1..=50;
/// New numbers a minute; the most is one a millisecond.
const NEW_NUMBERS: RangeInclusive<u64> = 1..=60_000;
/// Addresses in one DHCP option of ours.
const ADDRESSES_MAX: usize = 16;
/// MACs of one node.
const MACS_MAX: usize = crate::roll::lot::MACS_MAX;
/// Patterns of MACs to ignore.
const PATTERNS_MAX: usize = 64;
/// The site-specific DHCP options (RFC 3942), but for the last: the one behind the report's carries the names.
const REPORT_OPTIONS: RangeInclusive<u64> = 224..=253;
/// The DHCP `file` field holds 128 bytes and ends with a NUL (RFC 2131, section 2).
const PROGRAM_MAX: usize = 127;
/// An HTTP boot program's URI goes into one instance of option 67.
const URI_MAX: usize = 254;
/// Linux takes 2,048 bytes of command line on most architectures.
const ARGS_MAX: usize = 2047;
pub(super) const INITRDS_MAX: usize = 8;

/// What `{…}` may stand for in `args`.
const PLACEHOLDERS: &[&str] = &["node", "name", "ip", "mac", "head"];

#[derive(Default)]
pub(super) struct Raw {
    pub cluster: Cluster,
    pub networks: Vec<Set<NetworkSection>>,
    pub segments: Vec<Set<SegmentSection>>,
    pub nodes: Vec<Set<NodeSection>>,
    pub boot: BootSection,
    pub special: Vec<Set<ForSection>>,
    pub ports: Option<Set<(u16, u16)>>,
    pub windowsize: Option<Set<u64>>,
    pub give_up: Option<Set<Duration>>,
    pub authoritative: Option<Set<bool>>,
    pub lease: Option<Set<Duration>>,
    pub guest_lease: Option<Set<Duration>>,
    pub dns: DnsSection,
    pub capacity: Option<Set<u64>>,
    pub run_dir: Option<Set<String>>,
    pub state_dir: Option<Set<String>>,
    pub report_option: Option<Set<u64>>,
    pub router_adverts: Option<Set<bool>>,
    /// [cluster] or [[network]] have errors: what would be derived from them is not to be relied on.
    pub addresses_unsure: bool,
}

#[derive(Default)]
pub(super) struct Cluster {
    pub name: Option<Set<String>>,
    pub prefix: Option<Set<String>>,
    pub digits: Option<Set<u64>>,
    pub node0: Option<Set<Ipv4Addr>>,
    pub nodes: Option<Set<u64>>,
    pub guests: Option<Set<Guests>>,
    pub numbering: Option<Set<Numbering>>,
    pub new_numbers: Option<Set<u64>>,
    pub ignore: Option<Set<Vec<MacPattern>>>,
}

/// `guests`: a range, or `"none"`.
pub(super) type Guests = Option<AddressRange>;

pub(super) struct NetworkSection {
    pub interface: Option<Set<String>>,
    pub head: Option<Set<Ipv4Addr>>,
    pub subnet: Option<Set<Subnet>>,
    pub guests: Option<Set<Guests>>,
    pub router: Option<Set<Vec<Ipv4Addr>>>,
    pub dns: Option<Set<Vec<Ipv4Addr>>>,
    pub ntp: Option<Set<Vec<Ipv4Addr>>>,
    pub domain: Option<Set<String>>,
    pub lease: Option<Set<Duration>>,
    pub guest_lease: Option<Set<Duration>>,
    pub link_rate: Option<Set<u64>>,
    pub queue_delay: Option<Set<Duration>>,
    pub options: Vec<Set<(u8, Vec<u8>)>>,
}

pub(super) struct SegmentSection {
    /// First and last.
    pub nodes: Option<Set<(Number, Number)>>,
    pub first: Option<Set<Ipv4Addr>>,
}

pub(super) struct NodeSection {
    pub number: Option<Set<u64>>,
    pub macs: Vec<Set<Mac>>,
}

#[derive(Default)]
pub(super) struct BootSection {
    pub root: Option<Set<String>>,
    pub choice: Choice,
}

/// What [boot] and [[for]] have in common.
#[derive(Default)]
pub(super) struct Choice {
    pub program: Vec<Set<(Arch, String)>>,
    pub script: Option<Set<String>>,
    pub kernel: Option<Set<String>>,
    pub initrd: Option<Set<Vec<String>>>,
    pub args: Option<Set<String>>,
}

pub(super) struct ForSection {
    pub nodes: Option<Set<Vec<(Number, Number)>>>,
    pub choice: Choice,
    pub lease: Option<Set<Duration>>,
    pub options: Vec<Set<(u8, Vec<u8>)>>,
}

/// Reads a whole file. None after syntax errors: what the rest means is not sure then.
pub(super) fn read(text: Text<'_>, errors: &mut Errors<'_>) -> Option<Raw> {
    let (document, syntax) = DeTable::parse_recoverable(text.text);
    for error in &syntax {
        syntax_error(text.text, error, errors);
    }
    if !syntax.is_empty() {
        return None;
    }
    let mut file = Section::new("the file", Some(document.get_ref()));
    let mut raw = Raw::default();
    let before = errors.count();
    raw.cluster = cluster(file.raw("cluster"), errors);
    raw.networks = each(file.raw("network"), "network", errors, network);
    raw.segments = each(file.raw("segment"), "segment", errors, segment);
    raw.addresses_unsure = errors.count() > before;
    raw.nodes = each(file.raw("node"), "node", errors, node);
    raw.boot = boot(file.raw("boot"), errors);
    raw.special = each(file.raw("for"), "for", errors, special);
    tftp(&mut raw, file.raw("tftp"), errors);
    dhcp(&mut raw, file.raw("dhcp"), errors);
    raw.dns = dns::read(file.raw("dns"), errors);
    server(&mut raw, file.raw("server"), errors);
    file.finish(errors);
    Some(raw)
}

/// The parser's own words, except for the slips that are common.
fn syntax_error(text: &str, error: &SyntaxError, errors: &mut Errors<'_>) {
    let at = error.span().unwrap_or(text.len()..text.len());
    let line_start = text.get(..at.start).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
    let before = text.get(line_start..at.start).unwrap_or_default();
    let key = before.split_once('=').map_or("", |(key, _)| key.trim());
    let word = text.get(at.clone()).unwrap_or_default().lines().next().unwrap_or_default().trim();
    let message = error.message();
    let what = match () {
        () if message.starts_with("string values must be quoted") => format!("{word} is not a value: write a text in quotes: {word:?}"),
        () if message.starts_with("invalid basic string, expected `\"`") => "the text has no end: close it with \"".to_string(),
        () if message.starts_with("invalid literal string, expected `'`") => "the text has no end: close it with '".to_string(),
        () if message == "duplicate key" => format!("{word:?} is set a second time: leave one of the two out"),
        () => format!("{message} (this is not TOML)"),
    };
    errors.add(Some(&at), key, what);
}

/// Reads each table of an array of tables.
fn each<'i, T>(
    value: Option<&Value<'i>>,
    key: &str,
    errors: &mut Errors<'_>,
    mut read: impl FnMut(&DeTable<'i>, &Range<usize>, &mut Errors<'_>) -> T,
) -> Vec<Set<T>> {
    let tables = value::tables(errors, key, value);
    tables.into_iter().map(|Set { value, at }| Set { value: read(value, &at, errors), at }).collect()
}

fn cluster(value: Option<&Value<'_>>, errors: &mut Errors<'_>) -> Cluster {
    let mut section = Section::new("[cluster]", value::table(errors, "cluster", value));
    let numberings = [("automatic", Numbering::Automatic), ("ordered", Numbering::Ordered), ("locked", Numbering::Locked)];
    let cluster = Cluster {
        name: section.get(errors, "name", domain_name),
        prefix: section.get(errors, "prefix", prefix),
        digits: section.get(errors, "digits", |value| value::integer(value, 1..=u64::from(Names::DIGITS_MAX))),
        node0: section.get(errors, "node0", value::address),
        nodes: section.get(errors, "nodes", |value| value::integer(value, 1..=limits::CAPACITY_MAX as u64)),
        guests: section.get(errors, "guests", guests),
        numbering: section.get(errors, "numbering", |value| value::word(value, &numberings)),
        new_numbers: section.get(errors, "new-numbers", |value| value::integer(value, NEW_NUMBERS)),
        ignore: section.get(errors, "ignore", |value| value::list(value, PATTERNS_MAX, value::mac_pattern)),
    };
    section.finish(errors);
    cluster
}

fn network(table: &DeTable<'_>, at: &Range<usize>, errors: &mut Errors<'_>) -> NetworkSection {
    let mut section = Section::new("[[network]]", Some(table));
    let addresses = |value: &Value<'_>| value::list(value, ADDRESSES_MAX, value::address);
    let before = errors.count();
    let network = NetworkSection {
        interface: section.get(errors, "interface", interface_name),
        subnet: section.get(errors, "subnet", value::subnet),
        head: section.get(errors, "head", value::address),
        guests: section.get(errors, "guests", guests),
        router: section.get(errors, "router", addresses),
        dns: section.get(errors, "dns", addresses),
        ntp: section.get(errors, "ntp", addresses),
        domain: section.get(errors, "domain", domain_name),
        lease: section.get(errors, "lease", |value| value::duration(value, LEASE)),
        guest_lease: section.get(errors, "guest-lease", |value| value::duration(value, LEASE)),
        link_rate: section.get(errors, "link-rate", value::rate),
        queue_delay: section.get(errors, "queue-delay", |value| value::milliseconds(value, QUEUE_DELAY)),
        options: options(errors, section.raw("options")),
    };
    section.finish(errors);
    match (&network.interface, &network.subnet) {
        (Some(_), Some(subnet)) => {
            let what = "a network is an interface's own or one behind a relay: leave out `subnet` or `interface`";
            errors.add(Some(&subnet.at), "subnet", what);
        }
        (None, None) if errors.count() == before => {
            errors.add(Some(at), "network", "set `interface` (a boot interface's own network) or `subnet` (one behind a relay)");
        }
        (None, Some(_)) => {
            let behind = "is for a boot interface's own network, this one is behind a relay: leave it out";
            let wrong = [
                ("head", network.head.as_ref().map(|set| &set.at)),
                ("link-rate", network.link_rate.as_ref().map(|set| &set.at)),
                ("queue-delay", network.queue_delay.as_ref().map(|set| &set.at)),
            ];
            wrong.iter().filter(|(_, at)| at.is_some()).for_each(|(key, at)| errors.add(*at, key, behind));
        }
        _ => {}
    }
    network
}

fn segment(table: &DeTable<'_>, at: &Range<usize>, errors: &mut Errors<'_>) -> SegmentSection {
    let mut section = Section::new("[[segment]]", Some(table));
    let before = errors.count();
    let nodes = section.get(errors, "nodes", |value| match value::numbers(value)?.as_slice() {
        [range] => Ok(*range),
        _ => wrong(value, "is not one range: write a segment for each, as in \"200-399\""),
    });
    let first = section.get(errors, "first", value::address);
    section.finish(errors);
    if (nodes.is_none() || first.is_none()) && errors.count() == before {
        errors.add(Some(at), "segment", "write both `nodes` and `first`, as in nodes = \"200-399\", first = \"10.55.1.0\"");
    }
    SegmentSection { nodes, first }
}

fn node(table: &DeTable<'_>, at: &Range<usize>, errors: &mut Errors<'_>) -> NodeSection {
    let mut section = Section::new("[[node]]", Some(table));
    let before = errors.count();
    let number = section.get(errors, "number", |value| value::integer(value, 0..=limits::CAPACITY_MAX as u64 - 1));
    let with_place = |value: &Value<'_>| value::mac(value).map(|mac| Set { value: mac, at: value.span() });
    let macs = section.get(errors, "macs", |value| value::list(value, MACS_MAX, with_place));
    let missing = number.is_none() || macs.as_ref().is_none_or(|macs| macs.value.is_empty());
    section.finish(errors);
    if missing && errors.count() == before {
        errors.add(Some(at), "node", "write both `number` and `macs`, as in number = 17, macs = [\"52:54:00:12:34:56\"]");
    }
    NodeSection { number, macs: macs.map(|macs| macs.value).unwrap_or_default() }
}

fn boot(value: Option<&Value<'_>>, errors: &mut Errors<'_>) -> BootSection {
    let mut section = Section::new("[boot]", value::table(errors, "boot", value));
    let root = section.get(errors, "root", folder);
    let choice = choice(&mut section, errors);
    section.finish(errors);
    BootSection { root, choice }
}

fn special(table: &DeTable<'_>, at: &Range<usize>, errors: &mut Errors<'_>) -> ForSection {
    let mut section = Section::new("[[for]]", Some(table));
    let before = errors.count();
    let nodes = section.get(errors, "nodes", value::numbers);
    if nodes.is_none() && errors.count() == before {
        errors.add(Some(at), "for", "say which nodes this is for, as in nodes = \"0-31,40\"");
    }
    let choice = choice(&mut section, errors);
    let lease = section.get(errors, "lease", |value| value::duration(value, LEASE));
    let options = options(errors, section.raw("options"));
    section.finish(errors);
    ForSection { nodes, choice, lease, options }
}

fn choice(section: &mut Section<'_, '_>, errors: &mut Errors<'_>) -> Choice {
    let example = "program = { bios = \"undionly.kpxe\", efi-x64 = \"snponly.efi\" }";
    Choice {
        program: value::entries(errors, "program", section.raw("program"), example, program),
        script: section.get(errors, "script", |value| file(value, PROGRAM_MAX)),
        kernel: section.get(errors, "kernel", file_in_script),
        initrd: section.get(errors, "initrd", |value| value::list(value, INITRDS_MAX, file_in_script)),
        args: section.get(errors, "args", args),
    }
}

fn tftp(raw: &mut Raw, value: Option<&Value<'_>>, errors: &mut Errors<'_>) {
    let mut section = Section::new("[tftp]", value::table(errors, "tftp", value));
    raw.ports = section.get(errors, "ports", ports);
    raw.windowsize = section.get(errors, "windowsize", |value| value::integer(value, 1..=u64::from(crate::wire::tftp::WINDOWSIZE_MAX)));
    raw.give_up = section.get(errors, "give-up", |value| value::duration(value, GIVE_UP));
    section.finish(errors);
}

fn dhcp(raw: &mut Raw, value: Option<&Value<'_>>, errors: &mut Errors<'_>) {
    let mut section = Section::new("[dhcp]", value::table(errors, "dhcp", value));
    raw.authoritative = section.get(errors, "authoritative", value::flag);
    raw.lease = section.get(errors, "lease", |value| value::duration(value, LEASE));
    raw.guest_lease = section.get(errors, "guest-lease", |value| value::duration(value, LEASE));
    raw.report_option = section.get(errors, "report-option", |value| value::integer(value, REPORT_OPTIONS));
    section.finish(errors);
}

fn server(raw: &mut Raw, value: Option<&Value<'_>>, errors: &mut Errors<'_>) {
    let mut section = Section::new("[server]", value::table(errors, "server", value));
    let capacity = limits::CAPACITY_MIN as u64..=limits::CAPACITY_MAX as u64;
    raw.capacity = section.get(errors, "capacity", |value| value::integer(value, capacity));
    raw.run_dir = section.get(errors, "run-dir", folder);
    raw.state_dir = section.get(errors, "state-dir", folder);
    raw.router_adverts = section.get(errors, "router-adverts", value::flag);
    section.finish(errors);
}

/// Letters, digits and hyphens between dots (RFC 1123, section 2.1).
fn domain_name(value: &Value<'_>) -> Read<String> {
    let text = value::text(value)?;
    let label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (1..=63).contains(&label.len()) && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    match text.len() <= Names::DOMAIN_MAX && text.split('.').all(label) {
        true => Ok(text.to_string()),
        false => wrong(value, "is not a domain name: use letters, digits and hyphens between dots, as in \"cluster\""),
    }
}

/// What a number may follow in a host name. Guests are called `guest-` and their MAC, which could be digits alone.
fn prefix(value: &Value<'_>) -> Read<String> {
    let text = value::text(value)?;
    match Names::new(text, 1, "") {
        Some(_) if !text.eq_ignore_ascii_case("guest-") => Ok(text.to_ascii_lowercase()),
        Some(_) => wrong(value, "is what guests are called: choose another"),
        None => wrong(
            value,
            "cannot precede a number: use up to 15 letters, digits and hyphens, with a letter first and no digit last, as in \"n\"",
        ),
    }
}

/// A name as the kernel allows it: 1 to 15 bytes, no slash, no blank (`dev_valid_name`).
fn interface_name(value: &Value<'_>) -> Read<String> {
    let text = value::text(value)?;
    match (1..=15).contains(&text.len()) && !text.contains(['/', ' ', ':']) {
        true => Ok(text.to_string()),
        false => wrong(value, "is not an interface's name: write it as `ip link` shows it, as in \"eth1\""),
    }
}

fn guests(value: &Value<'_>) -> Read<Guests> {
    if value.get_ref().as_str() == Some("none") {
        return Ok(None);
    }
    let range = value::range(value)?;
    match range.count() <= limits::GUESTS_MAX as u64 {
        true => Ok(Some(range)),
        false => wrong(value, format_args!("has {} addresses: at most {} are possible", range.count(), limits::GUESTS_MAX)),
    }
}

/// An absolute path.
fn folder(value: &Value<'_>) -> Read<String> {
    let text = value::text(value)?;
    if text.starts_with('/') { Ok(text.to_string()) } else { wrong(value, "is not an absolute path: begin with \"/\"") }
}

/// A file beneath the root.
fn file(value: &Value<'_>, max: usize) -> Read<String> {
    let text = value::text(value)?;
    match () {
        () if text.is_empty() => wrong(value, "names no file"),
        () if text.starts_with('/') => wrong(value, format_args!("is absolute: write it relative to `root`, without the leading \"/\"")),
        () if text.split('/').any(|part| part == "..") => wrong(value, "leads out of the root: leave out \"..\""),
        () if text.len() > max => wrong(value, format_args!("has {} bytes: at most {max} are possible", text.len())),
        () => Ok(text.to_string()),
    }
}

/// A file that made scripts name: blanks part words, a comma parts RAM disks in pxelinux, the last three are part of URIs in iPXE.
fn file_in_script(value: &Value<'_>) -> Read<String> {
    let text = file(value, limits::FILE_NAME_MAX)?;
    match text.contains([' ', '$', '{', '}', '|', '&', ',', '#', '?', '%']) {
        true => wrong(value, "has a blank or one of ${}|&,#?% in it, which mean something else in a boot script: rename the file"),
        false => Ok(text),
    }
}

/// `bios = "undionly.kpxe"`, `http-x64 = "http://10.54.0.1/ipxe.efi"`
fn program(name: &str, value: &Value<'_>) -> Read<(Arch, String)> {
    let names: Vec<&str> = Arch::ALL.iter().map(|arch| arch.name()).collect();
    let Some(&arch) = Arch::ALL.iter().find(|arch| arch.name() == name) else {
        let remedy = match super::error::nearest(name, &names) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("there are {}", listed(&names)),
        };
        return value::wrong_plainly(value, format_args!("unknown architecture: {remedy}"));
    };
    let text = value::text(value)?;
    let is_uri = ["http://", "https://"].iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
    match (arch.is_http(), is_uri) {
        (true, true) if text.len() > URI_MAX => wrong(value, format_args!("has {} bytes: at most {URI_MAX} are possible", text.len())),
        (true, true) if text.contains(' ') => wrong(value, "has a blank in it: write %20"),
        (true, true) => Ok((arch, text.to_string())),
        (true, false) => {
            wrong(value, format_args!("is not a URI, and {arch} boots from one: write it as in \"http://10.54.0.1/ipxe.efi\""))
        }
        (false, true) => wrong(value, format_args!("is a URI, and {arch} boots by TFTP: name a file beneath the root")),
        (false, false) => file(value, PROGRAM_MAX).map(|file| (arch, file)),
    }
}

/// Kernel arguments with known placeholders.
fn args(value: &Value<'_>) -> Read<String> {
    let text = value::text(value)?;
    if text.len() > ARGS_MAX {
        return wrong(value, format_args!("has {} bytes: at most {ARGS_MAX} are possible", text.len()));
    }
    for part in text.split('{').skip(1) {
        let Some((name, _)) = part.split_once('}') else {
            return value::wrong_plainly(value, "a \"{\" has no \"}\": close it, or leave it out");
        };
        if !PLACEHOLDERS.contains(&name) {
            let known = listed(PLACEHOLDERS.iter().map(|known| format!("{{{known}}}")));
            return value::wrong_plainly(value, format_args!("{{{name}}} stands for nothing: there are {known}"));
        }
    }
    // iPXE, which knows no quotes, would end the kernel's line there.
    match text.split_ascii_whitespace().find(|word| ["||", "&&"].contains(word)) {
        Some(word) => value::wrong_plainly(value, format_args!("{word:?} means something else in a boot script: leave it out")),
        None => Ok(text.to_string()),
    }
}

/// `20069-20084`, or one port.
fn ports(value: &Value<'_>) -> Read<(u16, u16)> {
    let ends = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some((first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?))
    };
    let alone = || value::integer(value, 1..=65_535).ok().map(|port| (port as u16, port as u16));
    let (first, last) = match value.get_ref().as_str().map_or_else(alone, ends) {
        Some((first, last)) if 0 < first && first <= last => (first, last),
        _ => return wrong(value, "is not a range of ports: write it as in \"20069-20084\""),
    };
    let count = usize::from(last - first) + 1;
    match [53, 67, 68, 69].iter().find(|port| (first..=last).contains(port)) {
        Some(port) => wrong(value, format_args!("holds port {port}, which has its own use: choose ports such as \"20069-20084\"")),
        None if count > crate::wire::tftp::PORTS_MAX => {
            wrong(value, format_args!("are {count} ports: at most {} are possible", crate::wire::tftp::PORTS_MAX))
        }
        None => Ok((first, last)),
    }
}
