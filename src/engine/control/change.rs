//! Changes of the roll by an operator's word: worked out whole, then shown or done.
//!
//! A change is a list of lots with what they are and what they become: MACs may move between them in any way, since all are set at once. The
//! last change is remembered, and can be taken back as long as nobody has touched its lots since. `[[node]]` sections are
//! the config's: what they say is changed there.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::base::addr::Mac;
use crate::base::limits::NETWORKS_MAX;
use crate::base::machine::Seq;
use crate::base::slab::Key;
use crate::roll::client::Client;
use crate::roll::journal::Verdict;
use crate::roll::lot::{AssignedBy, Fingerprint, Lot, LotState, Macs, Wait};
use crate::roll::plan::Number;
use crate::roll::ranges::{self, Ranges};
use crate::roll::ruling::{self, Ruling};
use crate::wire::control::{self, Change, Changed, ImportEntry, LINE_MAX, LotChange, Rejection, Reply};

use super::super::{Ctx, lots, view};
use super::draft::{Draft, DraftedLot};

/// Lots of a change that are shown one by one.
const SHOWN: usize = 64;
/// The list of a change's numbers, in bytes: what is behind it in thousands of scattered numbers is left out.
const NODES_MAX: usize = 16 << 10;
/// What names all guests that passed and wait.
const HELD: &str = "@held";

/// What is being changed, and what was changed last; each allocates what it holds.
pub struct Desk {
    draft: Draft,
    undo: Draft,
}

impl Desk {
    pub fn new(nodes: u32) -> Desk {
        Desk { draft: Draft::new(nodes), undo: Draft::new(nodes) }
    }

    /// Has room for so many lots from now on. Allocates.
    pub fn resize(&mut self, nodes: u32) {
        self.draft = Draft::new(nodes);
        self.undo.resize(nodes);
    }
}

/// Refuses what the config says.
fn own(number: Number, lot: &Lot) -> Result<(), Rejection> {
    match lot.by {
        AssignedBy::Config(_) if lot.is_occupied() => {
            Err(Rejection::new(format!("a [[node]] section of the config sets {number}"), "change that section, then run muster reload"))
        }
        _ => Ok(()),
    }
}

/// Changes the roll as an operator wishes, or (`dry`) says what that would do. The numbers and MACs of the wish have been checked. Gives what is to
/// be answered, and the record that makes it true; none where nothing was changed.
pub fn change(ctx: &mut Ctx<'_>, desk: &mut Desk, wish: &Change, dry: bool) -> Result<(Changed, Option<Seq>), Rejection> {
    let Desk { draft, undo } = desk;
    draft.clear();
    match wish {
        Change::Set { number, macs, add, remove, reserve } => set(ctx, draft, Number(*number), (macs.as_deref(), add, remove), *reserve)?,
        Change::Replace { number, by } => replace(ctx, draft, Number(*number), by.as_ref())?,
        Change::Out { nodes } => out(ctx, draft, nodes)?,
        Change::Enlist { guest, number } => enlist(ctx, draft, guest, number.map(Number))?,
        Change::Import { entries, .. } => import(ctx, draft, entries),
        Change::Undo => take_back(ctx, draft, undo.steps())?,
    }
    draft.settle();
    let mut record = None;
    if !dry && !draft.steps().is_empty() {
        let lots = draft.steps().iter().map(|step| (step.number, &step.after));
        let put_out =
            lots::change_all(ctx, lots).map_err(|trouble| Rejection::new(trouble.to_string(), "see muster status and the log"))?;
        record = Some(put_out);
        // A lot that was set may be a little less than was wished: who lives in the lot table is retired nowhere.
        draft.became(|number| ctx.roll.lots().lot(number).copied().unwrap_or_default());
    }
    let changed = shown(draft, dry);
    if record.is_some() {
        std::mem::swap(&mut desk.draft, &mut desk.undo);
    }
    Ok((changed, record))
}

