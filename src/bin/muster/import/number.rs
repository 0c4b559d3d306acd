//! Which number an imported machine gets: the one its file gives it; else the one that its address has in the plan; else that of its address
//! in /etc/hosts; else the one at the end of its name; else the lowest lot that is vacant here and that nobody else of the files gets, in the order
//! of names where the numbers at their ends are not enough (`rack2-7`), or in the order of lines. The surer rule goes first over everything.

use std::collections::{BTreeMap, BTreeSet};

use muster::base::addr::Mac;
use muster::roll::ranges::Ranges;

use super::names;
use super::record::{Place, Remark};
use super::screen::{ClusterPlan, JoinedMachine, Screened};

/// How a number was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    Index,
    Address,
    Hosts,
    Name,
    Order,
    Vacant,
}

impl Rule {
    pub fn name(self) -> &'static str {
        match self {
            Rule::Index => "its number in the file",
            Rule::Address => "its address",
            Rule::Hosts => "its address in /etc/hosts",
            Rule::Name => "its name",
            Rule::Order => "order of names",
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
    pub places: Vec<Place>,
}

/// What becomes of the files.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ImportPlan {
    /// In order of their numbers.
    pub placed: Vec<Placed>,
    /// Worth knowing.
    pub notes: Vec<Remark>,
    /// What is no node, and why.
    pub no_nodes: Vec<Remark>,
    /// Not imported though it was meant to be, and why.
    pub left_out: Vec<Remark>,
}

/// A machine's claim: how sure it is (the smaller the surer), by what rule, to what number.
type Claim = (u8, Rule, Option<u32>);

/// Gives every machine a number.
pub fn assign(screened: Screened, plan: &ClusterPlan, vacant: &Ranges) -> ImportPlan {
    let Screened { machines, no_nodes, left_out, notes, family } = screened;
    let mut result = Placing { plan: ImportPlan { placed: Vec::new(), notes, no_nodes, left_out }, ..Placing::default() };
    let mut claims: Vec<Claim> = machines.iter().map(|machine| claim(machine, plan, family.as_deref())).collect();
    by_order(&mut result, &machines, &mut claims, family.as_deref());
    let order = |at: &usize| {
        let claim = claims.get(*at).copied().unwrap_or((u8::MAX, Rule::Vacant, None));
        let by_name = machines.get(*at).filter(|_| claim.1 == Rule::Order).map(|machine| names::order(&machine.name));
        (claim.0, by_name.unwrap_or_default(), *at)
    };
    let mut turns: Vec<usize> = (0..machines.len()).collect();
    turns.sort_by_cached_key(order);
    let mut free = vacant.iter();
    for at in turns {
        let (Some(machine), Some((_, rule, number))) = (machines.get(at), claims.get(at).copied()) else { continue };
        let number = number.or_else(|| result.twin(machine)).or_else(|| free.find(|number| !result.places.contains_key(number)));
        match number {
            None => result.leave_out(machine.place(), format!("no number is vacant for {}", machine.title())),
            Some(number) if number >= plan.nodes => {
                let last = plan.nodes.saturating_sub(1);
                let why = format!("{} would be n{number} by {}, but nodes are n0 to n{last}", machine.title(), rule.name());
                result.leave_out(machine.place(), why);
            }
            Some(number) => result.settle(machine, rule, number),
        }
    }
    let mut result = ImportPlan { placed: result.places.into_values().collect(), ..result.plan };
    result.placed.iter_mut().for_each(|placed| placed.places.sort_unstable());
    result
}

fn claim(machine: &JoinedMachine, plan: &ClusterPlan, family: Option<&str>) -> Claim {
    let listed = || plan.hosts.get(&names::short(&machine.name)).and_then(|address| plan.number(*address));
    let named = names::trailing(&machine.name);
    if machine.index.is_some() {
        (0, Rule::Index, machine.index)
    } else if let Some((_, number)) = plan.inside(&machine.addresses) {
        (1, Rule::Address, Some(number))
    } else if let (None, Some(number)) = (named, listed()) {
        (2, Rule::Hosts, Some(number))
    } else if let Some(number) = plan.own(&machine.name) {
        (3, Rule::Name, Some(number))
    } else if named.is_some() {
        (if family == Some(&names::family(&machine.name)) { 4 } else { 5 }, Rule::Name, named)
    } else {
        (7, Rule::Vacant, None)
    }
}

