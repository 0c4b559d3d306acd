//! Real DHCP clients get their addresses: busybox udhcpc, ISC dhclient and dhcpcd, each in a namespace of its own.

mod common;

use std::path::PathBuf;
use std::process::Child;

use common::musterd::Musterd;
use common::{Host, Lab, Outcome, image, stop, text, wait, write};
use nix::sys::signal::{Signal, kill};

const SERVER: &str = "10.54.0.1/16";

/// What the clients call with a lease, so that none of them touches this machine's own settings. It sets the address and notes it, one
/// line each: the event and the address.
const HOOK: &str = r#"#!/bin/sh
event=${reason:-$1}
address=${new_ip_address:-$ip}
mask=${new_subnet_mask:-${subnet:-255.255.0.0}}
case $event in
bound | renew | BOUND | RENEW | REBIND | REBOOT)
    if [ -z "$NO_ADDRESS" ]; then
        ip address replace "$address/$mask" dev "$interface"
    fi
    echo "$event $address" >>"${0%/*}/events"
    ;;
deconfig | PREINIT)
    ip link set "$interface" up
    ;;
RELEASE | STOP | EXPIRE)
    ip address flush dev "$interface"
    echo "$event" >>"${0%/*}/events"
    ;;
esac
exit 0
"#;

/// A host with a DHCP client, and its own folder for the hook and what the client remembers.
struct Client {
    host: Host,
    dir: PathBuf,
}

impl Client {
    fn new(lab: &Lab, host: Host, name: &str) -> Self {
        let dir = lab.dir().join(name);
        std::fs::create_dir(&dir).expect("a folder for the client");
        let hook = dir.join("hook");
        write(&hook, HOOK.as_bytes());
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&hook, mode).expect("make the hook executable");
        Self { host, dir }
    }

    fn attached(lab: &mut Lab, name: &str) -> Self {
        let host = lab.attach(name);
        Self::new(lab, host, name)
    }

    /// The addresses of the leases so far, in order.
    fn leased(&self) -> Vec<String> {
        let events = text(&self.dir.join("events"));
        events.lines().filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned).collect()
    }

    /// Waits for lease number `count`, counted from 1, and gives its address.
    fn lease(&self, count: usize) -> String {
        let lease = wait(30, || self.leased().get(count - 1).cloned());
        lease.unwrap_or_else(|| panic!("lease {count} did not come: {:?}", self.leased()))
    }

    /// udhcpc, once: it gets an address, keeps it, and leaves.
    fn udhcpc(&self, options: &str) -> Outcome {
        let (busybox, hook) = (image().join("busybox"), self.dir.join("hook"));
        self.host.script(60, &format!("{} udhcpc -i eth0 -s {} -f -n -q -t 10 -T 1 {options}", busybox.display(), hook.display()))
    }

    /// udhcpc, which stays: USR1 makes it renew, USR2 release, TERM leave.
    fn udhcpc_running(&self) -> Child {
        let mut command = self.host.command(image().join("busybox").to_str().expect("a path of text"));
        command.args(["udhcpc", "-i", "eth0", "-f", "-t", "20", "-T", "1", "-s"]).arg(self.dir.join("hook"));
        let log = std::fs::File::create(self.dir.join("udhcpc.log")).expect("a log file");
        command.stdout(log.try_clone().expect("a second handle")).stderr(log).spawn().expect("start udhcpc")
    }

    fn dhclient(&self, options: &str) -> Outcome {
        let dir = self.dir.display();
        let files = format!("-sf {dir}/hook -lf {dir}/dhclient.leases -pf {dir}/dhclient.pid -cf /dev/null");
        self.host.script(60, &format!("exec dhclient -v {files} {options} eth0"))
    }

    /// dhcpcd looks into folders of the host: it gets the client's own in their place.
    fn dhcpcd(&self, options: &str) -> Outcome {
        let dir = self.dir.display();
        write(&self.dir.join("dhcpcd.conf"), b"duid\nipv4only\nnoarp\nreboot 5\nenv NO_ADDRESS=1\nnohook resolv.conf, hostname\n");
        let script = format!(
            "for folder in /var/lib/dhcpcd /run/dhcpcd; do
                 mkdir -p {dir}$folder $folder
                 mount --bind {dir}$folder $folder
             done
             exec dhcpcd -f {dir}/dhcpcd.conf -c {dir}/hook {options} eth0"
        );
        self.host.script(60, &script)
    }
}

