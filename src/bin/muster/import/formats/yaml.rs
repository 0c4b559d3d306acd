//! YAML, as values that the reader of JSON looks through: Warewulf 4 keeps its nodes in it (nodes.conf), and OpenCHAMI (nodes.yaml).

use saphyr_parser::{Event, Parser};
use serde_json::{Map, Value};

use super::super::record::ImportedFile;
use super::json;

/// How deep lists and mappings may lie in each other.
const DEPTH_MAX: usize = 64;

pub fn looks(text: &str) -> bool {
    let known = |line: &str| ["nodes:", "nodeprofiles:", "WW_INTERNAL:"].iter().any(|key| line.starts_with(key));
    text.lines().any(known)
}

pub fn read(text: &str) -> ImportedFile {
    let mut read = ImportedFile::default();
    match value(&mut read, text) {
        Ok(value) => json::walk(&mut read, &value, text),
        Err((line, why)) => read.fault(line, format!("this is not YAML: {why}")),
    }
    read
}

/// What is not ended yet.
enum Open {
    List(Vec<Value>),
    /// With the key whose value comes next.
    Mapping(Map<String, Value>, Option<String>),
}

fn value(read: &mut ImportedFile, text: &str) -> Result<Value, (usize, String)> {
    let mut open: Vec<Open> = Vec::new();
    let mut documents = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| (error.marker().line(), error.info().to_string()))?;
        let line = span.start.line();
        let done = match event {
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() == DEPTH_MAX => {
                return Err((line, format!("it is nested deeper than {DEPTH_MAX} times")));
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Mapping(Map::new(), None));
                continue;
            }
            Event::Scalar(text, ..) => Value::String(text.into_owned()),
            Event::Alias(_) => {
                read.note(line, "an alias is not followed");
                Value::Null
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(list)) => Value::Array(list),
                Some(Open::Mapping(fields, _)) => Value::Object(fields),
                None => continue,
            },
            _ => continue,
        };
        match open.last_mut() {
            None => documents.push(done),
            Some(Open::List(list)) => list.push(done),
            Some(Open::Mapping(fields, key)) => match key.take() {
                Some(key) => drop(fields.insert(key, done)),
                // A key that is no text names nothing here.
                None => *key = Some(done.as_str().unwrap_or_default().to_string()),
            },
        }
    }
    Ok(Value::Array(documents))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_warewulf_and_openchami() {
        let warewulf = "nodeprofiles:\n  default: {}\nnodes:\n  n2:\n    profiles: [default]\n    ipmi: {ipaddr: 10.99.1.2}\n    network devices:\n      default:\n\
                        \x20       hwaddr: 52:54:00:00:00:02\n        ipaddr: 10.54.1.2\n      fast:\n        type: InfiniBand\n        hwaddr: 80:00:00:01\n\
                        \x20 n1:\n    network devices:\n      default:\n        hwaddr: \"52:54:00:00:00:01\"\n  n3: {}\n";
        assert!(looks(warewulf));
        let got = read(warewulf);
        let mut shown: Vec<_> =
            got.found.iter().map(|found| (found.place.line, found.name.as_str(), found.macs.len(), found.addresses.len())).collect();
        shown.sort();
        assert_eq!(shown, [(9, "n2", 1, 1), (17, "n1", 1, 0), (18, "n3", 0, 0)]);
        assert_eq!((got.no_nodes.len(), got.faults.len()), (1, 0), "{got:?}");
        let openchami = "nodes:\n- name: node01\n  nid: 1\n  bmc_mac: de:ca:fc:0f:ee:ee\n  interfaces:\n  - mac_addr: 52:54:00:00:00:01\n    ip_addrs:\n\
                         \x20   - name: internal\n      ip_addr: 10.54.1.1\n";
        let got = read(openchami);
        assert_eq!((got.found[0].name.as_str(), got.found[0].addresses.len(), got.no_nodes.len()), ("node01", 1, 1), "{got:?}");
    }

    #[test]
    fn what_is_no_yaml_is_told_by_line() {
        assert_eq!(read("nodes:\n  a: [\n").faults.len(), 1);
        assert_eq!(read(&"[".repeat(100_000)).faults.len(), 1);
        assert_eq!(read("nodes: &a\n  n1: *a\n").notes[0].0.line, 2);
    }
}
