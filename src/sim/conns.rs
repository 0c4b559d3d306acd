//! Connections in memory: the other ends are tests, which connect, write, read and hang up as programs would. Bytes take no time, and none
//! is lost; what has not been read yet is what a reader has not taken.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::base::endpoint::{Endpoint, EndpointId, Framing, Streams, Transport};
use crate::base::machine::{ConnId, Event, FileId, Stream};
use crate::base::slab::{Key, Slab};

/// A part of a file that is on its way to the other end.
#[derive(Clone, Copy, Debug)]
pub struct Sending {
    pub file: FileId,
    pub offset: u64,
    pub left: u64,
}

struct Conn {
    endpoint: EndpointId,
    peer: SocketAddrV4,
    /// The machine has yet to hear of it.
    fresh: Option<u64>,
    gone: bool,
    /// To be let go once everything was read.
    leaving: bool,
    /// What was sent to the machine, and what it has sent.
    sent: Vec<u8>,
    received: Vec<u8>,
    sending: Option<Sending>,
    /// Something was written since the machine heard that all was taken.
    drains: bool,
    owed: u32,
}

/// What the machine hears next of a connection.
pub enum Next {
    Opened(u64),
    Bytes(Vec<u8>),
    Drained,
    Closed,
}

pub struct Conns {
    table: Vec<Endpoint>,
    conns: Slab<Conn>,
    /// Addresses at which somebody takes calls, and calls that nobody has taken over yet.
    answered: Vec<SocketAddrV4>,
    calls: VecDeque<(ConnId, SocketAddrV4)>,
}

impl Conns {
    pub fn new(table: &[Endpoint]) -> Conns {
        let capacity = table.iter().filter_map(|row| row.transport.streams()).map(|streams| streams.conns).sum();
        let (answered, calls) = (Vec::new(), VecDeque::new());
        Conns { table: table.to_vec(), conns: Slab::new(capacity), answered, calls }
    }

    pub fn table(&self) -> &[Endpoint] {
        &self.table
    }

    fn streams(&self, endpoint: EndpointId) -> Option<&Streams> {
        self.table.get(usize::from(endpoint))?.transport.streams()
    }

    fn find(&mut self, conn: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(Key::from_u64(conn.to_u64())).filter(|conn| !conn.gone)
    }

    fn insert(&mut self, endpoint: EndpointId, peer: SocketAddrV4, token: u64, gone: bool) -> Option<ConnId> {
        let taken = self.conns.iter().filter(|(_, conn)| conn.endpoint == endpoint).count();
        self.streams(endpoint).filter(|streams| taken < streams.conns)?;
        let (sent, received) = (Vec::new(), Vec::new());
        let (fresh, sending, leaving, drains, owed) = (Some(token), None, false, false, 0);
        let conn = Conn { endpoint, peer, fresh, gone, leaving, sent, received, sending, drains, owed };
        self.conns.insert(conn).map(|key| ConnId::from_u64(key.to_u64()))
    }

    /// Somebody connects to an endpoint. None: it has no place for one more.
    pub fn connect(&mut self, endpoint: EndpointId, peer: SocketAddrV4) -> Option<ConnId> {
        self.insert(endpoint, peer, 0, false)
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
    pub fn dial(&mut self, endpoint: EndpointId, to: SocketAddrV4, token: u64) -> Option<ConnId> {
        let dials = self.table.get(usize::from(endpoint)).is_some_and(|row| matches!(row.transport, Transport::Dial(_)));
        assert!(dials, "endpoint {endpoint} does not dial");
        let taken = self.answered.contains(&to);
        let conn = self.insert(endpoint, to, token, !taken)?;
        if taken {
            self.calls.push_back((conn, to));
        }
        Some(conn)
    }

    /// The other end sends something.
    pub fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        self.find(conn).into_iter().for_each(|conn| conn.sent.extend_from_slice(bytes));
    }

    /// The other end reads everything that has come.
    pub fn read(&mut self, conn: ConnId) -> Vec<u8> {
        let found = self.conns.get_mut(Key::from_u64(conn.to_u64()));
        found.map(|conn| std::mem::take(&mut conn.received)).unwrap_or_default()
    }

    /// Either end closes it.
    pub fn close(&mut self, conn: ConnId, at_once: bool) {
        if let Some(conn) = self.find(conn) {
            conn.leaving = true;
            conn.gone = at_once;
        }
    }

