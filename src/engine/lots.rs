//! Changes of lots: each on the record, in one step.
//!
//! The engines and the operator's commands change the street here alone. A change is in force in memory at once, so that nobody else gets
//! the number, and is told to nobody before its record is on disk (`Roll::promised_by`).

use std::fmt;

use crate::base::stats::Counter;
use crate::roll::journal::Event;
use crate::roll::lot::{Lot, Papers, Wait};
use crate::roll::plan::Number;
use crate::roll::registry::Promise;
use crate::roll::ruling;
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

/// Gives a machine its number. `word`: an operator said so.
pub fn enlist(ctx: &mut Ctx<'_>, number: Number, papers: &Papers, word: bool) -> Result<(), Trouble> {
    let lot = ctx.roll.street().lot(number).copied().unwrap_or_default();
    change(ctx, number, ruling::enlisted(&lot, papers, word, ctx.unix))?;
    ctx.stats.count(Counter::Enlisted);
    Ok(())
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
