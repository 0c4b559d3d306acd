//! The journal: lines in, "up to here it is on disk" out, and nobody waits for the disk.
//!
//! Lines gather in a fixed buffer. While the writer ([`super::work::pen`]) has nothing to do, all of them are handed to it, to be written and synced; a
//! line leaves the buffer when it is on disk. A disk that is full, read-only or broken is tried again every second with the same lines, and one that is
//! frozen answers when it thaws: lines are never reported as on disk before they are. The buffer holds what may wait; the machine puts out no more.
//!
//! A journal that is rewritten gathers in memory; records that come meanwhile are in it too. When it is whole the writer copies it to
//! `journal.new`, syncs it, renames it over the old one, and syncs the folder. Lines that come after that has begun wait in the buffer for the new file.
//!
//! The file is looked for before each write, at each sync, and each second: when it was taken away, cut or written over, or when its folder was removed
//! or something was mounted on it, nothing is reported as on disk before all of it was rewritten, in a new folder if need be.
//!
//! A disk that is read-only at start is no reason not to serve: known nodes need none. It is tried again like any that fails. Lines that an earlier
//! daemon could not put there are not read back from the kernel's memory ([`unsure`]).
//!
//! The folder is locked, so that no second daemon writes here: by the writer, and for as long as it may still write, whatever became of the daemon.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;

use crate::base::limits::{JOURNAL_LINE_MAX, JOURNAL_PENDING};
use crate::base::log_limit::LogLimit;
use crate::base::machine::Seq;
use crate::base::outbox::JournalOp;
use crate::base::time::Instant;
use crate::roll::journal::{self, Check, Excerpt, check};

use super::ShellError;
use super::sys::child::try_lock;
use super::sys::file::in_memory;
use super::work::message::{BODY_MAX, Op, WorkAnswer, WorkOutcome, WorkWords};
use super::work::pen::{Loss, PenStep};
use super::work::{SLOW, Worker};

mod unsure;
pub use unsure::Unsure;

const NAME: &str = "journal";
/// The name of the new file while a journal is rewritten.
pub const NEW: &str = "journal.new";
/// Larger ones are refused: no cluster writes as much before the journal is rewritten.
const SIZE_MAX: u64 = 256 << 20;
/// Lines of a new file that are gathered before they are written into memory.
const PIECE: usize = 64 << 10;
/// Between two tries on a disk that fails, and two looks whether the file is there.
pub const RETRY: Duration = Duration::from_secs(1);
/// How long the writer of a daemon that has just ended may keep the folder locked.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// At start: how long the writer is waited for, which has no disk to wait for then.
const ADOPTION: Duration = Duration::from_secs(10);

/// Of a disk that fails.
const CONSEQUENCE: &str = "known nodes boot, new machines wait until it can be written; check the disk";

/// What the writer is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriterState {
    No,
    /// It has the first `sent` bytes of the buffer, and is to have `bytes` before it syncs; they end with this record.
    Appending {
        sent: usize,
        bytes: usize,
        seq: Seq,
    },
    /// It puts the new file into its place, which holds everything up to this record.
    Placing {
        bytes: usize,
        seq: Seq,
    },
    /// It syncs the folder once more, in which the new file has the journal's name.
    Settling {
        bytes: usize,
        seq: Seq,
    },
    /// It looks whether the file is there.
    Watching,
    /// It writes the names.
    Naming,
}

/// The new file of a compaction, in memory.
struct NewFile {
    file: File,
    piece: Vec<u8>,
    /// Its last line has come.
    whole: bool,
}

/// What the machine is to learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalNews {
    /// All records up to this one are on disk.
    Synced(Seq),
    /// The compaction is over; it is in its place, or the old file goes on.
    Compacted,
    /// The file was taken away: all is to be rewritten.
    TakenAway,
}

