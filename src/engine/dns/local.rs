//! Names that are asked of nobody else (RFC 6761; RFC 6303, 3; RFC 7686): what is said of them. Pure.

use crate::wire::dns::{DnsName, rtype};

/// What is said of a name that stays here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// `localhost`, and what is beneath it.
    Localhost,
    /// 127.0.0.1 as an address.
    Loopback,
    /// The name is there, as there may be others beneath it, and has nothing.
    Empty,
    Missing,
}

/// None: others may know it. `private`: so they may addresses that have no meaning outside a site (RFC 1918).
pub fn local(name: &DnsName, kind: u16, private: bool) -> Option<Local> {
    let mut labels = name.labels().rev();
    let top = labels.next()?;
    match top {
        top if top.eq_ignore_ascii_case(b"localhost") => Some(Local::Localhost),
        top if top.eq_ignore_ascii_case(b"invalid") || top.eq_ignore_ascii_case(b"onion") => Some(Local::Missing),
        top if top.eq_ignore_ascii_case(b"arpa") => reverse(labels, private),
        // A host's short name means something only where it is asked; domains at the top have no addresses.
        _ if matches!(kind, rtype::A | rtype::AAAA) && labels.next().is_none() => Some(Local::Missing),
        _ => None,
    }
}

fn reverse<'n>(mut labels: impl Iterator<Item = &'n [u8]>, private: bool) -> Option<Local> {
    labels.next().filter(|label| label.eq_ignore_ascii_case(b"in-addr"))?;
    let (mut octets, mut count) = ([None; 4], 0);
    for (octet, label) in octets.iter_mut().zip(labels.by_ref()) {
        *octet = Some(std::str::from_utf8(label).ok()?.parse::<u8>().ok()?);
        count += 1;
    }
    let strange = labels.next().is_some();
    let nobodys = match octets {
        [Some(127), Some(0), Some(0), Some(1)] if !strange => return Some(Local::Loopback),
        [Some(0 | 127), ..] | [Some(169), Some(254), ..] | [Some(255), Some(255), Some(255), Some(255)] => true,
        [Some(10), ..] | [Some(172), Some(16..=31), ..] | [Some(192), Some(168), ..] => !private,
        _ => false,
    };
    // Zones of ours may be beneath what has one octet or two.
    nobodys.then_some(if count < 3 { Local::Empty } else { Local::Missing })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_names_stay_here() {
        let local = |text: &str, private| local(&DnsName::of_text(text).unwrap(), rtype::A, private);
        for (name, expected) in [
            ("localhost", Some(Local::Localhost)),
            ("Foo.LocalHost", Some(Local::Localhost)),
            ("x.invalid", Some(Local::Missing)),
            ("x.onion", Some(Local::Missing)),
            ("n17", Some(Local::Missing)),
            ("1.0.0.127.in-addr.arpa", Some(Local::Loopback)),
            ("2.0.0.127.in-addr.arpa", Some(Local::Missing)),
            ("1.1.254.169.in-addr.arpa", Some(Local::Missing)),
            ("7.7.99.10.in-addr.arpa", Some(Local::Missing)),
            ("10.in-addr.arpa", Some(Local::Empty)),
            ("20.172.in-addr.arpa", Some(Local::Empty)),
            ("7.7.168.192.in-addr.arpa", Some(Local::Missing)),
            ("172.in-addr.arpa", None),
            ("1.1.32.172.in-addr.arpa", None),
            ("1.2.0.192.in-addr.arpa", None),
            ("in-addr.arpa", None),
            ("arpa.example", None),
            ("www.example", None),
            ("printer.local", None),
        ] {
            assert_eq!(local(name, false), expected, "{name}");
        }
        assert_eq!((local("7.7.99.10.in-addr.arpa", true), local("1.1.254.169.in-addr.arpa", true)), (None, Some(Local::Missing)));
        assert_eq!(super::local(&DnsName::of_text("org").unwrap(), rtype::NS, false), None);
    }
}
