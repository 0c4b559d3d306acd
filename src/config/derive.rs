//! Addresses that nobody configured, by arithmetic on the subnet: where the lot table of the nodes begins, where guests live.
//! Used by this room only.

use std::net::Ipv4Addr;

use crate::roll::plan::{AddressRange, Subnet};

/// The longest prefix that has room for a head, nodes and guests.
pub(super) const PREFIX_MAX: u8 = 29;

/// How many nodes, and how many guests, a large subnet is given.
const LOTS: u64 = 1024;

/// From this size (a /20) on there is room for round numbers.
const LARGE: u64 = 4096;

fn size(subnet: Subnet) -> u64 {
    1 << (32 - u32::from(subnet.prefix()))
}

/// The addresses at two offsets from the subnet's own, both included; None when the range is empty or ends beyond the subnet.
fn within(subnet: Subnet, first: u64, last: u64) -> Option<AddressRange> {
    let base = u32::from(subnet.network());
    let at = |offset: u64| u32::try_from(offset).ok().and_then(|offset| base.checked_add(offset)).map(Ipv4Addr::from);
    if last < size(subnet) { AddressRange::new(at(first)?, at(last)?) } else { None }
}

/// The runs of a range that are free of others, in order.
pub(super) fn free(range: AddressRange, taken: &[AddressRange]) -> Vec<AddressRange> {
    let mut runs = Vec::new();
    let (mut next, last) = (u64::from(u32::from(range.first())), u64::from(u32::from(range.last())));
    let mut taken: Vec<(u64, u64)> = taken.iter().map(|t| (u32::from(t.first()).into(), u32::from(t.last()).into())).collect();
    taken.sort_unstable();
    let run = |first: u64, last: u64| AddressRange::new((first as u32).into(), (last as u32).into());
    for (from, to) in taken.into_iter().filter(|(from, to)| *to >= u64::from(u32::from(range.first())) && *from <= last) {
        if from > next {
            runs.extend(run(next, from - 1));
        }
        next = next.max(to + 1);
    }
    if next <= last {
        runs.extend(run(next, last));
    }
    runs
}

/// The longest of some runs; the first of equals.
fn longest(runs: Vec<AddressRange>) -> Option<AddressRange> {
    runs.into_iter().reduce(|best, run| if run.count() > best.count() { run } else { best })
}

/// The first `count` addresses of a run, or all of it.
fn head_of(run: AddressRange, count: u64) -> AddressRange {
    let last = u64::from(u32::from(run.first())) + count.max(1) - 1;
    match u32::try_from(last) {
        Ok(last) if last < u32::from(run.last()) => AddressRange::new(run.first(), last.into()).unwrap_or(run),
        _ => run,
    }
}

/// Where strangers live: the 1,024 addresses that end 512 below the top of a large subnet, the top quarter of a smaller one. Of a
/// region that holds taken addresses the longest free run is used; when that is less than half, the top of the subnet's
/// longest free run. None when nothing is free.
pub(super) fn guests(subnet: Subnet, taken: &[AddressRange]) -> Option<AddressRange> {
    let size = size(subnet);
    let region = match size {
        LARGE.. => within(subnet, size - 512 - LOTS, size - 512 - 1),
        _ => within(subnet, size - size / 4, size - 2),
    }?;
    let run = longest(free(region, taken));
    if let Some(run) = run.filter(|run| run.count() * 2 >= region.count()) {
        return Some(run);
    }
    let run = longest(free(within(subnet, 1, size - 2)?, taken))?;
    let skipped = run.count().saturating_sub(region.count()) as u32;
    AddressRange::new((u32::from(run.first()) + skipped).into(), run.last())
}

