//! Connections in memory: the other ends are tests, which connect, write, read and hang up as programs would. Bytes take no time, and none
//! is lost; what has not been read yet is what a reader has not taken.
//!
//! All that an [`Endpoint`] says of connections holds here as on real sockets: places and buffers are shared by the endpoints of a service
//! and transport (a *group*), a message that is too long ends its connection, and so does time. A turn has one message.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use crate::base::endpoint::{Endpoint, EndpointId, Framing, Streams, Transport};
use crate::base::machine::{ConnId, FileId, Stream, StreamEvent};
use crate::base::slab::{Key, Slab};
use crate::base::time::Instant;

/// Bytes of a file that are laid down at one time, when those before were taken.
const PIECE: u64 = 64 * 1024;
/// One that was idle this long may be closed for a new one.
const SPARE: Duration = Duration::from_millis(500);

/// A part of a file that is on its way to the other end.
#[derive(Clone, Copy, Debug)]
pub struct SimSending {
    pub file: FileId,
    pub offset: u64,
    pub left: u64,
}

impl SimSending {
    /// How much of it goes next.
    pub fn piece(&self) -> u64 {
        self.left.min(PIECE)
    }
}

struct SimConn {
    endpoint: EndpointId,
    peer: SocketAddrV4,
    /// The machine has yet to hear of it.
    fresh: Option<u64>,
    gone: bool,
    /// To be let go once everything was read.
    leaving: bool,
    /// What was sent to the machine, and whether that has a buffer; what the machine has sent.
    sent: Vec<u8>,
    buffered: bool,
    received: Vec<u8>,
    sending: Option<SimSending>,
    /// Something was written since the machine heard that all was taken.
    drains: bool,
    owed: u32,
    /// When a message came in last or something was taken, and when it is looked at whether that is too long ago.
    stirred: Instant,
    look: Option<Instant>,
}

/// What the machine hears next of a connection.
pub enum SimStreamEvent {
    Opened(u64),
    Bytes(Vec<u8>),
    Drained,
    Closed,
}

pub struct Conns {
    table: Vec<Endpoint>,
    conns: Slab<SimConn>,
    /// Those whose bytes wait for a buffer.
    starved: VecDeque<ConnId>,
    /// Addresses at which somebody takes calls, and calls that nobody has taken over yet.
    answered: Vec<SocketAddrV4>,
    calls: VecDeque<(ConnId, SocketAddrV4)>,
}

impl Conns {
    pub fn new(table: &[Endpoint]) -> Conns {
        let capacity = table.iter().filter_map(|row| row.transport.streams()).map(|streams| streams.conns).sum();
        let (starved, answered, calls) = (VecDeque::new(), Vec::new(), VecDeque::new());
        Conns { table: table.to_vec(), conns: Slab::new(capacity), starved, answered, calls }
    }

    pub fn table(&self) -> &[Endpoint] {
        &self.table
    }

    fn streams(&self, endpoint: EndpointId) -> Option<&Streams> {
        self.table.get(usize::from(endpoint))?.transport.streams()
    }

    fn find(&mut self, conn: ConnId) -> Option<&mut SimConn> {
        self.conns.get_mut(Key::from_u64(conn.to_u64())).filter(|conn| !conn.gone)
    }

    /// The connections that share places and buffers with those of an endpoint.
    fn group(&self, endpoint: EndpointId) -> impl Iterator<Item = (ConnId, &SimConn)> {
        let kind = |endpoint: EndpointId| {
            let row = self.table.get(usize::from(endpoint))?;
            Some((row.service, std::mem::discriminant(&row.transport)))
        };
        let own = kind(endpoint);
        let all = self.conns.iter().filter(move |(_, conn)| kind(conn.endpoint) == own);
        all.map(|(key, conn)| (ConnId::from_u64(key.to_u64()), conn))
    }

