//! Operators who change hundreds of numbers at once, in virtual time: machines ask and get numbers and leases meanwhile, the journal is written
//! again or taken away, its disk stalls, and the head loses its power at any point.
//!
//! [`play`] plays what a seed says and gives what it came to. Laws:
//! - after a crash the roll is what it was after some change, whole: none before the last that was confirmed, or that a machine relies on;
//! - what is in memory is what the journal says, whenever the disk has everything;
//! - every change is answered, once the disk has it.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::machine::{ConnId, Datagram, Event, Input, Machine, Stream};
use crate::base::outbox::{Outbox, Output};
use crate::base::rng::Rng;
use crate::base::time::{Instant, Now};
use crate::config::Config;
use crate::engine::server::Server;
use crate::roll::lot::{Lot, Macs};
use crate::roll::plan::{AddressPlan, Number};
use crate::roll::ruling::Numbering;
use crate::wire::dhcp::{self, Builder, Header, MessageType, Scratch, code};
use crate::wire::report::{Report, Verdict};

use super::config::{HEAD, config};
use super::journal::Journal;

const STEPS: u32 = 300;
const EPOCH: u64 = 1_750_000_000;
fn operator() -> ConnId {
    ConnId::from_u64(3)
}

/// What somebody saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What broke a law, in words.
    pub faults: Vec<String>,
    /// Times that the head lost its power.
    pub crashes: usize,
    /// Crashes while a change of many lots was on its way to the disk.
    pub torn: usize,
    /// Changes that were answered, and the lots of the largest one.
    pub changes: usize,
    /// The numbers of the largest change.
    pub largest: u64,
    /// Stands for the whole run.
    pub hash: u64,
    /// What happened, for whoever looks into a fault.
    pub story: Vec<String>,
}

/// The lots as far as the next daemon must know them: which machines they had before is a courtesy, which a crash may cost.
type Roll = Vec<Lot>;

struct Play {
    rng: Rng,
    /// How many crashes do not happen, in parts per million.
    calm: u32,
    config: Config,
    server: Server,
    out: Outbox,
    journal: Journal,
    /// The disk is at work, and no promise was kept for it yet.
    busy: bool,
    now: Instant,
    /// The roll after each change since the last that somebody relies on.
    rolls: Vec<Roll>,
    /// An operator waits for the answer to the change that led to this roll (counted since the head began).
    waits: Option<usize>,
    /// How many rolls there were before the first one that is kept.
    gone: usize,
    next_mac: u32,
    outcome: Outcome,
}

/// The play of a seed.
pub fn play(seed: u64) -> Outcome {
    let mut play = Play::new(seed);
    for _ in 0..STEPS {
        play.step();
        if !play.outcome.faults.is_empty() {
            break;
        }
    }
    play.outcome
}

