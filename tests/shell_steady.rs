//! The shell's steady state costs nothing (law 2): thousands of round trips over a veth open no descriptor and reach no allocator.

#[path = "common/counting.rs"]
mod counting;
#[path = "common/veth.rs"]
mod veth;

use std::net::SocketAddrV4;
use std::process::Command;
use std::time::{Duration, Instant};

use counting::{CALLS, COUNTING};
use muster::base::addr::Mac;
use muster::base::facts::Hardware;
use muster::base::machine::{Input, Machine, OpenFile};
use muster::base::outbox::{DatagramRun, Outbox, Output, Via};
use muster::base::time::{Instant as Time, Now};
use muster::shell::{Features, Shell};
use muster::wire::ether::{self, Checksum, Frame};
use veth::{CLIENT, EVERYBODY, HEAD, NOBODY, OURS, PEER, config, facts, in_a_namespace, udp};

const FILE: &str = "kernel";
const BLKSIZE: u16 = 512;
/// Four blocks, the last of them short.
const SIZE: u32 = 3 * BLKSIZE as u32 + 100;
const POOL: SocketAddrV4 = SocketAddrV4::new(HEAD, 20_070);
/// Its row in the table of endpoints.
const POOL_ROW: u16 = 4;
const TFTP_CLIENT: SocketAddrV4 = SocketAddrV4::new(CLIENT, 4000);

/// Sends DHCP back where it came from, opens a file anew for each datagram on port 69, and answers with all of its blocks.
#[derive(Default)]
struct Echo {
    greeted: bool,
    unforeseen: u64,
}

