//! Rulesets as hosts have them, and what becomes of the packets of a boot in each.

use std::net::Ipv4Addr;
use std::time::Duration;

use muster::base::addr::Mac;
use muster::config::{Config, LinkConfig, Network};
use muster::roll::plan::{AddressPlan, Subnet};

use super::super::finding::{Diagnosis, Severity};
use super::rules::{FilteredPacket, Hook, Outcome, Passage, Ruleset, TCP, UDP};
use super::{FilterFacts, iptables, judge, nft};

const HEAD: Ipv4Addr = Ipv4Addr::new(10, 54, 0, 1);

fn packet(hook: Hook, interface: &str, protocol: u8, port: u16) -> FilteredPacket<'_> {
    FilteredPacket { hook, interface, protocol, server: HEAD, client: [10, 54, 1, 7].into(), port }
}

/// `-`: it gets through; `R`, `D`: it does not; in lower case: it may not.
fn ends(rules: &Ruleset, packet: &FilteredPacket<'_>) -> String {
    let Passage { certain, possible } = rules.passage(packet);
    let letter = |outcome: Outcome| if outcome == Outcome::Reject { 'r' } else { 'd' };
    let sure = certain.map(|(outcome, _)| letter(outcome).to_ascii_uppercase());
    let all: String = sure.into_iter().chain(possible.into_iter().map(|(outcome, _)| letter(outcome))).collect();
    if all.is_empty() { "-".into() } else { all }
}

fn nft(text: &str) -> Ruleset {
    nft::read(text).unwrap().rules
}

/// nftables 1.0.6: sets, intervals, verdict maps, jumps, a limit, a fib look-up, a policy.
#[test]
fn a_ruleset_of_nft() {
    let rules = nft(include_str!("../samples/rules.json"));
    assert!(!nft::read(include_str!("../samples/rules.json")).unwrap().foreign);
    let input = |interface: &str, protocol, port| ends(&rules, &packet(Hook::Input, interface, protocol, port));
    assert_eq!(input("lo", UDP, 4000), "-");
    assert_eq!(input("eth91", UDP, 69), "-", "eth9*");
    assert_eq!(input("eth1", UDP, 69), "-", "@bootports and @admins");
    assert_eq!(input("eth1", UDP, 20069), "-", "an interval");
    assert_eq!(input("eth1", UDP, 5353), "R");
    assert_eq!([input("eth1", TCP, 22), input("eth1", TCP, 53), input("eth1", TCP, 54)], ["-", "-", "R"], "a map of verdicts, and a jump");
    let stranger = FilteredPacket { client: [172, 16, 0, 1].into(), ..packet(Hook::Input, "eth1", UDP, 69) };
    assert_eq!(ends(&rules, &stranger), "R", "it is no admin");
    // skuid is of a process that is not known here.
    assert_eq!(ends(&rules, &packet(Hook::Output, "eth1", UDP, 20069)), "r");
    assert_eq!([packet(Hook::Output, "eth1", UDP, 67), packet(Hook::Output, "eth2", UDP, 20069)].map(|it| ends(&rules, &it)), ["-", "-"]);
}

/// What iptables-nft made: some of it can be read by iptables alone.
#[test]
fn a_ruleset_of_iptables() {
    let read = nft::read(include_str!("../samples/iptables-nft.json")).unwrap();
    assert!(read.foreign && read.rules.chains.iter().all(|chain| chain.foreign));
    // "ctstate" may be so or not.
    assert_eq!(ends(&read.rules, &packet(Hook::Input, "eth1", UDP, 69)), "r");
    let saved = iptables::read(include_str!("../samples/iptables-save.txt"));
    let input = |interface: &str, port| ends(&saved, &packet(Hook::Input, interface, UDP, port));
    assert_eq!(
        [input("lo", 69), input("eth0", 69), input("eth1", 69), input("eth1", 20100), input("eth1", 21001)],
        ["-", "-", "R", "-", "R"]
    );
    assert_eq!(ends(&saved, &packet(Hook::Output, "eth1", UDP, 20069)), "-");
}

