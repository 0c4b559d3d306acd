//! Commands, step by step: what the world is asked for, what it says, and who hears what came of it.

use serde_json::Value;

use super::*;
use crate::base::addr::Mac;
use crate::base::facts::LinkFacts;
use crate::base::machine::{Input, Reload, StreamEvent};
use crate::config::{Config, Flags, MachineFacts, Unresolved};
use crate::engine::testing::{Ask, Got, Wanted, World, conn, mac};
use crate::roll::plan::Number;

const PATH: &str = "/etc/muster/muster.toml";
const RELOAD: &str = r#"{"do":"reload"}"#;
const RENUMBER: &str = r#"{"do":"reload","renumber":true}"#;
const PREVIEW: &str = r#"{"do":"reload","renumber":true,"dry":true}"#;
const CHECKPOINT: &str = r#"{"do":"checkpoint"}"#;
const STATE: &str = "/run/muster/state.json";

fn links() -> [LinkFacts; 1] {
    [LinkFacts { addresses: vec![([10, 54, 0, 1].into(), 16)], ..LinkFacts::ethernet("eth1", 2, mac(0xfe)) }]
}

fn text(more: &str) -> String {
    let node = |number: u32, mac: Mac| format!("[[node]]\nnumber = {number}\nmacs = [\"{mac}\"]\n");
    format!("[[network]]\ninterface = \"eth1\"\n{}{}{more}", node(17, mac(17)), node(23, mac(23)))
}

fn moved() -> String {
    text("[cluster]\nnode0 = \"10.54.2.0\"\n")
}

fn file() -> ConfigFile {
    ConfigFile { path: PATH.into(), required: true, flags: Flags::default() }
}

fn config(text: &str) -> Config {
    let mut facts = MachineFacts::new(links().to_vec());
    loop {
        match file().resolve(Some(text), &facts) {
            Ok(resolved) => return resolved.config,
            Err(Unresolved::Ask(root, names)) => facts.learn(&root, &names, &[]),
            Err(Unresolved::Wrong(why) | Unresolved::Await(_, why)) => panic!("{why}"),
            Err(Unresolved::Recall(_)) => unreachable!("only at start"),
        }
    }
}

/// A head, and the files of its disk.
struct Head {
    world: World,
    disk: Disk,
}

#[derive(Clone, Copy, PartialEq)]
enum Disk {
    Answers,
    Hangs,
    Fails,
}

