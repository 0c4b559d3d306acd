//! The packages, as a distribution installs them: in whole roots of Debian 12 and 13, with the init that runs there. `make test-installed` runs
//! all of it with the programs that users get; a plain `cargo test` runs a part, with the programs that were built for the tests.

mod common;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::container::Container;
use common::machine::{Firmware, Machine, boot_root};
use common::packages::{archive, later, package};
use common::rack::{CONFIG, Rack};
use common::{Lab, wait, write};

/// How long until it serves again, when it has been started anew or its interface has come: two seconds by the unit, and the rest for a
/// machine that is busy with other tests.
const SOON: u64 = 15;
/// Machines that boot while the package is upgraded.
const CROWD: &str = "20";

/// A boot takes 15 to 60 s of an emulated processor, and several times that on a busy machine.
const BOOT_SECONDS: u64 = 400;

/// The names of our packages, and what their files end in.
const DEBS: [(&str, &str); 3] = [("muster", ".deb"), ("muster-node", ".deb"), ("libnss-muster", ".deb")];
const RPMS: [(&str, &str); 3] = [("muster", ".rpm"), ("muster-node", ".rpm"), ("nss-muster", ".rpm")];

/// A head with a root of its own, on which nothing of muster is installed yet; the packages lie in `/root`.
fn bare(root: &str) -> Rack {
    let mut lab = Lab::new();
    let head = Container::boot_root(&mut lab, root);
    let rack = Rack::new(lab, head);
    for (name, ending) in [DEBS, RPMS].concat() {
        let to = rack.head.root().join("root").join(format!("{name}{ending}"));
        std::fs::copy(package(name, ending), to).expect("copy a package into the root");
    }
    rack
}

/// As a user would; nothing is fetched.
fn install(rack: &Rack, deb: &str) -> String {
    rack.must(&format!("DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends --allow-downgrades install {deb} 2>&1"))
}

/// So slow that twenty machines load for a while, however fast this machine is.
fn configure(rack: &Rack) {
    write(&rack.head.root().join("etc/muster/muster.toml"), format!("{CONFIG}link-rate = \"100M\"\n").as_bytes());
}

fn runs(rack: &Rack) -> bool {
    rack.head.script(20, "pgrep -x musterd").ok()
}

/// Whose number seven is, by the daemon.
fn seven(rack: &Rack) -> bool {
    rack.must("muster node show 7 --json").contains("52:54:00:00:00:07")
}

/// A fresh installation does nothing, and says what it waits for; named an interface, it serves.
fn installs_and_serves(rack: &mut Rack) {
    let switch = rack.must("cat /etc/nsswitch.conf");
    install(rack, "/root/muster.deb /root/libnss-muster.deb");
    assert!(!runs(rack), "it does nothing until an interface or a config is named");
    rack.must(
        "test -z \"$(dpkg --audit)\"; getent passwd muster; getent group muster; test -d /srv/tftp; test ! -e /var/lib/muster/journal",
    );
    let hosts = rack.must("grep ^hosts: /etc/nsswitch.conf");
    assert!(hosts.contains("files muster"), "{hosts}");
    rack.plug();
    std::thread::sleep(Duration::from_secs(3));
    assert!(!runs(rack), "an interface with an address is not enough");

    configure(rack);
    rack.must("service muster start");
    rack.served_within(SOON);
    rack.machines_boot();
    rack.must("muster node set 7 --mac 52:54:00:00:00:07 -y");
    assert!(seven(rack));
    let named = rack.must("getent hosts n5; getent hosts 10.54.1.5");
    assert_eq!(named.lines().count(), 2, "{named}");
    assert!(named.lines().all(|line| line.contains("10.54.1.5") && line.contains("n5.cluster")), "{named}");

    install(rack, "--reinstall /root/libnss-muster.deb");
    rack.must("dpkg --purge libnss-muster");
    assert_eq!(rack.must("cat /etc/nsswitch.conf"), switch, "what the package changed it takes back");
}

