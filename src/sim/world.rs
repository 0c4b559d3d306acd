//! The world: an event queue that drives a server machine and a client machine, and does what their outputs ask.
//!
//! It stands for the head's kernel too: it answers ARP for the head's address, keeps the neighbour table, and drops what is for nobody. A
//! machine takes no time. Of links there is one, number 0.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};
use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::endpoint::{Endpoint, EndpointId, Transport};
use crate::base::facts::{Hardware, LinkFacts};
use crate::base::machine::{Command, ConnId, Datagram, FileId, Input, Machine};
use crate::base::outbox::{Outbox, Output, Run, SendFile, Target, Via};
use crate::base::rng::{Rng, mix};
use crate::base::time::{Instant, Now};
use crate::config::{Config, LinkConfig};
use crate::engine::endpoints::Endpoints;
use crate::wire::ether::{self, Arp, ArpOp, Checksum, Frame, UdpFrame};

use super::checks::{Block, Checks, Findings, Unheard};
use super::clerk::Clerk;
use super::conns::{Conns, Next, PROGRAM, Sending};
use super::disk::{Disk, Habits, Unread, Version};
use super::frame::{self, Ends, FRAME_MAX};
use super::journal::Journal;
use super::net::{Fate, Net, Way, Wire};
use super::queue::{Packet, Queue, What};
use super::table::Table;

/// The wall clock when a world begins.
const EPOCH: u64 = 1_750_000_000;
/// Ethernet, IPv4 and UDP headers, and the shortest frame's padding.
const ROOM: usize = 64;
/// A machine that wants to expire this often without time going on is broken.
const SPINS_MAX: u32 = 100_000;
const HEAD_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// What the head's kernel knows of an address.
#[derive(Default)]
struct Neighbour {
    /// What the server had made permanent.
    permanent: Option<Mac>,
    /// What frames taught the kernel.
    learnt: Option<Mac>,
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
    /// What the head's kernel knows of its link.
    facts: LinkFacts,
    /// UDP ports of the head, and whose they are; in order.
    served: Vec<(u16, EndpointId)>,
    conns: Conns,
    queue: Queue,
    net: Net,
    disk: Disk,
    journal: Journal,
    clerk: Clerk,
    /// The server was asked to end, and has.
    left: bool,
    checks: Checks,
    neighbours: Table<Neighbour>,
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
    /// When the server and the clients want to expire: asked after whatever was done to them.
    due: [Option<Instant>; 2],
    /// Where a DATA frame is laid down when it arrives.
    room: Box<[u8; FRAME_MAX]>,
    /// The server knows its link.
    linked: bool,
}

impl<S: Machine, C: Machine> World<S, C> {
    /// A world at time zero. The machines were made for time zero as well, the server for the first link of `setup.config`.
    pub fn new(setup: &Setup, server: S, clients: C) -> World<S, C> {
        let mut rng = Rng::new(setup.seed);
        let link = setup.config.links.first().expect("a config has a link");
        let endpoints = Endpoints::new(&setup.config);
        let served = served(endpoints.rows(), link.head);
        let stage = Stage {
            now: Instant::ZERO,
            head_mac: link.mac,
            head: link.head,
            facts: facts(link),
            served,
            conns: Conns::new(endpoints.rows()),
            queue: Queue::default(),
            net: Net::new(setup.wire, rng.fork()),
            disk: Disk::new(setup.habits, rng.fork()),
            journal: Journal::new(setup.habits.latency, rng.fork()),
            clerk: Clerk::new(setup.config.boot.root.display().to_string()),
            left: false,
            checks: Checks::new(&setup.config),
            neighbours: Table::default(),
            ident: 0,
            hash: 0,
            unroutable: 0,
        };
        World {
            stage,
            server,
            clients,
            server_out: Outbox::new(),
            clients_out: Outbox::new(),
            due: [None; 2],
            room: Box::new([0; FRAME_MAX]),
            linked: false,
        }
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
        let World { stage, server, server_out, clients_out, due, room, linked, .. } = self;
        World { stage, server, clients, server_out, clients_out, due, room, linked }
    }

