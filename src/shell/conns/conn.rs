//! One connection: what has come and what is to go, and when either may go on. Nothing here waits: what a reader does not take stays in
//! a buffer, and a reader for whom more is put out than fits is dropped.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use mio::net::TcpStream;

use crate::base::endpoint::{EndpointId, Framing};
use crate::base::machine::FileId;
use crate::base::time::Instant;

use super::super::files::{FileRead, Files};
use super::pool::{Buffer, Pool};

/// The bytes of a length that stands before a message.
pub const PREFIX: usize = 2;
/// Says to the file table that the loop itself waits for bytes of a file, and no machine.
pub const OWN_TOKEN: u64 = u64::MAX;

pub enum ConnSocket {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Connected: nothing comes but from the other end.
    Udp(UdpSocket),
}

impl ConnSocket {
    pub fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            ConnSocket::Tcp(stream) => stream.read(room),
            ConnSocket::Unix(stream) => stream.read(room),
            ConnSocket::Udp(socket) => socket.recv(room),
        }
    }

    pub fn write(&mut self, parts: [&[u8]; 2]) -> io::Result<usize> {
        let slices = parts.map(IoSlice::new);
        match self {
            ConnSocket::Tcp(stream) => stream.write_vectored(&slices),
            ConnSocket::Unix(stream) => stream.write_vectored(&slices),
            // Datagrams are not framed: all of one is in the second part, or, from a buffer, in the first.
            ConnSocket::Udp(socket) => socket.send(if parts[1].is_empty() { parts[0] } else { parts[1] }),
        }
    }
}

impl AsRawFd for ConnSocket {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            ConnSocket::Tcp(stream) => stream.as_raw_fd(),
            ConnSocket::Unix(stream) => stream.as_raw_fd(),
            ConnSocket::Udp(socket) => socket.as_raw_fd(),
        }
    }
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Address(SocketAddrV4),
    Process { pid: i32, uid: u32 },
}

