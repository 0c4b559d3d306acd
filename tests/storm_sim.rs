//! `muster-storm --simulate`, as its users call it, and systems that reboot on a bad link.

use std::process::{Command, Output};
use std::time::Duration;

use muster::base::time::{Instant, Now};
use muster::engine::server::Server;
use muster::fleet::life::{BootStep, Life, Stages, StormPlan};
use muster::fleet::{Firmware, Fleet, mac};
use muster::sim::config::{INITRD, KERNEL, PROGRAMS, config};
use muster::sim::disk::Habits;
use muster::sim::net::{Odds, Wire};
use muster::sim::world::{Setup, World};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_muster-storm")).args(arguments).output().expect("start muster-storm")
}

fn simulated(arguments: &[&str]) -> (Option<i32>, serde_json::Value) {
    let output = run(&[&["--simulate", "--json"], arguments].concat());
    let result = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.status.code(), result)
}

#[test]
fn a_simulated_rack_comes_up() {
    for (profile, stages) in [("rom", "rom,os,reboot"), ("edk2", "rom"), ("ipxe", "ipxe,os"), ("pi", "rom")] {
        let (code, result) = simulated(&[
            "--size",
            "50000",
            "--count",
            "60",
            "--profile",
            profile,
            "--stages",
            stages,
            "--file",
            "vmlinuz",
            "--spread",
            "1",
        ]);
        assert_eq!((code, result["up"].as_u64()), (Some(0), Some(60)), "{profile}: {result:#}");
        assert_eq!(result["simulated"]["violations"].as_u64(), Some(0), "{profile}: {result:#}");
    }
}

/// The modelled link and files, and options that the firmware would not ask for.
#[test]
fn what_is_modelled_can_be_told() {
    let arguments = ["--count", "40", "--file", "big", "--file", "small", "--size", "200000", "--size", "1000", "--rate", "100M"];
    let (_, lockstep) = simulated(&arguments);
    let (code, result) =
        simulated(&[&arguments[..], &["--windowsize", "16", "--blksize", "1024", "--link-rate", "0", "--queue", "200"]].concat());
    assert_eq!((code, result["up"].as_u64()), (Some(0), Some(40)), "{result:#}");
    let sizes = |result: &serde_json::Value| [0, 1].map(|at| result["files"][at]["len"].as_u64());
    assert_eq!((sizes(&result), result["bytes"].as_u64()), ([Some(200_000), Some(1000)], Some(40 * 201_000)), "{result:#}");
    assert!(result["up_at"]["last"].as_f64() > Some(0.6), "at 100 Mbit/s: {result:#}");
    let sent = |result: &serde_json::Value| result["frames_sent"].as_u64();
    assert!(sent(&result) < sent(&lockstep), "windows need fewer acknowledgements");
    let completions = result["completions_s"].as_array().expect("a list");
    assert!(completions.len() == 40 && completions.is_sorted_by_key(|value| value.as_f64()), "{completions:?}");
    let gaps = result["gaps_ms"].as_array().expect("a list").iter().filter_map(|pair| pair[1].as_u64()).sum::<u64>();
    assert_eq!(gaps, 40 * (196 + 1), "a gap before each block");
}

/// Sixty machines: power goes for forty, comes back to twenty of them, and ten have it for the first time then.
#[test]
fn power_goes_and_comes_by_the_command_line() {
    let (code, result) =
        simulated(&["--size", "200000", "--count", "60", "--file", KERNEL, "--off", "0-39@0.05", "--on", "0-19@0.5", "--on", "50-59@0.5"]);
    let told = |field: &str| result[field].as_u64();
    assert_eq!((code, told("up"), told("cut"), told("lost"), told("off")), (Some(0), Some(40), Some(20), Some(0), Some(0)), "{result:#}");
    assert_eq!(told("interrupted"), Some(40), "{result:#}");
    let crowd = |n: usize| ["first", "machines", "up", "cut"].map(|field| result["crowds"][n][field].as_u64().unwrap_or(999));
    assert_eq!([0, 1, 2, 3].map(crowd), [[0, 20, 20, 0], [20, 20, 0, 20], [40, 10, 10, 0], [50, 10, 10, 0]], "{result:#}");
    assert!(result["crowds"][3]["up_at"]["first"].as_f64() > Some(0.5), "{result:#}");
}

#[test]
fn the_same_seed_replays_exactly() {
    let told = |seed: &str| {
        let mut result = simulated(&["--size", "50000", "--count", "30", "--profile", "ipxe", "--loss", "5000", "--seed", seed]).1;
        // How long the run took on this machine follows from no seed.
        result.as_object_mut().and_then(|fields| fields.remove("machine")).expect("the time that the run took");
        result
    };
    let (one, again, other) = (told("1"), told("1"), told("2"));
    assert_eq!(one, again);
    assert_ne!(one["simulated"]["transcript"], other["simulated"]["transcript"]);
}

