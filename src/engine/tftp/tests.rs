//! Conversations in virtual time, told in words: `open vmlinuz`, `data 1..4 2048B`, `oack tsize=70`, `error 1 ...`, `close 7`.

mod loss;
mod made;
mod places;
mod requests;
mod restart;
mod text;

use std::net::{Ipv4Addr, SocketAddrV4};

use super::*;
use crate::base::addr::Mac;
use crate::base::machine::{FileId, Input};
use crate::engine::testing::*;
use crate::wire::tftp::TftpOptions;

const NOTHING: TftpOptions = TftpOptions { blksize: None, tsize: None, timeout: None, windowsize: None };
const FILE: u32 = 7;

/// A TFTP client's socket, and what it knows of its transfer.
struct Peer {
    src: SocketAddrV4,
    /// The source of its frames, where the link shows it.
    mac: Option<Mac>,
    /// The server's port of the latest transfer.
    port: u16,
    token: u64,
}

impl Peer {
    fn at(address: Ipv4Addr) -> Peer {
        Peer { src: SocketAddrV4::new(address, 2070), mac: None, port: 0, token: 0 }
    }

    /// A machine without a DHCP record, on the Ethernet link.
    fn new() -> Peer {
        Peer::at(ip(10, 54, 9, 9))
    }

    /// One that got its address by DHCP.
    fn leased(world: &mut World, ask: &Ask) -> Peer {
        Peer::at(world.lease(ask))
    }

    fn send(&mut self, world: &mut World, port: u16, payload: &[u8]) -> Vec<String> {
        let dst = SocketAddrV4::new(HEAD, port);
        let got = world.datagram(0, self.mac, (self.src, dst), payload);
        self.hear(&got)
    }

    /// Puts what came out into words.
    fn hear(&mut self, got: &[Got]) -> Vec<String> {
        got.iter().filter_map(|got| self.word(got)).collect()
    }

    fn word(&mut self, got: &Got) -> Option<String> {
        match got {
            Got::Open { token, path } => {
                self.token = *token;
                Some(format!("open {path}"))
            }
            Got::Blocks(run) => {
                assert_eq!((run.to, *run.from.ip(), run.token), (self.src, HEAD, self.token));
                assert_eq!(u64::from(run.count), u64::from(run.bytes / u32::from(run.blksize)) + u64::from(!full(run)));
                self.port = run.from.port();
                Some(format!("data {}..{} {}B", run.block, run.block.wrapping_add(run.count - 1), run.bytes))
            }
            Got::Datagram { from, to, body, .. } if from.port() != 67 && to.port() != 67 => {
                assert_eq!(*to, self.src);
                if from.port() != PORT {
                    self.port = from.port();
                }
                Some(words_of(body))
            }
            Got::Close(file) => Some(format!("close {}", file.to_u64())),
            Got::Read { offset, len, .. } => Some(format!("read {offset}+{len}")),
            _ => None,
        }
    }

    fn ask(&mut self, world: &mut World, name: &str, options: TftpOptions) -> Vec<String> {
        self.ask_in(world, name, Mode::Octet, options)
    }

    fn ask_in(&mut self, world: &mut World, name: &str, mode: Mode, options: TftpOptions) -> Vec<String> {
        let mut buf = [0; 600];
        let len = tftp::emit_rrq(&mut buf, name.as_bytes(), mode, &options).unwrap();
        self.send(world, PORT, &buf[..len])
    }

    fn opened(&mut self, world: &mut World, size: u64) -> Vec<String> {
        self.opened_as(world, FILE, size)
    }

    fn opened_as(&mut self, world: &mut World, file: u32, size: u64) -> Vec<String> {
        let answer = Ok(OpenFile { file: FileId::from_u64(file.into()), size, stamp: 7 });
        let got = world.handle(Input::Opened { token: self.token, answer });
        self.hear(&got)
    }

    /// The root has no such file.
    fn missing(&mut self, world: &mut World) -> Vec<String> {
        let got = world.handle(Input::Opened { token: self.token, answer: Err(OpenError::NotFound) });
        self.hear(&got)
    }

    /// Asks for a file of this size and has it opened; gives the first answer.
    fn begin(&mut self, world: &mut World, size: u64, options: TftpOptions) -> Vec<String> {
        assert_eq!(self.ask(world, "vmlinuz", options), ["open vmlinuz"]);
        self.opened(world, size)
    }

