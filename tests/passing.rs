//! A node passes muster: `muster-in` against the real `musterd`, and against a head of the test's own that says what the test wants.

mod common;
#[path = "common/veth.rs"]
#[allow(dead_code)]
mod veth;

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::musterd::Musterd;
use common::{Host, Lab, Outcome, pid, wait};
use muster::base::addr::Mac;
use muster::base::machine::{Input, Machine};
use muster::base::outbox::Outbox;
use muster::base::time::{Instant as Time, Now};
use muster::shell::Shell;
use muster::wire::dhcp::{Header, MessageBuilder, MessageType, Scratch, code, parse};
use muster::wire::ether::{self, Arp, ArpOp, Checksum, Frame};
use muster::wire::report::{Report, ReportVerdict};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use veth::{HEAD, OURS, PEER, facts, in_a_namespace};

const MUSTER_IN: &str = env!("CARGO_BIN_EXE_muster-in");
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 54, 250, 3);
const NODE: Ipv4Addr = Ipv4Addr::new(10, 54, 1, 17);

/// What the head heard.
#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Time,
    kind: MessageType,
    xid: u32,
    ciaddr: Ipv4Addr,
    requested: Option<Ipv4Addr>,
    to: Ipv4Addr,
    report: Option<Report>,
}

/// What it answers.
#[derive(Clone, Copy)]
struct Answer {
    kind: MessageType,
    address: Ipv4Addr,
    seconds: u32,
    host_name: &'static str,
}

impl Answer {
    fn of(kind: MessageType, address: Ipv4Addr) -> Option<Answer> {
        Some(Answer { kind, address, seconds: 600, host_name: "" })
    }
}

type Script = Box<dyn FnMut(&Heard) -> Option<Answer>>;

/// A head on the other end of the cable.
struct Server {
    script: Script,
    heard: Vec<Heard>,
    scratch: Scratch,
}

impl Server {
    fn new(script: impl FnMut(&Heard) -> Option<Answer> + 'static) -> Server {
        Server { script: Box::new(script), heard: Vec::new(), scratch: Scratch::default() }
    }

    /// Milliseconds of the messages of a kind since the first message of all.
    fn times(&self, kind: MessageType) -> Vec<u64> {
        let first = self.heard.first().map_or(Time::ZERO, |heard| heard.at);
        self.heard.iter().filter(|heard| heard.kind == kind).map(|heard| heard.at.since(first).as_millis() as u64).collect()
    }

    fn kinds(&self) -> Vec<MessageType> {
        self.heard.iter().map(|heard| heard.kind).collect()
    }
}

impl Machine for Server {
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Outbox) {
        let Input::Frame { bytes, .. } = input else { return };
        let Ok(Frame::Udp(udp)) = ether::parse(bytes, Checksum::Trusted) else { return };
        if udp.dst.port() != 67 {
            return;
        }
        let message = parse(udp.payload, &mut self.scratch).expect("DHCP");
        let heard = Heard {
            at: now.at,
            kind: message.message_type().expect("a type"),
            xid: message.header.xid,
            ciaddr: message.header.ciaddr,
            requested: message.requested_ip(),
            to: *udp.dst.ip(),
            report: message.option(224).and_then(Report::parse),
        };
        self.heard.push(heard);
        let Some(answer) = (self.script)(&heard) else { return };
        let header = Header { op: 2, yiaddr: answer.address, ciaddr: Ipv4Addr::UNSPECIFIED, ..message.header };
        let mut buf = [0; 576];
        let mut builder = MessageBuilder::new(&mut buf, &header, 548).expect("room");
        builder.message_type(answer.kind);
        builder.ip(code::SERVER_ID, HEAD);
        builder.ip(code::ROUTER, HEAD);
        builder.u32(code::SUBNET_MASK, 0xffff_0000);
        builder.u32(code::LEASE_TIME, answer.seconds);
        if !answer.host_name.is_empty() {
            builder.option(code::HOST_NAME, answer.host_name.as_bytes());
        }
        let len = builder.finish(None);
        let (from, to) = (std::net::SocketAddrV4::new(HEAD, 67), std::net::SocketAddrV4::new(Ipv4Addr::BROADCAST, 68));
        out.frame(0, |frame| ether::emit_udp(frame, OURS, Mac::BROADCAST, from, to, 1, &buf[..len]));
    }

    fn expire(&mut self, _: Now, _: &mut Outbox) {}

    fn deadline(&self) -> Option<Time> {
        None
    }
}

