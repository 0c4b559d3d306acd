//! The shell against the kernel: what its sockets let in and send out, on a veth in a network namespace of the test's own.

#[path = "common/veth.rs"]
mod veth;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use muster::base::addr::Mac;
use muster::base::facts::Hardware;
use muster::base::limits::OUTPUTS_PER_CALL;
use muster::base::machine::{Input, Machine};
use muster::base::outbox::{Outbox, Output, Via};
use muster::base::time::{Instant as Time, Now};
use muster::shell::{Features, Shell};
use muster::wire::ether::{self, Arp, ArpOp, Checksum, Frame, RouterSolicit};
use veth::{CLIENT, EVERYBODY, HEAD, NOBODY, OURS, PEER, config, facts, in_a_namespace, udp};

const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The row of a port in the table of endpoints.
fn row(from: SocketAddrV4) -> u16 {
    muster::engine::endpoints::Endpoints::new(&config(Hardware::Ethernet)).udp(0, from.port())
}

type Say = Box<dyn FnMut(&mut Outbox)>;

/// A machine that notes what it is given, and puts out what it is told to.
#[derive(Default)]
struct Notes {
    heard: Vec<String>,
    frames: Vec<Vec<u8>>,
    say: Option<Say>,
}

impl Machine for Notes {
    fn handle(&mut self, _: Now, input: Input<'_>, _: &mut Outbox) {
        match input {
            Input::Frame { bytes, .. } => match ether::parse(bytes, Checksum::Trusted) {
                Ok(Frame::RouterSolicit(solicit)) => self.heard.push(format!("{} solicit", solicit.src_mac)),
                _ => self.frames.push(bytes.to_vec()),
            },
            Input::Link { .. } => {}
            Input::Datagram(d) => {
                let text = String::from_utf8_lossy(d.payload);
                let mac = d.mac.map_or("-".into(), |mac| mac.to_string());
                self.heard.push(format!("{mac} {} > {} {text}", d.src, d.dst));
            }
            Input::Arp { mac, sender, .. } => self.heard.push(format!("{mac} arp {sender}")),
            other => self.heard.push(format!("{other:?}")),
        }
    }

    fn expire(&mut self, _: Now, out: &mut Outbox) {
        if let Some(mut say) = self.say.take() {
            say(out);
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.say.as_ref().map(|_| Time::ZERO)
    }
}

/// Turns both loops until the condition holds.
fn turn_until(server: &mut Shell, ours: &mut Notes, peer: &mut Shell, theirs: &mut Notes, done: impl Fn(&Notes, &Notes) -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        server.turn(ours, Duration::from_millis(5)).expect("a turn");
        peer.turn(theirs, Duration::from_millis(5)).expect("a turn");
        if done(ours, theirs) {
            return true;
        }
    }
    false
}

fn say(frames: Vec<Vec<u8>>) -> Option<Say> {
    Some(Box::new(move |out| {
        for frame in &frames {
            assert!(out.frame(0, |buf| {
                buf[..frame.len()].copy_from_slice(frame);
                Some(frame.len())
            }));
        }
    }))
}

