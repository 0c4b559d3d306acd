//! One connection that carries DNS messages, each behind its length in two bytes (RFC 1035, 4.2.2), with its buffers.
//!
//! A place is *free*, *open*, or *gone*: the machine has yet to hear that, and the place is not given away before. Nothing waits: what a
//! reader does not take stays in the buffer, and a reader for whom more is put out than fits is dropped.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddrV4;

use mio::net::TcpStream;

use crate::base::time::Instant;

/// The bytes of a message's length.
const PREFIX: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Free,
    Open,
    Gone,
}

pub struct Place {
    pub phase: Phase,
    pub stream: Option<TcpStream>,
    pub peer: SocketAddrV4,
    /// When a whole message came in last, or something that was put out was taken.
    pub stirred: Instant,
    input: Box<[u8]>,
    filled: usize,
    output: Box<[u8]>,
    start: usize,
    end: usize,
    pub readable: bool,
    pub writable: bool,
    /// It will send nothing more.
    ended: bool,
    /// Messages that the machine has not answered yet.
    owed: u32,
    /// Everything was taken, and the machine has not heard of it.
    pub taken: bool,
}

impl Place {
    /// Messages that come in are at most so long, those that leave as well.
    pub fn new(in_max: usize, out_max: usize) -> Place {
        Place {
            phase: Phase::Free,
            stream: None,
            peer: SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, 0),
            stirred: Instant::ZERO,
            input: vec![0; PREFIX + in_max].into(),
            filled: 0,
            output: vec![0; PREFIX + out_max].into(),
            start: 0,
            end: 0,
            readable: false,
            writable: false,
            ended: false,
            owed: 0,
            taken: false,
        }
    }

    pub fn take_in(&mut self, stream: TcpStream, peer: SocketAddrV4, now: Instant) {
        (self.phase, self.stream, self.peer, self.stirred) = (Phase::Open, Some(stream), peer, now);
        (self.filled, self.start, self.end, self.owed) = (0, 0, 0, 0);
        (self.readable, self.writable, self.ended, self.taken) = (true, true, false, false);
    }

    pub fn close(&mut self) {
        self.stream = None;
        if self.phase == Phase::Open {
            self.phase = Phase::Gone;
        }
    }

    pub fn is_taken(&self) -> bool {
        self.start == self.end
    }

    /// Something was asked and not answered yet.
    pub fn is_waiting(&self) -> bool {
        self.owed > 0
    }

    /// Reads what there is, as far as there is room.
    pub fn fill(&mut self) {
        while self.readable && !self.ended {
            let room = self.input.get_mut(self.filled..).filter(|room| !room.is_empty());
            let (Some(stream), Some(room)) = (self.stream.as_mut(), room) else { return };
            match stream.read(room) {
                Ok(0) => self.ended = true,
                Ok(got) => self.filled += got,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(_) => return self.close(),
            }
        }
    }

    /// Writes what there is, as far as it is taken.
    pub fn flush(&mut self, now: Instant) {
        let before = self.start;
        while self.writable && !self.is_taken() {
            let (Some(stream), Some(rest)) = (self.stream.as_mut(), self.output.get(self.start..self.end)) else { return };
            match stream.write(rest) {
                Ok(taken) => self.start += taken,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(_) => return self.close(),
            }
        }
        if self.start > before {
            self.stirred = now;
            self.taken |= self.is_taken();
        }
        if self.is_taken() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Puts a message out. False: its buffer has no room for it.
    pub fn put(&mut self, now: Instant, message: &[u8]) -> bool {
        let Ok(len) = u16::try_from(message.len()) else { return false };
        if self.output.len() - self.end < PREFIX + message.len() {
            self.output.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let Some(room) = self.output.get_mut(self.end..self.end + PREFIX + message.len()) else { return false };
        let (prefix, body) = room.split_at_mut(PREFIX);
        prefix.copy_from_slice(&len.to_be_bytes());
        body.copy_from_slice(message);
        self.end += PREFIX + message.len();
        self.owed = self.owed.saturating_sub(1);
        self.flush(now);
        true
    }

    /// The length that the next message says it has.
    fn announced(&self) -> Option<usize> {
        let [high, low, ..] = *self.input.get(..self.filled)? else { return None };
        Some(u16::from_be_bytes([high, low]).into())
    }

    /// The length of the message that is next, when it is whole and what was put out before was taken.
    pub fn next(&self) -> Option<usize> {
        let ready = self.phase == Phase::Open && self.stream.is_some() && self.is_taken();
        self.announced().filter(|len| ready && self.filled >= PREFIX + len)
    }

    /// The bytes of that message.
    pub fn message(&self, len: usize) -> &[u8] {
        self.input.get(PREFIX..PREFIX + len).unwrap_or_default()
    }

    /// It was handed on.
    pub fn consume(&mut self, now: Instant, len: usize) {
        let used = (PREFIX + len).min(self.filled);
        self.input.copy_within(used..self.filled, 0);
        self.filled -= used;
        self.owed += 1;
        self.stirred = now;
    }

    /// Nothing will come of it any more: a message that is too long, or the end where nothing is under way.
    pub fn is_over(&self) -> bool {
        let too_long = self.announced().is_some_and(|len| PREFIX + len > self.input.len());
        too_long || (self.ended && self.next().is_none() && self.is_taken() && !self.taken && self.owed == 0)
    }

    /// Whether there is something to do without waiting for the kernel.
    pub fn has_work(&self) -> bool {
        match self.phase {
            Phase::Free => false,
            Phase::Gone => true,
            Phase::Open => {
                let full = self.filled == self.input.len();
                self.taken || self.next().is_some() || self.is_over() || (self.readable && !full && !self.ended)
            }
        }
    }
}
