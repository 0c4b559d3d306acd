//! What machines boot: from the config, else by what is found in the root. Used by this room only.

use std::path::Path;

use super::error::{ConfigText, Errors, line_and_column, listed};
use super::keys::{BootKeys, ForKeys, Section};
use super::model::{Boot, Override, System};
use super::parsed::Parsed;
use super::value::{KeyName, KeySlot, Set, shown_numbers};
use crate::roll::kind::Arch;
use crate::roll::plan::Number;
use crate::roll::ranges::Ranges;

/// Boot programs by their usual names, the best first: a UNDI or SNP iPXE uses the firmware's own driver, which works on every card the
/// machine boots from.
const PROGRAMS: &[(Arch, &str)] = &[
    (
        Arch::Bios,
        "undionly.kpxe undionly.kkpxe ipxe.pxe ipxe.kpxe lpxelinux.0 pxelinux.0 grub/i386-pc/core.0 \
         boot/grub/i386-pc/core.0",
    ),
    (
        Arch::EfiIa32,
        "snponly-ia32.efi ipxe-ia32.efi efi32/snponly.efi i386-efi/snponly.efi i386-efi/ipxe.efi bootia32.efi \
         efi32/syslinux.efi",
    ),
    (
        Arch::EfiX64,
        "snponly.efi ipxe-snponly.efi ipxe.efi efi-x64/snponly.efi efi-x64/ipxe.efi x86_64-efi/snponly.efi \
         x86_64-efi/ipxe.efi EFI/BOOT/BOOTX64.EFI bootx64.efi BOOTX64.EFI shimx64.efi grubx64.efi \
         grubnetx64.efi grubnetx64.efi.signed grub/x86_64-efi/core.efi boot/grub/x86_64-efi/core.efi \
         efi64/syslinux.efi syslinux.efi",
    ),
    (Arch::EfiArm32, "snponly-arm32.efi ipxe-arm32.efi arm32-efi/snponly.efi arm32-efi/ipxe.efi bootarm.efi grubarm.efi"),
    (
        Arch::EfiArm64,
        "snponly-arm64.efi ipxe-arm64.efi efi-arm64/snponly.efi efi-arm64/ipxe.efi arm64-efi/snponly.efi \
         arm64-efi/ipxe.efi EFI/BOOT/BOOTAA64.EFI bootaa64.efi shimaa64.efi grubaa64.efi grubnetaa64.efi \
         grubnetaa64.efi.signed grub/arm64-efi/core.efi boot/grub/arm64-efi/core.efi",
    ),
    (
        Arch::EfiRiscv64,
        "snponly-riscv64.efi ipxe-riscv64.efi riscv64-efi/snponly.efi EFI/BOOT/BOOTRISCV64.EFI \
         bootriscv64.efi grubriscv64.efi",
    ),
    (Arch::RaspberryPi, "bootcode.bin"),
];

const SCRIPTS: &str = "boot.ipxe autoexec.ipxe";
const KERNELS: &str = "vmlinuz bzImage linux kernel";
const INITRDS: &str = "initrd.img initrd initrd.gz initramfs.img initramfs initramfs.cpio.gz";

