//! What the fuzz targets share: a small Server in a world that does at once what the Server asks for.
//!
//! A target fails when the project panics: on an invariant, on arithmetic that overflows, or on a property that the target asserts. Each input
//! begins with a new Server, so an input that fails does so alone.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use muster::base::addr::Mac;
use muster::base::endpoint::{EndpointId, Service, Transport};
use muster::base::machine::{ConnId, Datagram, FileId, Input, Machine, OpenFile, Seq, Stream, StreamEvent};
use muster::base::outbox::{JournalOp, Outbox, Output};
use muster::base::time::{Instant, Now};
use muster::config::{Config, Hardware, KnownNode};
use muster::engine::endpoints;
use muster::engine::server::Server;
use muster::roll::plan::{AddressPlan, AddressRange, Number};
use muster::sim::config::HEAD;

/// A machine on record: node 0, at 10.54.1.0.
pub const NODE: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
/// Its address.
pub const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 54, 1, 0);
/// Bytes of each file.
const SIZE: u64 = 100_000;
/// Answers that one input may lead to.
const ROUNDS: usize = 64;

/// The simulator's cluster, with few machines: its tables fill up soon.
pub fn config() -> Config {
    let mut config = muster::sim::config::config([(0, NODE)]);
    config.server.capacity = 16;
    config.plan = AddressPlan::new(NODE_ADDRESS, 8);
    config.nodes.push(KnownNode { number: Number(1), macs: vec![Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])] });
    for network in &mut config.networks {
        network.guests = AddressRange::new([10, 54, 240, 0].into(), [10, 54, 240, 7].into());
    }
    config.dns.enabled = true;
    config.dns.upstream = vec![[192, 0, 2, 1].into()];
    config.dns.transfer = vec![[10, 54, 0, 2].into()];
    config
}

enum Answer {
    Opened(u64),
    Bytes(u64, usize),
    Synced(Seq),
    Compacted,
}

/// A Server, its clock, and what it waits for.
pub struct World {
    server: Server,
    now: Now,
    out: Outbox,
    answers: VecDeque<Answer>,
    /// Connections so far.
    conns: u64,
}

impl Default for World {
    fn default() -> World {
        let now = Now { at: Instant::from_millis(50_000), unix: 1_700_000_000 };
        World { server: Server::new(&config(), 7, now), now, out: Outbox::new(), answers: VecDeque::new(), conns: 0 }
    }
}

