//! The journal: what was promised, one readable line for each promise.
//!
//! ```text
//! 2026-11-23T15:34:10Z n23 occupied by=passed macs=52:54:00:12:34:56,52:54:00:12:34:57 serial=ABC1 ~5c2a90f1
//! 2026-11-23T15:40:02Z n5 vacant retired=52:54:00:00:00:09; n7 occupied by=operator macs=52:54:00:00:00:08 ~03de11a7
//! 2026-11-23T15:41:00Z guest 10.54.250.7 52:54:00:aa:bb:cc until=2026-11-23T16:01:00Z verdict=failed:20-memory ~77aa0213
//! 2026-11-23T15:42:00Z n23 up ~90d1f27c
//! ```
//!
//! The line begins with the time of what it says, and ends with the CRC-32 of what stands before the ` ~`. What stands between semicolons
//! happened at once. Every event says everything of its lot or guest address, so that the last one counts and a line may come twice. A line
//! without a checksum was written by hand and counts; one that begins with `#` is a remark. This module knows lines only: the world has the file.
//!
//! A [`Keeper`] counts what was put out and what is on disk: nothing that was promised leaves before (law 4).

use std::fmt;
use std::net::Ipv4Addr;

use crate::base::limits;

use super::client::{Identity, Recorded, Stage};
use super::lot::{By, Label, Lot, Macs, Papers, State, Wait};
use super::plan::Number;

/// What is known of a line before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    Good,
    HandWritten,
    Bad,
}

/// What muster's test program said of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Verdict {
    #[default]
    Untested,
    Passed,
    /// The name of the first test that failed.
    Failed(Label),
}

/// As in the journal.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Untested => f.write_str("untested"),
            Verdict::Passed => f.write_str("passed"),
            Verdict::Failed(test) => write!(f, "failed:{test}"),
        }
    }
}

/// A guest's lease.
#[derive(Clone, Copy, PartialEq)]
pub struct Guest {
    pub address: Ipv4Addr,
    pub identity: Identity,
    /// When it ends, in seconds since 1970.
    pub until: u64,
    pub verdict: Verdict,
    /// What it showed; empty for one that showed nothing.
    pub papers: Papers,
}

#[derive(Clone, Copy, PartialEq)]
#[allow(clippy::large_enum_variant)] // short-lived, on the stack
pub enum Event {
    Lot(Number, Lot),
    Guest(Guest),
    /// Where a node's boot stood.
    Stage(Number, Stage),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Lot(number, lot) => write!(f, "{number} {lot}"),
            Event::Stage(number, stage) => write!(f, "{number} {}", stage.name()),
            Event::Guest(guest) => {
                write!(f, "guest {} {} until={}", guest.address, Recorded(guest.identity), Date(guest.until))?;
                if guest.verdict != Verdict::Untested {
                    write!(f, " verdict={}", guest.verdict)?;
                }
                guest.papers.fmt(f)
            }
        }
    }
}

/// A point of wall-clock time, in seconds since 1970: `2026-11-23T15:34:10Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date(pub u64);

const DAY: u64 = 86_400;

/// Days since 1970 of a date of the Gregorian calendar; years begin in March here, so that leap days come last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (all, seconds) = (self.0 / DAY + 719_468, self.0 % DAY);
        let (era, day) = (all / 146_097, all % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let (year, month) = (era * 400 + year + month / 10, if month < 10 { month + 3 } else { month - 9 });
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }
}

impl std::str::FromStr for Date {
    type Err = ();

    fn from_str(text: &str) -> Result<Date, ()> {
        let number = |from: usize, to: usize| {
            let digits = text.get(from..to).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            digits.and_then(|digits| digits.parse::<u64>().ok()).ok_or(())
        };
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let in_range = year >= 1970 && (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
        let date = Date(if in_range { days(year, month, day) * DAY + hour * 3600 + minute * 60 + second } else { 0 });
        // What does not come back as it was is no date: the 31st of June.
        let mut again = Text::<32>::default();
        let fits = fmt::Write::write_fmt(&mut again, format_args!("{date}")).is_ok();
        if in_range && fits && again.as_str() == text { Ok(date) } else { Err(()) }
    }
}

/// The CRC-32 of Ethernet, zip and many others (polynomial 0x04c11db7, reflected).
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

/// A text of bounded length on the stack.
struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Text<N> {
        Text { bytes: [0; N], len: 0 }
    }
}

impl<const N: usize> Text<N> {
    fn as_str(&self) -> &str {
        self.bytes.get(..self.len).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("")
    }
}

impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let to = self.bytes.get_mut(self.len..self.len + s.len()).ok_or(fmt::Error)?;
        to.copy_from_slice(s.as_bytes());
        self.len += s.len();
        Ok(())
    }
}

