//! Puts a lease into the kernel: address, default routes, host name.
//!
//! The new address is set before the old one goes, and the link stays up: what runs on the node sees a second address for a moment. A
//! guest's address ends by itself with its lease, whoever forgets to renew it; that of a numbered node stays, since nobody else is ever
//! given it.

use std::fs;
use std::io;
use std::time::Duration;

use muster::fleet::passing::PassingLease;
use muster::shell::ShellError;
use muster::shell::interface::{DefaultRoute, Interface, Interfaces, PrefixedAddress};

use crate::tell;

/// What an address that the server has refused may live on, so that the one that follows comes before it goes.
const NOTICE: Duration = Duration::from_secs(10);
/// Linux's limit of a host name (`__NEW_UTS_LEN`).
const HOST_NAME_MAX: usize = 64;

/// What is in force on the interface.
pub struct Applied {
    links: Interfaces,
    interface: Interface,
    address: Option<PrefixedAddress>,
}

impl Applied {
    pub fn new(links: Interfaces, interface: Interface) -> Applied {
        Applied { links, interface, address: None }
    }

    /// Makes the lease the interface's only IPv4 configuration.
    pub fn apply(&mut self, lease: &PassingLease) -> Result<(), ShellError> {
        let address = (lease.address, lease.prefix);
        let name = self.interface.name.clone();
        let failed = |what: &'static str| {
            let name = name.clone();
            move |error: io::Error| ShellError::system(format_args!("{name}: cannot {what}"), error, "run as root, or with CAP_NET_ADMIN")
        };
        self.set(lease).map_err(failed("set the address"))?;
        let old: Vec<PrefixedAddress> = self.links.addresses(self.interface.index)?.into_iter().filter(|old| *old != address).collect();
        if !old.is_empty() {
            let promoting = Promoting::begin(&self.interface.name);
            for &old in &old {
                self.links.remove_address(self.interface.index, old).map_err(failed("remove the old address"))?;
                log::info!("{}: removed the old address {}", self.interface.name, old.0);
            }
            drop(promoting);
            // Where /proc cannot be written the kernel removes the others of a subnet together with the oldest.
            if !self.links.addresses(self.interface.index)?.contains(&address) {
                self.set(lease).map_err(failed("set the address again"))?;
            }
        }
        self.address = Some(address);
        self.route(lease).map_err(failed("set the default route"))
    }

    fn set(&mut self, lease: &PassingLease) -> io::Result<()> {
        let ends = lease.seconds != u32::MAX && tell::number(lease).is_none();
        // The lease counts from the REQUEST, which was a moment ago.
        let lifetime = ends.then(|| Duration::from_secs(lease.seconds.into()).saturating_sub(Duration::from_secs(1)));
        self.links.set_address(self.interface.index, (lease.address, lease.prefix), lease.broadcast(), lifetime)
    }

    /// The lease's routers, the first the best; other default routes of this interface go.
    fn route(&mut self, lease: &PassingLease) -> io::Result<()> {
        let index = self.interface.index;
        let usable = |gateway: &std::net::Ipv4Addr| {
            let usable = lease.is_local(*gateway) && *gateway != lease.address;
            if !usable {
                log::warn!("{}: router {gateway} ignored (it is not on the subnet)", self.interface.name);
            }
            usable
        };
        let routers = lease.routers.iter().filter(usable).zip(0..);
        let wanted: Vec<DefaultRoute> = routers.map(|(gateway, metric)| DefaultRoute { index, gateway, metric, leased: true }).collect();
        let is = |one: &DefaultRoute, other: &DefaultRoute| (one.gateway, one.metric) == (other.gateway, other.metric);
        let there = self.links.default_routes()?;
        let mut own = there.iter().filter(|route| route.index == index);
        for route in &wanted {
            if own.clone().any(|old| is(old, route)) {
                continue;
            }
            if let Some(other) = there.iter().find(|old| old.index != index && old.metric == route.metric) {
                log::warn!("{}: the default route via {} of another interface takes precedence", self.interface.name, other.gateway);
            }
            self.links.add_default_route(*route)?;
        }
        own.try_for_each(|old| if wanted.iter().any(|route| is(old, route)) { Ok(()) } else { self.links.remove_default_route(*old) })
    }

    /// The server has refused the address that is in force: it ends soon, unless another one takes its place before.
    pub fn refused(&mut self) {
        if let Some(address) = self.address {
            if let Err(error) = self.links.set_address(self.interface.index, address, None, Some(NOTICE)) {
                log::warn!("{}: cannot limit the lifetime of {}: {error}", self.interface.name, address.0);
            }
        }
    }
}

/// While it lives, the second address of a subnet takes the place of the first one that is removed, instead of going with it.
struct Promoting(Option<(String, String)>);

impl Promoting {
    fn begin(interface: &str) -> Promoting {
        let path = format!("/proc/sys/net/ipv4/conf/{interface}/promote_secondaries");
        let before = fs::read_to_string(&path).ok();
        let set = before.filter(|_| fs::write(&path, "1").is_ok());
        Promoting(set.map(|before| (path, before)))
    }
}

impl Drop for Promoting {
    fn drop(&mut self) {
        if let Some((path, before)) = &self.0 {
            let _ = fs::write(path, before);
        }
    }
}

/// Sets the node's name to the first part of what it was given; one that is no name is left aside.
pub fn set_host_name(lease: &PassingLease) {
    let Some(name) = tell::host_name(lease) else { return };
    if name.len() > HOST_NAME_MAX {
        return log::warn!("host name: {name:?} is too long (not changed)");
    }
    if let Err(error) = fs::write("/proc/sys/kernel/hostname", name) {
        log::warn!("host name: cannot set {name}: {error} (check that /proc is mounted, and run as root)");
    }
}
