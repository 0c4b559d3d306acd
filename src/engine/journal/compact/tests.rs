use crate::base::addr::Mac;
use crate::base::limits;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::base::machine::{ConnId, Input, Machine, Stream, StreamEvent};
use crate::base::outbox::{JournalOp, Output};
use crate::base::time::Instant;
use crate::engine::server::Server;
use crate::engine::testing::{Ask, Got, World, config, guest as guest_address, mac};
use crate::roll::client::{ClientId, Identity};
use crate::roll::guests::Lease;
use crate::roll::journal::crc32;
use crate::roll::lot::Label;
use crate::wire::dhcp::code;
use crate::wire::report::{Report, ReportText, ReportVerdict};

use super::*;

fn now(unix: u64) -> Now {
    Now { at: Instant::from_millis(50_000), unix }
}

fn restored(unix: u64, lines: &[String]) -> World {
    let server = Server::restored(&config(), 7, now(unix), lines.iter().map(String::as_str)).unwrap();
    World::of(server, now(unix))
}

fn records(got: Vec<Got>) -> Vec<String> {
    got.into_iter().filter_map(|got| if let Got::Record(line) = got { Some(line) } else { None }).collect()
}

/// A machine that says this of itself, through a relay that says this of its port.
fn saying(n: u8, word: &[u8], passed: bool) -> Ask {
    let test = ReportText::new(word);
    let verdict = if passed { ReportVerdict::Passed } else { test.map_or(ReportVerdict::Untested, ReportVerdict::Failed) };
    let mut report = Report { serial: ReportText::new(word), verdict, ..Report::EMPTY };
    report.macs.push(mac(n));
    let mut buf = [0; 255];
    let len = report.write(&mut buf).unwrap();
    let circuit = [&[1, word.len() as u8], word].concat();
    Ask::os(mac(n)).with(224, &buf[..len]).with(code::RELAY_AGENT_INFO, &circuit)
}

#[test]
fn whatever_a_machine_says_of_itself_the_next_daemon_starts_and_knows_it() {
    let words: [&[u8]; 9] =
        [b";", b"a;n5 vacant", b"X; n6 vacant", b"%", b"%3B", b"a=b ~01234567", b"\"';$(reboot)`", b"${x}\\n", b"# guest"];
    for word in words {
        let mut world = World::settled(&config());
        let mut lines = Vec::new();
        for (n, passed) in [(1, true), (2, false)] {
            let ask = saying(n, word, passed);
            let got = world.ask(&ask.discover());
            let offered = crate::engine::testing::only_reply(&got).unwrap().yiaddr();
            lines.extend(records(got));
            lines.extend(records(world.ask(&ask.select(offered))));
        }
        assert!(lines.len() >= 2, "{lines:?}");
        let again = restored(world.now.unix, &lines);
        let (lots, before) = (again.server.roll().lots(), world.server.roll().lots());
        assert!(lots.iter().eq(before.iter()), "{lines:?}");
        let lot = lots.lot(Number(0)).unwrap();
        assert_eq!(lot.fingerprint.serial, Label::new(word));
        assert!(word.contains(&b' ') || lot.fingerprint.port == Label::new(word), "text is kept as text: {}", lot.fingerprint.port);
        let there = world.client(mac(2)).map(|client| (*client.evidence.fingerprint(), client.address())).unwrap();
        let found = again.client(mac(2)).unwrap();
        assert_eq!(
            (found.evidence.verdict(), (*found.evidence.fingerprint(), found.address())),
            (Verdict::Failed(Label::new(word)), there)
        );
        // And so when the journal is written anew.
        world.server.checkpoint();
        let compacted = restored(world.now.unix, &world.compacted());
        assert_eq!(compacted.client(mac(2)).unwrap().evidence.fingerprint(), &there.0);
        assert!(compacted.server.roll().lots().lot(Number(0)).unwrap().fingerprint == lot.fingerprint);
    }
}

