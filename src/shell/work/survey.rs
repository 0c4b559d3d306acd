//! Which boot files cannot be read: looked for when a root begins to be served, so that nobody learns of it from a machine that does not boot.
//!
//! The files that the config names are opened as they will be. Beneath a root whose file system answers from memory all others are looked at as well, up
//! to [`SEEN_MAX`] of them, without following a link or entering another file system, which might hang. Done by the clerk.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::Dir;
use nix::fcntl::AtFlags;
use nix::unistd::{AccessFlags, faccessat};

use super::super::sys::file;
use super::beneath::{self, Root};
use super::walk::Allowed;

/// Entries that are looked at; a root that has more is not looked through.
const SEEN_MAX: usize = 20_000;
/// Folders in folders.
const DEPTH_MAX: usize = 16;
/// Names that are told.
const NAMED_MAX: usize = 8;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Some of those that cannot be read, beneath the root; a folder ends with a slash.
    pub denied: Vec<String>,
    /// How many there are.
    pub count: u64,
    /// Those that are links which lead out of the root.
    pub outside: Vec<String>,
    seen: usize,
}

/// Looks at the files of these names, and at what is in the root.
pub fn survey<'a>(root: &Root, allowed: &[Allowed], names: impl Iterator<Item = &'a [u8]>) -> Survey {
    let mut survey = Survey::default();
    for name in names.filter(|name| !name.is_empty()) {
        match beneath::trouble(root.ground(allowed), name) {
            Some(libc::EACCES) => survey.deny(name),
            Some(libc::EXDEV) => survey.outside.push(String::from_utf8_lossy(name).into_owned()),
            _ => {}
        }
    }
    if root.near {
        let top = beneath::reopen(root.fd.as_fd());
        if let (Ok(top), Ok(device)) = (top, file::state(root.fd.as_fd()).map(|found| found.dev)) {
            survey.look_through(top, device, &mut Vec::new());
        }
    }
    survey
}

impl Survey {
    fn deny(&mut self, path: &[u8]) {
        let path = String::from_utf8_lossy(path).into_owned();
        if self.denied.contains(&path) {
            return;
        }
        self.count += 1;
        if self.denied.len() < NAMED_MAX {
            self.denied.push(path);
        }
    }

    /// `path` is that of the folder, each name behind a slash.
    fn look_through(&mut self, folder: OwnedFd, device: u64, path: &mut Vec<Vec<u8>>) {
        let Ok(mut listed) = folder.try_clone().map_err(|_| ()).and_then(|copy| Dir::from_fd(copy).map_err(drop)) else { return };
        for entry in listed.iter().flatten() {
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            self.seen += 1;
            if self.seen > SEEN_MAX {
                return;
            }
            let _ = self.look_at(folder.as_fd(), name, device, path);
        }
    }

    fn look_at(&mut self, folder: BorrowedFd<'_>, name: &CStr, device: u64, path: &mut Vec<Vec<u8>>) -> io::Result<()> {
        let found = file::glance(folder, name)?;
        if found.dev != device {
            return Ok(());
        }
        path.push(name.to_bytes().to_vec());
        if found.regular && !is_allowed(folder, name, AccessFlags::R_OK) {
            self.deny(&path.join(&b'/'));
        }
        if found.folder && !is_allowed(folder, name, AccessFlags::X_OK) {
            self.deny(&[path.join(&b'/').as_slice(), b"/"].concat());
        } else if found.folder && path.len() < DEPTH_MAX {
            // One that can be entered and not listed hides its files from us alone.
            if let Ok(inner) = file::open_at(folder, name, libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW) {
                self.look_through(inner, device, path);
            }
        }
        path.pop();
        Ok(())
    }
}

fn is_allowed(folder: BorrowedFd<'_>, name: &CStr, how: AccessFlags) -> bool {
    !matches!(faccessat(folder, name, how, AtFlags::empty()), Err(nix::errno::Errno::EACCES))
}

/// Names as bytes of a message.
pub fn names_of(names: &[String]) -> Vec<u8> {
    names.iter().filter(|name| CString::new(name.as_str()).is_ok()).flat_map(|name| [name.as_bytes(), b"\0"].concat()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::sys::child;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = std::env::temp_dir().join(format!("muster-survey-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("root/a/b")).unwrap();
        fs::create_dir_all(folder.join("root/shut")).unwrap();
        for name in ["outside", "root/good", "root/bad", "root/a/b/worse", "root/shut/hidden"] {
            fs::write(folder.join(name), name).unwrap();
        }
        symlink("bad", folder.join("root/link")).unwrap();
        symlink("../outside", folder.join("root/out")).unwrap();
        let mode = |name: &str, mode| fs::set_permissions(folder.join(name), fs::Permissions::from_mode(mode)).unwrap();
        for name in ["root/bad", "root/a/b/worse"] {
            mode(name, 0o600);
        }
        mode("root/shut", 0o700);
        mode("outside", 0o600);
        // Root may read everything: a process asks that is nobody.
        let (ours, theirs) = child::socket_pair().unwrap();
        let (root, names) = (folder.join("root"), ["good", "link", "missing", "out"].map(str::to_string));
        child::fork_child(c"survey", theirs, move |socket| {
            nix::unistd::setgid(65534.into()).and_then(|()| nix::unistd::setuid(65534.into())).unwrap();
            let found = survey(&beneath::root(&root).unwrap(), &[], names_of(&names).split(|byte| *byte == 0));
            let mut denied = found.denied.clone();
            denied.sort();
            nix::unistd::write(&socket, format!("{} {} {:?}", found.count, denied.join(" "), found.outside).as_bytes()).unwrap();
        })
        .unwrap();
        let mut said = [0; 200];
        let len = nix::unistd::read(&ours, &mut said).unwrap();
        assert_eq!(String::from_utf8_lossy(&said[..len]), "4 a/b/worse bad link shut/ [\"out\"]");
        fs::remove_dir_all(&folder).unwrap();
    }
}
