//! Changes of the roll by an operator's word: worked out whole, then shown or done.
//!
//! A change is a list of lots with what they become, in an order in which each can be set: who loses a MAC comes before who gets it. The
//! last change is remembered, and can be taken back as long as nobody has touched its lots since. `[[node]]` sections are
//! the config's: what they say is changed there.

use std::cmp::Ordering;
use std::net::Ipv4Addr;

use crate::base::addr::Mac;
use crate::base::slab::Key;
use crate::roll::client::Client;
use crate::roll::journal::Verdict;
use crate::roll::lot::{By, Lot, Macs, Papers, State, Wait};
use crate::roll::plan::Number;
use crate::roll::ranges::{self, Ranges};
use crate::roll::ruling::{self, Ruling};
use crate::wire::control::{self, Change, Changed, Entry, LotChange, Sorry};

use super::super::{Ctx, lots};
use super::{Refusal, look};

/// Lots of a change that are shown one by one.
const SHOWN: usize = 64;
/// What names all guests that passed and wait.
const HELD: &str = "@held";

/// The last change: lots with what they were and what they became.
#[derive(Default)]
pub struct Undo(Vec<(Number, Lot, Lot)>);

/// What a wish comes to.
#[derive(Default)]
struct Plan {
    lots: Vec<(Number, Lot)>,
    notes: Vec<String>,
}

impl Plan {
    /// A lot as it will be when what is planned so far is done.
    fn lot(&self, ctx: &Ctx<'_>, number: Number) -> Lot {
        let planned = self.lots.iter().rev().find(|(other, _)| *other == number).map(|(_, lot)| *lot);
        planned.or_else(|| ctx.roll.street().lot(number).copied()).unwrap_or_default()
    }

    fn set(&mut self, number: Number, lot: Lot) {
        self.lots.push((number, lot));
    }

    /// Lets whoever has a MAC lose it to `to`.
    fn free(&mut self, ctx: &Ctx<'_>, mac: Mac, to: Number) -> Result<(), Refusal> {
        let Some(owner) = ctx.roll.street().number_of(mac).filter(|&owner| owner != to) else { return Ok(()) };
        let mut lot = self.lot(ctx, owner);
        if !lot.papers.macs.contains(mac) {
            return Ok(());
        }
        own(owner, &lot)?;
        lot.papers.macs.remove(mac);
        let left = if lot.papers.macs.is_empty() { Lot { retired: lot.retired, since: ctx.unix, ..Lot::default() } } else { lot };
        self.notes.push(format!("{owner} loses {mac}{}", if left.is_vacant() { " and is vacant then" } else { "" }));
        self.set(owner, left);
        Ok(())
    }
}

/// Refuses what the config says.
fn own(number: Number, lot: &Lot) -> Result<(), Refusal> {
    match lot.by {
        By::Config(_) if lot.is_occupied() => Err(Refusal::new(
            format!("{number} is what a [[node]] section says"),
            "change the section in the config, then say muster reload",
        )),
        _ => Ok(()),
    }
}

/// Changes the roll as an operator wishes, or (`dry`) says what that would do. The numbers and MACs of the wish have been checked.
pub fn change(ctx: &mut Ctx<'_>, undo: &mut Undo, wish: &Change, dry: bool) -> Result<Changed, Refusal> {
    let plan = match wish {
        Change::Set { number, macs, add, remove, reserve } => set(ctx, Number(*number), macs.as_deref(), (add, remove), *reserve)?,
        Change::Replace { number, by } => replace(ctx, Number(*number), by.as_ref())?,
        Change::Out { nodes } => out(ctx, nodes)?,
        Change::Enlist { guest, number } => enlist(ctx, guest, number.map(Number))?,
        Change::Import { entries, .. } => import(ctx, entries),
        Change::Undo => take_back(ctx, undo)?,
    };
    // What a lot is in the end counts; what it was before the first step as well.
    let mut touched: Vec<Number> = plan.lots.iter().map(|(number, _)| *number).collect();
    touched.sort_unstable();
    touched.dedup();
    let was = |number: Number| ctx.roll.street().lot(number).copied().unwrap_or_default();
    let mut all: Vec<(Number, Lot, Lot)> = touched.iter().map(|&number| (number, was(number), plan.lot(ctx, number))).collect();
    all.retain(|(_, before, after)| before != after);
    if !dry && !all.is_empty() {
        lots::change_all(ctx, &plan.lots).map_err(|trouble| Refusal::new(trouble.to_string(), "see muster status, and the log"))?;
        let became = |number: Number| ctx.roll.street().lot(number).copied().unwrap_or_default();
        all.iter_mut().for_each(|(number, _, after)| *after = became(*number));
        match wish {
            Change::Import { part: 1.., .. } => undo.0.extend(&all),
            _ => undo.0 = all.clone(),
        }
    }
    let shown = all.iter().take(SHOWN).map(|(number, before, after)| LotChange {
        number: number.0,
        before: look::lot(before),
        after: look::lot(after),
    });
    let numbers: Ranges = all.iter().map(|(number, ..)| number.0).collect();
    Ok(Changed { dry, count: all.len() as u32, nodes: numbers.to_string(), lots: shown.collect(), notes: plan.notes })
}

