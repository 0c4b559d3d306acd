//! A restart is no event: a daemon that ends in mid-load, however it ends, and starts again loses no machine, and no file is begun anew. In virtual
//! time over all firmware, and on real sockets.
//!
//! `MUSTER_RESTARTS=1000 cargo test --release --test restart drawn` plays so many, from seed `MUSTER_RESTART` on.

mod common;

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use common::musterd::Musterd;
use common::{Lab, wait, write};
use nix::sys::signal::Signal;

use muster::base::machine::Command;
use muster::base::rng::Rng;
use muster::engine::server::Server;
use muster::fleet::Firmware;
use muster::fleet::life::{Life, Stages, StormPlan};
use muster::sim::disk::Habits;
use muster::sim::net::{Odds, Wire};
use muster::sim::swarm::{Storm, Weather, names, play, storm};

const END: Duration = Duration::from_secs(600);
const FIRMWARE: Stages = Stages { ipxe: false, os: false };
const CHAIN: Stages = Stages { ipxe: true, os: true };

/// What boots: a name, the firmware, its stages, and the window that it asks for.
const KINDS: [(&str, Firmware, Stages, Option<u16>); 9] = [
    ("rom", Firmware::Rom, FIRMWARE, None),
    ("edk2", Firmware::Edk2, FIRMWARE, None),
    ("edk2, 16 blocks", Firmware::Edk2, FIRMWARE, Some(16)),
    ("ipxe", Firmware::Ipxe, FIRMWARE, None),
    ("rom, ipxe, os", Firmware::Rom, CHAIN, None),
    ("grub", Firmware::Grub, FIRMWARE, None),
    ("pxelinux", Firmware::Pxelinux, FIRMWARE, None),
    ("uboot", Firmware::UBoot, FIRMWARE, None),
    ("pi", Firmware::RaspberryPi, FIRMWARE, None),
];

/// A storm in which the daemon is restarted.
#[derive(Clone, Debug)]
struct Restart {
    seed: u64,
    kind: usize,
    count: usize,
    /// Ended by SIGTERM, not by SIGKILL.
    asked: bool,
    down: Duration,
    /// How often.
    times: u32,
    /// Odds that a frame is lost, in parts per million.
    loss: u32,
    /// Odds that a page of a file is cold.
    cold: u32,
    strangers: u32,
}

impl Restart {
    fn drawn(seed: u64) -> Restart {
        let mut rng = Rng::new(seed);
        let kind = rng.below(KINDS.len() as u64) as usize;
        Restart {
            seed,
            kind,
            count: 40,
            asked: rng.chance(500_000),
            down: Duration::from_millis(rng.below(2_000)),
            times: 1 + rng.below(2) as u32,
            // A ROM and a Pi bear no duplicate, which a loss may lead to.
            loss: if matches!(KINDS[kind].1, Firmware::Rom | Firmware::RaspberryPi) { 0 } else { [0, 1_000][rng.below(2) as usize] },
            cold: [0, 100_000][rng.below(2) as usize],
            strangers: [u32::MAX, 3][rng.below(2) as usize],
        }
    }

    /// Of the kernel; a machine loads it in four milliseconds a kilobyte when all do.
    fn bytes(&self) -> u64 {
        if self.count > 100 { 200_000 } else { 600_000 }
    }

    fn storm(&self) -> Storm {
        let (_, firmware, stages, windowsize) = KINDS[self.kind];
        let mut life = Life::of(firmware, 1, stages, 2);
        life.asks.windowsize = windowsize;
        let spread = Duration::from_secs(1);
        let plan = StormPlan { count: self.count, lives: vec![life], names: names(), spread, seed: self.seed, ..StormPlan::default() };
        let odds = Odds { loss: self.loss, ..Odds::default() };
        let wire = Wire { rate: self.count as u64 * 2_000_000, queue: 256, odds, ..Wire::GIGABIT };
        let habits = Habits { failure: 0, cold: self.cold, latency: Duration::from_millis(2) };
        storm(self.seed, &plan, &Weather { wire, habits, strangers: self.strangers }, self.bytes())
    }

