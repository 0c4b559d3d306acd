//! What names a machine towards DHCP, in memory and in the journal.

use std::fmt;

use crate::base::addr::Mac;
use crate::base::rng::mix;

/// What names a machine towards DHCP: its MAC or, on IPoIB, where there is none, its client identifier (RFC 4390).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    Mac(Mac),
    ClientId(ClientId),
}

/// The first bytes and a hash of an option 61.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientId {
    head: [u8; ClientId::KEPT],
    len: u8,
    hash: u64,
}

impl ClientId {
    const KEPT: usize = 24;

    pub fn new(bytes: &[u8]) -> ClientId {
        let mut head = [0; ClientId::KEPT];
        head.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        let hash = bytes.iter().fold(bytes.len() as u64, |hash, &byte| mix(hash ^ u64::from(byte)));
        ClientId { head, len: bytes.len().min(ClientId::KEPT) as u8, hash }
    }

    /// Reads what [`Recorded`] wrote.
    fn parse(text: &str) -> Option<ClientId> {
        let (digits, hash) = text.split_once('/')?;
        let mut id = ClientId { head: [0; ClientId::KEPT], len: (digits.len() / 2) as u8, hash: u64::from_str_radix(hash, 16).ok()? };
        if !digits.is_ascii() || digits.len() % 2 != 0 || digits.len() / 2 > ClientId::KEPT {
            return None;
        }
        for (at, byte) in id.head.iter_mut().take(digits.len() / 2).enumerate() {
            *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(id)
    }
}

/// An identity as the journal holds it, from which it can be read again.
pub struct Recorded(pub Identity);

/// `52:54:00:12:34:56`, or `id:ff0011/0123456789abcdef`: the first bytes and the hash of a client identifier.
impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Identity::Mac(mac) => mac.fmt(f),
            Identity::ClientId(id) => write!(f, "id:{}/{:016x}", self.0, id.hash),
        }
    }
}

impl std::str::FromStr for Recorded {
    type Err = ();

    fn from_str(text: &str) -> Result<Recorded, ()> {
        let identity = match text.strip_prefix("id:") {
            Some(id) => ClientId::parse(id).map(Identity::ClientId),
            None => text.parse().ok().map(Identity::Mac),
        };
        identity.map(Recorded).ok_or(())
    }
}

impl Identity {
    /// The key of the identity in an index. MACs stay below 2^48; a client-id has bit 63 set.
    pub fn key(&self) -> u64 {
        match self {
            Identity::Mac(mac) => mac.to_u64(),
            Identity::ClientId(id) => id.hash | 1 << 63,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Mac(mac) => mac.fmt(f),
            Identity::ClientId(id) => id.head[..usize::from(id.len)].iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_do_not_mix() {
        let mac = Identity::Mac(Mac([0, 1, 2, 3, 4, 5]));
        let id = Identity::ClientId(ClientId::new(&[0, 1, 2, 3, 4, 5]));
        assert_ne!(mac.key(), id.key());
        assert!(id != Identity::ClientId(ClientId::new(&[0, 1, 2, 3, 4, 5, 0])));
        let long = |last| Identity::ClientId(ClientId::new(&[[7u8; 40].as_slice(), &[last]].concat()));
        assert!(long(1) != long(2) && long(1) == long(1));
        assert_eq!(id.to_string(), "000102030405");
        for identity in [mac, id, long(7)] {
            assert!(Recorded(identity).to_string().parse::<Recorded>().is_ok_and(|read| read.0 == identity));
        }
        assert!(["id:", "id:0/1", "id:zz/1", "52:54"].iter().all(|text| text.parse::<Recorded>().is_err()));
    }
}
