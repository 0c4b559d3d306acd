//! A change in the making: lots with what they are and what they become, each once, found by number. Its steps are allocated as it grows, since no
//! packet waits for an operator's change, and given back when it is done: room for all lots from the start would be a seventh of the daemon.

use std::fmt;

use crate::roll::lot::Lot;
use crate::roll::plan::Number;

use super::super::Ctx;

/// Notes that are kept one by one, at most.
const NOTES: usize = 64;

/// One lot of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DraftedLot {
    pub number: Number,
    pub before: Lot,
    pub after: Lot,
}

pub struct Draft {
    steps: Vec<DraftedLot>,
    /// By number: one more than its place among the steps; 0 for none.
    places: Box<[u32]>,
    notes: Vec<String>,
    /// Notes for which there was no room.
    more: usize,
    last: Option<String>,
}

impl Draft {
    pub fn new(nodes: u32) -> Draft {
        let nodes = nodes as usize;
        Draft { steps: Vec::new(), places: vec![0; nodes].into(), notes: Vec::new(), more: 0, last: None }
    }

    /// Has room for so many numbers from now on; keeps its steps. Allocates.
    pub fn resize(&mut self, nodes: u32) {
        self.places = vec![0; nodes as usize].into();
        self.find_places();
    }

    pub fn clear(&mut self) {
        self.forget_places();
        self.steps = Vec::new();
        self.notes.clear();
        (self.more, self.last) = (0, None);
    }

    fn forget_places(&mut self) {
        for step in &self.steps {
            self.places.iter_mut().skip(step.number.0 as usize).take(1).for_each(|place| *place = 0);
        }
    }

    fn find_places(&mut self) {
        for (step, at) in self.steps.iter().zip(1..) {
            self.places.iter_mut().skip(step.number.0 as usize).take(1).for_each(|place| *place = at);
        }
    }

    fn place(&self, number: Number) -> Option<usize> {
        (*self.places.get(number.0 as usize)? as usize).checked_sub(1)
    }

    pub fn has(&self, number: Number) -> bool {
        self.place(number).is_some()
    }

    /// A lot as it will be when what is drafted so far is done.
    pub fn lot(&self, ctx: &Ctx<'_>, number: Number) -> Lot {
        let drafted = self.place(number).and_then(|at| self.steps.get(at)).map(|step| &step.after);
        drafted.or_else(|| ctx.roll.lots().lot(number)).copied().unwrap_or_default()
    }

    /// Lets a lot become something. A number without a lot is left out.
    pub fn set(&mut self, ctx: &Ctx<'_>, number: Number, after: Lot) {
        if let Some(step) = self.place(number).and_then(|at| self.steps.get_mut(at)) {
            step.after = after;
            return;
        }
        let (Some(place), Some(before)) = (self.places.get_mut(number.0 as usize), ctx.roll.lots().lot(number)) else { return };
        self.steps.push(DraftedLot { number, before: *before, after });
        *place = self.steps.len() as u32;
    }

    /// Puts what there is to know beside.
    pub fn note(&mut self, note: fmt::Arguments<'_>) {
        match self.notes.len() < NOTES {
            true => self.notes.push(note.to_string()),
            false => self.more += 1,
        }
    }

    /// What is to be known behind all that.
    pub fn last_note(&mut self, note: fmt::Arguments<'_>) {
        self.last = Some(note.to_string());
    }

    /// Takes the notes out.
    pub fn notes(&mut self) -> Vec<String> {
        let more = (self.more > 0).then(|| format!("and {} more notes like these", self.more));
        let mut notes = std::mem::take(&mut self.notes);
        notes.extend(more.into_iter().chain(self.last.take()));
        notes
    }

    /// The draft is whole: its steps are sorted by number, and those that change nothing go.
    pub fn settle(&mut self) {
        self.forget_places();
        self.steps.retain(|step| step.before != step.after);
        self.steps.sort_unstable_by_key(|step| step.number);
        self.find_places();
    }

    pub fn steps(&self) -> &[DraftedLot] {
        &self.steps
    }

    /// What the lots have become.
    pub fn became(&mut self, lot: impl Fn(Number) -> Lot) {
        self.steps.iter_mut().for_each(|step| step.after = lot(step.number));
    }
}
