//! What is known of one machine that was seen. Its record is made of parts whose fields are their own; only a method that names an event
//! changes anything.
//!
//! | part | what it knows | who changes it |
//! |---|---|---|
//! | identity, MAC, number | who it is | the roll |
//! | [`Evidence`] | what asks, what it reported | DHCP |
//! | [`Route`] | where it is, by which way its messages come | DHCP |
//! | [`Binding`] | its address and lease | the roll; DHCP, what is on record |
//! | [`Neighbour`] | the kernel's entry for its address | DHCP |
//! | [`Doubt`] | whether it can have the address of its number | DHCP |
//! | [`Prospect`] | the number that it may get | DHCP |
//! | [`BootProgress`] | its stage and story | the roll |
//! | [`Loading`] | what it loads | who serves files |
//!
//! A record exists from the first DISCOVER until its lease has ended. The engines meet in it; [`Registry::enter`](super::registry::Registry::enter)
//! alone writes the stage.

mod binding;
mod doubt;
mod evidence;
mod identity;
mod loading;
mod prospect;
mod route;

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::time::Instant;

use super::boot::BootProgress;
use super::journal::Verdict;
use super::lot::Fingerprint;
use super::plan::Number;

pub use binding::{Binding, Neighbour, OnRecord};
pub use doubt::Doubt;
pub use evidence::Evidence;
pub use identity::{ClientId, Identity, Recorded};
pub use loading::Loading;
pub use prospect::Prospect;
pub use route::{Arrival, Route};

pub struct Client {
    identity: Identity,
    mac: Mac,
    number: Option<Number>,
    arrived: Instant,
    pub evidence: Evidence,
    pub route: Route,
    pub binding: Binding,
    pub neighbour: Neighbour,
    pub doubt: Doubt,
    pub prospect: Prospect,
    /// Where it stands in its boot.
    pub boot: BootProgress,
    pub loading: Loading,
    /// Its last DISCOVER, and when it asked for an address from nothing.
    discover: (u32, Instant),
    restarted: Instant,
}

/// Copies of a DISCOVER that the network makes come no later than this.
const COPY: Duration = Duration::from_secs(2);

impl Client {
    pub(super) fn new(identity: Identity, number: Option<Number>, now: Instant) -> Client {
        Client {
            identity,
            mac: match identity {
                Identity::Mac(mac) => mac,
                Identity::ClientId(_) => Mac::ZERO,
            },
            number,
            arrived: now,
            evidence: Evidence::new(),
            route: Route::new(now),
            binding: Binding::new(now),
            neighbour: Neighbour::NONE,
            doubt: Doubt::default(),
            prospect: Prospect::default(),
            boot: BootProgress::new(now),
            loading: Loading::NONE,
            discover: (0, Instant::ZERO),
            restarted: Instant::ZERO,
        }
    }

    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Where frames to it go; zero on IPoIB, where replies are broadcast.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    pub fn number(&self) -> Option<Number> {
        self.number
    }

    /// When it was seen first.
    pub fn arrived(&self) -> Instant {
        self.arrived
    }

    /// Its address, offered or leased.
    pub fn address(&self) -> Option<Ipv4Addr> {
        self.binding.address()
    }

    /// Whether its address has been acknowledged, not just offered.
    pub fn is_leased(&self) -> bool {
        self.binding.is_leased()
    }

    /// When it asked from nothing last: what it loaded before, it has forgotten.
    pub fn restarted(&self) -> Instant {
        self.restarted
    }

    /// What the lot table says of it now.
    pub(super) fn numbered(&mut self, number: Option<Number>) {
        self.number = number;
    }

    /// It has asked for an address from nothing. A copy of the DISCOVER before, which comes late, is none.
    pub fn asks_anew(&mut self, now: Instant, xid: u32) {
        let (last, at) = std::mem::replace(&mut self.discover, (xid, now));
        if last != xid || now.since(at) >= COPY {
            self.restarted = now;
        }
    }

    /// It reports, in this transaction; a number that it waited for is asked for again. True: something else than before.
    pub fn reports(&mut self, xid: u32, fingerprint: Fingerprint, verdict: Verdict) -> bool {
        self.prospect.reports();
        self.evidence.reports(xid, fingerprint, verdict)
    }

    /// A record says when its lease ends, and what it has shown.
    pub fn recorded(&mut self, record: OnRecord) {
        self.binding.recorded(record);
        self.evidence.recorded();
    }

    /// A journal says this of it.
    pub fn restored(&mut self, record: OnRecord, fingerprint: Fingerprint, verdict: Verdict) {
        self.binding.recorded(record);
        self.evidence.restored(fingerprint, verdict);
    }

    /// It declines the address of its number, and ARP is asked whether rightly: answers count until then.
    pub fn declines(&mut self, until: Instant) {
        self.binding.declined();
        self.doubt.asks_of_declined(until);
    }

    /// What it showed of itself: its MAC at the least.
    pub fn shown(&self) -> Fingerprint {
        let mut fingerprint = *self.evidence.fingerprint();
        if fingerprint.macs.is_empty() && self.mac != Mac::ZERO {
            fingerprint.macs.add(self.mac);
        }
        fingerprint
    }

    /// How the log calls it: `n17 52:54:00:12:34:56`, or `guest 52:...`.
    pub fn title(&self) -> Title<'_> {
        Title(self)
    }
}

pub struct Title<'a>(&'a Client);

impl fmt::Display for Title<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.number {
            Some(number) => write!(f, "{number} {}", self.0.identity),
            None => write!(f, "guest {}", self.0.identity),
        }
    }
}