    fn ack(&mut self, world: &mut World, block: u16) -> Vec<String> {
        let mut buf = [0; 4];
        tftp::emit_ack(&mut buf, block).unwrap();
        self.send(world, self.port, &buf)
    }

    fn error(&mut self, world: &mut World, code: ErrorCode) -> Vec<String> {
        let mut buf = [0; 40];
        let len = tftp::emit_error(&mut buf, code, "thanks").unwrap();
        self.send(world, self.port, &buf[..len])
    }

    /// An ACK, and what follows within the moments that pacing takes.
    fn pull(&mut self, world: &mut World, block: u16) -> Vec<String> {
        let mut told = self.ack(world, block);
        for _ in 0..20 {
            if told.is_empty() {
                told = self.wait(world, 1);
            }
        }
        told
    }

    fn wait(&mut self, world: &mut World, millis: u64) -> Vec<String> {
        let got = world.advance(millis);
        self.hear(&got)
    }
}

/// Whether a run has full blocks only.
fn full(run: &crate::engine::testing::Blocks) -> bool {
    run.bytes > 0 && run.bytes % u32::from(run.blksize) == 0 && u32::from(run.count) == run.bytes / u32::from(run.blksize)
}

fn words_of(body: &[u8]) -> String {
    match tftp::parse(body).expect("the server's packets are sound") {
        Packet::Data { block, data } => format!("data {block}..{block} {}B", data.len()),
        Packet::Error { code, message } => format!("error {code} {}", String::from_utf8_lossy(message)),
        Packet::Oack(options) => {
            let mut words = "oack".to_string();
            let number = |name, value: Option<u64>| value.map_or(String::new(), |value| format!(" {name}={value}"));
            words += &number("blksize", options.blksize.map(u64::from));
            words += &number("tsize", options.tsize);
            words += &number("timeout", options.timeout.map(u64::from));
            words + &number("windowsize", options.windowsize.map(u64::from))
        }
        other => panic!("{other:?}"),
    }
}

fn windows(windowsize: u16) -> TftpOptions {
    TftpOptions { windowsize: Some(windowsize), ..NOTHING }
}

/// A transfer of `blocks` blocks of 512 in windows, up to the first window.
fn in_windows(world: &mut World, windowsize: u16, blocks: u64) -> Peer {
    let mut peer = Peer::leased(world, &Ask::os(mac(1)));
    peer.begin(world, blocks * 512 - 1, windows(windowsize));
    peer.ack(world, 0);
    peer
}

#[test]
fn a_lock_step_transfer_goes_block_by_block() {
    let mut world = World::new(&config());
    let mut peer = Peer::new();
    assert_eq!(peer.begin(&mut world, 1300, NOTHING), ["data 1..1 512B"], "no options: no OACK");
    assert_eq!(peer.ack(&mut world, 1), ["data 2..2 512B"]);
    assert_eq!(peer.ack(&mut world, 2), ["data 3..3 276B"]);
    assert_eq!(peer.ack(&mut world, 3), ["close 7"]);
    assert_eq!((world.server.transfers(), world.count(Counter::TftpDone), world.count(Counter::DataBytes)), (0, 1, 1300));
    assert_eq!(peer.ack(&mut world, 3), [""; 0], "an ACK too many finds nothing");
    assert_eq!(world.count(Counter::TftpNoTransfer), 1);
}

#[test]
fn sizes_around_a_block() {
    let table: [(u64, &[&str]); 5] = [
        (0, &["data 1..1 0B"]),
        (1, &["data 1..1 1B"]),
        (511, &["data 1..1 511B"]),
        (512, &["data 1..1 512B", "data 2..2 0B"]),
        (513, &["data 1..1 512B", "data 2..2 1B"]),
    ];
    for (size, blocks) in table {
        let mut world = World::new(&config());
        let mut peer = Peer::new();
        let mut told = peer.begin(&mut world, size, NOTHING);
        for block in 1..=blocks.len() as u16 {
            assert_eq!(told, [blocks[usize::from(block) - 1]], "size {size}");
            told = peer.ack(&mut world, block);
        }
        assert_eq!(told, ["close 7"], "size {size}");
    }
}

