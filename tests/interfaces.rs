//! Boot interfaces that come, go and change under a running `musterd`, in namespaces, with clients that we did not write.

mod common;

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::musterd::Musterd;
use common::{Host, Lab, text, wait, wire, write};
use nix::sys::signal::Signal;

const SERVER: &str = "10.54.0.1/16";
const HEAD: Ipv4Addr = Ipv4Addr::new(10, 54, 0, 1);
/// Most of which is a client's own pause between two questions.
const SOON: Duration = Duration::from_secs(10);

/// What udhcpc is told in one lease: the server's identifier and the address.
fn lease(client: &Host) -> Option<(String, String)> {
    let hook = client.script(
        5,
        "mkdir -p /run/hooks; printf '#!/bin/sh\\necho LEASE $1 $serverid $ip $mtu\\n' >/run/hooks/told; chmod 755 /run/hooks/told",
    );
    hook.must("a script for udhcpc");
    let ask = format!("{} udhcpc -i eth0 -n -q -f -t 3 -T 1 -O mtu -s /run/hooks/told", common::image().join("busybox").display());
    let said = client.script(30, &ask).output;
    let line = said.lines().find(|line| line.starts_with("LEASE bound"))?;
    let mut words = line.split(' ').skip(2);
    Some((words.next()?.to_string(), words.next()?.to_string()))
}

/// It gets a lease from the server at this address.
fn must_lease(client: &Host, server: Ipv4Addr, musterd: &Musterd) -> String {
    let (by, address) = lease(client).unwrap_or_else(|| panic!("no lease:\n{}", musterd.log()));
    assert_eq!(by, server.to_string(), "{}", musterd.log());
    address
}

/// Asks for a file at an address by hand; whence the first answer came.
fn ask_for(client: &Host, address: Ipv4Addr) -> Option<SocketAddrV4> {
    let asked = client.within(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(3))).expect("a time-out");
        socket.send_to(b"\0\x01file\0octet\0", (address, 69)).ok()?;
        let mut buf = [0; 600];
        let (len, from) = socket.recv_from(&mut buf).ok()?;
        let std::net::SocketAddr::V4(from) = from else { return None };
        assert_eq!(buf.get(..4), Some(&[0, 3, 0, 1][..]), "DATA 1, of {len} bytes");
        // The second block shows that the answer finds its way back.
        socket.send_to(&[0, 4, 0, 1], from).ok()?;
        socket.recv_from(&mut buf).ok().map(|_| from)
    });
    asked.join().expect("the client's thread")
}

fn file(lab: &Lab) {
    write(&lab.dir().join("file"), &[7; 5000]);
}

/// The head's `eth0` as an administrator or a driver makes it anew: on the switch, with another MAC and index.
fn replug(lab: &mut Lab, server: &Host, address: &str) {
    lab.plug(server, "eth0");
    server.ip(&format!("address add {address} dev eth0"));
}

/// Waits until the log says it; the time it took.
fn said(musterd: &Musterd, words: &[&str]) -> String {
    let (_, line) = wait(10, || musterd.seen_all(words)).unwrap_or_else(|| panic!("nobody says {words:?}:\n{}", musterd.log()));
    line
}

fn errors(musterd: &Musterd) -> Vec<String> {
    musterd.log().lines().filter(|line| line.split_whitespace().nth(1) == Some("error")).map(str::to_string).collect()
}

