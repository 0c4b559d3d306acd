//! What is about to leave: messages laid into one arena, flushed in batches, one socket after the other in the order they were put.
//!
//! A send that the kernel refuses is counted and forgotten: the half-second look repairs it (law 7). Nothing is allocated after start.

use std::io;
use std::net::SocketAddrV4;
use std::os::fd::BorrowedFd;

use super::sys::{BATCH, Message, Sender};

const ARENA: usize = 256 * 1024;
const MESSAGES: usize = 512;
/// The most that one call of [`Queue::put`] may lay down: a run of blocks with the header of each.
pub const PUT_MAX: usize = 128 * 1024;

pub struct Queue {
    arena: Box<[u8]>,
    used: usize,
    messages: Vec<Message>,
    sockets: Vec<u16>,
    sender: Sender,
    /// Messages that the kernel did not take, for want of room.
    pub full: u64,
    /// Messages that the kernel refused for another reason.
    pub failed: u64,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue {
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

impl Queue {
    /// Whether `messages` more messages and a full `put` have room.
    pub fn has_room(&self, messages: usize) -> bool {
        self.used + PUT_MAX <= ARENA && self.messages.len() + messages <= MESSAGES
    }

    /// Free room: what is laid down here becomes messages by [`Queue::take`].
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.arena[self.used..]
    }

    /// Makes the next `len` bytes of the room a message for a socket.
    pub fn take(&mut self, socket: usize, len: usize, to: Option<SocketAddrV4>) {
        if self.messages.len() < MESSAGES {
            self.messages.push(Message { start: self.used as u32, len: len as u32, to });
            self.sockets.push(socket as u16);
            self.used += len;
        } else {
            self.full += 1;
        }
    }

    /// Lays one message down.
    pub fn put(&mut self, socket: usize, to: Option<SocketAddrV4>, write: impl FnOnce(&mut [u8]) -> Option<usize>) {
        if let Some(len) = write(self.room()) {
            self.take(socket, len, to);
        }
    }

    /// Sends everything; `fd_of` gives the sockets by their numbers.
    pub fn flush<'a>(&mut self, fd_of: impl Fn(usize) -> Option<BorrowedFd<'a>>) {
        let mut at = 0;
        while at < self.messages.len() {
            let socket = self.sockets[at];
            let same = self.sockets[at..].iter().take(BATCH).take_while(|&&other| other == socket).count();
            let Some(fd) = fd_of(usize::from(socket)) else {
                at += same;
                continue;
            };
            match self.sender.send(fd, &self.arena, &self.messages[at..at + same]) {
                Ok(sent) => at += sent.max(1),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // The first message was refused; the others have their own try unless there is no room at all.
                    let full = error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS);
                    if full {
                        self.full += same as u64;
                        at += same;
                    } else {
                        log::debug!("cannot send to {:?}: {error}", self.messages[at].to);
                        self.failed += 1;
                        at += 1;
                    }
                }
            }
        }
        self.messages.clear();
        self.sockets.clear();
        self.used = 0;
    }
}
