//! The journal: its folder can be written by the daemon's user, its disk is fast enough and has room, and what is in it can be read back. The disk
//! is tried with a file of its own, which is removed again.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::statvfs::{FsFlags, statvfs};
use serde::{Deserialize, Serialize};

use muster::roll::journal::{self, Check};
use muster::shell::aside::{self, Aside};

use super::finding::{Diagnosis, Finding, Severity};
use super::site::{Eyes, PATIENCE, Site};

const CHECK: &str = "journal";
const TRIED: &str = "journal.doctor";
/// Records that are synced, one by one.
const SYNCS: usize = 5;
/// As many of them as fit into this time.
const ENOUGH: Duration = Duration::from_secs(2);
const RECORD: [u8; 128] = [b'#'; 128];
/// A storm waits for each sync.
const SLOW: Duration = Duration::from_millis(100);
const ROOM_MIN: u64 = 64 << 20;
const LINES_MAX: u64 = 64 << 20;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct DiskLook {
    /// What failed, and its errno.
    failed: Option<(String, i32)>,
    /// There is no such folder.
    missing: bool,
    /// What an append takes with its sync, in microseconds: the middle one, for others use the disk too.
    usual: u64,
    /// And the longest.
    slowest: u64,
    /// Free bytes.
    room: u64,
    read_only: bool,
    /// The first line of the journal that is damaged, and how.
    damaged: Option<(usize, String)>,
    lines: usize,
}

pub fn check(site: &Site, found: &mut Diagnosis) {
    let (eyes, folder) = (site.eyes(), &site.state_dir);
    if let Eyes::Foreign(why) = &eyes {
        return found.look(CHECK, format!("not tried: {why}"), "run as root");
    }
    let (looked, who) = (aside::look(eyes.account(), PATIENCE, || look(folder)), eyes.name());
    match looked {
        Ok(Aside::Found(look)) => found.add(judge(folder, &look, &who, site.daemon.is_some())),
        Ok(Aside::Hangs) => {
            let what = format!("the disk of {} has not taken a record in {} s", folder.display(), PATIENCE.as_secs());
            found.broken(
                CHECK,
                what,
                "no machine gets a number or a new lease until it does: look at that disk, or choose another with state-dir",
            );
        }
        Err(why) => found.look(CHECK, format!("could not look: {why}"), "run as root"),
    }
}

fn look(folder: &Path) -> DiskLook {
    let mut look = DiskLook::default();
    if !folder.is_dir() && fs::metadata(folder).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return DiskLook { missing: true, ..look };
    }
    if let Ok(disk) = statvfs(folder) {
        look.room = disk.blocks_available() * disk.fragment_size();
        look.read_only = disk.flags().contains(FsFlags::ST_RDONLY);
    }
    let path = folder.join(TRIED);
    // One that was left behind.
    let _ = fs::remove_file(&path);
    let (mut took, began) = (Vec::new(), Instant::now());
    let tried = (|| {
        let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
        while took.len() < SYNCS && began.elapsed() < ENOUGH {
            let begin = Instant::now();
            file.write_all(&RECORD)?;
            file.sync_data()?;
            took.push(begin.elapsed().as_micros() as u64);
        }
        Ok::<(), std::io::Error>(())
    })();
    let _ = fs::remove_file(&path);
    took.sort_unstable();
    look.usual = took.get(took.len() / 2).copied().unwrap_or(0);
    look.slowest = took.last().copied().unwrap_or(0);
    let own = folder.join("journal");
    let opened = tried.map_err(|error| ("make a file in", error)).and_then(|()| match OpenOptions::new().append(true).open(&own) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(("write to journal in", error)),
        _ => Ok(()),
    });
    look.failed = opened.err().map(|(what, error)| (what.to_string(), error.raw_os_error().unwrap_or(libc::EIO)));
    if let Ok(file) = File::open(&own) {
        (look.lines, look.damaged) = read(file);
    }
    look
}

/// How many lines there are, and the first damaged one: the last may be incomplete.
fn read(file: File) -> (usize, Option<(usize, String)>) {
    let mut bytes = Vec::new();
    if file.take(LINES_MAX).read_to_end(&mut bytes).is_err() {
        return (0, None);
    }
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let text = String::from_utf8_lossy(bytes.get(..whole).unwrap_or_default()).into_owned();
    let damage = |line: &str| match journal::check(line) {
        Check::Bad => Some("its checksum is wrong".to_string()),
        Check::Good | Check::HandWritten => journal::read(line, |_, _| Ok(())).err(),
    };
    let damaged = (1..).zip(text.lines()).find_map(|(at, line)| damage(line).map(|why| (at, why)));
    (text.lines().count(), damaged)
}