impl World {
    /// Time goes on.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now.at + time;
        for _ in 0..ROUNDS {
            let Some(due) = self.server.deadline().filter(|due| *due <= end) else { break };
            self.now.at = self.now.at.max(due);
            self.server.expire(self.now, &mut self.out);
            self.settle();
        }
        self.now.at = end;
    }

    /// An input, and all that follows from it at once.
    pub fn handle(&mut self, input: Input<'_>) {
        self.server.handle(self.now, input, &mut self.out);
        self.settle();
    }

    /// A frame from the wire, as the shell passes it on.
    pub fn frame(&mut self, bytes: &[u8]) {
        use muster::wire::ether::{Checksum, Frame, parse};
        match parse(bytes, Checksum::Trusted) {
            Ok(Frame::Udp(udp)) => {
                let Some(endpoint) = self.bound(udp.dst.port()) else { return };
                let (mac, src, dst, payload) = (Some(udp.src_mac), udp.src, udp.dst, udp.payload);
                self.handle(Input::Datagram(Datagram { endpoint, mac, src, dst, payload }));
            }
            Ok(Frame::Arp(arp)) if !arp.sender_ip.is_unspecified() => {
                self.handle(Input::Arp { link: 0, mac: arp.sender_mac, sender: arp.sender_ip });
            }
            Ok(Frame::RouterSolicit(_)) => self.handle(Input::Frame { link: 0, bytes }),
            Ok(Frame::Arp(_)) | Err(_) => {}
        }
    }

    /// The endpoint of the first link's port, if there is one.
    fn bound(&self, port: u16) -> Option<EndpointId> {
        let rows = self.server.endpoints().rows();
        (0..).zip(rows).find(|(_, row)| row.link == Some(0) && row.address.port() == port).map(|(at, _)| at)
    }

    /// The first endpoint of a service that is of this kind.
    fn endpoint(&self, service: Service, is: impl Fn(&Transport) -> bool) -> EndpointId {
        let rows = self.server.endpoints().rows();
        let found = (0..).zip(rows).find(|(_, row)| row.service == service && is(&row.transport));
        found.map(|(at, _)| at).expect("an endpoint of the service")
    }

    /// A datagram of the node's to a port of the head.
    pub fn by_node(&mut self, src: SocketAddrV4, port: u16, payload: &[u8]) {
        let Some(endpoint) = self.bound(port) else { return };
        self.handle(Input::Datagram(Datagram { endpoint, mac: Some(NODE), src, dst: SocketAddrV4::new(HEAD, port), payload }));
    }

    /// What a program does on a connection of its own, from its beginning to its end.
    fn converse(&mut self, endpoint: EndpointId, peer: SocketAddrV4, messages: &[&[u8]]) {
        self.conns += 1;
        let conn = ConnId::from_u64(self.conns);
        let mut tell = |event| self.handle(Input::Stream(Stream { conn, endpoint, peer, event }));
        tell(StreamEvent::Opened { token: 0 });
        for message in messages {
            tell(StreamEvent::Bytes(message));
            tell(StreamEvent::Drained);
        }
        tell(StreamEvent::Closed);
    }

    /// A DNS query, by UDP and by TCP.
    pub fn ask(&mut self, bytes: &[u8]) {
        let src = SocketAddrV4::new(NODE_ADDRESS, 4000);
        let endpoint = self.endpoint(endpoints::DNS, |transport| *transport == Transport::Udp);
        self.handle(Input::Datagram(Datagram { endpoint, mac: None, src, dst: SocketAddrV4::new(HEAD, 53), payload: bytes }));
        let endpoint = self.endpoint(endpoints::DNS, |transport| matches!(transport, Transport::Listen(_)));
        self.converse(endpoint, SocketAddrV4::new([10, 54, 0, 2].into(), 4000), &[bytes]);
    }

    /// What an upstream sends.
    pub fn answer(&mut self, bytes: &[u8]) {
        let src = SocketAddrV4::new([192, 0, 2, 1].into(), 53);
        let endpoint = self.endpoint(endpoints::UPSTREAM, |transport| matches!(transport, Transport::Ask(_)));
        self.converse(endpoint, src, &[bytes]);
    }

    /// A line of an operator's.
    pub fn operate(&mut self, line: &[u8]) {
        let endpoint = self.endpoint(endpoints::CONTROL, |transport| matches!(transport, Transport::Unix(_)));
        self.converse(endpoint, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0), &[line]);
    }

    /// Does what the Server asks for, and what it asks for then.
    fn settle(&mut self) {
        for _ in 0..ROUNDS {
            self.answers.extend(self.out.iter().filter_map(|output| match output {
                Output::Open { token, .. } => Some(Answer::Opened(token)),
                Output::Read { token, len, .. } => Some(Answer::Bytes(token, len as usize)),
                Output::Record(JournalOp::Append { seq, .. }) => Some(Answer::Synced(seq)),
                Output::Record(JournalOp::CompactEnd) => Some(Answer::Compacted),
                _ => None,
            }));
            self.out.clear();
            let Some(answer) = self.answers.pop_front() else { return };
            let bytes = [b'\n'; 2048];
            let input = match answer {
                Answer::Opened(token) => Input::Opened { token, answer: Ok(OpenFile { file: FileId::from_u64(1), size: SIZE, stamp: 0 }) },
                Answer::Bytes(token, len) => Input::Bytes { token, bytes: &bytes[..len.min(bytes.len())] },
                Answer::Synced(seq) => Input::Synced { seq },
                Answer::Compacted => Input::Compacted,
            };
            self.server.handle(self.now, input, &mut self.out);
        }
        self.answers.clear();
        self.out.clear();
    }
}

/// The head as the config sees it: an interface at 10.54.0.1/16, and another.
pub struct Head(Vec<muster::base::facts::LinkFacts>);

impl Default for Head {
    fn default() -> Head {
        let link = |name: &str, index: u32, address: Ipv4Addr, length| muster::base::facts::LinkFacts {
            name: name.into(),
            index,
            hardware: Hardware::Ethernet,
            mac: Mac([2, 0, 0, 0, 1, index as u8]),
            mtu: 1500,
            rate: Some(1_000_000_000),
            addresses: vec![(address, length)],
            link_local: None,
            gateway: None,
            default_route: false,
            loopback: false,
            up: true,
            carrier: true,
            master: None,
        };
        Head(vec![link("eth1", 2, [10, 54, 0, 1].into(), 16), link("eth2", 3, [10, 60, 16, 1].into(), 20)])
    }
}

impl muster::config::System for Head {
    fn links(&self) -> &[muster::base::facts::LinkFacts] {
        &self.0
    }

    fn exists(&self, _: &std::path::Path, name: &str) -> bool {
        ["undionly.kpxe", "snponly.efi", "vmlinuz", "initrd.img"].contains(&name)
    }
}
