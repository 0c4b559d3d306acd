//! The boot files: whether the daemon's user can read them, and whether they are what the machines can run. Looked at with that user's rights, by a
//! process that may hang.

use std::fs::File;
use std::path::Path;

use serde::{Deserialize, Serialize};

use muster::config::{Arch, Boot, Config};
use muster::shell::aside::{self, Aside};
use muster::shell::work::beneath::{self, Ground, Looked};
use muster::shell::work::survey::{names_of, survey};

use super::finding::{Diagnosis, Finding, Severity};
use super::image::{FileRole, Image, identify, loader, misfit, mistaken};
use super::site::{Eyes, PATIENCE, Site};

/// Enough for the headers of any image.
const HEAD: usize = 64 << 10;
/// What is searched for what a program says of itself.
const PROGRAM_MAX: u64 = 8 << 20;
/// A BIOS has less than 640 KiB for the program, for its stack and for the ROM's own.
const BIOS_MAX: i64 = 512 << 10;

/// What the process found, in words that travel.
#[derive(Debug, Default, Serialize, Deserialize)]
struct RootLook {
    /// The root cannot be served at all.
    trouble: Option<String>,
    denied: Vec<String>,
    denials: u64,
    outside: Vec<String>,
    files: Vec<FileLook>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct FileLook {
    /// The errno of an attempt to open it.
    error: Option<i32>,
    size: i64,
    head: Vec<u8>,
    /// Of a program: which loader.
    loader: Option<String>,
}

/// A file that the config names, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Purpose {
    Program(Arch),
    Other(FileRole),
    /// Loaded by the program beside it.
    Beside(String),
}

/// Each file that somebody will ask for, once.
fn wanted(config: &Config) -> Vec<(Purpose, String)> {
    let mut files: Vec<(Purpose, String)> = Vec::new();
    let mut add = |purpose: Purpose, name: &str| {
        let file = (purpose, name.to_string());
        if !files.contains(&file) {
            files.push(file);
        }
    };
    let Boot { program, script, kernel, initrd, .. } = &config.boot;
    let programs = program.iter().chain(config.overrides.iter().flat_map(|it| &it.program));
    for (arch, name) in programs.filter(|(arch, _)| !arch.is_http()) {
        add(Purpose::Program(*arch), name);
        if let Some(module) = module_of(name) {
            let folder = name.rsplit_once('/').map(|(folder, _)| format!("{folder}/")).unwrap_or_default();
            add(Purpose::Beside(name.clone()), &format!("{folder}{module}"));
        }
    }
    // A name with a placeholder is another one for each node.
    let fixed = |name: &&String| !name.contains('{') && !name.contains("://");
    let overrides = || config.overrides.iter();
    script
        .iter()
        .chain(overrides().filter_map(|it| it.script.as_ref()))
        .filter(fixed)
        .for_each(|name| add(Purpose::Other(FileRole::Script), name));
    kernel
        .iter()
        .chain(overrides().filter_map(|it| it.kernel.as_ref()))
        .filter(fixed)
        .for_each(|name| add(Purpose::Other(FileRole::Kernel), name));
    let initrds = initrd.iter().chain(overrides().filter_map(|it| it.initrd.as_ref()).flatten());
    initrds.filter(fixed).for_each(|name| add(Purpose::Other(FileRole::Initrd), name));
    files
}

/// What syslinux' loaders load next, from their own folder.
fn module_of(program: &str) -> Option<&'static str> {
    let file = program.rsplit('/').next().unwrap_or(program);
    match file {
        "pxelinux.0" | "lpxelinux.0" => Some("ldlinux.c32"),
        "syslinux.efi" if program.contains("efi32") => Some("ldlinux.e32"),
        "syslinux.efi" => Some("ldlinux.e64"),
        _ => None,
    }
}

/// Looks at root and files.
pub fn check(site: &Site, config: &Config, unit: bool, found: &mut Diagnosis) {
    let files = wanted(config);
    let eyes = site.eyes();
    let looked = aside::look(eyes.account(), PATIENCE, || look(&config.boot, &files));
    let root = config.boot.root.display();
    let look = match looked {
        Ok(Aside::Found(look)) => look,
        Ok(Aside::Hangs) => {
            let what = format!("{root} has not answered in {} s", PATIENCE.as_secs());
            return found.broken("root", what, "its disk or server hangs: mount it again, or serve a folder of this machine");
        }
        Err(why) => return found.look("root", format!("could not look: {why}"), "run as root"),
    };
    let who = eyes.name();
    if let Eyes::Foreign(why) = &eyes {
        found.look("root", format!("looked as {who}: {why}"), "run as root");
    }
    judge_root(&config.boot.root, &look, &who, unit, found);
    if look.trouble.is_some() {
        return;
    }
    for ((purpose, name), file) in files.iter().zip(&look.files) {
        found.add(judge(purpose, name, file, (&root.to_string(), &who)));
    }
    judge_whole(&config.boot, found);
}

