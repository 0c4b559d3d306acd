//! Storms on real sockets: `musterd` on one side of a switch, `muster-storm` on the other.

mod common;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use common::musterd::Musterd;
use common::{Host, Lab, wait, write};
use nix::sys::signal::Signal;

const SERVER: &str = "10.54.0.1/16";

/// Bytes that differ everywhere, for the comparison of contents.
fn content(len: usize) -> Vec<u8> {
    (0..len as u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// Boots machines to the end; gives the result.
fn storm(host: &Host, seconds: u64, arguments: &[&str]) -> serde_json::Value {
    let arguments = [&["--interface", "eth0", "--json"], arguments].concat();
    let output = host.run(seconds, env!("CARGO_BIN_EXE_muster-storm"), &arguments).must("muster-storm");
    let json = output.find('{').map_or("", |at| &output[at..]);
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {output}"))
}

/// Resident memory, in KiB.
fn memory(pid: u32) -> u64 {
    let status = common::text(Path::new(&format!("/proc/{pid}/status")));
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

#[test]
fn no_machine_costs_a_descriptor() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let rack = lab.attach("rack");
    let files = ["one", "two", "three"];
    for name in files {
        write(&lab.dir().join(name), &content(300_000));
    }
    let musterd = Musterd::plain(&server, lab.dir());
    let before = musterd.descriptors();
    let arguments = ["--interface", "eth0", "--count", "100", "--file", "one", "--file", "two", "--file", "three", "--spread", "1"];
    let mut command = rack.command(env!("CARGO_BIN_EXE_muster-storm"));
    let mut running = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start a storm");
    let mut during = before;
    let ended = wait(120, || {
        during = during.max(musterd.descriptors());
        running.try_wait().expect("wait for a child of ours")
    });
    assert_eq!(ended.and_then(|status| status.code()), Some(0), "all came up");
    let after = musterd.descriptors();
    assert!(during > before, "the files were seen open: {before} before, {during} during");
    assert!(during <= before + files.len() && after <= before + files.len(), "{before} before, {during} during, {after} after");
}

/// journald behind a full disk, a pager: who reads the log may hang, and the cluster boots all the same.
#[test]
fn a_log_that_nobody_reads_holds_nobody() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let rack = lab.attach("rack");
    write(&lab.dir().join("image"), &content(10_000));
    let musterd = Musterd::plain(&server, lab.dir());
    musterd.ignore(true);
    for _ in 0..2 {
        let result = storm(&rack, 120, &["--count", "400", "--file", "image"]);
        assert_eq!((result["up"].as_u64(), result["lost"].as_u64()), (Some(400), Some(0)));
    }
    musterd.ignore(false);
    let told = wait(20, || musterd.seen("lines lost (the reader of standard error is too slow)"));
    assert!(told.is_some(), "the pipe and the buffer were full, and that is told");
}

#[test]
fn a_hangup_in_the_middle_of_a_storm_loses_nothing() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let rack = lab.attach("rack");
    write(&lab.dir().join("image"), &content(2_000_000));
    let musterd = Musterd::configured(&server, lab.dir(), "[cluster]\nnode0 = \"10.54.1.0\"\n");
    let mut command = rack.command(env!("CARGO_BIN_EXE_muster-storm"));
    command.args(["--interface", "eth0", "--count", "50", "--file", "image", "--spread", "2"]);
    let mut running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start a storm");
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(150));
        musterd.signal(Signal::SIGHUP);
    }
    let ended = wait(120, || running.try_wait().expect("wait for a child of ours"));
    assert_eq!(ended.and_then(|status| status.code()), Some(0), "all came up");
    assert!(musterd.says("config: reloaded").is_some(), "the config was read in the middle");
}

