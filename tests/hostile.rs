//! Known machines boot beside a hostile one, in virtual time and on real sockets. `MUSTER_HOSTILE=1` plays all kinds at all rates, as
//! `make soak` does.

mod common;

use std::fmt::Write;
use std::process::Stdio;
use std::time::Duration;

use common::musterd::Musterd;
use common::{Host, Lab, stop, write};
use muster::fleet::hostile::{Attack, NAMES};
use muster::sim::flicker::KINDS;
use muster::sim::hostile::{HostileOutcome, Siege, lead};
use nix::sys::signal::Signal;

const SERVER: &str = "10.54.0.1/16";

/// Kinds of frames, and how many a second.
type Assault = (&'static [Attack], u32);

/// What needs no speed to do its harm.
const FEW: [Assault; 7] = [
    (&[Attack::RrqInvented], 20),
    (&[Attack::RrqNodes], 500),
    (&[Attack::RrqFiles], 20),
    (&[Attack::RrqLate], 60),
    (&[Attack::RrqSame], 60),
    (&[Attack::GuestLate], 60),
    (&[Attack::GuestSame], 60),
];
/// As fast as one machine can.
const MANY: [Assault; 8] = [
    (&[Attack::RrqInvented], 25_000),
    (&[Attack::RrqNodes], 25_000),
    (&[Attack::Passed], 5_000),
    (&[Attack::Arp], 5_000),
    (&[Attack::Release], 5_000),
    (&[Attack::Offers], 5_000),
    (&[Attack::Mutants], 25_000),
    (WITHOUT_LEASES, 25_000),
];

fn all() -> bool {
    std::env::var_os("MUSTER_HOSTILE").is_some()
}

/// All that needs no lease: who has one has a share of the link like everybody else, and takes it.
const WITHOUT_LEASES: &[Attack] = &[
    Attack::RrqInvented,
    Attack::RrqNodes,
    Attack::RrqFiles,
    Attack::RrqLate,
    Attack::RrqSame,
    Attack::Passed,
    Attack::Arp,
    Attack::Release,
    Attack::Offers,
    Attack::Mutants,
];

/// Likewise, slower: what is not in it needs more frames than a quick test plays.
const SLOWLY: [Assault; 2] = [(&[Attack::Mutants], 2_500), (WITHOUT_LEASES, 2_500)];

fn assaults() -> Vec<Assault> {
    FEW.into_iter().chain(if all() { MANY.to_vec() } else { SLOWLY.to_vec() }).collect()
}

#[test]
fn everybody_comes_up_beside_a_hostile_machine_in_virtual_time() {
    let kinds = KINDS.into_iter().filter(|kind| all() || ["rom", "edk2 with windows of 16", "mix"].contains(&kind.name));
    let mut failed = Vec::new();
    for (seed, kind) in kinds.enumerate() {
        for (attacks, rate) in assaults() {
            let siege = Siege { attacks: attacks.to_vec(), rate, kind, size: 200_000, seed: seed as u64 };
            let outcome = siege.run();
            let (title, HostileOutcome { up, boot, quiet, sent, .. }) = (siege.title(), outcome.clone());
            println!("{title}: {up} up, the last one boots for {boot:.3} s, in peace for {quiet:.3} s, {sent} hostile frames");
            if !outcome.faults.is_empty() {
                failed.push(format!("{}:\n  {}", siege.title(), outcome.faults.join("\n  ")));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// A head that knows so many machines, a rack of them, and a place for a hostile one.
struct Place {
    lab: Lab,
    server: Host,
    rack: Host,
    lair: Host,
    nodes: u32,
}

impl Place {
    fn new(nodes: u32) -> Place {
        let mut lab = Lab::new();
        let server = lab.server(SERVER);
        let (rack, lair) = (lab.attach("rack"), lab.attach("lair"));
        let content: Vec<u8> = (0..500_000u32).map(|n| (n >> 4) as u8).collect();
        for name in ["image", "undionly.kpxe", "snponly.efi", "snponly-arm64.efi", "bootcode.bin"] {
            write(&lab.dir().join(name), &content);
        }
        (0..NAMES).for_each(|n| write(&lab.dir().join(format!("image-{n}")), &content[..5_000]));
        Place { lab, server, rack, lair, nodes }
    }

    fn musterd(&self) -> Musterd {
        let mut config = "[cluster]\nnode0 = \"10.54.1.0\"\n".to_string();
        for number in 0..self.nodes {
            let [a, b, c, d] = number.to_be_bytes();
            write!(config, "[[node]]\nnumber = {number}\nmacs = [\"02:4d:{a:02x}:{b:02x}:{c:02x}:{d:02x}\"]\n").expect("text");
        }
        Musterd::configured(&self.server, self.lab.dir(), &config)
    }

    /// EDK2 asks for windows of sixteen blocks.
    fn storm(&self, profile: &str) -> serde_json::Value {
        let count = self.nodes.to_string();
        let arguments = ["-i", "eth0", "-n", &count, "-f", "image", "-p", profile, "--spread", "0.5", "--timeout", "150", "--json"];
        let windows: &[&str] = if profile == "edk2" { &["--windowsize", "16"] } else { &[] };
        let output = self.rack.run(200, env!("CARGO_BIN_EXE_muster-storm"), &[&arguments[..], windows].concat()).output;
        let json = output.find('{').map_or("", |from| &output[from..]);
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {output}"))
    }

    /// A storm beside an assault.
    fn besieged(&self, profile: &str, list: &str, rate: u32) -> serde_json::Value {
        let (_musterd, count) = (self.musterd(), self.nodes.to_string());
        let mut command = self.lair.command(env!("CARGO_BIN_EXE_muster-storm"));
        command.args(["-i", "eth0", "-n", &count, "-f", "image", "--node0", "10.54.1.0", "--timeout", "240"]);
        let mut hostile =
            command.args(["--hostile", &format!("{list}@{rate}")]).stdout(Stdio::null()).spawn().expect("start the hostile machine");
        // It asks for the head first.
        std::thread::sleep(Duration::from_secs(1) + lead(rate));
        let storm = self.storm(profile);
        assert_eq!(hostile.try_wait().expect("wait for a child of ours"), None, "the hostile machine is at it to the end");
        stop(&mut hostile, Signal::SIGTERM);
        storm
    }

    /// Everybody comes up beside each assault; `timely`: and needs little more time than in peace. What that costs to a tenth is
    /// measured in virtual time and where this machine does nothing else (`make soak`). An assault that keeps the processors busy takes
    /// time from all.
    fn hold(&self, profiles: &[&str], assaults: &[Assault], timely: bool) {
        let mut failed = Vec::new();
        let last = |storm: &serde_json::Value| storm["up_at"]["last"].as_f64().expect("seconds");
        for profile in profiles {
            let peace = {
                let _musterd = self.musterd();
                last(&self.storm(profile))
            };
            for (attacks, rate) in assaults {
                let list = attacks.iter().map(|attack| attack.name()).collect::<Vec<_>>().join(",");
                let storm = self.besieged(profile, &list, *rate);
                let title = format!("{} of {profile} beside {list} at {rate} a second", self.nodes);
                let told = format!("{title}: {} up, the last after {:.3} s, in peace after {peace:.3} s", storm["up"], last(&storm));
                println!("{told}");
                let most = if all() { peace * 1.1 + 1.0 } else { peace * 2.0 + 3.0 };
                let slow = timely && last(&storm) > most;
                if storm["up"].as_u64() != Some(self.nodes.into()) || slow {
                    failed.push(format!("{told}; lost: {}", storm["lost_by"]));
                }
            }
        }
        assert!(failed.is_empty(), "{}", failed.join("\n"));
    }
}

/// Requests that nobody acknowledges, or too late, take nothing from those who boot.
#[test]
fn everybody_comes_up_beside_requests_that_nobody_acknowledges() {
    let profiles: &[&str] = if all() { &["rom", "edk2", "mix"] } else { &["rom"] };
    Place::new(50).hold(profiles, if all() { &FEW } else { &FEW[..4] }, true);
}

/// `make soak` plays it; without it the mix alone, at a rate that leaves time for other tests.
#[test]
fn everybody_comes_up_beside_all_that_is_hostile() {
    match all() {
        true => {
            Place::new(50).hold(&["rom", "edk2", "mix"], &MANY, false);
            Place::new(1000).hold(&["rom"], &[(Attack::ALL, 25_000)], false);
        }
        false => Place::new(50).hold(&["mix"], &[(Attack::ALL, 700)], false),
    }
}
