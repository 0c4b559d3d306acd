//! Power flickers: a crowd of machines loses power at some moment of its boot, a part of it has power again soon after, and another crowd boots meanwhile.
//!
//! The law: however many die, of whatever kind and whenever, it costs the living a small share and nothing else. Beside the run with the dead there is a run of
//! the same seed in which those never had power before (who comes back boots for the first time then); everybody who has power at the end must be up in both,
//! and a crowd's last machine may need a tenth more time than there, and a second.

use std::time::Duration;

use super::disk::Habits;
use super::net::{Odds, Wire};
use super::swarm::{Storm, Weather, storm, wrong_bytes};
use crate::base::rng::{Rng, mix};
use crate::base::time::Instant;
use crate::fleet::life::{Life, Stages, StormPlan};
use crate::fleet::summary::{CrowdSummary, Quantiles};
use crate::fleet::{Asks, Firmware, Switch};

/// A kind of machines: a firmware, or a mix of all, and the window that it asks for where that is not the firmware's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlickerKind {
    /// Its name in tables.
    pub name: &'static str,
    firmware: Option<Firmware>,
    windowsize: Option<u16>,
}

impl FlickerKind {
    const fn of(firmware: Firmware) -> FlickerKind {
        FlickerKind { name: firmware.name(), firmware: Some(firmware), windowsize: None }
    }

    /// The lives of machines of this kind in these places.
    pub(super) fn lives(self, first: u32, end: u32) -> Vec<Life> {
        let (stages, asks) = (Stages::default(), Asks { windowsize: self.windowsize, ..Asks::default() });
        let lives = self.firmware.map_or_else(|| Life::mix(stages, 1), |firmware| vec![Life::of(firmware, 1, stages, 1)]);
        lives.into_iter().map(|life| Life { places: first..end, asks, ..life }).collect()
    }
}

/// All that boot. EDK2 asks for windows of 4.
pub const KINDS: [FlickerKind; 9] = [
    FlickerKind::of(Firmware::Rom),
    FlickerKind::of(Firmware::Edk2),
    FlickerKind { name: "edk2 with windows of 16", firmware: Some(Firmware::Edk2), windowsize: Some(16) },
    FlickerKind::of(Firmware::Ipxe),
    FlickerKind::of(Firmware::Grub),
    FlickerKind::of(Firmware::UBoot),
    FlickerKind::of(Firmware::Pxelinux),
    FlickerKind::of(Firmware::RaspberryPi),
    FlickerKind { name: "mix", firmware: None, windowsize: None },
];
/// How many die.
pub const COUNTS: [u32; 5] = [20, 60, 100, 300, 900];
/// How fast the link is, in bits a second.
pub const RATES: [u64; 2] = [100_000_000, 1_000_000_000];
/// How many boot beside them.
pub const LIVING: u32 = 50;
const END: Duration = Duration::from_secs(600);

/// What is decided before the seed decides the rest: when power goes, who has it again and when.
#[derive(Clone, Copy, Debug)]
pub struct Flicker {
    /// Those that lose their power.
    pub dead: FlickerKind,
    /// Those that boot beside them.
    pub living: FlickerKind,
    /// How many lose their power.
    pub count: u32,
    /// Of the link, in bits a second.
    pub rate: u64,
    /// Decides the rest.
    pub seed: u64,
}

/// What became of one crowd, beside the same one without the dead.
#[derive(Clone, Debug, PartialEq)]
pub struct Beside {
    /// Beside the dead.
    pub with: CrowdSummary,
    /// Without them.
    pub without: CrowdSummary,
}

/// What became of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct FlickerOutcome {
    /// Stands for the whole run with the dead.
    pub hash: u64,
    /// Machines that were booting when their power went.
    pub interrupted: u64,
    /// Those whose power stayed.
    pub living: Beside,
    /// Those of the dead that have power again; None where nobody has.
    pub returned: Option<Beside>,
    /// What broke a law, in words.
    pub faults: Vec<String>,
}

/// What the seed decides.
struct Drawn {
    plan: StormPlan,
    weather: Weather,
    /// Bytes of a file.
    size: u64,
    off: Duration,
    /// How many of the dead have power again, and when.
    returning: u32,
    back: Duration,
    /// When the others boot.
    later: Duration,
}

impl Flicker {
    /// A flicker all of whose circumstances come from the seed.
    pub fn drawn(seed: u64) -> Flicker {
        let mut rng = Rng::new(mix(seed ^ 0xf11c));
        let mut kind = || KINDS[rng.below(KINDS.len() as u64) as usize];
        let (dead, other) = (kind(), kind());
        let living = if rng.chance(500_000) { dead } else { other };
        let (count, rate) = (COUNTS[rng.below(COUNTS.len() as u64) as usize], RATES[rng.below(RATES.len() as u64) as usize]);
        Flicker { dead, living, count, rate, seed }
    }

