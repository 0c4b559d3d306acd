//! What the fuzz targets share: a small Server in a world that does at once what the Server asks for.
//!
//! A target fails when the project panics: on an invariant, on arithmetic that overflows, or on a property that the target asserts. Each input
//! begins with a new Server, so an input that fails does so alone.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use muster::base::addr::Mac;
use muster::base::machine::{Datagram, DnsPeer, FileId, Input, Machine, OpenFile, Seq};
use muster::base::outbox::{JournalOp, Outbox, Output};
use muster::base::time::{Instant, Now};
use muster::config::{Config, Hardware, KnownNode};
use muster::engine::server::Server;
use muster::roll::plan::{AddressPlan, AddressRange, Number};
use muster::sim::config::HEAD;

/// A machine on record: node 0, at 10.54.1.0.
pub const NODE: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
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

pub struct World {
    server: Server,
    now: Now,
    out: Outbox,
    answers: VecDeque<Answer>,
}

impl Default for World {
    fn default() -> World {
        let now = Now { at: Instant::from_millis(50_000), unix: 1_700_000_000 };
        World { server: Server::new(&config(), 7, now), now, out: Outbox::new(), answers: VecDeque::new() }
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

    pub fn handle(&mut self, input: Input<'_>) {
        self.server.handle(self.now, input, &mut self.out);
        self.settle();
    }

    /// A frame from the wire, as the shell passes it on.
    pub fn frame(&mut self, bytes: &[u8]) {
        use muster::wire::ether::{Checksum, Frame, parse};
        match parse(bytes, Checksum::Trusted) {
            Ok(Frame::Udp(udp)) => {
                self.handle(Input::Datagram(Datagram {
                    link: 0,
                    mac: Some(udp.src_mac),
                    src: udp.src,
                    dst: udp.dst,
                    payload: udp.payload,
                }));
            }
            Ok(Frame::Arp(arp)) if !arp.sender_ip.is_unspecified() => {
                self.handle(Input::Arp { link: 0, mac: arp.sender_mac, sender: arp.sender_ip });
            }
            Ok(Frame::RouterSolicit(solicit)) => {
                self.handle(Input::RouterSolicit { link: 0, mac: solicit.src_mac, source: solicit.src });
            }
            Ok(Frame::Arp(_)) | Err(_) => {}
        }
    }

    /// A datagram of the node's to a port of the head.
    pub fn from_node(&mut self, src: SocketAddrV4, port: u16, payload: &[u8]) {
        self.handle(Input::Datagram(Datagram { link: 0, mac: Some(NODE), src, dst: SocketAddrV4::new(HEAD, port), payload }));
    }

    /// A DNS query, by UDP and by TCP.
    pub fn ask(&mut self, bytes: &[u8]) {
        let src = SocketAddrV4::new(NODE_ADDRESS, 4000);
        self.handle(Input::Dns { peer: DnsPeer::Listener(0), src, bytes });
        self.handle(Input::Dns { peer: DnsPeer::Client(0), src: SocketAddrV4::new([10, 54, 0, 2].into(), 4000), bytes });
        self.handle(Input::DnsTaken { conn: 0 });
        self.handle(Input::DnsClosed { peer: DnsPeer::Client(0) });
    }

    /// What an upstream sends.
    pub fn answer(&mut self, bytes: &[u8]) {
        let src = SocketAddrV4::new([192, 0, 2, 1].into(), 53);
        self.handle(Input::Dns { peer: DnsPeer::Asker(0), src, bytes });
    }

    /// A line of an operator's.
    pub fn operate(&mut self, line: &[u8]) {
        self.handle(Input::StreamOpened { conn: 0 });
        self.handle(Input::Stream { conn: 0, bytes: line });
    }

    /// Does what the Server asks for, and what it asks for then.
    fn settle(&mut self) {
        for _ in 0..ROUNDS {
            self.answers.extend(self.out.iter().filter_map(|output| match output {
                Output::Open { token, .. } => Some(Answer::Opened(token)),
                Output::Read { token, len, .. } => Some(Answer::Bytes(token, len as usize)),
                Output::Journal(JournalOp::Append { seq, .. }) => Some(Answer::Synced(seq)),
                Output::Journal(JournalOp::CompactEnd) => Some(Answer::Compacted),
                _ => None,
            }));
            self.out.clear();
            let Some(answer) = self.answers.pop_front() else { return };
            let bytes = [b'\n'; 2048];
            let input = match answer {
                Answer::Opened(token) => Input::Opened { token, answer: Ok(OpenFile { file: FileId(1), size: SIZE }) },
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
