//! The name-service module in real programs: each in a mount namespace in which the module, an nsswitch.conf and a names file are in place.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::musterd::Musterd;
use common::{Host, Lab, Outcome, nss_module, tail, text, wait, write};

const NAMES: &str = "domain cluster\nprefix n\ndigits 1\nhead 10.54.0.1\nself 23\nnodes 0-1023 10.54.1.0\nend\n";

/// A host on which the module is installed.
struct Machine {
    lab: Lab,
    host: Host,
}

impl Machine {
    fn new() -> Machine {
        let mut lab = Lab::new();
        let host = lab.host("machine");
        let machine = Machine { lab, host };
        machine.equip(machine.lab.dir());
        write(&machine.lab.dir().join("names"), NAMES.as_bytes());
        machine
    }

    /// What is put into place for each program.
    fn equip(&self, dir: &Path) {
        std::fs::create_dir_all(dir.join("lib")).expect("a folder");
        std::fs::copy(nss_module(), dir.join("lib/libnss_muster.so.2")).expect("the module");
        write(&dir.join("nsswitch.conf"), b"hosts: files muster\nnetgroup: muster\n");
    }

    /// Runs a script where `place` makes /var/lib/muster/names, which is `$names` there.
    fn run(&self, place: &str, script: &str) -> Outcome {
        run(&self.host, self.lab.dir(), place, script)
    }

    fn with_names(&self, script: &str) -> Outcome {
        self.run("cp $dir/names $names", script)
    }

    /// A program of the tests' own, in C.
    fn compile(&self, source: &str, flags: &[&str]) -> PathBuf {
        let program = self.lab.dir().join(source);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nss").join(source).with_extension("c");
        let gcc = Command::new("gcc").args(["-O1", "-g", "-Wall", "-Werror", "-o"]).arg(&program).arg(source).args(flags).output();
        let gcc = gcc.expect("gcc is installed");
        assert!(gcc.status.success(), "{}", String::from_utf8_lossy(&gcc.stderr));
        program
    }
}

fn run(host: &Host, dir: &Path, place: &str, script: &str) -> Outcome {
    let script = format!(
        "dir={dir} names=/var/lib/muster/names
        mount --bind $dir/nsswitch.conf /etc/nsswitch.conf
        mount -t tmpfs none /var/lib; mkdir /var/lib/muster; {place}
        export LD_LIBRARY_PATH=$dir/lib
        {script}",
        dir = dir.display()
    );
    host.script(120, &script)
}

fn line(fields: &str) -> Vec<&str> {
    fields.split_whitespace().collect()
}

#[test]
fn getent_knows_names_and_addresses() {
    let machine = Machine::new();
    let told = |key: &str| machine.with_names(&format!("getent hosts {key}")).must(key);
    for key in ["n23", "N23.Cluster", "node0023", "n23.cluster.", "10.54.1.23"] {
        assert_eq!(line(&told(key)), ["10.54.1.23", "n23.cluster", "n23"], "{key}");
    }
    assert_eq!(line(&told("self")), ["10.54.1.23", "n23.cluster", "n23", "self"]);
    for key in ["head", "master.cluster", "10.54.0.1"] {
        assert_eq!(line(&told(key)), ["10.54.0.1", "head.cluster", "head", "master"], "{key}");
    }
    for key in ["n1024", "n23.other", "n", "10.54.5.0", "10.54.0.2", "fe80::1", "nosuchname", "n23x"] {
        assert_eq!(machine.with_names(&format!("getent hosts {key}")).code, Some(2), "{key}");
    }
    let all = machine.with_names("getent ahosts n0; getent ahostsv6 n0 || echo none").must("getent ahosts");
    assert!(all.starts_with("10.54.1.0 ") && all.ends_with("\nnone\n") && !all.contains(':'), "no IPv6: {all}");
    let group = machine.with_names("getent netgroup all").must("getent netgroup");
    assert!(group.contains("(n0.cluster,-,)") && group.contains("(n1023,-,)") && group.matches('(').count() == 2048, "{}", tail(&group, 2));
    assert_ne!(machine.with_names("getent netgroup some").code, Some(0));
    let bare = machine.run("sed /domain/d $dir/names >$names", "getent hosts n23").must("without a domain");
    assert_eq!(line(&bare), ["10.54.1.23", "n23"]);
}

