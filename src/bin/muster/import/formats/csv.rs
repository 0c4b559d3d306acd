//! Tables of values with a line that names the columns, with commas, semicolons or tabs between, or each below its title: spreadsheets, vendors'
//! lists, xCAT's `mac.csv`, Kea's lease file, what cmsh, wwsh and Rocks print. Columns are known by their names in any order; a cell of MACs may have several. The serial number is not imported:
//! a machine tells its own when it boots.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::super::names;
use super::super::record::{HardwareText, ImportedFile, ImportedMachine};

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Number,
    Name,
    Mac,
    Address,
    /// A line that is switched off by this.
    Disable,
    /// The state of a lease: 0 is one that is in force.
    State,
    Other,
}

/// What a column holds, by its title. MACs of BMCs are not read.
fn kind(title: &str) -> Column {
    // cmsh: "Hostname (key)".
    let title = title.split('(').next().unwrap_or_default();
    let words: Vec<String> =
        title.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
    let joined = words.concat();
    let all =
        words.iter().any(|word| ["mac", "macs", "hwaddr", "hwaddress", "macaddr", "macaddress", "macaddresses"].contains(&word.as_str()));
    match joined.as_str() {
        _ if names::other_kind(&words.join("-")).is_some() => Column::Other,
        "number" | "nr" | "no" | "index" | "nodenumber" => Column::Number,
        "node" | "nodename" | "name" | "hostname" | "host" | "machine" | "system" => Column::Name,
        "ip" | "address" | "ipaddress" | "ipaddr" | "ipv4" | "ipv4address" | "addr" => Column::Address,
        "disable" | "disabled" => Column::Disable,
        "state" => Column::State,
        _ if all
            || joined.starts_with("mac")
            || joined.ends_with("mac")
            || joined.ends_with("macaddress")
            || joined == "hardwareaddress" =>
        {
            Column::Mac
        }
        _ => Column::Other,
    }
}

/// How the cells of a line are told apart.
enum Layout {
    /// By what stands between them.
    Between(char),
    /// By where they begin.
    At(Vec<usize>),
}

impl Layout {
    /// A line's cells; None if a word lies across the border of two.
    fn cells(&self, line: &str) -> Option<Vec<String>> {
        let starts = match self {
            Layout::Between(separator) => return Some(cells(line, *separator)),
            Layout::At(starts) => starts,
        };
        let ends = starts.iter().skip(1).map(|end| (*end).min(line.len())).chain(std::iter::once(line.len()));
        let cell = |(start, end): (&usize, usize)| {
            let cell = line.get((*start).min(end)..end)?;
            let cut = end < line.len() && !cell.ends_with(' ') && !line.get(end..)?.starts_with(' ');
            (!cut).then(|| cell.trim().trim_end_matches(':').to_string())
        };
        starts.iter().zip(ends).map(cell).collect()
    }
}

/// The line that names the columns: where it is, how its cells are told apart, and what they hold.
fn header(text: &str) -> Option<(usize, Layout, Vec<String>)> {
    for (line, content) in (1..).zip(text.lines()).filter(|(_, content)| !content.trim().is_empty()).take(8) {
        let below = text.lines().skip(line).find(|content| !is_blank(content));
        for separator in [',', ';', '\t'] {
            if below.is_some_and(|content| content.contains(separator)) {
                let titles = cells(content.trim_start_matches(['#', ' ']), separator);
                if are_titles(&titles) {
                    return Some((line, Layout::Between(separator), titles));
                }
            }
        }
        if !content.starts_with('#') {
            return columns(content, below).map(|(layout, titles)| (line, layout, titles));
        }
    }
    None
}

/// Columns with blanks between, as programs print them: each begins below its title.
fn columns(head: &str, below: Option<&str>) -> Option<(Layout, Vec<String>)> {
    let blank_before = |at: usize| at == 0 || head.get(..at).is_some_and(|before| before.ends_with(' '));
    let starts = head.char_indices().filter(|(at, c)| !c.is_whitespace() && *c != '(' && blank_before(*at)).map(|(at, _)| at);
    let layout = Layout::At(starts.collect());
    let titles = layout.cells(head).filter(|titles| are_titles(titles))?;
    let row = layout.cells(below?)?;
    let fits = titles.iter().zip(&row).any(|(title, cell)| kind(title) == Column::Mac && HardwareText::of(cell) != HardwareText::Other);
    fits.then_some((layout, titles))
}

