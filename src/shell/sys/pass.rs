//! Messages between processes, with open files on them (unix(7), SCM_RIGHTS). Nothing is allocated.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, iovec, msghdr};

use super::check;

/// Files on one message.
pub const FILES_MAX: usize = 2;

/// Room for the control message of [`FILES_MAX`] descriptors, aligned as its header must be.
#[repr(C, align(8))]
struct PassControl([u8; 64]);

// SAFETY: CMSG_SPACE is arithmetic.
const _: () = assert!(unsafe { libc::CMSG_SPACE((FILES_MAX * size_of::<RawFd>()) as u32) } as usize <= 64);

/// Sends one message made of two parts. `WouldBlock` when there is no room for it, unless the socket blocks.
pub fn send(fd: BorrowedFd<'_>, head: &[u8], body: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut parts = [head, body].map(|part| iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
    let mut control = PassControl([0; 64]);
    let count = files.len().min(FILES_MAX);
    // SAFETY: msghdr is plain data; all zero is a valid value.
    let mut message: msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (parts.as_mut_ptr(), parts.len() as _);
    if count > 0 {
        let bytes = (count * size_of::<RawFd>()) as u32;
        message.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: the control buffer has room for one message of FILES_MAX descriptors (asserted above) and is aligned for its header, so that
        // the first header and the `count` descriptors behind it lie inside it.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(bytes) as _;
            let first = libc::CMSG_FIRSTHDR(&raw const message);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(bytes) as _;
            let place = libc::CMSG_DATA(first).cast::<RawFd>();
            for (at, file) in files.iter().take(count).enumerate() {
                place.add(at).write_unaligned(file.as_raw_fd());
            }
        }
    }
    // SAFETY: the message points at the two parts and the control buffer, which outlive the call; the kernel only reads them.
    let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Receives one message into two parts, and the files that are on it; gives its length, 0 when the other end is gone.
pub fn receive(fd: BorrowedFd<'_>, head: &mut [u8], body: &mut [u8], wait: bool) -> io::Result<(usize, [Option<OwnedFd>; FILES_MAX])> {
    let mut parts = [head, body].map(|part| iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() });
    let mut control = PassControl([0; 64]);
    // SAFETY: msghdr is plain data; all zero is a valid value.
    let mut message: msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (parts.as_mut_ptr(), parts.len() as _);
    (message.msg_control, message.msg_controllen) = (control.0.as_mut_ptr().cast(), control.0.len() as _);
    let flags: c_int = libc::MSG_CMSG_CLOEXEC | if wait { 0 } else { libc::MSG_DONTWAIT };
    // SAFETY: the message points at the two parts and the control buffer, with their true lengths; they are borrowed mutably for the call.
    let got = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, flags) };
    check(got.clamp(-1, 0) as c_int)?;
    let mut files = [const { None }; FILES_MAX];
    // SAFETY: the kernel has filled the control buffer up to msg_controllen with well-formed messages, which CMSG_* walk inside that length; each
    // descriptor in one of SCM_RIGHTS was just made for this process and belongs to nobody else.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(&raw const message);
        while let Some(header) = next.as_ref() {
            if (header.cmsg_level, header.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
                let data = libc::CMSG_DATA(next).cast::<RawFd>();
                let len: usize = header.cmsg_len as _;
                let count = len.saturating_sub(libc::CMSG_LEN(0) as usize) / size_of::<RawFd>();
                for at in 0..count {
                    let file = OwnedFd::from_raw_fd(data.add(at).read_unaligned());
                    if let Some(place) = files.get_mut(at) {
                        *place = Some(file);
                    }
                }
            }
            next = libc::CMSG_NXTHDR(&raw const message, next);
        }
    }
    Ok((got as usize, files))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;

    #[test]
    fn files_travel_with_their_message() {
        let (ours, theirs) = super::super::child::socket_pair().unwrap();
        let mut file = std::fs::File::from(super::super::file::in_memory(c"test").unwrap());
        file.write_all(b"content").unwrap();
        send(ours.as_fd(), b"head", b"body", &[file.as_fd(), ours.as_fd()]).unwrap();
        send(ours.as_fd(), b"head", b"", &[]).unwrap();
        let (mut head, mut body) = ([0; 4], [0; 10]);
        let (len, [first, second]) = receive(theirs.as_fd(), &mut head, &mut body, true).unwrap();
        assert_eq!((len, &head, &body[..4]), (8, b"head", &b"body"[..]));
        let mut copy = std::fs::File::from(first.unwrap());
        let mut text = String::new();
        copy.rewind().and_then(|()| copy.read_to_string(&mut text)).unwrap();
        assert_eq!((text.as_str(), second.is_some()), ("content", true));
        let (len, files) = receive(theirs.as_fd(), &mut head, &mut body, false).unwrap();
        assert!(len == 4 && files.iter().all(Option::is_none));
        assert_eq!(receive(theirs.as_fd(), &mut head, &mut body, false).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop((ours, second));
        assert_eq!(receive(theirs.as_fd(), &mut head, &mut body, false).unwrap().0, 0, "the other end is gone");
    }
}
