//! dnsmasq's `dhcp-host` lines (dnsmasq(8)), from its config or from a file of `--dhcp-hostsfile`: fields between commas, distinguished by
//! how they look. Everything else in the config is passed over.

use std::net::Ipv4Addr;

use super::{ImportedFile, ImportedMachine, mac};

pub fn read(text: &str) -> ImportedFile {
    let mut read = ImportedFile::default();
    for (line, content) in text.lines().enumerate().map(|(at, content)| (at + 1, content.trim())) {
        let value = content.trim_start_matches("--").strip_prefix("dhcp-host").map(str::trim_start).and_then(|rest| rest.strip_prefix('='));
        // A line of a hosts file begins with the MAC itself.
        let bare = || Some(content).filter(|content| content.split(',').next().is_some_and(|first| hardware(first.trim()).is_some()));
        if let Some(value) = value.or_else(bare) {
            host(&mut read, line, value.split('#').next().unwrap_or_default());
        }
    }
    read
}

fn host(read: &mut ImportedFile, line: usize, value: &str) {
    let mut found = ImportedMachine { line, ..ImportedMachine::default() };
    for field in value.split(',').map(str::trim).filter(|field| !field.is_empty()) {
        if field == "ignore" {
            return read.fault(line, "dnsmasq ignores this machine");
        }
        if let Some(mac) = hardware(field) {
            found.macs.push(mac);
        } else if let Ok(address) = field.parse::<Ipv4Addr>() {
            found.address = Some(address);
        } else if field.contains('*') {
            return read.fault(line, format!("{field} matches several machines"));
        } else if !is_setting(field) {
            found.name = field.to_string();
        }
    }
    match found.macs.is_empty() {
        true => read.fault(line, "it has no MAC address, the only identification that muster knows"),
        false => read.found.push(found),
    }
}

/// `52:54:00:00:00:01`, also with the hardware type before it: `1-52:54:00:00:00:01`.
fn hardware(field: &str) -> Option<muster::base::addr::Mac> {
    mac(field).or_else(|| field.split_once('-').filter(|(kind, _)| *kind == "1" || *kind == "01").and_then(|(_, rest)| mac(rest)))
}

/// Client-ids, tags, IPv6 addresses, lease times.
fn is_setting(field: &str) -> bool {
    let (digits, unit) = field.split_at(field.find(|c: char| !c.is_ascii_digit()).unwrap_or(field.len()));
    let time = !digits.is_empty() && matches!(unit, "" | "s" | "m" | "h" | "d" | "w");
    time || field == "infinite" || field.starts_with('[') || ["id:", "set:", "tag:", "net:"].iter().any(|prefix| field.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_in_any_order() {
        let text = "interface=eth1\n#dhcp-host=52:54:00:00:00:09,old\ndhcp-host=52:54:00:00:00:01,52:54:00:00:00:02,set:rack,10.54.1.1,n1,12h\n\
                    dhcp-host = n2,1-52:54:00:00:00:03,infinite,[fe80::1]\ndhcp-host=id:x,n3\ndhcp-host=52:54:00:*:*:*,n4\n52:54:00:00:00:05,n5\n\
                    dhcp-host=52:54:00:00:00:06,ignore\n";
        let read = read(text);
        let shown: Vec<_> = read.found.iter().map(|found| (found.line, found.name.as_str(), found.macs.len(), found.address)).collect();
        assert_eq!(shown, [(3, "n1", 2, Some([10, 54, 1, 1].into())), (4, "n2", 1, None), (7, "n5", 1, None)]);
        assert_eq!(read.faults.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [5, 6, 8]);
    }
}