impl Head {
    fn new() -> Head {
        let config = config(&text("[cluster]\nnode0 = \"10.54.1.0\"\n"));
        let now = World::new(&config).now;
        let mut world = World::of(Server::new(&config, 7, now).with_file(file()), now);
        world.advance(2_000);
        let published: Vec<&str> = world
            .wanted
            .iter()
            .map(|(_, wanted)| match wanted {
                Wanted::Publish(path, text) if !text.is_empty() => path.as_str(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(published, ["names", "serial", "interfaces"].map(|name| format!("/var/lib/muster/{name}")));
        world.wanted.clear();
        Head { world, disk: Disk::Answers }
    }

    fn ask(&mut self, by: u64, line: &str) -> Vec<Got> {
        self.world.operator(conn(by), StreamEvent::Bytes(line.as_bytes()))
    }

    /// Does what is wanted of the disk, until there is no more; gives what else came out, and what was wanted.
    fn serve(&mut self, found: Option<&str>) -> (Vec<Got>, Vec<Wanted>) {
        let (mut got, mut all, mut links) = (self.world.advance(10), Vec::new(), links());
        while let Some((token, wanted)) = (!self.world.wanted.is_empty()).then(|| self.world.wanted.remove(0)) {
            all.push(wanted.clone());
            let done = match &wanted {
                Wanted::Serve | Wanted::Publish(..) | Wanted::Leave => continue,
                Wanted::Count => {
                    let lost = [("lost in receive queues".to_string(), 3)];
                    got.extend(self.world.handle(Input::Counted { lost: &lost, open_files: 2 }));
                    got.extend(self.world.advance(10));
                    continue;
                }
                Wanted::Read(path) => {
                    assert_eq!(path, PATH);
                    links[0].rate = Some(1_000_000_000);
                    TaskOutcome::Text { text: found, links: &links }
                }
                Wanted::Exists(names) => {
                    assert_eq!(names[0], "/srv/tftp");
                    TaskOutcome::Exists(&[true, false])
                }
                Wanted::Root(_) => TaskOutcome::Opened,
                Wanted::Write(..) => TaskOutcome::Written,
            };
            match self.disk {
                Disk::Answers => got.extend(self.world.done(token, Ok(done))),
                Disk::Hangs => {}
                Disk::Fails => got.extend(self.world.done(token, Err("the disk of /etc failed: see to it"))),
            }
            got.extend(self.world.advance(10));
        }
        (got, all)
    }

    /// An operator's command, from the line to the answer: what it is, and all its words.
    fn say(&mut self, line: &str, found: &str) -> (String, String) {
        let mut got = self.ask(5, line);
        got.extend(self.serve(Some(found)).0);
        answer_to(&got, 5)
    }

    fn node0(&self) -> String {
        self.world.server.config().plan.node0().to_string()
    }
}

fn answer_to(got: &[Got], by: u64) -> (String, String) {
    let lines = got.iter().filter_map(|got| if let Got::Write(to, line) = got { (*to == conn(by)).then_some(line) } else { None });
    let lines: Vec<Value> = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
    let [line] = lines.as_slice() else { panic!("one answer: {got:?}") };
    (line["is"].as_str().unwrap().to_string(), line.to_string())
}

fn answered(got: &[Got]) -> bool {
    got.iter().any(|got| matches!(got, Got::Write(..)))
}

#[test]
fn a_reload_reads_looks_opens_and_takes_over() {
    let mut head = Head::new();
    let new = text("[cluster]\nnode0 = \"10.54.1.0\"\nname = \"other\"\n[tftp]\nwindowsize = 8\n");
    assert!(!answered(&head.ask(5, RELOAD)), "it is answered when it is done");
    let (got, wanted) = head.serve(Some(&new));
    let steps: Vec<&Wanted> = wanted.iter().collect();
    let [Wanted::Read(_), Wanted::Exists(names), Wanted::Root(root), Wanted::Serve, published @ ..] = steps.as_slice() else {
        panic!("{wanted:?}")
    };
    let [Wanted::Publish(_, list), Wanted::Publish(_, serial), Wanted::Publish(_, rest)] = published else { panic!("{wanted:?}") };
    assert!(
        names.len() > 3 && root == "/srv/tftp" && list.contains("other") && serial.contains("serial ") && rest.contains("eth1"),
        "{wanted:?}"
    );
    let (is, said) = answer_to(&got, 5);
    assert!(is == "done" && said.contains("windowsize") && said.contains("now in force"), "{said}");
    assert_eq!(head.world.server.config().tftp.windowsize, 8);
    let (is, said) = head.say(RELOAD, &new);
    assert!(is == "done" && said.contains("nothing has changed"), "{said}");
}

#[test]
fn what_cannot_be_taken_over_is_refused_and_the_old_one_stays() {
    let mut head = Head::new();
    let before = head.world.server.config().clone();
    for (found, words) in [
        ("[cluster]\nnode0 = 10\n", ["muster.toml:2:", "the old config stays in force"]),
        (&text("[cluster]\nnode0 = \"10.54.1.0\"\n[server]\ncapacity = 100\n"), ["capacity", "restart musterd to apply these changes"]),
        (&text("[cluster]\nnode0 = \"10.54.1.0\"\nnodes = 20\n"), ["23", "the old config stays in force"]),
    ] {
        let (is, said) = head.say(RELOAD, found);
        assert!(is == "error" && words.iter().all(|word| said.contains(word)), "{said}");
        let (is, said) = head.say(PREVIEW, found);
        assert!(is == "error" && words.iter().all(|word| said.contains(word)), "{said}");
    }
    let mut got = head.ask(5, RELOAD);
    got.extend(head.serve(None).0);
    let (is, said) = answer_to(&got, 5);
    assert!(is == "error" && said.contains("no such file: name another with -c"), "{said}");
    head.disk = Disk::Fails;
    let (is, said) = head.say(RELOAD, &text(""));
    assert!(is == "error" && said.contains("the disk of /etc failed") && said.contains("the old config stays in force"), "{said}");
    assert_eq!(*head.world.server.config(), before);
}

#[test]
fn nodes_with_leases_move_by_an_operators_word_only() {
    let mut head = Head::new();
    assert_eq!(head.world.lease(&Ask::os(mac(17))).to_string(), "10.54.1.17");
    let line = "renumber: n17: 10.54.1.17 -> 10.54.2.17";
    let (is, said) = head.say(RELOAD, &moved());
    assert!(is == "error" && said.contains(line) && said.contains("1 in all; to move them, run muster reload --renumber"), "{said}");
    head.world.handle(Input::Command(Command::Reload(Reload::Stay)));
    head.serve(Some(&moved()));
    assert_eq!(head.node0(), "10.54.1.0", "nor by a signal");
    let (is, said) = head.say(PREVIEW, &moved());
    assert!(is == "done" && said.contains(line) && !said.contains("in force"), "{said}");
    assert_eq!(head.node0(), "10.54.1.0", "and it changes nothing to ask");
    let (is, said) = head.say(RENUMBER, &moved());
    assert!(is == "done" && said.contains(line) && said.contains("now in force"), "{said}");
    assert_eq!(head.world.lease(&Ask::os(mac(17))).to_string(), "10.54.2.17");
}

/// Between the look at who has a lease and the moment when the root is open.
#[test]
fn a_lease_that_is_given_meanwhile_counts() {
    let mut head = Head::new();
    head.ask(5, RELOAD);
    head.world.advance(10);
    let (mut got, new) = (Vec::new(), moved());
    while !answered(&got) {
        let (token, wanted) = head.world.wanted.remove(0);
        let links = links();
        got.extend(match wanted {
            Wanted::Read(_) => head.world.done(token, Ok(TaskOutcome::Text { text: Some(&new), links: &links })),
            Wanted::Exists(_) => head.world.done(token, Ok(TaskOutcome::Exists(&[]))),
            Wanted::Root(_) => {
                head.world.lease(&Ask::os(mac(23)));
                head.world.done(token, Ok(TaskOutcome::Opened))
            }
            other => panic!("{other:?}"),
        });
    }
    let (is, said) = answer_to(&got, 5);
    assert!(is == "error" && said.contains("n23: 10.54.1.23 -> 10.54.2.23"), "{said}");
    assert_eq!(head.node0(), "10.54.1.0");
    assert!(!head.world.wanted.iter().any(|(_, wanted)| *wanted == Wanted::Serve), "the old root is served");
}

#[test]
fn a_command_that_takes_too_long_is_given_up_and_the_next_begins() {
    let mut head = Head::new();
    head.ask(5, RELOAD);
    head.world.advance(10);
    let (late, _) = head.world.wanted.remove(0);
    head.ask(6, CHECKPOINT);
    let got = head.world.advance(LONGEST.as_millis() as u64 - 100);
    assert!(!answered(&got));
    let (is, said) = answer_to(&head.world.advance(200), 5);
    assert!(is == "error" && said.contains("has not answered for 8 s"), "{said}");
    assert!(!answered(&head.world.done(late, Ok(TaskOutcome::Text { text: Some(""), links: &[] }))), "nobody waits for that any more");
    head.disk = Disk::Hangs;
    let (got, wanted) = head.serve(None);
    assert!(wanted.contains(&Wanted::Count) && !answered(&got), "{wanted:?}");
    let (is, said) = answer_to(&head.world.advance(LONGEST.as_millis() as u64), 6);
    assert!(is == "error" && said.contains("the state is not written yet: its disk does not answer"), "{said}");
}

#[test]
fn a_checkpoint_writes_the_state_and_the_journal() {
    let mut head = Head::new();
    head.world.lease(&Ask::os(mac(17)));
    let mut got = head.ask(5, CHECKPOINT);
    let (more, wanted) = head.serve(None);
    got.extend(more);
    assert!(!answered(&got), "the journal is not written yet");
    let [Wanted::Count, Wanted::Write(path, state)] = wanted.as_slice() else { panic!("{wanted:?}") };
    let shown: Value = serde_json::from_str(state).unwrap();
    assert_eq!((path.as_str(), &shown["kernel"][0][1], &shown["open_files"]), (STATE, &Value::from(3), &Value::from(2)));
    assert_eq!((&shown["machines"][0]["number"], &shown["machines"][0]["stage"]), (&Value::from(17), &Value::from("up")));
    let (is, said) = answer_to(&head.world.handle(Input::Compacted), 5);
    assert!(is == "done" && said.contains("written to /run/muster/state.json") && said.contains("the journal was rewritten"), "{said}");

    head.disk = Disk::Fails;
    head.ask(5, CHECKPOINT);
    head.serve(None);
    let (is, said) = answer_to(&head.world.handle(Input::Compacted), 5);
    assert!(is == "error" && said.contains("the disk of /etc failed") && said.contains("check its disk"), "{said}");
    head.disk = Disk::Answers;
    head.ask(5, CHECKPOINT);
    head.serve(None);
    let why = "the journal was not rewritten: no space is left";
    let (is, said) = answer_to(&head.world.handle(Input::NotCompacted { why }), 5);
    assert!(is == "error" && said.contains(why), "{said}");
}

/// A compaction that had begun before says nothing of now.
#[test]
fn a_checkpoint_waits_for_a_compaction_of_its_own() {
    let mut head = Head::new();
    head.world.server.checkpoint();
    head.world.advance(50);
    head.ask(5, CHECKPOINT);
    head.serve(None);
    assert!(!answered(&head.world.handle(Input::Compacted)));
    head.world.advance(50);
    assert_eq!(answer_to(&head.world.handle(Input::Compacted), 5).0, "done");
}

#[test]
fn commands_take_turns_and_signals_that_wait_are_one() {
    let mut head = Head::new();
    let new = text("[cluster]\nnode0 = \"10.54.1.0\"\n");
    head.ask(5, RELOAD);
    head.world.advance(10);
    for _ in 0..9 {
        head.world.handle(Input::Command(Command::Reload(Reload::Stay)));
        head.ask(6, RELOAD);
    }
    let (got, wanted) = head.serve(Some(&new));
    assert_eq!(wanted.iter().filter(|wanted| matches!(wanted, Wanted::Read(_))).count(), 1 + 1 + 9);
    let answers = |by| got.iter().filter(|got| matches!(got, Got::Write(to, _) if *to == conn(by))).count();
    assert_eq!((answers(5), answers(6)), (1, 9));

    for _ in 0..WAITING {
        assert!(!answered(&head.ask(6, RELOAD)));
    }
    let (is, said) = answer_to(&head.ask(7, RELOAD), 7);
    assert!(is == "error" && said.contains("the daemon is busy"), "{said}");
}

#[test]
fn to_end_goes_first_and_waits_for_the_disk() {
    let mut head = Head::new();
    head.world.syncs = false;
    head.ask(5, RELOAD);
    head.world.advance(10);
    let (read, _) = head.world.wanted.remove(0);
    head.world.handle(Input::Command(Command::Leave));
    head.world.handle(Input::Command(Command::Leave));
    // What the reload had asked for is not what the end waits for.
    head.world.done(read, Ok(TaskOutcome::Text { text: None, links: &[] }));
    let (_, wanted) = head.serve(None);
    assert!(matches!(wanted.as_slice(), [Wanted::Count, Wanted::Write(path, _)] if path == STATE), "{wanted:?}");
    // What an operator changes must be on disk as well.
    head.ask(6, r#"{"do":"change","change":{"what":"set","number":40,"reserve":true}}"#);
    head.world.handle(Input::Compacted);
    assert_eq!(head.world.wanted, []);
    head.world.sync();
    assert_eq!(head.world.wanted, [(0, Wanted::Leave)]);
}

#[test]
fn a_disk_that_hangs_does_not_keep_it() {
    let mut head = Head::new();
    head.disk = Disk::Hangs;
    head.world.handle(Input::Command(Command::Leave));
    let (_, wanted) = head.serve(None);
    assert!(!wanted.contains(&Wanted::Leave));
    head.world.advance(LAST.as_millis() as u64);
    assert_eq!(head.world.wanted, [(0, Wanted::Leave)]);
}

#[test]
fn an_answer_that_is_too_long_says_how_it_ended() {
    let mut head = Head::new();
    let macs = |n: u32| [1, 2].map(|card| format!("\"02:00:00:{card:02}:{:02x}:{:02x}\"", n / 256, n % 256)).join(", ");
    let many: String = (100..900).map(|n| format!("[[node]]\nnumber = {n}\nmacs = [{}]\n", macs(n))).collect();
    let (is, said) = head.say(RELOAD, &text(&format!("[cluster]\nnode0 = \"10.54.1.0\"\n{many}")));
    assert!(
        is == "done" && said.contains("now in force") && said.contains("node n100") && said.len() <= control::LINE_MAX,
        "{}",
        said.len()
    );
    assert!(head.world.server.roll().lots().lot(Number(899)).is_some_and(|lot| lot.is_occupied()));
    assert_eq!(cut("y".to_string() + &"é".repeat(WHY_MAX)).len(), WHY_MAX - 1 + "...".len(), "no letter is cut in two");
    assert_eq!(cut("y".repeat(WHY_MAX)).len(), WHY_MAX);
}