#[test]
fn python_and_ssh_know_them() {
    let machine = Machine::new();
    let script = r#"
import socket, sys
assert socket.gethostbyname('n23') == '10.54.1.23'
assert socket.gethostbyname_ex('n7') == ('n7.cluster', ['n7'], ['10.54.1.7'])
found = socket.getaddrinfo('n23', 22, socket.AF_UNSPEC, socket.SOCK_STREAM)
assert [item[4] for item in found] == [('10.54.1.23', 22)], found
assert socket.gethostbyaddr('10.54.1.23')[0] == 'n23.cluster'
assert socket.getfqdn('n23') == 'n23.cluster'
for name in ['n1024', 'x23', 'n' + '2' * 300, 'n23\u00e9']:
    try:
        sys.exit(name + ' is ' + socket.gethostbyname(name))
    except (socket.gaierror, UnicodeError):
        pass
print('well')
"#;
    write(&machine.lab.dir().join("look.py"), script.as_bytes());
    assert_eq!(machine.with_names("python3 $dir/look.py").must("python3"), "well\n");
    let ssh = machine.with_names("ssh -T -G -o CanonicalizeHostname=yes -o CanonicalDomains=cluster n23 | grep ^hostname").must("ssh -G");
    assert_eq!(ssh, "hostname n23.cluster\n");
    let refused = machine.with_names("ip address add 10.54.1.23/16 dev lo; ssh -o BatchMode=yes -F none n23 true");
    assert!(refused.output.contains("connect to host n23 port 22: Connection refused"), "{}", refused.output);
}

#[test]
fn threads_and_valgrind_find_nothing_wrong() {
    let machine = Machine::new();
    let program = machine.compile("threads", &["-pthread"]);
    let threads = machine.with_names(&format!("{} 3000", program.display())).must("threads");
    assert_eq!(threads, "well\n");
    let clean = format!("valgrind --quiet --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite {} 40", program.display());
    assert_eq!(machine.with_names(&clean).must("valgrind"), "well\n");
}

#[test]
fn buffers_of_every_size_are_respected() {
    let machine = Machine::new();
    let program = machine.compile("buffers", &["-ldl"]);
    let told = machine.with_names(&program.display().to_string()).must("buffers");
    assert!(told.starts_with("well: "), "{told}");
    machine.with_names(&format!("valgrind --quiet --error-exitcode=9 {}", program.display())).must("valgrind");
}

/// 13 of the faults that were found with real programs: the line that makes `getent hosts n23` fast where no resolver answers could not be
/// written, since the module said NOTFOUND of everybody's names.
#[test]
fn what_is_not_ours_is_asked_elsewhere_and_what_is_ours_is_not() {
    let machine = Machine::new();
    write(&machine.lab.dir().join("hosts"), b"127.0.0.1 localhost\n198.51.100.66 www.example.org n5000.example.org\n");
    let bind = "mount --bind $dir/hosts /etc/hosts; ip link set lo up; ip route replace default dev lo
        echo nameserver 192.0.2.1 >$dir/resolv; mount --bind $dir/resolv /etc/resolv.conf";
    let switch = "echo 'hosts: muster [NOTFOUND=return] files' >$dir/line; mount --bind $dir/line /etc/nsswitch.conf";
    let told = |file: &str, key: &str| machine.run(file, &format!("{bind}; {switch}; getent hosts {key}")).output;
    let file = "cp $dir/names $names";
    for key in ["www.example.org", "n5000.example.org", "198.51.100.66"] {
        let told = told(file, key);
        assert!(told.starts_with("198.51.100.66"), "{key} goes on: {told}");
    }
    assert!(told("true", "www.example.org").starts_with("198.51.100.66"), "without a names file");
    // A dead resolver behind it costs nothing where the module knows the answer, also that there is none.
    let switch = "echo 'hosts: files muster [NOTFOUND=return] dns' >$dir/line; mount --bind $dir/line /etc/nsswitch.conf";
    for (key, code) in [("n23", 0), ("n23.cluster", 0), ("head", 0), ("n5000", 2), ("10.54.1.23", 0)] {
        let begin = std::time::Instant::now();
        let outcome = machine.run(file, &format!("{bind}; {switch}; getent hosts {key}"));
        assert_eq!(outcome.code, Some(code), "{key}: {}", outcome.output);
        assert!(begin.elapsed() < std::time::Duration::from_secs(3), "{key}: {:?}", begin.elapsed());
    }
}

/// 15 of them: with a prefix of one's own `ssh n6` went to a node although n6 is a machine of the site's.
#[test]
fn names_of_the_site_are_not_taken() {
    let machine = Machine::new();
    let place = "sed 's/prefix n/prefix c/' $dir/names >$names";
    for key in ["n6", "node6", "master"] {
        assert_eq!(machine.run(place, &format!("getent hosts {key}")).code, Some(2), "{key}");
    }
    for key in ["c6", "n6.cluster", "node6.cluster"] {
        assert_eq!(line(&machine.run(place, &format!("getent hosts {key}")).must(key)), ["10.54.1.6", "c6.cluster", "c6"], "{key}");
    }
}

