//! What a node tells of itself once it has booted: the MACs of all its cards, its UUID and serial, and the verdict of its test.
//!
//! `muster-in` sends it in DISCOVER and REQUEST, in one site-specific option (RFC 3942), and never in more than one instance of it.
//! Layout: a version byte, then items of a type byte, a length byte and a value. Types that are not known are skipped, so that later
//! programs may tell more; anything that is cut off, doubled or impossible refuses the whole report, which a machine can send again.

use std::fmt;

use crate::base::addr::Mac;

/// The option that carries it unless the site says otherwise: the first of the site-specific ones, which are 224 to 254.
pub const CODE: u8 = 224;
/// The first byte.
pub const VERSION: u8 = 1;
/// MACs that a report can hold.
pub const MACS_MAX: usize = 16;

/// 6 bytes for each MAC, 1 to 16 of them, all different.
const MACS: u8 = 1;
/// 16 bytes, in the order in which SMBIOS prints them.
const UUID: u8 = 2;
/// 1 to 32 printable bytes.
const SERIAL: u8 = 3;
/// 0: untested, 1: passed, 2: failed, and then 1 to 32 printable bytes that name the test.
const VERDICT: u8 = 4;

/// Bytes of the longest report.
pub const LEN_MAX: usize = 1 + (2 + 6 * MACS_MAX) + (2 + 16) + (2 + ReportText::MAX) + (2 + 1 + ReportText::MAX);
const _: () = assert!(LEN_MAX <= 255, "one instance of an option holds a report");

/// 1 to 32 printable ASCII bytes: a test's name, a serial number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReportText {
    bytes: [u8; ReportText::MAX],
    len: u8,
}

impl ReportText {
    /// The longest name, in bytes.
    pub const MAX: usize = 32;

    /// None when it is empty, longer than 32 bytes or not printable ASCII.
    pub fn new(bytes: &[u8]) -> Option<ReportText> {
        if bytes.is_empty() || !bytes.iter().all(|&byte| is_printable(byte)) {
            return None;
        }
        let mut name = ReportText { bytes: [0; ReportText::MAX], len: u8::try_from(bytes.len()).ok()? };
        name.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(name)
    }

    /// The nearest name: without blanks around it, `?` for what is not printable, cut after 32 bytes. None when nothing is left.
    pub fn lossy(text: &str) -> Option<ReportText> {
        let mut name = ReportText { bytes: [0; ReportText::MAX], len: 0 };
        for (to, from) in name.bytes.iter_mut().zip(text.trim().chars()) {
            *to = u8::try_from(from).ok().filter(|&byte| is_printable(byte)).unwrap_or(b'?');
            name.len += 1;
        }
        (name.len > 0).then_some(name)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.bytes.get(..usize::from(self.len)).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("")
    }
}

fn is_printable(byte: u8) -> bool {
    byte == b' ' || byte.is_ascii_graphic()
}

impl fmt::Display for ReportText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for ReportText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Up to 16 different MACs, each of one card, in the order in which they were reported.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ReportMacs {
    macs: [Mac; MACS_MAX],
    len: u8,
}

impl ReportMacs {
    /// None at all.
    pub const NONE: ReportMacs = ReportMacs { macs: [Mac::ZERO; MACS_MAX], len: 0 };

    /// Adds one. False, and nothing is added, when it names no machine (zero, a group), is there already, or is the seventeenth.
    pub fn push(&mut self, mac: Mac) -> bool {
        if !mac.is_individual() || self.as_slice().contains(&mac) {
            return false;
        }
        let Some(place) = self.macs.get_mut(usize::from(self.len)) else { return false };
        *place = mac;
        self.len += 1;
        true
    }

    /// The addresses, in the order of the report.
    pub fn as_slice(&self) -> &[Mac] {
        self.macs.get(..usize::from(self.len)).unwrap_or(&[])
    }

    /// Whether this address is among them.
    pub fn contains(&self, mac: Mac) -> bool {
        self.as_slice().contains(&mac)
    }
}

impl fmt::Debug for ReportMacs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}

/// What came of the node's own test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportVerdict {
    /// Nothing was tested, or nothing is reported.
    Untested,
    /// All tests passed.
    Passed,
    /// The first test that failed.
    Failed(ReportText),
}

/// What a machine says of itself to the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its cards, the one that asks first.
    pub macs: ReportMacs,
    /// As the firmware has it: all-zero and shared ones are reported too.
    pub uuid: Option<[u8; 16]>,
    /// Its serial number, as the firmware has it.
    pub serial: Option<ReportText>,
    /// How its test ended.
    pub verdict: ReportVerdict,
}

impl Report {
    /// A report that says nothing.
    pub const EMPTY: Report = Report { macs: ReportMacs::NONE, uuid: None, serial: None, verdict: ReportVerdict::Untested };

