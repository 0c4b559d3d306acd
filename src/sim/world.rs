//! The world: an event queue that drives a server machine and a client machine, and does what their outputs ask.
//!
//! It stands for the head's kernel too: it answers ARP for the head's address, keeps the neighbour table, and drops what is for nobody. A
//! machine takes no time. Of links there is one, number 0.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::machine::{Datagram, FileId, Input, Machine, OpenFile, Refusal};
use crate::base::outbox::{Blocks, Outbox, Output, Via};
use crate::base::rng::{Rng, mix};
use crate::base::time::{Instant, Now};
use crate::config::Config;
use crate::wire::ether::{self, Arp, ArpOp, Checksum, Frame, RouterSolicit, UdpFrame};

use super::checks::{Checks, Findings};
use super::disk::{Disk, Habits, Unread};
use super::net::{Net, Way, Wire};

/// The wall clock when a world begins.
const EPOCH: u64 = 1_750_000_000;
/// Ethernet, IPv4 and UDP headers, and the shortest frame's padding.
const ROOM: usize = 64;
/// A machine that wants to expire this often without time going on is broken.
const SPINS_MAX: u32 = 100_000;
const HEAD_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

enum What {
    Frame { way: Way, bytes: Vec<u8> },
    Opened { token: u64, answer: Result<OpenFile, Refusal> },
    Cold { token: u64 },
    Changed { token: u64 },
    Bytes { token: u64, bytes: Vec<u8> },
}

struct Event {
    at: Instant,
    sequence: u64,
    what: What,
}

impl PartialEq for Event {
    fn eq(&self, other: &Event) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Event) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Event) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

/// What a world is made of, but for its machines.
#[derive(Clone, Debug)]
pub struct Setup {
    pub config: Config,
    pub seed: u64,
    pub wire: Wire,
    pub habits: Habits,
}

/// Everything but the two machines.
struct Stage {
    now: Instant,
    head_mac: Mac,
    head: Ipv4Addr,
    ports: (u16, u16),
    queue: BinaryHeap<Reverse<Event>>,
    sequence: u64,
    net: Net,
    disk: Disk,
    checks: Checks,
    /// What the server had made permanent.
    permanent: BTreeMap<Ipv4Addr, Mac>,
    /// What frames taught the kernel.
    learnt: BTreeMap<Ipv4Addr, Mac>,
    ident: u16,
    hash: u64,
    unroutable: u64,
}

pub struct World<S, C> {
    stage: Stage,
    server: S,
    clients: C,
    server_out: Outbox,
    clients_out: Outbox,
}

impl<S: Machine, C: Machine> World<S, C> {
    /// A world at time zero. The machines were made for time zero as well, the server for the first link of `setup.config`.
    pub fn new(setup: &Setup, server: S, clients: C) -> World<S, C> {
        let mut rng = Rng::new(setup.seed);
        let link = setup.config.links.first().expect("a config has a link");
        let stage = Stage {
            now: Instant::ZERO,
            head_mac: link.mac,
            head: link.head,
            ports: setup.config.tftp.ports,
            queue: BinaryHeap::new(),
            sequence: 0,
            net: Net::new(setup.wire, rng.fork()),
            disk: Disk::new(setup.habits, rng.fork()),
            checks: Checks::new(&setup.config),
            permanent: BTreeMap::new(),
            learnt: BTreeMap::new(),
            ident: 0,
            hash: 0,
            unroutable: 0,
        };
        World { stage, server, clients, server_out: Outbox::new(), clients_out: Outbox::new() }
    }

    /// Time now, as the machines are told it.
    pub fn now(&self) -> Now {
        now(self.stage.now)
    }

    pub fn server(&self) -> &S {
        &self.server
    }

    /// For a new config and the like: what does not come by packet.
    pub fn server_mut(&mut self) -> &mut S {
        &mut self.server
    }

    pub fn clients(&self) -> &C {
        &self.clients
    }

    pub fn clients_mut(&mut self) -> &mut C {
        &mut self.clients
    }

