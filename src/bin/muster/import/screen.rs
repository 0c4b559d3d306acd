//! Who of a file can be a node: who is left over when BMCs, switches, what `ignore` of the config names, and addresses outside the plan
//! are taken away, each with its reason; and which of them are one machine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use muster::base::addr::{Mac, MacPattern};
use muster::wire::control::SegmentRow;

use super::names;
use super::record::{ImportedMachine, Place, Remark};

/// What numbering needs to know of the cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterPlan {
    pub segments: Vec<SegmentRow>,
    pub nodes: u32,
    pub prefix: String,
    pub ignore: Vec<MacPattern>,
    /// Addresses by name, of the head's /etc/hosts.
    pub hosts: BTreeMap<String, Ipv4Addr>,
}

impl ClusterPlan {
    pub fn number(&self, address: Ipv4Addr) -> Option<u32> {
        let number = |segment: &SegmentRow| {
            let offset = u32::from(address).checked_sub(u32::from(segment.address))?;
            (offset <= segment.last - segment.first.min(segment.last)).then(|| segment.first + offset)
        };
        self.segments.iter().find_map(number)
    }

    pub fn address(&self, number: u32) -> Option<Ipv4Addr> {
        let segment = self.segments.iter().find(|segment| segment.first <= number && number <= segment.last)?;
        u32::from(segment.address).checked_add(number - segment.first).map(Ipv4Addr::from)
    }

    /// `n17` where nodes are called by `n` and a number.
    pub fn own(&self, name: &str) -> Option<u32> {
        let digits = names::short(name).strip_prefix(&self.prefix.to_lowercase())?.to_string();
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    }

    pub fn inside(&self, addresses: &[Ipv4Addr]) -> Option<(Ipv4Addr, u32)> {
        addresses.iter().find_map(|address| Some((*address, self.number(*address)?)))
    }

    /// `10.54.1.0 to 10.54.5.255`
    fn span(&self) -> String {
        match self.segments.as_slice() {
            [] => "no addresses".into(),
            [one] => format!("{} to {}", one.address, self.address(one.last).unwrap_or(one.address)),
            [first, ..] => format!("{} and {} other pieces", first.address, self.segments.len() - 1),
        }
    }
}

/// One machine with all of its cards.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JoinedMachine {
    pub name: String,
    /// Its cards, and where each stands.
    pub macs: Vec<(Mac, Place)>,
    pub addresses: Vec<Ipv4Addr>,
    pub index: Option<u32>,
    pub places: Vec<Place>,
}

impl JoinedMachine {
    /// How messages call it.
    pub fn title(&self) -> String {
        match (self.name.is_empty(), self.macs.first()) {
            (false, _) => self.name.clone(),
            (true, Some((mac, _))) => mac.to_string(),
            (true, None) => "this entry".into(),
        }
    }

    pub fn place(&self) -> Place {
        self.places.first().copied().unwrap_or_default()
    }
}

/// What is left of a file's entries.
#[derive(Debug, Default)]
pub struct Screened {
    pub machines: Vec<JoinedMachine>,
    pub no_nodes: Vec<Remark>,
    pub left_out: Vec<Remark>,
    pub notes: Vec<Remark>,
    /// How the file's nodes are named, if most of them are named alike: `cn#`.
    pub family: Option<String>,
}

pub fn screen(found: Vec<ImportedMachine>, plan: &ClusterPlan) -> Screened {
    let mut screened = Screened::default();
    let mut found: Vec<ImportedMachine> = found.into_iter().filter_map(|found| kind(found, plan, &mut screened)).collect();
    screened.family = family(&found, plan);
    let named = |found: &ImportedMachine| found.index.is_none() && !found.addresses.is_empty();
    let any_fits = found.iter().any(|found| named(found) && plan.inside(&found.addresses).is_some());
    if !any_fits {
        if let Some(first) = found.iter().find(|found| named(found)) {
            let (address, node0) = (first.addresses.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED), plan.span());
            let why = format!(
                "no address of these files is in the plan ({node0}), such as {address}: set node0 in [cluster] if nodes are to keep theirs"
            );
            screened.notes.push((first.place, why));
        }
    }
    let fitting: Vec<ImportedMachine> = found.iter().filter(|found| plan.inside(&found.addresses).is_some()).cloned().collect();
    found.retain(|found| outside(found, plan, any_fits, &fitting, &mut screened));
    found.retain(|found| {
        let known = !found.macs.is_empty();
        if !known {
            screened.left_out.push((found.place, format!("{found} has no MAC address, by which muster would know it")));
        }
        known
    });
    join(found, plan, &mut screened);
    screened
}

