//! Node ranges as Slurm and ClusterShell write them: `n[0-31,40]`, `0-31,40`, `n5`, `0-10/2`, `@all`, and all of these with commas between.
//!
//! [`parse`] reads text into a [`Selection`]: a set of numbers ([`Ranges`]) and the groups that were named, which only the caller can
//! resolve. Names are `n` or `node` and a number, or begin as this cluster's do, which the caller checks. Leading zeros mean nothing. `Ranges` prints itself as `0-211,213-1023`, and [`Ranges::names`] as `n[0-211,213-1023]`; reading that again gives the same
//! set. Limits: `RUNS_MAX` runs in one text. Used by the daemon's control engine and by the program `muster`.

use std::fmt;

/// Runs of one text: enough for every second number of the longest lot table.
pub const RUNS_MAX: usize = 65_536;

/// A set of numbers, as runs: sorted, disjoint, none touching the next.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Ranges {
    runs: Vec<(u32, u32)>,
}

/// Groups that follow from what machines do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Every lot that is not vacant.
    All,
    /// Those whose operating system has its lease.
    Up,
    /// Those that stay in a stage past its deadline.
    Stuck,
    /// Those that are on their way.
    Booting,
    /// Those whose last test failed.
    Failed,
    /// Those of which nothing is heard.
    Down,
    /// Those that wait for their machine.
    Reserved,
    /// Those whose machine asked for a number, was given it, and was never heard under its address since.
    Never,
}

impl Group {
    /// All groups and their names, without the `@`.
    pub const ALL: [(Group, &'static str); 8] = [
        (Group::All, "all"),
        (Group::Up, "up"),
        (Group::Stuck, "stuck"),
        (Group::Booting, "booting"),
        (Group::Failed, "failed"),
        (Group::Down, "down"),
        (Group::Reserved, "reserved"),
        (Group::Never, "never"),
    ];
}

/// What a text selects: the numbers, and the groups on top of them.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Selection {
    /// The numbers that were named.
    pub numbers: Ranges,
    /// The groups that were named, each once.
    pub groups: Vec<Group>,
    /// What stood before a number, where it was neither nothing nor `n` nor `node`.
    pub prefix: Option<String>,
}

impl Selection {
    /// Refuses names that do not begin as nodes' names do here.
    pub fn named(self, prefix: &str) -> Result<Selection, SelectionError> {
        match &self.prefix {
            Some(other) if !other.eq_ignore_ascii_case(prefix) => wrong(strange(other, prefix)),
            _ => Ok(self),
        }
    }

    /// Whether a group was named.
    pub fn has(&self, group: Group) -> bool {
        self.groups.contains(&group)
    }
}

/// Why a text is no selection: a sentence that says what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectionError(String);

impl fmt::Display for SelectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SelectionError {}

impl Ranges {
    /// All numbers from `first` to `last`; none when `first` is above `last`.
    pub fn of(first: u32, last: u32) -> Ranges {
        Ranges { runs: if first <= last { vec![(first, last)] } else { Vec::new() } }
    }

    /// Whether it has no number.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many numbers there are.
    pub fn len(&self) -> u64 {
        self.runs.iter().map(|(first, last)| u64::from(last - first) + 1).sum()
    }

    /// Whether a number is in it.
    pub fn contains(&self, number: u32) -> bool {
        let at = self.runs.partition_point(|(_, last)| *last < number);
        self.runs.get(at).is_some_and(|(first, _)| *first <= number)
    }

    /// Whether all numbers from `first` to `last` are in it.
    pub fn covers(&self, first: u32, last: u32) -> bool {
        let at = self.runs.partition_point(|(_, end)| *end < first);
        first > last || self.runs.get(at).is_some_and(|(begin, end)| *begin <= first && last <= *end)
    }

    /// The runs, both ends included, in order.
    pub fn runs(&self) -> &[(u32, u32)] {
        &self.runs
    }

    /// The numbers in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.runs.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// The smallest number that is not below `from`.
    pub fn next(&self, from: u32) -> Option<u32> {
        let at = self.runs.partition_point(|(_, last)| *last < from);
        self.runs.get(at).map(|(first, _)| from.max(*first))
    }

