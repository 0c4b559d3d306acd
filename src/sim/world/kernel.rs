//! The head's kernel: it answers ARP for the head's address, keeps the neighbour table, makes frames of datagrams, and drops what is for nobody.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::{LINK, QueuedInput, Scene};
use crate::base::addr::Mac;
use crate::base::endpoint::{Endpoint, EndpointId, Transport};
use crate::base::machine::{Datagram, Input};
use crate::base::outbox::{DatagramRun, Via};
use crate::sim::checks::Block;
use crate::sim::disk::Version;
use crate::sim::frame::{self, FrameEnds};
use crate::sim::net::{Fate, FrameDirection};
use crate::sim::queue::SimPacket;
use crate::wire::ether::{self, Arp, ArpOp, Checksum, Frame, UdpFrame};

/// Ethernet, IPv4 and UDP headers, and the shortest frame's padding.
const ROOM: usize = 64;

/// What the head's kernel knows of an address.
#[derive(Default)]
pub(super) struct KernelNeighbour {
    /// What the server had made permanent.
    pub(super) permanent: Option<Mac>,
    /// What frames taught the kernel.
    learnt: Option<Mac>,
}

/// The port of an endpoint that has this one, or leaves it to the kernel.
pub(super) fn port_of(endpoint: EndpointId, port: u16) -> u16 {
    if port == 0 { 40_000 + endpoint } else { port }
}

/// The UDP ports of the head on the first link, and whose they are; in order.
pub(super) fn served(table: &[Endpoint], head: Ipv4Addr) -> Vec<(u16, EndpointId)> {
    let udp = |endpoint: &Endpoint| matches!(endpoint.transport, Transport::Udp | Transport::Broadcast | Transport::Overheard);
    let here = |row: &Endpoint| row.link == Some(0) || (row.link.is_none() && [head, Ipv4Addr::UNSPECIFIED].contains(row.address.ip()));
    let rows = (0..).zip(table).filter(|(_, endpoint)| udp(endpoint) && here(endpoint));
    let mut served: Vec<_> = rows.map(|(at, endpoint)| (port_of(at, endpoint.address.port()), at)).collect();
    served.sort_unstable();
    served
}

impl Scene {
    fn send(&mut self, way: FrameDirection, packet: SimPacket, bytes: usize) {
        if self.interface.is_none() && way == FrameDirection::ToClients {
            return;
        }
        let fate = self.net.send(self.now, way, bytes);
        if let (Fate::Lost, SimPacket::Whole(bytes)) = (fate, &packet) {
            self.checks.lost(self.now, bytes);
        }
        match (fate, packet) {
            (Fate::Arrives(first, second), packet) => {
                if let Some(second) = second {
                    self.push(second, QueuedInput::Frame { way, packet: packet.clone() });
                }
                self.push(first, QueuedInput::Frame { way, packet });
            }
            (_, SimPacket::Whole(bytes)) => self.queue.give_back(bytes),
            (_, SimPacket::Block { .. }) => {}
        }
    }

    fn send_whole(&mut self, way: FrameDirection, bytes: Vec<u8>) {
        let len = bytes.len();
        self.send(way, SimPacket::Whole(bytes), len);
    }

    pub(super) fn send_copy(&mut self, way: FrameDirection, bytes: &[u8]) {
        let mut copy = self.queue.buffer();
        copy.extend_from_slice(bytes);
        self.send_whole(way, copy);
    }

    /// Builds a frame of the head's and sends it.
    pub(super) fn emit(&mut self, payload: usize, write: impl FnOnce(&mut [u8]) -> Option<usize>) {
        let mut bytes = self.queue.buffer();
        bytes.resize(payload + ROOM, 0);
        let len = write(&mut bytes).expect("there is room for a frame");
        bytes.truncate(len);
        if let Ok(Frame::Udp(frame)) = ether::parse(&bytes, Checksum::Verify) {
            self.checks.leaves(self.now, &frame, |name| self.disk.version(name));
        }
        self.send_whole(FrameDirection::ToClients, bytes);
    }

    /// Where the kernel sends what is for this address.
    pub(super) fn neighbour(&self, ip: Ipv4Addr) -> Option<Mac> {
        self.neighbours.get(ip.to_bits().into()).and_then(|known| known.permanent.or(known.learnt))
    }

    fn learn(&mut self, ip: Ipv4Addr, mac: Mac) {
        let key = ip.to_bits().into();
        if self.neighbours.get(key).is_none_or(|known| known.learnt != Some(mac)) {
            self.neighbours.entry(key).learnt = Some(mac);
        }
    }

    pub(super) fn datagram(&mut self, endpoint: EndpointId, from: SocketAddrV4, to: SocketAddrV4, via: Via, body: &[u8]) {
        let mac = match via {
            Via::Mac(mac) => mac,
            Via::Broadcast => Mac::BROADCAST,
            Via::Kernel => match self.neighbour(*to.ip()) {
                Some(mac) => mac,
                None => return self.unroutable += 1,
            },
        };
        let row = self.conns.table().get(usize::from(endpoint)).expect("an endpoint of the table");
        assert!(row.link.is_none_or(|link| link == LINK), "endpoint {endpoint} is on no link that there is");
        // The kernel fills in what a socket of no link leaves open.
        let from = if row.link.is_none() { SocketAddrV4::new(self.head, port_of(endpoint, from.port())) } else { from };
        self.ident = self.ident.wrapping_add(1);
        let (head_mac, ident) = (self.head_mac, self.ident);
        self.emit(body.len(), |buf| ether::emit_udp(buf, head_mac, mac, from, to, ident, body));
    }

