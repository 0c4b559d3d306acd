//! Names by real programs: dig, kdig and drill ask, unbound forwards, is an upstream and a secondary, dnsperf presses.

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::musterd::Musterd;
use common::{Host, Lab, stop, wait, write};
use nix::sys::signal::Signal;

const SERVER: &str = "10.54.0.1/16";
const HEAD: &str = "10.54.0.1";

/// A head, and a machine that asks.
fn lab() -> (Lab, Host, Host) {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let client = lab.attach("client");
    client.ip("address add 10.54.0.2/16 dev eth0");
    (lab, server, client)
}

/// What dig prints of a question to the head.
fn dig(client: &Host, question: &str) -> String {
    let words = format!("@{HEAD} +time=3 +tries=3 {question}");
    client.run(60, "dig", &words.split(' ').collect::<Vec<_>>()).must("dig")
}

/// The same, in short.
fn short(client: &Host, question: &str) -> String {
    dig(client, &format!("+short {question}")).trim().to_string()
}

/// A config with a line or two for `[dns]`.
fn config(dns: &str) -> String {
    format!("[cluster]\nnode0 = \"10.54.1.0\"\nnodes = 1024\n[dns]\n{dns}\n")
}

/// unbound in a host, with this config beside what keeps it to itself; on 127.0.0.1 and on `listen`.
fn unbound(lab: &Lab, host: &Host, listen: &str, config: &str) -> Child {
    let path = lab.dir().join(format!("unbound-{listen}.conf"));
    let own = "access-control: 0.0.0.0/0 allow\n username: \"\"\n chroot: \"\"\n directory: \"/\"\n pidfile: \"\"\n use-syslog: no\n do-ip6: no\n \
               module-config: \"iterator\"\n unblock-lan-zones: yes\n insecure-lan-zones: yes\n do-not-query-localhost: no\n rrset-roundrobin: no";
    let text = format!("server:\n interface: 127.0.0.1\n interface: {listen}\n {own}\n{config}\nremote-control:\n control-enable: no\n");
    write(&path, text.as_bytes());
    let mut command = host.command("unbound");
    command.args(["-d", "-c"]).arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("start unbound, which scripts/setup installs");
    let up = wait(20, || {
        assert!(child.try_wait().expect("wait for a child of ours").is_none(), "unbound has ended");
        host.script(5, "ss -Hulpn sport = :53").output.contains("unbound").then_some(())
    });
    assert!(up.is_some(), "unbound listens");
    child
}

#[test]
fn every_program_gets_the_same_answers() {
    let (lab, server, client) = lab();
    let musterd = Musterd::plain(&server, lab.dir());
    assert!(musterd.says("dns: served on 10.54.0.1, port 53").is_some());
    // No machine has ever booted here.
    for more in ["", "+tcp ", "+bufsize=512 ", "+noedns ", "+dnssec ", "+cookie "] {
        assert_eq!(short(&client, &format!("{more}n23.cluster A")), "10.54.1.23", "{more}");
        assert_eq!(short(&client, &format!("{more}-x 10.54.1.23")), "n23.cluster.", "{more}");
    }
    assert_eq!((short(&client, "cluster NS"), short(&client, "ns.cluster")), ("ns.cluster.".into(), HEAD.into()));
    assert_eq!((short(&client, "head.cluster"), short(&client, "-x 10.54.0.1")), (HEAD.into(), "head.cluster.".into()));
    assert!(short(&client, "cluster SOA").starts_with("ns.cluster. hostmaster.cluster. "));
    assert_eq!(short(&client, "+notcp node0007.cluster ANY"), "10.54.1.7");
    let shown = dig(&client, "N23.Cluster AAAA");
    assert!(
        shown.contains("status: NOERROR") && shown.contains("ANSWER: 0, AUTHORITY: 1") && shown.contains("flags: qr aa rd;"),
        "{shown}"
    );
    assert!(shown.contains(";N23.Cluster."), "in its case: {shown}");
    let shown = dig(&client, "n5000.cluster A");
    assert!(shown.contains("status: NXDOMAIN") && shown.contains("60\tIN\tSOA"), "{shown}");
    assert!(dig(&client, "www.example.org").contains("status: REFUSED"));
    assert!(dig(&client, "+edns=7 +noednsneg n1.cluster").contains("status: BADVERS"));
    assert!(dig(&client, "version.bind CH TXT").contains("status: REFUSED"));
    assert!(dig(&client, "+opcode=STATUS n1.cluster").contains("status: NOTIMP"));
    assert!(dig(&client, "cluster AXFR").contains("Transfer failed"));

    let kdig = client.run(20, "kdig", &["@10.54.0.1", "+short", "n23.cluster", "A"]).must("kdig");
    let reverse = client.run(20, "kdig", &["@10.54.0.1", "+tcp", "+short", "-x", "10.54.1.23"]).must("kdig by TCP");
    assert_eq!((kdig.trim(), reverse.trim()), ("10.54.1.23", "n23.cluster."));
    for more in [&["-u"][..], &["-t"], &["-b", "1232"]] {
        let drill = client.run(20, "drill", &[more, &["@10.54.0.1", "n23.cluster", "A"]].concat()).must("drill");
        assert!(drill.contains("n23.cluster.\t3600\tIN\tA\t10.54.1.23"), "{drill}");
    }
    // The head's own programs may ask as well, by its address.
    let own = server.run(20, "dig", &["@10.54.0.1", "+short", "self.cluster"]).must("dig on the head");
    assert_eq!(own.trim(), HEAD);
}

