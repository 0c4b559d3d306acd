//! The state of the server as an operator sees it: for SIGUSR1 and state.json. Allocates: never called for a packet.

use std::fmt::Write;

use serde::Serialize;

use crate::base::time::Now;
use crate::roll::stage::Stage;
use crate::wire::control::{Lane, Network};

use super::control;
use super::dns;
use super::server::Server;

#[derive(Serialize)]
pub struct State {
    pub version: &'static str,
    /// Seconds since 1970-01-01 UTC.
    pub time: u64,
    /// Seconds since the start.
    pub uptime: u64,
    pub clients: usize,
    pub capacity: usize,
    pub transfers: usize,
    /// How many machines are in each stage.
    pub stages: Vec<(&'static str, usize)>,
    pub networks: Vec<Network>,
    pub lanes: Vec<Lane>,
    /// None: no names are served.
    pub dns: Option<Names>,
    pub counters: Vec<(&'static str, u64)>,
    /// What the kernel lost or refused; filled in by the shell's side.
    pub kernel: Vec<(String, u64)>,
    pub open_files: usize,
    pub machines: Vec<MachineState>,
}

#[derive(Serialize)]
pub struct Names {
    pub zone: String,
    pub reverse_zones: u64,
    pub serial: u32,
    /// Questions that wait for other servers.
    pub waiting: usize,
    pub transfers: usize,
}

#[derive(Serialize)]
pub struct MachineState {
    pub identity: String,
    pub node: Option<u32>,
    pub address: Option<String>,
    pub stage: &'static str,
    /// Seconds in this stage.
    pub since: u64,
    pub firmware: String,
    /// Seconds until the address falls back.
    pub lease: u64,
    pub transfers: u16,
    pub story: String,
}

impl Server {
    pub fn state(&self, now: Now) -> State {
        let names = |report: dns::Report| {
            let dns::Report { zone, reverse_zones, serial, waiting, transfers } = report;
            Names { zone, reverse_zones, serial, waiting, transfers }
        };
        let count = |stage: Stage| self.roll().iter().filter(|(_, client)| client.boot.stage() == stage).count();
        State {
            version: env!("CARGO_PKG_VERSION"),
            time: now.unix,
            uptime: now.at.since(self.born.at).as_secs(),
            clients: self.roll().len(),
            capacity: self.roll().capacity(),
            transfers: self.transfers(),
            stages: Stage::ALL.iter().map(|&stage| (stage.name(), count(stage))).collect(),
            networks: control::networks(self.config(), self.roll()),
            lanes: control::lanes(self.pace()),
            dns: self.config().dns.enabled.then(|| names(self.names())),
            counters: self.stats().iter().collect(),
            kernel: Vec::new(),
            open_files: 0,
            machines: self
                .roll()
                .iter()
                .map(|(_, client)| MachineState {
                    identity: client.identity.to_string(),
                    node: client.number.map(|number| number.0),
                    address: client.address.map(|address| address.to_string()),
                    stage: client.boot.stage().name(),
                    since: now.at.since(client.boot.since()).as_secs(),
                    firmware: control::firmware(client),
                    lease: client.until.since(now.at).as_secs(),
                    transfers: client.transfers,
                    story: client.boot.story().to_string(),
                })
                .collect(),
        }
    }
}

impl State {
    /// The state in a few log lines.
    pub fn lines(&self) -> Vec<String> {
        let mut stages = String::new();
        for (name, n) in self.stages.iter().filter(|(_, n)| *n > 0) {
            let _ = write!(stages, ", {n} {name}");
        }
        let mut lines = vec![format!(
            "state: {} of {} client records{stages}; {} transfers; {} boot files open; up {} s",
            self.clients, self.capacity, self.transfers, self.open_files, self.uptime
        )];
        for network in &self.networks {
            let Network { subnet, guests_held, guests_free, guests_left, guests_quarantined } = network;
            lines.push(format!(
                "state: {subnet}: guest addresses: {guests_held} held, {guests_free} free, {guests_left} abandoned before their leases end, \
                 {guests_quarantined} in quarantine"
            ));
        }
        for lane in &self.lanes {
            let measured = lane.bottleneck.map_or("not measured yet".into(), |rate| format!("measured at {} Mbit/s", rate * 8 / 1_000_000));
            lines.push(format!(
                "state: {}: {}, bottleneck {measured}, queue {:.1} ms, lap {:.0} ms, {} transfers wait, {} deferred, {} rescued",
                lane.interface, lane.regime, lane.queue_ms, lane.lap_ms, lane.waiting, lane.deferred, lane.rescued
            ));
        }
        if let Some(Names { zone, reverse_zones, serial, waiting, transfers }) = &self.dns {
            lines.push(format!(
                "state: dns: zone {zone} and {reverse_zones} reverse zones, serial {serial}, {waiting} queries wait for upstreams, {transfers} zone transfers"
            ));
        }
        let counters: Vec<String> = self
            .counters
            .iter()
            .map(|(name, n)| (*name, n))
            .chain(self.kernel.iter().map(|(name, n)| (name.as_str(), n)))
            .map(|(name, n)| format!("{name} {n}"))
            .collect();
        lines.push(format!("state: {}", counters.join(", ")));
        lines
    }
}