fn are_titles(titles: &[String]) -> bool {
    titles.len() > 1 && titles.iter().any(|title| kind(title) == Column::Mac) && titles.iter().all(|title| is_title(title))
}

/// Nothing, a comment, or a rule below the titles.
fn is_blank(line: &str) -> bool {
    line.starts_with('#') || line.chars().all(|c| c.is_whitespace() || c == '-')
}

/// What may stand at the head of a column: no value, and no sentence of a comment.
fn is_title(text: &str) -> bool {
    HardwareText::of(text) == HardwareText::Other
        && text.parse::<Ipv4Addr>().is_err()
        && text.split_whitespace().count() <= 4
        && !text.contains('=')
}

/// Whether a text begins with such a line.
pub fn looks(text: &str) -> bool {
    header(text).is_some()
}

/// A line's cells, without quotes and the blanks around them; `""` in quotes is a quote.
fn cells(line: &str, separator: char) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let Some(cell) = cells.last_mut() else { break };
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                cell.push('"');
                chars.next();
            }
            '"' => quoted = !quoted,
            _ if c == separator && !quoted => cells.push(String::new()),
            _ => cell.push(c),
        }
    }
    cells.into_iter().map(|cell| cell.trim().to_string()).collect()
}

pub fn read(text: &str) -> ImportedFile {
    let mut read = ImportedFile::default();
    let Some((head, layout, titles)) = header(text) else {
        read.fault(1, "no line names the columns, such as node,mac,ip");
        return read;
    };
    let kinds: Vec<Column> = titles.iter().map(|title| kind(title)).collect();
    let unread = titles.iter().zip(&kinds).filter(|(_, kind)| **kind == Column::Other).map(|(title, _)| title.as_str());
    let unread: Vec<&str> = unread.filter(|title| !title.is_empty()).collect();
    if !unread.is_empty() {
        read.note(head, format!("columns that are not imported: {}", unread.join(", ")));
    }
    // Kea writes a line whenever a lease changes: the last one of an address counts.
    let leases = kinds.contains(&Column::State) && kinds.contains(&Column::Address);
    let mut last: BTreeMap<Ipv4Addr, usize> = BTreeMap::new();
    for (line, content) in (1..).zip(text.lines()).skip(head) {
        if is_blank(content) {
            continue;
        }
        if content.matches('"').count() % 2 == 1 {
            read.fault(line, "a quote has no end in this line");
            continue;
        }
        let Some(row) = layout.cells(content) else {
            read.fault(line, "its words do not begin below the titles of their columns");
            continue;
        };
        if row.iter().skip(kinds.len()).any(|cell| !cell.is_empty()) {
            read.fault(line, format!("{} cells, and only {} columns have a name", row.len(), kinds.len()));
            continue;
        }
        if leases {
            let place =
                kinds.iter().position(|kind| *kind == Column::Address).and_then(|at| row.get(at)).and_then(|cell| cell.parse().ok());
            if let Some(address) = place {
                let before = last.insert(address, line);
                read.found.retain(|found| Some(found.place.line) != before);
            }
        }
        machine(&mut read, line, &kinds, &row);
    }
    read
}

