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
/// NET_BIND_SERVICE, NET_ADMIN and NET_RAW, as /proc/PID/status shows them; and none.
const THREE: &str = "0000000000003400";
const NONE: &str = "0000000000000000";
/// Seconds that a machine which is busy with other tests may need more than one of its own.
const BUSY: u64 = 6;
/// What systemd-analyze may say of the unit, in tenths: 0 is the strictest.
const EXPOSURE_TENTHS: u32 = 20;

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

/// What `muster doctor` says of the unit and of the daemon that it started, in each state.
#[test]
fn the_doctor_knows_the_unit() {
    let mut rack = installed();
    rack.plug();
    let says = |rack: &Rack, lines: &[&str]| {
        let output = rack.head.script(60, "muster doctor --passive").output;
        for line in lines {
            assert!(output.contains(line), "{line:?} is not in\n{output}");
        }
    };
    says(
        &rack,
        &["broken daemon: does not run", "broken unit: muster.service is inactive (dead), disabled (systemctl enable --now muster)"],
    );
    rack.must("systemctl start muster");
    rack.served_within(10);
    says(&rack, &["look   unit: muster.service is active (running), disabled: it will not start at boot"]);
    rack.must("systemctl enable muster");
    let well = [
        "fine   daemon: runs as muster, pid ",
        "fine   unit: muster.service is active (running), enabled",
        "fine   config: /etc/muster/muster.toml, flags of musterd, pid ",
        "fine   root: muster can read /srv/tftp",
        "fine   port: musterd has all",
        " journal: ",
    ];
    says(&rack, &well);
    // A daemon that refuses to start is started again and again, and says why.
    write(&rack.head.root().join("etc/muster/muster.toml"), b"[[network]]\ninterfase = \"eth1\"\n");
    rack.head.script(60, "systemctl restart muster");
    let refused = [
        "broken unit: muster.service is activating",
        "it said last: musterd: /etc/muster/muster.toml:2:1",
        "broken config: /etc/muster/muster.toml:2:1",
    ];
    let seen = wait(20, || {
        let output = rack.head.script(60, "muster doctor --passive").output;
        refused.iter().all(|line| output.contains(line)).then_some(())
    });
    assert!(seen.is_some(), "{}", rack.head.script(60, "muster doctor --passive").output);
    rack.must("systemctl stop muster; rm /etc/muster/muster.toml");
    says(&rack, &["broken unit: muster.service is inactive (dead), enabled; it starts nothing before an interface is named"]);
    rack.must("systemctl disable muster; systemctl mask muster");
    says(&rack, &["broken unit: muster.service is masked"]);
}

impl Rack {
    /// musterd and its file processes are nobody but muster, with three capabilities and none, held by landlock and seccomp.
    fn is_confined(&self, pid: &str) {
        let muster = self.must("id -u muster; id -g muster").replace('\n', " ");
        let (uid, gid) = muster.trim().split_once(' ').expect("two numbers");
        assert_ne!(uid, "0");
        let children = self.must(&format!("cat /proc/{pid}/task/{pid}/children"));
        assert_eq!(children.split_whitespace().count(), 8, "{children}");
        for process in children.split_whitespace().chain([pid]) {
            let status = self.must(&format!("cat /proc/{process}/status"));
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                line.unwrap_or_else(|| panic!("no {name}: {status}")).split_whitespace().collect::<Vec<_>>().join(" ")
            };
            let caps = if process == pid { THREE } else { NONE };
            assert_eq!([field("Uid"), field("Gid")], [[uid; 4].join(" "), [gid; 4].join(" ")], "{status}");
            assert_eq!(["CapPrm", "CapEff"].map(field), [caps; 2], "{status}");
            assert_eq!(["CapInh", "CapAmb"].map(field), [NONE; 2], "{status}");
            assert_eq!(["NoNewPrivs", "Seccomp"].map(field), ["1", "2"], "{status}");
            assert!([THREE, caps].contains(&field("CapBnd").as_str()), "{status}");
        }
    }

    /// Nothing was asked of the kernel that it was not to be asked.
    fn was_refused_nothing(&self) {
        let log = self.must("journalctl --no-pager --output=cat -t musterd");
        assert!(log.contains("sandbox: runs as ") && log.contains("; landlock ") && log.contains(", seccomp\n"), "{log}");
        assert!(!log.contains("sandbox: refused") && !log.contains("held otherwise"), "{log}");
    }
}

