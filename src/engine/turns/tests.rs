//! Two services in one lane: TFTP, and a toy that sends files to connections as HTTP might.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::Duration;

use super::*;
use crate::base::machine::{ConnId, Datagram, FileId, OpenFile};
use crate::base::outbox::{Outbox, Output, Target};
use crate::base::slab::{Key, Slab};
use crate::base::time::{Instant, Now};
use crate::config::Config;
use crate::engine::commit::Commit;
use crate::engine::endpoints::{self, Endpoints};
use crate::engine::links::Links;
use crate::engine::pace::{FULL_FRAME, Pace, SendStamp, Taker, WaitQueue, Waiter, Witness};
use crate::engine::stats::Stats;
use crate::engine::testing::{HEAD, config, ip, mac};
use crate::engine::tftp::{self, Tftp};
use crate::roll::registry::Registry;
use crate::wire::tftp::{Mode, TftpOptions};

const TFTP: u8 = endpoints::TFTP.id;
const TOY: u8 = 200;
/// The toy's piece, and a window of TFTP's: sixteen full frames each.
const FRAMES: u64 = 16;
const PIECE: u64 = FRAMES * 1448;
const BLKSIZE: u16 = 1468;
/// The way behind a link of 10 Gbit/s, in bytes per second, and what an answer takes beside that.
const RATE: u64 = 125_000_000;
const ANSWER: Duration = Duration::from_micros(100);
const LARGE: u64 = 1 << 32;

/// Sends files to readers, each on a connection; what a reader has taken is acknowledged by its kernel.
struct Toy {
    readers: Slab<Reader>,
}

struct Reader {
    left: u64,
    stamp: Option<SendStamp>,
    witness: Witness,
}

impl Toy {
    fn waiter(key: Key<Reader>) -> Waiter {
        Waiter::new(TOY, key)
    }

    fn ask(&mut self, ctx: &mut Ctx<'_>, bytes: u64) {
        let reader = Reader { left: bytes, stamp: None, witness: Witness::default() };
        let key = self.readers.insert(reader).expect("a place");
        ctx.pace.lane(0).begins(FRAMES * FULL_FRAME);
        ctx.pace.want(ctx.now, 0, WaitQueue::New, Toy::waiter(key));
    }

    fn turn(&mut self, ctx: &mut Ctx<'_>, turn: Turn) {
        let key = turn.who.key();
        let reader = self.readers.get_mut(key).expect("a waiter is there");
        let bytes = reader.left.min(PIECE);
        reader.left -= bytes;
        reader.stamp = Some(ctx.pace.lane(0).bottleneck.sent(ctx.now, FRAMES * FULL_FRAME, FRAMES, true));
        assert!(ctx.out.send_file(key.to_u64(), FileId::from_u64(8), 0, bytes, ConnId::from_u64(key.to_u64())));
    }

    fn drained(&mut self, ctx: &mut Ctx<'_>, key: Key<Reader>) {
        let reader = self.readers.get_mut(key).expect("a reader is there");
        let stamp = reader.stamp.take().expect("something was under way");
        ctx.pace.lane(0).bottleneck.acknowledged(ctx.now, stamp, &mut reader.witness, true);
        if reader.left > 0 {
            return ctx.pace.want(ctx.now, 0, WaitQueue::Ring, Toy::waiter(key));
        }
        self.readers.remove(key);
        ctx.pace.lane(0).ends(ctx.now, FRAMES * FULL_FRAME);
    }
}

struct Services {
    tftp: Tftp,
    toy: Toy,
    given: Vec<(Instant, Turn)>,
}

impl Takers for Services {
    fn turn(&mut self, ctx: &mut Ctx<'_>, turn: Turn) {
        self.given.push((ctx.now, turn));
        match turn.who.service {
            TFTP => self.tftp.turn(ctx, turn),
            TOY => self.toy.turn(ctx, turn),
            other => panic!("{other}"),
        }
    }
}

/// What happens later.
enum Event {
    Opened(u64),
    /// From a client's socket to a port of the server's.
    Ack(SocketAddrV4, u16, u16),
    Drained(u64),
}

/// One link with a slow way behind it, and both services.
struct Both {
    config: Config,
    endpoints: Endpoints,
    links: Links,
    roll: Registry,
    commit: Commit,
    stats: Stats,
    pace: Pace,
    out: Outbox,
    services: Services,
    now: Now,
    events: BTreeMap<(Instant, usize), Event>,
    scheduled: usize,
    /// When the way has delivered what is on it.
    free: Instant,
    /// The service whose clients have died.
    dead: Option<u8>,
    /// All outputs, in words.
    outputs: Vec<String>,
}

