//! `[[for]]` sections that change nothing, because later ones set the same keys for all their nodes. Used by this room only.

use super::error::{Source, line_and_column};
use super::keys::ForKeys;
use super::origin::Name;
use super::section::Section;
use super::value::{Slot, shown_numbers};
use crate::roll::plan::Number;

/// Notes each section that cannot win, with its position: it is probably in the wrong order.
pub(super) fn shadowed(source: Source<'_>, sections: &[ForKeys], notes: &mut Vec<String>) {
    let start = |section: &ForKeys| section.at().map_or(0, |at| at.start);
    for (position, section) in sections.iter().enumerate() {
        let later = sections.get(position + 1..).unwrap_or_default();
        let (line, column) = line_and_column(source.text, start(section));
        let place = format!("{}:{line}:{column}: [[for]] nodes {}", source.path, shown_numbers(&nodes(section)));
        let set = settings(section);
        if set.is_empty() {
            notes.push(format!("{place}: sets nothing"));
            continue;
        }
        if !set.iter().all(|name| covered(&nodes(section), *name, later)) {
            continue;
        }
        let wins = |other: &&ForKeys| settings(other).iter().any(|name| set.contains(name));
        let last = later.iter().rev().find(wins).map_or(line, |other| source.line(start(other)));
        notes.push(format!("{place}: has no effect, as later sections (line {last}) set the same keys for all its nodes: move it below"));
    }
}

fn nodes(section: &ForKeys) -> Vec<(Number, Number)> {
    section.nodes.value().unwrap_or_default()
}

/// What a section sets for its nodes.
fn settings(section: &ForKeys) -> Vec<Name> {
    section.names().into_iter().filter(|name| *name != Name::Key("nodes")).collect()
}

/// Whether the sections set a key for all these nodes.
fn covered(ranges: &[(Number, Number)], name: Name, sections: &[ForKeys]) -> bool {
    let setting = sections.iter().filter(|section| settings(section).contains(&name));
    let mut left: Vec<(u32, u32)> = ranges.iter().map(|(first, last)| (first.0, last.0)).collect();
    for (first, last) in setting.flat_map(nodes) {
        left = left.into_iter().flat_map(|range| without(range, (first.0, last.0))).flatten().collect();
    }
    left.is_empty()
}

/// What is left of a range without another: the part below, the part above.
fn without((first, last): (u32, u32), (from, to): (u32, u32)) -> [Option<(u32, u32)>; 2] {
    let below = (first < from).then(|| (first, last.min(from.saturating_sub(1))));
    let above = (last > to).then(|| (first.max(to.saturating_add(1)), last));
    [below, above]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_range() {
        for (range, other, left) in [
            ((0, 9), (3, 5), [Some((0, 2)), Some((6, 9))]),
            ((0, 9), (0, 9), [None, None]),
            ((3, 5), (0, 9), [None, None]),
            ((0, 9), (5, 20), [Some((0, 4)), None]),
            ((5, 9), (0, 5), [None, Some((6, 9))]),
            ((0, 4), (5, 9), [Some((0, 4)), None]),
            ((5, 9), (0, 4), [None, Some((5, 9))]),
            ((0, u32::MAX), (u32::MAX, u32::MAX), [Some((0, u32::MAX - 1)), None]),
        ] {
            assert_eq!(without(range, other), left, "{range:?} without {other:?}");
        }
    }
}
