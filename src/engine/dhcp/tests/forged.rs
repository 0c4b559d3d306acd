//! Frames that lie: each in the name of a machine that has something to lose, from the MAC of one that has not.

use super::*;
use crate::engine::dhcp::Counter;
use crate::engine::server::Server;
use crate::roll::guests::QUARANTINE;
use crate::wire::report::{Report, ReportVerdict};

/// The forger, and another one.
const LIAR: Mac = mac(66);
const OTHER: Mac = mac(67);

fn claim(mac: Mac, sender: Ipv4Addr) -> Input<'static> {
    Input::Arp { link: 0, mac, sender }
}

/// All that forged frames must leave as it is.
fn holds(world: &World, owner: Mac) -> impl PartialEq + std::fmt::Debug + use<> {
    let client = world.client(owner).expect("a record");
    (
        client.address(),
        client.is_leased(),
        client.boot.stage(),
        client.evidence.kind(),
        client.evidence.arch(),
        client.boot.story().to_string(),
        client.evidence.verdict(),
        client.route.way(),
    )
}

fn passed(owner: Mac, serial: &str) -> Vec<u8> {
    let mut report =
        Report { verdict: ReportVerdict::Passed, serial: crate::wire::report::ReportText::new(serial.as_bytes()), ..Report::EMPTY };
    assert!(report.macs.push(owner));
    let mut buf = [0; 255];
    let len = report.write(&mut buf).unwrap();
    buf[..len].to_vec()
}

/// Everything that a forger can say in a machine's name.
fn lies(owner: Mac, address: Ipv4Addr) -> Vec<Ask> {
    let asks = [
        Ask::rom(owner).discover(),
        Ask::os(owner).discover(),
        Ask::ipxe(owner).discover(),
        Ask::os(owner).with(224, &passed(owner, "forged")).discover(),
        Ask::os(owner).discover().relayed(RELAY),
        Ask::os(owner).discover().relayed(ip(10, 54, 0, 77)),
        Ask::os(owner).select(address),
        Ask::os(owner).select(guest(8)),
        Ask::os(owner).select(address).with(code::SERVER_ID, &[10, 54, 0, 66]),
        Ask::os(owner).reboot(address),
        Ask::os(owner).reboot(NODE_23),
        Ask::os(owner).reboot(ip(192, 168, 0, 1)),
        Ask::os(owner).renew(address),
        Ask::os(owner).renew(NODE_23),
        Ask::os(owner).rebind(NODE_23),
        Ask::os(owner).renew(ip(10, 55, 250, 1)),
        Ask::os(owner).reboot(NODE_23).relayed(RELAY),
        Ask::os(owner).release(address),
        Ask::os(owner).release(address).relayed(RELAY),
        Ask::os(owner).release(address).relayed(ip(10, 54, 0, 77)),
        Ask::os(owner).decline(address),
        Ask::os(owner).decline(address).relayed(RELAY),
        Ask::os(owner).inform(address),
        Ask::os(owner),
    ];
    asks.iter().map(|ask| ask.in_frame_of(LIAR)).collect()
}

/// The law of this file: whatever is forged in the name of a machine, at whatever point of its boot, costs it nothing.
#[test]
fn no_forged_message_costs_a_machine_anything() {
    for owner in [mac(17), mac(1)] {
        for leased in [false, true] {
            for n in 0..lies(owner, NODE_17).len() {
                let mut world = World::settled(&config());
                let rom = Ask::rom(owner);
                let address = world.reply(&rom.discover()).yiaddr();
                if leased {
                    world.reply(&rom.select(address));
                }
                world.advance(3_000);
                let before = holds(&world, owner);
                let lie = lies(owner, address).swap_remove(n);
                let got = world.ask(&lie);
                assert_eq!(holds(&world, owner), before, "leased: {leased} {lie:?}");
                let told = replies(&got);
                assert!(told.iter().all(|reply| reply.kind != NAK), "{lie:?}");
                assert!(!got.iter().any(|got| matches!(got, Got::Neighbour(..) | Got::Record(_) | Got::Probe(_))), "{lie:?} {got:?}");
                let counted = world.count(Counter::DhcpNotItself);
                assert_eq!(counted, u64::from(told.is_empty()), "each that has no effect is counted: {lie:?} {got:?}");
                assert_eq!(world.reply(&rom.select(address)).kind, ACK, "leased: {leased} {lie:?}");
            }
        }
    }
}

