//! The journal is read at start, and rewritten when it has grown.
//!
//! Reading gives every lot its last state and every guest whose lease runs its address back; what a numbered machine left rests until that
//! lease would have ended. Rewriting walks the street and the records a batch at a time, while new records go to both files: each line says
//! everything of its lot or address, so that it does not matter which of two came first in the walk. When a change of many lots begins the walk
//! begins again: no file has some of the walk's lines from before it, and only a part of the change.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::base::machine::Seq;
use crate::base::outbox::Outbox;
use crate::base::time::{Instant, Now};
use crate::config::Config;
use crate::roll::client::{Client, OnRecord};
use crate::roll::guests::{GuestPool, Lease, Tenure};
use crate::roll::journal::{self, Event, Guest, Mark, Spelling, Verdict};
use crate::roll::lot::{By, Lot, Papers};
use crate::roll::plan::Number;
use crate::roll::registry::{Promise, Roll};
use crate::roll::stage::Stage;

use super::commit::Commit;

/// A journal is rewritten when it has this many events more than four for each lot and lease.
const SURPLUS: u64 = 4096;
/// Places that the walk comes by in one go, at most, and the time until it goes on: the loop has other things to do.
const STRIDE: usize = 16_384;
const PAUSE: Duration = Duration::from_millis(1);
/// The first line of a rewritten journal.
const TITLE: &str = "# muster's journal: who has which number and address. It may be edited while musterd is down; leave out the ~checksum of a line that you change.";

/// What a journal says beside lots.
#[derive(Default)]
pub struct Past {
    guests: BTreeMap<Ipv4Addr, Guest>,
    stages: BTreeMap<u32, (u64, Stage)>,
}

/// Reads a journal into the street. The error names the line and what is wrong with it.
pub fn read<'a>(roll: &mut Roll, lines: impl Iterator<Item = &'a str>) -> Result<Past, String> {
    let mut past = Past::default();
    let mut reader = Reader::default();
    for (at, line) in lines.enumerate() {
        let taken = reader.line(roll, &mut past, line);
        let spelling = taken.map_err(|error| {
            format!("line {} of the journal is invalid: {error}: correct it, without its ~checksum, or remove it", at + 1)
        })?;
        if spelling == Spelling::Old {
            reader.old.get_or_insert((at + 1, 0)).1 += 1;
        }
    }
    if let Some((line, count)) = reader.old {
        log::warn!(
            "journal: {count} lines have a ; within a reported word, as version 0.1.0 wrote them (first: line {line}; \
             each was read as one word, nothing is lost)"
        );
    }
    match reader.changing {
        false => Ok(past),
        true => Err("the journal ends within a change of several numbers (remove the lines from `change begins` on)".into()),
    }
}

/// Takes lots up together that were changed together.
#[derive(Default)]
struct Reader {
    lots: BTreeMap<Number, Lot>,
    changing: bool,
    /// The first line in an older spelling, and how many there are.
    old: Option<(usize, usize)>,
}

impl Reader {
    fn line(&mut self, roll: &mut Roll, past: &mut Past, line: &str) -> Result<Spelling, String> {
        let spelling = journal::read(line, |unix, event| {
            match event {
                Event::Guest(guest) => drop(past.guests.insert(guest.address, guest)),
                Event::Stage(number, stage) => drop(past.stages.insert(number.0, (unix, stage))),
                // A street that was shortened when these lots were vacant.
                Event::Lot(number, lot) if roll.street().lot(number).is_none() && lot.is_vacant() => {}
                Event::Lot(number, lot) => drop(self.lots.insert(number, lot)),
                Event::Change(mark) => self.changing = mark == Mark::Begins,
            }
            Ok(())
        })?;
        if !self.changing {
            let lots = std::mem::take(&mut self.lots);
            roll.set_lots(lots.iter().map(|(number, lot)| (*number, lot)), Promise::default()).map_err(|clash| {
                let first = lots.first_key_value().map_or(Number(0), |(number, _)| *number);
                format!("{first}: {clash}")
            })?;
        }
        Ok(spelling)
    }
}

