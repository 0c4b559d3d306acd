//! The room as a whole: bad files and their errors word for word, good ones and what follows from them.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::base::addr::Mac;
use crate::base::facts::LinkFacts;
use crate::roll::kind::Arch;
use crate::roll::plan::Number;

mod manual;

struct Plain {
    links: Vec<LinkFacts>,
    files: &'static [&'static str],
}

impl System for Plain {
    fn links(&self) -> &[LinkFacts] {
        &self.links
    }

    fn exists(&self, root: &Path, name: &str) -> bool {
        root == Path::new("/srv/tftp") && self.files.contains(&name)
    }
}

fn link(index: u32, name: &str, addresses: &[(&str, u8)]) -> LinkFacts {
    LinkFacts {
        rate: Some(1_000_000_000),
        addresses: addresses.iter().map(|(address, prefix)| (address.parse().unwrap(), *prefix)).collect(),
        ..LinkFacts::ethernet(name, index, Mac([2, 0, 0, 0, 0, index as u8]))
    }
}

/// lo, eth0 with the default route, eth1 with 10.54.0.1/16, eth2 with two addresses, eth3 with none, tun0 with a /30.
fn world() -> Plain {
    let mut lo = link(1, "lo", &[("127.0.0.1", 8)]);
    lo.loopback = true;
    let mut eth0 = link(2, "eth0", &[("192.0.2.9", 24)]);
    (eth0.default_route, eth0.gateway) = (true, Some("192.0.2.1".parse().unwrap()));
    let eth1 = link(3, "eth1", &[("10.54.0.1", 16)]);
    let eth2 = link(4, "eth2", &[("10.60.0.1", 24), ("10.61.0.1", 24)]);
    let links = vec![lo, eth0, eth1, eth2, link(5, "eth3", &[]), link(6, "tun0", &[("10.9.0.1", 30)])];
    Plain { links, files: &["undionly.kpxe", "snponly.efi", "vmlinuz", "initrd.img"] }
}

fn flags(interfaces: &[&str]) -> Flags {
    Flags { interfaces: interfaces.iter().map(ToString::to_string).collect(), ..Flags::default() }
}

