//! One transfer: where it stands, and what an acknowledgement means (RFC 1350, 7440).
//!
//! Blocks are counted from 1 in 64 bits; on the wire the number wraps. `acked` blocks are behind, `sent` is the highest that
//! left of the present window; `acked <= sent <= highest <= acked + windowsize`. The pure decision is [`Transfer::judge`].

use std::net::SocketAddrV4;
use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::machine::{Datagram, FileId, Link, OpenFile};
use crate::base::outbox::Via;
use crate::base::slab::Key;
use crate::base::time::Instant;
use crate::engine::boot::Made;
use crate::engine::pace::{Place, Stamp, Witness};
use crate::roll::client::Client;
use crate::roll::kind::Kind;
use crate::wire::tftp::Options;

use super::files::Hold;
use super::netascii;

/// Bytes of a file name that the story tells.
const NAME_MAX: usize = 48;
/// Sendings that nobody asked for and nobody answered, after which a transfer is silent, and has been so for long.
const SILENT_AFTER: u8 = 2;
const LONG_SILENT_AFTER: u8 = 4;

/// Where the bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The world was asked to open it.
    Opening,
    File(OpenFile),
    /// A text made from the config, of this many bytes, and a hash of them.
    Made {
        what: Made,
        len: u64,
        hash: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Waiting for the file.
    Opening,
    /// The OACK was sent, ACK 0 is awaited (RFC 2347).
    Oack,
    Data,
}

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The frame came from a MAC that is on record for the address: no other one may speak for it.
    Record,
    /// A machine on record, behind a router.
    Routed,
    /// Anybody else.
    Stranger,
}

pub struct Transfer {
    pub link: Link,
    pub peer: SocketAddrV4,
    /// Where its packets come from: its own MAC, or its router's. None where the link does not show it.
    pub mac: Option<Mac>,
    /// The server's port.
    pub port: u16,
    pub client: Option<Key<Client>>,
    pub origin: Origin,
    pub kind: Kind,
    pub state: State,
    pub source: Source,
    /// Its place among those who hold the file.
    pub hold: Option<Hold>,
    /// What is made for it where the root has no file of the name.
    pub made: Option<Made>,
    /// A hash of the request: a repeated one is answered again, a different one replaces the transfer.
    pub request: u64,
    /// What was asked for; once the file is open, what is acknowledged.
    pub options: Options,
    pub blksize: u16,
    pub windowsize: u16,
    /// Blocks in all; the last is short. Unknown (the maximum) in netascii until the last was made.
    pub blocks: u64,
    pub acked: u64,
    pub sent: u64,
    /// The highest block that ever left: what is below it is sent again.
    pub highest: u64,
    pub netascii: Option<Netascii>,
    pub began: Instant,
    pub heard: Instant,
    pub last_sent: Instant,
    /// Sendings nobody asked for since the last progress, and since anything was heard.
    pub resent: u8,
    pub unheard: u8,
    /// Its client's own retries since the last progress, of what was sent to it meanwhile; and when the last one came.
    pub retries: u8,
    pub retried: Instant,
    /// Something was acknowledged: its client is there.
    pub met: bool,
    /// A look has given something up as lost. It counts as evidence of the way when the client speaks.
    pub missed: bool,
    /// It counts in its link's lap.
    pub counted: bool,
    /// The last block of a window was sent again by itself, to make the client say where it stands: its answer is no echo.
    pub probed: bool,
    /// Its bytes come from a cold disk: they are asked for again in a moment.
    pub cold: bool,
    /// The half-second look wants the OACK or the last block sent again.
    pub resend: bool,
    /// What is under way. None of a stranger's ever is.
    pub stamp: Option<Stamp>,
    /// What its client knows of the way.
    pub witness: Witness,
    /// Wire bytes of one turn; 0 before the first.
    pub turn: u64,
    name: [u8; NAME_MAX],
    name_len: u8,
}

/// The place of the block that is being sent, and of the one after it once that is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Netascii {
    pub place: netascii::Place,
    pub next: netascii::Place,
    /// Reads that are not answered yet. Answers come in order, and all but the last are of a place that may be behind.
    pub reads: u8,
}

impl Netascii {
    /// Takes the answer to a read. False: a later read is under way, and its answer is the one that counts.
    pub fn answered(&mut self) -> bool {
        self.reads = self.reads.saturating_sub(1);
        self.reads == 0
    }
}

