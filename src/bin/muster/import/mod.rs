//! `muster import`: known machines from other programs' files, numbered, shown, and taken over.
//!
//! A file is read by its format (guessed from what is in it, or named) into machines with the lines they stand on; each gets a number by
//! [`number`]; the daemon is asked what that would change, and then to do it: one change, in as many requests as it takes. What cannot be taken
//! over is reported with its line and skipped.

mod beowulf;
mod dnsmasq;
mod ethers;
mod isc;
mod kea;
mod number;

use std::io::Read as _;
use std::net::Ipv4Addr;
use std::path::Path;

use muster::base::addr::Mac;
use muster::wire::control::{Change, IMPORT_MAX, ImportEntry, LINE_MAX, NodeState, Reply, Request};

use super::Failure;
use super::change;
use super::client::ControlClient;
use super::look::print;
use super::options::MusterOptions;
use super::table::{TextTable, counted, plain};

/// The largest file that is read, in bytes.
const FILE_MAX: u64 = 64 << 20;
/// Names are for the record; longer ones are cut.
const NAME_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Ethers,
    Dnsmasq,
    Isc,
    Kea,
    Beowulf,
}

impl Format {
    pub const ALL: [(Format, &'static str); 5] = [
        (Format::Ethers, "ethers"),
        (Format::Dnsmasq, "dnsmasq"),
        (Format::Isc, "isc"),
        (Format::Kea, "kea"),
        (Format::Beowulf, "beowulf"),
    ];

    fn name(self) -> &'static str {
        Format::ALL.iter().find(|(format, _)| *format == self).map_or("", |(_, name)| *name)
    }

    /// What a text most probably is.
    fn guess(text: &str) -> Format {
        let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#') && !line.starts_with("//"));
        let words = |line: &str, words: &[&str]| line.split_whitespace().take(words.len()).eq(words.iter().copied());
        if lines().next().is_some_and(|line| line.starts_with('{') || line.starts_with('[') || line.starts_with("/*")) {
            Format::Kea
        } else if lines().any(|line| line.trim_start_matches("--").starts_with("dhcp-host")) {
            Format::Dnsmasq
        } else if lines().any(|line| words(line, &["hardware", "ethernet"]) || line.contains("hardware ethernet ")) {
            Format::Isc
        } else if lines().any(|line| words(line, &["node"])) {
            Format::Beowulf
        } else if lines().all(|line| line.split(',').count() > 1) {
            Format::Dnsmasq
        } else {
            Format::Ethers
        }
    }
}

/// A machine as a file tells of it.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ImportedMachine {
    /// From 1 on.
    pub line: usize,
    pub name: String,
    pub macs: Vec<Mac>,
    pub address: Option<Ipv4Addr>,
    /// The number that the file itself gives it.
    pub index: Option<u32>,
}

/// What a file holds: machines, and lines that were meant to be some.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ImportedFile {
    pub found: Vec<ImportedMachine>,
    pub faults: Vec<(usize, String)>,
}

impl ImportedFile {
    fn fault(&mut self, line: usize, what: impl Into<String>) {
        self.faults.push((line, what.into()));
    }
}

fn read(format: Format, text: &str) -> ImportedFile {
    match format {
        Format::Ethers => ethers::read(text),
        Format::Dnsmasq => dnsmasq::read(text),
        Format::Isc => isc::read(text),
        Format::Kea => kea::read(text),
        Format::Beowulf => beowulf::read(text),
    }
}

/// A MAC as these files write them: octets of one digit or two, in either case, with `:` or `-` between.
fn mac(text: &str) -> Option<Mac> {
    let mut octets = [0; 6];
    let mut parts = text.split([':', '-']);
    for octet in &mut octets {
        let part = parts.next().filter(|part| (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        *octet = u8::from_str_radix(part, 16).ok()?;
    }
    let mac = Mac(octets);
    (parts.next().is_none() && mac.is_individual()).then_some(mac)
}

pub fn import(client: &mut ControlClient, options: &MusterOptions, file: &Path, format: Option<Format>) -> Result<(), Failure> {
    let (name, text) = load(file)?;
    let format = format.unwrap_or_else(|| Format::guess(&text));
    let ImportedFile { found, faults } = read(format, &text);
    if found.is_empty() && faults.is_empty() {
        let known: Vec<&str> = Format::ALL.iter().map(|(_, name)| *name).collect();
        let why = format!("{name} has no machines (read as {}): give its format with --format {}", format.name(), known.join("|"));
        return Err(Failure::Failed(why));
    }
    let reply = client.ask(&Request::Status)?;
    let Reply::Status(status) = reply else { return ControlClient::unexpected(&reply) };
    let [.., vacant] = client.states()?;
    let mut plan = number::assign(&found, &status.segments, status.nodes, &vacant);
    plan.left_out.extend(faults);
    plan.left_out.sort();
    if !options.json {
        show(&name, format, &plan)?;
    }
    let left = plan.left_out.len();
    if plan.placed.is_empty() {
        return Err(Failure::Failed(format!("nothing can be imported from {name}")));
    }
    change::all(client, options, &parts(&entries(&plan)))?;
    if left > 0 {
        return Err(Failure::Failed(format!("{} of {name} skipped: see above", counted(left as u64, "line"))));
    }
    Ok(())
}

fn load(file: &Path) -> Result<(String, String), Failure> {
    let stdin = file == Path::new("-");
    let name = if stdin { "standard input".to_string() } else { file.display().to_string() };
    let failed = |error: std::io::Error| Failure::Failed(format!("cannot read {name}: {error}"));
    let mut bytes = Vec::new();
    match stdin {
        true => std::io::stdin().lock().take(FILE_MAX).read_to_end(&mut bytes),
        false => std::fs::File::open(file).and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes)),
    }
    .map_err(failed)?;
    if bytes.len() as u64 == FILE_MAX {
        return Err(Failure::Failed(format!("{name} is larger than {} MiB: check that it is the right file", FILE_MAX >> 20)));
    }
    Ok((name, String::from_utf8_lossy(&bytes).into_owned()))
}

