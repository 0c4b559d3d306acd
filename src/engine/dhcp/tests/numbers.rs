//! Machines that pass muster, promises and the disk, many NICs, replaced machines, restarts.

use super::*;
use crate::base::machine::{Machine, StreamEvent};
use crate::base::time::Now;
use crate::engine::dhcp::Counter;
use crate::engine::server::Server;
use crate::roll::lot::{AssignedBy, Lot, Wait};
use crate::roll::plan::{AddressPlan, NamesFile, Number, Segment};
use crate::roll::registry::Promise;
use crate::roll::ruling::Numbering;
use crate::wire::report::{Report, ReportText, ReportVerdict};

const GUESTS: std::ops::RangeInclusive<Ipv4Addr> = guest(1)..=guest(8);

pub fn report(macs: &[u8], uuid: u8, verdict: ReportVerdict) -> Vec<u8> {
    let macs: Vec<Mac> = macs.iter().map(|&n| mac(n)).collect();
    let mut id = [0xee; 16];
    id[0] = uuid;
    let mut report = Report { uuid: Some(id), verdict, ..Report::EMPTY };
    assert!(macs.iter().all(|&mac| report.macs.push(mac)));
    let mut buf = [0; 255];
    let len = report.write(&mut buf).unwrap();
    buf[..len].to_vec()
}

/// `muster-in` on a machine with these NICs, asking through the first.
pub fn muster_in(macs: &[u8], verdict: ReportVerdict) -> Ask {
    Ask::os(mac(macs[0])).with(224, &report(macs, macs[0], verdict))
}

pub fn passed(macs: &[u8]) -> Ask {
    muster_in(macs, ReportVerdict::Passed)
}

pub fn records(got: &[Got]) -> Vec<&str> {
    got.iter().filter_map(|got| if let Got::Record(line) = got { Some(line.as_str()) } else { None }).collect()
}

pub fn node(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 54, 1, n)
}

fn set(world: &mut World, number: u32, change: impl Fn(Lot) -> Lot) {
    let lot = *world.server.roll().lots().lot(Number(number)).unwrap();
    world.server.roll_mut().set_lot(Number(number), change(lot), Promise::default()).unwrap();
}

#[test]
fn a_stranger_that_passes_gets_the_lowest_number_and_its_guest_address_is_probed() {
    let mut world = World::settled(&config());
    let old = world.lease(&Ask::rom(mac(1)));
    assert!(GUESTS.contains(&old));
    world.advance(10_000);
    let got = world.ask(&passed(&[1, 2]).discover());
    let offer = only_reply(&got).unwrap();
    assert_eq!((offer.yiaddr(), records(&got).len(), got.len()), (node(0), 0, 1), "an offer, and nothing else");
    assert_eq!((offer.option(code::HOST_NAME), offer.seconds(code::LEASE_TIME)), (Some(&b"n0"[..]), Some(3600)));
    assert_eq!(world.client(mac(1)).unwrap().address(), Some(old), "which has not moved yet");
    let got = world.ask(&passed(&[1, 2]).select(node(0)));
    let [line] = records(&got)[..] else { panic!("{got:?}") };
    assert!(line.contains(" n0 occupied by=passed up=never macs=02:00:00:00:00:01,02:00:00:00:00:02 uuid="), "{line}");
    assert_eq!((only_reply(&got).unwrap().kind, only_reply(&got).unwrap().yiaddr()), (ACK, node(0)));
    assert!(got.contains(&Got::Neighbour(old, None)) && got.contains(&Got::Neighbour(node(0), Some(mac(1)))));
    let got = world.ask(&passed(&[1, 2]).select(node(0)));
    assert_eq!((only_reply(&got).unwrap().yiaddr(), records(&got).len()), (node(0), 0), "a node needs no further record");
    assert_eq!(world.lease(&Ask::rom(mac(1))), node(0), "its ROM gets it from now on");
    let others: Vec<Ipv4Addr> = (10..17).map(|n| world.lease(&Ask::os(mac(n)))).collect();
    assert!(!others.contains(&old), "somebody may still use {old}");
    let got = world.ask(&Ask::os(mac(18)).discover());
    assert!(got.contains(&Got::Probe(old)), "when there is no other it is asked for: {got:?}");
    world.handle(Input::Arp { link: 0, mac: mac(1), sender: old });
    assert!(replies(&world.advance(1000)).is_empty(), "and is used: a system goes on with the address of its firmware");
    assert_eq!(world.reply(&Ask::os(mac(1)).renew(old)).kind, NAK, "who holds on to it is told to come again");
}

