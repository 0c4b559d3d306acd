//! The command line.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use muster::fleet::hostile::{Assault, Attack};
use muster::fleet::life::BootStep;
use muster::fleet::{Asks, Firmware, Life, Stages, StormPlan, Switch};
use muster::shell::stdio;

/// Lots of the simulated lot table (`sim::config`).
const SIMULATED_MAX: usize = muster::sim::config::NODES_MAX;

/// The modelled link and files.
pub struct Model {
    /// Bytes: of the first named file, the second, and so on; the last holds for all others.
    pub sizes: Vec<u64>,
    /// Bits per second; 0: no limit.
    pub rate: u64,
    /// Packets, towards the machines and towards the head.
    pub queue: usize,
    pub queue_up: usize,
    /// What the head's interface claims, in bits per second.
    pub link_rate: Option<u64>,
}

pub enum Where {
    Link(String),
    /// In virtual time.
    Simulated(Model),
    /// Likewise: small storms drawn from one seed after another, for so long.
    Swarm(Duration),
}

pub struct StormOptions {
    pub place: Where,
    pub plan: StormPlan,
    pub timeout: Duration,
    /// Leases again and again for so long, in place of a boot.
    pub exchanges: Option<Duration>,
    /// Hostile frames, in place of a boot.
    pub hostile: Option<Assault>,
    pub json: bool,
    pub yes_really: bool,
    pub verify_root: Option<PathBuf>,
    /// Processes of the server's.
    pub server: Vec<u32>,
}

fn flags() -> getopts::Options {
    let mut flags = getopts::Options::new();
    flags
        .optopt("i", "interface", "the link where the machines are", "IF")
        .optopt("n", "count", "machines (100)", "N")
        .optopt("p", "profile", "rom, edk2, ipxe, grub, pxelinux, pi, uboot, os, or mix (rom)", "KIND")
        .optmulti("f", "file", "load this file (may be repeated; default: what the server offers)", "NAME")
        .optopt("", "stages", "steps of a boot: rom (the firmware), ipxe, os, reboot (asks again as INIT-REBOOT) (rom)", "LIST")
        .optopt("", "spread", "power returns to each machine within this time (0)", "SECONDS")
        .optmulti("", "off", "these machines, counted from 0, lose power at this time (may be repeated)", "N-M@SECONDS")
        .optmulti("", "on", "these machines get power at this time, not earlier (may be repeated)", "N-M@SECONDS")
        .optopt("", "wake", "each machine loses its first K frames, which wake its switch port (0)", "K")
        .optopt("", "deaf", "machines that ignore ARP while they load (0)", "PERMILLE")
        .optopt("", "loss", "frames that are dropped here, in both directions (0)", "PPM")
        .optopt("", "exchanges", "no boot: all machines request leases again and again for this time; prints the rate", "SECONDS")
        .optopt("", "hostile", "no boot: N hostile frames of these kinds a second, until --timeout", "KIND[,KIND]@N")
        .optopt("", "node0", "with --hostile: address of the first node that frames impersonate", "ADDRESS")
        .optopt("", "blksize", "block size that every machine requests, whatever its firmware would", "BYTES")
        .optopt("", "windowsize", "window size that every machine requests; 1: no windows", "BLOCKS")
        .optmulti("", "server-pid", "server process on this machine: prints its CPU, memory, descriptors (may be repeated)", "PID")
        .optopt("", "verify-root", "compare loaded files with those of this folder", "DIR")
        .optflag("", "simulate", "no link: the real engines in virtual time, on a modelled link")
        .optmulti("", "size", "size of the simulated files (1048576); repeated: of the first -f, the second, and so on", "BYTES")
        .optopt("", "rate", "bits a second on the modelled link, as 1G, 100M or a number; 0: no limit (1G)", "BITS")
        .optopt("", "queue", "packets that the modelled switch queues toward the machines (256)", "PACKETS")
        .optopt("", "queue-up", "packets that the modelled switch queues toward the head (4096)", "PACKETS")
        .optopt("", "link-rate", "rate that the head's interface claims (ten times the rate)", "BITS")
        .optopt("", "swarm", "with --simulate: small random storms for this time, one seed after another; 0: one storm", "SECONDS")
        .optopt("", "seed", "the same seed gives the same choices (0)", "N")
        .optopt("", "first", "number of the first machine; its MAC is 02:4d and this number (0)", "N")
        .optopt("", "timeout", "end the storm after this time (600)", "SECONDS")
        .optflag("", "json", "print the result as JSON")
        .optflag("", "yes-really", "storm even an interface with the default route")
        .optflag("h", "help", "print this")
        .optflag("V", "version", "print version and commit");
    flags
}

