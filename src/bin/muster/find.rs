//! `muster find` and `muster why`: whose something is, and why a machine is not up.

use serde_json::json;

use muster::roll::ranges;
use muster::wire::control::{FoundRow, LotKind, MachineRow, NodeDetail, NodeState, Reply, Request};

use super::Failure;
use super::client::ControlClient;
use super::look::{print, print_json};
use super::options::MusterOptions;
use super::table::{TextTable, millis, plain, seconds};

pub fn find(client: &mut ControlClient, options: &MusterOptions, text: &str) -> Result<(), Failure> {
    let rows = found(client, text)?;
    if options.json {
        print_json(&rows)?;
    }
    if rows.is_empty() {
        return Err(Failure::Failed(format!("no node and no guest has {text:?} (muster guest list shows machines without a number)")));
    }
    if options.json {
        return Ok(());
    }
    let mut table = TextTable::new(&["WHO", "STAGE", "ADDRESS", "MAC", "MATCH"]);
    for row in &rows {
        let address = row.address.map_or("-".into(), |address| address.to_string());
        table.row(None, vec![row.name.clone(), row.stage.clone(), address, row.id.clone(), format!("{} {}", row.what, row.value)]);
    }
    print(&table.lines())
}

fn found(client: &mut ControlClient, text: &str) -> Result<Vec<FoundRow>, Failure> {
    let mut rows = Vec::new();
    let mut from = Some(0);
    while let Some(at) = from {
        let reply = client.ask(&Request::Find { text: text.into(), from: at })?;
        let Reply::Found(page) = reply else { return ControlClient::unexpected(&reply) };
        rows.extend(page.rows);
        from = page.next;
    }
    Ok(rows)
}

pub fn why(client: &mut ControlClient, options: &MusterOptions, whom: &str) -> Result<(), Failure> {
    let (who, lines) = match meant(client, whom)? {
        Whose::Node(number) => {
            let reply = client.ask(&Request::NodeShow { number })?;
            let Reply::Node(node) = reply else { return ControlClient::unexpected(&reply) };
            (node.name.clone(), of_node(&node))
        }
        Whose::Guest(id) => {
            let guest = guest(client, &id)?;
            (guest.id.clone(), of_guest(&guest))
        }
    };
    if options.json {
        return print_json(&json!({ "who": who, "said": lines }));
    }
    print(&lines.iter().map(|line| plain(line)).collect::<Vec<_>>())
}

enum Whose {
    Node(u32),
    Guest(String),
}

/// Who is meant by a number, a name, or anything that [`find`] finds.
fn meant(client: &mut ControlClient, whom: &str) -> Result<Whose, Failure> {
    if let Ok(selection) = ranges::parse(whom)
        && let ([], [(first, last)]) = (selection.groups.as_slice(), selection.numbers.runs())
        && first == last
    {
        return Ok(Whose::Node(*first));
    }
    let rows = found(client, whom)?;
    match rows.as_slice() {
        [row] => Ok(row.number.map_or_else(|| Whose::Guest(row.id.clone()), Whose::Node)),
        [] => Err(Failure::Failed(format!(
            "no node and no guest has {whom:?}: nothing of such a machine was heard on a boot interface (check its cable and switch port; \
             muster doctor looks at this side)"
        ))),
        _ => Err(Failure::Failed(format!("{whom:?} can mean several machines: muster find {whom} lists them"))),
    }
}

fn guest(client: &mut ControlClient, id: &str) -> Result<MachineRow, Failure> {
    let mut from = Some(0);
    while let Some(at) = from {
        let reply = client.ask(&Request::GuestList { from: at, limit: None })?;
        let Reply::Guests(page) = reply else { return ControlClient::unexpected(&reply) };
        if let Some(row) = page.rows.into_iter().find(|row| row.id == id) {
            return Ok(row);
        }
        from = page.next;
    }
    Err(Failure::Failed(format!("{id} has gone just now")))
}

/// Facts of a number that say something of why its machine is not up.
const TELLING: [&str; 6] = ["conflict", "failed", "address", "before the restart", "reserved for", "came up"];

/// Where a node stands, what it has done, and what to do about it.
fn of_node(node: &NodeDetail) -> Vec<String> {
    let name = &node.name;
    let mut lines = vec![match (node.state, node.boots.first()) {
        (NodeState::Up, _) | (_, None) => format!("{name} is {}", node.state.name()),
        (NodeState::Stuck, Some(boot)) => format!("{name} is {}, since {}", boot.stage, millis(boot.since_ms)),
        (state, Some(boot)) => format!("{name} is {}: {} since {}", state.name(), boot.stage, millis(boot.since_ms)),
    }];
    node.boots.iter().for_each(|boot| lines.extend(history(boot)));
    let telling = node.lot.facts.iter().filter(|(fact, _)| TELLING.contains(&fact.as_str()));
    lines.extend(telling.map(|(fact, value)| format!("  {fact}: {value}")));
    lines.extend(node_remedy(node).map(|remedy| format!("  do: {remedy}")));
    lines
}

