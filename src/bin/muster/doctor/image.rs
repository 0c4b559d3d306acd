//! What kind of file a boot file is, by its first bytes: a program of which firmware, signed or not, a kernel, a script. Pure.

use std::fmt;

use muster::config::Arch;

/// What a file begins with, and what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    Empty,
    /// A program of UEFI; a kernel may be one as well.
    Efi {
        machine: u16,
        signed: bool,
        kernel: bool,
    },
    /// Linux for x86, with or without a part for UEFI.
    X86Kernel,
    /// Linux for 64-bit ARM or RISC-V, without one.
    FlatKernel,
    /// A program for a BIOS: nothing but code.
    Bios,
    Elf,
    IpxeScript,
    Archive(&'static str),
    /// What web servers answer in place of a file.
    Html,
    Other,
}

/// Of `linux/pe.h` and the PE specification.
const MACHINES: [(u16, &str); 6] =
    [(0x014c, "ia32"), (0x8664, "x64"), (0x01c0, "arm32"), (0x01c2, "arm32"), (0xaa64, "arm64"), (0x5064, "riscv64")];

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// What a file is whose first bytes are these, some thousands.
pub fn identify(bytes: &[u8]) -> Image {
    const ARCHIVES: [(&[u8], &str); 9] = [
        (&[0x1f, 0x8b], "gzip"),
        (&[0xfd, b'7', b'z', b'X', b'Z'], "xz"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
        (&[0x02, 0x21, 0x4c, 0x18], "lz4"),
        (&[0x04, 0x22, 0x4d, 0x18], "lz4"),
        (b"BZh", "bzip2"),
        (&[0x89, b'L', b'Z', b'O'], "lzo"),
        (b"07070", "cpio"),
        (&[0x5d, 0, 0], "lzma"),
    ];
    let bzimage = bytes.get(0x202..0x206) == Some(b"HdrS");
    let flat = matches!(bytes.get(0x38..0x3c), Some(b"ARM\x64" | b"RSC\x05"));
    let text = || String::from_utf8_lossy(bytes.get(..64.min(bytes.len())).unwrap_or_default()).trim_start().to_lowercase();
    if bytes.is_empty() {
        Image::Empty
    } else if let Some((machine, signed)) = efi(bytes) {
        Image::Efi { machine, signed, kernel: bzimage || flat }
    } else if bzimage {
        Image::X86Kernel
    } else if flat {
        Image::FlatKernel
    } else if bytes.starts_with(b"\x7fELF") {
        Image::Elf
    } else if bytes.starts_with(b"#!ipxe") || bytes.starts_with(b"#!gpxe") {
        Image::IpxeScript
    } else if let Some((_, name)) = ARCHIVES.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        Image::Archive(name)
    } else if text().starts_with("<!doctype") || text().starts_with("<html") {
        Image::Html
    } else if !bytes.iter().take(16).all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace())
        && matches!(bytes.first(), Some(0xea | 0xeb | 0xe9 | 0xfa | 0xfc | 0x31 | 0x33 | 0x8c | 0x52 | 0x60 | 0x66 | 0x9c))
    {
        Image::Bios
    } else {
        Image::Other
    }
}

/// The machine of a PE image, and whether it carries a signature.
fn efi(bytes: &[u8]) -> Option<(u16, bool)> {
    if !bytes.starts_with(b"MZ") {
        return None;
    }
    let pe = long(bytes, 0x3c)? as usize;
    if bytes.get(pe..)?.get(..4) != Some(b"PE\0\0") {
        return None;
    }
    let machine = word(bytes, pe.checked_add(4)?)?;
    let optional = pe.checked_add(24)?;
    // The directories stand behind the optional header, which is longer for 64 bits.
    let directories = match word(bytes, optional)? {
        0x10b => 96,
        0x20b => 112,
        _ => return None,
    };
    let count = long(bytes, optional + directories - 4)?;
    let signed = count > 4 && long(bytes, optional + directories + 4 * 8 + 4).is_some_and(|size| size > 0);
    Some((machine, signed))
}

