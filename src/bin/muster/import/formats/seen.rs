//! Machines that somebody has seen, which is what there is when there is no list: dnsmasq's leases, the kernel's neighbours (`ip neigh`,
//! `arp -an`, /proc/net/arp), a scan. Each line has an address and a MAC.

use std::net::Ipv4Addr;

use super::super::record::{HardwareText, ImportedFile, ImportedMachine, mac};

/// A line of dnsmasq.leases: when it ends, MAC, address, name or `*`, client identifier.
fn lease(words: &[&str]) -> Option<ImportedMachine> {
    let [ends, hardware, address, name, ..] = words else { return None };
    ends.parse::<u64>().ok()?;
    let hardware = hardware.strip_prefix("01-").unwrap_or(hardware);
    let name = if *name == "*" { String::new() } else { name.to_string() };
    Some(ImportedMachine { macs: vec![mac(hardware)?], addresses: vec![address.parse().ok()?], name, ..ImportedMachine::default() })
}

pub fn leases(text: &str) -> ImportedFile {
    let mut read = ImportedFile::default();
    for (line, content) in (1..).zip(text.lines()).filter(|(_, content)| !content.trim().is_empty()) {
        let words: Vec<&str> = content.split_whitespace().collect();
        match lease(&words) {
            Some(found) => read.found.push(ImportedMachine { place: ImportedMachine::at(line).place, ..found }),
            None if words.first() == Some(&"duid") => read.note(line, "the leases from here on are of IPv6, and are not imported"),
            None if content.contains('[') || words.get(2).is_some_and(|address| address.contains(':')) => {}
            None => read.fault(line, "this is no lease of dnsmasq's"),
        }
    }
    read
}

pub fn are_leases(text: &str) -> bool {
    text.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| lease(&line.split_whitespace().collect::<Vec<_>>()).is_some())
}

/// The address and the MAC of a line, where it has both.
fn neighbour(content: &str) -> (Option<Ipv4Addr>, Option<&str>) {
    let words = || content.split_whitespace().map(|word| word.trim_matches(['(', ')', ',']));
    (
        words().find_map(|word| word.parse().ok()),
        words().find(|word| word.contains([':', '-', '.']) && HardwareText::of(word) != HardwareText::Other),
    )
}

pub fn neighbours(text: &str) -> ImportedFile {
    let mut read = ImportedFile::default();
    for (line, content) in (1..).zip(text.lines()).filter(|(_, content)| !content.trim().is_empty()) {
        match neighbour(content) {
            (Some(_), Some(text)) if !begins(content) => read.no_node(line, format!("{text} is not that of a neighbour")),
            (Some(address), Some("00:00:00:00:00:00")) | (Some(address), None) => read.no_node(line, format!("{address} did not answer")),
            (Some(address), Some(text)) => {
                if let Some(mac) = read.card(line, text) {
                    read.found.push(ImportedMachine { macs: vec![mac], addresses: vec![address], ..ImportedMachine::at(line) });
                }
            }
            (None, Some(text)) => read.no_node(line, format!("{text} has no IPv4 address here")),
            // A headline, or what a scanner says of itself.
            (None, None) => {}
        }
    }
    read
}

fn begins(line: &str) -> bool {
    line.split_whitespace().take(2).any(|word| word.trim_matches(['(', ')']).parse::<Ipv4Addr>().is_ok())
}

/// Lines that begin with an address, or with a name and one in parentheses, and have a MAC behind it.
pub fn are_neighbours(text: &str) -> bool {
    let both = |line: &str| begins(line) && !line.contains([',', ';', '{']) && matches!(neighbour(line), (Some(_), Some(_)));
    let first_is_mac = |line: &str| line.split_whitespace().next().is_some_and(|word| HardwareText::of(word) != HardwareText::Other);
    text.lines().any(both) && !text.lines().any(first_is_mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_seen() {
        let text = "1780000000 52:54:00:00:00:01 10.54.1.1 n1 01:52:54:00:00:00:01\n0 52:54:00:00:00:02 10.54.1.2 * *\n\
                    duid 00:01\n1780000000 2 fd00::1 n1 00:01\n1780000000 x\n";
        assert!(are_leases(text));
        let read = leases(text);
        assert_eq!(read.found.iter().map(|found| (found.place.line, found.name.as_str())).collect::<Vec<_>>(), [(1, "n1"), (2, "")]);
        assert_eq!((read.notes.len(), read.faults.len()), (1, 1));
        for text in [
            "10.54.1.1 dev eth1 lladdr 52:54:00:00:00:01 REACHABLE\nfe80::1 dev eth1 lladdr 52:54:00:00:00:02 STALE\n10.54.1.9 dev eth1 FAILED\n",
            "Interface: eth0, type: EN10MB, MAC: 52:54:00:00:00:99, IPv4: 10.54.0.1\n10.54.1.1\t52:54:00:00:00:01\tQEMU\n",
            "? (10.54.1.1) at 52:54:00:00:00:01 [ether] on eth1\n? (10.54.1.9) at <incomplete> on eth1\n",
            "IP address       HW type     Flags       HW address            Mask     Device\n\
             10.54.1.1        0x1         0x2         52:54:00:00:00:01     *        eth1\n10.54.1.9 0x1 0x0 00:00:00:00:00:00 * eth1\n",
        ] {
            assert!(are_neighbours(text) && !are_leases(text), "{text}");
            let read = neighbours(text);
            assert!(read.found.len() == 1 && read.faults.is_empty() && !read.no_nodes.is_empty(), "{text}");
        }
        assert!(!are_neighbours("52:54:00:00:00:01 10.54.1.1\n") && !are_neighbours("10.54.1.1 n1\n"));
    }
}
