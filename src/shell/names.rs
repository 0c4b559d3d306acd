//! The sockets of DNS, all opened at start: port 53 by UDP and TCP on the address of each boot interface (and where the config says), and
//! for questions that are handed on a few UDP sockets, whose ports the kernel chose. They are bound to addresses, not to interfaces, so
//! that programs of the head itself may ask.
//!
//! Port 53 may be another program's: then that is told, and names are not served on that address; machines boot all the same. A crowd of
//! idle connections keeps nobody out: the one that was idle longest makes room, and each is closed after ten seconds of idleness.

mod place;

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use crate::base::limits::{DNS_ASKERS, DNS_CALLS, DNS_CONNECTIONS, DNS_LISTENERS, DNS_MESSAGE_MAX, DNS_QUERY_MAX};
use crate::base::machine::DnsPeer;
use crate::base::muffle::Muffle;
use crate::base::time::Instant;
use crate::config::Config;

use super::{Error, sys};
use place::{Phase, Place};

const PORT: u16 = 53;
/// A connection that neither asks nor takes is closed after this long (RFC 7766, 6.2.3).
const IDLE: Duration = Duration::from_secs(10);
/// One that was idle this long may be closed for a new one.
const SPARE: Duration = Duration::from_millis(500);
/// How often idle connections are looked for.
pub const LOOK: Duration = Duration::from_secs(1);
/// Connections that are taken in at one time.
const ACCEPTS: usize = 8;
/// A burst of questions: some thousands.
const RECEIVE_BUFFER: usize = 1 << 20;
const SEND_BUFFER: usize = 1 << 20;
/// A connection's share of the kernel's memory for what its reader has not taken yet.
const KERNEL_BUFFER: i32 = 64 * 1024;

/// The loop's tokens: UDP sockets, doors, connections.
const SOCKETS: usize = DNS_LISTENERS + DNS_ASKERS;
const DOORS: usize = SOCKETS;
const PLACES: usize = SOCKETS + DNS_LISTENERS;

struct Socket {
    fd: OwnedFd,
    peer: DnsPeer,
    ready: bool,
    /// How many datagrams the kernel has dropped because its queue was full, in all.
    lost: u32,
}

struct Door {
    listener: TcpListener,
    knocks: bool,
}

/// What became of connections.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    turned_away: u64,
    made_room: u64,
    idle: u64,
    slow: u64,
    lost: u64,
}

pub struct Names {
    sockets: Vec<Socket>,
    doors: Vec<Door>,
    /// The clients' connections, then those to other servers.
    places: Box<[Place]>,
    /// A connection for which room is being made.
    newcomer: Option<(TcpStream, SocketAddrV4)>,
    /// There may be something to do with connections.
    active: bool,
    next_look: Instant,
    /// Whose turn is first.
    first: usize,
    counts: Counts,
    token: usize,
    crowded: Muffle,
}

impl Names {
    pub const TOKENS: usize = PLACES + DNS_CONNECTIONS + DNS_CALLS;