impl Past {
    /// Gives guests their addresses back, and nodes their stages.
    pub fn restore(self, roll: &mut Roll, config: &Config, now: Now) {
        let until = |guest: &Guest| now.at + Duration::from_secs(guest.until.saturating_sub(now.unix)).min(lease(config, guest));
        let mut guests: Vec<Guest> = self.guests.into_values().filter(|guest| guest.until > now.unix).collect();
        // Of two addresses of one guest it has the later one; the pools want what rests in order of its end.
        guests.sort_by_key(|guest| guest.until);
        let mut left: Vec<&Guest> = guests.iter().rev().filter(|guest| !host(roll, config, now, guest, until(guest))).collect();
        while let Some(guest) = left.pop() {
            let lease = Lease { to: guest.identity, until: until(guest) };
            for pool in roll.pools.iter_mut().flatten() {
                pool.rest(guest.address, lease);
            }
        }
        roll.past_stages(self.stages.into_iter().map(|(number, (unix, stage))| (Number(number), unix, stage)));
    }
}

/// How long a guest's lease can be. What was acknowledged before now ends within that, whatever the record says: it speaks
/// of twice the lease, and the clock may have been wrong when it was written, or be so now.
fn lease(config: &Config, guest: &Guest) -> Duration {
    let network = config.networks.iter().find(|network| network.guests.is_some_and(|range| range.contains(guest.address)));
    network.map_or(Duration::ZERO, |network| network.guest_lease)
}

/// Gives a guest its address back. False when it is none any more, or has no place.
fn host(roll: &mut Roll, config: &Config, now: Now, guest: &Guest, until: Instant) -> bool {
    if roll.number_of(&guest.identity).is_some() {
        return false;
    }
    let Some(key) = roll.admit(now.at, guest.identity) else { return false };
    if roll.get(key).is_some_and(|client| client.address().is_some()) {
        // It has a later address.
        return false;
    }
    let mut claims =
        |pool: &mut Option<GuestPool>| pool.as_mut().is_some_and(|pool| pool.claim(now.at, guest.address, key, &guest.identity).is_some());
    let network = roll.pools.iter_mut().position(&mut claims);
    let (Some(network), true) = (network, roll.bind(key, guest.address)) else {
        roll.remove(key);
        return false;
    };
    roll.was_up(key);
    if let Some(client) = roll.get_mut(key) {
        settle_in(client, config, (guest, now.unix), network);
    }
    roll.lease(key, until);
    true
}

fn settle_in(client: &mut Client, config: &Config, (guest, unix): (&Guest, u64), network: usize) {
    client.route.restored(network, config.networks.get(network).and_then(|network| network.link));
    // Of a record from another time the next renewal makes a new one.
    let until = guest.until.min(unix + 2 * lease(config, guest).as_secs());
    client.restored(OnRecord { address: guest.address, until, seq: Seq::NONE }, guest.papers, guest.verdict);
}

/// Where a rewriting stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
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
pub struct Rewrite {
    step: Step,
    /// Asked for while one was under way already.
    again: bool,
    /// The events that had been put out when the last one began.
    from: u64,
    /// The changes of many lots that had begun by then.
    changes: u64,
    /// When the walk goes on.
    next: Instant,
}

impl Rewrite {
    pub fn begin(&mut self) {
        match self.step {
            Step::Idle => self.step = Step::Title,
            Step::Title | Step::Lots(_) | Step::Clients(_) | Step::Guests(..) | Step::Placing => self.again = true,
        }
    }

    pub fn is_under_way(&self) -> bool {
        self.step != Step::Idle
    }

    /// The new file is in its place.
    pub fn placed(&mut self) {
        self.step = if std::mem::take(&mut self.again) { Step::Title } else { Step::Idle };
    }

    fn is_due(&self, roll: &Roll, commit: &Commit) -> bool {
        let told = (roll.street().occupied() + roll.len()) as u64;
        commit.events() - self.from > SURPLUS + 4 * told
    }

    pub fn deadline(&self, roll: &Roll, commit: &Commit) -> Option<Instant> {
        let works = match self.step {
            Step::Idle => self.is_due(roll, commit),
            Step::Title | Step::Lots(_) | Step::Clients(_) | Step::Guests(..) => true,
            Step::Placing => false,
        };
        works.then_some(self.next)
    }

