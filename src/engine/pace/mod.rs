//! Pacing: how fast a link is fed, and who is served next. Pure: it sees bytes and times, never a packet.
//!
//! The model: clients that each ask for the next window and die when nothing comes for a few seconds, behind a bottleneck whose rate
//! nobody tells us and whose queue drops what exceeds it. The bottleneck is *measured*: each acknowledgement is a sample of the rate at
//! which the way delivers (bytes acknowledged since its packet left, by the time since then), and of the round trip. The greatest
//! delivery rate of the last fifth of a second is the bottleneck's; what is sent is a little less than that, with a probe upwards for
//! one short phase in eight ([`bottleneck`]). So the queue on the way stays all but empty, whether the limit is our own link, a slower
//! one behind the switch, or the clients. Two guards hold besides: the bytes under way never exceed what the way holds plus the `queue
//! delay`; and when round trips rise by more than that over each client's own minimum, for half of the clients ([`crowd`]), the rate
//! backs off until they fall. One client's lateness is its own.
//!
//! *Silence says nothing of the way* ([`quiet`]). Only what a client says is evidence: an acknowledgement that it is delivered, a
//! repeated or partial one, or one that follows a re-transmission, that something was lost. Who does not answer may be dead; who has no
//! record may be anybody, whatever it says. All of them together get a sixteenth of the rate, and are no evidence.
//!
//! *Lap* is the one measure of pressure: the bytes that one turn for each waiting client costs, divided by the rate. It tells the
//! regime, with hysteresis: `bandwidth` while nobody has to wait, `round robin` while the ring of waiting clients is served in order,
//! `deferral` when a lap comes near half a second: then strangers and new transfers wait, within their patience.

mod bottleneck;
mod crowd;
mod lane;
mod quiet;

use std::fmt;

use crate::base::machine::Link;
use crate::base::muffle::Muffle;
use crate::base::time::Instant;
use crate::config::Config;

pub use bottleneck::{Bottleneck, Stamp};
pub use crowd::Witness;
pub use lane::{Lane, Minute, Place};

/// Bytes of a frame beside its IP packet: preamble, start, addresses, type, check sequence, gap.
const FRAME: u64 = 7 + 1 + 14 + 4 + 12;
/// IPv4, UDP and TFTP headers.
const HEADERS: u64 = 20 + 8 + 4;

/// Bytes that a block of this payload takes on the wire.
pub const fn wire_bytes(payload: u64) -> u64 {
    let packet = payload + HEADERS;
    FRAME + if packet < 46 { 46 } else { packet }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Regime {
    Bandwidth,
    RoundRobin,
    Deferral,
}

impl fmt::Display for Regime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Regime::Bandwidth => "bandwidth",
            Regime::RoundRobin => "round robin",
            Regime::Deferral => "deferral",
        })
    }
}

/// The lanes of all links.
pub struct Pace {
    lanes: Box<[Lane]>,
    names: Box<[String]>,
    /// The regime that the log knows of, and what keeps it short.
    told: Box<[(Regime, Muffle)]>,
}

impl Pace {
    /// A lane for each link, for transfers of the slots `0..transfers`.
    pub fn new(config: &Config, transfers: usize, now: Instant) -> Pace {
        Pace {
            lanes: config.links.iter().map(|link| Lane::new(transfers, link.rate, link.queue_delay, now)).collect(),
            names: config.links.iter().map(|link| link.interface.clone()).collect(),
            told: config.links.iter().map(|_| (Regime::Bandwidth, Muffle::default())).collect(),
        }
    }

    /// Takes over what a reload has changed.
    pub fn reconfigure(&mut self, config: &Config) {
        for (lane, link) in self.lanes.iter_mut().zip(&config.links) {
            lane.bottleneck.set_limit(link.rate);
            lane.bottleneck.set_queue(link.queue_delay);
        }
    }

    pub fn links(&self) -> Link {
        self.lanes.len() as Link
    }

    /// The lane of a link; there is at least one, and the server drops what comes from others.
    pub fn lane(&mut self, link: Link) -> &mut Lane {
        let last = self.lanes.len() - 1;
        &mut self.lanes[usize::from(link).min(last)]
    }

    /// Tells when a regime has changed, and once a minute how it goes under load.
    pub fn expire(&mut self, now: Instant) {
        for ((lane, name), (told, muffle)) in self.lanes.iter_mut().zip(&self.names).zip(&mut self.told) {
            let (regime, waiting, lap) = (lane.regime, lane.waiting(), lane.lap().as_millis());
            if regime != *told {
                *told = regime;
                if let Some(more) = muffle.admits(now) {
                    log::info!("{name}: pacing is now by {regime} ({waiting} transfers wait, lap {lap} ms{more})");
                }
            }
            let Some(minute) = lane.minute.filter(|minute| now.since(minute.since) >= Minute::LENGTH) else { continue };
            lane.minute = None;
            let Minute { turns, longest, rescued, deferred, .. } = minute;
            let (rescued, deferred) = (lane.rescued - rescued, lane.deferred - deferred);
            let megabit = |bytes: u64| bytes * 8 / 1_000_000;
            log::info!(
                "{name}: {regime}, {waiting} transfers wait, lap {lap} ms; sends {} of {} Mbit/s measured; \
                 in the last minute {turns} turns, longest wait {} ms, {deferred} deferred, {rescued} rescued",
                megabit(lane.bottleneck.steady_rate()),
                lane.bottleneck.measured().map_or(0, megabit),
                longest.as_millis(),
            );
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.lanes.iter().flat_map(|lane| [lane.deadline(), lane.minute.map(|minute| minute.since + Minute::LENGTH)]).flatten().min()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Lane)> {
        self.names.iter().map(String::as_str).zip(&self.lanes)
    }
}
