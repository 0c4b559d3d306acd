//! The TFTP server (RFC 1350, 2347, 2348, 2349, 7440): reads only.
//!
//! A transfer is keyed by client address, client port and server port, so that no node costs a descriptor. It begins with a request,
//! waits for its file, sends an OACK or its first window, and from then on one acknowledgement asks for one window. Unsolicited
//! retransmission happens only at the half-second check ([`policy`]). Limits: the transfer slab is twice the client capacity; who has a place in it,
//! and who makes room, is in [`places`]; who may hold how many files open, in [`files`].
//!
//! Nothing leaves as soon as it is asked for: the transfer takes its place in its link's lane (`engine::pace`), and all blocks
//! leave by turns (module `turns`).

mod admission;
mod answer;
mod counter;
mod files;
mod netascii;
mod policy;
mod rows;
mod take_up;
mod transfer;
mod turns;

use std::collections::VecDeque;

use crate::base::chain::Chains;
use crate::base::index::Index;
use crate::base::limits::{self, CHECK_INTERVAL};
use crate::base::log_limit::LogLimit;
use crate::base::machine::{Datagram, Link, OpenError, OpenFile};
use crate::base::outbox::Output;
use crate::base::rng::mix;
use crate::base::slab::{Key, Slab};
use crate::base::text::Text;
use crate::base::time::{Instant, Seconds};
use crate::base::wheel::Wheel;
use crate::config::Config;
use crate::roll::client::Client;
use crate::roll::stage::Stage;
use crate::roll::story::{Bytes, Printable};
use crate::wire::tftp::{self, ErrorCode, Mode, Packet, PacketError, TftpRequest};

use super::boot::Made;
use super::pace::{self, WaitQueue};
use super::{Ctx, TransferView, boot, lots};
use admission::Claimant;
use files::HeldFiles;
use transfer::{Ack, Asked, Session, Transfer, TransferSource, TransferState};

pub use counter::Counter;
pub use policy::kind_of;
pub use rows::FORMAT;

/// The well-known port.
pub const PORT: u16 = 69;
/// Transfers of one machine at a time: what it runs, and a few that its firmware gave up without a word.
const CLIENT_TRANSFERS: u16 = 16;
/// IPv4, UDP and TFTP headers around a block.
const HEADERS: u32 = 20 + 8 + 4;
/// About what an OACK takes on the wire.
const OACK_BYTES: u64 = 100;
/// A window, in bytes: a few runs of one output each.
const WINDOW_BYTES_MAX: usize = 6 * limits::RUN_BYTES_MAX;

/// The TFTP service: all transfers, and what finds them.
pub struct Tftp {
    transfers: Slab<Transfer>,
    by_key: Index,
    by_peer: Index,
    wheel: Wheel,
    /// [`STRANGERS`] and [`SILENT`].
    chains: Chains<2>,
    held: HeldFiles,
    /// Requests to open a file that the world has not answered.
    opening: usize,
    /// Transfers of an earlier daemon whose files are to be opened again.
    reopened: VecDeque<Key<Transfer>>,
    /// Counts transfers of clients without a record.
    begun: u8,
    /// The text that is being sent, generated again for each of its blocks.
    text: Box<[u8]>,
    /// When the transfers that each link had were given up, since the head's address there was another one.
    abandoned: [Option<Instant>; limits::LINKS_MAX],
    told_changed: LogLimit,
    told_forged: LogLimit,
    told_busy: LogLimit,
    told_missing: LogLimit,
}

/// Chains of transfers whose client may not be there: strangers that have not acknowledged anything, and machines that have fallen
/// silent.
const STRANGERS: usize = 0;
const SILENT: usize = 1;

/// Bytes that a block of this payload takes on the wire.
const fn wire_bytes(payload: u64) -> u64 {
    pace::wire_bytes(payload + HEADERS as u64)
}

impl Tftp {
    /// A service for `capacity` client records, twice as many transfers at most.
    pub fn new(capacity: usize, seed: u64, now: Instant) -> Tftp {
        let capacity = capacity * tftp::TRANSFERS_PER_CLIENT;
        Tftp {
            transfers: Slab::new(capacity),
            by_key: Index::new(capacity, seed),
            by_peer: Index::new(capacity, seed),
            wheel: Wheel::new(capacity, now),
            chains: Chains::new(capacity),
            held: HeldFiles::new(capacity),
            opening: 0,
            reopened: VecDeque::with_capacity(capacity),
            begun: 0,
            text: vec![0; crate::config::limits::SCRIPT_MAX].into(),
            abandoned: [None; limits::LINKS_MAX],
            told_changed: LogLimit::default(),
            told_forged: LogLimit::default(),
            told_busy: LogLimit::default(),
            told_missing: LogLimit::default(),
        }
    }