/// What a change does, as far as one line of an answer holds it.
fn shown(draft: &mut Draft, dry: bool) -> Changed {
    let numbers: Ranges = draft.steps().iter().map(|step| step.number.0).collect();
    let mut nodes = numbers.to_string();
    if nodes.len() > NODES_MAX {
        nodes.truncate(nodes.get(..NODES_MAX).and_then(|begin| begin.rfind(',')).unwrap_or(0));
        nodes.push_str(",...");
    }
    let first = draft.steps().iter().take(SHOWN);
    let lots =
        first.map(|step| LotChange { number: step.number.0, before: view::lot(&step.before), after: view::lot(&step.after) }).collect();
    let mut reply = Reply::Changed(Changed { dry, count: draft.steps().len() as u32, nodes, lots, notes: draft.notes() });
    let mut line = vec![0; LINE_MAX];
    // Machines with many cards, all of them with many more that are retired.
    while let (None, Reply::Changed(changed)) = (control::write(&mut line, &reply), &mut reply) {
        match changed.lots.len() {
            0 => changed.notes.clear(),
            some => changed.lots.truncate(some / 2),
        }
    }
    match reply {
        Reply::Changed(changed) => changed,
        _ => Changed::default(),
    }
}

fn set(
    ctx: &Ctx<'_>,
    draft: &mut Draft,
    number: Number,
    (macs, add, remove): (Option<&[Mac]>, &[Mac], &[Mac]),
    reserve: Option<bool>,
) -> Result<(), Rejection> {
    let lot = draft.lot(ctx, number);
    own(number, &lot)?;
    if let Some(reserve) = reserve {
        let wanted = match (reserve, lot.state) {
            (_, LotState::Occupied) => {
                let hint = format!("run muster node replace {number}, or muster node out {number}");
                return Err(Rejection::new(format!("{number} is in use"), hint));
            }
            (true, _) => lot.reserved(Wait::Operator, ctx.unix),
            (false, _) => lot.emptied(ctx.unix),
        };
        draft.set(ctx, number, wanted);
        return Ok(());
    }
    let kept = lot.fingerprint.macs.as_slice().iter().filter(|mac| !remove.contains(mac));
    let wanted: Vec<Mac> = macs.map_or_else(|| kept.chain(add).copied().collect(), <[Mac]>::to_vec);
    let list: Macs = wanted.iter().copied().collect();
    if wanted.iter().any(|mac| !list.contains(*mac)) {
        return Err(Rejection::new("a machine has at most 16 MAC addresses", "leave out those from which it never boots"));
    }
    if list.is_empty() {
        return Err(Rejection::new(
            format!("{number} would have no MAC address left"),
            format!("to remove the machine, run muster node out {number}"),
        ));
    }
    for mac in list.as_slice() {
        free(ctx, draft, *mac, number)?;
    }
    // What another machine showed of itself says nothing of this one.
    let same = list.as_slice().iter().any(|mac| lot.fingerprint.macs.contains(*mac));
    let fingerprint = Fingerprint { macs: list, ..if same { lot.fingerprint } else { Fingerprint::default() } };
    draft.set(ctx, number, lot.occupied(fingerprint, AssignedBy::Operator, ctx.unix));
    Ok(())
}

/// Lets whoever has a MAC lose it to `to`.
fn free(ctx: &Ctx<'_>, draft: &mut Draft, mac: Mac, to: Number) -> Result<(), Rejection> {
    let Some(owner) = ctx.roll.lots().number_of(mac).filter(|&owner| owner != to) else { return Ok(()) };
    let mut lot = draft.lot(ctx, owner);
    if !lot.fingerprint.macs.contains(mac) {
        return Ok(());
    }
    own(owner, &lot)?;
    lot.fingerprint.macs.remove(mac);
    let left = if lot.fingerprint.macs.is_empty() { Lot { retired: lot.retired, since: ctx.unix, ..Lot::default() } } else { lot };
    draft.note(format_args!("{owner} loses {mac}{}", if left.is_vacant() { " and becomes vacant" } else { "" }));
    draft.set(ctx, owner, left);
    Ok(())
}

fn replace(ctx: &Ctx<'_>, draft: &mut Draft, number: Number, by: Option<&control::Replacement>) -> Result<(), Rejection> {
    let lot = draft.lot(ctx, number);
    own(number, &lot)?;
    if lot.is_vacant() {
        return Err(Rejection::new(
            format!("{number} has no machine"),
            format!("to reserve the number, run muster node set {number} --reserve"),
        ));
    }
    let wait = match by {
        None => Wait::Next,
        Some(control::Replacement::Mac(mac)) => {
            if let Some(other) = ctx.roll.lots().number_of(*mac).filter(|&other| other != number) {
                return Err(Rejection::new(format!("{mac} belongs to {other}"), format!("take it out first: muster node out {other}")));
            }
            Wait::Mac(*mac)
        }
        Some(control::Replacement::Guest(id)) => {
            let guest = guest(ctx, id)?;
            draft.set(ctx, number, ruling::enlisted(&lot.emptied(ctx.unix), &guest.shown(), AssignedBy::Operator, ctx.unix));
            return Ok(());
        }
    };
    draft.set(ctx, number, lot.reserved(wait, ctx.unix));
    Ok(())
}

