//! What the readers do for the files: looks at paths, pages and pieces that are not in memory, and the end of files.
//!
//! Jobs are done in the order in which they came, each by a reader that has nothing to do; a file has one at a time, so one that hangs
//! takes one reader. A folder of the root may be a file system of its own, whose server hangs: all files of one such folder take
//! [`FOLDER_READERS`] at most, and what else is wanted of it waits without holding up others.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use crate::base::machine::{FileId, OpenError};
use crate::base::time::Instant;

use super::super::ShellError;
use super::super::work::beneath::{FileVersion, How, Reach};
use super::super::work::message::{Op, WorkAnswer, WorkOutcome, WorkWords};
use super::super::work::{READERS, SLOW, Worker};
use super::looks::Folder;
use super::store::PIECE;
use super::{COLD_MAX, FILE_NAME_MAX, FileEntry, Files, READ_AHEAD, entry_of, place_of};

/// Pages of a near file that are read at a time, whoever wants one of them.
const WARM: u64 = 256 << 10;
/// Pieces of a far file that are fetched before somebody wants them.
const PIECES_AHEAD: u64 = 4;

/// Readers that the files of one folder of the root may have at a time.
const FOLDER_READERS: usize = READERS / 2;

/// What there is to do.
pub enum Job {
    /// A look, by its number.
    Look(u16),
    /// Whatever the file in this place wants.
    File(usize),
    /// Close a file, which may wait as well. It was in this folder.
    Bury(OwnedFd, Folder),
}

/// A transfer that waits for bytes of a file.
pub struct Cold {
    token: u64,
    pub file: FileId,
    offset: u64,
    bytes: usize,
}

#[derive(Clone, Copy)]
enum Doing {
    Nothing,
    Look { look: u16, known: Option<FileId>, epoch: u32 },
    Warm { file: FileId, from: u64, to: u64 },
    Fetch { file: FileId, place: usize, piece: u64 },
    State { file: FileId },
    Bury,
}

pub struct Reader {
    worker: Worker,
    doing: Doing,
    /// Of what it does, or did last.
    folder: Folder,
    /// The far file that it has open.
    last: Option<FileId>,
}

impl Reader {
    pub fn new(mut worker: Worker) -> io::Result<Reader> {
        worker.join_loop()?;
        Ok(Reader { worker, doing: Doing::Nothing, folder: Folder::ROOT, last: None })
    }
}

impl FileEntry {
    fn queue(&mut self, at: usize, jobs: &mut VecDeque<Job>) {
        if !self.busy && !std::mem::replace(&mut self.queued, true) {
            jobs.push_back(Job::File(at));
        }
    }
}

fn words(all: &[u64]) -> WorkWords {
    let mut words = WorkWords::default();
    words.iter_mut().zip(all).for_each(|(to, word)| *to = *word);
    words
}

impl Files {
    /// What is to be watched, one after the other.
    pub fn fds(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.readers.iter().map(|reader| reader.worker.fd().as_raw_fd())
    }

    /// The kernel says that one of them has something.
    pub fn event(&mut self, at: usize) {
        self.readers.iter_mut().skip(at).take(1).for_each(|reader| reader.worker.event());
    }

    /// Why it cannot go on.
    pub fn death(&self) -> Option<ShellError> {
        self.readers.iter().find_map(|reader| reader.worker.death())
    }

    /// Whether somebody waits, so that it is to be looked at each half second.
    pub fn is_waiting(&self) -> bool {
        self.readers.iter().any(|reader| !reader.worker.is_idle())
    }

    /// Once a turn: takes what the readers have done, and gives them more to do.
    pub fn turn(&mut self, now: Instant) {
        self.now = now;
        for at in 0..self.readers.len() {
            while self.readers[at].worker.is_ready() {
                self.take(at);
            }
        }
        while let Some(look) = self.next_overdue() {
            let Some(place) = self.known(self.looks.path(look)) else { continue };
            self.hold(look, place, false);
        }
        self.dispatch();
        for at in 0..self.readers.len() {
            self.tell_slow(at);
        }
    }

