//! `muster wait`: until nodes are in a state.

use std::time::{Duration, Instant};

use serde_json::json;

use muster::roll::ranges::Ranges;
use muster::wire::control::{NodeState, Reply, Request};

use super::Failure;
use super::client::ControlClient;
use super::look::{print, print_json};
use super::options::MusterOptions;

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(500);

/// Waits until all nodes of a selection, as it is now, are in this state; a failure names those that are not when the time is over.
pub fn wait(
    client: &mut ControlClient,
    options: &MusterOptions,
    nodes: &str,
    state: NodeState,
    timeout: Option<Duration>,
) -> Result<(), Failure> {
    let wanted = client.numbers(nodes)?;
    let reply = client.ask(&Request::Status)?;
    let Reply::Status(status) = &reply else { return ControlClient::unexpected(&reply) };
    if let Some(beyond) = wanted.last().filter(|last| *last >= status.nodes) {
        return Err(Failure::Failed(format!("there is no node {beyond}: the numbers are 0-{}", status.nodes.saturating_sub(1))));
    }
    if wanted.is_empty() {
        return Err(Failure::Failed(format!("{nodes} selects no node now")));
    }
    let begin = Instant::now();
    loop {
        let states = client.states()?;
        let mut missing = Ranges::default();
        let there = states.get(state as usize);
        wanted.iter().filter(|number| !there.is_some_and(|there| there.contains(*number))).for_each(|number| missing.add(number, number));
        let (left, name) = (missing.len(), state.name());
        if missing.is_empty() {
            return match options.json {
                true => print_json(&json!({ "state": name, "nodes": wanted.to_string(), "seconds": begin.elapsed().as_secs_f64() })),
                false => print(&[format!("{wanted}: {name}")]),
            };
        }
        if timeout.is_some_and(|timeout| begin.elapsed() >= timeout) {
            return Err(Failure::Failed(format!("{left} of {} are not {name}: {missing}", wanted.len())));
        }
        std::thread::sleep(LOOK);
    }
}
