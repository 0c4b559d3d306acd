//! The steady state allocates nothing (law 2): a thousand machines boot twice through one server, and the second time no call of it
//! reaches the allocator.

#[path = "common/counting.rs"]
mod counting;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use counting::{CALLS, COUNTING};
use muster::base::addr::Mac;
use muster::base::endpoint::EndpointId;
use muster::base::machine::{ConnId, Datagram, Input, Machine, Stream, StreamEvent};
use muster::base::outbox::Outbox;
use muster::base::time::{Instant, Now};
use muster::engine::endpoints::DNS;
use muster::engine::server::Server;
use muster::fleet::life::{Life, Stages, StormPlan};
use muster::fleet::{Firmware, Fleet};
use muster::sim::config::{INITRD, KERNEL, PROGRAMS, config};
use muster::sim::disk::Habits;
use muster::sim::net::Wire;
use muster::sim::world::{Setup, World};

/// Counts what the machine inside allocates, and nothing else.
struct Counted<M>(M);

fn counted<T>(call: impl FnOnce() -> T) -> T {
    COUNTING.set(true);
    let result = call();
    COUNTING.set(false);
    result
}

impl<M: Machine> Machine for Counted<M> {
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Outbox) {
        counted(|| self.0.handle(now, input, out));
    }

    fn expire(&mut self, now: Now, out: &mut Outbox) {
        counted(|| self.0.expire(now, out));
    }

    fn deadline(&self) -> Option<Instant> {
        counted(|| self.0.deadline())
    }
}

const MACHINES: usize = 1000;

fn fleet(now: Instant) -> Fleet {
    let stages = Stages { ipxe: true, os: true };
    let lives = [Firmware::Rom, Firmware::Edk2, Firmware::Ipxe].map(|firmware| Life::of(firmware, 1, stages, 2)).to_vec();
    let names = vec![KERNEL.into(), INITRD.into()];
    let plan = StormPlan { count: MACHINES, lives, names, spread: Duration::from_secs(2), seed: 1, ..StormPlan::default() };
    Fleet::new(plan, now).expect("a sound plan")
}

#[test]
fn the_second_boot_allocates_nothing() {
    // Four of five are known, the others are strangers.
    let known = (0..MACHINES as u32).filter(|n| n % 5 > 0).map(|n| {
        let [a, b, c, d] = n.to_be_bytes();
        (n, Mac([0x02, 0x4d, a, b, c, d]))
    });
    let wire = Wire { queue: 4096, ..Wire::GIGABIT };
    let setup = Setup { config: config(known), seed: 1, wire, habits: Habits { latency: Duration::from_micros(100), ..Habits::default() } };
    let server = Counted(Server::new(&setup.config, 1, Now::default()));
    let mut world = World::new(&setup, server, fleet(Instant::ZERO));
    for name in PROGRAMS.map(|(_, name)| name).into_iter().chain([KERNEL, INITRD]) {
        world.disk_mut().put(name, 5000);
    }
    for boot in 0..2 {
        let end = world.now().at + Duration::from_secs(100);
        assert!(world.run(end, |world| world.clients().done()), "boot {boot}: {:?}", world.clients().progress());
        assert_eq!(world.clients().progress().up, MACHINES, "boot {boot}");
        assert_eq!(world.findings().violations, []);
        if boot == 0 {
            // From now on an operator watches: what is told to one costs no allocation either.
            let (at, mut answer) = (world.now(), Outbox::new());
            let operators = world.server().0.endpoints().operators();
            world.server_mut().0.handle(at, happens(0, operators, StreamEvent::Bytes(br#"{"do":"watch"}"#)), &mut answer);
            assert_eq!(answer.len(), 1, "it is answered");
            CALLS.set(0);
            let now = world.now().at;
            world = world.with_clients(fleet(now));
        }
    }
    assert_eq!(CALLS.get(), 0, "calls of the allocator during the second boot");
}

/// Names: answered from the plan, handed on to a server that never answers, and a whole zone.
#[test]
fn names_allocate_nothing() {
    let mut config = config((0..64).map(|n| (n, Mac([2, 0, 0, 0, 1, n as u8]))));
    let asker = SocketAddrV4::new([10, 54, 1, 7].into(), 4000);
    config.dns.enabled = true;
    (config.dns.upstream, config.dns.transfer) = (vec![[192, 0, 2, 1].into()], vec![*asker.ip()]);
    let mut server = Counted(Server::new(&config, 1, Now::default()));
    let (mut out, mut now, mut answers, mut pieces) = (Outbox::new(), Now::default(), 0, 0);
    let by_datagram = server.0.endpoints().rows().iter().position(|row| row.service == DNS).expect("names are served") as EndpointId;
    let by_conn = by_datagram + 1;
    server.expire(now, &mut out);
    out.clear();
    CALLS.set(0);
    let questions =
        [("n23.cluster", 1u8), ("nobody.cluster", 1), ("23.1.54.10.in-addr.arpa", 12), ("www.example.org", 1), ("cluster", 252)];
    for round in 0..300u64 {
        now.at = Instant::from_millis(20 * round);
        for (at, (name, kind)) in questions.iter().enumerate() {
            let mut bytes = vec![round as u8, at as u8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            // Equal questions to others would wait together.
            let name = if at == 3 { format!("{round}.{name}") } else { name.to_string() };
            name.split('.').for_each(|label| bytes.extend([&[label.len() as u8], label.as_bytes()].concat()));
            bytes.extend([0, 0, *kind, 0, 1]);
            let datagram = Datagram { endpoint: by_datagram, mac: None, src: asker, dst: asker, payload: &bytes };
            let conn = |event| Stream { conn: ConnId::from_u64(1), endpoint: by_conn, peer: asker, event };
            let input = if *kind == 252 { Input::Stream(conn(StreamEvent::Bytes(&bytes))) } else { Input::Datagram(datagram) };
            server.handle(now, input, &mut out);
            // Transfers on a connection follow one another.
            answers += if *kind == 252 { 0 } else { out.len() };
            out.clear();
        }
        server.handle(now, happens(1, by_conn, StreamEvent::Drained), &mut out);
        pieces += out.len();
        out.clear();
        server.expire(now, &mut out);
        out.clear();
    }
    assert_eq!(answers, 300 * (questions.len() - 1), "each question has its answer, or goes on");
    assert!(pieces > 80, "{pieces}");
    assert_eq!(CALLS.get(), 0, "calls of the allocator");
}

/// Something on a connection.
fn happens(conn: u64, endpoint: EndpointId, event: StreamEvent<'_>) -> Input<'_> {
    let peer = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
    Input::Stream(Stream { conn: ConnId::from_u64(conn), endpoint, peer, event })
}

#[test]
fn the_counter_counts() {
    let before = CALLS.get();
    counted(|| drop(Box::new(7)));
    assert_eq!(CALLS.get(), before + 1);
}
