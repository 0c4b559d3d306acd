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

/// A question that is asked on a line: the line, whom, and the message.
#[derive(Clone, Debug)]
struct Line {
    conn: ConnId,
    to: Ipv4Addr,
    body: Vec<u8>,
}

/// The lines that are dialled, each opened by the world.
fn dialled(world: &mut World, got: &[Got]) -> Vec<Line> {
    let calls = got.iter().filter_map(|got| if let Got::Connect(to, token) = got { Some((*to, *token)) } else { None });
    let lines = calls.collect::<Vec<_>>().into_iter().map(|(to, token)| {
        let conn = conn(100 + token);
        match on_line(world, conn, StreamEvent::Opened { token }).as_slice() {
            [Got::Write(own, body)] if *own == conn => Line { conn, to: *to.ip(), body: body.clone() },
            other => panic!("{other:?}"),
        }
    });
    lines.collect()
}

/// Something on a line to another server.
fn on_line(world: &mut World, line: ConnId, event: StreamEvent<'_>) -> Vec<Got> {
    let endpoint = world.server.endpoints().asker();
    world.stream(endpoint, line, server(ONE), event)
}

/// Asks, and gives the lines by which that goes on.
fn ask(world: &mut World, peer: Peer, src: SocketAddrV4, query: &Query) -> Vec<Line> {
    let got = heard(world, peer, src, &bytes(query));
    dialled(world, &got)
}

/// The one line by which a question of a node's goes on.
fn asked(world: &mut World, name: &str) -> Line {
    let peer = udp(world);
    match ask(world, peer, NODE, &query(name, rtype::A)).as_slice() {
        [line] => line.clone(),
        other => panic!("{other:?}"),
    }
}

/// What a server says: what that leads to, with the lines that were hung up gone.
fn say(world: &mut World, line: &Line, bytes: &[u8]) -> Vec<Got> {
    let mut got = on_line(world, line.conn, StreamEvent::Bytes(bytes));
    let hung: Vec<ConnId> = got.iter().filter_map(|got| if let Got::Hang(conn) = got { Some(*conn) } else { None }).collect();
    for conn in hung {
        got.extend(on_line(world, conn, StreamEvent::Closed));
    }
    got
}

/// A message with another code.
fn with_code(message: &[u8], code: u8) -> Vec<u8> {
    let mut message = message.to_vec();
    message[3] |= code;
    message
}

fn server(ip: Ipv4Addr) -> SocketAddrV4 {
    SocketAddrV4::new(ip, 53)
}

#[test]
fn a_question_goes_on_and_its_answer_comes_back() {
    let mut world = forwarding(&[ONE]);
    let by_datagram = udp(&world);
    let edns = Some(Edns { size: 4096, version: 0, dnssec: true });
    let asks = Query { edns, authentic: true, ..query("WWW.example.org", rtype::A) };
    let line = ask(&mut world, by_datagram, NODE, &asks).pop().unwrap();
    let read = dns::parse(&line.body).unwrap();
    assert_eq!((line.to, read.recursion, read.authentic), (ONE, true, true));
    assert_eq!(read.edns, Some(Edns { size: 1232, version: 0, dnssec: true }));
    assert!(read.question.unwrap().name.is(&DnsName::of_text("www.example.org").unwrap()));
    assert!(ask_by_datagram(&mut world, NODE, &asks).is_empty(), "it waits already");
    let good = yes(&line.body, 300);
    let mut wrong_id = good.clone();
    wrong_id[1] ^= 1;
    let mut wrong_name = good.clone();
    wrong_name[14] ^= 1;
    let other = Line { conn: conn(7), ..line.clone() };
    for (line, bytes) in [(&other, &good), (&line, &wrong_id), (&line, &wrong_name), (&line, &line.body)] {
        assert!(say(&mut world, line, bytes).is_empty());
    }
    let back = sent(&say(&mut world, &line, &good));
    let mut expected = good.clone();
    dns::make_forwarded(&mut expected, &asks);
    assert_eq!(back, [(by_datagram, NODE, expected)]);
    assert_eq!(&back[0].2[12..28], b"\x03WWW\x07example\x03org", "in the letters of whoever asked");
    assert_eq!((back[0].2[..2].to_vec(), back[0].2[3] & 0x80, back[0].2[2] & 4), (4711u16.to_be_bytes().to_vec(), 0x80, 0));
    assert!(say(&mut world, &line, &good).is_empty(), "once");
    assert_eq!((world.count(Counter::DnsStray), world.count(Counter::DnsRepeated)), (5, 1));
    assert_eq!(world.server.names().waiting, 0);
}

