use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream as Tcp};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use super::*;
use crate::shell::control::{NAME, connect};
use crate::shell::work::clerk::{group_in, open_door};
use mio::{Events, Poll};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const LINES: Service = Service { id: 0, name: "lines" };
const ASKED: Service = Service { id: 1, name: "asked" };
const ASKS: Service = Service { id: 2, name: "asks" };
const IN_MAX: usize = 64 * 1024;
const OUT_MAX: usize = 128 * 1024;

fn streams(framing: Framing, conns: usize, buffers: usize, idle: Option<Duration>) -> Streams {
    let (too_long, crowded) = (b"too long\n".to_vec(), b"crowded\n".to_vec());
    Streams { framing, conns, buffers, in_max: IN_MAX, out_max: OUT_MAX, idle, batch: 4, too_long, crowded }
}

fn endpoint(service: Service, transport: Transport, port: u16) -> Endpoint {
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    Endpoint { service, transport, link: None, address, required: true, remedy: "" }
}

/// Connections, and what the machine would hear of them. It answers each message with `ok`.
struct World {
    poll: Poll,
    conns: Conns,
    table: Vec<Endpoint>,
    folder: PathBuf,
    heard: Vec<String>,
    /// By the number under which it is heard of.
    ids: Vec<ConnId>,
    answers: bool,
    now: Instant,
}

