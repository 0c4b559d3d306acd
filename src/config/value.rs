//! TOML values -> Rust values and back, each with the sentence for when that fails; what a value is called, and where it comes from.

use std::fmt::{self, Display, Write};
use std::net::Ipv4Addr;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Errors, listed, nearest};
use crate::base::addr::{Mac, MacPattern};
use crate::roll::kind::Arch;
use crate::roll::plan::{AddressRange, Number, Subnet};

pub(super) type Value<'i> = Spanned<DeValue<'i>>;

/// A key by its name, or one entry of a table of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyName {
    /// A key, by its name in the file.
    Key(&'static str),
    /// The boot program of an architecture.
    Program(Arch),
    /// A DHCP option of the operator's own.
    Option(u8),
}

/// As errors call it: `program.efi-x64`, `args`, `options.66`.
impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyName::Key(key) => f.write_str(key),
            KeyName::Program(arch) => write!(f, "program.{arch}"),
            KeyName::Option(code) => write!(f, "options.{code}"),
        }
    }
}

/// Where a setting comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// No section and no file: a default, or derived from the interface.
    #[default]
    Default,
    /// A file of a usual name in the root.
    Found,
    /// A text that is generated from kernel, initrd and args.
    Made,
    /// A section by its header; for one of several its line, from 1, where it is in a file.
    Section(&'static str, Option<u32>),
}

/// As `muster node show` prints it: `[[for]] line 12`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Origin::Default => f.write_str("default"),
            Origin::Found => f.write_str("found in the root"),
            Origin::Made => f.write_str("generated from kernel, initrd and args"),
            Origin::Section(header, Some(line)) => write!(f, "{header} line {line}"),
            Origin::Section(header, None) => f.write_str(header),
        }
    }
}

/// A value of a key, and where it comes from.
#[derive(Clone, Debug)]
pub(super) struct Set<T> {
    pub value: T,
    /// Its position, where the file has it.
    pub at: Option<Range<usize>>,
    /// Those of a list's elements.
    elements: Vec<Range<usize>>,
    pub origin: Origin,
}

impl<T> Set<T> {
    /// A default, or what follows from other values.
    pub fn derived(value: T) -> Set<T> {
        Set { value, at: None, elements: Vec::new(), origin: Origin::Default }
    }

    /// What the root has.
    pub fn found(value: T) -> Set<T> {
        Set { origin: Origin::Found, ..Set::derived(value) }
    }

    pub fn read(value: T, from: &Value<'_>, origin: Origin) -> Set<T> {
        let elements = from.get_ref().as_array().map(|list| list.iter().map(Spanned::span).collect());
        Set { value, at: Some(from.span()), elements: elements.unwrap_or_else(|| vec![from.span()]), origin }
    }
}

/// A key that may be set.
pub(super) trait KeySlot<T> {
    fn value(&self) -> Option<T>;
    fn at(&self) -> Option<&Range<usize>>;

    /// The value of a key that has a default, after [`Section::fill`](super::section::Section::fill).
    fn filled(&self) -> T;
}

impl<T: Clone> KeySlot<T> for Option<Set<T>> {
    fn value(&self) -> Option<T> {
        self.as_ref().map(|set| set.value.clone())
    }

    fn at(&self) -> Option<&Range<usize>> {
        self.as_ref().and_then(|set| set.at.as_ref())
    }

    fn filled(&self) -> T {
        self.value().expect("the key has a default, and the section is filled")
    }
}

/// The elements of a list, each with its position.
pub(super) fn elements<T: Copy>(list: &Option<Set<Vec<T>>>) -> impl Iterator<Item = (T, Option<&Range<usize>>)> {
    list.iter().flat_map(|set| set.value.iter().enumerate().map(|(position, element)| (*element, set.elements.get(position))))
}

/// What is wrong with a value, and where in it; in a table, one fault for each bad entry.
#[derive(Debug)]
pub(super) struct ValueErrors(Vec<Fault>);

#[derive(Debug)]
struct Fault {
    at: Range<usize>,
    /// What follows the key's name: `.bios`.
    entry: String,
    what: String,
}

impl ValueErrors {
    pub fn report(self, key: &str, errors: &mut Errors<'_>) {
        self.0.into_iter().for_each(|Fault { at, entry, what }| errors.add(Some(&at), &format!("{key}{entry}"), what));
    }
}

