//! What no single key can be blamed for alone: overlaps, doubles, numbers without a lot. Used by this room only.

use std::collections::BTreeMap;
use std::ops::Range;

use super::KnownNode;
use super::derive::PREFIX_MAX;
use super::error::Errors;
use super::raw::{Raw, SegmentSection};
use super::resolve::Draft;
use crate::base::addr::Mac;
use crate::base::limits;
use crate::roll::plan::{AddressPlan, AddressRange, Number, Segment};
use crate::roll::street::Street;

/// Every address belongs to one network at most.
pub(super) fn subnets(drafts: &[Draft<'_>], errors: &mut Errors<'_>) {
    if let Some(draft) = drafts.get(limits::NETWORKS_MAX) {
        let what = format!("there are {} networks: at most {} are possible", drafts.len(), limits::NETWORKS_MAX);
        errors.add(draft.place(|set| &set.subnet).as_ref(), "network", what);
        return;
    }
    for (position, draft) in drafts.iter().enumerate() {
        let subnet = draft.network.subnet;
        let (place, key) = match draft.network.link {
            None => (draft.place(|set| &set.subnet), "subnet"),
            Some(_) => (draft.place(|set| &set.interface), "interface"),
        };
        if subnet.prefix() > PREFIX_MAX {
            errors.add(place.as_ref(), key, format!("{subnet} is too small: a boot network is a /{PREFIX_MAX} or larger"));
        }
        let others = drafts.iter().take(position).map(|other| (other.network.subnet, &other.name));
        let overlapping = others.into_iter().find(|(other, _)| other.contains(subnet.network()) || subnet.contains(other.network()));
        if let Some((other, name)) = overlapping {
            let of = if *name == other.to_string() { String::new() } else { format!(" of {name}") };
            let what = format!("{subnet} overlaps the network {other}{of}: an address belongs to one network only");
            errors.add(place.as_ref(), key, what);
        }
    }
}

/// Nodes, guests, routers and the head keep out of each other's way.
pub(super) fn addresses(raw: &Raw, drafts: &[Draft<'_>], plan: AddressPlan, capacity: usize, errors: &mut Errors<'_>) {
    let street = street(raw, drafts, plan, errors);
    for draft in drafts {
        let subnet = draft.network.subnet;
        for router in draft.network.routers.iter().filter(|router| !subnet.is_host(**router)) {
            let what = format!("\"{router}\" is no machine's address in {subnet}: a router is reached within its clients' subnet");
            errors.add(draft.place(|set| &set.router).as_ref(), "router", what);
        }
        guests(draft, &street, errors);
    }
    if plan.nodes() as usize > capacity {
        let place = raw.cluster.nodes.as_ref().map(|nodes| &nodes.at);
        let what = format!("{} is more than the capacity {capacity}: raise `capacity` in [server] to at least {0}", plan.nodes());
        errors.add(place, "nodes", what);
    }
}

fn guests(draft: &Draft<'_>, street: &[AddressRange], errors: &mut Errors<'_>) {
    let Some(guests) = draft.network.guests else { return };
    let (subnet, place) = (draft.network.subnet, draft.guests_place());
    let mut wrong = |what: String| errors.add(place.as_ref(), "guests", format!("\"{guests}\" {what}"));
    if !subnet.contains(guests.first()) || !subnet.contains(guests.last()) {
        return wrong(format!("lies outside {subnet}: choose a range inside it"));
    }
    if guests.contains(subnet.network()) {
        return wrong(format!("holds the network's own address {}: begin above it", subnet.network()));
    }
    if guests.contains(subnet.broadcast()) {
        return wrong(format!("holds the broadcast address {}: end below it", subnet.broadcast()));
    }
    if let Some(street) = street.iter().find(|street| street.overlaps(guests)) {
        return wrong(format!("overlaps the addresses of the nodes {street}: choose a range outside it"));
    }
    if let Some(router) = draft.network.routers.iter().find(|router| guests.contains(**router)) {
        return wrong(format!("holds the router {router}: choose a range without it"));
    }
    if draft.head.is_some_and(|head| guests.contains(head)) && guests.count() == 1 {
        wrong("is the head's own address: choose another range".to_string());
    }
}

/// Each piece of the street lies in one network, and its addresses are nobody else's. Pieces with an error are left out.
fn street(raw: &Raw, drafts: &[Draft<'_>], plan: AddressPlan, errors: &mut Errors<'_>) -> Vec<AddressRange> {
    let mut street: Vec<AddressRange> = Vec::new();
    for piece in plan.pieces() {
        let section = raw.segments.iter().map(|section| &section.value).find(|section| {
            let nodes = section.nodes.as_ref().map(|nodes| nodes.value);
            nodes.is_some_and(|(first, last)| (first..=last).contains(&piece.first))
        });
        let place = Place::new(raw, section);
        let Some(range) = alone(piece, drafts, &place, errors) else { continue };
        match street.iter().find(|other| other.overlaps(range)) {
            Some(other) => {
                let what = format!(
                    "the addresses {range} of the nodes {}-{} overlap {other}, which other nodes have",
                    piece.first.0, piece.last.0
                );
                errors.add(place.start, place.start_key, format!("{what}: {}", place.remedy));
            }
            None => street.push(range),
        }
    }
    street
}

/// Where the file says what of a piece.
struct Place<'r> {
    start: Option<&'r Range<usize>>,
    start_key: &'static str,
    length: Option<&'r Range<usize>>,
    length_key: &'static str,
    remedy: &'static str,
}

impl<'r> Place<'r> {
    fn new(raw: &'r Raw, section: Option<&'r SegmentSection>) -> Place<'r> {
        match section {
            Some(section) => Place {
                start: section.first.as_ref().map(|first| &first.at),
                start_key: "first",
                length: section.nodes.as_ref().map(|nodes| &nodes.at),
                length_key: "nodes",
                remedy: "move `first`, or shorten `nodes`",
            },
            None => {
                let (node0, nodes) = (raw.cluster.node0.as_ref(), raw.cluster.nodes.as_ref());
                let node0 = node0.map(|set| &set.at);
                let length = nodes.map(|set| &set.at).or(node0);
                let length_key = if nodes.is_some() { "nodes" } else { "node0" };
                Place { start: node0, start_key: "node0", length, length_key, remedy: "move `node0`, or lower `nodes`" }
            }
        }
    }
}

/// The addresses of a piece, when they lie in one network and are neither the head's nor a router's.
fn alone(piece: &Segment, drafts: &[Draft<'_>], place: &Place<'_>, errors: &mut Errors<'_>) -> Option<AddressRange> {
    let Some(draft) = drafts.iter().find(|draft| draft.network.subnet.contains(piece.address)) else {
        let what = format!("the addresses of the nodes from {} on begin at {}, in no served network", piece.first.0, piece.address);
        errors.add(place.length, place.length_key, format!("{what}: {}", place.remedy));
        return None;
    };
    let subnet = draft.network.subnet;
    if !subnet.is_host(piece.address) {
        errors.add(place.start, place.start_key, format!("\"{}\" is no machine's address in {subnet}: choose another", piece.address));
        return None;
    }
    let (room, count) = (u32::from(subnet.broadcast()) - u32::from(piece.address), piece.last.0 - piece.first.0 + 1);
    if count > room {
        let what = format!("{count} addresses from {} leave {subnet}: at most {room} fit", piece.address);
        errors.add(place.length, place.length_key, what);
        return None;
    }
    let range = piece.addresses();
    let heads = drafts.iter().filter_map(|draft| draft.head).map(|head| (head, "the head's own address"));
    let routers = draft.network.routers.iter().map(|router| (*router, "the router"));
    if let Some((address, whose)) = heads.chain(routers).find(|(address, _)| range.contains(*address)) {
        let what = format!("the nodes' addresses {range} hold {whose} {address}: {}", place.remedy);
        errors.add(place.length, place.length_key, what);
    }
    Some(range)
}

/// The [[node]] sections in order of their numbers; numbers of these and of [[for]] have a lot, and nothing is claimed twice.
pub(super) fn nodes(raw: &Raw, plan: Option<AddressPlan>, errors: &mut Errors<'_>) -> Vec<KnownNode> {
    let no_lot = |number: u64| plan.map(|plan| u64::from(plan.nodes())).filter(|nodes| number >= *nodes);
    let mut known: BTreeMap<u64, Vec<Mac>> = BTreeMap::new();
    let mut owners: BTreeMap<Mac, Option<u64>> = BTreeMap::new();
    for section in &raw.nodes {
        let number = section.value.number.as_ref();
        for mac in &section.value.macs {
            if let Some(owner) = owners.insert(mac.value, number.map(|number| number.value)) {
                let owner = owner.map_or_else(|| "another node".to_string(), |owner| format!("n{owner}"));
                errors.add(Some(&mac.at), "macs", format!("\"{}\" is listed already, for {owner}: leave it out once", mac.value));
            }
        }
        let Some(number) = number else { continue };
        if let Some(nodes) = no_lot(number.value) {
            errors.add(Some(&number.at), "number", has_no_lot(number.value, nodes));
        }
        if known.insert(number.value, section.value.macs.iter().map(|mac| mac.value).collect()).is_some() {
            let what = format!("{} has a section already: write all its macs there, or choose another number", number.value);
            errors.add(Some(&number.at), "number", what);
        }
    }
    let capacity = raw.capacity.as_ref().map_or(limits::CAPACITY_DEFAULT as u64, |capacity| capacity.value);
    if owners.len() as u64 > capacity {
        let what = format!(
            "{capacity} records are too few for the {} macs of all nodes: raise it, as each has a record when it boots",
            owners.len()
        );
        errors.add(raw.capacity.as_ref().map(|capacity| &capacity.at), "capacity", what);
    }
    if let Some(room) = plan.map(|plan| Street::macs(plan.nodes())).filter(|room| owners.len() > *room) {
        let what =
            format!("{} are more than the {room} that fit: a cluster has room for 4 a node, raise `nodes` in [cluster]", owners.len());
        errors.add(raw.nodes.first().map(|section| &section.at), "macs", what);
    }
    for nodes in raw.special.iter().filter_map(|section| section.value.nodes.as_ref()) {
        let highest = nodes.value.iter().map(|(_, last)| u64::from(last.0)).max().unwrap_or(0);
        if let Some(lots) = no_lot(highest) {
            errors.add(Some(&nodes.at), "nodes", has_no_lot(highest, lots));
        }
    }
    known.into_iter().map(|(number, macs)| KnownNode { number: Number(number as u32), macs }).collect()
}

fn has_no_lot(number: u64, nodes: u64) -> String {
    format!("{number} has no lot, as the cluster has {nodes} nodes: choose 0 to {}, or raise `nodes` in [cluster]", nodes - 1)
}