/// RFC 5452, 9.2: ids and letters follow from nothing; ports are the kernel's choice, on a line of its own for each question.
#[test]
fn every_question_has_its_own_line_id_and_letters() {
    let mut world = forwarding(&[ONE]);
    let lines: Vec<Line> = (0..50).map(|n| asked(&mut world, &format!("a{n:02}.somewhere.example"))).collect();
    let distinct = |of: fn(&Line) -> Vec<u8>| lines.iter().map(of).collect::<std::collections::BTreeSet<_>>().len();
    assert_eq!(distinct(|line| line.conn.to_u64().to_be_bytes().to_vec()), 50);
    assert!(distinct(|line| line.body[..2].to_vec()) >= 49);
    assert!(distinct(|line| line.body[16..33].iter().map(|byte| byte & 0x20).collect()) >= 49, "letters");
}

/// Some servers answer in letters of their own; they are asked again as the client asked, at once and from then on.
#[test]
fn a_server_that_changes_letters_is_asked_in_plain_ones() {
    let mut world = forwarding(&[ONE]);
    let line = asked(&mut world, "some.letters.example");
    let mut lower = yes(&line.body, 0);
    lower[12..].make_ascii_lowercase();
    match say(&mut world, &line, &lower).as_slice() {
        [Got::Write(conn, body)] if *conn == line.conn => assert_eq!(body[12..], bytes(&query("some.letters.example", rtype::A))[12..]),
        other => panic!("{other:?}"),
    }
    assert_eq!(sent(&say(&mut world, &line, &lower)).len(), 1);
    let plain = asked(&mut world, "other.letters.example");
    assert!(plain.body[12..].iter().all(|byte| !byte.is_ascii_uppercase()));
}

/// D5, 1 of names.md: a silent first server cost 1.5 s at each question, for ever.
#[test]
fn the_server_that_answers_is_asked_first() {
    let mut world = forwarding(&[ONE, TWO]);
    let first = asked(&mut world, "a.example");
    assert_eq!(first.to, ONE);
    let got = world.advance(290);
    assert!(dialled(&mut world, &got).is_empty());
    let got = world.advance(20);
    let second = dialled(&mut world, &got).pop().unwrap();
    assert_eq!(second.to, TWO, "after 300 ms");
    assert_eq!(sent(&say(&mut world, &second, &yes(&second.body, 0))).len(), 1);
    for n in 0..20 {
        let line = asked(&mut world, &format!("b{n}.example"));
        assert_eq!(line.to, TWO);
        say(&mut world, &line, &yes(&line.body, 0));
    }
    // Once in a while the list's first server is asked beside it, and is first again when it answers first.
    world.advance(10_000);
    let peer = udp(&world);
    let both = ask(&mut world, peer, NODE, &query("c.example", rtype::A));
    assert_eq!(both.iter().map(|line| line.to).collect::<Vec<_>>(), [TWO, ONE]);
    say(&mut world, &both[1], &yes(&both[1].body, 0));
    assert_eq!(asked(&mut world, "d.example").to, ONE);
}

