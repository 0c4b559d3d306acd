//! The virtual world: one server machine and one client machine on a modelled link, in virtual time, with a modelled disk.
//!
//! Everything follows from a seed: the same seed gives the same run, frame for frame. The world honours the contract of
//! [`Machine`](crate::base::machine::Machine) and hands what passes to [`checks`], which know nothing of the code they judge.
//! For tests and measurements: allocates, and panics where a machine breaks its word.

pub mod cable;
pub mod changes;
pub(crate) mod checks;
mod clerk;
pub mod config;
pub(crate) mod conns;
pub mod disk;
pub mod flicker;
mod frame;
pub mod hostile;
mod journal;
pub mod net;
mod queue;
pub mod swarm;
mod table;
mod tftp_checks;
pub mod world;
pub mod years;

pub use config::config;

#[cfg(test)]
mod tests;
