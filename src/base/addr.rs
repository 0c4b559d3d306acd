//! The vocabulary of addresses that every room shares.

use std::fmt;

/// An Ethernet (EUI-48) address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    pub const BROADCAST: Mac = Mac([0xff; 6]);
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

    fn from_str(text: &str) -> Result<Mac, NotAMac> {
        let mut mac = [0u8; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut mac {
            let part = parts.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *octet = u8::from_str_radix(part.ok_or(NotAMac)?, 16).map_err(|_| NotAMac)?;
        }
        if parts.next().is_some() { Err(NotAMac) } else { Ok(Mac(mac)) }
    }
}

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
        assert_eq!(mac.to_u64(), 0x5254_00ab_cd01);
        for bad in ["", "52:54:00:ab:cd", "52:54:00:ab:cd:01:02", "52:54:00:ab:cd:+1", "525400abcd01", "5:2:5:4:0:1"] {
            assert_eq!(bad.parse::<Mac>(), Err(NotAMac), "{bad}");
        }
    }

    #[test]
    fn only_individual_addresses_name_machines() {
        assert!(Mac([2, 0, 0, 0, 0, 1]).is_individual());
        assert!(!Mac::ZERO.is_individual() && !Mac::BROADCAST.is_individual());
    }
}
