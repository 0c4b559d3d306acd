//! Disks and servers that do not answer: a frozen file system under the journal, a stopped FUSE server under the boot files, a config that is a
//! pipe. Who needs none of them does not notice; who does waits alone, and goes on when they answer.

mod common;
#[path = "common/disk.rs"]
mod disk;
#[path = "common/strangers.rs"]
#[allow(dead_code)] // each test crate uses its own part of it
mod strangers;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::musterd::Musterd;
use common::{Host, Lab, Outcome, text, wait, write};
use disk::{Bound, Disk};
use muster::base::addr::Mac;
use muster::wire::dhcp::MessageType;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use strangers::{Stage, Strangers, number};

const SERVER: &str = "10.54.0.1/16";
/// Within this a known node has its address, disk or no disk.
const AT_ONCE: Duration = Duration::from_millis(5);
/// And while others load at full speed on the same two cores: before it asks again.
const IN_A_STORM: Duration = Duration::from_millis(250);

/// Bytes that differ everywhere.
fn content(len: usize, seed: u64) -> Vec<u8> {
    (0..len as u64).map(|n| ((n ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

fn numbers(strangers: &Strangers) -> BTreeMap<Mac, u32> {
    // An offer of a number's address promises nothing yet.
    let given = strangers.told().into_iter().filter(|told| told.kind == MessageType::Ack);
    given.filter_map(|told| number(told.address).map(|number| (told.mac, number))).collect()
}

/// Waits until so many machines have a number.
fn numbered(strangers: &Strangers, count: usize, seconds: u64) -> BTreeMap<Mac, u32> {
    let enough = wait(seconds, || Some(numbers(strangers)).filter(|numbers| numbers.len() >= count));
    enough.unwrap_or_else(|| panic!("{} of {count} machines were numbered", numbers(strangers).len()))
}

/// Numbers some machines, and sends everybody else home.
fn known(strangers: &Strangers, count: usize) -> BTreeMap<Mac, u32> {
    strangers.crowd(8);
    numbered(strangers, count, 60);
    strangers.crowd(0);
    assert!(wait(60, || strangers.is_idle().then_some(())).is_some(), "who was under way comes in");
    numbers(strangers)
}

/// Known nodes boot again and get what they had. A machine that is busy with other tests may be late by itself: then once more. A loop that waits
/// for a disk is late each time.
fn known_nodes_are_answered(strangers: &Strangers, known: &BTreeMap<Mac, u32>, within: Duration) {
    let mut slowest = Vec::new();
    while slowest.last().is_none_or(|slowest| *slowest > within) {
        assert!(slowest.len() < 20, "known nodes waited {slowest:?}");
        let from = strangers.told().len();
        let some: Vec<Mac> = known.keys().copied().cycle().skip(5 * slowest.len()).take(5.min(known.len())).collect();
        strangers.again(some.iter().copied());
        let acked = || {
            let told = strangers.told_from(from);
            let again = told.into_iter().filter(|told| told.stage == Stage::Again && number(told.address).is_some());
            Some(again.collect::<Vec<_>>()).filter(|again| some.iter().all(|mac| again.iter().any(|told| told.mac == *mac)))
        };
        let again = wait(30, acked).expect("known nodes get their addresses");
        assert!(again.iter().all(|told| number(told.address) == known.get(&told.mac).copied()));
        slowest.push(again.iter().map(|told| told.at.duration_since(told.asked)).max().expect("somebody has booted"));
    }
    println!("known nodes waited {slowest:?}");
}

fn muster(host: &Host, lab: &Lab, arguments: &[&str]) -> Outcome {
    let socket = lab.dir().join("run/control.sock");
    let socket = socket.to_str().expect("a path of ours");
    host.run(30, env!("CARGO_BIN_EXE_muster"), &[&["--socket", socket], arguments].concat())
}

/// Machines that load a file, started and not waited for.
fn storm(rack: &Host, file: &str, count: u32, first: u32, spread: &str) -> std::process::Child {
    let mut storm = rack.command(env!("CARGO_BIN_EXE_muster-storm"));
    storm.args(["-i", "eth0", "-n", &count.to_string(), "--spread", spread, "--file", file, "--timeout", "60", "--json"]);
    storm.args(["--first", &first.to_string()]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("start a storm")
}

fn all_came_up(storm: std::process::Child, count: u64) -> f64 {
    let output = storm.wait_with_output().expect("a storm");
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a result");
    assert_eq!((result["up"].as_u64(), result["lost"].as_u64()), (Some(count), Some(0)), "{result:#}");
    1000.0 * result["longest_gap"].as_f64().expect("a number")
}

#[test]
fn a_frozen_disk_of_the_journal_holds_up_new_promises_alone() {
    let mut lab = Lab::new();
    let (server, rack, crowd) = (lab.server(SERVER), lab.attach("rack"), lab.attach("crowd"));
    let disk = Disk::new(&lab, 16 << 10);
    write(&lab.dir().join("image"), &content(2 << 20, 1));
    let state = disk.path().join("state");
    // Those that load are nodes too: a guest's lease would be a promise.
    let nodes =
        (0..16).map(|n| format!("[[node]]\nnumber = {}\nmacs = [\"02:4d:00:00:07:{:02x}\"]\n", 3000 + n, 0xd0 + n)).collect::<String>();
    let config = strangers::CONFIG.to_string() + &nodes;
    let musterd = Musterd::keeping(&server, lab.dir(), &config, &state);
    let strangers = Strangers::on(&crowd, 0);
    let known = known(&strangers, 20);
    all_came_up(storm(&rack, "image", 16, 2000, "0"), 16);

    let frozen = disk.freeze();
    strangers.crowd(8);
    // The writer has something to write by now.
    std::thread::sleep(Duration::from_secs(1));
    let before = numbers(&strangers);
    known_nodes_are_answered(&strangers, &known, AT_ONCE);
    let running = storm(&rack, "image", 16, 2000, "2");
    known_nodes_are_answered(&strangers, &known, IN_A_STORM);
    // The names file is the writer's too.
    Musterd::reconfigure(&server, &config.replace("[cluster]\n", "[cluster]\nname = \"other\"\n"));
    musterd.signal(Signal::SIGHUP);
    assert!(wait(20, || musterd.seen("now in force")).is_some(), "a reload waits for no disk:\n{}", musterd.log());
    println!("gaps of {} ms at most", all_came_up(running, 16));
    known_nodes_are_answered(&strangers, &known, AT_ONCE);
    let checkpoint = muster(&server, &lab, &["checkpoint"]);
    assert!(checkpoint.code == Some(1) && checkpoint.output.contains("the journal is not written yet"), "{checkpoint:?}");
    assert!(fs::metadata(musterd.run_dir().join("state.json")).is_ok(), "the run folder's disk is another one");
    assert!(
        wait(20, || musterd.seen_all(&["error", "has not answered for 5 s", "known nodes boot, new machines wait"])).is_some(),
        "{}",
        musterd.log()
    );
    known_nodes_are_answered(&strangers, &known, AT_ONCE);
    assert_eq!(numbers(&strangers), before, "a number was told that is not on disk");

    drop(frozen);
    let after = numbered(&strangers, before.len() + 8, 60);
    assert!(before.iter().all(|(mac, number)| after.get(mac) == Some(number)));
    assert!(wait(10, || musterd.seen("answers again")).is_some(), "{}", musterd.log());
    let written = muster(&server, &lab, &["checkpoint"]).must("muster checkpoint");
    assert!(written.contains("the journal was rewritten"), "{written}");
    let names = wait(10, || text(&state.join("names")).contains("other").then_some(()));
    assert!(names.is_some(), "the names are written in the end");
}

/// Loads a file with curl, which goes on for as long as the head does.
fn load(host: &Host, name: &str) -> std::process::Child {
    let mut curl = host.command("curl");
    curl.args(["-s", "--max-time", "60", &format!("tftp://10.54.0.1/{name}")]).stdout(Stdio::piped()).spawn().expect("curl")
}

#[test]
fn a_boot_root_that_does_not_answer_holds_up_who_wants_what_is_not_there() {
    let mut lab = Lab::new();
    let (server, rack, crowd, client) = (lab.server(SERVER), lab.attach("rack"), lab.attach("crowd"), lab.attach("client"));
    client.ip("address add 10.54.9.9/16 dev eth0");
    let folder = lab.dir().join("files");
    fs::create_dir(&folder).expect("a folder");
    let (warm, cold) = (content(3 << 20, 1), content(1 << 20, 2));
    write(&folder.join("warm"), &warm);
    write(&folder.join("cold"), &cold);
    let bound = Bound::new(&lab, &folder);
    let musterd = Musterd::keeping(&server, bound.path(), strangers::CONFIG, &lab.dir().join("run/state"));
    assert!(musterd.says("boot files: sent from 64 MiB of memory").is_some(), "{}", musterd.log());
    let strangers = Strangers::on(&crowd, 0);
    let known = known(&strangers, 20);
    all_came_up(storm(&rack, "warm", 4, 1000, "0"), 4);

    let running = storm(&rack, "warm", 16, 2000, "4");
    std::thread::sleep(Duration::from_secs(1));
    let stopped = bound.stop();
    let begin = Instant::now();
    let waiting = load(&client, "cold");
    known_nodes_are_answered(&strangers, &known, IN_A_STORM);
    println!("gaps of {} ms at most", all_came_up(running, 16));
    known_nodes_are_answered(&strangers, &known, AT_ONCE);
    // An operator's reload needs the root, and says so; nobody waits for it.
    let reload = muster(&server, &lab, &["reload"]);
    assert!(reload.code == Some(1) && reload.output.contains("has not answered"), "{reload:?}");
    assert!(begin.elapsed() > Duration::from_secs(7));
    assert!(
        wait(20, || musterd.seen_all(&["error", "boot files: a disk or server has not answered for 5 s"])).is_some(),
        "{}",
        musterd.log()
    );
    drop(stopped);
    let loaded = waiting.wait_with_output().expect("curl");
    assert!(loaded.stdout == cold, "who waited gets the file: {} of {} bytes, {:?}", loaded.stdout.len(), cold.len(), loaded.status);
    assert!(wait(10, || musterd.seen("boot files: the disk or server answers again")).is_some(), "{}", musterd.log());
    muster(&server, &lab, &["reload"]).must("muster reload");

    // In the middle of a file that is not all there yet, the transfer waits and goes on.
    write(&folder.join("large"), &content(80 << 20, 3));
    let waiting = load(&client, "large");
    std::thread::sleep(Duration::from_millis(300));
    let stopped = bound.stop();
    std::thread::sleep(Duration::from_secs(2));
    known_nodes_are_answered(&strangers, &known, AT_ONCE);
    drop(stopped);
    let loaded = waiting.wait_with_output().expect("curl");
    assert!(loaded.stdout == content(80 << 20, 3), "{} bytes, {:?}", loaded.stdout.len(), loaded.status);
}

/// A change in place, seen through a server that is asked.
#[test]
fn a_far_file_that_is_changed_in_place_ends_its_transfers() {
    let mut lab = Lab::new();
    let (server, client) = (lab.server(SERVER), lab.attach("client"));
    client.ip("address add 10.54.9.9/16 dev eth0");
    let folder = lab.dir().join("files");
    fs::create_dir(&folder).expect("a folder");
    write(&folder.join("image"), &content(40 << 20, 1));
    let bound = Bound::new(&lab, &folder);
    let musterd = Musterd::keeping(&server, bound.path(), strangers::CONFIG, &lab.dir().join("run/state"));
    let waiting = load(&client, "image");
    std::thread::sleep(Duration::from_millis(300));
    write(&folder.join("image"), &content(40 << 20, 2));
    let loaded = waiting.wait_with_output().expect("curl");
    assert!(!loaded.status.success() && loaded.stdout.len() < 40 << 20, "{:?}: {} bytes", loaded.status, loaded.stdout.len());
    assert!(musterd.says("changed in place").is_some(), "{}", musterd.log());
    assert!(loaded.stdout == content(40 << 20, 1)[..loaded.stdout.len()], "no mixture");
    let again = load(&client, "image").wait_with_output().expect("curl");
    assert!(again.stdout == content(40 << 20, 2), "{:?}: {} bytes", again.status, again.stdout.len());
    // A file that is replaced is seen within a second.
    write(&folder.join("new"), b"new");
    fs::rename(folder.join("new"), folder.join("image")).expect("replace it");
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(load(&client, "image").wait_with_output().expect("curl").stdout, b"new");
}

#[test]
fn a_stopped_nfs_server() {
    let kernel = text(Path::new("/proc/filesystems"));
    if !kernel.contains("nfsd") {
        eprintln!("NOT RUN: this kernel serves no NFS (no nfsd in /proc/filesystems); a stopped FUSE server stands for it in this crate");
        return;
    }
    panic!("this kernel has nfsd: write this test, with a root on a loopback mount whose server is stopped");
}

#[test]
fn a_config_is_a_regular_file_of_a_megabyte_at_most() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let (pipe, large) = (lab.dir().join("pipe.toml"), lab.dir().join("large.toml"));
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    write(&large, &b"# no config is as long as this\n".repeat(8 << 15));
    let path = |path: &Path| path.to_str().expect("a path of ours").to_string();
    let (run, root) = (path(&lab.dir().join("run")), path(lab.dir()));
    let refusals = [
        (path(&pipe), "it is not a regular file"),
        ("/dev/zero".into(), "it is not a regular file"),
        (root.clone(), "it is not a regular file"),
        (path(&large), "larger than 1 MiB"),
    ];
    for (config, why) in &refusals {
        for flags in [vec!["-t"], vec!["-f", "--run-dir", &run, "--state-dir", &root]] {
            let arguments = [&flags[..], &["-i", "eth0", "-r", &root, "-c", config]].concat();
            let refused = server.run(10, env!("CARGO_BIN_EXE_musterd"), &arguments);
            assert!(refused.code == Some(1) && refused.output.contains(why) && refused.output.contains("-c"), "{config}: {refused:?}");
        }
    }
    let crowd = lab.attach("crowd");
    let musterd = Musterd::keeping(&server, lab.dir(), strangers::CONFIG, &lab.dir().join("run/state"));
    let strangers = Strangers::on(&crowd, 0);
    let known = known(&strangers, 8);
    let config = lab.dir().join("muster.toml");
    for (other, why) in &refusals {
        fs::remove_file(&config).expect("take the config away");
        std::os::unix::fs::symlink(other, &config).expect("put another in its place");
        let refused = muster(&server, &lab, &["reload"]);
        assert!(refused.code == Some(1) && refused.output.contains(why), "{other}: {refused:?}");
        musterd.signal(Signal::SIGHUP);
        known_nodes_are_answered(&strangers, &known, AT_ONCE);
    }
    let status = text(&Path::new("/proc").join(musterd.pid().to_string()).join("status"));
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).and_then(|line| line.split_whitespace().next()?.parse().ok());
    assert!(memory.is_some_and(|kib: u64| kib < 64 << 10), "{memory:?} KiB");
}

/// What systemd does for RestrictSUIDSGID=, and kernels before 5.6 by themselves.
#[allow(unsafe_code, reason = "a system call between fork and exec")]
fn without_openat2(errno: Option<i32>) -> impl Fn() -> std::io::Result<()> {
    use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    move || {
        let Some(errno) = errno else { return Ok(()) };
        let mut program = [
            step(BPF_LD | BPF_W | BPF_ABS, 0, 0, 0),
            step(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, libc::SYS_openat2 as u32),
            step(BPF_RET | BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
            step(BPF_RET | BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: the program outlives the call, and is what its length says.
        let confined = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
        if confined == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    }
}

#[test]
#[allow(unsafe_code, reason = "a system call between fork and exec")]
fn files_are_served_with_and_without_openat2() {
    let mut lab = Lab::new();
    let (server, client) = (lab.server(SERVER), lab.attach("client"));
    client.ip("address add 10.54.9.9/16 dev eth0");
    let root = lab.dir().join("files");
    fs::create_dir_all(root.join("folder")).expect("a folder");
    write(&lab.dir().join("secret"), b"secret");
    write(&root.join("folder/image"), b"the image");
    for (name, target) in [("inside", "/folder/image"), ("out", "../secret"), ("far-out", "/../../secret")] {
        std::os::unix::fs::symlink(target, root.join(name)).expect("a link");
    }
    let boot = lab.dir().join("boot");
    fs::create_dir_all(&boot).expect("a folder");
    write(&boot.join("kernel"), b"the image");
    for (name, target) in [("away", lab.dir().join("secret")), ("kernel", boot.join("kernel")), ("sly", boot.join("../secret"))] {
        std::os::unix::fs::symlink(target, root.join(name)).expect("a link");
    }
    let config = format!("{}[boot]\nallow = {boot:?}\nkernel = \"away\"\n", strangers::CONFIG);
    let ways = [(Some(libc::ENOSYS), "Function not implemented"), (Some(libc::EPERM), "Operation not permitted"), (None, "")];
    for (errno, name) in ways {
        // SAFETY: one system call between fork and exec.
        let prepare = |command: &mut std::process::Command| {
            unsafe { command.pre_exec(without_openat2(errno)) };
        };
        let musterd = Musterd::prepared(&server, &root, &config, &lab.dir().join("run/state"), prepare);
        assert_eq!(musterd.seen_all(&["info", "openat2", name, "folder by folder"]).is_some(), errno.is_some(), "{}", musterd.log());
        assert!(musterd.seen("away (put them there").is_some(), "at start it is not there: {}", musterd.log());
        assert!(musterd.says("since their links lead out of").is_some_and(|(_, line)| line.contains(": away (")), "{}", musterd.log());
        for path in ["folder/image", "inside", "folder/../inside", "kernel"] {
            assert_eq!(load(&client, path).wait_with_output().expect("curl").stdout, b"the image", "{path}");
        }
        for path in ["out", "far-out", "away", "sly", "../secret", "missing"] {
            let refused = load(&client, path).wait_with_output().expect("curl");
            assert!(!refused.status.success() && refused.stdout.is_empty(), "{path}");
        }
    }
}

#[test]
fn a_state_folder_that_is_removed_is_made_anew_with_everything() {
    let mut lab = Lab::new();
    let (server, crowd) = (lab.server(SERVER), lab.attach("crowd"));
    let state = lab.dir().join("state");
    let musterd = Musterd::keeping(&server, lab.dir(), strangers::CONFIG, &state);
    let strangers = Strangers::on(&crowd, 0);
    let known = known(&strangers, 20);
    fs::remove_dir_all(&state).expect("remove it");
    strangers.crowd(8);
    numbered(&strangers, known.len() + 8, 60);
    assert!(musterd.seen_all(&["error", "was removed while musterd runs"]).is_some(), "{}", musterd.log());
    assert!(musterd.says("was rewritten in full").is_some(), "{}", musterd.log());
    strangers.crowd(0);
    assert!(wait(30, || strangers.is_idle().then_some(())).is_some());
    assert!(text(&state.join("names")).contains("cluster"), "the names are there again");
    // With nothing to be promised it is noticed as well.
    fs::remove_dir_all(&state).expect("remove it");
    assert!(wait(10, || fs::metadata(state.join("journal")).ok()).is_some(), "it is made anew");
    fs::remove_dir_all(&state).expect("remove it");
    let written = muster(&server, &lab, &["checkpoint"]).must("muster checkpoint");
    assert!(written.contains("the journal was rewritten") && state.join("journal").exists(), "{written}");
    // Where it cannot be made nothing is promised, and nothing is said to be written.
    fs::remove_dir_all(&state).expect("remove it");
    write(&state, b"a file in its place");
    assert!(wait(10, || musterd.seen_all(&["error", "cannot recreate"])).is_some(), "{}", musterd.log());
    let refused = muster(&server, &lab, &["checkpoint"]);
    assert!(refused.code == Some(1) && refused.output.contains("journal"), "{refused:?}");
    let before = numbers(&strangers);
    strangers.crowd(8);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(numbers(&strangers), before, "a number was told that is not on disk");
    fs::remove_file(&state).expect("make room");
    let after = numbered(&strangers, before.len() + 8, 60);
    musterd.kill();
    let _musterd = Musterd::keeping(&server, lab.dir(), strangers::CONFIG, &state);
    strangers.crowd(0);
    assert!(wait(60, || strangers.is_idle().then_some(())).is_some());
    known_nodes_are_answered(&strangers, &after, AT_ONCE);
}

#[test]
fn a_file_process_that_dies_takes_musterd_along_and_the_other_way_round() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let state = lab.dir().join("run/state");
    for victim in ["musterd: reader", "musterd: clerk", "musterd: writer"] {
        let mut musterd = Musterd::keeping(&server, lab.dir(), strangers::CONFIG, &state);
        let workers = musterd.workers();
        assert_eq!(workers.len(), 8, "{workers:?}");
        for name in ["musterd: reader", "musterd: clerk", "musterd: writer"] {
            assert!(workers.iter().any(|(_, of)| of == name), "{workers:?}");
        }
        // What reaches everybody does them no harm.
        for (pid, _) in &workers {
            for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGUSR1] {
                kill(Pid::from_raw(*pid), signal).expect("it runs");
            }
            // One that does something just now has a file more.
            let few = || fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").count() <= 10;
            assert!(wait(10, || few().then_some(())).is_some(), "the standard ones, its socket, and what it keeps");
        }
        std::thread::sleep(Duration::from_millis(200));
        assert!(!musterd.ended() && musterd.workers().len() == 8);
        let (pid, _) = workers.iter().find(|(_, name)| name == victim).expect("the victim");
        kill(Pid::from_raw(*pid), Signal::SIGKILL).expect("it runs");
        assert_eq!(wait(10, || musterd.code()), Some(Some(1)), "{}", musterd.log());
        assert!(musterd.says(&format!("file process {pid} has died")).is_some(), "{}", musterd.log());
        let gone = |(pid, _): &(i32, String)| !Path::new("/proc").join(pid.to_string()).exists();
        assert!(wait(5, || workers.iter().all(gone).then_some(())).is_some(), "they end with it");
    }
    let musterd = Musterd::keeping(&server, lab.dir(), strangers::CONFIG, &state);
    let workers = musterd.workers();
    musterd.kill();
    let gone = |(pid, _): &(i32, String)| !text(&Path::new("/proc").join(pid.to_string()).join("stat")).contains("musterd");
    assert!(wait(5, || workers.iter().all(gone).then_some(())).is_some(), "they end with it, however it ends");
}

#[test]
fn a_folder_of_the_root_that_does_not_answer_holds_up_no_other() {
    let mut lab = Lab::new();
    let (server, client) = (lab.server(SERVER), lab.attach("client"));
    client.ip("address add 10.54.9.9/16 dev eth0");
    let (folder, healthy) = (lab.dir().join("files"), lab.dir().join("healthy"));
    for folder in [&folder, &healthy] {
        fs::create_dir(folder).expect("a folder");
    }
    let image = |n: u64| content(30_000, n);
    for n in 0..8 {
        write(&folder.join(format!("c{n}")), &image(n));
        write(&healthy.join(format!("h{n}")), &image(100 + n));
        write(&lab.dir().join(format!("r{n}")), &image(200 + n));
    }
    // It shows its folder as `bound` in the root.
    let bound = Bound::new(&lab, &folder);
    let musterd = Musterd::keeping(&server, lab.dir(), strangers::CONFIG, &lab.dir().join("run/state"));
    assert_eq!(load(&client, "bound/c7").wait_with_output().expect("curl").stdout, image(7));
    let stopped = bound.stop();
    let waiting: Vec<_> = (0..7).map(|n| load(&client, &format!("{}bound/c{n}", if n % 2 == 0 { "" } else { "/" }))).collect();
    std::thread::sleep(Duration::from_millis(300));
    for n in 0..8 {
        let begin = Instant::now();
        for (name, content) in [(format!("healthy/h{n}"), image(100 + n)), (format!("r{n}"), image(200 + n))] {
            assert!(load(&client, &name).wait_with_output().expect("curl").stdout == content, "{name}:\n{}", musterd.log());
        }
        assert!(begin.elapsed() < Duration::from_secs(2), "files of healthy folders took {:?}", begin.elapsed());
    }
    assert!(
        wait(20, || musterd.seen_all(&["error", "boot files: a disk or server has not answered", "not in memory wait"])).is_some(),
        "{}",
        musterd.log()
    );
    drop(stopped);
    for (n, loaded) in waiting.into_iter().enumerate() {
        let loaded = loaded.wait_with_output().expect("curl");
        assert!(loaded.stdout == image(n as u64), "who waited gets c{n}: {:?}", loaded.status);
    }
}

/// Each of these acts leaves the daemon a journal that its next start cannot use.
#[test]
fn a_journal_that_is_cut_or_written_over_is_written_anew() {
    let mut lab = Lab::new();
    let (server, crowd) = (lab.server(SERVER), lab.attach("crowd"));
    let state = lab.dir().join("state");
    let journal = state.join("journal");
    let mut musterd = Musterd::keeping(&server, lab.dir(), strangers::CONFIG, &state);
    let strangers = Strangers::on(&crowd, 0);
    let mut known = known(&strangers, 20);
    let begin = fs::read(&journal).map(|bytes| bytes[..bytes.len() / 3].to_vec()).expect("a journal");
    let acts: [&dyn Fn(); 3] = [&|| write(&journal, b""), &|| write(&journal, &begin), &|| {
        write(&journal, &fs::read(&journal).map(|bytes| [&b"# "[..], &bytes].concat()).expect("a journal"))
    }];
    for act in acts {
        act();
        strangers.crowd(8);
        numbered(&strangers, known.len() + 8, 60);
        assert!(wait(10, || musterd.seen_all(&["error", "another program cut "])).is_some(), "{}", musterd.log());
        assert!(wait(10, || musterd.seen("was rewritten in full")).is_some(), "{}", musterd.log());
        strangers.crowd(0);
        assert!(wait(60, || strangers.is_idle().then_some(())).is_some());
        known = numbers(&strangers);
        musterd.kill();
        musterd = Musterd::keeping(&server, lab.dir(), strangers::CONFIG, &state);
        known_nodes_are_answered(&strangers, &known, IN_A_STORM);
    }
    // With nothing to be promised it is noticed as well.
    write(&journal, b"");
    assert!(wait(10, || musterd.seen("was rewritten in full")).is_some(), "{}", musterd.log());
    let told = musterd.log().matches("another program cut ").count();
    assert_eq!(told, 1, "{}", musterd.log());
}

/// Runs a command that mounts, where the daemon sees it.
fn within(pid: u32, command: &[&str]) {
    let status = std::process::Command::new("nsenter").args(["-t", &pid.to_string(), "-m"]).args(command).status();
    assert!(status.expect("nsenter").success(), "{command:?}");
}

/// What the test's own namespace mounts.
fn mounted(command: &[&str]) {
    let status = std::process::Command::new(command[0]).args(&command[1..]).status();
    assert!(status.expect("mount").success(), "{command:?}");
}

#[test]
fn a_file_system_on_the_state_folder_is_noticed() {
    let mut lab = Lab::new();
    let (server, crowd) = (lab.server(SERVER), lab.attach("crowd"));
    let disk = Disk::new(&lab, 16 << 10);
    let state = disk.path().join("state");
    let place = state.to_str().expect("a path of ours");
    // Mounts arrive in namespaces that are made later, as they do where systemd runs.
    mounted(&["mount", "--make-shared", disk.path().to_str().expect("a path of ours")]);
    let musterd = Musterd::keeping(&server, lab.dir(), strangers::CONFIG, &state);
    let strangers = Strangers::on(&crowd, 0);
    let known = known(&strangers, 20);

    // Where the daemon sees it, it goes on there.
    within(musterd.pid(), &["mount", "-t", "tmpfs", "none", place]);
    strangers.crowd(8);
    numbered(&strangers, known.len() + 8, 60);
    strangers.crowd(0);
    assert!(wait(60, || strangers.is_idle().then_some(())).is_some());
    assert!(musterd.seen_all(&["error", place, "is now another folder or file system"]).is_some(), "{}", musterd.log());
    let there = Path::new("/proc").join(musterd.pid().to_string()).join("root").join(place.trim_start_matches('/'));
    let journal = text(&there.join("journal"));
    let all = numbers(&strangers);
    assert!(all.values().all(|number| journal.contains(&format!(" n{number} "))), "{journal}");
    assert!(text(&there.join("names")).contains("cluster"));
    within(musterd.pid(), &["umount", "-l", place]);
    assert!(wait(10, || text(&state.join("journal")).contains(&format!(" n{} ", all.len() - 1)).then_some(())).is_some(), "and back");

    // A sandbox has mounted the folder for the daemon alone; what is mounted on the head later arrives there.
    within(musterd.pid(), &["mount", "--bind", place, place]);
    muster(&server, &lab, &["checkpoint"]).must("muster checkpoint");
    mounted(&["mount", "-t", "tmpfs", "none", place]);
    strangers.crowd(8);
    let after = numbered(&strangers, all.len() + 8, 60);
    strangers.crowd(0);
    assert!(wait(60, || strangers.is_idle().then_some(())).is_some());
    musterd.kill();
    let journal = text(&state.join("journal"));
    assert!(after.values().all(|number| journal.contains(&format!(" n{number} "))), "the next start finds all of them: {journal}");
    let musterd = Musterd::keeping(&server, lab.dir(), strangers::CONFIG, &state);
    known_nodes_are_answered(&strangers, &after, IN_A_STORM);
    drop(musterd);
    mounted(&["umount", place]);
}

#[test]
fn a_start_with_a_frozen_disk_says_so_and_ends() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let disk = Disk::new(&lab, 16 << 10);
    let path = |path: &Path| path.to_str().expect("a path of ours").to_string();
    let (root, run) = (path(lab.dir()), path(&lab.dir().join("run")));
    write(&lab.dir().join("muster.toml"), strangers::CONFIG.as_bytes());
    let config = path(&lab.dir().join("muster.toml"));
    for state in [path(disk.path()), path(&disk.path().join("state"))] {
        let arguments = ["-f", "-i", "eth0", "-r", &root, "-c", &config, "--run-dir", &run, "--state-dir", &state];
        let frozen = disk.freeze();
        let refused = server.run(30, env!("CARGO_BIN_EXE_musterd"), &arguments);
        drop(frozen);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.output.contains(&format!("journal: opening it in {state}")), "{refused:?}");
        assert!(refused.output.contains("has not answered for 10 s") && refused.took < Duration::from_secs(14), "{refused:?}");
    }
}
