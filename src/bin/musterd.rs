//! musterd: flags, composition, exit codes. 0: left when told to. 1: refused to start, or failed. 2: wrong usage.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use env_logger::fmt::style::Style;
use env_logger::{Target, WriteStyle};
use log::LevelFilter;

use muster::base::facts::LinkFacts;
use muster::base::limits;
use muster::base::machine::Reload;
use muster::config::{self, Config, Flags, Resolved, Text, World};
use muster::engine::server::Server;
use muster::roll::plan::{NamesFile, This};
use muster::shell::daemon::{self, Birth, PidFile};
use muster::shell::{Error, Shell, Signal, facts, journal, lines, manager, stdio, syslog};
use muster::wire::control::{self, LINE_MAX, Reply, Sorry};

const CONFIG: &str = "/etc/muster/muster.toml";
/// The loop wakes at least this often.
const LONGEST_TURN: Duration = Duration::from_secs(60);
/// At the end: how long the journal's disk is waited for, and how long at a time.
const LAST_WAIT: Duration = Duration::from_secs(5);
const LAST_TURN: Duration = Duration::from_millis(50);

struct Options {
    debug: bool,
    foreground: bool,
    test: bool,
    /// None: the usual place, if there is a file.
    config: Option<PathBuf>,
    flags: Flags,
}