#[test]
fn guests_have_names_and_so_has_whoever_asks() {
    let (lab, server, client) = lab();
    let _musterd = Musterd::plain(&server, lab.dir());
    assert!(dig(&client, "guest-024d00000000.cluster").contains("status: NXDOMAIN"));
    let storm = ["--interface", "eth0", "--count", "1", "--profile", "os"];
    client.run(60, env!("CARGO_BIN_EXE_muster-storm"), &storm).must("a guest's lease");
    let address = short(&client, "guest-024d00000000.cluster");
    assert!(address.starts_with("10.54.25"), "{address:?}");
    assert_eq!(short(&client, &format!("-x {address}")), "guest-024d00000000.cluster.");
    assert!(dig(&client, "self.cluster").contains("status: NXDOMAIN"), "10.54.0.2 is nobody");
    client.ip("address add 10.54.1.77/16 dev eth0");
    assert_eq!(short(&client, "-b 10.54.1.77 self.cluster"), "10.54.1.77");
}

#[test]
fn a_resolver_forwards_here() {
    let (lab, server, client) = lab();
    let _musterd = Musterd::plain(&server, lab.dir());
    let zones =
        "stub-zone:\n  name: \"cluster\"\n  stub-addr: 10.54.0.1\nforward-zone:\n  name: \"54.10.in-addr.arpa\"\n  forward-addr: 10.54.0.1";
    let mut resolver = unbound(&lab, &client, "10.54.0.2", zones);
    let ask = |question: &[&str]| {
        let output = client.run(20, "dig", &[&["@127.0.0.1", "+time=5"], question].concat()).must("dig");
        output.lines().find(|line| !line.starts_with(';') && !line.is_empty()).unwrap_or_default().to_string()
    };
    for name in ["n0.cluster", "n1023.cluster", "NODE17.cluster", "head.cluster"] {
        let answer = ask(&[name]);
        assert!(answer.contains("\tIN\tA\t10.54."), "{name}: {answer}");
    }
    assert!(ask(&["-x", "10.54.1.255"]).ends_with("PTR\tn255.cluster."));
    assert!(ask(&["nobody.cluster"]).contains("SOA"), "a negative answer can be kept");
    stop(&mut resolver, Signal::SIGTERM);
}

