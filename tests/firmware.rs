//! Real machines boot from their own firmware: QEMU's, which emulates a processor here and so takes its seconds.

mod common;

use common::machine::{Firmware, Machine, boot_root};
use common::musterd::Musterd;
use common::{Host, Lab};

const SERVER: &str = "10.54.0.1/16";
const MAC: &str = "52:54:00:12:34:56";
const SENTINEL: &str = "MUSTER-LAB-UP";
/// A boot takes 15 to 40 s of an emulated processor, and several times that on a busy machine.
const BOOT_SECONDS: u64 = 300;

/// The address in the sentinel's line.
fn address(line: &str) -> String {
    let address = line.split_whitespace().find_map(|word| word.strip_prefix("addr="));
    address.unwrap_or_else(|| panic!("no addr= in {line}")).to_owned()
}

/// The addresses that the server's kernel has a permanent neighbour entry for, with this MAC.
fn given(server: &Host) -> Vec<String> {
    let neighbours = server.ip("neigh show nud permanent");
    let ours = neighbours.lines().filter(|line| line.contains(MAC));
    ours.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

const NODE_17: &str = r#"
[cluster]
node0 = "10.54.1.0"
nodes = 1024
guests = "10.54.250.0-10.54.253.255"

[[node]]
number = 17
macs = ["52:54:00:12:34:56"]

[boot]
kernel = "vmlinuz"
initrd = ["initrd.img"]
args = "console=ttyS0 muster.node={node}"
"#;

#[test]
fn a_bios_machine_with_a_number_boots_linux() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let root = boot_root(&lab);
    let musterd = Musterd::configured(&server, &root, NODE_17);
    let before = musterd.descriptors();
    let mut machine = Machine::power_on(&mut lab, MAC, Firmware::BiosIpxe);
    let line = machine.expect_line(BOOT_SECONDS, SENTINEL);
    assert_eq!(address(&line), "10.54.1.17", "{line}");
    assert!(line.contains("muster.node=17"), "the kernel's arguments are the config's: {line}");
    let after = musterd.descriptors();
    assert!(after <= before + 3, "descriptors grew from {before} to {after}: by more than three boot files");
    assert_eq!(given(&server), ["10.54.1.17"], "one address for the ROM and for Linux");
}

#[test]
fn the_rom_of_a_bios_machine_waits_for_nothing() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let root = boot_root(&lab);
    let _musterd = Musterd::plain(&server, &root);
    let mut machine = Machine::power_on(&mut lab, MAC, Firmware::BiosIpxe);
    machine.expect(BOOT_SECONDS, "Configuring");
    let configuring = machine.power_on_at().elapsed();
    machine.expect(BOOT_SECONDS, "tftp://");
    let script = machine.power_on_at().elapsed();
    let waited = script - configuring;
    println!(
        "iPXE: {:.1} s from power-on to its first DHCP packet, {:.1} s from there to its script",
        configuring.as_secs_f32(),
        waited.as_secs_f32()
    );
    assert!(waited.as_secs() < 10, "iPXE took {waited:?} from its first DHCP packet to its script: it waited for somebody");
    let line = machine.expect_line(BOOT_SECONDS, SENTINEL);
    assert_eq!(given(&server), [address(&line)], "a guest keeps its address from the ROM to Linux");
}

#[test]
fn a_uefi_machine_boots_from_its_own_pxe_stack_without_a_config() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let root = boot_root(&lab);
    let _musterd = Musterd::plain(&server, &root);
    let mut machine = Machine::power_on(&mut lab, MAC, Firmware::Ovmf);
    let line = machine.expect_line(BOOT_SECONDS, SENTINEL);
    assert!(address(&line).starts_with("10.54."), "{line}");
    assert_eq!(given(&server), [address(&line)], "a guest keeps its address from the firmware to Linux");
}

#[test]
fn a_uefi_machine_boots_by_grub() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let root = boot_root(&lab);
    let from = "/usr/lib/grub/x86_64-efi/monolithic/grubnetx64.efi";
    std::fs::copy(from, root.join("grubnetx64.efi")).unwrap_or_else(|error| panic!("{from}: {error}: run scripts/setup as root first"));
    std::fs::create_dir(root.join("grub")).expect("make a folder");
    let menu = "linux (tftp)/vmlinuz console=ttyS0 by=grub\ninitrd (tftp)/initrd.img\nboot\n";
    common::write(&root.join("grub/grub.cfg"), menu.as_bytes());
    let config = format!("{NODE_17}program = {{ efi-x64 = \"grubnetx64.efi\" }}\n");
    let _musterd = Musterd::configured(&server, &root, &config);
    let mut machine = Machine::power_on(&mut lab, MAC, Firmware::Ovmf);
    let line = machine.expect_line(BOOT_SECONDS, SENTINEL);
    assert_eq!(address(&line), "10.54.1.17", "{line}");
    assert!(line.contains("by=grub"), "{line}");
}

