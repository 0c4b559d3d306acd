//! The commit lane: what was put out for the journal, what of it is committed, and what waits for that (law 4).
//!
//! Whoever promises something puts out its record first ([`Ctx::record`]). Until the record is committed, the answer that says so waits here
//! ([`Commit::after`]): as a [`CommitWaiter`], which is a key, while its service keeps the answer. When the world says `Input::Synced`, the Server
//! takes out each waiter whose record is committed, in the order of the records ([`Commit::release`]), and passes it to its service. It stops
//! while the outbox is full and goes on in the next turn ([`Commit::deadline`]). A waiter that has gone meanwhile is a stale key: its service
//! finds nothing.
//!
//! What is no more than a mark, such as "this number was given by that record", stays with what it marks: a [`Seq`] there, about which
//! [`Commit::is_committed`] is asked. A slow disk delays those who need a new record, and nobody else.
//!
//! The records of a change of many numbers ([`changes`](super::changes)) are committed together, with its last one; so are those that others put
//! out meanwhile, since a journal that ends within the change ends before it.
//!
//! Limits: [`JOURNAL_PENDING`] records that are not on disk, and one place in the lane for each client record. Operators find a place beyond
//! these; it may be allocated.
//!
//! Who may call: any engine puts out records, waits and asks; [`Commit::synced`] and [`Commit::release`] are the Server's.

use std::collections::VecDeque;

use crate::base::limits::JOURNAL_PENDING;
use crate::base::machine::{ConnId, Seq};
use crate::base::outbox::Outbox;
use crate::base::slab::Key;
use crate::base::time::Instant;
use crate::roll::client::Client;
use crate::roll::journal::{JournalEvent, Line, Mark};
use crate::wire::control::CONNECTIONS;

use super::Ctx;
use super::stats::Counter;

/// What waits for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitWaiter {
    /// A client, whose message DHCP keeps.
    Client(Key<Client>),
    /// An operator's connection, whose reply the control engine keeps.
    Operator(ConnId),
}

/// The state of the journal as the machine knows it, and the lane.
pub struct Commit {
    /// The last record that was put out.
    written: Seq,
    /// Up to here everything is on disk.
    synced: Seq,
    /// A change of many numbers that is not committed.
    change: Option<Together>,
    /// How many of these have begun.
    changes: u64,
    /// Events that stand behind others in their records.
    behind: u64,
    /// In the order of the records.
    waiting: VecDeque<(Seq, CommitWaiter)>,
    /// Parallel to the roll's slots: which client stands in the lane, and for which record.
    by_slot: Box<[Option<CommitStanding>]>,
}

/// A client in the lane, and the record for which it stands there.
type CommitStanding = (Seq, Key<Client>);

/// Records that are committed together.
#[derive(Clone, Copy, Debug)]
struct Together {
    /// The record before the first of them.
    before: Seq,
    /// None until it was put out.
    last: Option<Seq>,
}

impl Commit {
    /// For a roll of so many client records.
    pub fn new(capacity: usize) -> Commit {
        Commit {
            written: Seq::NONE,
            synced: Seq::NONE,
            change: None,
            changes: 0,
            behind: 0,
            waiting: VecDeque::with_capacity(capacity + CONNECTIONS),
            by_slot: vec![None; capacity].into(),
        }
    }

    /// The record up to which everything that was promised holds, whatever becomes of this daemon. It never goes back.
    pub fn committed(&self) -> Seq {
        self.change.map_or(self.synced, |change| self.synced.min(change.before))
    }

    /// Whether a record is committed. Where none was needed ([`Seq::NONE`]) there is nothing to wait for.
    pub fn is_committed(&self, seq: Seq) -> bool {
        seq <= self.committed()
    }

    /// The record, if it is still to be waited for.
    pub fn awaited(&self, seq: Seq) -> Option<Seq> {
        (!self.is_committed(seq)).then_some(seq)
    }

    /// The number of the next record. None while as many as there may be are not on disk yet.
    pub fn next(&self) -> Option<Seq> {
        (self.pending() < JOURNAL_PENDING as u64).then_some(self.written.next())
    }

    /// Records that are not on disk yet.
    pub fn pending(&self) -> u64 {
        self.written.since(self.synced)
    }

    /// Events of all records that were put out.
    pub fn events(&self) -> u64 {
        self.written.since(Seq::NONE) + self.behind
    }

    /// How many changes of many numbers have begun.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether one has begun that has not ended.
    pub fn is_changing(&self) -> bool {
        self.change.is_some_and(|change| change.last.is_none())
    }

    /// Puts out a record; gives its number.
    fn append(&mut self, line: &Line, out: &mut Outbox) -> Option<Seq> {
        let seq = self.next()?;
        if !out.append(seq, |buf| line.write(buf)) {
            return None;
        }
        self.written = seq;
        self.behind += line.events().saturating_sub(1);
        Some(seq)
    }

    /// A change began with the record that follows `before`. Where one before it is not committed, both are committed together.
    fn change_begins(&mut self, before: Seq) {
        let before = self.change.map_or(before, |change| change.before);
        self.change = Some(Together { before, last: None });
        self.changes += 1;
    }

