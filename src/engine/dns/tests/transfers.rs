//! Whole zones.

use super::*;
use crate::roll::plan::AddressPlan;

const SECONDARY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 54, 0, 2), 5000);

/// The records of a zone, message by message, as its secondary gets them.
fn transfer(world: &mut World, name: &str) -> Vec<String> {
    let mut sent = ask_from(world, client(3), SECONDARY, &query(name, rtype::AXFR));
    let mut records = Vec::new();
    while let Some((peer, to, body)) = sent.pop() {
        assert!((peer, to) == (client(3), BY_CONN) && body.len() <= dns::PIECE_MAX && sent.is_empty());
        let told = told(&body);
        let mut words = told.split("; ");
        assert_eq!((words.next(), words.next()), (Some("NOERROR"), Some("aa")), "{told}");
        records.extend(words.map(|record| record.strip_prefix("answer: ").unwrap().to_string()));
        sent = super::sent(&happens(world, conn(3), SECONDARY, StreamEvent::Drained));
    }
    records
}

fn served() -> Config {
    let mut config = config();
    config.dns.transfer = vec![*SECONDARY.ip()];
    config
}

#[test]
fn a_zone_is_told_from_its_soa_to_its_soa() {
    let mut config = served();
    config.plan = AddressPlan::new([10, 54, 1, 0].into(), 20_000);
    config.server.capacity = 20_000;
    let mut world = World::new(&config);
    let records = transfer(&mut world, "cluster");
    let soa = format!("cluster 3600 SOA {SOA}");
    assert_eq!(records.len(), 2 + 3 * 2 + 20_000 + 1);
    assert!(records.first() == Some(&soa) && records.last() == Some(&soa) && records[1] == "cluster 3600 NS ns.cluster");
    assert_eq!(records[2..5], ["ns.cluster 3600 A 10.54.0.1", "ns.cluster 3600 A 10.56.0.1", "head.cluster 3600 A 10.54.0.1"]);
    for number in 0..20_000u32 {
        let [a, b, c, d] = (u32::from(Ipv4Addr::new(10, 54, 1, 0)) + number).to_be_bytes();
        assert_eq!(records[8 + number as usize], format!("n{number}.cluster 3600 A {a}.{b}.{c}.{d}"));
    }
    assert_eq!(world.server.names().transfers, 0);
}

#[test]
fn every_address_is_in_one_reverse_zone() {
    let mut config = served();
    config.networks[0].subnet = crate::roll::plan::Subnet::of([10, 54, 0, 0].into(), 20);
    config.networks[0].guests = None;
    let mut world = World::new(&config);
    let mut pointers = Vec::new();
    for block in 0..16 {
        let records = transfer(&mut world, &format!("{block}.54.10.in-addr.arpa"));
        assert!(records.len() >= 3 && records.first() == records.last() && records[0].contains(" SOA "), "{block}: {records:?}");
        pointers.extend(records[2..records.len() - 1].to_vec());
    }
    assert_eq!(pointers.len(), 1 + 200);
    assert_eq!(pointers[..2], ["1.0.54.10.in-addr.arpa 3600 PTR head.cluster", "0.1.54.10.in-addr.arpa 3600 PTR n0.cluster"]);
    assert_eq!(transfer(&mut world, "56.10.in-addr.arpa").len(), 4, "the other head's");
}

#[test]
fn zones_go_to_those_who_may_have_them() {
    let mut world = World::new(&served());
    let stranger = SocketAddrV4::new([10, 54, 0, 3].into(), 5000);
    let code = |world: &mut World, src, name: &str, rtype| {
        let sent = ask_from(world, client(0), src, &query(name, rtype));
        told(&sent[0].2).split("; ").next().unwrap().to_string()
    };
    assert_eq!(code(&mut world, stranger, "cluster", rtype::AXFR), "REFUSED");
    assert_eq!(code(&mut world, SECONDARY, "n1.cluster", rtype::AXFR), "NOTAUTH");
    assert_eq!(code(&mut world, SECONDARY, "example", rtype::AXFR), "NOTAUTH");
    assert_eq!(code(&mut world, SECONDARY, "cluster", rtype::IXFR), "NOERROR");
    assert_eq!(answer(&mut world, SECONDARY, &query("cluster", rtype::IXFR)), format!("NOERROR; aa; answer: cluster 3600 SOA {SOA}"));
    assert_eq!((world.count(Counter::DnsTransfer), world.count(Counter::DnsTransferRefused)), (1, 3));
}

