//! A restart is no event: what is kept of each transfer while it runs ([`rows`](super::rows)), and how the next daemon takes it up.
//!
//! A transfer goes on where its client stands: DATA n+1 follows from ACK n and the file, on the same ports. Its file is opened again first, a
//! few at a time, and must be what it was; until then its client is heard and not answered. A made text must come out the same.
//!
//! | what was left | what becomes of it |
//! |---|---|
//! | the head's address, or the port, is none of ours any more | dropped |
//! | its client has been silent for longer than it has patience | dropped |
//! | no place, or another transfer runs between these ports | dropped |
//! | the file is another one, or gone; the text comes out otherwise | ended by an ERROR |
//! | everything else | goes on |
//!
//! Nothing leaves at once: looks are spread, each transfer waits for its turn as all do, and the measured rate is measured anew.
//!
//! An ACK of a transfer that is nobody's gets no ERROR 5 (RFC 1350, 4), now or later: firmware that has just asked again from the same port
//! believes whatever comes from any port first, and a late copy of an old ACK would end its new transfer. Who lost his transfer notices by himself.

use std::time::Duration;

use crate::base::limits::CHECK_INTERVAL;
use crate::base::machine::{Link, OpenFile, RowMark};
use crate::base::outbox::Output;
use crate::base::slab::Key;
use crate::engine::Ctx;
use crate::engine::pace::WaitQueue;
use crate::engine::returning::{self, Returning};
use crate::roll::client::{Client, Identity};
use crate::roll::kind::FirmwareKind;
use crate::roll::story::Printable;
use crate::wire::tftp::ErrorCode;

use super::admission::begins;
use super::rows::{KeptProgress, KeptSource, KeptTransfer};
use super::transfer::{Session, Transfer, TransferSource, TransferState};
use super::turns::TURN_BYTES;
use super::{Counter, STRANGERS, Tftp, answer};

/// Files that are being opened again at a time.
const OPENING_MAX: usize = 32;
/// Looks at transfers that were taken up are spread over so many steps of this length.
const SPREAD: (usize, Duration) = (64, Duration::from_millis(3));

impl Tftp {
    /// The transfer has answered its request: from now on it is kept.
    pub(super) fn keep(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>) {
        let Some(transfer) = self.transfers.get(key) else { return };
        let (session, content) = (transfer.session(), transfer.content());
        let source = match content.source() {
            TransferSource::File(OpenFile { size, stamp, .. }) | TransferSource::Again { size, stamp } => KeptSource::File { size, stamp },
            TransferSource::Made { what, len, hash } => KeptSource::Made { what, len, hash },
            TransferSource::Opening => return,
        };
        let client = session.client().and_then(|key| ctx.roll.get(key));
        let identity = client.and_then(|client| match client.identity() {
            Identity::Mac(mac) => Some(mac),
            Identity::ClientId(_) => None,
        });
        let kept = KeptTransfer {
            head: session.server(),
            peer: session.peer(),
            mac: session.mac(),
            identity,
            arch: client.and_then(|client| client.evidence.arch()),
            program: client.map_or(FirmwareKind::Other, |client| client.evidence.kind()),
            origin: session.origin(),
            kind: session.kind(),
            request: session.request(),
            began: session.began(),
            options: *session.options(),
            blksize: content.blksize(),
            windowsize: transfer.window().size(),
            netascii: content.netascii().is_some(),
            source,
            name: session.path(),
        };
        ctx.out.row(key.slot() as u32, |buf| kept.write(buf));
        self.mark(ctx, key);
    }

    /// The transfer has got on.
    pub(super) fn mark(&self, ctx: &mut Ctx<'_>, key: Key<Transfer>) {
        if let Some(transfer) = self.transfers.get(key).filter(|transfer| transfer.state() != TransferState::Opening) {
            ctx.out.put(Output::MarkRow { place: key.slot() as u32, mark: transfer.mark() });
        }
    }

    /// Takes up what an earlier daemon has left of a transfer.
    pub fn take_up(&mut self, ctx: &mut Ctx<'_>, row: &[u8], mark: RowMark) {
        let progress = KeptProgress::of(mark);
        let taken = match KeptTransfer::read(row) {
            Some(kept) => self.take(ctx, &kept, &progress),
            None => Err(Counter::TftpRowUnread),
        };
        ctx.stats.count(taken.map_or_else(|dropped| dropped, |()| Counter::TftpTakenUp));
    }