#[test]
fn the_next_is_asked_at_once_when_one_says_no() {
    for code in [1, 2, 4, 5] {
        let mut world = forwarding(&[ONE, TWO]);
        let first = asked(&mut world, "a.example");
        let got = say(&mut world, &first, &with_code(&yes(&first.body, 0), code));
        assert!(sent(&got).is_empty(), "{code} is not handed on");
        let second = dialled(&mut world, &got).pop().unwrap();
        assert_eq!(second.to, TWO);
        let back = sent(&say(&mut world, &second, &yes(&second.body, 0)));
        assert_eq!((back.len(), self::code(&back[0].2)), (1, 0));
        assert_eq!(asked(&mut world, "b.example").to, ONE, "it is there");
    }
    // Nobody listens: the kernel has heard ICMP.
    let mut world = forwarding(&[ONE, TWO]);
    let first = asked(&mut world, "a.example");
    let got = on_line(&mut world, first.conn, StreamEvent::Closed);
    let second = dialled(&mut world, &got).pop().unwrap();
    assert_eq!(sent(&say(&mut world, &second, &yes(&second.body, 0))).len(), 1);
    assert_eq!(asked(&mut world, "b.example").to, TWO, "it is first from now on");
    // Without a question, as some refuse.
    let mut world = forwarding(&[ONE]);
    let first = asked(&mut world, "a.example");
    let mut bare = with_code(&yes(&first.body, 0), 5)[..12].to_vec();
    bare[5] = 0;
    let back = sent(&say(&mut world, &first, &bare));
    assert_eq!((back.len(), code(&back[0].2)), (1, 5));
}

#[test]
fn all_four_are_asked_and_the_last_no_is_the_answer() {
    let servers = [1, 2, 3, 4].map(|n| Ipv4Addr::new(192, 0, 2, n));
    let mut world = forwarding(&servers);
    let mut line = asked(&mut world, "a.example");
    for server in &servers[1..] {
        let got = say(&mut world, &line, &with_code(&yes(&line.body, 0), 2));
        line = dialled(&mut world, &got).pop().unwrap();
        assert_eq!(line.to, *server);
    }
    let last = with_code(&yes(&line.body, 40), 2);
    let back = sent(&say(&mut world, &line, &last));
    assert_eq!((back.len(), back[0].2.len(), code(&back[0].2)), (1, last.len(), 2));
    // Nobody is there: no client waits for what cannot come.
    let mut got = heard(&mut world, Peer::Datagram(0), NODE, &[]);
    let mut line = Some(asked(&mut world, "b.example"));
    let mut count = 0;
    while let Some(gone) = line.take() {
        got = on_line(&mut world, gone.conn, StreamEvent::Closed);
        line = dialled(&mut world, &got).pop();
        count += 1;
    }
    assert_eq!((count, code(&sent(&got)[0].2), world.count(Counter::DnsFailed)), (4, 2, 1));
}

#[test]
fn silence_is_asked_again_and_ends() {
    let mut world = forwarding(&[ONE, TWO]);
    let (begin, by_datagram) = (world.now.at, udp(&world));
    let mut said = vec![(0, asked(&mut world, "a.example").to)];
    loop {
        let got = world.advance(10);
        // The timers' ticks are a few milliseconds long.
        let at = world.now.at.since(begin).as_millis() / 50 * 50;
        said.extend(dialled(&mut world, &got).iter().map(|line| (at, line.to)));
        let back = sent(&got);
        let lines = back.iter().filter(|(peer, ..)| matches!(peer, Peer::Conn(_)));
        said.extend(lines.map(|_| (at, Ipv4Addr::UNSPECIFIED)));
        if let Some((_, to, body)) = back.iter().find(|(peer, ..)| *peer == by_datagram) {
            assert_eq!((*to, code(body), dns::parse_response(body).unwrap().id, at), (NODE, 2, 4711, 4500));
            break;
        }
        assert!(at < 10_000);
    }
    let again = Ipv4Addr::UNSPECIFIED;
    assert_eq!(said, [(0, ONE), (300, TWO), (1800, again), (1800, again), (3300, again), (3300, again)], "again: on its line");
    assert_eq!((world.count(Counter::DnsRetried), world.count(Counter::DnsFailed)), (5, 1));
}

