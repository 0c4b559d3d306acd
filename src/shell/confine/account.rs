//! The user that the daemon runs as, and what is given to that user while the daemon is still root.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::AtFlags;
use nix::unistd::{Gid, Uid, fchownat};

use super::super::work::clerk::group_in;

/// A user of /etc/passwd: a name service may wait for a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// The number of its group.
    pub gid: u32,
    /// The group of operators, to which the control socket is given.
    pub operators: Option<u32>,
}

/// The files that a daemon makes in its two folders: those of an older one, which ran as root, are handed over.
const OURS: [&str; 15] = [
    "journal",
    "journal.new",
    "journal.unsure",
    "names",
    "names.new",
    "interfaces",
    "interfaces.new",
    "serial",
    "serial.new",
    "state.json",
    "state.new",
    "musterd.pid",
    "control.sock",
    "control.sock.new",
    "transfers",
];

/// The name of a user, or its number.
pub fn name_of(uid: Option<u32>) -> String {
    let uid = uid.unwrap_or_else(|| nix::unistd::geteuid().as_raw());
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = users.lines().find(|line| line.split(':').nth(2).and_then(|field| field.parse().ok()) == Some(uid));
    named.and_then(|line| line.split(':').next()).map_or_else(|| format!("user {uid}"), str::to_string)
}

impl Account {
    /// The user of this name, if there is one.
    pub fn find(name: &str) -> io::Result<Option<Account>> {
        let groups = fs::read_to_string("/etc/group").unwrap_or_default();
        Ok(Account::in_texts(name, &fs::read_to_string("/etc/passwd")?, &groups))
    }

    /// Root, on a machine that may have no list of users.
    pub fn root() -> Account {
        let operators = group_in(&fs::read_to_string("/etc/group").unwrap_or_default());
        Account { name: "root".into(), uid: 0, gid: 0, operators }
    }

    fn in_texts(name: &str, users: &str, groups: &str) -> Option<Account> {
        let line = users.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let mut fields = line.split(':').skip(1).map(|field| field.parse().ok());
        let (Some(Some(uid)), Some(Some(gid))) = (fields.next(), fields.next()) else { return None };
        Some(Account { name: name.into(), uid, gid, operators: group_in(groups) })
    }

    /// Gives a folder to this user, with what an older daemon left in it. It is made if it is not there, with its parents where that is wanted.
    /// One that holds folders or devices of others is no folder of ours (somebody set `run-dir` to `/run`) and is not given away: what is ours in
    /// it is, and the user must be able to write to it.
    pub fn take_over(&self, folder: &Path, parents: bool) -> io::Result<()> {
        let made = if parents { fs::create_dir_all(folder) } else { fs::create_dir(folder) };
        match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            made => made?,
        }
        let opened = File::open(folder)?;
        let mut alone = true;
        for entry in fs::read_dir(folder)?.flatten() {
            match entry.file_name().to_str().filter(|name| OURS.contains(name)) {
                Some(name) => self.take(&folder.join(name))?,
                // An operator's copy of the journal, or a disk of its own.
                None => alone &= entry.file_type().is_ok_and(|kind| kind.is_file()) || entry.file_name() == "lost+found",
            }
        }
        if alone { self.give(&opened) } else { Ok(()) }
    }

    /// Takes one file over: a regular one with this name alone, or a socket. It is opened before it is looked at, and nothing is followed.
    fn take(&self, path: &Path) -> io::Result<()> {
        let held = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
        let found = held.metadata()?;
        let kind = found.mode() & libc::S_IFMT;
        if kind == libc::S_IFSOCK || (kind == libc::S_IFREG && found.nlink() == 1) { self.give(&held) } else { Ok(()) }
    }

    fn give(&self, held: &File) -> io::Result<()> {
        let found = held.metadata()?;
        if (found.uid(), found.gid()) == (self.uid, self.gid) {
            return Ok(());
        }
        Ok(fchownat(held.as_fd(), "", Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)), AtFlags::AT_EMPTY_PATH)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let users =
            "root:x:0:0:root:/root:/bin/sh\nmusterly:x:7:7::/:\nmuster:x:998:997:muster:/var/lib/muster:/usr/sbin/nologin\nbad:x:y:z::/:\n";
        let found = Account::in_texts("muster", users, "root:x:0:\nmuster:x:99:\n");
        assert_eq!(found, Some(Account { name: "muster".into(), uid: 998, gid: 997, operators: Some(99) }));
        assert_eq!(Account::in_texts("must", users, ""), None);
        assert_eq!(Account::in_texts("bad", users, ""), None);
        assert_eq!(Account::in_texts("root", users, "").map(|root| root.uid), Some(0));
    }

    #[test]
    fn an_older_daemons_folder_is_taken_over_and_no_other() {
        if !nix::unistd::geteuid().is_root() {
            panic!("this test gives files away: run it as root");
        }
        let folder = std::env::temp_dir().join(format!("muster-account-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let account = Account { name: "test".into(), uid: 4242, gid: 4243, operators: None };
        let owner = |name: &str| fs::symlink_metadata(folder.join(name)).map(|found| found.uid()).unwrap();
        account.take_over(&folder.join("a/b"), false).unwrap();
        assert!(!folder.exists(), "its parent is not there");
        account.take_over(&folder.join("a/b"), true).unwrap();
        assert_eq!((owner("a/b"), owner("a")), (4242, 0));

        let state = folder.join("state");
        fs::create_dir(&state).unwrap();
        fs::write(state.join("journal"), "").unwrap();
        fs::write(folder.join("victim"), "").unwrap();
        std::os::unix::fs::symlink(folder.join("victim"), state.join("names")).unwrap();
        fs::hard_link(folder.join("victim"), state.join("state.json")).unwrap();
        let _door = std::os::unix::net::UnixListener::bind(state.join("control.sock")).unwrap();
        fs::write(state.join("journal.bak"), "").unwrap();
        account.take_over(&state, false).unwrap();
        assert_eq!(["state", "state/journal", "state/control.sock"].map(owner), [4242; 3]);
        assert_eq!(owner("victim"), 0, "neither a link nor a second name is followed");

        let shared = folder.join("shared");
        fs::create_dir(&shared).unwrap();
        fs::write(shared.join("journal"), "").unwrap();
        fs::create_dir(shared.join("somebody-elses")).unwrap();
        account.take_over(&shared, false).unwrap();
        assert_eq!(["shared", "shared/somebody-elses", "shared/journal"].map(owner), [0, 0, 4242]);
        fs::remove_dir_all(&folder).unwrap();
    }
}
