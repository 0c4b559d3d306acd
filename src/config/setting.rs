//! Settings that numbers may differ in: which key, what value, which section of the config gave it.

use std::fmt::{self, Write};
use std::net::Ipv4Addr;
use std::time::Duration;

use super::options::Shown;
use super::origin::{Name, Origin};
use super::value::{Quoted, shown_duration};

/// What holds for a number, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting<'a> {
    pub name: Name,
    pub value: Value<'a>,
    pub origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Text(&'a str),
    Files(&'a [String]),
    Time(Duration),
    Addresses(&'a [Ipv4Addr]),
    /// The bytes of a DHCP option, and its code.
    Option(u8, &'a [u8]),
}

/// As the config would have it, in TOML.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Value::Text(text) => Quoted(text).fmt(f),
            Value::Files(files) => list(f, files.iter().map(|file| Quoted(file))),
            Value::Addresses(addresses) => list(f, addresses.iter().map(InQuotes)),
            Value::Time(time) => InQuotes(shown_duration(time)).fmt(f),
            Value::Option(code, bytes) => Shown(code, bytes).fmt(f),
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
