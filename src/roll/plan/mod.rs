//! The plan of the lot table: number <-> address <-> name, by arithmetic alone. Nothing else assigns any of the three.
//!
//! Node n's address is node 0's + n, but for the numbers of a segment (a rack behind a relay), whose addresses count from the segment's own
//! first one. The plan keeps the pieces into which segments cut the lot table, in the order of their numbers.
//!
//! The name-service module is built from this very file, without the rest of the crate: nothing here may import from it, or allocate.

use core::fmt;
use core::net::Ipv4Addr;

mod file;
mod names;
mod subnet;

pub use file::{NamesFile, This};
pub use names::{Host, NodeName, NodeNames};
pub use subnet::{AddressRange, Subnet};

/// A node number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Number(pub u32);

/// What logs and the journal call a number, however nodes are named: `n23`.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// Consecutive numbers with consecutive addresses, `first <= last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The first number.
    pub first: Number,
    /// The last number, at least `first`.
    pub last: Number,
    /// The address of the first number.
    pub address: Ipv4Addr,
}

impl Segment {
    const NONE: Segment = Segment { first: Number(0), last: Number(0), address: Ipv4Addr::UNSPECIFIED };

    /// None for other numbers, and beyond the end of all addresses.
    pub fn address_of(&self, number: Number) -> Option<Ipv4Addr> {
        let offset = number.0.checked_sub(self.first.0).filter(|_| number <= self.last)?;
        u32::from(self.address).checked_add(offset).map(Ipv4Addr::from)
    }

    /// None for other addresses.
    pub fn number_of(&self, address: Ipv4Addr) -> Option<Number> {
        let offset = u32::from(address).checked_sub(u32::from(self.address))?;
        (offset <= self.last.0 - self.first.0).then(|| Number(self.first.0 + offset))
    }

    /// All its addresses, as far as there are some.
    pub fn addresses(&self) -> AddressRange {
        let last = u32::from(self.address).saturating_add(self.last.0 - self.first.0);
        AddressRange::new(self.address, last.into()).unwrap_or(AddressRange::one(self.address))
    }
}

/// Which lots there are, where they lie, and what they are called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AddressPlan {
    node0: Ipv4Addr,
    /// Numbers are below this.
    nodes: u32,
    pieces: [Segment; AddressPlan::PIECES_MAX],
    len: u8,
    names: NodeNames,
}

impl AddressPlan {
    /// How many segments a lot table may have.
    pub const SEGMENTS_MAX: usize = 32;
    /// They, and what lies between them.
    const PIECES_MAX: usize = 2 * AddressPlan::SEGMENTS_MAX + 1;

    /// A lot table of `nodes` lots (at least 1) from node 0's address on, named as usual.
    pub fn new(node0: Ipv4Addr, nodes: u32) -> AddressPlan {
        AddressPlan::segmented(node0, nodes, &[]).unwrap_or(AddressPlan {
            node0,
            nodes: 0,
            pieces: [Segment::NONE; AddressPlan::PIECES_MAX],
            len: 0,
            names: NodeNames::DEFAULT,
        })
    }

    /// One with segments; numbers in none of them lie where node 0's address says. The lot table ends with the higher of `nodes` and the last
    /// segment. None when it would have no lot, when segments share a number, or when there are too many.
    pub fn segmented(node0: Ipv4Addr, nodes: u32, segments: &[Segment]) -> Option<AddressPlan> {
        let end = segments.iter().try_fold(nodes, |end, segment| Some(end.max(segment.last.0.checked_add(1)?)))?;
        let mut plan = AddressPlan { node0, nodes: end, pieces: [Segment::NONE; Self::PIECES_MAX], len: 0, names: NodeNames::DEFAULT };
        let mut next = 0;
        while next < end {
            let begins = segments.iter().filter(|segment| segment.first.0 >= next).min_by_key(|segment| segment.first);
            let plain_to = begins.map_or(end, |segment| segment.first.0);
            if plain_to > next {
                let address = u32::from(node0).checked_add(next)?;
                plan.push(Segment { first: Number(next), last: Number(plain_to - 1), address: address.into() })?;
            }
            next = plain_to;
            if let Some(segment) = begins {
                plan.push(*segment)?;
                next = segment.last.0.checked_add(1).filter(|next| *next > segment.first.0)?;
            }
        }
        let apart =
            |(at, one): (usize, &Segment)| segments.iter().skip(at + 1).all(|other| one.last < other.first || other.last < one.first);
        (end > 0 && segments.iter().enumerate().all(apart) && segments.len() <= Self::SEGMENTS_MAX).then_some(plan)
    }

