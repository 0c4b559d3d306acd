//! A whole service as a machine: echo by UDP and TCP (RFC 862), and `get NAME` on a connection sends a file. It runs on the shell
//! (`cargo run --example echo -- 127.0.0.1:7007 /srv/files`) and in the simulator (`cargo test --example echo`).
//! `doc/adding-a-service.md` follows it step by step.

use std::net::SocketAddrV4;
use std::time::Duration;

use muster::base::endpoint::{Endpoint, Framing, Service, Streams, Transport};
use muster::base::machine::{Command, ConnId, Datagram, FileId, Input, Machine, Stream, StreamEvent};
use muster::base::outbox::{Outbox, Output, Via};
use muster::base::slab::{Key, Slab};
use muster::base::time::{Instant, Now};
use muster::shell::clerk::Clerk;
use muster::shell::{Crew, Shell};

const ECHO: Service = Service { id: 0, name: "echo" };
const CONNECTIONS: usize = 1000;
const LINE_MAX: usize = 1024;

/// What the world is to open: the same port by UDP and TCP.
fn endpoints(address: SocketAddrV4) -> [Endpoint; 2] {
    let row = |transport| Endpoint { service: ECHO, transport, link: None, address, required: true, remedy: "choose another port" };
    let streams = Streams {
        framing: Framing::Line,
        conns: CONNECTIONS,
        buffers: CONNECTIONS / 10,
        in_max: LINE_MAX,
        out_max: LINE_MAX,
        idle: Some(Duration::from_secs(60)),
        batch: 64,
        too_long: b"too long\n".to_vec(),
        crowded: b"come back later\n".to_vec(),
    };
    [row(Transport::Udp), row(Transport::Listen(streams))]
}

/// A connection that has asked for a file, and the file once it is open.
struct Order {
    conn: ConnId,
    file: Option<FileId>,
}

struct Echo {
    orders: Slab<Order>,
}

impl Echo {
    fn new() -> Echo {
        Echo { orders: Slab::new(CONNECTIONS) }
    }

    fn datagram(&self, d: Datagram<'_>, out: &mut Outbox) {
        let via = d.mac.map_or(Via::Kernel, Via::Mac);
        out.datagram(d.endpoint, d.dst, d.src, via, |buf| copy(buf, &[d.payload]));
    }

    fn line(&mut self, conn: ConnId, line: &[u8], out: &mut Outbox) {
        let Some(name) = line.strip_prefix(b"get ") else {
            out.write(conn, |buf| copy(buf, &[line, b"\n"]));
            return;
        };
        match self.orders.insert(Order { conn, file: None }) {
            Some(key) => out.open(key.to_u64(), name),
            None => out.write(conn, |buf| copy(buf, &[b"busy\n"])),
        };
    }

    /// The file was opened or not. Whoever wanted it may have gone: then the key finds nothing, and it is closed again.
    fn opened(&mut self, token: u64, answer: Result<(FileId, u64), &str>, out: &mut Outbox) {
        let order = self.orders.get_mut(Key::from_u64(token));
        match (order, answer) {
            (Some(order), Ok((file, size))) => {
                order.file = Some(file);
                out.send_file(token, file, 0, size, order.conn);
            }
            (None, Ok((file, _))) => drop(out.put(Output::CloseFile { file })),
            (Some(order), Err(why)) => {
                out.write(order.conn, |buf| copy(buf, &[why.as_bytes(), b"\n"]));
                self.orders.remove(Key::from_u64(token));
            }
            (None, Err(_)) => {}
        }
    }

    /// All was taken, or the connection has gone: the file is not wanted any more.
    fn done(&mut self, conn: ConnId, out: &mut Outbox) {
        let own = self.orders.iter().find(|(_, order)| order.conn == conn).map(|(key, _)| key);
        if let Some(file) = own.and_then(|key| self.orders.remove(key)).and_then(|order| order.file) {
            out.put(Output::CloseFile { file });
        }
    }
}