#[test]
fn the_oack_holds_what_was_asked_for() {
    let some = |blksize, tsize, timeout, windowsize| TftpOptions { blksize, tsize, timeout, windowsize };
    let table = [
        (some(Some(1456), None, None, None), "oack blksize=1456"),
        (some(Some(8), None, None, None), "oack blksize=8"),
        (some(Some(1468), None, None, None), "oack blksize=1468"),
        (some(Some(1469), None, None, None), "oack blksize=1468"),
        (some(Some(65_464), Some(0), None, None), "oack blksize=1468 tsize=70000"),
        (some(None, Some(0), None, None), "oack tsize=70000"),
        (some(None, None, Some(3), None), "oack timeout=3"),
        (some(None, None, None, Some(4)), "oack windowsize=4"),
        (some(Some(1468), Some(0), None, Some(65_535)), "oack blksize=1468 tsize=70000 windowsize=16"),
    ];
    for (asked, answer) in table {
        let mut world = World::new(&config());
        let mut peer = Peer::new();
        assert_eq!(peer.begin(&mut world, 70_000, asked), [answer], "{asked:?}");
        let blksize = asked.blksize.unwrap_or(512).min(1468);
        let window = u32::from(asked.windowsize.unwrap_or(1).min(16));
        assert_eq!(peer.ack(&mut world, 0), [format!("data 1..{window} {}B", window * u32::from(blksize))]);
    }
    let mut jumbo = config();
    jumbo.links[0].mtu = 9000;
    let largest = TftpOptions { blksize: Some(65_464), ..NOTHING };
    let mut world = World::settled(&jumbo);
    assert_eq!(Peer::new().begin(&mut world, 1, largest), ["oack blksize=1468"], "nodes have 1500 bytes, whatever the head has");
    jumbo.networks[0].mtu = Some(9000);
    let mut world = World::settled(&jumbo);
    assert_eq!(Peer::new().begin(&mut world, 1, largest), ["oack blksize=8968"]);
    jumbo.networks[0].mtu = Some(1400);
    let mut world = World::settled(&jumbo);
    assert_eq!(Peer::new().begin(&mut world, 1, largest), ["oack blksize=1368"]);
}

#[test]
fn blocks_fit_the_route_to_a_client_behind_a_router() {
    let largest = TftpOptions { blksize: Some(65_464), ..NOTHING };
    let mut world = World::settled(&config());
    let behind = Ipv4Addr::from(u32::from(RELAY) + 300);
    let network = world.server.config().network_of(behind).unwrap() as u64;
    let request = Peer { src: SocketAddrV4::new(behind, 3000), ..Peer::at(behind) };
    let got = world.handle(Input::Datagram(Datagram {
        endpoint: 2,
        mac: request.mac,
        src: request.src,
        dst: SocketAddrV4::new(HEAD, 69),
        payload: b"\0\x01f\0octet\0",
    }));
    assert!(got.contains(&Got::Route(network, behind)), "the world is asked: {got:?}");
    world.handle(Input::Route { token: network, mtu: 1400 });
    let mut peer = Peer { src: SocketAddrV4::new(behind, 3001), ..Peer::at(behind) };
    assert_eq!(peer.begin(&mut world, 1, largest), ["oack blksize=1368"], "a tunnel");
    world.handle(Input::Route { token: network, mtu: 9000 });
    let mut peer = Peer { src: SocketAddrV4::new(behind, 3002), ..Peer::at(behind) };
    assert_eq!(peer.begin(&mut world, 1, largest), ["oack blksize=1468"]);
    world.handle(Input::Route { token: u64::MAX, mtu: 1 });
}

#[test]
fn every_transfer_has_another_port() {
    let mut world = World::settled(&config());
    for mut peer in [Peer::new(), Peer::leased(&mut world, &Ask::rom(mac(1)))] {
        let mut ports = Vec::new();
        for _ in 0..4 {
            peer.begin(&mut world, 10, NOTHING);
            ports.push(peer.port);
            peer.ack(&mut world, 1);
        }
        ports.sort_unstable();
        assert_eq!(ports, [20_069, 20_070, 20_071, 20_072]);
    }
}

