//! The ways that packets take between a server machine and the kernel: the packet ring or system calls, frames of the shell's own making,
//! UDP_SEGMENT or packet by packet. Whichever is taken, the same bytes arrive, and what the kernel loses is told.

#[path = "common/veth.rs"]
mod veth;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use muster::base::addr::Mac;
use muster::base::facts::Hardware;
use muster::base::machine::{Input, Machine, OpenFile};
use muster::base::outbox::{DatagramRun, Outbox, Output, Via};
use muster::base::time::{Instant as Time, Now};
use muster::shell::{Features, Shell};
use muster::wire::ether::{self, Checksum, Frame};
use veth::{CLIENT, EVERYBODY, HEAD, NOBODY, OURS, PEER, config, facts, in_a_namespace, udp};

const POOL: SocketAddrV4 = SocketAddrV4::new(HEAD, 20_071);
/// Its row in the table of endpoints.
const POOL_ROW: u16 = 5;
const PORT_69: SocketAddrV4 = SocketAddrV4::new(HEAD, 69);
const TFTP_CLIENT: SocketAddrV4 = SocketAddrV4::new(CLIENT, 4000);
const WAYS: [Features; 3] = [Features::ALL, Features { ring: false, ..Features::ALL }, Features { ring: true, segment: false }];

/// A folder of one file, `kernel`, that is removed at the end.
struct Root(PathBuf);

impl Root {
    fn new(name: &str, content: &[u8]) -> Root {
        let root = Root(std::env::temp_dir().join(format!("muster-paths-{}-{name}", std::process::id())));
        std::fs::create_dir(&root.0).unwrap();
        std::fs::write(root.0.join("kernel"), content).unwrap();
        root
    }

