//! `muster doctor` in a machine room: each thing is broken once, and has its line. With the daemon running, and without.

mod common;
#[path = "common/disk.rs"]
mod disk;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::musterd::Musterd;
use common::{Host, Lab, image, stop, wait, write};
use disk::{Bound, Disk};
use nix::sys::signal::Signal;
use serde_json::Value;

const SERVER: &str = "10.54.0.1/16";
const MUSTER: &str = env!("CARGO_BIN_EXE_muster");

/// A head with all that it needs, and the flags that its daemon has.
struct Head {
    lab: Lab,
    host: Host,
    root: PathBuf,
    state: PathBuf,
    config: PathBuf,
}

impl Head {
    fn new() -> Head {
        let mut lab = Lab::new();
        let host = lab.server(SERVER);
        let (root, config) = (lab.dir().join("root"), lab.dir().join("muster.toml"));
        let state = lab.dir().join("run/state");
        fs::create_dir_all(&state).expect("a state folder");
        fs::create_dir_all(&root).expect("a root");
        for name in ["undionly.kpxe", "snponly.efi", "vmlinuz", "initrd.img"] {
            symlink(image().join(name), lab.dir().join(name)).expect("a link");
            fs::copy(image().join(name), root.join(name)).expect("a boot file of the lab");
        }
        write(&config, b"");
        Head { lab, host, root, state, config }
    }

    fn daemon(&self) -> Musterd {
        Musterd::configured(&self.host, &self.root, &fs::read_to_string(&self.config).expect("the config"))
    }

    fn flags(&self) -> Vec<String> {
        let run = self.lab.dir().join("run");
        let path = |path: &Path| path.to_str().expect("a path of ours").to_string();
        let pairs = [
            ("-i", "eth0".into()),
            ("-r", path(&self.root)),
            ("-c", path(&self.config)),
            ("--run-dir", path(&run)),
            ("--state-dir", path(&self.state)),
        ];
        pairs.into_iter().flat_map(|(flag, value)| [flag.to_string(), value]).collect()
    }

    /// The lines about a check, each with its verdict, and the exit status.
    fn asked(&self, passive: bool, prepare: &str) -> (Vec<String>, i32) {
        let mut arguments: Vec<String> = ["doctor"].into_iter().chain(passive.then_some("--passive")).map(str::to_string).collect();
        arguments.push("--".into());
        arguments.extend(self.flags());
        let mut command = self.host.command("sh");
        command.args(["-ec", &format!("{prepare}\nexec \"$@\""), "sh", MUSTER]).args(&arguments);
        let outcome = self.host.finish(60, command);
        (outcome.output.lines().map(str::to_string).collect(), outcome.code.expect("it ends by itself"))
    }

    fn lines(&self) -> Vec<String> {
        self.asked(true, ":").0
    }

    /// There is a line that begins and goes on like this.
    fn says(&self, begin: &str, words: &[&str]) {
        self.said(&self.lines(), begin, words);
    }

    fn said(&self, lines: &[String], begin: &str, words: &[&str]) {
        let found = lines.iter().any(|line| line.starts_with(begin) && words.iter().all(|word| line.contains(word)));
        assert!(found, "{begin} {words:?} is not in\n{}", lines.join("\n"));
    }

    /// No line is worse than fine but what a lab cannot promise: a clock that somebody keeps, and a disk for itself.
    fn is_well(&self) {
        let may = ["fine ", "look   clock:", "look   journal: a record takes"];
        let bad: Vec<String> = self.lines().into_iter().filter(|line| !may.iter().any(|begin| line.starts_with(begin))).collect();
        assert!(bad.is_empty(), "{}", bad.join("\n"));
    }
}

