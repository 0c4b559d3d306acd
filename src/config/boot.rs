//! What machines boot: from the config, else by what is found in the root. Used by this room only.

use std::path::{Path, PathBuf};

use super::error::{Errors, listed};
use super::raw::{BootSection, Choice, ForSection, Raw};
use super::value::{Set, shown_numbers};
use super::{Boot, Flags, Special, World};
use crate::roll::kind::Arch;

/// Where TFTP serves from when nobody says.
const ROOT: &str = "/srv/tftp";

/// Boot programs by their usual names, the best first: a UNDI or SNP iPXE uses the firmware's own driver, which works on every
/// card the machine boots from.
const PROGRAMS: &[(Arch, &[&str])] = &[
    (
        Arch::Bios,
        &[
            "undionly.kpxe",
            "undionly.kkpxe",
            "ipxe.pxe",
            "ipxe.kpxe",
            "lpxelinux.0",
            "pxelinux.0",
            "grub/i386-pc/core.0",
            "boot/grub/i386-pc/core.0",
        ],
    ),
    (
        Arch::EfiIa32,
        &[
            "snponly-ia32.efi",
            "ipxe-ia32.efi",
            "efi32/snponly.efi",
            "i386-efi/snponly.efi",
            "i386-efi/ipxe.efi",
            "bootia32.efi",
            "efi32/syslinux.efi",
        ],
    ),
    (
        Arch::EfiX64,
        &[
            "snponly.efi",
            "ipxe-snponly.efi",
            "ipxe.efi",
            "efi-x64/snponly.efi",
            "efi-x64/ipxe.efi",
            "x86_64-efi/snponly.efi",
            "x86_64-efi/ipxe.efi",
            "EFI/BOOT/BOOTX64.EFI",
            "bootx64.efi",
            "BOOTX64.EFI",
            "shimx64.efi",
            "grubx64.efi",
            "grubnetx64.efi",
            "grubnetx64.efi.signed",
            "grub/x86_64-efi/core.efi",
            "boot/grub/x86_64-efi/core.efi",
            "efi64/syslinux.efi",
            "syslinux.efi",
        ],
    ),
    (Arch::EfiArm32, &["snponly-arm32.efi", "ipxe-arm32.efi", "arm32-efi/snponly.efi", "arm32-efi/ipxe.efi", "bootarm.efi", "grubarm.efi"]),
    (
        Arch::EfiArm64,
        &[
            "snponly-arm64.efi",
            "ipxe-arm64.efi",
            "efi-arm64/snponly.efi",
            "efi-arm64/ipxe.efi",
            "arm64-efi/snponly.efi",
            "arm64-efi/ipxe.efi",
            "EFI/BOOT/BOOTAA64.EFI",
            "bootaa64.efi",
            "shimaa64.efi",
            "grubaa64.efi",
            "grubnetaa64.efi",
            "grubnetaa64.efi.signed",
            "grub/arm64-efi/core.efi",
            "boot/grub/arm64-efi/core.efi",
        ],
    ),
    (
        Arch::EfiRiscv64,
        &[
            "snponly-riscv64.efi",
            "ipxe-riscv64.efi",
            "riscv64-efi/snponly.efi",
            "EFI/BOOT/BOOTRISCV64.EFI",
            "bootriscv64.efi",
            "grubriscv64.efi",
        ],
    ),
    (Arch::RaspberryPi, &["bootcode.bin"]),
];

const SCRIPTS: &[&str] = &["boot.ipxe", "autoexec.ipxe"];
const KERNELS: &[&str] = &["vmlinuz", "bzImage", "linux", "kernel"];
const INITRDS: &[&str] = &["initrd.img", "initrd", "initrd.gz", "initramfs.img", "initramfs", "initramfs.cpio.gz"];

