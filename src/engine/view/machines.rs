//! Machines that have a record, with a number or without: one row each, wherever it is shown.

use crate::base::time::Instant;
use crate::engine::lots;
use crate::roll::client::Client;
use crate::roll::journal::Verdict;
use crate::roll::kind::FirmwareKind;
use crate::roll::ruling::Ruling;
use crate::roll::stage::Stage;
use crate::roll::story::Printable;
use crate::wire::control::{Guests, MachineRow, StageTime};

use super::{Moment, PAGE_GUESTS, PAGE_LOTS};

impl Moment<'_> {
    /// A row for each record. O(capacity).
    pub fn machines(&self) -> impl Iterator<Item = MachineRow> + '_ {
        self.roll.iter().map(|(_, client)| self.machine(client))
    }

    pub fn guests(&self, from: u32, limit: u32) -> Guests {
        let limit = limit.clamp(1, PAGE_GUESTS) as usize;
        let capacity = self.roll.capacity() as u32;
        let end = from.saturating_add(PAGE_LOTS).min(capacity);
        let mut rows = Vec::new();
        for slot in from.min(end)..end {
            let Some(client) = self.roll.at_slot(slot as usize).filter(|client| client.number().is_none()) else { continue };
            if rows.len() == limit {
                return Guests { rows, next: Some(slot) };
            }
            rows.push(self.machine(client));
        }
        Guests { rows, next: (end < capacity).then_some(end) }
    }

    pub(super) fn machine(&self, client: &Client) -> MachineRow {
        let link = self.config.links.get(usize::from(client.route.link()));
        MachineRow {
            id: client.identity().to_string(),
            number: client.number().map(|number| number.0),
            address: client.address(),
            interface: link.map(|link| link.interface.clone()).unwrap_or_default(),
            firmware: firmware(client),
            stage: self.stage(client),
            since_ms: self.millis_since(client.boot.since()),
            lease: client.binding.until().since(self.now.at).as_secs(),
            transfers: client.loading.running(),
            verdict: self.why(client),
            steps: self.steps(client),
            story: client.boot.story().to_string(),
        }
    }

    /// The stage, and how far a file has come.
    pub(super) fn stage(&self, client: &Client) -> String {
        if let Some(place) = client.boot.stuck() {
            return format!("stuck: {place}");
        }
        let loads = client.boot.stage() == Stage::Loading;
        match self.query.tftp.loading(client.loading.last()).filter(|_| loads) {
            Some(loading) => {
                let percent = loading.done.saturating_mul(100).checked_div(loading.size).unwrap_or(0);
                format!("loading {} {percent} %", Printable(loading.name))
            }
            None if client.evidence.verdict() == Verdict::Passed
                && client.evidence.kind() == FirmwareKind::Other
                && matches!(client.boot.stage(), Stage::Discover | Stage::Probing | Stage::Offered) =>
            {
                "passed".into()
            }
            None => client.boot.stage().name().into(),
        }
    }

    /// Why a machine that was tested is not simply a node: its test failed, it waits, it is in conflict with another.
    pub(super) fn why(&self, client: &Client) -> Option<String> {
        let key = self.key(client).filter(|_| client.evidence.verdict() != Verdict::Untested)?;
        match lots::ruling(self.config, self.roll, key, client.route.network(), false, &[]) {
            Ruling::Guest(reason) => Some(reason.to_string()),
            Ruling::Enlist(_) => Some("passed: gets a number at its next DHCP request".into()),
            _ => None,
        }
    }

    fn steps(&self, client: &Client) -> Vec<StageTime> {
        // Being seen and being probed are one thing to an operator.
        let shown = Stage::ALL.into_iter().filter(|stage| *stage != Stage::Probing);
        let mut steps: Vec<(Instant, Stage)> = shown.filter_map(|stage| Some((client.boot.reached(stage)?, stage))).collect();
        steps.sort_by_key(|(at, _)| *at);
        steps.iter().map(|(at, stage)| StageTime { stage: stage.name().into(), ago_ms: self.millis_since(*at) }).collect()
    }
}

/// Firmware and architecture, as the client reported last.
pub(super) fn firmware(client: &Client) -> String {
    client.evidence.arch().map_or_else(|| client.evidence.kind().to_string(), |arch| format!("{} {arch}", client.evidence.kind()))
}
