//! Privileges: what the daemon and its file processes may still do once it has started, and how they give up the rest.
//!
//! | held by | the loop | a file process |
//! |---|---|---|
//! | user | `muster`, where there is one ([`account`]) | the same |
//! | capabilities | NET_RAW, NET_ADMIN, NET_BIND_SERVICE ([`KEPT`]) | none |
//! | landlock ([`folders`]) | reads /proc and network devices in /sys; writes the run folder | reads boot files, or config and boot files, or nothing; writes state, or the run folder, or nothing |
//! | seccomp ([`calls`]) | the calls of its list | those of a shorter one |
//!
//! None of it can be taken back (no_new_privs). What a supervisor has done already (`User=`, `AmbientCapabilities=` of systemd) is left as it is. Where
//! the kernel lacks a part, the others hold, and the line at start says which do.
//!
//! # In which order
//! The file processes are forked first, and read the config as whoever has started the daemon. Then the folders of the config are handed over
//! ([`Account::take_over`]), limits are raised, the loop's process becomes the user, and each file process is told what it may do
//! ([`Order`]) before it opens anything else. Sockets, journal and root are opened as that user: what it may not open is told at start. The loop's own
//! landlock and seccomp come last, before it is ready.
//!
//! # What must go on
//! A reload (config, root, control socket), a rewritten journal, a new log socket, the sockets of an interface that comes back: all of it is in the
//! lists. Another root is served by a reload if it lies in a folder that was allowed at start (`allow` of `[boot]`, or the folder that the old one
//! lies in). The group of operators is a supplementary group of the daemon's, so that giving the socket to it takes no capability.
//!
//! Called by `bin` alone, at start; the file processes call [`Order::obey`].

pub mod account;
pub mod calls;
pub mod folders;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::sys::prctl;
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};

use super::ShellError;
use super::sys::rights::{self, Cap};
use super::work::message::WorkWords;
use account::Account;
use calls::{Refusal, Who};
use folders::FolderRights;

/// Of `linux/capability.h`.
const CAP_SETGID: Cap = 6;
const CAP_SETUID: Cap = 7;
const CAP_NET_BIND_SERVICE: Cap = 10;
const CAP_NET_ADMIN: Cap = 12;
const CAP_NET_RAW: Cap = 13;
const CAP_IPC_LOCK: Cap = 14;
/// What the loop keeps: ports below 1024; neighbour entries and large socket buffers; packet sockets.
pub const KEPT: [Cap; 3] = [CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW];

/// The user that is looked for where the config names none.
pub const USER: &str = "muster";

/// Whom this process is to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is no root: a supervisor has chosen.
    Chosen,
    /// Root becomes this user.
    Become(Account),
    /// Root stays root, for this reason; with the group of operators, if that may be set.
    Root(String, Option<Account>),
}

impl Role {
    /// Whom a daemon that was started as it was becomes, by the name in its config.
    ///
    /// # Errors
    /// The config names a user that is not there.
    pub fn of(user: &str) -> Result<Role, ShellError> {
        if !geteuid().is_root() {
            return Ok(Role::Chosen);
        }
        if !rights::has(CAP_SETUID) || !rights::has(CAP_SETGID) {
            return Ok(Role::Root("whoever started it allows no other user".into(), None));
        }
        match Account::find(user) {
            Ok(Some(account)) if account.uid == 0 => Ok(Role::Root("as `user` says".into(), Some(account))),
            Ok(Some(account)) => Ok(Role::Become(account)),
            Ok(None) if user == USER => {
                let why = format!("there is no user {USER} in /etc/passwd: useradd --system --user-group {USER}");
                Ok(Role::Root(why, Some(Account::root())))
            }
            Ok(None) => Err(ShellError::new(format!("there is no user {user:?} in /etc/passwd: make it, or set `user` to another"))),
            Err(error) => Err(ShellError::system("cannot read /etc/passwd", error, "look at its permissions")),
        }
    }

    /// The user that files are to be given to: root as well, which has no right to write to the files of others.
    pub fn account(&self) -> Option<&Account> {
        match self {
            Role::Become(account) | Role::Root(_, Some(account)) => Some(account),
            _ => None,
        }
    }
}

/// Becomes the user with these capabilities and no other, for good; for the moment it has `more`.
fn become_user(account: Option<&Identity>, caps: &[Cap], more: &[Cap]) -> io::Result<()> {
    if geteuid().is_root() {
        rights::bound_to(caps);
    }
    if let Some(account) = account {
        prctl::set_keepcaps(true)?;
        let gid = Gid::from_raw(account.gid);
        let groups: Vec<Gid> = account.operators.map(Gid::from_raw).into_iter().chain([gid]).collect();
        setgroups(&groups)?;
        setresgid(gid, gid, gid)?;
        let uid = Uid::from_raw(account.uid);
        setresuid(uid, uid, uid)?;
    }
    rights::keep_only(&[caps, more].concat())?;
    Ok(prctl::set_no_new_privs()?)
}

/// This process becomes a user without any capability, as a file process does.
pub(super) fn become_account(account: &Account) -> io::Result<()> {
    become_user(Some(&account.into()), &[], &[])
}

/// The numbers of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    uid: u32,
    gid: u32,
    operators: Option<u32>,
}

impl From<&Account> for Identity {
    fn from(account: &Account) -> Identity {
        Identity { uid: account.uid, gid: account.gid, operators: account.operators }
    }
}

/// The loop's process becomes the user of its role. Until all is open it may lock memory as well.
pub fn become_role(role: &Role) -> Result<(), ShellError> {
    let identity = role.account().map(Identity::from);
    become_user(identity.as_ref(), &KEPT, &[CAP_IPC_LOCK]).map_err(|error| {
        let who = role.account().map_or("a process without privileges", |account| &account.name);
        ShellError::system(
            format_args!("cannot become {who}"),
            error,
            "let its supervisor do that (User= of systemd), or set `user` to root",
        )
    })
}

