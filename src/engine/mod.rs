//! The Server machine. Its engines never import each other: they meet in the client's record and in [`Ctx`].

use crate::base::outbox::Outbox;
use crate::base::time::Instant;
use crate::config::Config;
use crate::roll::registry::Roll;
use commit::Commit;
use endpoints::Endpoints;
use links::Links;
use pace::Pace;
use stats::Stats;

mod adverts;
pub mod boot;
mod changes;
mod checkpoint;
mod command;
pub mod commit;
pub mod control;
pub mod dhcp;
pub mod dns;
pub mod endpoints;
mod history;
pub mod links;
mod lots;
mod moves;
pub mod pace;
mod reload;
pub mod server;
pub mod stats;
pub mod tftp;
pub mod turns;
pub mod view;

/// What an engine works with during one call.
pub struct Ctx<'a> {
    pub now: Instant,
    /// Seconds since 1970: for records and reports only.
    pub unix: u64,
    pub config: &'a Config,
    pub endpoints: &'a Endpoints,
    pub links: &'a Links,
    pub roll: &'a mut Roll,
    pub commit: &'a mut Commit,
    pub stats: &'a mut Stats,
    pub pace: &'a mut Pace,
    pub out: &'a mut Outbox,
}

/// A transfer as an operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loading<'a> {
    pub name: &'a [u8],
    /// Bytes that have arrived, and that there are.
    pub done: u64,
    pub size: u64,
}

#[cfg(test)]
mod testing;
