//! The operators' socket: `control.sock` in the run folder, a stream of lines each way.
//!
//! Who may speak is checked twice: by the socket's mode (0660, group `muster` where there is one) and by the credentials that the kernel
//! tells of whoever has connected: root, the daemon's own user, or a member of the group. At most [`CONTROL_CONNECTIONS`] at once; one
//! more is told so and let go. Everything is allocated when the socket is opened. A connection is *free*, *fresh* (the machine has yet to
//! hear of it), *open*, or *gone* (the machine has yet to hear of that; its place is not given away before).
//!
//! Nothing here waits. A line is handed to the machine when the answer to the one before has been taken, one a turn over all
//! connections; a reader for whom more is put out than its buffer holds is dropped. The socket itself is made by the clerk, but for the first
//! ([`super::work::clerk`]). Used by the loop alone, but for [`connect`].

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::socket::{getsockopt, sockopt};

use crate::base::limits::{CONTROL_CONNECTIONS, CONTROL_LINE_MAX, CONTROL_OUT};
use crate::base::muffle::Muffle;
use crate::base::time::Instant;
use crate::wire::control::{self, Reply, Sorry};

use super::signals::Signal;
use super::work::clerk::{Door, identity, open_door};
use super::{Error, sys};

pub use super::work::clerk::connect;

/// The socket's name in the run folder.
pub const NAME: &str = "control.sock";
/// Whose members may speak to the daemon.
pub const GROUP: &str = "muster";
/// A sender's share of the kernel's memory for what its reader has not taken yet.
const KERNEL_BUFFER: i32 = 64 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Free,
    Fresh,
    Open,
    Gone,
}

/// One connection's place, with its buffers.
struct Place {
    phase: Phase,
    stream: Option<UnixStream>,
    pid: i32,
    uid: u32,
    input: Box<[u8]>,
    filled: usize,
    /// No line ends before this.
    scanned: usize,
    output: Box<[u8]>,
    start: usize,
    end: usize,
    readable: bool,
    writable: bool,
    /// It will send nothing more.
    ended: bool,
    /// To be let go once everything was taken.
    leaving: bool,
    /// It waits for an errand.
    asked: bool,
}

impl Place {
    fn new() -> Place {
        Place {
            phase: Phase::Free,
            stream: None,
            pid: 0,
            uid: 0,
            input: vec![0; CONTROL_LINE_MAX].into(),
            filled: 0,
            scanned: 0,
            output: vec![0; CONTROL_OUT].into(),
            start: 0,
            end: 0,
            readable: false,
            writable: false,
            ended: false,
            leaving: false,
            asked: false,
        }
    }

    fn take_in(&mut self, stream: UnixStream, pid: i32, uid: u32) {
        (self.phase, self.stream, self.pid, self.uid) = (Phase::Fresh, Some(stream), pid, uid);
        (self.filled, self.scanned, self.start, self.end) = (0, 0, 0, 0);
        (self.readable, self.writable) = (true, true);
        (self.ended, self.leaving, self.asked) = (false, false, false);
    }

    fn close(&mut self) {
        self.stream = None;
        self.phase = if self.phase == Phase::Open { Phase::Gone } else { Phase::Free };
    }

    /// Everything that was put out has been taken.
    fn is_taken(&self) -> bool {
        self.start == self.end
    }

    /// Reads what there is, as far as there is room.
    fn fill(&mut self) {
        while self.readable && !self.ended {
            let (Some(stream), Some(room)) = (self.stream.as_mut(), self.input.get_mut(self.filled..).filter(|room| !room.is_empty()))
            else {
                return;
            };
            match stream.read(room) {
                Ok(0) => self.ended = true,
                Ok(got) => self.filled += got,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(_) => return self.close(),
            }
        }
    }

    /// Writes what there is, as far as it is taken.
    fn flush(&mut self) {
        while self.writable && !self.is_taken() {
            let (Some(stream), Some(rest)) = (self.stream.as_mut(), self.output.get(self.start..self.end)) else { return };
            match stream.write(rest) {
                Ok(taken) => self.start += taken,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(_) => return self.close(),
            }
        }
        if self.is_taken() {
            (self.start, self.end) = (0, 0);
            let over = self.leaving || (self.ended && self.filled == 0 && !self.asked);
            if over && self.stream.is_some() {
                self.close();
            }
        }
    }

