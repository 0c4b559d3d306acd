//! The lab: private network namespaces with a switch between them, in which real clients boot from a real `musterd`.
//!
//! Everything is made by `ip` and removed when the [`Lab`] is dropped, also by a panic; what a killed test left behind is removed by
//! the next one. Nothing here touches the host's own interfaces. Root is needed, and the tools that `scripts/setup` installs: what
//! lacks is told by a failure with a sentence, never by a skipped test.
#![allow(dead_code)] // each test crate uses its own part of it

pub mod container;
pub mod machine;
pub mod musterd;
pub mod packages;
pub mod rack;

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// Names the lab's namespaces on this machine, as `muster-lab-PID-N-HOST`: the process that made them can be told from the name.
const PREFIX: &str = "muster-lab-";
static LABS: AtomicU32 = AtomicU32::new(0);
static RUNS: AtomicU32 = AtomicU32::new(0);

/// A switch and the hosts plugged into it.
pub struct Lab {
    name: String,
    dir: PathBuf,
    namespaces: Vec<String>,
    ports: u32,
}

/// A host of the lab: a namespace. The lab that made it must outlive it.
#[derive(Clone)]
pub struct Host {
    namespace: String,
    dir: PathBuf,
}

/// How a command ended, and what it printed (standard output and error in one).
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; `None` if it was killed, by a signal or because its time was up.
    pub code: Option<i32>,
    pub output: String,
    pub took: Duration,
}

impl Outcome {
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// The output, or a failure that shows it.
    pub fn must(self, what: &str) -> String {
        assert!(self.ok(), "{what}: ended with {:?} after {:?}:\n{}", self.code, self.took, self.output);
        self.output
    }
}

impl Lab {
    /// A lab with a switch and no hosts. Its folder is empty and is removed with it.
    pub fn new() -> Self {
        require_root();
        sweep();
        let name = format!("{PREFIX}{}-{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
        fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("cannot make {}: {error}", dir.display()));
        let mut lab = Self { name, dir, namespaces: Vec::new(), ports: 0 };
        let switch = lab.host("switch");
        ip(&format!("-n {} link add switch type bridge stp_state 0 forward_delay 0 mcast_snooping 0", switch.namespace));
        ip(&format!("-n {} link set switch up", switch.namespace));
        lab
    }

    /// The lab's own folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The namespace with the switch, in which the machines of QEMU run.
    pub fn switch(&self) -> Host {
        Host { namespace: format!("{}-switch", self.name), dir: self.dir.clone() }
    }

    /// A host that is connected to nothing.
    pub fn host(&mut self, name: &str) -> Host {
        let namespace = format!("{}-{name}", self.name);
        ip(&format!("netns add {namespace}"));
        self.namespaces.push(namespace.clone());
        ip(&format!("-n {namespace} link set lo up"));
        Host { namespace, dir: self.dir.clone() }
    }

    /// A host with its interface `eth0` on the switch.
    pub fn attach(&mut self, name: &str) -> Host {
        let host = self.host(name);
        self.plug(&host, "eth0");
        host
    }

    /// One more interface of a host, on the switch.
    pub fn plug(&mut self, host: &Host, interface: &str) {
        let port = self.port();
        wire(&self.switch(), &port, host, interface);
        ip(&format!("-n {} link set {port} master switch", self.switch().namespace));
    }

    /// A host that serves: `eth0` on the switch has the address and prefix given, as in `10.54.0.1/16`.
    pub fn server(&mut self, address: &str) -> Host {
        let host = self.attach("server");
        host.ip(&format!("address add {address} dev eth0"));
        host
    }

    /// A tap on the switch for a virtual machine: its name within the switch's namespace.
    pub fn tap(&mut self) -> String {
        let port = self.port();
        let switch = self.switch().namespace;
        ip(&format!("-n {switch} tuntap add {port} mode tap"));
        ip(&format!("-n {switch} link set {port} master switch up"));
        port
    }

