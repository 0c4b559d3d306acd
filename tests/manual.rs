//! The manual says what the programs do: options, quoted log lines, counters, limits and examples of the man pages against the code, and the
//! laws, files and links that code and documents cite.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use muster::base::limits;
use muster::base::stats::Counted;
use muster::engine::{dhcp, dns, stats, tftp};
use muster::roll::journal::{self, Check, Spelling};
use muster::roll::plan::NamesFile;
use muster::shell::work;
use muster::wire::control;
use muster::wire::report::{self, Report, ReportVerdict};

const PROGRAMS: [(&str, &str, &str); 4] = [
    ("musterd", env!("CARGO_BIN_EXE_musterd"), "musterd.8"),
    ("muster", env!("CARGO_BIN_EXE_muster"), "muster.1"),
    ("muster-in", env!("CARGO_BIN_EXE_muster-in"), "muster-in.8"),
    ("muster-storm", env!("CARGO_BIN_EXE_muster-storm"), "muster-storm.8"),
];

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page(name: &str) -> String {
    fs::read_to_string(home().join("man").join(name)).expect("a man page")
}

/// Files of a folder and all below it, with one of these endings.
fn files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![home().join(folder)];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            match path.is_dir() {
                true => folders.push(path),
                false if endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)) => found.push(path),
                false => {}
            }
        }
    }
    found
}

/// All text of the programs, of the scripts that go with them and of the C library's module, in lower case, with single blanks.
fn sources() -> String {
    let paths = [files("src", &[".rs"]), files("nss/src", &[".rs"]), files("packaging", &[""])].concat();
    let text: String = paths.iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    single(&text.replace("\\\n", "")).to_lowercase()
}

fn single(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The lines of a section, without its heading.
fn section<'p>(page: &'p str, title: &str) -> Vec<&'p str> {
    let heading = format!(".Sh {title}");
    let lines: Vec<&str> = page.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !line.starts_with(".Sh ")).collect();
    assert!(!lines.is_empty(), "no section {title}");
    lines
}

/// The lines between each `.Bd` and `.Ed`.
fn displays<'p>(lines: &[&'p str]) -> Vec<Vec<&'p str>> {
    let mut all = Vec::new();
    let mut open = None;
    for line in lines {
        match line.split(' ').next() {
            Some(".Bd") => open = Some(Vec::new()),
            Some(".Ed") => all.extend(open.take()),
            _ => open.iter_mut().filter(|_| !line.starts_with('.')).for_each(|display| display.push(*line)),
        }
    }
    all
}

/// A line of mdoc as it reads: without the names of its macros.
fn plain(line: &str) -> String {
    let macros = |word: &&str| word.len() == 2 && word.starts_with(|c: char| c.is_ascii_uppercase()) && word != &"OK";
    let Some(rest) = line.strip_prefix('.') else { return line.replace("\\&", "").replace("\\(dq", "\"") };
    let words: Vec<&str> = rest.split_whitespace().filter(|word| !macros(word)).collect();
    words.join(" ").replace(" ,", ",").replace(" .", ".").replace(" ;", ";").replace("\\&", "").replace("\\(dq", "\"")
}

fn prose(page: &str) -> String {
    single(&page.lines().map(plain).collect::<Vec<_>>().join(" "))
}

/// What stands behind each `Fl` of these lines: `c`, `-config`.
fn flags(lines: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in lines.iter().filter_map(|line| line.strip_prefix('.')) {
        let mut inside = false;
        for word in line.split_whitespace() {
            let is_macro = word.len() == 2 && word.starts_with(|c: char| c.is_ascii_uppercase());
            inside = word == "Fl" || inside && !is_macro;
            if inside && word != "Fl" && word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '-') {
                found.insert(word.to_string());
            }
        }
    }
    found
}

/// Each option of `--help`: its letter, if it has one, and its name.
fn options(program: &str) -> Vec<(Option<String>, String)> {
    let output = Command::new(program).arg("--help").output().expect("a program that runs");
    let text = String::from_utf8(output.stdout).expect("a text");
    let mut found = Vec::new();
    for line in text.lines().map(str::trim_start).filter(|line| line.starts_with('-')) {
        let words: Vec<&str> = line.split_whitespace().take(3).collect();
        let letter = words[0].strip_prefix('-').and_then(|word| word.strip_suffix(',')).map(str::to_string);
        let name = words.iter().find_map(|word| word.strip_prefix("--")).expect("a long name");
        found.push((letter, name.to_string()));
    }
    found
}

