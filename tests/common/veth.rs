//! A veth in a network namespace of the test's own: `v0` is the head's, `v1` the client's side.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;
use std::time::{Duration, Instant};

use muster::base::addr::Mac;
use muster::base::facts::{Hardware, LinkFacts};
use muster::config::{Boot, Config, LinkConfig, Network, Server, Tftp};
use muster::engine::endpoints::Endpoints;
use muster::roll::plan::{AddressPlan, AddressRange, Subnet};
use muster::shell::clerk::Clerk;
use muster::shell::{Crew, Features, Shell};
use muster::wire::ether;
use nix::sched::{CloneFlags, unshare};

pub const HEAD: Ipv4Addr = Ipv4Addr::new(10, 54, 0, 1);
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 54, 9, 9);
pub const PEER: Mac = Mac([2, 0, 0, 0, 0, 0x0b]);
pub const OURS: Mac = Mac([2, 0, 0, 0, 0, 0x0a]);

/// Runs a test in a network namespace of its own thread, with a veth: `v0` is the head's, `v1` the client's side.
pub fn in_a_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("this test makes a network namespace and needs root: run `make test` as root");
        for line in [
            "link set lo up",
            &format!("link add v0 address {OURS} type veth peer name v1 address {PEER}"),
            "address add 10.54.0.1/16 dev v0",
            "link set v0 up",
            "link set v1 up",
        ] {
            let status = Command::new("ip").args(line.split(' ')).status().expect("ip, which scripts/setup installs");
            assert!(status.success(), "ip {line}");
        }
        // A cable does not carry what the kernel has yet to cut into packets; a veth would.
        for name in ["v0", "v1"] {
            let status = Command::new("ethtool")
                .args(["-K", name, "tx-udp-segmentation", "off"])
                .status()
                .expect("ethtool, which scripts/setup installs");
            assert!(status.success(), "ethtool -K {name}");
        }
        // Nothing leaves through a device before the kernel has noticed its carrier.
        let up = || {
            let shown = Command::new("ip").args(["-oneline", "link", "show", "up", "type", "veth"]).output().expect("ip");
            String::from_utf8_lossy(&shown.stdout).matches("state UP").count() == 2
        };
        let waited = (0..500).take_while(|_| !up()).map(|_| std::thread::sleep(Duration::from_millis(10))).count();
        assert!(waited < 500, "both ends are up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

pub fn facts(name: &str, mac: Mac) -> LinkFacts {
    LinkFacts {
        addresses: vec![(HEAD, 16)],
        ..LinkFacts::ethernet(name, nix::net::if_::if_nametoindex(name).expect("the interface is there"), mac)
    }
}

pub fn config(hardware: Hardware) -> Config {
    let link = LinkConfig { hardware, ..LinkConfig::plain("v0", facts("v0", OURS).index, OURS, HEAD) };
    let network = Network {
        guests: AddressRange::new([10, 54, 250, 0].into(), [10, 54, 250, 9].into()),
        lease: Duration::from_secs(600),
        ..Network::plain(Subnet::of(HEAD, 16), Some(0))
    };
    let plain = Config::plain(AddressPlan::new([10, 54, 1, 0].into(), 16), vec![link], vec![network]);
    Config {
        boot: Boot { root: std::env::temp_dir(), ..plain.boot },
        tftp: Tftp { ports: (20_069, 20_072), windowsize: 4, give_up: Duration::from_secs(5) },
        server: Server {
            capacity: 64,
            run_dir: std::env::temp_dir(),
            state_dir: "/nowhere".into(),
            user: "root".into(),
            router_adverts: true,
        },
        ..plain
    }
}

/// A server's shell on `v0`, with file processes of its own.
pub fn try_server(config: &Config, features: Features) -> Result<Shell, muster::shell::ShellError> {
    let crew = Crew::start()?;
    let (table, mut facts) = (Endpoints::new(config), facts("v0", OURS));
    facts.hardware = config.links[0].hardware;
    Shell::server_with(table.rows(), &[facts], &config.boot.root, features, Clerk::new(crew.clerk), crew.readers)
}

/// The same. A child that another test is starting holds the sockets of one that is gone until it runs its program.
pub fn server(config: &Config, features: Features) -> Shell {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match try_server(config, features) {
            Err(error) if error.to_string().contains("(os error 98)") && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(10))
            }
            opened => return opened.expect("a server"),
        }
    }
}

pub const NOBODY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
pub const EVERYBODY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);

pub fn udp(dst_mac: Mac, src: SocketAddrV4, dst: SocketAddrV4, text: &str) -> Vec<u8> {
    let mut buf = [0; 1514];
    let len = ether::emit_udp(&mut buf, PEER, dst_mac, src, dst, 1, text.as_bytes()).expect("a frame");
    buf[..len].to_vec()
}
