//! The address of a machine: until when it has it, and what the journal says of it. The roll alone gives it and takes it back, since it keeps
//! the index of addresses and the pools.

use std::net::Ipv4Addr;

use crate::base::machine::{Link, Seq};
use crate::base::time::Instant;

/// What the journal says of a guest's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnRecord {
    pub address: Ipv4Addr,
    /// In seconds since 1970.
    pub until: u64,
    /// The record that says it, which may not be on disk yet.
    pub seq: Seq,
}

impl OnRecord {
    pub const NONE: OnRecord = OnRecord { address: Ipv4Addr::UNSPECIFIED, until: 0, seq: Seq::NONE };
}

pub struct Binding {
    address: Option<Ipv4Addr>,
    leased: bool,
    until: Instant,
    on_record: OnRecord,
    left: Option<Ipv4Addr>,
}

impl Binding {
    pub(super) fn new(now: Instant) -> Binding {
        Binding { address: None, leased: false, until: now, on_record: OnRecord::NONE, left: None }
    }

    /// Offered or leased.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.address
    }

    /// Whether the address has been acknowledged, not just offered.
    pub fn is_leased(&self) -> bool {
        self.leased
    }

    /// When the address falls back, or the record where there is none.
    pub fn until(&self) -> Instant {
        self.until
    }

    /// What the journal says of its lease.
    pub fn on_record(&self) -> OnRecord {
        self.on_record
    }

    /// It gets this address.
    pub(in crate::roll) fn bound(&mut self, address: Ipv4Addr) {
        self.address = Some(address);
    }

    /// It has its address no longer; gives what it was.
    pub(in crate::roll) fn unbound(&mut self) -> Option<Ipv4Addr> {
        let address = self.address.take()?;
        self.leased = false;
        // A compaction that is under way will not record this. If the client gets the address again, that needs a new record.
        let OnRecord { address: recorded, .. } = std::mem::replace(&mut self.on_record, OnRecord::NONE);
        if recorded == address {
            self.left = Some(address);
        }
        Some(address)
    }

    /// Its address, or its record without one, falls back then.
    pub(in crate::roll) fn kept_until(&mut self, until: Instant) {
        self.until = until;
    }

    /// Its address was acknowledged.
    pub(in crate::roll) fn leased(&mut self) {
        self.leased = true;
    }

    /// The machine says that it does not use its address.
    pub(super) fn declined(&mut self) {
        self.leased = false;
    }

    /// The guest address that it had last, and that was on record: asked for once.
    pub(in crate::roll) fn left(&mut self) -> Option<Ipv4Addr> {
        self.left.take()
    }

    /// This record says when its lease ends.
    pub(super) fn recorded(&mut self, record: OnRecord) {
        self.on_record = record;
    }

    /// The clock was set forwards by this many seconds: the end on record counts by the new time.
    pub(in crate::roll) fn clock_was_set(&mut self, by: i64) {
        self.on_record.until = self.on_record.until.saturating_add_signed(by);
    }
}

/// The kernel's permanent neighbour entry for a machine's address.
pub struct Neighbour {
    link: Option<Link>,
    at: Instant,
}

impl Neighbour {
    pub(super) const NONE: Neighbour = Neighbour { link: None, at: Instant::ZERO };

    /// The link on which there is one.
    pub fn link(&self) -> Option<Link> {
        self.link
    }

    /// When the last one was made.
    pub fn at(&self) -> Instant {
        self.at
    }

    pub fn made(&mut self, now: Instant, link: Link) {
        (self.link, self.at) = (Some(link), now);
    }

    /// There is none any more; gives the link on which there was one.
    pub fn dropped(&mut self) -> Option<Link> {
        self.link.take()
    }
}
