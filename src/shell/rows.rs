//! Rows of a machine for the daemon that comes after this one ([`Output::Row`](crate::base::outbox::Output)): a mapped file in the run folder.
//!
//! To write into it costs no system call, and nothing waits: the file lies on a tmpfs, with all of its pages, or there is none. What is there
//! survives whatever ends the process (a signal, the kernel for want of memory, a fault), and no power cut: a row of another boot of this
//! machine is not read. On any other file system a page that is being written to its disk would hold the loop up, so no rows are kept there.
//!
//! | at | in a file | at | in a row |
//! |---|---|---|---|
//! | 0 | what it is | 0 | length and checksum of the bytes; 0: no row |
//! | 8 | layout of the rows, size of one | 8 | a mark, behind its count |
//! | 16 | the boot of the machine | 40 | another mark, behind its count |
//! | 32 | nothing | 72 | the bytes |
//!
//! A process may be killed between any two instructions. A row counts from its first word on, which is written last. Of the two marks the one
//! with the higher count holds; the other one is written next, its count last.
//!
//! The daemon that starts reads what is there, and writes its own rows into a new file, which takes the name of the old one when it has taken up
//! all. If it dies before that, the next one finds the old one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

use crate::base::limits::ROW_MAX;
use crate::base::machine::RowMark;
use crate::roll::journal::crc32;

use super::sys::map::SharedMap;

const NAME: &str = "transfers";
const MAGIC: u64 = u64::from_le_bytes(*b"musterRW");
const HEADER: usize = 64;
const MARK: usize = 32;
const MARKS: [usize; 2] = [8, 8 + MARK];
const BYTES: usize = 8 + 2 * MARK;
const ROW: usize = BYTES + ROW_MAX;

const _: () = assert!(ROW % 8 == 0 && HEADER % 8 == 0 && size_of::<RowMark>() + 8 == MARK);

/// A row that the daemon before this one has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRow {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its mark.
    pub mark: RowMark,
}

/// The rows of this daemon.
pub struct Rows {
    map: SharedMap,
    places: usize,
    path: PathBuf,
    taken: bool,
}

/// Why rows are not kept, or not read.
type Why = String;

impl Rows {
    /// Reads the rows in a folder, and begins a new file for so many of this layout. Where there can be none the log says why.
    pub fn open(folder: &Path, places: usize, format: u32) -> (Option<Rows>, Vec<KeptRow>) {
        let boot = boot_id();
        let path = folder.join(NAME);
        let rows = Rows::begin(&path, places, format, boot);
        if let Err(why) = &rows {
            log::info!("transfers: not kept over a restart ({why})");
        }
        let kept = match read(&path, format, boot) {
            Ok(kept) => kept,
            Err(why) => {
                log::info!("transfers: those of the daemon before are not taken up ({why})");
                Vec::new()
            }
        };
        if rows.is_err() {
            // Nobody keeps it right from now on.
            let _ = std::fs::remove_file(&path);
        }
        (rows.ok(), kept)
    }

    fn begin(path: &Path, places: usize, format: u32, boot: [u64; 2]) -> Result<Rows, Why> {
        let new = path.with_extension("new");
        let failed = |error: io::Error| format!("{}: {error}", new.display());
        let _ = std::fs::remove_file(&new);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
        let rows = Rows::map(&file, places, format, boot).map(|map| Rows { map, places, path: path.into(), taken: false });
        if rows.is_err() {
            let _ = std::fs::remove_file(&new);
        }
        rows.map_err(|error| failed(error.unwrap_or_else(|| io::Error::other("its file system is no tmpfs"))))
    }

    /// The error is None where the file system is of the wrong kind.
    fn map(file: &File, places: usize, format: u32, boot: [u64; 2]) -> Result<SharedMap, Option<io::Error>> {
        let system = fstatfs(file.as_fd()).map_err(|errno| Some(errno.into()))?;
        if system.filesystem_type() != TMPFS_MAGIC {
            return Err(None);
        }
        let mut map = SharedMap::new(file.as_fd(), HEADER + places * ROW).map_err(Some)?;
        map.set(8, layout(format));
        map.set(16, boot[0]);
        map.set(24, boot[1]);
        map.set(0, MAGIC);
        Ok(map)
    }

