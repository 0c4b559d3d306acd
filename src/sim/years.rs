//! Years of a cluster in a moment: machines with several NICs that boot from any of them, pass muster or not, are moved, cloned, replaced
//! and taken out, and a head whose clock is set and that loses its power at any point, on a disk that forgets what was not synced.
//!
//! Here the network takes no time, and the disk works when the seed says so: what is tried is who is given what. [`year`] plays the year of
//! a seed and gives what it came to. The world's own [`checks`](super::checks) know machines of one NIC alone; here these laws hold at every reply:
//! - an address has one holder at a time;
//! - a MAC that has learned its number keeps it, over every crash, until an operator says otherwise;
//! - a number has one machine: its MACs are those of one box, unless somebody carried a NIC or cloned a MAC;
//! - a guest's lease that was acknowledged is nobody else's before it ends;
//! - whoever invents MACs and reports, beside MACs of machines or alone, gets no number of a machine's, and his MACs get into no machine's lot.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::machine::{ConnId, Machine};
use crate::base::rng::{Rng, mix};
use crate::base::time::Instant;
use crate::config::Config;
use crate::engine::server::Server;
use crate::roll::client::Identity;
use crate::roll::plan::{AddressPlan, AddressRange, Number};
use crate::roll::ruling::Numbering;
use crate::wire::dhcp::{self, Header, MessageType, Scratch, code};
use crate::wire::report::{Report, ReportText, ReportVerdict};

use super::cable::{Cable, Heard, WIRE};
use super::config::{HEAD, config};
use super::disk::Habits;
use super::world::{START, Setup, World};

const STEPS: u32 = 600;
const NODES: u32 = 24;
/// Fewer than there are NICs.
const GUESTS: u8 = 60;
/// DHCP messages that the network loses, in parts per million; ARP it never does.
const LOSS: u32 = 50_000;

/// A machine's case: what is screwed into it.
#[derive(Clone, Debug)]
struct Case {
    nics: Vec<Mac>,
    uuid: [u8; 16],
    sound: bool,
    on: bool,
    /// A NIC was carried into or out of it, or one of its MACs was cloned: nobody can tell it for certain from the other.
    entangled: bool,
}

/// A machine that there is not.
const NOBODY: Identity = Identity::Mac(Mac([2, 0, 0, 0, 0, 0]));

/// What a NIC was sent last.
#[derive(Clone, Copy, Debug)]
struct GivenLease {
    address: Ipv4Addr,
    until: Instant,
}

/// What somebody saw: a run's worth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct YearsOutcome {
    /// What broke a law, in words.
    pub faults: Vec<String>,
    /// Machines that got a number.
    pub enlisted: usize,
    /// Times that the head lost its power.
    pub crashes: usize,
    /// Stands for the whole run.
    pub hash: u64,
    /// What happened, for whoever looks into a fault; empty where there was none, unless it was asked for.
    pub story: Vec<String>,
}

/// A year in the life of a cluster: machines come, go, break and are replaced, and the head loses its power.
pub struct Year {
    rng: Rng,
    config: Config,
    world: World<Server, Cable>,
    /// The connection of an operator.
    operator: ConnId,
    cases: Vec<Case>,
    leases: BTreeMap<Mac, GivenLease>,
    /// The number that a MAC has learned, and that it may rely on.
    told: BTreeMap<Mac, Number>,
    /// MACs about which somebody did what no machine can sort out: carried, or cloned.
    muddled: BTreeSet<Mac>,
    /// Somebody else on the cable, and what he was offered last.
    attacker: Option<Rng>,
    bait: Option<(Header, Ipv4Addr)>,
    next_mac: u32,
    /// The story is written down.
    tells: bool,
    outcome: YearsOutcome,
}

/// The year of a seed.
pub fn year(seed: u64) -> YearsOutcome {
    played(seed, false)
}

/// A year with somebody on the cable who forges reports.
pub fn hostile_year(seed: u64) -> YearsOutcome {
    played(seed, true)
}

/// A year that is played once more, with a transcript, when anything was wrong: writing it all down takes a quarter of the time.
fn played(seed: u64, hostile: bool) -> YearsOutcome {
    let outcome = Year::new(seed, hostile).play();
    if outcome.faults.is_empty() { outcome } else { told(seed, hostile) }
}