impl Play {
    fn new(seed: u64) -> Play {
        let mut rng = Rng::new(seed);
        let mut config = config([]);
        config.plan = AddressPlan::new(config.plan.node0(), [3, 40, 700, 3000][rng.below(4) as usize]);
        config.server.capacity = 4096;
        config.numbering = if rng.chance(500_000) { Numbering::Automatic } else { Numbering::Ordered };
        let journal = Journal::new(Duration::ZERO, rng.fork());
        let server = Server::new(&config, seed, now(Instant::ZERO));
        let calm = [0, 900_000][rng.below(2) as usize];
        let mut play = Play {
            rng,
            calm,
            config,
            server,
            out: Outbox::new(),
            journal,
            busy: false,
            now: Instant::ZERO,
            rolls: Vec::new(),
            waits: None,
            gone: 0,
            next_mac: 1,
            outcome: Outcome::default(),
        };
        play.begin_rolls();
        play.pass(Duration::from_secs(2));
        play
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..30 => self.operate(),
            30..55 => self.machine(),
            55..75 => self.sync(),
            75..88 => {
                let micros = [0, 50, 900, 1100, 4000, 30_000, 700_000_000][self.rng.below(7) as usize];
                self.pass(Duration::from_micros(micros));
            }
            88..91 => {
                self.tell(format_args!("the journal is rewritten"));
                self.server.checkpoint();
                self.pass(Duration::ZERO);
                // Somebody changes much in the middle of the walk, and the disk is quick.
                if self.rng.chance(600_000) {
                    self.operate();
                    for _ in 0..self.rng.below(24) {
                        self.pass(Duration::from_micros(900));
                        self.sync();
                    }
                }
            }
            91..94 => self.rest(),
            94 => {
                if self.journal.take_away() {
                    self.tell(format_args!("the journal is taken away"));
                    self.input(Input::JournalGone);
                }
            }
            // The power is there as long as the journal is not.
            _ if self.journal.is_gone() => self.sync(),
            _ if self.rng.chance(self.calm) => self.rest(),
            _ => self.crash(),
        }
    }

    /// What an operator may say.
    fn operate(&mut self) {
        if self.waits.is_some() {
            return;
        }
        let nodes = u64::from(self.config.plan.nodes());
        let number = self.rng.below(nodes);
        let last = (number + self.rng.below(nodes)).min(nodes - 1);
        let change = match self.rng.below(10) {
            0..4 => {
                for _ in 0..self.rng.below(8) {
                    let part = self.import(true);
                    self.ask(&part);
                }
                self.import(false)
            }
            4..6 => format!(r#"{{"what":"out","nodes":"{number}-{last}"}}"#),
            6 => r#"{"what":"enlist","guest":"@held"}"#.into(),
            7 => format!(r#"{{"what":"set","number":{number},"macs":["{}"]}}"#, self.a_mac()),
            8 => format!(r#"{{"what":"replace","number":{number}}}"#),
            _ => r#"{"what":"undo"}"#.into(),
        };
        self.ask(&change);
    }

    fn ask(&mut self, change: &str) {
        let begin = change.get(..change.len().min(120)).unwrap_or_default();
        self.tell(format_args!("an operator says {begin}"));
        let request = format!(r#"{{"do":"change","change":{change}}}"#);
        self.waits = Some(usize::MAX);
        let (endpoint, peer) = (self.server.endpoints().operators(), SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
        self.input(Input::Stream(Stream { conn: operator(), endpoint, peer, event: Event::Bytes(request.as_bytes()) }));
        if self.waits.is_some() {
            self.waits = Some(self.gone + self.rolls.len() - 1);
        }
    }

    /// A part of an import, of `more` or the last.
    fn import(&mut self, more: bool) -> String {
        let nodes = u64::from(self.config.plan.nodes());
        let first = self.rng.below(nodes);
        let count = (1 + self.rng.below(256)).min(nodes - first);
        let entry = |n: u64, mac: Mac| format!(r#"{{"number":{n},"macs":["{mac}"]}}"#);
        let entries: Vec<String> = (first..first + count).map(|n| entry(n, self.new_mac())).collect();
        format!(r#"{{"what":"import","more":{more},"entries":[{}]}}"#, entries.join(","))
    }

    fn new_mac(&mut self) -> Mac {
        self.next_mac += 1;
        mac(self.next_mac)
    }

    /// One that was seen before, or a new one.
    fn a_mac(&mut self) -> Mac {
        let known = self.rng.below(u64::from(self.next_mac) + 2) as u32;
        if known >= self.next_mac { self.new_mac() } else { mac(known) }
    }

    /// A machine that has passed muster asks, and takes what it is offered.
    fn machine(&mut self) {
        let mac = self.a_mac();
        let mut report = Report { verdict: Verdict::Passed, ..Report::EMPTY };
        if report.macs.push(mac) {
            self.dhcp(mac, MessageType::Discover, None, Some(&report));
        }
    }

    fn dhcp(&mut self, mac: Mac, kind: MessageType, wanted: Option<Ipv4Addr>, report: Option<&Report>) {
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&mac.0);
        let header = Header { op: 1, htype: 1, hlen: 6, xid: self.rng.u64() as u32, chaddr, ..Header::default() };
        let mut buf = [0; 1400];
        let Some(mut builder) = Builder::new(&mut buf, &header, 1400) else { return };
        let mut told = builder.option(code::MESSAGE_TYPE, &[kind as u8]);
        if let Some(address) = wanted {
            told &= builder.ip(code::REQUESTED_IP, address) && builder.ip(code::SERVER_ID, HEAD);
        }
        if let Some(report) = report {
            let mut text = [0; 255];
            let len = report.write(&mut text).unwrap_or(0);
            told &= builder.option(self.config.dhcp.report_option, &text[..len]);
        }
        assert!(told, "there is room for what a machine says");
        let len = builder.finish(None);
        let (src, dst) = (SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68), SocketAddrV4::new(Ipv4Addr::BROADCAST, 67));
        let endpoint = self.server.endpoints().udp(0, 67);
        self.input(Input::Datagram(Datagram { endpoint, mac: Some(mac), src, dst, payload: &buf[..len] }));
    }

    fn input(&mut self, input: Input<'_>) {
        self.server.handle(now(self.now), input, &mut self.out);
        self.drain();
    }

    /// Takes what was put out, to the disk, to the operator and to the machines.
    fn drain(&mut self) {
        if self.out.iter().any(|output| matches!(output, Output::Record(_))) {
            self.see();
        }
        let (mut lines, mut replies) = (Vec::new(), Vec::new());
        for output in self.out.iter() {
            match output {
                Output::Record(op) => self.busy |= self.journal.act(op),
                Output::Write { conn, bytes } if conn == operator() => lines.push(String::from_utf8_lossy(bytes).into_owned()),
                Output::Datagram { body, to, .. } if to.port() == 68 => replies.push(body.to_vec()),
                _ => {}
            }
        }
        self.out.clear();
        lines.iter().for_each(|line| self.answered(line));
        for reply in replies {
            self.outcome.hash = reply.iter().fold(self.outcome.hash, |hash, byte| crate::base::rng::mix(hash ^ u64::from(*byte)));
            self.reply(&reply);
        }
    }

    /// Remembers the roll, if it has changed.
    fn see(&mut self) {
        let roll = roll(&self.server);
        if self.rolls.last() != Some(&roll) {
            self.rolls.push(roll);
        }
    }

    fn begin_rolls(&mut self) {
        (self.rolls, self.gone, self.waits) = (vec![roll(&self.server)], 0, None);
    }

    /// What was so by then is so for ever.
    fn relied_on(&mut self, roll: usize) {
        let gone = roll.saturating_sub(self.gone).min(self.rolls.len() - 1);
        self.rolls.drain(..gone);
        self.gone += gone;
    }

    fn answered(&mut self, line: &str) {
        let Some(waits) = self.waits.take() else { return self.fault(format_args!("an answer that nobody waits for: {line}")) };
        let reply: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        self.tell(format_args!("the operator reads: {}", line.get(..line.len().min(120)).unwrap_or_default().trim_end()));
        match reply["is"].as_str() {
            Some("changed") => {
                self.outcome.changes += 1;
                self.outcome.largest = self.outcome.largest.max(reply["count"].as_u64().unwrap_or(0));
                if waits != usize::MAX {
                    self.relied_on(waits);
                }
            }
            Some("error") if line.contains("disk") => self.fault(format_args!("refused: {line}")),
            Some("error") => {}
            _ => self.fault(format_args!("no answer to a change: {line}")),
        }
    }

    fn reply(&mut self, reply: &[u8]) {
        let mut scratch = Box::<Scratch>::default();
        let Ok(message) = dhcp::parse(reply, &mut scratch) else { return self.fault(format_args!("a reply that cannot be read")) };
        let [a, b, c, d, e, f, ..] = message.header.chaddr;
        let (mac, address) = (Mac([a, b, c, d, e, f]), message.header.yiaddr);
        self.tell(format_args!("{:?} to {mac}: {address}", message.message_type()));
        match message.message_type() {
            Some(MessageType::Offer) => self.dhcp(mac, MessageType::Request, Some(address), None),
            // Who is told a number may rely on it.
            Some(MessageType::Ack) => {
                let Some(Number(number)) = self.config.plan.number(address) else { return };
                let has = |roll: &Roll| roll.get(number as usize).is_some_and(|lot| lot.papers.macs.contains(mac));
                // In every roll from some on; it relies on that one.
                let since = self.rolls.iter().rposition(|roll| !has(roll)).map_or(0, |at| at + 1);
                if since < self.rolls.len() {
                    self.relied_on(self.gone + since);
                }
            }
            _ => {}
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.server.expire(now(self.now), &mut self.out);
            self.drain();
            match self.server.deadline() {
                Some(at) if at <= end => self.now = self.now.max(at).max(self.now + Duration::from_micros(1)),
                _ => break,
            }
        }
        self.now = self.now.max(end);
    }

    fn sync(&mut self) {
        if std::mem::take(&mut self.busy) {
            let (seq, placed, more) = self.journal.done();
            self.busy = more;
            self.input(Input::Synced { seq });
            if placed {
                self.input(Input::Rewritten);
            }
        }
    }

    /// Nobody asks anything until the disk has everything.
    fn rest(&mut self) {
        self.tell(format_args!("the disk has time"));
        for _ in 0..20_000 {
            self.pass(Duration::from_micros(500));
            if !self.busy && !self.server.is_changing() && !self.server.rewrites() {
                break;
            }
            self.sync();
        }
        self.pass(Duration::from_micros(500));
        if self.busy || self.server.is_changing() || self.server.rewrites() {
            return self.fault(format_args!("the journal does not come to an end"));
        }
        if self.waits.is_some() {
            self.fault(format_args!("the operator has no answer though the disk has everything"));
        }
        let lines = self.journal.lines();
        self.same_as(&lines, "the journal of a disk that has everything");
    }

    fn same_as(&mut self, lines: &[String], which: &str) {
        match Server::restored(&self.config, 1, now(self.now), lines.iter().map(String::as_str)) {
            Ok(server) => {
                let (found, there) = (roll(&server), roll(&self.server));
                let differs = found.iter().zip(&there).position(|(found, there)| found != there);
                if let Some(at) = differs {
                    self.fault(format_args!("n{at} is {} in {which}, and {} in memory", found[at], there[at]));
                }
            }
            Err(error) => self.fault(format_args!("{which} is refused: {error}")),
        }
    }

    fn crash(&mut self) {
        self.outcome.crashes += 1;
        self.outcome.torn += usize::from(self.waits.is_some());
        let lines = self.journal.crash();
        self.tell(format_args!("crash; {} lines are left", lines.len()));
        (self.busy, self.out) = (false, Outbox::new());
        match Server::restored(&self.config, self.rng.u64(), now(self.now), lines.iter().map(String::as_str)) {
            Ok(server) => self.server = server,
            Err(error) => return self.fault(format_args!("what a crash left is refused: {error}")),
        }
        let found = roll(&self.server);
        if !self.rolls.contains(&found) {
            let near = self.rolls.iter().map(|roll| roll.iter().zip(&found).filter(|(a, b)| a != b).count());
            let near: Vec<usize> = near.collect();
            self.fault(format_args!("after a crash the roll is none of those before: it differs from them in {near:?} numbers"));
        }
        self.begin_rolls();
        self.pass(Duration::from_secs(2));
    }

    fn tell(&mut self, what: std::fmt::Arguments<'_>) {
        self.outcome.story.push(format!("{}: {what}", self.now));
    }

    fn fault(&mut self, what: std::fmt::Arguments<'_>) {
        let at = self.now;
        self.outcome.faults.push(format!("{at}: {what}"));
    }
}

fn roll(server: &Server) -> Roll {
    server.roll().street().iter().map(|(_, lot)| Lot { retired: Macs::default(), since: 0, ..*lot }).collect()
}

fn mac(n: u32) -> Mac {
    let [a, b, c, d] = n.to_be_bytes();
    Mac([2, 0x60, a, b, c, d])
}

fn now(at: Instant) -> Now {
    Now { at, unix: EPOCH + at.nanos() / 1_000_000_000 }
}
