//! Where the Server is reached: the table that its world opens, and who is behind each row of it.
//!
//! The rows of a link stand together and in one order, so that an engine finds its row by arithmetic: DHCP's server and client port, TFTP's
//! port, and then the pool of TFTP's ports. Behind those of the links come the ones of names, and the operators' socket.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use crate::base::endpoint::{Endpoint, EndpointId, Framing, Service, Streams, Transport};
use crate::base::machine::Link;
use crate::config::Config;
use crate::wire::control::{self, Rejection, Reply};
use crate::wire::dns as wire;

use super::{dhcp, dns, tftp};

/// Messages of DHCP and BOOTP clients and relays, and those of other servers that are overheard.
pub const DHCP: Service = Service { id: 0, name: "dhcp" };
/// Requests for files, and the transfers that follow.
pub const TFTP: Service = Service { id: 1, name: "tftp" };
/// Questions for names.
pub const DNS: Service = Service { id: 2, name: "dns" };
/// Questions to other servers.
pub const UPSTREAM: Service = Service { id: 3, name: "dns upstream" };
/// Operators' connections.
pub const CONTROL: Service = Service { id: 4, name: "control" };

/// The rows of a link before the pool.
const BEFORE_POOL: EndpointId = 3;
/// A connection for names that neither asks nor takes is closed after this long (RFC 7766, 6.2.3).
const IDLE: Duration = Duration::from_secs(10);
/// Messages of connections that are answered in a turn.
const BATCH: usize = 16;

/// The table of endpoints: the rows of each link, then those of the whole machine.
pub struct Endpoints {
    rows: Vec<Endpoint>,
    pool: u16,
    per_link: EndpointId,
    asker: EndpointId,
    dial: EndpointId,
}

impl Endpoints {
    /// The table for a config.
    pub fn new(config: &Config) -> Endpoints {
        let (first, last) = config.tftp.ports;
        let mut rows = Vec::new();
        for (at, link) in config.links.iter().enumerate() {
            let mut row = |service, transport, port, remedy| {
                let (link, address) = (Some(at as Link), SocketAddrV4::new(link.head, port));
                rows.push(Endpoint { service, transport, link, address, required: true, remedy });
            };
            row(DHCP, Transport::Broadcast, dhcp::SERVER_PORT, "another DHCP server is running: stop it (ss -ulpn shows it)");
            row(DHCP, Transport::Overheard, dhcp::CLIENT_PORT, "");
            row(TFTP, Transport::Udp, tftp::PORT, "another TFTP server is running: stop it (ss -ulpn shows it)");
            for port in first..=last {
                row(TFTP, Transport::Udp, port, "another program uses a port of the TFTP pool: choose another range with tftp.ports");
            }
        }
        if config.dns.enabled {
            let heads = config.links.iter().map(|link| link.head);
            for address in heads.chain(config.dns.listen.iter().copied()) {
                rows.push(of_names(DNS, Transport::Udp, address));
                rows.push(of_names(DNS, Transport::Listen(clients()), address));
            }
        }
        let asker = rows.len() as EndpointId;
        let dial = asker + 1;
        let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        let own = |service, transport| Endpoint { service, transport, link: None, address: any, required: true, remedy: "" };
        if config.dns.enabled {
            let talks = if config.dns.upstream.is_empty() { 0 } else { wire::TALKS };
            rows.push(own(UPSTREAM, Transport::Ask(self::talks(talks))));
            rows.push(own(UPSTREAM, Transport::Dial(calls())));
        }
        rows.push(own(CONTROL, Transport::Unix(operators())));
        Endpoints { rows, pool: first, per_link: BEFORE_POOL + last.saturating_sub(first) + 1, asker, dial }
    }

    /// A link has another address.
    pub fn readdress(&mut self, from: Ipv4Addr, to: Ipv4Addr) {
        for row in self.rows.iter_mut().filter(|row| *row.address.ip() == from) {
            row.address.set_ip(to);
        }
    }

    /// The table, for the world.
    pub fn rows(&self) -> &[Endpoint] {
        &self.rows
    }

    /// A row of the table.
    pub fn get(&self, endpoint: EndpointId) -> Option<&Endpoint> {
        self.rows.get(usize::from(endpoint))
    }