    fn server(&self, features: Features) -> Shell {
        let mut config = config(Hardware::Ethernet);
        config.boot.root = self.0.clone();
        veth::server(&config, features)
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Sends the file: a window for each acknowledgement.
struct Sender {
    blksize: u16,
    windowsize: u16,
    file: Option<OpenFile>,
    way: Option<Mac>,
    other: Vec<String>,
    missed: (u64, u64),
    greeted: bool,
}

impl Sender {
    fn new(blksize: u16, windowsize: u16) -> Sender {
        Sender { blksize, windowsize, file: None, way: None, other: Vec::new(), missed: (0, 0), greeted: false }
    }

    fn window(&self, acked: u64, out: &mut Outbox) {
        let (Some(open), Some(mac)) = (self.file, self.way) else { return };
        let blksize = u64::from(self.blksize);
        let blocks = (open.size / blksize + 1 - acked).min(self.windowsize.into());
        let (offset, via) = (acked * blksize, if self.windowsize == 1 { Via::Mac(mac) } else { Via::Kernel });
        let bytes = (open.size - offset).min(blocks * blksize);
        let (size, block, count) = (self.blksize, acked as u16 + 1, blocks as u16);
        let run = DatagramRun { endpoint: POOL_ROW, from: POOL, to: TFTP_CLIENT, via, size, count, headers: &[] };
        out.send_run(7, (open.file, offset, bytes), run, |buf| {
            let headers = buf.chunks_exact_mut(4).zip(0..count);
            headers.for_each(|(header, n)| header.copy_from_slice(&muster::wire::tftp::data_header(block.wrapping_add(n))));
            Some(4 * usize::from(count))
        });
    }
}

impl Machine for Sender {
    fn handle(&mut self, _: Now, input: Input<'_>, out: &mut Outbox) {
        match input {
            Input::Datagram(d) if d.dst == PORT_69 => {
                self.way = d.mac;
                out.open(7, b"kernel");
            }
            Input::Datagram(d) if d.dst == POOL => {
                let acked = u16::from_be_bytes([d.payload[2], d.payload[3]]);
                let all = self.file.map_or(0, |file| file.size / u64::from(self.blksize) + 1);
                if u64::from(acked) < all {
                    self.window(acked.into(), out);
                }
            }
            Input::Opened { answer, .. } => {
                self.file = answer.ok();
                self.window(0, out);
            }
            Input::Missed { refused, overrun, .. } => {
                self.missed = (self.missed.0 + u64::from(refused), self.missed.1 + u64::from(overrun));
            }
            Input::Arp { .. } | Input::Frame { .. } | Input::Link { .. } => {}
            other => self.other.push(format!("{other:?}")),
        }
    }

    fn expire(&mut self, _: Now, out: &mut Outbox) {
        self.greeted = true;
        out.put(Output::Neighbour { link: 0, ip: CLIENT, mac: Some(PEER) });
    }

    fn deadline(&self) -> Option<Time> {
        (!self.greeted).then_some(Time::ZERO)
    }
}

/// Loads the file, and holds every packet to its word.
struct Loader {
    blksize: usize,
    windowsize: u16,
    asked: bool,
    bytes: Vec<u8>,
    block: u16,
    done: bool,
    faults: Vec<String>,
}

impl Machine for Loader {
    fn handle(&mut self, _: Now, input: Input<'_>, out: &mut Outbox) {
        let Input::Frame { bytes, .. } = input else { return };
        // Frames of our own making carry their checksum; those of the kernel leave it to the device.
        let checksum = if self.windowsize == 1 { Checksum::Verify } else { Checksum::Trusted };
        let frame = match ether::parse(bytes, checksum) {
            Ok(Frame::Udp(frame)) if frame.src == POOL => frame,
            Err(ether::FrameError::UdpChecksum) => return self.faults.push("a wrong checksum".into()),
            _ => return,
        };
        let next = self.block.wrapping_add(1);
        if frame.dst != TFTP_CLIENT || frame.dst_mac != PEER || frame.payload[..4] != [&[0, 3], &next.to_be_bytes()[..]].concat() {
            self.faults.push(format!("{frame:?}"));
            return;
        }
        self.bytes.extend(&frame.payload[4..]);
        self.block = next;
        self.done = frame.payload.len() < 4 + self.blksize;
        if self.done || self.block % self.windowsize == 0 {
            let mut ack = [0; 64];
            let packet = [&[0, 4], &self.block.to_be_bytes()[..]].concat();
            let len = ether::emit_udp(&mut ack, PEER, OURS, TFTP_CLIENT, POOL, 0, &packet).unwrap();
            out.frame(0, |buf| buf.get_mut(..len).map(|to| to.copy_from_slice(&ack[..len])).map(|()| len));
        }
    }

    fn expire(&mut self, _: Now, out: &mut Outbox) {
        self.asked = true;
        let ask = udp(OURS, TFTP_CLIENT, PORT_69, "read");
        out.frame(0, |buf| buf.get_mut(..ask.len()).map(|to| to.copy_from_slice(&ask)).map(|()| ask.len()));
    }

    fn deadline(&self) -> Option<Time> {
        (!self.asked).then_some(Time::ZERO)
    }
}

fn turns(server: &mut Shell, ours: &mut Sender, peer: &mut Shell, theirs: &mut impl Machine, mut done: impl FnMut(&Sender) -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end && !done(ours) {
        server.turn(ours, Duration::from_millis(1)).expect("a turn");
        peer.turn(theirs, Duration::from_millis(1)).expect("a turn");
    }
}

#[test]
fn every_way_brings_the_same_bytes() {
    in_a_namespace(|| {
        let content: Vec<u8> = (0..300_000u32).map(|n| (n * 7 + n / 1000) as u8).collect();
        let root = Root::new("ways", &content);
        let mut peer = Shell::frames(&facts("v1", PEER)).unwrap();
        for features in WAYS {
            let mut server = root.server(features);
            for (blksize, windowsize) in [(1468, 1), (1432, 1), (512, 1), (1468, 4), (1468, 16), (1456, 44), (512, 64)] {
                let mut ours = Sender::new(blksize, windowsize);
                let mut theirs = Loader {
                    blksize: blksize.into(),
                    windowsize,
                    asked: false,
                    bytes: Vec::new(),
                    block: 0,
                    done: false,
                    faults: Vec::new(),
                };
                let end = Instant::now() + Duration::from_secs(10);
                while !theirs.done && Instant::now() < end {
                    server.turn(&mut ours, Duration::from_millis(1)).expect("a turn");
                    peer.turn(&mut theirs, Duration::from_millis(1)).expect("a turn");
                }
                let what = format!("{features:?}, blksize {blksize}, windowsize {windowsize}");
                assert_eq!((ours.way, &ours.other, &theirs.faults), (Some(PEER), &vec![], &vec![]), "{what}");
                assert!(theirs.done && theirs.bytes == content, "{what}: {} bytes", theirs.bytes.len());
            }
            assert_eq!(server.stats().filter(|(name, _)| name.starts_with("not sent") || name.starts_with("lost")).count(), 0);
        }
    });
}

/// Sends frames, as fast as it may.
struct Flood {
    frames: Vec<Vec<u8>>,
    sent: usize,
    heard: Vec<Vec<u8>>,
}

impl Flood {
    fn of(frames: Vec<Vec<u8>>) -> Flood {
        Flood { frames, sent: 0, heard: Vec::new() }
    }
}

impl Machine for Flood {
    fn handle(&mut self, _: Now, input: Input<'_>, _: &mut Outbox) {
        if let Input::Frame { bytes, .. } = input {
            self.heard.push(bytes.to_vec());
        }
    }

    fn expire(&mut self, _: Now, out: &mut Outbox) {
        while out.has_room() {
            let Some(frame) = self.frames.get(self.sent) else { return };
            assert!(out.frame(0, |buf| buf.get_mut(..frame.len()).map(|to| to.copy_from_slice(frame)).map(|()| frame.len())));
            self.sent += 1;
        }
    }

    fn deadline(&self) -> Option<Time> {
        (self.sent < self.frames.len()).then_some(Time::ZERO)
    }
}

/// Counts DISCOVERs, or what passes for them.
#[derive(Default)]
struct Count {
    heard: u64,
    overrun: u64,
    refused: u64,
    told: u64,
    say: u16,
}

impl Machine for Count {
    fn handle(&mut self, _: Now, input: Input<'_>, _: &mut Outbox) {
        match input {
            Input::Datagram(d) if d.dst.port() == 67 => self.heard += 1,
            Input::Missed { link: 0, refused, overrun } => {
                self.told += 1;
                self.refused += u64::from(refused);
                self.overrun += u64::from(overrun);
            }
            _ => {}
        }
    }

    fn expire(&mut self, _: Now, out: &mut Outbox) {
        for _ in 0..std::mem::take(&mut self.say) {
            assert!(out.datagram(0, POOL, TFTP_CLIENT, Via::Mac(PEER), |buf| buf.get_mut(..1000).map(|to| to.fill(7)).map(|()| 1000)));
        }
    }

    fn deadline(&self) -> Option<Time> {
        (self.say > 0).then_some(Time::ZERO)
    }
}

fn stat(shell: &Shell, name: &str) -> u64 {
    shell.stats().find(|(found, _)| *found == name).map_or(0, |(_, n)| n)
}

#[test]
fn what_a_full_queue_drops_is_counted_and_told() {
    in_a_namespace(|| {
        let root = Root::new("overrun", b"");
        let mut peer = Shell::frames(&facts("v1", PEER)).unwrap();
        // More than the ring, and more than the receive buffer without one.
        for (features, frames) in [(Features::ALL, 9_000), (Features { ring: false, ..Features::ALL }, 40_000)] {
            let mut server = root.server(features);
            let mut ours = Count::default();
            let mut flood = Flood::of(vec![udp(Mac::BROADCAST, NOBODY, EVERYBODY, "discover"); frames]);
            while flood.sent < frames {
                peer.turn(&mut flood, Duration::ZERO).unwrap();
            }
            peer.turn(&mut flood, Duration::ZERO).unwrap();
            let end = Instant::now() + Duration::from_secs(10);
            let mut quiet = 0;
            while quiet < 20 && Instant::now() < end {
                let before = ours.heard;
                server.turn(&mut ours, Duration::from_millis(1)).unwrap();
                quiet = if ours.heard == before { quiet + 1 } else { 0 };
            }
            // Without a ring, a later message brings the count.
            let mut last = Flood::of(vec![udp(Mac::BROADCAST, NOBODY, EVERYBODY, "last")]);
            peer.turn(&mut last, Duration::ZERO).unwrap();
            peer.turn(&mut last, Duration::ZERO).unwrap();
            while ours.heard + ours.overrun <= frames as u64 && Instant::now() < end {
                server.turn(&mut ours, Duration::from_millis(1)).unwrap();
            }
            assert_eq!(ours.heard + ours.overrun, frames as u64 + 1, "{features:?}: {} heard", ours.heard);
            assert!(ours.heard >= 8_000 && ours.overrun > 0 && ours.told > 0, "{features:?}: {} heard", ours.heard);
            assert_eq!(stat(&server, "lost in receive queues"), ours.overrun);
        }
    });
}

#[test]
fn what_the_device_has_no_room_for_is_told() {
    in_a_namespace(|| {
        let root = Root::new("refused", b"");
        let mut server = root.server(Features::ALL);
        let shaped = "qdisc add dev v0 root tbf rate 8kbit burst 2000 limit 4000".split(' ');
        assert!(Command::new("tc").args(shaped).status().expect("tc").success());
        let mut ours = Count { say: 64, ..Count::default() };
        for _ in 0..4 {
            server.turn(&mut ours, Duration::from_millis(1)).unwrap();
        }
        assert!(ours.refused > 50 && ours.refused < 64 && ours.told == 1, "{} refused, told {} times", ours.refused, ours.told);
        assert_eq!(stat(&server, "not sent, queue full"), ours.refused);
    });
}

#[test]
fn what_is_for_others_does_not_come_in_and_nobody_complains() {
    in_a_namespace(|| {
        let root = Root::new("others", b"content");
        for features in WAYS {
            let mut server = root.server(features);
            let mut peer = Shell::frames(&facts("v1", PEER)).unwrap();
            let mut ours = Sender::new(512, 1);
            let to = |mac, to| udp(mac, TFTP_CLIENT, to, "for others");
            let mut tagged = to(OURS, PORT_69);
            tagged.splice(12..12, [0x81, 0, 0, 5]);
            let mut fragment = to(OURS, PORT_69);
            fragment[20] = 0x20;
            let mut theirs = Flood::of(vec![
                to(Mac([2, 0, 0, 0, 0, 0x77]), PORT_69),
                to(Mac::BROADCAST, PORT_69),
                to(OURS, SocketAddrV4::new(Ipv4Addr::new(10, 54, 0, 2), 69)),
                to(OURS, SocketAddrV4::new(HEAD, 20_068)),
                to(OURS, SocketAddrV4::new(HEAD, 20_073)),
                tagged,
                fragment,
                // These come in, and the kernel must not answer them as if nobody were there.
                udp(OURS, TFTP_CLIENT, SocketAddrV4::new(HEAD, 20_069), "\0\u{4}\0\u{1}"),
                udp(OURS, TFTP_CLIENT, SocketAddrV4::new(HEAD, 20_072), "\0\u{4}\0\u{1}"),
                udp(OURS, TFTP_CLIENT, PORT_69, "read"),
            ]);
            turns(&mut server, &mut ours, &mut peer, &mut theirs, |ours| ours.file.is_some() && ours.other.len() >= 2);
            assert_eq!(ours.other.len(), 2, "{features:?}: {:?}", ours.other);
            assert!(ours.other[0].contains("10.54.0.1:20069") && ours.other[1].contains("10.54.0.1:20072"), "{:?}", ours.other);
            // Complaints: about the ports that nobody has, and about no other.
            let complaints = |theirs: &Flood| -> Vec<u16> {
                let icmp = theirs.heard.iter().filter(|frame| frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&1));
                let mut ports: Vec<u16> = icmp.map(|frame| u16::from_be_bytes([frame[64], frame[65]])).collect();
                ports.sort_unstable();
                ports
            };
            let end = Instant::now() + Duration::from_secs(5);
            while complaints(&theirs).len() < 2 && Instant::now() < end {
                peer.turn(&mut theirs, Duration::from_millis(5)).unwrap();
            }
            assert_eq!(complaints(&theirs), [20_068, 20_073], "{features:?}");
        }
    });
}

#[test]
fn a_window_that_the_kernel_refuses_to_cut_leaves_all_the_same() {
    in_a_namespace(|| {
        let root = Root::new("refusal", &[7; 6_000]);
        let mut server = root.server(Features::ALL);
        let mut peer = Shell::frames(&facts("v1", PEER)).unwrap();
        // Somebody makes the link narrower than it was at start.
        assert!(Command::new("ip").args(["link", "set", "v0", "mtu", "1300"]).status().expect("ip").success());
        let mut ours = Sender::new(1468, 5);
        let mut theirs = Flood::of(vec![udp(OURS, TFTP_CLIENT, PORT_69, "read")]);
        turns(&mut server, &mut ours, &mut peer, &mut theirs, |ours| ours.file.is_some());
        let packets = |theirs: &Flood| {
            let of_data = |frame: &&Vec<u8>| frame.get(23) == Some(&17) && frame.get(34..36) == Some(&POOL.port().to_be_bytes()[..]);
            theirs.heard.iter().filter(of_data).count()
        };
        let end = Instant::now() + Duration::from_secs(5);
        while packets(&theirs) < 5 && Instant::now() < end {
            server.turn(&mut ours, Duration::from_millis(1)).unwrap();
            peer.turn(&mut theirs, Duration::from_millis(5)).unwrap();
        }
        assert_eq!(packets(&theirs), 5, "first fragments of the five packets; {:?}", server.stats().collect::<Vec<_>>());
        assert_eq!(stat(&server, "not sent, refused"), 0);
    });
}
