//! The log of the daemon: datagrams to the system's log socket (RFC 3164 as syslog daemons and journald read it), never waited for.

use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};

/// The facility `daemon`.
const FACILITY: u8 = 3 << 3;
const SOCKET: &str = "/dev/log";
/// The longest line; the rest is cut.
const LINE_MAX: usize = 1024;

pub struct Syslog {
    socket: Mutex<Option<UnixDatagram>>,
    /// Lines that the log socket had no room for.
    lost: AtomicU64,
}

static SYSLOG: Syslog = Syslog { socket: Mutex::new(None), lost: AtomicU64::new(0) };

/// Makes syslog the log of this process.
pub fn init(level: LevelFilter) {
    reopen();
    if log::set_logger(&SYSLOG).is_ok() {
        log::set_max_level(level);
    }
}

/// Opens the socket again, after the log daemon was restarted.
pub fn reopen() {
    let open = || {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.connect(SOCKET)?;
        Ok::<_, std::io::Error>(socket)
    };
    if let Ok(mut place) = SYSLOG.socket.lock() {
        *place = open().ok();
    }
}

fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

impl Log for Syslog {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut line = [0u8; LINE_MAX];
        let mut rest = &mut line[..];
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let note = if lost > 0 { format!("[{lost} lines were lost] ") } else { String::new() };
        // A line that is too long is cut where the buffer ends.
        let _ = write!(rest, "<{}>musterd[{}]: {note}{}", FACILITY | severity(record.level()), std::process::id(), record.args());
        let len = LINE_MAX - rest.len();
        let sent = self.socket.lock().ok().and_then(|socket| socket.as_ref().map(|socket| socket.send(&line[..len]).is_ok()));
        if sent != Some(true) {
            self.lost.fetch_add(lost + 1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}
