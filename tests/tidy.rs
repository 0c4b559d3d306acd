//! Style as a test: the rooms import downward only, machines know no ambient world, `unsafe` lives in one module, files and functions
//! stay short (see `src/lib.rs`).

use std::fs;
use std::path::{Path, PathBuf};

#[path = "tidy/names.rs"]
mod names;

/// Each room and what it may import.
const ROOMS: [(&str, &[&str]); 10] = [
    ("base", &["base"]),
    ("nss", &[]),
    ("wire", &["wire", "base"]),
    ("roll", &["roll", "base"]),
    ("config", &["config", "roll", "base"]),
    ("engine", &["engine", "config", "roll", "wire", "base"]),
    ("fleet", &["fleet", "config", "roll", "wire", "base"]),
    ("sim", &["sim", "engine", "fleet", "config", "roll", "wire", "base"]),
    ("shell", &["shell", "config", "roll", "wire", "base"]),
    ("bin", &["bin", "shell", "sim", "engine", "fleet", "config", "roll", "wire", "base"]),
];

/// What no machine may touch: law 10.
const AMBIENT: [&str; 10] = [
    "Instant::now",
    "SystemTime",
    "std::fs",
    "UdpSocket",
    "TcpStream",
    "std::thread",
    "HashMap",
    "std::env::",
    // Its algorithm may change with the compiler, and its keys with the run.
    "DefaultHasher",
    "RandomState",
];

const FILE_LINES: usize = 700;
const FUNCTION_LINES: usize = 70;

struct Source {
    path: PathBuf,
    room: String,
    /// The file up to its tests.
    code: String,
    lines: usize,
}

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder of sources").flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    walk(&home.join("src"), &mut paths);
    walk(&home.join("nss/src"), &mut paths);
    let source = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source");
        let inside = path.strip_prefix(home).expect("a path of ours");
        let inside = inside.strip_prefix("src").unwrap_or(inside);
        let room = inside.components().next().map(|first| first.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
        let tests = inside.iter().any(|part| part == "tests" || part == "tests.rs" || part == "testing.rs");
        let code = if tests { "" } else { text.split("#[cfg(test)]\nmod ").next().unwrap_or("") };
        Source { room, code: code.to_string(), lines: text.lines().count(), path }
    };
    paths.into_iter().map(source).collect()
}

fn complain(title: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{title}:\n{}", faults.join("\n"));
}

/// Lines of code, without comments.
fn code_lines(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    without_comments(&source.code)
}

fn without_comments(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let code = |line: &'_ str| !line.trim_start().starts_with("//");
    text.lines().enumerate().map(|(n, line)| (n + 1, line)).filter(move |(_, line)| code(line))
}

#[test]
fn rooms_import_downward_only() {
    let mut faults = Vec::new();
    for source in sources() {
        let Some((_, allowed)) = ROOMS.iter().find(|(room, _)| *room == source.room) else {
            assert!(source.room == "lib.rs", "{} is in no room: name the room in this test", source.path.display());
            continue;
        };
        for (n, line) in code_lines(&source) {
            for word in line.split("crate::").skip(1).chain(line.split("muster::").skip(1)) {
                let room = word.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
                if ROOMS.iter().any(|(name, _)| *name == room) && !allowed.contains(&room) {
                    faults.push(format!("{}:{n}: {} may not import {room}", source.path.display(), source.room));
                }
            }
        }
    }
    complain("imports go downward only", &faults);
}

/// The services of the Server: each folder of the engine that is a service, found by looking.
fn services(sources: &[Source]) -> Vec<String> {
    /// What all services use, and what shows all of them.
    const SHARED: [&str; 3] = ["boot", "pace", "view"];
    let folder = |source: &Source| {
        let path = source.path.to_string_lossy().into_owned();
        let (_, inside) = path.split_once("/src/engine/")?;
        inside.split_once('/').map(|(folder, _)| folder.to_string())
    };
    let mut all: Vec<String> = sources.iter().filter_map(folder).filter(|name| !SHARED.contains(&name.as_str())).collect();
    all.sort();
    all.dedup();
    // A folder with tests alone is a part of a file beside it.
    all.retain(|name| sources.iter().any(|source| source.path.ends_with(format!("engine/{name}/mod.rs"))));
    all
}