    /// Puts bytes out. False: its buffer has no room for them.
    fn put(&mut self, bytes: &[u8]) -> bool {
        if self.output.len() - self.end < bytes.len() {
            self.output.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let Some(room) = self.output.get_mut(self.end..self.end + bytes.len()) else { return false };
        room.copy_from_slice(bytes);
        self.end += bytes.len();
        self.flush();
        true
    }

    /// The length of the line that is next, when it may be handed on.
    fn line(&mut self) -> Option<usize> {
        let ready = self.phase == Phase::Open && self.stream.is_some() && self.is_taken() && !self.asked && !self.leaving;
        if !ready || self.filled == 0 {
            return None;
        }
        let new = self.input.get(self.scanned..self.filled)?;
        match new.iter().position(|byte| *byte == b'\n') {
            Some(at) => return Some(self.scanned + at),
            None => self.scanned = self.filled,
        }
        self.ended.then_some(self.filled)
    }

    /// Forgets a line of this length, and its newline.
    fn consume(&mut self, len: usize) {
        let rest = (len + 1).min(self.filled);
        self.input.copy_within(rest..self.filled, 0);
        (self.filled, self.scanned) = (self.filled - rest, 0);
    }

    /// Whether there is something to do without waiting for the kernel.
    fn has_work(&self) -> bool {
        match self.phase {
            Phase::Free => false,
            Phase::Fresh | Phase::Gone => true,
            Phase::Open => {
                let full = self.filled == self.input.len();
                let hands_on = self.is_taken() && !self.asked && (self.scanned < self.filled || self.ended || full);
                (self.readable && !full && !self.ended) || hands_on
            }
        }
    }
}

/// What the machine is to be told of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    Opened(u8),
    Closed(u8),
}

pub struct Control {
    folder: PathBuf,
    listener: Option<UnixListener>,
    /// Device and inode of our socket: only that is removed at the end.
    ours: Option<(u64, u64)>,
    group: Option<u32>,
    places: Box<[Place]>,
    /// Somebody may be waiting to be accepted.
    knocks: bool,
    /// There may be something to do.
    active: bool,
    /// Whose line is looked at first.
    first: usize,
    errands: VecDeque<(u8, Signal)>,
    /// For whom the world does an errand now.
    asker: Option<u8>,
    /// The loop's token of the listener; the connections' follow.
    token: usize,
    refused: Muffle,
    dropped: Muffle,
    crowded: Muffle,
}

impl Control {
    /// How many tokens of the loop are used.
    pub const TOKENS: usize = 1 + CONTROL_CONNECTIONS;

    /// Opens the socket in a folder. Refuses when another daemon answers on it.
    pub fn open(folder: &Path, registry: &Registry, token: usize) -> Result<Control, Error> {
        let mut control = Control {
            folder: folder.into(),
            listener: None,
            ours: None,
            group: None,
            places: (0..CONTROL_CONNECTIONS).map(|_| Place::new()).collect(),
            knocks: false,
            active: false,
            first: 0,
            errands: VecDeque::with_capacity(CONTROL_CONNECTIONS),
            asker: None,
            token,
            refused: Muffle::default(),
            dropped: Muffle::default(),
            crowded: Muffle::default(),
        };
        let door = open_door(folder, None)?;
        control.adopt(registry, door)?;
        Ok(control)
    }

    /// The folder of the socket, and which one is ours.
    pub fn place(&self) -> (&Path, Option<(u64, u64)>) {
        (&self.folder, self.ours)
    }

