//! The kinds of values that keys have: how each is read, what it may be, how it is shown. Used by this room only.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use super::super::error::{listed, nearest};
use super::super::options;
use super::super::value::{self, KeyName, ReadResult, TomlString, Value, in_quotes, wrong};
use crate::base::addr::{Mac, MacPattern};
use crate::base::limits;
use crate::roll::kind::Arch;
use crate::roll::plan::{AddressRange, NodeNames, Number, Subnet};
use crate::roll::ruling::Numbering;

/// The DHCP `file` field holds 128 bytes and ends with a NUL (RFC 2131, section 2).
pub const PROGRAM_MAX: usize = 127;
/// An HTTP boot program's URI goes into one instance of option 67.
const URI_MAX: usize = 254;
/// Linux takes 2,048 bytes of command line on most architectures.
const ARGS_MAX: usize = 2047;

/// What `{…}` may stand for in `args`.
const PLACEHOLDERS: &[&str] = &["node", "name", "ip", "mac", "head"];

const NUMBERINGS: [(&str, Numbering); 3] =
    [("automatic", Numbering::Automatic), ("ordered", Numbering::Ordered), ("locked", Numbering::Locked)];

pub trait KeyKind {
    type Value: Clone;
    /// As the manual calls it.
    #[cfg(test)]
    const NAME: &'static str;

    /// What values are possible, in words; empty where [`KeyKind::NAME`] says it all.
    fn range() -> String;