#[test]
fn an_interface_that_is_made_anew_is_served_again_and_goes_on_with_its_transfers() {
    let mut lab = Lab::new();
    let (server, client) = (lab.server(SERVER), lab.attach("client"));
    file(&lab);
    let mut musterd = Musterd::plain(&server, lab.dir());
    let address = must_lease(&client, HEAD, &musterd);
    client.ip(&format!("address add {address}/16 dev eth0"));
    let neighbours = || wait(5, || server.neighbour(&address).contains("PERMANENT").then_some(()));
    assert!(neighbours().is_some(), "an entry for who has a lease: {}", server.neighbour(&address));
    // Three kilobytes a second: it begins before the interface goes, and ends after it is back.
    write(&lab.dir().join("slow"), &[5; 40_000]);
    let mut curl = client.command("curl");
    let out = lab.dir().join("slow.out");
    curl.args(["-s", "--max-time", "60", "--tftp-blksize", "512", "--limit-rate", "4k", "-o"]).arg(&out).arg(format!("tftp://{HEAD}/slow"));
    let mut loading = curl.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start curl");
    assert!(wait(10, || (out.metadata().map_or(0, |file| file.len()) > 0).then_some(())).is_some(), "it loads");
    for round in 0..3 {
        server.ip("link delete eth0");
        said(&musterd, &["warn", "eth0: not served: there is no such interface"]);
        assert!(lease(&client).is_none(), "there is no way");
        let begin = Instant::now();
        replug(&mut lab, &server, SERVER);
        assert!(wait(5, || (musterd.log().matches("eth0: in service").count() > round).then_some(())).is_some(), "{}", musterd.log());
        println!("in service {} ms after it was plugged", begin.elapsed().as_millis());
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    }
    must_lease(&client, HEAD, &musterd);
    assert_eq!(ask_for(&client, HEAD).map(|from| *from.ip()), Some(HEAD), "{}", musterd.log());
    assert!(neighbours().is_some(), "the entry is made again: {}", server.neighbour(&address));
    let ended = wait(60, || loading.try_wait().expect("wait for a child of ours"));
    assert!(ended.is_some_and(|status| status.success()), "the transfer goes on: {ended:?}\n{}", musterd.log());
    assert_eq!(std::fs::read(&out).expect("what curl got").len(), 40_000);
    assert!(!musterd.ended() && errors(&musterd).is_empty(), "{}", musterd.log());
}

#[test]
fn an_interface_that_goes_down_or_loses_its_cable_is_served_when_it_is_back() {
    let mut lab = Lab::new();
    let (server, client) = (lab.server(SERVER), lab.attach("client"));
    let mut musterd = Musterd::plain(&server, lab.dir());
    let address = must_lease(&client, HEAD, &musterd);
    for _ in 0..3 {
        server.ip("link set eth0 down");
        std::thread::sleep(Duration::from_millis(700));
        server.ip("link set eth0 up");
    }
    said(&musterd, &["warn", "eth0: not served: it is down"]);
    let entry = wait(5, || server.neighbour(&address).contains("PERMANENT").then_some(()));
    assert!(entry.is_some(), "the kernel forgot it, and it is set again: {:?}", server.neighbour(&address));
    // The cable of the other end.
    lab.switch().ip("link set port1 down");
    said(&musterd, &["warn", "eth0: not served: it has no carrier"]);
    let before = musterd.log().matches("eth0: in service").count();
    lab.switch().ip("link set port1 up");
    assert!(wait(10, || (musterd.log().matches("eth0: in service").count() > before).then_some(())).is_some(), "{}", musterd.log());
    must_lease(&client, HEAD, &musterd);
    assert!(!musterd.ended() && errors(&musterd).is_empty(), "{}", musterd.log());
}

