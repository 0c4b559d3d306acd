//! The whole in numbers: the plan, the counts, the guest pools, the lanes, the names.

use std::net::Ipv4Addr;

use crate::roll::plan::{self, Number};
use crate::roll::stage::Stage;
use crate::wire::control::{LaneStatus, PoolStatus, SegmentRow, Status};

use super::{Moment, millis};

/// What one walk of all client records counts.
#[derive(Default)]
struct Counts {
    stages: [u32; Stage::ALL.len()],
    delayed: u32,
}

impl Moment<'_> {
    /// O(capacity): counts all client records.
    pub fn status(&self) -> Status {
        let (plan, counts) = (self.roll.plan, self.counts());
        let stages = Stage::ALL.iter().zip(counts.stages);
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            cluster: plan.names().domain().into(),
            node0: plan.address(Number(0)).unwrap_or(Ipv4Addr::UNSPECIFIED),
            nodes: plan.nodes(),
            segments: plan.pieces().iter().map(segment).collect(),
            prefix: plan.names().prefix().into(),
            digits: plan.names().digits(),
            head: self.config.head(),
            ignore: self.config.ignore.iter().map(ToString::to_string).collect(),
            numbering: self.config.numbering.to_string(),
            new_numbers: self.config.new_numbers,
            delayed: counts.delayed,
            never: self.roll.lots().unseen() as u32,
            time: self.now.unix,
            uptime: self.now.at.since(self.query.born.at).as_secs(),
            clients: self.roll.len() as u32,
            capacity: self.roll.capacity() as u32,
            transfers: self.query.tftp.len() as u32,
            guests: self.roll.strangers() as u32,
            stages: stages.map(|(stage, count)| (stage.name().into(), count)).collect(),
            networks: self.networks(),
            lanes: self.lanes(),
            dns: self.config.dns.enabled.then(|| self.query.dns.status()),
            counters: self.stats.iter().map(|(name, n)| (name.into(), n)).collect(),
        }
    }

    fn counts(&self) -> Counts {
        self.roll.iter().fold(Counts::default(), |mut counts, (_, client)| {
            counts.delayed += u32::from(client.prospect.is_delayed());
            if let Some(count) = counts.stages.get_mut(client.boot.stage() as usize) {
                *count += 1;
            }
            counts
        })
    }

    /// The guest pools.
    fn networks(&self) -> Vec<PoolStatus> {
        let pools = self.config.networks.iter().zip(&self.roll.pools);
        let shown = pools.map(|(network, pool)| PoolStatus {
            subnet: network.subnet.to_string(),
            guests_held: pool.as_ref().map_or(0, |pool| pool.held()),
            guests_free: pool.as_ref().map_or(0, |pool| pool.free()),
            guests_left: pool.as_ref().map_or(0, |pool| pool.resting()),
            guests_quarantined: pool.as_ref().map_or(0, |pool| pool.quarantined()),
        });
        shown.collect()
    }

    /// How each boot interface is fed.
    fn lanes(&self) -> Vec<LaneStatus> {
        let shown = (0..).zip(self.pace.iter()).map(|(link, (interface, lane))| LaneStatus {
            interface: interface.into(),
            addresses: self
                .config
                .links
                .get(usize::from(link))
                .map_or_else(Vec::new, |link| [&[link.head], link.others.as_slice()].concat()),
            trouble: self.links.trouble(link).map(ToString::to_string),
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
}

fn segment(piece: &plan::Segment) -> SegmentRow {
    SegmentRow { first: piece.first.0, last: piece.last.0, address: piece.address }
}
