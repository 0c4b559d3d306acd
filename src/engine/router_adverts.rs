//! Router advertisements: firmware that asks for a router (RFC 4861, 6.3.7) hears at once that there is none, and does not wait for one.

use std::net::Ipv6Addr;

use super::stats::Counter;
use crate::base::addr::Mac;
use crate::base::facts::LinkFacts;
use crate::base::limits;
use crate::base::machine::Link;
use crate::wire::ether::{self, Checksum, Frame};

use super::Ctx;

#[derive(Default)]
pub struct Adverts {
    /// The link-local addresses, where the world knows them.
    own: [Option<Ipv6Addr>; limits::LINKS_MAX],
}

impl Adverts {
    pub fn link(&mut self, link: Link, facts: Option<&LinkFacts>) {
        if let Some(own) = self.own.get_mut(usize::from(link)) {
            *own = facts.and_then(|facts| facts.link_local);
        }
    }

    /// Answers a solicitation with an advertisement of lifetime 0 without prefix, to its sender alone.
    pub fn frame(&self, ctx: &mut Ctx<'_>, link: Link, bytes: &[u8]) {
        let Some(mac) = ctx.config.links.get(usize::from(link)).map(|link| link.mac).filter(|_| ctx.config.server.router_adverts) else {
            return;
        };
        let Ok(Frame::RouterSolicit(solicit)) = ether::parse(bytes, Checksum::Trusted) else { return };
        let source = self.own.get(usize::from(link)).copied().flatten().unwrap_or(eui64(mac));
        ctx.stats.count(Counter::RouterAdvert);
        ctx.out.frame(link, |buf| ether::emit_router_advert(buf, mac, source, &solicit));
    }
}

/// The link-local address that a MAC makes (RFC 4291, appendix A).
fn eui64(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}
