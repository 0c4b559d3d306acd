//! Who has a place: machines that fall silent, strangers, and frames that pretend to be somebody's.

use super::*;
use crate::roll::plan::AddressRange;

const THIEF: Mac = Mac([0x66, 0, 0, 0, 0, 1]);

/// Node 17 with its lease, and its socket at a port.
fn node(world: &mut World) -> Peer {
    let address = world.lease(&Ask::rom(mac(17)));
    assert_eq!(address, ip(10, 54, 1, 17));
    Peer { mac: Some(mac(17)), ..Peer::at(address) }
}

/// A socket at another port of the same address, with frames from elsewhere.
fn forged(peer: &Peer, port: u16) -> Peer {
    Peer { src: SocketAddrV4::new(*peer.src.ip(), port), mac: Some(THIEF), port: peer.port, token: 0 }
}

#[test]
fn requests_in_a_nodes_name_are_a_strangers() {
    let mut world = World::settled(&config());
    let mut node = node(&mut world);
    for port in 3000..3040 {
        forged(&node, port).ask(&mut world, "vmlinuz", NOTHING);
    }
    let record = world.client(mac(17)).expect("a record");
    assert_eq!((record.loading.running(), record.boot.stage()), (0, Stage::Leased), "nothing is booked on the node");
    assert!(world.count(Counter::TftpForged) >= 40);
    assert_eq!(node.begin(&mut world, 5_000, NOTHING), ["data 1..1 512B"], "and it has all its places");
    // The other card of the same node is the node.
    let mut other = Peer { mac: Some(mac(117)), ..forged(&node, 4000) };
    assert_eq!(other.begin(&mut world, 5_000, NOTHING), ["data 1..1 512B"]);
    assert_eq!(world.client(mac(17)).map(|record| record.loading.running()), Some(2));
}

#[test]
fn a_nodes_script_is_not_for_who_pretends_to_be_it() {
    let mut world = World::settled(&config());
    let node = node(&mut world);
    let mut thief = forged(&node, 3000);
    thief.ask(&mut world, "muster.ipxe", NOTHING);
    assert_eq!(thief.missing(&mut world), ["error 1 file not found"]);
}

#[test]
fn one_frame_neither_moves_nor_ends_a_transfer() {
    let mut world = World::settled(&config());
    let mut node = node(&mut world);
    node.begin(&mut world, 50_000, NOTHING);
    assert_eq!(node.ack(&mut world, 1), ["data 2..2 512B"]);
    let mut thief = forged(&node, 2070);
    assert_eq!(thief.ack(&mut world, 2), [""; 0], "an ACK");
    assert_eq!(thief.error(&mut world, ErrorCode::NotDefined), [""; 0], "an ERROR");
    assert_eq!(thief.ask(&mut world, "other", NOTHING), [""; 0], "a request from the same port");
    // Not even while the node is silent.
    world.advance(3_000);
    assert_eq!(thief.ack(&mut world, 2), [""; 0]);
    assert_eq!(world.count(Counter::TftpForged), 4);
    let got = node.ack(&mut world, 2);
    assert_eq!(got, ["data 3..3 512B"]);
}

#[test]
fn what_was_begun_in_a_nodes_name_yields_to_the_node() {
    let mut world = World::settled(&config());
    let mut node = node(&mut world);
    forged(&node, 2070).begin(&mut world, 50_000, NOTHING);
    assert_eq!(node.ask(&mut world, "vmlinuz", NOTHING), ["close 7", "open vmlinuz"]);
    assert_eq!(node.opened(&mut world, 50_000), ["data 1..1 512B"], "its own request from that port is answered");
    assert_eq!(node.ack(&mut world, 1), ["data 2..2 512B"]);
}

#[test]
fn a_router_may_give_its_place_to_another() {
    let mut world = World::new(&config());
    let mut peer = Peer { mac: Some(mac(200)), ..Peer::at(ip(10, 55, 0, 9)) };
    peer.begin(&mut world, 50_000, NOTHING);
    peer.ack(&mut world, 1);
    peer.mac = Some(mac(201));
    assert_eq!(peer.ack(&mut world, 2), [""; 0], "not while the old one speaks");
    world.advance(600);
    assert_eq!(peer.ack(&mut world, 2), ["data 3..3 512B"]);
}

