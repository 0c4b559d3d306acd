//! Numbers and the disk that keeps them: one that is slow, one that is full, one that breaks. Nobody who is known waits for any of them.

mod common;
#[path = "common/disk.rs"]
mod disk;
#[path = "common/strangers.rs"]
#[allow(dead_code)] // each test crate uses its own part of it
mod strangers;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::musterd::Musterd;
use common::{Host, Lab, wait, write};
use disk::Disk;
use muster::base::addr::Mac;
use muster::wire::dhcp::MessageType;
use nix::sys::signal::Signal;
use strangers::{Stage, Strangers, Told, number};

const SERVER: &str = "10.54.0.1/16";
const SYNC: Duration = Duration::from_millis(500);

/// Who was given which number; no number of two, nobody with two. An offer is no promise.
fn numbers(told: &[Told]) -> BTreeMap<Mac, u32> {
    let (mut numbers, mut owners) = (BTreeMap::new(), BTreeMap::new());
    let given = told.iter().filter(|told| told.kind == MessageType::Ack);
    for (told, number) in given.filter_map(|told| number(told.address).map(|number| (told, number))) {
        assert_eq!(*numbers.entry(told.mac).or_insert(number), number, "{}", told.mac);
        assert_eq!(*owners.entry(number).or_insert(told.mac), told.mac, "n{number}");
    }
    numbers
}

/// Waits until so many machines have a number.
fn numbered(strangers: &Strangers, count: usize, seconds: u64) -> BTreeMap<Mac, u32> {
    let enough = wait(seconds, || Some(numbers(&strangers.told())).filter(|numbers| numbers.len() >= count));
    enough.unwrap_or_else(|| panic!("{} of {count} machines were numbered", numbers(&strangers.told()).len()))
}

/// All of them boot again, and are who they were; gives the longest time that one of them waited for an answer.
fn known_nodes_boot(strangers: &Strangers, known: &BTreeMap<Mac, u32>) -> Duration {
    let from = strangers.told().len();
    strangers.again(known.keys().copied());
    let acked = |told: &[Told]| -> BTreeMap<Mac, u32> {
        let again = told.iter().filter(|told| told.stage == Stage::Again);
        again.filter_map(|told| number(told.address).map(|number| (told.mac, number))).collect()
    };
    let all = wait(60, || (acked(&strangers.told_from(from)) == *known).then_some(()));
    assert!(all.is_some(), "{:?} is not {known:?}", acked(&strangers.told_from(from)));
    let again = strangers.told_from(from);
    let waits = again.iter().filter(|told| told.stage == Stage::Again).map(|told| told.at.duration_since(told.asked));
    waits.max().expect("somebody has booted")
}

/// The longest gap between packets of a running transfer, in milliseconds, of a storm of ROMs that load a file.
fn storm(rack: &Host, seed: u64) -> f64 {
    let mut storm = rack.command(env!("CARGO_BIN_EXE_muster-storm"));
    storm.args(["-i", "eth0", "-n", "16", "--spread", "2", "--file", "image", "--timeout", "100", "--json", "--first", &seed.to_string()]);
    let output = storm.stdout(Stdio::piped()).stderr(Stdio::null()).output().expect("run a storm");
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a result");
    assert_eq!((result["up"].as_u64(), result["lost"].as_u64()), (Some(16), Some(0)), "{result:#}");
    println!("a storm of {} s: gaps {}", result["completions_s"][15], result["gaps_ms"]);
    1000.0 * result["longest_gap"].as_f64().expect("a number")
}