    /// The record that was put out last ends the change.
    fn change_ends(&mut self) {
        if let Some(change) = &mut self.change {
            change.last = Some(self.written);
        }
    }

    /// The world says that everything up to this record is on disk.
    pub fn synced(&mut self, seq: Seq) {
        self.synced = seq.clamp(self.synced, self.written);
        self.change = self.change.filter(|change| change.last.is_none_or(|last| last > self.synced));
    }

    /// Lets somebody wait for a record that is not committed. False: a client found no place, and has to ask again later. One that waits for the
    /// record already stands in the lane once.
    pub fn after(&mut self, seq: Seq, waiter: CommitWaiter) -> bool {
        if let CommitWaiter::Client(key) = waiter {
            let room = self.waiting.len() < self.by_slot.len();
            match self.by_slot.get_mut(key.slot()) {
                Some(place) if *place == Some((seq, key)) => return true,
                Some(place) if room => *place = Some((seq, key)),
                _ => return false,
            }
        }
        // Nearly always at the end: whoever comes now waits for a record of now.
        let at = self.waiting.partition_point(|(other, _)| *other <= seq);
        self.waiting.insert(at, (seq, waiter));
        true
    }

    /// Takes out the next waiter whose record is committed. None while the outbox has no room for its answer.
    pub fn release(&mut self, out: &Outbox) -> Option<CommitWaiter> {
        self.is_due().then_some(()).filter(|()| out.has_room())?;
        let (seq, waiter) = self.waiting.pop_front()?;
        if let CommitWaiter::Client(key) = waiter {
            if let Some(place) = self.by_slot.get_mut(key.slot()).filter(|place| **place == Some((seq, key))) {
                *place = None;
            }
        }
        Some(waiter)
    }

    fn is_due(&self) -> bool {
        self.waiting.front().is_some_and(|(seq, _)| self.is_committed(*seq))
    }

    /// At once, while somebody is to be released.
    pub fn deadline(&self) -> Option<Instant> {
        self.is_due().then_some(Instant::ZERO)
    }
}