fn node_remedy(node: &NodeDetail) -> Option<String> {
    let number = node.number;
    match (node.state, node.lot.kind, node.boots.first()) {
        (NodeState::Up, ..) => None,
        (_, LotKind::Vacant, _) => {
            Some(format!("no machine has this number: muster node set {number} --mac MAC, or muster guest enlist ID {number}"))
        }
        (NodeState::Failed, ..) => Some("mend what failed and boot it again, or muster node replace it".into()),
        (NodeState::Reserved, ..) => Some("it waits for its machine, see `reserved for`".into()),
        (_, _, Some(boot)) => Some(remedy(boot)),
        (_, _, None) => {
            let macs = node.lot.macs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Some(format!(
                "nothing was heard of {macs} since the daemon began: check power, cable, boot order and switch port; if the machine has another \
                 card now, muster guest list shows it, and muster node set {number} --add MAC makes it this node's"
            ))
        }
    }
}

fn of_guest(guest: &MachineRow) -> Vec<String> {
    let mut lines = vec![format!("{} has no number: {} since {}", guest.id, guest.stage, millis(guest.since_ms))];
    lines.extend(history(guest));
    let remedy = match &guest.verdict {
        Some(verdict) => format!("its test said: {verdict}; muster guest enlist {} gives it a number", guest.id),
        None if guest.stage == "up" => format!(
            "its system has not reported a test: run muster-in(8) in its initramfs, or give it a number by muster guest enlist {}",
            guest.id
        ),
        None => remedy(guest),
    };
    lines.push(format!("  do: {remedy}"));
    lines
}

/// What was heard of a machine, and what it was told.
fn history(boot: &MachineRow) -> Vec<String> {
    let address = boot.address.map_or("no address".into(), |address| format!("{address} for {}", seconds(boot.lease)));
    let mut lines = vec![format!("  {} on {}: {}, {address}", boot.id, boot.interface, boot.firmware)];
    let steps: Vec<String> = boot.steps.iter().map(|step| format!("{} {} ago", step.stage, millis(step.ago_ms))).collect();
    if !steps.is_empty() {
        lines.push(format!("    {}", steps.join(", ")));
    }
    if !boot.story.is_empty() {
        lines.push(format!("    {}", boot.story));
    }
    lines
}

/// What to do about a machine that stands there.
fn remedy(boot: &MachineRow) -> String {
    let stage = boot.stage.strip_prefix("stuck: ").unwrap_or(&boot.stage);
    let says = |words: &[&str]| words.iter().any(|word| stage.contains(word));
    let remedy = match stage.split(' ').next().unwrap_or_default() {
        _ if says(&["file not found", "permission denied", "leads out"]) => {
            "put that file into the root, or correct the config; muster doctor looks at all boot files"
        }
        _ if says(&["no REQUEST"]) => {
            "it was offered an address and did not take it: another DHCP server may be faster, or the answer is lost (muster doctor)"
        }
        _ if says(&["did not request"]) => {
            "it has its address and asks for no file: look for Secure Boot, another boot entry, or a firewall that rejects (muster doctor)"
        }
        "discover" | "probing" | "offered" => "it is being answered: wait a moment, and look again",
        "loading" => "it loads: muster watch shows its steps",
        "loaded" => "its files are loaded, and its system has yet to ask for its address: look at its console",
        _ => "look at its console; muster watch shows its next steps",
    };
    remedy.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster::wire::control::LotDetail;

    fn boot(stage: &str) -> MachineRow {
        let row = json!({
            "id": "52:54:00:00:00:01", "number": 5, "address": "10.54.1.5", "interface": "eth1", "firmware": "edk2 efi-x64", "stage": stage,
            "since_ms": 61_000, "lease": 3600, "transfers": 0, "steps": [{ "stage": "discover", "ago_ms": 62_000 }], "story": "discover (edk2)"
        });
        serde_json::from_value(row).unwrap()
    }

    fn node(state: NodeState, kind: LotKind, boots: Vec<MachineRow>) -> NodeDetail {
        let macs = vec!["52:54:00:00:00:01".parse().unwrap()];
        let facts = vec![("serial".into(), "X".into()), ("conflict".into(), "two of them".into())];
        let lot = LotDetail { kind, macs, facts };
        NodeDetail { number: 5, name: "n5".into(), address: None, state, lot, boots, given: Vec::new() }
    }

    #[test]
    fn a_stuck_node_is_told_where_and_what_to_do() {
        let lines = of_node(&node(NodeState::Stuck, LotKind::Occupied, vec![boot("stuck: tftp vmlinuz: file not found")]));
        assert!(lines[0].starts_with("n5 is stuck: tftp vmlinuz: file not found, since "), "{lines:?}");
        assert!(lines.iter().any(|line| line.contains("conflict: two of them")) && !lines.iter().any(|line| line.contains("serial")));
        assert!(lines.last().unwrap().contains("put that file into the root"), "{lines:?}");
    }

    #[test]
    fn a_silent_node_names_its_cards() {
        let lines = of_node(&node(NodeState::Down, LotKind::Occupied, Vec::new()));
        assert!(lines.last().unwrap().contains("nothing was heard of 52:54:00:00:00:01"), "{lines:?}");
        let vacant = of_node(&node(NodeState::Vacant, LotKind::Vacant, Vec::new()));
        assert!(vacant.last().unwrap().contains("no machine has this number"), "{vacant:?}");
    }

    #[test]
    fn every_stage_has_its_remedy() {
        for (stage, word) in [
            ("stuck: no REQUEST for the offer", "another DHCP server"),
            ("stuck: did not request snponly.efi", "Secure Boot"),
            ("loading vmlinuz 42 %", "it loads"),
            ("loaded", "console"),
        ] {
            assert!(remedy(&boot(stage)).contains(word), "{stage}");
        }
    }
}