    /// Opens what can be opened. None when names are not to be served, or nowhere could be.
    pub fn open(config: &Config, registry: &Registry, token: usize) -> Result<Option<Names>, Error> {
        let heads = config.links.iter().map(|link| link.head);
        let (mut sockets, mut doors): (Vec<Socket>, Vec<Door>) = (Vec::new(), Vec::new());
        for address in heads.chain(config.dns.listen.iter().copied()).filter(|_| config.dns.enabled) {
            match listen(address) {
                Ok((fd, listener)) => {
                    sockets.push(Socket { fd, peer: DnsPeer::Listener(sockets.len() as u8), ready: true, lost: 0 });
                    doors.push(Door { listener, knocks: true });
                }
                Err(error) => tell_refused(address, &error),
            }
        }
        if sockets.is_empty() {
            return Ok(None);
        }
        for at in 0..if config.dns.upstream.is_empty() { 0 } else { DNS_ASKERS } {
            match udp(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)) {
                Ok(fd) => sockets.push(Socket { fd, peer: DnsPeer::Asker(at as u8), ready: true, lost: 0 }),
                Err(error) => {
                    log::error!("cannot open a socket from which other name servers are asked: {error}: those questions stay unanswered")
                }
            }
        }
        let client = || Place::new(DNS_QUERY_MAX, DNS_MESSAGE_MAX);
        let call = || Place::new(DNS_MESSAGE_MAX, DNS_QUERY_MAX);
        let places = (0..DNS_CONNECTIONS).map(|_| client()).chain((0..DNS_CALLS).map(|_| call())).collect();
        let on: Vec<String> = doors.iter().filter_map(|door| door.listener.local_addr().ok()).map(|on| on.ip().to_string()).collect();
        log::info!("names are served on {}, port {PORT}", on.join(", "));
        let mut names = Names {
            sockets,
            doors,
            places,
            newcomer: None,
            active: true,
            next_look: Instant::ZERO,
            first: 0,
            counts: Counts::default(),
            token,
            crowded: Muffle::default(),
        };
        names.watch(registry).map_err(|error| Error::system("cannot watch the sockets of DNS", error, ""))?;
        Ok(Some(names))
    }

    fn watch(&mut self, registry: &Registry) -> io::Result<()> {
        for (at, socket) in self.sockets.iter().enumerate() {
            registry.register(&mut SourceFd(&socket.fd.as_raw_fd()), Token(self.token + at), Interest::READABLE)?;
        }
        for (at, door) in self.doors.iter_mut().enumerate() {
            registry.register(&mut door.listener, Token(self.token + DOORS + at), Interest::READABLE)?;
        }
        Ok(())
    }

    /// The kernel says that a source has something.
    pub fn event(&mut self, source: usize) {
        if let Some(place) = source.checked_sub(PLACES).and_then(|at| self.places.get_mut(at)) {
            (place.readable, place.writable, self.active) = (true, true, true);
        } else if let Some(door) = source.checked_sub(DOORS).and_then(|at| self.doors.get_mut(at)) {
            (door.knocks, self.active) = (true, true);
        } else if let Some(socket) = self.sockets.get_mut(source) {
            socket.ready = true;
        }
    }

    /// Whether there is something to do without waiting for the kernel.
    pub fn has_work(&self) -> bool {
        self.active || self.sockets.iter().any(|socket| socket.ready)
    }

    /// Whether the time of connections runs.
    pub fn is_timed(&self) -> bool {
        self.places.iter().any(|place| place.phase == Phase::Open)
    }

    /// How many UDP sockets there are.
    pub fn sockets(&self) -> usize {
        self.sockets.len()
    }

    pub fn fd(&self, at: usize) -> Option<BorrowedFd<'_>> {
        self.sockets.get(at).map(|socket| socket.fd.as_fd())
    }

    /// The UDP socket of a peer.
    pub fn socket_of(&self, peer: DnsPeer) -> Option<usize> {
        self.sockets.iter().position(|socket| socket.peer == peer)
    }

    /// A UDP socket that has something, and who sits at its other end.
    pub fn ready(&self, at: usize) -> Option<DnsPeer> {
        self.sockets.get(at).filter(|socket| socket.ready).map(|socket| socket.peer)
    }

    /// A socket has nothing more to give.
    pub fn is_empty(&mut self, at: usize) {
        self.sockets.iter_mut().skip(at).take(1).for_each(|socket| socket.ready = false);
    }

    /// The kernel tells how many datagrams it has dropped in all.
    pub fn lost(&mut self, at: usize, all: u32) {
        if let Some(socket) = self.sockets.get_mut(at) {
            self.counts.lost += u64::from(all.wrapping_sub(std::mem::replace(&mut socket.lost, all)));
        }
    }

    /// The place where this turn begins, so that nobody is always last.
    pub fn rotate(&mut self) -> usize {
        self.first = self.first.wrapping_add(1);
        self.first
    }

    /// Whether [`serve`](Names::serve) has something to do.
    pub fn is_due(&self, now: Instant) -> bool {
        self.active || self.next_look <= now
    }

    /// Reads, writes and accepts, as far as that goes without waiting; closes what is idle.
    pub fn serve(&mut self, registry: &Registry, now: Instant) {
        if self.next_look <= now {
            self.next_look = now + LOOK;
            for place in self.places.iter_mut().filter(|place| place.phase == Phase::Open && now.since(place.stirred) >= IDLE) {
                let count = if place.is_taken() { &mut self.counts.idle } else { &mut self.counts.slow };
                *count += 1;
                place.close();
                self.active = true;
            }
        }
        if !self.active {
            return;
        }
        for place in self.places.iter_mut().filter(|place| place.stream.is_some()) {
            place.fill();
            place.flush(now);
            if place.is_over() {
                place.close();
            }
        }
        if let Some((stream, peer)) = self.newcomer.take() {
            self.take_in(registry, now, stream, peer);
        }
        for _ in 0..ACCEPTS {
            let Some(at) = self.doors.iter().position(|door| door.knocks).filter(|_| self.newcomer.is_none()) else { break };
            self.accept(registry, now, at);
        }
    }

    /// To be called when everything was served: whether there is more to do.
    pub fn settle(&mut self) {
        self.active = self.newcomer.is_some() || self.doors.iter().any(|door| door.knocks) || self.places.iter().any(Place::has_work);
    }

    fn accept(&mut self, registry: &Registry, now: Instant, door: usize) {
        let Some(door) = self.doors.get_mut(door) else { return };
        match door.listener.accept() {
            Ok((stream, SocketAddr::V4(peer))) => self.take_in(registry, now, stream, peer),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
            Err(error) => {
                door.knocks = false;
                if error.kind() != ErrorKind::WouldBlock {
                    log::warn!("dns: no connection can be accepted: {error}");
                }
            }
        }
    }

    /// Gives a connection a place. When nobody's place is free, the connection that has been idle longest is closed, and the newcomer waits
    /// until the machine has heard of that; when all are busy it is turned away.
    fn take_in(&mut self, registry: &Registry, now: Instant, mut stream: TcpStream, peer: SocketAddrV4) {
        let clients = self.places.get_mut(..DNS_CONNECTIONS).unwrap_or_default();
        let Some(at) = clients.iter().position(|place| place.phase == Phase::Free) else {
            let leaving = clients.iter().any(|place| place.phase == Phase::Gone);
            let spare = clients.iter_mut().filter(|place| place.phase == Phase::Open && now.since(place.stirred) >= SPARE);
            match spare.min_by_key(|place| (place.is_waiting(), place.stirred)).filter(|_| !leaving) {
                Some(place) => {
                    place.close();
                    self.counts.made_room += 1;
                }
                None if leaving => {}
                None => return self.turn_away(now, peer),
            }
            self.newcomer = Some((stream, peer));
            return;
        };
        // What is not taken stays here, not in the kernel's memory.
        let _ = sys::set_int_option(stream.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, KERNEL_BUFFER);
        let _ = stream.set_nodelay(true);
        let both = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = registry.register(&mut stream, Token(self.token + PLACES + at), both) {
            return log::warn!("dns: a connection cannot be watched: {error}");
        }
        if let Some(place) = self.places.get_mut(at) {
            place.take_in(stream, peer, now);
        }
    }

    fn turn_away(&mut self, now: Instant, peer: SocketAddrV4) {
        self.counts.turned_away += 1;
        if let Some(muffled) = self.crowded.admits(now) {
            log::warn!("dns: {DNS_CONNECTIONS} connections are busy: {} was turned away ({muffled} more were)", peer.ip());
        }
    }

    /// A connection that has gone, of which the machine is to be told; call until None.
    pub fn gone(&mut self) -> Option<DnsPeer> {
        let at = self.places.iter().position(|place| place.phase == Phase::Gone)?;
        self.places.get_mut(at)?.phase = Phase::Free;
        Some(peer(at))
    }

    /// A connection that has taken everything, of which the machine is to be told; in rotating order.
    pub fn taken(&mut self) -> Option<u8> {
        let count = DNS_CONNECTIONS;
        let at = (0..count).map(|step| (self.first + step) % count).find(|at| self.places.get(*at).is_some_and(|place| place.taken))?;
        self.places.get_mut(at)?.taken = false;
        Some(at as u8)
    }

    /// The message that is next at a place: from whom, and how long it is.
    pub fn next(&self, at: usize) -> Option<(DnsPeer, SocketAddrV4, usize)> {
        let place = self.places.get(at)?;
        place.next().map(|len| (peer(at), place.peer, len))
    }

    /// How many places there are.
    pub fn places(&self) -> usize {
        self.places.len()
    }

    pub fn message(&self, at: usize, len: usize) -> &[u8] {
        self.places.get(at).map(|place| place.message(len)).unwrap_or_default()
    }

    pub fn consume(&mut self, now: Instant, at: usize, len: usize) {
        self.places.iter_mut().skip(at).take(1).for_each(|place| place.consume(now, len));
    }

    /// Puts a message out by a connection; one to another server is made for it.
    pub fn put(&mut self, registry: &Registry, now: Instant, peer: DnsPeer, to: SocketAddrV4, message: &[u8]) {
        self.active = true;
        let Some(at) = place_of(peer) else { return };
        if matches!(peer, DnsPeer::Call(_)) {
            self.connect(registry, now, at, to);
        }
        let Some(place) = self.places.get_mut(at).filter(|place| place.phase == Phase::Open && place.stream.is_some()) else { return };
        if !place.put(now, message) {
            self.counts.slow += 1;
            place.close();
        }
    }

    /// Begins a connection to another server. Where that fails the machine is told that it has gone.
    fn connect(&mut self, registry: &Registry, now: Instant, at: usize, to: SocketAddrV4) {
        let Some(place) = self.places.get_mut(at).filter(|place| place.phase == Phase::Free) else { return };
        let made = TcpStream::connect(to.into()).and_then(|mut stream| {
            let both = Interest::READABLE | Interest::WRITABLE;
            registry.register(&mut stream, Token(self.token + PLACES + at), both).map(|()| stream)
        });
        match made {
            Ok(stream) => {
                place.take_in(stream, to, now);
                // Until it is made.
                (place.readable, place.writable) = (false, false);
            }
            Err(error) => {
                log::debug!("dns: cannot connect to {to}: {error}");
                place.phase = Phase::Gone;
            }
        }
    }

    /// Ends a connection.
    pub fn close(&mut self, peer: DnsPeer) {
        self.active = true;
        place_of(peer).and_then(|at| self.places.get_mut(at)).into_iter().for_each(Place::close);
    }

    /// What became of connections and datagrams, by name.
    pub fn stats(&self) -> [(&'static str, u64); 5] {
        [
            ("dns connections turned away", self.counts.turned_away),
            ("dns connections closed for others", self.counts.made_room),
            ("dns connections closed, idle", self.counts.idle),
            ("dns connections closed, slow", self.counts.slow),
            ("dns lost in receive queues", self.counts.lost),
        ]
    }
}