impl Machine for Echo {
    fn handle(&mut self, _: Now, input: Input<'_>, out: &mut Outbox) {
        match input {
            Input::Datagram(d) if d.dst.port() == 67 => {
                let Some(mac) = d.mac else { return };
                let (from, to) = (SocketAddrV4::new(HEAD, 67), SocketAddrV4::new(CLIENT, 68));
                out.datagram(d.endpoint, from, to, Via::Mac(mac), |buf| {
                    buf.get_mut(..d.payload.len())?.copy_from_slice(d.payload);
                    Some(d.payload.len())
                });
            }
            Input::Datagram(_) => drop(out.open(7, FILE.as_bytes())),
            Input::Opened { token, answer: Ok(OpenFile { file, size, .. }) } => {
                let (via, endpoint) = (Via::Kernel, POOL_ROW);
                let run = DatagramRun { endpoint, from: POOL, to: TFTP_CLIENT, via, size: BLKSIZE, count: 4, headers: &[] };
                out.send_run(token, (file, 0, size), run, |buf| {
                    let headers = buf.chunks_exact_mut(4).zip(1..=4);
                    headers.for_each(|(header, block)| header.copy_from_slice(&[0, 3, 0, block]));
                    Some(16)
                });
                out.put(Output::CloseFile { file });
            }
            Input::Arp { .. } | Input::Frame { .. } | Input::Link { .. } => {}
            _ => self.unforeseen += 1,
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

/// Asks for an echo and for the file, and asks again once it has both.
struct Client {
    asks: [Vec<u8>; 2],
    asked: bool,
    echoes: u32,
    blocks: u32,
    bytes: u32,
    rounds: u32,
}

impl Machine for Client {
    fn handle(&mut self, _: Now, input: Input<'_>, _: &mut Outbox) {
        let Input::Frame { bytes, .. } = input else { return };
        let Ok(Frame::Udp(frame)) = ether::parse(bytes, Checksum::Trusted) else { return };
        match frame.src.port() {
            67 if frame.src_mac == OURS && frame.payload == b"echo" => self.echoes += 1,
            20_070 if frame.dst == TFTP_CLIENT && frame.dst_mac == PEER => {
                self.blocks += 1;
                let body = frame.payload.get(4..).unwrap_or_default();
                self.bytes += body.len() as u32;
                assert_eq!(frame.payload.get(..4), Some(&[0, 3, 0, self.blocks as u8][..]), "DATA, in order");
                assert!(body.iter().all(|&byte| u32::from(byte) == self.blocks), "the content of block {}", self.blocks);
            }
            _ => {}
        }
        if (self.echoes, self.blocks, self.bytes) == (1, 4, SIZE) {
            (self.asked, self.echoes, self.blocks, self.bytes) = (false, 0, 0, 0);
            self.rounds += 1;
        }
    }

    fn expire(&mut self, _: Now, out: &mut Outbox) {
        self.asked = true;
        for ask in &self.asks {
            out.frame(0, |buf| {
                buf.get_mut(..ask.len())?.copy_from_slice(ask);
                Some(ask.len())
            });
        }
    }

    fn deadline(&self) -> Option<Time> {
        (!self.asked).then_some(Time::ZERO)
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("the process's descriptors").count()
}

struct Pair {
    server: Shell,
    echo: Echo,
    peer: Shell,
    client: Client,
}

impl Pair {
    fn run_to(&mut self, rounds: u32) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.client.rounds < rounds {
            assert!(Instant::now() < end, "stuck in round {}: {:?}", self.client.rounds, self.server.stats().collect::<Vec<_>>());
            self.peer.turn(&mut self.client, Duration::from_millis(1)).expect("a turn");
            COUNTING.set(true);
            let turned = self.server.turn(&mut self.echo, Duration::from_millis(1));
            COUNTING.set(false);
            turned.expect("a turn");
        }
    }
}

#[test]
fn thousands_of_round_trips_open_and_allocate_nothing() {
    in_a_namespace(|| {
        let root = std::env::temp_dir().join(format!("muster-steady-{}", std::process::id()));
        std::fs::create_dir(&root).unwrap();
        let content: Vec<u8> = (0..SIZE).map(|n| 1 + (n / u32::from(BLKSIZE)) as u8).collect();
        std::fs::write(root.join(FILE), content).unwrap();
        let mut config = config(Hardware::Ethernet);
        config.boot.root = root.clone();
        let ask = udp(OURS, TFTP_CLIENT, SocketAddrV4::new(HEAD, 69), "read");
        let asks = [udp(Mac::BROADCAST, NOBODY, EVERYBODY, "echo"), ask];
        let mut pair = Pair {
            server: veth::server(&config, Features::ALL),
            echo: Echo::default(),
            peer: Shell::frames(&facts("v1", PEER)).unwrap(),
            client: Client { asks, asked: false, echoes: 0, blocks: 0, bytes: 0, rounds: 0 },
        };
        pair.run_to(50);
        let before = CALLS.get();
        COUNTING.set(true);
        drop(Box::new(7));
        COUNTING.set(false);
        assert_eq!(CALLS.get(), before + 1, "the counter counts");
        let (calls, open) = (CALLS.get(), descriptors());
        let rounds = 3050;
        pair.run_to(rounds);
        assert_eq!(CALLS.get() - calls, 0, "calls of the allocator");
        assert_eq!(descriptors(), open, "descriptors");
        assert_eq!(pair.server.open_files(), 1);
        assert_eq!(pair.echo.unforeseen, 0);
        let lost = |name: &str| name.starts_with("not sent") || name.starts_with("lost") || name.ends_with("dropped");
        assert_eq!(pair.server.stats().filter(|(name, _)| lost(name)).collect::<Vec<_>>(), []);
        // The neighbour entry that the replies went by goes when it is told to.
        let entries = || {
            let shown = Command::new("ip").args(["neigh", "show", "nud", "permanent"]).output().expect("ip");
            String::from_utf8_lossy(&shown.stdout).contains(&CLIENT.to_string())
        };
        assert!(entries());
        pair.server.leave();
        assert!(!entries());
        std::fs::remove_dir_all(&root).unwrap();
    });
}
