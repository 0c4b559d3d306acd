//! Descriptors that whoever started this process has handed to it (sd_listen_fds(3)).

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, sockaddr_in, socklen_t};

use super::check;

/// The number of the first one.
const FIRST: RawFd = 3;
/// More than these are none of ours.
const MOST: u32 = 1024;
/// SO_BINDTOIFINDEX of `asm-generic/socket.h`, since 5.0: which interface a socket is bound to.
const SO_BINDTOIFINDEX: c_int = 62;

/// Takes so many of them: to be called once, before this process opens anything.
pub fn take(count: u32) -> Vec<OwnedFd> {
    let mut taken = Vec::new();
    for fd in (FIRST..).take(count.min(MOST) as usize) {
        // SAFETY: numbers alone. It fails where there is no such descriptor.
        let there = check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }).is_ok();
        if there {
            // SAFETY: it is open, and belongs to nobody in this process: the caller is the first to look.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            // SAFETY: numbers alone.
            unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
            taken.push(fd);
        }
    }
    taken
}

/// The address that a socket of IPv4 is bound to; None: it is none.
pub fn address(fd: BorrowedFd<'_>) -> Option<SocketAddrV4> {
    // SAFETY: sockaddr_in is plain data; all zero is a valid value.
    let mut name: sockaddr_in = unsafe { std::mem::zeroed() };
    let mut len = size_of::<sockaddr_in>() as socklen_t;
    // SAFETY: the pointers describe `name` and `len`, and both outlive the call.
    check(unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut name).cast(), &raw mut len) }).ok()?;
    let ip = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
    (c_int::from(name.sin_family) == libc::AF_INET).then(|| SocketAddrV4::new(ip, u16::from_be(name.sin_port)))
}

/// The index of the interface that a socket is bound to, 0 for none; None where the kernel does not say.
pub fn interface(fd: BorrowedFd<'_>) -> Option<u32> {
    let (mut index, mut len): (c_int, _) = (0, size_of::<c_int>() as socklen_t);
    // SAFETY: the pointers describe `index` and `len`, and both outlive the call.
    let got = unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, SO_BINDTOIFINDEX, (&raw mut index).cast(), &raw mut len) };
    check(got).ok().and_then(|_| u32::try_from(index).ok())
}