/// What an ACK means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// The whole file has arrived.
    Done,
    /// Everything that was sent has arrived: the next window.
    Next,
    /// The window broke after this block: it goes on from there.
    Broken,
    /// The client repeats its last ACK, late enough to be its own retry.
    Retry,
    /// It repeats its last ACK while our packets may still be under way (Sorcerer's Apprentice): not to be answered.
    Echo,
    /// Outside the window.
    Stale,
}

impl Transfer {
    pub fn new(now: Instant, link: Link, request: &Datagram<'_>, port: u16, name: &[u8]) -> Transfer {
        let mut transfer = Transfer {
            link,
            peer: request.src,
            mac: request.mac,
            port,
            client: None,
            origin: Origin::Stranger,
            kind: Kind::Other,
            state: State::Opening,
            source: Source::Opening,
            hold: None,
            made: Made::of(name),
            request: 0,
            options: Options::default(),
            blksize: 512,
            windowsize: 1,
            blocks: u64::MAX,
            acked: 0,
            sent: 0,
            highest: 0,
            netascii: None,
            began: now,
            heard: now,
            last_sent: now,
            resent: 0,
            unheard: 0,
            retries: 0,
            retried: Instant::ZERO,
            met: false,
            missed: false,
            counted: false,
            probed: false,
            cold: false,
            resend: false,
            stamp: None,
            witness: Witness::default(),
            turn: 0,
            name: [0; NAME_MAX],
            name_len: name.len().min(NAME_MAX) as u8,
        };
        let tail = &name[name.len().saturating_sub(NAME_MAX)..];
        transfer.name.iter_mut().zip(tail).for_each(|(to, from)| *to = *from);
        transfer
    }

    /// How its packets leave, all of them by one way, so that they keep their order: in lock-step as frames to where its own come from,
    /// without a question to ARP; windows through the kernel, which cuts them up.
    pub fn via(&self) -> Via {
        match self.mac {
            Some(mac) if self.windowsize == 1 && mac.is_individual() => Via::Mac(mac),
            _ => Via::Kernel,
        }
    }

    /// Sendings to no avail. A client that asks for the same three times or more counts as silent.
    fn vain(&self) -> u8 {
        self.unheard.max(self.retries.saturating_sub(1))
    }

    /// Whether it has not answered for several looks, or not got on: no evidence of the way any more (`engine::pace`).
    pub fn is_silent(&self) -> bool {
        self.vain() >= SILENT_AFTER
    }

    /// Whether nobody knows if its client is there, or who it is: it is no evidence, and is served in the quiet share.
    pub fn is_quiet(&self) -> bool {
        self.is_silent() || self.origin == Origin::Stranger
    }

    /// Where it waits for what nobody asked for, or for its first packet.
    pub fn place_unasked(&self) -> Place {
        match self.vain() {
            LONG_SILENT_AFTER.. => Place::LongSilent,
            SILENT_AFTER.. => Place::Silent,
            _ if self.is_quiet() => Place::Stranger,
            0 => Place::New,
            _ => Place::Lost,
        }
    }

    /// Whether a frame from this MAC may speak for its client. Behind a router, another one may have taken the router's place: that is
    /// believed when nothing more comes from the old one.
    pub fn may_come_from(&self, mac: Option<Mac>) -> bool {
        let (Some(ours), Some(theirs)) = (self.mac, mac) else { return true };
        ours == theirs || (self.origin != Origin::Record && self.unheard > 0)
    }

    /// The end of the name that was asked for.
    pub fn name(&self) -> &[u8] {
        &self.name[..usize::from(self.name_len)]
    }

    /// The key of a transfer: client address, client port, server port, in 64 bits.
    pub fn key(peer: SocketAddrV4, port: u16) -> u64 {
        Transfer::peer_key(peer) << 16 | u64::from(port)
    }

    /// The key of a client's socket.
    pub fn peer_key(peer: SocketAddrV4) -> u64 {
        u64::from(u32::from(*peer.ip())) << 16 | u64::from(peer.port())
    }

    pub fn file(&self) -> Option<FileId> {
        match self.source {
            Source::File(open) => Some(open.file),
            Source::Opening | Source::Made { .. } => None,
        }
    }

    /// Payload bytes in all; 0 while unknown.
    pub fn size(&self) -> u64 {
        match self.source {
            Source::File(open) => open.size,
            Source::Made { len, .. } => len,
            Source::Opening => 0,
        }
    }

    /// The file offset and length of a block, for anything but netascii.
    pub fn extent(&self, block: u64) -> (u64, u64) {
        let offset = (block - 1) * u64::from(self.blksize);
        (offset, self.size().saturating_sub(offset).min(u64::from(self.blksize)))
    }

