//! What a storm came to: gathered from the machines' records at the end, for people (a table) and for programs (serde).

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::Duration;

use serde::Serialize;

use super::life::StepLabel;
use super::machine::{Fleet, Progress};
use super::node::{FleetNode, MachineStatus};
use crate::base::addr::Mac;

/// Contents of one name that the table shows.
const KINDS_SHOWN: usize = 3;

/// Seconds, at places of the sorted list; all 0 when it is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// The least.
    pub first: f64,
    /// Half are no more than this.
    pub median: f64,
    /// 99 of 100 are no more than this.
    pub p99: f64,
    /// The greatest.
    pub last: f64,
}

impl Quantiles {
    fn of(mut seconds: Vec<f64>) -> Quantiles {
        seconds.sort_unstable_by(f64::total_cmp);
        Quantiles::of_sorted(&seconds)
    }

    fn of_sorted(seconds: &[f64]) -> Quantiles {
        // The nearest rank.
        let at = |percent: usize| seconds.get((seconds.len() * percent).div_ceil(100).max(1) - 1).copied().unwrap_or(0.0);
        Quantiles { first: at(0), median: at(50), p99: at(99), last: at(100) }
    }
}

/// Machines that ended in the same place for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// `rom dhcp`, `ipxe load`.
    pub stage: String,
    /// Why; one of `fleet::cause`.
    pub cause: &'static str,
    /// How many machines.
    pub machines: usize,
}

/// How long one stage of a boot took, over all machines that got through it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageTimes {
    /// `rom dhcp`, `ipxe load`.
    pub stage: String,
    /// Times that it was gone through: a life may hold a stage more than once.
    pub times: usize,
    /// Seconds.
    pub took: Quantiles,
}

/// A file as the machines received it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoadedFile {
    /// The file's name, as it was requested.
    pub name: String,
    /// Bytes.
    pub len: u64,
    /// Sixteen hexadecimal digits; see [`Hash`](super::tftp::Hash).
    pub hash: String,
    /// Times that it was loaded so.
    pub loads: usize,
    /// Whether nobody received other bytes under this name.
    pub agreed: bool,
}

/// Machines that stand side by side; see [`Fleet::crowd`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CrowdSummary {
    /// The place of the first one.
    pub first: u32,
    /// How many there are.
    pub machines: usize,
    /// Booted.
    pub up: usize,
    /// Waiting for power.
    pub off: usize,
    /// On their way.
    pub booting: usize,
    /// Given up.
    pub lost: usize,
    /// Without power, for good.
    pub cut: usize,
    /// When machines came up, in seconds since the storm began.
    pub up_at: Quantiles,
    /// From the last time that power came to a machine until it was up, in seconds.
    pub boot: Quantiles,
    /// The longest silence of a running transfer, in seconds.
    pub longest_gap: f64,
}

/// See [`Fleet::summary`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// How many there are.
    pub machines: usize,
    /// Booted.
    pub up: usize,
    /// Waiting for power.
    pub off: usize,
    /// On their way.
    pub booting: usize,
    /// Given up, for good.
    pub lost: usize,
    /// Machines whose power went for good: neither up nor lost.
    pub cut: usize,
    /// Times that power went while a machine booted.
    pub interrupted: u64,
    /// Where and why machines gave up.
    pub lost_by: Vec<Lost>,
    /// The machines that have the same switches of power; empty where there are none.
    pub crowds: Vec<CrowdSummary>,
    /// When machines came up, in seconds since the storm began.
    pub up_at: Quantiles,
    /// From a machine's own power-on until it was up, in seconds.
    pub boot: Quantiles,
    /// How long each stage took.
    pub stages: Vec<StageTimes>,
    /// Jain's index of `boot`: 1 when all took the same time, 1/n when one took it all.
    pub fairness: f64,
    /// The longest silence between two packets of a running transfer, of any machine, in seconds.
    pub longest_gap: f64,
    /// Gaps of all running transfers: classes by their upper end in milliseconds, and how many gaps fall into each.
    pub gaps_ms: Vec<(f64, u64)>,
    /// When each machine came up, in seconds since the storm began, sorted.
    pub completions_s: Vec<f64>,
    /// From the first DISCOVER of a machine's life to its ACK, in seconds.
    pub lease: Quantiles,
    /// Packets that clients sent again because nothing came.
    pub retries: u64,
    /// Packets that clients heard again, or that were of no use to them.
    pub duplicates: u64,
    /// File content received, in bytes, of failed transfers too.
    pub bytes: u64,
    /// What was loaded.
    pub files: Vec<LoadedFile>,
    /// Whether all loads of a name gave the same bytes.
    pub agreed: bool,
    /// Machines that got another address in a later stage.
    pub moved: usize,
    /// Times that an address was given to a machine while another held it.
    pub conflicts: u64,
    /// Frames that the machines sent.
    pub frames_sent: u64,
    /// Frames that they received.
    pub frames_received: u64,
    /// Lost by the plan, at random and to the wake-up of switch ports.
    pub frames_lost: u64,
    /// Frames to machines without power or with a sleeping switch port.
    pub frames_asleep: u64,
    /// Frames that no machine wanted.
    pub frames_stray: u64,
}

