//! `host` declarations of ISC dhcpd's config (dhcpd.conf(5)), wherever they stand, and of its leases file (dhcpd.leases(5)), where the last
//! declaration of a label counts and may say that the host is deleted. A leases file without any host is a list of whom dhcpd has seen. Labels are unique there and names are not: `option host-name` is the
//! machine's name, and without one the label without the interface or the MAC at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::super::super::table::counted;
use super::super::names;
use super::super::record::{ImportedFile, ImportedMachine, client_id_mac};
use super::quoted_len;

/// A word, a text in quotes, or one of `{ } ; , =`, with its line.
struct Token<'a> {
    line: usize,
    text: &'a str,
    quoted: bool,
}

impl Token<'_> {
    fn is(&self, word: &str) -> bool {
        !self.quoted && self.text.eq_ignore_ascii_case(word)
    }
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let mut rest = content.trim_start();
        while let Some(first) = rest.chars().next().filter(|first| *first != '#') {
            let quoted = first == '"';
            let len = match first {
                '{' | '}' | ';' | ',' | '=' => 1,
                '"' => quoted_len(rest),
                _ => rest.find(|c: char| c.is_whitespace() || "{};,=#\"".contains(c)).unwrap_or(rest.len()),
            };
            let (token, after) = rest.split_at(len);
            tokens.push(Token { line, text: token.trim_matches('"'), quoted });
            rest = after.trim_start();
        }
    }
    tokens
}

/// Whether a text has hosts in it.
pub fn looks(text: &str) -> bool {
    let tokens = tokens(text);
    tokens.windows(3).any(|three| match three {
        [first, second, third] => {
            let host = first.is("host") && third.is("{") || first.is("lease") && third.is("{");
            host || first.is("hardware") && second.is("ethernet") || first.is("subnet") && third.is("netmask")
        }
        _ => false,
    })
}

/// A host as its declaration says.
struct Host {
    found: ImportedMachine,
    label: String,
    deleted: bool,
    /// The leases file's, where a later declaration replaces the earlier.
    dynamic: bool,
    /// A lease that is in force.
    active: bool,
    /// Its hardware has been told of already.
    told: bool,
}

pub fn read(text: &str) -> ImportedFile {
    let mut read = ImportedFile::default();
    let tokens = tokens(text);
    let mut hosts: Vec<Host> = Vec::new();
    let mut leases: BTreeMap<&str, Host> = BTreeMap::new();
    let mut rest = tokens.as_slice();
    while let Some((first, after)) = rest.split_first() {
        rest = match after {
            [name, open, body @ ..] if first.is("host") && open.is("{") => {
                let end = end(body);
                let host = host(&mut read, name, body.get(..end).unwrap_or_default());
                if end == body.len() {
                    read.note(name.line, format!("host {} has no closing brace", name.text));
                }
                if host.dynamic || host.deleted {
                    let before = hosts.iter().filter(|other| other.label == host.label && !other.deleted);
                    before
                        .for_each(|other| read.no_node(other.found.place.line, format!("host {}: line {} counts", host.label, name.line)));
                    hosts.retain(|other| other.label != host.label);
                }
                hosts.push(host);
                body.get(end..).unwrap_or_default()
            }
            [address, open, body @ ..] if first.is("lease") && open.is("{") => {
                let end = end(body);
                // What is wrong with a lease is worth no word where there are hosts.
                let mut lease = host(&mut ImportedFile::default(), address, body.get(..end).unwrap_or_default());
                lease.found.addresses.extend(address.text.parse::<Ipv4Addr>());
                // The last one of an address counts.
                leases.insert(address.text, lease);
                body.get(end..).unwrap_or_default()
            }
            [path, ..] if first.is("include") && path.quoted => {
                read.include(first.line, path.text);
                after
            }
            [class, member, ..] if first.is("subclass") => {
                read.fault(first.line, format!("member {} of class {} has no name and no address", member.text, class.text));
                after
            }
            _ => after,
        };
    }
    if hosts.is_empty() {
        seen(&mut read, leases.into_values());
    } else if !leases.is_empty() {
        read.note(0, format!("{} passed over, as there are host declarations", counted(leases.len() as u64, "lease")));
    }
    settle(&mut read, hosts);
    read
}

