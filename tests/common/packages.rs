//! Packages of what was built, and later versions of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::nss_module;

/// The folder with the packages: that of the environment's `MUSTER_PACKAGES`, which `make test-installed` has filled with what users get;
/// otherwise the programs that were built for the tests are packed.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| match std::env::var_os("MUSTER_PACKAGES") {
        Some(folder) => std::path::absolute(folder).expect("a path"),
        None => pack(),
    })
}

/// Packs the programs that were built for the tests.
fn pack() -> PathBuf {
    let built = nss_module().parent().expect("a folder of programs");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("package-tested");
    for kind in ["deb", "rpm"] {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/package"));
        command.arg(kind).env("BUILT", built).env("PACKAGES", &folder);
        command.env("DEB_BUILD_OPTIONS", "noautodbgsym").env("DPKG_DEB_COMPRESSOR_TYPE", "none");
        let made = command.output().expect("scripts/package");
        assert!(made.status.success(), "{}{}", String::from_utf8_lossy(&made.stdout), String::from_utf8_lossy(&made.stderr));
    }
    folder
}

/// The one package of this name.
pub fn package(name: &str, ending: &str) -> PathBuf {
    let is_it = |path: &PathBuf| {
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let version = file.strip_prefix(name).and_then(|rest| rest.strip_prefix(['_', '-'])).unwrap_or_default();
        version.starts_with(|c: char| c.is_ascii_digit()) && file.ends_with(ending)
    };
    let found: Vec<PathBuf> = fs::read_dir(folder()).expect("a folder").flatten().map(|entry| entry.path()).filter(is_it).collect();
    assert_eq!(found.len(), 1, "{name}: {found:?} in {}", folder().display());
    found[0].clone()
}

/// The same package in a later version, made in this folder.
pub fn later(deb: &Path, folder: &Path) -> PathBuf {
    let script =
        "rm -rf \"$2/later\"; dpkg-deb --raw-extract \"$1\" \"$2/later\"; sed -i 's/^Version: .*/&.later/' \"$2/later/DEBIAN/control\"
        dpkg-deb --build -Znone \"$2/later\" \"$2/later.deb\"";
    let made = Command::new("sh").args(["-ec", script, "sh"]).arg(deb).arg(folder).output().expect("a shell");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    folder.join("later.deb")
}

/// The archive of static programs, which `make test-installed` has made.
pub fn archive() -> PathBuf {
    package("muster", ".tar.xz")
}
