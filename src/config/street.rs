//! Where nodes and guests live: the plan of the street from [cluster] and [[segment]], and each network's guests. What is not configured is
//! derived from what is free. Used by this room only.

use std::net::Ipv4Addr;

use super::derive;
use super::error::{Errors, listed};
use super::raw::{Raw, SegmentSection};
use super::resolve::{Draft, capacity, value};
use super::value::{Set, shown_numbers};
use crate::base::limits;
use crate::roll::plan::{AddressPlan, AddressRange, Names, Number, Segment};

/// What the file says of the street.
struct Wish {
    node0: Option<Ipv4Addr>,
    /// How many lots there are: as configured, else up to the last segment's end.
    nodes: Option<u32>,
    segments: Vec<Segment>,
}

impl Wish {
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

/// Gives every network its guests, and the cluster its street.
pub(super) fn street(raw: &Raw, drafts: &mut [Draft<'_>], errors: &mut Errors<'_>, choices: &mut Vec<String>) -> Option<AddressPlan> {
    let nodes = value(&raw.cluster.nodes).map(|nodes| nodes as u32);
    let wish = Wish { node0: value(&raw.cluster.node0), nodes, segments: segments(raw, drafts, errors)? };
    let home = home(raw, &wish, drafts, errors)?;
    let capacity = capacity(raw) as u64;
    guests(&wish, home, drafts, choices);
    let draft = drafts.get(home)?;
    let mut taken = taken(&wish, draft);
    taken.extend(draft.network.guests);
    let node0 = node0(&wish, draft, &taken, capacity);
    let Some((node0, nodes)) = node0 else {
        let what = format!("these leave no room for nodes in {}: choose fewer, or set `node0`", draft.network.subnet);
        errors.add(draft.guests_place().as_ref(), "guests", what);
        return None;
    };
    let Some(plan) = AddressPlan::segmented(node0, nodes, &wish.segments) else {
        let place = raw.segments.first().map(|section| &section.at);
        errors.add(place, "segment", format!("these make no street: at most {} are possible", AddressPlan::SEGMENTS_MAX));
        return None;
    };
    if wish.node0.is_none() || wish.nodes.is_none() {
        for piece in plan.pieces().iter().filter(|piece| !wish.segments.contains(piece)) {
            choices.push(format!("{}: nodes {} ({} to {})", draft.name, piece.addresses(), piece.first, piece.last));
        }
    }
    Some(plan.named(names(raw)))
}

/// The prefix and the name have been checked one by one.
fn names(raw: &Raw) -> Names {
    let (prefix, domain) = (value(&raw.cluster.prefix), value(&raw.cluster.name));
    let usual = Names::DEFAULT;
    let digits = value(&raw.cluster.digits).map_or(usual.digits(), |digits| digits as u8);
    let prefix = prefix.as_deref().unwrap_or(usual.prefix());
    Names::new(prefix, digits, domain.as_deref().unwrap_or(usual.domain())).unwrap_or(usual)
}

/// The segments that the file has. None after an error.
fn segments(raw: &Raw, drafts: &[Draft<'_>], errors: &mut Errors<'_>) -> Option<Vec<Segment>> {
    let before = errors.count();
    let mut segments: Vec<Segment> = Vec::new();
    for Set { value: SegmentSection { nodes, first }, .. } in &raw.segments {
        let (Some(nodes), Some(first)) = (nodes, first) else { continue };
        let segment = Segment { first: nodes.value.0, last: nodes.value.1, address: first.value };
        if segment.last.0 as usize >= limits::CAPACITY_MAX {
            let what = format!("{} is more than a street can have: the highest is {}", segment.last.0, limits::CAPACITY_MAX - 1);
            errors.add(Some(&nodes.at), "nodes", what);
            continue;
        }
        if let Some(other) = segments.iter().find(|other| segment.first <= other.last && other.first <= segment.last) {
            let what = format!("{} shares numbers with the segment {}", shown(&segment), shown(other));
            errors.add(Some(&nodes.at), "nodes", format!("{what}: a number lies in one segment only"));
            continue;
        }
        if !drafts.iter().any(|draft| draft.network.subnet.contains(first.value)) {
            let subnets = listed(drafts.iter().map(|draft| draft.network.subnet));
            let what = format!("\"{}\" lies in no served network: choose an address in {subnets}, or add a [[network]]", first.value);
            errors.add(Some(&first.at), "first", what);
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
fn home(raw: &Raw, wish: &Wish, drafts: &[Draft<'_>], errors: &mut Errors<'_>) -> Option<usize> {
    let Some(node0) = &raw.cluster.node0 else {
        // With segments for all numbers no other network has a part in it.
        let first = wish.segments.iter().find(|segment| wish.plain() == Some(0) && segment.first == Number(0));
        let place = first.and_then(|first| drafts.iter().position(|draft| draft.network.subnet.contains(first.address)));
        return Some(place.unwrap_or(0));
    };
    let place = drafts.iter().position(|draft| draft.network.subnet.contains(node0.value));
    if place.is_none() {
        let subnets = listed(drafts.iter().map(|draft| draft.network.subnet));
        let what = format!("\"{}\" lies in no served network: choose an address in {subnets}", node0.value);
        errors.add(Some(&node0.at), "node0", what);
    }
    place
}

/// Addresses of a network that neither nodes nor guests are given by derivation.
fn taken(wish: &Wish, draft: &Draft<'_>) -> Vec<AddressRange> {
    let mut taken = draft.taken();
    let here = wish.segments.iter().filter(|segment| draft.network.subnet.contains(segment.address));
    taken.extend(here.map(Segment::addresses));
    taken
}

fn guests(wish: &Wish, home: usize, drafts: &mut [Draft<'_>], choices: &mut Vec<String>) {
    for (position, draft) in drafts.iter_mut().enumerate() {
        let subnet = draft.network.subnet;
        let mut taken = taken(wish, draft);
        if let Some(node0) = wish.node0.filter(|_| position == home) {
            taken.extend(match wish.plain() {
                Some(plain) => plain.checked_sub(1).and_then(|last| {
                    let last = u32::try_from(u64::from(u32::from(node0)) + last).unwrap_or(u32::MAX);
                    AddressRange::new(node0, last.into())
                }),
                None => derive::reserve(subnet, node0),
            });
        }
        draft.network.guests = match (draft.guests, draft.network.link) {
            (Some(guests), _) => guests.value,
            (None, None) => None,
            (None, Some(_)) => {
                let guests = derive::guests(subnet, &taken);
                choices.push(match guests {
                    Some(guests) => format!("{}: guests {guests} ({}, from the interface)", draft.name, guests.count()),
                    None => format!("{}: no guests, {subnet} has no room for them", draft.name),
                });
                guests
            }
        };
    }
}

/// Node 0's address and the number of lots, as configured or derived. None when there is no room.
fn node0(wish: &Wish, draft: &Draft<'_>, taken: &[AddressRange], capacity: u64) -> Option<(Ipv4Addr, u32)> {
    let subnet = draft.network.subnet;
    let plain = wish.plain();
    let (node0, lots) = match wish.node0 {
        Some(node0) => (node0, plain.unwrap_or_else(|| derive::nodes_from(subnet, node0, taken, capacity))),
        None if plain == Some(0) => (wish.segments.iter().find(|segment| segment.first == Number(0))?.address, 0),
        None => {
            let street = derive::street(subnet, taken, plain, capacity)?;
            (street.first(), plain.unwrap_or(street.count()))
        }
    };
    Some((node0, wish.end().max(lots as u32)))
}