/// One machine; see [`Fleet::machine`].
#[derive(Clone, Debug)]
pub struct MachineView {
    /// Its MAC address.
    pub mac: Mac,
    /// The address that it has now.
    pub address: Option<Ipv4Addr>,
    /// Where it is in its life.
    pub status: MachineStatus,
    /// What it is at, or where it was lost; empty when it is through.
    pub stage: String,
    /// The stages that it is through with, in order, and how long each took.
    pub stages: Vec<(String, Duration)>,
    /// Name, bytes and hash of each file that was loaded, in order.
    pub files: Vec<(String, u64, u64)>,
    /// Since the storm began; zero before.
    pub powered: Duration,
    /// Likewise: when it came up or was lost.
    pub ended: Duration,
    /// Packets that it sent again.
    pub retries: u32,
    /// Packets that it heard again, or had no use for.
    pub duplicates: u32,
    /// Its last DHCP transaction, and how many DISCOVERs it has sent in that, and REQUESTs since the last of them.
    pub xid: u32,
    /// DISCOVERs, and REQUESTs since the last of them.
    pub tries: (u8, u8),
}

pub(super) fn view(fleet: &Fleet, place: usize, node: &FleetNode) -> MachineView {
    let first = place * fleet.fetched_each;
    let loaded = fleet.fetched.get(first..first + usize::from(node.fetched)).unwrap_or(&[]);
    MachineView {
        mac: node.mac,
        address: node.address,
        status: node.status,
        stage: fleet.label_of(node).map(|label| label.to_string()).unwrap_or_default(),
        stages: stages_of(fleet, place, node).map(|(label, took)| (label.to_string(), took)).collect(),
        files: loaded.iter().map(|file| (fleet.loaded.text(file.name), file.len, file.hash)).collect(),
        powered: node.powered.since(fleet.began),
        ended: node.ended.since(fleet.began),
        retries: node.retries,
        duplicates: node.duplicates,
        xid: node.dhcp.xid(),
        tries: node.dhcp.tries(),
    }
}

/// The stages that a machine is through with; each begins when the one before ends.
fn stages_of<'a>(fleet: &'a Fleet, place: usize, node: &'a FleetNode) -> impl Iterator<Item = (StepLabel, Duration)> + 'a {
    let first = place * fleet.steps_each;
    let through = fleet.through.get(first..first + usize::from(node.step)).unwrap_or(&[]);
    let steps = fleet.plan.lives.get(usize::from(node.life)).map_or(&[][..], |life| &life.steps);
    let begins = std::iter::once(&node.powered).chain(through);
    steps.iter().zip(through.iter().zip(begins)).map(|(step, (end, begin))| (step.label(), end.since(*begin)))
}

fn stages(fleet: &Fleet) -> Vec<StageTimes> {
    let mut took: BTreeMap<StepLabel, Vec<f64>> = BTreeMap::new();
    for (place, node) in fleet.nodes.iter().enumerate() {
        for (label, time) in stages_of(fleet, place, node) {
            took.entry(label).or_default().push(time.as_secs_f64());
        }
    }
    let stage =
        |(label, took): (StepLabel, Vec<f64>)| StageTimes { stage: label.to_string(), times: took.len(), took: Quantiles::of(took) };
    took.into_iter().map(stage).collect()
}