/// The folder that TFTP serves: the flag's, the file's, or the usual one.
pub(super) fn root(section: &BootSection, flags: &Flags, errors: &mut Errors<'_>, choices: &mut Vec<String>) -> PathBuf {
    match (&flags.root, &section.root) {
        (Some(root), _) if root.to_str().is_none_or(|text| text.chars().any(char::is_control)) => {
            errors.add(None, "-r", format!("{root:?} is not plain text: choose another folder"));
            root.clone()
        }
        (Some(root), _) => root.clone(),
        (None, Some(root)) => PathBuf::from(&root.value),
        (None, None) => {
            choices.push(format!("root {ROOT}"));
            PathBuf::from(ROOT)
        }
    }
}

/// The [boot] section with what is found in the root where it says nothing.
pub(super) fn boot(section: &Choice, root: PathBuf, world: &impl World, choices: &mut Vec<String>) -> Boot {
    let first = |names: &[&str]| names.iter().find(|name| world.exists(&root, name)).map(ToString::to_string);
    let place = root.display();
    let mut program: Vec<(Arch, String)> = section.program.iter().map(|set| set.value.clone()).collect();
    for (arch, names) in PROGRAMS {
        let configured = program.iter().any(|(known, _)| known == arch);
        if let Some(name) = first(names).filter(|_| !configured) {
            choices.push(format!("{arch} boots {name} (found in {place})"));
            program.push((*arch, name));
        }
    }
    program.sort_by_key(|(arch, _)| *arch);
    let value = |set: &Option<Set<String>>| set.as_ref().map(|set| set.value.clone());
    let (mut script, mut kernel) = (value(&section.script), value(&section.kernel));
    let mut initrd = section.initrd.as_ref().map(|set| set.value.clone());
    if script.is_none() && kernel.is_none() {
        script = first(SCRIPTS);
        choices.extend(script.iter().map(|script| format!("iPXE runs {script} (found in {place})")));
        if script.is_none() {
            kernel = first(KERNELS);
            choices.extend(kernel.iter().map(|kernel| format!("kernel {kernel} (found in {place})")));
            if initrd.is_none() && kernel.is_some() {
                initrd = first(INITRDS).map(|initrd| vec![initrd]);
                choices.extend(initrd.iter().flatten().map(|initrd| format!("initrd {initrd} (found in {place})")));
            }
        }
    }
    let args = value(&section.args).unwrap_or_default();
    let boot = Boot { program, script, kernel, initrd: initrd.unwrap_or_default(), args, root: root.clone() };
    missing(&boot, &root, world, choices);
    boot
}

/// What an operator will miss: nothing to boot, or names of files that are not there (yet).
fn missing(boot: &Boot, root: &Path, world: &impl World, choices: &mut Vec<String>) {
    if boot.program.is_empty() {
        let place = root.display();
        choices.push(format!(
            "no boot program found in {place}: put undionly.kpxe (BIOS) or snponly.efi (UEFI) there, or set `program` in [boot]"
        ));
    }
    let files = boot.program.iter().filter(|(arch, _)| !arch.is_http()).map(|(_, name)| name);
    let files: Vec<&String> =
        files.chain(&boot.script).chain(&boot.kernel).chain(&boot.initrd).filter(|name| !world.exists(root, name)).collect();
    if !files.is_empty() {
        choices.push(format!("not in {} yet: {}", root.display(), listed(files)));
    }
}

/// The [[for]] sections; whether their numbers have a lot is for others to check.
pub(super) fn special(sections: &[Set<ForSection>]) -> Vec<Special> {
    let value = |set: &Option<Set<String>>| set.as_ref().map(|set| set.value.clone());
    let special = |ForSection { nodes, choice, lease, options }: &ForSection| Special {
        nodes: nodes.as_ref().map(|set| set.value.clone()).unwrap_or_default(),
        program: choice.program.iter().map(|set| set.value.clone()).collect(),
        script: value(&choice.script),
        kernel: value(&choice.kernel),
        initrd: choice.initrd.as_ref().map(|set| set.value.clone()),
        args: value(&choice.args),
        lease: lease.as_ref().map(|set| set.value),
        options: options.iter().map(|set| set.value.clone()).collect(),
    };
    sections.iter().map(|section| special(&section.value)).collect()
}