impl Both {
    fn new(takers: &[u8]) -> Both {
        let mut config = config();
        config.links[0].rate = Some(10_000_000_000);
        let now = Now { at: Instant::from_millis(1000), unix: 1_700_000_000 };
        let (tftp, toy) = (Tftp::new(config.server.capacity, 7, now.at), Toy { readers: Slab::new(8) });
        let records = |service| if service == TFTP { tftp.capacity() } else { toy.readers.capacity() };
        let takers: Vec<_> = takers.iter().map(|&service| Taker { service, records: records(service) }).collect();
        let mut roll = Registry::new(config.server.capacity, config.plan, 7, now.at);
        let sections = config.nodes.iter().map(|node| (node.number, node.macs.as_slice()));
        roll.configure(
            sections,
            |number| config.nodes.iter().find(|node| node.number == number).map(|node| node.macs.as_slice()),
            now.unix,
        )
        .expect("sound sections");
        Both {
            endpoints: Endpoints::new(&config),
            links: Links::default(),
            roll,
            commit: Commit::new(config.server.capacity),
            stats: Stats::default(),
            pace: Pace::new(&config, &takers, now.at),
            out: Outbox::new(),
            services: Services { tftp, toy, given: Vec::new() },
            now,
            events: BTreeMap::new(),
            scheduled: 0,
            free: now.at,
            dead: None,
            outputs: Vec::new(),
            config,
        }
    }

