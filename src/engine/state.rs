//! The state of the server as an operator sees it: for SIGUSR1 and state.json. Allocates: never called for a packet.

use std::fmt::Write;

use serde::Serialize;

use crate::base::time::Now;
use crate::roll::client::Stage;

use super::control;
use super::pace::Lane;
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
    pub networks: Vec<NetworkState>,
    pub lanes: Vec<LaneState>,
    pub counters: Vec<(&'static str, u64)>,
    /// What the kernel lost or refused; filled in by the shell's side.
    pub kernel: Vec<(&'static str, u64)>,
    pub open_files: usize,
    pub machines: Vec<MachineState>,
}

/// How a boot interface is fed (`engine::pace`).
#[derive(Serialize)]
pub struct LaneState {
    pub interface: String,
    pub regime: String,
    /// Bytes per second that may leave now.
    pub budget: u64,
    /// Bytes per second that the way was measured to carry.
    pub bottleneck: Option<u64>,
    /// Milliseconds of queue on the way, by the rise of round trips.
    pub queue_ms: f64,
    /// Milliseconds that one turn for each running transfer takes.
    pub lap_ms: f64,
    /// Transfers that wait for a turn.
    pub waiting: usize,
    /// New transfers and DISCOVERs that were held for a while.
    pub deferred: u64,
    /// Turns given first because a packet was lost.
    pub rescued: u64,
}

#[derive(Serialize)]
pub struct NetworkState {
    pub subnet: String,
    pub guests_held: usize,
    pub guests_free: usize,
    pub guests_quarantined: usize,
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
        let count = |stage: Stage| self.roll().iter().filter(|(_, client)| client.stage == stage).count();
        let pools = self.config().networks.iter().zip(&self.roll().pools);
        State {
            version: env!("CARGO_PKG_VERSION"),
            time: now.unix,
            uptime: now.at.since(self.born.at).as_secs(),
            clients: self.roll().len(),
            capacity: self.roll().capacity(),
            transfers: self.transfers(),
            stages: Stage::ALL.iter().map(|&stage| (stage.name(), count(stage))).collect(),
            networks: pools
                .map(|(network, pool)| NetworkState {
                    subnet: network.subnet.to_string(),
                    guests_held: pool.as_ref().map_or(0, |pool| pool.held()),
                    guests_free: pool.as_ref().map_or(0, |pool| pool.free()),
                    guests_quarantined: pool.as_ref().map_or(0, |pool| pool.quarantined()),
                })
                .collect(),
            lanes: self.pace().iter().map(|(name, lane)| lane_state(name, lane)).collect(),
            counters: self.stats().iter().map(|(counter, n)| (counter.name(), n)).collect(),
            kernel: Vec::new(),
            open_files: 0,
            machines: self
                .roll()
                .iter()
                .map(|(_, client)| MachineState {
                    identity: client.identity.to_string(),
                    node: client.number.map(|number| number.0),
                    address: client.address.map(|address| address.to_string()),
                    stage: client.stage.name(),
                    since: now.at.since(client.since).as_secs(),
                    firmware: control::firmware(client),
                    lease: client.until.since(now.at).as_secs(),
                    transfers: client.transfers,
                    story: client.story.to_string(),
                })
                .collect(),
        }
    }
}

fn lane_state(interface: &str, lane: &Lane) -> LaneState {
    let millis = |duration: std::time::Duration| duration.as_secs_f64() * 1000.0;
    LaneState {
        interface: interface.into(),
        regime: lane.regime.to_string(),
        budget: lane.bottleneck.rate(),
        bottleneck: lane.bottleneck.measured(),
        queue_ms: millis(lane.bottleneck.queue()),
        lap_ms: millis(lane.lap()),
        waiting: lane.waiting(),
        deferred: lane.deferred,
        rescued: lane.rescued,
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
            let NetworkState { subnet, guests_held, guests_free, guests_quarantined } = network;
            lines.push(format!("state: {subnet}: guests {guests_held} held, {guests_free} free, {guests_quarantined} in quarantine"));
        }
        for lane in &self.lanes {
            let measured = lane.bottleneck.map_or("not measured yet".into(), |rate| format!("measured at {} Mbit/s", rate * 8 / 1_000_000));
            lines.push(format!(
                "state: {}: {}, bottleneck {measured}, queue {:.1} ms, lap {:.0} ms, {} wait, {} deferred, {} rescued",
                lane.interface, lane.regime, lane.queue_ms, lane.lap_ms, lane.waiting, lane.deferred, lane.rescued
            ));
        }
        let counters: Vec<String> = self.counters.iter().chain(&self.kernel).map(|(name, n)| format!("{name} {n}")).collect();
        lines.push(format!("state: {}", counters.join(", ")));
        lines
    }
}
