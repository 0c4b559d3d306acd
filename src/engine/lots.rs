//! Changes of lots: each on the record, in one step.
//!
//! The engines and the operator's commands change the street here alone. A change is in force in memory at once, so that nobody else gets
//! the number, and is told to nobody before its record is on disk (`Roll::promised_by`).

use std::fmt;

use crate::base::limits;
use crate::base::slab::Key;
use crate::base::stats::Counter;
use crate::roll::client::Client;
use crate::roll::journal::Event;
use crate::roll::lot::{By, Lot, Papers, Wait};
use crate::roll::plan::Number;
use crate::roll::registry::Promise;
use crate::roll::ruling::{self, Reason, Ruling, View};
use crate::roll::street::Clash;

use super::Ctx;

/// Why a lot was not changed. Nothing was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    Clash(Clash),
    /// Too many records wait for the disk.
    Busy,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Clash(clash) => clash.fmt(f),
            Trouble::Busy => f.write_str("the journal's disk does not keep up: try again when it does, or see whether it is full"),
        }
    }
}

/// Rules on what a client showed last, on a network: `word` is the operator's.
pub fn rule(ctx: &Ctx<'_>, key: Key<Client>, network: usize, word: bool) -> Ruling {
    rule_beside(ctx, key, network, word, &[])
}

/// The same, for numbers whose bit is not set in `spoken_for`.
pub fn rule_beside(ctx: &Ctx<'_>, key: Key<Client>, network: usize, word: bool, spoken_for: &[u64]) -> Ruling {
    let (Some(client), Some(network)) = (ctx.roll.get(key), ctx.config.networks.get(network)) else {
        return Ruling::Guest(Reason::Untested);
    };
    let ignored = ctx.config.ignore.iter().any(|pattern| pattern.matches(client.mac));
    let view = View { street: ctx.roll.street(), numbering: ctx.config.numbering, ignored, way: client.way, mac: client.mac, spoken_for };
    ruling::rule(&view, &client.shown(), client.verdict, ctx.roll.plan.numbers_in(network.subnet), word)
}

/// Changes lots in their order, all of them or none. Two that belong together are one record.
pub fn change_all(ctx: &mut Ctx<'_>, lots: &[(Number, Lot)]) -> Result<(), Trouble> {
    let records = if lots.len() <= 2 { 1 } else { lots.len() as u64 };
    if ctx.roll.keeper.pending() + records > limits::JOURNAL_PENDING as u64 {
        return Err(Trouble::Busy);
    }
    let seq = ctx.roll.keeper.written();
    let mut before = Vec::with_capacity(lots.len());
    let mut trouble = None;
    for (at, (number, lot)) in lots.iter().enumerate() {
        let old = (*number, ctx.roll.street().lot(*number).copied().unwrap_or_default(), ctx.roll.promise(*number));
        let record = seq + if records == 1 { 1 } else { at as u64 + 1 };
        match ctx.roll.set_lot(*number, *lot, Promise::by(record)) {
            Ok(()) => before.push(old),
            Err(clash) => {
                trouble = Some(Trouble::Clash(clash));
                break;
            }
        }
    }
    let events: Vec<Event> =
        lots.iter().map(|(number, _)| Event::Lot(*number, ctx.roll.street().lot(*number).copied().unwrap_or_default())).collect();
    if trouble.is_none() {
        let together = if records == 1 { events.len().max(1) } else { 1 };
        if events.chunks(together).all(|events| ctx.record(events).is_some()) {
            return Ok(());
        }
        trouble = Some(Trouble::Busy);
    }
    for (number, lot, promise) in before.into_iter().rev() {
        let undone = ctx.roll.set_lot(number, lot, promise);
        debug_assert!(undone.is_ok(), "what was so may be so again");
    }
    trouble.map_or(Ok(()), Err)
}

/// Changes a lot: its machine is told when the record is on disk, and not before.
pub fn change(ctx: &mut Ctx<'_>, number: Number, lot: Lot) -> Result<(), Trouble> {
    let seq = ctx.roll.keeper.next().ok_or(Trouble::Busy)?;
    set(ctx, number, lot, Promise::by(seq))
}

fn set(ctx: &mut Ctx<'_>, number: Number, lot: Lot, promise: Promise) -> Result<(), Trouble> {
    let before = ctx.roll.promise(number);
    let old = ctx.roll.street().lot(number).copied().unwrap_or_default();
    ctx.roll.set_lot(number, lot, promise).map_err(Trouble::Clash)?;
    let now = ctx.roll.street().lot(number).copied().unwrap_or_default();
    if ctx.record(&[Event::Lot(number, now)]).is_none() {
        let undone = ctx.roll.set_lot(number, old, before);
        debug_assert!(undone.is_ok(), "what was so may be so again");
        return Err(Trouble::Busy);
    }
    Ok(())
}

/// Gives a machine that passed its number.
pub fn enlist(ctx: &mut Ctx<'_>, number: Number, papers: &Papers) -> Result<(), Trouble> {
    let lot = ctx.roll.street().lot(number).copied().unwrap_or_default();
    change(ctx, number, ruling::enlisted(&lot, papers, By::Passed, ctx.unix))?;
    ctx.stats.count(Counter::Enlisted);
    Ok(())
}

/// A machine is heard under the address of its number: that is written once, after the number was given. What cannot be written now is when it
/// is heard again.
pub fn came_up(ctx: &mut Ctx<'_>, number: Number) {
    if let Some(lot) = ctx.roll.street().lot(number).copied().filter(|lot| lot.unseen) {
        let promise = ctx.roll.promise(number);
        if set(ctx, number, Lot { unseen: false, ..lot }, promise).is_ok() {
            log::debug!("{number} is heard under its address");
        }
    }
}

/// Takes a machine out for good; its number may be given to another, or is kept for one.
pub fn take_out(ctx: &mut Ctx<'_>, number: Number, kept_for: Option<Wait>) -> Result<(), Trouble> {
    let lot = ctx.roll.street().lot(number).copied().unwrap_or_default();
    let empty = match kept_for {
        Some(wait) => lot.reserved(wait, ctx.unix),
        None => lot.emptied(ctx.unix),
    };
    change(ctx, number, empty)
}

/// Adds to a node what its machine showed. What was promised to the MACs that are known stands.
pub fn learn(ctx: &mut Ctx<'_>, number: Number, papers: &Papers) -> Result<(), Trouble> {
    let lot = ctx.roll.street().lot(number).copied().unwrap_or_default();
    let seq = ctx.roll.keeper.next().ok_or(Trouble::Busy)?;
    let promise = ctx.roll.promise_more(number, seq);
    set(ctx, number, ruling::learnt(&lot, papers), promise)
}
