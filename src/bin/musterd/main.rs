//! musterd: flags, composition, exit codes. 0: stopped by a signal. 1: refused to start, or failed. 2: wrong usage.
//! 3: of a test, an interface is missing, for which the daemon would wait. 6: neither a config nor an interface was named, so that there is nothing to do.
//!
//! The order at start: become a daemon, fork the file processes while there is nothing yet to copy, open the log, read the config, give up privileges,
//! open everything, give up the rest ([`muster::shell::confine`]).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use env_logger::fmt::style::Style;
use env_logger::{Target, WriteStyle};
use log::LevelFilter;

use muster::base::endpoint::{self, Transport};
use muster::base::facts::LinkFacts;
use muster::base::limits;
use muster::base::machine::{Command, Input};
use muster::config::{Config, ConfigFile, LinkConfig, MachineFacts, Resolved, Unresolved};
use muster::engine::dns;
use muster::engine::endpoints::{self, Endpoints};
use muster::engine::server::{ReloadState, Server};
use muster::shell;
use muster::shell::clerk::{Clerk, ClerkReport, Task};
use muster::shell::daemon::{self, PidFile, Readiness};
use muster::shell::left::LeftSockets;
use muster::shell::manager::Watchdog;
use muster::shell::rows::Rows;
use muster::shell::work::{self, Worker, beneath, clerk::read_config};
use muster::shell::{
    Crew, Features, Shell, ShellError, confine, facts, firewall, flags, journal, manager, signals, stderr_log, stdio, syslog,
};

mod privileges;

use privileges::Privileges;

/// The exit code of a daemon that was told nothing, as init scripts have it (LSB: "program is not configured").
const UNCONFIGURED: u8 = 6;
/// Of a test: the config is right as soon as an interface is there, for which the daemon waits.
const AWAITS: u8 = 3;
/// The loop wakes at least this often.
const LONGEST_TURN: Duration = Duration::from_secs(60);
/// Descriptors besides those of endpoints, files and links.
const OTHER_DESCRIPTORS: usize = 64;
/// At start: how long the disks of config, root and journal are waited for.
const FIRST_WAIT: Duration = Duration::from_secs(10);
/// At start: how long who has started us waits for a missing interface.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether it is there.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

struct DaemonOptions {
    debug: bool,
    foreground: bool,
    test: bool,
    /// In the usual place there need not be one.
    config: ConfigFile,
}

fn main() -> ExitCode {
    let left = LeftSockets::take();
    // Whoever sends one before the daemon is ready is served when it is.
    if let Err(why) = signals::hold() {
        return fail(&why.to_string());
    }
    let options = match options() {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(why) => {
            stdio::complain(&format!("musterd: {why}; musterd --help lists the flags"));
            return ExitCode::from(2);
        }
    };
    if options.test {
        return test(&options);
    }
    let birth = if options.debug || options.foreground { Ok(Readiness::foreground()) } else { daemon::fork() };
    let mut birth = match birth {
        Ok(birth) => Some(birth),
        Err(why) => return fail(&why.to_string()),
    };
    let crew = confine::prepare().and_then(|()| Crew::start());
    start_log(&options);
    let mut daemon =
        match crew.map_err(|error| NoDaemon::from(error.to_string())).and_then(|crew| Daemon::start(options, (crew, left), &mut birth)) {
            Ok(daemon) => daemon,
            Err(NoDaemon { why, code }) => {
                stderr_log::flush();
                birth.into_iter().for_each(|birth| birth.failed(&why));
                return ExitCode::from(code);
            }
        };
    let ready = birth.map_or(Ok(()), Readiness::ready).map(|()| manager::tell(&manager::ready(&daemon.serves)));
    let end = ready.and_then(|()| daemon.run());
    if let Err(why) = &end {
        log::error!("{why}");
    }
    stderr_log::flush();
    if end.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Why there will be no daemon, and with which code it ends.
struct NoDaemon {
    why: String,
    code: u8,
}

impl From<String> for NoDaemon {
    fn from(why: String) -> NoDaemon {
        NoDaemon { why, code: 1 }
    }
}

fn fail(why: &str) -> ExitCode {
    stdio::complain(&format!("musterd: {why}"));
    ExitCode::FAILURE
}

/// None: everything was said already (help, version).
fn options() -> Result<Option<DaemonOptions>, String> {
    let flags = flags::options();
    let matches = flags.parse(std::env::args_os().skip(1)).map_err(|error| error.to_string())?;
    if matches.opt_present("h") {
        let brief = "musterd: boots a cluster and numbers its nodes (DHCP, TFTP and DNS in one process)\n\
             Usage: musterd [-d | -f | -t] [-i IF]... [-r DIR] [-c FILE]\n\
             \x20              [--user NAME] [--run-dir DIR] [--state-dir DIR]";
        let usage = flags.usage(brief);
        return said(format!("{usage}\nWithout -d or -f it becomes a daemon and logs to syslog. See musterd(8), muster.toml(5).\n"));
    }
    if matches.opt_present("V") {
        return said(format!("musterd {} ({})\n", env!("CARGO_PKG_VERSION"), env!("MUSTER_COMMIT")));
    }
    Ok(Some(DaemonOptions {
        debug: matches.opt_present("d"),
        foreground: matches.opt_present("f"),
        test: matches.opt_present("t"),
        config: flags::config_file(&matches)?,
    }))
}

/// Everything is said with this.
fn said(text: String) -> Result<Option<DaemonOptions>, String> {
    stdio::print(&text).map(|_| None).map_err(|error| error.to_string())
}

fn level_word(level: log::Level) -> &'static str {
    match level {
        log::Level::Error => "error",
        log::Level::Warn => "warn",
        log::Level::Info => "info",
        log::Level::Debug => "debug",
        log::Level::Trace => "trace",
    }
}

