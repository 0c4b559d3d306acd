//! The contract between a machine and the world that drives it.
//!
//! A machine is a function of (its state, the time, an input). The world, whether the shell or the simulator, hands it one
//! [`Input`] at a time and drains the [`Outbox`] after each call or batch of calls. Whoever composes the two gives the world the machine's
//! table of endpoints ([`Endpoint`](super::endpoint::Endpoint)) at start, and then runs this loop:
//!
//! ```text
//! loop {
//!     wait for an event, but not beyond machine.deadline();
//!     let now = the time, read once;
//!     for each input that has come in, in a bounded batch {
//!         machine.handle(now, input, &mut out);
//!         if !out.has_room() { act on each output of out.iter(); out.clear(); }
//!     }
//!     while machine.deadline() <= now { machine.expire(now, &mut out); act on the outputs; }
//!     act on the outputs;
//! }
//! ```
//! The world promises
//! - time that never runs backwards,
//! - room for [`limits::OUTPUTS_PER_CALL`](crate::base::limits) outputs at every call,
//! - [`expire`](Machine::expire) at or soon after [`deadline`](Machine::deadline).
//!
//! The machine promises O(1) work for an input, no allocation in the steady state, and no panic whatever the input.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::addr::Mac;
use super::endpoint::EndpointId;
use super::facts::LinkFacts;
use super::outbox::Outbox;
use super::slab::Key;
use super::time::{Instant, Now};

/// A deterministic party on a network: no sockets, files, clock, threads or hidden randomness.
pub trait Machine {
    /// Takes one input. What is to be done about it is put into the outbox.
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Outbox);

    /// Does what is due. May stop early when the outbox runs full; the deadline then lies in the past and the world calls again.
    fn expire(&mut self, now: Now, out: &mut Outbox);

    /// When [`expire`](Machine::expire) wants to be called; None while nothing is pending.
    fn deadline(&self) -> Option<Instant>;
}

/// A boot interface: its place in the list of links.
pub type Link = u8;

/// A connection, from `Opened` to `Closed`. The key of one that has gone names no other one.
pub type ConnId = Key<Connection>;

/// What a [`ConnId`] names.
pub enum Connection {}

/// A file that the world holds open. Stays valid until the machine closes it as often as it was opened; then it names no other one.
pub type FileId = Key<OpenFile>;

/// What changes of a row ([`Output::Row`](super::outbox::Output)) while it is kept.
///
/// Rows are what a machine leaves to the one that comes after it in the same place, however it ends: a world keeps them where they outlive the
/// machine (the shell in a mapped file, without a system call), and shows them to the next one before anything else ([`Input::Row`]). A row or
/// a mark is there whole or not at all. They are no promise: a world may have no place for them.
pub type RowMark = [u64; 3];

/// The number of a record of the journal: the first one that a machine puts out is 1, and none is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seq(u64);

impl Seq {
    /// No record at all, which comes before the first.
    pub const NONE: Seq = Seq(0);

    /// The record of this number, counted from 1; 0 is [`Seq::NONE`].
    pub const fn new(number: u64) -> Seq {
        Seq(number)
    }

    /// That of the record behind this one.
    pub const fn next(self) -> Seq {
        Seq(self.0 + 1)
    }