fn set(
    ctx: &Ctx<'_>,
    number: Number,
    macs: Option<&[Mac]>,
    (add, remove): (&[Mac], &[Mac]),
    reserve: Option<bool>,
) -> Result<Plan, Refusal> {
    let mut plan = Plan::default();
    let lot = plan.lot(ctx, number);
    own(number, &lot)?;
    if let Some(reserve) = reserve {
        let wanted = match (reserve, lot.state) {
            (_, State::Occupied) => {
                let hint = format!("say muster node replace {number}, or muster node out {number}");
                return Err(Refusal::new(format!("a machine lives in {number}"), hint));
            }
            (true, _) => lot.reserved(Wait::Operator, ctx.unix),
            (false, _) => lot.emptied(ctx.unix),
        };
        plan.set(number, wanted);
        return Ok(plan);
    }
    let kept = lot.papers.macs.as_slice().iter().filter(|mac| !remove.contains(mac));
    let wanted: Vec<Mac> = macs.map_or_else(|| kept.chain(add).copied().collect(), <[Mac]>::to_vec);
    let list: Macs = wanted.iter().copied().collect();
    if wanted.iter().any(|mac| !list.contains(*mac)) {
        return Err(Refusal::new("a machine has at most 16 MAC addresses", "leave those out that it never boots from"));
    }
    if list.is_empty() {
        return Err(Refusal::new(format!("{number} would have no MAC address left"), format!("say muster node out {number}")));
    }
    for mac in list.as_slice() {
        plan.free(ctx, *mac, number)?;
    }
    // What another machine showed of itself says nothing of this one.
    let same = list.as_slice().iter().any(|mac| lot.papers.macs.contains(*mac));
    let papers = Papers { macs: list, ..if same { lot.papers } else { Papers::default() } };
    plan.set(number, lot.occupied(papers, By::Operator, ctx.unix));
    Ok(plan)
}

fn replace(ctx: &Ctx<'_>, number: Number, by: Option<&control::By>) -> Result<Plan, Refusal> {
    let mut plan = Plan::default();
    let lot = plan.lot(ctx, number);
    own(number, &lot)?;
    if lot.is_vacant() {
        return Err(Refusal::new(
            format!("nobody lives in {number}"),
            format!("to keep it for somebody say muster node set {number} --reserve"),
        ));
    }
    let wait = match by {
        None => Wait::Next,
        Some(control::By::Mac(mac)) => {
            if let Some(other) = ctx.roll.street().number_of(*mac).filter(|&other| other != number) {
                return Err(Refusal::new(format!("{mac} is {other} already"), format!("take it out there first: muster node out {other}")));
            }
            Wait::Mac(*mac)
        }
        Some(control::By::Guest(id)) => {
            let guest = guest(ctx, id)?;
            plan.set(number, ruling::enlisted(&lot.emptied(ctx.unix), &guest.shown(), By::Operator, ctx.unix));
            return Ok(plan);
        }
    };
    plan.set(number, lot.reserved(wait, ctx.unix));
    Ok(plan)
}

fn out(ctx: &Ctx<'_>, nodes: &str) -> Result<Plan, Refusal> {
    let selection = ranges::parse(nodes).map_err(|wrong| Refusal::new(wrong.to_string(), ""))?;
    let mut plan = Plan::default();
    for number in selection.numbers.iter().map(Number) {
        let lot = plan.lot(ctx, number);
        own(number, &lot)?;
        match lot.is_vacant() {
            true => plan.notes.push(format!("{number} is vacant already")),
            false => plan.set(number, lot.emptied(ctx.unix)),
        }
    }
    if !plan.lots.is_empty() {
        plan.notes.push("a machine that still runs keeps its address until it renews".into());
    }
    Ok(plan)
}