/// Everything is said with this.
fn said(text: String) -> Result<Option<StormOptions>, String> {
    stdio::print(&text).map(|_| None).map_err(|error| error.to_string())
}

/// None: everything was said already (help, version).
pub fn options() -> Result<Option<StormOptions>, String> {
    let flags = flags();
    let matches = flags.parse(std::env::args_os().skip(1)).map_err(|error| error.to_string())?;
    if matches.opt_present("h") {
        let brief = "muster-storm: boots simulated machines against a boot server\nUsage: muster-storm -i IF | --simulate [-n N] [-p KIND] [-f NAME]...";
        let usage = flags.usage(brief);
        return said(format!("{usage}\nExit status: 0 all came up, 1 a machine was lost or bytes differ, 2 wrong usage.\n"));
    }
    if matches.opt_present("V") {
        return said(format!("muster-storm {} ({})\n", env!("CARGO_PKG_VERSION"), env!("MUSTER_COMMIT")));
    }
    if let Some(stray) = matches.free.first() {
        return Err(format!("{stray:?} is not a flag"));
    }
    let plan = plan(&matches)?;
    let pids = matches.opt_strs("server-pid").into_iter().map(|text| self::number("server-pid", Some(text), 0));
    let model = model(&matches)?;
    let verify_root = matches.opt_str("verify-root").map(PathBuf::from);
    let swarm = matches.opt_str("swarm").map(|text| self::seconds("swarm", Some(text), 0.0)).transpose()?;
    let for_model = ["swarm", "size", "rate", "queue", "queue-up", "link-rate"].into_iter().find(|name| matches.opt_present(name));
    if let Some(name) = for_model.filter(|_| !matches.opt_present("simulate")) {
        return Err(format!("--{name} needs --simulate"));
    }
    let exchanges = matches.opt_str("exchanges").map(|text| seconds("exchanges", Some(text), 0.0)).transpose()?;
    if let Some(name) = ["exchanges", "hostile"].into_iter().find(|name| matches.opt_present(name) && matches.opt_present("simulate")) {
        return Err(format!("--simulate excludes --{name}"));
    }
    let place = match (matches.opt_present("simulate"), matches.opt_str("interface")) {
        (true, Some(_)) => return Err("--simulate excludes --interface".into()),
        (true, None) if plan.count > SIMULATED_MAX => return Err(format!("--simulate has room for {SIMULATED_MAX} machines")),
        (true, None) if verify_root.is_some() => {
            return Err("--simulate makes its own files, so --verify-root has nothing to compare".into());
        }
        (true, None) if swarm.is_some() => Where::Swarm(swarm.unwrap_or_default()),
        (true, None) => Where::Simulated(model),
        (false, name) => Where::Link(name.ok_or("--interface is missing")?),
    };
    if let Some(root) = verify_root.as_ref().filter(|root| !root.is_dir()) {
        return Err(format!("--verify-root {} is not a folder", root.display()));
    }
    Ok(Some(StormOptions {
        hostile: hostile(&matches, &plan)?,
        place,
        verify_root,
        plan,
        timeout: seconds("timeout", matches.opt_str("timeout"), 600.0)?,
        exchanges,
        server: pids.collect::<Result<_, _>>()?,
        json: matches.opt_present("json"),
        yes_really: matches.opt_present("yes-really"),
    }))
}

