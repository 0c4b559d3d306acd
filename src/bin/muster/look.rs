//! What muster shows: status, nodes, guests. Lists are asked for page by page and shown when they are whole.

use std::io::Write;

use serde::Serialize;

use muster::roll::ranges::Ranges;
use muster::wire::control::{LotKind, MachineRow, NodeDetail, NodeRow, NodeState, Reply, Request, Status};

use super::Failure;
use super::client::ControlClient;
use super::options::MusterOptions;
use super::table::{TextTable, counted, millis, painted, plain, seconds};

/// Prints lines; a reader that has gone is a failure.
pub fn print(lines: &[String]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    Ok(out.flush()?)
}

/// Prints a value as JSON.
pub fn print_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::Failed(error.to_string()))?;
    print(&[text])
}

pub fn status(client: &mut ControlClient, options: &MusterOptions) -> Result<(), Failure> {
    let reply = client.ask(&Request::Status)?;
    let Reply::Status(status) = reply else { return ControlClient::unexpected(&reply) };
    let states = client.states()?;
    if options.json {
        let mut value = serde_json::to_value(&status).unwrap_or_default();
        let folded =
            NodeState::ALL.iter().zip(&states).map(|(state, ranges)| (state.name().to_string(), ranges.to_string().into())).collect();
        if let Some(fields) = value.as_object_mut() {
            fields.insert("states".into(), serde_json::Value::Object(folded));
        }
        return print_json(&value);
    }
    print(&status_lines(&status, &states))
}

fn status_lines(status: &Status, states: &[Ranges]) -> Vec<String> {
    let Status { cluster, node0, nodes, numbering, version, uptime, .. } = status;
    let mut lines =
        vec![format!("{}: {nodes} nodes from {node0}, numbering {numbering}; musterd {version}, up {}", plain(cluster), seconds(*uptime))];
    for (state, ranges) in NodeState::ALL.iter().zip(states).filter(|(_, ranges)| !ranges.is_empty()) {
        lines.push(format!("{} {:>6}  {ranges}", painted(*state, &format!("{:<8}", state.name())), ranges.len()));
    }
    if status.never > 0 {
        lines.push(format!("{} assigned, but not up since: muster node list @never", counted(status.never.into(), "number")));
    }
    lines.push(format!("guests   {:>6}", status.guests));
    if status.delayed > 0 {
        let (delayed, rate) = (counted(status.delayed.into(), "guest"), status.new_numbers);
        lines.push(format!("  {delayed} passed, to be numbered soon: cluster.new-numbers is {rate} a minute"));
    }
    for network in &status.networks {
        let mut pool = format!("  {}: {} guest addresses held, {} free", network.subnet, network.guests_held, network.guests_free);
        for (n, what) in [(network.guests_left, "abandoned before their leases end"), (network.guests_quarantined, "in quarantine")] {
            if n > 0 {
                pool += &format!(", {n} {what}");
            }
        }
        lines.push(pool);
    }
    lines.push(format!("{} of {} records, {}", status.clients, status.capacity, counted(status.transfers.into(), "transfer")));
    for lane in &status.lanes {
        let measured = lane.bottleneck.map_or("not measured yet".into(), |rate| format!("carries {} Mbit/s", rate * 8 / 1_000_000));
        let (name, regime) = (plain(&lane.interface), &lane.regime);
        if let Some(trouble) = &lane.trouble {
            lines.push(format!("  {name}: not served: {}", plain(trouble)));
            continue;
        }
        let addresses = lane.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        lines.push(format!("  {name}: {addresses}"));
        lines.push(format!("    {regime}, {measured}, lap {:.0} ms, {} wait", lane.lap_ms, lane.waiting));
    }
    lines
}

pub fn nodes(client: &mut ControlClient, options: &MusterOptions, nodes: Option<&str>) -> Result<(), Failure> {
    let mut rows: Vec<NodeRow> = Vec::new();
    let mut from = Some(0);
    while let Some(at) = from {
        let reply = client.ask(&Request::NodeList { nodes: nodes.map(Into::into), from: at, limit: None })?;
        let Reply::Nodes(page) = reply else { return ControlClient::unexpected(&reply) };
        rows.extend(page.rows);
        from = page.next;
    }
    if options.json {
        return print_json(&rows);
    }
    if rows.is_empty() {
        let none = if nodes.is_some() {
            "no node is selected"
        } else {
            "no number is occupied: muster guest list shows machines without a number"
        };
        return print(&[none.into()]);
    }
    let mut table = TextTable::new(&["NODE", "STATE", "ADDRESS", "STAGE", "SINCE", "MAC", "FIRMWARE"]);
    for row in &rows {
        let more = if row.macs > 1 { format!(" +{}", row.macs - 1) } else { String::new() };
        table.row(
            Some(row.state),
            vec![
                plain(&row.name),
                row.state.name().into(),
                row.address.map_or("-".into(), |address| address.to_string()),
                row.stage.clone(),
                row.since_ms.map(millis).unwrap_or_default(),
                row.mac.map(|mac| format!("{mac}{more}")).unwrap_or_default(),
                row.firmware.clone(),
            ],
        );
    }
    print(&table.lines())
}

