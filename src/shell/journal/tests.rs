use super::*;
use crate::roll::journal::crc32;
use crate::shell::Crew;

/// A folder of its own for each test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("muster-journal-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        Folder(folder)
    }

    fn state(&self) -> PathBuf {
        self.0.join("state")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.state().join(NAME)).unwrap()
    }

    /// What a start finds when the file has these bytes.
    fn found(&self, bytes: &[u8]) -> Result<Vec<String>, String> {
        let _ = std::fs::create_dir(self.state());
        std::fs::write(self.state().join(NAME), bytes).unwrap();
        start(self).map(|(_, lines)| lines).map_err(|error| error.to_string())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A journal with a writer of its own.
fn start(folder: &Folder) -> Result<(Journal, Vec<String>), ShellError> {
    open(&folder.state(), &folder.0, Crew::start().unwrap().writer)
}

fn line(n: u64) -> String {
    let text = format!("2026-11-23T15:34:{:02}Z n{n} vacant", n % 60);
    format!("{text} ~{:08x}", crc32(text.as_bytes()))
}

fn append(journal: &mut Journal, seq: u64) {
    journal.act(JournalOp::Append { seq: Seq::new(seq), line: line(seq).as_bytes() });
}

/// Waits for the writer's answer, if it has something to do.
fn await_writer(journal: &mut Journal) {
    if journal.busy != WriterState::No {
        journal.writer.wait(Duration::from_millis(100));
    }
}

/// Lets the disk work until there is nothing left to do; gives what was told.
fn settle(journal: &mut Journal) -> Vec<JournalNews> {
    let begin = std::time::Instant::now();
    let mut told = Vec::new();
    while !journal.is_idle() || journal.busy != WriterState::No || journal.compacted {
        assert!(begin.elapsed() < Duration::from_secs(60), "the disk does not come to an end");
        let now = Instant::ZERO + begin.elapsed();
        told.extend(std::iter::from_fn(|| journal.turn(now)));
        await_writer(journal);
    }
    told
}

#[test]
fn lines_come_back_after_a_restart() {
    let folder = Folder::new("lines");
    let (mut journal, lines) = start(&folder).unwrap();
    assert!(lines.is_empty() && journal.is_idle());
    append(&mut journal, 1);
    append(&mut journal, 2);
    assert_eq!(settle(&mut journal), [JournalNews::Synced(Seq::new(2))], "one sync for both");
    append(&mut journal, 3);
    assert_eq!(settle(&mut journal), [JournalNews::Synced(Seq::new(3))]);
    drop(journal);
    assert_eq!(start(&folder).unwrap().1, [line(1), line(2), line(3)]);
}

#[test]
fn a_tail_that_was_torn_anywhere_is_cut() {
    let folder = Folder::new("torn");
    let (whole, last) = (format!("{}\n{}\n", line(1), line(2)), line(3) + "\n");
    for len in 0..last.len() {
        let bytes = [whole.as_bytes(), &last.as_bytes()[..len]].concat();
        assert_eq!(folder.found(&bytes), Ok(vec![line(1), line(2)]), "{len} bytes of it");
        assert_eq!(folder.text(), whole);
    }
    // A last line that is whole but wrong, and blocks that were never written.
    let wrong = line(3).replace("n3", "n4") + "\n";
    assert_eq!(folder.found(&[whole.as_bytes(), wrong.as_bytes()].concat()), Ok(vec![line(1), line(2)]));
    assert_eq!(folder.found(&[whole.as_bytes(), &[0; 4096]].concat()), Ok(vec![line(1), line(2)]));
    assert_eq!(folder.found(&[whole.as_bytes(), wrong.as_bytes(), &[0; 100]].concat()), Ok(vec![line(1), line(2)]));
}

#[test]
fn what_is_damaged_at_the_end_is_told_as_it_is_and_in_bounds() {
    assert!(damage(b"2026-11-23T15:34").starts_with("the last line is incomplete"));
    assert!(damage(&[0; 70]).starts_with("70 bytes that were never written"));
    let whole = damage((line(3).replace("n3", "n4") + "\n").as_bytes());
    assert!(whole.starts_with("the checksum of the last line is wrong") && whole.contains("n4 vacant"), "{whole}");
    assert!(damage(&[b"\x1b".repeat(1 << 20), b"\n".to_vec()].concat()).len() < 400);
}

#[test]
fn a_journal_without_a_sound_line_is_no_empty_cluster() {
    let folder = Folder::new("unsound");
    assert_eq!(folder.found(b""), Ok(vec![]));
    for bytes in [&[0; 4096][..], b"\n\0\0\n", b"2026-11-23T15:34:10Z n0 vac", b"\xff\xfe\n", line(1).replace("n1", "n2").as_bytes()] {
        let why = folder.found(bytes).unwrap_err();
        assert!(why.contains("has no valid line") || why.contains("is damaged"), "{why}");
        assert_eq!(std::fs::read(folder.state().join(NAME)).unwrap(), bytes, "it is left as it is");
    }
}

#[test]
fn only_a_regular_file_is_a_journal() {
    let folder = Folder::new("regular");
    std::fs::create_dir(folder.state()).unwrap();
    let path = folder.state().join(NAME);
    let refused = || {
        let why = start(&folder).err().unwrap().to_string();
        assert!(why.contains("is not a regular file") && why.contains("--state-dir"), "{why}");
        std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path)).unwrap();
    };
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused();
    std::fs::create_dir(&path).unwrap();
    refused();
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    refused();
    std::os::unix::fs::symlink("elsewhere", &path).unwrap();
    assert!(start(&folder).unwrap().1.is_empty() && folder.state().join("elsewhere").is_file(), "a link to where a file is to be");
}

