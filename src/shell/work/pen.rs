//! The writer's part: the journal's file and its folder, and the names beside it.
//!
//! What is appended is reported as on disk when it is, and when the next start will find it: the journal's path still shows this file, which is as
//! long as it was made ([`Loss`]). Else the loop has everything rewritten, where the path leads now, and the folder is made again if that is gone
//! too. After a failed write or sync the kernel may have forgotten what it was given, so that everything behind the last good sync is cut off, and
//! comes again.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::super::daemon::publish;
use super::super::journal::{NEW, Unsure};
use super::super::sys::child::try_lock;

/// Why the next start would not find what is on disk; the first word of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The path shows another file, or none.
    Removed = 1,
    /// The file is shorter or longer than it was made: somebody cut it, or wrote over it.
    Changed,
    /// The folder's path shows another folder: one that was mounted there, say.
    Covered,
}

impl Loss {
    pub fn of(word: u64) -> Option<Loss> {
        use Loss::*;
        [Removed, Changed, Covered].into_iter().find(|loss| *loss as u64 == word)
    }
}

/// Where it went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PenStep {
    Write,
    Sync,
    Folder,
}

impl PenStep {
    pub fn of(word: u64) -> PenStep {
        [PenStep::Write, PenStep::Sync].into_iter().find(|step| *step as u64 == word).unwrap_or(PenStep::Folder)
    }

    /// For a sentence: cannot ... the journal.
    pub fn name(self) -> &'static str {
        match self {
            PenStep::Write => "write",
            PenStep::Sync => "sync",
            PenStep::Folder => "sync the folder of",
        }
    }
}

type PenFailure = (PenStep, io::Error);

pub struct Pen {
    path: PathBuf,
    /// Locked.
    folder: File,
    file: File,
    /// The file's length up to where it is on disk, and how much was written behind that.
    durable: u64,
    written: u64,
    unsure: Unsure,
    /// The file could be opened for reading alone: its disk is read-only.
    sealed: bool,
    /// The files beside the journal as they were received last.
    names: Vec<(PathBuf, File)>,
}

impl Pen {
    /// Takes over what the daemon has opened at start.
    pub fn adopt(path: PathBuf, run: &Path, (folder, file): (File, File), durable: u64, sealed: bool) -> Pen {
        Pen { path, folder, file, durable, written: 0, unsure: Unsure::new(run), sealed, names: Vec::new() }
    }

    /// Writes bytes behind the others; with the `last` of them, all are synced. Nothing counts if there was a loss.
    pub fn append(&mut self, bytes: &[u8], last: bool) -> Result<Option<Loss>, PenFailure> {
        if let Some(loss) = self.loss() {
            return Ok(Some(loss));
        }
        let wrote = self.unseal().and_then(|()| self.file.write_all_at(bytes, self.durable + self.written));
        self.written += bytes.len() as u64;
        match wrote {
            Ok(()) if !last => return Ok(None),
            Ok(()) => {}
            Err(error) => return Err(self.cut_off(PenStep::Write, error)),
        }
        if let Err(error) = self.file.sync_data() {
            return Err(self.cut_off(PenStep::Sync, error));
        }
        (self.durable, self.written) = (self.durable + self.written, 0);
        self.unsure.clear();
        Ok(self.loss())
    }

    /// Half a line may be there, or lines that never come to the disk: they are cut off, and come again.
    fn cut_off(&mut self, step: PenStep, error: io::Error) -> PenFailure {
        self.written = 0;
        if !self.sealed && self.file.set_len(self.durable).is_err() {
            self.unsure.note(&self.file, self.durable);
        }
        (step, error)
    }

    /// Opens the file of a disk that was read-only for writing, with what is behind its whole lines cut off.
    fn unseal(&mut self) -> io::Result<()> {
        if !self.sealed {
            return Ok(());
        }
        let file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        // The sync of the lines that come now is this one's too.
        if file.metadata()?.len() > self.durable {
            file.set_len(self.durable)?;
        }
        (self.file, self.sealed) = (file, false);
        Ok(())
    }

