//! Everything at one moment, as a checkpoint writes it: `state.json`, and a few lines of the log.

use std::fmt::Write;

use serde::Serialize;

use crate::wire::control::{DnsStatus, MachineRow, PoolStatus, Status};

use super::Moment;

/// What `state.json` holds.
///
/// It costs a status and a row for each client record, in one turn: with its JSON about 0.7 microseconds and 550 bytes a record (4,000 machines that
/// are up, release build), so 7 ms for 10,000 and 90 ms for the largest table. Only a checkpoint makes one.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    #[serde(flatten)]
    pub status: Status,
    /// What the kernel lost or refused: the world has counted it.
    pub kernel: Vec<(String, u64)>,
    pub open_files: usize,
    pub machines: Vec<MachineRow>,
}

impl Snapshot {
    pub fn of(moment: &Moment<'_>, kernel: Vec<(String, u64)>, open_files: usize) -> Snapshot {
        Snapshot { status: moment.status(), kernel, open_files, machines: moment.machines().collect() }
    }

    /// The text of `state.json`.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// The same in a few log lines.
    pub fn lines(&self) -> Vec<String> {
        let Status { clients, capacity, transfers, uptime, stages, networks, lanes, dns, counters, .. } = &self.status;
        let mut shown = String::new();
        for (name, n) in stages.iter().filter(|(_, n)| *n > 0) {
            let _ = write!(shown, ", {n} {name}");
        }
        let mut lines = vec![format!(
            "state: {clients} of {capacity} client records{shown}; {transfers} transfers; {} boot files open; up {uptime} s",
            self.open_files
        )];
        for network in networks {
            let PoolStatus { subnet, guests_held, guests_free, guests_left, guests_quarantined } = network;
            lines.push(format!(
                "state: {subnet}: guest addresses: {guests_held} held, {guests_free} free, {guests_left} abandoned before their leases end, \
                 {guests_quarantined} in quarantine"
            ));
        }
        for lane in lanes {
            let measured = lane.bottleneck.map_or("not measured yet".into(), |rate| format!("measured at {} Mbit/s", rate * 8 / 1_000_000));
            lines.push(format!(
                "state: {}: {}, bottleneck {measured}, queue {:.1} ms, lap {:.0} ms, {} transfers wait, {} deferred, {} rescued",
                lane.interface, lane.regime, lane.queue_ms, lane.lap_ms, lane.waiting, lane.deferred, lane.rescued
            ));
        }
        if let Some(DnsStatus { zone, reverse_zones, serial, waiting, transfers }) = dns {
            lines.push(format!(
                "state: dns: zone {zone} and {reverse_zones} reverse zones, serial {serial}, {waiting} queries wait for upstreams, {transfers} zone transfers"
            ));
        }
        let counters: Vec<String> = counters.iter().chain(&self.kernel).map(|(name, n)| format!("{name} {n}")).collect();
        lines.push(format!("state: {}", counters.join(", ")));
        lines
    }
}
