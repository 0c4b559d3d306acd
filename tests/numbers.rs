//! Numbers that outlive machines, and the daemon: the real `musterd` on a real file system, killed, restarted, its journal torn and damaged.

mod common;
#[path = "common/strangers.rs"]
#[allow(dead_code)] // each test crate uses its own part of it
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

/// Whose number is whose, of everything that was told: no number of two, nobody with two, no guest's address of two at a time. An offer to
/// whom has no number yet is no promise.
fn judge(told: &[Told]) -> BTreeMap<Mac, u32> {
    let (mut numbers, mut owners, mut guests) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for told in told {
        let Told { mac, address, kind, .. } = *told;
        match number(address) {
            Some(number) if kind != MessageType::Ack => {
                let (own, owner) = (numbers.get(&mac), owners.get(&number));
                assert!(own.is_none_or(|own| *own == number) && owner.is_none_or(|owner| *owner == mac), "{told:?}: {own:?} {owner:?}");
            }
            Some(number) => {
                let other = *numbers.entry(mac).or_insert(number);
                assert_eq!(other, number, "{mac} was told n{other} and n{number}");
                let owner = *owners.entry(number).or_insert(mac);
                assert_eq!(owner, mac, "n{number} was told to {owner} and to {mac}");
                // It asked for the address of its number: it gives up the one that it had as a guest.
                guests.retain(|_, guest| *guest != mac);
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

/// muster-in on a host, one machine after another, each new until there have been enough: the lots are to last until the end.
struct Rank {
    end: Arc<AtomicBool>,
    told: Arc<Mutex<Vec<Told>>>,
    thread: Option<JoinHandle<()>>,
}

impl Rank {
    const MACHINES: u32 = 400;

    fn on(host: &Host, first: u32) -> Rank {
        let (end, told) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (over, sink, host) = (Arc::clone(&end), Arc::clone(&told), host.clone());
        let thread = std::thread::spawn(move || {
            for n in 0.. {
                let machine = first + n % Rank::MACHINES;
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
        // The lot table is to last until the end; some of those who live there boot again each time.
        let known = judge(&strangers.told());
        let room = known.len() + 1024 + 2 * (Rank::MACHINES as usize) < strangers::LOTS as usize;
        strangers.crowd(if room && round % (1 + seconds / 40) == 0 { 12 } else { 0 });
        strangers.again(known.keys().copied().skip(rng.below(40) as usize).step_by(97));
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
    println!(
        "{round} kills in {:?}: {} answers, {} numbers, {} of them by muster-in",
        begin.elapsed(),
        everything.len(),
        numbers.len(),
        passed.len()
    );
    assert!(numbers.len() > 100 && passed.len() > 4, "that was no load: {} numbers, {} by muster-in", numbers.len(), passed.len());
    musterd.kill();
    let _musterd = Musterd::configured(&server, &root, strangers::CONFIG);
    all_are_who_they_were(&strangers, &numbers);
    let rows = json(&server, &lab, &["node", "list"]);
    let listed: BTreeMap<&str, u64> = rows
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| (row["mac"].as_str().expect("a MAC"), row["number"].as_u64().expect("n")))
        .collect();
    assert!(numbers.iter().all(|(mac, number)| listed.get(mac.to_string().as_str()) == Some(&u64::from(*number))), "{listed:?}");
}

const SMALL: &str = "[cluster]\nnode0 = \"10.54.1.0\"\nnodes = 32\nguests = \"10.54.250.0-10.54.250.31\"\n";

fn journal(lab: &Lab) -> PathBuf {
    lab.dir().join("run/state/journal")
}

/// The number that a machine is given when it passes.
fn passes(host: &Host) -> u32 {
    let output = ended(muster_in(host, &[]), 0, &["VERDICT='passed'"]);
    said(&output, "NUMBER").parse().unwrap_or_else(|_| panic!("no number: {output}"))
}

/// What a ROM or a system is given: the address.
fn leases(host: &Host, interface: &str, more: &str) -> String {
    let ask = format!("{} udhcpc -i {interface} -n -q -f -s /bin/true {more}", common::image().join("busybox").display());
    let output = host.script(60, &ask).must("udhcpc");
    let address = output.split("lease of ").nth(1).and_then(|rest| rest.split([' ', ',']).next());
    address.unwrap_or_else(|| panic!("no lease in {output}")).to_string()
}

#[test]
fn a_torn_tail_is_cut_and_damage_before_it_is_not_guessed_at() {
    let mut lab = Lab::new();
    let (server, one, two) = (lab.server(SERVER), lab.attach("one"), lab.attach("two"));
    let root = lab.dir().to_path_buf();
    let musterd = Musterd::configured(&server, &root, SMALL);
    assert_eq!((passes(&one), passes(&two)), (0, 1));
    musterd.kill();
    let whole = text(&journal(&lab));
    let torn = "the last line is incomplete";
    let tails = [
        ("2026-11-23T15:34:10Z n0 vac", torn),
        ("2026-11-23T15:34:10Z n0 vacant ~00000000\n", "the checksum of the last line is wrong"),
        ("\0\0\0\0\0\0\0\0", "that were never written"),
        ("\u{fffd}", torn),
    ];
    for (tail, why) in tails {
        let mut file = OpenOptions::new().append(true).open(journal(&lab)).expect("the journal is there");
        file.write_all(tail.as_bytes()).expect("tear its tail");
        let musterd = Musterd::configured(&server, &root, SMALL);
        assert!(musterd.seen_all(&["warn", why, "discarded the end"]).is_some(), "{tail:?}: {}", musterd.log());
        musterd.kill();
        assert_eq!(text(&journal(&lab)), whole, "nothing else is cut");
    }

    let (at, line) = whole.lines().enumerate().find(|(_, line)| line.contains(" n0 occupied")).expect("n0 is there");
    assert!(at + 1 < whole.lines().count(), "it is not the last line: {whole}");
    let refuses = |damaged: &str, words: &[&str]| {
        write(&journal(&lab), damaged.as_bytes());
        let run = lab.dir().join("run");
        let state = run.join("state");
        let arguments = ["-f", "-i", "eth0", "-r", path(&root), "--run-dir", path(&run), "--state-dir", path(&state)];
        let config = lab.dir().join("muster.toml");
        let outcome = server.run(20, env!("CARGO_BIN_EXE_musterd"), &[&arguments[..], &["-c", path(&config)]].concat());
        ended(outcome, 1, words);
        assert_eq!(text(&journal(&lab)), damaged, "it is left as it was found");
    };
    let (number, remedy) = (format!("line {} of ", at + 1), ["is damaged", "correct it, without its ~checksum, or remove it"]);
    refuses(&whole.replacen("n0 occupied", "n9 occupied", 1), &[&number, remedy[0], remedy[1]]);
    refuses(&whole.replacen(line, &line[..line.len() - 3], 1), &[&number, "is invalid", remedy[1]]);
    refuses(&whole.replacen(line, &line[..30], 1), &[&number, "is invalid", remedy[1]]);
    // The remedy, as it says: the checksum taken out, and another number written in by hand.
    let by_hand = line.replacen("n0 occupied", "n9 occupied", 1);
    let by_hand = by_hand.split(" ~").next().expect("what stands before the checksum");
    let others: Vec<&str> = whole.lines().filter(|line| !line.contains(" n0 ")).collect();
    write(&journal(&lab), format!("{}\n{by_hand}\n", others.join("\n")).as_bytes());
    let other_lines = text(&journal(&lab)).lines().filter(|line| line.contains(" n9 ")).count();
    assert_eq!(other_lines, 1, "the stage of n0 is not in a journal that was never written anew");
    let _musterd = Musterd::configured(&server, &root, SMALL);
    assert_eq!((passes(&one), passes(&two)), (9, 1));
}

#[test]
fn a_machine_with_two_cards_is_one_node_from_either() {
    let mut lab = Lab::new();
    let (server, node) = (lab.server(SERVER), lab.attach("node"));
    lab.plug(&node, "eth1");
    let _musterd = Musterd::configured(&server, lab.dir(), SMALL);
    let output = ended(muster_in(&node, &["--nic", "eth1"]), 0, &["ADDRESS='10.54.1.0'", "NUMBER='0'", "2 of 2 cards"]);
    let shown = muster(&server, &lab, &["node", "show", "0"]).must("muster node show");
    let [first, second] = ["eth0", "eth1"].map(|card| node.mac(card));
    assert!([&first, &second].iter().all(|mac| shown.contains(&format!("  mac       {mac}"))), "{shown}\n{output}");
    // Both at once: the address belongs to the card that booted.
    let guest = leases(&node, "eth1", "");
    assert!(guest.starts_with("10.54.250."), "{guest}");
    assert_eq!(leases(&node, "eth0", ""), "10.54.1.0");
    let both = muster(&server, &lab, &["node", "show", "0"]).must("muster node show");
    assert!(both.contains(&guest) && both.contains("10.54.1.0 for") && !both.contains("conflict"), "{both}");
    // Switched off, and booted from the other card some time later.
    node.ip("address flush dev eth0");
    node.ip("link set eth0 down");
    let moved = wait(90, || (leases(&node, "eth1", "-V PXEClient:Arch:00000:UNDI:002001") == "10.54.1.0").then_some(()));
    assert!(moved.is_some(), "the other card never gets the node's address");
    assert_eq!(server.neighbour("10.54.1.0").split_whitespace().nth(4), Some(second.as_str()));
}

#[test]
fn a_machine_is_replaced_and_its_number_goes_on() {
    let mut lab = Lab::new();
    let (server, old, new) = (lab.server(SERVER), lab.attach("old"), lab.attach("new"));
    let musterd = Musterd::configured(&server, lab.dir(), SMALL);
    let (gone, comes) = (old.mac("eth0"), new.mac("eth0"));
    assert_eq!(passes(&old), 0);
    let said = muster(&server, &lab, &["node", "replace", "0", "-y"]).must("muster node replace");
    assert!(said.contains("before: occupied") && said.contains("reserved"), "{said}");
    let shown = muster(&server, &lab, &["node", "show", "n0"]).must("muster node show");
    assert!(shown.contains("the next machine that passes") && shown.contains(&format!("retired   {gone}")), "{shown}");
    // It is no longer itself, and does not take its own place again.
    ended(muster_in(&old, &[]), 4, &["VERDICT='passed'", "NUMBER=''", "ADDRESS='10.54.250."]);
    assert!(musterd.seen_all(&[&gone, "was n0 until it was taken out", "muster guest enlist"]).is_some(), "{}", musterd.log());
    let guests = muster(&server, &lab, &["guest", "list"]).must("muster guest list");
    assert!(guests.contains(&gone) && guests.contains("was n0 until it was taken out"), "{guests}");
    assert_eq!(passes(&new), 0);
    assert!(musterd.seen_all(&[&comes, "passed muster, is n0 from now on"]).is_some());
    let row = json(&server, &lab, &["node", "list"]);
    assert_eq!((row[0]["number"].as_u64(), row[0]["mac"].as_str(), row[1].is_null()), (Some(0), Some(comes.as_str()), true), "{row}");
    let shown = muster(&server, &lab, &["node", "show", "n0"]).must("muster node show");
    assert!(shown.contains(&format!("mac       {comes}")) && shown.contains(&format!("retired   {gone}")), "{shown}");
    // What was done since cannot be taken back.
    ended(muster(&server, &lab, &["undo", "-y"]), 1, &["n0"]);
    muster(&server, &lab, &["node", "replace", "0", "--guest", &gone, "-y"]).must("replace it by the old one");
    assert_eq!(passes(&old), 0, "taken back by name");
    let undone = muster(&server, &lab, &["undo", "-y"]).must("muster undo");
    assert!(undone.contains(&comes), "{undone}");
    musterd.kill();
    let _musterd = Musterd::configured(&server, lab.dir(), SMALL);
    assert_eq!(passes(&new), 0, "and back again, over a restart");
    ended(muster_in(&old, &[]), 4, &["NUMBER=''"]);
}

#[test]
fn stages_and_guests_live_on_over_a_restart() {
    let mut lab = Lab::new();
    let (server, passed, rom, guest) = (lab.server(SERVER), lab.attach("passed"), lab.attach("rom"), lab.attach("guest"));
    let config = format!("{SMALL}[[node]]\nnumber = 7\nmacs = [\"{}\"]\n", rom.mac("eth0"));
    let mut musterd = Musterd::configured(&server, lab.dir(), &config);
    assert_eq!(passes(&passed), 0);
    assert_eq!(leases(&rom, "eth0", "-V PXEClient:Arch:00000:UNDI:002001"), "10.54.1.7");
    let failing = lab.dir().join("failing");
    fs::create_dir(&failing).expect("a folder");
    write(&failing.join("20-memory"), b"#!/bin/sh\nexit 1\n");
    fs::set_permissions(failing.join("20-memory"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("its mode");
    let mut command = guest.command("unshare");
    command.args(["--uts", MUSTER_IN, "-i", "eth0", "--nic", "eth0", "-d", path(&failing)]);
    let output = ended(guest.finish(60, command), 3, &["VERDICT='failed 20-memory'"]);
    let address = said(&output, "ADDRESS").to_string();
    let shown = |number: &str, words: &[&str]| {
        let shown = muster(&server, &lab, &["node", "show", number]).must("muster node show");
        assert!(words.iter().all(|word| shown.contains(word)), "{words:?} are not all in {shown}");
    };
    shown("0", &["occupied", "source    passed", "up"]);
    shown("7", &["leased"]);
    for round in 0..2 {
        if round == 0 {
            drop(musterd);
        } else {
            musterd.signal(Signal::SIGUSR1);
            let written = wait(10, || text(&journal(&lab)).contains("n7 ").then_some(()));
            assert!(written.is_some(), "{}", text(&journal(&lab)));
            musterd.kill();
        }
        musterd = Musterd::configured(&server, lab.dir(), &config);
        shown("0", &["10.54.1.0", "occupied", "source    passed", "before the restart up since 2"]);
        shown("7", &["10.54.1.7", "before the restart leased since 2"]);
        let guests = json(&server, &lab, &["guest", "list"]);
        let row = &guests[0];
        assert_eq!((row["id"].as_str(), row["address"].as_str()), (Some(guest.mac("eth0").as_str()), Some(address.as_str())), "{guests}");
        assert!(row["verdict"].as_str().is_some_and(|verdict| verdict.contains("20-memory")), "{guests}");
    }
    assert_eq!(leases(&guest, "eth0", ""), address, "and the guest gets it again");
    assert_eq!(leases(&passed, "eth0", ""), "10.54.1.0");
    shown("0", &["up"]);
}

/// Machines that flood the head with passed tests take numbers no faster than it gives them; a real one waits for its own in the same run; and the
/// numbers of those that never came up are taken back in one command.
#[test]
fn new_numbers_have_a_rate_and_those_of_nobody_are_taken_back() {
    let mut lab = Lab::new();
    let (server, rack, one, two) = (lab.server(SERVER), lab.attach("rack"), lab.attach("one"), lab.attach("two"));
    let config = "[cluster]\nnode0 = \"10.54.16.0\"\nnodes = 64\nguests = \"10.54.224.0-10.54.227.255\"\nnew-numbers = 5\n[dhcp]\nguest-lease = \"1m\"\n";
    let musterd = Musterd::configured(&server, lab.dir(), config);
    assert_eq!(passes(&one), 0);
    let begin = Instant::now();
    let strangers = Strangers::on(&rack, 0);
    strangers.crowd(20);
    let forged = wait(60, || Some(judge(&strangers.told())).filter(|numbers| !numbers.is_empty())).expect("one of them gets a number");
    drop(strangers);
    let most = 2 + begin.elapsed().as_secs() / 12;
    assert!((forged.len() as u64) < most, "{forged:?} in {:?}", begin.elapsed());
    let words = ["warn", "is a guest until numbers are available", "cluster.new-numbers = 5 a minute"];
    assert!(musterd.seen_all(&words).is_some(), "{}", musterd.log());

    let output = ended(muster_in(&two, &[]), 0, &["VERDICT='passed'", "waits for a number", "ADDRESS='10.54.16."]);
    assert_eq!(output.matches("ADDRESS=").count(), 1, "it says who it is when it is somebody: {output}");
    let own: u32 = said(&output, "NUMBER").parse().expect("a number");
    let [first, second] = [&one, &two].map(|host| host.mac("eth0"));
    let status = muster(&server, &lab, &["status"]).must("muster status");
    assert!(status.contains("assigned, but not up since: muster node list @never"), "{status}");
    // Who was given one may learn it as late as its lease ends.
    let rows = || json(&server, &lab, &["node", "list", "@never"]);
    let rows = wait(120, || Some(rows()).filter(|rows| rows.as_array().is_some_and(|rows| rows.len() >= forged.len())));
    let rows = rows.expect("those of nobody are listed");
    let never: Vec<&str> = rows.as_array().expect("a list").iter().filter_map(|row| row["mac"].as_str()).collect();
    assert!(!never.is_empty() && never.iter().all(|mac| mac.starts_with("02:57:")), "{never:?}");
    let asked = ended(muster(&server, &lab, &["node", "out", "@never"]), 4, &["use -y"]);
    assert!(never.iter().all(|mac| asked.contains(mac)) && !asked.contains(&first), "{asked}");
    muster(&server, &lab, &["node", "out", "@never", "-y"]).must("muster node out @never");
    let rows = json(&server, &lab, &["node", "list"]);
    let left: Vec<(u64, &str)> =
        rows.as_array().expect("a list").iter().filter_map(|row| Some((row["number"].as_u64()?, row["mac"].as_str()?))).collect();
    assert_eq!(left, [(0, first.as_str()), (own.into(), second.as_str())]);
    ended(muster(&server, &lab, &["node", "out", "@never"]), 1, &["@never selects no node now"]);
    musterd.kill();
    let _musterd = Musterd::configured(&server, lab.dir(), config);
    assert!(json(&server, &lab, &["node", "list", "@never"]).as_array().is_some_and(Vec::is_empty), "that is known for good");
}