impl World {
    fn new(name: &str, table: Vec<Endpoint>) -> World {
        let folder = std::env::temp_dir().join(format!("muster-conns-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let poll = Poll::new().unwrap();
        let (conns, refused) = Conns::open(&table, poll.registry()).unwrap();
        assert!(refused.is_empty(), "{refused:?}");
        World { poll, conns, table, folder, heard: Vec::new(), ids: Vec::new(), answers: true, now: Instant::ZERO }
    }

    /// One socket of lines.
    fn of_lines(name: &str, conns: usize) -> World {
        let mut world = World::new(name, vec![endpoint(LINES, Transport::Unix(streams(Framing::Line, conns, conns, None)), 0)]);
        world.adopt(None);
        world
    }

    fn adopt(&mut self, ours: Option<(u64, u64)>) {
        let (guard, listener) = Guard::new(&self.folder, open_door(&self.folder, ours).unwrap());
        self.conns.adopt(self.poll.registry(), listener, guard).unwrap();
    }

    /// A TCP port of the kernel's choice.
    fn of_messages(name: &str, framing: Framing, conns: usize, buffers: usize) -> World {
        let idle = Some(Duration::from_secs(10));
        World::new(name, vec![endpoint(ASKED, Transport::Listen(streams(framing, conns, buffers, idle)), 0)])
    }

    fn connect(&self) -> BufReader<UnixStream> {
        let stream = connect(&self.folder.join(NAME)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        BufReader::new(stream)
    }

    fn call(&self) -> Tcp {
        let Some(Listener::Tcp(listener)) = &self.conns.doors[0].listener else { panic!("a TCP port") };
        let stream = Tcp::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream
    }

    fn number(&mut self, conn: ConnId) -> usize {
        self.ids.iter().position(|known| *known == conn).unwrap_or_else(|| {
            self.ids.push(conn);
            self.ids.len() - 1
        })
    }

    fn serve(&mut self) {
        for _ in 0..self.conns.begin(self.poll.registry(), self.now, false) {
            let Some(slot) = self.conns.next() else { break };
            self.conns.pump(self.now, slot, None, &mut []);
            while let Some(news) = self.conns.news(self.now, slot) {
                let stream = self.conns.stream(slot, news).unwrap();
                let (conn, word) = (
                    stream.conn,
                    match stream.event {
                        StreamEvent::Opened { token } => format!("opened {token}"),
                        StreamEvent::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                        StreamEvent::Drained => "drained".to_string(),
                        StreamEvent::Closed => "closed".to_string(),
                    },
                );
                self.conns.told(self.now, slot, news);
                let number = self.number(conn);
                if news != News::Drained {
                    self.heard.push(format!("{number}: {word}"));
                }
                if matches!(news, News::Message { .. }) {
                    if self.answers {
                        self.conns.write(self.now, conn, b"ok\n");
                    }
                    break;
                }
            }
            self.conns.settle(slot);
        }
    }

    /// Turns of the loop until nothing is left to do.
    fn turns(&mut self) {
        let mut events = Events::with_capacity(64);
        for _ in 0..20_000 {
            let nap = if self.conns.has_work() { Duration::ZERO } else { Duration::from_millis(20) };
            self.poll.poll(&mut events, Some(nap)).unwrap();
            let quiet = events.is_empty() && !self.conns.has_work();
            for event in &events {
                match EventSource::from(event.token()) {
                    EventSource::Door(at) => self.conns.knock(at),
                    EventSource::Conn(at) => self.conns.event(at),
                    other => panic!("{other:?}"),
                }
            }
            self.serve();
            if quiet {
                return;
            }
        }
        panic!("it never comes to rest: {:?}", self.heard);
    }

    fn take(&mut self) -> Vec<String> {
        self.turns();
        std::mem::take(&mut self.heard)
    }

    /// Buffers that are in nobody's hands.
    fn free(&self) -> (usize, usize) {
        (self.conns.groups[0].inputs.len(), self.conns.groups[0].outputs.len())
    }

    fn stats(&self) -> BTreeMap<String, u64> {
        self.conns.stats().filter(|(_, n)| *n > 0).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn line(reader: &mut BufReader<UnixStream>) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line
}

fn read(stream: &mut Tcp, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn lines_come_whole_and_one_by_one() {
    let mut world = World::of_lines("lines", 16);
    let mut client = world.connect();
    client.get_mut().write_all(b"one\ntw").unwrap();
    assert_eq!(world.take(), ["0: opened 0", "0: one"]);
    client.get_mut().write_all(b"o\n\nlast").unwrap();
    client.get_mut().shutdown(Shutdown::Write).unwrap();
    assert_eq!(world.take(), ["0: two", "0: ", "0: last", "0: closed"]);
    assert_eq!([(); 4].map(|()| line(&mut client)), ["ok\n"; 4]);
    assert_eq!(line(&mut client), "", "and then it is closed");
    assert!(!world.conns.has_work() && world.conns.len() == 0 && world.free() == (16, 16));
}

#[test]
fn the_seventeenth_is_told_and_let_go() {
    let mut world = World::of_lines("crowd", 16);
    let mut clients: Vec<_> = (0..16).map(|_| world.connect()).collect();
    assert_eq!(world.take().len(), 16);
    let mut last = world.connect();
    assert_eq!(world.take(), [""; 0]);
    assert!(line(&mut last) == "crowded\n" && line(&mut last).is_empty());
    drop(clients.remove(3));
    assert_eq!(world.take(), ["3: closed"]);
    let _again = world.connect();
    assert_eq!(world.take(), ["16: opened 0"], "in the same place, by another key");
    let (old, new) = (world.ids[3], world.ids[16]);
    assert!(old.slot() == new.slot() && old != new);
    world.conns.write(world.now, old, b"lost\n");
    assert_eq!((world.take(), world.stats()["lines connections turned away"]), (Vec::<String>::new(), 1));
}

#[test]
fn who_does_not_read_is_dropped_and_holds_nobody() {
    let mut world = World::of_lines("slow", 16);
    let (slow, mut quick) = (world.connect(), world.connect());
    world.turns();
    let event = [b'e'; 4000];
    for _ in 0..200 {
        world.conns.write(world.now, world.ids[0], &event);
    }
    world.conns.write(world.now, world.ids[1], b"hello\n");
    assert_eq!(line(&mut quick), "hello\n");
    assert_eq!(world.take(), ["0: opened 0", "1: opened 0", "0: closed"]);
    assert_eq!((world.stats()["lines connections closed, slow"], world.free()), (1, (16, 16)));
    drop(slow);
}

#[test]
fn a_request_waits_until_the_answer_before_was_taken() {
    let mut world = World::of_lines("pipeline", 16);
    let mut client = world.connect();
    world.take();
    let long = vec![b'x'; OUT_MAX - 2000];
    client.get_mut().write_all(b"a\nb\n").unwrap();
    world.conns.write(world.now, world.ids[0], &long);
    world.conns.write(world.now, world.ids[0], b"\n");
    assert_eq!(world.take(), [""; 0], "it has not read yet");
    let reader = std::thread::spawn(move || [line(&mut client).len(), line(&mut client).len(), line(&mut client).len()]);
    while !reader.is_finished() {
        world.turns();
    }
    assert_eq!(reader.join().unwrap(), [long.len() + 1, 3, 3]);
    assert_eq!(world.heard[..2], ["0: a", "0: b"]);
}

#[test]
fn a_line_waits_until_the_one_before_was_answered() {
    let mut world = World::of_lines("answers", 16);
    let mut client = world.connect();
    world.answers = false;
    client.get_mut().write_all(b"first\nsecond\n").unwrap();
    client.get_mut().shutdown(Shutdown::Write).unwrap();
    assert_eq!(world.take(), ["0: opened 0", "0: first"]);
    world.conns.write(world.now, world.ids[0], b"done\n");
    assert_eq!(world.take(), ["0: second"]);
    world.conns.write(world.now, world.ids[0], b"done\n");
    assert_eq!((world.take(), line(&mut client), line(&mut client)), (vec!["0: closed".to_string()], "done\n".into(), "done\n".into()));
}

#[test]
fn a_line_without_end_is_refused() {
    let mut world = World::of_lines("endless", 16);
    let mut client = world.connect();
    world.take();
    client.get_mut().write_all(&[vec![b'x'; IN_MAX], b"\n".to_vec()].concat()).unwrap();
    assert_eq!((world.take(), line(&mut client)), (vec![format!("0: {}", "x".repeat(IN_MAX))], "ok\n".into()), "the longest one");
    client.get_ref().set_nonblocking(true).unwrap();
    let _ = client.get_mut().write(&[b'x'; IN_MAX]);
    for _ in 0..20 {
        world.turns();
        let _ = client.get_mut().write(&[b'x'; 8192]);
    }
    client.get_ref().set_nonblocking(false).unwrap();
    assert_eq!(line(&mut client), "too long\n");
    assert_eq!(world.take(), ["0: closed"]);
}

#[test]
fn the_socket_is_replaced_when_nobody_answers_on_it() {
    let mut world = World::of_lines("stale", 16);
    let why = open_door(&world.folder, None).err().unwrap().to_string();
    assert!(why.contains("another daemon answers") && why.contains("--run-dir"), "{why}");
    let path = world.folder.join(NAME);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    world.turns();
    let mut before = world.connect();
    world.take();
    fs::remove_file(&path).unwrap();
    world.adopt(world.conns.guard().and_then(|guard| guard.place().1));
    let mut after = world.connect();
    after.get_mut().write_all(b"after\n").unwrap();
    before.get_mut().write_all(b"before\n").unwrap();
    let mut heard = world.take();
    heard.sort();
    assert_eq!(heard, ["1: before", "2: after", "2: opened 0"]);
    assert_eq!((line(&mut before), line(&mut after)), ("ok\n".into(), "ok\n".into()));
    // What a crash leaves behind: a socket that nobody listens on.
    let stale = world.folder.join("crashed");
    fs::create_dir_all(&stale).unwrap();
    drop(UnixListener::bind(stale.join(NAME)).unwrap());
    let again = Guard::new(&stale, open_door(&stale, None).unwrap());
    assert!(connect(&stale.join(NAME)).is_ok());
    drop(again);
    assert!(!stale.join(NAME).exists(), "it goes with the daemon");
}

#[test]
fn long_paths_are_reached_through_their_folder() {
    let world = World::of_lines("long", 1);
    let deep = world.folder.join("x".repeat(60)).join("y".repeat(60));
    fs::create_dir_all(&deep).unwrap();
    let door = open_door(&deep, None).unwrap();
    assert!(connect(&deep.join(NAME)).is_ok());
    drop(door);
}

#[test]
fn groups_as_the_file_has_them() {
    assert_eq!(group_in("root:x:0:\nmusters:x:7:\nmuster:x:998:ann,bob\n"), Some(998));
    assert_eq!((group_in("root:x:0:\n"), group_in("muster:x\n")), (None, None));
}

#[test]
fn lengths_stand_before_messages_both_ways() {
    let mut world = World::of_messages("lengths", Framing::Length16, 4, 4);
    let mut client = world.call();
    client.write_all(b"\0\x03one\0\x03tw").unwrap();
    assert_eq!(world.take(), ["0: opened 0", "0: one"]);
    client.write_all(b"o\0\0").unwrap();
    assert_eq!(world.take(), ["0: two", "0: "]);
    assert_eq!(read(&mut client, 15), b"\0\x03ok\n\0\x03ok\n\0\x03ok\n");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!((world.take(), world.free()), (vec!["0: closed".to_string()], (4, 4)));
}

#[test]
fn the_oldest_idle_one_makes_room_and_time_ends_the_others() {
    let mut world = World::of_messages("room", Framing::Raw, 3, 3);
    let mut clients: Vec<_> = (0..3).map(|_| world.call()).collect();
    world.turns();
    world.now = Instant::from_millis(600);
    clients[0].write_all(b"x").unwrap();
    world.take();
    let mut last = world.call();
    world.take();
    assert_eq!((clients[1].read(&mut [0; 8]).unwrap(), world.stats()["asked connections closed for others"]), (0, 1));
    world.now = Instant::from_millis(700);
    last.write_all(b"y").unwrap();
    world.take();
    assert_eq!((read(&mut clients[0], 3), read(&mut last, 3)), (b"ok\n".to_vec(), b"ok\n".to_vec()));
    world.now = Instant::from_millis(10_650);
    assert_eq!(world.take().len(), 2, "silent for ten seconds");
    assert_eq!((world.conns.len(), world.stats()["asked connections closed, idle"]), (1, 2));
    let end = world.conns.deadline().map(|at| at.since(Instant::ZERO).as_millis());
    assert!(end.is_some_and(|end| (10_650..11_700).contains(&end)), "{end:?}");
}

#[test]
fn four_thousand_share_a_few_buffers() {
    crate::shell::facts::ensure_descriptors(10_000).unwrap();
    let mut world = World::of_messages("many", Framing::Length16, 4096, 8);
    let mut clients: Vec<_> = Vec::new();
    for _ in 0..32 {
        clients.extend((0..128).map(|_| world.call()));
        world.turns();
    }
    assert_eq!((world.conns.len(), world.free()), (4096, (8, 8)), "who is silent holds none");
    // Eight halves hold all that there are; the whole messages of others wait, and go on when one of them has ended.
    clients[..8].iter_mut().for_each(|client| client.write_all(b"\0\x04ha").unwrap());
    world.heard.clear();
    world.turns();
    assert_eq!(world.free(), (0, 8));
    clients[8..40].iter_mut().for_each(|client| client.write_all(b"\0\x02hi").unwrap());
    assert_eq!(world.take(), [""; 0]);
    clients[0].write_all(b"lf").unwrap();
    assert_eq!(world.take().len(), 33);
    assert!(clients[8..40].iter_mut().all(|client| read(client, 5) == b"\0\x03ok\n"));
    assert_eq!(world.free(), (1, 8));
}

/// What was taken before a file is not all that there is to take: nothing may be written yet.
#[test]
fn nothing_is_drained_before_a_file_was_taken() {
    let mut world = World::of_messages("file", Framing::Raw, 1, 1);
    let mut client = world.call();
    world.take();
    let conn = world.ids[0];
    world.conns.write(world.now, conn, b"before");
    world.conns.send_file(conn, FileId::from_u64(0), 0, 10);
    assert_eq!((world.conns.news(world.now, conn.slot()), read(&mut client, 6)), (None, b"before".to_vec()));
    world.conns.write(world.now, conn, b"behind");
    assert_eq!(world.take(), ["0: closed"]);
}

#[test]
fn a_connection_is_made_and_may_fail() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let row = endpoint(ASKS, Transport::Dial(streams(Framing::Length16, 2, 2, None)), 0);
    let mut world = World::new("dial", vec![row]);
    let connect = |world: &mut World, port, token| {
        let World { conns, poll, table, now, .. } = world;
        conns.connect(poll.registry(), *now, 0, (&table[0], SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)), token);
    };
    connect(&mut world, port, 7);
    assert_eq!(world.take(), ["0: opened 7"]);
    world.conns.write(world.now, world.ids[0], b"question");
    let (mut other, _) = listener.accept().unwrap();
    world.turns();
    assert_eq!(read(&mut other, 10), b"\0\x08question");
    other.write_all(b"\0\x06answer").unwrap();
    assert_eq!(world.take(), ["0: answer"]);
    world.conns.close(world.ids[0], true);
    assert_eq!(world.take(), ["0: closed"]);
    drop(listener);
    connect(&mut world, port, 8);
    let heard = world.take();
    assert_eq!((heard.first(), heard.last()), (Some(&"1: opened 8".to_string()), Some(&"1: closed".to_string())));
}
