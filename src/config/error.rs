//! What is wrong with a config, as sentences with a position. Used by this room only; [`ConfigError`] is what callers see.

use std::fmt;
use std::ops::Range;

/// Errors beyond this many are only counted.
const ERRORS_MAX: usize = 50;

/// A config file's text; the path is for messages only.
#[derive(Clone, Copy, Debug)]
pub struct ConfigText<'a> {
    /// The file's name, for messages.
    pub path: &'a str,
    /// Its whole text.
    pub text: &'a str,
}

/// One thing that is wrong: `/etc/muster/muster.toml:12:3: guests: "…" overlaps …: choose a range outside it`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// None for what no line of a file is to blame for (flags, facts of the machine).
    pub position: Option<Position>,
    /// The key or flag; empty where there is none.
    pub key: String,
    /// What is wrong, and what would be right.
    pub what: String,
    /// It is right as soon as an interface is there, or has its address.
    pub passes: bool,
}

/// A position in a config file; line and column count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The file's name.
    pub path: String,
    /// The line, counted from 1.
    pub line: usize,
    /// The column, in characters, counted from 1.
    pub column: usize,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Position { path, line, column }) = &self.position {
            write!(f, "{path}:{line}:{column}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for ConfigError {}

/// An error at an offset in the text.
struct Found {
    at: Option<usize>,
    key: String,
    what: String,
    passes: bool,
}

/// The collector: every check goes on after an error, so that one run finds them all.
pub(super) struct Errors<'a> {
    source: Option<ConfigText<'a>>,
    /// Where each line of the text begins: a file may have 10,000 sections, whose lines are asked for.
    line_starts: Vec<usize>,
    found: Vec<Found>,
    suppressed: usize,
}

impl<'a> Errors<'a> {
    pub fn new(source: Option<ConfigText<'a>>) -> Errors<'a> {
        let text = source.map_or("", |source| source.text);
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Errors { source, line_starts, found: Vec::new(), suppressed: 0 }
    }

    /// Notes an error at a place in the text (None: not the text's fault). Of several errors at one place only the first counts:
    /// the others follow from it.
    pub fn add(&mut self, at: Option<&Range<usize>>, key: &str, what: impl Into<String>) {
        self.note(at, key, what.into(), false);
    }

    /// The same of what will be right by itself.
    pub fn add_passing(&mut self, at: Option<&Range<usize>>, key: &str, what: impl Into<String>) {
        self.note(at, key, what.into(), true);
    }

    fn note(&mut self, at: Option<&Range<usize>>, key: &str, what: String, passes: bool) {
        let at = at.map(|range| range.start);
        if at.is_some() && self.found.iter().any(|other| other.at == at) {
            return;
        }
        if self.found.len() == ERRORS_MAX {
            self.suppressed += 1;
            return;
        }
        self.found.push(Found { at, key: key.to_string(), what, passes });
    }

    /// The line of an offset in the text, from 1; None without a text.
    pub fn line(&self, offset: usize) -> Option<u32> {
        self.source.and_then(|_| u32::try_from(self.line_starts.partition_point(|start| *start <= offset)).ok())
    }

    pub fn count(&self) -> usize {
        self.found.len()
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All errors in the order of the text, those without a place last.
    pub fn into_errors(self) -> Vec<ConfigError> {
        let Errors { source, mut found, suppressed, .. } = self;
        found.sort_by_key(|error| error.at.unwrap_or(usize::MAX));
        let error = |Found { at, key, what, passes }| {
            let position = source.zip(at).map(|(source, at)| {
                let (line, column) = line_and_column(source.text, at);
                Position { path: source.path.to_string(), line, column }
            });
            ConfigError { position, key, what, passes }
        };
        let mut errors: Vec<ConfigError> = found.into_iter().map(error).collect();
        if suppressed > 0 {
            errors.push(ConfigError { position: None, key: String::new(), what: format!("and {suppressed} more errors"), passes: false });
        }
        errors
    }
}

/// Both from 1; offsets beyond the end, or inside a character, count as the nearest place before.
pub(super) fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = (0..=offset.min(text.len())).rev().find_map(|end| text.get(..end)).unwrap_or_default();
    let line = 1 + before.matches('\n').count();
    let column = 1 + before.rsplit('\n').next().unwrap_or_default().chars().count();
    (line, column)
}

/// What was probably meant by a word that is not in the list.
pub fn nearest<'w>(word: &str, words: &[&'w str]) -> Option<&'w str> {
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    let near = words.iter().map(|known| (distance(word, known), *known)).min_by_key(|(far, _)| *far);
    near.filter(|(far, _)| *far <= allowed).map(|(_, known)| known)
}

/// How many letters must be put in, left out, replaced or swapped with their neighbour (optimal string alignment).
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().take(64).collect();
    let to: Vec<char> = to.chars().collect();
    let width = to.len() + 1;
    let mut rows: Vec<Vec<usize>> = vec![(0..width).collect()];
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1; width];
        for (j, b) in to.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(a != b);
            row[j + 1] = replaced.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && from[i - 1] == *b && *a == to[j - 1] {
                row[j + 1] = row[j + 1].min(rows[i - 1][j - 1] + 1);
            }
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

/// `a, b and c`
pub(super) fn listed<T: fmt::Display>(words: impl IntoIterator<Item = T>) -> String {
    let mut words: Vec<String> = words.into_iter().map(|word| word.to_string()).collect();
    match words.pop() {
        None => "none".to_string(),
        Some(last) if words.is_empty() => last,
        Some(last) => format!("{} and {last}", words.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_from_one_in_characters() {
        let text = "a = 1\näö = 2\n";
        assert_eq!(line_and_column(text, 0), (1, 1));
        assert_eq!(line_and_column(text, 6), (2, 1));
        assert_eq!(line_and_column(text, 8), (2, 2));
        assert_eq!(line_and_column(text, 9), (2, 2));
        assert_eq!(line_and_column(text, 10_000), (3, 1));
    }

    #[test]
    fn finds_what_was_meant() {
        let keys = ["interface", "subnet", "guests", "router"];
        assert_eq!(nearest("interfase", &keys), Some("interface"));
        assert_eq!(nearest("geusts", &keys), Some("guests"));
        assert_eq!(nearest("routers", &keys), Some("router"));
        assert_eq!(nearest("windowsize", &keys), None);
        assert_eq!(nearest("", &[]), None);
    }

    #[test]
    fn lists_read_well() {
        assert_eq!(listed(["a"]), "a");
        assert_eq!(listed(["a", "b", "c"]), "a, b and c");
    }
}
