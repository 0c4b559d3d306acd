//! The client's side of a TFTP read: RFC 1350, options (2347 to 2349), windows (7440), with the habits of real firmware.
//!
//! [`Transfer`] receives the time and packets and gives a [`Step`]; it sends nothing itself. Of the content it keeps a length and a running hash.

use super::Name;
use super::cause::Cause;
use super::firmware::{Tftp, Wrong};
use crate::base::rng::mix;
use crate::base::time::Instant;
use crate::wire::tftp::{ErrorCode, Mode, Options, Packet, emit_ack, emit_error, emit_rrq};

use std::time::Duration;

const BLKSIZE: u16 = 512;

/// A hash of a stream of bytes: FNV-1a over words of eight bytes, in four lanes that take turns so that a processor works at all of
/// them at once, finished by SplitMix64. It does not depend on how the stream is cut into blocks. It finds wrong content, it is no defence.
#[derive(Clone, Copy, Debug)]
pub struct Hash {
    lanes: [u64; 4],
    /// The bytes behind the last whole stripe; the rest is zero.
    pending: [u8; Hash::STRIPE],
    len: u64,
}

impl Default for Hash {
    fn default() -> Hash {
        let start: u64 = 0xcbf2_9ce4_8422_2325;
        Hash { lanes: [start, !start, start.rotate_left(21), !start.rotate_left(42)], pending: [0; Hash::STRIPE], len: 0 }
    }
}

impl Hash {
    /// FNV's 64-bit prime.
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    /// A word for each lane.
    const STRIPE: usize = 32;

    fn stripe(&mut self, stripe: &[u8; Hash::STRIPE]) {
        for (lane, word) in self.lanes.iter_mut().zip(stripe.chunks_exact(8)) {
            let word = word.try_into().map_or(0, u64::from_le_bytes);
            *lane = (*lane ^ word).wrapping_mul(Hash::PRIME).rotate_left(29);
        }
    }

    pub fn add(&mut self, bytes: &[u8]) {
        let used = (self.len % Hash::STRIPE as u64) as usize;
        self.len += bytes.len() as u64;
        let (head, rest) = bytes.split_at(bytes.len().min((Hash::STRIPE - used) % Hash::STRIPE));
        if let Some(room) = self.pending.get_mut(used..used + head.len()) {
            room.copy_from_slice(head);
        }
        if used > 0 && used + head.len() == Hash::STRIPE {
            let whole = std::mem::take(&mut self.pending);
            self.stripe(&whole);
        }
        let mut stripes = rest.chunks_exact(Hash::STRIPE);
        for stripe in stripes.by_ref() {
            if let Ok(stripe) = stripe.try_into() {
                self.stripe(stripe);
            }
        }
        let tail = stripes.remainder();
        if let Some(room) = self.pending.get_mut(..tail.len()).filter(|_| !tail.is_empty()) {
            room.copy_from_slice(tail);
        }
    }

    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn finish(&self) -> u64 {
        let mut last = *self;
        last.stripe(&self.pending);
        last.lanes.iter().fold(self.len, |hash, lane| mix(hash ^ lane))
    }
}

/// What every machine asks for in place of its firmware's own options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    pub blksize: Option<u16>,
    /// 1: no windows.
    pub windowsize: Option<u16>,
}

impl Asks {
    /// The options of a request, changed.
    fn over(self, mut options: Options) -> Options {
        options.blksize = self.blksize.or(options.blksize);
        options.windowsize = self.windowsize.or(options.windowsize).filter(|&blocks| blocks > 1);
        options
    }
}

/// One packet to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Send {
    /// Our port.
    pub from: u16,
    /// The server's port.
    pub to: u16,
    pub what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Rrq(Options),
    Ack(u16),
    Error(ErrorCode),
}

impl What {
    /// Writes the packet; gives its length. None when it does not fit.
    pub fn write(&self, buf: &mut [u8], file: &Name) -> Option<usize> {
        match self {
            What::Rrq(options) => emit_rrq(buf, file.bytes(), Mode::Octet, options),
            What::Ack(block) => emit_ack(buf, *block),
            What::Error(code) => emit_error(buf, *code, "TFTP Aborted"),
        }
    }
}

