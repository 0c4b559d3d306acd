//! What `nft -j list ruleset` prints (libnftables-json(5)), as far as it matters here. Pure.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::Value;

use super::rules::{Action, Chain, Field, FilterRule, Hook, Item, Match, Outcome, Ruleset, TCP, UDP};

/// What was read.
pub struct NftRules {
    pub rules: Ruleset,
    /// iptables made some of it.
    pub foreign: bool,
}

/// Sets and maps by table and name.
type Sets<'a> = BTreeMap<(&'a str, &'a str), &'a [Value]>;

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A table's name is unique in its family alone.
fn table(value: &Value) -> String {
    format!("{} {}", text(value, "family"), text(value, "table"))
}

/// # Errors
/// It is not what nft prints.
pub fn read(printed: &str) -> Result<NftRules, String> {
    let whole: Value = serde_json::from_str(printed).map_err(|error| format!("cannot understand what it prints: {error}"))?;
    let objects = whole.get("nftables").and_then(Value::as_array).ok_or("cannot understand what it prints")?;
    let named = |kinds: &'static [&str]| objects.iter().filter_map(move |object| kinds.iter().find_map(|kind| object.get(kind)));
    let of_ours = |value: &&Value| matches!(text(value, "family"), "ip" | "inet" | "netdev");
    let mut sets = Sets::new();
    for set in named(&["set", "map"]).filter(of_ours) {
        let elements = set.get("elem").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        sets.insert((text(set, "table"), text(set, "name")), elements);
    }
    let mut chains: Vec<Chain> = named(&["chain"]).filter(of_ours).map(chain).collect();
    let mut foreign = false;
    for rule in named(&["rule"]).filter(of_ours) {
        let name = format!("{} {}", table(rule), text(rule, "chain"));
        let expressions = rule.get("expr").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let place = format!("nft rule {} of chain {name}", rule.get("handle").and_then(Value::as_u64).unwrap_or(0));
        if let Some(chain) = chains.iter_mut().find(|chain| chain.name == name) {
            let made_by_iptables = expressions.iter().any(|it| it.get("xt").is_some());
            (chain.foreign, foreign) = (chain.foreign || made_by_iptables, foreign || made_by_iptables);
            chain.rules.extend(rules(expressions, &table(rule), &place, (text(rule, "table"), &sets)));
        }
    }
    // A table of which iptables can read a part can be read by it whole.
    let tables: Vec<String> = chains.iter().filter(|chain| chain.foreign).map(|chain| table_of(&chain.name).to_string()).collect();
    chains.iter_mut().filter(|chain| tables.iter().any(|table| table == table_of(&chain.name))).for_each(|chain| chain.foreign = true);
    Ok(NftRules { rules: Ruleset { chains }, foreign })
}

/// `ip filter` of `ip filter INPUT`.
fn table_of(chain: &str) -> &str {
    chain.rsplit_once(' ').map_or(chain, |(table, _)| table)
}

fn chain(value: &Value) -> Chain {
    let hook = match (text(value, "hook"), text(value, "type")) {
        (_, "nat") => None,
        ("prerouting", _) => Some((Hook::Input, -1_000_000)),
        ("input", _) => Some((Hook::Input, 0)),
        ("output", _) => Some((Hook::Output, 0)),
        ("egress", _) => Some((Hook::Egress, 0)),
        _ => None,
    };
    let priority = value.get("prio").and_then(Value::as_i64).unwrap_or(0);
    let devices = match value.get("dev") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(str::to_string).collect(),
        _ => Vec::new(),
    };
    let policy = if text(value, "policy") == "drop" { Outcome::Drop } else { Outcome::Accept };
    let name = format!("{} {}", table(value), text(value, "name"));
    Chain { name, hook: hook.map(|(hook, before)| (hook, before + priority)), devices, policy, rules: Vec::new(), foreign: false }
}