impl Ctx<'_> {
    /// Puts out a record of what happened; gives its number. None while too many others are not on disk yet, or the outbox is full: nothing
    /// may be promised then.
    pub fn record(&mut self, events: &[JournalEvent]) -> Option<Seq> {
        let mut line = Line::new(self.unix);
        if events.iter().all(|event| line.add(event)) { self.append(&line) } else { None }
    }

    /// The same with a line that is written already.
    pub fn append(&mut self, line: &Line) -> Option<Seq> {
        let seq = self.commit.append(line, self.out)?;
        self.stats.count(Counter::JournalRecord);
        Some(seq)
    }

    /// Puts out the record that begins a change of many numbers. Whoever waits for it waits for all of the change.
    pub fn begin_change(&mut self) -> Option<Seq> {
        let before = self.commit.written;
        let seq = self.record(&[JournalEvent::Change(Mark::Begins)])?;
        self.commit.change_begins(before);
        Some(seq)
    }

    /// Puts out the record that ends it.
    pub fn end_change(&mut self) -> Option<Seq> {
        let seq = self.record(&[JournalEvent::Change(Mark::Ends)])?;
        self.commit.change_ends();
        Some(seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::machine::Link;

    fn client(n: u64) -> CommitWaiter {
        CommitWaiter::Client(Key::from_u64(n))
    }

    fn operator(n: u64) -> CommitWaiter {
        CommitWaiter::Operator(ConnId::from_u64(n))
    }

    fn record(commit: &mut Commit) -> Seq {
        let mut line = Line::new(1);
        assert!(line.add(&JournalEvent::Change(Mark::Ends)) && line.add(&JournalEvent::Change(Mark::Ends)));
        commit.append(&line, &mut Outbox::new()).expect("there is room")
    }

    fn released(commit: &mut Commit) -> Vec<CommitWaiter> {
        let out = Outbox::new();
        std::iter::from_fn(|| commit.release(&out)).collect()
    }

    #[test]
    fn records_are_counted_and_committed_up_to_what_was_put_out() {
        let mut commit = Commit::new(4);
        assert!(commit.is_committed(Seq::NONE) && commit.next() == Some(Seq::new(1)));
        let first = record(&mut commit);
        assert_eq!((first, commit.awaited(first)), (Seq::new(1), Some(first)));
        commit.synced(Seq::new(7));
        assert!(commit.committed() == first && commit.awaited(first).is_none() && commit.pending() == 0);
        commit.synced(Seq::NONE);
        assert_eq!(commit.committed(), first, "it never goes back");
        for _ in 0..JOURNAL_PENDING {
            record(&mut commit);
        }
        assert_eq!((commit.next(), commit.events()), (None, 2 + 2 * JOURNAL_PENDING as u64));
        assert_eq!(commit.append(&Line::new(1), &mut Outbox::new()), None);
        commit.synced(first.next());
        assert_eq!(commit.append(&Line::new(1), &mut Outbox::none()), None, "a full outbox takes no record, which has no number then");
        assert_eq!(commit.pending(), JOURNAL_PENDING as u64 - 1);
    }

    #[test]
    fn waiters_leave_in_the_order_of_their_records() {
        let mut commit = Commit::new(8);
        let [first, second, third] = [(); 3].map(|()| record(&mut commit));
        for (seq, waiter) in [(second, client(1)), (third, operator(9)), (first, client(2)), (second, operator(8)), (first, client(3))] {
            assert!(commit.after(seq, waiter));
        }
        assert_eq!((released(&mut commit), commit.deadline()), (vec![], None));
        commit.synced(second);
        assert_eq!(commit.deadline(), Some(Instant::ZERO));
        assert_eq!(released(&mut commit), [client(2), client(3), client(1), operator(8)], "the same record: who came first");
        assert_eq!(commit.deadline(), None);
        commit.synced(third);
        assert_eq!(released(&mut commit), [operator(9)]);
    }

    #[test]
    fn a_full_outbox_holds_the_lane_up_and_loses_nobody() {
        let mut commit = Commit::new(8);
        let seq = record(&mut commit);
        (0..3).for_each(|n| assert!(commit.after(seq, client(n))));
        commit.synced(seq);
        let mut out = Outbox::new();
        assert_eq!(commit.release(&out), Some(client(0)));
        while out.has_room() {
            assert!(out.frame(Link::MIN, |_| Some(1000)));
        }
        assert_eq!((commit.release(&out), commit.deadline()), (None, Some(Instant::ZERO)), "it asks for another turn");
        out.clear();
        assert_eq!((commit.release(&out), commit.release(&out), commit.release(&out)), (Some(client(1)), Some(client(2)), None));
    }

    #[test]
    fn a_client_stands_in_the_lane_once_for_a_record_and_a_full_lane_refuses_clients_alone() {
        let mut commit = Commit::new(2);
        let [first, second] = [(); 2].map(|()| record(&mut commit));
        assert!(commit.after(first, client(0)) && commit.after(first, client(0)) && commit.after(second, client(0)));
        assert!(!commit.after(second, client(1)) && commit.after(second, client(0)));
        let held = commit.waiting.capacity();
        (0..CONNECTIONS as u64).for_each(|n| assert!(commit.after(second, operator(n))));
        assert_eq!(commit.waiting.capacity(), held, "nothing is allocated for as many operators as there may be");
        commit.synced(first);
        assert_eq!(released(&mut commit), [client(0)]);
        assert!(commit.after(second, client(0)));
        commit.synced(second);
        assert_eq!(released(&mut commit).len(), 1 + CONNECTIONS);
        let third = record(&mut commit);
        assert!(commit.after(third, client(1)) && commit.after(third, client(0)), "there is room again");
        assert!(!commit.after(third, client(2)), "the roll has no such record");
    }

    #[test]
    fn a_waiter_that_has_gone_leaves_its_slot_to_the_next() {
        let mut commit = Commit::new(2);
        let [first, second] = [(); 2].map(|()| record(&mut commit));
        let gone = client(0);
        let next = CommitWaiter::Client(Key::from_u64(1 << 32));
        assert!(commit.after(first, gone) && commit.after(first, next));
        commit.synced(first);
        assert_eq!(released(&mut commit), [gone, next], "a stale key, which names nobody, and the one that has its slot now");
        assert!(commit.after(second, next) && commit.after(second, next));
        commit.synced(second);
        assert_eq!(released(&mut commit), [next], "once");
    }

    #[test]
    fn a_change_of_many_is_committed_with_its_last_record() {
        let mut commit = Commit::new(8);
        let begins = |commit: &mut Commit| {
            let before = commit.written;
            let seq = record(commit);
            commit.change_begins(before);
            seq
        };
        let before = record(&mut commit);
        let first = begins(&mut commit);
        let other = record(&mut commit);
        let waiters = [(other, client(2)), (first, operator(1)), (before, client(1))];
        waiters.into_iter().for_each(|(seq, waiter)| assert!(commit.after(seq, waiter)));
        commit.synced(other);
        assert!(commit.is_changing() && [before, first, other].map(|seq| commit.is_committed(seq)) == [true, false, false]);
        assert_eq!(released(&mut commit), [client(1)], "what came before it waits for none of it");
        let last = record(&mut commit);
        commit.change_ends();
        assert!(!commit.is_changing() && !commit.is_committed(first));
        // Another begins before this one is on disk.
        let second = begins(&mut commit);
        assert!(commit.after(second, operator(2)));
        commit.synced(last);
        assert!(commit.is_changing() && !commit.is_committed(first) && commit.is_committed(before));
        assert_eq!((released(&mut commit), commit.deadline()), (vec![], None));
        let end = record(&mut commit);
        commit.change_ends();
        commit.synced(end);
        assert!([first, other, last, second, end].into_iter().all(|seq| commit.is_committed(seq)));
        assert_eq!(released(&mut commit), [operator(1), client(2), operator(2)]);
        assert_eq!(commit.changes(), 2);
    }
}