    /// What is wrong with it.
    fn faults(&self) -> Vec<String> {
        let (mut world, mut rng, mut faults) = (self.storm(), Rng::new(!self.seed), Vec::new());
        for time in 0..self.times {
            let loading = |world: &Storm| world.server().transfers() >= self.count / 2;
            world.run(world.now().at + END, |world| loading(world) || world.clients().done());
            if !loading(&world) {
                assert!(time > 0, "{self:?}: nobody loads");
                break;
            }
            world.pass(Duration::from_millis(rng.below(self.bytes() / 800)));
            let running = world.server().transfers();
            self.restart(&mut world, rng.u64());
            let kept = world.rows();
            world.pass(Duration::ZERO);
            if running == 0 || kept == 0 || world.server().transfers() < kept {
                faults.push(format!("{running} were running, {kept} were kept, {} were taken up", world.server().transfers()));
            }
        }
        let (outcome, world) = play(world);
        faults.extend(outcome.faults);
        let whole = (0..).map_while(|place| world.clients().machine(place)).flat_map(|machine| machine.files);
        let (bytes, least) = (world.clients().summary().bytes, whole.map(|(_, bytes, _)| bytes).sum::<u64>());
        if bytes != least {
            faults.push(format!("{bytes} bytes were received of files that have {least}: some were begun anew"));
        }
        // Whose last ACK was lost is waited for.
        let (rows, running) = (world.rows(), world.server().transfers());
        if rows != running || world.disk().held() as usize > running {
            faults.push(format!("{rows} rows and {} files are held for {running} transfers", world.disk().held()));
        }
        faults
    }

    fn restart(&self, world: &mut Storm, seed: u64) {
        if self.asked {
            world.signal(Command::Leave);
            assert!(world.run(world.now().at + END, Storm::has_left), "{self:?}: it does not end");
        }
        let found = world.crash();
        world.outage(self.down);
        let server = Server::restored(world.server().config(), seed, world.now(), found.iter().map(String::as_str));
        world.restart(server.expect("what a daemon leaves is accepted"));
    }
}

