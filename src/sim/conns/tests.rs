//! What a table of endpoints says of connections, in virtual time. `src/shell/conns/tests.rs` has the same on real sockets.

use std::net::SocketAddrV4;
use std::time::Duration;

use super::PIECE;
use crate::base::endpoint::{Endpoint, Framing, Service, Streams, Transport};
use crate::base::machine::{ConnId, FileId, Input, Machine, Stream, StreamEvent};
use crate::base::outbox::Outbox;
use crate::base::time::{Instant, Now};
use crate::sim::cable::{Cable, WIRE};
use crate::sim::config::{HEAD, config};
use crate::sim::disk::Habits;
use crate::sim::world::{Setup, World};

const IDLE: Duration = Duration::from_secs(10);
const IN_MAX: usize = 16;
const FILE: &str = "image";

/// Answers each message with itself and a newline, but `quiet`; `file` is answered with the file.
#[derive(Default)]
struct Parrot {
    quiet: bool,
    heard: Vec<(Instant, ConnId, String)>,
    waits: Option<ConnId>,
    file: Option<FileId>,
}

impl Machine for Parrot {
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Outbox) {
        match input {
            Input::Stream(Stream { conn, event, .. }) => {
                let word = match event {
                    StreamEvent::Opened { .. } => "opened".to_string(),
                    StreamEvent::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                    StreamEvent::Drained => "drained".to_string(),
                    StreamEvent::Closed => "closed".to_string(),
                };
                match event {
                    StreamEvent::Bytes(b"file") => {
                        self.waits = Some(conn);
                        out.open(1, FILE.as_bytes());
                    }
                    StreamEvent::Bytes(bytes) if !self.quiet => drop(out.write(conn, |buf| {
                        buf.get_mut(..bytes.len())?.copy_from_slice(bytes);
                        *buf.get_mut(bytes.len())? = b'\n';
                        Some(bytes.len() + 1)
                    })),
                    _ => {}
                }
                self.heard.push((now.at, conn, word));
            }
            Input::Opened { answer, .. } => {
                let open = answer.unwrap();
                self.file = Some(open.file);
                out.send_file(1, open.file, 0, open.size, self.waits.unwrap());
            }
            _ => {}
        }
    }

    fn expire(&mut self, _: Now, _: &mut Outbox) {}

    fn deadline(&self) -> Option<Instant> {
        None
    }
}

type Parrots = World<Parrot, Cable>;

/// Two ports of one service, which share three places.
fn world(framing: Framing, buffers: usize, idle: Option<Duration>) -> Parrots {
    let (too_long, crowded) = (b"too long\n".to_vec(), b"crowded\n".to_vec());
    let streams = Streams { framing, conns: 3, buffers, in_max: IN_MAX, out_max: 64, idle, batch: 4, too_long, crowded };
    let service = Service { id: 0, name: "parrot" };
    let row = |port| Endpoint {
        service,
        transport: Transport::Listen(streams.clone()),
        link: None,
        address: SocketAddrV4::new(HEAD, port),
        required: true,
        remedy: "",
    };
    let setup = Setup { config: config([]), seed: 1, wire: WIRE, habits: Habits::default() };
    World::new(&setup, Parrot::default(), Cable::default()).with_endpoints(&[row(7), row(8)])
}

/// What the machine has heard of a connection since it was asked last.
fn heard(world: &mut Parrots, conn: ConnId) -> Vec<String> {
    world.pass(Duration::ZERO);
    let (own, others) = std::mem::take(&mut world.server_mut().heard).into_iter().partition(|(_, of, _)| *of == conn);
    world.server_mut().heard = others;
    let own: Vec<(Instant, ConnId, String)> = own;
    own.into_iter().map(|(_, _, word)| word).filter(|word| word != "drained").collect()
}

/// Says something and reads the answer.
fn say(world: &mut Parrots, conn: ConnId, words: &[u8]) -> String {
    world.write(conn, words);
    world.pass(Duration::ZERO);
    String::from_utf8(world.read(conn)).unwrap()
}

#[test]
fn an_idle_connection_is_closed_when_its_time_is_over() {
    let mut world = world(Framing::Line, 3, Some(IDLE));
    let (silent, talks, deaf) = (world.connect(0).unwrap(), world.connect(1).unwrap(), world.connect(0).unwrap());
    world.pass(Duration::from_secs(4));
    assert_eq!(say(&mut world, talks, b"a\n"), "a\n");
    // Whoever takes what came is not idle, though it says nothing; half a line is no message.
    world.write(deaf, b"b\nhal");
    world.pass(Duration::from_secs(2));
    assert_eq!(world.read(deaf), b"b\n");
    world.pass(Duration::from_secs(60));
    let closed = |conn| world.server().heard.iter().find(|(_, of, word)| *of == conn && word == "closed").map(|(at, ..)| *at);
    assert_eq!([silent, talks, deaf].map(closed), [10, 14, 16].map(|seconds| Some(Instant::from_millis(1000 * seconds))));
    world.write(silent, b"too late\n");
    assert_eq!(heard(&mut world, silent), ["opened", "closed"]);

    let mut patient = self::world(Framing::Line, 3, None);
    let conn = patient.connect(0).unwrap();
    patient.pass(Duration::from_secs(1_000_000));
    assert_eq!(heard(&mut patient, conn), ["opened"]);
}

