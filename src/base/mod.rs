//! Ground floor: knows no protocol.
pub mod addr;
