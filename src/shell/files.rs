//! Boot files: a fixed table of files beneath the root, one for each inode, shared by all its transfers.
//!
//! A path is looked at again when its last look is half a second old, so that a replaced file is seen within a second while a thousand
//! requests for one file cost two looks a second. A request that comes meanwhile waits for the look. If the look takes longer than half a
//! second, because a server hangs, the request gets the file as it was known. A file that nobody uses stays until its place is needed or its
//! path shows another file. Names are resolved with the root as `/`: no link leads out of it.
//!
//! What may wait is done by file processes ([`super::work`]), a bounded number of requests at a time and one for each file (`readers`). There are two kinds of files.
//! - *Near* ones, on file systems that tell what is in memory: they are read here (RWF_NOWAIT). A cold page is read by a reader, and who wants it hears
//!   when it is there.
//! - *Far* ones, on all others (NFS, FUSE, overlays): nothing here touches them. Readers fetch their bytes in pieces into memory of the daemon's
//!   own ([`store`]), which all transfers are sent from. While their server hangs, what is there goes on being sent.
//!
//! A file that is changed in place is never sent as a mixture. Of a near one: behind all reads of a batch, and before anything of it leaves,
//! its size and time of modification are compared with those at its opening ([`Files::verify`]). Of a far one: each piece comes with them, and
//! they are asked for each half second of its use. Not detected: a file that is overwritten within one transfer and gets its old mtime back, as
//! by `cp -p`; and, on kernels before 6.13, a change within the clock tick (4 ms) of the opening. A rename, an unlink or a change of rights is
//! no change of content: the transfer goes on from the old inode.

mod cache;
mod looks;
mod readers;
mod store;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;

use crate::base::limits::{FILE_NAME_MAX, FILES};
use crate::base::log_limit::{LogLimit, More};
use crate::base::machine::{FileId, OpenError, OpenFile};
use crate::base::time::Instant;

use super::sys::file::{lock_when_used, read_run};
use super::work::Worker;
use super::work::beneath::{FileVersion, How, Reach, Root};
use cache::Cache;
use looks::{Folder, LookDelivery, Looks};
use readers::{Cold, Job, Reader};
use store::Store;

/// How long a look at a path is good for, and what is known of a far file.
pub const LOOK: Duration = Duration::from_millis(500);
/// How far ahead the disk is asked.
const READ_AHEAD: u64 = 4 << 20;
/// Transfers that wait for bytes. More are not noted: the half-second look asks again.
const COLD_MAX: usize = 4096;

struct FileEntry {
    /// Of a far file: held, not opened.
    fd: OwnedFd,
    reach: Reach,
    stamp: FileVersion,
    users: u32,
    /// Changed since it was opened: given to nobody any more.
    stale: bool,
    path: [u8; FILE_NAME_MAX],
    path_len: usize,
    folder: Folder,
    looked: Instant,
    used: Instant,
    /// How far the disk has been asked, and from where on it is to be asked next.
    asked: u64,
    ahead: Option<u64>,
    /// Read from since it was last compared.
    touched: bool,
    /// When a far file was last known to be what it was, and whether to ask again.
    stamped: Instant,
    due: bool,
    /// A reader is at work for it, or will be.
    busy: bool,
    queued: bool,
}

impl FileEntry {
    fn size(&self) -> u64 {
        self.stamp.size.max(0) as u64
    }

    fn is_far(&self) -> bool {
        self.reach == Reach::Far
    }

    /// Compares the file with what was opened, as far as that can be done without waiting; it is stale from now on if it differs.
    fn is_unchanged(&mut self) -> bool {
        if !self.is_far() {
            self.stale |= !FileVersion::now(&self.fd).is_ok_and(|stamp| stamp == self.stamp);
        }
        !self.stale
    }
}

#[derive(Default)]
struct FileSlot {
    generation: u32,
    entry: Option<FileEntry>,
}

/// What a read came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileRead {
    Done,
    Cold,
    Changed,
}

/// Answers for those that waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    Opened { token: u64, answer: Result<OpenFile, OpenError> },
    Warm { token: u64 },
}