fn judge(folder: &Path, look: &DiskLook, who: &str, runs: bool) -> Finding {
    let new = |verdict, what: String| Finding::new(CHECK, verdict, what);
    let path = folder.display();
    const WITHOUT: &str = "known nodes boot, and new machines wait";
    if look.missing && !runs {
        return match folder.parent().is_some_and(Path::is_dir) {
            true => new(Severity::Fine, format!("{path} is not there yet: musterd makes it")),
            false => new(Severity::Broken, format!("neither {path} nor the folder above it is there")).remedy(format!("mkdir -p {path}")),
        };
    }
    if look.missing {
        return new(Severity::Broken, format!("{path} was removed: {WITHOUT}")).remedy("make it again, for the user of musterd");
    }
    if let Some((line, why)) = &look.damaged {
        return new(Severity::Broken, format!("line {line} of {path}/journal is damaged ({why}), and musterd does not start with it"))
            .remedy("mend or remove that line, or put back a copy of the file: see THE JOURNAL in musterd(8)");
    }
    if look.read_only {
        return new(Severity::Broken, format!("the file system of {path} is read-only: {WITHOUT}"))
            .remedy("see dmesg for why; mount -o remount,rw");
    }
    if let Some((what, errno)) = &look.failed {
        let remedy = match *errno {
            libc::EACCES | libc::EPERM => format!("chown -R {who}: {path}"),
            libc::ENOSPC | libc::EDQUOT => "make room on that disk".into(),
            _ => "look at that disk, or choose another with state-dir".into(),
        };
        let why = std::io::Error::from_raw_os_error(*errno);
        // Started by root, it takes the folder over first.
        let verdict = if *errno == libc::EACCES && !runs { Severity::Look } else { Severity::Broken };
        return new(verdict, format!("{who} cannot {what} {path}: {why}; {WITHOUT}")).remedy(remedy);
    }
    let millis = |micros: u64| format!("{:.1} ms", micros as f64 / 1000.0);
    let speed = format!("{} (at worst {})", millis(look.usual), millis(look.slowest));
    if Duration::from_micros(look.usual) > SLOW {
        return new(Severity::Look, format!("a record takes {speed} to be on disk in {path}, and each new machine waits for one"))
            .remedy("choose a faster disk with state-dir");
    }
    if look.room < ROOM_MIN {
        return new(Severity::Look, format!("{} MiB are free on the disk of {path}", look.room >> 20)).remedy("make room on that disk");
    }
    new(Severity::Fine, format!("{who} can write to {path}, a record takes {speed}; {} lines, all sound", look.lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> DiskLook {
        DiskLook { usual: 400, slowest: 1200, room: 1 << 30, lines: 3, ..DiskLook::default() }
    }

    #[test]
    fn each_fault_has_its_verdict() {
        let judged = |look: DiskLook| judge(Path::new("/tmp/journal-folder"), &look, "muster", true).line();
        assert_eq!(
            judged(good()),
            "fine   journal: muster can write to /tmp/journal-folder, a record takes 0.4 ms (at worst 1.2 ms); 3 lines, all sound"
        );
        assert!(judged(DiskLook { usual: 350_000, ..good() }).starts_with("look   journal: a record takes 350.0 ms"));
        assert!(judged(DiskLook { room: 1 << 20, ..good() }).starts_with("look   journal: 1 MiB are free"));
        assert!(judged(DiskLook { damaged: Some((7, "x".into())), ..good() }).starts_with("broken journal: line 7 of"));
        assert!(judged(DiskLook { read_only: true, ..good() }).contains("is read-only"));
        let denied = DiskLook { failed: Some(("make a file in".into(), libc::EACCES)), ..good() };
        assert!(judged(denied).contains("muster cannot make a file in /tmp/journal-folder: Permission denied"));
        let full = DiskLook { failed: Some(("make a file in".into(), libc::ENOSPC)), ..good() };
        assert!(judged(full).ends_with("(make room on that disk)"));
        let missing = DiskLook { missing: true, ..good() };
        assert!(judged(missing.clone()).contains("was removed"));
        assert_eq!(judge(Path::new("/tmp/not-yet"), &missing, "muster", false).verdict, Severity::Fine);
        assert_eq!(judge(Path::new("/no/such/folder"), &missing, "muster", false).verdict, Severity::Broken);
    }

    #[test]
    fn a_folder_is_tried_and_left_as_it_was() {
        let folder = std::env::temp_dir().join(format!("muster-doctor-{}", std::process::id()));
        assert!(look(&folder).missing);
        fs::create_dir_all(&folder).unwrap();
        let good = "# a remark\n2026-11-23T15:43:00Z n23 up ~23dac4ed\n";
        fs::write(folder.join("journal"), format!("{good}incomplete")).unwrap();
        let found = look(&folder);
        assert_eq!((found.failed, found.lines, found.damaged), (None, 2, None));
        for bad in ["2026-11-23T15:43:00Z n24 up ~23dac4ed\n", "n23 up\n"] {
            fs::write(folder.join("journal"), format!("{good}{bad}")).unwrap();
            assert_eq!(look(&folder).damaged.map(|(line, _)| line), Some(3), "{bad}");
        }
        assert!(found.slowest > 0 && found.room > 0);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }
}
