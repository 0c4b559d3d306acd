//! The journal, compacted: written again from memory when it has grown, or when somebody asks.
//!
//! Compaction walks the lots and the records a batch at a time, while new records go to both files: each line says everything of its
//! lot or address, so that it does not matter which of two came first in the walk. When a change of many lots begins the walk begins
//! again: no file has some of the walk's lines from before it, and only a part of the change.
//!
//! It begins when the journal has [`SURPLUS`] events more than four for each lot and lease that it records.

use std::time::Duration;

use crate::base::outbox::Outbox;
use crate::base::time::{Instant, Now};
use crate::engine::commit::Commit;
use crate::roll::guests::Tenure;
use crate::roll::journal::{self, Guest, JournalEvent, Verdict};
use crate::roll::lot::{AssignedBy, Fingerprint};
use crate::roll::plan::Number;
use crate::roll::registry::Registry;
use crate::roll::stage::Stage;

/// A journal is rewritten when it has this many events more than [`EACH`] for each lot and lease.
const SURPLUS: u64 = 4096;
const EACH: u64 = 4;

/// Places that the walk comes by in one go, at most, and the time until it goes on: the loop has other things to do.
const STRIDE: usize = 16_384;
const PAUSE: Duration = Duration::from_millis(1);

/// The first line of a rewritten journal.
const TITLE: &str = "# muster's journal: who has which number and address. It may be edited while musterd is down; leave out the ~checksum of a line that you change.";

/// Where a compaction stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Walk {
    #[default]
    Idle,
    Title,
    /// The next lot.
    Lots(u32),
    /// The next place in the table of clients, for the stages of nodes.
    Clients(usize),
    /// The next address of a guest pool. One walk tells of all that is promised: an address that passes from one hand to another meanwhile is
    /// never between two walks.
    Guests(usize, usize),
    /// The world puts the new file into its place.
    Placing,
}

#[derive(Debug, Default)]
pub struct Compaction {
    step: Walk,
    /// Asked for while one was under way already.
    again: bool,
    /// The events that had been put out when the last one began.
    from: u64,
    /// The changes of many lots that had begun by then.
    changes: u64,
    /// When the walk goes on.
    next: Instant,
}

impl Compaction {
    pub fn begin(&mut self) {
        match self.step {
            Walk::Idle => self.step = Walk::Title,
            Walk::Title | Walk::Lots(_) | Walk::Clients(_) | Walk::Guests(..) | Walk::Placing => self.again = true,
        }
    }

    pub fn is_under_way(&self) -> bool {
        self.step != Walk::Idle
    }

    /// The new file is in its place.
    pub fn placed(&mut self) {
        self.step = if std::mem::take(&mut self.again) { Walk::Title } else { Walk::Idle };
    }

    fn is_due(&self, roll: &Registry, commit: &Commit) -> bool {
        let kept = (roll.lots().occupied() + roll.len()) as u64;
        commit.events() - self.from > SURPLUS + EACH * kept
    }

    pub fn deadline(&self, roll: &Registry, commit: &Commit) -> Option<Instant> {
        let works = match self.step {
            Walk::Idle => self.is_due(roll, commit),
            Walk::Title | Walk::Lots(_) | Walk::Clients(_) | Walk::Guests(..) => true,
            Walk::Placing => false,
        };
        works.then_some(self.next)
    }

    /// Writes as much as there is room for, when it is time.
    pub fn expire(&mut self, (roll, commit): (&Registry, &Commit), now: Now, out: &mut Outbox) {
        if self.next > now.at {
            return;
        }
        if self.step == Walk::Idle && self.is_due(roll, commit) {
            self.begin();
        }
        if !matches!(self.step, Walk::Idle | Walk::Placing) && self.changes != commit.changes() {
            self.step = Walk::Title;
        }
        for _ in 0..STRIDE {
            if !out.has_room() {
                break;
            }
            self.step = match self.step {
                Walk::Idle | Walk::Placing => return,
                Walk::Title => {
                    (self.from, self.changes) = (commit.events(), commit.changes());
                    out.compact_begin();
                    out.compact_line(|buf| text(TITLE, buf));
                    Walk::Lots(0)
                }
                Walk::Lots(next) => lot(next, roll, out),
                Walk::Clients(next) => client(next, roll, now, out),
                Walk::Guests(pool, next) => guest(pool, next, roll, now, out),
            };
            if self.step == Walk::Placing {
                out.compact_end();
            }
        }
        self.next = now.at + PAUSE;
    }
}

