//! Reads the names file, again at each call.

use core::ffi::CStr;

use crate::plan::NamesFile;

/// No variable of the environment moves it: set-user-id programs look names up as well.
const PATH: &CStr = c"/var/lib/muster/names";

/// Looks into the names file. None when there is no whole one: then no name is known. Never blocks: whatever bears the name is opened without
/// waiting, and read only when it is a regular file. The file and what it says have a page of their own, as a caller's stack may have only
/// 16 KiB in all (PTHREAD_STACK_MIN).
pub fn with<T>(look: impl FnOnce(&NamesFile) -> T) -> Option<T> {
    let errno = Errno::keep();
    let place = Place::map()?;
    // SAFETY: the place has room for it, is zeroed, and is nobody else's.
    let bytes = unsafe { &mut *place.at.cast::<[u8; NamesFile::MAX]>() };
    let len = slurp(bytes);
    drop(errno);
    let parsed = NamesFile::parse(bytes.get(..len?)?)?;
    Some(look(&parsed))
}

/// Memory of its own, which is given back.
struct Place {
    at: *mut libc::c_void,
}

impl Place {
    fn map() -> Option<Place> {
        let (rights, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: memory that nobody has yet.
        let at = unsafe { libc::mmap(core::ptr::null_mut(), NamesFile::MAX, rights, kind, -1, 0) };
        (at != libc::MAP_FAILED).then_some(Place { at })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // SAFETY: it was mapped above, and nothing refers to it any more.
        unsafe { libc::munmap(self.at, NamesFile::MAX) };
    }
}

/// How many bytes the file has; None when it cannot be read, or is longer than `bytes`.
fn slurp(bytes: &mut [u8]) -> Option<usize> {
    // SAFETY: a C string and flags.
    let descriptor = unsafe { libc::open(PATH.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY) };
    if descriptor < 0 {
        return None;
    }
    let len = if is_regular(descriptor) { fill(descriptor, bytes) } else { None };
    // SAFETY: it was opened above, and nobody else knows it.
    unsafe { libc::close(descriptor) };
    len
}

/// By statx, which C libraries have under the same name since 2.28; fstat of today's is not in theirs.
fn is_regular(descriptor: i32) -> bool {
    let mut stat = core::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: `stat` may be written; all its bit patterns are values.
    let mode = unsafe {
        let done = libc::statx(descriptor, c"".as_ptr(), libc::AT_EMPTY_PATH, libc::STATX_TYPE, stat.as_mut_ptr());
        if done == 0 { stat.assume_init().stx_mode } else { 0 }
    };
    u32::from(mode) & libc::S_IFMT == libc::S_IFREG
}

fn fill(descriptor: i32, bytes: &mut [u8]) -> Option<usize> {
    let mut len = 0;
    loop {
        let rest = bytes.get_mut(len..)?;
        let mut beyond = [0u8; 1];
        // A full buffer is the whole file only if nothing follows.
        let to = if rest.is_empty() { &mut beyond } else { rest };
        // SAFETY: `to` may be written for its whole length.
        let read = unsafe { libc::read(descriptor, to.as_mut_ptr().cast(), to.len()) };
        match read {
            0 => return Some(len),
            1.. if len < bytes.len() => len += read as usize,
            _ if read < 0 && Errno::now() == libc::EINTR => {}
            _ => return None,
        }
    }
}

/// The caller's errno, put back in the end: it is the answer that tells what happened.
struct Errno(i32);

impl Errno {
    fn now() -> i32 {
        // SAFETY: the C library's own variable of this thread.
        unsafe { *libc::__errno_location() }
    }

    fn keep() -> Errno {
        Errno(Errno::now())
    }
}

impl Drop for Errno {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { *libc::__errno_location() = self.0 };
    }
}
