//! What becomes of the boot interfaces, as the kernel tells it.
//!
//! The kernel's messages (RTM_NEWLINK, DELLINK, NEWADDR, DELADDR) say only *that* something of an interface of ours has changed; what it is now is read as a
//! whole ([`LinkReader`]). So a message that was lost, because the socket's queue was full (ENOBUFS), costs nothing: that is one reason more to
//! read. A message of an interface that is none of ours, as hosts with many containers have thousands, costs no more than to look at it.
//!
//! | state | what happens |
//! |---|---|
//! | nothing told | nothing, and nothing is allocated |
//! | something told, the last reading is [`PAUSE`] ago | they are read at once, in the same turn |
//! | something told, it is not | they are read then: who makes an interface changes it several times within milliseconds |
//! | they cannot be read, or not be opened ([`LinkWatch::retry`]) | they are read again after [`AGAIN`] |
//!
//! A reading waits for the kernel's lock of its network configuration, as a neighbour entry does. Called by the loop alone.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use crate::base::facts::LinkFacts;
use crate::base::log_limit::LogLimit;
use crate::base::time::Instant;

use super::ShellError;
use super::facts::{LinkReader, TellsOfLink};
use super::netlink::{KernelMessage, KernelMessages, RTM_DELADDR, RTM_DELLINK, RTM_NEWADDR, RTM_NEWLINK, word};
use super::sys;

/// RTMGRP_LINK, RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR of `linux/rtnetlink.h`.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;
/// The least time between two readings.
const PAUSE: Duration = Duration::from_millis(100);
/// When it is tried again what did not work.
const AGAIN: Duration = Duration::from_secs(1);
/// A thousand interfaces that are made at once.
const QUEUE: usize = 1 << 20;
/// Datagrams that are taken in one turn.
const BATCH: usize = 32;

/// The watch over the boot interfaces, which are known by their names.
pub struct LinkWatch {
    socket: Socket,
    buf: Box<[u8]>,
    reader: LinkReader,
    names: Vec<String>,
    /// Of those that were there at the last reading.
    indices: Vec<u32>,
    /// There may be messages to take.
    told: bool,
    /// They are to be read.
    changed: bool,
    /// Not before this.
    next: Instant,
    failed: LogLimit,
}

impl LinkWatch {
    /// Begins to watch, and is about to read them: they may have changed since they were read last.
    pub fn open(links: &[LinkFacts]) -> Result<LinkWatch, ShellError> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.set_non_blocking(true)?;
            sys::set_receive_buffer(socket.as_fd(), QUEUE);
            socket.bind(&SocketAddr::new(0, GROUPS))?;
            Ok(socket)
        };
        Ok(LinkWatch {
            socket: open().map_err(|error| ShellError::system("cannot watch the network interfaces", error, ""))?,
            buf: vec![0; 64 * 1024].into(),
            reader: LinkReader::open()?,
            names: links.iter().map(|link| link.name.clone()).collect(),
            indices: indices(links),
            told: true,
            changed: true,
            next: Instant::ZERO,
            failed: LogLimit::default(),
        })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The kernel has told something.
    pub fn event(&mut self) {
        self.told = true;
    }

    /// When [`look`](LinkWatch::look) has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let told = self.told.then_some(Instant::ZERO);
        told.or_else(|| self.changed.then_some(self.next))
    }

    /// What the links are now, in their order, if something of them has changed and it is time to read them.
    pub fn look(&mut self, now: Instant) -> Option<Vec<LinkFacts>> {
        if self.told {
            self.take();
        }
        if !self.changed || now < self.next {
            return None;
        }
        self.changed = false;
        self.next = now + PAUSE;
        let names = &self.names;
        match self.reader.read(|name| names.iter().any(|own| own == name)) {
            Ok(found) => {
                self.indices = indices(&found);
                let own = |name: &String| found.iter().find(|link| link.name == *name).cloned().unwrap_or_else(|| LinkFacts::absent(name));
                Some(names.iter().map(own).collect())
            }
            Err(error) => {
                if let Some(more) = self.failed.allow(now) {
                    log::error!("links: {error} (tried again every second{more})");
                }
                self.retry(now);
                None
            }
        }
    }

    /// They are read again in a second, whatever the kernel tells.
    pub fn retry(&mut self, now: Instant) {
        (self.changed, self.next) = (true, now + AGAIN);
    }

    /// Takes what the kernel has told, a bounded number of messages.
    fn take(&mut self) {
        for _ in 0..BATCH {
            let got = match self.socket.recv(&mut &mut *self.buf, libc::MSG_DONTWAIT) {
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.told = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // KernelMessages were lost. Which ones does not matter.
                Err(_) => {
                    self.changed = true;
                    continue;
                }
            };
            let LinkWatch { names, indices, buf, .. } = self;
            self.changed |= KernelMessages(buf.get(..got).unwrap_or(&[])).any(|message| concerns(names, indices, &message));
        }
    }
}

fn indices(links: &[LinkFacts]) -> Vec<u32> {
    links.iter().filter(|link| link.is_there()).map(|link| link.index).collect()
}

/// Whether a message tells of an interface with one of these names or indices.
fn concerns(names: &[String], indices: &[u32], message: &KernelMessage<'_>) -> bool {
    match message.kind {
        RTM_NEWADDR | RTM_DELADDR => indices.contains(&word(message.body, 4)),
        RTM_NEWLINK | RTM_DELLINK => {
            TellsOfLink::read(message.body).is_some_and(|told| indices.contains(&told.index) || names.iter().any(|name| name == told.name))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, index: u32, name: &str) -> Vec<u8> {
        let mut body = [&[0u8; 4][..], &index.to_ne_bytes(), &[0; 8]].concat();
        if kind <= RTM_DELLINK {
            let len = 4 + name.len() as u16 + 1;
            body.extend([&len.to_ne_bytes()[..], &3u16.to_ne_bytes(), name.as_bytes(), &[0]].concat());
        }
        let len = 16 + body.len() as u32;
        [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10], &body].concat()
    }

    #[test]
    fn only_what_concerns_our_links_is_a_reason_to_read() {
        let (names, indices) = (["eth1".to_string(), "eth2".to_string()], [7]);
        let concern = |bytes: Vec<u8>| KernelMessages(&bytes).any(|message| concerns(&names, &indices, &message));
        assert!(concern(message(RTM_NEWLINK, 7, "eth1")));
        assert!(concern(message(RTM_NEWLINK, 7, "eth9")), "it was given another name");
        assert!(concern(message(RTM_NEWLINK, 99, "eth2")), "another one was given its name");
        assert!(concern(message(RTM_DELLINK, 7, "eth1")));
        assert!(!concern(message(RTM_NEWLINK, 8, "veth1234")));
        assert!(concern(message(RTM_NEWADDR, 7, "")) && concern(message(RTM_DELADDR, 7, "")));
        assert!(!concern(message(RTM_NEWADDR, 8, "")));
        assert!(!concern(message(24, 7, "")), "a route");
        let mut of_a_bridge = message(RTM_NEWLINK, 7, "eth1");
        of_a_bridge[16] = 7;
        assert!(!concern(of_a_bridge), "AF_BRIDGE tells of the port, not of the interface");
    }
}
