//! The loop. One turn: wait; read the clock once; serve each ready source, in rotating order, a bounded batch; expire; send.
//!
//! mio's sources are edge-triggered: a source stays in the ready set until it would block. The next deadline comes from a timerfd,
//! since epoll's own time-out rounds up to milliseconds. The loop does not know what the machine is.

use std::collections::VecDeque;
use std::net::{Ipv6Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId as Clock, clock_gettime};

use crate::base::addr::Mac;
use crate::base::facts::LinkFacts;
use crate::base::limits;
use crate::base::machine::{Datagram, FileId, Input, Link, Machine, OpenFile, Refusal};
use crate::base::outbox::{Blocks, Outbox, Output, Via};
use crate::base::time::{Instant, Now};
use crate::config::Config;
use crate::wire::ether::{self, Arp, ArpOp, Malformed, RouterSolicit};
use crate::wire::tftp;

use super::Error;
use super::files::{Files, Read};
use super::frame::{self, Way};
use super::neigh::Neighbours;
use super::packet::PacketSocket;
use super::queue::{PUT_MAX, Queue, Trouble};
use super::signals::{Signal, Signals};
use super::sys::ring::{self, Ring};
use super::sys::{self, BATCH, Received, Receiver};
use super::udp::{self, UdpSocket};

const TIMER: Token = Token(usize::MAX - 1);
const SIGNALS: Token = Token(usize::MAX);
/// Batches that one source may have in one turn.
const BATCHES: usize = 4;
/// Answers about files that the machine may be owed at a time. More are dropped: the half-second look asks again.
const OWED: usize = 4 * limits::OUTPUTS;
/// How often answers of one drain may lead to further outputs; what is owed then waits for the next turn.
const ROUNDS: usize = 16;
const DHCP_SERVER: u16 = 67;

/// Frames that one ring may have in one turn.
const RING_BATCH: usize = BATCHES * BATCH;
/// The most that one UDP datagram holds, and how many packets the kernel makes of it.
const SEGMENTED_MAX: usize = 65_535 - 20 - 8;
const SEGMENTS_MAX: usize = 64;

/// What is used of the kernel's optional features, where it has them. Behaviour is the same without; the tests look at both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Frames are received through a ring.
    pub ring: bool,
    /// Windows are cut into packets by the kernel.
    pub segment: bool,
}

impl Features {
    pub const ALL: Features = Features { ring: true, segment: true };
}

/// How a link looks from the loop.
struct LinkPort {
    packet: PacketSocket,
    index: u32,
    mac: Mac,
    link_local: Ipv6Addr,
    /// Bytes of an IP packet.
    mtu: u32,
    segment: bool,
    /// The ring had more to give than one turn takes: it may have overflowed since.
    behind: bool,
    /// What the machine has not been told yet.
    refused: u32,
    overrun: u32,
}

impl LinkPort {
    /// Where a frame of our own making around `len` bytes goes; None: the kernel sends the packet.
    fn destination(&self, via: Via, len: usize) -> Option<Mac> {
        let destination = match via {
            Via::Mac(mac) => Some(mac),
            Via::Broadcast => Some(Mac::BROADCAST),
            Via::Kernel => None,
        };
        destination.filter(|_| self.packet.is_raw() && len + 20 + 8 <= self.mtu as usize)
    }

    fn new(packet: PacketSocket, link_local: Option<Ipv6Addr>, (index, mac, mtu): (u32, Mac, u32)) -> LinkPort {
        let link_local = link_local.unwrap_or(eui64(mac));
        LinkPort { packet, index, mac, link_local, mtu, segment: false, behind: false, refused: 0, overrun: 0 }
    }
}

/// A file output whose answer the machine is owed.
enum Owed {
    Opened { token: u64, answer: Result<OpenFile, Refusal> },
    Cold { token: u64 },
    Changed { token: u64 },
    Bytes { token: u64, file: FileId, offset: u64, len: u32 },
}

