//! What iptables-save prints. Pure.

use std::net::Ipv4Addr;

use super::nft::prefix_mask;
use super::rules::{Action, Chain, Field, FilterRule, Hook, Item, Match, Outcome, Ruleset, TCP, UDP};

/// Modules whose options are understood; an option of another one may hold or not.
const KNOWN: [&str; 9] = ["udp", "tcp", "multiport", "conntrack", "state", "comment", "addrtype", "pkttype", "iprange"];

/// Reads the tables; lines that are none of it say nothing.
pub fn read(printed: &str) -> Ruleset {
    let (mut rules, mut table) = (Ruleset::default(), "");
    for line in printed.lines() {
        match line.split_at_checked(1) {
            Some(("*", name)) => table = name.trim(),
            Some((":", rest)) if table != "nat" => rules.chains.extend(chain(rest, table)),
            _ if table == "nat" => {}
            _ => {
                let words = words(line);
                let Some(("-A", (name, rest))) = words.split_first().and_then(|(add, rest)| Some((add.as_str(), rest.split_first()?)))
                else {
                    continue;
                };
                let full = format!("{table} {name}");
                if let Some(chain) = rules.chains.iter_mut().find(|chain| chain.name == full) {
                    chain.rules.push(rule(rest, table, line));
                }
            }
        }
    }
    rules
}

/// `INPUT DROP [0:0]`
fn chain(line: &str, table: &str) -> Option<Chain> {
    let (name, rest) = line.split_once(' ')?;
    let before = match table {
        "raw" => -300,
        "mangle" => -150,
        "security" => 50,
        _ => 0,
    };
    let hook = match name {
        "PREROUTING" => Some((Hook::Input, before - 1_000_000)),
        "INPUT" => Some((Hook::Input, before)),
        "OUTPUT" => Some((Hook::Output, before)),
        _ => None,
    };
    let policy = if rest.starts_with("DROP") { Outcome::Drop } else { Outcome::Accept };
    Some(Chain { name: format!("{table} {name}"), hook, devices: Vec::new(), policy, rules: Vec::new(), foreign: false })
}

/// The words of a line, of which some stand in double quotes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut begun) = (Vec::new(), String::new(), false, false);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => (quoted, begun) = (!quoted, true),
            '\\' if quoted => word.extend(chars.next()),
            c if c.is_whitespace() && !quoted => {
                if begun {
                    words.push(std::mem::take(&mut word));
                }
                begun = false;
            }
            c => {
                word.push(c);
                begun = true;
            }
        }
    }
    words.extend(begun.then_some(word));
    words
}

fn rule(words: &[String], table: &str, line: &str) -> FilterRule {
    let (mut matches, mut action) = (Vec::new(), Action::Nothing);
    let (mut negated, mut at) = (false, 0);
    while let Some(word) = words.get(at) {
        let value = words.get(at + 1).map_or("", String::as_str);
        at += 2;
        match word.as_str() {
            "!" => {
                negated = true;
                at -= 1;
                continue;
            }
            // The module's options say more, and each is looked at.
            "-m" if KNOWN.contains(&value) => {}
            "-m" => matches.push(Match { field: Field::Unknown, items: Vec::new(), negated }),
            "--comment" => {}
            "-j" | "-g" => {
                action = target(value, table, word == "-g");
                // What follows belongs to the target.
                break;
            }
            option => {
                matches.push(condition(option, value, negated));
                // Those of an option that is not known here.
                at += words.iter().skip(at).take_while(|word| !word.starts_with('-') && *word != "!").count();
            }
        }
        negated = false;
    }
    FilterRule { matches, action, place: format!("iptables rule {line:?} of table {table}") }
}

fn target(name: &str, table: &str, goto: bool) -> Action {
    match name {
        "ACCEPT" => Action::End(Outcome::Accept),
        "DROP" => Action::End(Outcome::Drop),
        "REJECT" => Action::End(Outcome::Reject),
        "RETURN" => Action::Return,
        name if goto => Action::Goto(format!("{table} {name}")),
        // LOG and the like are no chains, and end nothing.
        name => Action::Jump(format!("{table} {name}")),
    }
}

fn condition(option: &str, value: &str, negated: bool) -> Match {
    let list = || value.split(',');
    let word = |word: &str| Item::Word(word.replace('+', "*").to_lowercase());
    let of = |field, items| Match { field, items, negated };
    match option {
        "-i" => of(Field::In, vec![Item::Word(value.replace('+', "*"))]),
        "-o" => of(Field::Out, vec![Item::Word(value.replace('+', "*"))]),
        "-p" => of(Field::Protocol, vec![protocol(value)]),
        "-s" => of(Field::Source, list().filter_map(addresses).collect()),
        "-d" => of(Field::Destination, list().filter_map(addresses).collect()),
        "--sport" | "--sports" => of(Field::SourcePort, list().filter_map(ports).collect()),
        "--dport" | "--dports" => of(Field::DestinationPort, list().filter_map(ports).collect()),
        "--ctstate" | "--state" => of(Field::State, list().map(word).collect()),
        "--dst-type" | "--pkt-type" => of(Field::Cast, list().map(word).collect()),
        _ => of(Field::Unknown, Vec::new()),
    }
}

fn protocol(name: &str) -> Item {
    let number = match name {
        "udp" => UDP.into(),
        "tcp" => TCP.into(),
        other => other.parse().unwrap_or(u32::MAX),
    };
    Item::Range(number, number)
}

/// `69`, `20000:21000`
fn ports(text: &str) -> Option<Item> {
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    Some(Item::Range(first.parse().ok()?, last.parse().ok()?))
}

/// `10.54.0.0/16`, `10.54.0.1/32`, `10.54.0.0/255.255.0.0`
fn addresses(text: &str) -> Option<Item> {
    let (address, len) = text.split_once('/').unwrap_or((text, "32"));
    let address = address.parse::<Ipv4Addr>().ok()?.to_bits();
    let mask = match len.parse::<Ipv4Addr>() {
        Ok(mask) => mask.to_bits(),
        Err(_) => prefix_mask(len.parse().ok()?)?,
    };
    Some(Item::Range(address & mask, address | !mask))
}
