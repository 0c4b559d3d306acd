//! Changes of thousands of numbers for real: a daemon that is killed at any moment in the middle of one, or right behind its answer.

mod common;
#[path = "common/strangers.rs"]
#[allow(dead_code)] // each test crate uses its own part of it
mod strangers;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use common::musterd::Musterd;
use common::{Host, Lab, wait, write};
use muster::roll::journal::crc32;
use serde_json::Value;
use strangers::Strangers;

const SERVER: &str = "10.54.0.1/16";
const NODES: u64 = 2000;

/// Starts a daemon whose machines wait for an operator to be numbered.
fn start(server: &Host, lab: &Lab, state: &Path) -> Musterd {
    let config = strangers::CONFIG.replace("[dhcp]", "numbering = \"ordered\"\n[dhcp]");
    Musterd::keeping(server, lab.dir(), &config, state)
}

fn arguments<'a>(musterd: &'a Musterd, socket: &'a mut String, more: &[&'a str]) -> Vec<&'a str> {
    *socket = musterd.run_dir().join("control.sock").to_str().expect("a path of ours").into();
    [&["--socket", socket.as_str()], more].concat()
}

/// Runs muster to its end; gives what it says as JSON.
fn muster(server: &Host, musterd: &Musterd, more: &[&str]) -> Value {
    let mut socket = String::new();
    let more = [more, &["--json"]].concat();
    let said = server.run(60, env!("CARGO_BIN_EXE_muster"), &arguments(musterd, &mut socket, &more)).must("muster");
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// How many numbers have a machine.
fn occupied(server: &Host, musterd: &Musterd) -> u64 {
    let status = muster(server, musterd, &["status"]);
    let states = status["states"].as_object().unwrap_or_else(|| panic!("{status}"));
    let count = |text: &str| -> u64 {
        let run = |run: &str| match run.split_once('-') {
            Some((first, last)) => last.parse::<u64>().expect("a number") - first.parse::<u64>().expect("a number") + 1,
            None => u64::from(!run.is_empty()),
        };
        text.split(',').map(run).sum()
    };
    states.iter().filter(|(state, _)| *state != "vacant").map(|(_, nodes)| count(nodes.as_str().unwrap_or(""))).sum()
}

fn import(server: &Host, musterd: &Musterd, ethers: &Path) {
    muster(server, musterd, &["import", ethers.to_str().expect("a path of ours"), "-y"]);
    assert_eq!(occupied(server, musterd), NODES);
}

fn ethers(lab: &Lab) -> std::path::PathBuf {
    let path = lab.dir().join("ethers");
    let line = |n: u64| format!("02:62:00:00:{:02x}:{:02x} n{n}\n", n / 256, n % 256);
    write(&path, (0..NODES).map(line).collect::<String>().as_bytes());
    path
}

#[test]
fn what_an_operator_was_told_of_two_thousand_numbers_outlives_the_daemon() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let (ethers, state) = (ethers(&lab), lab.dir().join("state"));
    let musterd = start(&server, &lab, &state);
    import(&server, &musterd, &ethers);
    let done = muster(&server, &musterd, &["node", "out", "0-1999", "-y"]);
    assert_eq!((done["count"].as_u64(), done["nodes"].as_str()), (Some(NODES), Some("0-1999")), "{done}");
    musterd.kill();
    let musterd = start(&server, &lab, &state);
    assert_eq!(occupied(&server, &musterd), 0);
    import(&server, &musterd, &ethers);
    assert_eq!(muster(&server, &musterd, &["undo", "-y"])["count"].as_u64(), Some(NODES), "an import is taken back whole");
    assert_eq!(occupied(&server, &musterd), 0);
    assert_eq!(muster(&server, &musterd, &["undo", "-y"])["count"].as_u64(), Some(NODES));
    musterd.kill();
    let musterd = start(&server, &lab, &state);
    assert_eq!(occupied(&server, &musterd), NODES);
    assert!(musterd.seen("an unfinished change").is_none(), "{}", musterd.log());
}

