//! The operator's engine: executes the requests of `wire::control`, and tells watchers what happens.
//!
//! A connection is nothing but a key here; one that watches has a place in the ring of recent steps (`roll::recent`). A request is
//! answered by one line, whose rows come from [`view`](super::view): lists in pages, each a bounded walk. What watchers hear is gathered for [`PUSH_INTERVAL`] and written without allocating; everything else here
//! allocates, since no packet waits for it. What an operator changes ([`change`]) is answered when it is on disk.

mod change;
mod draft;

use std::time::Duration;

use serde::Serialize;

use crate::base::machine::{Command, ConnId, Reload, Stream, StreamEvent};
use crate::base::text::Text;
use crate::base::time::{Instant, Now};
use crate::roll::lot::MACS_MAX;
use crate::roll::plan::Number;
use crate::roll::ranges;
use crate::roll::recent::Recent;
use crate::wire::control::{self, Change, Changed, IMPORT_MAX, ImportEntry, Rejection, Reply, Request, WatchEvent};

use super::Ctx;
use super::commit::CommitWaiter;
use super::view::{Moment, PAGE_GUESTS, PAGE_ROWS, Sight};
use change::Desk;

/// The time between two batches to a watcher.
const PUSH_INTERVAL: Duration = Duration::from_millis(20);
/// The largest batch to a watcher, in bytes.
const PUSH_BYTES: usize = 8 * 1024;
/// More than one event's line takes; a line that does not fit would cost an allocation (its error does).
const EVENT_MAX: usize = 1024;

pub struct Control {
    /// Connections that watch, and where each reads on in the ring of recent steps.
    watchers: [Option<(ConnId, u64)>; control::CONNECTIONS],
    next_push: Instant,
    /// Replies that wait for the record that makes them true; their connections stand in the commit lane.
    kept: Vec<(ConnId, Reply)>,
    desk: Desk,
    /// The connection whose import has not come whole, and what has.
    import: Option<(ConnId, Vec<ImportEntry>)>,
    /// What the last line asks the whole Server for.
    command: Option<Command>,
}

/// What a watcher reads: these variants of `Reply`, without allocating.
#[derive(Serialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
enum WatchLine<'a> {
    Event(WatchEvent<&'a str>),
    Lost { count: u64 },
}

impl Control {
    /// Has room for a change of so many lots.
    pub fn new(nodes: u32) -> Control {
        Control {
            watchers: [None; control::CONNECTIONS],
            next_push: Instant::ZERO,
            kept: Vec::new(),
            desk: Desk::new(nodes),
            import: None,
            command: None,
        }
    }

    /// Another number of lots is served from now on. Allocates.
    pub fn resize(&mut self, nodes: u32) {
        self.desk.resize(nodes);
    }

    /// What an operator does on a connection.
    pub fn stream(&mut self, ctx: &mut Ctx<'_>, query: Sight<'_>, stream: &Stream<'_>) {
        match stream.event {
            StreamEvent::Bytes(line) => self.request(ctx, query, stream.conn, line),
            StreamEvent::Closed => self.closed(ctx, stream.conn),
            StreamEvent::Opened { .. } | StreamEvent::Drained => {}
        }
    }

    /// What the line that has just come asks for, of which this engine is a part. The Server answers it.
    pub fn command(&mut self) -> Option<Command> {
        self.command.take()
    }

    /// The connection has gone.
    fn closed(&mut self, ctx: &mut Ctx<'_>, conn: ConnId) {
        if self.watchers.iter_mut().any(|watcher| watcher.take_if(|(whose, _)| *whose == conn).is_some()) {
            ctx.roll.recent.leave();
        }
        self.kept.retain(|(whose, _)| *whose != conn);
        self.import = self.import.take().filter(|(whose, _)| *whose != conn);
    }

    /// The record that a connection's reply waited for is committed.
    pub fn committed(&mut self, ctx: &mut Ctx<'_>, conn: ConnId) {
        if let Some(at) = self.kept.iter().position(|(whose, _)| *whose == conn) {
            let (_, reply) = self.kept.remove(at);
            tell(ctx, conn, &reply);
        }
    }

    /// A line of an operator's.
    fn request(&mut self, ctx: &mut Ctx<'_>, query: Sight<'_>, conn: ConnId, line: &[u8]) {
        let answer = control::read(line).and_then(|request| self.execute(ctx, query, conn, &request));
        let reply = match answer {
            Ok(Some(reply)) => reply,
            Ok(None) => return,
            Err(rejection) => Reply::Error(rejection),
        };
        tell(ctx, conn, &reply);
    }

