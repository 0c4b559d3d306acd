//! All connections: those that others make to a TCP port or to the operators' socket, and those that the machine has made.
//!
//! Endpoints of one service and transport are a *group*, which shares places and buffers; all of them are allocated at start. A connection
//! is *fresh* (the machine has yet to hear of it), *open*, or has gone (the machine has yet to hear of that; its place is not given away
//! before). Those with something to do stand in one queue, so that a turn costs what there is to do, however many are connected.
//!
//! A crowd of idle connections keeps nobody out: where the endpoint has an idle time, the one that has been idle longest makes room. Nothing
//! here waits. Used by the loop alone.

mod conn;
mod pool;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Interest, Registry};

use crate::base::chain::Chains;
use crate::base::endpoint::{Endpoint, EndpointId, Framing, Service, Streams, Transport};
use crate::base::log_limit::LogLimit;
use crate::base::machine::{ConnId, FileId, Stream, StreamEvent};
use crate::base::slab::{Key, Slab};
use crate::base::time::Instant;
use crate::base::wheel::Wheel;

use super::control::Guard;
use super::files::Files;
use super::source::EventSource;
use super::sys;
use conn::{Conn, ConnPhase, ConnSocket, NextMessage, PREFIX};
use pool::Pool;

pub use conn::{OWN_TOKEN, Peer};

/// Groups that there may be.
const GROUPS: usize = 8;
/// One that was idle this long may be closed for a new one.
const SPARE: Duration = Duration::from_millis(500);
/// How many are looked at for the one that makes room.
const SPARE_LOOKS: usize = 64;
/// Connections that are taken in at one time.
const ACCEPTS: usize = 16;
/// Connections that are served in one turn.
const SERVED: usize = 256;
/// How often files that were not in memory are asked for again, in case that nobody has said that they are there.
const COLD_LOOK: Duration = Duration::from_millis(500);
/// A connection's share of the kernel's memory for what its reader has not taken yet.
const KERNEL_BUFFER: i32 = 64 * 1024;
/// `Drained` events of a group in one turn, and in one that left something undone: what follows may be long.
const DRAINS: usize = 2;

/// What became of connections.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    turned_away: u64,
    made_room: u64,
    idle: u64,
    slow: u64,
}

struct Group {
    service: Service,
    transport: std::mem::Discriminant<Transport>,
    streams: Streams,
    inputs: Pool,
    outputs: Pool,
    /// Places that are taken, and those of them whose connection has gone.
    taken: usize,
    gone: usize,
    /// Messages and `Drained` events that may be handed on in this turn.
    messages: usize,
    drains: usize,
    /// A connection for which room is being made.
    newcomer: Option<(ConnSocket, Peer, EndpointId)>,
    counts: Counts,
    crowded: LogLimit,
    slow: LogLimit,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

struct Door {
    group: usize,
    endpoint: EndpointId,
    listener: Option<Listener>,
    unix: bool,
    knocks: bool,
}

/// What the machine is to learn of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    Opened { token: u64 },
    Message { before: usize, len: usize, behind: usize },
    Drained,
    Closed,
}

pub struct Conns {
    groups: Vec<Group>,
    doors: Vec<Door>,
    /// How many doors there are of the table; behind them are those at other addresses.
    fixed: usize,
    conns: Slab<Conn>,
    /// Those with something to do.
    work: VecDeque<u32>,
    /// When each will have been idle too long, and in which order they last did something.
    wheel: Wheel,
    ages: Chains<GROUPS>,
    /// Who wait for a file, and when they are looked at.
    cold: usize,
    cold_look: Instant,
    guard: Option<Guard>,
}