/// What has to go on under the sandbox, with a file in a folder of the root, which is loaded at the end.
const GOES_ON: &str = "
    rm /run/muster/control.sock; kill -HUP $PID
    for i in 1 2 3 4 5 6 7 8 9 10; do test -S /run/muster/control.sock && break; sleep 0.2; done; muster status >/dev/null
    before=$(stat -c %i /var/lib/muster/journal); muster checkpoint; test $(stat -c %i /var/lib/muster/journal) != $before
    rm /var/lib/muster/journal; for i in 1 2 3 4 5 6 7 8 9 10; do test -s /var/lib/muster/journal && break; sleep 0.5; done
    test -s /var/lib/muster/journal; test $(stat -c %U:%G /var/lib/muster/journal) = muster:muster";

#[test]
fn it_runs_as_muster_with_three_capabilities_and_does_its_work() {
    let mut rack = installed();
    rack.plug();
    // What an older daemon left, which ran as root.
    rack.must(
        "mkdir -p /var/lib/muster; echo '2026-11-23T15:34:10Z n23 occupied by=passed macs=52:54:00:12:34:56' >/var/lib/muster/journal",
    );
    rack.must("systemctl start muster");
    rack.served_within(10);
    rack.is_confined(&rack.property("MainPID"));
    assert!(rack.must("muster node show 23").contains("52:54:00:12:34:56"), "the journal was taken over");
    rack.must(&GOES_ON.replace("$PID", &rack.property("MainPID")));
    rack.machines_boot();
    rack.must("systemctl reload muster");
    rack.served_within(10);
    rack.was_refused_nothing();
    assert!(rack.property("StatusText").starts_with("serves eth1 (10.54.0.1)"), "{}", rack.property("StatusText"));

    // A reload that is refused is seen in the status.
    let config = rack.head.root().join("etc/muster/muster.toml");
    write(&config, b"[[network]]\ninterfase = \"eth1\"\n");
    rack.must("systemctl reload muster");
    assert!(wait(10, || rack.property("StatusText").contains("reload was refused").then_some(())).is_some(), "{}", rack.status());
    assert_eq!(rack.property("ActiveState"), "active");
    write(&config, CONFIG.as_bytes());
    rack.must("systemctl reload muster");
    assert!(wait(10, || rack.property("StatusText").ends_with("(10.54.0.1)").then_some(())).is_some(), "{}", rack.status());

    // Another root beside the old one is served by a reload; one elsewhere takes a restart, which is said.
    rack.fill(&rack.head.root().join("srv/other"));
    rack.fill(&rack.head.root().join("opt/tftp"));
    write(&config, format!("{CONFIG}[boot]\nroot = \"/srv/other\"\n").as_bytes());
    rack.must("rm /srv/tftp/boot-file; systemctl reload muster");
    rack.served_within(10);
    write(&config, format!("{CONFIG}[boot]\nroot = \"/opt/tftp\"\n").as_bytes());
    rack.must("systemctl reload muster");
    let told = wait(10, || rack.log().contains("cannot serve files from /opt/tftp").then_some(()));
    assert!(told.is_some() && rack.log().contains("restart musterd"), "{}", rack.log());
    assert!(rack.serves(), "the old one stays");
    rack.must("systemctl restart muster");
    rack.served_within(10);

    // A link out of the root leads nowhere, at start and for TFTP, until its folder is allowed.
    rack.must("mkdir -p /boot; mv /opt/tftp/boot-file /boot/kernel; ln -s /boot/kernel /opt/tftp/boot-file");
    let boot = "[boot]\nroot = \"/opt/tftp\"\nkernel = \"boot-file\"\n";
    write(&config, format!("{CONFIG}{boot}").as_bytes());
    rack.must("systemctl restart muster");
    let told = wait(10, || rack.log().contains("since their links lead out of /opt/tftp: boot-file (").then_some(()));
    assert!(told.is_some() && rack.log().contains("not found in /opt/tftp: boot-file"), "{}", rack.log());
    assert!(rack.is_silent());
    write(&config, format!("{CONFIG}{boot}allow = \"/boot\"\n").as_bytes());
    rack.must("systemctl restart muster");
    rack.served_within(10);
    rack.was_refused_nothing();
}

