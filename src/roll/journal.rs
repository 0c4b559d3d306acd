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
//! A change of many lots is too long for one line. It stands between two that say so, and all of them count or none does:
//!
//! ```text
//! 2026-11-23T15:43:00Z change begins ~5b3a1f0c
//! 2026-11-23T15:43:00Z n0 vacant retired=52:54:00:00:01:00; n1 vacant retired=52:54:00:00:01:01 ~c2d9e7f4
//! 2026-11-23T15:43:00Z n2 vacant retired=52:54:00:00:01:02 ~0fb6c8aa
//! 2026-11-23T15:43:00Z change ends ~11c07f3e
//! ```
//!
//! What else happened meanwhile stands between them as well, and is promised as late. A file that ends before the change does ends where it
//! begins ([`whole`]).
//!
//! What a machine or a switch said of itself is a word, in which `;` is written as `%3B` and `%` as `%25`. Version 0.1.0 wrote a `;` as it is:
//! see [`Spelling`].

use std::fmt;
use std::net::Ipv4Addr;

use crate::base::limits;

use super::client::{Identity, Recorded};
use super::lot::{AssignedBy, Fingerprint, Label, Lot, LotState, Macs, QuotedLabel, Wait};
use super::plan::Number;
use super::stage::Stage;

/// What is known of a line before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Its checksum holds.
    Good,
    /// It has no checksum.
    HandWritten,
    /// Its checksum is wrong, or there is a control character in it.
    Bad,
}

/// What muster's test program said of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Verdict {
    /// It reported no test.
    #[default]
    Untested,
    /// It passed all tests.
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
            Verdict::Failed(test) => write!(f, "failed:{}", QuotedLabel(*test)),
        }
    }
}

/// A change of many lots, which counts whole or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The change begins behind this line.
    Begins,
    /// All of the change is there.
    Ends,
}

/// A guest's lease.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guest {
    /// The guest's address.
    pub address: Ipv4Addr,
    /// The guest.
    pub identity: Identity,
    /// When it ends, in seconds since 1970.
    pub until: u64,
    /// What its test said.
    pub verdict: Verdict,
    /// What it showed; empty for one that showed nothing.
    pub fingerprint: Fingerprint,
}

/// Something that is on record.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)] // short-lived, on the stack
pub enum JournalEvent {
    /// All that holds for a number.
    Lot(Number, Lot),
    /// A guest has an address.
    Guest(Guest),
    /// Where a node's boot stood.
    Stage(Number, Stage),
    /// A change of many numbers begins or ends.
    Change(Mark),
}

impl fmt::Display for JournalEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JournalEvent::Lot(number, lot) => write!(f, "{number} {lot}"),
            JournalEvent::Stage(number, stage) => write!(f, "{number} {}", stage.name()),
            JournalEvent::Change(Mark::Begins) => f.write_str("change begins"),
            JournalEvent::Change(Mark::Ends) => f.write_str("change ends"),
            JournalEvent::Guest(guest) => {
                write!(f, "guest {} {} until={}", guest.address, Recorded(guest.identity), Date(guest.until))?;
                if guest.verdict != Verdict::Untested {
                    write!(f, " verdict={}", guest.verdict)?;
                }
                guest.fingerprint.fmt(f)
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
        let mut again = LineText::<32>::default();
        let fits = fmt::Write::write_fmt(&mut again, format_args!("{date}")).is_ok();
        if in_range && fits && again.as_str() == text { Ok(date) } else { Err(()) }
    }
}

/// What a byte adds to a [`crc32`].
const CRC: [u32; 256] = {
    let (mut table, mut byte) = ([0; 256], 0);
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// The CRC-32 of Ethernet, zip and many others (polynomial 0x04c11db7, reflected).
pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, &byte| crc >> 8 ^ CRC[usize::from(crc as u8 ^ byte)])
}

/// A text of bounded length on the stack.
struct LineText<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Default for LineText<N> {
    fn default() -> LineText<N> {
        LineText { bytes: [0; N], len: 0 }
    }
}

impl<const N: usize> LineText<N> {
    fn as_str(&self) -> &str {
        self.bytes.get(..self.len).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("")
    }
}

impl<const N: usize> fmt::Write for LineText<N> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let to = self.bytes.get_mut(self.len..self.len + s.len()).ok_or(fmt::Error)?;
        to.copy_from_slice(s.as_bytes());
        self.len += s.len();
        Ok(())
    }
}

/// A line in the making.
pub struct Line {
    text: LineText<{ limits::JOURNAL_LINE_MAX - " ~01234567".len() }>,
    events: u64,
}

impl Line {
    /// One that says what happened at a time, in seconds since 1970.
    pub fn new(unix: u64) -> Line {
        let mut text = LineText::default();
        let fits = fmt::Write::write_fmt(&mut text, format_args!("{}", Date(unix)));
        debug_assert!(fits.is_ok(), "a date is short");
        Line { text, events: 0 }
    }