#[test]
fn a_release_in_anothers_name_ends_no_boot() {
    let mut world = World::settled(&config());
    let ipxe = Ask::ipxe(mac(17));
    assert_eq!(world.lease(&ipxe), NODE_17);
    assert_eq!(world.silence(&ipxe.release(NODE_17).in_frame_of(LIAR)), []);
    let (src, dst) = (SocketAddrV4::new(NODE_17, 1024), SocketAddrV4::new(HEAD, 69));
    let payload = b"\0\x01muster.ipxe\0octet\0";
    let got = world.datagram(0, Some(mac(17)), (src, dst), payload);
    let [Got::Open { token, .. }] = got[..] else { panic!("{got:?}") };
    let got = world.handle(Input::Opened { token, answer: Err(crate::base::machine::OpenError::NotFound) });
    assert!(matches!(&got[..], [Got::Datagram { body, .. }] if body.starts_with(&[0, 3, 0, 1])), "its script: {got:?}");
    assert_eq!(world.count(Counter::DhcpNotItself), 1);
    // Its own word is taken.
    world.silence(&ipxe.release(NODE_17));
    assert!(world.client(mac(17)).is_none());
}

#[test]
fn a_decline_in_anothers_name_takes_no_address() {
    let mut world = World::settled(&config());
    let os = Ask::os(mac(17));
    assert_eq!(world.lease(&os), NODE_17);
    world.advance(600_000);
    assert_eq!(world.silence(&os.decline(NODE_17).in_frame_of(LIAR)), []);
    assert_eq!(world.reply(&os.renew(NODE_17)).kind, ACK);
    assert_eq!(world.reply(&os.discover()).yiaddr(), NODE_17);
}

#[test]
fn a_claim_between_offer_and_request_takes_no_address() {
    // A node of one NIC, one of two, whose number's address is probed as it is offered, and a guest.
    for (owner, wait) in [(mac(23), 0), (mac(23), 2_000), (mac(17), 0), (mac(17), 2_000), (mac(1), 2_000)] {
        let mut world = World::settled(&config());
        let offer = world.reply(&Ask::rom(owner).discover());
        world.advance(wait);
        assert_eq!(world.handle(claim(LIAR, offer.yiaddr())), []);
        assert_eq!(world.lease(&Ask::rom(owner)), offer.yiaddr());
        assert_eq!(world.reply(&Ask::rom(owner).select(offer.yiaddr())).kind, ACK);
        let dropped = [Counter::ArpUnasked, Counter::ArpNotBelieved, Counter::ArpConflict].map(|counter| world.count(counter));
        assert_eq!(dropped.iter().sum::<u64>() - dropped[2], 1, "{owner} {wait}: {dropped:?}");
    }
}

#[test]
fn claims_and_declines_do_not_empty_the_pool() {
    let mut world = World::settled(&config());
    for n in 1..=8 {
        world.handle(claim(mac(90 + n), guest(n)));
    }
    assert_eq!(world.server.roll().pools[0].as_ref().map(|pool| pool.quarantined()), Some(0), "nobody had asked");
    world.advance(2_000);
    for n in 1..=40 {
        let rom = Ask::rom(mac(n));
        let address = world.lease(&rom);
        world.silence(&rom.decline(address));
        // Its record and its place fall back.
        world.advance(700_000);
    }
    assert!(is_guest(world.lease(&Ask::rom(mac(99)))));
    // An answer to each probe, from another MAC each time: the oldest address is given again.
    let mut world = World::new(&config());
    for n in 1..=8u8 {
        let probes: Vec<Got> = world.advance(1);
        for got in probes {
            if let Got::Probe(address) = got {
                world.handle(claim(mac(100 + n), address));
            }
        }
    }
    world.advance(1_000);
    assert_eq!(world.server.roll().pools[0].as_ref().map(|pool| (pool.free(), pool.quarantined())), Some((0, 8)));
    let got = world.silence(&Ask::rom(mac(1)).discover());
    let [Got::Probe(first)] = got[..] else { panic!("{got:?}") };
    assert_eq!(only_reply(&world.advance(150)).map(|offer| offer.yiaddr()), Some(first), "probed anew, and nobody answers");
}

