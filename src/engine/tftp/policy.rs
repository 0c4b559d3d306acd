//! How to treat each kind of client when packets may have been lost (doc/firmware.md, "Clients"; law 7).
//!
//! Every transfer is looked at every half second at least. What was not acknowledged and can no longer be under way is sent again at the
//! kind's constant interval, at most as often as the kind survives, until something is heard from it. The interval is less than the half
//! second, so that a client whose packet is lost twice in a row, and which waits for its turn in a lap each time, waits a second at most.

use std::time::Duration;

use crate::roll::kind::FirmwareKind;
use crate::wire::tftp::TftpOptions;

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

pub const fn of(kind: FirmwareKind) -> Policy {
    match kind {
        // A duplicate of the current block uses up one of its three tries: two are safe, the rest is its own 4 s retry.
        FirmwareKind::Rom => policy(400, 2, 60_000),
        // A duplicate makes a Pi 4 acknowledge the next block and hang: its own retries, 5 s apart, go first.
        FirmwareKind::RaspberryPi => policy(11_000, 3, 60_000),
        // Gives up after 15.75 s and leaves orphans.
        FirmwareKind::Ipxe => policy(400, ALWAYS, 16_000),
        // GRUB never repeats an ACK: recovery is ours alone.
        FirmwareKind::Grub => policy(400, ALWAYS, 60_000),
        FirmwareKind::Edk2 | FirmwareKind::Pxelinux | FirmwareKind::UBoot | FirmwareKind::Other => policy(400, ALWAYS, 140_000),
    }
}

/// Who is asking: the habits of a request say more than the DHCP record, since one firmware loads the next and lends it its lease.
pub fn kind_of(known: FirmwareKind, options: &TftpOptions) -> FirmwareKind {
    match (known, options.blksize, options.tsize, options.windowsize, options.timeout) {
        // It loads no other program, and asks as GRUB does.
        (FirmwareKind::RaspberryPi, ..) => known,
        (_, Some(1024), Some(_), None, None) => FirmwareKind::Grub,
        (_, _, _, Some(_), _) if known == FirmwareKind::Rom => FirmwareKind::Edk2,
        (_, Some(1408), Some(_), None, None) => FirmwareKind::Pxelinux,
        (FirmwareKind::Other | FirmwareKind::Rom, Some(_), _, None, Some(_)) => FirmwareKind::UBoot,
        _ => known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_served_at_constant_intervals() {
        for &kind in FirmwareKind::ALL {
            let policy = of(kind);
            assert!(policy.early < policy.interval && policy.interval >= Duration::from_millis(400));
        }
        assert_eq!(of(FirmwareKind::Rom).resends, 2, "the third duplicate is fatal");
        assert!(of(FirmwareKind::RaspberryPi).interval > Duration::from_secs(10), "two retries of its own go first");
    }

    #[test]
    fn requests_tell_their_sender() {
        let asks = |blksize, tsize, windowsize, timeout| TftpOptions { blksize, tsize, windowsize, timeout };
        assert_eq!(kind_of(FirmwareKind::Rom, &asks(Some(1024), Some(0), None, None)), FirmwareKind::Grub);
        assert_eq!(kind_of(FirmwareKind::Rom, &asks(Some(1468), Some(0), Some(4), None)), FirmwareKind::Edk2);
        assert_eq!(kind_of(FirmwareKind::RaspberryPi, &asks(Some(1024), Some(0), None, None)), FirmwareKind::RaspberryPi);
        assert_eq!(kind_of(FirmwareKind::Rom, &asks(Some(1456), None, None, None)), FirmwareKind::Rom);
        assert_eq!(kind_of(FirmwareKind::Ipxe, &asks(Some(1432), Some(0), None, None)), FirmwareKind::Ipxe);
    }
}
