//! The journal's file: lines in, "up to here it is on disk" out, and nobody waits for the disk.
//!
//! Lines gather in a fixed buffer. Once a turn, while no sync is under way, all of them are written with one call and a sync is begun (Linux AIO);
//! a line leaves the buffer when it is on disk. A disk that is full, read-only or broken is tried again every second with the same lines: they are
//! never told to be on disk before they are. After a failed sync the kernel may have forgotten what it was given, so that everything since the
//! last good one is cut off and written again.
//!
//! A journal that is written anew goes to `journal.new`; records that come meanwhile are in it too. When it is whole it is synced, renamed over
//! the old one, and the folder is synced, each without waiting for the disk (the rename itself touches memory alone on the usual file systems). Lines
//! that come after its sync has begun wait in the buffer for the new file.
//!
//! A disk that is read-only at start is no reason not to serve: known nodes need none. It is tried again like any that fails. Lines that an earlier
//! daemon could not put there are not read back from the kernel's memory ([`unsure`]).
//!
//! The folder is locked, so that no second daemon writes here. Where the kernel has no AIO the sync is waited for, which is said at start.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::base::limits::{JOURNAL_LINE_MAX, JOURNAL_PENDING};
use crate::base::muffle::Muffle;
use crate::base::outbox::JournalOp;
use crate::base::time::Instant;
use crate::roll::journal::{self, Check, check};

use super::Error;
use super::sys::aio::Aio;
use unsure::Unsure;

mod unsure;

const NAME: &str = "journal";
const NEW: &str = "journal.new";
/// Larger ones are refused: no cluster writes as much before it is written anew.
const SIZE_MAX: u64 = 256 << 20;
/// Lines of a new file that are gathered before they are written.
const PIECE: usize = 64 << 10;
/// Between two tries on a disk that fails.
pub const RETRY: Duration = Duration::from_secs(1);

/// Of a disk that fails.
const CONSEQUENCE: &str = "known nodes boot as ever, new machines wait until it can be written: see to the disk";

/// What the disk is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Busy {
    No,
    /// So many bytes of the buffer, which end with this record.
    Syncing {
        bytes: usize,
        seq: u64,
    },
    /// The new file, which holds everything up to this record.
    Placing {
        bytes: usize,
        seq: u64,
    },
    /// The folder, in which the new file has the journal's name.
    Folder {
        bytes: usize,
        seq: u64,
    },
}

/// A file that is written anew.
struct Next {
    file: File,
    piece: Vec<u8>,
    /// Its last line has come.
    whole: bool,
}

/// What the machine is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Synced(u64),
    Rewritten,
}

pub struct Journal {
    path: PathBuf,
    folder: Flock<File>,
    file: File,
    /// The file's length up to where it is on disk.
    durable: u64,
    /// Lines that are not known to be on disk; the first `written` bytes are in the file behind `durable`.
    buffer: Vec<u8>,
    written: usize,
    /// The last record in the buffer.
    last: u64,
    busy: Busy,
    aio: Option<Aio>,
    next: Option<Next>,
    retry_at: Option<Instant>,
    muffle: Muffle,
    /// The machine waits to be told that its rewriting is over.
    rewritten: bool,
    /// The new file bears the journal's name, but its folder could not be synced.
    unsettled: Option<(usize, u64)>,
    unsure: Unsure,
    /// The file could be opened for reading alone: its disk is read-only.
    sealed: bool,
}

/// Opens the journal in a folder, which is made if its parent is there; gives its lines, all of which can be relied on.
/// `run` is where a note on it is left that does not outlive the machine's memory.
pub fn open(folder: &Path, run: &Path) -> Result<(Journal, Vec<String>), Error> {
    let path = folder.join(NAME);
    let failed = |what: &str, error| cannot(what, &path, error);
    let locked = lock(folder)?;
    let (mut file, sealed) = open_file(&path).map_err(|error| failed("open", error))?;
    let _ = std::fs::remove_file(folder.join(NEW));
    let unsure = Unsure::new(run);
    let (lines, whole) = load(&mut file, &path, &unsure)?;
    let settled = if sealed { Err(Errno::EROFS.into()) } else { settle(&file, &locked, whole) };
    let sealed = match settled {
        Err(error) if is_read_only(&error) => {
            log::error!("cannot write {}: {error}; {CONSEQUENCE}", path.display());
            true
        }
        settled => settled.map(|()| false).map_err(|error| failed("cut and sync", error))?,
    };
    let aio = Aio::new()
        .map_err(|error| log::warn!("this kernel has no asynchronous sync ({error}): the loop waits for the journal's disk"))
        .ok();
    let journal = Journal {
        path,
        folder: locked,
        file,
        durable: whole,
        buffer: Vec::with_capacity(JOURNAL_PENDING * JOURNAL_LINE_MAX),
        written: 0,
        last: 0,
        busy: Busy::No,
        aio,
        next: None,
        // That it can be written again is told then.
        retry_at: sealed.then_some(Instant::ZERO),
        muffle: Muffle::default(),
        rewritten: false,
        unsettled: None,
        unsure,
        sealed,
    };
    Ok((journal, lines))
}

