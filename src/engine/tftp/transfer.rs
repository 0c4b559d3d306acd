//! One transfer. It is made of parts whose fields are their own; only a method that names an event changes anything.
//!
//! | part | what it knows |
//! |---|---|
//! | [`Session`] | who loads, by which ports, what was asked for |
//! | [`Content`] | the file or made text, and where its blocks lie |
//! | [`Window`] | which blocks have left and arrived; what an ACK means |
//! | [`Look`] | when its client was heard, and what was tried in vain since |
//! | [`Traffic`] | what is under way, as its lane knows it |
//!
//! | state | what happens | next state |
//! |---|---|---|
//! | opening | its first turn, and options were asked for | oack |
//! | opening | its first turn, without options | data |
//! | oack | ACK 0, or one of data that left before the request was repeated | data |
//! | data, nothing acknowledged | the request is repeated | oack |

mod content;
mod look;
mod session;
mod traffic;
mod window;

use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::machine::{OpenFile, RowMark};
use crate::base::outbox::Via;
use crate::base::time::Instant;
use crate::engine::pace::{Lane, WaitQueue, Waiter};
use crate::wire::tftp::TftpOptions;

use super::files::Hold;
use super::netascii::Cursor;
use super::rows::{KeptProgress, KeptSource, KeptTransfer};
use super::{OACK_BYTES, wire_bytes};
use look::Silence;
use traffic::Traffic;

pub use content::{Content, TransferSource};
pub use look::Look;
pub use session::{Asked, Asker, Requester, Session};
pub use window::{Ack, Window};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferState {
    /// Waiting for the file, or for its first turn.
    Opening,
    /// The OACK was sent, ACK 0 is awaited (RFC 2347).
    Oack,
    Data,
}

/// What is due in the data phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DataDue {
    /// The next blocks of the window, as far as it has more.
    Next,
    /// The OACK or the last block again: a look found no answer.
    Again,
    /// Blocks of a cold disk: they are asked for again in a moment.
    Warm,
}

/// What a turn sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnOutput {
    /// The answer to the request.
    First,
    Oack,
    /// The last block that left, alone: it makes the client say where it stands; a whole window would be mostly duplicates.
    Again(u64),
    /// The blocks `first..=last`; `rest`: the window has more, for another turn.
    Blocks {
        first: u64,
        last: u64,
        rest: bool,
    },
    Nothing,
}

/// What is settled when the file is known.
pub struct Settled {
    /// What is acknowledged.
    pub options: TftpOptions,
    pub blksize: u16,
    pub windowsize: u16,
    /// Blocks in all; the maximum where that is not known.
    pub blocks: u64,
}

pub struct Transfer {
    session: Session,
    content: Content,
    window: Window,
    look: Look,
    traffic: Traffic,
    state: TransferState,
    due: DataDue,
}

/// What there is to know of it.
impl Transfer {
    pub fn session(&self) -> &Session {
        &self.session
    }

    pub fn content(&self) -> &Content {
        &self.content
    }

    pub fn window(&self) -> &Window {
        &self.window
    }

    pub fn look(&self) -> &Look {
        &self.look
    }

    pub fn state(&self) -> TransferState {
        self.state
    }

    /// Payload bytes that have arrived.
    pub fn progress(&self) -> u64 {
        (self.window.acked() * u64::from(self.content.blksize())).min(self.content.size())
    }

    /// How its packets leave, all of them by one way, so that they keep their order: in lock-step as frames to where its own come from,
    /// without a question to ARP; windows through the kernel, which cuts them up.
    pub fn via(&self) -> Via {
        match self.session.mac() {
            Some(mac) if self.window.size() == 1 && mac.is_individual() => Via::Mac(mac),
            _ => Via::Kernel,
        }
    }

    /// Whether nobody knows if its client is there, or who it is: it is no evidence, and is served in the quiet share.
    pub fn is_quiet(&self) -> bool {
        self.look.is_silent() || self.session.is_strangers()
    }

    /// Where it waits for what nobody asked for, or for its first packet.
    pub fn place_unasked(&self) -> WaitQueue {
        match self.look.silence() {
            Silence::Long => WaitQueue::LongSilent,
            Silence::Silent => WaitQueue::Silent,
            _ if self.session.is_strangers() => WaitQueue::Stranger,
            Silence::None => WaitQueue::New,
            Silence::Missed => WaitQueue::Lost,
        }
    }