fn peer(at: usize) -> DnsPeer {
    match at.checked_sub(DNS_CONNECTIONS) {
        None => DnsPeer::Client(at as u8),
        Some(call) => DnsPeer::Call(call as u8),
    }
}

fn place_of(peer: DnsPeer) -> Option<usize> {
    match peer {
        DnsPeer::Client(conn) => Some(usize::from(conn)).filter(|at| *at < DNS_CONNECTIONS),
        DnsPeer::Call(call) => Some(DNS_CONNECTIONS + usize::from(call)),
        DnsPeer::Listener(_) | DnsPeer::Asker(_) => None,
    }
}

fn udp(address: SocketAddrV4) -> io::Result<OwnedFd> {
    let fd = sys::udp_socket()?;
    sys::set_receive_buffer(fd.as_fd(), RECEIVE_BUFFER);
    sys::set_send_buffer(fd.as_fd(), SEND_BUFFER);
    sys::set_int_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
    sys::bind_udp(fd.as_fd(), address)?;
    Ok(fd)
}

fn listen(address: Ipv4Addr) -> io::Result<(OwnedFd, TcpListener)> {
    let local = SocketAddrV4::new(address, PORT);
    Ok((udp(local)?, TcpListener::bind(local.into())?))
}

fn tell_refused(address: Ipv4Addr, error: &io::Error) {
    let remedy = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            "another name server has the port (ss -lnptu sport = :53 shows it): stop it, keep it off this address, or set \
             `enabled = false` in [dns]"
        }
        Some(libc::EADDRNOTAVAIL) => "this machine does not have the address: see `listen` in [dns]",
        Some(libc::EPERM | libc::EACCES) => "run as root, or with CAP_NET_BIND_SERVICE",
        _ => "set `enabled = false` in [dns] to do without",
    };
    log::error!("names are not served on {address} port {PORT}: {error}: {remedy}");
}