    /// None: the answer comes from elsewhere.
    fn execute(&mut self, ctx: &mut Ctx<'_>, query: Sight<'_>, conn: ConnId, request: &Request) -> Result<Option<Reply>, Rejection> {
        let view = Moment::of(ctx, query);
        Ok(Some(match request {
            Request::Status => Reply::Status(Box::new(view.status())),
            Request::States { from } => Reply::States(view.states(*from)),
            Request::NodeList { nodes, from, limit } => {
                let selection = nodes.as_deref().map(|text| selection(ctx, text)).transpose()?;
                Reply::Nodes(view.nodes(selection.as_ref(), *from, limit.unwrap_or(PAGE_ROWS)))
            }
            Request::NodeShow { number } => Reply::Node(Box::new(view.node(lot(ctx, *number)?))),
            Request::Find { text, from } => Reply::Found(view.find(text, *from)),
            Request::GuestList { from, limit } => Reply::Guests(view.guests(*from, limit.unwrap_or(PAGE_GUESTS))),
            Request::Watch => {
                let watches = self.watchers.iter().flatten().any(|(whose, _)| *whose == conn);
                if let Some(watcher) = self.watchers.iter_mut().find(|watcher| watcher.is_none()).filter(|_| !watches) {
                    *watcher = Some((conn, ctx.roll.recent.join()));
                }
                Reply::Watching
            }
            Request::Reload { renumber, dry } => {
                let how = match (dry, renumber) {
                    (true, true) => Reload::PreviewRenumber,
                    (true, false) => Reload::Preview,
                    (false, true) => Reload::Renumber,
                    (false, false) => Reload::Stay,
                };
                self.command = Some(Command::Reload(how));
                return Ok(None);
            }
            Request::Checkpoint => {
                self.command = Some(Command::Checkpoint);
                return Ok(None);
            }
            Request::Change { change: wish, dry } => {
                check(ctx, wish)?;
                let whole = match wish {
                    Change::Import { entries, more } => match self.gather(ctx, conn, entries, *more)? {
                        None => return Ok(Some(Reply::Changed(Changed { dry: *dry, ..Changed::default() }))),
                        Some(entries) => Some(Change::Import { entries, more: false }),
                    },
                    _ => None,
                };
                let (changed, record) = change::change(ctx, &mut self.desk, whole.as_ref().unwrap_or(wish), *dry)?;
                if let Some(seq) = record {
                    log::info!("control: changed {} numbers ({}): {}", changed.count, wish.name(), changed.nodes);
                    self.kept.push((conn, Reply::Changed(changed)));
                    ctx.commit.after(seq, CommitWaiter::Operator(conn));
                    return Ok(None);
                }
                Reply::Changed(changed)
            }
        }))
    }

    /// Puts a part of an import to those before it; gives all of them when it is the last.
    fn gather(&mut self, ctx: &Ctx<'_>, conn: ConnId, entries: &[ImportEntry], more: bool) -> Result<Option<Vec<ImportEntry>>, Rejection> {
        let (whose, mut all) = self.import.take().unwrap_or((conn, Vec::new()));
        if whose != conn {
            self.import = Some((whose, all));
            return Err(Rejection::new("another import is in progress", "try again when it is done"));
        }
        // More than one for a number are its network cards.
        if all.len() + entries.len() > ctx.roll.lots().len() * MACS_MAX {
            return Err(Rejection::new("the import has more machines than there are numbers", "raise `nodes` in [cluster]"));
        }
        all.extend_from_slice(entries);
        if more {
            self.import = Some((conn, all));
            return Ok(None);
        }
        Ok(Some(all))
    }

    /// When the next batch of events is due.
    pub fn deadline(&self, recent: &Recent) -> Option<Instant> {
        self.watchers.iter().flatten().any(|(_, place)| *place != recent.next()).then_some(self.next_push)
    }

    /// Sends watchers what has happened. One that is far behind gets more in the next turn.
    pub fn expire(&mut self, ctx: &mut Ctx<'_>, now: Now) {
        if self.deadline(&ctx.roll.recent).is_none_or(|at| at > now.at) {
            return;
        }
        let Ctx { roll, out, .. } = ctx;
        for (conn, place) in self.watchers.iter_mut().flatten().filter(|(_, place)| *place != roll.recent.next()) {
            if !out.has_room() {
                return;
            }
            out.write(*conn, |buf| events(&roll.recent, place, now.unix, buf));
        }
        self.next_push = now.at + PUSH_INTERVAL;
    }
}

