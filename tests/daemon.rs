//! The daemon as its operator meets it: flags, refusals, signals, the state file, other servers on the link.

mod common;

use std::path::Path;
use std::time::Duration;

use common::musterd::Musterd;
use common::{Host, Lab, Outcome, stop, text, wait, write};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SERVER: &str = "10.54.0.1/16";
const MUSTERD: &str = env!("CARGO_BIN_EXE_musterd");

/// Runs musterd to its end, as a shell would; an /etc/muster of the machine itself is hidden.
fn musterd(host: &Host, arguments: &[&str]) -> Outcome {
    let mut command = host.command("sh");
    command.args(["-ec", "if [ -d /etc/muster ]; then mount -t tmpfs none /etc/muster; fi; exec \"$@\"", "sh", MUSTERD]);
    command.args(arguments);
    host.finish(20, command)
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of ours")
}

/// A sentence on standard error, and the exit code that goes with it.
fn refuses(outcome: &Outcome, code: i32, words: &[&str]) {
    assert_eq!(outcome.code, Some(code), "{}", outcome.output);
    for word in words {
        assert!(outcome.output.contains(word), "{word:?} is not in: {}", outcome.output);
    }
}

#[test]
fn help_fits_one_screen_and_wrong_flags_are_told() {
    let lab = Lab::new();
    let host = lab.switch();
    let help = musterd(&host, &["--help"]).must("help");
    assert!(help.lines().count() <= 24 && help.lines().all(|line| line.len() <= 100), "{help}");
    let version = musterd(&host, &["-V"]).must("version");
    assert!(version.starts_with(concat!("musterd ", env!("CARGO_PKG_VERSION"), " (")), "{version}");
    refuses(&musterd(&host, &["--frobnicate"]), 2, &["frobnicate", "--help"]);
    refuses(&musterd(&host, &["eth0"]), 2, &["\"eth0\""]);
}

/// A program whose output, or whose errors, nobody reads any more.
fn unread(host: &Host, program: &str, arguments: &[&str], errors: bool) -> std::process::Output {
    let (reader, writer) = nix::unistd::pipe().expect("a pipe");
    drop(reader);
    let mut command = host.command("sh");
    command.args(["-ec", "if [ -d /etc/muster ]; then mount -t tmpfs none /etc/muster; fi; exec \"$@\"", "sh", program]).args(arguments);
    match errors {
        true => command.stdout(std::process::Stdio::piped()).stderr(writer),
        false => command.stdout(writer).stderr(std::process::Stdio::piped()),
    };
    command.spawn().and_then(std::process::Child::wait_with_output).expect("run a program of ours")
}

#[test]
fn a_reader_that_has_seen_enough_is_no_fault() {
    let mut lab = Lab::new();
    let host = lab.server(SERVER);
    let programs = [MUSTERD, env!("CARGO_BIN_EXE_muster"), env!("CARGO_BIN_EXE_muster-in"), env!("CARGO_BIN_EXE_muster-storm")];
    let mut runs: Vec<(&str, Vec<&str>)> =
        programs.iter().flat_map(|program| [(*program, vec!["--help"]), (*program, vec!["-V"])]).collect();
    runs.push((MUSTERD, vec!["-t", "-i", "eth0", "-r", path(lab.dir())]));
    runs.push((programs[3], vec!["--simulate", "--swarm", "0"]));
    for (program, arguments) in runs {
        let ended = unread(&host, program, &arguments, false);
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success() && said.is_empty(), "{program} {arguments:?}: {:?}: {said}", ended.status);
    }
    for program in programs {
        let ended = unread(&host, program, &["--frobnicate"], true);
        let code = if program.ends_with("muster-in") { 1 } else { 2 };
        assert_eq!(ended.status.code(), Some(code), "{program}: {:?}", ended.status);
    }
    let refused = unread(&host, MUSTERD, &["-i", "eth0", "-r", "/nowhere", "--run-dir", path(&lab.dir().join("run"))], true);
    assert_eq!(refused.status.code(), Some(1), "{:?}", refused.status);
    // What was to be kept and could not be is a fault.
    let full = host.script(20, &format!("{MUSTERD} -t -i eth0 -r {} >/dev/full", lab.dir().display()));
    refuses(&full, 1, &["cannot write to standard output", "No space left"]);
}

