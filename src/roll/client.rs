//! What is known of one machine that was seen: its evidence, its address, its stage, its story.
//!
//! A record exists from the first DISCOVER until its lease has ended. The engines meet in it; [`Roll::enter`](super::registry::Roll::enter)
//! alone writes the stage.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::machine::{Link, Seq};
use crate::base::rng::mix;
use crate::base::time::Instant;

use super::boot::BootProgress;
use super::journal::Verdict;
use super::kind::{Arch, Kind};
use super::lot::Papers;
use super::plan::Number;

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

/// By which way a machine's frames come, as far as the head can see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// No frame of it has come yet: it is on record from a journal.
    Unknown,
    /// In frames of its own MAC.
    Own,
    /// In frames of this MAC: a bridge that puts its own in, or a forger.
    Through(Mac),
    /// By a relay agent or a router, whose frames they are.
    Relayed,
    /// The frame's MAC is not seen (IPoIB).
    Unseen,
}

/// What there is to doubt of the address of a machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Doubt {
    /// ARP was asked for the address of its number: answers count until then.
    pub asked: Instant,
    /// It was asked because the machine declined it.
    pub declined: bool,
    /// The address that it declined last, when it began to decline, and how often it has since.
    pub address: Option<Ipv4Addr>,
    pub since: Instant,
    pub times: u8,
    /// Who was found on the address of its number, while that is not given.
    pub user: Option<Mac>,
}

/// What the journal says of a guest's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnRecord {
    pub address: Ipv4Addr,
    /// In seconds since 1970.
    pub until: u64,
    /// The record that says it, which may not be on disk yet.
    pub seq: Seq,
}

impl OnRecord {
    pub const NONE: OnRecord = OnRecord { address: Ipv4Addr::UNSPECIFIED, until: 0, seq: Seq::NONE };
}

pub struct Client {
    pub identity: Identity,
    /// Where frames to it go; zero on IPoIB, where replies are broadcast.
    pub mac: Mac,
    pub number: Option<Number>,
    pub arch: Option<Arch>,
    pub kind: Kind,
    pub link: Link,
    /// The network that it asked on last: a place in the config's list.
    pub network: u16,
    /// Offered or leased.
    pub address: Option<Ipv4Addr>,
    /// The address has been acknowledged, not just offered.
    pub leased: bool,
    /// When the address falls back.
    pub until: Instant,
    /// The address of its number is another machine's: until then it lives on a guest address.
    pub declined_until: Instant,
    pub doubt: Doubt,
    /// The way by which it got what it has.
    pub way: Way,
    /// The link on which the kernel has a permanent neighbour entry for the address.
    pub neighbour: Option<Link>,
    /// When it was made.
    pub neighbour_at: Instant,
    /// When it was seen first.
    pub arrived: Instant,
    /// Where it stands in its boot.
    pub boot: BootProgress,
    /// The transfer that it began last, as the engine's own token.
    pub transfer: u64,
    /// Running transfers.
    pub transfers: u16,
    /// Its last DISCOVER, and when it asked again: what it loaded before, it has forgotten.
    pub discover: (u32, Instant),
    pub restarted: Instant,
    /// Counts transfers, so that each gets another server port.
    pub ports: u8,
    /// When anything was heard of it, by DHCP (what was forged in its name left out) or TFTP.
    pub heard: Instant,
    /// What it reported of itself, and of its test.
    pub papers: Papers,
    pub verdict: Verdict,
    /// It has shown what no record of its lease tells yet.
    pub news: bool,
    /// The transaction that its report came in.
    pub reported: Option<u32>,
    /// The number whose address it was offered last; see [`Offers`](super::offers::Offers).
    pub offered: Option<Number>,
    /// It took an offer, and its number waits for the rate at which new ones are given.
    pub delayed: bool,
    pub on_record: OnRecord,
    /// The guest address that it had last, and that was acknowledged.
    pub left: Option<Ipv4Addr>,
}

/// Copies of a DISCOVER that the network makes come no later than this.
const COPY: Duration = Duration::from_secs(2);

impl Client {
    /// It has asked for an address from nothing. A copy of the DISCOVER before, which comes late, is none.
    pub fn asks_anew(&mut self, now: Instant, xid: u32) {
        let (last, at) = std::mem::replace(&mut self.discover, (xid, now));
        if last != xid || now.since(at) >= COPY {
            self.restarted = now;
        }
    }

    pub fn new(identity: Identity, number: Option<Number>, now: Instant) -> Client {
        Client {
            identity,
            mac: match identity {
                Identity::Mac(mac) => mac,
                Identity::ClientId(_) => Mac::ZERO,
            },
            number,
            arch: None,
            kind: Kind::Other,
            link: 0,
            network: 0,
            address: None,
            leased: false,
            until: now,
            declined_until: Instant::ZERO,
            doubt: Doubt::default(),
            way: Way::Unknown,
            neighbour: None,
            neighbour_at: Instant::ZERO,
            arrived: now,
            boot: BootProgress::new(now),
            transfer: u64::MAX,
            transfers: 0,
            discover: (0, Instant::ZERO),
            restarted: Instant::ZERO,
            ports: 0,
            heard: now,
            papers: Papers::default(),
            verdict: Verdict::Untested,
            news: false,
            reported: None,
            offered: None,
            delayed: false,
            on_record: OnRecord::NONE,
            left: None,
        }
    }

    /// What it showed of itself: its MAC at the least.
    pub fn shown(&self) -> Papers {
        let mut papers = self.papers;
        if papers.macs.is_empty() && self.mac != Mac::ZERO {
            papers.macs.add(self.mac);
        }
        papers
    }

    /// How the log calls it: `n17 52:54:00:12:34:56`, or `guest 52:...`.
    pub fn title(&self) -> Title<'_> {
        Title(self)
    }
}

pub struct Title<'a>(&'a Client);

impl fmt::Display for Title<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.number {
            Some(number) => write!(f, "{number} {}", self.0.identity),
            None => write!(f, "guest {}", self.0.identity),
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
