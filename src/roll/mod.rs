//! Who is who: numbers, addresses, names, and what is known of each machine. Knows no packet.

pub(crate) mod boot;
pub(crate) mod client;
pub(crate) mod guests;
pub mod journal;
pub(crate) mod kind;
pub mod lot;
pub(crate) mod lot_table;
pub(crate) mod offers;
pub mod plan;
pub mod ranges;
pub(crate) mod recent;
pub(crate) mod registry;
pub(crate) mod ruling;
pub(crate) mod shares;
pub(crate) mod stage;
pub(crate) mod story;
pub(crate) mod unwritten;