/// What the kernel side lost or refused.
#[derive(Clone, Copy, Debug, Default)]
struct Losses {
    truncated: u64,
    lost: u64,
    unanswered: u64,
    too_long: u64,
    malformed: [u64; Malformed::ALL.len()],
}

pub struct Shell {
    poll: Poll,
    events: Events,
    timer: TimerFd,
    signals: Signals,
    links: Vec<LinkPort>,
    sockets: Vec<UdpSocket>,
    per_link: usize,
    neighbours: Option<Neighbours>,
    files: Option<Files>,
    /// Sources by number: the packet sockets of the links, then the UDP sockets.
    ready: Vec<bool>,
    first: usize,
    receiver: Receiver,
    queue: Queue,
    outbox: Outbox,
    owed: VecDeque<Owed>,
    bytes: Box<[u8]>,
    losses: Losses,
    lost_by: Vec<u32>,
    ident: u16,
}

impl Shell {
    /// Opens everything that a server needs.
    pub fn server(config: &Config, facts: &[LinkFacts]) -> Result<Shell, Error> {
        Shell::server_with(config, facts, Features::ALL)
    }

    /// The same, with some of the kernel's features left unused.
    pub fn server_with(config: &Config, facts: &[LinkFacts], features: Features) -> Result<Shell, Error> {
        let files = Files::open_root(&config.boot.root)?;
        let sockets = udp::open_all(config)?;
        let per_link = udp::per_link(config);
        let mut links = Vec::new();
        for (link, sockets) in config.links.iter().zip(sockets.chunks(per_link)) {
            let packet = PacketSocket::server(link, config.tftp.ports, config.links.len(), features.ring)?;
            let link_local = facts.iter().find(|facts| facts.index == link.index).and_then(|facts| facts.link_local);
            let mut port = LinkPort::new(packet, link_local, (link.index, link.mac, link.mtu));
            port.segment = features.segment && sockets.last().is_some_and(|socket| sys::can_segment(socket.fd.as_fd()));
            tell_path(&link.interface, &port);
            links.push(port);
        }
        let indices: Vec<u32> = config.links.iter().map(|link| link.index).collect();
        let neighbours = Neighbours::open(&indices)?;
        Shell::new(links, sockets, per_link, Some(neighbours), Some(files))
    }

    /// A loop for machines that answer for MACs of their own on one interface: no sockets, no files.
    pub fn frames(link: &LinkFacts) -> Result<Shell, Error> {
        let port = LinkPort::new(PacketSocket::frames(link)?, None, (link.index, link.mac, link.mtu));
        Shell::new(vec![port], Vec::new(), 1, None, None)
    }