#[test]
fn the_filter_lets_in_what_a_boot_server_needs() {
    in_a_namespace(|| {
        let mut server = veth::server(&config(Hardware::Ethernet), Features::ALL);
        let mut peer = Shell::frames(&facts("v1", PEER)).unwrap();
        let (mut ours, mut theirs) = (Notes::default(), Notes::default());

        let dhcp = udp(Mac::BROADCAST, NOBODY, EVERYBODY, "discover");
        let mut damaged = dhcp.clone();
        damaged[45] ^= 1;
        let mut fragment = dhcp.clone();
        fragment[20] = 0x20;
        let mut tagged = dhcp.clone();
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        let mut priority = udp(Mac::BROADCAST, NOBODY, EVERYBODY, "priority");
        priority.splice(12..12, [0x81, 0, 0xe0, 0]);
        let arp = |sender_ip| {
            let mut buf = [0; 60];
            let arp = Arp { operation: ArpOp::Request, sender_mac: PEER, sender_ip, target_mac: Mac::ZERO, target_ip: CLIENT };
            ether::emit_arp(&mut buf, &arp).unwrap();
            buf.to_vec()
        };
        let mut solicit = vec![0; 100];
        let len = ether::emit_router_solicit(&mut solicit, PEER, Ipv6Addr::UNSPECIFIED).unwrap();
        solicit.truncate(len);
        let offer = udp(Mac::BROADCAST, SocketAddrV4::new(CLIENT, 67), SocketAddrV4::new(Ipv4Addr::BROADCAST, 68), "offer");
        let other = udp(OURS, SocketAddrV4::new(CLIENT, 4000), SocketAddrV4::new(HEAD, 9999), "other");
        let tftp = udp(OURS, SocketAddrV4::new(CLIENT, 4000), SocketAddrV4::new(HEAD, 69), "read");
        let last = udp(Mac::BROADCAST, NOBODY, EVERYBODY, "last");
        let frames =
            vec![dhcp, damaged, fragment, tagged, priority, arp(Ipv4Addr::UNSPECIFIED), arp(CLIENT), solicit, offer, other, tftp, last];
        theirs.say = say(frames);
        let ended = |ours: &Notes, _: &Notes| {
            ours.heard.iter().any(|line| line.ends_with(" last")) && ours.heard.iter().any(|line| line.ends_with(" read"))
        };
        assert!(turn_until(&mut server, &mut ours, &mut peer, &mut theirs, ended), "{:?}", ours.heard);
        let mut heard: Vec<&str> = ours.heard.iter().map(String::as_str).filter(|line| !line.contains(&OURS.to_string())).collect();
        heard.sort_unstable();
        let b = PEER.to_string();
        let mut expected = [
            format!("{b} 0.0.0.0:68 > 255.255.255.255:67 discover"),
            format!("{b} 0.0.0.0:68 > 255.255.255.255:67 priority"),
            format!("{b} 0.0.0.0:68 > 255.255.255.255:67 last"),
            format!("{b} 10.54.9.9:67 > 255.255.255.255:68 offer"),
            format!("{b} arp 10.54.9.9"),
            format!("{b} solicit"),
            format!("{b} 10.54.9.9:4000 > 10.54.0.1:69 read"),
        ];
        expected.sort_unstable();
        assert_eq!(heard, expected);
        let stats: Vec<_> = server.stats().collect();
        assert!(stats.contains(&("frame dropped: UDP checksum".to_string(), 1)), "{stats:?}");
    });
}

#[test]
fn a_checksum_that_the_kernel_left_unfilled_is_good() {
    in_a_namespace(|| {
        let mut server = veth::server(&config(Hardware::Ethernet), Features::ALL);
        let mut ours = Notes::default();
        let socket = UdpSocket::bind("0.0.0.0:68").unwrap();
        socket.set_broadcast(true).unwrap();
        nix::sys::socket::setsockopt(&socket.as_fd(), nix::sys::socket::sockopt::BindToDevice, &"v1".into()).unwrap();
        socket.send_to(b"from the kernel", EVERYBODY).unwrap();
        let end = Instant::now() + Duration::from_secs(5);
        while ours.heard.is_empty() && Instant::now() < end {
            server.turn(&mut ours, Duration::from_millis(10)).unwrap();
        }
        assert!(
            ours.heard.iter().any(|line| line.ends_with("from the kernel")),
            "{:?} {:?}",
            ours.heard,
            server.stats().collect::<Vec<_>>()
        );
    });
}