/// Writes the steps from a place on, a line each, and moves the place behind them.
fn events(recent: &Recent, place: &mut u64, unix: u64, buf: &mut [u8]) -> Option<usize> {
    let room = buf.len().min(PUSH_BYTES);
    let mut used = 0;
    loop {
        let rest = buf.get_mut(used..room)?;
        if rest.len() < EVENT_MAX {
            break;
        }
        let (line, steps) = match recent.read(*place) {
            Ok(None) => break,
            Err(count) => (control::write(rest, &WatchLine::Lost { count }), count),
            Ok(Some(step)) => {
                let id = Text::<56>::of(format_args!("{}", step.identity));
                let event = WatchEvent {
                    time: unix,
                    number: step.number.map(|Number(n)| n),
                    id: id.as_str(),
                    address: step.address,
                    stage: step.stage.name(),
                    text: step.text.as_str(),
                    trouble: step.trouble,
                };
                (control::write(rest, &WatchLine::Event(event)), 1)
            }
        };
        used += line.unwrap_or(0);
        *place += steps;
    }
    (used > 0).then_some(used)
}

fn tell(ctx: &mut Ctx<'_>, conn: ConnId, reply: &Reply) {
    if !ctx.out.write(conn, |buf| control::write(buf, reply)) {
        let rejection = Rejection::new("the answer does not fit into one line", "request fewer rows");
        ctx.out.write(conn, |buf| control::write(buf, &Reply::Error(rejection)));
    }
}

/// A number that the lot table has a lot for.
fn lot(ctx: &Ctx<'_>, number: u32) -> Result<Number, Rejection> {
    let nodes = ctx.roll.plan.nodes();
    if number < nodes {
        return Ok(Number(number));
    }
    let last = nodes.saturating_sub(1);
    Err(Rejection::new(format!("n{number} does not exist; nodes are n0 to n{last}"), "raise `nodes` in [cluster]"))
}

/// A selection all of whose numbers have a lot.
fn selection(ctx: &Ctx<'_>, text: &str) -> Result<ranges::Selection, Rejection> {
    let named = ranges::parse(text).and_then(|selection| selection.named(ctx.roll.plan.names().prefix()));
    let selection = named.map_err(|wrong| Rejection::new(wrong.to_string(), ""))?;
    selection.numbers.last().map_or(Ok(()), |last| lot(ctx, last).map(drop))?;
    Ok(selection)
}

/// What holds for a change whatever the roll is: numbers have lots, MACs name machines, nothing is said twice.
fn check(ctx: &Ctx<'_>, wish: &Change) -> Result<(), Rejection> {
    let individual = |macs: &[crate::base::addr::Mac]| match macs.iter().find(|mac| !mac.is_individual()) {
        Some(mac) => Err(Rejection::new(format!("{mac} is not a network card's address"), "give the address of one network card")),
        None => Ok(()),
    };
    match wish {
        Change::Set { number, macs, add, remove, reserve } => {
            lot(ctx, *number)?;
            individual(macs.as_deref().unwrap_or_default())?;
            individual(add)?;
            if macs.is_some() && !(add.is_empty() && remove.is_empty()) {
                return Err(Rejection::new(
                    "--mac excludes --add and --remove",
                    "use --mac for all MAC addresses, or --add and --remove for single ones",
                ));
            }
            if macs.is_none() && add.is_empty() && remove.is_empty() && reserve.is_none() {
                return Err(Rejection::new("no change is given", "use --mac, --add, --remove, --reserve or --free"));
            }
            Ok(())
        }
        Change::Replace { number, by } => {
            lot(ctx, *number)?;
            match by {
                Some(control::Replacement::Mac(mac)) => individual(&[*mac]),
                _ => Ok(()),
            }
        }
        Change::Out { nodes } => match selection(ctx, nodes)?.groups.as_slice() {
            [] => Ok(()),
            _ => Err(Rejection::new("a group such as @up is not a list of numbers", "look up its numbers with node-list first")),
        },
        Change::Enlist { number, .. } => number.map_or(Ok(()), |number| lot(ctx, number).map(drop)),
        Change::Import { entries, .. } => {
            if entries.len() > IMPORT_MAX {
                return Err(Rejection::new(
                    format!("{} machines are too many for one request", entries.len()),
                    "send at most 256 at a time",
                ));
            }
            entries.iter().try_for_each(|entry| lot(ctx, entry.number).map(drop).and_then(|()| individual(&entry.macs)))
        }
        Change::Undo => Ok(()),
    }
}

#[cfg(test)]
mod tests;
