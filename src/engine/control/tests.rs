use crate::base::machine::StreamEvent;
use crate::base::time::{Instant, Now};
use crate::config::{Config, Override};
use crate::engine::server::Server;
use crate::engine::testing::{Ask, Got, World, config, conn, guest, ip, mac};
use crate::roll::plan::AddressPlan;
use crate::roll::recent::RECENT;
use crate::wire::control::{LotKind, MachineRow, NodeDetail, NodeRow, NodeState};

use super::*;

mod changes;

/// Asks on a connection; the reply, and whatever else came out.
fn ask(world: &mut World, by: u64, request: &str) -> Reply {
    let mut got = world.operator(conn(by), StreamEvent::Bytes(request.as_bytes()));
    if !got.iter().any(|got| matches!(got, Got::Write(to, _) if *to == conn(by))) {
        // A change is answered when its record is on disk.
        got.extend(world.advance(1));
    }
    let lines = written(&got, by);
    assert!(lines.len() == 1 && lines[0].ends_with('\n') && lines[0].len() <= control::LINE_MAX, "{got:?}");
    serde_json::from_str(&lines[0]).unwrap()
}

fn rows(world: &mut World, request: &str) -> Vec<NodeRow> {
    match ask(world, 0, request) {
        Reply::Nodes(nodes) => nodes.rows,
        other => panic!("{other:?}"),
    }
}

fn error(world: &mut World, request: &str) -> String {
    match ask(world, 0, request) {
        Reply::Error(rejection) => rejection.to_string(),
        other => panic!("{other:?}"),
    }
}

