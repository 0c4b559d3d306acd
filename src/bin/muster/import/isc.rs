//! `host` blocks of ISC dhcpd's config (dhcpd.conf(5)), wherever they stand: in groups, in subnets, in a leases file.

use super::{ImportedFile, ImportedMachine, mac};

/// A word, a text in quotes, or one of `{ } ; ,`, with its line.
struct Token<'a> {
    line: usize,
    text: &'a str,
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    for (line, content) in text.lines().enumerate().map(|(at, content)| (at + 1, content)) {
        let mut rest = content.trim_start();
        while let Some(first) = rest.chars().next().filter(|first| *first != '#') {
            let len = match first {
                '{' | '}' | ';' | ',' => 1,
                '"' => rest.get(1..).and_then(|inner| inner.find('"')).map_or(rest.len(), |at| at + 2),
                _ => rest.find(|c: char| c.is_whitespace() || "{};,#\"".contains(c)).unwrap_or(rest.len()),
            };
            let (token, after) = rest.split_at(len);
            tokens.push(Token { line, text: token.trim_matches('"') });
            rest = after.trim_start();
        }
    }
    tokens
}

pub fn read(text: &str) -> ImportedFile {
    let mut read = ImportedFile::default();
    let tokens = tokens(text);
    let mut rest = tokens.as_slice();
    while let Some((first, after)) = rest.split_first() {
        rest = match after {
            [name, open, body @ ..] if first.text == "host" && open.text == "{" => {
                let end = end(body);
                host(&mut read, name, body.get(..end).unwrap_or_default());
                body.get(end..).unwrap_or_default()
            }
            _ => after,
        };
    }
    read
}

/// Where a block ends whose first token this is.
fn end(body: &[Token<'_>]) -> usize {
    let mut depth = 1;
    for (at, token) in body.iter().enumerate() {
        match token.text {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    body.len()
}

fn host(read: &mut ImportedFile, name: &Token<'_>, body: &[Token<'_>]) {
    let mut found = ImportedMachine { line: name.line, name: name.text.to_string(), ..ImportedMachine::default() };
    for statement in body.split(|token| token.text == ";") {
        let words: Vec<&str> = statement.iter().map(|token| token.text).collect();
        match words.as_slice() {
            ["hardware", "ethernet", text, ..] => match mac(text) {
                Some(mac) => found.macs.push(mac),
                None => {
                    return read
                        .fault(statement.get(2).map_or(name.line, |token| token.line), format!("{text:?} is not a machine's MAC address"));
                }
            },
            ["fixed-address", address, ..] => found.address = address.parse().ok(),
            _ => {}
        }
    }
    match found.macs.is_empty() {
        true => read.fault(name.line, format!("host {} has no hardware ethernet", name.text)),
        false => read.found.push(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_wherever_they_stand() {
        let text = "option host-name \"host\";\ngroup {\n  host n1 { # first\n    hardware ethernet 0:50:56:0:0:1;\n    fixed-address 10.54.1.1, 10.54.9.9;\n  }\n\
                    \x20 host n2 { fixed-address n2.cluster; hardware ethernet 00:50:56:00:00:02; if known { allow booting; } }\n}\n\
                    host n3 { fixed-address 10.54.1.3; }\nhost n4 { hardware ethernet 12; }\nhost n5 { hardware ethernet 00:50:56:00:00:05";
        let read = read(text);
        let shown: Vec<_> = read.found.iter().map(|found| (found.line, found.name.as_str(), found.address)).collect();
        assert_eq!(shown, [(3, "n1", Some([10, 54, 1, 1].into())), (7, "n2", None), (11, "n5", None)]);
        assert_eq!(read.faults.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [9, 10]);
    }
}