    /// Adds an event. False when it does not fit; the line is what it was then.
    pub fn add(&mut self, event: &JournalEvent) -> bool {
        let before = self.text.len;
        let parted = if self.events == 0 { "" } else { ";" };
        let fits = fmt::Write::write_fmt(&mut self.text, format_args!("{parted} {event}")).is_ok();
        self.text.len = if fits { self.text.len } else { before };
        self.events += u64::from(fits);
        fits
    }

    /// How many events it has.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Writes it with its checksum, and without a newline. None when it does not fit.
    pub fn write(&self, to: &mut [u8]) -> Option<usize> {
        let text = self.text.as_str().as_bytes();
        let mut sum = LineText::<10>::default();
        fmt::Write::write_fmt(&mut sum, format_args!(" ~{:08x}", crc32(text))).ok()?;
        let (to, len) = (to.get_mut(..text.len() + sum.len)?, text.len() + sum.len);
        to.get_mut(..text.len())?.copy_from_slice(text);
        to.get_mut(text.len()..)?.copy_from_slice(sum.as_str().as_bytes());
        Some(len)
    }
}

/// Writes a line with these events, without its newline. None when it does not fit.
pub fn write(events: &[JournalEvent], unix: u64, to: &mut [u8]) -> Option<usize> {
    let mut line = Line::new(unix);
    if events.iter().all(|event| line.add(event)) { line.write(to) } else { None }
}

/// The line without its checksum, and the checksum.
fn split(line: &str) -> (&str, Option<u32>) {
    let parts = line.rsplit_once(" ~").filter(|(_, sum)| is_sum(sum));
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
        // A checksum without its blank is no hand's.
        (_, None) if line.rsplit_once('~').is_some_and(|(_, sum)| is_sum(sum)) => Check::Bad,
        (_, None) => Check::HandWritten,
    }
}

fn is_sum(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Text of a journal as a sentence shows it: quoted, escaped, and of [`SHOWN_MAX`] bytes at most.
pub struct Excerpt<'a>(pub &'a str);

/// Bytes of damaged text that a sentence shows.
pub const SHOWN_MAX: usize = 200;

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut room = SHOWN_MAX;
        f.write_str("\"")?;
        for letter in self.0.chars() {
            let escaped = letter.escape_debug();
            let len: usize = escaped.clone().map(char::len_utf8).sum();
            if len > room {
                return f.write_str("\"...");
            }
            room -= len;
            write!(f, "{escaped}")?;
        }
        f.write_str("\"")
    }
}

/// How many of a journal's lines count: those of a change at its end that does not end do not. Nobody was promised what they say.
pub fn whole<L: AsRef<str>>(lines: &[L]) -> usize {
    let mut begun = None;
    for (at, line) in lines.iter().enumerate() {
        match mark(line.as_ref()) {
            Some(Mark::Begins) => begun = begun.or(Some(at)),
            Some(Mark::Ends) => begun = None,
            None => {}
        }
    }
    begun.unwrap_or(lines.len())
}

fn mark(line: &str) -> Option<Mark> {
    let mut words = split(line).0.split_whitespace().skip(1);
    match (words.next(), words.next(), words.next()) {
        (Some("change"), Some("begins"), None) => Some(Mark::Begins),
        (Some("change"), Some("ends"), None) => Some(Mark::Ends),
        _ => None,
    }
}

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// As this version writes it.
    Good,
    /// There is a `;` in what a machine said of itself, which version 0.1.0 wrote as it is. It parts no events: such a word is followed by
    /// `key=value` or by nothing, and an event begins with a name and a word without `=`.
    Old,
}

/// Reads a line whose check was not bad, giving each event in order with its time. The error says what is wrong with it.
pub fn read(line: &str, mut each: impl FnMut(u64, JournalEvent) -> Result<(), String>) -> Result<Spelling, String> {
    let text = split(line).0.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(Spelling::Good);
    }
    let (date, mut rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let Date(unix) = date.parse().map_err(|()| format!("{} is not a time: write it as in 2026-11-23T15:34:10Z", Excerpt(date)))?;
    let mut spelling = Spelling::Good;
    loop {
        let end = rest.match_indices(';').map(|(at, _)| at).find(|at| rest.get(at + 1..).is_some_and(begins_event));
        let (text, more) = end.map_or((rest, None), |at| (rest.get(..at).unwrap_or_default(), rest.get(at + 1..)));
        each(unix, event(text, unix)?)?;
        if text.contains(';') {
            spelling = Spelling::Old;
        }
        let Some(more) = more else { return Ok(spelling) };
        rest = more;
    }
}

