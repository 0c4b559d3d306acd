//! Numbers that outlive machines, and the daemon: the real `musterd` on a real file system, killed, restarted, its journal torn and damaged.

mod common;
#[path = "common/strangers.rs"]
mod strangers;

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::musterd::Musterd;
use common::{Host, Lab, Outcome, text, wait, write};
use muster::base::addr::Mac;
use muster::base::rng::Rng;
use muster::wire::dhcp::MessageType;
use nix::sys::signal::Signal;
use serde_json::Value;
use strangers::{Stage, Strangers, Told, number};

const SERVER: &str = "10.54.0.1/16";
const MUSTER: &str = env!("CARGO_BIN_EXE_muster");
const MUSTER_IN: &str = env!("CARGO_BIN_EXE_muster-in");

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of ours")
}

/// Runs muster to its end, against the musterd of a lab.
fn muster(host: &Host, lab: &Lab, arguments: &[&str]) -> Outcome {
    let socket = lab.dir().join("run/control.sock");
    host.run(30, MUSTER, &[&["--socket", path(&socket)], arguments].concat())
}

fn json(host: &Host, lab: &Lab, arguments: &[&str]) -> Value {
    let said = muster(host, lab, &[arguments, &["--json"]].concat()).must("muster --json");
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// Runs muster-in on `eth0` to its end.
fn muster_in(host: &Host, arguments: &[&str]) -> Outcome {
    let mut command = host.command("unshare");
    command.args(["--uts", MUSTER_IN, "-d", "/nonexistent", "-i", "eth0", "--nic", "eth0"]).args(arguments);
    host.finish(60, command)
}

/// It ended with this code, and said so.
fn ended(outcome: Outcome, code: i32, words: &[&str]) -> String {
    assert_eq!(outcome.code, Some(code), "{}", outcome.output);
    for word in words {
        assert!(outcome.output.contains(word), "{word:?} is not in: {}", outcome.output);
    }
    outcome.output
}

/// What a line of muster-in's output says.
fn said<'a>(output: &'a str, key: &str) -> &'a str {
    let line = output.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix("='"));
    line.and_then(|line| line.strip_suffix('\'')).unwrap_or_else(|| panic!("no {key} in {output}"))
}

/// Whose number is whose, of everything that was told: no number of two, nobody with two, no guest's address of two at a time.
fn judge(told: &[Told]) -> BTreeMap<Mac, u32> {
    let (mut numbers, mut owners, mut guests) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for told in told {
        let Told { mac, address, kind, .. } = *told;
        match number(address) {
            Some(number) => {
                let other = *numbers.entry(mac).or_insert(number);
                assert_eq!(other, number, "{mac} was told n{other} and n{number}");
                let owner = *owners.entry(number).or_insert(mac);
                assert_eq!(owner, mac, "n{number} was told to {owner} and to {mac}");
            }
            None if kind == MessageType::Ack => {
                // No lease has ended meanwhile.
                let owner = *guests.entry(address).or_insert(mac);
                assert_eq!(owner, mac, "{address} was leased to {owner} and to {mac}");
            }
            None => {}
        }
    }
    numbers
}

/// Boots all of them once more, and compares what they are given now.
fn all_are_who_they_were(strangers: &Strangers, numbers: &BTreeMap<Mac, u32>) {
    let from = strangers.told().len();
    strangers.again(numbers.keys().copied());
    let ended = wait(120, || strangers.is_idle().then_some(()));
    let told = strangers.told_from(from);
    assert!(ended.is_some(), "{} of {} answers came", told.len(), 2 * numbers.len());
    let again: BTreeMap<Mac, Option<u32>> =
        told.iter().filter(|told| told.kind == MessageType::Ack).map(|told| (told.mac, number(told.address))).collect();
    for (mac, was) in numbers {
        assert_eq!(again.get(mac), Some(&Some(*was)), "{mac} was told n{was}");
    }
}

/// muster-in on a host, one new machine after another.
struct Rank {
    end: Arc<AtomicBool>,
    told: Arc<Mutex<Vec<Told>>>,
    thread: Option<JoinHandle<()>>,
}

