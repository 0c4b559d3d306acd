//! Every state of a REQUEST, and how addresses come, stay and go.

use super::*;
use crate::config::KnownNode;

fn neighbours(got: &[Got]) -> Vec<(Ipv4Addr, Option<Mac>)> {
    let neighbour = |got: &Got| match got {
        Got::Neighbour(address, mac) => Some((*address, *mac)),
        _ => None,
    };
    got.iter().filter_map(neighbour).collect()
}

fn kind(got: &[Got]) -> Option<MessageType> {
    only_reply(got).and_then(|reply| reply.kind)
}

#[test]
fn requests_by_state() {
    let (node, stranger) = (Ask::os(mac(17)), Ask::os(mac(1)));
    let free = guest(5);
    // who, what, authoritative -> answer of a server that knows nothing of it any more
    let table = [
        (node.reboot(NODE_17), false, ACK, "INIT-REBOOT with the number's address"),
        (node.reboot(NODE_23), false, NAK, "INIT-REBOOT with another's"),
        (node.reboot(ip(192, 168, 0, 9)), false, NAK, "INIT-REBOOT from another network"),
        (node.renew(NODE_17), false, ACK, "RENEWING"),
        (node.rebind(NODE_17), false, ACK, "REBINDING"),
        (node.renew(free), false, NAK, "a guest that has a number now"),
        (stranger.reboot(free), false, None, "INIT-REBOOT of an unknown: silence (RFC 2131, 4.3.2)"),
        (stranger.reboot(free), true, NAK, "unless authoritative"),
        (stranger.reboot(ip(192, 168, 0, 9)), false, NAK, "but the wrong network is told"),
        (stranger.renew(free), false, ACK, "RENEWING came to us alone: ours before the restart"),
        (stranger.renew(NODE_23), false, NAK, "a node's address is nobody else's"),
        (stranger.renew(HEAD), false, NAK, "nor is the head's"),
        (stranger.rebind(free), false, None, "REBINDING may be meant for another server"),
        (stranger.rebind(free), true, ACK, "unless authoritative"),
        (stranger.rebind(NODE_23), true, NAK, ""),
        (stranger.select(free), false, ACK, "SELECTING soon after a restart: offered before it"),
        (stranger.select(NODE_23), false, NAK, "but never a node's"),
    ];
    for (ask, authoritative, answer, why) in table {
        let mut own = config();
        own.dhcp.authoritative = authoritative;
        for mut world in [World::new(&own), World::settled(&own)] {
            assert_eq!(kind(&world.ask(&ask)), answer, "{why} {ask:?}");
        }
    }
}

#[test]
fn what_was_never_offered_is_not_taken() {
    let mut world = World::settled(&config());
    world.advance(60_000);
    assert_eq!(kind(&world.ask(&Ask::os(mac(1)).select(guest(5)))), NAK);
}

#[test]
fn an_offer_outlives_the_daemon_that_made_it() {
    let mut world = World::settled(&config());
    let rom = Ask::rom(mac(1));
    let offer = world.reply(&rom.discover()).yiaddr();
    world.restart(&config());
    world.advance(1_000);
    let ack = world.reply(&rom.select(offer));
    assert_eq!((ack.kind, ack.yiaddr()), (ACK, offer));
    // Of two that were offered one address, by one daemon each, the first has it.
    let mut world = World::settled(&config());
    let other = Ask::rom(mac(2));
    world.lease(&other.clone());
    let taken = world.reply(&other.discover()).yiaddr();
    assert_eq!(kind(&world.ask(&rom.select(taken))), NAK);
}

#[test]
fn a_request_that_fits_no_state_is_dropped() {
    let mut world = World::new(&config());
    let mut empty = Ask::os(mac(17)).reboot(NODE_17);
    empty.options.retain(|(code, _)| *code != code::REQUESTED_IP);
    world.silence(&empty);
    assert_eq!(world.count(Counter::DhcpMalformed), 1);
}

