//! The disk model: files by name, with contents that follow from name, version and offset, so that nothing is stored and every byte
//! can be checked wherever it turns up.
//!
//! A file that is replaced (as by rename) stays what it was for those who have it open; a file that is changed in place ends the
//! transfers that read it. A read may find nothing in memory: it is cold for a while, then warm for everybody.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::limits::FILES;
use crate::base::machine::{FileId, OpenError, OpenFile};
use crate::base::rng::{Rng, mix};
use crate::base::time::Instant;

/// What the disk does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Habits {
    /// Odds that an open finds a disk that has failed, in parts per million.
    pub failure: u32,
    /// Odds that a page (64 KiB) is not in memory when it is first read, in parts per million.
    pub cold: u32,
    /// How long a cold page takes to come, and how long an open takes.
    pub latency: Duration,
}

/// One version of a file's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    seed: u64,
    /// In bytes.
    pub size: u64,
}

impl Version {
    /// Contents that are decided by `seed`.
    pub const fn new(seed: u64, size: u64) -> Version {
        Version { seed, size }
    }

    /// Eight bytes at a time.
    fn word(self, number: u64) -> [u8; 8] {
        mix(self.seed ^ number).to_le_bytes()
    }

    /// The byte at an offset.
    pub fn byte(self, offset: u64) -> u8 {
        self.word(offset / 8)[(offset % 8) as usize]
    }

    /// Lays the bytes from `offset` on into `buf`.
    pub fn fill(self, offset: u64, buf: &mut [u8]) {
        let head = ((8 - offset % 8) % 8).min(buf.len() as u64) as usize;
        let (first, rest) = buf.split_at_mut(head);
        (offset..).zip(first).for_each(|(at, byte)| *byte = self.byte(at));
        for (number, chunk) in (offset.div_ceil(8)..).zip(rest.chunks_mut(8)) {
            chunk.copy_from_slice(&self.word(number)[..chunk.len()]);
        }
    }

    /// Whether `bytes` are what stands at `offset`.
    pub fn matches(self, offset: u64, bytes: &[u8]) -> bool {
        offset + bytes.len() as u64 <= self.size && {
            let mut own = [0; 2048];
            (offset..).step_by(own.len()).zip(bytes.chunks(own.len())).all(|(at, chunk)| {
                let own = &mut own[..chunk.len()];
                self.fill(at, own);
                own == chunk
            })
        }
    }
}

/// The bytes of versions that are in use, laid out once: nothing is made twice for a storm that reads one file a million times.
#[derive(Default)]
pub struct Contents {
    kept: Vec<(Version, Box<[u8]>)>,
}

impl Contents {
    /// Larger files are generated again for every read.
    const BYTES_MAX: u64 = 16 << 20;
    const VERSIONS_MAX: usize = 16;

    /// All bytes of a version, if they are few enough to be kept.
    fn whole(&mut self, version: Version) -> Option<&[u8]> {
        if version.size > Contents::BYTES_MAX {
            return None;
        }
        if let Some(at) = self.kept.iter().position(|(kept, _)| *kept == version) {
            return self.kept.get(at).map(|(_, bytes)| &bytes[..]);
        }
        if self.kept.len() == Contents::VERSIONS_MAX {
            self.kept.remove(0);
        }
        let mut bytes = vec![0; version.size as usize].into_boxed_slice();
        version.fill(0, &mut bytes);
        self.kept.push((version, bytes));
        self.kept.last().map(|(_, bytes)| &bytes[..])
    }

    /// Lays the bytes from `offset` on into `buf`: they are all within the file.
    pub fn fill(&mut self, version: Version, offset: u64, buf: &mut [u8]) {
        match self.whole(version).and_then(|bytes| bytes.get(offset as usize..)?.get(..buf.len())) {
            Some(bytes) => buf.copy_from_slice(bytes),
            None => version.fill(offset, buf),
        }
    }

    /// Whether `bytes` are what stands at `offset`.
    pub fn matches(&mut self, version: Version, offset: u64, bytes: &[u8]) -> bool {
        match self.whole(version) {
            Some(own) => own.get(offset as usize..).and_then(|own| own.get(..bytes.len())) == Some(bytes),
            None => version.matches(offset, bytes),
        }
    }
}

struct Named {
    content: Result<Version, OpenError>,
    /// Counts up with every version.
    version: u64,
}

struct Open {
    name: Vec<u8>,
    version: Version,
    /// How often the machine holds it.
    holders: u32,
    changed: bool,
}

/// Why a read gives nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// The page is not in memory; it has been asked for.
    Cold,
    /// The file was changed in place since it was opened.
    Changed,
}

const PAGE: u64 = 64 * 1024;