/// A machine without a number, by its MAC, its client-id or its address.
fn guest<'a>(ctx: &'a Ctx<'_>, id: &str) -> Result<&'a Client, Refusal> {
    let address: Option<Ipv4Addr> = id.parse().ok();
    let mut guests = ctx.roll.iter().map(|(_, client)| client).filter(|client| client.number.is_none());
    let found =
        guests.find(|client| client.identity.to_string() == id.to_ascii_lowercase() || (address.is_some() && client.address == address));
    let client = found.ok_or_else(|| Refusal::new(format!("{id} is no guest here"), "see muster guest list for those that are"))?;
    if client.mac == Mac::ZERO {
        return Err(Refusal::new(format!("{id} has no MAC address, and cannot have a number"), ""));
    }
    Ok(client)
}

fn enlist(ctx: &Ctx<'_>, id: &str, number: Option<Number>) -> Result<Plan, Refusal> {
    if id == HELD {
        return enlist_held(ctx, number);
    }
    let client = guest(ctx, id)?;
    let mut plan = Plan::default();
    let number = match number {
        Some(number) => number,
        None => vacant(ctx, &plan, client)?,
    };
    let lot = plan.lot(ctx, number);
    if lot.is_occupied() {
        return Err(Refusal::new(format!("a machine lives in {number}"), format!("say muster node replace {number} --guest {id}")));
    }
    plan.set(number, ruling::enlisted(&lot, &client.shown(), By::Operator, ctx.unix));
    Ok(plan)
}

/// The number that a guest would get.
fn vacant(ctx: &Ctx<'_>, plan: &Plan, client: &Client) -> Result<Number, Refusal> {
    let key = ctx.roll.find(&client.identity);
    let ruling = key.map(|key| lots::rule(ctx, key, usize::from(client.network), true));
    match ruling {
        Some(Ruling::Enlist(number)) if plan.lots.is_empty() => Ok(number),
        Some(Ruling::Enlist(first)) => {
            let subnet = ctx.config.networks.get(usize::from(client.network)).map(|network| network.subnet);
            let ranges = subnet.into_iter().flat_map(|subnet| ctx.roll.plan.numbers_in(subnet));
            let mut numbers = ranges.flat_map(|(from, to)| from.0..=to.0).map(Number).skip_while(|&number| number < first);
            let free = numbers.find(|&number| plan.lot(ctx, number).is_vacant());
            free.ok_or_else(|| Refusal::new("no number is vacant on its network", "raise cluster.nodes, or take nodes out"))
        }
        Some(Ruling::Guest(reason)) => Err(Refusal::new(format!("{} {reason}", client.identity), "")),
        _ => Err(Refusal::new(format!("{} has a number already", client.identity), "see muster node list")),
    }
}

/// All that passed and wait are numbered together: by their switch ports, where all of them have shown one, else as they came.
fn enlist_held(ctx: &Ctx<'_>, first: Option<Number>) -> Result<Plan, Refusal> {
    let waits = |key: &Key<Client>, client: &Client| {
        client.number.is_none()
            && client.verdict == Verdict::Passed
            && matches!(lots::rule(ctx, *key, usize::from(client.network), true), Ruling::Enlist(_))
    };
    let mut held: Vec<&Client> = ctx.roll.iter().filter(|(key, client)| waits(key, client)).map(|(_, client)| client).collect();
    let by_port = held.iter().all(|client| !client.papers.port.is_empty());
    held.sort_by(|a, b| match by_port {
        true => as_people_count(a.papers.port.as_str(), b.papers.port.as_str()).then(a.arrived.cmp(&b.arrived)),
        false => a.arrived.cmp(&b.arrived),
    });
    let mut plan = Plan::default();
    if held.is_empty() {
        return Err(Refusal::new("no guest waits for a number", "see muster guest list"));
    }
    plan.notes.push(format!("numbered {}", if by_port { "by switch port" } else { "in the order in which they came" }));
    let mut next = first;
    for client in held {
        let number = match next {
            Some(number) => number,
            None => vacant(ctx, &plan, client)?,
        };
        let lot = plan.lot(ctx, number);
        if lot.is_occupied() || ctx.roll.street().lot(number).is_none() {
            return Err(Refusal::new(
                format!("{number} cannot be given to {}: it is no vacant lot", client.identity),
                "give a number with enough vacant ones behind it",
            ));
        }
        plan.set(number, ruling::enlisted(&lot, &client.shown(), By::Operator, ctx.unix));
        next = next.map(|number| Number(number.0 + 1));
    }
    Ok(plan)
}