#[test]
fn the_oldest_idle_one_makes_room_and_nobody_who_is_busy_does() {
    let mut world = world(Framing::Line, 3, Some(IDLE));
    let conns = [0, 1, 0].map(|port| world.connect(port).unwrap());
    world.pass(Duration::from_millis(499));
    assert_eq!(world.connect(1), Err(b"crowded\n".to_vec()), "places are the service's, not the port's");
    say(&mut world, conns[0], b"a\n");
    world.pass(Duration::from_millis(1));
    let newcomer = world.connect(1).unwrap();
    let gone = conns.map(|conn| heard(&mut world, conn).contains(&"closed".to_string()));
    assert_eq!((gone, heard(&mut world, newcomer)), ([false, true, false], vec!["opened".to_string()]));

    let mut patient = self::world(Framing::Line, 3, None);
    for _ in 0..3 {
        patient.connect(0).unwrap();
    }
    patient.pass(Duration::from_secs(1000));
    assert!(patient.connect(0).is_err(), "without an idle time nobody makes room");
}

#[test]
fn a_message_that_is_too_long_is_the_last() {
    let (fits, endless) = ([b'x'; IN_MAX], [b'x'; IN_MAX + 1]);
    let framed = |framing, bytes: &[u8]| match framing {
        Framing::Length16 => [&[0, bytes.len() as u8], bytes].concat(),
        _ => [bytes, b"\n"].concat(),
    };
    for framing in [Framing::Line, Framing::Length16] {
        let mut world = world(framing, 3, None);
        let (good, bad) = (world.connect(0).unwrap(), world.connect(0).unwrap());
        assert!(say(&mut world, good, &framed(framing, &fits)).ends_with("xxx\n"));
        assert_eq!(heard(&mut world, good).len(), 2);
        assert!(say(&mut world, bad, &framed(framing, &endless)).ends_with("too long\n"));
        assert_eq!(heard(&mut world, bad), ["opened", "closed"], "{framing:?}: it is let go when that was read");
    }
    let mut world = world(Framing::Raw, 3, None);
    let conn = world.connect(0).unwrap();
    world.write(conn, &[b'y'; IN_MAX + 3]);
    world.pass(Duration::ZERO);
    world.read(conn);
    assert_eq!(heard(&mut world, conn), ["opened".to_string(), "y".repeat(IN_MAX), "yyy".into()], "as much as fits");
}

#[test]
fn who_has_no_buffer_waits_and_who_has_none_for_an_answer_is_dropped() {
    let mut world = world(Framing::Length16, 1, None);
    let [half, whole, third] = [0, 0, 1].map(|port| world.connect(port).unwrap());
    world.write(half, b"\0\x04ha");
    world.pass(Duration::ZERO);
    world.write(whole, b"\0\x02hi");
    world.write(third, b"\0\x03you");
    assert_eq!((heard(&mut world, whole), heard(&mut world, third)), (vec!["opened".to_string()], vec!["opened".to_string()]));
    world.server_mut().quiet = true;
    world.write(half, b"lf");
    assert_eq!(
        [half, whole, third].map(|conn| heard(&mut world, conn).last().cloned()),
        ["half", "hi", "you"].map(|word| Some(word.to_string()))
    );
    // One answer waits for its reader: there is no buffer for another one.
    world.server_mut().quiet = false;
    world.write(half, b"\0\x01a");
    world.pass(Duration::ZERO);
    world.write(whole, b"\0\x01b");
    assert_eq!(heard(&mut world, whole), ["b", "closed"]);
    assert_eq!((world.read(half), heard(&mut world, half)), (b"\0\x02a\n".to_vec(), vec!["a".to_string()]));
}

#[test]
fn a_file_goes_as_its_reader_takes_it_and_ends_when_it_changes() {
    let ask = |world: &mut Parrots| {
        let conn = world.connect(0).unwrap();
        world.write(conn, b"file\nnext\n");
        world.pass(Duration::ZERO);
        conn
    };
    let mut world = world(Framing::Line, 3, None);
    let version = world.disk_mut().put(FILE, 200_000);
    let conn = ask(&mut world);
    let mut got = Vec::new();
    for _ in 0..10 {
        world.pass(Duration::from_secs(1));
        got.extend(world.read(conn));
    }
    let (file, behind) = got.split_at(200_000);
    assert!(version.matches(0, file) && behind == b"next\n", "{}", got.len());
    // It is changed when the first piece was taken.
    let conn = ask(&mut world);
    assert_eq!(world.read(conn).len(), PIECE as usize);
    world.disk_mut().change(FILE);
    assert_eq!(heard(&mut world, conn), ["opened", "file", "closed"]);
    let file = world.server().file.unwrap();
    assert!(world.disk_mut().close(file), "the machine has it open as long as it likes");
}

#[test]
fn a_restart_closes_what_was_open() {
    let mut world = world(Framing::Line, 3, Some(IDLE));
    let old = world.connect(0).unwrap();
    assert_eq!(say(&mut world, old, b"a\n"), "a\n");
    world.crash();
    world.restart(Parrot::default());
    let new = world.connect(0).unwrap();
    assert!(old != new && say(&mut world, old, b"b\n").is_empty() && say(&mut world, new, b"c\n") == "c\n");
    assert_eq!((heard(&mut world, old).len(), heard(&mut world, new)), (0, vec!["opened".to_string(), "c".into()]));
}
