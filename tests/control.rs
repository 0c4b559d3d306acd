//! The operator's side for real: `muster` and bare connections against a running `musterd`.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::musterd::Musterd;
use common::{Host, Lab, Outcome, image, stop, tail, wait, write};
use nix::sys::signal::Signal;
use serde_json::Value;

const SERVER: &str = "10.54.0.1/16";
const MUSTER: &str = env!("CARGO_BIN_EXE_muster");

fn socket(musterd: &Musterd) -> PathBuf {
    musterd.run_dir().join("control.sock")
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of ours")
}

/// Runs muster to its end.
fn muster(host: &Host, socket: &Path, arguments: &[&str]) -> Outcome {
    host.run(20, MUSTER, &[&["--socket", path(socket)], arguments].concat())
}

fn json(host: &Host, socket: &Path, arguments: &[&str]) -> Value {
    let said = muster(host, socket, &[arguments, &["--json"]].concat()).must("muster --json");
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// It failed with this code, and said so.
fn fails(outcome: &Outcome, code: i32, words: &[&str]) {
    assert_eq!(outcome.code, Some(code), "{}", outcome.output);
    for word in words {
        assert!(outcome.output.contains(word), "{word:?} is not in: {}", outcome.output);
    }
}

fn connect(socket: &Path) -> BufReader<UnixStream> {
    let stream = UnixStream::connect(socket).expect("connect to the daemon");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
    BufReader::new(stream)
}

fn ask(connection: &mut BufReader<UnixStream>, request: &str) -> Value {
    writeln!(connection.get_mut(), "{request}").expect("ask the daemon");
    heard(connection)
}

fn heard(connection: &mut BufReader<UnixStream>) -> Value {
    let mut line = String::new();
    connection.read_line(&mut line).expect("an answer");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
}

/// Asks for a lease as an operating system does.
fn lease(client: &Host) {
    let ask = format!("{} udhcpc -i eth0 -n -q -f -s /bin/true", image().join("busybox").display());
    client.script(30, &ask).must("udhcpc");
}

/// The manual's own example: the pipe ends with the line, though nothing happens any more that would be written into it.
#[test]
fn a_watch_ends_when_its_reader_has_seen_enough() {
    const WANTED: &str = r#"grep -m1 '"number":17,.*"stage":"up"'"#;
    assert!(include_str!("../man/muster.1").contains(WANTED), "the example is in the manual");
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let client = lab.attach("client");
    let node = format!("[[node]]\nnumber = 17\nmacs = [\"{}\"]\n", client.mac("eth0"));
    let musterd = Musterd::configured(&server, lab.dir(), &node);
    let socket = socket(&musterd);
    let mut watching = server.command(MUSTER);
    watching.args(["--socket", path(&socket), "watch", "--json"]).stdout(Stdio::piped());
    let mut watching = watching.spawn().expect("start muster watch");
    let mut steps = BufReader::new(watching.stdout.take().expect("it is piped")).lines();
    let busybox = image().join("busybox");
    let asks = format!("{} udhcpc -i eth0 -n -q -f -s /bin/true", busybox.display());
    let (asking, seen) = (client.clone(), Arc::new(AtomicBool::new(false)));
    let watched = Arc::clone(&seen);
    // Again only until it is seen to watch.
    let asking = std::thread::spawn(move || {
        while !watched.load(Ordering::Relaxed) {
            asking.script(20, &asks).must("udhcpc");
        }
    });
    let up =
        steps.by_ref().map_while(Result::ok).inspect(|_| seen.store(true, Ordering::Relaxed)).find(|line| line.contains(r#""stage":"up""#));
    asking.join().expect("the client's thread");
    assert!(up.as_ref().is_some_and(|line| line.contains(r#""number":17,"#)), "{up:?}");
    drop(steps);
    let ended = wait(10, || watching.try_wait().expect("wait for a child of ours"));
    stop(&mut watching, Signal::SIGKILL);
    assert_eq!(ended.and_then(|status| status.code()), Some(0), "it left as soon as nobody read it");
}

#[test]
fn an_operator_sees_the_cluster() {
    let mut lab = Lab::new();
    let (server, node, guest) = (lab.server(SERVER), lab.attach("node"), lab.attach("guest"));
    let (mac, stranger) = (node.mac("eth0"), guest.mac("eth0"));
    let config = format!(
        "[cluster]\nname = \"lab\"\nnode0 = \"10.54.1.0\"\nnodes = 2000\n[boot]\nkernel = \"vmlinuz\"\n[[node]]\nnumber = 17\nmacs = \
         [\"{mac}\", \"02:00:00:00:00:99\"]\n[[node]]\nnumber = 40\nmacs = [\"02:00:00:00:00:40\"]\n[[for]]\nnodes = \"0-31\"\nargs = \"role=storage\"\n"
    );
    let musterd = Musterd::configured(&server, lab.dir(), &config);
    let socket = socket(&musterd);
    let mut watching = server.command(MUSTER);
    watching.args(["--socket", path(&socket), "watch"]).stdout(Stdio::piped());
    let mut watching = watching.spawn().expect("start muster watch");
    let steps = BufReader::new(watching.stdout.take().expect("it is piped")).lines();
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&told);
    std::thread::spawn(move || steps.map_while(Result::ok).for_each(|line| sink.lock().expect("no reader panics").push(line)));
    let told = move || told.lock().expect("no writer panics").join("\n");
    // Until it is seen to watch.
    let watches = wait(20, || {
        lease(&guest);
        (!told().is_empty()).then_some(())
    });
    assert!(watches.is_some(), "{}", musterd.log());
    lease(&node);

    let status = muster(&server, &socket, &["status"]).must("muster status");
    for words in [
        "lab: 2000 nodes from 10.54.1.0",
        "up            1  17",
        "down          1  40",
        "vacant     1998  0-16,18-39,41-1999",
        "guests        1",
    ] {
        assert!(status.contains(words), "{words:?} is not in:\n{status}");
    }
    let status = json(&server, &socket, &["status"]);
    assert_eq!((status["states"]["up"].as_str(), status["guests"].as_u64()), (Some("17"), Some(1)));

    let list = muster(&server, &socket, &["node", "list"]).must("muster node list");
    assert_eq!(list.lines().count(), 3, "{list}");
    assert!(
        list.lines().nth(1).is_some_and(|line| line.starts_with("n17   up     10.54.1.17  up") && line.contains(&format!("{mac} +1"))),
        "{list}"
    );
    let rows = json(&server, &socket, &["node", "list", "n[16-17]", "@up", "40"]);
    let states: Vec<_> = rows.as_array().expect("a list").iter().map(|row| row["state"].as_str().expect("a state")).collect();
    assert_eq!(states, ["vacant", "up", "down"]);
    let all = json(&server, &socket, &["node", "list", "0-1999"]);
    assert_eq!(all.as_array().map(Vec::len), Some(2000), "page by page");

    let shown = muster(&server, &socket, &["node", "show", "n17"]).must("muster node show");
    for words in ["n17  10.54.1.17  up", "discover", "[[for]] line ", "role=storage", "kernel", "[boot]", "lease"] {
        assert!(shown.contains(words), "{words:?} is not in:\n{shown}");
    }
    let guests = json(&server, &socket, &["guest", "list"]);
    assert_eq!((guests[0]["id"].as_str(), guests[0]["stage"].as_str()), (Some(stranger.as_str()), Some("up")));

    for words in [&format!("n17    {mac} discover (os)"), &format!("n17    {mac} lease 10.54.1.17"), &format!("guest  {stranger} ")] {
        assert!(wait(5, || told().contains(words).then_some(())).is_some(), "{words:?} is not in:\n{}", told());
    }
    stop(&mut watching, Signal::SIGTERM);
}

#[test]
fn mistakes_are_told_with_what_to_type() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let musterd = Musterd::configured(&server, lab.dir(), "[cluster]\nnode0 = \"10.54.1.0\"\nnodes = 100\n");
    let socket = socket(&musterd);
    fails(&muster(&server, &socket, &["stauts"]), 2, &["did you mean muster status?"]);
    fails(&muster(&server, &socket, &["node", "list", "c[001-010]"]), 2, &["as in n5"]);
    fails(&muster(&server, &socket, &["node", "show", "100"]), 1, &["n100 does not exist", "n0 to n99"]);
    fails(&muster(&server, &socket, &["node", "out", "@up"]), 1, &["selects no node"]);
    fails(&muster(&server, &lab.dir().join("none"), &["status"]), 3, &["no daemon answers", "--socket"]);
    fails(&muster(&server, &socket, &["node", "replace", "5"]), 1, &["n5 has no machine", "muster node set n5 --reserve"]);
    fails(&muster(&server, &socket, &["node", "set", "5", "--add", "02:00:00:00:00:05"]), 4, &["n5     before: vacant", "use -y"]);
    write(&lab.dir().join("ethers"), b"02:00:00:00:00:07 n7\n02:00:00:00:00:08 n7b\nnonsense\n");
    let imported = muster(&server, &socket, &["import", path(&lab.dir().join("ethers")), "-n"]);
    fails(&imported, 1, &["1     n7    its name       new", "2     n0    lowest vacant  new", "left out (1):", "line 3: \"nonsense\""]);

    Musterd::reconfigure(&server, "[cluster]\nnode0 = 10\n");
    fails(&muster(&server, &socket, &["reload"]), 1, &["muster.toml:2:", "the old config stays in force"]);
    Musterd::reconfigure(&server, "[cluster]\nnode0 = \"10.54.1.0\"\nnodes = 200\n");
    let reloaded = muster(&server, &socket, &["reload"]).must("muster reload");
    assert!(reloaded.contains("nodes 100 -> 200") && reloaded.contains("now in force"), "{reloaded}");
    let written = muster(&server, &socket, &["checkpoint"]).must("muster checkpoint");
    assert!(written.contains("state.json") && musterd.run_dir().join("state.json").exists(), "{written}");
}

#[test]
fn a_cluster_is_renumbered_by_an_operators_word_only() {
    let mut lab = Lab::new();
    let (server, node) = (lab.server(SERVER), lab.attach("node"));
    let config = |node0: &str| {
        format!(
            "[cluster]\nnode0 = \"{node0}\"\nnodes = 100\nprefix = \"c\"\ndigits = 3\n[[node]]\nnumber = 7\nmacs = [\"{}\"]\n",
            node.mac("eth0")
        )
    };
    let musterd = Musterd::configured(&server, lab.dir(), &config("10.54.1.0"));
    let socket = socket(&musterd);
    lease(&node);
    let told = |arguments: &[&str]| muster(&server, &socket, arguments);
    let named = told(&["node", "list", "c007"]).must("muster node list c007");
    assert!(named.contains("c007") && named.contains("10.54.1.7"), "{named}");
    fails(&told(&["node", "show", "d7"]), 2, &["as in c5"]);
    let hosts = told(&["hosts", "c[007-008]"]).must("muster hosts");
    assert_eq!(hosts, "10.54.0.1\thead.cluster\thead master\n10.54.1.7\tc007.cluster\tc007\n10.54.1.8\tc008.cluster\tc008\n");
    assert_eq!(told(&["hosts", "--form", "slurm"]).must("muster hosts"), "NodeName=c[000-099] State=UNKNOWN\n");

    Musterd::reconfigure(&server, &config("10.54.2.0"));
    fails(&told(&["reload"]), 1, &["n7: 10.54.1.7 -> 10.54.2.7", "1 in all", "muster reload --renumber"]);
    musterd.signal(Signal::SIGHUP);
    assert!(wait(10, || musterd.seen("config: not applied (it would move nodes")).is_some(), "{}", musterd.log());
    fails(&told(&["reload", "--renumber"]), 4, &["renumber: n7: 10.54.1.7 -> 10.54.2.7", "use -y"]);
    assert!(told(&["node", "list", "7"]).must("muster node list").contains("10.54.1.7"), "nothing has changed yet");
    let done = told(&["reload", "--renumber", "-y"]).must("muster reload --renumber");
    assert!(done.contains("n7: 10.54.1.7 -> 10.54.2.7") && done.contains("now in force"), "{done}");
    lease(&node);
    assert!(told(&["node", "list", "7"]).must("muster node list").contains("10.54.2.7"));
}

#[test]
fn connections_are_counted_and_old_ones_let_in_again() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let musterd = Musterd::plain(&server, lab.dir());
    let socket = socket(&musterd);
    let mut open: Vec<_> = (0..16).map(|_| connect(&socket)).collect();
    for connection in &mut open {
        assert_eq!(ask(connection, r#"{"do":"states"}"#)["is"], "states");
    }
    fails(&muster(&server, &socket, &["status"]), 1, &["16 connections are open"]);
    let mut crowd = connect(&socket);
    let told = heard(&mut crowd);
    assert!(told["is"] == "error" && told["why"].as_str().is_some_and(|why| why.contains("16 connections")), "{told}");
    assert_eq!(crowd.read_line(&mut String::new()).expect("the end"), 0);
    drop(open.pop());
    let again = wait(10, || muster(&server, &socket, &["status"]).ok().then_some(()));
    assert!(again.is_some(), "a place is free again");
    assert_eq!(ask(&mut open[0], r#"{"do":"dance"}"#)["is"], "error");
    assert_eq!(ask(&mut open[0], r#"{"do":"states"}"#)["is"], "states", "an error ends nothing");
}

#[test]
fn a_socket_that_was_removed_comes_back_with_a_hangup() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let musterd = Musterd::configured(&server, lab.dir(), "[cluster]\nname = \"lab\"\n");
    let socket = socket(&musterd);
    let mut before = connect(&socket);
    assert_eq!(ask(&mut before, r#"{"do":"status"}"#)["cluster"], "lab");
    std::fs::remove_file(&socket).expect("remove the socket");
    fails(&muster(&server, &socket, &["status"]), 3, &["no daemon answers"]);
    musterd.signal(Signal::SIGHUP);
    let back = wait(10, || muster(&server, &socket, &["status"]).ok().then_some(()));
    assert!(back.is_some(), "{}", musterd.log());
    assert_eq!(ask(&mut before, r#"{"do":"status"}"#)["cluster"], "lab", "who was connected stays so");
    let descriptors = musterd.descriptors();
    for _ in 0..3 {
        musterd.signal(Signal::SIGHUP);
        assert!(wait(10, || muster(&server, &socket, &["status"]).ok().then_some(())).is_some());
    }
    assert!(wait(5, || (musterd.descriptors() <= descriptors).then_some(())).is_some(), "old sockets are closed");
    drop(musterd);
    assert!(!socket.exists(), "the socket goes with the daemon");
}

#[test]
fn a_slow_reader_is_dropped_while_a_storm_goes_on() {
    let mut lab = Lab::new();
    let (server, rack) = (lab.server(SERVER), lab.attach("rack"));
    let musterd = Musterd::plain(&server, lab.dir());
    let socket = socket(&musterd);
    let mut slow = connect(&socket);
    assert_eq!(ask(&mut slow, r#"{"do":"watch"}"#)["is"], "watching");
    let mut quick = connect(&socket);
    assert_eq!(ask(&mut quick, r#"{"do":"watch"}"#)["is"], "watching");
    let reader = std::thread::spawn(move || {
        let (mut events, mut lost) = (0u64, 0u64);
        for line in quick.lines().map_while(Result::ok) {
            let told: Value = serde_json::from_str(&line).expect("whole lines");
            match told["is"].as_str() {
                Some("event") => events += 1,
                _ => lost += told["count"].as_u64().expect("a count"),
            }
        }
        (events, lost)
    });
    let mut storm = rack.command(env!("CARGO_BIN_EXE_muster-storm"));
    storm.args(["-i", "eth0", "-n", "200", "--exchanges", "6", "--json"]).stdout(Stdio::piped());
    let storm = storm.spawn().expect("start a storm");
    let dropped = wait(20, || musterd.seen("dropped (it does not read what it is sent"));
    let told = muster(&server, &socket, &["status"]);
    let output = storm.wait_with_output().expect("the storm ends");
    assert!(output.status.success());
    let result: Value = serde_json::from_slice(&output.stdout).expect("a result");
    assert!(dropped.is_some(), "{result:#}\n{}", tail(&musterd.log(), 20));
    told.must("another operator is served meanwhile");
    assert!(result["exchanges"].as_u64().is_some_and(|n| n > 1000), "{result:#}");
    drop(musterd);
    let (events, lost) = reader.join().expect("the quick reader");
    assert!(events > 1000, "{events} events, {lost} lost");
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    assert!(!rest.is_empty(), "it still reads what it was sent before");
}

#[test]
fn only_root_and_the_group_may_speak() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let (run, group) = (lab.dir().join("run"), lab.dir().join("group"));
    std::fs::create_dir_all(&run).expect("a folder");
    write(&group, b"root:x:0:\nnogroup:x:65534:\nmuster:x:4242:\n");
    let script = format!(
        "if [ -d /etc/muster ]; then mount -t tmpfs none /etc/muster; fi; mount --bind {} /etc/group; exec {} -f -i eth0 -r {} --run-dir {}",
        path(&group),
        env!("CARGO_BIN_EXE_musterd"),
        path(lab.dir()),
        path(&run)
    );
    let mut musterd = server.command("sh");
    let mut musterd = musterd.args(["-ec", &script]).stderr(Stdio::null()).spawn().expect("start musterd");
    let socket = run.join("control.sock");
    assert!(wait(20, || muster(&server, &socket, &["status"]).ok().then_some(())).is_some(), "root may");
    let found = std::fs::metadata(&socket).expect("the socket is there");
    assert_eq!((found.permissions().mode() & 0o777, found.gid()), (0o660, 4242));
    // The program and the socket where nobody can reach them, whatever folder this checkout is in.
    let as_nobody = |groups: &str| {
        let script = format!(
            "mount -t tmpfs none /mnt; mkdir /mnt/run; mount --bind {} /mnt/run; cp {MUSTER} /mnt/muster
            exec setpriv --reuid 65534 --regid 65534 {groups} /mnt/muster --socket /mnt/run/control.sock status",
            path(&run)
        );
        server.script(20, &script)
    };
    fails(&as_nobody("--clear-groups"), 1, &["you may not use", "group muster"]);
    as_nobody("--groups 7,4242").must("a member of the group may");
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666)).expect("open the socket to everybody");
    fails(&as_nobody("--groups 7,8"), 1, &["user 65534 may not operate this cluster", "group muster"]);
    stop(&mut musterd, Signal::SIGTERM);
    assert!(!socket.exists());
}

/// What an operator asks at night: whose is this, why is it not up, tell me when it is.
#[test]
fn machines_are_found_explained_and_waited_for() {
    let mut lab = Lab::new();
    let (server, client) = (lab.server(SERVER), lab.attach("client"));
    let mac = client.mac("eth0");
    let node = format!(
        "[cluster]\nnode0 = \"10.54.1.0\"\n[[node]]\nnumber = 17\nmacs = [\"{mac}\"]\n[[node]]\nnumber = 18\nmacs = [\"02:00:00:00:00:18\"]\n"
    );
    let musterd = Musterd::configured(&server, lab.dir(), &node);
    let socket = socket(&musterd);
    let bare = mac.replace(':', "");
    let dotted = format!("{}.{}.{}", &bare[..4], &bare[4..8], &bare[8..]);
    for text in [mac.as_str(), &bare, &dotted, &mac.to_uppercase(), "10.54.1.17", "n17", "17", "n17.cluster"] {
        let found = json(&server, &socket, &["find", text]);
        assert_eq!((found.as_array().map(Vec::len), &found[0]["number"]), (Some(1), &Value::from(17)), "{text}: {found}");
    }
    fails(&muster(&server, &socket, &["find", "02:99:99:99:99:99"]), 1, &["no node and no guest has"]);
    let silent = muster(&server, &socket, &["why", "18"]).must("muster why");
    assert!(silent.contains("n18 is down") && silent.contains("nothing was heard of 02:00:00:00:00:18"), "{silent}");
    let late = muster(&server, &socket, &["wait", "17,18", "--timeout", "1s"]);
    fails(&late, 1, &["2 of 2 are not up: 17-18"]);
    fails(&muster(&server, &socket, &["wait", "17", "--timeout", "soon"]), 2, &["90s, 10m or 1h"]);
    let waiting = {
        let (server, socket) = (server.clone(), socket.clone());
        std::thread::spawn(move || muster(&server, &socket, &["wait", "17", "--timeout", "15s"]))
    };
    lease(&client);
    assert_eq!(waiting.join().expect("the thread that waits").must("muster wait").trim(), "17: up");
    let up = muster(&server, &socket, &["why", &mac]).must("muster why");
    assert!(up.starts_with("n17 is up") && up.contains("10.54.1.17"), "{up}");
    assert_eq!(json(&server, &socket, &["node", "list", "@down"])[0]["number"], 18);
}
