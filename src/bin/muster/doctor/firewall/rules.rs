//! Rules of a packet filter, and what becomes of a packet that meets them. Pure.

use std::net::Ipv4Addr;

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
/// Chains in chains.
const DEPTH_MAX: usize = 16;

/// Where in the kernel a chain of rules stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// What comes in for the host itself; what is done before routing counts as well.
    Input,
    /// What ordinary sockets send.
    Output,
    /// All frames that leave by a device.
    Egress,
}

/// What a rule may ask about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    In,
    Out,
    Protocol,
    Family,
    Source,
    Destination,
    SourcePort,
    DestinationPort,
    /// The port of UDP, or of TCP: no other packet matches.
    PortOf(u8, bool),
    State,
    /// For whom a frame is, and of which kind the destination is: for this host, by unicast.
    Cast,
    /// Nothing that a new packet of ours has.
    Never,
    Unknown,
}

/// A value, or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A word; it may end with `*`.
    Word(String),
    Range(u32, u32),
}

/// What a rule asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    pub field: Field,
    pub items: Vec<Item>,
    pub negated: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    End(Outcome),
    Jump(String),
    Goto(String),
    Return,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Accept,
    Drop,
    Reject,
}

#[derive(Clone, Debug)]
pub struct FilterRule {
    pub matches: Vec<Match>,
    pub action: Action,
    /// How to find it.
    pub place: String,
}

#[derive(Clone, Debug)]
pub struct Chain {
    /// With its table: names are unique in one.
    pub name: String,
    pub hook: Option<(Hook, i64)>,
    /// Of a chain at a device.
    pub devices: Vec<String>,
    pub policy: Outcome,
    pub rules: Vec<FilterRule>,
    /// It has parts that only another program can read.
    pub foreign: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Ruleset {
    pub chains: Vec<Chain>,
}

/// A packet between the server and a client.
pub struct FilteredPacket<'a> {
    pub hook: Hook,
    pub interface: &'a str,
    pub protocol: u8,
    pub server: Ipv4Addr,
    pub client: Ipv4Addr,
    /// The server's; the client's is one of those that are free for all.
    pub port: u16,
}

/// What becomes of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Passage {
    /// It ends like this, and where; None: it gets through, as far as is known.
    pub certain: Option<(Outcome, String)>,
    /// It may end like this.
    pub possible: Vec<(Outcome, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tri {
    Yes,
    No,
    Unknown,
}

enum Fact<'a> {
    Word(&'a str),
    Words(&'static [&'static str]),
    Number(u32),
    Unknown,
    /// There is no such thing about this packet.
    None,
}

const CLIENT_PORT: u16 = 2070;

impl FilteredPacket<'_> {
    fn fact(&self, field: Field) -> Fact<'_> {
        let inward = self.hook == Hook::Input;
        let (source, destination) = if inward { (self.client, self.server) } else { (self.server, self.client) };
        let (from, to) = if inward { (CLIENT_PORT, self.port) } else { (self.port, CLIENT_PORT) };
        match field {
            Field::In if inward => Fact::Word(self.interface),
            Field::Out if !inward => Fact::Word(self.interface),
            Field::In | Field::Out | Field::Never => Fact::None,
            Field::Protocol => Fact::Number(self.protocol.into()),
            Field::Family => Fact::Word("ipv4"),
            Field::Source => Fact::Number(source.to_bits()),
            Field::Destination => Fact::Number(destination.to_bits()),
            Field::SourcePort => Fact::Number(from.into()),
            Field::DestinationPort => Fact::Number(to.into()),
            Field::PortOf(protocol, _) if protocol != self.protocol => Fact::None,
            Field::PortOf(_, is_source) => Fact::Number(if is_source { from } else { to }.into()),
            Field::State => Fact::Word("new"),
            Field::Cast if inward => Fact::Words(&["local", "host", "unicast"]),
            Field::Cast => Fact::Words(&["unicast"]),
            Field::Unknown => Fact::Unknown,
        }
    }
}

