//! Signals as a descriptor of the loop.

use nix::sys::signal::{SigSet, Signal as Unix};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::ShellError;
use crate::base::machine::{Command, Reload};

/// SIGHUP opens the log again as well.
const WATCHED: [(Unix, Command); 4] = [
    (Unix::SIGTERM, Command::Leave),
    (Unix::SIGINT, Command::Leave),
    (Unix::SIGHUP, Command::Reload(Reload::Stay)),
    (Unix::SIGUSR1, Command::Checkpoint),
];

/// Holds what asks a daemon for something, which would end it, until [`Signals::take`] takes it: for the first line of a program.
pub fn hold() -> Result<(), ShellError> {
    let mut set = SigSet::empty();
    set.add(Unix::SIGHUP);
    set.add(Unix::SIGUSR1);
    set.thread_block().map_err(|error| ShellError::system("cannot hold signals", error, ""))
}

/// The signals that end, reload or checkpoint, as a descriptor.
pub struct Signals(pub SignalFd);

impl Signals {
    /// Blocks the signals' usual effect and opens the descriptor.
    pub fn open() -> Result<Signals, ShellError> {
        let mut set = SigSet::empty();
        for (unix, _) in WATCHED {
            set.add(unix);
        }
        let open = || {
            set.thread_block()?;
            SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        };
        open().map(Signals).map_err(|error| ShellError::system("cannot watch signals", error, ""))
    }

    /// The next signal that has arrived.
    pub fn take(&mut self) -> Option<Command> {
        let info = self.0.read_signal().ok()??;
        WATCHED.iter().find(|(unix, _)| *unix as u32 == info.ssi_signo).map(|(_, signal)| *signal)
    }
}