/// A year with its story.
pub fn told(seed: u64, hostile: bool) -> YearsOutcome {
    Year { tells: true, ..Year::new(seed, hostile) }.play()
}

/// MACs that the attacker invents.
fn is_invented(mac: Mac) -> bool {
    mac.0.starts_with(&[2, 0x66])
}

impl Year {
    fn play(mut self) -> YearsOutcome {
        for _ in 0..STEPS {
            self.attack();
            self.step();
            if !self.outcome.faults.is_empty() {
                break;
            }
        }
        (self.outcome.enlisted, self.outcome.hash) = (self.told.len(), self.world.hash());
        self.outcome
    }

    /// A report of an invented MAC, by itself or beside MACs of a machine; and the REQUEST that takes what he is offered, or not.
    fn attack(&mut self) {
        let Some(mut rng) = self.attacker.take() else { return };
        if rng.chance(150_000) {
            let [a, b, c, d] = (rng.u64() as u32 % 40).to_be_bytes();
            let own = Mac([2, 0x66, a, b, c, d]);
            let mut report = Report { verdict: ReportVerdict::Passed, ..Report::EMPTY };
            report.macs.push(own);
            // Machines that have their numbers: the MACs of others are whose who reports them first.
            let victims = &self.cases[rng.below(self.cases.len() as u64) as usize].nics;
            let victims: Vec<Mac> = victims.iter().copied().filter(|mac| self.told.contains_key(mac)).collect();
            let count = rng.below(victims.len() as u64 + 1) as usize;
            for mac in victims.iter().take(count) {
                report.macs.push(*mac);
            }
            report.uuid = rng.chance(500_000).then(|| std::array::from_fn(|_| rng.u64() as u8));
            let mut buf = [0; 255];
            let len = report.write(&mut buf).unwrap_or(0);
            self.bait = None;
            self.ask(own, rng.chance(300_000), Some(&buf[..len]));
            if let Some((header, address)) = self.bait.take().filter(|_| rng.chance(700_000)) {
                let (head, wanted) = (HEAD.octets(), address.octets());
                let options =
                    [(code::SERVER_ID, &head[..]), (code::REQUESTED_IP, &wanted[..]), (self.config.dhcp.report_option, &buf[..len])];
                self.broadcast(header, MessageType::Request, &options);
                self.settle();
            }
            let mixed = |macs: &[Mac]| macs.iter().any(|mac| is_invented(*mac)) && !macs.iter().all(|mac| is_invented(*mac));
            let spoilt = self.world.server().roll().lots().iter().find(|(_, lot)| mixed(lot.fingerprint.macs.as_slice()));
            if let Some(fault) = spoilt.map(|(number, lot)| format!("{number} has somebody else's MAC: {:?}", lot.fingerprint.macs)) {
                self.fault(format_args!("{fault}"));
            }
        }
        self.attacker = Some(rng);
    }

    /// What the attacker receives.
    fn taken_by_the_attacker(&mut self, header: Header, kind: Option<MessageType>) {
        let address = header.yiaddr;
        let number = self.config.plan.number(address);
        let owner = self.told.iter().find(|(_, told)| number == Some(**told)).map(|(mac, _)| *mac);
        if let Some(mac) = owner.filter(|_| kind == Some(MessageType::Ack)) {
            self.fault(format_args!("an attacker gets {address}, which is {mac}'s"));
        }
        let next = Header { ciaddr: Ipv4Addr::UNSPECIFIED, yiaddr: Ipv4Addr::UNSPECIFIED, op: 1, ..header };
        self.bait = (kind == Some(MessageType::Offer)).then_some((next, address));
    }

