//! The journal read at start, and written anew when it has grown.
//!
//! Reading gives every lot its last state and every guest whose lease runs its address back; what a numbered machine left rests until that
//! lease would have ended. Rewriting walks the street and the records a batch at a time, while new records go to both files: each line says
//! everything of its lot or address, so that it does not matter which of two came first in the walk.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::base::outbox::Outbox;
use crate::base::time::{Instant, Now};
use crate::config::Config;
use crate::roll::client::{Client, OnRecord, Stage, Way};
use crate::roll::guests::{GuestPool, Lease, Tenure};
use crate::roll::journal::{self, Event, Guest, Verdict};
use crate::roll::lot::{By, Papers};
use crate::roll::plan::Number;
use crate::roll::registry::{Promise, Roll};
use crate::roll::street::Clash;

/// A journal is written anew when it has this many records more than four for each lot and lease that it tells of.
const SURPLUS: u64 = 4096;
/// The first line of a journal that was written anew.
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
    for (at, line) in lines.enumerate() {
        let taken = journal::read(line, |unix, event| {
            match event {
                Event::Guest(guest) => drop(past.guests.insert(guest.address, guest)),
                Event::Stage(number, stage) => drop(past.stages.insert(number.0, (unix, stage))),
                Event::Lot(number, lot) => match roll.set_lot(number, lot, Promise::default()) {
                    // A street that was shortened when these lots were vacant.
                    Err(Clash::NoSuchLot) if lot.is_vacant() => {}
                    done => done.map_err(|clash| format!("{number}: {clash}"))?,
                },
            }
            Ok(())
        });
        taken.map_err(|error| {
            format!("line {} of the journal cannot be: {error}: mend it (without its ~checksum) or take it out", at + 1)
        })?;
    }
    Ok(past)
}