impl Rank {
    fn on(host: &Host, first: u32) -> Rank {
        let (end, told) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (over, sink, host) = (Arc::clone(&end), Arc::clone(&told), host.clone());
        let thread = std::thread::spawn(move || {
            for machine in first.. {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let mac = strangers::mac(machine);
                host.ip(&format!("link set dev eth0 address {mac}"));
                let asked = Instant::now();
                let outcome = muster_in(&host, &["--timeout", "20"]);
                let output = ended(outcome, 0, &["VERDICT='passed'"]);
                let address = said(&output, "ADDRESS").parse().expect("an address");
                let kind = MessageType::Ack;
                sink.lock().expect("no reader fails").push(Told { mac, address, kind, asked, at: Instant::now(), stage: Stage::Passing });
            }
        });
        Rank { end, told, thread: Some(thread) }
    }

    /// Lets the last one come in; gives what all of them were told.
    fn dismiss(mut self) -> Vec<Told> {
        self.end.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join).expect("it was started").expect("every muster-in was given a number");
        let told = self.told.lock().expect("no writer fails");
        told.clone()
    }
}

/// Power cuts by day and night, while machines pass muster: what was told is kept. MUSTER_KILLS or MUSTER_KILL_SECONDS make it longer.
#[test]
fn killed_again_and_again_it_keeps_every_number_that_it_told() {
    let variable = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let (kills, seconds) = (variable("MUSTER_KILLS").unwrap_or(15), variable("MUSTER_KILL_SECONDS").unwrap_or(0));
    let mut lab = Lab::new();
    let (server, rack) = (lab.server(SERVER), lab.attach("rack"));
    let ranks = [lab.attach("rank1"), lab.attach("rank2")];
    let root = lab.dir().to_path_buf();
    let mut musterd = Musterd::configured(&server, &root, strangers::CONFIG);
    let strangers = Strangers::on(&rack, 0);
    let ranks = [Rank::on(&ranks[0], 1 << 20), Rank::on(&ranks[1], 2 << 20)];
    let seed = variable("MUSTER_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let (mut rng, begin, mut round) = (Rng::new(seed), Instant::now(), 0);
    println!("MUSTER_SEED={seed}");
    while round < kills || begin.elapsed() < Duration::from_secs(seconds) {
        // As long as there are lots, and room to tell all of them apart.
        let numbered = judge(&strangers.told()).len() as u32;
        strangers.crowd(if numbered + 256 < strangers::LOTS { 12 } else { 0 });
        strangers.again(judge(&strangers.told()).keys().copied().skip(rng.below(40) as usize).step_by(97));
        std::thread::sleep(Duration::from_millis(100 + rng.below(900)));
        if rng.chance(400_000) {
            // In the middle of writing the journal anew.
            musterd.signal(Signal::SIGUSR1);
            std::thread::sleep(Duration::from_micros(rng.below(20_000)));
        }
        musterd.kill();
        musterd = Musterd::configured(&server, &root, strangers::CONFIG);
        round += 1;
    }
    strangers.crowd(0);
    let settled = wait(60, || strangers.is_idle().then_some(()));
    assert!(settled.is_some(), "every machine comes in when nobody kills any more");
    let passed: Vec<Told> = ranks.into_iter().flat_map(Rank::dismiss).collect();
    let everything = [strangers.told(), passed.clone()].concat();
    let numbers = judge(&everything);
    println!("{round} kills in {:?}: {} answers, {} numbers, {} of them by muster-in", begin.elapsed(), everything.len(), numbers.len(), passed.len());
    assert!(numbers.len() > 100 && passed.len() > 4, "that was no load: {} numbers, {} by muster-in", numbers.len(), passed.len());
    musterd.kill();
    let _musterd = Musterd::configured(&server, &root, strangers::CONFIG);
    all_are_who_they_were(&strangers, &numbers);
    let rows = json(&server, &lab, &["node", "list"]);
    let listed: BTreeMap<&str, u64> =
        rows.as_array().expect("a list").iter().map(|row| (row["mac"].as_str().expect("a MAC"), row["number"].as_u64().expect("n"))).collect();
    assert!(numbers.iter().all(|(mac, number)| listed.get(mac.to_string().as_str()) == Some(&u64::from(*number))), "{listed:?}");
}
