//! `node` lines of a Beowulf head's config (Scyld's /etc/beowulf/config): `node [NUMBER] MAC...`. Without a number a line follows the one
//! before, from 0 on, as there: a line that only says `node` leaves its number out.

use super::{ImportedFile, ImportedMachine, mac};

pub fn read(text: &str) -> ImportedFile {
    let mut read = ImportedFile::default();
    let mut next = 0u32;
    for (line, content) in text.lines().enumerate().map(|(at, content)| (at + 1, content)) {
        let mut words = content.split('#').next().unwrap_or_default().split_whitespace();
        if words.next() != Some("node") {
            continue;
        }
        let words: Vec<&str> = words.collect();
        let (number, rest) = match words.split_first().map(|(first, rest)| (first.parse::<u32>(), rest)) {
            Some((Ok(number), rest)) => (number, rest),
            _ => (next, words.as_slice()),
        };
        next = number.saturating_add(1);
        let macs: Vec<_> = rest.iter().map_while(|word| mac(word)).collect();
        match rest.get(macs.len()) {
            // What follows a MAC and is none is a setting of that node.
            Some(word) if macs.is_empty() => read.fault(line, format!("{word:?} is not a machine's MAC address")),
            _ if macs.is_empty() => {}
            _ => read.found.push(ImportedMachine { line, macs, index: Some(number), ..ImportedMachine::default() }),
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_count_up() {
        let text = "interface eth1\nnodes 8\nnode 00:50:45:01:03:68\nnode 00:50:45:01:03:69 00:50:45:01:04:69 # two\nnode\nnode 00:50:45:01:03:6a\n\
                    node 7 00:50:45:01:03:6b off\nnode 00:50:45:01:03:6c\nnode off\nunknown 00:50:45:01:03:6d\n";
        let read = read(text);
        let shown: Vec<_> = read.found.iter().map(|found| (found.line, found.index, found.macs.len())).collect();
        assert_eq!(shown, [(3, Some(0), 1), (4, Some(1), 2), (6, Some(3), 1), (7, Some(7), 1), (8, Some(8), 1)]);
        assert_eq!(read.faults, [(9, "\"off\" is not a machine's MAC address".to_string())]);
    }
}
