//! Turns: a transfer that wants to send takes its place in its link's lane, and sends when it is given a turn (`engine::turns`).
//!
//! A turn is the rest of the window, but no more than [`TURN_BYTES`] while others wait, so that a big window takes no more than its share
//! of a lap; what is left waits at the end of the ring.

use crate::base::limits;
use crate::base::machine::OpenFile;
use crate::base::outbox::{DatagramRun, Output};
use crate::base::slab::Key;
use crate::engine::Ctx;
use crate::engine::endpoints;
use crate::engine::pace::{Turn, WaitQueue, Waiter};
use crate::engine::tftp::Counter;
use crate::wire::tftp;

use super::transfer::{Transfer, TransferSource, TurnOutput};
use super::{Tftp, answer};

/// Payload bytes of one turn: sixteen full frames.
pub(super) const TURN_BYTES: u64 = 16 * 1468;

/// A transfer as the lanes know it.
pub(super) fn waiter(key: Key<Transfer>) -> Waiter {
    Waiter::new(endpoints::TFTP.id, key)
}

impl Tftp {
    /// Takes a place in the lane.
    pub(super) fn want(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>, place: WaitQueue) {
        let Some(transfer) = self.transfers.get(key).filter(|transfer| !transfer.is_reopening()) else { return };
        ctx.pace.want(ctx.now, transfer.session().link(), transfer.place(place), waiter(key));
    }

    /// It is a transfer's turn.
    pub fn turn(&mut self, ctx: &mut Ctx<'_>, turn: Turn) {
        let key = turn.who.key();
        if !self.forgotten(ctx, key) {
            self.serve(ctx, key);
        }
    }

    /// Sends what is due, as much as one turn allows.
    fn serve(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>) {
        if self.transfers.get(key).is_some_and(|transfer| self.is_abandoned(transfer)) {
            return self.end(ctx, key);
        }
        // The next look tries again.
        let Some(transfer) = self.transfers.get_mut(key).filter(|transfer| transfer.session().is_reachable(ctx.config)) else { return };
        let lane = ctx.pace.lane(transfer.session().link());
        let alone = !transfer.is_quiet() && lane.waiting() == 0;
        match transfer.sending(if alone { limits::RUN_BYTES_MAX as u64 } else { TURN_BYTES }) {
            TurnOutput::First => {
                transfer.begins(lane, TURN_BYTES);
                self.keep(ctx, key);
                self.serve(ctx, key);
            }
            TurnOutput::Oack => {
                transfer.oack_left(lane, ctx.now);
                answer::send(ctx, transfer, |buf| tftp::emit_oack(buf, transfer.session().options()));
            }
            TurnOutput::Again(last) => self.send(ctx, key, (last, last), true),
            TurnOutput::Blocks { first, last, rest } => {
                if rest {
                    lane.enter(ctx.now, transfer.place(WaitQueue::Ring), waiter(key));
                }
                self.send(ctx, key, (first, last), false);
            }
            TurnOutput::Nothing => {}
        }
    }

    /// Sends everything again that is not acknowledged, as soon as there is room.
    pub(super) fn rewind(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>) {
        let Some(transfer) = self.transfers.get_mut(key) else { return };
        transfer.rewound(ctx.pace.lane(transfer.session().link()), ctx.now);
        self.want(ctx, key, WaitQueue::Lost);
    }

