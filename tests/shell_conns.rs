//! Files go by connections on real sockets: to readers who are slow, who go away in the middle, and whose file changes meanwhile.

use std::collections::VecDeque;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use muster::base::endpoint::{Endpoint, Framing, Service, Streams, Transport};
use muster::base::machine::{ConnId, FileId, Input, Machine, Stream, StreamEvent};
use muster::base::outbox::{Outbox, Output};
use muster::base::rng::mix;
use muster::base::slab::Key;
use muster::base::time::{Instant as Time, Now};
use muster::shell::clerk::Clerk;
use muster::shell::{Crew, Shell};

/// A file that no buffer of the kernel's holds.
const SIZE: usize = 24 << 20;
const LONGEST: Duration = Duration::from_secs(60);

/// What a connection is to have next.
enum Part {
    Text(String),
    File(String),
}

struct Job {
    conn: ConnId,
    parts: VecDeque<Part>,
    /// A file is being opened, or is on its way.
    busy: bool,
    file: Option<FileId>,
}

/// A line has words: `+text` is answered with the text and a newline, any other with the file of that name.
#[derive(Default)]
struct Sender {
    jobs: Vec<Job>,
    opened: usize,
    closed: usize,
    /// Files that are open.
    files: usize,
}

impl Sender {
    fn job(&mut self, conn: ConnId) -> Option<&mut Job> {
        self.jobs.iter_mut().find(|job| job.conn == conn)
    }

    fn go_on(&mut self, conn: ConnId, out: &mut Outbox) {
        let Some(job) = self.job(conn).filter(|job| !job.busy) else { return };
        while let Some(part) = job.parts.pop_front() {
            match part {
                Part::File(name) => {
                    job.busy = true;
                    return assert!(out.open(conn.to_u64(), name.as_bytes()));
                }
                Part::Text(text) => assert!(out.write(conn, |buf| {
                    buf.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
                    *buf.get_mut(text.len())? = b'\n';
                    Some(text.len() + 1)
                })),
            }
        }
    }

    fn let_go(&mut self, file: Option<FileId>, out: &mut Outbox) {
        if let Some(file) = file {
            self.files -= 1;
            out.put(Output::CloseFile { file });
        }
    }

    fn stream(&mut self, conn: ConnId, event: StreamEvent<'_>, out: &mut Outbox) {
        match event {
            StreamEvent::Opened { .. } => self.opened += 1,
            StreamEvent::Bytes(line) => {
                let line = String::from_utf8_lossy(line);
                let part = |word: &str| word.strip_prefix('+').map_or(Part::File(word.into()), |text| Part::Text(text.into()));
                // A line may come as soon as something was written for the one before.
                match self.job(conn) {
                    Some(job) => job.parts.extend(line.split(' ').map(part)),
                    None => self.jobs.push(Job { conn, parts: line.split(' ').map(part).collect(), busy: false, file: None }),
                }
                self.go_on(conn, out);
            }
            StreamEvent::Drained => {
                let Some(job) = self.job(conn) else { return };
                let Some(file) = job.file.take() else { return };
                job.busy = false;
                self.let_go(Some(file), out);
                self.go_on(conn, out);
            }
            StreamEvent::Closed => {
                self.closed += 1;
                let at = self.jobs.iter().position(|job| job.conn == conn);
                let file = at.and_then(|at| self.jobs.swap_remove(at).file);
                self.let_go(file, out);
            }
        }
    }
}

impl Machine for Sender {
    fn handle(&mut self, _: Now, input: Input<'_>, out: &mut Outbox) {
        match input {
            Input::Stream(Stream { conn, event, .. }) => self.stream(conn, event, out),
            Input::Opened { token, answer } => {
                let open = answer.expect("the file is there");
                self.files += 1;
                match self.job(Key::from_u64(token)) {
                    Some(job) => {
                        job.file = Some(open.file);
                        assert!(out.send_file(token, open.file, 0, open.size, job.conn));
                    }
                    None => self.let_go(Some(open.file), out),
                }
            }
            _ => {}
        }
    }