    fn new(
        links: Vec<LinkPort>,
        sockets: Vec<UdpSocket>,
        per_link: usize,
        neighbours: Option<Neighbours>,
        files: Option<Files>,
    ) -> Result<Shell, Error> {
        let failed = |error| Error::system("cannot open the poll loop", error, "");
        let poll = Poll::new().map_err(failed)?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC);
        let timer = timer.map_err(|errno| failed(errno.into()))?;
        let signals = Signals::open()?;
        let watch =
            |fd: BorrowedFd<'_>, token| poll.registry().register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE).map_err(failed);
        watch(timer.as_fd(), TIMER)?;
        watch(signals.0.as_fd(), SIGNALS)?;
        for (at, link) in links.iter().enumerate() {
            watch(link.packet.fd.as_fd(), Token(at))?;
        }
        for (at, socket) in sockets.iter().enumerate().filter(|(_, socket)| !socket.mute) {
            watch(socket.fd.as_fd(), Token(links.len() + at))?;
        }
        let sources = links.len() + sockets.len();
        Ok(Shell {
            poll,
            events: Events::with_capacity(256),
            timer,
            signals,
            links,
            sockets,
            per_link,
            neighbours,
            files,
            ready: vec![false; sources],
            first: 0,
            receiver: Receiver::default(),
            queue: Queue::default(),
            outbox: Outbox::new(),
            owed: VecDeque::with_capacity(OWED),
            bytes: vec![0; usize::from(limits::BLKSIZE_MAX)].into(),
            losses: Losses::default(),
            lost_by: vec![0; sources],
            ident: 0,
        })
    }

    pub fn now(&self) -> Now {
        let read = |clock| clock_gettime(clock).map(Duration::from).unwrap_or_default();
        Now { at: Instant::ZERO + read(Clock::CLOCK_MONOTONIC), unix: read(Clock::CLOCK_REALTIME).as_secs() }
    }

    /// One turn of the loop, of at most `longest`; gives a signal that came in.
    pub fn turn<M: Machine>(&mut self, machine: &mut M, longest: Duration) -> Result<Option<Signal>, Error> {
        self.wait(machine.deadline(), longest)?;
        let now = self.now();
        let mut signal = None;
        for event in &self.events {
            match event.token() {
                TIMER => drop(self.timer.wait()),
                SIGNALS => signal = self.signals.take(),
                Token(at) => self.ready.iter_mut().skip(at).take(1).for_each(|ready| *ready = true),
            }
        }
        let sources = self.ready.len();
        for step in 0..sources {
            let at = (self.first + step) % sources;
            if self.ready[at] {
                self.serve(machine, now, at);
            }
        }
        self.first = (self.first + 1) % sources.max(1);
        self.tell_missed(machine, now);
        while machine.deadline().is_some_and(|deadline| deadline <= now.at) {
            machine.expire(now, &mut self.outbox);
            if self.outbox.is_empty() {
                break;
            }
            self.drain(machine, now);
        }
        self.drain(machine, now);
        // A signal that came with another one is still in its descriptor, and its edge has passed.
        if signal.is_none() {
            signal = self.signals.take();
        }
        Ok(signal)
    }

    /// Puts out what a machine was told outside of a turn.
    pub fn settle<M: Machine>(&mut self, machine: &mut M) {
        let now = self.now();
        self.drain(machine, now);
    }

    fn wait(&mut self, deadline: Option<Instant>, longest: Duration) -> Result<(), Error> {
        let failed = |error| Error::system("the poll loop failed", error, "");
        let busy = !self.owed.is_empty() || self.ready.iter().any(|&ready| ready);
        let due = deadline.map(|deadline| deadline.since(self.now().at));
        let nap = if busy || due == Some(Duration::ZERO) { Duration::ZERO } else { longest };
        if let Some(due) = due.filter(|due| !nap.is_zero() && *due < longest) {
            let expiration = Expiration::OneShot(TimeSpec::from_duration(due));
            self.timer.set(expiration, TimerSetTimeFlags::empty()).map_err(|errno| failed(errno.into()))?;
        }
        match self.poll.poll(&mut self.events, Some(nap)) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Ok(()),
            result => result.map_err(failed),
        }
    }

    /// Tells the machine what the kernel has refused and lost since the last turn.
    fn tell_missed<M: Machine>(&mut self, machine: &mut M, now: Now) {
        for at in 0..self.links.len() {
            let link = &mut self.links[at];
            let (refused, overrun) = (std::mem::take(&mut link.refused), std::mem::take(&mut link.overrun));
            if refused == 0 && overrun == 0 {
                continue;
            }
            if !self.outbox.has_room() {
                self.drain(machine, now);
            }
            machine.handle(now, Input::Missed { link: at as Link, refused, overrun }, &mut self.outbox);
        }
    }

    /// Gives the machine what a ring has, up to a bound.
    fn serve_ring<M: Machine>(&mut self, machine: &mut M, now: Now, at: usize) {
        for _ in 0..RING_BATCH {
            let link = &self.links[at];
            let Some(received) = link.packet.ring.as_ref().and_then(Ring::peek) else {
                self.ready[at] = false;
                if std::mem::take(&mut self.links[at].behind) {
                    self.count_overrun(at);
                }
                return;
            };
            let losing = received.losing;
            if let Some(input) = judge(&self.links, at as Link, None, &received, &mut self.losses) {
                machine.handle(now, input, &mut self.outbox);
            }
            self.links[at].packet.ring.iter_mut().for_each(Ring::release);
            if losing {
                self.count_overrun(at);
            }
            if !self.outbox.has_room() {
                self.drain(machine, now);
            }
        }
        self.links[at].behind = true;
    }

    /// Asks the kernel how many frames found the ring full.
    fn count_overrun(&mut self, at: usize) {
        let link = &mut self.links[at];
        let lost = ring::dropped(link.packet.fd.as_fd());
        link.overrun = link.overrun.saturating_add(lost);
        self.losses.lost += u64::from(lost);
    }

    /// Gives the machine what a source has, a few batches at most.
    fn serve<M: Machine>(&mut self, machine: &mut M, now: Now, at: usize) {
        if self.links.get(at).is_some_and(|link| link.packet.ring.is_some()) {
            return self.serve_ring(machine, now, at);
        }
        for _ in 0..BATCHES {
            let fd = match self.links.get(at) {
                Some(link) => link.packet.fd.as_fd(),
                None => self.sockets[at - self.links.len()].fd.as_fd(),
            };
            let got = match self.receiver.receive(fd) {
                Ok(got) => got,
                Err(error) => {
                    // An interface that goes down says so once; nothing is lost by it that was not lost already.
                    if error.kind() != std::io::ErrorKind::WouldBlock {
                        log::debug!("receive: {error}");
                    }
                    self.ready[at] = error.raw_os_error() == Some(libc::ENETDOWN);
                    return;
                }
            };
            for message in 0..got {
                self.deliver(machine, now, at, message);
                if !self.outbox.has_room() {
                    self.drain(machine, now);
                }
            }
            if got < BATCH {
                self.ready[at] = false;
                return;
            }
        }
    }

    fn deliver<M: Machine>(&mut self, machine: &mut M, now: Now, at: usize, message: usize) {
        let received = self.receiver.get(message);
        let socket = at.checked_sub(self.links.len()).and_then(|at| self.sockets.get(at));
        let link = socket.map_or(at as Link, |socket| socket.link);
        if let Some(all) = received.lost {
            let lost = all.wrapping_sub(std::mem::replace(&mut self.lost_by[at], all));
            self.losses.lost += u64::from(lost);
            if let Some(link) = self.links.get_mut(usize::from(link)) {
                link.overrun = link.overrun.saturating_add(lost);
            }
        }
        if let Some(input) = judge(&self.links, link, socket, &received, &mut self.losses) {
            machine.handle(now, input, &mut self.outbox);
        }
    }

    /// Acts on everything that was put out, and on what that leads to. A machine that never has enough waits for the next turn.
    fn drain<M: Machine>(&mut self, machine: &mut M, now: Now) {
        for _ in 0..ROUNDS {
            self.act_on_all(now);
            if self.owed.is_empty() {
                break;
            }
            while self.outbox.has_room() {
                let Some(owed) = self.owed.pop_front() else { break };
                self.answer(machine, now, owed);
            }
        }
        self.act_on_all(now);
        self.flush();
    }

    fn act_on_all(&mut self, now: Now) {
        if self.outbox.is_empty() {
            return;
        }
        let mut outbox = std::mem::replace(&mut self.outbox, Outbox::none());
        for output in outbox.iter() {
            if !self.queue.has_room(usize::from(limits::WINDOWSIZE_MAX)) {
                self.flush();
            }
            self.act(now, output);
        }
        outbox.clear();
        self.outbox = outbox;
    }

    /// Remembers an answer. Without room for it a file that was opened is closed again.
    fn owe(&mut self, owed: Owed) {
        if self.owed.len() < OWED {
            return self.owed.push_back(owed);
        }
        self.losses.unanswered += 1;
        if let (Owed::Opened { answer: Ok(open), .. }, Some(files)) = (owed, self.files.as_mut()) {
            files.close(open.file);
        }
    }

    fn flush(&mut self) {
        let Shell { links, sockets, queue, .. } = self;
        let packet_sockets = links.len();
        let mut refused = [0u32; limits::LINKS_MAX];
        let mut whole = None;
        let fd_of = |at: usize| match links.get(at) {
            Some(link) => Some(link.packet.fd.as_fd()),
            None => sockets.get(at - packet_sockets).map(|socket| socket.fd.as_fd()),
        };
        queue.flush(fd_of, |at, trouble| {
            let link = at.checked_sub(packet_sockets).and_then(|at| sockets.get(at)).map_or(at, |socket| socket.link.into());
            match (trouble, refused.get_mut(link)) {
                (Trouble::Full(packets), Some(refused)) => *refused = refused.saturating_add(packets.min(u32::MAX.into()) as u32),
                (Trouble::Whole(error), _) => whole = Some((link, error)),
                (Trouble::Full(_), None) => {}
            }
        });
        for (link, refused) in links.iter_mut().zip(refused) {
            link.refused = link.refused.saturating_add(refused);
        }
        let Some((link, error)) = whole else { return };
        if let Some(link) = links.get_mut(link).filter(|link| link.segment) {
            link.segment = false;
            log::warn!("interface {}: UDP_SEGMENT is refused ({error}): windows are sent packet by packet from now on", link.index);
        }
    }

    fn answer<M: Machine>(&mut self, machine: &mut M, now: Now, owed: Owed) {
        let out = &mut self.outbox;
        match owed {
            Owed::Opened { token, answer } => machine.handle(now, Input::Opened { token, answer }, out),
            Owed::Cold { token } => machine.handle(now, Input::Cold { token }, out),
            Owed::Changed { token } => machine.handle(now, Input::Changed { token }, out),
            Owed::Bytes { token, file, offset, len } => {
                let Some(files) = self.files.as_mut() else { return };
                let len = usize::try_from(files.left(file, offset)).map_or(len as usize, |left| left.min(len as usize));
                let Some(bytes) = self.bytes.get_mut(..len) else { return };
                let input = match files.read(file, bytes, 0, len.max(1), len, offset) {
                    Read::Done => Input::Bytes { token, bytes },
                    Read::Cold => Input::Cold { token },
                    Read::Changed => Input::Changed { token },
                };
                machine.handle(now, input, out);
            }
        }
    }

    fn act(&mut self, now: Now, output: Output<'_>) {
        match output {
            Output::Datagram { link, from, to, via, body } => self.datagram(link, from, to, via, body),
            Output::Frame { link, bytes } => self.put(usize::from(link), None, |buf| copy(buf, bytes)),
            Output::Blocks(blocks) => self.blocks(&blocks),
            Output::Open { token, path } => {
                let answer = self.files.as_mut().map_or(Err(Refusal::NotFound), |files| files.open(now.at, path));
                self.owe(Owed::Opened { token, answer });
            }
            Output::Close { file } => self.files.iter_mut().for_each(|files| files.close(file)),
            Output::Read { token, file, offset, len } => self.owe(Owed::Bytes { token, file, offset, len }),
            Output::Neighbour { link, ip, mac } => {
                if let (Some(neighbours), Some(link)) = (self.neighbours.as_mut(), self.links.get(usize::from(link))) {
                    neighbours.set(link.index, ip, mac);
                }
            }
            Output::ArpProbe { link, ip } => {
                let Some(mac) = self.links.get(usize::from(link)).map(|link| link.mac) else { return };
                let nobody = std::net::Ipv4Addr::UNSPECIFIED;
                let probe = Arp { operation: ArpOp::Request, sender_mac: mac, sender_ip: nobody, target_mac: Mac::ZERO, target_ip: ip };
                self.put(usize::from(link), None, |buf| ether::emit_arp(buf, &probe));
            }
            Output::RouterAdvert { link, mac, source } => {
                let Some(port) = self.links.get(usize::from(link)) else { return };
                let (src_mac, src, to) = (port.mac, port.link_local, RouterSolicit { src_mac: mac, src: source });
                self.put(usize::from(link), None, |buf| ether::emit_router_advert(buf, src_mac, src, &to));
            }
        }
    }

    fn put(&mut self, socket: usize, to: Option<SocketAddrV4>, write: impl FnOnce(&mut [u8]) -> Option<usize>) {
        self.queue.put(socket, to, write);
    }

    fn datagram(&mut self, link: Link, from: SocketAddrV4, to: SocketAddrV4, via: Via, body: &[u8]) {
        let Some(port) = self.links.get(usize::from(link)) else { return };
        match port.destination(via, body.len()) {
            Some(mac) => {
                let src_mac = port.mac;
                self.ident = self.ident.wrapping_add(1);
                let ident = self.ident;
                self.put(usize::from(link), None, |buf| ether::emit_udp(buf, src_mac, mac, from, to, ident, body));
            }
            None => {
                let Some(socket) = self.socket(link, from.port()) else { return };
                self.put(socket, Some(to), |buf| copy(buf, body));
            }
        }
    }

    /// The source number of a link's UDP socket on a port.
    fn socket(&self, link: Link, port: u16) -> Option<usize> {
        let start = usize::from(link) * self.per_link;
        let own = self.sockets.get(start..start + self.per_link)?;
        // 67, 69, and then the pool in order.
        let pool = own.get(2).map_or(0, |first| first.local.port());
        let at = match port {
            DHCP_SERVER => 0,
            69 => 1,
            port => 2 + usize::from(port.checked_sub(pool)?),
        };
        own.get(at).filter(|socket| socket.local.port() == port)?;
        Some(self.links.len() + start + at)
    }

    /// Reads a run of blocks into the queue, the headers before each, and makes messages of them.
    fn blocks(&mut self, run: &Blocks) {
        let Some(port) = self.links.get(usize::from(run.link)) else { return };
        let (blksize, bytes) = (usize::from(run.blksize), run.bytes as usize);
        let destination = port.destination(run.via, 4 + blksize.min(bytes));
        let way = destination.map(|dst_mac| Way { src_mac: port.mac, dst_mac, from: run.from, to: run.to });
        let gap = if way.is_some() { frame::HEADERS } else { 4 };
        if bytes + gap * usize::from(run.count) > PUT_MAX || run.count > limits::WINDOWSIZE_MAX {
            self.losses.too_long += 1;
            return;
        }
        let Some(files) = self.files.as_mut() else { return };
        match files.read(run.file, self.queue.room(), gap, blksize, bytes, run.offset) {
            Read::Cold => self.owe(Owed::Cold { token: run.token }),
            Read::Changed => self.owe(Owed::Changed { token: run.token }),
            Read::Done => match way {
                Some(way) => self.frames_of(run, &way),
                None => self.window_of(run),
            },
        }
    }

    /// Makes a frame of each block that lies in the queue.
    fn frames_of(&mut self, run: &Blocks, way: &Way) {
        let (socket, mut left) = (usize::from(run.link), run.bytes as usize);
        for n in 0..run.count {
            let len = left.min(run.blksize.into());
            left -= len;
            self.ident = self.ident.wrapping_add(1);
            let (ident, block) = (self.ident, run.block.wrapping_add(n));
            self.put(socket, None, |buf| frame::data(buf, way, ident, block, len));
        }
    }

    /// Makes datagrams of the blocks that lie in the queue: as few as the kernel can cut into packets.
    fn window_of(&mut self, run: &Blocks) {
        let Some(socket) = self.socket(run.link, run.from.port()) else { return };
        let segment = 4 + usize::from(run.blksize);
        let whole = self.links.get(usize::from(run.link)).is_some_and(|link| link.segment);
        let at_once = if whole { (SEGMENTED_MAX / segment).clamp(1, SEGMENTS_MAX) } else { 1 };
        let (mut block, mut left) = (run.block, run.bytes as usize + 4 * usize::from(run.count));
        let mut packets = usize::from(run.count);
        while packets > 0 {
            let count = packets.min(at_once);
            let len = left.min(count * segment);
            for packet in self.queue.room().chunks_mut(segment).take(count) {
                packet.iter_mut().zip(tftp::data_header(block)).for_each(|(to, from)| *to = from);
                block = block.wrapping_add(1);
            }
            self.queue.take(socket, len, Some(run.to), if count > 1 { segment as u16 } else { 0 });
            (packets, left) = (packets - count, left - len);
        }
    }

    /// Serves boot files from another folder from now on; running transfers keep theirs.
    pub fn set_root(&mut self, root: &std::path::Path) -> Result<(), Error> {
        self.files.as_mut().map_or(Ok(()), |files| files.set_root(root))
    }

    /// Drops what was set in the kernel: neighbour entries end with the daemon that keeps them right.
    pub fn leave(&mut self) {
        let indices: Vec<u32> = self.links.iter().map(|link| link.index).collect();
        if let Some(neighbours) = self.neighbours.as_mut() {
            neighbours.clear(&indices);
        }
    }

    /// How many boot files are open.
    pub fn open_files(&self) -> usize {
        self.files.as_ref().map_or(0, Files::open_files)
    }

    /// What the kernel side lost or refused, by name; zeros left out.
    pub fn stats(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let neighbours = self.neighbours.as_ref().map_or(0, |neighbours| neighbours.failed);
        let own = [
            ("received, truncated", self.losses.truncated),
            ("lost in receive queues", self.losses.lost),
            ("file answers dropped", self.losses.unanswered),
            ("not sent, run too long", self.losses.too_long),
            ("not sent, queue full", self.queue.full),
            ("not sent, refused", self.queue.failed),
            ("neighbour entries refused", neighbours),
        ];
        let malformed = Malformed::ALL.iter().map(|&why| (why.name(), self.losses.malformed[why as usize]));
        own.into_iter().chain(malformed).filter(|(_, n)| *n > 0)
    }
}

