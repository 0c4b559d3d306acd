//! `/etc/ethers` (ethers(5)): a MAC, blanks, a host name or an address; `#` begins a comment.

use super::{ImportedFile, ImportedMachine, mac};

pub fn read(text: &str) -> ImportedFile {
    let mut read = ImportedFile::default();
    for (line, content) in text.lines().enumerate().map(|(at, content)| (at + 1, content)) {
        let content = content.split('#').next().unwrap_or_default();
        match content.split_whitespace().collect::<Vec<_>>().as_slice() {
            [] => {}
            [first, name, ..] => match mac(first) {
                Some(mac) => {
                    let address = name.parse().ok();
                    let name = if address.is_some() { String::new() } else { name.to_string() };
                    read.found.push(ImportedMachine { line, name, macs: vec![mac], address, index: None });
                }
                None => read.fault(line, format!("{first:?} is not a machine's MAC address")),
            },
            [_] => read.fault(line, "there is no name after the MAC address"),
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses() {
        let read = read("# nodes\n52:54:00:00:00:01\tn1 # first\n\n8:0:20:0:0:2 10.54.1.2\nx n3\n52:54:00:00:00:04\n");
        let shown: Vec<_> = read.found.iter().map(|found| (found.line, found.name.as_str(), found.address)).collect();
        assert_eq!(shown, [(2, "n1", None), (4, "", Some([10, 54, 1, 2].into()))]);
        assert_eq!(read.faults.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [5, 6]);
    }
}