fn with(text: &str, flags: &Flags) -> Result<Resolved, Vec<String>> {
    let source = ConfigText { path: "m.toml", text };
    resolve(Some(source), flags, &world()).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn good(text: &str) -> Config {
    with(text, &Flags::default()).unwrap().config
}

/// The errors of a file that is given eth1 unless it has networks itself.
fn errors(text: &str) -> Vec<String> {
    let flags = if text.contains("[[network]]") { Flags::default() } else { flags(&["eth1"]) };
    with(text, &flags).err().unwrap_or_default()
}

const FULL: &str = r#"
[cluster]
name = "big"
node0 = "10.54.1.0"
nodes = 512
guests = "10.54.250.0-10.54.253.255"
numbering = "locked"
new-numbers = 60

[[network]]
interface = "eth1"
router = "10.54.0.254"
dns = ["10.54.0.1", "10.54.0.2"]
ntp = "10.54.0.1"
domain = "big.example"
lease = "6h"
link-rate = "2.5G"
queue-delay = "5ms"
options = { 66 = "10.54.0.1", 150 = "10.54.0.1", 26 = { u16 = 9000 }, 43 = [1, 2, 255], 176 = "say \"hi\" \\o/" }

[[network]]
interface = "eth2"
head = "10.61.0.1"
guests = "none"

[[network]]
subnet = "10.55.0.0/16"
guests = "10.55.250.0-10.55.253.255"
guest-lease = 300

[[segment]]
nodes = "200-399"
first = "10.55.1.0"

[[node]]
number = 17
macs = ["52:54:00:12:34:56", "52-54-00-12-34-57"]

[[node]]
number = 3
macs = "52:54:00:12:34:58"

[boot]
root = "/srv/tftp"
program = { bios = "lpxelinux.0", http-x64 = "http://10.54.0.1/ipxe.efi" }
kernel = "k/vmlinuz-6.12"
initrd = ["k/initrd.img", "k/extra.img"]
args = "console=ttyS0 muster.node={node} ip={ip}"

[[for]]
nodes = "0-31,40"
args = "console=ttyS0 role=storage"
lease = "1d"

[[for]]
nodes = "0-31,40"
script = "storage.ipxe"
program = { efi-x64 = "grubx64.efi", bios = "grub.0" }
initrd = []
options = { 12345 = "x" }

[tftp]
ports = "20000-20003"
windowsize = 4
give-up = "1m"

[dhcp]
authoritative = true
lease = "1d"

[dns]
listen = "127.0.0.1"
upstream = ["192.0.2.1", "192.0.2.2"]
transfer = ["10.54.0.2"]

[server]
capacity = 2048
run-dir = "/run/m"
router-adverts = false
"#;

fn full() -> String {
    FULL.replace("options = { 12345 = \"x\" }", "options = { 44 = \"10.54.0.5\" }")
}

#[test]
fn every_bad_file_has_its_sentence() {
    let (_, table) = include_str!("tests/errors.txt").split_once("\n\n").unwrap();
    let cases: Vec<&str> = table.split("\n\n").filter(|case| !case.trim().is_empty()).collect();
    assert!(cases.len() > 50);
    for case in cases {
        let (text, expected) = case.split_once("\n=>\n").unwrap();
        assert_eq!(errors(text).join("\n"), expected.trim_end(), "\n{text}\n");
    }
}

#[test]
fn zero_config_derives_everything() {
    let Resolved { config, notes } = resolve(None, &flags(&["eth1"]), &world()).unwrap();
    assert_eq!(
        notes,
        [
            "eth1: network 10.54.0.0/16, head 10.54.0.1",
            "eth1: guests 10.54.250.0-10.54.253.255 (1024, from the interface)",
            "eth1: nodes 10.54.1.0-10.54.4.255 (n0 to n1023)",
            "root /srv/tftp",
            "bios boots undionly.kpxe (found in /srv/tftp)",
            "efi-x64 boots snponly.efi (found in /srv/tftp)",
            "kernel vmlinuz (found in /srv/tftp)",
            "initrd initrd.img (found in /srv/tftp)",
        ]
    );
    assert_eq!(
        (config.plan.nodes(), config.server.capacity, config.tftp.windowsize, config.tftp.ports),
        (1024, 4096, 16, (20_069, 20_084))
    );
    assert_eq!((config.plan.names().domain(), config.dhcp.authoritative, config.server.router_adverts), ("cluster", false, true));
    let link = &config.links[0];
    assert_eq!((link.index, link.head, link.rate), (3, "10.54.0.1".parse().unwrap(), Some(1_000_000_000)));
    assert_eq!(config.networks[0].guest_lease, Duration::from_secs(600));
}

#[test]
fn refusals_without_a_file_name_the_candidates() {
    let error = |interfaces: &[&str]| resolve(None, &flags(interfaces), &world()).unwrap_err()[0].to_string();
    let has = "this machine has eth1 (10.54.0.1/16), eth2 (10.60.0.1/24) and tun0 (10.9.0.1/30)";
    assert_eq!(error(&[]), format!("boot interface: none chosen: give -i IF, or [[network]] with interface = \"IF\"; {has}"));
    assert_eq!(error(&["eth9"]), format!("-i: there is no interface \"eth9\": {has}"));
    let mut bare = world();
    bare.links.truncate(2);
    let error = resolve(None, &Flags::default(), &bare).unwrap_err()[0].to_string();
    assert!(error.ends_with("this machine has eth0 (192.0.2.9/24), which has the default route"), "{error}");
    bare.links.clear();
    let error = resolve(None, &Flags::default(), &bare).unwrap_err()[0].to_string();
    assert!(error.ends_with("give one to the boot interface (ip address add 10.54.0.1/16 dev IF)"), "{error}");
}

#[test]
fn gateways_become_routers_and_are_left_out_of_pools() {
    let Resolved { config, notes } = resolve(None, &flags(&["eth0"]), &world()).unwrap();
    assert_eq!(config.networks[0].routers, ["192.0.2.1".parse::<Ipv4Addr>().unwrap()]);
    assert!(notes.contains(&"eth0: router 192.0.2.1 (the interface's gateway)".to_string()));
    let source = ConfigText { path: "f", text: "[[network]]\ninterface = \"eth0\"\nrouter = []" };
    assert_eq!(resolve(Some(source), &Flags::default(), &world()).unwrap().config.networks[0].routers.len(), 0);
}

#[test]
fn flags_win_over_the_file() {
    let file = "[boot]\nroot = \"/a\"\n[server]\nrun-dir = \"/b\"\n[[network]]\ninterface = \"eth1\"\n[[network]]\ninterface = \"eth2\"\nlease = \"1h\"";
    let all = Flags {
        interfaces: vec!["eth2".into(), "eth0".into(), "eth2".into()],
        root: Some("/c".into()),
        run_dir: Some("/d".into()),
        state_dir: Some("/e".into()),
        user: Some("boots".into()),
    };
    let Resolved { config, notes } = with(file, &all).unwrap();
    let names: Vec<&str> = config.links.iter().map(|link| link.interface.as_str()).collect();
    assert_eq!((names, config.networks.len()), (vec!["eth2", "eth0"], 2));
    assert_eq!((config.networks[0].lease, config.networks[1].lease), (Duration::from_secs(3600), Duration::from_secs(12 * 3600)));
    assert_eq!((config.boot.root, config.server.run_dir, config.server.user.as_str()), ("/c".into(), "/d".into(), "boots"));
    assert!(with(file, &Flags { user: Some("-x".into()), ..Flags::default() }).is_err());
    assert!(notes.contains(&"eth1: left out, as -i names other interfaces".to_string()), "{notes:?}");
}

#[test]
fn a_full_file_means_what_it_says() {
    let config = good(&full());
    assert_eq!((config.numbering, config.new_numbers), (Numbering::Locked, 60));
    assert_eq!(config.networks[0].guests.unwrap().to_string(), "10.54.250.0-10.54.253.255");
    assert_eq!(config.networks[0].routers, ["10.54.0.254".parse::<Ipv4Addr>().unwrap()]);
    assert_eq!((config.links[0].rate, config.links[1].head), (Some(2_500_000_000), "10.61.0.1".parse().unwrap()));
    let codes: Vec<u8> = config.networks[0].options.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, [26, 43, 66, 150, 176]);
    assert_eq!((config.networks[1].guests, config.networks[1].lease), (None, Duration::from_secs(86_400)));
    assert_eq!((config.networks[2].link, config.networks[2].guest_lease), (None, Duration::from_secs(300)));
    assert_eq!(config.nodes.iter().map(|node| (node.number.0, node.macs.len())).collect::<Vec<_>>(), [(3, 1), (17, 2)]);
    assert_eq!(config.boot.program[0], (Arch::Bios, "lpxelinux.0".to_string()));
    assert_eq!(config.boot.program[1], (Arch::EfiX64, "snponly.efi".to_string()));
    assert_eq!(config.overrides[0].nodes, [(Number(0), Number(31)), (Number(40), Number(40))]);
    assert_eq!(config.overrides[1].initrd, Some(Vec::new()));
    let address = |text: &str| text.parse::<Ipv4Addr>().unwrap();
    assert_eq!((config.dns.enabled, config.dns.upstream), (true, vec![address("192.0.2.1"), address("192.0.2.2")]));
    assert_eq!((config.dns.listen, config.dns.transfer), (vec![address("127.0.0.1")], vec![address("10.54.0.2")]));
}