/// Fills the [boot] section with what is found in the root where it says nothing. Gives what was found.
pub(super) fn fill(keys: &mut BootKeys, world: &impl System, notes: &mut Vec<String>) -> Vec<KeyName> {
    let usual = keys.root.is_none();
    keys.fill();
    let root = keys.root.filled();
    world.allow(&keys.allow.filled());
    notes.extend(usual.then(|| format!("root {}", root.display())));
    let first = |names: &str| names.split_ascii_whitespace().find(|name| world.exists(&root, name)).map(str::to_string);
    let place = root.display();
    let mut found = Vec::new();
    let program = &mut keys.program.get_or_insert_with(|| Set::derived(Vec::new())).value;
    for (arch, names) in PROGRAMS {
        let configured = program.iter().any(|(known, _)| known == arch);
        if let Some(name) = first(names).filter(|_| !configured) {
            notes.push(format!("{arch} boots {name} (found in {place})"));
            program.push((*arch, name));
            found.push(KeyName::Program(*arch));
        }
    }
    program.sort_by_key(|(arch, _)| *arch);
    if keys.script.is_none() && keys.kernel.is_none() {
        keys.script = first(SCRIPTS).map(Set::found);
        notes.extend(keys.script.value().map(|script| format!("iPXE runs {script} (found in {place})")));
        if keys.script.is_none() {
            keys.kernel = first(KERNELS).map(Set::found);
            notes.extend(keys.kernel.value().map(|kernel| format!("kernel {kernel} (found in {place})")));
            if keys.initrd.is_none() && keys.kernel.is_some() {
                keys.initrd = first(INITRDS).map(|initrd| Set::found(vec![initrd]));
                notes.extend(keys.initrd.value().into_iter().flatten().map(|initrd| format!("initrd {initrd} (found in {place})")));
            }
        }
    }
    keys.initrd.get_or_insert_with(|| Set::derived(Vec::new()));
    missing(&Boot::from(&*keys), &root, world, notes);
    found
}

/// What an operator will miss: nothing to boot, or names of files that are not there (yet).
fn missing(boot: &Boot, root: &Path, world: &impl System, notes: &mut Vec<String>) {
    if boot.program.is_empty() {
        let place = root.display();
        notes.push(format!(
            "no boot program found in {place}: put undionly.kpxe (BIOS) or snponly.efi (UEFI) there, or set `program` in [boot]"
        ));
    }
    let files = boot.program.iter().filter(|(arch, _)| !arch.is_http()).map(|(_, name)| name);
    let files: Vec<&String> =
        files.chain(&boot.script).chain(&boot.kernel).chain(&boot.initrd).filter(|name| !world.exists(root, name)).collect();
    if !files.is_empty() {
        notes.push(format!(
            "not found in {}: {} (put them there before nodes boot; links may lead into the folders of `allow`)",
            root.display(),
            listed(files)
        ));
    }
}

/// A text that is made must fit [`crate::config::limits::SCRIPT_MAX`]: [boot]'s own and what each [[for]] makes of it. Notes what has no effect, and what
/// pxelinux will not take.
pub(super) fn check_scripts(boot: &Boot, overrides: &[Override], parsed: &Parsed, errors: &mut Errors<'_>, notes: &mut Vec<String>) {
    const TOO_LONG: &str = "kernel, initrd and args are too long for one script: use a script file";
    let all = TextParts { kernel: boot.kernel.as_deref(), initrd: &boot.initrd, args: &boot.args };
    if all.script_bytes() > crate::config::limits::SCRIPT_MAX {
        errors.add(parsed.boot.args.at(), "args", TOO_LONG);
    }
    let line = |made: TextParts<'_>| (made.pxelinux_bytes() > PXELINUX_MAX).then_some(made.pxelinux_bytes());
    let too_long =
        |bytes: usize| format!("kernel, initrd and args have {bytes} bytes: pxelinux reads only {PXELINUX_MAX}, other loaders more");
    notes.extend(line(all).map(too_long));
    let unused = |script: &str, kernel: &str| format!("iPXE does not use kernel {kernel}: it runs the script {script}");
    notes.extend(boot.script.iter().zip(&boot.kernel).map(|(script, kernel)| unused(script, kernel)));
    for (this, keys) in overrides.iter().zip(&parsed.overrides) {
        let made = TextParts {
            kernel: this.kernel.as_deref().or(all.kernel),
            initrd: this.initrd.as_deref().unwrap_or(all.initrd),
            args: this.args.as_deref().unwrap_or(all.args),
        };
        if made.script_bytes() > crate::config::limits::SCRIPT_MAX {
            errors.add(keys.at(), "for", TOO_LONG);
        }
        let nodes = shown_numbers(&this.nodes);
        notes.extend(line(made).filter(|_| line(all).is_none()).map(|bytes| format!("nodes {nodes}: {}", too_long(bytes))));
        let script = this.script.as_ref().or(boot.script.as_ref());
        notes.extend(script.iter().zip(&this.kernel).map(|(script, kernel)| unused(script, kernel)));
    }
}

