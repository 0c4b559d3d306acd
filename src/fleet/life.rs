//! What the machines of a fleet are to do: the plan, and the life of each kind of machine as a list of steps.

use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use super::Name;
use super::firmware::Firmware;
use super::power::Switch;
use super::tftp::Asks;

/// The machine's place is in its MAC (32 bits) and in 20 bits of its xids.
pub const COUNT_MAX: usize = 1 << 20;
/// Blocks that fit into a frame: fragments are not put together.
const BLKSIZES: RangeInclusive<u16> = crate::wire::tftp::BLKSIZE_MIN..=1468;
/// Steps of one life.
pub const STEPS_MAX: usize = 64;

/// Which file a machine asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootFile {
    /// The one that its lease names.
    Offered,
    /// One of the plan's, by its place in [`StormPlan::names`].
    Named(u16),
}

/// One stage of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootStep {
    /// Asks for a lease, from nothing.
    Dhcp(Firmware),
    /// Asks for the lease that it has once more, as a system does that remembers it (INIT-REBOOT); from nothing when it has none.
    Reboot(Firmware),
    /// Loads a file.
    Fetch(Firmware, BootFile),
}

impl BootStep {
    /// `rom dhcp`, `os reboot`, `ipxe load`.
    pub fn label(self) -> StepLabel {
        match self {
            BootStep::Dhcp(firmware) => StepLabel(firmware, "dhcp"),
            BootStep::Reboot(firmware) => StepLabel(firmware, "reboot"),
            BootStep::Fetch(firmware, _) => StepLabel(firmware, "load"),
        }
    }
}

/// A step as tables show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StepLabel(Firmware, &'static str);

impl fmt::Display for StepLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.1)
    }
}

/// What follows the firmware's own stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// The firmware loads iPXE, which asks again and loads a script and the files.
    pub ipxe: bool,
    /// An operating system asks for a lease at the end, with another client-id, and renews it.
    pub os: bool,
}

/// A kind of machine, and how many of them there are.
#[derive(Clone, Debug)]
pub struct Life {
    /// In proportion to the weights of the other lives.
    pub weight: u32,
    /// What it does, one after the other.
    pub steps: Vec<BootStep>,
    /// In which places machines of this kind may stand: anywhere, unless this is set.
    pub places: Range<u32>,
    /// In place of the firmware's own options.
    pub asks: Asks,
}

impl Life {
    /// The usual boot by `firmware`: it loads the first `files` of the plan's named files, or what its lease names when there are none. Boot loaders
    /// (GRUB, pxelinux, and iPXE as a stage) are loaded first, as the offered file.
    pub fn of(firmware: Firmware, weight: u32, stages: Stages, files: usize) -> Life {
        let named = |by: Firmware| (0..files.min(usize::from(u16::MAX))).map(move |n| BootStep::Fetch(by, BootFile::Named(n as u16)));
        let load = |by: Firmware| if files == 0 { vec![BootStep::Fetch(by, BootFile::Offered)] } else { named(by).collect() };
        let offered = |by: Firmware| vec![BootStep::Dhcp(by), BootStep::Fetch(by, BootFile::Offered)];
        let mut steps = match firmware {
            Firmware::Os => vec![BootStep::Dhcp(Firmware::Os)],
            Firmware::Grub => [offered(Firmware::Edk2), load(firmware)].concat(),
            Firmware::Pxelinux => [offered(Firmware::Rom), load(firmware)].concat(),
            Firmware::Ipxe if stages.ipxe => [offered(firmware), named(firmware).collect()].concat(),
            _ if stages.ipxe => [offered(firmware), offered(Firmware::Ipxe), named(Firmware::Ipxe).collect()].concat(),
            _ => [vec![BootStep::Dhcp(firmware)], load(firmware)].concat(),
        };
        if stages.os && firmware != Firmware::Os {
            steps.push(BootStep::Dhcp(Firmware::Os));
        }
        Life { weight, steps, places: 0..u32::MAX, asks: Asks::default() }
    }

    /// One of each firmware that boots on its own.
    pub fn mix(stages: Stages, files: usize) -> Vec<Life> {
        let firmwares = Firmware::ALL.iter().filter(|&&firmware| firmware != Firmware::Os);
        firmwares.map(|&firmware| Life::of(firmware, 1, stages, files)).collect()
    }

    /// Its weight where a machine of this kind may stand.
    pub(super) fn weight_in(&self, place: u32) -> u64 {
        if self.places.contains(&place) { self.weight.into() } else { 0 }
    }

    pub(super) fn fetches(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, BootStep::Fetch(..))).count()
    }
}

/// A storm, whole. The same plan gives the same storm.
#[derive(Clone, Debug)]
pub struct StormPlan {
    /// Machines.
    pub count: usize,
    /// The number of the first one; its MAC is 02:4d and this number.
    pub first: u32,
    /// The kinds of machines.
    pub lives: Vec<Life>,
    /// Files that are asked for by name.
    pub names: Vec<Vec<u8>>,
    /// Power comes back to each machine at a time of its own within this.
    pub spread: Duration,
    /// Power that comes later, and goes: a machine whose first switch does not bring it has it from the beginning.
    pub power: Vec<Switch>,
    /// How many of a machine's first frames are lost, waking its NIC and its switch port; until then nothing reaches it either.
    pub wake: u32,
    /// Per mille of the machines that do not answer ARP while they load.
    pub deaf: u32,
    /// Parts per million of the frames in either direction that are lost.
    pub loss: u32,
    /// Decides all that is random: the same seed gives the same storm.
    pub seed: u64,
}