fn cannot(what: &str, path: &Path, error: io::Error) -> Error {
    let remedy = "see that the folder is there and may be written, or choose another with --state-dir";
    Error::system(format_args!("cannot {what} {}", path.display()), error, remedy)
}

/// The folder, made if its parent is there, for one daemon alone.
fn lock(folder: &Path) -> Result<Flock<File>, Error> {
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(cannot("make the folder", folder, error)),
        // Whatever the umask is: every program reads the names there.
        Ok(()) => std::fs::set_permissions(folder, Permissions::from_mode(0o755)).map_err(|error| cannot("open", folder, error))?,
    }
    let opened = File::open(folder).map_err(|error| cannot("open the folder", folder, error))?;
    Flock::lock(opened, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => Error::new(format!(
            "another musterd keeps its journal in {}: stop it first, or choose another folder with --state-dir",
            folder.display()
        )),
        errno => cannot("lock the folder", folder, errno.into()),
    })
}

/// The lines that can be relied on, and how many bytes they are. What follows them is told of here, and cut off later.
fn load(file: &mut File, path: &Path, unsure: &Unsure) -> Result<(Vec<String>, u64), Error> {
    let size = file.metadata().map_err(|error| cannot("read", path, error))?.len();
    if size > SIZE_MAX {
        return Err(Error::new(format!(
            "{} is {} MiB long, which no journal is: move it away, or cut it by hand",
            path.display(),
            size >> 20
        )));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|error| cannot("read", path, error))?;
    if let Some(reliable) = unsure.reliable(file).filter(|reliable| *reliable < bytes.len() as u64) {
        log::warn!(
            "{}: what stands behind byte {reliable} never came to its disk, and nobody was promised it: it is cut off",
            path.display()
        );
        bytes.truncate(reliable as usize);
    }
    let (mut lines, mut whole) = read(path, &bytes)?;
    if whole < bytes.len() {
        let lost = String::from_utf8_lossy(bytes.get(whole..).unwrap_or_default());
        log::warn!(
            "{} ends in the middle of a line, which nobody was promised and which is cut off: {:?}",
            path.display(),
            lost.trim_end()
        );
    }
    let unfinished = lines.split_off(journal::whole(&lines));
    if !unfinished.is_empty() {
        whole -= unfinished.iter().map(|line| line.len() + 1).sum::<usize>();
        log::warn!(
            "{} ends in the middle of a change of many numbers, which nobody was told of: none of it is done, and its {} lines are cut off",
            path.display(),
            unfinished.len()
        );
    }
    Ok((lines, whole as u64))
}

/// The file, and whether it is on a disk that cannot be written.
fn open_file(path: &Path) -> io::Result<(File, bool)> {
    match OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o644).open(path) {
        Err(error) if is_read_only(&error) => File::open(path).map(|file| (file, true)).map_err(|_| error),
        opened => opened.map(|file| (file, false)),
    }
}

fn is_read_only(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EROFS as i32)
}

/// Cuts the file to its whole lines, and puts it and its name on disk.
fn settle(file: &File, folder: &File, whole: u64) -> io::Result<()> {
    if file.metadata()?.len() > whole {
        file.set_len(whole)?;
    }
    file.sync_all().and_then(|()| folder.sync_all())
}

/// The lines of a journal and how many of its bytes they are: a tail that is no whole good line is none.
fn read(path: &Path, bytes: &[u8]) -> Result<(Vec<String>, usize), Error> {
    let (mut lines, mut whole) = (Vec::new(), 0);
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let (line, tail) = (rest.get(..end).unwrap_or_default(), rest.get(end + 1..).unwrap_or_default());
        match std::str::from_utf8(line).ok().filter(|line| check(line) != Check::Bad) {
            Some(line) => lines.push(line.to_string()),
            None if tail.iter().all(|&byte| byte == 0) => break,
            None => {
                return Err(Error::new(format!(
                    "line {} of {} is damaged: see whether its neighbours tell what it said, then mend it (without its ~checksum) or take it out",
                    lines.len() + 1,
                    path.display()
                )));
            }
        }
        whole += end + 1;
        rest = tail;
    }
    Ok((lines, whole))
}

