//! Numbers: their states, folded; nodes, page by page; one node whole.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::Duration;

use crate::base::addr::Mac;
use crate::engine::boot;
use crate::roll::client::{Client, Identity};
use crate::roll::journal::{Date, Verdict};
use crate::roll::lot::{self, AssignedBy, Wait};
use crate::roll::plan::Number;
use crate::roll::ranges::{Group, Selection};
use crate::roll::stage::Stage;
use crate::wire::control::{LotDetail, LotKind, NodeDetail, NodePage, NodeRow, NodeState, StateRun, States};

use super::machines::firmware;
use super::{Moment, PAGE_LOTS, PAGE_ROWS, given};

/// Network cards of a node that are shown one by one.
const BOOTS_MAX: usize = 16;

/// What is known of a number, and the network card that speaks for it.
struct LotSummary<'a> {
    number: Number,
    macs: &'a [Mac],
    /// Its machine was never heard under its address, though it must have asked for it by now.
    never: bool,
    speaker: Option<&'a Client>,
    state: NodeState,
}

impl<'a> Moment<'a> {
    pub fn states(&self, from: u32) -> States {
        let (lots, next) = self.page(from);
        let mut runs: Vec<StateRun> = Vec::new();
        for number in lots {
            let state = self.place(Number(number)).state;
            match runs.last_mut() {
                Some(run) if run.state == state => run.last = number,
                _ => runs.push(StateRun { state, first: number, last: number }),
            }
        }
        States { runs, next }
    }

    pub fn nodes(&self, selection: Option<&Selection>, from: u32, limit: u32) -> NodePage {
        let limit = limit.clamp(1, PAGE_ROWS) as usize;
        // Numbers alone need no walk to them, and none behind them.
        let numbers = selection.filter(|selection| selection.groups.is_empty()).map(|selection| &selection.numbers);
        let Some(from) = numbers.map_or(Some(from), |numbers| numbers.next(from)) else { return NodePage { rows: Vec::new(), next: None } };
        let (lots, next) = self.page(from);
        let next = next.filter(|next| numbers.is_none_or(|numbers| numbers.next(*next).is_some()));
        let mut rows = Vec::new();
        for number in lots {
            let place = self.place(Number(number));
            if !selection.map_or(place.state != NodeState::Vacant, |selection| place.is_in(selection)) {
                continue;
            }
            if rows.len() == limit {
                return NodePage { rows, next: Some(number) };
            }
            rows.push(self.row(&place));
        }
        NodePage { rows, next }
    }

    /// One node whole, and where each of its settings comes from.
    pub fn node(&self, number: Number) -> NodeDetail {
        let place = self.place(number);
        let records = || place.macs.iter().filter_map(|mac| self.record(*mac));
        let mut lot = self.roll.lots().lot(number).map(lot).unwrap_or_default();
        let conflicts = records().filter_map(|client| Some(("conflict", format!("{}: {}", client.mac(), self.why(client)?))));
        let address = records().find_map(|client| self.elsewhere(client, number)).map(|why| ("address", why));
        let past = self.roll.past_stage(number).map(|(unix, stage)| format!("{} since {}", stage.name(), Date(unix)));
        let failed = records().find_map(|client| match client.evidence.verdict() {
            Verdict::Failed(test) => Some(("failed", format!("test {test} ({})", client.mac()))),
            Verdict::Untested | Verdict::Passed => None,
        });
        let facts = conflicts.chain(failed).chain(address).chain(past.map(|past| ("before the restart", past)));
        lot.facts.extend(facts.map(|(name, value)| (name.to_string(), value)));
        NodeDetail {
            number: number.0,
            name: self.roll.plan.names().of(number).to_string(),
            address: self.roll.plan.address(number),
            state: place.state,
            lot,
            boots: records().take(BOOTS_MAX).map(|client| self.machine(client)).collect(),
            given: given::given(self.config, number),
        }
    }

    fn row(&self, place: &LotSummary<'_>) -> NodeRow {
        let LotSummary { number, speaker, .. } = *place;
        NodeRow {
            number: number.0,
            name: self.roll.plan.names().of(number).to_string(),
            state: place.state,
            address: self.roll.plan.address(number),
            mac: speaker.map(|client| client.mac()).or(place.macs.first().copied()),
            macs: place.macs.len() as u32,
            stage: speaker.map_or_else(|| self.past(number), |client| self.node_stage(client)),
            since_ms: speaker.map(|client| self.millis_since(client.boot.since())),
            firmware: speaker.map(firmware).unwrap_or_default(),
        }
    }

    /// The numbers that one page looks at, and where the next page begins.
    fn page(&self, from: u32) -> (Range<u32>, Option<u32>) {
        let nodes = self.roll.plan.nodes();
        let end = from.saturating_add(PAGE_LOTS).min(nodes);
        (from.min(end)..end, (end < nodes).then_some(end))
    }