/// The order of switch ports: `eth1/2` before `eth1/10`, and that before `eth2/1`.
fn as_people_count(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (from, to) = (digits(a), digits(b));
        let order = match (from, to) {
            (0, _) | (_, 0) => a.bytes().next().cmp(&b.bytes().next()),
            _ => {
                let (x, y) = (a[..from].trim_start_matches('0'), b[..to].trim_start_matches('0'));
                x.len().cmp(&y.len()).then(x.cmp(y))
            }
        };
        if order.is_ne() || a.is_empty() {
            return order;
        }
        a = a.get(from.max(1)..).unwrap_or_default();
        b = b.get(to.max(1)..).unwrap_or_default();
    }
}

/// How many ASCII digits a text begins with.
fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// Known machines from elsewhere: those that contradict nothing.
fn import(ctx: &Ctx<'_>, entries: &[Entry]) -> Plan {
    let mut plan = Plan::default();
    for entry in entries {
        let number = Number(entry.number);
        let lot = plan.lot(ctx, number);
        let macs: Macs = entry.macs.iter().copied().collect();
        let planned =
            |mac: &Mac| plan.lots.iter().find(|(other, lot)| *other != number && lot.papers.macs.contains(*mac)).map(|(other, _)| *other);
        let taken = |mac: &Mac| ctx.roll.street().number_of(*mac).filter(|&other| other != number).or_else(|| planned(mac));
        let owner = macs.as_slice().iter().find_map(|mac| taken(mac).map(|other| format!("{mac} is {other} already")));
        let stranger = lot.is_occupied() && !macs.as_slice().iter().any(|mac| lot.papers.macs.contains(*mac));
        let trouble = match owner {
            _ if macs.is_empty() => Some("no MAC address is given".to_string()),
            Some(owner) => Some(owner),
            None if stranger => Some("another machine lives there".to_string()),
            None => None,
        };
        if let Some(trouble) = trouble {
            plan.notes.push(format!("{number} is left out: {trouble}"));
            continue;
        }
        if macs.as_slice().iter().all(|mac| lot.papers.macs.contains(*mac)) {
            continue;
        }
        let all = lot.papers.macs.as_slice().iter().chain(macs.as_slice()).copied().collect();
        let by = if lot.is_occupied() { lot.by } else { By::Operator };
        plan.set(number, lot.occupied(Papers { macs: all, ..lot.papers }, by, ctx.unix));
    }
    plan
}

fn take_back(ctx: &Ctx<'_>, undo: &Undo) -> Result<Plan, Refusal> {
    if undo.0.is_empty() {
        return Err(Sorry::new("there is nothing to take back", "only the last change since the daemon's start can be"));
    }
    // A machine that came up under the number that it was given is still what the change made of it.
    let now = |number: &Number, after: &Lot| ctx.roll.street().lot(*number).map(|lot| Lot { unseen: after.unseen, ..*lot });
    let touched = undo.0.iter().find(|(number, _, after)| now(number, after).as_ref() != Some(after));
    if let Some((number, ..)) = touched {
        return Err(Sorry::new(format!("{number} has changed since"), "set it right by hand: muster node set"));
    }
    // Who gives MACs back comes first.
    let gives =
        |(_, before, after): &&(Number, Lot, Lot)| after.papers.macs.as_slice().iter().any(|mac| !before.papers.macs.contains(*mac));
    let (givers, takers): (Vec<_>, Vec<_>) = undo.0.iter().partition(gives);
    let mut lots: Vec<(Number, Lot)> = Vec::new();
    for (number, before, after) in &givers {
        // One that both gives and takes lets go first.
        let mut between = *before;
        between.papers.macs = before.papers.macs.as_slice().iter().copied().filter(|mac| after.papers.macs.contains(*mac)).collect();
        if between.papers.macs != before.papers.macs && !between.papers.macs.is_empty() {
            lots.push((*number, between));
        }
        if between.papers.macs.is_empty() && !before.papers.macs.is_empty() {
            lots.push((*number, Lot::default()));
        }
    }
    lots.extend(givers.iter().chain(&takers).map(|(number, before, _)| (*number, *before)));
    Ok(Plan { lots, notes: Vec::new() })
}
