//! What has happened, counted by the engines' own names.

use crate::base::stats::{Counted, Tally};

use super::{dhcp, dns, tftp};

crate::counters! {
    JournalRecord = "journal record written",
    RouterAdvert = "router advertisement sent",
    LinkOutOfService = "dropped: boot interface out of service",
}

/// The tallies of all engines.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    dhcp: Tally<dhcp::Counter>,
    tftp: Tally<tftp::Counter>,
    dns: Tally<dns::Counter>,
    own: Tally<Counter>,
}

/// A counter that has its tally here.
pub trait Known: Counted {
    fn tally(stats: &Stats) -> &Tally<Self>;
    fn tally_mut(stats: &mut Stats) -> &mut Tally<Self>;
}

macro_rules! known {
    ($($counter:ty: $tally:ident,)*) => {$(
        impl Known for $counter {
            fn tally(stats: &Stats) -> &Tally<$counter> {
                &stats.$tally
            }

            fn tally_mut(stats: &mut Stats) -> &mut Tally<$counter> {
                &mut stats.$tally
            }
        }
    )*};
}

known! {
    dhcp::Counter: dhcp,
    tftp::Counter: tftp,
    dns::Counter: dns,
    Counter: own,
}

impl Stats {
    pub fn count(&mut self, counter: impl Known) {
        self.add(counter, 1);
    }

    pub fn add<C: Known>(&mut self, counter: C, n: u64) {
        C::tally_mut(self).add(counter, n);
    }

    pub fn get<C: Known>(&self, counter: C) -> u64 {
        C::tally(self).get(counter)
    }

    /// All counters that are not zero, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.dhcp.iter().chain(self.tftp.iter()).chain(self.dns.iter()).chain(self.own.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names<C: Counted>() -> Vec<&'static str> {
        C::ALL.iter().map(|counter| counter.name()).collect()
    }

    #[test]
    fn names_are_unique() {
        let all = [names::<dhcp::Counter>(), names::<tftp::Counter>(), names::<dns::Counter>(), names::<Counter>()].concat();
        let mut names = all.clone();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
    }
}