/// Takes away what is no node by its name, and cards that the config ignores.
fn kind(mut found: ImportedMachine, plan: &ClusterPlan, screened: &mut Screened) -> Option<ImportedMachine> {
    let by_name = if plan.own(&found.name).is_some() { names::other_domain(&found.name) } else { names::other_kind(&found.name) };
    let by_name = names::other_kind(&found.label).or(by_name);
    if let Some(kind) = by_name.filter(|_| found.index.is_none()) {
        screened.no_nodes.push((found.place, format!("{found}: this is the name of {kind}")));
        return None;
    }
    let ignored = |mac: &Mac| plan.ignore.iter().any(|pattern| pattern.matches(*mac));
    let before = found.macs.len();
    for mac in found.macs.iter().filter(|mac| ignored(mac)) {
        screened.no_nodes.push((found.place, format!("{mac}: the config ignores it (key ignore of [cluster])")));
    }
    found.macs.retain(|mac| !ignored(mac));
    (before == 0 || !found.macs.is_empty()).then_some(found)
}

/// How most of those are named that have a number in their name; this cluster's own way if there is one.
fn family(found: &[ImportedMachine], plan: &ClusterPlan) -> Option<String> {
    if let Some(own) = found.iter().find(|found| plan.own(&found.name).is_some()) {
        return Some(names::family(&own.name));
    }
    let numbered: BTreeSet<String> =
        found.iter().filter(|found| names::trailing(&found.name).is_some()).map(|found| names::short(&found.name)).collect();
    let mut families: BTreeMap<String, usize> = BTreeMap::new();
    numbered.iter().for_each(|name| *families.entry(names::family(name)).or_default() += 1);
    families.into_iter().find(|(_, count)| count * 2 > numbered.len()).map(|(family, _)| family)
}

/// Whether an entry may stay, by its address. A name of this cluster's is enough; where nothing fits the plan, that of the others' kind is.
fn outside(found: &ImportedMachine, plan: &ClusterPlan, any_fits: bool, fitting: &[ImportedMachine], screened: &mut Screened) -> bool {
    if found.index.is_some() || found.addresses.is_empty() || plan.inside(&found.addresses).is_some() {
        return true;
    }
    let shown = found.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let other = fitting.iter().find(|other| !found.name.is_empty() && names::agree(&other.name, &found.name));
    let own = plan.own(&found.name).is_some();
    let alike = screened.family.as_ref().is_none_or(|family| *family == names::family(&found.name));
    let named = names::trailing(&found.name).is_some() && !any_fits && alike;
    if other.is_none() && (own || named) && !found.macs.is_empty() {
        return true;
    }
    let also = other.and_then(|other| plan.inside(&other.addresses)).map(|(address, _)| format!(", and {} has {address}", found.name));
    let why = format!("{found}: {shown} is outside the plan ({}){}", plan.span(), also.unwrap_or_default());
    screened.no_nodes.push((found.place, why));
    false
}