    /// Looks whether the next start will find the file as it was made.
    pub fn loss(&self) -> Option<Loss> {
        let (Ok(folder), Ok(file)) = (self.folder.metadata(), self.file.metadata()) else { return None };
        let gone = |error: &io::Error| matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory);
        match std::fs::metadata(self.path.parent().unwrap_or(Path::new("/"))) {
            Ok(there) if !is_same(&there, &folder) => return Some(Loss::Covered),
            Err(error) if gone(&error) => return Some(Loss::Removed),
            _ => {}
        }
        match std::fs::symlink_metadata(&self.path) {
            Ok(named) if !is_same(&named, &file) => return Some(Loss::Removed),
            Err(error) if gone(&error) => return Some(Loss::Removed),
            _ => {}
        }
        let made = self.durable + self.written;
        // What could not be cut off stands behind it still.
        let whole = if self.sealed || self.unsure.is_noted() { file.len() >= made } else { file.len() == made };
        (!whole).then_some(Loss::Changed)
    }

    /// Puts a new file into the journal's place, and goes on in it: `lines` holds all of it. Until it bears the name the old one is as it was.
    pub fn place(&mut self, lines: &File) -> Result<(), PenFailure> {
        let folder = self.path.parent().unwrap_or(Path::new("/")).to_path_buf();
        let remade = self.remake(&folder).map_err(|error| (PenStep::Write, error))?;
        let new = self.path.with_file_name(NEW);
        let put = || -> Result<(File, u64), PenFailure> {
            let write = |error| (PenStep::Write, error);
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o644).open(&new).map_err(write)?;
            let len = copy(lines, &file).map_err(write)?;
            file.sync_data().map_err(|error| (PenStep::Sync, error))?;
            std::fs::rename(&new, &self.path).map_err(write)?;
            Ok((file, len))
        };
        let (file, len) = put().inspect_err(|_| drop(std::fs::remove_file(&new)))?;
        (self.file, self.sealed, self.durable, self.written) = (file, false, len, 0);
        self.settle()?;
        for (path, names) in if remade { std::mem::take(&mut self.names) } else { Vec::new() } {
            // Who boots needs none of them. A failure was told when there was one.
            let _ = self.publish(&path, names);
        }
        Ok(())
    }

    /// Syncs the folder, after which the new name is on disk.
    pub fn settle(&mut self) -> Result<(), PenFailure> {
        self.folder.sync_all().map_err(|error| (PenStep::Folder, error))?;
        self.unsure.clear();
        Ok(())
    }

    /// Makes the folder again if it was removed, and locks it. True: it was.
    fn remake(&mut self, folder: &Path) -> io::Result<bool> {
        let ours = self.folder.metadata()?;
        match std::fs::metadata(folder) {
            Ok(there) if is_same(&there, &ours) => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir(folder)?;
                std::fs::set_permissions(folder, Permissions::from_mode(0o755))?;
            }
            Err(error) => return Err(error),
        }
        let opened = File::open(folder)?;
        try_lock(&opened)?;
        self.folder = opened;
        // What was in the old one is on no disk's folder any more.
        File::open(folder.parent().unwrap_or(Path::new("/")))?.sync_all()?;
        Ok(true)
    }

    /// Writes a file for everybody, unless it is like that already.
    pub fn publish(&mut self, path: &Path, text: File) -> io::Result<()> {
        let mut bytes = vec![0; text.metadata()?.len() as usize];
        text.read_exact_at(&mut bytes, 0)?;
        self.names.retain(|(other, _)| other != path);
        self.names.push((path.to_path_buf(), text));
        if std::fs::read(path).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        publish(path, &bytes)
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Copies all of a file, from its beginning; gives its length.
fn copy(from: &File, to: &File) -> io::Result<u64> {
    let mut room = vec![0; super::message::BODY_MAX];
    let mut at = 0;
    loop {
        let got = from.read_at(&mut room, at)?;
        if got == 0 {
            return Ok(at);
        }
        to.write_all_at(room.get(..got).unwrap_or_default(), at)?;
        at += got as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let folder = Folder(std::env::temp_dir().join(format!("muster-pen-{name}-{}", std::process::id())));
            let _ = std::fs::remove_dir_all(&folder.0);
            std::fs::create_dir_all(folder.0.join("state")).unwrap();
            folder
        }

        fn journal(&self) -> PathBuf {
            self.0.join("state/journal")
        }

        fn pen(&self, file: File) -> Pen {
            Pen::adopt(self.journal(), &self.0, (File::open(self.0.join("state")).unwrap(), file), 0, false)
        }

        fn text(&self) -> String {
            std::fs::read_to_string(self.journal()).unwrap()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn lines(text: &str) -> File {
        let mut file = File::from(super::super::super::sys::file::in_memory(c"lines").unwrap());
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn pieces_are_one_text_and_a_failure_cuts_them_off() {
        let folder = Folder::new("append");
        let mut pen = folder.pen(File::create(folder.journal()).unwrap());
        assert!(matches!(pen.append(b"one ", false), Ok(None)));
        assert!(matches!(pen.append(b"two\n", true), Ok(None)));
        assert_eq!((folder.text().as_str(), pen.durable), ("one two\n", 8));
        // One that may only be read stands for a disk that may.
        let good = std::mem::replace(&mut pen.file, File::open(folder.journal()).unwrap());
        assert!(matches!(pen.append(b"three\n", true), Err((PenStep::Write, _))));
        assert!(folder.0.join("journal.unsure").exists(), "it could not be cut off either");
        pen.file = good;
        assert!(matches!(pen.append(b"four\n", true), Ok(None)));
        assert_eq!(folder.text(), "one two\nfour\n");
        assert!(!folder.0.join("journal.unsure").exists());
    }

    #[test]
    fn what_was_taken_away_is_noticed_and_made_anew() {
        let folder = Folder::new("anew");
        let mut pen = folder.pen(File::create(folder.journal()).unwrap());
        pen.publish(&folder.0.join("state/names"), lines("names")).unwrap();
        assert_eq!(pen.loss(), None);
        std::fs::rename(folder.journal(), folder.0.join("elsewhere")).unwrap();
        assert!(matches!(pen.append(b"one\n", true), Ok(Some(Loss::Removed))));
        pen.place(&lines("all\n")).unwrap();
        assert_eq!((folder.text().as_str(), pen.loss()), ("all\n", None));
        std::fs::remove_dir_all(folder.0.join("state")).unwrap();
        assert!(matches!(pen.append(b"two\n", true), Ok(Some(Loss::Removed))));
        pen.place(&lines("all\ntwo\n")).unwrap();
        assert!(matches!(pen.append(b"three\n", true), Ok(None)));
        assert_eq!(folder.text(), "all\ntwo\nthree\n");
        assert_eq!(std::fs::read_to_string(folder.0.join("state/names")).unwrap(), "names");
        let other = File::open(folder.0.join("state")).unwrap();
        assert!(try_lock(&other).is_err(), "the new folder is locked too");
    }

    #[test]
    fn what_another_program_cuts_or_writes_is_noticed_before_more_is_written() {
        let folder = Folder::new("changed");
        let mut pen = folder.pen(OpenOptions::new().read(true).write(true).create(true).truncate(true).open(folder.journal()).unwrap());
        for text in ["", "one\n", "something that is longer than what was written\n"] {
            pen.place(&lines("one\ntwo\n")).unwrap();
            assert_eq!(pen.loss(), None);
            std::fs::write(folder.journal(), text).unwrap();
            assert_eq!(pen.loss(), Some(Loss::Changed), "{text:?}");
            assert!(matches!(pen.append(b"three\n", true), Ok(Some(Loss::Changed))));
            assert_eq!(folder.text(), text, "nothing is written into it");
        }
        pen.place(&lines("all\n")).unwrap();
        assert!(matches!(pen.append(b"four\n", true), Ok(None)));
        assert_eq!(folder.text(), "all\nfour\n");
    }

    #[test]
    fn another_folder_in_its_place_is_where_it_is_made_anew() {
        let folder = Folder::new("covered");
        let mut pen = folder.pen(File::create(folder.journal()).unwrap());
        pen.append(b"one\n", true).unwrap();
        std::fs::rename(folder.0.join("state"), folder.0.join("old")).unwrap();
        std::fs::create_dir(folder.0.join("state")).unwrap();
        std::fs::hard_link(folder.0.join("old/journal"), folder.journal()).unwrap();
        assert_eq!(pen.loss(), Some(Loss::Covered), "with the same file in it, too");
        pen.place(&lines("all\n")).unwrap();
        assert_eq!((folder.text().as_str(), pen.loss()), ("all\n", None));
    }

    #[test]
    fn a_new_file_that_fails_leaves_the_old_one() {
        let folder = Folder::new("fails");
        let mut pen = folder.pen(File::create(folder.journal()).unwrap());
        pen.append(b"old\n", true).unwrap();
        std::fs::create_dir(folder.0.join("state/journal.new")).unwrap();
        assert!(matches!(pen.place(&lines("new\n")), Err((PenStep::Write, _))));
        assert!(matches!(pen.append(b"more\n", true), Ok(None)));
        assert_eq!(folder.text(), "old\nmore\n");
    }
}
