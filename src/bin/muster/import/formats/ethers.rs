//! `/etc/ethers` (ethers(5)): a MAC, blanks, a host name or an address; `#` or `;` begins a comment. A list of MACs alone is one as well, and
//! the MAC may stand behind the name.

use super::super::record::{HardwareText, ImportedFile, ImportedMachine};

pub fn read(text: &str) -> ImportedFile {
    let mut read = ImportedFile::default();
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.split(['#', ';']).next().unwrap_or_default();
        let (mut first, mut name) = match content.split_whitespace().collect::<Vec<_>>().as_slice() {
            [] => continue,
            [first] => (*first, ""),
            [first, name, ..] => (*first, *name),
        };
        if HardwareText::of(first) == HardwareText::Other && HardwareText::of(name) != HardwareText::Other {
            std::mem::swap(&mut first, &mut name);
        }
        if let Some(mac) = read.card(line, first) {
            read.found.push(ImportedMachine { macs: vec![mac], ..ImportedMachine::at(line) }.called(name));
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses() {
        let read = read(
            "# nodes\n52:54:00:00:00:01\tn1 # first\n\n8:0:20:0:0:2 10.54.1.2\nx n3\n52:54:00:00:00:04;\nff:ff:ff:ff:ff:ff all\nn5 5254.0000.0005\n",
        );
        let shown: Vec<_> =
            read.found.iter().map(|found| (found.place.line, found.name.as_str(), found.addresses.first().copied())).collect();
        assert_eq!(shown, [(2, "n1", None), (4, "", Some([10, 54, 1, 2].into())), (6, "", None), (8, "n5", None)]);
        assert_eq!(read.faults.iter().map(|(place, _)| place.line).collect::<Vec<_>>(), [5]);
        assert_eq!(read.no_nodes.iter().map(|(place, _)| place.line).collect::<Vec<_>>(), [7]);
    }
}