#[test]
fn damage_in_the_middle_refuses_and_names_the_line() {
    let folder = Folder::new("damage");
    let bad = line(2).replace("n2", "n3");
    let why = folder.found(format!("{}\n{bad}\n{}\n", line(1), line(3)).as_bytes()).unwrap_err();
    assert!(why.starts_with("line 2 of ") && why.contains("correct it"), "{why}");
    let by_hand = "2026-11-23T15:34:10Z n3 vacant";
    assert_eq!(folder.found(format!("{}\n{by_hand}\n{}\n", line(1), line(3)).as_bytes()), Ok(vec![line(1), by_hand.into(), line(3)]));
}

#[test]
fn a_new_file_has_what_came_meanwhile() {
    let folder = Folder::new("anew");
    let (mut journal, _) = start(&folder).unwrap();
    (1..=5).for_each(|seq| append(&mut journal, seq));
    settle(&mut journal);
    journal.act(JournalOp::CompactBegin);
    journal.act(JournalOp::CompactLine { line: line(100).as_bytes() });
    append(&mut journal, 6);
    journal.act(JournalOp::CompactLine { line: line(101).as_bytes() });
    journal.act(JournalOp::CompactEnd);
    assert_eq!(journal.turn(Instant::ZERO), None);
    append(&mut journal, 7);
    let told = settle(&mut journal);
    assert_eq!((told.first(), told.last()), (Some(&JournalNews::Synced(Seq::new(6))), Some(&JournalNews::Synced(Seq::new(7)))));
    assert!(told.contains(&JournalNews::Compacted));
    let expected = [line(100), line(6), line(101), line(7)];
    drop(journal);
    assert_eq!(start(&folder).unwrap().1, expected);
    assert!(!folder.state().join(NEW).exists());
}

#[test]
fn one_daemon_keeps_a_journal() {
    let folder = Folder::new("two");
    let first = start(&folder).unwrap();
    let why = start(&folder).err().unwrap().to_string();
    assert!(why.starts_with("another musterd uses "), "{why}");
    drop(first);
    start(&folder).unwrap();
    let why = open(Path::new("/nowhere/at/all"), &folder.0, Crew::start().unwrap().writer).err().unwrap().to_string();
    assert!(why.contains("--state-dir"), "{why}");
}

/// Hands the writer the journal's file once more, opened like this.
fn replace(journal: &mut Journal, folder: &Folder, options: &OpenOptions) {
    let (file, held) = (options.open(folder.state().join(NAME)).unwrap(), File::open(folder.state()).unwrap());
    let len = file.metadata().unwrap().len();
    let path = folder.state().join(NAME);
    hand_over(&mut journal.writer, (&path, &folder.0), (&held, &file), len, false).unwrap();
}