    /// What the Server does: the input, the turns, and then the world's part.
    fn act(&mut self, act: impl FnOnce(&mut Ctx<'_>, &mut Services)) {
        let Both { config, endpoints, links, roll, commit, stats, pace, out, services, now, .. } = self;
        let mut ctx = Ctx { now: now.at, unix: now.unix, config, endpoints, links, roll, commit, stats, pace, out };
        act(&mut ctx, services);
        give_wanted(&mut ctx, services);
        self.drain();
    }

    fn expire(&mut self) {
        self.act(|ctx, services| {
            give_due(ctx, services);
            while ctx.out.has_room() && services.tftp.expire(ctx) {
                give_wanted(ctx, services);
            }
            ctx.pace.expire(ctx.now);
        });
    }

    fn drain(&mut self) {
        let out = std::mem::replace(&mut self.out, Outbox::none());
        for output in out.iter() {
            self.outputs.push(format!("{:?} {output:?}", self.now.at));
            match output {
                Output::Open { token, .. } => self.schedule(self.now.at, Event::Opened(token)),
                Output::Datagram { from, to, body: [0, 6, ..], .. } => {
                    self.deliver(TFTP, 100, Event::Ack(to, from.port(), 0));
                }
                Output::SendFile(sent) => match sent.to {
                    Target::Datagrams(run) => {
                        let [.., high, low] = run.headers else { panic!("{run:?}") };
                        let last = u16::from_be_bytes([*high, *low]);
                        self.deliver(TFTP, u64::from(run.count) * FULL_FRAME, Event::Ack(run.to, run.from.port(), last));
                    }
                    Target::Conn(_) => self.deliver(TOY, FRAMES * FULL_FRAME, Event::Drained(sent.token)),
                },
                Output::Row { .. } | Output::MarkRow { .. } | Output::DropRow { .. } | Output::Neighbour { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        self.out = out;
        self.out.clear();
    }

    fn schedule(&mut self, at: Instant, event: Event) {
        self.events.insert((at, self.scheduled), event);
        self.scheduled += 1;
    }

    /// Some bytes take the way, and are answered unless their reader is dead.
    fn deliver(&mut self, service: u8, bytes: u64, answer: Event) {
        self.free = self.free.max(self.now.at) + Duration::from_nanos(bytes * 1_000_000_000 / RATE);
        if self.dead != Some(service) {
            self.schedule(self.free + ANSWER, answer);
        }
    }

    fn datagram(&mut self, src: SocketAddrV4, port: u16, payload: &[u8]) {
        let (endpoint, dst) = (self.endpoints.udp(0, port), SocketAddrV4::new(HEAD, port));
        self.act(|ctx, services| services.tftp.datagram(ctx, Datagram { endpoint, mac: Some(mac(17)), src, dst, payload }));
    }

    /// Node 17 asks for another file by TFTP.
    fn load(&mut self, port: u16) {
        let options = TftpOptions { blksize: Some(BLKSIZE), tsize: None, timeout: None, windowsize: Some(FRAMES as u16) };
        let mut buf = [0; 100];
        let len = crate::wire::tftp::emit_rrq(&mut buf, b"vmlinuz", Mode::Octet, &options).expect("room");
        self.datagram(SocketAddrV4::new(ip(10, 54, 1, 17), port), tftp::PORT, &buf[..len]);
    }

    fn read(&mut self, bytes: u64) {
        self.act(|ctx, services| services.toy.ask(ctx, bytes));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Opened(token) => {
                let answer = Ok(OpenFile { file: FileId::from_u64(7), size: LARGE, stamp: 0 });
                self.act(|ctx, services| services.tftp.opened(ctx, token, answer));
            }
            Event::Ack(src, port, block) => {
                let [high, low] = block.to_be_bytes();
                self.datagram(src, port, &[0, 4, high, low]);
            }
            Event::Drained(token) => self.act(|ctx, services| services.toy.drained(ctx, Key::from_u64(token))),
        }
    }

    fn pass(&mut self, millis: u64) {
        let end = self.now.at + Duration::from_millis(millis);
        loop {
            let due = [self.pace.deadline(), self.services.tftp.deadline()].into_iter().flatten().min();
            let next = self.events.keys().next().map(|(at, _)| *at);
            match (next, due) {
                (Some(at), due) if at <= end && due.is_none_or(|due| at <= due.max(self.now.at)) => {
                    self.now.at = self.now.at.max(at);
                    let (_, event) = self.events.pop_first().expect("it was there");
                    self.happen(event);
                }
                (_, Some(due)) if due <= end => {
                    self.now.at = due.max(self.now.at + Duration::from_micros(1));
                    self.expire();
                }
                _ => break,
            }
        }
        self.now.at = self.now.at.max(end);
    }

    /// Turns given since a time: whose, in order.
    fn given(&self, since: Instant) -> Vec<Waiter> {
        self.services.given.iter().filter(|(at, _)| *at >= since).map(|(_, turn)| turn.who).collect()
    }

    /// The part of the way that a service has taken since a time.
    fn share(&self, service: u8, since: Instant) -> f64 {
        let turns = self.given(since).iter().filter(|who| who.service == service).count() as u64;
        let whole = u128::from(RATE) * self.now.at.since(since).as_nanos() / 1_000_000_000;
        (turns * FRAMES * FULL_FRAME) as f64 / whole as f64
    }
}

/// Four transfers and four readers, under way.
fn eight() -> Both {
    let mut both = Both::new(&[TFTP, TOY]);
    for n in 0..4 {
        both.load(2000 + n);
        both.read(LARGE);
    }
    both.pass(1000);
    both
}

#[test]
fn both_services_get_their_share_in_order() {
    let mut both = eight();
    let start = both.now.at;
    both.pass(1000);
    let given = both.given(start);
    assert!(given.len() > 4_800, "{}", given.len());
    assert!(given.windows(9).all(|nine| nine[8] == nine[0]), "one turn each a lap");
    let lap = &given[..8];
    assert!(lap.iter().all(|who| lap.iter().filter(|other| *other == who).count() == 1));
    for service in [TFTP, TOY] {
        let share = both.share(service, start);
        assert!((0.48..0.52).contains(&share), "{service}: {share}");
    }
}

#[test]
fn the_silence_of_one_service_does_not_stop_the_other() {
    for (dead, alive) in [(TOY, TFTP), (TFTP, TOY)] {
        let mut both = eight();
        both.dead = Some(dead);
        both.pass(1500);
        let start = both.now.at;
        both.pass(1000);
        let share = both.share(alive, start);
        assert!((0.85..1.03).contains(&share), "{alive} alone: {share}");
        let share = both.share(dead, start);
        assert!(share < 0.07, "{dead}: {share}");
    }
}

#[test]
fn a_reader_that_has_everything_makes_room() {
    let mut both = eight();
    let readers = both.services.toy.readers.len();
    both.read(3 * PIECE);
    both.pass(1000);
    assert_eq!(both.services.toy.readers.len(), readers);
    let ended = both.services.given.iter().filter(|(_, turn)| turn.who.service == TOY && turn.who.key::<Reader>().slot() == 4);
    assert_eq!(ended.count(), 3);
}

/// The lane is the same for TFTP, whoever else might take turns in it.
#[test]
fn tftp_alone_sends_as_it_would_without_another_service() {
    let run = |takers: &[u8]| {
        let mut both = Both::new(takers);
        (0..6).for_each(|n| both.load(2000 + n));
        both.pass(300);
        both.dead = Some(TFTP);
        both.pass(700);
        both.dead = None;
        both.load(3000);
        both.pass(500);
        both.outputs
    };
    let alone = run(&[TFTP]);
    assert!(alone.len() > 300, "{}", alone.len());
    assert!(alone == run(&[TOY, TFTP]));
}
