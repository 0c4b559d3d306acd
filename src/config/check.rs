//! What no single key can be blamed for alone: overlaps, doubles, numbers without a lot. Used by this room only.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::Range;

use super::derive::PREFIX_MAX;
use super::error::Errors;
use super::keys::{DnsKeys, Section, SegmentKeys};
use super::links::NetworkDraft;
use super::model::{KnownNode, LinkConfig};
use super::parsed::Parsed;
use super::value::{self, KeySlot, Set};
use crate::base::addr::Mac;
use crate::base::limits;
use crate::roll::lot_table::LotTable;
use crate::roll::plan::{AddressPlan, AddressRange, Number, Segment};

/// Every address belongs to one network at most.
pub(super) fn subnets(drafts: &[NetworkDraft], errors: &mut Errors<'_>) {
    if let Some(draft) = drafts.get(limits::NETWORKS_MAX) {
        let what = format!("there are {} networks: at most {} are possible", drafts.len(), limits::NETWORKS_MAX);
        errors.add(draft.place(draft.keys.subnet.at()), "network", what);
        return;
    }
    for (position, draft) in drafts.iter().enumerate() {
        let subnet = draft.subnet;
        let (place, key) = match draft.own {
            None => (draft.place(draft.keys.subnet.at()), "subnet"),
            Some(_) => (draft.place(draft.keys.interface.at()), "interface"),
        };
        if subnet.prefix() > PREFIX_MAX {
            errors.add(place, key, format!("{subnet} is too small: a boot network is a /{PREFIX_MAX} or larger"));
        }
        let others = drafts.iter().take(position).map(|other| (other.subnet, &other.name));
        let overlapping = others.into_iter().find(|(other, _)| other.contains(subnet.network()) || subnet.contains(other.network()));
        if let Some((other, name)) = overlapping {
            let of = if *name == other.to_string() { String::new() } else { format!(" of {name}") };
            let what = format!("{subnet} overlaps the network {other}{of}: an address belongs to one network only");
            errors.add(place, key, what);
        }
    }
}

/// Nodes, guests, routers and the head keep out of each other's way.
pub(super) fn addresses(parsed: &Parsed, drafts: &[NetworkDraft], plan: AddressPlan, errors: &mut Errors<'_>) {
    let node_ranges = node_ranges(parsed, drafts, plan, errors);
    for draft in drafts {
        let subnet = draft.subnet;
        for router in draft.routers().into_iter().filter(|router| !subnet.is_host(*router)) {
            let what = format!("\"{router}\" is not a host address in {subnet}: a router is in its clients' subnet");
            errors.add(draft.place(draft.keys.router.at()), "router", what);
        }
        guests(draft, &node_ranges, errors);
    }
    let capacity = parsed.server.capacity.filled();
    if plan.nodes() as usize > capacity {
        let what = format!("{} is more than the capacity {capacity}: raise `capacity` in [server] to at least {0}", plan.nodes());
        errors.add(parsed.cluster.nodes.at(), "nodes", what);
    }
}

fn guests(draft: &NetworkDraft, node_ranges: &[AddressRange], errors: &mut Errors<'_>) {
    let Some(guests) = draft.guests() else { return };
    let (subnet, place) = (draft.subnet, draft.keys.guests.at());
    let mut wrong = |what: String| errors.add(place, "guests", format!("\"{guests}\" {what}"));
    if !subnet.contains(guests.first()) || !subnet.contains(guests.last()) {
        return wrong(format!("lies outside {subnet}: choose a range inside it"));
    }
    if guests.contains(subnet.network()) {
        return wrong(format!("holds the network's own address {}: begin above it", subnet.network()));
    }
    if guests.contains(subnet.broadcast()) {
        return wrong(format!("holds the broadcast address {}: end below it", subnet.broadcast()));
    }
    if let Some(node_ranges) = node_ranges.iter().find(|node_ranges| node_ranges.overlaps(guests)) {
        return wrong(format!("overlaps the addresses of the nodes {node_ranges}: choose a range outside it"));
    }
    if let Some(router) = draft.routers().into_iter().find(|router| guests.contains(*router)) {
        return wrong(format!("holds the router {router}: choose a range without it"));
    }
    if draft.head().is_some_and(|head| guests.contains(head)) && guests.count() == 1 {
        wrong("is the head's own address: choose another range".to_string());
    }
}