/// Which loader a program is, by what it says of itself.
pub fn loader(bytes: &[u8]) -> Option<&'static str> {
    const MARKS: [(&[u8], &str); 8] = [
        (b"UEFI SHIM", "shim"),
        (b"snponly.efi", "iPXE snponly"),
        (b"iPXE", "iPXE"),
        // iPXE for a BIOS is packed but for this: the magic number of its stack, pushed first of all.
        (b"\x68LRET", "iPXE"),
        (b"PXELINUX", "pxelinux"),
        (b"SYSLINUX", "syslinux"),
        (b"LoaderInfo: systemd-boot", "systemd-boot"),
        (b"GRUB", "GRUB"),
    ];
    MARKS.iter().find(|(mark, _)| bytes.windows(mark.len()).any(|window| window == *mark)).map(|(_, name)| *name)
}

fn machine_name(machine: u16) -> String {
    MACHINES.iter().find(|(code, _)| *code == machine).map_or_else(|| format!("machine {machine:#06x}"), |(_, name)| (*name).into())
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Image::Empty => f.write_str("empty"),
            Image::Efi { machine, signed, kernel } => {
                let kind = if *kernel { "kernel and UEFI program" } else { "UEFI program" };
                write!(f, "{kind} for {}, {}", machine_name(*machine), if *signed { "signed" } else { "not signed" })
            }
            Image::X86Kernel => f.write_str("x86 kernel"),
            Image::FlatKernel => f.write_str("kernel"),
            Image::Bios => f.write_str("program for a BIOS"),
            Image::Elf => f.write_str("ELF file"),
            Image::IpxeScript => f.write_str("iPXE script"),
            Image::Archive(kind) => f.write_str(kind),
            Image::Html => f.write_str("a web page"),
            Image::Other => f.write_str("of no known kind"),
        }
    }
}

/// Why the machines of an architecture cannot run this as their boot program. None: they can, as far as the first bytes tell.
pub fn misfit(arch: Arch, image: &Image) -> Option<String> {
    let expected = match arch {
        Arch::EfiIa32 => "ia32",
        Arch::EfiX64 => "x64",
        Arch::EfiArm32 => "arm32",
        Arch::EfiArm64 => "arm64",
        Arch::EfiRiscv64 => "riscv64",
        Arch::Bios => {
            return match image {
                Image::Bios | Image::Other => None,
                // iPXE's own kind of kernel is loaded by other loaders alone.
                other => Some(format!("it is {}, and a BIOS runs nothing but a program of its own kind (undionly.kpxe)", article(other))),
            };
        }
        _ => return (*image == Image::Empty).then(|| "it is empty".into()),
    };
    match image {
        Image::Efi { machine, .. } if machine_name(*machine) == expected => None,
        Image::Efi { machine, .. } => Some(format!("it is a program for {}, and these machines are {expected}", machine_name(*machine))),
        other => Some(format!("it is {}, and UEFI runs nothing but UEFI programs for {expected} (snponly.efi)", article(other))),
    }
}

/// Why this is no kernel, initial RAM disk or script.
pub fn mistaken(role: FileRole, image: &Image) -> Option<String> {
    let good = match role {
        FileRole::Kernel => matches!(image, Image::Efi { .. } | Image::X86Kernel | Image::FlatKernel | Image::Elf | Image::Archive("gzip")),
        FileRole::Initrd => matches!(image, Image::Archive(_)),
        // iPXE runs a script, and any image that it can boot.
        FileRole::Script => matches!(image, Image::IpxeScript | Image::Efi { .. } | Image::X86Kernel),
    };
    (!good).then(|| format!("it is {}", article(image)))
}

/// What a file is there for, besides boot programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileRole {
    Kernel,
    Initrd,
    Script,
}