#[test]
fn a_proxy_is_found_out() {
    let mut own = config();
    own.networks[0].guests = crate::roll::plan::AddressRange::new(guest(1), guest(40));
    let mut world = World::new(&own);
    let mut answered = 0;
    while answered < 40 {
        for got in world.advance(1) {
            if let Got::Probe(address) = got {
                world.handle(claim(LIAR, address));
                answered += 1;
            }
        }
    }
    world.advance(2_000);
    assert_eq!(world.server.roll().pools[0].as_ref().map(|pool| pool.quarantined()), Some(0), "what it took came back");
    let rom = Ask::rom(mac(1));
    let offer = world.reply(&rom.discover());
    world.handle(claim(LIAR, offer.yiaddr()));
    assert_eq!(world.lease(&rom), offer.yiaddr());
    // A node with two MACs is probed for: neither the proxy nor anybody unknown makes it a guest.
    let offer = world.reply(&Ask::rom(mac(17)).discover());
    world.handle(claim(LIAR, NODE_17));
    world.handle(claim(OTHER, NODE_17));
    assert_eq!((offer.yiaddr(), world.lease(&Ask::rom(mac(17)))), (NODE_17, NODE_17));
    // Another machine that has one address is believed.
    let rom = Ask::rom(mac(2));
    let offer = world.reply(&rom.discover());
    world.handle(claim(OTHER, offer.yiaddr()));
    assert_eq!(world.reply(&rom.select(offer.yiaddr())).kind, NAK);
}

#[test]
fn a_decline_that_nobody_confirms_is_served_again() {
    let mut world = World::settled(&config());
    let rom = Ask::rom(mac(17));
    for n in 1..=3 {
        assert_eq!(world.lease(&rom), NODE_17);
        world.silence(&rom.decline(NODE_17));
        world.silence(&rom.discover());
        let offer = only_reply(&world.advance(1_200)).expect("held until ARP has had its time");
        assert_eq!(offer.yiaddr(), NODE_17, "nobody answered, {n}");
    }
    assert_eq!(world.lease(&rom), NODE_17);
    world.silence(&rom.decline(NODE_17));
    assert!(is_guest(world.lease(&rom)), "it declines and declines: another address, whatever the cause");
    let rom = Ask::rom(mac(1));
    let declined: Vec<Ipv4Addr> = (0..4)
        .map(|_| {
            let address = world.lease(&rom);
            world.silence(&rom.decline(address));
            address
        })
        .collect();
    assert!(declined.windows(2).all(|pair| pair[0] != pair[1]), "each time another one: {declined:?}");
}

/// Where ARP does not reach, a machine's own word is all there is, and a forger's is none.
#[test]
fn relayed_machines_are_heard_through_their_relay() {
    let mut world = World::settled(&config());
    let relayed = Ask::os(mac(1)).relayed(RELAY);
    let address = world.reply(&relayed.discover()).yiaddr();
    world.reply(&relayed.select(address));
    for lie in [Ask::os(mac(1)).release(address), Ask::os(mac(1)).decline(address)] {
        // On the head's own link there is no such network; a frame of the machine's own MAC would be its word.
        let mut lie = lie.in_frame_of(LIAR);
        lie.header.ciaddr = guest(1);
        world.silence(&lie);
    }
    assert_eq!(world.reply(&Ask::os(mac(1)).renew(address).in_frame_of(OTHER)).kind, ACK, "by the router's frame");
    let second = Ask::os(mac(1)).discover().relayed(ip(10, 55, 0, 2)).in_frame_of(OTHER);
    assert_eq!(world.reply(&second).yiaddr(), address, "two relays: the copies come from both");
    world.silence(&Ask::os(mac(1)).release(address).in_frame_of(OTHER));
    assert!(world.client(mac(1)).is_none(), "a release comes by the router");
}