impl Conns {
    /// Allocates everything, and opens what can be opened: gives what cannot.
    pub fn open(table: &[Endpoint], registry: &Registry) -> io::Result<(Conns, Vec<(EndpointId, io::Error)>)> {
        let (mut groups, mut doors, mut refused) = (Vec::<Group>::new(), Vec::new(), Vec::new());
        for (endpoint, row) in (0..).zip(table) {
            let Some(streams) = row.transport.streams() else { continue };
            let transport = std::mem::discriminant(&row.transport);
            let known = groups.iter().position(|group| (group.service, group.transport) == (row.service, transport));
            let group = known.unwrap_or(groups.len());
            if known.is_none() {
                groups.push(Group::new(row.service, transport, streams));
            }
            let unix = matches!(row.transport, Transport::Unix(_));
            let mut door = |listener| doors.push(Door { group, endpoint, listener, unix, knocks: true });
            match row.transport {
                Transport::Listen(_) => match sys::listen_tcp(row.address) {
                    Ok(listener) => door(Some(Listener::Tcp(TcpListener::from_std(listener)))),
                    Err(error) => refused.push((endpoint, error)),
                },
                Transport::Unix(_) => door(None),
                _ => {}
            }
        }
        assert!(groups.len() <= GROUPS, "more kinds of connections than there may be");
        let capacity = groups.iter().map(|group| group.streams.conns).sum();
        let conns = Conns {
            groups,
            fixed: doors.len(),
            doors,
            conns: Slab::new(capacity),
            work: VecDeque::with_capacity(capacity),
            wheel: Wheel::new(capacity, Instant::ZERO),
            ages: Chains::new(capacity),
            cold: 0,
            cold_look: Instant::ZERO,
            guard: None,
        };
        for (at, door) in conns.doors.iter().enumerate() {
            if let Some(listener) = &door.listener {
                registry.register(&mut SourceFd(&listener.as_raw_fd()), EventSource::Door(at).into(), Interest::READABLE)?;
            }
        }
        Ok((conns, refused))
    }

    /// An endpoint that listens does so at another address from now on. Its connections stay.
    pub fn move_door(&mut self, registry: &Registry, endpoint: EndpointId, address: SocketAddrV4) -> io::Result<()> {
        let Some((at, door)) = self.doors.iter_mut().enumerate().find(|(_, door)| door.endpoint == endpoint) else { return Ok(()) };
        let listener = Listener::Tcp(TcpListener::from_std(sys::listen_tcp(address)?));
        registry.register(&mut SourceFd(&listener.as_raw_fd()), EventSource::Door(at).into(), Interest::READABLE)?;
        (door.listener, door.knocks) = (Some(listener), true);
        Ok(())
    }

    /// Endpoints that listen do so at these addresses as well, and at no others any more. Gives those where they cannot.
    pub fn set_others(&mut self, registry: &Registry, others: &[(EndpointId, SocketAddrV4)]) -> Vec<(SocketAddrV4, io::Error)> {
        self.doors.truncate(self.fixed);
        let mut refused = Vec::new();
        for &(endpoint, address) in others {
            let Some(group) = self.doors.iter().find(|door| door.endpoint == endpoint).map(|door| door.group) else { continue };
            let at = self.doors.len();
            let opened = sys::listen_tcp(address).and_then(|listener| {
                let listener = Listener::Tcp(TcpListener::from_std(listener));
                registry.register(&mut SourceFd(&listener.as_raw_fd()), EventSource::Door(at).into(), Interest::READABLE)?;
                Ok(Door { group, endpoint, listener: Some(listener), unix: false, knocks: true })
            });
            match opened {
                Ok(door) => self.doors.push(door),
                // It is one of those that are configured.
                Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => {}
                Err(error) => refused.push((address, error)),
            }
        }
        refused
    }

    /// Listens at a Unix socket, which another one may have been before. Those who are connected stay.
    pub fn adopt(&mut self, registry: &Registry, listener: UnixListener, guard: Guard) -> io::Result<()> {
        let Some(at) = self.doors.iter().position(|door| door.unix) else { return Ok(()) };
        registry.register(&mut SourceFd(&listener.as_raw_fd()), EventSource::Door(at).into(), Interest::READABLE)?;
        if let Some(door) = self.doors.get_mut(at) {
            // The old one is closed here; who was waiting at it is turned away and comes again.
            (door.listener, door.knocks) = (Some(Listener::Unix(listener)), true);
        }
        self.guard = Some(guard);
        Ok(())
    }

    /// Who may use the Unix socket, and which one that is.
    pub fn guard(&self) -> Option<&Guard> {
        self.guard.as_ref()
    }

    /// Somebody may be at a door.
    pub fn knock(&mut self, door: usize) {
        self.doors.iter_mut().skip(door).take(1).for_each(|door| door.knocks = true);
    }

    /// A connection may go on.
    pub fn event(&mut self, slot: usize) {
        if let Some(conn) = self.at(slot) {
            (conn.readable, conn.writable) = (true, true);
            self.touch(slot);
        }
    }

    fn at(&mut self, slot: usize) -> Option<&mut Conn> {
        let key = self.conns.key_at(slot)?;
        self.conns.get_mut(key)
    }