#[test]
fn every_refusal_is_a_sentence_with_the_remedy() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let run = lab.dir().join("run");
    let root = lab.dir();
    let with =
        |extra: &[&str]| musterd(&server, &[&["-f", "--run-dir", path(&run), "--state-dir", path(&run.join("state"))], extra].concat());
    refuses(&musterd(&server, &["-t", "-i", "eth7", "-r", path(root)]), 3, &["eth7", "eth0"]);
    for (name, words) in [("eth0:1", "label"), ("eth0,eth1", "one name each"), ("a/b", "no slash"), ("10.54.0.1", "as in eth1")] {
        refuses(&with(&["-i", name, "-r", path(root)]), 1, &[name, words]);
    }
    // What is wrong with a config may be mended; one that is not there is no mistake.
    refuses(&with(&["-r", path(root)]), 6, &["boot interface"]);
    refuses(&with(&["-i", "eth0", "-r", "/nonexistent"]), 1, &["/nonexistent", "boot.root"]);
    refuses(&with(&["-i", "eth0", "-c", "/nonexistent.toml"]), 1, &["/nonexistent.toml", "-c"]);

    let config = lab.dir().join("wrong.toml");
    write(&config, b"[cluster]\nname = \"c\"\n\n[boot]\nrooot = \"/srv/tftp\"\n");
    refuses(&with(&["-i", "eth0", "-c", path(&config)]), 1, &["wrong.toml:5:1", "rooot", "root"]);
    refuses(&musterd(&server, &["-t", "-i", "eth0", "-c", path(&config)]), 1, &["wrong.toml:5:1", "rooot"]);

    let mut other = server.command("dnsmasq");
    other.args(["-k", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file=", "--dhcp-range=10.54.9.1,10.54.9.9"]);
    other.args(["--interface=eth0", "--bind-interfaces"]).arg(format!("--dhcp-leasefile={}", lab.dir().join("leases").display()));
    let mut other = other.stderr(std::process::Stdio::null()).spawn().expect("start another server");
    let taken = wait(10, || server.script(5, "ss -Hulpn sport = :67").output.contains("dnsmasq").then_some(()));
    assert!(taken.is_some(), "the other server listens");
    refuses(&with(&["-i", "eth0", "-r", path(root)]), 1, &["10.54.0.1:67", "another DHCP server is running", "ss -ulpn"]);
    stop(&mut other, Signal::SIGTERM);
}

#[test]
fn the_effective_config_is_a_config() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    write(&lab.dir().join("undionly.kpxe"), b"x");
    let told = musterd(&server, &["-t", "-i", "eth0", "-r", path(lab.dir())]).must("musterd -t without a config");
    assert!(told.contains("10.54.1.0") && told.contains("undionly.kpxe"), "{told}");
    let copy = lab.dir().join("effective.toml");
    write(&copy, told.as_bytes());
    let again = musterd(&server, &["-t", "-c", path(&copy)]).must("musterd -t with what it told");
    let plain = |text: &str| text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    assert_eq!(plain(&told), plain(&again));
}

/// Asks a daemon to leave and waits until it has.
fn dismiss(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("the daemon runs");
    let gone = wait(10, || (!Path::new("/proc").join(pid.to_string()).exists()).then_some(()));
    assert!(gone.is_some(), "the daemon leaves");
}

