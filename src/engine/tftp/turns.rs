//! Turns: a transfer that wants to send takes its place in its link's lane, and sends when it is given a turn (`engine::turns`).
//!
//! A turn is the rest of the window, but no more than [`TURN_BYTES`] while others wait, so that a big window takes no more than its share
//! of a lap; what is left waits at the end of the ring.

use crate::base::limits;
use crate::base::machine::OpenFile;
use crate::base::outbox::{Output, Run};
use crate::base::slab::Key;
use crate::engine::Ctx;
use crate::engine::endpoints;
use crate::engine::pace::{self, Place, Turn, Waiter};
use crate::engine::tftp::Counter;
use crate::wire::tftp;

use super::transfer::{Netascii, Source, State, Transfer};
use super::{HEADERS, Tftp, answer, netascii};

/// Payload bytes of one turn: sixteen full frames.
const TURN_BYTES: u64 = 16 * 1468;
/// About what an OACK takes on the wire.
const OACK_BYTES: u64 = 100;

/// Bytes that a block of this payload takes on the wire.
const fn wire_bytes(payload: u64) -> u64 {
    pace::wire_bytes(payload + HEADERS as u64)
}

/// A transfer as the lanes know it.
pub(super) fn waiter(key: Key<Transfer>) -> Waiter {
    Waiter::new(endpoints::TFTP.id, key)
}

impl Transfer {
    /// Blocks of this many payload bytes that one turn sends at most.
    fn turn_blocks(&self, bytes: u64) -> u64 {
        (bytes / u64::from(self.blksize)).clamp(1, self.windowsize.into())
    }

    /// Notes that blocks leave. The last of a window is acknowledged, and all before it with it.
    fn left(&mut self, ctx: &mut Ctx<'_>, first: u64, last: u64) {
        let packets = last + 1 - first;
        let full = wire_bytes(self.blksize.into());
        // The last block of a file is short; where the length is not known, all are reckoned full.
        let final_bytes = if last == self.blocks { wire_bytes(self.extent(last).1) } else { full };
        self.under_way(ctx, packets, (packets - 1) * full + final_bytes, last == self.window_end());
    }

    /// Notes packets of so many bytes on the wire in all.
    fn under_way(&mut self, ctx: &mut Ctx<'_>, packets: u64, bytes: u64, answered: bool) {
        let lane = ctx.pace.lane(self.link);
        if self.is_quiet() {
            return lane.sent_quietly(ctx.now, bytes);
        }
        let stamp = lane.bottleneck.sent(ctx.now, bytes, packets, answered);
        self.stamp = Some(self.stamp.map_or(stamp, |old| old.and(stamp)));
    }

    /// Notes that everything under way has arrived.
    pub(super) fn arrived(&mut self, ctx: &mut Ctx<'_>) {
        let Some(stamp) = self.stamp.take() else { return };
        let certain = self.resent == 0;
        ctx.pace.lane(self.link).bottleneck.acknowledged(ctx.now, stamp, &mut self.witness, certain);
    }

    /// What is under way is waited for no longer. False: nothing was.
    pub(super) fn give_up(&mut self, ctx: &mut Ctx<'_>) -> bool {
        let Some(stamp) = self.stamp.take() else { return false };
        ctx.pace.lane(self.link).bottleneck.given_up(ctx.now, stamp);
        true
    }

    /// The client says that something of what is under way was lost.
    pub(super) fn lost(&mut self, ctx: &mut Ctx<'_>) {
        self.give_up(ctx);
        if !self.is_quiet() {
            ctx.pace.lane(self.link).bottleneck.lost(ctx.now, &mut self.witness);
        }
    }
}

impl Tftp {
    /// Takes a place in the lane.
    pub(super) fn want(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>, place: Place) {
        let Some(transfer) = self.transfers.get(key) else { return };
        let place = if transfer.is_quiet() { transfer.place_unasked() } else { place };
        ctx.pace.want(ctx.now, transfer.link, place, waiter(key));
    }

    /// It is a transfer's turn.
    pub fn turn(&mut self, ctx: &mut Ctx<'_>, turn: Turn) {
        let key = turn.who.key();
        if !self.forgotten(ctx, key) {
            self.serve(ctx, key);
        }
    }

