//! What a name says of a machine: its number, its kind, and that it is none that muster boots.

use muster::base::addr::Mac;

/// Words of names that no node has, and whose they are.
const OTHERS: [(&str, &str); 27] = [
    ("ipmi", "a BMC"),
    ("bmc", "a BMC"),
    ("ilo", "a BMC"),
    ("ilom", "a BMC"),
    ("idrac", "a BMC"),
    ("drac", "a BMC"),
    ("imm", "a BMC"),
    ("xcc", "a BMC"),
    ("cimc", "a BMC"),
    ("irmc", "a BMC"),
    ("oob", "a BMC"),
    ("mgmt", "a management port"),
    ("ib", "an InfiniBand port"),
    ("ipoib", "an InfiniBand port"),
    ("infiniband", "an InfiniBand port"),
    ("opa", "an Omni-Path port"),
    ("hsn", "a port of the fast network"),
    ("pdu", "a power distribution unit"),
    ("ups", "a power supply"),
    ("kvm", "a console switch"),
    ("switch", "a switch"),
    ("sw", "a switch"),
    ("network", "a network device"),
    ("router", "a router"),
    ("nas", "a file server"),
    ("printer", "a printer"),
    ("camera", "a camera"),
];

/// The first label, in small letters.
pub fn short(name: &str) -> String {
    name.split('.').next().unwrap_or_default().to_lowercase()
}

/// Whether two names may be one machine's: where both have a domain, it is the same.
pub fn agree(one: &str, other: &str) -> bool {
    let domain = |name: &str| name.split_once('.').map(|(_, domain)| domain.to_lowercase());
    short(one) == short(other) && (domain(one).is_none() || domain(other).is_none() || domain(one) == domain(other))
}

/// The number at the end of a host name: `n17`, `node-017.cluster`.
pub fn trailing(name: &str) -> Option<u32> {
    let label = short(name);
    let start = label.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    label.get(start..)?.parse().ok()
}

/// How its like are named: `compute-0-17` is one of `compute-#-#`.
pub fn family(name: &str) -> String {
    let mut family = String::new();
    for c in short(name).chars() {
        match c.is_ascii_digit() {
            true if family.ends_with('#') => {}
            true => family.push('#'),
            false => family.push(c),
        }
    }
    family
}

/// What names are sorted by: numbers in them as numbers.
pub fn order(name: &str) -> Vec<(String, u64)> {
    let label = short(name);
    let mut rest = label.as_str();
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let (text, after) = rest.split_at(rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len()));
        let (digits, after) = after.split_at(after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len()));
        parts.push((text.to_string(), digits.parse().unwrap_or(0)));
        rest = after;
    }
    parts
}

fn kind_of(word: &str) -> Option<&'static str> {
    OTHERS.iter().find(|(other, _)| *other == word).map(|(_, kind)| *kind)
}

/// Whose a name is, if it is no node's: a BMC's, a switch's. The name's own words count, and of its domain what stands for a BMC.
pub fn other_kind(name: &str) -> Option<&'static str> {
    let label = short(name);
    label.split(|c: char| !c.is_ascii_alphabetic()).find_map(kind_of).or_else(|| other_domain(name))
}

/// `n1.ipmi.example.org` is no node's either, but `n1.mgmt.example.org` may be.
pub fn other_domain(name: &str) -> Option<&'static str> {
    kind_of(&name.split('.').nth(1)?.to_lowercase()).filter(|kind| *kind == "a BMC")
}

/// The name in a label that was made unique by an interface, a MAC or both at its end: MAAS's, Cobbler's and xCAT's ways.
pub fn of_label(label: &str, macs: &[Mac]) -> String {
    let lower = label.to_lowercase();
    let mut ends = Vec::new();
    for mac in macs {
        let (text, bare) = (mac.to_string(), mac.to_string().replace(':', ""));
        ends.extend([format!("-{}", text.replace(':', "-")), format!("-{text}"), format!("-noip{bare}"), format!("-{bare}")]);
    }
    let cut = ends.iter().find(|end| lower.ends_with(end.as_str())).map(|end| label.len() - end.len());
    let cut = cut.or_else(|| label.rfind(['-', '_', ':']).filter(|at| label.get(at + 1..).is_some_and(is_interface)));
    let name = cut.and_then(|at| label.get(..at)).filter(|name| !name.is_empty()).unwrap_or(label);
    name.to_string()
}

/// xCAT's label of a card that has no address of its own.
pub fn has_no_address(label: &str) -> bool {
    label.rsplit_once("-noip").is_some_and(|(_, mac)| mac.len() == 12 && mac.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// `eth1`, `eno2`, `enp3s0f0`, `ens1f0np0`, `em1`, `p1p2`, `bond0`.
fn is_interface(word: &str) -> bool {
    let word = word.to_lowercase();
    let rest = ["eth", "eno", "enp", "ens", "enx", "em", "bond", "nic", "p"].iter().find_map(|kind| word.strip_prefix(kind));
    let digit =
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_hexdigit()) && rest.ends_with(|c: char| c.is_ascii_hexdigit()));
    let slot = !word.starts_with('p') || word.get(1..).is_some_and(|rest| rest.contains('p'));
    digit && slot && word.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_names_in_them() {
        let mac = [Mac([0x0c, 0x42, 0xa1, 0, 0, 8])];
        for (label, name) in [
            ("node07-enp3s0f0", "node07"),
            ("node08-0c-42-a1-00-00-08", "node08"),
            ("node08-0C42A1000008", "node08"),
            ("cn02-noip0c42a1000008", "cn02"),
            ("node09.hpc.example.org-eth1", "node09.hpc.example.org"),
            ("node9-p1p2", "node9"),
            ("rack1-p3", "rack1-p3"),
            ("compute-0-0", "compute-0-0"),
            ("n17-ib0", "n17-ib0"),
            ("-eth0", "-eth0"),
            ("", ""),
        ] {
            assert_eq!(of_label(label, &mac), name, "{label}");
        }
        assert!(has_no_address("cn02-noipb42e9900ff02") && !has_no_address("cn02-noip"));
    }

    #[test]
    fn names_of_what_is_no_node() {
        for name in [
            "n17-bmc",
            "node01-ipmi",
            "n1-ilo",
            "n1-idrac",
            "n17-ib0",
            "n17-mgmt1",
            "ib-switch",
            "pdu-r1",
            "bmc17",
            "n1.ipmi.hpc",
            "nas-0-0",
            "N3-BMC",
        ] {
            assert!(other_kind(name).is_some(), "{name}");
        }
        for name in ["n17", "sibyl3", "n1.mgmt.cluster", "compute-0-0", "node-0008", "", "swift1", "gpu-a-1"] {
            assert_eq!(other_kind(name), None, "{name}");
        }
    }

    #[test]
    fn names_have_families_numbers_and_an_order() {
        assert_eq!((family("compute-0-17.x1"), family("CN001"), family("")), ("compute-#-#".into(), "cn#".into(), String::new()));
        assert_eq!([trailing("n17"), trailing("node-017.c1"), trailing("bob"), trailing("n99999999999")], [Some(17), Some(17), None, None]);
        let mut names = ["c-1-2", "c-0-10", "c-0-9", "b-7"];
        names.sort_by_key(|name| order(name));
        assert_eq!(names, ["b-7", "c-0-9", "c-0-10", "c-1-2"]);
        assert!(agree("n2", "N2.hpc.org") && agree("n2.a", "n2.A") && !agree("n2.rack1", "n2.rack2") && !agree("n2", "n3"));
    }
}
