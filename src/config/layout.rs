//! Where machines live: the networks, the addresses of the nodes from [cluster] and [[segment]], and each network's guests. What is not
//! configured is derived from what is free. Used by this room only.

use std::net::Ipv4Addr;

use super::error::{Errors, listed};
use super::keys::{NetworkKeys, Section, SegmentKeys};
use super::links::{self, NetworkDraft};
use super::model::LinkConfig;
use super::parsed::Parsed;
use super::value::{KeySlot, Set, shown_numbers};
use super::{check, derive};
use crate::base::facts::LinkFacts;
use crate::base::limits;
use crate::roll::plan::{AddressPlan, AddressRange, NodeNames, Number, Segment};

/// Links, networks and nodes with all addresses, checked against each other.
pub(super) struct AddressLayout {
    pub plan: AddressPlan,
    pub links: Vec<LinkConfig>,
    /// Those of the links first.
    pub networks: Vec<NetworkDraft>,
}

impl AddressLayout {
    /// None after an error.
    pub fn new(
        parsed: &Parsed,
        interfaces: &[String],
        machine: &[LinkFacts],
        errors: &mut Errors<'_>,
        notes: &mut Vec<String>,
    ) -> Option<AddressLayout> {
        let before = errors.count();
        let (links, mut networks) = links::links(parsed, interfaces, machine, errors, notes)?;
        let relayed = parsed.networks.iter().filter(|section| section.interface.is_none());
        networks.extend(relayed.filter_map(|section| Some(links::relayed(section, section.subnet.value()?, parsed))));
        cluster_guests(parsed, &mut networks, errors);
        check::subnets(&networks, errors);
        if errors.count() > before {
            return None;
        }
        let plan = plan(parsed, &mut networks, errors, notes)?;
        check::addresses(parsed, &networks, plan, errors);
        Some(AddressLayout { plan, links, networks })
    }
}

/// `guests` of [cluster] belong to the network that holds them; `"none"` to all that don't say otherwise.
fn cluster_guests(parsed: &Parsed, drafts: &mut [NetworkDraft], errors: &mut Errors<'_>) {
    let Some(guests) = &parsed.cluster.guests else { return };
    let Some(range) = guests.value else {
        drafts.iter_mut().filter(|draft| draft.keys.guests.is_none()).for_each(|draft| draft.keys.guests = Some(guests.clone()));
        return;
    };
    let subnets = listed(drafts.iter().map(|draft| draft.subnet));
    match drafts.iter_mut().find(|draft| draft.subnet.contains(range.first())) {
        None => errors.add(guests.at.as_ref(), "guests", format!("\"{range}\" lies in no served network: choose a range in {subnets}")),
        Some(NetworkDraft { keys: NetworkKeys { guests: Some(own), .. }, .. }) => {
            errors.add(own.at.as_ref(), "guests", "[cluster] has guests in this network too: leave one of the two out");
        }
        Some(draft) => draft.keys.guests = Some(guests.clone()),
    }
}

/// What the file says of the nodes' addresses.
struct NodesDraft {
    node0: Option<Ipv4Addr>,
    /// How many lots there are: as configured, else up to the last segment's end.
    nodes: Option<u32>,
    segments: Vec<Segment>,
}

impl NodesDraft {
    fn end(&self) -> u32 {
        let segments = self.segments.iter().map(|segment| segment.last.0 + 1).max().unwrap_or(0);
        self.nodes.unwrap_or(0).max(segments)
    }

    /// As many lots as node 0's own network must have addresses for, counted from node 0. None when that is free to choose.
    fn plain(&self) -> Option<u64> {
        if self.segments.is_empty() {
            return self.nodes.map(u64::from);
        }
        let inside = |number: u32| self.segments.iter().any(|segment| (segment.first.0..=segment.last.0).contains(&number));
        Some((0..self.end()).rev().find(|number| !inside(*number)).map_or(0, |highest| u64::from(highest) + 1))
    }
}

/// Gives every network its guests, and the nodes their addresses.
fn plan(parsed: &Parsed, drafts: &mut [NetworkDraft], errors: &mut Errors<'_>, notes: &mut Vec<String>) -> Option<AddressPlan> {
    let cluster = &parsed.cluster;
    let wanted = NodesDraft { node0: cluster.node0.value(), nodes: cluster.nodes.value(), segments: segments(parsed, drafts, errors)? };
    let home = home(parsed, &wanted, drafts, errors)?;
    guests(&wanted, home, drafts, notes);
    let draft = drafts.get(home)?;
    let mut taken = taken(&wanted, draft);
    taken.extend(draft.guests());
    let Some((node0, nodes)) = node0(&wanted, draft, &taken, parsed.server.capacity.filled() as u64) else {
        let what = format!("these leave no room for nodes in {}: choose fewer, or set `node0`", draft.subnet);
        errors.add(draft.keys.guests.at(), "guests", what);
        return None;
    };
    let Some(plan) = AddressPlan::segmented(node0, nodes, &wanted.segments) else {
        let place = parsed.segments.first().and_then(|section| section.at());
        errors.add(place, "segment", format!("there are too many segments: at most {} are possible", AddressPlan::SEGMENTS_MAX));
        return None;
    };
    if wanted.node0.is_none() || wanted.nodes.is_none() {
        for piece in plan.pieces().iter().filter(|piece| !wanted.segments.contains(piece)) {
            notes.push(format!("{}: nodes {} ({} to {})", draft.name, piece.addresses(), piece.first, piece.last));
        }
    }
    // Prefix and name have been checked one by one.
    let names = NodeNames::new(&cluster.prefix.filled(), cluster.digits.filled(), &cluster.name.filled());
    Some(plan.named(names.unwrap_or(NodeNames::DEFAULT)))
}

