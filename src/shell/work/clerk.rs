//! The clerk's part: what an operator asks for, a reload or a checkpoint, where no file of it may hold up the loop.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use super::super::ShellError;
use super::super::control::{GROUP, NAME};

/// No config is longer.
pub const CONFIG_MAX: u64 = 1 << 20;
/// The longest path of a unix socket; longer ones are reached through their folder's descriptor.
const PATH_MAX: usize = 107;

/// The text of a config file. None: there is none of this name.
pub fn read_config(path: &Path) -> Result<Option<String>, ShellError> {
    let cannot = |why: &dyn std::fmt::Display, remedy: &str| {
        ShellError::system(format_args!("cannot read the config {}", path.display()), why, remedy)
    };
    let failed = |error: io::Error| cannot(&error, "name another with -c");
    // A FIFO would be waited for, and a device may be touched by being opened.
    let regular = |found: &fs::Metadata| match found.is_file() {
        true => Ok(()),
        false => Err(cannot(&"it is not a regular file", "name a text file with -c")),
    };
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        found => regular(&found.map_err(failed)?)?,
    }
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).map_err(failed)?;
    regular(&file.metadata().map_err(failed)?)?;
    let mut bytes = Vec::new();
    file.take(CONFIG_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > CONFIG_MAX {
        return Err(cannot(&"it is larger than 1 MiB", "name another with -c"));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| cannot(&"it is not UTF-8 text", "name a text file with -c"))
}

/// Replaces a file in one step: readers see the old text or the new. Everybody may read it, whatever the umask is.
pub fn write_atomically(path: &Path, text: &File) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut bytes = vec![0; text.metadata()?.len() as usize];
    std::os::unix::fs::FileExt::read_exact_at(text, &mut bytes, 0)?;
    fs::write(&new, bytes)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
    fs::rename(&new, path)
}

/// Does to the journal's folder what its opening does, without an effect: where that waits for a disk, this does. What fails will fail again.
pub fn try_folder(folder: &Path) {
    let there = if folder.is_dir() { folder } else { folder.parent().unwrap_or(folder) };
    // To remove a name that nobody has takes leave to write, and changes nothing.
    let _ = fs::remove_file(there.join("journal.try"));
    let _ = File::open(there).and_then(|there| there.sync_all());
    let journal = folder.join("journal");
    if fs::metadata(&journal).is_ok_and(|found| found.is_file()) {
        let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(journal);
        let _ = file.and_then(|mut file| io::copy(&mut file, &mut io::sink()));
    }
}

/// A control socket that was opened.
#[derive(Debug)]
pub struct Door {
    /// The socket, which listens.
    pub listener: UnixListener,
    /// Device and inode of the socket.
    pub identity: Option<(u64, u64)>,
    /// Whose members may speak.
    pub group: Option<u32>,
    /// Why it could not be given to them; only root can use it then.
    pub ungiven: Option<io::Error>,
}

/// Opens the control socket in a folder, in one step: there is no moment without one. `ours` is the one that this daemon had made.
pub fn open_door(folder: &Path, ours: Option<(u64, u64)>) -> Result<Door, ShellError> {
    let path = folder.join(NAME);
    let failed = |error: io::Error| {
        let remedy = "check that its folder exists and is writable, or choose another with --run-dir";
        ShellError::system(format_args!("cannot open the control socket {}", path.display()), error, remedy)
    };
    let is_ours = ours.is_some() && identity(&path) == ours;
    if !is_ours && answers(&path) {
        return Err(ShellError::new(format!("another daemon answers on {}: stop it first, or use another --run-dir", path.display())));
    }
    let group = group_id();
    let new = folder.join(format!("{NAME}.new"));
    if fs::symlink_metadata(&new).is_ok_and(|found| found.file_type().is_socket()) {
        fs::remove_file(&new).map_err(failed)?;
    }
    let listener = through(&new, |path| UnixListener::bind(path)).map_err(failed)?;
    let settle = || -> io::Result<Option<io::Error>> {
        listener.set_nonblocking(true)?;
        // It has the group of this process, which may be theirs.
        let theirs = group.is_none_or(|group| fs::symlink_metadata(&new).is_ok_and(|made| made.gid() == group));
        let given = if theirs { Ok(()) } else { std::os::unix::fs::chown(&new, None, group) };
        fs::set_permissions(&new, fs::Permissions::from_mode(0o660))?;
        fs::rename(&new, &path)?;
        Ok(given.err())
    };
    let ungiven = settle().map_err(failed)?;
    Ok(Door { identity: identity(&path), listener, group, ungiven })
}

/// Connects to a daemon's socket, whatever the length of its path.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    through(path, |path| UnixStream::connect(path))
}

/// Calls with a path that is short enough for a socket's address.
fn through<T>(path: &Path, call: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return call(path) };
    if path.as_os_str().len() <= PATH_MAX {
        return call(path);
    }
    let folder = fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(folder)?;
    call(&Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name))
}

/// Whether somebody listens on a socket. A daemon that is too busy to accept counts.
fn answers(path: &Path) -> bool {
    match connect(path) {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory),
    }
}

/// Device and inode of a socket at this path; None for anything else.
pub fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().filter(|found| found.file_type().is_socket()).map(|found| (found.dev(), found.ino()))
}

/// The group's number, from /etc/group alone: a name service may wait for a network.
fn group_id() -> Option<u32> {
    group_in(&fs::read_to_string("/etc/group").ok()?)
}

/// The number of the group in a text like /etc/group.
pub fn group_in(text: &str) -> Option<u32> {
    let line = text.lines().find_map(|line| line.strip_prefix(GROUP)?.strip_prefix(':'))?;
    line.split(':').nth(1)?.parse().ok()
}
