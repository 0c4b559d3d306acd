//! Real files in a folder of the test's own.

use super::*;
use crate::shell::Crew;
use crate::shell::work::{READERS, beneath};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("muster-files-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.0.join(name), bytes).unwrap();
    }

    fn files(&self) -> Turned {
        Turned(Files::new(beneath::root(&self.0).unwrap(), Crew::start().unwrap().readers).unwrap())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Files whose readers are waited for.
struct Turned(Files);

impl std::ops::Deref for Turned {
    type Target = Files;

    fn deref(&self) -> &Files {
        &self.0
    }
}

impl std::ops::DerefMut for Turned {
    fn deref_mut(&mut self) -> &mut Files {
        &mut self.0
    }
}

impl Turned {
    /// Turns until there is something to tell.
    fn turn(&mut self, now: Instant) -> News {
        for _ in 0..50_000 {
            if let Some(news) = self.0.news() {
                return news;
            }
            (0..READERS).for_each(|reader| self.0.event(reader));
            self.0.turn(now);
            assert!(self.0.death().is_none());
            std::thread::sleep(Duration::from_micros(100));
        }
        panic!("the readers do not answer");
    }

    fn open(&mut self, now: Instant, path: &[u8]) -> Result<OpenFile, OpenError> {
        if let Some(answer) = self.0.open(now, 7, path) {
            return answer;
        }
        loop {
            if let News::Opened { token: 7, answer } = self.turn(now) {
                return answer;
            }
        }
    }
}

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

/// Reads until the pages are in memory.
fn read(files: &mut Turned, file: FileId, bytes: usize, offset: u64) -> Result<Vec<u8>, FileRead> {
    let mut buf = vec![0; bytes.max(1)];
    for _ in 0..5000 {
        match files.read(file, &mut buf, 0, bytes.max(1), bytes, offset) {
            FileRead::Done => return Ok(buf[..bytes].to_vec()),
            FileRead::Cold => {
                files.wait(9, file, offset, bytes);
                let now = files.now;
                while files.turn(now) != (News::Warm { token: 9 }) {}
            }
            FileRead::Changed => return Err(FileRead::Changed),
        }
    }
    Err(FileRead::Cold)
}

#[test]
fn one_descriptor_an_inode() {
    let folder = Folder::new();
    folder.write("a", b"content");
    fs::hard_link(folder.0.join("a"), folder.0.join("b")).unwrap();
    let mut files = folder.files();
    let first = files.open(at(0), b"a").unwrap();
    let second = files.open(at(10_000), b"a").unwrap();
    let other_name = files.open(at(10_000), b"b").unwrap();
    assert_eq!((first, second, first.size), (second, other_name, 7));
    assert_eq!(files.open_files(), 1);
    assert_eq!(read(&mut files, first.file, 7, 0), Ok(b"content".to_vec()));
    assert_eq!(read(&mut files, first.file, 0, 7), Ok(vec![]));
}

#[test]
fn blocks_are_laid_behind_gaps() {
    let folder = Folder::new();
    folder.write("a", b"0123456789");
    let mut files = folder.files();
    let open = files.open(at(0), b"a").unwrap();
    read(&mut files, open.file, 10, 0).unwrap();
    let mut buf = [b'.'; 20];
    assert_eq!(files.read(open.file, &mut buf, 2, 3, 8, 1), FileRead::Done);
    assert_eq!(&buf, b"..123..456..78......");
}

#[test]
fn nothing_leads_out_and_nothing_hangs() {
    let folder = Folder::new();
    let secret = Folder::new();
    secret.write("secret", b"x");
    folder.write("inside", b"y");
    fs::create_dir(folder.0.join("folder")).unwrap();
    symlink(secret.0.join("secret"), folder.0.join("out")).unwrap();
    symlink("/inside", folder.0.join("in")).unwrap();
    symlink("loop", folder.0.join("loop")).unwrap();
    nix::unistd::mkfifo(&folder.0.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.0.join("socket")).unwrap();
    let mut files = folder.files();
    let up = format!("../{}/secret", secret.0.file_name().unwrap().to_str().unwrap());
    for (name, why) in [
        ("out", OpenError::Outside),
        (up.as_str(), OpenError::NotFound),
        ("loop", OpenError::NotFound),
        ("missing", OpenError::NotFound),
        ("inside/x", OpenError::NotFound),
        ("folder", OpenError::NotAFile),
        ("fifo", OpenError::NotAFile),
        ("socket", OpenError::NotAFile),
        (".", OpenError::NotAFile),
        ("", OpenError::NotFound),
        ("in\0side", OpenError::NotFound),
    ] {
        assert_eq!(files.open(at(0), name.as_bytes()), Err(why), "{name:?}");
    }
    assert!(files.open(at(0), b"in").is_ok(), "a link inside the root is followed, with the root as /");
    assert!(files.open(at(0), b"../inside").is_ok(), "the root is its own parent");
    assert_eq!(files.open(at(0), &[b'x'; 300]), Err(OpenError::NotFound));
}

#[test]
fn rights_are_the_daemons_own() {
    let folder = Folder::new();
    folder.write("private", b"z");
    fs::set_permissions(folder.0.join("private"), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(folder.files().open(at(0), b"private").is_ok());
}

#[test]
fn a_replaced_file_goes_on_and_is_seen_within_a_second() {
    let folder = Folder::new();
    folder.write("a", b"old content");
    let mut files = folder.files();
    let old = files.open(at(0), b"a").unwrap();
    folder.write("new", b"new");
    fs::rename(folder.0.join("new"), folder.0.join("a")).unwrap();
    let new = files.open(at(600), b"a").unwrap();
    assert_ne!(old.file, new.file);
    assert_eq!(read(&mut files, old.file, 11, 0), Ok(b"old content".to_vec()));
    assert_eq!(read(&mut files, new.file, 3, 0), Ok(b"new".to_vec()));
    fs::remove_file(folder.0.join("a")).unwrap();
    assert_eq!(read(&mut files, new.file, 3, 0), Ok(b"new".to_vec()), "unlinked, and still the same content");
}

#[test]
fn a_change_in_place_is_never_a_mixture() {
    let folder = Folder::new();
    folder.write("a", b"old content");
    std::thread::sleep(Duration::from_millis(20));
    let mut files = folder.files();
    let old = files.open(at(0), b"a").unwrap();
    assert!(read(&mut files, old.file, 3, 0).is_ok());
    folder.write("a", b"NEW CONTENT");
    assert_eq!(read(&mut files, old.file, 3, 3), Err(FileRead::Changed));
    let new = files.open(at(1), b"a").unwrap();
    assert_ne!(old.file, new.file);
    assert_eq!(read(&mut files, new.file, 11, 0), Ok(b"NEW CONTENT".to_vec()));
    files.close(old.file);
    assert_eq!((files.open_files(), read(&mut files, old.file, 3, 0)), (1, Err(FileRead::Changed)));
}

#[test]
fn a_request_after_a_change_in_place_gets_the_new_content() {
    let folder = Folder::new();
    folder.write("a", b"old content");
    std::thread::sleep(Duration::from_millis(20));
    let mut files = folder.files();
    let old = files.open(at(0), b"a").unwrap();
    folder.write("a", b"new");
    let new = files.open(at(1), b"a").unwrap();
    assert!(new != old && read(&mut files, new.file, 3, 0) == Ok(b"new".to_vec()));
}

#[test]
fn nobody_waits_for_bytes_that_are_not_there() {
    let folder = Folder::new();
    folder.write("a", b"content");
    let mut files = folder.files();
    let open = files.open(at(0), b"a").unwrap();
    assert_eq!(read(&mut files, open.file, 9, 0), Err(FileRead::Changed), "more than the file has");
    let again = files.open(at(0), b"a").unwrap();
    assert_eq!(read(&mut files, again.file, 7, 0), Ok(b"content".to_vec()));
    assert_eq!(read(&mut files, again.file, 1, 7), Err(FileRead::Changed), "behind its end");
}

#[test]
fn a_file_that_shrinks_is_changed() {
    let folder = Folder::new();
    folder.write("a", &[7; 10_000]);
    let mut files = folder.files();
    let open = files.open(at(0), b"a").unwrap();
    fs::OpenOptions::new().write(true).open(folder.0.join("a")).unwrap().set_len(10).unwrap();
    assert_eq!(read(&mut files, open.file, 1000, 0), Err(FileRead::Changed));
}

#[test]
fn a_change_of_rights_or_links_is_no_change_of_content() {
    let folder = Folder::new();
    folder.write("a", b"content");
    let mut files = folder.files();
    let open = files.open(at(0), b"a").unwrap();
    fs::set_permissions(folder.0.join("a"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::hard_link(folder.0.join("a"), folder.0.join("b")).unwrap();
    fs::rename(folder.0.join("a"), folder.0.join("c")).unwrap();
    assert_eq!(read(&mut files, open.file, 7, 0), Ok(b"content".to_vec()));
    assert_eq!(files.open(at(600), b"c").unwrap().file, open.file);
}

#[test]
fn another_root_forgets_the_paths_and_keeps_the_files() {
    let (old, new) = (Folder::new(), Folder::new());
    old.write("a", b"old");
    new.write("a", b"newer");
    let mut files = old.files();
    let open = files.open(at(0), b"a").unwrap();
    files.set_root(beneath::root(&new.0).unwrap());
    assert_eq!(files.open(at(1), b""), Err(OpenError::NotFound), "no path is not a forgotten path");
    let other = files.open(at(1), b"a").unwrap();
    assert_eq!(read(&mut files, other.file, 5, 0), Ok(b"newer".to_vec()));
    assert_eq!(read(&mut files, open.file, 3, 0), Ok(b"old".to_vec()));
}

#[test]
fn cold_pages_come_on_a_later_pass() {
    let folder = Folder::new();
    let content: Vec<u8> = (0..1 << 20).map(|n: u32| (n / 1000) as u8).collect();
    folder.write("a", &content);
    let file = fs::File::open(folder.0.join("a")).unwrap();
    file.sync_all().unwrap();
    let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    let mut files = folder.files();
    let open = files.open(at(0), b"a").unwrap();
    for offset in (0..content.len()).step_by(40_000) {
        let len = 40_000.min(content.len() - offset);
        assert_eq!(read(&mut files, open.file, len, offset as u64).as_deref(), Ok(&content[offset..offset + len]));
    }
}

#[test]
fn a_full_table_reuses_what_nobody_reads() {
    let folder = Folder::new();
    for n in 0..=FILES {
        folder.write(&format!("f{n}"), b"x");
    }
    let mut files = folder.files();
    let opened: Vec<_> = (0..FILES).map(|n| files.open(at(n as u64), format!("f{n}").as_bytes()).unwrap().file).collect();
    let last = format!("f{FILES}");
    assert_eq!(files.open(at(100), last.as_bytes()), Err(OpenError::Busy));
    files.close(opened[9]);
    files.close(opened[5]);
    assert!(files.open(at(100), last.as_bytes()).is_ok());
    assert_eq!(read(&mut files, opened[5], 1, 0), Err(FileRead::Changed), "the one that was unused longest has gone");
    assert!(read(&mut files, opened[9], 1, 0).is_ok());
}

#[test]
fn what_was_laid_is_verified_before_it_leaves() {
    let folder = Folder::new();
    for name in ["a", "b"] {
        folder.write(name, &[7; 100_000]);
    }
    let mut files = folder.files();
    let (a, b) = (files.open(at(0), b"a").unwrap().file, files.open(at(0), b"b").unwrap().file);
    read(&mut files, a, 100_000, 0).unwrap();
    read(&mut files, b, 100_000, 0).unwrap();
    assert!(!files.verify(), "both are what they were");
    let mut buf = [0; 512];
    for (file, offset) in [(a, 0), (b, 0), (a, 512), (a, 16_300)] {
        assert_eq!(files.lay(file, &mut buf, 0, 512, 512, offset), FileRead::Done);
    }
    folder.write("a", &[8; 100_000]);
    assert_eq!(files.lay(a, &mut buf, 0, 512, 512, 1024), FileRead::Done, "from memory, which nobody has compared yet");
    assert!(files.verify());
    assert_eq!((files.is_current(a), files.is_current(b)), (false, true));
    assert_eq!(files.lay(a, &mut buf, 0, 512, 512, 0), FileRead::Changed);
    assert_eq!(files.lay(b, &mut buf, 0, 512, 512, 0), FileRead::Done);
    // A file that is gone from the table since it was read is none to send from.
    files.close(a);
    assert!(!files.verify() && !files.is_current(a));
    let again = files.open(at(10_000), b"a").unwrap().file;
    assert_eq!(read(&mut files, again, 1, 0), Ok(vec![8]), "the new content, not what was held in memory");
}