#[test]
fn a_late_interface_is_waited_for_and_served_within_a_second() {
    let mut lab = Lab::new();
    let (server, client) = (lab.host("server"), lab.attach("client"));
    let mut musterd = Musterd::begun(&server, &format!("-i eth0 -r {}", lab.dir().display()));
    said(&musterd, &["warn", "there is no interface \"eth0\""]);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(musterd.log().matches("there is no interface").count(), 1, "said once:\n{}", musterd.log());
    assert!(musterd.run_dir().join("musterd.pid").exists(), "a daemon that waits has its pid file");
    let other = Musterd::begun(&server, &format!("-i eth0 -r {}", lab.dir().display()));
    said(&other, &["already running as pid"]);
    drop(other);
    lab.plug(&server, "eth0");
    said(&musterd, &["warn", "eth0 has no IPv4 address"]);
    let begin = Instant::now();
    server.ip(&format!("address add {SERVER} dev eth0"));
    let (at, _) = wait(5, || musterd.seen("musterd: ready")).unwrap_or_else(|| panic!("{}", musterd.log()));
    println!("ready {} ms after the address came", at.duration_since(begin).as_millis());
    assert!(at.duration_since(begin) < Duration::from_secs(1), "{:?}", at.duration_since(begin));
    must_lease(&client, HEAD, &musterd);
    assert!(!musterd.ended(), "{}", musterd.log());

    // The next one knows the interface: it starts without it, and others would be served.
    drop(musterd);
    server.ip("link delete eth0");
    let mut musterd = Musterd::begun(&server, &format!("-i eth0 -r {}", lab.dir().display()));
    assert!(musterd.says("musterd: ready").is_some(), "{}", musterd.log());
    said(&musterd, &["warn", "eth0: not served: there is no such interface"]);
    replug(&mut lab, &server, SERVER);
    said(&musterd, &["info", "eth0: in service, with the address 10.54.0.1"]);
    must_lease(&client, HEAD, &musterd);
    assert!(!musterd.ended() && errors(&musterd).is_empty(), "{}", musterd.log());
}

#[test]
fn another_device_that_is_given_the_name_is_the_interface() {
    let mut lab = Lab::new();
    let (server, client) = (lab.server(SERVER), lab.attach("client"));
    file(&lab);
    let musterd = Musterd::plain(&server, lab.dir());
    must_lease(&client, HEAD, &musterd);
    lab.plug(&server, "spare");
    for (from, to) in [("eth0", "old"), ("spare", "eth0")] {
        server.ip(&format!("link set {from} down"));
        server.ip(&format!("link set {from} name {to}"));
    }
    server.ip("address flush dev old");
    server.ip("link set eth0 up");
    server.ip(&format!("address add {SERVER} dev eth0"));
    said(&musterd, &["eth0: in service"]);
    let address = must_lease(&client, HEAD, &musterd);
    client.ip(&format!("address add {address}/16 dev eth0"));
    assert_eq!(ask_for(&client, HEAD).map(|from| *from.ip()), Some(HEAD), "{}", musterd.log());
}

#[test]
fn another_address_moves_the_head_or_takes_the_link_out_of_service() {
    let mut lab = Lab::new();
    let (server, client) = (lab.server(SERVER), lab.attach("client"));
    file(&lab);
    let musterd = Musterd::plain(&server, lab.dir());
    must_lease(&client, HEAD, &musterd);
    server.ip("address flush dev eth0");
    server.ip("address add 10.54.0.2/16 dev eth0");
    said(&musterd, &["warn", "the head's address was 10.54.0.1 and is 10.54.0.2"]);
    let moved = Ipv4Addr::new(10, 54, 0, 2);
    let address = must_lease(&client, moved, &musterd);
    client.ip(&format!("address add {address}/16 dev eth0"));
    assert_eq!(ask_for(&client, moved).map(|from| *from.ip()), Some(moved), "{}", musterd.log());

    server.ip("address flush dev eth0");
    server.ip("address add 192.0.2.1/24 dev eth0");
    let line = said(&musterd, &["error", "eth0: out of service"]);
    assert!(line.contains("192.0.2.1") && line.contains("10.54.0.0/16") && line.contains("renumber"), "{line}");
    assert!(lease(&client).is_none(), "no answer with an address that nobody has");
    server.ip(&format!("address add {SERVER} dev eth0"));
    said(&musterd, &["info", "eth0: in service"]);
    must_lease(&client, HEAD, &musterd);
    assert_eq!(errors(&musterd).len(), 1, "one line says why: {}", musterd.log());
}