fn start_log(options: &DaemonOptions) {
    if !options.debug && !options.foreground {
        return syslog::init(LevelFilter::Info);
    }
    let level = if options.debug { LevelFilter::Debug } else { LevelFilter::Info };
    let start = Instant::now();
    let coloured = stderr_log::StderrLog::is_terminal() && std::env::var_os("NO_COLOR").is_none();
    env_logger::Builder::new()
        .filter_level(level)
        .target(Target::Pipe(Box::new(stderr_log::StderrLog::new())))
        // What is plain is written plainly: nothing has to be stripped.
        .write_style(WriteStyle::Always)
        .format(move |to, record| {
            let style = if coloured { to.default_level_style(record.level()) } else { Style::new() };
            let (now, level) = (start.elapsed(), level_word(record.level()));
            writeln!(to, "{:5}.{:03} {style}{level:5}{style:#} {}", now.as_secs(), now.subsec_millis(), record.args())
        })
        .init();
}

/// Reads and resolves everything, before anything is opened. `exists` tells which names are files beneath a root.
fn load(
    file: &ConfigFile,
    text: Option<String>,
    mut exists: impl FnMut(&Path, Vec<PathBuf>, &[String]) -> Result<Vec<bool>, String>,
    mut recall: impl FnMut(PathBuf) -> Result<Option<String>, String>,
) -> Result<Loaded, String> {
    let links = facts::links().map_err(|error| error.to_string())?;
    let mut facts = MachineFacts::at_start(links.clone());
    loop {
        match file.resolve(text.as_deref(), &facts) {
            Ok(resolved) => return Ok(Loaded::Whole(Box::new(resolved), links, facts.remembers())),
            Err(Unresolved::Wrong(why)) => return Err(why),
            Err(Unresolved::Await(run, why)) => return Ok(Loaded::Awaits(run, why)),
            Err(Unresolved::Ask(root, names)) => facts.learn(&root, &names, &exists(&root, facts.allowed(), &names)?),
            Err(Unresolved::Recall(path)) => facts.recall(recall(path)?.as_deref()),
        }
    }
}

/// What was read and resolved, on a machine with these links.
enum Loaded {
    /// It was remembered or not by what nodes have their addresses.
    Whole(Box<Resolved>, Vec<LinkFacts>, bool),
    /// An interface is missing: the folder of the pid file, and what is missing.
    Awaits(PathBuf, String),
}