    fn read(value: &Value<'_>) -> ReadResult<Self::Value>;

    /// The inverse of [`KeyKind::read`], in TOML.
    fn show(value: &Self::Value) -> String;

    /// What a value of this key sets: of a table each entry, as later sections win entry by entry.
    fn names(key: &'static str, _: &Self::Value) -> Vec<KeyName> {
        vec![KeyName::Key(key)]
    }
}

/// One line for each kind: its name, what is possible, how it is read and shown.
macro_rules! kinds {
    ($(
        $(#[$doc:meta])* $Kind:ident $([$($bound:ident: $type:ty),+])? = $Value:ty, $name:literal, $range:expr, $read:expr, $show:expr
        $(, $names:expr)?;
    )*) => {$(
        $(#[$doc])*
        pub struct $Kind $(<$(const $bound: $type),+>)?;

        impl $(<$(const $bound: $type),+>)? KeyKind for $Kind $(<$($bound),+>)? {
            type Value = $Value;
            #[cfg(test)]
            const NAME: &'static str = $name;

            fn range() -> String {
                $range.to_string()
            }

            fn read(value: &Value<'_>) -> ReadResult<$Value> {
                $read(value)
            }

            fn show(value: &$Value) -> String {
                $show(value)
            }

            $(fn names(_: &'static str, value: &$Value) -> Vec<KeyName> {
                value.iter().map($names).collect()
            })?
        }
    )*};
}

kinds! {
    Flag = bool, "true | false", "", value::flag, bool::to_string;
    /// Of whole seconds.
    Seconds[LOW: u64, HIGH: u64] = Duration, "duration", value::durations(&(LOW..=HIGH)),
        |value| value::duration(value, LOW..=HIGH), |time: &Duration| in_quotes(value::shown_duration(*time));
    Millis[LOW: u64, HIGH: u64] = Duration, "milliseconds", format_args!("{LOW}ms to {HIGH}ms"),
        |value| value::milliseconds(value, LOW..=HIGH), |time: &Duration| format!("\"{}ms\"", time.as_millis());
    /// Bits per second.
    Rate = u64, "rate", "1M to 1000G", value::rate, |rate: &u64| in_quotes(value::shown_rate(*rate));
    Address = Ipv4Addr, "address", "", value::address, in_quotes;
    Net = Subnet, "address/length", "", value::subnet, in_quotes;
    /// None: no guests.
    Guests = Option<AddressRange>, "range | none", format_args!("at most {} addresses", limits::GUESTS_MAX), guests,
        |guests: &Option<AddressRange>| guests.map_or_else(|| in_quotes("none"), in_quotes);
    MacAddress = Mac, "MAC address", "", value::mac, in_quotes;
    Pattern = MacPattern, "MAC pattern", "", value::mac_pattern, in_quotes;
    DomainName = String, "text", "", domain_name, in_quotes;
    /// What a node's name begins with.
    Prefix = String, "text", format_args!("at most {} characters", NodeNames::PREFIX_MAX), prefix, in_quotes;
    Interface = String, "name", "", interface_name, in_quotes;
    /// A user of the system.
    UserName = String, "name", "", user_name, in_quotes;
    How = Numbering, "automatic | ordered | locked", "", |value| value::word(value, &NUMBERINGS), in_quotes;
    /// An absolute path.
    Folder = PathBuf, "path", "", folder, |path: &PathBuf| in_quotes(path.display());
    /// A file beneath the root that DHCP names.
    Script = String, "file", "", |value| file(value, PROGRAM_MAX), in_quotes;
    /// A file beneath the root that made scripts name.
    LoaderFile = String, "file", "", file_in_script, in_quotes;
    Args = String, "text", format_args!("at most {ARGS_MAX} bytes"), args, in_quotes;
    Numbers = Vec<(Number, Number)>, "numbers", "", value::numbers,
        |numbers: &Vec<(Number, Number)>| in_quotes(value::shown_numbers(numbers));
    /// First and last.
    Run = (Number, Number), "numbers", "", run, |run: &(Number, Number)| in_quotes(value::shown_numbers(&[*run]));
    /// First and last.
    Ports = (u16, u16), "ports", format_args!("at most {}", crate::config::limits::TFTP_PORTS_MAX), ports,
        |(first, last): &(u16, u16)| format!("\"{first}-{last}\"");
    /// Boot programs by architecture.
    Programs = Vec<(Arch, String)>, "table", "", programs,
        |programs: &Vec<(Arch, String)>| table(programs.iter().map(|(arch, name)| format!("{arch} = {}", TomlString(name)))),
        |(arch, _)| KeyName::Program(*arch);
    /// DHCP options by number, with their bytes.
    Options = Vec<(u8, Vec<u8>)>, "table", "", options::read,
        |options: &Vec<(u8, Vec<u8>)>| table(options.iter().map(|(code, bytes)| format!("{code} = {}", options::TomlOption(*code, bytes)))),
        |(code, _)| KeyName::Option(*code);
}

/// A whole number.
pub struct Count<T, const LOW: u64, const HIGH: u64>(std::marker::PhantomData<T>);

impl<T: Clone + ToString + TryFrom<u64>, const LOW: u64, const HIGH: u64> KeyKind for Count<T, LOW, HIGH> {
    type Value = T;
    #[cfg(test)]
    const NAME: &'static str = "count";

    fn range() -> String {
        format!("{LOW} to {HIGH}")
    }

    fn read(value: &Value<'_>) -> ReadResult<T> {
        let number = value::integer(value, LOW..=HIGH)?;
        T::try_from(number).or_else(|_| wrong(value, format_args!("is out of range: choose {}", Self::range())))
    }

    fn show(value: &T) -> String {
        value.to_string()
    }
}

/// A list, or one value alone.
pub struct List<K, const MAX: usize>(std::marker::PhantomData<K>);

impl<K: KeyKind, const MAX: usize> KeyKind for List<K, MAX> {
    type Value = Vec<K::Value>;
    #[cfg(test)]
    const NAME: &'static str = "list";

    fn range() -> String {
        format!("at most {MAX}")
    }

    fn read(value: &Value<'_>) -> ReadResult<Self::Value> {
        value::list(value, MAX, K::read)
    }

    fn show(list: &Self::Value) -> String {
        format!("[{}]", list.iter().map(K::show).collect::<Vec<_>>().join(", "))
    }
}

fn table(entries: impl Iterator<Item = String>) -> String {
    let entries: Vec<String> = entries.collect();
    if entries.is_empty() { "{}".to_string() } else { format!("{{ {} }}", entries.join(", ")) }
}

/// Letters, digits and hyphens between dots (RFC 1123, section 2.1).
fn domain_name(value: &Value<'_>) -> ReadResult<String> {
    let text = value::text(value)?;
    let label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (1..=63).contains(&label.len()) && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    match text.len() <= NodeNames::DOMAIN_MAX && text.split('.').all(label) {
        true => Ok(text.to_string()),
        false => wrong(value, "is not a domain name: use letters, digits and hyphens between dots, as in \"cluster\""),
    }
}

/// What a number may follow in a host name. Guests are called `guest-` and their MAC, which could be digits alone.
fn prefix(value: &Value<'_>) -> ReadResult<String> {
    let text = value::text(value)?;
    match NodeNames::new(text, 1, "") {
        Some(_) if !text.eq_ignore_ascii_case("guest-") => Ok(text.to_ascii_lowercase()),
        Some(_) => wrong(value, "is what guests are called: choose another"),
        None => wrong(
            value,
            "cannot precede a number: use up to 15 letters, digits and hyphens, with a letter first and no digit last, as in \"n\"",
        ),
    }
}

/// A name as the kernel allows it: 1 to 15 bytes, no slash, no blank (`dev_valid_name`).
fn interface_name(value: &Value<'_>) -> ReadResult<String> {
    let text = value::text(value)?;
    match (1..=15).contains(&text.len()) && !text.contains(['/', ' ', ':']) {
        true => Ok(text.to_string()),
        false => wrong(value, "is not an interface's name: write it as `ip link` shows it, as in \"eth1\""),
    }
}

/// A name as useradd(8) takes it.
fn user_name(value: &Value<'_>) -> ReadResult<String> {
    let text = value::text(value)?;
    match is_user_name(text) {
        true => Ok(text.to_string()),
        false => wrong(value, "is not a user's name: write it as in /etc/passwd, as in \"muster\""),
    }
}

/// Whether a text may be a user's name.
pub fn is_user_name(text: &str) -> bool {
    let inner = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    (1..=32).contains(&text.len()) && inner && !text.starts_with(['-', '.'])
}

fn guests(value: &Value<'_>) -> ReadResult<Option<AddressRange>> {
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
fn folder(value: &Value<'_>) -> ReadResult<PathBuf> {
    let text = value::text(value)?;
    match text.starts_with('/') {
        true if text.contains(char::is_control) => wrong(value, "has a control character in it: rename the folder"),
        true => Ok(text.into()),
        false => wrong(value, "is not an absolute path: begin with \"/\""),
    }
}

/// A file beneath the root.
fn file(value: &Value<'_>, max: usize) -> ReadResult<String> {
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
fn file_in_script(value: &Value<'_>) -> ReadResult<String> {
    let text = file(value, limits::FILE_NAME_MAX)?;
    match text.contains([' ', '$', '{', '}', '|', '&', ',', '#', '?', '%']) {
        true => wrong(value, "has a blank or one of ${}|&,#?% in it, which have a special meaning in a boot script: rename the file"),
        false => Ok(text),
    }
}

/// `{ bios = "undionly.kpxe" }`
fn programs(value: &Value<'_>) -> ReadResult<Vec<(Arch, String)>> {
    value::entries(value, "program = { bios = \"undionly.kpxe\", efi-x64 = \"snponly.efi\" }", program)
}

/// `bios = "undionly.kpxe"`, `http-x64 = "http://10.54.0.1/ipxe.efi"`
fn program(name: &str, value: &Value<'_>) -> ReadResult<(Arch, String)> {
    let names: Vec<&str> = Arch::ALL.iter().map(|arch| arch.name()).collect();
    let Some(&arch) = Arch::ALL.iter().find(|arch| arch.name() == name) else {
        let remedy = match nearest(name, &names) {
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
fn args(value: &Value<'_>) -> ReadResult<String> {
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
            return value::wrong_plainly(value, format_args!("{{{name}}} is unknown: the placeholders are {known}"));
        }
    }
    // iPXE, which knows no quotes, would end the kernel's line there.
    match text.split_ascii_whitespace().find(|word| ["||", "&&"].contains(word)) {
        Some(word) => value::wrong_plainly(value, format_args!("{word:?} has a special meaning in a boot script: leave it out")),
        None => Ok(text.to_string()),
    }
}

/// One range of numbers.
fn run(value: &Value<'_>) -> ReadResult<(Number, Number)> {
    match value::numbers(value)?.as_slice() {
        [range] => Ok(*range),
        _ => wrong(value, "is not one range: write a segment for each, as in \"200-399\""),
    }
}

/// `20069-20084`, or one port.
fn ports(value: &Value<'_>) -> ReadResult<(u16, u16)> {
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
        None if count > crate::config::limits::TFTP_PORTS_MAX => {
            wrong(value, format_args!("are {count} ports: at most {} are possible", crate::config::limits::TFTP_PORTS_MAX))
        }
        None => Ok((first, last)),
    }
}
