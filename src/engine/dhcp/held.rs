//! Messages that wait: a DISCOVER for its address to be vetted or for room on the link, any message for a record (`promise`).
//!
//! One message of each client is kept, its newest. It is taken up as if it came at that moment.

use std::fmt;
use std::net::SocketAddrV4;
use std::ops::Range;
use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::endpoint::EndpointId;
use crate::base::machine::{Datagram, Link};
use crate::base::slab::Key;
use crate::base::time::Instant;
use crate::engine::Ctx;
use crate::roll::client::Client;
use crate::roll::kind::FirmwareKind;
use crate::roll::stage::Stage;
use crate::wire::dhcp::Scratch;

use super::request::ClientRequest;
use super::{Dhcp, OFFER_HOLD};

/// How often it is looked whether held DISCOVERs can be answered.
const RELEASE_INTERVAL: Duration = Duration::from_millis(10);
/// Bytes of a message that is held: what every machine takes is 548 (RFC 2131, 2), and firmware sends no more.
const HELD_MAX: usize = 576;
/// The fields `sname` and `file`, which clients leave zero: those zeros are not kept. There is a place for each client record.
const NAMES: Range<usize> = 44..236;
/// Bytes that are kept of it.
const KEPT_MAX: usize = HELD_MAX - (NAMES.end - NAMES.start);

/// How long a DISCOVER may wait. A ROM asks again after 4 s and EDK2 picks an offer only then; iPXE asks again after 1 s, udhcpc after
/// 3; some Raspberry Pis never ask again.
fn patience(kind: FirmwareKind) -> Duration {
    Duration::from_millis(match kind {
        FirmwareKind::Rom | FirmwareKind::Edk2 => 3000,
        FirmwareKind::Other | FirmwareKind::UBoot => 2000,
        FirmwareKind::Ipxe | FirmwareKind::Grub | FirmwareKind::Pxelinux => 800,
        FirmwareKind::RaspberryPi => 0,
    })
}

/// A message that waits for an answer.
pub struct HeldMessage {
    endpoint: EndpointId,
    mac: Option<Mac>,
    src: SocketAddrV4,
    dst: SocketAddrV4,
    /// Where `sname` and `file` were left out.
    unnamed: bool,
    len: u16,
    bytes: [u8; KEPT_MAX],
}

impl HeldMessage {
    fn of(datagram: Datagram<'_>) -> Option<HeldMessage> {
        let Datagram { endpoint, mac, src, dst, payload } = datagram;
        let unnamed = payload.get(NAMES).is_some_and(|names| names.iter().all(|byte| *byte == 0));
        let (head, tail) = if unnamed { (payload.get(..NAMES.start)?, payload.get(NAMES.end..)?) } else { (payload, &[][..]) };
        let len = head.len() + tail.len();
        let mut held = HeldMessage { endpoint, mac, src, dst, unnamed, len: u16::try_from(len).ok()?, bytes: [0; KEPT_MAX] };
        held.bytes.get_mut(..head.len())?.copy_from_slice(head);
        held.bytes.get_mut(head.len()..len)?.copy_from_slice(tail);
        Some(held)
    }

    /// The message as it came, written into a buffer.
    pub fn datagram<'b>(&self, buf: &'b mut [u8; HELD_MAX]) -> Datagram<'b> {
        let kept = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        let (head, tail) = kept.split_at(if self.unnamed { NAMES.start.min(kept.len()) } else { kept.len() });
        let gap = if self.unnamed { NAMES.len() } else { 0 };
        let len = kept.len() + gap;
        buf.fill(0);
        for (bytes, at) in [(head, 0), (tail, head.len() + gap)] {
            if let Some(place) = buf.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        }
        Datagram { endpoint: self.endpoint, mac: self.mac, src: self.src, dst: self.dst, payload: buf.get(..len).unwrap_or_default() }
    }
}

impl Dhcp {
    /// Until when a DISCOVER is held because the link is full: within the patience of its sender (doc/firmware.md, "Clients"). None:
    /// it is answered now.
    pub(super) fn deferral(&mut self, ctx: &mut Ctx<'_>, key: Key<Client>, asked: &ClientRequest<'_>) -> Option<Instant> {
        let lane = ctx.pace.lane(asked.link());
        let patience = patience(asked.kind);
        let new = ctx.roll.get(key).is_some_and(|client| client.boot.stage() == Stage::Discover);
        let full = self.deferred.len() >= self.held_by.len();
        if asked.held || !new || full || !lane.defers() || patience.is_zero() {
            return None;
        }
        lane.deferred += 1;
        self.deferred.push_back(key);
        self.next_release = ctx.now + RELEASE_INTERVAL;
        Some(ctx.now + patience)
    }

