//! Processes that this one forks and that live as long as it does.

use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

use libc::{c_int, c_uint, c_ulong};

use super::check;

/// Where a child finds the one descriptor that it keeps.
const KEPT: RawFd = 3;
/// What the parent hears, and its children do not: they end when it ends.
const UNHEARD: [c_int; 7] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2, libc::SIGPIPE];

/// Forks a process that does one thing over one descriptor, until that ends. It has the parent's memory as it is now, no other descriptor (the
/// standard ones lead nowhere), hears no signal of the parent's, and is killed when the parent's thread dies. Gives its process id.
pub fn fork_child(name: &std::ffi::CStr, keep: OwnedFd, act: impl FnOnce(OwnedFd)) -> io::Result<i32> {
    let parent = std::process::id();
    // SAFETY: the child runs `act` alone and never returns from here. In a process with more threads (the tests) it must not touch what another
    // one may have locked at this moment: it allocates, which glibc allows behind a fork, and prints and logs nothing.
    let pid = check(unsafe { libc::fork() })?;
    if pid > 0 {
        return Ok(pid);
    }
    let code = match settle(name, keep.into_raw_fd(), parent) {
        Ok(kept) => {
            act(kept);
            0
        }
        Err(_) => 1,
    };
    // SAFETY: ends the child at once; nothing of the parent's is flushed or torn down a second time.
    unsafe { libc::_exit(code) }
}

/// Makes a child's surroundings; gives the descriptor that it keeps.
fn settle(name: &std::ffi::CStr, keep: RawFd, parent: u32) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: numbers alone, but for the name, which is a C string that outlives the call, and for SIG_IGN, which is no function of ours.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr() as c_ulong, 0, 0, 0);
        for signal in UNHEARD {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
    follow(parent)?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?.into_raw_fd();
    // SAFETY: descriptors alone; every one of this process is its own copy, and nothing refers to those that are closed or replaced here any more.
    unsafe {
        // Out of the way of the places that are filled next.
        let keep = check(libc::fcntl(keep, libc::F_DUPFD_CLOEXEC, KEPT as c_int + 1))?;
        for standard in 0..KEPT {
            check(libc::dup2(null, standard))?;
        }
        check(libc::dup3(keep, KEPT, libc::O_CLOEXEC))?;
        close_from(KEPT + 1);
        Ok(OwnedFd::from_raw_fd(KEPT))
    }
}

/// Has this process killed when its parent's thread dies; an error when it has died already. It is forgotten when the process becomes another user.
pub fn follow(parent: u32) -> io::Result<()> {
    // SAFETY: numbers alone.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong, 0, 0, 0) })?;
    // It may have died before the kernel knew that this one is to follow.
    if std::os::unix::process::parent_id() != parent { Err(io::ErrorKind::NotConnected.into()) } else { Ok(()) }
}

/// Closes every descriptor from this one on.
///
/// # Safety
/// Nobody may use one of them any more.
unsafe fn close_from(first: RawFd) {
    // SAFETY: as the caller says.
    if unsafe { libc::syscall(libc::SYS_close_range, first as c_uint, c_uint::MAX, 0) } == 0 {
        return;
    }
    // Before 5.9.
    // SAFETY: numbers alone.
    let most = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) }.clamp(256, 1 << 20) as RawFd;
    for fd in first..most {
        // SAFETY: as the caller says.
        unsafe { libc::close(fd) };
    }
}

/// Whether a child has ended; it is forgotten then.
pub fn has_ended(pid: i32) -> bool {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    !matches!(waitpid(nix::unistd::Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive))
}

/// A pair of connected sockets on which messages stay whole; both block until they are set otherwise.
pub fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Waits until a descriptor is readable; false: the time is over.
pub fn wait_readable(fd: &OwnedFd, millis: u16) -> bool {
    use nix::poll::{PollFd, PollFlags, poll};
    use std::os::fd::AsFd;
    let mut asked = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut asked, millis), Ok(1))
}

/// Locks an open file for whoever holds it; fails at once if somebody else has.
pub fn try_lock(file: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }).map(drop)
}
