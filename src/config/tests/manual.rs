//! The manual and the example say what the table of keys says, of every key and of no other.

use super::super::keys::{Applies, KeySpec, SECTIONS, Usual};

const MANUAL: &str = include_str!("../../../man/muster.toml.5");
const EXAMPLE: &str = include_str!("../../../packaging/muster.toml.example");

/// A line of mdoc as it is read: without macros and quotes.
fn read(line: &str) -> String {
    const MACROS: &[&str] =
        &["No", "=", "Ar", "Qq", "Qo", "Qc", "Ns", ".Ic", ".Ql", ".Li", ".Em", ".Dv", ".Pa", ".Sx", ".Xr", ".Pq", "Ql", "Ic"];
    let words = line.split_whitespace().filter(|word| !MACROS.contains(word)).collect::<Vec<_>>();
    let words = words.join(" ").replace("\\(dq", "").replace('"', "");
    words.replace(" .", ".").replace(" ,", ",").replace(" / ", "/")
}

/// The entries of a section: the line of the names, and what is said of them.
fn entries(header: &str) -> Vec<(&'static str, String)> {
    let (_, section) = MANUAL.split_once(&format!(".Ss {header}")).unwrap_or_else(|| panic!("{header} is in the manual"));
    let section = section.split("\n.Ss ").next().unwrap().split("\n.Sh ").next().unwrap();
    let entry = |entry: &'static str| {
        let (names, text) = entry.split_once('\n').unwrap();
        (names, read(&text.split("\n.El").next().unwrap().lines().map(read).collect::<Vec<_>>().join(" ")))
    };
    section.split("\n.It Ic ").skip(1).map(entry).collect()
}

fn names(line: &str) -> impl Iterator<Item = &str> {
    line.split(" No ").next().unwrap_or(line).split_whitespace().filter(|word| *word != ",")
}

fn default(key: &KeySpec) -> &'static str {
    match key.usual {
        Usual::Is("[]") => "Default none.",
        Usual::Is("\"\"") => "Default empty.",
        Usual::Is(_) | Usual::Derived => "Default",
        Usual::Required => "Must be set.",
    }
}

fn restart(key: &KeySpec) -> &'static str {
    match key.applies {
        Applies::Reload => "",
        Applies::Restart => "restart",
        Applies::FirstOrLast => "restart for the first and after the last",
    }
}

/// What is wrong or missing in an entry.
fn faults(key: &KeySpec, line: &str, text: &str) -> Vec<String> {
    let (known, range, _) = key.manual;
    let mut wanted = match restart(key) {
        "" => Vec::new(),
        restart => vec![format!("Needs a {restart}.")],
    };
    let needs = text.matches("Needs a restart").count() == wanted.len();
    let kind = line.split_once(" No = ").map(|(_, kind)| read(kind)).filter(|kind| kind != known);
    // What is explained elsewhere has its limits there.
    if !text.contains("As in ") {
        wanted.extend([range(), default(key).to_string()]);
        if let Usual::Is(value) = key.usual {
            wanted.extend((!["[]", "\"\""].contains(&value)).then(|| format!("Default {}", value.replace('"', ""))));
        }
    }
    let missing = wanted.into_iter().filter(|part| !text.contains(part)).map(|part| format!("lacks {part:?}"));
    let kind = kind.map(|kind| format!("is a {known}, not a {kind}"));
    missing.chain(kind).chain((!needs).then(|| "is wrong about restarts".to_string())).collect()
}

#[test]
fn the_manual_has_every_key() {
    let mut wrong = Vec::new();
    for (header, keys) in SECTIONS {
        let entries = entries(header);
        let strangers = entries.iter().flat_map(|(line, _)| names(line)).filter(|name| !keys.iter().any(|key| key.name == *name));
        wrong.extend(strangers.map(|name| format!("{header} has no key {name}")));
        for key in keys {
            let mut described = entries.iter().filter(|(line, _)| names(line).any(|name| name == key.name));
            let faults = described.next().map_or_else(|| vec!["is not there".to_string()], |(line, text)| faults(key, line, text));
            wrong.extend(faults.iter().map(|fault| format!("{header} {} {fault}", key.name)));
            wrong.extend(described.map(|_| format!("{header} {} is there twice", key.name)));
        }
    }
    assert!(wrong.is_empty(), "the manual:\n{}", wrong.join("\n"));
}

/// Whatever a line of the example sets: the line before it, the key, its value, the remark behind it.
fn settings(header: &str) -> Vec<(&'static str, &'static str, &'static str, &'static str)> {
    let plain = |line: &'static str| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line);
    let (mut inside, mut before, mut found) = (false, "", Vec::new());
    for line in EXAMPLE.lines() {
        match plain(line) {
            section if section.starts_with('[') => inside = section == header,
            setting if inside && !setting.starts_with('#') && setting.contains(" = ") => {
                let (key, rest) = setting.split_once(" = ").unwrap();
                let (value, remark) = rest.split_once("  # ").unwrap_or((rest, ""));
                found.push((before, key, value.trim(), remark));
            }
            _ => {}
        }
        before = line;
    }
    found
}

#[test]
fn the_example_has_every_key() {
    for (header, keys) in SECTIONS {
        let settings = settings(header);
        for (_, name, ..) in &settings {
            assert!(keys.iter().any(|key| key.name == *name), "{header} has no key {name}");
        }
        for key in keys {
            let (_, range, says) = key.manual;
            let says = format!("# {says}");
            let remarks = [range(), restart(key).to_string()].into_iter().filter(|part| !part.is_empty());
            let remark = remarks.collect::<Vec<_>>().join("; ");
            let (_, _, value, _) = settings
                .iter()
                .find(|(before, name, _, behind)| *name == key.name && *before == says && *behind == remark)
                .unwrap_or_else(|| panic!("the example has in {header}:\n{says}\n{} = ...  # {remark}", key.name));
            if let Usual::Is(usual) = key.usual {
                assert_eq!(*value, usual, "{header} {}: the example shows the default", key.name);
            }
        }
    }
}

/// What the table has as a default can be read, and is shown as it is written there.
#[test]
fn the_defaults_are_good() {
    let shown = super::good("[[network]]\ninterface = \"eth1\"").listing.to_string();
    for (header, keys) in SECTIONS {
        for key in keys {
            let Usual::Is(value) = key.usual else { continue };
            let section = shown.split("\n\n").find(|section| section.starts_with(header)).unwrap();
            assert!(section.lines().any(|line| line == format!("{} = {value}", key.name)), "{header} {} = {value}\n{shown}", key.name);
        }
    }
}
