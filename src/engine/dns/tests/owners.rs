//! Whose a name is: ours, an upstream's, or nobody's.

use super::*;
use crate::roll::plan::Subnet;

const DS: u16 = rtype::DS;

fn with(change: impl FnOnce(&mut Config)) -> World {
    let mut config = config();
    config.dns.upstream = vec![[192, 0, 2, 1].into()];
    change(&mut config);
    World::new(&config)
}

/// What is said, or where the question goes.
fn said(world: &mut World, src: SocketAddrV4, query: &Query) -> String {
    let peer = udp(world);
    let got = heard(world, peer, src, &bytes(query));
    match got.as_slice() {
        [Got::Connect(..)] => "goes on".into(),
        _ => told(&sent(&got)[0].2),
    }
}

/// 5 of names.md: behind a validating resolver all names of the cluster were SERVFAIL.
#[test]
fn how_a_zone_is_signed_its_parent_says() {
    let mut world = with(|_| {});
    assert_eq!(said(&mut world, NODE, &query("cluster", DS)), "goes on");
    assert_eq!(said(&mut world, NODE, &query("54.10.in-addr.arpa", DS)), "goes on");
    assert!(said(&mut world, NODE, &query("n23.cluster", DS)).starts_with("NOERROR; aa; ra; authority"));
    let stranger = SocketAddrV4::new([192, 0, 2, 7].into(), 9);
    assert!(said(&mut world, stranger, &query("cluster", DS)).starts_with("NOERROR; aa; authority"), "who may not ask others");
    let mut alone = World::new(&config());
    assert!(said(&mut alone, NODE, &query("cluster", DS)).starts_with("NOERROR; aa; authority"));
}

/// 7 of names.md: the neighbours of a network smaller than a /24 had no names.
#[test]
fn neighbours_of_a_small_network_are_others() {
    let small = |config: &mut Config| {
        config.networks[2].subnet = Subnet::of([203, 0, 113, 64].into(), 26);
        config.networks[2].guests = None;
    };
    let mut world = with(small);
    let pointer = |text: &str| query(text, rtype::PTR);
    assert_eq!(said(&mut world, NODE, &pointer("10.113.0.203.in-addr.arpa")), "goes on");
    assert_eq!(said(&mut world, NODE, &query("113.0.203.in-addr.arpa", rtype::SOA)), "goes on");
    assert!(said(&mut world, NODE, &pointer("70.113.0.203.in-addr.arpa")).starts_with("NXDOMAIN; aa"), "ours has none");
    assert!(said(&mut world, NODE, &query("54.10.in-addr.arpa", rtype::SOA)).starts_with("NOERROR; aa"));
    assert!(said(&mut world, NODE, &pointer("9.9.54.10.in-addr.arpa")).starts_with("NXDOMAIN; aa"));
    let mut alone = config();
    small(&mut alone);
    assert_eq!(said(&mut World::new(&alone), NODE, &pointer("10.113.0.203.in-addr.arpa")), "REFUSED");
}

/// 6 of names.md: the site's own names in the cluster's domain were NXDOMAIN.
#[test]
fn what_the_plan_does_not_name_is_asked_of_others_where_the_operator_says_so() {
    let mut world = with(|config| config.dns.forward_unknown = true);
    for (name, kind) in [
        ("login.cluster", rtype::A),
        ("n5000.cluster", rtype::A),
        ("_slurmctld._tcp.cluster", 33),
        ("9.9.54.10.in-addr.arpa", rtype::PTR),
        ("9.9.99.10.in-addr.arpa", rtype::PTR),
    ] {
        assert_eq!(said(&mut world, NODE, &query(name, kind)), "goes on", "{name}");
    }
    for (name, kind) in [("n23.cluster", AAAA), ("cluster", rtype::SOA), ("23.1.54.10.in-addr.arpa", rtype::PTR)] {
        assert!(said(&mut world, NODE, &query(name, kind)).starts_with("NOERROR; aa"), "{name}");
    }
    let stranger = SocketAddrV4::new([192, 0, 2, 7].into(), 9);
    assert!(said(&mut world, stranger, &query("login.cluster", rtype::A)).starts_with("NXDOMAIN; aa"));
    assert!(said(&mut with(|_| {}), NODE, &query("login.cluster", rtype::A)).starts_with("NXDOMAIN; aa"));
}

/// 16 of names.md: special names went to the upstream, which said that localhost was 192.0.2.61.
#[test]
fn special_names_are_asked_of_nobody() {
    let mut world = with(|_| {});
    for (name, kind, expected) in [
        ("localhost", rtype::A, "NOERROR; ra; answer: localhost 3600 A 127.0.0.1"),
        ("foo.localhost", AAAA, "NOERROR; ra"),
        ("1.0.0.127.in-addr.arpa", rtype::PTR, "NOERROR; ra; answer: 1.0.0.127.in-addr.arpa 3600 PTR localhost"),
        ("n17", rtype::A, "NXDOMAIN; ra"),
        ("x.invalid", rtype::A, "NXDOMAIN; ra"),
        ("x.onion", rtype::A, "NXDOMAIN; ra"),
        ("9.9.99.10.in-addr.arpa", rtype::PTR, "NXDOMAIN; ra"),
        ("org", rtype::NS, "goes on"),
        ("9.2.0.192.in-addr.arpa", rtype::PTR, "goes on"),
    ] {
        assert_eq!(said(&mut world, NODE, &query(name, kind)), expected, "{name}");
    }
    assert_eq!(world.count(Counter::DnsLocal), 7);
}

/// 20 of names.md: a dot in a label is a byte.
#[test]
fn a_label_with_a_dot_is_no_name_of_a_nodes() {
    let mut world = World::new(&config());
    for label in ["n23.cluster", "n23.", ".23", "head.cluster", "master.cluster."] {
        let name = DnsName::of([label.as_bytes(), b"cluster"]).unwrap();
        let question = Question { name, rtype: rtype::A, class: 1 };
        assert!(said(&mut world, NODE, &Query { question: Some(question), ..query("x", 1) }).starts_with("NXDOMAIN"), "{label}");
    }
}
