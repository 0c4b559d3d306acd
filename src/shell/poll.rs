//! The loop. One turn: wait; read the clock once; serve each ready source, in rotating order, a bounded batch; expire; send.
//!
//! mio's sources are edge-triggered: a source stays in the ready set until it would block. The next deadline comes from a timerfd,
//! since epoll's own time-out rounds up to milliseconds. The loop does not know what the machine is. It waits for no file: what may wait is
//! done by processes of their own ([`super::work`]), whose answers are sources like any other.

mod act;
mod files;
mod names;
mod port;
mod stream;

use std::collections::VecDeque;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId as Clock, clock_gettime};

use crate::base::facts::LinkFacts;
use crate::base::limits;
use crate::base::machine::{FileId, Input, Link, Machine, OpenFile, Refusal};
use crate::base::outbox::Outbox;
use crate::base::time::{Instant, Now};
use crate::config::Config;
use crate::wire::ether::Malformed;

use super::Error;
use super::clerk::Clerk;
use super::control::Control;
use super::files::{self as boot, Files, Read};
use super::journal::{self, Journal};
use super::lines;
use super::names::{self as dns, Names};
use super::neigh::Neighbours;
use super::packet::PacketSocket;
use super::queue::{MESSAGES, Queue};
use super::signals::{Signal, Signals};
use super::sys::ring::{self, Ring};
use super::sys::{self, BATCH, Receiver};
use super::udp::{self, UdpSocket};
use super::work::{READERS, Worker};
use port::{LinkPort, judge, tell_path};

const DHCP_CLIENT: u16 = 68;
const TIMER: Token = Token(usize::MAX - 1);
const SIGNALS: Token = Token(usize::MAX);
const JOURNAL: Token = Token(usize::MAX - 2);
/// The operators' socket and its connections.
const CONTROL: usize = usize::MAX - 2 - Control::TOKENS;
/// The sockets and connections of DNS.
const NAMES: usize = CONTROL - Names::TOKENS;
/// The file processes: the readers, and the clerk.
const FILES: usize = NAMES - READERS - 1;
const CLERK: usize = NAMES - 1;
/// How soon it is tried again when somebody who reads the log takes no more.
const SLOW_READER: Duration = Duration::from_millis(100);
/// How often it is looked whether the links are there.
const LINK_LOOK: Duration = Duration::from_secs(1);
/// Batches that one source may have in one turn.
const BATCHES: usize = 2;
/// While there is work, the kernel is asked for events every so many turns.
const UNPOLLED_MAX: u32 = 8;
/// Answers about files that the machine may be owed at a time. More are dropped: the half-second look asks again.
const OWED: usize = 4 * limits::OUTPUTS;
/// How often answers of one drain may lead to further outputs; what is owed then waits for the next turn.
const ROUNDS: usize = 16;

/// Frames that one ring may have in one turn.
const RING_BATCH: usize = BATCHES * BATCH;

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

/// A file output whose answer the machine is owed.
enum Owed {
    Opened { token: u64, answer: Result<OpenFile, Refusal> },
    Cold { token: u64 },
    Changed { token: u64 },
    Bytes { token: u64, file: FileId, offset: u64, len: u32 },
}

/// Blocks that lie in the queue, and that leave only if their file is still what it was.
struct Laid {
    token: u64,
    file: FileId,
    messages: Range<usize>,
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
    /// When the timer goes off, or went off.
    armed: Instant,
    /// When it was looked last whether the links are there.
    looked: Instant,
    /// Turns since the kernel was asked for events.
    unpolled: u32,
    /// There may be a signal to take.
    signalled: bool,
    signals: Signals,
    links: Vec<LinkPort>,
    sockets: Vec<UdpSocket>,
    per_link: usize,
    neighbours: Option<Neighbours>,
    files: Option<Files>,
    clerk: Option<Clerk>,
    /// Whether operators' errands wait, since one is under way.
    occupied: bool,
    journal: Option<Journal>,
    /// Sources by number: the packet sockets of the links, then the UDP sockets.
    ready: Vec<bool>,
    first: usize,
    receiver: Receiver,
    queue: Queue,
    laid: Vec<Laid>,
    outbox: Outbox,
    owed: VecDeque<Owed>,
    bytes: Box<[u8]>,
    losses: Losses,
    lost_by: Vec<u32>,
    ident: u16,
    control: Option<Control>,
    names: Option<Names>,
}