#[test]
fn started_as_root_it_gives_up_the_same() {
    let mut rack = installed();
    rack.plug();
    rack.must("mkdir -p /var/lib/muster /run/muster; echo '2026-11-23T15:34:10Z n23 occupied by=passed macs=52:54:00:12:34:56' >/var/lib/muster/journal");
    rack.must("/etc/init.d/muster start");
    rack.served_within(10);
    let pid = || rack.must("cat /run/muster/musterd.pid").trim().to_owned();
    rack.is_confined(&pid());
    assert_eq!(rack.must("stat -c %U:%G /var/lib/muster /run/muster /var/lib/muster/journal").trim(), ["muster:muster"; 3].join("\n"));
    rack.must(&GOES_ON.replace("$PID", &pid()));
    rack.machines_boot();

    // The system's log goes away and comes back, as its service does.
    rack.must("systemctl stop systemd-journald.socket systemd-journald-dev-log.socket systemd-journald; rm -f /run/systemd/journal/dev-log; systemctl start systemd-journald.socket systemd-journald-dev-log.socket systemd-journald");
    rack.must(&format!("kill -HUP {}; sleep 1; muster status", pid()));
    rack.must(&format!("kill -USR1 {}", pid()));
    let heard = wait(10, || rack.must("journalctl --no-pager --output=cat --since=-5s -t musterd").contains("state: ").then_some(()));
    assert!(heard.is_some(), "{}", rack.must("journalctl --no-pager -t musterd"));
    rack.was_refused_nothing();
    rack.must("/etc/init.d/muster stop");
    rack.must("test ! -e /run/muster/musterd.pid && test ! -e /run/muster/control.sock");

    // To stay root is possible, and said.
    write(&rack.head.root().join("etc/default/muster"), b"MUSTERD_OPTS=\"--user root\"\n");
    rack.must("/etc/init.d/muster start");
    rack.served_within(10);
    assert_eq!(rack.must(&format!("stat -c %U /proc/{}", pid())).trim(), "root");
    let log = rack.must("journalctl --no-pager --output=cat -t musterd");
    assert!(log.contains("sandbox: runs as root (as `user` says)"), "{log}");
    write(&rack.head.root().join("etc/default/muster"), b"MUSTERD_OPTS=\"--user nobody-of-that-name\"\n");
    rack.must("/etc/init.d/muster stop");
    let refused = rack.head.script(60, "/etc/init.d/muster start");
    assert!(!refused.ok() && refused.output.contains("there is no user \"nobody-of-that-name\" in /etc/passwd"), "{refused:?}");
}

#[test]
fn what_is_not_configured_is_left_alone() {
    let mut rack = installed();
    rack.plug();
    let config = rack.head.root().join("etc/muster/muster.toml");
    std::fs::remove_file(&config).expect("the config is there");
    rack.must("systemctl enable --now muster");
    assert!(wait(10, || rack.log().contains("not configured: write /etc/muster/muster.toml").then_some(())).is_some(), "{}", rack.log());
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(["ActiveState", "NRestarts"].map(|name| rack.property(name)), ["inactive", "0"].map(str::to_string), "{}", rack.status());
    assert_eq!(rack.must("systemctl --failed --plain --no-legend").matches("muster").count(), 0);
    assert!(rack.is_silent());
    // Flags do, without a config.
    write(&rack.head.root().join("etc/default/muster"), b"MUSTERD_OPTS=\"-i eth1\"\n");
    rack.must("systemctl start muster");
    rack.served_within(10);
}

