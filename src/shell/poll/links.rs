//! What becomes of sockets when something becomes of a link, and what the machine is told of it.
//!
//! An interface that was made anew is another one to the kernel, by whatever name: its sockets hear nothing any more, and its neighbour entries are gone.
//! So everything of the link is opened again at its new index; the other links notice nothing. What cannot be opened is tried again every second,
//! and the machine hears of the interface when it is.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use mio::Interest;
use mio::unix::SourceFd;

use crate::base::endpoint::{Endpoint, Transport};
use crate::base::facts::LinkFacts;
use crate::base::machine::{Input, Link, Machine};
use crate::base::time::Now;

use super::super::ShellError;
use super::super::packet::{PacketSocket, own_of};
use super::super::source::EventSource;
use super::super::udp::{self, UdpSocket};
use super::super::watch::LinkWatch;
use super::Shell;
use super::port::{LinkPort, tell_path};

impl Shell {
    /// Watches the links from now on.
    pub(super) fn watch_links(&mut self) -> Result<(), ShellError> {
        if self.facts.is_empty() {
            return Ok(());
        }
        let watch = LinkWatch::open(&self.facts)?;
        let registered = self.register(watch.fd(), EventSource::Links);
        registered.map_err(|error| ShellError::system("cannot watch the network interfaces", error, ""))?;
        self.watch = Some(watch);
        Ok(())
    }

    fn register(&self, fd: BorrowedFd<'_>, source: EventSource) -> std::io::Result<()> {
        self.poll.registry().register(&mut SourceFd(&fd.as_raw_fd()), source.into(), Interest::READABLE)
    }

    /// Tells the machine of its links, once.
    pub(super) fn introduce<M: Machine>(&mut self, machine: &mut M, now: Now) {
        if !std::mem::replace(&mut self.linked, true) {
            (0..self.facts.len()).for_each(|at| self.tell_link(machine, now, at));
        }
    }

    /// Takes over what has become of the links, and sets neighbour entries that are missing.
    pub(super) fn serve_links<M: Machine>(&mut self, machine: &mut M, now: Now) {
        let found = self.watch.as_mut().and_then(|watch| watch.look(now.at));
        let looked = found.is_some();
        for (at, new) in found.into_iter().flatten().enumerate() {
            let Some(old) = self.facts.get(at).filter(|old| **old != new) else { continue };
            if let Err(error) = self.change_link(at, &old.clone(), &new) {
                if let Some(more) = self.told_links.allow(now.at) {
                    log::error!("{}: not served: {error} (tried again every second{more})", new.name);
                }
                self.watch.iter_mut().for_each(|watch| watch.retry(now.at));
                continue;
            }
            self.facts.iter_mut().skip(at).take(1).for_each(|facts| facts.clone_from(&new));
            self.tell_link(machine, now, at);
        }
        if looked && std::mem::take(&mut self.reopened) {
            self.keep_sockets();
        }
        self.neighbours.iter_mut().for_each(|neighbours| neighbours.renew());
    }

    fn tell_link<M: Machine>(&mut self, machine: &mut M, now: Now, at: usize) {
        let Shell { facts, outbox, .. } = self;
        let Some(facts) = facts.get(at) else { return };
        machine.handle(now, Input::Link { link: at as Link, facts: facts.is_there().then_some(facts) }, outbox);
        self.drain(machine, now);
    }

    /// Opens what is another one's now, and takes over the rest.
    fn change_link(&mut self, at: usize, old: &LinkFacts, new: &LinkFacts) -> Result<(), ShellError> {
        if (old.index, old.hardware) != (new.index, new.hardware) {
            self.reopen_link(at, new)?;
        }
        let Shell { links, neighbours, .. } = self;
        if let Some(port) = links.get_mut(at) {
            (port.index, port.mac, port.mtu) = (new.index, new.mac, new.mtu);
        }
        // The kernel forgets the neighbours of an interface that goes down.
        let begins = new.up && (!old.up || old.index != new.index);
        neighbours.iter_mut().for_each(|neighbours| neighbours.link_is(at as Link, new.index, begins));
        Ok(())
    }

    /// Opens the sockets of a link at the interface that bears its name now; all or none.
    fn reopen_link(&mut self, at: usize, facts: &LinkFacts) -> Result<(), ShellError> {
        let (link, links) = (at as Link, self.links.len());
        let packet = PacketSocket::of_link((link, facts), &self.table, links, self.features.ring)?;
        let mut reopened = Vec::new();
        for (place, socket) in self.sockets.iter().take(self.fixed).enumerate().filter(|(_, socket)| socket.link == Some(link)) {
            let Some(row) = self.table.get(usize::from(socket.endpoint)) else { continue };
            let opened = udp::open(socket.endpoint, row, Some(facts)).map_err(|error| {
                let remedy = udp::remedy(row, &error);
                ShellError::system(format_args!("cannot bind UDP {}", row.address), error, remedy)
            })?;
            reopened.push((place, opened));
        }
        let failed = |error| ShellError::system("cannot watch a socket", error, "");
        self.register(packet.fd.as_fd(), EventSource::Socket(at)).map_err(failed)?;
        for (place, socket) in reopened {
            self.put_socket(place, socket).map_err(failed)?;
        }
        let own = self.addresses_of(link);
        if let Some(port) = self.links.get_mut(at) {
            // Closing the old one ends its registration.
            *port = LinkPort { segment: port.segment, refused: port.refused, overrun: port.overrun, ..LinkPort::new(packet, facts) };
            if facts.is_there() {
                let set = port.packet.set_addresses(own);
                set.map_err(|error| ShellError::system("cannot set a packet filter", error, ""))?;
                tell_path(&facts.name, port);
            }
        }
        self.open_others();
        self.ready.iter_mut().skip(at).take(1).for_each(|ready| *ready = true);
        Ok(())
    }

