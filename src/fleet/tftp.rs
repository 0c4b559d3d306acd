//! The client's side of a TFTP read: RFC 1350, options (2347 to 2349), windows (7440), with the habits of real firmware.
//!
//! [`Download`] receives the time and packets and gives a [`DownloadStep`]; it sends nothing itself. Of the content it keeps a length and a running hash.

use super::Name;
use super::cause::Cause;
use super::firmware::{TftpHabits, UnexpectedData};
use crate::base::rng::mix;
use crate::base::time::Instant;
use crate::wire::tftp::{ErrorCode, Mode, Packet, TftpOptions, emit_ack, emit_error, emit_rrq};

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

    /// Takes in more content.
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

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was taken in.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The hash of all content so far. More may follow.
    pub fn finish(&self) -> u64 {
        let mut last = *self;
        last.stripe(&self.pending);
        last.lanes.iter().fold(self.len, |hash, lane| mix(hash ^ lane))
    }
}

/// What every machine asks for in place of its firmware's own options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// RFC 2348, in bytes.
    pub blksize: Option<u16>,
    /// 1: no windows.
    pub windowsize: Option<u16>,
}

impl Asks {
    /// The options of a request, changed.
    fn over(self, mut options: TftpOptions) -> TftpOptions {
        options.blksize = self.blksize.or(options.blksize);
        options.windowsize = self.windowsize.or(options.windowsize).filter(|&blocks| blocks > 1);
        options
    }
}

/// One packet to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DownloadSend {
    /// Our port.
    pub from: u16,
    /// The server's port.
    pub to: u16,
    pub what: DownloadPacket,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownloadPacket {
    Rrq(TftpOptions),
    Ack(u16),
    Error(ErrorCode),
}

impl DownloadPacket {
    /// Writes the packet; gives its length. None when it does not fit.
    pub fn write(&self, buf: &mut [u8], file: &Name) -> Option<usize> {
        match self {
            DownloadPacket::Rrq(options) => emit_rrq(buf, file.bytes(), Mode::Octet, options),
            DownloadPacket::Ack(block) => emit_ack(buf, *block),
            DownloadPacket::Error(code) => emit_error(buf, *code, "TFTP Aborted"),
        }
    }
}

/// What is to be done after a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DownloadStep {
    pub sends: [Option<DownloadSend>; 2],
    /// When to call [`Download::expire`].
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
enum DownloadPhase {
    Idle,
    /// The RRQ that only asks for the size is out.
    Probing,
    /// The RRQ is out.
    Asking,
    Running,
}

