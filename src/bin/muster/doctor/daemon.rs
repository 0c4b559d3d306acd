//! The daemon itself, and the unit that starts it.

use std::path::Path;
use std::time::{Duration, Instant};

use muster::shell::confine::account::name_of;
use muster::wire::control::{Reply, Request};

use super::super::Failure;
use super::super::client::ControlClient;
use super::super::table::seconds;
use super::finding::{Diagnosis, Finding, Severity};
use super::program::{self, Ran};
use super::site::{RunningDaemon, Site};

const LOG: &str = "its log says why: journalctl -u muster, or musterd -d in the foreground";
/// It answers in milliseconds.
const SLOW: Duration = Duration::from_secs(1);

/// What its socket said.
enum Answered {
    Status { version: String, uptime: u64, took: Duration },
    NotAllowed(String),
    Nothing(String),
}

fn ask(socket: &Path) -> Answered {
    let begin = Instant::now();
    let answer = ControlClient::connect(socket).and_then(|mut client| client.ask(&Request::Status));
    match answer {
        Ok(Reply::Status(status)) => Answered::Status { version: status.version, uptime: status.uptime, took: begin.elapsed() },
        Ok(other) => Answered::Nothing(format!("an unexpected answer: {other:?}")),
        Err(Failure::Failed(why)) if why.starts_with("you may not") || why.contains("may not operate") => Answered::NotAllowed(why),
        Err(Failure::Failed(why) | Failure::NoDaemon(why) | Failure::Usage(why) | Failure::Unconfirmed(why)) => Answered::Nothing(why),
        Err(Failure::Seen | Failure::Ill(_)) => Answered::Nothing("nothing".into()),
    }
}

/// Looks at the daemon; true: it runs.
pub fn check(site: &Site, socket: Option<&Path>, found: &mut Diagnosis) -> bool {
    let usual = site.run_dir.join("control.sock");
    let socket = socket.unwrap_or(&usual);
    found.add(judge(site.daemon.as_ref(), &ask(socket), (socket, &site.run_dir), site.awaits()));
    if let Some(user) = site.lacks_user() {
        found.broken("daemon", format!("there is no user {user}, as whom it is to run"), format!("useradd --system --user-group {user}"));
    }
    site.daemon.is_some()
}

fn judge(daemon: Option<&RunningDaemon>, answered: &Answered, (socket, run_dir): (&Path, &Path), awaits: bool) -> Finding {
    let new = |verdict, what: String| Finding::new("daemon", verdict, what);
    let who = daemon.map(|daemon| format!("runs as {}, pid {}", name_of(Some(daemon.uid)), daemon.pid));
    match (who, answered) {
        (who, Answered::Status { version, uptime, took }) => {
            let who = who.unwrap_or_else(|| "runs".into());
            let what = format!("{who}, up {}, musterd {version}, answers in {} ms", seconds(*uptime), took.as_millis());
            if version.as_str() != env!("CARGO_PKG_VERSION") {
                return new(Severity::Look, what)
                    .remedy("this is another version of muster: restart musterd to use the one that is installed");
            }
            match *took > SLOW {
                true => new(Severity::Look, what).remedy("it is slow to answer: look at the load of this machine (top)"),
                false => new(Severity::Fine, what),
            }
        }
        (Some(who), Answered::NotAllowed(why)) => new(Severity::Look, format!("{who}; {why}")),
        (None, Answered::NotAllowed(why)) => new(Severity::Look, why.clone()),
        (Some(who), Answered::Nothing(_)) if awaits => {
            new(Severity::Look, format!("{who}, and waits for an interface")).remedy("see the lines of config and interface")
        }
        (Some(who), Answered::Nothing(why)) => new(Severity::Broken, format!("{who}, but does not answer: {why}"))
            .remedy(format!("kill -HUP makes its socket {} again; {LOG}", socket.display())),
        (None, Answered::Nothing(_)) => {
            new(Severity::Broken, format!("does not run: {} names no process", run_dir.join("musterd.pid").display()))
                .remedy(format!("systemctl enable --now muster, or /etc/init.d/muster start; {LOG}"))
        }
    }
}