pub(super) type ReadResult<T> = Result<T, ValueErrors>;

/// `"eth7" is not …` at the position of the value.
pub(super) fn wrong<T>(value: &Value<'_>, what: impl Display) -> ReadResult<T> {
    wrong_plainly(value, format_args!("{} {what}", shown(value)))
}

/// A sentence of its own at the position of the value.
pub(super) fn wrong_plainly<T>(value: &Value<'_>, what: impl Display) -> ReadResult<T> {
    Err(ValueErrors(vec![Fault { at: value.span(), entry: String::new(), what: what.to_string() }]))
}

/// A value as the file has it, short enough for a sentence.
fn shown(value: &Value<'_>) -> String {
    match value.get_ref() {
        DeValue::String(text) if text.chars().count() > 60 => format!("{:?}…", text.chars().take(59).collect::<String>()),
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(date) => date.to_string(),
        DeValue::Array(_) => "a list".to_string(),
        DeValue::Table(_) => "a table".to_string(),
    }
}

/// The entries of an inline table, such as `program = { bios = "…" }`, each read by its key.
pub(super) fn entries<T>(value: &Value<'_>, example: &str, mut read: impl FnMut(&str, &Value<'_>) -> ReadResult<T>) -> ReadResult<Vec<T>> {
    let Some(table) = value.get_ref().as_table() else { return wrong(value, format_args!("is not a table: write {example}")) };
    let (mut good, mut faults) = (Vec::new(), Vec::new());
    for (name, value) in table {
        match read(name.get_ref(), value) {
            Ok(entry) => good.push(entry),
            Err(ValueErrors(wrong)) => {
                faults.extend(wrong.into_iter().map(|fault| Fault { entry: format!(".{}", name.get_ref()), ..fault }))
            }
        }
    }
    if faults.is_empty() { Ok(good) } else { Err(ValueErrors(faults)) }
}

/// The tables of an array, `[[network]]`, each with its position, or the error that says how to write it.
pub(super) fn tables<'a, 'i>(errors: &mut Errors<'_>, key: &str, value: Option<&'a Value<'i>>) -> Vec<(&'a DeTable<'i>, Range<usize>)> {
    let mut good = Vec::new();
    match value.map(|value| (value, value.get_ref())) {
        None => {}
        Some((_, DeValue::Array(list))) => {
            for element in list {
                match element.get_ref().as_table() {
                    Some(table) => good.push((table, element.span())),
                    None => errors.add(Some(&element.span()), key, format!("{} is not a table: write [[{key}]]", shown(element))),
                }
            }
        }
        Some((value, DeValue::Table(_))) => {
            errors.add(Some(&value.span()), key, format!("there may be several of these: write [[{key}]], in double brackets"));
        }
        Some((value, _)) => errors.add(Some(&value.span()), key, format!("{} is not a table: write [[{key}]]", shown(value))),
    }
    good
}

/// The one table of a name, `[cluster]`.
pub(super) fn table<'a, 'i>(errors: &mut Errors<'_>, key: &str, value: Option<&'a Value<'i>>) -> Option<&'a DeTable<'i>> {
    let value = value?;
    match value.get_ref() {
        DeValue::Table(table) => return Some(table),
        DeValue::Array(_) => errors.add(Some(&value.span()), key, format!("there is only one of these: write [{key}], in single brackets")),
        _ => errors.add(Some(&value.span()), key, format!("{} is not a table: write [{key}]", shown(value))),
    }
    None
}

/// Text that one line can show.
pub(super) fn text<'v>(value: &'v Value<'_>) -> ReadResult<&'v str> {
    match value.get_ref().as_str() {
        None => wrong(value, "is not a text: write it in quotes"),
        Some(text) if text.chars().any(char::is_control) => wrong(value, "has control characters in it: leave them out"),
        Some(text) => Ok(text),
    }
}

pub(super) fn flag(value: &Value<'_>) -> ReadResult<bool> {
    value.get_ref().as_bool().map_or_else(|| wrong(value, "is neither true nor false"), Ok)
}

/// An integer in a range.
pub(super) fn integer(value: &Value<'_>, range: RangeInclusive<u64>) -> ReadResult<u64> {
    let (low, high) = (range.start(), range.end());
    let number = value.get_ref().as_integer().and_then(|number| i128::from_str_radix(number.as_str(), number.radix()).ok());
    match number.map(u64::try_from) {
        Some(Ok(number)) if range.contains(&number) => Ok(number),
        Some(_) => wrong(value, format_args!("is out of range: choose {low} to {high}")),
        None => wrong(value, format_args!("is not a whole number: choose {low} to {high}")),
    }
}

