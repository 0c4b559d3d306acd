//! The world, tried with one scripted client: DORA, then one file.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use super::config::{HEAD, KERNEL, config};
use super::disk::Habits;
use super::net::{Odds, Wire};
use super::world::{Setup, World};
use crate::base::addr::Mac;
use crate::base::machine::{Input, Machine};
use crate::base::outbox::Outbox;
use crate::base::time::{Instant, Now};
use crate::engine::server::Server;
use crate::wire::dhcp::{self, Header, MessageBuilder, MessageType, Scratch, code};
use crate::wire::ether::{self, Checksum, Frame};
use crate::wire::tftp::{self, Mode, Packet, TftpOptions};

const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 9]);
const RETRY: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Discover,
    Request { address: Ipv4Addr },
    Load { address: Ipv4Addr },
    Done,
}

/// A client that repeats what it said last every second.
struct Script {
    step: Step,
    due: Option<Instant>,
    options: TftpOptions,
    /// The server's transfer port, the last block in order, its size.
    port: Option<u16>,
    block: u64,
    blksize: usize,
    received: u64,
    error: bool,
}

impl Script {
    fn new(options: TftpOptions) -> Script {
        let (step, blksize) = (Step::Discover, options.blksize.unwrap_or(512).into());
        Script { step, due: Some(Instant::ZERO), options, port: None, block: 0, blksize, received: 0, error: false }
    }

    fn say(&mut self, now: Now, out: &mut Outbox) {
        self.due = (self.step != Step::Done).then_some(now.at + RETRY);
        let mut payload = [0; 600];
        let (len, src, dst) = match self.step {
            Step::Discover => (message(&mut payload, MessageType::Discover, None), zero(68), broadcast()),
            Step::Request { address } => (message(&mut payload, MessageType::Request, Some(address)), zero(68), broadcast()),
            Step::Load { address } => {
                let len = match self.port {
                    None => tftp::emit_rrq(&mut payload, KERNEL.as_bytes(), Mode::Octet, &self.options),
                    Some(_) => tftp::emit_ack(&mut payload, self.block as u16),
                };
                (len, SocketAddrV4::new(address, 2000), SocketAddrV4::new(HEAD, self.port.unwrap_or(69)))
            }
            Step::Done => return,
        };
        let payload = &payload[..len.unwrap()];
        out.frame(0, |buf| ether::emit_udp(buf, MAC, Mac::BROADCAST, src, dst, 1, payload));
    }

    fn hear(&mut self, port: u16, packet: Packet<'_>) -> bool {
        match packet {
            Packet::Oack(options) if self.block == 0 => {
                self.port = Some(port);
                self.blksize = options.blksize.unwrap_or(512).into();
                true
            }
            Packet::Data { block, data } if block == (self.block + 1) as u16 => {
                (self.port, self.block, self.received) = (Some(port), self.block + 1, self.received + data.len() as u64);
                data.len() < self.blksize || self.block % u64::from(self.options.windowsize.unwrap_or(1)) == 0
            }
            Packet::Error { .. } => {
                (self.step, self.error) = (Step::Done, true);
                false
            }
            _ => false,
        }
    }
}

fn zero(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)
}

fn broadcast() -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::BROADCAST, 67)
}

fn message(buf: &mut [u8], kind: MessageType, asked: Option<Ipv4Addr>) -> Option<usize> {
    let mut chaddr = [0; 16];
    chaddr[..6].copy_from_slice(&MAC.0);
    let mut builder = MessageBuilder::new(buf, &Header { xid: 77, chaddr, ..Header::default() }, 548)?;
    builder.message_type(kind);
    if let Some(address) = asked {
        builder.ip(code::REQUESTED_IP, address);
        builder.ip(code::SERVER_ID, HEAD);
    }
    Some(builder.finish(None))
}

