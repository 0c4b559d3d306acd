//! DHCP options by number, as the config sets them: codes that may be set, and values -> bytes. Used by this room only.

use std::fmt;
use std::net::Ipv4Addr;

use toml::de::DeValue;

use super::value::{self, ReadResult, TomlString, Value, wrong};

/// The bytes of one option: two instances on the wire (RFC 3396).
const VALUE_MAX: usize = 510;

/// The bytes of all options of one section, so that an answer that bears two sections' worth still fits a frame.
const VALUES_MAX: usize = 600;

/// Options whose value is text by their RFC, even where the text looks like an address.
const TEXTS: &[u8] = &[12, 14, 15, 17, 18, 40, 47, 56, 60, 62, 64, 66, 86, 87, 100, 101, 114, 209, 210, 252];

/// Options that the server makes itself: what to use instead.
const OWNED: &[(u8, &str)] = &[
    (1, "the subnet mask follows from the network"),
    (3, "set `router` in [[network]]"),
    (6, "set `dns` in [[network]]"),
    (12, "the name follows from the node's number; set `name` in [cluster]"),
    (15, "set `domain` in [[network]]"),
    (42, "set `ntp` in [[network]]"),
    (50, "only clients send it; to give a machine an address, list it in [[node]]"),
    (51, "set `lease` in [[network]], [[for]] or [dhcp]"),
    (52, "the server sets it when an answer needs the space"),
    (53, "the server sets it in every answer"),
    (54, "the server sets it to the head's address; set `head` in [[network]]"),
    (55, "only clients send it"),
    (57, "only clients send it"),
    (58, "it follows from `lease`"),
    (59, "it follows from `lease`"),
    (60, "the server sets it for firmware"),
    (61, "the server returns the client's own (RFC 6842)"),
    (67, "set `program` or `script` in [boot] or [[for]]"),
    (82, "the server returns the relay's own (RFC 3046)"),
    (97, "the server returns the client's own (RFC 4578)"),
];

const EXAMPLE: &str = "options = { 66 = \"text\", 150 = \"10.54.0.1\" }";

/// Reads `options = { 66 = "text", … }`, in the order of the codes.
pub(super) fn read(table: &Value<'_>) -> ReadResult<Vec<(u8, Vec<u8>)>> {
    let mut options = value::entries(table, EXAMPLE, |name, value| {
        let code = code(name).or_else(|what| value::wrong_plainly(value, what))?;
        let bytes = bytes(code, value)?;
        if bytes.len() > VALUE_MAX {
            return wrong(value, format_args!("has {} bytes: at most {VALUE_MAX} are possible", bytes.len()));
        }
        Ok((code, bytes))
    })?;
    options.sort_by_key(|(code, _)| *code);
    let sum: usize = options.iter().map(|(_, bytes)| bytes.len()).sum();
    if sum > VALUES_MAX {
        return value::wrong_plainly(table, format_args!("these have {sum} bytes together: at most {VALUES_MAX} fit an answer"));
    }
    Ok(options)
}

fn code(name: &str) -> Result<u8, String> {
    let code = name.parse::<u8>().ok().filter(|code| (1..=254).contains(code) && !name.starts_with(['+', '0']));
    let code = code.ok_or("the keys here are numbers of DHCP options: choose 1 to 254")?;
    match OWNED.iter().find(|(owned, _)| *owned == code) {
        Some((_, instead)) => Err(format!("this option is the server's own: {instead}")),
        None => Ok(code),
    }
}

/// The bytes of a value: text as it is; IPv4 addresses as 4 bytes each; a list of bytes; or a table that says the kind.
fn bytes(code: u8, value: &Value<'_>) -> ReadResult<Vec<u8>> {
    match value.get_ref() {
        DeValue::String(_) => {
            let text = value::text(value)?;
            match text.parse::<Ipv4Addr>() {
                Ok(address) if !TEXTS.contains(&code) => Ok(address.octets().to_vec()),
                _ if text.is_empty() => wrong(value, "is empty: leave the option out"),
                _ => Ok(text.as_bytes().to_vec()),
            }
        }
        DeValue::Array(list) if list.is_empty() => wrong(value, "is empty: leave the option out"),
        DeValue::Array(list) if list.iter().all(|element| element.get_ref().is_integer()) => {
            list.iter().map(|element| value::integer(element, 0..=255).map(|byte| byte as u8)).collect()
        }
        DeValue::Array(list) => {
            let addresses: Vec<Ipv4Addr> = list.iter().map(value::address).collect::<ReadResult<_>>()?;
            Ok(addresses.iter().flat_map(|address| address.octets()).collect())
        }
        DeValue::Integer(number) => {
            let example = number.to_string();
            wrong(value, format_args!("has no width: write {{ u8 = {example} }}, {{ u16 = {example} }} or {{ u32 = {example} }}"))
        }
        DeValue::Boolean(flag) => wrong(value, format_args!("has no meaning in an option: write {{ u8 = {} }}", u8::from(*flag))),
        DeValue::Table(_) => kind(value),
        _ => wrong(value, "is not possible here: write a text, an address, or a list of bytes"),
    }
}