    /// Reads an option's bytes. None for what is no report of this version, whole and without contradictions.
    pub fn parse(bytes: &[u8]) -> Option<Report> {
        let (&VERSION, mut rest) = bytes.split_first()? else { return None };
        let mut report = Report::EMPTY;
        let mut verdict = None;
        while let Some((&kind, more)) = rest.split_first() {
            let (&len, more) = more.split_first()?;
            let (value, more) = more.split_at_checked(len.into())?;
            match kind {
                MACS if report.macs == ReportMacs::NONE => report.macs = read_macs(value)?,
                UUID if report.uuid.is_none() => report.uuid = Some(value.try_into().ok()?),
                SERIAL if report.serial.is_none() => report.serial = Some(ReportText::new(value)?),
                VERDICT if verdict.is_none() => verdict = Some(read_verdict(value)?),
                MACS | UUID | SERIAL | VERDICT => return None,
                _ => {}
            }
            rest = more;
        }
        Some(Report { verdict: verdict.unwrap_or(ReportVerdict::Untested), ..report })
    }

    /// Writes it; gives its length. None when `buf` is too short for it ([`LEN_MAX`] bytes are always enough).
    pub fn write(&self, buf: &mut [u8]) -> Option<usize> {
        let mut writer = ReportWriter { buf, at: 0 };
        writer.put(&[VERSION])?;
        let macs = self.macs.as_slice();
        if !macs.is_empty() {
            writer.put(&[MACS, u8::try_from(6 * macs.len()).ok()?])?;
            macs.iter().try_for_each(|mac| writer.put(&mac.0))?;
        }
        if let Some(uuid) = &self.uuid {
            writer.item(UUID, &[uuid])?;
        }
        if let Some(serial) = &self.serial {
            writer.item(SERIAL, &[serial.as_str().as_bytes()])?;
        }
        match &self.verdict {
            ReportVerdict::Untested => writer.item(VERDICT, &[&[0]])?,
            ReportVerdict::Passed => writer.item(VERDICT, &[&[1]])?,
            ReportVerdict::Failed(name) => writer.item(VERDICT, &[&[2], name.as_str().as_bytes()])?,
        }
        Some(writer.at)
    }
}

fn read_macs(value: &[u8]) -> Option<ReportMacs> {
    let mut macs = ReportMacs::NONE;
    let chunks = value.chunks_exact(6);
    if value.is_empty() || !chunks.remainder().is_empty() {
        return None;
    }
    for chunk in chunks {
        macs.push(Mac(chunk.try_into().ok()?)).then_some(())?;
    }
    Some(macs)
}

fn read_verdict(value: &[u8]) -> Option<ReportVerdict> {
    match value.split_first()? {
        (0, []) => Some(ReportVerdict::Untested),
        (1, []) => Some(ReportVerdict::Passed),
        (2, name) => ReportText::new(name).map(ReportVerdict::Failed),
        _ => None,
    }
}

struct ReportWriter<'b> {
    buf: &'b mut [u8],
    at: usize,
}

