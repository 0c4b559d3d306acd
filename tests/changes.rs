//! Changes of hundreds of numbers, by seeds: see `muster::sim::changes`. `MUSTER_CHANGES=10000 cargo test --release --test changes` plays more of
//! them, and `MUSTER_CHANGE=17` one again.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use muster::base::addr::Mac;
use muster::base::endpoint::EndpointId;
use muster::base::machine::{ConnId, Input, Machine, Seq, Stream, StreamEvent};
use muster::base::outbox::{JournalOp, Outbox, Output};
use muster::base::time::{Instant, Now};
use muster::config::Config;
use muster::engine::server::Server;
use muster::roll::lot::Lot;
use muster::roll::plan::AddressPlan;
use muster::shell::{Crew, journal};
use muster::sim::changes::{ChangesOutcome, play};
use muster::sim::config;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

#[test]
fn a_change_is_whole_or_not_at_all_and_is_answered() {
    let seeds = match number("MUSTER_CHANGE") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MUSTER_CHANGES").unwrap_or(24),
    };
    let (mut changes, mut torn, mut largest, mut failed) = (0, 0, 0, Vec::new());
    for seed in seeds.clone() {
        let outcome = play(seed);
        if seeds.end - seeds.start == 1 {
            println!("{}", outcome.story.join("\n"));
        }
        changes += outcome.changes;
        torn += outcome.torn;
        largest = largest.max(outcome.largest);
        failed.extend(outcome.faults.into_iter().map(|fault| format!("seed {seed}: {fault}")));
    }
    println!("{changes} changes were answered, the largest of {largest} lots; {torn} crashes were in the middle of one");
    assert!(failed.is_empty(), "{} of {} plays:\n{}", failed.len(), seeds.end - seeds.start, failed.join("\n"));
    if seeds.end - seeds.start >= 24 {
        assert!(changes > 300 && torn > 30 && largest > 1000, "{changes} changes, {torn} torn, the largest {largest}: nothing was tried");
    }
}

#[test]
fn a_play_plays_again_exactly() {
    let ChangesOutcome { hash, story, .. } = play(5);
    assert_eq!((hash, story), (play(5).hash, play(5).story));
    assert_ne!(hash, play(6).hash);
}

/// A head, what it has put into its journal, and what it has answered.
struct Head {
    server: Server,
    out: Outbox,
    now: Now,
    seq: Seq,
    text: String,
    answers: Vec<serde_json::Value>,
    /// How long a call of it took at most.
    longest: Duration,
}

impl Head {
    fn new(config: &Config) -> Head {
        let now = Now { at: Instant::from_millis(1000), unix: 1_750_000_000 };
        Head {
            server: Server::new(config, 1, now),
            out: Outbox::new(),
            now,
            seq: Seq::NONE,
            text: String::new(),
            answers: Vec::new(),
            longest: Duration::ZERO,
        }
    }

    fn drain(&mut self) {
        for output in self.out.iter() {
            match output {
                Output::Record(JournalOp::Append { seq, line }) => {
                    self.seq = seq;
                    self.text += std::str::from_utf8(line).expect("a line is text");
                    self.text += "\n";
                }
                Output::Write { bytes, .. } => self.answers.push(serde_json::from_slice(bytes).expect("an answer is JSON")),
                _ => {}
            }
        }
        self.out.clear();
    }