/// Looks at the unit, where systemd runs.
pub fn check_unit(runs: bool, unconfigured: bool, found: &mut Diagnosis) {
    if !Path::new("/run/systemd/system").is_dir() {
        return found.fine("unit", "not looked at: systemd does not run here");
    }
    const SHOWN: &str = "LoadState,ActiveState,SubState,UnitFileState,Result,NRestarts,ExecMainStatus";
    match program::run("systemctl", &["show", "muster.service", "--property", SHOWN]) {
        Ran::Missing => found.fine("unit", "not looked at: there is no systemctl"),
        Ran::Failed(why) => found.look("unit", format!("systemctl cannot tell: {why}"), "systemctl status muster"),
        Ran::Done(shown) => {
            let mut finding = unit(&shown, runs, unconfigured);
            if finding.verdict == Severity::Broken {
                finding.what.push_str(&last_words().map(|said| format!("; it said last: {said}")).unwrap_or_default());
            }
            found.add(finding);
        }
    }
}

/// Why it would not start, by the journal of systemd.
fn last_words() -> Option<String> {
    let Ran::Done(log) = program::run("journalctl", &["--unit=muster.service", "--lines=50", "--output=cat", "--no-pager"]) else {
        return None;
    };
    said(&log).map(str::to_string)
}

/// The last line that musterd itself ends with. systemd's own name the unit.
fn said(log: &str) -> Option<&str> {
    let line = log.lines().rev().find(|line| line.starts_with("musterd: ") || line.contains(" error "))?;
    Some(line.trim())
}

