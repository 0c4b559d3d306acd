//! A path beneath a folder, opened without openat2: name by name, each in the folder that was opened before it.
//!
//! The rules are those of RESOLVE_IN_ROOT: the folder is its own parent, an absolute link begins at it again, and no link leads out. Nothing is
//! looked up twice by name, and a parent is the folder that was come from, so that renaming things meanwhile opens no way out.
//!
//! A path that comes to nothing that way is walked once more with links that mean what they say ([`follow`]): an absolute link into the root by its
//! own name, or into a folder that is allowed, goes on beneath the descriptor that is held of that folder. No name is ever followed from the real `/`.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::fcntl::readlinkat;
use nix::sys::stat::{SFlag, fstat};

use super::super::sys::file;

/// As many as the kernel follows (MAXSYMLINKS).
const LINKS_MAX: u32 = 40;

fn errno(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

/// A folder outside of the root into which links may lead.
#[derive(Debug)]
pub struct Allowed {
    /// As links name it.
    pub path: PathBuf,
    /// Held since the start.
    pub fd: OwnedFd,
}

/// Opens a path for nothing but to hold it (O_PATH), with the root as `/`.
pub fn open(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    walk(Base { fd: root, strict: false }, false, path, |_| Ok((root, None)))
}

/// The same where links mean what they say: an absolute one leads to where it leads for everybody, if that is in the root or in a folder that is allowed.
/// EXDEV when a link leads elsewhere; a relative one does when it leaves the folder that it began in.
pub fn follow(root: BorrowedFd<'_>, allowed: &[Allowed], path: &[u8]) -> io::Result<OwnedFd> {
    let real = std::fs::read_link(format!("/proc/self/fd/{}", root.as_raw_fd()))?;
    walk(Base { fd: root, strict: false }, true, path, |target| {
        let target = Path::new(OsStr::from_bytes(target));
        let folders = allowed.iter().map(|folder| (folder.path.as_path(), folder.fd.as_fd())).chain([(real.as_path(), root)]);
        let within = folders.filter_map(|(path, fd)| Some((path.components().count(), fd, target.strip_prefix(path).ok()?)));
        let (_, fd, rest) = within.max_by_key(|(depth, ..)| *depth).ok_or_else(|| errno(libc::EXDEV))?;
        Ok((fd, Some(rest.as_os_str().as_bytes().to_vec())))
    })
}

/// What a walk does not leave: `..` there is an error (EXDEV), or leads nowhere.
#[derive(Clone, Copy)]
struct Base<'a> {
    fd: BorrowedFd<'a>,
    strict: bool,
}

/// Walks a path, name by name. `leads` says where an absolute link goes on, and with what, if that is not all of its target. `strict`: no link leaves
/// what it is in.
fn walk<'a>(
    mut base: Base<'a>,
    strict: bool,
    path: &[u8],
    leads: impl Fn(&[u8]) -> io::Result<(BorrowedFd<'a>, Option<Vec<u8>>)>,
) -> io::Result<OwnedFd> {
    if path.is_empty() {
        return Err(errno(libc::ENOENT));
    }
    // The names that are left, the next one last.
    let mut names = split(path);
    let (mut folders, mut links): (Vec<OwnedFd>, u32) = (Vec::new(), 0);
    while let Some(name) = names.pop() {
        match name.as_slice() {
            b"" | b"." => {}
            b".." if folders.is_empty() && base.strict => return Err(errno(libc::EXDEV)),
            b".." => drop(folders.pop()),
            name => {
                let here = folders.last().map_or(base.fd, AsFd::as_fd);
                let found = file::open_at(here, &CString::new(name)?, libc::O_PATH | libc::O_NOFOLLOW)?;
                match SFlag::from_bits_truncate(fstat(&found)?.st_mode) & SFlag::S_IFMT {
                    SFlag::S_IFLNK => {
                        links += 1;
                        if links > LINKS_MAX {
                            return Err(errno(libc::ELOOP));
                        }
                        let mut target = readlinkat(&found, "")?.into_vec();
                        if target.first() == Some(&b'/') {
                            let (there, rest) = leads(&target)?;
                            (base.fd, target) = (there, rest.unwrap_or(target));
                            folders.clear();
                        }
                        base.strict = strict;
                        names.extend(split(&target));
                    }
                    SFlag::S_IFDIR => folders.push(found),
                    // What stands behind a file, if only a slash, is not there.
                    _ if names.is_empty() => return Ok(found),
                    _ => return Err(errno(libc::ENOTDIR)),
                }
            }
        }
    }
    match folders.pop() {
        Some(folder) => Ok(folder),
        None => Ok(base.fd.try_clone_to_owned()?),
    }
}