pub struct Files {
    root: Root,
    places: Box<[FileSlot]>,
    /// Places that were read from since they were last compared.
    touched: Vec<usize>,
    cache: Cache,
    store: Option<Store>,
    looks: Looks,
    readers: Vec<Reader>,
    jobs: VecDeque<Job>,
    cold: VecDeque<Cold>,
    warm: VecDeque<u64>,
    /// Of the turn.
    now: Instant,
    /// Counts the roots.
    epoch: u32,
    log_limit: LogLimit,
    /// Requests for what a disk cannot give do not log a line each.
    trouble: LogLimit,
}

impl Files {
    /// Serves what is beneath a root, by these processes.
    pub fn new(root: Root, readers: Vec<Worker>) -> io::Result<Files> {
        let readers = readers.into_iter().map(Reader::new).collect::<io::Result<Vec<_>>>()?;
        let mut files = Files {
            root,
            places: (0..FILES).map(|_| FileSlot::default()).collect(),
            touched: Vec::with_capacity(FILES),
            cache: Cache::default(),
            store: None,
            looks: Looks::default(),
            readers,
            jobs: VecDeque::with_capacity(looks::LOOKS + 2 * FILES),
            cold: VecDeque::with_capacity(COLD_MAX),
            warm: VecDeque::with_capacity(COLD_MAX),
            now: Instant::ZERO,
            epoch: 0,
            log_limit: LogLimit::default(),
            trouble: LogLimit::default(),
        };
        files.tell_way();
        files.have_store_if_far();
        Ok(files)
    }

    /// Serves another folder: paths are looked at again, files that are in use stay.
    pub fn set_root(&mut self, root: Root) {
        let old = std::mem::replace(&mut self.root, root);
        let old_how = old.how;
        self.jobs.push_front(Job::Bury(old.fd, Folder::ROOT));
        self.epoch += 1;
        for entry in self.places.iter_mut().filter_map(|place| place.entry.as_mut()) {
            entry.path_len = 0;
        }
        if self.root.how != old_how {
            self.tell_way();
        }
        self.have_store_if_far();
    }

    /// A second handle of the root.
    pub fn root(&self) -> io::Result<Root> {
        Ok(Root { fd: self.root.fd.try_clone()?, how: self.root.how, near: self.root.near })
    }

    fn tell_way(&self) {
        if let How::Walk(errno) = self.root.how {
            let error = Errno::from_raw(errno).desc();
            log::info!(
                "boot files: opened folder by folder, which is as safe, because openat2 is forbidden \
                 ({error}; by the kernel or a sandbox, such as RestrictSUIDSGID= of systemd)"
            );
        }
    }

    fn have_store_if_far(&mut self) {
        if !self.root.near {
            self.have_store();
        }
    }

    /// Takes memory for far files, once.
    fn have_store(&mut self) {
        if self.store.is_some() {
            return;
        }
        let store = Store::new();
        let swaps = if lock_when_used(store.bytes()) { "" } else { ", which may be swapped out" };
        log::info!(
            "boot files: sent from {} MiB of memory{swaps}, because the root's file system can hang (NFS, FUSE, overlay; \
             what is in memory stays available)",
            store::SIZE
        );
        self.store = Some(store);
    }

    /// Opens a path, as bytes that came from a client. None: the answer comes later.
    pub fn open(&mut self, now: Instant, token: u64, path: &[u8]) -> Option<Result<OpenFile, OpenError>> {
        // A place that forgot its path (`set_root`) holds an empty one.
        if path.is_empty() || path.len() > FILE_NAME_MAX || path.contains(&0) {
            return Some(Err(OpenError::NotFound));
        }
        if let Some(at) = self.known(path) {
            let fresh = self.places[at].entry.as_ref().is_some_and(|entry| now.since(entry.looked) < LOOK);
            if (fresh || self.looks.is_overdue(now, path)) && self.places[at].entry.as_mut().is_some_and(FileEntry::is_unchanged) {
                return Some(self.share(now, at));
            }
        }
        match self.looks.wait(now, token, path) {
            Ok(new) => {
                if let Some(look) = new {
                    self.jobs.push_back(Job::Look(look));
                    self.dispatch();
                }
                None
            }
            Err(busy) => Some(Err(busy)),
        }
    }

    /// The place whose path this was when it was last looked at.
    fn known(&self, path: &[u8]) -> Option<usize> {
        self.position(|entry| !entry.stale && entry.path.get(..entry.path_len) == Some(path))
    }

