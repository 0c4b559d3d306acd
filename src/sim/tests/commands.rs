//! A head that reads its config again and writes its state down while machines boot: by the code that `musterd` runs, in virtual time.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;

use super::super::config::{HEAD, HEAD_MAC, INITRD, KERNEL, PROGRAMS};
use super::super::disk::Habits;
use super::super::net::Wire;
use super::super::world::{Setup, World};
use crate::base::facts::LinkFacts;
use crate::base::machine::{Command, ConnId, Reload};
use crate::base::time::{Instant, Now};
use crate::config::{Config, ConfigFile, Flags, MachineFacts, Unresolved};
use crate::engine::server::Server;
use crate::fleet::life::{Life, Stages, StormPlan};
use crate::fleet::{Firmware, Fleet, mac};
use crate::roll::client::Identity;
use crate::roll::stage::Stage;

const PATH: &str = "/etc/muster/muster.toml";
const STATE: &str = "/run/muster/state.json";
const NODES: u32 = 40;

fn text(node0: &str, more: &str) -> String {
    let nodes: String = (0..NODES).map(|n| format!("[[node]]\nnumber = {n}\nmacs = [\"{}\"]\n", mac(n + 1))).collect();
    format!("[cluster]\nnode0 = \"{node0}\"\nnodes = 200\n[[network]]\ninterface = \"sim0\"\n{nodes}{more}")
}

fn file() -> ConfigFile {
    ConfigFile { path: PATH.into(), required: true, flags: Flags::default() }
}

fn config(text: &str) -> Config {
    let link = LinkFacts { addresses: vec![(HEAD, 16)], ..LinkFacts::ethernet("sim0", 2, HEAD_MAC) };
    let mut facts = MachineFacts::new(vec![link]);
    let files: Vec<&str> = PROGRAMS.iter().map(|(_, name)| *name).chain([KERNEL, INITRD]).collect();
    loop {
        match file().resolve(Some(text), &facts) {
            Ok(resolved) => return resolved.config,
            Err(Unresolved::Wrong(why) | Unresolved::Await(_, why)) => panic!("{why}"),
            Err(Unresolved::Recall(_)) => unreachable!("only at start"),
            Err(Unresolved::Ask(root, names)) => {
                let found: Vec<bool> = names.iter().map(|name| files.contains(&name.as_str())).collect();
                facts.learn(&root, &names, &found);
            }
        }
    }
}

type Storm = World<Server, Fleet>;

/// Machines whose power comes within four seconds, and an operator who is connected.
fn storm(seed: u64, habits: Habits) -> (Storm, ConnId) {
    let text = text("10.54.1.0", "");
    let stages = Stages { ipxe: true, os: true };
    let lives = [Firmware::Rom, Firmware::Edk2].map(|firmware| Life::of(firmware, 1, stages, 2)).to_vec();
    let names = vec![KERNEL.into(), INITRD.into()];
    let plan = StormPlan { count: NODES as usize, first: 1, lives, names, spread: Duration::from_secs(4), seed, ..StormPlan::default() };
    let setup = Setup { config: config(&text), seed, wire: Wire::GIGABIT, habits };
    let server = Server::new(&setup.config, seed, Now::default()).with_file(file());
    let mut world = World::new(&setup, server, Fleet::new(plan, Instant::ZERO).unwrap());
    for name in PROGRAMS.iter().map(|(_, name)| *name).chain([KERNEL, INITRD]) {
        world.disk_mut().put(name, 600_000);
    }
    world.clerk_mut().put(PATH, text);
    let operators = world.server().endpoints().operators();
    let conn = world.connect(operators).unwrap();
    (world, conn)
}

/// An operator's line, and the answer.
fn ask(world: &mut Storm, conn: ConnId, line: &str) -> (String, String) {
    world.write(conn, format!("{line}\n").as_bytes());
    let mut got = Vec::new();
    for _ in 0..1_200 {
        world.pass(Duration::from_millis(10));
        got.extend(world.read(conn));
        if got.ends_with(b"\n") {
            break;
        }
    }
    let reply: Value = serde_json::from_slice(&got).unwrap_or_else(|error| panic!("{line}: {error}: {}", String::from_utf8_lossy(&got)));
    (reply["is"].as_str().unwrap().to_string(), reply.to_string())
}

fn node0(world: &Storm) -> Ipv4Addr {
    world.server().config().plan.node0()
}

fn stage(world: &Storm, number: u32) -> Option<Stage> {
    let roll = world.server().roll();
    roll.find(&Identity::Mac(mac(number + 1))).and_then(|key| roll.get(key)).map(|client| client.boot.stage())
}

/// All come up, and nobody saw anything that must not be.
fn finish(world: &mut Storm) {
    let end = world.now().at + Duration::from_secs(300);
    assert!(world.run(end, |world| world.clients().done()), "{:?}", world.clients().progress());
    world.pass(Duration::from_secs(1));
    assert_eq!(world.clients().progress().up, NODES as usize, "{}", world.clients().summary());
    assert_eq!((&world.findings().violations[..], world.clients().summary().conflicts), (&[][..], 0));
}