    /// Listens at a socket that was made anew. Those who are connected stay.
    pub fn adopt(&mut self, registry: &Registry, door: Door) -> Result<(), Error> {
        if let Some(error) = door.ungiven {
            log::warn!("the control socket is not given to the group {GROUP} ({error}): only root can use it");
        }
        let watched = registry.register(&mut SourceFd(&door.listener.as_raw_fd()), Token(self.token), Interest::READABLE);
        watched.map_err(|error| Error::system("cannot watch the control socket", error, ""))?;
        // The old one is closed here; who was waiting at it is turned away and comes again.
        (self.listener, self.ours, self.group) = (Some(door.listener), door.identity, door.group);
        (self.knocks, self.active) = (true, true);
        Ok(())
    }

    /// The kernel says that a source has something: 0 is the listener, the others are connections.
    pub fn event(&mut self, source: usize) {
        self.active = true;
        match source.checked_sub(1).and_then(|at| self.places.get_mut(at)) {
            None => self.knocks = true,
            Some(place) => (place.readable, place.writable) = (true, true),
        }
    }

    /// Whether [`serve`](Control::serve) has something to do.
    pub fn has_work(&self) -> bool {
        self.active
    }

    /// Reads, writes and accepts, as far as that goes without waiting.
    pub fn serve(&mut self, registry: &Registry, now: Instant) {
        for place in self.places.iter_mut().filter(|place| place.stream.is_some()) {
            place.fill();
            place.flush();
        }
        for _ in 0..CONTROL_CONNECTIONS {
            if !self.knocks {
                break;
            }
            self.accept(registry, now);
        }
    }

    /// To be called when everything was served: whether there is more to do.
    pub fn settle(&mut self) {
        self.active = self.knocks || !self.errands.is_empty() || self.places.iter().any(Place::has_work);
    }