    /// Puts a connection into the queue of those with something to do.
    fn touch(&mut self, slot: usize) {
        if self.at(slot).is_some_and(|conn| !std::mem::replace(&mut conn.queued, true)) {
            self.work.push_back(slot as u32);
        }
    }

    /// Whether there is something to do without waiting for the kernel.
    pub fn has_work(&self) -> bool {
        !self.work.is_empty() || self.doors.iter().any(|door| door.knocks) || self.groups.iter().any(|group| group.newcomer.is_some())
    }

    /// When there is something to do because of the time.
    pub fn deadline(&self) -> Option<Instant> {
        let cold = (self.cold > 0).then_some(self.cold_look);
        [self.wheel.deadline(), cold].into_iter().flatten().min()
    }

    /// Begins a turn: closes what is idle, takes in who knocks; gives how many connections are to be served. `busy`: others have more to do
    /// than one turn holds.
    pub fn begin(&mut self, registry: &Registry, now: Instant, busy: bool) -> usize {
        for group in &mut self.groups {
            let share = if busy { 4 } else { 1 };
            (group.messages, group.drains) = ((group.streams.batch / share).max(1), if busy { 1 } else { DRAINS });
        }
        while let Some(slot) = self.wheel.expire(now) {
            let Some(conn) = self.at(slot) else { continue };
            let (idle, group) = (conn.is_taken(), conn.group);
            if let Some(group) = self.groups.get_mut(group) {
                *(if idle { &mut group.counts.idle } else { &mut group.counts.slow }) += 1;
            }
            self.end(slot);
        }
        if self.cold > 0 && self.cold_look <= now {
            self.warm(now);
        }
        for group in 0..self.groups.len() {
            if let Some((wire, who, endpoint)) = self.groups.get_mut(group).and_then(|group| group.newcomer.take()) {
                self.take_in(registry, now, (group, endpoint), wire, who);
            }
        }
        for _ in 0..ACCEPTS {
            let free = |door: &Door| door.knocks && self.groups.get(door.group).is_some_and(|group| group.newcomer.is_none());
            let Some(at) = self.doors.iter().position(free) else { break };
            self.accept(registry, now, at);
        }
        self.work.len().min(SERVED)
    }

    fn accept(&mut self, registry: &Registry, now: Instant, at: usize) {
        let Some(door) = self.doors.get_mut(at) else { return };
        let place = (door.group, door.endpoint);
        let accepted = match &door.listener {
            Some(Listener::Tcp(listener)) => listener.accept().map(|(stream, peer)| match peer {
                SocketAddr::V4(peer) => Some((ConnSocket::Tcp(stream), Peer::Address(peer))),
                SocketAddr::V6(_) => None,
            }),
            Some(Listener::Unix(listener)) => listener.accept().map(|(stream, _)| {
                let who = self.guard.as_mut()?.admit(now, &stream)?;
                Some((ConnSocket::Unix(stream), who))
            }),
            None => return door.knocks = false,
        };
        match accepted {
            Ok(Some((wire, who))) => self.take_in(registry, now, place, wire, who),
            Ok(None) => {}
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
            Err(error) => {
                door.knocks = false;
                if error.kind() != ErrorKind::WouldBlock {
                    log::warn!("{}: cannot accept connections: {error}", self.groups.get(place.0).map_or("", |group| group.service.name));
                }
            }
        }
    }

    /// Gives a connection a place. When none is free, the one that has been idle longest is closed, and the newcomer waits until the
    /// machine has heard of that; when all are busy it is turned away.
    fn take_in(&mut self, registry: &Registry, now: Instant, (group, endpoint): (usize, EndpointId), wire: ConnSocket, who: Peer) {
        let Some(own) = self.groups.get(group) else { return };
        if own.taken >= own.streams.conns {
            let leaving = own.gone > 0;
            let spare = if leaving || own.streams.idle.is_none() { None } else { self.spare(now, group) };
            if let Some(slot) = spare {
                self.end(slot);
            }
            let Some(own) = self.groups.get_mut(group) else { return };
            own.counts.made_room += u64::from(spare.is_some());
            return if leaving || spare.is_some() { own.newcomer = Some((wire, who, endpoint)) } else { own.turn_away(now, wire, who) };
        }
        let fd = wire.as_raw_fd();
        // What is not taken stays here, not in the kernel's memory.
        let _ = sys::set_int_option(wire.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, KERNEL_BUFFER);
        if let ConnSocket::Tcp(stream) = &wire {
            let _ = stream.set_nodelay(true);
        }
        let conn = Conn::new((group, endpoint), own.streams.framing, Some(wire), who, 0, true);
        self.insert(registry, now, conn, fd);
    }