#[test]
fn a_slow_disk_holds_up_no_transfer_and_no_promise_comes_before_its_sync() {
    let mut lab = Lab::new();
    let (server, rack, crowd) = (lab.server(SERVER), lab.attach("rack"), lab.attach("crowd"));
    let disk = Disk::slow(&lab, 16 << 10);
    write(&lab.dir().join("image"), &vec![0x5a; 3 << 20]);
    let musterd = Musterd::keeping(&server, lab.dir(), strangers::CONFIG, &disk.path().join("state"));
    disk.sync_takes(SYNC.as_millis() as u64);
    let strangers = Strangers::on(&crowd, 0);
    strangers.crowd(8);
    numbered(&strangers, 4, 60);
    // A machine that is busy with other tests may be late by itself: then once more. A loop that waits for its disk is late each time.
    let mut gaps = Vec::new();
    let (begin, before) = (Instant::now(), disk.syncs());
    while gaps.last().is_none_or(|gap| *gap >= 50.0) {
        assert!(gaps.len() < 4, "gaps of {gaps:?} ms while the disk syncs:\n{}", musterd.log());
        let seed = 1 + 100 * gaps.len() as u64;
        let gap = std::thread::scope(|scope| {
            let storm = scope.spawn(|| storm(&rack, seed));
            // The journal is written anew in the middle, with a rename and the syncs of file and folder.
            for _ in 0..2 {
                std::thread::sleep(Duration::from_millis(1500));
                musterd.signal(Signal::SIGUSR1);
            }
            storm.join().expect("all machines came up")
        });
        gaps.push(gap);
    }
    let (took, syncs) = (begin.elapsed(), disk.syncs() - before);
    let told = strangers.told();
    println!("gaps of {gaps:?} ms; {syncs} syncs in {took:?}, {} answers", told.len());
    assert!(SYNC * syncs as u32 * 2 > took, "the disk was at work most of the time: {syncs} syncs in {took:?}");
    let given = |told: &Told| told.kind == MessageType::Ack && number(told.address).is_some();
    let first = |mac: Mac| told.iter().find(|told| told.mac == mac && given(told));
    let known = numbers(&told);
    for told in known.keys().filter_map(|mac| first(*mac)) {
        let waited = told.at.duration_since(told.asked);
        assert!(waited >= SYNC, "{told:?} was told before it can have been on disk: after {waited:?}");
    }
    assert!(known.len() > 8, "{known:?}");
    let slowest = known_nodes_boot(&strangers, &known);
    println!("known nodes waited {slowest:?} at most");
}

/// Nobody gets a number for a while, and the log says why; gives who had one.
fn nobody_is_promised_anything(strangers: &Strangers, musterd: &Musterd, words: &[&str]) -> BTreeMap<Mac, u32> {
    strangers.crowd(24);
    let told = wait(60, || musterd.seen_all(words));
    assert!(told.is_some(), "{words:?} is not in the log:\n{}", musterd.log());
    // What was promised before that arrives.
    std::thread::sleep(Duration::from_secs(1));
    let before = numbers(&strangers.told());
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(numbers(&strangers.told()), before, "a number was told that is not on disk");
    before
}

#[test]
fn a_full_disk_lets_known_nodes_boot_and_new_ones_wait() {
    let mut lab = Lab::new();
    let (server, crowd) = (lab.server(SERVER), lab.attach("crowd"));
    let disk = Disk::new(&lab, 4 << 10);
    let state = disk.path().join("state");
    let musterd = Musterd::keeping(&server, lab.dir(), strangers::CONFIG, &state);
    let strangers = Strangers::on(&crowd, 0);
    strangers.crowd(8);
    numbered(&strangers, 30, 60);
    let filler = disk.fill();
    let known = nobody_is_promised_anything(
        &strangers,
        &musterd,
        &["error", "cannot write", "No space left", "known nodes boot, new machines wait"],
    );
    assert!(known.len() >= 30);
    let waited = known_nodes_boot(&strangers, &known);
    println!("known nodes waited {waited:?} at most for a full disk");
    // An operator's change is a promise too.
    let socket = lab.dir().join("run/control.sock");
    let arguments = ["--socket", socket.to_str().expect("a path of ours"), "node", "set", "4000", "--add", "02:00:00:00:40:00", "-y"];
    let change = server.run(30, env!("CARGO_BIN_EXE_muster"), &arguments);
    assert!(change.code == Some(1) && change.output.contains("confirms a change when that is on disk"), "{change:?}");
    let before = numbers(&strangers.told());
    std::fs::remove_file(filler).expect("make room");
    let after = numbered(&strangers, before.len() + 24, 60);
    assert!(wait(10, || musterd.seen("is writable again (everything is on disk)")).is_some(), "{}", musterd.log());
    strangers.crowd(0);
    assert!(wait(30, || strangers.is_idle().then_some(())).is_some(), "who waited comes in");
    musterd.kill();
    let _musterd = Musterd::keeping(&server, lab.dir(), strangers::CONFIG, &state);
    known_nodes_boot(&strangers, &numbers(&strangers.told()));
    assert!(after.len() >= before.len() + 24);
    let shown =
        server.run(30, env!("CARGO_BIN_EXE_muster"), &[&arguments[..2], &["node", "show", "4000"]].concat()).must("muster node show");
    assert!(shown.contains("02:00:00:00:40:00"), "the operator's change is on disk by now: {shown}");
}