/// Leases become machines while they are in force.
fn seen(read: &mut ImportedFile, leases: impl Iterator<Item = Host>) {
    let mut leases: Vec<Host> = leases.collect();
    leases.sort_by_key(|lease| lease.found.place);
    for Host { found, active, label, .. } in leases {
        match active {
            true => read.found.push(found),
            false => read.no_node(found.place.line, format!("the lease of {label} is not active")),
        }
    }
}

/// Names the hosts by what they are called, and leaves the deleted ones out.
fn settle(read: &mut ImportedFile, hosts: Vec<Host>) {
    let gone: BTreeSet<String> = hosts.iter().filter(|host| host.deleted).map(|host| host.label.clone()).collect();
    let live: BTreeSet<String> = hosts.iter().filter(|host| !host.deleted).map(|host| host.label.clone()).collect();
    for Host { mut found, label, deleted, told, .. } in hosts {
        let line = found.place.line;
        let name = names::of_label(&label, &found.macs);
        if deleted {
            read.no_node(line, format!("host {label} is deleted"));
            continue;
        }
        if names::has_no_address(&label) && gone.contains(&name) && !live.contains(&name) {
            read.no_node(line, format!("host {label} is a card of {name}, which is deleted"));
            continue;
        }
        if found.name.is_empty() {
            found.name = name;
        }
        if found.name != label {
            found.label = label;
        }
        if !(told && found.macs.is_empty()) {
            read.found.push(found);
        }
    }
}

