//! REQUEST and RELEASE: how a lease is given, goes on and ends. What a REQUEST gets is the table of [`super::decide`].

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::log_limit::More;
use crate::base::outbox::Output;
use crate::base::slab::Key;
use crate::base::time::{Instant, Seconds};
use crate::engine::dhcp::Counter;
use crate::engine::{Ctx, boot};
use crate::roll::client::{Arrival, Client};
use crate::roll::kind::FirmwareKind;
use crate::roll::stage::Stage;
use crate::wire::dhcp::MessageType;

use super::addresses::{drop_neighbour, entitled, lease_of, move_to, numbered_address};
use super::decide::{self, ClientState, RequestDecision, RequestView};
use super::promise::{self, Kept};
use super::reply::send;
use super::request::ClientRequest;
use super::{Dhcp, OFFER_HOLD, passing};

/// One boot asks several times; an entry is made once for all of them, for each is a message to the kernel.
const NEIGHBOUR_AGAIN: Duration = Duration::from_secs(10);

impl Dhcp {
    /// Whether somebody on the link takes what was offered over another one: two boot interfaces in one network hear the same machines.
    fn is_for_another_link(&mut self, ctx: &mut Ctx<'_>, asked: &ClientRequest<'_>) -> bool {
        let message = asked.message;
        let Some(server) = message.server_id().filter(|_| message.header.giaddr.is_unspecified()) else { return false };
        let own = ctx.config.links.get(usize::from(asked.link())).is_some_and(|link| link.has(server));
        let Some(other) = ctx.config.links.iter().find(|link| !own && link.has(server)) else { return false };
        ctx.stats.count(Counter::DhcpOtherServer);
        if let Some(more) = self.twice.allow(ctx.now) {
            let name = ctx.config.links.get(usize::from(asked.link())).map_or("", |link| link.interface.as_str());
            log::warn!(
                "{name}: hears the machines of {} too ({} took an offer of {server}): put the two on separate networks{more}",
                other.interface,
                asked.identity
            );
        }
        true
    }

    pub(super) fn request(&mut self, ctx: &mut Ctx<'_>, asked: &ClientRequest<'_>) {
        let message = asked.message;
        let Some((state, address)) = decide::state(message.server_id(), message.requested_ip(), message.header.ciaddr, asked.unicast)
        else {
            return ctx.stats.count(Counter::DhcpMalformed);
        };
        if self.is_for_another_link(ctx, asked) {
            return;
        }
        let record = ctx.roll.find(&asked.identity);
        if let Some(key) = record {
            self.give_number(ctx, key, asked, state, address);
        }
        let Some(network) = ctx.config.networks.get(asked.network) else { return };
        let bound = match record {
            Some(key) => entitled(ctx, key, asked),
            None => numbered_address(ctx, ctx.roll.number_of(&asked.identity), asked.network),
        };
        let pool = ctx.roll.pools.get(asked.network).and_then(Option::as_ref);
        let view = RequestView {
            ours: message.server_id().is_none_or(|server| ctx.config.is_own(server)),
            reaches: network.link.is_some() || !message.header.giaddr.is_unspecified(),
            bound,
            right_network: network.subnet.is_host(address),
            free_guest: pool.is_some_and(|pool| pool.is_free(address, &asked.identity)),
            earlier_offers: ctx.now.since(self.started) < OFFER_HOLD,
            authoritative: ctx.config.dhcp.authoritative,
        };
        match decide::request(state, address, view) {
            RequestDecision::Ack => self.grant(ctx, asked, state, address),
            RequestDecision::Adopt => self.adopt(ctx, asked, state, address),
            RequestDecision::Nak => {
                ctx.stats.count(Counter::Nak);
                if let Some(more) = self.nak.allow(ctx.now) {
                    log::info!("{}: denied {address} (NAK; that is not its address on this network{more})", asked.identity);
                }
                send(ctx, asked, None, Some(MessageType::Nak), None, None);
                self.leave(ctx, record, address);
            }
            RequestDecision::Withdraw => {
                ctx.stats.count(Counter::DhcpOtherServer);
                self.withdraw(ctx, asked);
            }
            RequestDecision::Silence => ctx.stats.count(Counter::DhcpUnknown),
        }
    }