#[test]
fn a_head_that_is_well() {
    let head = Head::new();
    let (lines, code) = head.asked(true, ":");
    head.said(&lines, "broken daemon: does not run", &["systemctl enable --now muster"]);
    assert_eq!(code, 1);
    let musterd = head.daemon();
    wait(20, || head.lab.dir().join("run/state/names").exists().then_some(())).expect("musterd writes the names");
    head.is_well();
    let lines = head.lines();
    head.said(&lines, "fine   daemon: runs as ", &[&format!("pid {}", musterd.pid())]);
    head.said(&lines, "fine   interface eth0: is up", &["10.54.0.1/16", "the head is 10.54.0.1"]);
    head.said(&lines, "fine   port: musterd has all", &[]);
    head.said(&lines, "fine   boot program bios undionly.kpxe: iPXE, program for a BIOS", &[]);
    head.said(&lines, "fine   boot program efi-x64 snponly.efi: iPXE snponly, UEFI program for x64, not signed", &[]);
    head.said(&lines, "fine   names file:", &["tells what the config says"]);
    assert!(lines.iter().any(|line| line.contains(" journal: ") && !line.starts_with("broken")));
    let code = head.asked(true, ":").1;
    assert!(code == 0 || code == 5, "{code}");
    let arguments = [vec!["doctor".to_string(), "--json".into(), "--passive".into(), "--".into()], head.flags()].concat();
    let outcome = head.host.run(60, MUSTER, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let value: Value = serde_json::from_str(&outcome.output).expect("JSON");
    let findings = value["findings"].as_array().expect("an array");
    assert!(findings.iter().any(|it| it["check"] == "boot program" && it["of"] == "bios undionly.kpxe" && it["verdict"] == "fine"));
    assert_eq!(value["verdict"], if outcome.code == Some(0) { "fine" } else { "look" });
    // Nothing was left behind.
    let state = head.lab.dir().join("run/state");
    assert!(!fs::read_dir(state).expect("a folder").flatten().any(|entry| entry.file_name() == "journal.doctor"));
}

/// It finds the flags of the daemon that runs by itself; without any it looks at what an init script would start.
#[test]
fn the_flags_are_those_of_the_daemon() {
    let head = Head::new();
    let musterd = head.daemon();
    // As if it had been started with the usual run folder.
    let run = musterd.run_dir().display().to_string();
    let script = format!("mkdir -p /run/muster; mount --bind {run} /run/muster; {MUSTER} doctor --passive || true");
    let output = head.host.script(60, &script).must("doctor");
    let lines: Vec<String> = output.lines().map(str::to_string).collect();
    head.said(&lines, "fine   config:", &[&format!("flags of musterd, pid {}", musterd.pid()), "on eth0"]);
    head.said(&lines, "fine   root:", &[head.root.to_str().expect("a path of ours")]);
    drop(musterd);
    let defaults = head.lab.dir().join("default");
    write(&defaults, b"MUSTERD_OPTS=\"-i eth7\"\n");
    let hide = "mount -t tmpfs none /etc/default; if [ -d /etc/muster ]; then mount -t tmpfs none /etc/muster; fi; if [ -d /run/muster ]; then mount -t tmpfs none /run/muster; fi";
    let script = format!("{hide}; cp {} /etc/default/muster; {MUSTER} doctor --passive", defaults.display());
    let outcome = head.host.script(60, &script);
    let lines: Vec<String> = outcome.output.lines().map(str::to_string).collect();
    head.said(&lines, "broken interface eth7: is not there", &["there are eth0"]);
    head.said(&lines, "broken config:", &["eth7"]);
    assert_eq!(outcome.code, Some(1));
    let outcome = head.host.script(60, &format!("{hide}; {MUSTER} doctor --passive"));
    assert!(outcome.output.contains("no interface is named"), "{}", outcome.output);
    // A command line that musterd would not take.
    assert_eq!(head.host.run(60, MUSTER, &["doctor", "--", "--frobnicate"]).code, Some(2));
}

#[test]
fn a_config_that_is_wrong_is_a_line() {
    let head = Head::new();
    write(&head.config, b"[[network]]\ninterfase = \"eth0\"\n[boot]\nroot = 7\n");
    let lines = head.lines();
    head.said(&lines, "broken config:", &["muster.toml:2:1: interfase: unknown key"]);
    head.said(&lines, "broken config:", &["muster.toml:4"]);
    head.said(&lines, "look   firewall, ports, boot files: not looked at", &[]);
    // What needs no config is looked at all the same.
    head.said(&lines, "fine   interface eth0", &[]);
    assert!(lines.iter().any(|line| line.contains(" journal: ")));
}

#[test]
fn interfaces_that_cannot_serve() {
    let head = Head::new();
    head.host.ip("link set eth0 mtu 9000");
    head.says("fine   interface eth0: is up", &["MTU 9000"]);
    head.host.ip("link set eth0 mtu 1500");
    head.host.ip("link add br0 type bridge");
    head.host.ip("link set eth0 master br0");
    head.says("broken interface eth0: is a part of br0 (a bridge)", &["name br0"]);
    head.host.ip("link set eth0 nomaster");
    // The other end of the cable is a port of the switch.
    head.lab.switch().ip("link set port1 down");
    head.says("broken interface eth0: has no carrier", &[]);
    head.lab.switch().ip("link set port1 up");
    head.host.ip("link set eth0 down");
    head.says("broken interface eth0: is down", &["ip link set eth0 up"]);
    head.host.ip("link set eth0 up");
    head.host.ip("address flush dev eth0");
    head.says("broken interface eth0: has no IPv4 address", &[]);
    head.host.ip("link set eth0 down");
    head.host.ip("link set eth0 name other0");
    head.says("broken interface eth0: is not there", &["there are", "other0"]);
    // A daemon that waits for it is not one that hangs.
    let mut command = head.host.command(env!("CARGO_BIN_EXE_musterd"));
    command.arg("-f").args(head.flags()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut musterd = command.spawn().expect("start musterd");
    let waits = wait(20, || {
        head.lines().iter().any(|line| line.starts_with("look   daemon: runs as ") && line.contains("waits for an interface")).then_some(())
    });
    let lines = head.lines();
    stop(&mut musterd, Signal::SIGTERM);
    assert!(waits.is_some(), "{}", lines.join("\n"));
    head.said(&lines, "broken config:", &["eth0", "musterd waits for that"]);
}

/// What nodes have by an interface is remembered: an address of another network is told, not taken.
#[test]
fn an_interface_with_another_network() {
    let head = Head::new();
    write(&head.config, b"[[node]]\nnumber = 17\nmacs = [\"02:00:00:00:00:17\"]\n");
    let musterd = head.daemon();
    wait(20, || head.state.join("interfaces").exists().then_some(())).expect("musterd writes what it knows of interfaces");
    drop(musterd);
    head.host.ip("address flush dev eth0");
    head.host.ip("address add 10.99.0.1/16 dev eth0");
    head.says("broken interface eth0: has no address in 10.54.0.0/16", &["ip address add 10.54.0.1/16 dev eth0", "--renumber"]);
}

fn nft(head: &Head, rules: &str) {
    let path = head.lab.dir().join("rules.nft");
    write(&path, format!("flush ruleset\n{rules}\n").as_bytes());
    head.host.run(20, "nft", &["-f", path.to_str().expect("a path of ours")]).must("load rules");
}

/// Real rules in the kernel, listed by the real nft and iptables.
#[test]
fn firewalls_that_reject_or_drop() {
    let head = Head::new();
    head.says("fine   firewall: there are no rules", &[]);
    nft(
        &head,
        "table inet f {\n chain i {\n type filter hook input priority 0; policy accept;\n iifname \"eth0\" udp dport 69 reject\n }\n}",
    );
    head.says("broken firewall eth0: rejects requests for files (port 69)", &["ICMP", "chain inet f i"]);
    nft(
        &head,
        "table inet f {\n chain i {\n type filter hook input priority 0; policy drop;\n udp dport 53 accept\n tcp dport 53 accept\n }\n}",
    );
    head.says("fine   firewall: 2 rules, none in the way", &[]);
    nft(&head, "table inet f {\n chain i {\n type filter hook input priority 0; policy drop;\n }\n}");
    head.says("look   firewall eth0: drops questions for names (port 53)", &[]);
    nft(&head, "table ip f {\n chain o {\n type filter hook output priority 0; policy accept;\n udp sport 20000-21000 drop\n }\n}");
    head.says("broken firewall eth0: drops files on their way out (ports 20069 to 20084)", &["ip f o"]);
    nft(&head, "");
    // iptables on top of nftables: what nft cannot show of it, iptables-save does.
    let script = "iptables-nft -A INPUT -p udp -m multiport --dports 67,69 -j REJECT";
    head.host.script(20, script).must("iptables");
    head.says("broken firewall eth0: rejects requests for files (port 69)", &["-A INPUT -p udp -m multiport --dports 67,69 -j REJECT"]);
    head.says("look   firewall eth0: rejects DHCP requests (port 67)", &[]);
}

/// What it calls harmless is: files are loaded through a filter that drops all that comes in.
#[test]
fn a_filter_that_drops_does_no_harm() {
    let mut head = Head::new();
    let client = head.lab.attach("client");
    client.ip("address add 10.54.9.9/16 dev eth0");
    let _musterd = head.daemon();
    nft(
        &head,
        "table inet f {\n chain i {\n type filter hook input priority 0; policy drop;\n meta l4proto { tcp, udp } th dport 53 accept\n }\n}",
    );
    head.says("fine   firewall: 1 rule, none in the way", &[]);
    let got = head.lab.dir().join("got");
    let script =
        format!("curl -s -m 20 -o {0} tftp://10.54.0.1/snponly.efi; cmp {0} {1}", got.display(), image().join("snponly.efi").display());
    client.script(30, &script).must("load a file");
    client.script(30, &format!("{} udhcpc -i eth0 -n -q -f -s /bin/true", image().join("busybox").display())).must("a lease");
}

/// Another DHCP server is named; our own does not hear the question, nor gives an address away for it.
#[test]
fn another_dhcp_server_is_heard() {
    let mut head = Head::new();
    let musterd = head.daemon();
    let (lines, _) = head.asked(false, ":");
    head.said(&lines, "fine   other dhcp eth0: nobody else answers in 2 s", &[]);
    // A second interface on the same switch: musterd hears it there, and holds nothing for it.
    let guests = |head: &Head| {
        head.host
            .run(20, MUSTER, &["--socket", musterd.run_dir().join("control.sock").to_str().expect("a path"), "guest", "list", "--json"])
            .must("guest list")
    };
    assert_eq!(guests(&head).trim(), "[]");
    let other = head.lab.attach("other");
    other.ip("address add 10.54.0.9/16 dev eth0");
    let mut dnsmasq = other.command("dnsmasq");
    dnsmasq.args([
        "--keep-in-foreground",
        "--port=0",
        "--interface=eth0",
        "--dhcp-range=10.54.77.1,10.54.77.99",
        "--dhcp-boot=evil.0",
        "--leasefile-ro",
        "--user=root",
        "--conf-file=/dev/null",
        "--pid-file=",
    ]);
    let mut dnsmasq = dnsmasq.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("dnsmasq, which scripts/setup installs");
    let heard = wait(30, || {
        let (lines, code) = head.asked(false, ":");
        lines.iter().find(|line| line.starts_with("broken other dhcp eth0: 10.54.0.9")).cloned().filter(|_| code == 1)
    });
    stop(&mut dnsmasq, Signal::SIGTERM);
    let heard = heard.expect("the other server is named");
    assert!(heard.contains("it offers 10.54.77.") && heard.contains("boot file evil.0"), "{heard}");
    assert_eq!(guests(&head).trim(), "[]");
}

/// Two interfaces of the head on one switch: the question comes back, and is nobody's.
#[test]
fn the_question_that_comes_back_holds_no_address() {
    let mut head = Head::new();
    let host = head.host.clone();
    head.lab.plug(&host, "eth1");
    head.host.ip("address add 10.55.0.1/16 dev eth1");
    write(&head.config, b"[[network]]\ninterface = \"eth0\"\n[[network]]\ninterface = \"eth1\"\n");
    let flags = [head.flags().into_iter().skip(2).collect::<Vec<_>>()].concat();
    let mut command = head.host.command(env!("CARGO_BIN_EXE_musterd"));
    command.arg("-f").args(&flags).stdout(Stdio::null()).stderr(Stdio::null());
    let mut musterd = command.spawn().expect("start musterd");
    let socket = head.lab.dir().join("run/control.sock");
    let ask = |words: &[&str]| head.host.run(20, MUSTER, &[&["--socket", socket.to_str().expect("a path")], words].concat());
    wait(20, || ask(&["status"]).ok().then_some(())).expect("musterd answers");
    let arguments = [vec!["doctor".to_string(), "--".into()], flags].concat();
    let outcome = head.host.run(60, MUSTER, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let guests = ask(&["guest", "list", "--json"]).must("guest list");
    stop(&mut musterd, Signal::SIGTERM);
    for name in ["eth0", "eth1"] {
        assert!(outcome.output.contains(&format!("fine   other dhcp {name}: nobody else answers")), "{}", outcome.output);
    }
    assert_eq!(guests.trim(), "[]");
}

#[test]
fn ports_that_others_have() {
    let head = Head::new();
    let mut dnsmasq = head.host.command("dnsmasq");
    dnsmasq.args([
        "--keep-in-foreground",
        "--port=53",
        "--no-resolv",
        "--interface=eth0",
        "--bind-interfaces",
        "--dhcp-range=10.54.77.1,10.54.77.99",
        "--leasefile-ro",
        "--user=root",
        "--conf-file=/dev/null",
        "--pid-file=",
    ]);
    let mut dnsmasq = dnsmasq.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("dnsmasq, which scripts/setup installs");
    let seen = wait(20, || head.lines().iter().any(|line| line.starts_with("broken port dhcp: dnsmasq, pid ")).then_some(()));
    let lines = head.lines();
    stop(&mut dnsmasq, Signal::SIGTERM);
    assert!(seen.is_some(), "{}", lines.join("\n"));
    head.said(&lines, "broken port dhcp: dnsmasq", &["UDP 0.0.0.0:67", "another DHCP server is running: stop it"]);
    head.said(&lines, "look   port dns: dnsmasq", &["53"]);
    head.says("fine   port: all", &["are free"]);
}

#[test]
fn boot_files_that_no_machine_can_run() {
    let head = Head::new();
    let put = |from: &str, to: &str| fs::copy(image().join(from), head.root.join(to)).map(drop).expect("a copy");
    put("undionly.kpxe", "snponly.efi");
    head.says("broken boot program efi-x64 snponly.efi: it is a program for a BIOS", &["UEFI runs nothing but UEFI programs for x64"]);
    put("snponly.efi", "snponly.efi");
    put("snponly.efi", "undionly.kpxe");
    head.says("broken boot program bios undionly.kpxe: it is a UEFI program for x64, not signed", &[]);
    // Of another machine.
    let mut arm = fs::read(image().join("snponly.efi")).expect("a program");
    let header = u32::from_le_bytes(arm[0x3c..0x40].try_into().expect("four bytes")) as usize;
    arm[header + 4..header + 6].copy_from_slice(&0xaa64u16.to_le_bytes());
    write(&head.root.join("snponly.efi"), &arm);
    head.says("broken boot program efi-x64 snponly.efi: it is a program for arm64, and these machines are x64", &[]);
    write(&head.root.join("vmlinuz"), b"<!DOCTYPE html><html>404</html>");
    head.says("broken kernel vmlinuz: it is a web page", &[]);
    write(&head.root.join("vmlinuz"), b"");
    head.says("broken kernel vmlinuz: it is empty", &[]);
    write(&head.root.join("initrd.img"), b"no archive");
    head.says("look   initrd initrd.img: it is of no known kind", &[]);
    write(&head.config, b"[boot]\nscript = \"boot.ipxe\"\n[boot.program]\nbios = \"pxelinux.0\"\n");
    put("pxelinux.0", "pxelinux.0");
    let lines = head.lines();
    head.said(&lines, "broken boot file ldlinux.c32: is not in", &["pxelinux.0 loads it next"]);
    head.said(&lines, "broken script boot.ipxe: is not in", &[]);
    put("ldlinux.c32", "ldlinux.c32");
    write(&head.root.join("boot.ipxe"), b"#!/bin/sh\n");
    head.says("broken script boot.ipxe: it is of no known kind", &[]);
    // A link that leads out, and its remedy.
    fs::remove_file(head.root.join("boot.ipxe")).expect("remove it");
    write(&head.lab.dir().join("outside.ipxe"), b"#!ipxe\n");
    symlink(head.lab.dir().join("outside.ipxe"), head.root.join("boot.ipxe")).expect("a link");
    head.says("broken script boot.ipxe: is a link that leads out of the root", &["`allow`"]);
    fs::remove_dir_all(&head.root).expect("remove the root");
    head.says("broken root:", &["cannot serve files from", "No such file"]);
}

/// What the daemon's user may not read, though root may: the doctor looks as that user.
#[test]
fn what_the_daemons_user_may_not_do() {
    let head = Head::new();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    mode(head.lab.dir(), 0o755);
    let passwd = head.lab.dir().join("passwd");
    write(&passwd, b"root:x:0:0:root:/root:/bin/sh\nmuster:x:4242:4242::/:/bin/false\n");
    let users = format!("mount --bind {} /etc/passwd", passwd.display());
    let asked = || head.asked(true, &users).0;
    let state = head.lab.dir().join("run/state");
    head.said(&asked(), "look   journal: muster cannot make a file in", &["Permission denied", "chown -R muster:"]);
    chown(&state, Some(4242), Some(4242)).expect("give it away");
    let lines = asked();
    assert!(lines.iter().any(|line| line.contains(" journal: ") && !line.contains("Permission denied")));
    head.said(&lines, "fine   root: muster can read", &[]);
    mode(&head.config, 0o600);
    head.said(&asked(), "look   config: muster may not read", &["a reload fails", "chmod g+r"]);
    mode(&head.root.join("vmlinuz"), 0o600);
    write(&head.root.join("secret"), b"");
    mode(&head.root.join("secret"), 0o600);
    let lines = asked();
    head.said(&lines, "broken kernel vmlinuz: muster may not read it", &["chmod o+r"]);
    head.said(&lines, "look   root: muster may not read 2 of the files", &["secret"]);
    mode(&head.root, 0o700);
    head.said(&asked(), "broken root: muster: cannot serve files from", &["chmod o+rx"]);
}

/// Who is not root is told what was not looked at, and nothing that is not so.
#[test]
fn somebody_else_asks() {
    let head = Head::new();
    let program = head.lab.dir().join("muster");
    fs::copy(MUSTER, &program).expect("a copy that all may run");
    let musterd = head.daemon();
    let arguments = [vec!["doctor".to_string(), "--".into()], head.flags()].concat();
    let mut command = head.host.command("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&program).args(&arguments);
    let outcome = head.host.finish(60, command);
    let lines: Vec<String> = outcome.output.lines().map(str::to_string).collect();
    head.said(&lines, "look   daemon: runs as root", &[&format!("pid {}", musterd.pid()), "you may not use"]);
    for check in ["firewall", "other dhcp", "root", "journal"] {
        head.said(&lines, &format!("look   {check}: "), &["run as root"]);
    }
    assert_eq!(outcome.code, Some(5), "{}", outcome.output);
}

#[test]
fn a_journal_that_cannot_be_relied_on() {
    let head = Head::new();
    let state = head.lab.dir().join("run/state");
    write(&state.join("journal"), b"# of old\n2026-11-23T15:43:00Z n24 up ~23dac4ed\n");
    head.says("broken journal: line 2 of", &["is damaged (its checksum is wrong)", "mend or remove"]);
    fs::remove_file(state.join("journal")).expect("remove it");
    let (lines, _) = head.asked(true, &format!("mount -t tmpfs -o size=4k none {0}; head -c 4096 /dev/zero >{0}/full", state.display()));
    head.said(&lines, "broken journal:", &["No space left", "make room"]);
    let (lines, _) = head.asked(true, &format!("mount -t tmpfs -o ro none {}", state.display()));
    head.said(&lines, "broken journal: the file system of", &["read-only"]);
    fs::remove_dir_all(&state).expect("remove it");
    head.says("fine   journal:", &["is not there yet"]);
    fs::remove_dir_all(head.lab.dir().join("run")).expect("remove it");
    head.says("broken journal: neither", &["mkdir -p"]);
}

/// Whatever hangs has its line, and holds nothing up for longer than its time.
#[test]
fn disks_that_hang() {
    let mut head = Head::new();
    let bound = Bound::new(&head.lab, &head.root);
    let usual = std::mem::replace(&mut head.state, bound.path().to_path_buf());
    let begin = Instant::now();
    let stopped = bound.stop();
    let (lines, code) = head.asked(true, ":");
    drop(stopped);
    head.said(&lines, "broken journal: the disk of", &["has not taken a record in 10 s"]);
    head.said(&lines, "look   names file:", &["has not answered in 10 s"]);
    head.said(&lines, "fine   root:", &[]);
    (head.state, head.root) = (usual, bound.path().to_path_buf());
    let stopped = bound.stop();
    let (lines, more) = head.asked(true, ":");
    drop(stopped);
    head.said(&lines, "broken config:", &["has not answered in 10 s: its disk or server hangs"]);
    assert_eq!((code, more), (1, 1));
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
}

#[test]
fn a_disk_that_is_slow() {
    let mut head = Head::new();
    let disk = Disk::slow(&head.lab, 4096);
    head.state = disk.path().to_path_buf();
    disk.sync_takes(300);
    head.says("look   journal: a record takes ", &["ms (at worst", "choose a faster disk"]);
}

#[test]
fn names_on_the_head() {
    let head = Head::new();
    let _musterd = head.daemon();
    let file = head.lab.dir().join("run/state/names");
    let text = wait(20, || fs::read_to_string(&file).ok()).expect("musterd writes the names");
    write(&file, text.replace("prefix n", "prefix m").as_bytes());
    head.says("look   names file:", &["tells other names than the config", "muster reload"]);
    write(&file, &text.as_bytes()[..text.len() / 2]);
    head.says("look   names file:", &["is damaged"]);
    let switch = head.lab.dir().join("nsswitch");
    write(&switch, b"hosts: files dns muster\n");
    let library = "mkdir -p /usr/local/lib; mount -t tmpfs none /usr/local/lib; touch /usr/local/lib/libnss_muster.so.2";
    let (lines, _) = head.asked(true, &format!("mount --bind {} /etc/nsswitch.conf; {library}", switch.display()));
    head.said(&lines, "look   name service: muster is asked behind dns", &["/etc/nsswitch.conf"]);
}