fn lost_by(fleet: &Fleet) -> Vec<Lost> {
    let mut counts = BTreeMap::new();
    for node in &fleet.nodes {
        if let MachineStatus::Lost(cause) = node.status {
            *counts.entry((fleet.label_of(node), cause)).or_insert(0) += 1;
        }
    }
    let stage = |label: Option<StepLabel>| label.map_or_else(|| "up".into(), |label| label.to_string());
    counts.into_iter().map(|((label, cause), machines)| Lost { stage: stage(label), cause: cause.name(), machines }).collect()
}

pub(super) fn crowd(fleet: &Fleet, who: Range<u32>) -> CrowdSummary {
    let nodes = fleet.nodes.get(who.start as usize..who.end as usize).unwrap_or(&[]);
    let count = |is: fn(&MachineStatus) -> bool| nodes.iter().filter(|node| is(&node.status)).count();
    let up = || nodes.iter().filter(|node| node.status == MachineStatus::Up);
    CrowdSummary {
        first: who.start,
        machines: nodes.len(),
        up: up().count(),
        off: count(|status| *status == MachineStatus::Off),
        booting: count(|status| *status == MachineStatus::Booting),
        lost: count(|status| matches!(status, MachineStatus::Lost(_))),
        cut: count(|status| *status == MachineStatus::Cut),
        up_at: Quantiles::of(up().map(|node| node.ended.since(fleet.began).as_secs_f64()).collect()),
        boot: Quantiles::of(up().map(|node| node.ended.since(node.powered).as_secs_f64()).collect()),
        longest_gap: longest_gap(nodes),
    }
}

fn longest_gap(nodes: &[FleetNode]) -> f64 {
    nodes.iter().map(|node| node.gap).max().unwrap_or_default().as_secs_f64()
}

fn files(fleet: &Fleet) -> Vec<LoadedFile> {
    let (mut counts, mut kinds) = (BTreeMap::new(), BTreeMap::new());
    for (place, node) in fleet.nodes.iter().enumerate() {
        let first = place * fleet.fetched_each;
        for file in fleet.fetched.get(first..first + usize::from(node.fetched)).unwrap_or(&[]) {
            let times = counts.entry((file.name, file.len, file.hash)).or_insert(0);
            *kinds.entry(file.name).or_insert(0) += usize::from(*times == 0);
            *times += 1;
        }
    }
    let content = |((name, len, hash), loads): ((u32, u64, u64), usize)| LoadedFile {
        name: fleet.loaded.text(name),
        len,
        hash: format!("{hash:016x}"),
        loads,
        // Names that found no room in the table share a place; they cannot be compared.
        agreed: kinds.get(&name) == Some(&1) || name == super::names::NameTable::OTHER,
    };
    counts.into_iter().map(content).collect()
}

/// (sum x)^2 / (n * sum x^2) (Jain, Chiu and Hawe, 1984); 1 for nobody.
fn fairness(seconds: &[f64]) -> f64 {
    let (sum, squares) = seconds.iter().fold((0.0, 0.0), |(sum, squares), x| (sum + x, squares + x * x));
    if squares > 0.0 { sum * sum / (seconds.len() as f64 * squares) } else { 1.0 }
}

pub(super) fn of(fleet: &Fleet) -> Summary {
    let Progress { off, booting, up, lost, cut } = fleet.progress();
    let nodes = &fleet.nodes;
    let came_up = || nodes.iter().filter(|node| node.status == MachineStatus::Up);
    let boot: Vec<f64> = came_up().map(|node| node.ended.since(node.powered).as_secs_f64()).collect();
    let files = files(fleet);
    let mut completions: Vec<f64> = came_up().map(|node| node.ended.since(fleet.began).as_secs_f64()).collect();
    completions.sort_unstable_by(f64::total_cmp);
    Summary {
        machines: nodes.len(),
        up,
        off,
        booting,
        lost,
        cut,
        interrupted: fleet.interrupted,
        lost_by: lost_by(fleet),
        crowds: fleet.plan.crowds().into_iter().map(|who| crowd(fleet, who)).collect(),
        up_at: Quantiles::of_sorted(&completions),
        completions_s: completions,
        stages: stages(fleet),
        fairness: fairness(&boot),
        boot: Quantiles::of(boot),
        longest_gap: longest_gap(nodes),
        gaps_ms: fleet.gaps.iter().collect(),
        lease: Quantiles::of(nodes.iter().filter_map(|node| node.first_lease).map(|wait| wait.as_secs_f64()).collect()),
        retries: nodes.iter().map(|node| u64::from(node.retries)).sum(),
        duplicates: nodes.iter().map(|node| u64::from(node.duplicates)).sum(),
        bytes: nodes.iter().map(|node| node.bytes).sum(),
        agreed: files.iter().all(|file| file.agreed),
        files,
        moved: nodes.iter().filter(|node| node.moved).count(),
        conflicts: fleet.conflicts,
        frames_sent: fleet.frames.sent,
        frames_received: fleet.frames.received,
        frames_lost: fleet.frames.lost,
        frames_asleep: fleet.frames.asleep,
        frames_stray: fleet.frames.stray,
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Quantiles { first, median, p99, last } = self;
        write!(f, "first {first:.3} s   median {median:.3} s   p99 {p99:.3} s   last {last:.3} s")
    }
}