fn look(boot: &Boot, files: &[(Purpose, String)]) -> RootLook {
    let root = match beneath::root(&boot.root) {
        Ok(root) => root,
        Err(why) => return RootLook { trouble: Some(why.to_string()), ..RootLook::default() },
    };
    let allowed = beneath::allow(&boot.allow);
    let ground = root.ground(&allowed);
    let names: Vec<String> = files.iter().map(|(_, name)| name.clone()).collect();
    let text = names_of(&names);
    let surveyed = survey(&root, &allowed, text.split(|byte| *byte == 0));
    let files = files.iter().map(|(purpose, name)| look_at(ground, purpose, name)).collect();
    RootLook { trouble: None, denied: surveyed.denied, denials: surveyed.count, outside: surveyed.outside, files }
}

fn look_at(ground: Ground<'_>, purpose: &Purpose, name: &str) -> FileLook {
    let read = || {
        let Looked::File { fd, stamp, .. } = beneath::look(ground, name.as_bytes(), None)? else {
            return Err(std::io::ErrorKind::InvalidData.into());
        };
        // One that is far is only held.
        let file = File::from(beneath::reopen(std::os::fd::AsFd::as_fd(&fd))?);
        let program = matches!(purpose, Purpose::Program(_));
        let most = if program { PROGRAM_MAX } else { HEAD as u64 };
        let mut bytes = vec![0; (stamp.size.max(0) as u64).min(most) as usize];
        let got = beneath::fetch(&file, 0, &mut bytes)?;
        bytes.truncate(got);
        let loader = program.then(|| loader(&bytes)).flatten().map(str::to_string);
        bytes.truncate(HEAD);
        Ok::<_, std::io::Error>(FileLook { error: None, size: stamp.size, head: bytes, loader })
    };
    read().unwrap_or_else(|error| FileLook { error: Some(error.raw_os_error().unwrap_or(libc::EIO)), ..FileLook::default() })
}

fn judge_root(root: &Path, look: &RootLook, who: &str, unit: bool, found: &mut Diagnosis) {
    let path = root.display();
    if let Some(why) = &look.trouble {
        return found.broken("root", format!("{who}: {why}"), format!("chmod o+rx {path} and the folders above it"));
    }
    if unit && ["/tmp", "/var/tmp"].iter().any(|folder| root.starts_with(folder)) {
        found.broken(
            "root",
            format!("{path}: the unit has a /tmp of its own, which is empty"),
            "put boot files elsewhere, such as /srv/tftp",
        );
    }
    if look.denials > 0 {
        let names = look.denied.join(", ");
        let more = if look.denials > look.denied.len() as u64 { " and more" } else { "" };
        let what = format!("{who} may not read {} of the files in {path}: {names}{more}", look.denials);
        found.look("root", what, format!("chmod -R o+rX {path}"));
    } else {
        found.fine("root", format!("{who} can read {path}"));
    }
}

fn size(bytes: i64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} bytes"),
        10_240..10_485_760 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes >> 20),
    }
}

fn judge(purpose: &Purpose, name: &str, file: &FileLook, (root, who): (&str, &str)) -> Finding {
    let (check, of) = match purpose {
        Purpose::Program(arch) => ("boot program", format!("{arch} {name}")),
        Purpose::Other(FileRole::Kernel) => ("kernel", name.to_string()),
        Purpose::Other(FileRole::Initrd) => ("initrd", name.to_string()),
        Purpose::Other(FileRole::Script) => ("script", name.to_string()),
        Purpose::Beside(_) => ("boot file", name.to_string()),
    };
    let new = |verdict, what: String| Finding::new(check, verdict, what).on(of.clone());
    match file.error {
        None => {}
        Some(libc::ENOENT | libc::ENOTDIR) => {
            let why = match purpose {
                Purpose::Beside(program) => format!("is not in {root}, and {program} loads it next"),
                _ => format!("is not in {root}"),
            };
            return new(Severity::Broken, why).remedy("put it there, or name another one in [boot]");
        }
        Some(libc::EACCES) => {
            return new(Severity::Broken, format!("{who} may not read it"))
                .remedy(format!("chmod o+r {root}/{name}, and o+x each folder on the way"));
        }
        Some(libc::EXDEV) => {
            return new(Severity::Broken, "is a link that leads out of the root".into())
                .remedy("list the folder that it leads into as `allow` in [boot], or copy the file");
        }
        Some(libc::EISDIR) => return new(Severity::Broken, "is no regular file".into()).remedy("name a file"),
        Some(errno) => {
            return new(Severity::Broken, format!("cannot be read: {}", std::io::Error::from_raw_os_error(errno)))
                .remedy("look at its disk");
        }
    }
    let image = identify(&file.head);
    let wrong = match purpose {
        Purpose::Program(arch) => misfit(*arch, &image),
        Purpose::Other(role) => mistaken(*role, &image),
        Purpose::Beside(_) => (image == Image::Empty).then(|| "it is empty".into()),
    };
    if let Some(why) = wrong {
        let unknown = matches!(purpose, Purpose::Other(FileRole::Kernel | FileRole::Initrd))
            && matches!(image, Image::Other | Image::Bios | Image::Archive(_));
        let verdict = if unknown { Severity::Look } else { Severity::Broken };
        return new(verdict, why).remedy("put the right file there, or name another one in [boot]");
    }
    let loader = file.loader.as_ref().map(|loader| format!("{loader}, ")).unwrap_or_default();
    if *purpose == Purpose::Program(Arch::Bios) && file.size > BIOS_MAX {
        let what = format!("has {}: a BIOS has no room for more than about {}", size(file.size), size(BIOS_MAX));
        return new(Severity::Look, what).remedy("use undionly.kpxe");
    }
    new(Severity::Fine, format!("{loader}{image}, {}", size(file.size)))
}

