//! The serial of the zones: it grows when they change, stays when they do not, and never goes back, whatever the clock does (RFC 1982): else
//! secondaries keep what they have, or transfer everything at each restart. It is kept in a small file beside the journal.

use std::fmt;

use crate::config::Config;

/// The file's only line but for a comment: `serial 1700000000 of 0123456789abcdef`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial {
    /// What SOA records say.
    pub number: u32,
    /// Of what zones are made of.
    digest: u64,
}

impl Serial {
    /// The name of its file.
    pub const FILE: &'static str = "serial";

    /// Of a config that is in force since a time, in seconds.
    pub fn of(config: &Config, unix: u64) -> Serial {
        Serial { number: unix as u32, digest: digest(config) }
    }

    /// None for what is no such file.
    pub fn read(text: &str) -> Option<Serial> {
        let line = text.lines().find(|line| !line.starts_with('#'))?;
        let (number, digest) = line.strip_prefix("serial ")?.split_once(" of ")?;
        Some(Serial { number: number.parse().ok()?, digest: u64::from_str_radix(digest, 16).ok()? })
    }

    /// What follows it for zones that are made of this: itself, if they are the same; else the time, but always a later one.
    pub fn then(self, next: Serial) -> Serial {
        let later = (1..1 << 31).contains(&next.number.wrapping_sub(self.number));
        match () {
            () if next.digest == self.digest => self,
            () if later => next,
            () => Serial { number: self.number.wrapping_add(1), ..next },
        }
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# The serial of the DNS zones, and of which plan. Written by musterd; see FILES in musterd(8).")?;
        writeln!(f, "serial {} of {:016x}", self.number, self.digest)
    }
}

/// FNV-1a of the plan, the networks and the head's addresses.
fn digest(config: &Config) -> u64 {
    let names = config.plan.names();
    let networks: Vec<_> = config.networks.iter().map(|network| (network.subnet, network.guests)).collect();
    let heads: Vec<_> = config.links.iter().map(|link| link.head).collect();
    let plan = (config.plan.pieces(), names.prefix(), names.digits(), names.domain());
    let text = format!("{plan:?} {networks:?} {heads:?}");
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::config;

    #[test]
    fn it_stays_with_the_plan_and_never_goes_back() {
        let (mut config, now) = (config(), 1_700_000_000);
        let kept = Serial::of(&config, now);
        assert_eq!(Serial::read(&kept.to_string()), Some(kept));
        assert_eq!(kept.then(Serial::of(&config, now + 9)), kept, "a restart");
        config.networks[0].guests = None;
        assert_eq!(kept.then(Serial::of(&config, now + 9)).number, 1_700_000_009);
        assert_eq!(kept.then(Serial::of(&config, 1_000_000_000)).number, 1_700_000_001, "the clock went back");
        let last = Serial { number: u32::MAX, ..kept };
        assert_eq!(last.then(Serial::of(&config, now + (1 << 32))).number, 1_700_000_000, "RFC 1982");
        assert_eq!(Serial { number: 5, ..kept }.then(Serial { number: 5 + (1 << 31), ..Serial::of(&config, 0) }).number, 6);
        for text in ["", "serial", "serial x of y", "# serial 1 of 2", "serial 1 of"] {
            assert_eq!(Serial::read(text), None, "{text}");
        }
    }
}
