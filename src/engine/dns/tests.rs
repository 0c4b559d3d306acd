//! Questions and their answers, in virtual time.

mod forwarding;
mod owners;
mod transfers;

use std::net::{Ipv4Addr, SocketAddrV4};

use domain::base::Message;
use domain::rdata::AllRecordData;
use proptest::prelude::*;

use super::super::testing::{Ask, Got, HEAD, World, config, guest, mac};
use crate::base::endpoint::{EndpointId, Service, Transport};
use crate::base::machine::{ConnId, Datagram, Input, StreamEvent};
use crate::base::time::Now;
use crate::config::Config;
use crate::engine::dns::Counter;
use crate::engine::dns::Peer;
use crate::engine::endpoints::{DNS, UPSTREAM};
use crate::engine::testing::conn;
use crate::wire::dns::{self, DnsName, Edns, Query, Question, rtype};

const NODE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 54, 1, 23), 4000);
/// The other end of a connection, which needs none.
const BY_CONN: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);

/// The first row of a service with this transport.
fn row(world: &World, service: Service, transport: fn(&Transport) -> bool) -> EndpointId {
    let rows = world.server.endpoints().rows();
    rows.iter().position(|row| row.service == service && transport(&row.transport)).unwrap() as EndpointId
}

fn udp(world: &World) -> Peer {
    Peer::Datagram(row(world, DNS, |transport| *transport == Transport::Udp))
}

fn client(n: u64) -> Peer {
    Peer::Conn(conn(n))
}

const AAAA: u16 = 28;
const TXT: u16 = 16;

fn query(name: &str, rtype: u16) -> Query {
    Query::for_test(4711, Question { name: DnsName::of_text(name).unwrap(), rtype, class: 1 })
}

/// The bytes of a query; RD is set.
fn bytes(query: &Query) -> Vec<u8> {
    let mut buf = [0; 600];
    let len = dns::write_query(&mut buf, query.id, query).unwrap();
    buf[2] |= query.opcode << 3;
    if let Some(edns) = query.edns {
        buf[len - 5] = edns.version;
    }
    buf[..len].to_vec()
}

/// The messages that were put out.
fn sent(got: &[Got]) -> Vec<(Peer, SocketAddrV4, Vec<u8>)> {
    let sent = got.iter().filter_map(|got| match got {
        Got::Dns(endpoint, to, body) => Some((Peer::Datagram(*endpoint), *to, body.clone())),
        Got::Write(conn, body) => Some((Peer::Conn(*conn), BY_CONN, body.clone())),
        _ => None,
    });
    sent.collect()
}

/// A message of a client's, or of another server's by a datagram.
fn heard(world: &mut World, peer: Peer, src: SocketAddrV4, payload: &[u8]) -> Vec<Got> {
    match peer {
        Peer::Datagram(endpoint) => {
            let dst = world.server.endpoints().get(endpoint).unwrap().address;
            world.handle(Input::Datagram(Datagram { endpoint, mac: None, src, dst, payload }))
        }
        Peer::At(endpoint, address) => {
            let dst = SocketAddrV4::new(address, 53);
            world.handle(Input::Datagram(Datagram { endpoint, mac: None, src, dst, payload }))
        }
        Peer::Conn(conn) => happens(world, conn, src, StreamEvent::Bytes(payload)),
    }
}

/// Something on a client's connection.
fn happens(world: &mut World, conn: ConnId, src: SocketAddrV4, event: StreamEvent<'_>) -> Vec<Got> {
    let endpoint = row(world, DNS, |transport| matches!(transport, Transport::Listen(_)));
    world.stream(endpoint, conn, src, event)
}

fn ask_from(world: &mut World, peer: Peer, src: SocketAddrV4, query: &Query) -> Vec<(Peer, SocketAddrV4, Vec<u8>)> {
    sent(&heard(world, peer, src, &bytes(query)))
}

fn ask_by_datagram(world: &mut World, src: SocketAddrV4, query: &Query) -> Vec<(Peer, SocketAddrV4, Vec<u8>)> {
    let peer = udp(world);
    ask_from(world, peer, src, query)
}

