//! What an operator sees: the state of lots, nodes and guests, as far as one page goes. Reads, never writes.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::slab::Key;
use crate::base::time::Instant;
use crate::config::Config;
use crate::roll::client::{Client, Identity};
use crate::roll::journal::{Date, Verdict};
use crate::roll::kind::Kind;
use crate::roll::lot::{self, By, Wait};
use crate::roll::plan::Number;
use crate::roll::ranges::{Group, Selection};
use crate::roll::registry::Roll;
use crate::roll::ruling::Ruling;
use crate::roll::stage::Stage;
use crate::roll::story::Printable;
use crate::wire::control::{
    Boot, GuestRow, Guests, Lane, Lot, LotKind, Network, Node, NodeRow, Nodes, Run, Segment, State, States, Status, Step,
};

use super::super::pace::Pace;
use super::super::{Ctx, lots};
use super::{PAGE_LOTS, PAGE_ROWS, Sight, given};

/// Network cards of a node that are shown one by one.
const BOOTS_MAX: usize = 16;

/// What is known of a number's place.
struct Place<'a> {
    kind: LotKind,
    macs: &'a [Mac],
    /// Its machine was never heard under its address, though it must have asked for it by now.
    never: bool,
}

fn place<'a>(ctx: &'a Ctx<'_>, number: Number) -> Place<'a> {
    let lot = ctx.roll.street().lot(number);
    let macs = lot.map_or(&[][..], |lot| lot.papers.macs.as_slice());
    Place { kind: lot.map_or(LotKind::Vacant, |lot| kind(lot.state)), macs, never: lot.is_some_and(|lot| never(ctx, lot)) }
}

/// A guest that was given a number learns it when it renews its lease, or before that lease has ended.
fn never(ctx: &Ctx<'_>, lot: &lot::Lot) -> bool {
    let longest = ctx.config.networks.iter().map(|network| network.guest_lease).max().unwrap_or_default();
    lot.unseen && ctx.unix >= lot.since + longest.as_secs()
}

fn kind(state: lot::State) -> LotKind {
    match state {
        lot::State::Vacant => LotKind::Vacant,
        lot::State::Reserved(_) => LotKind::Reserved,
        lot::State::Occupied => LotKind::Occupied,
    }
}

/// A lot as an operator sees it.
pub fn lot(lot: &lot::Lot) -> Lot {
    let mut facts = Vec::new();
    let mut fact = |name: &str, value: String| facts.push((name.to_string(), value));
    match (lot.state, lot.by) {
        (lot::State::Reserved(Wait::Next), _) => fact("reserved for", "the next machine that passes".into()),
        (lot::State::Reserved(Wait::Mac(mac)), _) => fact("reserved for", mac.to_string()),
        (lot::State::Reserved(Wait::Operator), _) => fact("reserved for", "the machine that an operator assigns".into()),
        (lot::State::Occupied, By::Config(_)) => fact("source", "[[node]] of the config".into()),
        (lot::State::Occupied, by) => fact("source", by.name().into()),
        (lot::State::Vacant, _) => {}
    }
    if lot.since > 0 && !lot.is_vacant() {
        fact("since", Date(lot.since).to_string());
    }
    if lot.unseen {
        fact("came up", "never since it got its number".into());
    }
    if let Some(uuid) = lot.papers.uuid {
        fact("uuid", uuid.to_string());
    }
    for (name, label) in [("serial", lot.papers.serial), ("switch port", lot.papers.port)] {
        if !label.is_empty() {
            fact(name, label.to_string());
        }
    }
    if !lot.retired.is_empty() {
        fact("retired", lot.retired.to_string());
    }
    Lot { kind: kind(lot.state), macs: lot.papers.macs.as_slice().to_vec(), facts }
}

fn record<'a>(ctx: &'a Ctx<'_>, mac: Mac) -> Option<&'a Client> {
    ctx.roll.find(&Identity::Mac(mac)).and_then(|key| ctx.roll.get(key))
}

/// The network card that speaks for a node: the one with the node's own address, else the one that moved last.
fn speaker<'a>(ctx: &'a Ctx<'_>, number: Number, macs: &[Mac]) -> Option<&'a Client> {
    let own = ctx.roll.plan.address(number);
    let seen = macs.iter().filter_map(|mac| record(ctx, *mac));
    seen.max_by_key(|client| (client.address.is_some() && client.address == own, client.boot.since()))
}