#[test]
fn a_journal_of_an_older_version_keeps_all_that_it_says() {
    let old = |text: &str| format!("{text} ~{:08x}", crc32(text.as_bytes()));
    let lines = [
        old("2023-11-14T22:00:00Z n3 occupied by=passed macs=02:00:00:00:00:31 serial=A;B;n7 port=eth;1"),
        old(
            "2023-11-14T22:00:01Z n4 occupied by=passed macs=02:00:00:00:00:32 port=;; n6 occupied by=passed macs=02:00:00:00:00:33 serial=;",
        ),
        old("2023-11-14T22:13:00Z guest 10.54.250.2 02:00:00:00:00:34 until=2023-11-14T22:23:00Z verdict=failed:20;guest serial=x;"),
        old("2023-11-14T22:14:00Z n8 occupied by=passed macs=02:00:00:00:00:35"),
    ];
    let world = restored(1_700_000_000, &lines);
    let serial = |n| world.server.roll().lots().lot(Number(n)).map(|lot| lot.fingerprint.serial.as_str().to_string()).unwrap();
    assert_eq!([3, 4, 6, 8].map(serial), ["A;B;n7", "", ";", ""]);
    assert_eq!(world.server.roll().lots().occupied(), 4 + config().nodes.len());
    let guest = world.client(mac(0x34)).unwrap();
    assert_eq!((guest.evidence.verdict(), guest.evidence.fingerprint().serial.as_str()), (Verdict::Failed(Label::new(b"20;guest")), "x;"));
    // What is no such thing is refused, by its line.
    let mut broken = lines.to_vec();
    broken[1] = old("2023-11-14T22:00:01Z n4 occupied by=passed macs=02:00:00:00:00:32 port=a; x6 vacant");
    let why = Server::restored(&config(), 7, now(1_700_000_000), broken.iter().map(String::as_str)).err().unwrap();
    assert!(why.starts_with("line 2 of the journal is invalid"), "{why}");
}

/// Whatever the clock was when it was told, or is now: no lease that was told ends later than one that would be told now.
#[test]
fn no_lease_of_a_journal_outlives_one_that_is_given_now() {
    let lease = 600;
    let mut world = World::settled(&config());
    let ask = Ask::os(mac(1));
    let address = world.lease(&ask);
    world.server.checkpoint();
    let lines = world.compacted();
    let left = |world: &World, n| world.client(mac(n)).map(|client| client.binding.until().since(world.now.at).as_secs());
    for unix in [world.now.unix, world.now.unix - 86_400, 1_000] {
        let again = restored(unix, &lines);
        assert_eq!((left(&again, 1), again.client(mac(1)).unwrap().address()), (Some(lease), Some(address)), "{unix}");
    }
    let later = restored(world.now.unix + 900, &lines);
    assert!(left(&later, 1).is_some_and(|left| (290..=300).contains(&left)), "{:?}", left(&later, 1));
    assert!(restored(world.now.unix + 1201, &lines).client(mac(1)).is_none());

    // The clock is set right while it runs: what was acknowledged is still so after a crash.
    let mut world = restored(1_000, &[]);
    world.advance(2_000);
    let address = world.lease(&ask);
    world.now.unix = 1_700_000_000;
    let lines = world.compacted();
    let again = restored(1_700_000_100, &lines);
    assert_eq!(again.client(mac(1)).and_then(|client| client.address()), Some(address));
    let got = world.ask(&ask.renew(address));
    assert!(world.client(mac(1)).unwrap().binding.on_record().until >= 1_700_000_000 + lease, "{got:?}");

    // A pool full of leases that a wrong clock let end in 2099 is free again when a lease has passed, also those that rest.
    let text = |n: u8| format!("2036-01-01T00:00:00Z guest {} {} until=2099-01-01T00:00:00Z", guest_address(n), mac(0x40));
    let lines: Vec<String> = (1..=8).map(text).collect();
    let mut world = restored(1_700_000_000, &lines);
    world.advance(2_000);
    assert!(world.silence(&Ask::os(mac(9)).discover()).iter().all(|got| !matches!(got, Got::Datagram { .. })));
    world.advance(1000 * lease);
    assert!(world.lease(&Ask::os(mac(9))).octets().starts_with(&[10, 54, 250]));
    // Who renews gets a record of this time.
    let mut world = restored(1_700_000_000, &lines);
    let got = world.ask(&Ask::os(mac(0x40)).renew(guest_address(8)));
    assert!(records(got).iter().any(|line| line.contains("until=2023-11-14T22:33:20Z")) || left(&world, 0x40) == Some(lease));
    let on_record = world.client(mac(0x40)).unwrap().binding.on_record();
    assert!(on_record.until <= 1_700_000_000 + 2 * lease, "{on_record:?}");
}

