//! Subnets and runs of IPv4 addresses.

use core::fmt;
use core::net::Ipv4Addr;

/// An IPv4 network: all addresses that share its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    network: Ipv4Addr,
    len: u8,
}

impl Subnet {
    /// The subnet of `len` prefix bits (at most 32) that `address` lies in.
    pub fn of(address: Ipv4Addr, len: u8) -> Subnet {
        let len = len.min(32);
        Subnet { network: Ipv4Addr::from(u32::from(address) & Subnet::bits(len)), len }
    }

    const fn bits(len: u8) -> u32 {
        match len {
            0 => 0,
            len => u32::MAX << (32 - len as u32),
        }
    }

    /// Its first address, which names it.
    pub const fn network(self) -> Ipv4Addr {
        self.network
    }

    /// The prefix length in bits.
    pub const fn prefix(self) -> u8 {
        self.len
    }

    /// Its mask, such as 255.255.0.0 for a /16.
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from(Subnet::bits(self.len))
    }

    /// Its last address, for broadcasts.
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) | !Subnet::bits(self.len))
    }

    /// Whether an address is in it; network and broadcast address are.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & Subnet::bits(self.len) == u32::from(self.network)
    }

    /// Whether a machine may bear this address here: in the subnet, neither its network address nor its broadcast address.
    pub fn is_host(self, address: Ipv4Addr) -> bool {
        self.contains(address) && (self.len > 30 || (address != self.network && address != self.broadcast()))
    }
}

/// `10.54.0.0/16`
impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.len)
    }
}

/// Consecutive addresses, both ends included, `first <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    first: u32,
    last: u32,
}

impl AddressRange {
    /// None when `first` is above `last`.
    pub fn new(first: Ipv4Addr, last: Ipv4Addr) -> Option<AddressRange> {
        let (first, last) = (u32::from(first), u32::from(last));
        (first <= last).then_some(AddressRange { first, last })
    }

    /// Of a single address.
    pub fn one(address: Ipv4Addr) -> AddressRange {
        AddressRange { first: address.into(), last: address.into() }
    }

    /// The lowest address.
    pub fn first(self) -> Ipv4Addr {
        self.first.into()
    }

    /// The highest address, which is in the range.
    pub fn last(self) -> Ipv4Addr {
        self.last.into()
    }

    /// How many addresses there are: at least 1.
    pub fn count(self) -> u64 {
        u64::from(self.last - self.first) + 1
    }

    /// Whether an address is in it.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&u32::from(address))
    }

    /// Whether the two have an address in common.
    pub fn overlaps(self, other: AddressRange) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// The place of an address in the range.
    pub fn position(self, address: Ipv4Addr) -> Option<usize> {
        self.contains(address).then(|| (u32::from(address) - self.first) as usize)
    }

    /// The address at a place in the range.
    pub fn nth(self, position: usize) -> Option<Ipv4Addr> {
        let address = u32::try_from(position).ok().and_then(|n| self.first.checked_add(n))?;
        (address <= self.last).then(|| address.into())
    }
}

/// `10.54.250.0-10.54.253.255`
impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first(), self.last())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets() {
        let net = Subnet::of(Ipv4Addr::new(10, 54, 3, 9), 16);
        assert_eq!(
            (net.to_string(), net.mask(), net.broadcast()),
            ("10.54.0.0/16".into(), [255, 255, 0, 0].into(), [10, 54, 255, 255].into())
        );
        assert!(net.is_host([10, 54, 0, 1].into()) && !net.is_host(net.network()) && !net.is_host(net.broadcast()));
        assert!(Subnet::of([1, 2, 3, 4].into(), 32).is_host([1, 2, 3, 4].into()));
        assert!(Subnet::of([1, 2, 3, 4].into(), 0).contains([9, 9, 9, 9].into()));
    }

    #[test]
    fn ranges() {
        let range = AddressRange::new([10, 0, 0, 250].into(), [10, 0, 1, 5].into()).unwrap();
        assert_eq!((range.count(), range.nth(6), range.nth(12)), (12, Some([10, 0, 1, 0].into()), None));
        assert_eq!(range.position([10, 0, 1, 0].into()), Some(6));
        assert_eq!(AddressRange::new([10, 0, 0, 2].into(), [10, 0, 0, 1].into()), None);
        assert_eq!(AddressRange::new([0, 0, 0, 0].into(), [255, 255, 255, 255].into()).unwrap().count(), 1 << 32);
    }
}
