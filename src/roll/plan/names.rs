//! Names by arithmetic: what a number is called, and which number a name means.
//!
//! A node is called by the prefix and its number (`n23`), with leading zeros when `digits` asks for them (`n0023`), and that form is the one
//! that is given out. Understood are more: any number of leading zeros, the words `n` and `node` beside a prefix of one's own, the classic `.23`, and
//! each with the domain behind it (`n23.cluster`), in any case (RFC 4343). `head` and `master` are the head, `self` is whoever asks.

use core::fmt;

use super::Number;

/// A short text without allocation: letters, digits, hyphens and dots.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Short<const MAX: usize> {
    bytes: [u8; MAX],
    len: u8,
}

impl<const MAX: usize> Short<MAX> {
    /// None when it is longer than MAX bytes or has other characters.
    pub const fn new(text: &str) -> Option<Short<MAX>> {
        let text = text.as_bytes();
        if text.len() > MAX || text.len() > u8::MAX as usize {
            return None;
        }
        let mut short = Short { bytes: [0; MAX], len: text.len() as u8 };
        let mut at = 0;
        while at < text.len() {
            if !text[at].is_ascii_alphanumeric() && text[at] != b'-' && text[at] != b'.' {
                return None;
            }
            short.bytes[at] = text[at].to_ascii_lowercase();
            at += 1;
        }
        Some(short)
    }

    pub fn as_str(&self) -> &str {
        self.bytes.get(..usize::from(self.len)).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or("")
    }
}

impl<const MAX: usize> fmt::Display for Short<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<const MAX: usize> fmt::Debug for Short<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// How nodes are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeNames {
    prefix: Short<{ NodeNames::PREFIX_MAX }>,
    digits: u8,
    domain: Short<{ NodeNames::DOMAIN_MAX }>,
}

/// What a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// A node, by its number.
    Node(Number),
    /// `head`, `master`
    Head,
    /// `self`
    This,
}

impl NodeNames {
    /// The longest prefix in bytes.
    pub const PREFIX_MAX: usize = 15;
    /// The longest domain in bytes: a name with it stays far below the 255 of RFC 1035, 2.3.4.
    pub const DOMAIN_MAX: usize = 128;
    /// The most digits that leading zeros fill up to.
    pub const DIGITS_MAX: u8 = 6;
    /// The longest name without a domain in bytes, the terminating zero of C not counted.
    pub const NAME_MAX: usize = NodeNames::PREFIX_MAX + 10;
    /// `n23`, `n23.cluster`
    pub const DEFAULT: NodeNames = match (Short::new("n"), Short::new("cluster")) {
        (Some(prefix), Some(domain)) => NodeNames { prefix, digits: 1, domain },
        _ => panic!("these are names"),
    };

    /// `digits` is the least number of digits, at most [`NodeNames::DIGITS_MAX`]; an empty domain is none. None when the prefix is no beginning of a
    /// host name that a number can follow (RFC 952: letters first, no digit or dot at the end), or the domain no domain.
    pub fn new(prefix: &str, digits: u8, domain: &str) -> Option<NodeNames> {
        let begins = prefix.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
        let ends = prefix.bytes().last().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'-');
        let label = |label: &str| !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-');
        if !begins || !ends || prefix.contains('.') || digits > NodeNames::DIGITS_MAX {
            return None;
        }
        if !domain.is_empty() && !domain.split('.').all(label) {
            return None;
        }
        Some(NodeNames { prefix: Short::new(prefix)?, digits: digits.max(1), domain: Short::new(domain)? })
    }

    /// What precedes the number.
    pub fn prefix(&self) -> &str {
        self.prefix.as_str()
    }

    /// The least number of digits in a name: at least 1.
    pub fn digits(&self) -> u8 {
        self.digits
    }

    /// Without a dot at either end; empty when there is none.
    pub fn domain(&self) -> &str {
        self.domain.as_str()
    }

    /// What a number is called, without the domain.
    pub fn of(&self, number: Number) -> NodeName<'_> {
        NodeName { names: self, number }
    }

    /// What a name means; whether the lot table has a lot for the number is not asked. None for names of others.
    pub fn meaning(&self, name: &str) -> Option<Host> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let host = self.without_domain(name);
        self.host(host, host.len() < name.len())
    }

    /// What a label of the domain means, likewise. A dot in it is no dot of a name's (RFC 4343, 2.1).
    pub fn meaning_in_domain(&self, label: &str) -> Option<Host> {
        self.host(label, true).filter(|_| !label.contains('.'))
    }

    fn host(&self, host: &str, in_domain: bool) -> Option<Host> {
        let own = ["n", "node"].iter().all(|usual| !self.prefix().eq_ignore_ascii_case(usual));
        let also = in_domain || !own;
        for (word, host_is, usual) in [("head", Host::Head, true), ("self", Host::This, true), ("master", Host::Head, also)] {
            if usual && host.eq_ignore_ascii_case(word) {
                return Some(host_is);
            }
        }
        let forms = [(self.prefix(), true), (".", true), ("node", also), ("n", also)];
        let number = forms.iter().filter(|(_, usual)| *usual).find_map(|(prefix, _)| decimal(strip(host, prefix)?));
        number.map(|number| Host::Node(Number(number)))
    }

    fn without_domain<'n>(&self, name: &'n str) -> &'n str {
        let domain = self.domain();
        let split = name.len().checked_sub(domain.len() + 1).filter(|_| !domain.is_empty());
        match split.and_then(|at| Some((name.get(..at)?, name.get(at..)?.strip_prefix('.')?))) {
            Some((host, tail)) if !host.is_empty() && tail.eq_ignore_ascii_case(domain) => host,
            _ => name,
        }
    }
}