#[test]
fn secondaries_get_whole_zones() {
    let (lab, server, client) = lab();
    let text = "[cluster]\nnode0 = \"10.54.1.0\"\nnodes = 12000\n[server]\ncapacity = 16384\n[dns]\ntransfer = [\"10.54.0.2\"]\n";
    let musterd = Musterd::configured(&server, lab.dir(), text);
    for (zone, records) in [("cluster", 12_000 + 6), ("54.10.in-addr.arpa", 12_000 + 4)] {
        let all = dig(&client, &format!("+noall +answer {zone} AXFR"));
        assert_eq!(all.lines().filter(|line| line.contains("\tIN\t") || line.contains(" IN ")).count(), records, "{zone}");
        assert!(all.contains("n11999.cluster.") && all.contains(if zone == "cluster" { "10.54.47.223" } else { "223.47.54.10" }));
    }
    assert!(musterd.says("transferred zone 54.10.in-addr.arpa, serial").is_some());
    assert!(dig(&client, "-b 10.54.0.2 n1.cluster AXFR").contains("Transfer failed"));
    client.ip("address add 10.54.0.3/16 dev eth0");
    assert!(dig(&client, "-b 10.54.0.3 cluster AXFR").contains("Transfer failed"), "not for everybody");

    let zone = |name: &str| {
        format!("auth-zone:\n  name: \"{name}\"\n  master: 10.54.0.1\n  fallback-enabled: no\n  for-downstream: yes\n  for-upstream: no\n")
    };
    let mut secondary = unbound(&lab, &client, "10.54.0.3", &(zone("cluster") + &zone("54.10.in-addr.arpa")));
    let answers = |question: &[&str], expected: &str| {
        let told = wait(30, || {
            let told = client.run(20, "dig", &[&["@10.54.0.3", "+short", "+time=5"], question].concat()).output;
            (told.trim() == expected).then_some(())
        });
        assert!(told.is_some(), "{question:?}");
    };
    answers(&["n11999.cluster"], "10.54.47.223");
    answers(&["-x", "10.54.47.223"], "n11999.cluster.");
    drop(musterd);
    // What it has it tells without the head.
    answers(&["n23.cluster"], "10.54.1.23");
    answers(&["-x", "10.54.1.23"], "n23.cluster.");
    stop(&mut secondary, Signal::SIGTERM);
}

