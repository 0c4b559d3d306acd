//! JSON: reservations of Kea (objects with `hw-address` and their like, in its config, in `reservation-get-all`, in a part of a config), and
//! machines of Cobbler, Grendel and OpenCHAMI (objects with `interfaces`), and of Warewulf, whose YAML becomes the same values. Kea's JSON may have comments, commas too many, and
//! `<?include "FILE"?>`, which is named and not read.

use serde_json::Value;

use super::super::record::{HardwareText, ImportedFile, ImportedMachine, client_id_mac};
use super::quoted_len;

/// How deep values are looked through.
const DEPTH_MAX: usize = 64;
/// By what Kea knows a host.
const IDENTIFIERS: [&str; 5] = ["hw-address", "client-id", "duid", "circuit-id", "flex-id"];
const MACS: [&str; 6] = ["mac", "mac_address", "macaddress", "mac_addr", "macaddr", "hwaddr"];
const ADDRESSES: [&str; 5] = ["ip", "ip_address", "ipaddress", "ip_addr", "ipaddr"];

pub fn read(text: &str) -> ImportedFile {
    let mut read = ImportedFile::default();
    let plain = plain(&mut read, text);
    // A part of a config: fields without their object, or objects without their list.
    let wrapped = [plain.clone(), format!("{{{plain}}}"), format!("[{plain}]")];
    let mut wrong = None;
    for text in &wrapped {
        match serde_json::from_str::<Value>(text) {
            Ok(value) => {
                walk(&mut read, &value, &plain);
                return read;
            }
            Err(error) => wrong = wrong.or(Some(error)),
        }
    }
    if let Some(error) = wrong {
        read.fault(error.line(), format!("this is not JSON: {error}"));
    }
    read
}

/// Looks through values for machines; the text is that which they came from.
pub fn walk(read: &mut ImportedFile, value: &Value, text: &str) {
    Reader { read, text, seen: 0 }.walk(value, "", 0);
}

/// The text without comments, includes and commas too many, all of which become blanks, so that everything else keeps its place.
fn plain(read: &mut ImportedFile, text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    // Where the last comma is, if only blanks came since; and whether a value came since the last one or the last bracket.
    let (mut comma, mut value) = (None, false);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let blank = match first {
            '#' => rest.find('\n'),
            '/' if rest.starts_with("//") => rest.find('\n'),
            '/' if rest.starts_with("/*") => rest.find("*/").map(|at| at + 2),
            '<' if rest.starts_with("<?include") => {
                let end = rest.find("?>").map(|at| at + 2);
                let path = rest.get(..end.unwrap_or(rest.len())).and_then(|part| part.split('"').nth(1)).unwrap_or("?");
                read.include(1 + plain.matches('\n').count(), path);
                end
            }
            _ => Some(0),
        }
        .unwrap_or(rest.len());
        if blank > 0 {
            let (part, after) = rest.split_at(blank);
            plain.extend(part.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
            rest = after;
            continue;
        }
        let len = if first == '"' { quoted_len(rest) } else { first.len_utf8() };
        match first {
            ',' if !value => plain.push(' '),
            ',' => {
                comma = Some(plain.len());
                value = false;
                plain.push(',');
            }
            _ => {
                if matches!(first, ']' | '}') {
                    comma.take().into_iter().for_each(|at| plain.replace_range(at..at + 1, " "));
                }
                if !first.is_whitespace() {
                    comma = None;
                    value = !matches!(first, '[' | '{');
                }
                plain.push_str(rest.get(..len).unwrap_or_default());
            }
        }
        rest = rest.get(len..).unwrap_or_default();
    }
    if let Some(at) = comma {
        plain.replace_range(at..at + 1, " ");
    }
    plain
}

struct Reader<'a> {
    read: &'a mut ImportedFile,
    text: &'a str,
    /// How much of the text the machines found so far cover.
    seen: usize,
}

/// A text of a field, whatever the case of its name; the first of several names.
fn field<'a>(value: &'a Value, names: &[&str]) -> &'a str {
    let Value::Object(fields) = value else { return "" };
    let of = |name: &&str| fields.iter().find(|(key, _)| key.to_lowercase() == **name).and_then(|(_, value)| value.as_str());
    names.iter().find_map(of).unwrap_or_default()
}

