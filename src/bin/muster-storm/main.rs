//! muster-storm: boots a fleet of simulated machines, on a real link or (`--simulate`) against the real engines in virtual time.
//! 0: every machine came up, with the right bytes where `--verify-root` tells them. 1: one was lost, bytes differ, or the storm failed.
//! 2: wrong usage.

mod meter;
mod options;
mod process;
mod verify;

use std::process::ExitCode;
use std::time::Duration;

use log::LevelFilter;
use serde_json::{Value, json};

use muster::base::facts::{Hardware, LinkFacts};
use muster::base::machine::Command;
use muster::base::time::{Instant, Now};
use muster::engine::server::Server;
use muster::fleet::exchange::Exchanges;
use muster::fleet::hostile::{Assault, Hostile};
use muster::fleet::{Fleet, StormPlan, Summary, mac};
use muster::shell::{Shell, ShellError, facts, stdio};
use muster::sim::config::{INITRD, KERNEL, PROGRAMS, config};
use muster::sim::disk::Habits;
use muster::sim::net::{FrameDirection, Wire};
use muster::sim::swarm::{swarm, wrong_bytes};
use muster::sim::world::{Setup, World};

use meter::Meter;
use options::{Model, StormOptions, Where, options};
use process::Processes;
use verify::{FileCheck, verify};

/// The loop wakes at least this often, and tells how far it is.
const LONGEST_TURN: Duration = Duration::from_millis(100);
/// Bytes of a simulated file.
const SIZE: u64 = 1 << 20;

fn main() -> ExitCode {
    env_logger::Builder::new().filter_level(LevelFilter::Warn).format_timestamp(None).init();
    let usage = |why: String| {
        stdio::complain(&format!("muster-storm: {why}; muster-storm --help lists the flags"));
        ExitCode::from(2)
    };
    let options = match options() {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(why) => return usage(why),
    };
    let ended = match &options.place {
        Where::Simulated(model) => simulate(&options, model),
        Where::Swarm(duration) => swarms(options.plan.seed, *duration),
        Where::Link(name) => match find_link(name, options.yes_really) {
            Ok(link) => match (options.exchanges, &options.hostile) {
                (_, Some(assault)) => assail(&options, &link, assault.clone()),
                (Some(length), None) => exchange(&options, &link, length),
                (None, None) => storm(&options, &link),
            },
            Err(why) => return usage(why),
        },
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            stdio::complain(&format!("muster-storm: {why}"));
            ExitCode::FAILURE
        }
    }
}

fn find_link(name: &str, yes_really: bool) -> Result<LinkFacts, String> {
    let links = facts::links().map_err(|error| error.to_string())?;
    let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
    let link = links.iter().find(|link| link.name == name);
    let link = link.ok_or_else(|| format!("there is no interface {name:?} here, only {}", names.join(", ")))?;
    if link.hardware != Hardware::Ethernet || link.loopback {
        return Err(format!("{name} is not an Ethernet interface: each machine needs its own MAC"));
    }
    if !link.up {
        return Err(format!("{name} is down: ip link set {name} up"));
    }
    if link.default_route && !yes_really {
        return Err(format!("{name} has the default route, so it is not a private boot network: --yes-really storms it anyway"));
    }
    Ok(link.clone())
}

