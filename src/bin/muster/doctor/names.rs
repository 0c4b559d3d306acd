//! Names on the head itself: the name service switch, its module, and the file that the module reads.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use muster::config::Config;
use muster::roll::plan::{NamesFile, This};
use muster::shell::aside::{self, Aside};

use super::finding::{Diagnosis, Finding, Severity};
use super::site::{PATIENCE, Site};

const LIBRARY: &str = "libnss_muster.so.2";
/// Where the module looks, whatever the config says.
const NAMES: &str = "/var/lib/muster/names";

/// Looks at the switch, and at the module.
pub fn check_switch(found: &mut Diagnosis) {
    let switch = fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
    found.add(judge_switch(&switch, has_library()));
}

fn has_library() -> bool {
    // The loader's own list has each library that it finds in its folders.
    let listed = fs::read("/etc/ld.so.cache").is_ok_and(|bytes| bytes.windows(LIBRARY.len()).any(|window| window == LIBRARY.as_bytes()));
    let folders = ["/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib"];
    let beneath = |folder: &&str| {
        let direct = Path::new(folder).join(LIBRARY).exists();
        let inner = || {
            fs::read_dir(folder)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.to_string_lossy().ends_with("-linux-gnu"))
        };
        direct || inner().any(|path| path.join(LIBRARY).exists())
    };
    listed || folders.iter().any(beneath)
}

/// The verdict on `/etc/nsswitch.conf`.
fn judge_switch(switch: &str, library: bool) -> Finding {
    let new = |verdict, what: String| Finding::new("name service", verdict, what);
    let hosts = switch
        .lines()
        .map(|line| line.split('#').next().unwrap_or("").trim())
        .find_map(|line| line.strip_prefix("hosts:"))
        .unwrap_or("")
        .trim();
    let words: Vec<&str> = words(hosts);
    match (words.iter().position(|word| *word == "muster"), library) {
        (None, false) => new(Severity::Fine, "the module is not installed; names come by DNS alone".into()),
        (None, true) => new(Severity::Look, format!("the module is installed, and not asked: hosts: {hosts}"))
            .remedy("write muster behind files in the line hosts: of /etc/nsswitch.conf"),
        (Some(_), false) => new(Severity::Look, format!("/etc/nsswitch.conf asks muster, and there is no {LIBRARY}"))
            .remedy("install libnss-muster (DEB) or nss-muster (RPM), or run ldconfig"),
        (Some(at), true) => match words.get(..at).and_then(hidden_by) {
            Some(before) => new(Severity::Look, format!("muster is asked behind {before}: hosts: {hosts}"))
                .remedy("move muster behind files in /etc/nsswitch.conf"),
            None => new(Severity::Fine, format!("hosts: {hosts}")),
        },
    }
}

/// Services, and actions in brackets as one word each.
fn words(line: &str) -> Vec<&str> {
    let (mut words, mut rest) = (Vec::new(), line.trim());
    while !rest.is_empty() {
        let end = if rest.starts_with('[') {
            rest.find(']').map_or(rest.len(), |at| at + 1)
        } else {
            rest.find([' ', '\t', '[']).unwrap_or(rest.len())
        };
        let (word, more) = rest.split_at(end);
        words.push(word);
        rest = more.trim_start();
    }
    words
}

/// What stands before muster and keeps it from being asked, or has it asked late.
fn hidden_by(before: &[&str]) -> Option<String> {
    let mut service = "";
    for word in before {
        if !word.starts_with('[') {
            service = word;
            if matches!(service, "dns" | "ldap" | "sss" | "nis" | "wins") {
                return Some(format!("{service}, which asks a server for each name first"));
            }
            continue;
        }
        let action = word.to_uppercase().replace(' ', "");
        let ends = action.contains("RETURN") && (action.contains("NOTFOUND=") || action.contains('!')) && !action.contains("!NOTFOUND=");
        // mDNS answers so for names in .local alone.
        if ends && !service.starts_with("mdns") {
            return Some(format!("{service} {word}, which ends the search"));
        }
    }
    None
}

/// Looks at the file that the module reads.
pub fn check_file(site: &Site, config: &Config, found: &mut Diagnosis) {
    let path = site.state_dir.join("names");
    let looked = aside::look(None, PATIENCE, || {
        let open = fs::metadata(&path).is_ok_and(|found| found.permissions().mode() & 0o004 != 0) && all_may_pass(&path);
        (fs::read(&path).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO)), open)
    });
    let (read, open) = match looked {
        Ok(Aside::Found(found)) => found,
        Ok(Aside::Hangs) => {
            let what = format!("{} has not answered in {} s", path.display(), PATIENCE.as_secs());
            return found.look("names file", what, "every program that asks for a node's name waits for that disk: look at it");
        }
        Err(why) => return found.look("names file", format!("could not look: {why}"), "run as root"),
    };
    let wanted = NamesFile { plan: config.plan, head: config.head(), this: Some(This::Head) };
    found.add(judge_file(&path, read.as_deref().map_err(|errno| *errno), open, &wanted, site.daemon.is_some()));
    if path != Path::new(NAMES) && has_library() {
        let what = format!("the module reads {NAMES}, and this config writes {}", path.display());
        found.look("names file", what, format!("ln -s {} {NAMES}", path.display()));
    }
}