/// The segments that the file has. None after an error.
fn segments(parsed: &Parsed, drafts: &[NetworkDraft], errors: &mut Errors<'_>) -> Option<Vec<Segment>> {
    let before = errors.count();
    let mut segments: Vec<Segment> = Vec::new();
    for SegmentKeys { nodes, first, .. } in &parsed.segments {
        let (Some(nodes), Some(first)) = (nodes, first) else { continue };
        let segment = Segment { first: nodes.value.0, last: nodes.value.1, address: first.value };
        if segment.last.0 as usize >= limits::CAPACITY_MAX {
            let what = format!("{} is too high: the highest number is {}", segment.last.0, limits::CAPACITY_MAX - 1);
            errors.add(nodes.at.as_ref(), "nodes", what);
            continue;
        }
        if let Some(other) = segments.iter().find(|other| segment.first <= other.last && other.first <= segment.last) {
            let what = format!("{} shares numbers with the segment {}", shown(&segment), shown(other));
            errors.add(nodes.at.as_ref(), "nodes", format!("{what}: a number belongs to one segment only"));
            continue;
        }
        if !drafts.iter().any(|draft| draft.subnet.contains(first.value)) {
            let subnets = listed(drafts.iter().map(|draft| draft.subnet));
            let what = format!("\"{}\" lies in no served network: choose an address in {subnets}, or add a [[network]]", first.value);
            errors.add(first.at.as_ref(), "first", what);
            continue;
        }
        segments.push(segment);
    }
    (errors.count() == before).then_some(segments)
}

fn shown(segment: &Segment) -> String {
    shown_numbers(&[(segment.first, segment.last)])
}

/// The network that node 0 lives in, by its place.
fn home(parsed: &Parsed, wanted: &NodesDraft, drafts: &[NetworkDraft], errors: &mut Errors<'_>) -> Option<usize> {
    let Some(node0) = &parsed.cluster.node0 else {
        // With segments for all numbers no other network has a part in it.
        let first = wanted.segments.iter().find(|segment| wanted.plain() == Some(0) && segment.first == Number(0));
        let place = first.and_then(|first| drafts.iter().position(|draft| draft.subnet.contains(first.address)));
        return Some(place.unwrap_or(0));
    };
    let place = drafts.iter().position(|draft| draft.subnet.contains(node0.value));
    if place.is_none() {
        let subnets = listed(drafts.iter().map(|draft| draft.subnet));
        let what = format!("\"{}\" lies in no served network: choose an address in {subnets}", node0.value);
        errors.add(node0.at.as_ref(), "node0", what);
    }
    place
}

/// Addresses of a network that neither nodes nor guests are given by derivation.
fn taken(wanted: &NodesDraft, draft: &NetworkDraft) -> Vec<AddressRange> {
    let mut taken = draft.taken();
    let here = wanted.segments.iter().filter(|segment| draft.subnet.contains(segment.address));
    taken.extend(here.map(Segment::addresses));
    taken
}

fn guests(wanted: &NodesDraft, home: usize, drafts: &mut [NetworkDraft], notes: &mut Vec<String>) {
    for (position, draft) in drafts.iter_mut().enumerate() {
        let subnet = draft.subnet;
        let mut taken = taken(wanted, draft);
        if let Some(node0) = wanted.node0.filter(|_| position == home) {
            taken.extend(match wanted.plain() {
                Some(plain) => plain.checked_sub(1).and_then(|last| {
                    let last = u32::try_from(u64::from(u32::from(node0)) + last).unwrap_or(u32::MAX);
                    AddressRange::new(node0, last.into())
                }),
                None => derive::reserve(subnet, node0),
            });
        }
        if draft.keys.guests.is_none() {
            let guests = draft.own.and_then(|_| derive::guests(subnet, &taken));
            notes.extend(draft.own.map(|_| match guests {
                Some(guests) => format!("{}: guests {guests} ({}, from the interface)", draft.name, guests.count()),
                None => format!("{}: no guests, {subnet} has no room for them", draft.name),
            }));
            draft.keys.guests = Some(Set::derived(guests));
        }
    }
}

/// Node 0's address and the number of lots, as configured or derived. None when there is no room.
fn node0(wanted: &NodesDraft, draft: &NetworkDraft, taken: &[AddressRange], capacity: u64) -> Option<(Ipv4Addr, u32)> {
    let subnet = draft.subnet;
    let plain = wanted.plain();
    let (node0, lots) = match wanted.node0 {
        Some(node0) => (node0, plain.unwrap_or_else(|| derive::nodes_from(subnet, node0, taken, capacity))),
        None if plain == Some(0) => (wanted.segments.iter().find(|segment| segment.first == Number(0))?.address, 0),
        None => {
            let node_range = derive::node_range(subnet, taken, plain, capacity)?;
            (node_range.first(), plain.unwrap_or(node_range.count()))
        }
    };
    Some((node0, wanted.end().max(lots as u32)))
}
