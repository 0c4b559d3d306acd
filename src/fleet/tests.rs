//! Fleets against a tiny scripted server, in virtual time.

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::cause::Cause;
use super::tftp::Hash;
use super::*;
use crate::base::addr::Mac;
use crate::base::machine::{Input, Machine};
use crate::base::outbox::{Outbox, Output};
use crate::base::time::{Instant, Now};
use crate::wire::dhcp::{Header, MessageBuilder, MessageType, Scratch, code, parse as parse_dhcp};
use crate::wire::ether::{Arp, ArpOp, Checksum, Frame, UdpFrame, emit_arp, emit_udp, parse};
use crate::wire::tftp::{ErrorCode, Packet, TftpOptions, data_header, emit_error, emit_oack, parse as parse_tftp};

const HEAD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const HEAD_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const FIRST: u32 = 0x0a00_0100;

/// What the scripted server serves, and how badly.
struct Script {
    file: &'static [u8],
    content: Vec<u8>,
    /// Sends every n-th DATA packet twice; 0 never.
    double: u32,
    /// Files are at another address, which nobody has heard of yet.
    elsewhere: bool,
    mute: bool,
}

struct Running {
    to: UdpTo,
    blksize: u16,
    window: u16,
    acked: u64,
    /// When blocks were sent last.
    sent: Option<Instant>,
}

#[derive(Clone, Copy)]
struct UdpTo {
    mac: Mac,
    from: SocketAddrV4,
    to: SocketAddrV4,
}

struct Server {
    script: Script,
    transfers: BTreeMap<(SocketAddrV4, u16), Running>,
    ports: u16,
    sent: u32,
    out: VecDeque<Vec<u8>>,
    /// ARP requests heard.
    asked: usize,
    /// Of DHCP.
    xids: std::collections::BTreeSet<u32>,
    now: Instant,
}

impl Server {
    fn new(script: Script) -> Server {
        Server {
            script,
            transfers: BTreeMap::new(),
            ports: 40_000,
            sent: 0,
            out: VecDeque::new(),
            asked: 0,
            xids: Default::default(),
            now: Instant::ZERO,
        }
    }

    fn send(&mut self, to: UdpTo, payload: &[u8]) {
        let mut buf = [0; 1600];
        let len = emit_udp(&mut buf, HEAD_MAC, to.mac, to.from, to.to, 0, payload).unwrap();
        self.out.push_back(buf[..len].to_vec());
    }

    fn hear(&mut self, bytes: &[u8]) {
        match parse(bytes, Checksum::Verify).expect("clients send sound frames") {
            Frame::Udp(frame) if frame.dst.port() == 67 => self.dhcp(&frame),
            Frame::Udp(frame) => self.tftp(&frame),
            Frame::Arp(arp) if arp.operation == ArpOp::Request => {
                self.asked += 1;
                let reply = Arp {
                    operation: ArpOp::Reply,
                    sender_mac: HEAD_MAC,
                    sender_ip: arp.target_ip,
                    target_mac: arp.sender_mac,
                    target_ip: arp.sender_ip,
                };
                let mut buf = [0; 60];
                emit_arp(&mut buf, &reply).unwrap();
                self.out.push_back(buf.to_vec());
            }
            Frame::Arp(_) | Frame::RouterSolicit(_) => {}
        }
    }

