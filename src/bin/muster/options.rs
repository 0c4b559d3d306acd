//! The command line: words that name a command, what it is about, and flags anywhere between them.

use std::path::PathBuf;
use std::time::Duration;

use muster::base::addr::Mac;
use muster::config::nearest;
use muster::roll::ranges;
use muster::wire::control::{Change, NodeState, Replacement};

use super::Failure;
use super::doctor::DoctorOptions;
use super::hosts::Form;
use super::import::Format;
use super::look::print;

/// Where the daemon listens by default.
const SOCKET: &str = "/run/muster/control.sock";

/// Each command: its words, what follows them, what it does, and the flags that it takes beside the common ones.
type Usage = (&'static [&'static str], &'static str, &'static str, &'static [&'static str]);
const COMMANDS: [Usage; 18] = [
    (&["doctor"], "[-- FLAGS...]", "find out why nodes do not boot; FLAGS are those of musterd", &["passive"]),
    (&["status"], "", "the whole cluster: states of nodes as ranges, guests, load", &[]),
    (&["node", "list"], "[RANGE...]", "nodes and their stages; without a range all that are not vacant", &[]),
    (&["node", "show"], "RANGE", "one node: hardware, boots, and the config sections that apply to it", &[]),
    (
        &["node", "set"],
        "NUMBER FLAGS",
        "set the MACs of a number (--mac, --add, --remove), --reserve or --free it",
        &["mac", "add", "remove", "reserve", "free", "dry-run"],
    ),
    (&["node", "replace"], "NUMBER", "the next machine that passes (or --mac, --guest) becomes this node", &["mac", "guest", "dry-run"]),
    (&["node", "out"], "RANGE...", "remove these machines for good: their numbers become vacant", &["dry-run"]),
    (&["guest", "list"], "", "machines without a number", &[]),
    (&["guest", "enlist"], "ID [NUMBER]", "give a guest a number; @held: all guests that passed and wait", &["dry-run"]),
    (&["find"], "TEXT", "whose a MAC, address, name, serial number, UUID or switch port is", &[]),
    (&["why"], "NODE|ID", "why a node or a guest is not up: where it stands, what it asked, what to do", &[]),
    (&["wait"], "RANGE", "wait until nodes are up (--state, --timeout)", &["state", "timeout"]),
    (&["watch"], "", "show every step of every machine as it happens", &[]),
    (&["reload"], "", "read the config again (--renumber: even if nodes get other addresses)", &["renumber", "dry-run"]),
    (&["checkpoint"], "", "write state and journal to disk", &[]),
    (
        &["hosts"],
        "[RANGE...]",
        "names and addresses of all nodes, for other programs (--form hosts, genders, clustershell, slurm, ansible)",
        &["form"],
    ),
    (&["undo"], "", "undo the last change", &["dry-run"]),
    (&["import"], "FILE...", "import known machines from files, folders or standard input (-)", &["format", "dry-run"]),
];

pub enum MusterCommand {
    Doctor(DoctorOptions),
    Status,
    NodeList {
        nodes: Option<String>,
    },
    NodeShow {
        nodes: String,
    },
    GuestList,
    Find {
        text: String,
    },
    Why {
        whom: String,
    },
    Wait {
        nodes: String,
        state: NodeState,
        timeout: Option<Duration>,
    },
    Watch,
    Reload {
        renumber: bool,
    },
    Checkpoint,
    /// The plan in another program's form.
    Hosts {
        form: Form,
        nodes: Option<String>,
    },
    /// The numbers of `Change::Out` may still be groups.
    Change(Change),
    Import {
        files: Vec<PathBuf>,
        format: Option<Format>,
    },
}

pub struct MusterOptions {
    pub command: MusterCommand,
    pub socket: PathBuf,
    pub json: bool,
    pub yes: bool,
    pub dry_run: bool,
    /// What nodes' names begin with in this command line, where that is not usual.
    pub prefix: Option<String>,
}