#[test]
fn an_offer_not_taken_falls_back() {
    let mut world = World::settled(&config());
    // Soon after its start it would think that a daemon before it has made the offer.
    world.advance(60_000);
    let offer = world.reply(&Ask::rom(mac(1)).discover());
    let theirs = Ask::rom(mac(1)).select(ip(10, 54, 250, 77)).with(code::SERVER_ID, &[10, 54, 0, 66]);
    world.silence(&theirs);
    assert_eq!((world.count(Counter::DhcpOtherServer), world.server.roll().len()), (1, 0), "another server's offer was picked");
    world.silence(&theirs);
    assert_eq!(kind(&world.ask(&Ask::rom(mac(1)).select(offer.yiaddr()))), NAK);
    // A lease does not end because the client talks to another server once.
    world.lease(&Ask::rom(mac(17)));
    world.silence(&Ask::rom(mac(17)).select(NODE_17).with(code::SERVER_ID, &[10, 54, 0, 66]));
    assert!(world.client(mac(17)).is_some_and(|client| client.is_leased()));
    world.reply(&Ask::rom(mac(2)).discover());
    world.advance(61_000);
    assert!(world.client(mac(2)).is_none(), "an offer is kept for a minute");
}

#[test]
fn the_neighbour_entry_follows_the_lease() {
    let mut world = World::settled(&config());
    let offer = world.reply(&Ask::rom(mac(1)).discover());
    let select = Ask::rom(mac(1)).select(offer.yiaddr());
    assert_eq!(neighbours(&world.ask(&select)), [(offer.yiaddr(), Some(mac(1)))]);
    assert_eq!(neighbours(&world.ask(&Ask::os(mac(1)).renew(offer.yiaddr()))), [], "a renewal finds it set");
    assert_eq!(neighbours(&world.ask(&select)), [], "and so does the rest of the same boot");
    world.advance(10_000);
    let made = [(offer.yiaddr(), Some(mac(1)))];
    assert_eq!(neighbours(&world.ask(&select)), made, "the next one sets it: a link that went down has dropped it");
    let got = world.advance(601_000);
    assert_eq!(neighbours(&got), [(offer.yiaddr(), None)], "and dropped when the lease ends");
    assert!(world.client(mac(1)).is_none());
    assert_eq!(neighbours(&world.ask(&Ask::rom(mac(1)).discover())), [], "an offer sets none");
}

#[test]
fn renewals_extend_and_change_nothing() {
    let mut world = World::settled(&config());
    let os = Ask::os(mac(1));
    let address = world.lease(&os);
    for _ in 0..10 {
        world.advance(300_000);
        let ack = world.reply(&os.renew(address));
        assert_eq!((ack.kind, ack.yiaddr(), ack.seconds(code::LEASE_TIME)), (ACK, address, Some(600)));
    }
    assert_eq!(world.stage(mac(1)), Some(Stage::Up));
    world.advance(599_000);
    assert!(world.client(mac(1)).is_some());
    world.advance(2_000);
    assert!(world.client(mac(1)).is_none(), "no renewal, no lease");
    assert_eq!(world.lease(&os), address, "the same address again: its identity points at it");
}

#[test]
fn a_release_frees_at_once() {
    let mut world = World::settled(&config());
    let address = world.lease(&Ask::rom(mac(1)));
    assert_eq!(neighbours(&world.silence(&Ask::rom(mac(1)).release(ip(10, 54, 250, 99)))), [], "not its address");
    assert_eq!(neighbours(&world.silence(&Ask::rom(mac(2)).release(address))), [], "not its holder");
    assert_eq!(neighbours(&world.silence(&Ask::rom(mac(1)).release(address))), [(address, None)]);
    assert_eq!((world.server.roll().len(), world.count(Counter::Release)), (0, 3));
    let pool = world.server.roll().pools[0].as_ref().expect("a pool");
    assert_eq!((pool.held(), pool.free()), (0, 8));
}

#[test]
fn a_declined_address_is_put_away_when_somebody_answers_for_it() {
    let mut world = World::settled(&config());
    let address = world.lease(&Ask::rom(mac(1)));
    assert_eq!(neighbours(&world.silence(&Ask::rom(mac(1)).decline(guest(9)))), [], "not its address");
    let got = world.silence(&Ask::rom(mac(1)).decline(address));
    assert_eq!((neighbours(&got), got.last()), (vec![(address, None)], Some(&Got::Probe(address))));
    world.handle(Input::Arp { link: 0, mac: mac(99), sender: address });
    let next = world.lease(&Ask::rom(mac(1)));
    assert_ne!(next, address);
    let others: Vec<Ipv4Addr> = (2..=7).map(|n| world.lease(&Ask::rom(mac(n)))).collect();
    assert!(!others.contains(&address), "nobody gets it");
    world.silence(&Ask::rom(mac(8)).discover());
    world.advance(602_000);
    assert_eq!(world.server.roll().pools[0].as_ref().map(|pool| pool.quarantined()), Some(0), "ten minutes later it is probed again");
}