    /// Where it waits, when `place` is for who is known to be there.
    pub fn place(&self, place: WaitQueue) -> WaitQueue {
        if self.is_quiet() { self.place_unasked() } else { place }
    }

    /// Whether a frame from this MAC may speak for its client. Behind a router, another one may have taken the router's place: that is
    /// believed when nothing more comes from the old one.
    pub fn may_come_from(&self, mac: Option<Mac>) -> bool {
        let (Some(ours), Some(theirs)) = (self.session.mac(), mac) else { return true };
        ours == theirs || (self.session.origin() != Requester::Record && self.look.is_unheard())
    }

    /// Whether its file is being opened once more, since another daemon has opened it before: nothing can leave.
    pub fn is_reopening(&self) -> bool {
        matches!(self.content.source(), TransferSource::Again { .. })
    }

    /// How far it has come, for the daemon after this one.
    pub fn mark(&self) -> RowMark {
        let acked = (self.state != TransferState::Oack).then_some(self.window.acked());
        let start = self.content.netascii().map(|cursor| cursor.start()).unwrap_or_default();
        KeptProgress { acked, heard: self.look.heard(), resent: self.look.resent(), start }.mark()
    }

    /// Whether something that has left is not answered.
    pub fn awaits_answer(&self) -> bool {
        match self.state {
            TransferState::Opening => false,
            TransferState::Oack => true,
            TransferState::Data => self.window.under_way() > 0,
        }
    }

    /// How soon after our last packet an ACK that repeats the last one cannot be an answer to it. In lock-step it is an echo until a client
    /// may retry by itself; in windows it says at once that the first block was lost (RFC 7440, 4), but no sooner than a round trip allows.
    fn echo(&self) -> Duration {
        let early = self.session.policy().early;
        let least = self.traffic.witness().least();
        if self.window.size() > 1 && !least.is_zero() { early.min(least / 2) } else { early }
    }

    /// What an ACK of a block number means now, and the block that is acknowledged.
    pub fn judge(&self, now: Instant, block: u16) -> (Ack, u64) {
        let early = self.look.since_sending(now) < self.echo() && !self.look.is_probed();
        self.window.judge(block, early)
    }

    /// Blocks of this many payload bytes in all, but one at least and no more than a window.
    fn turn_blocks(&self, bytes: u64) -> u64 {
        (bytes / u64::from(self.content.blksize())).clamp(1, self.window.size().into())
    }

    /// What it sends in a turn of this many payload bytes.
    pub fn sending(&self, bytes: u64) -> TurnOutput {
        match (self.state, self.due) {
            (TransferState::Opening, _) => TurnOutput::First,
            (TransferState::Oack, _) => TurnOutput::Oack,
            (TransferState::Data, DataDue::Again) if self.window.under_way() > 0 => TurnOutput::Again(self.window.sent()),
            (TransferState::Data, _) => {
                let (first, end) = (self.window.sent() + 1, self.window.end());
                let last = end.min(self.window.sent() + self.turn_blocks(bytes));
                if first > last { TurnOutput::Nothing } else { TurnOutput::Blocks { first, last, rest: last < end } }
            }
        }
    }
}

/// What happens to it.
impl Transfer {
    pub fn new(now: Instant, session: Session, asked: &Asked<'_>) -> Transfer {
        Transfer {
            session,
            content: Content::new(asked.name, asked.netascii),
            window: Window::NEW,
            look: Look::new(now),
            traffic: Traffic::default(),
            state: TransferState::Opening,
            due: DataDue::Next,
        }
    }

    /// As an earlier daemon has left it. What that one had sent since the client spoke last is awaited as if this one had sent it: the client
    /// answers it, or asks again, or the half-second look does. None: what was left of it cannot be.
    pub fn taken_up(now: Instant, session: Session, kept: &KeptTransfer<'_>, progress: &KeptProgress) -> Option<Transfer> {
        let (source, size) = match kept.source {
            KeptSource::File { size, stamp } => (TransferSource::Again { size, stamp }, size),
            KeptSource::Made { what, len, hash } => (TransferSource::Made { what, len, hash }, len),
        };
        let blocks = if kept.netascii { u64::MAX } else { size / u64::from(kept.blksize) + 1 };
        let mut window = Window::taken_up(progress.acked.unwrap_or(0), kept.windowsize, blocks)?;
        if kept.netascii {
            // Where a block ends is known when it was made: this daemon has made none.
            window.forgotten();
        } else if progress.acked.is_none() {
            window.rewound();
        }
        let look = Look::taken_up(now, progress, session.policy().early);
        let content = Content::taken_up(source, kept.netascii.then_some(progress.start), kept.blksize);
        let state = if progress.acked.is_none() { TransferState::Oack } else { TransferState::Data };
        Some(Transfer { session, content, window, look, traffic: Traffic::default(), state, due: DataDue::Next })
    }