    /// Puts out the blocks `first..=last`, which lie in the window. `again`: a look wants the last one that left, alone.
    fn send(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>, (first, last): (u64, u64), again: bool) {
        let Some(transfer) = self.transfers.get_mut(key) else { return };
        let lane = ctx.pace.lane(transfer.session().link());
        let resent = transfer.blocks_left(lane, ctx.now, (first, last), again);
        ctx.stats.add(Counter::TftpResent, resent);
        match (transfer.content().source(), transfer.content().netascii()) {
            (TransferSource::File(open), Some(cursor)) => {
                let len = u32::from(transfer.content().blksize());
                let read = Output::Read { token: key.to_u64(), file: open.file, offset: cursor.offset(), len };
                if let Some(cursor) = cursor.reads().filter(|_| ctx.out.put(read)) {
                    transfer.moved(cursor);
                }
            }
            (TransferSource::File(open), None) => send_runs(ctx, key, transfer, open, first, last),
            (made @ TransferSource::Made { what, .. }, _) => {
                if transfer.make(ctx, what, &mut self.text) != Some(made) {
                    return self.changed(ctx, key.to_u64());
                }
                send_made(ctx, transfer, &self.text, first);
            }
            (TransferSource::Opening | TransferSource::Again { .. }, _) => {}
        }
    }

    /// The bytes of a netascii block.
    pub fn bytes(&mut self, ctx: &mut Ctx<'_>, token: u64, bytes: &[u8]) {
        let Some(transfer) = self.transfers.get_mut(Key::from_u64(token)) else { return };
        let Some(mut cursor) = transfer.content().netascii() else { return };
        if !cursor.answered() {
            return transfer.moved(cursor);
        }
        let block = transfer.window().acked() + 1;
        let blksize = usize::from(transfer.content().blksize());
        let mut len = 0;
        answer::send(ctx, transfer, |buf| {
            let body = buf.get_mut(..4 + blksize)?;
            tftp::emit_data_header(body, block as u16)?;
            len = cursor.lay(bytes, body.get_mut(4..)?);
            Some(4 + len)
        });
        transfer.moved(cursor);
        if len < blksize {
            transfer.ends_at(block);
        }
        ctx.stats.count(Counter::DataPackets);
        ctx.stats.add(Counter::DataBytes, len as u64);
    }

    /// The blocks were not in memory: nothing was sent, and they are asked for again when they are there, or at the next look.
    pub fn cold(&mut self, ctx: &mut Ctx<'_>, token: u64) {
        let key = Key::from_u64(token);
        let Some(transfer) = self.transfers.get_mut(key) else { return };
        ctx.stats.count(Counter::TftpCold);
        if let Some(mut cursor) = transfer.content().netascii() {
            let counts = cursor.answered();
            transfer.moved(cursor);
            if !counts {
                return;
            }
        }
        transfer.cold(ctx.pace.lane(transfer.session().link()), ctx.now);
    }

    /// What was not in memory is there now.
    pub fn warm(&mut self, ctx: &mut Ctx<'_>, token: u64) {
        let key = Key::from_u64(token);
        if self.transfers.get_mut(key).is_some_and(Transfer::warm) {
            self.want(ctx, key, WaitQueue::Ring);
        }
    }
}

/// Puts out blocks of a file, in runs that the world can read and send at once.
fn send_runs(ctx: &mut Ctx<'_>, key: Key<Transfer>, transfer: &Transfer, open: OpenFile, first: u64, last: u64) {
    let (session, content) = (transfer.session(), transfer.content());
    let from = session.server();
    let per_run = (limits::RUN_BYTES_MAX / usize::from(content.blksize())).max(1) as u64;
    let mut block = first;
    while block <= last {
        let end = last.min(block + per_run - 1);
        let (offset, _) = content.extent(block);
        let (last_offset, last_len) = content.extent(end);
        let bytes = last_offset - offset + last_len;
        let run = DatagramRun {
            endpoint: ctx.endpoints.udp(session.link(), session.port()),
            from,
            to: session.peer(),
            via: transfer.via(),
            size: content.blksize(),
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
    let (offset, len) = transfer.content().extent(block);
    let Some(body) = text.get(offset as usize..(offset + len) as usize) else { return };
    answer::send(ctx, transfer, |buf| {
        tftp::emit_data_header(buf, block as u16)?;
        buf.get_mut(4..4 + body.len())?.copy_from_slice(body);
        Some(4 + body.len())
    });
    ctx.stats.count(Counter::DataPackets);
    ctx.stats.add(Counter::DataBytes, len);
}