fn flags() -> getopts::Options {
    let mut flags = getopts::Options::new();
    flags
        .optflag("", "json", "print JSON: an object; an array for lists; a line each for watch")
        .optflag("y", "yes", "do not ask before a change")
        .optflag("n", "dry-run", "show what would change, without changing it")
        .optopt("", "socket", &format!("the daemon's control socket ({SOCKET})"), "PATH")
        .optmulti("", "mac", "node set: all MACs of the node (may be repeated); node replace: the new machine's", "MAC")
        .optmulti("", "add", "node set: add this MAC (may be repeated)", "MAC")
        .optmulti("", "remove", "node set: remove this MAC (may be repeated)", "MAC")
        .optflag("", "reserve", "node set: do not assign this number automatically")
        .optflag("", "free", "node set: undo --reserve")
        .optopt("", "guest", "node replace: this guest is the new machine", "ID")
        .optopt("", "state", "wait: for this state (up, booting, stuck, failed, down, reserved, vacant)", "STATE")
        .optopt("", "timeout", "wait: no longer than this, as in 90s, 10m or 1h", "TIME")
        .optflag("", "renumber", "reload: even if nodes with leases get other addresses")
        .optflag("", "passive", "doctor: send nothing into the boot networks")
        .optopt("", "form", "hosts: hosts (default), genders, clustershell, slurm or ansible", "FORM")
        .optopt("", "format", "import: ethers, dnsmasq, isc, kea, beowulf, csv, leases, arp, json or yaml (default: detected)", "FORMAT")
        .optflag("h", "help", "print this")
        .optflag("V", "version", "print version and commit");
    flags
}

fn usage(what: impl Into<String>) -> Failure {
    Failure::Usage(what.into())
}

/// None: everything was said already (help, version).
pub fn options() -> Result<Option<MusterOptions>, Failure> {
    let flags = flags();
    let matches = flags.parse(std::env::args_os().skip(1)).map_err(|error| usage(format!("{error}; muster --help lists the flags")))?;
    if matches.opt_present("h") {
        return help(&flags).map(|()| None);
    }
    if matches.opt_present("V") {
        return print(&[format!("muster {} ({})", env!("CARGO_PKG_VERSION"), env!("MUSTER_COMMIT"))]).map(|()| None);
    }
    read(&matches).map(Some)
}

fn help(flags: &getopts::Options) -> Result<(), Failure> {
    let mut brief = String::from("muster: shows and controls a cluster that musterd boots\nUsage: muster COMMAND [FLAGS]\n\nCommands:");
    for (words, rest, what, _) in COMMANDS {
        let command = format!("{} {rest}", words.join(" "));
        brief.push_str(&format!("\n    {command:<26}{what}"));
    }
    brief.push_str("\n\nRANGE: n[0-31,40], 0-31,40, n5, 0-10/2, @all, @up, @booting, @stuck, @failed, @down, @reserved, @never");
    let usage = flags.usage(&brief);
    print(&[format!(
        "{usage}\nExit status: 0 done, 1 refused or failed, 2 wrong usage, 3 no daemon, 4 not confirmed; doctor: 1 broken, 5 look. See muster(1)."
    )])
}

fn read(matches: &getopts::Matches) -> Result<MusterOptions, Failure> {
    let words: Vec<&str> = matches.free.iter().map(String::as_str).collect();
    let (words, rest, allowed) = find(&words)?;
    let specific =
        ["mac", "add", "remove", "reserve", "free", "guest", "format", "form", "state", "timeout", "renumber", "dry-run", "passive"];
    if let Some(stray) = specific.iter().find(|flag| matches.opt_present(flag) && !allowed.contains(*flag)) {
        return Err(usage(format!("--{stray} is not an option of muster {}: see muster --help", words.join(" "))));
    }
    let command = command(matches, words, &rest)?;
    let files = matches!(command, MusterCommand::Import { .. } | MusterCommand::Doctor(_));
    let prefix = rest.iter().filter(|_| !files).find_map(|word| ranges::parse(word).ok()?.prefix);
    Ok(MusterOptions {
        command,
        socket: matches.opt_str("socket").map_or_else(|| SOCKET.into(), PathBuf::from),
        json: matches.opt_present("json"),
        yes: matches.opt_present("yes"),
        dry_run: matches.opt_present("dry-run"),
        prefix,
    })
}