    /// It goes on in this lane; `turn`: payload bytes of each of its turns.
    pub fn goes_on(&mut self, lane: &mut Lane, turn: u64) {
        let block = wire_bytes(self.content.blksize().into());
        self.traffic.begins(lane, self.turn_blocks(turn) * block, self.is_quiet());
    }

    /// The one writer of the state.
    fn enter(&mut self, state: TransferState) {
        use TransferState::{Data, Oack, Opening};
        let may = matches!((self.state, state), (Opening, Oack | Data) | (Oack, Data) | (Oack | Data, Oack));
        assert!(may, "{:?} does not lead to {state:?}", self.state);
        self.state = state;
    }

    /// What a look wanted again is not due any more. Blocks that are not in memory are awaited all the same.
    fn go_on(&mut self) {
        if self.due == DataDue::Again {
            self.due = DataDue::Next;
        }
    }

    /// A packet that may speak for its client came from this MAC.
    pub fn came_from(&mut self, mac: Option<Mac>) {
        self.session.came_from(mac);
    }

    /// The file is open.
    pub fn opened(&mut self, open: OpenFile) {
        self.content.opened(open);
    }

    /// It has a place among those who hold the file.
    pub fn held(&mut self, hold: Option<Hold>) {
        self.content.held(hold);
    }

    /// The root has no such file, and this was made instead.
    pub fn was_made(&mut self, made: TransferSource) {
        self.content.was_made(made);
    }

    pub fn settled(&mut self, settled: Settled) {
        let Settled { options, blksize, windowsize, blocks } = settled;
        self.session.settled(options);
        self.content.settled(blksize);
        self.window.settled(windowsize, blocks);
    }

    /// Its first turn; `turn`: payload bytes of each one that follows.
    pub fn begins(&mut self, lane: &mut Lane, turn: u64) {
        // A smaller window than was asked for is as good (RFC 7440, 4), and leaves room for everybody in half a second.
        let block = wire_bytes(self.content.blksize().into());
        self.window.narrowed((lane.window_share() / block).max(1));
        self.session.narrowed(self.window.size());
        self.traffic.begins(lane, self.turn_blocks(turn) * block, self.is_quiet());
        self.enter(if self.session.options().is_empty() { TransferState::Data } else { TransferState::Oack });
    }

    /// The request that began it came again.
    pub fn asked_again(&mut self, now: Instant) {
        self.look.asked(now);
    }

    /// The request is answered again by an OACK.
    pub fn starts_over(&mut self, lane: &mut Lane, now: Instant) {
        self.given_up(lane, now);
        self.enter(TransferState::Oack);
        self.window.rewound();
    }

    /// The OACK leaves.
    pub fn oack_left(&mut self, lane: &mut Lane, now: Instant) {
        self.go_on();
        self.look.oack_left(now);
        self.left(lane, now, (1, OACK_BYTES), true);
    }

    /// The blocks `first..=last` leave; gives how many of them not for the first time. `again`: a look wanted the last one of them alone.
    pub fn blocks_left(&mut self, lane: &mut Lane, now: Instant, (first, last): (u64, u64), again: bool) -> u64 {
        self.go_on();
        self.look.blocks_left(now, again && self.window.under_way() > 1);
        let resent = self.window.left(first, last);
        let packets = last + 1 - first;
        let full = wire_bytes(self.content.blksize().into());
        // The last block of a file is short; where the length is not known, all are reckoned full.
        let final_bytes = if last == self.window.blocks() { wire_bytes(self.content.extent(last).1) } else { full };
        // The last of a window is acknowledged, and all before it with it.
        self.left(lane, now, (packets, (packets - 1) * full + final_bytes), last == self.window.end());
        resent
    }

