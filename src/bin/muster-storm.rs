//! muster-storm: boots a fleet of simulated machines on a real link. 0: every machine came up. 1: one was lost, or the storm failed. 2: wrong usage.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use log::LevelFilter;

use muster::base::facts::{Hardware, LinkFacts};
use muster::fleet::{Firmware, Fleet, Life, Plan, Progress, Stages};
use muster::shell::{Error, Shell, Signal, facts};

/// The loop wakes at least this often, and tells how far it is.
const LONGEST_TURN: Duration = Duration::from_millis(100);

struct Options {
    interface: String,
    plan: Plan,
    timeout: Duration,
    json: bool,
    yes_really: bool,
}

fn main() -> ExitCode {
    env_logger::Builder::new().filter_level(LevelFilter::Warn).format_timestamp(None).init();
    let usage = |why: String| {
        eprintln!("muster-storm: {why}; muster-storm --help lists the flags");
        ExitCode::from(2)
    };
    let options = match options() {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(why) => return usage(why),
    };
    let link = match find_link(&options) {
        Ok(link) => link,
        Err(why) => return usage(why),
    };
    match storm(&options, &link) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("muster-storm: {why}");
            ExitCode::FAILURE
        }
    }
}

fn flags() -> getopts::Options {
    let mut flags = getopts::Options::new();
    flags
        .optopt("i", "interface", "the link where the machines are", "IF")
        .optopt("n", "count", "machines (100)", "N")
        .optopt("p", "profile", "rom, edk2, ipxe, grub, pxelinux, pi, uboot, os, or mix (rom)", "KIND")
        .optmulti("f", "file", "load this file (may be repeated); else what the server offers", "NAME")
        .optopt("", "stages", "of rom (the firmware's own), ipxe, os, in this order (rom)", "LIST")
        .optopt("", "spread", "power comes back to each machine within this (0)", "SECONDS")
        .optopt("", "wake", "first frames of each machine that are lost, waking its switch port (0)", "K")
        .optopt("", "deaf", "machines that do not answer ARP while they load (0)", "PERMILLE")
        .optopt("", "loss", "frames dropped here, in both directions (0)", "PPM")
        .optopt("", "seed", "the same seed gives the same choices (0)", "N")
        .optopt("", "first", "number of the first machine; its MAC is 02:4d and this (0)", "N")
        .optopt("", "timeout", "end the storm after this (600)", "SECONDS")
        .optflag("", "json", "print the result as JSON")
        .optflag("", "yes-really", "storm even where the default route is")
        .optflag("h", "help", "print this")
        .optflag("V", "version", "print version and commit");
    flags
}

/// None: everything was said already (help, version).
fn options() -> Result<Option<Options>, String> {
    let flags = flags();
    let matches = flags.parse(std::env::args_os().skip(1)).map_err(|error| error.to_string())?;
    if matches.opt_present("h") {
        let brief = "muster-storm: boots simulated machines against the boot server of a link\nUsage: muster-storm -i IF [-n N] [-p KIND] [-f NAME]...";
        print!("{}\nExit status: 0 all came up, 1 a machine was lost, 2 wrong usage.\n", flags.usage(brief));
        return Ok(None);
    }
    if matches.opt_present("V") {
        println!("muster-storm {} ({})", env!("CARGO_PKG_VERSION"), env!("MUSTER_COMMIT"));
        return Ok(None);
    }
    if let Some(stray) = matches.free.first() {
        return Err(format!("{stray:?} is not a flag"));
    }
    let number = |name: &str, default: u32| number(name, matches.opt_str(name), default);
    let names: Vec<Vec<u8>> = matches.opt_strs("file").into_iter().map(String::into_bytes).collect();
    let stages = matches.opt_str("stages").unwrap_or_else(|| "rom".into());
    let plan = Plan {
        count: number("count", 100)? as usize,
        first: number("first", 0)?,
        lives: lives(&matches.opt_str("profile").unwrap_or_else(|| "rom".into()), &stages, names.len())?,
        names,
        spread: seconds("spread", matches.opt_str("spread"), 0.0)?,
        wake: number("wake", 0)?,
        deaf: number("deaf", 0)?,
        loss: number("loss", 0)?,
        seed: number("seed", 0)?.into(),
    };
    plan.check()?;
    Ok(Some(Options {
        interface: matches.opt_str("interface").ok_or("--interface is missing")?,
        plan,
        timeout: seconds("timeout", matches.opt_str("timeout"), 600.0)?,
        json: matches.opt_present("json"),
        yes_really: matches.opt_present("yes-really"),
    }))
}

