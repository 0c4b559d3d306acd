//! Lines that the kernel was given and could neither put on disk nor take back: a failed sync on a disk that is read-only by now. The next
//! daemon would read them from the kernel's memory as if they were on disk. So where the good part ends is noted in the run directory, which lives
//! as long as that memory: until the machine starts again.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const NAME: &str = "journal.unsure";

pub struct Unsure {
    path: PathBuf,
    noted: bool,
}

impl Unsure {
    /// In the run directory.
    pub fn new(run: &Path) -> Unsure {
        let path = run.join(NAME);
        Unsure { noted: path.exists(), path }
    }

    /// How many bytes of this file can be relied on, if it was noted.
    pub fn reliable(&self, file: &File) -> Option<u64> {
        let text = std::fs::read_to_string(&self.path).ok()?;
        let (inode, bytes) = text.trim().split_once(' ')?;
        let inode: u64 = inode.parse().ok()?;
        let is_it = file.metadata().is_ok_and(|file| file.ino() == inode);
        bytes.parse().ok().filter(|_| is_it)
    }

    /// Notes that nothing behind so many bytes is on disk.
    pub fn note(&mut self, file: &File, durable: u64) {
        let Ok(inode) = file.metadata().map(|file| file.ino()) else { return };
        self.noted = true;
        if let Err(error) = std::fs::write(&self.path, format!("{inode} {durable}\n")) {
            let path = self.path.display();
            log::error!("journal: cannot write {path}: {error} (do not restart musterd until the journal's disk is mounted again)");
        }
    }

    /// Something stands in the file that could not be cut off.
    pub fn is_noted(&self) -> bool {
        self.noted
    }

    /// Everything is on disk.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.noted) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