/// A response in words: code, flags, and the records of each section.
fn told(body: &[u8]) -> String {
    let message = Message::from_octets(body).unwrap();
    let header = message.header();
    assert!(header.qr());
    let mut words = vec![message.opt_rcode().to_string()];
    words.extend(header.aa().then(|| "aa".to_string()));
    words.extend(header.tc().then(|| "tc".to_string()));
    words.extend(header.ra().then(|| "ra".to_string()));
    let (_, answer, authority, _) = message.sections().unwrap();
    for (name, section) in [("answer", answer), ("authority", authority)] {
        for record in section.limit_to::<AllRecordData<_, _>>() {
            let record = record.unwrap();
            // Names end with a dot inside of data, and without one outside.
            let data = record.data().to_string().replace(". ", " ");
            let data = data.trim_end_matches('.');
            words.push(format!("{name}: {} {} {} {data}", record.owner(), record.ttl().as_secs(), record.rtype()));
        }
    }
    words.join("; ")
}

fn answer(world: &mut World, src: SocketAddrV4, query: &Query) -> String {
    let sent = ask_by_datagram(world, src, query);
    let [(peer, to, body)] = sent.as_slice() else { panic!("{sent:?}") };
    assert_eq!(*peer, udp(world));
    assert_eq!((*to, dns::parse_response(body).map(|response| response.id)), (src, Some(query.id)));
    told(body)
}

const SOA: &str = "ns.cluster hostmaster.cluster 1700000000 3600 600 604800 60";

#[test]
fn what_is_asked_is_answered() {
    let mut world = World::new(&config());
    let none = |code: &str, apex: &str| format!("{code}; aa; authority: {apex} 60 SOA {SOA}");
    let (nodata, missing) = (none("NOERROR", "cluster"), none("NXDOMAIN", "cluster"));
    let heads = |name: &str| format!("NOERROR; aa; answer: {name} 3600 A 10.54.0.1; answer: {name} 3600 A 10.56.0.1");
    let table: &[(&str, u16, String)] = &[
        ("n23.cluster", rtype::A, "NOERROR; aa; answer: n23.cluster 3600 A 10.54.1.23".into()),
        ("N0023.CLUSTER", rtype::A, "NOERROR; aa; answer: N0023.CLUSTER 3600 A 10.54.1.23".into()),
        ("node199.cluster", rtype::ANY, "NOERROR; aa; answer: node199.cluster 3600 A 10.54.1.199".into()),
        ("n200.cluster", rtype::A, missing.clone()),
        ("n23.cluster", AAAA, nodata.clone()),
        ("n23.cluster", rtype::NS, nodata.clone()),
        ("x.n23.cluster", rtype::A, missing.clone()),
        ("nobody.cluster", TXT, missing.clone()),
        ("guest-52540012ab34.cluster", rtype::A, missing.clone()),
        ("head.cluster", rtype::A, heads("head.cluster")),
        ("Master.cluster", rtype::ANY, heads("Master.cluster")),
        ("ns.cluster", rtype::A, heads("ns.cluster")),
        ("self.cluster", rtype::A, "NOERROR; aa; answer: self.cluster 0 A 10.54.1.23".into()),
        ("cluster", rtype::SOA, format!("NOERROR; aa; answer: cluster 3600 SOA {SOA}")),
        ("cluster", rtype::ANY, format!("NOERROR; aa; answer: cluster 3600 SOA {SOA}")),
        ("cluster", rtype::NS, "NOERROR; aa; answer: cluster 3600 NS ns.cluster".into()),
        ("cluster", rtype::A, nodata.clone()),
        ("23.1.54.10.in-addr.arpa", rtype::PTR, "NOERROR; aa; answer: 23.1.54.10.in-addr.arpa 3600 PTR n23.cluster".into()),
        ("1.0.56.10.in-addr.arpa", rtype::PTR, "NOERROR; aa; answer: 1.0.56.10.in-addr.arpa 3600 PTR head.cluster".into()),
        ("1.1.56.10.in-addr.arpa", rtype::PTR, none("NXDOMAIN", "56.10.in-addr.arpa")),
        ("54.10.in-addr.arpa", rtype::SOA, format!("NOERROR; aa; answer: 54.10.in-addr.arpa 3600 SOA {SOA}")),
        ("54.10.in-addr.arpa", rtype::NS, "NOERROR; aa; answer: 54.10.in-addr.arpa 3600 NS ns.cluster".into()),
        ("1.54.10.in-addr.arpa", rtype::PTR, none("NOERROR", "54.10.in-addr.arpa")),
        ("250.54.10.in-addr.arpa", rtype::PTR, none("NOERROR", "54.10.in-addr.arpa")),
        ("9.54.10.in-addr.arpa", rtype::PTR, none("NXDOMAIN", "54.10.in-addr.arpa")),
        ("23.1.54.10.in-addr.arpa", rtype::A, none("NOERROR", "54.10.in-addr.arpa")),
        ("10.in-addr.arpa", rtype::SOA, "REFUSED".into()),
        ("www.example.org", rtype::A, "REFUSED".into()),
        ("n23.cluster", rtype::OPT, "FORMERR".into()),
        ("n23.cluster", 250, "NOTIMP".into()),
        ("cluster", rtype::AXFR, "FORMERR".into()),
        ("cluster", rtype::IXFR, "REFUSED".into()),
    ];
    for (name, rtype, expected) in table {
        assert_eq!(answer(&mut world, NODE, &query(name, *rtype)), *expected, "{name} {rtype}");
    }
    assert_eq!((world.count(Counter::DnsQuery), world.count(Counter::DnsRefused)), (table.len() as u64, 2));
}

