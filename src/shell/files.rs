//! Boot files: a fixed table of open files beneath the root, one for each inode, shared by all its transfers.
//!
//! A path is looked at again when its last look is half a second old, so that a replaced file is seen within a second while a thousand
//! requests for one file cost two looks a second. A file that nobody uses stays open until its place is needed or its path shows
//! another file. Names are resolved with the root as `/` (openat2, RESOLVE_IN_ROOT): no link leads out of it.
//!
//! A file that is changed in place is never sent as a mixture: behind all reads of a batch, and before anything of it leaves, its size
//! and time of modification are compared with those at its opening ([`Files::verify`]). Not seen: a writer that sets the old time back within one transfer (`cp -p`
//! over the file does, after writing), and, on kernels before 6.13, a change within the clock tick (4 ms) of the opening. A rename, an unlink or a change of rights is no change of
//! content: the transfer goes on from the old inode.
//!
//! Reads never wait for the disk (RWF_NOWAIT); a cold page is asked for and read on a later pass. Only the look-up of a path can wait,
//! for directory blocks that are not in memory. File systems that cannot read so are read plainly, which is said once.

mod cache;

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::stat::{FileStat, SFlag, fstat};

use crate::base::limits::{FILE_NAME_MAX, FILES};
use crate::base::machine::{FileId, OpenFile, Refusal};
use crate::base::time::Instant;

use super::{Error, sys};
use cache::Cache;

/// How long a look at a path is good for.
const LOOK: Duration = Duration::from_millis(500);
/// How far ahead the disk is asked.
const READ_AHEAD: u64 = 4 << 20;

/// What tells one content of an inode from another.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    dev: u64,
    ino: u64,
    size: i64,
    mtime: (i64, i64),
}

impl Stamp {
    fn of(stat: &FileStat) -> Stamp {
        Stamp { dev: stat.st_dev, ino: stat.st_ino, size: stat.st_size, mtime: (stat.st_mtime, stat.st_mtime_nsec) }
    }
}

struct Entry {
    fd: OwnedFd,
    stamp: Stamp,
    users: u32,
    /// Changed since it was opened: given to nobody any more.
    stale: bool,
    path: [u8; FILE_NAME_MAX],
    path_len: usize,
    looked: Instant,
    used: Instant,
    /// How far the disk has been asked.
    asked: u64,
    /// Read from since it was last compared.
    touched: bool,
}

impl Entry {
    fn size(&self) -> u64 {
        self.stamp.size.max(0) as u64
    }

    /// Compares the file with what was opened; it is stale from now on if it differs.
    fn is_unchanged(&mut self) -> bool {
        self.stale |= !fstat(&self.fd).is_ok_and(|stat| Stamp::of(&stat) == self.stamp);
        !self.stale
    }
}

#[derive(Default)]
struct Place {
    generation: u16,
    entry: Option<Entry>,
}

/// What a read came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    Done,
    Cold,
    Changed,
}

pub struct Files {
    root: OwnedFd,
    places: Box<[Place]>,
    /// The file system can read without waiting.
    nowait: bool,
    /// Places that were read from since they were last compared.
    touched: Vec<usize>,
    cache: Cache,
}

/// Why the system call that opens boot files may be missing.
const NO_OPENAT2: &str = "this kernel is older than Linux 5.6, or a sandbox forbids that system call: a container's seccomp filter, or \
                          RestrictSUIDSGID= or DynamicUser= of systemd";

impl Files {
    /// Opens the folder that is served.
    pub fn open_root(root: &Path) -> Result<Files, Error> {
        let places = (0..FILES).map(|_| Place::default()).collect();
        let touched = Vec::with_capacity(FILES);
        Ok(Files { root: Files::root(root)?, places, nowait: true, touched, cache: Cache::default() })
    }

    /// Serves another folder: paths are looked at again, files that are in use stay.
    pub fn set_root(&mut self, root: &Path) -> Result<(), Error> {
        self.root = Files::root(root)?;
        self.nowait = true;
        for entry in self.places.iter_mut().filter_map(|place| place.entry.as_mut()) {
            entry.path_len = 0;
        }
        Ok(())
    }

