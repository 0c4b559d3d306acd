//! A file that is mapped into memory: what is written there is in the file at once, and stays when this process ends, however it ends.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use libc::c_void;

use super::check;

pub struct SharedMap {
    map: NonNull<u8>,
    bytes: usize,
}

impl SharedMap {
    /// Makes a file as long as this, with all of its blocks, and maps it. Nobody makes it shorter: whoever did would end this process.
    pub fn new(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<SharedMap> {
        // SAFETY: numbers alone.
        check(unsafe { libc::fallocate(fd.as_raw_fd(), 0, 0, bytes as libc::off_t) })?;
        let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
        // SAFETY: a new mapping at an address that the kernel chooses; nothing of ours is replaced.
        let map = unsafe { libc::mmap(std::ptr::null_mut(), bytes, prot, flags, fd.as_raw_fd(), 0) };
        let map = if map == libc::MAP_FAILED { None } else { NonNull::new(map.cast::<u8>()) };
        map.map(|map| SharedMap { map, bytes }).ok_or_else(io::Error::last_os_error)
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at % 8 == 0 && at + 8 <= self.bytes, "word {at} of {} bytes", self.bytes);
        // SAFETY: the word lies within the mapping, which lives as long as `self` and begins at a page, so it is aligned. Nothing else writes there
        // while this lives, and all words are touched as atomics or by `lay`, which needs `&mut self`.
        unsafe { AtomicU64::from_ptr(self.map.as_ptr().add(at).cast::<u64>()) }
    }

    /// A word, by its place in bytes.
    pub fn get(&self, at: usize) -> u64 {
        self.word(at).load(Ordering::Acquire)
    }

    /// Changes a word. All that was changed before is in the file before it.
    pub fn set(&mut self, at: usize, word: u64) {
        self.word(at).store(word, Ordering::Release);
    }

    /// Lays bytes down. What was set before is in the file before them.
    pub fn lay(&mut self, at: usize, bytes: &[u8]) {
        assert!(at <= self.bytes && bytes.len() <= self.bytes - at, "{} bytes at {at} of {}", bytes.len(), self.bytes);
        std::sync::atomic::fence(Ordering::SeqCst);
        // SAFETY: the range lies within the mapping, which `bytes` does not overlap: it is only reached through `self`, borrowed mutably.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.map.as_ptr().add(at), bytes.len()) };
    }
}

impl Drop for SharedMap {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length, and nothing borrows from it any more.
        unsafe { libc::munmap(self.map.as_ptr().cast::<c_void>(), self.bytes) };
    }
}
