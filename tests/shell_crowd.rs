//! Thousands of connections are open at once, on real sockets: an idle one costs little memory and no call of the allocator, and all are served
//! from a few buffers.

#[path = "common/counting.rs"]
mod counting;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use counting::{BYTES, CALLS, COUNTING};
use muster::base::endpoint::{Endpoint, Framing, Service, Streams, Transport};
use muster::base::machine::{Input, Machine, Stream, StreamEvent};
use muster::base::outbox::Outbox;
use muster::base::time::{Instant as Time, Now};
use muster::shell::clerk::Clerk;
use muster::shell::{Crew, Shell, facts};

const CONNS: usize = 4096;
const BUFFERS: usize = 8;
/// Longer than what one turn takes in.
const LINE_MAX: usize = 64 * 1024;
/// Bytes for an idle connection.
const EACH_MAX: usize = 320;

/// Answers each line with `hello`.
#[derive(Default)]
struct Polite {
    opened: usize,
    closed: usize,
}

impl Machine for Polite {
    fn handle(&mut self, _: Now, input: Input<'_>, out: &mut Outbox) {
        let Input::Stream(Stream { conn, event, .. }) = input else { return };
        match event {
            StreamEvent::Opened { .. } => self.opened += 1,
            StreamEvent::Closed => self.closed += 1,
            StreamEvent::Bytes(_) => assert!(out.write(conn, |buf| {
                buf.get_mut(..6)?.copy_from_slice(b"hello\n");
                Some(6)
            })),
            StreamEvent::Drained => {}
        }
    }

    fn expire(&mut self, _: Now, _: &mut Outbox) {}

    fn deadline(&self) -> Option<Time> {
        None
    }
}

struct World {
    shell: Shell,
    machine: Polite,
    address: SocketAddrV4,
    clients: Vec<TcpStream>,
}

impl World {
    fn new(conns: usize) -> World {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).expect("a port");
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, free.port());
        let (framing, in_max, out_max, idle, batch) = (Framing::Line, LINE_MAX, LINE_MAX, None, 64);
        let (too_long, crowded) = (Vec::new(), b"crowded\n".to_vec());
        let streams = Streams { framing, conns, buffers: BUFFERS, in_max, out_max, idle, batch, too_long, crowded };
        let (service, transport) = (Service { id: 0, name: "polite" }, Transport::Listen(streams));
        let row = Endpoint { service, transport, link: None, address, required: true, remedy: "" };
        let crew = Crew::start().expect("file processes");
        let shell = Shell::server(&[row], &[], Path::new("/"), Clerk::new(crew.clerk), crew.readers).expect("a shell");
        World { shell, machine: Polite::default(), address, clients: Vec::new() }
    }

    /// Turns until something holds; nothing may be allocated for them.
    fn until(&mut self, holds: impl Fn(&World) -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !holds(self) {
            assert!(Instant::now() < end, "{} have come, {} have gone", self.machine.opened, self.machine.closed);
            COUNTING.set(true);
            self.shell.turn(&mut self.machine, Duration::from_millis(20)).expect("a turn");
            COUNTING.set(false);
        }
    }

    fn call(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
        stream
    }

    /// One with so many connections, all of them idle, and the memory that it took for this, in bytes.
    fn crowded(conns: usize) -> (World, usize) {
        BYTES.set(0);
        COUNTING.set(true);
        let mut world = World::new(conns);
        COUNTING.set(false);
        CALLS.set(0);
        while world.clients.len() < conns {
            let more = 64.min(conns - world.clients.len());
            for _ in 0..more {
                world.clients.push(world.call());
            }
            world.until(|world| world.machine.opened == world.clients.len());
        }
        assert_eq!(CALLS.get(), 0, "nothing is allocated after the start");
        (world, BYTES.get())
    }
}

#[test]
fn four_thousand_connections_cost_little_and_all_are_served() {
    facts::ensure_descriptors(2 * CONNS as u64 + 512).expect("nine thousand descriptors");
    let ((_, few), (mut world, many)) = (World::crowded(BUFFERS), World::crowded(CONNS));
    let each = many.saturating_sub(few) / (CONNS - BUFFERS);
    println!("{CONNS} idle connections: {} KiB in all, {each} bytes for one more", many >> 10);
    assert!((64..=EACH_MAX).contains(&each), "an idle connection takes {each} bytes");

    // One more is let go with a word.
    let mut last = world.call();
    let reader = std::thread::spawn(move || {
        let mut word = String::new();
        last.read_to_string(&mut word).expect("a last word");
        word
    });
    world.until(|_| reader.is_finished());
    assert_eq!((reader.join().expect("a reader"), world.machine.opened), ("crowded\n".to_string(), CONNS));

    // All of them ask at once.
    world.clients.iter_mut().for_each(|client| client.write_all(b"good day\n").expect("there is room"));
    let mut clients = std::mem::take(&mut world.clients);
    let readers = std::thread::spawn(move || {
        for client in &mut clients {
            let mut answer = [0; 6];
            client.read_exact(&mut answer).expect("an answer");
            assert_eq!(&answer, b"hello\n");
        }
    });
    world.until(|world| world.machine.closed == CONNS);
    readers.join().expect("answers");
    assert_eq!((world.shell.connections(), CALLS.get()), (0, 0), "connections, and calls of the allocator while they were served");
}