fn main() -> ExitCode {
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
    let birth = if options.debug || options.foreground { Ok(Birth::foreground()) } else { daemon::fork() };
    let birth = match birth {
        Ok(birth) => birth,
        Err(why) => return fail(&why.to_string()),
    };
    start_log(&options);
    let mut daemon = match Daemon::start(options) {
        Ok(daemon) => daemon,
        Err(why) => {
            lines::flush();
            birth.stillborn(&why);
            return ExitCode::FAILURE;
        }
    };
    let ready = birth.ready().map(|()| manager::tell(manager::READY));
    let end = ready.and_then(|()| daemon.run());
    if let Err(why) = &end {
        log::error!("{why}");
    }
    lines::flush();
    if end.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn fail(why: &str) -> ExitCode {
    stdio::complain(&format!("musterd: {why}"));
    ExitCode::FAILURE
}

/// None: everything was said already (help, version).
fn options() -> Result<Option<Options>, String> {
    let mut flags = getopts::Options::new();
    flags
        .optflag("d", "debug", "stay in the foreground, with a detailed coloured log on stderr")
        .optflag("f", "foreground", "stay in the foreground, with the usual log on stderr")
        .optflag("t", "test", "check the config, print what it comes to, and exit")
        .optmulti("i", "interface", "serve this interface (may be repeated; replaces those of the config)", "IF")
        .optopt("r", "root", "serve boot files from this folder", "DIR")
        .optopt("c", "config", &format!("read this config file instead of {CONFIG}"), "FILE")
        .optopt("", "run-dir", "where the pid file and state.json go (/run/muster)", "DIR")
        .optopt("", "state-dir", "where the journal is kept (/var/lib/muster)", "DIR")
        .optflag("h", "help", "print this")
        .optflag("V", "version", "print version and commit");
    let matches = flags.parse(std::env::args_os().skip(1)).map_err(|error| error.to_string())?;
    if matches.opt_present("h") {
        let brief =
            "musterd: boots a cluster (DHCP, TFTP and DNS in one process)\nUsage: musterd [-d | -f | -t] [-i IF]... [-r DIR] [-c FILE]";
        let usage = flags.usage(brief);
        return said(format!("{usage}\nWithout -d or -f it becomes a daemon and logs to syslog. See musterd(8), muster.toml(5).\n"));
    }
    if matches.opt_present("V") {
        return said(format!("musterd {} ({})\n", env!("CARGO_PKG_VERSION"), env!("MUSTER_COMMIT")));
    }
    if let Some(stray) = matches.free.first() {
        return Err(format!("{stray:?} is not a flag"));
    }
    let path = |name| matches.opt_str(name).map(|path| std::path::absolute(&path).unwrap_or(path.into()));
    Ok(Some(Options {
        debug: matches.opt_present("d"),
        foreground: matches.opt_present("f"),
        test: matches.opt_present("t"),
        config: path("c"),
        flags: Flags { interfaces: matches.opt_strs("i"), root: path("r"), run_dir: path("run-dir"), state_dir: path("state-dir") },
    }))
}

/// Everything is said with this.
fn said(text: String) -> Result<Option<Options>, String> {
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

fn start_log(options: &Options) {
    if !options.debug && !options.foreground {
        return syslog::init(LevelFilter::Info);
    }
    let level = if options.debug { LevelFilter::Debug } else { LevelFilter::Info };
    let start = Instant::now();
    let coloured = lines::Gatherer::is_terminal() && std::env::var_os("NO_COLOR").is_none();
    env_logger::Builder::new()
        .filter_level(level)
        .target(Target::Pipe(Box::new(lines::Gatherer::new())))
        // What is plain is written plainly: nothing has to be stripped.
        .write_style(WriteStyle::Always)
        .format(move |to, record| {
            let style = if coloured { to.default_level_style(record.level()) } else { Style::new() };
            let (now, level) = (start.elapsed(), level_word(record.level()));
            writeln!(to, "{:5}.{:03} {style}{level:5}{style:#} {}", now.as_secs(), now.subsec_millis(), record.args())
        })
        .init();
}

/// What the config may ask of this machine.
struct Machine(Vec<LinkFacts>);

impl World for Machine {
    fn links(&self) -> &[LinkFacts] {
        &self.0
    }

    fn exists(&self, root: &Path, name: &str) -> bool {
        root.join(name).is_file()
    }
}

/// Reads and resolves everything, before anything is opened.
fn load(options: &Options) -> Result<(Resolved, Machine), String> {
    let machine = Machine(facts::links().map_err(|error| error.to_string())?);
    let path = options.config.as_deref().unwrap_or(Path::new(CONFIG));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if options.config.is_none() && error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(format!("cannot read the config {}: {error}: name another with -c", path.display())),
    };
    let shown = path.display().to_string();
    let text = text.as_deref().map(|text| Text { path: &shown, text });
    let resolved = config::resolve(text, &options.flags, &machine);
    let resolved = resolved.map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    Ok((resolved, machine))
}

fn test(options: &Options) -> ExitCode {
    match load(options) {
        Ok((resolved, _)) => {
            let mut text: String = resolved.choices.iter().map(|choice| format!("# {choice}\n")).collect();
            text.push_str(&config::effective(&resolved.config).to_string());
            stdio::print(&text).map_or_else(|error| fail(&error.to_string()), |_| ExitCode::SUCCESS)
        }
        Err(why) => fail(&why),
    }
}

struct Daemon {
    options: Options,
    server: Server,
    shell: Shell,
    _pid: PidFile,
}

impl Daemon {
    fn start(options: Options) -> Result<Daemon, String> {
        let begin = Instant::now();
        let (Resolved { config, choices }, machine) = load(&options)?;
        for choice in &choices {
            log::info!("{choice}");
        }
        let open = || -> Result<(PidFile, Shell, Vec<String>), Error> {
            check_limits(&config, &machine.0)?;
            let pid = PidFile::create(&config.run_dir)?;
            let (journal, lines) = journal::open(&config.state_dir, &config.run_dir)?;
            let mut shell = Shell::server(&config, &machine.0)?;
            shell.keep(journal)?;
            Ok((pid, shell, lines))
        };
        let (pid, mut shell, lines) = open().map_err(|error| error.to_string())?;
        shell.open_control(&config.run_dir).map_err(|error| error.to_string())?;
        let server = Server::restored(&config, seed(), shell.now(), lines.iter().map(String::as_str))
            .map_err(|why| format!("{why} ({})", config.state_dir.join("journal").display()))?;
        drop(lines);
        write_names(&config);
        daemon::lock_memory();
        let links = config.links.iter().map(|link| format!("{} ({})", link.interface, link.head)).collect::<Vec<_>>().join(", ");
        let took = begin.elapsed().as_secs_f64() * 1000.0;
        log::info!("muster ready on {links}: {} records, {} guests, in {took:.0} ms", config.capacity, guests(&config));
        Ok(Daemon { options, server, shell, _pid: pid })
    }

    fn run(&mut self) -> Result<(), Error> {
        loop {
            match self.shell.turn(&mut self.server, LONGEST_TURN)? {
                None => {}
                Some(Signal::Reload(how)) => {
                    if !self.shell.is_asked() {
                        self.reopen();
                    }
                    let result = self.reload(how);
                    self.answer(result);
                }
                Some(Signal::State) => {
                    let result = self.checkpoint(true);
                    self.server.checkpoint();
                    self.answer(result);
                }
                Some(Signal::Leave) => {
                    manager::tell(manager::STOPPING);
                    let _ = self.checkpoint(false);
                    self.keep_all()?;
                    self.shell.leave();
                    log::info!("muster has left");
                    return Ok(());
                }
            }
        }
    }

    /// Writes the journal anew, with the stages as they are, and waits for its disk, but not for one that fails.
    fn keep_all(&mut self) -> Result<(), Error> {
        self.server.checkpoint();
        let begin = Instant::now();
        loop {
            self.shell.turn(&mut self.server, LAST_TURN)?;
            if self.shell.has_kept() {
                return Ok(());
            }
            if begin.elapsed() > LAST_WAIT {
                log::error!("the journal's disk does not answer: what was promised is on it, the latest stages are not");
                return Ok(());
            }
        }
    }

    /// What a SIGHUP opens anew: the log's socket and the operators'.
    fn reopen(&mut self) {
        syslog::reopen();
        if let Err(why) = self.shell.reopen_control() {
            log::error!("{why}");
        }
    }

    /// Tells the operator who asked, if one did.
    fn answer(&mut self, result: Outcome) {
        let reply = match result {
            Ok(said) => Reply::Done { said },
            Err(sorry) => Reply::Error(sorry),
        };
        let mut line = vec![0; LINE_MAX];
        let written = control::write(&mut line, &reply).or_else(|| control::write(&mut line, &Reply::Done { said: vec![] }));
        self.shell.answer_errand(line.get(..written.unwrap_or(0)).unwrap_or_default());
    }

    /// Reads the config again; gives what it changed.
    fn reload(&mut self, how: Reload) -> Outcome {
        let refused = |lines: Vec<String>, why: &str| {
            lines.iter().for_each(|line| log::error!("{line}"));
            log::error!("the config was not taken over: {why}");
            Err(Sorry::new(format!("the config was not taken over: {}", lines.join("; ")), why))
        };
        let (resolved, _) = match load(&self.options) {
            Ok(loaded) => loaded,
            Err(why) => return refused(why.lines().map(str::to_string).collect(), "the old one stays in force"),
        };
        let (old, new) = (self.server.config(), resolved.config);
        let fixed = config::needs_restart(old, &new);
        let mut said: Vec<String> = config::difference(old, &new).iter().map(|line| format!("config: {line}")).collect();
        let moves = self.server.moves(&new.plan);
        let moved: u32 = moves.iter().map(|of| of.last.0 - of.first.0 + 1).sum();
        let moves: Vec<String> = moves.iter().map(|of| format!("renumber: {of}")).collect();
        if how == Reload::Preview && fixed.is_empty() {
            said.extend(moves);
            return Ok(said);
        }
        said.iter().for_each(|line| log::info!("{line}"));
        if !fixed.is_empty() {
            return refused(fixed, "restart musterd for these changes");
        }
        if how == Reload::Stay && !moves.is_empty() {
            return refused(moves, &format!("it would move nodes that hold leases, {moved} in all: muster reload --renumber does so"));
        }
        // Opened again though it has its old name: another folder may bear that by now.
        if let Err(why) = self.shell.set_root(&new.boot.root) {
            return refused(vec![why.to_string()], "the old one stays in force");
        }
        if let Err(why) = self.server.reconfigure(self.shell.now(), &new) {
            return refused(vec![why], "the old one stays in force");
        }
        write_names(&new);
        moves.iter().for_each(|line| log::warn!("{line}: told as they ask next"));
        said.extend(moves);
        said.push(format!("config read again: {}", if said.is_empty() { "nothing has changed" } else { "in force now" }));
        log::info!("{}", said.last().map_or("", String::as_str));
        Ok(said)
    }

    /// Writes the state file, and logs it if it was asked for.
    fn checkpoint(&mut self, show: bool) -> Outcome {
        let mut state = self.server.state(self.shell.now());
        state.kernel = self.shell.stats().collect();
        state.open_files = self.shell.open_files();
        if show {
            state.lines().iter().for_each(|line| log::info!("{line}"));
        }
        let path = self.server.config().run_dir.join("state.json");
        let text = serde_json::to_string_pretty(&state).unwrap_or_default() + "\n";
        if let Err(error) = daemon::write_atomically(&path, &text) {
            log::error!("cannot write {}: {error}: is its folder there and not full?", path.display());
            return Err(Sorry::new(format!("cannot write {}: {error}", path.display()), "is its folder there and not full?"));
        }
        Ok(vec![format!("written to {}", path.display())])
    }
}

/// What there is to say of something that was done, or why it was not.
type Outcome = Result<Vec<String>, Sorry>;

/// Tells the programs of this machine the plan (libnss_muster(8)). Boots need no such file.
fn write_names(config: &Config) {
    let home = config.networks.iter().find(|network| network.subnet.contains(config.plan.node0()));
    let link = home.and_then(|home| home.link).and_then(|link| config.links.get(usize::from(link)));
    let head = link.or(config.links.first()).map(|link| link.head);
    let text = NamesFile { plan: config.plan, head, this: Some(This::Head) }.to_string();
    if text.len() > NamesFile::TOLD_MAX {
        log::warn!("the plan has too many segments for a DHCP message: nodes are not told the names, copy the file (libnss_muster(8))");
    }
    let path = config.state_dir.join("names");
    if std::fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
        return;
    }
    if let Err(error) = daemon::publish(&path, &text) {
        log::warn!("cannot write {}: {error}: programs on this machine will not know names by it", path.display());
    }
}