/// A server without a config, its boot folder, and a lab around them.
fn server() -> (Lab, Host, Musterd) {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let musterd = Musterd::plain(&server, lab.dir());
    (lab, server, musterd)
}

/// A permanent entry keeps machines that are deaf for ARP while they boot, and a lease's end removes it.
fn assert_neighbour(server: &Host, address: &str, client: &Host) {
    let found = wait(5, || {
        let entry = server.neighbour(address);
        (entry.contains("PERMANENT") && entry.contains(&client.mac("eth0"))).then_some(())
    });
    assert!(found.is_some(), "no permanent neighbour entry for {address}: {:?}", server.neighbour(address));
}

fn assert_no_neighbour(server: &Host, address: &str) {
    let gone = wait(5, || (!server.neighbour(address).contains("PERMANENT")).then_some(()));
    assert!(gone.is_some(), "the neighbour entry outlived its lease: {}", server.neighbour(address));
}

#[test]
fn udhcpc_gets_renews_and_releases_an_address() {
    let (mut lab, server, musterd) = server();
    let client = Client::attached(&mut lab, "udhcpc");
    let mut udhcpc = client.udhcpc_running();
    let address = client.lease(1);
    assert_neighbour(&server, &address, &client.host);
    kill(common::pid(&udhcpc), Signal::SIGUSR1).expect("udhcpc runs");
    assert_eq!(client.lease(2), address, "renewed");
    kill(common::pid(&udhcpc), Signal::SIGUSR2).expect("udhcpc runs");
    assert_no_neighbour(&server, &address);
    stop(&mut udhcpc, Signal::SIGTERM);
    let log = text(&client.dir.join("udhcpc.log"));
    assert!(log.contains("renew") && log.contains("releas"), "{log}");
    drop(musterd);
}

#[test]
fn dhclient_gets_an_address_confirms_it_after_a_reboot_and_releases_it() {
    let (mut lab, server, _musterd) = server();
    let client = Client::attached(&mut lab, "dhclient");
    client.dhclient("-1").must("dhclient's first lease");
    let address = client.lease(1);
    assert_neighbour(&server, &address, &client.host);
    // Without a release: as after a reboot, it asks for what it remembers (INIT-REBOOT).
    client.dhclient("-x").must("stop dhclient");
    let output = client.dhclient("-1").must("dhclient again");
    assert_eq!(client.lease(2), address, "{output}");
    assert!(!output.contains("DHCPDISCOVER"), "it was to confirm the lease it knows:\n{output}");
    client.dhclient("-r").must("release");
    assert_no_neighbour(&server, &address);
}

#[test]
fn dhcpcd_gets_renews_and_releases_an_address() {
    let (mut lab, server, _musterd) = server();
    let client = Client::attached(&mut lab, "dhcpcd");
    client.dhcpcd("-t 30 -w").must("dhcpcd's first lease");
    let address = client.lease(1);
    assert_neighbour(&server, &address, &client.host);
    client.dhcpcd("-N").must("renew");
    assert_eq!(client.lease(2), address, "renewed");
    client.dhcpcd("-k").must("release");
    assert_no_neighbour(&server, &address);
}

#[test]
fn the_mac_is_the_identity_whatever_client_id_is_sent() {
    let (mut lab, _server, _musterd) = server();
    let client = Client::attached(&mut lab, "client");
    client.udhcpc("").must("udhcpc with its own client-id");
    client.udhcpc("-C").must("udhcpc without a client-id");
    client.udhcpc("-x 0x3d:00010203040506070809").must("udhcpc with another client-id");
    client.dhclient("-1").must("dhclient");
    client.dhclient("-x").must("stop dhclient");
    client.dhcpcd("-t 30 -w").must("dhcpcd with a DUID");
    client.dhcpcd("-x").must("stop dhcpcd");
    let first = client.lease(1);
    assert_eq!(client.leased(), vec![first; 5]);
}

