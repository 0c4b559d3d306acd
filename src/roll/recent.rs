//! The last steps of all machines: a ring that `Registry::enter` and its neighbours write while somebody watches, and from which each watcher
//! reads at its own pace. Writing is O(1) and allocates nothing; a reader that falls behind by more than [`RECENT`] steps loses
//! the oldest, and hears how many. A step bears no time: its readers read it within a moment.

use std::fmt;
use std::net::Ipv4Addr;

use crate::base::text::Text;

use super::client::{Client, Identity};
use super::plan::Number;
use super::stage::Stage;

/// Steps that the ring holds.
pub const RECENT: usize = 1024;

/// One step of one machine.
#[derive(Clone, Copy)]
pub struct StageChange {
    pub number: Option<Number>,
    pub identity: Identity,
    pub address: Option<Ipv4Addr>,
    pub stage: Stage,
    pub text: Text<120>,
    /// It went wrong.
    pub trouble: bool,
}

#[derive(Default)]
pub struct Recent {
    ring: Vec<StageChange>,
    /// Steps ever written: the place of the next one.
    next: u64,
    /// Readers there are. Without any nothing is written.
    watchers: u32,
}

impl Recent {
    /// Allocates the ring.
    pub fn new() -> Recent {
        Recent { ring: Vec::with_capacity(RECENT), next: 0, watchers: 0 }
    }

    /// The place from which a new reader reads on.
    pub fn join(&mut self) -> u64 {
        self.watchers += 1;
        self.next
    }

    pub fn leave(&mut self) {
        self.watchers = self.watchers.saturating_sub(1);
    }

    /// The place behind the last step.
    pub fn next(&self) -> u64 {
        self.next
    }

    pub fn write(&mut self, client: &Client, trouble: bool, text: fmt::Arguments<'_>) {
        if self.watchers == 0 {
            return;
        }
        let (number, identity, address, stage) = (client.number(), client.identity(), client.address(), client.boot.stage());
        let step = StageChange { number, identity, address, stage, text: Text::of(text), trouble };
        let place = (self.next % RECENT as u64) as usize;
        match self.ring.get_mut(place) {
            Some(old) => *old = step,
            None => self.ring.push(step),
        }
        self.next += 1;
    }

    /// The step at a reader's place; `Err` tells how many it has lost, all of them older than the place that it then reads on from.
    pub fn read(&self, place: u64) -> Result<Option<&StageChange>, u64> {
        let oldest = self.next.saturating_sub(self.ring.len() as u64);
        match place {
            place if place < oldest => Err(oldest - place),
            place if place >= self.next => Ok(None),
            place => Ok(self.ring.get((place % RECENT as u64) as usize)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::addr::Mac;
    use crate::base::time::Instant;

    #[test]
    fn a_slow_reader_loses_the_oldest_and_is_told() {
        let client = Client::new(Identity::Mac(Mac([2, 0, 0, 0, 0, 1])), Some(Number(7)), Instant::ZERO);
        let mut recent = Recent::new();
        let write = |recent: &mut Recent, n: u64| recent.write(&client, false, format_args!("step {n}"));
        write(&mut recent, 0);
        assert_eq!(recent.next(), 0, "nobody watches");
        let mut place = recent.join();
        (1..=3).for_each(|n| write(&mut recent, n));
        assert_eq!(recent.read(place).ok().flatten().map(|step| step.text.as_str().to_string()), Some("step 1".to_string()));
        place += 3;
        assert!(recent.read(place).is_ok_and(|step| step.is_none()));
        (0..RECENT as u64 + 5).for_each(|n| write(&mut recent, n));
        assert_eq!(recent.read(place).err(), Some(5));
        assert!(recent.read(place + 5).is_ok_and(|step| step.is_some()) && recent.ring.capacity() == RECENT);
        recent.leave();
        write(&mut recent, 9);
        assert_eq!(recent.next(), RECENT as u64 + 8);
    }
}