impl Reader<'_> {
    /// `key`: what the value is called in its mapping.
    fn walk(&mut self, value: &Value, key: &str, depth: usize) {
        if depth > DEPTH_MAX {
            return;
        }
        match value {
            // Kea's way to say which identifiers it uses is a list of words, not an object.
            Value::Object(_) if IDENTIFIERS.iter().any(|name| value.get(name).is_some_and(Value::is_string)) => self.reservation(value),
            Value::Object(fields) => match fields.iter().find(|(key, value)| is_interfaces(key, value)) {
                Some((_, interfaces)) => self.host(value, key, interfaces),
                None if !field(value, &MACS).is_empty() => self.interface(value, "", value, key),
                None => fields.iter().for_each(|(name, value)| match value {
                    // Warewulf: a node may have nothing but its name.
                    Value::Object(nodes) if name == "nodes" => nodes.iter().for_each(|(name, node)| self.node(node, name, depth + 1)),
                    // What many nodes have in common is no node.
                    _ if name == "nodeprofiles" => {}
                    _ => self.walk(value, name, depth + 1),
                }),
            },
            Value::Array(list) => list.iter().for_each(|value| self.walk(value, key, depth + 1)),
            _ => {}
        }
    }

    fn node(&mut self, node: &Value, name: &str, depth: usize) {
        let before = self.read.found.len() + self.read.faults.len();
        self.walk(node, name, depth);
        if self.read.found.len() + self.read.faults.len() == before {
            self.seen = 0;
            let line = self.line(&[&format!("{name}:")]);
            self.read.found.push(ImportedMachine { name: name.to_string(), ..ImportedMachine::at(line) });
        }
    }

    /// The parser tells no lines: the words themselves are looked for. serde_json keeps fields in order of their names, not of the text.
    fn line(&mut self, marks: &[&str]) -> usize {
        let Some(mark) = marks.iter().find(|mark| !mark.is_empty()) else { return 0 };
        let from = |start: usize| self.text.get(start..).and_then(|rest| rest.find(mark)).map(|at| start + at);
        let at = from(self.seen).or_else(|| from(0)).unwrap_or(0);
        self.seen = at + mark.len();
        1 + self.text.get(..at).map_or(0, |before| before.matches('\n').count())
    }

    fn reservation(&mut self, value: &Value) {
        let [hardware, client_id, duid, ..] = IDENTIFIERS.map(|name| field(value, &[name]));
        let (name, address) = (field(value, &["hostname"]), field(value, &["ip-address"]));
        let line = self.line(&[hardware, client_id, duid, name, address]);
        let mac = match hardware.is_empty() {
            false => self.read.card(line, hardware),
            true => client_id_mac(client_id).or_else(|| client_id_mac(duid)),
        };
        if hardware.is_empty() || mac.is_some() {
            let addresses = address.parse().into_iter().collect();
            let macs = mac.into_iter().collect();
            self.read.found.push(ImportedMachine { name: name.to_string(), macs, addresses, ..ImportedMachine::at(line) });
        }
    }

    /// A machine with its interfaces, each an entry of its own: they become one by their name.
    fn host(&mut self, value: &Value, key: &str, interfaces: &Value) {
        match interfaces {
            Value::Object(fields) => fields.iter().for_each(|(name, interface)| self.interface(interface, name, value, key)),
            Value::Array(list) => list.iter().for_each(|interface| self.interface(interface, "", value, key)),
            _ => {}
        }
        for (name, own) in value.as_object().into_iter().flatten() {
            let other = name.to_lowercase().contains("mac").then(|| super::super::names::other_kind(name)).flatten();
            if let (Some(kind), Some(text)) = (other, own.as_str().filter(|text| !text.is_empty())) {
                let line = self.line(&[text]);
                self.read.no_node(line, format!("{text} is that of {kind}"));
            }
        }
    }

    /// A card of a host; `own` and `key`: what the two are called in their mappings.
    fn interface(&mut self, interface: &Value, own: &str, host: &Value, key: &str) {
        let text = field(interface, &MACS);
        let name = [field(host, &["hostname", "host-name"]), field(host, &["name", "node", "fqdn", "componentid"]), key];
        let name = name.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
        let line = self.line(&[text, own, name]);
        if text.is_empty() {
            return self.read.no_node(line, format!("an interface of {name} has no MAC address"));
        }
        let kind = [field(interface, &["interface_type", "type"]), field(interface, &["ifname", "name", "device", "description"]), own];
        let bmc = interface.get("bmc").and_then(Value::as_bool).unwrap_or(false);
        if let Some(kind) = bmc.then_some("a BMC").or_else(|| kind.iter().find_map(|kind| super::super::names::other_kind(kind))) {
            return self.read.no_node(line, format!("{text} of {name} is that of {kind}"));
        }
        if let Some(mac) = self.read.card(line, text) {
            let address = field(interface, &ADDRESSES).split('/').next().and_then(|address| address.parse().ok());
            let listed = ["IPAddresses", "ip_addrs"].iter().find_map(|name| interface.get(name)?.as_array()).into_iter().flatten();
            let listed = listed.filter_map(|one| field(one, &ADDRESSES).parse().ok());
            let addresses = address.into_iter().chain(listed).collect();
            self.read.found.push(ImportedMachine { name: name.to_string(), macs: vec![mac], addresses, ..ImportedMachine::at(line) });
        }
    }
}