#[test]
fn a_bios_machine_boots_by_pxelinux_which_asks_for_much_that_is_not_there() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let root = boot_root(&lab);
    for name in ["pxelinux.0", "ldlinux.c32"] {
        std::fs::copy(common::image().join(name), root.join(name)).expect("copy pxelinux");
    }
    std::fs::create_dir(root.join("pxelinux.cfg")).expect("make a folder");
    let menu = "SERIAL 0\nDEFAULT linux\nLABEL linux\nKERNEL vmlinuz\nINITRD initrd.img\nAPPEND console=ttyS0 by=pxelinux\n";
    common::write(&root.join("pxelinux.cfg/default"), menu.as_bytes());
    common::write(&root.join("boot.ipxe"), b"#!ipxe\nchain pxelinux.0\n");
    let config = format!("{NODE_17}script = \"boot.ipxe\"\n");
    let _musterd = Musterd::configured(&server, &root, &config);
    let mut machine = Machine::power_on(&mut lab, MAC, Firmware::BiosIpxe);
    let line = machine.expect_line(BOOT_SECONDS, SENTINEL);
    assert_eq!(address(&line), "10.54.1.17", "{line}");
    assert!(line.contains("by=pxelinux"), "{line}");
}

/// NODE_17 with arguments that a loader could trip over: a word with blanks in it, and letters that mean something to a shell.
fn odd_arguments(by: &str) -> String {
    let odd = format!("console=ttyS0 by={by} muster.node={{node}} muster.ip={{ip}} odd=$x;'#* \\\"two words=a  b\\\" end=1");
    NODE_17.replace("console=ttyS0 muster.node={node}", &odd)
}

#[test]
fn a_uefi_machine_boots_by_grub_without_a_file_for_it() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let root = boot_root(&lab);
    let from = "/usr/lib/grub/x86_64-efi/monolithic/grubnetx64.efi";
    std::fs::copy(from, root.join("grubnetx64.efi")).unwrap_or_else(|error| panic!("{from}: {error}: run scripts/setup as root first"));
    let config = format!("{}program = {{ efi-x64 = \"grubnetx64.efi\" }}\n", odd_arguments("grub"));
    let musterd = Musterd::configured(&server, &root, &config);
    let mut machine = Machine::power_on(&mut lab, MAC, Firmware::Ovmf);
    let line = machine.expect_line(BOOT_SECONDS, SENTINEL);
    assert_eq!(address(&line), "10.54.1.17", "{line}");
    // GRUB escapes a quote, and puts its own around a word with blanks: to the kernel it is the same.
    let expected = "by=grub muster.node=17 muster.ip=10.54.1.17 odd=$x;\\'#* \"two words=a  b\" end=1";
    assert!(line.contains(expected), "{line}");
    assert!(musterd.seen_all(&["grub/grub.cfg"]).is_some(), "its story tells of the config that was made");
}

#[test]
fn a_bios_machine_boots_by_pxelinux_without_a_file_for_it() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let root = boot_root(&lab);
    // In a folder: names in the config that is made are those beneath the root all the same.
    std::fs::create_dir(root.join("bios")).expect("make a folder");
    for name in ["pxelinux.0", "ldlinux.c32"] {
        std::fs::copy(common::image().join(name), root.join("bios").join(name)).expect("copy pxelinux");
    }
    common::write(&root.join("boot.ipxe"), b"#!ipxe\nset 208:hex f1:00:74:7e\nset 210:string bios/\nchain bios/pxelinux.0\n");
    let config = format!("{}script = \"boot.ipxe\"\n", odd_arguments("pxelinux"));
    let musterd = Musterd::configured(&server, &root, &config);
    let mut machine = Machine::power_on(&mut lab, MAC, Firmware::BiosIpxe);
    let line = machine.expect_line(BOOT_SECONDS, SENTINEL);
    assert_eq!(address(&line), "10.54.1.17", "{line}");
    let expected = "by=pxelinux muster.node=17 muster.ip=10.54.1.17 odd=$x;'#* \"two words=a  b\" end=1";
    assert!(line.contains(expected), "{line}");
    assert!(musterd.seen_all(&["pxelinux.cfg/default"]).is_some(), "its story tells of the config that was made");
}

#[test]
fn a_hangup_in_the_middle_of_a_boot_loses_nothing() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let root = boot_root(&lab);
    let musterd = Musterd::configured(&server, &root, NODE_17);
    let mut machine = Machine::power_on(&mut lab, MAC, Firmware::BiosIpxe);
    machine.expect(BOOT_SECONDS, "vmlinuz");
    Musterd::reconfigure(&server, &format!("# another text\n{NODE_17}"));
    musterd.signal(nix::sys::signal::Signal::SIGHUP);
    let console = machine.console();
    assert!(!console.contains("initrd.img... ok"), "the signal came too late to say anything:\n{console}");
    let line = machine.expect_line(BOOT_SECONDS, SENTINEL);
    assert_eq!(address(&line), "10.54.1.17", "{line}");
}