#[test]
fn each_address_of_the_interface_answers_for_itself() {
    let mut lab = Lab::new();
    let (server, client) = (lab.server(SERVER), lab.attach("client"));
    file(&lab);
    client.ip("address add 10.54.0.99/16 dev eth0");
    // One is there at start, with a label of its own; another one comes, as keepalived has it, and goes again.
    server.ip("address add 10.54.0.3/16 dev eth0 label eth0:0");
    let musterd = Musterd::plain(&server, lab.dir());
    server.ip("address add 10.54.0.4/32 dev eth0");
    let at = |last| Ipv4Addr::new(10, 54, 0, last);
    for address in [HEAD, at(3), at(4)] {
        let answered = wait(10, || ask_for(&client, address));
        assert_eq!(answered.map(|from| *from.ip()), Some(address), "{}", musterd.log());
        for how in ["+notcp", "+tcp"] {
            let question = format!("@{address} +short +time=2 +tries=2 {how} n23.cluster");
            let said = client.run(20, "dig", &question.split(' ').collect::<Vec<_>>()).must("dig");
            assert!(said.trim().parse::<Ipv4Addr>().is_ok(), "{address} {how}: {said}\n{}", musterd.log());
        }
        let got = client.script(20, &format!("curl -s --max-time 15 tftp://{address}/file | wc -c")).must("curl");
        assert_eq!(got.trim(), "5000", "{address}");
    }
    server.ip("address del 10.54.0.4/32 dev eth0");
    assert_eq!(ask_for(&client, at(4)), None, "nobody has it");
    assert_eq!(ask_for(&client, at(3)).map(|from| *from.ip()), Some(at(3)));
    must_lease(&client, HEAD, &musterd);
    assert!(errors(&musterd).is_empty(), "{}", musterd.log());
}

#[test]
fn a_part_of_a_bridge_is_refused_with_the_name_of_the_bridge() {
    let mut lab = Lab::new();
    let (server, client) = (lab.server(SERVER), lab.attach("client"));
    let musterd = Musterd::plain(&server, lab.dir());
    server.ip("link add br0 type bridge stp_state 0 forward_delay 0");
    server.ip("link set br0 up");
    server.ip("link set eth0 master br0");
    let line = said(&musterd, &["error", "eth0: out of service"]);
    assert!(line.contains("part of br0"), "{line}");
    drop(musterd);
    let mut musterd = Musterd::begun(&server, &format!("-i eth0 -r {}", lab.dir().display()));
    assert_eq!(wait(10, || musterd.code()), Some(Some(1)), "{}", musterd.log());
    assert!(musterd.log().contains("eth0 is a part of br0"), "{}", musterd.log());
    drop(musterd);
    server.ip("address flush dev eth0");
    server.ip(&format!("address add {SERVER} dev br0"));
    let musterd = Musterd::begun(&server, &format!("-i br0 -r {}", lab.dir().display()));
    assert!(musterd.says("musterd: ready").is_some(), "{}", musterd.log());
    must_lease(&client, HEAD, &musterd);
}

/// What sits on another interface serves as one: a VLAN, a macvlan, a bond, as far as this kernel makes them.
#[test]
fn interfaces_of_all_kinds_serve() {
    let mut lab = Lab::new();
    let mut served = 0;
    for (kind, make) in [
        ("vlan", "link add link below name eth0 type vlan id 7"),
        ("macvlan", "link add link below name eth0 type macvlan mode bridge"),
        ("bond", "link add eth0 type bond mode active-backup miimon 100"),
        ("bridge", "link add eth0 type bridge stp_state 0 forward_delay 0"),
    ] {
        let (server, client) = (lab.host(&format!("{kind}-s")), lab.host(&format!("{kind}-c")));
        wire(&server, "below", &client, "peer");
        if !server.script(10, &format!("ip {make}")).ok() {
            println!("NOT RUN: {kind}: this kernel makes none");
            continue;
        }
        if matches!(kind, "bond" | "bridge") {
            ["link set below down", "link set below master eth0", "link set below up"].iter().for_each(|line| drop(server.ip(line)));
        }
        server.ip("link set eth0 up");
        server.ip(&format!("address add {SERVER} dev eth0"));
        client.ip(if kind == "vlan" { "link add link peer name eth0 type vlan id 7" } else { "link add link peer name eth0 type macvlan" });
        client.ip("link set eth0 up");
        let musterd = Musterd::plain(&server, lab.dir());
        must_lease(&client, HEAD, &musterd);
        served += 1;
    }
    assert!(served >= 2, "every kernel has bridges and macvlan");
}

