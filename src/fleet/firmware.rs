//! How each kind of firmware behaves on the wire: data tables with the constants of the real programs.
//!
//! Sources: doc/firmware.md, PXE 2.1 (2.2.4: DHCP waits of 4, 8, 16 and 32 s), iPXE's `retry.c` and `dhcp.c`, EDK2's
//! `Dhcp4Dxe`, `Mtftp4Dxe` and `UefiPxeBcDxe`, GRUB's `net/tftp.c`, syslinux's `TimeoutTable`, U-Boot's `net/tftp.c` and `net/bootp.c`, busybox's
//! `udhcpc`. A Raspberry Pi's boot ROM is closed: its waits are inferred.

use std::fmt;
use std::time::Duration;

use crate::wire::tftp::{ErrorCode, TftpOptions};

macro_rules! firmwares {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $profile:ident;)*) => {
        /// A program that boots a machine.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Firmware { $(#[doc = $text] $(#[$doc])* $name,)* }

        impl Firmware {
            /// All of them, in the order of their declaration.
            pub const ALL: &'static [Firmware] = &[$(Firmware::$name,)*];

            /// Its name in flags and in tables.
            pub const fn name(self) -> &'static str {
                match self { $(Firmware::$name => $text,)* }
            }

            /// How it behaves.
            pub const fn profile(self) -> &'static Profile {
                match self { $(Firmware::$name => &$profile,)* }
            }
        }
    };
}

firmwares! {
    /// A PXE ROM made from Intel's reference code.
    Rom = "rom", ROM;
    Edk2 = "edk2", EDK2;
    Ipxe = "ipxe", IPXE;
    /// Borrows the lease of the firmware that loaded it.
    Grub = "grub", GRUB;
    /// A Raspberry Pi 4.
    RaspberryPi = "pi", RASPBERRY_PI;
    /// Borrows the lease of the ROM that loaded it.
    Pxelinux = "pxelinux", PXELINUX;
    UBoot = "uboot", UBOOT;
    /// busybox's udhcpc, as an initramfs runs it (`-n`).
    Os = "os", OS;
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What one program does. Programs that borrow a lease have the DHCP habits of the one that lends it, for lives that begin with them.
#[derive(Debug)]
pub struct Profile {
    pub dhcp: DhcpHabits,
    pub tftp: TftpHabits,
}

/// When an offer is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    AtOnce,
    /// When the wait that it arrived in is over: offers are collected until then.
    WaitEnds,
    /// At once when it says that no proxyDHCP offer is to be waited for (option 60 `PXEClient`, or 175.176); otherwise at the end of the first wait
    /// that ends this much after the first DISCOVER, or with the next offer after that.
    Marked {
        proxy: Duration,
    },
    /// At once, but only offers whose option 43 has the item "Raspberry Pi Boot".
    Menu,
}

/// How a program asks for a lease.
#[derive(Debug)]
pub struct DhcpHabits {
    /// The wait after each DISCOVER. After the last one it gives up.
    pub discover: &'static [Duration],
    /// The wait after each REQUEST.
    pub request: &'static [Duration],
    pub pick: Pick,
    /// Asks for broadcast replies.
    pub broadcast: bool,
    /// Option 60.
    pub vendor_class: Option<&'static [u8]>,
    /// Option 77, as it is sent.
    pub user_class: Option<&'static [u8]>,
    /// Option 175: what iPXE was built with, as tags of a version each.
    pub features: Option<&'static [u8]>,
    /// Option 93 (RFC 4578), with options 94 and 97.
    pub arch: Option<u16>,
    /// Sends option 61: hardware type and MAC.
    pub client_id: bool,
    /// Option 55.
    pub parameters: &'static [u8],
    /// Option 57: bytes of an IP datagram.
    pub max_size: u16,
    /// Reads option 67 as a text that ends with NUL, and runs into the byte behind it when there is none.
    pub needs_nul: bool,
    /// Goes on to renew its lease.
    pub renews: bool,
}