/// Who reports and asks is told the plan; nobody else is, and nothing that the operator wrote makes way for it.
#[test]
fn only_who_reports_is_told_the_names() {
    let config = config();
    let mut world = World::settled(&config);
    let asks = |ask: Ask| ask.with(55, &[1, 3, 225]).with(57, &1500u16.to_be_bytes());
    let told = world.reply(&asks(passed(&[1])).discover());
    let file = NamesFile::parse(told.option(225).unwrap()).unwrap();
    assert_eq!((file.plan, file.this), (config.plan, None));
    assert_eq!(file.head, Some(config.links[0].head));
    assert_eq!(world.reply(&passed(&[1]).with(55, &[1, 3]).discover()).option(225), None, "it did not ask");
    assert_eq!(world.reply(&asks(Ask::os(mac(2))).discover()).option(225), None, "it did not report");
    let small = world.reply(&passed(&[1]).with(55, &[1, 225]).with(57, &576u16.to_be_bytes()).discover());
    assert!(small.option(225).is_none_or(|text| NamesFile::parse(text).is_some()), "whole or not at all");
    let segments: Vec<Segment> =
        (0..32).map(|n| Segment { first: Number(10 * n + 9), last: Number(10 * n + 9), address: ip(10, 55, 1 + n as u8, 1) }).collect();
    let plan = AddressPlan::segmented(ip(10, 54, 1, 0), 400, &segments).unwrap();
    let mut world = World::settled(&Config { plan, ..config });
    let told = world.reply(&asks(passed(&[1])).discover());
    assert!(told.option(225).is_none() && told.option(3).is_some(), "too long for a message");
}

#[test]
fn a_stranger_is_numbered_where_it_arrived() {
    let segment = Segment { first: Number(3), last: Number(5), address: ip(10, 55, 1, 0) };
    let plan = AddressPlan::segmented(ip(10, 54, 1, 0), 200, &[segment]).unwrap();
    let mut world = World::settled(&Config { plan, ..config() });
    let relayed = |n: u8| passed(&[n]).relayed(RELAY);
    assert_eq!(world.lease(&relayed(1)), ip(10, 55, 1, 0), "n3, the lowest of its segment");
    let at_home: Vec<Ipv4Addr> = (10..14).map(|n| world.lease(&passed(&[n]))).collect();
    assert_eq!(at_home, [0, 1, 2, 6].map(node), "the segment's numbers are not for these");
    assert_eq!([2, 3].map(|n| world.lease(&relayed(n))), [ip(10, 55, 1, 1), ip(10, 55, 1, 2)]);
    let fourth = world.lease(&relayed(4));
    assert_eq!(plan.number(fourth), None, "its segment is full");
    let moved = world.lease(&passed(&[1]));
    assert_eq!(plan.number(moved), None, "n3 has no address on this network, and stays n3");
    assert_eq!(world.server.roll().lots().number_of(mac(1)), Some(Number(3)));
}

#[test]
fn nothing_is_promised_before_it_is_on_disk() {
    let mut world = World::settled(&config());
    world.syncs = false;
    let os = Ask::os(mac(1));
    let address = world.reply(&os.discover()).yiaddr();
    let got = world.silence(&os.select(address));
    assert_eq!(records(&got).len(), 1);
    assert_eq!(records(&world.silence(&os.select(address))).len(), 0, "one record is enough");
    assert_eq!(world.lease(&Ask::rom(mac(17))), NODE_17, "known nodes wait for nothing");
    let reply = only_reply(&world.sync()).expect("the ACK, now that it is true");
    assert_eq!((reply.kind, reply.yiaddr()), (ACK, address));
    assert_eq!(world.reply(&passed(&[1]).discover()).yiaddr(), node(0));
    assert!(records(&world.silence(&passed(&[1]).select(node(0))))[0].contains("n0 occupied"));
    assert_eq!(records(&world.silence(&passed(&[1]).select(node(0)))).len(), 0, "one record is enough");
    assert_eq!(world.client(mac(1)).unwrap().address(), Some(address), "nothing has moved yet");
    assert_eq!(only_reply(&world.sync()).map(|ack| (ack.kind, ack.yiaddr())), Some((ACK, node(0))));
    assert!(replies(&world.sync()).is_empty());
}

