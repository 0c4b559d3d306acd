//! Machines that move between networks, messages that are unusual in size or way, and what is counted.

use super::*;
use crate::base::stats::Counted;
use crate::engine::dhcp::Counter;
use crate::roll::client::Identity;
use crate::roll::lot::{AssignedBy, Fingerprint, Lot};
use crate::roll::plan::{AddressPlan, AddressRange};
use crate::roll::registry::Promise;

#[test]
fn a_guest_that_moves_leaves_its_address() {
    let mut world = World::settled(&config());
    let os = Ask::os(mac(1));
    let old = world.lease(&os);
    let got = world.ask(&os.relayed(RELAY).discover());
    let offer = only_reply(&got).expect("an offer");
    assert!(offer.yiaddr().octets().starts_with(&[10, 55, 250]));
    assert!(got.contains(&Got::Neighbour(old, None)), "{got:?}");
    let held: Vec<usize> = world.server.roll().pools.iter().flatten().map(|pool| pool.held()).collect();
    assert_eq!((held, world.server.roll().len()), (vec![0, 0, 1], 1), "one machine, one address");
    assert_eq!(world.reply(&os.relayed(RELAY).reboot(old)).kind, NAK, "what it had elsewhere is no use here");
    assert_eq!(world.lease(&os), old, "back home");
}

#[test]
fn networks_may_change_places_in_the_config() {
    let mut world = World::settled(&config());
    let os = Ask::os(mac(1));
    let local = world.lease(&os);
    let relayed = Ask::os(mac(2)).relayed(RELAY);
    let far = world.reply(&relayed.discover()).yiaddr();
    assert_eq!(world.reply(&relayed.select(far)).kind, ACK);
    let mut edited = config();
    edited.networks.reverse();
    world.server.reconfigure(world.now, &edited).unwrap();
    assert_eq!((world.reply(&os.renew(local)).kind, world.reply(&Ask::os(mac(2)).renew(far)).kind), (ACK, ACK));
    let held: Vec<usize> = world.server.roll().pools.iter().flatten().map(|pool| pool.held()).collect();
    assert_eq!(held, [1, 0, 1], "the pools moved with their networks");
}

#[test]
fn a_discover_too_long_to_be_held_is_answered_when_repeated() {
    let mut world = World::new(&config());
    let long = (224..228).fold(Ask::rom(mac(1)), |ask, code| ask.with(code, &[7; 200])).discover();
    let got = world.silence(&long);
    let [Got::Probe(probed)] = got[..] else { panic!("{got:?}") };
    assert!(only_reply(&world.advance(300)).is_none());
    assert_eq!(world.reply(&long).yiaddr(), probed);
}

#[test]
fn a_long_relay_option_comes_back_whole() {
    let info: Vec<u8> = [1, 253].into_iter().chain((0..253).map(|n| n as u8)).collect();
    let mut own = config();
    own.networks[2].options = (0..4).map(|n| (200 + n, vec![n; 100])).collect();
    let mut world = World::new(&own);
    let offer = world.reply(&Ask::rom(mac(1)).relayed(RELAY).with(code::RELAY_AGENT_INFO, &info).discover());
    assert_eq!((offer.option(82), offer.codes.last()), (Some(&info[..]), Some(&82)), "whatever else has no room");
}

#[test]
fn bootp_is_answered_the_way_it_came() {
    let mut world = World::settled(&config());
    let reply = world.reply(&Ask::os(mac(17)).broadcast());
    assert_eq!((reply.kind, reply.via), (None, Via::Broadcast));
    let reply = world.reply(&Ask::os(mac(1)).relayed(RELAY));
    assert_eq!((reply.kind, reply.to, reply.option(82)), (None, SocketAddrV4::new(RELAY, 67), Some(&b"\x01\x04eth7"[..])));
}

#[test]
fn an_inform_of_a_known_machine_is_answered_with_its_own_options() {
    let mut world = World::new(&config());
    world.lease(&Ask::os(mac(17)));
    let ack = world.reply(&Ask::os(mac(17)).with(code::PARAMETER_LIST, &[1, 12]).inform(NODE_17));
    assert_eq!((ack.kind, ack.option(code::HOST_NAME), ack.option(code::LEASE_TIME)), (ACK, Some(&b"n17"[..]), None));
    assert!(world.client(mac(17)).is_some_and(|client| client.is_leased()), "and changes nothing");
}

#[test]
fn what_is_asked_and_answered_is_counted() {
    let mut world = World::settled(&config());
    assert_eq!(world.count(Counter::ArpProbe), 8, "each guest address of the link once, none behind a relay or on InfiniBand");
    let guest = world.lease(&Ask::os(mac(1)));
    assert_eq!(world.count(Counter::ArpProbe), 9, "once more as it is offered");
    world.ask(&Ask::os(mac(1)).reboot(NODE_23));
    world.silence(&Ask::os(mac(2)).reboot(guest));
    world.ask(&Ask::os(mac(1)).inform(guest));
    world.silence(&Ask::os(mac(1)).decline(guest));
    world.ask(&Ask::os(mac(17)));
    use Counter::*;
    let table = [(Discover, 1), (Offer, 1), (Request, 3), (Ack, 1), (Nak, 1), (DhcpUnknown, 1), (Inform, 1), (Decline, 1), (Bootp, 1)];
    for (counter, times) in table {
        assert_eq!(world.count(counter), times, "{}", counter.name());
    }
}