    fn insert(&mut self, registry: &Registry, now: Instant, mut conn: Conn, fd: i32) {
        let group = conn.group;
        conn.stirred = now;
        let Some(key) = self.conns.insert(conn) else { return };
        let slot = key.slot();
        let watched = registry.register(&mut SourceFd(&fd), EventSource::Conn(slot).into(), Interest::READABLE | Interest::WRITABLE);
        if let Some(group) = self.groups.get_mut(group) {
            group.taken += 1;
        }
        self.touch(slot);
        self.stir(now, slot);
        if let Err(error) = watched {
            log::warn!("connection: dropped, as it cannot be watched: {error}");
            self.end(slot);
        }
    }

    /// The connection that makes room for another one: of those that have been idle longest, one that waits for no answer.
    fn spare(&self, now: Instant, group: usize) -> Option<usize> {
        let aged = std::iter::successors(self.ages.first(group), |slot| self.ages.after(*slot)).take(SPARE_LOOKS);
        let known = aged.filter_map(|slot| Some((slot, self.conns.get(self.conns.key_at(slot)?)?)));
        let spare = known.filter(|(_, conn)| conn.wire.is_some() && conn.phase == ConnPhase::Open && now.since(conn.stirred) >= SPARE);
        spare.min_by_key(|(_, conn)| (conn.owed > 0, conn.stirred)).map(|(slot, _)| slot)
    }

    /// Something came or was taken: it is the youngest again.
    fn stir(&mut self, now: Instant, slot: usize) {
        let Some(conn) = self.at(slot) else { return };
        let (group, gone) = (conn.group, conn.wire.is_none());
        let Some(idle) = self.groups.get(group).and_then(|group| group.streams.idle).filter(|_| !gone) else { return };
        self.wheel.set(slot, now + idle);
        self.ages.remove(slot);
        self.ages.push(group, slot);
    }

    /// Ends a connection; the machine is to learn of it.
    fn end(&mut self, slot: usize) {
        let Some(key) = self.conns.key_at(slot) else { return };
        let Some(conn) = self.conns.get_mut(key).filter(|conn| conn.wire.is_some()) else { return };
        let Some(group) = self.groups.get_mut(conn.group) else { return };
        self.cold -= usize::from(conn.is_cold());
        conn.close(&mut group.inputs, &mut group.outputs);
        group.gone += 1;
        self.wheel.cancel(slot);
        self.ages.remove(slot);
        self.touch(slot);
    }

    /// The next connection that has something to do.
    pub fn next(&mut self) -> Option<usize> {
        let slot = self.work.pop_front()? as usize;
        self.at(slot)?.queued = false;
        Some(slot)
    }

    /// Reads and writes, as far as that goes without waiting. `room` is where bytes of files are laid.
    pub fn pump(&mut self, now: Instant, slot: usize, files: Option<&mut Files>, room: &mut [u8]) {
        let Some(key) = self.conns.key_at(slot) else { return };
        let Some(conn) = self.conns.get_mut(key).filter(|conn| conn.wire.is_some()) else { return };
        let Some(group) = self.groups.get_mut(conn.group) else { return };
        let (before, was_cold) = (conn.stirred, conn.is_cold());
        let mut alive = conn.fill(&mut group.inputs) && conn.flush(now, &mut group.outputs);
        if let Some(files) = files.filter(|_| alive && !was_cold) {
            alive = conn.send_piece(now, files, room);
        }
        if conn.is_cold() && !was_cold {
            self.cold += 1;
            self.cold_look = now + COLD_LOOK;
        }
        if conn.starved {
            group.inputs.wait(slot as u32);
        }
        if conn.stirred != before {
            self.stir(now, slot);
        }
        if !alive || self.at(slot).is_some_and(Conn::is_over) {
            self.end(slot);
        }
    }

    /// Files that were waited for may be in memory now.
    pub fn warm(&mut self, now: Instant) {
        self.cold_look = now + COLD_LOOK;
        for slot in 0..if self.cold > 0 { self.conns.capacity() } else { 0 } {
            if self.at(slot).is_some_and(|conn| conn.warm()) {
                self.cold -= 1;
                self.touch(slot);
            }
        }
    }