impl fmt::Display for CrowdSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CrowdSummary { first, machines, up, off, booting, lost, cut, boot, longest_gap, .. } = self;
        let last = *first as usize + machines - 1;
        write!(f, "{first}-{last}: {up} up, {lost} lost, {booting} booting, {off} off, {cut} without power for good; ")?;
        write!(f, "last boot {:.3} s, longest gap {longest_gap:.3} s", boot.last)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { machines, up, lost, off, booting, cut, interrupted, .. } = self;
        let cut = if *cut > 0 { format!(", {cut} without power for good") } else { String::new() };
        writeln!(f, "machines      {machines}: {up} up, {lost} lost, {booting} booting, {off} off{cut}")?;
        for crowd in &self.crowds {
            writeln!(f, "  crowd       {crowd}")?;
        }
        if *interrupted > 0 {
            writeln!(f, "power         went {interrupted} times while a machine booted")?;
        }
        for Lost { stage, cause, machines } in &self.lost_by {
            writeln!(f, "  lost        {machines} in {stage}: {cause}")?;
        }
        writeln!(f, "up            {}", self.up_at)?;
        writeln!(f, "boot          {}   fairness {:.3}", self.boot, self.fairness)?;
        for StageTimes { stage, times, took } in &self.stages {
            writeln!(f, "  stage       {took}   {times} x {stage}")?;
        }
        writeln!(f, "lease         {}", self.lease)?;
        writeln!(f, "longest gap   {:.3} s", self.longest_gap)?;
        writeln!(f, "clients       {} retries, {} duplicates heard", self.retries, self.duplicates)?;
        let rate = if self.up_at.last > 0.0 { self.bytes as f64 / 1e6 / self.up_at.last } else { 0.0 };
        writeln!(f, "content       {:.1} MB, {rate:.1} MB/s until the last was up", self.bytes as f64 / 1e6)?;
        for kinds in self.files.chunk_by(|one, other| one.name == other.name) {
            for LoadedFile { name, len, hash, loads, agreed } in kinds.iter().take(KINDS_SHOWN) {
                let differs = if *agreed { "" } else { "   DIFFERS" };
                writeln!(f, "  file        {loads:6} x {len:>10} bytes {hash} {name}{differs}")?;
            }
            if let Some(LoadedFile { name, .. }) = kinds.get(KINDS_SHOWN) {
                let more = kinds.len() - KINDS_SHOWN;
                writeln!(f, "  file        {more} more contents of {name}: a server may make a file for each machine")?;
            }
        }
        if self.moved > 0 || self.conflicts > 0 {
            writeln!(f, "addresses     {} machines moved, {} given twice", self.moved, self.conflicts)?;
        }
        let Summary { frames_sent, frames_received, frames_lost, frames_asleep, frames_stray, .. } = self;
        write!(f, "frames        {frames_sent} out, {frames_received} in, {frames_lost} lost, {frames_asleep} asleep, {frames_stray} stray")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_ranks() {
        let quantiles = Quantiles::of((1..=200).rev().map(f64::from).collect());
        assert_eq!(quantiles, Quantiles { first: 1.0, median: 100.0, p99: 198.0, last: 200.0 });
        assert_eq!(Quantiles::of(Vec::new()), Quantiles::default());
        assert_eq!(Quantiles::of(vec![3.0]), Quantiles { first: 3.0, median: 3.0, p99: 3.0, last: 3.0 });
    }

    #[test]
    fn jain() {
        assert_eq!(fairness(&[2.0, 2.0, 2.0]), 1.0);
        assert_eq!(fairness(&[1.0, 0.0, 0.0, 0.0]), 0.25);
        assert_eq!(fairness(&[]), 1.0);
    }
}