/// Twenty machines are booting when a later version is installed.
fn an_upgrade_in_mid_boot(rack: &Rack) {
    let deb = later(&package("muster", ".deb"), rack.lab.dir());
    std::fs::copy(deb, rack.head.root().join("root/later.deb")).expect("copy a package into the root");
    rack.must("head -c 8000000 /dev/urandom >/srv/tftp/large");
    let root = rack.head.root().join("srv/tftp");
    let storm = || {
        let root = root.to_str().expect("a path of ours");
        let arguments =
            ["-i", "eth0", "-n", CROWD, "-p", "rom", "--first", "100", "-f", "large", "--verify-root", root, "--timeout", "100"];
        rack.client.run(150, env!("CARGO_BIN_EXE_muster-storm"), &arguments)
    };
    let old = rack.must("pgrep -o -x musterd");
    let booted = std::thread::scope(|scope| {
        let booting = scope.spawn(storm);
        let loading = wait(20, || rack.must("muster status").contains(&format!("{CROWD} transfers")).then_some(()));
        assert!(loading.is_some(), "{}", rack.must("muster status"));
        install(rack, "/root/later.deb");
        assert!(!booting.is_finished(), "the upgrade came too late to disturb anybody");
        booting.join().expect("the storm's thread")
    });
    assert_ne!(rack.must("pgrep -o -x musterd"), old, "the new version runs");
    let taken_up = rack.log().lines().rev().find(|line| line.contains("that were running are taken up")).map(str::to_owned);
    println!("{taken_up:?}");
    booted.must("each machine boots over the upgrade");
    assert!(taken_up.is_some_and(|line| line.contains(&format!(" {CROWD} of {CROWD} "))), "{}", rack.log());
    rack.must("test -z \"$(dpkg --audit)\"; rm /srv/tftp/large");
}

/// All processes die at once and the interface is gone; then power comes back.
fn a_power_cut(rack: &mut Rack) {
    rack.head.power_cut(&mut rack.lab);
    let begin = Instant::now();
    rack.plug();
    let served = rack.served_since(begin, SOON);
    println!("served {:.1} s after power came back and the interface with it", served.as_secs_f64());
    assert!(seven(rack), "no number is lost");
}

/// The interface is deleted, and made anew with another hardware address.
fn an_interface_made_anew(rack: &mut Rack) {
    rack.head.host().ip("link delete eth1");
    std::thread::sleep(Duration::from_secs(2));
    rack.plug();
    let served = rack.served_within(SOON);
    println!("served {:.1} s after the interface was made anew", served.as_secs_f64());
    rack.machines_boot();
}

/// Removed it is gone, but for the numbers; installed again it goes on with them; purged all is gone.
fn remove_reinstall_purge(rack: &Rack) {
    rack.must("apt-get -q -y remove muster");
    assert!(!runs(rack) && rack.is_silent(), "removed");
    rack.must("test -s /var/lib/muster/journal; test -e /etc/muster/muster.toml; test ! -e /usr/sbin/musterd");
    install(rack, "/root/muster.deb");
    rack.served_within(SOON);
    assert!(seven(rack), "the journal was kept");
    rack.must("apt-get -q -y purge muster");
    assert!(!runs(rack) && rack.is_silent(), "purged");
    rack.must("test ! -e /var/lib/muster; test ! -e /etc/init.d/muster; test ! -e /etc/default/muster; test -z \"$(dpkg --audit)\"");
    rack.must(
        "test -z \"$(find /etc/rc?.d /etc/systemd/system -name '*muster*')\"; test -e /etc/muster/muster.toml; test -e /srv/tftp/boot-file",
    );
    install(rack, "/root/muster.deb");
    rack.served_within(SOON);
    assert!(!seven(rack), "a new journal");
}

fn a_life(root: &str) {
    let begin = Instant::now();
    let mut rack = bare(root);
    let told = |what: &str| println!("{root}: {what} after {:.1} s", begin.elapsed().as_secs_f64());
    told("booted");
    installs_and_serves(&mut rack);
    told("installed");
    an_upgrade_in_mid_boot(&rack);
    told("upgraded");
    a_power_cut(&mut rack);
    told("cut off");
    an_interface_made_anew(&mut rack);
    told("plugged");
    remove_reinstall_purge(&rack);
    told("purged");
}

#[test]
fn debian_12_installs_serves_upgrades_and_forgets() {
    a_life("bookworm");
}

#[test]
#[ignore = "a minute: make test-installed"]
fn debian_13_installs_serves_upgrades_and_forgets() {
    a_life("trixie");
}

