//! Records of machines that were loading when the daemon before this one ended.
//!
//! The journal has guests and their leases; a node's lease is no state (law 5). So that a node is what it was over a restart, seen by operators
//! and known to be there, its record is made again when what it loads is taken up: with the address of its number, if it still has that number.

use std::net::Ipv4Addr;

use crate::base::addr::Mac;
use crate::base::outbox::Output;
use crate::base::slab::Key;
use crate::roll::client::{Client, Identity};
use crate::roll::kind::{Arch, FirmwareKind};
use crate::roll::stage::Stage;

use super::{Ctx, boot};

/// A machine as it was.
pub struct Returning {
    pub address: Ipv4Addr,
    pub identity: Identity,
    pub arch: Option<Arch>,
    /// The program that asked for its address last.
    pub program: FirmwareKind,
}

/// The record of a machine that loads. None: by now the address is another's, or nobody's.
pub fn record(ctx: &mut Ctx<'_>, machine: &Returning) -> Option<Key<Client>> {
    let key = match ctx.roll.at_address(machine.address) {
        Some(key) => Some(key).filter(|&key| ctx.roll.get(key).is_some_and(|client| client.identity() == machine.identity))?,
        None => lease_again(ctx, machine)?,
    };
    let firmware = machine.program != FirmwareKind::Other;
    let client = ctx.roll.get_mut(key)?;
    client.evidence.asked(machine.arch, machine.program);
    // The journal knows its lease, and not for what it has it.
    if firmware && client.boot.stage() == Stage::Up {
        ctx.roll.enter(ctx.now, key, Stage::Discover, format_args!(""));
    }
    if firmware {
        ctx.roll.begin_boot(ctx.now, key);
    }
    neighbour(ctx, key, machine.address);
    Some(key)
}

/// Makes the record of a node.
fn lease_again(ctx: &mut Ctx<'_>, machine: &Returning) -> Option<Key<Client>> {
    let number = ctx.roll.number_of(&machine.identity).filter(|&number| ctx.roll.plan.address(number) == Some(machine.address))?;
    let (at, network) = ctx.config.networks.iter().enumerate().find(|(_, network)| network.subnet.is_host(machine.address))?;
    let key = ctx.roll.admit(ctx.now, machine.identity)?;
    if ctx.roll.get(key).is_some_and(|client| client.address().is_some()) || !ctx.roll.bind(key, machine.address) {
        return None;
    }
    if let Some(client) = ctx.roll.get_mut(key) {
        client.route.restored(at, network.link);
    }
    ctx.roll.lease(key, ctx.now + boot::lease(ctx.config, network, Some(number)));
    Some(key)
}

/// Has the kernel know it: a daemon that ends takes its entries back.
fn neighbour(ctx: &mut Ctx<'_>, key: Key<Client>, address: Ipv4Addr) {
    let Some(client) = ctx.roll.get_mut(key) else { return };
    let link = ctx.config.networks.get(client.route.network()).and_then(|network| network.link);
    let Some(link) = link.filter(|_| client.mac() != Mac::ZERO && client.neighbour.link().is_none()) else { return };
    let mac = client.mac();
    client.neighbour.made(ctx.now, link);
    ctx.out.put(Output::Neighbour { link, ip: address, mac: Some(mac) });
}
