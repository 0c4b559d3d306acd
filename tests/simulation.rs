//! Storms in the virtual world: the real server, fleets of simulated firmware, a modelled link and disk, and checkers that watch.
//!
//! Every run follows from its seed. A seed that fails prints itself; `MUSTER_SEED=<seed> cargo test --test simulation` runs it alone, and
//! `MUSTER_SEEDS=1000` runs more of them.

use std::time::Duration;

use muster::base::addr::Mac;
use muster::base::rng::Rng;
use muster::base::time::{Instant, Now};
use muster::engine::server::Server;
use muster::fleet::life::{Life, Plan, Stages};
use muster::fleet::{Firmware, Fleet};
use muster::sim::config::{INITRD, KERNEL, PROGRAMS, config};
use muster::sim::disk::Habits;
use muster::sim::net::{Odds, Way, Wire};
use muster::sim::world::{Setup, World};

type Storm = World<Server, Fleet>;

/// How long a machine may take, at most: longer than any firmware's patience.
const END: Instant = Instant::from_millis(600_000);

struct Weather {
    wire: Wire,
    habits: Habits,
    /// Every how many-th machine is a stranger, without a number.
    strangers: u32,
}

const FAIR: Weather = Weather { wire: Wire { queue: 512, ..Wire::GIGABIT }, habits: NO_HABITS, strangers: 4 };
const NO_HABITS: Habits = Habits { failure: 0, cold: 0, latency: Duration::ZERO };

/// The MAC of the machine with this number.
fn mac(n: u32) -> Mac {
    let [a, b, c, d] = n.to_be_bytes();
    Mac([0x02, 0x4d, a, b, c, d])
}

/// A world with a fleet, before its first frame.
fn storm(seed: u64, plan: &Plan, weather: &Weather, size: u64) -> Storm {
    let numbers = plan.first..plan.first + plan.count as u32;
    let nodes = numbers.filter(|n| n % weather.strangers > 0).enumerate().map(|(lot, n)| (lot as u32, mac(n)));
    let setup = Setup { config: config(nodes), seed, wire: weather.wire, habits: weather.habits };
    let server = Server::new(&setup.config, seed, Now::default());
    let mut world = World::new(&setup, server, Fleet::new(plan.clone(), Instant::ZERO).expect("a sound plan"));
    for (_, program) in PROGRAMS {
        world.disk_mut().put(program, size / 2);
    }
    world.disk_mut().put(KERNEL, size);
    world.disk_mut().put(INITRD, size / 4 * 3);
    world
}

/// What a run came to, and what is wrong with it.
struct Outcome {
    hash: u64,
    ended: Instant,
    silence: Duration,
    faults: Vec<String>,
}

/// Runs until every machine is up or lost, and a little longer.
fn play(mut world: Storm) -> (Outcome, Storm) {
    let done = world.run(END, |world| world.clients().done());
    let ended = world.now().at;
    world.pass(Duration::from_secs(1));
    let mut faults = Vec::new();
    if !done {
        faults.push(format!("not done after {END}"));
    }
    let (progress, findings) = (world.clients().progress(), world.findings());
    if progress.up != world.clients().summary().machines {
        faults.push(format!("{progress:?}\n{}", world.clients().summary()));
    }
    faults.extend(findings.violations.iter().map(|violation| violation.to_string()));
    if findings.count > findings.violations.len() as u64 {
        faults.push(format!("{} violations in all", findings.count));
    }
    let conflicts = world.clients().summary().conflicts;
    if conflicts > 0 {
        faults.push(format!("{conflicts} addresses were taken into use by two machines"));
    }
    if world.unroutable() > 0 {
        faults.push(format!("{} datagrams to unknown neighbours", world.unroutable()));
    }
    let outcome = Outcome { hash: world.hash(), ended, silence: findings.silence, faults };
    (outcome, world)
}

fn names() -> Vec<Vec<u8>> {
    vec![KERNEL.into(), INITRD.into()]
}

const WHOLE: Stages = Stages { ipxe: true, os: true };
const FIRMWARE_ONLY: Stages = Stages { ipxe: false, os: true };

