//! Frames in another machine's name, on a real wire, against the real `musterd`: one forged frame costs a node neither its address nor its boot.

mod common;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use common::musterd::Musterd;
use common::{Host, Lab, wait};
use muster::base::addr::Mac;
use muster::base::facts::LinkFacts;
use muster::base::machine::{Input, Machine};
use muster::base::outbox::Outbox;
use muster::base::time::{Instant as Time, Now};
use muster::shell::Shell;
use muster::wire::dhcp::{Header, MessageBuilder, MessageType, Scratch, code, parse};
use muster::wire::ether::{self, Arp, ArpOp, Checksum, Frame};

const SERVER: &str = "10.54.0.1/16";
const HEAD: Ipv4Addr = Ipv4Addr::new(10, 54, 0, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 54, 1, 17);
const NODE: Mac = Mac([0x02, 0x57, 0, 0, 0, 17]);
const LIAR: Mac = Mac([0x02, 0x66, 0, 0, 0, 66]);
const CONFIG: &str = "[cluster]\nnode0 = \"10.54.1.0\"\nguests = \"10.54.224.0-10.54.224.63\"\n\
                      [[node]]\nnumber = 17\nmacs = [\"02:57:00:00:00:11\"]\n";

#[derive(Default)]
struct Heard {
    send: VecDeque<Vec<u8>>,
    replies: Vec<(u32, MessageType, Ipv4Addr)>,
    probes: Vec<Ipv4Addr>,
}

impl Machine for Heard {
    fn handle(&mut self, _: Now, input: Input<'_>, _: &mut Outbox) {
        let Input::Frame { bytes, .. } = input else { return };
        match ether::parse(bytes, Checksum::Trusted) {
            Ok(Frame::Udp(udp)) if udp.dst.port() == 68 => {
                let mut scratch = Scratch::default();
                let message = parse(udp.payload, &mut scratch).expect("what musterd sends is DHCP");
                let kind = message.message_type().expect("a type");
                self.replies.push((message.header.xid, kind, message.header.yiaddr));
            }
            Ok(Frame::Arp(arp)) if arp.operation == ArpOp::Request && arp.sender_ip.is_unspecified() => self.probes.push(arp.target_ip),
            _ => {}
        }
    }

    fn expire(&mut self, _: Now, out: &mut Outbox) {
        while let Some(frame) = self.send.pop_front() {
            assert!(out.frame(0, |buf| {
                buf.get_mut(..frame.len())?.copy_from_slice(&frame);
                Some(frame.len())
            }));
        }
    }

    fn deadline(&self) -> Option<Time> {
        (!self.send.is_empty()).then_some(Time::ZERO)
    }
}

/// A port of the switch from which any frame can be sent.
struct Wire {
    shell: Shell,
    heard: Heard,
}

impl Wire {
    fn open() -> Wire {
        let index = nix::net::if_::if_nametoindex("eth0").expect("the host has eth0");
        let facts = LinkFacts::ethernet("eth0", index, LIAR);
        Wire { shell: Shell::frames(&facts).expect("a packet socket"), heard: Heard::default() }
    }

    fn pass(&mut self, millis: u64) {
        let end = Instant::now() + Duration::from_millis(millis);
        while Instant::now() < end || !self.heard.send.is_empty() {
            self.shell.turn(&mut self.heard, Duration::from_millis(5)).expect("a turn");
        }
    }

