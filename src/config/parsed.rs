//! The file as it is: every section and key with its own value checked, nothing related to other sections. Used by this room only.

use toml::Spanned;
use toml::de::{DeTable, Error as SyntaxError};

use super::error::{ConfigText, Errors};
use super::keys::{
    BootKeys, ClusterKeys, DhcpKeys, DnsKeys, ForKeys, NetworkKeys, NodeKeys, SECTIONS, Section, SegmentKeys, ServerKeys, TftpKeys, Usual,
    unknown,
};
use super::value::{self, KeySlot};

#[derive(Default)]
pub(super) struct Parsed {
    pub cluster: ClusterKeys,
    pub networks: Vec<NetworkKeys>,
    pub segments: Vec<SegmentKeys>,
    pub nodes: Vec<NodeKeys>,
    pub boot: BootKeys,
    pub overrides: Vec<ForKeys>,
    pub tftp: TftpKeys,
    pub dhcp: DhcpKeys,
    pub dns: DnsKeys,
    pub server: ServerKeys,
    /// [cluster], [[network]] or [[segment]] have errors: what would be derived from them is not to be relied on.
    pub addresses_unsure: bool,
}

impl Parsed {
    /// Reads a whole file. None after syntax errors: what the rest means is not sure then.
    pub fn read(source: ConfigText<'_>, errors: &mut Errors<'_>) -> Option<Parsed> {
        let (document, syntax) = DeTable::parse_recoverable(source.text);
        syntax.iter().for_each(|error| syntax_error(source.text, error, errors));
        if !syntax.is_empty() {
            return None;
        }
        let file = document.get_ref();
        let before = errors.count();
        let cluster = one(file, errors);
        let networks = each(file, "", network, errors);
        let segments = each(file, SEGMENT, |_, _, _| {}, errors);
        let addresses_unsure = errors.count() > before;
        let parsed = Parsed {
            cluster,
            networks,
            segments,
            addresses_unsure,
            nodes: each(file, NODE, node, errors),
            boot: one(file, errors),
            overrides: each(file, FOR, |_, _, _| {}, errors),
            tftp: one(file, errors),
            dhcp: one(file, errors),
            dns: one(file, errors),
            server: one(file, errors),
        };
        unknown("the file", &SECTIONS.map(|(header, _)| name(header)), file, errors);
        Some(parsed)
    }
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

/// `network` of `[[network]]`.
fn name(header: &str) -> &str {
    header.trim_matches(['[', ']'])
}

/// The one section of a kind: an empty one if there is none.
fn one<S: Section>(file: &DeTable<'_>, errors: &mut Errors<'_>) -> S {
    let value = file.get(name(S::HEADER));
    let at = value.map(Spanned::span).unwrap_or_default();
    value::table(errors, name(S::HEADER), value).map(|table| S::read(table, at, errors)).unwrap_or_default()
}

/// Any number of sections; the sentence is for one that lacks a key. The check gets to know whether the keys are good one by one.
fn each<S: Section>(file: &DeTable<'_>, lacking: &str, check: impl Fn(&S, bool, &mut Errors<'_>), errors: &mut Errors<'_>) -> Vec<S> {
    let key = name(S::HEADER);
    let mut sections = Vec::new();
    for (table, at) in value::tables(errors, key, file.get(key)) {
        let before = errors.count();
        let section = S::read(table, at.clone(), errors);
        if S::KEYS.iter().any(|known| known.usual == Usual::Required && !table.contains_key(known.name)) {
            errors.add(Some(&at), key, lacking);
        }
        check(&section, errors.count() == before, errors);
        sections.push(section);
    }
    sections
}

const SEGMENT: &str = "write both `nodes` and `first`, as in nodes = \"200-399\", first = \"10.55.1.0\"";
const NODE: &str = "write both `number` and `macs`, as in number = 17, macs = [\"52:54:00:12:34:56\"]";
const FOR: &str = "say which nodes this is for, as in nodes = \"0-31,40\"";

fn node(node: &NodeKeys, good: bool, errors: &mut Errors<'_>) {
    if good && node.macs.as_ref().is_none_or(|macs| macs.value.is_empty()) {
        errors.add(node.at(), "node", NODE);
    }
}

fn network(network: &NetworkKeys, good: bool, errors: &mut Errors<'_>) {
    match (&network.interface, &network.subnet) {
        (Some(_), Some(_)) => {
            let what = "a network is an interface's own or one behind a relay: leave out `subnet` or `interface`";
            errors.add(network.subnet.at(), "subnet", what);
        }
        (None, None) if good => {
            errors.add(network.at(), "network", "set `interface` (a boot interface's own network) or `subnet` (one behind a relay)");
        }
        (None, Some(_)) => {
            let behind = "is for a boot interface's own network, this one is behind a relay: leave it out";
            let own = [("head", network.head.at()), ("link-rate", network.link_rate.at()), ("queue-delay", network.queue_delay.at())];
            own.iter().filter(|(_, at)| at.is_some()).for_each(|(key, at)| errors.add(*at, key, behind));
        }
        _ => {}
    }
}