    fn expire(&mut self, _: Now, _: &mut Outbox) {}

    fn deadline(&self) -> Option<Time> {
        None
    }
}

/// A machine on the shell, at a port of loopback, with a folder of files.
struct World {
    shell: Shell,
    sender: Sender,
    address: SocketAddrV4,
    root: PathBuf,
    turns: u32,
}

impl World {
    fn new(name: &str) -> World {
        let root = std::env::temp_dir().join(format!("muster-shell-conns-{name}-{}", std::process::id()));
        fs::create_dir(&root).expect("a folder for this test");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr()).expect("a port");
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, free.port());
        let (too_long, crowded) = (b"too long\n".to_vec(), b"crowded\n".to_vec());
        let streams =
            Streams { framing: Framing::Line, conns: 4, buffers: 4, in_max: 256, out_max: 4096, idle: None, batch: 64, too_long, crowded };
        let (service, transport) = (Service { id: 0, name: "sender" }, Transport::Listen(streams));
        let row = Endpoint { service, transport, link: None, address, required: true, remedy: "" };
        let crew = Crew::start().expect("file processes");
        let shell = Shell::server(&[row], &[], &root, Clerk::new(crew.clerk), crew.readers).expect("a shell");
        World { shell, sender: Sender::default(), address, root, turns: 0 }
    }

    /// A file whose bytes follow from its name.
    fn file(&self, name: &str, size: usize) -> Vec<u8> {
        let seed = name.bytes().fold(0, |seed, byte| mix(seed ^ u64::from(byte)));
        let bytes: Vec<u8> = (0..size as u64 / 8 + 1).flat_map(|at| mix(seed ^ at).to_le_bytes()).take(size).collect();
        fs::write(self.root.join(name), &bytes).expect("a file");
        bytes
    }

    fn call(&self, line: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(LONGEST)).expect("a time-out");
        stream.write_all(line.as_bytes()).expect("there is room for a line");
        stream
    }

    fn turn(&mut self) {
        self.turns += 1;
        self.shell.turn(&mut self.sender, Duration::from_millis(50)).expect("a turn");
    }

    /// Turns until something holds.
    fn until(&mut self, holds: impl Fn(&World) -> bool) {
        let end = Instant::now() + LONGEST;
        while !holds(self) {
            assert!(
                Instant::now() < end,
                "{} of {} are closed, {} files are open",
                self.sender.closed,
                self.sender.opened,
                self.sender.files
            );
            self.turn();
        }
    }

    /// Turns until a reader has what it reads.
    fn done<T>(&mut self, reader: JoinHandle<T>) -> T {
        self.until(|_| reader.is_finished());
        reader.join().expect("a reader")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Reads so many bytes, and rests after each piece of so many.
fn take(mut stream: TcpStream, all: usize, (piece, rest): (usize, Duration)) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = vec![0; all];
        for room in bytes.chunks_mut(piece) {
            stream.read_exact(room).expect("it goes on");
            std::thread::sleep(rest);
        }
        bytes
    })
}

/// Reads to the end.
fn take_all(mut stream: TcpStream) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // Whoever sends on when a file is not what it was may close with bytes unread.
        let _ = stream.read_to_end(&mut bytes);
        bytes
    })
}

const AT_ONCE: (usize, Duration) = (1 << 20, Duration::ZERO);

fn assert_equal(got: &[u8], expected: &[u8], what: &str) {
    let differs = got.iter().zip(expected).position(|(a, b)| a != b);
    assert!(got.len() == expected.len() && differs.is_none(), "{what}: {} of {} bytes, differs at {differs:?}", got.len(), expected.len());
}