#[test]
fn strangers_make_room_for_each_other_and_for_nodes() {
    let mut world = World::settled(&config());
    let mut node = node(&mut world);
    let unmet = 8;
    let mut peers: Vec<Peer> = (0..40).map(|n| Peer::at(ip(10, 54, 9, n))).collect();
    for peer in &mut peers {
        world.advance(1);
        assert_eq!(peer.ask(&mut world, "vmlinuz", NOTHING).last().map(String::as_str), Some("open vmlinuz"));
        peer.opened(&mut world, 50_000);
        assert!(world.server.transfers() <= unmet);
    }
    assert_eq!(world.count(Counter::TftpEvicted), 32);
    assert_eq!(peers[39].ack(&mut world, 1), ["data 2..2 512B"], "the last one to come is there");
    assert_eq!(peers[0].ack(&mut world, 1), [""; 0], "the first one made room");
    assert_eq!(node.begin(&mut world, 50_000, NOTHING), ["data 1..1 512B"]);
}

/// Whatever a stranger says, and however late, it is no evidence of the way.
#[test]
fn a_stranger_stays_in_the_strangers_share() {
    let mut gigabit = config();
    gigabit.links[0].rate = Some(1_000_000_000);
    let mut world = World::settled(&gigabit);
    let lane = |world: &World| {
        let lane = world.server.pace().iter().next().map(|(_, lane)| lane).expect("a lane");
        (lane.lap(), lane.bottleneck.measured(), lane.bottleneck.queue(), lane.bottleneck.rate(), lane.waiting())
    };
    let before = lane(&world);
    let mut peers: Vec<Peer> = (0..8).map(|n| Peer::at(ip(10, 54, 9, n))).collect();
    for peer in &mut peers {
        peer.begin(&mut world, 500_000, windows(16));
    }
    for block in [0, 16, 32, 32, 40, 48] {
        for peer in &mut peers {
            peer.ack(&mut world, block);
            world.advance(300);
            assert_eq!(lane(&world), before);
        }
    }
    assert!(world.count(Counter::TftpRetry) > 0 && world.count(Counter::DataPackets) > 8 * 48);
}

/// Who asks for the same again and again counts in no lap and has the share of the silent, until it gets on.
#[test]
fn who_does_not_get_on_is_as_good_as_silent() {
    let mut gigabit = config();
    gigabit.links[0].rate = Some(1_000_000_000);
    let mut world = World::settled(&gigabit);
    let mut node = node(&mut world);
    node.begin(&mut world, 500_000, windows(4));
    node.ack(&mut world, 0);
    let lap = |world: &World| world.server.pace().iter().next().map(|(_, lane)| lane.lap()).expect("a lane");
    assert!(!lap(&world).is_zero());
    for _ in 0..3 {
        world.advance(200);
        assert_eq!(node.ack(&mut world, 0), ["data 1..4 2048B"], "it is served all the same");
    }
    assert!(lap(&world).is_zero());
    for block in [4, 8] {
        world.advance(1);
        node.ack(&mut world, block);
    }
    assert!(!lap(&world).is_zero());
}

/// A machine that loads two files at once has one voice.
#[test]
fn the_latest_transfer_speaks_for_its_machine() {
    let mut world = World::settled(&config());
    let mut node = node(&mut world);
    node.begin(&mut world, 50_000, NOTHING);
    let first = world.client(mac(17)).map(|record| record.loading.last());
    let mut other = Peer { src: SocketAddrV4::new(*node.src.ip(), 3000), ..Peer { mac: node.mac, ..Peer::at(*node.src.ip()) } };
    other.begin(&mut world, 50_000, NOTHING);
    assert_ne!(world.client(mac(17)).map(|record| record.loading.last()), first);
    assert_eq!(node.ack(&mut world, 1), ["data 2..2 512B"], "both go on");
    assert_eq!(other.ack(&mut world, 1), ["data 2..2 512B"]);
}