fn article(image: &Image) -> String {
    match image {
        Image::Empty | Image::Html | Image::Other => image.to_string(),
        Image::IpxeScript | Image::Elf | Image::X86Kernel => format!("an {image}"),
        Image::Archive(kind) => format!("packed by {kind}"),
        _ => format!("a {image}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PE header as linkers write it.
    fn pe(machine: u16, wide: bool, signature: u32) -> Vec<u8> {
        let mut bytes = vec![0; 1024];
        bytes[..2].copy_from_slice(b"MZ");
        bytes[0x3c] = 0x80;
        bytes[0x80..0x84].copy_from_slice(b"PE\0\0");
        bytes[0x84..0x86].copy_from_slice(&machine.to_le_bytes());
        let (magic, directories) = if wide { (0x20bu16, 112) } else { (0x10b, 96) };
        bytes[0x98..0x9a].copy_from_slice(&magic.to_le_bytes());
        bytes[0x98 + directories - 4] = 16;
        bytes[0x98 + directories + 36..][..4].copy_from_slice(&signature.to_le_bytes());
        bytes
    }

    #[test]
    fn programs_of_uefi_tell_their_machine() {
        assert_eq!(identify(&pe(0x8664, true, 0)), Image::Efi { machine: 0x8664, signed: false, kernel: false });
        assert_eq!(identify(&pe(0x014c, false, 1408)).to_string(), "UEFI program for ia32, signed");
        assert_eq!(identify(&pe(0xaa64, true, 8)).to_string(), "UEFI program for arm64, signed");
        let mut kernel = pe(0x8664, true, 0);
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        assert_eq!(identify(&kernel).to_string(), "kernel and UEFI program for x64, not signed");
        // Cut off anywhere, and with an offset that leads out of it.
        let whole = pe(0x8664, true, 1);
        (0..whole.len()).for_each(|len| assert!(!matches!(identify(&whole[..len]), Image::Archive(_))));
        let mut wild = whole;
        wild[0x3c..0x40].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(identify(&wild), Image::Other);
    }

    #[test]
    fn other_kinds() {
        let mut bzimage = vec![0xea; 0x300];
        bzimage[0x202..0x206].copy_from_slice(b"HdrS");
        let of = |bytes: &[u8]| identify(bytes).to_string();
        assert_eq!(of(&bzimage), "x86 kernel");
        assert_eq!([of(b""), of(b"#!ipxe\nboot\n"), of(&[0x1f, 0x8b, 8]), of(b"070701")], ["empty", "iPXE script", "gzip", "cpio"]);
        assert_eq!([of(b"\x7fELF"), of(b"<!DOCTYPE html>"), of(b"hello")], ["ELF file", "a web page", "of no known kind"]);
        // undionly.kpxe of Debian.
        let undionly = b"\xea\x05\x00\xc0\x07f\x9cf`\x0f\xa8\x0f\xa0\x06\x1efhLRET\x8c\x16!\x05";
        assert_eq!((of(undionly), loader(undionly)), ("program for a BIOS".into(), Some("iPXE")));
        assert_eq!(
            [loader(b"..UEFI SHIM\n$Version: 15.8"), loader(b"..snponly.efi..iPXE/%s"), loader(b"x")],
            [Some("shim"), Some("iPXE snponly"), None]
        );
    }

    #[test]
    fn programs_fit_their_machines() {
        let (x64, arm64) = (identify(&pe(0x8664, true, 0)), identify(&pe(0xaa64, true, 0)));
        assert_eq!([misfit(Arch::EfiX64, &x64), misfit(Arch::EfiArm64, &arm64), misfit(Arch::Bios, &Image::Bios)], [None, None, None]);
        for (arch, image, words) in [
            (Arch::EfiX64, &arm64, "a program for arm64, and these machines are x64"),
            (Arch::EfiX64, &Image::Bios, "a program for a BIOS, and UEFI runs"),
            (Arch::EfiX64, &Image::Empty, "empty"),
            (Arch::Bios, &x64, "a UEFI program for x64, not signed, and a BIOS runs"),
            (Arch::Bios, &Image::Html, "a web page"),
            (Arch::RaspberryPi, &Image::Empty, "empty"),
        ] {
            assert!(misfit(arch, image).is_some_and(|why| why.contains(words)), "{arch} {image:?}");
        }
    }

    #[test]
    fn files_are_what_they_are_there_for() {
        assert_eq!(mistaken(FileRole::Kernel, &Image::X86Kernel), None);
        assert_eq!(mistaken(FileRole::Initrd, &Image::Archive("zstd")), None);
        assert_eq!(mistaken(FileRole::Script, &Image::IpxeScript), None);
        assert_eq!(mistaken(FileRole::Kernel, &Image::IpxeScript).unwrap(), "it is an iPXE script");
        assert_eq!(mistaken(FileRole::Initrd, &Image::X86Kernel).unwrap(), "it is an x86 kernel");
        assert_eq!(mistaken(FileRole::Script, &Image::Html).unwrap(), "it is a web page");
        assert!(mistaken(FileRole::Script, &Image::Other).is_some() && mistaken(FileRole::Kernel, &Image::Empty).is_some());
    }
}