#[test]
fn others_names_are_asked_of_an_upstream() {
    let (lab, server, client) = lab();
    client.ip("address add 192.0.2.53/32 dev lo");
    server.ip("route add 192.0.2.0/24 via 10.54.0.2");
    // More than a datagram holds.
    let long: String = (0..40).map(|n| format!("  local-data: 'long.example. IN TXT \"{n:0>60}\"'\n")).collect();
    let data = format!("  local-zone: example. static\n  local-data: \"www.example. IN A 198.51.100.7\"\n{long}");
    let mut upstream = unbound(&lab, &client, "192.0.2.53", &data);
    let _musterd = Musterd::configured(&server, lab.dir(), &config("listen = \"127.0.0.1\"\nupstream = \"192.0.2.53\""));
    let own = server.run(20, "dig", &["@127.0.0.1", "+short", "www.example"]).must("dig on the head");
    assert_eq!(own.trim(), "198.51.100.7");
    assert_eq!((short(&client, "www.example"), short(&client, "n1.cluster")), ("198.51.100.7".into(), "10.54.1.1".into()));
    assert_eq!(short(&client, "+tcp www.example"), "198.51.100.7");
    assert!(dig(&client, "nobody.example").contains("status: NXDOMAIN"));
    assert!(dig(&client, "+ignore +noedns long.example TXT").contains("flags: qr tc rd ra;"));
    // dig asks again by TCP by itself.
    assert_eq!(short(&client, "long.example TXT").lines().count(), 40);
    assert_eq!(short(&client, "+tcp long.example TXT").lines().count(), 40);
    client.ip("address add 203.0.113.9/32 dev lo");
    server.ip("route add 203.0.113.0/24 via 10.54.0.2");
    assert!(dig(&client, "-b 203.0.113.9 www.example").contains("status: REFUSED"), "only for the served networks");
    stop(&mut upstream, Signal::SIGTERM);
    // Nobody waits for a server that is not there: the kernel says so.
    let begin = Instant::now();
    assert!(dig(&client, "+timeout=8 +tries=1 www.example").contains("status: SERVFAIL"));
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    client.ip("address del 192.0.2.53/32 dev lo");
    let begin = Instant::now();
    assert!(dig(&client, "+timeout=8 +tries=1 www.example").contains("status: SERVFAIL"));
    assert!((4..8).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
}

/// 1 to 3 of the faults that were found with real resolvers: a first upstream that is silent, or whose port is closed, cost 1.5 s at each
/// question, for ever; SERVFAIL and REFUSED were handed on; the fourth was never asked.
#[test]
fn the_upstream_that_answers_is_asked_first() {
    let (lab, server, client) = lab();
    for address in ["192.0.2.53/32", "192.0.2.62/32", "192.0.2.63/32"] {
        client.ip(&format!("address add {address} dev lo"));
    }
    server.ip("route add 192.0.2.0/24 via 10.54.0.2");
    let mut good =
        unbound(&lab, &client, "192.0.2.53", "  local-zone: example. static\n  local-data: \"www.example. IN A 198.51.100.7\"\n");
    let mut refusing = unbound(&lab, &client, "192.0.2.62", "  local-zone: example. always_refuse\n");
    // Silent, refusing, closed, and the one that answers.
    let upstream = "upstream = [\"192.0.2.61\", \"192.0.2.62\", \"192.0.2.63\", \"192.0.2.53\"]";
    let musterd = Musterd::configured(&server, lab.dir(), &config(upstream));
    let ask = || {
        let begin = Instant::now();
        assert_eq!(short(&client, "+timeout=8 +tries=1 www.example"), "198.51.100.7");
        begin.elapsed()
    };
    let first = ask();
    assert!((300..1000).contains(&first.as_millis()), "{first:?}");
    assert!(musterd.says("dns: upstream 192.0.2.53 is asked first from now on").is_some());
    for _ in 0..6 {
        let later = ask();
        assert!(later < Duration::from_millis(250), "{later:?}");
    }
    stop(&mut good, Signal::SIGTERM);
    stop(&mut refusing, Signal::SIGTERM);
}

/// 11 of them: sixteen ports for the daemon's life, and answers from anywhere were taken.
#[test]
fn each_question_has_a_port_of_its_own() {
    let (lab, server, client) = lab();
    let upstream = client.within(move || {
        let socket = UdpSocket::bind("10.54.0.2:53").expect("port 53");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        let (mut ports, mut spellings) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
        let mut buf = [0; 1500];
        for _ in 0..40 {
            let (len, from) = socket.recv_from(&mut buf).expect("a question");
            ports.insert(from.port());
            // From another port of the same machine nothing is taken, and nothing from it with other letters.
            let mut answer = buf[..len].to_vec();
            (answer[2], answer[3]) = (0x81, 0x80);
            spellings.insert(answer[12..].to_vec());
            let liar = UdpSocket::bind("10.54.0.2:0").expect("a port");
            let mut lie = answer.clone();
            lie[3] |= 3;
            liar.send_to(&lie, from).expect("send");
            socket.send_to(&answer, from).expect("answer");
        }
        (ports.len(), spellings.len())
    });
    let _musterd = Musterd::configured(&server, lab.dir(), &config("upstream = \"10.54.0.2\""));
    let name = "a.rather.long.name.of.somebody.else.example";
    for _ in 0..40 {
        let shown = dig(&server, &format!("+timeout=8 +tries=1 {name}"));
        assert!(shown.contains("status: NOERROR") && shown.contains(&format!(";{name}.")), "{shown}");
    }
    let (ports, spellings) = upstream.join().expect("the upstream ends");
    assert!(ports >= 38 && spellings == 40, "{ports} ports, {spellings} spellings");
}

#[test]
fn a_lost_question_is_asked_again() {
    let (lab, server, client) = lab();
    let heard = Arc::new(AtomicU32::new(0));
    let (count, first) = (Arc::clone(&heard), client.clone());
    let upstream = client.within(move || {
        let socket = UdpSocket::bind("10.54.0.2:53").expect("port 53");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        let mut senders = Vec::new();
        let mut buf = [0; 1500];
        for _ in 0..2 {
            let (len, from) = socket.recv_from(&mut buf).expect("a question");
            senders.push((from.port(), [buf[0], buf[1]]));
            // The first one is lost.
            if count.fetch_add(1, Ordering::Relaxed) == 1 {
                let mut answer = buf[..len].to_vec();
                (answer[2], answer[3], answer[7]) = (0x81, 0x80, 1);
                // Of the additional section nothing is said: the answer goes before it.
                answer[11] = 0;
                answer.truncate(12 + "www.example".len() + 2 + 4);
                answer.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc6\x33\x64\x07");
                socket.send_to(&answer, from).expect("answer");
            }
        }
        drop(first);
        senders
    });
    let _musterd = Musterd::configured(&server, lab.dir(), &config("upstream = \"10.54.0.2\""));
    assert_eq!(short(&server, "+timeout=8 +tries=1 www.example"), "198.51.100.7");
    let senders = upstream.join().expect("the upstream ends");
    assert_eq!(heard.load(Ordering::Relaxed), 2);
    assert_eq!(senders[0], senders[1], "a late answer to the first one would have counted as well");
}

#[test]
fn idle_connections_keep_nobody_out() {
    let (lab, server, client) = lab();
    let musterd = Musterd::plain(&server, lab.dir());
    let idle = client.within(|| {
        let connect = || TcpStream::connect("10.54.0.1:53").expect("connect");
        let mut idle: Vec<TcpStream> = (0..32).map(|_| connect()).collect();
        // Half a question keeps a place no longer than silence.
        idle[0].write_all(&[0, 40, 1]).expect("write");
        std::thread::sleep(Duration::from_secs(1));
        idle
    });
    let mut idle = idle.join().expect("they connect");
    for _ in 0..4 {
        assert_eq!(short(&client, "+tcp +tries=1 n23.cluster"), "10.54.1.23");
    }
    let begin = Instant::now();
    for stream in &mut idle {
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
        // The end, or a reset where half a question was left unread.
        assert!(!matches!(stream.read(&mut [0; 10]), Ok(1..)), "nothing was asked");
    }
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    let state = musterd.run_dir().join("state.json");
    musterd.signal(Signal::SIGUSR1);
    let state = wait(10, || Some(common::text(&state)).filter(|text| !text.is_empty())).expect("a state file");
    let count = |name: &str| -> u64 {
        let (_, rest) = state.split_once(&format!("\"{name}\",")).unwrap_or_else(|| panic!("{name}: {state}"));
        rest.split(']').next().and_then(|n| n.trim().parse().ok()).expect("a count")
    };
    let (made_room, idle) = (count("dns connections closed for others"), count("dns connections closed, idle"));
    assert!(made_room >= 1 && made_room + idle >= 32, "{made_room} {idle}");
}

#[test]
fn port_53_may_be_another_programs() {
    let (lab, server, client) = lab();
    write(&lab.dir().join("hello"), b"still here\n");
    let mut other = server.command("dnsmasq");
    other.args(["-k", "--conf-file=/dev/null", "--user=root", "--pid-file=", "--no-resolv", "--no-hosts"]);
    let mut other = other.stderr(Stdio::null()).spawn().expect("start another server");
    let taken = wait(10, || server.script(5, "ss -Hulpn sport = :53").output.contains("dnsmasq").then_some(()));
    assert!(taken.is_some(), "the other server listens");
    let musterd = Musterd::plain(&server, lab.dir());
    let told = ["dns: not served on 10.54.0.1 port 53", "another name server has the port", "[dns]"];
    assert!(musterd.seen_all(&told).is_some());
    assert_eq!(client.run(20, "curl", &["-s", "tftp://10.54.0.1/hello"]).must("machines boot"), "still here\n");
    stop(&mut other, Signal::SIGTERM);
    drop(musterd);
    let quiet = Musterd::configured(&server, lab.dir(), &config("enabled = false"));
    assert!(quiet.seen("served on").is_none());
    assert_eq!(server.script(5, "ss -Hulpnt sport = :53").output.trim(), "");
}

#[test]
fn a_config_that_is_read_again_is_in_force_at_once() {
    let (lab, server, client) = lab();
    let musterd = Musterd::configured(&server, lab.dir(), &config(""));
    let serial = || short(&client, "cluster SOA").split(' ').nth(2).and_then(|serial| serial.parse::<u32>().ok()).expect("a serial");
    let first = serial();
    assert!(dig(&client, "cluster AXFR").contains("Transfer failed") && short(&client, "n1024.cluster").is_empty());
    let reload = |text: &str, told: &str| {
        Musterd::reconfigure(&server, text);
        musterd.signal(Signal::SIGHUP);
        assert!(wait(10, || musterd.seen(told)).is_some(), "{told}");
    };
    reload(&config("transfer = \"10.54.0.2\"").replace("1024", "1100"), "[dns]: transfer [] -> [\"10.54.0.2\"]");
    let longer = wait(10, || Some(short(&client, "n1099.cluster")).filter(|address| address == "10.54.5.75"));
    assert!(longer.is_some() && serial() > first);
    assert!(dig(&client, "cluster AXFR").contains("n1099.cluster."));
    reload(&config("enabled = false"), "[dns] enabled true -> false");
    assert!(wait(10, || musterd.seen("restart musterd to apply these changes")).is_some());
    assert_eq!(short(&client, "n1.cluster"), "10.54.1.1");
}

/// 4 of the faults that were found with real secondaries: each restart was a transfer, and a clock that went back ended them all.
#[test]
fn the_serial_stays_with_the_plan_and_never_goes_back() {
    let (lab, server, client) = lab();
    let state = lab.dir().join("state");
    let serial = |daemon: &str| -> u32 {
        let soa = short(&client, "cluster SOA");
        soa.split(' ').nth(2).and_then(|serial| serial.parse().ok()).unwrap_or_else(|| panic!("{daemon}: {soa}"))
    };
    let kept = || wait(10, || Some(common::text(&state.join("serial"))).filter(|text| text.contains("serial "))).expect("it is kept");
    let musterd = Musterd::keeping(&server, lab.dir(), &config(""), &state);
    let first = serial("the first daemon");
    assert!(kept().contains(&format!("serial {first} of ")));
    drop(musterd);
    std::thread::sleep(Duration::from_millis(1100));
    let musterd = Musterd::keeping(&server, lab.dir(), &config(""), &state);
    assert_eq!(serial("after a restart"), first);
    drop(musterd);
    // What a daemon whose clock was a year ahead has left.
    let ahead = first + 31_536_000;
    write(&state.join("serial"), kept().replace(&first.to_string(), &ahead.to_string()).as_bytes());
    let musterd = Musterd::keeping(&server, lab.dir(), &config("").replace("1024", "1100"), &state);
    assert_eq!(serial("with another plan"), ahead + 1);
    drop(musterd);
}

/// Who takes nothing, and who sends what no question can be, is let go; others get their zone meanwhile.
#[test]
fn slow_readers_and_long_messages_are_let_go() {
    let (lab, server, client) = lab();
    let text = "[cluster]\nnode0 = \"10.54.1.0\"\nnodes = 12000\n[server]\ncapacity = 16384\n[dns]\ntransfer = [\"10.54.0.2\"]\n";
    let musterd = Musterd::configured(&server, lab.dir(), text);
    let ended = client.within(|| {
        let connect = || {
            let stream = TcpStream::connect("10.54.0.1:53").expect("connect");
            stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a time-out");
            stream
        };
        let mut long = connect();
        long.write_all(&[0xff, 0xff, 0, 0]).expect("write");
        let begin = Instant::now();
        assert!(!matches!(long.read(&mut [0; 10]), Ok(1..)) && begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        let mut slow = connect();
        nix::sys::socket::setsockopt(&slow, nix::sys::socket::sockopt::RcvBuf, &4096).expect("a small buffer");
        let question = b"\0\x19\0\x07\x01\0\0\x01\0\0\0\0\0\0\x07cluster\0\0\xfc\0\x01";
        slow.write_all(question).expect("ask for the zone");
        std::thread::sleep(Duration::from_secs(13));
        let mut all = Vec::new();
        // What the kernels held, and then the end or a reset: not the whole zone, whose last record is its first.
        let end = slow.read_to_end(&mut all);
        (end.is_err() || all.len() < 200_000, all.len())
    });
    let whole = dig(&client, "+noall +answer cluster AXFR");
    assert!(whole.lines().count() >= 12_000, "others have it meanwhile");
    let (cut, len) = ended.join().expect("the reader ends");
    assert!(cut && len > 0, "{len} bytes");
    let path = musterd.run_dir().join("state.json");
    musterd.signal(Signal::SIGUSR1);
    let state = wait(10, || Some(common::text(&path)).filter(|text| text.ends_with("}\n"))).expect("a state file");
    assert!(state.contains("dns connections closed, slow") && state.contains("\"zone\": \"cluster\""), "{state}");
}

/// Names are asked for all the time while machines boot: all come up, and no transfer waits for an answer to somebody else.
#[test]
fn a_storm_does_not_wait_for_names() {
    let (mut lab, server, client) = lab();
    let rack = lab.attach("rack");
    write(&lab.dir().join("image"), &vec![7; 2_000_000]);
    let questions: String = (0..1024).map(|n| format!("n{n}.cluster A\n{}.{}.54.10.in-addr.arpa PTR\n", n % 256, 1 + n / 256)).collect();
    write(&lab.dir().join("questions"), questions.as_bytes());
    let _musterd = Musterd::configured(&server, lab.dir(), &config(""));
    let mut press = client.command("dnsperf");
    let questions = lab.dir().join("questions");
    press.args(["-s", HEAD, "-l", "20", "-Q", "2000", "-d"]).arg(&questions);
    let result = std::thread::scope(|scope| {
        let pressed = scope.spawn(|| client.finish(60, press).must("dnsperf"));
        let arguments = ["--interface", "eth0", "--json", "--count", "100", "--file", "image", "--timeout", "100", "--spread", "5"];
        let storm = rack.run(120, env!("CARGO_BIN_EXE_muster-storm"), &arguments).must("muster-storm");
        let storm: serde_json::Value = serde_json::from_str(&storm[storm.find('{').unwrap_or(0)..]).expect("JSON");
        (storm, pressed.join().expect("dnsperf ends"))
    });
    let (storm, pressed) = result;
    assert_eq!((storm["up"].as_u64(), storm["lost"].as_u64()), (Some(100), Some(0)), "{storm:#}");
    assert!(storm["longest_gap"].as_f64() <= Some(0.5), "{storm:#}");
    let line = |name: &str| pressed.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{name}: {pressed}")).to_string();
    let number = |line: &str| line.split_whitespace().find_map(|word| word.parse::<f64>().ok()).expect("a number");
    let (sent, completed) = (number(&line("Queries sent:")), number(&line("Queries completed:")));
    assert!(sent > 10_000.0 && completed >= 0.99 * sent, "{pressed}");
    assert!(line("Response codes:").contains("NOERROR") && !line("Response codes:").contains("NXDOMAIN"), "{pressed}");
}

/// A client may send several questions at once and hang up its side: each is answered (RFC 7766, 6.2.1).
#[test]
fn questions_in_a_row_are_answered_in_a_row() {
    let (lab, server, client) = lab();
    let _musterd = Musterd::plain(&server, lab.dir());
    let answers = client.within(|| {
        let mut stream = TcpStream::connect((Ipv4Addr::new(10, 54, 0, 1), 53)).expect("connect");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        let mut bytes = Vec::new();
        for id in 0..50u8 {
            let question = [&[0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, b'n', b'7', 7][..], b"cluster\0\0\x01\0\x01"].concat();
            bytes.extend((question.len() as u16).to_be_bytes());
            bytes.extend(question);
        }
        // In pieces that fit no message.
        for piece in bytes.chunks(7) {
            stream.write_all(piece).expect("write");
        }
        stream.shutdown(std::net::Shutdown::Write).expect("half a hang-up");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("the answers and the end");
        all
    });
    let answers = answers.join().expect("all is read");
    let mut rest = answers.as_slice();
    for id in 0..50 {
        let len = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        assert_eq!((rest[3], &rest[2 + len - 4..2 + len]), (id, &[10, 54, 1, 7][..]));
        rest = &rest[2 + len..];
    }
    assert!(rest.is_empty());
}