/// 23 of names.md: a server that needs two seconds was never heard.
#[test]
fn a_slow_answer_counts() {
    let mut world = forwarding(&[ONE]);
    let line = asked(&mut world, "a.example");
    world.advance(4000);
    assert_eq!(sent(&say(&mut world, &line, &yes(&line.body, 0))).len(), 1);
}

#[test]
fn equal_questions_wait_together() {
    let mut world = forwarding(&[ONE]);
    let peer = udp(&world);
    let from = |n: u8| SocketAddrV4::new([10, 54, 1, n].into(), 4000);
    let line = ask(&mut world, peer, from(0), &query("a.example", rtype::A)).pop().unwrap();
    for n in 1..8 {
        assert!(ask(&mut world, peer, from(n), &query("A.example", rtype::A)).is_empty());
    }
    assert_eq!(ask(&mut world, peer, from(9), &query("a.example", rtype::A)).len(), 1, "not more than fit a call");
    assert_eq!(ask(&mut world, peer, from(10), &query("a.example", TXT)).len(), 1);
    assert_eq!(ask(&mut world, peer, from(11), &Query { checking_disabled: true, ..query("a.example", rtype::A) }).len(), 1);
    let back = sent(&say(&mut world, &line, &yes(&line.body, 0)));
    assert_eq!(back.iter().map(|(_, to, _)| *to).collect::<Vec<_>>(), (0..8).map(from).collect::<Vec<_>>());
    assert_eq!((back[0].2[13], back[1].2[13]), (b'a', b'A'), "each in its letters");
}