#[test]
fn a_plan_under_numbered_machines_is_not_derived_anew() {
    let mut lab = Lab::new();
    let (server, client) = (lab.server(SERVER), lab.attach("client"));
    let start = || {
        let musterd = Musterd::begun(&server, &format!("-i eth0 -r {}", lab.dir().display()));
        assert!(musterd.says("musterd: ready").is_some(), "{}", musterd.log());
        musterd
    };
    let musterd = start();
    let muster = |words: &str| {
        let mut command = server.command(env!("CARGO_BIN_EXE_muster"));
        command.arg("--socket").arg(lab.dir().join("run/control.sock")).args(words.split(' '));
        server.finish(20, command)
    };
    muster(&format!("node set 5 --mac {} -y", client.mac("eth0"))).must("muster node set");
    let five = must_lease(&client, HEAD, &musterd);
    let memory = || wait(5, || text(&lab.dir().join("run/state/interfaces")).contains("numbered yes").then_some(()));
    assert!(memory().is_some(), "what nodes have their addresses by is written down");
    // Somebody sets another netmask.
    server.ip("address flush dev eth0");
    server.ip("address add 10.54.0.1/24 dev eth0");
    let line = said(&musterd, &["warn", "10.54.0.1/24"]);
    assert!(line.contains("10.54.0.0/16") && line.contains("renumber"), "{line}");
    musterd.signal(Signal::SIGHUP);
    said(&musterd, &["config: reloaded (nothing has changed)"]);
    assert_eq!(must_lease(&client, HEAD, &musterd), five, "a hangup moves nobody");
    drop(musterd);
    let musterd = start();
    said(&musterd, &["warn", "10.54.0.1/24"]);
    assert_eq!(must_lease(&client, HEAD, &musterd), five, "nor does a restart");
    // Only an operator does.
    muster("reload --renumber -y").must("muster reload --renumber");
    let moved = must_lease(&client, HEAD, &musterd);
    assert!(moved != five && moved.starts_with("10.54.0."), "{moved}: {}", musterd.log());
    let said = muster("status").must("muster status");
    assert!(said.contains("eth0"), "{said}");
}

/// Other links notice nothing of one that goes and comes.
#[test]
fn a_link_that_goes_disturbs_no_other() {
    let mut lab = Lab::new();
    let (server, client) = (lab.server(SERVER), lab.attach("client"));
    file(&lab);
    let far = lab.host("far");
    wire(&server, "eth1", &far, "eth0");
    server.ip("address add 10.60.0.1/16 dev eth1");
    let musterd = Musterd::begun(&server, &format!("-i eth0 -i eth1 -r {}", lab.dir().display()));
    assert!(musterd.says("musterd: ready").is_some(), "{}", musterd.log());
    client.ip("address add 10.54.0.99/16 dev eth0");
    write(&lab.dir().join("large"), &vec![3; 30_000_000]);
    let mut curl = client.command("curl");
    curl.args(["-s", "--max-time", "60", "--limit-rate", "5M", "-o", "/dev/null", "-w", "%{size_download}"])
        .arg(format!("tftp://{HEAD}/large"));
    let mut loading = curl.stdout(Stdio::piped()).spawn().expect("start curl");
    for _ in 0..4 {
        server.ip("link delete eth1");
        std::thread::sleep(Duration::from_millis(300));
        wire(&server, "eth1", &far, "eth0");
        server.ip("address add 10.60.0.1/16 dev eth1");
        std::thread::sleep(Duration::from_millis(300));
    }
    let ended = wait(60, || loading.try_wait().expect("wait for a child of ours"));
    let mut got = String::new();
    loading.stdout.take().expect("piped").read_to_string(&mut got).expect("text");
    assert!(ended.is_some_and(|status| status.success()) && got == "30000000", "{ended:?} {got}\n{}", musterd.log());
    let served = wait(SOON.as_secs(), || lease(&far));
    assert_eq!(served.map(|(by, _)| by), Some("10.60.0.1".to_string()), "{}", musterd.log());
    assert!(Path::new("/proc").join(musterd.pid().to_string()).exists());
}