/// Anything that parses from text, with a sentence for when it does not.
fn parsed<T>(value: &Value<'_>, parse: impl FnOnce(&str) -> Option<T>, otherwise: &str) -> ReadResult<T> {
    match value.get_ref().as_str().and_then(parse) {
        Some(good) => Ok(good),
        None => wrong(value, otherwise),
    }
}

pub(super) fn address(value: &Value<'_>) -> ReadResult<Ipv4Addr> {
    parsed(value, |text| text.parse().ok(), "is not an IPv4 address: write it as in \"10.54.0.1\"")
}

pub(super) fn mac(value: &Value<'_>) -> ReadResult<Mac> {
    let mac: Mac = parsed(value, |text| text.parse().ok(), "is not a MAC address: write it as in \"52:54:00:12:34:56\"")?;
    if mac.is_individual() { Ok(mac) } else { wrong(value, "is not an interface's address: write one as in \"52:54:00:12:34:56\"") }
}

pub(super) fn mac_pattern(value: &Value<'_>) -> ReadResult<MacPattern> {
    parsed(value, |text| text.parse().ok(), "is not a MAC address or the beginning of one: write it as in \"00:25:90:*\"")
}

/// `10.54.250.0-10.54.253.255`, or one address.
pub(super) fn range(value: &Value<'_>) -> ReadResult<AddressRange> {
    let ends = |text: &str| match text.split_once('-') {
        Some((first, last)) => Some((first.trim().parse().ok()?, last.trim().parse().ok()?)),
        None => text.trim().parse().ok().map(|address| (address, address)),
    };
    let example = "is not a range of addresses: write it as in \"10.54.250.0-10.54.253.255\"";
    let (first, last): (Ipv4Addr, Ipv4Addr) = parsed(value, ends, example)?;
    match AddressRange::new(first, last) {
        Some(range) => Ok(range),
        None => wrong(value, format_args!("ends before it begins: write \"{last}-{first}\"")),
    }
}

/// `10.55.0.0/16`
pub(super) fn subnet(value: &Value<'_>) -> ReadResult<Subnet> {
    let halves = |text: &str| {
        let (address, len) = text.split_once('/')?;
        Some((address.parse().ok()?, len.parse().ok().filter(|len| *len <= 32)?))
    };
    let (address, len): (Ipv4Addr, u8) = parsed(value, halves, "is not a subnet: write it as in \"10.55.0.0/16\"")?;
    let subnet = Subnet::of(address, len);
    if subnet.network() == address { Ok(subnet) } else { wrong(value, format_args!("is an address within a subnet: write \"{subnet}\"")) }
}

/// Seconds as an integer, or `"12h"`: a number with the unit s, m, h or d.
pub(super) fn duration(value: &Value<'_>, range: RangeInclusive<u64>) -> ReadResult<Duration> {
    let seconds = |text: &str| {
        let unit = match text.chars().last()? {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return None,
        };
        text.get(..text.len() - 1)?.trim_end().parse::<u64>().ok()?.checked_mul(unit)
    };
    let number = value.get_ref().as_integer().and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok());
    match number.or_else(|| value.get_ref().as_str().and_then(seconds)) {
        None => wrong(value, "is not a duration: write seconds, or as in \"30s\", \"10m\", \"12h\", \"7d\""),
        Some(seconds) if range.contains(&seconds) => Ok(Duration::from_secs(seconds)),
        Some(_) => wrong(value, format_args!("is out of range: choose {}", durations(&range))),
    }
}

/// `1m to 3650d`
pub(super) fn durations(range: &RangeInclusive<u64>) -> String {
    let shown = |seconds: &u64| shown_duration(Duration::from_secs(*seconds));
    format!("{} to {}", shown(range.start()), shown(range.end()))
}

/// The inverse of [`duration`]: in the largest unit that is exact.
pub(super) fn shown_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let fits = |unit: u64| seconds > 0 && seconds % unit == 0;
    match () {
        () if fits(86_400) => format!("{}d", seconds / 86_400),
        () if fits(3600) => format!("{}h", seconds / 3600),
        () if fits(60) => format!("{}m", seconds / 60),
        () => format!("{seconds}s"),
    }
}

