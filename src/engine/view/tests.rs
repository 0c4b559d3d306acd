//! What operators see in one place and in another: never two truths.

use std::collections::BTreeSet;
use std::net::SocketAddrV4;

use serde_json::Value;

use crate::base::machine::{FileId, Input, OpenFile, StreamEvent};
use crate::base::rng::Rng;
use crate::config::Config;
use crate::engine::server::Server;
use crate::engine::testing::{Ask, Got, HEAD, World, config, conn, ip, mac, only_reply};
use crate::engine::tftp::PORT;
use crate::roll::plan::AddressPlan;
use crate::roll::ruling::Numbering;
use crate::wire::report::{Report, ReportText, ReportVerdict};
use crate::wire::tftp::{self, Mode, TftpOptions};

const NODES: u32 = 40;

/// A cluster to which anything may happen.
struct Play {
    world: World,
    config: Config,
    rng: Rng,
    /// Each machine's address, while it has one, and the port of its transfer.
    has: [Option<(SocketAddrV4, u16)>; 30],
}

impl Play {
    fn new(seed: u64) -> Play {
        let (mut rng, mut config) = (Rng::new(seed), config());
        config.plan = AddressPlan::new(config.plan.node0(), NODES);
        config.server.capacity = 24;
        config.numbering = if rng.chance(500_000) { Numbering::Automatic } else { Numbering::Ordered };
        Play { world: World::settled(&config), config, rng, has: [None; 30] }
    }

    fn below(&mut self, end: u64) -> u64 {
        self.rng.below(end)
    }

    fn step(&mut self) {
        let n = self.below(self.has.len() as u64) as u8;
        match self.below(14) {
            0..=2 => self.boot(n),
            3 => {
                let ask = self.machine(n);
                self.world.ask(&ask.discover());
            }
            4 => self.leave(n),
            5..=7 => self.load(n),
            8 => {
                let millis = [10, 400, 3_000, 20_000, 90_000, 4_000_000][self.rng.below(6) as usize];
                self.world.advance(millis);
            }
            9..=10 => self.change(n),
            11 => {
                let id = Ask::infiniband(&[0xff, n % 4]);
                self.world.ask(&id.discover());
            }
            12 => {
                let node0 = ip(10, 54, 1 + self.below(2) as u8, 0);
                let moved = Config { plan: AddressPlan::new(node0, NODES), ..self.config.clone() };
                self.world.server.reconfigure(self.world.now, &moved).unwrap();
                self.config = moved;
            }
            _ if self.rng.chance(200_000) => self.restart(),
            _ => {}
        }
    }

    /// What it says, or that it passed or failed its test.
    fn machine(&mut self, n: u8) -> Ask {
        // Among them the nodes of the config.
        let mac = mac(if n == 29 { 117 } else { n + 1 });
        match self.below(6) {
            0 => Ask::os(mac),
            1 => Ask::ipxe(mac),
            2..=3 => {
                let verdict = if self.rng.chance(700_000) {
                    ReportVerdict::Passed
                } else {
                    ReportVerdict::Failed(ReportText::new(b"20-memory").unwrap())
                };
                let mut report = Report { verdict, ..Report::EMPTY };
                assert!(report.macs.push(mac));
                let mut buf = [0; 255];
                let len = report.write(&mut buf).unwrap();
                Ask::os(mac).with(224, &buf[..len])
            }
            _ => Ask::rom(mac),
        }
    }

    fn boot(&mut self, n: u8) {
        let ask = self.machine(n);
        let Some(offer) = only_reply(&self.world.ask(&ask.discover())) else { return };
        let got = self.world.ask(&ask.select(offer.yiaddr()));
        if only_reply(&got).is_some_and(|ack| ack.yiaddr() == offer.yiaddr()) {
            self.has[usize::from(n)] = Some((SocketAddrV4::new(offer.yiaddr(), 2070), 0));
        }
    }

    fn leave(&mut self, n: u8) {
        let Some((from, _)) = self.has[usize::from(n)].take() else { return };
        let ask = self.machine(n);
        let says = if self.rng.chance(500_000) { ask.decline(*from.ip()) } else { ask.release(*from.ip()) };
        self.world.ask(&says);
    }

