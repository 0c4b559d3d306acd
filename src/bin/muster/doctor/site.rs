//! Where to look: the config as musterd reads it, with the flags that it runs with, or would be started with.
//!
//! The flags are those behind `--` of the command line; else those of the daemon that runs, from /proc; else those that the init script and the unit
//! would give it. The config is resolved by the daemon's own reader, so that interfaces, folders and files are those that it would use.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster::base::facts::LinkFacts;
use muster::config::{Config, ConfigFile, Flags, MachineFacts, Server, Unresolved};
use muster::shell::aside::{self, Aside};
use muster::shell::confine::USER;
use muster::shell::confine::account::{Account, name_of};
use muster::shell::facts;
use muster::shell::flags;
use muster::shell::work::beneath;
use muster::shell::work::clerk::read_config;

use super::super::Failure;

const DEFAULTS: [&str; 2] = ["/etc/default/muster", "/etc/sysconfig/muster"];
/// A disk that has not answered in this time hangs.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A musterd that runs.
#[derive(Clone, Debug)]
pub struct RunningDaemon {
    pub pid: u32,
    pub uid: u32,
    /// Its capabilities, a bit each.
    pub capabilities: u64,
    flags: Vec<String>,
}

#[cfg(test)]
impl RunningDaemon {
    pub fn for_test(pid: u32, uid: u32) -> RunningDaemon {
        RunningDaemon { pid, uid, capabilities: 0, flags: Vec::new() }
    }
}

/// With whose rights files are looked at.
pub enum Eyes {
    /// Whoever runs this is the user of the daemon, of this name.
    Own(String),
    /// Root looks as this one.
    Of(Account),
    /// Nobody can look as the daemon would, for this reason.
    Foreign(String),
}

impl Eyes {
    /// The user to become, and who that is.
    pub fn account(&self) -> Option<&Account> {
        if let Eyes::Of(account) = self { Some(account) } else { None }
    }

    pub fn name(&self) -> String {
        match self {
            Eyes::Own(name) => name.clone(),
            Eyes::Of(account) => account.name.clone(),
            Eyes::Foreign(_) => name_of(None),
        }
    }
}

/// Why there is none.
pub struct NoConfig {
    /// A sentence a line.
    pub why: String,
    /// An interface is missing or has no address, for which musterd waits.
    pub passes: bool,
}

impl From<String> for NoConfig {
    fn from(why: String) -> NoConfig {
        NoConfig { why, passes: false }
    }
}

/// What was found before any check.
pub struct Site {
    /// Whose flags they are.
    pub flags_of: String,
    pub file: ConfigFile,
    pub daemon: Option<RunningDaemon>,
    /// All interfaces, or why they cannot be listed.
    pub links: Result<Vec<LinkFacts>, String>,
    /// The config with what was derived, or what is wrong with it.
    pub config: Result<(Config, Vec<String>), NoConfig>,
    /// The interfaces that the flags or the file name, whether they are there or not.
    pub interfaces: Vec<String>,
    pub run_dir: PathBuf,
    pub state_dir: PathBuf,
    /// There is a config file.
    pub has_file: bool,
    /// Neither a config nor an interface was named.
    pub unconfigured: bool,
    user: String,
}

impl Site {
    /// `given`: flags as musterd takes them.
    pub fn new(given: &[String]) -> Result<Site, Failure> {
        let usual = defaults(DEFAULTS.iter().filter_map(|path| fs::read_to_string(path).ok().map(|text| (*path, text))));
        let (flags_of, words) = match (given, &usual) {
            ([], Some((path, words))) => (path.clone(), words.clone()),
            ([], None) => ("no flags".into(), Vec::new()),
            (given, _) => ("the command line".into(), given.to_vec()),
        };
        let file = config_file(&words).map_err(|why| Failure::Usage(format!("{why} (flags of {flags_of})")))?;
        let mut site = Site::of(flags_of, file);
        if let Some(daemon) = site.daemon.clone().filter(|_| given.is_empty()) {
            if let Ok(file) = config_file(&daemon.flags) {
                site = Site::of(format!("musterd, pid {}", daemon.pid), file);
            }
        }
        Ok(site)
    }

