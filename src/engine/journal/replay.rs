//! The journal, read at start.
//!
//! It gives every lot its last state and every guest whose lease runs its address back. The address that a numbered machine left rests
//! until that lease would have ended.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::base::machine::Seq;
use crate::base::time::{Instant, Now};
use crate::config::Config;
use crate::roll::client::{Client, OnRecord};
use crate::roll::guests::{GuestPool, Lease};
use crate::roll::journal::{self, Guest, JournalEvent, Mark, Spelling};
use crate::roll::lot::Lot;
use crate::roll::plan::Number;
use crate::roll::registry::{Promise, Registry};
use crate::roll::stage::Stage;

/// What a journal says beside lots.
#[derive(Default)]
pub struct Replayed {
    guests: BTreeMap<Ipv4Addr, Guest>,
    stages: BTreeMap<u32, (u64, Stage)>,
}

/// Reads a journal into the lot table. The error names the line and what is wrong with it.
pub fn read<'a>(roll: &mut Registry, lines: impl Iterator<Item = &'a str>) -> Result<Replayed, String> {
    let mut past = Replayed::default();
    let mut reader = LotReader::default();
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
struct LotReader {
    lots: BTreeMap<Number, Lot>,
    changing: bool,
    /// The first line in an older spelling, and how many there are.
    old: Option<(usize, usize)>,
}

impl LotReader {
    fn line(&mut self, roll: &mut Registry, past: &mut Replayed, line: &str) -> Result<Spelling, String> {
        let spelling = journal::read(line, |unix, event| {
            match event {
                JournalEvent::Guest(guest) => drop(past.guests.insert(guest.address, guest)),
                JournalEvent::Stage(number, stage) => drop(past.stages.insert(number.0, (unix, stage))),
                // A lot table that was shortened when these lots were vacant.
                JournalEvent::Lot(number, lot) if roll.lots().lot(number).is_none() && lot.is_vacant() => {}
                JournalEvent::Lot(number, lot) => drop(self.lots.insert(number, lot)),
                JournalEvent::Change(mark) => self.changing = mark == Mark::Begins,
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

impl Replayed {
    /// Gives guests their addresses back, and nodes their stages.
    pub fn restore(self, roll: &mut Registry, config: &Config, now: Now) {
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
fn host(roll: &mut Registry, config: &Config, now: Now, guest: &Guest, until: Instant) -> bool {
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
    client.restored(OnRecord { address: guest.address, until, seq: Seq::NONE }, guest.fingerprint, guest.verdict);
}
