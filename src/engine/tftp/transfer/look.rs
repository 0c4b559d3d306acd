//! What a look at a transfer sees: when its client was heard, when something left last, and what was tried in vain since (law 7).

use std::time::Duration;

use crate::base::time::Instant;
use crate::engine::tftp::rows::KeptProgress;

/// Sendings that nobody asked for and nobody answered, after which a transfer is silent, and has been so for long.
const SILENT_AFTER: u8 = 2;
const LONG_SILENT_AFTER: u8 = 4;

/// How long nothing has come of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    None,
    /// One sending was in vain.
    Missed,
    /// Several were: it is no evidence of the way any more (`engine::pace`).
    Silent,
    Long,
}

pub struct Look {
    heard: Instant,
    /// Something was acknowledged: its client is there.
    met: bool,
    left: Instant,
    /// What left last was the last block of a window by itself, to make the client say where it stands: its answer is no echo.
    probed: bool,
    /// Sendings nobody asked for since the last progress, and since anything was heard.
    resent: u8,
    unheard: u8,
    /// Its client's own retries since the last progress, of what was sent to it meanwhile; and when the last one came.
    retries: u8,
    retried: Instant,
}

impl Look {
    pub fn new(now: Instant) -> Look {
        Look { heard: now, met: false, left: now, probed: false, resent: 0, unheard: 0, retries: 0, retried: Instant::ZERO }
    }

    /// As an earlier daemon has left it. What that one sent is no longer under way: an ACK that comes now is no echo of it.
    pub(super) fn taken_up(now: Instant, progress: &KeptProgress, early: Duration) -> Look {
        let KeptProgress { acked, heard, resent, .. } = *progress;
        Look { heard, met: acked > Some(0), left: now - early, resent, ..Look::new(now) }
    }

    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// Something was acknowledged: its client is there.
    pub fn is_met(&self) -> bool {
        self.met
    }

    /// How long ago something left.
    pub fn since_sending(&self, now: Instant) -> Duration {
        now.since(self.left)
    }

    /// Whether what left last makes the client say where it stands.
    pub fn is_probed(&self) -> bool {
        self.probed
    }

    /// Sendings that nobody asked for since the last progress.
    pub fn resent(&self) -> u8 {
        self.resent
    }

    /// Whether a look has found no answer since anything was heard.
    pub fn is_unheard(&self) -> bool {
        self.unheard > 0
    }

    /// How long nothing has come of it. A client that asks for the same three times or more counts as silent.
    pub fn silence(&self) -> Silence {
        match self.unheard.max(self.retries.saturating_sub(1)) {
            LONG_SILENT_AFTER.. => Silence::Long,
            SILENT_AFTER.. => Silence::Silent,
            0 => Silence::None,
            _ => Silence::Missed,
        }
    }

    /// Whether it has not answered for several looks, or not got on.
    pub fn is_silent(&self) -> bool {
        matches!(self.silence(), Silence::Silent | Silence::Long)
    }

    /// Its request came again.
    pub(super) fn asked(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Its client is there.
    pub(super) fn answered(&mut self, now: Instant) {
        (self.heard, self.unheard, self.met) = (now, 0, true);
    }

    /// The OACK leaves.
    pub(super) fn oack_left(&mut self, now: Instant) {
        self.left = now;
    }

    /// Blocks leave; `probe`: one that makes the client say where it stands.
    pub(super) fn blocks_left(&mut self, now: Instant, probe: bool) {
        (self.left, self.probed) = (now, probe);
    }

    /// A look finds no answer.
    pub(super) fn missed(&mut self) {
        self.resent = self.resent.saturating_add(1);
        self.unheard = self.unheard.saturating_add(1);
    }

    /// Its client asks again. Who does that while it waits for its turn has not been answered.
    pub(super) fn retried(&mut self, now: Instant) {
        let answered = std::mem::replace(&mut self.retried, now) <= self.left;
        self.retries = self.retries.saturating_add(u8::from(answered));
    }

    /// It has got on.
    pub(super) fn progressed(&mut self) {
        (self.resent, self.retries) = (0, 0);
    }
}
