//! Boot files: opened beneath the root and nowhere else, looked at, and read. All of it may wait, so only file processes do it.
//!
//! Names are resolved with the root as `/`: by openat2 (RESOLVE_IN_ROOT), and where the kernel is older than 5.6 or a sandbox forbids the call
//! (systemd's RestrictSUIDSGID= does, since seccomp cannot see what it is asked) name by name, with the same result ([`walk`]). A link may also lead
//! into a folder that the config allows ([`walk::follow`]). A
//! file is first held without being opened (O_PATH), and opened only if it is a regular one: nothing ever waits for a FIFO or winds a tape.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::statfs::fstatfs;

use super::super::ShellError;
use super::super::sys::file;
use super::message::WorkWords;
use super::walk::{self, Allowed};
use crate::base::rng::mix;

/// What tells one content of an inode from another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileVersion {
    /// The device.
    pub dev: u64,
    /// The inode.
    pub ino: u64,
    /// The size in bytes.
    pub size: i64,
    /// The time of modification: seconds and nanoseconds since 1970.
    pub mtime: (i64, i64),
}

impl FileVersion {
    /// As it is now; only for file systems that answer from memory.
    pub fn now(fd: impl AsFd) -> io::Result<FileVersion> {
        let stat = nix::sys::stat::fstat(fd)?;
        Ok(FileVersion { dev: stat.st_dev, ino: stat.st_ino, size: stat.st_size, mtime: (stat.st_mtime, stat.st_mtime_nsec) })
    }

    /// One word that stands for all of it.
    pub fn hash(self) -> u64 {
        self.words().into_iter().fold(1, |hash, word| mix(hash ^ word))
    }

    /// As words of a message.
    pub fn words(self) -> [u64; 5] {
        [self.dev, self.ino, self.size as u64, self.mtime.0 as u64, self.mtime.1 as u64]
    }

    /// What [`FileVersion::words`] has written.
    pub fn of(words: &WorkWords) -> FileVersion {
        let &[dev, ino, size, seconds, nanos, ..] = words;
        FileVersion { dev, ino, size: size as i64, mtime: (seconds as i64, nanos as i64) }
    }
}

/// How paths are resolved here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By openat2(2), which the kernel confines to the root.
    Openat2,
    /// With the error that openat2 gave.
    Walk(i32),
}

/// Of what kind a file's file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It tells what is in memory, and what a file is like, without a wait.
    Near,
    /// It is memory.
    Memory,
    /// Anything that has to do with it may wait.
    Far,
}

impl Reach {
    /// As a word of a message.
    pub fn word(self) -> u64 {
        self as u64
    }

    /// What [`Reach::word`] has written; an unknown word is `Far`.
    pub fn of(word: u64) -> Reach {
        [Reach::Near, Reach::Memory].into_iter().find(|reach| reach.word() == word).unwrap_or(Reach::Far)
    }
}

const RAMFS: i64 = 0x8584_58f6;

/// Whether a file system, by its number in `linux/magic.h`, answers fstat of an open file from memory, frozen or not. Read in their getattr. Whether it
/// can read without a wait too is tried file by file.
pub fn is_near(magic: i64) -> bool {
    const EXT: i64 = 0xef53;
    const XFS: i64 = 0x5846_5342;
    const BTRFS: i64 = 0x9123_683e;
    const F2FS: i64 = 0xf2f5_2010;
    const TMPFS: i64 = 0x0102_1994;
    const SQUASHFS: i64 = 0x7371_7368;
    const EROFS: i64 = 0xe0f5_e1e2;
    const ISOFS: i64 = 0x9660;
    [EXT, XFS, BTRFS, F2FS, TMPFS, RAMFS, SQUASHFS, EROFS, ISOFS].contains(&magic)
}

fn magic(fd: impl AsFd) -> io::Result<i64> {
    Ok(fstatfs(fd)?.filesystem_type().0 as i64)
}

/// The folder that is served, as a look at a path sees it.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// The root.
    pub root: BorrowedFd<'a>,
    /// How paths are resolved beneath it.
    pub how: How,
    /// Where links may lead besides.
    pub allowed: &'a [Allowed],
}

/// Holds what a path shows. What comes to nothing with the root as `/` may be a link that means what it says.
fn hold(ground: Ground<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    let held = match ground.how {
        How::Openat2 => file::open_beneath(ground.root, &CString::new(path)?, libc::O_PATH),
        How::Walk(_) => walk::open(ground.root, path),
    };
    let nothing = |error: &io::Error| matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR));
    match held {
        Err(error) if nothing(&error) => walk::follow(ground.root, ground.allowed, path),
        held => held,
    }
}

/// Opens the folders into which links may lead, as far as they are there.
pub fn allow(paths: &[PathBuf]) -> Vec<Allowed> {
    use nix::fcntl::OFlag;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let open = |path: &PathBuf| nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty());
    paths.iter().filter_map(|path| open(path).ok().map(|fd| Allowed { path: path.clone(), fd })).collect()
}

/// Opens for reading what is held.
pub fn reopen(held: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let path = CString::new(format!("/proc/self/fd/{}", held.as_raw_fd()))?;
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    let open = |more| file::open_at(held, &path, flags | more);
    // To note when a file was read may wait for the disk; the owner and root may leave that out.
    open(libc::O_NOATIME).or_else(|error| if error.raw_os_error() == Some(libc::EPERM) { open(0) } else { Err(error) })
}

