use super::*;
use crate::roll::journal::crc32;

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
        open(&self.state(), &self.0).map(|(_, lines)| lines).map_err(|error| error.to_string())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn line(n: u64) -> String {
    let text = format!("2026-11-23T15:34:{:02}Z n{n} vacant", n % 60);
    format!("{text} ~{:08x}", crc32(text.as_bytes()))
}

fn append(journal: &mut Journal, seq: u64) {
    journal.act(JournalOp::Append { seq, line: line(seq).as_bytes() });
}

/// Lets the disk work until there is nothing left to do; gives what was told.
fn settle(journal: &mut Journal) -> Vec<Told> {
    let begin = std::time::Instant::now();
    let mut told = Vec::new();
    while !journal.is_idle() || journal.rewritten {
        assert!(begin.elapsed() < Duration::from_secs(60), "the disk does not come to an end");
        let now = Instant::ZERO + begin.elapsed();
        told.extend(std::iter::from_fn(|| journal.turn(now)));
        std::thread::sleep(Duration::from_micros(200));
    }
    told
}

#[test]
fn lines_come_back_after_a_restart() {
    let folder = Folder::new("lines");
    let (mut journal, lines) = open(&folder.state(), &folder.0).unwrap();
    assert!(lines.is_empty() && journal.is_idle());
    append(&mut journal, 1);
    append(&mut journal, 2);
    assert_eq!(settle(&mut journal), [Told::Synced(2)], "one sync for both");
    append(&mut journal, 3);
    assert_eq!(settle(&mut journal), [Told::Synced(3)]);
    drop(journal);
    assert_eq!(open(&folder.state(), &folder.0).unwrap().1, [line(1), line(2), line(3)]);
}

#[test]
fn the_loop_may_go_on_without_aio() {
    let folder = Folder::new("plain");
    let (mut journal, _) = open(&folder.state(), &folder.0).unwrap();
    journal.aio = None;
    append(&mut journal, 1);
    assert_eq!(journal.turn(Instant::ZERO), Some(Told::Synced(1)));
    journal.act(JournalOp::RewriteBegin);
    journal.act(JournalOp::RewriteLine { line: line(9).as_bytes() });
    journal.act(JournalOp::RewriteEnd);
    assert_eq!(settle(&mut journal), [Told::Synced(1), Told::Rewritten]);
    assert_eq!(folder.text(), line(9) + "\n");
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
fn damage_in_the_middle_refuses_and_names_the_line() {
    let folder = Folder::new("damage");
    let bad = line(2).replace("n2", "n3");
    let why = folder.found(format!("{}\n{bad}\n{}\n", line(1), line(3)).as_bytes()).unwrap_err();
    assert!(why.starts_with("line 2 of ") && why.contains("mend it"), "{why}");
    let by_hand = "2026-11-23T15:34:10Z n3 vacant";
    assert_eq!(folder.found(format!("{}\n{by_hand}\n{}\n", line(1), line(3)).as_bytes()), Ok(vec![line(1), by_hand.into(), line(3)]));
}

#[test]
fn a_new_file_has_what_came_meanwhile() {
    let folder = Folder::new("anew");
    let (mut journal, _) = open(&folder.state(), &folder.0).unwrap();
    (1..=5).for_each(|seq| append(&mut journal, seq));
    settle(&mut journal);
    journal.act(JournalOp::RewriteBegin);
    journal.act(JournalOp::RewriteLine { line: line(100).as_bytes() });
    append(&mut journal, 6);
    journal.act(JournalOp::RewriteLine { line: line(101).as_bytes() });
    journal.act(JournalOp::RewriteEnd);
    assert_eq!(journal.turn(Instant::ZERO), None);
    append(&mut journal, 7);
    let told = settle(&mut journal);
    assert_eq!((told.first(), told.last()), (Some(&Told::Synced(6)), Some(&Told::Synced(7))));
    assert!(told.contains(&Told::Rewritten));
    let expected = [line(100), line(6), line(101), line(7)];
    drop(journal);
    assert_eq!(open(&folder.state(), &folder.0).unwrap().1, expected);
    assert!(!folder.state().join(NEW).exists());
}

#[test]
fn one_daemon_keeps_a_journal() {
    let folder = Folder::new("two");
    let first = open(&folder.state(), &folder.0).unwrap();
    let why = open(&folder.state(), &folder.0).err().unwrap().to_string();
    assert!(why.starts_with("another musterd keeps its journal in "), "{why}");
    drop(first);
    open(&folder.state(), &folder.0).unwrap();
    let why = open(Path::new("/nowhere/at/all"), &folder.0).err().unwrap().to_string();
    assert!(why.contains("--state-dir"), "{why}");
}

#[test]
fn a_disk_that_fails_is_tried_again_with_the_same_lines() {
    let folder = Folder::new("fails");
    let (mut journal, _) = open(&folder.state(), &folder.0).unwrap();
    append(&mut journal, 1);
    settle(&mut journal);
    // A file that may only be read stands for a disk that may.
    let good = std::mem::replace(&mut journal.file, File::open(folder.state().join(NAME)).unwrap());
    append(&mut journal, 2);
    let at = |ms| Instant::from_millis(ms);
    assert_eq!((journal.turn(at(1)), journal.is_failing(), journal.turn(at(500))), (None, true, None));
    append(&mut journal, 3);
    journal.file = good;
    assert_eq!(journal.turn(at(999)), None, "not before a second has passed");
    let mut told = None;
    while told.is_none() {
        told = journal.turn(at(1_002));
    }
    assert_eq!((told, journal.is_failing()), (Some(Told::Synced(3)), false));
    drop(journal);
    assert_eq!(open(&folder.state(), &folder.0).unwrap().1, [line(1), line(2), line(3)]);
}

/// What a daemon before this one gave the kernel in vain is not there, though it can be read.
#[test]
fn lines_that_never_came_to_the_disk_are_not_relied_on() {
    let folder = Folder::new("unsure");
    let (mut journal, _) = open(&folder.state(), &folder.0).unwrap();
    (1..=3).for_each(|seq| append(&mut journal, seq));
    settle(&mut journal);
    let durable = journal.durable;
    journal.unsure.note(&journal.file, durable);
    drop(journal);
    let mut text = folder.text();
    text.push_str(&(line(4) + "\n"));
    std::fs::write(folder.state().join(NAME), &text).unwrap();
    let (mut journal, lines) = open(&folder.state(), &folder.0).unwrap();
    assert_eq!(lines, [line(1), line(2), line(3)]);
    append(&mut journal, 5);
    settle(&mut journal);
    drop(journal);
    assert_eq!(open(&folder.state(), &folder.0).unwrap().1, [line(1), line(2), line(3), line(5)]);
    assert!(!folder.0.join("journal.unsure").exists(), "all is on disk again");
    // A note on another file says nothing of this one.
    std::fs::write(folder.0.join("journal.unsure"), "1 0\n").unwrap();
    assert_eq!(open(&folder.state(), &folder.0).unwrap().1.len(), 4);
}
