//! Power: when it comes to machines, and when it goes.
//!
//! A machine without power sends nothing, hears nothing and answers no ARP, whatever it was at. When power is back it begins its life from the first step, with
//! another xid and the ports that its firmware begins with: it remembers nothing.

use std::ops::Range;
use std::time::Duration;

use super::life::{BootStep, StormPlan};
use super::machine::Fleet;
use super::node::{Hop, MachineStatus};
use super::tftp::Download;
use crate::base::outbox::Outbox;
use crate::base::rng::{Rng, mix};
use crate::base::time::Instant;

/// Power comes to some of the machines, or goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// Since the storm began.
    pub at: Duration,
    /// Places of machines: 0 is the first one. What kind of machine stands in a place is drawn from the seed.
    pub who: Range<u32>,
    /// Power comes, to each machine at a time of its own within [`StormPlan::spread`]; or goes, for all at once. Who has power already is left alone.
    pub on: bool,
}

impl StormPlan {
    /// Puts the switches in the order of their times.
    pub(super) fn in_order(mut self) -> StormPlan {
        self.power.sort_by_key(|switch| switch.at);
        self
    }

    /// Whether a machine has power from the beginning: its first switch does not bring it.
    pub(super) fn begins(&self, place: u32) -> bool {
        self.power.iter().find(|switch| switch.who.contains(&place)).is_none_or(|switch| !switch.on)
    }

    /// The machines that have the same switches, as ranges of places in order: none where there are no switches.
    pub fn crowds(&self) -> Vec<Range<u32>> {
        let count = self.count as u32;
        let mut ends: Vec<u32> = self.power.iter().flat_map(|switch| [switch.who.start, switch.who.end]).chain([0, count]).collect();
        ends.retain(|&end| end <= count);
        ends.sort_unstable();
        ends.dedup();
        let ranges = ends.windows(2).map(|ends| ends[0]..ends[1]);
        ranges.filter(|_| !self.power.is_empty()).collect()
    }
}

impl Fleet {
    /// When power changes next.
    pub(super) fn next_switch(&self) -> Option<Instant> {
        self.plan.power.get(self.switched).map(|switch| self.began + switch.at)
    }

    /// Throws the switches that are due.
    pub(super) fn throw_switches(&mut self, now: Instant) {
        while self.next_switch().is_some_and(|at| at <= now) {
            let Some(Switch { who, on, .. }) = self.plan.power.get(self.switched).cloned() else { return };
            self.switched += 1;
            for place in who {
                match on {
                    true => self.wait_for_power(place as usize, now),
                    false => self.power_off(place as usize),
                }
            }
        }
    }

    fn wait_for_power(&mut self, place: usize, now: Instant) {
        if self.nodes[place].status == MachineStatus::Off && self.nodes[place].wake.is_none() {
            let mut rng = Rng::new(mix(self.plan.seed ^ (self.switched as u64) << 32) ^ place as u64);
            let spread = u64::try_from(self.plan.spread.as_nanos()).unwrap_or(u64::MAX);
            self.set_timer(place, Some(now + Duration::from_nanos(rng.below(spread))));
        }
    }

    /// Who was lost before stays lost, unless it gets power once more.
    fn power_off(&mut self, place: usize) {
        let later = self.plan.power.get(self.switched..).unwrap_or(&[]);
        let returns = later.iter().any(|switch| switch.on && switch.who.contains(&(place as u32)));
        let loading = matches!(self.step_of(&self.nodes[place]), Some(BootStep::Fetch(..)));
        let node = &mut self.nodes[place];
        match node.status {
            MachineStatus::Lost(_) if !returns => return,
            MachineStatus::Booting => {
                self.interrupted += 1;
                node.bytes += if loading { node.transfer.hash().len() } else { 0 };
            }
            _ => {}
        }
        if let Some(address) = node.address.take() {
            node.had = Some(address);
            self.release(address, place);
        }
        self.enter_status(place, if returns { MachineStatus::Off } else { MachineStatus::Cut });
        self.set_timer(place, None);
    }

    pub(super) fn power_on(&mut self, place: usize, now: Instant, out: &mut Outbox) {
        let node = &mut self.nodes[place];
        (node.step, node.fetched, node.asleep) = (0, 0, self.plan.wake);
        (node.hop, node.server, node.first_lease) = (Hop::Asked(0), std::net::Ipv4Addr::UNSPECIFIED, None);
        node.transfer = Download::default();
        node.powered = now;
        self.enter_status(place, MachineStatus::Booting);
        self.enter(place, now, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switch(at: u64, who: Range<u32>, on: bool) -> Switch {
        Switch { at: Duration::from_secs(at), who, on }
    }

    #[test]
    fn crowds_have_the_same_switches() {
        let plan = |power| StormPlan { count: 100, power, ..StormPlan::default() }.in_order();
        assert!(plan(Vec::new()).crowds().is_empty());
        assert_eq!(plan(vec![switch(1, 0..50, false)]).crowds(), [0..50, 50..100]);
        assert_eq!(
            plan(vec![switch(2, 90..100, true), switch(1, 0..50, false), switch(3, 0..20, true)]).crowds(),
            [0..20, 20..50, 50..90, 90..100]
        );
        assert_eq!(plan(vec![switch(1, 0..100, false)]).crowds(), vec![0..100; 1]);
    }

    #[test]
    fn who_has_power_from_the_beginning() {
        let plan = StormPlan {
            count: 4,
            power: vec![switch(3, 0..2, true), switch(1, 0..1, false), switch(2, 2..3, false)],
            ..StormPlan::default()
        };
        assert_eq!([0, 1, 2, 3].map(|place| plan.clone().in_order().begins(place)), [true, false, true, true]);
    }
}
