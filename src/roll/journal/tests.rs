use super::*;
use crate::base::addr::Mac;
use crate::roll::client::ClientId;
use crate::roll::lot::Uuid;
use proptest::prelude::*;

const NOW: u64 = 1_795_448_050;

fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

fn line(events: &[JournalEvent]) -> String {
    let mut buf = [0; limits::JOURNAL_LINE_MAX];
    let len = write(events, NOW, &mut buf).unwrap();
    String::from_utf8(buf[..len].to_vec()).unwrap()
}

fn events(line: &str) -> Result<Vec<(u64, JournalEvent)>, String> {
    let mut all = Vec::new();
    read(line, |unix, event| {
        all.push((unix, event));
        Ok(())
    })
    .map(|_| all)
}

fn fingerprint() -> Fingerprint {
    let uuid = Uuid::new(*b"0123456789abcdef");
    Fingerprint { macs: [mac(1), mac(2)].into_iter().collect(), uuid, serial: Label::new(b"S N/1"), port: Label::new(b"eth1/3") }
}

#[test]
fn events_come_back_as_they_were() {
    let lot =
        Lot { since: NOW, retired: [mac(9)].into_iter().collect(), ..Lot::default().occupied(fingerprint(), AssignedBy::Passed, NOW) };
    let guest = Guest {
        address: [10, 54, 250, 7].into(),
        identity: Identity::Mac(mac(1)),
        until: NOW + 600,
        verdict: Verdict::Failed(Label::new(b"20-memory")),
        fingerprint: fingerprint(),
    };
    let all = [
        JournalEvent::Lot(Number(23), lot),
        JournalEvent::Lot(Number(0), Lot { since: NOW, ..Lot::default() }),
        JournalEvent::Lot(Number(7), Lot::default().reserved(Wait::Next, NOW)),
        JournalEvent::Lot(Number(7), Lot::default().reserved(Wait::Mac(mac(4)), NOW)),
        JournalEvent::Lot(Number(7), Lot::default().reserved(Wait::Operator, NOW)),
        JournalEvent::Lot(Number(1), Lot { by: AssignedBy::Config(1), ..lot }),
        JournalEvent::Lot(Number(24), Lot { unseen: true, ..lot }),
        JournalEvent::Guest(guest),
        JournalEvent::Guest(Guest { fingerprint: Fingerprint::default(), verdict: Verdict::Untested, ..guest }),
        JournalEvent::Stage(Number(4), Stage::Up),
        JournalEvent::Change(Mark::Begins),
        JournalEvent::Change(Mark::Ends),
    ];
    for event in all {
        let line = line(&[event]);
        assert_eq!(check(&line), Check::Good, "{line}");
        assert!(events(&line).is_ok_and(|read| read == [(NOW, event)]), "{line}");
    }
    let two = line(&[JournalEvent::Stage(Number(4), Stage::Up), JournalEvent::Lot(Number(23), lot)]);
    assert!(events(&two).is_ok_and(|read| read.len() == 2 && read[1].1 == JournalEvent::Lot(Number(23), lot)));
    assert!(two.starts_with("2026-11-23T15:34:10Z n4 up; n23 occupied by=passed macs=02:00:00:00:00:01,02:00:00:00:00:02 uuid="), "{two}");
}

#[test]
fn the_longest_record_fits() {
    let full = |start: u8| (0..16).map(|n| Mac([0xff - 1, 0xff, 0xff, 0xff, start, n])).collect::<Macs>();
    let label = Label::new(&[b';'; 32]);
    let fingerprint = |n| Fingerprint { macs: full(n), uuid: Uuid::new(*b"0123456789abcdef"), serial: label, port: label };
    let lot = |n| Lot { retired: full(n + 1), unseen: true, ..Lot::default().occupied(fingerprint(n), AssignedBy::Config(16), NOW) };
    line(&[JournalEvent::Lot(Number(131_071), lot(1)), JournalEvent::Lot(Number(131_070), lot(3))]);
}

