//! The build script, run by hand in folders that are, or are not, a repository of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        // Outside the repository that this test is built in.
        let path = std::env::temp_dir().join(format!("muster-build-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(program: impl AsRef<Path>, folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program.as_ref());
    command.current_dir(folder).args(arguments).env("CARGO_MANIFEST_DIR", folder).env_remove("GIT_DIR");
    command
        .env("GIT_CEILING_DIRECTORIES", std::env::temp_dir())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", program.as_ref().display()))
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = run("git", folder, &[&["-c", "user.name=m", "-c", "user.email=m@localhost"], arguments].concat());
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}

/// The commit that it tells, and the files that it asks to be watched, which must be there: cargo builds all anew for one that is not.
fn told(script: &Path, folder: &Path) -> (String, Vec<PathBuf>) {
    let output = String::from_utf8(run(script, folder, &[]).stdout).expect("text");
    let values = |key: &str| output.lines().filter_map(|line| line.strip_prefix(key)).map(str::to_string).collect::<Vec<_>>();
    let watched: Vec<PathBuf> = values("cargo::rerun-if-changed=").iter().map(|path| folder.join(path)).collect();
    assert!(!watched.is_empty() && watched.iter().all(|path| path.exists()), "{output}");
    (values("cargo::rustc-env=MUSTER_COMMIT=").concat(), watched)
}

#[test]
fn a_commit_is_told_where_it_is_ours_and_nothing_is_built_anew_for_nothing() {
    let bin = Folder::new("bin");
    let (source, script) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("build.rs"), bin.0.join("build-script"));
    let rustc = Path::new(env!("CARGO")).with_file_name("rustc");
    let compiled = run(rustc, &bin.0, &["--edition", "2024", "-o", "build-script", source.to_str().expect("a path")]);
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));

    // A release's archive, and the same in the repository of a packager.
    let other = Folder::new("other");
    let archive = other.0.join("muster");
    std::fs::create_dir(&archive).expect("a folder");
    std::fs::copy(&source, archive.join("build.rs")).expect("a copy");
    let (plain, _) = told(&script, &archive);
    git(&other.0, &["init", "-q"]);
    git(&other.0, &["commit", "-q", "--allow-empty", "-m", "theirs"]);
    let (theirs, watched) = told(&script, &archive);
    assert_eq!((plain.as_str(), theirs.as_str(), watched.len()), ("no commit", "no commit", 1));

    // A repository of its own, and a worktree of that.
    git(&archive, &["init", "-q"]);
    git(&archive, &["add", "build.rs"]);
    git(&archive, &["commit", "-q", "-m", "ours"]);
    let ours = git(&archive, &["rev-parse", "--short=12", "HEAD"]);
    let (commit, watched) = told(&script, &archive);
    assert!(commit == ours && watched.len() >= 3, "{commit}, {watched:?}");
    let tree = other.0.join("worktree");
    git(&archive, &["worktree", "add", "-q", tree.to_str().expect("a path")]);
    let (commit, watched) = told(&script, &tree);
    assert!(commit == ours && watched.len() >= 3, "{commit}, {watched:?}");
}