    /// A restart of the daemon: what the old one had open is closed, what it waited for is forgotten; the kernel's neighbours stay.
    pub fn with_server<T: Machine>(mut self, server: T) -> World<T, C> {
        self.stage.queue.keep_frames();
        self.stage.disk.close_all();
        let World { stage, clients, server_out, clients_out, due, room, .. } = self;
        World { stage, server, clients, server_out, clients_out, due, room, linked: false }
    }

    /// The power of the head goes, or its daemon: gives the lines of the journal that the next one finds. [`World::with_server`] follows.
    pub fn crash(&mut self) -> Vec<String> {
        self.stage.journal.crash()
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

    /// What the link has lost of a machine's DHCP.
    pub fn unheard(&self, mac: Mac) -> Unheard {
        self.stage.checks.unheard(mac)
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
        if !std::mem::replace(&mut self.linked, true) {
            let Stage { now: at, facts, .. } = &self.stage;
            self.server.handle(now(*at), Input::Link { link: 0, facts }, &mut self.server_out);
            self.drain_server();
        }
        self.due = [self.server.deadline(), self.clients.deadline()];
        while !done(self) {
            let event = self.stage.queue.next();
            let [server, clients] = self.due;
            let Some(next) = [event, server, clients].into_iter().flatten().min().filter(|&next| next <= end) else {
                self.stage.now = self.stage.now.max(end);
                return done(self);
            };
            spins = if next > self.stage.now { 0 } else { spins + u32::from(event != Some(next)) };
            assert!(spins < SPINS_MAX, "a machine wants to expire at {next:?} for ever");
            self.stage.now = self.stage.now.max(next);
            if event.is_some_and(|at| at <= next) {
                self.step();
            }
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

    /// Delivers the next event.
    fn step(&mut self) {
        let Some(what) = self.stage.queue.pop() else { return };
        self.stage.note(&what);
        match what {
            What::Frame { way: Way::ToClients, packet } => self.arrive(packet),
            What::Frame { way: Way::ToServer, packet: Packet::Whole(bytes) } => {
                if let Some(input) = self.stage.receive(&bytes) {
                    self.server.handle(now(self.stage.now), input, &mut self.server_out);
                }
                self.stage.queue.give_back(bytes);
                self.drain_server();
            }
            What::Frame { way: Way::ToServer, packet: Packet::Block { .. } } => unreachable!("clients send no blocks"),
            What::Opened { token, answer } => self.tell(Input::Opened { token, answer }),
            What::Cold { token } => self.tell(Input::Cold { token }),
            What::Warm { token } => self.tell(Input::Warm { token }),
            What::Changed { token } => self.tell(Input::Changed { token }),
            What::Bytes { token, bytes } => self.tell(Input::Bytes { token, bytes: &bytes }),
            What::Conn(conn) => self.serve(conn),
            What::Done { token, answer } => {
                let links = [self.stage.facts.clone()];
                self.tell(Input::Done { token, outcome: answer.outcome(&links) });
            }
            What::Counted => {
                let lost = [("datagrams to unknown neighbours".to_string(), self.stage.unroutable)];
                let open_files = self.stage.disk.held() as usize;
                self.tell(Input::Counted { lost: &lost, open_files });
            }
            What::JournalDone => {
                let (seq, placed, more) = self.stage.journal.done();
                self.stage.await_journal(more);
                self.tell(Input::Synced { seq });
                if placed {
                    self.tell(Input::Rewritten);
                }
            }
        }
    }

    fn arrive(&mut self, packet: Packet) {
        let (at, out) = (now(self.stage.now), &mut self.clients_out);
        match packet {
            Packet::Whole(bytes) => {
                self.clients.handle(at, Input::Frame { link: 0, bytes: &bytes }, out);
                self.stage.queue.give_back(bytes);
            }
            Packet::Block { headers, version, offset, len } => {
                let disk = &mut self.stage.disk;
                let bytes = frame::lay(&mut self.room, &headers, len.into(), |block| disk.fill(version, offset, block));
                self.clients.handle(at, Input::Frame { link: 0, bytes }, out);
            }
        }
        self.drain_clients();
    }

    /// Tells the server what there is of a connection, until there is no more.
    fn serve(&mut self, conn: ConnId) {
        self.stage.read_for(conn);
        while let Some(next) = self.stage.conns.next(conn) {
            if let Some(stream) = self.stage.conns.stream(conn, &next) {
                self.server.handle(now(self.stage.now), Input::Stream(stream), &mut self.server_out);
            }
            if matches!(next, Next::Closed) {
                self.stage.conns.forget(conn);
            }
            self.drain_server();
        }
    }

    /// Another table of endpoints than the Server's.
    pub fn with_endpoints(mut self, table: &[Endpoint]) -> World<S, C> {
        (self.stage.served, self.stage.conns) = (served(table, self.stage.head), Conns::new(table));
        self
    }

    /// Connects a program to an endpoint. None: there is no place for it.
    pub fn connect(&mut self, endpoint: EndpointId) -> Option<ConnId> {
        let conn = self.stage.conns.connect(endpoint, PROGRAM)?;
        self.stage.stir(conn);
        Some(conn)
    }

    /// A program writes to its connection.
    pub fn write(&mut self, conn: ConnId, bytes: &[u8]) {
        self.stage.conns.send(conn, bytes);
        self.stage.stir(conn);
    }

    /// A program reads all that has come.
    pub fn read(&mut self, conn: ConnId) -> Vec<u8> {
        self.stage.stir(conn);
        self.stage.conns.read(conn)
    }

    /// A program closes its connection.
    pub fn hang_up(&mut self, conn: ConnId) {
        self.stage.conns.close(conn, true);
        self.stage.stir(conn);
    }

    /// A program takes calls at an address from now on.
    pub fn listen(&mut self, address: SocketAddrV4) {
        self.stage.conns.listen(address);
    }

    /// The next call of the server's that was taken, and where.
    pub fn call(&mut self) -> Option<(ConnId, SocketAddrV4)> {
        self.stage.conns.call()
    }

    /// The head's owner sends a signal.
    pub fn signal(&mut self, command: Command) {
        self.tell(Input::Command(command));
    }

    /// Whether the server has ended, as a signal asked it to.
    pub fn has_left(&self) -> bool {
        self.stage.left
    }

    /// The head's files that are no boot files.
    pub fn clerk(&self) -> &Clerk {
        &self.stage.clerk
    }

    pub fn clerk_mut(&mut self) -> &mut Clerk {
        &mut self.stage.clerk
    }

    fn tell(&mut self, input: Input<'_>) {
        self.server.handle(now(self.stage.now), input, &mut self.server_out);
        self.drain_server();
    }

    fn drain_server(&mut self) {
        for output in self.server_out.iter() {
            self.stage.act(output);
        }
        self.server_out.clear();
        self.due[0] = self.server.deadline();
    }

    fn drain_clients(&mut self) {
        for output in self.clients_out.iter() {
            let Output::Frame { bytes, .. } = output else { panic!("clients put out frames, not {output:?}") };
            self.stage.send_copy(Way::ToServer, bytes);
        }
        self.clients_out.clear();
        self.due[1] = self.clients.deadline();
    }
}

/// What the head's kernel knows of its link.
fn facts(link: &LinkConfig) -> LinkFacts {
    LinkFacts {
        name: link.interface.clone(),
        index: link.index,
        hardware: Hardware::Ethernet,
        mac: link.mac,
        mtu: link.mtu,
        rate: None,
        addresses: vec![(link.head, 16)],
        link_local: Some(HEAD_LINK_LOCAL),
        gateway: None,
        default_route: false,
        loopback: false,
        up: true,
    }
}

/// The port of an endpoint that has this one, or leaves it to the kernel.
fn port_of(endpoint: EndpointId, port: u16) -> u16 {
    if port == 0 { 40_000 + endpoint } else { port }
}

/// The UDP ports of the head on the first link, and whose they are; in order.
fn served(table: &[Endpoint], head: Ipv4Addr) -> Vec<(u16, EndpointId)> {
    let udp = |endpoint: &Endpoint| matches!(endpoint.transport, Transport::Udp | Transport::Broadcast | Transport::Overheard);
    let here = |row: &Endpoint| row.link == Some(0) || (row.link.is_none() && [head, Ipv4Addr::UNSPECIFIED].contains(row.address.ip()));
    let rows = (0..).zip(table).filter(|(_, endpoint)| udp(endpoint) && here(endpoint));
    let mut served: Vec<_> = rows.map(|(at, endpoint)| (port_of(at, endpoint.address.port()), at)).collect();
    served.sort_unstable();
    served
}

fn now(at: Instant) -> Now {
    Now { at, unix: EPOCH + at.nanos() / 1_000_000_000 }
}

impl Stage {
    fn push(&mut self, at: Instant, what: What) {
        self.queue.push(at, what);
    }

    /// Adds an event to the transcript. For a block its place in its file stands, which the checkers compare with what should be there.
    fn note(&mut self, what: &What) {
        let (kind, bytes): (u64, &[u8]) = match what {
            What::Frame { way, packet: Packet::Whole(bytes) } => (*way as u64, bytes),
            What::Frame { way, packet: Packet::Block { headers, offset, .. } } => (*way as u64 ^ offset << 8, headers),
            What::Opened { token, answer } => (2 ^ token << 8 ^ answer.map_or(0, |open| open.size), &[]),
            What::Cold { token } => (3 ^ token << 8, &[]),
            What::Changed { token } => (4 ^ token << 8, &[]),
            What::Bytes { token, bytes } => (5 ^ token << 8, bytes),
            What::JournalDone => (6, &[]),
            What::Conn(conn) => (8 ^ conn.to_u64() << 8, &[]),
            What::Warm { token } => (7 ^ token << 8, &[]),
            What::Done { token, .. } => (9 ^ token << 8, &[]),
            What::Counted => (10, &[]),
        };
        let mut hash = mix(self.hash ^ self.now.nanos()) ^ kind;
        let step = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        let mut words = bytes.chunks_exact(8);
        for word in words.by_ref() {
            hash = step(hash, word.try_into().map_or(0, u64::from_le_bytes));
        }
        for byte in words.remainder() {
            hash = step(hash, u64::from(*byte));
        }
        self.hash = hash;
    }

    fn send(&mut self, way: Way, packet: Packet, bytes: usize) {
        let fate = self.net.send(self.now, way, bytes);
        if let (Fate::Lost, Packet::Whole(bytes)) = (fate, &packet) {
            self.checks.lost(self.now, bytes);
        }
        match (fate, packet) {
            (Fate::Arrives(first, second), packet) => {
                if let Some(second) = second {
                    self.push(second, What::Frame { way, packet: packet.clone() });
                }
                self.push(first, What::Frame { way, packet });
            }
            (_, Packet::Whole(bytes)) => self.queue.give_back(bytes),
            (_, Packet::Block { .. }) => {}
        }
    }

    fn send_whole(&mut self, way: Way, bytes: Vec<u8>) {
        let len = bytes.len();
        self.send(way, Packet::Whole(bytes), len);
    }

    fn send_copy(&mut self, way: Way, bytes: &[u8]) {
        let mut copy = self.queue.buffer();
        copy.extend_from_slice(bytes);
        self.send_whole(way, copy);
    }

    /// Builds a frame of the head's and sends it.
    fn emit(&mut self, payload: usize, write: impl FnOnce(&mut [u8]) -> Option<usize>) {
        let mut bytes = self.queue.buffer();
        bytes.resize(payload + ROOM, 0);
        let len = write(&mut bytes).expect("there is room for a frame");
        bytes.truncate(len);
        if let Ok(Frame::Udp(frame)) = ether::parse(&bytes, Checksum::Verify) {
            self.checks.leaves(self.now, &frame, |name| self.disk.version(name));
        }
        self.send_whole(Way::ToClients, bytes);
    }

    /// Where the kernel sends what is for this address.
    fn neighbour(&self, ip: Ipv4Addr) -> Option<Mac> {
        self.neighbours.get(ip.to_bits().into()).and_then(|known| known.permanent.or(known.learnt))
    }

    fn learn(&mut self, ip: Ipv4Addr, mac: Mac) {
        let key = ip.to_bits().into();
        if self.neighbours.get(key).is_none_or(|known| known.learnt != Some(mac)) {
            self.neighbours.entry(key).learnt = Some(mac);
        }
    }

    fn datagram(&mut self, endpoint: EndpointId, from: SocketAddrV4, to: SocketAddrV4, via: Via, body: &[u8]) {
        let mac = match via {
            Via::Mac(mac) => mac,
            Via::Broadcast => Mac::BROADCAST,
            Via::Kernel => match self.neighbour(*to.ip()) {
                Some(mac) => mac,
                None => return self.unroutable += 1,
            },
        };
        // The kernel fills in what a socket of no link leaves open.
        let plain = self.conns.table().get(usize::from(endpoint)).is_none_or(|row| row.link.is_none());
        let from = if plain { SocketAddrV4::new(self.head, port_of(endpoint, from.port())) } else { from };
        self.ident = self.ident.wrapping_add(1);
        let (head_mac, ident) = (self.head_mac, self.ident);
        self.emit(body.len(), |buf| ether::emit_udp(buf, head_mac, mac, from, to, ident, body));
    }

    /// Does what the server wants done.
    fn act(&mut self, output: Output<'_>) {
        let head_mac = self.head_mac;
        match output {
            Output::Datagram { endpoint, from, to, via, body } => self.datagram(endpoint, from, to, via, body),
            Output::Frame { bytes, .. } => self.send_copy(Way::ToClients, bytes),
            Output::SendFile(file) => self.send_file(file),
            Output::Record(op) => {
                let more = self.journal.act(op);
                self.await_journal(more);
            }
            Output::Open { token, path } => {
                let answer = self.disk.open(path);
                self.push(self.now + self.disk.habits.latency, What::Opened { token, answer });
            }
            Output::CloseFile { file } => assert!(self.disk.close(file), "{file:?} was closed more often than opened"),
            Output::Read { token, file, offset, len } => {
                let mut bytes = vec![0; len as usize];
                let what = match self.read(file, offset, &mut bytes) {
                    Ok(len) => {
                        bytes.truncate(len);
                        What::Bytes { token, bytes }
                    }
                    Err(Unread::Cold) => return self.cold(token),
                    Err(Unread::Changed) => What::Changed { token },
                };
                self.push(self.now, what);
            }
            Output::Neighbour { ip, mac, .. } => self.neighbours.entry(ip.to_bits().into()).permanent = mac,
            Output::Probe { ip, .. } => {
                let operation = ArpOp::Request;
                let probe = Arp { operation, sender_mac: head_mac, sender_ip: Ipv4Addr::UNSPECIFIED, target_mac: Mac::ZERO, target_ip: ip };
                self.emit(0, |buf| ether::emit_arp(buf, &probe));
            }
            Output::Write { conn, bytes } => {
                self.conns.write(conn, bytes);
                self.stir(conn);
            }
            Output::Connect { endpoint, to, token } => {
                let conn = self.conns.dial(endpoint, to, token).expect("the machine keeps to the connections that there are");
                self.stir(conn);
            }
            Output::Close { conn, at_once } => {
                self.conns.close(conn, at_once);
                self.stir(conn);
            }
            Output::Task { token, task } => {
                let answer = self.clerk.act(task, |name| self.disk.version(name).is_some());
                if let Some(answer) = answer {
                    self.push(self.now + self.disk.habits.latency, What::Done { token, answer });
                }
            }
            Output::Count => self.push(self.now, What::Counted),
            Output::Leave => self.left = true,
        }
    }

    /// The disk begins to do what the journal has for it.
    fn await_journal(&mut self, begins: bool) {
        if begins {
            let delay = self.journal.delay();
            self.push(self.now + delay, What::JournalDone);
        }
    }

    /// Nothing is sent, and what was wanted comes after a while.
    fn cold(&mut self, token: u64) {
        self.push(self.now, What::Cold { token });
        self.push(self.now + self.disk.habits.latency, What::Warm { token });
    }

    fn read(&mut self, file: FileId, offset: u64, bytes: &mut [u8]) -> Result<usize, Unread> {
        self.disk.read(self.now, file, offset, bytes).expect("the machine reads files that it has open")
    }

    fn send_file(&mut self, SendFile { token, file, offset, bytes, to }: SendFile<'_>) {
        let run = match to {
            Target::Datagrams(run) => run,
            Target::Conn(conn) => {
                self.conns.send_file(conn, Sending { file, offset, left: bytes });
                return self.stir(conn);
            }
        };
        let (count, size) = (u64::from(run.count), u64::from(run.size));
        assert!(count == bytes / size.max(1) + 1 || bytes == count * size, "{run:?}");
        let ready = self.disk.ready(self.now, file, offset, bytes).expect("the machine reads files that it has open");
        match ready {
            Ok((version, len)) if len == bytes => self.send_run(version, offset, bytes, &run),
            Ok(_) | Err(Unread::Changed) => self.push(self.now, What::Changed { token }),
            Err(Unread::Cold) => self.cold(token),
        }
    }

    /// Something may be done for a connection.
    fn stir(&mut self, conn: ConnId) {
        self.push(self.now, What::Conn(conn));
    }

    /// Reads what a connection waits for of a file, if it is in memory.
    fn read_for(&mut self, conn: ConnId) {
        let Some(Sending { file, offset, left }) = self.conns.sending(conn) else { return };
        match self.disk.ready(self.now, file, offset, left) {
            Some(Ok((version, len))) if len == left => {
                let mut bytes = vec![0; left as usize];
                self.disk.fill(version, offset, &mut bytes);
                self.conns.lay(conn, Some(&bytes));
            }
            Some(Err(Unread::Cold)) => self.push(self.now + self.disk.habits.latency, What::Conn(conn)),
            Some(Ok(_) | Err(Unread::Changed)) | None => self.conns.lay(conn, None),
        }
    }

    fn send_run(&mut self, version: Version, offset: u64, bytes: u64, run: &Run<'_>) {
        let known = match run.via {
            Via::Mac(mac) => Some(mac),
            Via::Broadcast | Via::Kernel => self.neighbour(*run.to.ip()),
        };
        let Some(dst_mac) = known else { return self.unroutable += u64::from(run.count) };
        let ends = Ends { src_mac: self.head_mac, dst_mac, src: run.from, dst: run.to };
        for (n, header) in run.headers.chunks_exact(run.header_len().max(1)).enumerate() {
            let start = n as u64 * u64::from(run.size);
            let (offset, len) = (offset + start, (bytes - start).min(run.size.into()) as usize);
            self.ident = self.ident.wrapping_add(1);
            let header: [u8; 4] = header.try_into().expect("a DATA packet's header");
            let block = u16::from_be_bytes([header[2], header[3]]);
            let left = Block { from: run.from, to: run.to, block, version, offset, len };
            self.checks.block_leaves(self.now, &left, |name| self.disk.version(name));
            let headers = frame::headers(&ends, self.ident, header, len);
            self.send(Way::ToClients, Packet::Block { headers, version, offset, len: len as u16 }, frame::bytes(len));
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
                self.learn(arp.sender_ip, arp.sender_mac);
                if arp.operation == ArpOp::Request && arp.target_ip == self.head {
                    let (sender_mac, sender_ip) = (self.head_mac, self.head);
                    let reply =
                        Arp { operation: ArpOp::Reply, sender_mac, sender_ip, target_mac: arp.sender_mac, target_ip: arp.sender_ip };
                    self.emit(0, |buf| ether::emit_arp(buf, &reply));
                }
                Some(Input::Arp { link: 0, mac: arp.sender_mac, sender: arp.sender_ip })
            }
            Frame::RouterSolicit(_) => Some(Input::Frame { link: 0, bytes }),
        }
    }

    fn receive_udp<'a>(&mut self, frame: UdpFrame<'a>) -> Option<Input<'a>> {
        let ours = frame.dst_mac == self.head_mac || frame.dst_mac == Mac::BROADCAST;
        let to_us = *frame.dst.ip() == self.head || frame.dst.ip().is_broadcast();
        let served = self.served.binary_search_by_key(&frame.dst.port(), |(port, _)| *port).ok();
        let (_, endpoint) = served.and_then(|at| self.served.get(at)).copied().filter(|_| ours && to_us)?;
        if !frame.src.ip().is_unspecified() {
            self.learn(*frame.src.ip(), frame.src_mac);
        }
        self.checks.arrives(self.now, &frame, |name| self.disk.version(name));
        Some(Input::Datagram(Datagram { endpoint, mac: Some(frame.src_mac), src: frame.src, dst: frame.dst, payload: frame.payload }))
    }
}
