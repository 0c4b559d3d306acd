//! The world: an event queue that drives a server machine and a client machine, and does what their outputs ask.
//!
//! It stands for the head's kernel too: it answers ARP for the head's address, keeps the neighbour table, and drops what is for nobody. A
//! machine takes no time. Of links there is one, number 0.

mod kernel;
mod link;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::endpoint::{Endpoint, EndpointId};
use crate::base::facts::LinkFacts;
use crate::base::machine::{Command, ConnId, FileId, Input, Link, Machine, RowMark};
use crate::base::outbox::{Outbox, Output, SendFile, Target};
use crate::base::rng::{Rng, mix};
use crate::base::time::{Instant, Now};
use crate::config::Config;
use crate::engine::endpoints::Endpoints;
use crate::wire::ether::{self, Arp, ArpOp};

use super::checks::{Checks, Findings, Unheard};
use super::clerk::SimClerk;
use super::conns::{Conns, SimSending, SimStreamEvent};
use super::disk::{Disk, Habits, Unread};
use super::frame::{self, FRAME_MAX};
use super::journal::SimJournal;
use super::net::{FrameDirection, Net, Wire};
use super::queue::{EventQueue, QueuedInput, SimPacket};
use super::table::Table;
use kernel::{KernelNeighbour, served};

/// When a world begins.
pub const START: Now = Now { at: Instant::ZERO, unix: 1_750_000_000 };
const LINK: Link = 0;
/// What the head's kernel says of routes.
const ROUTE_MTU: u32 = 1500;
/// A machine that wants to expire this often without time going on is broken.
const SPINS_MAX: u32 = 100_000;

/// What a world is made of, but for its machines.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The head's config.
    pub config: Config,
    /// Decides all that is random in the world.
    pub seed: u64,
    /// The link.
    pub wire: Wire,
    /// The disk's habits.
    pub habits: Habits,
}

/// Everything but the two machines.
pub(super) struct Scene {
    now: Instant,
    /// Seconds since 1970 at time zero, by the head's clock as it is set now.
    epoch: u64,
    /// The head's boot interface, while there is one.
    interface: Option<LinkFacts>,
    head_mac: Mac,
    head: Ipv4Addr,
    /// UDP ports of the head, and whose they are; in order.
    served: Vec<(u16, EndpointId)>,
    conns: Conns,
    /// What is kept for the next daemon.
    rows: BTreeMap<u32, (Vec<u8>, RowMark)>,
    queue: EventQueue,
    net: Net,
    disk: Disk,
    journal: SimJournal,
    clerk: SimClerk,
    /// The server was asked to end, and has.
    left: bool,
    checks: Checks,
    neighbours: Table<KernelNeighbour>,
    ident: u16,
    hash: u64,
    unroutable: u64,
}

/// A server and clients in virtual time, with a modelled link, disk and journal between them, and checkers that watch.
pub struct World<S, C> {
    pub(super) stage: Scene,
    pub(super) server: S,
    clients: C,
    pub(super) server_out: Outbox,
    clients_out: Outbox,
    /// When the server and the clients want to expire: asked after whatever was done to them.
    due: [Option<Instant>; 2],
    /// Where a DATA frame is laid down when it arrives.
    room: Box<[u8; FRAME_MAX]>,
    /// The server knows its link, and what the one before it has left.
    linked: bool,
    /// There is no server.
    down: bool,
}

impl<S: Machine, C: Machine> World<S, C> {
    /// A world at time zero. The machines were made for time zero as well, the server for the first link of `setup.config`.
    pub fn new(setup: &Setup, server: S, clients: C) -> World<S, C> {
        let mut rng = Rng::new(setup.seed);
        let link = setup.config.links.first().expect("a config has a link");
        let endpoints = Endpoints::new(&setup.config);
        let served = served(endpoints.rows(), link.head);
        let stage = Scene {
            now: START.at,
            epoch: START.unix,
            head_mac: link.mac,
            head: link.head,
            interface: Some(link::facts(link)),
            served,
            conns: Conns::new(endpoints.rows()),
            rows: BTreeMap::new(),
            queue: EventQueue::default(),
            net: Net::new(setup.wire, rng.fork()),
            disk: Disk::new(setup.habits, rng.fork()),
            journal: SimJournal::new(setup.habits.latency, rng.fork()),
            clerk: SimClerk::new(setup.config.boot.root.display().to_string()),
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
            down: false,
        }
    }

