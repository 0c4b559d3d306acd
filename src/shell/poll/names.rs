//! DNS as the loop serves it: after those who boot, and a bounded number of messages a turn. When there is more of the others' work than
//! one turn holds, names get a small share of each: machines that boot do not wait for questions, however many are asked.

use std::net::SocketAddrV4;

use crate::base::machine::{DnsPeer, Input, Machine};
use crate::base::time::Now;

use super::super::names::Names;
use super::Shell;

/// Datagrams that are taken in one turn, and in one that left something undone.
const DATAGRAMS: usize = 32;
const DATAGRAMS_BUSY: usize = 8;
/// Messages of connections, likewise, and pieces of zones.
const MESSAGES: usize = 16;
const MESSAGES_BUSY: usize = 4;
const PIECES: usize = 2;

impl Shell {
    pub(super) fn serve_names<M: Machine>(&mut self, machine: &mut M, now: Now) {
        let Some(names) = self.names.as_mut().filter(|names| names.has_work() || names.is_due(now.at)) else { return };
        let (first, sockets) = (names.rotate(), names.sockets());
        let busy = self.ready.iter().any(|&ready| ready) || machine.deadline().is_some_and(|deadline| deadline <= super::monotonic());
        let mut budget = if busy { DATAGRAMS_BUSY } else { DATAGRAMS };
        for step in 0..sockets {
            if budget == 0 {
                break;
            }
            budget -= self.serve_names_socket(machine, now, (first + step) % sockets, budget).min(budget);
        }
        if self.names.as_ref().is_some_and(|names| names.is_due(now.at)) {
            let (messages, pieces) = if busy { (MESSAGES_BUSY, 1) } else { (MESSAGES, PIECES) };
            self.serve_names_connections(machine, now, first, messages, pieces);
        }
        self.drain(machine, now);
    }

    /// Gives the machine what a UDP socket has, at most so much; gives how many messages there were.
    fn serve_names_socket<M: Machine>(&mut self, machine: &mut M, now: Now, at: usize, most: usize) -> usize {
        let Some(peer) = self.names.as_ref().and_then(|names| names.ready(at)) else { return 0 };
        let Some(fd) = self.names.as_ref().and_then(|names| names.fd(at)) else { return 0 };
        let got = self.receiver.receive_some(fd, most).unwrap_or(0);
        if got < most {
            self.names.iter_mut().for_each(|names| names.is_empty(at));
        }
        for message in 0..got {
            let received = self.receiver.get(message);
            if let Some(all) = received.lost {
                self.names.iter_mut().for_each(|names| names.lost(at, all));
            }
            match received.from {
                Some(src) if !received.truncated => {
                    machine.handle(now, Input::Dns { peer, src, bytes: received.bytes }, &mut self.outbox);
                }
                _ => self.losses.truncated += 1,
            }
            if !self.outbox.has_room() {
                self.drain(machine, now);
            }
        }
        got
    }

    fn serve_names_connections<M: Machine>(&mut self, machine: &mut M, now: Now, first: usize, messages: usize, pieces: usize) {
        let Shell { names: Some(names), poll, .. } = self else { return };
        names.serve(poll.registry(), now.at);
        while let Some(peer) = self.names.as_mut().and_then(Names::gone) {
            self.tell_names(machine, now, Input::DnsClosed { peer });
        }
        for _ in 0..pieces {
            let Some(conn) = self.names.as_mut().and_then(Names::taken) else { break };
            self.tell_names(machine, now, Input::DnsTaken { conn });
        }
        let (places, mut budget) = (self.names.as_ref().map_or(0, Names::places), messages);
        for step in 0..places {
            let at = (first + step) % places;
            let Some(names) = self.names.as_ref() else { return };
            let Some((peer, src, len)) = names.next(at).filter(|_| budget > 0) else { continue };
            budget -= 1;
            // The outputs of a call may be as large as a message.
            if !self.outbox.has_room() {
                self.drain(machine, now);
            }
            let Shell { names: Some(names), outbox, .. } = self else { return };
            machine.handle(now, Input::Dns { peer, src, bytes: names.message(at, len) }, outbox);
            names.consume(now.at, at, len);
        }
        self.drain(machine, now);
        self.names.iter_mut().for_each(Names::settle);
    }

    fn tell_names<M: Machine>(&mut self, machine: &mut M, now: Now, input: Input<'_>) {
        if !self.outbox.has_room() {
            self.drain(machine, now);
        }
        machine.handle(now, input, &mut self.outbox);
    }

    /// Puts a message into the queue of its socket, or into the buffer of its connection.
    pub(super) fn put_dns(&mut self, now: Now, peer: DnsPeer, to: SocketAddrV4, body: &[u8]) {
        let Some(names) = self.names.as_mut() else { return };
        match names.socket_of(peer) {
            Some(socket) => {
                let at = self.links.len() + self.sockets.len() + socket;
                self.queue.put(at, Some(to), |buf| super::act::copy(buf, body));
            }
            None => names.put(self.poll.registry(), now.at, peer, to, body),
        }
    }
}
