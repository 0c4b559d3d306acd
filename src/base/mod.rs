//! Ground floor: knows no protocol. Time, chance, fixed tables, timers, counters, and the contract of a machine.

pub mod addr;
pub mod bucket;
pub mod chain;
pub mod endpoint;
pub mod facts;
pub mod index;
pub mod limits;
pub mod log_limit;
pub mod machine;
pub mod outbox;
pub mod rng;
pub mod slab;
pub mod stats;
pub mod text;
pub mod time;
pub mod wheel;