#[test]
fn replies_leave_as_they_are_told_to() {
    in_a_namespace(|| {
        let mut server = veth::server(&config(Hardware::Ethernet), Features::ALL);
        let mut peer = Shell::frames(&facts("v1", PEER)).unwrap();
        let (mut ours, mut theirs) = (Notes::default(), Notes::default());
        let stranger = Mac([2, 0, 0, 0, 0, 0x77]);
        let (dhcp, tftp) = (SocketAddrV4::new(HEAD, 67), SocketAddrV4::new(HEAD, 20_071));
        ours.say = Some(Box::new(move |out| {
            let put = |out: &mut Outbox, from, to, via, text: &'static [u8]| {
                assert!(out.datagram(row(from), from, to, via, |buf| {
                    buf.get_mut(..text.len()).map(|to| to.copy_from_slice(text)).map(|()| text.len())
                }));
            };
            put(out, dhcp, SocketAddrV4::new(CLIENT, 68), Via::Mac(stranger), b"unicast");
            put(out, dhcp, SocketAddrV4::new(Ipv4Addr::BROADCAST, 68), Via::Broadcast, b"broadcast");
            out.put(Output::Neighbour { link: 0, ip: CLIENT, mac: Some(stranger) });
            put(out, tftp, SocketAddrV4::new(CLIENT, 4000), Via::Kernel, b"by the kernel");
            out.put(Output::Probe { link: 0, ip: CLIENT });
            let solicit = RouterSolicit { src_mac: PEER, src: Ipv6Addr::UNSPECIFIED };
            out.frame(0, |buf| ether::emit_router_advert(buf, OURS, LINK_LOCAL, &solicit));
        }));
        let udp = |theirs: &Notes| -> Vec<String> {
            let parsed = theirs.frames.iter().filter_map(|frame| ether::parse(frame, Checksum::Trusted).ok());
            let shown = parsed.filter_map(|frame| match frame {
                Frame::Udp(u) if u.src_mac == OURS => {
                    Some(format!("{} {} > {} {}", u.dst_mac, u.src, u.dst, String::from_utf8_lossy(u.payload)))
                }
                Frame::Arp(arp) if arp.sender_ip.is_unspecified() => Some(format!("probe {}", arp.target_ip)),
                _ => None,
            });
            let mut shown: Vec<String> = shown.collect();
            shown.sort_unstable();
            shown
        };
        let advert = |theirs: &Notes| theirs.frames.iter().any(|frame| frame.get(54) == Some(&134) && frame[..6] == PEER.0);
        let ended = |_: &Notes, theirs: &Notes| udp(theirs).len() >= 4 && advert(theirs);
        assert!(turn_until(&mut server, &mut ours, &mut peer, &mut theirs, ended), "{:?}", udp(&theirs));
        assert_eq!(
            udp(&theirs),
            [
                "02:00:00:00:00:77 10.54.0.1:20071 > 10.54.9.9:4000 by the kernel",
                "02:00:00:00:00:77 10.54.0.1:67 > 10.54.9.9:68 unicast",
                "ff:ff:ff:ff:ff:ff 10.54.0.1:67 > 255.255.255.255:68 broadcast",
                "probe 10.54.9.9",
            ]
        );
        let neighbour = || {
            let shown = Command::new("ip").args(["neigh", "show", "to", "10.54.9.9", "nud", "permanent"]).output().expect("ip");
            String::from_utf8_lossy(&shown.stdout).into_owned()
        };
        assert!(neighbour().contains("02:00:00:00:00:77"), "{}", neighbour());
        // An entry that is ours goes with the next start, if we could not take it along.
        drop(server);
        assert!(neighbour().contains("PERMANENT"));
        let again = veth::server(&config(Hardware::Ethernet), Features::ALL);
        assert_eq!(neighbour(), "");
        drop(again);
    });
}

#[test]
fn a_port_that_is_taken_is_named() {
    in_a_namespace(|| {
        let first = veth::server(&config(Hardware::Ethernet), Features::ALL);
        let why = veth::try_server(&config(Hardware::Ethernet), Features::ALL).err().unwrap().to_string();
        assert!(why.contains("10.54.0.1:67 on v0") && why.contains("another DHCP server is running"), "{why}");
        drop(first);
        // A child that another test forks just now may hold the sockets for a moment longer.
        let tries =
            (0..200).find_map(|_| UdpSocket::bind("10.54.0.1:20070").map_err(|_| std::thread::sleep(Duration::from_millis(10))).ok());
        let squatter = tries.expect("the port is free again");
        let refused = || veth::try_server(&config(Hardware::Ethernet), Features::ALL).err().unwrap().to_string();
        let why =
            (0..200).map(|_| refused()).find(|why| !why.contains(":67 ") && !why.contains(":69 ")).expect("ports 67 and 69 are free again");
        assert!(why.contains("10.54.0.1:20070") && why.contains("tftp.ports"), "{why}");
        drop(squatter);
    });
}

