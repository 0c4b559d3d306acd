//! What was put out for the journal, and what of it is on disk: nothing that was promised leaves before (law 4).
//!
//! Records that stand within a change of many lots count only when its last one is on disk: see [`journal`](super::journal).

use crate::base::limits;
use crate::base::machine::Seq;

/// Counts records; the first is 1.
#[derive(Debug, Default)]
pub struct Keeper {
    /// The last record that was put out.
    written: Seq,
    /// Up to here everything is on disk.
    synced: Seq,
    /// A change that is not on disk whole.
    change: Option<Together>,
    /// How many changes have begun.
    changes: u64,
    /// Events that stand behind others in their lines.
    behind: u64,
}

/// Records that count together.
#[derive(Clone, Copy, Debug)]
struct Together {
    first: Seq,
    /// None until it was put out.
    last: Option<Seq>,
}

impl Keeper {
    /// The number of the next record. None while as many as there may be are not on disk yet.
    pub fn next(&self) -> Option<Seq> {
        (self.pending() < limits::JOURNAL_PENDING as u64).then_some(self.written.next())
    }

    /// A record of so many events was put out.
    pub fn wrote(&mut self, seq: Seq, events: u64) {
        self.written = seq;
        self.behind += events.saturating_sub(1);
    }

    /// The record that was put out last begins a change. Where one before it is not on disk yet, both are promised together.
    pub fn begins(&mut self) {
        let first = self.change.map_or(self.written, |change| change.first);
        self.change = Some(Together { first, last: None });
        self.changes += 1;
    }

    /// The record that was put out last ends the change.
    pub fn ends(&mut self) {
        if let Some(change) = &mut self.change {
            change.last = Some(self.written);
        }
    }

    /// Whether a change has begun that has not ended.
    pub fn is_changing(&self) -> bool {
        self.change.is_some_and(|change| change.last.is_none())
    }

    /// How many changes have begun.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    pub fn synced(&mut self, seq: Seq) {
        self.synced = seq.clamp(self.synced, self.written);
        self.change = self.change.filter(|change| change.last.is_none_or(|last| last > self.synced));
    }

    /// Whether a record is on disk, and counts. There is nothing to wait for where no record was needed.
    pub fn holds(&self, seq: Seq) -> bool {
        seq <= self.synced && self.change.is_none_or(|change| seq < change.first)
    }

    pub fn written(&self) -> Seq {
        self.written
    }

    /// Events of all records that were put out.
    pub fn events(&self) -> u64 {
        self.written.since(Seq::NONE) + self.behind
    }

    /// Records that are not on disk yet.
    pub fn pending(&self) -> u64 {
        self.written.since(self.synced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keeper_counts() {
        let mut keeper = Keeper::default();
        assert!(keeper.holds(Seq::NONE) && keeper.next() == Some(Seq::new(1)));
        keeper.wrote(Seq::new(1), 1);
        assert!(!keeper.holds(Seq::new(1)));
        keeper.synced(Seq::new(7));
        assert!(keeper.holds(Seq::new(1)) && keeper.pending() == 0);
        (2..).take(limits::JOURNAL_PENDING).for_each(|seq| keeper.wrote(Seq::new(seq), 3));
        assert_eq!((keeper.next(), keeper.events()), (None, 1 + 3 * limits::JOURNAL_PENDING as u64));
    }

    #[test]
    fn what_stands_in_a_change_is_held_when_all_of_it_is() {
        let mut keeper = Keeper::default();
        let write = |keeper: &mut Keeper| {
            let seq = keeper.next().unwrap();
            keeper.wrote(seq, 1);
            seq
        };
        let before = write(&mut keeper);
        let first = write(&mut keeper);
        keeper.begins();
        let other = write(&mut keeper);
        keeper.synced(other);
        assert!(keeper.is_changing() && [before, first, other].map(|seq| keeper.holds(seq)) == [true, false, false]);
        let last = write(&mut keeper);
        keeper.ends();
        assert!(!keeper.is_changing() && !keeper.holds(first));
        // Another begins before this one is on disk.
        let second = write(&mut keeper);
        keeper.begins();
        keeper.synced(last);
        assert!(keeper.is_changing() && !keeper.holds(first) && keeper.holds(before));
        write(&mut keeper);
        keeper.ends();
        keeper.synced(second.next());
        assert!([first, other, last, second, second.next()].into_iter().all(|seq| keeper.holds(seq)));
    }
}