/// Milliseconds, as in `"2ms"`.
pub(super) fn milliseconds(value: &Value<'_>, range: RangeInclusive<u64>) -> ReadResult<Duration> {
    let millis = value.get_ref().as_str().and_then(|text| text.strip_suffix("ms")?.trim_end().parse::<u64>().ok());
    match millis {
        None => wrong(value, "is not a number of milliseconds: write it as in \"2ms\""),
        Some(millis) if range.contains(&millis) => Ok(Duration::from_millis(millis)),
        Some(_) => wrong(value, format_args!("is out of range: choose {}ms to {}ms", range.start(), range.end())),
    }
}

/// What a link may be said to carry, in bits per second.
pub(super) const RATES: RangeInclusive<u64> = 1_000_000..=1_000_000_000_000;

const RATE_UNITS: [(char, u64); 3] = [('G', 1_000_000_000), ('M', 1_000_000), ('K', 1_000)];

/// Bits per second, as an integer or as in `"1G"`, `"2.5G"`, `"100M"`.
pub(super) fn rate(value: &Value<'_>) -> ReadResult<u64> {
    let bits = |text: &str| {
        let unit = RATE_UNITS.iter().find(|(letter, _)| text.ends_with(*letter))?.1;
        let (whole, part) = text.get(..text.len() - 1)?.split_once('.').unwrap_or((text.get(..text.len() - 1)?, "0"));
        if part.is_empty() || part.len() > 3 || !part.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let thousandths = format!("{part:0<3}").parse::<u64>().ok()?;
        whole.parse::<u64>().ok()?.checked_mul(unit)?.checked_add(thousandths * (unit / 1000))
    };
    let number = value.get_ref().as_integer().and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok());
    match number.or_else(|| value.get_ref().as_str().and_then(bits)) {
        Some(rate) if RATES.contains(&rate) => Ok(rate),
        Some(_) => wrong(value, "is out of range: choose \"1M\" to \"1000G\""),
        None => wrong(value, "is not a rate: write bits per second as in \"100M\", \"1G\", \"2.5G\""),
    }
}

/// The inverse of [`rate`].
pub(super) fn shown_rate(rate: u64) -> String {
    match RATE_UNITS.iter().find(|(_, unit)| rate % unit == 0) {
        Some((letter, unit)) => format!("{}{letter}", rate / unit),
        None => rate.to_string(),
    }
}

/// The elements of a list, or one value alone.
pub(super) fn list<'i, T>(value: &Value<'i>, max: usize, mut read: impl FnMut(&Value<'i>) -> ReadResult<T>) -> ReadResult<Vec<T>> {
    match value.get_ref().as_array() {
        Some(list) if list.len() > max => wrong(value, format_args!("has {} elements: at most {max} are possible", list.len())),
        Some(list) => list.iter().map(read).collect(),
        None => read(value).map(|one| vec![one]),
    }
}

/// One of a few words.
pub(super) fn word<T: Copy>(value: &Value<'_>, words: &[(&str, T)]) -> ReadResult<T> {
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    match value.get_ref().as_str().and_then(|text| words.iter().find(|(word, _)| *word == text)) {
        Some((_, meaning)) => Ok(*meaning),
        None => match value.get_ref().as_str().and_then(|text| nearest(text, &known)) {
            Some(near) => wrong(value, format_args!("is not known: did you mean {near:?}?")),
            None => wrong(value, format_args!("is not known: choose one of {}", listed(known.iter().map(|word| format!("{word:?}"))))),
        },
    }
}

/// Numbers as in `"0-31,40"`, or one as an integer; ranges in the order they are written.
pub(super) fn numbers(value: &Value<'_>) -> ReadResult<Vec<(Number, Number)>> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first <= last).then_some((Number(first), Number(last)))
    };
    match value.get_ref() {
        DeValue::Integer(_) => {
            let number = Number(integer(value, 0..=u64::from(u32::MAX))? as u32);
            Ok(vec![(number, number)])
        }
        DeValue::String(text) => match text.split(',').map(range).collect() {
            Some(ranges) => Ok(ranges),
            None => wrong(value, "is not a list of node numbers: write it as in \"0-31,40\""),
        },
        _ => wrong(value, "is not a list of node numbers: write it as in \"0-31,40\""),
    }
}