    /// A message of the node's, in a frame of `frame`.
    fn say(&mut self, frame: Mac, kind: MessageType, xid: u32, ciaddr: Ipv4Addr, options: &[(u8, [u8; 4])]) {
        let mut chaddr = [0; 16];
        chaddr[..6].copy_from_slice(&NODE.0);
        let header = Header { xid, ciaddr, chaddr, ..Header::default() };
        let (mut body, mut buf) = ([0; 576], [0; 1500]);
        let mut builder = MessageBuilder::new(&mut body, &header, 548).expect("room");
        assert!(builder.message_type(kind) && builder.option(code::VENDOR_CLASS, b"PXEClient:Arch:00000:UNDI:002001"));
        assert!(options.iter().all(|(code, value)| builder.option(*code, value)));
        let len = builder.finish(None);
        let (src, dst) = (SocketAddrV4::new(ciaddr, 68), SocketAddrV4::new(Ipv4Addr::BROADCAST, 67));
        let len = ether::emit_udp(&mut buf, frame, Mac::BROADCAST, src, dst, 1, &body[..len]).expect("room");
        self.heard.send.push_back(buf[..len].to_vec());
        self.pass(0);
    }

    fn claim(&mut self, frame: Mac, sender: Mac, address: Ipv4Addr) {
        let arp = Arp { operation: ArpOp::Reply, sender_mac: sender, sender_ip: address, target_mac: Mac::BROADCAST, target_ip: address };
        let mut buf = [0; 1500];
        let len = ether::emit_arp(&mut buf, &arp).expect("room");
        buf[6..12].copy_from_slice(&frame.0);
        self.heard.send.push_back(buf[..len].to_vec());
        self.pass(0);
    }

    /// The answer to a transaction, within some seconds.
    fn answer(&mut self, xid: u32) -> Option<(MessageType, Ipv4Addr)> {
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            if let Some((_, kind, address)) = self.heard.replies.iter().find(|(of, ..)| *of == xid) {
                return Some((*kind, *address));
            }
            self.pass(20);
        }
        None
    }
}