    fn root(root: &Path) -> Result<OwnedFd, Error> {
        let what = || format!("cannot serve files from {}", root.display());
        let remedy = "set boot.root (or -r) to a folder that this user may read";
        let fd = std::fs::File::open(root).map_err(|error| Error::system(what(), error, remedy))?;
        let listed = std::fs::read_dir(root).and_then(|mut entries| entries.next().transpose());
        listed.map_err(|error| Error::system(what(), error, remedy))?;
        // As files will be opened, so that what forbids that is told now and not to each machine that boots.
        sys::open_beneath(fd.as_fd(), c".").map_err(|error| match error.raw_os_error() {
            Some(libc::ENOSYS | libc::EPERM) => Error::system(format_args!("{}: openat2", what()), error, NO_OPENAT2),
            _ => Error::system(what(), error, remedy),
        })?;
        Ok(fd.into())
    }

    /// Opens a path, as bytes that came from a client.
    pub fn open(&mut self, now: Instant, path: &[u8]) -> Result<OpenFile, Refusal> {
        // A place that forgot its path (`set_root`) holds an empty one.
        if path.is_empty() {
            return Err(Refusal::NotFound);
        }
        let fresh = |entry: &Entry| !entry.stale && now.since(entry.looked) < LOOK && entry.path.get(..entry.path_len) == Some(path);
        if let Some(at) = self.position(fresh) {
            if self.places[at].entry.as_mut().is_some_and(Entry::is_unchanged) {
                return self.share(now, at);
            }
        }
        let (fd, stat) = self.look(path)?;
        let stamp = Stamp::of(&stat);
        if let Some(at) = self.position(|entry| !entry.stale && entry.stamp == stamp) {
            self.remember(at, path, now);
            return self.share(now, at);
        }
        // The same inode with another stamp was changed in place: its running transfers find that out when they read.
        let same_inode = |entry: &Entry| (entry.stamp.dev, entry.stamp.ino) == (stamp.dev, stamp.ino);
        for entry in self.places.iter_mut().filter_map(|place| place.entry.as_mut()).filter(|entry| same_inode(entry)) {
            entry.stale = true;
        }
        let at = self.vacate().ok_or(Refusal::Busy)?;
        let place = &mut self.places[at];
        place.generation = place.generation.wrapping_add(1);
        place.entry = Some(Entry {
            fd,
            stamp,
            users: 0,
            stale: false,
            path: [0; FILE_NAME_MAX],
            path_len: 0,
            looked: now,
            used: now,
            asked: 0,
            touched: false,
        });
        self.cache.forget(|file| place_of(file) == at);
        self.remember(at, path, now);
        self.share(now, at)
    }

    fn position(&self, matches: impl Fn(&Entry) -> bool) -> Option<usize> {
        self.places.iter().position(|place| place.entry.as_ref().is_some_and(&matches))
    }

    fn remember(&mut self, at: usize, path: &[u8], now: Instant) {
        let Some(entry) = self.places[at].entry.as_mut() else { return };
        if let Some(to) = entry.path.get_mut(..path.len()) {
            to.copy_from_slice(path);
            entry.path_len = path.len();
            entry.looked = now;
        }
    }

    fn share(&mut self, now: Instant, at: usize) -> Result<OpenFile, Refusal> {
        let place = &mut self.places[at];
        let entry = place.entry.as_mut().ok_or(Refusal::Failed)?;
        entry.users += 1;
        entry.used = now;
        let file = FileId(u32::from(place.generation) << 16 | at as u32);
        Ok(OpenFile { file, size: entry.size() })
    }

    fn look(&self, path: &[u8]) -> Result<(OwnedFd, FileStat), Refusal> {
        let mut name = [0u8; FILE_NAME_MAX + 1];
        name.get_mut(..path.len()).filter(|to| !to.is_empty() && to.len() <= FILE_NAME_MAX).ok_or(Refusal::NotFound)?.copy_from_slice(path);
        let name = CStr::from_bytes_with_nul(&name[..=path.len()]).map_err(|_| Refusal::NotFound)?;
        let fd = sys::open_beneath(self.root.as_fd(), name).map_err(|error| refusal(&error))?;
        let stat = fstat(&fd).map_err(|_| Refusal::Failed)?;
        let regular = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG;
        if regular { Ok((fd, stat)) } else { Err(Refusal::NotAFile) }
    }

    /// A free place; else the one whose file has been unused the longest, and of which nothing is about to leave.
    fn vacate(&mut self) -> Option<usize> {
        if let Some(at) = self.places.iter().position(|place| place.entry.is_none()) {
            return Some(at);
        }
        let unused =
            |place: &Place| place.entry.as_ref().filter(|entry| entry.users == 0 && !entry.touched).map(|entry| (!entry.stale, entry.used));
        let at = (0..self.places.len()).filter_map(|at| unused(&self.places[at]).map(|age| (age, at))).min()?.1;
        self.places[at].entry = None;
        Some(at)
    }

