//! The log of the foreground: lines on standard error, gathered in a fixed buffer and written once a turn of the loop, never waited for.
//!
//! Whoever reads them may be slower than a storm, or hang altogether (a pager, journald behind a full disk): what does not fit into the
//! buffer is counted and logged as soon as there is room. Used by `bin` to set it up, and by the loop.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsRawFd;
use std::sync::Mutex;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};

/// A few hundred lines: those of a turn in the worst storm.
const ROOM: usize = 64 * 1024;
/// A pipe that is ready takes this much without a wait (POSIX: PIPE_BUF); a terminal mostly.
const GULP: usize = 4096;

struct Lines {
    bytes: Vec<u8>,
    lost: u64,
}

static LINES: Mutex<Lines> = Mutex::new(Lines { bytes: Vec::new(), lost: 0 });

/// Where the logger writes to.
pub struct StderrLog;

impl StderrLog {
    /// Allocates the buffer, and sees to it that a panic's last lines are not lost.
    pub fn new() -> StderrLog {
        if let Ok(mut lines) = LINES.lock() {
            lines.bytes.reserve_exact(ROOM);
        }
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            flush();
            before(panic);
        }));
        StderrLog
    }

    /// Whether colours have a reader.
    pub fn is_terminal() -> bool {
        io::stderr().is_terminal()
    }
}

impl Default for StderrLog {
    fn default() -> StderrLog {
        StderrLog::new()
    }
}

impl Write for StderrLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let Ok(mut lines) = LINES.lock() else { return Ok(line.len()) };
        if lines.bytes.len() + line.len() > ROOM {
            lines.put_out(put);
        }
        if lines.bytes.len() + line.len() > ROOM {
            lines.lost += 1;
        } else {
            lines.bytes.extend_from_slice(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes what was gathered, as far as it is taken at once. True: some is left.
pub fn flush() -> bool {
    let Ok(mut lines) = LINES.lock() else { return false };
    lines.put_out(put);
    !lines.bytes.is_empty()
}

impl Lines {
    /// `put` takes some bytes and says how many; None when none can be taken now.
    fn put_out(&mut self, put: impl Fn(&[u8]) -> Option<usize>) {
        let mut done = 0;
        while let Some(rest) = self.bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let Some(taken) = put(rest) else { break };
            done += taken;
        }
        self.bytes.drain(..done);
        if self.lost > 0 && self.bytes.is_empty() {
            let lost = std::mem::take(&mut self.lost);
            let _ = writeln!(self.bytes, "log: {lost} lines lost (the reader of standard error is too slow)");
        }
    }
}

/// Standard error, without a wait. An error that will not pass (nobody reads any more) takes everything.
fn put(bytes: &[u8]) -> Option<usize> {
    let stderr = io::stderr();
    match send(stderr.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
        Ok(taken) => return Some(taken),
        Err(Errno::EAGAIN | Errno::EINTR) => return None,
        Err(Errno::ENOTSOCK) => {}
        Err(_) => return Some(bytes.len()),
    }
    let mut ready = [PollFd::new(std::os::fd::AsFd::as_fd(&stderr), PollFlags::POLLOUT)];
    match poll(&mut ready, PollTimeout::ZERO) {
        Ok(1) => {}
        _ => return None,
    }
    match (&stderr).write(bytes.get(..GULP).unwrap_or(bytes)) {
        Ok(taken) => Some(taken),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => None,
        Err(_) => Some(bytes.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    #[test]
    fn a_slow_reader_holds_nobody_and_hears_of_what_it_missed() {
        let mut lines = Lines { bytes: b"first\nsecond\n".to_vec(), lost: 0 };
        let (heard, room) = (RefCell::new(Vec::new()), Cell::new(0));
        let reader = |bytes: &[u8]| {
            let taken = bytes.len().min(room.get());
            room.set(room.get() - taken);
            heard.borrow_mut().extend_from_slice(&bytes[..taken]);
            (taken > 0).then_some(taken)
        };
        lines.put_out(reader);
        assert_eq!(lines.bytes, b"first\nsecond\n");
        room.set(8);
        lines.put_out(reader);
        lines.lost = 3;
        room.set(1000);
        lines.put_out(reader);
        lines.put_out(reader);
        let all = "first\nsecond\nlog: 3 lines lost (the reader of standard error is too slow)\n";
        assert_eq!((String::from_utf8(heard.take()).unwrap().as_str(), lines.bytes.len()), (all, 0));
    }
}