    /// Other machines on the same link and disk: a reboot of everybody. What is under way reaches them.
    pub fn with_clients<D: Machine>(self, clients: D) -> World<S, D> {
        World { stage: self.stage, server: self.server, clients, server_out: self.server_out, clients_out: self.clients_out }
    }

    /// A restart of the daemon: what the old one had open is closed, what it waited for is forgotten; the kernel's neighbours stay.
    pub fn with_server<T: Machine>(mut self, server: T) -> World<T, C> {
        self.stage.queue.retain(|Reverse(event)| matches!(event.what, What::Frame { .. }));
        self.stage.disk.close_all();
        World { stage: self.stage, server, clients: self.clients, server_out: self.server_out, clients_out: self.clients_out }
    }

    pub fn net(&self) -> &Net {
        &self.stage.net
    }

    pub fn net_mut(&mut self) -> &mut Net {
        &mut self.stage.net
    }

    pub fn disk(&self) -> &Disk {
        &self.stage.disk
    }

    pub fn disk_mut(&mut self) -> &mut Disk {
        &mut self.stage.disk
    }

    pub fn findings(&self) -> &Findings {
        &self.stage.checks.findings
    }

    /// Stands for everything that was delivered, and when: equal for equal runs.
    pub fn hash(&self) -> u64 {
        self.stage.hash
    }

    /// Datagrams that the server left to the kernel to route, which knew no neighbour of that address.
    pub fn unroutable(&self) -> u64 {
        self.stage.unroutable
    }

    /// Runs until `end`.
    pub fn until(&mut self, end: Instant) {
        self.run(end, |_| false);
    }

    /// Runs for a while.
    pub fn pass(&mut self, duration: Duration) {
        self.until(self.stage.now + duration);
    }

    /// Runs until `done` holds, asked after every step, or until `end`; gives whether it holds.
    pub fn run(&mut self, end: Instant, mut done: impl FnMut(&World<S, C>) -> bool) -> bool {
        let mut spins = 0;
        while !done(self) {
            let event = self.stage.queue.peek().map(|Reverse(event)| event.at);
            let (server, clients) = (self.server.deadline(), self.clients.deadline());
            let Some(next) = [event, server, clients].into_iter().flatten().min().filter(|&next| next <= end) else {
                self.stage.now = self.stage.now.max(end);
                return done(self);
            };
            spins = if next > self.stage.now { 0 } else { spins + u32::from(event != Some(next)) };
            assert!(spins < SPINS_MAX, "a machine wants to expire at {next:?} for ever");
            self.stage.now = self.stage.now.max(next);
            self.step(event.is_some_and(|at| at <= next));
            // As the shell does after every turn.
            if server.is_some_and(|at| at <= next) {
                self.server.expire(now(self.stage.now), &mut self.server_out);
                self.drain_server();
            }
            if clients.is_some_and(|at| at <= next) {
                self.clients.expire(now(self.stage.now), &mut self.clients_out);
                self.drain_clients();
            }
        }
        true
    }

    /// Delivers the next event, if one is due.
    fn step(&mut self, due: bool) {
        if !due {
            return;
        }
        let Some(Reverse(event)) = self.stage.queue.pop() else { return };
        let at = now(self.stage.now);
        self.stage.note(&event.what);
        match &event.what {
            What::Frame { way: Way::ToClients, bytes } => {
                self.clients.handle(at, Input::Frame { link: 0, bytes }, &mut self.clients_out);
                self.drain_clients();
                return;
            }
            What::Frame { way: Way::ToServer, bytes } => {
                if let Some(input) = self.stage.receive(bytes) {
                    self.server.handle(at, input, &mut self.server_out);
                }
            }
            What::Opened { token, answer } => {
                self.server.handle(at, Input::Opened { token: *token, answer: *answer }, &mut self.server_out);
            }
            What::Cold { token } => self.server.handle(at, Input::Cold { token: *token }, &mut self.server_out),
            What::Changed { token } => self.server.handle(at, Input::Changed { token: *token }, &mut self.server_out),
            What::Bytes { token, bytes } => self.server.handle(at, Input::Bytes { token: *token, bytes }, &mut self.server_out),
        }
        self.drain_server();
    }