/// Entries with one name, or with one address, are one machine's cards.
fn join(found: Vec<ImportedMachine>, plan: &ClusterPlan, screened: &mut Screened) {
    let mut by_name: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut by_address: BTreeMap<Ipv4Addr, usize> = BTreeMap::new();
    for found in found {
        let same = |at: &usize| {
            let machine = screened.machines.get(*at);
            machine.is_some_and(|machine| machine.index.is_none() || found.index.is_none() || machine.index == found.index)
        };
        let agrees = |at: &usize| screened.machines.get(*at).is_some_and(|machine| names::agree(&machine.name, &found.name));
        let namesake = by_name.get(&names::short(&found.name)).and_then(|all| all.iter().find(|at| agrees(at) && same(at))).copied();
        // Clients of leases call themselves as they like: two places in the plan are two machines.
        let place = plan.inside(&found.addresses);
        let elsewhere = |at: &usize| {
            let other = screened.machines.get(*at).and_then(|machine| plan.inside(&machine.addresses));
            place.zip(other).is_some_and(|(own, other)| own != other)
        };
        let apart = namesake.filter(elsewhere);
        let named = namesake.filter(|_| apart.is_none());
        let housed = found.addresses.iter().find_map(|address| by_address.get(address)).copied().filter(same);
        let at = named.or(housed).unwrap_or(screened.machines.len());
        if at == screened.machines.len() {
            screened.machines.push(JoinedMachine { name: found.name.clone(), ..JoinedMachine::default() });
        }
        if apart.is_some() {
            screened.notes.push((found.place, format!("two machines are called {}, by their addresses in the plan", found.name)));
        }
        let Some(machine) = screened.machines.get_mut(at) else { continue };
        if named.is_none() && housed.is_some() && !machine.name.is_empty() && !found.name.is_empty() {
            screened.notes.push((found.place, format!("{} and {found} have one address: imported as one machine", machine.name)));
        }
        if machine.name.is_empty() {
            machine.name = found.name.clone();
        }
        if !machine.name.is_empty() {
            let places = by_name.entry(names::short(&machine.name)).or_default();
            (!places.contains(&at)).then(|| places.push(at));
        }
        machine.index = machine.index.or(found.index);
        for address in found.addresses {
            by_address.entry(address).or_insert(at);
            (!machine.addresses.contains(&address)).then(|| machine.addresses.push(address));
        }
        machine.macs.extend(found.macs.iter().map(|mac| (*mac, found.place)));
        machine.places.push(found.place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: usize, label: &str, name: &str, address: &str) -> ImportedMachine {
        let found = ImportedMachine { label: label.into(), macs: vec![Mac([2, 0, 0, 0, 0, line as u8])], ..ImportedMachine::at(line) };
        let found = found.called(address);
        ImportedMachine { name: name.into(), ..found }
    }

    fn plan() -> ClusterPlan {
        let segments = vec![SegmentRow { first: 0, last: 99, address: [10, 54, 1, 0].into() }];
        ClusterPlan {
            segments,
            nodes: 100,
            prefix: "n".into(),
            ignore: vec!["02:00:00:00:00:09".parse().unwrap()],
            ..ClusterPlan::default()
        }
    }

    fn lines(screened: &Screened) -> (Vec<Vec<usize>>, Vec<usize>, Vec<usize>) {
        let all = |remarks: &[Remark]| remarks.iter().map(|(place, _)| place.line).collect();
        let machines = screened.machines.iter().map(|machine| machine.places.iter().map(|place| place.line).collect()).collect();
        (machines, all(&screened.no_nodes), all(&screened.left_out))
    }

    #[test]
    fn who_is_no_node_is_told_why() {
        let mut without = found(8, "", "n8", "10.54.1.8");
        without.macs.clear();
        let screened = screen(
            vec![
                found(1, "", "c1", "10.54.1.1"),
                found(2, "", "c1-ipmi", "10.54.1.2"),
                found(3, "c1-bmc", "c1", "10.54.1.1"),
                found(4, "", "c2", "10.99.0.1"),
                found(5, "", "n5", "10.99.0.1"),
                found(6, "", "", "10.99.0.2"),
                found(7, "", "c1", "10.99.0.3"),
                without,
                found(9, "", "n9", "10.54.1.9"),
            ],
            &plan(),
        );
        assert_eq!(lines(&screened), (vec![vec![1], vec![5]], vec![2, 3, 9, 4, 6, 7], vec![8]));
        assert!(screened.no_nodes[5].1.ends_with("and c1 has 10.54.1.1"), "{:?}", screened.no_nodes);
    }

    #[test]
    fn where_nothing_fits_names_decide() {
        let screened =
            screen(vec![found(1, "", "c1", "10.9.0.1"), found(2, "", "c2", "10.9.0.2"), found(3, "", "login1", "10.9.0.3")], &plan());
        assert_eq!(lines(&screened), (vec![vec![1], vec![2]], vec![3], vec![]));
        assert!(screened.notes[0].1.contains("set node0"));
    }

    #[test]
    fn one_name_at_two_places_of_the_plan_is_two_machines() {
        let screened =
            screen(vec![found(1, "", "debian", "10.54.1.1"), found(2, "", "debian", "10.54.1.2"), found(3, "", "debian", "")], &plan());
        assert_eq!(lines(&screened).0, [vec![1, 3], vec![2]]);
        assert!(screened.notes[0].1.contains("two machines are called debian"));
    }

    #[test]
    fn cards_of_one_machine() {
        let screened = screen(
            vec![
                found(1, "c7-a", "c7", "10.54.1.7"),
                found(2, "c7-b", "c7.x", ""),
                found(3, "", "", "10.54.1.7"),
                found(4, "", "c8.rack1", ""),
                found(5, "", "c8.rack2", ""),
                found(6, "", "d7", "10.54.1.7"),
            ],
            &plan(),
        );
        assert_eq!(lines(&screened).0, [vec![1, 2, 3, 6], vec![4], vec![5]]);
        assert!(screened.notes[0].1.contains("c7 and d7 have one address"));
    }
}