fn strip<'n>(name: &'n str, prefix: &str) -> Option<&'n str> {
    let (head, tail) = (name.get(..prefix.len())?, name.get(prefix.len()..)?);
    head.eq_ignore_ascii_case(prefix).then_some(tail)
}

/// Decimal digits alone, at most 10 of them.
fn decimal(text: &str) -> Option<u32> {
    let fits = (1..=10).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| text.parse().ok()).flatten()
}

/// `n23`
#[derive(Clone, Copy, Debug)]
pub struct NodeName<'n> {
    names: &'n NodeNames,
    number: Number,
}

impl fmt::Display for NodeName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:0width$}", self.names.prefix(), self.number.0, width = usize::from(self.names.digits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_inverse() {
        for names in [NodeNames::DEFAULT, NodeNames::new("node", 1, "").unwrap(), NodeNames::new("rack-a-", 4, "hpc.example.org").unwrap()]
        {
            for number in (0..70_000).chain([u32::MAX - 1, u32::MAX]).map(Number) {
                let (name, full) = (names.of(number).to_string(), format!("{}.{}", names.of(number), names.domain()));
                assert!(name.len() <= NodeNames::NAME_MAX);
                assert_eq!(names.meaning(&name), Some(Host::Node(number)));
                assert_eq!(names.meaning(&full), Some(Host::Node(number)), "{full}");
            }
        }
    }

    #[test]
    fn forms_that_are_understood() {
        let names = NodeNames::new("c", 3, "cluster").unwrap();
        assert_eq!(names.of(Number(7)).to_string(), "c007");
        for form in ["c007", "c7", "C0007", ".7", "c7.cluster", "N7.CLUSTER.", "node0007.cluster", ".7.cluster", "c007."] {
            assert_eq!(names.meaning(form), Some(Host::Node(Number(7))), "{form}");
        }
        assert_eq!(
            ["head", "Master.cluster", "self", "head."].map(|name| names.meaning(name)),
            [Some(Host::Head), Some(Host::Head), Some(Host::This), Some(Host::Head)]
        );
        let usual = ["n7", "node7", "node0007", ".7"].map(|form| NodeNames::DEFAULT.meaning(form));
        assert_eq!((usual, NodeNames::DEFAULT.meaning("master")), ([Some(Host::Node(Number(7))); 4], Some(Host::Head)));
        for label in ["c7", "n7", "node7", "master"] {
            assert!(names.meaning_in_domain(label).is_some(), "{label}");
        }
        // 20 of names.md: `n7\.cluster.cluster` is one label with a dot in it, and no name of a node's.
        for label in [".7", "c7.cluster", "c7.", "head.", "head.cluster", "master.cluster."] {
            assert_eq!(names.meaning_in_domain(label), None, "{label}");
        }
        for stranger in [
            // 15 of names.md: these may be machines of the site's.
            "n7",
            "node7",
            "master",
            "",
            ".",
            "c",
            "7",
            "c7x",
            "c-7",
            "c+7",
            "c7.other",
            "c7cluster",
            "c4294967296",
            "c00000000007",
            ".cluster",
            "é7",
            "cluster",
            "c7..cluster",
        ] {
            assert_eq!(names.meaning(stranger), None, "{stranger}");
        }
    }

    #[test]
    fn names_that_cannot_be() {
        for (prefix, digits, domain) in [
            ("", 1, ""),
            ("n1", 1, ""),
            ("1n", 1, ""),
            ("n.", 1, ""),
            ("a.b", 1, ""),
            ("n_", 1, ""),
            ("n", 7, ""),
            ("n", 1, "a..b"),
            ("n", 1, ".a"),
            ("n", 1, "-a"),
            ("aaaaaaaaaaaaaaaa", 1, ""),
        ] {
            assert_eq!(NodeNames::new(prefix, digits, domain), None, "{prefix:?} {digits} {domain:?}");
        }
        assert_eq!(NodeNames::new("n", 0, "").map(|names| names.digits()), Some(1));
    }
}