/// The command that the words begin with, what follows, and the flags it takes.
#[allow(clippy::type_complexity)]
fn find<'a>(given: &[&'a str]) -> Result<(&'static [&'static str], Vec<&'a str>, &'static [&'static str]), Failure> {
    for (words, _, _, flags) in COMMANDS {
        if given.starts_with(words) {
            return Ok((words, given.iter().skip(words.len()).copied().collect(), flags));
        }
    }
    let first: Vec<&str> = COMMANDS.iter().filter_map(|(words, ..)| words.first().copied()).collect();
    let Some(word) = given.first() else {
        return Err(usage("a command is missing: muster status, for example; muster --help lists all"));
    };
    let second: Vec<&str> =
        COMMANDS.iter().filter(|(words, ..)| words.first() == Some(word)).filter_map(|(words, ..)| words.get(1).copied()).collect();
    if second.is_empty() {
        return Err(usage(match nearest(word, &first) {
            Some(near) => format!("{word:?} is not a command: did you mean muster {near}?"),
            None => format!("{word:?} is not a command: muster --help lists them"),
        }));
    }
    let Some(next) = given.get(1) else {
        return Err(usage(format!("muster {word} is incomplete: use muster {word} {}", second.join(&format!(", muster {word} ")))));
    };
    Err(usage(match nearest(next, &second) {
        Some(near) => format!("muster {word} {next} is not a command: did you mean muster {word} {near}?"),
        None => format!("muster {word} {next} is not a command: muster {word} takes {}", second.join(", ")),
    }))
}

fn command(matches: &getopts::Matches, words: &[&str], rest: &[&str]) -> Result<MusterCommand, Failure> {
    let name = words.join(" ");
    let (_, takes, ..) = COMMANDS.iter().find(|(known, ..)| *known == words).copied().unwrap_or(COMMANDS[0]);
    let most = match takes {
        "" => 0,
        "ID [NUMBER]" => 2,
        _ if takes.ends_with("...") || takes.ends_with("...]") => usize::MAX,
        _ => 1,
    };
    if let Some(stray) = rest.get(most) {
        return Err(usage(format!("{stray:?} is one argument too many: use muster {name} {takes}")));
    }
    if rest.is_empty() && !(takes.is_empty() || takes.starts_with('[')) {
        return Err(usage(format!("muster {name} needs an argument: use muster {name} {takes}")));
    }
    let first = rest.first().copied().unwrap_or_default();
    Ok(match name.as_str() {
        "doctor" => MusterCommand::Doctor(DoctorOptions {
            flags: rest.iter().map(ToString::to_string).collect(),
            socket: matches.opt_str("socket").map(PathBuf::from),
            passive: matches.opt_present("passive"),
            json: matches.opt_present("json"),
        }),
        "status" => MusterCommand::Status,
        "node list" => MusterCommand::NodeList { nodes: Some(rest.join(",")).filter(|nodes| !nodes.is_empty()).map(checked).transpose()? },
        "node show" => MusterCommand::NodeShow { nodes: checked(first.into())? },
        "node set" => MusterCommand::Change(set(matches, number(first)?)?),
        "node replace" => MusterCommand::Change(Change::Replace { number: number(first)?, by: by(matches)? }),
        "node out" => MusterCommand::Change(Change::Out { nodes: checked(rest.join(","))? }),
        "guest list" => MusterCommand::GuestList,
        "guest enlist" => {
            let number = rest.get(1).map(|text| number(text)).transpose()?;
            MusterCommand::Change(Change::Enlist { guest: first.into(), number })
        }
        "find" => MusterCommand::Find { text: first.into() },
        "why" => MusterCommand::Why { whom: first.into() },
        "wait" => MusterCommand::Wait {
            nodes: checked(first.into())?,
            state: matches.opt_str("state").map_or(Ok(NodeState::Up), |name| state(&name))?,
            timeout: matches.opt_str("timeout").map(|text| duration(&text)).transpose()?,
        },
        "watch" => MusterCommand::Watch,
        "reload" => MusterCommand::Reload { renumber: matches.opt_present("renumber") },
        "checkpoint" => MusterCommand::Checkpoint,
        "hosts" => MusterCommand::Hosts {
            form: matches.opt_str("form").map_or(Ok(Form::Hosts), |name| form(&name))?,
            nodes: Some(rest.join(",")).filter(|nodes| !nodes.is_empty()).map(checked).transpose()?,
        },
        "undo" => MusterCommand::Change(Change::Undo),
        _ => MusterCommand::Import {
            files: rest.iter().map(PathBuf::from).collect(),
            format: matches.opt_str("format").map(|name| format(&name)).transpose()?,
        },
    })
}