#[test]
fn a_transfer_ends_with_its_connection_or_its_zone() {
    let mut config = served();
    config.plan = AddressPlan::new([10, 54, 1, 0].into(), 2_000);
    config.server.capacity = 2_000;
    let mut world = World::new(&config);
    let own = client(3);
    let begin = |world: &mut World| assert_eq!(ask_from(world, own, SECONDARY, &query("cluster", rtype::AXFR)).len(), 1);
    begin(&mut world);
    let second = ask_from(&mut world, own, SECONDARY, &query("cluster", rtype::AXFR));
    assert!(second.is_empty(), "one after the other");
    for _ in 0..6 {
        assert!(ask_from(&mut world, own, SECONDARY, &query("cluster", rtype::AXFR)).is_empty());
    }
    let ninth = ask_from(&mut world, own, SECONDARY, &query("cluster", rtype::AXFR));
    assert!(told(&ninth[0].2).starts_with("REFUSED"), "so many, and no more");
    let other = ask_from(&mut world, own, SECONDARY, &query("n1.cluster", rtype::A));
    assert!(told(&other[0].2).ends_with("A 10.54.1.1"), "other questions are answered meanwhile");
    happens(&mut world, conn(3), SECONDARY, StreamEvent::Closed);
    assert!(happens(&mut world, conn(3), SECONDARY, StreamEvent::Drained).is_empty());
    begin(&mut world);
    config.networks[0].guests = None;
    let now = Now { unix: 1_800_000_000, ..world.now };
    world.server.reconfigure(now, &config).unwrap();
    assert_eq!(happens(&mut world, conn(3), SECONDARY, StreamEvent::Drained), [Got::Hang(conn(3))]);
    assert_eq!(world.server.names().transfers, 0);
}

/// The question of a secondary that has the zone of this serial.
fn incremental(serial: u32) -> Vec<u8> {
    let mut bytes = bytes(&query("cluster", rtype::IXFR));
    bytes[9] = 1;
    bytes.extend(b"\xc0\x0c\0\x06\0\x01\0\0\0\0\0\x16\0\0");
    bytes.extend(serial.to_be_bytes());
    bytes.extend([0; 16]);
    bytes
}

/// 17 of names.md: by a connection the whole zone was sent to who had it already (RFC 1995, 2).
#[test]
fn who_has_the_zone_gets_its_serial_alone() {
    let mut world = World::new(&served());
    let serial = world.server.names().serial;
    for (theirs, whole) in [(serial, false), (serial + 1, false), (serial - 1, true)] {
        let got = sent(&heard(&mut world, client(3), SECONDARY, &incremental(theirs)));
        assert_eq!(told(&got[0].2).matches("answer: ").count() > 1, whole, "{theirs}");
        happens(&mut world, conn(3), SECONDARY, StreamEvent::Closed);
    }
}

/// 18 of names.md: a second transfer on a connection was refused while the first ran (RFC 5936, 4.1).
#[test]
fn transfers_on_a_connection_follow_one_another() {
    let mut config = served();
    config.plan = AddressPlan::new([10, 54, 1, 0].into(), 2_000);
    let mut world = World::new(&config);
    let zones = ["cluster", "54.10.in-addr.arpa", "cluster"];
    let mut pieces = Vec::new();
    for zone in zones {
        pieces.extend(ask_from(&mut world, client(3), SECONDARY, &query(zone, rtype::AXFR)));
    }
    assert_eq!(pieces.len(), 1, "the others wait");
    while pieces.len() < 1000 {
        let more = sent(&happens(&mut world, conn(3), SECONDARY, StreamEvent::Drained));
        if more.is_empty() {
            break;
        }
        pieces.extend(more);
    }
    let soa = |piece: &(Peer, SocketAddrV4, Vec<u8>)| told(&piece.2).matches(" SOA ").count();
    let ends: Vec<usize> = pieces.iter().map(soa).filter(|count| *count > 0).collect();
    assert_eq!((ends, world.server.names().transfers), (vec![1; 6], 0), "each from its SOA to its SOA");
}
