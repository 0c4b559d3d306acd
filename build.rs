//! Tells `--version` the commit that was built, where this folder is a git repository of its own. A release's archive that was unpacked in
//! somebody else's repository (a packager's) is not told that one's commit.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    // Without this line, and with one for a file that is not there, all is built anew each time.
    println!("cargo::rerun-if-changed=build.rs");
    let home = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    let ours =
        git(&home, &["rev-parse", "--show-toplevel"]).is_some_and(|top| Path::new(&top).canonicalize().ok() == home.canonicalize().ok());
    let commit = git(&home, &["rev-parse", "--short=12", "HEAD"]).filter(|_| ours);
    println!("cargo::rustc-env=MUSTER_COMMIT={}", commit.as_deref().unwrap_or("no commit"));
    // In a worktree these lie elsewhere than in .git.
    for name in ["HEAD", "logs/HEAD", "refs/heads", "packed-refs"].into_iter().filter(|_| ours) {
        let path = git(&home, &["rev-parse", "--git-path", name]).map(|path| home.join(path));
        if let Some(path) = path.filter(|path| path.exists()) {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
}

/// What git says in one line; none where there is no git, or no repository.
fn git(home: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").current_dir(home).args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_string()).filter(|text| !text.is_empty())
}