/// The loop's side of the journal: what waits for the writer process, and what that does.
pub struct Journal {
    path: PathBuf,
    writer: Worker,
    /// Lines that are not known to be on disk.
    buffer: Vec<u8>,
    /// The last record in the buffer.
    last: Seq,
    busy: WriterState,
    next: Option<NewFile>,
    retry_at: Option<Instant>,
    watch_at: Instant,
    log_limit: LogLimit,
    /// The machine does not know yet that its compaction is over.
    compacted: bool,
    /// How the last compaction ended, until somebody asks.
    outcome: Option<Result<(), String>>,
    /// The new file bears the journal's name, but its folder could not be synced.
    unsettled: Option<(usize, Seq)>,
    /// The file is not in its place, or was not when last seen.
    taken_away: bool,
    /// The files that are to be written beside it, one after the other: where, and what.
    names: VecDeque<(PathBuf, File)>,
}

/// Opens the journal in a folder, which is made if its parent is there; gives its lines, all of which can be relied on.
/// `run` is where a note on it is left that does not outlive the machine's memory.
pub fn open(folder: &Path, run: &Path, mut writer: Worker) -> Result<(Journal, Vec<String>), ShellError> {
    let path = folder.join(NAME);
    let failed = |what: &str, error| cannot(what, &path, error);
    let locked = lock(folder)?;
    let (mut file, sealed) = open_file(&path)?;
    let _ = std::fs::remove_file(folder.join(NEW));
    let unsure = Unsure::new(run);
    let (lines, whole) = load(&mut file, &path, &unsure)?;
    let settled = if sealed { Err(Errno::EROFS.into()) } else { settle(&file, &locked, whole) };
    let sealed = match settled {
        Err(error) if is_read_only(&error) => {
            log::error!("journal: cannot write {}: {error} ({CONSEQUENCE})", path.display());
            true
        }
        settled => settled.map(|()| false).map_err(|error| failed("cut and sync", error))?,
    };
    let adopted = hand_over(&mut writer, (&path, run), (&locked, &file), whole, sealed);
    adopted.map_err(|error| ShellError::system("the journal's writer process does not answer", error, "start musterd again"))?;
    let journal = Journal {
        path,
        writer,
        buffer: Vec::with_capacity(JOURNAL_PENDING * JOURNAL_LINE_MAX),
        last: Seq::NONE,
        busy: WriterState::No,
        next: None,
        // That it can be written again is told then.
        retry_at: sealed.then_some(Instant::ZERO),
        watch_at: Instant::ZERO,
        log_limit: LogLimit::default(),
        compacted: false,
        outcome: None,
        unsettled: None,
        taken_away: false,
        names: VecDeque::new(),
    };
    Ok((journal, lines))
}

