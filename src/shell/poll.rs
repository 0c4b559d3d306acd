//! The loop. One turn: wait; read the clock once; serve each ready source, in rotating order, a bounded batch; expire; send.
//!
//! mio's sources are edge-triggered: a source stays in the ready set until it would block. The next deadline comes from a timerfd,
//! since epoll's own time-out rounds up to milliseconds. The loop does not know what the machine is. It waits for no file: what may wait is
//! done by processes of their own ([`super::work`]), whose answers are sources like any other.

mod act;
mod conns;
mod files;
mod links;
mod port;
mod sockets;
mod tasks;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId as Clock, clock_gettime};

use crate::base::endpoint::Endpoint;
use crate::base::facts::{Hardware, LinkFacts};
use crate::base::limits;
use crate::base::log_limit::LogLimit;
use crate::base::machine::{Command, FileId, Input, Link, Machine, OpenError, OpenFile};
use crate::base::outbox::Outbox;
use crate::base::time::{Instant, Now};
use crate::wire::ether::FrameError;

use super::ShellError;
use super::clerk::Clerk;
use super::conns::Conns;
use super::files::{self as boot, FileRead, Files};
use super::journal::{self, Journal};
use super::left::LeftSockets;
use super::neighbours::Neighbours;
use super::packet::PacketSocket;
use super::queue::{MESSAGES, SendQueue};
use super::rows::{KeptRow, Rows};
use super::signals::Signals;
use super::source::EventSource;
use super::stderr_log;
use super::sys::{self, Receiver};
use super::udp::{self, UdpSocket};
use super::watch::LinkWatch;
use super::work::Worker;
use port::{LinkPort, tell_path};
use tasks::Tasks;

pub use sockets::Refused;

/// How soon it is tried again when somebody who reads the log takes no more.
const SLOW_READER: Duration = Duration::from_millis(100);
/// How often a loop that does not watch its links looks whether they are there.
const LINK_LOOK: Duration = Duration::from_secs(1);
/// While there is work, the kernel is asked for events every so many turns.
const UNPOLLED_MAX: u32 = 8;
/// Answers about files that the machine may be owed at a time. More are dropped: the half-second look asks again.
const OWED: usize = 4 * limits::OUTPUTS;
/// How often answers of one drain may lead to further outputs; what is owed then waits for the next turn.
const ROUNDS: usize = 16;

/// Datagrams that one output may put out.
const RUN_MAX: usize = 64;

/// What is used of the kernel's optional features, where it has them. Behaviour is the same without; the tests look at both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Frames are received through a ring.
    pub ring: bool,
    /// Windows are cut into packets by the kernel.
    pub segment: bool,
}

impl Features {
    /// All that the kernel has.
    pub const ALL: Features = Features { ring: true, segment: true };
}

/// An output whose answer the machine is owed.
enum Owed {
    Opened { token: u64, answer: Result<OpenFile, OpenError> },
    Cold { token: u64 },
    Changed { token: u64 },
    Bytes { token: u64, file: FileId, offset: u64, len: u32 },
    Route { token: u64, to: Ipv4Addr },
    Counted,
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
    malformed: [u64; FrameError::ALL.len()],
}