#[test]
fn a_walk_begins_anew_when_a_change_of_many_lots_does() {
    let mut config = config();
    config.server.capacity = 4096;
    let mut server = Server::new(&config, 7, now(1_700_000_000));
    let (mut out, mut at) = (Outbox::new(), now(1_700_000_000));
    let mut lines: Vec<String> = Vec::new();
    let mut drain = |out: &mut Outbox| {
        let mut ended = false;
        for output in out.iter() {
            match output {
                Output::Record(JournalOp::CompactBegin) => lines.clear(),
                Output::Record(JournalOp::CompactLine { line } | JournalOp::Append { line, .. }) => {
                    lines.push(String::from_utf8_lossy(line).into_owned());
                }
                Output::Record(JournalOp::CompactEnd) => ended = true,
                _ => {}
            }
        }
        out.clear();
        (ended, lines.clone())
    };
    let import = |from: u32| {
        let entry = |n: u32| format!(r#"{{"number":{n},"macs":["02:00:00:01:00:{n:02x}"]}}"#);
        let entries: Vec<String> = (from..from + 12).map(entry).collect();
        format!(r#"{{"do":"change","change":{{"what":"import","entries":[{}]}}}}"#, entries.join(","))
    };
    operate(&mut server, at, &import(50), &mut out);
    drain(&mut out);
    at.at += Duration::from_millis(1);
    server.expire(at, &mut out);
    drain(&mut out);
    server.checkpoint();
    // There is room for a part of the walk alone.
    (0..limits::OUTPUTS - limits::OUTPUTS_PER_CALL - 4).for_each(|_| assert!(out.frame(0, |_| Some(0))));
    at.at += Duration::from_millis(1);
    server.expire(at, &mut out);
    let (ended, part) = drain(&mut out);
    assert!(!ended && !server.is_changing() && (2..8).contains(&part.len()), "{part:?}");
    operate(&mut server, at, &import(30), &mut out);
    let (_, begun) = drain(&mut out);
    assert!(server.is_changing() && begun.iter().any(|line| line.contains("change begins")), "{begun:?}");
    at.at += Duration::from_millis(1);
    server.expire(at, &mut out);
    let (ended, lines) = drain(&mut out);
    assert!(ended && !lines.iter().any(|line| line.contains("change begins")), "{lines:?}");
    assert!(lines.iter().all(|line| line.len() <= limits::JOURNAL_LINE_MAX));
    assert!(restored(at.unix, &lines).server.roll().lots().lot(Number(41)).unwrap().is_occupied());
}

fn lines_of(out: &Outbox) -> Vec<String> {
    let line = |output| match output {
        Output::Record(JournalOp::CompactLine { line }) => Some(String::from_utf8_lossy(line).into_owned()),
        _ => None,
    };
    out.iter().filter_map(line).collect()
}

/// Its machine has left an address, and takes it again at any moment of the walk, before it is promised anew: the walk tells of it.
#[test]
fn an_address_that_changes_hands_in_a_walk_is_told_of() {
    let now = Now { at: Instant::from_millis(1000), unix: 1_700_000_000 };
    let until = now.at + Duration::from_secs(300);
    for who in [Identity::Mac(mac(1)), Identity::ClientId(ClientId::new(b"ib-client"))] {
        for moment in 0..config().server.capacity + 12 {
            let mut server = Server::new(&config(), 7, now);
            let roll = server.roll_mut();
            assert!(roll.pools[0].as_mut().unwrap().rest(guest_address(5), Lease { to: who, until }));
            let (mut step, mut out, mut steps) = (Walk::Lots(199), Outbox::new(), 0);
            while step != Walk::Placing {
                if steps == moment {
                    let key = roll.admit(now.at, who).unwrap();
                    roll.pools[0].as_mut().unwrap().claim(now.at, guest_address(5), key, &who).unwrap();
                    assert!(roll.bind(key, guest_address(5)));
                }
                step = match step {
                    Walk::Lots(next) => lot(next, roll, &mut out),
                    Walk::Clients(next) => client(next, roll, now, &mut out),
                    Walk::Guests(pool, next) => guest(pool, next, roll, now, &mut out),
                    Walk::Idle | Walk::Title | Walk::Placing => unreachable!(),
                };
                steps += 1;
            }
            let told = lines_of(&out);
            assert!(told.iter().any(|line| line.contains(" guest 10.54.250.5 ")), "taken at step {moment}: {told:?}");
            let next = Server::restored(&config(), 9, now, told.iter().map(String::as_str)).unwrap();
            let pool = next.roll().pools[0].as_ref().unwrap();
            assert!(!pool.is_free(guest_address(5), &Identity::Mac(Mac([2, 0, 0, 0, 0, 99]))));
        }
    }
}

/// A line of an operator's.
fn operate(server: &mut Server, now: Now, line: &str, out: &mut Outbox) {
    let (endpoint, peer) = (server.endpoints().operators(), SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
    let stream = Stream { conn: ConnId::from_u64(0), endpoint, peer, event: StreamEvent::Bytes(line.as_bytes()) };
    server.handle(now, Input::Stream(stream), out);
}