#[test]
fn what_cannot_be_asked_is_told_or_dropped() {
    let mut world = World::new(&config());
    let edns = |version| Some(Edns { size: 1232, version, dnssec: true });
    let chaos = Question { class: 3, ..query("version.bind", TXT).question.unwrap() };
    for (asked, expected) in [
        (Query { edns: edns(1), ..query("n23.cluster", rtype::A) }, "BADVERS"),
        (Query { question: Some(chaos), ..query("version.bind", TXT) }, "REFUSED"),
        (Query { edns: edns(0), ..query("n23.cluster", rtype::A) }, "NOERROR; aa; answer: n23.cluster 3600 A 10.54.1.23"),
    ] {
        assert_eq!(answer(&mut world, NODE, &asked), expected);
    }
    let good = bytes(&query("n23.cluster", rtype::A));
    let by_datagram = udp(&world);
    let mut raw = |bytes: &[u8]| sent(&heard(&mut world, by_datagram, NODE, bytes));
    for (at, byte) in [(2, 5 << 3), (5, 0), (5, 2), (11, 1)] {
        let mut changed = good.clone();
        changed[at] = byte;
        let [(_, _, body)] = raw(&changed).try_into().unwrap();
        let code = body[3] & 15;
        assert_eq!((code, body[6..12].iter().sum::<u8>()), (if at == 2 { 4 } else { 1 }, 0), "byte {at}");
    }
    let mut response = good.clone();
    response[2] |= 0x80;
    assert!(raw(&response).is_empty() && raw(&good[..11]).is_empty() && raw(b"").is_empty());
    assert_eq!((world.count(Counter::DnsNoQuery), world.count(Counter::DnsMalformed)), (3, 3));
}

#[test]
fn guests_have_names_while_they_have_a_lease() {
    let mut world = World::settled(&config());
    let name = "guest-020000000063.cluster";
    let reverse = |address: Ipv4Addr| format!("{}.250.54.10.in-addr.arpa", address.octets()[3]);
    let stranger = Ask::rom(mac(99));
    assert!(answer(&mut world, NODE, &query(name, rtype::A)).starts_with("NXDOMAIN"));
    world.reply(&stranger.discover());
    assert!(answer(&mut world, NODE, &query(name, rtype::A)).starts_with("NXDOMAIN"), "an offer is no lease");
    let address = world.lease(&stranger);
    let told = |name: &str, what: &str| format!("NOERROR; aa; answer: {name} 30 {what}");
    assert_eq!(answer(&mut world, NODE, &query(name, rtype::A)), told(name, &format!("A {address}")));
    assert_eq!(answer(&mut world, NODE, &query(&reverse(address), rtype::PTR)), told(&reverse(address), &format!("PTR {name}")));
    let upper = "GUEST-020000000063.cluster";
    assert_eq!(answer(&mut world, NODE, &query(upper, rtype::A)), told(upper, &format!("A {address}")));
    let own = SocketAddrV4::new(address, 99);
    assert!(answer(&mut world, own, &query("self.cluster", rtype::A)).contains(&format!(" 0 A {address}")));
    world.ask(&stranger.release(address));
    assert!(answer(&mut world, NODE, &query(name, rtype::A)).starts_with("NXDOMAIN"));
    assert!(answer(&mut world, NODE, &query(&reverse(address), rtype::PTR)).starts_with("NXDOMAIN"));
    assert!(answer(&mut world, SocketAddrV4::new(guest(7), 99), &query("self.cluster", rtype::A)).starts_with("NXDOMAIN"));
}