#[test]
fn it_becomes_one_daemon_that_answers_and_leaves() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let client = lab.attach("client");
    client.ip("address add 10.54.9.9/16 dev eth0");
    write(&lab.dir().join("hello"), b"from the daemon\n");
    let run = lab.dir().join("run");
    let state = run.join("state");
    let flags = ["-i", "eth0", "-r", path(lab.dir()), "--run-dir", path(&run), "--state-dir", path(&state)];
    let started = musterd(&server, &flags);
    assert!(started.took < Duration::from_secs(5), "its parent leaves at once: {:?}", started.took);
    started.must("musterd as a daemon");
    let pid_file = run.join("musterd.pid");
    let pid: i32 = text(&pid_file).trim().parse().expect("a pid in the pid file");
    let status = text(&Path::new("/proc").join(pid.to_string()).join("status"));
    assert!(status.contains("PPid:\t1\n") && status.contains("Threads:\t1\n"), "a daemon of one thread: {status}");

    let fetched = client.run(20, "curl", &["-s", "tftp://10.54.0.1/hello"]).must("fetch from the daemon");
    assert_eq!(fetched, "from the daemon\n");
    refuses(&musterd(&server, &flags), 1, &[&format!("already running as pid {pid}"), "--run-dir"]);
    let elsewhere = lab.dir().join("run2");
    refuses(
        &musterd(
            &server,
            &["-i", "eth0", "-r", path(lab.dir()), "--run-dir", path(&elsewhere), "--state-dir", path(&elsewhere.join("state"))],
        ),
        1,
        &["10.54.0.1:67"],
    );

    dismiss(pid);
    assert!(!pid_file.exists(), "it takes its pid file along");
    let state: serde_json::Value = serde_json::from_str(&text(&run.join("state.json"))).expect("a checkpoint");
    assert_eq!(state["transfers"], 0);
}

#[test]
fn the_daemon_logs_to_syslog() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let dev = lab.dir().join("dev");
    std::fs::create_dir(&dev).expect("a folder");
    let syslog = std::os::unix::net::UnixDatagram::bind(dev.join("log")).expect("a log socket");
    syslog.set_read_timeout(Some(Duration::from_secs(10))).expect("a time-out");
    let run = lab.dir().join("run");
    let (dev, run_dir, root) = (path(&dev), path(&run), path(lab.dir()));
    let script = format!(
        "if [ -d /etc/muster ]; then mount -t tmpfs none /etc/muster; fi
        cp -a /dev/null /dev/urandom {dev}; mount --bind {dev} /dev; exec {MUSTERD} -i eth0 -r {root} --run-dir {run_dir} --state-dir {run_dir}/state"
    );
    server.script(20, &script).must("musterd with a log daemon of our own");
    let mut heard = Vec::new();
    let mut buf = [0; 2048];
    while !heard.iter().any(|line: &String| line.contains("musterd: ready")) {
        let len = syslog.recv(&mut buf).unwrap_or_else(|error| panic!("{error}, after {heard:#?}"));
        heard.push(String::from_utf8_lossy(&buf[..len]).into_owned());
    }
    let pid: i32 = text(&run.join("musterd.pid")).trim().parse().expect("a pid");
    assert!(heard.iter().all(|line| line.starts_with("<30>musterd[") && line.contains(&format!("[{pid}]: "))), "{heard:#?}");
    dismiss(pid);
}

#[test]
fn state_is_shown_and_written_on_demand() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let config = "[[network]]\ninterface = \"eth0\"\n";
    let musterd = Musterd::configured(&server, lab.dir(), config);
    let busybox = common::image().join("busybox");
    let client = lab.attach("client");
    let ask = format!("{} udhcpc -i eth0 -n -q -f -s /bin/true", busybox.display());
    client.script(20, &ask).must("udhcpc");
    musterd.signal(Signal::SIGUSR1);
    let file = musterd.run_dir().join("state.json");
    let state = wait(10, || serde_json::from_str::<serde_json::Value>(&text(&file)).ok()).expect("state.json");
    assert_eq!(state["clients"], 1);
    let machine = &state["machines"][0];
    assert_eq!((machine["stage"].as_str(), machine["id"].as_str()), (Some("up"), Some(client.mac("eth0").as_str())));
    assert!(machine["address"].as_str().is_some_and(|address| address.starts_with("10.54.25")), "{state:#}");
    assert!(wait(5, || musterd.seen_all(&["state: 1 of", "1 up"])).is_some(), "and it is in the log");
}

