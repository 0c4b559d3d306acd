//! The packages, as a distribution installs them: in whole roots of Debian 12 and 13, with the init that runs there. `make test-installed` runs
//! all of it with the programs that users get; a plain `cargo test` runs a part, with the programs that were built for the tests.

mod common;

use std::time::{Duration, Instant};

use common::container::Container;
use common::packages::{later, package};
use common::rack::{CONFIG, Rack};
use common::{Lab, wait, write};

/// How long until it serves again, when it has been started anew or its interface has come: two seconds by the unit, and the rest for a
/// machine that is busy with other tests.
const SOON: u64 = 15;
/// Machines that boot while the package is upgraded.
const CROWD: &str = "20";

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

/// Where nobody starts it again when it has ended, and its interface was not there when it was to start, a hand does.
fn by_hand(rack: &Rack) {
    rack.must("[ -d /run/systemd/system ] || pgrep -x musterd || service muster start");
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
    let storm = |seconds: &str| {
        let root = root.to_str().expect("a path of ours");
        let arguments =
            ["-i", "eth0", "-n", CROWD, "-p", "rom", "--first", "100", "-f", "large", "--verify-root", root, "--timeout", seconds];
        rack.client.run(150, env!("CARGO_BIN_EXE_muster-storm"), &arguments)
    };
    let old = rack.must("pgrep -o -x musterd");
    let before = std::thread::scope(|scope| {
        let booting = scope.spawn(|| storm("100"));
        let loading = wait(20, || rack.must("muster status").contains(&format!("{CROWD} transfers")).then_some(()));
        assert!(loading.is_some(), "{}", rack.must("muster status"));
        install(rack, "/root/later.deb");
        assert!(!booting.is_finished(), "the upgrade came too late to disturb anybody");
        booting.join().expect("the storm's thread")
    });
    assert_ne!(rack.must("pgrep -o -x musterd"), old, "the new version runs");
    // A machine whose load broke off is switched on again, by its watchdog or by a hand.
    if !before.ok() {
        println!("the upgrade cost loads: {}", before.output);
        storm("100").must("each machine boots after the upgrade");
    }
    rack.must("test -z \"$(dpkg --audit)\"; rm /srv/tftp/large");
}

/// All processes die at once and the interface is gone; then power comes back.
fn a_power_cut(rack: &mut Rack) {
    rack.head.power_cut(&mut rack.lab);
    let begin = Instant::now();
    rack.plug();
    by_hand(rack);
    let served = rack.served_since(begin, SOON);
    println!("served {:.1} s after power came back and the interface with it", served.as_secs_f64());
    assert!(seven(rack), "no number is lost");
}

/// The interface is deleted, and made anew with another hardware address.
fn an_interface_made_anew(rack: &mut Rack) {
    rack.head.host().ip("link delete eth1");
    std::thread::sleep(Duration::from_secs(2));
    rack.plug();
    by_hand(rack);
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