#[test]
fn the_head_is_near_whoever_asks() {
    let mut world = World::new(&config());
    let first = |world: &mut World, src: [u8; 4], name: &str| {
        let told = answer(world, SocketAddrV4::new(src.into(), 9), &query(name, rtype::A));
        told.split("; ").nth(2).unwrap_or_default().rsplit(' ').next().unwrap_or_default().to_string()
    };
    for (src, near) in [([10, 54, 1, 1], "10.54.0.1"), ([10, 56, 1, 1], "10.56.0.1"), ([192, 0, 2, 1], "10.54.0.1")] {
        assert_eq!(first(&mut world, src, "head.cluster"), near);
    }
    assert_eq!(first(&mut world, HEAD.octets(), "self.cluster"), "10.54.0.1");
    assert_eq!(first(&mut world, [127, 0, 0, 1], "self.cluster"), "10.54.0.1");
}

#[test]
fn a_changed_plan_has_a_later_serial() {
    let mut world = World::new(&config());
    let serial = |world: &World| world.server.names().serial;
    let reconfigure = |world: &mut World, config: &Config, unix: u64| {
        let now = Now { unix, ..world.now };
        world.server.reconfigure(now, config).unwrap();
    };
    let mut changed = config();
    changed.boot.args = "quiet".into();
    reconfigure(&mut world, &changed, 1_700_000_100);
    assert_eq!(serial(&world), 1_700_000_000, "no name has changed");
    changed.networks[0].guests = None;
    reconfigure(&mut world, &changed, 1_700_000_200);
    assert_eq!(serial(&world), 1_700_000_200);
    reconfigure(&mut world, &config(), 5);
    assert_eq!(serial(&world), 1_700_000_201, "the clock went back");
}

fn noise() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes, by whichever way: no panic, and to clients no answer longer than they take.
    #[test]
    fn no_bytes_panic(
        inputs in prop::collection::vec((0..4u8, 0..20u8, noise(), any::<prop::sample::Index>(), any::<u8>()), 1..40)
    ) {
        let mut config = config();
        config.dns.upstream = vec![[192, 0, 2, 1].into()];
        config.dns.transfer = vec![*NODE.ip()];
        let mut world = World::new(&config);
        for (way, place, noise, at, byte) in inputs {
            let (ours, theirs) = (udp(&world), world.server.endpoints().asker());
            let call = row(&world, UPSTREAM, |transport| matches!(transport, Transport::Dial(_)));
            let name = ["n23.cluster", "23.1.54.10.in-addr.arpa", "example.org", "cluster"][noise.len() % 4];
            let mut message = bytes(&query(name, u16::from(byte)));
            match noise.len() {
                0..40 => message = noise,
                _ => message[at.index(24)] = byte,
            }
            let got = match way {
                0 => heard(&mut world, ours, NODE, &message),
                1 => heard(&mut world, client(place.into()), NODE, &message),
                2 => world.stream(theirs, conn(u64::from(place) + 100), NODE, StreamEvent::Bytes(&message)),
                _ => world.stream(call, conn(place.into()), NODE, StreamEvent::Bytes(&message)),
            };
            for (peer, _, body) in sent(&got) {
                prop_assert!(peer != ours || body.len() <= dns::UDP_MAX);
            }
            happens(&mut world, conn(place.into()), NODE, StreamEvent::Drained);
            if byte > 200 {
                happens(&mut world, conn(place.into()), NODE, StreamEvent::Closed);
                world.stream(call, conn(place.into()), NODE, StreamEvent::Opened { token: u64::from(place) });
            }
            world.advance(u64::from(byte) * 20);
        }
    }
}
