//! muster: a boot server for compute clusters.
pub mod base;
pub mod wire;