    fn of(flags_of: String, file: ConfigFile) -> Site {
        let links = facts::links().map_err(|error| error.to_string());
        let text = read(&file.path);
        let interfaces = interfaces(&file.flags, text.as_ref().ok().and_then(Option::as_deref));
        let has_file = matches!(text, Ok(Some(_)));
        let unconfigured = matches!(text, Ok(None)) && file.flags.interfaces.is_empty() && !file.required;
        let config = text.map_err(NoConfig::from).and_then(|text| resolve(&file, text.as_deref(), links.clone()?));
        let server = config.as_ref().map_or_else(|_| by_flags(&file.flags), |(config, _)| config.server.clone());
        let daemon = running(&server.run_dir);
        let (run_dir, state_dir, user) = (server.run_dir, server.state_dir, server.user);
        Site { flags_of, file, daemon, links, config, interfaces, run_dir, state_dir, has_file, unconfigured, user }
    }

    pub fn config(&self) -> Option<&Config> {
        self.config.as_ref().ok().map(|(config, _)| config)
    }

    /// Whose rights count: those of the daemon's user, as it is or as it would be.
    pub fn eyes(&self) -> Eyes {
        let found = |name: &str| Account::find(name).ok().flatten();
        // Without the usual user root stays root.
        let uid = self.daemon.as_ref().map_or_else(|| found(&self.user).map_or(0, |account| account.uid), |daemon| daemon.uid);
        let (own, name) = (nix::unistd::geteuid(), name_of(Some(uid)));
        match uid {
            uid if uid == own.as_raw() => Eyes::Own(name),
            _ if !own.is_root() => Eyes::Foreign(format!("musterd is {name}, and only root may look as that user")),
            _ => found(&name).map_or_else(|| Eyes::Foreign(format!("{name} is in no /etc/passwd")), Eyes::Of),
        }
    }

    /// The daemon, if it runs, waits for an interface.
    pub fn awaits(&self) -> bool {
        self.config.as_ref().is_err_and(|no| no.passes)
    }

    /// Whether the user that the daemon is to become is there.
    pub fn lacks_user(&self) -> Option<&str> {
        let there = self.user == USER || self.user == "root" || Account::find(&self.user).ok().flatten().is_some();
        (!there).then_some(&self.user)
    }
}

fn by_flags(flags: &Flags) -> Server {
    let usual = Server::default();
    Server {
        run_dir: flags.run_dir.clone().unwrap_or(usual.run_dir),
        state_dir: flags.state_dir.clone().unwrap_or(usual.state_dir),
        user: flags.user.clone().unwrap_or(usual.user),
        ..Server::default()
    }
}

/// Resolved as the daemon does it; files are asked for by a process that may hang.
fn resolve(file: &ConfigFile, text: Option<&str>, links: Vec<LinkFacts>) -> Result<(Config, Vec<String>), NoConfig> {
    let mut facts = MachineFacts::at_start(links);
    loop {
        match file.resolve(text, &facts) {
            Ok(resolved) => return Ok((resolved.config, resolved.notes)),
            Err(Unresolved::Wrong(why)) => return Err(NoConfig { why, passes: false }),
            Err(Unresolved::Await(_, why)) => return Err(NoConfig { why, passes: true }),
            // What cannot be read was not written either.
            Err(Unresolved::Recall(path)) => facts.recall(read(&path).unwrap_or_default().as_deref()),
            Err(Unresolved::Ask(root, names)) => facts.learn(&root, &names, &exist(&root, &facts.allowed(), &names)?),
        }
    }
}

fn read(path: &Path) -> Result<Option<String>, String> {
    match aside::look(None, PATIENCE, || read_config(path).map_err(|error| error.to_string())) {
        Ok(Aside::Found(text)) => text,
        Ok(Aside::Hangs) => Err(format!("cannot read the config {}: its disk or server hangs", path.display())),
        Err(why) => Err(why.to_string()),
    }
}

fn exist(root: &Path, allowed: &[PathBuf], names: &[String]) -> Result<Vec<bool>, String> {
    let looked = aside::look(None, PATIENCE, || {
        let (root, allowed) = (beneath::root(root).ok(), beneath::allow(allowed));
        let is_file = |name: &String| root.as_ref().is_some_and(|root| beneath::is_file(root.ground(&allowed), name.as_bytes()));
        names.iter().map(is_file).collect::<Vec<bool>>()
    });
    match looked.map_err(|error| error.to_string())? {
        Aside::Found(found) => Ok(found),
        Aside::Hangs => Err(format!("{} has not answered in {} s: its disk or server hangs", root.display(), PATIENCE.as_secs())),
    }
}

/// The flags of musterd, as far as they say where to look.
fn config_file(words: &[String]) -> Result<ConfigFile, String> {
    let matches = flags::options().parse(words).map_err(|error| error.to_string())?;
    flags::config_file(&matches).map_err(|error| format!("{error} of musterd"))
}

