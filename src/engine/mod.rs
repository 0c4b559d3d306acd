//! The Server machine. Its engines never import each other: they meet in the client's record and in [`Ctx`].

use crate::base::outbox::Outbox;
use crate::base::time::Instant;
use crate::config::Config;
use crate::roll::registry::Registry;
use commit::Commit;
use endpoints::Endpoints;
use links::Links;
use pace::Pace;
use stats::Stats;

pub(crate) mod boot;
mod changes;
mod checkpoint;
mod command;
pub(crate) mod commit;
pub(crate) mod control;
pub mod dhcp;
pub mod dns;
pub mod endpoints;
mod journal;
pub(crate) mod links;
mod lots;
mod moves;
pub(crate) mod pace;
mod reload;
pub(crate) mod returning;
mod router_adverts;
pub mod server;
pub mod stats;
pub mod tftp;
pub(crate) mod turns;
pub(crate) mod view;

/// What an engine works with during one call.
pub struct Ctx<'a> {
    /// Monotonic time, the same for the whole call.
    pub now: Instant,
    /// Seconds since 1970: for records and reports only.
    pub unix: u64,
    /// The config in force.
    pub config: &'a Config,
    /// The table of endpoints.
    pub endpoints: &'a Endpoints,
    /// What is known of each boot interface.
    pub links: &'a mut Links,
    /// All that is known of machines.
    pub roll: &'a mut Registry,
    /// The journal's lane, with those that wait for it.
    pub commit: &'a mut Commit,
    /// Counters.
    pub stats: &'a mut Stats,
    /// The lanes of all links.
    pub pace: &'a mut Pace,
    /// Where outputs go.
    pub out: &'a mut Outbox,
}

/// A transfer as an operator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferView<'a> {
    /// The file's name, in bytes as the client wrote it.
    pub name: &'a [u8],
    /// Bytes that have arrived, and that there are.
    pub done: u64,
    /// The size of the file in bytes.
    pub size: u64,
}

#[cfg(test)]
mod testing;
