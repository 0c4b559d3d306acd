//! The fleet: a machine that is N client machines on one link, each with the habits of real firmware (doc/firmware.md, "Clients").
//!
//! Whoever wants to know how a boot server bears a storm drives it: `muster-storm` on a real link, the simulator in virtual time. It speaks whole
//! Ethernet frames on link 0, answers ARP for its own addresses, and knows nothing of the server but what comes over the wire.
//!
//! Not simulated: HTTP boot, IPv6, fragments, proxyDHCP and boot menus.

pub(crate) mod cause;
pub(crate) mod dhcp;
pub mod exchange;
pub(crate) mod firmware;
pub(crate) mod gaps;
pub mod hostile;
pub mod life;
mod machine;
mod names;
mod node;
pub mod passing;
pub(crate) mod power;
pub mod summary;
pub(crate) mod tftp;

pub use firmware::Firmware;
pub use life::{Life, Stages, StormPlan};
pub use machine::{Fleet, Progress, mac};
pub use node::MachineStatus;
pub use power::Switch;
pub use summary::Summary;
pub use tftp::{Asks, Hash};

#[cfg(test)]
mod tests;

/// A file name, as it goes into an RRQ.
#[derive(Clone, Copy)]
pub struct Name {
    len: u8,
    bytes: [u8; Name::MAX],
}

impl Name {
    const MAX: usize = crate::base::limits::FILE_NAME_MAX;
    /// No name.
    pub const EMPTY: Name = Name { len: 0, bytes: [0; Name::MAX] };

    /// None when it is longer than 255 bytes.
    pub fn new(bytes: &[u8]) -> Option<Name> {
        let mut name = Name::EMPTY;
        name.len = u8::try_from(bytes.len()).ok()?;
        name.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(name)
    }

    /// The name.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Name) -> bool {
        self.bytes() == other.bytes()
    }
}
impl Eq for Name {}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.bytes()))
    }
}
