//! What is about to leave: messages laid into one arena, flushed in batches, one socket after the other in the order they were put.
//!
//! A send that the kernel refuses is counted and forgotten: the half-second look repairs it (law 7). A run of packets that the kernel
//! refuses to cut up is sent packet by packet. Nothing is allocated after start.

use std::io;
use std::net::SocketAddrV4;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use super::sys::{BATCH, OutDatagram, Sender};

const ARENA: usize = 256 * 1024;
pub const MESSAGES: usize = 512;
/// The number of no socket.
const NOWHERE: u16 = u16::MAX;
/// The most that one call of [`SendQueue::put`] may lay down: a run of blocks with the header of each.
pub const PUT_MAX: usize = 128 * 1024;

pub struct SendQueue {
    arena: Box<[u8]>,
    used: usize,
    messages: Vec<OutDatagram>,
    sockets: Vec<u16>,
    sender: Sender,
    /// Packets that the kernel did not take, for want of room.
    pub full: u64,
    /// Packets that the kernel refused for another reason.
    pub failed: u64,
}

impl Default for SendQueue {
    fn default() -> SendQueue {
        SendQueue {
            arena: vec![0; ARENA].into(),
            used: 0,
            messages: Vec::with_capacity(MESSAGES),
            sockets: Vec::with_capacity(MESSAGES),
            sender: Sender::default(),
            full: 0,
            failed: 0,
        }
    }
}

impl SendQueue {
    /// Whether `messages` more messages and a full `put` have room.
    pub fn has_room(&self, messages: usize) -> bool {
        self.used + PUT_MAX <= ARENA && self.messages.len() + messages <= MESSAGES
    }

    /// Free room: what is laid down here becomes messages by [`SendQueue::take`].
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.arena[self.used..]
    }

    /// Makes the next `len` bytes of the room a message for a socket: one packet, or with `segment` above 0 packets of that size each,
    /// the last as long as there is.
    pub fn take(&mut self, socket: usize, len: usize, to: Option<SocketAddrV4>, segment: u16) {
        let message = OutDatagram { start: self.used as u32, len: len as u32, to, segment };
        if self.messages.len() < MESSAGES {
            self.messages.push(message);
            self.sockets.push(socket as u16);
            self.used += len;
        } else {
            self.full += packets(&message);
        }
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Takes messages back: they do not leave.
    pub fn retract(&mut self, messages: Range<usize>) {
        self.sockets.get_mut(messages).into_iter().flatten().for_each(|socket| *socket = NOWHERE);
    }

    /// Lays one packet down.
    pub fn put(&mut self, socket: usize, to: Option<SocketAddrV4>, write: impl FnOnce(&mut [u8]) -> Option<usize>) {
        if let Some(len) = write(self.room()) {
            self.take(socket, len, to, 0);
        }
    }

    /// Sends everything; `fd_of` gives the sockets by their numbers, `trouble` receives what was refused.
    pub fn flush<'a>(&mut self, fd_of: impl Fn(usize) -> Option<BorrowedFd<'a>>, mut trouble: impl FnMut(usize, SendTrouble)) {
        let (mut at, mut told) = (0, None);
        while at < self.messages.len() {
            let socket = usize::from(self.sockets[at]);
            let same = self.sockets[at..].iter().take(BATCH).take_while(|&&other| usize::from(other) == socket).count();
            let Some(fd) = fd_of(socket) else {
                at += same;
                continue;
            };
            match self.sender.send(fd, &self.arena, &self.messages[at..at + same]) {
                Ok(sent) => at += sent.max(1),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A socket tells once that its interface was down: that may be long past.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) && told != Some(at) => told = Some(at),
                Err(error) if lacks_room(&error) => {
                    let lost = self.messages[at..at + same].iter().map(packets).sum();
                    self.full += lost;
                    trouble(socket, SendTrouble::Full(lost));
                    at += same;
                }
                // The first message was refused; the others have their own try.
                Err(error) => {
                    if self.messages[at].segment > 0 && cannot_segment(&error) {
                        let lost = self.send_apart(fd, at);
                        trouble(socket, SendTrouble::Full(lost));
                        trouble(socket, SendTrouble::Whole(error));
                    } else {
                        let to = self.messages[at].to.map_or("the link".to_string(), |to| to.to_string());
                        log::debug!("{to}: cannot send: {error}");
                        self.failed += packets(&self.messages[at]);
                    }
                    at += 1;
                }
            }
        }
        self.messages.clear();
        self.sockets.clear();
        self.used = 0;
    }

    /// Sends the packets of a message one by one. Gives how many found no room.
    fn send_apart(&mut self, fd: BorrowedFd<'_>, at: usize) -> u64 {
        let OutDatagram { mut start, len, to, segment } = self.messages[at];
        let (end, mut lost) = (start + len, 0);
        while start < end {
            let packet = OutDatagram { start, len: (end - start).min(segment.into()), to, segment: 0 };
            match self.sender.send(fd, &self.arena, &[packet]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(_) => {}
                Err(error) if lacks_room(&error) => lost += 1,
                Err(_) => self.failed += 1,
            }
            start += packet.len;
        }
        self.full += lost;
        lost
    }
}

/// Why something did not leave.
#[derive(Debug)]
pub enum SendTrouble {
    /// So many packets found no room in the kernel.
    Full(u64),
    /// A run of packets was refused as a whole, and has left packet by packet.
    Whole(io::Error),
}

fn packets(message: &OutDatagram) -> u64 {
    match message.segment {
        0 => 1,
        segment => u64::from(message.len.div_ceil(segment.into())),
    }
}

fn lacks_room(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS)
}

/// Old kernels refuse where the device has no checksum offload (EIO), or do not know the option; a segment that is larger than the path's
/// MTU is refused too.
fn cannot_segment(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EIO | libc::EOPNOTSUPP | libc::EMSGSIZE | libc::ENOPROTOOPT))
}