    /// What the machine is to learn of a connection next, as far as this turn allows it.
    pub fn news(&mut self, now: Instant, slot: usize) -> Option<News> {
        let conn = self.conns.key_at(slot).and_then(|key| self.conns.get_mut(key))?;
        let group = self.groups.get_mut(conn.group)?;
        if let ConnPhase::Fresh { token } = conn.phase {
            return Some(News::Opened { token });
        }
        if conn.wire.is_none() {
            return Some(News::Closed);
        }
        if conn.drained {
            return if group.drains > 0 { Some(News::Drained) } else { None };
        }
        if group.messages == 0 {
            return None;
        }
        match conn.next(group.streams.in_max)? {
            NextMessage::Message { before, len, behind } => Some(News::Message { before, len, behind }),
            NextMessage::TooLong => {
                let word = &group.streams.too_long;
                let gone = word.is_empty() || !conn.put(now, word, &mut group.outputs);
                conn.leaving = true;
                if gone || conn.is_over() {
                    self.end(slot);
                }
                None
            }
        }
    }

    /// The same, as the machine hears it.
    pub fn stream(&self, slot: usize, news: News) -> Option<Stream<'_>> {
        let key = self.conns.key_at(slot)?;
        let conn = self.conns.get(key)?;
        let event = match news {
            News::Opened { token } => StreamEvent::Opened { token },
            News::Message { before, len, .. } => StreamEvent::Bytes(conn.message(before, len)),
            News::Drained => StreamEvent::Drained,
            News::Closed => StreamEvent::Closed,
        };
        Some(Stream { conn: ConnId::from_u64(key.to_u64()), endpoint: conn.endpoint, peer: conn.who.address(), event })
    }

    /// The machine has learned of it.
    pub fn told(&mut self, now: Instant, slot: usize, news: News) {
        let Some(key) = self.conns.key_at(slot) else { return };
        let Some(conn) = self.conns.get_mut(key) else { return };
        let Some(group) = self.groups.get_mut(conn.group) else { return };
        match news {
            News::Opened { .. } => conn.phase = ConnPhase::Open,
            News::Drained => {
                conn.drained = false;
                group.drains -= 1;
            }
            News::Message { before, len, behind } => {
                group.messages -= 1;
                conn.consume(now, before + len + behind, &mut group.inputs);
                self.stir(now, slot);
            }
            News::Closed => {
                group.taken -= 1;
                group.gone -= 1;
                self.conns.remove(key);
            }
        }
    }

    /// A connection was served: it stays in the queue while there is more to do. One that was waiting for a buffer may have it.
    pub fn settle(&mut self, slot: usize) {
        let Some(conn) = self.conns.key_at(slot).and_then(|key| self.conns.get_mut(key)) else { return };
        let Some(group) = self.groups.get_mut(conn.group) else { return };
        let more = conn.has_work(group.streams.in_max);
        if let Some(next) = group.inputs.next() {
            if let Some(conn) = self.at(next as usize) {
                conn.starved = false;
            }
            self.touch(next as usize);
        }
        if more {
            self.touch(slot);
        }
    }

    fn find(&mut self, conn: ConnId) -> Option<(usize, &mut Conn, &mut Group)> {
        let key = Key::from_u64(conn.to_u64());
        let conn = self.conns.get_mut(key).filter(|conn| conn.wire.is_some())?;
        let group = self.groups.get_mut(conn.group)?;
        Some((key.slot(), conn, group))
    }

    /// Writes to a connection. A reader that has no room for it is dropped.
    pub fn write(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) {
        let Some((slot, conn, group)) = self.find(conn) else { return };
        if conn.leaving {
            return;
        }
        let idle_before = conn.stirred;
        let datagrams = group.streams.framing == Framing::Datagram;
        if conn.is_sending() || !conn.put(now, bytes, &mut group.outputs) {
            if datagrams {
                // The kernel does not let it out, or has heard that nobody is there.
                return self.end(slot);
            }
            group.counts.slow += 1;
            if let Some(more) = group.slow.allow(now) {
                log::warn!("{}: {} dropped (it does not read what it is sent{more})", group.service.name, conn.who);
            }
            self.end(slot);
            return;
        }
        let stirred = conn.stirred != idle_before;
        if stirred {
            self.stir(now, slot);
        }
        self.touch(slot);
    }

    /// Sends a part of a file by a connection.
    pub fn send_file(&mut self, conn: ConnId, file: FileId, offset: u64, bytes: u64) {
        let Some((slot, conn, _)) = self.find(conn) else { return };
        if conn.is_sending() {
            return self.end(slot);
        }
        conn.send_file(file, offset, bytes);
        self.touch(slot);
    }

    /// Lets a connection go: at once, or when everything was taken.
    pub fn close(&mut self, conn: ConnId, at_once: bool) {
        let Some((slot, conn, _)) = self.find(conn) else { return };
        conn.leaving = true;
        if at_once || conn.is_over() {
            self.end(slot);
        }
        self.touch(slot);
    }

    /// Begins a connection to somebody. Where that fails the machine learns that it has come and gone.
    pub fn connect(&mut self, registry: &Registry, now: Instant, endpoint: EndpointId, (row, to): (&Endpoint, SocketAddrV4), token: u64) {
        let transport = std::mem::discriminant(&row.transport);
        let own = |group: &Group| (group.service, group.transport) == (row.service, transport);
        let calls = matches!(row.transport, Transport::Dial(_) | Transport::Ask(_));
        let Some(group) = self.groups.iter().position(own).filter(|_| calls) else { return };
        let Some(own) = self.groups.get_mut(group) else { return };
        if own.taken >= own.streams.conns {
            own.counts.turned_away += 1;
            return;
        }
        let (framing, who) = (own.streams.framing, Peer::Address(to));
        let datagrams = framing == Framing::Datagram;
        let wire = match datagrams {
            true => sys::udp_to(to).map(|fd| ConnSocket::Udp(fd.into())),
            false => TcpStream::connect(to.into()).map(ConnSocket::Tcp),
        };
        match wire {
            Ok(wire) => {
                let fd = wire.as_raw_fd();
                self.insert(registry, now, Conn::new((group, endpoint), framing, Some(wire), who, token, datagrams), fd);
            }
            Err(error) => {
                log::debug!("{}: cannot connect to {to}: {error}", own.service.name);
                if let Some(key) = self.conns.insert(Conn::new((group, endpoint), framing, None, who, token, false)) {
                    (own.taken, own.gone) = (own.taken + 1, own.gone + 1);
                    self.touch(key.slot());
                }
            }
        }
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.conns.len()
    }

    /// What became of connections, by service and name.
    pub fn stats(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        self.groups.iter().flat_map(|group| {
            let Counts { turned_away, made_room, idle, slow } = group.counts;
            let named = [("turned away", turned_away), ("closed for others", made_room), ("closed, idle", idle), ("closed, slow", slow)];
            named.map(|(what, count)| (format!("{} connections {what}", group.service.name), count))
        })
    }
}