    fn entry(&mut self, file: FileId) -> Option<&mut Entry> {
        entry_of(&mut self.places, file)
    }

    pub fn close(&mut self, file: FileId) {
        let Some(entry) = self.entry(file) else { return };
        entry.users = entry.users.saturating_sub(1);
        if entry.users == 0 && entry.stale {
            self.places[place_of(file)].entry = None;
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
    pub fn read(&mut self, file: FileId, buf: &mut [u8], gap: usize, blksize: usize, bytes: usize, offset: u64) -> Read {
        match self.lay(file, buf, gap, blksize, bytes, offset) {
            Read::Done if !self.entry(file).is_some_and(Entry::is_unchanged) => Read::Changed,
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

    /// Reads blocks, as `sys::read_run` lays them. [`Files::verify`] must follow before they leave.
    pub fn lay(&mut self, file: FileId, buf: &mut [u8], gap: usize, blksize: usize, bytes: usize, offset: u64) -> Read {
        let nowait = self.nowait;
        let Some(entry) = entry_of(&mut self.places, file).filter(|entry| !entry.stale) else { return Read::Changed };
        if !std::mem::replace(&mut entry.touched, true) {
            self.touched.push(place_of(file));
        }
        let fd = entry.fd.as_fd();
        let single = buf.get_mut(gap..gap + bytes).filter(|_| bytes <= blksize);
        let fill = |room: &mut [u8], at: u64| sys::read_run(fd, room, 0, room.len().max(1), room.len(), at, nowait);
        let cached = single.is_some_and(|block| self.cache.copy((file, entry.size()), block, offset, fill));
        let got = if cached { Ok(bytes) } else { sys::read_run(fd, buf, gap, blksize, bytes, offset, nowait) };
        if got.as_ref().is_ok_and(|got| *got == bytes) {
            ask_ahead(entry, offset + bytes as u64, READ_AHEAD / 2);
            return Read::Done;
        }
        if !entry.is_unchanged() {
            return Read::Changed;
        }
        match got {
            // The file ends before the size that it tells (as in sysfs): asking again would never end.
            Ok(got) if got == 0 || !nowait || offset.saturating_add(got as u64) >= entry.size() => {
                log::error!("a boot file ends before its size of {} bytes: serve a regular copy of it", entry.stamp.size);
                entry.stale = true;
                Read::Changed
            }
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) && nowait => {
                log::warn!("the root's file system cannot read without waiting: the server waits for its disk");
                self.nowait = false;
                self.lay(file, buf, gap, blksize, bytes, offset)
            }
            Err(error) if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                log::error!("cannot read a boot file: {error}: look at the disk");
                entry.stale = true;
                Read::Changed
            }
            _ => {
                entry.asked = entry.asked.min(offset);
                ask_ahead(entry, offset, bytes as u64);
                Read::Cold
            }
        }
    }
}

fn place_of(file: FileId) -> usize {
    (file.0 & 0xffff) as usize
}

fn entry_of(places: &mut [Place], file: FileId) -> Option<&mut Entry> {
    let place = places.get_mut(place_of(file))?;
    let current = u32::from(place.generation) == file.0 >> 16;
    place.entry.as_mut().filter(|_| current)
}

/// Asks the disk for what comes next, unless at least `margin` bytes have been asked for already.
fn ask_ahead(entry: &mut Entry, offset: u64, margin: u64) {
    let wanted = (offset + margin).min(entry.size());
    if entry.asked < wanted {
        let from = entry.asked.max(offset);
        let _ = posix_fadvise(&entry.fd, from as i64, READ_AHEAD as i64, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
        entry.asked = from + READ_AHEAD;
    }
}

fn refusal(error: &io::Error) -> Refusal {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG | libc::ELOOP) => Refusal::NotFound,
        Some(libc::EACCES | libc::EPERM) => Refusal::Denied,
        // A socket cannot be opened, a FIFO without a writer can.
        Some(libc::ENXIO | libc::ENODEV | libc::EISDIR) => Refusal::NotAFile,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EAGAIN) => Refusal::Busy,
        _ => {
            log::error!("cannot open a boot file: {error}: look at the disk");
            Refusal::Failed
        }
    }
}

#[cfg(test)]
mod tests;
