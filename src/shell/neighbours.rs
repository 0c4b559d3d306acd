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

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::base::addr::Mac;
use crate::base::machine::Link;

use super::ShellError;
use super::netlink::{Attributes, Netlink, ip, word};

/// NDA_PROTOCOL of our entries: not assigned in `linux/rtnetlink.h`.
const PROTOCOL: u8 = 77;

/// Attributes of an entry, and the length of what stands before them: `linux/neighbour.h`.
const NDA_DST: u16 = 1;
const NDA_PROTOCOL: u16 = 12;
const HEADER: usize = 12;

/// Entries that are set again in a turn: about 100 microseconds.
const BATCH: usize = 32;

pub struct Neighbours {
    netlink: Netlink,
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
        let netlink = Netlink::open()?;
        let mut neighbours = Neighbours { netlink, indices: indices.to_vec(), entries: BTreeMap::new(), renewing: None, failed: 0 };
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
        let mut found = Vec::new();
        let indices = &self.indices;
        self.netlink.dump(RouteNetlinkMessage::GetNeighbour(message), |_, body| found.extend(ours(body, indices)))?;
        Ok(found)
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
                self.netlink.request(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
            }
            None => self.netlink.request(RouteNetlinkMessage::DelNeighbour(message), 0),
        };
        // The kernel changes its table while the request is sent, so that its answer is there at once.
        if let Some(error) = result.err().filter(|error| mac.is_some() || error.raw_os_error() != Some(libc::ENOENT)) {
            self.failed += 1;
            log::debug!("neighbour table: cannot change {ip} on interface {index}: {error}");
        }
    }
}

/// The interface and the address of an entry that bears our mark.
fn ours(body: &[u8], indices: &[u32]) -> Option<(u32, Ipv4Addr)> {
    let of = |wanted: u16| Attributes::behind(body, HEADER).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let index = word(body, 4);
    ip(of(NDA_DST)?).filter(|_| of(NDA_PROTOCOL) == Some(&[PROTOCOL]) && indices.contains(&index)).map(|ip| (index, ip))
}
