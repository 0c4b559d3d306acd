//! What becomes of everything else when something becomes of a link.

use std::net::Ipv4Addr;

use crate::base::addr::Mac;
use crate::base::facts::{Hardware, LinkFacts};
use crate::base::machine::Link;
use crate::base::outbox::{Outbox, Output};
use crate::base::time::Now;
use crate::config::{Config, LinkConfig};
use crate::engine::links::{self, Trouble};
use crate::roll::guests::GuestPool;
use crate::wire::ether::{Arp, ArpOp, emit_arp};

use super::{Engines, Server};

impl Server {
    /// What the world says of a link now. Allocates where it changes something.
    pub(super) fn link(&mut self, now: Now, link: Link, facts: Option<&LinkFacts>, out: &mut Outbox) {
        let before = self.links.learn(link, facts);
        self.adverts.link(link, facts);
        self.judge_link(now, link, before, out);
    }

    /// Looks again whether the links fit: the config has changed.
    pub(in crate::engine) fn judge_links(&mut self, now: Now, out: &mut Outbox) {
        for link in 0..self.config.links.len() as Link {
            let before = self.links.facts(link).cloned();
            // Of one that serves without facts the world has said nothing yet.
            if before.is_some() || !self.links.serves(link) {
                self.judge_link(now, link, before, out);
            }
        }
    }

    fn judge_link(&mut self, now: Now, link: Link, before: Option<LinkFacts>, out: &mut Outbox) {
        let Some(old) = self.config.links.get(usize::from(link)) else { return };
        let (name, head) = (old.interface.clone(), old.head);
        match links::fitted(&self.config, link, self.links.facts(link)) {
            Ok(new) => {
                let moved = new.head;
                self.renew(now, link, new, out);
                let was = self.links.enter(link, None);
                if was.is_some() {
                    log::info!("{name}: in service, with the address {moved}");
                    self.pools_of(link).for_each(GuestPool::resume);
                    let lane = self.pace.lane(link);
                    lane.bottleneck.begin_anew(now.at);
                    lane.pause(now.at);
                }
                if moved != head {
                    log::warn!("{name}: the head's address was {head} and is {moved} (machines learn it at their next DHCP request)");
                }
                self.remark(link, &name, before.as_ref());
                self.withhold(link, &name);
            }
            Err(trouble) => self.leave_service(now, link, &name, trouble, out),
        }
    }

    /// An address that the head has is given to no machine, wherever it lies.
    fn withhold(&mut self, link: Link, name: &str) {
        let misplaced: Vec<_> = self.links.facts(link).map_or_else(Vec::new, |facts| links::misplaced(&self.config, facts).collect());
        let (gone, kept): (Vec<_>, Vec<_>) =
            self.links.withheld.iter().copied().partition(|(of, address)| *of == link && !misplaced.iter().any(|(has, _)| has == address));
        for (_, address) in gone {
            self.roll.pools.iter_mut().flatten().for_each(|pool| pool.give_back(address));
        }
        for (address, whose) in misplaced.iter().filter(|(address, _)| !kept.contains(&(link, *address))) {
            let withheld = self.roll.pools.iter_mut().flatten().any(|pool| pool.withhold(*address));
            log::debug!("{name}: {address} is {} of the guests' addresses", if withheld { "taken out" } else { "none" });
            log::error!("{name}: it has {address}, which is {whose} (given to nobody meanwhile; take that address from the interface)");
        }
        self.links.withheld = kept;
        self.links.withheld.extend(
            misplaced.iter().map(|(address, _)| (link, *address)).filter(|new| !self.links.withheld.contains(new)).collect::<Vec<_>>(),
        );
    }

    /// Says what the interface should have, when that is news.
    fn remark(&self, link: Link, name: &str, before: Option<&LinkFacts>) {
        let remark = |facts: &LinkFacts| links::remark(&self.config, link, facts);
        let now = self.links.facts(link).and_then(remark);
        if let Some(said) = now.filter(|said| before.and_then(remark).as_ref() != Some(said)) {
            log::warn!("{name}: {said}");
        }
    }

    /// Takes over what an interface is now.
    fn renew(&mut self, now: Now, link: Link, new: LinkConfig, out: &mut Outbox) {
        let Some(old) = self.config.links.get(usize::from(link)).filter(|old| **old != new) else { return };
        let (from, to, mac) = (old.head, new.head, new.mac);
        let announces = new.hardware == Hardware::Ethernet && (from, old.mac) != (to, mac);
        let others = (old.others != new.others).then(|| (old.others.clone(), new.others.clone()));
        if let Some(place) = self.config.links.get_mut(usize::from(link)) {
            *place = new;
        }
        self.pace.reconfigure(&self.config);
        let (were, are) = others.unwrap_or_default();
        // What is to be the first address may have been another one: no two sockets are bound to one.
        for address in were.iter().filter(|address| !are.contains(address)) {
            out.put(Output::Address { link, address: *address, on: false });
        }
        if from != to {
            self.dns.reconfigure(&self.config, now);
            self.readdress(now, link, (from, to), out);
            self.publish_names();
        }
        for address in are.iter().filter(|address| !were.contains(address)) {
            out.put(Output::Address { link, address: *address, on: true });
        }
        if announces {
            // Firmware keeps what it learnt by ARP for as long as it boots (RFC 5227, 2.3).
            let arp = Arp { operation: ArpOp::Request, sender_mac: mac, sender_ip: to, target_mac: Mac::ZERO, target_ip: to };
            out.frame(link, |buf| emit_arp(buf, &arp));
        }
    }

    /// The head has another first address on a link.
    pub(in crate::engine) fn readdress(&mut self, now: Now, link: Link, (from, to): (Ipv4Addr, Ipv4Addr), out: &mut Outbox) {
        if self.config.links.get(usize::from(link)).is_some_and(|link| link.others.contains(&to)) {
            out.put(Output::Address { link, address: to, on: false });
            self.config.links.iter_mut().skip(link.into()).take(1).for_each(|link| link.others.retain(|other| *other != to));
        }
        self.endpoints.readdress(from, to);
        out.put(Output::Readdress { from, to });
        // Their clients know the head by an address that nobody has any more.
        self.tftp.abandon(now.at, link);
    }

    /// Serves a link no more, or for another reason not. Says so when that is news.
    fn leave_service(&mut self, now: Now, link: Link, name: &str, trouble: Trouble, out: &mut Outbox) {
        let old = self.links.enter(link, Some(trouble.clone()));
        if old.as_ref() == Some(&trouble) {
            return;
        }
        match trouble.passes() {
            true => log::warn!("{name}: not served: {trouble}"),
            false => log::error!("{name}: out of service: {trouble}"),
        }
        if old.is_none() {
            self.pools_of(link).for_each(GuestPool::suspend);
            let (mut ctx, Engines { dhcp, .. }) = self.ctx(now, out);
            dhcp.link_lost(&mut ctx, link);
        }
        if !trouble.passes() {
            self.tftp.abandon(now.at, link);
        }
    }

    /// The guest pools of a link's own networks.
    fn pools_of(&mut self, link: Link) -> impl Iterator<Item = &mut GuestPool> {
        let Server { config: Config { networks, .. }, roll, .. } = self;
        let own = networks.iter().map(move |network| network.link == Some(link));
        roll.pools.iter_mut().zip(own).filter(|(_, own)| *own).filter_map(|(pool, _)| pool.as_mut())
    }
}