    /// A look that takes too long, of whose path something was known.
    fn next_overdue(&self) -> Option<u16> {
        self.looks.overdue(self.now).find(|look| self.known(self.looks.path(*look)).is_some())
    }

    fn tell_slow(&mut self, at: usize) {
        let worker = &mut self.readers[at].worker;
        if worker.hangs(self.now) && self.log_limit.allow(self.now).is_some() {
            log::error!(
                "boot files: a disk or server has not answered for {} s (check it; requests for its files that are not in memory wait)",
                SLOW.as_secs()
            );
        }
        if worker.recovers() && !self.readers.iter().any(|reader| reader.worker.is_told()) {
            log::info!("boot files: the disk or server answers again");
        }
    }

    /// Waits for bytes of a file that are not in memory.
    pub fn wait(&mut self, token: u64, file: FileId, offset: u64, bytes: usize) {
        let cold = Cold { token, file, offset, bytes };
        let room = self.cold.len() < COLD_MAX;
        match self.cold.iter_mut().find(|cold| cold.token == token) {
            Some(place) => *place = cold,
            None if room => self.cold.push_back(cold),
            None => return,
        }
        if let Some(entry) = entry_of(&mut self.places, file) {
            entry.queue(place_of(file), &mut self.jobs);
        }
    }

    /// Tells those who wait for these bytes of a file to try again.
    fn wake(&mut self, file: FileId, from: u64, to: u64) {
        let warm = &mut self.warm;
        self.cold.retain(|cold| {
            let end = cold.offset + cold.bytes as u64;
            let there = cold.file == file && cold.offset < to && end.max(cold.offset + 1) > from;
            if there && warm.len() < COLD_MAX {
                warm.push_back(cold.token);
            }
            !there
        });
    }

    /// Asks the disk of a near file for what comes next, unless it has been asked for already.
    pub(super) fn ask_ahead(&mut self, file: FileId, offset: u64) {
        let Some(entry) = entry_of(&mut self.places, file) else { return };
        let wanted = (offset + READ_AHEAD / 2).min(entry.size());
        if entry.reach == Reach::Near && entry.asked < wanted {
            let from = entry.asked.max(offset);
            (entry.ahead, entry.asked) = (Some(from), from + READ_AHEAD);
            entry.queue(place_of(file), &mut self.jobs);
        }
    }

    /// Has what comes next of a far file fetched.
    pub(super) fn fetch_ahead(&mut self, file: FileId, offset: u64) {
        let (Some(entry), Some(store)) = (entry_of(&mut self.places, file), self.store.as_ref()) else { return };
        let left = entry.size().saturating_sub(offset).min(PIECES_AHEAD * PIECE as u64);
        entry.ahead = store.missing(file, offset, left as usize);
        if entry.ahead.is_some() || entry.due {
            entry.queue(place_of(file), &mut self.jobs);
        }
    }

    /// Gives jobs to readers that have nothing to do.
    pub fn dispatch(&mut self) {
        // Jobs before this one wait for a reader of their folder.
        let mut next = 0;
        while let Some(job) = self.jobs.get(next) {
            let Some(at) = self.readers.iter().position(|reader| reader.worker.is_idle()) else { return };
            let folder = self.folder(job);
            let busy = |reader: &&Reader| !reader.worker.is_idle() && reader.folder == folder;
            if self.readers.iter().filter(busy).count() >= FOLDER_READERS {
                next += 1;
                continue;
            }
            match self.jobs.remove(next) {
                None => return,
                Some(Job::Look(look)) => self.look(at, look),
                Some(Job::File(place)) => self.work_on(at, place),
                Some(Job::Bury(fd, folder)) => self.bury(at, fd, folder),
            }
        }
    }

    fn folder(&self, job: &Job) -> Folder {
        match job {
            Job::Look(look) => self.looks.folder(*look),
            Job::File(place) => self.places[*place].entry.as_ref().map_or(Folder::ROOT, |entry| entry.folder),
            Job::Bury(_, folder) => *folder,
        }
    }