#[test]
fn rules_of_iptables_in_all_forms() {
    let ends = |rules: &str, interface: &str, port| {
        let text = format!(
            "*nat\n:PREROUTING DROP [0:0]\n-A PREROUTING -j DROP\nCOMMIT\n*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT DROP [0:0]\n:boot - [0:0]\n:f2b - [0:0]\n{rules}\nCOMMIT\n"
        );
        ends(&iptables::read(&text), &packet(Hook::Input, interface, UDP, port))
    };
    assert_eq!(ends("", "eth1", 69), "-", "nat drops nothing that is ours");
    assert_eq!(ends("-A INPUT ! -i eth0 -j DROP", "eth1", 69), "D");
    assert_eq!(ends("-A INPUT -i eth+ -p 17 -j DROP", "eth1", 69), "D");
    assert_eq!(ends("-A INPUT -p tcp -j DROP", "eth1", 69), "-");
    assert_eq!(ends("-A INPUT -s 10.54.0.0/255.255.0.0 ! -d 10.54.0.1/32 -j DROP", "eth1", 69), "-");
    assert_eq!(ends("-A INPUT -s 10.54.0.0/16 -d 10.54.0.1/32 -m comment --comment \"no -j ACCEPT \\\" here\" -j REJECT", "eth1", 69), "R");
    assert_eq!(ends("-A INPUT -p udp -m udp ! --dport 60:70 -j DROP", "eth1", 69), "-");
    assert_eq!(
        ends(
            "-A INPUT -j LOG --log-prefix \"x\"\n-A INPUT -j boot\n-A INPUT -j DROP\n-A boot -p udp -m udp --dport 69 -j ACCEPT",
            "eth1",
            69
        ),
        "-"
    );
    assert_eq!(ends("-A INPUT -g boot\n-A INPUT -j ACCEPT\n-A boot -p udp -m udp --dport 69 -j RETURN\n-A boot -j DROP", "eth1", 69), "-");
    assert_eq!(ends("-A INPUT -m hashlimit --hashlimit-above 5/sec -j DROP", "eth1", 69), "d");
    assert_eq!(ends("-A INPUT -j f2b\n-A f2b -m set --match-set bad src -j REJECT\n-A f2b -j RETURN", "eth1", 69), "r");
    assert_eq!(ends("-A INPUT -m addrtype --dst-type LOCAL -m state --state NEW -j REJECT", "eth1", 69), "R");
    assert_eq!(ends("-A INPUT -m set --match-set good src -j ACCEPT\n-A INPUT -j DROP", "eth1", 69), "d", "who is good is not known");
    // Chains that lead into each other come to an end.
    assert_eq!(ends("-A INPUT -j boot\n-A boot -j f2b\n-A f2b -j boot", "eth1", 69), "-");
}

/// firewalld of a RHEL 9, its zones cut down to one.
#[test]
fn a_ruleset_of_firewalld() {
    let rule = |chain: &str, expr: &str| {
        format!("{{\"rule\":{{\"family\":\"inet\",\"table\":\"firewalld\",\"chain\":\"{chain}\",\"handle\":1,\"expr\":[{expr}]}}}}")
    };
    let chain = |name: &str, more: &str| {
        format!("{{\"chain\":{{\"family\":\"inet\",\"table\":\"firewalld\",\"name\":\"{name}\",\"handle\":1{more}}}}}")
    };
    let jump = |kind: &str, target: &str| format!("{{\"{kind}\":{{\"target\":\"{target}\"}}}}");
    let reject = "{\"reject\":{\"type\":\"icmpx\",\"expr\":\"admin-prohibited\"}}";
    let text = |allowed: &str| {
        let parts = [
            "{\"metainfo\":{\"version\":\"1.0.4\",\"json_schema_version\":1}}".to_string(),
            chain("filter_INPUT", ",\"type\":\"filter\",\"hook\":\"input\",\"prio\":10,\"policy\":\"accept\""),
            chain("filter_INPUT_ZONES", ""),
            chain("filter_IN_public", ""),
            chain("filter_IN_public_allow", ""),
            rule(
                "filter_INPUT",
                "{\"match\":{\"op\":\"in\",\"left\":{\"ct\":{\"key\":\"state\"}},\"right\":[\"established\",\"related\"]}},{\"accept\":null}",
            ),
            rule("filter_INPUT", "{\"match\":{\"op\":\"in\",\"left\":{\"ct\":{\"key\":\"status\"}},\"right\":\"dnat\"}},{\"accept\":null}"),
            rule(
                "filter_INPUT",
                "{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"key\":\"iifname\"}},\"right\":\"lo\"}},{\"accept\":null}",
            ),
            rule("filter_INPUT", "{\"match\":{\"op\":\"in\",\"left\":{\"ct\":{\"key\":\"state\"}},\"right\":\"invalid\"}},{\"drop\":null}"),
            rule("filter_INPUT", &jump("jump", "filter_INPUT_ZONES")),
            rule("filter_INPUT", reject),
            rule("filter_INPUT_ZONES", &jump("goto", "filter_IN_public")),
            rule("filter_IN_public", &jump("jump", "filter_IN_public_allow")),
            rule(
                "filter_IN_public",
                "{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"key\":\"l4proto\"}},\"right\":{\"set\":[\"icmp\",\"ipv6-icmp\"]}}},{\"accept\":null}",
            ),
            rule(
                "filter_IN_public_allow",
                "{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"tcp\",\"field\":\"dport\"}},\"right\":22}},{\"accept\":null}",
            ),
            rule(
                "filter_IN_public_allow",
                "{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"ip6\",\"field\":\"daddr\"}},\"right\":{\"prefix\":{\"addr\":\"fe80::\",\"len\":64}}}},{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"udp\",\"field\":\"dport\"}},\"right\":546}},{\"accept\":null}",
            ),
            allowed.to_string(),
        ];
        format!("{{\"nftables\":[{}]}}", parts.join(","))
    };
    let shut = nft(&text(&chain("unused", "")));
    assert_eq!(ends(&shut, &packet(Hook::Input, "eth1", UDP, 69)), "R");
    let service =
        "{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"udp\",\"field\":\"dport\"}},\"right\":69}},{\"accept\":null}";
    let open = nft(&text(&rule("filter_IN_public_allow", service)));
    assert_eq!(ends(&open, &packet(Hook::Input, "eth1", UDP, 69)), "-");
    assert_eq!(ends(&open, &packet(Hook::Input, "eth1", UDP, 20069)), "R", "the service tftp opens no port of the pool");
}