    fn new(seed: u64, hostile: bool) -> Year {
        let mut rng = Rng::new(seed);
        let mut config = config([]);
        config.plan = AddressPlan::new(config.plan.node0(), NODES);
        config.server.capacity = 128;
        config.numbering = if rng.chance(900_000) { Numbering::Automatic } else { Numbering::Locked };
        config.networks[0].guests = AddressRange::new([10, 54, 240, 0].into(), [10, 54, 240, GUESTS - 1].into());
        config.networks[0].lease = Duration::from_secs(3600);
        let setup = Setup { config, seed: rng.u64(), wire: WIRE, habits: Habits::default() };
        let server = Server::new(&setup.config, seed, START);
        let mut world = World::new(&setup, server, Cable::default());
        world.hold_journal();
        let operator = call(&mut world);
        let mut year = Year {
            rng,
            config: setup.config,
            world,
            operator,
            cases: Vec::new(),
            leases: BTreeMap::new(),
            told: BTreeMap::new(),
            muddled: BTreeSet::new(),
            attacker: hostile.then(|| Rng::new(mix(seed))),
            bait: None,
            next_mac: 1,
            tells: false,
            outcome: YearsOutcome::default(),
        };
        for _ in 0..year.rng.below(25) + 3 {
            year.deliver_case();
        }
        year.pass(Duration::from_secs(2));
        year
    }