/// The storm.
fn plan(matches: &getopts::Matches) -> Result<StormPlan, String> {
    let number = |name: &str, default: u32| number(name, matches.opt_str(name), default);
    let names: Vec<Vec<u8>> = matches.opt_strs("file").into_iter().map(String::into_bytes).collect();
    let stages = matches.opt_str("stages").unwrap_or_else(|| "rom".into());
    let mut lives = lives(&matches.opt_str("profile").unwrap_or_else(|| "rom".into()), &stages, names.len())?;
    let asks = Asks {
        blksize: matches.opt_str("blksize").map(|text| self::number("blksize", Some(text), 0)).transpose()?,
        windowsize: matches.opt_str("windowsize").map(|text| self::number("windowsize", Some(text), 0)).transpose()?,
    };
    lives.iter_mut().for_each(|life| life.asks = asks);
    let plan = StormPlan {
        count: number("count", 100)? as usize,
        first: number("first", 0)?,
        lives,
        names,
        spread: seconds("spread", matches.opt_str("spread"), 0.0)?,
        wake: number("wake", 0)?,
        deaf: number("deaf", 0)?,
        loss: number("loss", 0)?,
        power: switches(matches)?,
        seed: number("seed", 0)?.into(),
    };
    plan.check()?;
    Ok(plan)
}

/// `rrq-nodes,arp@500`: kinds of hostile frames, and how many a second.
fn hostile(matches: &getopts::Matches, plan: &StormPlan) -> Result<Option<Assault>, String> {
    let Some(text) = matches.opt_str("hostile") else { return Ok(None) };
    let kinds = || Attack::ALL.iter().map(|attack| attack.name()).collect::<Vec<_>>().join(", ");
    let (list, rate) = text.split_once('@').ok_or_else(|| format!("--hostile {text:?}: write kinds and frames a second, as in arp@500"))?;
    let known = |name: &str| Attack::ALL.iter().copied().find(|attack| attack.name() == name);
    let attacks: Option<Vec<Attack>> = if list == "all" { Some(Attack::ALL.to_vec()) } else { list.split(',').map(known).collect() };
    let attacks = attacks.ok_or_else(|| format!("--hostile {list:?}: the kinds are {}, or all", kinds()))?;
    let node0 = matches.opt_str("node0").and_then(|text| text.parse().ok());
    let node0 = node0.ok_or("--hostile needs --node0, the address of the first node")?;
    if !matches.opt_present("timeout") {
        return Err("--hostile needs --timeout, its duration".into());
    }
    let file = plan.names.first().cloned().ok_or("--hostile needs --file, the name to request")?;
    let (nodes, rate) = (plan.count as u32, number("hostile", Some(rate.to_string()), 0)?);
    Ok(Some(Assault { attacks, rate, first: plan.first, node0, nodes, file, seed: plan.seed }))
}

/// Power that goes and comes.
fn switches(matches: &getopts::Matches) -> Result<Vec<Switch>, String> {
    let named = |name: &'static str, on: bool| matches.opt_strs(name).into_iter().map(move |text| switch(name, &text, on));
    named("off", false).chain(named("on", true)).collect()
}

/// `0-99@2.5`, or `7@2.5` for one machine.
fn switch(name: &str, text: &str, on: bool) -> Result<Switch, String> {
    let parsed = text.split_once('@').and_then(|(who, at)| {
        let (first, last) = who.split_once('-').unwrap_or((who, who));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        let at = Duration::try_from_secs_f64(at.parse().ok()?).ok()?;
        Some(Switch { at, who: first..last.checked_add(1)?, on })
    });
    parsed.ok_or_else(|| format!("--{name} {text:?}: write machines and seconds, as in 0-99@2.5"))
}

/// The modelled link and files.
fn model(matches: &getopts::Matches) -> Result<Model, String> {
    let sizes = matches.opt_strs("size").into_iter().map(|text| number("size", Some(text), 0)).collect::<Result<_, _>>()?;
    let rate = bits("rate", matches.opt_str("rate"), 1_000_000_000)?;
    let queue = number("queue", matches.opt_str("queue"), 256)?;
    let queue_up = number("queue-up", matches.opt_str("queue-up"), 4096)?;
    if queue == 0 || queue_up == 0 {
        return Err("--queue 0: a switch queues at least the packet that it sends".into());
    }
    // A claim of nothing is no claim.
    let link_rate = Some(bits("link-rate", matches.opt_str("link-rate"), rate.saturating_mul(10))?).filter(|&rate| rate > 0);
    Ok(Model { sizes, rate, queue, queue_up, link_rate })
}

