//! Reservations of Kea's config: objects in lists called `reservations`, wherever they stand. Kea's JSON may have comments
//! (`//`, `#`, `/* */`).

use serde_json::Value;

use super::{ImportedFile, ImportedMachine, mac};

pub fn read(text: &str) -> ImportedFile {
    let mut read = ImportedFile::default();
    match serde_json::from_str::<Value>(&without_comments(text)) {
        Ok(value) => {
            let mut seen = 0;
            walk(&mut read, &value, text, &mut seen, 0);
        }
        Err(error) => read.fault(error.line(), format!("this is not JSON: {error}")),
    }
    read
}

/// Blanks in the place of comments, so that lines keep their numbers.
fn without_comments(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    let mut quoted = false;
    while let Some(c) = rest.chars().next() {
        let comment = match quoted {
            false if c == '#' || rest.starts_with("//") => Some(rest.find('\n').unwrap_or(rest.len())),
            false if rest.starts_with("/*") => Some(rest.find("*/").map_or(rest.len(), |at| at + 2)),
            _ => None,
        };
        let len = match comment {
            Some(len) => {
                plain.extend(
                    rest.chars().take(rest.get(..len).map_or(0, |part| part.chars().count())).map(|c| if c == '\n' { '\n' } else { ' ' }),
                );
                len
            }
            None if quoted && c == '\\' => {
                let len = rest.chars().take(2).map(char::len_utf8).sum();
                plain.push_str(rest.get(..len).unwrap_or_default());
                len
            }
            None => {
                quoted ^= c == '"';
                plain.push(c);
                c.len_utf8()
            }
        };
        rest = rest.get(len..).unwrap_or_default();
    }
    plain
}

/// Looks through everything, 64 levels deep at most. `seen`: how much of the text the reservations found so far cover.
fn walk(read: &mut ImportedFile, value: &Value, text: &str, seen: &mut usize, depth: usize) {
    if depth > 64 {
        return;
    }
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::Array(list) if key == "reservations" => list.iter().for_each(|one| reservation(read, one, text, seen)),
                    _ => walk(read, value, text, seen, depth + 1),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| walk(read, value, text, seen, depth + 1)),
        _ => {}
    }
}

fn reservation(read: &mut ImportedFile, value: &Value, text: &str, seen: &mut usize) {
    let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let (hardware, name) = (field("hw-address"), field("hostname"));
    // The parser tells no lines: the words themselves are looked for. serde_json keeps fields in order of their names, not of the text.
    let mark = [hardware, field("client-id"), field("duid"), name].into_iter().find(|mark| !mark.is_empty()).unwrap_or("reservations");
    let from = |start: usize| text.get(start..).and_then(|rest| rest.find(mark)).map(|at| start + at);
    let at = from(*seen).or_else(|| from(0)).unwrap_or(0);
    *seen = at + mark.len();
    let line = 1 + text.get(..at).map_or(0, |before| before.matches('\n').count());
    match mac(hardware) {
        _ if hardware.is_empty() => read.fault(line, "the reservation has no hw-address, the only identification that muster knows"),
        None => read.fault(line, format!("{hardware:?} is not a machine's MAC address")),
        Some(mac) => {
            let address = field("ip-address").parse().ok();
            read.found.push(ImportedMachine { line, name: name.to_string(), macs: vec![mac], address, index: None });
        }
    }
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
        let mut shown: Vec<_> = read.found.iter().map(|found| (found.line, found.name.as_str(), found.address)).collect();
        shown.sort();
        assert_eq!(shown, [(3, "n1", Some([10, 54, 1, 1].into())), (8, "n2", None), (10, "again", None)]);
        assert_eq!(read.faults.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [9]);
        assert_eq!(super::read("{\n\"a\": }").faults[0].0, 2);
        assert!(super::read("{}").found.is_empty());
    }
}