#[test]
fn a_disk_that_fails_is_tried_again_with_the_same_lines() {
    let folder = Folder::new("fails");
    let (mut journal, _) = start(&folder).unwrap();
    append(&mut journal, 1);
    settle(&mut journal);
    // A file that may only be read stands for a disk that may.
    replace(&mut journal, &folder, OpenOptions::new().read(true));
    append(&mut journal, 2);
    let at = |ms| Instant::from_millis(ms);
    assert_eq!(journal.turn(at(1)), None);
    await_writer(&mut journal);
    assert_eq!((journal.turn(at(1)), journal.retry_at), (None, Some(at(1_001))));
    append(&mut journal, 3);
    replace(&mut journal, &folder, OpenOptions::new().read(true).write(true));
    assert_eq!((journal.turn(at(999)), journal.busy), (None, WriterState::No), "not before a second has passed");
    let mut told = None;
    while told.is_none() {
        told = journal.turn(at(1_002));
        await_writer(&mut journal);
    }
    assert_eq!((told, journal.retry_at), (Some(JournalNews::Synced(Seq::new(3))), None));
    drop(journal);
    assert_eq!(start(&folder).unwrap().1, [line(1), line(2), line(3)]);
}

#[test]
fn a_journal_that_was_taken_away_is_written_anew_before_anything_is_told() {
    let folder = Folder::new("taken");
    let (mut journal, _) = start(&folder).unwrap();
    journal.publish(&folder.state().join("names"), b"out of date");
    journal.publish(&folder.state().join("interfaces"), b"the links");
    journal.publish(&folder.state().join("names"), b"the names");
    append(&mut journal, 1);
    settle(&mut journal);
    std::fs::remove_dir_all(folder.state()).unwrap();
    append(&mut journal, 2);
    let (mut told, mut turns) = (None, 0);
    while told.is_none() {
        told = journal.turn(at_once(&mut turns));
        await_writer(&mut journal);
    }
    assert_eq!(told, Some(JournalNews::TakenAway));
    journal.act(JournalOp::CompactBegin);
    for n in [1, 2] {
        journal.act(JournalOp::CompactLine { line: line(n).as_bytes() });
    }
    journal.act(JournalOp::CompactEnd);
    assert_eq!(settle(&mut journal), [JournalNews::Synced(Seq::new(2)), JournalNews::Compacted]);
    assert_eq!(journal.outcome(), Some(Ok(())));
    assert_eq!(folder.text(), line(1) + "\n" + &line(2) + "\n");
    assert_eq!(std::fs::read_to_string(folder.state().join("names")).unwrap(), "the names");
    assert_eq!(std::fs::read_to_string(folder.state().join("interfaces")).unwrap(), "the links");
    let other = start(&folder).err().unwrap().to_string();
    assert!(other.starts_with("another musterd"), "the new folder is locked: {other}");
}

fn at_once(turns: &mut u64) -> Instant {
    *turns += 1;
    assert!(*turns < 1000, "it is noticed");
    Instant::from_millis(*turns)
}

/// What a daemon before this one gave the kernel in vain is not there, though it can be read.
#[test]
fn lines_that_never_came_to_the_disk_are_not_relied_on() {
    let folder = Folder::new("unsure");
    let (mut journal, _) = start(&folder).unwrap();
    (1..=3).for_each(|seq| append(&mut journal, seq));
    settle(&mut journal);
    let file = File::open(folder.state().join(NAME)).unwrap();
    Unsure::new(&folder.0).note(&file, file.metadata().unwrap().len());
    drop(journal);
    let mut text = folder.text();
    text.push_str(&(line(4) + "\n"));
    std::fs::write(folder.state().join(NAME), &text).unwrap();
    let (mut journal, lines) = start(&folder).unwrap();
    assert_eq!(lines, [line(1), line(2), line(3)]);
    append(&mut journal, 5);
    settle(&mut journal);
    drop(journal);
    assert_eq!(start(&folder).unwrap().1, [line(1), line(2), line(3), line(5)]);
    assert!(!folder.0.join("journal.unsure").exists(), "all is on disk again");
    // A note on another file says nothing of this one.
    std::fs::write(folder.0.join("journal.unsure"), "1 0\n").unwrap();
    assert_eq!(start(&folder).unwrap().1.len(), 4);
}