/// `{ u16 = 1500 }`, `{ hex = "0102" }`, `{ text = "10.0.0.1" }`
fn kind(value: &Value<'_>) -> ReadResult<Vec<u8>> {
    const KINDS: &str = "{ u8 = 1 }, { u16 = 1 }, { u32 = 1 }, { hex = \"0102\" } or { text = \"…\" }";
    let Some((name, inner)) = value.get_ref().as_table().filter(|table| table.len() == 1).and_then(|table| table.iter().next()) else {
        return value::wrong_plainly(value, format_args!("this is not the value of an option: write {KINDS}"));
    };
    match name.get_ref().as_ref() {
        "u8" => value::integer(inner, 0..=0xff).map(|number| vec![number as u8]),
        "u16" => value::integer(inner, 0..=0xffff).map(|number| (number as u16).to_be_bytes().to_vec()),
        "u32" => value::integer(inner, 0..=0xffff_ffff).map(|number| (number as u32).to_be_bytes().to_vec()),
        "text" => value::text(inner).map(|text| text.as_bytes().to_vec()),
        "hex" => match unhex(value::text(inner)?) {
            Some(bytes) => Ok(bytes),
            None => wrong(inner, "is not hexadecimal: write two digits a byte, as in \"0102ff\""),
        },
        _ => value::wrong_plainly(value, format_args!("this is not the value of an option: write {KINDS}")),
    }
}

/// Pairs of digits, with nothing, `:` or a blank between them.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = text.chars().filter(|c| !matches!(c, ':' | ' ')).map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some((high * 16 + low) as u8),
        _ => None,
    });
    pairs.collect::<Option<Vec<u8>>>().filter(|bytes| !bytes.is_empty())
}

/// The inverse of the reading: a value, in TOML, that gives these bytes for this code.
pub(super) struct TomlOption<'a>(pub u8, pub &'a [u8]);

impl fmt::Display for TomlOption<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TomlOption(code, bytes) = *self;
        let printable = std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty() && !text.chars().any(char::is_control));
        match (printable, bytes) {
            (Some(text), _) if TEXTS.contains(&code) || text.parse::<Ipv4Addr>().is_err() => TomlString(text).fmt(f),
            (Some(text), _) => write!(f, "{{ text = {} }}", TomlString(text)),
            (None, [a, b, c, d]) if !TEXTS.contains(&code) => write!(f, "\"{}\"", Ipv4Addr::new(*a, *b, *c, *d)),
            _ => {
                f.write_str("{ hex = \"")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str("\" }")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::error::{ConfigText, Errors};

    fn with(text: &str) -> Result<Vec<(u8, Vec<u8>)>, Vec<String>> {
        let value = DeValue::parse(text).unwrap();
        read(&value).map_err(|wrong| {
            let mut errors = Errors::new(Some(ConfigText { path: "f", text }));
            wrong.report("options", &mut errors);
            errors.into_errors().iter().map(ToString::to_string).collect()
        })
    }

    #[test]
    fn values_become_bytes_and_text_again() {
        for (text, code, bytes) in [
            ("{ 43 = \"abc\" }", 43, &b"abc"[..]),
            ("{ 150 = \"10.0.0.1\" }", 150, &[10, 0, 0, 1]),
            ("{ 150 = [\"10.0.0.1\", \"10.0.0.2\"] }", 150, &[10, 0, 0, 1, 10, 0, 0, 2]),
            ("{ 66 = \"10.0.0.1\" }", 66, b"10.0.0.1"),
            ("{ 200 = { text = \"10.0.0.1\" } }", 200, b"10.0.0.1"),
            ("{ 252 = [1, 2, 0xff] }", 252, &[1, 2, 255]),
            ("{ 26 = { u16 = 9000 } }", 26, &[0x23, 0x28]),
            ("{ 2 = { u32 = 3600 } }", 2, &[0, 0, 14, 16]),
            ("{ 19 = { u8 = 0 } }", 19, &[0]),
            ("{ 43 = { hex = \"01:02 fF\" } }", 43, &[1, 2, 255]),
        ] {
            assert_eq!(with(text), Ok(vec![(code, bytes.to_vec())]), "{text}");
            let again = format!("{{ {code} = {} }}", TomlOption(code, bytes));
            assert_eq!(with(&again), Ok(vec![(code, bytes.to_vec())]), "{again}");
        }
    }

    #[test]
    fn refusals_say_what_to_do() {
        for (text, error) in [
            ("{ 26 = 9000 }", "f:1:8: options.26: 9000 has no width: write { u8 = 9000 }, { u16 = 9000 } or { u32 = 9000 }"),
            ("{ 3 = \"10.0.0.1\" }", "f:1:7: options.3: this option is the server's own: set `router` in [[network]]"),
            ("{ 0 = \"x\" }", "f:1:7: options.0: the keys here are numbers of DHCP options: choose 1 to 254"),
            ("{ mtu = \"x\" }", "f:1:9: options.mtu: the keys here are numbers of DHCP options: choose 1 to 254"),
            ("{ 43 = { hex = \"012\" } }", "f:1:16: options.43: \"012\" is not hexadecimal: write two digits a byte, as in \"0102ff\""),
            ("{ 43 = [1, \"x\"] }", "f:1:9: options.43: 1 is not an IPv4 address: write it as in \"10.54.0.1\""),
            ("{ 43 = [1, 256] }", "f:1:12: options.43: 256 is out of range: choose 0 to 255"),
            ("{ 43 = \"\" }", "f:1:8: options.43: \"\" is empty: leave the option out"),
            ("7", "f:1:1: options: 7 is not a table: write options = { 66 = \"text\", 150 = \"10.54.0.1\" }"),
        ] {
            assert_eq!(with(text), Err(vec![error.to_string()]), "{text}");
        }
    }
}
