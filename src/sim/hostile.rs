//! Known machines boot beside a hostile one (see [`fleet::hostile`](crate::fleet::hostile)): all of them come up at their addresses,
//! with the right bytes, and the last one needs at most a tenth more time than in peace, and a second.

use std::time::Duration;

use super::config::KERNEL;
use super::disk::Habits;
use super::flicker::FlickerKind;
use super::net::Wire;
use super::swarm::{Weather, storm, wrong_bytes};
use super::world::World;
use crate::base::machine::Machine;
use crate::base::time::Instant;
use crate::engine::server::Server;
use crate::fleet::hostile::{Assault, Attack, Company, Hostile, NAMES};
use crate::fleet::life::StormPlan;
use crate::fleet::{Fleet, Summary, Switch};

/// How many boot.
const NODES: u32 = 50;
/// The number of the first one's MAC.
const FIRST: u32 = 1;
const END: Duration = Duration::from_secs(600);

/// A storm with a hostile machine in it.
#[derive(Clone, Debug)]
pub struct Siege {
    /// What the hostile machine does, in turns.
    pub attacks: Vec<Attack>,
    /// Hostile frames a second.
    pub rate: u32,
    /// Those who boot.
    pub kind: FlickerKind,
    /// Bytes of a file.
    pub size: u64,
    /// Decides the rest.
    pub seed: u64,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct HostileOutcome {
    /// Hostile frames.
    pub sent: u64,
    /// Machines that came up.
    pub up: usize,
    /// Of the last one, in seconds, and of the last one without the hostile machine.
    pub boot: f64,
    /// How long the last one booted without the hostile machine, in seconds.
    pub quiet: f64,
    /// What broke a law, in words.
    pub faults: Vec<String>,
}

/// How long a hostile machine is at it before power comes to the others: what it leaves behind piles up, until the head gives up.
pub fn lead(rate: u32) -> Duration {
    Duration::from_secs((1000 / u64::from(rate.max(1))).clamp(2, 30))
}

struct Ended {
    summary: Summary,
    faults: Vec<String>,
}

impl Ended {
    /// Runs a world to the end of its fleet's storm.
    fn of<C: Machine>(mut world: World<Server, C>, fleet: fn(&C) -> &Fleet) -> (Ended, World<Server, C>) {
        let done = world.run(Instant::ZERO + END, |world| fleet(world.clients()).done());
        let summary = fleet(world.clients()).summary();
        let mut faults = wrong_bytes(&world, &summary.files);
        faults.extend(summary.lost_by.iter().map(|lost| format!("{} are lost in {}: {}", lost.machines, lost.stage, lost.cause)));
        faults.extend((!done).then(|| "it does not end".to_string()));
        faults.extend((summary.moved > 0).then(|| format!("{} machines came to another address", summary.moved)));
        (Ended { summary, faults }, world)
    }
}

impl Siege {
    /// Runs it, and once more in peace.
    pub fn run(&self) -> HostileOutcome {
        let plan = StormPlan {
            count: NODES as usize,
            first: FIRST,
            lives: self.kind.lives(0, NODES),
            names: vec![KERNEL.into()],
            power: vec![Switch { at: lead(self.rate), who: 0..NODES, on: true }],
            spread: Duration::from_millis(500),
            seed: self.seed,
            ..StormPlan::default()
        };
        let weather = Weather { wire: Wire { rate: 100_000_000, ..Wire::GIGABIT }, habits: Habits::default(), strangers: u32::MAX };
        let quiet = Ended::of(storm(self.seed, &plan, &weather, self.size), |fleet| fleet);
        let mut world = storm(self.seed, &plan, &weather, self.size);
        for n in 0..NAMES {
            world.disk_mut().put(&format!("{KERNEL}-{n}"), self.size);
        }
        let node0 = world.server().config().plan.node0();
        let Siege { attacks, rate, seed, .. } = self.clone();
        let assault = Assault { attacks, rate, first: FIRST, node0, nodes: NODES, file: KERNEL.into(), seed };
        let hostile = Hostile::new(assault, Instant::ZERO).expect("a sound assault");
        let fleet = Fleet::new(plan, Instant::ZERO).expect("a sound plan");
        let (ended, world) = Ended::of(world.with_clients(Company { fleet, hostile }), |company| &company.fleet);
        let sent = world.clients().hostile.sent().unwrap_or_default();
        let astray = (0..NODES).filter(|&n| {
            let address = world.clients().fleet.machine(n as usize).and_then(|machine| machine.address);
            address.is_some_and(|address| address.to_bits() != node0.to_bits() + n)
        });
        let astray = astray.count();
        let Ended { summary, mut faults } = ended;
        let (boot, quiet) = (summary.boot.last, quiet.0.summary.boot.last);
        let slow = boot > quiet * 1.1 + 1.0;
        faults.extend(slow.then(|| format!("the last one boots for {boot:.3} s, in peace for {quiet:.3} s")));
        faults.extend((astray > 0).then(|| format!("{astray} have an address that is another one than their number's")));
        faults.extend((sent == 0).then(|| "the hostile machine has heard of no head".to_string()));
        HostileOutcome { sent, up: summary.up, boot, quiet, faults }
    }

    /// In one line, for people.
    pub fn title(&self) -> String {
        let attacks: Vec<&str> = self.attacks.iter().map(|attack| attack.name()).collect();
        format!("{NODES} of {} beside {} at {} a second, seed {}", self.kind.name, attacks.join(","), self.rate, self.seed)
    }
}