    fn dhcp(&mut self, frame: &UdpFrame<'_>) {
        let mut scratch = Scratch::default();
        let message = parse_dhcp(frame.payload, &mut scratch).expect("clients send sound messages");
        self.xids.insert(message.header.xid);
        if self.script.mute {
            return;
        }
        let kind = match message.message_type() {
            Some(MessageType::Discover) => MessageType::Offer,
            _ => MessageType::Ack,
        };
        let number = u32::from_be_bytes(frame.src_mac.0[2..].try_into().unwrap());
        let address = Ipv4Addr::from_bits(FIRST + number);
        let siaddr = if self.script.elsewhere { Ipv4Addr::new(10, 0, 0, 2) } else { HEAD };
        let header = Header { op: 2, yiaddr: address, siaddr, ..message.header };
        let mut buf = [0; 600];
        let mut builder = MessageBuilder::new(&mut buf, &header, 548).unwrap();
        builder.file(self.script.file);
        builder.message_type(kind);
        builder.ip(code::SERVER_ID, HEAD);
        builder.ip(code::SUBNET_MASK, Ipv4Addr::new(255, 0, 0, 0));
        builder.u32(code::LEASE_TIME, 600);
        builder.option(code::VENDOR_CLASS, b"PXEClient");
        builder.option(code::VENDOR_SPECIFIC, b"\x09\x14\0\0\x11Raspberry Pi Boot\xff");
        let len = builder.finish(None);
        let (mac, ip) = if header.broadcast() { (Mac::BROADCAST, Ipv4Addr::BROADCAST) } else { (frame.src_mac, address) };
        self.send(UdpTo { mac, from: SocketAddrV4::new(HEAD, 67), to: SocketAddrV4::new(ip, 68) }, &buf[..len]);
    }

    fn tftp(&mut self, frame: &UdpFrame<'_>) {
        let mut buf = [0; 600];
        match parse_tftp(frame.payload).expect("clients send sound packets") {
            Packet::Request(request) => {
                self.ports += 1;
                let from = SocketAddrV4::new(*frame.dst.ip(), self.ports);
                let to = UdpTo { mac: frame.src_mac, from, to: frame.src };
                if request.filename != self.script.file {
                    let len = emit_error(&mut buf, ErrorCode::NotFound, "no such file").unwrap();
                    return self.send(to, &buf[..len]);
                }
                let tsize = request.options.tsize.map(|_| self.script.content.len() as u64);
                let len = emit_oack(&mut buf, &TftpOptions { tsize, ..request.options }).unwrap();
                let TftpOptions { blksize, windowsize, .. } = request.options;
                let running = Running { to, blksize: blksize.unwrap_or(512), window: windowsize.unwrap_or(1), acked: 0, sent: None };
                self.transfers.insert((frame.src, self.ports), running);
                self.send(to, &buf[..len]);
            }
            Packet::Ack { block } => self.ack((frame.src, frame.dst.port()), block),
            Packet::Error { .. } => drop(self.transfers.remove(&(frame.src, frame.dst.port()))),
            packet => panic!("clients do not send {packet:?}"),
        }
    }

    fn ack(&mut self, key: (SocketAddrV4, u16), block: u16) {
        let Some(running) = self.transfers.get_mut(&key) else { return };
        // Go back to what was acknowledged, within the window; but not for an echo (Sorcerer's Apprentice).
        let ahead = u64::from(block.wrapping_sub(running.acked as u16));
        if ahead <= u64::from(running.window) {
            running.acked += ahead;
        }
        let echo = running.sent.is_some_and(|sent| self.now.since(sent) < Duration::from_millis(100));
        if ahead > u64::from(running.window) || (ahead == 0 && echo) {
            return;
        }
        running.sent = Some(self.now);
        let (to, blksize, first, window) = (running.to, usize::from(running.blksize), running.acked, u64::from(running.window));
        for block in first..first + window {
            let at = block as usize * blksize;
            if at > self.script.content.len() {
                return;
            }
            let bytes = &self.script.content[at..(at + blksize).min(self.script.content.len())];
            let packet = [&data_header((block + 1) as u16)[..], bytes].concat();
            self.sent += 1;
            let times = if self.script.double > 0 && self.sent % self.script.double == 0 { 2 } else { 1 };
            (0..times).for_each(|_| self.send(to, &packet));
        }
    }
}

fn script() -> Script {
    let content = (0..100_000u32).map(|n| (n >> 3) as u8).collect();
    Script { file: b"boot.img", content, double: 0, elsewhere: false, mute: false }
}

/// Runs a storm to its end, or for an hour of virtual time. Frames take 0.1 ms.
fn storm(plan: StormPlan, script: Script) -> (Fleet, Server) {
    let (mut server, mut out, mut now) = (Server::new(script), Outbox::new(), Instant::ZERO);
    let mut fleet = Fleet::new(plan, now).unwrap();
    run(&mut fleet, &mut server, &mut out, &mut now, Duration::from_secs(3600));
    (fleet, server)
}

