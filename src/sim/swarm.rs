//! Small storms, all of whose circumstances come from a seed: kinds of machines, what the link does to frames, the disk, strangers, and now
//! and then a restart of the daemon, or power that flickers. Each seed leaves some faults out, so that the others meet alone (swarm testing; Groce et al., 2012).

use std::time::Duration;

use super::checks::{Findings, Unheard};
use super::config::{INITRD, KERNEL, PROGRAMS, config};
use super::disk::{Habits, Version};
use super::net::{Odds, Wire};
use super::world::{Setup, World};
use crate::base::machine::Machine;
use crate::base::rng::Rng;
use crate::base::time::{Instant, Now};
use crate::engine::server::Server;
use crate::fleet::cause::Cause;
use crate::fleet::life::{Life, Stages, StormPlan};
use crate::fleet::summary::{LoadedFile, MachineView};
use crate::fleet::tftp::Hash;
use crate::fleet::{Firmware, Fleet, MachineStatus, Switch, mac};

/// The Server and the Fleet in one world.
pub type Storm = World<Server, Fleet>;

/// Longer than any firmware's patience.
const END: Duration = Duration::from_secs(600);
/// The half second, and what a timer is late by.
const SILENCE: Duration = Duration::from_millis(550);
/// Disks that answer sooner than this leave the half second its meaning.
const QUICK: Duration = Duration::from_millis(10);

/// What surrounds the machines.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// The link.
    pub wire: Wire,
    /// The disk's habits.
    pub habits: Habits,
    /// Every how many-th machine is a stranger, without a number; at least 1: all are.
    pub strangers: u32,
}

/// A storm before its first frame. Boot programs have half of `size`, the initial ramdisk three quarters.
pub fn storm(seed: u64, plan: &StormPlan, weather: &Weather, size: u64) -> Storm {
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
#[derive(Clone, Debug)]
pub struct SwarmOutcome {
    /// Stands for the whole run.
    pub hash: u64,
    /// How many machines there were.
    pub machines: usize,
    /// When the last one was up, lost or without power.
    pub ended: Instant,
    /// See [`Findings::silence`].
    pub silence: Duration,
    /// Machines that gave up because the link lost every one of their tries for a lease, or the answer to it: see [`unheard`].
    pub unheard: usize,
    /// What broke a law, in words.
    pub faults: Vec<String>,
}

/// Runs until every machine is up, lost or without power, and a little longer. Nobody may be lost who was heard once.
pub fn play(world: Storm) -> (SwarmOutcome, Storm) {
    let (mut outcome, world) = play_on(world);
    let progress = world.clients().progress();
    if progress.up + progress.cut + outcome.unheard != outcome.machines {
        outcome.faults.push(format!("{progress:?}\n{}", world.clients().summary()));
    }
    (outcome, world)
}

/// Likewise, but machines may be lost: what the checkers say alone counts.
fn play_on(mut world: Storm) -> (SwarmOutcome, Storm) {
    let done = world.run(world.now().at + END, |world| world.clients().done());
    let ended = world.now().at;
    world.pass(Duration::from_secs(1));
    let summary = world.clients().summary();
    let Findings { violations, count, silence, .. } = world.findings();
    let mut faults: Vec<String> = violations.iter().map(ToString::to_string).collect();
    let also = [
        (!done, format!("not done at {ended}")),
        (*count > violations.len() as u64, format!("{count} violations in all")),
        (summary.conflicts > 0, format!("{} addresses were taken into use by two machines", summary.conflicts)),
        (world.unroutable() > 0, format!("{} datagrams to unknown neighbours", world.unroutable())),
    ];
    faults.extend(also.into_iter().filter(|(wrong, _)| *wrong).map(|(_, what)| what));
    faults.extend(wrong_bytes(&world, &summary.files));
    let unheard = lost(&world).filter(|view| unheard(&world, view)).count();
    let outcome = SwarmOutcome { hash: world.hash(), machines: summary.machines, ended, silence: *silence, unheard, faults };
    (outcome, world)
}

/// The machines that are lost.
fn lost(world: &Storm) -> impl Iterator<Item = MachineView> + '_ {
    (0..).map_while(|place| world.clients().machine(place)).filter(|view| matches!(view.status, MachineStatus::Lost(_)))
}

/// Whether the link alone is to blame: udhcpc sends three REQUESTs, 3 s apart, and fails (busybox's `dhcpc.c`, with `-n`); where the link has lost
/// each of them, or the ACK that answered it, no server could help. One frame of them that came through, unanswered, is the server's fault.
fn unheard(world: &Storm, view: &MachineView) -> bool {
    let Unheard { xid, discovers, requests, .. } = world.unheard(view.mac);
    let all = match view.status {
        MachineStatus::Lost(Cause::NoOffer) => discovers >= view.tries.0.into(),
        MachineStatus::Lost(Cause::NoAck) => requests >= view.tries.1.into(),
        _ => false,
    };
    all && xid == view.xid
}