/// A rule that rejects is named at start: firmware gives up at its ICMP.
#[test]
fn rules_that_reject_are_said_at_start() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    for (rules, said) in [
        ("add table inet own; add chain inet own in { type filter hook input priority 0; policy drop; }", false),
        ("add rule inet own in udp dport 1-65000 reject", true),
    ] {
        for rule in rules.split("; add").map(|rule| if rule.starts_with("add") { rule.to_string() } else { format!("add{rule}") }) {
            server.run(10, "nft", &[&rule]).must("nft");
        }
        let musterd = Musterd::plain(&server, lab.dir());
        assert_eq!(
            musterd.seen_all(&["warn", "firewall", "table own, chain in", "UDP 67, 69 and 20069-20084"]).is_some(),
            said,
            "{}",
            musterd.log()
        );
    }
}

/// As administrators move an address: the new one comes before the old one goes, and is another one of the head's meanwhile.
#[test]
fn an_address_that_is_moved_in_two_steps_is_served_by_name_and_file() {
    let mut lab = Lab::new();
    let (server, client) = (lab.server(SERVER), lab.attach("client"));
    file(&lab);
    client.ip("address add 10.54.0.99/16 dev eth0");
    let musterd = Musterd::plain(&server, lab.dir());
    let moved = Ipv4Addr::new(10, 54, 0, 2);
    server.script(5, "sysctl -qw net.ipv4.conf.all.promote_secondaries=1 net.ipv4.conf.eth0.promote_secondaries=1").must("sysctl");
    server.ip("address add 10.54.0.2/16 dev eth0");
    assert!(wait(10, || ask_for(&client, moved)).is_some(), "{}", musterd.log());
    server.ip(&format!("address del {SERVER} dev eth0"));
    said(&musterd, &["the head's address was 10.54.0.1 and is 10.54.0.2"]);
    for how in ["+notcp", "+tcp"] {
        let question = format!("@{moved} +short +time=2 +tries=2 {how} n23.cluster");
        client.run(20, "dig", &question.split(' ').collect::<Vec<_>>()).must("dig");
    }
    assert_eq!(ask_for(&client, moved).map(|from| *from.ip()), Some(moved));
    assert!(errors(&musterd).is_empty(), "{}", musterd.log());
    // What the file does not set is no reason to refuse a reload.
    musterd.signal(Signal::SIGHUP);
    said(&musterd, &["config: reloaded"]);
}

/// A head may have an address that the plan gives to machines: no machine gets it.
#[test]
fn an_address_of_the_head_is_leased_to_nobody() {
    let mut lab = Lab::new();
    let (server, client) = (lab.server(SERVER), lab.attach("client"));
    let config = "[cluster]\nnode0 = \"10.54.1.0\"\nguests = \"10.54.250.1-10.54.250.2\"\n";
    let musterd = Musterd::configured(&server, lab.dir(), config);
    server.ip("address add 10.54.250.2/32 dev eth0");
    let line = said(&musterd, &["error", "eth0: it has 10.54.250.2"]);
    assert!(line.contains("a guest's"), "{line}");
    for last in 1..4 {
        client.ip("link set eth0 down");
        client.ip(&format!("link set eth0 address 02:00:00:00:00:0{last}"));
        client.ip("link set eth0 up");
        let got = lease(&client).map(|(_, address)| address);
        assert_ne!(got.as_deref(), Some("10.54.250.2"), "{}", musterd.log());
    }
    server.ip("address del 10.54.250.2/32 dev eth0");
    client.ip("link set eth0 address 02:00:00:00:00:09");
    let given = wait(20, || lease(&client));
    assert_eq!(given.map(|(_, address)| address), Some("10.54.250.2".to_string()), "it is the guests' again: {}", musterd.log());
}

