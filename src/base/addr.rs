//! The vocabulary of addresses that every room shares.

use std::fmt;

/// An Ethernet (EUI-48) address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The Ethernet broadcast address, ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Mac = Mac([0xff; 6]);
    /// The address 00:00:00:00:00:00, for hardware that has none.
    pub const ZERO: Mac = Mac([0; 6]);

    /// Group addresses (multicast and broadcast) never name a machine.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// An individual address that is not all zero.
    pub fn is_individual(self) -> bool {
        !self.is_group() && self != Mac::ZERO
    }

    /// The address as a number below 2^48: the key of indices.
    pub fn to_u64(self) -> u64 {
        self.0.iter().fold(0, |n, &byte| n << 8 | u64::from(byte))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `52:54:00:12:34:56`, or with `-` between the octets, in either case.
impl std::str::FromStr for Mac {
    type Err = NotAMac;

    /// As the field writes it: `52:54:00:12:34:56`, `52-54-00-12-34-56`, Cisco's `5254.0012.3456`, or `525400123456`.
    fn from_str(text: &str) -> Result<Mac, NotAMac> {
        let mut mac = [0u8; 6];
        let dotted = text.len() == 14 && text.bytes().enumerate().all(|(at, byte)| (byte == b'.') == (at == 4 || at == 9));
        if text.len() == 12 || dotted {
            let mut digits = text.bytes().filter(|byte| *byte != b'.').map(|byte| char::from(byte).to_digit(16));
            for octet in &mut mac {
                let (Some(Some(high)), Some(Some(low))) = (digits.next(), digits.next()) else { return Err(NotAMac) };
                *octet = (high << 4 | low) as u8;
            }
            return Ok(Mac(mac));
        }
        let mut parts = text.split([':', '-']);
        for octet in &mut mac {
            let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *octet = u8::from_str_radix(part.ok_or(NotAMac)?, 16).map_err(|_| NotAMac)?;
        }
        if parts.next().is_some() { Err(NotAMac) } else { Ok(Mac(mac)) }
    }
}

/// MAC addresses that begin alike: `00:25:90:*`, or one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacPattern {
    start: Mac,
    octets: u8,
}

impl MacPattern {
    /// Whether an address begins like the pattern.
    pub fn matches(self, mac: Mac) -> bool {
        self.start.0.iter().zip(mac.0).take(self.octets.into()).all(|(own, other)| *own == other)
    }
}

impl std::str::FromStr for MacPattern {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<MacPattern, NotAMac> {
        let Some(start) = text.strip_suffix('*').and_then(|start| start.strip_suffix([':', '-'])) else {
            return text.parse().map(|start| MacPattern { start, octets: 6 });
        };
        let octets = start.split([':', '-']).count();
        if octets > 5 {
            return Err(NotAMac);
        }
        let whole: String = [start, &":00".repeat(6 - octets)].concat();
        Ok(MacPattern { start: whole.parse()?, octets: octets as u8 })
    }
}

/// As it is written.
impl fmt::Display for MacPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.start.0.iter().take(self.octets.into()).enumerate() {
            write!(f, "{}{:02x}", if byte.0 == 0 { "" } else { ":" }, byte.1)?;
        }
        if self.octets < 6 { f.write_str(":*") } else { Ok(()) }
    }
}

/// The error of a text that is not a MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAMac;

impl fmt::Display for NotAMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a MAC address (six two-digit hexadecimal octets, as in 52:54:00:12:34:56)")
    }
}

impl std::error::Error for NotAMac {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let mac: Mac = "52:54:00:AB-cd:01".parse().unwrap();
        assert_eq!(mac.to_string(), "52:54:00:ab:cd:01");
        for other in ["5254.00ab.cd01", "525400ABCD01", "52-54-00-ab-cd-01"] {
            assert_eq!(other.parse(), Ok(mac), "{other}");
        }
        assert_eq!(mac.to_u64(), 0x5254_00ab_cd01);
        for bad in [
            "",
            "52:54:00:ab:cd",
            "52:54:00:ab:cd:01:02",
            "52:54:00:ab:cd:+1",
            "525400abcd0",
            "5254.00ab.cd0",
            "5254.00abcd.01",
            "5:2:5:4:0:1",
        ] {
            assert_eq!(bad.parse::<Mac>(), Err(NotAMac), "{bad}");
        }
    }

    #[test]
    fn only_individual_addresses_name_machines() {
        assert!(Mac([2, 0, 0, 0, 0, 1]).is_individual());
        assert!(!Mac::ZERO.is_individual() && !Mac::BROADCAST.is_individual());
    }

    #[test]
    fn patterns_of_macs() {
        let pattern: MacPattern = "00:25-90:*".parse().unwrap();
        assert_eq!(pattern.to_string(), "00:25:90:*");
        assert!(pattern.matches(Mac([0, 0x25, 0x90, 1, 2, 3])) && !pattern.matches(Mac([0, 0x25, 0x91, 1, 2, 3])));
        let one: MacPattern = "52:54:00:12:34:56".parse().unwrap();
        assert!(one.to_string() == "52:54:00:12:34:56" && !one.matches(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x57])));
        assert!(["", "*", ":*", "00:25", "0:*", "00:11:22:33:44:55:*", "xx:*"].iter().all(|text| text.parse::<MacPattern>().is_err()));
    }
}