#[test]
fn every_option_is_in_the_manual_and_none_else() {
    let programs = PROGRAMS.map(|(name, program, page_name)| (name, page_name, options(program)));
    let is_option = |flag: &str, options: &[(Option<String>, String)]| match flag.strip_prefix('-') {
        Some(long) => options.iter().any(|(_, name)| name == long),
        // Letters may stand together in a synopsis.
        None => flag.chars().all(|letter| options.iter().any(|(short, _)| short.as_deref() == Some(&letter.to_string()))),
    };
    let has_letter = |flags: &BTreeSet<String>, letter: &str| flags.iter().any(|flag| !flag.starts_with('-') && flag.contains(letter));
    for (name, page_name, options) in &programs {
        let text = page(page_name);
        let lines: Vec<&str> = text.lines().collect();
        let synopsis = section(&text, "SYNOPSIS");
        let items: Vec<&str> = lines.iter().copied().filter(|line| line.starts_with(".It Fl")).collect();
        let (described, summary) = (flags(&items), flags(&synopsis));
        for flag in described.union(&summary) {
            assert!(is_option(flag, options), "{page_name} has {flag}, {name} --help has not");
        }
        // Another program's may be mentioned.
        for flag in flags(&lines) {
            assert!(programs.iter().any(|(_, _, options)| is_option(&flag, options)), "{page_name}: no program has {flag}");
        }
        for (letter, long) in options {
            let name = format!("-{long}");
            let described_by = |flags: &BTreeSet<String>| flags.contains(&name) && letter.as_ref().is_none_or(|it| has_letter(flags, it));
            assert!(described_by(&described), "{page_name} does not describe -{name}");
            let general = synopsis.iter().any(|line| line.contains("Ar options"));
            let named = summary.contains(&name) || letter.as_ref().is_some_and(|letter| has_letter(&summary, letter));
            assert!(general || named, "the synopsis of {page_name} lacks -{name}");
        }
    }
}

/// Texts that the manual quotes from logs and errors are in the programs.
#[test]
fn what_is_quoted_is_said() {
    let sources = sources();
    for (_, _, name) in PROGRAMS {
        for line in page(name).lines().filter_map(|line| line.strip_prefix(".Dq ")) {
            let quoted = line.trim_end_matches([' ', '.', ',', ':', ')']).to_lowercase();
            assert!(sources.contains(&quoted), "{name} quotes {quoted:?}, which no program says");
        }
    }
}

/// Why a guest has no number, as `muster guest list` says it.
#[test]
fn every_verdict_in_the_manual_is_one() {
    let page = page("muster.1");
    let ruling = fs::read_to_string(home().join("src/roll/ruling.rs")).expect("the rulings");
    let list: Vec<&str> = page.lines().skip_while(|line| *line != ".\\\" Verdicts.").take_while(|line| *line != ".El").collect();
    let items: Vec<&str> = list.iter().filter_map(|line| line.strip_prefix(".It ")).collect();
    assert_eq!(items.len(), 8, "one for each reason that is shown");
    for item in items {
        let mut words = item.split_whitespace();
        let mut piece = String::new();
        let mut pieces = Vec::new();
        while let Some(word) = words.next() {
            match word {
                "Ar" => {
                    words.next();
                    pieces.push(std::mem::take(&mut piece));
                }
                "No" => {}
                word => piece = format!("{piece} {word}"),
            }
        }
        pieces.push(piece);
        for piece in pieces.iter().map(|piece| piece.replace(" ,", ",")) {
            assert!(ruling.contains(piece.trim()), "{item}: {piece:?}");
        }
    }
}

#[test]
fn counters_of_the_manual_are_counted() {
    let page = page("musterd.8");
    let listed: Vec<&str> = section(&page, "COUNTERS").into_iter().filter_map(|line| line.strip_prefix(".It Li ")).collect();
    fn all<C: Counted>() -> Vec<&'static str> {
        C::ALL.iter().map(|counter| counter.name()).collect()
    }
    let names = [all::<dhcp::Counter>(), all::<tftp::Counter>(), all::<dns::Counter>(), all::<stats::Counter>()].concat();
    for name in &listed {
        assert!(names.contains(name), "there is no counter {name:?}");
    }
    let trouble = |name: &&&str| ["dropped", "refused", "failed", "held back", "left out"].iter().any(|word| name.contains(word));
    for name in names.iter().filter(trouble) {
        assert!(listed.contains(name), "musterd.8 does not explain {name:?}");
    }
}

