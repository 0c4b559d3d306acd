//! What becomes of everything else when something becomes of a link.

use crate::base::addr::Mac;
use crate::base::facts::{Hardware, LinkFacts};
use crate::base::machine::Link;
use crate::base::outbox::{Outbox, Output};
use crate::base::time::Now;
use crate::config::{Config, LinkConfig};
use crate::engine::links::{self, LinkState};
use crate::roll::guests::GuestPool;
use crate::wire::ether::{Arp, ArpOp, emit_arp};

use super::{Engines, Server};

impl Server {
    /// What the world says of a link now. Allocates where it changes something.
    pub(super) fn link(&mut self, now: Now, link: Link, facts: Option<&LinkFacts>, out: &mut Outbox) {
        let Some(old) = self.config.links.get(usize::from(link)) else { return };
        self.adverts.link(link, facts);
        let (name, head) = (old.interface.clone(), old.head);
        let Some(facts) = facts else {
            if self.leave_service(now, link, LinkState::Gone, out) {
                log::warn!("{name}: gone, its machines are not served (it is served again when it is back)");
            }
            return;
        };
        match links::fitted(&self.config, link, facts) {
            Ok(new) => {
                let moved = new.head;
                self.renew(now, link, new, out);
                if self.links.enter(link, LinkState::Serving) != LinkState::Serving {
                    log::info!("{name}: in service again, with the address {moved}");
                    self.pools_of(link).for_each(|pool| pool.resume());
                }
                if moved != head {
                    log::warn!("{name}: the head's address was {head} and is {moved} (machines learn it at their next DHCP request)");
                }
            }
            Err(unfit) => {
                if self.leave_service(now, link, LinkState::Unfit, out) {
                    log::error!("{name}: out of service: {unfit}");
                }
            }
        }
    }

    /// Takes over what an interface is now.
    fn renew(&mut self, now: Now, link: Link, new: LinkConfig, out: &mut Outbox) {
        let Some(old) = self.config.links.get(usize::from(link)).filter(|old| **old != new) else { return };
        let (from, to, mac) = (old.head, new.head, new.mac);
        let announces = new.hardware == Hardware::Ethernet && (from, old.mac) != (to, mac);
        let before = self.config.clone();
        if let Some(place) = self.config.links.get_mut(usize::from(link)) {
            *place = new;
        }
        self.pace.reconfigure(&self.config);
        if from != to {
            self.dns.reconfigure(&before, &self.config, now);
            self.endpoints.readdress(from, to);
            out.put(Output::Readdress { from, to });
            self.publish_names();
            // Their clients know the head by an address that nobody has any more.
            self.tftp.abandon(now.at, link);
        }
        if announces {
            // Firmware keeps what it learnt by ARP for as long as it boots (RFC 5227, 2.3).
            let arp = Arp { operation: ArpOp::Request, sender_mac: mac, sender_ip: to, target_mac: Mac::ZERO, target_ip: to };
            out.frame(link, |buf| emit_arp(buf, &arp));
        }
    }

    /// Serves a link no more. False where it was not served before, for the same reason.
    fn leave_service(&mut self, now: Now, link: Link, state: LinkState, out: &mut Outbox) -> bool {
        let old = self.links.enter(link, state);
        if old == LinkState::Serving {
            self.pools_of(link).for_each(|pool| pool.suspend());
            let (mut ctx, Engines { dhcp, .. }) = self.ctx(now, out);
            dhcp.link_lost(&mut ctx, link);
        }
        if state == LinkState::Unfit && old != state {
            self.tftp.abandon(now.at, link);
        }
        old != state
    }

    /// The guest pools of a link's own networks.
    fn pools_of(&mut self, link: Link) -> impl Iterator<Item = &mut GuestPool> {
        let Server { config: Config { networks, .. }, roll, .. } = self;
        let own = networks.iter().map(move |network| network.link == Some(link));
        roll.pools.iter_mut().zip(own).filter(|(_, own)| *own).filter_map(|(pool, _)| pool.as_mut())
    }
}
