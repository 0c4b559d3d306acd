//! Which number an imported machine gets: the one its file gives it; else the one that its address has in the plan; else the one at the
//! end of its name; else the lowest lot that is vacant here and that nobody else of the file gets, in order of lines. The surer rule
//! goes first over the whole file. Lines that lead to one number under one name are one machine with several cards.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use muster::base::addr::Mac;
use muster::roll::ranges::Ranges;
use muster::wire::control::SegmentRow;

use super::ImportedMachine;

/// How a number was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    Index,
    Address,
    Name,
    Vacant,
}

impl Rule {
    pub fn name(self) -> &'static str {
        match self {
            Rule::Index => "its number",
            Rule::Address => "its address",
            Rule::Name => "its name",
            Rule::Vacant => "lowest vacant",
        }
    }
}

/// A machine with its number.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    pub number: u32,
    pub rule: Rule,
    pub name: String,
    pub macs: Vec<Mac>,
    pub lines: Vec<usize>,
}

/// What becomes of a file.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ImportPlan {
    /// In order of their numbers.
    pub placed: Vec<Placed>,
    /// Worth knowing, by line.
    pub notes: Vec<(usize, String)>,
    /// Not taken over, by line, and why.
    pub left_out: Vec<(usize, String)>,
}

/// Gives every machine a number.
pub fn assign(found: &[ImportedMachine], segments: &[SegmentRow], nodes: u32, vacant: &Ranges) -> ImportPlan {
    let mut plan = ImportPlan::default();
    let mut places: BTreeMap<u32, Placed> = BTreeMap::new();
    let mut owners: BTreeMap<Mac, (u32, usize)> = BTreeMap::new();
    let mut free = vacant.iter();
    let rules: Vec<Option<(Rule, u32)>> = found.iter().map(|found| sure(found, segments)).collect();
    for rule in [Rule::Index, Rule::Address, Rule::Name, Rule::Vacant] {
        for (found, sure) in found.iter().zip(&rules) {
            let number = match sure {
                Some((own, number)) if *own == rule => Some(*number),
                None if rule == Rule::Vacant => match twin(found, &owners) {
                    Some(number) => Some(number),
                    None => free.find(|number| !places.contains_key(number)),
                },
                _ => continue,
            };
            match number {
                None => plan.left_out.push((found.line, format!("no number is vacant for {}", title(found)))),
                Some(number) if number >= nodes => {
                    let why =
                        format!("{} would be n{number} by {}, but nodes are n0 to n{}", title(found), rule.name(), nodes.saturating_sub(1));
                    plan.left_out.push((found.line, why));
                }
                Some(number) => settle(&mut plan, &mut places, &mut owners, found, rule, number),
            }
        }
    }
    plan.placed = places.into_values().collect();
    plan.placed.iter_mut().for_each(|placed| placed.lines.sort_unstable());
    plan.notes.sort();
    plan
}

/// How messages call a machine.
fn title(found: &ImportedMachine) -> String {
    match (found.name.is_empty(), found.macs.first()) {
        (false, _) => found.name.clone(),
        (true, Some(mac)) => mac.to_string(),
        (true, None) => "it".into(),
    }
}

fn sure(found: &ImportedMachine, segments: &[SegmentRow]) -> Option<(Rule, u32)> {
    let index = found.index.map(|number| (Rule::Index, number));
    let address = || found.address.and_then(|address| in_plan(address, segments)).map(|number| (Rule::Address, number));
    index.or_else(address).or_else(|| trailing(&found.name).map(|number| (Rule::Name, number)))
}

fn in_plan(address: Ipv4Addr, segments: &[SegmentRow]) -> Option<u32> {
    let number = |segment: &SegmentRow| {
        let offset = u32::from(address).checked_sub(u32::from(segment.address))?;
        (offset <= segment.last - segment.first.min(segment.last)).then(|| segment.first + offset)
    };
    segments.iter().find_map(number)
}

/// The number at the end of a host name: `n17`, `node-017.cluster`.
fn trailing(name: &str) -> Option<u32> {
    let label = name.split('.').next().unwrap_or_default();
    let start = label.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    label.get(start..)?.parse().ok()
}

/// The number of a machine all of whose MACs are there already.
fn twin(found: &ImportedMachine, owners: &BTreeMap<Mac, (u32, usize)>) -> Option<u32> {
    found.macs.first().and_then(|mac| owners.get(mac)).map(|(number, _)| *number)
}

