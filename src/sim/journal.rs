//! The journal's file on a modelled disk: what was not synced may be lost when the power goes, all of it or from some line on, the first
//! lost one torn. (A file grows in order on the file systems that are supported: data before size.)

use std::time::Duration;

use crate::base::machine::Seq;
use crate::base::outbox::JournalOp;
use crate::base::rng::Rng;
use crate::roll::journal;

/// A file: lines that are on disk, and lines that are in the kernel's memory alone.
#[derive(Clone, Debug, Default)]
struct SimFile {
    durable: Vec<String>,
    page: Vec<String>,
}

/// What the disk is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DiskWork {
    No,
    /// Syncing so many of the page's lines; the last record among all that were put out by then.
    Syncing {
        lines: usize,
        seq: Seq,
    },
    /// Syncing the new file of so many lines, and putting it into the place of the old one.
    Replacing {
        lines: usize,
        seq: Seq,
    },
}

pub struct SimJournal {
    file: SimFile,
    /// The new file of a compaction; whole once it has its end.
    next: Option<(SimFile, bool)>,
    written: Seq,
    busy: DiskWork,
    /// Somebody took the file away: nothing is on disk before it is rewritten.
    gone: bool,
    /// The disk does nothing by itself.
    held: bool,
    latency: Duration,
    rng: Rng,
}

impl SimJournal {
    /// A sync takes up to four times `latency`, and at least a tenth of a millisecond.
    pub fn new(latency: Duration, rng: Rng) -> SimJournal {
        SimJournal { file: SimFile::default(), next: None, written: Seq::NONE, busy: DiskWork::No, gone: false, held: false, latency, rng }
    }

    /// The disk does nothing by itself from now on: `done` is called when a test wants it.
    pub fn hold(&mut self) {
        assert!(!self.is_busy(), "a disk that is at work goes on");
        self.held = true;
    }

    pub fn is_held(&self) -> bool {
        self.held
    }

    /// The disk was asked to do something.
    pub fn is_busy(&self) -> bool {
        self.busy != DiskWork::No
    }

    /// How long the disk needs for what it begins now; None: until a test lets it.
    pub fn delay(&mut self) -> Option<Duration> {
        let time = || Duration::from_micros(100 + self.rng.below(1 + 4 * self.latency.as_micros() as u64));
        (!self.held).then(time)
    }

    /// True when the disk begins to work: `done` is to be called after `delay`.
    pub fn act(&mut self, op: JournalOp<'_>) -> bool {
        let text = |line: &[u8]| String::from_utf8_lossy(line).into_owned();
        match op {
            JournalOp::Append { seq, line } => {
                assert_eq!(seq, self.written.next(), "records are numbered without a gap");
                self.written = seq;
                self.file.page.push(text(line));
                if let Some((next, _)) = &mut self.next {
                    next.page.push(text(line));
                }
            }
            JournalOp::CompactBegin => {
                assert!(self.next.as_ref().is_none_or(|(_, whole)| !whole), "a compaction that has ended is waited for");
                self.next = Some((SimFile::default(), false));
            }
            JournalOp::CompactLine { line } => self.next.as_mut().expect("a compaction has begun").0.page.push(text(line)),
            JournalOp::CompactEnd => self.next.as_mut().expect("a compaction has begun").1 = true,
        }
        self.begin()
    }

    fn begin(&mut self) -> bool {
        if self.is_busy() {
            return false;
        }
        self.busy = match &self.next {
            Some((next, true)) => DiskWork::Replacing { lines: next.page.len(), seq: self.written },
            _ if self.file.page.is_empty() || self.gone => DiskWork::No,
            _ => DiskWork::Syncing { lines: self.file.page.len(), seq: self.written },
        };
        self.is_busy()
    }

    /// The disk has done it: gives the last record that is on disk, whether a new file is in its place, and whether the disk goes on at once.
    pub fn done(&mut self) -> (Seq, bool, bool) {
        let placed = matches!(self.busy, DiskWork::Replacing { .. });
        let (lines, seq) = match self.busy {
            DiskWork::No => unreachable!("the disk does nothing unasked"),
            DiskWork::Syncing { lines, seq } => (lines, seq),
            DiskWork::Replacing { lines, seq } => {
                (self.file, self.gone) = (self.next.take().expect("there is a new file").0, false);
                (lines, seq)
            }
        };
        self.file.durable.extend(self.file.page.drain(..lines));
        self.busy = DiskWork::No;
        (seq, placed, self.begin())
    }

    /// Somebody takes the file away while the disk does nothing. False: it is at work.
    pub fn take_away(&mut self) -> bool {
        self.gone |= !self.is_busy();
        !self.is_busy()
    }

    pub fn is_gone(&self) -> bool {
        self.gone
    }

    /// The lines of the file, on disk or not.
    pub fn lines(&self) -> Vec<String> {
        self.file.durable.iter().chain(&self.file.page).cloned().collect()
    }

    /// The power goes, or the daemon: gives the lines that the next one finds, a torn one cut, and so is a change that does not end.
    pub fn crash(&mut self) -> Vec<String> {
        if let (DiskWork::Replacing { .. }, true, Some((next, _))) = (self.busy, self.rng.chance(500_000), self.next.take()) {
            // The new file took its place, and nobody was told.
            self.file = next;
            self.file.durable.append(&mut self.file.page);
        }
        let left = self.rng.below(self.file.page.len() as u64 + 1) as usize;
        self.file.durable.extend(self.file.page.drain(..).take(left));
        let whole = journal::whole(&self.file.durable);
        self.file.durable.truncate(whole);
        (self.next, self.busy, self.written) = (None, DiskWork::No, Seq::NONE);
        self.file.durable.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(journal: &mut SimJournal, seq: u64) -> bool {
        journal.act(JournalOp::Append { seq: Seq::new(seq), line: seq.to_string().as_bytes() })
    }

    #[test]
    fn what_was_synced_outlives_every_crash() {
        for seed in 0..200 {
            let mut journal = SimJournal::new(Duration::ZERO, Rng::new(seed));
            assert!(append(&mut journal, 1) && !append(&mut journal, 2));
            assert_eq!(journal.done(), (Seq::new(1), false, true));
            append(&mut journal, 3);
            assert_eq!(journal.done(), (Seq::new(2), false, true));
            let found = journal.crash();
            assert!(found.len() >= 2 && found.iter().zip(["1", "2", "3"]).all(|(line, seq)| line == seq), "{found:?}");
        }
    }

    #[test]
    fn a_new_file_takes_the_place_of_the_old_whole_or_not_at_all() {
        let mut seen = [false; 2];
        for seed in 0..100 {
            let mut journal = SimJournal::new(Duration::ZERO, Rng::new(seed));
            append(&mut journal, 1);
            journal.done();
            journal.act(JournalOp::CompactBegin);
            journal.act(JournalOp::CompactLine { line: b"all" });
            assert!(append(&mut journal, 2));
            assert!(!journal.act(JournalOp::CompactEnd));
            assert_eq!(journal.done(), (Seq::new(2), false, true), "the old file knew of the record before the new one was there");
            let found = journal.crash();
            seen[usize::from(found == ["all", "2"])] = true;
            assert!(found == ["1", "2"] || found == ["all", "2"], "{found:?}");
        }
        assert_eq!(seen, [true; 2]);
    }
}
