//! What a machine has put out becomes packets and system calls.

use std::net::SocketAddrV4;
use std::os::fd::AsFd;

use crate::base::addr::Mac;
use crate::base::limits;
use crate::base::machine::{Errand, Link, Refusal};
use crate::base::outbox::{Blocks, Output, Via};
use crate::base::time::Now;
use crate::wire::ether::{self, Arp, ArpOp, RouterSolicit};
use crate::wire::tftp;

use super::super::files::{Files, Read};
use super::super::frame::{self, Way};
use super::super::queue::{PUT_MAX, Trouble};
use super::super::signals::Signal;
use super::{Laid, Owed, Shell};

const DHCP_SERVER: u16 = 67;

/// The most that one UDP datagram holds, and how many packets the kernel makes of it.
const SEGMENTED_MAX: usize = 65_535 - 20 - 8;
const SEGMENTS_MAX: usize = 64;

impl Shell {
    pub(super) fn act(&mut self, now: Now, output: Output<'_>) {
        match output {
            Output::Datagram { link, from, to, via, body } => self.datagram(link, from, to, via, body),
            Output::Frame { link, bytes } => self.put(usize::from(link), None, |buf| copy(buf, bytes)),
            Output::Blocks(blocks) => self.blocks(&blocks),
            Output::Journal(op) => self.journal.iter_mut().for_each(|journal| journal.act(op)),
            Output::Open { token, path } => {
                let answer = self.files.as_mut().map_or(Some(Err(Refusal::NotFound)), |files| files.open(now.at, token, path));
                answer.into_iter().for_each(|answer| self.owe(Owed::Opened { token, answer }));
            }
            Output::Close { file } => self.files.iter_mut().for_each(|files| files.close(file)),
            Output::Read { token, file, offset, len } => self.owe(Owed::Bytes { token, file, offset, len }),
            Output::Neighbour { link, ip, mac } => {
                if let (Some(neighbours), Some(link)) = (self.neighbours.as_mut(), self.links.get(usize::from(link))) {
                    neighbours.set(link.index, ip, mac);
                }
            }
            Output::ArpProbe { link, ip } => {
                let Some(mac) = self.links.get(usize::from(link)).map(|link| link.mac) else { return };
                let nobody = std::net::Ipv4Addr::UNSPECIFIED;
                let probe = Arp { operation: ArpOp::Request, sender_mac: mac, sender_ip: nobody, target_mac: Mac::ZERO, target_ip: ip };
                self.put(usize::from(link), None, |buf| ether::emit_arp(buf, &probe));
            }
            Output::Stream { conn, body } => self.control.iter_mut().for_each(|control| control.put(now.at, conn, body)),
            Output::StreamClose { conn } => self.control.iter_mut().for_each(|control| control.close(conn)),
            Output::Errand { conn, errand } => {
                let signal = match errand {
                    Errand::Reload(how) => Signal::Reload(how),
                    Errand::Checkpoint => Signal::State,
                };
                self.control.iter_mut().for_each(|control| control.ask(conn, signal));
            }
            Output::Dns { peer, to, body } => self.put_dns(now, peer, to, body),
            Output::DnsClose { peer } => self.names.iter_mut().for_each(|names| names.close(peer)),
            Output::RouterAdvert { link, mac, source } => {
                let Some(port) = self.links.get(usize::from(link)) else { return };
                let (src_mac, src, to) = (port.mac, port.link_local, RouterSolicit { src_mac: mac, src: source });
                self.put(usize::from(link), None, |buf| ether::emit_router_advert(buf, src_mac, src, &to));
            }
        }
    }

    fn put(&mut self, socket: usize, to: Option<SocketAddrV4>, write: impl FnOnce(&mut [u8]) -> Option<usize>) {
        self.queue.put(socket, to, write);
    }

    fn datagram(&mut self, link: Link, from: SocketAddrV4, to: SocketAddrV4, via: Via, body: &[u8]) {
        let Some(port) = self.links.get(usize::from(link)) else { return };
        match port.destination(via, body.len()) {
            Some(mac) => {
                let src_mac = port.mac;
                self.ident = self.ident.wrapping_add(1);
                let ident = self.ident;
                self.put(usize::from(link), None, |buf| ether::emit_udp(buf, src_mac, mac, from, to, ident, body));
            }
            None => {
                let Some(socket) = self.socket(link, from.port()) else { return };
                self.put(socket, Some(to), |buf| copy(buf, body));
            }
        }
    }

    /// The source number of a link's UDP socket on a port.
    fn socket(&self, link: Link, port: u16) -> Option<usize> {
        let start = usize::from(link) * self.per_link;
        let own = self.sockets.get(start..start + self.per_link)?;
        // 67, 69, and then the pool in order.
        let pool = own.get(2).map_or(0, |first| first.local.port());
        let at = match port {
            DHCP_SERVER => 0,
            69 => 1,
            port => 2 + usize::from(port.checked_sub(pool)?),
        };
        own.get(at).filter(|socket| socket.local.port() == port)?;
        Some(self.links.len() + start + at)
    }