/// Names of racks end in the same numbers: then those machines are numbered in the order of their names.
fn by_order(result: &mut Placing, machines: &[JoinedMachine], claims: &mut [Claim], family: Option<&str>) {
    let rank = if family.is_some() { 4 } else { 5 };
    let mut seen: BTreeMap<u32, &JoinedMachine> = BTreeMap::new();
    let claimed = machines.iter().zip(claims.iter()).filter(|(_, claim)| claim.0 == rank);
    let mut twice = claimed.filter_map(|(machine, claim)| Some((machine, seen.insert(claim.2?, machine)?)));
    let Some((machine, other)) = twice.next() else { return };
    let why = format!(
        "names such as {} and {} end in the same number: these machines are numbered in the order of their names (a CSV with columns number,mac says otherwise)",
        other.name, machine.name
    );
    result.plan.notes.push((machine.place(), why));
    claims.iter_mut().filter(|claim| claim.0 == rank).for_each(|claim| *claim = (6, Rule::Order, None));
}

/// Where something else stands.
fn seen_from(here: Place, other: Place) -> String {
    let file = if here.file == other.file { "" } else { " of another file" };
    format!("line {}{file}", other.line)
}

/// Numbers that are given so far.
#[derive(Default)]
struct Placing {
    plan: ImportPlan,
    places: BTreeMap<u32, Placed>,
    owners: BTreeMap<Mac, (u32, Place)>,
}

impl Placing {
    fn leave_out(&mut self, place: Place, why: String) {
        self.plan.left_out.push((place, why));
    }

    /// The number of a machine without a claim whose MAC is there already.
    fn twin(&self, machine: &JoinedMachine) -> Option<u32> {
        machine.macs.iter().find_map(|(mac, _)| self.owners.get(mac)).map(|(number, _)| *number)
    }

    fn settle(&mut self, machine: &JoinedMachine, rule: Rule, number: u32) {
        let owned = |(mac, place): &(Mac, Place)| {
            let (own, at) = self.owners.get(mac).filter(|(own, _)| *own != number)?;
            Some((*place, format!("{mac} would be n{number}, but is n{own} ({})", seen_from(*place, *at))))
        };
        if let Some((place, why)) = machine.macs.iter().find_map(owned) {
            return self.leave_out(place, why);
        }
        let strange = |held: &&Placed| {
            let all = machine.macs.iter().all(|(mac, _)| held.macs.contains(mac));
            !(all || machine.name.is_empty() && held.name.is_empty() || names::agree(&machine.name, &held.name))
        };
        if let Some(held) = self.places.get(&number).filter(strange) {
            let other = if held.name.is_empty() { "another machine" } else { &held.name };
            let at = seen_from(machine.place(), held.places.first().copied().unwrap_or_default());
            let why = format!("{} would be n{number} by {}, but {other} has that number ({at})", machine.title(), rule.name());
            return self.leave_out(machine.place(), why);
        }
        let fresh = || Placed { number, rule, name: machine.name.clone(), macs: Vec::new(), places: Vec::new() };
        let held = self.places.entry(number).or_insert_with(fresh);
        if held.name.is_empty() {
            held.name = machine.name.clone();
        }
        held.places.extend(&machine.places);
        for (mac, place) in &machine.macs {
            match self.owners.get(mac) {
                Some((_, first)) => self.plan.notes.push((*place, format!("{mac} is listed already ({})", seen_from(*place, *first)))),
                None => {
                    self.owners.insert(*mac, (number, *place));
                    held.macs.push(*mac);
                }
            }
        }
    }
}