    /// One whose pieces are known: in order, without gaps, from 0 on. None when they are not so, or have no addresses.
    pub fn of_pieces(pieces: &[Segment]) -> Option<AddressPlan> {
        let node0 = pieces.first()?.address;
        let mut plan = AddressPlan { node0, nodes: 0, pieces: [Segment::NONE; Self::PIECES_MAX], len: 0, names: NodeNames::DEFAULT };
        for piece in pieces {
            let follows = piece.first.0 == plan.nodes && piece.first <= piece.last;
            piece.address_of(piece.last).filter(|_| follows)?;
            plan.nodes = piece.last.0.checked_add(1)?;
            plan.push(*piece)?;
        }
        Some(plan)
    }

    /// What goes on where the piece before ends, in number and address, is of that piece.
    fn push(&mut self, piece: Segment) -> Option<()> {
        let before = usize::from(self.len).checked_sub(1).and_then(|last| self.pieces.get_mut(last));
        let goes_on =
            |before: &&mut Segment| u32::from(before.address).checked_add(piece.first.0 - before.first.0) == Some(piece.address.into());
        match before.filter(goes_on) {
            Some(before) => before.last = piece.last,
            None => {
                *self.pieces.get_mut(usize::from(self.len))? = piece;
                self.len += 1;
            }
        }
        Some(())
    }

    /// The same lot table with other names.
    pub fn named(self, names: NodeNames) -> AddressPlan {
        AddressPlan { names, ..self }
    }

    /// The address that node 0 has where no segment says otherwise.
    pub fn node0(&self) -> Ipv4Addr {
        self.node0
    }

    /// How many lots the lot table has: numbers are below this.
    pub fn nodes(&self) -> u32 {
        self.nodes
    }

    /// The lot table in order of its numbers, without gaps.
    pub fn pieces(&self) -> &[Segment] {
        self.pieces.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// How numbers are called.
    pub fn names(&self) -> &NodeNames {
        &self.names
    }

    /// None for numbers that the lot table has no lot for.
    pub fn address(&self, number: Number) -> Option<Ipv4Addr> {
        self.pieces().iter().find_map(|piece| piece.address_of(number))
    }

    /// None for addresses outside the lot table.
    pub fn number(&self, address: Ipv4Addr) -> Option<Number> {
        self.pieces().iter().find_map(|piece| piece.number_of(address))
    }

    /// What a number is called, without the domain. None for numbers that the lot table has no lot for.
    pub fn name(&self, number: Number) -> Option<NodeName<'_>> {
        (number.0 < self.nodes).then(|| self.names.of(number))
    }

    /// What a name means here: a node of this lot table, the head, or whoever asks.
    pub fn meaning(&self, name: &str) -> Option<Host> {
        self.names.meaning(name).filter(|host| self.has(*host))
    }

    /// What a label of the domain means.
    pub fn meaning_in_domain(&self, label: &str) -> Option<Host> {
        self.names.meaning_in_domain(label).filter(|host| self.has(*host))
    }

    fn has(&self, host: Host) -> bool {
        !matches!(host, Host::Node(number) if number.0 >= self.nodes)
    }

    /// The numbers whose addresses machines may bear on a subnet, as inclusive ranges in ascending order.
    pub fn numbers_in(&self, subnet: Subnet) -> impl Iterator<Item = (Number, Number)> + Clone {
        let margin = u32::from(subnet.prefix() <= 30);
        let (bottom, top) = (u32::from(subnet.network()).saturating_add(margin), u32::from(subnet.broadcast()) - margin);
        self.pieces().iter().filter_map(move |piece| {
            let addresses = piece.addresses();
            let (lowest, highest) = (bottom.max(addresses.first().into()), top.min(addresses.last().into()));
            let number = |address: u32| piece.number_of(address.into());
            if lowest > highest { None } else { Some((number(lowest)?, number(highest)?)) }
        })
    }
}

