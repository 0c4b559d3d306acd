//! What an import would do, for people and for programs.

use serde::Serialize;

use muster::wire::control::Changed;

use super::super::Failure;
use super::super::look::{print, print_json};
use super::super::table::{TextTable, counted, plain};
use super::formats::Format;
use super::number::{ImportPlan, Placed};
use super::record::{Place, Remark};
use super::source::Source;

/// The place of what is said of all files together.
pub const WHOLE: Place = Place { file: usize::MAX, line: 0 };

/// What becomes of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// It gets a machine.
    New,
    /// Its machine gets more cards.
    Cards,
    /// All is there already.
    None,
}

impl Effect {
    fn name(self) -> &'static str {
        match self {
            Effect::New => "new",
            Effect::Cards => "more cards",
            Effect::None => "no change",
        }
    }
}

pub struct ImportReport<'a> {
    pub sources: &'a [Source],
    pub formats: &'a [Option<Format>],
    pub plan: &'a ImportPlan,
    /// Of each placed machine.
    pub effects: &'a [Effect],
    /// Of all files together.
    pub remarks: &'a [String],
}

impl ImportReport<'_> {
    /// `line 7`, or `hosts.conf:7` where there are several files.
    fn place(&self, place: Place) -> String {
        match (self.sources, place.line) {
            _ if place == WHOLE => String::new(),
            ([_], 0) => String::new(),
            ([_], line) => format!("line {line}: "),
            (_, 0) => format!("{}: ", self.file(place)),
            (_, line) => format!("{}:{line}: ", self.file(place)),
        }
    }

    fn file(&self, place: Place) -> &str {
        self.sources.get(place.file).map_or("", |source| source.name.as_str())
    }

    fn lines(&self, placed: &Placed) -> String {
        let several = self.sources.len() > 1;
        let line = |place: &Place| if several { format!("{}:{}", self.file(*place), place.line) } else { place.line.to_string() };
        placed.places.iter().map(line).collect::<Vec<_>>().join(",")
    }
}

/// Every machine, and then everything else that is in the files.
pub fn table(report: &ImportReport<'_>) -> Result<(), Failure> {
    let ImportReport { sources, formats, plan, effects, remarks } = report;
    for (source, format) in sources.iter().zip(formats.iter()) {
        print(&[format!("{}: {}", plain(&source.name), format.map_or("not read".into(), |format| format!("read as {}", format.name())))])?;
    }
    let mut table = TextTable::new(&["LINE", "NODE", "BY", "CHANGE", "MACHINE", "CARDS"]);
    for (placed, effect) in plan.placed.iter().zip(effects.iter()) {
        let macs = placed.macs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let (node, by) = (format!("n{}", placed.number), placed.rule.name().into());
        table.row(None, vec![report.lines(placed), node, by, effect.name().into(), placed.name.clone(), macs]);
    }
    if !plan.placed.is_empty() {
        print(&table.lines())?;
    }
    let told = |title: &str, all: &[Remark]| -> Result<(), Failure> {
        let lines = all.iter().map(|(place, what)| format!("  {}{}", plain(&report.place(*place)), plain(what)));
        let head = format!("{title} ({}):", all.len());
        if all.is_empty() { Ok(()) } else { print(&std::iter::once(head).chain(lines).collect::<Vec<_>>()) }
    };
    told("left out", &plan.left_out)?;
    told("no nodes", &plan.no_nodes)?;
    let notes = plan.notes.iter().map(|(place, what)| format!("note: {}{}", plain(&report.place(*place)), plain(what)));
    print(&notes.chain(remarks.iter().map(|what| format!("note: {}", plain(what)))).collect::<Vec<_>>())
}

/// What was done.
pub fn end(changing: u32, dry: bool, done: &Changed) -> Result<(), Failure> {
    let mut lines = Vec::new();
    match (changing, dry) {
        (0, _) => lines.push("nothing would change".to_string()),
        (_, true) => lines.push(format!("{} would be imported", counted(changing.into(), "machine"))),
        (_, false) => {
            // Somebody else may have been quicker.
            if done.count != changing {
                lines.push(format!("the numbers had changed meanwhile: {} of {changing} were imported", done.count));
                lines.extend(done.notes.iter().map(|note| plain(note)));
            }
            lines.push(format!("done: {}; muster undo reverts it", counted(done.count.into(), "machine")));
        }
    }
    print(&lines)
}

/// Where something stands, for `--json`.
#[derive(Serialize)]
struct ImportLine {
    file: String,
    line: usize,
    #[serde(skip_serializing_if = "String::is_empty")]
    why: String,
}

#[derive(Serialize)]
struct ImportRow<'a> {
    number: u32,
    by: &'static str,
    change: Effect,
    name: &'a str,
    macs: Vec<String>,
    places: Vec<ImportLine>,
}

/// All that `--json` says.
#[derive(Serialize)]
struct ImportJson<'a> {
    dry: bool,
    /// How many numbers were changed, and which.
    count: u32,
    nodes: &'a str,
    files: Vec<(&'a str, Option<&'static str>)>,
    machines: Vec<ImportRow<'a>>,
    left_out: Vec<ImportLine>,
    no_nodes: Vec<ImportLine>,
    notes: Vec<ImportLine>,
}

/// The same for programs.
pub fn json(report: &ImportReport<'_>, done: &Changed) -> Result<(), Failure> {
    let ImportReport { sources, formats, plan, effects, remarks } = report;
    let line = |place: &Place, why: &str| ImportLine { file: report.file(*place).to_string(), line: place.line, why: why.to_string() };
    let lines = |all: &[Remark]| all.iter().map(|(place, why)| line(place, why)).collect::<Vec<_>>();
    let rows = plan.placed.iter().zip(effects.iter()).map(|(placed, effect)| {
        let macs = placed.macs.iter().map(ToString::to_string).collect();
        let places = placed.places.iter().map(|place| line(place, "")).collect();
        ImportRow { number: placed.number, by: placed.rule.name(), change: *effect, name: &placed.name, macs, places }
    });
    let mut notes = lines(&plan.notes);
    notes.extend(remarks.iter().chain(&done.notes).map(|what| line(&WHOLE, what)));
    print_json(&ImportJson {
        dry: done.dry,
        count: done.count,
        nodes: &done.nodes,
        files: sources.iter().zip(formats.iter()).map(|(source, format)| (source.name.as_str(), format.map(Format::name))).collect(),
        machines: rows.collect(),
        left_out: lines(&plan.left_out),
        no_nodes: lines(&plan.no_nodes),
        notes,
    })
}
