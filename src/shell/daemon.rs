//! Becoming a daemon: one fork, a session of its own, a locked pid file, and a parent that leaves only when the child is ready.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::mman::{MlockAllFlags, mlockall};

use super::{ShellError, stdio, sys};

/// The child's end of the pipe on which its parent waits, and what takes the terminal's place. Both are opened before privileges are given up.
pub struct Readiness(Option<(OwnedFd, File)>);

/// Forks. The parent never returns: it exits 0 once the child is ready, or prints the child's reason and exits 1.
pub fn fork() -> Result<Readiness, ShellError> {
    let failed = |error: std::io::Error| ShellError::system("cannot become a daemon", error, "run in the foreground with -f");
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed(errno.into()))?;
    if sys::fork().map_err(failed)? {
        drop(read);
        sys::become_session_leader().map_err(failed)?;
        // All paths are absolute by now.
        std::env::set_current_dir("/").map_err(failed)?;
        let null = OpenOptions::new().read(true).write(true).open("/dev/null").map_err(failed)?;
        return Ok(Readiness(Some((write, null))));
    }
    drop(write);
    let mut said = String::new();
    let heard = File::from(read).read_to_string(&mut said);
    if heard.is_ok() && said == READY {
        std::process::exit(0);
    }
    stdio::complain(&format!("musterd: {}", if said.is_empty() { "the daemon died before it was ready" } else { said.trim_end() }));
    std::process::exit(1);
}

const READY: &str = "ready\n";

/// Keeps what is allocated in memory, every page touched and none swapped out: the loop waits for no disk, and storms leave the daemon as
/// large as it was. Where that is not allowed the daemon does without.
pub fn lock_memory() {
    if let Err(errno) = mlockall(MlockAllFlags::MCL_CURRENT) {
        log::info!("memory: not locked, so it may be swapped out ({errno}; raise LimitMEMLOCK or ulimit -l)");
    }
}

impl Readiness {
    /// For the foreground, where nobody waits.
    pub fn foreground() -> Readiness {
        Readiness(None)
    }

    /// Lets the parent go, and lets go of the terminal.
    pub fn ready(self) -> Result<(), ShellError> {
        let Some((pipe, null)) = self.0 else { return Ok(()) };
        let failed = |error: std::io::Error| ShellError::system("cannot detach from the terminal", error, "");
        for result in [nix::unistd::dup2_stdin(&null), nix::unistd::dup2_stdout(&null), nix::unistd::dup2_stderr(&null)] {
            result.map_err(|errno| failed(errno.into()))?;
        }
        File::from(pipe).write_all(READY.as_bytes()).map_err(failed)
    }

    /// Tells the parent why there will be no daemon.
    pub fn failed(self, why: &str) {
        match self.0 {
            Some((pipe, _)) => drop(File::from(pipe).write_all(format!("{why}\n").as_bytes())),
            None => stdio::complain(&format!("musterd: {why}")),
        }
    }
}

/// Makes the run folder if it is not there.
pub fn make_run_dir(folder: &Path) -> Result<(), ShellError> {
    let failed =
        |error| ShellError::system(format_args!("cannot make the folder {}", folder.display()), error, "choose another with --run-dir");
    std::fs::create_dir_all(folder).map_err(failed)
}

/// How often a pid file that was unlinked meanwhile is opened again.
const LOCK_TRIES: u32 = 10;

/// The pid file, locked for as long as this lives, removed at the end.
pub struct PidFile {
    path: PathBuf,
    _lock: Flock<File>,
}

impl PidFile {
    /// Writes our pid. Refuses while another daemon holds the file.
    pub fn create(folder: &Path) -> Result<PidFile, ShellError> {
        make_run_dir(folder)?;
        let path = folder.join("musterd.pid");
        let failed =
            |error| ShellError::system(format_args!("cannot write {}", path.display()), error, "choose another folder with --run-dir");
        // A daemon that leaves may unlink the file between our opening and our locking it: a lock on that one would exclude nobody.
        let mut tries = 0;
        let mut lock = loop {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).mode(0o644).open(&path).map_err(failed)?;
            let opened = file.metadata().map_err(failed)?;
            let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(file, errno)| refused(file, errno, &path))?;
            tries += 1;
            if std::fs::metadata(&path).is_ok_and(|named| (named.dev(), named.ino()) == (opened.dev(), opened.ino())) {
                break lock;
            }
            if tries == LOCK_TRIES {
                return Err(ShellError::new(format!("{} keeps being replaced: choose another folder with --run-dir", path.display())));
            }
        };
        let text = format!("{}\n", std::process::id());
        lock.set_permissions(std::fs::Permissions::from_mode(0o644))
            .and_then(|()| lock.set_len(0))
            .and_then(|()| lock.rewind())
            .and_then(|()| lock.write_all(text.as_bytes()))
            .map_err(failed)?;
        Ok(PidFile { path, _lock: lock })
    }
}

/// Why the pid file could not be locked: another daemon holds it, or the file system cannot lock.
fn refused(mut file: File, errno: Errno, path: &Path) -> ShellError {
    if errno != Errno::EWOULDBLOCK {
        return ShellError::system(format_args!("cannot lock {}", path.display()), errno, "choose another folder with --run-dir");
    }
    let mut pid = String::new();
    let _ = file.read_to_string(&mut pid);
    ShellError::new(format!("already running as pid {} ({}): stop it first, or use another --run-dir", pid.trim(), path.display()))
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Writes a file that everybody on the machine is to read, whatever the umask. It is on disk before it bears its name, so that a power
/// cut leaves no empty file: this waits for the disk.
pub fn publish(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_a_folder() {
        let folder = std::env::temp_dir().join(format!("muster-pid-{}", std::process::id()));
        let first = PidFile::create(&folder).unwrap();
        let why = PidFile::create(&folder).err().unwrap().to_string();
        assert!(why.contains(&format!("already running as pid {} ", std::process::id())), "{why}");
        drop(first);
        assert!(!folder.join("musterd.pid").exists());
        // One that was left behind by a crash is locked by nobody.
        std::fs::write(folder.join("musterd.pid"), "1\n").unwrap();
        let again = PidFile::create(&folder).unwrap();
        assert_eq!(std::fs::read_to_string(folder.join("musterd.pid")).unwrap(), format!("{}\n", std::process::id()));
        drop(again);
        std::fs::remove_dir(&folder).unwrap();
    }
}
