//! The contract between a machine and the world that drives it.
//!
//! A machine is a function of (its state, the time, an input). The world, whether the shell or the simulator, hands it one
//! [`Input`] at a time and drains the [`Outbox`] after each call or batch of calls. The world promises
//! - time that never runs backwards,
//! - room for [`limits::OUTPUTS_PER_CALL`](crate::base::limits) outputs at every call,
//! - [`expire`](Machine::expire) at or soon after [`deadline`](Machine::deadline).
//!
//! The machine promises O(1) work for an input, no allocation in the steady state, and no panic whatever the input.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use super::addr::Mac;
use super::outbox::Outbox;
use super::time::{Instant, Now};

/// A deterministic party on a network: no sockets, files, clock, threads or hidden randomness.
pub trait Machine {
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Outbox);

    /// Does what is due. May stop early when the outbox runs full; the deadline then lies in the past and the world calls again.
    fn expire(&mut self, now: Now, out: &mut Outbox);

    /// When [`expire`](Machine::expire) wants to be called; None while nothing is pending.
    fn deadline(&self) -> Option<Instant>;
}

/// A boot interface: its place in the config's list of links.
pub type Link = u8;

/// What a world tells a machine.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A UDP datagram that came in on a boot interface.
    Datagram(Datagram<'a>),
    /// A whole Ethernet frame: for machines that answer for their own MACs (the fleet).
    Frame { link: Link, bytes: &'a [u8] },
    /// An ARP packet by which somebody claims an address: `sender` is at `mac`.
    Arp { link: Link, mac: Mac, sender: Ipv4Addr },
    /// An IPv6 router solicitation (RFC 4861, 4.1); `source` may be unspecified.
    RouterSolicit { link: Link, mac: Mac, source: Ipv6Addr },
    /// The answer to [`Output::Open`](super::outbox::Output), which may come at once or much later: the world does not wait for its disk.
    Opened { token: u64, answer: Result<OpenFile, Refusal> },
    /// The blocks of this token are not in memory; nothing was sent, the disk has been asked.
    Cold { token: u64 },
    /// What was cold for this token is in memory now. A world with many who wait may forget to say so: ask again in a while all the same.
    Warm { token: u64 },
    /// The file behind this token was changed in place since it was opened, or cannot be read any more; nothing was sent.
    Changed { token: u64 },
    /// Since the last turn the kernel refused to send `refused` packets for want of room, and dropped `overrun` that came in, because
    /// its queue of this link was full. At most one a turn and link.
    Missed { link: Link, refused: u32, overrun: u32 },
    /// All records of the journal up to this one are on disk. A world whose disk is slow, full or read-only goes on trying, and just does
    /// not say so.
    Synced { seq: u64 },
    /// The journal that was written anew is in its place, or could not be put there and the old one goes on: the next rewriting may begin.
    Rewritten,
    /// Somebody took the journal away: it is to be written anew. No record is on disk before that is done.
    JournalGone,
    /// The answer to [`Output::Read`](super::outbox::Output): the bytes there are at the offset, fewer than asked at the end.
    Bytes { token: u64, bytes: &'a [u8] },
    /// An operator has connected; `conn` is below [`limits::CONTROL_CONNECTIONS`](crate::base::limits), and names it until it is closed.
    StreamOpened { conn: u8 },
    /// A line of the operator's, without its newline. The next one comes when what was answered to this one has been taken.
    Stream { conn: u8, bytes: &'a [u8] },
    /// The connection has gone, whoever closed it. What is put out for it after this is lost.
    StreamClosed { conn: u8 },
    /// A DNS message, from whoever sits at the other end of `peer`.
    Dns { peer: DnsPeer, src: SocketAddrV4, bytes: &'a [u8] },
    /// All that was put out for a DNS client's connection has been taken: there is room for more.
    DnsTaken { conn: u8 },
    /// A connection of `peer` has gone, whoever closed it, or could not be made. What is put out for it after this is lost.
    DnsClosed { peer: DnsPeer },
}

/// By which way DNS messages come and go; each names a place of the world's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DnsPeer {
    /// A socket on which clients ask, below [`limits::DNS_LISTENERS`](crate::base::limits).
    Listener(u8),
    /// A client's connection, below [`limits::DNS_CONNECTIONS`](crate::base::limits).
    Client(u8),
    /// A socket from which other servers are asked, below [`limits::DNS_ASKERS`](crate::base::limits).
    Asker(u8),
    /// A connection to another server, below [`limits::DNS_CALLS`](crate::base::limits). It is made when something is put out for it.
    Call(u8),
}

/// How far a config that is read again may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// No node that has a lease may get another address by it.
    Stay,
    /// Nodes may be moved.
    Renumber,
    /// It is not taken over: what would change is said.
    Preview,
}

/// What an operator wants done that only the world can do. The world itself answers the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Read the config again.
    Reload(Reload),
    /// Write the state to disk.
    Checkpoint,
}

#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    pub link: Link,
    /// The sender's hardware address, where the way it came in shows it.
    pub mac: Option<Mac>,
    pub src: SocketAddrV4,
    pub dst: SocketAddrV4,
    pub payload: &'a [u8],
}

/// A file that the world holds open. Stays valid until the machine closes it as often as it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId(pub u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFile {
    pub file: FileId,
    /// Bytes, at the time of opening.
    pub size: u64,
}

/// Why a file was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NotFound,
    /// The daemon's own rights do not suffice.
    Denied,
    /// A folder, FIFO, device or socket.
    NotAFile,
    /// All places of the file table are in use: the client is not answered, and asks again.
    Busy,
    /// The disk failed.
    Failed,
}