/// What is to be done after a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    pub sends: [Option<Send>; 2],
    /// When to call [`Transfer::expire`].
    pub wake: Option<Instant>,
    pub end: Option<Result<(), Cause>>,
    /// Something is sent again because nothing came.
    pub retry: bool,
    /// A packet that was heard before, or that is of no use.
    pub duplicate: bool,
    /// How long the running transfer was silent before this packet, or until it was given up.
    pub gap: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// The RRQ that only asks for the size is out.
    Probing,
    /// The RRQ is out.
    Asking,
    Running,
}

#[derive(Clone, Debug)]
pub struct Transfer {
    habits: &'static Tftp,
    asks: Asks,
    phase: Phase,
    port: u16,
    /// The server's port, once it has answered.
    peer: Option<u16>,
    blksize: u16,
    windowsize: u16,
    /// The next block, counted from 1 without wrapping.
    next: u64,
    /// Blocks since the last ACK.
    in_window: u16,
    /// How often the packet that waits for an answer was sent.
    tries: u8,
    wake: Option<Instant>,
    tsize: Option<u64>,
    hash: Hash,
    /// The last packet of the running transfer.
    heard: Instant,
}

impl Default for Transfer {
    /// Of nobody, and never started.
    fn default() -> Transfer {
        Transfer::new(&super::Firmware::Rom.profile().tftp, Asks::default())
    }
}

impl Transfer {
    pub fn new(habits: &'static Tftp, asks: Asks) -> Transfer {
        Transfer {
            habits,
            asks,
            phase: Phase::Idle,
            port: 0,
            peer: None,
            blksize: BLKSIZE,
            windowsize: 1,
            next: 1,
            in_window: 0,
            tries: 0,
            wake: None,
            tsize: None,
            hash: Hash::default(),
            heard: Instant::ZERO,
        }
    }

    /// A transfer that will be started from `port`.
    pub fn prepared(habits: &'static Tftp, asks: Asks, port: u16) -> Transfer {
        Transfer { port, ..Transfer::new(habits, asks) }
    }