#[test]
fn a_node_that_declines_its_number_lives_as_a_guest() {
    let mut world = World::settled(&config());
    assert_eq!(world.lease(&Ask::rom(mac(17))), NODE_17);
    assert_eq!(world.silence(&Ask::rom(mac(17)).decline(NODE_17)).last(), Some(&Got::Probe(NODE_17)));
    world.silence(&Ask::rom(mac(17)).discover());
    let got = world.handle(Input::Arp { link: 0, mac: mac(99), sender: NODE_17 });
    assert!(only_reply(&got).is_some_and(|offer| is_guest(offer.yiaddr())), "somebody has it: {got:?}");
    assert_eq!(world.client(mac(17)).and_then(|client| client.doubt.user()), Some(mac(99)), "who it is can be shown");
    assert!(is_guest(world.lease(&Ask::rom(mac(17)))));
    assert!(world.client(mac(17)).is_some_and(|client| client.number() == Some(Number(17))));
    for _ in 0..3 {
        world.advance(250_000);
        let held = given_to(&world, 17);
        world.ask(&Ask::rom(mac(17)).renew(held));
    }
    assert_eq!(world.lease(&Ask::rom(mac(17))), NODE_17, "later it has its own again");
}

#[test]
fn a_conflict_found_while_probing_gives_another_address_at_once() {
    let mut world = World::new(&config());
    let got = world.silence(&Ask::rom(mac(1)).discover());
    let [Got::Probe(probed)] = got[..] else { panic!("{got:?}") };
    world.advance(50);
    let answer = Input::Arp { link: 0, mac: mac(99), sender: probed };
    let offer = only_reply(&world.handle(answer)).or_else(|| only_reply(&world.advance(250))).expect("held, not lost");
    assert!(is_guest(offer.yiaddr()) && offer.yiaddr() != probed);
    assert_eq!(world.count(Counter::ArpConflict), 1);
}

#[test]
fn a_conflict_on_an_offered_address_ends_in_a_nak() {
    let mut world = World::settled(&config());
    let offer = world.reply(&Ask::rom(mac(1)).discover());
    let conflict = Input::Arp { link: 0, mac: mac(99), sender: offer.yiaddr() };
    assert!(only_reply(&world.handle(conflict)).is_none());
    assert_eq!(kind(&world.ask(&Ask::rom(mac(1)).select(offer.yiaddr()))), NAK);
    let second = world.lease(&Ask::rom(mac(1)));
    assert_ne!(second, offer.yiaddr());
    // Once it is leased, ARP of the client itself, or of a liar, takes nothing away.
    for shown in [mac(1), mac(99)] {
        world.handle(Input::Arp { link: 0, mac: shown, sender: second });
    }
    assert_eq!(given_to(&world, 1), second);
}

#[test]
fn a_clients_own_arp_is_no_conflict() {
    let mut world = World::settled(&config());
    let offer = world.reply(&Ask::rom(mac(1)).discover());
    world.handle(Input::Arp { link: 0, mac: mac(1), sender: offer.yiaddr() });
    assert_eq!((world.lease(&Ask::rom(mac(1))), world.count(Counter::ArpConflict)), (offer.yiaddr(), 0));
}

#[test]
fn a_vetted_address_that_somebody_takes_is_found_by_a_probe() {
    let mut world = World::settled(&config());
    for n in 1..=7 {
        world.advance(1_000);
        let claim = Input::Arp { link: 0, mac: mac(90 + n), sender: guest(n) };
        world.handle(claim);
        assert_eq!(world.advance(90), [Got::Probe(guest(n))], "claimed unasked: it is asked for");
        world.handle(claim);
    }
    assert_eq!(world.lease(&Ask::rom(mac(1))), guest(8));
    world.handle(Input::Arp { link: 0, mac: mac(99), sender: ip(10, 54, 9, 9) });
    world.handle(Input::Arp { link: 1, mac: mac(99), sender: guest(8) });
    assert_eq!((world.count(Counter::ArpConflict), given_to(&world, 1)), (7, guest(8)), "no guest address, wrong link");
}

#[test]
fn two_nics_of_a_node_have_two_addresses() {
    let mut world = World::settled(&config());
    assert_eq!(world.lease(&Ask::rom(mac(17))), NODE_17);
    let second = world.lease(&Ask::rom(mac(117)));
    assert!(is_guest(second), "the number's address is taken: {second}");
    assert_eq!(world.reply(&Ask::rom(mac(117)).renew(second)).kind, ACK);
    world.silence(&Ask::rom(mac(17)).release(NODE_17));
    let got = world.ask(&Ask::rom(mac(117)).discover());
    assert_eq!(only_reply(&got).map(|offer| offer.yiaddr()), Some(NODE_17), "now it is free");
    assert_eq!(neighbours(&got), [(second, None)], "the entry of the address that it leaves");
}

