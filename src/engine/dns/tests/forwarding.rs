//! Others' names.

use super::*;

const ONE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const TWO: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

fn forwarding(upstream: &[Ipv4Addr]) -> World {
    let mut config = config();
    config.dns.upstream = upstream.to_vec();
    World::new(&config)
}

/// What an upstream would say to a question: yes, with `padding` bytes behind it.
fn yes(question: &[u8], padding: usize) -> Vec<u8> {
    let mut response = question.to_vec();
    response[2] |= 0x80;
    response.extend(vec![0; padding]);
    response
}

fn code(body: &[u8]) -> u8 {
    body[3] & 15
}

/// The one question to an upstream.
fn asked(got: &[(Peer, SocketAddrV4, Vec<u8>)]) -> (EndpointId, Ipv4Addr, Vec<u8>) {
    match got {
        [(Peer::Datagram(socket), to, body)] if to.port() == 53 => (*socket, *to.ip(), body.clone()),
        other => panic!("{other:?}"),
    }
}

fn server(ip: Ipv4Addr) -> SocketAddrV4 {
    SocketAddrV4::new(ip, 53)
}

#[test]
fn a_question_goes_on_and_its_answer_comes_back() {
    let mut world = forwarding(&[ONE]);
    let by_datagram = udp(&world);
    let edns = Some(Edns { size: 4096, version: 0, dnssec: true });
    let (socket, to, question) = asked(&ask_by_datagram(&mut world, NODE, &Query { edns, ..query("WWW.example.org", rtype::A) }));
    let read = dns::parse(&question).unwrap();
    assert_eq!((to, read.recursion, read.edns), (ONE, true, Some(Edns { size: 1232, version: 0, dnssec: true })));
    assert_eq!(read.question.unwrap().name.to_string(), "WWW.example.org");
    assert!(ask_by_datagram(&mut world, NODE, &query("www.example.org", rtype::A)).is_empty(), "it waits already");
    let mut answer = |socket, src, bytes: &[u8]| sent(&heard(&mut world, Peer::Datagram(socket), src, bytes));
    let good = yes(&question, 300);
    let mut wrong_id = good.clone();
    wrong_id[1] ^= 1;
    let mut wrong_name = good.clone();
    wrong_name[13] ^= 1;
    for (socket, src, bytes) in [
        (socket ^ 1, server(ONE), &good),
        (socket, server(TWO), &good),
        (socket, SocketAddrV4::new(ONE, 54), &good),
        (socket, server(ONE), &wrong_id),
        (socket, server(ONE), &wrong_name),
        (socket, server(ONE), &question),
    ] {
        assert!(answer(socket, src, bytes).is_empty());
    }
    let back = answer(socket, server(ONE), &good);
    let mut expected = good.clone();
    dns::set_id(&mut expected, 4711);
    assert_eq!(back, [(by_datagram, NODE, expected)]);
    assert!(answer(socket, server(ONE), &good).is_empty(), "once");
    assert_eq!((world.count(Counter::DnsStray), world.count(Counter::DnsRepeated)), (7, 1));
    assert_eq!(world.server.names().waiting, 0);
}

#[test]
fn silence_goes_to_the_next_server_and_ends() {
    let mut world = forwarding(&[ONE, TWO]);
    let (begin, by_datagram) = (world.now.at, udp(&world));
    let first = asked(&ask_by_datagram(&mut world, NODE, &query("a.example", rtype::A)));
    let mut tries = vec![first.1];
    let mut ids = vec![(first.0, first.2[..2].to_vec())];
    loop {
        let got = sent(&world.advance(10));
        match got.as_slice() {
            [] => {}
            [(peer, NODE, body)] if *peer == by_datagram => {
                assert_eq!((code(body), dns::parse_response(body).unwrap().id), (2, 4711));
                break;
            }
            other => {
                let (socket, to, body) = asked(other);
                tries.push(to);
                ids.push((socket, body[..2].to_vec()));
            }
        }
        assert!(world.now.at.since(begin).as_secs() < 10);
    }
    let waited = world.now.at.since(begin).as_millis();
    assert_eq!((tries, (4500..4600).contains(&waited)), (vec![ONE, TWO, ONE], true), "{waited} ms");
    ids.dedup();
    assert_eq!(ids.len(), 3, "each try has its own id and socket");
    assert_eq!((world.count(Counter::DnsRetried), world.count(Counter::DnsFailed)), (2, 1));
}

#[test]
fn only_the_clusters_own_questions_go_on() {
    let mut world = forwarding(&[ONE]);
    for (src, goes) in [([10, 54, 1, 1], true), ([10, 55, 9, 9], true), ([127, 0, 0, 1], true), ([192, 0, 2, 7], false)] {
        let got = ask_by_datagram(&mut world, SocketAddrV4::new(src.into(), 9), &query("a.example", rtype::A));
        assert_eq!(got[0].0 != udp(&world), goes, "{src:?}");
    }
    let mut not_recursive = bytes(&query("a.example", rtype::A));
    not_recursive[2] &= !1;
    let got = {
        let peer = udp(&world);
        sent(&heard(&mut world, peer, NODE, &not_recursive))
    };
    assert_eq!(code(&got[0].2), 5);
    assert_eq!(answer(&mut world, NODE, &query("n1.cluster", rtype::A)), "NOERROR; aa; ra; answer: n1.cluster 3600 A 10.54.1.1");
}