impl Machine for Echo {
    fn handle(&mut self, _: Now, input: Input<'_>, out: &mut Outbox) {
        match input {
            Input::Datagram(datagram) => self.datagram(datagram, out),
            Input::Stream(Stream { conn, event: StreamEvent::Bytes(line), .. }) => self.line(conn, line, out),
            Input::Stream(Stream { conn, event: StreamEvent::Drained | StreamEvent::Closed, .. }) => self.done(conn, out),
            Input::Opened { token, answer } => {
                self.opened(token, answer.map(|open| (open.file, open.size)).map_err(|_| "no such file"), out);
            }
            _ => {}
        }
    }

    fn expire(&mut self, _: Now, _: &mut Outbox) {}

    fn deadline(&self) -> Option<Instant> {
        None
    }
}

fn copy(buf: &mut [u8], parts: &[&[u8]]) -> Option<usize> {
    let mut used = 0;
    for part in parts {
        buf.get_mut(used..used + part.len())?.copy_from_slice(part);
        used += part.len();
    }
    Some(used)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let usage = "usage: echo ADDRESS:PORT FOLDER";
    let mut words = std::env::args().skip(1);
    let address = words.next().ok_or(usage)?.parse()?;
    let root = words.next().ok_or(usage)?;
    let crew = Crew::start()?;
    let mut shell = Shell::server(&endpoints(address), &[], root.as_ref(), Clerk::new(crew.clerk), crew.readers)?;
    let mut echo = Echo::new();
    while shell.turn(&mut echo, Duration::from_secs(60))? != Some(Command::Leave) {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster::base::addr::Mac;
    use muster::sim::config::config;
    use muster::sim::disk::Habits;
    use muster::sim::net::Wire;
    use muster::sim::world::{Setup, World};
    use muster::wire::ether::{Checksum, Frame, emit_udp, parse};

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 9]);

    /// Sends one datagram, and keeps what comes back.
    #[derive(Default)]
    struct Caller {
        to: Option<SocketAddrV4>,
        heard: Vec<Vec<u8>>,
    }

    impl Machine for Caller {
        fn handle(&mut self, _: Now, input: Input<'_>, _: &mut Outbox) {
            let Input::Frame { bytes, .. } = input else { return };
            if let Ok(Frame::Udp(frame)) = parse(bytes, Checksum::Verify) {
                self.heard.push(frame.payload.to_vec());
            }
        }

        fn expire(&mut self, _: Now, out: &mut Outbox) {
            let from = SocketAddrV4::new([10, 54, 0, 9].into(), 4000);
            if let Some(to) = self.to.take() {
                out.frame(0, |buf| emit_udp(buf, MAC, Mac::BROADCAST, from, to, 1, b"hello"));
            }
        }

        fn deadline(&self) -> Option<Instant> {
            self.to.map(|_| Instant::ZERO)
        }
    }

    #[test]
    fn it_echoes_and_sends_files_in_the_simulator() {
        let habits = Habits { latency: Duration::from_millis(5), cold: 500_000, ..Habits::default() };
        let setup = Setup { config: config([]), seed: 1, wire: Wire::GIGABIT, habits };
        let address = SocketAddrV4::new(setup.config.links[0].head, 7);
        let caller = Caller { to: Some(address), ..Caller::default() };
        let mut world = World::new(&setup, Echo::new(), caller).with_endpoints(&endpoints(address));
        let version = world.disk_mut().put("motd", 5000);
        let conn = world.connect(1).expect("there is a place");
        world.write(conn, b"over TCP\nget motd\nget nothing\n");
        let mut got = Vec::new();
        for _ in 0..100 {
            world.pass(Duration::from_millis(10));
            got.extend(world.read(conn));
        }
        assert_eq!(world.clients().heard, [b"hello"]);
        let file: Vec<u8> = (0..5000).map(|at| version.byte(at)).collect();
        assert_eq!(got, [b"over TCP\n".as_slice(), &file, b"no such file\n"].concat());
        world.hang_up(conn);
        world.pass(Duration::from_millis(10));
        assert_eq!((world.disk().held(), world.server().orders.len()), (0, 0));
    }
}
