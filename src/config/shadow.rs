//! `[[for]]` sections that change nothing, because later ones set the same keys for all their nodes. Used by this room only.

use super::Text;
use super::error::line_and_column;
use super::raw::{ForSection, Raw};
use super::setting::{Key, keys};
use super::value::{Set, shown_numbers};
use crate::roll::plan::Number;

/// Tells of each section that cannot win, with its place: it is probably in the wrong order.
pub(super) fn shadowed(text: Option<Text<'_>>, raw: &Raw, choices: &mut Vec<String>) {
    let Some(Text { path, text }) = text else { return };
    for (position, Set { value: section, at }) in raw.special.iter().enumerate() {
        let later = raw.special.get(position + 1..).unwrap_or_default();
        let (line, column) = line_and_column(text, at.start);
        let place = format!("{path}:{line}:{column}: [[for]] nodes {}", shown_numbers(nodes(section)));
        let set: Vec<Key> = keys(section).collect();
        if set.is_empty() {
            choices.push(format!("{place}: sets nothing"));
            continue;
        }
        if !set.iter().all(|key| covered(nodes(section), *key, later)) {
            continue;
        }
        let wins = |other: &&Set<ForSection>| keys(&other.value).any(|key| set.contains(&key));
        let last = later.iter().rev().find(wins).map_or(line, |other| line_and_column(text, other.at.start).0);
        choices.push(format!("{place}: has no effect, as later sections (line {last}) set the same keys for all its nodes: move it below"));
    }
}

fn nodes(section: &ForSection) -> &[(Number, Number)] {
    section.nodes.as_ref().map(|set| set.value.as_slice()).unwrap_or_default()
}

/// Whether the sections set a key for all these nodes.
fn covered(ranges: &[(Number, Number)], key: Key, sections: &[Set<ForSection>]) -> bool {
    let setting = sections.iter().filter(|section| keys(&section.value).any(|other| other == key));
    let mut left: Vec<(u32, u32)> = ranges.iter().map(|(first, last)| (first.0, last.0)).collect();
    for (first, last) in setting.flat_map(|section| nodes(&section.value)) {
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
