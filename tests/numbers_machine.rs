//! A machine's whole life in QEMU: its ROM boots it as a guest, its own `muster-in` makes it a node in the same boot, and from the next boot
//! on its ROM is given the node's address, whichever of its cards it boots from.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::machine::{Firmware, Machine, boot_root};
use common::musterd::Musterd;
use common::{Host, Lab, write};

const SERVER: &str = "10.54.0.1/16";
const CARDS: [&str; 2] = ["52:54:00:12:34:56", "52:54:00:12:34:57"];
/// A boot takes 15 to 40 s of an emulated processor, and several times that on a busy machine.
const BOOT_SECONDS: u64 = 300;

const CONFIG: &str = r#"
[cluster]
node0 = "10.54.1.0"
nodes = 1024
guests = "10.54.250.0-10.54.253.255"

[boot]
kernel = "vmlinuz"
initrd = ["initrd.img", "passing.img"]
args = "console=ttyS0 BOOTIF={mac}"
"#;

/// The user space of a machine that passes muster: first an address as a guest, as any system asks for one, then its number. The link's changes
/// are counted by its driver.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin:/usr/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
exec >/dev/ttyS0 2>&1
while read -r module; do insmod "/modules/$module"; done </modules/order
tries=0
until [ -e /sys/class/net/eth1 ] || [ $tries -ge 50 ]; do sleep 0.2; tries=$((tries + 1)); done
ip link set lo up
muster-in --no-test >/guest
echo "MUSTER-LAB-GUEST code=$? $(tr '\n' ' ' </guest)END"
. /guest
before=$(cat /sys/class/net/$INTERFACE/carrier_changes)
muster-in >/node
echo "MUSTER-LAB-NODE code=$? link=$before/$(cat /sys/class/net/$INTERFACE/carrier_changes) host=$(hostname) $(tr '\n' ' ' </node)END"
sleep 0.2
poweroff -f
"#;

/// A test that every machine of the lab passes.
const TEST: &str =
    "#!/bin/sh\nwhile read -r key kib unit; do [ $key = MemTotal: ] && [ $kib -gt 100000 ] && exit 0; done </proc/meminfo\nexit 1\n";

fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}: run scripts/setup"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn put(root: &Path, path: &str, bytes: &[u8]) -> PathBuf {
    let to = root.join(path.trim_start_matches('/'));
    fs::create_dir_all(to.parent().expect("a path of files")).expect("a folder");
    write(&to, bytes);
    fs::set_permissions(&to, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("its mode");
    to
}

/// An archive that is unpacked over the lab's initramfs: this checkout's muster-in, the libraries that it needs, a test and an init.
fn passing_image(lab: &Lab, to: &Path) {
    let root = lab.dir().join("initramfs");
    let ours = env!("CARGO_BIN_EXE_muster-in");
    let put_in = put(&root, "bin/muster-in", &[]);
    tool("strip", &["-o", put_in.to_str().expect("a path of ours"), ours]);
    for library in tool("ldd", &[ours]).split_whitespace().filter(|word| word.starts_with('/')) {
        put(&root, library, &fs::read(library).expect("a library that ldd names"));
    }
    put(&root, "init", INIT.as_bytes());
    put(&root, "etc/muster/test.d/10-memory", TEST.as_bytes());
    let pack = format!("cd {} && find . | cpio --quiet --create --format=newc | gzip -1 >{}", root.display(), to.display());
    tool("sh", &["-ec", &pack]);
}

fn shown(server: &Host, lab: &Lab) -> String {
    let socket = lab.dir().join("run/control.sock");
    let arguments = ["--socket", socket.to_str().expect("a path of ours"), "node", "show", "0"];
    server.run(20, env!("CARGO_BIN_EXE_muster"), &arguments).must("muster node show")
}

fn contains(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

#[test]
fn a_machine_becomes_node_0_in_the_boot_in_which_it_was_a_guest() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let root = boot_root(&lab);
    passing_image(&lab, &root.join("passing.img"));
    let musterd = Musterd::configured(&server, &root, CONFIG);
    let mut machine = Machine::with_cards(&mut lab, &CARDS, CARDS[0], Firmware::BiosIpxe);
    let guest = machine.expect_line(BOOT_SECONDS, "MUSTER-LAB-GUEST");
    contains(&guest, &["code=0", "INTERFACE='eth0'", "ADDRESS='10.54.25", "NUMBER=''", "VERDICT='untested'"]);
    assert!(machine.console().contains(": 10.54.25"), "its ROM was a guest as well:\n{}", machine.console());
    let node = machine.expect_line(BOOT_SECONDS, "MUSTER-LAB-NODE");
    contains(&node, &["code=0", "host=n0 ", "ADDRESS='10.54.1.0'", "NUMBER='0'", "HOSTNAME='n0'", "VERDICT='passed'"]);
    let changes = node.split("link=").nth(1).and_then(|rest| rest.split_whitespace().next()).and_then(|pair| pair.split_once('/'));
    let (before, after) = changes.unwrap_or_else(|| panic!("no link= in {node}"));
    assert!(before == after && before.parse::<u32>().is_ok_and(|changes| changes > 0), "its link was dropped: {node}");
    contains(&shown(&server, &lab), &["n0  10.54.1.0", "occupied", CARDS[0], CARDS[1], "LAB525400123456", "source    passed"]);
    drop(machine);

    // The next boot of the same machine, by its ROM, and one from its other card; over a restart of the head.
    musterd.kill();
    let musterd = Musterd::configured(&server, &root, CONFIG);
    for card in CARDS {
        let mut machine = Machine::with_cards(&mut lab, &CARDS, card, Firmware::BiosIpxe);
        let word = machine.expect_line(BOOT_SECONDS, "/255.255.0.0");
        contains(&word, &[": 10.54.1.0/255.255.0.0"]);
        assert!(musterd.seen_all(&["n0", card, "lease 10.54.1.0"]).is_some(), "{}", musterd.log());
        drop(machine);
        // No machine starts faster; a card that was heard a moment ago keeps the address.
        std::thread::sleep(Duration::from_secs(6));
    }
}
