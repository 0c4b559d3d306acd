//! Other DHCP servers on our links: asked for once at start, and noticed whenever one answers where we hear it.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::base::addr::Mac;
use crate::base::log_limit::LogLimit;
use crate::base::machine::Link;
use crate::base::outbox::Via;
use crate::config::Hardware;
use crate::engine::Ctx;
use crate::engine::dhcp::Counter;
use crate::roll::story::Printable;
use crate::wire::dhcp::{Header, Message, MessageBuilder, MessageType, code};

use super::reply::{CLIENT_PORT, SERVER_PORT};

/// Servers that were logged already, at most.
const REMEMBERED: usize = 8;

pub struct OtherServers {
    xid: u32,
    seen: [Option<Ipv4Addr>; REMEMBERED],
    told: LogLimit,
}

impl OtherServers {
    pub fn new(seed: u64) -> OtherServers {
        OtherServers { xid: crate::base::rng::mix(seed) as u32, seen: [None; REMEMBERED], told: LogLimit::default() }
    }

    /// Sends one DISCOVER on each Ethernet link, in the head's own name.
    pub fn probe(&mut self, ctx: &mut Ctx<'_>) {
        let (from, to) = (SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT), SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT));
        for (at, link) in ctx.config.links.iter().enumerate().filter(|(_, link)| link.hardware == Hardware::Ethernet) {
            let mut chaddr = [0; 16];
            chaddr[..6].copy_from_slice(&link.mac.0);
            let header = Header { op: 1, htype: 1, hlen: 6, xid: self.xid, flags: Header::BROADCAST, chaddr, ..Header::default() };
            ctx.out.datagram(ctx.endpoints.udp(at as Link, CLIENT_PORT), from, to, Via::Broadcast, |buf| {
                let mut builder = MessageBuilder::new(buf, &header, 548)?;
                builder.message_type(MessageType::Discover);
                builder.option(code::PARAMETER_LIST, &[code::SUBNET_MASK, code::ROUTER]);
                Some(builder.finish(None))
            });
        }
    }

    /// A message that a server sent to clients.
    pub fn heard(&mut self, ctx: &mut Ctx<'_>, link: Link, mac: Option<Mac>, message: &Message<'_>) {
        let from_server = message.header.op == 2 && matches!(message.message_type(), Some(MessageType::Offer | MessageType::Ack));
        let Some(server) = message.server_id().filter(|_| from_server) else { return };
        if ctx.config.is_own(server) || self.seen.contains(&Some(server)) {
            return;
        }
        ctx.stats.count(Counter::ForeignServer);
        let Some(more) = self.told.allow(ctx.now) else { return };
        self.seen.rotate_right(1);
        self.seen[0] = Some(server);
        let interface = ctx.config.links.get(usize::from(link)).map_or("?", |link| link.interface.as_str());
        let name = if message.sname.is_empty() { b"no name".as_slice() } else { message.sname };
        let mac = mac.unwrap_or(Mac::ZERO);
        log::warn!(
            "{interface}: another DHCP server, {server}, answers here ({}, {mac}; machines may boot from it, so stop one of the two{more})",
            Printable(name)
        );
    }
}