/// A world: drives a machine by what sockets, files and signals say.
pub struct Shell {
    poll: Poll,
    events: Events,
    timer: TimerFd,
    /// When the timer goes off, or went off.
    armed: Instant,
    /// When it was looked last whether the links are there, by a loop that does not watch them.
    looked: Instant,
    watch: Option<LinkWatch>,
    told_links: LogLimit,
    /// Sockets were opened that the service manager does not keep yet.
    reopened: bool,
    features: Features,
    /// Turns since the kernel was asked for events.
    unpolled: u32,
    /// There may be a signal to take.
    signalled: bool,
    signals: Signals,
    links: Vec<LinkPort>,
    sockets: Vec<UdpSocket>,
    table: Vec<Endpoint>,
    /// Endpoints that are not served.
    refused: Vec<Refused>,
    /// How many sockets there are of the table; behind them are those of other addresses of links.
    fixed: usize,
    others: Vec<(Link, Ipv4Addr)>,
    /// By endpoint: the source that datagrams leave by, where it has one.
    ways: Vec<Option<u16>>,
    /// The first source that is of no link.
    plain: usize,
    facts: Vec<LinkFacts>,
    /// The machine knows its links.
    linked: bool,
    neighbours: Option<Neighbours>,
    files: Option<Files>,
    clerk: Option<Clerk>,
    tasks: Tasks,
    /// The machine has ended.
    left: bool,
    journal: Option<Journal>,
    /// What is kept for the daemon after this one.
    rows: Option<Rows>,
    /// Sources by number: the packet sockets of the links, then the UDP sockets.
    ready: Vec<bool>,
    first: usize,
    receiver: Receiver,
    queue: SendQueue,
    laid: Vec<Laid>,
    outbox: Outbox,
    owed: VecDeque<Owed>,
    bytes: Box<[u8]>,
    losses: Losses,
    ident: u16,
    conns: Conns,
}

impl Shell {
    /// Opens everything that a machine with this table of endpoints needs on these links, in the table's order of them. Its files are beneath
    /// the root, and the readers' to open; the clerk does what its owner asks for.
    pub fn server(table: &[Endpoint], links: &[LinkFacts], root: &Path, clerk: Clerk, readers: Vec<Worker>) -> Result<Shell, ShellError> {
        Shell::server_with(table, links, root, Features::ALL, clerk, readers)
    }

    /// The same, with some of the kernel's features left unused.
    pub fn server_with(
        table: &[Endpoint],
        links: &[LinkFacts],
        root: &Path,
        features: Features,
        clerk: Clerk,
        readers: Vec<Worker>,
    ) -> Result<Shell, ShellError> {
        Shell::server_after(LeftSockets::default(), table, (links, features), root, clerk, readers)
    }

    /// The same, with the sockets that an earlier daemon has left.
    pub fn server_after(
        mut left: LeftSockets,
        table: &[Endpoint],
        (links, features): (&[LinkFacts], Features),
        root: &Path,
        mut clerk: Clerk,
        readers: Vec<Worker>,
    ) -> Result<Shell, ShellError> {
        let files = files::open(&mut clerk, root, readers)?;
        let (sockets, refused) = udp::open_all(table, links, &mut left);
        let mut refused = sockets::judge(table, links, refused)?;
        let mut ports = Vec::new();
        for (at, facts) in (0..).zip(links) {
            let packet = PacketSocket::of_link((at, facts), table, links.len(), features.ring)?;
            let mut port = LinkPort::new(packet, facts);
            let own = |socket: &UdpSocket| socket.link == Some(at) && sys::can_segment(socket.fd.as_fd());
            port.segment = features.segment && sockets.iter().rev().any(own);
            if facts.is_there() {
                tell_path(&facts.name, &port);
            }
            ports.push(port);
        }
        let indices: Vec<u32> = links.iter().map(|link| link.index).collect();
        let neighbours = if indices.is_empty() { None } else { Some(Neighbours::open(&indices)?) };
        let mut shell = Shell::new(table, (ports, links), sockets, neighbours, Some(files))?;
        shell.features = features;
        shell.watch_files(clerk)?;
        shell.watch_links()?;
        refused.append(&mut shell.refused);
        shell.refused = refused;
        Ok(shell)
    }

    /// A loop for machines that answer for MACs of their own on one interface: no sockets, no files.
    pub fn frames(link: &LinkFacts) -> Result<Shell, ShellError> {
        let port = LinkPort::new(PacketSocket::frames(link)?, link);
        Shell::new(&[], (vec![port], std::slice::from_ref(link)), Vec::new(), None, None)
    }