#[test]
fn nodes_are_told_of_this_server_where_it_knows_everything() {
    let told = |dns: &str, network: &str| {
        let text = format!("[[network]]\ninterface = \"eth1\"\n{network}\n[[network]]\nsubnet = \"10.55.0.0/16\"\n[dns]\n{dns}");
        let Resolved { config, notes } = with(&text, &Flags::default()).unwrap();
        let said = notes.contains(&"eth1: name server 10.54.0.1 (this one, as [dns] has an upstream)".to_string());
        let shown = |network: &Network| network.dns.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        (shown(&config.networks[0]), shown(&config.networks[1]), said)
    };
    let none = (String::new(), String::new(), false);
    assert_eq!(told("", ""), none);
    assert_eq!(told("enabled = false\nupstream = \"192.0.2.1\"", ""), none);
    assert_eq!(told("upstream = \"192.0.2.1\"", "dns = []"), none);
    assert_eq!(told("upstream = \"192.0.2.1\"", "dns = \"192.0.2.7\""), ("192.0.2.7".into(), String::new(), false));
    assert_eq!(told("upstream = \"192.0.2.1\"", ""), ("10.54.0.1".into(), String::new(), true));
}

/// Where this is the name server n23 is looked for in the cluster's domain; else it would not be found.
#[test]
fn nodes_are_told_the_domain_with_the_name_server() {
    let told = |dns: &str, network: &str| {
        let text = format!("[cluster]\nname = \"hpc.example\"\n[[network]]\ninterface = \"eth1\"\n{network}\n[dns]\n{dns}");
        with(&text, &Flags::default()).unwrap().config.networks[0].domain.clone().unwrap_or_default()
    };
    assert_eq!(told("upstream = \"192.0.2.1\"", ""), "hpc.example");
    assert_eq!(told("upstream = \"192.0.2.1\"", "domain = \"other.example\""), "other.example");
    assert_eq!(told("upstream = \"192.0.2.1\"", "dns = \"192.0.2.7\""), "");
    assert_eq!(told("", ""), "");
}

