//! Text, flags and facts -> one checked [`Config`], before anything is opened.
//!
//! Every later room may rely on what is checked here: addresses do not overlap, every number has an address, links exist, limits hold.
//!
//! The way of a config: `parsed` reads the file by the table of `keys`; `resolve` fills what the file leaves out, by `links`, `layout` and
//! `boot`, and checks what no single key can be blamed for; what is complete then is both the [`Config`] and the [`Listing`] that shows it.

mod boot;
mod check;
mod derive;
mod error;
mod file;
mod keys;
mod layout;
pub mod limits;
mod links;
mod listing;
mod memory;
mod model;
mod options;
mod parsed;
mod resolve;
mod value;

#[cfg(test)]
mod tests;

pub use error::{ConfigError, ConfigText, Position, nearest};
pub use file::{ConfigFile, MachineFacts, Unresolved};
pub use keys::{Dhcp, Dns, Server, Tftp};
pub use listing::{Listing, Setting, SettingValue};
pub use memory::LinkMemory;
pub use model::{Boot, Config, KnownNode, LinkConfig, Network, Override, System};
pub use resolve::{Flags, Resolved, resolve};
pub use value::{KeyName, Origin};

pub use crate::base::facts::Hardware;
pub use crate::roll::kind::Arch;
pub use crate::roll::ruling::Numbering;
