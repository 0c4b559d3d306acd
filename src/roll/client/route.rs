//! Where a machine is, and by which way its messages come.

use crate::base::addr::Mac;
use crate::base::machine::Link;
use crate::base::time::Instant;

/// By which way a machine's frames come, as far as the head can see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// No frame of it has come yet: it is on record from a journal.
    Unknown,
    /// In frames of its own MAC.
    Own,
    /// In frames of this MAC: a bridge that puts its own in, or a forger.
    Through(Mac),
    /// By a relay agent or a router, whose frames they are.
    Relayed,
    /// The frame's MAC is not seen (IPoIB).
    Unseen,
}

pub struct Route {
    link: Link,
    network: u16,
    way: Arrival,
    heard: Instant,
}

impl Route {
    pub(super) fn new(now: Instant) -> Route {
        Route { link: 0, network: 0, way: Arrival::Unknown, heard: now }
    }

    pub fn link(&self) -> Link {
        self.link
    }

    /// The network that it asked on last: a place in the config's list.
    pub fn network(&self) -> usize {
        self.network.into()
    }

    /// The way by which it got what it has.
    pub fn way(&self) -> Arrival {
        self.way
    }

    /// When it was heard by DHCP; what was forged in its name is left out.
    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// A message of its own came by this way.
    pub fn spoke(&mut self, now: Instant, way: Arrival) {
        (self.heard, self.way) = (now, way);
    }

    /// A message that has a record made, or finds one, came on this link.
    pub fn asked(&mut self, link: Link, way: Arrival) {
        (self.link, self.way) = (link, way);
    }

    /// It has an address of this network, or is about to.
    pub fn moved(&mut self, network: usize) {
        self.network = network as u16;
    }

    /// It is on record from a journal, with an address of this network, which is the link's or lies behind a relay.
    pub fn restored(&mut self, network: usize, link: Option<Link>) {
        self.moved(network);
        self.asked(link.unwrap_or(0), if link.is_none() { Arrival::Relayed } else { Arrival::Unknown });
    }
}