#[test]
fn nodes_find_a_place_for_a_file_whoever_holds_others() {
    let mut large = config();
    large.server.capacity = 1024;
    large.networks[0].guests = AddressRange::new(ip(10, 54, 8, 1), ip(10, 54, 8, 50));
    let mut world = World::settled(&large);
    let mut node = node(&mut world);
    let (quarter, mut file) = (limits::FILES / 4, 100);
    let mut open = |world: &mut World, mut peer: Peer| {
        file += 1;
        world.advance(1);
        let asked = peer.ask(world, &format!("module-{file}"), NOTHING);
        assert_eq!(asked, [format!("open module-{file}")]);
        (peer.opened_as(world, file, 50_000), peer)
    };
    let mut strangers: Vec<Peer> = (0..quarter + 20).map(|n| open(&mut world, Peer::at(ip(10, 54, 9, n as u8))).1).collect();
    assert_eq!((world.server.transfers(), world.count(Counter::TftpEvicted)), (quarter, 20));
    assert_eq!(strangers[19].ack(&mut world, 1), [""; 0], "the longest silent made room");
    assert_eq!(strangers[20].ack(&mut world, 1), ["data 2..2 512B"]);
    let guests: Vec<Ipv4Addr> = (1..=14).map(|n| world.lease(&Ask::rom(mac(n)))).collect();
    for (port, address) in guests.iter().flat_map(|address| (3000..3015).map(move |port| (port, *address))) {
        let (got, _) = open(&mut world, Peer { src: SocketAddrV4::new(address, port), ..Peer::at(address) });
        assert!(got.contains(&"data 1..1 512B".to_string()), "{got:?}");
    }
    assert_eq!(world.server.transfers(), 3 * quarter);
    for port in 4000..4015 {
        let (got, _) =
            open(&mut world, Peer { src: SocketAddrV4::new(*node.src.ip(), port), ..Peer { mac: node.mac, ..Peer::at(*node.src.ip()) } });
        assert_eq!(got, ["data 1..1 512B"]);
    }
    assert_eq!(world.server.transfers(), 3 * quarter + 15, "nobody has to go for a node while there are places");
    // What a node holds as well is a node's.
    let evicted = world.count(Counter::TftpEvicted);
    assert_eq!(node.ask(&mut world, "module-0", NOTHING), ["open module-0"]);
    assert_eq!(node.opened_as(&mut world, 100 + quarter as u32 + 20, 50_000), ["data 1..1 512B"]);
    assert_eq!(world.count(Counter::TftpEvicted), evicted);
}

#[test]
fn the_silent_make_room_when_the_table_is_full() {
    let mut world = World::settled(&config());
    let mut node = node(&mut world);
    let guests: Vec<Ipv4Addr> = (1..=8).map(|n| world.lease(&Ask::rom(mac(n)))).collect();
    // Four transfers of each of eight machines: the whole table. Then their power fails.
    for (n, address) in guests.iter().flat_map(|address| (0..4).map(move |n| (n, *address))) {
        let mut peer = Peer { src: SocketAddrV4::new(address, 3000 + n), ..Peer::at(address) };
        peer.begin(&mut world, 50_000, NOTHING);
        peer.ack(&mut world, 1);
    }
    assert_eq!(world.server.transfers(), 32);
    assert_eq!(node.ask(&mut world, "vmlinuz", NOTHING), [""; 0], "all of them may be there");
    world.advance(1_500);
    assert_eq!(node.ask(&mut world, "vmlinuz", NOTHING), ["close 7", "open vmlinuz"], "now they are not");
    assert_eq!(node.opened(&mut world, 50_000), ["data 1..1 512B"]);
}

/// The law of silence: machines that die count neither in the lap nor as loss, and those that come back do at once.
#[test]
fn the_dead_count_in_no_lap() {
    let mut gigabit = config();
    gigabit.links[0].rate = Some(1_000_000_000);
    let mut world = World::settled(&gigabit);
    let mut peers: Vec<Peer> = (0..8).map(|n| Peer::at(world.lease(&Ask::rom(mac(n + 1))))).collect();
    for peer in &mut peers {
        peer.begin(&mut world, 500_000, windows(16));
        peer.ack(&mut world, 0);
    }
    let measure = |world: &World| world.server.pace().iter().next().map(|(_, lane)| (lane.lap(), lane.bottleneck.rate())).expect("a lane");
    let (lap, _) = measure(&world);
    assert!(!lap.is_zero());
    world.advance(1_500);
    assert_eq!(measure(&world).0, std::time::Duration::ZERO);
    let before = measure(&world).1;
    world.advance(20_000);
    assert_eq!(measure(&world).1, before, "and no rate sinks for them");
    peers[3].ack(&mut world, 16);
    assert!(!measure(&world).0.is_zero());
}
