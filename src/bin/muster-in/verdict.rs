//! The node's test: each executable of a folder, in the order of names, one after the other, until one fails.
//!
//! A test is a regular file with an execute bit. It passes by leaving with 0 inside its time; whatever it has left running is killed with
//! it. Its output goes to our standard error, since our standard output is what an init script reads.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use muster::wire::report::{ReportText, ReportVerdict};

/// How long a killed test may take to be gone. One that hangs in the kernel is left behind.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// A signal may come between a look at the child and the wait for it: looked at this often anyhow.
const LOOK: Duration = Duration::from_millis(500);

/// Runs the tests; no folder and an empty one are passed. An error says why there is no verdict.
pub fn run(folder: &Path, limit: Duration) -> Result<ReportVerdict, String> {
    let tests = list(folder)
        .map_err(|error| format!("cannot read the folder of tests {}: {error}: name another with --tests", folder.display()))?;
    let mut watch = Watch::open().map_err(|error| format!("cannot watch signals: {error}"))?;
    for (name, path) in tests {
        let name = name.to_string_lossy();
        let begin = Instant::now();
        let end = watch.run(&path, limit)?;
        let seconds = begin.elapsed().as_secs_f64();
        match end {
            Ok(()) => log::info!("test {name}: passed ({seconds:.1} s)"),
            Err(why) => {
                log::error!("test {name}: failed ({seconds:.1} s): {why}");
                // A name of blanks is not told, but it has not passed.
                let told = ReportText::lossy(&name).or_else(|| ReportText::new(b"?"));
                return Ok(told.map_or(ReportVerdict::Untested, ReportVerdict::Failed));
            }
        }
    }
    Ok(ReportVerdict::Passed)
}

fn list(folder: &Path) -> io::Result<Vec<(OsString, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut tests = Vec::new();
    for entry in entries {
        let entry = entry?;
        // A link is what it points to; one that points nowhere is no file.
        let Ok(metadata) = fs::metadata(entry.path()) else { continue };
        if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
            tests.push((entry.file_name(), entry.path()));
        } else if metadata.is_file() {
            log::warn!("{}: skipped (not executable)", entry.path().display());
        }
    }
    tests.sort();
    Ok(tests)
}

/// Signals, as a descriptor: the end of a child, and the operator's wish to stop.
struct Watch {
    fd: SignalFd,
    set: SigSet,
}

impl Watch {
    fn open() -> nix::Result<Watch> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
            set.add(signal);
        }
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Watch { fd, set })
    }

    /// Runs one test: how it ended, or why we have to leave.
    fn run(&mut self, path: &Path, limit: Duration) -> Result<Result<(), String>, String> {
        let stderr = || io::stderr().as_fd().try_clone_to_owned().map(Stdio::from);
        let spawn = || Command::new(path).stdin(Stdio::null()).stdout(stderr()?).process_group(0).spawn();
        // A child inherits which signals are blocked, and a test shall die of its own. What ends meanwhile is seen by the first look.
        let _ = self.set.thread_unblock();
        let spawned = spawn();
        let _ = self.set.thread_block();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => return Ok(Err(format!("cannot start it: {error}"))),
        };
        let ended = self.wait(&child, limit);
        // Also what a test that has ended left behind; its own process is not reaped yet, so the group is still its own.
        let _ = killpg(pid(&child), Signal::SIGKILL);
        match ended {
            Err(signal) => Err(format!("stopped by {signal} during the test")),
            Ok(true) => Ok(judge(child.wait())),
            Ok(false) => {
                if let Ok(true) = self.wait(&child, LAST_WORDS) {
                    let _ = child.wait();
                }
                Ok(Err(format!("it was killed after {} s", limit.as_secs())))
            }
        }
    }

    /// Whether a child has ended within so much time. It is not reaped. An error is the signal that ends us.
    fn wait(&mut self, child: &Child, limit: Duration) -> Result<bool, Signal> {
        let end = Instant::now() + limit;
        loop {
            let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            if !matches!(waitid(Id::Pid(pid(child)), look), Ok(WaitStatus::StillAlive)) {
                return Ok(true);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            let nap = PollTimeout::try_from(left.min(LOOK)).unwrap_or(PollTimeout::ZERO);
            // Whatever ended it, the loop looks again.
            let _ = poll(&mut [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)], nap);
            while let Ok(Some(info)) = self.fd.read_signal() {
                if let Ok(signal @ (Signal::SIGTERM | Signal::SIGINT)) = Signal::try_from(info.ssi_signo as i32) {
                    return Err(signal);
                }
            }
        }
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32)
}

fn judge(status: io::Result<std::process::ExitStatus>) -> Result<(), String> {
    let status = status.map_err(|error| format!("cannot wait for its end: {error}"))?;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) => Err(format!("exit status {code}")),
        (None, signal) => {
            let name = signal.and_then(|signal| Signal::try_from(signal).ok()).map_or("a signal", Signal::as_str);
            Err(format!("killed by {name}"))
        }
    }
}