/// What machines received that is not what the disk has under that name. Files that the server makes are not on the disk.
pub fn wrong_bytes<C: Machine>(world: &World<Server, C>, files: &[LoadedFile]) -> Vec<String> {
    let right = |content: &&LoadedFile| match world.disk().version(content.name.as_bytes()) {
        Some(version) => content.len == version.size && content.hash == hash_of(version),
        None => true,
    };
    files.iter().filter(|content| !right(content)).map(|content| format!("these bytes are not the file's: {content:?}")).collect()
}

fn hash_of(version: Version) -> String {
    let (mut hash, mut piece) = (Hash::default(), [0; 4096]);
    for offset in (0..version.size).step_by(piece.len()) {
        let len = (version.size - offset).min(piece.len() as u64) as usize;
        version.fill(offset, &mut piece[..len]);
        hash.add(&piece[..len]);
    }
    format!("{:016x}", hash.finish())
}

/// The files that machines of these storms ask for by name.
pub fn names() -> Vec<Vec<u8>> {
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

/// A storm and when the daemon is restarted in it, if ever.
fn drawn(seed: u64) -> (StormPlan, Weather, Option<Duration>) {
    let mut rng = Rng::new(seed);
    let frail = rng.chance(500_000);
    let mut odds = Odds::swarm(rng.u64());
    if frail {
        (odds.duplicate, odds.reorder, odds.loss) = (0, 0, odds.loss / 10);
    }
    let cold = if rng.chance(500_000) { 0 } else { 200_000 };
    let wire = Wire { rate: [100_000_000, 1_000_000_000][rng.below(2) as usize], queue: 64 << rng.below(3), odds, ..Wire::GIGABIT };
    let habits = Habits { failure: 0, cold, latency: Duration::from_micros(rng.below(QUICK.as_micros() as u64)) };
    let mut weather = Weather { wire, habits, strangers: 2 + rng.below(4) as u32 };
    let mut plan = StormPlan {
        count: 20 + rng.below(21) as usize,
        lives: if frail { everybody() } else { sturdy() },
        names: names(),
        spread: Duration::from_millis(rng.below(2000)),
        seed,
        ..StormPlan::default()
    };
    // A disk that has to spin up.
    if rng.chance(100_000) {
        weather.habits = Habits { cold: 200_000, latency: Duration::from_millis(100 + rng.below(400)), ..weather.habits };
    }
    // Who leaves ARP unanswered, and ports that sleep through the first frames.
    plan.deaf = if rng.chance(300_000) { rng.below(1001) as u32 } else { 0 };
    // Where frames are lost too, too few tries would be left to some.
    plan.wake = if odds.loss == 0 { rng.below(3) as u32 } else { 0 };
    let restart = rng.chance(150_000).then(|| Duration::from_millis(rng.below(20_000)));
    if rng.chance(250_000) {
        plan.power = flickers(&mut rng, plan.count as u32);
    }
    (plan, weather, restart)
}

/// Power goes for some once or twice, and most of them have it again.
fn flickers(rng: &mut Rng, count: u32) -> Vec<Switch> {
    let mut power = Vec::new();
    for _ in 0..1 + rng.below(2) {
        let first = rng.below(count.into()) as u32;
        let end = first + 1 + rng.below((count - first).into()) as u32;
        let off = Duration::from_millis(rng.below(20_000));
        let back = off + Duration::from_millis(rng.below(10_000));
        power.push(Switch { at: off, who: first..end, on: false });
        let returning = first + rng.below(u64::from(end - first) + 1) as u32;
        if returning > first {
            power.push(Switch { at: back, who: first..returning, on: true });
        }
    }
    power
}

/// The storm of a seed.
pub fn swarm(seed: u64) -> SwarmOutcome {
    let (plan, weather, restart) = drawn(seed);
    let mut world = storm(seed, &plan, &weather, 60_000);
    let Some(restart) = restart else {
        let (mut outcome, _) = play(world);
        if weather.habits.latency <= QUICK && plan.power.is_empty() && outcome.silence > SILENCE {
            outcome.faults.push(format!("a client that had asked heard nothing for {:?}", outcome.silence));
        }
        return outcome;
    };
    world.pass(restart);
    let found = world.crash();
    world.outage(Duration::from_millis(seed % 2_000));
    let server = match Server::restored(world.server().config(), next_daemon(seed), world.now(), found.iter().map(String::as_str)) {
        Ok(server) => server,
        Err(error) => panic!("seed {seed}: what a crash left is refused: {error}"),
    };
    world.restart(server);
    let (mut outcome, world) = play_on(world);
    let others = lost(&world).find(|view| !unheard(&world, view));
    if let Some(MachineView { mac, stage, status, .. }) = others {
        outcome.faults.push(format!("lost after a restart at {restart:?}: {mac} in {stage}: {status:?}"));
    }
    outcome
}

/// Another daemon hashes otherwise.
const fn next_daemon(seed: u64) -> u64 {
    seed ^ 0x5eed
}