/// What a look at a path came to.
#[derive(Debug)]
pub enum Looked {
    /// It shows what it showed.
    Same,
    /// A regular file: opened for reading, or only held when it is far.
    File {
        /// The file.
        fd: OwnedFd,
        /// What it is like now.
        stamp: FileVersion,
        /// Of what kind its file system is.
        reach: Reach,
    },
}

/// Looks at a path. What is no regular file is EISDIR.
pub fn look(ground: Ground<'_>, path: &[u8], known: Option<FileVersion>) -> io::Result<Looked> {
    let held = hold(ground, path)?;
    let (stamp, regular) = state(held.as_fd())?;
    if !regular {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    }
    if known == Some(stamp) {
        return Ok(Looked::Same);
    }
    let fd = reopen(held.as_fd())?;
    Ok(match reach(fd.as_fd())? {
        Reach::Far => Looked::File { fd: held, stamp, reach: Reach::Far },
        reach => Looked::File { fd, stamp, reach },
    })
}

fn reach(fd: BorrowedFd<'_>) -> io::Result<Reach> {
    let magic = magic(fd)?;
    if !is_near(magic) {
        return Ok(Reach::Far);
    }
    match file::read_run(fd, &mut [0], 0, 1, 1, 0, true) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(if magic == RAMFS { Reach::Memory } else { Reach::Far }),
        _ => Ok(Reach::Near),
    }
}

/// What a file is like, and whether it is a regular one.
pub fn state(fd: BorrowedFd<'_>) -> io::Result<(FileVersion, bool)> {
    let told = file::state(fd)?;
    Ok((FileVersion { dev: told.dev, ino: told.ino, size: told.size, mtime: told.mtime }, told.regular))
}

/// Reads a file's bytes for the kernel to remember, and asks for what comes behind them.
pub fn warm(fd: &OwnedFd, offset: u64, len: u64, ahead: u64, room: &mut [u8]) -> io::Result<()> {
    if ahead > 0 {
        let _ = posix_fadvise(fd, offset as i64, ahead as i64, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
    }
    let (mut at, end) = (offset, offset + len);
    while at < end {
        let want = room.len().min((end - at) as usize);
        let Some(room) = room.get_mut(..want) else { break };
        match file::read_run(fd.as_fd(), room, 0, want, want, at, false)? {
            0 => break,
            got => at += got as u64,
        }
    }
    Ok(())
}

/// Reads a far file's bytes; gives how many there are, fewer than asked at its end alone.
pub fn fetch(file: &File, offset: u64, room: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while let Some(rest) = room.get_mut(got..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + got as u64) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

/// A root that was looked at.
#[derive(Debug)]
pub struct Root {
    /// It is held alone.
    pub fd: OwnedFd,
    /// How paths are resolved beneath it.
    pub how: How,
    /// Whether its own file system tells what is in memory.
    pub near: bool,
}

/// Opens the folder that is served, and one thing beneath it the way all will be: the folder itself.
pub fn root(path: &Path) -> Result<Root, ShellError> {
    let what = || format!("cannot serve files from {}", path.display());
    let remedy = "set boot.root (or -r) to a folder that this user may read";
    let failed = |error: io::Error| ShellError::system(what(), error, remedy);
    let path = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| failed(error.into()))?;
    let fd = nix::fcntl::open(
        path.as_c_str(),
        nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    );
    let fd = fd.map_err(|errno| failed(errno.into()))?;
    let how = match file::open_beneath(fd.as_fd(), c".", libc::O_PATH) {
        Ok(_) => How::Openat2,
        Err(error) => How::Walk(error.raw_os_error().unwrap_or(libc::ENOSYS)),
    };
    let beneath = |error: io::Error| {
        let remedy =
            "the kernel or a sandbox forbids every way to open boot files (openat2; openat, statx and open in /proc/self/fd): allow one";
        ShellError::system(format_args!("{}: nothing can be opened beneath it", what()), error, remedy)
    };
    let held = hold(Ground { root: fd.as_fd(), how, allowed: &[] }, b".").map_err(beneath)?;
    state(held.as_fd()).map_err(beneath)?;
    let opened =
        reopen(held.as_fd()).map_err(|error| if error.raw_os_error() == Some(libc::EACCES) { failed(error) } else { beneath(error) })?;
    let mut listed = nix::dir::Dir::from_fd(opened).map_err(|errno| failed(errno.into()))?;
    listed.iter().next().transpose().map_err(|errno| failed(errno.into()))?;
    let near = magic(fd.as_fd()).is_ok_and(is_near);
    Ok(Root { fd, how, near })
}

impl Root {
    /// With these folders into which links may lead.
    pub fn ground<'a>(&'a self, allowed: &'a [Allowed]) -> Ground<'a> {
        Ground { root: self.fd.as_fd(), how: self.how, allowed }
    }
}

/// Whether a path shows a regular file.
pub fn is_file(ground: Ground<'_>, name: &[u8]) -> bool {
    hold(ground, name).and_then(|held| state(held.as_fd())).is_ok_and(|(_, regular)| regular)
}

/// Why a file of this name, which may be there, cannot be opened: EACCES, or EXDEV when a link leads out.
pub fn trouble(ground: Ground<'_>, name: &[u8]) -> Option<i32> {
    hold(ground, name).and_then(|held| reopen(held.as_fd())).err().and_then(|error| error.raw_os_error())
}