impl Shell {
    /// Opens everything that a server needs. Its boot files are the readers' to open and the clerk does what operators ask for.
    pub fn server(config: &Config, facts: &[LinkFacts], clerk: Clerk, readers: Vec<Worker>) -> Result<Shell, Error> {
        Shell::server_with(config, facts, Features::ALL, clerk, readers)
    }

    /// The same, with some of the kernel's features left unused.
    pub fn server_with(
        config: &Config,
        facts: &[LinkFacts],
        features: Features,
        mut clerk: Clerk,
        readers: Vec<Worker>,
    ) -> Result<Shell, Error> {
        let files = files::open(&mut clerk, &config.boot.root, readers)?;
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
        let mut shell = Shell::new(links, sockets, per_link, Some(neighbours), Some(files))?;
        shell.names = Names::open(config, shell.poll.registry(), NAMES)?;
        shell.watch_files(clerk)?;
        Ok(shell)
    }

    /// A loop for machines that answer for MACs of their own on one interface: no sockets, no files.
    pub fn frames(link: &LinkFacts) -> Result<Shell, Error> {
        let port = LinkPort::new(PacketSocket::frames(link)?, None, (link.index, link.mac, link.mtu));
        Shell::new(vec![port], Vec::new(), 1, None, None)
    }

    /// A loop for a DHCP client on one Ethernet interface, whether that has an address or not. Port 68 is held, so that the kernel tells no
    /// server that nobody listens; another client that holds it already serves as well.
    pub fn client(link: &LinkFacts) -> Result<Shell, Error> {
        let port = LinkPort::new(PacketSocket::client(link)?, None, (link.index, link.mac, link.mtu));
        let held = udp::hold(&link.name, DHCP_CLIENT).map_err(|error| log::debug!("UDP port {DHCP_CLIENT} is not held: {error}"));
        Shell::new(vec![port], held.into_iter().collect(), 1, None, None)
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
            armed: Instant::ZERO,
            looked: Instant::ZERO,
            unpolled: 0,
            signalled: true,
            signals,
            links,
            sockets,
            per_link,
            neighbours,
            files,
            clerk: None,
            occupied: false,
            journal: None,
            ready: vec![false; sources],
            first: 0,
            receiver: Receiver::default(),
            queue: Queue::default(),
            laid: Vec::with_capacity(MESSAGES),
            outbox: Outbox::new(),
            owed: VecDeque::with_capacity(OWED),
            bytes: vec![0; usize::from(limits::BLKSIZE_MAX)].into(),
            losses: Losses::default(),
            lost_by: vec![0; sources],
            ident: 0,
            control: None,
            names: None,
        })
    }

    pub fn now(&self) -> Now {
        Now { at: monotonic(), unix: read(Clock::CLOCK_REALTIME).as_secs() }
    }

    /// One turn of the loop, of at most `longest`; gives a signal that came in, or an errand of an operator's that is none: what
    /// there is to say about it goes to [`answer_errand`](Shell::answer_errand).
    pub fn turn<M: Machine>(&mut self, machine: &mut M, longest: Duration) -> Result<Option<Signal>, Error> {
        self.wait(machine.deadline(), longest)?;
        let now = self.now();
        if now.at.since(self.looked) >= LINK_LOOK {
            self.looked = now.at;
            self.links.iter().find_map(|link| link.packet.death()).map_or(Ok(()), Err)?;
        }
        for event in &self.events {
            match event.token() {
                // It ends the wait, and is armed anew before it is waited for again.
                TIMER => {}
                SIGNALS => self.signalled = true,
                JOURNAL => self.journal.iter_mut().for_each(Journal::event),
                Token(at) if at >= CONTROL => self.control.iter_mut().for_each(|control| control.event(at - CONTROL)),
                Token(at) if at >= NAMES => self.names.iter_mut().for_each(|names| names.event(at - NAMES)),
                Token(CLERK) => self.clerk.iter_mut().for_each(Clerk::event),
                Token(at) if at >= FILES => self.files.iter_mut().for_each(|files| files.event(at - FILES)),
                Token(at) => self.ready.iter_mut().skip(at).take(1).for_each(|ready| *ready = true),
            }
        }
        self.turn_files(now)?;
        let sources = self.ready.len();
        for step in 0..sources {
            let at = (self.first + step) % sources;
            if self.ready[at] {
                self.serve(machine, now, at);
            }
        }
        self.first = (self.first + 1) % sources.max(1);
        self.serve_control(machine, now);
        self.tell_missed(machine, now);
        while machine.deadline().is_some_and(|deadline| deadline <= now.at) {
            machine.expire(now, &mut self.outbox);
            if self.outbox.is_empty() {
                break;
            }
            self.drain(machine, now);
        }
        self.drain(machine, now);
        self.serve_files(machine, now);
        self.serve_journal(machine, now);
        self.serve_names(machine, now);
        // A signal that came with another one is still in its descriptor, and its edge has passed.
        let signal = if self.signalled { self.signals.take() } else { None };
        self.signalled = signal.is_some();
        if self.occupied {
            return Ok(signal);
        }
        Ok(signal.or_else(|| self.control.as_mut().and_then(Control::errand)))
    }

    /// Puts out what a machine was told outside of a turn.
    pub fn settle<M: Machine>(&mut self, machine: &mut M) {
        let now = self.now();
        self.drain(machine, now);
    }

    /// Waits for something to do. While there is something anyhow, the other sources are looked at only now and then.
    fn wait(&mut self, deadline: Option<Instant>, longest: Duration) -> Result<(), Error> {
        for (ready, link) in self.ready.iter_mut().zip(&self.links) {
            *ready |= link.packet.ring.as_ref().is_some_and(|ring| ring.peek().is_some());
        }
        let now = monotonic();
        let due = deadline.map(|deadline| deadline.since(now));
        let busy = due == Some(Duration::ZERO)
            || !self.owed.is_empty()
            || self.files.as_ref().is_some_and(Files::has_news)
            || self.control.as_ref().is_some_and(Control::has_work)
            || self.names.as_ref().is_some_and(Names::has_work)
            || self.clerk.as_ref().is_some_and(Clerk::has_work)
            || self.journal.as_ref().is_some_and(Journal::has_work)
            || self.signalled
            || self.ready.iter().any(|&ready| ready);
        self.unpolled = if busy { self.unpolled + 1 } else { UNPOLLED_MAX };
        if self.unpolled < UNPOLLED_MAX && !self.is_waiting() {
            self.events.clear();
            return Ok(());
        }
        self.unpolled = 0;
        let longest = if lines::flush() { longest.min(SLOW_READER) } else { longest };
        let longest = if self.journal.is_some() { longest.min(journal::RETRY) } else { longest };
        let longest = if self.is_waiting() { longest.min(boot::LOOK) } else { longest };
        let longest = if self.names.as_ref().is_some_and(Names::is_timed) { longest.min(dns::LOOK) } else { longest };
        let nap = if busy { Duration::ZERO } else { longest };
        if let Some(deadline) = deadline.filter(|_| !busy && due < Some(longest)) {
            self.arm(now, deadline)?;
        }
        match self.poll.poll(&mut self.events, Some(nap)) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Ok(()),
            result => result.map_err(|error| Error::system("the poll loop failed", error, "")),
        }
    }

    /// Sets the timer, unless it goes off before the deadline anyhow: to wake once for nothing costs less than to set it every turn.
    fn arm(&mut self, now: Instant, deadline: Instant) -> Result<(), Error> {
        if self.armed > now && self.armed <= deadline {
            return Ok(());
        }
        let at = TimeSpec::from_duration(deadline.since(Instant::ZERO));
        let set = self.timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME);
        set.map_err(|errno| Error::system("cannot set the timer", errno, ""))?;
        self.armed = deadline;
        Ok(())
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
                    Read::Cold => {
                        files.wait(token, file, offset, len);
                        Input::Cold { token }
                    }
                    Read::Changed => Input::Changed { token },
                };
                machine.handle(now, input, out);
            }
        }
    }

    /// Drops what was set in the kernel: neighbour entries end with the daemon that keeps them right.
    pub fn leave(&mut self) {
        let indices: Vec<u32> = self.links.iter().map(|link| link.index).collect();
        if let Some(neighbours) = self.neighbours.as_mut() {
            neighbours.clear(&indices);
        }
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
        let dns = self.names.iter().flat_map(Names::stats);
        own.into_iter().chain(dns).chain(malformed).filter(|(_, n)| *n > 0)
    }
}

fn read(clock: Clock) -> Duration {
    clock_gettime(clock).map(Duration::from).unwrap_or_default()
}

fn monotonic() -> Instant {
    Instant::ZERO + read(Clock::CLOCK_MONOTONIC)
}