fn run(fleet: &mut Fleet, server: &mut Server, out: &mut Outbox, now: &mut Instant, time: Duration) {
    let end = *now + time;
    loop {
        server.now = *now;
        let drain = |out: &mut Outbox, server: &mut Server| {
            for output in out.iter() {
                match output {
                    Output::Frame { link: 0, bytes } => server.hear(bytes),
                    output => panic!("{output:?}"),
                }
            }
            out.clear();
        };
        drain(out, server);
        let frame = Some(*now + Duration::from_micros(100)).filter(|_| !server.out.is_empty());
        let deadline = fleet.deadline().filter(|_| !fleet.done());
        match [frame, deadline].into_iter().flatten().min() {
            Some(next) if next <= end => *now = next.max(*now),
            _ => return,
        }
        match (frame == Some(*now)).then(|| server.out.pop_front()).flatten() {
            Some(bytes) => fleet.handle(Now { at: *now, unix: 0 }, Input::Frame { link: 0, bytes: &bytes }, out),
            None => fleet.expire(Now { at: *now, unix: 0 }, out),
        }
    }
}

fn plan(firmware: Firmware, count: usize) -> StormPlan {
    StormPlan { count, lives: vec![Life::of(firmware, 1, Stages::default(), 0)], spread: Duration::from_secs(2), ..StormPlan::default() }
}

fn lost(fleet: &Fleet) -> Vec<(String, &'static str, usize)> {
    fleet.summary().lost_by.into_iter().map(|lost| (lost.stage, lost.cause, lost.machines)).collect()
}

#[test]
fn every_firmware_boots() {
    for &firmware in Firmware::ALL {
        let (fleet, server) = storm(plan(firmware, 5), script());
        let summary = fleet.summary();
        assert!(fleet.done() && summary.up == 5, "{firmware}: {summary}");
        let mut hash = Hash::default();
        hash.add(&server.script.content);
        let files = if firmware == Firmware::Os { 0 } else { 1 };
        assert_eq!(summary.files.len(), files, "{firmware}");
        for file in &summary.files {
            let told = (file.len, file.hash.as_str(), file.agreed);
            assert_eq!(told, (100_000, format!("{:016x}", hash.finish()).as_str(), true), "{firmware}");
        }
        let view = fleet.machine(4).unwrap();
        assert_eq!((view.mac.to_string().as_str(), view.address), ("02:4d:00:00:00:04", Some(Ipv4Addr::from_bits(FIRST + 4))));
        assert!(fleet.machine(5).is_none());
    }
}

#[test]
fn a_whole_life() {
    let stages = Stages { ipxe: true, os: true };
    let plan = StormPlan { names: vec![b"boot.img".to_vec()], lives: Life::mix(stages, 1), count: 70, ..plan(Firmware::Rom, 0) };
    let (fleet, _) = storm(plan, script());
    let summary = fleet.summary();
    assert_eq!((summary.up, summary.moved, summary.conflicts, summary.agreed), (70, 0, 0, true), "{summary}");
    assert!(summary.lease.last < 5.0 && summary.fairness > 0.2 && summary.frames_stray == 0, "{summary}");
}

#[test]
fn a_machine_tells_how_long_each_stage_took() {
    let stages = Stages { ipxe: false, os: true };
    let mut life = Life::of(Firmware::Edk2, 1, stages, 0);
    life.steps.push(life::BootStep::Reboot(Firmware::Os));
    let (fleet, _) = storm(StormPlan { lives: vec![life], ..plan(Firmware::Edk2, 5) }, script());
    let view = fleet.machine(3).unwrap();
    let labels: Vec<&str> = view.stages.iter().map(|(label, _)| label.as_str()).collect();
    assert_eq!(labels, ["edk2 dhcp", "edk2 load", "os dhcp", "os reboot"]);
    assert!(view.stages[0].1 >= Duration::from_secs(4), "EDK2 picks when its wait ends: {view:?}");
    assert_eq!(view.stages.iter().map(|(_, took)| *took).sum::<Duration>(), view.ended - view.powered, "no time between stages");
    let summary = fleet.summary();
    let table: Vec<(&str, usize)> = summary.stages.iter().map(|stage| (stage.stage.as_str(), stage.times)).collect();
    assert_eq!(table, [("edk2 dhcp", 5), ("edk2 load", 5), ("os dhcp", 5), ("os reboot", 5)]);
    assert_eq!((summary.moved, summary.conflicts), (0, 0), "who reboots keeps its address");
    let (mute, _) = storm(plan(Firmware::Rom, 1), Script { mute: true, ..script() });
    assert!(mute.machine(0).unwrap().stages.is_empty() && mute.summary().stages.is_empty(), "lost in its first stage");
}