impl Group {
    fn new(service: Service, transport: std::mem::Discriminant<Transport>, streams: &Streams) -> Group {
        // What frames a message: a machine writes its own newlines.
        let (around, prefix) = match streams.framing {
            Framing::Length16 => (PREFIX, PREFIX),
            Framing::Line => (1, 0),
            Framing::Raw | Framing::Datagram => (0, 0),
        };
        Group {
            service,
            transport,
            inputs: Pool::new(streams.buffers, around + streams.in_max, streams.conns),
            outputs: Pool::new(streams.buffers, prefix + streams.out_max, 0),
            streams: streams.clone(),
            taken: 0,
            gone: 0,
            messages: 0,
            drains: 0,
            newcomer: None,
            counts: Counts::default(),
            crowded: LogLimit::default(),
            slow: LogLimit::default(),
        }
    }

    /// Sends somebody away, with a last word as far as it is taken.
    fn turn_away(&mut self, now: Instant, mut wire: ConnSocket, who: Peer) {
        self.counts.turned_away += 1;
        if let Some(more) = self.crowded.allow(now) {
            let (name, conns) = (self.service.name, self.streams.conns);
            log::warn!("{name}: {who} refused (all {conns} connections are busy{more})");
        }
        let _ = wire.write([&self.streams.crowded, &[]]);
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> i32 {
        match self {
            Listener::Tcp(listener) => listener.as_raw_fd(),
            Listener::Unix(listener) => listener.as_raw_fd(),
        }
    }
}

impl AsFd for ConnSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            ConnSocket::Tcp(stream) => stream.as_fd(),
            ConnSocket::Unix(stream) => stream.as_fd(),
            ConnSocket::Udp(socket) => socket.as_fd(),
        }
    }
}
