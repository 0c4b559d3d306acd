//! The names file: the plan as text, for programs that know names without a server. `musterd` writes it on the head, `muster-in` on nodes, and
//! the name-service module reads it at each look-up.
//!
//! ```text
//! # The names of this cluster: see libnss_muster(8). Written by musterd.
//! domain cluster
//! prefix n
//! digits 1
//! head 10.54.0.1
//! self 23
//! nodes 0-199 10.54.1.0
//! nodes 200-399 10.55.1.0
//! end
//! ```
//! `nodes` lines tell the numbers and the first one's address, in order and without gaps. `self` is a number, or `head`; it and `head` may be
//! missing, as may `domain`. A file without `end`, or with a line that is wrong, is no file; keys of later versions are passed over.

use core::fmt;
use core::net::Ipv4Addr;

use super::{AddressPlan, NodeNames, Number, Segment};

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum This {
    /// It is the head's.
    Head,
    /// It is this node's.
    Node(Number),
}

/// What a names file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamesFile {
    /// Numbers, addresses and names.
    pub plan: AddressPlan,
    /// The head's address on node 0's network.
    pub head: Option<Ipv4Addr>,
    /// Whose file it is, where that is known.
    pub this: Option<This>,
}

impl NamesFile {
    /// The longest file in bytes: larger ones are not read.
    pub const MAX: usize = 4096;
    /// The longest text that nodes get by DHCP, in bytes: beside all else that a reply carries it fits into one frame.
    pub const TOLD_MAX: usize = 1024;

    /// None for what is no whole and sound names file.
    pub fn parse(bytes: &[u8]) -> Option<NamesFile> {
        let text = core::str::from_utf8(bytes).ok()?;
        let (mut prefix, mut digits, mut domain) = ("", 1, "");
        let (mut head, mut this, mut whole) = (None, None, false);
        let mut pieces = [Segment::NONE; AddressPlan::PIECES_MAX];
        let mut len = 0;
        for line in text.lines().map(str::trim_ascii).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if whole {
                return None;
            }
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            match key {
                "prefix" => prefix = value,
                "digits" => digits = value.parse().ok()?,
                "domain" => domain = value,
                "head" => head = Some(value.parse().ok()?),
                "self" if value == "head" => this = Some(This::Head),
                "self" => this = Some(This::Node(Number(value.parse().ok()?))),
                "nodes" => {
                    *pieces.get_mut(len)? = piece(value)?;
                    len += 1;
                }
                "end" => whole = true,
                _ => {}
            }
        }
        let names = NodeNames::new(prefix, digits, domain)?;
        let plan = AddressPlan::of_pieces(pieces.get(..len)?)?.named(names);
        whole.then_some(NamesFile { plan, head, this })
    }
}

/// `200-399 10.55.1.0`
fn piece(text: &str) -> Option<Segment> {
    let (numbers, address) = text.split_once(' ')?;
    let (first, last) = numbers.split_once('-')?;
    Some(Segment { first: Number(first.parse().ok()?), last: Number(last.parse().ok()?), address: address.parse().ok()? })
}

impl fmt::Display for NamesFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.plan.names();
        f.write_str("# The names of this cluster: see libnss_muster(8). Written by musterd.\n")?;
        if !names.domain().is_empty() {
            writeln!(f, "domain {}", names.domain())?;
        }
        writeln!(f, "prefix {}\ndigits {}", names.prefix(), names.digits())?;
        if let Some(head) = self.head {
            writeln!(f, "head {head}")?;
        }
        match self.this {
            Some(This::Head) => writeln!(f, "self head")?,
            Some(This::Node(Number(number))) => writeln!(f, "self {number}")?,
            None => {}
        }
        for Segment { first, last, address } in self.plan.pieces() {
            writeln!(f, "nodes {}-{} {address}", first.0, last.0)?;
        }
        f.write_str("end\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> NamesFile {
        let rack = Segment { first: Number(200), last: Number(399), address: [10, 55, 1, 0].into() };
        let plan = AddressPlan::segmented([10, 54, 1, 0].into(), 1024, &[rack]).unwrap();
        NamesFile { plan, head: Some([10, 54, 0, 1].into()), this: Some(This::Node(Number(23))) }
    }

    #[test]
    fn a_file_reads_back_as_it_was_written() {
        let text = some().to_string();
        assert!(text.contains("nodes 0-199 10.54.1.0\nnodes 200-399 10.55.1.0\nnodes 400-1023 10.54.2.144\nend\n"), "{text}");
        assert_eq!(NamesFile::parse(text.as_bytes()), Some(some()));
        let many: Vec<Segment> = (0..32)
            .map(|n| Segment {
                first: Number(n * 4000 + 99_999),
                last: Number(n * 4000 + 100_099),
                address: [255, 255, 200 + n as u8, 1].into(),
            })
            .collect();
        let names = NodeNames::new("abcdefghijklmn-", 6, &["a23456789"; 12].join(".")).unwrap();
        let plan = AddressPlan::segmented([100, 100, 100, 0].into(), 999_999, &many).unwrap().named(names);
        let longest = NamesFile { plan, head: Some([255, 255, 255, 254].into()), this: Some(This::Head) };
        assert!(longest.to_string().len() <= NamesFile::MAX);
        assert_eq!(NamesFile::parse(longest.to_string().as_bytes()), Some(longest));
    }

    #[test]
    fn what_is_not_whole_is_no_file() {
        let text = some().to_string();
        for len in 0..text.len() - 1 {
            assert_eq!(NamesFile::parse(&text.as_bytes()[..len]), None, "{len} bytes");
        }
        let with = |from: &str, to: &str| NamesFile::parse(text.replace(from, to).as_bytes());
        assert_eq!(with("end\n", "later thing\n\nend\n"), Some(some()), "a later version's");
        for (from, to) in [
            ("prefix n", "prefix 1"),
            ("digits 1", "digits x"),
            ("head 10", "head x"),
            ("self 23", "self n23"),
            ("nodes 0-199", "nodes 1-199"),
            ("nodes 200-", "nodes 201-"),
            ("nodes 200-", "nodes 199-"),
            ("10.55.1.0", "255.255.255.250"),
            ("nodes 0-199", "nodes 199-0"),
            ("end\n", "end\nend\n"),
        ] {
            assert_eq!(with(from, to), None, "{from} as {to}");
        }
    }

    #[test]
    fn no_file_panics() {
        // A linear congruential generator (Knuth's MMIX): this source is built without the rest of the crate as well.
        let mut state = 7u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for _ in 0..20_000 {
            let mut text = some().to_string().into_bytes();
            for _ in 0..=random(3) {
                let at = random(text.len());
                match random(3) {
                    0 => text[at] = random(256) as u8,
                    1 => text[at] = b"0123456789 -.\n"[random(14)],
                    _ => drop(text.remove(at)),
                }
            }
            if let Some(file) = NamesFile::parse(&text) {
                assert_eq!(NamesFile::parse(file.to_string().as_bytes()), Some(file));
            }
        }
    }
}