/// Takes those out of the known whose record the kernel lost though it confirmed the sync. A sync that is under way while ext4 aborts
/// its journal can succeed without having written (of 150 plain programs that append and sync beside a second writer, 6 lost their last
/// record). Only records of that instant may be missing: everybody who was known before the disk broke is in it.
fn lost_by_the_kernel(state: &Path, settled: &BTreeMap<Mac, u32>, known: &mut BTreeMap<Mac, u32>) -> BTreeSet<Mac> {
    let journal = common::text(&state.join("journal"));
    let lost: BTreeSet<Mac> = known.keys().filter(|mac| !journal.contains(&mac.to_string())).copied().collect();
    assert!(lost.iter().all(|mac| !settled.contains_key(mac)), "{lost:?} are not in the journal:\n{journal}");
    known.retain(|mac, _| !lost.contains(mac));
    lost
}

#[test]
fn a_disk_that_breaks_becomes_read_only_and_loses_no_promise() {
    let mut lab = Lab::new();
    let (server, crowd) = (lab.server(SERVER), lab.attach("crowd"));
    let disk = Disk::new(&lab, 8 << 10);
    let state = disk.path().join("state");
    let musterd = Musterd::keeping(&server, lab.dir(), strangers::CONFIG, &state);
    let strangers = Strangers::on(&crowd, 0);
    strangers.crowd(8);
    numbered(&strangers, 30, 60);
    let settled = numbers(&strangers.told());
    disk.break_down();
    let mut known =
        nobody_is_promised_anything(&strangers, &musterd, &["error", "cannot", "journal", "known nodes boot, new machines wait"]);
    known_nodes_boot(&strangers, &known);
    drop(musterd);

    // The head is restarted while its disk is read-only.
    let musterd = Musterd::keeping(&server, lab.dir(), strangers::CONFIG, &state);
    assert!(musterd.seen_all(&["error", "Read-only file system", "known nodes boot, new machines wait"]).is_some(), "{}", musterd.log());
    known_nodes_boot(&strangers, &known);
    drop(musterd);

    // The operator sees to the disk, step by step; what had been torn on it is cut when it can be.
    disk.unmount();
    disk.check();
    disk.mount();
    let torn =
        OpenOptions::new().append(true).open(state.join("journal")).and_then(|mut file| file.write_all(b"2026-11-23T15:34:10Z n0 vac"));
    torn.expect("tear the journal's tail");
    let lost = lost_by_the_kernel(&state, &settled, &mut known);
    let told = || -> Vec<Told> { strangers.told().into_iter().filter(|told| !lost.contains(&told.mac)).collect() };
    disk.unmount();
    disk.mount_read_only();
    let musterd = Musterd::keeping(&server, lab.dir(), strangers::CONFIG, &state);
    known_nodes_boot(&strangers, &known);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(numbers(&told()), known, "nothing is promised on a disk that is mounted read-only");
    disk.remount(musterd.pid());
    let enough = || Some(numbers(&told())).filter(|numbers| numbers.len() >= known.len() + 24);
    let after = wait(60, enough).expect("new machines are numbered again");
    strangers.crowd(0);
    assert!(wait(30, || strangers.is_idle().then_some(())).is_some(), "who waited comes in");
    assert!(known.iter().all(|(mac, number)| after.get(mac) == Some(number)));
    assert!(musterd.says("is writable again (everything is on disk)").is_some(), "{}", musterd.log());
    assert!(!common::text(&state.join("journal")).contains("n0 vac"), "the torn tail is cut by now");
    musterd.kill();
    let _musterd = Musterd::keeping(&server, lab.dir(), strangers::CONFIG, &state);
    known_nodes_boot(&strangers, &numbers(&told()));
}