/// Where a block ends whose first token this is.
fn end(body: &[Token<'_>]) -> usize {
    let mut depth = 1;
    for (at, token) in body.iter().enumerate() {
        match token.text {
            "{" if !token.quoted => depth += 1,
            "}" if !token.quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    body.len()
}

fn host(read: &mut ImportedFile, name: &Token<'_>, body: &[Token<'_>]) -> Host {
    let found = ImportedMachine::at(name.line);
    let mut host = Host { found, label: name.text.to_string(), deleted: false, dynamic: false, active: false, told: false };
    let mut identified = None;
    for statement in body.split(|token| token.is(";") || token.is("{") || token.is("}")) {
        let words: Vec<&str> = statement.iter().map(|token| token.text).collect();
        let lower: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
        let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
        let line = statement.first().map_or(name.line, |token| token.line);
        match (lower.as_slice(), words.as_slice()) {
            (["hardware", "ethernet", ..], [_, _, text, ..]) => {
                let before = host.found.macs.len();
                host.found.macs.extend(read.card(statement.get(2).map_or(line, |token| token.line), text));
                host.told |= host.found.macs.len() == before;
            }
            (["hardware", kind, ..], _) => {
                read.no_node(line, format!("host {}: its hardware is {kind}; muster boots by Ethernet", host.label));
                host.told = true;
            }
            (["fixed-address", ..], [_, places @ ..]) => {
                for place in places.iter().filter(|place| **place != ",") {
                    match place.parse() {
                        Ok(address) => host.found.addresses.push(address),
                        Err(_) if host.found.name.is_empty() => host.found.name = names::of_label(place, &host.found.macs),
                        Err(_) => {}
                    }
                }
            }
            (["option" | "supersede" | "send", "host-name", ..] | ["client-hostname", ..], [.., text]) => {
                host.found.name = text.to_string()
            }
            (["uid", ..] | ["option" | "host-identifier", "dhcp-client-identifier", ..], [.., text])
            | (["host-identifier", "option", "dhcp-client-identifier", ..], [.., text]) => identified = client_id_mac(text),
            (["deleted"], _) => host.deleted = true,
            (["binding", "state", "active"], _) => host.active = true,
            (["dynamic"], _) => host.dynamic = true,
            _ => {}
        }
    }
    if host.found.macs.is_empty() && !host.told {
        host.found.macs.extend(identified);
    }
    host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_wherever_they_stand() {
        let text = "option host-name \"host\";\ngroup {\n  host n1 { # first\n    hardware\tethernet 0:50:56:0:0:1;\n    fixed-address 10.54.1.1, 10.54.9.9;\n  }\n\
                    \x20 HOST n2 { fixed-address n2.cluster; Hardware Ethernet 00:50:56:00:00:02; if known { allow booting; } }\n}\n\
                    host n3 { fixed-address 10.54.1.3; }\nhost n4 { hardware ethernet 12; }\nhost n5 { hardware ethernet 00:50:56:00:00:05";
        assert!(looks(text) && !looks("hardware"));
        let read = read(text);
        let shown: Vec<_> =
            read.found.iter().map(|found| (found.place.line, found.name.as_str(), found.macs.len(), found.addresses.len())).collect();
        assert_eq!(shown, [(3, "n1", 1, 2), (7, "n2.cluster", 1, 0), (9, "n3", 0, 1), (11, "n5", 1, 0)]);
        assert_eq!(read.faults.iter().map(|(place, _)| place.line).collect::<Vec<_>>(), [10]);
        assert_eq!(read.notes[0].1, "host n5 has no closing brace");
    }

    #[test]
    fn a_brace_in_quotes_is_none_and_a_client_id_may_be_a_mac() {
        let text = "host a { option agent.circuit-id \"}\\\"{\"; uid 01:00:50:56:00:00:01; }\ninclude \"/etc/b\";\nsubclass \"nodes\" 1:00:50:56:00:00:02;\n\
                    lease 10.0.0.1 { hardware ethernet 00:50:56:00:00:03; }\n";
        let read = read(text);
        assert_eq!((read.found.len(), read.found[0].macs.len(), read.includes[0].1.as_str()), (1, 1, "/etc/b"));
        assert_eq!((read.faults[0].0.line, read.notes.len()), (3, 1));
    }

    #[test]
    fn leases_count_where_there_is_no_host() {
        let lease = |address: &str, state: &str, mac: u8, name: &str| {
            format!(
                "lease {address} {{\n binding state {state};\n next binding state free;\n hardware ethernet 00:50:56:00:00:0{mac};\n client-hostname \"{name}\";\n}}\n"
            )
        };
        let text =
            [lease("10.54.1.1", "active", 1, "a"), lease("10.54.1.2", "free", 2, "b"), lease("10.54.1.1", "active", 3, "c")].concat();
        let told = read(&text);
        let shown: Vec<_> =
            told.found.iter().map(|found| (found.place.line, found.name.as_str(), found.macs[0].0[5], found.addresses.len())).collect();
        assert_eq!((shown, told.no_nodes.len()), (vec![(13, "c", 3, 1)], 1));
        let beside = read(&format!("{text}host x {{ hardware ethernet 00:50:56:00:00:09; }}"));
        assert_eq!((beside.found.len(), beside.notes.len()), (1, 1));
    }

    #[test]
    fn the_last_declaration_of_the_leases_file_counts() {
        let host = |label: &str, mac: u8| format!("host {label} {{ dynamic; hardware ethernet 00:50:56:00:00:0{mac}; }}\n");
        let gone = |label: &str| format!("host {label} {{ dynamic; deleted; }}\n");
        let text = [host("a", 1), host("b", 2), host("b-noip005056000003", 3), gone("a"), host("a", 4), gone("b")].concat();
        let read = read(&text);
        assert_eq!((read.found.len(), read.found[0].macs[0].0[5], read.found[0].place.line), (1, 4, 5));
        assert_eq!(read.no_nodes.iter().map(|(place, _)| place.line).collect::<Vec<_>>(), [1, 2, 3, 6]);
        assert!(read.faults.is_empty());
    }
}
