//! The sockets of datagrams and frames as the loop serves them: those of the links first, in rotating order, a bounded batch of each; those
//! of no link with what is left of a turn.

use std::io;
use std::os::fd::AsFd;

use crate::base::endpoint::{Endpoint, EndpointId};
use crate::base::facts::LinkFacts;
use crate::base::machine::{Link, Machine};
use crate::base::time::Now;

use super::super::ShellError;
use super::super::sys::BATCH;
use super::super::sys::ring::{self, Ring};
use super::super::udp;
use super::Shell;
use super::port;

/// Batches that one source may have in one turn.
const BATCHES: usize = 2;
/// Frames that one ring may have in one turn.
const RING_BATCH: usize = BATCHES * BATCH;
/// Datagrams of sockets of no link that are taken in one turn, and in one that left something undone.
const PLAIN: usize = 32;
const PLAIN_BUSY: usize = 8;

/// An endpoint that could not be opened, and goes without.
#[derive(Debug)]
pub struct Refused {
    /// Which one, by its place in the table.
    pub endpoint: EndpointId,
    /// Why.
    pub error: io::Error,
    /// What to do about it.
    pub remedy: &'static str,
}

/// What could not be opened; an error where the table requires it.
pub fn judge(table: &[Endpoint], links: &[LinkFacts], refused: Vec<(EndpointId, io::Error)>) -> Result<Vec<Refused>, ShellError> {
    let mut without = Vec::new();
    for (endpoint, error) in refused {
        let Some(row) = table.get(usize::from(endpoint)) else { continue };
        let remedy = udp::remedy(row, &error);
        if row.required {
            let on = row.link.and_then(|link| links.get(usize::from(link))).map(|link| format!(" on {}", link.name));
            let kind = if row.transport.streams().is_some() { "TCP" } else { "UDP" };
            return Err(ShellError::system(format!("cannot bind {kind} {}{}", row.address, on.unwrap_or_default()), error, remedy));
        }
        without.push(Refused { endpoint, error, remedy });
    }
    Ok(without)
}

impl Shell {
    /// Gives the machine what a ring has, up to a bound.
    fn serve_ring<M: Machine>(&mut self, machine: &mut M, now: Now, at: usize) {
        for _ in 0..RING_BATCH {
            let link = &self.links[at];
            let Some(received) = link.packet.ring.as_ref().and_then(Ring::peek) else {
                self.ready[at] = false;
                if std::mem::take(&mut self.links[at].behind) {
                    self.count_overrun(at);
                }
                return;
            };
            let losing = received.losing;
            if let Some(input) = port::judge(&self.links, at as Link, None, &received, &mut self.losses) {
                machine.handle(now, input, &mut self.outbox);
            }
            self.links[at].packet.ring.iter_mut().for_each(Ring::release);
            if losing {
                self.count_overrun(at);
            }
            if !self.outbox.has_room() {
                self.drain(machine, now);
            }
        }
        self.links[at].behind = true;
    }

    /// Asks the kernel how many frames found the ring full.
    fn count_overrun(&mut self, at: usize) {
        let link = &mut self.links[at];
        let lost = ring::dropped(link.packet.fd.as_fd());
        link.overrun = link.overrun.saturating_add(lost);
        self.losses.lost += u64::from(lost);
    }

    /// Gives the machine what a source has, a few batches at most.
    pub(super) fn serve<M: Machine>(&mut self, machine: &mut M, now: Now, at: usize) {
        if self.links.get(at).is_some_and(|link| link.packet.ring.is_some()) {
            return self.serve_ring(machine, now, at);
        }
        for _ in 0..BATCHES {
            let fd = match self.links.get(at) {
                Some(link) => link.packet.fd.as_fd(),
                None => self.sockets[at - self.links.len()].fd.as_fd(),
            };
            let got = match self.receiver.receive(fd) {
                Ok(got) => got,
                Err(error) => {
                    // An interface that goes down says so once; nothing is lost by it that was not lost already.
                    if error.kind() != std::io::ErrorKind::WouldBlock {
                        log::debug!("endpoint {at}: cannot receive: {error}");
                    }
                    self.ready[at] = error.raw_os_error() == Some(libc::ENETDOWN);
                    return;
                }
            };
            for message in 0..got {
                self.deliver(machine, now, at, message);
                if !self.outbox.has_room() {
                    self.drain(machine, now);
                }
            }
            if got < BATCH {
                self.ready[at] = false;
                return;
            }
        }
    }

    fn deliver<M: Machine>(&mut self, machine: &mut M, now: Now, at: usize, message: usize) {
        let Shell { receiver, links, sockets, losses, outbox, .. } = self;
        let received = receiver.get(message);
        let socket = at.checked_sub(links.len());
        if let Some(all) = received.lost {
            let before = match socket {
                Some(socket) => sockets.get_mut(socket).map(|socket| &mut socket.lost),
                None => links.get_mut(at).map(|link| &mut link.lost),
            };
            let lost = before.map_or(0, |before| all.wrapping_sub(std::mem::replace(before, all)));
            let link = socket.map_or(Some(at as Link), |socket| sockets.get(socket).and_then(|socket| socket.link));
            // What is lost of others is counted where it is ([`Shell::lost_by_service`]).
            if let Some(link) = link.and_then(|link| links.get_mut(usize::from(link))) {
                losses.lost += u64::from(lost);
                link.overrun = link.overrun.saturating_add(lost);
            }
        }
        let socket = socket.and_then(|socket| sockets.get(socket));
        if let Some(input) = port::judge(links, at as Link, socket, &received, losses) {
            machine.handle(now, input, outbox);
        }
    }

    /// Gives the machine what the sockets of no link have, a bounded number of datagrams in all.
    pub(super) fn serve_plain<M: Machine>(&mut self, machine: &mut M, now: Now, busy: bool) {
        let (mut budget, count) = (if busy { PLAIN_BUSY } else { PLAIN }, self.ready.len() - self.plain);
        for step in 0..count {
            let at = self.plain + self.first.wrapping_add(step) % count;
            if budget == 0 || !self.ready[at] {
                continue;
            }
            let fd = self.sockets[at - self.links.len()].fd.as_fd();
            let got = self.receiver.receive_some(fd, budget).unwrap_or(0);
            self.ready[at] = got == budget;
            budget -= got.min(budget);
            for message in 0..got {
                self.deliver(machine, now, at, message);
                if !self.outbox.has_room() {
                    self.drain(machine, now);
                }
            }
        }
        self.drain(machine, now);
    }

    /// Datagrams that the kernel has dropped because the queue of a socket of no link was full, by service.
    pub(super) fn lost_by_service(&self) -> impl Iterator<Item = (String, u64)> {
        let mut lost = std::collections::BTreeMap::new();
        for socket in self.sockets.iter().filter(|socket| socket.link.is_none()) {
            let name = self.table.get(usize::from(socket.endpoint)).map_or("", |row| row.service.name);
            *lost.entry(format!("{name} lost in receive queues")).or_insert(0) += u64::from(socket.lost);
        }
        lost.into_iter()
    }
}