    /// Sends what a transfer has to send, as much as one turn allows.
    fn serve(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>) {
        if self.transfers.get(key).is_some_and(|transfer| self.is_abandoned(transfer)) {
            return self.end(ctx, key);
        }
        let Some(transfer) = self.transfers.get_mut(key) else { return };
        if transfer.state == State::Opening {
            return self.begin(ctx, key);
        }
        if transfer.state == State::Oack {
            transfer.resend = false;
            transfer.under_way(ctx, 1, OACK_BYTES, true);
            return self.oack(ctx, key);
        }
        if std::mem::take(&mut transfer.resend) && transfer.sent > transfer.acked {
            // The last block of a window makes the client say where it stands; a whole window would be mostly duplicates.
            let (last, probed) = (transfer.sent, transfer.sent > transfer.acked + 1);
            self.send(ctx, key, last, last);
            if let Some(transfer) = self.transfers.get_mut(key) {
                transfer.probed = probed;
            }
            return;
        }
        let (first, end) = (transfer.sent + 1, transfer.window_end());
        let alone = !transfer.is_quiet() && ctx.pace.lane(transfer.link).waiting() == 0;
        let last = end.min(transfer.sent + transfer.turn_blocks(if alone { limits::RUN_BYTES_MAX as u64 } else { TURN_BYTES }));
        if first > last {
            return;
        }
        if last < end {
            let place = if transfer.is_quiet() { transfer.place_unasked() } else { Place::Ring };
            ctx.pace.lane(transfer.link).enter(ctx.now, place, waiter(key));
        }
        self.send(ctx, key, first, last);
    }

    /// The first turn: the answer to the request.
    fn begin(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>) {
        let Some(transfer) = self.transfers.get_mut(key) else { return };
        // A smaller window than was asked for is as good (RFC 7440, 4), and leaves room for everybody in half a second.
        let share = ctx.pace.lane(transfer.link).window_share() / wire_bytes(transfer.blksize.into());
        transfer.windowsize = u64::from(transfer.windowsize).min(share.max(1)) as u16;
        transfer.options.windowsize = transfer.options.windowsize.map(|_| transfer.windowsize);
        transfer.turn = transfer.turn_blocks(TURN_BYTES) * wire_bytes(transfer.blksize.into());
        if !transfer.is_quiet() {
            transfer.counted = true;
            ctx.pace.lane(transfer.link).begins(transfer.turn);
        }
        transfer.state = if transfer.options.is_empty() { State::Data } else { State::Oack };
        self.serve(ctx, key);
    }

    /// Sends everything again that is not acknowledged, as soon as there is room.
    pub(super) fn rewind(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>) {
        let Some(transfer) = self.transfers.get_mut(key) else { return };
        transfer.give_up(ctx);
        (transfer.sent, transfer.resend) = (transfer.acked, false);
        self.want(ctx, key, Place::Lost);
    }

    /// Puts out the blocks `first..=last`, which lie in the window.
    fn send(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>, first: u64, last: u64) {
        let Some(transfer) = self.transfers.get_mut(key) else { return };
        transfer.probed = false;
        transfer.last_sent = ctx.now;
        let again = (transfer.highest + 1).saturating_sub(first).min(last + 1 - first);
        ctx.stats.add(Counter::TftpResent, again);
        transfer.sent = transfer.sent.max(last);
        transfer.highest = transfer.highest.max(last);
        transfer.left(ctx, first, last);
        match (transfer.source, transfer.netascii.as_mut()) {
            (Source::File(open), Some(netascii)) => {
                let len = u32::from(transfer.blksize);
                let asked = netascii.reads < u8::MAX
                    && ctx.out.put(Output::Read { token: key.to_u64(), file: open.file, offset: netascii.place.offset, len });
                netascii.reads += u8::from(asked);
            }
            (Source::File(open), None) => send_runs(ctx, key, transfer, open, first, last),
            (made @ Source::Made { what, .. }, _) => {
                if transfer.make(ctx, what, &mut self.text) != Some(made) {
                    return self.changed(ctx, key.to_u64());
                }
                send_made(ctx, transfer, &self.text, first);
            }
            (Source::Opening, _) => {}
        }
    }

