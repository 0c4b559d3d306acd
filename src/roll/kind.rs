//! What kinds of machine there are: the architecture that picks a boot program, and the firmware whose habits decide how to treat it.

use std::fmt;

macro_rules! architectures {
    ($($(#[$doc:meta])* $name:ident = $text:literal, [$($code:literal),*];)*) => {
        /// A client's architecture, by its DHCP option 93 (RFC 4578 and the IANA registry of processor architecture types).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Arch { $(#[doc = concat!("`", $text, "`")] $(#[$doc])* $name,)* }

        impl Arch {
            /// All that are known.
            pub const ALL: &'static [Arch] = &[$(Arch::$name,)*];

            /// The name of the architecture in the config and in the log.
            pub const fn name(self) -> &'static str {
                match self { $(Arch::$name => $text,)* }
            }

            /// None for codes that nobody boots by.
            pub const fn from_code(code: u16) -> Option<Arch> {
                match code { $($($code)|* => Some(Arch::$name),)* _ => None }
            }
        }
    };
}

architectures! {
    Bios = "bios", [0];
    EfiIa32 = "efi-ia32", [6];
    EfiX64 = "efi-x64", [7, 9];
    EfiArm32 = "efi-arm32", [10];
    EfiArm64 = "efi-arm64", [11];
    EfiRiscv64 = "efi-riscv64", [27];
    UbootArm32 = "uboot-arm32", [21];
    UbootArm64 = "uboot-arm64", [22];
    HttpX86 = "http-x86", [15];
    HttpX64 = "http-x64", [16];
    HttpArm32 = "http-arm32", [18];
    HttpArm64 = "http-arm64", [19];
    /// Recognised by code 41, or by the board's MAC prefix (a Pi 3 says 0).
    RaspberryPi = "raspberry-pi", [41];
}

impl Arch {
    /// EDK2's HTTP boot: the program is a URI.
    pub const fn is_http(self) -> bool {
        matches!(self, Arch::HttpX86 | Arch::HttpX64 | Arch::HttpArm32 | Arch::HttpArm64)
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The program that is asking: what decides patience and re-transmission (doc/firmware.md, "Clients").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirmwareKind {
    /// An operating system's DHCP or TFTP client, or anything not recognised.
    Other,
    /// A PXE 2.x ROM of Intel's family.
    Rom,
    /// EDK2's PXE and its descendants (OVMF).
    Edk2,
    Ipxe,
    Grub,
    Pxelinux,
    UBoot,
    RaspberryPi,
}

impl FirmwareKind {
    /// All of them, in the order of their declaration.
    pub const ALL: &'static [FirmwareKind] = &[
        FirmwareKind::Other,
        FirmwareKind::Rom,
        FirmwareKind::Edk2,
        FirmwareKind::Ipxe,
        FirmwareKind::Grub,
        FirmwareKind::Pxelinux,
        FirmwareKind::UBoot,
        FirmwareKind::RaspberryPi,
    ];
}

impl fmt::Display for FirmwareKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FirmwareKind::Other => "os",
            FirmwareKind::Rom => "rom",
            FirmwareKind::Edk2 => "edk2",
            FirmwareKind::Ipxe => "ipxe",
            FirmwareKind::Grub => "grub",
            FirmwareKind::Pxelinux => "pxelinux",
            FirmwareKind::UBoot => "u-boot",
            FirmwareKind::RaspberryPi => "raspberry-pi",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_the_registry() {
        assert_eq!(
            [0, 7, 9, 11, 16, 41].map(Arch::from_code).map(|a| a.map(Arch::name)),
            [Some("bios"), Some("efi-x64"), Some("efi-x64"), Some("efi-arm64"), Some("http-x64"), Some("raspberry-pi")]
        );
        assert_eq!(Arch::from_code(0xffff), None);
    }
}