#[test]
fn a_bad_config_changes_nothing_and_a_good_one_does() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let client = lab.attach("client");
    let mac = client.mac("eth0");
    let busybox = common::image().join("busybox");
    let ask = |expected: &str| {
        let ask = format!("{} udhcpc -i eth0 -n -q -f -s /bin/true", busybox.display());
        let said = client.script(30, &ask).must("udhcpc");
        assert!(said.contains(expected), "{said}");
    };
    let node = |number: u32| format!("[cluster]\nnode0 = \"10.54.1.0\"\n\n[[node]]\nnumber = {number}\nmacs = [\"{mac}\"]\n");
    let mut musterd = Musterd::configured(&server, lab.dir(), &node(7));
    ask("lease of 10.54.1.7");

    Musterd::reconfigure(&server, "[cluster]\nnode0 = 10\n");
    musterd.signal(Signal::SIGHUP);
    assert!(wait(10, || musterd.seen_all(&["error", "muster.toml:2:"])).is_some(), "it says where the mistake is");
    assert!(wait(10, || musterd.seen("the old config stays in force")).is_some());
    ask("lease of 10.54.1.7");

    Musterd::reconfigure(&server, &(node(8) + "\n[server]\ncapacity = 100\n"));
    musterd.signal(Signal::SIGHUP);
    assert!(wait(10, || musterd.seen_all(&["error", "capacity", "4096", "100"])).is_some(), "what needs a restart is refused");
    ask("lease of 10.54.1.7");

    Musterd::reconfigure(&server, &node(8));
    musterd.signal(Signal::SIGHUP);
    assert!(wait(10, || musterd.seen("now in force")).is_some());
    ask("lease of 10.54.1.8");
    assert!(!musterd.ended());
}

#[test]
fn another_dhcp_server_is_named_at_start() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let rival = lab.attach("rival");
    rival.ip("address add 10.54.0.99/16 dev eth0");
    let mut command = rival.command("dnsmasq");
    command.args(["-k", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file=", "--no-ping", "--interface=eth0"]);
    command.args(["--dhcp-range=10.54.9.1,10.54.9.99", "--dhcp-broadcast"]);
    command.arg(format!("--dhcp-leasefile={}", lab.dir().join("leases").display()));
    let mut running = command.stderr(std::process::Stdio::null()).spawn().expect("start a rival");
    let listens = wait(10, || rival.script(5, "ss -Hulpn sport = :67").output.contains("dnsmasq").then_some(()));
    assert!(listens.is_some(), "the rival listens");
    let musterd = Musterd::plain(&server, lab.dir());
    let warned = wait(10, || musterd.seen_all(&["eth0: another DHCP server, 10.54.0.99, answers", &rival.mac("eth0")]));
    assert!(warned.is_some(), "{}", musterd.log());
    stop(&mut running, Signal::SIGTERM);
}

#[test]
fn who_asks_for_an_ipv6_router_hears_that_there_is_none() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let musterd = Musterd::plain(&server, lab.dir());
    let client = lab.attach("client");
    // Its link-local address must have been found unique first.
    let ready = wait(10, || client.ip("-6 address show dev eth0 scope link -tentative").contains("fe80").then_some(()));
    assert!(ready.is_some(), "the client has a link-local address");
    let heard = client.run(20, "rdisc6", &["-1", "-r", "3", "-w", "2000", "eth0"]).must("rdisc6");
    assert!(heard.contains("Router lifetime") && heard.contains("0 (0x00000000) seconds"), "{heard}");
    assert!(!heard.contains("Prefix"), "{heard}");
    drop(musterd);

    let silent = Musterd::configured(&server, lab.dir(), "[server]\nrouter-adverts = false\n");
    let heard = client.run(20, "rdisc6", &["-1", "-r", "1", "-w", "1500", "eth0"]);
    assert!(!heard.ok() || !heard.output.contains("Router lifetime"), "{heard:?}");
    drop(silent);
}

