//! Who is who: numbers, addresses, names, and what is known of each machine. Knows no packet.

pub mod boot;
pub mod client;
pub mod guests;
pub mod journal;
pub mod kind;
pub mod lot;
pub mod offers;
pub mod plan;
pub mod ranges;
pub mod recent;
pub mod registry;
pub mod ruling;
pub mod shares;
pub mod stage;
pub mod story;
pub mod street;
pub mod unwritten;
