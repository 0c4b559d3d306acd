//! Where one machine stands in its boot, since when, and what happened on the way. [`Registry::enter`](super::registry::Registry::enter) alone takes it on.

use std::fmt;
use std::time::Duration;

use crate::base::text::Text;
use crate::base::time::Instant;

use super::stage::Stage;
use super::story::Story;

/// After this long in a stage that should lead on, the log says that the machine stalls.
const STALL: Duration = Duration::from_secs(15);
/// After this long of silence behind its last transfer, a boot counts as ended: not every system asks for a lease.
const QUIET: Duration = Duration::from_secs(60);

/// A machine's boot. Written by the roll alone.
#[derive(Clone)]
pub struct BootProgress {
    stage: Stage,
    since: Instant,
    began: Instant,
    /// When to say that it stalls; None once said.
    stall_at: Option<Instant>,
    /// When each stage was reached first in this boot, in the order of [`Stage::ALL`]; zero: not yet.
    reached: [Instant; Stage::ALL.len()],
    /// Where it is stuck; empty while it is not.
    stuck: Text<96>,
    story: Story,
}

impl BootProgress {
    pub(super) fn new(now: Instant) -> BootProgress {
        BootProgress {
            stage: Stage::Discover,
            since: now,
            began: now,
            stall_at: None,
            reached: [Instant::ZERO; Stage::ALL.len()],
            stuck: Text::default(),
            story: Story::default(),
        }
    }

    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// When it entered its stage.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// When this boot began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// When a stage was reached first in this boot.
    pub fn reached(&self, stage: Stage) -> Option<Instant> {
        self.reached.get(stage as usize).copied().filter(|at| *at != Instant::ZERO)
    }

    /// Where it is stuck.
    pub fn stuck(&self) -> Option<&Text<96>> {
        Some(&self.stuck).filter(|text| !text.is_empty())
    }

    pub fn story(&self) -> &Story {
        &self.story
    }

    pub(super) fn stall_at(&self) -> Option<Instant> {
        self.stall_at
    }

    /// Whether it stalls, to be said once.
    pub(super) fn stalls(&mut self, now: Instant) -> bool {
        self.stall_at.take_if(|at| *at <= now).is_some()
    }

    /// Takes the boot to a stage. Gives the one before.
    pub(super) fn enter(&mut self, now: Instant, stage: Stage) -> Stage {
        debug_assert!(self.stage.leads_to().contains(&stage), "{:?} does not lead to {stage:?}", self.stage);
        let before = std::mem::replace(&mut self.stage, stage);
        self.since = now;
        self.stuck.clear();
        if stage == Stage::Discover && self.story.is_empty() {
            self.reached = [Instant::ZERO; Stage::ALL.len()];
        }
        if let Some(reached) = self.reached.get_mut(stage as usize).filter(|at| **at == Instant::ZERO) {
            *reached = now;
        }
        self.stall_at = match stage {
            Stage::Offered | Stage::Leased => Some(now + STALL),
            Stage::Loaded => Some(now + QUIET),
            Stage::Discover | Stage::Probing | Stage::Loading | Stage::Up => None,
        };
        before
    }

    /// The machine was up before this server was: its boot is not known.
    pub(super) fn was_up(&mut self) {
        self.stage = Stage::Up;
    }

    pub(super) fn mark_stuck(&mut self, place: fmt::Arguments<'_>) {
        self.stuck = Text::of(place);
    }

    pub(super) fn note(&mut self, note: fmt::Arguments<'_>) {
        self.story.add(note);
    }

    /// Begins the story of a new boot.
    pub(super) fn begin(&mut self, now: Instant) {
        self.story.clear();
        self.began = now;
    }
}