/// Where node 0 and its neighbours live: from 256 above the base of a large subnet, from a sixteenth of a smaller one (at least
/// 2), `nodes` of them (by default 1,024), or as many as there are up to the next address that is taken. Where too few are free the
/// longest free run is used. None when nothing is free.
pub(super) fn node_range(subnet: Subnet, taken: &[AddressRange], nodes: Option<u64>, most: u64) -> Option<AddressRange> {
    let size = size(subnet);
    let wanted = nodes.unwrap_or(LOTS).min(most);
    let start = if size >= LARGE { 256 } else { (size / 16).max(2) };
    let runs = free(within(subnet, start, size - 2)?, taken);
    let first = within(subnet, start, start)?.first();
    let run = match runs.iter().find(|run| run.contains(first) && run.count() >= wanted) {
        Some(run) => *run,
        None => longest(runs)?,
    };
    let aligned = (u32::from(run.first()) | 0xff).checked_add(1).map(Ipv4Addr::from);
    let aligned = aligned.filter(|_| size >= LARGE && run.first() != first).and_then(|from| AddressRange::new(from, run.last()));
    Some(head_of(aligned.filter(|aligned| aligned.count() >= wanted).unwrap_or(run), wanted))
}

/// As many nodes as there are from a configured node 0 up to the next address that is taken, at least 1 and by default at most
/// 1,024.
pub(super) fn nodes_from(subnet: Subnet, node0: Ipv4Addr, taken: &[AddressRange], most: u64) -> u64 {
    let rest = AddressRange::new(node0, u32::from(subnet.broadcast()).saturating_sub(1).into());
    let run = rest.and_then(|rest| free(rest, taken).into_iter().find(|run| run.contains(node0)));
    run.map_or(1, |run| run.count().min(LOTS).min(most))
}