fn test(options: &DaemonOptions) -> ExitCode {
    let exists = |root: &Path, allow: Vec<PathBuf>, names: &[String]| {
        let (root, allow) = (beneath::root(root).ok(), beneath::allow(&allow));
        let is_file = |name: &String| root.as_ref().is_some_and(|root| beneath::is_file(root.ground(&allow), name.as_bytes()));
        Ok(names.iter().map(is_file).collect())
    };
    let text = read_config(&options.config.path).map_err(|error| error.to_string());
    // What cannot be read was not written either.
    let recall = |path: PathBuf| Ok(read_config(&path).unwrap_or_default());
    match text.and_then(|text| load(&options.config, text, exists, recall)) {
        Ok(Loaded::Awaits(_, why)) => {
            fail(&why);
            ExitCode::from(AWAITS)
        }
        Ok(Loaded::Whole(resolved, ..)) => {
            let mut text: String = resolved.notes.iter().map(|note| format!("# {note}\n")).collect();
            text.push_str(&resolved.config.listing.to_string());
            stdio::print(&text).map_or_else(|error| fail(&error.to_string()), |_| ExitCode::SUCCESS)
        }
        Err(why) => fail(&why),
    }
}

/// The same by the clerk, which reports a disk that hangs.
fn load_by_clerk(file: &ConfigFile, clerk: &mut Clerk) -> Result<Loaded, NoDaemon> {
    let unforeseen = || "unexpected answer of a file process: start musterd again".to_string();
    let clerk = std::cell::RefCell::new(clerk);
    let read = |path: PathBuf| match clerk.borrow_mut().wait(Task::Config(path), FIRST_WAIT) {
        ClerkReport::Config(text) => Ok(text),
        ClerkReport::Failed(why) => Err(why),
        _ => Err(unforeseen()),
    };
    let exists = |root: &Path, allow, names: &[String]| match clerk
        .borrow_mut()
        .wait(Task::Exists(root.into(), allow, names.to_vec()), FIRST_WAIT)
    {
        ClerkReport::Exists(found) => Ok(found),
        ClerkReport::Failed(why) => Err(why),
        _ => Err(unforeseen()),
    };
    let text = read(file.path.clone())?;
    let code = if text.is_none() && file.flags.interfaces.is_empty() { UNCONFIGURED } else { 1 };
    let recall = |path: PathBuf| {
        let remedy = "restore it with the rights of its neighbours, or remove it if no node has a number";
        read(path.clone()).map_err(|why| format!("cannot recall the networks of the interfaces: {why} ({}: {remedy})", path.display()))
    };
    load(file, text, exists, recall).map_err(|why| NoDaemon { why, code })
}

/// The same as soon as the interfaces are there: a head may come up before its cards. Who has started us waits for [`PATIENCE`] at most; then we
/// are a daemon that waits.
fn load_at_start(
    file: &ConfigFile,
    clerk: &mut Clerk,
    birth: &mut Option<Readiness>,
) -> Result<(Resolved, Vec<LinkFacts>, Option<PidFile>, bool), NoDaemon> {
    let (begin, mut told, mut pid, mut watchdog) = (Instant::now(), String::new(), None, Watchdog::of_environment());
    let (mut signals, mut folder) = (None, PathBuf::new());
    loop {
        let why = match load_by_clerk(file, clerk) {
            Ok(Loaded::Whole(resolved, links, remembers)) => return Ok((*resolved, links, pid, remembers)),
            Ok(Loaded::Awaits(run, why)) => {
                folder = run;
                why
            }
            // A config that is being edited meanwhile is waited for as well.
            Err(NoDaemon { why, .. }) if pid.is_some() => why,
            Err(wrong) => return Err(wrong),
        };
        if why != told {
            why.lines().for_each(|line| log::warn!("{line}"));
            log::warn!("musterd: waits for that (it serves as soon as that is so)");
            manager::tell(&format!("STATUS=waits: {}", why.lines().next().unwrap_or_default()));
            told = why;
        }
        if pid.is_none() {
            pid = Some(PidFile::create(&folder).map_err(|error| error.to_string())?);
            signals = Some(signals::Signals::open().map_err(|error| error.to_string())?);
        }
        // The others ask for what is done anyhow.
        if signals.as_mut().is_some_and(|signals| signals.take() == Some(Command::Leave)) {
            manager::tell(manager::STOPPING);
            return Err(NoDaemon { why: "stopped while it waited".into(), code: 0 });
        }
        if begin.elapsed() >= PATIENCE {
            if let Some(birth) = birth.take() {
                birth.ready().map_err(|error| error.to_string())?;
                manager::tell(&manager::ready(&format!("waits: {}", told.lines().next().unwrap_or_default())));
            }
            watchdog.turn(shell::monotonic);
        }
        stderr_log::flush();
        std::thread::sleep(LOOK_AGAIN);
    }
}

