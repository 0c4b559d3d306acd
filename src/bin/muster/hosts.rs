//! The plan in the forms of other programs: names and addresses by arithmetic, of all lots or of a selection.

use std::fmt::Write;
use std::net::Ipv4Addr;

use muster::roll::plan::{AddressPlan, NodeNames, Number, Segment};
use muster::roll::ranges::Ranges;
use muster::wire::control::{Reply, Request, Status};
use serde::Serialize;

use super::Failure;
use super::client::ControlClient;
use super::look::{print, print_json};
use super::options::MusterOptions;

/// Whose form it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// hosts(5)
    Hosts,
    /// A genders file.
    Genders,
    /// A source of ClusterShell's groups, in YAML.
    ClusterShell,
    /// `NodeName=` of slurm.conf(5)
    Slurm,
    /// An inventory in INI.
    Ansible,
}

impl Form {
    pub const ALL: [(Form, &'static str); 5] = [
        (Form::Hosts, "hosts"),
        (Form::Genders, "genders"),
        (Form::ClusterShell, "clustershell"),
        (Form::Slurm, "slurm"),
        (Form::Ansible, "ansible"),
    ];
}

/// One node, for `--json`.
#[derive(Serialize)]
struct HostRow {
    number: u32,
    name: String,
    address: String,
}

/// Prints the nodes of a selection, without one all that the plan has.
pub fn hosts(client: &mut ControlClient, options: &MusterOptions, form: Form, nodes: Option<&str>) -> Result<(), Failure> {
    let reply = client.ask(&Request::Status)?;
    let Reply::Status(status) = reply else { return ControlClient::unexpected(&reply) };
    let plan = plan(&status)
        .ok_or_else(|| Failure::Failed("cannot understand the daemon's plan: use the same version of muster and musterd".into()))?;
    let mut numbers = Ranges::default();
    match nodes {
        Some(nodes) => numbers = client.numbers(nodes)?,
        None => numbers.add(0, plan.nodes().saturating_sub(1)),
    }
    if let Some(beyond) = numbers.iter().find(|number| *number >= plan.nodes()) {
        return Err(Failure::Failed(format!("n{beyond} does not exist; nodes are n0 to n{}", plan.nodes() - 1)));
    }
    if numbers.is_empty() {
        return Err(Failure::Failed("no node is selected".into()));
    }
    match options.json {
        true => print_json(&numbers.iter().filter_map(|number| entry(&plan, number)).collect::<Vec<_>>()),
        false => print(&lines(form, &plan, status.head, &numbers)),
    }
}

fn plan(status: &Status) -> Option<AddressPlan> {
    let pieces =
        status.segments.iter().map(|piece| Segment { first: Number(piece.first), last: Number(piece.last), address: piece.address });
    let names = NodeNames::new(&status.prefix, status.digits, &status.cluster)?;
    Some(AddressPlan::segmented(status.node0, status.nodes, &pieces.collect::<Vec<_>>())?.named(names))
}

fn entry(plan: &AddressPlan, number: u32) -> Option<HostRow> {
    let address = plan.address(Number(number))?.to_string();
    Some(HostRow { number, name: plan.names().of(Number(number)).to_string(), address })
}

fn lines(form: Form, plan: &AddressPlan, head: Option<Ipv4Addr>, numbers: &Ranges) -> Vec<String> {
    let names = plan.names();
    let runs = || numbers.runs().iter().copied();
    match form {
        Form::Hosts => {
            let full = |name: &str| if names.domain().is_empty() { String::new() } else { format!("{name}.{}\t", names.domain()) };
            let head = head.map(|head| format!("{head}\t{}head master", full("head")));
            let nodes = numbers.iter().filter_map(|number| entry(plan, number));
            head.into_iter().chain(nodes.map(|HostRow { name, address, .. }| format!("{address}\t{}{name}", full(&name)))).collect()
        }
        Form::Genders => vec![format!("{} node", folded(names, runs(), "-"))],
        Form::ClusterShell => vec!["muster:".into(), format!("    all: '{}'", folded(names, runs(), "-"))],
        Form::Slurm => vec![format!("NodeName={} State=UNKNOWN", folded(names, runs(), "-"))],
        Form::Ansible => {
            let each = runs().map(|run| folded(names, std::iter::once(run), ":"));
            std::iter::once("[nodes]".to_string()).chain(each).collect()
        }
    }
}

/// `n[0-31,40]`, `n7`; numbers with the leading zeros that names have.
fn folded(names: &NodeNames, runs: impl Iterator<Item = (u32, u32)>, to: &str) -> String {
    let width = usize::from(names.digits());
    let runs: Vec<(u32, u32)> = runs.collect();
    if let [(one, last)] = runs.as_slice() {
        if one == last {
            return names.of(Number(*one)).to_string();
        }
    }
    let mut text = format!("{}[", names.prefix());
    for (at, (first, last)) in runs.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}{first:0width$}");
        if first != last {
            let _ = write!(text, "{to}{last:0width$}");
        }
    }
    text + "]"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(form: Form, numbers: &[(u32, u32)], digits: u8) -> String {
        let rack = Segment { first: Number(2), last: Number(3), address: [10, 55, 1, 0].into() };
        let names = NodeNames::new("n", digits, "cluster").unwrap();
        let plan = AddressPlan::segmented([10, 54, 1, 0].into(), 1200, &[rack]).unwrap().named(names);
        let mut ranges = Ranges::default();
        numbers.iter().for_each(|(first, last)| ranges.add(*first, *last));
        lines(form, &plan, Some([10, 54, 0, 1].into()), &ranges).join("\n")
    }

    #[test]
    fn forms() {
        let some = [(1, 2), (40, 40)];
        assert_eq!(
            told(Form::Hosts, &some, 1),
            "10.54.0.1\thead.cluster\thead master\n10.54.1.1\tn1.cluster\tn1\n10.55.1.0\tn2.cluster\tn2\n10.54.1.40\tn40.cluster\tn40"
        );
        assert_eq!(told(Form::Genders, &some, 1), "n[1-2,40] node");
        assert_eq!(told(Form::ClusterShell, &some, 3), "muster:\n    all: 'n[001-002,040]'");
        assert_eq!(told(Form::Slurm, &[(0, 1199)], 1), "NodeName=n[0-1199] State=UNKNOWN");
        assert_eq!(told(Form::Slurm, &[(7, 7)], 4), "NodeName=n0007 State=UNKNOWN");
        assert_eq!(told(Form::Ansible, &some, 1), "[nodes]\nn[1:2]\nn40");
    }
}
