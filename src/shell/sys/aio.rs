//! Syncing a file without waiting for it: Linux AIO's IOCB_CMD_FDSYNC, told by an eventfd. The kernel does the work in a thread of its own.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use libc::{c_long, c_ulong};
use nix::sys::eventfd::{EfdFlags, EventFd};

const IOCB_CMD_FSYNC: u16 = 2;
const IOCB_CMD_FDSYNC: u16 = 3;
const IOCB_FLAG_RESFD: u32 = 1;

/// `struct iocb` of linux/aio_abi.h. The order of `key` and `rw_flags` is that of little-endian machines; both are 0 here.
#[repr(C)]
#[derive(Default)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    priority: i16,
    fd: u32,
    buf: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    event_fd: u32,
}

/// `struct io_event`.
#[repr(C)]
#[derive(Default)]
struct IoEvent {
    data: u64,
    object: u64,
    result: i64,
    result2: i64,
}

const _: () = assert!(size_of::<Iocb>() == 64 && size_of::<IoEvent>() == 32);

/// A context for one sync at a time.
pub struct Aio {
    context: c_ulong,
    event: EventFd,
    /// The kernel may look at it until the sync is done.
    iocb: Box<Iocb>,
    busy: bool,
}

fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

impl Aio {
    /// Fails where the kernel has none.
    pub fn new() -> io::Result<Aio> {
        let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let mut context: c_ulong = 0;
        // SAFETY: the kernel writes the new context's id to where the pointer shows.
        check(unsafe { libc::syscall(libc::SYS_io_setup, 1 as c_long, &raw mut context) })?;
        Ok(Aio { context, event, iocb: Box::default(), busy: false })
    }

    /// Readable when a sync is done.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Begins to sync a file's data, or a folder. One at a time.
    pub fn sync(&mut self, file: BorrowedFd<'_>, folder: bool) -> io::Result<()> {
        assert!(!self.busy, "one sync at a time");
        let opcode = if folder { IOCB_CMD_FSYNC } else { IOCB_CMD_FDSYNC };
        let (fd, event_fd) = (file.as_raw_fd() as u32, self.event.as_fd().as_raw_fd() as u32);
        *self.iocb = Iocb { opcode, fd, flags: IOCB_FLAG_RESFD, event_fd, ..Iocb::default() };
        let list = [&raw mut *self.iocb];
        // SAFETY: the list holds one pointer to an iocb that lives in a box of ours, unchanged, until its event was taken or the context is
        // destroyed, which waits for it. The kernel keeps its own reference to the file.
        check(unsafe { libc::syscall(libc::SYS_io_submit, self.context, 1 as c_long, list.as_ptr()) })?;
        self.busy = true;
        Ok(())
    }

    /// Whether the sync is done, and how it ended. None while it runs.
    pub fn done(&mut self) -> Option<io::Result<()>> {
        // What the eventfd counts is of no interest: it was readable.
        let _ = self.event.read();
        let mut event = IoEvent::default();
        let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: there is room for the one event that is asked for, and the time-out outlives the call.
        let got = check(unsafe {
            libc::syscall(libc::SYS_io_getevents, self.context, 0 as c_long, 1 as c_long, &raw mut event, &raw const none)
        });
        match got {
            Ok(0) => None,
            Ok(_) => {
                self.busy = false;
                Some(if event.result < 0 { Err(io::Error::from_raw_os_error(-event.result as i32)) } else { Ok(()) })
            }
            Err(error) => {
                self.busy = false;
                Some(Err(error))
            }
        }
    }
}

impl Drop for Aio {
    fn drop(&mut self) {
        // SAFETY: the context is ours; this waits for what is under way.
        let _ = unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}
