//! What a machine has put out becomes packets and system calls.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;

use crate::base::addr::Mac;
use crate::base::endpoint::EndpointId;
use crate::base::limits;
use crate::base::machine::{FileId, Link, OpenError};
use crate::base::outbox::{DatagramRun, Output, SendFile, Target, Via};
use crate::base::time::Now;
use crate::wire::ether::{self, Arp, ArpOp};

use super::super::files::{FileRead, Files};
use super::super::frame::{self, FrameAddresses};
use super::super::queue::{PUT_MAX, SendTrouble};
use super::{Laid, Owed, RUN_MAX, Shell};

/// The most that one UDP datagram holds, and how many packets the kernel makes of it.
const SEGMENTED_MAX: usize = 65_535 - 20 - 8;
const SEGMENTS_MAX: usize = 64;

/// The part of a file that a run of datagrams carries.
struct Part {
    token: u64,
    file: FileId,
    offset: u64,
    bytes: usize,
}

impl Shell {
    pub(super) fn act(&mut self, now: Now, output: Output<'_>) {
        match output {
            Output::Datagram { endpoint, from, to, via, body } => self.datagram(endpoint, from, to, via, body),
            Output::Frame { link, bytes } => self.put(usize::from(link), None, |buf| copy(buf, bytes)),
            Output::Write { conn, bytes } => self.conns.write(now.at, conn, bytes),
            Output::Connect { endpoint, to, token } => {
                let Shell { conns, poll, table, .. } = self;
                if let Some(row) = table.get(usize::from(endpoint)) {
                    conns.connect(poll.registry(), now.at, endpoint, (row, to), token);
                }
            }
            Output::Close { conn, at_once } => self.conns.close(conn, at_once),
            Output::SendFile(SendFile { file, offset, bytes, to: Target::Conn(conn), .. }) => {
                self.conns.send_file(conn, file, offset, bytes)
            }
            Output::SendFile(SendFile { token, file, offset, bytes, to: Target::Datagrams(run) }) => {
                self.run(&Part { token, file, offset, bytes: usize::try_from(bytes).unwrap_or(usize::MAX) }, &run);
            }
            Output::Record(op) => self.journal.iter_mut().for_each(|journal| journal.act(op)),
            Output::Open { token, path } => {
                let answer = self.files.as_mut().map_or(Some(Err(OpenError::NotFound)), |files| files.open(now.at, token, path));
                answer.into_iter().for_each(|answer| self.owe(Owed::Opened { token, answer }));
            }
            Output::CloseFile { file } => self.files.iter_mut().for_each(|files| files.close(file)),
            Output::Read { token, file, offset, len } => self.owe(Owed::Bytes { token, file, offset, len }),
            Output::Neighbour { link, ip, mac } => {
                self.neighbours.iter_mut().for_each(|neighbours| neighbours.set(link, ip, mac));
            }
            Output::Probe { link, ip } => {
                let Some(mac) = self.links.get(usize::from(link)).map(|link| link.mac) else { return };
                let nobody = std::net::Ipv4Addr::UNSPECIFIED;
                let probe = Arp { operation: ArpOp::Request, sender_mac: mac, sender_ip: nobody, target_mac: Mac::ZERO, target_ip: ip };
                self.put(usize::from(link), None, |buf| ether::emit_arp(buf, &probe));
            }
            Output::Readdress { from, to } => self.readdress(from, to),
            Output::Address { link, address, on } => self.address(link, address, on),
            Output::Route { token, to } => self.owe(Owed::Route { token, to }),
            Output::Row { place, bytes } => self.rows.iter_mut().for_each(|rows| rows.put(place, bytes)),
            Output::MarkRow { place, mark } => self.rows.iter_mut().for_each(|rows| rows.mark(place, mark)),
            Output::DropRow { place } => self.rows.iter_mut().for_each(|rows| rows.clear(place)),
            Output::Task { token, task } => self.task(token, task),
            Output::Count => self.owe(Owed::Counted),
            Output::Leave => self.left = true,
        }
    }

    fn put(&mut self, socket: usize, to: Option<SocketAddrV4>, write: impl FnOnce(&mut [u8]) -> Option<usize>) {
        self.queue.put(socket, to, write);
    }

    /// The link of an endpoint that belongs to one.
    fn link_of(&self, endpoint: EndpointId) -> Option<Link> {
        self.table.get(usize::from(endpoint)).and_then(|row| row.link)
    }

    /// The source number of an endpoint's socket, of the one at this address if there are several.
    fn socket(&self, endpoint: EndpointId, from: Ipv4Addr) -> Option<usize> {
        let mut others = self.sockets.iter().skip(self.fixed);
        let other = others.position(|socket| socket.endpoint == endpoint && *socket.local.ip() == from);
        let fixed = || self.ways.get(usize::from(endpoint)).copied().flatten().map(usize::from);
        other.map(|at| self.links.len() + self.fixed + at).or_else(fixed)
    }

    fn datagram(&mut self, endpoint: EndpointId, from: SocketAddrV4, to: SocketAddrV4, via: Via, body: &[u8]) {
        let link = self.link_of(endpoint);
        let port = link.and_then(|link| self.links.get(usize::from(link)));
        match (link, port.and_then(|port| Some((port.mac, port.destination(via, body.len())?)))) {
            (Some(link), Some((src_mac, mac))) => {
                self.ident = self.ident.wrapping_add(1);
                let ident = self.ident;
                self.put(usize::from(link), None, |buf| ether::emit_udp(buf, src_mac, mac, from, to, ident, body));
            }
            _ => {
                let Some(socket) = self.socket(endpoint, *from.ip()) else { return };
                self.put(socket, Some(to), |buf| copy(buf, body));
            }
        }
    }