    fn position(&self, matches: impl Fn(&FileEntry) -> bool) -> Option<usize> {
        self.places.iter().position(|place| place.entry.as_ref().is_some_and(&matches))
    }

    fn id(&self, at: usize) -> FileId {
        FileId::from_u64(u64::from(self.places[at].generation) << 32 | at as u64)
    }

    fn share(&mut self, now: Instant, at: usize) -> Result<OpenFile, OpenError> {
        let file = self.id(at);
        let entry = self.places[at].entry.as_mut().ok_or(OpenError::Failed)?;
        entry.users += 1;
        entry.used = now;
        Ok(OpenFile { file, size: entry.size(), stamp: entry.stamp.hash() })
    }

    /// The next answer for one that waited; call until None.
    pub fn news(&mut self) -> Option<News> {
        if let Some(token) = self.warm.pop_front() {
            return Some(News::Warm { token });
        }
        loop {
            match self.looks.next()? {
                LookDelivery::Waiter { token, found } => {
                    let answer = found.and_then(|file| match self.entry(file) {
                        Some(_) => self.share(self.now, place_of(file)),
                        None => Err(OpenError::Busy),
                    });
                    return Some(News::Opened { token, answer });
                }
                LookDelivery::Served(found) => self.release(found),
            }
        }
    }

    /// Whether [`Files::news`] has something.
    pub fn has_news(&self) -> bool {
        !self.warm.is_empty() || self.looks.is_ready()
    }

    fn release(&mut self, found: looks::OpenResult) {
        if let Ok(file) = found {
            self.close(file);
        }
    }

    /// A free place; else the one whose file has been unused the longest, and of which nothing is about to leave or to come.
    fn vacate(&mut self) -> Option<usize> {
        if let Some(at) = self.places.iter().position(|place| place.entry.is_none()) {
            return Some(at);
        }
        let unused = |place: &FileSlot| {
            let entry = place.entry.as_ref().filter(|entry| entry.users == 0 && !entry.touched && !entry.busy);
            entry.map(|entry| (!entry.stale, entry.used))
        };
        let at = (0..self.places.len()).filter_map(|at| unused(&self.places[at]).map(|age| (age, at))).min()?.1;
        self.evict(at);
        Some(at)
    }

    /// Lets go of a file; a reader closes it.
    fn evict(&mut self, at: usize) {
        let file = self.id(at);
        // Their transfers have ended.
        self.cold.retain(|cold| cold.file != file);
        if let Some(entry) = self.places[at].entry.take() {
            self.jobs.push_front(Job::Bury(entry.fd, entry.folder));
        }
    }

    fn entry(&mut self, file: FileId) -> Option<&mut FileEntry> {
        entry_of(&mut self.places, file)
    }

    pub fn close(&mut self, file: FileId) {
        let Some(entry) = self.entry(file) else { return };
        entry.users = entry.users.saturating_sub(1);
        self.tidy(file);
    }

    /// Lets go of a file that is stale, and that nobody uses any more.
    fn tidy(&mut self, file: FileId) {
        if self.entry(file).is_some_and(|entry| entry.users == 0 && entry.stale && !entry.busy) {
            self.evict(place_of(file));
        }
    }

    /// Bytes behind an offset, as the file was at its opening.
    pub fn left(&mut self, file: FileId, offset: u64) -> u64 {
        self.entry(file).map_or(0, |entry| entry.size().saturating_sub(offset))
    }

    /// How many files are open.
    pub fn open_files(&self) -> usize {
        self.places.iter().filter(|place| place.entry.is_some()).count()
    }

    /// Reads blocks as [`Files::lay`] does, and makes sure at once that they are of the content that was opened.
    pub fn read(&mut self, file: FileId, buf: &mut [u8], gap: usize, blksize: usize, bytes: usize, offset: u64) -> FileRead {
        match self.lay(file, buf, gap, blksize, bytes, offset) {
            FileRead::Done if !self.entry(file).is_some_and(FileEntry::is_unchanged) => FileRead::Changed,
            read => read,
        }
    }

    /// Compares all files that were read from since the last time. True: some have changed ([`Files::is_current`] tells which), and
    /// nothing that was read from those may leave.
    pub fn verify(&mut self) -> bool {
        let mut changed = false;
        for at in self.touched.drain(..) {
            let entry = self.places.get_mut(at).and_then(|place| place.entry.as_mut());
            changed |= !entry.is_some_and(|entry| {
                entry.touched = false;
                entry.is_unchanged()
            });
        }
        changed
    }