#[test]
fn different_machines_get_different_addresses_and_a_machine_that_comes_back_its_own() {
    let (mut lab, _server, _musterd) = server();
    let clients: Vec<Client> = ["one", "two", "three"].iter().map(|name| Client::attached(&mut lab, name)).collect();
    let get = |client: &Client| {
        client.udhcpc("").must("udhcpc");
        client.leased().pop().expect("a lease")
    };
    let first: Vec<String> = clients.iter().map(get).collect();
    let again: Vec<String> = clients.iter().rev().map(get).collect();
    assert_eq!(first.iter().rev().collect::<Vec<_>>(), again.iter().collect::<Vec<_>>());
    let mut unique = first.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), clients.len(), "{first:?}");
}

#[test]
fn an_address_that_somebody_took_by_hand_is_not_given_away() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let config = "[cluster]\nnode0 = \"10.54.1.0\"\nnodes = 16\nguests = \"10.54.250.0-10.54.250.3\"\n";
    let _musterd = Musterd::configured(&server, lab.dir(), config);
    let squatter = lab.attach("squatter");
    for last in [0, 1, 3] {
        squatter.ip(&format!("address add 10.54.250.{last}/16 dev eth0"));
    }
    let client = Client::attached(&mut lab, "client");
    client.udhcpc("-a").must("udhcpc, which looks for others with its address as well");
    assert_eq!(client.leased(), ["10.54.250.2"]);
}

#[test]
fn a_client_behind_a_relay_agent_gets_an_address_of_its_own_network() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    write(&lab.dir().join("hello"), b"through the relay\n");
    let config = "[[network]]\nsubnet = \"10.55.0.0/16\"\nguests = \"10.55.250.0-10.55.253.255\"\n";
    let _musterd = Musterd::configured(&server, lab.dir(), config);
    let relay = lab.attach("relay");
    let client = lab.host("client");
    common::wire(&relay, "eth1", &client, "eth0");
    relay.ip("address add 10.54.0.2/16 dev eth0");
    relay.ip("address add 10.55.0.1/16 dev eth1");
    relay.script(5, "echo 1 >/proc/sys/net/ipv4/ip_forward").must("forward");
    server.ip("route add 10.55.0.0/16 via 10.54.0.2");
    let mut command = relay.command("dnsmasq");
    command.args(["-k", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file=", "--log-facility=-"]);
    command.args(["--dhcp-relay=10.55.0.1,10.54.0.1", "--interface=eth1"]);
    let log = std::fs::File::create(lab.dir().join("relay.log")).expect("a log file");
    let mut agent = command.stderr(log).spawn().expect("start a relay agent");

    let client = Client::new(&lab, client, "behind-the-relay");
    let mut udhcpc = client.udhcpc_running();
    let address = client.lease(1);
    assert!(address.starts_with("10.55.25"), "{address}");
    client.host.ip("route add default via 10.55.0.1");
    kill(common::pid(&udhcpc), Signal::SIGUSR1).expect("udhcpc runs");
    assert_eq!(client.lease(2), address, "renewed by unicast, through the router");
    let fetch = format!("{} tftp -g -r hello -l - 10.54.0.1", image().join("busybox").display());
    let output = client.host.script(20, &fetch).must("tftp from a relayed network");
    assert!(output.contains("through the relay"), "{output}");
    stop(&mut udhcpc, Signal::SIGTERM);
    stop(&mut agent, Signal::SIGTERM);
}

#[test]
fn an_interface_that_was_not_named_is_not_served() {
    let (mut lab, server, _musterd) = server();
    let outside = lab.host("outside");
    common::wire(&server, "eth1", &outside, "eth0");
    server.ip("address add 10.66.0.1/16 dev eth1");
    let client = Client::new(&lab, outside, "outside");
    assert!(!client.udhcpc("-t 2").ok(), "no offer on an interface that wasn't named");
    client.host.ip("address add 10.66.0.2/16 dev eth0");
    write(&lab.dir().join("hello"), b"hello\n");
    let fetch = format!("{} tftp -g -r hello -l - 10.66.0.1", image().join("busybox").display());
    let outcome = client.host.script(3, &fetch);
    assert!(!outcome.output.contains("hello\n"), "no file on an interface that wasn't named: {outcome:?}");
}