#[test]
fn who_is_lost_shows_in_the_exit_status() {
    // Every frame is lost.
    let (code, result) = simulated(&["--count", "3", "--loss", "1000000"]);
    assert_eq!((code, result["lost"].as_u64()), (Some(1), Some(3)), "{result:#}");
    assert_eq!(result["lost_by"][0]["cause"].as_str(), Some("no offer"));
}

#[test]
fn what_cannot_be_is_refused() {
    let refused: [&[&str]; 16] = [
        &["--interface", "eth1", "--rate", "1G"],
        &["--simulate", "--queue", "0"],
        &["--simulate", "--blksize", "1469"],
        &["--simulate", "--windowsize", "0"],
        &["--simulate", "--interface", "eth1"],
        &["--simulate", "--count", "200000"],
        &["--simulate", "--verify-root", "."],
        &["--interface", "eth1", "--size", "5"],
        &["--count", "5"],
        &["--simulate", "--off", "0-99"],
        &["--simulate", "--count", "5", "--off", "0-5@1"],
        &["--simulate", "--on", "3-2@1"],
        &["--simulate", "--hostile", "arp@5", "--node0", "10.0.0.1", "--file", "x", "--timeout", "1"],
        &["--interface", "lo", "--hostile", "arp@5", "--node0", "10.0.0.1", "--file", "x"],
        &["--interface", "lo", "--hostile", "lunch@5", "--node0", "10.0.0.1", "--file", "x", "--timeout", "1"],
        &["--interface", "lo", "--hostile", "arp@5", "--file", "x", "--timeout", "1"],
    ];
    for arguments in refused {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

/// Forty machines on EDK2, half of them guests, whose systems reboot at the end.
fn reboots(seed: u64, odds: Odds) -> World<Server, Fleet> {
    let mut life = Life::of(Firmware::Edk2, 1, Stages { ipxe: false, os: true }, 1);
    life.steps.push(BootStep::Reboot(Firmware::Os));
    let plan = StormPlan {
        count: 40,
        lives: vec![life],
        names: vec![KERNEL.into()],
        spread: Duration::from_secs(1),
        seed,
        ..StormPlan::default()
    };
    let nodes = (0..40).filter(|n| n % 2 == 0).enumerate().map(|(lot, n)| (lot as u32, mac(n)));
    let setup = Setup { config: config(nodes), seed, wire: Wire { odds, ..Wire::GIGABIT }, habits: Habits::default() };
    let server = Server::new(&setup.config, seed, Now::default());
    let mut world = World::new(&setup, server, Fleet::new(plan, Instant::ZERO).expect("a sound plan"));
    for name in PROGRAMS.map(|(_, name)| name).into_iter().chain([KERNEL, INITRD]) {
        world.disk_mut().put(name, 20_000);
    }
    assert!(world.run(Instant::from_millis(300_000), |world| world.clients().done()), "seed {seed}");
    world
}

#[test]
fn systems_that_reboot_keep_their_address_on_a_bad_link() {
    for seed in 0..8 {
        // No loss: an OS that gives up after three tries is no fault of the server's. No duplicates: see the next test.
        let world = reboots(seed, Odds { loss: 0, duplicate: 0, ..Odds::swarm(seed) });
        let summary = world.clients().summary();
        assert_eq!((summary.up, summary.moved, summary.conflicts), (40, 0, 0), "seed {seed}: {summary}");
        assert_eq!(world.findings().violations, [], "seed {seed}");
    }
}

/// The network doubles an RRQ, and the copy arrives after the first window has left and before its ACK is back.
#[test]

fn a_late_copy_of_a_request_kills_nobody() {
    let world = reboots(3, Odds { loss: 0, ..Odds::swarm(3) });
    let summary = world.clients().summary();
    assert_eq!(summary.up, 40, "{summary}");
}

/// Power comes back to ten thousand machines within a second, behind a switch with a queue of 256 packets whose rate nobody told.
/// A lap takes 123 ms there.
#[test]
fn ten_thousand_machines() {
    let (code, result) = simulated(&["--count", "10000", "--file", KERNEL, "--size", "32768", "--spread", "1", "--seed", "1"]);
    assert_eq!((code, result["up"].as_u64(), result["retries"].as_u64()), (Some(0), Some(10_000), Some(0)), "{}", result["lost_by"]);
    let (gap, modelled) = (result["longest_gap"].as_f64().expect("a number"), &result["simulated"]);
    println!("longest gap {gap:.3} s, {modelled:#}\n{:#}", result["machine"]);
    assert!(gap <= 0.5, "{gap}: {modelled:#}");
    assert!(modelled["longest_silence"].as_f64() <= Some(0.5), "{modelled:#}");
    assert_eq!(modelled["queue_drops"].as_u64(), Some(0), "{modelled:#}");
}