/// Nothing else happens on the head meanwhile: each step wakes the loop itself.
#[test]
fn a_reload_takes_a_moment_on_a_quiet_head() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let config = |name: &str| format!("[cluster]\nname = \"{name}\"\n");
    let musterd = Musterd::configured(&server, lab.dir(), &config("zeroth"));
    let socket = musterd.run_dir().join("control.sock");
    // The guests' addresses are probed at first, which keeps the loop awake.
    std::thread::sleep(Duration::from_secs(4));
    for verb in ["reload", "checkpoint"] {
        // A machine that is busy with other tests may be late by itself: the quickest of a few counts.
        let took = (0..5).map(|_| {
            let done = server.run(20, env!("CARGO_BIN_EXE_muster"), &["--socket", path(&socket), verb]);
            assert_eq!(done.code, Some(0), "{}", done.output);
            done.took
        });
        let quickest = took.min().expect("five of them");
        assert!(quickest < Duration::from_millis(300), "{verb} took {quickest:?}");
    }
    // The second comes while the first is under way.
    let names = lab.dir().join("run/state/names");
    let mut late = 0;
    while late < 4 {
        let name = format!("second{late}");
        Musterd::reconfigure(&server, &config("first"));
        musterd.signal(Signal::SIGHUP);
        std::thread::sleep(Duration::from_millis(50));
        Musterd::reconfigure(&server, &config(&name));
        musterd.signal(Signal::SIGHUP);
        let begin = std::time::Instant::now();
        assert!(wait(20, || text(&names).contains(&name).then_some(())).is_some(), "{}", musterd.log());
        if begin.elapsed() < Duration::from_secs(1) {
            return;
        }
        late += 1;
    }
    panic!("the second config came into force late, {late} times:\n{}", musterd.log());
}

/// From its first line on; the processes that read and write files for it hear none.
#[test]
fn signals_before_it_is_ready_do_not_end_it() {
    let mut lab = Lab::new();
    let server = lab.server(SERVER);
    let run = lab.dir().join("run");
    let config = lab.dir().join("muster.toml");
    std::fs::create_dir(&run).expect("a folder");
    write(&config, b"");
    let mut command = server.command(MUSTERD);
    command.args(["-f", "-i", "eth0", "-c", path(&config), "-r", path(lab.dir())]);
    command.args(["--run-dir", path(&run), "--state-dir", path(&run.join("state"))]);
    let log = lab.dir().join("log");
    let mut child = command.stderr(std::fs::File::create(&log).expect("a log")).spawn().expect("start musterd");
    let pid = child.id();
    let children = || text(Path::new(&format!("/proc/{pid}/task/{pid}/children")));
    // What starts it (ip, setpriv) has no children; the first one is a file process, forked by its first lines.
    let mut signals = 0;
    let ready = wait(20, || {
        let begin = std::time::Instant::now();
        while begin.elapsed() < Duration::from_millis(20) {
            let all = children();
            let parent = if all.is_empty() { None } else { Some(pid as i32) };
            for pid in all.split_whitespace().filter_map(|pid| pid.parse().ok()).chain(parent) {
                for signal in [Signal::SIGHUP, Signal::SIGUSR1] {
                    signals += i32::from(kill(Pid::from_raw(pid), signal).is_ok());
                }
            }
        }
        text(&log).contains("musterd: ready").then_some(())
    });
    assert!(ready.is_some() && signals > 20, "{signals} signals:\n{}", text(&log));
    assert!(wait(10, || text(&log).contains("config: reloaded").then_some(())).is_some(), "it does what they ask for:\n{}", text(&log));
    assert_eq!((child.try_wait().expect("a child of ours"), children().split_whitespace().count()), (None, 8), "{}", text(&log));
    stop(&mut child, Signal::SIGTERM);
}