/// Each piece of the lot table lies in one network, and its addresses are nobody else's. Pieces with an error are left out.
fn node_ranges(parsed: &Parsed, drafts: &[NetworkDraft], plan: AddressPlan, errors: &mut Errors<'_>) -> Vec<AddressRange> {
    let mut node_ranges: Vec<AddressRange> = Vec::new();
    for piece in plan.pieces() {
        let here = |section: &&SegmentKeys| section.nodes.value().is_some_and(|(first, last)| (first..=last).contains(&piece.first));
        let section = parsed.segments.iter().find(here);
        let place = PiecePosition::new(parsed, section);
        let Some(range) = alone(piece, drafts, &place, errors) else { continue };
        match node_ranges.iter().find(|other| other.overlaps(range)) {
            Some(other) => {
                let what = format!(
                    "the addresses {range} of the nodes {}-{} overlap {other}, which other nodes have",
                    piece.first.0, piece.last.0
                );
                errors.add(place.start, place.start_key, format!("{what}: {}", place.remedy));
            }
            None => node_ranges.push(range),
        }
    }
    node_ranges
}

/// Where the file says what of a piece.
struct PiecePosition<'r> {
    start: Option<&'r Range<usize>>,
    start_key: &'static str,
    length: Option<&'r Range<usize>>,
    length_key: &'static str,
    remedy: &'static str,
}

impl<'r> PiecePosition<'r> {
    fn new(parsed: &'r Parsed, section: Option<&'r SegmentKeys>) -> PiecePosition<'r> {
        match section {
            Some(section) => PiecePosition {
                start: section.first.at(),
                start_key: "first",
                length: section.nodes.at(),
                length_key: "nodes",
                remedy: "move `first`, or shorten `nodes`",
            },
            None => {
                let (node0, nodes) = (parsed.cluster.node0.at(), parsed.cluster.nodes.at());
                let length = nodes.or(node0);
                let length_key = if nodes.is_some() { "nodes" } else { "node0" };
                PiecePosition { start: node0, start_key: "node0", length, length_key, remedy: "move `node0`, or lower `nodes`" }
            }
        }
    }
}

/// The addresses of a piece, when they lie in one network and are neither the head's nor a router's.
fn alone(piece: &Segment, drafts: &[NetworkDraft], place: &PiecePosition<'_>, errors: &mut Errors<'_>) -> Option<AddressRange> {
    let Some(draft) = drafts.iter().find(|draft| draft.subnet.contains(piece.address)) else {
        let what = format!("the addresses of the nodes from {} on begin at {}, in no served network", piece.first.0, piece.address);
        errors.add(place.length, place.length_key, format!("{what}: {}", place.remedy));
        return None;
    };
    let subnet = draft.subnet;
    if !subnet.is_host(piece.address) {
        errors.add(place.start, place.start_key, format!("\"{}\" is not a host address in {subnet}: choose another", piece.address));
        return None;
    }
    let (room, count) = (u32::from(subnet.broadcast()) - u32::from(piece.address), piece.last.0 - piece.first.0 + 1);
    if count > room {
        let what = format!("{count} addresses from {} leave {subnet}: at most {room} fit", piece.address);
        errors.add(place.length, place.length_key, what);
        return None;
    }
    let range = piece.addresses();
    let heads = drafts.iter().filter_map(NetworkDraft::head).map(|head| (head, "the head's own address"));
    let routers = draft.routers().into_iter().map(|router| (router, "the router"));
    if let Some((address, whose)) = heads.chain(routers).find(|(address, _)| range.contains(*address)) {
        let what = format!("the nodes' addresses {range} hold {whose} {address}: {}", place.remedy);
        errors.add(place.length, place.length_key, what);
    }
    Some(range)
}

