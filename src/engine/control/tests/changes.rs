//! What operators change, take back, and are refused.

use super::*;
use crate::roll::lot::LotState;
use crate::roll::plan::Number;
use crate::roll::ruling::Numbering;
use crate::wire::control::Changed;
use crate::wire::report::{Report, ReportVerdict};

fn passed(n: u8, port: &str) -> Ask {
    let mut report = Report { verdict: ReportVerdict::Passed, ..Report::EMPTY };
    report.macs.push(mac(n));
    let mut buf = [0; 255];
    let len = report.write(&mut buf).unwrap();
    let ask = Ask::os(mac(n)).with(224, &buf[..len]);
    let relay = [&[1, port.len() as u8], port.as_bytes()].concat();
    if port.is_empty() { ask } else { ask.with(82, &relay) }
}

fn changed(world: &mut World, change: &str) -> Changed {
    match ask(world, 0, &format!(r#"{{"do":"change","change":{change}}}"#)) {
        Reply::Changed(changed) => changed,
        other => panic!("{change}: {other:?}"),
    }
}

fn refused(world: &mut World, change: &str) -> String {
    error(world, &format!(r#"{{"do":"change","change":{change}}}"#))
}

fn macs_of(world: &World, number: u32) -> Vec<u8> {
    let lot = world.server.roll().lots().lot(Number(number)).unwrap();
    lot.fingerprint.macs.as_slice().iter().map(|mac| mac.0[5]).collect()
}

fn state_of(world: &World, number: u32) -> LotState {
    world.server.roll().lots().lot(Number(number)).unwrap().state
}

#[test]
fn a_lot_is_set_moved_and_set_back() {
    let mut world = World::settled(&config());
    let done = changed(&mut world, r#"{"what":"set","number":5,"macs":["02:00:00:00:00:01","02:00:00:00:00:02"]}"#);
    assert_eq!((done.count, done.nodes.as_str(), macs_of(&world, 5)), (1, "5", vec![1, 2]));
    assert_eq!(world.lease(&Ask::os(mac(2))), ip(10, 54, 1, 5));
    let done = changed(&mut world, r#"{"what":"set","number":7,"macs":["02:00:00:00:00:02"]}"#);
    assert_eq!((done.nodes.as_str(), macs_of(&world, 5), macs_of(&world, 7)), ("5,7", vec![1], vec![2]));
    assert!(done.notes[0].contains("n5 loses 02:00:00:00:00:02"), "{done:?}");
    assert_eq!(changed(&mut world, r#"{"what":"undo"}"#).nodes, "5,7");
    assert_eq!((macs_of(&world, 5), macs_of(&world, 7)), (vec![1, 2], vec![]));
    changed(&mut world, r#"{"what":"undo"}"#);
    assert_eq!((macs_of(&world, 5), macs_of(&world, 7)), (vec![1], vec![2]), "to take back the taking back");
    changed(&mut world, r#"{"what":"set","number":5,"add":["02:00:00:00:00:09"],"remove":["02:00:00:00:00:01"]}"#);
    assert_eq!(macs_of(&world, 5), [9]);
    assert!(refused(&mut world, r#"{"what":"set","number":5,"remove":["02:00:00:00:00:09"]}"#).contains("node out n5"));
    assert!(refused(&mut world, r#"{"what":"set","number":8,"macs":["02:00:00:00:00:11"]}"#).contains("[[node]] section"));
}

#[test]
fn a_dry_change_changes_nothing_and_one_that_is_not_on_disk_is_not_told() {
    let mut world = World::settled(&config());
    let wish = r#"{"what":"set","number":5,"reserve":true}"#;
    match ask(&mut world, 0, &format!(r#"{{"do":"change","dry":true,"change":{wish}}}"#)) {
        Reply::Changed(changed) => assert_eq!((changed.dry, changed.count, changed.lots[0].after.kind), (true, 1, LotKind::Reserved)),
        other => panic!("{other:?}"),
    }
    assert_eq!(state_of(&world, 5), LotState::Vacant);
    world.syncs = false;
    let request = format!(r#"{{"do":"change","change":{wish}}}"#);
    let got = world.operator(conn(3), StreamEvent::Bytes(request.as_bytes()));
    assert!(matches!(&got[..], [Got::Record(line)] if line.contains("n5 reserved for=operator")), "{got:?}");
    let got = world.sync();
    assert!(
        got.iter()
            .any(|got| matches!(got, Got::Write(to, line) if *to == conn(3) && String::from_utf8_lossy(line).contains("\"count\":1"))),
        "{got:?}"
    );
}

#[test]
fn who_has_gone_is_not_told_and_the_change_stands() {
    let mut world = World::settled(&config());
    world.syncs = false;
    for (by, number) in [(3, 5), (4, 6)] {
        let request = format!(r#"{{"do":"change","change":{{"what":"set","number":{number},"reserve":true}}}}"#);
        assert!(written(&world.operator(conn(by), StreamEvent::Bytes(request.as_bytes())), by).is_empty());
    }
    world.operator(conn(3), StreamEvent::Closed);
    let got = world.sync();
    assert!(written(&got, 3).is_empty() && written(&got, 4).len() == 1, "{got:?}");
    assert!([5, 6].map(|number| state_of(&world, number)).iter().all(|state| *state != LotState::Vacant));
}

#[test]
fn a_replaced_machine_leaves_its_number_to_the_next() {
    let mut world = World::settled(&config());
    assert_eq!(world.lease(&passed(1, "")), ip(10, 54, 1, 0));
    changed(&mut world, r#"{"what":"replace","number":0}"#);
    assert_eq!(state_of(&world, 0), LotState::Reserved(crate::roll::lot::Wait::Next));
    world.advance(10_000);
    // The old one is silent: whether it is there is asked before its address goes on, and the new one asks twice.
    assert_eq!((world.muster_in(&passed(2, "")), macs_of(&world, 0)), ((ip(10, 54, 1, 0), 2), vec![2]));
    assert!(refused(&mut world, r#"{"what":"replace","number":9}"#).contains("--reserve"));
    let guest = world.lease(&Ask::os(mac(3)));
    changed(&mut world, &format!(r#"{{"what":"replace","number":0,"by":{{"guest":"{guest}"}}}}"#));
    assert_eq!(macs_of(&world, 0), [3]);
    assert!(refused(&mut world, r#"{"what":"replace","number":0,"by":{"guest":"10.9.9.9"}}"#).contains("muster guest list"));
}

#[test]
fn nodes_go_out_together_and_come_back() {
    let mut world = World::settled(&config());
    for n in 1..=3 {
        changed(&mut world, &format!(r#"{{"what":"set","number":{n},"macs":["02:00:00:00:00:0{n}"]}}"#));
    }
    let done = changed(&mut world, r#"{"what":"out","nodes":"n[1-4]"}"#);
    assert_eq!((done.count, done.nodes.as_str(), done.notes[0].as_str()), (3, "1-3", "n4 is vacant already"));
    assert_eq!(world.server.roll().lots().retired_from(mac(2)), Some(Number(2)));
    assert!(refused(&mut world, r#"{"what":"out","nodes":"17"}"#).contains("[[node]] section"));
    assert_eq!(changed(&mut world, r#"{"what":"undo"}"#).count, 3);
    assert_eq!((macs_of(&world, 2), world.server.roll().lots().retired_from(mac(2))), (vec![2], None));
    changed(&mut world, r#"{"what":"out","nodes":"1"}"#);
    changed(&mut world, r#"{"what":"set","number":1,"macs":["02:00:00:00:00:05"]}"#);
    changed(&mut world, r#"{"what":"out","nodes":"2"}"#);
    changed(&mut world, r#"{"what":"undo"}"#);
    assert_eq!((macs_of(&world, 1), macs_of(&world, 2)), (vec![5], vec![2]), "the last change alone");
}

#[test]
fn guests_that_wait_are_numbered_together_by_their_switch_ports() {
    let mut world = World::settled(&Config { numbering: Numbering::Ordered, ..config() });
    for (n, port) in [(1, "eth1/10"), (2, "eth1/2"), (3, "eth0/20")] {
        assert!(!world.lease(&passed(n, port)).octets().starts_with(&[10, 54, 1]));
    }
    match ask(&mut world, 0, r#"{"do":"guest-list"}"#) {
        Reply::Guests(guests) => assert!(guests.rows.iter().all(|row| row.verdict.as_deref().is_some_and(|why| why.contains("waits")))),
        other => panic!("{other:?}"),
    }
    let done = changed(&mut world, r#"{"what":"enlist","guest":"@held"}"#);
    assert_eq!((done.nodes.as_str(), done.notes[0].as_str()), ("0-2", "numbered by switch port"));
    assert_eq!([0, 1, 2].map(|n| macs_of(&world, n)), [[3], [2], [1]]);
    assert!(refused(&mut world, r#"{"what":"enlist","guest":"@held"}"#).contains("no guest waits"));
    // One that was not tested, by the operator's word.
    world.lease(&Ask::os(mac(4)));
    assert_eq!(changed(&mut world, r#"{"what":"enlist","guest":"02:00:00:00:00:04"}"#).nodes, "3");
    world.lease(&Ask::os(mac(5)));
    assert!(refused(&mut world, r#"{"what":"enlist","guest":"02:00:00:00:00:05","number":3}"#).contains("--guest"));
}

#[test]
fn what_is_imported_contradicts_nothing() {
    let mut world = World::settled(&config());
    changed(&mut world, r#"{"what":"set","number":5,"macs":["02:00:00:00:00:01"]}"#);
    let entries = r#"[{"number":5,"macs":["02:00:00:00:00:02"]},{"number":6,"macs":["02:00:00:00:00:01"]},
        {"number":7,"macs":["02:00:00:00:00:03"]},{"number":8,"macs":["02:00:00:00:00:03"]},{"number":5,"macs":["02:00:00:00:00:01","02:00:00:00:00:09"]}]"#;
    let done = changed(&mut world, &format!(r#"{{"what":"import","entries":{entries}}}"#));
    assert_eq!((done.nodes.as_str(), done.notes.len()), ("5,7", 3), "{done:?}");
    assert_eq!((macs_of(&world, 5), macs_of(&world, 7)), (vec![1, 9], vec![3]));
    assert_eq!(changed(&mut world, r#"{"what":"undo"}"#).nodes, "5,7");
}

#[test]
fn an_import_in_parts_is_one_change() {
    let mut world = World::settled(&config());
    let part = |more: bool, n: u8, mac: u8| {
        format!(r#"{{"what":"import","more":{more},"entries":[{{"number":{n},"macs":["02:00:00:00:00:{mac:02x}"]}}]}}"#)
    };
    let dry = |more, n, mac| format!(r#"{{"do":"change","dry":true,"change":{}}}"#, part(more, n, mac));
    assert!(matches!(ask(&mut world, 0, &dry(true, 4, 1)), Reply::Changed(Changed { dry: true, count: 0, .. })));
    match ask(&mut world, 0, &dry(false, 5, 1)) {
        Reply::Changed(changed) => assert_eq!((changed.nodes.as_str(), changed.notes.len()), ("4", 1), "{changed:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(changed(&mut world, &part(true, 4, 1)).count, 0);
    assert_eq!(state_of(&world, 4), LotState::Vacant, "nothing is done before all of it is there");
    // Another operator, and one who goes.
    let other = format!(r#"{{"do":"change","change":{}}}"#, part(false, 6, 3));
    assert!(matches!(ask(&mut world, 1, &other), Reply::Error(rejection) if rejection.why.contains("another import")));
    world.operator(conn(0), StreamEvent::Closed);
    assert!(matches!(ask(&mut world, 1, &other), Reply::Changed(changed) if changed.nodes == "6"));
    changed(&mut world, &part(true, 4, 1));
    changed(&mut world, &part(true, 5, 2));
    assert_eq!(changed(&mut world, &part(false, 4, 4)).nodes, "4-5");
    assert_eq!((macs_of(&world, 4), macs_of(&world, 5)), (vec![1], vec![2]), "another machine lives in n4 by then");
    assert_eq!(changed(&mut world, r#"{"what":"undo"}"#).nodes, "4-5");
}

/// The order of arrival is that of the first sight, whatever the machines have done since; and a change is taken back after they came up.
#[test]
fn who_came_first_is_numbered_first_and_may_be_taken_back() {
    let mut world = World::settled(&Config { numbering: Numbering::Ordered, ..config() });
    let guests = [5, 3, 4].map(|n| {
        world.advance(1000);
        world.lease(&passed(n, ""))
    });
    world.advance(5000);
    world.lease(&passed(5, ""));
    let done = changed(&mut world, r#"{"what":"enlist","guest":"@held"}"#);
    assert_eq!((done.nodes.as_str(), [0, 1, 2].map(|n| macs_of(&world, n))), ("0-2", [vec![5], vec![3], vec![4]]));
    let never = |world: &mut World| rows(world, r#"{"do":"node-list","nodes":"@never"}"#).iter().map(|row| row.number).collect::<Vec<_>>();
    assert!(never(&mut world).is_empty(), "they have not had the time to ask");
    world.advance(300_000);
    assert_eq!(world.reply(&Ask::os(mac(5)).renew(guests[0])).kind, Some(crate::wire::dhcp::MessageType::Nak));
    assert_eq!(world.lease(&passed(5, "")), ip(10, 54, 1, 0));
    world.handle(crate::base::machine::Input::Arp { link: 0, mac: mac(5), sender: ip(10, 54, 1, 0) });
    assert!(never(&mut world).is_empty(), "their leases last");
    world.advance(300_000);
    assert_eq!(never(&mut world), [1, 2]);
    assert!(node(&mut world, 1).lot.facts.iter().any(|(name, value)| name == "came up" && value.starts_with("never")));
    match ask(&mut world, 0, r#"{"do":"status"}"#) {
        Reply::Status(status) => assert_eq!((status.never, status.delayed, status.new_numbers), (2, 0, 600)),
        other => panic!("{other:?}"),
    }
    assert_eq!(changed(&mut world, r#"{"what":"undo"}"#).nodes, "0-2", "though one of them came up");
    assert!(never(&mut world).is_empty());
}

/// Evidence is a machine's, not a number's: another one in the lot brings its own.
#[test]
fn another_machine_brings_its_own_evidence() {
    let mut world = World::settled(&config());
    let report = |macs: &[u8], serial: &[u8]| {
        let serial = crate::wire::report::ReportText::new(serial);
        let mut report = Report { serial, verdict: ReportVerdict::Passed, ..Report::EMPTY };
        assert!(macs.iter().all(|n| report.macs.push(mac(*n))));
        let mut buf = [0; 255];
        let len = report.write(&mut buf).unwrap();
        Ask::os(mac(macs[0])).with(224, &buf[..len])
    };
    let serial = |world: &World| world.server.roll().lots().lot(Number(0)).unwrap().fingerprint.serial.to_string();
    assert_eq!(world.muster_in(&report(&[1], b"A")).0, ip(10, 54, 1, 0));
    changed(&mut world, r#"{"what":"set","number":0,"add":["02:00:00:00:00:02"]}"#);
    assert_eq!(serial(&world), "A", "it is the same machine");
    changed(&mut world, r#"{"what":"set","number":0,"macs":["02:00:00:00:00:08"]}"#);
    assert_eq!(serial(&world), "");
    world.advance(10_000);
    assert_eq!(world.muster_in(&report(&[8, 9], b"B")).0, ip(10, 54, 1, 0));
    assert_eq!((serial(&world), macs_of(&world, 0)), ("B".to_string(), vec![8, 9]));
}