fn machine(read: &mut ImportedFile, line: usize, kinds: &[Column], row: &[String]) {
    let mut found = ImportedMachine::at(line);
    let mut strange = false;
    for (kind, cell) in kinds.iter().zip(row).filter(|(_, cell)| !cell.is_empty()) {
        match kind {
            Column::Disable if !matches!(cell.to_lowercase().as_str(), "0" | "no" | "n" | "false") => {
                return read.no_node(line, "it is disabled");
            }
            Column::State if cell != "0" => return read.no_node(line, format!("its lease is in state {cell}")),
            Column::Number => match cell.parse() {
                Ok(number) => found.index = Some(number),
                Err(_) if found.name.is_empty() && names::trailing(cell).is_some() => found.name = cell.clone(),
                Err(_) => return read.fault(line, format!("{cell:?} is not a number")),
            },
            Column::Name => found.name = cell.clone(),
            Column::Address => match cell.split('/').next().unwrap_or_default().parse() {
                Ok(address) => found.addresses.push(address),
                Err(_) => return read.fault(line, format!("{cell:?} is not an IPv4 address")),
            },
            // xCAT: several with | between, each with !NAME behind it.
            Column::Mac => {
                for text in cell.split([' ', '|', ';', ',', '/']).filter(|text| !text.is_empty()) {
                    let mac = read.card(line, text.split('!').next().unwrap_or_default());
                    strange |= mac.is_none();
                    found.macs.extend(mac);
                }
            }
            Column::Disable | Column::State | Column::Other => {}
        }
    }
    if !(strange && found.macs.is_empty()) {
        read.found.push(found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<(usize, String, usize, Option<u32>)> {
        read(text).found.iter().map(|found| (found.place.line, found.name.clone(), found.macs.len(), found.index)).collect()
    }

    #[test]
    fn columns_are_known_by_their_names() {
        let vendor = "Serial,Port 1 MAC,Port 2 MAC,BMC MAC\nS1,52:54:00:00:00:01,52:54:00:00:00:02,52:54:00:00:01:01\n";
        assert!(looks(vendor));
        assert_eq!(shown(vendor), [(2, String::new(), 2, None)]);
        assert!(read(vendor).notes[0].1.ends_with("Serial, BMC MAC"));
        let quoted =
            "# list\n\"Number\";\"MAC address\";\"IP\"\n\"7\";\"525400000001\";\"10.54.1.7\"\n\n\"8\";\"x\";\n9;525400000009;;;z\n\"10;5\n";
        assert_eq!(shown(quoted), [(3, String::new(), 1, Some(7))]);
        assert_eq!(read(quoted).faults.iter().map(|(place, _)| place.line).collect::<Vec<_>>(), [5, 6, 7]);
        for text in [
            "52:54:00:00:00:01,n1\n",
            "domain=x,y\n",
            "#a,b\n52:54:00:00:00:01,n1\n",
            "",
            "n1 52:54:00:00:00:01\n",
            "# mac, name\n52:54:00:00:00:01 n1\n",
            "# (one MAC each), so that the label is another\n1,2\n",
        ] {
            assert!(!looks(text), "{text}");
        }
    }

    #[test]
    fn columns_begin_below_their_titles() {
        let table = "NAME (key)   MAC                IP         STATUS\n------------ ------------------ ---------- ------\n\
                     n1           52:54:00:00:00:01  10.54.1.1  [ UP ]\nn2:                             10.54.1.2\nn3-with-a-long-name 52:54:00:00:00:03\n";
        assert_eq!(shown(table), [(3, "n1".into(), 1, None), (4, "n2".into(), 0, None)]);
        assert_eq!(read(table).faults[0].0.line, 5);
        assert!(!looks("MAC NAME\n52:54:00:00:00:01 n1\n"), "a word across a border");
    }

    #[test]
    fn tables_of_xcat_and_kea() {
        let xcat = "#node,interface,mac,comments,disable\n\"cn1\",,\"52:54:00:00:00:01!cn1|52:54:00:00:00:02!*NOIP*\",,\n\"cn2\",,\"52:54:00:00:00:03\",,\"1\"\n";
        assert_eq!(shown(xcat), [(2, "cn1".into(), 2, None)]);
        assert_eq!(read(xcat).no_nodes.len(), 1);
        let kea = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context\n\
                   10.54.1.1,52:54:00:00:00:01,,3600,1,1,0,0,n1,0,\n10.54.1.2,52:54:00:00:00:02,,3600,1,1,0,0,n2,0,\n\
                   10.54.1.1,52:54:00:00:00:09,,3600,1,1,0,0,n1,0,\n10.54.1.2,52:54:00:00:00:02,,0,1,1,0,0,n2,2,\n";
        assert_eq!(shown(kea), [(4, "n1".into(), 1, None)]);
    }
}
