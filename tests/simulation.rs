//! Storms in the virtual world: the real server, fleets of simulated firmware, a modelled link and disk, and checkers that watch.
//!
//! Every run follows from its seed. A seed that fails prints itself; `muster-storm --simulate --swarm 0 --seed <seed>` runs it alone, and
//! `make soak` runs many.

use std::time::Duration;

use muster::base::time::Instant;
use muster::engine::server::Server;
use muster::fleet::Firmware;
use muster::fleet::life::{Life, Stages, StormPlan};
use muster::sim::disk::Habits;
use muster::sim::net::{FrameDirection, Wire};
use muster::sim::swarm::{Storm, Weather, names, play, storm, swarm};

const END: Instant = Instant::from_millis(600_000);
const FAIR: Weather = Weather { wire: Wire { queue: 512, ..Wire::GIGABIT }, habits: NO_HABITS, strangers: 4 };
const NO_HABITS: Habits = Habits { failure: 0, cold: 0, latency: Duration::ZERO };
const WHOLE: Stages = Stages { ipxe: true, os: true };
const FIRMWARE_ONLY: Stages = Stages { ipxe: false, os: true };

#[test]
fn swarms_come_up() {
    let (mut silence, mut failed) = ((Duration::ZERO, 0), Vec::new());
    for seed in 0..64 {
        let outcome = swarm(seed);
        silence = silence.max((outcome.silence, seed));
        if !outcome.faults.is_empty() {
            failed.push(format!(
                "muster-storm --simulate --swarm 0 --seed {seed} (ended at {}):\n{}",
                outcome.ended,
                outcome.faults.join("\n")
            ));
        }
    }
    println!("longest silence: {:?} (seed {})", silence.0, silence.1);
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let hashes = [5, 5, 6].map(|seed| swarm(seed).hash);
    assert_eq!(hashes[0], hashes[1]);
    assert_ne!(hashes[0], hashes[2]);
}

#[test]
fn a_restart_gives_no_address_twice() {
    for seed in 0..4 {
        let stages = Stages { ipxe: false, os: true };
        let lives = vec![Life::of(Firmware::Edk2, 1, stages, 1)];
        let plan = StormPlan { count: 60, lives, names: names(), spread: Duration::from_secs(400), seed, ..StormPlan::default() };
        // All are guests: the journal alone knows who has what.
        let weather = Weather { strangers: 1, ..FAIR };
        let mut world = storm(seed, &plan, &weather, 5000);
        let quiet = |world: &Storm| world.clients().progress().up >= 25 && world.clients().progress().booting == 0;
        assert!(world.run(END, quiet), "seed {seed}");
        let found = world.crash();
        let server = Server::restored(world.server().config(), seed + 1000, world.now(), found.iter().map(String::as_str)).unwrap();
        world.restart(server);
        let (outcome, world) = play(world);
        assert_eq!(outcome.faults, Vec::<String>::new(), "seed {seed}");
        assert!(world.server().roll().len() >= 30, "seed {seed}");
    }
}

#[test]
fn a_thousand_machines() {
    let lives = vec![
        Life::of(Firmware::Rom, 2, FIRMWARE_ONLY, 1),
        Life::of(Firmware::Edk2, 2, FIRMWARE_ONLY, 1),
        Life::of(Firmware::Ipxe, 1, WHOLE, 1),
    ];
    let plan = StormPlan { count: 1000, lives, names: names(), spread: Duration::from_secs(2), seed: 1, ..StormPlan::default() };
    let weather = Weather { wire: Wire::GIGABIT, ..FAIR };
    let (outcome, world) = play(storm(1, &plan, &weather, 40_000));
    println!("a thousand machines: done at {}, longest silence {:?}", outcome.ended, outcome.silence);
    assert_eq!(outcome.faults, Vec::<String>::new());
    assert!(outcome.silence < Duration::from_millis(500));
    assert_eq!(world.disk().held(), 0);
}

/// The power comes back, and everybody asks in the same second, behind a switch with a queue of 256 packets whose rate nobody told.
#[test]
fn a_thousand_machines_at_once_behind_a_small_queue() {
    for rate in [1_000_000_000, 100_000_000] {
        let lives = vec![Life::of(Firmware::Rom, 1, Stages { ipxe: false, os: false }, 1)];
        // A thousand frames in one instant would not even get through the queue towards the server.
        let plan = StormPlan { count: 1000, lives, names: names(), spread: Duration::from_millis(50), seed: 2, ..StormPlan::default() };
        let weather = Weather { wire: Wire { rate, ..Wire::GIGABIT }, ..FAIR };
        let size = if rate > 500_000_000 { 400_000 } else { 100_000 };
        let (outcome, world) = play(storm(2, &plan, &weather, size));
        let down = world.net().tally(FrameDirection::ToClients);
        let wire = Duration::from_secs_f64(down.wire_bytes as f64 * 8.0 / rate as f64);
        let summary = world.clients().summary();
        println!(
            "{rate}: done at {}, {wire:?} of bytes, silence {:?}, {} dropped\n{summary}",
            outcome.ended, outcome.silence, down.queue_drops
        );
        assert_eq!((outcome.faults, down.queue_drops), (Vec::<String>::new(), 0));
        assert!(outcome.silence < Duration::from_millis(500), "{:?}", outcome.silence);
        let took = outcome.ended.since(Instant::ZERO).as_secs_f64() / wire.as_secs_f64();
        assert!(took < 1.05, "{took:.3} times what the bytes take");
    }
}

/// A lap of the ring would take 1.2 s: strangers wait, nobody is locked out, and a running transfer never waits long.
#[test]
fn more_machines_than_a_link_can_carry_at_once() {
    let lives = vec![Life::of(Firmware::Rom, 1, FIRMWARE_ONLY, 1), Life::of(Firmware::Edk2, 1, FIRMWARE_ONLY, 1)];
    let plan = StormPlan { count: 2000, lives, names: names(), spread: Duration::from_secs(3), seed: 3, ..StormPlan::default() };
    let weather = Weather { wire: Wire { rate: 20_000_000, ..Wire::GIGABIT }, ..FAIR };
    let (outcome, world) = play(storm(3, &plan, &weather, 40_000));
    let down = world.net().tally(FrameDirection::ToClients);
    let deferred: u64 = world.server().pace().iter().map(|(_, lane)| lane.deferred).sum();
    println!(
        "done at {}, silence {:?}, {} dropped, {deferred} deferred\n{}",
        outcome.ended,
        outcome.silence,
        down.queue_drops,
        world.clients().summary()
    );
    assert_eq!((outcome.faults, down.queue_drops), (Vec::<String>::new(), 0));
    assert!(deferred > 100 && outcome.silence < Duration::from_secs(2), "{deferred} {:?}", outcome.silence);
}