/// Whether every machine came up.
fn storm(options: &StormOptions, link: &LinkFacts) -> Result<bool, ShellError> {
    let server = Processes::new(&options.server).map_err(ShellError::new)?;
    let mut shell = Shell::frames(link)?;
    let began = shell.now().at;
    let mut fleet = Fleet::new(options.plan.clone(), began).map_err(ShellError::new)?;
    let mut meter = Meter::new();
    while !fleet.done() && shell.now().at.since(began) < options.timeout {
        if shell.turn(&mut fleet, LONGEST_TURN)? == Some(Command::Leave) {
            break;
        }
        meter.tell(shell.now().at.since(began), fleet.progress());
    }
    meter.clear();
    let cost = server.cost();
    let summary = fleet.summary();
    let verdicts = options.verify_root.as_ref().map(|root| verify(root, &summary.files)).transpose()?;
    let same = verdicts.iter().flatten().all(|(_, verdict)| *verdict != FileCheck::Differs);
    let verified = verdicts.map(|all| all.into_iter().map(|(name, verdict)| (name, verdict.name())).collect::<Vec<_>>());
    let verified = verified.map(|all| ("verified", json!(all)));
    tell(options, &summary, cost.map(|cost| ("server", cost)).into_iter().chain(verified))?;
    Ok(summary.up + summary.cut == summary.machines && same)
}

/// Leases again and again. Whether there were any.
fn exchange(options: &StormOptions, link: &LinkFacts, length: Duration) -> Result<bool, ShellError> {
    let server = Processes::new(&options.server).map_err(ShellError::new)?;
    let mut shell = Shell::frames(link)?;
    let began = shell.now().at;
    let mut machines = Exchanges::new(options.plan.count, options.plan.first, began).map_err(ShellError::new)?;
    while shell.now().at.since(began) < length {
        if shell.turn(&mut machines, LONGEST_TURN)? == Some(Command::Leave) {
            break;
        }
    }
    let outcome = machines.outcome(shell.now().at);
    let mut told = json!(outcome);
    if let (Value::Object(fields), Some(cost)) = (&mut told, server.cost()) {
        fields.insert("server".into(), cost);
    }
    stdio::print(&if options.json { format!("{told:#}\n") } else { format!("{outcome}\n") })?;
    Ok(outcome.exchanges > 0)
}

/// Hostile frames until the time is over. Whether the head was heard of.
fn assail(options: &StormOptions, link: &LinkFacts, assault: Assault) -> Result<bool, ShellError> {
    let mut shell = Shell::frames(link)?;
    let began = shell.now().at;
    let mut hostile = Hostile::new(assault, began).map_err(ShellError::new)?;
    while shell.now().at.since(began) < options.timeout {
        if shell.turn(&mut hostile, LONGEST_TURN)? == Some(Command::Leave) {
            break;
        }
    }
    let (sent, seconds) = (hostile.sent(), shell.now().at.since(began).as_secs_f64());
    let told = format!("{} hostile frames in {seconds:.1} s\n", sent.unwrap_or_default());
    stdio::print(&if options.json { format!("{:#}\n", json!({ "sent": sent, "seconds": seconds })) } else { told })?;
    Ok(sent.is_some())
}

/// The same machines against the server's own engines, in virtual time. Whether every machine came up and no checker complained.
fn simulate(options: &StormOptions, model: &Model) -> Result<bool, ShellError> {
    let began = std::time::Instant::now();
    let mut world = modelled(options, model)?;
    let (end, mut meter) = (Instant::ZERO + options.timeout, Meter::new());
    while !world.clients().done() && world.now().at < end {
        let next = (world.now().at + LONGEST_TURN).min(end);
        world.run(next, |world| world.clients().done());
        meter.tell(world.now().at.since(Instant::ZERO), world.clients().progress());
    }
    meter.clear();
    let (summary, findings) = (world.clients().summary(), world.findings());
    let violations: Vec<String> = findings.violations.iter().map(ToString::to_string).collect();
    let wrong_bytes = wrong_bytes(&world, &summary.files);
    let (virtual_s, wall_s) = (world.now().at.since(Instant::ZERO).as_secs_f64(), began.elapsed().as_secs_f64());
    let told = json!({
        "violations": findings.count,
        "first_violations": violations,
        "wrong_bytes": wrong_bytes,
        "longest_silence": findings.silence.as_secs_f64(),
        "transcript": format!("{:016x}", world.hash()),
        "queue_drops": world.net().tally(FrameDirection::ToClients).queue_drops,
        "queue_drops_up": world.net().tally(FrameDirection::ToServer).queue_drops,
        "wire_bytes": world.net().tally(FrameDirection::ToClients).wire_bytes,
        "virtual_s": virtual_s,
    });
    // Apart from what the seed decides.
    let wall = json!({ "wall_s": wall_s, "speed": virtual_s / wall_s });
    tell(options, &summary, [("simulated", told), ("machine", wall)])?;
    Ok(summary.up + summary.cut == summary.machines && findings.count == 0 && wrong_bytes.is_empty())
}