    /// How many records come behind `earlier`, up to this one; 0 when `earlier` is later.
    pub const fn since(self, earlier: Seq) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// What a world tells a machine.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// What becomes of a link: at start, before anything else of it, and whenever something of it changes. None: it has gone, or has not
    /// come yet; nothing comes from it, and what is sent to it is lost.
    Link {
        /// The link by its place in the table.
        link: Link,
        /// What is known of it now.
        facts: Option<&'a LinkFacts>,
    },
    /// A row that the machine before this one has left, with its mark; after `Link`, before anything else. The world forgets those which are
    /// not put out again.
    Row {
        /// What was put out last for its place.
        bytes: &'a [u8],
        /// Its mark.
        mark: RowMark,
    },
    /// A UDP datagram that came to an endpoint.
    Datagram(Datagram<'a>),
    /// A whole Ethernet frame, whose checksums hold: everything, for machines that answer for their own MACs; else what neither a datagram
    /// nor ARP is.
    Frame {
        /// Where it was heard.
        link: Link,
        /// From the destination's hardware address on, without the checksum at the end.
        bytes: &'a [u8],
    },
    /// An ARP packet by which somebody claims an address: `sender` is at `mac`.
    Arp {
        /// Where it was heard.
        link: Link,
        /// The hardware address that the sender claims.
        mac: Mac,
        /// The IP address that it claims.
        sender: Ipv4Addr,
    },
    /// How large a packet may be on a route, in bytes with its IP header: an answer to `Route`.
    Route {
        /// Of the output.
        token: u64,
        /// The largest IP packet.
        mtu: u32,
    },
    /// Since the last turn the kernel refused to send `refused` packets for want of room, and dropped `overrun` that came in, because
    /// its queue of this link was full. At most one a turn and link.
    Missed {
        /// Whose queue was full.
        link: Link,
        /// Packets that were not sent.
        refused: u32,
        /// Packets that were not received.
        overrun: u32,
    },
    /// What happened to a connection.
    Stream(Stream<'a>),
    /// The answer to [`Output::Open`](super::outbox::Output), which may come at once or much later: the world does not wait for its disk.
    Opened {
        /// The one of the request.
        token: u64,
        /// The file, or why it was not opened.
        answer: Result<OpenFile, OpenError>,
    },
    /// The answer to [`Output::Read`](super::outbox::Output): the bytes there are at the offset, fewer than asked at the end.
    Bytes {
        /// The one of the request.
        token: u64,
        /// What was read; fewer than requested at the end of the file.
        bytes: &'a [u8],
    },
    /// What was to be read or sent for this token is not in memory; nothing was sent, the disk has been asked. Where a file goes to a
    /// connection the world itself waits.
    Cold {
        /// The one of the request.
        token: u64,
    },
    /// What was cold for this token is in memory now. A world in which many wait may leave this out: ask again in a while all the same.
    Warm {
        /// The one of the request.
        token: u64,
    },
    /// The file behind this token was changed in place since it was opened, or cannot be read any more; nothing was sent.
    Changed {
        /// The one of the request.
        token: u64,
    },
    /// All records of the journal up to this one are on disk. If the disk is slow or fails, the world keeps trying and says nothing.
    Synced {
        /// The last record that is on disk.
        seq: Seq,
    },
    /// The rewritten journal is in its place: the next compaction may begin.
    Compacted,
    /// It could not be put there, and the old one goes on; the next may begin all the same. `why` is a sentence.
    NotCompacted {
        /// What failed.
        why: &'a str,
    },
    /// Somebody took the journal away: it is to be rewritten. No record is on disk before that is done.
    JournalGone,
    /// A signal asks for this. What connections ask for comes in their lines.
    Command(Command),
    /// What came of the task with this token ([`Output::Task`](super::outbox::Output)); else why it cannot be done, in sentences, a line each.
    Done {
        /// The one of the task.
        token: u64,
        /// What came of it, or why it failed.
        outcome: Result<TaskOutcome<'a>, &'a str>,
    },
    /// The answer to [`Output::Count`](super::outbox::Output): what the kernel has lost or refused so far, by name, and how many boot files are open.
    Counted {
        /// Counters by name, zeros included.
        lost: &'a [(String, u64)],
        /// Boot files that are open.
        open_files: usize,
    },
}

/// What came of a task.
#[derive(Clone, Copy, Debug)]
pub enum TaskOutcome<'a> {
    /// None: there is no such file. And which links there are by now.
    Text {
        /// The whole text.
        text: Option<&'a str>,
        /// The interfaces of the machine.
        links: &'a [LinkFacts],
    },
    /// In the order of the names.
    Exists(&'a [bool]),
    /// The folder is open.
    Opened,
    /// The file is replaced, and on disk.
    Written,
}

/// A UDP datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Where it came in.
    pub endpoint: EndpointId,
    /// The sender's hardware address, where the way it came in shows it.
    pub mac: Option<Mac>,
    /// The sender's address and port.
    pub src: SocketAddrV4,
    /// The address and port that it was sent to.
    pub dst: SocketAddrV4,
    /// What UDP carried.
    pub payload: &'a [u8],
}

/// What happened to a connection.
#[derive(Clone, Copy, Debug)]
pub struct Stream<'a> {
    /// The connection that it happened to.
    pub conn: ConnId,
    /// The endpoint that the connection belongs to.
    pub endpoint: EndpointId,
    /// The other end; unspecified for a Unix socket.
    pub peer: SocketAddrV4,
    /// What happened.
    pub event: StreamEvent<'a>,
}

/// The events of a connection, from `Opened` to `Closed`.
#[derive(Clone, Copy, Debug)]
pub enum StreamEvent<'a> {
    /// Somebody has connected (`token` is 0), or a place was given to what [`Output::Connect`](super::outbox::Output) asked for. Bytes may
    /// be written from now on: they leave when the connection is made.
    Opened {
        /// The one of `Output::Connect`; 0 for a connection from outside.
        token: u64,
    },
    /// A message, without what frames it. The next one comes when everything that was written has been taken; of lines, when something was
    /// written since the last one.
    Bytes(&'a [u8]),
    /// All that was written has been taken: there is room for more.
    Drained,
    /// The connection has gone, whoever closed it, or could not be made. What is written to it from now on is lost.
    Closed,
}

/// What the owner of the machine asks for, by a signal or on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Write everything down and end: [`Output::Leave`](super::outbox::Output) says when that is done.
    Leave,
    /// Read the config again.
    Reload(Reload),
    /// Write the state to disk.
    Checkpoint,
}

/// How far a config that is read again may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// Nobody who has an address may get another one by it.
    Stay,
    /// Addresses may change.
    Renumber,
    /// It is not taken over: what would change is said.
    Preview,
    /// The same, with what is derived from interfaces derived anew.
    PreviewRenumber,
}

impl Reload {
    /// Whether it changes nothing.
    pub fn is_preview(self) -> bool {
        matches!(self, Reload::Preview | Reload::PreviewRenumber)
    }

    /// Whether what is derived from interfaces is derived anew, though nodes have their addresses by it.
    pub fn derives_anew(self) -> bool {
        matches!(self, Reload::Renumber | Reload::PreviewRenumber)
    }
}

/// A file that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFile {
    /// Its key in the world's table, for reading, sending and closing.
    pub file: FileId,
    /// Bytes, at the time of opening.
    pub size: u64,
    /// Tells one content of one file from all others, as far as that shows without reading it; the same in every world that is opened on the disk.
    pub stamp: u64,
}

/// Why a file was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// There is no such file beneath the root.
    NotFound,
    /// A link leads out of the root, and into no folder that is allowed.
    Outside,
    /// The daemon's own rights do not suffice.
    Denied,
    /// A folder, FIFO, device or socket.
    NotAFile,
    /// All places of the file table are in use: the client is not answered, and asks again.
    Busy,
    /// The disk failed.
    Failed,
}