    fn accept(&mut self, registry: &Registry, now: Instant) {
        let Some(listener) = self.listener.as_ref() else { return self.knocks = false };
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::Interrupted => return,
            Err(error) => {
                self.knocks = false;
                if error.kind() != ErrorKind::WouldBlock {
                    log::warn!("control: nobody can be accepted: {error}");
                }
                return;
            }
        };
        let Ok(peer) = getsockopt(&stream, sockopt::PeerCredentials) else { return };
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        if !self.may_speak(&stream, peer.uid(), peer.gid()) {
            if let Some(muffled) = self.refused.admits(now) {
                log::warn!("control: user {} (pid {}) may not use the socket: refused ({muffled} more were)", peer.uid(), peer.pid());
            }
            let hint = format!("be root, or a member of the group {GROUP}");
            return turn_away(stream, Sorry::new(format!("user {} may not operate this cluster", peer.uid()), hint));
        }
        let Some(at) = self.places.iter().position(|place| place.phase == Phase::Free) else {
            if let Some(muffled) = self.crowded.admits(now) {
                log::warn!("control: {CONTROL_CONNECTIONS} connections are open: pid {} was turned away ({muffled} more were)", peer.pid());
            }
            return turn_away(stream, Sorry::new(format!("{CONTROL_CONNECTIONS} connections are open already"), "close one, or try again"));
        };
        let _ = sys::set_int_option(stream.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, KERNEL_BUFFER);
        let both = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = registry.register(&mut SourceFd(&stream.as_raw_fd()), Token(self.token + 1 + at), both) {
            return log::warn!("control: pid {} cannot be watched: {error}", peer.pid());
        }
        if let Some(place) = self.places.get_mut(at) {
            place.take_in(stream, peer.pid(), peer.uid());
        }
    }

    fn may_speak(&self, stream: &UnixStream, uid: u32, gid: u32) -> bool {
        let own = nix::unistd::geteuid().as_raw();
        let member = |group| gid == group || sys::peer_groups(stream.as_fd()).is_ok_and(|groups| groups.contains(&group));
        uid == 0 || uid == own || self.group.is_some_and(member)
    }

    /// What the machine has to be told next; call until None.
    pub fn news(&mut self) -> Option<News> {
        for (at, place) in self.places.iter_mut().enumerate() {
            match place.phase {
                Phase::Free | Phase::Open => {}
                Phase::Fresh => {
                    place.phase = Phase::Open;
                    return Some(News::Opened(at as u8));
                }
                Phase::Gone => {
                    place.phase = Phase::Free;
                    self.errands.retain(|(conn, _)| usize::from(*conn) != at);
                    // Its answer is nobody's.
                    self.asker = self.asker.filter(|conn| usize::from(*conn) != at);
                    return Some(News::Closed(at as u8));
                }
            }
        }
        None
    }

    /// The next line to hand on: its connection, and how long it is. In rotating order.
    pub fn line(&mut self) -> Option<(u8, usize)> {
        for step in 0..self.places.len() {
            let at = (self.first + step) % self.places.len();
            let Some(place) = self.places.get_mut(at) else { continue };
            if let Some(len) = place.line() {
                self.first = at + 1;
                return Some((at as u8, len));
            }
            if place.filled == place.input.len() && place.is_taken() && !place.asked && place.phase == Phase::Open && !place.leaving {
                place.leaving = true;
                let mut line = [0; 256];
                let sorry = Sorry::new(format!("the line is longer than {CONTROL_LINE_MAX} bytes"), "send less at a time");
                let len = control::write(&mut line, &Reply::Error(sorry)).unwrap_or(0);
                place.put(line.get(..len).unwrap_or_default());
            }
        }
        None
    }

    /// The bytes of that line.
    pub fn bytes(&self, conn: u8, len: usize) -> &[u8] {
        self.places.get(usize::from(conn)).and_then(|place| place.input.get(..len)).unwrap_or_default()
    }

    /// It was handed on.
    pub fn consume(&mut self, conn: u8, len: usize) {
        if let Some(place) = self.places.get_mut(usize::from(conn)) {
            place.consume(len);
        }
    }

    fn open_place(&mut self, conn: u8) -> Option<&mut Place> {
        self.places.get_mut(usize::from(conn)).filter(|place| place.phase == Phase::Open && place.stream.is_some())
    }

    /// Puts lines out for a connection. A reader that has no room for them is dropped.
    pub fn put(&mut self, now: Instant, conn: u8, bytes: &[u8]) {
        self.active = true;
        let Some(place) = self.open_place(conn) else { return };
        if place.put(bytes) {
            return;
        }
        let (pid, uid) = (place.pid, place.uid);
        place.close();
        if let Some(muffled) = self.dropped.admits(now) {
            log::warn!("control: pid {pid} of user {uid} does not take what it is sent: dropped ({muffled} more were)");
        }
    }

    /// Lets a connection go once everything was taken.
    pub fn close(&mut self, conn: u8) {
        self.active = true;
        if let Some(place) = self.open_place(conn) {
            place.leaving = true;
            place.flush();
        }
    }

    /// A connection wants something done that the loop's owner does.
    pub fn ask(&mut self, conn: u8, signal: Signal) {
        self.active = true;
        if let Some(place) = self.open_place(conn) {
            place.asked = true;
            self.errands.push_back((conn, signal));
        }
    }

    /// The errand that is next; its asker is answered by [`answer`](Control::answer).
    pub fn errand(&mut self) -> Option<Signal> {
        let (conn, signal) = self.errands.pop_front()?;
        self.asker = Some(conn);
        Some(signal)
    }

    /// Whether somebody waits for the errand that was given last.
    pub fn is_asked(&self) -> bool {
        self.asker.is_some()
    }

    /// Answers whoever asked for the errand that was given last; nobody, if it was a real signal.
    pub fn answer(&mut self, now: Instant, line: &[u8]) {
        let Some(conn) = self.asker.take() else { return };
        if let Some(place) = self.places.get_mut(usize::from(conn)) {
            place.asked = false;
        }
        self.put(now, conn, line);
    }
}

/// The socket goes with the daemon, if it is still ours.
impl Drop for Control {
    fn drop(&mut self) {
        let path = self.folder.join(NAME);
        if self.ours.is_some() && identity(&path) == self.ours {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Sends a last line, as far as it is taken, and closes.
fn turn_away(mut stream: UnixStream, sorry: Sorry) {
    let mut line = [0; 512];
    if let Some(line) = control::write(&mut line, &Reply::Error(sorry)).and_then(|len| line.get(..len)) {
        let _ = stream.write(line);
    }
}

#[cfg(test)]
mod tests;
