//! `muster watch`: every step of every machine, until Ctrl-C.

use muster::shell::local_time;
use muster::wire::control::{NodeState, Reply, Request, WatchEvent};

use super::Failure;
use super::client::ControlClient;
use super::look::print;
use super::options::MusterOptions;
use super::table::{painted, plain};

pub fn watch(client: &mut ControlClient, options: &MusterOptions) -> Result<(), Failure> {
    let reply = client.ask(&Request::Watch)?;
    let Reply::Watching = reply else { return ControlClient::unexpected(&reply) };
    client.be_patient()?;
    while let Some(reply) = client.next_for(&std::io::stdout())? {
        let line = match (&reply, options.json) {
            (Reply::Event(_) | Reply::Lost { .. }, true) => serde_json::to_string(&reply).unwrap_or_default(),
            (Reply::Event(event), false) => shown(event),
            (Reply::Lost { count }, false) => format!("({count} steps not shown: too many at once)"),
            _ => return ControlClient::unexpected(&reply),
        };
        print(&[line])?;
    }
    Err(Failure::Failed("the daemon closed the connection: it stopped, or this program read too slowly".into()))
}

/// `12:03:05 n17 52:54:00:12:34:56 offer 10.54.1.17`
fn shown(event: &WatchEvent<String>) -> String {
    let (hour, minute, second) = local_time(event.time);
    let who = event.number.map_or("guest".into(), |number| format!("n{number}"));
    let text = plain(&event.text);
    let text = match (event.trouble, event.stage.as_str()) {
        (true, _) => painted(NodeState::Stuck, &text),
        (false, "up") => painted(NodeState::Up, &text),
        _ => text,
    };
    format!("{hour:02}:{minute:02}:{second:02} {who:<6} {:<17} {text}", plain(&event.id))
}