/// Small storms of one seed after another, for a while, and at least one. Whether all went well.
fn swarms(first: u64, duration: Duration) -> Result<bool, ShellError> {
    let (began, mut machines, mut silence, mut failed, mut unheard) = (std::time::Instant::now(), 0, (Duration::ZERO, first), 0, 0);
    for seed in first.. {
        let outcome = swarm(seed);
        machines += outcome.machines;
        unheard += outcome.unheard;
        silence = silence.max((outcome.silence, seed));
        if !outcome.faults.is_empty() {
            failed += 1;
            let faults = outcome.faults.join("\n  ");
            let repeat = format!("repeat: muster-storm --simulate --swarm 0 --seed {seed}");
            if !stdio::print(&format!("seed {seed} failed, ended at {}:\n  {faults}\n{repeat}\n", outcome.ended))? {
                break;
            }
        }
        if began.elapsed() >= duration || seed == u64::MAX {
            let silent = silence.0.as_secs_f64();
            stdio::print(&format!(
                "seeds {first} to {seed}: {failed} failed; {machines} machines, {unheard} without a lease because of the link alone; longest silence {silent:.3} s (seed {}); the last run's transcript {:016x}
",
                silence.1, outcome.hash
            ))?;
            break;
        }
    }
    Ok(failed == 0)
}

/// The world before its first frame.
fn modelled(options: &StormOptions, model: &Model) -> Result<World<Server, Fleet>, ShellError> {
    let StormPlan { first, count, seed, .. } = options.plan;
    let mut config = config((0..count as u32).map(|lot| (lot, mac(first + lot))));
    config.links.iter_mut().for_each(|link| link.rate = model.link_rate);
    let wire = Wire { rate: model.rate, queue: model.queue, queue_up: model.queue_up, ..Wire::GIGABIT };
    let setup = Setup { config, seed, wire, habits: Habits::default() };
    let server = Server::new(&setup.config, seed, Now::default());
    let fleet = Fleet::new(options.plan.clone(), Instant::ZERO).map_err(ShellError::new)?;
    let mut world = World::new(&setup, server, fleet);
    let last = model.sizes.last().copied().unwrap_or(SIZE);
    for name in PROGRAMS.map(|(_, name)| name).into_iter().chain([KERNEL, INITRD]) {
        world.disk_mut().put(name, last);
    }
    for (place, name) in options.plan.names.iter().enumerate() {
        let size = model.sizes.get(place).copied().unwrap_or(last);
        world.disk_mut().put(&String::from_utf8_lossy(name), size);
    }
    Ok(world)
}

/// Prints the result, and beside it what is known only here.
fn tell(options: &StormOptions, summary: &Summary, beside: impl IntoIterator<Item = (&'static str, Value)>) -> Result<(), ShellError> {
    let text = if options.json {
        let mut value = serde_json::to_value(summary).map_err(|error| ShellError::system("cannot write the result", error, ""))?;
        if let Value::Object(fields) = &mut value {
            fields.extend(beside.into_iter().map(|(name, more)| (name.to_string(), more)));
        }
        format!("{value:#}")
    } else {
        let more = beside.into_iter().map(|(name, more)| format!("\n{name:<13} {more}")).collect::<String>();
        format!("{summary}{more}")
    };
    // Whoever closed our output still gets the exit status.
    stdio::print(&(text + "\n")).map(drop)
}