fn show(name: &str, format: Format, plan: &number::ImportPlan) -> Result<(), Failure> {
    let machines = counted(plan.placed.len() as u64, "machine");
    print(&[format!("{name}, read as {}: {machines}", format.name())])?;
    let mut table = TextTable::new(&["LINE", "NODE", "BY", "NAME", "MACS"]);
    for placed in &plan.placed {
        let macs = placed.macs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let lines = placed.lines.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        table.row(None, vec![lines, format!("n{}", placed.number), placed.rule.name().into(), placed.name.clone(), macs]);
    }
    print(&table.lines())?;
    let told: Vec<String> = plan.notes.iter().map(|(line, what)| format!("line {line}: {}", plain(what))).collect();
    print(&told)?;
    let left: Vec<String> = plan.left_out.iter().map(|(line, what)| format!("line {line}: skipped: {}", plain(what))).collect();
    print(&left)
}

fn entries(plan: &number::ImportPlan) -> Vec<ImportEntry> {
    let name = |name: &str| plain(name).chars().take(NAME_MAX).collect();
    plan.placed.iter().map(|placed| ImportEntry { number: placed.number, macs: placed.macs.clone(), name: name(&placed.name) }).collect()
}

/// One import in as many requests as it takes.
fn parts(entries: &[ImportEntry]) -> Vec<Change> {
    // What a request needs around its entries.
    const FRAME: usize = 200;
    let mut parts: Vec<Vec<ImportEntry>> = Vec::new();
    let mut bytes = 0;
    for entry in entries {
        let len = serde_json::to_string(entry).map_or(0, |text| text.len() + 1);
        match parts.last_mut().filter(|part| part.len() < IMPORT_MAX && bytes + len + FRAME < LINE_MAX) {
            Some(part) => part.push(entry.clone()),
            None => {
                parts.push(vec![entry.clone()]);
                bytes = 0;
            }
        }
        bytes += len;
    }
    let last = parts.len().saturating_sub(1);
    parts.into_iter().enumerate().map(|(at, entries)| Change::Import { entries, more: at < last }).collect()
}

/// The place of the last state in `NodeState::ALL` is the vacant one's.
const _: () = assert!(NodeState::Vacant as usize == NodeState::ALL.len() - 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_what_is_in_them() {
        for (text, format) in [
            ("# comment\n52:54:00:00:00:01 n1\n", Format::Ethers),
            ("domain=x\ndhcp-host=52:54:00:00:00:01,n1\n", Format::Dnsmasq),
            ("52:54:00:00:00:01,n1,10.0.0.1\n", Format::Dnsmasq),
            ("subnet 10.0.0.0 netmask 255.0.0.0 {}\nhost a { hardware ethernet 0:0:0:0:0:1; }\n", Format::Isc),
            ("// Kea\n{ \"Dhcp4\": {} }\n", Format::Kea),
            ("iprange 10.0.0.1 10.0.0.9\nnode 52:54:00:00:00:01\n", Format::Beowulf),
        ] {
            assert_eq!(Format::guess(text), format, "{text}");
        }
    }

    #[test]
    fn macs_as_files_write_them() {
        assert_eq!(mac("8:0:20:1:A:b"), Some(Mac([8, 0, 0x20, 1, 10, 11])));
        assert_eq!(mac("52-54-00-00-00-01"), Some(Mac([0x52, 0x54, 0, 0, 0, 1])));
        for bad in [
            "",
            "52:54:00:00:00",
            "52:54:00:00:00:01:02",
            "52:54:00:00:00:g",
            "::::::",
            "ff:ff:ff:ff:ff:ff",
            "0:0:0:0:0:0",
            "001:2:3:4:5:6",
        ] {
            assert_eq!(mac(bad), None, "{bad}");
        }
    }

    #[test]
    fn requests_stay_below_a_line() {
        let entry = |n: u32| {
            let macs = (0..20).map(|nic| Mac([2, nic, 0, 0, (n >> 8) as u8, n as u8])).collect();
            ImportEntry { number: n, macs, name: "\"".repeat(64) }
        };
        let entries: Vec<ImportEntry> = (0..1000).map(entry).collect();
        let parts = parts(&entries);
        let mut all = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            let mut line = vec![0; LINE_MAX];
            assert!(muster::wire::control::write(&mut line, &Request::Change { change: part.clone(), dry: true }).is_some());
            let Change::Import { entries, more } = part else { panic!() };
            assert!(*more == (at + 1 < parts.len()) && !entries.is_empty() && entries.len() <= IMPORT_MAX);
            all.extend(entries.clone());
        }
        assert!(parts.len() > 4 && all == entries);
    }

    #[test]
    fn no_text_panics() {
        let pieces = [
            "host",
            "{",
            "}",
            ";",
            "\"",
            "dhcp-host=",
            ",",
            "node",
            "52:54:00:00:00:01",
            "10.0.0.1",
            "/*",
            "#",
            "\n",
            "\\",
            "[",
            ":",
            "ä",
            "99999999999",
        ];
        let mut state = 1u64;
        for _ in 0..3000 {
            let mut text = String::new();
            for _ in 0..12 {
                state = muster::base::rng::mix(state);
                text.push_str(pieces[state as usize % pieces.len()]);
                text.push_str(if state & 1 << 40 == 0 { " " } else { "" });
            }
            Format::guess(&text);
            Format::ALL.iter().for_each(|(format, _)| drop(read(*format, &text)));
        }
    }
}
