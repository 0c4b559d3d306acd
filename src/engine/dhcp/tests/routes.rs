//! Where replies go: to a MAC, to everybody, through a relay, over InfiniBand; and which network a request is about.

use super::*;

const EVERYBODY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::BROADCAST, 68);

fn at(address: Ipv4Addr) -> SocketAddrV4 {
    SocketAddrV4::new(address, 68)
}

#[test]
fn replies_are_unicast_unless_the_client_cannot_hear_them() {
    let mut world = World::new(&config());
    let offer = world.reply(&Ask::rom(mac(17)).discover());
    assert_eq!((offer.from, offer.to, offer.via), (SocketAddrV4::new(HEAD, 67), at(NODE_17), Via::Mac(mac(17))), "no ARP needed");
    let offer = world.reply(&Ask::rom(mac(17)).broadcast().discover());
    assert_eq!((offer.to, offer.via, offer.header.flags), (EVERYBODY, Via::Broadcast, Header::BROADCAST));
    let ack = world.reply(&Ask::rom(mac(17)).broadcast().select(NODE_17));
    assert_eq!((ack.kind, ack.to, ack.via), (ACK, EVERYBODY, Via::Broadcast));
    // A client that has its address hears unicast, whatever its flag says.
    let ack = world.reply(&Ask::os(mac(17)).broadcast().renew(NODE_17));
    assert_eq!((ack.kind, ack.to, ack.via, ack.header.ciaddr), (ACK, at(NODE_17), Via::Mac(mac(17)), NODE_17));
}

#[test]
fn a_nak_goes_to_everybody() {
    let mut world = World::new(&config());
    for ask in [Ask::os(mac(17)).reboot(NODE_23), Ask::os(mac(17)).renew(NODE_23), Ask::os(mac(17)).select(NODE_23)] {
        let nak = world.reply(&ask);
        assert_eq!((nak.kind, nak.to, nak.via), (NAK, EVERYBODY, Via::Broadcast), "{ask:?}");
        assert_eq!(
            (nak.yiaddr(), nak.header.ciaddr, nak.header.siaddr),
            (Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED, Ipv4Addr::UNSPECIFIED)
        );
        assert_eq!(nak.codes, [53, 54, 56], "RFC 2131, table 3");
    }
    let nak = world.reply(&Ask::os(mac(17)).with(code::CLIENT_ID, b"\x01abcdef").reboot(NODE_23));
    assert_eq!(nak.option(code::CLIENT_ID), Some(&b"\x01abcdef"[..]), "RFC 6842");
}

#[test]
fn the_relays_address_picks_the_network() {
    let mut world = World::new(&config());
    let offer = world.reply(&Ask::rom(mac(1)).relayed(RELAY).discover());
    assert!(offer.yiaddr().octets().starts_with(&[10, 55, 250]), "{}: at once, for ARP does not reach it", offer.yiaddr());
    assert_eq!((offer.to, offer.via, offer.header.giaddr), (SocketAddrV4::new(RELAY, 67), Via::Kernel, RELAY));
    assert_eq!((offer.codes.last(), offer.option(82)), (Some(&82), Some(&b"\x01\x04eth7"[..])), "echoed, and last (RFC 3046)");
    assert_eq!((offer.option(3), offer.header.siaddr), (Some(&[10, 55, 0, 254][..]), HEAD));
    let got = world.ask(&Ask::rom(mac(1)).relayed(RELAY).select(offer.yiaddr()));
    assert_eq!(only_reply(&got).map(|ack| (ack.kind, ack.to)), Some((ACK, SocketAddrV4::new(RELAY, 67))));
    assert!(!got.iter().any(|got| matches!(got, Got::Neighbour(..))), "it is not on the link: {got:?}");
    // A numbered node's own address lies elsewhere: there it is a guest.
    let offer = world.reply(&Ask::rom(mac(17)).relayed(RELAY).discover());
    assert!(offer.yiaddr().octets().starts_with(&[10, 55, 250]));
}

#[test]
fn a_nak_through_a_relay_is_broadcast_there() {
    let mut world = World::new(&config());
    let nak = world.reply(&Ask::os(mac(1)).relayed(RELAY).reboot(ip(10, 54, 250, 1)));
    assert_eq!((nak.kind, nak.to, nak.via), (NAK, SocketAddrV4::new(RELAY, 67), Via::Kernel));
    assert_eq!((nak.header.flags, nak.codes.last()), (Header::BROADCAST, Some(&82)), "RFC 2131, 4.3.2");
}

#[test]
fn a_renewal_of_a_relayed_client_comes_and_goes_directly() {
    let mut world = World::new(&config());
    let relayed = Ask::os(mac(1)).relayed(RELAY);
    let offer = world.reply(&relayed.discover());
    world.reply(&relayed.select(offer.yiaddr()));
    let ack = world.reply(&Ask::os(mac(1)).renew(offer.yiaddr()));
    assert_eq!((ack.kind, ack.to, ack.via), (ACK, at(offer.yiaddr()), Via::Kernel));
}