/// The addresses that a configured node 0 keeps guests away from when the number of nodes is not configured.
pub(super) fn reserve(subnet: Subnet, node0: Ipv4Addr) -> Option<AddressRange> {
    let rest = AddressRange::new(node0, subnet.broadcast().max(node0))?;
    Some(head_of(rest, (size(subnet) / 4).min(LOTS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    /// `node_range guests` for a subnet and its head.
    fn derived(head: &str, len: u8) -> String {
        let subnet = Subnet::of(address(head), len);
        let mut taken = vec![AddressRange::new(address(head), address(head)).unwrap()];
        let guests = guests(subnet, &taken);
        taken.extend(guests);
        let node_range = node_range(subnet, &taken, None, 4096);
        let shown = |range: Option<AddressRange>| range.map_or("none".to_string(), |range| range.to_string());
        format!("{} | {}", shown(node_range), shown(guests))
    }

    #[test]
    fn node_ranges_and_guests() {
        for (head, len, expected) in [
            ("10.54.0.1", 16, "10.54.1.0-10.54.4.255 | 10.54.250.0-10.54.253.255"),
            ("10.54.2.0", 16, "10.54.3.0-10.54.6.255 | 10.54.250.0-10.54.253.255"),
            ("10.54.200.9", 16, "10.54.1.0-10.54.4.255 | 10.54.250.0-10.54.253.255"),
            ("10.54.255.254", 16, "10.54.1.0-10.54.4.255 | 10.54.250.0-10.54.253.255"),
            ("10.54.253.255", 16, "10.54.1.0-10.54.4.255 | 10.54.250.0-10.54.253.254"),
            ("10.0.0.1", 8, "10.0.1.0-10.0.4.255 | 10.255.250.0-10.255.253.255"),
            ("192.168.0.1", 20, "192.168.1.0-192.168.4.255 | 192.168.10.0-192.168.13.255"),
            ("192.168.2.0", 20, "192.168.3.0-192.168.6.255 | 192.168.10.0-192.168.13.255"),
            ("192.168.15.254", 20, "192.168.1.0-192.168.4.255 | 192.168.10.0-192.168.13.255"),
            ("192.168.0.1", 22, "192.168.0.64-192.168.2.255 | 192.168.3.0-192.168.3.254"),
            ("192.168.1.0", 22, "192.168.1.1-192.168.2.255 | 192.168.3.0-192.168.3.254"),
            ("192.168.3.254", 22, "192.168.0.64-192.168.2.255 | 192.168.3.0-192.168.3.253"),
            ("192.168.0.1", 24, "192.168.0.16-192.168.0.191 | 192.168.0.192-192.168.0.254"),
            ("192.168.0.100", 24, "192.168.0.101-192.168.0.191 | 192.168.0.192-192.168.0.254"),
            ("192.168.0.254", 24, "192.168.0.16-192.168.0.191 | 192.168.0.192-192.168.0.253"),
            ("192.168.0.33", 27, "192.168.0.34-192.168.0.55 | 192.168.0.56-192.168.0.62"),
            ("192.168.0.45", 27, "192.168.0.34-192.168.0.44 | 192.168.0.56-192.168.0.62"),
            ("192.168.0.62", 27, "192.168.0.34-192.168.0.55 | 192.168.0.56-192.168.0.61"),
            ("10.0.0.1", 29, "10.0.0.2-10.0.0.5 | 10.0.0.6-10.0.0.6"),
            ("10.0.0.3", 29, "10.0.0.4-10.0.0.5 | 10.0.0.6-10.0.0.6"),
            ("10.0.0.6", 29, "10.0.0.2-10.0.0.4 | 10.0.0.5-10.0.0.5"),
            ("255.255.255.254", 16, "255.255.1.0-255.255.4.255 | 255.255.250.0-255.255.253.255"),
            ("1.2.3.4", 0, "0.0.1.0-0.0.4.255 | 255.255.250.0-255.255.253.255"),
        ] {
            assert_eq!(derived(head, len), expected, "{head}/{len}");
        }
    }

    /// Wherever the head lives: both exist, in the subnet, apart from each other and from the head.
    #[test]
    fn always_disjoint_and_inside() {
        for len in 22..=PREFIX_MAX {
            let subnet = Subnet::of(address("10.54.0.0"), len);
            for offset in 1..size(subnet) as u32 - 1 {
                let head = Ipv4Addr::from(u32::from(subnet.network()) + offset);
                let mut taken = vec![AddressRange::new(head, head).unwrap()];
                let guests = guests(subnet, &taken).unwrap();
                taken.push(guests);
                let node_range = node_range(subnet, &taken, None, 4096).unwrap();
                for range in [guests, node_range] {
                    assert!(subnet.is_host(range.first()) && subnet.is_host(range.last()) && !range.contains(head), "{head}/{len} {range}");
                }
                assert!(!guests.overlaps(node_range), "{head}/{len}: {node_range} {guests}");
            }
        }
    }

    #[test]
    fn free_runs() {
        let range = |first: &str, last: &str| AddressRange::new(address(first), address(last)).unwrap();
        let all = range("0.0.0.0", "255.255.255.255");
        assert_eq!(free(all, &[all]), []);
        assert_eq!(free(all, &[]), [all]);
        let taken =
            [range("10.0.0.5", "10.0.0.9"), range("10.0.0.1", "10.0.0.6"), range("10.0.0.20", "10.0.0.30"), range("9.0.0.0", "9.0.0.1")];
        assert_eq!(free(range("10.0.0.0", "10.0.0.25"), &taken), [range("10.0.0.0", "10.0.0.0"), range("10.0.0.10", "10.0.0.19")]);
    }

    #[test]
    fn nodes_up_to_the_next_obstacle() {
        let subnet = Subnet::of(address("10.0.0.0"), 24);
        let guests = AddressRange::new(address("10.0.0.200"), address("10.0.0.210")).unwrap();
        assert_eq!(nodes_from(subnet, address("10.0.0.100"), &[guests], 4096), 100);
        assert_eq!(nodes_from(subnet, address("10.0.0.100"), &[guests], 64), 64);
        assert_eq!(nodes_from(subnet, address("10.0.0.220"), &[guests], 4096), 35);
        assert_eq!(nodes_from(subnet, address("10.0.0.205"), &[guests], 4096), 1);
        assert_eq!(reserve(subnet, address("10.0.0.240")).unwrap().count(), 16);
        assert_eq!(reserve(subnet, address("10.0.0.10")).unwrap().count(), 64);
    }
}