/// Looks at what the kernel grants, and says so.
fn check_limits(config: &Config, links: &[LinkFacts]) -> Result<(), Error> {
    let ports = usize::from(config.tftp.ports.1 - config.tftp.ports.0) + 4;
    let names = 2 * limits::DNS_LISTENERS + limits::DNS_ASKERS + limits::DNS_CONNECTIONS + limits::DNS_CALLS;
    facts::ensure_descriptors((config.links.len() * ports + limits::FILES + limits::CONTROL_CONNECTIONS + names + 64) as u64)?;
    for link in &config.links {
        let rate = link.rate.map_or("a rate that it does not tell".into(), |rate| format!("{} Mbit/s", rate / 1_000_000));
        log::info!("{}: {rate}, MTU {}, {}", link.interface, link.mtu, link.mac);
        if link.rate.is_some_and(|rate| rate < 1_000_000_000) {
            log::warn!("{} is slower than 1 Gbit/s: large images will take their time", link.interface);
        }
        if links.iter().any(|facts| facts.index == link.index && !facts.up) {
            log::warn!("{} is down: nothing is heard until it is up (ip link set {} up)", link.interface, link.interface);
        }
    }
    if let Some(limit) = facts::gc_thresh3() {
        log::info!("neighbour table: at most {limit} entries besides the permanent ones of machines with a lease");
    }
    Ok(())
}

fn guests(config: &Config) -> u64 {
    config.networks.iter().filter_map(|network| network.guests).map(|range| range.count()).sum()
}

/// An unpredictable number, for the order of indices and for transaction ids.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}