#[test]
fn the_same_seed_gives_the_same_storm() {
    let table = |seed| {
        let plan = StormPlan { seed, loss: 20_000, wake: 1, lives: Life::mix(Stages::default(), 0), ..plan(Firmware::Rom, 40) };
        storm(plan, script()).0.summary()
    };
    assert_eq!(table(3), table(3));
    assert_ne!(table(3), table(4));
}

#[test]
fn silence_is_fatal_at_the_end_of_every_schedule() {
    let script = Script { mute: true, ..script() };
    let (fleet, _) = storm(plan(Firmware::Ipxe, 3), script);
    assert_eq!(lost(&fleet), [("ipxe dhcp".into(), Cause::NoOffer.name(), 3)]);
    let view = fleet.machine(0).unwrap();
    let lived = view.ended - view.powered;
    assert!((15.0..15.1).contains(&lived.as_secs_f64()), "{lived:?}");
}

#[test]
fn loss_is_survived_by_who_retries_and_kills_the_others() {
    let with_loss = |firmware| storm(StormPlan { loss: 10_000, seed: 5, ..plan(firmware, 50) }, script()).0.summary();
    let (ipxe, edk2, grub) = (with_loss(Firmware::Ipxe), with_loss(Firmware::Edk2), with_loss(Firmware::Grub));
    assert_eq!((ipxe.up, ipxe.agreed), (50, true), "{ipxe}");
    assert_eq!((edk2.up, edk2.agreed), (50, true), "{edk2}");
    assert!(ipxe.retries > 0 && edk2.duplicates > 0 && edk2.longest_gap > 3.9, "{edk2}");
    assert!(grub.lost > 0, "the scripted server never sends again, and neither does GRUB: {grub}");
}

#[test]
fn duplicates_by_kind() {
    for (firmware, expected) in [(Firmware::Rom, 5), (Firmware::Edk2, 5), (Firmware::UBoot, 5), (Firmware::RaspberryPi, 0)] {
        let (fleet, _) = storm(plan(firmware, 5), Script { double: 40, ..script() });
        let summary = fleet.summary();
        assert_eq!(summary.up, expected, "{firmware}: {summary}");
        assert!(summary.duplicates > 0 && summary.agreed);
    }
    let (fleet, _) = storm(plan(Firmware::RaspberryPi, 5), Script { double: 40, ..script() });
    assert_eq!(lost(&fleet)[0].1, Cause::Hung.name());
}

#[test]
fn switch_ports_wake_up() {
    let (fleet, _) = storm(StormPlan { wake: 2, ..plan(Firmware::Rom, 5) }, script());
    let summary = fleet.summary();
    // Two DISCOVERs are lost on their way out.
    assert_eq!((summary.up, summary.frames_asleep, summary.retries), (5, 10, 10), "{summary}");
    assert!(summary.lease.first > 11.9, "4 s and 8 s: {summary}");
}

#[test]
fn the_way_to_another_server_is_asked_for() {
    let (fleet, server) = storm(plan(Firmware::Rom, 3), Script { elsewhere: true, ..script() });
    assert_eq!(fleet.summary().up, 3, "{}", fleet.summary());
    assert_eq!(server.asked, 3, "once a machine");
    assert_eq!(storm(plan(Firmware::Rom, 3), script()).1.asked, 0, "the lease showed the way");
}