    pub(super) fn send_run(&mut self, version: Version, offset: u64, bytes: u64, run: &DatagramRun<'_>) {
        let known = match run.via {
            Via::Mac(mac) => Some(mac),
            Via::Broadcast | Via::Kernel => self.neighbour(*run.to.ip()),
        };
        let Some(dst_mac) = known else { return self.unroutable += u64::from(run.count) };
        let ends = FrameEnds { src_mac: self.head_mac, dst_mac, src: run.from, dst: run.to };
        for (n, header) in run.headers.chunks_exact(run.header_len().max(1)).enumerate() {
            let start = n as u64 * u64::from(run.size);
            let (offset, len) = (offset + start, (bytes - start).min(run.size.into()) as usize);
            self.ident = self.ident.wrapping_add(1);
            let header: [u8; 4] = header.try_into().expect("a DATA packet's header");
            let block = u16::from_be_bytes([header[2], header[3]]);
            let left = Block { from: run.from, to: run.to, block, version, offset, len };
            self.checks.block_leaves(self.now, &left, |name| self.disk.version(name));
            let headers = frame::headers(&ends, self.ident, header, len);
            self.send(FrameDirection::ToClients, SimPacket::Block { headers, version, offset, len: len as u16 }, frame::bytes(len));
        }
    }

    /// What the head's kernel makes of a frame: an input for the server, or nothing.
    pub(super) fn receive<'a>(&mut self, bytes: &'a [u8]) -> Option<Input<'a>> {
        self.interface.as_ref()?;
        match ether::parse(bytes, Checksum::Verify).ok()? {
            Frame::Udp(frame) => self.receive_udp(frame),
            Frame::Arp(arp) => {
                if arp.sender_ip.is_unspecified() {
                    return None;
                }
                self.learn(arp.sender_ip, arp.sender_mac);
                if arp.operation == ArpOp::Request && self.has(arp.target_ip) {
                    let (sender_mac, sender_ip) = (self.head_mac, arp.target_ip);
                    let reply =
                        Arp { operation: ArpOp::Reply, sender_mac, sender_ip, target_mac: arp.sender_mac, target_ip: arp.sender_ip };
                    self.emit(0, |buf| ether::emit_arp(buf, &reply));
                }
                Some(Input::Arp { link: LINK, mac: arp.sender_mac, sender: arp.sender_ip })
            }
            Frame::RouterSolicit(_) => Some(Input::Frame { link: LINK, bytes }),
        }
    }

    fn receive_udp<'a>(&mut self, frame: UdpFrame<'a>) -> Option<Input<'a>> {
        let ours = frame.dst_mac == self.head_mac || frame.dst_mac == Mac::BROADCAST;
        let served = self.served.binary_search_by_key(&frame.dst.port(), |(port, _)| *port).ok();
        let (_, endpoint) = served.and_then(|at| self.served.get(at)).copied().filter(|_| ours)?;
        let bound = self.conns.table().get(usize::from(endpoint)).is_some_and(|row| row.transport == Transport::Udp);
        if bound && !self.has(*frame.dst.ip()) {
            return None;
        }
        if !frame.src.ip().is_unspecified() {
            self.learn(*frame.src.ip(), frame.src_mac);
        }
        self.checks.arrives(self.now, &frame, |name| self.disk.version(name));
        Some(Input::Datagram(Datagram { endpoint, mac: Some(frame.src_mac), src: frame.src, dst: frame.dst, payload: frame.payload }))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::endpoint::Service;
    use crate::base::machine::Machine;
    use crate::base::outbox::Outbox;
    use crate::base::time::{Instant, Now};
    use crate::sim::cable::{Cable, WIRE};
    use crate::sim::config::{HEAD, config};
    use crate::sim::disk::Habits;
    use crate::sim::world::{Setup, World};
    use crate::wire::dhcp::{Header, MessageType};

    /// Counts datagrams.
    #[derive(Default)]
    struct Ear(u32);

    impl Machine for Ear {
        fn handle(&mut self, _: Now, input: Input<'_>, _: &mut Outbox) {
            self.0 += u32::from(matches!(input, Input::Datagram(_)));
        }

        fn expire(&mut self, _: Now, _: &mut Outbox) {}

        fn deadline(&self) -> Option<Instant> {
            None
        }
    }

    #[test]
    fn a_socket_hears_its_own_address_and_a_link_hears_all() {
        let elsewhere = Ipv4Addr::new(10, 54, 0, 99);
        let rows = [
            (Transport::Udp, HEAD, 1),
            (Transport::Udp, Ipv4Addr::BROADCAST, 0),
            (Transport::Broadcast, HEAD, 1),
            (Transport::Broadcast, Ipv4Addr::BROADCAST, 1),
            (Transport::Overheard, elsewhere, 1),
            (Transport::Udp, elsewhere, 0),
        ];
        for (transport, to, heard) in rows {
            let (service, address) = (Service { id: 0, name: "ear" }, SocketAddrV4::new(HEAD, 67));
            let row = Endpoint { service, transport, link: Some(0), address, required: true, remedy: "" };
            let setup = Setup { config: config([]), seed: 1, wire: WIRE, habits: Habits::default() };
            let mut world = World::new(&setup, Ear::default(), Cable::default()).with_endpoints(std::slice::from_ref(&row));
            let header = Header { chaddr: [2; 16], ..Header::default() };
            world.clients_mut().dhcp(&header, MessageType::Inform, (Ipv4Addr::new(10, 54, 1, 1), to), &[]);
            world.pass(Duration::ZERO);
            assert_eq!(world.server().0, heard, "{:?} to {to}", row.transport);
        }
    }
}