fn settle(
    plan: &mut ImportPlan,
    places: &mut BTreeMap<u32, Placed>,
    owners: &mut BTreeMap<Mac, (u32, usize)>,
    found: &ImportedMachine,
    rule: Rule,
    number: u32,
) {
    if let Some((mac, (other, line))) =
        found.macs.iter().find_map(|mac| owners.get(mac).filter(|(own, _)| *own != number).map(|owner| (mac, *owner)))
    {
        return plan.left_out.push((found.line, format!("{mac} would be n{number}, but is n{other} (line {line})")));
    }
    if let Some(place) =
        places.get(&number).filter(|place| place.name != found.name && found.macs.iter().any(|mac| !place.macs.contains(mac)))
    {
        let lines = place.lines.first().copied().unwrap_or(0);
        let why = format!("{} would be n{number} by {}, but {} has that number (line {lines})", title(found), rule.name(), other(place));
        return plan.left_out.push((found.line, why));
    }
    let place =
        places.entry(number).or_insert_with(|| Placed { number, rule, name: found.name.clone(), macs: Vec::new(), lines: Vec::new() });
    place.lines.push(found.line);
    for mac in &found.macs {
        match owners.get(mac) {
            Some((_, line)) => plan.notes.push((found.line, format!("{mac} is listed already (line {line})"))),
            None => {
                owners.insert(*mac, (number, found.line));
                place.macs.push(*mac);
            }
        }
    }
}

fn other(place: &Placed) -> String {
    match (place.name.is_empty(), place.macs.first()) {
        (false, _) => place.name.clone(),
        (true, Some(mac)) => mac.to_string(),
        (true, None) => "another machine".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(n: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, n])
    }

    fn found(line: usize, name: &str, n: u8, address: Option<[u8; 4]>) -> ImportedMachine {
        ImportedMachine { line, name: name.into(), macs: vec![mac(n)], address: address.map(Into::into), index: None }
    }

    fn plan(found: &[ImportedMachine]) -> ImportPlan {
        let segments = [
            SegmentRow { first: 0, last: 99, address: [10, 54, 1, 0].into() },
            SegmentRow { first: 100, last: 199, address: [10, 55, 1, 0].into() },
        ];
        assign(found, &segments, 200, &Ranges::of(3, 199))
    }

    fn numbers(plan: &ImportPlan) -> Vec<(u32, Rule, Vec<usize>)> {
        plan.placed.iter().map(|placed| (placed.number, placed.rule, placed.lines.clone())).collect()
    }

    #[test]
    fn the_surer_rule_goes_first() {
        let mut index = found(6, "", 6, None);
        index.index = Some(50);
        let plan = plan(&[
            found(1, "alice", 1, None),
            found(2, "n4", 2, None),
            found(3, "whatever", 3, Some([10, 54, 1, 3])),
            found(4, "n3", 4, Some([10, 55, 1, 5])),
            found(5, "bob", 5, Some([192, 168, 0, 1])),
            index,
        ]);
        use Rule::{Address, Index, Name, Vacant};
        let expected = [
            (3, Address, vec![3]),
            (4, Name, vec![2]),
            (5, Vacant, vec![1]),
            (6, Vacant, vec![5]),
            (50, Index, vec![6]),
            (105, Address, vec![4]),
        ];
        assert_eq!(numbers(&plan), expected);
        assert_eq!((plan.notes, plan.left_out), (vec![], vec![]));
    }

    #[test]
    fn one_name_is_one_machine_with_several_cards() {
        let plan = plan(&[found(1, "n7", 1, None), found(2, "n7", 2, None), found(3, "n7", 1, None)]);
        assert_eq!(numbers(&plan), [(7, Rule::Name, vec![1, 2, 3])]);
        assert_eq!(plan.placed[0].macs, [mac(1), mac(2)]);
        assert!(plan.notes[0].0 == 3 && plan.notes[0].1.contains("is listed already (line 1)"));
    }

    #[test]
    fn conflicts_are_told_by_line() {
        let plan = plan(&[
            found(1, "rack1-5", 1, None),
            found(2, "rack2-5", 2, None),
            found(3, "n9", 1, None),
            found(4, "n500", 4, None),
            found(5, "n99999999999", 5, None),
        ]);
        let told: Vec<_> = plan.left_out.iter().map(|(line, _)| *line).collect();
        assert_eq!(told, [2, 3, 4]);
        assert!(
            plan.left_out[0].1.contains("rack2-5 would be n5 by its name, but rack1-5 has that number (line 1)"),
            "{:?}",
            plan.left_out
        );
        assert!(plan.left_out[1].1.contains("would be n9, but is n5 (line 1)"));
        assert!(plan.left_out[2].1.contains("nodes are n0 to n199"));
        assert_eq!(numbers(&plan).last().unwrap(), &(5, Rule::Name, vec![1]));
        assert_eq!(plan.placed[0].rule, Rule::Vacant, "a number that is none is no number");
    }

    #[test]
    fn a_full_cluster_leaves_out() {
        let plan = assign(&[found(1, "x", 1, None), found(2, "y", 2, None)], &[], 200, &Ranges::of(8, 8));
        assert_eq!((plan.placed.len(), plan.left_out[0].0), (1, 2));
    }
}
