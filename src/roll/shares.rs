//! What machines may cause in the log and in the journal: each its share, and all that have no number together theirs. A forger of MACs, or
//! a machine that goes mad, costs a bounded part of a disk; a crowd of new machines that is switched on at once stays within.

use std::fmt;
use std::time::Duration;

use crate::base::bucket::{Bucket, Buckets, Payer};
use crate::base::time::Instant;

use super::client::Identity;
use super::plan::Number;

/// Lines and records of one machine: what its boot causes, three times over, then one more each quarter of a minute.
const EACH: Bucket = Bucket { burst: 12, every: Duration::from_secs(15) };
/// Lines of all without a number: one for each record that the roll has room for, then one a second.
const LINES_EVERY: Duration = Duration::from_secs(1);
/// Records of all without a number: four for each record that the roll has room for; these come back within so long.
const RECORDS_BACK: Duration = Duration::from_secs(1200);

pub struct Shares {
    lines: Buckets,
    records: Buckets,
    left_out: u64,
}

impl Shares {
    /// For a roll with room for `capacity` machines.
    pub fn new(capacity: usize, seed: u64) -> Shares {
        let room = u32::try_from(capacity).unwrap_or(u32::MAX / 4).max(256);
        let lines = Bucket { burst: room, every: LINES_EVERY };
        let records = Bucket { burst: 4 * room, every: RECORDS_BACK / (4 * room) };
        Shares { lines: Buckets::new(capacity, seed, EACH, lines), records: Buckets::new(capacity, seed, EACH, records), left_out: 0 }
    }

    /// Logs a line that a machine has caused. One beyond its share is counted, and the next that is logged tells how many were.
    pub fn say(&mut self, now: Instant, number: Option<Number>, identity: &Identity, level: log::Level, line: fmt::Arguments<'_>) {
        // What is not logged anyway is no part of a share.
        if level > log::max_level() {
            return;
        }
        if !self.lines.allow(now, who(number, identity)) {
            self.left_out += 1;
            return;
        }
        match self.lines.refused() {
            0 => log::log!(level, "{line}"),
            more => log::log!(level, "{line} (log limit: {more} lines of machines not logged)"),
        }
    }

    /// How many lines were left out since this was asked last.
    pub fn left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }

    /// Whether a machine may cause a record of the journal now. `renews`: it goes on with a lease that is on record, from which no crowd of
    /// others can keep it.
    pub fn may_record(&mut self, now: Instant, number: Option<Number>, identity: &Identity, renews: bool) -> bool {
        let who = match who(number, identity) {
            Payer::Guest(key) if renews => Payer::Resident(key),
            who => who,
        };
        self.records.allow(now, who)
    }
}

fn who(number: Option<Number>, identity: &Identity) -> Payer {
    number.map_or(Payer::Guest(identity.key()), |number| Payer::Node(number.0))
}