    /// A guest address that was given or offered before a restart goes on with its holder.
    fn adopt(&mut self, ctx: &mut Ctx<'_>, asked: &ClientRequest<'_>, state: ClientState, address: Ipv4Addr) {
        let Some(key) = self.admit(ctx, asked) else { return };
        let pool = ctx.roll.pools.get_mut(asked.network).and_then(Option::as_mut);
        if pool.and_then(|pool| pool.claim(ctx.now, address, key, &asked.identity)).is_some() {
            move_to(ctx, key, address);
            self.grant(ctx, asked, state, address);
        }
    }

    fn grant(&mut self, ctx: &mut Ctx<'_>, asked: &ClientRequest<'_>, state: ClientState, address: Ipv4Addr) {
        let Some(key) = self.admit(ctx, asked) else { return };
        let lease = lease_of(ctx, address, ctx.roll.get(key).and_then(|client| client.number()), asked.network);
        match promise::kept(ctx, key, address, lease) {
            Kept::Committed => {}
            Kept::By(seq) => return self.await_record(ctx, key, asked.datagram, seq),
            Kept::NoRoom => return ctx.stats.count(Counter::DhcpJournal),
            Kept::NoShare => return ctx.stats.count(Counter::DhcpRecords),
        }
        if !move_to(ctx, key, address) {
            return;
        }
        // A client that asks for the address of its number from nothing has no other one in use (RFC 2131, 4.3.2).
        let from_nothing =
            matches!(state, ClientState::Selecting { .. } | ClientState::InitReboot) && !matches!(asked.way, Arrival::Through(_));
        if from_nothing && ctx.roll.plan.number(address).is_some() {
            ctx.roll.give_up_guest(key);
        }
        self.drop_held(key);
        ctx.stats.count(Counter::Ack);
        send(ctx, asked, Some(key), Some(MessageType::Ack), Some(address), Some(lease));
        let renewal = matches!(state, ClientState::Renewing | ClientState::Rebinding);
        self.leased(ctx, key, asked, address, ctx.now + lease, renewal);
    }

    /// Books a lease that was just acknowledged: neighbour entry, stage, story.
    pub(super) fn leased(
        &mut self,
        ctx: &mut Ctx<'_>,
        key: Key<Client>,
        asked: &ClientRequest<'_>,
        address: Ipv4Addr,
        until: Instant,
        renewal: bool,
    ) {
        let on_link = ctx.config.networks.get(asked.network).is_some_and(|network| network.link.is_some());
        let Some(client) = ctx.roll.get_mut(key) else { return };
        client.route.moved(asked.network);
        // The kernel drops entries when an interface goes down and up, so each boot makes its own.
        let (link, mac) = (client.route.link(), client.mac());
        let old = !renewal && ctx.now.since(client.neighbour.at()) >= NEIGHBOUR_AGAIN;
        if on_link && mac != Mac::ZERO && (client.neighbour.link() != Some(link) || old) {
            client.neighbour.made(ctx.now, link);
            ctx.out.put(Output::Neighbour { link, ip: address, mac: Some(mac) });
        }
        let told = boot::file(ctx.config, client);
        let (kind, stage) = (client.evidence.kind(), client.boot.stage());
        let (system, again) = (kind == FirmwareKind::Other, stage == Stage::Up || (stage == Stage::Leased && kind != FirmwareKind::Other));
        ctx.roll.lease(key, until);
        passing::heard_again(ctx, key);
        if again || (renewal && !system) {
            return;
        }
        if system {
            match renewal {
                // It was up before this server was: no boot to tell of.
                true => ctx.roll.enter(ctx.now, key, Stage::Up, format_args!("")),
                false => ctx.roll.enter(ctx.now, key, Stage::Up, format_args!("lease {address}")),
            }
            return ctx.roll.finish_story(ctx.now, key, log::Level::Info, format_args!("up"));
        }
        ctx.roll.enter(ctx.now, key, Stage::Leased, format_args!("lease {address}"));
        if told.is_none() {
            if let Some(more) = self.no_script.allow(ctx.now) {
                let what = if kind == FirmwareKind::Ipxe { "boot.script or boot.kernel" } else { "boot.program for its architecture" };
                log::warn!("{}: has nothing to boot ({kind}; set {what}{more})", asked.identity);
            }
        }
    }