fn state(ctx: &Ctx<'_>, sight: &Sight<'_>, number: Number, kind: LotKind, speaker: Option<&Client>) -> State {
    match (kind, speaker) {
        (LotKind::Vacant, _) => State::Vacant,
        (LotKind::Reserved, None) => State::Reserved,
        (LotKind::Occupied, None) if was_up(ctx, sight, number) => State::Up,
        (LotKind::Occupied, None) => State::Down,
        (_, Some(client)) if client.boot.stuck().is_some() => State::Stuck,
        // At another address it is not to be reached by its name.
        (_, Some(client)) if client.boot.stage() == Stage::Up && away(ctx, client).is_none() => State::Up,
        (_, Some(_)) => State::Booting,
    }
}

/// The address that a node has in place of its number's, until it asks again or that one is free.
fn away(ctx: &Ctx<'_>, client: &Client) -> Option<Ipv4Addr> {
    let own = ctx.roll.plan.address(client.number?);
    client.address.filter(|_| client.leased && client.address != own)
}

/// A node that was up when the daemon before this one left has a lease for as long as that lasts, and need not ask before.
fn was_up(ctx: &Ctx<'_>, sight: &Sight<'_>, number: Number) -> bool {
    let address = ctx.roll.plan.address(number);
    let network = ctx.config.networks.iter().find(|network| address.is_some_and(|address| network.subnet.contains(address)));
    let lease = network.map_or(Duration::ZERO, |network| super::super::boot::lease(ctx.config, network, Some(number)));
    ctx.roll.past_stage(number).is_some_and(|(_, stage)| stage == Stage::Up) && ctx.now.since(sight.born.at) < lease
}

/// The stage, and how far a file has come.
fn stage(client: &Client, sight: &Sight<'_>) -> String {
    if let Some(place) = client.boot.stuck() {
        return format!("stuck: {place}");
    }
    let loading = Some(client.transfer).filter(|_| client.boot.stage() == Stage::Loading).and_then(|token| (sight.loading)(token));
    match loading {
        Some(loading) => {
            let percent = loading.done.saturating_mul(100).checked_div(loading.size).unwrap_or(0);
            format!("loading {} {percent} %", Printable(loading.name))
        }
        None if client.verdict == Verdict::Passed
            && client.kind == Kind::Other
            && matches!(client.boot.stage(), Stage::Discover | Stage::Probing | Stage::Offered) =>
        {
            "passed".into()
        }
        None => client.boot.stage().name().into(),
    }
}

/// Firmware and architecture as the client sent them last.
pub fn firmware(client: &Client) -> String {
    client.arch.map_or_else(|| client.kind.to_string(), |arch| format!("{} {arch}", client.kind))
}

fn millis(now: Instant, then: Instant) -> u64 {
    u64::try_from(now.since(then).as_millis()).unwrap_or(u64::MAX)
}

fn interface(ctx: &Ctx<'_>, client: &Client) -> String {
    ctx.config.links.get(usize::from(client.link)).map(|link| link.interface.clone()).unwrap_or_default()
}

/// The lots that one page looks at, and where the next page begins.
fn page(ctx: &Ctx<'_>, from: u32) -> (std::ops::Range<u32>, Option<u32>) {
    let nodes = ctx.roll.plan.nodes();
    let end = from.saturating_add(PAGE_LOTS).min(nodes);
    (from.min(end)..end, (end < nodes).then_some(end))
}

pub fn states(ctx: &Ctx<'_>, sight: &Sight<'_>, from: u32) -> States {
    let (lots, next) = page(ctx, from);
    let mut runs: Vec<Run> = Vec::new();
    for number in lots {
        let place = place(ctx, Number(number));
        let state = state(ctx, sight, Number(number), place.kind, speaker(ctx, Number(number), place.macs));
        match runs.last_mut() {
            Some(run) if run.state == state => run.last = number,
            _ => runs.push(Run { state, first: number, last: number }),
        }
    }
    States { runs, next }
}

