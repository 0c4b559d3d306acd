//! What another plan would do to nodes that hold leases: a config that moves them is taken over by an operator's word only.
//!
//! A node learns its new address at its next REQUEST: it gets a NAK, and asks again. Where its new address is still another node's lease it is
//! a guest, on a short lease, until that lease ends.

use std::fmt;
use std::net::Ipv4Addr;

use crate::roll::plan::{AddressPlan, Number};
use crate::roll::registry::Registry;
use crate::roll::stage::Stage;

/// Nodes side by side that move side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    pub first: Number,
    pub last: Number,
    /// The first one's address, and what it becomes.
    pub from: Ipv4Addr,
    pub to: Ipv4Addr,
}

/// `n0-n211: 10.54.1.0-10.54.1.211 -> 10.55.1.0-10.55.1.211`
impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = self.last.0 - self.first.0;
        let end = |address: Ipv4Addr| Ipv4Addr::from(u32::from(address).saturating_add(more));
        match more {
            0 => write!(f, "{}: {} -> {}", self.first, self.from, self.to),
            _ => write!(f, "{}-{}: {}-{} -> {}-{}", self.first, self.last, self.from, end(self.from), self.to, end(self.to)),
        }
    }
}

/// The nodes that hold a lease on their address, or that did when the daemon before this one left, and that `plan` gives another one.
/// O(capacity): for reloads.
pub fn moves(roll: &Registry, plan: &AddressPlan) -> Vec<Move> {
    let mut holds = vec![false; roll.plan.nodes() as usize];
    let leases =
        roll.iter().filter(|(_, client)| client.is_leased() && client.address() == client.number().and_then(|n| roll.plan.address(n)));
    let before =
        (0..roll.plan.nodes()).map(Number).filter(|number| roll.past_stage(*number).is_some_and(|(_, stage)| stage != Stage::Discover));
    for number in leases.filter_map(|(_, client)| client.number()).chain(before) {
        if let Some(place) = holds.get_mut(number.0 as usize) {
            *place = true;
        }
    }
    let mut moves: Vec<Move> = Vec::new();
    for number in holds.iter().zip(0..).filter(|(holds, _)| **holds).map(|(_, n)| Number(n)) {
        let (Some(from), Some(to)) = (roll.plan.address(number), plan.address(number)) else { continue };
        if from == to {
            continue;
        }
        let goes_on = |of: &&mut Move| {
            let by = number.0 - of.first.0;
            let next = |address: Ipv4Addr| Ipv4Addr::from(u32::from(address).wrapping_add(by));
            of.last.0 + 1 == number.0 && next(of.from) == from && next(of.to) == to
        };
        match moves.last_mut().filter(goes_on) {
            Some(of) => of.last = number,
            None => moves.push(Move { first: number, last: number, from, to }),
        }
    }
    moves
}