/// keepalived's /32 and the address that an interface gives itself make no network; the next one does.
#[test]
fn addresses_that_make_no_network_are_passed_over() {
    let mut lab = Lab::new();
    let (server, client) = (lab.attach("server"), lab.attach("client"));
    server.ip("address add 169.254.33.7/16 dev eth0");
    server.ip("address add 10.54.0.50/32 dev eth0");
    let musterd = Musterd::begun(&server, &format!("-i eth0 -r {}", lab.dir().display()));
    said(&musterd, &["warn", "none of which makes a boot network"]);
    server.ip(&format!("address add {SERVER} dev eth0"));
    assert!(musterd.says("musterd: ready on eth0 (10.54.0.1)").is_some(), "{}", musterd.log());
    must_lease(&client, HEAD, &musterd);
}

/// What becomes of the config, and who is told to leave, while an interface is waited for.
#[test]
fn a_daemon_that_waits_survives_its_config_and_leaves_when_it_is_told() {
    let mut lab = Lab::new();
    let (server, client) = (lab.host("server"), lab.attach("client"));
    let path = lab.dir().join("waits.toml");
    let good = "[[network]]\ninterface = \"eth0\"\n";
    write(&path, good.as_bytes());
    let flags = format!("-c {} -r {}", path.display(), lab.dir().display());
    let mut musterd = Musterd::begun(&server, &flags);
    said(&musterd, &["warn", "there is no interface \"eth0\""]);
    write(&path, b"[[network\n");
    said(&musterd, &["warn", "waits.toml:1:"]);
    std::fs::remove_file(&path).expect("remove the config");
    said(&musterd, &["warn", "no such file"]);
    write(&path, good.as_bytes());
    musterd.signal(Signal::SIGTERM);
    assert_eq!(wait(10, || musterd.code()), Some(Some(0)), "{}", musterd.log());
    assert!(!musterd.run_dir().join("musterd.pid").exists());
    drop(musterd);
    let musterd = Musterd::begun(&server, &flags);
    replug(&mut lab, &server, SERVER);
    assert!(musterd.says("musterd: ready").is_some(), "{}", musterd.log());
    must_lease(&client, HEAD, &musterd);
}

/// keepalived takes the virtual address away and brings it back: the transfer goes on as long as its client waits.
#[test]
fn a_virtual_address_that_flaps_costs_no_transfer() {
    let mut lab = Lab::new();
    let (server, client) = (lab.server(SERVER), lab.attach("client"));
    client.ip("address add 10.54.0.99/16 dev eth0");
    server.ip("address add 10.54.0.50/32 dev eth0");
    write(&lab.dir().join("slow"), &[5; 60_000]);
    let musterd = Musterd::plain(&server, lab.dir());
    let mut curl = client.command("curl");
    let out = lab.dir().join("slow.out");
    curl.args(["-s", "--max-time", "60", "--tftp-blksize", "512", "--limit-rate", "10k", "-o"]).arg(&out).arg("tftp://10.54.0.50/slow");
    let mut loading = curl.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start curl");
    assert!(wait(10, || (out.metadata().map_or(0, |file| file.len()) > 0).then_some(())).is_some(), "it loads");
    for _ in 0..2 {
        server.ip("address del 10.54.0.50/32 dev eth0");
        std::thread::sleep(Duration::from_secs(1));
        server.ip("address add 10.54.0.50/32 dev eth0");
        std::thread::sleep(Duration::from_secs(1));
    }
    let ended = wait(60, || loading.try_wait().expect("wait for a child of ours"));
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}\n{}", musterd.log());
    assert_eq!(std::fs::read(&out).expect("what curl got").len(), 60_000);
}