#[test]
fn machines_whose_first_frames_are_lost_come_up() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let rack = lab.attach("rack");
    write(&lab.dir().join("image"), &content(64 * 1024));
    let musterd = Musterd::plain(&server, lab.dir());
    for profile in ["rom", "edk2", "ipxe", "pi", "os"] {
        let arguments = ["--count", "40", "--profile", profile, "--file", "image", "--wake", "2", "--timeout", "90"];
        let arguments = if profile == "os" { &arguments[..4] } else { &arguments[..] };
        let result = storm(&rack, 120, arguments);
        assert_eq!((result["machines"].as_u64(), result["up"].as_u64()), (Some(40), Some(40)), "{profile}: {result:#}");
    }
    musterd.signal(Signal::SIGUSR1);
    let state = wait(10, || Path::new(&musterd.run_dir().join("state.json")).exists().then_some(()));
    assert!(state.is_some());
}

/// `make soak` asks for ten.
#[test]
fn storm_after_storm_costs_nothing() {
    let storms = std::env::var("MUSTER_STORMS").ok().and_then(|value| value.parse().ok()).unwrap_or(5);
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let rack = lab.attach("rack");
    write(&lab.dir().join("image"), &content(64 * 1024));
    let musterd = Musterd::plain(&server, lab.dir());
    let costs = |seed: u32| {
        let result = storm(&rack, 120, &["--count", "200", "--file", "image", "--loss", "1000", "--seed", &seed.to_string()]);
        assert_eq!(result["up"].as_u64(), Some(200), "{result:#}");
        (memory(musterd.pid()), musterd.descriptors())
    };
    // Everything was allocated at start, but a page of it counts when it is used first: tables by hash are touched here and there, less
    // and less.
    let all: Vec<_> = (0..storms).map(costs).collect();
    println!("memory in KiB and descriptors after each storm: {all:?}");
    let ((first, descriptors), (last, still)) = (all[1], all[storms as usize - 1]);
    assert!(last <= first + 256 && still <= descriptors, "{all:?}");
    assert!(last <= 64 * 1024, "{last} KiB");
}

/// The issue's own storm: power comes back to a rack whose switch ports are asleep, on a link that loses one frame in a hundred.
#[test]
fn three_hundred_machines_on_a_bad_link() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let rack = lab.attach("rack");
    write(&lab.dir().join("image"), &content(64 * 1024));
    let musterd = Musterd::plain(&server, lab.dir());
    let (root, pid) = (lab.dir().display().to_string(), musterd.pid().to_string());
    let common = ["--count", "300", "--file", "image", "--timeout", "120", "--verify-root", &root, "--server-pid", &pid];
    let told = |more: &[&str]| {
        let result = storm(&rack, 150, &[&common[..], more].concat());
        assert_eq!((result["up"].as_u64(), result["lost"].as_u64()), (Some(300), Some(0)), "{result:#}");
        assert_eq!(result["verified"], serde_json::json!([["image", "same"]]), "{result:#}");
        let descriptors = |when: &str| result["server"]["descriptors"][when].as_u64().expect("a count");
        assert!(descriptors("after") <= descriptors("before") + 1, "the file is kept open: {result:#}");
        result
    };
    let asleep = told(&["--wake", "2"]);
    assert!(asleep["frames_asleep"].as_u64() >= Some(600) && gap(&asleep) <= 0.5, "{asleep:#}");
    // The same frames of each machine are lost in every run. What a ROM cannot live with by its own rules is not among them.
    let lossy = told(&["--loss", "10000", "--wake", "2", "--seed", "1"]);
    assert!(lossy["frames_lost"].as_u64() > Some(200), "{lossy:#}");
    // What is sent again may be lost as well: two half seconds, and what a timer is late by on a busy machine.
    assert!(gap(&lossy) <= 1.1, "{lossy:#}");
    let gaps = lossy["gaps_ms"].as_array().expect("classes");
    let above = |bound: f64| gaps.iter().filter(|class| class[0].as_f64() > Some(bound)).filter_map(|class| class[1].as_u64()).sum::<u64>();
    assert!(above(1000.0) * 20 <= above(100.0), "one of twenty losses is a second one: {lossy:#}");
}

/// The longest gap between packets of a running transfer, in seconds.
fn gap(result: &serde_json::Value) -> f64 {
    result["longest_gap"].as_f64().expect("a number")
}