impl Match {
    fn of(&self, packet: &FilteredPacket<'_>) -> Tri {
        let has = match packet.fact(self.field) {
            Fact::Unknown => return Tri::Unknown,
            // Of a port of TCP, UDP has neither this nor another one.
            Fact::None if matches!(self.field, Field::PortOf(..)) => return Tri::No,
            Fact::None => false,
            Fact::Word(word) => self.items.iter().any(|item| item.is_word(word)),
            Fact::Words(words) => self.items.iter().any(|item| words.iter().any(|word| item.is_word(word))),
            Fact::Number(number) => {
                self.items.iter().any(|item| matches!(item, Item::Range(first, last) if (*first..=*last).contains(&number)))
            }
        };
        if has != self.negated { Tri::Yes } else { Tri::No }
    }
}

impl Item {
    fn is_word(&self, word: &str) -> bool {
        match self {
            Item::Word(pattern) => match pattern.strip_suffix('*') {
                Some(begin) => word.starts_with(begin),
                None => pattern == word,
            },
            Item::Range(..) => false,
        }
    }
}

impl FilterRule {
    fn of(&self, packet: &FilteredPacket<'_>) -> Tri {
        let all = self.matches.iter().map(|it| it.of(packet));
        all.fold(Tri::Yes, |all, one| match (all, one) {
            (Tri::No, _) | (_, Tri::No) => Tri::No,
            (Tri::Unknown, _) | (_, Tri::Unknown) => Tri::Unknown,
            _ => Tri::Yes,
        })
    }
}

/// How a walk through a chain ended.
enum Walk {
    Ended(Outcome, String),
    /// Back to where it was entered from.
    Through,
}

impl Ruleset {
    pub fn add(&mut self, more: Ruleset) {
        self.chains.extend(more.chains);
    }

    pub fn count(&self) -> usize {
        self.chains.iter().map(|chain| chain.rules.len()).sum()
    }

    /// What becomes of a packet: each chain at its place sees it, until one ends it.
    pub fn passage(&self, packet: &FilteredPacket<'_>) -> Passage {
        let at = |chain: &&Chain| chain.hook.is_some_and(|(hook, _)| hook == packet.hook);
        let mut bases: Vec<&Chain> = self.chains.iter().filter(at).filter(|chain| chain.has(packet.interface)).collect();
        bases.sort_by_key(|chain| chain.hook.map(|(_, priority)| priority));
        let mut passage = Passage::default();
        for base in bases {
            let mut possible = Vec::new();
            let (outcome, by) = match self.walk(base, packet, true, DEPTH_MAX, &mut possible) {
                Walk::Ended(outcome, by) => (outcome, by),
                Walk::Through => (base.policy, format!("the policy of chain {}", base.name)),
            };
            let may_pass = possible.iter().any(|(outcome, _)| *outcome == Outcome::Accept);
            passage.possible.extend(possible.into_iter().filter(|(outcome, _)| *outcome != Outcome::Accept));
            match outcome {
                Outcome::Accept => {}
                ended if may_pass => passage.possible.push((ended, by)),
                ended => {
                    passage.certain = Some((ended, by));
                    break;
                }
            }
        }
        passage.possible.dedup();
        passage
    }

    /// `sure`: the packet certainly comes by here. What may become of it is added to `possible`.
    fn walk(&self, chain: &Chain, packet: &FilteredPacket<'_>, sure: bool, depth: usize, possible: &mut Vec<(Outcome, String)>) -> Walk {
        for rule in &chain.rules {
            let tri = rule.of(packet);
            if tri == Tri::No {
                continue;
            }
            let (here, sure) = (tri == Tri::Yes, sure && tri == Tri::Yes);
            match &rule.action {
                Action::Nothing => {}
                Action::End(outcome) if sure => return Walk::Ended(*outcome, rule.place.clone()),
                Action::End(outcome) => possible.push((*outcome, rule.place.clone())),
                Action::Return if here => return Walk::Through,
                Action::Return => {}
                Action::Jump(name) | Action::Goto(name) => {
                    let next = self.chains.iter().find(|chain| chain.name == *name).filter(|_| depth > 0);
                    if let Some(Walk::Ended(outcome, by)) = next.map(|next| self.walk(next, packet, sure, depth - 1, possible)) {
                        return Walk::Ended(outcome, by);
                    }
                }
            }
            // Whether or not it came by, it went no further.
            if here && matches!(rule.action, Action::End(_) | Action::Goto(_)) {
                return Walk::Through;
            }
        }
        Walk::Through
    }
}

impl Chain {
    fn has(&self, interface: &str) -> bool {
        self.devices.is_empty() || self.devices.iter().any(|device| device == interface)
    }
}