#[test]
#[ignore = "a minute: make test-installed"]
fn a_debian_with_sysvinit_installs_serves_upgrades_and_forgets() {
    a_life("sysv");
}

/// By rpm, with a database of its own that knows nothing of this Debian's packages: so dependencies are not looked at, but all scriptlets run.
#[test]
fn the_rpms_install_serve_upgrade_and_leave_the_journal() {
    let mut rack = bare("bookworm");
    let switch = rack.must("cat /etc/nsswitch.conf");
    let said = rack.must("rpm --initdb; rpm -i --nodeps /root/*.rpm 2>&1; rpm -V --nodeps muster muster-node nss-muster");
    assert!(!said.contains("scriptlet failed"), "{said}");
    assert!(!runs(&rack), "it does nothing until an interface or a config is named");
    rack.must("getent passwd muster; getent group muster; test -d /srv/tftp; systemctl is-enabled muster; grep '^hosts:.*files muster' /etc/nsswitch.conf");
    rack.plug();
    configure(&rack);
    rack.must("systemctl start muster");
    rack.served_within(SOON);
    rack.machines_boot();
    rack.must("muster node set 7 --mac 52:54:00:00:00:07 -y; echo '# mine' >>/etc/sysconfig/muster");

    let old = rack.must("pgrep -o -x musterd");
    rack.must("rpm -U --force --nodeps /root/muster.rpm");
    rack.served_within(SOON);
    assert_ne!(rack.must("pgrep -o -x musterd"), old, "an upgrade starts it anew");
    assert!(seven(&rack));
    rack.must("grep mine /etc/sysconfig/muster; systemctl is-enabled muster");

    rack.must("rpm -e muster muster-node nss-muster");
    assert!(!runs(&rack) && rack.is_silent(), "removed");
    assert_eq!(rack.must("cat /etc/nsswitch.conf"), switch, "what the package changed it takes back");
    rack.must("test -s /var/lib/muster/journal; test -z \"$(find /etc/systemd/system -name '*muster*')\"; test ! -e /usr/lib/dracut/modules.d/90muster");
}

/// The boot interface comes a minute after the head: everybody else has long since given up.
#[test]
#[ignore = "two minutes: make test-installed"]
fn an_interface_that_comes_a_minute_late_is_served() {
    let mut rack = bare("bookworm");
    install(&rack, "/root/muster.deb");
    configure(&rack);
    rack.head.script(60, "systemctl start muster");
    std::thread::sleep(Duration::from_secs(60));
    assert_eq!(rack.head.script(20, "systemctl is-failed muster").code, Some(1), "it has not given up: {}", rack.status());
    rack.plug();
    let served = rack.served_within(SOON);
    println!("served {:.1} s after the interface came, a minute late", served.as_secs_f64());
    rack.machines_boot();
}

/// A machine in QEMU boots its own firmware, iPXE and Linux from the packaged head.
#[test]
#[ignore = "an emulated processor: make test-installed"]
fn real_firmware_boots_from_the_package() {
    for (firmware, mac) in [(Firmware::BiosIpxe, "52:54:00:12:34:56"), (Firmware::Ovmf, "52:54:00:12:34:57")] {
        let mut rack = bare("bookworm");
        install(&rack, "/root/muster.deb");
        let root = boot_root(&rack.lab);
        for name in ["vmlinuz", "initrd.img", "undionly.kpxe", "snponly.efi"] {
            std::fs::copy(root.join(name), rack.head.root().join("srv/tftp").join(name)).expect("copy a boot file");
        }
        let config = format!("{CONFIG}[boot]\nkernel = \"vmlinuz\"\ninitrd = [\"initrd.img\"]\nargs = \"console=ttyS0\"\n");
        write(&rack.head.root().join("etc/muster/muster.toml"), config.as_bytes());
        rack.plug();
        rack.must("systemctl start muster");
        let mut machine = Machine::power_on(&mut rack.lab, mac, firmware);
        let line = machine.expect_line(BOOT_SECONDS, "MUSTER-LAB-UP");
        assert!(line.contains(mac) && line.contains("addr=10.54.25"), "{line}");
    }
}