fn all_may_pass(path: &Path) -> bool {
    path.ancestors().skip(1).all(|folder| fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & 0o001 != 0))
}

fn judge_file(path: &Path, read: Result<&[u8], i32>, open: bool, wanted: &NamesFile, runs: bool) -> Finding {
    let new = |verdict, what: String| Finding::new("names file", verdict, what);
    let shown = path.display();
    match read {
        Err(libc::ENOENT) if runs => new(Severity::Look, format!("{shown} is not there: programs of this machine do not know the nodes"))
            .remedy("see the log of musterd: its disk may be full or read-only"),
        Err(libc::ENOENT) => new(Severity::Fine, format!("{shown} is not there yet: musterd writes it when it starts")),
        Err(errno) => {
            let why = std::io::Error::from_raw_os_error(errno);
            new(Severity::Look, format!("cannot read {shown}: {why}")).remedy("run as root")
        }
        Ok(_) if !open => new(Severity::Look, format!("{shown} can be read by some alone"))
            .remedy(format!("chmod o+r {shown}, and o+x the folders above it")),
        Ok(bytes) => match NamesFile::parse(bytes) {
            None => new(Severity::Look, format!("{shown} is damaged")).remedy("muster reload writes it again"),
            Some(file) if file != *wanted => {
                new(Severity::Look, format!("{shown} tells other names than the config")).remedy("muster reload")
            }
            Some(_) => new(Severity::Fine, format!("{shown} tells what the config says")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster::roll::plan::AddressPlan;

    #[test]
    fn switches_as_distributions_have_them() {
        let judged = |hosts: &str, library| {
            judge_switch(&format!("passwd: files\n# hosts: muster\nhosts: {hosts} # here\nnetworks: files\n"), library)
        };
        for (hosts, library, verdict, words) in [
            ("files dns", false, Severity::Fine, "not installed"),
            ("files dns", true, Severity::Look, "not asked"),
            ("files muster dns", false, Severity::Look, "no libnss_muster"),
            ("files muster dns", true, Severity::Fine, "hosts: files muster dns"),
            ("files dns muster", true, Severity::Look, "behind dns"),
            // Debian with avahi, Fedora with systemd-resolved.
            ("files mdns4_minimal [NOTFOUND=return] muster dns", true, Severity::Fine, ""),
            ("files myhostname resolve [!UNAVAIL=return] muster dns", true, Severity::Look, "resolve [!UNAVAIL=return], which ends"),
            ("files resolve[ ! UNAVAIL = return ] muster", true, Severity::Look, "which ends"),
            ("files [success=return] muster", true, Severity::Fine, ""),
            ("mymachines muster resolve [!UNAVAIL=return] files", true, Severity::Fine, ""),
        ] {
            let finding = judged(hosts, library);
            assert!(finding.verdict == verdict && finding.what.contains(words), "{hosts}: {finding:?}");
        }
        assert_eq!(judge_switch("", true).verdict, Severity::Look);
    }

    #[test]
    fn the_file_is_there_whole_and_of_this_config() {
        let wanted =
            NamesFile { plan: AddressPlan::new([10, 54, 1, 0].into(), 16), head: Some([10, 54, 0, 1].into()), this: Some(This::Head) };
        let other = NamesFile { plan: AddressPlan::new([10, 54, 2, 0].into(), 16), ..wanted };
        let text = wanted.to_string();
        let judged = |read: Result<&[u8], i32>, open, runs| judge_file(Path::new("/x/names"), read, open, &wanted, runs).verdict;
        assert_eq!(judged(Ok(text.as_bytes()), true, true), Severity::Fine);
        assert_eq!(judged(Ok(text.as_bytes()), false, true), Severity::Look);
        assert_eq!(judged(Ok(other.to_string().as_bytes()), true, true), Severity::Look);
        assert_eq!(judged(Ok(&text.as_bytes()[..20]), true, true), Severity::Look);
        let missing = Err(libc::ENOENT);
        assert_eq!((judged(missing, true, true), judged(missing, true, false)), (Severity::Look, Severity::Fine));
    }
}
