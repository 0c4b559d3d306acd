//! `muster import`: known machines from other programs' files, numbered, shown, and taken over.
//!
//! Files and folders become texts ([`source`]); each is read by its format ([`formats`], guessed from what is in it, or named) into entries with the
//! lines they stand on ([`record`]); what is no node goes, and entries of one machine become one ([`screen`]); each machine gets a number
//! ([`number`]). The daemon is asked what that would change; all of it is shown ([`show`]): every entry is either in the table or
//! below it with a reason. Then the daemon does it: one change, in as many requests as it takes.

mod formats;
mod names;
mod number;
mod record;
mod screen;
mod show;
mod source;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use muster::roll::ranges::{self, Ranges};
use muster::wire::control::{Change, Changed, IMPORT_MAX, ImportEntry, LINE_MAX, LotKind, Reply, Request, Status};

use super::Failure;
use super::change;
use super::client::ControlClient;
use super::options::MusterOptions;
use super::table::{counted, plain};

pub use formats::Format;
use number::{ImportPlan, Placed};
use record::{ImportedFile, Place};
use screen::ClusterPlan;
use show::{Effect, ImportReport};
use source::Source;

/// Names are for the record; longer ones are cut.
const NAME_MAX: usize = 64;
/// Entries of a request that is only asked for what it would do: each of them is answered.
const ASKED: usize = 32;

pub fn import(client: &mut ControlClient, options: &MusterOptions, files: &[PathBuf], format: Option<Format>) -> Result<(), Failure> {
    let (sources, passed_over) = source::load(files)?;
    let (mut read, formats) = read(&sources, format);
    if let ([one], true) = (sources.as_slice(), read.is_empty()) {
        return Err(Failure::Failed(nothing(one, formats.first().copied().flatten())));
    }
    read.notes.extend(passed_over.into_iter().map(|what| (show::WHOLE, what)));
    let reply = client.ask(&Request::Status)?;
    let Reply::Status(status) = reply else { return ControlClient::unexpected(&reply) };
    let [.., vacant] = client.states()?;
    let (mut plan, remarks) = work_out(&sources, read, &cluster(&status), &vacant);
    let effects = effects(client, &mut plan)?;
    plan.left_out.sort();
    let report = ImportReport { sources: &sources, formats: &formats, plan: &plan, effects: &effects, remarks: &remarks };
    carry_out(client, options, &report)
}

/// What is to become of all that was read, as far as the daemon need not be asked; and what there is to say about the whole.
fn work_out(sources: &[Source], read: ImportedFile, cluster: &ClusterPlan, vacant: &Ranges) -> (ImportPlan, Vec<String>) {
    let ImportedFile { found, faults, no_nodes, notes, includes } = read;
    let screened = screen::screen(found, cluster);
    let (machines, family) = (screened.machines.clone(), screened.family.clone());
    let mut plan = number::assign(screened, cluster, vacant);
    plan.left_out.extend(faults);
    plan.no_nodes.extend(no_nodes);
    plan.notes.extend(notes);
    plan.notes.extend(unread(sources, includes));
    [&mut plan.left_out, &mut plan.no_nodes, &mut plan.notes].into_iter().for_each(|remarks| remarks.sort());
    let remarks = number::remarks(&plan.placed, &machines, cluster, family.as_deref());
    (plan, remarks)
}

/// Shows what there is, asks, and does it.
fn carry_out(client: &mut ControlClient, options: &MusterOptions, report: &ImportReport<'_>) -> Result<(), Failure> {
    let ImportReport { plan, effects, .. } = report;
    if !options.json {
        show::table(report)?;
    }
    let changing = effects.iter().filter(|effect| **effect != Effect::None).count() as u32;
    let done = match plan.placed.is_empty() {
        true => Changed { dry: true, ..Changed::default() },
        false if options.dry_run || changing == 0 => Changed { dry: options.dry_run, ..Changed::default() },
        false => {
            if !options.yes {
                change::confirm(&format!("import {}?", counted(changing.into(), "machine")))?;
            }
            change::ask(client, &parts(&entries(plan), IMPORT_MAX), false)?
        }
    };
    if options.json {
        show::json(report, &done)?;
    } else {
        show::end(changing, options.dry_run, &done)?;
    }
    let names = report.sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", ");
    match plan.left_out.len() as u64 {
        0 if plan.placed.is_empty() => Err(Failure::Failed(format!("there is no node to import in {names}"))),
        0 => Ok(()),
        left => {
            let verb = if left == 1 { "was" } else { "were" };
            Err(Failure::Failed(format!("{} of {names} {verb} left out: see above", counted(left, "entry").replace("entrys", "entries"))))
        }
    }
}

/// Reads all texts; gives the format of each.
fn read(sources: &[Source], format: Option<Format>) -> (ImportedFile, Vec<Option<Format>>) {
    let mut all = ImportedFile::default();
    let mut formats = Vec::new();
    for (file, source) in sources.iter().enumerate() {
        let mut read = ImportedFile::default();
        let several = sources.len() > 1;
        let known = source.text.as_ref().ok().and_then(|text| format.or_else(|| Format::guess(text)));
        match (&source.text, known) {
            (Ok(text), Some(format)) => read = format.read(text),
            // Of a single file this is the whole answer.
            (_, _) if !several => {}
            (Ok(text), None) => read.note(0, format!("no machine is in it that muster can read (its format: {})", formats::stranger(text))),
            (Err(why), _) if why.contains("UTF-16") => read.fault(0, why.clone()),
            (Err(why), _) => read.note(0, why.clone()),
        }
        read.of_file(file);
        all.append(read);
        formats.push(known);
    }
    (all, formats)
}

