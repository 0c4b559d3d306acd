//! Known machines boot beside a hostile one, in virtual time and on real sockets. `MUSTER_HOSTILE=1` plays all kinds at all rates, as `make soak` does.

mod common;

use std::fmt::Write;
use std::process::Stdio;

use common::musterd::Musterd;
use common::{Lab, stop, write};
use muster::fleet::hostile::Attack;
use muster::sim::flicker::KINDS;
use muster::sim::hostile::Siege;
use nix::sys::signal::Signal;

const SERVER: &str = "10.54.0.1/16";

/// Kinds of frames, and how many a second.
type Assault = (&'static [Attack], u32);

/// What needs no speed to do its harm.
const FEW: [Assault; 2] = [(&[Attack::RrqInvented], 20), (&[Attack::RrqNodes], 500)];
/// As fast as one machine can.
const MANY: [Assault; 8] = [
    (&[Attack::RrqInvented], 25_000),
    (&[Attack::RrqNodes], 25_000),
    (&[Attack::Passed], 5_000),
    (&[Attack::Arp], 5_000),
    (&[Attack::Release], 5_000),
    (&[Attack::Offers], 5_000),
    (&[Attack::Mutants], 25_000),
    (Attack::ALL, 25_000),
];

fn all() -> bool {
    std::env::var_os("MUSTER_HOSTILE").is_some()
}

fn assaults() -> Vec<Assault> {
    FEW.into_iter().chain(MANY.into_iter().filter(|_| all())).collect()
}

#[test]
fn everybody_comes_up_beside_a_hostile_machine_in_virtual_time() {
    let kinds = KINDS.into_iter().filter(|kind| all() || ["rom", "edk2 with windows of 16", "mix"].contains(&kind.name));
    let mut failed = Vec::new();
    for (seed, kind) in kinds.enumerate() {
        for (attacks, rate) in assaults() {
            let siege = Siege { attacks: attacks.to_vec(), rate, kind, size: 200_000, seed: seed as u64 };
            let outcome = siege.run();
            println!("{}: {} up, the last one boots for {:.3} s, {} hostile frames", siege.title(), outcome.up, outcome.boot, outcome.sent);
            if !outcome.faults.is_empty() {
                failed.push(format!("{}:\n  {}", siege.title(), outcome.faults.join("\n  ")));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// So many machines that the head knows, which boot beside each assault.
fn besieged(nodes: u32, profiles: &[&str], assaults: &[Assault]) {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let (rack, lair) = (lab.attach("rack"), lab.attach("lair"));
    let content: Vec<u8> = (0..500_000u32).map(|n| (n >> 4) as u8).collect();
    for name in ["image", "undionly.kpxe", "snponly.efi", "snponly-arm64.efi", "bootcode.bin"] {
        write(&lab.dir().join(name), &content);
    }
    let mut config = "[cluster]\nnode0 = \"10.54.1.0\"\n".to_string();
    for number in 0..nodes {
        let [a, b, c, d] = number.to_be_bytes();
        write!(config, "[[node]]\nnumber = {number}\nmacs = [\"02:4d:{a:02x}:{b:02x}:{c:02x}:{d:02x}\"]\n").expect("text");
    }
    let (count, mut failed) = (nodes.to_string(), Vec::new());
    for (attacks, rate) in assaults {
        let list = attacks.iter().map(|attack| attack.name()).collect::<Vec<_>>().join(",");
        for profile in profiles {
            let musterd = Musterd::configured(&server, lab.dir(), &config);
            let mut command = lair.command(env!("CARGO_BIN_EXE_muster-storm"));
            command.args(["-i", "eth0", "-n", &count, "-f", "image", "--node0", "10.54.1.0", "--timeout", "240"]);
            let mut hostile =
                command.args(["--hostile", &format!("{list}@{rate}")]).stdout(Stdio::null()).spawn().expect("start the hostile machine");
            // It asks for the head first, and has been at it for two seconds then.
            std::thread::sleep(std::time::Duration::from_secs(3));
            let arguments = ["-i", "eth0", "-n", &count, "-f", "image", "-p", profile, "--spread", "0.5", "--timeout", "150", "--json"];
            let output = rack.run(200, env!("CARGO_BIN_EXE_muster-storm"), &arguments).output;
            assert_eq!(hostile.try_wait().expect("wait for a child of ours"), None, "the hostile machine is at it to the end");
            stop(&mut hostile, Signal::SIGTERM);
            drop(musterd);
            let json = output.find('{').map_or("", |from| &output[from..]);
            let storm: serde_json::Value = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {output}"));
            let title = format!("{nodes} of {profile} beside {list} at {rate} a second");
            println!("{title}: {} up, last {}, longest gap {}", storm["up"], storm["up_at"]["last"], storm["longest_gap"]);
            if storm["up"].as_u64() != Some(nodes.into()) {
                failed.push(format!("{title}: {} up, {} lost: {}", storm["up"], storm["lost"], storm["lost_by"]));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Requests that nobody acknowledges take nothing from those who boot.
#[test]
fn everybody_comes_up_beside_requests_that_nobody_acknowledges() {
    besieged(50, &["rom"], &FEW);
}

/// `make soak` plays it; without it the mix alone, at a rate that leaves time for other tests.
#[test]
fn everybody_comes_up_beside_all_that_is_hostile() {
    match all() {
        true => {
            besieged(50, &["rom", "edk2", "mix"], &MANY);
            besieged(1000, &["rom"], &[(Attack::ALL, 25_000)]);
        }
        false => besieged(50, &["mix"], &[(Attack::ALL, 700)]),
    }
}
