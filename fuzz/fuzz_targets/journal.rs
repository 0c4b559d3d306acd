//! A journal: its lines one by one, and a Server that starts with them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use muster::base::limits::JOURNAL_LINE_MAX;
use muster::base::time::{Instant, Now};
use muster::engine::server::Server;
use muster::roll::journal::{Check, JournalEvent, check, read, whole, write};
use muster_fuzz::config;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    // A checksum that is wrong hides the line behind it.
    let lines: Vec<&str> = text.lines().map(|line| line.rsplit_once(" ~").map_or(line, |(line, _)| line)).collect();
    for line in lines.iter().filter(|line| check(line) != Check::Bad) {
        let mut events: Vec<(u64, JournalEvent)> = Vec::new();
        let understood = read(line, |unix, event| {
            events.push((unix, event));
            Ok(())
        });
        for (unix, event) in events.iter().filter(|_| understood.is_ok()) {
            let mut buf = [0; JOURNAL_LINE_MAX];
            let Some(len) = write(&[*event], *unix, &mut buf) else { continue };
            let line = std::str::from_utf8(&buf[..len]).expect("a text");
            assert_eq!(check(line), Check::Good);
            let mut again = Vec::new();
            let read = read(line, |unix, event| {
                again.push((unix, event));
                Ok(())
            });
            assert!(read.is_ok() && again == [(*unix, *event)], "what is written again reads the same: {line}");
        }
    }
    let kept = whole(&lines);
    assert!(kept <= lines.len());
    let now = Now { at: Instant::from_millis(50_000), unix: 1_700_000_000 };
    let _ = Server::restored(&config(), 7, now, lines.iter().take(kept).copied());
});
