//! Changes of lots: each on the record, in one step.
//!
//! The engines and the operator's commands change the lot table here alone. A change is in force in memory at once, so that nobody else gets
//! the number, and nobody learns of it before its record is on disk (`Registry::promised_by`).

use std::fmt;

use super::dhcp::Counter;
use crate::base::machine::Seq;
use crate::base::slab::Key;
use crate::config::Config;
use crate::roll::client::Client;
use crate::roll::journal::{JournalEvent, Line};
use crate::roll::lot::{AssignedBy, Fingerprint, Lot};
use crate::roll::lot_table::Clash;
use crate::roll::plan::Number;
use crate::roll::registry::{Promise, Registry};
use crate::roll::ruling::{self, Reason, Ruling, RulingView};

use super::Ctx;

/// Why a lot was not changed. Nothing was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LotError {
    Clash(Clash),
    /// Too many records wait for the disk.
    Busy,
}

impl fmt::Display for LotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LotError::Clash(clash) => clash.fmt(f),
            LotError::Busy => f.write_str("the journal's disk is too slow (check that it is not full, then try again)"),
        }
    }
}

/// Rules on what a client showed last, on a network: `word` is the operator's.
pub fn rule(ctx: &Ctx<'_>, key: Key<Client>, network: usize, word: bool) -> Ruling {
    rule_beside(ctx, key, network, word, &[])
}

/// The same, for numbers whose bit is not set in `spoken_for`.
pub fn rule_beside(ctx: &Ctx<'_>, key: Key<Client>, network: usize, word: bool, spoken_for: &[u64]) -> Ruling {
    ruling(ctx.config, ctx.roll, key, network, word, spoken_for)
}

/// The same outside of a call.
pub fn ruling(config: &Config, roll: &Registry, key: Key<Client>, network: usize, word: bool, spoken_for: &[u64]) -> Ruling {
    let (Some(client), Some(network)) = (roll.get(key), config.networks.get(network)) else {
        return Ruling::Guest(Reason::Untested);
    };
    let ignored = config.ignore.iter().any(|pattern| pattern.matches(client.mac()));
    let view =
        RulingView { lots: roll.lots(), numbering: config.numbering, ignored, way: client.route.way(), mac: client.mac(), spoken_for };
    ruling::rule(&view, &client.shown(), client.evidence.verdict(), roll.plan.numbers_in(network.subnet), word)
}

/// Changes lots at once, each named once: all of them or none, in memory and on disk. Gives the record that is committed when all of it is. One or
/// two are a record; the records of more are put out piece by piece (`engine::changes`).
pub fn change_all<'a>(ctx: &mut Ctx<'_>, lots: impl ExactSizeIterator<Item = (Number, &'a Lot)> + Clone) -> Result<Seq, LotError> {
    let seq = ctx.commit.next().filter(|_| ctx.out.has_room()).ok_or(LotError::Busy)?;
    ctx.roll.set_lots(lots.clone(), Promise::by(seq)).map_err(LotError::Clash)?;
    let mut line = Line::new(ctx.unix);
    let now = |ctx: &Ctx<'_>, number: Number| ctx.roll.lots().lot(number).copied().unwrap_or_default();
    let few = lots.len() <= 2 && lots.clone().all(|(number, _)| line.add(&JournalEvent::Lot(number, now(ctx, number))));
    if !few {
        lots.for_each(|(number, _)| ctx.roll.unwritten.add(number));
    }
    let put_out = if few { ctx.append(&line) } else { ctx.begin_change() };
    assert!(put_out == Some(seq), "there was room for a record");
    Ok(seq)
}

/// Changes a lot. Its machine learns of it when the record is on disk, and not before.
pub fn change(ctx: &mut Ctx<'_>, number: Number, lot: Lot) -> Result<(), LotError> {
    let seq = ctx.commit.next().ok_or(LotError::Busy)?;
    set(ctx, number, lot, Promise::by(seq))
}

fn set(ctx: &mut Ctx<'_>, number: Number, lot: Lot, promise: Promise) -> Result<(), LotError> {
    let before = ctx.roll.promise(number);
    let old = ctx.roll.lots().lot(number).copied().unwrap_or_default();
    ctx.roll.set_lot(number, lot, promise).map_err(LotError::Clash)?;
    let now = ctx.roll.lots().lot(number).copied().unwrap_or_default();
    if ctx.record(&[JournalEvent::Lot(number, now)]).is_none() {
        let undone = ctx.roll.set_lot(number, old, before);
        debug_assert!(undone.is_ok(), "what was so may be so again");
        return Err(LotError::Busy);
    }
    Ok(())
}

/// Gives a machine that passed its number.
pub fn enlist(ctx: &mut Ctx<'_>, number: Number, fingerprint: &Fingerprint) -> Result<(), LotError> {
    let lot = ctx.roll.lots().lot(number).copied().unwrap_or_default();
    change(ctx, number, ruling::enlisted(&lot, fingerprint, AssignedBy::Passed, ctx.unix))?;
    ctx.stats.count(Counter::Enlisted);
    Ok(())
}

/// The number of a client that has the lease of its address.
pub fn own_address(roll: &Registry, key: Key<Client>) -> Option<Number> {
    let client = roll.get(key).filter(|client| client.is_leased())?;
    client.number().filter(|&number| client.address().is_some() && roll.plan.address(number) == client.address())
}

/// A machine is heard under the address of its number: that is written once, after the number was given. What cannot be written now is when it
/// is heard again.
pub fn came_up(ctx: &mut Ctx<'_>, number: Number) {
    if let Some(lot) = ctx.roll.lots().lot(number).copied().filter(|lot| lot.unseen) {
        let promise = ctx.roll.promise(number);
        if set(ctx, number, Lot { unseen: false, ..lot }, promise).is_ok() {
            log::debug!("{number}: came up at its address");
        }
    }
}

/// Adds to a node what its machine showed. What was promised to the MACs that are known stands.
pub fn learn(ctx: &mut Ctx<'_>, number: Number, fingerprint: &Fingerprint) -> Result<(), LotError> {
    let lot = ctx.roll.lots().lot(number).copied().unwrap_or_default();
    let seq = ctx.commit.next().ok_or(LotError::Busy)?;
    let promise = ctx.roll.promise_more(number, seq, ctx.commit.committed());
    set(ctx, number, ruling::learnt(&lot, fingerprint), promise)
}