    fn place(&self, number: Number) -> LotSummary<'a> {
        let lot = self.roll.lots().lot(number);
        let macs = lot.map_or(&[][..], |lot| lot.fingerprint.macs.as_slice());
        let (kind, speaker) = (lot.map_or(LotKind::Vacant, |lot| kind(lot.state)), self.speaker(number, macs));
        let state = match (kind, speaker) {
            (LotKind::Vacant, _) => NodeState::Vacant,
            (LotKind::Reserved, None) => NodeState::Reserved,
            (LotKind::Occupied, None) if self.was_up(number) => NodeState::Up,
            (LotKind::Occupied, None) => NodeState::Down,
            (_, Some(client)) if client.boot.stuck().is_some() => NodeState::Stuck,
            // At another address it is not to be reached by its name.
            (_, Some(client)) if client.boot.stage() == Stage::Up && self.away(client).is_none() => match client.evidence.verdict() {
                Verdict::Failed(_) => NodeState::Failed,
                Verdict::Untested | Verdict::Passed => NodeState::Up,
            },
            (_, Some(_)) => NodeState::Booting,
        };
        LotSummary { number, macs, never: lot.is_some_and(|lot| self.never(lot)), speaker, state }
    }

    fn record(&self, mac: Mac) -> Option<&'a Client> {
        self.roll.find(&Identity::Mac(mac)).and_then(|key| self.roll.get(key))
    }

    /// The network card that speaks for a node: the one with the node's own address, else the one that moved last.
    fn speaker(&self, number: Number, macs: &[Mac]) -> Option<&'a Client> {
        let own = self.roll.plan.address(number);
        let seen = macs.iter().filter_map(|mac| self.record(*mac));
        seen.max_by_key(|client| (client.address().is_some() && client.address() == own, client.boot.since()))
    }

    /// A guest that was given a number learns it when it renews its lease, or before that lease has ended.
    fn never(&self, lot: &lot::Lot) -> bool {
        let longest = self.config.networks.iter().map(|network| network.guest_lease).max().unwrap_or_default();
        lot.unseen && self.now.unix >= lot.since + longest.as_secs()
    }

    /// The address that a node has in place of its number's, until it asks again or that one is free.
    fn away(&self, client: &Client) -> Option<Ipv4Addr> {
        let own = self.roll.plan.address(client.number()?);
        client.address().filter(|_| client.is_leased() && client.address() != own)
    }

    /// A node that was up when the daemon before this one left has a lease for as long as that lasts, and need not ask before.
    fn was_up(&self, number: Number) -> bool {
        let network = self.roll.plan.address(number).and_then(|address| self.config.network_of(address));
        let network = network.and_then(|at| self.config.networks.get(at));
        let lease = network.map_or(Duration::ZERO, |network| boot::lease(self.config, network, Some(number)));
        let up = self.roll.past_stage(number).is_some_and(|(_, stage)| stage == Stage::Up);
        up && self.now.at.since(self.query.born.at) < lease
    }

    /// The stage of a node, and the address that it has where that is not its number's.
    fn node_stage(&self, client: &Client) -> String {
        let stage = self.stage(client);
        self.away(client).map_or(stage.clone(), |address| format!("{stage} at {address} until its next DHCP request"))
    }

    /// Where a node stood that has not been seen since the daemon began.
    fn past(&self, number: Number) -> String {
        self.roll.past_stage(number).map(|(_, stage)| format!("{} before the restart", stage.name())).unwrap_or_default()
    }

    /// Why a node has not the address of its number: another machine has it.
    fn elsewhere(&self, client: &Client, number: Number) -> Option<String> {
        let (address, left) = (self.roll.plan.address(number)?, client.doubt.put_away().since(self.now.at).as_secs());
        let whose = match client.doubt.user() {
            _ if left == 0 => return None,
            Some(user) => format!("{user} uses {address}"),
            None => format!("{address} was declined"),
        };
        Some(format!("{whose}: {} has another address for {left} s", client.mac()))
    }
}

impl LotSummary<'_> {
    fn is_in(&self, selection: &Selection) -> bool {
        let grouped = |group: &Group| match group {
            Group::All => self.state != NodeState::Vacant,
            Group::Up => self.state == NodeState::Up,
            Group::Stuck => self.state == NodeState::Stuck,
            Group::Booting => self.state == NodeState::Booting,
            Group::Failed => self.state == NodeState::Failed,
            Group::Down => self.state == NodeState::Down,
            Group::Reserved => self.state == NodeState::Reserved,
            Group::Never => self.never,
        };
        selection.numbers.contains(self.number.0) || selection.groups.iter().any(grouped)
    }
}

fn kind(state: lot::LotState) -> LotKind {
    match state {
        lot::LotState::Vacant => LotKind::Vacant,
        lot::LotState::Reserved(_) => LotKind::Reserved,
        lot::LotState::Occupied => LotKind::Occupied,
    }
}

/// A number's place as an operator sees it.
pub fn lot(lot: &lot::Lot) -> LotDetail {
    let mut facts = Vec::new();
    let mut fact = |name: &str, value: String| facts.push((name.to_string(), value));
    match (lot.state, lot.by) {
        (lot::LotState::Reserved(Wait::Next), _) => fact("reserved for", "the next machine that passes".into()),
        (lot::LotState::Reserved(Wait::Mac(mac)), _) => fact("reserved for", mac.to_string()),
        (lot::LotState::Reserved(Wait::Operator), _) => fact("reserved for", "the machine that an operator assigns".into()),
        (lot::LotState::Occupied, AssignedBy::Config(_)) => fact("source", "[[node]] of the config".into()),
        (lot::LotState::Occupied, by) => fact("source", by.name().into()),
        (lot::LotState::Vacant, _) => {}
    }
    if lot.since > 0 && !lot.is_vacant() {
        fact("since", Date(lot.since).to_string());
    }
    if lot.unseen {
        fact("came up", "never since it got its number".into());
    }
    if let Some(uuid) = lot.fingerprint.uuid {
        fact("uuid", uuid.to_string());
    }
    for (name, label) in [("serial", lot.fingerprint.serial), ("switch port", lot.fingerprint.port)] {
        if !label.is_empty() {
            fact(name, label.to_string());
        }
    }
    if !lot.retired.is_empty() {
        fact("retired", lot.retired.to_string());
    }
    LotDetail { kind: kind(lot.state), macs: lot.fingerprint.macs.as_slice().to_vec(), facts }
}