#[test]
fn a_full_table_sheds_the_newest() {
    let mut world = forwarding(&[ONE]);
    for n in 0..crate::wire::dns::PENDING {
        asked(&ask_by_datagram(&mut world, NODE, &query(&format!("a{n}.example"), rtype::A)));
    }
    let shed = ask_by_datagram(&mut world, NODE, &query("more.example", rtype::A));
    assert_eq!((code(&shed[0].2), world.count(Counter::DnsTableFull)), (2, 1));
    world.advance(5000);
    assert_eq!((world.server.names().waiting, world.count(Counter::DnsFailed)), (0, crate::wire::dns::PENDING as u64));
    asked(&ask_by_datagram(&mut world, NODE, &query("more.example", rtype::A)));
}

#[test]
fn an_answer_that_is_too_long_is_told_to_be() {
    let mut world = forwarding(&[ONE]);
    let (socket, _, question) = asked(&ask_by_datagram(&mut world, NODE, &query("big.example", TXT)));
    let long = yes(&question, 600);
    let back = sent(&heard(&mut world, Peer::Datagram(socket), server(ONE), &long));
    assert!(back[0].2.len() <= 512 && told(&back[0].2) == "NOERROR; tc; ra");
}

#[test]
fn a_client_with_a_connection_has_long_answers_by_one() {
    let mut world = forwarding(&[ONE]);
    let client = client(5);
    let (socket, _, question) = asked(&ask_from(&mut world, client, NODE, &query("big.example", TXT)));
    let mut cut = yes(&question, 0);
    cut[2] |= 2;
    assert_eq!(heard(&mut world, Peer::Datagram(socket), server(ONE), &cut), [Got::Connect(server(ONE), 0)]);
    let call = conn(9);
    let called = on_call(&mut world, call, StreamEvent::Opened { token: 0 });
    assert_eq!(called, [Got::Write(call, question.clone())]);
    let long = yes(&question, 60_000);
    let got = on_call(&mut world, call, StreamEvent::Bytes(&long));
    assert_eq!(got[0], Got::Hang(call));
    assert_eq!((sent(&got)[0].0, sent(&got)[0].2.len()), (client, long.len()));
    // The place is given away again when the world says that it is free.
    on_call(&mut world, call, StreamEvent::Closed);
    let (socket, _, question) = asked(&ask_from(&mut world, client, NODE, &query("big.example", TXT)));
    let mut cut = yes(&question, 0);
    cut[2] |= 2;
    assert_eq!(heard(&mut world, Peer::Datagram(socket), server(ONE), &cut), [Got::Connect(server(ONE), 0)]);
    let call = conn(10);
    on_call(&mut world, call, StreamEvent::Opened { token: 0 });
    assert_eq!(happens(&mut world, conn(5), NODE, StreamEvent::Closed), [Got::Hang(call)]);
    assert_eq!(world.server.names().waiting, 0, "nobody waits for it");
}

#[test]
fn a_call_that_nobody_waits_for_is_ended_when_it_is_made() {
    let mut world = forwarding(&[ONE]);
    let (socket, _, question) = asked(&ask_from(&mut world, client(5), NODE, &query("big.example", TXT)));
    let mut cut = yes(&question, 0);
    cut[2] |= 2;
    heard(&mut world, Peer::Datagram(socket), server(ONE), &cut);
    assert!(happens(&mut world, conn(5), NODE, StreamEvent::Closed).is_empty());
    assert_eq!(on_call(&mut world, conn(9), StreamEvent::Opened { token: 0 }), [Got::Hang(conn(9))]);
}

#[test]
fn a_server_that_hangs_up_is_asked_again() {
    let mut world = forwarding(&[ONE]);
    let (socket, _, question) = asked(&ask_from(&mut world, client(0), NODE, &query("big.example", TXT)));
    let mut cut = yes(&question, 0);
    cut[2] |= 2;
    heard(&mut world, Peer::Datagram(socket), server(ONE), &cut);
    on_call(&mut world, conn(9), StreamEvent::Opened { token: 0 });
    on_call(&mut world, conn(9), StreamEvent::Closed);
    asked(&sent(&world.advance(1600)));
    let end = sent(&world.advance(4000));
    assert_eq!((end.last().unwrap().0, code(&end.last().unwrap().2)), (client(0), 2));
}

/// Something on a connection to another server.
fn on_call(world: &mut World, call: ConnId, event: StreamEvent<'_>) -> Vec<Got> {
    let endpoint = row(world, UPSTREAM, |transport| matches!(transport, Transport::Dial(_)));
    world.stream(endpoint, call, server(ONE), event)
}