/// The verdict on what `systemctl show` tells. `runs`: a daemon runs, by this unit or not.
fn unit(shown: &str, runs: bool, unconfigured: bool) -> Finding {
    let of = |key: &str| shown.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default();
    let new = |verdict, what: String| Finding::new("unit", verdict, what);
    let (active, sub, enabled, result) = (of("ActiveState"), of("SubState"), of("UnitFileState"), of("Result"));
    let (restarts, status) = (of("NRestarts"), of("ExecMainStatus"));
    let state = format!("muster.service is {active} ({sub}), {}", if enabled.is_empty() { "no unit file" } else { enabled });
    match of("LoadState") {
        "not-found" if runs => {
            return new(Severity::Look, "there is no muster.service: nothing starts musterd at boot".into()).remedy("install the package");
        }
        "not-found" => return new(Severity::Broken, "there is no muster.service".into()).remedy("install the package"),
        "masked" => {
            return new(Severity::Broken, "muster.service is masked".into())
                .remedy("systemctl unmask muster; systemctl enable --now muster");
        }
        "loaded" => {}
        other => {
            return new(Severity::Broken, format!("muster.service cannot be loaded ({other})"))
                .remedy("systemd-analyze verify muster.service");
        }
    }
    if unconfigured && !runs {
        return new(Severity::Broken, format!("{state}; it starts nothing before an interface is named"))
            .remedy("write /etc/muster/muster.toml, or MUSTERD_OPTS=\"-i IF\" into /etc/default/muster (Debian) or /etc/sysconfig/muster");
    }
    match active {
        "active" | "reloading" if enabled == "disabled" => {
            new(Severity::Look, format!("{state}: it will not start at boot")).remedy("systemctl enable muster")
        }
        "active" | "reloading" => new(Severity::Fine, state),
        "activating" if sub.starts_with("auto-restart") => {
            new(Severity::Broken, format!("{state}: musterd ends with status {status} and was started again {restarts} times")).remedy(LOG)
        }
        "activating" => new(Severity::Look, format!("{state}: it is being started")).remedy("look again in a moment"),
        "failed" if result == "start-limit-hit" => {
            new(Severity::Broken, format!("{state}: it was started too often, and systemd refuses to try again"))
                .remedy("systemctl reset-failed muster; systemctl start muster")
        }
        "failed" => new(Severity::Broken, format!("{state}: {result}, musterd ended with status {status}")).remedy(LOG),
        _ if runs => new(Severity::Look, format!("{state}: the musterd that runs was not started by it"))
            .remedy("stop that one, then systemctl enable --now muster"),
        _ if result == "exec-condition" => {
            new(Severity::Broken, format!("{state}: not configured")).remedy("name an interface in /etc/muster/muster.toml")
        }
        _ => new(Severity::Broken, state).remedy("systemctl enable --now muster"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(load: &str, active: &str, sub: &str, enabled: &str, result: &str) -> String {
        format!(
            "LoadState={load}\nActiveState={active}\nSubState={sub}\nUnitFileState={enabled}\nResult={result}\nNRestarts=5\nExecMainStatus=1\n"
        )
    }

    #[test]
    fn units_in_every_state() {
        let cases = [
            (("loaded", "active", "running", "enabled", "success"), true, Severity::Fine, "active (running), enabled"),
            (("loaded", "active", "running", "disabled", "success"), true, Severity::Look, "will not start at boot"),
            (("loaded", "activating", "auto-restart", "enabled", "exit-code"), false, Severity::Broken, "started again 5 times"),
            (("loaded", "failed", "failed", "enabled", "start-limit-hit"), false, Severity::Broken, "refuses to try again"),
            (("loaded", "failed", "failed", "enabled", "exit-code"), false, Severity::Broken, "ended with status 1"),
            (("loaded", "inactive", "dead", "enabled", "exec-condition"), false, Severity::Broken, "not configured"),
            (("loaded", "inactive", "dead", "disabled", "success"), false, Severity::Broken, "inactive (dead), disabled"),
            (("loaded", "inactive", "dead", "disabled", "success"), true, Severity::Look, "was not started by it"),
            (("masked", "inactive", "dead", "masked", "success"), false, Severity::Broken, "is masked"),
            (("not-found", "inactive", "dead", "", "success"), false, Severity::Broken, "there is no muster.service"),
            (("bad-setting", "inactive", "dead", "enabled", "success"), false, Severity::Broken, "cannot be loaded (bad-setting)"),
        ];
        for ((load, active, sub, enabled, result), runs, verdict, words) in cases {
            let finding = unit(&shown(load, active, sub, enabled, result), runs, false);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert!(finding.what.contains(words), "{finding:?}");
            assert_eq!(finding.remedy.is_none(), verdict == Severity::Fine);
        }
        let finding = unit(&shown("loaded", "inactive", "dead", "enabled", "success"), false, true);
        assert!(finding.what.contains("before an interface is named"), "{finding:?}");
    }

    #[test]
    fn why_it_would_not_start() {
        let log = "Starting muster.service...\n    0.000 info  journal: opening it\nmusterd: cannot listen: stop it\nmuster.service: Failed with result 'exit-code'.\n";
        assert_eq!((said(log), said("Started muster.service.\n")), (Some("musterd: cannot listen: stop it"), None));
    }

    #[test]
    fn a_daemon_in_every_state() {
        let daemon = RunningDaemon::for_test(7, 0);
        let judged = |runs: bool, answered| {
            judge(runs.then_some(&daemon), &answered, (Path::new("/run/muster/control.sock"), Path::new("/run/muster")), false)
        };
        let status = |version: &str, millis| Answered::Status { version: version.into(), uptime: 60, took: Duration::from_millis(millis) };
        let own = env!("CARGO_PKG_VERSION");
        assert_eq!(
            judged(true, status(own, 2)).line(),
            format!("fine   daemon: runs as root, pid 7, up 1 min 0 s, musterd {own}, answers in 2 ms")
        );
        assert_eq!(judged(true, status(own, 2000)).verdict, Severity::Look);
        assert_eq!(judged(true, status("0.0.1", 2)).verdict, Severity::Look);
        assert_eq!(judged(true, Answered::Nothing("hangs".into())).verdict, Severity::Broken);
        assert_eq!(judged(true, Answered::NotAllowed("you may not".into())).verdict, Severity::Look);
        let paths = (Path::new("/run/muster/control.sock"), Path::new("/run/muster"));
        assert!(judge(Some(&daemon), &Answered::Nothing("no".into()), paths, true).what.ends_with("and waits for an interface"));
        let dead = judged(false, Answered::Nothing("no".into()));
        assert!(dead.verdict == Severity::Broken && dead.what.starts_with("does not run"), "{dead:?}");
    }
}