    /// A new machine in its box.
    fn deliver_case(&mut self) {
        let nics = (0..1 + self.rng.below(4)).map(|_| self.new_mac()).collect();
        let mut uuid = [0; 16];
        // Boards without a UUID, and series that share one.
        match self.rng.below(4) {
            0 => {}
            1 => uuid = [0xab, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
            _ => uuid.fill_with(|| self.rng.u64() as u8),
        }
        let sound = self.rng.chance(850_000);
        self.cases.push(Case { nics, uuid, sound, on: false, entangled: false });
    }

    fn new_mac(&mut self) -> Mac {
        self.next_mac += 1;
        let [a, b, c, d] = self.next_mac.to_be_bytes();
        Mac([2, 0x59, a, b, c, d])
    }

    fn step(&mut self) {
        let at = self.rng.below(self.cases.len() as u64) as usize;
        match self.rng.below(100) {
            0..40 => self.boot(at),
            40..60 => self.muster(at),
            60..68 => self.renew(at),
            68..84 => {
                self.world.sync();
                self.settle();
            }
            84..88 => {
                let seconds = [1, 7, 60, 400, 3700][self.rng.below(5) as usize];
                self.pass(Duration::from_secs(seconds));
            }
            88..91 => self.crash(),
            91..93 => self.operate(),
            93 => self.carry_nic(at),
            94 => self.clone_mac(at),
            95 => self.replace_board(at),
            96 => self.switch_off(at),
            97 => self.deliver_case(),
            98 => self.set_clock(),
            _ => self.checkpoint(),
        }
    }

    fn checkpoint(&mut self) {
        self.world.server_mut().checkpoint();
        self.settle();
    }

    /// Somebody sets the head's clock, by minutes or by years. The head looks at it when something is due, and then writes its journal by it:
    /// a restart before that may forget a lease, so the disk has time.
    fn set_clock(&mut self) {
        self.finish_compaction();
        let now = self.world.now();
        let unix = [1_000_000_000, now.unix - 7200, now.unix + 90, 2_000_000_000][self.rng.below(4) as usize];
        if unix.abs_diff(now.unix) < 60 {
            return;
        }
        self.tell(format_args!("the clock is set from {} to {unix}", now.unix));
        self.world.set_clock(unix);
        if let Some(due) = self.world.server().deadline() {
            self.pass(due.since(now.at));
            if !self.world.server().is_compacting() {
                self.fault(format_args!("the clock was set, and the journal is not written by it"));
            }
        }
        self.finish_compaction();
    }

    fn finish_compaction(&mut self) {
        while self.world.server().is_compacting() {
            self.pass(Duration::from_millis(1));
            self.world.sync();
            self.settle();
        }
    }

    /// Firmware asks through one NIC, after a cold start.
    fn boot(&mut self, at: usize) {
        self.switch_off(at);
        self.pass(Duration::from_secs(6));
        self.cases[at].on = true;
        let mac = self.nic(at);
        self.ask(mac, true, None);
    }

    /// `muster-in` asks through one NIC of a machine that runs.
    fn muster(&mut self, at: usize) {
        if !self.cases[at].on {
            return;
        }
        let mac = self.nic(at);
        let case = &self.cases[at];
        let failed = ReportText::new(b"20-memory").map_or(ReportVerdict::Untested, ReportVerdict::Failed);
        let verdict = if case.sound { ReportVerdict::Passed } else { failed };
        let mut report = Report { uuid: Some(case.uuid), verdict, ..Report::EMPTY };
        for mac in &case.nics {
            report.macs.push(*mac);
        }
        let mut buf = [0; 255];
        let len = report.write(&mut buf).unwrap_or(0);
        self.ask(mac, false, Some(&buf[..len]));
    }

    fn nic(&mut self, at: usize) -> Mac {
        let which = self.rng.below(self.cases[at].nics.len() as u64) as usize;
        self.cases[at].nics[which]
    }

    fn renew(&mut self, at: usize) {
        let mac = self.nic(at);
        let now = self.world.now().at;
        let Some(lease) = self.leases.get(&mac).copied().filter(|lease| self.cases[at].on && lease.until > now) else { return };
        let header = Header { ciaddr: lease.address, ..self.header(mac) };
        self.send(header, MessageType::Request, (lease.address, HEAD), &[]);
        self.settle();
    }

    fn switch_off(&mut self, at: usize) {
        let nics = self.cases[at].nics.clone();
        self.tell(format_args!("case {at} is off: {nics:?}"));
        self.cases[at].on = false;
        self.leases.retain(|mac, _| !nics.contains(mac));
    }

    /// A NIC is carried from one machine into another.
    fn carry_nic(&mut self, at: usize) {
        let to = self.rng.below(self.cases.len() as u64) as usize;
        if to == at || self.cases[at].nics.len() < 2 || self.cases[to].nics.len() > 6 {
            return;
        }
        self.switch_off(at);
        self.switch_off(to);
        let which = self.rng.below(self.cases[at].nics.len() as u64) as usize;
        let mac = self.cases[at].nics.remove(which);
        self.muddled.insert(mac);
        self.tell(format_args!("{mac} is carried from case {at} to {to}"));
        (self.cases[at].entangled, self.cases[to].entangled) = (true, true);
        self.cases[to].nics.push(mac);
    }

    /// A vendor, or a hypervisor, gives a MAC twice.
    fn clone_mac(&mut self, at: usize) {
        let mac = self.nic(at);
        self.muddled.insert(mac);
        self.switch_off(at);
        self.tell(format_args!("{mac} of case {at} is cloned"));
        self.deliver_case();
        self.cases[at].entangled = true;
        if let Some(case) = self.cases.last_mut() {
            case.nics.push(mac);
            case.entangled = true;
        }
    }

    /// The board is new, its NICs too; the case is the same.
    fn replace_board(&mut self, at: usize) {
        self.switch_off(at);
        let kept = self.rng.below(2) as usize;
        let count = self.cases[at].nics.len();
        self.tell(format_args!("case {at} gets a new board, {kept} NICs are kept"));
        let fresh: Vec<Mac> = (kept..count.max(kept + 1)).map(|_| self.new_mac()).collect();
        let mut nics: Vec<Mac> = self.cases[at].nics.iter().copied().take(kept).collect();
        self.muddled.extend(&nics);
        nics.extend(fresh);
        self.cases[at].nics = nics;
        self.cases[at].uuid[0] ^= 0x55;
    }

    /// The operator takes a node out, or has it replaced. Its machine was carried away before.
    fn operate(&mut self) {
        let number = Number(self.rng.below(NODES.into()) as u32);
        let Some(lot) = self.world.server().roll().lots().lot(number).copied().filter(|lot| !lot.is_vacant()) else { return };
        for at in 0..self.cases.len() {
            if self.cases[at].nics.iter().any(|mac| lot.fingerprint.macs.contains(*mac)) {
                self.switch_off(at);
            }
        }
        let change = match self.rng.chance(600_000) {
            true => format!(r#"{{"what":"replace","number":{}}}"#, number.0),
            false => format!(r#"{{"what":"out","nodes":"{}"}}"#, number.0),
        };
        self.tell(format_args!("an operator says {change}"));
        self.world.write(self.operator, format!("{{\"do\":\"change\",\"change\":{change}}}\n").as_bytes());
        self.settle();
        // What the operator is told is told when it is on disk.
        let mut answer = self.world.read(self.operator);
        while answer.is_empty() && self.world.sync() {
            self.settle();
            answer = self.world.read(self.operator);
        }
        let reply: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
        match reply["is"].as_str() {
            Some("changed") => self.told.retain(|_, told| *told != number),
            Some("error") => {}
            _ => self.fault(format_args!("{:?} is no answer to an operator", String::from_utf8_lossy(&answer))),
        }
    }

    fn crash(&mut self) {
        self.tell(format_args!("crash"));
        self.outcome.crashes += 1;
        let lines = self.world.crash();
        match Server::restored(&self.config, self.rng.u64(), self.world.now(), lines.iter().map(String::as_str)) {
            Ok(server) => self.world.restart(server),
            Err(error) => return self.fault(format_args!("what a crash left is refused: {error}")),
        }
        self.operator = call(&mut self.world);
        let now = self.world.now().at;
        let pool = self.world.server().roll().pools.first().and_then(Option::as_ref);
        let guests = self.leases.iter().filter(|(_, lease)| lease.until > now && self.config.plan.number(lease.address).is_none());
        let lost = guests.filter(|(_, lease)| pool.is_none_or(|pool| pool.is_free(lease.address, &NOBODY)));
        let lost: Vec<String> = lost.map(|(mac, lease)| format!("{}, which {mac} has until {}", lease.address, lease.until)).collect();
        lost.iter().for_each(|lease| self.fault(format_args!("a crash has forgotten {lease}")));
        // A new file begins with what was found.
        self.pass(Duration::from_secs(2));
    }

    /// Whatever takes no time happens.
    fn settle(&mut self) {
        self.pass(Duration::ZERO);
    }

    fn pass(&mut self, time: Duration) {
        let end = self.world.now().at + time;
        while self.world.run(end, |world| world.clients().has_heard()) {
            while let Some(heard) = self.world.clients_mut().hear() {
                match heard {
                    Heard::Reply(reply) => self.take(&reply),
                    Heard::Probe(ip) => self.probed(ip),
                }
            }
        }
    }

    /// Who has an address says so.
    fn probed(&mut self, ip: Ipv4Addr) {
        let now = self.world.now().at;
        let holder = self.leases.iter().find(|(_, lease)| lease.address == ip && lease.until > now).map(|(mac, _)| *mac);
        if let Some(mac) = holder {
            self.world.clients_mut().claim(mac, ip);
        }
    }

    fn header(&mut self, mac: Mac) -> Header {
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&mac.0);
        Header { op: 1, htype: 1, hlen: 6, xid: self.rng.u64() as u32, chaddr, ..Header::default() }
    }

    /// DISCOVER; what follows an OFFER is in `take`.
    fn ask(&mut self, mac: Mac, firmware: bool, report: Option<&[u8]>) {
        let header = self.header(mac);
        let mut options: Vec<(u8, &[u8])> = Vec::new();
        if firmware {
            options.extend([(code::VENDOR_CLASS, &b"PXEClient:Arch:00000:UNDI:002001"[..]), (code::ARCHITECTURE, &[0, 0])]);
        }
        if let Some(report) = report {
            options.push((self.config.dhcp.report_option, report));
        }
        self.broadcast(header, MessageType::Discover, &options);
        self.settle();
    }

    fn broadcast(&mut self, header: Header, kind: MessageType, options: &[(u8, &[u8])]) {
        self.send(header, kind, (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST), options);
    }

    fn send(&mut self, header: Header, kind: MessageType, ends: (Ipv4Addr, Ipv4Addr), options: &[(u8, &[u8])]) {
        let [a, b, c, d, e, f, ..] = header.chaddr;
        let lost = self.rng.chance(LOSS);
        self.tell(format_args!("{} says {kind:?}{}", Mac([a, b, c, d, e, f]), if lost { ", which is lost" } else { "" }));
        if lost {
            return;
        }
        self.world.clients_mut().dhcp(&header, kind, ends, options);
    }

    fn take(&mut self, reply: &[u8]) {
        let mut scratch = Box::<Scratch>::default();
        let Ok(message) = dhcp::parse(reply, &mut scratch) else { return self.fault(format_args!("a reply that cannot be read")) };
        let (header, kind) = (message.header, message.message_type());
        let [a, b, c, d, e, f, ..] = header.chaddr;
        let (mac, address) = (Mac([a, b, c, d, e, f]), header.yiaddr);
        self.tell(format_args!("  {kind:?} to {mac}: {address}"));
        if is_invented(mac) {
            return self.taken_by_the_attacker(header, kind);
        }
        if !self.cases.iter().any(|case| case.on && case.nics.contains(&mac)) {
            // An answer that was held, to a machine that is off by now.
            return;
        }
        let seconds = u64::from(message.lease_time().unwrap_or(0));
        match kind {
            // Whoever has it may say so before the REQUEST comes.
            Some(MessageType::Offer) => {
                self.judge_guest(mac, address);
                let next = Header { xid: header.xid, ciaddr: Ipv4Addr::UNSPECIFIED, yiaddr: Ipv4Addr::UNSPECIFIED, op: 1, ..header };
                let (head, wanted) = (HEAD.octets(), address.octets());
                let options = [(code::SERVER_ID, &head[..]), (code::REQUESTED_IP, &wanted[..])];
                self.broadcast(next, MessageType::Request, &options);
            }
            Some(MessageType::Ack) => {
                self.judge(mac, address);
                let until = self.world.now().at + Duration::from_secs(seconds);
                self.leases.insert(mac, GivenLease { address, until });
                if let Some(number) = self.config.plan.number(address) {
                    self.told.insert(mac, number);
                }
            }
            Some(MessageType::Nak) => drop(self.leases.remove(&mac)),
            _ => self.fault(format_args!("{kind:?} to {mac}")),
        }
    }

    /// Whether a MAC may get an address.
    fn judge(&mut self, mac: Mac, address: Ipv4Addr) {
        let now = self.world.now().at;
        let holder = self.leases.iter().find(|(other, lease)| **other != mac && lease.address == address && lease.until > now);
        if let Some((other, lease)) = holder {
            let fault = format!("{mac} gets {address}, but {other} has it until {}", lease.until);
            return self.fault(format_args!("{fault}"));
        }
        let number = self.config.plan.number(address);
        let told = self.told.get(&mac).copied();
        match (number, told) {
            (Some(number), Some(told)) if number != told => self.fault(format_args!("{mac} was {told}, and is now called {number}")),
            (Some(number), None) => self.one_machine(mac, number),
            _ => {}
        }
    }

    /// Whether a MAC may be offered a guest address.
    fn judge_guest(&mut self, mac: Mac, address: Ipv4Addr) {
        let (None, Some(&told)) = (self.config.plan.number(address), self.told.get(&mac)) else { return };
        // Another NIC of the node may have its address, or somebody else by mistake.
        let own = self.config.plan.address(told);
        let elsewhere = self.leases.iter().any(|(other, lease)| *other != mac && Some(lease.address) == own);
        let roll = self.world.server().roll();
        let held = roll.at_address(own.unwrap_or(Ipv4Addr::UNSPECIFIED)).is_some();
        let client = roll.find(&Identity::Mac(mac)).and_then(|key| roll.get(key));
        let declined = client.is_some_and(|client| client.doubt.put_away() > self.world.now().at);
        if !elsewhere && !held && !declined {
            self.fault(format_args!("{mac} was {told}, and is a guest again"));
        }
    }

    /// The MACs that have learned a number are those of one case.
    fn one_machine(&mut self, mac: Mac, number: Number) {
        let case = |mac: Mac| self.cases.iter().position(|case| case.nics.contains(&mac));
        let others = self.told.iter().filter(|(other, told)| **told == number && !self.muddled.contains(other));
        let entangled = |mac: Mac| case(mac).is_some_and(|at| self.cases[at].entangled);
        let stranger = others.map(|(other, _)| *other).find(|other| case(*other).is_some() && case(*other) != case(mac));
        if let Some(other) = stranger.filter(|other| !(self.muddled.contains(&mac) || entangled(*other) && entangled(mac))) {
            self.fault(format_args!("{mac} is called {number}, which is {other}'s, in another machine"));
        }
    }

    fn tell(&mut self, what: std::fmt::Arguments<'_>) {
        if self.tells {
            self.outcome.story.push(format!("{}: {what}", self.world.now().at));
        }
    }

    fn fault(&mut self, what: std::fmt::Arguments<'_>) {
        let at = self.world.now().at;
        self.outcome.faults.push(format!("{at}: {what}"));
    }
}

/// An operator connects.
fn call(world: &mut World<Server, Cable>) -> ConnId {
    world.connect(world.server().endpoints().operators()).expect("there is a place for an operator")
}
