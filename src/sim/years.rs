//! Years of a cluster in a moment: machines with several NICs that boot from any of them, pass muster or not, are moved, cloned, replaced
//! and taken out, and a head that loses its power at any point, on a disk that forgets what was not synced.
//!
//! Here the network is perfect or loses a message whole, and time goes in steps: what is tried is who is given what. [`year`] plays the year of
//! a seed and gives what it came to. Laws, checked at every reply:
//! - an address has one holder at a time;
//! - a MAC that has learned its number keeps it, over every crash, until an operator says otherwise;
//! - a number has one machine: its MACs are those of one box, unless somebody carried a NIC or cloned a MAC;
//! - a guest's lease that was acknowledged is nobody else's before it ends;
//! - whoever invents MACs and reports, beside MACs of machines or alone, gets no number of a machine's, and his MACs get into no machine's lot.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::machine::{Datagram, Input, Machine};
use crate::base::outbox::{Outbox, Output};
use crate::base::rng::Rng;
use crate::base::time::{Instant, Now};
use crate::config::Config;
use crate::engine::lots;
use crate::engine::server::Server;
use crate::roll::client::Identity;
use crate::roll::lot::Wait;
use crate::roll::plan::{AddressPlan, AddressRange, Number};
use crate::roll::ruling::Numbering;
use crate::wire::dhcp::{self, Builder, Header, MessageType, Scratch, code};
use crate::wire::report::{Name, Report, Verdict};

use super::config::{HEAD, config};
use super::journal::Journal;

const STEPS: u32 = 600;
const NODES: u32 = 24;
/// Fewer than there are NICs.
const GUESTS: u8 = 60;
const EPOCH: u64 = 1_750_000_000;

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
struct Lease {
    address: Ipv4Addr,
    until: u64,
}

/// What somebody saw: a run's worth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
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
    server: Server,
    out: Outbox,
    journal: Journal,
    /// The disk is at work.
    busy: bool,
    now: Instant,
    cases: Vec<Case>,
    leases: BTreeMap<Mac, Lease>,
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
    outcome: Outcome,
}

/// The year of a seed.
pub fn year(seed: u64) -> Outcome {
    played(seed, false)
}

/// A year with somebody on the cable who forges reports.
pub fn hostile_year(seed: u64) -> Outcome {
    played(seed, true)
}

/// A year that is played once more, with a transcript, when anything was wrong: writing it all down takes a quarter of the time.
fn played(seed: u64, hostile: bool) -> Outcome {
    let outcome = Year::new(seed, hostile).play();
    if outcome.faults.is_empty() { outcome } else { told(seed, hostile) }
}

/// A year with its story.
pub fn told(seed: u64, hostile: bool) -> Outcome {
    Year { tells: true, ..Year::new(seed, hostile) }.play()
}

/// MACs that the attacker invents.
fn is_invented(mac: Mac) -> bool {
    mac.0.starts_with(&[2, 0x66])
}

impl Year {
    fn play(mut self) -> Outcome {
        for _ in 0..STEPS {
            self.attack();
            self.step();
            if !self.outcome.faults.is_empty() {
                break;
            }
        }
        self.outcome.enlisted = self.told.len();
        self.outcome
    }