/// `MUSTERD_OPTS` of the files that init script and unit read; the last one counts. Cut at blanks, as systemd does.
fn defaults(files: impl Iterator<Item = (&'static str, String)>) -> Option<(String, Vec<String>)> {
    let mut found = None;
    for (path, text) in files {
        let value = text.lines().filter_map(|line| line.trim().strip_prefix("MUSTERD_OPTS=")).next_back();
        if let Some(value) = value {
            let words = value.trim_matches(['"', '\'']).split_whitespace().map(str::to_string).collect();
            found = Some((path.to_string(), words));
        }
    }
    found
}

/// The interfaces that are named: by flags, which replace those of the file.
fn interfaces(flags: &Flags, text: Option<&str>) -> Vec<String> {
    if !flags.interfaces.is_empty() {
        return flags.interfaces.clone();
    }
    // By lines: a config that is wrong is no TOML, perhaps.
    let (mut found, mut network) = (Vec::new(), false);
    for line in text.unwrap_or_default().lines().map(str::trim) {
        if line.starts_with('[') {
            network = line.starts_with("[[network]]");
        }
        let value = line.strip_prefix("interface").map(str::trim_start).and_then(|rest| rest.strip_prefix('=')).filter(|_| network);
        found.extend(value.and_then(|value| value.trim().split('"').nth(1)).map(str::to_string));
    }
    found
}

/// The daemon of a run folder.
fn running(run_dir: &Path) -> Option<RunningDaemon> {
    let pid: u32 = fs::read_to_string(run_dir.join("musterd.pid")).ok()?.trim().parse().ok()?;
    let of = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
    // A pid file that a power cut left behind may name anybody.
    if !of("comm")?.starts_with("musterd") {
        return None;
    }
    let flags = of("cmdline")?.split('\0').skip(1).filter(|word| !word.is_empty()).map(str::to_string).collect();
    let (uid, capabilities) = credentials(&of("status")?)?;
    Some(RunningDaemon { pid, uid, capabilities, flags })
}

/// The user and the effective capabilities in `/proc/PID/status`.
fn credentials(status: &str) -> Option<(u32, u64)> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let uid = field("Uid:")?.split_whitespace().nth(1)?.parse().ok()?;
    Some((uid, u64::from_str_radix(field("CapEff:")?, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_string).collect()
    }

    #[test]
    fn flags_are_those_of_the_daemon() {
        let file = config_file(&words("-f -i eth1 -i eth2 -c /x.toml --state-dir=/var/x")).unwrap();
        assert_eq!(file.flags.interfaces, ["eth1", "eth2"]);
        assert_eq!((file.path, file.required, file.flags.state_dir), ("/x.toml".into(), true, Some("/var/x".into())));
        assert_eq!(config_file(&[]).unwrap().path, Path::new(flags::CONFIG));
        assert!(config_file(&words("-x")).is_err() && config_file(&words("eth1")).unwrap_err().contains("eth1"));
    }

    #[test]
    fn defaults_of_distributions() {
        let read = |text: &str| defaults([("/etc/default/muster", text.to_string())].into_iter());
        let found = read("# Flags\n#MUSTERD_OPTS=\"-i eth9\"\nMUSTERD_OPTS=\"-i eth1 -r /srv/tftp\"\n");
        assert_eq!(found, Some(("/etc/default/muster".into(), words("-i eth1 -r /srv/tftp"))));
        assert_eq!(read("MUSTERD_OPTS=\"\"\n").map(|(_, words)| words), Some(Vec::new()));
        assert_eq!(read("OTHER=1\n"), None);
    }

    #[test]
    fn interfaces_are_known_though_the_config_is_wrong() {
        let text = "[[network]]\ninterface = \"eth1\"\nguests = 7\n[[network]]\nsubnet = \"10.0.0.0/8\"\n[nonsense]\n";
        assert_eq!(interfaces(&Flags::default(), Some(text)), ["eth1"]);
        let flags = Flags { interfaces: vec!["eth5".into()], ..Flags::default() };
        assert_eq!(interfaces(&flags, Some(text)), ["eth5"]);
        assert!(interfaces(&Flags::default(), Some("x = [\ninterface = \"eth7\"\n")).is_empty());
    }

    #[test]
    fn the_kernel_tells_who_runs() {
        let status = "Name:\tmusterd\nUid:\t101\t998\t998\t998\nCapPrm:\t0000000000003400\nCapEff:\t0000000000003400\n";
        assert_eq!(credentials(status), Some((998, 0x3400)));
        assert_eq!(credentials("Name:\tx\n"), None);
    }
}
