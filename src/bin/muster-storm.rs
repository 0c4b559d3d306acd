//! muster-storm: boots a fleet of simulated machines, on a real link or (`--simulate`) against the real engines in virtual time.
//! 0: every machine came up, with the right bytes where `--verify-root` tells them. 1: one was lost, bytes differ, or the storm failed.
//! 2: wrong usage.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use log::LevelFilter;
use serde_json::{Value, json};

use muster::base::facts::{Hardware, LinkFacts};
use muster::base::time::{Instant, Now};
use muster::engine::server::Server;
use muster::fleet::life::Step;
use muster::fleet::summary::Content;
use muster::fleet::tftp::Hash;
use muster::fleet::{Firmware, Fleet, Life, Plan, Progress, Stages, Summary, mac};
use muster::shell::{Error, Shell, Signal, facts};
use muster::sim::config::{INITRD, KERNEL, PROGRAMS, config};
use muster::sim::disk::Habits;
use muster::sim::net::Wire;
use muster::sim::world::{Setup, World};

/// The loop wakes at least this often, and tells how far it is.
const LONGEST_TURN: Duration = Duration::from_millis(100);

/// Lots of the simulated street (`sim::config`).
const SIMULATED_MAX: usize = 16_384;

enum Where {
    Link(String),
    /// In virtual time; every file has this many bytes.
    Simulated {
        size: u64,
    },
}