fn hold(restarts: impl Iterator<Item = Restart>) {
    let mut failed = Vec::new();
    for restart in restarts {
        let faults = restart.faults();
        if !faults.is_empty() {
            failed.push(format!("{} in {restart:?}:\n{}", KINDS[restart.kind].0, faults.join("\n")));
        }
    }
    assert!(failed.is_empty(), "{} failed\n{}", failed.len(), failed.join("\n\n"));
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// As a crowd of one kind, on a link without faults.
fn crowd(kind: usize, count: usize, asked: bool, down: u64) -> Restart {
    let down = Duration::from_millis(down);
    Restart { seed: kind as u64, kind, count, asked, down, times: 1, loss: 0, cold: 0, strangers: u32::MAX }
}

#[test]
fn every_firmware_goes_on_where_it_was() {
    hold((0..KINDS.len()).flat_map(|kind| [crowd(kind, 40, true, 300), crowd(kind, 40, false, 2_000)]));
}

/// The machine of the head starts anew, in no time, and what was kept with it: who was loading is lost. So something was tried.
#[test]
fn without_what_was_kept_they_are_lost() {
    let restart = crowd(0, 40, false, 300);
    let mut world = restart.storm();
    assert!(world.run(world.now().at + END, |world| world.server().transfers() >= 40), "nobody loads");
    restart.restart(&mut world, 1);
    world.lose_rows();
    let (_, world) = play(world);
    assert!(world.clients().summary().lost >= 35, "{:?}", world.clients().summary().lost);
}

#[test]
fn three_hundred_go_on_where_they_were() {
    let kinds = ["rom", "edk2", "ipxe", "grub"].map(|name| KINDS.iter().position(|kind| kind.0 == name).expect("a kind"));
    hold(kinds.into_iter().map(|kind| crowd(kind, 300, kind % 2 == 0, 1_000)));
}

#[test]
fn restarts_drawn_from_seeds() {
    let first = number("MUSTER_RESTART").unwrap_or(0);
    let count = number("MUSTER_RESTARTS").unwrap_or(20);
    hold((first..first + count).map(Restart::drawn));
}

/// A folder on a tmpfs, as `/run` is; removed with this.
struct InMemory(PathBuf);

impl InMemory {
    fn new(name: &str) -> InMemory {
        InMemory(PathBuf::from(format!("/dev/shm/muster-{name}-{}", std::process::id())))
    }
}

impl Drop for InMemory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const MACHINES: u64 = 300;
/// All of it together takes fifteen seconds at the rate that is told.
const IMAGE: u64 = 200_001;
const RATE: &str = "32M";

/// A cluster that knows the machines of `muster-storm`.
fn cluster() -> String {
    let mut config = format!("[[network]]\ninterface = \"eth0\"\nlink-rate = \"{RATE}\"\n[cluster]\nnode0 = \"10.54.1.0\"\n");
    for number in 0..MACHINES as u32 {
        let [a, b, c, d] = number.to_be_bytes();
        write!(config, "[[node]]\nnumber = {number}\nmacs = [\"02:4d:{a:02x}:{b:02x}:{c:02x}:{d:02x}\"]\n").expect("text");
    }
    config
}

/// Three hundred machines load on real sockets when the daemon is ended, and started again `down` later: all come up, and receive each byte once.
fn on_real_sockets(profile: &str, signal: Signal, down: Duration) {
    let mut lab = Lab::new();
    let (server, rack) = (lab.server("10.54.0.1/16"), lab.attach("rack"));
    let run = InMemory::new(profile);
    let content: Vec<u8> = (0..IMAGE).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    for name in ["image", "undionly.kpxe", "snponly.efi", "snponly-arm64.efi"] {
        write(&lab.dir().join(name), if name == "image" { &content } else { &content[..1000] });
    }
    let start = || Musterd::in_memory(&server, lab.dir(), &cluster(), &run.0);
    let mut musterd = start();
    let (count, root) = (MACHINES.to_string(), lab.dir().display().to_string());
    let arguments = ["-i", "eth0", "--json", "-n", &count, "-p", profile, "-f", "image", "--verify-root", &root, "--timeout", "60"];
    let storm = std::thread::scope(|scope| {
        let storm = scope.spawn(|| rack.run(130, env!("CARGO_BIN_EXE_muster-storm"), &arguments));
        let socket = musterd.run_dir().join("control.sock");
        let status =
            || server.run(20, env!("CARGO_BIN_EXE_muster"), &["--socket", socket.to_str().expect("a path of ours"), "status"]).output;
        let running = |text: &str| text.split(" transfers").next()?.rsplit(' ').next()?.parse::<u64>().ok();
        let loading = || running(&status()).filter(|running| *running > MACHINES - 20);
        let found = wait(30, loading);
        assert!(found.is_some(), "{profile}: too few load: {}", status());
        // Loaders are loaded first, and are short.
        std::thread::sleep(Duration::from_secs(1));
        assert!(loading().is_some(), "{profile}: too few load: {}", status());
        musterd.signal(signal);
        assert!(wait(10, || musterd.ended().then_some(())).is_some(), "{profile}: it does not end");
        assert!(!storm.is_finished(), "{profile}: the restart came too late");
        std::thread::sleep(down);
        musterd = start();
        storm.join().expect("the storm's thread")
    });
    let (_, told) = musterd.says("that were running are taken up").expect("a line on what was taken up");
    let numbers: Vec<u64> = told.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    println!("{profile}, {signal}: {told}");
    assert!(numbers.ends_with(&[numbers[numbers.len() - 2]; 2]) && *numbers.last().unwrap_or(&0) > MACHINES - 20, "{told}");
    let json: serde_json::Value = serde_json::from_str(storm.output.find('{').map_or("", |from| &storm.output[from..])).expect("JSON");
    assert!(
        storm.ok(),
        "{profile}: {:#}\n{}",
        json,
        musterd.log().lines().filter(|line| !line.contains(" debug ")).collect::<Vec<_>>().join("\n")
    );
    assert_eq!(json["up"].as_u64(), Some(MACHINES), "{profile}: {:#}", json["lost_by"]);
    let files = json["files"].as_array().expect("files").iter();
    let whole: u64 = files.map(|file| file["len"].as_u64().unwrap_or(0) * file["loads"].as_u64().unwrap_or(0)).sum();
    assert_eq!(json["bytes"].as_u64(), Some(whole), "{profile}: a file was begun anew");
}

#[test]
fn roms_go_on_after_sigkill() {
    on_real_sockets("rom", Signal::SIGKILL, Duration::from_millis(1_900));
}

#[test]
fn edk2_goes_on_after_sigterm() {
    on_real_sockets("edk2", Signal::SIGTERM, Duration::from_millis(300));
}

#[test]
fn ipxe_goes_on_after_sigkill() {
    on_real_sockets("ipxe", Signal::SIGKILL, Duration::from_millis(1_000));
}

#[test]
fn grub_goes_on_after_sigterm() {
    on_real_sockets("grub", Signal::SIGTERM, Duration::from_millis(1_900));
}