    /// Reads parts of a file into the queue, room for the headers before each, and makes messages of them.
    fn run(&mut self, part: &Part, run: &DatagramRun<'_>) {
        let (own, size, bytes) = (run.header_len(), usize::from(run.size), part.bytes);
        let link = self.link_of(run.endpoint);
        let port = link.and_then(|link| self.links.get(usize::from(link)));
        let destination = port.and_then(|port| Some((port.mac, port.destination(run.via, own + size.min(bytes))?)));
        let way = destination.map(|(src_mac, dst_mac)| FrameAddresses { src_mac, dst_mac, from: run.from, to: run.to });
        let gap = if way.is_some() { frame::HEADERS + own } else { own };
        let room = bytes.saturating_add(gap * usize::from(run.count));
        if room > PUT_MAX || usize::from(run.count) > RUN_MAX {
            self.losses.too_long += 1;
            return;
        }
        let Some(files) = self.files.as_mut() else { return };
        let first = self.queue.len();
        match files.lay(part.file, self.queue.room(), gap, size, bytes, part.offset) {
            FileRead::Cold => {
                files.wait(part.token, part.file, part.offset, bytes);
                self.owe(Owed::Cold { token: part.token });
            }
            FileRead::Changed => self.owe(Owed::Changed { token: part.token }),
            FileRead::Done => {
                match (way, link) {
                    (Some(way), Some(link)) => self.frames_of(run, bytes, &way, link),
                    _ => self.window_of(run, bytes, link),
                }
                self.laid.push(Laid { token: part.token, file: part.file, messages: first..self.queue.len() });
            }
        }
    }

    /// Makes a frame of each part that lies in the queue.
    fn frames_of(&mut self, run: &DatagramRun<'_>, mut left: usize, way: &FrameAddresses, link: Link) {
        for own in run.headers.chunks_exact(run.header_len().max(1)) {
            let len = left.min(run.size.into());
            left -= len;
            self.ident = self.ident.wrapping_add(1);
            let ident = self.ident;
            self.put(usize::from(link), None, |buf| frame::data(buf, way, ident, own, len));
        }
    }

    /// Makes datagrams of the parts that lie in the queue: as few as the kernel can cut into packets.
    fn window_of(&mut self, run: &DatagramRun<'_>, bytes: usize, link: Option<Link>) {
        let (Some(socket), own) = (self.socket(run.endpoint, *run.from.ip()), run.header_len()) else { return };
        let segment = own + usize::from(run.size);
        let whole = link.and_then(|link| self.links.get(usize::from(link))).is_some_and(|link| link.segment);
        let at_once = if whole { (SEGMENTED_MAX / segment.max(1)).clamp(1, SEGMENTS_MAX) } else { 1 };
        let (mut packets, mut left) = (usize::from(run.count), bytes + own * usize::from(run.count));
        let mut headers = run.headers.chunks_exact(own.max(1));
        while packets > 0 {
            let count = packets.min(at_once);
            let len = left.min(count * segment);
            for (packet, header) in self.queue.room().chunks_mut(segment.max(1)).take(count).zip(headers.by_ref()) {
                packet.iter_mut().zip(header).for_each(|(to, from)| *to = *from);
            }
            self.queue.take(socket, len, Some(run.to), if count > 1 { segment as u16 } else { 0 });
            (packets, left) = (packets - count, left - len);
        }
    }

    /// Takes back what was read from files that turn out to have been changed: no mixture of two contents leaves.
    fn retract(&mut self) {
        let mut laid = std::mem::take(&mut self.laid);
        if self.files.as_mut().is_some_and(Files::verify) {
            for Laid { token, file, messages } in &laid {
                if !self.files.as_mut().is_some_and(|files| files.is_current(*file)) {
                    self.queue.retract(messages.clone());
                    self.owe(Owed::Changed { token: *token });
                }
            }
        }
        laid.clear();
        self.laid = laid;
    }

    pub(super) fn flush(&mut self) {
        self.retract();
        let Shell { links, sockets, queue, .. } = self;
        let packet_sockets = links.len();
        let mut refused = [0u32; limits::LINKS_MAX];
        let mut whole = None;
        let fd_of = |at: usize| match links.get(at) {
            Some(link) => Some(link.packet.fd.as_fd()),
            None => sockets.get(at - packet_sockets).map(|socket| socket.fd.as_fd()),
        };
        queue.flush(fd_of, |at, trouble| {
            let link = match at.checked_sub(packet_sockets).and_then(|at| sockets.get(at)) {
                Some(socket) => socket.link.map(usize::from),
                None => Some(at),
            };
            // Who uses a socket of no link asks again; the links have nothing to do with it.
            let Some(link) = link else { return };
            match (trouble, refused.get_mut(link)) {
                (SendTrouble::Full(packets), Some(refused)) => *refused = refused.saturating_add(packets.min(u32::MAX.into()) as u32),
                (SendTrouble::Whole(error), _) => whole = Some((link, error)),
                (SendTrouble::Full(_), None) => {}
            }
        });
        for (link, refused) in links.iter_mut().zip(refused) {
            link.refused = link.refused.saturating_add(refused);
        }
        let Some((link, error)) = whole else { return };
        if let Some(link) = links.get_mut(link).filter(|link| link.segment) {
            link.segment = false;
            log::warn!("interface {}: windows are sent packet by packet from now on (UDP_SEGMENT failed: {error})", link.index);
        }
    }
}

pub(super) fn copy(buf: &mut [u8], bytes: &[u8]) -> Option<usize> {
    buf.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(bytes.len())
}