#[test]
fn block_numbers_wrap() {
    let mut world = World::new(&config());
    let mut peer = Peer::new();
    let size = 140_000 * 8 + 3;
    peer.begin(&mut world, size, TftpOptions { blksize: Some(8), windowsize: Some(16), ..NOTHING });
    let mut told = peer.pull(&mut world, 0);
    let mut acked = 0u64;
    while told != ["close 7"] {
        let last = (acked + 16).min(140_001);
        let bytes = last * 8 - acked * 8 - if last == 140_001 { 5 } else { 0 };
        assert_eq!(told, [format!("data {}..{} {bytes}B", (acked + 1) as u16, last as u16)]);
        acked = last;
        told = peer.pull(&mut world, acked as u16);
    }
    assert_eq!((acked, world.count(Counter::DataBytes)), (140_001, size));
    // In the middle of a window, and in lock-step.
    let mut world = World::new(&config());
    peer.begin(&mut world, 70_000 * 8, TftpOptions { blksize: Some(8), ..NOTHING });
    peer.pull(&mut world, 0);
    (1..=65_534).for_each(|block| drop(peer.pull(&mut world, block)));
    assert_eq!(peer.pull(&mut world, 65_535), ["data 0..0 8B"]);
    assert_eq!(peer.pull(&mut world, 0), ["data 1..1 8B"]);
}

#[test]
fn a_partial_ack_rewinds_the_window() {
    let mut world = World::settled(&config());
    let mut peer = in_windows(&mut world, 4, 20);
    assert_eq!(peer.ack(&mut world, 4), ["data 5..8 2048B"]);
    assert_eq!(peer.ack(&mut world, 6), ["data 7..10 2048B"], "after the last block that arrived (RFC 7440)");
    assert_eq!(peer.ack(&mut world, 10), ["data 11..14 2048B"]);
    assert_eq!(peer.ack(&mut world, 15), [""; 0], "beyond what was sent");
    assert_eq!(peer.ack(&mut world, 9), [""; 0], "an old one");
    assert_eq!(world.count(Counter::TftpStaleAck), 2);
    assert_eq!(peer.ack(&mut world, 14), ["data 15..18 2048B"]);
    assert_eq!(peer.ack(&mut world, 18), ["data 19..20 1023B"]);
    assert_eq!(peer.ack(&mut world, 20), ["close 7"]);
}

#[test]
fn the_first_block_of_a_window_is_asked_for_once_and_sent_at_once() {
    let mut world = World::settled(&config());
    let mut peer = in_windows(&mut world, 8, 40);
    world.advance(4);
    assert_eq!(peer.ack(&mut world, 8), ["data 9..16 4096B"]);
    assert_eq!(peer.ack(&mut world, 8), [""; 0], "a copy of the ACK, which the network made");
    world.advance(4);
    assert_eq!(peer.ack(&mut world, 8), ["data 9..16 4096B"], "block 9 was lost: 10 made the client say so");
    for _ in 0..6 {
        assert_eq!(peer.ack(&mut world, 8), [""; 0], "and so did 11 to 16");
    }
    world.advance(4);
    assert_eq!(peer.ack(&mut world, 16), ["data 17..24 4096B"]);
}

#[test]
fn a_burst_of_equal_acks_is_one_rewind() {
    let mut world = World::settled(&config());
    let mut peer = in_windows(&mut world, 8, 40);
    // EDK2 acknowledges block 2 for each of 4 to 8, which came out of order.
    assert_eq!(peer.ack(&mut world, 2), ["data 3..10 4096B"]);
    for _ in 0..5 {
        assert_eq!(peer.ack(&mut world, 2), [""; 0]);
    }
    assert_eq!(world.count(Counter::TftpEarlyAck), 5);
    assert_eq!(peer.ack(&mut world, 10), ["data 11..18 4096B"]);
}

#[test]
fn a_run_fits_one_call_of_the_kernel() {
    let mut jumbo = config();
    (jumbo.links[0].mtu, jumbo.networks[0].mtu, jumbo.tftp.windowsize) = (9000, Some(9000), 64);
    let mut world = World::settled(&jumbo);
    let mut peer = Peer::leased(&mut world, &Ask::os(mac(1)));
    peer.begin(&mut world, 1 << 20, TftpOptions { blksize: Some(8192), windowsize: Some(64), ..NOTHING });
    let told = peer.ack(&mut world, 0);
    assert!(told.len() <= 8 && told[0] == "data 1..8 65536B", "{told:?}");
    let last: u16 = told.last().and_then(|word| word.split("..").nth(1)?.split(' ').next()?.parse().ok()).unwrap();
    let next = peer.pull(&mut world, last);
    assert!(!next.is_empty() && next.iter().all(|run| run.ends_with(" 65536B")), "{next:?}");
}