    fn look(&mut self, at: usize, look: u16) {
        let path = self.looks.path(look);
        let known = self.known(path);
        let file = known.map(|at| self.id(at));
        let stamp = known.and_then(|at| self.places[at].entry.as_ref()).map_or(FileVersion::default(), |entry| entry.stamp);
        let [dev, ino, size, seconds, nanos] = stamp.words();
        let walk = u64::from(self.root.how != How::Openat2);
        let reader = &mut self.readers[at];
        reader.worker.ask(self.now, Op::Look, words(&[dev, ino, size, seconds, nanos, walk]), path, &[self.root.fd.as_fd()]);
        (reader.doing, reader.folder) = (Doing::Look { look, known: file, epoch: self.epoch }, self.looks.folder(look));
    }

    fn bury(&mut self, at: usize, fd: OwnedFd, folder: Folder) {
        let reader = &mut self.readers[at];
        reader.worker.tell(Op::Close, &[fd.as_fd()]);
        // Not the last copy: nothing is ended by this.
        drop(fd);
        reader.worker.ask(self.now, Op::Bury, WorkWords::default(), &[], &[]);
        (reader.doing, reader.folder) = (Doing::Bury, folder);
    }

    /// Has done what a file wants most.
    fn work_on(&mut self, at: usize, place: usize) {
        let file = self.id(place);
        let Some(entry) = self.places[place].entry.as_mut() else { return };
        entry.queued = false;
        if entry.stale {
            self.wake(file, 0, u64::MAX);
            return self.tidy(file);
        }
        if entry.busy {
            return;
        }
        if entry.is_far() { self.work_on_far(at, file) } else { self.work_on_near(at, file) }
    }

    fn work_on_near(&mut self, at: usize, file: FileId) {
        let Some(entry) = entry_of(&mut self.places, file) else { return };
        let wanted = self.cold.iter().find(|cold| cold.file == file);
        let (from, to, ahead) = match (wanted, entry.ahead.take()) {
            (Some(cold), _) => (cold.offset, entry.size().min(cold.offset + WARM.max(cold.bytes as u64)).max(cold.offset), READ_AHEAD),
            (None, Some(from)) => (from, from, READ_AHEAD),
            (None, None) => return,
        };
        entry.asked = if wanted.is_some() { from + READ_AHEAD } else { entry.asked };
        entry.busy = true;
        let reader = &mut self.readers[at];
        reader.worker.ask(self.now, Op::Warm, words(&[from, to - from, ahead]), &[], &[entry.fd.as_fd()]);
        (reader.doing, reader.folder) = (Doing::Warm { file, from, to }, entry.folder);
    }

    fn work_on_far(&mut self, at: usize, file: FileId) {
        let now = self.now;
        let (Some(entry), Some(store)) = (entry_of(&mut self.places, file), self.store.as_mut()) else { return };
        let missing = |cold: &Cold| store.missing(file, cold.offset, cold.bytes);
        let wanted = self.cold.iter().filter(|cold| cold.file == file).find_map(missing);
        let size = entry.size();
        let due = std::mem::take(&mut entry.due);
        let ahead = entry.ahead.take();
        let piece = wanted.or(ahead.filter(|_| !due));
        let Some((piece, place)) = piece.and_then(|piece| store.reserve(file, piece).map(|place| (piece, place))) else {
            if due {
                entry.busy = true;
                let reader = &mut self.readers[at];
                reader.worker.ask(now, Op::State, WorkWords::default(), &[], &[entry.fd.as_fd()]);
                (reader.doing, reader.folder) = (Doing::State { file }, entry.folder);
            } else {
                self.wake_served(file);
            }
            return;
        };
        entry.busy = true;
        let offset = piece * PIECE as u64;
        let len = size.saturating_sub(offset).min(PIECE as u64);
        // One that has it open already is quicker.
        let idle = |reader: &Reader| reader.worker.is_idle() && reader.last == Some(file);
        let at = self.readers.iter().position(idle).unwrap_or(at);
        let reader = &mut self.readers[at];
        reader.worker.ask(now, Op::Fetch, words(&[file.to_u64(), offset, len]), &[], &[entry.fd.as_fd()]);
        (reader.doing, reader.folder, reader.last) = (Doing::Fetch { file, place, piece }, entry.folder, Some(file));
    }

