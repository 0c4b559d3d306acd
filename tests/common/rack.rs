//! A head on which muster is installed, as a container with its own init, and a machine beside it on the boot network.

use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use super::container::Container;
use super::{Host, Lab, wait, write};

const ADDRESS: &str = "10.54.0.1/16";
pub const CONFIG: &str = "[[network]]\ninterface = \"eth1\"\n";

/// A head on which muster is installed, not started, and a machine on its network.
pub struct Rack {
    pub head: Container,
    pub client: Host,
    pub lab: Lab,
}

impl Rack {
    /// The head serves boot files, once it is configured, started and plugged in.
    pub fn new(mut lab: Lab, head: Container) -> Rack {
        let client = lab.attach("client");
        client.ip("address add 10.54.9.9/16 dev eth0");
        let rack = Rack { head, client, lab };
        rack.fill(&rack.head.root().join("srv/tftp"));
        rack
    }

    /// Puts the boot file, which is random and of a length that is no multiple of a block's, into a folder.
    pub fn fill(&self, root: &Path) {
        let file = self.lab.dir().join("boot-file");
        if !file.exists() {
            let bytes: Vec<u8> = (0u64..300_001).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
            write(&file, &bytes);
        }
        std::fs::create_dir_all(root).expect("a root for boot files");
        for name in ["boot-file", "undionly.kpxe", "snponly.efi"] {
            std::fs::copy(&file, root.join(name)).expect("a boot file");
        }
    }

    /// The boot interface comes.
    pub fn plug(&mut self) {
        let host = self.head.host().clone();
        self.lab.plug(&host, "eth1");
        host.ip(&format!("address add {ADDRESS} dev eth1"));
        // It has another hardware address each time; the client's kernel would look for the old one for ten seconds.
        self.client.ip("neigh flush dev eth0");
    }

    /// A command in the head, which must succeed.
    pub fn must(&self, script: &str) -> String {
        self.head.script(60, script).must(script)
    }

    /// Whether the boot file can be loaded within so many seconds, byte for byte.
    pub fn loads(&self, seconds: u64) -> bool {
        let script =
            format!("cd {}; curl -s -m {seconds} -o got tftp://10.54.0.1/boot-file && cmp got boot-file", self.lab.dir().display());
        self.client.script(seconds + 10, &script).ok()
    }

    pub fn serves(&self) -> bool {
        self.loads(20)
    }

    pub fn is_silent(&self) -> bool {
        !self.loads(2)
    }

    /// Waits until a request for it is answered, and loads it then. How long that took, from `begin` on.
    pub fn served_since(&self, begin: Instant, seconds: u64) -> Duration {
        let answered = self.client.within(move || {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out");
            wait(seconds, || {
                // Refused while nobody listens.
                let _ = socket.send_to(b"\0\x01boot-file\0octet\0", "10.54.0.1:69");
                let mut buf = [0; 600];
                let (_, from) = socket.recv_from(&mut buf).ok()?;
                let took = begin.elapsed();
                let _ = socket.send_to(b"\0\x05\0\0enough\0", from);
                buf.starts_with(b"\0\x03\0\x01").then_some(took)
            })
        });
        let answered = answered.join().expect("the client's thread");
        assert!(answered.is_some() && self.serves(), "no file within {seconds} s: {}", self.status());
        answered.unwrap_or_default()
    }

    pub fn served_within(&self, seconds: u64) -> Duration {
        self.served_since(Instant::now(), seconds)
    }

    pub fn status(&self) -> String {
        self.head.script(20, "systemctl status --full --lines=30 muster").output
    }

    /// What the unit has logged; between two tries `systemctl status` shows nothing of it.
    pub fn log(&self) -> String {
        self.must("journalctl --no-pager --output=cat --unit=muster")
    }

    /// A value that systemd has of the unit.
    pub fn property(&self, name: &str) -> String {
        self.must(&format!("systemctl show --value -p {name} muster")).trim().to_owned()
    }

    /// The processes of the unit, as the head knows them.
    pub fn processes(&self) -> Vec<String> {
        let script = "find /sys/fs/cgroup -path '*muster.service*' -name cgroup.procs -exec cat {} + | sort -u";
        self.must(script).lines().map(str::to_owned).collect()
    }

    /// One machine boots by the firmware of each kind, with the file it loads compared with that of the folder.
    pub fn machines_boot(&self) {
        let storm = env!("CARGO_BIN_EXE_muster-storm");
        let root = self.head.root().join("srv/tftp");
        for kind in ["rom", "edk2"] {
            let root = root.to_str().expect("a path of ours");
            let arguments = ["-i", "eth0", "-n", "5", "-p", kind, "--stages", "rom,os", "-f", "boot-file", "--verify-root", root];
            self.client.run(60, storm, &[&arguments[..], &["--timeout", "40"]].concat()).must("five machines boot");
        }
    }
}
