//! Round trips, limits, and bytes of all kinds.

use super::*;
use proptest::prelude::*;

fn name(text: &str) -> DnsName {
    DnsName::of_text(text).unwrap()
}

fn query(text: &str, rtype: u16) -> Query {
    Query::for_test(7, Question { name: name(text), rtype, class: CLASS_IN })
}

fn written(query: &Query) -> Vec<u8> {
    let mut buf = [0; 512];
    let len = write_query(&mut buf, query.id, query).unwrap();
    buf[..len].to_vec()
}

const YES: ResponseFlags = ResponseFlags { rcode: rcode::NOERROR, authoritative: true, recursive: false };

#[test]
fn a_query_is_read_as_it_was_written() {
    for edns in [None, Some(Edns { size: 1000, version: 0, dnssec: true })] {
        let asked = Query { edns, ..query("N23.Cluster", rtype::A) };
        let read = parse(&written(&asked)).unwrap();
        assert_eq!((read.id, read.opcode, read.recursion, read.sound, read.edns), (7, 0, true, true, edns));
        let question = read.question.as_ref().unwrap();
        assert!(question.is(asked.question.as_ref().unwrap()));
        assert_eq!(question.name.to_string(), "N23.Cluster", "in its case");
        assert_eq!(read.udp_limit(), if edns.is_some() { 1000 } else { 512 });
    }
}

#[test]
fn what_is_no_query_and_what_is_no_good_one() {
    let good = written(&query("n23.cluster", rtype::A));
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        parse(&bytes)
    };
    assert_eq!(parse(&good[..11]).err(), Some(NoQuery));
    assert_eq!(with(2, 0x80).err(), Some(NoQuery), "a response");
    assert!(!parse(&good[..12]).unwrap().sound && !with(5, 2).unwrap().sound && !with(5, 0).unwrap().sound);
    assert!(!with(12, 0xc0).unwrap().sound, "a pointer into itself");
    assert!(with(2, 5 << 3).is_ok_and(|update| update.opcode == 5 && update.question.is_none()));
    // A second OPT record, and one that is not in the additional section.
    let asked = Query { edns: Some(Edns { size: 1232, version: 0, dnssec: false }), ..query("a.b", rtype::A) };
    let mut bytes = written(&asked);
    let opt = bytes[bytes.len() - OPT_LEN..].to_vec();
    bytes[9] = 1;
    bytes[11] = 0;
    assert!(!parse(&bytes).unwrap().sound);
    bytes[9] = 0;
    bytes[11] = 2;
    bytes.extend(opt);
    assert!(!parse(&bytes).unwrap().sound);
}

#[test]
fn the_limit_holds_to_the_byte() {
    let asked = Query { edns: Some(Edns { size: 1232, version: 0, dnssec: true }), ..query("n23.cluster", rtype::A) };
    let owner = asked.question.as_ref().unwrap().name.clone();
    let record = Record { owner: &owner, ttl: 5, data: Data::A([10, 0, 0, 1].into()) };
    let base = HEADER + 13 + 4 + OPT_LEN;
    for limit in base..base + 40 {
        let mut buf = [0; 512];
        let mut builder = ResponseBuilder::new(&mut buf, limit, &asked, YES).unwrap();
        let fits = (0..2).filter(|_| builder.answer(&record)).count();
        assert_eq!(fits, ((limit - base) / 16).min(2), "{limit}");
        if fits < 2 {
            builder.truncate();
        }
        let len = builder.finish(None);
        assert_eq!((len, buf[2] & 2 > 0, buf[11]), (base + if fits < 2 { 0 } else { 32 }, fits < 2, 1), "{limit}");
    }
}

#[test]
fn an_extended_code_needs_edns() {
    let mut buf = [0; 512];
    let asked = Query { edns: Some(Edns { size: 1232, version: 1, dnssec: false }), ..query("a", rtype::A) };
    let len = ResponseBuilder::new(&mut buf, 512, &asked, ResponseFlags { rcode: rcode::BADVERS, ..YES }).unwrap().finish(None);
    assert_eq!((buf[3] & 15, buf[len - 6]), (0, 1), "the low and the high bits");
    let response = parse_response(&buf[..len]).unwrap();
    assert!(response.id == 7 && !response.truncated && response.question.unwrap().is(asked.question.as_ref().unwrap()));
}

#[test]
fn names_stay_within_their_limits() {
    let label = [b'a'; 63];
    let long = DnsName::of([&label[..], &label, &label]).unwrap();
    assert!(DnsName::beneath([&label[..]], &long).is_none() && DnsName::of([&[b'a'; 64][..]]).is_none());
    assert!(DnsName::of_text("a..b").is_none() && name("A.b").is(&name("a.B")) && !name("a.b").is(&name("a")));
    assert_eq!(name("a.b").labels().collect::<Vec<_>>(), [b"a", b"b"]);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse_response(&bytes);
        if let Ok(query) = parse(&bytes) {
            let mut buf = [0; 512];
            let len = ResponseBuilder::new(&mut buf, query.udp_limit(), &query, YES).unwrap().finish(None);
            prop_assert!((HEADER..=512).contains(&len));
        }
    }

    #[test]
    fn no_mutation_of_a_query_panics(at in 0..60usize, byte: u8, cut in 0..60usize) {
        let asked = Query { edns: Some(Edns { size: 1232, version: 0, dnssec: true }), ..query("n23.some.where.cluster", rtype::A) };
        let mut bytes = written(&asked);
        bytes.iter_mut().skip(at).take(1).for_each(|old| *old = byte);
        bytes.truncate(bytes.len().saturating_sub(cut % 20));
        if let Ok(query) = parse(&bytes) {
            let mut buf = [0; 1232];
            prop_assert!(ResponseBuilder::new(&mut buf, 1232, &query, YES).unwrap().finish(None) >= HEADER);
            let _ = write_query(&mut buf, 1, &query);
        }
    }
}
