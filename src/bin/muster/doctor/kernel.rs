//! The kernel and the machine: clock, limits that a cluster exceeds, and what security modules have refused.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

use muster::config::{Config, Hardware};
use muster::shell::{facts, is_synchronized};

use super::finding::{Diagnosis, Finding, Severity};
use super::site::Site;

/// 2025-01-01: no clock that is right is behind it.
const BUILT: u64 = 1_735_689_600;
/// CAP_NET_ADMIN of `linux/capability.h`: it sets buffers beyond the limit.
const CAP_NET_ADMIN: u32 = 12;
/// What each socket of a boot interface asks for.
const RECEIVE_BUFFER: u64 = 4 << 20;
/// Of a log, only the end is read.
const LOG_MAX: u64 = 512 << 10;
/// Refusals that are shown.
const SHOWN: usize = 3;

pub fn check_clock(found: &mut Diagnosis) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    found.add(clock(now, is_synchronized().ok()));
}

fn clock(now: u64, synchronized: Option<bool>) -> Finding {
    let new = |verdict, what: &str| Finding::new("clock", verdict, what);
    match (now < BUILT, synchronized) {
        (true, _) => new(Severity::Look, "it is wrong by years: logs and leases of nodes that ask it for the time are off")
            .remedy("set it (date -s), and have it kept by NTP"),
        (false, Some(false)) => new(Severity::Look, "nobody keeps it right").remedy("run chrony, ntpd or systemd-timesyncd"),
        (false, Some(true)) => new(Severity::Fine, "is synchronized"),
        (false, None) => new(Severity::Fine, "is of this year; the kernel does not tell whether it is synchronized"),
    }
}

/// What the kernel is set to, as far as it matters here.
#[derive(Clone, Debug, Default)]
struct Settings {
    gc_thresh3: Option<u64>,
    rmem_max: Option<u64>,
    /// Of each boot interface: the stricter of its own and that of all.
    rp_filter: Vec<(String, u64)>,
    /// The daemon may exceed limits of buffers.
    privileged: bool,
}

pub fn check_settings(site: &Site, config: &Config, found: &mut Diagnosis) {
    let number = |path: &str| fs::read_to_string(format!("/proc/sys/net/{path}")).ok()?.trim().parse::<u64>().ok();
    let filter = |name: &str| number("ipv4/conf/all/rp_filter").max(number(&format!("ipv4/conf/{name}/rp_filter")));
    let settings = Settings {
        gc_thresh3: facts::gc_thresh3(),
        rmem_max: number("core/rmem_max"),
        rp_filter: config.links.iter().filter_map(|link| Some((link.interface.clone(), filter(&link.interface)?))).collect(),
        privileged: site.daemon.as_ref().is_none_or(|daemon| daemon.capabilities >> CAP_NET_ADMIN & 1 == 1),
    };
    judge(&settings, config, found);
}

fn judge(settings: &Settings, config: &Config, found: &mut Diagnosis) {
    const CHECK: &str = "kernel";
    let machines = config
        .plan
        .pieces()
        .iter()
        .map(|piece| u64::from(piece.last.0 - piece.first.0) + 1)
        .sum::<u64>()
        .min(config.server.capacity as u64);
    let mut clear = true;
    // Entries of machines with leases are permanent and do not count; those of a node that has booted and talks to the head do when its lease has ended.
    if let Some(limit) = settings.gc_thresh3.filter(|limit| *limit < machines) {
        clear = false;
        let what = format!(
            "net.ipv4.neigh.default.gc_thresh3 is {limit}, and there may be {machines} machines: the head loses some of them when all talk to it"
        );
        found.look(CHECK, what, format!("sysctl -w net.ipv4.neigh.default.gc_thresh3={}", (2 * machines).next_power_of_two()));
    }
    if let Some(limit) = settings.rmem_max.filter(|limit| *limit < RECEIVE_BUFFER && !settings.privileged) {
        clear = false;
        let what = format!("net.core.rmem_max is {limit}, and musterd may not exceed it: a storm of requests overflows its sockets");
        found.look(CHECK, what, format!("sysctl -w net.core.rmem_max={}, or give musterd CAP_NET_ADMIN", 2 * RECEIVE_BUFFER));
    }
    let relayed = config.networks.iter().any(|network| network.link.is_none());
    let by_sockets = |interface: &str| {
        config.dns.enabled || config.links.iter().any(|link| link.interface == interface && link.hardware == Hardware::Infiniband)
    };
    for (interface, _) in settings.rp_filter.iter().filter(|(interface, strict)| *strict == 1 && relayed && by_sockets(interface)) {
        clear = false;
        let what = format!(
            "rp_filter is 1: packets of networks behind relays are dropped where the way back leaves by another interface than {interface}"
        );
        found.add(
            Finding::new(CHECK, Severity::Look, what).on(interface).remedy(format!("sysctl -w net.ipv4.conf.{interface}.rp_filter=2")),
        );
    }
    if clear {
        let limit = settings
            .gc_thresh3
            .map_or("the limit of neighbours cannot be read here".into(), |limit| format!("room for {limit} neighbours"));
        found.fine(CHECK, format!("{limit}; receive buffers of its own size"));
    }
}

