//! Bytes <-> meaning, no state. Nothing here allocates or panics, whatever the bytes.

pub mod dhcp;
pub mod ether;
pub mod report;
pub mod tftp;