    /// Answers who was held for want of room, oldest first, as soon as there is some.
    pub(super) fn release_deferred(&mut self, ctx: &mut Ctx<'_>, scratch: &mut Scratch) {
        if ctx.now < self.next_release {
            return;
        }
        self.next_release = ctx.now + RELEASE_INTERVAL;
        while let Some(&key) = self.deferred.front().filter(|_| ctx.out.has_room()) {
            let waiting = ctx.roll.get(key).filter(|client| client.boot.stage() == Stage::Probing).map(|client| client.route.link());
            let full = |link| {
                let lane = ctx.pace.lane(link);
                lane.defers() || !lane.bottleneck.open(ctx.now)
            };
            if waiting.is_some_and(full) {
                return;
            }
            self.deferred.pop_front();
            if waiting.is_some() && self.held_by.get(key.slot()).is_some_and(Option::is_some) {
                self.answer_held(ctx, scratch, key);
            }
        }
    }

    /// Keeps a DISCOVER until its address is vetted; a newer one takes the place of an older one.
    pub(super) fn hold(&mut self, ctx: &mut Ctx<'_>, key: Key<Client>, datagram: Datagram<'_>, ready: Instant, why: fmt::Arguments<'_>) {
        self.keep(key, datagram);
        let probing = ctx.roll.get(key).is_some_and(|client| client.boot.stage() == Stage::Probing);
        ctx.roll.keep_until(key, ready);
        if !probing {
            ctx.roll.enter(ctx.now, key, Stage::Probing, why);
        }
    }

    /// Puts a message by, in place of an older one of the same client. One that is too long is answered when the client repeats it.
    pub(super) fn keep(&mut self, key: Key<Client>, datagram: Datagram<'_>) {
        self.drop_held(key);
        if let (Some(held), Some(place)) = (HeldMessage::of(datagram), self.held_by.get_mut(key.slot())) {
            *place = self.held.insert(held);
        }
    }

    /// Takes a message up that was held.
    pub(super) fn take_held(&mut self, ctx: &mut Ctx<'_>, scratch: &mut Scratch, held: &HeldMessage) {
        self.take(ctx, scratch, held.datagram(&mut [0; HELD_MAX]), true);
    }

    pub(super) fn drop_held(&mut self, key: Key<Client>) -> Option<HeldMessage> {
        let held = self.held_by.get_mut(key.slot())?.take()?;
        self.held.remove(held)
    }

    /// Forgets what was held for machines of a link that is out of service: they ask again.
    pub fn link_lost(&mut self, ctx: &mut Ctx<'_>, link: Link) {
        let of_link: Vec<_> = ctx.roll.iter().filter(|(_, client)| client.route.link() == link).map(|(key, _)| key).collect();
        for key in of_link {
            if self.drop_held(key).is_some() && ctx.roll.get(key).is_some_and(|client| client.boot.stage() == Stage::Probing) {
                ctx.roll.keep_until(key, ctx.now + OFFER_HOLD);
                ctx.roll.enter(ctx.now, key, Stage::Discover, format_args!("its link is out of service"));
            }
        }
    }

    /// Takes up a DISCOVER that was held, for its address or for room.
    pub(super) fn answer_held(&mut self, ctx: &mut Ctx<'_>, scratch: &mut Scratch, key: Key<Client>) {
        let held = self.drop_held(key);
        // No address of its own to wait for any more, whatever becomes of the DISCOVER.
        ctx.roll.keep_until(key, ctx.now + OFFER_HOLD);
        ctx.roll.enter(ctx.now, key, Stage::Discover, format_args!(""));
        if let Some(held) = held {
            self.take_held(ctx, scratch, &held);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_held_as_it_came() {
        let address = SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 68);
        for (names, most) in [(0, HELD_MAX), (7, KEPT_MAX)] {
            let mut message = [7; HELD_MAX];
            message[NAMES].fill(names);
            let datagram = |payload| Datagram { endpoint: 0, mac: None, src: address, dst: address, payload };
            for len in [0, 1, 43, 44, 45, 235, 236, 237, 240, KEPT_MAX, HELD_MAX] {
                let held = HeldMessage::of(datagram(&message[..len]));
                assert_eq!(held.is_some(), len <= most, "{len} bytes with names of {names}");
                if let Some(held) = held {
                    assert_eq!(held.datagram(&mut [1; HELD_MAX]).payload, &message[..len]);
                }
            }
        }
    }
}
