//! Operators who change hundreds of numbers at once, in virtual time: machines ask and get numbers and leases meanwhile, the journal is written
//! again or taken away, its disk stalls, and the head loses its power at any point.
//!
//! [`play`] plays what a seed says and gives what it came to. Laws:
//! - after a crash the roll is what it was after some change, whole: none before the last that was confirmed, or that a machine relies on;
//! - what is in memory is what the journal says, whenever the disk has everything;
//! - every change is answered, once the disk has it.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::machine::{ConnId, Input, Machine, Stream, StreamEvent};
use crate::base::outbox::{Outbox, Output};
use crate::base::rng::Rng;
use crate::base::time::{Instant, Now};
use crate::config::Config;
use crate::engine::server::Server;
use crate::roll::lot::{Lot, Macs};
use crate::roll::plan::{AddressPlan, Number};
use crate::roll::ruling::Numbering;
use crate::wire::dhcp::{self, Header, MessageType, Scratch, code};
use crate::wire::report::{Report, ReportVerdict};

use super::cable::{Cable, Heard, WIRE};
use super::config::{HEAD, config};
use super::disk::Habits;
use super::world::{START, Setup, World};

const STEPS: u32 = 300;

/// What somebody saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangesOutcome {
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
type LotList = Vec<Lot>;

/// The head, and what its roll was after each change since the last that somebody relies on.
struct Head {
    server: Server,
    rolls: Vec<LotList>,
    /// How many there were before the first one that is kept.
    gone: usize,
    /// The one that an operator's last line led to, counted since the head began.
    led_to: usize,
}

impl Head {
    fn new(server: Server) -> Head {
        let rolls = vec![roll(&server)];
        Head { server, rolls, gone: 0, led_to: 0 }
    }

    /// Remembers the roll, if it has changed.
    fn see(&mut self, out: &Outbox) {
        if !out.iter().any(|output| matches!(output, Output::Record(_))) {
            return;
        }
        let roll = roll(&self.server);
        if self.rolls.last() != Some(&roll) {
            self.rolls.push(roll);
        }
    }

    /// What was so by then is so for ever.
    fn relied_on(&mut self, roll: usize) {
        let gone = roll.saturating_sub(self.gone).min(self.rolls.len() - 1);
        self.rolls.drain(..gone);
        self.gone += gone;
    }
}

impl Machine for Head {
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Outbox) {
        self.server.handle(now, input, out);
        self.see(out);
        if let Input::Stream(Stream { event: StreamEvent::Bytes(_), .. }) = input {
            self.led_to = self.gone + self.rolls.len() - 1;
        }
    }

    fn expire(&mut self, now: Now, out: &mut Outbox) {
        self.server.expire(now, out);
        self.see(out);
    }

    fn deadline(&self) -> Option<Instant> {
        self.server.deadline()
    }
}

struct Play {
    rng: Rng,
    /// How many crashes do not happen, in parts per million.
    calm: u32,
    config: Config,
    world: World<Head, Cable>,
    operator: ConnId,
    /// The operator waits for an answer.
    waits: bool,
    next_mac: u32,
    outcome: ChangesOutcome,
}

/// The play of a seed.
pub fn play(seed: u64) -> ChangesOutcome {
    let mut play = Play::new(seed);
    for _ in 0..STEPS {
        play.step();
        if !play.outcome.faults.is_empty() {
            break;
        }
    }
    ChangesOutcome { hash: play.world.hash(), ..play.outcome }
}

