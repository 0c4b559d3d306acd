//! The only room that meets the kernel: sockets, files, clock, signals, logs. It drives any machine and names no engine.

pub mod aside;
pub mod clerk;
pub mod confine;
mod conns;
pub mod control;
pub mod daemon;
pub(crate) mod error;
pub mod facts;
pub(crate) mod files;
pub mod firewall;
mod frame;
pub mod inquiry;
pub mod interface;
pub mod journal;
pub mod left;
pub mod manager;
pub(crate) mod neighbours;
mod netlink;
pub(crate) mod packet;
pub(crate) mod poll;
pub(crate) mod queue;
pub mod rows;
pub mod signals;
mod source;
pub mod stderr_log;
pub mod stdio;
mod sys;
pub mod syslog;
pub(crate) mod udp;
mod watch;
pub mod work;

pub use error::ShellError;
pub use poll::{Features, Refused, Shell, monotonic};
pub use sys::clock::is_synchronized;
pub use sys::local_time;
pub use work::Crew;
