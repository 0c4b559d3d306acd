//! The operators' socket: `control.sock` in the run folder. What is said on it is carried as on any other connection ([`super::conns`]).
//!
//! Who may speak is checked twice: by the socket's mode (0660, group `muster` where there is one) and by the credentials that the kernel
//! tells of whoever has connected: root, the daemon's own user, or a member of the group. The socket itself is made by the clerk, but for
//! the first ([`super::work::clerk`]).

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::socket::{getsockopt, sockopt};

use crate::base::log_limit::LogLimit;
use crate::base::time::Instant;
use crate::wire::control::{self, Rejection, Reply};

use super::conns::Peer;
use super::sys;
use super::work::clerk::{Door, identity};

pub use super::work::clerk::connect;

/// The socket's name in the run folder.
pub const NAME: &str = "control.sock";
/// Whose members may speak to the daemon.
pub const GROUP: &str = "muster";

/// Who may speak. It takes the socket away when it goes, if that is still ours.
pub struct Guard {
    folder: PathBuf,
    /// Device and inode of our socket.
    ours: Option<(u64, u64)>,
    group: Option<u32>,
    refused: LogLimit,
}

impl Guard {
    /// The guard of a socket in a folder, and the socket.
    pub fn new(folder: &Path, door: Door) -> (Guard, UnixListener) {
        if let Some(error) = door.ungiven {
            log::warn!("control: only root can use the socket (cannot give it to the group {GROUP}: {error})");
        }
        (Guard { folder: folder.into(), ours: door.identity, group: door.group, refused: LogLimit::default() }, door.listener)
    }

    /// The folder of the socket, and which one is ours.
    pub fn place(&self) -> (&Path, Option<(u64, u64)>) {
        (&self.folder, self.ours)
    }

    /// Who has connected, if they may use the socket; else the reason is written to them.
    pub fn admit(&mut self, now: Instant, stream: &UnixStream) -> Option<Peer> {
        let peer = getsockopt(stream, sockopt::PeerCredentials).ok()?;
        stream.set_nonblocking(true).ok()?;
        if self.may_speak(stream, peer.uid(), peer.gid()) {
            return Some(Peer::Process { pid: peer.pid(), uid: peer.uid() });
        }
        if let Some(more) = self.refused.allow(now) {
            let (uid, pid) = (peer.uid(), peer.pid());
            log::warn!("control: refused user {uid}, pid {pid} (only root and the group {GROUP} may use the socket{more})");
        }
        let hint = format!("become root, or a member of the group {GROUP}");
        let rejection = Rejection::new(format!("user {} may not operate this cluster", peer.uid()), hint);
        let mut line = [0; 512];
        if let Some(line) = control::write(&mut line, &Reply::Error(rejection)).and_then(|len| line.get(..len)) {
            let _ = (&*stream).write(line);
        }
        None
    }

    fn may_speak(&self, stream: &UnixStream, uid: u32, gid: u32) -> bool {
        let own = nix::unistd::geteuid().as_raw();
        let member = |group| gid == group || sys::peer_groups(stream.as_fd()).is_ok_and(|groups| groups.contains(&group));
        uid == 0 || uid == own || self.group.is_some_and(member)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let path = self.folder.join(NAME);
        if self.ours.is_some() && identity(&path) == self.ours {
            let _ = std::fs::remove_file(path);
        }
    }
}
