//! The only room that meets the kernel: sockets, files, clock, signals, logs. It drives any machine and names no engine.

pub mod clerk;
mod conns;
pub mod control;
pub mod daemon;
pub mod error;
pub mod facts;
pub mod files;
mod frame;
pub mod interface;
pub mod journal;
pub mod lines;
pub mod manager;
pub mod neigh;
pub mod packet;
pub mod poll;
pub mod queue;
pub mod signals;
mod source;
pub mod stdio;
mod sys;
pub mod syslog;
pub mod udp;
pub mod work;

pub use error::Error;
pub use poll::{Features, Refused, Shell};
pub use sys::local_time;
pub use work::Crew;