/// A modelled disk: files by name, pages that are cold at first, and replies that take their time.
pub struct Disk {
    /// How slow it is.
    pub habits: Habits,
    rng: Rng,
    files: BTreeMap<Vec<u8>, Named>,
    open: BTreeMap<u64, Open>,
    next: u64,
    /// When a page of an open file is in memory.
    pages: BTreeMap<(u64, u64), Instant>,
    contents: Contents,
}

impl Disk {
    /// An empty disk.
    pub fn new(habits: Habits, rng: Rng) -> Disk {
        Disk { habits, rng, files: BTreeMap::new(), open: BTreeMap::new(), next: 0, pages: BTreeMap::new(), contents: Contents::default() }
    }

    /// Puts a file there, or replaces it as rename does: who has the old one open goes on with it.
    pub fn put(&mut self, name: &str, size: u64) -> Version {
        let number = self.files.get(name.as_bytes()).map_or(0, |file| file.version + 1);
        let hash = name.bytes().fold(number, |hash, byte| mix(hash ^ u64::from(byte)));
        let version = Version::new(mix(hash), size);
        self.files.insert(name.into(), Named { content: Ok(version), version: number });
        version
    }

    /// Puts something there that does not open.
    pub fn put_refusal(&mut self, name: &str, refusal: OpenError) {
        self.files.insert(name.into(), Named { content: Err(refusal), version: 0 });
    }

    /// Removes a file; who has it open goes on with it.
    pub fn remove(&mut self, name: &str) {
        self.files.remove(name.as_bytes());
    }

    /// Writes into a file where it stands: a read of whoever has it open says so from now on.
    pub fn change(&mut self, name: &str) {
        let Some(size) = self.version(name.as_bytes()).map(|version| version.size) else { return };
        self.put(name, size);
        self.open.values_mut().filter(|open| open.name == name.as_bytes()).for_each(|open| open.changed = true);
    }

    /// What a name stands for now.
    pub fn version(&self, name: &[u8]) -> Option<Version> {
        self.files.get(name)?.content.ok()
    }

    /// What stands behind an open file.
    pub fn behind(&self, file: FileId) -> Option<Version> {
        self.open.get(&file.to_u64()).map(|open| open.version)
    }

    /// How often the machine holds files open, in all.
    pub fn held(&self) -> u32 {
        self.open.values().map(|open| open.holders).sum()
    }

    /// Opens a file. One that is open in its present version is shared, and there are places for [`FILES`], as in a file table.
    pub fn open(&mut self, name: &[u8]) -> Result<OpenFile, OpenError> {
        let version = self.files.get(name).ok_or(OpenError::NotFound)?.content?;
        if self.rng.chance(self.habits.failure) {
            return Err(OpenError::Failed);
        }
        let shared = self.open.iter_mut().find(|(_, open)| open.name == name && open.version == version && !open.changed);
        if let Some((&id, open)) = shared {
            open.holders += 1;
            return Ok(OpenFile { file: FileId::from_u64(id), size: version.size, stamp: version.seed });
        }
        if self.open.len() >= FILES {
            return Err(OpenError::Busy);
        }
        let id = self.next;
        self.next += 1;
        self.open.insert(id, Open { name: name.into(), version, holders: 1, changed: false });
        Ok(OpenFile { file: FileId::from_u64(id), size: version.size, stamp: version.seed })
    }

    /// Lets go of a file once. False: nobody held it.
    pub fn close(&mut self, file: FileId) -> bool {
        let Some(open) = self.open.get_mut(&file.to_u64()) else { return false };
        open.holders -= 1;
        if open.holders == 0 {
            self.open.remove(&file.to_u64());
            self.pages = std::mem::take(&mut self.pages).into_iter().filter(|((id, _), _)| *id != file.to_u64()).collect();
        }
        true
    }

    /// Who held files is gone.
    pub fn close_all(&mut self) {
        self.open.clear();
        self.pages.clear();
    }

    /// Whether `want` bytes from `offset` on are in memory; gives the version, and how many of them the file has. None: the file is
    /// not open.
    pub fn ready(&mut self, now: Instant, file: FileId, offset: u64, want: u64) -> Option<Result<(Version, u64), Unread>> {
        let open = self.open.get(&file.to_u64())?;
        if open.changed {
            return Some(Err(Unread::Changed));
        }
        let version = open.version;
        let len = version.size.saturating_sub(offset).min(want);
        let Habits { cold, latency, .. } = self.habits;
        // Where nothing is ever cold there are no pages to keep.
        let pages = if cold > 0 || !self.pages.is_empty() { offset / PAGE..(offset + len).div_ceil(PAGE) } else { 0..0 };
        for page in pages {
            let rng = &mut self.rng;
            let warm = *self.pages.entry((file.to_u64(), page)).or_insert_with(|| if rng.chance(cold) { now + latency } else { now });
            if warm > now {
                return Some(Err(Unread::Cold));
            }
        }
        Some(Ok((version, len)))
    }