/// Whether a text begins with what an event begins with: what it is about, and a word that is no `key=value`.
fn begins_event(text: &str) -> bool {
    let mut words = text.split_whitespace();
    let about = words.next().is_some_and(|what| matches!(what, "guest" | "change") || number(what).is_some());
    about && words.next().is_some_and(|word| !word.contains('='))
}

/// A number by its name: `n23`.
fn number(name: &str) -> Option<Number> {
    let digits = name.strip_prefix('n').filter(|digits| !digits.is_empty() && (*digits == "0" || !digits.starts_with('0')));
    digits.and_then(|digits| digits.parse().ok()).map(Number)
}

fn event(text: &str, unix: u64) -> Result<JournalEvent, String> {
    let mut words = text.split_whitespace();
    let what = words.next().ok_or("the event is missing: write one as in n23 vacant")?;
    if what == "guest" {
        return guest(words);
    }
    if what == "change" {
        return match (words.next(), words.next()) {
            (Some("begins"), None) => Ok(JournalEvent::Change(Mark::Begins)),
            (Some("ends"), None) => Ok(JournalEvent::Change(Mark::Ends)),
            _ => Err("change must be followed by begins or ends".into()),
        };
    }
    let number = number(what).ok_or_else(|| format!("{} is not an event: write the name of a node (n23) or guest", Excerpt(what)))?;
    let state = words.next().unwrap_or("");
    if let Some(stage) = Stage::parse(state) {
        return Ok(JournalEvent::Stage(number, stage));
    }
    lot(state, words, unix).map(|lot| JournalEvent::Lot(number, lot))
}

fn lot<'a>(state: &str, words: impl Iterator<Item = &'a str>, unix: u64) -> Result<Lot, String> {
    let mut lot = Lot { since: unix, by: AssignedBy::Operator, ..Lot::default() };
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
            _ => paper(&mut lot.fingerprint, key, value)?,
        }
    }
    if let AssignedBy::Config(macs) = &mut lot.by {
        *macs = configured.min(lot.fingerprint.macs.len() as u8);
    }
    lot.state = match (state, wait) {
        ("vacant", None) => LotState::Vacant,
        ("occupied", None) if !lot.fingerprint.macs.is_empty() => LotState::Occupied,
        ("occupied", _) => return Err("an occupied number needs macs=, and has no for=".into()),
        ("reserved", Some(wait)) => LotState::Reserved(wait),
        ("reserved", None) => return Err("a reserved number needs for=next, for=operator or for=MAC".into()),
        _ => return Err(format!("{} is not a state of a number: write occupied, reserved or vacant", Excerpt(state))),
    };
    if lot.state != LotState::Occupied {
        lot.fingerprint = Fingerprint::default();
        lot.unseen = false;
    }
    if lot.state == LotState::Vacant {
        lot.by = AssignedBy::default();
    }
    Ok(lot)
}

fn guest<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<JournalEvent, String> {
    let mut next = |what: &str| words.next().ok_or_else(|| format!("a guest needs {what}"));
    let address: Ipv4Addr = parse("address", next("address")?)?;
    let Recorded(identity) = parse("MAC", next("MAC")?)?;
    let mut guest = Guest { address, identity, until: 0, verdict: Verdict::Untested, fingerprint: Fingerprint::default() };
    for word in words {
        let (key, value) = pair(word)?;
        match key {
            "until" => guest.until = parse::<Date>(key, value)?.0,
            "verdict" => guest.verdict = verdict(value)?,
            _ => paper(&mut guest.fingerprint, key, value)?,
        }
    }
    Ok(JournalEvent::Guest(guest))
}

fn pair(word: &str) -> Result<(&str, &str), String> {
    word.split_once('=').ok_or_else(|| format!("{} is not key=value", Excerpt(word)))
}

fn parse<T: std::str::FromStr>(key: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{} is not a value of {key}", Excerpt(value)))
}

fn by(value: &str) -> Result<AssignedBy, String> {
    let all = [AssignedBy::Passed, AssignedBy::Operator, AssignedBy::Config(0)];
    all.into_iter().find(|by| by.name() == value).ok_or_else(|| format!("by={}: write passed, operator or config", Excerpt(value)))
}

fn verdict(value: &str) -> Result<Verdict, String> {
    match value.split_once(':') {
        None if value == "passed" => Ok(Verdict::Passed),
        Some(("failed", test)) => Ok(Verdict::Failed(Label::unquoted(test))),
        _ => Err(format!("verdict={}: write passed or failed:NAME", Excerpt(value))),
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

fn paper(fingerprint: &mut Fingerprint, key: &str, value: &str) -> Result<(), String> {
    match key {
        "macs" => fingerprint.macs = macs(value)?,
        "uuid" => fingerprint.uuid = Some(parse(key, value)?),
        "serial" => fingerprint.serial = Label::unquoted(value),
        "port" => fingerprint.port = Label::unquoted(value),
        _ => return Err(format!("{} is not a key of the journal", Excerpt(key))),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