#[test]
fn links_without_ethernet_headers_are_served_by_broadcast() {
    in_a_namespace(|| {
        let mut server = veth::server(&config(Hardware::Infiniband), Features::ALL);
        let mut peer = Shell::frames(&facts("v1", PEER)).unwrap();
        let (mut ours, mut theirs) = (Notes::default(), Notes::default());
        let reply = SocketAddrV4::new(Ipv4Addr::BROADCAST, 68);
        theirs.say = say(vec![udp(Mac::BROADCAST, NOBODY, EVERYBODY, "cooked"), udp(Mac::BROADCAST, NOBODY, reply, "not for a server")]);
        ours.say = Some(Box::new(move |out| {
            let put = |buf: &mut [u8]| buf.get_mut(..5).map(|to| to.copy_from_slice(b"reply")).map(|()| 5);
            assert!(out.datagram(0, SocketAddrV4::new(HEAD, 67), reply, Via::Broadcast, put));
        }));
        let frame = |theirs: &Notes| {
            let udp = |frame: &Vec<u8>| match ether::parse(frame, Checksum::Trusted) {
                Ok(Frame::Udp(u)) => u.payload == b"reply" && u.dst_mac == Mac::BROADCAST && *u.src.ip() == HEAD,
                _ => false,
            };
            theirs.frames.iter().any(udp)
        };
        let ended = |ours: &Notes, theirs: &Notes| !ours.heard.is_empty() && frame(theirs);
        assert!(turn_until(&mut server, &mut ours, &mut peer, &mut theirs, ended), "{:?}", ours.heard);
        assert_eq!(ours.heard, ["- 0.0.0.0:68 > 255.255.255.255:67 cooked"]);
    });
}

/// Asks for as many files as one call may, and for as many again with each answer.
struct Insatiable {
    answers: u64,
    begun: bool,
}

impl Insatiable {
    fn ask(&mut self, out: &mut Outbox) {
        for _ in 0..OUTPUTS_PER_CALL {
            assert!(out.open(1, b"missing"), "the loop promises room");
        }
    }
}

impl Machine for Insatiable {
    fn handle(&mut self, _: Now, input: Input<'_>, out: &mut Outbox) {
        if matches!(input, Input::Frame { .. } | Input::Arp { .. } | Input::Link { .. }) {
            return;
        }
        assert!(matches!(input, Input::Opened { answer: Err(_), .. }), "{input:?}");
        self.answers += 1;
        self.ask(out);
    }

    fn expire(&mut self, _: Now, out: &mut Outbox) {
        self.begun = true;
        self.ask(out);
    }

    fn deadline(&self) -> Option<Time> {
        (!self.begun).then_some(Time::ZERO)
    }
}

#[test]
fn a_machine_that_never_has_enough_does_not_stop_the_loop() {
    in_a_namespace(|| {
        let mut server = veth::server(&config(Hardware::Ethernet), Features::ALL);
        let mut machine = Insatiable { answers: 0, begun: false };
        let dropped = |server: &Shell| server.stats().any(|(name, n)| name == "file answers dropped" && n > 0);
        let end = Instant::now() + Duration::from_secs(60);
        while !dropped(&server) && Instant::now() < end {
            let (before, begin) = (machine.answers, Instant::now());
            // The answers come from other processes: not in every turn, and none is slept on.
            for _ in 0..100 {
                server.turn(&mut machine, Duration::from_secs(5)).unwrap();
                if machine.answers > before {
                    break;
                }
            }
            assert!(machine.answers > before && begin.elapsed() < Duration::from_secs(4), "{before} answers in {:?}", begin.elapsed());
        }
        assert!(dropped(&server), "{} answers", machine.answers);
    });
}