/// The ground floor knows transports, and no protocol.
#[test]
fn base_names_no_protocol() {
    const PROTOCOLS: [&str; 7] = ["dhcp", "tftp", "dns", "http", "pxe", "bootp", "ipxe"];
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| source.room == "base") {
        let text = fs::read_to_string(&source.path).expect("a source").to_lowercase();
        for (n, line) in text.lines().enumerate().filter(|(_, line)| PROTOCOLS.iter().any(|word| line.contains(word))) {
            faults.push(format!("{}:{}: {}", source.path.display(), n + 1, line.trim()));
        }
    }
    complain("a protocol's limits, ports and counters live with it", &faults);
}

#[test]
fn engines_do_not_import_each_other() {
    let sources = sources();
    let services = services(&sources);
    assert!(services.len() >= 4, "DHCP, TFTP, DNS and the control socket: {services:?}");
    let mut faults = Vec::new();
    for source in sources.iter().filter(|source| source.room == "engine") {
        let path = source.path.display().to_string();
        let Some(own) = services.iter().find(|name| path.contains(&format!("/engine/{name}/"))) else { continue };
        for other in services.iter().filter(|other| *other != own) {
            for (n, line) in code_lines(source) {
                let ways = ["engine::", "super::", "super::super::"].map(|way| format!("{way}{other}::"));
                let listed = line.trim_start().starts_with("use ") && line.contains("engine::{") && line.contains(&format!("{other}::"));
                if ways.iter().any(|way| line.contains(way)) || listed {
                    faults.push(format!("{path}:{n}: {own} imports {other}"));
                }
            }
        }
    }
    complain("engines meet in the client's record and in Ctx", &faults);
}

/// Nor do their unit tests, which would then depend on the machine that they run on.
#[test]
fn machines_know_no_ambient_world() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| source.room != "shell" && source.room != "bin") {
        let text = fs::read_to_string(&source.path).expect("a source");
        for (n, line) in without_comments(&text) {
            for word in AMBIENT.iter().filter(|word| line.contains(**word)) {
                faults.push(format!("{}:{n}: {word}", source.path.display()));
            }
        }
    }
    complain("time, chance, files and sockets belong to shell and bin (law 10)", &faults);
}

#[test]
fn nothing_panics_when_its_reader_has_gone() {
    let mut faults = Vec::new();
    for source in sources() {
        for (n, line) in code_lines(&source).filter(|(_, line)| line.contains("print!(") || line.contains("println!(")) {
            faults.push(format!("{}:{n}: {}", source.path.display(), line.trim()));
        }
    }
    complain("print and eprint panic on a closed pipe: use shell::stdio", &faults);
}

#[test]
fn unsafe_lives_in_one_module() {
    let sys = |source: &Source| source.path.ends_with("shell/sys.rs") || source.path.parent().is_some_and(|it| it.ends_with("shell/sys"));
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| !sys(source) && source.room != "nss") {
        for (n, line) in code_lines(source) {
            if line.contains("unsafe ") && !line.contains('"') {
                faults.push(format!("{}:{n}", source.path.display()));
            }
        }
    }
    complain("unsafe outside src/shell/sys", &faults);
    let sources: Vec<Source> = sources().into_iter().filter(|source| sys(source) || source.room == "nss").collect();
    assert!(sources.iter().filter(|source| sys(source)).count() >= 2, "shell/sys.rs and its parts");
    for sys in sources {
        let blocks = sys.code.lines().filter(|line| line.contains("unsafe {")).count();
        let reasons = sys.code.lines().filter(|line| line.contains("// SAFETY:")).count();
        assert!(reasons >= blocks, "{}: {blocks} unsafe blocks, {reasons} reasons", sys.path.display());
    }
}