/// A config whose listing is its file: there, the addresses and rates of links are set.
fn written_out(mut config: Config) -> Config {
    for link in &mut config.links {
        (link.head_is_set, link.rate_is_set) = (true, link.rate.is_some_and(|rate| super::value::RATES.contains(&rate)));
    }
    config
}

#[test]
fn the_effective_config_reads_back_equal() {
    let mut configs = vec![good(&full()), good("[[network]]\ninterface = \"eth2\"\n[cluster]\nguests = \"none\"")];
    for interface in ["eth0", "eth1", "eth2"] {
        configs.push(resolve(None, &flags(&[interface]), &world()).unwrap().config);
    }
    for config in configs {
        let text = config.listing.to_string();
        assert_eq!(good(&text), written_out(config.clone()), "\n{text}");
        assert_eq!(good(&text).listing.to_string(), text);
        assert_eq!(good(&text).listing.difference(&config.listing), Vec::<String>::new());
    }
}

#[test]
fn a_difference_is_told_in_lines() {
    let old = good(&full());
    let changed = full()
        .replace("windowsize = 4", "windowsize = 8")
        .replace("number = 3", "number = 4")
        .replace("domain = \"big.example\"\n", "")
        .replace("\"20000-20003\"", "20000")
        .replace("role=storage", "role=login");
    let new = good(&changed);
    assert_eq!(
        old.listing.difference(&new.listing),
        [
            "network eth1: domain \"big.example\" -> not set",
            "node n3: gone (number = 3, macs = [\"52:54:00:12:34:58\"])",
            "for nodes 0-31,40: args \"console=ttyS0 role=storage\" -> \"console=ttyS0 role=login\"",
            "[tftp]: ports \"20000-20003\" -> \"20000-20000\"",
            "[tftp]: windowsize 4 -> 8",
            "node n4: new (number = 4, macs = [\"52:54:00:12:34:58\"])",
        ]
    );
    assert_eq!(old.needs_restart(&new), ["[tftp] ports \"20000-20003\" -> \"20000-20000\""]);
    assert_eq!(old.needs_restart(&old), Vec::<String>::new());
    let without = good(&full().replace("upstream = [\"192.0.2.1\", \"192.0.2.2\"]\n", "").replace("listen = \"127.0.0.1\"\n", ""));
    assert_eq!(old.needs_restart(&without), ["[dns] listen [\"127.0.0.1\"] -> []", "[dns] upstream [\"192.0.2.1\", \"192.0.2.2\"] -> []"]);
}