impl Peer {
    pub fn address(self) -> SocketAddrV4 {
        match self {
            Peer::Address(address) => address,
            Peer::Process { .. } => SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Address(address) => write!(f, "{}", address.ip()),
            Peer::Process { pid, uid } => write!(f, "pid {pid} of user {uid}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnPhase {
    /// The machine has yet to hear of it.
    Fresh {
        token: u64,
    },
    Open,
}

/// A part of a file that is on its way to the other end.
struct Sending {
    file: FileId,
    offset: u64,
    left: u64,
    /// Its bytes are not in memory: the disk was asked.
    cold: bool,
}

/// What is next in the bytes that have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextMessage {
    /// A message, and how many bytes stand before it and behind it.
    Message {
        before: usize,
        len: usize,
        behind: usize,
    },
    TooLong,
}

pub struct Conn {
    pub group: usize,
    pub endpoint: EndpointId,
    pub who: Peer,
    pub phase: ConnPhase,
    /// None: it has gone, and the machine has yet to hear of that.
    pub wire: Option<ConnSocket>,
    framing: Framing,
    /// When a message came in last, or something was taken.
    pub stirred: Instant,
    input: Buffer,
    /// No line ends before this.
    scanned: usize,
    output: Buffer,
    sending: Option<Sending>,
    pub readable: bool,
    pub writable: bool,
    /// The other end sends nothing more.
    ended: bool,
    /// To be let go once everything was taken.
    pub leaving: bool,
    /// Messages that were not answered yet.
    pub owed: u32,
    /// Everything was taken, and the machine has not heard of it.
    pub drained: bool,
    /// It stands in the queue of those with something to do.
    pub queued: bool,
    /// It waits for a buffer.
    pub starved: bool,
}

impl Conn {
    /// `made`: bytes may come and go at once.
    pub fn new(
        (group, endpoint): (usize, EndpointId),
        framing: Framing,
        wire: Option<ConnSocket>,
        who: Peer,
        token: u64,
        made: bool,
    ) -> Conn {
        Conn {
            group,
            endpoint,
            who,
            phase: ConnPhase::Fresh { token },
            wire,
            framing,
            stirred: Instant::ZERO,
            input: Buffer::default(),
            scanned: 0,
            output: Buffer::default(),
            sending: None,
            readable: made,
            writable: made,
            ended: false,
            leaving: false,
            owed: 0,
            drained: false,
            queued: false,
            starved: false,
        }
    }

    /// Ends it, and gives its buffers back.
    pub fn close(&mut self, inputs: &mut Pool, outputs: &mut Pool) {
        self.wire = None;
        self.sending = None;
        self.input.consume(usize::MAX / 2, inputs);
        self.output.consume(usize::MAX / 2, outputs);
    }

    /// Everything that was put out has been taken.
    pub fn is_taken(&self) -> bool {
        self.output.is_empty() && self.sending.is_none()
    }

    /// A file is on its way.
    pub fn is_sending(&self) -> bool {
        self.sending.is_some()
    }

    /// Its file may be in memory now. False: it waits for none.
    pub fn warm(&mut self) -> bool {
        self.sending.as_mut().is_some_and(|sending| std::mem::take(&mut sending.cold))
    }

    /// A file waits for the disk.
    pub fn is_cold(&self) -> bool {
        self.sending.as_ref().is_some_and(|sending| sending.cold)
    }

    /// Whether more may be read: of datagrams, one after the other.
    fn has_room(&self) -> bool {
        match self.framing {
            Framing::Datagram => self.input.is_empty(),
            _ => !self.input.is_full(),
        }
    }

    /// Says that everything was taken, where somebody wants to know.
    fn note_taken(&mut self) {
        self.drained |= self.framing != Framing::Datagram && self.is_taken();
    }

    /// Reads what there is, as far as there is room. False: it has gone.
    pub fn fill(&mut self, pool: &mut Pool) -> bool {
        self.starved = false;
        while self.readable && !self.ended && !self.leaving && self.has_room() {
            let Some(wire) = self.wire.as_mut() else { return true };
            let Some(room) = self.input.room(pool) else {
                self.starved = true;
                return true;
            };
            match wire.read(room) {
                // A datagram may be empty.
                Ok(0) if self.framing == Framing::Datagram => {}
                Ok(0) => self.ended = true,
                Ok(got) => self.input.filled(got),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(_) => return false,
            }
        }
        self.input.release(pool);
        true
    }

    /// Writes what waits, as far as it is taken. False: it has gone.
    pub fn flush(&mut self, now: Instant, pool: &mut Pool) -> bool {
        while self.writable && !self.output.is_empty() {
            let Some(wire) = self.wire.as_mut() else { return true };
            match wire.write([self.output.bytes(), &[]]) {
                Ok(taken) => {
                    self.output.consume(taken, pool);
                    self.stirred = now;
                    self.note_taken();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(_) => return false,
            }
        }
        true
    }

    /// Puts a message out: into the kernel as far as that takes it, the rest into a buffer. False: it has gone, or has no room.
    pub fn put(&mut self, now: Instant, message: &[u8], pool: &mut Pool) -> bool {
        let prefix = (message.len() as u16).to_be_bytes();
        let prefix: &[u8] = match self.framing {
            Framing::Length16 if message.len() > u16::MAX.into() => return false,
            Framing::Length16 => &prefix,
            Framing::Line | Framing::Raw | Framing::Datagram => &[],
        };
        self.owed = self.owed.saturating_sub(1);
        let mut taken = 0;
        if let Some(wire) = self.wire.as_mut().filter(|_| self.writable && self.output.is_empty()) {
            match wire.write([prefix, message]) {
                Ok(all) => taken = all,
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(_) => return false,
            }
        }
        if taken > 0 {
            self.stirred = now;
        }
        let (prefix, message) =
            (prefix.get(taken..).unwrap_or_default(), message.get(taken.saturating_sub(prefix.len())..).unwrap_or_default());
        if prefix.is_empty() && message.is_empty() {
            self.note_taken();
        }
        (prefix.is_empty() && message.is_empty()) || (self.output.put(pool, [prefix, message]) && self.flush(now, pool))
    }

    /// Sends a part of a file behind what was put out.
    pub fn send_file(&mut self, file: FileId, offset: u64, left: u64) {
        self.owed = self.owed.saturating_sub(1);
        if left == 0 {
            self.drained |= self.is_taken();
            return;
        }
        // What was taken before is not all that there is to take.
        (self.sending, self.drained) = (Some(Sending { file, offset, left, cold: false }), false);
    }

    /// Sends one piece of the file that is on its way, when all before it was taken. False: it has gone, or the file has changed.
    pub fn send_piece(&mut self, now: Instant, files: &mut Files, room: &mut [u8]) -> bool {
        let (Some(wire), Some(sending)) = (self.wire.as_mut(), self.sending.as_mut()) else { return true };
        if !self.writable || !self.output.is_empty() {
            return true;
        }
        let len = usize::try_from(sending.left).unwrap_or(usize::MAX).min(room.len());
        let Some(bytes) = room.get_mut(..len) else { return true };
        sending.cold = false;
        match files.read(sending.file, bytes, 0, len.max(1), len, sending.offset) {
            FileRead::Changed => return false,
            FileRead::Cold => {
                files.wait(OWN_TOKEN, sending.file, sending.offset, len);
                sending.cold = true;
                return true;
            }
            FileRead::Done => {}
        }
        match wire.write([bytes, &[]]) {
            Ok(taken) => {
                sending.offset += taken as u64;
                sending.left -= taken as u64;
                self.stirred = now;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
            Err(_) => return false,
        }
        if self.sending.take_if(|sending| sending.left == 0).is_some() {
            self.drained = true;
        }
        true
    }

    /// What is next in what has come, whether it may be handed on or not.
    fn read(&mut self) -> Option<NextMessage> {
        let bytes = self.input.bytes();
        let message = |before, len, behind| Some(NextMessage::Message { before, len, behind });
        match self.framing {
            Framing::Raw | Framing::Datagram if bytes.is_empty() => None,
            Framing::Raw | Framing::Datagram => message(0, bytes.len(), 0),
            Framing::Length16 => {
                let [high, low, ..] = *bytes else { return None };
                let len = usize::from(u16::from_be_bytes([high, low]));
                if bytes.len() >= PREFIX + len { message(PREFIX, len, 0) } else { None }
            }
            Framing::Line => {
                let new = bytes.get(self.scanned..)?;
                if let Some(at) = new.iter().position(|byte| *byte == b'\n') {
                    return message(0, self.scanned + at, 1);
                }
                self.scanned = bytes.len();
                if self.input.is_full() {
                    return Some(NextMessage::TooLong);
                }
                if self.ended && !bytes.is_empty() { message(0, bytes.len(), 0) } else { None }
            }
        }
    }

    /// What may be handed on.
    pub fn next(&mut self, in_max: usize) -> Option<NextMessage> {
        let answered = self.framing != Framing::Line || self.owed == 0;
        let ready = self.phase == ConnPhase::Open && self.wire.is_some() && self.is_taken() && answered && !self.leaving;
        if !ready {
            return None;
        }
        // A length that can never come whole need not be waited for.
        let announced = match (self.framing, self.input.bytes()) {
            (Framing::Length16, [high, low, ..]) => usize::from(u16::from_be_bytes([*high, *low])),
            _ => 0,
        };
        if announced > in_max { Some(NextMessage::TooLong) } else { self.read() }
    }

    /// The bytes of a message.
    pub fn message(&self, before: usize, len: usize) -> &[u8] {
        self.input.bytes().get(before..before + len).unwrap_or_default()
    }

    /// It was handed on.
    pub fn consume(&mut self, now: Instant, len: usize, pool: &mut Pool) {
        self.input.consume(len, pool);
        (self.scanned, self.stirred) = (0, now);
        self.owed += 1;
    }

    /// Nothing will come of it any more: everything was taken, and it leaves or has nothing more to say.
    pub fn is_over(&mut self) -> bool {
        let ended = self.ended && self.owed == 0 && !self.drained && self.phase == ConnPhase::Open;
        self.is_taken() && (self.leaving || (ended && self.read().is_none()))
    }

    /// Whether there is something to do without waiting for the kernel.
    pub fn has_work(&mut self, in_max: usize) -> bool {
        if self.wire.is_none() || self.phase != ConnPhase::Open || self.drained {
            return true;
        }
        let reads = self.readable && !self.ended && !self.leaving && !self.starved && self.has_room();
        let sends = self.sending.as_ref().is_some_and(|sending| !sending.cold) && self.writable;
        reads || sends || self.next(in_max).is_some() || self.is_over()
    }
}