#[test]
fn hands_may_write_too() {
    let table = [
        ("2026-11-23T15:34:10Z n5 occupied macs=52:54:00:12:34:56", 1),
        ("  2026-11-23T15:34:10Z\tn5 vacant ; n6 reserved for=next", 2),
        ("# a remark", 0),
        ("", 0),
    ];
    for (text, count) in table {
        assert_eq!((check(text), events(text).map(|all| all.len())), (Check::HandWritten, Ok(count)), "{text}");
    }
    let bad = [
        ("yesterday n5 vacant", "is not a time"),
        ("2026-02-30T00:00:00Z n5 vacant", "is not a time"),
        ("2026-11-23T15:34:10Z", "the event is missing"),
        ("2026-11-23T15:34:10Z m5 vacant", "is not an event"),
        ("2026-11-23T15:34:10Z n05 vacant", "is not an event"),
        ("2026-11-23T15:34:10Z n5 gone", "is not a state of a number"),
        ("2026-11-23T15:34:10Z n5 occupied", "needs macs="),
        ("2026-11-23T15:34:10Z n5 occupied macs=52:54", "not a value of a MAC"),
        ("2026-11-23T15:34:10Z n5 vacant colour=red", "not a key"),
        ("2026-11-23T15:34:10Z guest 10.0.0.1", "needs MAC"),
        ("2026-11-23T15:34:10Z change its mind", "begins or ends"),
        ("2026-11-23T15:34:10Z n5 vacant; n6", "is not key=value"),
        ("2026-11-23T15:34:10Z n5 vacant; m6 vacant", "is not key=value"),
    ];
    for (text, why) in bad {
        assert!(events(text).is_err_and(|error| error.contains(why)), "{text}");
    }
}

#[test]
fn damage_shows() {
    let good = line(&[JournalEvent::Stage(Number(4), Stage::Up)]);
    for at in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[at] ^= 1;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        assert_ne!(check(&text), Check::Good, "{text}");
    }
    assert_eq!(check("2026-11-23T15:34:10Z n5\0vacant"), Check::Bad);
    assert_eq!(check(&good.replace(" ~", "~")), Check::Bad, "a checksum that lost its blank");
    assert_eq!(check(&good.replace(" ~", "\t~")), Check::Bad);
    let long = format!("2026-11-23T15:34:10Z {} vacant", "x\u{1b}".repeat(100_000));
    assert!(events(&long).is_err_and(|why| why.contains("is not an event") && why.len() < SHOWN_MAX + 100));
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}

/// As version 0.1.0 wrote what a machine said of itself.
fn as_before(event: &JournalEvent) -> String {
    let text = format!("{} {event}", Date(NOW)).replace("%3B", ";").replace("%25", "%");
    format!("{text} ~{:08x}", crc32(text.as_bytes()))
}

#[test]
fn what_an_older_version_wrote_is_read_as_it_was_meant() {
    let words = [";", "a;b", ";n5", "a;guest", "x; n5", "n7;change", "a;n5;", ";;;", "a;n5=", "%", "%3b", "100%"];
    for (serial, port) in words.iter().flat_map(|a| words.map(|b| (Label::new(a.as_bytes()), Label::new(b.as_bytes())))) {
        let fingerprint = Fingerprint { serial, port, ..fingerprint() };
        let lot = Lot { retired: [mac(9)].into_iter().collect(), ..Lot::default().occupied(fingerprint, AssignedBy::Passed, NOW) };
        let guest = Guest {
            address: [10, 54, 250, 7].into(),
            identity: Identity::Mac(mac(1)),
            until: NOW,
            verdict: Verdict::Failed(serial),
            fingerprint,
        };
        let last = Lot { retired: Macs::default(), ..lot };
        for event in [JournalEvent::Lot(Number(5), lot), JournalEvent::Lot(Number(5), last), JournalEvent::Guest(guest)] {
            let old = as_before(&event);
            assert!(events(&old).is_ok_and(|read| read == [(NOW, event)]), "{old}");
            let spelling = if old.contains(';') { Spelling::Old } else { Spelling::Good };
            assert_eq!((check(&old), read(&old, |_, _| Ok(()))), (Check::Good, Ok(spelling)), "{old}");
            // With another event behind it.
            let text = old.rsplit_once(" ~").unwrap().0;
            let two = format!("{text}; n6 vacant");
            assert!(events(&two).is_ok_and(|read| read.len() == 2 && read[0] == (NOW, event)), "{two}");
        }
    }
}

#[test]
fn a_change_that_does_not_end_counts_for_nothing() {
    let begins = line(&[JournalEvent::Change(Mark::Begins)]);
    let ends = line(&[JournalEvent::Change(Mark::Ends)]);
    let lot = line(&[JournalEvent::Lot(Number(5), Lot::default())]);
    let table: [(&[&str], usize); 7] = [
        (&[], 0),
        (&[&lot], 1),
        (&[&lot, &begins], 1),
        (&[&lot, &begins, &lot, &lot], 1),
        (&[&begins, &lot, &ends], 3),
        (&[&begins, &lot, &ends, &lot, &begins, &begins, &lot], 4),
        (&["# change begins", "2026-11-23T15:34:10Z change begins", "2026-11-23T15:34:10Z change  ends"], 3),
    ];
    for (lines, count) in table {
        assert_eq!(whole(lines), count, "{lines:?}");
    }
}