/// Writes a line, without its newline. None when it does not fit.
pub fn write(events: &[Event], unix: u64, to: &mut [u8]) -> Option<usize> {
    use fmt::Write;
    let mut text = Text::<{ limits::JOURNAL_LINE_MAX }>::default();
    write!(text, "{}", Date(unix)).ok()?;
    for (at, event) in events.iter().enumerate() {
        write!(text, "{} {event}", if at == 0 { "" } else { ";" }).ok()?;
    }
    let sum = crc32(text.as_str().as_bytes());
    write!(text, " ~{sum:08x}").ok()?;
    to.get_mut(..text.len)?.copy_from_slice(text.as_str().as_bytes());
    Some(text.len)
}

/// The line without its checksum, and the checksum.
fn split(line: &str) -> (&str, Option<u32>) {
    let parts = line.rsplit_once(" ~").filter(|(_, sum)| sum.len() == 8 && sum.bytes().all(|byte| byte.is_ascii_hexdigit()));
    match parts.and_then(|(text, sum)| Some((text, u32::from_str_radix(sum, 16).ok()?))) {
        Some((text, sum)) => (text, Some(sum)),
        None => (line, None),
    }
}

/// Whether a line can be relied on.
pub fn check(line: &str) -> Check {
    if line.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Check::Bad;
    }
    match split(line) {
        (text, Some(sum)) if crc32(text.as_bytes()) != sum => Check::Bad,
        (_, Some(_)) => Check::Good,
        (_, None) => Check::HandWritten,
    }
}

/// Reads a line whose check was not bad, giving each event in order with its time. The error says what is wrong with it.
pub fn read(line: &str, mut each: impl FnMut(u64, Event) -> Result<(), String>) -> Result<(), String> {
    let text = split(line).0.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(());
    }
    let (date, events) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let Date(unix) = date.parse().map_err(|()| format!("{date:?} is not a time: write it like 2026-11-23T15:34:10Z"))?;
    events.split(';').try_for_each(|text| each(unix, event(text, unix)?))
}

fn event(text: &str, unix: u64) -> Result<Event, String> {
    let mut words = text.split_whitespace();
    let what = words.next().ok_or("nothing is said: write an event like n23 vacant")?;
    if what == "guest" {
        return guest(words);
    }
    let digits = what.strip_prefix('n').filter(|digits| !digits.is_empty() && (*digits == "0" || !digits.starts_with('0')));
    let number = digits.and_then(|digits| digits.parse().ok()).map(Number);
    let number = number.ok_or_else(|| format!("{what:?} is no event: write the name of a node (n23) or guest"))?;
    let state = words.next().unwrap_or("");
    if let Some(stage) = Stage::ALL.into_iter().find(|stage| stage.name() == state) {
        return Ok(Event::Stage(number, stage));
    }
    lot(state, words, unix).map(|lot| Event::Lot(number, lot))
}

fn lot<'a>(state: &str, words: impl Iterator<Item = &'a str>, unix: u64) -> Result<Lot, String> {
    let mut lot = Lot { since: unix, by: By::Operator, ..Lot::default() };
    let (mut wait, mut configured) = (None, 0);
    for word in words {
        let (key, value) = pair(word)?;
        match key {
            "for" if value == "next" => wait = Some(Wait::Next),
            "for" if value == "operator" => wait = Some(Wait::Operator),
            "for" => wait = Some(Wait::Mac(parse(key, value)?)),
            "by" => lot.by = by(value)?,
            "configured" => configured = parse(key, value)?,
            "up" if value == "never" => lot.unseen = true,
            "retired" => lot.retired = macs(value)?,
            _ => paper(&mut lot.papers, key, value)?,
        }
    }
    if let By::Config(macs) = &mut lot.by {
        *macs = configured.min(lot.papers.macs.len() as u8);
    }
    lot.state = match (state, wait) {
        ("vacant", None) => State::Vacant,
        ("occupied", None) if !lot.papers.macs.is_empty() => State::Occupied,
        ("occupied", _) => return Err("an occupied lot needs macs=, and no for=".into()),
        ("reserved", Some(wait)) => State::Reserved(wait),
        ("reserved", None) => return Err("a reserved lot needs for=next, for=operator or for=MAC".into()),
        _ => return Err(format!("{state:?} is nothing that a node can be: write occupied, reserved or vacant")),
    };
    if lot.state != State::Occupied {
        lot.papers = Papers::default();
        lot.unseen = false;
    }
    if lot.state == State::Vacant {
        lot.by = By::default();
    }
    Ok(lot)
}