    fn left(&mut self, lane: &mut Lane, now: Instant, (packets, bytes): (u64, u64), answered: bool) {
        if self.is_quiet() {
            return lane.sent_quietly(now, bytes);
        }
        self.traffic.left(lane, now, (packets, bytes), answered);
    }

    /// ACK 0 of the OACK, or of data that left before a repeated request was answered again. True: it was ACK 0.
    pub fn oack_answered(&mut self, block: u16) -> bool {
        if self.state != TransferState::Oack || u64::from(block) > self.window.highest() {
            return false;
        }
        self.enter(TransferState::Data);
        block == 0
    }

    /// Everything under way has arrived.
    pub fn arrived(&mut self, lane: &mut Lane, now: Instant) {
        self.traffic.arrived(lane, now, self.look.resent() == 0);
    }

    /// The client says that something of what is under way was lost.
    pub fn lost(&mut self, lane: &mut Lane, now: Instant) {
        let quiet = self.is_quiet();
        self.traffic.lost(lane, now, quiet);
    }

    /// The client stands behind this block, and wants the next ones.
    pub fn progressed(&mut self, block: u64) {
        self.window.acknowledged(block);
        self.look.progressed();
        self.go_on();
        if block > 0 {
            self.content.arrived();
        }
    }

    /// The client asks again for what follows its last ACK.
    pub fn retried(&mut self, now: Instant) {
        self.look.retried(now);
    }

    /// What is not acknowledged will leave again, as soon as there is room.
    pub fn rewound(&mut self, lane: &mut Lane, now: Instant) {
        self.given_up(lane, now);
        self.window.rewound();
        self.go_on();
    }

    /// Something came from its client: it is there, and waits where those do, if it waits.
    pub fn heard(&mut self, lane: &mut Lane, now: Instant, waiter: Waiter) {
        let (quiet, silent) = (self.is_quiet(), self.look.is_silent());
        self.look.answered(now);
        let still = self.is_quiet();
        if quiet && (silent || !still) && lane.waits(waiter) {
            lane.change(self.place(WaitQueue::Lost), waiter);
        }
        self.traffic.heard(lane, now, still, silent);
    }

    /// A look finds that something is not answered; gives the place for what it sends now.
    pub fn missed(&mut self, lane: &mut Lane, now: Instant) -> WaitQueue {
        self.look.missed();
        self.traffic.missed(lane, now);
        if self.state == TransferState::Data && self.look.resent() > 1 && self.window.under_way() > 1 {
            // It does not say where it stands: some clients say so once for each gap.
            self.window.rewound();
            self.go_on();
        } else {
            self.due = DataDue::Again;
        }
        self.place_unasked()
    }

    /// It counts no longer among those who load.
    pub fn counts_no_more(&mut self, lane: &mut Lane, now: Instant) {
        self.traffic.counts_no_more(lane, now);
    }

    /// Another transfer speaks for its client.
    pub fn muted(&mut self) {
        self.traffic.muted();
    }

    /// The blocks were not in memory: nothing was sent.
    pub fn cold(&mut self, lane: &mut Lane, now: Instant) {
        self.given_up(lane, now);
        self.window.rewound();
        self.due = DataDue::Warm;
    }

    /// What was not in memory is there, or ought to be. False: nothing was awaited.
    pub fn warm(&mut self) -> bool {
        let awaited = self.due == DataDue::Warm;
        if awaited {
            self.due = DataDue::Next;
        }
        awaited
    }

    /// The cursor of a netascii text has gone on.
    pub fn moved(&mut self, cursor: Cursor) {
        self.content.moved(cursor);
    }

    /// This netascii block is the last one.
    pub fn ends_at(&mut self, block: u64) {
        self.window.ends_at(block);
    }

    /// It ends, and its lane forgets it.
    pub fn ended(&mut self, lane: &mut Lane, now: Instant, waiter: Waiter) {
        self.given_up(lane, now);
        lane.leave(waiter);
        self.counts_no_more(lane, now);
    }

