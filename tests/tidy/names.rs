//! One word, one thing: no two types that others can see share a name, wherever they live.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{complain, sources};

/// Names that several types share, and why that misleads nobody. A dozen at most: rather find a better name.
const SHARED: &[(&str, &str)] = &[];

/// The name of the type that a line defines, if others can see it.
fn defined(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub")?;
    let rest = match rest.strip_prefix('(') {
        Some(inside) => inside.split_once(") ")?.1,
        None => rest.strip_prefix(' ')?,
    };
    let rest = rest.strip_prefix("unsafe ").unwrap_or(rest);
    let rest = ["struct ", "enum ", "union ", "trait ", "type "].iter().find_map(|kind| rest.strip_prefix(kind))?;
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    rest.get(..end).filter(|name| name.starts_with(char::is_uppercase))
}

/// A line for each definition of a name that is defined more than once and not listed, and for each listed name that nothing shares.
fn faults(texts: &[(String, String)], listed: &[&str]) -> Vec<String> {
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (path, code) in texts {
        for (n, name) in code.lines().enumerate().filter_map(|(n, line)| Some((n, defined(line)?))) {
            places.entry(name).or_default().push(format!("{path}:{}: {name}", n + 1));
        }
    }
    let shared = |name: &str| places.get(name).is_some_and(|places| places.len() > 1);
    let stale = listed.iter().filter(|name| !shared(name)).map(|name| format!("{name} is listed, and only one type has the name"));
    let stale: Vec<String> = stale.collect();
    let twice = places.iter().filter(|(name, places)| places.len() > 1 && !listed.contains(name));
    twice.flat_map(|(_, places)| places.iter().cloned()).chain(stale).collect()
}

#[test]
fn a_shared_name_is_found() {
    let text = |path: &str, code: &str| (path.to_string(), code.to_string());
    let texts = [
        text("a.rs", "//! pub struct Comment;\npub struct Lane<'a> {\n    pub kind: u8,\n}\nstruct Own;\npub(crate) enum Once { A }\n"),
        text("b.rs", "    pub(in crate::b) type Lane = u8;\npub unsafe trait Door {}\npub fn struct_of() {}\npub enum $name {}\n"),
        text("c.rs", "struct Own;\npub(super) union Door { a: u8 }\n/// pub enum Once\npub use a::Once;\n"),
    ];
    assert_eq!(faults(&texts, &[]), ["b.rs:2: Door", "c.rs:2: Door", "a.rs:2: Lane", "b.rs:1: Lane"]);
    assert_eq!(faults(&texts, &["Door", "Lane"]), [""; 0]);
    assert_eq!(faults(&texts, &["Door", "Lane", "Own"]), ["Own is listed, and only one type has the name"]);
}

#[test]
fn one_word_is_one_thing() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shown = |path: &Path| path.strip_prefix(home).unwrap_or(path).display().to_string();
    let mut texts: Vec<(String, String)> = sources().into_iter().map(|source| (shown(&source.path), source.code)).collect();
    for example in fs::read_dir(home.join("examples")).expect("a folder of examples").flatten() {
        texts.push((shown(&example.path()), fs::read_to_string(example.path()).expect("an example")));
    }
    assert!(texts.iter().any(|(path, _)| path.starts_with("examples")) && SHARED.len() <= 12);
    assert!(SHARED.iter().all(|(_, reason)| !reason.is_empty()), "each name is shared for a reason");
    let listed: Vec<&str> = SHARED.iter().map(|(name, _)| *name).collect();
    complain("two types share a name: rename one, or give a reason in SHARED", &faults(&texts, &listed));
}

/// Whether a path such as `Registry::enter` leads to a type, and to a word of the file that defines it.
fn leads_to_a_type(path: &str) -> bool {
    let Some((name, item)) = path.split_once("::") else { return false };
    let word = |code: &str| code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == item.trim_end_matches(':'));
    sources().iter().any(|source| source.code.lines().any(|line| defined(line) == Some(name)) && word(&source.code))
}

/// Whether a path such as `wire::dns::CALLS`, or `tests/tidy.rs`, leads to a file, and to words of that file.
fn leads_somewhere(home: &Path, path: &str) -> bool {
    if path.starts_with(char::is_uppercase) {
        return leads_to_a_type(path);
    }
    if path.ends_with(".rs") {
        return home.join(path).is_file() || home.join("src").join(path).is_file();
    }
    let mut parts = path.split("::").peekable();
    let (mut folder, mut module) = (home.join("src"), None);
    while let Some(part) = parts.peek() {
        let files = [folder.join(format!("{part}.rs")), folder.join(part).join("mod.rs")];
        let Some(file) = files.into_iter().find(|file| file.is_file()) else { break };
        (folder, module) = (folder.join(part), Some(file));
        parts.next();
    }
    let text = module.map(|file| fs::read_to_string(file).expect("a module")).unwrap_or_default();
    parts.all(|part| text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == part)) && !text.is_empty()
}

/// What a document names of the code, by line: paths that begin with a room or a type, and sources.
fn named(text: &str) -> Vec<(usize, &str)> {
    let inside = |path: &str| super::ROOMS.iter().any(|(room, _)| path.strip_prefix(room).is_some_and(|rest| rest.starts_with("::")));
    let mut all = Vec::new();
    for (n, line) in text.lines().enumerate() {
        for span in line.split('`').skip(1).step_by(2) {
            let paths = span.split(|c: char| !c.is_alphanumeric() && !"_:/.-".contains(c)).map(|path| path.trim_end_matches(':'));
            let of_type = |path: &str| path.starts_with(char::is_uppercase) && path.contains("::");
            all.extend(paths.filter(|path| inside(path) || of_type(path) || path.ends_with(".rs")).map(|path| (n + 1, path)));
        }
    }
    all
}

#[test]
fn what_documents_name_exists() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert_eq!(named("see `tests/tidy.rs`,\n`wire::dns::{A, B}` and `x::y`"), [(1, "tests/tidy.rs"), (2, "wire::dns")]);
    assert!(["tests/tidy.rs", "base::slab", "base::slab::Key", "Registry::enter"].iter().all(|path| leads_somewhere(home, path)));
    assert!(
        !["tests/no.rs", "base::absent", "base::slab::Absent", "no::Key", "Absent::enter", "Registry::absent"]
            .iter()
            .any(|path| leads_somewhere(home, path))
    );
    let guides = fs::read_dir(home.join("doc")).expect("a folder of documents").flatten().map(|entry| entry.path());
    let documents = ["README.md", "CONTRIBUTING.md", "src/lib.rs"].map(|name| home.join(name)).into_iter().chain(guides);
    let mut faults = Vec::new();
    for document in documents {
        let text = fs::read_to_string(&document).expect("a document");
        let gone = named(&text).into_iter().filter(|(_, path)| !leads_somewhere(home, path));
        faults.extend(gone.map(|(n, path)| format!("{}:{n}: {path}", document.display())));
    }
    complain("a document names what is not there", &faults);
}
