//! What a file says, before anybody asks what it means: machines, and remarks by line.

use std::fmt;
use std::net::Ipv4Addr;

use muster::base::addr::Mac;

/// Where something stands: the place of its file among those given, and the line from 1 on; line 0 is the file as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    pub file: usize,
    pub line: usize,
}

/// Something worth saying about a place.
pub type Remark = (Place, String);

/// A machine, or one card of a machine, as a file tells of it.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ImportedMachine {
    pub place: Place,
    /// What the file calls it; where a label is no name, the label without what makes it unique.
    pub name: String,
    /// What the entry is called in its file, if that is not the name.
    pub label: String,
    pub macs: Vec<Mac>,
    pub addresses: Vec<Ipv4Addr>,
    /// The number that the file itself gives it.
    pub index: Option<u32>,
}

impl ImportedMachine {
    pub fn at(line: usize) -> ImportedMachine {
        ImportedMachine { place: Place { file: 0, line }, ..ImportedMachine::default() }
    }

    /// Takes a word that is an address, or else a name.
    pub fn called(mut self, word: &str) -> ImportedMachine {
        match word.parse() {
            Ok(address) => self.addresses.push(address),
            Err(_) => self.name = word.to_string(),
        }
        self
    }
}

/// How messages call a machine.
impl fmt::Display for ImportedMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.label.is_empty(), self.name.is_empty(), self.macs.first(), self.addresses.first()) {
            (false, ..) => f.write_str(&self.label),
            (true, false, ..) => f.write_str(&self.name),
            (true, true, Some(mac), _) => write!(f, "{mac}"),
            (true, true, None, Some(address)) => write!(f, "{address}"),
            _ => f.write_str("this entry"),
        }
    }
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ImportedFile {
    pub found: Vec<ImportedMachine>,
    /// Meant to be machines, and not taken over: the exit status tells of them.
    pub faults: Vec<Remark>,
    /// What no node is meant by: other hardware, and what the file itself excludes.
    pub no_nodes: Vec<Remark>,
    /// Worth knowing.
    pub notes: Vec<Remark>,
    /// Other files that this one includes.
    pub includes: Vec<Remark>,
}

impl ImportedFile {
    pub fn fault(&mut self, line: usize, what: impl Into<String>) {
        self.faults.push((Place { file: 0, line }, what.into()));
    }

    pub fn no_node(&mut self, line: usize, what: impl Into<String>) {
        self.no_nodes.push((Place { file: 0, line }, what.into()));
    }

    pub fn note(&mut self, line: usize, what: impl Into<String>) {
        self.notes.push((Place { file: 0, line }, what.into()));
    }

    pub fn include(&mut self, line: usize, path: impl Into<String>) {
        self.includes.push((Place { file: 0, line }, path.into()));
    }

    /// Tells of an address that is no card's; gives the card's.
    pub fn card(&mut self, line: usize, text: &str) -> Option<Mac> {
        match HardwareText::of(text) {
            HardwareText::Card(mac) => return Some(mac),
            HardwareText::Group(mac) => self.no_node(line, format!("{mac} is no machine's address but a group's, or none")),
            HardwareText::InfiniBand => self.no_node(line, "an InfiniBand address: muster boots by Ethernet"),
            HardwareText::Other => self.fault(line, format!("{text:?} is not a machine's MAC address")),
        }
        None
    }

    /// Lines counted from the beginning of a file that this was a part of; all of it is of that file.
    pub fn of_file(&mut self, file: usize) {
        self.found.iter_mut().for_each(|found| found.place.file = file);
        let remarks = [&mut self.faults, &mut self.no_nodes, &mut self.notes, &mut self.includes];
        remarks.into_iter().flatten().for_each(|(place, _)| place.file = file);
    }

    pub fn append(&mut self, mut other: ImportedFile) {
        self.found.append(&mut other.found);
        self.faults.append(&mut other.faults);
        self.no_nodes.append(&mut other.no_nodes);
        self.notes.append(&mut other.notes);
        self.includes.append(&mut other.includes);
    }

    /// There is nothing in it, not even something to say about it.
    pub fn is_empty(&self) -> bool {
        let remarks = [&self.faults, &self.no_nodes, &self.notes, &self.includes];
        self.found.is_empty() && remarks.iter().all(|remarks| remarks.is_empty())
    }
}

/// What the text of a hardware address names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HardwareText {
    Card(Mac),
    /// A multicast or broadcast address, or zeros.
    Group(Mac),
    InfiniBand,
    Other,
}