impl Journal {
    /// Readable when the disk has done something.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.aio.as_ref().map(Aio::fd)
    }

    /// Nothing waits for the disk.
    pub fn is_idle(&self) -> bool {
        self.busy == Busy::No && self.buffer.is_empty() && self.next.is_none()
    }

    /// The disk fails: it is to be tried again soon.
    pub fn is_failing(&self) -> bool {
        self.retry_at.is_some()
    }

    pub fn act(&mut self, op: JournalOp<'_>) {
        match op {
            JournalOp::Append { seq, line } => {
                // The machine puts out no more than fits.
                put(&mut self.buffer, line);
                self.last = seq;
                if !matches!(self.busy, Busy::Placing { .. } | Busy::Folder { .. }) {
                    self.put_next(line);
                }
            }
            JournalOp::RewriteBegin => {
                match OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(self.path.with_file_name(NEW)) {
                    Ok(file) => self.next = Some(Next { file, piece: Vec::with_capacity(PIECE + JOURNAL_LINE_MAX), whole: false }),
                    Err(error) => self.give_up(&error),
                }
            }
            JournalOp::RewriteLine { line } => self.put_next(line),
            JournalOp::RewriteEnd => match &mut self.next {
                Some(next) => next.whole = true,
                // It was given up: there is nothing to wait for.
                None => self.rewritten = true,
            },
        }
    }

    fn put_next(&mut self, line: &[u8]) {
        let Some(next) = &mut self.next else { return };
        put(&mut next.piece, line);
        if next.piece.len() >= PIECE {
            let wrote = next.file.write_all(&next.piece);
            next.piece.clear();
            if let Err(error) = wrote {
                self.give_up(&error);
            }
        }
    }

    /// Leaves the old file as it is.
    fn give_up(&mut self, error: &io::Error) {
        let _ = std::fs::remove_file(self.path.with_file_name(NEW));
        self.rewritten |= self.next.take().is_some_and(|next| next.whole);
        log::warn!("the journal is not written anew, the old one goes on: {error}");
    }

    /// Once a turn, and again as long as it has something to tell: takes what the disk has done, and gives it more to do.
    pub fn turn(&mut self, now: Instant) -> Option<Told> {
        if std::mem::take(&mut self.rewritten) {
            return Some(Told::Rewritten);
        }
        let done = match (self.busy, &mut self.aio) {
            (Busy::No, _) => return self.begin(now),
            (_, Some(aio)) => aio.done()?,
            (_, None) => self.wait(),
        };
        self.done(now, done)
    }

    /// Does without AIO what it would do.
    fn wait(&self) -> io::Result<()> {
        match (self.busy, &self.next) {
            (Busy::Placing { .. }, Some(next)) => next.file.sync_data(),
            (Busy::Folder { .. }, _) => self.folder.sync_all(),
            _ => self.file.sync_data(),
        }
    }

    /// Writes what there is, and begins to sync it.
    fn begin(&mut self, now: Instant) -> Option<Told> {
        if self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        if let Some((bytes, seq)) = self.unsettled.take() {
            return self.submit(now, Busy::Folder { bytes, seq });
        }
        if self.next.as_ref().is_some_and(|next| next.whole) {
            return self.begin_placing(now);
        }
        if self.buffer.is_empty() {
            return None;
        }
        if self.sealed {
            if let Err(error) = self.unseal() {
                self.fail(now, "write", &error);
                return None;
            }
        }
        let unwritten = self.buffer.get(self.written..).unwrap_or_default();
        if let Err(error) = self.file.write_all_at(unwritten, self.durable + self.written as u64) {
            // Half a line may be there: it is cut off, and comes again.
            if self.file.set_len(self.durable + self.written as u64).is_err() {
                self.unsure.note(&self.file, self.durable);
            }
            self.fail(now, "write", &error);
            return None;
        }
        self.written = self.buffer.len();
        self.submit(now, Busy::Syncing { bytes: self.written, seq: self.last })
    }

    /// Opens the file of a disk that was read-only for writing, with what is behind its whole lines cut off.
    fn unseal(&mut self) -> io::Result<()> {
        let file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        // The sync of the lines that come now is this one's too.
        if file.metadata()?.len() > self.durable {
            file.set_len(self.durable)?;
        }
        (self.file, self.sealed) = (file, false);
        Ok(())
    }

    fn begin_placing(&mut self, now: Instant) -> Option<Told> {
        let next = self.next.as_mut()?;
        let wrote = next.file.write_all(&next.piece);
        next.piece.clear();
        if let Err(error) = wrote {
            self.give_up(&error);
            return self.turn(now);
        }
        self.submit(now, Busy::Placing { bytes: self.buffer.len(), seq: self.last })
    }

    fn submit(&mut self, now: Instant, busy: Busy) -> Option<Told> {
        self.busy = busy;
        let (file, folder) = match (busy, &self.next) {
            (Busy::Placing { .. }, Some(next)) => (next.file.as_fd(), false),
            (Busy::Folder { .. }, _) => (self.folder.as_fd(), true),
            _ => (self.file.as_fd(), false),
        };
        let Some(aio) = &mut self.aio else { return self.turn(now) };
        match aio.sync(file, folder) {
            Ok(()) => None,
            Err(error) => {
                log::warn!("this file system has no asynchronous sync ({error}): the loop waits for the journal's disk from now on");
                self.aio = None;
                self.turn(now)
            }
        }
    }

    fn done(&mut self, now: Instant, result: io::Result<()>) -> Option<Told> {
        let busy = std::mem::replace(&mut self.busy, Busy::No);
        match (busy, result) {
            (Busy::No, _) => None,
            (Busy::Syncing { bytes, seq }, Ok(())) => {
                self.durable += bytes as u64;
                self.written -= bytes;
                self.let_go(bytes);
                self.look(now);
                Some(Told::Synced(seq))
            }
            (Busy::Syncing { .. }, Err(error)) => {
                if self.file.set_len(self.durable).is_err() {
                    self.unsure.note(&self.file, self.durable);
                }
                self.written = 0;
                self.fail(now, "sync", &error);
                None
            }
            (Busy::Placing { bytes, seq }, Ok(())) => match std::fs::rename(self.path.with_file_name(NEW), &self.path) {
                Ok(()) => self.submit(now, Busy::Folder { bytes, seq }),
                Err(error) => {
                    self.give_up(&error);
                    self.turn(now)
                }
            },
            (Busy::Placing { .. }, Err(error)) => {
                self.give_up(&error);
                self.turn(now)
            }
            (Busy::Folder { bytes, seq }, Err(error)) => {
                self.unsettled = Some((bytes, seq));
                self.fail(now, "sync the folder of", &error);
                None
            }
            (Busy::Folder { bytes, seq }, Ok(())) => {
                self.take_place(bytes);
                self.rewritten = true;
                Some(Told::Synced(seq))
            }
        }
    }

    /// Goes on in the new file.
    fn take_place(&mut self, bytes: usize) {
        let Some(next) = self.next.take() else { return };
        (self.file, self.sealed) = (next.file, false);
        self.durable = self.file.metadata().map_or(0, |file| file.size());
        self.written = 0;
        self.let_go(bytes);
    }

    /// Says so when somebody took the file away.
    fn look(&mut self, now: Instant) {
        if self.file.metadata().is_ok_and(|file| file.nlink() == 0) && self.muffle.admits(now).is_some() {
            let path = self.path.display();
            log::error!(
                "{path} was removed while musterd runs: `muster checkpoint` (or SIGUSR1) writes it anew; until then a restart forgets"
            );
        }
    }

    /// The first bytes of the buffer are on disk.
    fn let_go(&mut self, bytes: usize) {
        self.buffer.drain(..bytes.min(self.buffer.len()));
        self.unsure.clear();
        if self.retry_at.take().is_some() {
            log::info!("{} can be written again: everything is on disk", self.path.display());
        }
    }

    fn fail(&mut self, now: Instant, what: &str, error: &io::Error) {
        self.retry_at = Some(now + RETRY);
        if self.muffle.admits(now).is_some() {
            let path = self.path.display();
            log::error!("cannot {what} {path}: {error}; {CONSEQUENCE}");
        }
    }
}

fn put(buffer: &mut Vec<u8>, line: &[u8]) {
    buffer.extend_from_slice(line);
    buffer.push(b'\n');
}

#[cfg(test)]
mod tests;
