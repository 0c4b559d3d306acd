//! Whose word a message is: what is believed of a frame that names a machine.
//!
//! A DHCP message says in `chaddr` whose it is, and anybody can write that. What tells a little more is the frame that it came in. Its source
//! MAC is `chaddr` where a machine speaks for itself on the link; it is another one
//!
//! - behind a relay agent (`giaddr` is set) or a router (a renewal goes straight to the head): the frame is theirs, and may be each time that of
//!   another one of a pair;
//! - behind a bridge that puts its own MAC in (Wi-Fi clients, some hypervisors), and on a bond whose slaves send in their own names
//!   (balance-alb, balance-tlb): a renewal may then come another way than the machine's first message;
//! - where somebody forges.
//!
//! It is not seen at all on InfiniBand. (macvlan and ipvlan need no case: what they write into `chaddr` is what their frames bear.)
//!
//! So a record remembers its [`Arrival`], the one by which the machine got what it has, and a message by that way, or in a frame of the machine's own
//! MAC, is its own word. What comes another way is no proof of anything, and must cost the machine nothing: it is not released, not declined, gets
//! no NAK, and its stage, firmware, evidence and story stay what they are. Nor is an honest client that differs turned away: a DISCOVER is answered
//! with the address that the machine has, and a REQUEST for that address prolongs its lease. Where the machine has nothing to lose (no
//! record, no address, no way on record, a way that was a bridge's), everybody is served by `chaddr`; but not in another machine's frames while it
//! asks for its first address in its own, for a number may come of that. One that has moved, from the
//! head's own link behind a relay or back, or that has a VLAN there, comes another way and asks for another network: it is believed, unless it
//! boots at its old place and was heard there within [`LIVE`].
//!
//! What remains: a forger that sends in frames of the machine's own MAC, which switches can prevent and no server; and whoever can reach the head
//! from behind a relay, or put a relay's address into a message, speaks for all machines that are there.

use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::slab::Key;
use crate::engine::Ctx;
use crate::engine::dhcp::Counter;
use crate::roll::client::{Arrival, Client, Identity};
use crate::roll::stage::Stage;
use crate::wire::dhcp::{Message, MessageType};

use super::Dhcp;
use super::addresses::{entitled, lease_of};
use super::decide::{self, ClientState, Word};
use super::promise::{self, Kept};
use super::reply::send;
use super::request::ClientRequest;

/// A machine that boots and was heard within so long is where it was. Firmware is silent for half a minute between two messages, a boot menu longer.
pub const LIVE: Duration = Duration::from_secs(60);

/// By which way a message came. `on_link`: the network that it speaks of is the link's own.
pub fn way(message: &Message<'_>, identity: &Identity, frame: Option<Mac>, on_link: bool) -> Arrival {
    match (frame, identity) {
        _ if !message.header.giaddr.is_unspecified() || !on_link => Arrival::Relayed,
        (None, _) => Arrival::Unseen,
        (Some(frame), Identity::Mac(mac)) if frame == *mac => Arrival::Own,
        (Some(frame), _) => Arrival::Through(frame),
    }
}

/// Whose word it is that came by this way, and speaks of this network.
pub fn word(ctx: &Ctx<'_>, record: Option<Key<Client>>, way: Arrival, network: usize) -> Word {
    let Some(client) = record.and_then(|key| ctx.roll.get(key)) else {
        return if way == Arrival::Own { Word::Own } else { Word::Harmless };
    };
    if way == Arrival::Own || way == client.route.way() {
        // A record that a forger has made remembers his way: what a node has is not taken from it by a bridge's word.
        let bridge = matches!(way, Arrival::Through(_)) && client.number().is_some();
        return if bridge { Word::Harmless } else { Word::Own };
    }
    let Some(address) = client.address() else {
        // It asks for its first address in frames of its own, and somebody else's speak for it: a number would be theirs.
        let asks = client.route.way() == Arrival::Own
            && matches!(way, Arrival::Through(_))
            && ctx.now.since(client.route.heard()) < LIVE
            && client.boot.stage() != Stage::Up;
        return if asks { Word::Strange } else { Word::Harmless };
    };
    let boots = client.boot.stage() != Stage::Up && (client.loading.running() > 0 || ctx.now.since(client.route.heard()) < LIVE);
    let elsewhere = ctx.config.networks.get(network).is_some_and(|network| !network.subnet.contains(address));
    match client.route.way() {
        Arrival::Unknown | Arrival::Through(_) => Word::Harmless,
        _ if elsewhere && !boots => Word::Harmless,
        _ => Word::Strange,
    }
}