/// `muster-in` on `v1`, in the namespaces of this thread.
fn start(arguments: &[&str]) -> Child {
    let mut command = Command::new(MUSTER_IN);
    command.args(["-i", "v1", "--nic", "v1"]).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("start muster-in")
}

/// Serves until a condition holds.
fn serve(shell: &mut Shell, server: &mut Server, seconds: u64, mut done: impl FnMut(&Server) -> bool) {
    let end = Instant::now() + Duration::from_secs(seconds);
    while !done(server) {
        assert!(Instant::now() < end, "nothing came of it: {:?}", server.heard);
        shell.turn(server, Duration::from_millis(5)).expect("a turn");
    }
}

/// Runs it to its end: exit code, standard output, standard error.
fn run(server: &mut Server, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut shell = Shell::frames(&facts("v0", OURS)).expect("a packet socket");
    let mut child = start(arguments);
    serve(&mut shell, server, 60, |_| child.try_wait().expect("a child of ours").is_some());
    output(child)
}

fn output(child: Child) -> (Option<i32>, String, String) {
    let output = child.wait_with_output().expect("its output");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn tool(line: &str) -> String {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap_or("")).args(words).output().expect("a tool that scripts/setup installs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The addresses of `v1`, one in a line.
fn addresses() -> Vec<String> {
    let shown = tool("ip -4 -oneline address show dev v1");
    shown.lines().filter_map(|line| line.split_whitespace().nth(3).map(str::to_owned)).collect()
}

/// Gives the address that is asked for, with this name and lease.
fn giving(address: Ipv4Addr, host_name: &'static str, seconds: u32) -> impl FnMut(&Heard) -> Option<Answer> {
    move |heard| {
        let kind = match heard.kind {
            MessageType::Discover => MessageType::Offer,
            MessageType::Request => MessageType::Ack,
            _ => return None,
        };
        Some(Answer { kind, address, seconds, host_name })
    }
}

/// Notes what a client's socket lets in.
#[derive(Default)]
struct Notes(Vec<String>);

impl Machine for Notes {
    fn handle(&mut self, _: Now, input: Input<'_>, _: &mut Outbox) {
        match input {
            Input::Datagram(udp) if udp.mac == Some(OURS) => self.0.push(String::from_utf8_lossy(udp.payload).into_owned()),
            Input::Arp { mac: OURS, sender, .. } => self.0.push(format!("arp {sender}")),
            _ => {}
        }
    }

    fn expire(&mut self, _: Now, _: &mut Outbox) {}

    fn deadline(&self) -> Option<Time> {
        None
    }
}

#[test]
fn a_client_hears_replies_and_arp_and_nothing_else() {
    in_a_namespace(|| {
        let mut client = Shell::client(&muster::fleet::passing::PassingMachine::endpoints(), &facts("v1", PEER)).expect("a packet socket");
        let mut peer = Shell::frames(&facts("v0", OURS)).expect("a packet socket");
        let frame = |port: u16, text: &str| {
            let (from, to) = (std::net::SocketAddrV4::new(HEAD, 67), std::net::SocketAddrV4::new(GUEST, port));
            let mut buf = vec![0; 200];
            let len = ether::emit_udp(&mut buf, OURS, PEER, from, to, 1, text.as_bytes()).expect("room");
            buf.truncate(len);
            buf
        };
        let mut fragment = frame(68, "fragment");
        fragment[20] = 0x20;
        let mut arp = vec![0; 60];
        let claim = Arp { operation: ArpOp::Reply, sender_mac: OURS, sender_ip: GUEST, target_mac: PEER, target_ip: GUEST };
        ether::emit_arp(&mut arp, &claim).expect("room");
        let mut saying = Saying(vec![frame(67, "to a server"), frame(2049, "NFS"), fragment, frame(68, "offer"), arp, frame(68, "last")]);
        let mut notes = Notes::default();
        let end = Instant::now() + Duration::from_secs(10);
        while !notes.0.iter().any(|line| line == "last") && Instant::now() < end {
            peer.turn(&mut saying, Duration::from_millis(5)).expect("a turn");
            client.turn(&mut notes, Duration::from_millis(5)).expect("a turn");
        }
        assert_eq!(notes.0, ["offer", "arp 10.54.250.3", "last"]);
    });
}

/// Sends frames, once.
struct Saying(Vec<Vec<u8>>);

impl Machine for Saying {
    fn handle(&mut self, _: Now, _: Input<'_>, _: &mut Outbox) {}

    fn expire(&mut self, _: Now, out: &mut Outbox) {
        for frame in self.0.drain(..) {
            out.frame(0, |buf| buf.get_mut(..frame.len()).map(|to| to.copy_from_slice(&frame)).map(|()| frame.len()));
        }
    }

    fn deadline(&self) -> Option<Time> {
        (!self.0.is_empty()).then_some(Time::ZERO)
    }
}

#[test]
fn four_discovers_leave_in_the_first_second_and_then_one_a_second() {
    in_a_namespace(|| {
        let mut server = Server::new(|_| None);
        let (code, out, err) = run(&mut server, &["--no-test", "--timeout", "5"]);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
        assert!(err.contains("no lease within 5 s") && err.contains("no offer"), "{err}");
        let times = server.times(MessageType::Discover);
        assert_eq!(times.iter().filter(|&&at| at < 1000).count(), 4, "{times:?}");
        let near = |at: u64, wanted: u64| (wanted.saturating_sub(20)..wanted + 220).contains(&at);
        assert!(
            times.len() >= 7 && times.iter().zip([0, 250, 500, 750, 1750, 2750, 3750]).all(|(at, wanted)| near(*at, wanted)),
            "{times:?}"
        );
        for heard in &server.heard {
            let report = heard.report.expect("a report in each");
            assert_eq!((report.macs.as_slice(), report.verdict), (&[PEER][..], ReportVerdict::Untested));
        }
        assert!(addresses().is_empty());
    });
}

#[test]
fn a_nak_makes_it_begin_anew() {
    in_a_namespace(|| {
        let mut naks = 0;
        let mut server = Server::new(move |heard| match heard.kind {
            MessageType::Discover if naks == 0 => Answer::of(MessageType::Offer, GUEST),
            MessageType::Discover => Answer::of(MessageType::Offer, NODE),
            MessageType::Request if naks == 0 => {
                naks += 1;
                Answer::of(MessageType::Nak, Ipv4Addr::UNSPECIFIED)
            }
            _ => Answer::of(MessageType::Ack, NODE),
        });
        let (code, out, err) = run(&mut server, &["--no-test"]);
        assert_eq!(code, Some(0), "{err}");
        assert!(out.contains("ADDRESS='10.54.1.17'\n") && err.contains("the server denied the address"), "{out}{err}");
        use MessageType::{Discover, Request};
        assert_eq!(server.kinds(), [Discover, Request, Discover, Request]);
        assert_ne!(server.heard[0].xid, server.heard[2].xid);
        assert_eq!((server.heard[1].requested, server.heard[3].requested), (Some(GUEST), Some(NODE)));
        assert_eq!(addresses(), ["10.54.1.17/16"]);
    });
}

#[test]
fn an_address_that_somebody_has_is_declined() {
    in_a_namespace(|| {
        tool("ip address add 10.54.250.3/32 dev v0");
        let mut declined = false;
        let mut server = Server::new(move |heard| {
            declined |= heard.kind == MessageType::Decline;
            giving(if declined { NODE } else { GUEST }, "", 600)(heard)
        });
        let (code, out, err) = run(&mut server, &["--no-test"]);
        assert_eq!(code, Some(0), "{err}");
        assert!(out.contains("ADDRESS='10.54.1.17'\n") && err.contains("declined 10.54.250.3 (in use by 02:00:00:00:00:0a"), "{out}{err}");
        let decline = server.heard.iter().find(|heard| heard.kind == MessageType::Decline).expect("a DECLINE");
        assert_eq!((decline.requested, decline.ciaddr, decline.to), (Some(GUEST), Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST));
        let mut server = Server::new(giving(GUEST, "", 600));
        assert_eq!(run(&mut server, &["--no-test", "--no-probe"]).0, Some(0), "unless it is told not to look");
    });
}

/// A guest becomes a node in one boot: no flap, no moment without an address, and the name of its number.
#[test]
fn a_guest_becomes_a_node_without_dropping_its_link() {
    in_a_namespace(|| {
        unshare(CloneFlags::CLONE_NEWUTS).expect("a UTS namespace");
        let (code, out, err) = run(&mut Server::new(giving(GUEST, "", 600)), &["--no-test"]);
        assert_eq!(code, Some(0), "{err}");
        assert!(out.contains("NUMBER=''\n") && out.contains("LEASE='600'\n"), "{out}");
        assert_eq!(addresses(), ["10.54.250.3/16"]);
        let valid = tool("ip -4 address show dev v1");
        assert!(valid.contains("valid_lft 59") && !valid.contains("forever"), "a guest's address ends with its lease: {valid}");
        assert_eq!(tool("ip route show default"), "default via 10.54.0.1 dev v1 proto dhcp \n");

        let mut monitor = Command::new("ip");
        let mut monitor = monitor.args(["monitor", "link", "address"]).stdout(Stdio::piped()).spawn().expect("ip monitor");
        std::thread::sleep(Duration::from_millis(300));
        let (code, out, err) = run(&mut Server::new(giving(NODE, "n17", 600)), &["--no-test"]);
        std::thread::sleep(Duration::from_millis(200));
        kill(pid(&monitor), Signal::SIGKILL).expect("the monitor runs");
        let seen = output_of(&mut monitor);
        assert_eq!(code, Some(0), "{err}");
        assert!(out.contains("NUMBER='17'\n") && out.contains("HOSTNAME='n17'\n") && out.contains("ROUTER='10.54.0.1'\n"), "{out}");
        assert_eq!(addresses(), ["10.54.1.17/16"]);
        assert!(tool("ip -4 address show dev v1").contains("valid_lft forever"), "a node's address stays");
        assert_eq!(tool("uname -n"), "n17\n");
        assert_eq!(tool("ip route show default"), "default via 10.54.0.1 dev v1 proto dhcp \n");
        let at = |what: &str| seen.find(what).unwrap_or_else(|| panic!("{what:?} was not seen:\n{seen}"));
        assert!(at("inet 10.54.1.17/16") < at("Deleted") && !seen.contains("DOWN"), "{seen}");
    });
}

fn output_of(child: &mut Child) -> String {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().expect("a pipe"), &mut text).expect("text");
    let _ = child.wait();
    text
}

#[test]
fn it_renews_until_it_is_told_to_leave() {
    in_a_namespace(|| {
        let mut requests = 0;
        // A lease of 8 s is renewed after 4 s; the second renewal is denied, since the guest has a number by now.
        let mut server = Server::new(move |heard| {
            requests += u32::from(heard.kind == MessageType::Request);
            match (heard.kind, requests) {
                (MessageType::Request, 3) => Answer::of(MessageType::Nak, Ipv4Addr::UNSPECIFIED),
                (_, 0..3) => giving(GUEST, "", 8)(heard),
                _ => giving(NODE, "n17", 600)(heard),
            }
        });
        unshare(CloneFlags::CLONE_NEWUTS).expect("a UTS namespace");
        let mut shell = Shell::frames(&facts("v0", OURS)).expect("a packet socket");
        let mut child = start(&["--renew", "--no-test", "--no-probe"]);
        serve(&mut shell, &mut server, 60, |_| addresses() == ["10.54.1.17/16"]);
        assert!(child.try_wait().expect("a child of ours").is_none(), "it stays");
        kill(pid(&child), Signal::SIGTERM).expect("it runs");
        let begin = Instant::now();
        serve(&mut shell, &mut server, 10, |_| child.try_wait().expect("a child of ours").is_some());
        assert!(begin.elapsed() < Duration::from_secs(3), "it leaves at once");
        let (code, out, err) = output(child);
        assert_eq!(code, Some(0), "{err}");
        assert_eq!(out.matches("ADDRESS='10.54.250.3'").count(), 1, "told once, though renewed: {out}");
        assert!(out.ends_with("NUMBER='17'\nVERDICT='untested'\n"), "{out}");
        use MessageType::{Discover, Request};
        assert_eq!(server.kinds(), [Discover, Request, Request, Request, Discover, Request]);
        let renewal = server.heard[2];
        assert_eq!((renewal.ciaddr, renewal.requested, renewal.to), (GUEST, None, HEAD));
        let after = renewal.at.since(server.heard[1].at);
        assert!(after > Duration::from_millis(3900) && after < Duration::from_millis(5500), "{after:?}");
    });
}

/// A folder of tests.
struct Tests(PathBuf);

impl Tests {
    fn new(folder: &Path, name: &str, tests: &[(&str, &str)]) -> Tests {
        let path = folder.join(name);
        fs::create_dir_all(&path).expect("a folder");
        for (name, script) in tests {
            let test = path.join(name);
            fs::write(&test, format!("#!/bin/sh\n{script}\n")).expect("a script");
            fs::set_permissions(&test, fs::Permissions::from_mode(0o755)).expect("its mode");
        }
        Tests(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path of ours")
    }
}

fn muster_in(host: &Host, arguments: &[&str]) -> Outcome {
    let mut command = host.command("unshare");
    command.args(["--uts", MUSTER_IN, "--nic", "eth0"]).args(arguments);
    host.finish(60, command)
}

fn ended(outcome: Outcome, code: i32, words: &[&str]) -> String {
    assert_eq!(outcome.code, Some(code), "{}", outcome.output);
    for word in words {
        assert!(outcome.output.contains(word), "{word:?} is not in: {}", outcome.output);
    }
    outcome.output
}

#[test]
fn musterd_takes_it_in() {
    let mut lab = Lab::new();
    let server = lab.server("10.54.0.1/16");
    let node = lab.attach("node");
    let config = format!(
        "[cluster]\nnode0 = \"10.54.1.0\"\nnodes = 16\nguests = \"10.54.250.0-10.54.250.9\"\nnumbering = \"locked\"\n\
         [[network]]\ninterface = \"eth0\"\nrouter = \"10.54.0.1\"\ndns = \"10.54.0.1\"\n\
         [[node]]\nnumber = 7\nmacs = [\"{}\"]\n",
        node.mac("eth0")
    );
    let stranger = lab.attach("stranger");
    let _musterd = Musterd::configured(&server, lab.dir(), &config);

    let passing = Tests::new(lab.dir(), "passing", &[("10-a", "echo to the log; exit 0"), ("20-b", "exit 0")]);
    let told =
        ended(muster_in(&stranger, &["--tests", passing.path()]), 4, &["VERDICT='passed'", "NUMBER=''", "PREFIX='16'", "DNS='10.54.0.1'"]);
    assert!(told.contains("ADDRESS='10.54.250.") && told.contains("to the log") && told.contains("test 20-b: passed"), "{told}");
    assert!(stranger.ip("-4 address show dev eth0").contains("10.54.250."));
    let failing = Tests::new(lab.dir(), "failing", &[("20-memory", "exit 3"), ("10-good", "true"), ("30-never", "echo should not run")]);
    let told = ended(muster_in(&stranger, &["-d", failing.path()]), 3, &["VERDICT='failed 20-memory'", "exit status 3"]);
    assert!(!told.contains("should not run"), "{told}");
    // No folder is no test that could fail.
    ended(muster_in(&stranger, &["-d", "/nonexistent"]), 4, &["VERDICT='passed'"]);
    ended(muster_in(&stranger, &["--no-test"]), 0, &["VERDICT='untested'"]);

    let told = ended(muster_in(&node, &["-d", passing.path()]), 0, &["ADDRESS='10.54.1.7'", "NUMBER='7'", "HOSTNAME='n7'"]);
    assert!(told.contains("node 7"), "{told}");
    assert_eq!(node.ip("route show default").trim(), "default via 10.54.0.1 dev eth0 proto dhcp");
}

#[test]
fn tests_have_a_time_limit_and_leave_nothing_behind() {
    let mut lab = Lab::new();
    let server = lab.server("10.54.0.1/16");
    let node = lab.attach("node");
    let _musterd = Musterd::plain(&server, lab.dir());
    let mark = lab.dir().join("alive");
    let slow = format!("(while :; do date >{}; sleep 0.1; done) & sleep 600", mark.display());
    let tests = Tests::new(lab.dir(), "slow", &[("50-slow", &slow)]);
    let outcome = muster_in(&node, &["-d", tests.path(), "--test-limit", "1"]);
    assert!(outcome.took < Duration::from_secs(15), "{:?}", outcome.took);
    ended(outcome, 3, &["VERDICT='failed 50-slow'", "it was killed after 1 s"]);
    // What it had started in the background is gone too, also where the test itself has ended.
    let left = Tests::new(lab.dir(), "left", &[("10-left", &format!("(while :; do date >{}; sleep 0.1; done) & exit 0", mark.display()))]);
    ended(muster_in(&node, &["-d", left.path()]), 0, &["VERDICT='passed'", "NUMBER='0'"]);
    fs::remove_file(&mark).expect("the tests have run");
    assert!(wait(1, || mark.exists().then_some(())).is_none(), "a process of a test goes on");

    for signal in ["SEGV", "TERM"] {
        let killed = Tests::new(lab.dir(), "killed", &[("10-killed", &format!("kill -{signal} $$; exit 0"))]);
        ended(muster_in(&node, &["-d", killed.path()]), 3, &["VERDICT='failed 10-killed'", &format!("killed by SIG{signal}")]);
    }
    let broken = Tests::new(lab.dir(), "broken", &[]);
    fs::write(broken.0.join("05-readme"), "no test").expect("a file");
    fs::create_dir(broken.0.join("06-folder")).expect("a folder");
    fs::write(broken.0.join("10-broken"), "#!/nonexistent/interpreter\n").expect("a file");
    fs::set_permissions(broken.0.join("10-broken"), fs::Permissions::from_mode(0o755)).expect("its mode");
    ended(muster_in(&node, &["-d", broken.path()]), 3, &["failed 10-broken", "cannot start it", "05-readme: skipped (not executable)"]);
}

#[test]
fn every_refusal_is_a_sentence_with_the_remedy() {
    let mut lab = Lab::new();
    let node = lab.attach("node");
    let with = |arguments: &[&str]| {
        let mut command = node.command(MUSTER_IN);
        command.args(arguments);
        node.finish(30, command)
    };
    let help = with(&["--help"]).must("help");
    assert!(help.lines().count() <= 24 && help.lines().all(|line| line.len() <= 100), "{help}");
    assert!(with(&["-V"]).must("version").starts_with(concat!("muster-in ", env!("CARGO_PKG_VERSION"), " (")));
    ended(with(&["--frobnicate"]), 1, &["frobnicate", "--help"]);
    ended(with(&["eth0"]), 1, &["\"eth0\""]);
    ended(with(&["--option", "53"]), 1, &["--option", "224 to 253"]);
    ended(with(&["--no-test", "-d", "/x"]), 1, &["excludes"]);
    ended(with(&["-i", "eth7"]), 1, &["no Ethernet interface eth7", "eth0"]);
    ended(with(&["--nic", "eth7"]), 1, &["no Ethernet interface eth7"]);
    ended(with(&["--nic", "eth0", "-d", "/etc/passwd"]), 1, &["/etc/passwd", "--tests"]);
    // No card is physical here.
    ended(with(&["--no-test"]), 1, &["no Ethernet card", "-i"]);
}

/// Without `-i` the cable decides.
#[test]
fn the_card_with_the_cable_is_chosen() {
    let mut lab = Lab::new();
    let server = lab.server("10.54.0.1/16");
    let node = lab.attach("node");
    let _musterd = Musterd::plain(&server, lab.dir());
    // Its other end stays down.
    node.ip("link add eth1 type veth peer name loose");
    node.ip("link set eth0 down");
    let chosen = muster_in(&node, &["--nic", "eth1", "--no-test"]);
    ended(chosen, 0, &["INTERFACE='eth0'", "2 of 2 cards"]);
    assert!(!node.ip("link show dev eth1").contains(",UP"), "what was set up in vain is down again");
    node.ip("link set eth1 up");
    node.ip("link set loose up");
    ended(muster_in(&node, &["--nic", "eth1", "--no-test"]), 1, &["several cards have a cable", "eth0, eth1", "-i"]);
}