    fn at(&self, place: u32) -> Option<usize> {
        Some(place as usize).filter(|&place| place < self.places).map(|place| HEADER + place * ROW)
    }

    /// Keeps a row, with a mark of zeros.
    pub fn put(&mut self, place: u32, bytes: &[u8]) {
        let Some(at) = self.at(place).filter(|_| bytes.len() <= ROW_MAX) else { return };
        self.map.set(at, 0);
        self.map.lay(at + BYTES, bytes);
        MARKS.iter().for_each(|mark| self.map.lay(at + mark, &[0; MARK]));
        self.map.set(at, u64::from(crc32(bytes)) << 32 | bytes.len() as u64);
    }

    /// Changes the mark of a row.
    pub fn mark(&mut self, place: u32, mark: RowMark) {
        let Some(at) = self.at(place) else { return };
        let counts = MARKS.map(|mark| self.map.get(at + mark));
        let older = at + if counts[0] <= counts[1] { MARKS[0] } else { MARKS[1] };
        self.map.set(older, 0);
        (1..).zip(mark).for_each(|(word, value)| self.map.set(older + 8 * word, value));
        self.map.set(older, counts[0].max(counts[1]) + 1);
    }

    /// Keeps a row no longer.
    pub fn clear(&mut self, place: u32) {
        if let Some(at) = self.at(place) {
            self.map.set(at, 0);
        }
    }

    /// All that was left is taken up: from now on these rows are the ones that the next daemon finds.
    pub fn take_place(&mut self) {
        if std::mem::replace(&mut self.taken, true) {
            return;
        }
        if let Err(error) = std::fs::rename(self.path.with_extension("new"), &self.path) {
            log::warn!("transfers: not kept over a restart ({}: {error})", self.path.display());
        }
    }
}

fn layout(format: u32) -> u64 {
    u64::from(format) << 32 | ROW as u64
}

/// Which boot of the machine this is; rows tell times by a clock that begins with it.
fn boot_id() -> [u64; 2] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    let half = |half: Option<&str>| half.and_then(|half| u64::from_str_radix(half, 16).ok()).unwrap_or(0);
    [half(digits.get(..16)), half(digits.get(16..32))]
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u64::from_le_bytes)
}

/// What another daemon has left in a file. None of it is believed without its checksum.
fn read(path: &Path, format: u32, boot: [u64; 2]) -> Result<Vec<KeptRow>, Why> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    if word(&bytes, 0) != MAGIC || word(&bytes, 8) != layout(format) {
        return Err("another version of musterd has written them".into());
    }
    // After a power cut nobody waits for anything.
    if [word(&bytes, 16), word(&bytes, 24)] != boot {
        return Ok(Vec::new());
    }
    Ok(bytes.get(HEADER..).unwrap_or_default().chunks_exact(ROW).filter_map(row).collect())
}