/// The names of a path, the first one last. One behind the last slash is empty.
fn split(path: &[u8]) -> Vec<Vec<u8>> {
    path.rsplit(|&byte| byte == b'/').map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A folder with a root in it, and a file beside that.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Tree {
            let tree = Tree(std::env::temp_dir().join(format!("muster-walk-{name}-{}", std::process::id())));
            let _ = fs::remove_dir_all(&tree.0);
            fs::create_dir_all(tree.0.join("root/a/b")).unwrap();
            for file in ["secret", "root/f", "root/a/g", "root/a/b/h"] {
                fs::write(tree.0.join(file), file).unwrap();
            }
            tree
        }

        fn root(&self) -> fs::File {
            fs::File::open(self.0.join("root")).unwrap()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn shown(opened: io::Result<OwnedFd>) -> Result<u64, Option<i32>> {
        opened.map(|fd| fstat(&fd).unwrap().st_ino).map_err(|error| error.raw_os_error())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        /// It opens what openat2 opens, and refuses what that refuses, whatever the links are.
        #[test]
        fn walks_as_the_kernel_does(
            links in proptest::collection::vec(("[xyz]", "(/|)((\\.\\.|\\.|a|b|x|y|z|f|g|h|secret|)/){0,4}(\\.\\.|\\.|a|b|x|y|z|f|g|h|secret|)", 0usize..3), 0..6),
            paths in proptest::collection::vec("(/|)((\\.\\.|\\.|a|b|x|y|z|f|g|h|secret|)/){0,5}(\\.\\.|\\.|a|b|x|y|z|f|g|h|secret|)", 1..12),
        ) {
            let tree = Tree::new("proptest");
            for (name, target, at) in links.iter().filter(|(_, target, _)| !target.is_empty()) {
                let _ = symlink(target, tree.0.join(["root", "root/a", "root/a/b"][*at]).join(name));
            }
            let root = tree.root();
            for path in paths {
                let kernel = file::open_beneath(root.as_fd(), &CString::new(path.as_str()).unwrap(), libc::O_PATH);
                prop_assert_eq!(shown(open(root.as_fd(), path.as_bytes())), shown(kernel), "{:?} with {:?}", path, links);
            }
        }
    }

    /// Every inode beneath a folder.
    fn beneath(folder: &Path, found: &mut Vec<u64>) {
        use std::os::unix::fs::MetadataExt;
        found.push(fs::symlink_metadata(folder).unwrap().ino());
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => beneath(&entry.path(), found),
                false => found.push(entry.metadata().unwrap().ino()),
            }
        }
    }

    fn allowed(tree: &Tree) -> Vec<Allowed> {
        let path = tree.0.join("boot");
        fs::create_dir_all(path.join("sub")).unwrap();
        for file in ["boot/kernel", "boot/sub/initrd"] {
            fs::write(tree.0.join(file), file).unwrap();
        }
        vec![Allowed { fd: fs::File::open(&path).unwrap().into(), path }]
    }

    #[test]
    fn links_that_mean_what_they_say_lead_where_it_is_allowed() {
        let tree = Tree::new("allowed");
        let (root, allowed) = (tree.root(), allowed(&tree));
        let at = |name: &str| tree.0.join(name);
        let ino = |name: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(at(name)).unwrap());
        fs::create_dir(at("bootleg")).unwrap();
        fs::write(at("bootleg/kernel"), "").unwrap();
        for (name, target) in [
            ("root/kernel", at("boot/kernel")),
            ("root/folder", at("boot/sub")),
            ("root/own", at("root/a/g")),
            ("root/chain", at("boot/next")),
            ("boot/next", "sub/initrd".into()),
            ("root/home", at("boot/back")),
            ("boot/back", at("root/a/b/h")),
            ("root/out", at("secret")),
            ("root/up", "../secret".into()),
            ("root/dots", at("boot/../secret")),
            ("root/sly", at("boot/up")),
            ("boot/up", "sub/../../secret".into()),
            ("root/leg", at("bootleg/kernel")),
            ("root/gone", at("boot/gone")),
            ("root/loop", at("root/loop")),
        ] {
            symlink(target, at(name)).unwrap();
        }
        let follow = |path: &str| shown(follow(root.as_fd(), &allowed, path.as_bytes()));
        for (path, file) in
            [("kernel", "boot/kernel"), ("folder/initrd", "boot/sub/initrd"), ("own", "root/a/g"), ("chain", "boot/sub/initrd")]
        {
            assert_eq!(follow(path), Ok(ino(file)), "{path}");
        }
        assert_eq!(follow("home"), Ok(ino("root/a/b/h")));
        for path in ["out", "up", "dots", "sly", "leg"] {
            assert_eq!(follow(path), Err(Some(libc::EXDEV)), "{path}");
        }
        let errors = [("gone", libc::ENOENT), ("loop", libc::ELOOP), ("../secret", libc::ENOENT), ("kernel/x", libc::ENOTDIR)];
        for (path, error) in errors {
            assert_eq!(follow(path), Err(Some(error)), "{path}");
        }
        // Both ways of opening come to the same.
        for how in [super::super::beneath::How::Openat2, super::super::beneath::How::Walk(0)] {
            let ground = super::super::beneath::Ground { root: root.as_fd(), how, allowed: &allowed };
            let is_file = |path: &str| super::super::beneath::is_file(ground, path.as_bytes());
            assert!(["kernel", "folder/initrd", "own", "chain", "home", "a/g", "../f"].iter().all(|path| is_file(path)), "{how:?}");
            assert!(["out", "up", "dots", "sly", "leg", "gone", "loop", "folder"].iter().all(|path| !is_file(path)), "{how:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        /// Whatever the links are, what is opened lies in the root or in a folder that is allowed.
        #[test]
        fn no_link_leads_elsewhere(
            links in proptest::collection::vec(("[xyz]", "(\\^/|\\^/boot/|\\^/root/|/|)((\\.\\.|\\.|a|b|x|y|z|f|sub|kernel|secret|boot|)/){0,4}(\\.\\.|x|y|z|f|g|kernel|initrd|secret|)", 0usize..5), 1..8),
            paths in proptest::collection::vec("((\\.\\.|\\.|a|b|x|y|z)/){0,3}(x|y|z|f|kernel|secret|initrd)", 1..12),
        ) {
            let tree = Tree::new("elsewhere");
            let allowed = allowed(&tree);
            for (name, target, at) in links.iter().filter(|(_, target, _)| !target.is_empty()) {
                let target = target.replace('^', tree.0.to_str().unwrap());
                let _ = symlink(target, tree.0.join(["root", "root/a", "root/a/b", "boot", "boot/sub"][*at]).join(name));
            }
            let mut inside = Vec::new();
            beneath(&tree.0.join("root"), &mut inside);
            beneath(&tree.0.join("boot"), &mut inside);
            let root = tree.root();
            for path in paths {
                if let Ok(found) = shown(follow(root.as_fd(), &allowed, path.as_bytes())) {
                    prop_assert!(inside.contains(&found), "{:?} with {:?}", path, links);
                }
            }
        }
    }

    #[test]
    fn renaming_opens_no_way_out() {
        let tree = Tree::new("race");
        let (root, inside, outside) = (tree.root(), tree.0.join("root/a/b"), tree.0.join("b"));
        let secret = fs::metadata(tree.0.join("secret")).map(|file| std::os::unix::fs::MetadataExt::ino(&file)).unwrap();
        symlink("../../..", tree.0.join("root/up")).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let swap = |from: &Path, to: &Path| while fs::rename(from, to).is_err() {};
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    swap(&inside, &outside);
                    swap(&outside, &inside);
                }
            });
            for _ in 0..20_000 {
                let opened = open(root.as_fd(), b"a/b/../../secret");
                assert_ne!(shown(opened), Ok(secret));
                assert_ne!(shown(open(root.as_fd(), b"up/secret")), Ok(secret));
                // The kernel's own walk is never sure of `..` meanwhile, and is asked again.
                let kernel = shown(file::open_beneath(root.as_fd(), c"a/../f", libc::O_PATH));
                assert!(kernel.is_ok(), "{kernel:?}");
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}