fn guest<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Event, String> {
    let mut next = |what: &str| words.next().ok_or_else(|| format!("a guest needs its {what}"));
    let address: Ipv4Addr = parse("address", next("address")?)?;
    let Recorded(identity) = parse("MAC", next("MAC")?)?;
    let mut guest = Guest { address, identity, until: 0, verdict: Verdict::Untested, papers: Papers::default() };
    for word in words {
        let (key, value) = pair(word)?;
        match key {
            "until" => guest.until = parse::<Date>(key, value)?.0,
            "verdict" => guest.verdict = verdict(value)?,
            _ => paper(&mut guest.papers, key, value)?,
        }
    }
    Ok(Event::Guest(guest))
}

fn pair(word: &str) -> Result<(&str, &str), String> {
    word.split_once('=').ok_or_else(|| format!("{word:?} is not key=value"))
}

fn parse<T: std::str::FromStr>(key: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{value:?} is not good for {key}"))
}

fn by(value: &str) -> Result<By, String> {
    let all = [By::Passed, By::Operator, By::Config(0)];
    all.into_iter().find(|by| by.name() == value).ok_or_else(|| format!("by={value}: write passed, operator or config"))
}

fn verdict(value: &str) -> Result<Verdict, String> {
    match value.split_once(':') {
        None if value == "passed" => Ok(Verdict::Passed),
        Some(("failed", test)) => Ok(Verdict::Failed(Label::new(test.as_bytes()))),
        _ => Err(format!("verdict={value}: write passed or failed:NAME")),
    }
}

fn macs(value: &str) -> Result<Macs, String> {
    let mut all = Macs::default();
    for mac in value.split(',') {
        if !all.add(parse("a MAC address", mac)?) {
            return Err(format!("more than {} MAC addresses", super::lot::MACS_MAX));
        }
    }
    Ok(all)
}

fn paper(papers: &mut Papers, key: &str, value: &str) -> Result<(), String> {
    match key {
        "macs" => papers.macs = macs(value)?,
        "uuid" => papers.uuid = Some(parse(key, value)?),
        "serial" => papers.serial = Label::new(value.as_bytes()),
        "port" => papers.port = Label::new(value.as_bytes()),
        _ => return Err(format!("{key:?} is not a key that a journal knows")),
    }
    Ok(())
}

/// Counts records: put out, and on disk.
#[derive(Debug, Default)]
pub struct Keeper {
    /// The last record that was put out; the first is 1.
    written: u64,
    /// Up to here everything is on disk.
    synced: u64,
}

impl Keeper {
    /// The number of the next record. None while as many as there may be are not on disk yet.
    pub fn next(&self) -> Option<u64> {
        (self.written - self.synced < limits::JOURNAL_PENDING as u64).then_some(self.written + 1)
    }

    pub fn wrote(&mut self, seq: u64) {
        self.written = seq;
    }

    pub fn synced(&mut self, seq: u64) {
        self.synced = seq.clamp(self.synced, self.written);
    }

    /// Whether a record is on disk. There is nothing to wait for where no record was needed: 0.
    pub fn holds(&self, seq: u64) -> bool {
        seq <= self.synced
    }

    pub fn written(&self) -> u64 {
        self.written
    }