fn in_host<T: Send + 'static>(host: &Host, act: impl FnOnce() -> T + Send + 'static) -> T {
    host.within(act).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[test]
fn one_forged_frame_costs_a_node_nothing() {
    use MessageType::*;
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let musterd = Musterd::configured(&server, lab.dir(), CONFIG);
    let client = lab.attach("client");
    let head = (code::SERVER_ID, HEAD.octets());
    let own = (code::REQUESTED_IP, ADDRESS.octets());
    let none = Ipv4Addr::UNSPECIFIED;

    in_host(&client, move || {
        let mut wire = Wire::open();
        wire.say(NODE, Discover, 1, none, &[]);
        assert_eq!(wire.answer(1), Some((Offer, ADDRESS)));
        // Between OFFER and REQUEST: a claim by ARP, in the forger's name and in another's, and the choice of another server.
        wire.claim(LIAR, LIAR, ADDRESS);
        wire.claim(LIAR, Mac([2, 0x66, 0, 0, 0, 67]), ADDRESS);
        wire.say(LIAR, Request, 2, none, &[(code::SERVER_ID, [10, 54, 0, 66]), own]);
        wire.say(LIAR, Request, 3, none, &[head, (code::REQUESTED_IP, [10, 54, 1, 18])]);
        wire.pass(200);
        wire.say(NODE, Request, 4, none, &[head, own]);
        assert_eq!(wire.answer(4), Some((Ack, ADDRESS)));
        // In the middle of the boot.
        wire.say(LIAR, Release, 5, ADDRESS, &[head]);
        wire.say(LIAR, Decline, 6, none, &[head, own]);
        wire.say(LIAR, Request, 7, Ipv4Addr::new(10, 54, 1, 18), &[]);
        wire.pass(300);
        assert!(wire.heard.replies.iter().all(|(_, kind, _)| *kind != Nak), "{:?}", wire.heard.replies);
        assert!(!wire.heard.probes.contains(&ADDRESS), "nobody is asked because of a forged DECLINE");
    });
    let entry = server.neighbour("10.54.1.17");
    assert!(entry.contains("02:57:00:00:00:11") && entry.contains("PERMANENT"), "its entry is there: {entry}");

    in_host(&client, move || {
        let mut wire = Wire::open();
        wire.say(NODE, Request, 8, ADDRESS, &[]);
        assert_eq!(wire.answer(8), Some((Ack, ADDRESS)), "its renewal");
        // Its own DECLINE is asked about; an answer of another machine is believed.
        wire.say(NODE, Decline, 9, none, &[head, own]);
        let asked = wait(5, || {
            wire.pass(5);
            wire.heard.probes.contains(&ADDRESS).then_some(())
        });
        assert!(asked.is_some(), "{:?}", wire.heard.probes);
        wire.claim(LIAR, LIAR, ADDRESS);
        wire.say(NODE, Discover, 10, none, &[]);
        let offer = wire.answer(10);
        assert!(offer.is_some_and(|(kind, address)| kind == Offer && address != ADDRESS), "{offer:?}");
    });
    let told = wait(10, || musterd.seen_all(&["n17 02:57:00:00:00:11: ", "in its name ignored", "the frame came from 02:66:00:00:00:42"]));
    assert!(told.is_some(), "{}", musterd.log());
    assert!(musterd.seen_all(&["n17: 02:66:00:00:00:42 uses its address 10.54.1.17"]).is_some(), "{}", musterd.log());
}

/// Rogue servers with invented names, and a machine that takes and gives back its lease over and over, fill neither log nor disk.
#[test]
fn a_flood_fills_neither_log_nor_disk() {
    use MessageType::*;
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let state = lab.dir().join("state");
    let config = CONFIG.replace("02:57:00:00:00:11", "02:57:00:00:00:12");
    let musterd = Musterd::keeping(&server, lab.dir(), &config, &state);
    let client = lab.attach("client");
    let rounds = in_host(&client, move || {
        let mut wire = Wire::open();
        let (end, mut xid) = (Instant::now() + Duration::from_secs(4), 100);
        while Instant::now() < end {
            xid += 2;
            wire.say(NODE, Discover, xid, Ipv4Addr::UNSPECIFIED, &[]);
            let offered = wait(1, || {
                wire.pass(1);
                wire.heard.replies.iter().find(|(of, ..)| *of == xid).map(|(_, _, address)| *address)
            });
            let Some(address) = offered else { continue };
            let options = [(code::SERVER_ID, HEAD.octets()), (code::REQUESTED_IP, address.octets())];
            wire.say(NODE, Request, xid + 1, Ipv4Addr::UNSPECIFIED, &options);
            wire.pass(2);
            wire.say(NODE, Release, xid + 1, address, &options[..1]);
            for n in 0..20u32 {
                let [_, _, a, b] = (xid * 20 + n).to_be_bytes();
                wire.say_offer(Ipv4Addr::new(10, 99, a, b));
            }
        }
        (xid - 100) / 2
    });
    assert!(rounds > 50, "{rounds} rounds");
    let journal = std::fs::read_to_string(state.join("journal")).expect("a journal");
    // Lines of level debug, which the tests ask for, are for whoever looks on.
    let log: Vec<String> = musterd.log().lines().filter(|line| !line.contains(" debug ")).map(str::to_owned).collect();
    let (records, lines) = (journal.lines().count(), log.len());
    assert!(records <= 20 && lines <= 60, "{rounds} rounds: {records} records, {lines} lines: {log:#?}");
    println!("{rounds} rounds: {records} records, {lines} lines");
}

impl Wire {
    /// An OFFER of a server with this name.
    fn say_offer(&mut self, name: Ipv4Addr) {
        let header = Header { op: 2, xid: 1, ..Header::default() };
        let (mut body, mut buf) = ([0; 576], [0; 1500]);
        let mut builder = MessageBuilder::new(&mut body, &header, 548).expect("room");
        assert!(builder.message_type(MessageType::Offer) && builder.ip(code::SERVER_ID, name));
        let len = builder.finish(None);
        let (src, dst) = (SocketAddrV4::new(name, 67), SocketAddrV4::new(Ipv4Addr::BROADCAST, 68));
        let len = ether::emit_udp(&mut buf, LIAR, Mac::BROADCAST, src, dst, 1, &body[..len]).expect("room");
        self.heard.send.push_back(buf[..len].to_vec());
        self.pass(0);
    }
}