/// A range that can be read: the daemon need not be asked to hear that it cannot.
fn checked(nodes: String) -> Result<String, Failure> {
    ranges::parse(&nodes).map(|_| nodes).map_err(|wrong| usage(wrong.to_string()))
}

/// A state of nodes, by its name.
fn state(name: &str) -> Result<NodeState, Failure> {
    let found = NodeState::ALL.into_iter().find(|state| state.name() == name);
    let names: Vec<&str> = NodeState::ALL.iter().map(|state| state.name()).collect();
    found.ok_or_else(|| usage(format!("--state: {name:?} is unknown: choose one of {}", names.join(", "))))
}

/// A time: `90s`, `10m`, `1h`, or plain seconds.
fn duration(text: &str) -> Result<Duration, Failure> {
    let wrong = || usage(format!("--timeout: {text:?} is no time: write it as in 90s, 10m or 1h"));
    let units = [('s', 1), ('m', 60), ('h', 3600)];
    let unit = units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(*unit)?, *seconds)));
    let (count, seconds) = unit.unwrap_or((text, 1));
    let count: u64 = count.parse().map_err(|_| wrong())?;
    Ok(Duration::from_secs(count.saturating_mul(seconds)))
}

/// A single node: `17` or `n17`.
fn number(text: &str) -> Result<u32, Failure> {
    let selection = ranges::parse(text).map_err(|wrong| usage(wrong.to_string()))?;
    match (selection.groups.as_slice(), selection.numbers.runs()) {
        ([], [(first, last)]) if first == last => Ok(*first),
        _ => Err(usage(format!("{text:?} is not one node: write its number, as in 17 or n17"))),
    }
}

fn mac(text: &str) -> Result<Mac, Failure> {
    text.parse().map_err(|wrong| usage(format!("{text:?} is {wrong}")))
}

fn macs(matches: &getopts::Matches, flag: &str) -> Result<Vec<Mac>, Failure> {
    matches.opt_strs(flag).iter().flat_map(|list| list.split(',')).map(mac).collect()
}

fn set(matches: &getopts::Matches, number: u32) -> Result<Change, Failure> {
    let all = macs(matches, "mac")?;
    let reserve = match (matches.opt_present("reserve"), matches.opt_present("free")) {
        (true, true) => return Err(usage("--reserve and --free contradict each other: choose one")),
        (false, false) => None,
        (reserve, _) => Some(reserve),
    };
    let (add, remove) = (macs(matches, "add")?, macs(matches, "remove")?);
    if all.is_empty() && add.is_empty() && remove.is_empty() && reserve.is_none() {
        return Err(usage(format!(
            "no change is given: use muster node set {number} with --add MAC, --remove MAC, --mac MAC, --reserve or --free"
        )));
    }
    Ok(Change::Set { number, macs: Some(all).filter(|all| !all.is_empty()), add, remove, reserve })
}

fn by(matches: &getopts::Matches) -> Result<Option<Replacement>, Failure> {
    match (macs(matches, "mac")?.as_slice(), matches.opt_str("guest")) {
        ([], None) => Ok(None),
        ([mac], None) => Ok(Some(Replacement::Mac(*mac))),
        ([], Some(guest)) => Ok(Some(Replacement::Guest(guest))),
        _ => Err(usage("one machine replaces a node: use --mac once, or --guest")),
    }
}

fn format(name: &str) -> Result<Format, Failure> {
    let names: Vec<&str> = Format::ALL.iter().map(|(_, name)| *name).collect();
    let found = Format::ALL.iter().find(|(_, known)| *known == name).map(|(format, _)| *format);
    found.ok_or_else(|| match nearest(name, &names) {
        Some(near) => usage(format!("--format: {name:?} is unknown: did you mean {near}?")),
        None => usage(format!("--format: {name:?} is unknown: choose one of {}", names.join(", "))),
    })
}

