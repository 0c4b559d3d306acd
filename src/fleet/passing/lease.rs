//! What an OFFER or an ACK gives to a node that has booted.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::base::addr::Mac;
use crate::fleet::Name;
use crate::roll::plan::NamesFile;
use crate::wire::dhcp::{Message, code};

/// A T1, in seconds, that no lease of half a minute or more has by itself.
const SOON: u32 = 15;

/// The first eight of a list of addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    ips: [[u8; 4]; Addresses::MAX],
    len: u8,
}

impl Addresses {
    const MAX: usize = 8;

    /// Addresses that name no host are left out.
    fn read(bytes: Option<&[u8]>) -> Addresses {
        let mut list = Addresses::default();
        let octets = bytes.unwrap_or(&[]).chunks_exact(4).filter_map(|chunk| <[u8; 4]>::try_from(chunk).ok());
        for (to, octets) in list.ips.iter_mut().zip(octets.filter(|&octets| is_host(octets.into()))) {
            *to = octets;
            list.len += 1;
        }
        list
    }

    /// The addresses, in the order in which the server sent them.
    pub fn iter(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        self.ips.iter().take(self.len.into()).map(|&octets| octets.into())
    }
}

fn is_host(ip: Ipv4Addr) -> bool {
    !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast() && !ip.is_loopback()
}

/// What an OFFER or ACK gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassingLease {
    /// `yiaddr`: the node's address.
    pub address: Ipv4Addr,
    /// Bits of the subnet mask, 1 to 32.
    pub prefix: u8,
    /// Option 3, the best first.
    pub routers: Addresses,
    /// Option 6, the best first.
    pub dns: Addresses,
    /// Option 42.
    pub ntp: Addresses,
    /// As it came; empty when none is given.
    pub domain: Name,
    /// Likewise.
    pub host_name: Name,
    /// The plan as text: see [`PassingLease::names`].
    names: [u8; NamesFile::TOLD_MAX],
    names_len: u16,
    /// Option 54.
    pub server: Ipv4Addr,
    /// Who sent it by hardware: the server, or the router on the way to it.
    pub from: Option<Mac>,
    /// At least 1; all ones never end (RFC 2131, 3.3).
    pub seconds: u32,
    /// Options 58 and 59, where they make sense.
    times: Option<(u32, u32)>,
}

impl PassingLease {
    /// The plan as the server tells it (the option behind the report's), unchecked; empty when it does not.
    pub fn names(&self) -> &[u8] {
        self.names.get(..usize::from(self.names_len)).unwrap_or(&[])
    }

    /// None for what no node can live with: no server, no lease time, an address or a mask that cannot be.
    pub(super) fn read(message: &Message<'_>, from: Option<Mac>, names_option: u8) -> Option<PassingLease> {
        let address = message.header.yiaddr;
        let server = message.server_id()?;
        let seconds = message.lease_time().filter(|&seconds| seconds > 0)?;
        let word = |option: u8| message.option(option).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
        let text = |option: u8| message.option(option).and_then(|bytes| Name::new(until_nul(bytes))).unwrap_or(Name::EMPTY);
        let list = |option: u8| Addresses::read(message.option(option));
        let prefix = match message.option(code::SUBNET_MASK) {
            Some(_) => prefix(word(code::SUBNET_MASK)?)?,
            None => class(address),
        };
        let mut names = [0; NamesFile::TOLD_MAX];
        let told = message.option(names_option).filter(|told| told.len() <= names.len()).unwrap_or(&[]);
        names.iter_mut().zip(told).for_each(|(to, from)| *to = *from);
        let times = word(code::RENEWAL_TIME).zip(word(code::REBINDING_TIME));
        let lease = PassingLease {
            address,
            prefix,
            routers: list(code::ROUTER),
            dns: list(code::DNS),
            ntp: list(code::NTP),
            domain: text(code::DOMAIN),
            host_name: text(code::HOST_NAME),
            names,
            names_len: told.len() as u16,
            server,
            from: from.filter(|mac| mac.is_individual()),
            seconds,
            times: times.filter(|&(t1, t2)| 0 < t1 && t1 < t2 && t2 < seconds),
        };
        (is_host(address) && is_host(server)).then_some(lease)
    }

    /// T1 and T2: what the server says, else a half and seven eighths (RFC 2131, 4.4.5).
    pub fn renewal(&self) -> (Duration, Duration) {
        let all = Duration::from_secs(self.seconds.into());
        self.times.map_or((all / 2, all * 7 / 8), |(t1, t2)| (Duration::from_secs(t1.into()), Duration::from_secs(t2.into())))
    }

    /// Whether the server itself wants to be asked again within seconds: a machine that passed is given its number soon.
    pub fn is_for_now(&self) -> bool {
        self.times.is_some_and(|(t1, _)| t1 <= SOON)
    }

    /// Whether `ip` is on the node's own subnet.
    pub fn is_local(&self, ip: Ipv4Addr) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
        self.address.to_bits() & mask == ip.to_bits() & mask
    }

    /// The address that all hosts of the subnet hear; None on links of two.
    pub fn broadcast(&self) -> Option<Ipv4Addr> {
        let hosts = u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
        (self.prefix < 31).then(|| Ipv4Addr::from(self.address.to_bits() | hosts))
    }
}

/// Some servers end texts with NUL.
fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or(&[])
}

/// The bits of a mask without holes.
fn prefix(mask: u32) -> Option<u8> {
    let bits = mask.leading_ones();
    (bits > 0 && bits + mask.trailing_zeros() >= 32).then_some(bits as u8)
}

/// What an address without a mask meant (RFC 950).
fn class(address: Ipv4Addr) -> u8 {
    match address.octets() {
        [0..=127, ..] => 8,
        [128..=191, ..] => 16,
        _ => 24,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_without_holes() {
        let bits = |text: &str| prefix(text.parse::<Ipv4Addr>().unwrap().to_bits());
        assert_eq!((bits("255.255.0.0"), bits("255.255.255.254"), bits("255.255.255.255")), (Some(16), Some(31), Some(32)));
        assert_eq!((bits("0.0.0.0"), bits("255.0.255.0"), bits("0.0.0.255")), (None, None, None));
        assert_eq!((class([10, 1, 1, 1].into()), class([172, 16, 1, 1].into()), class([192, 168, 1, 1].into())), (8, 16, 24));
    }

    #[test]
    fn lists_are_read_as_far_as_they_are_sound() {
        let shown = |bytes: &[u8]| Addresses::read(Some(bytes)).iter().map(|ip| ip.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(shown(&[10, 0, 0, 1, 0, 0, 0, 0, 10, 0, 0, 2, 9, 9]), "10.0.0.1 10.0.0.2");
        assert_eq!(Addresses::read(Some(&[7; 80])).iter().count(), 8);
        assert_eq!(Addresses::read(None).iter().count(), 0);
    }
}