    /// Our port; the next transfer of the machine takes a later one.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn hash(&self) -> &Hash {
        &self.hash
    }

    /// Whether a packet from this port of the server belongs to the transfer.
    pub fn expects(&self, peer: u16) -> bool {
        self.phase != Phase::Idle && self.peer.is_none_or(|known| known == peer)
    }

    /// The first RRQ, from `port`.
    pub fn start(&mut self, now: Instant, port: u16) -> Step {
        let phase = if self.habits.probe.is_some() { Phase::Probing } else { Phase::Asking };
        *self = Transfer { phase, port, ..Transfer::new(self.habits, self.asks) };
        self.ask(now)
    }

    fn asks(&self) -> Options {
        match (self.phase, &self.habits.probe) {
            // A probe for the size alone stays one.
            (Phase::Probing, Some((options, _))) if options.blksize.is_none() => *options,
            (Phase::Probing, Some((options, _))) => self.asks.over(*options),
            _ => self.asks.over(self.habits.asks),
        }
    }

    fn ask(&mut self, now: Instant) -> Step {
        let Some(&wait) = self.habits.rrq.get(usize::from(self.tries)) else { return self.lost(Cause::RrqTimeout, None) };
        if self.tries > 0 && self.habits.port_per_rrq {
            self.port = next_port(self.port);
        }
        self.tries += 1;
        self.wake = Some(now + wait);
        let rrq = Send { from: self.port, to: 69, what: What::Rrq(self.asks()) };
        Step { sends: [Some(rrq), None], wake: self.wake, retry: self.tries > 1, ..Step::default() }
    }

    fn send(&self, what: What) -> Send {
        Send { from: self.port, to: self.peer.unwrap_or(69), what }
    }

    fn lost(&mut self, cause: Cause, word: Option<ErrorCode>) -> Step {
        let error = word.map(|code| self.send(What::Error(code)));
        self.phase = Phase::Idle;
        Step { sends: [error, None], end: Some(Err(cause)), ..Step::default() }
    }

    /// Acknowledges and waits for what follows.
    fn ack(&mut self, now: Instant, block: u16) -> Step {
        let wait = self.habits.data.get(usize::from(self.tries)).or(self.habits.data.last());
        self.wake = wait.map(|&wait| now + wait);
        self.tries = self.tries.saturating_add(1);
        self.in_window = 0;
        Step { sends: [Some(self.send(What::Ack(block))), None], wake: self.wake, ..Step::default() }
    }

    fn ignored(&self) -> Step {
        Step { wake: self.wake, duplicate: true, ..Step::default() }
    }

    /// The block before the next one, as it is numbered on the wire.
    fn last(&self) -> u16 {
        (self.next - 1) as u16
    }

    /// The wait is over.
    pub fn expire(&mut self, now: Instant) -> Step {
        match self.phase {
            Phase::Idle => Step::default(),
            Phase::Probing | Phase::Asking => self.ask(now),
            Phase::Running if self.habits.repeats_ack && usize::from(self.tries) < self.habits.data.len() => {
                Step { retry: true, ..self.ack(now, self.last()) }
            }
            Phase::Running => Step { gap: Some(now.since(self.heard)), ..self.lost(Cause::DataTimeout, None) },
        }
    }

    /// A packet from the server's port `peer`; see [`expects`](Transfer::expects).
    pub fn receive(&mut self, now: Instant, peer: u16, packet: &Packet<'_>) -> Step {
        if !self.expects(peer) {
            return self.ignored();
        }
        self.peer = Some(peer);
        let running = self.phase == Phase::Running && matches!(packet, Packet::Data { .. });
        let gap = running.then(|| now.since(std::mem::replace(&mut self.heard, now)));
        Step { gap, ..self.take(now, packet) }
    }

    fn take(&mut self, now: Instant, packet: &Packet<'_>) -> Step {
        match (*packet, self.phase) {
            (Packet::Error { code, .. }, Phase::Probing | Phase::Asking) if code == ErrorCode::NotFound as u16 => {
                self.lost(Cause::NotFound, None)
            }
            (Packet::Error { .. }, _) => self.lost(Cause::Refused, None),
            (Packet::Oack(_) | Packet::Data { .. }, Phase::Probing) => self.probed(now, packet),
            (Packet::Oack(options), Phase::Asking) => self.agreed(now, &options),
            (Packet::Oack(_), _) => self.agreed_again(now),
            (Packet::Data { block, data }, Phase::Asking) => {
                if block == 1 {
                    self.run(now);
                }
                self.data(now, block, data)
            }
            (Packet::Data { block, data }, _) => self.data(now, block, data),
            (Packet::Ack { .. } | Packet::Request(_), _) => self.ignored(),
        }
    }

    /// The size is known, or the server does not tell it: the ERROR that ends the probe, and the real RRQ.
    fn probed(&mut self, now: Instant, packet: &Packet<'_>) -> Step {
        let Some((_, code)) = self.habits.probe else { return self.ignored() };
        let asked = self.asks();
        if let Packet::Oack(options) = packet {
            if !acceptable(&asked, options, self.habits.strict) {
                return self.lost(Cause::OackRefused, Some(ErrorCode::OptionRefused));
            }
            self.tsize = options.tsize;
        }
        let error = self.send(What::Error(code));
        (self.phase, self.peer, self.tries, self.port) = (Phase::Asking, None, 0, next_port(self.port));
        let step = self.ask(now);
        Step { sends: [Some(error), step.sends[0]], ..step }
    }

    fn run(&mut self, now: Instant) {
        (self.phase, self.tries, self.heard) = (Phase::Running, 0, now);
    }

    fn agreed(&mut self, now: Instant, options: &Options) -> Step {
        if !acceptable(&self.asks(), options, self.habits.strict) {
            return self.lost(Cause::OackRefused, Some(ErrorCode::OptionRefused));
        }
        self.blksize = options.blksize.unwrap_or(BLKSIZE);
        self.windowsize = options.windowsize.unwrap_or(1);
        self.tsize = options.tsize.or(self.tsize);
        self.run(now);
        self.ack(now, 0)
    }

    /// The OACK came twice: our ACK 0 was lost, or the network doubles.
    fn agreed_again(&mut self, now: Instant) -> Step {
        match self.next {
            1 if self.phase == Phase::Running => self.duplicate(now, 0),
            _ => self.ignored(),
        }
    }

    fn data(&mut self, now: Instant, block: u16, data: &[u8]) -> Step {
        if block != self.next as u16 || self.phase != Phase::Running {
            return self.wrong(now, block);
        }
        if data.len() > usize::from(self.blksize) {
            return self.lost(Cause::TooLong, Some(ErrorCode::Illegal));
        }
        self.hash.add(data);
        self.next += 1;
        self.in_window += 1;
        self.tries = 0;
        let last = data.len() < usize::from(self.blksize);
        if last {
            return self.finish(block);
        }
        if self.in_window >= self.windowsize {
            return self.ack(now, block);
        }
        // Within a window nothing is sent; the wait since our last ACK goes on, as in EDK2: its clock starts when it sends.
        Step { wake: self.wake, ..Step::default() }
    }

    fn finish(&mut self, block: u16) -> Step {
        let ack = self.send(What::Ack(block));
        self.phase = Phase::Idle;
        let right = self.tsize.is_none_or(|tsize| tsize == self.hash.len());
        let end = if right { Ok(()) } else { Err(Cause::WrongSize) };
        Step { sends: [Some(ack), None], end: Some(end), ..Step::default() }
    }

    /// A block that is not the next one.
    fn wrong(&mut self, now: Instant, block: u16) -> Step {
        let behind = self.last().wrapping_sub(block);
        if behind == 0 && self.phase == Phase::Running {
            return self.duplicate(now, block);
        }
        match self.habits.wrong {
            Wrong::CountsAsTry => self.lost(Cause::WrongBlock, Some(ErrorCode::Illegal)),
            Wrong::AckLast if self.phase == Phase::Running => Step { duplicate: true, ..self.ack_again(now, self.last()) },
            Wrong::AckOld if behind < 0x8000 && self.phase == Phase::Running => Step { duplicate: true, ..self.ack_again(now, block) },
            Wrong::AckLast | Wrong::AckOld | Wrong::Ignore | Wrong::Hang => self.ignored(),
        }
    }

    /// The block that was acknowledged last came once more.
    fn duplicate(&mut self, now: Instant, block: u16) -> Step {
        match self.habits.wrong {
            Wrong::CountsAsTry if usize::from(self.tries) >= self.habits.data.len() => self.lost(Cause::Duplicates, None),
            Wrong::CountsAsTry => Step { duplicate: true, ..self.ack(now, block) },
            Wrong::AckLast | Wrong::AckOld => Step { duplicate: true, ..self.ack_again(now, block) },
            Wrong::Ignore => self.ignored(),
            Wrong::Hang => {
                let wrong_ack = self.send(What::Ack(block.wrapping_add(1)));
                Step { sends: [Some(wrong_ack), None], duplicate: true, ..self.lost(Cause::Hung, None) }
            }
        }
    }

    /// An ACK that answers a packet: it does not use up a try.
    fn ack_again(&mut self, now: Instant, block: u16) -> Step {
        self.tries = 0;
        self.ack(now, block)
    }
}

/// RFC 2347: only what was asked for; RFC 2348 and 7440: no larger than asked.
fn acceptable(asked: &Options, given: &Options, strict: bool) -> bool {
    let unasked = (given.blksize.is_some() && asked.blksize.is_none())
        || (given.tsize.is_some() && asked.tsize.is_none())
        || (given.timeout.is_some() && asked.timeout.is_none())
        || (given.windowsize.is_some() && asked.windowsize.is_none());
    // What nobody asked for has its default, in bytes and in blocks.
    let within = given.blksize <= asked.blksize.max(Some(BLKSIZE)) && given.windowsize <= asked.windowsize.max(Some(1));
    within && !(unasked && strict)
}

/// Ports go up from 2070, as Intel's ROMs have it, and never reach the ports below again.
pub const FIRST_PORT: u16 = 2070;

pub fn next_port(port: u16) -> u16 {
    port.checked_add(1).unwrap_or(FIRST_PORT).max(FIRST_PORT)
}

#[cfg(test)]
mod tests;