#[test]
fn a_daemon_that_is_killed_in_the_middle_has_done_all_of_it_or_nothing() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let (ethers, state) = (ethers(&lab), lab.dir().join("state"));
    let mut musterd = start(&server, &lab, &state);
    import(&server, &musterd, &ethers);
    let size = || std::fs::metadata(state.join("journal")).map_or(0, |file| file.len());
    let mut done = 0;
    for round in 0..8u64 {
        let before = size();
        let mut socket = String::new();
        let mut asking = server.command(env!("CARGO_BIN_EXE_muster"));
        asking.args(arguments(&musterd, &mut socket, &["node", "out", "0-1999", "-y"])).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut asking = asking.spawn().expect("start muster");
        // From when the first of it is in the file, up to when most of it may be.
        assert!(wait(30, || (size() > before).then_some(())).is_some(), "{}", musterd.log());
        std::thread::sleep(Duration::from_millis(round * round / 2));
        musterd.kill();
        let answered = asking.wait().expect("wait for a child of ours").success();
        musterd = start(&server, &lab, &state);
        let left = occupied(&server, &musterd);
        assert!(left == 0 || left == NODES && !answered, "round {round}: {left} of {NODES} are left, answered: {answered}");
        if left == 0 {
            done += 1;
            import(&server, &musterd, &ethers);
        }
    }
    println!("8 kills: {done} were done");
}

/// Where a kill lands depends on the machine's speed; where a power cut leaves the file is cut here by hand.
#[test]
fn a_journal_that_ends_anywhere_in_a_change_has_none_of_it() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let (ethers, state) = (ethers(&lab), lab.dir().join("state"));
    let mut musterd = start(&server, &lab, &state);
    import(&server, &musterd, &ethers);
    // The file must grow by the change alone: a daemon that starts writes the file anew.
    musterd.kill();
    musterd = start(&server, &lab, &state);
    let before = std::fs::read(state.join("journal")).expect("the journal is there");
    muster(&server, &musterd, &["node", "out", "0-1999", "-y"]);
    musterd.kill();
    let after = std::fs::read(state.join("journal")).expect("the journal is there");
    assert!(after.starts_with(&before), "the change was not appended");
    let change = after.len() - before.len();
    let cuts = [1, change / 7, change / 3, change / 2, change * 9 / 10, change - 1];
    for (cut, left) in cuts.map(|cut| (cut, NODES)).into_iter().chain([(change, 0)]) {
        std::fs::write(state.join("journal"), &after[..before.len() + cut]).expect("write the journal");
        musterd = start(&server, &lab, &state);
        assert_eq!(occupied(&server, &musterd), left, "{cut} of {change} bytes");
        let said = musterd.seen("an unfinished change").is_some();
        assert_eq!(said, cut > change / 8 && left == NODES, "{cut} of {change} bytes: {}", musterd.log());
        musterd.kill();
    }
}

#[test]
fn seven_hundred_that_wait_are_numbered_at_once() {
    let mut lab = Lab::new();
    let (server, crowd) = (lab.server(SERVER), lab.attach("crowd"));
    let state = lab.dir().join("state");
    let musterd = start(&server, &lab, &state);
    let strangers = Strangers::on(&crowd, 0);
    strangers.crowd(700);
    let waiting = || {
        let guests = muster(&server, &musterd, &["guest", "list"]);
        let rows = guests.as_array().or(guests["rows"].as_array()).unwrap_or_else(|| panic!("{guests}"));
        rows.iter().filter(|row| row["verdict"].as_str().is_some_and(|why| why.contains("waits"))).count()
    };
    assert!(wait(120, || (waiting() >= 690).then_some(())).is_some(), "{} wait", waiting());
    let done = muster(&server, &musterd, &["guest", "enlist", "@held", "-y"]);
    let count = done["count"].as_u64().unwrap_or(0);
    assert!(count >= 690, "{done}");
    musterd.kill();
    strangers.crowd(0);
    let musterd = start(&server, &lab, &state);
    assert_eq!(occupied(&server, &musterd), count);
}

#[test]
fn a_journal_that_an_older_version_wrote_does_not_keep_the_daemon_from_starting() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let state = lab.dir().join("state");
    drop(start(&server, &lab, &state));
    let mut file = OpenOptions::new().append(true).open(state.join("journal")).expect("the journal is there");
    for text in [
        "2026-01-01T00:00:00Z n3 occupied by=passed macs=02:00:00:00:00:31 serial=A;n5 port=eth0;1",
        "2026-01-01T00:00:01Z n4 occupied by=passed macs=02:00:00:00:00:32",
    ] {
        writeln!(file, "{text} ~{:08x}", crc32(text.as_bytes())).expect("write a line");
    }
    let musterd = start(&server, &lab, &state);
    let said = musterd.seen_all(&["warn", "as version 0.1.0 wrote it"]);
    assert!(said.is_some(), "{}", musterd.log());
    assert_eq!(occupied(&server, &musterd), 2);
    let node = muster(&server, &musterd, &["node", "show", "3"]);
    assert!(node.to_string().contains("A;n5") && node.to_string().contains("eth0;1"), "{node}");
}