/// Bits per second: `1G`, `100M`, `64k` or a number.
fn bits(name: &str, text: Option<String>, default: u64) -> Result<u64, String> {
    let Some(text) = text else { return Ok(default) };
    let units = [('k', 1_000), ('M', 1_000_000), ('G', 1_000_000_000)];
    let unit = units.into_iter().find_map(|(letter, unit)| text.strip_suffix(letter).map(|digits| (digits, unit)));
    let (digits, unit) = unit.unwrap_or((&text, 1));
    let rate = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    rate.ok_or_else(|| format!("--{name} {text:?}: write bits a second, as in 1G, 100M, 64k or a number"))
}

fn number<T: FromStr>(name: &str, text: Option<String>, default: T) -> Result<T, String> {
    text.map_or(Ok(default), |text| text.parse().map_err(|_| format!("--{name} {text:?}: not a possible number")))
}

fn seconds(name: &str, text: Option<String>, default: f64) -> Result<Duration, String> {
    let seconds = number(name, text, default)?;
    // Duration::from_secs_f64 would panic.
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("--{name} {seconds}: not a time"))
}

/// The kinds of machines, and what each of them does.
fn lives(profile: &str, list: &str, files: usize) -> Result<Vec<Life>, String> {
    let named: Vec<&str> = list.split(',').collect();
    let known = ["rom", "ipxe", "os", "reboot"];
    if let Some(stray) = named.iter().find(|stage| !known.contains(stage)) {
        return Err(format!("--stages: {stray:?} is none of rom, ipxe, os, reboot"));
    }
    let has = |stage: &str| named.contains(&stage);
    let stages = Stages { ipxe: has("ipxe"), os: has("os") };
    // Without the firmware's own stage the machines begin with the next one.
    let firmware = match profile {
        "mix" if has("rom") => None,
        _ if has("ipxe") && !has("rom") => Some(Firmware::Ipxe),
        _ if !has("rom") => Some(Firmware::Os),
        name => {
            let found = Firmware::ALL.iter().find(|firmware| firmware.name() == name);
            Some(*found.ok_or_else(|| format!("--profile: {name:?} is none of rom, edk2, ipxe, grub, pxelinux, pi, uboot, os, mix"))?)
        }
    };
    let mut lives = firmware.map_or_else(|| Life::mix(stages, files), |firmware| vec![Life::of(firmware, 1, stages, files)]);
    if has("reboot") {
        lives.iter_mut().for_each(|life| life.steps.push(BootStep::Reboot(Firmware::Os)));
    }
    Ok(lives)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_as_they_are_asked_for() {
        let labels = |profile, stages| {
            lives(profile, stages, 0).map(|lives| lives.iter().map(|life| life.steps.len()).collect::<Vec<_>>()).map_err(|_| ())
        };
        assert_eq!(labels("rom", "rom"), Ok(vec![2]));
        assert_eq!(labels("rom", "os,reboot"), Ok(vec![2]));
        assert_eq!(labels("edk2", "rom,ipxe,os,reboot"), Ok(vec![6]));
        assert_eq!(labels("mix", "rom").map(|all| all.len()), Ok(7));
        assert_eq!((labels("rom", "lunch"), labels("toaster", "rom")), (Err(()), Err(())));
    }

    #[test]
    fn switches_as_people_write_them() {
        let told = |text: &str| switch("off", text, false).map(|switch| (switch.who, switch.at.as_millis())).map_err(|_| ());
        assert_eq!([told("0-99@2.5"), told("7@0"), told("3-3@10")], [Ok((0..100, 2500)), Ok((7..8, 0)), Ok((3..4, 10_000))]);
        assert!(["", "0-99", "@2", "a-b@2", "0-99@", "0-99@-1", "0-99@x", "0-4294967295@1"].iter().all(|text| told(text).is_err()));
    }

    #[test]
    fn rates_as_people_write_them() {
        let told = |text: &str| bits("rate", Some(text.into()), 7);
        assert_eq!(
            [told("10G"), told("100M"), told("64k"), told("9600"), told("0")].map(Result::ok),
            [Some(10_000_000_000), Some(100_000_000), Some(64_000), Some(9600), Some(0)]
        );
        assert!(["", "G", "1T", "-1", "99999999999G"].iter().all(|text| told(text).is_err()));
        assert_eq!(bits("rate", None, 7), Ok(7));
    }
}