fn node(world: &mut World, number: u32) -> NodeDetail {
    match ask(world, 0, &format!(r#"{{"do":"node-show","number":{number}}}"#)) {
        Reply::Node(node) => *node,
        other => panic!("{other:?}"),
    }
}

fn states(world: &mut World) -> Vec<(NodeState, u32, u32)> {
    match ask(world, 0, r#"{"do":"states"}"#) {
        Reply::States(states) => {
            assert_eq!(states.next, None);
            states.runs.iter().map(|run| (run.state, run.first, run.last)).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// What was written to a connection.
fn written(got: &[Got], to: u64) -> Vec<String> {
    let own = got
        .iter()
        .filter_map(|got| if let Got::Write(conn, line) = got { (*conn == super::super::testing::conn(to)).then_some(line) } else { None });
    own.map(|line| String::from_utf8_lossy(line).into_owned()).collect()
}

fn events(got: &[Got], to: u64) -> Vec<Reply> {
    written(got, to).iter().flat_map(|lines| lines.lines()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn states_fold_and_follow_a_boot() {
    let mut world = World::settled(&config());
    use NodeState::{Booting, Down, Stuck, Up, Vacant};
    assert_eq!(states(&mut world), [(Vacant, 0, 16), (Down, 17, 17), (Vacant, 18, 22), (Down, 23, 23), (Vacant, 24, 199)]);
    world.lease(&Ask::os(mac(23)));
    world.reply(&Ask::rom(mac(17)).discover());
    assert_eq!(states(&mut world)[1..4], [(Booting, 17, 17), (Vacant, 18, 22), (Up, 23, 23)]);
    world.advance(16_000);
    assert_eq!(states(&mut world)[1], (Stuck, 17, 17));
    let row = rows(&mut world, r#"{"do":"node-list","nodes":"@stuck"}"#).remove(0);
    assert_eq!((row.number, row.stage.as_str()), (17, "stuck: no REQUEST for the offer"));
    assert_eq!((row.mac, row.macs, row.firmware.as_str()), (Some(mac(17)), 2, "rom bios"));
    world.reply(&Ask::rom(mac(17)).discover());
    assert_eq!(states(&mut world)[1].0, Stuck, "an offer again is no step");
    world.lease(&Ask::rom(mac(17)));
    assert_eq!(states(&mut world)[1].0, Booting);
}

#[test]
fn lists_show_what_was_selected_page_by_page() {
    let mut world = World::settled(&config());
    let numbers = |world: &mut World, request: &str| rows(world, request).iter().map(|row| row.number).collect::<Vec<_>>();
    assert_eq!(numbers(&mut world, r#"{"do":"node-list"}"#), [17, 23]);
    assert_eq!(numbers(&mut world, r#"{"do":"node-list","nodes":"n[16-18],@up"}"#), [16, 17, 18]);
    assert_eq!(numbers(&mut world, r#"{"do":"node-list","nodes":"@all","from":18}"#), [23]);
    let Reply::Nodes(page) = ask(&mut world, 0, r#"{"do":"node-list","limit":1}"#) else { panic!() };
    assert_eq!((page.rows.len(), page.next), (1, Some(23)));
    let Reply::Nodes(page) = ask(&mut world, 0, r#"{"do":"node-list","nodes":"0-199","limit":1000}"#) else { panic!() };
    assert_eq!((page.rows.len(), page.next), (64, Some(64)), "a page is bounded whatever is asked for");
    assert!(error(&mut world, r#"{"do":"node-list","nodes":"190-200"}"#).contains("nodes are n0 to n199"));
    assert!(error(&mut world, r#"{"do":"node-list","nodes":"c01"}"#).contains("as in n5"));
    assert!(error(&mut world, r#"{"do":"node-show","number":200}"#).contains("does not exist"));
}

#[test]
fn long_lot_tables_are_walked_in_steps() {
    let mut config = config();
    config.plan = AddressPlan::new(config.plan.node0(), 60_000);
    let mut world = World::settled(&config);
    let (mut from, mut pages, mut total) = (Some(0), 0, 0);
    while let Some(at) = from {
        let Reply::States(page) = ask(&mut world, 0, &format!(r#"{{"do":"states","from":{at}}}"#)) else { panic!() };
        total += page.runs.iter().map(|run| run.last - run.first + 1).sum::<u32>();
        (from, pages) = (page.next, pages + 1);
    }
    assert_eq!((total, pages), (60_000, 59));
    let Reply::Nodes(far) = ask(&mut world, 0, r#"{"do":"node-list","nodes":"50000"}"#) else { panic!() };
    assert_eq!((far.rows.len(), far.rows[0].number, far.next), (1, 50_000, None), "numbers alone are found at once");
    let Reply::Nodes(apart) = ask(&mut world, 0, r#"{"do":"node-list","nodes":"5,50000"}"#) else { panic!() };
    assert_eq!((apart.rows.len(), apart.next), (1, Some(1029)));
    let Reply::States(beyond) = ask(&mut world, 0, r#"{"do":"states","from":4294967295}"#) else { panic!() };
    assert_eq!((beyond.runs.len(), beyond.next), (0, None));
}

#[test]
fn a_node_is_shown_with_its_boot_and_what_it_is_given() {
    let mut config = config();
    let special = |first, last, kernel: Option<&str>, args: Option<&str>| Override {
        nodes: vec![(Number(first), Number(last))],
        program: vec![],
        script: None,
        kernel: kernel.map(Into::into),
        initrd: None,
        args: args.map(Into::into),
        lease: None,
        options: vec![(150, vec![10, 0, 0, 1])],
    };
    config.overrides = vec![special(0, 31, Some("early"), Some("storage")), special(17, 17, Some("late"), None)];
    let mut world = World::settled(&config);
    world.lease(&Ask::rom(mac(17)));
    world.advance(1500);
    let shown = node(&mut world, 17);
    assert_eq!((shown.name.as_str(), shown.address, shown.state), ("n17", Some(ip(10, 54, 1, 17)), NodeState::Booting));
    assert_eq!((shown.lot.kind, shown.lot.macs.as_slice()), (LotKind::Occupied, [mac(17), mac(117)].as_slice()));
    let boot = &shown.boots[0];
    assert_eq!((boot.stage.as_str(), boot.interface.as_str(), boot.since_ms), ("leased", "eth1", 1500));
    let steps: Vec<_> = boot.steps.iter().map(|step| (step.stage.as_str(), step.ago_ms)).collect();
    assert_eq!(steps, [("discover", 1500), ("offered", 1500), ("leased", 1500)]);
    assert!(boot.story.starts_with("discover (bios) -> offer 10.54.1.17"));
    let mut keys: Vec<&str> = shown.given.iter().map(|given| given.key.as_str()).collect();
    keys.sort_unstable();
    assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "each value once: {keys:?}");
    let given = |key: &str| shown.given.iter().find(|given| given.key == key).map(|given| (given.value.as_str(), given.from.as_str()));
    assert_eq!(given("kernel"), Some(("\"late\"", "[[for]]")));
    assert_eq!(given("args"), Some(("\"storage\"", "[[for]]")));
    assert_eq!(given("program.bios"), Some(("\"undionly.kpxe\"", "[boot]")));
    assert_eq!(given("lease"), Some(("\"1h\"", "default")));
    assert_eq!(given("options.150"), Some(("\"10.0.0.1\"", "[[for]]")));
    assert_eq!(node(&mut world, 3).lot.kind, LotKind::Vacant);
}

#[test]
fn guests_are_those_without_a_number() {
    let mut world = World::settled(&config());
    world.lease(&Ask::rom(mac(17)));
    world.lease(&Ask::os(mac(1)));
    world.lease(&Ask::infiniband(b"\xff\x01\x02"));
    let Reply::Guests(guests) = ask(&mut world, 0, r#"{"do":"guest-list"}"#) else { panic!() };
    let shown: Vec<_> =
        guests.rows.iter().map(|MachineRow { id, interface, stage, .. }| (id.as_str(), interface.as_str(), stage.as_str())).collect();
    assert_eq!(shown, [("02:00:00:00:00:01", "eth1", "up"), ("ff0102", "ib0", "up")]);
    assert!(guests.rows[0].address.is_some_and(|address| (1..=8).any(|n| guest(n) == address)) && guests.rows[0].lease > 500);
    let Reply::Guests(page) = ask(&mut world, 0, r#"{"do":"guest-list","limit":1}"#) else { panic!() };
    let Reply::Guests(rest) = ask(&mut world, 0, &format!(r#"{{"do":"guest-list","from":{}}}"#, page.next.unwrap())) else { panic!() };
    assert_eq!((page.rows.len(), rest.rows.len()), (1, 1));
    let Reply::Status(status) = ask(&mut world, 0, r#"{"do":"status"}"#) else { panic!() };
    assert_eq!((status.guests, status.clients, status.nodes, status.networks.len()), (2, 3, 200, 3));
}

#[test]
fn watchers_hear_every_step_and_others_hear_nothing() {
    let mut world = World::settled(&config());
    assert_eq!(ask(&mut world, 3, r#"{"do":"watch"}"#), Reply::Watching);
    assert_eq!(ask(&mut world, 3, r#"{"do":"watch"}"#), Reply::Watching, "twice is once");
    world.lease(&Ask::os(mac(23)));
    let got = world.advance(100);
    let heard: Vec<_> = events(&got, 3).into_iter().map(|reply| if let Reply::Event(event) = reply { event } else { panic!() }).collect();
    let texts: Vec<_> = heard.iter().map(|event| (event.number, event.stage.as_str(), event.text.as_str())).collect();
    assert_eq!(
        texts[..3],
        [(Some(23), "discover", "discover (os)"), (Some(23), "offered", "offer 10.54.1.23"), (Some(23), "up", "lease 10.54.1.23")]
    );
    assert!(texts[3].2.starts_with("up (") && heard.iter().all(|event| event.time == 1_700_000_000 && !event.trouble));
    assert_eq!(got.iter().filter(|got| matches!(got, Got::Write(..))).count(), 1, "gathered, and for one connection only");
    world.operator(conn(3), StreamEvent::Closed);
    world.lease(&Ask::os(mac(17)));
    assert_eq!(events(&world.advance(100), 3), []);
}

#[test]
fn a_watcher_that_is_far_behind_hears_how_much_it_has_lost() {
    let mut world = World::settled(&config());
    ask(&mut world, 0, r#"{"do":"watch"}"#);
    let before = world.client(mac(23)).is_some();
    for _ in 0..RECENT {
        world.lease(&Ask::os(mac(23)));
        world.ask(&Ask::os(mac(23)).release(ip(10, 54, 1, 23)));
    }
    let heard = events(&world.advance(2000), 0);
    let lost: u64 = heard.iter().map(|reply| if let Reply::Lost { count } = reply { *count } else { 0 }).sum();
    let told = heard.iter().filter(|reply| matches!(reply, Reply::Event(_))).count();
    assert!(!before && lost >= 2 * RECENT as u64 && told == RECENT, "{lost} lost, {told} told");
}

#[test]
fn changes_are_looked_at_before_the_roll_is() {
    let mut world = World::settled(&config());
    let mut change = |change: &str| error(&mut world, &format!(r#"{{"do":"change","change":{change}}}"#));
    for (wish, words) in [
        (r#"{"what":"set","number":200,"reserve":true}"#, "does not exist"),
        (r#"{"what":"set","number":1}"#, "no change is given"),
        (r#"{"what":"set","number":1,"macs":["ff:ff:ff:ff:ff:ff"]}"#, "is not a network card's address"),
        (r#"{"what":"set","number":1,"macs":[],"add":["02:00:00:00:00:01"]}"#, "--mac excludes --add"),
        (r#"{"what":"out","nodes":"@up"}"#, "a group"),
        (r#"{"what":"out","nodes":"5-3"}"#, "write 3-5"),
        (r#"{"what":"import","entries":[{"number":900,"macs":[]}]}"#, "does not exist"),
        (r#"{"what":"replace","number":23,"by":{"mac":"01:00:00:00:00:00"}}"#, "is not a network card's address"),
        (r#"{"what":"enlist","guest":"x","number":700}"#, "does not exist"),
    ] {
        let why = change(wish);
        assert!(why.contains(words), "{wish}: {why}");
    }
}

#[test]
fn nothing_that_is_sent_panics() {
    let mut world = World::settled(&config());
    for line in [b"".as_slice(), b"\xff\xfe", b"{}", b"[]", b"{\"do\":7}", &[b'['; 5000], b"{\"do\":\"node-show\",\"number\":-1}"] {
        let got = world.operator(conn(15), StreamEvent::Bytes(line));
        assert!(
            matches!(got.as_slice(), [Got::Write(to, line)] if *to == conn(15) && String::from_utf8_lossy(line).contains("\"is\":\"error\"")),
            "{got:?}"
        );
    }
    world.operator(conn(200), StreamEvent::Bytes(br#"{"do":"watch"}"#));
    world.operator(conn(200), StreamEvent::Closed);
}

/// What was up before a restart is so for as long as its lease may last; a machine that has passed and waits is told so.
#[test]
fn nodes_stay_up_over_a_restart_of_the_daemon() {
    let lines = ["2026-11-23T15:34:10Z n17 up", "2026-11-23T15:34:10Z n23 loading"];
    let now = Now { at: Instant::from_millis(50_000), unix: 1_800_000_000 };
    let mut world = World::of(Server::restored(&config(), 7, now, lines.into_iter()).unwrap(), now);
    assert_eq!(states(&mut world)[1..4], [(NodeState::Up, 17, 17), (NodeState::Vacant, 18, 22), (NodeState::Down, 23, 23)]);
    let stages: Vec<String> = rows(&mut world, r#"{"do":"node-list"}"#).into_iter().map(|row| row.stage).collect();
    assert_eq!(stages, ["up before the restart", "loading before the restart"]);
    world.advance(13 * 3_600_000);
    assert_eq!(states(&mut world)[1], (NodeState::Down, 17, 17), "nobody has renewed that lease");
}