/// Where a program may still panic: a contradiction in itself, never what came from outside. The simulator stops at a contradiction by design.
const CONTRADICTIONS: [(&str, &str); 17] = [
    ("config/value.rs", "the key has a default, and the section is filled"),
    ("sim/hostile.rs", "a sound assault"),
    ("sim/hostile.rs", "a sound plan"),
    ("sim/swarm.rs", "a sound plan"),
    ("sim/journal.rs", "a compaction has begun"),
    ("sim/journal.rs", "there is a new file"),
    ("sim/cable.rs", "there is room for a message"),
    ("sim/cable.rs", "there is room for a frame"),
    ("sim/changes.rs", "there is a place for an operator"),
    ("sim/years.rs", "there is a place for an operator"),
    ("sim/conns.rs", "an endpoint of the table"),
    ("sim/world/kernel.rs", "an endpoint of the table"),
    ("sim/world/kernel.rs", "there is room for a frame"),
    ("sim/world/kernel.rs", "a DATA packet's header"),
    ("sim/world.rs", "a config has a link"),
    ("sim/world.rs", "the machine keeps to the connections that there are"),
    ("sim/world.rs", "the machine reads files that it has open"),
];

#[test]
fn outside_data_meets_no_unwrap() {
    let mut faults = Vec::new();
    for source in sources() {
        let known = |line: &str| CONTRADICTIONS.iter().any(|(file, words)| source.path.ends_with(file) && line.contains(words));
        for (n, line) in code_lines(&source).filter(|(_, line)| line.contains(".unwrap()") || line.contains(".expect(")) {
            if !known(line) {
                faults.push(format!("{}:{n}: {}", source.path.display(), line.trim()));
            }
        }
    }
    complain("no unwrap on what came from outside", &faults);
}

/// What is loaded into every process: nothing that panics, allocates, prints or takes a thread; the plan is built into it.
#[test]
fn the_name_service_module_is_modest() {
    const BANNED: [&str; 13] =
        ["panic!", "assert", "unreachable!", "todo!", "Vec", "String", "Box", "format!", "print", "std::", "static ", "thread", "getenv"];
    let mut faults = Vec::new();
    let plan = |source: &&Source| source.path.parent().is_some_and(|folder| folder.ends_with("roll/plan"));
    let sources = sources();
    let sources: Vec<&Source> = sources.iter().filter(|source| source.room == "nss" || plan(source)).collect();
    assert!(sources.len() >= 7, "the module and the plan");
    for source in sources {
        // The one panic is the compiler's: of a constant.
        let constant = |line: &str| line.contains("_ => panic!(\"these are names\")");
        for (n, line) in code_lines(source).filter(|(_, line)| !constant(line)) {
            for word in BANNED.iter().filter(|word| line.contains(**word)) {
                faults.push(format!("{}:{n}: {word}", source.path.display()));
            }
            if source.path.ends_with("plan/file.rs") && line.contains("crate::") {
                faults.push(format!("{}:{n}: imports from the crate", source.path.display()));
            }
        }
    }
    complain("the name-service module and its plan are for every process", &faults);
}

/// A line without what may stand before `fn`.
fn function(line: &str) -> &str {
    let mut rest = line.trim_start();
    loop {
        let before = rest;
        for word in ["pub ", "pub(super) ", "pub(crate) ", "const ", "unsafe ", "async ", "extern \"C\" "] {
            rest = rest.strip_prefix(word).unwrap_or(rest);
        }
        if let Some((_, after)) = rest.strip_prefix("pub(in ").and_then(|rest| rest.split_once(") ")) {
            rest = after;
        }
        if rest == before {
            return rest;
        }
    }
}

#[test]
fn files_and_functions_stay_short() {
    assert_eq!(function("    pub(crate) unsafe fn read_run("), "fn read_run(");
    assert_eq!(function("pub unsafe extern \"C\" fn _nss_muster("), "fn _nss_muster(");
    assert_eq!(function("    pub(in crate::roll) const fn new() {"), "fn new() {");
    let mut faults = Vec::new();
    for source in sources() {
        if source.lines > FILE_LINES {
            faults.push(format!("{}: {} lines", source.path.display(), source.lines));
        }
        let mut begun: Option<(usize, usize, String)> = None;
        for (n, line) in source.code.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let opens = function(line);
            if opens.starts_with("fn ") && (line.ends_with('{') || line.ends_with('(')) {
                begun = Some((n, indent, opens.to_string()));
            }
            if let Some((start, at, name)) = begun.clone() {
                if indent == at && line.trim_end() == format!("{}}}", " ".repeat(at)) {
                    if n - start > FUNCTION_LINES {
                        faults.push(format!("{}:{}: {} lines: {name}", source.path.display(), start + 1, n - start));
                    }
                    begun = None;
                }
            }
        }
    }
    complain("too long to read at once", &faults);
}