fn form(name: &str) -> Result<Form, Failure> {
    let names: Vec<&str> = Form::ALL.iter().map(|(_, name)| *name).collect();
    let found = Form::ALL.iter().find(|(_, known)| *known == name).map(|(form, _)| *form);
    found.ok_or_else(|| match nearest(name, &names) {
        Some(near) => usage(format!("--form: {name:?} is unknown: did you mean {near}?")),
        None => usage(format!("--form: {name:?} is unknown: choose one of {}", names.join(", "))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(line: &str) -> Result<MusterOptions, String> {
        let matches = flags().parse(line.split_whitespace()).map_err(|error| error.to_string())?;
        read(&matches).map_err(|failure| if let Failure::Usage(why) = failure { why } else { panic!("{failure:?}") })
    }

    #[test]
    fn flags_stand_anywhere() {
        let options = told("node --json list 0-3 @up --socket /s").unwrap();
        assert!(matches!(options.command, MusterCommand::NodeList { nodes: Some(nodes) } if nodes == "0-3,@up"));
        assert!(options.json && !options.yes && options.socket == *"/s");
        let options = told("-y node set n23 --add 02:00:00:00:00:01,02:00:00:00:00:02").unwrap();
        assert!(
            matches!(options.command, MusterCommand::Change(Change::Set { number: 23, macs: None, add, .. }) if add.len() == 2)
                && options.yes
        );
        assert!(matches!(
            told("node replace 5 --guest x").unwrap().command,
            MusterCommand::Change(Change::Replace { number: 5, by: Some(Replacement::Guest(_)) })
        ));
        assert!(matches!(told("guest enlist x 7").unwrap().command, MusterCommand::Change(Change::Enlist { number: Some(7), .. })));
        assert!(matches!(
            told("import - --format kea -n").unwrap(),
            MusterOptions { command: MusterCommand::Import { format: Some(Format::Kea), .. }, dry_run: true, .. }
        ));
    }

    #[test]
    fn manual_and_completions_know_every_command_and_flag() {
        let manual = include_str!("../../../man/muster.1");
        let bash = include_str!("../../../packaging/completion/muster.bash");
        let zsh = include_str!("../../../packaging/completion/_muster");
        for (words, _, _, specific) in COMMANDS {
            let command = words.join(" ");
            assert!(manual.contains(&format!(".It Cm {command}")), "{command}");
            for word in words {
                assert!([bash, zsh].iter().all(|text| text.contains(word)), "{word}");
            }
            for flag in specific.iter().chain(&["json", "yes", "socket", "help", "version"]) {
                assert!(manual.contains(&format!(" -{flag}")), "{flag}");
                assert!([bash, zsh].iter().all(|text| text.contains(&format!("--{flag}"))), "{flag}");
            }
        }
        assert!(Format::ALL.iter().all(|(_, name)| [manual, bash, zsh].iter().all(|text| text.contains(name))));
    }

    #[test]
    fn mistakes_are_told_with_what_to_type() {
        for (line, words) in [
            ("", "muster status"),
            ("statsu", "muster status?"),
            ("frobnicate", "--help lists them"),
            ("node", "muster node list, muster node show"),
            ("node lits", "muster node list?"),
            ("node frobnicate", "takes list, show, set, replace, out"),
            ("node show", "muster node show RANGE"),
            ("node show 1 2", "\"2\" is one argument too many"),
            ("node set 1", "--add MAC"),
            ("node set 1-2 --reserve", "not one node"),
            ("node set 1 --reserve --free", "contradict"),
            ("node set 1 --add 12", "not a MAC address"),
            ("status now", "one argument too many"),
            ("status --guest x", "--guest is not an option of muster status"),
            ("import x --format keaa", "did you mean kea?"),
            ("node replace 1 --mac 02:00:00:00:00:01 --guest x", "one machine"),
        ] {
            let why = told(line).err().unwrap_or_else(|| panic!("{line} was taken"));
            assert!(why.contains(words), "{line}: {why}");
        }
    }
}