/// Why a single file gives nothing.
fn nothing(source: &Source, format: Option<Format>) -> String {
    let known: Vec<&str> = Format::ALL.iter().map(|(_, name)| *name).collect();
    let name = &source.name;
    match (&source.text, format) {
        (Ok(_), Some(format)) => {
            format!("{name} has no machines (read as {}): is it another format? --format {}", format.name(), known.join("|"))
        }
        (Ok(text), None) => {
            let what = formats::stranger(text);
            format!(
                "cannot import {name}: its format is {what}; make lines of it with a MAC and a name each, or a CSV (see IMPORT in muster(1))"
            )
        }
        (Err(why), _) => format!("cannot import {name}: {why}"),
    }
}

/// Files that were included and not given: they are named, since they may be another machine's.
fn unread(sources: &[Source], includes: Vec<(Place, String)>) -> Vec<(Place, String)> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let given: Vec<PathBuf> = sources.iter().filter_map(|source| source.path.as_deref()).map(real).collect();
    let is_given = |place: &Place, path: &str| {
        let folder = sources.get(place.file).and_then(|source| source.path.as_deref()).and_then(Path::parent);
        let path = real(&folder.unwrap_or(Path::new("")).join(path));
        given.iter().any(|given| given.starts_with(&path))
    };
    let others = includes.into_iter().filter(|(place, path)| !is_given(place, path));
    others.map(|(place, path)| (place, format!("{path} is included here, and was not read: give it as another FILE"))).collect()
}

fn cluster(status: &Status) -> ClusterPlan {
    // A head without this file has no names in it.
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    ClusterPlan {
        segments: status.segments.clone(),
        nodes: status.nodes,
        prefix: status.prefix.clone(),
        ignore: status.ignore.iter().filter_map(|pattern| pattern.parse().ok()).collect(),
        hosts: host_names(&hosts),
    }
}

/// hosts(5): an address and its names. The first line of a name counts.
fn host_names(text: &str) -> BTreeMap<String, Ipv4Addr> {
    let mut names = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<Ipv4Addr>().ok()) else { continue };
        for name in words {
            names.entry(names::short(name)).or_insert(address);
        }
    }
    names
}

/// What would become of each machine that has a number. Those that the daemon would not take are moved to what is left out.
fn effects(client: &mut ControlClient, plan: &mut ImportPlan) -> Result<Vec<Effect>, Failure> {
    let (mut effects, mut refused) = (BTreeMap::new(), BTreeMap::new());
    for part in parts(&entries(plan), ASKED) {
        // Each part alone: what two of them could want both was found here already.
        let Change::Import { entries, .. } = part else { continue };
        let shown = change::ask(client, &[Change::Import { entries, more: false }], true)?;
        let changed = ranges::parse(&shown.nodes).map(|selection| selection.numbers).unwrap_or_default();
        for number in changed.iter() {
            let before = shown.lots.iter().find(|lot| lot.number == number).map(|lot| lot.before.kind);
            effects.insert(number, if before == Some(LotKind::Occupied) { Effect::Cards } else { Effect::New });
        }
        for note in shown.notes {
            let number = note.split_once(" skipped: ").and_then(|(name, why)| Some((names::trailing(name)?, why.to_string())));
            match number {
                Some((number, why)) => drop(refused.insert(number, why)),
                None => plan.left_out.push((show::WHOLE, note)),
            }
        }
    }
    let mut taken = Vec::new();
    for placed in std::mem::take(&mut plan.placed) {
        match refused.get(&placed.number) {
            Some(why) => {
                let Placed { number, name, macs, .. } = &placed;
                let title = if name.is_empty() { macs.first().map(ToString::to_string).unwrap_or_default() } else { name.clone() };
                plan.left_out.push((placed.places.first().copied().unwrap_or_default(), format!("{title} would be n{number}: {why}")));
            }
            None => taken.push(placed),
        }
    }
    plan.placed = taken;
    Ok(plan.placed.iter().map(|placed| effects.get(&placed.number).copied().unwrap_or(Effect::None)).collect())
}

fn entries(plan: &ImportPlan) -> Vec<ImportEntry> {
    let name = |name: &str| plain(name).chars().take(NAME_MAX).collect();
    plan.placed.iter().map(|placed| ImportEntry { number: placed.number, macs: placed.macs.clone(), name: name(&placed.name) }).collect()
}

/// One import in as many requests as it takes, of so many entries at most.
fn parts(entries: &[ImportEntry], most: usize) -> Vec<Change> {
    // What a request needs around its entries.
    const FRAME: usize = 200;
    let mut parts: Vec<Vec<ImportEntry>> = Vec::new();
    let mut bytes = 0;
    for entry in entries {
        let len = serde_json::to_string(entry).map_or(0, |text| text.len() + 1);
        match parts.last_mut().filter(|part| part.len() < most && bytes + len + FRAME < LINE_MAX) {
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

#[cfg(test)]
mod tests;