#[test]
fn numbers_in_the_manual_are_the_limits() {
    let (daemon, operator, readme) = (prose(&page("musterd.8")), prose(&page("muster.1")), {
        let text = fs::read_to_string(home().join("README.md")).expect("the README");
        single(&text)
    });
    let thousands = |n: usize| format!("{},{:03}", n / 1000, n % 1000);
    let sentences = [
        (&daemon, format!("At most {} questions wait", muster::wire::dns::PENDING)),
        (&daemon, format!("At most {} connections are open", muster::wire::dns::CONNECTIONS)),
        (&daemon, format!("At most {} connections at once", muster::wire::control::CONNECTIONS)),
        (&operator, format!("At most {} connections are open", muster::wire::control::CONNECTIONS)),
        (&operator, format!("at most {} KiB", muster::wire::control::LINE_MAX / 1024)),
        (&daemon, format!("After {} seconds without an answer", work::SLOW.as_secs())),
        (&daemon, "Six of them".to_string()),
        (&readme, format!("{} machines", thousands(limits::CAPACITY_MAX))),
        (&readme, format!("{} boot interfaces", limits::LINKS_MAX)),
        (&readme, format!("{} different boot files", limits::FILES)),
    ];
    for (text, sentence) in sentences {
        assert!(text.contains(&sentence), "not in the manual: {sentence}");
    }
    assert_eq!(work::READERS, 6);
}

#[test]
fn examples_are_understood() {
    let page_of =
        |name: &str, title: &str| displays(&section(&page(name), title)).into_iter().map(|lines| lines.join("\n")).collect::<Vec<_>>();
    let journal = page_of("musterd.8", "THE JOURNAL");
    for line in journal.iter().flat_map(|display| display.lines()) {
        assert_eq!(journal::check(line), Check::Good, "{line}");
        assert_eq!(journal::read(line, |_, _| Ok(())), Ok(Spelling::Good), "{line}");
    }
    let protocol = page_of("muster.1", "PROTOCOL");
    let (requests, changes) = (&protocol[0], &protocol[1]);
    for line in requests.lines().filter(|line| !line.contains("CHANGE")) {
        assert!(control::read(line.as_bytes()).is_ok(), "{line}: {:?}", control::read(line.as_bytes()));
    }
    for change in changes.lines() {
        let line = format!("{{\"do\":\"change\",\"dry\":true,\"change\":{change}}}");
        assert!(control::read(line.as_bytes()).is_ok(), "{line}: {:?}", control::read(line.as_bytes()));
    }
    let reply: String = protocol[2].lines().skip(1).map(str::trim_start).collect();
    assert!(matches!(serde_json::from_str(&reply), Ok(control::Reply::States(_))), "{reply}");
    let file = &page_of("libnss_muster.8", "THE FILE")[0];
    assert!(NamesFile::parse(file.as_bytes()).is_some(), "{file}");
    let report = &page_of("muster-in.8", "THE REPORT OPTION")[0];
    let octets =
        |line: &str| line.split_whitespace().map_while(|word| u8::from_str_radix(word, 16).ok().filter(|_| word.len() == 2)).collect();
    let bytes: Vec<u8> = report.lines().flat_map(|line: &str| -> Vec<u8> { octets(line) }).collect();
    let said = Report::parse(&bytes).expect("a report");
    assert!(said.macs.as_slice().len() == 2 && matches!(said.verdict, ReportVerdict::Failed(name) if name.as_str() == "20-memory"));
    assert!(prose(&page("muster-in.8")).contains(&format!("{} bytes", report::LEN_MAX)));
}

/// The string literals of a source before its tests, each with its line and without its placeholders.
fn literals(source: &str) -> Vec<(usize, String)> {
    let code = source.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(c) = rest.chars().next() {
        let raw = rest.strip_prefix('r').map(|rest| rest.trim_start_matches('#')).filter(|rest| rest.starts_with('"'));
        let word = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let end = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '\'' if rest.starts_with("'\\") => 2 + rest[2..].chars().next().map_or(0, char::len_utf8),
            '\'' if rest[1..].chars().nth(1) == Some('\'') => 2 + rest[1..].chars().next().map_or(0, char::len_utf8),
            'r' if raw.is_some() => {
                let hashes = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
                let close = format!("\"{}", "#".repeat(hashes));
                let start = hashes + 2;
                start + rest[start..].find(&close).map_or(rest.len() - start, |at| at + close.len())
            }
            '"' => {
                let mut escaped = false;
                let close = |byte: u8| {
                    let closes = byte == b'"' && !escaped;
                    escaped = byte == b'\\' && !escaped;
                    closes
                };
                2 + rest[1..].bytes().position(close).unwrap_or(rest.len() - 2)
            }
            _ if word > 0 => word,
            c => c.len_utf8(),
        };
        if c == '"' || raw.is_some() {
            let mut text = String::new();
            for (at, piece) in rest[..end].split('{').enumerate() {
                text += if at == 0 { piece } else { piece.split_once('}').map_or(piece, |(_, after)| after) };
            }
            found.push((1 + code[..code.len() - rest.len()].matches('\n').count(), text));
        }
        rest = &rest[end..];
    }
    found
}