fn text(text: &str, buf: &mut [u8]) -> Option<usize> {
    buf.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
    Some(text.len())
}

fn line(event: JournalEvent, unix: u64, out: &mut Outbox) {
    out.compact_line(|buf| journal::write(&[event], unix, buf));
}

/// Writes a lot, if it has anything to tell; gives what comes next. A section of the config needs no line until its machine showed more.
fn lot(next: u32, roll: &Registry, out: &mut Outbox) -> Walk {
    let Some(lot) = roll.lots().lot(Number(next)) else { return Walk::Clients(0) };
    let section = matches!(lot.by, AssignedBy::Config(macs) if usize::from(macs) == lot.fingerprint.macs.len()) && lot.is_occupied();
    let blank = lot.is_vacant() && lot.retired.is_empty();
    if !section && !blank {
        line(JournalEvent::Lot(Number(next), *lot), lot.since, out);
    }
    if let Some((unix, stage)) = roll.past_stage(Number(next)).filter(|_| lot.is_occupied()) {
        line(JournalEvent::Stage(Number(next), stage), unix, out);
    }
    Walk::Lots(next + 1)
}

/// Writes a node's stage.
fn client(next: usize, roll: &Registry, now: Now, out: &mut Outbox) -> Walk {
    if next >= roll.capacity() {
        return Walk::Guests(0, 0);
    }
    let Some(client) = roll.at_slot(next) else { return Walk::Clients(next + 1) };
    if let Some(number) = client.number().filter(|_| client.boot.stage() != Stage::Discover) {
        line(JournalEvent::Stage(number, client.boot.stage()), now.unix.saturating_sub(now.at.since(client.boot.since()).as_secs()), out);
    }
    Walk::Clients(next + 1)
}

/// Writes what is promised of a guest address, if anything is.
fn guest(pool: usize, next: usize, roll: &Registry, now: Now, out: &mut Outbox) -> Walk {
    let Some(place) = roll.pools.get(pool) else { return Walk::Placing };
    let Some(tenure) = place.as_ref().and_then(|pool| pool.tenure(next)) else { return Walk::Guests(pool + 1, 0) };
    if let Some(guest) = promised(&tenure, roll, now) {
        line(JournalEvent::Guest(guest), now.unix, out);
    }
    Walk::Guests(pool, next + 1)
}

/// To whom an address is promised, and until when: what was acknowledged, to its holder or to who left it, and what its holder is about to be
/// acknowledged, because a record says it.
fn promised(tenure: &Tenure, roll: &Registry, now: Now) -> Option<Guest> {
    let Tenure { address, holder, lease } = *tenure;
    let holder = holder.and_then(|key| roll.get(key));
    let recorded =
        holder.filter(|client| client.binding.on_record().address == address).map_or(0, |client| client.binding.on_record().until);
    let lease = lease.filter(|lease| lease.until > now.at);
    let acknowledged = lease.map_or(0, |lease| now.unix + lease.until.since(now.at).as_secs() + 1);
    let until = recorded.max(acknowledged);
    let identity = holder.map(|client| client.identity()).or(lease.map(|lease| lease.to))?;
    let (verdict, fingerprint) =
        holder.map_or((Verdict::default(), Fingerprint::default()), |client| (client.evidence.verdict(), *client.evidence.fingerprint()));
    (until > now.unix).then_some(Guest { address, identity, until, verdict, fingerprint })
}

#[cfg(test)]
mod tests;