/// Whether these are the interfaces of a machine, and not the names that a server listens on.
fn is_interfaces(key: &str, value: &Value) -> bool {
    let named = ["interfaces", "network devices"].contains(&key.to_lowercase().as_str());
    named
        && match value {
            Value::Object(fields) => fields.values().any(Value::is_object),
            Value::Array(list) => list.iter().any(Value::is_object),
            _ => false,
        }
}

/// Whether a text is more likely one of Kea's.
pub fn is_kea(text: &str) -> bool {
    ["hw-address", "Dhcp4", "reservations", "<?include"].iter().any(|word| text.contains(word))
}

/// Whether an address is written as Kea's or another's JSON would.
pub fn looks(text: &str) -> bool {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#') && !line.starts_with("//"));
    first.is_some_and(|line| line.starts_with(['{', '[']) || line.starts_with("/*") || line.starts_with("<?include"))
        || first.is_some_and(|line| {
            line.starts_with('"') && line.contains(':') && HardwareText::of(line.trim_matches('"')) == HardwareText::Other
        }) && text.contains(['{', '['])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_wherever_they_stand() {
        let text = r#"// Kea
{ "Dhcp4": {
    "reservations": [ { "hw-address": "52:54:00:00:00:01", "ip-address": "10.54.1.1", "hostname": "n1" } ], # global
    /* subnets
       follow */
    "subnet4": [ { "id": 1, "comment": "no // comment, no \" end",
        "reservations": [
            { "hostname": "n2", "hw-address": "52:54:00:00:00:02" },
            { "client-id": "01:02", "ip-address": "10.54.1.3" },
            { "hw-address": "52:54:00:00:00:01", "hostname": "again" } ] } ] } }
"#;
        let read = read(text);
        let mut shown: Vec<_> = read.found.iter().map(|found| (found.place.line, found.name.as_str(), found.macs.len())).collect();
        shown.sort();
        assert_eq!(shown, [(3, "n1", 1), (8, "n2", 1), (9, "", 0), (10, "again", 1)]);
        assert_eq!(super::read("{\n\"a\": }").faults[0].0.line, 2);
        assert!(super::read("{}").found.is_empty());
    }

    #[test]
    fn commas_includes_and_parts() {
        let mut told = ImportedFile::default();
        let text = "[ <?include \"/a\"?> , 1, # x, ,\n \"ä,]\", [2,], <?include \"/b\"?> ,]";
        assert_eq!(plain(&mut told, text).replace(' ', ""), "[1,\n\"ä,]\",[2]]");
        assert_eq!(told.includes.iter().map(|(place, path)| (place.line, path.as_str())).collect::<Vec<_>>(), [(1, "/a"), (2, "/b")]);
        let host = r#"{ "hw-address": "52:54:00:00:00:01", },"#;
        for part in [format!("\"reservations\": [ {host} ]"), format!("[ {host} ]"), format!("{host} {host}"), host.to_string()] {
            assert!(looks(&part), "{part}");
            assert!(!read(&part).found.is_empty() && read(&part).faults.is_empty(), "{part}");
        }
    }

    #[test]
    fn machines_with_interfaces() {
        let cobbler = r#"{"name":"n1","hostname":"","interfaces":{"eth0":{"mac_address":"52:54:00:00:00:01","ip_address":"10.54.1.1"},
            "bmc0":{"mac_address":"52:54:00:00:01:01","interface_type":"bmc"},"eth1":{"mac_address":""}}}"#;
        let read_cobbler = read(cobbler);
        assert_eq!((read_cobbler.found.len(), read_cobbler.no_nodes.len()), (1, 2));
        let grendel = r#"[{"name":"n2","interfaces":[{"mac":"52:54:00:00:00:02","ip":"10.54.1.2/22","bmc":false},{"mac":"52:54:00:00:01:02","bmc":true}]},
            {"name":"n3","interfaces":[{"mac":"52:54:00:00:00:03"},{"mac":"52:54:00:00:00:04"}]}]"#;
        let read_grendel = read(grendel);
        let shown: Vec<_> = read_grendel.found.iter().map(|found| (found.name.as_str(), found.place.line, found.addresses.len())).collect();
        assert_eq!(shown, [("n2", 1, 1), ("n3", 2, 0), ("n3", 2, 0)]);
        let smd =
            r#"[{"ID":"a","MACAddress":"52:54:00:00:00:05","ComponentID":"x1000c0s0b0n0","IPAddresses":[{"IPAddress":"10.54.1.5"}]}]"#;
        let read_smd = read(smd);
        assert_eq!((read_smd.found[0].name.as_str(), read_smd.found[0].addresses.len()), ("x1000c0s0b0n0", 1));
    }
}