struct Daemon {
    server: Server,
    shell: Shell,
    /// On which links.
    serves: String,
    _pid: PidFile,
}

impl Daemon {
    fn start(options: DaemonOptions, (crew, left): (Crew, LeftSockets), birth: &mut Option<Readiness>) -> Result<Daemon, NoDaemon> {
        let begin = Instant::now();
        let Crew { mut writer, clerk, mut readers } = crew;
        let mut clerk = Clerk::new(clerk);
        let (Resolved { config, notes }, links, waited, remembers) = load_at_start(&options.config, &mut clerk, birth)?;
        for note in &notes {
            log::info!("{note}");
        }
        let open = || -> Result<(PidFile, Shell, Vec<String>, Privileges), ShellError> {
            let table = Endpoints::new(&config);
            check_limits(&config, &links, &table)?;
            let state = &config.server.state_dir;
            log::info!("journal: opening it in {}", state.display());
            if let ClerkReport::Failed(why) = clerk.wait(Task::Try(state.clone()), FIRST_WAIT) {
                return Err(ShellError::new(why));
            }
            let privileges = Privileges::drop(&config, &options.config.path, &mut writer, &mut clerk, &mut readers)?;
            let pid = waited.map_or_else(|| PidFile::create(&config.server.run_dir), Ok)?;
            let (journal, lines) = journal::open(state, &config.server.run_dir, writer)?;
            let facts = |link: &LinkConfig| links.iter().find(|facts| facts.name == link.interface).cloned();
            let served: Vec<LinkFacts> =
                config.links.iter().map(|link| facts(link).unwrap_or_else(|| LinkFacts::absent(&link.interface))).collect();
            let mut shell = Shell::server_after(left, table.rows(), (&served, Features::ALL), &config.boot.root, clerk, readers)?;
            shell.keep_sockets();
            tell_names(&shell, &table);
            shell.keep(journal)?;
            Ok((pid, shell, lines, privileges))
        };
        let (pid, mut shell, lines, privileges) = open().map_err(|error| error.to_string())?;
        shell.open_control(&config.server.run_dir).map_err(|error| error.to_string())?;
        let mut server = Server::restored(&config, seed(), shell.now(), lines.iter().map(String::as_str))
            .map_err(|why| format!("{why} ({})", config.server.state_dir.join("journal").display()))?
            .with_serial(std::fs::read_to_string(config.server.state_dir.join(dns::Serial::FILE)).ok().as_deref())
            .with_file(options.config);
        if !remembers && server.roll().lots().occupied() > 0 {
            log::warn!(
                "interfaces: what nodes had their addresses by is not in {}, so they follow the interfaces as they are now (if they should not, stop \
                 musterd before a node boots, and set the interfaces as they were)",
                config.server.state_dir.display()
            );
        }
        drop(lines);
        take_up(&config, &mut shell, &mut server);
        daemon::lock_memory();
        privileges.confine_loop(&config).map_err(|error| error.to_string())?;
        let links = config.links.iter().map(|link| format!("{} ({})", link.interface, link.head)).collect::<Vec<_>>().join(", ");
        let took = begin.elapsed().as_secs_f64() * 1000.0;
        let (clients, guests) = (config.server.capacity, guests(&config));
        log::info!("musterd: ready on {links} (capacity {clients} clients, {guests} guest addresses; started in {took:.0} ms)");
        Ok(Daemon { server, shell, serves: format!("serves {links}"), _pid: pid })
    }

    /// Hands signals on, until the machine has ended.
    fn run(&mut self) -> Result<(), ShellError> {
        self.survey();
        let mut watchdog = Watchdog::of_environment();
        let longest = watchdog.longest(LONGEST_TURN);
        let mut told = self.server.reload_state();
        while !self.shell.has_left() {
            let command = self.shell.turn(&mut self.server, longest)?;
            watchdog.turn(|| self.shell.now().at);
            if let Some(refused) = confine::refusal() {
                log::error!("{refused}");
            }
            match command {
                Some(Command::Leave) => manager::tell(manager::STOPPING),
                // Both may have been taken away.
                Some(Command::Reload(_)) => {
                    syslog::reopen();
                    self.shell.reopen_control();
                }
                Some(Command::Checkpoint) | None => {}
            }
            if let Some(command) = command {
                self.shell.hand(&mut self.server, Input::Command(command));
            }
            let state = self.server.reload_state();
            if state != told {
                self.tell_reload(state);
                told = state;
            }
        }
        self.shell.leave();
        log::info!("musterd: stopped");
        Ok(())
    }

