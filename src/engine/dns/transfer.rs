//! A whole zone for a secondary (RFC 5936), one message at a time: where it stands is a number, from which the next record follows.
//!
//! The records: SOA; NS; the head's; every node's; SOA. Guests, who come and go, and `self`, who is nobody in particular, are in no
//! transfer; nor are the other forms of a node's name.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::base::machine::ConnId;
use crate::base::outbox::Output;
use crate::config::Config;
use crate::roll::plan::{AddressRange, Number};
use crate::wire::dns::{Data, DnsName, PIECE_MAX, Query, Record, ResponseBuilder, ResponseFlags, rcode};

use super::super::Ctx;
use super::find::PLAN_TTL;
use super::zone::{Zone, Zones, reverse_name};

/// What the head is called.
const HEAD_NAMES: [&str; 3] = ["ns", "head", "master"];

pub struct ZoneTransfer {
    query: Query,
    src: SocketAddrV4,
    zone: Zone,
    /// The serial number of the zones that are being sent.
    serial: u32,
    /// The next record.
    step: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneProgress {
    /// There is more, when this was taken.
    More,
    Over,
}

impl ZoneProgress {
    pub fn is_over(self) -> bool {
        self == ZoneProgress::Over
    }
}

/// A record with what it refers to.
struct Owned {
    owner: DnsName,
    content: RecordData,
}

#[allow(clippy::large_enum_variant)] // a box would allocate, and one lives at a time
enum RecordData {
    Soa,
    Ns,
    A(Ipv4Addr),
    Ptr(DnsName),
}

impl ZoneTransfer {
    pub fn new(query: Query, src: SocketAddrV4, zone: Zone, serial: u32) -> ZoneTransfer {
        ZoneTransfer { query, src, zone, serial, step: 0 }
    }

    /// Some of it was sent.
    pub fn has_begun(&self) -> bool {
        self.step > 0
    }

    /// Puts out the next message. When the zones have changed meanwhile the connection is closed: half of one and half of another is none.
    pub fn go_on(&mut self, ctx: &mut Ctx<'_>, zones: &Zones, conn: ConnId) -> ZoneProgress {
        let Some(authority) = zones.authority.as_ref().filter(|authority| authority.serial == self.serial) else {
            ctx.out.put(Output::Close { conn, at_once: true });
            return ZoneProgress::Over;
        };
        let (mut step, mut over) = (self.step, false);
        let verdict = ResponseFlags { rcode: rcode::NOERROR, authoritative: true, recursive: false };
        let put_out = ctx.out.write(conn, |buf| {
            let mut reply = ResponseBuilder::new(buf, PIECE_MAX, &self.query, verdict)?;
            loop {
                let Some(next) = record(zones, ctx.config, self.zone, step) else {
                    over = true;
                    break;
                };
                if let Some(Owned { owner, content }) = &next {
                    let data = match content {
                        RecordData::Soa => Data::Soa(authority),
                        RecordData::Ns => Data::Ns(&authority.server),
                        RecordData::A(address) => Data::A(*address),
                        RecordData::Ptr(target) => Data::Ptr(target),
                    };
                    if !reply.answer(&Record { owner, ttl: PLAN_TTL, data }) {
                        break;
                    }
                }
                step += 1;
            }
            (step > self.step).then(|| reply.finish(None))
        });
        if !put_out {
            ctx.out.put(Output::Close { conn, at_once: true });
            return ZoneProgress::Over;
        }
        self.step = step;
        if !over {
            return ZoneProgress::More;
        }
        if let Some(name) = zones.name(self.zone) {
            log::info!("dns: transferred zone {name}, serial {}, to {}", self.serial, self.src.ip());
        }
        ZoneProgress::Over
    }
}

/// The record at a step: Some(None) for one that this zone has not; None beyond the end.
fn record(zones: &Zones, config: &Config, zone: Zone, step: u64) -> Option<Option<Owned>> {
    let apex = |content| zones.name(zone).map(|owner| Owned { owner, content });
    match step {
        0 => return apex(RecordData::Soa).map(Some),
        1 => return apex(RecordData::Ns).map(Some),
        _ => {}
    }
    let (step, heads) = (step - 2, config.links.len() as u64);
    let (head_records, range) = match zone {
        Zone::Forward => (heads * HEAD_NAMES.len() as u64, None),
        Zone::Reverse(subnet) => (heads, Some(AddressRange::new(subnet.network(), subnet.broadcast())?)),
    };
    let Some(step) = step.checked_sub(head_records) else {
        let address = config.links.get((step % heads) as usize)?.head;
        return Some(match range {
            None => host(zones, format_args!("{}", HEAD_NAMES.get((step / heads) as usize)?), address),
            Some(range) if range.contains(address) => pointer(zones, format_args!("head"), address),
            Some(_) => None,
        });
    };
    let Some(number) = nth(config, range, step) else {
        // The SOA record again, and then no more.
        let before = step.checked_sub(1);
        let last = before.is_none_or(|before| nth(config, range, before).is_some());
        return last.then(|| apex(RecordData::Soa));
    };
    let (name, address) = (config.plan.name(number)?, config.plan.address(number)?);
    Some(match range {
        None => host(zones, format_args!("{name}"), address),
        Some(_) => pointer(zones, format_args!("{name}"), address),
    })
}

fn host(zones: &Zones, label: std::fmt::Arguments<'_>, address: Ipv4Addr) -> Option<Owned> {
    Some(Owned { owner: zones.host(label)?, content: RecordData::A(address) })
}

fn pointer(zones: &Zones, label: std::fmt::Arguments<'_>, address: Ipv4Addr) -> Option<Owned> {
    Some(Owned { owner: reverse_name(address, 32)?, content: RecordData::Ptr(zones.host(label)?) })
}

/// The number at a place among those whose addresses lie in a range, or among all.
fn nth(config: &Config, range: Option<AddressRange>, mut place: u64) -> Option<Number> {
    for piece in config.plan.pieces() {
        let own = piece.addresses();
        let (first, last) = match range {
            None => (own.first(), own.last()),
            Some(range) if own.overlaps(range) => (own.first().max(range.first()), own.last().min(range.last())),
            Some(_) => continue,
        };
        let count = u64::from(u32::from(last) - u32::from(first)) + 1;
        if place < count {
            return piece.number_of((u32::from(first) + place as u32).into());
        }
        place -= count;
    }
    None
}