    /// An operator changes something, and the disk keeps up.
    fn change(&mut self, change: &str) -> serde_json::Value {
        let request = format!(r#"{{"do":"change","change":{change}}}"#);
        let begin = std::time::Instant::now();
        self.server.handle(self.now, line(self.server.endpoints().operators(), &request), &mut self.out);
        self.longest = self.longest.max(begin.elapsed());
        self.drain();
        let before = self.answers.len();
        for _ in 0..100_000 {
            if self.answers.len() > before {
                break;
            }
            self.now.at += Duration::from_micros(100);
            let begin = std::time::Instant::now();
            self.server.expire(self.now, &mut self.out);
            self.longest = self.longest.max(begin.elapsed());
            self.drain();
            self.server.handle(self.now, Input::Synced { seq: self.seq }, &mut self.out);
            self.drain();
        }
        self.answers.pop().expect("a change is answered")
    }

    fn import(&mut self, count: u32) {
        for first in (0..count).step_by(256) {
            let entry = |n: u32| format!(r#"{{"number":{n},"macs":["{}","{}"]}}"#, mac(2 * n), mac(2 * n + 1));
            let entries: Vec<String> = (first..count.min(first + 256)).map(entry).collect();
            let more = first + 256 < count;
            let done = self.change(&format!(r#"{{"what":"import","more":{more},"entries":[{}]}}"#, entries.join(",")));
            assert_eq!(done["is"], "changed", "{done}");
        }
    }

    fn lots(&self) -> Vec<Lot> {
        lots(&self.server)
    }
}

fn lots(server: &Server) -> Vec<Lot> {
    server.roll().lots().iter().map(|(_, lot)| *lot).collect()
}

fn mac(n: u32) -> Mac {
    let [a, b, c, d] = n.to_be_bytes();
    Mac([2, 0x61, a, b, c, d])
}

fn cluster(nodes: u32) -> Config {
    let config = config([]);
    Config { plan: AddressPlan::new(config.plan.node0(), nodes), ..config }
}

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("changes-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder for this test");
        Folder(folder)
    }

    /// What a start makes of a journal of these bytes.
    fn start(&self, config: &Config, bytes: &[u8]) -> Server {
        std::fs::write(self.0.join("journal"), bytes).expect("write a journal");
        let (_, lines) =
            journal::open(&self.0, &self.0, Crew::start().expect("file processes").writer).unwrap_or_else(|error| panic!("{error}"));
        let now = Now { at: Instant::from_millis(1000), unix: 1_750_000_500 };
        Server::restored(config, 2, now, lines.iter().map(String::as_str)).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_change_that_is_torn_at_any_byte_is_not_done_and_the_journal_goes_on_behind_it() {
    let (config, folder) = (cluster(40), Folder::new("torn"));
    let mut head = Head::new(&config);
    head.import(36);
    let (before, begin) = (head.lots(), head.text.len());
    assert_eq!(head.change(r#"{"what":"out","nodes":"3-9"}"#)["count"], 7);
    let after = head.lots();
    assert!(before != after && head.text.len() - begin > 400, "{}", head.text);
    for len in begin..=head.text.len() {
        let found = folder.start(&config, &head.text.as_bytes()[..len]);
        let expected = if len == head.text.len() { &after } else { &before };
        assert!(lots(&found) == *expected, "{len} bytes of {}", head.text.len());
        let left = std::fs::metadata(folder.0.join("journal")).expect("a journal").len();
        assert_eq!(left, if len == head.text.len() { len } else { begin } as u64, "what does not count is cut off");
    }
}

#[test]
fn ten_thousand_numbers_change_at_once_and_no_call_takes_long() {
    const NODES: u32 = 10_000;
    let mut config = cluster(NODES);
    config.server.capacity = 2 * NODES as usize;
    let mut head = Head::new(&config);
    head.import(NODES);
    let before = head.lots();
    let folder = Folder::new("many");
    for (change, count) in [(r#"{"what":"undo"}"#, NODES), (r#"{"what":"undo"}"#, NODES), (r#"{"what":"out","nodes":"0-9999"}"#, NODES)] {
        let (begin, records) = (head.now.at, head.seq);
        head.longest = Duration::ZERO;
        let done = head.change(change);
        let (took, records) = (head.now.at.since(begin), head.seq.since(records));
        println!("{change}: {records} records in {took:?}, the longest call took {:?}", head.longest);
        // With optimisation a few milliseconds; the bar is for a machine that is busy with other tests.
        assert!(head.longest < Duration::from_millis(if cfg!(debug_assertions) { 2000 } else { 100 }), "{:?}", head.longest);
        assert_eq!((done["is"].as_str(), done["count"].as_u64()), (Some("changed"), Some(count.into())), "{change}: {done}");
        assert!(lots(&folder.start(&config, head.text.as_bytes())) == head.lots(), "{change}");
    }
    assert!(head.lots().iter().all(Lot::is_vacant) && before.iter().all(Lot::is_occupied));
    // Numbers that are scattered, and many that have nothing to change: the answer has room for what there is to say.
    head.change(r#"{"what":"undo"}"#);
    let odd: Vec<String> = (0..NODES).step_by(2).map(|n| n.to_string()).collect();
    let done = head.change(&format!(r#"{{"what":"out","nodes":"{}"}}"#, odd.join(",")));
    assert_eq!((done["is"].as_str(), done["count"].as_u64()), (Some("changed"), Some(5000)), "{done}");
    let done = head.change(r#"{"what":"out","nodes":"0-9998"}"#);
    assert_eq!((done["is"].as_str(), done["count"].as_u64()), (Some("changed"), Some(4999)), "{done}");
    assert_eq!(done["notes"][64], "and 4936 more notes like these", "{done}");
}

/// A line of an operator's.
fn line(endpoint: EndpointId, request: &str) -> Input<'_> {
    let peer = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
    Input::Stream(Stream { conn: ConnId::from_u64(0), endpoint, peer, event: StreamEvent::Bytes(request.as_bytes()) })
}
