//! muster: a boot server for compute clusters.
pub mod base;
pub mod config;
pub mod engine;
pub mod fleet;
pub mod roll;
pub mod shell;
pub mod sim;
pub mod wire;