impl Play {
    fn new(seed: u64) -> Play {
        let mut rng = Rng::new(seed);
        let mut config = config([]);
        config.plan = AddressPlan::new(config.plan.node0(), [3, 40, 700, 3000][rng.below(4) as usize]);
        config.server.capacity = 4096;
        config.numbering = if rng.chance(500_000) { Numbering::Automatic } else { Numbering::Ordered };
        let setup = Setup { config, seed: rng.u64(), wire: WIRE, habits: Habits::default() };
        let calm = [0, 900_000][rng.below(2) as usize];
        let mut world = World::new(&setup, Head::new(Server::new(&setup.config, seed, START)), Cable::default());
        world.hold_journal();
        let (operator, outcome) = (call(&mut world), ChangesOutcome::default());
        let mut play = Play { rng, calm, config: setup.config, world, operator, waits: false, next_mac: 1, outcome };
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
                self.world.server_mut().server.checkpoint();
                self.settle();
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
                if self.world.take_journal_away() {
                    self.tell(format_args!("the journal is taken away"));
                    self.settle();
                }
            }
            // The power is there as long as the journal is not.
            _ if self.world.journal().is_gone() => self.sync(),
            _ if self.rng.chance(self.calm) => self.rest(),
            _ => self.crash(),
        }
    }

    /// What an operator may say.
    fn operate(&mut self) {
        if self.waits {
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
        self.waits = true;
        self.world.write(self.operator, format!("{{\"do\":\"change\",\"change\":{change}}}\n").as_bytes());
        self.settle();
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
        let mut report = Report { verdict: ReportVerdict::Passed, ..Report::EMPTY };
        if report.macs.push(mac) {
            self.dhcp(mac, MessageType::Discover, None, Some(&report));
        }
    }

    fn dhcp(&mut self, mac: Mac, kind: MessageType, wanted: Option<Ipv4Addr>, report: Option<&Report>) {
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&mac.0);
        let header = Header { xid: self.rng.u64() as u32, chaddr, ..Header::default() };
        let (mut text, head, wanted) = ([0; 255], HEAD.octets(), wanted.map(|address| address.octets()));
        let mut options: Vec<(u8, &[u8])> = Vec::new();
        if let Some(address) = &wanted {
            options.extend([(code::REQUESTED_IP, &address[..]), (code::SERVER_ID, &head[..])]);
        }
        if let Some(report) = report {
            let len = report.write(&mut text).unwrap_or(0);
            options.push((self.config.dhcp.report_option, &text[..len]));
        }
        self.world.clients_mut().dhcp(&header, kind, (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST), &options);
    }

    /// The operator reads.
    fn read(&mut self) {
        let text = self.world.read(self.operator);
        String::from_utf8_lossy(&text).lines().for_each(|line| self.answered(line));
    }

    fn answered(&mut self, line: &str) {
        if !std::mem::take(&mut self.waits) {
            return self.fault(format_args!("an answer that nobody waits for: {line}"));
        }
        let reply: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        self.tell(format_args!("the operator reads: {}", line.get(..line.len().min(120)).unwrap_or_default()));
        match reply["is"].as_str() {
            Some("changed") => {
                let count = reply["count"].as_u64().unwrap_or(0);
                self.outcome.changes += 1;
                self.outcome.largest = self.outcome.largest.max(count);
                if count > 0 {
                    let head = self.world.server_mut();
                    head.relied_on(head.led_to);
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
                let has = |roll: &LotList| roll.get(number as usize).is_some_and(|lot| lot.fingerprint.macs.contains(mac));
                // In every roll from some on; it relies on that one.
                let head = self.world.server_mut();
                let since = head.rolls.iter().rposition(|roll| !has(roll)).map_or(0, |at| at + 1);
                if since < head.rolls.len() {
                    head.relied_on(head.gone + since);
                }
            }
            _ => {}
        }
    }

    /// Whatever takes no time happens.
    fn settle(&mut self) {
        self.pass(Duration::ZERO);
    }

    fn pass(&mut self, time: Duration) {
        let end = self.world.now().at + time;
        while self.world.run(end, |world| world.clients().has_heard()) {
            while let Some(heard) = self.world.clients_mut().hear() {
                // Who has an address does not care whether he is asked for it.
                if let Heard::Reply(reply) = heard {
                    self.reply(&reply);
                }
            }
        }
        self.read();
    }

    fn sync(&mut self) {
        self.world.sync();
        self.settle();
    }

    /// The disk has something to do, or will have.
    fn is_busy(&self) -> bool {
        let server = &self.world.server().server;
        self.world.journal().is_busy() || server.is_changing() || server.is_compacting()
    }

    /// Nobody asks anything until the disk has everything.
    fn rest(&mut self) {
        self.tell(format_args!("the disk has time"));
        for _ in 0..20_000 {
            self.pass(Duration::from_micros(500));
            if !self.is_busy() {
                break;
            }
            self.sync();
        }
        if self.is_busy() {
            return self.fault(format_args!("the journal does not come to an end"));
        }
        if self.waits {
            self.fault(format_args!("the operator has no answer though the disk has everything"));
        }
        let lines = self.world.journal().lines();
        self.same_as(&lines, "the journal of a disk that has everything");
    }

    fn same_as(&mut self, lines: &[String], which: &str) {
        match Server::restored(&self.config, 1, self.world.now(), lines.iter().map(String::as_str)) {
            Ok(server) => {
                let (found, there) = (roll(&server), roll(&self.world.server().server));
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
        self.outcome.torn += usize::from(std::mem::take(&mut self.waits));
        let lines = self.world.crash();
        self.tell(format_args!("crash; {} lines are left", lines.len()));
        let head = match Server::restored(&self.config, self.rng.u64(), self.world.now(), lines.iter().map(String::as_str)) {
            Ok(server) => Head::new(server),
            Err(error) => return self.fault(format_args!("what a crash left is refused: {error}")),
        };
        let (before, found) = (&self.world.server().rolls, &head.rolls[0]);
        if !before.contains(found) {
            let near = before.iter().map(|roll| roll.iter().zip(found).filter(|(a, b)| a != b).count());
            let near: Vec<usize> = near.collect();
            self.fault(format_args!("after a crash the roll is none of those before: it differs from them in {near:?} numbers"));
        }
        self.world.restart(head);
        self.operator = call(&mut self.world);
        self.pass(Duration::from_secs(2));
    }

    fn tell(&mut self, what: std::fmt::Arguments<'_>) {
        self.outcome.story.push(format!("{}: {what}", self.world.now().at));
    }

    fn fault(&mut self, what: std::fmt::Arguments<'_>) {
        let at = self.world.now().at;
        self.outcome.faults.push(format!("{at}: {what}"));
    }
}

fn roll(server: &Server) -> LotList {
    server.roll().lots().iter().map(|(_, lot)| Lot { retired: Macs::default(), since: 0, ..*lot }).collect()
}

fn mac(n: u32) -> Mac {
    let [a, b, c, d] = n.to_be_bytes();
    Mac([2, 0x60, a, b, c, d])
}

/// An operator connects.
fn call(world: &mut World<Head, Cable>) -> ConnId {
    world.connect(world.server().server.endpoints().operators()).expect("there is a place for an operator")
}
