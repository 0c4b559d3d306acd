//! Who is who: numbers, addresses, names, and what is known of each machine. Knows no packet.

pub mod kind;
pub mod plan;