#[test]
fn a_loop_that_hangs_is_started_again() {
    let mut rack = installed();
    rack.plug();
    rack.must("mkdir /etc/systemd/system/muster.service.d");
    write(&rack.head.root().join("etc/systemd/system/muster.service.d/site.conf"), b"[Service]\nWatchdogSec=3s\n");
    rack.must("systemctl daemon-reload; systemctl start muster");
    rack.served_within(10);
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(rack.property("NRestarts"), "0", "a quiet head is alive");
    rack.must(&format!("kill -STOP {}", rack.property("MainPID")));
    let back = rack.served_within(30);
    assert_eq!(rack.property("NRestarts"), "1", "{}", rack.status());
    println!("back {:.1} s after it was stopped", back.as_secs_f64());
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
    // Who starts it waits for ten seconds; then it is a daemon that waits, and says for what.
    let begin = std::time::Instant::now();
    rack.must("systemctl enable muster; systemctl start muster");
    let took = begin.elapsed();
    assert!((Duration::from_secs(9)..Duration::from_secs(20 + BUSY)).contains(&took), "{took:?}");
    assert_eq!(rack.property("ActiveState"), "active", "{}", rack.status());
    assert!(rack.property("StatusText").contains("waits: "), "{}", rack.property("StatusText"));
    assert!(rack.log().contains("there is no interface \"eth1\""), "{}", rack.log());
    // Longer than its watchdog's time.
    std::thread::sleep(Duration::from_secs(32));
    assert_eq!((rack.property("ActiveState").as_str(), rack.property("NRestarts").as_str()), ("active", "0"), "{}", rack.log());
    rack.plug();
    let served = rack.served_within(20);
    println!("served {:.1} s after the interface came", served.as_secs_f64());
    assert!(served < Duration::from_secs(BUSY), "{served:?}");
    assert!(rack.property("StatusText").contains("serves eth1"), "{}", rack.property("StatusText"));
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
    // What it may not read is told at start, and at a reload.
    rack.must("chmod 600 /srv/tftp/boot-file; systemctl reload muster");
    let told = wait(10, || rack.log().contains("boot files: muster may not read boot-file in /srv/tftp").then_some(()));
    assert!(told.is_some() && !rack.loads(2), "{}", rack.log());
    rack.must("chmod 644 /srv/tftp/boot-file");
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

    for root in ["/home/tftp", "/opt/tftp", "/tftp"] {
        rack.must(&format!("mkdir -p $(dirname {root}); cp -a /srv/image {root}"));
        write(&rack.head.root().join("etc/muster/muster.toml"), format!("{CONFIG}[boot]\nroot = \"{root}\"\n").as_bytes());
        rack.must("systemctl restart muster");
        assert!(rack.serves(), "{root}: {}", rack.status());
    }

    // The journal in another folder, as the manual says.
    rack.must("install -d -o muster -g muster /srv/journal; mkdir /etc/systemd/system/muster.service.d");
    let drop_in = rack.head.root().join("etc/systemd/system/muster.service.d/site.conf");
    write(&rack.head.root().join("etc/muster/muster.toml"), format!("{CONFIG}[server]\nstate-dir = \"/srv/journal\"\n").as_bytes());
    assert!(!rack.head.script(60, "systemctl restart muster").ok(), "it may not write there");
    write(&drop_in, b"[Service]\nReadWritePaths=/srv/journal\n");
    rack.must("systemctl daemon-reload; systemctl restart muster; test -e /srv/journal/journal");

    // The unit forbids openat2, by the way: files are opened without it. A site may change that.
    write(&rack.head.root().join("etc/muster/muster.toml"), CONFIG.as_bytes());
    assert!(log.contains("openat2 is forbidden") && log.contains("RestrictSUIDSGID"), "{log}");
    write(&drop_in, b"[Service]\nRestrictSUIDSGID=no\n");
    rack.must("journalctl --rotate; journalctl --vacuum-time=1s; systemctl daemon-reload; systemctl restart muster");
    rack.served_within(5);
    assert!(!rack.log().contains("openat2 is forbidden"), "{}", rack.log());
    rack.was_refused_nothing();
}

#[test]
fn the_init_script_knows_the_living_from_the_dead() {
    let mut rack = installed();
    rack.plug();
    let config = rack.head.root().join("etc/muster/muster.toml");
    let init = |verb: &str| rack.head.script(60, &format!("/etc/init.d/muster {verb}"));
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

/// While it is restarted the kernel tells no client that nobody listens on a transfer's port: firmware gives up at that.
#[test]
fn a_restart_closes_no_port() {
    let mut rack = installed();
    rack.plug();
    rack.must("systemctl start muster");
    rack.served_within(10);
    // For seconds, an acknowledgement of a running transfer each few milliseconds; counts the errors that come back.
    let errors = |rack: &Rack, seconds: u64| {
        rack.client.within(move || {
            let sockets: Vec<std::net::UdpSocket> = [69, 20069, 20084]
                .map(|port| {
                    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
                    socket.connect(("10.54.0.1", port)).expect("a route");
                    socket
                })
                .into();
            let end = std::time::Instant::now() + Duration::from_secs(seconds);
            let mut refused = 0;
            while std::time::Instant::now() < end {
                refused += sockets.iter().filter(|socket| socket.send(&[0, 4, 0, 7]).is_err()).count();
                std::thread::sleep(Duration::from_millis(2));
            }
            refused
        })
    };
    for how in ["systemctl restart muster", "kill -9 $(systemctl show --value -p MainPID muster)"] {
        let counted = errors(&rack, 6);
        rack.must(how);
        assert_eq!(counted.join().expect("the client's thread"), 0, "{how}: the ports stay bound: {}", rack.status());
        rack.served_within(10);
    }
    let kept: u32 = rack.property("NFileDescriptorStore").parse().expect("a number");
    assert_eq!(kept, 18, "sixteen ports of the pool, 67 and 69: {}", rack.status());
    // Of an interface that was made anew they are others.
    rack.head.host().ip("link delete eth1");
    rack.plug();
    rack.served_within(10);
    assert!(
        wait(10, || (rack.property("NFileDescriptorStore") == "18").then_some(())).is_some(),
        "{}",
        rack.property("NFileDescriptorStore")
    );
    let counted = errors(&rack, 4);
    rack.must("systemctl restart muster");
    assert_eq!(counted.join().expect("the client's thread"), 0, "{}", rack.status());
    // The control: stopped, it keeps nothing.
    let counted = errors(&rack, 4);
    rack.must("systemctl stop muster");
    assert!(counted.join().expect("the client's thread") > 0, "nobody listens");
    assert_eq!(rack.property("NFileDescriptorStore"), "0");
}
