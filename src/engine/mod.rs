//! The Server machine. Its engines never import each other: they meet in the client's record and in [`Ctx`].

use crate::base::outbox::Outbox;
use crate::base::time::Instant;
use crate::config::Config;
use crate::roll::journal::{Event, Line};
use crate::roll::registry::Roll;
use endpoints::Endpoints;
use pace::Pace;
use stats::{Counter, Stats};

mod adverts;
pub mod boot;
mod changes;
mod checkpoint;
mod command;
pub mod control;
pub mod dhcp;
pub mod dns;
pub mod endpoints;
mod history;
pub mod lots;
mod moves;
pub mod pace;
mod reload;
pub mod server;
pub mod stats;
pub mod tftp;
pub mod view;

/// What an engine works with during one call.
pub struct Ctx<'a> {
    pub now: Instant,
    /// Seconds since 1970: for records and reports only.
    pub unix: u64,
    pub config: &'a Config,
    pub endpoints: &'a Endpoints,
    pub roll: &'a mut Roll,
    pub stats: &'a mut Stats,
    pub pace: &'a mut Pace,
    pub out: &'a mut Outbox,
}

impl Ctx<'_> {
    /// Puts a record into the journal; gives its number. None while too many others are not on disk yet: nothing may be promised then.
    pub fn record(&mut self, events: &[Event]) -> Option<u64> {
        let mut line = Line::new(self.unix);
        if events.iter().all(|event| line.add(event)) { self.append(&line) } else { None }
    }

    /// The same with a line that is written already.
    fn append(&mut self, line: &Line) -> Option<u64> {
        let seq = self.roll.keeper.next()?;
        if !self.out.append(seq, |buf| line.write(buf)) {
            return None;
        }
        self.stats.count(Counter::JournalRecord);
        self.roll.keeper.wrote(seq, line.events());
        Some(seq)
    }
}

/// A transfer as an operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loading<'a> {
    pub name: &'a [u8],
    /// Bytes that have arrived, and that there are.
    pub done: u64,
    pub size: u64,
}

#[cfg(test)]
mod testing;
