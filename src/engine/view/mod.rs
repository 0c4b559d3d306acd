//! What an operator sees, as rows: the one read model. What `muster` prints, with `--json` or without, the log lines of SIGUSR1 and `state.json`
//! are written from these rows, so they cannot disagree.
//!
//! Reads, never writes. Allocates, since no machine that boots waits for it. Made by the Server and the operators' engine, for one moment.
//!
//! | rows | of | cost |
//! |---|---|---|
//! | [`Status`](crate::wire::control::Status) | the whole, in numbers | a walk of all client records, which counts |
//! | [`States`](crate::wire::control::States), [`NodePage`](crate::wire::control::NodePage) | numbers | a page: at most [`PAGE_LOTS`] of them |
//! | [`NodeDetail`](crate::wire::control::NodeDetail) | one number, and where each setting comes from | its network cards |
//! | [`Guests`](crate::wire::control::Guests) | machines without a number | a page: at most [`PAGE_LOTS`] client records |
//! | [`FoundPage`](crate::wire::control::FoundPage) | what a text can mean | a page: at most [`PAGE_LOTS`] numbers or client records |
//! | [`Snapshot`] | everything | the status, and one row for each client record: see there |

mod find;
mod given;
mod machines;
mod nodes;
mod snapshot;
mod status;

use std::time::Duration;

use crate::base::slab::Key;
use crate::base::time::{Instant, Now};
use crate::config::Config;
use crate::roll::client::Client;
use crate::roll::registry::Registry;

use super::Ctx;
use super::dns::Dns;
use super::links::Links;
use super::pace::Pace;
use super::stats::Stats;
use super::tftp::Tftp;

pub use nodes::lot;
pub use snapshot::Snapshot;

/// Numbers (or client records) that are looked at for one page.
pub const PAGE_LOTS: u32 = 1024;
/// Rows of one page of nodes, and of guests, who come with their stories, whatever the client would like.
pub const PAGE_ROWS: u32 = 64;
pub const PAGE_GUESTS: u32 = 32;

/// What rows tell of beside the context.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    /// When the daemon began.
    pub born: Now,
    pub tftp: &'a Tftp,
    pub dns: &'a Dns,
}

/// The Server at one moment.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    pub now: Now,
    pub config: &'a Config,
    pub links: &'a Links,
    pub roll: &'a Registry,
    pub stats: &'a Stats,
    pub pace: &'a Pace,
    pub query: Sight<'a>,
}

impl<'a> Moment<'a> {
    /// As a call of the machine has it.
    pub fn of(ctx: &'a Ctx<'_>, query: Sight<'a>) -> Moment<'a> {
        let Ctx { now, unix, config, links, roll, stats, pace, .. } = ctx;
        Moment { now: Now { at: *now, unix: *unix }, config, links, roll, stats, pace, query }
    }

    fn key(&self, client: &Client) -> Option<Key<Client>> {
        self.roll.find(&client.identity())
    }

    /// How long ago something was, in milliseconds.
    fn millis_since(&self, then: Instant) -> u64 {
        u64::try_from(self.now.at.since(then).as_millis()).unwrap_or(u64::MAX)
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests;