    fn given_up(&mut self, lane: &mut Lane, now: Instant) {
        self.traffic.given_up(lane, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::machine::Datagram;
    use crate::engine::pace::Taker;
    use crate::roll::kind::FirmwareKind;
    use std::net::{Ipv4Addr, SocketAddrV4};

    fn transfer(mac: Option<Mac>, windowsize: u16) -> Transfer {
        let src = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 9), 2070);
        let datagram = Datagram { endpoint: 0, mac, src, dst: src, payload: b"" };
        let asker = Asker { client: None, origin: Requester::Record, kind: FirmwareKind::Other };
        let asked = Asked { name: b"vmlinuz", options: TftpOptions::default(), netascii: false, hash: 0 };
        let mut transfer = Transfer::new(
            Instant::ZERO,
            Session::new(Instant::ZERO, 0, SocketAddrV4::new(*src.ip(), 20069), asker, &datagram, &asked),
            &asked,
        );
        transfer.settled(Settled { options: asked.options, blksize: 512, windowsize, blocks: 99 });
        transfer
    }

    fn lane() -> Lane {
        Lane::new(&[Taker { service: 0, records: 1 }], None, Duration::from_millis(2), Instant::ZERO)
    }

    #[test]
    fn lock_step_leaves_by_the_way_it_came() {
        let mac = Mac([2, 0, 0, 0, 0, 9]);
        assert_eq!(transfer(Some(mac), 1).via(), Via::Mac(mac));
        assert_eq!(transfer(Some(mac), 4).via(), Via::Kernel);
        for mac in [None, Some(Mac::ZERO)] {
            assert_eq!(transfer(mac, 1).via(), Via::Kernel, "no way is known, or that of the loopback");
        }
        assert_eq!(transfer(None, 1).session().name(), b"vmlinuz");
    }

    #[test]
    fn what_a_turn_sends() {
        let (mut it, mut lane, now) = (transfer(None, 8), lane(), Instant::ZERO);
        assert_eq!(it.sending(2048), TurnOutput::First);
        it.begins(&mut lane, 2048);
        assert_eq!(it.sending(2048), TurnOutput::Blocks { first: 1, last: 4, rest: true });
        it.blocks_left(&mut lane, now, (1, 4), false);
        assert_eq!(it.sending(4096), TurnOutput::Blocks { first: 5, last: 8, rest: false });
        it.blocks_left(&mut lane, now, (5, 8), false);
        assert_eq!(it.sending(4096), TurnOutput::Nothing);
        it.missed(&mut lane, now);
        assert_eq!(it.sending(4096), TurnOutput::Again(8));
        it.cold(&mut lane, now);
        assert_eq!(it.sending(4096), TurnOutput::Blocks { first: 1, last: 8, rest: false }, "nothing of it has left");
        assert_eq!((it.warm(), it.warm()), (true, false));
    }

    #[test]
    fn the_answer_to_a_probe_comes_at_once() {
        let (mut it, mut lane, now) = (transfer(None, 4), lane(), Instant::ZERO);
        it.begins(&mut lane, 2048);
        it.blocks_left(&mut lane, now, (1, 4), false);
        it.progressed(4);
        it.blocks_left(&mut lane, now, (5, 8), false);
        assert_eq!(it.judge(now, 4), (Ack::Echo, 4));
        it.missed(&mut lane, now);
        it.blocks_left(&mut lane, now, (8, 8), true);
        assert_eq!(it.judge(now, 4), (Ack::Retry, 4));
    }

    /// States have one writer, which knows what leads where.
    #[test]
    #[should_panic(expected = "Data does not lead to Data")]
    fn a_transfer_begins_once() {
        let (mut it, mut lane) = (transfer(None, 1), lane());
        it.begins(&mut lane, 512);
        it.begins(&mut lane, 512);
    }

    #[test]
    fn the_oack_and_what_answers_it() {
        let mut it = transfer(None, 1);
        let mut lane = lane();
        it.session.settled(TftpOptions { tsize: Some(0), ..TftpOptions::default() });
        it.begins(&mut lane, 512);
        assert_eq!((it.state(), it.oack_answered(1)), (TransferState::Oack, false), "nothing has left that this could acknowledge");
        assert!(it.oack_answered(0) && it.state() == TransferState::Data);
        it.blocks_left(&mut lane, Instant::ZERO, (1, 1), false);
        it.starts_over(&mut lane, Instant::ZERO);
        assert_eq!((it.state(), it.window().sent()), (TransferState::Oack, 0), "its request was repeated");
        assert!(!it.oack_answered(1) && it.state() == TransferState::Data, "but an ACK of the data was on its way");
    }
}