#[test]
fn arp_is_answered_but_not_by_the_deaf_while_they_load() {
    let ask = |ip: u32| {
        let mut buf = [0; 60];
        let target_ip = Ipv4Addr::from_bits(ip);
        emit_arp(&mut buf, &Arp { operation: ArpOp::Request, sender_mac: HEAD_MAC, sender_ip: HEAD, target_mac: Mac::ZERO, target_ip })
            .unwrap();
        buf
    };
    for (deaf, answers) in [(0, 1), (1000, 0)] {
        let (mut server, mut out, mut now) = (Server::new(script()), Outbox::new(), Instant::ZERO);
        let plan = StormPlan { deaf, spread: Duration::ZERO, ..plan(Firmware::Rom, 1) };
        let mut fleet = Fleet::new(plan, now).unwrap();
        // A server that only gives leases: the transfer hangs.
        server.script.file = b"nothing";
        server.script.elsewhere = true;
        fleet.expire(Now::default(), &mut out);
        for _ in 0..4 {
            out.iter().for_each(|output| {
                if let Output::Frame { bytes, .. } = output {
                    server.hear(bytes)
                }
            });
            out.clear();
            let Some(frame) = server.out.pop_front() else { break };
            fleet.handle(Now::default(), Input::Frame { link: 0, bytes: &frame }, &mut out);
            if fleet.machine(0).unwrap().stage == "rom load" {
                break;
            }
        }
        assert_eq!(fleet.machine(0).unwrap().stage, "rom load");
        out.clear();
        fleet.handle(Now::default(), Input::Frame { link: 0, bytes: &ask(FIRST) }, &mut out);
        assert_eq!(out.len(), answers, "deaf: {deaf}");
        out.clear();
        fleet.handle(Now::default(), Input::Frame { link: 0, bytes: &ask(FIRST + 9) }, &mut out);
        assert!(out.is_empty(), "somebody else's address");
        now += Duration::from_secs(1);
        run(&mut fleet, &mut server, &mut out, &mut now, Duration::from_secs(100));
    }
}

#[test]
fn files_that_are_not_there() {
    let names = vec![b"missing".to_vec()];
    let lives = vec![Life::of(Firmware::UBoot, 1, Stages::default(), 1)];
    let (fleet, _) = storm(StormPlan { names, lives, ..plan(Firmware::UBoot, 2) }, script());
    assert_eq!(lost(&fleet), [("uboot load".into(), Cause::NotFound.name(), 2)]);
    let (fleet, _) = storm(plan(Firmware::Rom, 2), Script { file: b"", ..script() });
    assert_eq!(lost(&fleet), [("rom load".into(), Cause::NoFile.name(), 2)]);
}

#[test]
fn a_system_keeps_its_lease() {
    let (mut fleet, mut server) = storm(plan(Firmware::Os, 1), script());
    assert_eq!(fleet.progress().up, 1);
    let mut out = Outbox::new();
    // Leases of 600 s: each deadline renews until the server falls silent.
    let mut renew = |fleet: &mut Fleet, mute: bool| {
        server.script.mute = mute;
        let Some(at) = fleet.deadline() else { return };
        fleet.expire(Now { at, unix: 0 }, &mut out);
        out.iter().for_each(|output| {
            if let Output::Frame { bytes, .. } = output {
                server.hear(bytes)
            }
        });
        out.clear();
        while let Some(frame) = server.out.pop_front() {
            fleet.handle(Now { at, unix: 0 }, Input::Frame { link: 0, bytes: &frame }, &mut out);
        }
    };
    (0..10).for_each(|_| renew(&mut fleet, false));
    assert_eq!((fleet.progress().up, fleet.summary().retries), (1, 0));
    (0..30).for_each(|_| renew(&mut fleet, true));
    assert_eq!(lost(&fleet), [("up".into(), Cause::LeaseExpired.name(), 1)]);
}

/// Fifty ROMs that load for a third of a second, with these switches: milliseconds, places, on or off.
fn switched(firmware: Firmware, power: &[(u64, std::ops::Range<u32>, bool)]) -> StormPlan {
    let power = power.iter().map(|(at, who, on)| Switch { at: Duration::from_millis(*at), who: who.clone(), on: *on }).collect();
    StormPlan { spread: Duration::ZERO, power, ..plan(firmware, 50) }
}