pub fn nodes(ctx: &Ctx<'_>, sight: &Sight<'_>, selection: Option<&Selection>, from: u32, limit: u32) -> Nodes {
    let limit = limit.clamp(1, PAGE_ROWS) as usize;
    // Numbers alone need no walk to them, and none behind them.
    let numbers = selection.filter(|selection| selection.groups.is_empty()).map(|selection| &selection.numbers);
    let Some(from) = numbers.map_or(Some(from), |numbers| numbers.next(from)) else { return Nodes { rows: Vec::new(), next: None } };
    let (lots, next) = page(ctx, from);
    let next = next.filter(|next| numbers.is_none_or(|numbers| numbers.next(*next).is_some()));
    let mut rows = Vec::new();
    for number in lots {
        let place = place(ctx, Number(number));
        let client = speaker(ctx, Number(number), place.macs);
        let state = state(ctx, sight, Number(number), place.kind, client);
        let wanted = match selection {
            None => state != State::Vacant,
            Some(selection) => {
                let grouped = |group| match group {
                    Group::All => state != State::Vacant,
                    Group::Up => state == State::Up,
                    Group::Stuck => state == State::Stuck,
                    Group::Never => place.never,
                };
                selection.numbers.contains(number) || selection.groups.iter().any(|group| grouped(*group))
            }
        };
        if !wanted {
            continue;
        }
        if rows.len() == limit {
            return Nodes { rows, next: Some(number) };
        }
        rows.push(NodeRow {
            number,
            name: ctx.roll.plan.names().of(Number(number)).to_string(),
            state,
            address: ctx.roll.plan.address(Number(number)),
            mac: client.map(|client| client.mac).or(place.macs.first().copied()),
            macs: place.macs.len() as u32,
            stage: client.map_or_else(|| past(ctx, Number(number)), |client| node_stage(ctx, client, sight)),
            since_ms: client.map(|client| millis(ctx.now, client.boot.since())),
            firmware: client.map(firmware).unwrap_or_default(),
        });
    }
    Nodes { rows, next }
}

/// The stage of a node, and the address that it has where that is not its number's.
fn node_stage(ctx: &Ctx<'_>, client: &Client, sight: &Sight<'_>) -> String {
    match away(ctx, client) {
        Some(address) => format!("{} at {address} until its next DHCP request", stage(client, sight)),
        None => stage(client, sight),
    }
}

/// Where a node stood that has not been seen since the daemon began.
fn past(ctx: &Ctx<'_>, number: Number) -> String {
    ctx.roll.past_stage(number).map(|(_, stage)| format!("{} before the restart", stage.name())).unwrap_or_default()
}

pub fn guests(ctx: &Ctx<'_>, sight: &Sight<'_>, from: u32, limit: u32) -> Guests {
    let limit = limit.clamp(1, PAGE_ROWS) as usize;
    let capacity = ctx.roll.capacity() as u32;
    let end = from.saturating_add(PAGE_LOTS).min(capacity);
    let mut rows = Vec::new();
    for slot in from.min(end)..end {
        let Some(client) = ctx.roll.at_slot(slot as usize).filter(|client| client.number.is_none()) else { continue };
        if rows.len() == limit {
            return Guests { rows, next: Some(slot) };
        }
        rows.push(GuestRow {
            id: client.identity.to_string(),
            address: client.address,
            interface: interface(ctx, client),
            stage: stage(client, sight),
            since_ms: millis(ctx.now, client.boot.since()),
            firmware: firmware(client),
            lease: client.until.since(ctx.now).as_secs(),
            verdict: ctx.roll.find(&client.identity).and_then(|key| why(ctx, key)),
        });
    }
    Guests { rows, next: (end < capacity).then_some(end) }
}

/// Why a machine that was tested is not simply a node: its test failed, it waits, it is in conflict with another.
fn why(ctx: &Ctx<'_>, key: Key<Client>) -> Option<String> {
    let client = ctx.roll.get(key).filter(|client| client.verdict != Verdict::Untested)?;
    match lots::rule(ctx, key, usize::from(client.network), false) {
        Ruling::Guest(reason) => Some(reason.to_string()),
        Ruling::Enlist(_) => Some("passed: gets a number at its next DHCP request".into()),
        _ => None,
    }
}

pub fn node(ctx: &Ctx<'_>, sight: &Sight<'_>, number: Number) -> Node {
    let place = place(ctx, number);
    let speaker = speaker(ctx, number, place.macs);
    let state = state(ctx, sight, number, place.kind, speaker);
    let boots = place.macs.iter().filter_map(|mac| record(ctx, *mac)).take(BOOTS_MAX).map(|client| boot(ctx, sight, client)).collect();
    let given = given::given(ctx.config, number);
    let mut lot = ctx.roll.street().lot(number).map(lot).unwrap_or_default();
    for mac in place.macs {
        if let Some(conflict) = ctx.roll.find(&Identity::Mac(*mac)).and_then(|key| why(ctx, key)) {
            lot.facts.push(("conflict".into(), format!("{mac}: {conflict}")));
        }
    }
    if let Some(conflict) = place.macs.iter().filter_map(|mac| record(ctx, *mac)).find_map(|client| elsewhere(ctx, client, number)) {
        lot.facts.push(("address".into(), conflict));
    }
    if let Some((unix, stage)) = ctx.roll.past_stage(number) {
        lot.facts.push(("before the restart".into(), format!("{} since {}", stage.name(), Date(unix))));
    }
    Node {
        number: number.0,
        name: ctx.roll.plan.names().of(number).to_string(),
        address: ctx.roll.plan.address(number),
        state,
        lot,
        boots,
        given,
    }
}