    fn take(&mut self, ctx: &mut Ctx<'_>, kept: &KeptTransfer<'_>, progress: &KeptProgress) -> Result<(), Counter> {
        let link = ctx.config.links.iter().position(|link| link.has(*kept.head.ip())).ok_or(Counter::TftpRowElsewhere)? as Link;
        let (first, last) = ctx.config.tftp.ports;
        if !(first..=last).contains(&kept.head.port()) || !ctx.config.serves(link, *kept.peer.ip()) {
            return Err(Counter::TftpRowElsewhere);
        }
        let machine = kept.identity.map(|mac| Returning {
            address: *kept.peer.ip(),
            identity: Identity::Mac(mac),
            arch: kept.arch,
            program: kept.program,
        });
        let patience = super::policy::of(kept.kind).patience.min(ctx.config.tftp.give_up);
        if progress.heard > ctx.now || ctx.now.since(progress.heard) >= patience {
            return Err(Counter::TftpRowOld);
        }
        let runs = self.by_key.get(Session::key(kept.peer, kept.head.port())).is_some();
        if runs || self.transfers.is_full() {
            return Err(Counter::TftpRowNoPlace);
        }
        let client = machine.and_then(|machine| returning::record(ctx, &machine));
        let session = Session::taken_up(link, client, kept);
        let transfer = Transfer::taken_up(ctx.now, session, kept, progress).ok_or(Counter::TftpRowUnread)?;
        let key = self.transfers.insert(transfer).ok_or(Counter::TftpRowNoPlace)?;
        self.enlist(ctx, key, client);
        self.keep(ctx, key);
        Ok(())
    }

    /// Gives a transfer that was taken up its places in the tables.
    fn enlist(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>, client: Option<Key<Client>>) {
        let Some(transfer) = self.transfers.get_mut(key) else { return };
        let (peer, port, slot) = (transfer.session().peer(), transfer.session().port(), key.slot());
        let (reopens, quiet) = (transfer.is_reopening(), transfer.session().is_strangers() && !transfer.look().is_met());
        transfer.goes_on(ctx.pace.lane(transfer.session().link()), TURN_BYTES);
        let fits = self.by_key.insert(Session::key(peer, port), slot as u32) && self.by_peer.insert(Session::peer_key(peer), slot as u32);
        assert!(fits, "the index has a place for every record");
        let (steps, step) = SPREAD;
        self.wheel.set(slot, ctx.now + CHECK_INTERVAL / 2 + step * (slot % steps) as u32);
        if quiet {
            self.chains.push(STRANGERS, slot);
        }
        // The next transfer of the client is to get another port than this one.
        let count = (port - ctx.config.tftp.ports.0) as u8;
        match client.and_then(|client| ctx.roll.get_mut(client)) {
            Some(client) => client.loading.goes_on_from(count),
            None => self.begun = count,
        }
        if let Some(client) = client {
            begins(ctx, client, key.to_u64());
        }
        if reopens {
            self.reopened.push_back(key);
        }
    }

    /// Whether files are to be opened again, and may be.
    pub(super) fn may_reopen(&self) -> bool {
        !self.reopened.is_empty() && self.opening < OPENING_MAX
    }

    /// Has files opened that an earlier daemon had open.
    pub(super) fn reopen(&mut self, ctx: &mut Ctx<'_>) {
        while self.may_reopen() && ctx.out.has_room() {
            let Some(key) = self.reopened.pop_front() else { return };
            if let Some(transfer) = self.transfers.get(key) {
                self.opening += usize::from(ctx.out.open(key.to_u64(), transfer.session().path()));
            }
        }
    }

    /// The file of a transfer that was taken up is open. True: it is the one that it was.
    pub(super) fn is_same(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>, open: OpenFile) -> bool {
        let Some(transfer) = self.transfers.get(key) else { return false };
        let TransferSource::Again { size, stamp } = transfer.content().source() else { return true };
        if (size, stamp) == (open.size, open.stamp) {
            return true;
        }
        ctx.out.put(Output::CloseFile { file: open.file });
        ctx.stats.count(Counter::TftpChanged);
        let name = Printable(transfer.session().name());
        if let Some(more) = self.told_changed.allow(ctx.now) {
            log::warn!("{}: tftp {name} ended (the file was replaced while musterd was restarted{more})", transfer.session().peer());
        }
        if let Some(client) = transfer.session().client() {
            ctx.roll.note(client, format_args!("tftp {name}: replaced during a restart"));
        }
        answer::error_to(ctx, transfer, ErrorCode::NotDefined, "the file was replaced while it was being sent: ask again");
        self.end(ctx, key);
        false
    }

    /// A transfer that was taken up may send again.
    pub(super) fn goes_on(&mut self, ctx: &mut Ctx<'_>, key: Key<Transfer>) {
        if self.transfers.get(key).is_some_and(|transfer| !transfer.awaits_answer()) {
            self.want(ctx, key, WaitQueue::Ring);
        }
    }
}
