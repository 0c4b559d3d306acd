//! What there is to doubt of the address of a machine: whether ARP was asked, what the machine has declined, and until when the address of its
//! number is not given.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::base::addr::Mac;
use crate::base::time::Instant;

/// How long a DECLINE is remembered.
const LATELY: Duration = Duration::from_secs(60);

#[derive(Default)]
pub struct Doubt {
    asked: Instant,
    declined: bool,
    /// The address that it declined last, when it began to decline, and how often it has since.
    address: Option<Ipv4Addr>,
    since: Instant,
    times: u8,
    user: Option<Mac>,
    put_away: Instant,
}

impl Doubt {
    /// ARP was asked for the address of its number: answers count until then.
    pub fn asked(&self) -> Instant {
        self.asked
    }

    /// Whether ARP was asked because the machine declined the address.
    pub fn is_declined(&self) -> bool {
        self.declined
    }

    /// The address of its number is another machine's: until then it has a guest address.
    pub fn put_away(&self) -> Instant {
        self.put_away
    }

    /// Who was found on the address of its number, while that is not given.
    pub fn user(&self) -> Option<Mac> {
        self.user
    }

    /// The address that it has declined lately, and how often; none and 0 when it has not.
    pub fn lately(&self, now: Instant) -> (Option<Ipv4Addr>, u8) {
        if now.since(self.since) < LATELY { (self.address, self.times) } else { (None, 0) }
    }

    /// The machine declines an address; gives how often it has declined one lately.
    pub fn declines(&mut self, now: Instant, address: Ipv4Addr) -> u8 {
        if now.since(self.since) >= LATELY {
            (self.since, self.times) = (now, 0);
        }
        (self.address, self.times) = (Some(address), self.times.saturating_add(1));
        self.times
    }

    /// ARP is asked for the address of its number, before it is offered.
    pub fn asks(&mut self, until: Instant) {
        (self.asked, self.declined) = (until, false);
    }

    /// ARP is asked whether the machine has declined the address rightly.
    pub(super) fn asks_of_declined(&mut self, until: Instant) {
        (self.asked, self.declined) = (until, true);
    }

    /// The address of its number is not given until then. `user`: the MAC that uses it, if ARP has shown one.
    pub fn puts_away(&mut self, until: Instant, user: Option<Mac>) {
        (self.put_away, self.user) = (until, user);
        (self.asked, self.declined) = (Instant::ZERO, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_declined_is_forgotten() {
        let (mut doubt, address) = (Doubt::default(), Ipv4Addr::new(10, 0, 0, 9));
        let at = |seconds: u64| Instant::from_millis((100 + seconds) * 1000);
        assert_eq!(doubt.lately(at(0)), (None, 0));
        assert_eq!([0, 30, 59].map(|seconds| doubt.declines(at(seconds), address)), [1, 2, 3]);
        assert_eq!((doubt.lately(at(59)), doubt.lately(at(60))), ((Some(address), 3), (None, 0)), "since the first one");
        assert_eq!(doubt.declines(at(61), address), 1);
    }
}