/// What names and addresses say against each other, and against the plan: a sentence each.
pub fn remarks(placed: &[Placed], machines: &[JoinedMachine], plan: &ClusterPlan, family: Option<&str>) -> Vec<String> {
    let mut told = Vec::new();
    let addresses: BTreeMap<&str, &JoinedMachine> = machines.iter().map(|machine| (machine.name.as_str(), machine)).collect();
    let moved: Vec<(&Placed, String)> = placed
        .iter()
        .filter(|placed| matches!(placed.rule, Rule::Name | Rule::Order | Rule::Vacant) && !placed.name.is_empty())
        .filter_map(|placed| Some((placed, addresses.get(placed.name.as_str())?.addresses.first()?.to_string())))
        .collect();
    if let Some((first, before)) = moved.first() {
        let after = plan.address(first.number).map(|address| address.to_string()).unwrap_or_default();
        told.push(format!(
            "machines that get another address than they have in the file: {}, such as {}: {before} there, {after} here",
            moved.len(),
            first.name
        ));
    }
    let mut named: Vec<(&Placed, u32)> = placed
        .iter()
        .filter(|placed| placed.rule == Rule::Address && family.is_some_and(|family| family == names::family(&placed.name)))
        .filter_map(|placed| Some((placed, names::trailing(&placed.name)?)))
        .collect();
    named.sort_by_key(|(placed, _)| names::order(&placed.name));
    told.extend(disagreement(&named, plan));
    told.extend(own_names(placed, plan, family));
    told
}

/// Where numbers by address are not those at the end of the names.
fn disagreement(named: &[(&Placed, u32)], plan: &ClusterPlan) -> Option<String> {
    let offsets: BTreeSet<i64> = named.iter().map(|(placed, name)| i64::from(placed.number) - i64::from(*name)).collect();
    let (first, last) = (named.first()?, named.last()?);
    let racks = names::family(&first.0.name).matches('#').count() > 1;
    let falls = named.len() > 1 && named.windows(2).all(|pair| matches!(pair, [(one, _), (next, _)] if one.number > next.number));
    let pair = |(placed, _): &(&Placed, u32)| format!("{} is n{}", placed.name, placed.number);
    match offsets.iter().collect::<Vec<_>>().as_slice() {
        [0] => None,
        [offset] if named.len() > 1 && !racks => {
            let node0 = plan.address(0).and_then(|node0| u32::try_from(i64::from(u32::from(node0)) + **offset).ok());
            let node0 = node0.map(|node0| format!(": with node0 = \"{}\" in [cluster] both are the same", std::net::Ipv4Addr::from(node0)));
            let (from, to) = (first.1, last.1);
            Some(format!("names say {from} to {to}, addresses say {} to {}{}", first.0.number, last.0.number, node0.unwrap_or_default()))
        }
        _ if falls => Some(format!("addresses fall while names rise: {} and {}", pair(first), pair(last))),
        _ if racks => None,
        _ => {
            let other = named.iter().filter(|(placed, name)| placed.number != *name);
            let one = other.clone().next()?;
            Some(format!("machines whose number is not the one in their name: {}, such as {}, by its address", other.count(), pair(one)))
        }
    }
}

/// How the nodes can keep the names that they have.
fn own_names(placed: &[Placed], plan: &ClusterPlan, family: Option<&str>) -> Option<String> {
    let stem = family?.strip_suffix('#').filter(|stem| !stem.is_empty() && !stem.contains('#') && *stem != plan.prefix.to_lowercase())?;
    let of_family = placed.iter().filter(|placed| Some(names::family(&placed.name).as_str()) == family);
    let mut same = of_family.clone().filter(|placed| names::trailing(&placed.name) == Some(placed.number)).peekable();
    let first = *same.peek()?;
    let digits = |placed: &Placed| names::short(&placed.name).len() - stem.len();
    let width = digits(first);
    let zeros = of_family
        .clone()
        .any(|placed| names::short(&placed.name).get(stem.len()..).is_some_and(|rest| rest.len() > 1 && rest.starts_with('0')));
    if same.count() != of_family.clone().count() {
        return None;
    }
    let padded = if zeros { format!(" and digits = {width}") } else { String::new() };
    Some(format!(
        "muster will call {} n{}: with prefix = \"{stem}\"{padded} in [cluster] nodes keep their names",
        names::short(&first.name),
        first.number
    ))
}

#[cfg(test)]
mod tests;
