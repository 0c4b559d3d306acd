//! Where a machine is reached, and from where it reaches others: a table that it hands to its world at start. The world opens everything
//! that stands in it, allocates what that needs, and knows no more of a service than this.

use std::net::SocketAddrV4;
use std::time::Duration;

use super::machine::Link;

/// The place of an endpoint in the table.
pub type EndpointId = u16;

/// Who is behind an endpoint: a number for the machine, a name for logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// The number that the machine chose; unique in its table.
    pub id: u8,
    /// What the log calls it.
    pub name: &'static str,
}

/// A row of the table: an address, or a way out, of one service.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// The service that gets what comes here.
    pub service: Service,
    /// How peers are reached.
    pub transport: Transport,
    /// The boot interface that it is bound to, which is served before all others. None: it is bound to its address alone, so that programs
    /// of the machine itself reach it.
    pub link: Option<Link>,
    /// Port 0: of the kernel's choice. Of a Unix socket and of one that dials: unspecified.
    pub address: SocketAddrV4,
    /// The world does not start without it; else it says so, and goes on.
    pub required: bool,
    /// What to do when another program has the port.
    pub remedy: &'static str,
}

/// How an endpoint and its peers exchange bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Transport {
    /// Datagrams to the address.
    Udp,
    /// Datagrams to the port on its link, whoever they are for: from machines that have no address yet.
    Broadcast,
    /// Datagrams that others exchange on its link by this port; without a socket, and only on Ethernet.
    Overheard,
    /// TCP connections from others.
    Listen(Streams),
    /// TCP connections to others, made by [`Output::Connect`](super::outbox::Output).
    Dial(Streams),
    /// Datagrams to others, each conversation by a socket of its own that is connected to one address, with a port of the kernel's choice:
    /// to the machine a connection that [`Output::Connect`](super::outbox::Output) makes and that is closed when nobody is there.
    Ask(Streams),
    /// Connections to a Unix socket, which the world has a place for.
    Unix(Streams),
}

/// How messages are separated on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Each ends with a newline, which the machine does not see; it writes its own. One is answered after the other.
    Line,
    /// Each stands behind its length, in two bytes, which the world reads and writes. Many may be under way.
    Length16,
    /// Whatever has come.
    Raw,
    /// Each is a datagram. Many may be under way; `Drained` is not said.
    Datagram,
}

/// What connections of an endpoint are like. Endpoints of one service and transport share their places and buffers, and have equal ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Streams {
    /// How messages are separated.
    pub framing: Framing,
    /// Connections at once. One more is let go, unless another one has been idle for a while and makes room.
    pub conns: usize,
    /// How many of them may have bytes waiting at once, each way. Others are not read from meanwhile.
    pub buffers: usize,
    /// The longest message, in bytes without what frames it. The connection of a longer one is closed.
    pub in_max: usize,
    /// What may wait for the reader of a connection, in bytes without what frames it. One for whom more is put out is dropped.
    pub out_max: usize,
    /// A connection on which nothing has come and nothing was taken for so long is closed.
    pub idle: Option<Duration>,
    /// Messages of all connections that the machine is given in a turn, at most.
    pub batch: usize,
    /// The last that is sent to somebody whose message is too long, and to one for whom there is no place.
    pub too_long: Vec<u8>,
    /// What somebody hears for whom there is no place; empty for nothing.
    pub crowded: Vec<u8>,
}

impl Transport {
    /// What connections are like, where there are some.
    pub fn streams(&self) -> Option<&Streams> {
        match self {
            Transport::Listen(streams) | Transport::Dial(streams) | Transport::Ask(streams) | Transport::Unix(streams) => Some(streams),
            Transport::Udp | Transport::Broadcast | Transport::Overheard => None,
        }
    }
}

/// How many descriptors the endpoints of a table need at most.
pub fn descriptors(table: &[Endpoint]) -> usize {
    let bare = |endpoint: &&Endpoint| matches!(endpoint.transport, Transport::Overheard | Transport::Dial(_) | Transport::Ask(_));
    let own = table.iter().filter(|endpoint| !bare(endpoint)).count();
    let conns = |endpoint: &Endpoint| endpoint.transport.streams().map_or(0, |streams| streams.conns);
    own + table.iter().map(conns).sum::<usize>()
}