    fn port(&mut self) -> String {
        self.ports += 1;
        format!("port{}", self.ports)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            remove(namespace);
        }
        if std::thread::panicking() {
            eprintln!("the lab's logs are kept in {}", self.dir.display());
        } else {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

impl Host {
    /// `ip` with these arguments, within the host.
    pub fn ip(&self, arguments: &str) -> String {
        ip(&format!("-n {} {arguments}", self.namespace))
    }

    /// A command that runs within the host and dies with this thread, in a process group and a mount namespace of its own.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, "setpriv", "--pdeathsig", "KILL", program]);
        command.stdin(Stdio::null()).process_group(0);
        // Of musterd: a system call that is not on its list ends it. (scripts/syscalls says otherwise.)
        command.env("MUSTER_SECCOMP", std::env::var_os("MUSTER_SECCOMP").unwrap_or_else(|| "kill".into()));
        command
    }

    /// Runs a program to its end, or kills it with its children after so many seconds.
    pub fn run(&self, seconds: u64, program: &str, arguments: &[&str]) -> Outcome {
        let mut command = self.command(program);
        command.args(arguments);
        self.finish(seconds, command)
    }

    /// Runs a shell script with `set -e`; it may mount what it likes, nobody else sees that.
    pub fn script(&self, seconds: u64, script: &str) -> Outcome {
        self.run(seconds, "sh", &["-ec", script])
    }

    /// Runs a command of [`Self::command`] to its end, or kills it with its children after so many seconds.
    pub fn finish(&self, seconds: u64, mut command: Command) -> Outcome {
        let path = self.dir.join(format!("run-{}.log", RUNS.fetch_add(1, Ordering::Relaxed)));
        let log = File::create(&path).expect("a log file in the lab's folder");
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        let begin = Instant::now();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let code = loop {
            if let Some(status) = child.try_wait().expect("wait for a child of ours") {
                break status.code();
            }
            if begin.elapsed() > Duration::from_secs(seconds) {
                stop(&mut child, Signal::SIGKILL);
                break None;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let took = begin.elapsed();
        let mut output = text(&path);
        if code == Some(127) {
            output.push_str("\n(a program is missing: run scripts/setup as root)");
        }
        Outcome { code, output, took }
    }

    /// Its network namespace, which a thread of the test may enter.
    pub fn open(&self) -> File {
        let path = Path::new("/run/netns").join(&self.namespace);
        File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Runs a part of the test itself within the host, in a thread of its own: its sockets are the host's.
    pub fn within<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
        let namespace = File::open(Path::new("/run/netns").join(&self.namespace)).expect("the host's namespace");
        std::thread::spawn(move || {
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("enter the host's namespace");
            act()
        })
    }

    /// Its neighbour entry for an address, as `ip neigh` prints it; empty without one.
    pub fn neighbour(&self, address: &str) -> String {
        self.ip(&format!("neigh show to {address} nud all"))
    }

    pub fn mac(&self, interface: &str) -> String {
        let output = self.ip(&format!("-oneline link show dev {interface}"));
        let mac = output.split_whitespace().skip_while(|word| *word != "link/ether").nth(1);
        mac.unwrap_or_else(|| panic!("no MAC in {output}")).to_owned()
    }
}

/// A cable between two hosts. Both ends are up, and hand over packets as a cable would: of one MTU each, with checksums.
pub fn wire(one: &Host, interface: &str, other: &Host, peer: &str) {
    let (left, right) = (&one.namespace, &other.namespace);
    ip(&format!("-n {left} link add {interface} type veth peer name {peer} netns {right}"));
    for (host, name) in [(one, interface), (other, peer)] {
        for feature in ["tx", "tso", "gso", "gro", "tx-udp-segmentation"] {
            host.run(10, "ethtool", &["-K", name, feature, "off"]).must("switch an offload off");
        }
        host.ip(&format!("link set {name} up"));
    }
}

/// Waits until a condition gives something, looking at it 50 times a second; `None` when the seconds are over.
pub fn wait<T>(seconds: u64, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(result) = condition() {
            return Some(result);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Signals a child's process group and waits for the child; it is killed if it hasn't gone after ten seconds.
pub fn stop(child: &mut Child, signal: Signal) {
    let group = pid(child);
    let _ = killpg(group, signal);
    if wait(10, || child.try_wait().ok().flatten()).is_none() {
        let _ = killpg(group, Signal::SIGKILL);
        let _ = child.kill();
        let _ = child.wait();
    }
}

pub fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a process id"))
}

/// What a file holds by now, as far as it is text; empty if it isn't there.
pub fn text(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// The last lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Writes a file for a test, readable for all.
pub fn write(path: &Path, bytes: &[u8]) {
    let mut file = File::create(path).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    file.write_all(bytes).expect("write a file");
}

/// The name-service module, built as this test was.
pub fn nss_module() -> &'static Path {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(|| {
        let profile = Path::new(env!("CARGO_BIN_EXE_musterd")).parent().expect("a folder of programs");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--locked", "--package", "libnss-muster", "--manifest-path"]);
        build
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
            .arg("--target-dir")
            .arg(profile.parent().expect("a target folder"));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        let built = build.output().expect("cargo runs");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        profile.join("libnss_muster.so")
    })
}

/// The folder that `scripts/lab-image` fills: kernel, initramfs, busybox, boot programs.
pub fn image() -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("lab");
    assert!(path.join(".recipe").exists(), "{} isn't there: run scripts/setup as root first", path.display());
    path
}

/// `ip` with arguments that are separated by blanks; a failure shows them.
fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split_whitespace()).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run ip ({error}): run scripts/setup as root first"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn require_root() {
    assert!(nix::unistd::geteuid().is_root(), "this test makes network namespaces and needs root: run `make test` as root");
    for tool in ["ip", "ethtool", "setpriv"] {
        let found = ["/sbin", "/usr/sbin", "/bin", "/usr/bin"].iter().any(|folder| Path::new(folder).join(tool).exists());
        assert!(found, "this test needs {tool}: run scripts/setup as root first");
    }
}

/// Removes a namespace of a lab, with the processes in it: all of them were started by the lab.
fn remove(namespace: &str) {
    let pids = Command::new("ip").args(["netns", "pids", namespace]).output();
    for pid in pids.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default().split_whitespace() {
        if let Ok(pid) = pid.parse::<i32>() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    let _ = Command::new("ip").args(["netns", "delete", namespace]).output();
}

/// Whether a thing of this name belonged to a lab whose test process is gone.
fn is_orphan(name: &str) -> bool {
    let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
    maker.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
}

/// Removes the namespaces of labs whose test process is gone.
fn sweep() {
    for namespace in ip("netns list").lines().filter_map(|line| line.split_whitespace().next()) {
        if is_orphan(namespace) {
            remove(namespace);
        }
    }
}