    /// Takes back an address that a NAK has denied to its client.
    fn leave(&mut self, ctx: &mut Ctx<'_>, record: Option<Key<Client>>, address: Ipv4Addr) {
        let Some(key) = record.filter(|&key| ctx.roll.get(key).is_some_and(|client| client.address() == Some(address))) else { return };
        if ctx.roll.plan.number(address).is_some() {
            drop_neighbour(ctx, key);
            ctx.roll.unbind(key, true);
        }
    }

    /// The client picked another server's offer.
    fn withdraw(&mut self, ctx: &mut Ctx<'_>, asked: &ClientRequest<'_>) {
        let Some(key) = ctx.roll.find(&asked.identity) else { return };
        if ctx.roll.get(key).is_some_and(|client| client.is_leased()) {
            return;
        }
        let server = asked.message.server_id().unwrap_or(Ipv4Addr::UNSPECIFIED);
        ctx.roll.finish_story(ctx.now, key, log::Level::Info, format_args!("took the offer of another server, {server}"));
        self.forget(ctx, key, true);
    }

    pub(super) fn release(&mut self, ctx: &mut Ctx<'_>, asked: &ClientRequest<'_>) {
        let Some(key) = ctx.roll.find(&asked.identity) else { return };
        let Some(client) = ctx.roll.get(key) else { return };
        if client.address() == Some(asked.message.header.ciaddr) {
            log::debug!("{}: released {}", client.title(), asked.message.header.ciaddr);
            ctx.roll.waive(key);
            self.forget(ctx, key, true);
        }
    }

    pub(super) fn stalled(&mut self, ctx: &mut Ctx<'_>, key: Key<Client>) {
        let Some(client) = ctx.roll.get(key) else { return };
        let silent = Seconds(ctx.now.since(client.boot.since()));
        let address = client.address().unwrap_or(Ipv4Addr::UNSPECIFIED);
        let file = boot::file(ctx.config, client).unwrap_or("any file");
        match client.boot.stage() {
            Stage::Offered => {
                let known = client.number().is_some();
                ctx.roll.mark_stuck(key, format_args!("no REQUEST for the offer"));
                // A flood of invented machines ends here too: machines without a number are logged once an interval.
                let admitted = if known { Some(More(0)) } else { self.unclaimed.allow(ctx.now) };
                let Some(more) = admitted else { return ctx.roll.note(key, format_args!("no REQUEST for the offer")) };
                let why = format_args!("stalled: no REQUEST for the offer in {silent}{more}");
                ctx.roll.finish_story(ctx.now, key, log::Level::Warn, why);
            }
            Stage::Leased => {
                // `file` borrows the config, not the roll.
                ctx.roll.mark_stuck(key, format_args!("did not request {file}"));
                ctx.roll.finish_story(
                    ctx.now,
                    key,
                    log::Level::Warn,
                    format_args!("stalled: has {address}, but did not request {file} in {silent}"),
                );
            }
            _ => match client.boot.stuck().copied() {
                Some(place) => {
                    ctx.roll.finish_story(ctx.now, key, log::Level::Warn, format_args!("stalled: {place}, then silent for {silent}"))
                }
                None => ctx.roll.finish_story(ctx.now, key, log::Level::Info, format_args!("loaded its files, then silent for {silent}")),
            },
        }
    }

    pub(super) fn ended(&mut self, ctx: &mut Ctx<'_>, key: Key<Client>) {
        let Some(client) = ctx.roll.get(key) else { return };
        if client.loading.running() > 0 {
            // It is still loading: whatever the clock says, the address is in use.
            return ctx.roll.keep_until(key, ctx.now + OFFER_HOLD);
        }
        if let (true, Some(address)) = (client.is_leased(), client.address()) {
            ctx.roll.say_of(ctx.now, key, log::Level::Info, format_args!("lease of {address} expired (not renewed)"));
        }
        self.forget(ctx, key, true);
    }

    /// Takes back everything that a client has, and its record.
    pub(super) fn forget(&mut self, ctx: &mut Ctx<'_>, key: Key<Client>, vetted: bool) {
        drop_neighbour(ctx, key);
        self.drop_held(key);
        ctx.roll.unbind(key, vetted);
        ctx.roll.remove(key);
    }
}