/// What the node's system is in this test: it shows what it was handed, and ends.
const SYSTEM: &str = "#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox sed 's/^/NODE-NAMES /' /var/lib/muster/names >/dev/ttyS0
. /run/muster-in
echo \"NODE-UP $NUMBER $ADDRESS $VERDICT\" >/dev/ttyS0
/bin/busybox sleep 1
/bin/busybox poweroff -f
";

/// A disk with this system.
fn disk(rack: &Rack) -> std::path::PathBuf {
    let (tree, disk) = (rack.lab.dir().join("system"), rack.lab.dir().join("system.img"));
    for folder in ["bin", "sbin", "etc", "proc", "sys", "dev", "run", "root"] {
        std::fs::create_dir_all(tree.join(folder)).expect("a folder");
    }
    std::fs::copy(common::image().join("busybox"), tree.join("bin/busybox")).expect("copy busybox");
    write(&tree.join("sbin/init"), SYSTEM.as_bytes());
    // systemd in an initramfs takes nothing else for a system.
    write(&tree.join("etc/os-release"), b"ID=muster-test\n");
    let script = "chmod 755 \"$1/sbin/init\"; truncate -s 32M \"$2\"; mke2fs -q -t ext4 -d \"$1\" \"$2\"";
    let made = Command::new("sh").args(["-ec", script, "sh"]).arg(&tree).arg(&disk).output().expect("a shell");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    disk
}

/// An initramfs of each kind runs the node's part: the machine passes its test, becomes node 0, and starts its system.
fn a_node_passes(make: &str, image: &str) {
    let mut rack = bare("node");
    let tested = "mkdir -p /etc/muster/test.d; printf '#!/bin/sh\\necho NODE-TESTED >/dev/console\\n' >/etc/muster/test.d/10-here";
    rack.must(&format!("{tested}; chmod 755 /etc/muster/test.d/10-here"));
    install(&rack, "/root/muster.deb /root/muster-node.deb");
    // dracut gives its images to root alone, and musterd is not root.
    let install = format!("install -m 644 {image} /srv/tftp/initrd.img; cp /boot/vmlinuz-* /srv/tftp/vmlinuz");
    let made = rack.head.script(400, &format!("{make}; {install}"));
    made.must("an initramfs");
    std::fs::copy(common::image().join("undionly.kpxe"), rack.head.root().join("srv/tftp/undionly.kpxe")).expect("copy iPXE");
    let args = "console=ttyS0 rd.muster root=/dev/vda rw panic=5 rd.shell=0";
    let config = format!("{CONFIG}[boot]\nkernel = \"vmlinuz\"\ninitrd = [\"initrd.img\"]\nargs = \"{args}\"\n");
    write(&rack.head.root().join("etc/muster/muster.toml"), config.as_bytes());
    rack.plug();
    rack.must("systemctl start muster");
    let disk = disk(&rack);
    let mut machine = Machine::with_disk(&mut rack.lab, "52:54:00:12:34:58", &disk);
    machine.expect_line(BOOT_SECONDS, "NODE-TESTED");
    let line = machine.expect_line(BOOT_SECONDS, "NODE-UP");
    assert!(line.contains("NODE-UP 0 10.54.1.0 passed"), "{line}");
    assert!(machine.console().contains("NODE-NAMES "), "the names came along");
    assert!(rack.must("muster node show 0 --json").contains("52:54:00:12:34:58"));
}

#[test]
#[ignore = "an emulated processor: make test-installed"]
fn a_node_passes_from_an_initramfs_of_initramfs_tools() {
    // The package has it made anew by itself.
    a_node_passes("lsinitramfs /boot/initrd.img-* | grep -q sbin/muster-in", "/boot/initrd.img-*");
}

#[test]
#[ignore = "an emulated processor: make test-installed"]
fn a_node_passes_from_an_initramfs_of_dracut() {
    let make = "dracut --quiet --no-hostonly --force /boot/dracut.img $(ls /lib/modules); lsinitrd /boot/dracut.img | grep -q muster-in";
    a_node_passes(make, "/boot/dracut.img");
}

/// Names of newest symbols of the C library are of no version after this one, that of RHEL 8.
const GLIBC: (u32, u32) = (2, 28);