/// Bridges that put their own MAC in, bonds that renew through a slave, machines that move.
#[test]
fn honest_machines_that_differ_are_served_as_themselves() {
    let mut world = World::settled(&config());
    // A bridge's MAC in all frames.
    let bridged = Ask::rom(mac(1)).in_frame_of(OTHER);
    let address = world.lease(&bridged);
    assert_eq!(world.lease(&Ask::os(mac(1)).in_frame_of(OTHER)), address);
    assert_eq!(world.stage(mac(1)), Some(Stage::Up));
    world.silence(&Ask::os(mac(1)).release(address).in_frame_of(OTHER));
    assert!(world.client(mac(1)).is_none(), "its own word, as far as can be seen");
    // A bond's renewals.
    let os = Ask::os(mac(17));
    world.lease(&os);
    for _ in 0..5 {
        world.advance(1_800_000);
        assert_eq!(world.reply(&os.renew(NODE_17).in_frame_of(OTHER)).kind, ACK);
    }
    assert_eq!(world.client(mac(17)).map(|client| client.is_leased()), Some(true), "its lease goes on");
    assert_eq!(world.lease(&os.in_frame_of(OTHER)), NODE_17, "and a whole exchange is answered");
    // A guest's, whose lease is on record.
    let guest = world.lease(&Ask::os(mac(2)));
    for _ in 0..5 {
        world.advance(300_000);
        world.ask(&Ask::os(mac(2)).renew(guest).in_frame_of(OTHER));
        assert_eq!(world.reply(&Ask::os(mac(2)).renew(guest).in_frame_of(OTHER)).kind, ACK);
    }
    // From the link to behind a relay in the middle of a boot, and back.
    world.lease(&Ask::rom(mac(3)));
    let moved = Ask::rom(mac(3)).discover().relayed(RELAY);
    world.silence(&moved);
    world.advance(61_000);
    assert!(world.reply(&moved).yiaddr().octets().starts_with(&[10, 55, 250]));
    assert!(is_guest(world.lease(&Ask::rom(mac(3)))));
}

/// A frame in the name of one NIC keeps the number's address from no other NIC of the node.
#[test]
fn a_node_that_is_only_forged_has_no_address() {
    let mut world = World::settled(&config());
    assert_eq!(world.lease(&Ask::rom(mac(117)).in_frame_of(LIAR)), NODE_17);
    world.silence(&Ask::rom(mac(17)).discover());
    assert_eq!(only_reply(&world.advance(150)).map(|offer| offer.yiaddr()), Some(NODE_17), "once ARP has shown nobody");
    assert_eq!(world.lease(&Ask::rom(mac(17))), NODE_17);
}

/// What a report adds to a node must come from the node.
#[test]
fn a_report_in_a_nodes_name_adds_nothing() {
    let mut world = World::settled(&config());
    let before = *world.server.roll().lots().lot(crate::roll::plan::Number(23)).unwrap();
    let got = world.ask(&Ask::os(mac(23)).with(224, &passed(mac(23), "forged")).discover().in_frame_of(LIAR));
    assert!(!got.iter().any(|got| matches!(got, Got::Record(_))), "{got:?}");
    assert_eq!(*world.server.roll().lots().lot(crate::roll::plan::Number(23)).unwrap(), before);
}