    /// The largest number.
    pub fn last(&self) -> Option<u32> {
        self.runs.last().map(|(_, last)| *last)
    }

    /// Adds a run. Cheap when it comes after all others: sorted numbers fold in O(1) each.
    pub fn add(&mut self, first: u32, last: u32) {
        if first > last {
            return;
        }
        match self.runs.last_mut() {
            Some((_, end)) if first > *end => {
                if first == *end + 1 {
                    *end = last;
                } else {
                    self.runs.push((first, last));
                }
            }
            None => self.runs.push((first, last)),
            Some(_) => {
                self.runs.push((first, last));
                self.settle();
            }
        }
    }

    /// Adds another set.
    pub fn union(&mut self, other: &Ranges) {
        self.runs.extend_from_slice(&other.runs);
        self.settle();
    }

    /// Makes the runs sorted, disjoint and apart again.
    fn settle(&mut self) {
        self.runs.sort_unstable();
        let mut whole: Vec<(u32, u32)> = Vec::with_capacity(self.runs.len());
        for &(first, last) in &self.runs {
            match whole.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => whole.push((first, last)),
            }
        }
        self.runs = whole;
    }

    /// The set as node names: `n[0-211,213]`, or `n5` for a single one.
    pub fn names(&self) -> RangeNames<'_> {
        RangeNames(self)
    }
}

impl FromIterator<u32> for Ranges {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Ranges {
        let mut ranges = Ranges::default();
        numbers.into_iter().for_each(|number| ranges.add(number, number));
        ranges
    }
}

/// `0-211,213-1023`; nothing for no numbers.
impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.runs.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

/// Ranges as names of nodes in ClusterShell's form: `n[0-31,40]`.
pub struct RangeNames<'a>(&'a Ranges);

impl fmt::Display for RangeNames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.runs.as_slice() {
            [] => f.write_str("none"),
            [(first, last)] if first == last => write!(f, "n{first}"),
            _ => write!(f, "n[{}]", self.0),
        }
    }
}

fn wrong<T>(what: impl Into<String>) -> Result<T, SelectionError> {
    Err(SelectionError(what.into()))
}

/// Reads a selection. Blanks around commas are allowed; nothing at all is an error.
pub fn parse(text: &str) -> Result<Selection, SelectionError> {
    let mut runs = Vec::new();
    let mut groups = Vec::new();
    let mut prefix = None;
    for item in items(text)? {
        match item.strip_prefix('@') {
            Some(name) => match Group::ALL.iter().find(|(_, known)| *known == name) {
                Some((group, _)) if groups.contains(group) => {}
                Some((group, _)) => groups.push(*group),
                None => {
                    let all: Vec<String> = Group::ALL.iter().map(|(_, known)| format!("@{known}")).collect();
                    return wrong(format!("{item:?} is not a group: the groups are {}", all.join(", ")));
                }
            },
            None => numbers(item, &mut runs, &mut prefix)?,
        }
    }
    let mut numbers = Ranges { runs };
    numbers.settle();
    Ok(Selection { numbers, groups, prefix })
}