#[derive(Clone, Debug)]
pub struct Download {
    habits: &'static TftpHabits,
    asks: Asks,
    phase: DownloadPhase,
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

impl Default for Download {
    /// Of nobody, and never started.
    fn default() -> Download {
        Download::new(&super::Firmware::Rom.profile().tftp, Asks::default())
    }
}

impl Download {
    pub fn new(habits: &'static TftpHabits, asks: Asks) -> Download {
        Download {
            habits,
            asks,
            phase: DownloadPhase::Idle,
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
    pub fn prepared(habits: &'static TftpHabits, asks: Asks, port: u16) -> Download {
        Download { port, ..Download::new(habits, asks) }
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
        self.phase != DownloadPhase::Idle && self.peer.is_none_or(|known| known == peer)
    }

    /// The first RRQ, from `port`.
    pub fn start(&mut self, now: Instant, port: u16) -> DownloadStep {
        let phase = if self.habits.probe.is_some() { DownloadPhase::Probing } else { DownloadPhase::Asking };
        *self = Download { phase, port, ..Download::new(self.habits, self.asks) };
        self.ask(now)
    }

    fn asks(&self) -> TftpOptions {
        match (self.phase, &self.habits.probe) {
            // A probe for the size alone stays one.
            (DownloadPhase::Probing, Some((options, _))) if options.blksize.is_none() => *options,
            (DownloadPhase::Probing, Some((options, _))) => self.asks.over(*options),
            _ => self.asks.over(self.habits.asks),
        }
    }

    fn ask(&mut self, now: Instant) -> DownloadStep {
        let Some(&wait) = self.habits.rrq.get(usize::from(self.tries)) else { return self.lost(Cause::RrqTimeout, None) };
        if self.tries > 0 && self.habits.port_per_rrq {
            self.port = next_port(self.port);
        }
        self.tries += 1;
        self.wake = Some(now + wait);
        let rrq = DownloadSend { from: self.port, to: 69, what: DownloadPacket::Rrq(self.asks()) };
        DownloadStep { sends: [Some(rrq), None], wake: self.wake, retry: self.tries > 1, ..DownloadStep::default() }
    }

    fn send(&self, what: DownloadPacket) -> DownloadSend {
        DownloadSend { from: self.port, to: self.peer.unwrap_or(69), what }
    }

    fn lost(&mut self, cause: Cause, word: Option<ErrorCode>) -> DownloadStep {
        let error = word.map(|code| self.send(DownloadPacket::Error(code)));
        self.phase = DownloadPhase::Idle;
        DownloadStep { sends: [error, None], end: Some(Err(cause)), ..DownloadStep::default() }
    }

    /// Acknowledges and waits for what follows.
    fn ack(&mut self, now: Instant, block: u16) -> DownloadStep {
        let wait = self.habits.data.get(usize::from(self.tries)).or(self.habits.data.last());
        self.wake = wait.map(|&wait| now + wait);
        self.tries = self.tries.saturating_add(1);
        self.in_window = 0;
        DownloadStep { sends: [Some(self.send(DownloadPacket::Ack(block))), None], wake: self.wake, ..DownloadStep::default() }
    }

    fn ignored(&self) -> DownloadStep {
        DownloadStep { wake: self.wake, duplicate: true, ..DownloadStep::default() }
    }

    /// The block before the next one, as it is numbered on the wire.
    fn last(&self) -> u16 {
        (self.next - 1) as u16
    }

    /// The wait is over.
    pub fn expire(&mut self, now: Instant) -> DownloadStep {
        match self.phase {
            DownloadPhase::Idle => DownloadStep::default(),
            DownloadPhase::Probing | DownloadPhase::Asking => self.ask(now),
            DownloadPhase::Running if self.habits.repeats_ack && usize::from(self.tries) < self.habits.data.len() => {
                DownloadStep { retry: true, ..self.ack(now, self.last()) }
            }
            DownloadPhase::Running => DownloadStep { gap: Some(now.since(self.heard)), ..self.lost(Cause::DataTimeout, None) },
        }
    }

    /// A packet from the server's port `peer`; see [`expects`](Download::expects).
    pub fn receive(&mut self, now: Instant, peer: u16, packet: &Packet<'_>) -> DownloadStep {
        if !self.expects(peer) {
            return self.ignored();
        }
        self.peer = Some(peer);
        let running = self.phase == DownloadPhase::Running && matches!(packet, Packet::Data { .. });
        let gap = running.then(|| now.since(std::mem::replace(&mut self.heard, now)));
        DownloadStep { gap, ..self.take(now, packet) }
    }

    fn take(&mut self, now: Instant, packet: &Packet<'_>) -> DownloadStep {
        match (*packet, self.phase) {
            (Packet::Error { code, .. }, DownloadPhase::Probing | DownloadPhase::Asking) if code == ErrorCode::NotFound as u16 => {
                self.lost(Cause::NotFound, None)
            }
            (Packet::Error { .. }, _) => self.lost(Cause::Refused, None),
            (Packet::Oack(_) | Packet::Data { .. }, DownloadPhase::Probing) => self.probed(now, packet),
            (Packet::Oack(options), DownloadPhase::Asking) => self.agreed(now, &options),
            (Packet::Oack(_), _) => self.agreed_again(now),
            (Packet::Data { block, data }, DownloadPhase::Asking) => {
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
    fn probed(&mut self, now: Instant, packet: &Packet<'_>) -> DownloadStep {
        let Some((_, code)) = self.habits.probe else { return self.ignored() };
        let asked = self.asks();
        if let Packet::Oack(options) = packet {
            if !acceptable(&asked, options, self.habits.strict) {
                return self.lost(Cause::OackRefused, Some(ErrorCode::OptionRefused));
            }
            self.tsize = options.tsize;
        }
        let error = self.send(DownloadPacket::Error(code));
        (self.phase, self.peer, self.tries, self.port) = (DownloadPhase::Asking, None, 0, next_port(self.port));
        let step = self.ask(now);
        DownloadStep { sends: [Some(error), step.sends[0]], ..step }
    }

    fn run(&mut self, now: Instant) {
        (self.phase, self.tries, self.heard) = (DownloadPhase::Running, 0, now);
    }

    fn agreed(&mut self, now: Instant, options: &TftpOptions) -> DownloadStep {
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
    fn agreed_again(&mut self, now: Instant) -> DownloadStep {
        match self.next {
            1 if self.phase == DownloadPhase::Running => self.duplicate(now, 0),
            _ => self.ignored(),
        }
    }

    fn data(&mut self, now: Instant, block: u16, data: &[u8]) -> DownloadStep {
        if block != self.next as u16 || self.phase != DownloadPhase::Running {
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
        DownloadStep { wake: self.wake, ..DownloadStep::default() }
    }

    fn finish(&mut self, block: u16) -> DownloadStep {
        let ack = self.send(DownloadPacket::Ack(block));
        self.phase = DownloadPhase::Idle;
        let right = self.tsize.is_none_or(|tsize| tsize == self.hash.len());
        let end = if right { Ok(()) } else { Err(Cause::WrongSize) };
        DownloadStep { sends: [Some(ack), None], end: Some(end), ..DownloadStep::default() }
    }

    /// A block that is not the next one.
    fn wrong(&mut self, now: Instant, block: u16) -> DownloadStep {
        let behind = self.last().wrapping_sub(block);
        if behind == 0 && self.phase == DownloadPhase::Running {
            return self.duplicate(now, block);
        }
        match self.habits.wrong {
            UnexpectedData::CountsAsTry => self.lost(Cause::WrongBlock, Some(ErrorCode::Illegal)),
            UnexpectedData::AckLast if self.phase == DownloadPhase::Running => {
                DownloadStep { duplicate: true, ..self.ack_again(now, self.last()) }
            }
            UnexpectedData::AckOld if behind < 0x8000 && self.phase == DownloadPhase::Running => {
                DownloadStep { duplicate: true, ..self.ack_again(now, block) }
            }
            UnexpectedData::AckLast | UnexpectedData::AckOld | UnexpectedData::Ignore | UnexpectedData::Hang => self.ignored(),
        }
    }

    /// The block that was acknowledged last came once more.
    fn duplicate(&mut self, now: Instant, block: u16) -> DownloadStep {
        match self.habits.wrong {
            UnexpectedData::CountsAsTry if usize::from(self.tries) >= self.habits.data.len() => self.lost(Cause::Duplicates, None),
            UnexpectedData::CountsAsTry => DownloadStep { duplicate: true, ..self.ack(now, block) },
            UnexpectedData::AckLast | UnexpectedData::AckOld => DownloadStep { duplicate: true, ..self.ack_again(now, block) },
            UnexpectedData::Ignore => self.ignored(),
            UnexpectedData::Hang => {
                let wrong_ack = self.send(DownloadPacket::Ack(block.wrapping_add(1)));
                DownloadStep { sends: [Some(wrong_ack), None], duplicate: true, ..self.lost(Cause::Hung, None) }
            }
        }
    }

    /// An ACK that answers a packet: it does not use up a try.
    fn ack_again(&mut self, now: Instant, block: u16) -> DownloadStep {
        self.tries = 0;
        self.ack(now, block)
    }
}

/// RFC 2347: only what was asked for; RFC 2348 and 7440: no larger than asked.
fn acceptable(asked: &TftpOptions, given: &TftpOptions, strict: bool) -> bool {
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