/// Why a node has not the address of its number: another machine has it.
fn elsewhere(ctx: &Ctx<'_>, client: &Client, number: Number) -> Option<String> {
    let (address, left) = (ctx.roll.plan.address(number)?, client.declined_until.since(ctx.now).as_secs());
    let whose = match client.doubt.user {
        _ if left == 0 => return None,
        Some(user) => format!("{user} uses {address}"),
        None => format!("{address} was declined"),
    };
    Some(format!("{whose}: {} has another address for {left} s", client.mac))
}

fn boot(ctx: &Ctx<'_>, sight: &Sight<'_>, client: &Client) -> Boot {
    let mut steps: Vec<(Instant, Stage)> = Stage::ALL.into_iter().filter_map(|stage| Some((client.boot.reached(stage)?, stage))).collect();
    // Being seen and being probed are one thing to an operator.
    steps.retain(|(_, stage)| *stage != Stage::Probing);
    steps.sort_by_key(|(at, _)| *at);
    Boot {
        id: client.identity.to_string(),
        address: client.address,
        interface: interface(ctx, client),
        firmware: firmware(client),
        stage: stage(client, sight),
        since_ms: millis(ctx.now, client.boot.since()),
        lease: client.until.since(ctx.now).as_secs(),
        steps: steps.iter().map(|(at, stage)| Step { stage: stage.name().into(), ago_ms: millis(ctx.now, *at) }).collect(),
        story: client.boot.story().to_string(),
    }
}

fn segment(piece: &crate::roll::plan::Segment) -> Segment {
    Segment { first: piece.first.0, last: piece.last.0, address: piece.address }
}

/// The head's address on node 0's network, else on its first.
fn head(ctx: &Ctx<'_>) -> Option<Ipv4Addr> {
    let home = ctx.config.networks.iter().find(|network| network.subnet.contains(ctx.roll.plan.node0()));
    let link = home.and_then(|home| home.link).and_then(|link| ctx.config.links.get(usize::from(link)));
    link.or(ctx.config.links.first()).map(|link| link.head)
}

pub fn status(ctx: &Ctx<'_>, sight: &Sight<'_>) -> Status {
    let plan = ctx.roll.plan;
    Status {
        version: env!("CARGO_PKG_VERSION").into(),
        cluster: plan.names().domain().into(),
        node0: plan.address(Number(0)).unwrap_or(Ipv4Addr::UNSPECIFIED),
        nodes: plan.nodes(),
        segments: plan.pieces().iter().map(segment).collect(),
        prefix: plan.names().prefix().into(),
        digits: plan.names().digits(),
        head: head(ctx),
        numbering: ctx.config.numbering.to_string(),
        new_numbers: ctx.config.new_numbers,
        delayed: ctx.roll.iter().filter(|(_, client)| client.delayed).count() as u32,
        never: ctx.roll.street().unseen() as u32,
        time: sight.now.unix,
        uptime: sight.now.at.since(sight.born.at).as_secs(),
        clients: ctx.roll.len() as u32,
        capacity: ctx.roll.capacity() as u32,
        transfers: sight.transfers as u32,
        guests: ctx.roll.strangers() as u32,
        networks: networks(ctx.config, ctx.roll),
        lanes: lanes(ctx.pace),
        counters: ctx.stats.iter().map(|(name, n)| (name.into(), n)).collect(),
    }
}

/// The guest pools.
pub fn networks(config: &Config, roll: &Roll) -> Vec<Network> {
    let pools = config.networks.iter().zip(&roll.pools);
    let shown = pools.map(|(network, pool)| Network {
        subnet: network.subnet.to_string(),
        guests_held: pool.as_ref().map_or(0, |pool| pool.held()),
        guests_free: pool.as_ref().map_or(0, |pool| pool.free()),
        guests_left: pool.as_ref().map_or(0, |pool| pool.resting()),
        guests_quarantined: pool.as_ref().map_or(0, |pool| pool.quarantined()),
    });
    shown.collect()
}

/// How each boot interface is fed.
pub fn lanes(pace: &Pace) -> Vec<Lane> {
    let millis = |duration: Duration| duration.as_secs_f64() * 1000.0;
    let shown = pace.iter().map(|(interface, lane)| Lane {
        interface: interface.into(),
        regime: lane.regime.to_string(),
        budget: lane.bottleneck.rate(),
        bottleneck: lane.bottleneck.measured(),
        queue_ms: millis(lane.bottleneck.queue()),
        lap_ms: millis(lane.lap()),
        waiting: lane.waiting(),
        deferred: lane.deferred,
        rescued: lane.rescued,
    });
    shown.collect()
}