    /// How many transfers may run.
    pub fn capacity(&self) -> usize {
        self.transfers.capacity()
    }

    /// Running transfers.
    pub fn len(&self) -> usize {
        self.transfers.len()
    }

    /// Whether no transfer runs.
    pub fn is_empty(&self) -> bool {
        self.transfers.is_empty()
    }

    /// How far a transfer has come, by the token that its client's record holds; None when it has ended.
    pub fn loading(&self, token: u64) -> Option<TransferView<'_>> {
        let transfer = self.transfers.get(Key::from_u64(token))?;
        Some(TransferView { name: transfer.session().name(), done: transfer.progress(), size: transfer.content().size() })
    }

    /// When [`Tftp::expire`] has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        if self.may_reopen() { Some(Instant::ZERO) } else { self.wheel.deadline() }
    }

    /// A datagram to port 69 or to a port of the pool.
    pub fn datagram(&mut self, ctx: &mut Ctx<'_>, datagram: Datagram<'_>) {
        let link = ctx.endpoints.link(datagram.endpoint);
        let own = ctx.config.links.get(usize::from(link)).is_some_and(|link| link.has(*datagram.dst.ip()));
        // An address that the interface had a moment ago: nobody answers for it, and nobody else may answer in its place.
        if !own || !ctx.config.serves(link, *datagram.src.ip()) {
            return ctx.stats.count(Counter::TftpStranger);
        }
        let packet = tftp::parse(datagram.payload);
        if datagram.dst.port() == PORT {
            return self.request(ctx, datagram, packet);
        }
        let found = self.by_key.get(Session::key(datagram.src, datagram.dst.port()));
        let Some(key) = found.and_then(|slot| self.transfers.key_at(slot as usize)) else {
            return ctx.stats.count(Counter::TftpNoTransfer);
        };
        if let Some(transfer) = self.transfers.get_mut(key) {
            if !transfer.may_come_from(datagram.mac) {
                return ctx.stats.count(Counter::TftpForged);
            }
            transfer.came_from(datagram.mac);
        }
        match packet {
            Ok(Packet::Ack { block }) => self.ack(ctx, key, block),
            Ok(Packet::Error { .. }) => self.ended_by_client(ctx, key),
            _ => ctx.stats.count(Counter::TftpMalformed),
        }
    }

    fn request(&mut self, ctx: &mut Ctx<'_>, datagram: Datagram<'_>, packet: Result<Packet<'_>, PacketError>) {
        let refuse = |ctx: &mut Ctx<'_>, counter, code, text| {
            ctx.stats.count(counter);
            answer::error(ctx, &datagram, code, text);
        };
        match packet {
            Ok(Packet::Request(request)) if request.write => {
                refuse(ctx, Counter::TftpWrite, ErrorCode::AccessViolation, "this server is read-only");
            }
            Ok(Packet::Request(request)) => self.read_request(ctx, datagram, request),
            Err(PacketError::Mode) => refuse(ctx, Counter::TftpMalformed, ErrorCode::Illegal, "mode must be octet or netascii"),
            Err(_) if datagram.payload.starts_with(&[0, 1]) => {
                refuse(ctx, Counter::TftpMalformed, ErrorCode::Illegal, "malformed request");
            }
            Ok(_) | Err(_) => ctx.stats.count(Counter::TftpMalformed),
        }
    }

    fn read_request(&mut self, ctx: &mut Ctx<'_>, datagram: Datagram<'_>, request: TftpRequest<'_>) {
        ctx.stats.count(Counter::Rrq);
        let hash = datagram.payload.iter().fold(1, |hash, &byte| mix(hash ^ u64::from(byte)));
        let running = self.by_peer.get(Session::peer_key(datagram.src)).and_then(|slot| self.transfers.key_at(slot as usize));
        // A machine that began to boot again has forgotten what it asked before: this is no copy of it, however alike.
        if let Some(key) = running.filter(|&key| !self.forgotten(ctx, key)) {
            match self.claim(ctx, key, &datagram) {
                Claimant::Forged => return ctx.stats.count(Counter::TftpForged),
                Claimant::Same if self.repeated(ctx, key, hash) => return,
                Claimant::Same | Claimant::Stronger => self.end(ctx, key),
            }
        }
        if let Some(token) = ctx.links.looks_at_route(ctx.now, ctx.config, *datagram.src.ip()) {
            ctx.out.put(Output::Route { token, to: *datagram.src.ip() });
        }
        let mut room = [0; boot::NAME_ROOM];
        let name = boot::requested_name(&ctx.config.boot.root, request.filename, &mut room);
        let asked = Asked { name, options: request.options, netascii: request.mode == Mode::Netascii, hash };
        let Some(key) = self.admit(ctx, &datagram, &asked) else {
            ctx.stats.count(Counter::TftpTableFull);
            return;
        };
        if name.is_empty() || name.len() > limits::FILE_NAME_MAX {
            self.refuse(ctx, key, OpenError::NotFound);
        } else {
            self.opening += usize::from(ctx.out.open(key.to_u64(), name));
        }
    }

    /// Answers a request that repeats the one which began this transfer, if it has got no further. False: it is a new one.
    fn repeated(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>, request: u64) -> bool {
        let Some(transfer) = self.transfers.get_mut(key) else { return false };
        let (early, acked) = (transfer.session().policy().early, transfer.window().acked());
        if !transfer.session().is_of(request) || (acked > 0 && ctx.now.since(transfer.look().heard()) >= early) {
            return false;
        }
        ctx.stats.count(Counter::RrqRepeated);
        if acked > 0 {
            // A late copy that the network made: the client is in the middle of this transfer, and would never answer another port.
            return true;
        }
        let early = transfer.look().since_sending(ctx.now) < early;
        transfer.asked_again(ctx.now);
        if !transfer.session().is_strangers() {
            self.hear(ctx, key);
        }
        let Some(transfer) = self.transfers.get_mut(key) else { return false };
        match transfer.state() {
            TransferState::Opening => {}
            TransferState::Data if transfer.session().options().is_empty() => self.rewind(ctx, key),
            // A copy that the network made: a client that begins anew takes longer.
            TransferState::Data if early => {}
            TransferState::Oack | TransferState::Data => {
                transfer.starts_over(ctx.pace.lane(transfer.session().link()), ctx.now);
                self.mark(ctx, key);
                self.want(ctx, key, WaitQueue::Lost);
            }
        }
        true
    }

    /// The world has opened the file, or has not.
    pub fn opened(&mut self, ctx: &mut Ctx<'_>, token: u64, answer: Result<OpenFile, OpenError>) {
        let key = Key::from_u64(token);
        self.settled(key);
        let awaits = |source| matches!(source, TransferSource::Opening | TransferSource::Again { .. });
        let waiting = self.transfers.get_mut(key).filter(|transfer| awaits(transfer.content().source()));
        match (waiting, answer) {
            (Some(transfer), Ok(open)) => {
                let again = transfer.is_reopening();
                if !self.is_same(ctx, key, open) {
                    return;
                }
                self.transfers.get_mut(key).into_iter().for_each(|transfer| transfer.opened(open));
                match self.hold(ctx, key, open.file) {
                    true if again => self.goes_on(ctx, key),
                    true => self.ready(ctx, key),
                    false => self.refuse(ctx, key, OpenError::Busy),
                }
            }
            (Some(transfer), Err(OpenError::NotFound)) => {
                match transfer.content().made().and_then(|what| transfer.make(ctx, what, &mut self.text)) {
                    Some(made) => {
                        transfer.was_made(made);
                        self.ready(ctx, key);
                    }
                    None => self.refuse(ctx, key, OpenError::NotFound),
                }
            }
            (Some(_), Err(refusal)) => self.refuse(ctx, key, refusal),
            // The transfer has ended meanwhile.
            (None, Ok(open)) => drop(ctx.out.put(Output::CloseFile { file: open.file })),
            (None, Err(_)) => {}
        }
    }

    fn refuse(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>, refusal: OpenError) {
        let Some(transfer) = self.transfers.get(key) else { return };
        let (counter, code, text) = match refusal {
            OpenError::NotFound => (Counter::TftpNotFound, ErrorCode::NotFound, "file not found"),
            OpenError::Outside => (Counter::TftpNotFound, ErrorCode::NotFound, "a link leads out of the root"),
            OpenError::Denied => (Counter::TftpRefused, ErrorCode::AccessViolation, "permission denied"),
            OpenError::NotAFile => (Counter::TftpRefused, ErrorCode::AccessViolation, "not a regular file"),
            OpenError::Failed => (Counter::TftpRefused, ErrorCode::NotDefined, "the server cannot read the file"),
            OpenError::Busy => {
                ctx.stats.count(Counter::TftpFilesBusy);
                self.tell_busy(ctx, key);
                self.found_no_place(ctx, key);
                return self.end(ctx, key);
            }
        };
        ctx.stats.count(counter);
        let name = Printable(transfer.session().name());
        match transfer.session().client() {
            Some(client) if transfer.content().made().is_some() && code == ErrorCode::NotFound => {
                ctx.roll.note(client, format_args!("tftp {name}: {text}, and cannot be generated without boot.kernel"));
            }
            Some(client) if !boot::asks_in_series(transfer.session().name()) => ctx.roll.note(client, format_args!("tftp {name}: {text}")),
            _ => log::debug!("{}: tftp {name}: {text}", transfer.session().peer()),
        }
        answer::error_to(ctx, transfer, code, text);
        let place = Text::<96>::of(format_args!("tftp {name}: {text}"));
        let session = transfer.session();
        let named = |client: &_| ctx.roll.get(*client).is_some_and(|client| boot::names_file(ctx.config, client, session.name()));
        let missing = session.client().filter(named);
        self.end(ctx, key);
        if let Some(client) = missing {
            self.miss(ctx, client, &place);
        }
    }

    /// A machine cannot load a file that the config names: it is stuck until it loads another.
    fn miss(&mut self, ctx: &mut Ctx<'_>, client: Key<Client>, place: &Text<96>) {
        if let Some(more) = self.told_missing.allow(ctx.now) {
            let line = format_args!("{place} (the config names this file; check root and allow of [boot]{more})");
            ctx.roll.say_of(ctx.now, client, log::Level::Warn, line);
        }
        if is_loaded(ctx, client) {
            ctx.roll.mark_stuck(client, format_args!("{place}"));
        }
    }

    /// A machine on record finds no place for its file.
    fn tell_busy(&mut self, ctx: &Ctx<'_>, key: Key<Transfer>) {
        let Some(transfer) = self.transfers.get(key) else { return };
        let Some(client) = transfer.session().client().and_then(|client| ctx.roll.get(client)) else { return };
        let Some(more) = self.told_busy.allow(ctx.now) else { return };
        let (title, name, files) = (client.title(), Printable(transfer.session().name()), limits::FILES);
        log::warn!("{title}: request for {name} dropped ({files} other boot files are open; it will ask again{more})");
    }

    /// The source is known: settle the options, and answer when it is this transfer's turn.
    fn ready(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>) {
        let Some(transfer) = self.transfers.get_mut(key) else { return };
        transfer.settled(answer::settle(transfer, ctx));
        self.want(ctx, key, WaitQueue::New);
    }

    fn ack(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>, block: u16) {
        let Some(transfer) = self.transfers.get_mut(key) else { return };
        let link = transfer.session().link();
        if transfer.oack_answered(block) {
            transfer.arrived(ctx.pace.lane(link), ctx.now);
            self.hear(ctx, key);
            return self.progress(ctx, key, 0, WaitQueue::Ring);
        }
        if transfer.state() != TransferState::Data {
            return ctx.stats.count(Counter::TftpStaleAck);
        }
        let (meaning, acked) = transfer.judge(ctx.now, block);
        if meaning != Ack::Stale {
            self.hear(ctx, key);
        }
        let Some(transfer) = self.transfers.get_mut(key) else { return };
        let lane = ctx.pace.lane(link);
        match meaning {
            Ack::Done => {
                transfer.arrived(lane, ctx.now);
                transfer.progressed(acked);
                self.done(ctx, key);
            }
            Ack::Next => {
                transfer.arrived(lane, ctx.now);
                self.progress(ctx, key, acked, WaitQueue::Ring);
            }
            Ack::Broken => {
                transfer.lost(lane, ctx.now);
                self.progress(ctx, key, acked, WaitQueue::Lost);
            }
            Ack::Retry => {
                ctx.stats.count(Counter::TftpRetry);
                transfer.lost(lane, ctx.now);
                transfer.retried(ctx.now);
                if transfer.look().is_silent() {
                    self.fall_silent(ctx, key);
                }
                self.rewind(ctx, key);
            }
            Ack::Echo => ctx.stats.count(Counter::TftpEarlyAck),
            Ack::Stale => ctx.stats.count(Counter::TftpStaleAck),
        }
    }

    fn progress(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>, acked: u64, place: WaitQueue) {
        let Some(transfer) = self.transfers.get_mut(key) else { return };
        transfer.progressed(acked);
        self.mark(ctx, key);
        self.want(ctx, key, place);
    }

    /// The file is not what it was when the transfer began.
    pub fn changed(&mut self, ctx: &mut Ctx<'_>, token: u64) {
        let key = Key::from_u64(token);
        let Some(transfer) = self.transfers.get(key) else { return };
        ctx.stats.count(Counter::TftpChanged);
        let name = Printable(transfer.session().name());
        if let Some(more) = self.told_changed.allow(ctx.now) {
            let peer = transfer.session().peer();
            log::warn!("{peer}: tftp {name} ended (the file was changed in place; replace files by rename{more})");
        }
        if let Some(client) = transfer.session().client() {
            ctx.roll.note(client, format_args!("tftp {name}: changed in place"));
        }
        answer::error_to(ctx, transfer, ErrorCode::NotDefined, "the file was changed while it was being sent: ask again");
        self.end(ctx, key);
    }

    /// Looks at one transfer whose half second is over. False: there is none.
    pub fn expire(&mut self, ctx: &mut Ctx<'_>) -> bool {
        self.reopen(ctx);
        let Some(slot) = self.wheel.expire(ctx.now) else { return false };
        if let Some(key) = self.transfers.key_at(slot) {
            self.look(ctx, key);
        }
        true
    }

    /// The half-second look (law 7).
    fn look(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>) {
        if self.forgotten(ctx, key) {
            return;
        }
        if self.transfers.get(key).is_some_and(|transfer| self.is_abandoned(transfer)) {
            return self.end(ctx, key);
        }
        let Some(transfer) = self.transfers.get_mut(key) else { return };
        let (policy, interval) = (transfer.session().policy(), transfer.session().interval());
        // What is sent soon after this look is looked at when it is due, not up to half a second later.
        self.wheel.set(key.slot(), ctx.now + interval.min(limits::CHECK_INTERVAL));
        if ctx.now.since(transfer.look().heard()) >= policy.patience.min(ctx.config.tftp.give_up) {
            return self.gave_up(ctx, key);
        }
        if transfer.is_reopening() {
            return;
        }
        if transfer.warm() {
            return self.want(ctx, key, WaitQueue::Ring);
        }
        let lane = ctx.pace.lane(transfer.session().link());
        if lane.waits(turns::waiter(key)) || !transfer.awaits_answer() || transfer.look().resent() >= policy.resends {
            return;
        }
        let quiet = transfer.look().since_sending(ctx.now);
        if quiet < interval {
            return self.wheel.set(key.slot(), ctx.now + (interval - quiet).min(limits::CHECK_INTERVAL));
        }
        let place = transfer.missed(lane, ctx.now);
        self.mark(ctx, key);
        self.fall_silent(ctx, key);
        self.want(ctx, key, place);
    }

    fn done(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>) {
        let Some(transfer) = self.transfers.get(key) else { return };
        ctx.stats.count(Counter::TftpDone);
        let (name, size, took) =
            (Printable(transfer.session().name()), Bytes(transfer.content().size()), Seconds(ctx.now.since(transfer.session().began())));
        match transfer.session().client() {
            Some(client) => {
                ctx.roll.note(client, format_args!("tftp {name} {size} {took}"));
                // A whole file was acknowledged from the address of its number, where ARP may not reach.
                let number = lots::own_address(ctx.roll, client);
                if let Some(number) = number.filter(|&number| ctx.roll.plan.address(number) == Some(*transfer.session().peer().ip())) {
                    lots::came_up(ctx, number);
                }
            }
            None => log::debug!("{}: tftp {name} {size} {took}", transfer.session().peer()),
        }
        self.end(ctx, key);
    }

    /// The client sent an ERROR: after a size probe that is how it says thanks.
    fn ended_by_client(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>) {
        let Some(transfer) = self.transfers.get(key) else { return };
        if transfer.state() == TransferState::Oack {
            ctx.stats.count(Counter::TftpProbe);
        } else {
            ctx.stats.count(Counter::TftpAborted);
            let (name, at, size) = (Printable(transfer.session().name()), Bytes(transfer.progress()), Bytes(transfer.content().size()));
            match transfer.session().client() {
                Some(client) => ctx.roll.note(client, format_args!("tftp {name} ended by the client at {at} of {size}")),
                None => log::debug!("{}: tftp {name} ended by the client at {at} of {size}", transfer.session().peer()),
            }
        }
        self.end(ctx, key);
    }

    fn gave_up(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>) {
        let Some(transfer) = self.transfers.get(key) else { return };
        ctx.stats.count(Counter::TftpGaveUp);
        let (name, at, size) = (Printable(transfer.session().name()), Bytes(transfer.progress()), Bytes(transfer.content().size()));
        let silence = Seconds(ctx.now.since(transfer.look().heard()));
        let place = Text::<96>::of(format_args!("tftp {name} at {at} of {size}"));
        let stalled = transfer.session().client().filter(|_| transfer.window().acked() > 0);
        match stalled {
            Some(client) => {
                ctx.roll.finish_story(
                    ctx.now,
                    client,
                    log::Level::Warn,
                    format_args!("stalled: tftp {name} at {at} of {size}, silent for {silence}"),
                );
            }
            None => log::debug!("{}: tftp {name} at {at} of {size}: silent for {silence}", transfer.session().peer()),
        }
        self.end(ctx, key);
        if let Some(client) = stalled.filter(|key| is_loaded(ctx, *key)) {
            ctx.roll.mark_stuck(client, format_args!("{place}"));
        }
    }

    /// Ends all transfers of a link, at their looks, which are due now.
    pub fn abandon(&mut self, now: Instant, link: Link) {
        if let Some(abandoned) = self.abandoned.get_mut(usize::from(link)) {
            *abandoned = Some(now);
        }
        for (key, _) in self.transfers.iter().filter(|(_, transfer)| transfer.session().link() == link) {
            self.wheel.set(key.slot(), now);
        }
    }

    /// Whether its link was abandoned since it began.
    pub(super) fn is_abandoned(&self, transfer: &Transfer) -> bool {
        let session = transfer.session();
        let abandoned = self.abandoned.get(usize::from(session.link())).copied().flatten();
        abandoned.is_some_and(|abandoned| session.began() <= abandoned)
    }

    /// Ends a transfer and lets go of what it holds.
    fn end(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>) {
        let Some(mut transfer) = self.transfers.remove(key) else { return };
        let (link, peer) = (transfer.session().link(), transfer.session().peer());
        transfer.ended(ctx.pace.lane(link), ctx.now, turns::waiter(key));
        self.wheel.cancel(key.slot());
        self.chains.remove(key.slot());
        self.by_key.remove(Session::key(peer, transfer.session().port()));
        if self.by_peer.get(Session::peer_key(peer)) == Some(key.slot() as u32) {
            self.by_peer.remove(Session::peer_key(peer));
        }
        if transfer.state() != TransferState::Opening {
            ctx.out.put(Output::DropRow { place: key.slot() as u32 });
        }
        if let Some(hold) = transfer.content().hold() {
            self.held.release(key.slot(), hold);
        }
        if let Some(file) = transfer.content().file() {
            ctx.out.put(Output::CloseFile { file });
        }
        let Some(key) = transfer.session().client() else { return };
        let Some(client) = ctx.roll.get_mut(key) else { return };
        if client.loading.ends() && client.boot.stage() == Stage::Loading {
            ctx.roll.enter(ctx.now, key, Stage::Loaded, format_args!(""));
        }
    }
}

/// Whether a machine loads nothing any more.
fn is_loaded(ctx: &Ctx<'_>, key: Key<Client>) -> bool {
    ctx.roll.get(key).is_some_and(|client| client.loading.running() == 0 && client.boot.stage() == Stage::Loaded)
}

impl Transfer {
    /// Writes the text that is made for its client. None: it is no client of ours, or has no kernel to boot.
    fn make(&self, ctx: &Ctx<'_>, what: Made, text: &mut [u8]) -> Option<TransferSource> {
        let client = ctx.roll.get(self.session().client()?)?;
        let len = what.write(ctx.config, client, *self.session().server().ip(), text)?;
        let hash = text.get(..len)?.iter().fold(0, |hash, &byte| mix(hash ^ u64::from(byte)));
        Some(TransferSource::Made { what, len: len as u64, hash })
    }
}

impl Session {
    /// Whether the head has the address by which the client knows it. A virtual one may go for a moment.
    pub(super) fn is_reachable(&self, config: &Config) -> bool {
        config.links.get(usize::from(self.link())).is_some_and(|link| link.has(*self.server().ip()))
    }
}

#[cfg(test)]
mod tests;