    /// Records that are not on disk yet.
    pub fn pending(&self) -> u64 {
        self.written - self.synced
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::addr::Mac;
    use crate::roll::lot::Uuid;
    use proptest::prelude::*;

    const NOW: u64 = 1_795_448_050;

    fn mac(n: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, n])
    }

    fn line(events: &[Event]) -> String {
        let mut buf = [0; limits::JOURNAL_LINE_MAX];
        let len = write(events, NOW, &mut buf).unwrap();
        String::from_utf8(buf[..len].to_vec()).unwrap()
    }

    fn events(line: &str) -> Result<Vec<(u64, Event)>, String> {
        let mut all = Vec::new();
        read(line, |unix, event| {
            all.push((unix, event));
            Ok(())
        })
        .map(|()| all)
    }

    fn papers() -> Papers {
        let uuid = Uuid::new(*b"0123456789abcdef");
        Papers { macs: [mac(1), mac(2)].into_iter().collect(), uuid, serial: Label::new(b"S N/1"), port: Label::new(b"eth1/3") }
    }

    #[test]
    fn events_come_back_as_they_were() {
        let lot = Lot { since: NOW, retired: [mac(9)].into_iter().collect(), ..Lot::default().occupied(papers(), By::Passed, NOW) };
        let guest = Guest {
            address: [10, 54, 250, 7].into(),
            identity: Identity::Mac(mac(1)),
            until: NOW + 600,
            verdict: Verdict::Failed(Label::new(b"20-memory")),
            papers: papers(),
        };
        let all = [
            Event::Lot(Number(23), lot),
            Event::Lot(Number(0), Lot { since: NOW, ..Lot::default() }),
            Event::Lot(Number(7), Lot::default().reserved(Wait::Next, NOW)),
            Event::Lot(Number(7), Lot::default().reserved(Wait::Mac(mac(4)), NOW)),
            Event::Lot(Number(7), Lot::default().reserved(Wait::Operator, NOW)),
            Event::Lot(Number(1), Lot { by: By::Config(1), ..lot }),
            Event::Lot(Number(24), Lot { unseen: true, ..lot }),
            Event::Guest(guest),
            Event::Guest(Guest { papers: Papers::default(), verdict: Verdict::Untested, ..guest }),
            Event::Stage(Number(4), Stage::Up),
        ];
        for event in all {
            let line = line(&[event]);
            assert_eq!(check(&line), Check::Good, "{line}");
            assert!(events(&line).is_ok_and(|read| read == [(NOW, event)]), "{line}");
        }
        let two = line(&[Event::Stage(Number(4), Stage::Up), Event::Lot(Number(23), lot)]);
        assert!(events(&two).is_ok_and(|read| read.len() == 2 && read[1].1 == Event::Lot(Number(23), lot)));
        assert!(
            two.starts_with("2026-11-23T15:34:10Z n4 up; n23 occupied by=passed macs=02:00:00:00:00:01,02:00:00:00:00:02 uuid="),
            "{two}"
        );
    }

    #[test]
    fn the_longest_record_fits() {
        let full = |start: u8| (0..16).map(|n| Mac([0xff - 1, 0xff, 0xff, 0xff, start, n])).collect::<Macs>();
        let label = Label::new(&[b'W'; 32]);
        let papers = |n| Papers { macs: full(n), uuid: Uuid::new(*b"0123456789abcdef"), serial: label, port: label };
        let lot = |n| Lot { retired: full(n + 1), unseen: true, ..Lot::default().occupied(papers(n), By::Config(16), NOW) };
        line(&[Event::Lot(Number(131_071), lot(1)), Event::Lot(Number(131_070), lot(3))]);
    }

    #[test]
    fn hands_may_write_too() {
        let table = [
            ("2026-11-23T15:34:10Z n5 occupied macs=52:54:00:12:34:56", 1),
            ("  2026-11-23T15:34:10Z\tn5 vacant ; n6 reserved for=next", 2),
            ("# a remark", 0),
            ("", 0),
        ];
        for (text, count) in table {
            assert_eq!((check(text), events(text).map(|all| all.len())), (Check::HandWritten, Ok(count)), "{text}");
        }
        let bad = [
            ("yesterday n5 vacant", "is not a time"),
            ("2026-02-30T00:00:00Z n5 vacant", "is not a time"),
            ("2026-11-23T15:34:10Z", "nothing is said"),
            ("2026-11-23T15:34:10Z m5 vacant", "is no event"),
            ("2026-11-23T15:34:10Z n05 vacant", "is no event"),
            ("2026-11-23T15:34:10Z n5 gone", "is nothing that a node can be"),
            ("2026-11-23T15:34:10Z n5 occupied", "needs macs="),
            ("2026-11-23T15:34:10Z n5 occupied macs=52:54", "not good for a MAC"),
            ("2026-11-23T15:34:10Z n5 vacant colour=red", "not a key"),
            ("2026-11-23T15:34:10Z guest 10.0.0.1", "needs its MAC"),
        ];
        for (text, why) in bad {
            assert!(events(text).is_err_and(|error| error.contains(why)), "{text}");
        }
    }

    #[test]
    fn damage_shows() {
        let good = line(&[Event::Stage(Number(4), Stage::Up)]);
        for at in 0..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] ^= 1;
            let Ok(text) = String::from_utf8(bytes) else { continue };
            assert_ne!(check(&text), Check::Good, "{text}");
        }
        assert_eq!(check("2026-11-23T15:34:10Z n5\0vacant"), Check::Bad);
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_keeper_counts() {
        let mut keeper = Keeper::default();
        assert!(keeper.holds(0) && keeper.next() == Some(1));
        keeper.wrote(1);
        assert!(!keeper.holds(1));
        keeper.synced(7);
        assert!(keeper.holds(1) && keeper.pending() == 0);
        (2..).take(limits::JOURNAL_PENDING).for_each(|seq| keeper.wrote(seq));
        assert_eq!(keeper.next(), None);
    }

    proptest! {
        #[test]
        fn dates_come_back(unix in 0u64..20_000_000_000) {
            prop_assert_eq!(Date(unix).to_string().parse(), Ok(Date(unix)));
        }

        #[test]
        fn no_line_is_too_odd(text in ".{0,200}") {
            let _ = (check(&text), events(&text), events(&format!("2026-11-23T15:34:10Z {text}")));
        }
    }
}