    /// Writes as much as there is room for, when it is time.
    pub fn expire(&mut self, (roll, commit): (&Roll, &Commit), now: Now, out: &mut Outbox) {
        if self.next > now.at {
            return;
        }
        if self.step == Step::Idle && self.is_due(roll, commit) {
            self.begin();
        }
        if !matches!(self.step, Step::Idle | Step::Placing) && self.changes != commit.changes() {
            self.step = Step::Title;
        }
        for _ in 0..STRIDE {
            if !out.has_room() {
                break;
            }
            self.step = match self.step {
                Step::Idle | Step::Placing => return,
                Step::Title => {
                    (self.from, self.changes) = (commit.events(), commit.changes());
                    out.rewrite_begin();
                    out.rewrite_line(|buf| text(TITLE, buf));
                    Step::Lots(0)
                }
                Step::Lots(next) => lot(next, roll, out),
                Step::Clients(next) => client(next, roll, now, out),
                Step::Guests(pool, next) => guest(pool, next, roll, now, out),
            };
            if self.step == Step::Placing {
                out.rewrite_end();
            }
        }
        self.next = now.at + PAUSE;
    }
}

fn text(text: &str, buf: &mut [u8]) -> Option<usize> {
    buf.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
    Some(text.len())
}

fn line(event: Event, unix: u64, out: &mut Outbox) {
    out.rewrite_line(|buf| journal::write(&[event], unix, buf));
}

/// Writes a lot, if it has anything to tell; gives what comes next. A section of the config needs no line until its machine showed more.
fn lot(next: u32, roll: &Roll, out: &mut Outbox) -> Step {
    let Some(lot) = roll.street().lot(Number(next)) else { return Step::Clients(0) };
    let section = matches!(lot.by, By::Config(macs) if usize::from(macs) == lot.papers.macs.len()) && lot.is_occupied();
    let blank = lot.is_vacant() && lot.retired.is_empty();
    if !section && !blank {
        line(Event::Lot(Number(next), *lot), lot.since, out);
    }
    if let Some((unix, stage)) = roll.past_stage(Number(next)).filter(|_| lot.is_occupied()) {
        line(Event::Stage(Number(next), stage), unix, out);
    }
    Step::Lots(next + 1)
}

/// Writes a node's stage.
fn client(next: usize, roll: &Roll, now: Now, out: &mut Outbox) -> Step {
    if next >= roll.capacity() {
        return Step::Guests(0, 0);
    }
    let Some(client) = roll.at_slot(next) else { return Step::Clients(next + 1) };
    if let Some(number) = client.number().filter(|_| client.boot.stage() != Stage::Discover) {
        line(Event::Stage(number, client.boot.stage()), now.unix.saturating_sub(now.at.since(client.boot.since()).as_secs()), out);
    }
    Step::Clients(next + 1)
}

/// Writes what is promised of a guest address, if anything is.
fn guest(pool: usize, next: usize, roll: &Roll, now: Now, out: &mut Outbox) -> Step {
    let Some(place) = roll.pools.get(pool) else { return Step::Placing };
    let Some(tenure) = place.as_ref().and_then(|pool| pool.tenure(next)) else { return Step::Guests(pool + 1, 0) };
    if let Some(guest) = promised(&tenure, roll, now) {
        line(Event::Guest(guest), now.unix, out);
    }
    Step::Guests(pool, next + 1)
}

/// To whom an address is promised, and until when: what was acknowledged, to its holder or to who left it, and what its holder is about to be
/// acknowledged, because a record says it.
fn promised(tenure: &Tenure, roll: &Roll, now: Now) -> Option<Guest> {
    let Tenure { address, holder, lease } = *tenure;
    let holder = holder.and_then(|key| roll.get(key));
    let recorded =
        holder.filter(|client| client.binding.on_record().address == address).map_or(0, |client| client.binding.on_record().until);
    let lease = lease.filter(|lease| lease.until > now.at);
    let acknowledged = lease.map_or(0, |lease| now.unix + lease.until.since(now.at).as_secs() + 1);
    let until = recorded.max(acknowledged);
    let identity = holder.map(|client| client.identity()).or(lease.map(|lease| lease.to))?;
    let (verdict, papers) =
        holder.map_or((Verdict::default(), Papers::default()), |client| (client.evidence.verdict(), *client.evidence.papers()));
    (until > now.unix).then_some(Guest { address, identity, until, verdict, papers })
}

#[cfg(test)]
mod tests;