    /// A loop for a client on one Ethernet interface, whether that has an address or not. The ports of its endpoints are held, so that the
    /// kernel tells nobody that no program listens; another client that holds one already serves as well.
    pub fn client(table: &[Endpoint], link: &LinkFacts) -> Result<Shell, ShellError> {
        if link.hardware != Hardware::Ethernet {
            return Err(ShellError::new(format!("{} is not an Ethernet interface: name another one with -i", link.name)));
        }
        let port = LinkPort::new(PacketSocket::server((0, link), table, 1, false)?, link);
        let (sockets, refused) = udp::open_all(table, std::slice::from_ref(link), &mut LeftSockets::default());
        for (at, error) in refused {
            log::debug!("endpoint {at}: cannot reserve its port: {error}");
        }
        Shell::new(table, (vec![port], std::slice::from_ref(link)), sockets, None, None)
    }

    fn new(
        table: &[Endpoint],
        (links, facts): (Vec<LinkPort>, &[LinkFacts]),
        sockets: Vec<UdpSocket>,
        neighbours: Option<Neighbours>,
        files: Option<Files>,
    ) -> Result<Shell, ShellError> {
        let failed = |error| ShellError::system("cannot open the poll loop", error, "");
        let poll = Poll::new().map_err(failed)?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC);
        let timer = timer.map_err(|errno| failed(errno.into()))?;
        let signals = Signals::open()?;
        let watch = |fd: BorrowedFd<'_>, source: EventSource| {
            poll.registry().register(&mut SourceFd(&fd.as_raw_fd()), source.into(), Interest::READABLE).map_err(failed)
        };
        watch(timer.as_fd(), EventSource::Timer)?;
        watch(signals.0.as_fd(), EventSource::Signals)?;
        let own = links.iter().map(|link| link.packet.fd.as_fd()).enumerate();
        let loud = (links.len()..).zip(&sockets).filter(|(_, socket)| !socket.mute).map(|(at, socket)| (at, socket.fd.as_fd()));
        own.chain(loud).try_for_each(|(at, fd)| watch(fd, EventSource::Socket(at)))?;
        let (conns, refused) = Conns::open(table, poll.registry()).map_err(failed)?;
        let refused = sockets::judge(table, facts, refused)?;
        let sources = links.len() + sockets.len();
        let way = |(at, _): (u16, _)| sockets.iter().position(|socket| socket.endpoint == at).map(|socket| (links.len() + socket) as u16);
        let ways = (0..).zip(table).map(way).collect();
        let plain = links.len() + sockets.iter().take_while(|socket| socket.link.is_some()).count();
        Ok(Shell {
            poll,
            events: Events::with_capacity(256),
            timer,
            armed: Instant::ZERO,
            looked: Instant::ZERO,
            watch: None,
            told_links: LogLimit::default(),
            reopened: false,
            features: Features::ALL,
            unpolled: 0,
            signalled: true,
            signals,
            facts: facts.to_vec(),
            linked: false,
            table: table.to_vec(),
            refused,
            fixed: sockets.len(),
            others: Vec::new(),
            ways,
            plain,
            links,
            sockets,
            neighbours,
            files,
            clerk: None,
            tasks: Tasks::default(),
            left: false,
            journal: None,
            rows: None,
            ready: vec![false; sources],
            first: 0,
            receiver: Receiver::default(),
            queue: SendQueue::default(),
            laid: Vec::with_capacity(MESSAGES),
            outbox: Outbox::new(),
            owed: VecDeque::with_capacity(OWED),
            bytes: vec![0; usize::from(u16::MAX)].into(),
            losses: Losses::default(),
            ident: 0,
            conns,
        })
    }

    /// Endpoints that could not be opened, and that the table does not require.
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// The time of this turn.
    pub fn now(&self) -> Now {
        Now { at: monotonic(), unix: read(Clock::CLOCK_REALTIME).as_secs() }
    }

    /// One turn of the loop, of at most `longest`; gives what a signal asks for, which its owner hands on ([`hand`](Shell::hand)) or does itself.
    pub fn turn<M: Machine>(&mut self, machine: &mut M, longest: Duration) -> Result<Option<Command>, ShellError> {
        self.wait(machine.deadline(), longest)?;
        let now = self.now();
        self.note_events();
        self.introduce(machine, now);
        self.serve_links(machine, now);
        self.look_for_death(now)?;
        self.turn_files(now)?;
        let sources = self.plain;
        for step in 0..sources {
            let at = (self.first + step) % sources;
            if self.ready[at] {
                self.serve(machine, now, at);
            }
        }
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
        self.serve_clerk(machine, now);
        // Those who boot come first: others have a share of what is left of the turn.
        let busy = self.ready.iter().take(self.plain).any(|&ready| ready) || machine.deadline().is_some_and(|due| due <= monotonic());
        self.serve_plain(machine, now, busy);
        self.serve_conns(machine, now, busy);
        self.first = self.first.wrapping_add(1);
        // A signal that came with another one is still in its descriptor, and its edge has passed.
        let signal = if self.signalled { self.signals.take() } else { None };
        self.signalled = signal.is_some();
        Ok(signal)
    }

    /// Ends a loop that watches no links, and whose link was deleted.
    fn look_for_death(&mut self, now: Now) -> Result<(), ShellError> {
        if self.watch.is_some() || now.at.since(self.looked) < LINK_LOOK {
            return Ok(());
        }
        self.looked = now.at;
        self.links.iter().find_map(|link| link.packet.death()).map_or(Ok(()), Err)
    }

    /// Hands something to the machine outside of a turn, and does what it puts out.
    pub fn hand<M: Machine>(&mut self, machine: &mut M, input: Input<'_>) {
        let now = self.now();
        machine.handle(now, input, &mut self.outbox);
        self.drain(machine, now);
    }

    /// Before the first turn: tells the machine of its links, and shows it what the daemon before it has left. From now on its own rows are kept.
    pub fn take_up<M: Machine>(&mut self, machine: &mut M, rows: Option<Rows>, kept: &[KeptRow]) {
        let now = self.now();
        self.rows = rows;
        self.introduce(machine, now);
        for KeptRow { bytes, mark } in kept {
            if !self.outbox.has_room() {
                self.drain(machine, now);
            }
            machine.handle(now, Input::Row { bytes, mark: *mark }, &mut self.outbox);
        }
        self.drain(machine, now);
        self.rows.iter_mut().for_each(Rows::take_place);
    }

    /// Whether the machine has ended, as it was asked to.
    pub fn has_left(&self) -> bool {
        self.left
    }

    fn note_events(&mut self) {
        for event in &self.events {
            match EventSource::from(event.token()) {
                // It ends the wait, and is armed anew before it is waited for again.
                EventSource::Timer => {}
                EventSource::Signals => self.signalled = true,
                EventSource::Links => self.watch.iter_mut().for_each(LinkWatch::event),
                EventSource::Journal => self.journal.iter_mut().for_each(Journal::event),
                EventSource::Clerk => self.clerk.iter_mut().for_each(Clerk::event),
                EventSource::Reader(at) => self.files.iter_mut().for_each(|files| files.event(at)),
                EventSource::Door(at) => self.conns.knock(at),
                EventSource::Conn(at) => self.conns.event(at),
                EventSource::Socket(at) => self.ready.iter_mut().skip(at).take(1).for_each(|ready| *ready = true),
            }
        }
    }

    /// Waits for something to do. While there is something anyhow, the other sources are looked at only now and then.
    fn wait(&mut self, deadline: Option<Instant>, longest: Duration) -> Result<(), ShellError> {
        for (ready, link) in self.ready.iter_mut().zip(&self.links) {
            *ready |= link.packet.ring.as_ref().is_some_and(|ring| ring.peek().is_some());
        }
        let now = monotonic();
        let deadline = [deadline, self.conns.deadline(), self.watch.as_ref().and_then(LinkWatch::deadline)].into_iter().flatten().min();
        let due = deadline.map(|deadline| deadline.since(now));
        let busy = due == Some(Duration::ZERO)
            || !self.owed.is_empty()
            || self.files.as_ref().is_some_and(Files::has_news)
            || self.conns.has_work()
            || self.clerk.as_ref().is_some_and(Clerk::has_work)
            || self.journal.as_ref().is_some_and(Journal::has_work)
            || self.signalled
            || self.neighbours.as_ref().is_some_and(Neighbours::has_work)
            || self.ready.iter().any(|&ready| ready);
        self.unpolled = if busy { self.unpolled + 1 } else { UNPOLLED_MAX };
        if self.unpolled < UNPOLLED_MAX && !self.is_waiting() {
            self.events.clear();
            return Ok(());
        }
        self.unpolled = 0;
        let longest = if stderr_log::flush() { longest.min(SLOW_READER) } else { longest };
        let longest = if self.journal.is_some() { longest.min(journal::RETRY) } else { longest };
        let longest = if self.is_waiting() { longest.min(boot::LOOK) } else { longest };
        let nap = if busy { Duration::ZERO } else { longest };
        if let Some(deadline) = deadline.filter(|_| !busy && due < Some(longest)) {
            self.arm(now, deadline)?;
        }
        match self.poll.poll(&mut self.events, Some(nap)) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Ok(()),
            result => result.map_err(|error| ShellError::system("the poll loop failed", error, "")),
        }
    }

    /// Sets the timer, unless it goes off before the deadline anyhow: to wake once for nothing costs less than to set it every turn.
    fn arm(&mut self, now: Instant, deadline: Instant) -> Result<(), ShellError> {
        if self.armed > now && self.armed <= deadline {
            return Ok(());
        }
        let at = TimeSpec::from_duration(deadline.since(Instant::ZERO));
        let set = self.timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME);
        set.map_err(|errno| ShellError::system("cannot set the timer", errno, ""))?;
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
            if !self.queue.has_room(RUN_MAX) {
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
        match owed {
            Owed::Opened { token, answer } => machine.handle(now, Input::Opened { token, answer }, &mut self.outbox),
            Owed::Cold { token } => machine.handle(now, Input::Cold { token }, &mut self.outbox),
            Owed::Changed { token } => machine.handle(now, Input::Changed { token }, &mut self.outbox),
            Owed::Route { token, to } => {
                if let Ok(mtu) = sys::route_mtu(to) {
                    machine.handle(now, Input::Route { token, mtu }, &mut self.outbox);
                }
            }
            Owed::Counted => {
                let (lost, open_files) = (self.stats().collect::<Vec<_>>(), self.open_files());
                machine.handle(now, Input::Counted { lost: &lost, open_files }, &mut self.outbox);
            }
            Owed::Bytes { token, file, offset, len } => {
                let Some(files) = self.files.as_mut() else { return };
                let len = usize::try_from(files.left(file, offset)).map_or(len as usize, |left| left.min(len as usize));
                let Some(bytes) = self.bytes.get_mut(..len) else { return };
                let input = match files.read(file, bytes, 0, len.max(1), len, offset) {
                    FileRead::Done => Input::Bytes { token, bytes },
                    FileRead::Cold => {
                        files.wait(token, file, offset, len);
                        Input::Cold { token }
                    }
                    FileRead::Changed => Input::Changed { token },
                };
                machine.handle(now, input, &mut self.outbox);
            }
        }
    }

    /// Has the service manager keep the sockets of the links for the next daemon.
    pub fn keep_sockets(&self) {
        super::left::keep(self.sockets.iter().take(self.fixed).filter(|socket| socket.link.is_some()).map(|socket| socket.fd.as_fd()));
    }

    /// Drops what was set in the kernel: neighbour entries end with the daemon that keeps them right.
    pub fn leave(&mut self) {
        if let Some(neighbours) = self.neighbours.as_mut() {
            neighbours.clear();
        }
    }

    /// What the kernel side lost or refused, by name; zeros left out.
    pub fn stats(&self) -> impl Iterator<Item = (String, u64)> + '_ {
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
        let malformed = FrameError::ALL.iter().map(|&why| (why.name(), self.losses.malformed[why as usize]));
        let conns = self.conns.stats().chain(self.lost_by_service());
        own.into_iter().chain(malformed).map(|(name, n)| (name.to_string(), n)).chain(conns).filter(|(_, n)| *n > 0)
    }
}

fn read(clock: Clock) -> Duration {
    clock_gettime(clock).map(Duration::from).unwrap_or_default()
}

/// The time of CLOCK_MONOTONIC.
pub fn monotonic() -> Instant {
    Instant::ZERO + read(Clock::CLOCK_MONOTONIC)
}
