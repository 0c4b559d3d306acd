//! When a number is given, how fast, to whom not, and how it is told whether its machine ever came.

use super::numbers::{muster_in, node, passed, records, report};
use super::*;
use crate::base::time::Now;
use crate::engine::server::Server;
use crate::roll::lot::Lot;
use crate::roll::offers::HOLD;
use crate::roll::plan::{AddressPlan, Number};
use crate::roll::ruling::Numbering;
use crate::wire::report::{Report, ReportVerdict};

/// A machine of many, which asks as `muster-in` does.
fn machine(n: u32) -> Ask {
    let [_, b, c, d] = n.to_be_bytes();
    let mac = Mac([2, 9, 0, b, c, d]);
    let mut told = Report { verdict: ReportVerdict::Passed, ..Report::EMPTY };
    told.macs.push(mac);
    let mut buf = [0; 255];
    let len = told.write(&mut buf).unwrap();
    Ask::os(mac).with(224, &buf[..len])
}

/// Room for a thousand machines: numbers, and guests' addresses.
fn large() -> Config {
    let mut large = Config { plan: AddressPlan::new(ip(10, 54, 1, 0), 1024), ..config() };
    large.server.capacity = 4096;
    large.networks[0].guests = crate::roll::plan::AddressRange::new(ip(10, 54, 250, 0), ip(10, 54, 253, 255));
    large.nodes.clear();
    large
}

fn lots(world: &World) -> Vec<Lot> {
    world.server.roll().lots().iter().map(|(_, lot)| *lot).collect()
}

fn occupied(world: &World) -> usize {
    world.server.roll().lots().occupied()
}

fn arp(world: &mut World, n: u8, address: Ipv4Addr) -> Vec<Got> {
    world.handle(Input::Arp { link: 0, mac: mac(n), sender: address })
}

#[test]
fn discovers_alone_give_nothing_and_keep_nothing_for_long() {
    let mut world = World::settled(&large());
    let before = lots(&world);
    let mut written = 0;
    for n in 0..1000 {
        written += records(&world.ask(&machine(n).discover())).len();
        world.advance(1);
    }
    assert_eq!((lots(&world) == before, written), (true, 0), "1,000 forged DISCOVERs in a second");
    assert!(world.server.roll().offers.count() <= 120);
    // A real one among them: it is denied once, for the offers are out.
    assert_eq!(world.muster_in(&passed(&[1])), (ip(10, 54, 1, 120), 2));
    world.advance(HOLD.as_millis() as u64);
    assert_eq!(world.muster_in(&passed(&[2])), (node(0), 1), "it is as if they had never been");
}

/// The last number that is vacant is offered to somebody who never comes.
#[test]
fn an_offer_keeps_no_number_from_who_takes_one() {
    let mut small = Config { plan: AddressPlan::new(ip(10, 54, 1, 0), 24), ..config() };
    small.server.capacity = 64;
    let mut world = World::settled(&small);
    for n in 0..21 {
        assert_eq!(world.muster_in(&machine(n)).1, 1);
    }
    assert_eq!(world.reply(&machine(30).discover()).yiaddr(), node(22));
    assert_eq!(world.muster_in(&passed(&[1])), (node(22), 2));
    assert_eq!(world.reply(&machine(30).select(node(22))).kind, NAK, "it came too late");
    assert!(is_guest(world.muster_in(&machine(30)).0));
}