    /// Time now, as the machines get it.
    pub fn now(&self) -> Now {
        self.stage.clock()
    }

    /// Somebody sets the head's clock; time goes on as before.
    pub fn set_clock(&mut self, unix: u64) {
        self.stage.epoch = unix - (self.now().unix - self.stage.epoch);
    }

    /// The server.
    pub fn server(&self) -> &S {
        &self.server
    }

    /// For a new config and the like: what does not come by packet.
    pub fn server_mut(&mut self) -> &mut S {
        &mut self.server
    }

    /// The clients.
    pub fn clients(&self) -> &C {
        &self.clients
    }

    /// The clients, to be acted on from outside.
    pub fn clients_mut(&mut self) -> &mut C {
        &mut self.clients
    }

    /// Other machines on the same link and disk: a reboot of everybody. What is under way reaches them.
    pub fn with_clients<D: Machine>(self, clients: D) -> World<S, D> {
        let World { stage, server, server_out, clients_out, due, room, linked, down, .. } = self;
        World { stage, server, clients, server_out, clients_out, due, room, linked, down }
    }

    /// The power of the head goes, or its daemon: gives the lines of the journal that the next one finds, with which [`World::restart`] follows.
    pub fn crash(&mut self) -> Vec<String> {
        self.stage.journal.crash()
    }

    /// There is no daemon for a while: what comes is for nobody. [`World::restart`] follows.
    pub fn outage(&mut self, duration: Duration) {
        self.forget();
        self.down = true;
        self.pass(duration);
    }

    /// Another daemon: what the old one had open is closed, what it waited for is forgotten; the kernel's neighbours stay, and the rows that it
    /// has left.
    pub fn restart(&mut self, server: S) {
        self.forget();
        (self.server, self.linked, self.down) = (server, false, false);
    }

    fn forget(&mut self) {
        self.stage.queue.keep_frames();
        self.stage.disk.close_all();
        self.stage.conns.reset();
    }

    /// How many rows are kept for the next daemon.
    pub fn rows(&self) -> usize {
        self.stage.rows.len()
    }

    /// The machine of the head starts anew, with what its disk has.
    pub fn lose_rows(&mut self) {
        self.stage.rows.clear();
    }

    /// Shows a new server what the one before it has left.
    fn tell_rows(&mut self) {
        for (bytes, mark) in std::mem::take(&mut self.stage.rows).into_values() {
            self.tell(Input::Row { bytes: &bytes, mark });
        }
    }

    /// The journal's disk does nothing from now on but when [`World::sync`] lets it, so that a test says what is on it when the power goes.
    pub fn hold_journal(&mut self) {
        self.stage.journal.hold();
    }

    /// A journal's disk that is held does what it was asked to. False: it was asked nothing.
    pub fn sync(&mut self) -> bool {
        assert!(self.stage.journal.is_held(), "the disk works by itself");
        let asked = self.stage.journal.is_busy();
        if asked {
            self.stage.note(&QueuedInput::JournalDone);
            self.journal_done();
        }
        asked
    }

    /// Somebody takes the journal away. False: its disk is at work.
    pub fn take_journal_away(&mut self) -> bool {
        let taken = self.stage.journal.take_away();
        if taken {
            self.tell(Input::JournalGone);
        }
        taken
    }

    /// The journal's file and disk.
    pub fn journal(&self) -> &SimJournal {
        &self.stage.journal
    }

    /// The link.
    pub fn net(&self) -> &Net {
        &self.stage.net
    }

    /// The link, to be changed in the middle of a run.
    pub fn net_mut(&mut self) -> &mut Net {
        &mut self.stage.net
    }

    /// The disk.
    pub fn disk(&self) -> &Disk {
        &self.stage.disk
    }

    /// The disk, to be changed in the middle of a run.
    pub fn disk_mut(&mut self) -> &mut Disk {
        &mut self.stage.disk
    }