#[test]
fn without_power_there_is_silence() {
    let (mut server, mut out, mut now) = (Server::new(script()), Outbox::new(), Instant::ZERO);
    let mut fleet = Fleet::new(switched(Firmware::Rom, &[(100, 0..30, false)]), now).unwrap();
    run(&mut fleet, &mut server, &mut out, &mut now, Duration::from_millis(99));
    let (before, address) = (fleet.summary(), fleet.machine(3).unwrap().address.unwrap());
    assert_eq!((before.booting, before.cut, before.interrupted), (50, 0, 0), "{before}");
    // All that is under way reaches nobody, and nobody says a word.
    now = Instant::from_millis(101);
    fleet.expire(Now { at: now, unix: 0 }, &mut out);
    let (sent, strays) = (fleet.summary().frames_sent, fleet.summary().frames_stray);
    let heard = std::mem::take(&mut server.out);
    let dead = heard.iter().filter(|frame| u32::from_be_bytes(frame[2..6].try_into().unwrap()) < 30);
    let dead = dead.inspect(|frame| fleet.handle(Now { at: now, unix: 0 }, Input::Frame { link: 0, bytes: frame }, &mut out)).count();
    let mut buf = [0; 60];
    let ask = Arp { operation: ArpOp::Request, sender_mac: HEAD_MAC, sender_ip: HEAD, target_mac: Mac::ZERO, target_ip: address };
    emit_arp(&mut buf, &ask).unwrap();
    fleet.handle(Now { at: now, unix: 0 }, Input::Frame { link: 0, bytes: &buf }, &mut out);
    let after = fleet.summary();
    assert!(dead > 0, "something was under way");
    assert_eq!((after.frames_sent, after.frames_stray), (sent, strays + dead as u64 + 1), "{after}");
    assert_eq!((after.booting, after.cut, after.interrupted), (20, 30, 30), "{after}");
    for frame in heard {
        fleet.handle(Now { at: now, unix: 0 }, Input::Frame { link: 0, bytes: &frame }, &mut out);
    }
    run(&mut fleet, &mut server, &mut out, &mut now, Duration::from_secs(60));
    let after = fleet.summary();
    assert_eq!((fleet.done(), after.up, after.lost, after.cut, after.off), (true, 20, 0, 30, 0), "{after}");
    let [dead, living] = &after.crowds[..] else { panic!("{:?}", after.crowds) };
    assert_eq!((dead.first, dead.machines, dead.up, dead.lost, dead.cut, dead.boot.last), (0, 30, 0, 0, 30, 0.0));
    assert_eq!((living.first, living.machines, living.up, living.cut), (30, 20, 20, 0));
    assert_eq!((living.up_at, living.boot.last), (after.up_at, after.boot.last));
    assert!(after.to_string().contains("0-29: 0 up, 0 lost, 0 booting, 0 off, 30 without power for good"), "{after}");
}

#[test]
fn power_that_is_back_begins_a_new_life() {
    for &firmware in Firmware::ALL {
        // Power flickers twice; then it goes for ten, and ten others have it for the first time.
        let flickers =
            [(100, 0..40, false), (200, 0..40, true), (280, 0..40, false), (400, 0..40, true), (500, 0..10, false), (600, 40..50, true)];
        let (fleet, _) = storm(switched(firmware, &flickers), script());
        let summary = fleet.summary();
        assert!(fleet.done(), "{firmware}: {summary}");
        assert_eq!((summary.up, summary.cut, summary.lost, summary.moved, summary.conflicts), (40, 10, 0, 0, 0), "{firmware}: {summary}");
        assert!(summary.agreed && (firmware == Firmware::Os || summary.interrupted >= 80), "{firmware}: {summary}");
        let (back, first) = (fleet.machine(10).unwrap(), fleet.machine(40).unwrap());
        assert_eq!((back.powered.as_millis(), first.powered.as_millis()), (400, 600), "a tick of the timers late at most");
        assert_eq!(back.stages.iter().map(|(_, took)| *took).sum::<Duration>(), back.ended - back.powered, "nothing of the earlier lives");
        assert_eq!(fleet.crowd(40..50), summary.crowds[2].clone(), "{firmware}");
        assert!((fleet.crowd(10..40).up, fleet.crowd(0..10).cut) == (30, 10) && first.address.is_some(), "{firmware}");
    }
}

