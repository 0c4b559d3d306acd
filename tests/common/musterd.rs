//! A running `musterd`, and what can be seen of it from outside.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use super::{Host, pid, stop, tail, wait};

/// How long it may take to be ready: 50 ms are its promise, the rest is for a machine that is busy with other tests.
const READY_SECONDS: u64 = 20;

/// The daemon in the foreground of a host. It is told to leave when this is dropped; its log is shown when a test fails.
pub struct Musterd {
    child: Child,
    run_dir: PathBuf,
    lines: Arc<Mutex<Vec<(Instant, String)>>>,
    /// Its log is not read while this is set.
    deaf: Arc<AtomicBool>,
}

impl Musterd {
    /// Without a config file: on the host's `eth0`, with the boot files in `root`.
    pub fn plain(host: &Host, root: &Path) -> Self {
        Self::start(host, root, None, None)
    }

    /// With a config, which is written to `muster.toml` in the lab's folder.
    pub fn configured(host: &Host, root: &Path, config: &str) -> Self {
        Self::keeping(host, root, config, &host.dir.join("run/state"))
    }

    /// With a config, and its journal in this folder.
    pub fn keeping(host: &Host, root: &Path, config: &str, state: &Path) -> Self {
        let path = config_path(host);
        fs::write(&path, config).expect("write the config");
        Self::start(host, root, Some(&path), Some(state))
    }

    /// The same, with its process made ready by the caller.
    pub fn prepared(host: &Host, root: &Path, config: &str, state: &Path, prepare: impl FnOnce(&mut Command)) -> Self {
        let path = config_path(host);
        fs::write(&path, config).expect("write the config");
        Self::start_with((host, &host.dir.join("run")), root, Some(&path), Some(state), prepare)
    }

    /// With a config, and its run folder in this one, which lies on a tmpfs as `/run` does; its journal outlives that.
    pub fn in_memory(host: &Host, root: &Path, config: &str, run_dir: &Path) -> Self {
        let path = config_path(host);
        fs::write(&path, config).expect("write the config");
        Self::start_with((host, run_dir), root, Some(&path), Some(&host.dir.join("state")), |_| {})
    }

    fn start(host: &Host, root: &Path, config: Option<&Path>, state: Option<&Path>) -> Self {
        Self::start_with((host, &host.dir.join("run")), root, config, state, |_| {})
    }

    fn start_with(
        (host, run_dir): (&Host, &Path),
        root: &Path,
        config: Option<&Path>,
        state: Option<&Path>,
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        let run_dir = run_dir.to_path_buf();
        fs::create_dir_all(&run_dir).expect("a run folder");
        // A config that the host may have is hidden: without -c a test means "without a config".
        let mut command = host.command("sh");
        command.args(["-ec", "if [ -d /etc/muster ]; then mount -t tmpfs none /etc/muster; fi; exec \"$@\"", "sh", binary()]);
        command.args(["-d", "-i", "eth0", "-r"]).arg(root).arg("--run-dir").arg(&run_dir);
        command.arg("--state-dir").arg(state.map_or_else(|| run_dir.join("state"), Path::to_path_buf));
        if let Some(path) = config {
            command.arg("-c").arg(path);
        }
        prepare(&mut command);
        let mut daemon = Self::spawn(run_dir, command);
        let ready = wait(READY_SECONDS, || daemon.seen("musterd: ready").map(|_| true).or_else(|| daemon.ended().then_some(false)));
        assert_eq!(ready, Some(true), "musterd did not get ready");
        daemon
    }

    /// With these flags alone, and not waited for.
    pub fn begun(host: &Host, flags: &str) -> Self {
        let run_dir = host.dir.join("run");
        fs::create_dir_all(&run_dir).expect("a run folder");
        let mut command = host.command(binary());
        command.arg("-d").args(flags.split(' ')).arg("--run-dir").arg(&run_dir).arg("--state-dir").arg(run_dir.join("state"));
        Self::spawn(run_dir, command)
    }

    fn spawn(run_dir: PathBuf, mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("start musterd");
        let stderr = child.stderr.take().expect("its standard error is piped");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let deaf = Arc::new(AtomicBool::new(false));
        let (sink, waits) = (Arc::clone(&lines), Arc::clone(&deaf));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                while waits.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_millis(10));
                }
                sink.lock().expect("no reader panics").push((Instant::now(), String::from_utf8_lossy(&line).into_owned()));
            }
        });
        Self { child, run_dir, lines, deaf }
    }

    /// Writes another config where the first one was; [`Self::signal`] with SIGHUP makes it known.
    pub fn reconfigure(host: &Host, config: &str) {
        fs::write(config_path(host), config).expect("write the config");
    }

    /// Whether nobody reads what it logs, from now on.
    pub fn ignore(&self, ignored: bool) {
        self.deaf.store(ignored, Ordering::Relaxed);
    }

    pub fn log(&self) -> String {
        let lines = self.lines.lock().expect("no writer panics");
        lines.iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>().join("\n")
    }

    /// When the first line that contains all the words arrived, and that line.
    pub fn seen_all(&self, words: &[&str]) -> Option<(Instant, String)> {
        let lines = self.lines.lock().expect("no writer panics");
        lines.iter().find(|(_, line)| words.iter().all(|word| line.contains(word))).cloned()
    }

    pub fn seen(&self, word: &str) -> Option<(Instant, String)> {
        self.seen_all(&[word])
    }

    /// The line with this word, which may come a moment after what it tells of.
    pub fn says(&self, word: &str) -> Option<(Instant, String)> {
        wait(10, || self.seen(word))
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("the descriptors of a running musterd").count()
    }

    /// Ends it at once: it writes nothing any more.
    pub fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        self.child.wait().expect("wait for a child of ours");
    }

    pub fn signal(&self, signal: Signal) {
        kill(pid(&self.child), signal).expect("musterd runs");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// Its file processes: their ids, and what they are called.
    pub fn workers(&self) -> Vec<(i32, String)> {
        let pid = self.child.id();
        let children = super::text(Path::new(&format!("/proc/{pid}/task/{pid}/children")));
        let named = |pid: i32| (pid, super::text(Path::new(&format!("/proc/{pid}/comm"))).trim().to_string());
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).map(named).collect()
    }

    /// How it ended, if it has.
    pub fn code(&mut self) -> Option<Option<i32>> {
        self.child.try_wait().expect("wait for a child of ours").map(|status| status.code())
    }

    pub fn ended(&mut self) -> bool {
        self.child.try_wait().expect("wait for a child of ours").is_some()
    }
}

impl Drop for Musterd {
    fn drop(&mut self) {
        stop(&mut self.child, Signal::SIGTERM);
        if std::thread::panicking() {
            eprintln!("---- the end of musterd's log:\n{}\n----", tail(&self.log(), 60));
        }
    }
}

fn config_path(host: &Host) -> PathBuf {
    host.dir.join("muster.toml")
}

fn binary() -> &'static str {
    env!("CARGO_BIN_EXE_musterd")
}