impl Past {
    /// Gives guests their addresses back, and nodes their stages.
    pub fn restore(self, roll: &mut Roll, config: &Config, now: Now) {
        let until = |guest: &Guest| now.at + Duration::from_secs(guest.until.saturating_sub(now.unix));
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

/// Gives a guest its address back. False when it is none any more, or has no place.
fn host(roll: &mut Roll, config: &Config, now: Now, guest: &Guest, until: Instant) -> bool {
    if roll.number_of(&guest.identity).is_some() {
        return false;
    }
    let Some(key) = roll.admit(now.at, guest.identity) else { return false };
    if roll.get(key).is_some_and(|client| client.address.is_some()) {
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
    if let Some(client) = roll.get_mut(key) {
        settle_in(client, config, guest, network);
    }
    roll.lease(key, until);
    true
}

fn settle_in(client: &mut Client, config: &Config, guest: &Guest, network: usize) {
    client.stage = Stage::Up;
    client.network = network as u16;
    let link = config.networks.get(network).and_then(|network| network.link);
    client.link = link.unwrap_or(0);
    client.way = if link.is_none() { Way::Relayed } else { Way::Unknown };
    (client.papers, client.verdict) = (guest.papers, guest.verdict);
    client.on_record = OnRecord { address: guest.address, until: guest.until, seq: 0 };
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
    /// The records that had been put out when the last one began.
    from: u64,
}

impl Rewrite {
    pub fn begin(&mut self) {
        match self.step {
            Step::Idle => self.step = Step::Title,
            Step::Title | Step::Lots(_) | Step::Clients(_) | Step::Guests(..) | Step::Placing => self.again = true,
        }
    }

    /// The new file is in its place.
    pub fn placed(&mut self) {
        self.step = if std::mem::take(&mut self.again) { Step::Title } else { Step::Idle };
    }

    fn is_due(&self, roll: &Roll) -> bool {
        let told = (roll.street().occupied() + roll.len()) as u64;
        roll.keeper.written() - self.from > SURPLUS + 4 * told
    }

    pub fn deadline(&self, roll: &Roll) -> Option<Instant> {
        let works = match self.step {
            Step::Idle => self.is_due(roll),
            Step::Title | Step::Lots(_) | Step::Clients(_) | Step::Guests(..) => true,
            Step::Placing => false,
        };
        works.then_some(Instant::ZERO)
    }

    /// Writes as much as there is room for.
    pub fn expire(&mut self, roll: &Roll, now: Now, out: &mut Outbox) {
        if self.step == Step::Idle && self.is_due(roll) {
            self.begin();
        }
        while out.has_room() {
            self.step = match self.step {
                Step::Idle | Step::Placing => return,
                Step::Title => {
                    self.from = roll.keeper.written();
                    out.journal_rewrite_begin();
                    out.journal_rewrite_line(|buf| text(TITLE, buf));
                    Step::Lots(0)
                }
                Step::Lots(next) => lot(next, roll, out),
                Step::Clients(next) => client(next, roll, now, out),
                Step::Guests(pool, next) => guest(pool, next, roll, now, out),
            };
            if self.step == Step::Placing {
                out.journal_rewrite_end();
            }
        }
    }
}

fn text(text: &str, buf: &mut [u8]) -> Option<usize> {
    buf.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
    Some(text.len())
}

fn line(event: Event, unix: u64, out: &mut Outbox) {
    out.journal_rewrite_line(|buf| journal::write(&[event], unix, buf));
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
    if let Some(number) = client.number.filter(|_| client.stage != Stage::Stranger) {
        line(Event::Stage(number, client.stage), now.unix.saturating_sub(now.at.since(client.since).as_secs()), out);
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
/// told, because a record says it.
fn promised(tenure: &Tenure, roll: &Roll, now: Now) -> Option<Guest> {
    let Tenure { address, holder, lease } = *tenure;
    let holder = holder.and_then(|key| roll.get(key));
    let recorded = holder.filter(|client| client.on_record.address == address).map_or(0, |client| client.on_record.until);
    let lease = lease.filter(|lease| lease.until > now.at);
    let acknowledged = lease.map_or(0, |lease| now.unix + lease.until.since(now.at).as_secs() + 1);
    let until = recorded.max(acknowledged);
    let identity = holder.map(|client| client.identity).or(lease.map(|lease| lease.to))?;
    let (verdict, papers) = holder.map_or((Verdict::default(), Papers::default()), |client| (client.verdict, client.papers));
    (until > now.unix).then_some(Guest { address, identity, until, verdict, papers })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::addr::Mac;
    use crate::base::outbox::{JournalOp, Output};
    use crate::engine::server::Server;
    use crate::engine::testing::{config, guest as address, mac};
    use crate::roll::client::{ClientId, Identity};

    fn lines(out: &Outbox) -> Vec<String> {
        let line = |output| match output {
            Output::Journal(JournalOp::RewriteLine { line }) => Some(String::from_utf8_lossy(line).into_owned()),
            _ => None,
        };
        out.iter().filter_map(line).collect()
    }

    /// Its machine has left an address, and takes it again at any moment of the walk, before it is promised anew: the walk tells of it.
    #[test]
    fn an_address_that_changes_hands_in_a_walk_is_told_of() {
        let now = Now { at: Instant::from_millis(1000), unix: 1_700_000_000 };
        let until = now.at + Duration::from_secs(300);
        for who in [Identity::Mac(mac(1)), Identity::ClientId(ClientId::new(b"ib-client"))] {
            for moment in 0..config().capacity + 12 {
                let mut server = Server::new(&config(), 7, now);
                let roll = server.roll_mut();
                assert!(roll.pools[0].as_mut().unwrap().rest(address(5), Lease { to: who, until }));
                let (mut step, mut out, mut steps) = (Step::Lots(199), Outbox::new(), 0);
                while step != Step::Placing {
                    if steps == moment {
                        let key = roll.admit(now.at, who).unwrap();
                        roll.pools[0].as_mut().unwrap().claim(now.at, address(5), key, &who).unwrap();
                        assert!(roll.bind(key, address(5)));
                    }
                    step = match step {
                        Step::Lots(next) => lot(next, roll, &mut out),
                        Step::Clients(next) => client(next, roll, now, &mut out),
                        Step::Guests(pool, next) => guest(pool, next, roll, now, &mut out),
                        Step::Idle | Step::Title | Step::Placing => unreachable!(),
                    };
                    steps += 1;
                }
                let told = lines(&out);
                assert!(told.iter().any(|line| line.contains(" guest 10.54.250.5 ")), "taken at step {moment}: {told:?}");
                let next = Server::restored(&config(), 9, now, told.iter().map(String::as_str)).unwrap();
                let pool = next.roll().pools[0].as_ref().unwrap();
                assert!(!pool.is_free(address(5), &Identity::Mac(Mac([2, 0, 0, 0, 0, 99]))));
            }
        }
    }
}