    fn drain_server(&mut self) {
        for output in self.server_out.iter() {
            self.stage.act(output);
        }
        self.server_out.clear();
    }

    fn drain_clients(&mut self) {
        for output in self.clients_out.iter() {
            let Output::Frame { bytes, .. } = output else { panic!("clients put out frames, not {output:?}") };
            self.stage.send(Way::ToServer, bytes.into());
        }
        self.clients_out.clear();
    }
}

fn now(at: Instant) -> Now {
    Now { at, unix: EPOCH + at.nanos() / 1_000_000_000 }
}

impl Stage {
    fn push(&mut self, at: Instant, what: What) {
        self.sequence += 1;
        self.queue.push(Reverse(Event { at, sequence: self.sequence, what }));
    }

    /// Adds an event to the transcript.
    fn note(&mut self, what: &What) {
        let (kind, bytes): (u64, &[u8]) = match what {
            What::Frame { way, bytes } => (*way as u64, bytes),
            What::Opened { token, answer } => (2 ^ token << 8 ^ answer.map_or(0, |open| open.size), &[]),
            What::Cold { token } => (3 ^ token << 8, &[]),
            What::Changed { token } => (4 ^ token << 8, &[]),
            What::Bytes { token, bytes } => (5 ^ token << 8, bytes),
        };
        let mut hash = mix(self.hash ^ self.now.nanos()) ^ mix(kind);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            hash = mix(hash ^ u64::from_le_bytes(word));
        }
        self.hash = hash;
    }

    fn send(&mut self, way: Way, bytes: Vec<u8>) {
        let [first, second] = self.net.send(self.now, way, bytes.len());
        if let Some(at) = second {
            self.push(at, What::Frame { way, bytes: bytes.clone() });
        }
        if let Some(at) = first {
            self.push(at, What::Frame { way, bytes });
        }
    }

    /// Builds a frame of the head's and sends it.
    fn emit(&mut self, payload: usize, write: impl FnOnce(&mut [u8]) -> Option<usize>) {
        let mut bytes = vec![0; payload + ROOM];
        let len = write(&mut bytes).expect("there is room for a frame");
        bytes.truncate(len);
        if let Ok(Frame::Udp(frame)) = ether::parse(&bytes, Checksum::Verify) {
            self.checks.leaves(self.now, &frame, |name| self.disk.version(name));
        }
        self.send(Way::ToClients, bytes);
    }

    fn datagram(&mut self, from: SocketAddrV4, to: SocketAddrV4, via: Via, body: &[u8]) {
        let known = self.permanent.get(to.ip()).or_else(|| self.learnt.get(to.ip())).copied();
        let mac = match via {
            Via::Mac(mac) => mac,
            Via::Broadcast => Mac::BROADCAST,
            Via::Kernel => match known {
                Some(mac) => mac,
                None => return self.unroutable += 1,
            },
        };
        self.ident = self.ident.wrapping_add(1);
        let (head_mac, ident) = (self.head_mac, self.ident);
        self.emit(body.len(), |buf| ether::emit_udp(buf, head_mac, mac, from, to, ident, body));
    }

    /// Does what the server wants done.
    fn act(&mut self, output: Output<'_>) {
        let head_mac = self.head_mac;
        match output {
            Output::Datagram { from, to, via, body, .. } => self.datagram(from, to, via, body),
            Output::Frame { bytes, .. } => self.send(Way::ToClients, bytes.into()),
            Output::Blocks(run) => self.blocks(run),
            Output::Open { token, path } => {
                let answer = self.disk.open(path);
                self.push(self.now + self.disk.habits.latency, What::Opened { token, answer });
            }
            Output::Close { file } => assert!(self.disk.close(file), "{file:?} was closed more often than opened"),
            Output::Read { token, file, offset, len } => {
                let mut bytes = vec![0; len as usize];
                let what = match self.read(file, offset, &mut bytes) {
                    Ok(len) => {
                        bytes.truncate(len);
                        What::Bytes { token, bytes }
                    }
                    Err(Unread::Cold) => What::Cold { token },
                    Err(Unread::Changed) => What::Changed { token },
                };
                self.push(self.now, what);
            }
            Output::Neighbour { ip, mac, .. } => drop(match mac {
                Some(mac) => self.permanent.insert(ip, mac),
                None => self.permanent.remove(&ip),
            }),
            Output::ArpProbe { ip, .. } => {
                let operation = ArpOp::Request;
                let probe = Arp { operation, sender_mac: head_mac, sender_ip: Ipv4Addr::UNSPECIFIED, target_mac: Mac::ZERO, target_ip: ip };
                self.emit(0, |buf| ether::emit_arp(buf, &probe));
            }
            Output::RouterAdvert { mac, source, .. } => {
                let to = RouterSolicit { src_mac: mac, src: source };
                self.emit(ROOM, |buf| ether::emit_router_advert(buf, head_mac, HEAD_LINK_LOCAL, &to));
            }
        }
    }

    fn read(&mut self, file: FileId, offset: u64, bytes: &mut [u8]) -> Result<usize, Unread> {
        self.disk.read(self.now, file, offset, bytes).expect("the machine reads files that it has open")
    }

    fn blocks(&mut self, run: Blocks) {
        let Blocks { token, bytes, blksize, count, .. } = run;
        assert!(u32::from(count) == (bytes / u32::from(blksize.max(1)) + 1) || bytes == u32::from(count) * u32::from(blksize), "{run:?}");
        let mut content = vec![0; bytes as usize];
        match self.read(run.file, run.offset, &mut content) {
            Ok(len) if len == content.len() => {}
            Ok(_) | Err(Unread::Changed) => return self.push(self.now, What::Changed { token }),
            Err(Unread::Cold) => return self.push(self.now, What::Cold { token }),
        }
        let mut packet = Vec::with_capacity(usize::from(blksize) + 4);
        for n in 0..count {
            let start = usize::from(n) * usize::from(blksize);
            let end = (start + usize::from(blksize)).min(content.len());
            packet.clear();
            packet.extend([0, 3]);
            packet.extend(run.block.wrapping_add(n).to_be_bytes());
            packet.extend(&content[start..end]);
            self.datagram(run.from, run.to, run.via, &packet);
        }
    }

    /// What the head's kernel makes of a frame: an input for the server, or nothing.
    fn receive<'a>(&mut self, bytes: &'a [u8]) -> Option<Input<'a>> {
        match ether::parse(bytes, Checksum::Verify).ok()? {
            Frame::Udp(frame) => self.receive_udp(frame),
            Frame::Arp(arp) => {
                if arp.sender_ip.is_unspecified() {
                    return None;
                }
                self.learnt.insert(arp.sender_ip, arp.sender_mac);
                if arp.operation == ArpOp::Request && arp.target_ip == self.head {
                    let (sender_mac, sender_ip) = (self.head_mac, self.head);
                    let reply =
                        Arp { operation: ArpOp::Reply, sender_mac, sender_ip, target_mac: arp.sender_mac, target_ip: arp.sender_ip };
                    self.emit(0, |buf| ether::emit_arp(buf, &reply));
                }
                Some(Input::Arp { link: 0, mac: arp.sender_mac, sender: arp.sender_ip })
            }
            Frame::RouterSolicit(RouterSolicit { src_mac, src }) => Some(Input::RouterSolicit { link: 0, mac: src_mac, source: src }),
        }
    }

    fn receive_udp<'a>(&mut self, frame: UdpFrame<'a>) -> Option<Input<'a>> {
        let ours = frame.dst_mac == self.head_mac || frame.dst_mac == Mac::BROADCAST;
        let to_us = *frame.dst.ip() == self.head || frame.dst.ip().is_broadcast();
        let served = matches!(frame.dst.port(), 67..=69) || (self.ports.0..=self.ports.1).contains(&frame.dst.port());
        if !ours || !to_us || !served {
            return None;
        }
        if !frame.src.ip().is_unspecified() {
            self.learnt.insert(*frame.src.ip(), frame.src_mac);
        }
        self.checks.arrives(self.now, &frame, |name| self.disk.version(name));
        Some(Input::Datagram(Datagram { link: 0, mac: Some(frame.src_mac), src: frame.src, dst: frame.dst, payload: frame.payload }))
    }
}