#[test]
fn devices_bits_and_what_is_not_understood() {
    let text = r#"{"nftables":[
        {"chain":{"family":"netdev","table":"t","name":"out","type":"filter","hook":"egress","prio":0,"policy":"accept","dev":["eth1"]}},
        {"rule":{"family":"netdev","table":"t","chain":"out","handle":1,"expr":[{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"sport"}},"right":69}},{"drop":null}]}},
        {"chain":{"family":"ip6","table":"t","name":"six","type":"filter","hook":"input","prio":0,"policy":"drop"}},
        {"chain":{"family":"ip","table":"t","name":"in","type":"filter","hook":"input","prio":0,"policy":"accept"}},
        {"rule":{"family":"ip","table":"t","chain":"in","handle":2,"expr":[{"match":{"op":"==","left":{"&":[{"payload":{"protocol":"tcp","field":"flags"}},"syn"]},"right":"syn"}},{"drop":null}]}},
        {"rule":{"family":"ip","table":"t","chain":"in","handle":3,"expr":[{"match":{"op":"==","left":{"concat":[{"meta":{"key":"iif"}},{"payload":{"protocol":"udp","field":"dport"}}]},"right":"@later"}},{"reject":null}]}}
    ]}"#;
    let rules = nft(text);
    assert_eq!(ends(&rules, &packet(Hook::Egress, "eth1", UDP, 69)), "D");
    assert_eq!(ends(&rules, &packet(Hook::Egress, "eth2", UDP, 69)), "-");
    assert_eq!(ends(&rules, &packet(Hook::Input, "eth1", UDP, 69)), "r", "a concatenation is not understood");
    assert!(nft::read("Error: JSON support not compiled-in").is_err() && nft::read("{}").is_err());
    assert_eq!(nft(r#"{"nftables":[]}"#).count(), 0);
}

fn config() -> Config {
    let link = LinkConfig::plain("eth1", 3, Mac([2, 0, 0, 0, 0, 1]), HEAD);
    let network = Network { lease: Duration::from_secs(600), ..Network::plain(Subnet::of(HEAD, 16), Some(0)) };
    Config::plain(AddressPlan::new([10, 54, 1, 0].into(), 16), vec![link], vec![network])
}

fn lines(rules: Ruleset, config: &Config) -> Vec<String> {
    let mut found = Diagnosis::default();
    judge(&FilterFacts { rules, unread: Vec::new(), seen: true }, config, &mut found);
    found.0.iter().map(|finding| finding.line()).collect()
}

/// A filter that drops what comes in is harmless: musterd hears before it. One that rejects is not, nor is one that keeps windows from leaving.
#[test]
fn what_does_harm_and_what_does_not() {
    let rules = |input: &str, output: &str| iptables::read(&format!("*filter\n:INPUT {input} [0:0]\n:OUTPUT {output} [0:0]\n"));
    assert_eq!(lines(rules("ACCEPT", "ACCEPT"), &config()), ["fine   firewall: there are no rules"]);
    assert_eq!(lines(rules("DROP", "ACCEPT"), &config()), ["fine   firewall: there are no rules"]);
    let out = lines(rules("ACCEPT", "DROP"), &config());
    assert!(out[0].starts_with("broken firewall eth1: drops files on their way out (ports 20069 to 20084)"), "{out:?}");
    let reject = iptables::read("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p udp -m udp --dport 69 -j REJECT\n");
    let told = lines(reject, &config());
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("broken firewall eth1: rejects requests for files (port 69): the kernel answers with ICMP"), "{told:?}");
    assert!(told[0].contains("-A INPUT -p udp -m udp --dport 69 -j REJECT"), "{told:?}");
    let mut named = config();
    named.dns.enabled = true;
    let told = lines(rules("DROP", "ACCEPT"), &named);
    assert!(told.iter().all(|line| line.starts_with("look   firewall eth1: drops questions for names")) && told.len() == 2, "{told:?}");
}

#[test]
fn what_cannot_be_seen_is_said() {
    let mut found = Diagnosis::default();
    judge(
        &FilterFacts { rules: Ruleset::default(), unread: vec!["nft: Operation not permitted".into()], seen: false },
        &config(),
        &mut found,
    );
    assert_eq!(found.worst(), Severity::Look);
    assert!(found.0[0].what.contains("could not look: nft: Operation not permitted"));
}