fn number<T: FromStr>(name: &str, text: Option<String>, default: T) -> Result<T, String> {
    text.map_or(Ok(default), |text| text.parse().map_err(|_| format!("--{name} {text:?}: not a number that is possible here")))
}

fn seconds(name: &str, text: Option<String>, default: f64) -> Result<Duration, String> {
    let seconds = number(name, text, default)?;
    // Duration::from_secs_f64 would panic.
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("--{name} {seconds}: not a time"))
}

/// The kinds of machines, and what each of them does.
fn lives(profile: &str, list: &str, files: usize) -> Result<Vec<Life>, String> {
    let named: Vec<&str> = list.split(',').collect();
    let known = ["rom", "ipxe", "os"];
    if let Some(stray) = named.iter().find(|stage| !known.contains(stage)) {
        return Err(format!("--stages: {stray:?} is none of rom, ipxe, os"));
    }
    let has = |stage: &str| named.contains(&stage);
    let stages = Stages { ipxe: has("ipxe"), os: has("os") };
    // Without the firmware's own stage the machines begin with the next one.
    let firmware = match profile {
        "mix" if has("rom") => return Ok(Life::mix(stages, files)),
        _ if has("ipxe") && !has("rom") => Firmware::Ipxe,
        _ if !has("rom") => Firmware::Os,
        name => {
            let found = Firmware::ALL.iter().find(|firmware| firmware.name() == name);
            *found.ok_or_else(|| format!("--profile: {name:?} is none of rom, edk2, ipxe, grub, pxelinux, pi, uboot, os, mix"))?
        }
    };
    Ok(vec![Life::of(firmware, 1, stages, files)])
}

fn find_link(options: &Options) -> Result<LinkFacts, String> {
    let name = &options.interface;
    let links = facts::links().map_err(|error| error.to_string())?;
    let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
    let link = links.iter().find(|link| &link.name == name);
    let link = link.ok_or_else(|| format!("there is no interface {name:?} here, only {}", names.join(", ")))?;
    if link.hardware != Hardware::Ethernet || link.loopback {
        return Err(format!("{name} is no Ethernet: the machines need MACs of their own"));
    }
    if !link.up {
        return Err(format!("{name} is down: ip link set {name} up"));
    }
    if link.default_route && !options.yes_really {
        return Err(format!("{name} has the default route, so it is no private boot network: --yes-really storms it all the same"));
    }
    Ok(link.clone())
}

/// Whether every machine came up.
fn storm(options: &Options, link: &LinkFacts) -> Result<bool, Error> {
    let mut shell = Shell::frames(link)?;
    let began = shell.now().at;
    let mut fleet = Fleet::new(options.plan.clone(), began).map_err(Error::new)?;
    let mut meter = Meter { on: std::io::stderr().is_terminal(), told: None };
    while !fleet.done() && shell.now().at.since(began) < options.timeout {
        if shell.turn(&mut fleet, LONGEST_TURN)? == Some(Signal::Leave) {
            break;
        }
        meter.tell(shell.now().at.since(began), fleet.progress());
    }
    meter.clear();
    let summary = fleet.summary();
    let text = if options.json {
        serde_json::to_string_pretty(&summary).map_err(|error| Error::system("cannot write the result", error, ""))?
    } else {
        summary.to_string()
    };
    // Whoever closed our output still gets the exit status.
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(summary.up == summary.machines)
}

/// The line that tells how far the storm is, on a terminal only.
struct Meter {
    on: bool,
    /// When, in tenths of a second.
    told: Option<u128>,
}

impl Meter {
    fn tell(&mut self, elapsed: Duration, progress: Progress) {
        let tenths = elapsed.as_millis() / 100;
        if !self.on || self.told == Some(tenths) {
            return;
        }
        self.told = Some(tenths);
        let Progress { off, booting, up, lost } = progress;
        let _ =
            write!(std::io::stderr(), "\r{:7.1} s   {off} off   {booting} booting   {up} up   {lost} lost\x1b[K", elapsed.as_secs_f64());
    }

    fn clear(&self) {
        if self.told.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
