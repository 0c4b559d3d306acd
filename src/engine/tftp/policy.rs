//! How to treat each kind of client when packets may have been lost (doc/firmware.md, "Clients"; law 7).
//!
//! Every transfer is looked at every half second at least. What was not acknowledged and can no longer be under way is sent again at the
//! kind's constant interval, at most as often as the kind survives, until something is heard from it. The interval is less than the half
//! second, so that a client whose packet is lost twice in a row, and which waits for its turn in a lap each time, waits a second at most.

use std::time::Duration;

use crate::roll::kind::Kind;
use crate::wire::tftp::Options;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Between two sendings of the same packet that the client did not ask for.
    pub interval: Duration,
    /// How many such sendings the client is given for one block.
    pub resends: u8,
    /// An ACK that repeats the last one sooner than this after our last packet is an echo, not a retry.
    pub early: Duration,
    /// The client is dead, or has forgotten the transfer, after this silence. The config's give-up time caps it.
    pub patience: Duration,
}

const fn policy(interval_ms: u64, resends: u8, patience_ms: u64) -> Policy {
    Policy {
        interval: Duration::from_millis(interval_ms),
        resends,
        // pxelinux retries first, after 110 ms.
        early: Duration::from_millis(100),
        patience: Duration::from_millis(patience_ms),
    }
}

const ALWAYS: u8 = u8::MAX;

pub const fn of(kind: Kind) -> Policy {
    match kind {
        // A duplicate of the current block uses up one of its three tries: two are safe, the rest is its own 4 s retry.
        Kind::Rom => policy(400, 2, 60_000),
        // A duplicate makes a Pi 4 acknowledge the next block and hang: its own retries, 5 s apart, go first.
        Kind::RaspberryPi => policy(11_000, 3, 60_000),
        // Gives up after 15.75 s and leaves orphans.
        Kind::Ipxe => policy(400, ALWAYS, 16_000),
        // GRUB never repeats an ACK: recovery is ours alone.
        Kind::Grub => policy(400, ALWAYS, 60_000),
        Kind::Edk2 | Kind::Pxelinux | Kind::UBoot | Kind::Other => policy(400, ALWAYS, 140_000),
    }
}

/// Who is asking: the habits of a request say more than the DHCP record, since one firmware loads the next and lends it its lease.
pub fn kind_of(known: Kind, options: &Options) -> Kind {
    match (known, options.blksize, options.tsize, options.windowsize, options.timeout) {
        // It loads no other program, and asks as GRUB does.
        (Kind::RaspberryPi, ..) => known,
        (_, Some(1024), Some(_), None, None) => Kind::Grub,
        (_, _, _, Some(_), _) if known == Kind::Rom => Kind::Edk2,
        (_, Some(1408), Some(_), None, None) => Kind::Pxelinux,
        (Kind::Other | Kind::Rom, Some(_), _, None, Some(_)) => Kind::UBoot,
        _ => known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_served_at_constant_intervals() {
        for kind in [Kind::Other, Kind::Rom, Kind::Edk2, Kind::Ipxe, Kind::Grub, Kind::Pxelinux, Kind::UBoot, Kind::RaspberryPi] {
            let policy = of(kind);
            assert!(policy.early < policy.interval && policy.interval >= Duration::from_millis(400));
        }
        assert_eq!(of(Kind::Rom).resends, 2, "the third duplicate is fatal");
        assert!(of(Kind::RaspberryPi).interval > Duration::from_secs(10), "two retries of its own go first");
    }

    #[test]
    fn requests_tell_their_sender() {
        let asks = |blksize, tsize, windowsize, timeout| Options { blksize, tsize, windowsize, timeout };
        assert_eq!(kind_of(Kind::Rom, &asks(Some(1024), Some(0), None, None)), Kind::Grub);
        assert_eq!(kind_of(Kind::Rom, &asks(Some(1468), Some(0), Some(4), None)), Kind::Edk2);
        assert_eq!(kind_of(Kind::RaspberryPi, &asks(Some(1024), Some(0), None, None)), Kind::RaspberryPi);
        assert_eq!(kind_of(Kind::Rom, &asks(Some(1456), None, None, None)), Kind::Rom);
        assert_eq!(kind_of(Kind::Ipxe, &asks(Some(1432), Some(0), None, None)), Kind::Ipxe);
    }
}