/// In a release build: a build for tests has the standard library in it, which wants more.
#[test]
fn the_names_module_needs_an_old_c_library_only() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("package-tested").join("cargo");
    let mut build = Command::new(env!("CARGO"));
    build.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--quiet", "--locked", "--release", "--package", "libnss-muster"]);
    let built = build.arg("--target-dir").arg(&target).output().expect("cargo runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let symbols = Command::new("objdump").arg("-T").arg(target.join("release/libnss_muster.so")).output().expect("objdump");
    let symbols = String::from_utf8_lossy(&symbols.stdout).into_owned();
    let version = |word: &str| {
        let (major, rest) = word.trim_matches(['(', ')']).strip_prefix("GLIBC_")?.split_once('.')?;
        Some((major.parse::<u32>().ok()?, rest.split('.').next()?.parse::<u32>().ok()?))
    };
    let newest = symbols.split_whitespace().filter_map(version).max().expect("it needs the C library");
    assert!(newest <= GLIBC, "{newest:?}: {symbols}");
    assert!(symbols.contains("_nss_muster_gethostbyname4_r"), "{symbols}");
}

/// On a Debian 11, whose C library is older than the one that all was built with.
#[test]
#[ignore = "needs an archive: make test-installed"]
fn the_archive_runs_on_an_older_system() {
    let mut lab = Lab::new();
    let head = Container::boot_root(&mut lab, "bullseye");
    let mut rack = Rack::new(lab, head);
    let script = "tar -C \"$2\" -xf \"$1\"; cd \"$2\"/muster-*-linux; make --silent install PREFIX=/usr DESTDIR=\"$3\" CARGO=false";
    let made = Command::new("sh").args(["-ec", script, "sh"]).arg(archive()).arg(rack.lab.dir()).arg(rack.head.root()).output();
    let made = made.expect("a shell");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    configure(&rack);
    rack.plug();
    rack.must("systemd-sysusers; systemd-tmpfiles --create muster.conf; ldconfig; systemctl daemon-reload; systemctl enable --now muster");
    rack.served_within(SOON);
    rack.machines_boot();
    rack.must("sed -i 's/^hosts:.*/hosts: files muster/' /etc/nsswitch.conf; muster status; muster-in --help; muster-storm --version");
    assert!(rack.must("getent hosts n5").contains("10.54.1.5"));
    assert_eq!(rack.must("stat -c %G /run/muster/control.sock").trim(), "muster");
}

/// The script for OpenRC, on the Debian that has it.
#[test]
#[ignore = "a minute: make test-installed"]
fn openrc_starts_supervises_and_stops_it() {
    let mut rack = bare("openrc");
    install(&rack, "/root/muster.deb");
    // In place of the package's own script.
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/muster.openrc");
    std::fs::copy(script, rack.head.root().join("etc/init.d/muster")).expect("copy the script");
    rack.must("mkdir -p /etc/conf.d; rc-update add muster default");
    let refused = rack.head.script(60, "rc-service muster start");
    assert!(!refused.ok() && refused.output.contains("not configured"), "{}", refused.output);
    configure(&rack);
    rack.plug();
    rack.must("rc-service muster start");
    rack.served_within(SOON);
    rack.machines_boot();
    rack.must("rc-service muster status; rc-service muster reload");
    rack.must("kill -9 $(pgrep -o -x musterd)");
    rack.served_within(SOON);
    rack.must("rc-service muster stop");
    assert!(!runs(&rack) && rack.is_silent(), "stopped");
    rack.head.power_cut(&mut rack.lab);
    std::thread::sleep(Duration::from_secs(3));
    rack.plug();
    rack.served_within(SOON);
}

/// No complaint of the distributions' checkers but those that are meant so, each with its reason beside it.
#[test]
#[ignore = "looks at what users get: make test-installed"]
fn lintian_and_rpmlint_find_nothing() {
    let folder = common::packages::folder();
    let run = |program: &str, arguments: &[&str], pattern: &str| {
        let script = format!("exec {program} {} {pattern}", arguments.join(" "));
        let output = Command::new("sh").current_dir(folder).args(["-c", &script]).output().expect("a shell");
        assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    };
    run("lintian", &["--allow-root", "--display-info", "--fail-on", "error,warning,info"], "*.changes");
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/rpm/rpmlint.toml");
    run("rpmlint", &["--strict", "--config", config.to_str().expect("a path of ours")], "sources/muster.spec *.rpm");
}