    /// Reads a run of blocks into the queue, the headers before each, and makes messages of them.
    fn blocks(&mut self, run: &Blocks) {
        let Some(port) = self.links.get(usize::from(run.link)) else { return };
        let (blksize, bytes) = (usize::from(run.blksize), run.bytes as usize);
        let destination = port.destination(run.via, 4 + blksize.min(bytes));
        let way = destination.map(|dst_mac| Way { src_mac: port.mac, dst_mac, from: run.from, to: run.to });
        let gap = if way.is_some() { frame::HEADERS } else { 4 };
        if bytes + gap * usize::from(run.count) > PUT_MAX || run.count > limits::WINDOWSIZE_MAX {
            self.losses.too_long += 1;
            return;
        }
        let Some(files) = self.files.as_mut() else { return };
        let first = self.queue.len();
        match files.lay(run.file, self.queue.room(), gap, blksize, bytes, run.offset) {
            Read::Cold => {
                files.wait(run.token, run.file, run.offset, bytes);
                self.owe(Owed::Cold { token: run.token });
            }
            Read::Changed => self.owe(Owed::Changed { token: run.token }),
            Read::Done => {
                match way {
                    Some(way) => self.frames_of(run, &way),
                    None => self.window_of(run),
                }
                self.laid.push(Laid { token: run.token, file: run.file, messages: first..self.queue.len() });
            }
        }
    }

    /// Makes a frame of each block that lies in the queue.
    fn frames_of(&mut self, run: &Blocks, way: &Way) {
        let (socket, mut left) = (usize::from(run.link), run.bytes as usize);
        for n in 0..run.count {
            let len = left.min(run.blksize.into());
            left -= len;
            self.ident = self.ident.wrapping_add(1);
            let (ident, block) = (self.ident, run.block.wrapping_add(n));
            self.put(socket, None, |buf| frame::data(buf, way, ident, block, len));
        }
    }

    /// Makes datagrams of the blocks that lie in the queue: as few as the kernel can cut into packets.
    fn window_of(&mut self, run: &Blocks) {
        let Some(socket) = self.socket(run.link, run.from.port()) else { return };
        let segment = 4 + usize::from(run.blksize);
        let whole = self.links.get(usize::from(run.link)).is_some_and(|link| link.segment);
        let at_once = if whole { (SEGMENTED_MAX / segment).clamp(1, SEGMENTS_MAX) } else { 1 };
        let (mut block, mut left) = (run.block, run.bytes as usize + 4 * usize::from(run.count));
        let mut packets = usize::from(run.count);
        while packets > 0 {
            let count = packets.min(at_once);
            let len = left.min(count * segment);
            for packet in self.queue.room().chunks_mut(segment).take(count) {
                packet.iter_mut().zip(tftp::data_header(block)).for_each(|(to, from)| *to = from);
                block = block.wrapping_add(1);
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
        let Shell { links, sockets, queue, names, .. } = self;
        let (packet_sockets, names_first) = (links.len(), links.len() + sockets.len());
        let mut refused = [0u32; limits::LINKS_MAX];
        let mut whole = None;
        let fd_of = |at: usize| match links.get(at) {
            Some(link) => Some(link.packet.fd.as_fd()),
            None if at < names_first => sockets.get(at - packet_sockets).map(|socket| socket.fd.as_fd()),
            None => names.as_ref().and_then(|names| names.fd(at - names_first)),
        };
        queue.flush(fd_of, |at, trouble| {
            if at >= names_first {
                // Who asks for a name asks again; the links have nothing to do with it.
                return;
            }
            let link = at.checked_sub(packet_sockets).and_then(|at| sockets.get(at)).map_or(at, |socket| socket.link.into());
            match (trouble, refused.get_mut(link)) {
                (Trouble::Full(packets), Some(refused)) => *refused = refused.saturating_add(packets.min(u32::MAX.into()) as u32),
                (Trouble::Whole(error), _) => whole = Some((link, error)),
                (Trouble::Full(_), None) => {}
            }
        });
        for (link, refused) in links.iter_mut().zip(refused) {
            link.refused = link.refused.saturating_add(refused);
        }
        let Some((link, error)) = whole else { return };
        if let Some(link) = links.get_mut(link).filter(|link| link.segment) {
            link.segment = false;
            log::warn!("interface {}: UDP_SEGMENT is refused ({error}): windows are sent packet by packet from now on", link.index);
        }
    }
}

pub(super) fn copy(buf: &mut [u8], bytes: &[u8]) -> Option<usize> {
    buf.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(bytes.len())
}