impl HardwareText {
    /// As files write it: octets of one digit or two with `:` or `-` between, `001e.670a.0b04`, `001e67-0a0b04`, twelve digits.
    pub fn of(text: &str) -> HardwareText {
        let parts: Vec<&str> = text.split([':', '-', '.']).collect();
        let digits = parts.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let short = |most: usize| parts.iter().all(|part| part.len() <= most);
        let exact = |len: usize| parts.iter().all(|part| part.len() == len);
        match parts.len() {
            _ if !digits => HardwareText::Other,
            20.. if short(2) => HardwareText::InfiniBand,
            6 if short(2) && !text.contains('.') => HardwareText::mac(&parts),
            3 if exact(4) => HardwareText::bare(&parts.concat()),
            2 if exact(6) => HardwareText::bare(&parts.concat()),
            1 if exact(12) => HardwareText::bare(text),
            1 if exact(40) => HardwareText::InfiniBand,
            _ => HardwareText::Other,
        }
    }

    fn bare(digits: &str) -> HardwareText {
        HardwareText::mac(&(0..12).step_by(2).filter_map(|at| digits.get(at..at + 2)).collect::<Vec<_>>())
    }

    fn mac(parts: &[&str]) -> HardwareText {
        let mut octets = [0; 6];
        for (octet, part) in octets.iter_mut().zip(parts) {
            match u8::from_str_radix(part, 16) {
                Ok(value) => *octet = value,
                Err(_) => return HardwareText::Other,
            }
        }
        let mac = Mac(octets);
        if mac.is_individual() { HardwareText::Card(mac) } else { HardwareText::Group(mac) }
    }
}

/// A card's MAC.
pub fn mac(text: &str) -> Option<Mac> {
    match HardwareText::of(text) {
        HardwareText::Card(mac) => Some(mac),
        _ => None,
    }
}

/// The MAC in a client identifier: 01 and the MAC (RFC 2132), or a DUID-LLT or DUID-LL of Ethernet, with or without an IAID before it.
pub fn client_id_mac(text: &str) -> Option<Mac> {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let octets: Option<Vec<u8>> = match parts.as_slice() {
        [digits] => (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()).collect(),
        parts => parts.iter().map(|part| u8::from_str_radix(part, 16).ok()).collect(),
    };
    let octets = octets?;
    let duid = match octets.as_slice() {
        [0xff, _, _, _, _, duid @ ..] => duid,
        all => all,
    };
    let own = match duid {
        [1, own @ ..] if own.len() == 6 => own,
        [0, 1, 0, 1, _, _, _, _, own @ ..] | [0, 3, 0, 1, own @ ..] if own.len() == 6 => own,
        _ => return None,
    };
    Some(Mac(own.try_into().ok()?)).filter(|mac| mac.is_individual())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_as_files_write_them() {
        let card = HardwareText::Card(Mac([0, 0x1e, 0x67, 0x0a, 0x0b, 4]));
        for text in ["00:1e:67:0a:0b:04", "0:1E:67:a:b:4", "00-1e-67-0A-0b-04", "001e.670a.0b04", "001e670a0b04", "001e67-0a0b04"] {
            assert_eq!(HardwareText::of(text), card, "{text}");
        }
        for text in ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "0:0:0:0:0:0"] {
            assert!(matches!(HardwareText::of(text), HardwareText::Group(_)), "{text}");
        }
        assert_eq!(HardwareText::of("80:00:02:08:fe:80:00:00:00:00:00:00:b8:ce:f6:03:00:10:20:30"), HardwareText::InfiniBand);
        for bad in ["", "52:54:00:00:00", "52:54:00:00:00:01:02", "52:54:00:00:00:g", "::::::", "001:2:3:4:5:6", "1.2.3.4.5.6", "10.54.1.1"]
        {
            assert_eq!(HardwareText::of(bad), HardwareText::Other, "{bad}");
        }
    }

    #[test]
    fn client_ids_that_are_macs() {
        let own = Some(Mac([0x9c, 0xdc, 0x71, 0, 0, 4]));
        for text in [
            "01:9c:dc:71:00:00:04",
            "019cdc71000004",
            "00:03:00:01:9c:dc:71:00:00:04",
            "00:01:00:01:2d:e1:75:7c:9c:dc:71:00:00:04",
            "ff:00:00:00:01:00:03:00:01:9c:dc:71:00:00:04",
        ] {
            assert_eq!(client_id_mac(text), own, "{text}");
        }
        for text in
            ["", "'n5'", "*", "01:02", "ä", "1", "ff:00:00:00:00:00:02:00:00:02:c9:00:00:02:c9:03:00:00:10:39", "01:00:00:00:00:00:00"]
        {
            assert_eq!(client_id_mac(text), None, "{text}");
        }
    }
}