    /// A report of an invented MAC, by itself or beside MACs of a machine; and the REQUEST that takes what he is offered, or not.
    fn attack(&mut self) {
        let Some(mut rng) = self.attacker.take() else { return };
        if rng.chance(150_000) {
            let [a, b, c, d] = (rng.u64() as u32 % 40).to_be_bytes();
            let own = Mac([2, 0x66, a, b, c, d]);
            let mut report = Report { verdict: Verdict::Passed, ..Report::EMPTY };
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
                self.send(header, MessageType::Request, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68), Ipv4Addr::BROADCAST, &options);
            }
            let mixed = |macs: &[Mac]| macs.iter().any(|mac| is_invented(*mac)) && !macs.iter().all(|mac| is_invented(*mac));
            let spoilt = self.server.roll().street().iter().find(|(_, lot)| mixed(lot.papers.macs.as_slice()));
            if let Some(fault) = spoilt.map(|(number, lot)| format!("{number} has somebody else's MAC: {:?}", lot.papers.macs)) {
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
        let journal = Journal::new(Duration::ZERO, rng.fork());
        let server = Server::new(&config, seed, now(Instant::ZERO));
        let mut year = Year {
            rng,
            config,
            server,
            out: Outbox::new(),
            journal,
            busy: false,
            now: Instant::ZERO,
            cases: Vec::new(),
            leases: BTreeMap::new(),
            told: BTreeMap::new(),
            muddled: BTreeSet::new(),
            attacker: hostile.then(|| Rng::new(crate::base::rng::mix(seed))),
            bait: None,
            next_mac: 1,
            tells: false,
            outcome: Outcome::default(),
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
            68..84 => self.sync(),
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
            _ => self.checkpoint(),
        }
    }

    fn checkpoint(&mut self) {
        self.server.checkpoint();
        self.pass(Duration::ZERO);
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
        let failed = Name::new(b"20-memory").map_or(Verdict::Untested, Verdict::Failed);
        let verdict = if case.sound { Verdict::Passed } else { failed };
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
        let unix = now(self.now).unix;
        let Some(lease) = self.leases.get(&mac).copied().filter(|lease| self.cases[at].on && lease.until > unix) else { return };
        let mut header = self.header(mac);
        header.ciaddr = lease.address;
        self.send(header, MessageType::Request, SocketAddrV4::new(lease.address, 68), HEAD, &[]);
    }

    fn switch_off(&mut self, at: usize) {
        let nics = self.cases[at].nics.clone();
        self.tell(format_args!("case {at} is off: {nics:?}"));
        self.cases[at].on = false;
        for mac in self.cases[at].nics.clone() {
            self.leases.remove(&mac);
        }
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
        let Some(lot) = self.server.roll().street().lot(number).copied().filter(|lot| !lot.is_vacant()) else { return };
        for at in 0..self.cases.len() {
            if self.cases[at].nics.iter().any(|mac| lot.papers.macs.contains(*mac)) {
                self.switch_off(at);
            }
        }
        let wait = self.rng.chance(600_000).then_some(Wait::Next);
        self.tell(format_args!("{number} is taken out, kept for {wait:?}"));
        let done = self.server.operate(now(self.now), &mut self.out, |ctx| lots::take_out(ctx, number, wait));
        self.drain();
        if done.is_ok() {
            // What the operator is told is told when it is on disk.
            while self.busy {
                self.sync();
            }
            self.told.retain(|_, told| *told != number);
        }
    }

    fn crash(&mut self) {
        self.tell(format_args!("crash"));
        self.outcome.crashes += 1;
        let lines = self.journal.crash();
        self.busy = false;
        self.out.clear();
        match Server::restored(&self.config, self.rng.u64(), now(self.now), lines.iter().map(String::as_str)) {
            Ok(server) => self.server = server,
            Err(error) => return self.fault(format_args!("what a crash left is refused: {error}")),
        }
        let unix = now(self.now).unix;
        let pool = self.server.roll().pools.first().and_then(Option::as_ref);
        let guests = self.leases.iter().filter(|(_, lease)| lease.until > unix && self.config.plan.number(lease.address).is_none());
        let lost = guests.filter(|(_, lease)| pool.is_none_or(|pool| pool.is_free(lease.address, &NOBODY)));
        let lost: Vec<String> =
            lost.map(|(mac, lease)| format!("{}, which {mac} has until {}", lease.address, lease.until - EPOCH)).collect();
        lost.iter().for_each(|lease| self.fault(format_args!("a crash has forgotten {lease}")));
        // A new file begins with what was found.
        self.pass(Duration::from_secs(2));
    }