/// 21 of them: a thread of 16 KiB ended with SIGSEGV.
#[test]
fn the_smallest_stack_is_enough() {
    let machine = Machine::new();
    let program = machine.compile("stack", &["-pthread"]);
    assert_eq!(machine.with_names(&program.display().to_string()).must("stack"), "n23.cluster\n");
}

/// Programs go on without names where the file is not what it should be, and nobody waits.
#[test]
fn bad_files_are_no_files() {
    let machine = Machine::new();
    for place in [
        "true",
        ": >$names",
        "head -c 60 $dir/names >$names",
        "head -c 200 /dev/urandom >$names",
        "head -c 1000000 /dev/zero >$names",
        "(cat $dir/names; head -c 4096 /dev/zero | tr '\\0' '#') >$names",
        "sed 's/^nodes.*/nodes 0-4294967295 255.255.255.255/' $dir/names >$names",
        "mkfifo $names",
        "mkdir $names",
        "ln -s $names $names",
        "ln -s /dev/zero $names",
    ] {
        let outcome = machine.run(place, "timeout 10 getent hosts n23");
        assert_eq!(outcome.code, Some(2), "{place}: {}", outcome.output);
    }
    let nobody = "cp $dir/names $names; chmod 600 $names";
    let outcome = machine.run(
        nobody,
        "cp -r $dir/lib /var/lib/here; export LD_LIBRARY_PATH=/var/lib/here; setpriv --reuid 65534 --clear-groups getent hosts n23",
    );
    assert_eq!(outcome.code, Some(2), "no permission: {}", outcome.output);
}

/// ldconfig and packages go by it.
#[test]
fn the_module_bears_its_name() {
    let told = Command::new("readelf").args(["-dW"]).arg(nss_module()).output().expect("readelf runs");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("Library soname: [libnss_muster.so.2]"), "{told}");
}

#[test]
fn a_node_keeps_the_names_that_the_head_tells() {
    let mut lab = Lab::new();
    let (server, node) = (lab.server("10.54.0.1/16"), lab.attach("node"));
    let machine = Machine { host: node.clone(), lab };
    let dir = machine.lab.dir().to_path_buf();
    machine.equip(&dir);
    let config = "[cluster]\nname = \"hpc.example\"\nprefix = \"c\"\ndigits = 3\nnode0 = \"10.54.1.0\"\nnodes = 600\n[[network]]\ninterface = \"eth0\"\n";
    let state = dir.join("state");
    let musterd = Musterd::keeping(&server, &dir, config, &state);
    let on_head = "cp $dir/state/names $names";
    let told = run(&server, &dir, on_head, "getent hosts c023; getent hosts self; getent hosts 10.54.3.87").must("getent on the head");
    let lines: Vec<Vec<&str>> = told.lines().map(line).collect();
    assert_eq!(lines[0], ["10.54.1.23", "c023.hpc.example", "c023"]);
    assert_eq!(lines[1], ["10.54.0.1", "head.hpc.example", "head", "self"]);
    assert_eq!(lines[2], ["10.54.3.87", "c599.hpc.example", "c599"]);

    let names = dir.join("node-names");
    let passing =
        format!("umask 077; unshare --uts {} --nic eth0 -d /nonexistent --names {}", env!("CARGO_BIN_EXE_muster-in"), names.display());
    let passed = node.script(60, &passing).must("muster-in");
    assert!(passed.contains("NUMBER='0'") && passed.contains("names of 600 nodes"), "{passed}");
    for written in [&names, &state.join("names")] {
        let mode = std::fs::metadata(written).expect("a names file").permissions().mode() & 0o777;
        assert_eq!(mode, 0o644, "{} is for everybody, whatever the umask", written.display());
    }
    drop(musterd);
    let told =
        run(&node, &dir, "cp $dir/node-names $names", "getent hosts self; getent hosts c599; getent hosts head").must("getent on the node");
    let lines: Vec<Vec<&str>> = told.lines().map(line).collect();
    assert_eq!(lines[0], ["10.54.1.0", "c000.hpc.example", "c000", "self"]);
    assert_eq!((lines[1][0], lines[2][0]), ("10.54.3.87", "10.54.0.1"));

    // A plan that changes is in the file after a reload.
    let musterd = Musterd::keeping(&server, &dir, config, &state);
    Musterd::reconfigure(&server, &config.replace("nodes = 600", "nodes = 700"));
    musterd.signal(nix::sys::signal::Signal::SIGHUP);
    assert!(wait(10, || text(&state.join("names")).contains("nodes 0-699 ").then_some(())).is_some(), "{}", musterd.log());
}
