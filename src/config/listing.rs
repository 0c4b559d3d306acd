//! A config in the terms of the file: which section says what, every default and derived value included. What `musterd -t` prints, what a
//! reload changes, and where a setting comes from.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::Duration;

use super::keys::{Applies, KeySpec, NetworkKeys, Section, SetKey};
use super::options::TomlOption;
use super::parsed::Parsed;
use super::value::{KeyName, KeySlot, Origin, TomlString, shown_duration, shown_numbers};

/// The sections of a config, in the order of the manual. It is no part of what the config means: all are equal. Empty for a config that was
/// not resolved from flags and text.
///
/// A file may have a section for each of 10,000 nodes. So texts and keys of all sections lie one after the other, and a section is a part of them.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    sections: Vec<ListedSection>,
    keys: Vec<ListedKey>,
    text: String,
    /// What `[boot]` leaves out and the root has.
    found: Vec<KeyName>,
}

#[derive(Clone, Debug)]
struct ListedSection {
    header: &'static str,
    /// What the section is called in a difference; no two sections share it.
    label: Span,
    /// What is no key: the subnet of an interface.
    note: Span,
    keys: Span,
}

#[derive(Clone, Debug)]
struct ListedKey {
    key: &'static KeySpec,
    shown: Span,
    origin: Origin,
}

/// A part of the texts or the keys of a listing. A config file is far smaller than 4 GiB.
#[derive(Clone, Copy, Debug)]
struct Span(u32, u32);

impl Span {
    fn new(range: Range<usize>) -> Span {
        let position = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Span(position(range.start), position(range.end))
    }

    fn range(self) -> Range<usize> {
        self.0 as usize..self.1 as usize
    }
}

/// A section as it is read: with the listing that has its texts.
#[derive(Clone, Copy)]
struct SectionView<'a>(&'a Listing, &'a ListedSection);

impl PartialEq for Listing {
    fn eq(&self, _: &Listing) -> bool {
        true
    }
}

impl Listing {
    /// Of a file whose gaps have been filled. The networks, each with its name and a note, are in the order of the config.
    pub(super) fn new<'d>(
        parsed: &Parsed,
        networks: impl Iterator<Item = (&'d NetworkKeys, &'d str, String)>,
        found: Vec<KeyName>,
    ) -> Listing {
        let mut listing = Listing { found, ..Listing::default() };
        listing.single(&parsed.cluster);
        networks.for_each(|(keys, name, note)| listing.push(keys, &format!("network {name}"), &note));
        for segment in &parsed.segments {
            listing.push(segment, &format!("segment {}", shown_numbers(segment.nodes.value().as_slice())), "");
        }
        for node in &parsed.nodes {
            listing.push(node, &format!("node n{}", node.number.value().unwrap_or_default()), "");
        }
        listing.single(&parsed.boot);
        let mut twins: BTreeMap<String, usize> = BTreeMap::new();
        for section in &parsed.overrides {
            let label = format!("for nodes {}", shown_numbers(&section.nodes.value().unwrap_or_default()));
            let same = twins.entry(label.clone()).or_default();
            *same += 1;
            let twin = if *same == 1 { String::new() } else { format!(" ({same})") };
            listing.push(section, &format!("{label}{twin}"), "");
        }
        listing.single(&parsed.tftp);
        listing.single(&parsed.dhcp);
        listing.single(&parsed.dns);
        listing.single(&parsed.server);
        listing.sections.shrink_to_fit();
        listing.keys.shrink_to_fit();
        listing.text.shrink_to_fit();
        listing
    }

    fn single<S: Section>(&mut self, section: &S) {
        self.push(section, S::HEADER, "");
    }

    fn push<S: Section>(&mut self, section: &S, label: &str, note: &str) {
        let (label, note, first) = (self.add(label), self.add(note), self.keys.len());
        for SetKey { key, shown, origin } in section.entries() {
            let shown = self.add(&shown);
            self.keys.push(ListedKey { key, shown, origin });
        }
        self.sections.push(ListedSection { header: S::HEADER, label, note, keys: Span::new(first..self.keys.len()) });
    }

    fn add(&mut self, text: &str) -> Span {
        let start = self.text.len();
        self.text.push_str(text);
        Span::new(start..self.text.len())
    }

    fn said(&self, span: Span) -> &str {
        self.text.get(span.range()).unwrap_or_default()
    }

    fn views(&self) -> impl Iterator<Item = SectionView<'_>> {
        self.sections.iter().map(move |section| SectionView(self, section))
    }

    fn nth(&self, header: &str, at: usize) -> Option<SectionView<'_>> {
        self.views().filter(|section| section.1.header == header).nth(at)
    }

    /// The section with this header at a position of [`Config::networks`](super::Config) or [`Config::overrides`](super::Config).
    pub fn section(&self, header: &'static str, at: usize) -> Origin {
        let first = self.nth(header, at).and_then(|section| section.keys().first());
        first.map_or(Origin::Section(header, None), |entry| entry.origin)
    }

    /// Where the network at a position has a key from.
    pub fn network(&self, at: usize, key: &str) -> Origin {
        self.nth("[[network]]", at).and_then(|section| section.get(key)).map_or(Origin::Default, |entry| entry.origin)
    }

    /// Where `[boot]` has a setting from.
    pub fn boot(&self, name: KeyName) -> Origin {
        let entry = self.nth("[boot]", 0).and_then(|section| section.keys().iter().find(|entry| name == KeyName::Key(entry.key.name)));
        match entry {
            Some(entry) => entry.origin,
            None if self.found.contains(&name) => Origin::Found,
            None => Origin::Section("[boot]", None),
        }
    }

    /// What a new config changes, a line each: `[tftp]: windowsize 16 -> 8`. Empty when both say the same.
    pub fn difference(&self, new: &Listing) -> Vec<String> {
        let (before, after) = (self.by_label(), new.by_label());
        let mut lines = Vec::new();
        for section in self.views() {
            let label = section.label();
            let Some(now) = after.get(label) else {
                lines.push(format!("{label}: gone ({section})"));
                continue;
            };
            lines.extend(section.changes(*now).map(|change| format!("{label}: {change}")));
            if section.note() != now.note() {
                lines.push(format!("{label}: {} -> {}", section.note(), now.note()));
            }
        }
        let added = new.views().filter(|section| !before.contains_key(section.label()));
        lines.extend(added.map(|section| format!("{}: new ({section})", section.label())));
        lines
    }

    /// The changed keys that a running daemon cannot take over, a line each.
    pub(super) fn needs_restart(&self, new: &Listing) -> Vec<String> {
        let after = new.by_label();
        let both = self.views().filter_map(|section| Some((section, *after.get(section.label())?)));
        let fixed = both.flat_map(|(section, now)| {
            section.changes(now).filter(KeyChange::needs_restart).map(move |change| format!("{} {change}", section.label()))
        });
        fixed.collect()
    }

    fn by_label(&self) -> BTreeMap<&str, SectionView<'_>> {
        self.views().map(|section| (section.label(), section)).collect()
    }
}

