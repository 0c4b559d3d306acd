//! The kernel's neighbour table: an entry for each machine with a lease, permanent, so that neither ARP-deaf firmware nor the limit on
//! entries (gc_thresh3) touches a transfer. Entries bear a protocol number of ours, by which those that an earlier musterd left
//! behind are found at start and dropped.
//!
//! The kernel forgets the neighbours of an interface that goes down or is deleted. So what was set is remembered here, and set again when
//! the interface is back, [`BATCH`] entries a turn.
//!
//! The netlink library allocates for each message: once for a lease given and once for a lease ended, never for a packet.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::Bound;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use crate::base::addr::Mac;
use crate::base::machine::Link;

use super::ShellError;

/// NDA_PROTOCOL of our entries: not assigned in `linux/rtnetlink.h`.
const PROTOCOL: u8 = 77;

/// Entries that are set again in a turn: about 100 microseconds.
const BATCH: usize = 32;

pub struct Neighbours {
    socket: Socket,
    buf: Vec<u8>,
    sequence: u32,
    /// The interface index of each link; 0: it is not there.
    indices: Vec<u32>,
    entries: BTreeMap<(Link, Ipv4Addr), Mac>,
    /// The entry behind which those of a link are to be set again.
    renewing: Option<(Link, Bound<Ipv4Addr>)>,
    /// Entries that the kernel refused to set. Dropping one that has gone already is no failure.
    pub failed: u64,
}

impl Neighbours {
    /// Opens the netlink socket, and drops what an earlier daemon left on the interfaces of these links.
    pub fn open(indices: &[u32]) -> Result<Neighbours, ShellError> {
        let failed = |error| ShellError::system("cannot open the neighbour table", error, "run as root, or with CAP_NET_ADMIN");
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed)?;
        socket.bind_auto().map_err(failed)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(failed)?;
        let (indices, entries, buf) = (indices.to_vec(), BTreeMap::new(), vec![0; 64 * 1024]);
        let mut neighbours = Neighbours { socket, buf, sequence: 0, indices, entries, renewing: None, failed: 0 };
        let stale = neighbours.clear();
        if stale > 0 {
            log::info!("neighbour table: removed {stale} entries of an earlier musterd");
        }
        Ok(neighbours)
    }

    /// Drops every entry of ours on the interfaces of the links; gives how many there were. Waits for the kernel: only at start and at the end.
    pub fn clear(&mut self) -> usize {
        let found = self.ours().unwrap_or_default();
        for &(index, ip) in &found {
            self.tell(index, ip, None);
        }
        found.len()
    }

    /// A link has this interface from now on, whose entries are still there or not.
    pub fn link_is(&mut self, link: Link, index: u32, forgotten: bool) {
        self.indices.iter_mut().skip(link.into()).take(1).for_each(|own| *own = index);
        if forgotten {
            // One after the other: of two links the lower one comes first, and those behind it follow.
            let from = self.renewing.map_or(link, |(other, _)| other.min(link));
            self.renewing = Some((from, Bound::Unbounded));
        }
    }

    /// There are entries to set again.
    pub fn has_work(&self) -> bool {
        self.renewing.is_some()
    }

    /// Sets some entries again.
    pub fn renew(&mut self) {
        let Some((link, behind)) = self.renewing.take() else { return };
        let from = match behind {
            Bound::Excluded(ip) => Bound::Excluded((link, ip)),
            _ => Bound::Included((link, Ipv4Addr::UNSPECIFIED)),
        };
        let due: Vec<_> = self.entries.range((from, Bound::Unbounded)).take(BATCH).map(|(key, mac)| (*key, *mac)).collect();
        for &((link, ip), mac) in &due {
            self.tell_link(link, ip, Some(mac));
        }
        if due.len() == BATCH {
            self.renewing = due.last().map(|&((link, ip), _)| (link, Bound::Excluded(ip)));
        }
    }

    /// The entries that bear our mark.
    fn ours(&mut self) -> std::io::Result<Vec<(u32, Ipv4Addr)>> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        self.send(RouteNetlinkMessage::GetNeighbour(message), NLM_F_DUMP)?;
        let mut found = Vec::new();
        loop {
            let mut rest = &mut self.buf[..];
            let got = self.socket.recv(&mut rest, 0)?;
            let mut at = 0;
            while let Some(bytes) = self.buf.get(at..got).filter(|bytes| !bytes.is_empty()) {
                let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes) else { return Ok(found) };
                at += (message.header.length as usize).next_multiple_of(4).max(16);
                match message.payload {
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(entry)) => found.extend(ours(&entry, &self.indices)),
                    NetlinkPayload::Done(_) | NetlinkPayload::Error(_) => return Ok(found),
                    _ => {}
                }
            }
        }
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> std::io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        self.sequence = self.sequence.wrapping_add(1);
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let len = request.header.length as usize;
        request.serialize(&mut self.buf[..len]);
        self.socket.send(&self.buf[..len], 0).map(drop)
    }

    /// Sets the entry of `ip` on a link, or drops it when `mac` is None. Where the link is not there, it is set when that is back.
    pub fn set(&mut self, link: Link, ip: Ipv4Addr, mac: Option<Mac>) {
        match mac {
            Some(mac) => self.entries.insert((link, ip), mac),
            None => self.entries.remove(&(link, ip)),
        };
        self.tell_link(link, ip, mac);
    }

    fn tell_link(&mut self, link: Link, ip: Ipv4Addr, mac: Option<Mac>) {
        if let Some(index) = self.indices.get(usize::from(link)).copied().filter(|index| *index != 0) {
            self.tell(index, ip, mac);
        }
    }

    fn tell(&mut self, index: u32, ip: Ipv4Addr, mac: Option<Mac>) {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)));
        let result = match mac {
            Some(mac) => {
                message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
                message.attributes.push(NeighbourAttribute::Protocol(RouteProtocol::Other(PROTOCOL)));
                self.send(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
            }
            None => self.send(RouteNetlinkMessage::DelNeighbour(message), 0),
        };
        // The kernel answers at once, and only when it refuses.
        let refused = result.err().or_else(|| self.answer()).filter(|error| mac.is_some() || error.raw_os_error() != Some(libc::ENOENT));
        if let Some(error) = refused {
            self.failed += 1;
            log::debug!("neighbour table: cannot change {ip} on interface {index}: {error}");
        }
    }

    /// The error that the kernel has answered with.
    fn answer(&mut self) -> Option<std::io::Error> {
        let mut rest = &mut self.buf[..];
        let got = self.socket.recv(&mut rest, libc::MSG_DONTWAIT).ok()?;
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(self.buf.get(..got)?).ok()?;
        match message.payload {
            NetlinkPayload::Error(error) if error.code.is_some() => Some(error.to_io()),
            _ => None,
        }
    }
}

fn ours(entry: &NeighbourMessage, indices: &[u32]) -> Option<(u32, Ipv4Addr)> {
    let marked = entry.attributes.iter().any(|a| matches!(a, NeighbourAttribute::Protocol(p) if *p == RouteProtocol::Other(PROTOCOL)));
    let index = entry.header.ifindex;
    let ip = entry.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(*ip),
        _ => None,
    });
    ip.filter(|_| marked && indices.contains(&index)).map(|ip| (index, ip))
}