    /// Begins to load a file, or goes on.
    fn load(&mut self, n: u8) {
        let Some((from, port)) = self.has[usize::from(n)] else { return };
        let mut buf = [0; 100];
        let (to, len) = match port {
            0 => (PORT, tftp::emit_rrq(&mut buf, b"vmlinuz", Mode::Octet, &TftpOptions::default())),
            port => (port, tftp::emit_ack(&mut buf, 1 + self.rng.below(3) as u16)),
        };
        let mut got = self.world.datagram(0, None, (from, SocketAddrV4::new(HEAD, to)), &buf[..len.unwrap()]);
        if let Some(Got::Open { token, .. }) = got.iter().find(|got| matches!(got, Got::Open { .. })) {
            let answer = Ok(OpenFile { file: FileId::from_u64(7), size: self.rng.below(3_000), stamp: 0 });
            got = self.world.handle(Input::Opened { token: *token, answer });
        }
        let blocks = got.iter().find_map(|got| if let Got::Blocks(run) = got { Some(run.from.port()) } else { None });
        self.has[usize::from(n)] = Some((from, blocks.unwrap_or(0)));
    }

    fn change(&mut self, n: u8) {
        let number = self.below(u64::from(NODES));
        let change = match self.below(5) {
            0 => format!(r#"{{"what":"set","number":{number},"macs":["{}","{}"]}}"#, mac(n + 1), mac(n + 2)),
            1 => format!(r#"{{"what":"set","number":{number},"reserve":true}}"#),
            2 => format!(r#"{{"what":"out","nodes":"{number}-{}"}}"#, (number + 5).min(u64::from(NODES) - 1)),
            3 => format!(r#"{{"what":"replace","number":{number}}}"#),
            _ => r#"{"what":"enlist","guest":"@held"}"#.into(),
        };
        self.ask(&format!(r#"{{"do":"change","change":{change}}}"#));
    }

    fn restart(&mut self) {
        self.world.server.checkpoint();
        let lines = self.world.compacted();
        let now = self.world.now;
        let server = Server::restored(&self.config, self.rng.u64(), now, lines.iter().map(String::as_str)).unwrap();
        (self.world, self.has) = (World::of(server, now), [None; 30]);
        self.world.advance(2_000);
    }

    fn ask(&mut self, request: &str) -> Value {
        let mut got = self.world.operator(conn(0), StreamEvent::Bytes(request.as_bytes()));
        if !got.iter().any(|got| matches!(got, Got::Write(..))) {
            got.extend(self.world.advance(1));
        }
        let line = got.iter().find_map(|got| if let Got::Write(_, line) = got { Some(line) } else { None });
        serde_json::from_slice(line.unwrap()).unwrap()
    }

    /// All pages of a list.
    fn all(&mut self, request: &str, rows: &str) -> Vec<Value> {
        let (mut from, mut all) = (Value::from(0), Vec::new());
        while !from.is_null() {
            let page = self.ask(&format!(r#"{{"do":{request},"from":{from}}}"#));
            all.extend(page[rows].as_array().unwrap().iter().cloned());
            from = page["next"].clone();
        }
        all
    }

    /// Asks for everything by all ways; gives the stages that it has met.
    fn compare(&mut self) -> BTreeSet<String> {
        let snapshot = self.world.server.snapshot(self.world.now, vec![("lost in receive queues".into(), 3)], 2);
        let state: Value = serde_json::from_str(&snapshot.json()).unwrap();
        let machines = state["machines"].as_array().unwrap();

        let status = self.ask(r#"{"do":"status"}"#);
        for (key, value) in status.as_object().unwrap().iter().filter(|(key, _)| *key != "is") {
            assert_eq!(state[key], *value, "{key}");
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let counted =
            |stage: &str| machines.iter().filter(|machine| text(&machine["stage"]).split(' ').next() == Some(stage)).count() as u64;
        for stage in status["stages"].as_array().unwrap() {
            let (name, count) = (text(&stage[0]), stage[1].as_u64().unwrap());
            // One that is stuck is in one of these, and so is one that passed.
            assert!((counted(&name)..=counted(&name) + counted("stuck:") + counted("passed")).contains(&count), "{stage}: {state:#}");
        }
        let sum: u64 = status["stages"].as_array().unwrap().iter().filter_map(|stage| stage[1].as_u64()).sum();
        assert_eq!((status["clients"].as_u64(), machines.len() as u64), (Some(sum), sum));

        let guests = self.all(r#""guest-list""#, "rows");
        let strangers: Vec<&Value> = machines.iter().filter(|machine| machine["number"].is_null()).collect();
        assert_eq!((guests.iter().collect::<Vec<_>>(), status["guests"].as_u64()), (strangers.clone(), Some(strangers.len() as u64)));

        let mut cards: Vec<Value> = (0..NODES).flat_map(|number| self.card(number)).collect();
        let mut numbered: Vec<Value> = machines.iter().filter(|machine| !machine["number"].is_null()).cloned().collect();
        for list in [&mut cards, &mut numbered] {
            list.sort_by_key(|machine| machine["id"].to_string());
        }
        assert_eq!(cards, numbered, "a node's cards are its machines");
        self.compare_lines(&snapshot.lines(), &state);
        machines.iter().filter_map(|machine| machine["stage"].as_str()?.split(' ').next().map(str::to_string)).collect()
    }

    /// The cards of a node as it is shown, which are what its line in the list says.
    fn card(&mut self, number: u32) -> Vec<Value> {
        let node = self.ask(&format!(r#"{{"do":"node-show","number":{number}}}"#));
        let row = self.ask(&format!(r#"{{"do":"node-list","nodes":"{number}"}}"#))["rows"][0].clone();
        let runs = self.ask(r#"{"do":"states"}"#);
        let run = runs["runs"].as_array().unwrap().iter().find(|run| run["last"].as_u64() >= Some(number.into())).unwrap().clone();
        for key in ["number", "name", "address", "state"] {
            assert_eq!(node[key], row[key], "{key}: {node:#} {row:#}");
        }
        assert_eq!(
            (&run["state"], row["macs"].as_u64()),
            (&node["state"], Some(node["lot"]["macs"].as_array().map_or(0, Vec::len) as u64))
        );
        let cards = node["boots"].as_array().unwrap().clone();
        match cards.iter().find(|card| card["id"] == row["mac"]) {
            Some(card) => {
                assert_eq!((&card["since_ms"], &card["firmware"]), (&row["since_ms"], &row["firmware"]));
                assert!(row["stage"].as_str().unwrap().starts_with(card["stage"].as_str().unwrap()), "{row:#} {card:#}");
            }
            None => assert!(cards.is_empty() && row["since_ms"].is_null(), "{node:#} {row:#}"),
        }
        cards
    }

    /// The log says the same in fewer words.
    fn compare_lines(&self, lines: &[String], state: &Value) {
        let number = |key: &str| state[key].as_u64().unwrap();
        let stages: Vec<String> = state["stages"].as_array().unwrap().iter().filter(|stage| stage[1] != 0).map(pair).collect();
        let first = [format!("state: {} of {} client records", number("clients"), number("capacity")), stages.join(", ")];
        let words = first.iter().filter(|words| !words.is_empty());
        assert!(words.into_iter().all(|words| lines[0].contains(words)), "{lines:?}");
        assert!(
            lines[0].contains(&format!("; {} transfers; 2 boot files open; up {} s", number("transfers"), number("uptime"))),
            "{lines:?}"
        );
        for (network, line) in state["networks"].as_array().unwrap().iter().zip(&lines[1..]) {
            assert!(line.contains(&format!(
                "{}: guest addresses: {} held, {} free",
                text(network, "subnet"),
                network["guests_held"],
                network["guests_free"]
            )));
        }
        let counters = [&state["counters"], &state["kernel"]].into_iter().flat_map(|list| list.as_array().unwrap());
        let all: Vec<String> = counters.map(|counter| format!("{} {}", counter[0].as_str().unwrap(), counter[1])).collect();
        assert_eq!(lines.last(), Some(&format!("state: {}", all.join(", "))));
    }
}

/// `3 up`
fn pair(stage: &Value) -> String {
    format!("{} {}", stage[1], stage[0].as_str().unwrap())
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

#[test]
fn whatever_happens_all_ways_show_the_same() {
    let mut met = BTreeSet::new();
    for seed in 0..12 {
        let mut play = Play::new(seed);
        for step in 0..90 {
            play.step();
            if step % 15 == 14 {
                met.extend(play.compare());
            }
        }
    }
    for stage in ["discover", "offered", "leased", "loading", "loaded", "up", "stuck:"] {
        assert!(met.contains(stage), "{stage} is not among {met:?}");
    }
}
