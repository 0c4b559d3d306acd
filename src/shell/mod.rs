//! The only room that meets the kernel: sockets, files, clock, signals, logs. It drives any machine and names no engine.

pub mod clerk;
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
pub mod names;
pub mod neigh;
pub mod packet;
pub mod poll;
pub mod queue;
pub mod signals;
pub mod stdio;
mod sys;
pub mod syslog;
pub mod udp;
pub mod work;

pub use error::Error;
pub use poll::{Features, Shell};
pub use signals::Signal;
pub use sys::local_time;
pub use work::Crew;
