//! A machine with an init of its own, by `systemd-nspawn`. Either it boots this machine's systemd in a root that holds what was installed and
//! otherwise nothing but this machine's `/usr`, read-only: nothing is downloaded, and what is enabled on this machine is not started there.
//! Or it boots a whole root that `scripts/test-roots` has made, as a copy that is the test's own.
//!
//! It lives in a network namespace and in control groups of its own, and ends with the test's thread or when it is dropped.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Host, Lab, Outcome, ip, is_orphan, remove, tail, text, wait, write};

/// How long it may take to boot: two seconds, and the rest for a machine that is busy with other tests.
const BOOT_SECONDS: u64 = 60;
static CONTAINERS: AtomicU32 = AtomicU32::new(0);

pub struct Container {
    nspawn: Child,
    /// Its process 1, as this machine knows it.
    init: Pid,
    host: Host,
    /// Where its root is mounted, in a mount namespace of its own.
    mounted: PathBuf,
    root: PathBuf,
    below: Below,
    groups: Vec<PathBuf>,
}

/// What its root is made of.
#[derive(Clone)]
enum Below {
    /// This machine's `/usr`, and what is installed in this folder.
    Usr(PathBuf),
    /// All of this folder.
    Root(PathBuf),
}

/// Says that all is started, by whichever init.
const IS_UP: &str = "if [ -d /run/systemd/system ]; then systemctl is-active --quiet multi-user.target
    else runlevel | grep -q ' [2-5]' && ! pgrep -f '/etc/init.d/[r]c'; fi";

impl Container {
    /// Boots a machine on which `tree` is installed (`make install DESTDIR=tree`), beneath `/` and `/usr/local`. It has no interface.
    pub fn boot(lab: &mut Lab, tree: &Path) -> Container {
        let mut container = Container::new(lab, Below::Usr(tree.to_path_buf()));
        furnish(&container.mounted, tree);
        container.start(lab);
        container
    }

    /// Boots a copy of a root that `scripts/test-roots` has made. It has no interface.
    pub fn boot_root(lab: &mut Lab, name: &str) -> Container {
        let below = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("roots").join(name);
        assert!(below.exists(), "{} isn't there: run scripts/test-roots {name} as root first", below.display());
        let mut container = Container::new(lab, Below::Root(below));
        for folder in ["", ".upper", ".work"] {
            fs::create_dir_all(container.beside(folder)).expect("a folder");
        }
        container.start(lab);
        container
    }

    fn new(lab: &Lab, below: Below) -> Container {
        let name = format!("{}-c{}", lab.name, CONTAINERS.fetch_add(1, Ordering::Relaxed));
        let (mounted, groups) = (lab.dir.join(&name), groups(&name));
        let host = Host { namespace: name, dir: lab.dir.clone() };
        // Not started yet: a child that has ended.
        let nspawn = Command::new("true").spawn().expect("start a process");
        Container { nspawn, init: Pid::from_raw(0), host, root: mounted.clone(), mounted, below, groups }
    }

    /// Power comes on.
    fn start(&mut self, lab: &mut Lab) {
        self.nspawn.wait().expect("wait for a child of ours");
        self.nspawn = self.spawn();
        let init = wait(BOOT_SECONDS, || self.find_init());
        self.init = init.unwrap_or_else(|| panic!("{} has no init", self.host.namespace));
        if matches!(self.below, Below::Root(_)) {
            self.root = Path::new("/proc").join(self.init.to_string()).join("root");
        }
        ip(&format!("netns attach {} {}", self.host.namespace, self.init));
        lab.namespaces.push(self.host.namespace.clone());
        let up = wait(BOOT_SECONDS, || self.script(20, IS_UP).ok().then_some(()));
        assert!(up.is_some(), "{}", self.script(20, "systemctl list-jobs; systemctl --failed; ps axf").output);
    }

    /// Power fails: all processes die at once, and the interfaces are gone. Then it comes back.
    pub fn power_cut(&mut self, lab: &mut Lab) {
        self.end();
        lab.namespaces.retain(|name| *name != self.host.namespace);
        remove(&self.host.namespace);
        self.start(lab);
    }

    fn beside(&self, ending: &str) -> PathBuf {
        PathBuf::from(format!("{}{ending}", self.mounted.display()))
    }

