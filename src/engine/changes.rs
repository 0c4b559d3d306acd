//! The records of a change of many lots, put out piece by piece: the loop goes on between two of them, and no change is too large for the
//! outbox or for the journal's queue.
//!
//! The change itself is in force in memory at once, all of it ([`lots::change_all`](super::lots::change_all)), and its first record says that it
//! begins. Then each lot is written as it is by the time it is written: what else becomes of it meanwhile needs no order. When none is left, a
//! last record says that the change ends. Until that is on disk nothing that was put out since the first counts, neither for the
//! next daemon nor for a promise ([`commit`](super::commit)): so it is whole or not at all. A second change that comes meanwhile is written with it.
//!
//! A journal that is being rewritten ([`journal`](super::journal)) has the whole change from memory when its walk began after the change, and else
//! begins its walk again: no line of the walk stands within a change.

use std::time::Duration;

use crate::base::limits;
use crate::base::time::Instant;
use crate::roll::journal::{JournalEvent, Line};
use crate::roll::lot::Lot;
use crate::roll::registry::Registry;

use super::Ctx;
use super::commit::Commit;

/// Records of one piece, and the time from one piece to the next. A piece takes a few hundred microseconds.
const PIECE: usize = 16;
const PAUSE: Duration = Duration::from_millis(1);
/// Records that may wait for the disk before the next piece: machines need some of what the journal's queue holds.
const PENDING: u64 = limits::JOURNAL_PENDING as u64 / 2;

/// When the next piece is due.
#[derive(Debug, Default)]
pub struct Changes {
    next: Instant,
}

impl Changes {
    pub fn deadline(&self, commit: &Commit) -> Option<Instant> {
        (commit.is_changing() && commit.pending() < PENDING).then_some(self.next)
    }

    /// Puts out the next piece, when it is due.
    pub fn expire(&mut self, ctx: &mut Ctx<'_>) {
        if self.deadline(ctx.commit).is_none_or(|at| at > ctx.now) {
            return;
        }
        self.next = ctx.now + PAUSE;
        for _ in 0..PIECE {
            if !ctx.out.has_room() || !ctx.commit.is_changing() {
                return;
            }
            if ctx.roll.unwritten.is_empty() {
                ctx.end_change();
                return;
            }
            if !line(ctx) {
                return;
            }
        }
    }
}

/// Puts out a line of as many lots as it has room for, all of the same time. False: it is to be tried again.
fn line(ctx: &mut Ctx<'_>) -> bool {
    let Some(first) = ctx.roll.unwritten.first() else { return true };
    let lot = |roll: &Registry, number| -> Lot { roll.lots().lot(number).copied().unwrap_or_default() };
    let since = lot(ctx.roll, first).since;
    let mut line = Line::new(since);
    let mut written = [first; limits::JOURNAL_LINE_MAX / 8];
    let mut count = 0;
    while let (Some(number), Some(place)) = (ctx.roll.unwritten.first(), written.get_mut(count)) {
        let lot = lot(ctx.roll, number);
        if lot.since != since || !line.add(&JournalEvent::Lot(number, lot)) {
            break;
        }
        *place = number;
        count += 1;
        ctx.roll.unwritten.remove(number);
    }
    let put_out = count > 0 && ctx.append(&line).is_some();
    if !put_out {
        written.iter().take(count).for_each(|number| ctx.roll.unwritten.add(*number));
    }
    put_out
}
