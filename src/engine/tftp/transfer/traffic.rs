//! What a transfer is to its lane (`engine::pace`): what is under way, what its client knows of the way, and whether it counts in the lap.

use crate::base::time::Instant;
use crate::engine::pace::{Lane, SendStamp, Witness};

#[derive(Default)]
pub struct Traffic {
    /// What is under way. None of somebody quiet ever is.
    stamp: Option<SendStamp>,
    witness: Witness,
    /// A look has given something up as lost. It counts as evidence of the way when the client speaks.
    missed: bool,
    /// Wire bytes of one turn; 0 before the first.
    turn: u64,
    /// It counts in its link's lap.
    counted: bool,
}

impl Traffic {
    pub fn witness(&self) -> &Witness {
        &self.witness
    }

    /// Its client speaks by another transfer from now on.
    pub fn muted(&mut self) {
        self.witness.silence();
    }

    /// It begins; `turn`: wire bytes of each of its turns.
    pub fn begins(&mut self, lane: &mut Lane, turn: u64, quiet: bool) {
        self.turn = turn;
        if !quiet {
            self.counts(lane);
        }
    }

    fn counts(&mut self, lane: &mut Lane) {
        if self.turn > 0 && !std::mem::replace(&mut self.counted, true) {
            lane.begins(self.turn);
        }
    }

    /// It counts no longer among those who load.
    pub fn counts_no_more(&mut self, lane: &mut Lane, now: Instant) {
        if std::mem::take(&mut self.counted) {
            lane.ends(now, self.turn);
        }
    }

    /// Packets leave, with this many wire bytes in all; `answered`: they will be acknowledged at once.
    pub fn left(&mut self, lane: &mut Lane, now: Instant, (packets, bytes): (u64, u64), answered: bool) {
        let stamp = lane.bottleneck.sent(now, bytes, packets, answered);
        self.stamp = Some(self.stamp.map_or(stamp, |old| old.and(stamp)));
    }

    /// Everything under way has arrived. Not `certain` after a re-transmission.
    pub fn arrived(&mut self, lane: &mut Lane, now: Instant, certain: bool) {
        if let Some(stamp) = self.stamp.take() {
            lane.bottleneck.acknowledged(now, stamp, &mut self.witness, certain);
        }
    }

    /// What is under way is waited for no longer. False: nothing was.
    pub fn given_up(&mut self, lane: &mut Lane, now: Instant) -> bool {
        let Some(stamp) = self.stamp.take() else { return false };
        lane.bottleneck.given_up(now, stamp);
        true
    }

    /// The client says that something of what is under way was lost. Who asks again while its answer waits for a turn has lost nothing.
    pub fn lost(&mut self, lane: &mut Lane, now: Instant, quiet: bool) {
        if self.given_up(lane, now) && !quiet {
            lane.bottleneck.lost(now, &mut self.witness);
        }
    }

    /// A look finds no answer. Whether what was under way was lost is for the client to say: it may be dead.
    pub fn missed(&mut self, lane: &mut Lane, now: Instant) {
        self.missed |= self.given_up(lane, now);
    }

    /// The client speaks. What a look gave up has been lost, then, unless that is too long ago to say anything of the way: it was `silent`.
    pub fn heard(&mut self, lane: &mut Lane, now: Instant, quiet: bool, silent: bool) {
        let missed = std::mem::take(&mut self.missed);
        if quiet {
            return;
        }
        if missed && !silent {
            lane.bottleneck.lost(now, &mut self.witness);
        }
        self.counts(lane);
    }
}