    /// Its network.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its root folder. What is written there is seen within; but for `/usr`, `/run` and `/tmp` of a machine that shares this one's `/usr`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Runs a shell script within it, with `set -e`.
    pub fn script(&self, seconds: u64, script: &str) -> Outcome {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "nsenter", "--target", &self.init.to_string()]);
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--"]);
        command.args([
            "env",
            "-i",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            // An init script that is called is meant: Debian's functions would hand it to systemd.
            "SYSTEMCTL_SKIP_REDIRECT=1",
            "SYSTEMD_PAGER=",
            "LC_ALL=C.UTF-8",
        ]);
        command.args(["sh", "-ec", script]).stdin(Stdio::null()).process_group(0);
        self.host.finish(seconds, command)
    }

    /// What its services have logged.
    pub fn journal(&self) -> String {
        self.script(30, "journalctl --no-pager --output=short-monotonic --lines=200").output
    }

    /// With its first process a process namespace ends. nspawn leaves then.
    fn end(&mut self) {
        match self.init.as_raw() {
            0 => drop(self.nspawn.kill()),
            _ => drop(kill(self.init, Signal::SIGKILL)),
        }
        if wait(20, || self.nspawn.try_wait().ok().flatten()).is_none() {
            let _ = self.nspawn.kill();
            let _ = self.nspawn.wait();
        }
        self.init = Pid::from_raw(0);
    }

    /// nspawn, which dies with this thread and takes the container along.
    fn spawn(&self) -> Child {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "unshare", "--mount", "sh", "-ec", SPAWN, "sh"]).arg(&self.mounted);
        match &self.below {
            Below::Usr(tree) => command.arg(self.mounted.join("usr")).arg(format!("ro,lowerdir={}:/usr", tree.join("usr").display())),
            Below::Root(root) => {
                let folders = [root.clone(), self.beside(".upper"), self.beside(".work")].map(|path| path.display().to_string());
                let [lower, upper, work] = folders;
                command.arg(&self.mounted).arg(format!("lowerdir={lower},upperdir={upper},workdir={work}"))
            }
        };
        command.arg(&self.host.namespace).args(&self.groups);
        let log = fs::File::create(self.beside(".log")).expect("a log file in the lab's folder");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log).process_group(0);
        command.spawn().expect("start systemd-nspawn, which scripts/setup installs")
    }

    /// The init, once nspawn has started it.
    fn find_init(&mut self) -> Option<Pid> {
        let log = text(&self.beside(".log"));
        assert!(self.nspawn.try_wait().expect("wait for a child of ours").is_none(), "systemd-nspawn ended: {log}");
        let pid = self.nspawn.id();
        let children = text(Path::new(&format!("/proc/{pid}/task/{pid}/children")));
        let is_init = |pid: &&str| ["systemd\n", "init\n"].contains(&text(&Path::new("/proc").join(pid).join("comm")).as_str());
        children.split_whitespace().find(is_init)?.parse().ok().map(Pid::from_raw)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() && self.init.as_raw() > 0 {
            eprintln!("---- the end of the container's journal:\n{}\n----", tail(&self.journal(), 80));
        }
        self.end();
        self.groups.iter().for_each(|group| remove_group(group));
    }
}

/// A root with the few files that a Debian has outside `/usr`, and with what was installed there.
fn furnish(root: &Path, tree: &Path) {
    for folder in ["usr", "etc/systemd/system", "var/lib", "run", "tmp", "root", "home", "srv", "dev", "proc", "sys"] {
        fs::create_dir_all(root.join(folder)).expect("a folder");
    }
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        if Path::new("/usr").join(name).exists() {
            symlink(Path::new("usr").join(name), root.join(name)).expect("a link");
        }
    }
    write(&root.join("etc/machine-id"), b"6d75737465720000000000000000abcd\n");
    write(&root.join("etc/hostname"), b"head\n");
    write(&root.join("etc/nsswitch.conf"), b"passwd: files\ngroup: files\nhosts: files\n");
    write(
        &root.join("etc/passwd"),
        b"root:x:0:0:root:/root:/bin/sh\nmessagebus:x:100:100::/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n",
    );
    write(&root.join("etc/group"), b"root:x:0:\nmessagebus:x:100:\nnogroup:x:65534:\n");
    let copied = Command::new("cp").args(["-a", "/etc/ld.so.cache"]).arg(tree.join("etc/.")).arg(root.join("etc")).status();
    assert!(copied.is_ok_and(|status| status.success()), "copy /etc");
}

/// Arguments: the root, where to mount an overlay and with which options, the machine's name, and its control groups.
const SPAWN: &str = "
    root=$1 at=$2 options=$3 name=$4; shift 4
    for group; do mkdir -p \"$group\"; echo $$ >\"$group/cgroup.procs\"; done
    mount -t overlay -o \"$options\" overlay \"$at\"
    # Without a filter of nspawn's own, the services' are all there is, as on a machine.
    export SYSTEMD_SECCOMP=0
    exec systemd-nspawn --quiet --directory=\"$root\" --machine=\"$name\" --boot --register=no --keep-unit --private-network \\
        --capability=CAP_IPC_LOCK --link-journal=no --resolv-conf=off --timezone=off --console=pipe";

/// The control groups that it lives in, beneath the test's own, in each hierarchy that systemd uses: two inits in one group would end each
/// other's processes. What killed tests left behind is removed.
fn groups(name: &str) -> Vec<PathBuf> {
    let own = text(Path::new("/proc/self/cgroup"));
    let path = |hierarchy: &str| own.lines().find_map(|line| line.split_once(hierarchy)?.1.strip_prefix('/'));
    let roots = [("0::", "/sys/fs/cgroup"), ("0::", "/sys/fs/cgroup/unified"), (":name=systemd:", "/sys/fs/cgroup/systemd")];
    let mounted = roots.into_iter().filter(|(_, root)| Path::new(root).join("cgroup.procs").exists());
    let groups: Vec<PathBuf> = mounted.filter_map(|(hierarchy, root)| Some(Path::new(root).join(path(hierarchy)?).join(name))).collect();
    for left in groups.iter().filter_map(|group| fs::read_dir(group.parent()?).ok()).flatten().flatten() {
        if is_orphan(&left.file_name().to_string_lossy()) {
            remove_group(&left.path());
        }
    }
    assert!(!groups.is_empty(), "this machine has no control groups mounted in /sys/fs/cgroup, which systemd needs");
    groups
}

/// Removes a control group and those within it, as soon as their last process is gone.
fn remove_group(group: &Path) {
    for folder in fs::read_dir(group).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        remove_group(&folder.path());
    }
    wait(5, || (fs::remove_dir(group).is_ok() || !group.exists()).then_some(()));
}
