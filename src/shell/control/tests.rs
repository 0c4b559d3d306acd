use std::io::{BufRead, BufReader};
use std::time::Duration;

use super::*;
use crate::base::machine::Reload;
use crate::shell::work::clerk::group_in;
use mio::{Events, Poll};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const TOKEN: usize = 7;

/// A control socket in a folder of the test's own, and what the machine would hear of it.
struct World {
    poll: Poll,
    control: Control,
    folder: PathBuf,
    heard: Vec<String>,
}

impl World {
    fn new(name: &str) -> World {
        let folder = std::env::temp_dir().join(format!("muster-control-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let poll = Poll::new().unwrap();
        let control = Control::open(&folder, poll.registry(), TOKEN).unwrap();
        World { poll, control, folder, heard: Vec::new() }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(NAME)
    }

    fn connect(&self) -> BufReader<UnixStream> {
        let stream = connect(&self.path()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        BufReader::new(stream)
    }

    /// Turns of the loop until nothing is left to do.
    fn turns(&mut self) {
        let mut events = Events::with_capacity(64);
        for _ in 0..2000 {
            let nap = if self.control.has_work() { Duration::ZERO } else { Duration::from_millis(20) };
            self.poll.poll(&mut events, Some(nap)).unwrap();
            let quiet = events.is_empty() && !self.control.has_work();
            events.iter().for_each(|event| self.control.event(event.token().0 - TOKEN));
            self.control.serve(self.poll.registry(), Instant::ZERO);
            while let Some(news) = self.control.news() {
                self.heard.push(format!("{news:?}"));
            }
            if let Some((conn, len)) = self.control.line() {
                self.heard.push(format!("{conn}: {}", String::from_utf8_lossy(self.control.bytes(conn, len))));
                self.control.consume(conn, len);
                self.control.put(Instant::ZERO, conn, b"ok\n");
            }
            self.control.settle();
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

#[test]
fn lines_come_whole_and_one_by_one() {
    let mut world = World::new("lines");
    let mut client = world.connect();
    client.get_mut().write_all(b"one\ntw").unwrap();
    assert_eq!(world.take(), ["Opened(0)", "0: one"]);
    client.get_mut().write_all(b"o\n\nlast").unwrap();
    client.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(world.take(), ["0: two", "0: ", "0: last", "Closed(0)"]);
    assert_eq!([(); 4].map(|()| line(&mut client)), ["ok\n"; 4]);
    assert_eq!(line(&mut client), "", "and then it is closed");
    assert!(!world.control.has_work());
}

#[test]
fn the_seventeenth_is_told_and_let_go() {
    let mut world = World::new("crowd");
    let mut clients: Vec<_> = (0..CONTROL_CONNECTIONS).map(|_| world.connect()).collect();
    assert_eq!(world.take().len(), CONTROL_CONNECTIONS);
    let mut last = world.connect();
    assert_eq!(world.take(), [""; 0]);
    assert!(line(&mut last).contains("16 connections are open") && line(&mut last).is_empty());
    drop(clients.remove(3));
    assert_eq!(world.take(), ["Closed(3)"]);
    let _again = world.connect();
    assert_eq!(world.take(), ["Opened(3)"]);
}

#[test]
fn who_does_not_read_is_dropped_and_holds_nobody() {
    let mut world = World::new("slow");
    let (slow, mut quick) = (world.connect(), world.connect());
    world.turns();
    let event = [b'e'; 4000];
    for _ in 0..200 {
        world.control.put(Instant::ZERO, 0, &event);
    }
    world.control.put(Instant::ZERO, 1, b"hello\n");
    assert_eq!(line(&mut quick), "hello\n");
    assert_eq!(world.take(), ["Opened(0)", "Opened(1)", "Closed(0)"]);
    drop(slow);
}

#[test]
fn a_request_waits_until_the_answer_before_was_taken() {
    let mut world = World::new("pipeline");
    let mut client = world.connect();
    world.take();
    let long = vec![b'x'; CONTROL_OUT - 2000];
    client.get_mut().write_all(b"a\nb\n").unwrap();
    world.control.put(Instant::ZERO, 0, &long);
    world.control.put(Instant::ZERO, 0, b"\n");
    assert_eq!(world.take(), [""; 0], "it has not read yet");
    let reader = std::thread::spawn(move || [line(&mut client).len(), line(&mut client).len(), line(&mut client).len()]);
    while !reader.is_finished() {
        world.turns();
    }
    assert_eq!(reader.join().unwrap(), [long.len() + 1, 3, 3]);
    assert_eq!(world.heard[..2], ["0: a", "0: b"]);
}

#[test]
fn a_line_without_end_is_refused() {
    let mut world = World::new("endless");
    let mut client = world.connect();
    world.take();
    client.get_ref().set_nonblocking(true).unwrap();
    let _ = client.get_mut().write(&[b'x'; CONTROL_LINE_MAX]);
    for _ in 0..20 {
        world.turns();
        let _ = client.get_mut().write(&[b'x'; 8192]);
    }
    client.get_ref().set_nonblocking(false).unwrap();
    assert!(line(&mut client).contains("longer than 65536"));
    assert_eq!(world.take(), ["Closed(0)"]);
}

#[test]
fn errands_are_answered_before_the_next_line() {
    let mut world = World::new("errand");
    let mut client = world.connect();
    world.take();
    world.control.ask(0, Signal::Reload(Reload::Stay));
    client.get_mut().write_all(b"next\n").unwrap();
    for _ in 0..3 {
        world.control.serve(world.poll.registry(), Instant::ZERO);
        assert_eq!(world.control.line(), None);
    }
    assert_eq!((world.control.errand(), world.control.errand()), (Some(Signal::Reload(Reload::Stay)), None));
    world.control.answer(Instant::ZERO, b"done\n");
    world.control.answer(Instant::ZERO, b"twice\n");
    assert_eq!(line(&mut client), "done\n");
    assert_eq!(world.take(), ["0: next"]);
    assert_eq!(line(&mut client), "ok\n");
}

#[test]
fn the_socket_is_replaced_when_nobody_answers_on_it() {
    let mut world = World::new("stale");
    let why = Control::open(&world.folder, world.poll.registry(), 100).err().unwrap().to_string();
    assert!(why.contains("another daemon answers") && why.contains("--run-dir"), "{why}");
    let mode = fs::metadata(world.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    world.turns();
    let mut before = world.connect();
    world.take();
    fs::remove_file(world.path()).unwrap();
    let (folder, ours) = world.control.place();
    let door = open_door(folder, ours).unwrap();
    world.control.adopt(world.poll.registry(), door).unwrap();
    let mut after = world.connect();
    after.get_mut().write_all(b"after\n").unwrap();
    before.get_mut().write_all(b"before\n").unwrap();
    let mut heard = world.take();
    heard.sort();
    assert_eq!(heard, ["0: before", "1: after", "Opened(1)"]);
    assert_eq!((line(&mut before), line(&mut after)), ("ok\n".into(), "ok\n".into()));
    // What a crash leaves behind: a socket that nobody listens on.
    let stale = world.folder.join("crashed");
    fs::create_dir_all(&stale).unwrap();
    drop(UnixListener::bind(stale.join(NAME)).unwrap());
    let again = Control::open(&stale, world.poll.registry(), 200).unwrap();
    assert!(connect(&stale.join(NAME)).is_ok());
    drop(again);
    assert!(!stale.join(NAME).exists(), "it goes with the daemon");
}

#[test]
fn long_paths_are_reached_through_their_folder() {
    let world = World::new("long");
    let deep = world.folder.join("x".repeat(60)).join("y".repeat(60));
    fs::create_dir_all(&deep).unwrap();
    let control = Control::open(&deep, world.poll.registry(), 300).unwrap();
    assert!(connect(&deep.join(NAME)).is_ok());
    drop(control);
}

#[test]
fn groups_as_the_file_has_them() {
    assert_eq!(group_in("root:x:0:\nmusters:x:7:\nmuster:x:998:ann,bob\n"), Some(998));
    assert_eq!((group_in("root:x:0:\n"), group_in("muster:x\n")), (None, None));
}