fn row(row: &[u8]) -> Option<KeptRow> {
    let (len, sum) = (word(row, 0) as u32 as usize, (word(row, 0) >> 32) as u32);
    let bytes = row.get(BYTES..).and_then(|bytes| bytes.get(..len)).filter(|bytes| !bytes.is_empty() && crc32(bytes) == sum)?;
    let newer = MARKS.into_iter().max_by_key(|&mark| word(row, mark))?;
    // Without a mark it was not written to the end.
    let mark = (word(row, newer) > 0).then(|| [1, 2, 3].map(|at| word(row, newer + 8 * at)))?;
    Some(KeptRow { bytes: bytes.to_vec(), mark })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: [u64; 2] = [3, 4];

    /// A folder in memory.
    fn folder(name: &str) -> PathBuf {
        let folder = Path::new("/dev/shm").join(format!("muster-rows-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn begin(folder: &Path) -> Rows {
        let mut rows = Rows::begin(&folder.join(NAME), 4, 1, BOOT).unwrap();
        rows.take_place();
        rows
    }

    fn kept(bytes: &[u8], word: u64) -> KeptRow {
        KeptRow { bytes: bytes.into(), mark: [word, word + 1, word + 2] }
    }

    #[test]
    fn the_next_daemon_finds_what_was_put_last() {
        let folder = folder("next");
        let path = folder.join(NAME);
        let mut rows = begin(&folder);
        for (place, bytes) in [(0, b"a".as_slice()), (2, b"bb"), (3, b"ccc"), (4, b"beyond")] {
            rows.put(place, bytes);
            rows.mark(place, [1, 2, 3]);
        }
        rows.clear(0);
        (10..20).for_each(|word| rows.mark(2, [word, word + 1, word + 2]));
        rows.put(3, b"other");
        rows.mark(3, [7, 8, 9]);
        assert_eq!(read(&path, 1, BOOT), Ok(vec![kept(b"bb", 19), kept(b"other", 7)]));
        // What the next one does counts when it has taken all up.
        let mut next = Rows::begin(&path, 2, 1, BOOT).unwrap();
        next.put(0, b"mine");
        next.mark(0, [1, 2, 3]);
        assert_eq!(read(&path, 1, BOOT).unwrap().len(), 2);
        next.take_place();
        assert_eq!(read(&path, 1, BOOT), Ok(vec![kept(b"mine", 1)]), "another number of places");
        assert_eq!(read(&path, 1, [3, 5]), Ok(Vec::new()), "another boot of the machine");
        assert!(read(&path, 2, BOOT).unwrap_err().contains("another version"));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(read(&path, 1, BOOT), Ok(Vec::new()), "there was none");
    }

    /// Whatever store a process was killed at: the row is there with the one mark or the other, or not at all.
    #[test]
    fn torn_rows_are_none() {
        let folder = folder("torn");
        let path = folder.join(NAME);
        let mut rows = begin(&folder);
        rows.put(1, b"row");
        assert_eq!(read(&path, 1, BOOT), Ok(Vec::new()), "it has no mark yet");
        rows.mark(1, [5, 6, 7]);
        rows.mark(1, [6, 7, 8]);
        let whole = std::fs::read(&path).unwrap();
        let at = HEADER + ROW;
        let torn = |change: &dyn Fn(&mut [u8])| {
            let mut bytes = whole.clone();
            change(&mut bytes[at..at + ROW]);
            std::fs::write(&path, bytes).unwrap();
            read(&path, 1, BOOT).unwrap()
        };
        assert_eq!(torn(&|_| ()), [kept(b"row", 6)]);
        assert_eq!(
            torn(&|row| row[MARKS[0]..MARKS[0] + MARK].fill(9)),
            [KeptRow { bytes: b"row".into(), mark: [0x0909_0909_0909_0909; 3] }]
        );
        assert_eq!(torn(&|row| row[MARKS[1]] = 0), [kept(b"row", 5)], "the second mark was being written");
        assert_eq!(torn(&|row| row[BYTES] ^= 1), [], "its bytes were being written");
        assert_eq!(torn(&|row| row[..8].fill(0)), []);
        assert_eq!(torn(&|row| row[..8].fill(0xff)), [], "a length beyond everything");
        std::fs::write(&path, &whole[..at + 20]).unwrap();
        assert_eq!(read(&path, 1, BOOT), Ok(Vec::new()), "a file that is cut off");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_disk_keeps_none() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
        let why = Rows::begin(&folder.join("muster-rows-disk"), 4, 1, BOOT).err().expect("no tmpfs");
        assert!(why.contains("no tmpfs"), "{why}");
        assert!(!folder.join("muster-rows-disk.new").exists());
        assert_ne!(boot_id(), [0, 0]);
    }
}