/// Words of the code, and those that this house uses in a sense of its own (doc/words.md).
const HOUSE_WORDS: [&str; 10] = ["told", "anew", "untold", "lot", "lots", "street", "streets", "stranger", "strangers", "muffled"];

/// The house words of a line, and the phrases that no other house has.
fn house_words(line: &str) -> Option<String> {
    const PHRASES: [&str; 5] = ["who waits", "who asks", "what is there to say", "in one word", "see to it"];
    let line = line.to_lowercase();
    let word = line.split(|c: char| !c.is_ascii_alphabetic()).find(|word| HOUSE_WORDS.contains(word));
    word.or_else(|| PHRASES.into_iter().find(|phrase| line.contains(phrase))).map(str::to_string)
}

/// Where operators read: manual, README, scripts, and every text that a program has.
#[test]
fn operators_read_the_words_of_their_field() {
    // How journals of version 0.1 call a stage.
    const OLD: [(&str, &str); 1] = [("roll/stage.rs", "\"stranger\"")];
    let pages = [files("man", &[""]), files("packaging", &[""]), vec![home().join("README.md")]].concat();
    assert!(pages.len() >= 12, "{pages:?}");
    let mut faults = Vec::new();
    for path in pages {
        let text = fs::read_to_string(&path).expect("a page");
        let lines = text.lines().enumerate().map(|(n, line)| (n + 1, line));
        faults.extend(lines.filter_map(|(n, line)| house_words(line).map(|word| format!("{}:{n}: {word:?} in {line:?}", path.display()))));
    }
    let is_code = |path: &&PathBuf| !path.iter().any(|part| part == "tests" || part == "tests.rs" || part == "testing.rs");
    let sources = [files("src", &[".rs"]), files("nss/src", &[".rs"])].concat();
    let mut count = 0;
    for path in sources.iter().filter(is_code) {
        let text = fs::read_to_string(path).expect("a source");
        for (n, text) in literals(&text) {
            count += 1;
            let old = OLD.iter().any(|(file, literal)| path.ends_with(file) && text == *literal);
            faults.extend(house_words(&text).filter(|_| !old).map(|word| format!("{}:{n}: {word:?} in {text}", path.display())));
        }
    }
    assert!(count > 2000, "{count} literals");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn literals_are_found_where_they_are() {
    let source =
        "fn a() { b('\"', '\\'', b'x', r#\"raw \"lot\" {x}\"#); }\n// \"told\"\nlet c: &'static str = \"said {told:?} \\\" to \\\n {0}\";";
    let expected = [(1, "r#\"raw \"lot\" \"#".to_string()), (3, "\"said  \\\" to \\\n \"".to_string())];
    assert_eq!(literals(source), expected);
    assert_eq!(house_words("Written anew."), Some("anew".to_string()));
    assert_eq!(house_words("a slot for a lottery"), None);
    assert_eq!(house_words("tell Who Asks"), Some("who asks".to_string()));
}

#[test]
fn laws_and_documents_that_are_cited_exist() {
    let architecture = fs::read_to_string(home().join("doc/architecture.md")).expect("the laws");
    let is_law = |n: &str| architecture.lines().any(|line| line.starts_with(&format!("{n}. **")));
    let mut code = [files("src", &[".rs"]), files("tests", &[".rs"]), files("nss/src", &[".rs"])].concat();
    code.extend(files("doc", &[".md"]));
    for path in code {
        let text = fs::read_to_string(&path).expect("a source");
        for cited in text.split("law ").skip(1).filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
            let number: String = cited.chars().take_while(char::is_ascii_digit).collect();
            assert!(is_law(&number), "{}: law {number} is not in doc/architecture.md", path.display());
        }
        for cited in text.split("doc/").skip(1) {
            let name: String = cited.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
            let there = !cited.starts_with(&format!("{name}.md")) || home().join("doc").join(format!("{name}.md")).exists();
            assert!(there, "{}: there is no doc/{name}.md", path.display());
        }
    }
}

#[test]
fn links_lead_somewhere() {
    let mut pages = files("doc", &[".md"]);
    pages.extend(["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| home().join(name)));
    for page in pages {
        let text = fs::read_to_string(&page).expect("a document");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            let there = target.is_empty() || target.contains("://") || page.parent().is_some_and(|folder| folder.join(target).exists());
            assert!(there, "{}: {link} leads nowhere", page.display());
        }
    }
}
