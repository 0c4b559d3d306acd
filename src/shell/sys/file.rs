//! Calls about files that neither std nor nix offers in the form needed here.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_int, iovec};

use super::{RUN_BLOCKS, check};

/// How often a path is looked up again because something was renamed meanwhile, anywhere on the machine.
const RENAMED_MAX: usize = 1000;

/// Opens a file beneath a folder, following links only inside it (openat2 of 5.6). `flags` are those of open(2).
///
/// While anybody renames anything the kernel cannot be sure of a path with `..` in it, and says EAGAIN: it is to be asked again
/// (openat2(2), "EAGAIN").
pub fn open_beneath(root: BorrowedFd<'_>, path: &CStr, flags: c_int) -> io::Result<OwnedFd> {
    // SAFETY: open_how is plain data; all zero is a valid value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    let open = || {
        // SAFETY: the path is NUL-terminated, `how` has the size that is told, and both outlive the call.
        let fd = unsafe { libc::syscall(libc::SYS_openat2, root.as_raw_fd(), path.as_ptr(), &raw const how, size_of::<libc::open_how>()) };
        owned(fd as c_int)
    };
    let renamed = |opened: &io::Result<OwnedFd>| matches!(opened, Err(error) if error.raw_os_error() == Some(libc::EAGAIN));
    (0..RENAMED_MAX).map(|_| open()).find(|opened| !renamed(opened)).unwrap_or_else(open)
}

/// Opens one name in a folder (openat(2)).
pub fn open_at(folder: BorrowedFd<'_>, name: &CStr, flags: c_int) -> io::Result<OwnedFd> {
    // SAFETY: the name is NUL-terminated and outlives the call.
    owned(unsafe { libc::openat(folder.as_raw_fd(), name.as_ptr(), flags | libc::O_CLOEXEC) })
}

/// A file without a name, in memory (memfd of 3.17).
pub fn in_memory(name: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: the name is NUL-terminated and outlives the call.
    owned(unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) })
}

fn owned(fd: c_int) -> io::Result<OwnedFd> {
    let fd = check(fd)?;
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reads `bytes` file bytes at `offset` into blocks of `blksize` that lie `gap` bytes apart in `buf`, each behind its gap. With
/// `now`, gives `WouldBlock` rather than wait for the disk. Gives the number of bytes read, which is short where memory or the file ends.
pub fn read_run(fd: BorrowedFd<'_>, buf: &mut [u8], gap: usize, blksize: usize, bytes: usize, offset: u64, now: bool) -> io::Result<usize> {
    let mut iovecs = [iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; RUN_BLOCKS];
    let (mut count, mut left) = (0, bytes);
    for (vec, block) in iovecs.iter_mut().zip(buf.chunks_mut(gap + blksize)) {
        let len = left.min(blksize);
        let Some(body) = block.get_mut(gap..gap + len).filter(|_| len > 0) else { break };
        *vec = iovec { iov_base: body.as_mut_ptr().cast(), iov_len: len };
        left -= len;
        count += 1;
    }
    let flags = if now { libc::RWF_NOWAIT } else { 0 };
    // SAFETY: the first `count` vectors describe disjoint parts of `buf`, which is borrowed mutably for the call.
    let got = unsafe { libc::preadv2(fd.as_raw_fd(), iovecs.as_ptr(), count, offset as libc::off_t, flags) };
    if got < 0 { Err(io::Error::last_os_error()) } else { Ok(got as usize) }
}

/// What a file is like.
pub struct FileStat {
    pub dev: u64,
    pub ino: u64,
    pub size: i64,
    pub mtime: (i64, i64),
    pub regular: bool,
    pub folder: bool,
}

/// What a file is like now, asked of its server where it has one (statx with AT_STATX_FORCE_SYNC).
pub fn state(fd: BorrowedFd<'_>) -> io::Result<FileStat> {
    stat(fd, c"", libc::AT_EMPTY_PATH | libc::AT_STATX_FORCE_SYNC)
}

/// What is known of a name in a folder, without asking any server (AT_STATX_DONT_SYNC) and without following it.
pub fn glance(folder: BorrowedFd<'_>, name: &CStr) -> io::Result<FileStat> {
    stat(folder, name, libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | libc::AT_STATX_DONT_SYNC)
}

fn stat(fd: BorrowedFd<'_>, name: &CStr, flags: c_int) -> io::Result<FileStat> {
    // SAFETY: statx is plain data; all zero is a valid value.
    let mut told: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the path is NUL-terminated, the kernel writes one statx where the pointer shows, and both outlive the call.
    check(unsafe { libc::statx(fd.as_raw_fd(), name.as_ptr(), flags, libc::STATX_BASIC_STATS, &raw mut told) })?;
    Ok(FileStat {
        dev: libc::makedev(told.stx_dev_major, told.stx_dev_minor),
        ino: told.stx_ino,
        size: told.stx_size as i64,
        mtime: (told.stx_mtime.tv_sec, told.stx_mtime.tv_nsec.into()),
        regular: u32::from(told.stx_mode) & libc::S_IFMT == libc::S_IFREG,
        folder: u32::from(told.stx_mode) & libc::S_IFMT == libc::S_IFDIR,
    })
}

/// Keeps memory from being swapped out, each page from its first use on. False where that is not allowed.
pub fn lock_when_used(memory: &[u8]) -> bool {
    // SAFETY: the range is that of a slice; locking changes none of its bytes.
    unsafe { libc::mlock2(memory.as_ptr().cast(), memory.len(), libc::MLOCK_ONFAULT) == 0 }
}