#[test]
fn only_the_clusters_own_questions_go_on() {
    let mut world = forwarding(&[ONE]);
    for (src, goes) in [([10, 54, 1, 1], true), ([10, 55, 9, 9], true), ([127, 0, 0, 1], true), ([192, 0, 2, 7], false)] {
        let (peer, src) = (udp(&world), SocketAddrV4::new(src.into(), 9));
        assert_eq!(ask(&mut world, peer, src, &query(&format!("a{}.example", src.ip()), rtype::A)).len() == 1, goes, "{src:?}");
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

/// 10 of names.md: one machine with names that nobody answers took all the places.
#[test]
fn a_crowd_of_questions_leaves_room_for_others() {
    let mut world = forwarding(&[ONE]);
    let peer = udp(&world);
    let greedy = |n: usize| query(&format!("a{n}.example"), rtype::A);
    let goes = (0..400).filter(|n| ask(&mut world, peer, NODE, &greedy(*n)).len() == 1).count();
    assert_eq!((goes, world.count(Counter::DnsShare)), (dns::PENDING / 2, 400 - dns::PENDING as u64 / 2));
    for n in 1..=100u8 {
        let src = SocketAddrV4::new([10, 54, 2, n].into(), 4000);
        let line = ask(&mut world, peer, src, &query(&format!("b{n}.example"), rtype::A)).pop().expect("there is room for others");
        assert_eq!(sent(&say(&mut world, &line, &yes(&line.body, 0))).len(), 1);
    }
}

#[test]
fn a_full_table_sheds_the_newest() {
    let mut world = forwarding(&[ONE]);
    let peer = udp(&world);
    let from = |n: usize| SocketAddrV4::new([10, 54, 2, (n / 8) as u8].into(), 4000);
    for n in 0..dns::PENDING {
        assert_eq!(ask(&mut world, peer, from(n), &query(&format!("a{n}.example"), rtype::A)).len(), 1);
    }
    let shed = ask_by_datagram(&mut world, NODE, &query("more.example", rtype::A));
    assert_eq!((code(&shed[0].2), world.count(Counter::DnsTableFull)), (2, 1));
    // The lines that are hung up are free when the world says so.
    let hung: Vec<Got> = world.advance(5000);
    for got in &hung {
        if let Got::Hang(conn) = got {
            on_line(&mut world, *conn, StreamEvent::Closed);
        }
    }
    assert_eq!((world.server.names().waiting, world.count(Counter::DnsFailed)), (0, dns::PENDING as u64));
    asked(&mut world, "more.example");
}

#[test]
fn an_answer_that_is_too_long_is_told_to_be() {
    let mut world = forwarding(&[ONE]);
    let line = asked(&mut world, "big.example");
    let back = sent(&say(&mut world, &line, &yes(&line.body, 600)));
    assert!(back[0].2.len() <= 512 && told(&back[0].2) == "NOERROR; tc; ra");
}

/// The place of the call that is made next, and what it asks.
fn called(world: &mut World, line: &Line) -> Vec<Line> {
    let mut cut = yes(&line.body, 0);
    cut[2] |= 2;
    let got = say(world, line, &cut);
    dialled(world, &got)
}

#[test]
fn a_client_with_a_connection_has_long_answers_by_one() {
    let mut world = forwarding(&[ONE]);
    let client = client(5);
    let line = ask(&mut world, client, NODE, &query("big.example", TXT)).pop().unwrap();
    let call = called(&mut world, &line).pop().unwrap();
    assert_eq!((call.to, &call.body, call.conn), (ONE, &line.body, conn(100)), "the first place for connections");
    let long = yes(&call.body, 60_000);
    let got = say(&mut world, &call, &long);
    assert_eq!(got[0], Got::Hang(call.conn));
    assert_eq!((sent(&got)[0].0, sent(&got)[0].2.len()), (client, long.len()));
    // Who hangs up waits for nothing.
    let line = ask(&mut world, client, NODE, &query("big.example", TXT)).pop().unwrap();
    let call = called(&mut world, &line).pop().unwrap();
    happens(&mut world, conn(5), NODE, StreamEvent::Closed);
    assert!(world.advance(10).contains(&Got::Hang(call.conn)) && world.server.names().waiting == 0);
}

#[test]
fn a_line_that_nobody_waits_for_is_ended_when_it_is_made() {
    let mut world = forwarding(&[ONE]);
    let got = heard(&mut world, client(5), NODE, &bytes(&query("big.example", TXT)));
    let [Got::Connect(_, token)] = got[..] else { panic!("{got:?}") };
    happens(&mut world, conn(5), NODE, StreamEvent::Closed);
    world.advance(10);
    assert_eq!(on_line(&mut world, conn(9), StreamEvent::Opened { token }), [Got::Hang(conn(9))]);
}

/// 9 of names.md: of thirty at once eighteen were answered SERVFAIL, as there are four places.
#[test]
fn calls_wait_for_a_place() {
    let mut world = forwarding(&[ONE]);
    let mut calls = Vec::new();
    for n in 0..30 {
        let line = ask(&mut world, client(n), NODE, &query(&format!("big{n}.example"), TXT)).pop().unwrap();
        calls.extend(called(&mut world, &line));
    }
    assert_eq!(calls.len(), dns::CALLS);
    let mut answered = Vec::new();
    while let Some(call) = (!calls.is_empty()).then(|| calls.remove(0)) {
        let got = say(&mut world, &call, &yes(&call.body, 2000));
        answered.extend(sent(&got).into_iter().map(|(peer, ..)| peer));
        calls.extend(dialled(&mut world, &got));
    }
    assert_eq!(answered, (0..30).map(client).collect::<Vec<_>>(), "in order");
}

#[test]
fn a_server_that_hangs_up_has_no_answer() {
    let mut world = forwarding(&[ONE, TWO]);
    let line = ask(&mut world, client(0), NODE, &query("big.example", TXT)).pop().unwrap();
    let call = called(&mut world, &line).pop().unwrap();
    let got = on_line(&mut world, call.conn, StreamEvent::Closed);
    let next = dialled(&mut world, &got).pop().unwrap();
    assert_eq!(next.to, TWO);
    let got = on_line(&mut world, next.conn, StreamEvent::Closed);
    assert_eq!((sent(&got)[0].0, code(&sent(&got)[0].2)), (client(0), 2));
}