/// Lines that look like a config, good and bad, in any order.
fn toml_like() -> impl Strategy<Value = String> {
    const HEADERS: &str = "[cluster] [[network]] [[segment]] [[node]] [boot] [[for]] [tftp] [dhcp] [dns] [server] [ [[x.y]] [boot.program]";
    const KEYS: &str = "
        name prefix digits first node0 nodes guests numbering new-numbers interface subnet head router dns ntp domain lease guest-lease link-rate queue-delay
        options number macs root program script kernel initrd args ports windowsize give-up authoritative capacity
        run-dir user allow router-adverts enabled listen upstream forward-unknown transfer bios 66 x";
    const VALUES: &str = r#"
        "eth1" ~ "eth2" ~ "10.54.0.0/16" ~ "10.54.0.7" ~ "10.54.9.0-10.54.9.9" ~ "0.0.0.0-255.255.255.255" ~
        "255.255.255.255" ~ "0.0.0.0/0" ~ "none" ~ 0 ~ 1 ~ 17 ~ 65536 ~ -1 ~ 99999999999999999999999 ~ "12h" ~ "1G" ~
        "02:00:00:00:00:01" ~ "0-31,40" ~ "20069-20084" ~ "1-65535" ~ { bios = "x" } ~ { 66 = "x", 43 = [1, 2] } ~
        { 0 = 1, 300 = {} } ~ [] ~ [1, "x", [2]] ~ true ~ 1.5 ~ " ~ 1979-05-27 ~ "" ~ "/srv" ~ "ä{node}" ~ { u8 = 1 } ~
        nan ~ '''x ~ "/../" ~ ["10.54.0.1", "10.54.0.2"]"#;
    let words = |text: &'static str| prop::sample::select(text.split_whitespace().collect::<Vec<_>>());
    let values = prop::sample::select(VALUES.split('~').map(str::trim).collect::<Vec<_>>());
    let line = prop_oneof![
        3 => words(HEADERS).prop_map(str::to_string),
        9 => (words(KEYS), values).prop_map(|(key, value)| format!("{key} = {value}")),
        1 => "\\PC{0,20}",
    ];
    prop::collection::vec(line, 0..16).prop_map(|lines| lines.join("\n"))
}

/// A good config with one line of it put elsewhere, doubled, or cut short.
fn mutated() -> impl Strategy<Value = String> {
    (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..4u8).prop_map(|(from, to, what)| {
        let text = full();
        let mut lines: Vec<&str> = text.lines().collect();
        let line = lines[from.index(lines.len())];
        match what {
            0 => lines.insert(to.index(lines.len()), line),
            1 => drop(lines.remove(from.index(lines.len()))),
            2 => lines[from.index(text.lines().count())] = line.get(..to.index(line.len() + 1)).unwrap_or(line),
            _ => lines.truncate(to.index(lines.len())),
        }
        lines.join("\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in prop_oneof![toml_like(), mutated(), "\\PC{0,200}"]) {
        match with(&text, &flags(&["eth1"])).and_then(|_| with(&text, &Flags::default())) {
            Ok(resolved) => {
                let config = resolved.config;
                prop_assert_eq!(good(&config.listing.to_string()), written_out(config));
            }
            Err(errors) => prop_assert!(!errors.is_empty() && errors.iter().all(|error| !error.contains('\n'))),
        }
    }
}

/// The example parses as it is, and with everything in it that is commented out.
#[test]
fn the_example_is_good() {
    let example = include_str!("../../packaging/muster.toml.example");
    let plain = good(example);
    assert_eq!(plain.plan, resolve(None, &flags(&["eth1"]), &world()).unwrap().config.plan);
    let uncommented = |line: &str| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(" ") => rest.to_string(),
        _ => line.to_string(),
    };
    let full: Vec<String> = example.lines().map(uncommented).collect();
    let config = good(&full.join("\n"));
    assert_eq!((config.networks.len(), config.nodes.len(), config.overrides.len()), (2, 1, 1));
    // What is commented out shows the defaults, where there are some.
    assert_eq!(
        (config.plan.pieces()[0], config.plan.names(), config.networks[0].guests, config.networks[0].lease),
        (plain.plan.pieces()[0], plain.plan.names(), plain.networks[0].guests, plain.networks[0].lease)
    );
    assert_eq!((config.tftp, config.server.capacity, config.server.run_dir), (plain.tftp, plain.server.capacity, plain.server.run_dir));
}

#[test]
fn sections_that_cannot_win_are_told() {
    let told = |text: &str| {
        let notes = with(&format!("[[network]]\ninterface = \"eth1\"\n{text}"), &Flags::default()).unwrap().notes;
        notes.into_iter().filter(|line| line.starts_with("m.toml")).collect::<Vec<_>>()
    };
    let section = |nodes: &str, keys: &str| format!("[[for]]\nnodes = \"{nodes}\"\n{keys}\n");
    let lost = "has no effect, as later sections (line 9) set the same keys for all its nodes: move it below";
    let first = section("3-9", "args = \"a\"");
    // The last section begins at line 9.
    let last = |nodes: &str, keys: &str| section("40-49", "args = \"x\"") + &section(nodes, keys);
    assert_eq!(told(&(first.clone() + &last("0-31", "args = \"b\"\nlease = \"1h\""))), [format!("m.toml:3:1: [[for]] nodes 3-9: {lost}")]);
    for (nodes, keys) in [("0-8", "args = \"b\""), ("0-31", "kernel = \"b\""), ("4-31", "args = \"b\"")] {
        let told = told(&(first.clone() + &last(nodes, keys)));
        assert_eq!(told.iter().filter(|line| line.contains("3-9")).count(), 0, "{nodes} {keys}: {told:?}");
    }
    let both =
        section("0-31", "args = \"a\"\noptions = { 66 = \"x\" }") + &section("0-15", "args = \"b\"") + &section("16-31", "args = \"c\"");
    assert_eq!(told(&both), [""; 0], "option 66 is nobody else's");
    let parts = section("0-31", "args = \"a\"") + &section("0-15", "args = \"b\"") + &section("16-31", "args = \"c\"");
    assert_eq!(told(&parts).len(), 1, "the other two share its nodes");
    assert_eq!(told(&section("0-31", "")), ["m.toml:3:1: [[for]] nodes 0-31: sets nothing"]);
}

#[test]
fn what_pxelinux_will_not_take_is_told() {
    let args = |bytes: usize| {
        format!("[[network]]\ninterface = \"eth1\"\n[boot]\nkernel = \"vmlinuz\"\ninitrd = \"a\"\nargs = \"{}\"\n", "x".repeat(bytes))
    };
    let told = |text: &str| with(text, &Flags::default()).unwrap().notes.into_iter().filter(|line| line.contains("pxelinux reads")).count();
    // 2,040 bytes: "::vmlinuz initrd=::a " and the arguments.
    assert_eq!((told(&args(2019)), told(&args(2020))), (0, 1));
    let special = format!("{}[[for]]\nnodes = 3\nkernel = \"vmlinuz-6\"\n", args(2018));
    assert_eq!(told(&special), 1);
    let quotes = format!("[boot]\nkernel = \"vmlinuz\"\nargs = \"{}\"", "'".repeat(1100));
    assert_eq!(errors(&quotes), ["m.toml:3:8: args: kernel, initrd and args are too long for one script: use a script file"]);
}