#[test]
fn files_and_texts_stand_in_order() {
    let mut world = World::new("order");
    let (one, two, none) = (world.file("one", SIZE + 123), world.file("two", 70_001), world.file("none", 0));
    let parts = [b"begin\n", one.as_slice(), b"between\n", &two, &none, b"end\n", b"more\n"].concat();
    let reader = take(world.call("+begin one +between two none +end\n+more\n"), parts.len(), AT_ONCE);
    // A part without a text before it, and the same file for two at a time.
    let other = take(world.call("two one\n"), two.len() + one.len(), AT_ONCE);
    assert_equal(&world.done(reader), &parts, "texts and files");
    assert_equal(&world.done(other), &[two, one].concat(), "two files");
    world.until(|world| world.sender.closed == 2);
    assert_eq!(world.sender.files, 0);
}

#[test]
fn a_slow_reader_has_it_whole_and_holds_nobody_and_costs_no_turns() {
    let mut world = World::new("slow");
    let file = world.file("image", SIZE);
    let (slow, deaf) = (world.call("image +end\n"), world.call("image\n"));
    world.until(|world| world.sender.files == 2);
    for _ in 0..50 {
        world.turn();
    }
    // Nobody reads, and nothing is done.
    let (turns, begin) = (world.turns, Instant::now());
    while begin.elapsed() < Duration::from_secs(1) {
        world.turn();
    }
    assert!(world.turns - turns < 100, "{} turns in a second", world.turns - turns);
    let slow = take(slow, SIZE + 4, (256 << 10, Duration::from_millis(10)));
    let quick = take(world.call("image\n"), SIZE, AT_ONCE);
    assert_equal(&world.done(quick), &file, "a quick reader");
    assert!(!slow.is_finished(), "the slow one has not read all by then");
    let got = world.done(slow);
    assert_equal(&got[..SIZE], &file, "a slow reader");
    assert_eq!(&got[SIZE..], b"end\n");
    drop(deaf);
    world.until(|world| world.sender.closed == 3);
    assert_eq!(world.sender.files, 0);
}

#[test]
fn who_goes_away_in_the_middle_leaves_nothing_behind() {
    let mut world = World::new("gone");
    let file = world.file("image", SIZE);
    for round in 1..=8 {
        let stream = world.call("image\n");
        if round % 2 == 0 {
            world.until(|world| world.sender.files == 1);
        }
        // One is closed with bytes unread (RST), one by its end.
        let mut half = stream.try_clone().expect("another handle");
        let reader = std::thread::spawn(move || half.read_exact(&mut vec![0; round << 16]).expect("it begins"));
        world.done(reader);
        if round % 3 == 0 {
            stream.shutdown(std::net::Shutdown::Write).expect("it is connected");
        }
        drop(stream);
        world.until(|world| world.sender.closed == round);
        assert_eq!((world.sender.files, world.shell.connections()), (0, 0), "round {round}");
    }
    let reader = take(world.call("image\n"), SIZE, AT_ONCE);
    assert_equal(&world.done(reader), &file, "somebody else");
}

#[test]
fn a_file_that_changes_meanwhile_ends_its_connection_and_is_never_mixed() {
    let mut world = World::new("changed");
    for how in ["truncated", "written over", "replaced"] {
        let old = world.file("image", SIZE);
        let stream = world.call("image\n");
        let closed = world.sender.closed;
        world.until(|world| world.sender.files == 1);
        for _ in 0..20 {
            world.turn();
        }
        let path = world.root.join("image");
        match how {
            "truncated" => fs::File::options().write(true).open(&path).and_then(|file| file.set_len(1 << 20)).expect("it is shorter"),
            "written over" => fs::write(&path, vec![0; SIZE]).expect("it is another"),
            _ => {
                fs::write(world.root.join("new"), vec![0; SIZE]).expect("another file");
                fs::rename(world.root.join("new"), &path).expect("it takes the place");
            }
        }
        if how == "replaced" {
            // Who has opened the old one goes on with it.
            let reader = take(stream, SIZE, AT_ONCE);
            assert_equal(&world.done(reader), &old, how);
        } else {
            let got = world.done(take_all(stream));
            assert!((1..SIZE).contains(&got.len()), "{how}: {} bytes", got.len());
            assert_equal(&got, &old[..got.len()], how);
        }
        world.until(|world| world.sender.closed > closed);
        assert_eq!(world.sender.files, 0, "{how}");
    }
}
