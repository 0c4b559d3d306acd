//! The flags of `muster-in`.

use std::path::PathBuf;
use std::time::Duration;

use muster::shell::stdio;
use muster::wire::report;

use crate::names;

pub const TESTS: &str = "/etc/muster/test.d";
const TEST_SECONDS: u64 = 60;
const ANSWER_SECONDS: u64 = 30;
/// Longer times are a slip of the keyboard: a day.
const SECONDS_MAX: u64 = 86_400;

pub struct MusterInOptions {
    pub interface: Option<String>,
    /// None: nothing is tested.
    pub tests: Option<PathBuf>,
    /// How long each test may take.
    pub test_limit: Duration,
    /// Cards named by hand; empty: the physical ones.
    pub nics: Vec<String>,
    /// The DHCP option that carries the report.
    pub option: u8,
    /// How long it is tried to get a lease; None: for ever.
    pub patience: Option<Duration>,
    pub probe: bool,
    /// Where the cluster's names go; None: nowhere.
    pub names: Option<PathBuf>,
    pub renew: bool,
    pub verbose: bool,
}

fn flags() -> getopts::Options {
    let mut flags = getopts::Options::new();
    flags
        .optopt("i", "interface", "the interface to configure (default: BOOTIF)", "IF")
        .optopt("d", "tests", &format!("run the executables of this folder first ({TESTS})"), "DIR")
        .optopt("", "test-limit", &format!("seconds that each test may take ({TEST_SECONDS})"), "S")
        .optflag("", "no-test", "run no test, and report that to the server")
        .optmulti("", "nic", "report this card; may be repeated (default: all physical ones)", "IF")
        .optopt("", "option", &format!("the DHCP option that carries the report ({})", report::CODE), "N")
        .optopt("t", "timeout", &format!("give up after S seconds, 0: never ({ANSWER_SECONDS})"), "S")
        .optflag("", "no-probe", "do not check by ARP whether the address is in use")
        .optopt("", "names", &format!("write the cluster's names here ({})", names::FILE), "FILE")
        .optflag("", "no-names", "write no names")
        .optflag("r", "renew", "stay in the foreground and renew the lease, until SIGTERM")
        .optflag("v", "verbose", "a detailed log on stderr")
        .optflag("h", "help", "print this")
        .optflag("V", "version", "print version and commit");
    flags
}

/// Everything is said with this.
fn said(text: String) -> Result<Option<MusterInOptions>, String> {
    stdio::print(&text).map(|_| None).map_err(|error| error.to_string())
}

/// None: everything was said already (help, version).
pub fn read() -> Result<Option<MusterInOptions>, String> {
    let flags = flags();
    let matches = flags.parse(std::env::args_os().skip(1)).map_err(|error| error.to_string())?;
    if matches.opt_present("h") {
        let brief = "muster-in: tests this node, requests its number, and configures it\n\
                     Usage: muster-in [-i IF] [-d DIR | --no-test] [-t S] [-r]";
        let usage = flags.usage(brief);
        return said(format!("{usage}\nExit: 0 numbered, 1 error, 2 no answer, 3 test failed, 4 still a guest. See muster-in(8).\n"));
    }
    if matches.opt_present("V") {
        return said(format!("muster-in {} ({})\n", env!("CARGO_PKG_VERSION"), env!("MUSTER_COMMIT")));
    }
    if let Some(stray) = matches.free.first() {
        return Err(format!("{stray:?} is not a flag"));
    }
    let number = |name: &str, default: u64, from: u64, to: u64| match matches.opt_str(name) {
        None => Ok(default),
        Some(text) => match text.parse() {
            Ok(number) if (from..=to).contains(&number) => Ok(number),
            _ => Err(format!("--{name} takes a number from {from} to {to}, not {text:?}")),
        },
    };
    if matches.opt_present("no-names") && matches.opt_present("names") {
        return Err("--no-names excludes --names".into());
    }
    if matches.opt_present("no-test") && (matches.opt_present("tests") || matches.opt_present("test-limit")) {
        return Err("--no-test excludes --tests and --test-limit".into());
    }
    let patience = number("timeout", ANSWER_SECONDS, 0, SECONDS_MAX)?;
    Ok(Some(MusterInOptions {
        interface: matches.opt_str("i"),
        tests: (!matches.opt_present("no-test")).then(|| matches.opt_str("tests").unwrap_or(TESTS.into()).into()),
        test_limit: Duration::from_secs(number("test-limit", TEST_SECONDS, 1, SECONDS_MAX)?),
        nics: matches.opt_strs("nic"),
        option: number("option", report::CODE.into(), 224, 253)? as u8,
        names: (!matches.opt_present("no-names")).then(|| matches.opt_str("names").unwrap_or(names::FILE.into()).into()),
        patience: (patience > 0).then_some(Duration::from_secs(patience)),
        probe: !matches.opt_present("no-probe"),
        renew: matches.opt_present("r"),
        verbose: matches.opt_present("v"),
    }))
}
