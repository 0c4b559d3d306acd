//! The formats that are read, and how a text shows which it is.

mod beowulf;
mod csv;
mod dnsmasq;
mod ethers;
mod isc;
mod json;
mod seen;
mod yaml;

use super::record::{HardwareText, ImportedFile};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Ethers,
    Dnsmasq,
    Isc,
    Kea,
    Beowulf,
    Csv,
    Leases,
    Arp,
    Json,
    Yaml,
}

impl Format {
    pub const ALL: [(Format, &'static str); 10] = [
        (Format::Ethers, "ethers"),
        (Format::Dnsmasq, "dnsmasq"),
        (Format::Isc, "isc"),
        (Format::Kea, "kea"),
        (Format::Beowulf, "beowulf"),
        (Format::Csv, "csv"),
        (Format::Leases, "leases"),
        (Format::Arp, "arp"),
        (Format::Json, "json"),
        (Format::Yaml, "yaml"),
    ];

    pub fn name(self) -> &'static str {
        Format::ALL.iter().find(|(format, _)| *format == self).map_or("", |(_, name)| *name)
    }

    /// What a text is, if it looks like any.
    pub fn guess(text: &str) -> Option<Format> {
        let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let first = |line: &str, word: &str| line.split_whitespace().next().is_some_and(|first| first.eq_ignore_ascii_case(word));
        let is_card = |word: &str| HardwareText::of(word) != HardwareText::Other;
        let card = |line: &str| line.split(['#', ';']).next().unwrap_or_default().split_whitespace().take(2).any(is_card);
        let field = |line: &str| line.split(',').map(str::trim).any(|field| is_card(field) || field.starts_with("id:"));
        if json::looks(text) {
            Some(if json::is_kea(text) { Format::Kea } else { Format::Json })
        } else if yaml::looks(text) {
            Some(Format::Yaml)
        } else if lines().any(|line| dnsmasq::option(line).is_some_and(|(name, _)| name.starts_with("dhcp-") || name.starts_with("conf-")))
        {
            Some(Format::Dnsmasq)
        } else if isc::looks(text) {
            Some(Format::Isc)
        } else if csv::looks(text) {
            Some(Format::Csv)
        } else if seen::are_leases(text) {
            Some(Format::Leases)
        } else if lines().any(|line| first(line, "node") && line.split_whitespace().any(is_card)) {
            Some(Format::Beowulf)
        } else if lines().any(|line| line.contains(',') && field(line)) {
            Some(Format::Dnsmasq)
        } else if seen::are_neighbours(text) {
            Some(Format::Arp)
        } else {
            let (all, cards) = (lines().count(), lines().filter(|line| card(line)).count());
            (cards > 0 && cards * 2 >= all).then_some(Format::Ethers)
        }
    }

    pub fn read(self, text: &str) -> ImportedFile {
        match self {
            Format::Ethers => ethers::read(text),
            Format::Dnsmasq => dnsmasq::read(text),
            Format::Isc => isc::read(text),
            Format::Kea | Format::Json => json::read(text),
            Format::Yaml => yaml::read(text),
            Format::Beowulf => beowulf::read(text),
            Format::Csv => csv::read(text),
            Format::Leases => seen::leases(text),
            Format::Arp => seen::neighbours(text),
        }
    }
}

/// What a text is that no reader here knows, for the one line that says so.
pub fn stranger(text: &str) -> &'static str {
    let has = |word: &str| text.lines().any(|line| line.trim_start().starts_with(word));
    if has("<?xml") || has("<") {
        "XML, as of libvirt, pfSense or OPNsense"
    } else if has("config host") {
        "OpenWrt's UCI"
    } else if has("---") || has("- ") {
        "YAML, and not that of Warewulf or OpenCHAMI"
    } else if has("Object name:") {
        "xCAT's lsdef"
    } else if has("/ip dhcp-server") || has("add address=") {
        "a MikroTik export"
    } else {
        "none that muster knows"
    }
}

/// The length of a text in quotes, with them; `\"` does not end it.
fn quoted_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_what_is_in_them() {
        for (text, format) in [
            ("# comment\n52:54:00:00:00:01 n1\n", Format::Ethers),
            ("52:54:00:00:00:01\n52:54:00:00:00:02\n", Format::Ethers),
            ("domain=x\ndhcp-host=52:54:00:00:00:01,n1\n", Format::Dnsmasq),
            ("52:54:00:00:00:01,n1,10.0.0.1\n", Format::Dnsmasq),
            ("52:54:00:00:00:01,n1\n52:54:00:00:00:02,n2\n52:54:00:00:00:03\n", Format::Dnsmasq),
            ("subnet 10.0.0.0 netmask 255.0.0.0 {}\nhost a { hardware ethernet 0:0:0:0:0:1; }\n", Format::Isc),
            ("host a { hardware\tethernet 0:0:0:0:0:1; }\n", Format::Isc),
            ("// Kea\n{ \"Dhcp4\": {} }\n", Format::Kea),
            ("\"reservations\": [ { } ]\n", Format::Kea),
            ("[{\"name\":\"a\",\"interfaces\":[]}]\n", Format::Json),
            ("iprange 10.0.0.1 10.0.0.9\nnode 52:54:00:00:00:01\n", Format::Beowulf),
            ("node,mac\nn1,52:54:00:00:00:01\n", Format::Csv),
            ("nodeprofiles: {}\nnodes:\n  n1:\n    network devices:\n      default:\n        hwaddr: 52:54:00:00:00:01\n", Format::Yaml),
            ("1780000000 52:54:00:00:00:01 10.54.1.1 n1 *\n", Format::Leases),
            ("10.54.1.1 dev eth1 lladdr 52:54:00:00:00:01 STALE\n", Format::Arp),
        ] {
            assert_eq!(Format::guess(text), Some(format), "{text}");
        }
        for (text, what) in [
            ("---\n- hosts: all\n", "YAML"),
            ("<network>\n<host mac='52:54:00:00:00:01' name='n1'/>\n</network>\n", "XML"),
            ("config host\n\toption mac '52:54:00:00:00:01'\n", "UCI"),
            ("hello\nworld\n", "none"),
        ] {
            assert_eq!(Format::guess(text), None, "{text}");
            assert!(stranger(text).contains(what), "{text}");
        }
    }

    #[test]
    fn no_text_panics() {
        const PIECES: [&str; 24] = [
            "host",
            "{",
            "}",
            ";",
            "\"",
            "dhcp-host=",
            ",",
            "node",
            "52:54:00:00:00:01",
            "10.0.0.1",
            "/*",
            "#",
            "\n",
            "\\",
            "[",
            ":",
            "ä",
            "99999999999",
            "mac,node\n",
            "<?include",
            "1-",
            "id:",
            "01:",
            "\"hw-address\":",
        ];
        let mut state = 1u64;
        for _ in 0..3000 {
            let mut text = String::new();
            for _ in 0..12 {
                state = muster::base::rng::mix(state);
                text.push_str(PIECES[state as usize % PIECES.len()]);
                text.push_str(if state & 1 << 40 == 0 { " " } else { "" });
            }
            Format::guess(&text);
            stranger(&text);
            Format::ALL.iter().for_each(|(format, _)| drop(format.read(&text)));
        }
    }
}