    /// Has it looked which boot files cannot be read.
    fn survey(&mut self) {
        let boot = &self.server.config().boot;
        let programs = boot.program.iter().filter(|(arch, _)| !arch.is_http()).map(|(_, name)| name);
        let names = programs.chain(&boot.script).chain(&boot.kernel).chain(&boot.initrd).cloned().collect();
        self.shell.survey(&boot.root.clone(), names);
    }

    /// Tells the service manager how a reload goes.
    fn tell_reload(&mut self, state: ReloadState) {
        let serves = &self.serves;
        match state {
            ReloadState::UnderWay => manager::tell(&manager::reloading(self.shell.now().at)),
            ReloadState::Done => {
                manager::tell(&manager::ready(serves));
                self.survey();
            }
            ReloadState::Refused => manager::tell(&manager::ready(&format!("{serves}; the last reload was refused (see the log)"))),
        }
    }
}

/// Goes on with what the daemon before this one was doing.
fn take_up(config: &Config, shell: &mut Shell, server: &mut Server) {
    let (places, format) = server.rows();
    let (rows, kept) = Rows::open(&config.server.run_dir, places, format);
    shell.take_up(server, rows, &kept);
    if !kept.is_empty() {
        log::info!("transfers: {} of {} that were running are taken up", server.transfers(), kept.len());
    }
}

/// Looks at what the kernel grants, and says so.
fn check_limits(config: &Config, links: &[LinkFacts], table: &Endpoints) -> Result<(), ShellError> {
    let descriptors = endpoint::descriptors(table.rows()) + config.links.len() + limits::FILES + work::READERS;
    facts::ensure_descriptors((descriptors + OTHER_DESCRIPTORS) as u64)?;
    for link in &config.links {
        let rate = link.rate.map_or("unknown rate".into(), |rate| format!("{} Mbit/s", rate / 1_000_000));
        // What becomes of one that is not there is said by the server.
        let Some(facts) = links.iter().find(|facts| facts.name == link.interface) else { continue };
        log::info!("{}: {rate}, MTU {}, {}", link.interface, facts.mtu, facts.mac);
        if link.rate.is_some_and(|rate| rate < 1_000_000_000) {
            log::warn!("{}: slower than 1 Gbit/s (large images take long)", link.interface);
        }
    }
    if let Some((table, chain)) = firewall::rejecting() {
        let (first, last) = config.tftp.ports;
        log::warn!(
            "firewall: rules reject packets here (nftables table {table}, chain {chain}); accept UDP 67, 69 and {first}-{last} on the boot \
             interfaces before them, since firmware gives up at the ICMP of a reject (muster doctor looks which rules apply)"
        );
    }
    if let Some(limit) = facts::gc_thresh3() {
        log::info!("neighbour table: at most {limit} entries (the permanent ones of machines with leases do not count)");
    }
    Ok(())
}

/// Says where names are served, and where not.
fn tell_names(shell: &Shell, table: &Endpoints) {
    let mut on: Vec<String> = Vec::new();
    let rows = (0..).zip(table.rows()).filter(|(_, row)| row.service == endpoints::DNS);
    for (at, row) in rows {
        let (address, port) = (row.address.ip(), row.address.port());
        match shell.refused().iter().find(|refused| refused.endpoint == at) {
            Some(refused) => log::error!("dns: not served on {address} port {port}: {} ({})", refused.error, refused.remedy),
            None if row.transport == Transport::Udp => on.push(address.to_string()),
            None => {}
        }
    }
    if !on.is_empty() {
        log::info!("dns: served on {}, port {}", on.join(", "), dns::PORT);
    }
}

fn guests(config: &Config) -> u64 {
    config.networks.iter().filter_map(|network| network.guests).map(|range| range.count()).sum()
}

/// An unpredictable number, for the order of indices and for transaction ids.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