/// Firmware that bears whatever the link does to packets.
fn sturdy() -> Vec<Life> {
    let lives = [(Firmware::Edk2, FIRMWARE_ONLY), (Firmware::Ipxe, WHOLE), (Firmware::Grub, FIRMWARE_ONLY)];
    lives.map(|(firmware, stages)| Life::of(firmware, 1, stages, 2)).to_vec()
}

/// All firmware. A duplicate or a reordered block is the end of a ROM and of a Raspberry Pi, whatever the server does.
fn everybody() -> Vec<Life> {
    let frail = [(Firmware::Rom, WHOLE), (Firmware::RaspberryPi, FIRMWARE_ONLY), (Firmware::Pxelinux, FIRMWARE_ONLY)];
    [sturdy(), frail.map(|(firmware, stages)| Life::of(firmware, 1, stages, 2)).to_vec()].concat()
}

/// A small storm, all of whose circumstances come from the seed.
fn swarm(seed: u64) -> Outcome {
    let mut rng = Rng::new(seed);
    let frail = rng.chance(500_000);
    let mut odds = Odds::swarm(rng.u64());
    if frail {
        (odds.duplicate, odds.reorder, odds.loss) = (0, 0, odds.loss / 10);
    }
    let cold = if rng.chance(500_000) { 0 } else { 200_000 };
    let weather = Weather {
        wire: Wire { rate: [100_000_000, 1_000_000_000][rng.below(2) as usize], queue: 64 << rng.below(3), odds, ..Wire::GIGABIT },
        habits: Habits { failure: 0, cold, latency: Duration::from_micros(rng.below(10_000)) },
        strangers: 2 + rng.below(4) as u32,
    };
    let plan = Plan {
        count: 20 + rng.below(21) as usize,
        lives: if frail { everybody() } else { sturdy() },
        names: names(),
        spread: Duration::from_millis(rng.below(2000)),
        seed,
        ..Plan::default()
    };
    play(storm(seed, &plan, &weather, 60_000)).0
}

#[test]
fn swarms_come_up() {
    let told = |name| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let seeds = told("MUSTER_SEED").map_or(0..told("MUSTER_SEEDS").unwrap_or(64), |seed: u64| seed..seed + 1);
    let (mut silence, mut failed) = ((Duration::ZERO, 0), Vec::new());
    for seed in seeds {
        let outcome = swarm(seed);
        silence = silence.max((outcome.silence, seed));
        if !outcome.faults.is_empty() {
            failed.push(format!("MUSTER_SEED={seed} (ended at {}):\n{}", outcome.ended, outcome.faults.join("\n")));
        }
    }
    println!("longest silence: {:?} (seed {})", silence.0, silence.1);
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    assert!(silence.0 <= Duration::from_millis(550), "the half second, and what a timer is late by: {silence:?}");
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
        let plan = Plan { count: 60, lives, names: names(), spread: Duration::from_secs(400), seed, ..Plan::default() };
        // All are guests: nothing of them is written anywhere.
        let weather = Weather { strangers: 1, ..FAIR };
        let mut world = storm(seed, &plan, &weather, 5000);
        let quiet = |world: &Storm| world.clients().progress().up >= 25 && world.clients().progress().booting == 0;
        assert!(world.run(END, quiet), "seed {seed}");
        let server = Server::new(world.server().config(), seed + 1000, world.now());
        let (outcome, world) = play(world.with_server(server));
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
    let plan = Plan { count: 1000, lives, names: names(), spread: Duration::from_secs(2), seed: 1, ..Plan::default() };
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
        let plan = Plan { count: 1000, lives, names: names(), spread: Duration::from_millis(50), seed: 2, ..Plan::default() };
        let weather = Weather { wire: Wire { rate, ..Wire::GIGABIT }, ..FAIR };
        let size = if rate > 500_000_000 { 400_000 } else { 100_000 };
        let (outcome, world) = play(storm(2, &plan, &weather, size));
        let down = world.net().tally(Way::ToClients);
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
    let plan = Plan { count: 2000, lives, names: names(), spread: Duration::from_secs(3), seed: 3, ..Plan::default() };
    let weather = Weather { wire: Wire { rate: 20_000_000, ..Wire::GIGABIT }, ..FAIR };
    let (outcome, world) = play(storm(3, &plan, &weather, 40_000));
    let down = world.net().tally(Way::ToClients);
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