    /// Puts a socket in the place of an older one, which is closed.
    fn put_socket(&mut self, place: usize, socket: UdpSocket) -> std::io::Result<()> {
        if !socket.mute {
            self.register(socket.fd.as_fd(), EventSource::Socket(self.links.len() + place))?;
        }
        if let Some(old) = self.sockets.get_mut(place) {
            *old = socket;
        }
        self.reopened = true;
        Ok(())
    }

    /// The endpoints with the address `from` are at `to` from now on. One that cannot be opened there is said, and stays where it was.
    pub(super) fn readdress(&mut self, from: Ipv4Addr, to: Ipv4Addr) {
        for at in 0..self.table.len() {
            let Some(row) = self.table.get_mut(at).filter(|row| *row.address.ip() == from) else { continue };
            row.address.set_ip(to);
            let reopened = if row.transport.streams().is_some() {
                self.conns.move_door(self.poll.registry(), at as u16, row.address)
            } else {
                self.reopen_socket(at as u16)
            };
            if let (Err(error), Some(row)) = (reopened, self.table.get(at)) {
                log::error!("{}: not served on {}: {error} ({})", row.service.name, row.address, udp::remedy(row, &error));
            }
        }
        for at in 0..self.links.len() {
            let own = self.addresses_of(at as Link);
            let port = self.links.get_mut(at).filter(|port| port.index != 0);
            if let Some(Err(error)) = port.map(|port| port.packet.set_addresses(own)) {
                log::error!("link {at}: its packet filter stays as it was: {error} (restart musterd)");
            }
        }
    }

    /// The endpoints at a link's first address are reached at this one as well, or no more.
    pub(super) fn address(&mut self, link: Link, address: Ipv4Addr, on: bool) {
        // What is in the queue goes by numbers of sources.
        self.flush();
        self.others.retain(|other| *other != (link, address));
        if on {
            self.others.push((link, address));
        }
        self.open_others();
        let own = self.addresses_of(link);
        let port = self.links.get_mut(usize::from(link));
        if let Some(Err(error)) = port.map(|port| port.packet.set_addresses(own)) {
            log::error!("link {link}: not served on {address}: {error}");
        }
    }

    /// The addresses by which a link's endpoints are reached.
    fn addresses_of(&self, link: Link) -> Vec<Ipv4Addr> {
        let others = self.others.iter().filter(|(of, _)| *of == link).map(|(_, address)| *address);
        own_of(&self.table, link).into_iter().chain(others).collect()
    }

    /// Opens the endpoints of the other addresses, behind all sockets of the table.
    fn open_others(&mut self) {
        self.sockets.truncate(self.fixed);
        self.ready.truncate(self.links.len() + self.fixed);
        let mut doors = Vec::new();
        for at in 0..self.others.len() {
            let Some(&(link, address)) = self.others.get(at) else { continue };
            let first = own_of(&self.table, link);
            let rows = (0..).zip(&self.table).filter(|(_, row)| first.contains(row.address.ip()));
            let rows: Vec<(u16, Endpoint)> = rows.map(|(endpoint, row)| (endpoint, row.clone())).collect();
            for (endpoint, mut row) in rows {
                row.address.set_ip(address);
                match row.transport {
                    Transport::Listen(_) => doors.push((endpoint, row.address)),
                    _ if udp::has_socket(&row.transport) => self.open_other(endpoint, &row),
                    _ => {}
                }
            }
        }
        for (address, error) in self.conns.set_others(self.poll.registry(), &doors) {
            log::error!("not served on {address}: {error}");
        }
    }

    fn open_other(&mut self, endpoint: u16, row: &Endpoint) {
        if self.sockets.iter().any(|socket| socket.local == row.address) {
            return;
        }
        let opened = udp::open(endpoint, row, row.link.and_then(|link| self.facts.get(usize::from(link))));
        let place = self.sockets.len();
        let opened = opened.and_then(|socket| {
            if !socket.mute {
                self.register(socket.fd.as_fd(), EventSource::Socket(self.links.len() + place))?;
            }
            Ok(socket)
        });
        match opened {
            Ok(socket) => {
                self.sockets.push(socket);
                self.ready.push(true);
            }
            Err(error) => log::error!("{}: not served on {}: {error} ({})", row.service.name, row.address, udp::remedy(row, &error)),
        }
    }

    /// Opens the socket of an endpoint again, as its row is now.
    fn reopen_socket(&mut self, endpoint: u16) -> std::io::Result<()> {
        let Some(row) = self.table.get(usize::from(endpoint)) else { return Ok(()) };
        let Some(place) = self.sockets.iter().position(|socket| socket.endpoint == endpoint) else { return Ok(()) };
        let socket = udp::open(endpoint, row, row.link.and_then(|link| self.facts.get(usize::from(link))))?;
        self.put_socket(place, socket)
    }
}