    /// Lays what stands at `offset` into `buf`; see [`ready`](Disk::ready).
    pub fn fill(&mut self, version: Version, offset: u64, buf: &mut [u8]) {
        self.contents.fill(version, offset, buf);
    }

    /// Reads into `buf` from `offset` on; gives how many bytes there are. None: the file is not open.
    pub fn read(&mut self, now: Instant, file: FileId, offset: u64, buf: &mut [u8]) -> Option<Result<usize, Unread>> {
        let read = self.ready(now, file, offset, buf.len() as u64)?.map(|(version, len)| {
            let len = len as usize;
            buf.get_mut(..len).map_or(0, |buf| {
                self.fill(version, offset, buf);
                len
            })
        });
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(habits: Habits) -> Disk {
        Disk::new(habits, Rng::new(1))
    }

    #[test]
    fn old_opens_go_on_with_the_old_file() {
        let mut disk = disk(Habits::default());
        let old = disk.put("vmlinuz", 1000);
        let first = disk.open(b"vmlinuz").unwrap();
        assert_eq!(disk.open(b"vmlinuz"), Ok(first), "shared");
        let new = disk.put("vmlinuz", 900);
        let second = disk.open(b"vmlinuz").unwrap();
        assert!(second.file != first.file && second.size == 900 && old != new);
        let mut bytes = [[0; 64]; 2];
        assert_eq!(disk.read(Instant::ZERO, first.file, 990, &mut bytes[0]), Some(Ok(10)));
        assert_eq!(disk.read(Instant::ZERO, second.file, 0, &mut bytes[1]), Some(Ok(64)));
        assert!((0..10).all(|n| bytes[0][n] == old.byte(990 + n as u64)) && (0..64).all(|n| bytes[1][n] == new.byte(n as u64)));
        assert!(old.matches(990, &bytes[0][..10]) && !new.matches(0, &bytes[0]) && !old.matches(991, &bytes[0][1..11]), "past the end");
        assert!(disk.close(first.file) && disk.close(first.file) && !disk.close(first.file));
        assert_eq!((disk.held(), disk.read(Instant::ZERO, first.file, 0, &mut [0])), (1, None));
    }

    #[test]
    fn kept_contents_are_the_files() {
        let mut contents = Contents::default();
        for size in [5000, Contents::BYTES_MAX + 5000] {
            let version = Version::new(size, size);
            let mut bytes = [0; 100];
            for offset in [0, 77, size - 100] {
                contents.fill(version, offset, &mut bytes);
                assert!((offset..).zip(&bytes).all(|(at, byte)| version.byte(at) == *byte) && contents.matches(version, offset, &bytes));
                assert!(!contents.matches(version, offset + 1, &bytes) && !contents.matches(Version::new(7, size), offset, &bytes));
            }
        }
    }

    #[test]
    fn a_change_in_place_is_told() {
        let mut disk = disk(Habits::default());
        disk.put("initrd.img", 1000);
        let open = disk.open(b"initrd.img").unwrap();
        disk.change("initrd.img");
        assert_eq!(disk.read(Instant::ZERO, open.file, 0, &mut [0; 8]), Some(Err(Unread::Changed)));
        let again = disk.open(b"initrd.img").unwrap();
        assert_eq!(disk.read(Instant::ZERO, again.file, 0, &mut [0; 8]), Some(Ok(8)));
    }

    #[test]
    fn cold_pages_come_after_a_while() {
        let mut disk = disk(Habits { cold: 1_000_000, latency: Duration::from_millis(8), ..Habits::default() });
        disk.put("vmlinuz", 200_000);
        let open = disk.open(b"vmlinuz").unwrap();
        let mut read = |ms, offset| disk.read(Instant::from_millis(ms), open.file, offset, &mut [0; 1000]).unwrap();
        assert_eq!([read(0, 0), read(7, 5000), read(8, 0)], [Err(Unread::Cold), Err(Unread::Cold), Ok(1000)]);
        assert_eq!([read(9, PAGE - 500), read(17, PAGE - 500)], [Err(Unread::Cold), Ok(1000)], "the next page, for itself");
    }

    #[test]
    fn what_does_not_open() {
        let mut disk = disk(Habits::default());
        disk.put_refusal("folder", OpenError::NotAFile);
        assert_eq!(disk.open(b"folder"), Err(OpenError::NotAFile));
        assert_eq!(disk.open(b"nothing"), Err(OpenError::NotFound));
        disk.put("gone", 1);
        disk.remove("gone");
        assert_eq!(disk.open(b"gone"), Err(OpenError::NotFound));
        disk.habits.failure = 1_000_000;
        disk.put("there", 1);
        assert_eq!(disk.open(b"there"), Err(OpenError::Failed));
    }
}
