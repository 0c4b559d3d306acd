//! UDP sockets that outlive the daemon, kept by the service manager (`FDSTORE=1` of sd_notify(3)).
//!
//! Running transfers are taken up by the next daemon ([`super::rows`]). In between, while no process holds their ports, the kernel answers each
//! acknowledgement with an ICMP error, and firmware such as EDK2 gives up at that. So the manager gets a copy of each link's sockets; they hear
//! nothing (a filter keeps them empty), and as long as they are there the kernel keeps quiet. The next daemon takes those that it can use from the
//! manager (`$LISTEN_FDS`) instead of binding new ones; the others end.
//!
//! | when | what |
//! |---|---|
//! | a process starts | [`LeftSockets::take`]: all that was kept is this process's, and the manager forgets it |
//! | sockets of a link are opened | [`LeftSockets::adopt`] gives the one that was bound alike, if it was kept |
//! | all are open, and when an interface was made again | [`keep`]: the manager has those that are open now |
//!
//! Without a service manager, or with one that keeps nothing, nothing is kept. Nothing here waits.

use std::net::SocketAddrV4;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::manager;
use super::sys::{self, handed};

/// What all are called there.
const NAME: &str = "FDNAME=muster-udp";

/// Sockets of an earlier daemon.
#[derive(Default)]
pub struct LeftSockets(Vec<LeftSocket>);

struct LeftSocket {
    fd: OwnedFd,
    address: SocketAddrV4,
    interface: u32,
}

impl LeftSockets {
    /// What the manager has kept. The first thing that a process does: it knows them by their numbers.
    pub fn take() -> LeftSockets {
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
        let count = number("LISTEN_FDS").filter(|_| number("LISTEN_PID") == Some(std::process::id())).unwrap_or(0);
        let handed = handed::take(count);
        if count > 0 {
            manager::tell(&format!("FDSTOREREMOVE=1\n{NAME}"));
        }
        let known = |fd: OwnedFd| {
            let (address, interface) = (handed::address(fd.as_fd())?, handed::interface(fd.as_fd())?);
            Some(LeftSocket { fd, address, interface })
        };
        LeftSockets(handed.into_iter().filter_map(known).collect())
    }

    /// The socket that is bound to this address and this interface.
    pub fn adopt(&mut self, address: SocketAddrV4, interface: u32) -> Option<OwnedFd> {
        let at = self.0.iter().position(|left| (left.address, left.interface) == (address, interface))?;
        Some(self.0.swap_remove(at).fd)
    }
}

/// Has the manager keep these sockets, and no others any more.
pub fn keep<'a>(sockets: impl Iterator<Item = BorrowedFd<'a>>) {
    manager::tell_again(&format!("FDSTOREREMOVE=1\n{NAME}"));
    let sockets: Vec<BorrowedFd<'_>> = sockets.collect();
    // Where the kernel does not say which interface one is bound to, the next daemon could not tell them apart.
    if sockets.first().is_none_or(|first| handed::interface(*first).is_none()) {
        return;
    }
    for some in sockets.chunks(sys::pass::FILES_MAX) {
        // An error on one of them is no reason to forget it.
        manager::hand(&format!("FDSTORE=1\nFDPOLL=0\n{NAME}"), some);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn one_that_is_bound_alike_is_adopted_once() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let std::net::SocketAddr::V4(address) = socket.local_addr().unwrap() else { panic!() };
        let fd = OwnedFd::from(socket);
        assert_eq!((handed::address(fd.as_fd()), handed::interface(fd.as_fd())), (Some(address), Some(0)));
        let mut left = LeftSockets(vec![LeftSocket { fd, address, interface: 7 }]);
        let other = SocketAddrV4::new(*address.ip(), address.port() ^ 1);
        assert!(left.adopt(address, 8).is_none() && left.adopt(other, 7).is_none());
        assert!(left.adopt(address, 7).is_some() && left.adopt(address, 7).is_none());
    }

    #[test]
    fn who_was_handed_nothing_takes_nothing() {
        assert!(LeftSockets::take().0.is_empty());
    }
}