/// A change of many numbers is committed at once, and more machines wait for it than one turn answers.
#[test]
fn who_waits_for_a_change_of_many_is_answered_in_order_over_several_turns() {
    const MANY: u32 = 600;
    let macs: Vec<Mac> = (0..MANY as u16).map(|n| Mac([2, 0, 0, 1, (n >> 8) as u8, n as u8])).collect();
    let plan = AddressPlan::new(ip(10, 54, 1, 0), MANY);
    let server = crate::config::Server { capacity: 2 * MANY as usize, ..config().server };
    let mut world = World::settled(&Config { plan, server, nodes: Vec::new(), ..config() });
    world.syncs = false;
    let entry = |n: usize| format!(r#"{{"number":{n},"macs":["{}"]}}"#, macs[n]);
    let mut got = Vec::new();
    for first in (0..macs.len()).step_by(200) {
        let (entries, more) = ((first..first + 200).map(entry).collect::<Vec<_>>().join(","), first + 200 < macs.len());
        let import = format!(r#"{{"do":"change","change":{{"what":"import","more":{more},"entries":[{entries}]}}}}"#);
        got = world.operator(conn(3), StreamEvent::Bytes(import.as_bytes()));
    }
    let told = |got: &[Got]| got.iter().filter(|got| matches!(got, Got::Write(to, _) if *to == conn(3))).count();
    assert_eq!((records(&got).len(), told(&got)), (1, 0), "the record that begins it");
    macs.iter().rev().for_each(|&mac| drop(world.silence(&Ask::rom(mac).discover())));
    assert!(replies(&world.sync()).is_empty(), "it has begun, and has not ended");
    let lines = world.advance(100);
    assert!(records(&lines).last().is_some_and(|line| line.contains("change ends")), "{lines:?}");
    let first = world.sync();
    assert_eq!(told(&first), 1, "the operator waits for the same record, and came first");
    assert!(!replies(&first).is_empty() && replies(&first).len() < macs.len());
    assert_eq!(world.server.deadline(), Some(Instant::ZERO));
    let all: Vec<Mac> =
        replies(&[first, world.advance(0)].concat()).iter().map(|offer| Mac(*offer.header.chaddr.first_chunk().unwrap())).collect();
    assert!(all.iter().eq(macs.iter().rev()), "{} of {MANY}: {all:?}", all.len());
}

#[test]
fn every_other_renewal_of_a_guest_writes() {
    let mut world = World::settled(&config());
    let os = Ask::os(mac(1));
    let address = world.lease(&os);
    let wrote: Vec<usize> = (0..6)
        .map(|_| {
            world.advance(60_000);
            records(&world.ask(&os.renew(address))).len()
        })
        .collect();
    assert!(wrote.iter().sum::<usize>() <= 3, "{wrote:?}");
    let [before, after] = [0, 1].map(|_| records(&world.ask(&os.renew(address))).len());
    assert_eq!(before + after, 0, "renewing at once says nothing new");
}

#[test]
fn a_disk_that_never_answers_holds_up_nobody_that_is_known() {
    let mut world = World::settled(&config());
    world.syncs = false;
    for n in 0..1500u32 {
        let number = n % 2 + 100;
        set(&mut world, number, |lot| lot);
        world.ask(&Ask::os(mac(1)).discover());
        world.ask(&passed(&[(n % 200 + 30) as u8]).discover());
        assert_eq!(world.reply(&Ask::rom(mac(23)).discover()).yiaddr(), NODE_23);
    }
    assert!(world.server.commit().pending() <= crate::base::limits::JOURNAL_PENDING as u64);
    world.sync();
    assert_eq!(world.lease(&Ask::rom(mac(23))), NODE_23);
}

#[test]
fn who_does_not_pass_stays_a_guest() {
    let failed = ReportVerdict::Failed(ReportText::new(b"20-memory").unwrap());
    for (verdict, shown) in [(failed, "failed:20-memory"), (ReportVerdict::Untested, "untested")] {
        let mut world = World::settled(&config());
        let address = world.lease(&muster_in(&[1], verdict));
        assert!(GUESTS.contains(&address));
        assert_eq!(world.client(mac(1)).unwrap().evidence.verdict().to_string(), shown);
        assert_eq!(world.count(Counter::Enlisted), 0);
    }
    let mut world = World::settled(&Config { numbering: Numbering::Locked, ..config() });
    assert!(GUESTS.contains(&world.lease(&passed(&[1]))));
    let spoilt = Ask::os(mac(2)).with(224, b"\x01\x01\x05abcde");
    assert!(GUESTS.contains(&world.lease(&spoilt)) && world.count(Counter::ReportMalformed) == 2);
}

#[test]
fn a_replaced_machine_is_refused_by_name_and_its_number_goes_on() {
    let mut world = World::settled(&config());
    assert_eq!(world.lease(&passed(&[1, 2])), node(0));
    set(&mut world, 0, |lot| lot.reserved(Wait::Next, 5));
    assert_eq!(world.reply(&Ask::os(mac(1)).renew(node(0))).kind, NAK);
    assert!(GUESTS.contains(&world.lease(&passed(&[2, 1]))), "the old board does not take its place again");
    // Who was replaced may run on, unknown to a daemon that was restarted: its address is asked for first. So the new one is a guest when it
    // gets the number, is denied, and asks anew.
    let guest = world.reply(&passed(&[3]).discover()).yiaddr();
    assert!(GUESTS.contains(&guest));
    let got = world.ask(&passed(&[3]).select(guest));
    assert_eq!((records(&got).len(), only_reply(&got).unwrap().kind), (1, NAK));
    assert_eq!(world.silence(&passed(&[3]).discover()).last(), Some(&Got::Probe(node(0))));
    let got = world.handle(Input::Arp { link: 0, mac: mac(1), sender: node(0) });
    assert!(GUESTS.contains(&only_reply(&got).expect("a guest for now").yiaddr()));
    world.advance(601_000);
    world.silence(&passed(&[3]).discover());
    assert_eq!(only_reply(&world.advance(200)).map(|offer| offer.yiaddr()), Some(node(0)));
    assert_eq!(world.lease(&passed(&[3])), node(0));
    assert_eq!(world.lease(&passed(&[4])), node(1));
}

#[test]
fn any_nic_is_the_node_and_one_at_a_time_has_its_address() {
    let mut world = World::settled(&config());
    let (first, second) = (Ask::rom(mac(17)), Ask::rom(mac(117)));
    assert_eq!(world.lease(&first), NODE_17);
    assert!(GUESTS.contains(&world.lease(&second)), "both at once");
    world.advance(20_000);
    let got = world.silence(&second.discover());
    assert_eq!(got[1..], [Got::Neighbour(NODE_17, None), Got::Probe(NODE_17)], "whoever is there still would say so");
    assert_eq!(only_reply(&world.advance(200)).map(|offer| offer.yiaddr()), Some(NODE_17));
    assert_eq!(world.lease(&second), NODE_17, "the machine was switched on again, and boots from its second NIC");
    let system = Ask::os(mac(17));
    world.advance(20_000);
    assert!(GUESTS.contains(&world.lease(&system)), "its system asks through both: the one that booted has the address");
    assert_eq!(world.reply(&Ask::os(mac(117)).renew(NODE_17)).yiaddr(), NODE_17);
}

#[test]
fn conflicts_change_nothing() {
    let mut world = World::settled(&config());
    assert_eq!((world.lease(&passed(&[1, 2])), world.lease(&passed(&[5, 6]))), (node(0), node(1)));
    let before: Vec<Lot> = world.server.roll().lots().iter().map(|(_, lot)| *lot).collect();
    // MACs of two nodes; a MAC of one in another machine.
    world.ask(&passed(&[2, 6]).discover());
    world.ask(&passed(&[9, 1]).discover());
    let clone = Ask::os(mac(1)).with(224, &report(&[1, 30], 77, ReportVerdict::Passed));
    world.ask(&clone.discover());
    assert!(world.server.roll().lots().iter().map(|(_, lot)| *lot).eq(before));
}

#[test]
fn a_restart_knows_what_was_promised() {
    let mut world = World::settled(&config());
    let mut journal = Vec::new();
    let mut note = |got: Vec<Got>| {
        journal.extend(records(&got).iter().map(|line| line.to_string()));
        only_reply(&got)
    };
    let failed = muster_in(&[2], ReportVerdict::Failed(ReportText::new(b"disk").unwrap()));
    for ask in [passed(&[1, 3]), failed.clone(), Ask::os(mac(4))] {
        let offered = note(world.ask(&ask.discover())).unwrap().yiaddr();
        note(world.ask(&ask.select(offered)));
    }
    let [guest_2, guest_4] = [2, 4].map(|n| world.client(mac(n)).unwrap().address().unwrap());
    let now = Now { at: Instant::from_millis(1), unix: world.now.unix + 30 };
    let server = Server::restored(&config(), 9, now, journal.iter().map(String::as_str)).unwrap();
    let mut world = World::of(server, now);
    assert_eq!(world.reply(&Ask::os(mac(3)).renew(node(0))).yiaddr(), node(0));
    assert_eq!(world.client(mac(2)).unwrap().evidence.verdict().to_string(), "failed:disk");
    let got = world.ask(&Ask::os(mac(4)).renew(guest_4));
    assert_eq!(only_reply(&got).unwrap().yiaddr(), guest_4);
    world.advance(2000);
    let others: Vec<Ipv4Addr> = (10..16).map(|n| world.lease(&Ask::os(mac(n)))).collect();
    assert!(!others.contains(&guest_2) && !others.contains(&guest_4), "{others:?}");
    let refused = |line: &str| Server::restored(&config(), 9, now, [line].into_iter()).err().unwrap_or_default();
    assert!(refused("2026-11-23T15:34:10Z n900 occupied macs=02:00:00:00:00:01").contains("line 1 of the journal"));
    assert!(refused("2026-11-23T15:34:10Z n17 occupied macs=02:00:00:00:00:09").contains("number = 17 contradicts"));
    assert!(refused("soon n1 vacant").contains("is not a time"));
}

#[test]
fn a_compaction_says_it_all() {
    let mut world = World::settled(&config());
    world.lease(&passed(&[1, 3]));
    let guest = world.lease(&muster_in(&[2], ReportVerdict::Untested));
    set(&mut world, 5, |lot| lot.reserved(Wait::Mac(mac(40)), 5));
    world.server.checkpoint();
    let lines = world.compacted();
    let server = Server::restored(&config(), 9, world.now, lines.iter().map(String::as_str)).unwrap();
    let lots = |server: &Server| server.roll().lots().iter().map(|(_, lot)| *lot).collect::<Vec<_>>();
    assert_eq!(lots(&server), lots(&world.server));
    let mut next = World::of(server, world.now);
    assert_eq!(next.reply(&Ask::os(mac(2)).renew(guest)).yiaddr(), guest);
    assert!(lines.iter().any(|line| line.contains(" n0 up ")), "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("n17 occupied")), "the config says that");
}

/// An operator gives its number to a machine that goes on with its guest address; one that has asked for its number's address has left that.
#[test]
fn an_address_rests_over_a_compaction_and_a_restart() {
    for by_operator in [false, true] {
        let mut world = World::settled(&config());
        let old = world.lease(&Ask::rom(mac(1)));
        match by_operator {
            false => assert_eq!(world.lease(&passed(&[1])), node(0)),
            true => {
                let fingerprint = world.client(mac(1)).unwrap().shown();
                set(&mut world, 0, |lot| lot.occupied(fingerprint, AssignedBy::Operator, 5));
            }
        }
        world.server.checkpoint();
        let lines = world.compacted();
        let mut next = World::of(Server::restored(&config(), 9, world.now, lines.iter().map(String::as_str)).unwrap(), world.now);
        next.advance(2000);
        let others: Vec<Ipv4Addr> = (10..17).map(|n| next.lease(&Ask::os(mac(n)))).collect();
        let last = next.ask(&Ask::os(mac(18)).discover());
        if by_operator {
            assert!(!others.contains(&old) && last.is_empty(), "somebody may still think that it has {old}: {lines:?}");
        } else {
            assert!(others.contains(&old) || only_reply(&last).is_some_and(|offer| offer.yiaddr() == old), "{old} is free: {lines:?}");
        }
        assert_eq!(next.reply(&Ask::os(mac(1)).renew(old)).kind, NAK);
    }
}

/// A number was given, the daemon restarts, the number is taken away: the machine asks for the guest address that it may still use, is offered it,
/// and falls silent. What it was told stands.
#[test]
fn what_was_left_and_offered_again_is_nobody_elses() {
    let lines = [
        "2023-11-14T22:13:20Z guest 10.54.250.3 02:00:00:00:00:01 until=2023-11-14T22:30:00Z",
        "2023-11-14T22:13:30Z n0 occupied macs=02:00:00:00:00:01",
    ];
    let now = Now { at: Instant::from_millis(50_000), unix: 1_700_000_000 };
    let mut world = World::of(Server::restored(&config(), 9, now, lines.into_iter()).unwrap(), now);
    set(&mut world, 0, |lot| lot.emptied(5));
    world.advance(2_000);
    let wish = |n: u8| Ask::os(mac(n)).discover().with(code::REQUESTED_IP, &guest(3).octets());
    assert_eq!(world.reply(&wish(1)).yiaddr(), guest(3));
    world.advance(61_000);
    assert!(world.client(mac(1)).is_none(), "the offer has ended");
    for n in 10..20 {
        let got = world.ask(&wish(n));
        assert!(only_reply(&got).is_none_or(|offer| offer.yiaddr() != guest(3)), "{} is told to {}", guest(3), mac(n));
    }
    world.server.checkpoint();
    let lines = world.compacted();
    assert!(lines.iter().any(|line| line.contains(" guest 10.54.250.3 02:00:00:00:00:01 until=")), "{lines:?}");
    assert_eq!(world.reply(&Ask::os(mac(1)).renew(guest(3))).yiaddr(), guest(3));
}

#[test]
fn a_guest_gets_its_later_address_back() {
    let lines = [
        "2023-11-14T22:13:20Z guest 10.54.250.3 02:00:00:00:00:09 until=2023-11-14T22:20:00Z",
        "2023-11-14T22:13:30Z guest 10.54.250.7 02:00:00:00:00:09 until=2023-11-14T22:30:00Z",
    ];
    let now = Now { at: Instant::from_millis(50_000), unix: 1_700_000_000 };
    let world = World::of(Server::restored(&config(), 9, now, lines.into_iter()).unwrap(), now);
    assert_eq!(world.client(mac(9)).unwrap().address(), Some(guest(7)));
}

/// Its record is in the old file alone; or its next record is to tell what it showed.
#[test]
fn a_lease_that_is_being_promised_is_in_a_compaction() {
    let told = |world: &mut World, address: Ipv4Addr| {
        world.server.checkpoint();
        let lines = world.compacted();
        assert!(lines.iter().any(|line| line.contains(&format!(" guest {address} {} until=", mac(1)))), "{lines:?}");
    };
    let mut world = World::settled(&config());
    world.syncs = false;
    let address = world.reply(&Ask::os(mac(1)).discover()).yiaddr();
    assert_eq!(records(&world.silence(&Ask::os(mac(1)).select(address))).len(), 1);
    told(&mut world, address);
    assert_eq!(only_reply(&world.sync()).map(|ack| ack.yiaddr()), Some(address));

    for verdict in [ReportVerdict::Passed, ReportVerdict::Failed(ReportText::new(b"disk").unwrap())] {
        let mut world = World::settled(&config());
        let address = world.lease(&Ask::os(mac(1)));
        world.syncs = false;
        world.ask(&muster_in(&[1], verdict).discover());
        told(&mut world, address);
    }
}