/// The inverse of [`numbers`].
pub(super) fn shown_numbers(ranges: &[(Number, Number)]) -> String {
    let shown = |(first, last): &(Number, Number)| match first == last {
        true => first.0.to_string(),
        false => format!("{}-{}", first.0, last.0),
    };
    ranges.iter().map(shown).collect::<Vec<_>>().join(",")
}

pub(super) fn in_quotes(value: impl Display) -> String {
    TomlString(&value.to_string()).to_string()
}

/// A TOML basic string.
pub(super) struct TomlString<'a>(pub &'a str);

impl Display for TomlString<'_> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(text: &str, read: impl FnOnce(&Value<'_>) -> ReadResult<T>) -> Result<T, String> {
        let value = DeValue::parse(text).unwrap();
        read(&value).map_err(|ValueErrors(mut faults)| faults.remove(0).what)
    }

    #[test]
    fn durations_and_back() {
        let read = |text: &str| with(text, |value| duration(value, 1..=1_000_000)).map(shown_duration);
        for (text, shown) in [("600", "10m"), ("\"12h\"", "12h"), ("\"90m\"", "90m"), ("\"61 s\"", "61s"), ("\"7d\"", "7d")] {
            assert_eq!(read(text).unwrap(), shown);
        }
        for bad in ["\"\"", "\"h\"", "\"1w\"", "true", "-1", "\"99999999999999999999d\"", "\"300000000000000000d\"", "\"1ä\""] {
            assert!(read(bad).unwrap_err().contains("is not a duration"), "{bad}");
        }
        assert_eq!(read("0").unwrap_err(), "0 is out of range: choose 1s to 1000000s");
    }

    #[test]
    fn rates_and_back() {
        for (text, bits, shown) in [
            ("\"1G\"", 1_000_000_000, "1G"),
            ("\"2.5G\"", 2_500_000_000, "2500M"),
            ("100000000", 100_000_000, "100M"),
            ("1000001", 1_000_001, "1000001"),
        ] {
            assert_eq!(with(text, rate), Ok(bits));
            assert_eq!(shown_rate(bits), shown);
        }
        for bad in ["\"G\"", "\"1.G\"", "\"1.2345G\"", "\"fast\"", "1.5", "\"99999999999999999999G\"", "\"1000000T\"", "\"\""] {
            assert!(with(bad, rate).unwrap_err().contains("is not a rate"), "{bad}");
        }
        assert!(with("\"5K\"", rate).unwrap_err().contains("is out of range"));
    }

    #[test]
    fn milliseconds_are_said() {
        let read = |text: &str| with(text, |value| milliseconds(value, 1..=50)).map(|delay| delay.as_millis());
        assert_eq!(read("\"2ms\""), Ok(2));
        for bad in ["2", "\"2\"", "\"2s\"", "\"0ms\"", "\"51ms\"", "\"ms\"", "\"-1ms\"", "\"1.5ms\""] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_and_back() {
        let read = |text: &str| with(text, numbers).map(|ranges| shown_numbers(&ranges));
        assert_eq!(read("\"0-31, 40\""), Ok("0-31,40".to_string()));
        assert_eq!(read("7"), Ok("7".to_string()));
        for bad in ["\"\"", "\"3-1\"", "\"1,\"", "\"a\"", "true", "-1", "\"99999999999\""] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_and_ranges() {
        assert_eq!(with("\"10.0.0.1 - 10.0.0.9\"", range).unwrap().to_string(), "10.0.0.1-10.0.0.9");
        assert_eq!(with("\"10.0.0.1\"", range).unwrap().count(), 1);
        assert_eq!(
            with("\"10.0.0.9-10.0.0.1\"", range).unwrap_err(),
            "\"10.0.0.9-10.0.0.1\" ends before it begins: write \"10.0.0.1-10.0.0.9\""
        );
        assert_eq!(with("\"10.0.0.1/16\"", subnet).unwrap_err(), "\"10.0.0.1/16\" is an address within a subnet: write \"10.0.0.0/16\"");
        assert!(with("\"10.0.0.0/33\"", subnet).is_err() && with("\"10.0.0.0\"", subnet).is_err());
        assert!(with("\"ff:ff:ff:ff:ff:ff\"", mac).unwrap_err().contains("is not an interface's address"));
    }
}