/// What is lacking as a whole.
fn judge_whole(boot: &Boot, found: &mut Diagnosis) {
    let lacking: Vec<&str> = [Arch::Bios, Arch::EfiX64, Arch::EfiArm64]
        .iter()
        .filter(|arch| !boot.program.iter().any(|(known, _)| known == *arch))
        .map(|arch| arch.name())
        .collect();
    let root = boot.root.display();
    if boot.program.is_empty() {
        found.broken(
            "boot program",
            format!("there is none in {root}"),
            "put undionly.kpxe (BIOS) and snponly.efi (UEFI) of iPXE there, or set `program` in [boot]",
        );
    } else if !lacking.is_empty() {
        found.fine("boot program", format!("none for {}: machines of these kinds cannot boot", lacking.join(", ")));
    }
    if !boot.program.is_empty() && boot.script.is_none() && boot.kernel.is_none() {
        found.look(
            "kernel",
            format!("there is neither a kernel nor a script in {root}: iPXE is given nothing to run"),
            "put vmlinuz and initrd.img there, or set `kernel` or `script` in [boot]",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(purpose: Purpose, name: &str, file: FileLook) -> String {
        judge(&purpose, name, &file, ("/srv/tftp", "muster")).line()
    }

    #[test]
    fn a_file_is_told_by_what_it_is() {
        let bios = || FileLook { size: 70_000, head: b"\xea\x05".to_vec(), loader: Some("iPXE".into()), ..FileLook::default() };
        let program = Purpose::Program(Arch::Bios);
        assert_eq!(
            line(program.clone(), "undionly.kpxe", bios()),
            "fine   boot program bios undionly.kpxe: iPXE, program for a BIOS, 68 KiB"
        );
        assert!(line(program.clone(), "x", FileLook { size: 700_000, ..bios() }).starts_with("look   boot program bios x: has 683 KiB"));
        let failing = |errno| FileLook { error: Some(errno), ..FileLook::default() };
        for (errno, words) in [
            (libc::ENOENT, "is not in /srv/tftp"),
            (libc::EACCES, "muster may not read it (chmod o+r /srv/tftp/a"),
            (libc::EXDEV, "`allow`"),
            (libc::EISDIR, "no regular file"),
            (libc::EIO, "cannot be read: "),
        ] {
            let line = line(program.clone(), "a", failing(errno));
            assert!(line.starts_with("broken ") && line.contains(words), "{line}");
        }
        assert!(line(Purpose::Beside("pxelinux.0".into()), "ldlinux.c32", failing(libc::ENOENT)).contains("pxelinux.0 loads it next"));
        assert!(
            line(Purpose::Other(FileRole::Script), "boot.ipxe", bios()).starts_with("broken script boot.ipxe: it is a program for a BIOS")
        );
        assert!(
            line(Purpose::Other(FileRole::Initrd), "initrd", FileLook { head: b"hello".to_vec(), ..bios() }).starts_with("look   initrd")
        );
    }

    #[test]
    fn loaders_that_need_more_are_known() {
        let modules = ["pxelinux.0", "bios/lpxelinux.0", "efi64/syslinux.efi", "efi32/syslinux.efi", "snponly.efi"].map(module_of);
        assert_eq!(modules, [Some("ldlinux.c32"), Some("ldlinux.c32"), Some("ldlinux.e64"), Some("ldlinux.e32"), None]);
    }

    #[test]
    fn the_root_as_a_whole() {
        let judged = |root: &str, look: RootLook| {
            let mut found = Diagnosis::default();
            judge_root(Path::new(root), &look, "muster", true, &mut found);
            found.0.iter().map(Finding::line).collect::<Vec<_>>()
        };
        assert_eq!(judged("/srv/tftp", RootLook::default()), ["fine   root: muster can read /srv/tftp"]);
        assert!(judged("/tmp/x", RootLook::default())[0].contains("a /tmp of its own"));
        assert!(judged("/x", RootLook { trouble: Some("no".into()), ..RootLook::default() })[0].starts_with("broken root: muster: no"));
        let denied = RootLook { denied: vec!["a".into()], denials: 9, ..RootLook::default() };
        assert_eq!(judged("/x", denied), ["look   root: muster may not read 9 of the files in /x: a and more (chmod -R o+rX /x)"]);
    }
}