    /// The link of a row; the first one's for a row of none.
    pub fn link(&self, endpoint: EndpointId) -> Link {
        self.get(endpoint).and_then(|row| row.link).unwrap_or(0)
    }

    /// The row of a link's port: one of DHCP's or TFTP's.
    pub fn udp(&self, link: Link, port: u16) -> EndpointId {
        let at = match port {
            dhcp::SERVER_PORT => 0,
            dhcp::CLIENT_PORT => 1,
            tftp::PORT => 2,
            port => BEFORE_POOL + port.wrapping_sub(self.pool),
        };
        EndpointId::from(link) * self.per_link + at
    }

    /// The row by which other servers are asked.
    pub fn asker(&self) -> EndpointId {
        self.asker
    }

    /// The row of the operators' socket.
    pub fn operators(&self) -> EndpointId {
        self.rows.len() as EndpointId - 1
    }

    /// The row by which other servers are called.
    pub fn dial(&self) -> EndpointId {
        self.dial
    }
}

fn of_names(service: Service, transport: Transport, address: Ipv4Addr) -> Endpoint {
    let address = SocketAddrV4::new(address, dns::PORT);
    let remedy = "another name server has the port (ss -lnptu sport = :53 shows it): stop it, keep it off this address, or set \
                  `enabled = false` in [dns]";
    Endpoint { service, transport, link: None, address, required: false, remedy }
}

fn clients() -> Streams {
    Streams {
        framing: Framing::Length16,
        conns: wire::CONNECTIONS,
        buffers: wire::CONNECTIONS,
        in_max: wire::QUERY_MAX,
        out_max: wire::MESSAGE_MAX,
        idle: Some(IDLE),
        batch: BATCH,
        too_long: Vec::new(),
        crowded: Vec::new(),
    }
}

fn calls() -> Streams {
    let (in_max, out_max) = (wire::MESSAGE_MAX, wire::QUERY_MAX);
    Streams { conns: wire::CALLS, buffers: wire::CALLS, in_max, out_max, ..clients() }
}

fn talks(conns: usize) -> Streams {
    let (in_max, out_max) = (wire::ANSWER_MAX, wire::QUERY_MAX);
    let buffers = conns.min(wire::TALK_BUFFERS);
    Streams { framing: Framing::Datagram, conns, buffers, in_max, out_max, idle: None, batch: 2 * BATCH, ..clients() }
}

fn operators() -> Streams {
    let conns = control::CONNECTIONS;
    let too_long = Rejection::new(format!("the line is longer than {} bytes", control::LINE_MAX), "send less at a time");
    Streams {
        framing: Framing::Line,
        conns,
        buffers: conns,
        in_max: control::LINE_MAX,
        out_max: control::OUT_MAX,
        idle: None,
        batch: 1,
        too_long: line(too_long),
        crowded: line(Rejection::new(format!("{conns} connections are open already"), "close one, or try again")),
    }
}

fn line(rejection: Rejection) -> Vec<u8> {
    let mut line = vec![0; 512];
    let len = control::write(&mut line, &Reply::Error(rejection)).unwrap_or(0);
    line.truncate(len);
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits;
    use crate::engine::testing::config;

    #[test]
    fn rows_are_found_by_arithmetic() {
        let mut config = config();
        config.dns.upstream = vec![[192, 0, 2, 1].into()];
        let endpoints = Endpoints::new(&config);
        for (at, link) in config.links.iter().enumerate() {
            for port in [67, 68, 69].into_iter().chain(config.tftp.ports.0..=config.tftp.ports.1) {
                let row = endpoints.get(endpoints.udp(at as Link, port)).unwrap();
                assert_eq!((row.link, row.address), (Some(at as Link), SocketAddrV4::new(link.head, port)));
            }
        }
        assert!(matches!(endpoints.get(endpoints.asker()).unwrap().transport, Transport::Ask(_)));
        assert!(matches!(endpoints.get(endpoints.dial()).unwrap().transport, Transport::Dial(_)));
    }

    #[test]
    fn what_connections_wait_for_fits_a_call() {
        let endpoints = Endpoints::new(&config());
        let streams = endpoints.rows().iter().filter_map(|row| row.transport.streams());
        assert!(streams.into_iter().all(|streams| streams.buffers <= streams.conns && streams.in_max <= limits::BYTES_PER_CALL));
    }
}