/// What texts are made from.
#[derive(Clone, Copy)]
struct TextParts<'a> {
    kernel: Option<&'a str>,
    initrd: &'a [String],
    args: &'a str,
}

/// Bytes of a placeholder's value at most: a MAC.
const PLACEHOLDER: usize = 17;
/// Bytes of pxelinux's command line (`MAX_CMDLINE_LEN` in com32/include/menu.h), without the NUL and the `.linux ` before it.
const PXELINUX_MAX: usize = 2047 - 7;

impl TextParts<'_> {
    /// An upper bound for iPXE and for GRUB: each file is named with a URI, an initrd once more on the kernel's line; arguments are words
    /// in quotes, where a quote becomes four bytes.
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

/// Notes each `[[for]]` section that cannot win, because later ones set the same keys for all its nodes, with its position: it is probably
/// in the wrong order.
pub(super) fn shadowed(source: ConfigText<'_>, sections: &[ForKeys], notes: &mut Vec<String>) {
    // For which nodes the later sections set each key.
    let mut later: Vec<(KeyName, Ranges)> = Vec::new();
    let claims: Vec<OverrideClaim> = sections.iter().map(OverrideClaim::new).collect();
    let mut said = Vec::new();
    for (position, claim) in claims.iter().enumerate().rev() {
        let has_no_effect = claim.names.iter().all(|name| later.iter().any(|(key, nodes)| key == name && claim.is_in(nodes)));
        if claim.names.is_empty() || has_no_effect {
            said.push(claim.note(source, claims.get(position + 1..).unwrap_or_default()));
        }
        for name in &claim.names {
            let known = later.iter_mut().find(|(key, _)| key == name);
            match known {
                Some((_, nodes)) => nodes.union(&claim.nodes()),
                None => later.push((*name, claim.nodes())),
            }
        }
    }
    notes.extend(said.into_iter().rev());
}

/// What a `[[for]]` section sets, and for which nodes.
struct OverrideClaim {
    start: usize,
    nodes: Vec<(Number, Number)>,
    names: Vec<KeyName>,
}

impl OverrideClaim {
    fn new(section: &ForKeys) -> OverrideClaim {
        let names = section.names().into_iter().filter(|name| *name != KeyName::Key("nodes")).collect();
        OverrideClaim { start: section.at().map_or(0, |at| at.start), nodes: section.nodes.value().unwrap_or_default(), names }
    }

    fn nodes(&self) -> Ranges {
        self.nodes.iter().fold(Ranges::default(), |mut nodes, (first, last)| {
            nodes.add(first.0, last.0);
            nodes
        })
    }

    fn is_in(&self, nodes: &Ranges) -> bool {
        self.nodes.iter().all(|(first, last)| nodes.covers(first.0, last.0))
    }

    /// Why it cannot win; `later` are the sections after it.
    fn note(&self, source: ConfigText<'_>, later: &[OverrideClaim]) -> String {
        let (line, column) = line_and_column(source.text, self.start);
        let place = format!("{}:{line}:{column}: [[for]] nodes {}", source.path, shown_numbers(&self.nodes));
        if self.names.is_empty() {
            return format!("{place}: sets nothing");
        }
        let wins = |other: &&OverrideClaim| other.names.iter().any(|name| self.names.contains(name));
        let last = later.iter().rev().find(wins).map_or(line, |other| line_and_column(source.text, other.start).0);
        format!("{place}: has no effect, as later sections (line {last}) set the same keys for all its nodes: move it below")
    }
}