/// No xid of an earlier life, and the ports of a machine that begins.
#[test]
fn who_has_power_again_remembers_nothing() {
    let (mut server, mut out, mut now) = (Server::new(script()), Outbox::new(), Instant::ZERO);
    let mut fleet = Fleet::new(switched(Firmware::Rom, &[(100, 0..50, false), (200, 0..50, true)]), now).unwrap();
    let asked = |server: &Server| server.transfers.keys().map(|(client, _)| client.port()).collect::<std::collections::BTreeSet<u16>>();
    run(&mut fleet, &mut server, &mut out, &mut now, Duration::from_millis(99));
    let before = (asked(&server), server.xids.clone());
    server.transfers.clear();
    server.xids.clear();
    server.out.clear();
    run(&mut fleet, &mut server, &mut out, &mut now, Duration::from_secs(60));
    assert_eq!((fleet.progress().up, asked(&server)), (50, before.0), "{}", fleet.summary());
    assert_eq!((before.1.len(), server.xids.len()), (50, 50));
    assert!(before.1.is_disjoint(&server.xids));
}

#[test]
fn who_was_lost_stays_lost_unless_power_comes_back() {
    let mute = |power| storm(switched(Firmware::Ipxe, power), Script { mute: true, ..script() }).0.progress();
    let lost = mute(&[(20_000, 0..20, false)]);
    assert_eq!((lost.lost, lost.cut), (50, 0), "they were lost after 15 s");
    let again = mute(&[(10_000, 0..20, false), (20_000, 20..30, false), (20_000, 20..30, true)]);
    assert_eq!((again.lost, again.cut), (30, 20), "lost twice is lost once");
    // Power that goes before it has come.
    let never = storm(switched(Firmware::Rom, &[(0, 0..10, false), (1000, 10..20, true), (1000, 10..20, false)]), script()).0;
    assert_eq!((never.progress().cut, never.progress().up, never.summary().interrupted), (20, 30, 0));
}

#[test]
fn kinds_stand_where_they_may() {
    let kind = |firmware, places| Life { places, ..Life::of(firmware, 1, Stages::default(), 0) };
    let lives = vec![kind(Firmware::Ipxe, 0..20), kind(Firmware::Rom, 10..50)];
    let (fleet, _) = storm(StormPlan { lives, ..plan(Firmware::Rom, 50) }, script());
    let of = |place: usize| fleet.machine(place).unwrap().stages[0].0.clone();
    assert!((0..10).all(|place| of(place) == "ipxe dhcp") && (20..50).all(|place| of(place) == "rom dhcp"));
    assert_eq!((10..20).map(of).collect::<std::collections::BTreeSet<String>>().len(), 2, "both kinds");
}

#[test]
fn rubbish_is_no_trouble() {
    let (mut fleet, mut out) = (Fleet::new(plan(Firmware::Edk2, 3), Instant::ZERO).unwrap(), Outbox::new());
    let mut rng = crate::base::rng::Rng::new(1);
    let mut frame = [0u8; 400];
    emit_udp(&mut frame, HEAD_MAC, Mac([2, 0x4d, 0, 0, 0, 1]), SocketAddrV4::new(HEAD, 67), SocketAddrV4::new(HEAD, 68), 0, &[2; 300])
        .unwrap();
    for _ in 0..20_000 {
        let mut bytes = frame;
        (0..4).for_each(|_| bytes[rng.below(300) as usize] = rng.u64() as u8);
        let len = rng.below(400) as usize;
        fleet.handle(Now::default(), Input::Frame { link: 0, bytes: &bytes[..len] }, &mut out);
        out.clear();
    }
    assert_eq!(fleet.progress().lost, 0);
}

#[test]
fn the_table_reads_well() {
    let (fleet, _) = storm(plan(Firmware::RaspberryPi, 5), Script { double: 40, ..script() });
    let table = fleet.summary().to_string();
    assert!(table.starts_with("machines      5: 0 up, 5 lost") && table.contains("5 in pi load: hung after a duplicate"), "{table}");
    assert!(serde_json::to_string(&fleet.summary()).unwrap().contains("\"lost_by\":[{\"stage\":\"pi load\""));
}