/// A head that moves to another network under numbered machines: out of service until an operator says that the nodes move too.
#[test]
fn an_operator_moves_the_nodes_to_another_network() {
    let mut lab = Lab::new();
    let (server, client) = (lab.server(SERVER), lab.attach("client"));
    let musterd = Musterd::begun(&server, &format!("-i eth0 -r {}", lab.dir().display()));
    assert!(musterd.says("musterd: ready").is_some(), "{}", musterd.log());
    let muster = |words: &str| {
        let mut command = server.command(env!("CARGO_BIN_EXE_muster"));
        command.arg("--socket").arg(lab.dir().join("run/control.sock")).args(words.split(' '));
        server.finish(20, command)
    };
    muster(&format!("node set 5 --mac {} -y", client.mac("eth0"))).must("muster node set");
    must_lease(&client, HEAD, &musterd);
    server.ip("address flush dev eth0");
    server.ip("address add 192.168.7.1/24 dev eth0");
    said(&musterd, &["error", "eth0: out of service", "192.168.7.1"]);
    assert!(muster("status").must("muster status").contains("not served"));
    muster("reload --renumber -y").must("muster reload --renumber");
    said(&musterd, &["eth0: in service, with the address 192.168.7.1"]);
    let moved = must_lease(&client, Ipv4Addr::new(192, 168, 7, 1), &musterd);
    assert!(moved.starts_with("192.168.7."), "{moved}");
}

/// Two boot interfaces in one network hear the same machines: each answers for itself, and the operator hears of it.
#[test]
fn two_interfaces_in_one_network_serve_and_are_told() {
    let mut lab = Lab::new();
    let (server, client) = (lab.server(SERVER), lab.attach("client"));
    lab.plug(&server, "eth1");
    server.ip("address add 10.60.0.1/16 dev eth1");
    let musterd = Musterd::begun(&server, &format!("-i eth0 -i eth1 -r {}", lab.dir().display()));
    assert!(musterd.says("musterd: ready").is_some(), "{}", musterd.log());
    assert!(wait(20, || lease(&client)).is_some(), "{}", musterd.log());
    said(&musterd, &["warn", "put the two on separate networks"]);
}

/// What nodes have their addresses by is not guessed when it is damaged, and its loss is told.
#[test]
fn a_damaged_memory_of_the_networks_moves_nobody() {
    let mut lab = Lab::new();
    let (server, client) = (lab.server(SERVER), lab.attach("client"));
    let flags = format!("-i eth0 -r {}", lab.dir().display());
    let musterd = Musterd::begun(&server, &flags);
    assert!(musterd.says("musterd: ready").is_some(), "{}", musterd.log());
    let mut command = server.command(env!("CARGO_BIN_EXE_muster"));
    command.arg("--socket").arg(lab.dir().join("run/control.sock")).args(["node", "set", "5", "--mac", &client.mac("eth0"), "-y"]);
    server.finish(20, command).must("muster node set");
    let memory = lab.dir().join("run/state/interfaces");
    assert!(wait(5, || text(&memory).contains("numbered yes").then_some(())).is_some());
    drop(musterd);
    server.ip("address flush dev eth0");
    server.ip("address add 10.54.0.1/24 dev eth0");
    let good = text(&memory);
    for bad in ["garbage\n", "", "numbered yes\neth0 ethernet 10.54.0.1/99\n"] {
        write(&memory, bad.as_bytes());
        let mut musterd = Musterd::begun(&server, &flags);
        assert_eq!(wait(10, || musterd.code()), Some(Some(1)), "{bad:?}: {}", musterd.log());
        assert!(musterd.log().contains("interfaces is damaged"), "{}", musterd.log());
    }
    write(&memory, good.as_bytes());
    let musterd = Musterd::begun(&server, &flags);
    assert!(musterd.says("musterd: ready").is_some(), "{}", musterd.log());
    assert_eq!(must_lease(&client, HEAD, &musterd), "10.54.1.5");
    drop(musterd);
    std::fs::remove_file(&memory).expect("remove what was remembered");
    let musterd = Musterd::begun(&server, &flags);
    said(&musterd, &["warn", "interfaces: what nodes had their addresses by is not in"]);
}