    /// Takes one answer of a reader, if there is one.
    fn take(&mut self, at: usize) {
        let reader = &mut self.readers[at];
        let room = match (reader.doing, self.store.as_mut()) {
            (Doing::Fetch { place, .. }, Some(store)) => store.room(place),
            _ => &mut [],
        };
        let Some(answer) = reader.worker.take(room) else { return };
        match std::mem::replace(&mut reader.doing, Doing::Nothing) {
            Doing::Nothing | Doing::Bury => {}
            Doing::Look { look, known, epoch } => self.looked(look, known, epoch, answer),
            Doing::Warm { file, from, to } => {
                if let (WorkOutcome::Failed(error), Some(entry)) = (&answer.outcome, entry_of(&mut self.places, file)) {
                    entry.fails(error, self.trouble.allow(self.now));
                }
                self.wake(file, from, to);
                self.free(file);
            }
            Doing::Fetch { file, place, piece } => self.fetched(file, (place, piece), answer),
            Doing::State { file } => {
                self.compare(file, &answer);
                self.free(file);
            }
        }
    }

    /// Compares a far file with what a reader has seen of it.
    fn compare(&mut self, file: FileId, answer: &WorkAnswer) -> bool {
        let now = self.now;
        let Some(entry) = entry_of(&mut self.places, file) else { return false };
        match &answer.outcome {
            WorkOutcome::Done if FileVersion::of(&answer.words) == entry.stamp => entry.stamped = now,
            WorkOutcome::Failed(error) if !entry.stale => drop(entry.fails(error, self.trouble.allow(now))),
            _ => entry.stale = true,
        }
        !entry.stale
    }

    fn fetched(&mut self, file: FileId, (place, piece): (usize, u64), answer: WorkAnswer) {
        let mut good = self.compare(file, &answer);
        let from = piece * PIECE as u64;
        if let Some(entry) = entry_of(&mut self.places, file).filter(|_| good) {
            let len = entry.size().saturating_sub(from).min(PIECE as u64);
            if answer.len as u64 != len {
                entry.ends_early(self.trouble.allow(self.now));
                good = false;
            }
        }
        self.store.iter_mut().for_each(|store| store.filled(place, good));
        self.wake_served(file);
        self.free(file);
    }

    /// Tells those whose bytes of a far file are all there.
    fn wake_served(&mut self, file: FileId) {
        let (Some(store), warm) = (self.store.as_ref(), &mut self.warm) else { return };
        self.cold.retain(|cold| {
            let there = cold.file == file && store.missing(file, cold.offset, cold.bytes).is_none();
            if there && warm.len() < COLD_MAX {
                warm.push_back(cold.token);
            }
            !there
        });
    }

    /// A reader has done its work for a file: what it wants next is the next job.
    fn free(&mut self, file: FileId) {
        let wanted = self.cold.iter().any(|cold| cold.file == file);
        let Some(entry) = entry_of(&mut self.places, file) else { return };
        entry.busy = false;
        if wanted || entry.ahead.is_some() || entry.due || entry.stale {
            entry.queue(place_of(file), &mut self.jobs);
        }
    }

    fn looked(&mut self, look: u16, known: Option<FileId>, epoch: u32, mut answer: WorkAnswer) {
        let (file, folder) = (answer.files[0].take(), self.looks.folder(look));
        if epoch != self.epoch {
            // It was beneath another root.
            file.into_iter().for_each(|fd| self.jobs.push_front(Job::Bury(fd, folder)));
            return self.jobs.push_back(Job::Look(look));
        }
        match (answer.outcome, file) {
            (WorkOutcome::Done, Some(fd)) => self.opened(look, fd, FileVersion::of(&answer.words), Reach::of(answer.words[5])),
            (WorkOutcome::Done, None) => {
                // The path shows what it showed.
                match known.filter(|file| self.entry(*file).is_some_and(FileEntry::is_unchanged)) {
                    Some(file) => self.settle(look, place_of(file)),
                    None => self.jobs.push_back(Job::Look(look)),
                }
            }
            (WorkOutcome::Failed(error), _) => {
                let refusal = self.refusal(&error);
                self.refuse(look, refusal);
            }
            (WorkOutcome::Refused, _) => self.refuse(look, OpenError::Failed),
        }
    }