    /// Whether a file has not been seen to change since it was opened.
    pub fn is_current(&mut self, file: FileId) -> bool {
        self.entry(file).is_some_and(|entry| !entry.stale)
    }

    /// Reads blocks, as `sys::file::read_run` lays them. [`Files::verify`] must follow before they leave.
    pub fn lay(&mut self, file: FileId, buf: &mut [u8], gap: usize, blksize: usize, bytes: usize, offset: u64) -> FileRead {
        let Some(entry) = entry_of(&mut self.places, file).filter(|entry| !entry.stale) else { return FileRead::Changed };
        if !std::mem::replace(&mut entry.touched, true) {
            self.touched.push(place_of(file));
        }
        if entry.is_far() {
            return self.lay_far(file, buf, gap, blksize, bytes, offset);
        }
        let (fd, now) = (entry.fd.as_fd(), entry.reach == Reach::Near);
        let single = buf.get_mut(gap..gap + bytes).filter(|_| bytes <= blksize);
        let fill = |room: &mut [u8], at: u64| read_run(fd, room, 0, room.len().max(1), room.len(), at, now);
        let cached = single.is_some_and(|block| self.cache.copy((file, entry.size()), block, offset, fill));
        let got = if cached { Ok(bytes) } else { read_run(fd, buf, gap, blksize, bytes, offset, now) };
        if got.as_ref().is_ok_and(|got| *got == bytes) {
            self.ask_ahead(file, offset + bytes as u64);
            return FileRead::Done;
        }
        if !entry.is_unchanged() {
            return FileRead::Changed;
        }
        match got {
            // The file ends before the size that it tells (as in sysfs): asking again would never end.
            Ok(got) if got == 0 || !now || offset.saturating_add(got as u64) >= entry.size() => {
                entry.ends_early(self.trouble.allow(self.now))
            }
            Err(error) if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                entry.fails(&error, self.trouble.allow(self.now))
            }
            _ => FileRead::Cold,
        }
    }

    /// Lays blocks of a far file, if all of their bytes are there.
    fn lay_far(&mut self, file: FileId, buf: &mut [u8], gap: usize, blksize: usize, bytes: usize, offset: u64) -> FileRead {
        let (Some(entry), Some(store)) = (entry_of(&mut self.places, file), self.store.as_mut()) else { return FileRead::Changed };
        if offset.saturating_add(bytes as u64) > entry.size() {
            return entry.ends_early(self.trouble.allow(self.now));
        }
        if self.now.since(entry.stamped) >= LOOK {
            entry.due = true;
        }
        if store.missing(file, offset, bytes).is_some() {
            return FileRead::Cold;
        }
        let mut done = 0;
        for block in buf.chunks_mut(gap + blksize) {
            let len = blksize.min(bytes - done);
            let Some(body) = block.get_mut(gap..gap + len).filter(|_| len > 0) else { break };
            done += store.copy(file, body, offset + done as u64);
        }
        self.fetch_ahead(file, offset + bytes as u64);
        if done == bytes { FileRead::Done } else { FileRead::Cold }
    }
}

impl FileEntry {
    /// `told`: whether to log it, and how many were not logged.
    fn ends_early(&mut self, told: Option<More>) -> FileRead {
        if let Some(more) = told {
            let size = self.stamp.size;
            log::error!("boot files: one ends before its size of {size} bytes (serve a regular copy of it{more})");
        }
        self.stale = true;
        FileRead::Changed
    }

    fn fails(&mut self, error: &io::Error, told: Option<More>) -> FileRead {
        if let Some(more) = told {
            log::error!("boot files: cannot read one: {error} (check the disk{more})");
        }
        self.stale = true;
        FileRead::Changed
    }
}

fn place_of(file: FileId) -> usize {
    file.slot()
}

fn entry_of(places: &mut [FileSlot], file: FileId) -> Option<&mut FileEntry> {
    let place = places.get_mut(place_of(file))?;
    let current = u64::from(place.generation) == file.to_u64() >> 32;
    place.entry.as_mut().filter(|_| current)
}

#[cfg(test)]
mod tests;