/// What a received message means to the machine; None: it is dropped, and counted.
fn judge<'a>(
    links: &[LinkPort],
    link: Link,
    socket: Option<&UdpSocket>,
    received: &Received<'a>,
    losses: &mut Losses,
) -> Option<Input<'a>> {
    if received.truncated {
        losses.truncated += 1;
        return None;
    }
    let input = match (socket, links.get(usize::from(link))) {
        (Some(socket), _) => {
            let datagram = |src| Datagram { link, mac: None, src, dst: socket.local, payload: received.bytes };
            received.from.map(datagram).map(Input::Datagram).ok_or(Malformed::Other)
        }
        (None, Some(port)) => port.packet.input(link, received),
        (None, None) => return None,
    };
    match input {
        Ok(Input::Arp { mac, .. }) if links.iter().any(|link| link.mac == mac) => None,
        Ok(input) => Some(input),
        Err(why) => {
            losses.malformed[why as usize] += 1;
            None
        }
    }
}

/// Says by which way a link's packets come and go.
fn tell_path(interface: &str, port: &LinkPort) {
    let received = match &port.packet.ring {
        Some(ring) => format!("receives through a ring of {} frames", ring.frames()),
        None => "receives by system calls".into(),
    };
    let windows = if port.segment { "cut up by the kernel (UDP_SEGMENT)" } else { "sent packet by packet" };
    log::info!("{interface}: {received}; windows are {windows}");
}

fn copy(buf: &mut [u8], bytes: &[u8]) -> Option<usize> {
    buf.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(bytes.len())
}

/// The link-local address that a MAC makes (RFC 4291, appendix A).
fn eui64(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}