/// A text that is made must fit [`crate::wire::tftp::SCRIPT_MAX`]: [boot]'s own and what each [[for]] makes of it. Tells what has no effect, and what
/// pxelinux will not take.
pub(super) fn check_scripts(boot: &Boot, special: &[Special], raw: &Raw, errors: &mut Errors<'_>, choices: &mut Vec<String>) {
    const TOO_LONG: &str = "kernel, initrd and args are too long for one script: use a script file";
    let all = Made { kernel: boot.kernel.as_deref(), initrd: &boot.initrd, args: &boot.args };
    if all.script_bytes() > crate::wire::tftp::SCRIPT_MAX {
        let args = raw.boot.choice.args.as_ref();
        errors.add(args.map(|set| &set.at), "args", TOO_LONG);
    }
    let line = |made: Made<'_>| (made.pxelinux_bytes() > PXELINUX_MAX).then_some(made.pxelinux_bytes());
    let too_long =
        |bytes: usize| format!("kernel, initrd and args come to {bytes} bytes: pxelinux reads {PXELINUX_MAX}, other loaders more");
    choices.extend(line(all).map(too_long));
    let unused = |script: &str, kernel: &str| format!("kernel {kernel} is for other loaders: iPXE runs the script {script}");
    choices.extend(boot.script.iter().zip(&boot.kernel).map(|(script, kernel)| unused(script, kernel)));
    for (special, section) in special.iter().zip(&raw.special) {
        let made = Made {
            kernel: special.kernel.as_deref().or(all.kernel),
            initrd: special.initrd.as_deref().unwrap_or(all.initrd),
            args: special.args.as_deref().unwrap_or(all.args),
        };
        if made.script_bytes() > crate::wire::tftp::SCRIPT_MAX {
            errors.add(Some(&section.at), "for", TOO_LONG);
        }
        let nodes = shown_numbers(&special.nodes);
        choices.extend(line(made).filter(|_| line(all).is_none()).map(|bytes| format!("nodes {nodes}: {}", too_long(bytes))));
        let script = special.script.as_ref().or(boot.script.as_ref());
        choices.extend(script.iter().zip(&special.kernel).map(|(script, kernel)| unused(script, kernel)));
    }
}

/// What texts are made from.
#[derive(Clone, Copy)]
struct Made<'a> {
    kernel: Option<&'a str>,
    initrd: &'a [String],
    args: &'a str,
}

/// Bytes of a placeholder's value at most: a MAC.
const PLACEHOLDER: usize = 17;
/// Bytes of pxelinux's command line (`MAX_CMDLINE_LEN` in com32/include/menu.h), without the NUL and the `.linux ` before it.
const PXELINUX_MAX: usize = 2047 - 7;

impl Made<'_> {
    /// An upper bound for iPXE and for GRUB: each file is named with a URI, an initrd once more on the kernel's line; arguments are words in
    /// quotes, where a quote becomes four bytes.
    fn script_bytes(self) -> usize {
        const LINE: usize = 64;
        let quotes = |text: &str| 3 * text.matches('\'').count();
        let initrds: usize = self.initrd.iter().map(|name| 2 * name.len() + quotes(name) + 2 * LINE).sum();
        let words = 2 * self.args.split_ascii_whitespace().count() + quotes(self.args);
        let args = self.args.len() + self.args.matches('{').count() * PLACEHOLDER + words;
        self.kernel.map_or(0, |kernel| 4 * LINE + kernel.len() + quotes(kernel) + initrds + args)
    }

    /// An upper bound for pxelinux's command line: each file has two colons before it, and a comma or a blank.
    fn pxelinux_bytes(self) -> usize {
        let initrds: usize = self.initrd.iter().map(|name| name.len() + 3).sum();
        let args = self.args.len() + self.args.matches('{').count() * PLACEHOLDER;
        self.kernel.map_or(0, |kernel| 2 + kernel.len() + 1 + "initrd=".len() + initrds + args)
    }
}