fn out(ctx: &Ctx<'_>, draft: &mut Draft, nodes: &str) -> Result<(), Rejection> {
    let selection = ranges::parse(nodes).map_err(|wrong| Rejection::new(wrong.to_string(), ""))?;
    for number in selection.numbers.iter().map(Number) {
        let lot = draft.lot(ctx, number);
        own(number, &lot)?;
        match lot.is_vacant() {
            true => draft.note(format_args!("{number} is vacant already")),
            false => draft.set(ctx, number, lot.emptied(ctx.unix)),
        }
    }
    if !draft.steps().is_empty() {
        draft.last_note(format_args!("a machine that is running keeps its address until it renews"));
    }
    Ok(())
}

/// A machine without a number, by its MAC, its client-id or its address.
fn guest<'a>(ctx: &'a Ctx<'_>, id: &str) -> Result<&'a Client, Rejection> {
    let address: Option<Ipv4Addr> = id.parse().ok();
    let mut guests = ctx.roll.iter().map(|(_, client)| client).filter(|client| client.number().is_none());
    let found = guests
        .find(|client| client.identity().to_string() == id.to_ascii_lowercase() || (address.is_some() && client.address() == address));
    let client = found.ok_or_else(|| Rejection::new(format!("{id} is not a guest"), "muster guest list shows the guests"))?;
    if client.mac() == Mac::ZERO {
        return Err(Rejection::new(format!("{id} has no MAC address, so it cannot have a number"), ""));
    }
    Ok(client)
}

fn enlist(ctx: &Ctx<'_>, draft: &mut Draft, id: &str, number: Option<Number>) -> Result<(), Rejection> {
    if id == HELD {
        return enlist_held(ctx, draft, number);
    }
    let client = guest(ctx, id)?;
    let number = match number {
        Some(number) => number,
        None => vacant(ctx, draft, client, &mut [Number(0); NETWORKS_MAX])?,
    };
    let lot = draft.lot(ctx, number);
    if lot.is_occupied() {
        return Err(Rejection::new(format!("{number} is in use"), format!("run muster node replace {number} --guest {id}")));
    }
    draft.set(ctx, number, ruling::enlisted(&lot, &client.shown(), AssignedBy::Operator, ctx.unix));
    Ok(())
}

/// The number that a guest would get. `from`: below that there is none left on a network.
fn vacant(ctx: &Ctx<'_>, draft: &Draft, client: &Client, from: &mut [Number; NETWORKS_MAX]) -> Result<Number, Rejection> {
    let key = ctx.roll.find(&client.identity());
    let ruling = key.map(|key| lots::rule(ctx, key, client.route.network(), true));
    let first = match ruling {
        Some(Ruling::Enlist(first)) => first,
        Some(Ruling::Guest(reason)) => return Err(Rejection::new(format!("{}: {reason}", client.identity()), "")),
        _ => return Err(Rejection::new(format!("{} has a number already", client.identity()), "see muster node list")),
    };
    if !draft.has(first) {
        return Ok(first);
    }
    let (network, mut none) = (ctx.config.networks.get(client.route.network()), Number(0));
    let from = from.get_mut(client.route.network()).unwrap_or(&mut none);
    loop {
        let ranges = network.into_iter().flat_map(|network| ctx.roll.plan.numbers_in(network.subnet));
        let ranges = ranges.map(|(first, last)| (first.max(*from), last)).filter(|(first, last)| first <= last);
        let number = ctx.roll.lots().lowest_vacant(ranges, &[]);
        let number =
            number.ok_or_else(|| Rejection::new("no number is vacant on its network", "raise cluster.nodes, or run muster node out"))?;
        *from = Number(number.0 + 1);
        if !draft.has(number) {
            return Ok(number);
        }
    }
}