    fn draw(&self) -> Drawn {
        let mut rng = Rng::new(self.seed);
        // All of the dead together would load for about a second.
        let size = (self.rate / 8 / u64::from(self.count)).clamp(32_768, 4 << 20);
        let wire = Wire { rate: self.rate, odds: Odds::NONE, ..Wire::GIGABIT };
        let weather = Weather { wire, habits: Habits::default(), strangers: u32::MAX };
        let count = self.count + LIVING;
        let plan = StormPlan {
            count: count as usize,
            first: 1,
            lives: [self.dead.lives(0, self.count), self.living.lives(self.count, count)].concat(),
            names: vec![super::config::KERNEL.into()],
            spread: Duration::from_millis(rng.below(2) * rng.below(1000)),
            seed: rng.u64(),
            ..StormPlan::default()
        };
        let returning = [0, self.count / 2, self.count][rng.below(3) as usize];
        let mut drawn = Drawn { plan, weather, size, off: Duration::ZERO, returning, back: Duration::ZERO, later: Duration::ZERO };
        drawn.off = drawn.moment(self, &mut rng);
        drawn.back = drawn.off + Duration::from_millis(100 + rng.below(5_000));
        drawn.later = drawn.off + Duration::from_millis(rng.below(2_000));
        drawn
    }

    /// Runs it twice, and judges.
    pub fn run(&self) -> FlickerOutcome {
        let drawn = self.draw();
        let first_power = (0..self.count, drawn.off, false);
        // The dead have no power before it comes back, and those that it does not come back to never have.
        let never = (0..self.count, Duration::ZERO, false);
        let (with, without) = (drawn.play(self, first_power), drawn.play(self, never));
        let crowds = |who: std::ops::Range<u32>| Beside { with: with.clients().crowd(who.clone()), without: without.clients().crowd(who) };
        let living = crowds(self.count..self.count + LIVING);
        let returned = Some(crowds(0..drawn.returning)).filter(|_| drawn.returning > 0);
        let mut faults = [sound("with the dead", &with), sound("without them", &without)].concat();
        faults.extend(living.faults("the living"));
        faults.extend(returned.iter().flat_map(|returned| returned.faults("who has power again")));
        FlickerOutcome { hash: with.hash(), interrupted: with.clients().summary().interrupted, living, returned, faults }
    }

    /// In one line, for people.
    pub fn title(&self) -> String {
        let Flicker { dead, living, count, rate, seed } = self;
        format!("{count} of {} die beside {LIVING} of {} at {} Mbit/s, seed {seed}", dead.name, living.name, rate / 1_000_000)
    }
}

impl Drawn {
    /// A moment in the life of those who die, oftener one at which files are loaded.
    fn moment(&self, flicker: &Flicker, rng: &mut Rng) -> Duration {
        let world = self.run(StormPlan {
            power: vec![Switch { at: Duration::ZERO, who: flicker.count..flicker.count + LIVING, on: false }],
            ..self.plan.clone()
        });
        let summary = world.clients().summary();
        let begin = if rng.chance(750_000) { summary.lease.last.min(summary.up_at.last) } else { 0.0 };
        Duration::from_secs_f64(begin + (summary.up_at.last - begin) * rng.below(1000) as f64 / 1000.0)
    }

    fn play(&self, flicker: &Flicker, first_power: (std::ops::Range<u32>, Duration, bool)) -> Storm {
        let others = (flicker.count..flicker.count + LIVING, self.later, true);
        let back = (0..self.returning, self.back, true);
        let switches = [Some(first_power), Some(others), Some(back).filter(|_| self.returning > 0)];
        let power = switches.into_iter().flatten().map(|(who, at, on)| Switch { at, who, on }).collect();
        self.run(StormPlan { power, ..self.plan.clone() })
    }

    fn run(&self, plan: StormPlan) -> Storm {
        let mut world = storm(self.plan.seed, &plan, &self.weather, self.size);
        world.run(Instant::ZERO + END, |world| world.clients().done());
        world
    }
}

impl Beside {
    fn faults(&self, who: &str) -> Vec<String> {
        let Beside { with, without } = self;
        let last = |crowd: &CrowdSummary| crowd.boot.last;
        let slow = last(with) > last(without) * 1.1 + 1.0;
        let rules = [
            (without.up < without.machines, format!("{who}: without the dead only {} of {} are up", without.up, without.machines)),
            (with.up < with.machines, format!("{who}: {} of {} are up, {} lost", with.up, with.machines, with.lost)),
            (slow, format!("{who}: the last one boots for {:.3} s, without the dead for {:.3} s", last(with), last(without))),
        ];
        rules.into_iter().filter(|(broken, _)| *broken).map(|(_, fault)| fault).collect()
    }
}

/// What the checkers say of a run, whoever died in it.
fn sound(which: &str, world: &Storm) -> Vec<String> {
    let (findings, summary) = (world.findings(), world.clients().summary());
    let mut faults: Vec<String> = findings.violations.iter().map(ToString::to_string).collect();
    faults.extend(wrong_bytes(world, &summary.files));
    faults.extend(summary.lost_by.iter().map(|lost| format!("{} are lost in {}: {}", lost.machines, lost.stage, lost.cause)));
    faults.extend((!world.clients().done()).then(|| "it does not end".to_string()));
    faults.extend((summary.conflicts > 0).then(|| format!("{} addresses were taken into use by two machines", summary.conflicts)));
    faults.extend((summary.moved > 0).then(|| format!("{} machines came to another address", summary.moved)));
    faults.into_iter().map(|fault| format!("{which}: {fault}")).collect()
}

impl std::fmt::Display for FlickerOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pair = |beside: &Beside| {
            let Quantiles { last, .. } = beside.with.boot;
            format!(
                "{} of {} up, last {last:.3} s (without the dead {:.3} s)",
                beside.with.up, beside.with.machines, beside.without.boot.last
            )
        };
        write!(f, "{} were booting; the living: {}", self.interrupted, pair(&self.living))?;
        self.returned.iter().try_for_each(|returned| write!(f, "; who has power again: {}", pair(returned)))
    }
}
