//! Tells the service manager that started us how we are: `sd_notify(3)`, a datagram to the socket in `$NOTIFY_SOCKET`.
//!
//! | when | what |
//! |---|---|
//! | all is open | [`READY`], and what is served |
//! | a reload begins, and ends | [`reloading`], then [`READY`] and what became of it |
//! | twice in the time that the manager gives (`$WATCHDOG_USEC`) | that the loop turns ([`Watchdog`]) |
//! | a signal tells us to leave | [`STOPPING`] |
//! | sockets are to outlive us | what to keep, with copies of them ([`super::left`]) |
//!
//! Used by `bin`. Nothing here waits.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::base::time::Instant;

use super::sys::pass;

/// Everything is open: units that wait for this one may start.
pub const READY: &str = "READY=1";
/// We leave because of a signal.
pub const STOPPING: &str = "STOPPING=1";

/// Twice in its time the manager hears that the loop turns: one that hangs is ended.
pub struct Watchdog {
    every: Option<Duration>,
    told: Instant,
}

impl Watchdog {
    /// As the environment asks for it.
    pub fn of_environment() -> Watchdog {
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        Watchdog::every(number("WATCHDOG_USEC").filter(|micros| ours && *micros > 0).map(|micros| Duration::from_micros(micros) / 2))
    }

    fn every(every: Option<Duration>) -> Watchdog {
        Watchdog { every, told: Instant::ZERO }
    }

    /// How long a turn of the loop may take at most.
    pub fn longest(&self, longest: Duration) -> Duration {
        self.every.map_or(longest, |every| longest.min(every / 2))
    }

    /// Once a turn: says that the loop turns, if it is time for that.
    pub fn turn(&mut self, now: impl Fn() -> Instant) {
        if self.is_due(now) {
            tell("WATCHDOG=1");
        }
    }

    fn is_due(&mut self, now: impl Fn() -> Instant) -> bool {
        let Some(every) = self.every else { return false };
        let now = now();
        let due = now.since(self.told) >= every;
        if due {
            self.told = now;
        }
        due
    }
}

/// A reload begins, now.
pub fn reloading(now: Instant) -> String {
    format!("RELOADING=1\nMONOTONIC_USEC={}", now.since(Instant::ZERO).as_micros())
}

/// The same, with a sentence for who looks at the unit.
pub fn ready(status: &str) -> String {
    format!("{READY}\nSTATUS={status}")
}

/// Says so, where there is a manager that wants to hear it. Nothing waits: a manager whose socket is full hears nothing.
pub fn tell(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(&socket, state) {
        let state = state.lines().next().unwrap_or_default();
        log::warn!("service manager: cannot send {state}: {error} (with Type=notify it will stop musterd; use Type=exec)");
    }
}

/// The same of what may be said in vain.
pub fn tell_again(state: &str) {
    hand(state, &[]);
}

/// The same with descriptors, of which the manager gets copies: at most [`pass::FILES_MAX`]. One that hears nothing of it keeps none.
pub fn hand(state: &str, files: &[BorrowedFd<'_>]) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let handed = connect(&socket).and_then(|to| pass::send(to.as_fd(), state.as_bytes(), &[], files));
    if let Err(error) = handed {
        log::debug!("service manager: cannot hand over sockets: {error}");
    }
}

fn connect(socket: &OsStr) -> io::Result<UnixDatagram> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let to = UnixDatagram::unbound()?;
    to.set_nonblocking(true)?;
    to.connect_addr(&address)?;
    Ok(to)
}

fn send(socket: &OsStr, state: &str) -> io::Result<usize> {
    connect(socket)?.send(state.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_hears_it_by_a_path_or_an_abstract_name() {
        let path = std::env::temp_dir().join(format!("muster-notify-{}", std::process::id()));
        let name = format!("muster-notify-{}", std::process::id());
        let by_path = UnixDatagram::bind(&path).unwrap();
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let mut buf = [0; 64];
        for (socket, text) in [(&by_path, path.clone().into_os_string()), (&by_name, format!("@{name}").into())] {
            send(&text, READY).unwrap();
            socket.set_nonblocking(true).unwrap();
            let len = socket.recv(&mut buf).unwrap();
            assert_eq!(&buf[..len], b"READY=1");
        }
        std::fs::remove_file(path).unwrap();
        assert!(send(std::ffi::OsStr::new("/nonexistent/socket"), READY).is_err());
    }
    #[test]
    fn a_watchdog_is_fed_in_time_and_not_all_the_time() {
        let at = |millis| Instant::ZERO + Duration::from_millis(millis);
        let mut dog = Watchdog::every(Some(Duration::from_secs(15)));
        assert_eq!(dog.longest(Duration::from_secs(60)), Duration::from_millis(7500));
        let told: Vec<u64> = (0..60_000).step_by(7_500).filter(|millis| dog.is_due(|| at(*millis))).collect();
        assert_eq!(told, [15_000, 30_000, 45_000]);
        let mut none = Watchdog::every(None);
        assert_eq!((none.longest(Duration::from_secs(60)), none.is_due(|| at(1 << 40))), (Duration::from_secs(60), false));
    }
}
