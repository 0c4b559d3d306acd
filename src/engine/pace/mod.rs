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

use crate::base::limits::LINKS_MAX;
use crate::base::log_limit::LogLimit;
use crate::base::machine::Link;
use crate::base::time::Instant;
use crate::config::Config;

pub use bottleneck::{Bottleneck, SendStamp};
pub use crowd::Witness;
pub use lane::{Lane, Minute, Taker, Turn, WaitQueue, Waiter};

/// Bytes of a frame beside its IP packet: preamble, start, addresses, type, check sequence, gap.
const FRAME: u64 = 7 + 1 + 14 + 4 + 12;
/// A full frame of Ethernet on the wire: the unit of queues and buckets.
pub const FULL_FRAME: u64 = wire_bytes(1500);

/// Bytes that an IP packet of this length takes on the wire.
pub const fn wire_bytes(packet: u64) -> u64 {
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
    told: Box<[(Regime, LogLimit)]>,
    /// Links where a record has wanted a turn since turns were given last: a bit for each.
    wanted: u16,
}

const _: () = assert!(LINKS_MAX <= u16::BITS as usize);

impl Pace {
    /// A lane for each link, which all `takers` share.
    pub fn new(config: &Config, takers: &[Taker], now: Instant) -> Pace {
        Pace {
            lanes: config.links.iter().map(|link| Lane::new(takers, link.rate, link.queue_delay, now)).collect(),
            names: config.links.iter().map(|link| link.interface.clone()).collect(),
            told: config.links.iter().map(|_| (Regime::Bandwidth, LogLimit::default())).collect(),
            wanted: 0,
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
        let at = self.at(link);
        &mut self.lanes[at]
    }

    fn at(&self, link: Link) -> usize {
        usize::from(link).min(self.lanes.len() - 1)
    }

    /// A record wants a turn, and takes a place unless it has one. Turns are given after the present input (`engine::turns`), which may
    /// have opened the path.
    pub fn want(&mut self, now: Instant, link: Link, place: WaitQueue, who: Waiter) {
        let at = self.at(link);
        self.wanted |= 1 << at;
        let lane = &mut self.lanes[at];
        if !lane.waits(who) {
            lane.enter(now, place, who);
        }
    }

    /// The links where a record has wanted a turn since the last call.
    pub fn wanted(&mut self) -> impl Iterator<Item = Link> + use<> {
        let wanted = std::mem::take(&mut self.wanted);
        (0..LINKS_MAX as Link).filter(move |link| wanted >> link & 1 == 1)
    }

    /// Tells when a regime has changed, and once a minute how it goes under load.
    pub fn expire(&mut self, now: Instant) {
        for ((lane, name), (told, log_limit)) in self.lanes.iter_mut().zip(&self.names).zip(&mut self.told) {
            let (regime, waiting, lap) = (lane.regime, lane.waiting(), lane.lap().as_millis());
            if regime != *told {
                *told = regime;
                if let Some(more) = log_limit.allow(now) {
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