#[test]
fn a_reload_in_the_middle_of_a_storm() {
    for seed in 0..3 {
        let habits = Habits { latency: Duration::from_millis(3), ..Habits::default() };
        let (mut world, conn) = storm(seed, habits);
        world.until(Instant::from_millis(2_000));
        assert!(
            world.clients().progress().booting > 0 && world.clerk().file("/var/lib/muster/names").is_some_and(|names| !names.is_empty())
        );

        world.clerk_mut().put(PATH, "[cluster]\nnode0 = 10\n");
        world.signal(Command::Reload(Reload::Stay));
        let (is, said) = ask(&mut world, conn, r#"{"do":"reload"}"#);
        assert!(is == "error" && said.contains("muster.toml:2:") && said.contains("the old config stays in force"), "{said}");

        world.clerk_mut().put(PATH, text("10.54.1.0", "[boot]\nargs = \"quiet\"\n[tftp]\nwindowsize = 8\n"));
        world.signal(Command::Reload(Reload::Stay));
        world.pass(Duration::from_millis(200));
        assert_eq!((world.server().config().boot.args.as_str(), world.server().config().tftp.windowsize), ("quiet", 8));
        assert_eq!(world.clerk().root(), "/srv/tftp");

        world.until(Instant::from_millis(3_500));
        assert!(world.clients().progress().booting > 0);
        world.clerk_mut().put(PATH, text("10.54.2.0", ""));
        let (is, said) = ask(&mut world, conn, r#"{"do":"reload"}"#);
        assert!(is == "error" && said.contains("renumber: n") && said.contains("muster reload --renumber"), "{said}");
        let (is, said) = ask(&mut world, conn, r#"{"do":"reload","renumber":true,"dry":true}"#);
        assert!(is == "done" && said.contains("-> 10.54.2.") && node0(&world) == Ipv4Addr::new(10, 54, 1, 0), "{said}");
        let (is, said) = ask(&mut world, conn, r#"{"do":"reload","renumber":true}"#);
        assert!(is == "done" && said.contains("now in force") && node0(&world) == Ipv4Addr::new(10, 54, 2, 0), "{said}");
        assert!(world.clerk().file("/var/lib/muster/names").is_some_and(|names| names.contains("10.54.2.0")));
        // Who is up needs no address before its lease is half over.
        let up: Vec<u32> = (0..NODES).filter(|n| stage(&world, *n) == Some(Stage::Up)).collect();
        assert!(up.len() < NODES as usize - 5, "{up:?}");
        finish(&mut world);
        for n in 0..NODES {
            let (_, reply) = ask(&mut world, conn, &format!(r#"{{"do":"node-show","number":{n}}}"#));
            let node: Value = serde_json::from_str(&reply).unwrap();
            let (state, third) = if up.contains(&n) { ("booting", 1) } else { ("up", 2) };
            assert_eq!((&node["state"], &node["boots"][0]["address"]), (&state.into(), &format!("10.54.{third}.{n}").into()), "{node:#}");
        }
    }
}

#[test]
fn an_operator_has_the_state_written_while_machines_boot() {
    let habits = Habits { latency: Duration::from_millis(3), ..Habits::default() };
    let (mut world, conn) = storm(7, habits);
    world.until(Instant::from_millis(3_000));
    assert!(world.clients().progress().booting > 0);
    let (is, said) = ask(&mut world, conn, r#"{"do":"checkpoint"}"#);
    assert!(is == "done" && said.contains("written to /run/muster/state.json") && said.contains("the journal was rewritten"), "{said}");
    let state: Value = serde_json::from_str(world.clerk().file(STATE).unwrap()).unwrap();
    let stages: u64 = state["stages"].as_array().unwrap().iter().filter_map(|stage| stage[1].as_u64()).sum();
    assert!(stages > 0 && Some(stages) == state["clients"].as_u64() && state["machines"].as_array().map(Vec::len) == Some(stages as usize));
    finish(&mut world);

    world.signal(Command::Checkpoint);
    world.pass(Duration::from_secs(1));
    let state: Value = serde_json::from_str(world.clerk().file(STATE).unwrap()).unwrap();
    let up = state["machines"].as_array().unwrap().iter().filter(|machine| machine["stage"] == "up" && !machine["number"].is_null());
    assert_eq!(up.count(), NODES as usize);
}

#[test]
fn a_disk_that_hangs_holds_up_commands_and_nobody_else() {
    let (mut world, conn) = storm(3, Habits::default());
    world.until(Instant::from_millis(1_000));
    world.clerk_mut().hangs = true;
    let (is, said) = ask(&mut world, conn, r#"{"do":"checkpoint"}"#);
    assert!(is == "error" && said.contains("the state is not written yet: its disk does not answer"), "{said}");
    let (is, said) = ask(&mut world, conn, r#"{"do":"reload"}"#);
    assert!(is == "error" && said.contains("has not answered for 8 s"), "{said}");
    finish(&mut world);
    world.clerk_mut().hangs = false;
    assert_eq!(ask(&mut world, conn, r#"{"do":"reload"}"#).0, "done");
}

#[test]
fn a_head_that_is_told_to_leave_writes_everything_down() {
    let (mut world, _) = storm(5, Habits { latency: Duration::from_millis(3), ..Habits::default() });
    finish(&mut world);
    world.signal(Command::Leave);
    let end = world.now().at + Duration::from_secs(10);
    assert!(world.run(end, World::has_left));
    assert!(world.clerk().file(STATE).is_some_and(|state| state.contains("\"up\"")));
    let lines = world.crash();
    let (config, now) = (world.server().config().clone(), world.now());
    let next = Server::restored(&config, 1, now, lines.iter().map(String::as_str)).unwrap();
    let up = (0..NODES).filter(|n| next.roll().past_stage(crate::roll::plan::Number(*n)).is_some_and(|(_, stage)| stage.name() == "up"));
    assert_eq!(up.count(), NODES as usize, "the next one knows who is up");
}