/// What a program makes of a DATA packet that is not the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnexpectedData {
    /// A duplicate of the current block uses up one of the tries and is acknowledged; any other is fatal.
    CountsAsTry,
    /// The last block is acknowledged again, whatever came.
    AckLast,
    /// An old block is acknowledged by its own number; a future one is ignored.
    AckOld,
    /// Ignored.
    Ignore,
    /// A duplicate of the current block makes it acknowledge the next one, and hang.
    Hang,
}

/// How a program loads a file.
#[derive(Debug)]
pub struct TftpHabits {
    /// The wait after each RRQ; after the last one the load has failed.
    pub rrq: &'static [Duration],
    /// The wait after each ACK for the next block, likewise.
    pub data: &'static [Duration],
    /// Sends its last ACK again after a wait. GRUB never does.
    pub repeats_ack: bool,
    /// Each RRQ leaves from a port of its own.
    pub port_per_rrq: bool,
    pub asks: TftpOptions,
    /// A first RRQ, only to learn the size, and the ERROR that ends it.
    pub probe: Option<(TftpOptions, ErrorCode)>,
    pub wrong: UnexpectedData,
    /// An OACK with an option that it did not ask for is fatal. One with a larger value is for everybody.
    pub strict: bool,
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// PXE 2.1, 2.2.4; also EDK2's `mPxeDhcpTimeout`.
const PXE_WAITS: &[Duration] = &[s(4), s(8), s(16), s(32)];
/// iPXE's `retry.c`: doubling until the next wait would be above 10 s.
const IPXE_DHCP: &[Duration] = &[s(1), s(2), s(4), s(8)];
const IPXE_TFTP: &[Duration] = &[ms(250), ms(500), s(1), s(2), s(4), s(8)];
/// U-Boot's `bootp.c`: 250 ms doubling to 2 s, for 28 s in all.
const UBOOT_DHCP: &[Duration] = &[ms(250), ms(500), s(1), s(2), s(2), s(2), s(2), s(2), s(2), s(2), s(2), s(2), s(2), s(2), s(2), s(2)];

/// GRUB's `net.h`: 40 tries, each 20 ms longer than the one before.
const GRUB_TRIES: [Duration; 40] = {
    let mut waits = [ms(400); 40];
    let mut i = 0;
    while i < 40 {
        waits[i] = ms(400 + 20 * i as u64);
        i += 1;
    }
    waits
};

/// syslinux's `TimeoutTable`, in ticks of the BIOS clock.
const PXELINUX_TICKS: [u8; 31] =
    [2, 2, 3, 3, 4, 5, 6, 7, 9, 10, 12, 15, 18, 21, 26, 31, 37, 44, 53, 64, 77, 92, 110, 132, 159, 191, 229, 255, 255, 255, 255];
const PXELINUX_WAITS: [Duration; 31] = {
    let mut waits = [Duration::ZERO; 31];
    let mut i = 0;
    while i < 31 {
        waits[i] = Duration::from_micros(PXELINUX_TICKS[i] as u64 * 54_925);
        i += 1;
    }
    waits
};

const NONE: TftpOptions = TftpOptions { blksize: None, tsize: None, timeout: None, windowsize: None };
const TSIZE: TftpOptions = TftpOptions { tsize: Some(0), ..NONE };

/// What PXE asks for (PXE 2.1, table 2-3, as far as servers know it): mask, router, DNS, name, vendor options, server, 66, 67, 97, 128 to 135.
const PXE_PARAMETERS: &[u8] = &[1, 3, 6, 12, 13, 15, 17, 43, 54, 60, 66, 67, 97, 128, 129, 130, 131, 132, 133, 134, 135];

const ROM: Profile = Profile {
    dhcp: DhcpHabits {
        discover: PXE_WAITS,
        request: PXE_WAITS,
        pick: Pick::AtOnce,
        broadcast: true,
        vendor_class: Some(b"PXEClient:Arch:00000:UNDI:002001"),
        user_class: None,
        features: None,
        arch: Some(0),
        client_id: false,
        parameters: PXE_PARAMETERS,
        max_size: 1260,
        needs_nul: true,
        renews: false,
    },
    tftp: TftpHabits {
        rrq: &[s(5); 3],
        data: &[s(4); 3],
        repeats_ack: true,
        port_per_rrq: true,
        asks: TftpOptions { blksize: Some(1456), ..NONE },
        probe: Some((TSIZE, ErrorCode::NotDefined)),
        wrong: UnexpectedData::CountsAsTry,
        strict: false,
    },
};

const EDK2: Profile = Profile {
    dhcp: DhcpHabits {
        pick: Pick::WaitEnds,
        vendor_class: Some(b"PXEClient:Arch:00007:UNDI:003016"),
        arch: Some(7),
        max_size: 65_535,
        needs_nul: false,
        ..ROM.dhcp
    },
    tftp: TftpHabits {
        rrq: &[s(4); 6],
        data: &[s(4); 6],
        repeats_ack: true,
        port_per_rrq: false,
        asks: TftpOptions { blksize: Some(1468), windowsize: Some(4), ..NONE },
        probe: Some((TftpOptions { blksize: Some(1468), windowsize: Some(4), ..TSIZE }, ErrorCode::OptionRefused)),
        wrong: UnexpectedData::AckLast,
        strict: true,
    },
};

const IPXE: Profile = Profile {
    dhcp: DhcpHabits {
        discover: IPXE_DHCP,
        request: IPXE_DHCP,
        pick: Pick::Marked { proxy: s(2) },
        broadcast: false,
        user_class: Some(b"iPXE"),
        // PXE extensions, TFTP, HTTP, DNS, bzImage, menus (iPXE's features.h).
        features: Some(&[0x10, 1, 2, 0x15, 1, 1, 0x13, 1, 1, 0x17, 1, 1, 0x18, 1, 1, 0x27, 1, 1]),
        client_id: true,
        parameters: &[1, 3, 6, 7, 12, 15, 17, 26, 43, 60, 66, 67, 119, 128, 129, 130, 131, 132, 133, 134, 135, 175, 203],
        max_size: 1472,
        needs_nul: false,
        ..ROM.dhcp
    },
    tftp: TftpHabits {
        rrq: IPXE_TFTP,
        data: IPXE_TFTP,
        repeats_ack: true,
        port_per_rrq: false,
        asks: TftpOptions { blksize: Some(1432), ..TSIZE },
        probe: None,
        wrong: UnexpectedData::AckLast,
        strict: false,
    },
};

const GRUB: Profile = Profile {
    dhcp: DhcpHabits { ..EDK2.dhcp },
    tftp: TftpHabits {
        rrq: &GRUB_TRIES,
        // Forty reads that find nothing.
        data: &[ms(40 * 400 + 20 * (39 * 40 / 2))],
        repeats_ack: false,
        port_per_rrq: false,
        asks: TftpOptions { blksize: Some(1024), ..TSIZE },
        probe: None,
        wrong: UnexpectedData::AckOld,
        strict: false,
    },
};

const RASPBERRY_PI: Profile = Profile {
    dhcp: DhcpHabits {
        discover: &[s(4); 5],
        request: &[s(4); 5],
        pick: Pick::Menu,
        broadcast: false,
        vendor_class: Some(b"PXEClient:Arch:00041:UNDI:002001"),
        arch: Some(41),
        parameters: &[1, 3, 43, 60, 66, 67, 128, 129, 130, 131, 132, 133, 134, 135],
        needs_nul: false,
        ..ROM.dhcp
    },
    tftp: TftpHabits {
        rrq: &[s(5); 5],
        data: &[s(5); 5],
        repeats_ack: true,
        port_per_rrq: false,
        asks: TftpOptions { blksize: Some(1024), ..TSIZE },
        probe: None,
        wrong: UnexpectedData::Hang,
        strict: false,
    },
};

const PXELINUX: Profile = Profile {
    dhcp: DhcpHabits { ..ROM.dhcp },
    tftp: TftpHabits {
        rrq: &PXELINUX_WAITS,
        data: &PXELINUX_WAITS,
        repeats_ack: true,
        port_per_rrq: false,
        asks: TftpOptions { blksize: Some(1408), ..TSIZE },
        probe: None,
        wrong: UnexpectedData::AckOld,
        strict: false,
    },
};

const UBOOT: Profile = Profile {
    dhcp: DhcpHabits {
        discover: UBOOT_DHCP,
        request: UBOOT_DHCP,
        broadcast: false,
        vendor_class: Some(b"U-Boot.armv8"),
        arch: Some(22),
        parameters: &[1, 3, 6, 12, 17, 66, 67],
        max_size: 576,
        needs_nul: false,
        ..ROM.dhcp
    },
    tftp: TftpHabits {
        rrq: &[s(5); 10],
        data: &[s(5); 10],
        repeats_ack: true,
        port_per_rrq: false,
        asks: TftpOptions { blksize: Some(1468), timeout: Some(5), ..TSIZE },
        probe: None,
        wrong: UnexpectedData::Ignore,
        strict: false,
    },
};

const OS: Profile = Profile {
    dhcp: DhcpHabits {
        discover: &[s(3); 3],
        request: &[s(3); 3],
        pick: Pick::AtOnce,
        broadcast: false,
        vendor_class: Some(b"udhcp 1.35.0"),
        user_class: None,
        features: None,
        arch: None,
        client_id: true,
        parameters: &[1, 3, 6, 12, 15, 28, 42],
        max_size: 576,
        needs_nul: false,
        renews: true,
    },
    // busybox's tftp: 50 ms growing by half, a dozen times; here with iPXE's waits and sizes of its own.
    tftp: TftpHabits { asks: TftpOptions { blksize: Some(1428), ..TSIZE }, ..IPXE.tftp },
};

#[cfg(test)]
mod tests {
    use super::*;