#[test]
fn relays_of_foreign_networks_get_nothing() {
    let mut world = World::new(&config());
    world.silence(&Ask::rom(mac(1)).relayed(ip(192, 168, 1, 1)).discover());
    world.silence(&Ask::rom(mac(17)).relayed(ip(192, 168, 1, 1)).discover());
    assert_eq!((world.count(Counter::DhcpNoNetwork), world.server.roll().len()), (2, 0));
    let mut nowhere = Ask::rom(mac(1)).discover();
    nowhere.link = 9;
    world.silence(&nowhere);
}

#[test]
fn infiniband_goes_by_client_id_and_broadcast() {
    let mut world = World::new(&config());
    let (a, b) = (Ask::infiniband(b"\xff\x00\x00\x00\x01port-a"), Ask::infiniband(b"\xff\x00\x00\x00\x02port-b"));
    let offer = world.reply(&a.discover());
    assert!(offer.yiaddr().octets().starts_with(&[10, 56, 250]));
    assert_eq!((offer.to, offer.via, offer.header.hlen, offer.header.htype), (EVERYBODY, Via::Broadcast, 0, 32));
    assert_eq!(offer.option(code::CLIENT_ID), Some(&b"\xff\x00\x00\x00\x01port-a"[..]));
    let first = world.lease(&a);
    assert_ne!(world.lease(&b), first, "two ports, two addresses");
    assert_eq!(world.lease(&a), first);
    // Even without the flag that RFC 4390 asks for, there is no MAC to send to.
    let mut silent = a.discover();
    silent.header.flags = 0;
    let offer = world.reply(&silent);
    assert_eq!((offer.to, offer.via), (EVERYBODY, Via::Broadcast));
    let mut nobody = Ask::infiniband(b"").discover();
    nobody.options.retain(|(code, _)| *code != code::CLIENT_ID);
    world.silence(&nobody);
    assert_eq!(world.count(Counter::DhcpNoIdentity), 1);
}

/// What this machine asks by one interface and hears by another one of the same network holds no address.
#[test]
fn the_head_is_no_client_of_its_own() {
    let mut world = World::settled(&config());
    world.silence(&Ask::rom(mac(0xfe)).discover());
    assert_eq!((world.count(Counter::DhcpOwn), world.stage(mac(0xfe))), (1, None));
}

#[test]
fn a_reply_keeps_to_the_size_that_the_client_takes() {
    let mut own = config();
    own.networks[0].options = (0..8).map(|n| (200 + n, vec![n; 100])).collect();
    let mut world = World::new(&own);
    let size = |world: &mut World, ask: &Ask| {
        let got = world.ask(ask);
        let Some(Got::Datagram { body, .. }) = got.iter().find(|got| matches!(got, Got::Datagram { .. })) else { panic!("{got:?}") };
        body.len()
    };
    assert!(size(&mut world, &Ask::rom(mac(17)).discover()) <= 548, "RFC 2132, 9.10: 576 with its headers");
    let wide = Ask::rom(mac(17)).with(code::MAX_MESSAGE_SIZE, &1500u16.to_be_bytes());
    assert!((1000..=1472).contains(&size(&mut world, &wide.discover())));
    let absurd = Ask::rom(mac(17)).with(code::MAX_MESSAGE_SIZE, &[0, 1]);
    assert!(size(&mut world, &absurd.discover()) <= 548);
    let told = world.reply(&wide.discover());
    assert_eq!(told.options.keys().filter(|code| (200..208).contains(*code)).count(), 8, "all fit then");
    let told = world.reply(&Ask::rom(mac(17)).relayed(HEAD).with(code::MAX_MESSAGE_SIZE, &1500u16.to_be_bytes()).discover());
    assert!(told.option(82).is_some());
}

#[test]
fn answers_of_other_servers_are_noticed_once() {
    let mut world = World::new(&config());
    let mut offer = Ask::os(mac(1)).with(code::MESSAGE_TYPE, &[2]).with(code::SERVER_ID, &[10, 54, 0, 66]);
    offer.header.op = 2;
    (offer.src, offer.dst) = (SocketAddrV4::new(ip(10, 54, 0, 66), 67), EVERYBODY);
    world.silence(&offer);
    world.silence(&offer);
    assert_eq!(world.count(Counter::ForeignServer), 1);
    let own = offer.with(code::SERVER_ID, &HEAD.octets());
    world.silence(&own);
    assert_eq!(world.count(Counter::ForeignServer), 1, "our own are none");
    let asked = World::new(&config()).advance(1);
    let discovers = asked.iter().filter(|got| matches!(got, Got::Datagram { to, .. } if to.port() == 67)).count();
    assert_eq!(discovers, 1, "asked for at start, on the Ethernet link");
}