#[test]
fn router_solicitations_are_answered_unless_switched_off() {
    for on in [true, false] {
        let mut own = config();
        own.server.router_adverts = on;
        let mut world = World::new(&own);
        let mut buf = [0; 100];
        let len = crate::wire::ether::emit_router_solicit(&mut buf, mac(1), std::net::Ipv6Addr::UNSPECIFIED).unwrap();
        let solicit = Input::Frame { link: 0, bytes: &buf[..len] };
        assert_eq!(
            (world.handle(solicit).len(), world.count(crate::engine::stats::Counter::RouterAdvert)),
            (usize::from(on), u64::from(on))
        );
    }
}

#[test]
fn an_offer_is_kept_for_slow_firmware() {
    let mut world = World::settled(&config());
    let offer = world.reply(&Ask::rom(mac(1)).discover());
    world.advance(55_000);
    assert_eq!(world.reply(&Ask::rom(mac(1)).select(offer.yiaddr())).kind, ACK, "it asks again within 32 s, and picks after 4");
}

#[test]
fn infiniband_that_fills_chaddr_goes_by_client_id_all_the_same() {
    let mut world = World::new(&config());
    let mut port = Ask::infiniband(b"\xff\x00\x00\x00\x01port-a");
    let address = world.lease(&port);
    (port.header.hlen, port.header.chaddr) = (6, [2; 16]);
    assert_eq!(world.lease(&port), address, "RFC 4390, 2.1");
    assert_eq!(world.server.roll().len(), 1);
}

#[test]
fn a_routers_address_is_never_given() {
    let mut own = config();
    own.networks[0].routers = vec![guest(3)];
    let mut world = World::settled(&own);
    assert_eq!(world.count(Counter::ArpProbe), 7, "nor probed");
    let given: Vec<Ipv4Addr> = (1..=7).map(|n| world.lease(&Ask::os(mac(n)))).collect();
    assert!(!given.contains(&guest(3)), "{given:?}");
    world.silence(&Ask::os(mac(8)).discover());
}

#[test]
fn a_pool_that_was_widened_knows_its_guests_before_they_ask() {
    let mut world = World::settled(&config());
    let address = world.lease(&Ask::os(mac(1)));
    let mut wider = config();
    wider.networks[0].guests = crate::roll::plan::AddressRange::new(guest(1), guest(9));
    world.server.reconfigure(world.now, &wider).unwrap();
    world.advance(2_000);
    let others: Vec<Ipv4Addr> = (2..=9).map(|n| world.lease(&Ask::os(mac(n)))).collect();
    assert!(!others.contains(&address), "a silent guest is not robbed: {others:?}");
    let pool = world.server.roll().pools[0].as_ref().expect("a pool");
    assert_eq!((pool.held(), pool.free()), (9, 0));
}

#[test]
fn a_renumbered_cluster_moves_one_by_one() {
    let mut world = World::settled(&config());
    for n in [1, 2] {
        let lot = Lot::default().occupied(
            Fingerprint { macs: [mac(n)].into_iter().collect(), ..Fingerprint::default() },
            AssignedBy::Operator,
            0,
        );
        world.server.roll_mut().set_lot(Number(u32::from(n)), lot, Promise::default()).unwrap();
        assert_eq!(world.lease(&Ask::os(mac(n))), ip(10, 54, 1, n));
    }
    let config = Config { plan: AddressPlan::new(ip(10, 54, 1, 1), 200), ..config() };
    let moves: Vec<String> = world.server.moves(&config.plan).iter().map(ToString::to_string).collect();
    assert_eq!(moves, ["n1-n2: 10.54.1.1-10.54.1.2 -> 10.54.1.2-10.54.1.3"]);
    world.server.reconfigure(world.now, &config).unwrap();
    world.advance(60_000);
    assert_eq!(world.reply(&Ask::os(mac(1)).renew(ip(10, 54, 1, 1))).kind, NAK);
    let meanwhile = world.lease(&Ask::os(mac(1)));
    assert_eq!(config.plan.number(meanwhile), None, "10.54.1.2 is in use, and silence does not mean that it is not");
    assert_eq!(world.reply(&Ask::os(mac(2)).renew(ip(10, 54, 1, 2))).kind, NAK);
    assert_eq!(world.lease(&Ask::os(mac(2))), ip(10, 54, 1, 3));
    assert_eq!(world.reply(&Ask::os(mac(1)).renew(meanwhile)).kind, NAK, "now its own is free");
    assert_eq!(world.lease(&Ask::os(mac(1))), ip(10, 54, 1, 2));
    assert!(world.server.moves(&config.plan).is_empty());
}

/// A reload gives the network other guests: what the old pool had promised stays so.
#[test]
fn a_reload_forgets_no_promise() {
    let mut world = World::settled(&config());
    let held = world.lease(&Ask::os(mac(1)));
    let left = world.lease(&Ask::os(mac(2)));
    assert_ne!(world.lease(&Ask::rom(mac(2)).relayed(RELAY)), left);
    let mut wider = config();
    wider.networks[0].guests = AddressRange::new(guest(1), guest(9));
    world.server.reconfigure(world.now, &wider).unwrap();
    let pool = world.server.roll().pools[0].as_ref().unwrap();
    let (owner, other) = (|n| Identity::Mac(mac(n)), Identity::Mac(mac(3)));
    assert!(!pool.is_free(held, &other) && !pool.is_free(left, &other) && pool.is_free(left, &owner(2)));
    world.server.checkpoint();
    let lines = world.compacted();
    assert!([held, left].iter().all(|address| lines.iter().any(|line| line.contains(&format!(" guest {address} ")))), "{lines:?}");
}