    fn sync(&mut self) {
        if std::mem::take(&mut self.busy) {
            let (seq, placed, more) = self.journal.done();
            self.busy = more;
            self.server.handle(now(self.now), Input::Synced { seq }, &mut self.out);
            self.drain();
            if placed {
                self.server.handle(now(self.now), Input::Rewritten, &mut self.out);
                self.drain();
            }
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
        self.send(header, MessageType::Discover, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68), Ipv4Addr::BROADCAST, &options);
    }

    fn send(&mut self, header: Header, kind: MessageType, src: SocketAddrV4, to: Ipv4Addr, options: &[(u8, &[u8])]) {
        let lost = self.rng.chance(50_000);
        let [a, b, c, d, e, f, ..] = header.chaddr;
        self.tell(format_args!("{} says {kind:?}{}", Mac([a, b, c, d, e, f]), if lost { ", which is lost" } else { "" }));
        if lost {
            return;
        }
        let mut buf = [0; 1400];
        let Some(mut builder) = Builder::new(&mut buf, &header, 1400) else { return };
        builder.option(code::MESSAGE_TYPE, &[kind as u8]);
        for (code, value) in options {
            assert!(builder.option(*code, value), "there is room for what a client says");
        }
        let len = builder.finish(None);
        let mac = Some(Mac([a, b, c, d, e, f]));
        let endpoint = self.server.endpoints().udp(0, 67);
        let datagram = Datagram { endpoint, mac, src, dst: SocketAddrV4::new(to, 67), payload: &buf[..len] };
        self.server.handle(now(self.now), Input::Datagram(datagram), &mut self.out);
        self.drain();
    }

    /// Takes what the server put out: to the disk, and to the machines.
    fn drain(&mut self) {
        let (mut replies, mut probed) = (Vec::new(), Vec::new());
        for output in self.out.iter() {
            match output {
                Output::Record(op) => self.busy |= self.journal.act(op),
                Output::Probe { ip, .. } => probed.push(ip),
                Output::Datagram { body, to, .. } if to.port() == 68 => replies.push(body.to_vec()),
                _ => {}
            }
        }
        self.out.clear();
        for ip in probed {
            let unix = now(self.now).unix;
            let holder = self.leases.iter().find(|(_, lease)| lease.address == ip && lease.until > unix).map(|(mac, _)| *mac);
            if let Some(mac) = holder {
                self.server.handle(now(self.now), Input::Arp { link: 0, mac, sender: ip }, &mut self.out);
                self.drain();
            }
        }
        for reply in replies {
            let word = |bytes: &[u8]| bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
            self.outcome.hash = reply.chunks(8).fold(self.outcome.hash, |hash, bytes| crate::base::rng::mix(hash ^ word(bytes)));
            self.take(&reply);
        }
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
                self.send(next, MessageType::Request, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68), Ipv4Addr::BROADCAST, &options);
            }
            Some(MessageType::Ack) => {
                self.judge(mac, address);
                let until = now(self.now).unix + seconds;
                self.leases.insert(mac, Lease { address, until });
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
        let unix = now(self.now).unix;
        let holder = self.leases.iter().find(|(other, lease)| **other != mac && lease.address == address && lease.until > unix);
        if let Some((other, lease)) = holder {
            let fault = format!("{mac} gets {address}, but {other} has it until {}", lease.until - EPOCH);
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
        let roll = self.server.roll();
        let held = roll.at_address(own.unwrap_or(Ipv4Addr::UNSPECIFIED)).is_some();
        let client = roll.find(&Identity::Mac(mac)).and_then(|key| roll.get(key));
        let declined = client.is_some_and(|client| client.declined_until > self.now);
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
            self.outcome.story.push(format!("{}: {what}", self.now));
        }
    }

    fn fault(&mut self, what: std::fmt::Arguments<'_>) {
        let at = self.now;
        self.outcome.faults.push(format!("{at}: {what}"));
    }
}

fn now(at: Instant) -> Now {
    Now { at, unix: EPOCH + at.nanos() / 1_000_000_000 }
}