/// All that passed and wait are numbered together: by their switch ports, where all of them have shown one, else as they came.
fn enlist_held(ctx: &Ctx<'_>, draft: &mut Draft, first: Option<Number>) -> Result<(), Rejection> {
    let waits = |key: &Key<Client>, client: &Client| {
        client.number().is_none()
            && client.evidence.verdict() == Verdict::Passed
            && matches!(lots::rule(ctx, *key, client.route.network(), true), Ruling::Enlist(_))
    };
    let mut held: Vec<&Client> = ctx.roll.iter().filter(|(key, client)| waits(key, client)).map(|(_, client)| client).collect();
    let by_port = held.iter().all(|client| !client.evidence.fingerprint().port.is_empty());
    held.sort_by(|a, b| match by_port {
        true => as_people_count(a.evidence.fingerprint().port.as_str(), b.evidence.fingerprint().port.as_str())
            .then(a.arrived().cmp(&b.arrived())),
        false => a.arrived().cmp(&b.arrived()),
    });
    if held.is_empty() {
        return Err(Rejection::new("no guest waits for a number", "see muster guest list"));
    }
    draft.note(format_args!("numbered {}", if by_port { "by switch port" } else { "in order of arrival" }));
    let (mut next, mut from) = (first, [Number(0); NETWORKS_MAX]);
    for client in held {
        let number = match next {
            Some(number) => number,
            None => vacant(ctx, draft, client, &mut from)?,
        };
        let lot = draft.lot(ctx, number);
        if lot.is_occupied() || ctx.roll.lots().lot(number).is_none() {
            return Err(Rejection::new(
                format!("{number} cannot be given to {}: it is not vacant", client.identity()),
                "choose a number that is followed by enough vacant ones",
            ));
        }
        draft.set(ctx, number, ruling::enlisted(&lot, &client.shown(), AssignedBy::Operator, ctx.unix));
        next = next.map(|number| Number(number.0 + 1));
    }
    Ok(())
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
fn import(ctx: &Ctx<'_>, draft: &mut Draft, entries: &[ImportEntry]) {
    let mut drafted: BTreeMap<u64, Number> = BTreeMap::new();
    for entry in entries {
        let number = Number(entry.number);
        let lot = draft.lot(ctx, number);
        let macs: Macs = entry.macs.iter().copied().collect();
        let planned = |mac: &Mac| drafted.get(&mac.to_u64()).copied().filter(|&other| other != number);
        let taken = |mac: &Mac| ctx.roll.lots().number_of(*mac).filter(|&other| other != number).or_else(|| planned(mac));
        let owner = macs.as_slice().iter().find_map(|mac| taken(mac).map(|other| format!("{mac} belongs to {other}")));
        let stranger = lot.is_occupied() && !macs.as_slice().iter().any(|mac| lot.fingerprint.macs.contains(*mac));
        let trouble = match owner {
            _ if macs.is_empty() => Some("it has no MAC address".to_string()),
            Some(owner) => Some(owner),
            None if stranger => Some("another machine has this number".to_string()),
            None => None,
        };
        if let Some(trouble) = trouble {
            draft.note(format_args!("{number} skipped: {trouble}"));
            continue;
        }
        if macs.as_slice().iter().all(|mac| lot.fingerprint.macs.contains(*mac)) {
            continue;
        }
        let all = lot.fingerprint.macs.as_slice().iter().chain(macs.as_slice()).copied().collect();
        let by = if lot.is_occupied() { lot.by } else { AssignedBy::Operator };
        drafted.extend(macs.as_slice().iter().map(|mac| (mac.to_u64(), number)));
        draft.set(ctx, number, lot.occupied(Fingerprint { macs: all, ..lot.fingerprint }, by, ctx.unix));
    }
}

fn take_back(ctx: &Ctx<'_>, draft: &mut Draft, undo: &[DraftedLot]) -> Result<(), Rejection> {
    if undo.is_empty() {
        return Err(Rejection::new("there is nothing to undo", "muster undo reverts the last change since the daemon started"));
    }
    // A machine that came up under the number that it was given is still what the change made of it.
    let now = |step: &DraftedLot| ctx.roll.lots().lot(step.number).map(|lot| Lot { unseen: step.after.unseen, ..*lot });
    if let Some(step) = undo.iter().find(|step| now(step) != Some(step.after)) {
        return Err(Rejection::new(format!("{} has changed since then", step.number), "correct it with muster node set"));
    }
    undo.iter().for_each(|step| draft.set(ctx, step.number, Lot { since: ctx.unix, ..step.before }));
    Ok(())
}
