//! `node` lines of a Beowulf head's config (Scyld's /etc/beowulf/config): `node [NUMBER] MAC...`. Without a number a line follows the one
//! before, from 0 on, as there: a line that only says `node`, or `node off`, leaves its number out.

use super::super::record::{HardwareText, ImportedFile, ImportedMachine};

pub fn read(text: &str) -> ImportedFile {
    let mut read = ImportedFile::default();
    let mut next = 0u32;
    for (line, content) in (1..).zip(text.lines()) {
        let mut words = content.split('#').next().unwrap_or_default().split_whitespace();
        match words.next() {
            Some(first) if first.eq_ignore_ascii_case("node") => {}
            Some(first) if ["ignore", "unknown"].iter().any(|word| first.eq_ignore_ascii_case(word)) => {
                read.no_node(line, format!("{} is listed as {first}", words.next().unwrap_or("nothing")));
                continue;
            }
            _ => continue,
        }
        let words: Vec<&str> = words.collect();
        let (number, rest) = match words.split_first().map(|(first, rest)| (first.parse::<u32>(), rest)) {
            Some((Ok(number), rest)) => (number, rest),
            _ => (next, words.as_slice()),
        };
        next = number.saturating_add(1);
        node(&mut read, line, number, rest);
    }
    read
}

fn node(read: &mut ImportedFile, line: usize, number: u32, words: &[&str]) {
    let off = words.iter().any(|word| word.eq_ignore_ascii_case("off"));
    // What follows a MAC and is none is a setting of that node.
    let cards =
        words.iter().skip_while(|word| word.eq_ignore_ascii_case("off")).take_while(|word| HardwareText::of(word) != HardwareText::Other);
    let macs: Vec<_> = cards.filter_map(|word| read.card(line, word)).collect();
    match words.first() {
        _ if !macs.is_empty() => read.found.push(ImportedMachine { macs, index: Some(number), ..ImportedMachine::at(line) }),
        _ if off => read.no_node(line, format!("number {number} is off")),
        Some(word) if HardwareText::of(word) == HardwareText::Other => read.fault(line, format!("{word:?} is not a machine's MAC address")),
        _ => read.no_node(line, format!("number {number} has no MAC address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_count_up() {
        let text = "interface eth1\nnodes 8\nnode 00:50:45:01:03:68\nnode 00:50:45:01:03:69 00:50:45:01:04:69 # two\nnode\nNODE 00:50:45:01:03:6a\n\
                    node 7 00:50:45:01:03:6b off\nnode 00:50:45:01:03:6c\nnode off\nunknown 00:50:45:01:03:6d\nnode x\n";
        let read = read(text);
        let shown: Vec<_> = read.found.iter().map(|found| (found.place.line, found.index, found.macs.len())).collect();
        assert_eq!(shown, [(3, Some(0), 1), (4, Some(1), 2), (6, Some(3), 1), (7, Some(7), 1), (8, Some(8), 1)]);
        assert_eq!(read.no_nodes.iter().map(|(place, _)| place.line).collect::<Vec<_>>(), [5, 9, 10]);
        assert_eq!(read.faults.iter().map(|(place, _)| place.line).collect::<Vec<_>>(), [11]);
    }
}