    /// What the checkers have found.
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
        if !self.down && !std::mem::replace(&mut self.linked, true) {
            self.tell_link();
            self.tell_rows();
        }
        self.due = [self.server.deadline().filter(|_| !self.down), self.clients.deadline()];
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
                self.server.expire(self.stage.clock(), &mut self.server_out);
                self.drain_server();
            }
            if clients.is_some_and(|at| at <= next) {
                self.clients.expire(self.stage.clock(), &mut self.clients_out);
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
            QueuedInput::Frame { way: FrameDirection::ToClients, packet } => self.arrive(packet),
            QueuedInput::Frame { way: FrameDirection::ToServer, packet: SimPacket::Whole(bytes) } if self.down => {
                self.stage.queue.give_back(bytes);
            }
            QueuedInput::Frame { way: FrameDirection::ToServer, packet: SimPacket::Whole(bytes) } => {
                if let Some(input) = self.stage.receive(&bytes) {
                    self.server.handle(self.stage.clock(), input, &mut self.server_out);
                }
                self.stage.queue.give_back(bytes);
                self.drain_server();
            }
            QueuedInput::Frame { way: FrameDirection::ToServer, packet: SimPacket::Block { .. } } => unreachable!("clients send no blocks"),
            QueuedInput::Opened { token, answer } => self.tell(Input::Opened { token, answer }),
            QueuedInput::Cold { token } => self.tell(Input::Cold { token }),
            QueuedInput::Warm { token } => self.tell(Input::Warm { token }),
            QueuedInput::Changed { token } => self.tell(Input::Changed { token }),
            QueuedInput::Bytes { token, bytes } => self.tell(Input::Bytes { token, bytes: &bytes }),
            QueuedInput::Conn(conn) => self.serve(conn),
            QueuedInput::Done { token, answer } => {
                let links: Vec<LinkFacts> = self.stage.interface.iter().cloned().collect();
                self.tell(Input::Done { token, outcome: answer.outcome(&links) });
            }
            QueuedInput::Route { token } => self.tell(Input::Route { token, mtu: ROUTE_MTU }),
            QueuedInput::Counted => {
                let lost = [("datagrams to unknown neighbours".to_string(), self.stage.unroutable)];
                let open_files = self.stage.disk.held() as usize;
                self.tell(Input::Counted { lost: &lost, open_files });
            }
            QueuedInput::JournalDone => self.journal_done(),
        }
    }

    fn journal_done(&mut self) {
        let (seq, placed, more) = self.stage.journal.done();
        self.stage.await_journal(more);
        self.tell(Input::Synced { seq });
        if placed {
            self.tell(Input::Compacted);
        }
    }

    fn arrive(&mut self, packet: SimPacket) {
        let (at, out) = (self.stage.clock(), &mut self.clients_out);
        match packet {
            SimPacket::Whole(bytes) => {
                self.clients.handle(at, Input::Frame { link: LINK, bytes: &bytes }, out);
                self.stage.queue.give_back(bytes);
            }
            SimPacket::Block { headers, version, offset, len } => {
                let disk = &mut self.stage.disk;
                let bytes = frame::lay(&mut self.room, &headers, len.into(), |block| disk.fill(version, offset, block));
                self.clients.handle(at, Input::Frame { link: LINK, bytes }, out);
            }
        }
        self.drain_clients();
    }

    /// Tells the server what there is of a connection, until there is no more.
    fn serve(&mut self, conn: ConnId) {
        self.stage.look_at(conn);
        self.stage.read_for(conn);
        while let Some(next) = self.stage.conns.next(self.stage.now, conn) {
            if let Some(stream) = self.stage.conns.stream(conn, &next) {
                self.server.handle(self.stage.clock(), Input::Stream(stream), &mut self.server_out);
            }
            if matches!(next, SimStreamEvent::Closed) {
                self.stage.conns.forget(conn);
            }
            self.drain_server();
        }
        if let Some(other) = self.stage.conns.unstarved() {
            self.stage.stir(other);
        }
    }

    /// Another table of endpoints than the Server's.
    pub fn with_endpoints(mut self, table: &[Endpoint]) -> World<S, C> {
        (self.stage.served, self.stage.conns) = (served(table, self.stage.head), Conns::new(table));
        self
    }

    /// Connects a program to an endpoint. The error: there is no place for it, and this is what it reads before it is let go.
    pub fn connect(&mut self, endpoint: EndpointId) -> Result<ConnId, Vec<u8>> {
        if let Some(spare) = self.stage.conns.spare(self.stage.now, endpoint) {
            self.stage.conns.close(spare, true);
            self.serve(spare);
        }
        let conn = self.stage.conns.connect(self.stage.now, endpoint)?;
        self.stage.stir(conn);
        Ok(conn)
    }

    /// A program writes to its connection.
    pub fn write(&mut self, conn: ConnId, bytes: &[u8]) {
        self.stage.conns.send(conn, bytes);
        self.stage.stir(conn);
    }

    /// A program reads all that has come.
    pub fn read(&mut self, conn: ConnId) -> Vec<u8> {
        self.stage.stir(conn);
        self.stage.conns.read(self.stage.now, conn)
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
    pub fn clerk(&self) -> &SimClerk {
        &self.stage.clerk
    }

    /// The head's files that are no boot files, to be changed from outside.
    pub fn clerk_mut(&mut self) -> &mut SimClerk {
        &mut self.stage.clerk
    }

    fn tell(&mut self, input: Input<'_>) {
        self.server.handle(self.stage.clock(), input, &mut self.server_out);
        self.drain_server();
    }

    pub(super) fn drain_server(&mut self) {
        for output in self.server_out.iter() {
            self.stage.act(output);
        }
        self.server_out.clear();
        self.due[0] = self.server.deadline();
    }

    fn drain_clients(&mut self) {
        for output in self.clients_out.iter() {
            let Output::Frame { bytes, .. } = output else { panic!("clients put out frames, not {output:?}") };
            self.stage.send_copy(FrameDirection::ToServer, bytes);
        }
        self.clients_out.clear();
        self.due[1] = self.clients.deadline();
    }
}