    fn insert(&mut self, now: Instant, endpoint: EndpointId, peer: SocketAddrV4, token: u64) -> Option<ConnId> {
        let taken = self.group(endpoint).count();
        self.streams(endpoint).filter(|streams| taken < streams.conns)?;
        let conn = SimConn {
            endpoint,
            peer,
            fresh: Some(token),
            gone: false,
            leaving: false,
            sent: Vec::new(),
            buffered: false,
            received: Vec::new(),
            sending: None,
            drains: false,
            owed: 0,
            stirred: now,
            look: None,
        };
        self.conns.insert(conn).map(|key| ConnId::from_u64(key.to_u64()))
    }

    /// Somebody connects to an endpoint. The error: what is said to whom there is no place for.
    pub fn connect(&mut self, now: Instant, endpoint: EndpointId) -> Result<ConnId, Vec<u8>> {
        let row = self.table.get(usize::from(endpoint)).expect("an endpoint of the table");
        let (peer, crowded) = match &row.transport {
            Transport::Listen(streams) => (PROGRAM, streams.crowded.clone()),
            Transport::Unix(streams) => (SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0), streams.crowded.clone()),
            transport => panic!("nobody can connect to endpoint {endpoint}: {transport:?}"),
        };
        self.insert(now, endpoint, peer, 0).ok_or(crowded)
    }

    /// The connection that makes room for one more where there is none: one that has gone already, or the one that has been idle longest.
    pub fn spare(&self, now: Instant, endpoint: EndpointId) -> Option<ConnId> {
        let streams = self.streams(endpoint).filter(|streams| self.group(endpoint).count() >= streams.conns)?;
        let idle = |conn: &SimConn| streams.idle.is_some() && conn.fresh.is_none() && now.since(conn.stirred) >= SPARE;
        let spare = self.group(endpoint).filter(|(_, conn)| conn.gone || idle(conn));
        spare.min_by_key(|(_, conn)| (!conn.gone, conn.owed > 0, conn.stirred)).map(|(id, _)| id)
    }

    /// Somebody takes calls at an address from now on.
    pub fn listen(&mut self, address: SocketAddrV4) {
        self.answered.push(address);
    }

    /// The next call of the machine's that was taken, and where.
    pub fn call(&mut self) -> Option<(ConnId, SocketAddrV4)> {
        self.calls.pop_front()
    }

    /// The machine calls somebody; where nobody takes calls that has come and gone.
    pub fn dial(&mut self, now: Instant, endpoint: EndpointId, to: SocketAddrV4, token: u64) -> Option<ConnId> {
        let dials =
            self.table.get(usize::from(endpoint)).is_some_and(|row| matches!(row.transport, Transport::Dial(_) | Transport::Ask(_)));
        assert!(dials, "endpoint {endpoint} does not dial");
        let taken = self.answered.contains(&to);
        let id = self.insert(now, endpoint, to, token)?;
        if taken {
            self.calls.push_back((id, to));
        } else {
            self.close(id, true);
        }
        Some(id)
    }

    /// The other end sends something.
    pub fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        self.find(conn).into_iter().for_each(|conn| conn.sent.extend_from_slice(bytes));
    }

    /// The other end reads everything that has come.
    pub fn read(&mut self, now: Instant, conn: ConnId) -> Vec<u8> {
        let Some(conn) = self.conns.get_mut(Key::from_u64(conn.to_u64())) else { return Vec::new() };
        if !conn.received.is_empty() {
            conn.stirred = now;
        }
        std::mem::take(&mut conn.received)
    }

    /// The daemon has gone, and with it all that was connected; the next one does not hear of it.
    pub fn reset(&mut self) {
        for slot in 0..self.conns.capacity() {
            self.conns.key_at(slot).into_iter().for_each(|key| drop(self.conns.remove(key)));
        }
        self.starved.clear();
        self.calls.clear();
    }

    /// Either end closes it.
    pub fn close(&mut self, conn: ConnId, at_once: bool) {
        if let Some(conn) = self.find(conn) {
            conn.leaving = true;
            conn.gone = at_once;
        }
    }

    /// Ends a connection that has been idle too long; gives when it is to be looked at again, where nobody will yet.
    pub fn look(&mut self, now: Instant, id: ConnId) -> Option<Instant> {
        let endpoint = self.find(id)?.endpoint;
        let idle = self.streams(endpoint)?.idle?;
        let conn = self.find(id)?;
        conn.gone = now >= conn.stirred + idle;
        if conn.gone || conn.look.is_some_and(|at| at > now) {
            return None;
        }
        conn.look = Some(conn.stirred + idle);
        conn.look
    }

    /// The machine writes. A reader for whom that is too much is dropped.
    pub fn write(&mut self, id: ConnId, bytes: &[u8]) {
        let Some(endpoint) = self.find(id).filter(|conn| !conn.leaving).map(|conn| conn.endpoint) else { return };
        let Some(streams) = self.streams(endpoint) else { return };
        let prefix = (bytes.len() as u16).to_be_bytes();
        let prefix: &[u8] = if streams.framing == Framing::Length16 { &prefix } else { &[] };
        let (most, buffers) = (prefix.len() + streams.out_max, streams.buffers);
        let others = self.group(endpoint).filter(|(other, conn)| *other != id && !conn.received.is_empty()).count();
        let Some(conn) = self.find(id) else { return };
        let all = conn.received.len() + prefix.len() + bytes.len();
        if all > most || others >= buffers || conn.sending.is_some() {
            conn.gone = true;
            return;
        }
        conn.received.extend_from_slice(prefix);
        conn.received.extend_from_slice(bytes);
        (conn.drains, conn.owed) = (true, conn.owed.saturating_sub(1));
    }

    /// The machine sends a part of a file.
    pub fn send_file(&mut self, conn: ConnId, sending: SimSending) {
        if let Some(conn) = self.find(conn) {
            conn.gone |= conn.sending.is_some();
            (conn.drains, conn.owed) = (true, conn.owed.saturating_sub(1));
            conn.sending = Some(sending).filter(|sending| sending.left > 0);
        }
    }

    /// The part of a file that a connection waits for, now that all before it was taken.
    pub fn sending(&mut self, conn: ConnId) -> Option<SimSending> {
        self.find(conn).filter(|conn| conn.received.is_empty())?.sending
    }

    /// Its next piece has come; None: the file has changed.
    pub fn lay(&mut self, conn: ConnId, bytes: Option<&[u8]>) {
        let Some(conn) = self.find(conn) else { return };
        let (Some(sending), Some(bytes)) = (&mut conn.sending, bytes) else { return conn.gone = true };
        conn.received.extend_from_slice(bytes);
        (sending.offset, sending.left) = (sending.offset + bytes.len() as u64, sending.left - bytes.len() as u64);
        conn.sending.take_if(|sending| sending.left == 0);
    }

    /// What the machine hears next of a connection: each event once.
    pub fn next(&mut self, now: Instant, id: ConnId) -> Option<SimStreamEvent> {
        let key = Key::from_u64(id.to_u64());
        let conn = self.conns.get_mut(key)?;
        if let Some(token) = conn.fresh.take() {
            return Some(SimStreamEvent::Opened(token));
        }
        let taken = conn.received.is_empty() && conn.sending.is_none();
        if conn.gone || (conn.leaving && taken) {
            conn.gone = true;
            // What has come can still be read; with the next connection it is forgotten.
            return Some(SimStreamEvent::Closed);
        }
        if !taken {
            return None;
        }
        if std::mem::take(&mut conn.drains) {
            return Some(SimStreamEvent::Drained);
        }
        let message = self.message(now, id).map(SimStreamEvent::Bytes);
        message.or_else(|| self.conns.get(key).is_some_and(|conn| conn.gone).then_some(SimStreamEvent::Closed))
    }

    /// The next message, if there is one and a buffer for it. One that is too long is the last.
    fn message(&mut self, now: Instant, id: ConnId) -> Option<Vec<u8>> {
        let conn = self.find(id).filter(|conn| !conn.sent.is_empty())?;
        let (endpoint, buffered) = (conn.endpoint, conn.buffered);
        if !buffered && !self.has_buffer(endpoint) {
            if !self.starved.contains(&id) {
                self.starved.push_back(id);
            }
            return None;
        }
        let &Streams { framing, in_max, ref too_long, .. } = self.streams(endpoint)?;
        let last = too_long.clone();
        let conn = self.find(id)?;
        conn.buffered = true;
        if framing == Framing::Line && conn.owed > 0 {
            return None;
        }
        match message(framing, in_max, &conn.sent) {
            Read::None => None,
            Read::TooLong => {
                conn.gone = last.is_empty();
                self.write(id, &last);
                self.close(id, last.is_empty());
                None
            }
            Read::Message { before, len, behind } => {
                let bytes = conn.sent.drain(..before + len + behind).skip(before).take(len).collect();
                (conn.buffered, conn.stirred) = (!conn.sent.is_empty(), now);
                conn.owed += 1;
                Some(bytes)
            }
        }
    }

    /// Whether there is a buffer for what is sent to one more connection of a group.
    fn has_buffer(&self, endpoint: EndpointId) -> bool {
        let buffers = self.group(endpoint).filter(|(_, conn)| conn.buffered).count();
        self.streams(endpoint).is_some_and(|streams| buffers < streams.buffers)
    }

    /// Who has waited longest for a buffer, and may have one now.
    pub fn unstarved(&mut self) -> Option<ConnId> {
        let endpoint = |id: &ConnId| self.conns.get(Key::from_u64(id.to_u64())).map(|conn| conn.endpoint);
        let at = self.starved.iter().position(|id| endpoint(id).is_none_or(|endpoint| self.has_buffer(endpoint)))?;
        self.starved.remove(at)
    }

    /// The machine has heard that a connection has gone.
    pub fn forget(&mut self, conn: ConnId) {
        self.conns.remove(Key::from_u64(conn.to_u64()));
    }

    /// An event as the machine hears it.
    pub fn stream<'a>(&self, conn: ConnId, next: &'a SimStreamEvent) -> Option<Stream<'a>> {
        let found = self.conns.get(Key::from_u64(conn.to_u64()))?;
        let event = match next {
            SimStreamEvent::Opened(token) => StreamEvent::Opened { token: *token },
            SimStreamEvent::Bytes(bytes) => StreamEvent::Bytes(bytes),
            SimStreamEvent::Drained => StreamEvent::Drained,
            SimStreamEvent::Closed => StreamEvent::Closed,
        };
        Some(Stream { conn, endpoint: found.endpoint, peer: found.peer, event })
    }
}

/// Where a program's end of a connection seems to be.
const PROGRAM: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 50_000);

/// What some bytes begin with.
enum Read {
    /// No whole message yet.
    None,
    Message {
        before: usize,
        len: usize,
        behind: usize,
    },
    TooLong,
}

fn message(framing: Framing, in_max: usize, bytes: &[u8]) -> Read {
    let (before, len, behind, whole) = match (framing, bytes) {
        (_, []) | (Framing::Length16, [_]) => return Read::None,
        (Framing::Raw | Framing::Datagram, bytes) => (0, bytes.len().min(in_max), 0, true),
        (Framing::Line, bytes) => match bytes.iter().position(|byte| *byte == b'\n') {
            Some(at) => (0, at, 1, true),
            None => (0, bytes.len(), 1, false),
        },
        (Framing::Length16, [high, low, rest @ ..]) => {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            (2, len, 0, rest.len() >= len)
        }
    };
    match whole {
        _ if len > in_max => Read::TooLong,
        true => Read::Message { before, len, behind },
        false => Read::None,
    }
}

#[cfg(test)]
mod tests;