/// Looks for refusals of SELinux and AppArmor in the audit log, else in the kernel's.
pub fn check_denials(found: &mut Diagnosis) {
    let texts = [("/var/log/audit/audit.log", tail("/var/log/audit/audit.log")), ("the kernel's log", kernel_log())];
    let read: Vec<(&str, String)> = texts.into_iter().filter_map(|(name, text)| Some((name, text?))).collect();
    found.add(denials(&read, enforcing()));
}

/// Which module decides here, if one does.
fn enforcing() -> Option<&'static str> {
    let selinux = fs::read_to_string("/sys/fs/selinux/enforce").is_ok_and(|text| text.trim() == "1");
    let apparmor = fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.trim() == "Y");
    selinux.then_some("SELinux").or(apparmor.then_some("AppArmor"))
}

fn tail(path: &str) -> Option<String> {
    let mut file = fs::File::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(LOG_MAX))).ok()?;
    let mut bytes = Vec::new();
    file.take(LOG_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What is in the kernel's ring: a record a read, until there is no more.
fn kernel_log() -> Option<String> {
    let mut file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").ok()?;
    let (mut text, mut record) = (String::new(), [0; 8192]);
    while (text.len() as u64) < 16 * LOG_MAX {
        match file.read(&mut record) {
            Ok(len) if len > 0 => text.push_str(&String::from_utf8_lossy(record.get(..len).unwrap_or_default())),
            // It was overwritten while it was read: the next one follows.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            _ => break,
        }
    }
    Some(text)
}

fn denials(texts: &[(&str, String)], enforcing: Option<&str>) -> Finding {
    let new = |verdict, what: String| Finding::new("denials", verdict, what);
    let ours = |line: &&str| {
        let refused = line.contains("avc:  denied")
            || line.contains("apparmor=\"DENIED\"")
            || line.contains("type=SECCOMP")
            || line.contains("type=1326");
        refused && ["comm=\"musterd", "/musterd\"", "profile=\"muster"].iter().any(|word| line.contains(word))
    };
    for (name, text) in texts {
        let lines: Vec<&str> = text.lines().filter(ours).collect();
        let Some(last) = lines.last() else { continue };
        let shown: Vec<&str> =
            lines.iter().rev().take(SHOWN).map(|line| line.split_once("denied").map_or(*line, |(_, rest)| rest.trim())).collect();
        let module = if last.contains("apparmor") {
            "AppArmor"
        } else if last.contains("avc:") {
            "SELinux"
        } else {
            "seccomp"
        };
        let remedy = match module {
            "SELinux" => "restorecon -R the boot root and /var/lib/muster; ausearch -m avc -c musterd shows all",
            "AppArmor" => "allow it in the profile, then apparmor_parser -r it",
            _ => "report it: musterd has made a system call that is not on its list",
        };
        return new(Severity::Look, format!("{module} has refused musterd {} times ({name}): {}", lines.len(), shown.join(" | ")))
            .remedy(remedy);
    }
    match (texts, enforcing) {
        ([], Some(module)) => new(Severity::Look, format!("{module} decides here, and neither the audit log nor the kernel's can be read"))
            .remedy("run as root"),
        ([], None) => new(Severity::Fine, "no log can be read, and no security module decides here".into()),
        (_, module) => new(
            Severity::Fine,
            format!(
                "none of musterd in {}{}",
                texts.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" or "),
                module.map(|module| format!("; {module} is enforcing")).unwrap_or_default()
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster::base::addr::Mac;
    use muster::config::{LinkConfig, Network};
    use muster::roll::plan::{AddressPlan, Subnet};

    #[test]
    fn clocks() {
        let verdict = |now, synchronized| clock(now, synchronized).verdict;
        assert_eq!([verdict(0, Some(true)), verdict(BUILT, Some(false))], [Severity::Look; 2]);
        assert_eq!([verdict(BUILT, Some(true)), verdict(BUILT, None)], [Severity::Fine; 2]);
    }

    #[test]
    fn limits_that_a_cluster_exceeds() {
        let head = [10, 54, 0, 1].into();
        let link = LinkConfig::plain("eth1", 3, Mac([2, 0, 0, 0, 0, 1]), head);
        let own = Network::plain(Subnet::of(head, 16), Some(0));
        let mut config = Config::plain(AddressPlan::new([10, 54, 1, 0].into(), 2048), vec![link], vec![own]);
        config.dns.enabled = true;
        let judged = |settings: Settings, config: &Config| {
            let mut found = Diagnosis::default();
            judge(&settings, config, &mut found);
            found.0.iter().map(Finding::line).collect::<Vec<_>>()
        };
        let usual = Settings { gc_thresh3: Some(1024), rmem_max: Some(212_992), rp_filter: vec![("eth1".into(), 1)], privileged: true };
        let lines = judged(usual.clone(), &config);
        assert!(lines.len() == 1 && lines[0].contains("gc_thresh3 is 1024, and there may be 2048"), "{lines:?}");
        assert!(lines[0].ends_with("gc_thresh3=4096)"), "{lines:?}");
        let poor = Settings { gc_thresh3: Some(4096), privileged: false, ..usual.clone() };
        assert!(judged(poor, &config)[0].contains("rmem_max is 212992"));
        let enough = Settings { gc_thresh3: Some(4096), ..usual };
        assert!(judged(enough.clone(), &config)[0].starts_with("fine   kernel: room for 4096"));
        config.networks.push(Network::plain(Subnet::of([10, 55, 0, 1].into(), 16), None));
        assert!(judged(enough, &config)[0].starts_with("look   kernel eth1: rp_filter is 1"));
    }

    #[test]
    fn refusals_in_real_logs() {
        let selinux = "type=AVC msg=audit(1732740000.123:456): avc:  denied  { read } for  pid=812 comm=\"musterd\" name=\"vmlinuz\" dev=\"dm-0\" ino=77 scontext=system_u:system_r:init_t:s0 tcontext=unconfined_u:object_r:user_home_t:s0 tclass=file permissive=0\ntype=AVC msg=audit(1732740000.123:457): avc:  denied  { read } for  pid=1 comm=\"sshd\"\n";
        let apparmor = "5,1234,5678,-;audit: type=1400 audit(1732740000.1:77): apparmor=\"DENIED\" operation=\"open\" profile=\"muster\" name=\"/srv/tftp/vmlinuz\" pid=812 comm=\"musterd\" requested_mask=\"r\" denied_mask=\"r\" fsuid=998 ouid=0\n";
        let seccomp = "type=SECCOMP msg=audit(1732740000.1:9): auid=4294967295 uid=998 pid=812 comm=\"musterd\" exe=\"/usr/sbin/musterd\" sig=0 arch=c000003e syscall=41\n";
        for (text, words) in
            [(selinux, "SELinux has refused musterd 1 times"), (apparmor, "AppArmor has refused"), (seccomp, "seccomp has refused")]
        {
            let finding = denials(&[("a log", text.into())], None);
            assert!(finding.verdict == Severity::Look && finding.what.contains(words), "{finding:?}");
        }
        assert_eq!(denials(&[("a log", "nothing".into())], Some("SELinux")).verdict, Severity::Fine);
        assert_eq!((denials(&[], Some("SELinux")).verdict, denials(&[], None).verdict), (Severity::Look, Severity::Fine));
    }
}