    /// The machine writes. A reader for whom that is too much is dropped.
    pub fn write(&mut self, id: ConnId, bytes: &[u8]) {
        let Some(endpoint) = self.find(id).filter(|conn| !conn.leaving).map(|conn| conn.endpoint) else { return };
        let Some((framing, most)) = self.streams(endpoint).map(|streams| (streams.framing, streams.out_max)) else { return };
        let Some(conn) = self.find(id) else { return };
        if conn.received.len() + bytes.len() > most || conn.sending.is_some() {
            conn.gone = true;
            return;
        }
        if framing == Framing::Length16 {
            conn.received.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
        }
        conn.received.extend_from_slice(bytes);
        (conn.drains, conn.owed) = (true, conn.owed.saturating_sub(1));
    }

    /// The machine sends a part of a file.
    pub fn send_file(&mut self, conn: ConnId, sending: Sending) {
        if let Some(conn) = self.find(conn) {
            conn.gone |= conn.sending.is_some();
            (conn.drains, conn.owed, conn.sending) = (true, conn.owed.saturating_sub(1), Some(sending));
        }
    }

    /// The part of a file that a connection waits for.
    pub fn sending(&mut self, conn: ConnId) -> Option<Sending> {
        self.find(conn)?.sending
    }

    /// Those bytes have come; None: the file has changed.
    pub fn lay(&mut self, conn: ConnId, bytes: Option<&[u8]>) {
        let Some(conn) = self.find(conn) else { return };
        match bytes {
            Some(bytes) => conn.received.extend_from_slice(bytes),
            None => conn.gone = true,
        }
        conn.sending = None;
    }

    /// What the machine hears next of a connection, as it is told: once.
    pub fn next(&mut self, id: ConnId) -> Option<Next> {
        let key = Key::from_u64(id.to_u64());
        let endpoint = self.conns.get(key)?.endpoint;
        let framing = self.streams(endpoint)?.framing;
        let conn = self.conns.get_mut(key)?;
        if let Some(token) = conn.fresh.take() {
            return Some(Next::Opened(token));
        }
        let taken = conn.received.is_empty() && conn.sending.is_none();
        if conn.gone || (conn.leaving && taken) {
            conn.gone = true;
            // What has come can still be read; with the next connection it is forgotten.
            return Some(Next::Closed);
        }
        if !taken {
            return None;
        }
        if std::mem::take(&mut conn.drains) {
            return Some(Next::Drained);
        }
        let (before, len, behind) = message(framing, &conn.sent).filter(|_| framing != Framing::Line || conn.owed == 0)?;
        conn.owed += 1;
        let bytes = conn.sent.drain(..before + len + behind).skip(before).take(len).collect();
        Some(Next::Bytes(bytes))
    }

    /// The machine has heard that a connection has gone.
    pub fn forget(&mut self, conn: ConnId) {
        self.conns.remove(Key::from_u64(conn.to_u64()));
    }

    /// An event as the machine hears it.
    pub fn stream<'a>(&self, conn: ConnId, next: &'a Next) -> Option<Stream<'a>> {
        let found = self.conns.get(Key::from_u64(conn.to_u64()))?;
        let event = match next {
            Next::Opened(token) => Event::Opened { token: *token },
            Next::Bytes(bytes) => Event::Bytes(bytes),
            Next::Drained => Event::Drained,
            Next::Closed => Event::Closed,
        };
        Some(Stream { conn, endpoint: found.endpoint, peer: found.peer, event })
    }
}

/// Where a program's end of a connection seems to be.
pub const PROGRAM: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 50_000);

/// The first message in some bytes: what stands before it, how long it is, what stands behind it.
fn message(framing: Framing, bytes: &[u8]) -> Option<(usize, usize, usize)> {
    match (framing, bytes) {
        (_, []) => None,
        (Framing::Raw, bytes) => Some((0, bytes.len(), 0)),
        (Framing::Line, bytes) => bytes.iter().position(|byte| *byte == b'\n').map(|at| (0, at, 1)),
        (Framing::Length16, [high, low, rest @ ..]) => {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            (rest.len() >= len).then_some((2, len, 0))
        }
        (Framing::Length16, _) => None,
    }
}