    fn refuse(&mut self, look: u16, refusal: OpenError) {
        if let Some(before) = self.looks.found(look, Err(refusal), true) {
            self.release(before);
        }
    }

    /// A look has opened a file: it has a place by now, or gets one.
    fn opened(&mut self, look: u16, fd: OwnedFd, stamp: FileVersion, reach: Reach) {
        if let Some(at) = self.position(|entry| !entry.stale && entry.stamp == stamp) {
            self.jobs.push_front(Job::Bury(fd, self.looks.folder(look)));
            return self.settle(look, at);
        }
        // The same inode with another stamp was changed in place: its running transfers find that out when they read.
        let same_inode = |entry: &FileEntry| (entry.stamp.dev, entry.stamp.ino) == (stamp.dev, stamp.ino);
        for entry in self.places.iter_mut().filter_map(|place| place.entry.as_mut()).filter(|entry| same_inode(entry)) {
            entry.stale = true;
        }
        let Some(at) = self.vacate() else {
            self.jobs.push_front(Job::Bury(fd, self.looks.folder(look)));
            return self.refuse(look, OpenError::Busy);
        };
        if reach == Reach::Far {
            self.have_store();
        }
        let place = &mut self.places[at];
        place.generation = place.generation.wrapping_add(1);
        place.entry = Some(FileEntry {
            fd,
            reach,
            stamp,
            users: 0,
            stale: false,
            path: [0; FILE_NAME_MAX],
            path_len: 0,
            folder: self.looks.folder(look),
            looked: self.now,
            used: self.now,
            asked: 0,
            ahead: None,
            touched: false,
            stamped: self.now,
            due: false,
            busy: false,
            queued: false,
        });
        self.cache.forget(|file| place_of(file) == at);
        self.store.iter_mut().for_each(|store| store.forget(|file| place_of(file) == at));
        self.settle(look, at);
    }

    /// A look has come to a place.
    fn settle(&mut self, look: u16, at: usize) {
        let path = self.looks.path(look);
        if let Some(entry) = self.places[at].entry.as_mut() {
            entry.path = [0; FILE_NAME_MAX];
            if let Some(to) = entry.path.get_mut(..path.len()) {
                to.copy_from_slice(path);
                entry.path_len = path.len();
                entry.folder = self.looks.folder(look);
            }
            (entry.looked, entry.stamped) = (self.now, self.now);
        }
        self.hold(look, at, true);
    }

    /// Holds a file for those who wait for a look.
    fn hold(&mut self, look: u16, at: usize, over: bool) {
        let file = self.id(at);
        if let Some(entry) = self.places[at].entry.as_mut() {
            entry.users += 1;
            entry.used = self.now;
        }
        if let Some(before) = self.looks.found(look, Ok(file), over) {
            self.release(before);
        }
    }

    fn refusal(&mut self, error: &io::Error) -> OpenError {
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG | libc::ELOOP) => OpenError::NotFound,
            Some(libc::EXDEV) => OpenError::Outside,
            Some(libc::EACCES | libc::EPERM) => OpenError::Denied,
            // A socket cannot be opened, a device may have no driver.
            Some(libc::ENXIO | libc::ENODEV | libc::EISDIR) => OpenError::NotAFile,
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN) => OpenError::Busy,
            _ => {
                if let Some(more) = self.trouble.allow(self.now) {
                    log::error!("boot files: cannot open one: {error} (check the disk{more})");
                }
                OpenError::Failed
            }
        }
    }
}