/// In TOML. Read again on the same machine it gives an equal config.
impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, section) in self.views().enumerate() {
            let (blank, note) = (if position == 0 { "" } else { "\n" }, section.note());
            let mark = if note.is_empty() { "" } else { "  # " };
            writeln!(f, "{blank}{}{mark}{note}", section.1.header)?;
            section.entries().try_for_each(|(key, shown)| writeln!(f, "{} = {shown}", key.name))?;
        }
        Ok(())
    }
}

impl<'a> SectionView<'a> {
    fn label(self) -> &'a str {
        self.0.said(self.1.label)
    }

    fn note(self) -> &'a str {
        self.0.said(self.1.note)
    }

    fn keys(self) -> &'a [ListedKey] {
        self.0.keys.get(self.1.keys.range()).unwrap_or_default()
    }

    /// Each key and what it is set to.
    fn entries(self) -> impl Iterator<Item = (&'static KeySpec, &'a str)> {
        self.keys().iter().map(move |entry| (entry.key, self.0.said(entry.shown)))
    }

    fn get(self, key: &str) -> Option<&'a ListedKey> {
        self.keys().iter().find(|entry| entry.key.name == key)
    }

    fn shown(self, key: &str) -> Option<&'a str> {
        self.get(key).map(|entry| self.0.said(entry.shown))
    }

    /// The keys whose values differ in another section: this one's first, then what only the other one has.
    fn changes(self, now: SectionView<'a>) -> impl Iterator<Item = KeyChange<'a>> {
        let added = now.keys().iter().filter(move |entry| self.get(entry.key.name).is_none());
        let keys = self.keys().iter().chain(added).map(|entry| entry.key);
        let changes = keys.map(move |key| KeyChange { key, before: self.shown(key.name), after: now.shown(key.name) });
        changes.filter(|change| change.before != change.after)
    }
}

/// In one line.
impl fmt::Display for SectionView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries: Vec<String> = self.entries().map(|(key, shown)| format!("{} = {shown}", key.name)).collect();
        f.write_str(&entries.join(", "))
    }
}

/// A key whose value changes; None where it is not set.
struct KeyChange<'a> {
    key: &'static KeySpec,
    before: Option<&'a str>,
    after: Option<&'a str>,
}

impl KeyChange<'_> {
    fn needs_restart(&self) -> bool {
        match self.key.applies {
            Applies::Reload => false,
            Applies::Restart => true,
            Applies::FirstOrLast => (self.before == Some("[]")) != (self.after == Some("[]")),
        }
    }
}

/// `windowsize 16 -> 8`
impl fmt::Display for KeyChange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: Option<&str>| value.unwrap_or("not set").to_string();
        write!(f, "{} {} -> {}", self.key.name, shown(self.before), shown(self.after))
    }
}

/// What holds for a number, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting<'a> {
    /// Which setting it is.
    pub name: KeyName,
    /// What it is set to.
    pub value: SettingValue<'a>,
    /// Where it comes from.
    pub origin: Origin,
}

/// A value as the listing shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingValue<'a> {
    /// A text, in quotes.
    Text(&'a str),
    /// A list of file names.
    Files(&'a [String]),
    /// A duration.
    Time(Duration),
    /// A list of addresses.
    Addresses(&'a [Ipv4Addr]),
    /// The bytes of a DHCP option, and its code.
    Option(u8, &'a [u8]),
}

/// As the config would have it, in TOML.
impl fmt::Display for SettingValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            SettingValue::Text(text) => TomlString(text).fmt(f),
            SettingValue::Files(files) => list(f, files.iter().map(|file| TomlString(file))),
            SettingValue::Addresses(addresses) => list(f, addresses.iter().map(InQuotes)),
            SettingValue::Time(time) => InQuotes(shown_duration(time)).fmt(f),
            SettingValue::Option(code, bytes) => TomlOption(code, bytes).fmt(f),
        }
    }
}

struct InQuotes<T>(T);

impl<T: fmt::Display> fmt::Display for InQuotes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

fn list(f: &mut fmt::Formatter<'_>, values: impl Iterator<Item = impl fmt::Display>) -> fmt::Result {
    f.write_char('[')?;
    for (at, value) in values.enumerate() {
        write!(f, "{}{value}", if at == 0 { "" } else { ", " })?;
    }
    f.write_char(']')
}