/// A new machine asks in its own frames; somebody else's REQUEST takes its offer for it, and reports a MAC of his own beside.
#[test]
fn nobody_takes_the_offer_of_another_machine() {
    let mut world = World::settled(&config());
    let both = |macs: [Mac; 2]| {
        let mut report = Report { verdict: ReportVerdict::Passed, ..Report::EMPTY };
        assert!(macs.into_iter().all(|mac| report.macs.push(mac)));
        let mut buf = [0; 255];
        let len = report.write(&mut buf).unwrap();
        buf[..len].to_vec()
    };
    let honest = Ask::os(mac(1)).with(224, &passed(mac(1), "mine"));
    let offer = world.reply(&honest.discover());
    let forged = Ask::os(mac(1)).with(224, &both([mac(1), LIAR])).in_frame_of(LIAR);
    for lie in [forged.select(offer.yiaddr()), forged.select(offer.yiaddr()).with(code::SERVER_ID, &[10, 54, 0, 66]), forged.discover()] {
        let got = world.silence(&lie);
        assert!(!got.iter().any(|got| matches!(got, Got::Record(_))), "{got:?}");
    }
    assert_eq!(world.count(Counter::DhcpNotItself), 3);
    let ack = world.reply(&honest.select(offer.yiaddr()));
    assert_eq!((ack.kind, ack.yiaddr()), (ACK, offer.yiaddr()));
    let lot = *world.server.roll().lots().lot(crate::roll::plan::Number(0)).unwrap();
    assert_eq!(lot.fingerprint.macs.as_slice(), [mac(1)]);
}

#[test]
fn nothing_is_sent_outside_the_networks() {
    let mut world = World::settled(&config());
    let outside = ip(203, 0, 113, 77);
    world.silence(&Ask::os(mac(1)).inform(outside));
    let mut by_source = Ask::os(mac(1)).inform(Ipv4Addr::UNSPECIFIED);
    by_source.src = SocketAddrV4::new(outside, 68);
    world.silence(&by_source);
    assert_eq!(world.count(Counter::DhcpOutside), 2);
    assert_eq!(world.reply(&Ask::os(mac(1)).inform(ip(10, 54, 9, 9))).kind, ACK);
}

/// Two servers behind one relay: a client of the other one is not told NAK.
#[test]
fn another_servers_clients_are_left_alone() {
    let mut world = World::settled(&config());
    let theirs = [ip(10, 55, 0, 99), ip(10, 55, 250, 2)];
    for address in theirs {
        let mut ask = Ask::os(mac(1)).rebind(address).relayed(RELAY);
        ask.header.ciaddr = address;
        world.silence(&ask);
        assert_eq!(world.count(Counter::Nak), 0, "through a relay it is REBINDING: no record, no say");
    }
    world.silence(&Ask::os(mac(1)).renew(theirs[0]));
    assert_eq!(world.count(Counter::Nak), 0, "a NAK on our link reaches nobody behind the router");
}

/// A relay that sends to two addresses of the head: one offer was taken, whichever copy comes first.
#[test]
fn every_address_of_the_head_is_the_head() {
    let mut world = World::settled(&config());
    let relayed = Ask::os(mac(1)).relayed(RELAY);
    let offer = world.reply(&relayed.discover());
    let mut copy = relayed.select(offer.yiaddr());
    (copy.link, copy.dst) = (1, SocketAddrV4::new(IB_HEAD, 67));
    let ack = world.reply(&copy);
    assert_eq!((ack.kind, ack.option(code::SERVER_ID)), (ACK, Some(&HEAD.octets()[..])), "the name that the client knows");
    assert_eq!(world.reply(&relayed.select(offer.yiaddr())).kind, ACK);
}

#[test]
fn a_restart_does_not_make_machines_strange() {
    let mut world = World::settled(&config());
    let mut journal = Vec::new();
    let mut told = |got: Vec<Got>| {
        journal.extend(got.iter().filter_map(|got| if let Got::Record(line) = got { Some(line.clone()) } else { None }));
        only_reply(&got).expect("a reply")
    };
    let asks = [Ask::rom(mac(1)).in_frame_of(OTHER), Ask::rom(mac(2)), Ask::rom(mac(3)).relayed(RELAY)];
    let addresses = asks.clone().map(|ask| {
        let address = world.reply(&ask.discover()).yiaddr();
        told(world.ask(&ask.select(address))).yiaddr()
    });
    let server = Server::restored(&config(), 9, world.now, journal.iter().map(String::as_str)).unwrap();
    let mut world = World::of(server, world.now);
    world.advance(2_000);
    for (ask, address) in asks.iter().zip(addresses) {
        let offer = world.reply(&ask.discover());
        assert_eq!((offer.yiaddr(), offer.file.as_str()), (address, "undionly.kpxe"), "{ask:?}");
    }
    world.advance(QUARANTINE.as_millis() as u64);
}