    /// The bytes of a netascii block.
    pub fn bytes(&mut self, ctx: &mut Ctx<'_>, token: u64, bytes: &[u8]) {
        let Some(transfer) = self.transfers.get_mut(Key::from_u64(token)) else { return };
        if !transfer.netascii.as_mut().is_some_and(Netascii::answered) {
            return;
        }
        let Some(mut netascii) = transfer.netascii else { return };
        let block = transfer.acked + 1;
        let blksize = usize::from(transfer.blksize);
        let mut len = 0;
        answer::send(ctx, transfer, |buf| {
            let body = buf.get_mut(..4 + blksize)?;
            tftp::emit_data_header(body, block as u16)?;
            let (laid, next) = netascii::encode(netascii.place, bytes, body.get_mut(4..)?);
            (len, netascii.next) = (laid, next);
            Some(4 + laid)
        });
        transfer.netascii = Some(netascii);
        if len < blksize {
            transfer.blocks = block;
        }
        ctx.stats.count(Counter::DataPackets);
        ctx.stats.add(Counter::DataBytes, len as u64);
    }

    /// The blocks were not in memory: nothing was sent, and they are asked for again when they are there, or at the next look.
    pub fn cold(&mut self, ctx: &mut Ctx<'_>, token: u64) {
        let key = Key::from_u64(token);
        let Some(transfer) = self.transfers.get_mut(key) else { return };
        ctx.stats.count(Counter::TftpCold);
        if transfer.netascii.as_mut().is_some_and(|netascii| !netascii.answered()) {
            return;
        }
        transfer.give_up(ctx);
        (transfer.sent, transfer.cold) = (transfer.acked, true);
    }

    /// What was not in memory is there now.
    pub fn warm(&mut self, ctx: &mut Ctx<'_>, token: u64) {
        let key = Key::from_u64(token);
        if self.transfers.get_mut(key).is_some_and(|transfer| std::mem::take(&mut transfer.cold)) {
            self.want(ctx, key, Place::Ring);
        }
    }
}

/// Puts out blocks of a file, in runs that the world can read and send at once.
fn send_runs(ctx: &mut Ctx<'_>, key: Key<Transfer>, transfer: &Transfer, open: OpenFile, first: u64, last: u64) {
    let from = transfer.peer_at_head(ctx);
    let per_run = (limits::RUN_BYTES_MAX / usize::from(transfer.blksize)).max(1) as u64;
    let mut block = first;
    while block <= last {
        let end = last.min(block + per_run - 1);
        let (offset, _) = transfer.extent(block);
        let (last_offset, last_len) = transfer.extent(end);
        let bytes = last_offset - offset + last_len;
        let run = Run {
            endpoint: ctx.endpoints.udp(transfer.link, transfer.port),
            from,
            to: transfer.peer,
            via: transfer.via(),
            size: transfer.blksize,
            count: (end - block + 1) as u16,
            headers: &[],
        };
        ctx.out.send_run(key.to_u64(), (open.file, offset, bytes), run, |buf| {
            let headers = buf.chunks_exact_mut(4).zip(block..=end);
            headers.for_each(|(header, block)| header.copy_from_slice(&tftp::data_header(block as u16)));
            Some(4 * usize::from(run.count))
        });
        ctx.stats.add(Counter::DataPackets, end - block + 1);
        ctx.stats.add(Counter::DataBytes, bytes);
        block = end + 1;
    }
}

/// Puts out one block of a text that was made: these go in lock-step.
fn send_made(ctx: &mut Ctx<'_>, transfer: &Transfer, text: &[u8], block: u64) {
    let (offset, len) = transfer.extent(block);
    let Some(body) = text.get(offset as usize..(offset + len) as usize) else { return };
    answer::send(ctx, transfer, |buf| {
        tftp::emit_data_header(buf, block as u16)?;
        buf.get_mut(4..4 + body.len())?.copy_from_slice(body);
        Some(4 + body.len())
    });
    ctx.stats.count(Counter::DataPackets);
    ctx.stats.add(Counter::DataBytes, len);
}
