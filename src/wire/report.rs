//! The report of `muster-in`: what a machine shows of itself once it has booted Linux and was tested, in one DHCP option.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version: 1 |
//! | then | items: code, length, value |
//!
//! | code | value |
//! |---|---|
//! | 1 | MAC addresses of its NICs, 6 bytes each, 1 to 16 |
//! | 2 | UUID, 16 bytes, as firmware shows it |
//! | 3 | serial number, 1 to 32 bytes of printable ASCII |
//! | 4 | verdict: `P` passed, `F` and the name of the test that failed, 1 to 32 bytes of printable ASCII. Left out: not tested |
//!
//! Items of other codes are passed over. An item that comes twice, is cut off, or breaks its row spoils the report: it is no report then. At
//! most 255 bytes in all, so that one instance of the option holds it (RFC 2132, 2).

use crate::base::addr::Mac;

const VERSION: u8 = 1;
const MACS: u8 = 1;
const UUID: u8 = 2;
const SERIAL: u8 = 3;
const VERDICT: u8 = 4;

pub const MACS_MAX: usize = 16;

/// A short printable word.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Name {
    bytes: [u8; Name::MAX],
    len: u8,
}

impl Name {
    pub const MAX: usize = 32;

    /// None for an empty or too long one, and for bytes that are not printable ASCII.
    pub fn new(text: &[u8]) -> Option<Name> {
        let good = !text.is_empty() && text.len() <= Name::MAX && text.iter().all(|byte| (0x20..0x7f).contains(byte));
        good.then(|| {
            let mut name = Name { bytes: [0; Name::MAX], len: text.len() as u8 };
            name.bytes.iter_mut().zip(text).for_each(|(to, from)| *to = *from);
            name
        })
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.as_bytes()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Verdict {
    #[default]
    Untested,
    Passed,
    /// The name of the first test that failed.
    Failed(Name),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Report {
    macs: [Mac; MACS_MAX],
    count: u8,
    pub uuid: Option<[u8; 16]>,
    pub serial: Option<Name>,
    pub verdict: Verdict,
}

impl Report {
    /// None for no MAC, for more than 16, and for a MAC that names no machine or comes twice.
    pub fn new(macs: &[Mac]) -> Option<Report> {
        let mut report = Report { count: macs.len() as u8, ..Report::default() };
        let twice = macs.iter().enumerate().any(|(at, mac)| macs.iter().take(at).any(|other| other == mac));
        if macs.is_empty() || macs.len() > MACS_MAX || twice || !macs.iter().all(|mac| mac.is_individual()) {
            return None;
        }
        report.macs.iter_mut().zip(macs).for_each(|(to, from)| *to = *from);
        Some(report)
    }

    pub fn macs(&self) -> &[Mac] {
        self.macs.get(..usize::from(self.count)).unwrap_or(&[])
    }

    /// Reads an option's bytes.
    pub fn parse(bytes: &[u8]) -> Option<Report> {
        let (&version, mut rest) = bytes.split_first()?;
        let [mut macs, mut uuid, mut serial, mut verdict] = [None; 4];
        while let [code, len, tail @ ..] = rest {
            let value = tail.get(..usize::from(*len))?;
            rest = tail.get(usize::from(*len)..)?;
            let place = match *code {
                MACS => &mut macs,
                UUID => &mut uuid,
                SERIAL => &mut serial,
                VERDICT => &mut verdict,
                _ => continue,
            };
            if place.replace(value).is_some() {
                return None;
            }
        }
        if version != VERSION || !rest.is_empty() {
            return None;
        }
        let mut report = Report::read_macs(macs?)?;
        report.uuid = uuid.map(<[u8; 16]>::try_from).transpose().ok()?;
        report.serial = match serial {
            Some(text) => Some(Name::new(text)?),
            None => None,
        };
        report.verdict = match verdict {
            None => Verdict::Untested,
            Some(b"P") => Verdict::Passed,
            Some([b'F', test @ ..]) => Verdict::Failed(Name::new(test)?),
            Some(_) => return None,
        };
        Some(report)
    }

    fn read_macs(bytes: &[u8]) -> Option<Report> {
        let mut macs = [Mac::ZERO; MACS_MAX];
        let count = bytes.len() / 6;
        if bytes.len() % 6 != 0 {
            return None;
        }
        for (mac, bytes) in macs.get_mut(..count)?.iter_mut().zip(bytes.chunks_exact(6)) {
            *mac = Mac(bytes.try_into().ok()?);
        }
        Report::new(macs.get(..count)?)
    }

    /// Writes the option's bytes; gives their number. None when `to` is too short: 255 are enough.
    pub fn write(&self, to: &mut [u8]) -> Option<usize> {
        let mut len = 0;
        let mut put = |bytes: &[u8]| {
            to.get_mut(len..len + bytes.len())?.copy_from_slice(bytes);
            len += bytes.len();
            Some(())
        };
        put(&[VERSION, MACS, 6 * self.count])?;
        self.macs().iter().try_for_each(|mac| put(&mac.0))?;
        if let Some(uuid) = &self.uuid {
            put(&[UUID, 16])?;
            put(uuid)?;
        }
        if let Some(serial) = &self.serial {
            put(&[SERIAL, serial.len])?;
            put(serial.as_bytes())?;
        }
        match &self.verdict {
            Verdict::Untested => {}
            Verdict::Passed => put(&[VERDICT, 1, b'P'])?,
            Verdict::Failed(test) => {
                put(&[VERDICT, 1 + test.len, b'F'])?;
                put(test.as_bytes())?;
            }
        }
        Some(len)
    }
}

// All items at their longest.
const _: () = assert!(1 + 2 + 6 * MACS_MAX + 2 + 16 + 2 + Name::MAX + 2 + 1 + Name::MAX <= 255);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mac(n: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, n])
    }