/// A REQUEST gives a number to whom it was offered, and who names us and the address: nobody else, and to nobody else's MAC.
#[test]
fn a_number_is_for_who_takes_our_offer() {
    let offered = |world: &mut World| world.reply(&passed(&[1]).discover()).yiaddr();
    let other_server = |address| passed(&[1]).select(address).with(code::SERVER_ID, &[10, 54, 0, 9]);
    type Case = (&'static str, Box<dyn Fn(Ipv4Addr) -> Ask>);
    let cases: [Case; 7] = [
        ("another server", Box::new(other_server)),
        ("another address", Box::new(|_| passed(&[1]).select(node(1)))),
        ("another MAC", Box::new(|address| passed(&[2]).select(address))),
        ("no report", Box::new(|address| Ask::os(mac(3)).select(address))),
        ("INIT-REBOOT of what it never had", Box::new(|address| passed(&[1]).reboot(address))),
        ("RENEWING of what it never had", Box::new(|address| passed(&[1]).renew(address))),
        ("REBINDING of what it never had", Box::new(|address| passed(&[1]).rebind(address))),
    ];
    for (what, ask) in cases {
        let mut world = World::settled(&config());
        let before = lots(&world);
        let address = offered(&mut world);
        assert_eq!(address, node(0));
        let got = world.ask(&ask(address));
        assert!(lots(&world) == before && records(&got).is_empty(), "{what}: {got:?}");
        assert!(only_reply(&got).is_none_or(|reply| reply.kind == NAK), "{what}");
    }
    // The report may be in the DISCOVER alone, of the same transaction; or in the REQUEST alone, which is denied then.
    let mut world = World::settled(&config());
    let address = offered(&mut world);
    assert_eq!(world.reply(&Ask::os(mac(1)).select(address)).kind, ACK);
    let address = world.reply(&Ask::os(mac(4)).discover()).yiaddr();
    assert!(is_guest(address));
    assert_eq!((world.reply(&passed(&[4]).select(address)).kind, occupied(&world)), (NAK, 4));
    assert_eq!(world.muster_in(&passed(&[4])), (node(1), 1));
    let mut late = passed(&[5]).discover();
    late.header.xid = 7;
    let address = world.reply(&late).yiaddr();
    assert_eq!((world.reply(&Ask::os(mac(5)).select(address)).kind, occupied(&world)), (NAK, 4), "another transaction");
}

#[test]
fn through_a_relay_as_well() {
    let segment = crate::roll::plan::Segment { first: Number(3), last: Number(5), address: ip(10, 55, 1, 0) };
    let plan = AddressPlan::segmented(ip(10, 54, 1, 0), 200, &[segment]).unwrap();
    let mut world = World::settled(&Config { plan, ..config() });
    let ask = passed(&[1]).relayed(RELAY);
    assert_eq!((world.reply(&ask.discover()).yiaddr(), occupied(&world)), (ip(10, 55, 1, 0), 2));
    assert_eq!((world.reply(&ask.select(ip(10, 55, 1, 0))).kind, occupied(&world)), (ACK, 3));
}

/// Forged pairs, of invented MACs: so many in ten milliseconds, for so long. Gives the numbers that they took, and those that were held back.
fn flood(each: u32, millis: u64) -> (usize, u64) {
    let mut world = World::settled(&large());
    for n in 0..each * (millis / 10) as u32 {
        if n % each == 0 {
            world.advance(10);
        }
        if let Some(offer) = only_reply(&world.ask(&machine(n).discover())) {
            world.ask(&machine(n).select(offer.yiaddr()));
        }
    }
    (occupied(&world), world.count(Counter::NumberDelayed))
}

/// At any speed the rate holds: 120 at once, and ten a second; beyond it they are guests.
#[test]
fn pairs_take_no_more_than_the_rate() {
    for (each, millis, least, most) in [(6, 1700, 136, 138), (50, 1700, 120, 138), (1, 12_000, 239, 241)] {
        let (taken, delayed) = flood(each, millis);
        assert!((least..=most).contains(&taken), "{taken} in {millis} ms, {each} in 10 ms");
        assert!(delayed > 800, "{delayed}");
    }
}

/// Beyond the rate a machine is a guest that renews soon, and is a node then.
#[test]
fn who_is_held_back_comes_again() {
    let mut world = World::settled(&Config { new_numbers: 6, ..config() });
    let own = |n| passed(&[n]);
    assert_eq!(world.muster_in(&own(1)), (node(0), 1));
    let offer = world.reply(&own(2).discover());
    assert!(is_guest(offer.yiaddr()) && offer.option(code::RENEWAL_TIME).is_none());
    let ack = world.reply(&own(2).select(offer.yiaddr()));
    assert_eq!((ack.kind, ack.yiaddr(), ack.seconds(code::LEASE_TIME)), (ACK, offer.yiaddr(), Some(600)));
    let (t1, t2) = (ack.seconds(code::RENEWAL_TIME).unwrap(), ack.seconds(code::REBINDING_TIME).unwrap());
    assert!((5..10).contains(&t1) && t2 == 30, "{t1} {t2}");
    world.advance(u64::from(t1) * 1000);
    assert_eq!(world.reply(&own(2).renew(ack.yiaddr())).kind, ACK, "not yet");
    world.advance(5000);
    assert_eq!(world.reply(&own(2).renew(ack.yiaddr())).kind, NAK, "it has a number now");
    assert_eq!((world.muster_in(&own(2)), world.count(Counter::NumberDelayed)), ((node(1), 1), 2));
    // A plain client, which says nothing of itself, is told nothing of that.
    assert_eq!(world.reply(&Ask::os(mac(9)).discover()).option(code::RENEWAL_TIME), None);
}

/// The first power-on: a thousand machines pass at the same moment, or within some time. When was the last one a node?
fn crowd(spread: Duration) -> (Duration, Duration) {
    const COUNT: u32 = 1000;
    let mut world = World::settled(&large());
    let begin = world.now.at;
    let mut due: std::collections::BTreeMap<(Instant, u32), Option<Ipv4Addr>> =
        (0..COUNT).map(|n| ((begin + spread * n / COUNT, n), None)).collect();
    let (mut last, mut longest) = (Duration::ZERO, Duration::ZERO);
    while let Some(((at, n), guest)) = due.pop_first() {
        world.advance(at.since(world.now.at).as_millis() as u64);
        let (now, began) = (world.now.at, begin + spread * n / COUNT);
        if let Some(address) = guest {
            if world.reply(&machine(n).renew(address)).kind == ACK {
                due.insert((now + Duration::from_secs(5 + u64::from(n) % 5), n), guest);
                continue;
            }
        }
        let (address, _) = world.muster_in(&machine(n));
        match world.server.roll().plan.number(address) {
            Some(_) => {
                last = last.max(world.now.at.since(begin));
                longest = longest.max(world.now.at.since(began));
            }
            None => drop(due.insert((world.now.at + Duration::from_secs(5 + u64::from(n) % 5), n), Some(address))),
        }
    }
    assert_eq!(occupied(&world), COUNT as usize);
    (last, longest)
}

#[test]
fn a_thousand_new_machines_at_once_are_nodes_within_the_bound() {
    let (last, _) = crowd(Duration::ZERO);
    let (_, longest) = crowd(Duration::from_secs(90));
    println!("1,000 at once: the last is a node after {last:?}; within 90 s: the longest wait is {longest:?}");
    assert!(last < Duration::from_secs(100), "{last:?}");
    assert!(longest < Duration::from_secs(1), "within a minute and a half nobody waits: {longest:?}");
}

#[test]
fn a_report_without_evidence_of_the_node_gives_nothing_of_it() {
    let mut world = World::settled(&config());
    assert_eq!(world.muster_in(&passed(&[1, 2])).0, node(0));
    let before = lots(&world);
    // An attacker's own MAC beside a node's, one of the config's, with any UUID and with none.
    for (own, victims) in [40, 40, 41, 41, 42].into_iter().zip([&[1, 2][..], &[1], &[17, 117], &[17], &[23]]) {
        for uuid in [0, 9] {
            for relay in [false, true] {
                let ask = Ask::os(mac(own)).with(224, &report(&[&[own], victims].concat(), uuid, ReportVerdict::Passed));
                let (address, _) = world.muster_in(&if relay { ask.relayed(RELAY) } else { ask });
                assert_eq!(world.server.roll().plan.number(address), None);
            }
        }
    }
    assert!(lots(&world) == before && world.count(Counter::NumberConflict) > 0);
    // In the node's name, from the attacker's MAC: neither a MAC nor evidence is taken down.
    let mut forged = Ask::os(mac(23)).with(224, &report(&[23, 9], 9, ReportVerdict::Passed));
    forged.mac = mac(9);
    world.ask(&forged.discover());
    let mut forged = Ask::os(mac(23)).with(224, &report(&[23], 9, ReportVerdict::Passed));
    forged.mac = mac(9);
    world.ask(&forged.discover());
    world.ask(&forged.select(NODE_23));
    assert!(lots(&world) == before);
    world.advance(60_000);
    assert!(is_guest(world.muster_in(&Ask::rom(mac(9))).0), "as firmware, later");
    // The machine itself: a second card, told through the first; and a third, told through itself when the UUID is known.
    let own = |macs: &[u8]| Ask::os(mac(macs[0])).with(224, &report(macs, 23, ReportVerdict::Passed));
    assert_eq!(world.muster_in(&own(&[23, 24])).0, NODE_23);
    assert_eq!(world.server.roll().lots().number_of(mac(24)), Some(Number(23)));
    world.ask(&own(&[25, 23, 24]).discover());
    assert_eq!(world.server.roll().lots().number_of(mac(25)), Some(Number(23)));
}

/// It is heard by ARP under its address, or asks again a minute later; and that is known for good.
#[test]
fn a_number_whose_machine_never_came_up_is_told_apart() {
    let unseen = |world: &World| {
        let of = world.server.roll().lots();
        let list: Vec<u32> = of.iter().filter(|(_, lot)| lot.unseen).map(|(number, _)| number.0).collect();
        assert_eq!(of.unseen(), list.len());
        list
    };
    let mut world = World::settled(&config());
    let mut journal = Vec::new();
    let mut note = |got: &[Got]| journal.extend(records(got).iter().map(|line| line.to_string()));
    for n in 1..=4 {
        note(&world.ask(&passed(&[n]).discover()));
        note(&world.ask(&passed(&[n]).select(node(n - 1))));
    }
    assert_eq!(unseen(&world), [0, 1, 2, 3]);
    note(&arp(&mut world, 1, node(0)));
    for (who, address) in [(9, node(1)), (2, node(2)), (2, guest(3))] {
        note(&arp(&mut world, who, address));
    }
    assert_eq!(unseen(&world), [1, 2, 3], "another MAC, or another address, tells nothing");
    note(&world.ask(&passed(&[3]).renew(node(2))));
    assert_eq!(unseen(&world), [1, 2, 3], "the same moment");
    world.advance(61_000);
    note(&world.ask(&passed(&[3]).renew(node(2))));
    assert_eq!(unseen(&world), [1, 3]);
    let written = arp(&mut world, 1, node(0));
    assert_eq!(records(&written).len(), 0, "once");
    assert!(journal.iter().any(|line| line.contains("n0 occupied by=passed macs=")), "{journal:?}");
    let now = Now { at: Instant::from_millis(1), unix: world.now.unix };
    let world = World::of(Server::restored(&config(), 9, now, journal.iter().map(String::as_str)).unwrap(), now);
    assert_eq!(unseen(&world), [1, 3], "after a restart");
    // Old journals do not say so: whoever is in them has been there.
    let old = "2026-11-23T15:34:10Z n5 occupied by=passed macs=02:00:00:00:00:08";
    let world = World::of(Server::restored(&config(), 9, now, [old].into_iter()).unwrap(), now);
    assert!(unseen(&world).is_empty());
}

/// A number is given by an operator's word alone, and only to who is offered one.
#[test]
fn nothing_is_offered_where_numbers_are_not_given() {
    for numbering in [Numbering::Locked, Numbering::Ordered] {
        let mut world = World::settled(&Config { numbering, ..config() });
        let offer = world.reply(&passed(&[1]).discover());
        assert!(is_guest(offer.yiaddr()));
        let ack = world.reply(&passed(&[1]).select(offer.yiaddr()));
        assert_eq!((ack.kind, ack.option(code::RENEWAL_TIME), occupied(&world)), (ACK, None, 2));
    }
    let mut world = World::settled(&config());
    let failed = muster_in(&[1], ReportVerdict::Failed(crate::wire::report::ReportText::new(b"disk").unwrap()));
    assert!(is_guest(world.muster_in(&failed).0));
}

/// A network without guests' addresses numbers machines all the same, at its rate.
#[test]
fn no_guest_is_needed_to_become_a_node() {
    let mut without = Config { new_numbers: 5, ..config() };
    without.networks[0].guests = None;
    let mut world = World::settled(&without);
    assert_eq!(world.muster_in(&passed(&[1])), (node(0), 1));
    world.silence(&passed(&[2]).discover());
    world.advance(12_000);
    assert_eq!(world.muster_in(&passed(&[2])), (node(1), 1));
    let lot = *world.server.roll().lots().lot(Number(0)).unwrap();
    let gone = lot.emptied(world.now.unix);
    world.server.roll_mut().set_lot(Number(0), gone, Default::default()).unwrap();
    world.ask(&Ask::os(mac(1)).release(node(0)));
    world.advance(12_000);
    assert_eq!(world.muster_in(&passed(&[3])), (node(0), 1));
}