struct Options {
    place: Where,
    plan: Plan,
    timeout: Duration,
    json: bool,
    yes_really: bool,
    verify_root: Option<PathBuf>,
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
    let ended = match &options.place {
        Where::Simulated { size } => simulate(&options, *size),
        Where::Link(name) => match find_link(name, options.yes_really) {
            Ok(link) => storm(&options, &link),
            Err(why) => return usage(why),
        },
    };
    match ended {
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
        .optopt("", "stages", "of rom (the firmware's own), ipxe, os, reboot (asks again as INIT-REBOOT), in this order (rom)", "LIST")
        .optopt("", "spread", "power comes back to each machine within this (0)", "SECONDS")
        .optopt("", "wake", "first frames of each machine that are lost, waking its switch port (0)", "K")
        .optopt("", "deaf", "machines that do not answer ARP while they load (0)", "PERMILLE")
        .optopt("", "loss", "frames dropped here, in both directions (0)", "PPM")
        .optopt("", "verify-root", "files that are loaded must be as they are in this folder, where it has them", "DIR")
        .optflag("", "simulate", "no link: the real engines in virtual time, on a modelled link of 1 Gbit/s")
        .optopt("", "size", "of each simulated file (1048576)", "BYTES")
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
        let brief = "muster-storm: boots simulated machines against the boot server of a link\nUsage: muster-storm -i IF | --simulate [-n N] [-p KIND] [-f NAME]...";
        print!("{}\nExit status: 0 all came up, 1 a machine was lost or bytes differ, 2 wrong usage.\n", flags.usage(brief));
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
    let size = u64::from(number("size", 1 << 20)?);
    let verify_root = matches.opt_str("verify-root").map(PathBuf::from);
    let place = match (matches.opt_present("simulate"), matches.opt_str("interface")) {
        (true, Some(_)) => return Err("--simulate needs no --interface".into()),
        (true, None) if plan.count > SIMULATED_MAX => return Err(format!("--simulate has room for {SIMULATED_MAX} machines")),
        (true, None) if verify_root.is_some() => return Err("--simulate makes its own files: nothing to verify in a folder".into()),
        (true, None) => Where::Simulated { size },
        (false, _) if matches.opt_present("size") => return Err("--size is for --simulate".into()),
        (false, name) => Where::Link(name.ok_or("--interface is missing")?),
    };
    if let Some(root) = verify_root.as_ref().filter(|root| !root.is_dir()) {
        return Err(format!("--verify-root {}: not a folder", root.display()));
    }
    Ok(Some(Options {
        place,
        verify_root,
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
        lives.iter_mut().for_each(|life| life.steps.push(Step::Reboot(Firmware::Os)));
    }
    Ok(lives)
}

fn find_link(name: &str, yes_really: bool) -> Result<LinkFacts, String> {
    let links = facts::links().map_err(|error| error.to_string())?;
    let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
    let link = links.iter().find(|link| link.name == name);
    let link = link.ok_or_else(|| format!("there is no interface {name:?} here, only {}", names.join(", ")))?;
    if link.hardware != Hardware::Ethernet || link.loopback {
        return Err(format!("{name} is no Ethernet: the machines need MACs of their own"));
    }
    if !link.up {
        return Err(format!("{name} is down: ip link set {name} up"));
    }
    if link.default_route && !yes_really {
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
    let verdicts = options.verify_root.as_ref().map(|root| verify(root, &summary.files)).transpose()?;
    let same = verdicts.iter().flatten().all(|(_, verdict)| *verdict != Verdict::Differs);
    let verified = verdicts.map(|all| all.into_iter().map(|(name, verdict)| (name, verdict.name())).collect::<Vec<_>>());
    tell(options, &summary, verified.as_ref().map(|all| ("verified", json!(all))))?;
    Ok(summary.up == summary.machines && same)
}

/// The same machines against the server's own engines, in virtual time. Whether every machine came up and no checker complained.
fn simulate(options: &Options, size: u64) -> Result<bool, Error> {
    let Plan { first, count, seed, .. } = options.plan;
    let nodes = (0..count as u32).map(|lot| (lot, mac(first + lot)));
    let setup = Setup { config: config(nodes), seed, wire: Wire::GIGABIT, habits: Habits::default() };
    let server = Server::new(&setup.config, seed, Now::default());
    let fleet = Fleet::new(options.plan.clone(), Instant::ZERO).map_err(Error::new)?;
    let mut world = World::new(&setup, server, fleet);
    let programs = PROGRAMS.map(|(_, name)| name).into_iter().chain([KERNEL, INITRD]).map(String::from);
    let named = options.plan.names.iter().map(|name| String::from_utf8_lossy(name).into_owned());
    for name in programs.chain(named) {
        world.disk_mut().put(&name, size);
    }
    world.run(Instant::ZERO + options.timeout, |world| world.clients().done());
    let (summary, findings) = (world.clients().summary(), world.findings());
    let violations: Vec<String> = findings.violations.iter().map(ToString::to_string).collect();
    let told = json!({
        "violations": findings.count,
        "first_violations": violations,
        "longest_silence": findings.silence.as_secs_f64(),
        "transcript": format!("{:016x}", world.hash()),
    });
    tell(options, &summary, Some(("simulated", told)))?;
    Ok(summary.up == summary.machines && findings.count == 0)
}

/// Prints the result, and beside it what is known only here.
fn tell(options: &Options, summary: &Summary, beside: Option<(&str, Value)>) -> Result<(), Error> {
    let text = if options.json {
        let mut value = serde_json::to_value(summary).map_err(|error| Error::system("cannot write the result", error, ""))?;
        if let (Value::Object(fields), Some((name, more))) = (&mut value, beside) {
            fields.insert(name.into(), more);
        }
        format!("{value:#}")
    } else {
        let more = beside.map(|(name, more)| format!("\n{name:<13} {more}")).unwrap_or_default();
        format!("{summary}{more}")
    };
    // Whoever closed our output still gets the exit status.
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    Differs,
    /// The folder has no such file: a script that the server makes, or the others' names.
    NotThere,
}

impl Verdict {
    const fn name(self) -> &'static str {
        match self {
            Verdict::Same => "same",
            Verdict::Differs => "differs",
            Verdict::NotThere => "not there",
        }
    }
}

/// Compares what was loaded with the files of a folder. Names come from the network: none leads out of it.
fn verify(root: &Path, files: &[Content]) -> Result<Vec<(String, Verdict)>, Error> {
    let verdict = |content: &Content| {
        let path = Path::new(content.name.trim_start_matches('/'));
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        let path = root.join(path);
        if !inside || !path.is_file() {
            return Ok((content.name.clone(), Verdict::NotThere));
        }
        let told = hash_of(&path).map_err(|error| Error::system(format!("cannot read {}", path.display()), error, ""))?;
        let same = told == (content.len, content.hash.clone());
        Ok((content.name.clone(), if same { Verdict::Same } else { Verdict::Differs }))
    };
    files.iter().map(verdict).collect()
}

/// Bytes of a file and their hash, as the fleet writes it.
fn hash_of(path: &Path) -> std::io::Result<(u64, String)> {
    let (mut file, mut hash, mut buf) = (File::open(path)?, Hash::default(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buf)? {
            0 => return Ok((hash.len(), format!("{:016x}", hash.finish()))),
            len => hash.add(buf.get(..len).unwrap_or(&[])),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_loaded_is_compared_with_the_folder() {
        let root = std::env::temp_dir().join(format!("muster-verify-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(root.join("image"), vec![7; 200_000]).unwrap();
        let (len, hash) = hash_of(&root.join("image")).unwrap();
        let content = |name: &str, hash: &str| Content { name: name.into(), len, hash: hash.into(), loads: 1, agreed: true };
        let outside = format!("../{}/image", root.file_name().unwrap().to_string_lossy());
        let files = [content("image", &hash), content("/image", "0"), content("boot.ipxe", "0"), content(&outside, &hash)];
        let verdicts: Vec<Verdict> = verify(&root, &files).unwrap().into_iter().map(|(_, verdict)| verdict).collect();
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(verdicts, [Verdict::Same, Verdict::Differs, Verdict::NotThere, Verdict::NotThere]);
        let mut own = Hash::default();
        own.add(&vec![7; 200_000]);
        assert_eq!((len, hash), (200_000, format!("{:016x}", own.finish())));
    }

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
}