    fn written(report: &Report) -> Vec<u8> {
        let mut buf = [0; 255];
        let len = report.write(&mut buf).unwrap();
        buf[..len].to_vec()
    }

    fn full() -> Report {
        let macs: Vec<Mac> = (1..=16).map(mac).collect();
        let name = Name::new(&[b'W'; 32]);
        Report { uuid: Some([7; 16]), serial: name, verdict: Verdict::Failed(name.unwrap()), ..Report::new(&macs).unwrap() }
    }

    #[test]
    fn the_layout_is_the_manual_s() {
        let mut report = Report::new(&[mac(1), mac(2)]).unwrap();
        report.verdict = Verdict::Passed;
        assert_eq!(written(&report), b"\x01\x01\x0c\x02\0\0\0\0\x01\x02\0\0\0\0\x02\x04\x01P");
        assert_eq!(Report::parse(&written(&full())), Some(full()));
        assert_eq!(full().write(&mut [0; 100]), None);
    }

    #[test]
    fn what_is_spoilt_is_no_report() {
        let good = written(&full());
        assert!((0..good.len()).all(|len| Report::parse(&good[..len]).is_none_or(|report| report != full())));
        let odd: [&[u8]; 9] = [
            b"",
            b"\x01",
            b"\x02\x01\x06\x02\0\0\0\0\x01",
            b"\x01\x01\x05\x02\0\0\0\0",
            b"\x01\x01\x00",
            b"\x01\x01\x06\x01\0\0\0\0\x01",
            b"\x01\x01\x0c\x02\0\0\0\0\x01\x02\0\0\0\0\x01",
            b"\x01\x01\x06\x02\0\0\0\0\x01\x04\x01X",
            b"\x01\x01\x06\x02\0\0\0\0\x01\x04\x01P\x04\x01P",
        ];
        assert!(odd.iter().all(|bytes| Report::parse(bytes).is_none()));
        let later = b"\x01\x09\x02hi\x01\x06\x02\0\0\0\0\x01";
        assert_eq!(Report::parse(later), Report::new(&[mac(1)]), "what a later version adds is passed over");
    }

    proptest! {
        #[test]
        fn bytes_come_back_or_are_none(bytes in prop::collection::vec(any::<u8>(), 0..255)) {
            if let Some(report) = Report::parse(&bytes) {
                prop_assert_eq!(Report::parse(&written(&report)), Some(report));
            }
        }
    }
}