/// Gives the writer what was opened; it goes on alone.
fn hand_over(writer: &mut Worker, (path, run): (&Path, &Path), (folder, file): (&File, &File), whole: u64, sealed: bool) -> io::Result<()> {
    let body = [path.as_os_str().as_bytes(), run.as_os_str().as_bytes()].join(&0);
    let words = [whole, sealed.into(), 0, 0, 0, 0, 0];
    let answer = writer.ask_and_wait(Op::Adopt, words, &body, &[folder.as_fd(), file.as_fd()], &mut [], ADOPTION)?;
    writer.join_loop()?;
    match answer.outcome {
        WorkOutcome::Done => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn cannot(what: &str, path: &Path, error: io::Error) -> ShellError {
    let remedy = "check that the folder exists and is writable, or choose another with --state-dir";
    ShellError::system(format_args!("cannot {what} {}", path.display()), error, remedy)
}

/// The folder, made if its parent is there, for one daemon alone.
fn lock(folder: &Path) -> Result<File, ShellError> {
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(cannot("make the folder", folder, error)),
        // Whatever the umask is: every program reads the names there.
        Ok(()) => std::fs::set_permissions(folder, Permissions::from_mode(0o755)).map_err(|error| cannot("open", folder, error))?,
    }
    let opened = File::open(folder).map_err(|error| cannot("open the folder", folder, error))?;
    let begin = std::time::Instant::now();
    loop {
        match try_lock(&opened) {
            Ok(()) => return Ok(opened),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(cannot("lock the folder", folder, error)),
            Err(_) if begin.elapsed() < LOCK_WAIT => std::thread::sleep(Duration::from_millis(5)),
            Err(_) => {
                return Err(ShellError::new(format!(
                    "another musterd uses {}, or a stopped one still waits for its disk: stop it, or choose another folder with --state-dir",
                    folder.display()
                )));
            }
        }
    }
}

/// The lines that can be relied on, and how many bytes they are. What follows them is logged here, and cut off later.
fn load(file: &mut File, path: &Path, unsure: &Unsure) -> Result<(Vec<String>, u64), ShellError> {
    let size = file.metadata().map_err(|error| cannot("read", path, error))?.len();
    if size > SIZE_MAX {
        return Err(ShellError::new(format!(
            "{} is too large for a journal, {} MiB: move it away, or shorten it by hand",
            path.display(),
            size >> 20
        )));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|error| cannot("read", path, error))?;
    if let Some(reliable) = unsure.reliable(file).filter(|reliable| *reliable < bytes.len() as u64) {
        log::warn!(
            "journal: discarded the end of {} from byte {reliable} on (it did not reach the disk, and nothing was promised on it)",
            path.display()
        );
        bytes.truncate(reliable as usize);
    }
    let (mut lines, mut whole) = read(path, &bytes)?;
    if whole < bytes.len() {
        let tail = bytes.get(whole..).unwrap_or_default();
        if lines.iter().all(|line| line.trim().is_empty()) {
            return Err(ShellError::new(format!(
                "{} has no valid line ({} bytes: {}): restore a copy of it, or remove it if this cluster is new",
                path.display(),
                tail.len(),
                Excerpt(&String::from_utf8_lossy(tail))
            )));
        }
        log::warn!("journal: discarded the end of {} ({})", path.display(), damage(tail));
    }
    let unfinished = lines.split_off(journal::whole(&lines));
    if !unfinished.is_empty() {
        whole -= unfinished.iter().map(|line| line.len() + 1).sum::<usize>();
        log::warn!(
            "journal: discarded an unfinished change at the end of {} ({} lines; the change was not confirmed, and has no effect)",
            path.display(),
            unfinished.len()
        );
    }
    Ok((lines, whole as u64))
}

/// What is wrong with the end of a journal, for a log line.
fn damage(tail: &[u8]) -> String {
    let text = String::from_utf8_lossy(tail);
    let shown = Excerpt(text.trim_end_matches(['\n', '\0']));
    match tail.iter().position(|&byte| byte == b'\n') {
        Some(_) => format!("the checksum of the last line is wrong: {shown}"),
        None if tail.iter().all(|&byte| byte == 0) => format!("{} bytes that were never written", tail.len()),
        None => format!("the last line is incomplete, and nothing was promised on it: {shown}"),
    }
}

/// The file, and whether it is on a disk that cannot be written. Only a regular file is touched: a FIFO would be waited for.
fn open_file(path: &Path) -> Result<(File, bool), ShellError> {
    let regular = |found: std::fs::Metadata| match found.is_file() {
        true => Ok(()),
        false => Err(ShellError::new(format!(
            "{} is not a regular file: move it away, or choose another folder with --state-dir",
            path.display()
        ))),
    };
    std::fs::metadata(path).map_or(Ok(()), regular)?;
    let open = |writes| {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(writes).create(writes).truncate(false).mode(0o644);
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
    };
    let opened = match open(true) {
        Err(error) if is_read_only(&error) => open(false).map(|file| (file, true)).map_err(|_| error),
        opened => opened.map(|file| (file, false)),
    };
    let (file, sealed) = opened.map_err(|error| cannot("open", path, error))?;
    regular(file.metadata().map_err(|error| cannot("open", path, error))?)?;
    Ok((file, sealed))
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
fn read(path: &Path, bytes: &[u8]) -> Result<(Vec<String>, usize), ShellError> {
    let (mut lines, mut whole) = (Vec::new(), 0);
    let mut rest = bytes;
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let (line, tail) = (rest.get(..end).unwrap_or_default(), rest.get(end + 1..).unwrap_or_default());
        match std::str::from_utf8(line).ok().filter(|line| check(line) != Check::Bad) {
            Some(line) => lines.push(line.to_string()),
            None if tail.iter().all(|&byte| byte == 0) => break,
            None => {
                return Err(ShellError::new(format!(
                    "line {} of {} is damaged: correct it, without its ~checksum, or remove it (the lines around it may help)",
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
    /// Readable when the writer has answered.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.writer.fd()
    }

    /// The kernel says that it is readable.
    pub fn event(&mut self) {
        self.writer.event();
    }

    /// Why it cannot go on.
    pub fn death(&self) -> Option<ShellError> {
        self.writer.death()
    }

    /// Nothing waits for the disk.
    pub fn is_idle(&self) -> bool {
        matches!(self.busy, WriterState::No | WriterState::Watching)
            && self.buffer.is_empty()
            && self.next.is_none()
            && self.names.is_empty()
    }

    /// Names wait to be handed over, and the writer has nothing to do.
    pub fn has_work(&self) -> bool {
        self.busy == WriterState::No && !self.names.is_empty() && self.retry_at.is_none() && !self.taken_away
    }

    /// Takes a line from the machine. What has no room is never lost here: the machine keeps to the limits.
    pub fn act(&mut self, op: JournalOp<'_>) {
        match op {
            JournalOp::Append { seq, line } => {
                // The machine puts out no more than fits.
                put(&mut self.buffer, line);
                self.last = seq;
                if !matches!(self.busy, WriterState::Placing { .. } | WriterState::Settling { .. }) {
                    self.put_next(line);
                }
            }
            JournalOp::CompactBegin => match in_memory(c"muster journal") {
                Ok(file) => {
                    self.next = Some(NewFile { file: file.into(), piece: Vec::with_capacity(PIECE + JOURNAL_LINE_MAX), whole: false })
                }
                Err(error) => self.give_up(&error),
            },
            JournalOp::CompactLine { line } => self.put_next(line),
            JournalOp::CompactEnd => match &mut self.next {
                Some(next) => next.whole = true,
                // It was given up: there is nothing to wait for.
                None => self.compacted = true,
            },
        }
    }

    fn put_next(&mut self, line: &[u8]) {
        let Some(next) = &mut self.next else { return };
        put(&mut next.piece, line);
        if next.piece.len() >= PIECE {
            self.write_piece();
        }
    }

    /// Writes what was gathered of the new file into memory; false: there is none left.
    fn write_piece(&mut self) -> bool {
        let Some(next) = &mut self.next else { return false };
        let wrote = next.file.write_all(&next.piece);
        next.piece.clear();
        wrote.inspect_err(|error| self.give_up(error)).is_ok()
    }

    /// Leaves the old file as it is.
    fn give_up(&mut self, error: &io::Error) {
        self.compacted |= self.next.take().is_some_and(|next| next.whole);
        self.outcome = Some(Err(format!("the journal was not rewritten: {error}")));
        if !self.taken_away {
            log::warn!("journal: not rewritten: {error} (the old file stays in use)");
        }
    }

    /// How the last compaction has ended; once.
    pub fn outcome(&mut self) -> Option<Result<(), String>> {
        self.outcome.take()
    }

    /// Has the names, or what is remembered of the links, written beside the journal. What waits for its turn under the same name is out of date.
    pub fn publish(&mut self, path: &Path, text: &[u8]) {
        let memory = in_memory(c"muster names").map(File::from).and_then(|mut file| file.write_all(text).map(|()| file));
        let under_way = usize::from(self.busy == WriterState::Naming);
        match memory {
            Ok(file) => {
                let mut waiting = self.names.split_off(under_way.min(self.names.len()));
                waiting.retain(|(other, _)| other != path);
                self.names.append(&mut waiting);
                self.names.push_back((path.to_path_buf(), file));
            }
            Err(error) => unnamed(path, &error),
        }
    }

    /// Once a turn, and again as long as it has something to tell: takes what the writer has done, and gives it more to do.
    pub fn turn(&mut self, now: Instant) -> Option<JournalNews> {
        if std::mem::take(&mut self.compacted) {
            return Some(JournalNews::Compacted);
        }
        if self.busy == WriterState::No {
            return self.begin(now);
        }
        if self.writer.hangs(now) {
            let path = self.path.display();
            log::error!("journal: the disk of {path} has not answered for {} s ({CONSEQUENCE})", SLOW.as_secs());
        }
        if !self.writer.is_ready() {
            return None;
        }
        let answer = self.writer.take(&mut [])?;
        if self.writer.recovers() {
            log::info!("journal: the disk of {} answers again", self.path.display());
        }
        self.done(now, answer)
    }

    /// Gives the writer what there is to do.
    fn begin(&mut self, now: Instant) -> Option<JournalNews> {
        if self.retry_at.is_some_and(|at| now < at) {
            return None;
        }
        if let Some((bytes, seq)) = self.unsettled.take() {
            return self.ask(now, WriterState::Settling { bytes, seq }, Op::Settle);
        }
        if self.next.as_ref().is_some_and(|next| next.whole) {
            if !self.write_piece() {
                return self.turn(now);
            }
            let Some(next) = &self.next else { return None };
            self.busy = WriterState::Placing { bytes: self.buffer.len(), seq: self.last };
            self.writer.ask(now, Op::Place, WorkWords::default(), &[], &[next.file.as_fd()]);
            return None;
        }
        if self.taken_away && self.next.is_none() && now >= self.watch_at {
            // Once more each second, until all of it is written anew.
            self.watch_at = now + RETRY;
            return Some(JournalNews::TakenAway);
        }
        if !self.buffer.is_empty() && !self.taken_away {
            return self.append(now, 0, self.buffer.len(), self.last);
        }
        if let Some((path, text)) = self.names.front().filter(|_| !self.taken_away) {
            self.busy = WriterState::Naming;
            self.writer.ask(now, Op::Names, WorkWords::default(), path.as_os_str().as_bytes(), &[text.as_fd()]);
            return None;
        }
        if now >= self.watch_at && !self.taken_away {
            self.watch_at = now + RETRY;
            return self.ask(now, WriterState::Watching, Op::Watch);
        }
        None
    }

    fn ask(&mut self, now: Instant, busy: WriterState, op: Op) -> Option<JournalNews> {
        self.busy = busy;
        self.writer.ask(now, op, WorkWords::default(), &[], &[]);
        None
    }

    /// Hands over the next piece of the first `bytes` of the buffer, of which it has `sent`.
    fn append(&mut self, now: Instant, sent: usize, bytes: usize, seq: Seq) -> Option<JournalNews> {
        let end = bytes.min(sent + BODY_MAX);
        let piece = self.buffer.get(sent..end).unwrap_or_default();
        self.writer.ask(now, Op::Append, [u64::from(end == bytes), 0, 0, 0, 0, 0, 0], piece, &[]);
        self.busy = WriterState::Appending { sent: end, bytes, seq };
        None
    }

    fn done(&mut self, now: Instant, answer: WorkAnswer) -> Option<JournalNews> {
        let busy = std::mem::replace(&mut self.busy, WriterState::No);
        let loss = Loss::of(answer.words[0]);
        let failed = match answer.outcome {
            WorkOutcome::Done => return self.succeeded(now, busy, loss),
            WorkOutcome::Failed(error) => error,
            WorkOutcome::Refused => io::ErrorKind::Other.into(),
        };
        match busy {
            WriterState::No | WriterState::Watching => {}
            WriterState::Appending { .. } => self.fail(now, PenStep::of(answer.words[0]).name(), &failed),
            WriterState::Placing { bytes, seq } | WriterState::Settling { bytes, seq }
                if PenStep::of(answer.words[0]) == PenStep::Folder =>
            {
                self.unsettled = Some((bytes, seq));
                self.fail(now, PenStep::Folder.name(), &failed);
            }
            WriterState::Placing { .. } | WriterState::Settling { .. } => {
                if self.taken_away {
                    self.fail(now, "recreate", &failed);
                }
                self.give_up(&failed);
            }
            WriterState::Naming => {
                if let Some((path, _)) = self.names.pop_front() {
                    unnamed(&path, &failed);
                }
            }
        }
        self.turn(now)
    }

    fn succeeded(&mut self, now: Instant, busy: WriterState, loss: Option<Loss>) -> Option<JournalNews> {
        if let Some(loss) = loss {
            self.miss(now, loss);
            return self.turn(now);
        }
        match busy {
            WriterState::No => None,
            WriterState::Appending { sent, bytes, seq } if sent < bytes => self.append(now, sent, bytes, seq),
            WriterState::Appending { bytes, seq, .. } => {
                self.let_go(bytes);
                Some(JournalNews::Synced(seq))
            }
            WriterState::Placing { bytes, seq } | WriterState::Settling { bytes, seq } => {
                self.next = None;
                if std::mem::take(&mut self.taken_away) {
                    log::warn!("journal: {} was rewritten in full", self.path.display());
                }
                self.let_go(bytes);
                self.compacted = true;
                self.outcome = Some(Ok(()));
                Some(JournalNews::Synced(seq))
            }
            WriterState::Watching => self.turn(now),
            WriterState::Naming => {
                self.names.pop_front();
                self.turn(now)
            }
        }
    }

    /// The next start would not find the file.
    fn miss(&mut self, now: Instant, loss: Loss) {
        (self.taken_away, self.watch_at) = (true, now);
        if self.log_limit.allow(now).is_none() {
            return;
        }
        let (path, folder) = (self.path.display(), self.path.parent().unwrap_or(Path::new("/")).display());
        const AGAIN: &str = "musterd rewrites it; new machines wait until that is done";
        match loss {
            Loss::Removed => log::error!("journal: {path} was removed while musterd runs ({AGAIN})"),
            Loss::Changed => log::error!("journal: another program cut {path} or wrote to it while musterd runs ({AGAIN})"),
            Loss::Covered => log::error!("journal: {folder} is now another folder or file system, without the journal ({AGAIN})"),
        }
    }

    /// The first bytes of the buffer are on disk.
    fn let_go(&mut self, bytes: usize) {
        self.buffer.drain(..bytes.min(self.buffer.len()));
        if self.retry_at.take().is_some() {
            log::info!("journal: {} is writable again (everything is on disk)", self.path.display());
        }
    }

    fn fail(&mut self, now: Instant, what: &str, error: &io::Error) {
        self.retry_at = Some(now + RETRY);
        if self.log_limit.allow(now).is_some() {
            let path = self.path.display();
            log::error!("journal: cannot {what} {path}: {error} ({CONSEQUENCE})");
        }
    }
}

fn unnamed(path: &Path, error: &io::Error) {
    log::warn!("names: cannot write {}: {error} (what it said before stays; make room in its folder)", path.display());
}

fn put(buffer: &mut Vec<u8>, line: &[u8]) {
    buffer.extend_from_slice(line);
    buffer.push(b'\n');
}

#[cfg(test)]
mod tests;