/// What a file process is told to do with itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    identity: Option<Identity>,
    reach: FolderRights,
    links: Vec<PathBuf>,
}

impl Order {
    /// For a process that may touch these folders.
    pub fn new(role: &Role, reach: FolderRights) -> Order {
        Order { identity: role.account().map(Identity::from), reach, links: Vec::new() }
    }

    /// The same, with folders into which links may lead: it holds them open from then on.
    pub fn with_links(self, links: &[PathBuf]) -> Order {
        Order { links: links.to_vec(), ..self }
    }

    /// Folders into which links may lead.
    pub(super) fn links(&self) -> &[PathBuf] {
        &self.links
    }

    /// Whom the process becomes; None: it stays who it is.
    pub(super) fn uid(&self) -> Option<u32> {
        self.identity.map(|identity| identity.uid)
    }

    /// Whether a path may be read.
    pub(super) fn covers(&self, path: &Path) -> bool {
        let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
        self.reach.read.iter().chain(&self.reach.write).any(|folder| real.starts_with(folder))
    }

    /// As a message: words, and paths that end with a NUL, each behind what it is for.
    pub(super) fn message(&self) -> (WorkWords, Vec<u8>) {
        let identity = self.identity.unwrap_or(Identity { uid: 0, gid: 0, operators: None });
        let operators = identity.operators.map_or(0, |group| u64::from(group) + 1);
        let words = [self.identity.is_some().into(), identity.uid.into(), identity.gid.into(), operators, 0, 0, 0];
        let line = |mark: u8, path: &PathBuf| [&[mark], path.as_os_str().as_bytes(), b"\0"].concat();
        let read = self.reach.read.iter().flat_map(|path| line(b'r', path));
        let links = self.links.iter().flat_map(|path| line(b'l', path));
        (words, read.chain(self.reach.write.iter().flat_map(|path| line(b'w', path))).chain(links).collect())
    }

    /// What [`Order::message`] has written.
    pub(super) fn parse(words: &WorkWords, body: &[u8]) -> Order {
        let &[becomes, uid, gid, operators, ..] = words;
        let operators = operators.checked_sub(1).map(|group| group as u32);
        let identity = (becomes != 0).then_some(Identity { uid: uid as u32, gid: gid as u32, operators });
        let (mut reach, mut links) = (FolderRights::default(), Vec::new());
        for line in body.split(|&byte| byte == 0) {
            let Some((mark, path)) = line.split_first() else { continue };
            let list = match mark {
                b'r' => &mut reach.read,
                b'w' => &mut reach.write,
                _ => &mut links,
            };
            list.push(Path::new(OsStr::from_bytes(path)).into());
        }
        Order { identity, reach, links }
    }

    /// The process gives up everything else. What holds it then.
    pub(super) fn obey(&self, parent: u32) -> io::Result<Held> {
        become_user(self.identity.as_ref(), &[], &[])?;
        // Whoever changes who he is loses this.
        super::sys::child::follow(parent)?;
        Ok(restrict(&self.reach, Who::Worker))
    }
}

/// What holds a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The version of landlock, or 0.
    pub landlock: u32,
    /// Whether there is a filter of calls.
    pub seccomp: bool,
}

fn restrict(reach: &FolderRights, who: Who) -> Held {
    let landlock = folders::restrict(reach).unwrap_or(0);
    Held { landlock, seccomp: calls::restrict(who, Refusal::of_environment()) }
}

/// Makes what is needed to hear of refused calls: before the file processes are forked.
pub fn prepare() -> Result<(), ShellError> {
    rights::share().map_err(|error| ShellError::system("cannot map a page of memory", error, ""))
}

/// The loop's process gives up all other capabilities, folders and calls.
pub fn restrict_loop(run: &Path) -> io::Result<Held> {
    rights::keep_only(&KEPT)?;
    let read = ["/proc", "/sys/class/net", "/sys/devices"].map(PathBuf::from).to_vec();
    Ok(restrict(&FolderRights { read, write: vec![run.to_path_buf()] }, Who::Loop))
}

/// A line on a system call that was refused since this was asked last.
pub fn refusal() -> Option<String> {
    let (number, pid) = rights::take_refused()?;
    Some(format!(
        "sandbox: refused system call {number} to process {pid} (not on the list; please report it with this machine's C library and kernel)"
    ))
}

impl Held {
    /// For the line at start; `user` is who it runs as.
    pub fn describe(&self, role: &Role, user: &str) -> String {
        let landlock = match self.landlock {
            0 => "without landlock, which this kernel does not offer".to_string(),
            version => format!("landlock {version}"),
        };
        let seccomp = if self.seccomp { "seccomp" } else { "without seccomp" };
        let who = match role {
            Role::Become(_) | Role::Chosen => user.to_string(),
            Role::Root(why, _) => format!("root ({why})"),
        };
        format!("sandbox: runs as {who}; {landlock}, {seccomp}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_arrives_as_it_was_given() {
        let reach = FolderRights { read: vec!["/srv".into(), "/etc/muster".into()], write: vec!["/run/muster".into()] };
        let account = Account { name: "muster".into(), uid: 998, gid: 997, operators: Some(0) };
        for role in [Role::Become(account), Role::Chosen] {
            let order = Order::new(&role, reach.clone()).with_links(&["/boot".into()]);
            let (words, body) = order.message();
            assert_eq!(Order::parse(&words, &body), order);
        }
        let nothing = Order::new(&Role::Chosen, FolderRights::default());
        assert_eq!(Order::parse(&nothing.message().0, &nothing.message().1), nothing);
    }
}