/// A rule; several, where it has a map of verdicts.
fn rules(expressions: &[Value], table: &str, place: &str, sets: (&str, &Sets<'_>)) -> Vec<FilterRule> {
    let mut matches = Vec::new();
    let mut made = Vec::new();
    for expression in expressions {
        let Some((kind, body)) = expression.as_object().and_then(|object| object.iter().next()) else { continue };
        match kind.as_str() {
            "match" => matches.push(condition(body, sets)),
            "vmap" => made.extend(verdict_map(body, &matches, table, place, sets)),
            // Above a rate nothing matches, or below it.
            "limit" | "quota" | "ct count" | "xt" if verdict(kind, body, table).is_none() => matches.push(unknown()),
            _ => {
                if let Some(action) = verdict(kind, body, table) {
                    made.push(FilterRule { matches: matches.clone(), action, place: place.to_string() });
                }
            }
        }
    }
    made
}

fn unknown() -> Match {
    Match { field: Field::Unknown, items: Vec::new(), negated: false }
}

fn verdict(kind: &str, body: &Value, table: &str) -> Option<Action> {
    let target = || format!("{table} {}", text(body, "target"));
    Some(match kind {
        "accept" => Action::End(Outcome::Accept),
        "drop" => Action::End(Outcome::Drop),
        "reject" => Action::End(Outcome::Reject),
        "return" => Action::Return,
        "jump" => Action::Jump(target()),
        "goto" => Action::Goto(target()),
        "xt" if text(body, "type") == "target" => match text(body, "name") {
            "REJECT" => Action::End(Outcome::Reject),
            _ => Action::Nothing,
        },
        _ => return None,
    })
}

fn verdict_map(body: &Value, before: &[Match], table: &str, place: &str, sets: (&str, &Sets<'_>)) -> Vec<FilterRule> {
    let field = body.get("key").map_or(Field::Unknown, field);
    let data = body.get("data");
    let entries = match data {
        Some(Value::String(name)) => sets.1.get(&(sets.0, name.trim_start_matches('@'))).copied().unwrap_or_default(),
        data => data.and_then(|data| data.get("set")).and_then(Value::as_array).map_or(&[][..], Vec::as_slice),
    };
    let rule = |entry: &Value| {
        let (key, action) = (entry.get(0)?, entry.get(1)?);
        let (kind, body) = action.as_object().and_then(|object| object.iter().next())?;
        let mut matches = before.to_vec();
        matches.push(compare(field, key, false, sets));
        Some(FilterRule { matches, action: verdict(kind, body, table)?, place: place.to_string() })
    };
    entries.iter().filter_map(rule).collect()
}

fn condition(body: &Value, sets: (&str, &Sets<'_>)) -> Match {
    let field = body.get("left").map_or(Field::Unknown, field);
    let (Some(right), "==" | "!=" | "in") = (body.get("right"), text(body, "op")) else { return unknown() };
    compare(field, right, text(body, "op") == "!=", sets)
}

fn compare(field: Field, right: &Value, negated: bool, sets: (&str, &Sets<'_>)) -> Match {
    let mut found = Vec::new();
    match items(right, sets, &mut found) {
        Some(()) => Match { field, items: found.into_iter().map(|item| by_number(field, item)).collect(), negated },
        None => unknown(),
    }
}

/// Names of protocols as numbers.
fn by_number(field: Field, item: Item) -> Item {
    let Item::Word(word) = &item else { return item };
    match (field, word.as_str()) {
        (Field::Protocol, "udp") => Item::Range(UDP.into(), UDP.into()),
        (Field::Protocol, "tcp") => Item::Range(TCP.into(), TCP.into()),
        _ => item,
    }
}

/// None: there is something in it that is not understood.
fn items(value: &Value, sets: (&str, &Sets<'_>), found: &mut Vec<Item>) -> Option<()> {
    match value {
        Value::Number(number) => {
            let number = u32::try_from(number.as_u64()?).ok()?;
            found.push(Item::Range(number, number));
        }
        Value::String(word) => match (word.strip_prefix('@'), word.parse::<Ipv4Addr>()) {
            (Some(name), _) => return sets.1.get(&(sets.0, name))?.iter().try_for_each(|it| items(it, sets, found)),
            (None, Ok(address)) => found.push(Item::Range(address.to_bits(), address.to_bits())),
            (None, Err(_)) => found.push(Item::Word(word.clone())),
        },
        Value::Array(all) => return all.iter().try_for_each(|it| items(it, sets, found)),
        Value::Object(object) => {
            let (kind, body) = object.iter().next()?;
            match kind.as_str() {
                "set" => return items(body, sets, found),
                // An element with a time-out or a comment.
                "elem" => return items(body.get("val")?, sets, found),
                "prefix" => {
                    // An IPv6 prefix is nobody's of ours.
                    let Ok(address) = text(body, "addr").parse::<Ipv4Addr>() else { return Some(()) };
                    let mask = prefix_mask(body.get("len")?.as_u64()?)?;
                    found.push(Item::Range(address.to_bits() & mask, address.to_bits() | !mask));
                }
                "range" => {
                    let ends = [body.get(0)?, body.get(1)?].map(|end| {
                        let mut one = Vec::new();
                        items(end, sets, &mut one)?;
                        one.pop()
                    });
                    let [Some(Item::Range(first, _)), Some(Item::Range(last, _))] = ends else { return None };
                    found.push(Item::Range(first, last));
                }
                _ => return None,
            }
        }
        _ => return None,
    }
    Some(())
}

/// The mask of a prefix of this length.
pub fn prefix_mask(len: u64) -> Option<u32> {
    (len <= 32).then(|| if len == 0 { 0 } else { u32::MAX << (32 - len) })
}

fn field(left: &Value) -> Field {
    let Some((kind, body)) = left.as_object().and_then(|object| object.iter().next()) else { return Field::Unknown };
    match (kind.as_str(), text(body, "key"), text(body, "protocol"), text(body, "field")) {
        // Some bits of it: of another protocol it is not so in any case.
        ("&", ..) => match body.get(0).map(field) {
            Some(Field::PortOf(0, _)) => Field::PortOf(0, false),
            _ => Field::Unknown,
        },
        ("meta", "iif" | "iifname", ..) => Field::In,
        ("meta", "oif" | "oifname", ..) => Field::Out,
        ("meta", "l4proto", ..) | ("payload", _, "ip", "protocol") => Field::Protocol,
        ("meta", "nfproto", ..) => Field::Family,
        ("meta", "pkttype", ..) => Field::Cast,
        ("ct", "state", ..) => Field::State,
        ("ct", "status", ..) => Field::Never,
        ("payload", _, "ip", "saddr") => Field::Source,
        ("payload", _, "ip", "daddr") => Field::Destination,
        ("payload", _, "udp", "sport") => Field::PortOf(UDP, true),
        ("payload", _, "udp", "dport") => Field::PortOf(UDP, false),
        ("payload", _, "tcp", "sport") => Field::PortOf(TCP, true),
        ("payload", _, "tcp", "dport") => Field::PortOf(TCP, false),
        ("payload", _, "th", "sport") => Field::SourcePort,
        ("payload", _, "th", "dport") => Field::DestinationPort,
        // Of other protocols nothing is ever so or otherwise.
        ("payload", _, "ip6" | "icmp" | "icmpv6" | "tcp" | "arp" | "sctp" | "igmp", _) => Field::PortOf(0, false),
        ("fib", ..) if text(body, "result") == "type" => Field::Cast,
        _ => Field::Unknown,
    }
}