impl Default for StormPlan {
    /// One ROM that loads what it is offered.
    fn default() -> StormPlan {
        StormPlan {
            count: 1,
            first: 0,
            lives: vec![Life::of(Firmware::Rom, 1, Stages::default(), 0)],
            names: Vec::new(),
            spread: Duration::ZERO,
            power: Vec::new(),
            wake: 0,
            deaf: 0,
            loss: 0,
            seed: 0,
        }
    }
}

impl StormPlan {
    /// What makes the plan impossible, as one sentence.
    pub fn check(&self) -> Result<(), &'static str> {
        let named = |step: &BootStep| match step {
            BootStep::Fetch(_, BootFile::Named(n)) => usize::from(*n) < self.names.len(),
            _ => true,
        };
        // A file is loaded by a lease.
        let begins = |life: &Life| matches!(life.steps.first(), Some(BootStep::Dhcp(_)));
        let peopled = |place| self.lives.iter().any(|life| life.weight_in(place) > 0);
        let inside = |switch: &Switch| switch.who.start < switch.who.end && switch.who.end as usize <= self.count;
        let windows = |life: &Life| life.asks.windowsize != Some(0);
        let blksizes = |life: &Life| life.asks.blksize.is_none_or(|bytes| BLKSIZES.contains(&bytes));
        let rules = [
            ((1..=COUNT_MAX).contains(&self.count), "a fleet has 1 to 1,048,576 machines"),
            (u64::from(self.first) + self.count as u64 <= 1 << 32, "the machines' numbers go beyond 32 bits"),
            ((0..self.count.min(COUNT_MAX) as u32).all(peopled), "there is a place where no kind of machine has a weight"),
            (self.lives.len() <= usize::from(u16::MAX), "too many kinds of machines"),
            (self.lives.iter().all(begins), "a life begins with DHCP"),
            (self.lives.iter().all(|life| life.steps.len() <= STEPS_MAX), "a life has at most 64 steps"),
            (self.lives.iter().flat_map(|life| &life.steps).all(named), "a step names a file that the plan does not have"),
            (self.names.iter().all(|name| !name.is_empty() && Name::new(name).is_some()), "a file's name has 1 to 255 bytes"),
            (self.names.iter().all(|name| !name.contains(&0)), "a file's name has no NUL"),
            (self.deaf <= 1000, "ARP-deaf machines are counted per mille"),
            (self.loss <= 1_000_000, "loss is counted in parts per million"),
            (self.lives.iter().all(blksizes), "a blksize has 8 to 1,468 bytes, what fits into a frame"),
            (self.lives.iter().all(windows), "a windowsize is at least 1"),
            (
                self.power.iter().all(inside),
                "power comes and goes for machines that are there: places count from 0 to the number of machines less one",
            ),
        ];
        rules.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, why)| Err(why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story(firmware: Firmware, stages: Stages, files: usize) -> String {
        let steps = Life::of(firmware, 1, stages, files).steps;
        steps.iter().map(|step| step.label().to_string()).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn lives() {
        let (plain, all) = (Stages::default(), Stages { ipxe: true, os: true });
        assert_eq!(story(Firmware::Rom, plain, 0), "rom dhcp, rom load");
        assert_eq!(story(Firmware::Rom, plain, 2), "rom dhcp, rom load, rom load");
        assert_eq!(story(Firmware::Edk2, all, 1), "edk2 dhcp, edk2 load, ipxe dhcp, ipxe load, ipxe load, os dhcp");
        assert_eq!(story(Firmware::Grub, plain, 1), "edk2 dhcp, edk2 load, grub load");
        assert_eq!(story(Firmware::Ipxe, all, 1), "ipxe dhcp, ipxe load, ipxe load, os dhcp");
        assert_eq!(story(Firmware::Os, all, 1), "os dhcp");
    }

    #[test]
    fn plans_that_cannot_be() {
        let why = |change: fn(&mut StormPlan)| {
            let mut plan = StormPlan::default();
            change(&mut plan);
            plan.check().err().unwrap_or("fine")
        };
        assert_eq!(why(|_| ()), "fine");
        assert!(why(|plan| plan.count = 0).contains("machines"));
        assert!(why(|plan| plan.lives.clear()).contains("weight"));
        assert!(why(|plan| plan.first = u32::MAX).contains("fine"));
        assert!(why(|plan| (plan.first, plan.count) = (u32::MAX, 2)).contains("32 bits"));
        assert!(why(|plan| plan.lives = vec![Life::of(Firmware::Rom, 1, Stages::default(), 1)]).contains("does not have"));
        assert!(why(|plan| plan.names = vec![vec![b'x'; 256]]).contains("255"));
        assert!(why(|plan| plan.deaf = 1001).contains("per mille"));
        assert!(why(|plan| plan.lives[0].places = 1..9).contains("weight"));
        assert!(why(|plan| plan.power = vec![Switch { at: Duration::ZERO, who: 0..2, on: true }]).contains("places"));
        assert!(why(|plan| plan.power = vec![Switch { at: Duration::ZERO, who: 0..1, on: true }]).contains("fine"));
    }
}