impl Machine for Script {
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Outbox) {
        let Input::Frame { bytes, .. } = input else { return };
        let Ok(Frame::Udp(frame)) = ether::parse(bytes, Checksum::Verify) else { return };
        let mut scratch = Scratch::default();
        match (self.step, frame.dst.port()) {
            (Step::Discover | Step::Request { .. }, 68) => {
                let Ok(reply) = dhcp::parse(frame.payload, &mut scratch) else { return };
                let address = reply.header.yiaddr;
                self.step = match (self.step, reply.message_type()) {
                    (Step::Discover, Some(MessageType::Offer)) => Step::Request { address },
                    (Step::Request { .. }, Some(MessageType::Ack)) => Step::Load { address },
                    _ => return,
                };
                self.say(now, out);
            }
            (Step::Load { .. }, 2000) => {
                let Ok(packet) = tftp::parse(frame.payload) else { return };
                let last = matches!(packet, Packet::Data { data, .. } if data.len() < self.blksize);
                if self.hear(frame.src.port(), packet) {
                    self.say(now, out);
                    if last {
                        (self.step, self.due) = (Step::Done, None);
                    }
                }
            }
            _ => {}
        }
    }

    fn expire(&mut self, now: Now, out: &mut Outbox) {
        if self.due.is_some_and(|due| due <= now.at) {
            self.say(now, out);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.due
    }
}

const WINDOWED: TftpOptions = TftpOptions { blksize: Some(1468), tsize: Some(0), timeout: None, windowsize: Some(4) };

fn world(seed: u64, odds: Odds, habits: Habits, options: TftpOptions, size: u64) -> World<Server, Script> {
    let setup = Setup { config: config([(9, MAC)]), seed, wire: Wire { odds, ..Wire::GIGABIT }, habits };
    let server = Server::new(&setup.config, seed, Now::default());
    let mut world = World::new(&setup, server, Script::new(options));
    world.disk_mut().put(KERNEL, size);
    world
}

fn finish(world: &mut World<Server, Script>, seconds: u64) {
    let done = world.run(Instant::from_millis(seconds * 1000), |world| world.clients().step == Step::Done);
    assert!(done, "{:?} at block {}", world.clients().step, world.clients().block);
    world.pass(Duration::from_millis(100));
    assert_eq!(world.findings().violations, []);
}

mod commands;

#[test]
fn a_clean_boot() {
    for (options, blocks) in [(TftpOptions::default(), 196), (WINDOWED, 69)] {
        let mut world = world(1, Odds::NONE, Habits::default(), options, 100_000);
        finish(&mut world, 5);
        let findings = world.findings();
        assert_eq!((world.clients().received, world.clients().block), (100_000, blocks));
        assert_eq!((findings.leases, findings.transfers, findings.silence), (1, 1, Duration::ZERO));
        assert_eq!((world.disk().held(), world.unroutable(), world.server().transfers()), (0, 0, 0));
        assert_eq!(world.now().unix, 1_750_000_000 + world.now().at.nanos() / 1_000_000_000);
    }
}

#[test]
fn the_same_seed_gives_the_same_transcript() {
    let run = |seed| {
        let odds = Odds { loss: 20_000, duplicate: 20_000, reorder: 20_000, jitter: Duration::from_millis(1) };
        let habits = Habits { cold: 300_000, latency: Duration::from_millis(5), failure: 0 };
        let mut world = world(seed, odds, habits, WINDOWED, 300_000);
        finish(&mut world, 60);
        world.hash()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn a_cold_disk_only_delays() {
    let habits = Habits { cold: 1_000_000, latency: Duration::from_millis(9), failure: 0 };
    let mut world = world(3, Odds::NONE, habits, WINDOWED, 300_000);
    finish(&mut world, 5);
    assert_eq!(world.clients().received, 300_000);
    let silence = world.findings().silence;
    assert!(silence >= Duration::from_millis(9) && silence < Duration::from_millis(100), "{silence:?}");
}

#[test]
fn a_change_in_place_ends_the_transfer() {
    let mut world = world(4, Odds::NONE, Habits::default(), WINDOWED, 10_000_000);
    assert!(world.run(Instant::from_millis(5000), |world| world.clients().block > 100));
    world.disk_mut().change(KERNEL);
    finish(&mut world, 10);
    assert!(world.clients().error);
    assert_eq!(world.disk().held(), 0);
}

#[test]
fn a_replaced_file_is_read_to_its_end() {
    let mut world = world(5, Odds::NONE, Habits::default(), WINDOWED, 1_000_000);
    assert!(world.run(Instant::from_millis(5000), |world| world.clients().block > 100));
    world.disk_mut().put(KERNEL, 500);
    finish(&mut world, 10);
    assert_eq!((world.clients().received, world.clients().error), (1_000_000, false));
}