    fn total(waits: &[Duration]) -> Duration {
        waits.iter().sum()
    }

    #[test]
    fn how_long_each_program_waits() {
        let row = |firmware: Firmware| {
            let Profile { dhcp, tftp } = firmware.profile();
            [total(dhcp.discover), total(tftp.rrq), total(tftp.data)].map(|wait| wait.as_millis())
        };
        assert_eq!(row(Firmware::Rom), [60_000, 15_000, 12_000]);
        assert_eq!(row(Firmware::Edk2), [60_000, 24_000, 24_000]);
        assert_eq!(row(Firmware::Ipxe), [15_000, 15_750, 15_750]);
        assert_eq!(row(Firmware::Grub), [60_000, 31_600, 31_600]);
        assert_eq!(row(Firmware::Pxelinux), [60_000, 130_831, 130_831]);
        assert_eq!(row(Firmware::UBoot), [27_750, 50_000, 50_000]);
        assert_eq!(row(Firmware::RaspberryPi)[0], 20_000);
        assert_eq!(row(Firmware::Os)[0], 9_000);
        assert_eq!(Firmware::Pxelinux.profile().tftp.rrq[0].as_millis(), 109, "first retry");
    }

    #[test]
    fn every_program_can_try() {
        for firmware in Firmware::ALL {
            let Profile { dhcp, tftp } = firmware.profile();
            for waits in [dhcp.discover, dhcp.request, tftp.rrq, tftp.data] {
                assert!(!waits.is_empty() && waits.len() < usize::from(u8::MAX), "{firmware}");
            }
        }
    }
}