/// Whether a report may be of the machine that it names: it adds to what is known of a node, so that a bridge's word is not enough for one.
pub fn may_report(ctx: &Ctx<'_>, asked: &ClientRequest<'_>) -> bool {
    !matches!(asked.way, Arrival::Through(_)) || ctx.roll.number_of(&asked.identity).is_none()
}

impl Dhcp {
    /// Answers what was said in a machine's name with what that machine has. Nothing changes but the end of its lease.
    pub(super) fn repeat(&mut self, ctx: &mut Ctx<'_>, asked: &ClientRequest<'_>) {
        let kind = asked.message_type();
        let answered = match kind {
            Some(MessageType::Discover) => offer_again(ctx, asked),
            Some(MessageType::Request) => prolong(ctx, asked),
            Some(MessageType::Inform) => return send(ctx, asked, ctx.roll.find(&asked.identity), Some(MessageType::Ack), None, None),
            _ => None,
        };
        if answered.is_none() {
            self.not_itself(ctx, asked);
        }
    }

    /// Counts and logs a message in a machine's name that has no effect.
    pub(super) fn not_itself(&mut self, ctx: &mut Ctx<'_>, asked: &ClientRequest<'_>) {
        let record = ctx.roll.find(&asked.identity).and_then(|key| ctx.roll.get(key));
        ctx.stats.count(Counter::DhcpNotItself);
        let Some((client, address)) = record.and_then(|client| Some((client, client.address()?))) else { return };
        let Some(more) = self.forged.allow(ctx.now) else { return };
        let what = asked.message_type().map_or("BOOTP request", MessageType::name);
        let (who, frame) = (client.title(), asked.datagram.mac.unwrap_or(Mac::ZERO));
        log::warn!("{who}: {what} in its name ignored (it has {address}, and the frame came from {frame}; look for that machine{more})");
    }
}

/// OFFER of the address that the machine has on this network.
fn offer_again(ctx: &mut Ctx<'_>, asked: &ClientRequest<'_>) -> Option<()> {
    let key = ctx.roll.find(&asked.identity)?;
    let address = entitled(ctx, key, asked).filter(|address| ctx.roll.get(key).is_some_and(|client| client.address() == Some(*address)))?;
    let client = ctx.roll.get(key)?;
    let waits = client.boot.stage() == Stage::Probing || client.doubt.is_declined() && ctx.now < client.doubt.asked();
    if waits || promise::awaited(ctx, key, asked.network).is_some() {
        return None;
    }
    let lease = lease_of(ctx, address, client.number(), asked.network);
    ctx.stats.count(Counter::Offer);
    send(ctx, asked, Some(key), Some(MessageType::Offer), Some(address), Some(lease));
    Some(())
}

/// ACK of the lease that the machine has, which goes on from now.
fn prolong(ctx: &mut Ctx<'_>, asked: &ClientRequest<'_>) -> Option<()> {
    let message = asked.message;
    let (state, address) = decide::state(message.server_id(), message.requested_ip(), message.header.ciaddr, asked.unicast)?;
    let key = ctx.roll.find(&asked.identity)?;
    let client = ctx.roll.get(key).filter(|client| client.is_leased() && client.address() == Some(address))?;
    let lease = lease_of(ctx, address, client.number(), asked.network);
    let ours = !matches!(state, ClientState::Selecting { server } if !ctx.config.is_own(server));
    if !ours || entitled(ctx, key, asked) != Some(address) || promise::kept(ctx, key, address, lease) != Kept::Committed {
        return None;
    }
    ctx.stats.count(Counter::Ack);
    send(ctx, asked, Some(key), Some(MessageType::Ack), Some(address), Some(lease));
    ctx.roll.lease(key, ctx.now + lease);
    Some(())
}