/// The parts between commas that stand outside of brackets.
fn items(text: &str) -> Result<Vec<&str>, SelectionError> {
    let mut items = Vec::new();
    let (mut start, mut open) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            '[' if open => return wrong(format!("{text:?}: brackets inside brackets: write n[0-31,40]")),
            '[' => open = true,
            ']' if !open => return wrong(format!("{text:?}: a closing bracket has no opening one: write n[0-31,40]")),
            ']' => open = false,
            ',' if !open => {
                items.push(text.get(start..at).unwrap_or_default().trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if open {
        return wrong(format!("{text:?}: a bracket is not closed: write n[0-31,40]"));
    }
    items.push(text.get(start..).unwrap_or_default().trim());
    if items.iter().any(|item| item.is_empty()) {
        return wrong(format!("{text:?}: a number is missing: write numbers as in 0-31,40, or @all"));
    }
    Ok(items)
}

/// `n[0-31,40]`, `0-31`, `n5`: adds the runs.
fn numbers(item: &str, runs: &mut Vec<(u32, u32)>, strange_prefix: &mut Option<String>) -> Result<(), SelectionError> {
    let digits = item.find(|c: char| c.is_ascii_digit() || c == '[').unwrap_or(item.len());
    let (prefix, rest) = item.split_at(digits);
    if !matches!(prefix, "" | "n" | "node") {
        match strange_prefix {
            _ if super::plan::NodeNames::new(prefix, 1, "").is_none() => return wrong(strange(item, "n")),
            Some(other) if other != prefix => return wrong(strange(item, other)),
            place => *place = Some(prefix.to_string()),
        }
    }
    match rest.strip_prefix('[').map(|inner| inner.strip_suffix(']')) {
        None => run(item, rest, runs),
        Some(None) => wrong(format!("{item:?}: there is text after the bracket: write n[0-31,40]")),
        Some(Some(inner)) => inner.split(',').try_for_each(|part| run(item, part.trim(), runs)),
    }
}

/// `5`, `0-31`, `0-31/2`; also `n0-n31`.
fn run(item: &str, part: &str, runs: &mut Vec<(u32, u32)>) -> Result<(), SelectionError> {
    let (range, step) = match part.split_once('/') {
        Some((range, step)) => (range, number(item, step.trim())?),
        None => (part, 1),
    };
    let (first, last) = match range.split_once('-') {
        Some((first, last)) => (number(item, first.trim())?, number(item, last.trim().trim_start_matches('n'))?),
        None if step != 1 => return wrong(format!("{item:?}: a step needs a range before it: write 0-10/2")),
        None => number(item, range.trim()).map(|number| (number, number))?,
    };
    if step == 0 {
        return wrong(format!("{item:?}: the step is 0: write 0-10/2"));
    }
    if first > last {
        return wrong(format!("{item:?}: {first} is above {last}: write {last}-{first}"));
    }
    let count = if step == 1 { 1 } else { (last - first) as usize / step as usize + 1 };
    if runs.len() + count > RUNS_MAX {
        return wrong(format!("{item:?}: these are more than {RUNS_MAX} ranges: select fewer at a time"));
    }
    match step {
        1 => runs.push((first, last)),
        _ => runs.extend((first..=last).step_by(step as usize).map(|number| (number, number))),
    }
    Ok(())
}

fn strange(item: &str, prefix: &str) -> String {
    format!("{item:?} is not a node: a node's name is {prefix} and its number, as in {prefix}5 or {prefix}[0-31,40]")
}

fn number(item: &str, text: &str) -> Result<u32, SelectionError> {
    if text.is_empty() {
        return wrong(format!("{item:?}: a number is missing: write numbers as in 0-31,40"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return wrong(format!("{item:?}: {text:?} is not a number: write numbers as in 0-31,40"));
    }
    text.parse().map_err(|_| SelectionError(format!("{item:?}: {text} is too large for a node number")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> Result<String, String> {
        parse(text).map(|selection| selection.numbers.names().to_string()).map_err(|wrong| wrong.to_string())
    }

    #[test]
    fn reads_what_slurm_and_clustershell_write() {
        for (text, names) in [
            ("n[0-31,40]", "n[0-31,40]"),
            ("0-31,40", "n[0-31,40]"),
            ("n5", "n5"),
            ("5", "n5"),
            ("0-10/2", "n[0,2,4,6,8,10]"),
            ("n[0-9/3,20], n7 ,5-6", "n[0,3,5-7,9,20]"),
            ("3,2,1,0,1-3", "n[0-3]"),
            ("n0-n3", "n[0-3]"),
            ("n[7]", "n7"),
            ("n[001-010],node0012,rack-a-[20-21]", "n[1-10,12,20-21]"),
            ("000", "n0"),
            ("0-4294967295", "n[0-4294967295]"),
            ("4294967295,0", "n[0,4294967295]"),
            ("@all", "none"),
        ] {
            assert_eq!(shown(text).as_deref(), Ok(names), "{text}");
        }
    }

    #[test]
    fn a_run_is_covered_whole_or_not() {
        let mut set = Ranges::of(0, 4);
        for (first, last) in [(20, 29), (5, 9), (u32::MAX, u32::MAX)] {
            set.add(first, last);
        }
        for (first, last, covered) in [
            (3, 7, true),
            (0, 9, true),
            (0, 10, false),
            (9, 20, false),
            (20, 29, true),
            (19, 29, false),
            (30, 30, false),
            (u32::MAX, u32::MAX, true),
        ] {
            assert_eq!(set.covers(first, last), covered, "{first}-{last}");
        }
    }

    #[test]
    fn groups_stand_beside_numbers() {
        let selection = parse("@stuck,3,@up,@stuck").unwrap();
        assert_eq!((selection.groups.as_slice(), selection.numbers.len()), ([Group::Stuck, Group::Up].as_slice(), 1));
        assert!(selection.has(Group::Up) && !selection.has(Group::All));
        assert!(parse("c[1-3],n5").unwrap().named("C").is_ok() && parse("5").unwrap().named("c").is_ok());
        assert!(parse("c[1-3]").unwrap().named("n").unwrap_err().to_string().contains("as in n5"));
    }

    #[test]
    fn refusals_say_what_to_write() {
        for (text, words) in [
            ("", "0-31,40"),
            (" , ", "a number is missing"),
            ("n[0-31", "not closed"),
            ("0]", "has no opening one"),
            ("n[0-[3]]", "inside"),
            ("n[0]x", "after the bracket"),
            ("c-5,d-6", "c- and its number"),
            ("5é", "not a number"),
            ("31-0", "write 0-31"),
            ("0-", "missing"),
            ("n", "missing"),
            ("n[]", "missing"),
            ("1-x", "\"x\" is not a number"),
            ("5/2", "0-10/2"),
            ("0-5/0", "the step is 0"),
            ("4294967296", "too large"),
            ("0-4000000000/2", "more than 65536"),
            ("@dwon", "@all, @up, @stuck, @booting, @failed, @down, @reserved, @never"),
            ("+5", "n and its number"),
        ] {
            let why = shown(text).unwrap_err();
            assert!(why.contains(words), "{text}: {why}");
        }
    }

    proptest! {
        #[test]
        fn folding_and_reading_are_inverse(numbers in prop::collection::btree_set(prop_oneof![0u32..60, any::<u32>()], 0..80)) {
            let ranges: Ranges = numbers.iter().copied().collect();
            prop_assert_eq!(ranges.iter().take(100).collect::<Vec<_>>(), numbers.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(ranges.len(), numbers.len() as u64);
            prop_assert!((0..60).all(|n| ranges.contains(n) == numbers.contains(&n)));
            prop_assert!((0..60).all(|n| ranges.next(n) == numbers.range(n..).next().copied()));
            if !numbers.is_empty() {
                let folded = ranges.to_string();
                let again = parse(&folded).unwrap().numbers;
                prop_assert_eq!(again.to_string(), folded);
                let names = ranges.names().to_string();
                prop_assert_eq!(parse(&names).unwrap().numbers, ranges);
            }
        }

        #[test]
        fn order_does_not_matter(mut numbers in prop::collection::vec(0u32..200, 0..60), split in 0usize..60) {
            let one: Ranges = numbers.iter().copied().collect();
            let (left, right) = numbers.split_at(split.min(numbers.len()));
            let mut two: Ranges = left.iter().copied().collect();
            two.union(&right.iter().copied().collect());
            numbers.sort_unstable();
            prop_assert_eq!(&one, &two);
            prop_assert_eq!(one, numbers.into_iter().collect());
        }

        #[test]
        fn no_text_panics(text in "[n0-9\\[\\],/@ax -]{0,24}") {
            if let Ok(selection) = parse(&text) {
                prop_assert!(selection.numbers.runs().windows(2).all(|pair| u64::from(pair[0].1) + 1 < u64::from(pair[1].0)));
            }
        }
    }
}