impl fmt::Debug for AddressPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressPlan").field("node0", &self.node0).field("pieces", &self.pieces()).field("names", &self.names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(first: u32, last: u32, address: [u8; 4]) -> Segment {
        Segment { first: Number(first), last: Number(last), address: address.into() }
    }

    /// Over the whole range and beyond, the three are inverse to each other.
    fn inverse(plan: &AddressPlan, near: &[[u8; 4]]) {
        for number in (0..plan.nodes() + 300).map(Number) {
            let address = plan.address(number);
            let name = plan.name(number).map(|name| name.to_string());
            assert_eq!((address.is_some(), name.is_some()), (number.0 < plan.nodes(), number.0 < plan.nodes()), "{number}");
            assert_eq!(address.and_then(|address| plan.number(address)), address.map(|_| number));
            assert_eq!(name.and_then(|name| plan.meaning(&name)), address.map(|_| Host::Node(number)));
        }
        for base in near {
            for offset in 0..4096 {
                let address = Ipv4Addr::from(u32::from(Ipv4Addr::from(*base)) + offset);
                if let Some(number) = plan.number(address) {
                    assert_eq!(plan.address(number), Some(address));
                }
            }
        }
    }

    #[test]
    fn numbers_addresses_and_names_are_inverse() {
        let plain = AddressPlan::new([10, 54, 1, 0].into(), 1024);
        inverse(&plain, &[[10, 54, 0, 0]]);
        assert_eq!(plain.address(Number(23)), Some([10, 54, 1, 23].into()));
        assert_eq!((plain.number([10, 54, 5, 0].into()), plain.number([10, 54, 0, 255].into())), (None, None));
        let racks = [segment(200, 399, [10, 55, 1, 0]), segment(100, 149, [10, 56, 0, 10]), segment(400, 400, [10, 57, 0, 1])];
        for nodes in [1, 180, 400, 900] {
            let plan = AddressPlan::segmented([10, 54, 1, 0].into(), nodes, &racks).unwrap();
            inverse(&plan, &[[10, 54, 0, 0], [10, 55, 0, 0], [10, 56, 0, 0], [10, 57, 0, 0]]);
            assert_eq!(plan.nodes(), nodes.max(401));
            assert_eq!(
                [150, 200, 399, 400].map(|n| plan.address(Number(n)).unwrap().octets()),
                [[10, 54, 1, 150], [10, 55, 1, 0], [10, 55, 1, 199], [10, 57, 0, 1]]
            );
            assert_eq!(plan.number([10, 54, 1, 120].into()), None, "the place of a segment's number stays empty");
        }
        let many: Vec<Segment> = (0..32).map(|n| segment(n * 20 + 10, n * 20 + 19, [10, 60, n as u8, 1])).collect();
        inverse(&AddressPlan::segmented([10, 54, 1, 0].into(), 700, &many).unwrap(), &[[10, 60, 0, 0]]);
        let same = [segment(20, 29, [10, 54, 1, 20]), segment(30, 39, [10, 55, 0, 1]), segment(40, 49, [10, 55, 0, 11])];
        let plan = AddressPlan::segmented([10, 54, 1, 0].into(), 0, &same).unwrap();
        assert_eq!(plan.pieces(), [segment(0, 29, [10, 54, 1, 0]), segment(30, 49, [10, 55, 0, 1])]);
    }

    #[test]
    fn plans_that_cannot_be() {
        let lots = |nodes, segments: &[Segment]| AddressPlan::segmented([10, 54, 1, 0].into(), nodes, segments);
        assert_eq!(lots(0, &[]), None);
        assert_eq!(lots(9, &[segment(5, 9, [10, 55, 0, 1]), segment(9, 12, [10, 56, 0, 1])]), None);
        assert_eq!(lots(9, &[segment(5, 9, [10, 55, 0, 1]), segment(6, 7, [10, 56, 0, 1])]), None);
        assert_eq!(lots(9, &[segment(5, 4, [10, 55, 0, 1])]), None);
        assert_eq!(lots(9, &[segment(5, u32::MAX, [10, 55, 0, 1])]), None);
        let many: Vec<Segment> = (0..33).map(|n| segment(n, n, [10, 60, n as u8, 1])).collect();
        assert_eq!(lots(9, &many), None);
    }

    #[test]
    fn numbers_of_a_subnet() {
        let racks = [segment(4, 7, [10, 55, 0, 0]), segment(10, 19, [10, 55, 0, 250])];
        let plan = AddressPlan::segmented([10, 54, 0, 254].into(), 30, &racks).unwrap();
        let numbers = |address: [u8; 4], len| plan.numbers_in(Subnet::of(address.into(), len)).map(|(a, b)| (a.0, b.0)).collect::<Vec<_>>();
        assert_eq!(numbers([10, 54, 0, 0], 16), [(0, 3), (8, 9), (20, 29)]);
        assert_eq!(numbers([10, 54, 0, 0], 24), [(0, 0)]);
        assert_eq!(numbers([10, 55, 0, 0], 24), [(5, 7), (10, 14)]);
        assert_eq!(numbers([10, 55, 0, 0], 16), [(5, 7), (10, 19)]);
        assert_eq!(numbers([10, 99, 0, 0], 16), []);
    }
}