#[test]
fn a_new_number_is_told_by_nak() {
    let mut world = World::settled(&config());
    let os = Ask::os(mac(1));
    let guest = world.lease(&os);
    let mut edited = config();
    edited.nodes.push(KnownNode { number: Number(42), macs: vec![mac(1)] });
    world.server.reconfigure(world.now, &edited).unwrap();
    assert_eq!(kind(&world.ask(&os.renew(guest))), NAK, "the address is not its own any more");
    let got = world.ask(&os.discover());
    assert_eq!(only_reply(&got).map(|offer| offer.yiaddr()), Some(ip(10, 54, 1, 42)));
    assert_eq!(neighbours(&got), [(guest, None)]);
    assert_eq!(world.lease(&os), ip(10, 54, 1, 42));
    // And back: a number that is gone makes it a guest.
    world.server.reconfigure(world.now, &config()).unwrap();
    assert_eq!(kind(&world.ask(&os.renew(ip(10, 54, 1, 42)))), NAK);
    assert!(is_guest(world.lease(&os)));
}

#[test]
fn a_reload_that_changes_nothing_disturbs_nobody() {
    let mut world = World::settled(&config());
    let (os, node) = (Ask::os(mac(1)), Ask::os(mac(17)));
    let address = world.lease(&os);
    world.lease(&node);
    let mut wider = config();
    wider.networks[0].guests = crate::roll::plan::AddressRange::new(guest(1), ip(10, 54, 250, 40));
    for new in [config(), wider] {
        world.server.reconfigure(world.now, &new).unwrap();
        assert_eq!((world.reply(&os.renew(address)).kind, world.reply(&node.renew(NODE_17)).kind), (ACK, ACK));
    }
    let pool = world.server.roll().pools[0].as_ref().expect("a pool");
    assert_eq!((pool.held(), pool.free()), (1, 39), "the wider pool knows who lives in it");
}

#[test]
fn a_guest_that_outlived_a_restart_keeps_its_address() {
    let mut world = World::settled(&config());
    let os = Ask::os(mac(1));
    let address = world.lease(&os);
    // The sweep after the restart finds the machine on its address.
    let mut restarted = World::new(&config());
    restarted.advance(20);
    restarted.handle(Input::Arp { link: 0, mac: mac(1), sender: address });
    restarted.advance(2_000);
    let others: Vec<Ipv4Addr> = (2..=8).map(|n| restarted.lease(&Ask::rom(mac(n)))).collect();
    assert!(!others.contains(&address), "a machine that still lives there is not robbed");
    assert_eq!(restarted.reply(&os.renew(address)).yiaddr(), address);
}

#[test]
fn a_guest_whose_pool_has_moved_is_told_by_nak() {
    let mut world = World::settled(&config());
    let os = Ask::os(mac(1));
    let old = world.lease(&os);
    let mut edited = config();
    edited.networks[0].guests = crate::roll::plan::AddressRange::new(ip(10, 54, 251, 1), ip(10, 54, 251, 9));
    world.server.reconfigure(world.now, &edited).unwrap();
    world.advance(1_000);
    assert_eq!(kind(&world.ask(&os.renew(old))), NAK);
    assert!(world.lease(&os).octets().starts_with(&[10, 54, 251]));
}

#[test]
fn a_system_that_was_booted_from_its_disk_is_up() {
    let mut world = World::settled(&config());
    world.lease(&Ask::rom(mac(17)));
    assert_eq!(world.stage(mac(17)), Some(Stage::Leased));
    assert_eq!(kind(&world.ask(&Ask::os(mac(17)).reboot(NODE_17))), ACK);
    assert_eq!(world.stage(mac(17)), Some(Stage::Up), "its firmware had the same lease, and loaded nothing");
}

#[test]
fn systems_that_renew_with_a_restarted_server_are_up() {
    for ask in [Ask::os(mac(17)).renew(NODE_17), Ask::os(mac(17)).rebind(NODE_17), Ask::os(mac(1)).renew(guest(5))] {
        let mut world = World::settled(&config());
        assert_eq!(kind(&world.ask(&ask)), ACK);
        assert_eq!(world.stage(ask.mac), Some(Stage::Up));
    }
}
