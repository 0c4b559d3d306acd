//! `dhcp-host` lines (dnsmasq(8)), from dnsmasq's config or from a file of `dhcp-hostsfile`, each of whose lines is one: fields between commas,
//! distinguished by how they look. Everything else in the config is passed over, but for the files that it names.

use std::net::Ipv4Addr;

use super::super::record::{HardwareText, ImportedFile, ImportedMachine, client_id_mac};

/// Options that name other files with hosts in them.
const INCLUDES: [&str; 4] = ["dhcp-hostsfile", "dhcp-hostsdir", "conf-file", "conf-dir"];

/// What a line sets, and to what.
pub fn option(content: &str) -> Option<(&str, &str)> {
    let (name, value) = content.trim_start_matches("--").split_once('=')?;
    let name = name.trim();
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-').then_some((name, value.trim()))
}

pub fn read(text: &str) -> ImportedFile {
    let mut read = ImportedFile::default();
    let config = text.lines().any(|content| option(content.trim()).is_some());
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.split('#').next().unwrap_or_default().trim();
        match option(content) {
            Some((name, value)) if name.eq_ignore_ascii_case("dhcp-host") => host(&mut read, line, value),
            Some((name, value)) if INCLUDES.contains(&name) => read.include(line, value.split(',').next().unwrap_or_default()),
            Some(_) => {}
            None if content.is_empty() => {}
            // A word alone in a config is a switch.
            None if config && !content.split(',').any(|field| hardware(field.trim()) != Field::Other) => {}
            None => host(&mut read, line, content),
        }
    }
    read
}

fn host(read: &mut ImportedFile, line: usize, value: &str) {
    let mut found = ImportedMachine::at(line);
    let (mut cards, mut identified) = (0, None);
    for field in value.split(',').map(str::trim).filter(|field| !field.is_empty()) {
        if field == "ignore" {
            return read.no_node(line, format!("dnsmasq ignores {value}"));
        }
        match hardware(field) {
            Field::Hardware(text) => {
                cards += 1;
                found.macs.extend(read.card(line, text));
            }
            Field::Strange(kind) => {
                return read.fault(line, format!("{field}: hardware type {kind} is not Ethernet, which is 1"));
            }
            Field::Pattern => return read.no_node(line, format!("{field} matches several machines")),
            Field::Other => match field.parse::<Ipv4Addr>() {
                Ok(address) => found.addresses.push(address),
                Err(_) if field.starts_with("id:") => identified = field.get(3..),
                Err(_) if is_setting(field) => {}
                Err(_) => found.name = field.to_string(),
            },
        }
    }
    if cards == 0 {
        found.macs.extend(identified.and_then(client_id_mac));
    }
    if cards == 0 || !found.macs.is_empty() {
        read.found.push(found);
    }
}

#[derive(PartialEq)]
enum Field<'a> {
    Hardware(&'a str),
    /// Of another type of hardware.
    Strange(&'a str),
    Pattern,
    Other,
}

/// `52:54:00:00:00:01`, also with the hardware type before it: `1-52:54:00:00:00:01`.
fn hardware(field: &str) -> Field<'_> {
    if field.starts_with("id:") || field.starts_with('[') {
        return Field::Other;
    }
    if field.contains('*') && field.contains(':') {
        return Field::Pattern;
    }
    if HardwareText::of(field) != HardwareText::Other {
        return Field::Hardware(field);
    }
    match field.split_once('-').map(|(kind, rest)| (kind, rest, HardwareText::of(rest))) {
        None | Some((_, _, HardwareText::Other)) => Field::Other,
        Some((_, rest, HardwareText::InfiniBand)) => Field::Hardware(rest),
        Some(("1" | "01", rest, _)) => Field::Hardware(rest),
        Some((kind, rest, _)) if rest.contains(':') && kind.bytes().all(|byte| byte.is_ascii_hexdigit()) => Field::Strange(kind),
        Some(_) => Field::Other,
    }
}

/// Tags, IPv6 addresses, lease times.
fn is_setting(field: &str) -> bool {
    let (digits, unit) = field.split_at(field.find(|c: char| !c.is_ascii_digit()).unwrap_or(field.len()));
    let time = !digits.is_empty() && matches!(unit, "" | "s" | "m" | "h" | "d" | "w");
    time || field == "infinite" || field.starts_with('[') || ["set:", "tag:", "net:"].iter().any(|prefix| field.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_in_any_order() {
        let text = "interface=eth1\n#dhcp-host=52:54:00:00:00:09,old\ndhcp-host=52:54:00:00:00:01,52:54:00:00:00:02,set:rack,10.54.1.1,n1,12h\n\
                    dhcp-host = n2,1-52:54:00:00:00:03,infinite,[fe80::1]\ndhcp-host=id:x,n3\ndhcp-host=52:54:00:*:*:*,n4\n52:54:00:00:00:05,n5\n\
                    dhcp-host=52:54:00:00:00:06,ignore\nbind-dynamic\ndhcp-hostsfile=/etc/hosts.d\ndhcp-host=11-52:54:00:00:00:07,n7\n";
        let read = read(text);
        let shown: Vec<_> =
            read.found.iter().map(|found| (found.place.line, found.name.as_str(), found.macs.len(), found.addresses.len())).collect();
        assert_eq!(shown, [(3, "n1", 2, 1), (4, "n2", 1, 0), (5, "n3", 0, 0), (7, "n5", 1, 0)]);
        assert_eq!(read.no_nodes.iter().map(|(place, _)| place.line).collect::<Vec<_>>(), [6, 8]);
        assert_eq!(read.faults.iter().map(|(place, _)| place.line).collect::<Vec<_>>(), [11]);
        assert_eq!(read.includes[0].1, "/etc/hosts.d");
    }

    #[test]
    fn each_line_of_a_hosts_file_is_a_host() {
        let read = read(
            "set:a,52:54:00:00:00:01,n1\n\nn2,52:54:00:00:00:02,10.54.1.2\n52:54:00:00:00:03\nid:01:52:54:00:00:00:04,n4\nid:*,n5,525400000005\nid:ff:00,x\n",
        );
        let shown: Vec<_> = read.found.iter().map(|found| (found.place.line, found.name.as_str(), found.macs.len())).collect();
        assert_eq!(shown, [(1, "n1", 1), (3, "n2", 1), (4, "", 1), (5, "n4", 1), (6, "n5", 1), (7, "x", 0)]);
    }
}
