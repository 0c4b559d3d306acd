//! Bytes <-> meaning, no state. Nothing here panics, whatever the bytes, or (but for the operator's protocol, `control`) allocates.

pub mod control;
pub mod dhcp;
pub mod dns;
pub mod ether;
pub mod report;
pub mod tftp;