    /// How soon after our last packet an ACK that repeats the last one cannot be an answer to it. In lock-step it is an echo until a client
    /// may retry by itself; in windows it says at once that the first block was lost (RFC 7440, 4), but no sooner than a round trip allows.
    pub fn echo(&self) -> Duration {
        let early = super::policy::of(self.kind).early;
        let least = self.witness.least();
        if self.windowsize > 1 && !least.is_zero() { early.min(least / 2) } else { early }
    }

    /// The last block of the window that begins behind `acked`.
    pub fn window_end(&self) -> u64 {
        self.acked.saturating_add(u64::from(self.windowsize)).min(self.blocks)
    }

    /// What an ACK of a 16-bit block number means now. `early`: our last packet left too recently for this to be a retry.
    /// Moves nothing; gives the block that is acknowledged with the meaning.
    pub fn judge(&self, block: u16, early: bool) -> (Ack, u64) {
        let ahead = u64::from(block.wrapping_sub(self.acked as u16));
        let acked = self.acked + ahead;
        let meaning = match ahead {
            0 if early && !self.probed => Ack::Echo,
            0 => Ack::Retry,
            // After a rewind or a cold read, what left before may still arrive and be acknowledged.
            _ if acked > self.highest => Ack::Stale,
            _ if acked == self.blocks => Ack::Done,
            _ if acked >= self.sent => Ack::Next,
            _ => Ack::Broken,
        };
        (meaning, acked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn transfer(acked: u64, sent: u64, blocks: u64, windowsize: u16) -> Transfer {
        let src = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 9), 2070);
        let request = Datagram { endpoint: 0, mac: Some(Mac([2, 0, 0, 0, 0, 9])), src, dst: src, payload: b"" };
        Transfer { acked, sent, highest: sent, blocks, windowsize, ..Transfer::new(Instant::ZERO, 0, &request, 20069, b"vmlinuz") }
    }

    #[test]
    fn what_acks_mean() {
        let table = [
            // acked, sent, blocks, ACK, early -> meaning, acknowledged
            (0, 1, 9, 1, false, Ack::Next, 1),
            (0, 1, 9, 0, false, Ack::Retry, 0),
            (0, 1, 9, 0, true, Ack::Echo, 0),
            (8, 9, 9, 9, false, Ack::Done, 9),
            (4, 8, 99, 8, false, Ack::Next, 8),
            (4, 8, 99, 6, false, Ack::Broken, 6),
            (4, 8, 99, 4, true, Ack::Echo, 4),
            (4, 8, 99, 9, false, Ack::Stale, 9),
            // the number wraps
            (65_535, 65_536, 70_000, 0, false, Ack::Next, 65_536),
            (65_534, 65_538, 70_000, 1, false, Ack::Broken, 65_537),
            (131_071, 131_072, 200_000, 0, false, Ack::Next, 131_072),
        ];
        for (acked, sent, blocks, block, early, meaning, at) in table {
            assert_eq!(transfer(acked, sent, blocks, 4).judge(block, early), (meaning, at), "{acked} {sent} {block}");
        }
        assert_eq!(transfer(4, 8, 99, 4).judge(3, false).0, Ack::Stale, "an old ACK");
        let rewound = Transfer { sent: 5, ..transfer(4, 8, 99, 4) };
        assert_eq!([5, 7, 8, 9].map(|block| rewound.judge(block, false).0), [Ack::Next, Ack::Next, Ack::Next, Ack::Stale]);
        let probed = Transfer { probed: true, ..transfer(4, 8, 99, 4) };
        assert_eq!(probed.judge(4, true), (Ack::Retry, 4), "the answer to a probe comes at once");
    }

    #[test]
    fn lock_step_leaves_by_the_way_it_came() {
        let mac = Mac([2, 0, 0, 0, 0, 9]);
        assert_eq!(transfer(0, 0, 9, 1).via(), Via::Mac(mac));
        assert_eq!(transfer(0, 0, 9, 4).via(), Via::Kernel);
        for mac in [None, Some(Mac::ZERO)] {
            assert_eq!(Transfer { mac, ..transfer(0, 0, 9, 1) }.via(), Via::Kernel, "no way is known, or that of the loopback");
        }
    }

    #[test]
    fn extents_end_with_a_short_block() {
        let mut it = transfer(0, 0, 3, 1);
        it.source = Source::File(OpenFile { file: FileId::from_u64(0), size: 1024 });
        assert_eq!([1, 2, 3].map(|block| it.extent(block)), [(0, 512), (512, 512), (1024, 0)]);
        assert_eq!(it.name(), b"vmlinuz");
    }
}
