//! What `make install` installs, as it is installed: the systemd unit, under a systemd of its own, with clients on its network.

mod common;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::container::Container;
use common::rack::{CONFIG, Rack};
use common::{Lab, nss_module, text, wait, write};

/// Of `linux/capability.h`.
const CAP_SYS_RESOURCE: u32 = 24;
/// Seconds that a machine which is busy with other tests may need more than one of its own.
const BUSY: u64 = 6;
/// What systemd-analyze may say of the unit, in tenths: 0 is the strictest.
const EXPOSURE_TENTHS: u32 = 34;

/// A head on which muster is installed, not started, and a machine on its network.
fn installed() -> Rack {
    let mut lab = Lab::new();
    let tree = lab.dir().join("tree");
    install(&tree);
    let head = Container::boot(&mut lab, &tree);
    write(&head.root().join("etc/muster/muster.toml"), CONFIG.as_bytes());
    Rack::new(lab, head)
}

/// Installs what was built for this test.
fn install(tree: &Path) {
    let built = Path::new(env!("CARGO_BIN_EXE_musterd")).parent().expect("a folder of programs");
    assert_eq!(nss_module().parent(), Some(built));
    let variable = |name: &str, path: &Path| format!("{name}={}", path.display());
    let mut make = Command::new("make");
    make.current_dir(env!("CARGO_MANIFEST_DIR")).args(["-o", "all", "install", &variable("BUILT", built), &variable("DESTDIR", tree)]);
    let made = make.output().expect("make, which scripts/setup installs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// The two processes of the unit's group beside the daemon's: one that heeds no signal but SIGKILL, as a helper that hangs.
const STUBBORN: &str = "group=$(find /sys/fs/cgroup -path '*system.slice/muster.service/cgroup.procs')
    setsid sh -c 'trap \"\" TERM HUP; exec sleep 300' </dev/null >/dev/null 2>&1 &
    for group in $group; do echo $! >$group; done";

#[test]
fn machines_boot_from_the_unit_as_installed() {
    let mut rack = installed();
    rack.plug();
    rack.must("systemctl enable --now muster");
    // Ready is ready: the sockets are open, without a wait.
    let state = rack.must("muster status && systemctl restart muster && muster status");
    assert!(state.contains("numbering automatic"), "{state}");
    rack.served_within(10);
    rack.machines_boot();
    assert_eq!(rack.must("stat -c %a:%G /run/muster/control.sock").trim(), "660:muster");
    let status = rack.status();
    assert!(status.contains("active (running)") && !status.contains(" warn ") && !status.contains(" error "), "{status}");

    rack.must("systemctl reload muster");
    let reread = wait(10, || rack.status().contains("config: reloaded").then_some(()));
    assert!(reread.is_some() && rack.serves(), "{}", rack.status());

    rack.must(STUBBORN);
    assert_eq!(rack.processes().len(), 10, "musterd, eight that read and write files for it, and the stubborn one");
    let pid = rack.property("MainPID");
    rack.must(&format!("kill -9 {pid}"));
    let back = rack.served_within(20);
    println!("back {:.1} s after kill -9", back.as_secs_f64());
    assert!(back < Duration::from_secs(BUSY + 3), "{back:?}");
    assert_ne!(rack.property("MainPID"), pid);
    assert_eq!((rack.property("NRestarts").as_str(), rack.processes().len()), ("1", 9), "{}", rack.status());

    // Told by anybody else than systemd to leave, it comes back too.
    rack.must(&format!("kill {}", rack.property("MainPID")));
    assert!(wait(20, || (rack.property("NRestarts") == "2" && rack.property("ActiveState") == "active").then_some(())).is_some());
    assert!(rack.serves());

    rack.must(STUBBORN);
    rack.must("systemctl stop muster");
    let (state, left) = (rack.property("ActiveState"), rack.processes());
    assert!(state == "inactive" && left.is_empty(), "{state}, left: {left:?}");
    assert!(rack.is_silent());
    assert_eq!(rack.head.script(20, "systemctl is-failed muster").output.trim(), "inactive");
    rack.must("test -s /run/muster/state.json && test ! -e /run/muster/musterd.pid");
    rack.must("systemctl restart muster");
    rack.served_within(10);
}

#[test]
fn systemd_finds_nothing_amiss_with_the_unit() {
    let rack = installed();
    let said = rack.must("systemd-analyze verify --man=no muster.service 2>&1");
    assert_eq!(said, "");
    let said = rack.must(&format!("systemd-analyze security --no-pager --threshold={EXPOSURE_TENTHS} muster.service"));
    println!("{}", said.lines().last().unwrap_or_default());
}

#[test]
fn an_interface_that_comes_late_is_served_when_it_comes() {
    let mut rack = installed();
    // Who starts it by hand hears of it; the machine that boots does not wait for it.
    let started = rack.head.script(60, "systemctl enable muster; systemctl start muster");
    assert!(!started.ok(), "{}", started.output);
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(rack.property("ActiveState"), "activating", "{}", rack.status());
    let tries: u32 = rack.property("NRestarts").parse().expect("a number");
    assert!(tries >= 4, "{tries} tries");
    assert!(rack.log().contains("there is no interface \"eth1\""), "{}", rack.log());
    rack.plug();
    let served = rack.served_within(20);
    println!("served {:.1} s after the interface came, {tries} tries before", served.as_secs_f64());
    assert!(served < Duration::from_secs(BUSY + 4), "{served:?}");
    rack.machines_boot();
    rack.must("systemctl is-active muster");

    // A mistake in the config is told to who starts it, and mended by mending it.
    let config = rack.head.root().join("etc/muster/muster.toml");
    write(&config, b"[[network]]\ninterfase = \"eth1\"\n");
    let restarted = rack.head.script(60, "systemctl restart muster");
    assert!(!restarted.ok(), "{}", restarted.output);
    let told = "muster.toml:2:1: interfase: unknown key: did you mean";
    assert!(rack.log().contains(told) && rack.is_silent(), "{}", rack.log());
    write(&config, CONFIG.as_bytes());
    rack.served_within(20);

    // A wrong flag is told once.
    write(&rack.head.root().join("etc/default/muster"), b"MUSTERD_OPTS=\"--frobnicate\"\n");
    let restarted = rack.head.script(60, "systemctl restart muster");
    assert!(!restarted.ok(), "{}", restarted.output);
    assert!(wait(20, || (rack.property("ActiveState") == "failed").then_some(())).is_some(), "{}", rack.status());
    assert_eq!(rack.property("ExecMainStatus"), "2");
}

#[test]
fn the_sandbox_lets_the_daemon_do_its_work() {
    let mut rack = installed();
    rack.plug();
    // The journal on another disk. (A link in its place is refused by systemd itself.)
    rack.must("mkdir /srv/disk /var/lib/muster && mount --bind /srv/disk /var/lib/muster && systemctl start muster");
    rack.served_within(10);
    rack.machines_boot();
    assert!(rack.must("cat /srv/disk/journal").contains(" guest "), "leases are on disk");
    assert!(rack.must("ip neigh show dev eth1 nud permanent").contains("10.54.25"), "neighbour entries are made");
    assert_eq!(rack.must("stat -c %a /var/lib/muster/names").trim(), "644");
    rack.must("rm -f /run/muster/state.json; muster checkpoint; test -s /run/muster/state.json");
    let asked = rack.client.run(20, "dig", &["+short", "+time=2", "@10.54.0.1", "n5.cluster"]).must("dig");
    assert_eq!(asked.trim(), "10.54.1.5");
    rack.must("chown 65534:65534 /srv/tftp/boot-file; chmod 600 /srv/tftp/boot-file");
    rack.served_within(5);
    // Where the limit of locked memory can be raised, all is locked.
    let raised =
        text(Path::new("/proc/self/status")).lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapBnd:")?.trim(), 16).ok());
    let log = rack.log();
    if raised.is_some_and(|caps| caps >> CAP_SYS_RESOURCE & 1 == 1) {
        assert!(!log.contains("memory: not locked"), "{log}");
    } else {
        assert!(
            log.contains("memory: not locked, so it may be swapped out (ENOMEM"),
            "the call is allowed, and fails for the machine's own limit: {log}"
        );
    }

    // What is mounted on the root while the daemon runs is served after a reload; and it waits for such a mount when it starts.
    rack.must("rm /srv/tftp/boot-file; mkdir /srv/image");
    rack.fill(&rack.head.root().join("srv/image"));
    assert!(wait(5, || rack.is_silent().then_some(())).is_some(), "a file that is gone is gone within a second");
    rack.must("mount --bind /srv/image /srv/tftp; systemctl reload muster");
    rack.served_within(10);
    rack.must("systemctl stop muster; umount /srv/tftp");
    let mount = "[Unit]\nRequires=late.service\nAfter=late.service\n[Mount]\nWhat=/srv/image\nWhere=/srv/tftp\nType=none\nOptions=bind\n";
    write(&rack.head.root().join("etc/systemd/system/srv-tftp.mount"), mount.as_bytes());
    let late = "[Service]\nType=oneshot\nExecStart=/bin/sleep 3\n";
    write(&rack.head.root().join("etc/systemd/system/late.service"), late.as_bytes());
    rack.must("systemctl daemon-reload; systemctl start srv-tftp.mount muster.service");
    rack.served_within(5);

    for root in ["/tmp/tftp", "/home/tftp", "/root/tftp"] {
        rack.must(&format!("cp -a /srv/image {root}"));
        write(&rack.head.root().join("etc/muster/muster.toml"), format!("{CONFIG}[boot]\nroot = \"{root}\"\n").as_bytes());
        rack.must("systemctl restart muster");
        assert!(rack.serves(), "{root}: {}", rack.status());
    }

    // The journal in another folder, as the manual says.
    rack.must("mkdir /srv/journal /etc/systemd/system/muster.service.d");
    let drop_in = rack.head.root().join("etc/systemd/system/muster.service.d/site.conf");
    write(&rack.head.root().join("etc/muster/muster.toml"), format!("{CONFIG}[server]\nstate-dir = \"/srv/journal\"\n").as_bytes());
    assert!(!rack.head.script(60, "systemctl restart muster").ok(), "it may not write there");
    write(&drop_in, b"[Service]\nReadWritePaths=/srv/journal\n");
    rack.must("systemctl daemon-reload; systemctl restart muster; test -e /srv/journal/journal");

    // A site that forbids openat2 is told so, and files are opened without it.
    write(&rack.head.root().join("etc/muster/muster.toml"), CONFIG.as_bytes());
    write(&drop_in, b"[Service]\nRestrictSUIDSGID=yes\n");
    rack.must("systemctl daemon-reload; systemctl restart muster");
    rack.served_within(5);
    let log = rack.log();
    assert!(log.contains("openat2 is forbidden") && log.contains("RestrictSUIDSGID"), "{log}");
}

#[test]
fn the_init_script_knows_the_living_from_the_dead() {
    let mut rack = installed();
    rack.plug();
    let config = rack.head.root().join("etc/muster/muster.toml");
    // Without the word Debian's functions hand this to systemd.
    let init = |verb: &str| rack.head.script(60, &format!("_SYSTEMCTL_SKIP_REDIRECT=1 /etc/init.d/muster {verb}"));
    let ends = |verb: &str, code: i32, words: &str| {
        let outcome = init(verb);
        assert!(outcome.code == Some(code) && outcome.output.contains(words), "{verb}: {outcome:?}");
    };
    ends("status", 3, "not running");
    ends("try-restart", 0, "not running");
    std::fs::remove_file(&config).expect("the config is there");
    ends("start", 6, "muster.toml");
    write(&config, CONFIG.as_bytes());
    ends("start", 0, "started");
    rack.served_within(10);
    ends("start", 0, "already running");
    let pid = || rack.must("cat /run/muster/musterd.pid");
    let first = pid();
    ends("try-restart", 0, "started");
    assert_ne!(pid(), first);
    ends("condrestart", 0, "started");

    // Killed, and not reaped: it does not run.
    rack.must("kill -9 $(cat /run/muster/musterd.pid)");
    let zombie = "cp /bin/sleep /tmp/musterd; (/tmp/musterd 0 & echo $! >/run/muster/musterd.pid; exec sleep 40) >/dev/null 2>&1 & sleep 1";
    rack.must(zombie);
    assert!(rack.must("cat /proc/$(cat /run/muster/musterd.pid)/stat").contains("(musterd) Z"), "a zombie of that name");
    ends("status", 1, "dead, but");
    ends("try-restart", 0, "not running");
    ends("force-reload", 0, "started");
    rack.served_within(10);
    ends("status", 0, "running as");
    ends("stop", 0, "stopped");
    ends("stop", 0, "not running");
    ends("reload", 7, "not running");
    ends("frobnicate", 2, "try-restart");
    assert!(rack.is_silent());
}