/// The [[node]] sections in order of their numbers; numbers of these and of [[for]] have a lot, and nothing is claimed twice.
pub(super) fn nodes(parsed: &Parsed, plan: Option<AddressPlan>, errors: &mut Errors<'_>) -> Vec<KnownNode> {
    let no_lot = |number: u32| plan.map(|plan| plan.nodes()).filter(|nodes| number >= *nodes);
    let mut known: BTreeMap<u32, Vec<Mac>> = BTreeMap::new();
    let mut owners: BTreeMap<Mac, Option<u32>> = BTreeMap::new();
    for section in &parsed.nodes {
        for (mac, at) in value::elements(&section.macs) {
            if let Some(owner) = owners.insert(mac, section.number.value()) {
                let owner = owner.map_or_else(|| "another node".to_string(), |owner| format!("n{owner}"));
                errors.add(at, "macs", format!("\"{mac}\" is listed already, for {owner}: leave it out once"));
            }
        }
        let Some(number) = section.number.value() else { continue };
        if let Some(nodes) = no_lot(number) {
            errors.add(section.number.at(), "number", has_no_lot(number, nodes));
        }
        if known.insert(number, section.macs.value().unwrap_or_default()).is_some() {
            let what = format!("{number} has a section already: write all its macs there, or choose another number");
            errors.add(section.number.at(), "number", what);
        }
    }
    let (capacity, macs) = (parsed.server.capacity.filled(), owners.len());
    if macs > capacity {
        let what =
            format!("{capacity} records are too few for the {macs} macs of all nodes: raise it, as each needs a record when it boots");
        errors.add(parsed.server.capacity.at(), "capacity", what);
    }
    if let Some(room) = plan.map(|plan| LotTable::macs(plan.nodes())).filter(|room| macs > *room) {
        let what = format!("{macs} are more than the {room} that fit: a cluster has room for 4 a node, raise `nodes` in [cluster]");
        errors.add(parsed.nodes.first().and_then(|section| section.at()), "macs", what);
    }
    for nodes in parsed.overrides.iter().map(|section| &section.nodes) {
        let highest = nodes.value().iter().flatten().map(|(_, last)| last.0).max().unwrap_or(0);
        if let Some(lots) = no_lot(highest) {
            errors.add(nodes.at(), "nodes", has_no_lot(highest, lots));
        }
    }
    known.into_iter().map(|(number, macs)| KnownNode { number: Number(number), macs }).collect()
}

fn has_no_lot(number: u32, nodes: u32) -> String {
    format!("{number} does not exist, as the cluster has {nodes} nodes: choose 0 to {}, or raise `nodes` in [cluster]", nodes - 1)
}

/// Nobody asks themselves, and no address is listed twice.
pub(super) fn dns(keys: &DnsKeys, links: &[LinkConfig], errors: &mut Errors<'_>) {
    let heads: Vec<Ipv4Addr> = links.iter().map(|link| link.head).collect();
    let own = "is a boot interface's address, where names are served already: leave it out";
    let listened =
        addresses_of("listen", &keys.listen, &heads, own, "is not an address of this machine: name one, as in \"127.0.0.1\"", errors);
    let this = "is this server itself: name another name server";
    addresses_of("upstream", &keys.upstream, &[heads, listened].concat(), this, "is not a server's address", errors);
}

/// The good ones of a list. Those of `ours`, and those that are nobody's, are wrong by these sentences.
fn addresses_of(
    key: &str,
    list: &Option<Set<Vec<Ipv4Addr>>>,
    ours: &[Ipv4Addr],
    own: &str,
    nobody: &str,
    errors: &mut Errors<'_>,
) -> Vec<Ipv4Addr> {
    let mut good = Vec::new();
    for (address, at) in value::elements(list) {
        let what = match () {
            () if ours.contains(&address) => own,
            () if good.contains(&address) => "is listed already: leave it out once",
            () if address.is_unspecified() || address.is_multicast() || address.is_broadcast() => nobody,
            () => {
                good.push(address);
                continue;
            }
        };
        errors.add(at, key, format!("\"{address}\" {what}"));
    }
    good
}