impl Scene {
    /// What the head's clocks show.
    fn clock(&self) -> Now {
        Now { at: self.now, unix: self.epoch + self.now.nanos() / 1_000_000_000 }
    }

    fn push(&mut self, at: Instant, what: QueuedInput) {
        self.queue.push(at, what);
    }

    /// Adds an event to the transcript. For a block its place in its file stands, which the checkers compare with what should be there.
    fn note(&mut self, what: &QueuedInput) {
        let (kind, bytes): (u64, &[u8]) = match what {
            QueuedInput::Frame { way, packet: SimPacket::Whole(bytes) } => (*way as u64, bytes),
            QueuedInput::Frame { way, packet: SimPacket::Block { headers, offset, .. } } => (*way as u64 ^ offset << 8, headers),
            QueuedInput::Opened { token, answer } => (2 ^ token << 8 ^ answer.map_or(0, |open| open.size), &[]),
            QueuedInput::Cold { token } => (3 ^ token << 8, &[]),
            QueuedInput::Changed { token } => (4 ^ token << 8, &[]),
            QueuedInput::Bytes { token, bytes } => (5 ^ token << 8, bytes),
            QueuedInput::JournalDone => (6, &[]),
            QueuedInput::Conn(conn) => (8 ^ conn.to_u64() << 8, &[]),
            QueuedInput::Warm { token } => (7 ^ token << 8, &[]),
            QueuedInput::Done { token, .. } => (9 ^ token << 8, &[]),
            QueuedInput::Counted => (10, &[]),
            QueuedInput::Route { .. } => (11, &[]),
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

    /// Does what the server wants done.
    fn act(&mut self, output: Output<'_>) {
        let head_mac = self.head_mac;
        match output {
            Output::Datagram { endpoint, from, to, via, body } => self.datagram(endpoint, from, to, via, body),
            Output::Frame { link: LINK, bytes } => self.send_copy(FrameDirection::ToClients, bytes),
            Output::SendFile(file) => self.send_file(file),
            Output::Record(op) => {
                let more = self.journal.act(op);
                self.await_journal(more);
            }
            Output::Open { token, path } => {
                let answer = self.disk.open(path);
                self.push(self.now + self.disk.habits.latency, QueuedInput::Opened { token, answer });
            }
            Output::CloseFile { file } => assert!(self.disk.close(file), "{file:?} was closed more often than opened"),
            Output::Read { token, file, offset, len } => {
                let mut bytes = vec![0; len as usize];
                let what = match self.read(file, offset, &mut bytes) {
                    Ok(len) => {
                        bytes.truncate(len);
                        QueuedInput::Bytes { token, bytes }
                    }
                    Err(Unread::Cold) => return self.cold(token),
                    Err(Unread::Changed) => QueuedInput::Changed { token },
                };
                self.push(self.now, what);
            }
            Output::Neighbour { link: LINK, ip, mac } => self.neighbours.entry(ip.to_bits().into()).permanent = mac,
            Output::Probe { link: LINK, ip } => {
                let operation = ArpOp::Request;
                let probe = Arp { operation, sender_mac: head_mac, sender_ip: Ipv4Addr::UNSPECIFIED, target_mac: Mac::ZERO, target_ip: ip };
                self.emit(0, |buf| ether::emit_arp(buf, &probe));
            }
            Output::Write { conn, bytes } => {
                self.conns.write(conn, bytes);
                self.stir(conn);
            }
            Output::Connect { endpoint, to, token } => {
                let conn = self.conns.dial(self.now, endpoint, to, token).expect("the machine keeps to the connections that there are");
                self.stir(conn);
            }
            Output::Close { conn, at_once } => {
                self.conns.close(conn, at_once);
                self.stir(conn);
            }
            Output::Readdress { from, to } => {
                assert_eq!(from, self.head, "an address moves that the head did not serve");
                self.head = to;
            }
            // The scene knows the addresses of the interface itself.
            Output::Address { .. } => {}
            Output::Route { token, .. } => self.push(self.now, QueuedInput::Route { token }),
            Output::Task { token, task } => {
                let answer = self.clerk.act(task, |name| self.disk.version(name).is_some());
                if let Some(answer) = answer {
                    self.push(self.now + self.disk.habits.latency, QueuedInput::Done { token, answer });
                }
            }
            Output::Row { place, bytes } => drop(self.rows.insert(place, (bytes.to_vec(), RowMark::default()))),
            Output::MarkRow { place, mark } => {
                let row = self.rows.get_mut(&place).map(|row| row.1 = mark);
                assert!(row.is_some(), "there is no row {place} to be marked");
            }
            Output::DropRow { place } => assert!(self.rows.remove(&place).is_some(), "there is no row {place} to be dropped"),
            Output::Count => self.push(self.now, QueuedInput::Counted),
            Output::Leave => self.left = true,
            Output::Frame { link, .. } | Output::Neighbour { link, .. } | Output::Probe { link, .. } => {
                panic!("there is no link {link}")
            }
        }
    }

    /// The disk begins to do what the journal has for it.
    fn await_journal(&mut self, begins: bool) {
        if let Some(delay) = begins.then(|| self.journal.delay()).flatten() {
            self.push(self.now + delay, QueuedInput::JournalDone);
        }
    }

    /// Nothing is sent, and what was wanted comes after a while.
    fn cold(&mut self, token: u64) {
        self.push(self.now, QueuedInput::Cold { token });
        self.push(self.now + self.disk.habits.latency, QueuedInput::Warm { token });
    }

    fn read(&mut self, file: FileId, offset: u64, bytes: &mut [u8]) -> Result<usize, Unread> {
        self.disk.read(self.now, file, offset, bytes).expect("the machine reads files that it has open")
    }

    fn send_file(&mut self, SendFile { token, file, offset, bytes, to }: SendFile<'_>) {
        let run = match to {
            Target::Datagrams(run) => run,
            Target::Conn(conn) => {
                self.conns.send_file(conn, SimSending { file, offset, left: bytes });
                return self.stir(conn);
            }
        };
        let (count, size) = (u64::from(run.count), u64::from(run.size));
        assert!(count == bytes / size.max(1) + 1 || bytes == count * size, "{run:?}");
        let ready = self.disk.ready(self.now, file, offset, bytes).expect("the machine reads files that it has open");
        match ready {
            Ok((version, len)) if len == bytes => self.send_run(version, offset, bytes, &run),
            Ok(_) | Err(Unread::Changed) => self.push(self.now, QueuedInput::Changed { token }),
            Err(Unread::Cold) => self.cold(token),
        }
    }

    /// Something may be done for a connection.
    fn stir(&mut self, conn: ConnId) {
        self.push(self.now, QueuedInput::Conn(conn));
    }

    /// Ends a connection that has been idle too long, or has it looked at again.
    fn look_at(&mut self, conn: ConnId) {
        if let Some(at) = self.conns.look(self.now, conn) {
            self.push(at, QueuedInput::Conn(conn));
        }
    }

    /// Reads the next piece of a file that a connection waits for, if it is in memory.
    fn read_for(&mut self, conn: ConnId) {
        let Some(sending) = self.conns.sending(conn) else { return };
        let piece = sending.piece();
        match self.disk.ready(self.now, sending.file, sending.offset, piece) {
            Some(Ok((version, len))) if len == piece => {
                let mut bytes = vec![0; piece as usize];
                self.disk.fill(version, sending.offset, &mut bytes);
                self.conns.lay(conn, Some(&bytes));
            }
            Some(Err(Unread::Cold)) => self.push(self.now + self.disk.habits.latency, QueuedInput::Conn(conn)),
            Some(Ok(_) | Err(Unread::Changed)) | None => self.conns.lay(conn, None),
        }
    }
}