fn label() -> impl Strategy<Value = Label> {
    let odd = prop_oneof![Just(b';'), Just(b'%'), Just(b'='), Just(b'~'), Just(b'#'), Just(b'3'), Just(b'B'), any::<u8>()];
    proptest::collection::vec(odd, 0..40).prop_map(|bytes| Label::new(&bytes))
}

fn some_macs() -> impl Strategy<Value = Macs> {
    proptest::collection::vec(any::<[u8; 6]>().prop_map(Mac), 0..17).prop_map(|macs| macs.into_iter().collect())
}

fn some_papers() -> impl Strategy<Value = Fingerprint> {
    let uuid = any::<[u8; 16]>().prop_map(Uuid::new);
    (some_macs(), uuid, label(), label()).prop_map(|(macs, uuid, serial, port)| Fingerprint { macs, uuid, serial, port })
}

fn some_lot() -> impl Strategy<Value = Lot> {
    (0..7u8, some_papers(), some_macs(), any::<[u8; 6]>()).prop_map(|(kind, mut fingerprint, retired, one)| {
        fingerprint.macs.add(Mac(one));
        let lot = Lot { retired, since: NOW, ..Lot::default() };
        let config = AssignedBy::Config(fingerprint.macs.len() as u8);
        match kind {
            0 => lot,
            1 => Lot { state: LotState::Reserved(Wait::Next), by: AssignedBy::Operator, ..lot },
            2 => Lot { state: LotState::Reserved(Wait::Operator), by: AssignedBy::Operator, ..lot },
            3 => Lot { state: LotState::Reserved(Wait::Mac(Mac(one))), by: AssignedBy::Operator, ..lot },
            _ => Lot {
                state: LotState::Occupied,
                by: [AssignedBy::Passed, AssignedBy::Operator, config][usize::from(kind) - 4],
                fingerprint,
                ..lot
            },
        }
    })
}

fn some_event() -> impl Strategy<Value = JournalEvent> {
    let verdict = prop_oneof![Just(Verdict::Untested), Just(Verdict::Passed), label().prop_map(Verdict::Failed)];
    let identity = prop_oneof![
        any::<[u8; 6]>().prop_map(|mac| Identity::Mac(Mac(mac))),
        proptest::collection::vec(any::<u8>(), 1..40).prop_map(|id| Identity::ClientId(ClientId::new(&id)))
    ];
    let guest = (any::<[u8; 4]>(), identity, 0..20_000_000_000u64, verdict, some_papers()).prop_map(
        |(ip, identity, until, verdict, fingerprint)| {
            JournalEvent::Guest(Guest { address: ip.into(), identity, until, verdict, fingerprint })
        },
    );
    let stage = (0..131_072u32, 0..7usize).prop_map(|(n, stage)| JournalEvent::Stage(Number(n), Stage::ALL[stage]));
    let lot = (0..131_072u32, some_lot()).prop_map(|(n, lot)| JournalEvent::Lot(Number(n), lot));
    let mark = prop_oneof![Just(JournalEvent::Change(Mark::Begins)), Just(JournalEvent::Change(Mark::Ends))];
    prop_oneof![8 => lot, 6 => guest, 1 => stage, 1 => mark]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Whatever a machine, a switch or a client-id said: any bytes in any field, in any company.
    #[test]
    fn any_record_comes_back_as_it_was(all in proptest::collection::vec(some_event(), 1..3)) {
        let line = line(&all);
        prop_assert_eq!(check(&line), Check::Good, "{}", &line);
        prop_assert_eq!(read(&line, |_, _| Ok(())), Ok(Spelling::Good), "{}", &line);
        let read: Vec<JournalEvent> = events(&line).unwrap().into_iter().map(|(_, event)| event).collect();
        prop_assert!(read == all, "{}", &line);
    }

    #[test]
    fn any_label_comes_back_as_it_was(label in label()) {
        let quoted = QuotedLabel(label).to_string();
        prop_assert!(!quoted.contains([';', ' ', '\n']), "{}", &quoted);
        prop_assert_eq!(Label::unquoted(&quoted), label);
    }
}

proptest! {
    #[test]
    fn dates_come_back(unix in 0u64..20_000_000_000) {
        prop_assert_eq!(Date(unix).to_string().parse(), Ok(Date(unix)));
    }

    #[test]
    fn no_line_is_too_odd(text in ".{0,200}") {
        let _ = (check(&text), events(&text), events(&format!("2026-11-23T15:34:10Z {text}")));
    }
}