pub fn guests(client: &mut ControlClient, options: &MusterOptions) -> Result<(), Failure> {
    let mut rows: Vec<MachineRow> = Vec::new();
    let mut from = Some(0);
    while let Some(at) = from {
        let reply = client.ask(&Request::GuestList { from: at, limit: None })?;
        let Reply::Guests(page) = reply else { return ControlClient::unexpected(&reply) };
        rows.extend(page.rows);
        from = page.next;
    }
    if options.json {
        return print_json(&rows);
    }
    if rows.is_empty() {
        return print(&["there are no guests".into()]);
    }
    let mut table = TextTable::new(&["ID", "ADDRESS", "STAGE", "SINCE", "LEASE", "LINK", "FIRMWARE", "VERDICT"]);
    for row in &rows {
        table.row(
            None,
            vec![
                row.id.clone(),
                row.address.map_or("-".into(), |address| address.to_string()),
                row.stage.clone(),
                millis(row.since_ms),
                seconds(row.lease),
                row.interface.clone(),
                row.firmware.clone(),
                row.verdict.clone().unwrap_or_default(),
            ],
        );
    }
    print(&table.lines())
}

/// Each node of a selection.
pub fn node(client: &mut ControlClient, options: &MusterOptions, nodes: &str) -> Result<(), Failure> {
    let numbers = client.numbers(nodes)?;
    if numbers.is_empty() {
        return Err(Failure::Failed(format!("{nodes} selects no node now")));
    }
    let mut shown = Vec::new();
    for number in numbers.iter() {
        let reply = client.ask(&Request::NodeShow { number })?;
        let Reply::Node(node) = reply else { return ControlClient::unexpected(&reply) };
        if options.json {
            shown.push(node);
        } else {
            print(&node_lines(&node))?;
        }
    }
    match (options.json, shown.as_slice()) {
        (false, _) => Ok(()),
        (true, [one]) => print_json(one),
        (true, all) => print_json(&all),
    }
}

fn node_lines(node: &NodeDetail) -> Vec<String> {
    let address = node.address.map_or("-".into(), |address| address.to_string());
    let kind = match node.lot.kind {
        LotKind::Vacant => "",
        kind => kind.name(),
    };
    let mut lines = vec![format!("{}  {address}  {}  {kind}", node.name, painted(node.state, node.state.name())).trim_end().to_string()];
    lines.extend(node.lot.macs.iter().map(|mac| format!("  mac       {mac}")));
    lines.extend(node.lot.facts.iter().map(|(name, value)| format!("  {name:<9} {}", plain(value))));
    node.boots.iter().for_each(|boot| lines.extend(boot_lines(boot)));
    if !node.given.is_empty() {
        lines.push("  given:".into());
        let mut table = TextTable::new(&["    KEY", "FROM", "VALUE"]);
        node.given.iter().for_each(|given| table.row(None, vec![format!("    {}", given.key), given.from.clone(), given.value.clone()]));
        lines.extend(table.lines());
    }
    lines
}

fn boot_lines(boot: &MachineRow) -> Vec<String> {
    let address = boot.address.map_or("no address".into(), |address| format!("{address} for {}", seconds(boot.lease)));
    let mut lines = vec![format!("  {} on {}, {}: {}", plain(&boot.id), plain(&boot.interface), boot.firmware, plain(&boot.stage))];
    lines.push(format!("    since {}, {address}", millis(boot.since_ms)));
    let steps: Vec<String> = boot.steps.iter().map(|step| format!("{} {} ago", step.stage, millis(step.ago_ms))).collect();
    if !steps.is_empty() {
        lines.push(format!("    {}", steps.join(", ")));
    }
    if !boot.story.is_empty() {
        lines.push(format!("    {}", plain(&boot.story)));
    }
    lines
}

/// Reload or checkpoint.
pub fn command(client: &mut ControlClient, options: &MusterOptions, request: &Request) -> Result<(), Failure> {
    let reply = client.ask(request)?;
    let Reply::Done { said } = &reply else { return ControlClient::unexpected(&reply) };
    match options.json {
        true => print_json(&reply),
        false => print(&said.iter().map(|line| plain(line)).collect::<Vec<_>>()),
    }
}
