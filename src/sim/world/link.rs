//! The head's boot interface, which may go and come back, another one.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::base::facts::LinkFacts;
use crate::base::machine::{Input, Machine};
use crate::config::LinkConfig;

use super::{LINK, Scene, World};

const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const PREFIX: u8 = 16;

/// What the head's kernel knows of an interface from which this link was resolved.
pub(super) fn facts(link: &LinkConfig) -> LinkFacts {
    LinkFacts {
        hardware: link.hardware,
        mtu: link.mtu,
        addresses: vec![(link.head, PREFIX)],
        link_local: Some(LINK_LOCAL),
        ..LinkFacts::ethernet(&link.interface, link.index, link.mac)
    }
}

impl<S: Machine, C: Machine> World<S, C> {
    /// What the boot interface is; None while there is none.
    pub fn interface(&self) -> Option<&LinkFacts> {
        self.stage.interface.as_ref()
    }

    /// The boot interface goes, with what was under way to it; comes back; or is another one from now on.
    pub fn set_interface(&mut self, facts: Option<LinkFacts>) {
        if let Some(facts) = &facts {
            self.stage.head_mac = facts.mac;
            self.stage.checks.readdress(facts.addresses.iter().map(|(address, _)| *address));
        }
        self.stage.interface = facts;
        self.tell_link();
    }

    /// Says what there is of the link.
    pub(super) fn tell_link(&mut self) {
        let at = self.now();
        self.server.handle(at, Input::Link { link: LINK, facts: self.stage.interface.as_ref() }, &mut self.server_out);
        self.drain_server();
    }
}

impl Scene {
    /// Whether the head has this address now.
    pub(super) fn has(&self, address: Ipv4Addr) -> bool {
        self.interface.iter().flat_map(|facts| &facts.addresses).any(|(own, _)| *own == address)
    }
}