impl ReportWriter<'_> {
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.at + bytes.len();
        self.buf.get_mut(self.at..end)?.copy_from_slice(bytes);
        self.at = end;
        Some(())
    }

    fn item(&mut self, kind: u8, parts: &[&[u8]]) -> Option<()> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        self.put(&[kind, u8::try_from(len).ok()?])?;
        parts.iter().try_for_each(|part| self.put(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOLDEN: &[u8] = b"\x01\x01\x0c\x52\x54\x00\x12\x34\x56\x52\x54\x00\x12\x34\x57\
        \x02\x10\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff\
        \x03\x05C0FFE\x04\x0a\x0220-memory";

    fn golden() -> Report {
        let mut macs = ReportMacs::NONE;
        assert!(macs.push(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56])) && macs.push(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x57])));
        let uuid = std::array::from_fn(|n| n as u8 * 0x11);
        let (serial, test) = (ReportText::new(b"C0FFE"), ReportText::new(b"20-memory").unwrap());
        Report { macs, uuid: Some(uuid), serial, verdict: ReportVerdict::Failed(test) }
    }

    #[test]
    fn golden_report() {
        let mut buf = [0; LEN_MAX];
        let len = golden().write(&mut buf).unwrap();
        assert_eq!(&buf[..len], GOLDEN);
        assert_eq!(Report::parse(GOLDEN), Some(golden()));
        assert_eq!(Report::parse(b"\x01"), Some(Report::EMPTY));
        assert_eq!(golden().write(&mut buf[..len - 1]), None);
    }

    #[test]
    fn every_cut_is_refused_but_those_between_items() {
        let whole = [1, 15, 33, 40];
        for len in 0..GOLDEN.len() {
            assert_eq!(Report::parse(&GOLDEN[..len]).is_some(), whole.contains(&len), "{len}");
        }
    }

    #[test]
    fn contradictions_refuse_the_whole_report() {
        let mac = b"\x02\x00\x00\x00\x00\x01";
        let bad: [&[u8]; 16] = [
            b"",
            b"\x00",
            b"\x02",
            &[&b"\x01\x01\x06"[..], mac, b"\x01\x06\x02\x00\x00\x00\x00\x02"].concat(), // two lists
            &[&b"\x01\x01\x0c"[..], mac, mac].concat(),                                 // one MAC twice
            b"\x01\x01\x06\x01\x00\x00\x00\x00\x01",                                    // a group
            b"\x01\x01\x06\x00\x00\x00\x00\x00\x00",
            b"\x01\x01\x06\xff\xff\xff\xff\xff\xff",
            b"\x01\x01\x05\x02\x00\x00\x00\x00",
            b"\x01\x01\x00",
            b"\x01\x02\x01\x00",
            b"\x01\x03\x00",
            b"\x01\x03\x01\x07",
            b"\x01\x04\x00",
            b"\x01\x04\x01\x02",     // failed, and no name
            b"\x01\x04\x02\x01\x41", // passed, and a name
        ];
        for bytes in bad {
            assert_eq!(Report::parse(bytes), None, "{bytes:?}");
        }
        assert_eq!(Report::parse(b"\x01\x04\x01\x00\x04\x01\x00"), None, "two verdicts, though equal");
        assert_eq!(Report::parse(b"\x01\x04\x01\x03"), None);
        assert_eq!(
            Report::parse(b"\x01\x63\x03abc\x04\x01\x01\xff\x00").unwrap().verdict,
            ReportVerdict::Passed,
            "unknown items are skipped"
        );
        let long = [&b"\x01\x03\x21"[..], &[b'x'; 33]].concat();
        assert_eq!(Report::parse(&long), None);
        let seventeen: Vec<u8> = (0..17u8).flat_map(|n| [2, 0, 0, 0, 0, n]).collect();
        assert_eq!(Report::parse(&[&b"\x01\x01\x66"[..], &seventeen].concat()), None);
        assert!(Report::parse(&[&b"\x01\x01\x60"[..], &seventeen[..96]].concat()).is_some());
    }

    #[test]
    fn names_are_printable_and_short() {
        let text = |name: Option<ReportText>| name.map(|name| name.to_string());
        assert_eq!(text(ReportText::lossy("  20-mémoire\u{7}\n")), Some("20-m?moire?".into()));
        assert_eq!(text(ReportText::lossy(&"y".repeat(40))), Some("y".repeat(32)));
        assert_eq!(
            (ReportText::lossy(" \n"), ReportText::new(b""), ReportText::new(&[b'x'; 33]), ReportText::new(b"a\n")),
            (None, None, None, None)
        );
        assert_eq!(format!("{:?}", ReportText::new(b"a\"b").unwrap()), r#""a\"b""#);
    }

    #[test]
    fn the_longest_report_fits_one_option() {
        let mut report = golden();
        report.macs = ReportMacs::NONE;
        assert!((0..16).all(|n| report.macs.push(Mac([2, 0, 0, 0, 0, n]))));
        assert!(!report.macs.push(Mac([2, 0, 0, 0, 0, 16])));
        let name = ReportText::new(&[b'x'; 32]).unwrap();
        (report.serial, report.verdict) = (Some(name), ReportVerdict::Failed(name));
        let mut buf = [0; 255];
        assert_eq!(report.write(&mut buf), Some(LEN_MAX));
        assert_eq!(Report::parse(&buf[..LEN_MAX]), Some(report));
    }

    fn name() -> impl Strategy<Value = ReportText> {
        proptest::collection::vec(b' '..=b'~', 1..=32).prop_map(|bytes| ReportText::new(&bytes).unwrap())
    }

    fn report() -> impl Strategy<Value = Report> {
        let macs = proptest::collection::vec(any::<[u8; 6]>(), 0..20);
        let verdict = prop_oneof![Just(ReportVerdict::Untested), Just(ReportVerdict::Passed), name().prop_map(ReportVerdict::Failed)];
        (macs, any::<Option<[u8; 16]>>(), proptest::option::of(name()), verdict).prop_map(|(told, uuid, serial, verdict)| {
            let mut macs = ReportMacs::NONE;
            for mac in told {
                macs.push(Mac(mac));
            }
            Report { macs, uuid, serial, verdict }
        })
    }

    proptest! {
        #[test]
        fn reports_survive(report in report()) {
            let mut buf = [0xaa; LEN_MAX];
            let len = report.write(&mut buf).unwrap();
            prop_assert_eq!(Report::parse(&buf[..len]), Some(report));
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Report::parse(&bytes);
        }

        /// What is read is what would be written again: no two meanings of the same bytes.
        #[test]
        fn damaged_reports_are_refused_or_sound(report in report(), at in 0usize..LEN_MAX, value in any::<u8>()) {
            let mut buf = [0; LEN_MAX];
            let len = report.write(&mut buf).unwrap();
            buf[at % len] = value;
            if let Some(read) = Report::parse(&buf[..len]) {
                let mut again = [0; LEN_MAX];
                let len = read.write(&mut again).unwrap();
                prop_assert_eq!(Report::parse(&again[..len]), Some(read));
            }
        }
    }
}
